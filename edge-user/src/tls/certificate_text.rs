//! What a client's certificate says, as text for fields: made once for a connection, when it is first asked for.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use x509_parser::extensions::GeneralName;
use x509_parser::objects::{oid_registry, oid2abbrev};
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

/// The texts of one certificate. None of them has a byte that cannot stand in a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateText {
    /// Its subject, the most specific part first (RFC 4514).
    pub subject: String,
    /// Its issuer, the same way.
    pub issuer: String,
    /// Its serial number in upper-case hex.
    pub serial: String,
    /// SHA-256 of it in lower-case hex.
    pub fingerprint: String,
    /// Itself in base64.
    pub base64: String,
    /// Itself in PEM, URL-encoded.
    pub escaped_pem: String,
    /// The certificates between it and its authority in base64, in the order they were shown.
    pub chain_base64: Vec<String>,
    /// It and the certificates after it in PEM, URL-encoded.
    pub escaped_chain_pem: String,
    /// URIs it is for.
    pub uris: Vec<String>,
    /// DNS names it is for.
    pub dns_names: Vec<String>,
}

impl CertificateText {
    /// Reads a certificate and those shown after it; nothing where it is none.
    pub(super) fn read<'c>(der: &[u8], thumbprint: &[u8; 32], chain: impl Iterator<Item = &'c [u8]>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(der).ok()?;
        let chain_base64: Vec<String> = chain.map(|der| STANDARD.encode(der)).collect();
        let base64 = STANDARD.encode(der);
        let escaped_pem = escaped_pem(&base64);
        let mut escaped_chain_pem = escaped_pem.clone();
        chain_base64.iter().for_each(|base64| escaped_chain_pem.push_str(&self::escaped_pem(base64)));
        let (mut uris, mut dns_names) = (Vec::new(), Vec::new());
        if let Ok(Some(names)) = parsed.subject_alternative_name() {
            for name in &names.value.general_names {
                match name {
                    GeneralName::URI(uri) if is_visible(uri) => uris.push((*uri).to_owned()),
                    GeneralName::DNSName(name) if is_visible(name) => dns_names.push((*name).to_owned()),
                    _ => {}
                }
            }
        }
        let serial = parsed.tbs_certificate.raw_serial();
        let zeros = serial.iter().take_while(|byte| **byte == 0).count().min(serial.len().saturating_sub(1));
        Some(Self {
            subject: distinguished_name(parsed.subject()),
            issuer: distinguished_name(parsed.issuer()),
            serial: hex(&serial[zeros..]).to_ascii_uppercase(),
            fingerprint: hex(thumbprint),
            base64,
            escaped_pem,
            chain_base64,
            escaped_chain_pem,
            uris,
            dns_names,
        })
    }
}

/// Names of hosts and URIs are visible ASCII; whatever else was signed is not passed on.
fn is_visible(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_graphic())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// PEM with everything but unreserved characters escaped (RFC 3986, 2.3), as nginx and Envoy do.
fn escaped_pem(base64: &str) -> String {
    let mut text = String::with_capacity(base64.len() + base64.len() / 8 + 100);
    text.push_str("-----BEGIN%20CERTIFICATE-----%0A");
    for (index, c) in base64.chars().enumerate() {
        if index > 0 && index % 64 == 0 {
            text.push_str("%0A");
        }
        match c {
            '+' => text.push_str("%2B"),
            '/' => text.push_str("%2F"),
            '=' => text.push_str("%3D"),
            c => text.push(c),
        }
    }
    text.push_str("%0A-----END%20CERTIFICATE-----%0A");
    text
}

/// As RFC 4514, 2 writes it: the last part first, what is not printable ASCII in hex.
fn distinguished_name(name: &X509Name<'_>) -> String {
    let parts: Vec<_> = name.iter_rdn().collect();
    let parts = parts.iter().rev().map(|part| {
        let attributes = part.iter().map(|attribute| {
            let oid = attribute.attr_type();
            let known = oid2abbrev(oid, oid_registry()).ok().filter(|_| attribute.as_str().is_ok());
            match (known, attribute.as_str()) {
                (Some(abbreviation), Ok(text)) => format!("{abbreviation}={}", escaped(text)),
                // RFC 4514, 2.4: the encoding itself, where there is no text or no short name.
                _ => format!("{}=#{}", oid.to_id_string(), hex(&encoded(attribute.attr_value()))),
            }
        });
        attributes.collect::<Vec<_>>().join("+")
    });
    parts.collect::<Vec<_>>().join(",")
}

