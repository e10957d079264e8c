use std::time::{Duration, SystemTime};

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::super::client::AnyCertificate;
use super::super::tests::both_ends;
use super::*;
use crate::config::snapshot::Snapshot;
use crate::store::Store;
use crate::tls::{Certificates, server_config};

const DAY: i64 = 86_400;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }
}

/// A certificate by this authority or its own key, valid between these seconds from now.
fn pair(authority: Option<&Authority>, (from, to): (i64, i64), usage: &[ExtendedKeyUsagePurpose]) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    let after = |seconds: i64| {
        let length = Duration::from_secs(seconds.unsigned_abs());
        if seconds < 0 { SystemTime::now() - length } else { SystemTime::now() + length }
    };
    (params.not_before, params.not_after) = (after(from).into(), after(to).into());
    params.extended_key_usages = usage.to_vec();
    let own = match authority {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(CertifiedKey::from_der(vec![own.der().clone()], secret, &crypto::tls_provider()).unwrap())
}

fn server(clients: &ClientAuth) -> Arc<ServerConfig> {
    let own = pair(None, (-DAY, DAY), &[]);
    let certificates = Certificates::new([], vec![Some(own)]);
    let (store, _publisher) = Store::new(Snapshot { certificates, ..Snapshot::empty(1) });
    server_config(0, &store, Some(clients)).unwrap()
}

fn client(shown: Option<&Arc<CertifiedKey>>, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(crypto::tls_provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate(crypto::tls_provider())));
    Arc::new(match shown {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let resolver: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
            builder.with_client_cert_resolver(resolver)
        }
    })
}

/// What the server makes of a client: its thumbprint, nothing without a certificate, or no connection.
fn seen(
    server: &Arc<ServerConfig>,
    client: &Arc<ClientConfig>,
    clients: &ClientAuth,
    now: UnixTime,
) -> Result<(Option<HandshakeKind>, Option<[u8; 32]>), ()> {
    let (_, server) = both_ends(server, client, "a.example").map_err(|_| ())?;
    let certificate = clients.certificate(&server, now).map_err(|_| ())?;
    Ok((server.handshake_kind(), certificate.map(|certificate| certificate.thumbprint)))
}

fn later(seconds: u64) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(UnixTime::now().as_secs() + seconds))
}

#[test]
fn certificates_are_asked_for_and_verified() {
    // S3
    use ClientCertificates::{Request, Require};
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let fresh = (-DAY, DAY);
    let shown = [
        ("none", None),
        ("good", Some(pair(Some(&good), fresh, &[ExtendedKeyUsagePurpose::ClientAuth]))),
        ("any usage", Some(pair(Some(&good), fresh, &[]))),
        ("for servers", Some(pair(Some(&good), fresh, &[ExtendedKeyUsagePurpose::ServerAuth]))),
        ("expired", Some(pair(Some(&good), (-2 * DAY, -DAY), &[]))),
        ("not yet", Some(pair(Some(&good), (DAY, 2 * DAY), &[]))),
        ("another authority's", Some(pair(Some(&other), fresh, &[]))),
        ("self-signed", Some(pair(None, fresh, &[]))),
        ("self-signed, expired", Some(pair(None, (-2 * DAY, -DAY), &[]))),
    ];
    for (asks, ca, accepted) in [
        (Require, Some(&good), &["good", "any usage"][..]),
        (Request, Some(&good), &["none", "good", "any usage"]),
        (Require, None, &["good", "any usage", "for servers", "another authority's", "self-signed"]),
        (Request, None, &["none", "good", "any usage", "for servers", "another authority's", "self-signed"]),
    ] {
        let clients = ClientAuth::new(asks, ca.map(|ca| ca.pem.as_bytes())).unwrap().unwrap();
        let server = server(&clients);
        for version in [&TLS13, &TLS12] {
            for (name, pair) in &shown {
                let seen = seen(&server, &client(pair.as_ref(), version), &clients, UnixTime::now());
                let expected = accepted.contains(name).then(|| pair.as_ref().map(|pair| crypto::sha256(&pair.cert[0])));
                assert_eq!(seen.ok().map(|(_, thumbprint)| thumbprint), expected, "{asks:?} {name} {version:?}");
            }
        }
    }
    assert!(ClientAuth::new(ClientCertificates::Off, None).unwrap().is_none());
    for broken in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(ClientAuth::new(Require, Some(broken.as_bytes())).is_err(), "{broken:?}");
    }
}

#[test]
fn a_resumed_session_keeps_its_certificate_while_that_is_good() {
    // S3
    let good = Authority::new("good");
    for ca in [Some(good.pem.as_bytes()), None] {
        let clients = ClientAuth::new(ClientCertificates::Require, ca).unwrap().unwrap();
        for version in [&TLS13, &TLS12] {
            let pair = pair(Some(&good), (-DAY, DAY), &[]);
            let thumbprint = Some(crypto::sha256(&pair.cert[0]));
            let (server, client) = (server(&clients), client(Some(&pair), version));
            let first = seen(&server, &client, &clients, UnixTime::now());
            assert_eq!(first, Ok((Some(HandshakeKind::Full), thumbprint)));
            let second = seen(&server, &client, &clients, UnixTime::now());
            assert_eq!(second, Ok((Some(HandshakeKind::Resumed), thumbprint)), "{version:?}");
            assert_eq!(seen(&server, &client, &clients, later(2 * DAY as u64)), Err(()), "expired since");
        }
    }
}

#[test]
fn a_certificate_is_valid_to_the_end_of_its_last_second() {
    let pair = pair(None, (-DAY, DAY), &[]);
    let read = ClientCertificate::read(pair.cert[0].clone()).unwrap();
    let (from, to) = read.valid_ms;
    for (at, expected) in [(from - 1, false), (from, true), (to, true), (to + 1, false)] {
        assert_eq!(read.is_valid_at(at), expected);
    }
    assert_eq!(read.thumbprint, crypto::sha256(&read.der));
    let trailing = [&read.der[..], &[0]].concat();
    for broken in [&b""[..], b"x", &trailing] {
        assert!(ClientCertificate::read(CertificateDer::from(broken.to_vec())).is_none());
    }
}
