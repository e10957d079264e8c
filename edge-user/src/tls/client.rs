//! TLS towards upstreams: what is verified, how deep a chain may be, which certificate the edge itself shows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::{Error, VERSIONS};
use crate::crypto;

/// Whether an upstream must prove who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Verify {
    /// Chain, host name and validity, by the public roots and the system's (`SSL_CERT_FILE` names another bundle).
    #[default]
    Full,
    /// Not at all: `tls_verify: false`.
    Off,
}

/// The protocols offered by ALPN (RFC 7301).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Alpn {
    /// HTTP/1.1 alone.
    #[default]
    Http1,
    /// HTTP/2, else HTTP/1.1: the upstream chooses.
    Either,
    /// HTTP/2 alone: gRPC.
    Http2,
    /// Nothing: the edge does not know what a connection carries.
    Nothing,
}

/// The TLS rules of one service towards its upstream.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// `tls_verify`
    pub verify: Verify,
    /// `tls_verify_depth`: certificates allowed between the upstream's own and the root. `None`: as many as there are.
    pub verify_depth: Option<u8>,
    /// `ca_certificates`: the roots, in place of the public ones.
    pub roots: Option<Arc<[CertificateDer<'static>]>>,
    /// `client_certificate`: what the edge shows where it is asked.
    pub identity: Option<Arc<CertifiedKey>>,
    /// What is offered.
    pub alpn: Alpn,
}

/// Certificates count, not where they stand in memory: a reload reads them anew. A certificate has one key.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.identity.as_ref(), other.identity.as_ref());
        (self.verify, self.verify_depth, self.alpn) == (other.verify, other.verify_depth, other.alpn)
            && self.roots == other.roots
            && mine.map(|pair| &pair.cert) == theirs.map(|pair| &pair.cert)
    }
}

impl Hash for ClientTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.verify, self.verify_depth, self.alpn, &self.roots).hash(state);
        self.identity.as_ref().map(|pair| &pair.cert).hash(state);
    }
}

/// Names no key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("verify", &self.verify)
            .field("verify_depth", &self.verify_depth)
            .field("roots", &self.roots.as_ref().map(|roots| roots.len()))
            .field("identity", &self.identity.is_some())
            .field("alpn", &self.alpn)
            .finish()
    }
}

/// The configuration for these rules. Equal rules share one as long as somebody holds it, so that sessions are resumed
/// across services and reloads.
pub fn client_config(rules: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
    static MADE: Mutex<Vec<(ClientTls, Weak<ClientConfig>)>> = Mutex::new(Vec::new());
    // Only loading configurations comes here: the lock is not contended, and the list no longer than they are.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.retain(|(_, config)| config.strong_count() > 0);
    let kept = made.iter().find(|(known, _)| known == rules).and_then(|(_, config)| config.upgrade());
    if let Some(config) = kept {
        return Ok(config);
    }
    let config = Arc::new(build(rules)?);
    made.push((rules.clone(), Arc::downgrade(&config)));
    Ok(config)
}

