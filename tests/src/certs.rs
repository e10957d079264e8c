//! Certificates of the tests: one authority, made once per process, and what it signs.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SerialNumber,
};
use ring::digest;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// A certificate and its key, in PEM.
pub struct Pair {
    /// The certificate.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

/// Who vouches for certificates.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    own: Pair,
}

impl Authority {
    /// One of its own, which nobody trusts unless told to.
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).expect("a certificate").pem();
        let own = Pair { certificate, key: key.serialize_pem() };
        Self { issuer: Issuer::new(params, key), own }
    }

    /// Its certificate and key.
    pub fn own(&self) -> &Pair {
        &self.own
    }

    /// A client's certificate with this serial number.
    pub fn client(&self, name: &str, serial: u64) -> Pair {
        self.client_for(name, serial, Duration::from_secs(86_400))
    }

    /// The same, for this long.
    pub fn client_for(&self, name: &str, serial: u64, time: Duration) -> Pair {
        let key = KeyPair::generate().expect("a key");
        let mut params = client_params(name);
        params.serial_number = Some(SerialNumber::from(serial));
        params.not_after = (SystemTime::now() + time).into();
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        Pair { certificate: certificate.pem(), key: key.serialize_pem() }
    }

    /// A list of revoked certificates by their serial numbers, current from and to these seconds from now, in PEM.
    pub fn revoked(&self, serials: &[u64], (from, to): (i64, i64)) -> String {
        let after = |seconds: i64| {
            let length = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { SystemTime::now() - length } else { SystemTime::now() + length }
        };
        let revoked = |serial: &u64| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: after(from).into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: after(from).into(),
            next_update: after(to).into(),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials.iter().map(revoked).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }
}

/// The one that the tests' clients and servers trust.
pub fn authority() -> &'static Authority {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    AUTHORITY.get_or_init(|| Authority::new("edge tests"))
}

/// The authority's certificate in PEM.
pub fn root() -> &'static str {
    &authority().own.certificate
}

/// A server certificate for these names.
pub fn pair(names: &[&str]) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let params = CertificateParams::new(names).expect("parameters");
    let certificate = params.signed_by(&key, &authority().issuer).expect("a certificate");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// A server certificate nobody vouches for.
pub fn self_signed(name: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let certificate = params.self_signed(&key).expect("a certificate");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

/// A client's certificate by the authority, with this common name.
pub fn client_pair(name: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let certificate = client_params(name).signed_by(&key, &authority().issuer).expect("a certificate");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

fn client_params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

/// The listeners' default pair.
pub fn server() -> &'static Pair {
    static SERVER: OnceLock<Pair> = OnceLock::new();
    SERVER.get_or_init(|| pair(&["localhost", "edge.test", "127.0.0.1"]))
}

/// A server that shows this pair.
pub fn server_config(pair: &Pair) -> Arc<rustls::ServerConfig> {
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).expect("a certificate")];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("versions").with_no_client_auth().with_single_cert(chain, key);
    Arc::new(config.expect("a pair"))
}

/// A pair whose certificate expired yesterday.
pub fn expired(name: &str) -> Pair {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    params.not_before = (yesterday - Duration::from_secs(86_400)).into();
    params.not_after = yesterday.into();
    let certificate = params.signed_by(&key, &authority().issuer).expect("a certificate");
    Pair { certificate: certificate.pem(), key: key.serialize_pem() }
}

impl Pair {
    /// The certificate in DER.
    pub fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")
    }

    /// SHA-256 of the certificate in base64url: `x5t#S256` (RFC 8705, 3.1).
    pub fn thumbprint(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, &self.der()))
    }
}

/// A client that trusts the authority and offers these protocols.
pub fn client(protocols: &[&str]) -> Arc<rustls::ClientConfig> {
    client_with(protocols, rustls::DEFAULT_VERSIONS)
}

/// As `client`, with these versions of TLS alone.
pub fn client_with(
    protocols: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    any_client(None, protocols, versions)
}

/// As `client_with`, showing this pair where it is asked for.
pub fn client_showing(
    pair: &Pair,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    any_client(Some(pair), &["http/1.1"], versions)
}

fn any_client(
    shown: Option<&Pair>,
    protocols: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(root().as_bytes()).expect("the root")).expect("the root");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .expect("versions")
        .with_root_certificates(roots);
    let mut config = match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(vec![pair.der()], key).expect("a pair")
        }
    };
    config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}
