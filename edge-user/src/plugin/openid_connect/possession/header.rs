//! A client's certificate in a field that a proxy in front sets (Kong's `proof_of_possession_mtls_from_header`).

use super::Authorities;
use crate::config::reader::Reader;
use crate::crypto;
use crate::http::head::{Known, is_field_name};
use crate::reason::Reason;
use crate::tls::ClientCertificate;
use crate::token::Now;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde_json::json;
use std::borrow::Cow;
use std::sync::{Arc, Mutex, TryLockError};
use std::time::Duration;
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::parse_x509_certificate;

/// Bytes of a field that are looked at: a chain of a few certificates.
const MAX_BYTES: usize = 24 * 1024;
/// Certificates of a chain.
const MAX_CHAIN: usize = 6;
/// Verified certificates that are remembered.
const REMEMBERED: usize = 256;

/// `certificate_header_format`
#[derive(Clone, Copy)]
enum Format {
    /// Base64 of DER, or of PEM.
    Base64,
    /// PEM with percent escapes.
    Url,
}

/// See the module text.
pub(super) struct FromHeader {
    name: Box<str>,
    format: Format,
    anchors: Vec<TrustAnchor<'static>>,
    /// Authorities that help to build a chain and end none.
    between: Vec<CertificateDer<'static>>,
    trusted_only: bool,
    ttl_ms: i64,
    remembered: Box<[Mutex<Option<Verified>>]>,
}

/// A certificate that was verified as it stood in the field.
struct Verified {
    text: [u8; 32],
    certificate: Arc<ClientCertificate>,
    until_ms: i64,
}

/// Reads the record; nothing and a problem where it is wrong.
pub(super) fn parse(mut record: Reader<'_>, authorities: Authorities<'_>) -> Option<FromHeader> {
    const NAME: &str = "certificate_header_name";
    let name = record.required_string(NAME, "the name of the field with the certificate").unwrap_or("X-Client-Cert");
    if !is_field_name(name.as_bytes()) || Known::of(name.as_bytes()) != Known::Other {
        record.problem(NAME, format!("{name:?}"), "the name of a field that has no meaning of its own");
    }
    let formats = [("base64_encoded", Format::Base64), ("url_encoded", Format::Url)];
    let format = record.word("certificate_header_format", &formats).unwrap_or(Format::Url);
    let trusted_only = record.bool("secure_source").unwrap_or(true);
    if !trusted_only {
        record.warn(
            "secure_source",
            "false: whoever reaches the edge can claim any certificate, and so use a stolen token",
        );
    }
    revocation(&mut record);
    let ttl_ms = record.number("cert_cache_ttl", 0.0..=86_400_000.0).unwrap_or(60_000.0) as i64;
    let partial = record.bool("allow_partial_chain").unwrap_or(false);
    let (anchors, between) = anchors(&mut record, authorities, partial)?;
    record.finish();
    let remembered = (0..REMEMBERED).map(|_| Mutex::new(None)).collect();
    Some(FromHeader { name: name.into(), format, anchors, between, trusted_only, ttl_ms, remembered })
}

/// Revocation is not looked up: what asks for it is refused or remarked on, and its connections have no settings.
fn revocation(record: &mut Reader<'_>) {
    const KEY: &str = "revocation_check_mode";
    match record.word(KEY, &[("SKIP", "SKIP"), ("IGNORE_CA_ERROR", "IGNORE_CA_ERROR"), ("STRICT", "STRICT")]) {
        Some("SKIP") => {}
        Some("STRICT") => {
            let expected = "SKIP, with short-lived certificates: the edge does not look up revocation";
            record.problem(KEY, "STRICT", expected);
        }
        _ => record.warn(KEY, "IGNORE_CA_ERROR is as SKIP: the edge does not look up revocation"),
    }
    let instead = "short-lived certificates: the edge does not look up revocation";
    record.only_default("http_timeout", json!(30_000), instead);
    record.only_default("ssl_verify", json!(true), instead);
    for key in ["http_proxy_host", "http_proxy_port", "https_proxy_host", "https_proxy_port"] {
        record.only_default(key, json!(null), instead);
    }
}

type Anchors = (Vec<TrustAnchor<'static>>, Vec<CertificateDer<'static>>);

