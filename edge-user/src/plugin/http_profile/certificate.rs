//! The client's certificate told to the upstream: as Envoy's `X-Forwarded-Client-Cert`, as RFC 9440's `Client-Cert` and
//! `Client-Cert-Chain`, and in fields of F5's and nginx's style.
//!
//! All of these names are owned: whatever a client sends under one of them, in any spelling, was gone before this runs.

use crate::config::reader::Reader;
use crate::http::head::{Head, Known, Owner, is_field_name};
use crate::plugin::fields::is_same;
use crate::proxy::owned;
use crate::tls::{CertificateText, ClientCertificate};

/// Certificates longer than this, with those that vouch for them, would make heads that no server takes.
const MAX_SHOWN_BYTES: usize = 16 << 10;

/// Which fields tell of the certificate.
#[derive(Default)]
pub(super) struct Told {
    xfcc: Box<[Element]>,
    rfc9440: bool,
    fields: Box<[(Box<str>, Part)]>,
}

/// A part of `X-Forwarded-Client-Cert`, by Envoy's names.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Element {
    Hash,
    Cert,
    Chain,
    Subject,
    Uri,
    Dns,
}

const ELEMENTS: [(&str, Element); 6] = [
    ("hash", Element::Hash),
    ("cert", Element::Cert),
    ("chain", Element::Chain),
    ("subject", Element::Subject),
    ("uri", Element::Uri),
    ("dns", Element::Dns),
];

/// What a field of its own tells.
#[derive(Clone, Copy)]
enum Part {
    Pem,
    Subject,
    Issuer,
    Serial,
    Fingerprint,
}

const PARTS: [(&str, Part); 5] = [
    ("pem_header", Part::Pem),
    ("subject_header", Part::Subject),
    ("issuer_header", Part::Issuer),
    ("serial_header", Part::Serial),
    ("fingerprint_header", Part::Fingerprint),
];

const XFCC: &str = "X-Forwarded-Client-Cert";
const CLIENT_CERT: &str = "Client-Cert";
const CLIENT_CERT_CHAIN: &str = "Client-Cert-Chain";

/// The certificate is too long to be told.
pub(super) struct TooLong;

impl Told {
    /// Reads the object; problems go to the reader's sink.
    pub(super) fn parse(mut config: Reader<'_>) -> Self {
        let xfcc = config.words("xfcc", &ELEMENTS).unwrap_or_default();
        let rfc9440 = config.bool("rfc9440").unwrap_or(false);
        let mut fields: Vec<(Box<str>, Part)> = Vec::new();
        for (key, part) in PARTS {
            let Some(name) = config.string(key) else { continue };
            if !is_field_name(name.as_bytes()) {
                config.problem(key, format!("{name:?}"), "the name of a field");
            } else if super::rule::known(name) != Known::Other || owned::is_identity(name.as_bytes()) {
                config.problem(key, format!("{name:?}"), "a name that nothing else is told by");
            } else if fields.iter().any(|(other, _)| is_same(other.as_bytes(), name.as_bytes()))
                || [XFCC, CLIENT_CERT, CLIENT_CERT_CHAIN].iter().any(|own| is_same(own.as_bytes(), name.as_bytes()))
            {
                config.problem(key, format!("{name:?}"), "a name that no other field of the certificate has");
            } else {
                fields.push((name.into(), part));
            }
        }
        config.finish();
        Self { xfcc: xfcc.into(), rfc9440, fields: fields.into() }
    }

    /// The names that only the edge may write.
    pub(super) fn owned_names(&self) -> impl Iterator<Item = &str> {
        let standard = [(XFCC, !self.xfcc.is_empty()), (CLIENT_CERT, self.rfc9440), (CLIENT_CERT_CHAIN, self.rfc9440)];
        let standard = standard.into_iter().filter(|(_, used)| *used).map(|(name, _)| name);
        standard.chain(self.fields.iter().map(|(name, _)| &**name))
    }

    /// Whether the name, in any spelling, is one of those.
    pub(super) fn owns(&self, name: &str) -> bool {
        self.owned_names().any(|own| is_same(own.as_bytes(), name.as_bytes()))
    }

    /// Tells of the certificate that the client showed, if it showed one.
    pub(super) fn apply(&self, head: &mut Head, shown: Option<&ClientCertificate>) -> Result<(), TooLong> {
        if self.owned_names().next().is_none() {
            return Ok(());
        }
        let Some(shown) = shown else { return Ok(()) };
        if shown.shown_bytes() > MAX_SHOWN_BYTES {
            return Err(TooLong);
        }
        let Some(text) = shown.text() else { return Ok(()) };
        let mut push = |name: &str, value: &str| head.push(Owner::Edge, name.as_bytes(), value.as_bytes());
        if !self.xfcc.is_empty() {
            push(XFCC, &xfcc(&self.xfcc, text));
        }
        if self.rfc9440 {
            // RFC 9440, 2.1: byte sequences of RFC 8941.
            push(CLIENT_CERT, &format!(":{}:", text.base64));
            if !text.chain_base64.is_empty() {
                let chain: Vec<String> = text.chain_base64.iter().map(|base64| format!(":{base64}:")).collect();
                push(CLIENT_CERT_CHAIN, &chain.join(", "));
            }
        }
        for (name, part) in &self.fields {
            let value = match part {
                Part::Pem => &text.escaped_pem,
                Part::Subject => &text.subject,
                Part::Issuer => &text.issuer,
                Part::Serial => &text.serial,
                Part::Fingerprint => &text.fingerprint,
            };
            push(name, value);
        }
        Ok(())
    }
}

