//! Revocation lists of clients' certificates (RFC 5280, 5), from files.

use std::path::PathBuf;

use rustls::pki_types::CertificateRevocationListDer;
use rustls::pki_types::pem::{self, PemObject};
use webpki::{CertRevocationList, OwnedCertRevocationList};
use x509_parser::oid_registry::OID_X509_EXT_ISSUER_DISTRIBUTION_POINT;
use x509_parser::parse_x509_crl;

use super::freshness::{Freshness, Kind};
use super::{Error, files};

/// Thirty thousand certificates. A list's signature covers all of it, and is verified at each handshake with a certificate
/// that it is about: half a millisecond of hashing for one that is as long.
const MAX_BYTES: u64 = 1 << 20;

/// The lists of one set of rules.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// What verification asks.
    pub(super) lists: Vec<CertRevocationList<'static>>,
    /// Who issued them: names in DER.
    pub(super) issuers: Vec<Box<[u8]>>,
    /// Their digests, in order.
    pub(super) digests: Vec<[u8; 32]>,
    /// Until when each counts.
    pub(super) freshness: Vec<Freshness>,
    /// Whether each says of which certificates of its issuer it is.
    are_partial: Vec<bool>,
}

impl Lists {
    /// Reads files, PEM with any number of lists or one in DER. The error comes with the file's place in the list.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self, (usize, Error)> {
        let mut all = Self::default();
        for (index, path) in paths.iter().enumerate() {
            let content = files::read(path, MAX_BYTES).map_err(|error| (index, error))?;
            all.read(&content, &path.display().to_string()).map_err(|error| (index, error))?;
        }
        Ok(all)
    }

    fn read(&mut self, content: &[u8], file: &str) -> Result<(), Error> {
        const PEM: &[u8] = b"-----BEGIN";
        if !content.windows(PEM.len()).any(|window| window == PEM) {
            return self.add(content, file);
        }
        let mut any = false;
        for list in CertificateRevocationListDer::pem_slice_iter(content) {
            self.add(&list.map_err(|_: pem::Error| Error::List)?, file)?;
            any = true;
        }
        if any { Ok(()) } else { Err(Error::List) }
    }

    fn add(&mut self, der: &[u8], file: &str) -> Result<(), Error> {
        let (rest, parsed) = parse_x509_crl(der).map_err(|_| Error::List)?;
        // RFC 5280, 5.1.2.5 demands an end: without one nobody could tell an old list from a new one.
        let ends = parsed.next_update().filter(|_| rest.is_empty()).ok_or(Error::List)?;
        let is_partial =
            parsed.extensions().iter().any(|extension| extension.oid == OID_X509_EXT_ISSUER_DISTRIBUTION_POINT);
        let mut earlier = self.issuers.iter().zip(&self.are_partial);
        // The verifier takes the first that is about a certificate: of two whole ones the second would never count.
        if earlier.any(|(issuer, other)| **issuer == *parsed.issuer().as_raw() && !(*other && is_partial)) {
            return Err(Error::SecondList(parsed.issuer().to_string()));
        }
        let owned = OwnedCertRevocationList::from_der(der).map_err(Error::UnusableList)?;
        self.lists.push(CertRevocationList::from(owned));
        self.issuers.push(parsed.issuer().as_raw().into());
        self.are_partial.push(is_partial);
        self.digests.push(crate::crypto::sha256(der));
        self.freshness.push(Freshness {
            kind: Kind::RevocationList,
            file: file.into(),
            begins: parsed.last_update().timestamp(),
            ends: ends.timestamp(),
        });
        Ok(())
    }
}
