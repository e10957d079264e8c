//! Certificates of clients: what is asked for, and what is known of the one a client showed.
//!
//! With authorities a certificate has to lead to one of them, and with revocation lists each certificate below the
//! authority has to be covered by a list in its time that does not name it. Without authorities any is taken that is in its time and whose key
//! the client holds: enough for tokens bound to self-signed certificates (RFC 8705, 2.2 and 3), which compare it
//! themselves. A resumed session shows the certificate of its first handshake, which is judged anew (S3).

use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, HandshakeKind, OtherError, RootCertStore,
    ServerConnection, SignatureScheme,
};
use webpki::{
    CertRevocationList, EndEntityCert, ExpirationPolicy, KeyUsage, RevocationCheckDepth, RevocationOptionsBuilder,
    UnknownStatusPolicy,
};
use x509_parser::parse_x509_certificate;

use super::certificate_text::CertificateText;
use super::client::within;
use super::freshness::Freshness;
use super::revocation::Lists;
use super::{Error, files};
use crate::crypto::{self, FieldDigest};
use crate::settings::{ClientCertificates, ClientRules};

/// A bundle of all public authorities is a tenth of it.
const MAX_CA_BYTES: u64 = 4 << 20;

/// A client's own certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClientCertificate {
    /// The certificate.
    pub der: CertificateDer<'static>,
    /// SHA-256 of it: `x5t#S256` (RFC 8705, 3.1).
    pub thumbprint: [u8; 32],
    /// When it begins and ends to be valid, in milliseconds since 1970.
    valid_ms: (i64, i64),
    /// Those that were shown after it, in that order.
    chain: Box<[CertificateDer<'static>]>,
    text: OnceLock<Option<Box<CertificateText>>>,
}

impl ClientCertificate {
    /// Reads a certificate; nothing where it is none.
    pub fn read(der: CertificateDer<'static>) -> Option<Self> {
        let (rest, parsed) = parse_x509_certificate(&der).ok()?;
        let ms = |time: &x509_parser::time::ASN1Time| time.timestamp().saturating_mul(1000);
        // RFC 5280, 4.1.2.5: both ends belong to it, and the last second is a whole one.
        let valid_ms = (ms(&parsed.validity().not_before), ms(&parsed.validity().not_after).saturating_add(999));
        if !rest.is_empty() {
            return None;
        }
        let (chain, text) = (Box::default(), OnceLock::new());
        Some(Self { thumbprint: crypto::sha256(&der), valid_ms, der, chain, text })
    }

    /// With those that were shown after it.
    fn with_chain(self, chain: &[CertificateDer<'_>]) -> Self {
        Self { chain: chain.iter().map(|der| der.clone().into_owned()).collect(), ..self }
    }

    /// How long it and those after it are, in bytes.
    pub fn shown_bytes(&self) -> usize {
        self.der.len() + self.chain.iter().map(|der| der.len()).sum::<usize>()
    }

    /// What it says, as text for fields.
    pub fn text(&self) -> Option<&CertificateText> {
        let read = || {
            let chain = self.chain.iter().map(|der| &**der);
            CertificateText::read(&self.der, &self.thumbprint, chain).map(Box::new)
        };
        self.text.get_or_init(read).as_deref()
    }

    /// The last millisecond of its time, in milliseconds since 1970.
    pub fn ends_unix_ms(&self) -> i64 {
        self.valid_ms.1
    }

    /// Whether it is in its time.
    pub fn is_valid_at(&self, unix_ms: i64) -> bool {
        (self.valid_ms.0..=self.valid_ms.1).contains(&unix_ms)
    }
}

/// Which of the files of one set of rules is wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// `client_ca`
    Authorities,
    /// One of `client_crl`, by its index.
    List(usize),
}

/// What is asked of clients, by one set of rules and what its files say now.
#[derive(Debug)]
pub struct ClientAuth {
    verifier: Arc<Verifier>,
    digest: [u8; 32],
    freshness: Vec<Freshness>,
}

impl ClientAuth {
    /// Reads the files of rules; nothing where they ask for no certificate.
    pub fn load(rules: &ClientRules) -> Result<Option<Self>, (Part, Error)> {
        if rules.asks == ClientCertificates::Off {
            return Ok(None);
        }
        let authorities = |error| (Part::Authorities, error);
        let ca = rules.ca.as_deref().map(|path| files::read(path, MAX_CA_BYTES));
        let ca = ca.transpose().map_err(authorities)?;
        let lists = Lists::load(&rules.crl).map_err(|(index, error)| (Part::List(index), error))?;
        Self::new(rules, ca.as_deref(), lists).map(Some).map_err(authorities)
    }

    fn new(rules: &ClientRules, ca_pem: Option<&[u8]>, lists: Lists) -> Result<Self, Error> {
        let Lists { lists, issuers, digests, freshness, .. } = lists;
        let mandatory = rules.asks == ClientCertificates::Require;
        let (mut roots, mut ders) = (RootCertStore::empty(), Vec::new());
        for root in ca_pem.map(CertificateDer::pem_slice_iter).into_iter().flatten() {
            let root = root.map_err(|_: pem::Error| Error::Certificate)?;
            roots.add(root.clone()).map_err(Error::Unusable)?;
            ders.push(root);
        }
        if ca_pem.is_some() && ders.is_empty() {
            return Err(Error::Certificate);
        }
        let uncovered = match issuers.is_empty() {
            true => Vec::new(),
            false => ders.iter().filter_map(|root| uncovered(root, &issuers)).collect(),
        };
        let digest = FieldDigest::default()
            .field([u8::from(mandatory)])
            .maybe(ca_pem.is_some().then_some("authorities"))
            .list(ders.iter())
            .list(digests.iter())
            .maybe(rules.depth.map(|depth| [depth]))
            .finish();
        let subjects = roots.subjects();
        let authorities =
            ca_pem.is_some().then_some(Authorities { roots, subjects, lists, depth: rules.depth, uncovered });
        let verifier = Arc::new(Verifier { mandatory, provider: crypto::tls_provider(), authorities });
        Ok(Self { verifier, digest, freshness })
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        self.verifier.clone()
    }

