//! Certificates of clients: what a listener asks for, and what is known of the one a client showed.
//!
//! With authorities a certificate has to lead to one of them. Without, any is taken that is in its time and whose key
//! the client holds: enough for tokens bound to self-signed certificates (RFC 8705, 2.2 and 3), which compare it
//! themselves. A resumed session shows the certificate of its first handshake, which is judged anew (S3).

use std::fs;
use std::sync::{Arc, OnceLock};

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, HandshakeKind, RootCertStore, ServerConnection,
    SignatureScheme,
};
use x509_parser::parse_x509_certificate;

use super::Error;
use super::certificate_text::CertificateText;
use crate::crypto;
use crate::settings::{ClientCertificates, Listener};

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

/// What a listener asks of its clients.
#[derive(Clone, Debug)]
pub struct ClientAuth(Arc<dyn ClientCertVerifier>);

impl ClientAuth {
    /// By the settings of a listener; nothing where it asks for no certificate.
    pub fn load(listener: &Listener) -> Result<Option<Self>, Error> {
        let ca = listener.client_ca.as_deref().map(fs::read).transpose().map_err(Error::Unreadable)?;
        Self::new(listener.client_certificate, ca.as_deref())
    }

    fn new(asks: ClientCertificates, ca_pem: Option<&[u8]>) -> Result<Option<Self>, Error> {
        let provider = crypto::tls_provider();
        let mandatory = match asks {
            ClientCertificates::Off => return Ok(None),
            ClientCertificates::Request => false,
            ClientCertificates::Require => true,
        };
        let Some(ca_pem) = ca_pem else { return Ok(Some(Self(Arc::new(AnyClient { mandatory, provider })))) };
        let mut roots = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(ca_pem) {
            roots.add(root.map_err(|_: pem::Error| Error::Certificate)?).map_err(Error::Unusable)?;
        }
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let builder = if mandatory { builder } else { builder.allow_unauthenticated() };
        Ok(Some(Self(builder.build().map_err(|_| Error::Certificate)?)))
    }

    pub(super) fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0)
    }

    /// The certificate the client of a finished handshake showed.
    pub fn certificate(
        &self,
        session: &ServerConnection,
        now: UnixTime,
    ) -> Result<Option<Arc<ClientCertificate>>, rustls::Error> {
        let Some([own, between @ ..]) = session.peer_certificates() else {
            return if self.0.client_auth_mandatory() { Err(rustls::Error::NoCertificatesPresented) } else { Ok(None) };
        };
        if session.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.0.verify_client_cert(own, between, now)?;
        }
        let read = ClientCertificate::read(own.clone()).ok_or(CertificateError::BadEncoding)?;
        Ok(Some(Arc::new(read.with_chain(between))))
    }
}

/// Takes any certificate that is in its time; the client must still own its key.
#[derive(Debug)]
struct AnyClient {
    mandatory: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        self.mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
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
