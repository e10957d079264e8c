//! Certificates of clients: what a listener asks for, and what some of its hosts ask for instead.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use super::read::resolve_path;
use crate::config::reader::Reader;

/// More lists in one place are a mistake: each is searched at every handshake.
const MAX_LISTS: usize = 16;
/// As deep as the verifier goes in any case.
const MAX_DEPTH: i64 = 6;

/// What is asked of clients.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ClientRules {
    /// `client_certificate`: `off` (default), `request` or `require`. With `tls` and mode `http` alone.
    pub asks: ClientCertificates,
    /// `client_ca`: PEM file with the authorities that clients' certificates have to lead to. Default: none, and any
    /// certificate is taken that is in its time and whose key the client proves to hold.
    pub ca: Option<PathBuf>,
    /// `client_crl`: files with revocation lists, PEM or DER; every certificate below an authority has to be covered by
    /// one that is in its time. Default: none, and nothing is looked up.
    pub crl: Vec<PathBuf>,
    /// `client_verify_depth`: certificates allowed between the client's own and its authority. Default: as many as
    /// there are, up to six.
    pub depth: Option<u8>,
}

/// Whether clients are asked for a certificate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum ClientCertificates {
    /// No.
    #[default]
    Off,
    /// Yes, and a client without one is served all the same.
    Request,
    /// Yes, or the handshake fails.
    Require,
}

/// `[[listeners.hosts]]`: hosts with rules of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostRules {
    /// `names`: host names, `*.example.com` for all below one. Required.
    pub names: Vec<HostName>,
    /// What is asked there, in place of what the listener asks. `client_certificate` is required.
    pub clients: ClientRules,
}

/// A host name in lower case, or all names below one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct HostName(Box<str>);

impl HostName {
    /// Reads `a.example` or `*.example`.
    pub fn parse(text: &str) -> Option<Self> {
        let name = text.to_ascii_lowercase();
        let fixed = name.strip_prefix("*.").unwrap_or(&name);
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
        };
        // A client names no address in its handshake (RFC 6066, 3), so rules for one could never be met.
        let is_address = fixed.parse::<std::net::IpAddr>().is_ok();
        (name.len() <= 253 && fixed.split('.').all(is_label) && !is_address).then(|| Self(name.into()))
    }

    /// As it was written, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What a listener asks of its clients. `can_ask`: where it speaks TLS for requests.
pub(super) fn clients(section: &mut Reader<'_>, base: &Path, can_ask: bool) -> ClientRules {
    const KEY: &str = "client_certificate";
    const WORDS: [(&str, ClientCertificates); 3] = [
        ("off", ClientCertificates::Off),
        ("request", ClientCertificates::Request),
        ("require", ClientCertificates::Require),
    ];
    let asks = section.word(KEY, &WORDS).unwrap_or_default();
    if asks != ClientCertificates::Off && !can_ask {
        section.problem(KEY, "it without TLS for requests", "`tls = true` and mode `http` beside it");
    }
    let ca = section.string("client_ca").map(|path| resolve_path(base, path));
    if ca.is_some() && asks == ClientCertificates::Off {
        section.problem("client_ca", "it without a certificate", "`client_certificate = \"require\"` or \"request\"");
    }
    if asks == ClientCertificates::Require && ca.is_none() {
        let text = "without `client_ca` any certificate is taken: it tells senders of bound tokens apart, and keeps nobody out";
        section.warn(KEY, text);
    }
    let has_crl = section.has("client_crl");
    let crl = section.strings("client_crl").unwrap_or_default();
    let crl: Vec<_> = crl.into_iter().map(|path| resolve_path(base, path)).collect();
    if has_crl && (crl.is_empty() || crl.len() > MAX_LISTS) {
        section.problem("client_crl", format!("{} files", crl.len()), format!("1 to {MAX_LISTS} files"));
    }
    let depth = section.integer("client_verify_depth", 0..=MAX_DEPTH).map(|depth| depth as u8);
    for key in ["client_crl", "client_verify_depth"] {
        if section.has(key) && ca.is_none() {
            section.problem(key, "it without authorities", "`client_ca` beside it");
        }
    }
    ClientRules { asks, ca, crl, depth }
}

