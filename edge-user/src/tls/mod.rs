//! TLS on both sides: what listeners show and ask by SNI, and what upstream connections verify.
//!
//! TLS 1.2 is the least, with the provider's suites: forward secrecy and AEAD alone (S1). No early data (S7).

mod certificate_text;
mod certificates;
mod client;
mod client_auth;
mod files;
pub mod freshness;
mod revocation;
mod server;
mod staple;
mod tickets;

use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, SupportedProtocolVersion};

use crate::crypto;

pub use certificate_text::CertificateText;
pub use certificates::{Certificates, Pairs};
pub use client::{Alpn, ClientTls, Verify, client_config};
pub use client_auth::{ClientAuth, ClientCertificate, Part};
pub use server::{ListenerTls, Policy, Wanted};
pub use staple::Staple;
pub use tickets::TicketKeys;

const VERSIONS: &[&SupportedProtocolVersion] = &[&rustls::version::TLS13, &rustls::version::TLS12];

/// Why a certificate and key are no pair. None of the texts quotes a key.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate's text is no PEM, or has no certificate.
    #[error("no certificate in PEM form")]
    Certificate,
    /// The key's text is no PEM, or has no private key.
    #[error("no private key in PEM form")]
    Key,
    /// Both are fine, but not each other's.
    #[error("certificate does not match key")]
    Mismatch,
    /// The provider cannot use one of them.
    #[error("unusable certificate or key ({0})")]
    Unusable(#[source] rustls::Error),
    /// A file cannot be read.
    #[error("no readable file ({0})")]
    Unreadable(#[source] io::Error),
    /// A file is longer than what belongs there can be.
    #[error("a file of more than {0} bytes")]
    TooLarge(u64),
    /// No revocation list.
    #[error("no revocation list with a `nextUpdate` in PEM or DER form")]
    List,
    /// A revocation list with something in it that must be understood and is not.
    #[error("unusable revocation list ({0})")]
    UnusableList(#[source] webpki::Error),
    /// A revocation list of an issuer that has one already.
    #[error("a second revocation list of {0}, of which the first alone would count")]
    SecondList(String),
    /// No OCSP response.
    #[error("no OCSP response in DER form")]
    Ocsp,
    /// An OCSP response by which the responder says that it has no answer.
    #[error("an OCSP response without an answer (its status is {0})")]
    OcspStatus(u8),
    /// An OCSP response that would be good for ever.
    #[error("an OCSP response without `nextUpdate`")]
    OcspEndless,
    /// No root is left to verify by.
    #[error("no usable root certificate")]
    Roots,
    /// The provider cannot make tickets or take the versions.
    #[error("the TLS configuration is unusable")]
    Config(#[source] rustls::Error),
}

/// Reads a certificate chain and its private key, both PEM.
pub fn pair(certificate_pem: &[u8], key_pem: &[u8]) -> Result<Arc<CertifiedKey>, Error> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate_pem)
        .collect::<Result<_, pem::Error>>()
        .map_err(|_| Error::Certificate)?;
    if chain.is_empty() {
        return Err(Error::Certificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|_| Error::Key)?;
    match CertifiedKey::from_der(chain, key, &crypto::tls_provider()) {
        Ok(pair) => Ok(Arc::new(pair)),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => Err(Error::Mismatch),
        Err(error) => Err(Error::Unusable(error)),
    }
}

/// The name of a client's TLS version, for logs.
pub fn version(session: &rustls::ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

/// Servers for tests.
#[cfg(test)]
pub(crate) mod testing {
    use std::time::Duration;

    use rustls::ServerConfig;

    use super::*;
    use crate::settings::{ClientRules, Mode};

    /// A listener of requests that shows these and asks as these rules do.
    pub(crate) fn policy_with(
        certificates: Certificates,
        tickets: &Arc<TicketKeys>,
        rules: &ClientRules,
        clients: Option<Arc<ClientAuth>>,
    ) -> Arc<Policy> {
        let certificates = Arc::new(certificates);
        let wanted = Wanted { listener: 0, mode: Mode::Http, certificates: &certificates, tickets };
        ListenerTls::new(&wanted, (rules, clients), []).unwrap().policy(None).clone()
    }

    /// What one that asks for nothing speaks.
    pub(crate) fn server_config(certificates: Certificates) -> Arc<ServerConfig> {
        let tickets = TicketKeys::new(Duration::from_secs(60));
        policy_with(certificates, &tickets, &ClientRules::default(), None).config().clone()
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

    use super::testing::server_config;
    use super::*;

    /// A self-signed certificate and its key, PEM.
    fn minted(name: &str) -> (String, String) {
        let minted = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (minted.cert.pem(), minted.signing_key.serialize_pem())
    }

    pub(super) fn pair_for(name: &str) -> Arc<CertifiedKey> {
        let (certificate, key) = minted(name);
        pair(certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    #[test]
    fn pairs_must_belong_together() {
        let ((certificate, key), (_, other)) = (minted("a"), minted("b"));
        let check = |certificate: &str, key: &str| {
            pair(certificate.as_bytes(), key.as_bytes()).err().map(|error| error.to_string())
        };
        assert_eq!(check(&certificate, &key), None);
        assert_eq!(check(&certificate, &other).as_deref(), Some("certificate does not match key"));
        assert_eq!(check(&key, &key).as_deref(), Some("no certificate in PEM form"));
        assert_eq!(check("", &key).as_deref(), Some("no certificate in PEM form"));
        assert_eq!(check(&certificate, "x").as_deref(), Some("no private key in PEM form"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(check(broken, &key).is_some_and(|error| error.starts_with("unusable certificate or key")));
    }

    /// One handshake in memory, until both have nothing more to say.
    pub(super) fn handshake(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        name: &str,
    ) -> Result<ClientConnection, rustls::Error> {
        both_ends(server, client, name).map(|(client, _)| client)
    }

    /// The two ends after their handshake.
    pub(super) fn both_ends(
        server: &Arc<ServerConfig>,
        client: &Arc<ClientConfig>,
        name: &str,
    ) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
        let mut client = ClientConnection::new(Arc::clone(client), ServerName::try_from(name.to_owned()).unwrap())?;
        let mut server = ServerConnection::new(Arc::clone(server))?;
        while client.is_handshaking() || server.is_handshaking() || server.wants_write() {
            let (mut there, mut back) = (Vec::new(), Vec::new());
            while client.wants_write() {
                client.write_tls(&mut there).unwrap();
            }
            server.read_tls(&mut io::Cursor::new(there)).unwrap();
            server.process_new_packets()?;
            while server.wants_write() {
                server.write_tls(&mut back).unwrap();
            }
            client.read_tls(&mut io::Cursor::new(back)).unwrap();
            client.process_new_packets()?;
        }
        Ok((client, server))
    }

    #[test]
    fn upstreams_are_verified_unless_switched_off() {
        let default = pair_for("a.example");
        let server = server_config(Certificates::new([], vec![Some(default)]));
        let full = client_config(&ClientTls::default()).unwrap();
        assert!(matches!(handshake(&server, &full, "a.example"), Err(rustls::Error::InvalidCertificate(_))));
        let off = handshake(
            &server,
            &client_config(&ClientTls { verify: Verify::Off, ..ClientTls::default() }).unwrap(),
            "a.example",
        )
        .unwrap();
        assert_eq!(off.alpn_protocol(), Some(&b"http/1.1"[..]));
        assert!(Arc::ptr_eq(&full, &client_config(&ClientTls::default()).unwrap()));
    }
}