/// One element of the list: there is one hop with a certificate, the client's.
fn xfcc(elements: &[Element], text: &CertificateText) -> String {
    let mut pairs = Vec::new();
    for element in elements {
        match element {
            Element::Hash => pairs.push(format!("Hash={}", text.fingerprint)),
            Element::Cert => pairs.push(format!("Cert=\"{}\"", text.escaped_pem)),
            Element::Chain => pairs.push(format!("Chain=\"{}\"", text.escaped_chain_pem)),
            Element::Subject => pairs.push(format!("Subject={}", quoted(&text.subject))),
            Element::Uri => pairs.extend(text.uris.iter().map(|uri| format!("URI={}", quoted_where_needed(uri)))),
            Element::Dns => {
                pairs.extend(text.dns_names.iter().map(|name| format!("DNS={}", quoted_where_needed(name))))
            }
        }
    }
    pairs.join(";")
}

fn quoted_where_needed(value: &str) -> String {
    if value.contains([',', ';', '=', '"', '\\']) { quoted(value) } else { value.to_owned() }
}

/// Whatever a certificate says, it ends neither its value nor its element.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};
    use rustls::pki_types::CertificateDer;

    use super::*;
    use crate::config::testing::read;
    use crate::http::head::Version;

    fn shown(name: &str) -> ClientCertificate {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
        params.subject_alt_names.push(SanType::URI("spiffe://a/b;c".try_into().expect("IA5")));
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&KeyPair::generate().expect("a key")).expect("a certificate");
        ClientCertificate::read(CertificateDer::from(certificate.der().to_vec())).expect("readable")
    }

    fn told(yaml: &str, certificate: Option<&ClientCertificate>) -> Vec<(String, String)> {
        let (told, problems, _) = read("c", &format!("client_certificate: {yaml}"), |config| {
            Told::parse(config.object("client_certificate").expect("an object"))
        });
        assert!(problems.is_empty(), "{problems:?}");
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        assert!(told.apply(&mut head, certificate).is_ok());
        crate::plugin::testing::fields(&head)
    }

    #[test]
    fn each_style_tells_what_it_says() {
        let shown = shown("a\",By=x;b");
        let text = shown.text().expect("text");
        let check = |yaml: &str, expected: &[(&str, String)]| {
            let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
            assert_eq!(told(yaml, Some(&shown)), expected, "{yaml}");
            assert_eq!(told(yaml, None), [], "{yaml}");
        };
        let hash = &text.fingerprint;
        check("{}", &[]);
        check("{xfcc: [hash]}", &[("X-Forwarded-Client-Cert", format!("Hash={hash}"))]);
        let subject = r#"CN=a\\\"\\,By=x\\;b"#;
        check(
            "{xfcc: [subject, uri, dns, cert]}",
            &[(
                "X-Forwarded-Client-Cert",
                format!("Subject=\"{subject}\";URI=\"spiffe://a/b;c\";DNS=a.example;Cert=\"{}\"", text.escaped_pem),
            )],
        );
        check("{rfc9440: true}", &[("Client-Cert", format!(":{}:", text.base64))]);
        check(
            "{pem_header: X-SSL-Cert, subject_header: X-Subject, issuer_header: X-Issuer, serial_header: X-Serial, \
             fingerprint_header: X-Fp}",
            &[
                ("X-SSL-Cert", text.escaped_pem.clone()),
                ("X-Subject", text.subject.clone()),
                ("X-Issuer", text.issuer.clone()),
                ("X-Serial", text.serial.clone()),
                ("X-Fp", hash.clone()),
            ],
        );
    }

    #[test]
    fn names_are_judged() {
        for (yaml, part) in [
            ("{xfcc: [by]}", "one of: hash, cert, chain, subject, uri, dns"),
            ("{pem_header: 'a b'}", "the name of a field"),
            ("{pem_header: Authorization}", "a name that nothing else is told by"),
            ("{pem_header: x_consumer_id}", "a name that nothing else is told by"),
            ("{pem_header: X-A, serial_header: x_a}", "a name that no other field of the certificate has"),
            ("{pem_header: client_cert}", "a name that no other field of the certificate has"),
            ("{pem: X-A}", "unknown field"),
        ] {
            let yaml = format!("client_certificate: {yaml}");
            let (_, problems, _) =
                read("c", &yaml, |config| Told::parse(config.object("client_certificate").expect("an object")));
            assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
        }
    }
}