    /// Of everything that decides which certificates are taken.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Until when its lists count.
    pub fn freshness(&self) -> &[Freshness] {
        &self.freshness
    }

    /// The names of authorities without a list, where others have one: nobody can tell whether what they signed is
    /// revoked, so it is refused.
    pub fn uncovered(&self) -> &[String] {
        self.verifier.authorities.as_ref().map_or(&[], |authorities| &authorities.uncovered)
    }

    /// The certificate the client of a finished handshake showed.
    pub fn certificate(
        &self,
        session: &ServerConnection,
        now: UnixTime,
    ) -> Result<Option<Arc<ClientCertificate>>, rustls::Error> {
        let Some([own, between @ ..]) = session.peer_certificates() else {
            return if self.verifier.mandatory { Err(rustls::Error::NoCertificatesPresented) } else { Ok(None) };
        };
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.verifier.verify_client_cert(own, between, now)?;
        }
        let read = ClientCertificate::read(own.clone()).ok_or(CertificateError::BadEncoding)?;
        Ok(Some(Arc::new(read.with_chain(between))))
    }

    /// Whether one of its lists has ended since, in milliseconds since 1970.
    fn has_list_that_ended(&self, since_unix_ms: i64, now_unix_ms: i64) -> bool {
        let mut ends = self.freshness.iter().map(|list| list.ends.saturating_mul(1000));
        ends.any(|end| since_unix_ms < end && end <= now_unix_ms)
    }

    /// Whether what an earlier one took some time ago is as good by this one.
    pub(super) fn still_says(&self, earlier: &Self, since_unix_ms: i64, now_unix_ms: i64) -> bool {
        self.digest == earlier.digest && !self.has_list_that_ended(since_unix_ms, now_unix_ms)
    }

    /// Whether it takes a certificate that was shown before, as it takes one in a handshake.
    pub(super) fn takes(&self, shown: &ClientCertificate, now: UnixTime) -> bool {
        self.verifier.verify_client_cert(&shown.der, &shown.chain, now).is_ok()
    }
}

/// The subject of an authority whose list is missing.
fn uncovered(root: &CertificateDer<'_>, issuers: &[Box<[u8]>]) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(root).ok()?;
    let subject = parsed.subject();
    (!issuers.iter().any(|issuer| **issuer == *subject.as_raw())).then(|| subject.to_string())
}

/// Takes certificates that lead to an authority and are not revoked; without authorities any that is in its time. The
/// client must own its key in any case.
#[derive(Debug)]
struct Verifier {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
    authorities: Option<Authorities>,
}

#[derive(Debug)]
struct Authorities {
    roots: RootCertStore,
    subjects: Vec<DistinguishedName>,
    lists: Vec<CertRevocationList<'static>>,
    depth: Option<u8>,
    uncovered: Vec<String>,
}

impl Authorities {
    fn verify(
        &self,
        provider: &CryptoProvider,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let fits = self.depth.map(within);
        let lists: Vec<_> = self.lists.iter().collect();
        // The strictest of all: the whole chain counts, and neither a missing nor an old list lets anyone in.
        let revocation = RevocationOptionsBuilder::new(&lists).ok().map(|options| {
            options
                .with_depth(RevocationCheckDepth::Chain)
                .with_status_policy(UnknownStatusPolicy::Deny)
                .with_expiration_policy(ExpirationPolicy::Enforce)
                .build()
        });
        EndEntityCert::try_from(end_entity)?
            .verify_for_usage(
                provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::client_auth(),
                revocation,
                fits.as_ref().map(|fits| fits as &dyn Fn(&webpki::VerifiedPath<'_>) -> Result<(), webpki::Error>),
            )
            .map(drop)
    }
}

/// The alert a client gets says which of these it was.
fn refusal(error: webpki::Error) -> CertificateError {
    match error {
        webpki::Error::CertExpired { .. } => CertificateError::Expired,
        webpki::Error::CertNotValidYet { .. } => CertificateError::NotValidYet,
        webpki::Error::CertRevoked => CertificateError::Revoked,
        webpki::Error::CrlExpired { .. } => CertificateError::ExpiredRevocationList,
        webpki::Error::UnknownRevocationStatus => CertificateError::UnknownRevocationStatus,
        webpki::Error::UnknownIssuer => CertificateError::UnknownIssuer,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

impl ClientCertVerifier for Verifier {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authorities.as_ref().map_or(&[], |authorities| &authorities.subjects)
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify(&self.provider, end_entity, intermediates, now).map_err(refusal)?;
            return Ok(ClientCertVerified::assertion());
        }
        let read = ClientCertificate::read(end_entity.clone().into_owned()).ok_or(CertificateError::BadEncoding)?;
        let now_ms = i64::try_from(now.as_secs()).unwrap_or(i64::MAX).saturating_mul(1000);
        match read.is_valid_at(now_ms) {
            true => Ok(ClientCertVerified::assertion()),
            false if now_ms < read.valid_ms.0 => Err(CertificateError::NotValidYet.into()),
            false => Err(CertificateError::Expired.into()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
#[path = "client_auth_tests.rs"]
mod tests;
