use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CrlDistributionPoint,
    CrlIssuingDistributionPoint, CrlScope, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    RevokedCertParams, SerialNumber,
};
use rustls::client::ResolvesClientCert;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};

use super::super::client::AnyCertificate;
use super::super::testing::policy_with;
use super::super::tests::both_ends;
use super::*;
use crate::tls::{Certificates, TicketKeys};

const DAY: i64 = 86_400;

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// One that this one vouches for.
    fn below(&self, name: &str) -> Self {
        let (params, key) = (Self::params(name), KeyPair::generate().unwrap());
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn params(name: &str) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        params
    }
}

fn after(seconds: i64) -> SystemTime {
    let length = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { SystemTime::now() - length } else { SystemTime::now() + length }
}

/// A certificate by this authority or its own key, valid between these seconds from now.
fn pair(authority: Option<&Authority>, (from, to): (i64, i64), usage: &[ExtendedKeyUsagePurpose]) -> Arc<CertifiedKey> {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(["a.example".to_owned()]).unwrap();
    (params.not_before, params.not_after) = (after(from).into(), after(to).into());
    params.extended_key_usages = usage.to_vec();
    let own = match authority {
        Some(authority) => params.signed_by(&key, &authority.issuer).unwrap(),
        None => params.self_signed(&key).unwrap(),
    };
    let secret = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    Arc::new(CertifiedKey::from_der(vec![own.der().clone()], secret, &crypto::tls_provider()).unwrap())
}

fn rules(asks: ClientCertificates) -> ClientRules {
    ClientRules { asks, ..ClientRules::default() }
}

fn asking(rules: &ClientRules, ca: Option<&Authority>, lists: Lists) -> Arc<ClientAuth> {
    Arc::new(ClientAuth::new(rules, ca.map(|ca| ca.pem.as_bytes()), lists).unwrap())
}

fn server(clients: &Arc<ClientAuth>) -> Arc<ServerConfig> {
    server_with(clients, &TicketKeys::new(Duration::from_secs(60)))
}

fn server_with(clients: &Arc<ClientAuth>, tickets: &Arc<TicketKeys>) -> Arc<ServerConfig> {
    let own = pair(None, (-DAY, DAY), &[]);
    let certificates = Certificates::new([], vec![Some(own)]);
    policy_with(certificates, tickets, &ClientRules::default(), Some(clients.clone())).config().clone()
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
    clients: &Arc<ClientAuth>,
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
        let clients = asking(&rules(asks), ca, Lists::default());
        let server = server(&clients);
        for version in [&TLS13, &TLS12] {
            for (name, pair) in &shown {
                let seen = seen(&server, &client(pair.as_ref(), version), &clients, UnixTime::now());
                let expected = accepted.contains(name).then(|| pair.as_ref().map(|pair| crypto::sha256(&pair.cert[0])));
                assert_eq!(seen.ok().map(|(_, thumbprint)| thumbprint), expected, "{asks:?} {name} {version:?}");
            }
        }
    }
    assert!(ClientAuth::load(&rules(ClientCertificates::Off)).unwrap().is_none());
    for broken in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let read = ClientAuth::new(&rules(Require), Some(broken.as_bytes()), Lists::default());
        assert!(read.is_err(), "{broken:?}");
    }
}

