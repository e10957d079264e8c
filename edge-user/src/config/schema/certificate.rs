//! Server certificates and the names they are shown for.

use std::sync::Arc;

use rustls::sign::CertifiedKey;
use serde_json::json;

use super::super::reader::Reader;
use super::{Common, Document, Ref, common, reference};
use crate::router::HostPattern;
use crate::tls;

/// One certificate with its key.
pub(crate) struct CertificateEntity {
    pub(crate) common: Common,
    /// The chain as written: what a missing id is made from.
    pub(crate) pem: String,
    pub(crate) pair: Option<Arc<CertifiedKey>>,
}

/// One name, in lower case.
pub(crate) struct SniEntity {
    pub(crate) common: Common,
    pub(crate) name: String,
    pub(crate) certificate: Ref,
}

/// Reads one certificate with the names inside it.
pub(super) fn read(mut reader: Reader<'_>, document: &mut Document<'_>) {
    let index = document.certificates.len();
    let common = common(&mut reader);
    let certificate = reader.required_string("cert", "a certificate in PEM form");
    let key = reader.required_string("key", "a private key in PEM form");
    let pair = match (certificate, key) {
        (Some(certificate), Some(key)) => match tls::pair(certificate.as_bytes(), key.as_bytes()) {
            Ok(pair) => Some(pair),
            Err(error) => {
                let field = if matches!(error, tls::Error::Certificate) { "cert" } else { "key" };
                reader.problem(field, error.to_string(), "a certificate and its private key, both PEM");
                None
            }
        },
        _ => None,
    };
    for key in ["cert_alt", "key_alt"] {
        reader.unsupported(key, json!(null));
    }
    document.certificates.push(CertificateEntity { common, pem: certificate.unwrap_or_default().to_owned(), pair });
    for entry in reader.objects("snis") {
        document.snis.extend(sni(entry, Some(index)));
    }
    reader.finish();
}

/// Reads one name, alone or inside its certificate.
pub(super) fn sni(mut reader: Reader<'_>, parent: Option<usize>) -> Option<SniEntity> {
    const NAME: &str = "a host name, *.name, name.* or *";
    let common = common(&mut reader);
    let name = if reader.missing("name", NAME) {
        None
    } else {
        reader.parsed("name", NAME, |text| {
            let good = text == "*" || !text.contains(':') && HostPattern::parse(text).is_some();
            good.then(|| text.to_ascii_lowercase())
        })
    };
    let certificate = match parent {
        Some(index) => {
            if reader.raw("certificate").is_some() {
                reader.problem("certificate", "a reference inside its parent", "nothing");
            }
            Some(Ref::Parent(index))
        }
        None if reader.missing("certificate", "the id of its certificate") => None,
        None => reference(&mut reader, "certificate"),
    };
    reader.finish();
    Some(SniEntity { common, name: name?, certificate: certificate? })
}