/// The value in BER, its length in the shortest form.
fn encoded(value: &x509_parser::der_parser::asn1_rs::Any<'_>) -> Vec<u8> {
    use x509_parser::der_parser::asn1_rs::ToDer as _;
    value.to_der_vec().unwrap_or_default()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    let last = text.len().saturating_sub(1);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' | b'+' | b',' | b';' | b'<' | b'>' | b'\\' => {
                escaped.push('\\');
                escaped.push(char::from(byte));
            }
            b'#' if at == 0 => escaped.push_str("\\#"),
            // Not as `\ `, which would end the field in white space.
            b' ' if at == 0 || at == last => escaped.push_str("\\20"),
            b' '..=b'~' => escaped.push(char::from(byte)),
            byte => {
                let _ = write!(escaped, "\\{byte:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto;
    use crate::http::head::is_field_value;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType, SerialNumber};

    fn read(params: CertificateParams, chain: &[&[u8]]) -> (Vec<u8>, CertificateText) {
        let key = KeyPair::generate().expect("a key");
        let der = params.self_signed(&key).expect("a certificate").der().to_vec();
        let text = CertificateText::read(&der, &crypto::sha256(&der), chain.iter().copied()).expect("readable");
        (der, text)
    }

    #[test]
    fn names_are_written_as_rfc_4514_says() {
        for (parts, expected) in [
            (
                &[(DnType::CountryName, "DE"), (DnType::OrganizationName, "Acme"), (DnType::CommonName, "a b")][..],
                "CN=a b,O=Acme,C=DE",
            ),
            (&[(DnType::CommonName, "a,b+c\"d\\e<f>;=#g")], "CN=a\\,b\\+c\\\"d\\\\e\\<f\\>\\;=#g"),
            (&[(DnType::CommonName, "#x ")], "CN=\\#x\\20"),
            (&[(DnType::CommonName, " y")], "CN=\\20y"),
            (&[(DnType::CommonName, "é\r\nX: 1\u{0}")], "CN=\\C3\\A9\\0D\\0AX: 1\\00"),
            (&[], ""),
        ] {
            let mut params = CertificateParams::new(Vec::new()).expect("parameters");
            params.distinguished_name = DistinguishedName::new();
            for (kind, text) in parts {
                params.distinguished_name.push(kind.clone(), *text);
            }
            let (_, text) = read(params, &[]);
            assert_eq!((text.subject.as_str(), text.issuer.as_str()), (expected, expected));
            assert!(is_field_value(text.subject.as_bytes()));
        }
    }

    #[test]
    fn every_text_can_stand_in_a_field() {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).expect("parameters");
        params.serial_number = Some(SerialNumber::from_slice(&[0x0a, 0xbc, 0xff]));
        params.subject_alt_names.push(SanType::URI("spiffe://a/b".try_into().expect("IA5")));
        let (der, text) = read(params, &[b"one", b"two"]);
        assert_eq!(text.serial, "0ABCFF");
        assert_eq!(text.fingerprint.len(), 64);
        assert_eq!(STANDARD.decode(&text.base64).expect("base64"), der);
        assert_eq!(text.chain_base64, ["b25l", "dHdv"]);
        assert_eq!((text.uris.concat().as_str(), text.dns_names.concat().as_str()), ("spiffe://a/b", "a.example"));
        let pem = text.escaped_pem.replace("%20", " ").replace("%0A", "\n").replace("%2B", "+");
        let pem = pem.replace("%2F", "/").replace("%3D", "=");
        let lines: Vec<&str> = pem.lines().collect();
        assert!(lines.iter().all(|line| line.len() <= 64) && lines[0] == "-----BEGIN CERTIFICATE-----");
        assert_eq!(lines[1..lines.len() - 1].concat(), text.base64);
        assert!(text.escaped_chain_pem.starts_with(&text.escaped_pem));
        assert!(text.escaped_chain_pem.ends_with("%0AdHdv%0A-----END%20CERTIFICATE-----%0A"));
        for value in [&text.escaped_chain_pem, &text.base64, &text.issuer] {
            assert!(is_field_value(value.as_bytes()), "{value}");
        }
    }
}