/// The hosts of a listener with rules of their own.
pub(super) fn hosts(section: &mut Reader<'_>, base: &Path, can_ask: bool) -> Vec<HostRules> {
    const NAMES: &str = "host names, like \"api.example.com\" or \"*.example.com\"";
    if section.has("hosts") && !can_ask {
        section.problem("hosts", "it without TLS for requests", "`tls = true` and mode `http` beside it");
    }
    let mut taken = HashSet::new();
    let mut hosts = Vec::new();
    for mut host in section.objects("hosts") {
        host.missing("client_certificate", "off, request or require");
        let names = match host.missing("names", NAMES) {
            true => None,
            false => host.parsed_list("names", NAMES, HostName::parse),
        };
        if names.as_ref().is_some_and(Vec::is_empty) {
            host.problem("names", "no name", NAMES);
        }
        let names = names.unwrap_or_default();
        for name in &names {
            if !taken.insert(name.clone()) {
                host.problem("names", format!("{:?} again", name.as_str()), "each name once");
            }
        }
        hosts.push(HostRules { names, clients: clients(&mut host, base, can_ask) });
        host.finish();
    }
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn read(lines: &str) -> Result<Settings, String> {
        let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\n{lines}");
        Settings::load_text(&text, Path::new("/etc/edge/edge.toml")).map_err(|problems| problems.to_string())
    }

    #[test]
    fn host_names_are_names_and_wildcards() {
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(HostName::parse(text).as_ref().map(HostName::as_str), expected, "{text}");
        };
        check("api.example.com", Some("api.example.com"));
        check("API.Example.com", Some("api.example.com"));
        check("*.example.com", Some("*.example.com"));
        check("localhost", Some("localhost"));
        let long = "a".repeat(64);
        for text in
            ["", "*", "*.", ".a", "a.", "a..b", "a.*", "*.*.a", "a:1", "a b", "192.0.2.1", "[::1]", "é.example", &long]
        {
            check(text, None);
        }
    }

    #[test]
    fn hosts_have_rules_of_their_own() {
        let settings = read(
            "client_certificate = \"request\"\nclient_ca = \"all.pem\"\n\
             [[listeners.hosts]]\nnames = [\"a.test\", \"*.B.test\"]\nclient_certificate = \"require\"\n\
             client_ca = \"b.pem\"\nclient_crl = [\"b.crl\", \"/abs/c.crl\"]\nclient_verify_depth = 1\n\
             [[listeners.hosts]]\nnames = [\"open.test\"]\nclient_certificate = \"off\"\n",
        )
        .unwrap();
        let listener = &settings.listeners[0];
        let at = |name: &str| Path::new("/etc/edge").join(name);
        let own = ClientRules { asks: ClientCertificates::Request, ca: Some(at("all.pem")), ..ClientRules::default() };
        assert_eq!(listener.clients, own);
        let strict = ClientRules {
            asks: ClientCertificates::Require,
            ca: Some(at("b.pem")),
            crl: vec![at("b.crl"), "/abs/c.crl".into()],
            depth: Some(1),
        };
        assert_eq!(listener.hosts[0].clients, strict);
        assert_eq!(listener.hosts[0].names.iter().map(HostName::as_str).collect::<Vec<_>>(), ["a.test", "*.b.test"]);
        assert_eq!(listener.hosts[1].clients, ClientRules::default());
    }

    #[test]
    fn rules_that_cannot_be_are_problems() {
        let host = "[[listeners.hosts]]\n";
        for (lines, expected) in [
            (
                "client_crl = [\"a.crl\"]\n",
                "listeners[0].client_crl: found it without authorities, expected `client_ca`",
            ),
            ("client_verify_depth = 1\n", "listeners[0].client_verify_depth: found it without authorities"),
            (
                "client_certificate = \"require\"\nclient_ca = \"a\"\nclient_crl = []\n",
                "listeners[0].client_crl: found 0 files, expected 1 to 16 files",
            ),
            (
                "client_certificate = \"require\"\nclient_ca = \"a\"\nclient_verify_depth = 7\n",
                "listeners[0].client_verify_depth: found 7",
            ),
            (
                &format!("{host}client_certificate = \"off\"\n"),
                "listeners[0].hosts[0].names: found nothing, expected host names",
            ),
            (
                &format!("{host}names = [\"a.test\"]\n"),
                "listeners[0].hosts[0].client_certificate: found nothing, expected off, request or require",
            ),
            (
                &format!("{host}names = [\"a.*\"]\nclient_certificate = \"off\"\n"),
                "listeners[0].hosts[0].names[0]: found \"a.*\", expected host names",
            ),
            (
                &format!(
                    "{host}names = [\"a.test\"]\nclient_certificate = \"off\"\n\
                     {host}names = [\"A.test\"]\nclient_certificate = \"off\"\n"
                ),
                "listeners[0].hosts[1].names: found \"a.test\" again, expected each name once",
            ),
            (
                &format!("mode = \"stream\"\n{host}names = [\"a.test\"]\nclient_certificate = \"off\"\n"),
                "listeners[0].hosts: found it without TLS for requests",
            ),
            (
                &format!("{host}names = [\"a.test\"]\nclient_certificate = \"off\"\nclient_ca = \"a\"\n"),
                "listeners[0].hosts[0].client_ca: found it without a certificate",
            ),
        ] {
            let problems = read(lines).unwrap_err();
            assert!(problems.contains(expected), "{lines}\n{problems}");
        }
    }
}