fn build(rules: &ClientTls) -> Result<ClientConfig, Error> {
    let provider = crypto::tls_provider();
    let verifier: Arc<dyn ServerCertVerifier> = match rules.verify {
        Verify::Off => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Verify::Full => {
            let roots = Arc::new(roots(rules.roots.as_deref())?);
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|_| Error::Roots)?;
            match rules.verify_depth {
                None => chain,
                Some(depth) => Arc::new(Shallow { chain, roots, provider: Arc::clone(&provider), depth }),
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(Error::Config)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &rules.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = match rules.alpn {
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
        Alpn::Nothing => Vec::new(),
    };
    Ok(config)
}

/// The roots given, or the public ones and the system's. A system without a bundle has the public ones; its broken
/// entries are left out.
fn roots(given: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, Error> {
    if let Some(given) = given {
        let mut roots = RootCertStore::empty();
        for root in given {
            roots.add(root.clone()).map_err(Error::Unusable)?;
        }
        return Ok(roots);
    }
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(roots)
}

/// Verifies in full, and then that a valid path from the upstream's certificate to a root has at most `depth`
/// certificates in between: as OpenSSL's depth counts, neither the first nor the root. What the upstream sends beyond
/// the path that is built does not count.
#[derive(Debug)]
struct Shallow {
    chain: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    depth: u8,
}

impl Shallow {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let fits = within(self.depth);
        // A path that is refused is not the end: another one may be shorter.
        EndEntityCert::try_from(end_entity)?
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                Some(&fits),
            )
            .map(drop)
    }
}

/// Whether a path has at most so many certificates between the first and the root.
pub(super) fn within(depth: u8) -> impl Fn(&webpki::VerifiedPath<'_>) -> Result<(), webpki::Error> {
    move |path| match path.intermediate_certificates().count() {
        count if count <= usize::from(depth) => Ok(()),
        _ => Err(webpki::Error::MaximumPathDepthExceeded),
    }
}

impl ServerCertVerifier for Shallow {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity, intermediates, now)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Takes any certificate; the peer must still own its key.
#[derive(Debug)]
pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
    use rustls::server::WebPkiClientVerifier;
    use rustls::{RootCertStore, ServerConfig};

    use super::super::tests::handshake;
    use super::*;

    /// A chain from a root over so many authorities to `a.example`; the root last, and the key of the first.
    fn chain(between: usize) -> (Vec<CertificateDer<'static>>, Arc<CertifiedKey>) {
        let authority = |name: &str| {
            let mut params = CertificateParams::new([name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.distinguished_name.push(rcgen::DnType::CommonName, name);
            params
        };
        let (params, key) = (authority("root"), KeyPair::generate().unwrap());
        let mut certificates = vec![params.self_signed(&key).unwrap().der().clone()];
        let mut issuer = Issuer::new(params, key);
        for number in 0..between {
            let (params, key) = (authority(&format!("between {number}")), KeyPair::generate().unwrap());
            certificates.push(params.signed_by(&key, &issuer).unwrap().der().clone());
            issuer = Issuer::new(params, key);
        }
        let key = KeyPair::generate().unwrap();
        let own = CertificateParams::new(["a.example".to_owned()]).unwrap().signed_by(&key, &issuer).unwrap();
        certificates.push(own.der().clone());
        certificates.reverse();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let shown = certificates[..=between].to_vec();
        let pair = CertifiedKey::from_der(shown, key, &crypto::tls_provider()).unwrap();
        (certificates, Arc::new(pair))
    }

    fn server(pair: &Arc<CertifiedKey>, clients: Option<&CertificateDer<'static>>) -> Arc<ServerConfig> {
        let builder =
            ServerConfig::builder_with_provider(crypto::tls_provider()).with_protocol_versions(VERSIONS).unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(root) => {
                let mut roots = RootCertStore::empty();
                roots.add(root.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::tls_provider());
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        Arc::new(builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(Arc::clone(pair)))))
    }

    // S2
    #[test]
    fn chains_lead_to_the_given_roots_and_are_no_deeper_than_allowed() {
        for (between, depth, good) in [
            (0, None, true),
            (0, Some(0), true),
            (1, Some(0), false),
            (1, Some(1), true),
            (2, Some(1), false),
            (2, None, true),
        ] {
            let (certificates, pair) = chain(between);
            let roots: Arc<[CertificateDer<'static>]> = [certificates[between + 1].clone()].into();
            let rules = ClientTls { verify_depth: depth, roots: Some(roots), ..ClientTls::default() };
            let config = client_config(&rules).unwrap();
            assert_eq!(handshake(&server(&pair, None), &config, "a.example").is_ok(), good, "{between} {depth:?}");
            assert!(handshake(&server(&pair, None), &config, "b.example").is_err(), "another name");
        }
        let (_, pair) = chain(0);
        let other: Arc<[CertificateDer<'static>]> = [chain(0).0[1].clone()].into();
        let rules = ClientTls { roots: Some(other), ..ClientTls::default() };
        assert!(handshake(&server(&pair, None), &client_config(&rules).unwrap(), "a.example").is_err());
    }

    #[test]
    fn the_client_certificate_is_shown_where_it_is_asked_for() {
        let (certificates, pair) = chain(0);
        let server = server(&pair, Some(&certificates[1]));
        let roots: Arc<[CertificateDer<'static>]> = [certificates[1].clone()].into();
        let without = ClientTls { roots: Some(roots), ..ClientTls::default() };
        assert!(handshake(&server, &client_config(&without).unwrap(), "a.example").is_err());
        let with = ClientTls { identity: Some(pair), ..without };
        assert!(handshake(&server, &client_config(&with).unwrap(), "a.example").is_ok());
        assert!(format!("{with:?}").contains("identity: true"));
    }

    #[test]
    fn equal_rules_share_a_configuration_while_it_is_in_use() {
        let (certificates, _) = chain(0);
        let rules = || {
            let roots: Arc<[CertificateDer<'static>]> = [certificates[1].clone()].into();
            ClientTls { roots: Some(roots), alpn: Alpn::Http2, ..ClientTls::default() }
        };
        let first = client_config(&rules()).unwrap();
        assert!(Arc::ptr_eq(&first, &client_config(&rules()).unwrap()));
        assert_eq!(first.alpn_protocols, [b"h2"]);
        let other = client_config(&ClientTls { alpn: Alpn::Either, ..rules() }).unwrap();
        assert!(!Arc::ptr_eq(&first, &other));
        assert_eq!(other.alpn_protocols, [&b"h2"[..], b"http/1.1"]);
    }
}
