//! Certificate authorities: by whose certificates an upstream may prove who it is.

use std::time::{SystemTime, UNIX_EPOCH};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use x509_parser::parse_x509_certificate;

use super::super::reader::Reader;
use super::Common;
use crate::crypto;

/// One authority.
pub(in crate::config) struct AuthorityEntity {
    pub(in crate::config) common: Common,
    pub(in crate::config) certificate: Option<CertificateDer<'static>>,
}

/// Reads one authority.
pub(super) fn read(reader: &mut Reader<'_>, common: Common) -> AuthorityEntity {
    const EXPECTED: &str = "the certificate of an authority in PEM form";
    let pem = reader.required_string("cert", EXPECTED);
    let digest = reader.string("cert_digest");
    let certificate = pem.and_then(|pem| match parse(pem) {
        Ok(certificate) => Some(certificate),
        Err((found, expected)) => {
            reader.problem("cert", found, expected);
            None
        }
    });
    if let (Some(certificate), Some(digest)) = (&certificate, digest) {
        let right: String = crypto::sha256(certificate).iter().map(|byte| format!("{byte:02x}")).collect();
        if digest != right {
            reader.problem("cert_digest", "the digest of another certificate", format!("{right}, or nothing"));
        }
    }
    AuthorityEntity { common, certificate }
}

fn parse(pem: &str) -> Result<CertificateDer<'static>, (&'static str, &'static str)> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let Ok(all) = all else { return Err(("no certificate in PEM form", "exactly one certificate")) };
    let certificate = match <[_; 1]>::try_from(all) {
        Ok([certificate]) => certificate,
        Err(all) if all.is_empty() => return Err(("no certificate in PEM form", "exactly one certificate")),
        Err(_) => return Err(("several certificates", "exactly one: each authority is an entity of its own")),
    };
    let unreadable = ("a broken certificate", "exactly one certificate");
    let (_, parsed) = parse_x509_certificate(&certificate).map_err(|_| unreadable)?;
    let now_secs = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs() as i64);
    if parsed.validity().not_after.timestamp() < now_secs {
        return Err(("a certificate that expired", "one that is valid: certificate expired, \"Not After\" is past"));
    }
    if !parsed.is_ca() {
        return Err(("a certificate of no authority", "one that may sign others: needs the CA flag set to true"));
    }
    Ok(certificate)
}
