use super::*;
use crate::config::testing;
use crate::crypto::sha256;
use crate::crypto::sign::SigningKey;
use crate::http::head::{Owner, Version};
use crate::proxy::connection::ListenerInfo;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::Algorithm;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde_json::{Value as Json, json};
use std::net::IpAddr;

const NOW: Now = Now { unix_ms: 1_700_000_000_000 };
const TOKEN: &[u8] = b"a.b.c";

fn read(
    yaml: &str,
    methods: &[&str],
    authorities: &[(&str, CertificateDer<'static>)],
) -> (Possession, Vec<String>, Vec<String>) {
    let find = |id: &str| authorities.iter().find(|(known, _)| *known == id).map(|(_, der)| der.clone());
    testing::read("config", yaml, |config| parse(config, methods, &find, &Arc::default()))
}

fn good(yaml: &str) -> Possession {
    let (possession, problems, _) = read(yaml, &["bearer"], &[]);
    assert_eq!(problems, [""; 0], "{yaml}");
    possession
}

/// One request with a token.
struct Scene {
    scheme: Scheme,
    facts: Facts,
    head: Head,
    connection: Connection,
    certificates: Vec<(Box<str>, Vec<u8>)>,
    now: Now,
}

impl Scene {
    fn new(scheme: Scheme, cnf: Json) -> Self {
        let mut claims = json!({"exp": 1_800_000_000, "cnf": cnf});
        if cnf == json!("none") {
            claims.as_object_mut().expect("an object").remove("cnf");
        }
        let mut head = Head::default();
        head.start_request(b"GET", b"/orders?page=1", Version::Http11);
        head.push(Owner::Peer, b"Host", b"api.example");
        let local = IpAddr::from([127, 0, 0, 1]);
        let listener = ListenerInfo {
            index: 0,
            label: "127.0.0.1:8443".into(),
            address: local,
            port: 8443,
            tls: true,
            has_vips: false,
            proxy_protocol: crate::proxy_protocol::Versions::Off,
            rejects: None,
        };
        Self {
            scheme,
            facts: Facts::parse(claims.to_string().into_bytes(), "").expect("claims"),
            head,
            connection: Connection::new(
                ([192, 0, 2, 7], 1234).into(),
                (local, 8443).into(),
                false,
                Arc::new(listener),
                None,
            ),
            certificates: Vec::new(),
            now: NOW,
        }
    }

    fn over(mut self, certificate: &ClientCertificate) -> Self {
        self.connection.client_certificate = Some(Arc::new(certificate.clone()));
        self
    }

    fn field(mut self, name: &str, value: &str) -> Self {
        self.head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        self
    }

    fn behind(mut self, value: impl Into<Vec<u8>>) -> Self {
        self.connection.trusted = true;
        self.certificates.push(("X-Client-Cert".into(), value.into()));
        self
    }

    fn judge(&self, possession: &Possession) -> Result<Option<String>, Unproven> {
        possession.check(&Shown {
            scheme: self.scheme,
            token: TOKEN,
            facts: &self.facts,
            head: &self.head,
            https: true,
            path: b"/orders",
            connection: &self.connection,
            certificates: &self.certificates,
            now: self.now,
        })
    }

    fn reason(&self, possession: &Possession) -> Option<Reason> {
        self.judge(possession).err().map(|unproven| unproven.reason)
    }
}

fn proof(key: &SigningKey, with: Json) -> String {
    let mut jwk = key.public_jwk().clone();
    jwk.as_object_mut().expect("an object").remove("kid");
    let mut claims = json!({"jti": with.to_string(), "htm": "GET", "htu": "https://api.example/orders",
        "iat": NOW.unix_ms / 1000, "ath": URL_SAFE_NO_PAD.encode(sha256(TOKEN))});
    claims.as_object_mut().expect("an object").extend(with.as_object().expect("an object").clone());
    let header = json!({"typ": "dpop+jwt", "alg": key.algorithm(), "jwk": jwk});
    key.sign_parts(header.to_string().as_bytes(), claims.to_string().as_bytes()).expect("a proof")
}

fn thumbprint(certificate: &ClientCertificate) -> String {
    URL_SAFE_NO_PAD.encode(certificate.thumbprint)
}

/// A certificate valid around `NOW`, by this issuer or itself; and in PEM.
fn certified(issuer: Option<&Issuer<'_, KeyPair>>) -> (ClientCertificate, String) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["client".to_owned()]).expect("parameters");
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let made = made.expect("a certificate");
    (ClientCertificate::read(made.der().clone()).expect("a certificate"), made.pem())
}

fn authority(
    name: &str,
    by: Option<&Issuer<'_, KeyPair>>,
) -> (Issuer<'static, KeyPair>, CertificateDer<'static>, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    let made = match by {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    let made = made.expect("a certificate");
    let (der, pem) = (made.der().clone(), made.pem());
    (Issuer::new(params, key), der, pem)
}

#[test]
fn what_is_bound_is_never_a_bearer_token() {
    // S5
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let (own, _) = certified(None);
    let (jkt, x5t) = (json!({"jkt": key.kid()}), json!({"x5t#S256": thumbprint(&own)}));
    let both = json!({"jkt": key.kid(), "x5t#S256": thumbprint(&own)});
    let none = json!("none");
    use Reason::{CertificateMissing, ProofMissing, TokenBound, TokenUnbound};
    use Scheme::{Bearer, Dpop};
    for (mtls, dpop, cnf, scheme, expected) in [
        ("off", "off", &none, Bearer, None),
        ("off", "off", &none, Dpop, Some(TokenUnbound)),
        ("off", "off", &jkt, Bearer, Some(TokenBound)),
        ("off", "off", &jkt, Dpop, Some(TokenBound)),
        ("off", "off", &x5t, Bearer, Some(TokenBound)),
        ("off", "optional", &none, Bearer, None),
        ("off", "optional", &none, Dpop, Some(TokenUnbound)),
        ("off", "optional", &jkt, Bearer, Some(TokenBound)),
        ("off", "optional", &jkt, Dpop, Some(ProofMissing)),
        ("off", "optional", &x5t, Bearer, Some(TokenBound)),
        ("off", "optional", &both, Dpop, Some(TokenBound)),
        ("off", "strict", &none, Bearer, Some(TokenUnbound)),
        ("off", "strict", &jkt, Bearer, Some(TokenBound)),
        ("off", "strict", &jkt, Dpop, Some(ProofMissing)),
        ("optional", "off", &none, Bearer, None),
        ("optional", "off", &x5t, Bearer, Some(CertificateMissing)),
        ("optional", "off", &jkt, Bearer, Some(TokenBound)),
        ("strict", "off", &none, Bearer, Some(TokenUnbound)),
        ("strict", "off", &jkt, Bearer, Some(TokenUnbound)),
        ("strict", "off", &x5t, Bearer, Some(CertificateMissing)),
        ("optional", "optional", &both, Bearer, Some(CertificateMissing)),
    ] {
        let possession = good(&format!("{{proof_of_possession_mtls: '{mtls}', proof_of_possession_dpop: '{dpop}'}}"));
        let judged = Scene::new(scheme, cnf.clone()).reason(&possession);
        assert_eq!(judged, expected, "{mtls} {dpop} {cnf} {scheme:?}");
    }
    let all = good("{proof_of_possession_mtls: optional, proof_of_possession_dpop: optional}");
    for cnf in [
        json!({}),
        json!(null),
        json!("text"),
        json!([]),
        json!({"jwk": {}}),
        json!({"kid": "a"}),
        json!({"jkt": 1}),
        json!({"x5t#S256": null}),
        json!({"jkt": key.kid(), "jku": "https://a"}),
    ] {
        for scheme in [Bearer, Dpop] {
            let scene = Scene::new(scheme, cnf.clone()).over(&own).field("DPoP", &proof(&key, json!({})));
            assert_eq!(scene.reason(&all), Some(TokenBound), "{cnf}");
        }
    }
    // Both bindings hold, or none does.
    let scene = |cnf: &Json| Scene::new(Dpop, cnf.clone()).field("DPoP", &proof(&key, json!({})));
    assert_eq!(scene(&both).reason(&all), Some(CertificateMissing));
    assert_eq!(scene(&both).over(&certified(None).0).reason(&all), Some(Reason::CertificateMismatch));
    assert_eq!(scene(&both).over(&own).reason(&all), None);
}

#[test]
fn certificates_are_compared_with_the_token() {
    // S3, S5
    let (own, _) = certified(None);
    let (other, _) = certified(None);
    let strict = good("proof_of_possession_mtls: strict");
    let scene = || Scene::new(Scheme::Bearer, json!({"x5t#S256": thumbprint(&own)}));
    assert_eq!(scene().over(&own).reason(&strict), None);
    assert_eq!(scene().over(&other).reason(&strict), Some(Reason::CertificateMismatch));
    for wrong in [format!("{}=", thumbprint(&own)), String::new(), thumbprint(&own).to_lowercase()] {
        let scene = Scene::new(Scheme::Bearer, json!({"x5t#S256": wrong})).over(&own);
        assert_eq!(scene.reason(&strict), Some(Reason::CertificateMismatch), "{wrong}");
    }
    let late = Scene { now: Now { unix_ms: i64::MAX / 2 }, ..scene().over(&own) };
    assert_eq!(late.reason(&strict), Some(Reason::CertificateMismatch), "expired while the connection lived");
    // A field says nothing where none is configured.
    assert_eq!(scene().behind("x").reason(&strict), Some(Reason::CertificateMissing));
}

#[test]
fn one_proof_for_this_request_is_wanted() {
    // S5
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let possession = good("{proof_of_possession_dpop: strict, dpop_proof_lifetime: 60}");
    let scene = || Scene::new(Scheme::Dpop, json!({"jkt": key.kid()}));
    assert_eq!(scene().field("dpop", &proof(&key, json!({"n": 1}))).judge(&possession), Ok(None));
    let used = scene().field("DPoP", &proof(&key, json!({"n": 1}))).judge(&possession).expect_err("used");
    assert_eq!((used.reason, used.fault, used.nonce), (Reason::ProofReplayed, Some(Fault::Replayed), None));
    for (with, fault) in [
        (json!({"htm": "POST"}), Fault::Method),
        (json!({"htu": "https://api.example/other"}), Fault::Target),
        (json!({"htu": "https://api.example:8443/orders"}), Fault::Target),
        (json!({"iat": NOW.unix_ms / 1000 - 60}), Fault::Time),
        (json!({"ath": "x"}), Fault::Token),
    ] {
        let judged = scene().field("DPoP", &proof(&key, with.clone())).judge(&possession).expect_err("a fault");
        assert_eq!((judged.reason, judged.fault), (Reason::ProofInvalid, Some(fault)), "{with}");
    }
    let (one, two) = (proof(&key, json!({"n": 2})), proof(&key, json!({"n": 3})));
    assert_eq!(scene().field("DPoP", &one).field("DPoP", &two).reason(&possession), Some(Reason::ProofInvalid));
    let listed = format!("{one}, {two}");
    assert_eq!(scene().field("DPoP", &listed).reason(&possession), Some(Reason::ProofInvalid));
    // What a proxy in front says of the host counts where it is trusted.
    let moved = json!({"htu": "https://public.example/orders"});
    let behind = || scene().field("X-Forwarded-Host", "public.example").field("DPoP", &proof(&key, moved.clone()));
    assert_eq!(behind().reason(&possession), Some(Reason::ProofInvalid));
    let mut trusted = behind();
    trusted.connection.trusted = true;
    assert_eq!(trusted.reason(&possession), None);
    let mut head = scene().field("DPoP", &one).head;
    possession.clean(&mut head);
    assert!(!head.has(Known::Dpop) && head.has(Known::Host));
}

#[test]
fn nonces_are_given_until_they_are_used() {
    let key = SigningKey::generate(Algorithm::ES256).expect("a key");
    let possession = good("{proof_of_possession_dpop: optional, dpop_use_nonce: true}");
    let scene = |with: Json| Scene::new(Scheme::Dpop, json!({"jkt": key.kid()})).field("DPoP", &proof(&key, with));
    let told = scene(json!({})).judge(&possession).expect_err("no nonce");
    assert_eq!(told.reason, Reason::NonceMissing);
    let nonce = told.nonce.expect("a nonce");
    assert_eq!(scene(json!({"nonce": nonce, "n": 1})).judge(&possession), Ok(None));
    let mut later = scene(json!({"nonce": nonce, "n": 2}));
    later.now.unix_ms += 150_000;
    let fresh = later.judge(&possession).expect("still good").expect("a fresh one");
    assert_ne!(fresh, nonce);
    let none = Scene::new(Scheme::Dpop, json!({"jkt": key.kid()})).judge(&possession).expect_err("no proof");
    assert_eq!((none.reason, none.nonce), (Reason::ProofMissing, Some(nonce)));
}

fn escape(pem: &str) -> String {
    pem.bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

#[test]
fn a_trusted_proxy_may_show_its_clients_certificate() {
    // S3, S4, S5
    let ((root, root_der, _), (foreign, ..)) = (authority("root", None), authority("foreign", None));
    let (between, between_der, between_pem) = authority("between", Some(&root));
    let ((own, pem), (deep, deep_pem)) = (certified(Some(&root)), certified(Some(&between)));
    let config = |more: &str| {
        format!(
            "{{proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: \
             {{certificate_header_name: x-client-cert, revocation_check_mode: SKIP{more}}}}}"
        )
    };
    let authorities = [("root", root_der), ("between", between_der)];
    let with = |more: &str| {
        let (possession, problems, _) = read(&config(more), &["bearer"], &authorities);
        assert_eq!(problems, [""; 0], "{more}");
        possession
    };
    let roots = with(", ca_certificates: [root]");
    let bound = |certificate| Scene::new(Scheme::Bearer, json!({"x5t#S256": thumbprint(certificate)}));
    let scene = || bound(&own);
    // Twice: what is remembered answers as the first look did.
    for _ in 0..2 {
        assert_eq!(scene().behind(escape(&pem)).reason(&roots), None);
    }
    for (value, expected) in [
        (String::new(), Reason::CertificateMissing),
        (escape(&certified(Some(&root)).1), Reason::CertificateMismatch),
        (escape(&certified(Some(&foreign)).1), Reason::CertificateInvalid),
        (escape(&certified(None).1), Reason::CertificateInvalid),
        (escape(&pem).replace("%2D", "%2"), Reason::CertificateInvalid),
        (STANDARD.encode(&own.der), Reason::CertificateInvalid),
        ("a".repeat(30_000), Reason::CertificateInvalid),
        (escape(&pem).repeat(8), Reason::CertificateInvalid),
    ] {
        assert_eq!(scene().behind(value.clone()).reason(&roots), Some(expected), "{value}");
    }
    let twice = scene().behind(escape(&pem)).behind(escape(&pem));
    assert_eq!(twice.reason(&roots), Some(Reason::CertificateInvalid));
    // The certificate of the connection is the proxy's own.
    assert_eq!(
        Scene { certificates: Vec::new(), ..scene().behind("").over(&own) }.reason(&roots),
        Some(Reason::CertificateMissing)
    );
    // From others the field is not read, and their own certificate counts.
    let mut stranger = scene().behind(escape(&pem));
    stranger.connection.trusted = false;
    assert_eq!(stranger.reason(&roots), Some(Reason::CertificateMissing));
    assert_eq!(stranger.over(&own).reason(&roots), None);
    let mut anyone = scene().behind(escape(&pem));
    anyone.connection.trusted = false;
    assert_eq!(anyone.reason(&with(", ca_certificates: [root], secure_source: false")), None);
    // A chain leads to a root; part of one is enough where the configuration says so.
    for (more, value, expected) in [
        (", ca_certificates: [root]", escape(&deep_pem), Some(Reason::CertificateInvalid)),
        (", ca_certificates: [root]", escape(&format!("{deep_pem}{between_pem}")), None),
        (", ca_certificates: [root, between]", escape(&deep_pem), None),
        (", ca_certificates: [between], allow_partial_chain: true", escape(&deep_pem), None),
        (
            ", ca_certificates: [root], certificate_header_format: base64_encoded",
            STANDARD.encode(&deep.der),
            Some(Reason::CertificateInvalid),
        ),
        (
            ", ca_certificates: [root, between], certificate_header_format: base64_encoded",
            STANDARD.encode(&deep.der),
            None,
        ),
        (
            ", ca_certificates: [root, between], certificate_header_format: base64_encoded",
            STANDARD.encode(&deep_pem),
            None,
        ),
        (
            ", ca_certificates: [root, between], certificate_header_format: base64_encoded",
            deep_pem.clone(),
            Some(Reason::CertificateInvalid),
        ),
    ] {
        assert_eq!(bound(&deep).behind(value).reason(&with(more)), expected, "{more}");
    }
    let expired = Scene { now: Now { unix_ms: 253_402_300_800_000 }, ..scene().behind(escape(&pem)) };
    assert!(expired.reason(&roots).is_some());
}

#[test]
fn settings_are_kongs_and_each_fault_is_named() {
    let (_, root, _) = authority("root", None);
    let (_, between, _) = authority("between", Some(&authority("root", None).0));
    let authorities = [("root", root), ("between", between)];
    let record = |more: &str| {
        format!(
            "{{proof_of_possession_mtls: strict, proof_of_possession_mtls_from_header: {{certificate_header_name: X-Cert, ca_certificates: [root], {more}}}}}"
        )
    };
    let (possession, problems, warnings) = read("{}", &["bearer", "password"], &[]);
    assert_eq!((problems.len(), warnings.len()), (0, 0));
    assert_eq!((possession.mtls, possession.dpop), (Demand::Off, Demand::Off));
    assert_eq!(possession.rules, Rules { lifetime_ms: 300_000, nonce: false });
    assert!(!possession.takes_dpop() && possession.certificate_header().is_none());
    let dump = record(
        "certificate_header_format: url_encoded, secure_source: true, allow_partial_chain: false, http_timeout: 30000, \
         revocation_check_mode: IGNORE_CA_ERROR, cert_cache_ttl: 60000, ssl_verify: true, http_proxy_host: null",
    );
    let (possession, problems, warnings) = read(&dump, &["bearer"], &authorities);
    assert_eq!(problems, [""; 0]);
    assert!(warnings.len() == 1 && warnings[0].contains("does not look up revocation"), "{warnings:?}");
    assert_eq!(possession.certificate_header(), Some("X-Cert"));
    assert!(
        read(&record("secure_source: false"), &["bearer"], &authorities).2.iter().any(|text| text.contains("stolen"))
    );
    for (yaml, methods, expected) in [
        ("proof_of_possession_dpop: strict".to_owned(), &["bearer", "password"][..], "the method password"),
        ("proof_of_possession_mtls: optional".into(), &["client_credentials"], "the method client_credentials"),
        ("proof_of_possession_dpop: on".into(), &["bearer"], "one of: off, optional, strict"),
        ("dpop_proof_lifetime: 0".into(), &["bearer"], "a number between 1 and 86400"),
        (
            "proof_of_possession_mtls_from_header: {certificate_header_name: X, ca_certificates: [root]}".into(),
            &["bearer"],
            "without `proof_of_possession_mtls`",
        ),
        (record("revocation_check_mode: STRICT"), &["bearer"], "does not look up revocation"),
        (record("http_timeout: 1"), &["bearer"], "http_timeout: found 1"),
        (record("ssl_verify: false"), &["bearer"], "ssl_verify: found false"),
        (record("http_proxy_host: a"), &["bearer"], "http_proxy_host"),
        (record("http_proxy: a"), &["bearer"], "an unknown field"),
        (record("x: 1").replace("X-Cert", "Authorization"), &["bearer"], "a field that has no meaning of its own"),
        (record("x: 1").replace("X-Cert", "a b"), &["bearer"], "a field that has no meaning of its own"),
        (record("x: 1").replace("[root]", "[other]"), &["bearer"], "found \"other\", expected the id or name"),
        (record("x: 1").replace("[root]", "[]"), &["bearer"], "found no root"),
        (record("x: 1").replace("[root]", "[between]"), &["bearer"], "found no root"),
    ] {
        let (_, problems, _) = read(&yaml, methods, &authorities);
        assert!(problems.iter().any(|problem| problem.contains(expected)), "{yaml}: {problems:?}");
    }
    let (_, problems, _) = read(
        "{proof_of_possession_dpop: strict, proof_of_possession_auth_methods_validation: false}",
        &["password"],
        &[],
    );
    assert_eq!(problems, [""; 0]);
}
