use std::time::Duration;

use rustls::client::Resumption;
use rustls::{ClientConfig, HandshakeKind, ProtocolVersion};

use super::super::client::AnyCertificate;
use super::super::testing::{policy_with, server_config};
use super::super::tests::{handshake, pair_for};
use super::super::{ClientTls, Pairs, Verify, client_config};
use super::*;
use crate::settings::ClientCertificates;

#[test]
fn a_snapshot_shows_its_certificates() {
    // S6
    let (named, default) = (pair_for("a.example"), pair_for("d"));
    let certificates = |named: &Arc<CertifiedKey>| {
        let names = [("a.example".into(), Pairs::new(Arc::clone(named), None))];
        server_config(Certificates::new(names, vec![Some(default.clone())]))
    };
    let client = client_config(&ClientTls { verify: Verify::Off, ..ClientTls::default() }).unwrap();
    let shown = |server: &Arc<ServerConfig>, name: &str| {
        // A client that keeps no session: a resumed one shows no certificate.
        let mut client = (*client).clone();
        client.resumption = Resumption::disabled();
        let client = Arc::new(client);
        handshake(server, &client, name).unwrap().peer_certificates().unwrap()[0].clone().into_owned()
    };
    let server = certificates(&named);
    assert_eq!(shown(&server, "a.example"), named.cert[0]);
    assert_eq!(shown(&server, "b.example"), default.cert[0]);
    let renewed = pair_for("a.example");
    assert_eq!(shown(&certificates(&renewed), "a.example"), renewed.cert[0]);
    assert!(handshake(&server_config(Certificates::default()), &client, "c.example").is_err());
}

fn client(version: &'static rustls::SupportedProtocolVersion) -> Arc<ClientConfig> {
    let any = Arc::new(AnyCertificate(crypto::tls_provider()));
    let mut client = ClientConfig::builder_with_provider(crypto::tls_provider())
        .with_protocol_versions(&[version])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(any)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(client)
}

#[test]
fn sessions_resume_and_versions_are_the_modern_ones() {
    // S1, S7
    let default = Certificates::new([], vec![Some(pair_for("a.example"))]);
    let tickets = TicketKeys::new(Duration::from_secs(60));
    let rules = ClientRules::default();
    let server = |tickets: &Arc<TicketKeys>| policy_with(default.clone(), tickets, &rules, None).config().clone();
    let first = server(&tickets);
    assert_eq!(first.max_early_data_size, 0);
    for (version, kind) in
        [(&rustls::version::TLS13, ProtocolVersion::TLSv1_3), (&rustls::version::TLS12, ProtocolVersion::TLSv1_2)]
    {
        let client = client(version);
        // The next snapshot's opens what the first one's sealed; another process's does not.
        for (server, name, expected) in [
            (&first, "a.example", HandshakeKind::Full),
            (&first, "a.example", HandshakeKind::Resumed),
            (&server(&tickets), "a.example", HandshakeKind::Resumed),
            (&server(&TicketKeys::new(Duration::from_secs(60))), "a.example", HandshakeKind::Full),
        ] {
            let connection = handshake(server, &client, name).unwrap();
            assert_eq!(connection.protocol_version(), Some(kind));
            assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
            assert_eq!(connection.handshake_kind(), Some(expected), "{kind:?}");
        }
    }
}

#[test]
fn the_nearest_name_has_the_policy() {
    // S8
    let (certificates, tickets) = (Arc::default(), TicketKeys::new(Duration::from_secs(60)));
    let wanted = Wanted { listener: 0, mode: Mode::Http, certificates: &certificates, tickets: &tickets };
    let rules: Vec<_> = (0..4).map(|depth| ClientRules { depth: Some(depth), ..ClientRules::default() }).collect();
    let names = [("a.test", 1), ("*.test", 2), ("*.b.test", 3), ("open.test", 0)]
        .map(|(name, rules)| (HostName::parse(name).unwrap(), rules));
    let hosts = names.iter().map(|(name, index)| (name, (&rules[*index], None)));
    let tls = ListenerTls::new(&wanted, (&rules[0], None), hosts).unwrap();
    let long = format!("{}.test", "a.".repeat(200));
    for (host, expected) in [
        (Some("a.test"), 1),
        (Some("A.Test."), 1),
        (Some("x.a.test"), 2),
        (Some("c.test"), 2),
        (Some("d.c.test"), 2),
        (Some("b.test"), 2),
        (Some("c.b.test"), 3),
        (Some("e.d.c.b.test"), 3),
        (Some("open.test"), 0),
        (Some("test"), 0),
        (Some("atest"), 0),
        (Some("other"), 0),
        (Some("192.0.2.1"), 0),
        (Some(""), 0),
        (Some(long.as_str()), 0),
        (None, 0),
    ] {
        let policy = tls.policy(host.map(str::as_bytes));
        assert_eq!(policy.rules, rules[expected], "{host:?}");
        assert_eq!(policy.has_rules_of(tls.policy(None)), expected == 0, "{host:?}");
    }
    assert!(Arc::ptr_eq(tls.policy(Some(b"open.test")), tls.policy(None)), "equal rules are one policy");
    assert_eq!(tls.policy(Some(b"\xff.test")).rules, rules[0]);
    assert_eq!(rules[0].asks, ClientCertificates::Off);
}
