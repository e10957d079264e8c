//! TLS towards upstreams: what is verified, how deep a chain may be, which certificate the edge itself shows.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage};

use super::{Error, VERSIONS};
use crate::crypto;

/// Whether an upstream must prove who it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Verify {
    /// Chain, host name and validity, by the public roots and the system's (`SSL_CERT_FILE` names another bundle).
    #[default]
    Full,
    /// Not at all: `tls_verify: false`.
    Off,
}

/// The protocols offered by ALPN (RFC 7301).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Alpn {
    /// HTTP/1.1 alone.
    #[default]
    Http1,
    /// HTTP/2, else HTTP/1.1: the upstream chooses.
    Either,
    /// HTTP/2 alone: gRPC.
    Http2,
    /// Nothing: the edge does not know what a connection carries.
    Nothing,
}

/// The TLS rules of one service towards its upstream.
#[derive(Clone, Default)]
pub struct ClientTls {
    /// `tls_verify`
    pub verify: Verify,
    /// `tls_verify_depth`: certificates allowed between the upstream's own and the root. `None`: as many as there are.
    pub verify_depth: Option<u8>,
    /// `ca_certificates`: the roots, in place of the public ones.
    pub roots: Option<Arc<[CertificateDer<'static>]>>,
    /// `client_certificate`: what the edge shows where it is asked.
    pub identity: Option<Arc<CertifiedKey>>,
    /// What is offered.
    pub alpn: Alpn,
}

/// Certificates count, not where they stand in memory: a reload reads them anew. A certificate has one key.
impl PartialEq for ClientTls {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.identity.as_ref(), other.identity.as_ref());
        (self.verify, self.verify_depth, self.alpn) == (other.verify, other.verify_depth, other.alpn)
            && self.roots == other.roots
            && mine.map(|pair| &pair.cert) == theirs.map(|pair| &pair.cert)
    }
}

impl Hash for ClientTls {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.verify, self.verify_depth, self.alpn, &self.roots).hash(state);
        self.identity.as_ref().map(|pair| &pair.cert).hash(state);
    }
}

/// Names no key.
impl fmt::Debug for ClientTls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientTls")
            .field("verify", &self.verify)
            .field("verify_depth", &self.verify_depth)
            .field("roots", &self.roots.as_ref().map(|roots| roots.len()))
            .field("identity", &self.identity.is_some())
            .field("alpn", &self.alpn)
            .finish()
    }
}

/// The configuration for these rules. Equal rules share one as long as somebody holds it, so that sessions are resumed
/// across services and reloads.
pub fn client_config(rules: &ClientTls) -> Result<Arc<ClientConfig>, Error> {
    static MADE: Mutex<Vec<(ClientTls, Weak<ClientConfig>)>> = Mutex::new(Vec::new());
    // Only loading configurations comes here: the lock is not contended, and the list no longer than they are.
    let mut made = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    made.retain(|(_, config)| config.strong_count() > 0);
    let kept = made.iter().find(|(known, _)| known == rules).and_then(|(_, config)| config.upgrade());
    if let Some(config) = kept {
        return Ok(config);
    }
    let config = Arc::new(build(rules)?);
    made.push((rules.clone(), Arc::downgrade(&config)));
    Ok(config)
}

fn build(rules: &ClientTls) -> Result<ClientConfig, Error> {
    let provider = crypto::tls_provider();
    let verifier: Arc<dyn ServerCertVerifier> = match rules.verify {
        Verify::Off => Arc::new(AnyCertificate(Arc::clone(&provider))),
        Verify::Full => {
            let roots = Arc::new(roots(rules.roots.as_deref())?);
            let chain = WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .build()
                .map_err(|_| Error::Roots)?;
            match rules.verify_depth {
                None => chain,
                Some(depth) => Arc::new(Shallow { chain, roots, provider: Arc::clone(&provider), depth }),
            }
        }
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(VERSIONS)
        .map_err(Error::Config)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let mut config = match &rules.identity {
        None => builder.with_no_client_auth(),
        Some(pair) => {
            let shown: Arc<dyn ResolvesClientCert> = Arc::new(SingleCertAndKey::from(Arc::clone(pair)));
            builder.with_client_cert_resolver(shown)
        }
    };
    config.alpn_protocols = match rules.alpn {
        Alpn::Http1 => vec![b"http/1.1".to_vec()],
        Alpn::Either => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        Alpn::Http2 => vec![b"h2".to_vec()],
        Alpn::Nothing => Vec::new(),
    };
    Ok(config)
}

/// The roots given, or the public ones and the system's. A system without a bundle has the public ones; its broken
/// entries are left out.
fn roots(given: Option<&[CertificateDer<'static>]>) -> Result<RootCertStore, Error> {
    if let Some(given) = given {
        let mut roots = RootCertStore::empty();
        for root in given {
            roots.add(root.clone()).map_err(Error::Unusable)?;
        }
        return Ok(roots);
    }
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(roots)
}

/// Verifies in full, and then that a valid path from the upstream's certificate to a root has at most `depth`
/// certificates in between: as OpenSSL's depth counts, neither the first nor the root. What the upstream sends beyond
/// the path that is built does not count.
#[derive(Debug)]
struct Shallow {
    chain: Arc<WebPkiServerVerifier>,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    depth: u8,
}

impl Shallow {
    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), webpki::Error> {
        let fits = |path: &webpki::VerifiedPath<'_>| match path.intermediate_certificates().count() {
            count if count <= usize::from(self.depth) => Ok(()),
            _ => Err(webpki::Error::MaximumPathDepthExceeded),
        };
        // A path that is refused is not the end: another one may be shorter.
        EndEntityCert::try_from(end_entity)?
            .verify_for_usage(
                self.provider.signature_verification_algorithms.all,
                &self.roots.roots,
                intermediates,
                now,
                KeyUsage::server_auth(),
                None,
                Some(&fits),
            )
            .map(drop)
    }
}

impl ServerCertVerifier for Shallow {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)?;
        self.check(end_entity, intermediates, now)
            .map_err(|error| CertificateError::Other(OtherError(Arc::new(error))))?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Takes any certificate; the peer must still own its key.
#[derive(Debug)]
pub(super) struct AnyCertificate(pub(super) Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