#[test]
fn a_resumed_session_keeps_its_certificate_while_that_is_good() {
    // S3
    let good = Authority::new("good");
    for ca in [Some(&good), None] {
        let clients = asking(&rules(ClientCertificates::Require), ca, Lists::default());
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

/// A list of this authority's, current between these seconds from now, with these certificates on it.
fn list(authority: &Authority, times: (i64, i64), revoked: &[&Arc<CertifiedKey>]) -> Vec<u8> {
    list_of(authority, times, revoked, None)
}

/// A list that is about all certificates of an authority, or about these.
fn list_of(
    authority: &Authority,
    (from, to): (i64, i64),
    revoked: &[&Arc<CertifiedKey>],
    scope: Option<CrlScope>,
) -> Vec<u8> {
    let serial = |pair: &&Arc<CertifiedKey>| {
        let (_, parsed) = parse_x509_certificate(&pair.cert[0]).unwrap();
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(parsed.raw_serial()),
            revocation_time: after(from).into(),
            reason_code: None,
            invalidity_date: None,
        }
    };
    let params = CertificateRevocationListParams {
        this_update: after(from).into(),
        next_update: after(to).into(),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: scope.map(|scope| CrlIssuingDistributionPoint {
            distribution_point: CrlDistributionPoint { uris: vec!["http://lists.test/".to_owned()] },
            scope: Some(scope),
        }),
        revoked_certs: revoked.iter().map(serial).collect(),
        key_identifier_method: KeyIdMethod::Sha256,
    };
    params.signed_by(&authority.issuer).unwrap().der().to_vec()
}

fn lists(contents: &[Vec<u8>]) -> Lists {
    let dir = tempfile::tempdir().unwrap();
    let paths: Vec<_> = (0..contents.len()).map(|index| dir.path().join(format!("{index}.crl"))).collect();
    for (path, content) in paths.iter().zip(contents) {
        std::fs::write(path, content).unwrap();
    }
    Lists::load(&paths).unwrap()
}

#[test]
fn revoked_certificates_are_refused() {
    // S3
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let (bad, fine) = (pair(Some(&good), (-DAY, DAY), &[]), pair(Some(&good), (-DAY, DAY), &[]));
    let (now, old) = ((-60, DAY), (-2 * DAY, -DAY));
    let pem = |der: &[u8]| {
        let text = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, der);
        format!("-----BEGIN X509 CRL-----\n{text}\n-----END X509 CRL-----\n").into_bytes()
    };
    let of_good = list(&good, now, &[&bad]);
    let both = [pem(&list(&other, now, &[])), pem(&of_good)].concat();
    let forged = list(&Authority::new("good"), now, &[]);
    for (name, contents, expected) in [
        ("none", vec![], [true, true]),
        ("DER", vec![of_good.clone()], [false, true]),
        ("PEM", vec![pem(&of_good)], [false, true]),
        ("two in one file", vec![both], [false, true]),
        ("two files", vec![list(&other, now, &[&fine]), of_good.clone()], [false, true]),
        ("past its time", vec![list(&good, old, &[])], [false, false]),
        ("another authority's", vec![list(&other, now, &[])], [false, false]),
        ("of the same name, by another key", vec![forged], [false, false]),
    ] {
        let clients = asking(&rules(ClientCertificates::Require), Some(&good), lists(&contents));
        assert_eq!(clients.freshness().len(), contents.len() + usize::from(name == "two in one file"));
        let server = server(&clients);
        for version in [&TLS13, &TLS12] {
            let taken = [&bad, &fine]
                .map(|pair| seen(&server, &client(Some(pair), version), &clients, UnixTime::now()).is_ok());
            assert_eq!(taken, expected, "{name} {version:?}");
        }
    }
    let clients = asking(&rules(ClientCertificates::Require), Some(&good), lists(&[list(&other, now, &[])]));
    assert!(clients.uncovered()[0].contains("CN=good"), "{:?}", clients.uncovered());
    let clients = asking(&rules(ClientCertificates::Require), Some(&good), lists(std::slice::from_ref(&of_good)));
    assert!(clients.uncovered().is_empty());
}

#[test]
fn lists_that_would_not_count_are_refused() {
    // S3
    let (one, other) = (Authority::new("one"), Authority::new("other"));
    let now = (-60, DAY);
    let whole = list(&one, now, &[]);
    let [of_users, of_authorities] =
        [CrlScope::UserCertsOnly, CrlScope::CaCertsOnly].map(|scope| list_of(&one, now, &[], Some(scope)));
    let of_other = list_of(&other, now, &[], Some(CrlScope::UserCertsOnly));
    let replaced = |from: &[u8], to: &[u8]| {
        let at = of_other.windows(from.len()).position(|window| window == from).expect("what is replaced");
        [&of_other[..at], to, &of_other[at + from.len()..]].concat()
    };
    // Its one extension beside key identifier and number becomes deltaCRLIndicator; onlyContainsUserCerts, indirectCRL
    // (RFC 5280, 5.2.4 and 5.2.5).
    let (delta, indirect) = (replaced(b"\x55\x1d\x1c", b"\x55\x1d\x1b"), replaced(b"\x81\x01\xff", b"\x84\x01\xff"));
    let long = list(&other, now, &vec![&pair(Some(&other), (-DAY, DAY), &[]); 50_000]);
    for (name, first, second, expected) in [
        ("of two issuers", &whole, &of_other, None),
        ("of one issuer, each of its own part", &of_users, &of_authorities, None),
        ("again", &whole, &whole, Some("a second revocation list of CN=one")),
        ("whole after part", &of_users, &whole, Some("a second revocation list of CN=one")),
        ("part after whole", &whole, &of_users, Some("a second revocation list of CN=one")),
        ("of changes alone", &whole, &delta, Some("unusable revocation list")),
        ("of several issuers", &whole, &indirect, Some("unusable revocation list")),
        ("too long", &whole, &long, Some("1048576 bytes")),
        ("empty", &whole, &vec![], Some("no revocation list")),
        ("no list", &whole, &b"no list".to_vec(), Some("no revocation list")),
        ("cut", &whole, &of_other[1..].to_vec(), Some("no revocation list")),
        (
            "PEM of something else",
            &whole,
            &b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n".to_vec(),
            Some("no revocation list"),
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("b")];
        std::fs::write(&paths[0], first).unwrap();
        std::fs::write(&paths[1], second).unwrap();
        match (Lists::load(&paths), expected) {
            (Ok(lists), None) => assert_eq!(lists.issuers.len(), 2, "{name}"),
            (Err((1, error)), Some(expected)) => assert!(error.to_string().contains(expected), "{name}: {error}"),
            (found, _) => panic!("{name}: {found:?}"),
        }
    }
}