/// The authorities that end a chain, and those that only help to build one: without `allow_partial_chain` a chain ends
/// at a certificate that signs itself.
fn anchors(record: &mut Reader<'_>, authorities: Authorities<'_>, partial: bool) -> Option<Anchors> {
    const KEY: &str = "ca_certificates";
    if record.missing(KEY, "ids of `ca_certificates`") {
        return None;
    }
    let (mut anchors, mut between) = (Vec::new(), Vec::new());
    for id in record.strings(KEY)? {
        let Some(der) = authorities(id) else {
            record.problem(KEY, format!("{id:?}"), "the id or name of one of the file's 'ca_certificates'");
            continue;
        };
        let is_root = parse_x509_certificate(&der).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer());
        match anchor_from_trusted_cert(&der) {
            Ok(anchor) if is_root || partial => anchors.push(anchor.to_owned()),
            Ok(_) => {}
            Err(error) => {
                record.problem(KEY, format!("{id:?}, which is unusable ({error})"), "a certificate of an authority")
            }
        }
        between.push(der);
    }
    if anchors.is_empty() {
        record.problem(KEY, "no root", "at least one that signs itself, or `allow_partial_chain: true`");
        return None;
    }
    Some((anchors, between))
}

impl FromHeader {
    /// The name of the field.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// `secure_source`
    pub(super) fn is_for_trusted_only(&self) -> bool {
        self.trusted_only
    }

    /// The certificate in the field, verified; nothing where the field is not there.
    pub(super) fn read(
        &self,
        fields: &[(Box<str>, Vec<u8>)],
        now: Now,
    ) -> Result<Option<Arc<ClientCertificate>>, Reason> {
        let mut values =
            fields.iter().filter(|(name, _)| name.eq_ignore_ascii_case(&self.name)).map(|(_, value)| value);
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(None),
            (Some(value), None) if value.is_empty() => return Ok(None),
            (Some(value), None) if value.len() <= MAX_BYTES => value,
            _ => return Err(Reason::CertificateInvalid),
        };
        let text = crypto::sha256(value);
        let slot = &self.remembered[usize::from(text[0]) % REMEMBERED];
        // Whoever finds the place taken verifies for himself: no worker waits for another.
        let mut slot = match slot.try_lock() {
            Ok(slot) => Some(slot),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        };
        let known = slot.as_ref().and_then(|slot| slot.as_ref());
        if let Some(known) = known.filter(|known| known.text == text && now.unix_ms < known.until_ms) {
            return Ok(Some(Arc::clone(&known.certificate)));
        }
        let certificate = self.verify(value, now).map(Arc::new).ok_or(Reason::CertificateInvalid)?;
        if let Some(slot) = &mut slot {
            let until_ms = now.unix_ms.saturating_add(self.ttl_ms);
            **slot = Some(Verified { text, certificate: Arc::clone(&certificate), until_ms });
        }
        Ok(Some(certificate))
    }

    fn verify(&self, value: &[u8], now: Now) -> Option<ClientCertificate> {
        let mut chain = self.decode(value)?;
        if chain.is_empty() || chain.len() > MAX_CHAIN {
            return None;
        }
        let own = chain.remove(0);
        chain.extend(self.between.iter().cloned());
        let at = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.unix_ms).ok()?));
        let algorithms = crypto::tls_provider().signature_verification_algorithms.all;
        EndEntityCert::try_from(&own)
            .ok()?
            .verify_for_usage(algorithms, &self.anchors, &chain, at, KeyUsage::client_auth(), None, None)
            .ok()?;
        ClientCertificate::read(own)
    }

    /// The certificates in the field, the client's own first.
    fn decode(&self, value: &[u8]) -> Option<Vec<CertificateDer<'static>>> {
        let bytes: Cow<'_, [u8]> = match self.format {
            Format::Base64 => STANDARD.decode(value).ok()?.into(),
            Format::Url => unescape(value)?,
        };
        if !bytes.starts_with(b"-----BEGIN") {
            return matches!(self.format, Format::Base64).then(|| vec![CertificateDer::from(bytes.into_owned())]);
        }
        CertificateDer::pem_slice_iter(&bytes).take(MAX_CHAIN + 1).collect::<Result<_, _>>().ok()
    }
}

fn unescape(value: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !value.contains(&b'%') {
        return Some(value.into());
    }
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let ([high, low], after) = rest.split_first_chunk::<2>()?;
        let digit = |digit: &u8| char::from(*digit).to_digit(16);
        out.push((digit(high)? << 4 | digit(low)?) as u8);
        rest = after;
    }
    Some(out.into())
}
