//! Certificates with their keys, and the server names they are shown for.

use std::sync::Arc;

use rustls::sign::CertifiedKey;

use super::super::reader::Reader;
use super::{Common, Ref, required_reference};
use crate::router::HostPattern;
use crate::tls;

/// One certificate with its key, and a second pair with a key of another type.
pub(in crate::config) struct CertificateEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) pair: Option<Arc<CertifiedKey>>,
    pub(in crate::config) alternative: Option<Arc<CertifiedKey>>,
}

/// One name, in lower case.
pub(in crate::config) struct SniEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) name: String,
    pub(in crate::config) certificate: Ref,
}

/// Reads one certificate.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> CertificateEntity {
    let certificate = reader.required_string("cert", "a certificate in PEM form");
    let key = reader.required_string("key", "a private key in PEM form");
    let pair = pair(reader, ("cert", certificate), ("key", key));
    let (certificate, key) = (reader.string("cert_alt"), reader.string("key_alt"));
    if reader.has("cert_alt") != reader.has("key_alt") {
        let (given, other) = if reader.has("cert_alt") { ("cert_alt", "`key_alt`") } else { ("key_alt", "`cert_alt`") };
        let expected = "both or neither: all or none of these fields must be set: 'cert_alt', 'key_alt'";
        reader.problem(given, format!("no {other} beside it"), expected);
    }
    let alternative = self::pair(reader, ("cert_alt", certificate), ("key_alt", key));
    if let (Some(first), Some(second)) = (&pair, &alternative)
        && first.key.algorithm() == second.key.algorithm()
    {
        let expected = "a key of another type, such as ECDSA beside RSA: \
            certificate and alternative certificate need to have different type";
        reader.problem("cert_alt", "a key of the same type as `key`", expected);
    }
    reader.raw("snis");
    CertificateEntity { common, pair, alternative }
}

fn pair(
    reader: &Reader<'_>,
    (certificate_field, certificate): (&'static str, Option<&str>),
    (key_field, key): (&'static str, Option<&str>),
) -> Option<Arc<CertifiedKey>> {
    match tls::pair(certificate?.as_bytes(), key?.as_bytes()) {
        Ok(pair) => Some(pair),
        Err(error) => {
            let field = if matches!(error, tls::Error::Certificate) { certificate_field } else { key_field };
            reader.problem(field, error.to_string(), "a certificate and its private key, both PEM");
            None
        }
    }
}

/// Reads one name.
pub(super) fn sni(reader: &mut Reader<'_>, common: Common) -> Option<SniEntity> {
    const NAME: &str = "a host name, *.name, name.* or *";
    let name = if reader.missing("name", NAME) { None } else { reader.parsed("name", NAME, server_name) };
    let certificate = required_reference(reader, "certificate", "the id of its certificate");
    Some(SniEntity { common, name: name?, certificate: certificate? })
}

/// A name that clients ask for, in lower case.
pub(crate) fn server_name(text: &str) -> Option<String> {
    let good = text == "*" || !text.contains(':') && HostPattern::parse(text).is_some();
    good.then(|| text.to_ascii_lowercase())
}