#[test]
fn chains_of_clients_are_no_deeper_than_allowed() {
    // S3
    let root = Authority::new("root");
    let between = root.below("between");
    let leaf = pair(Some(&between), (-DAY, DAY), &[]);
    let der = CertificateDer::from_pem_slice(between.pem.as_bytes()).unwrap();
    let with_chain = CertifiedKey { cert: vec![leaf.cert[0].clone(), der], ..(*leaf).clone() };
    let deep = Arc::new(with_chain);
    let flat = pair(Some(&root), (-DAY, DAY), &[]);
    for (depth, expected) in [(None, [true, true]), (Some(1), [true, true]), (Some(0), [true, false])] {
        let rules = ClientRules { depth, ..rules(ClientCertificates::Require) };
        let clients = asking(&rules, Some(&root), Lists::default());
        let server = server(&clients);
        let taken =
            [&flat, &deep].map(|pair| seen(&server, &client(Some(pair), &TLS13), &clients, UnixTime::now()).is_ok());
        assert_eq!(taken, expected, "{depth:?}");
    }
    // Every certificate below the root is looked up, not the client's alone.
    let on_leafs = list(&between, (-60, DAY), &[]);
    let spared = list(&root, (-60, DAY), &[]);
    let hit = list(&root, (-60, DAY), &[&Arc::new(CertifiedKey { cert: deep.cert[1..].to_vec(), ..(*leaf).clone() })]);
    for (of_root, expected) in [(&spared, true), (&hit, false)] {
        let of_both = lists(&[on_leafs.clone(), of_root.clone()]);
        let clients = asking(&rules(ClientCertificates::Require), Some(&root), of_both);
        let taken = seen(&server(&clients), &client(Some(&deep), &TLS13), &clients, UnixTime::now()).is_ok();
        assert_eq!(taken, expected);
    }
}

#[test]
fn a_session_is_not_resumed_past_other_rules_or_a_newer_list() {
    // S3, S8
    let (good, other) = (Authority::new("good"), Authority::new("other"));
    let tickets = TicketKeys::new(Duration::from_secs(60));
    let require = rules(ClientCertificates::Require);
    let deep = ClientRules { depth: Some(3), ..require.clone() };
    let shown = pair(Some(&good), (-DAY, DAY), &[]);
    let of_day = |to| lists(&[list(&good, (-60, to), &[])]);
    let first = || asking(&require, Some(&good), of_day(DAY));
    for version in [&TLS13, &TLS12] {
        for (name, next, expected) in [
            ("the same, read again", asking(&require, Some(&good), Lists::default()), HandshakeKind::Resumed),
            ("a list", first(), HandshakeKind::Full),
            ("another depth", asking(&deep, Some(&good), Lists::default()), HandshakeKind::Full),
            (
                "a certificate that nobody must have",
                asking(&rules(ClientCertificates::Request), Some(&good), Lists::default()),
                HandshakeKind::Full,
            ),
            ("no authority", asking(&require, None, Lists::default()), HandshakeKind::Full),
        ] {
            let client = client(Some(&shown), version);
            let before = asking(&require, Some(&good), Lists::default());
            let full = seen(&server_with(&before, &tickets), &client, &before, UnixTime::now());
            assert_eq!(full.map(|(kind, _)| kind), Ok(Some(HandshakeKind::Full)));
            let then = seen(&server_with(&next, &tickets), &client, &next, UnixTime::now());
            assert_eq!(then.map(|(kind, _)| kind), Ok(Some(expected)), "{name} {version:?}");
        }
        // Under another authority the session's certificate is none.
        let (client, before) = (client(Some(&shown), version), asking(&require, Some(&good), Lists::default()));
        assert!(seen(&server_with(&before, &tickets), &client, &before, UnixTime::now()).is_ok());
        let next = asking(&require, Some(&other), Lists::default());
        assert_eq!(seen(&server_with(&next, &tickets), &client, &next, UnixTime::now()), Err(()));
    }
}
