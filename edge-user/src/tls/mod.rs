//! TLS on both sides: server certificates by SNI from the snapshot in force, and what upstream connections verify.
//!
//! TLS 1.2 is the least, with the provider's suites: forward secrecy and AEAD alone (S1). No early data (S7).

mod certificate_text;
mod client;
mod client_auth;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, ServerConfig, SignatureScheme, SupportedProtocolVersion};

use crate::crypto;
use crate::store::Store;

pub use certificate_text::CertificateText;
pub use client::{Alpn, ClientTls, Verify, client_config};
pub use client_auth::{ClientAuth, ClientCertificate};

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
    /// A file with certificates cannot be read.
    #[error("no readable file ({0})")]
    Unreadable(#[source] io::Error),
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

/// A certificate and key, and a second pair for clients that cannot verify the first.
#[derive(Clone, Debug)]
pub struct Pairs {
    first: Arc<CertifiedKey>,
    second: Option<Arc<CertifiedKey>>,
}

impl Pairs {
    /// One pair or two, whose keys are of different types.
    pub fn new(first: Arc<CertifiedKey>, second: Option<Arc<CertifiedKey>>) -> Self {
        Self { first, second }
    }

    /// The pair a client of these schemes, its favourite first, gets.
    fn choose(&self, schemes: &[SignatureScheme]) -> &Arc<CertifiedKey> {
        let Some(second) = &self.second else { return &self.first };
        let both = [&self.first, second];
        let signs =
            |scheme: &SignatureScheme| both.into_iter().find(|pair| pair.key.choose_scheme(&[*scheme]).is_some());
        schemes.iter().find_map(signs).unwrap_or(&self.first)
    }
}

/// Server certificates: those of the entities by name, and each listener's own.
#[derive(Default)]
pub struct Certificates {
    /// By lower-case name: `a.b`, `*.b`, `a.*` or `*` for all.
    names: HashMap<Box<str>, Pairs>,
    /// By index of the listener.
    listeners: Vec<Option<Pairs>>,
}

impl Certificates {
    /// Certificates by lower-case SNI names, and the pair of each listener.
    pub fn new(names: impl IntoIterator<Item = (Box<str>, Pairs)>, listeners: Vec<Option<Arc<CertifiedKey>>>) -> Self {
        let listeners = listeners.into_iter().map(|pair| pair.map(|pair| Pairs::new(pair, None))).collect();
        Self { names: names.into_iter().collect(), listeners }
    }

    /// Every certificate and what it is for: a name, or a listener by its index.
    pub fn each(&self) -> impl Iterator<Item = (String, &CertifiedKey)> {
        let named = self.names.iter().map(|(name, pairs)| (format!("sni {name}"), pairs));
        let own = self.listeners.iter().enumerate();
        let own = own.filter_map(|(index, pairs)| Some((format!("listeners[{index}]"), pairs.as_ref()?)));
        named.chain(own).flat_map(|(name, pairs)| {
            let both = [Some(&pairs.first), pairs.second.as_ref()];
            both.into_iter().flatten().map(move |pair| (name.clone(), &**pair))
        })
    }

    /// How many names have a certificate.
    pub fn name_count(&self) -> usize {
        self.names.len()
    }

    /// The certificate for a client that asks for `sni` at a listener: the name's own, then one whose first, then one
    /// whose last label is a wildcard, then the listener's, then the one for all names.
    pub fn resolve(&self, sni: Option<&str>, listener: usize) -> Option<&Pairs> {
        let named = sni.and_then(|sni| {
            let name = sni.strip_suffix('.').unwrap_or(sni).to_ascii_lowercase();
            let first = || self.names.get(format!("*.{}", name.split_once('.')?.1).as_str());
            let last = || self.names.get(format!("{}.*", name.rsplit_once('.')?.0).as_str());
            self.names.get(name.as_str()).or_else(first).or_else(last)
        });
        named.or_else(|| self.listeners.get(listener)?.as_ref()).or_else(|| self.names.get("*"))
    }
}

/// Looks certificates up in the snapshot in force, so that a replaced one serves the next handshake (S6).
struct BySnapshot {
    store: Arc<Store>,
    listener: usize,
}

impl fmt::Debug for BySnapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BySnapshot({})", self.listener)
    }
}

impl ResolvesServerCert for BySnapshot {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let snapshot = self.store.load();
        let pairs = snapshot.certificates.resolve(hello.server_name(), self.listener)?;
        Some(Arc::clone(pairs.choose(hello.signature_schemes())))
    }
}

/// The TLS rules of one listener, by its index in the settings: HTTP/2 or HTTP/1.1 by ALPN, sessions resumed by tickets,
/// and certificates asked of clients where `clients` says how.
pub fn server_config(
    listener: usize,
    store: &Arc<Store>,
    clients: Option<&ClientAuth>,
) -> Result<Arc<ServerConfig>, Error> {
    let mut config = any_server_config(listener, store, clients)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// The same for a listener of streams: what is spoken inside is between client and upstream, so no ALPN.
pub fn stream_server_config(listener: usize, store: &Arc<Store>) -> Result<Arc<ServerConfig>, Error> {
    any_server_config(listener, store, None).map(Arc::new)
}

fn any_server_config(listener: usize, store: &Arc<Store>, clients: Option<&ClientAuth>) -> Result<ServerConfig, Error> {
    let resolver = BySnapshot { store: Arc::clone(store), listener };
    let builder = ServerConfig::builder_with_provider(crypto::tls_provider())
        .with_protocol_versions(VERSIONS)
        .map_err(Error::Config)?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
    };
    let mut config = builder.with_cert_resolver(Arc::new(resolver));
    // Tickets keep nothing on this side; their keys change every six hours. Each handshake gives the next ticket.
    #[cfg(feature = "aws-lc")]
    let ticketer = rustls::crypto::aws_lc_rs::Ticketer::new();
    #[cfg(not(feature = "aws-lc"))]
    let ticketer = rustls::crypto::ring::Ticketer::new();
    config.ticketer = ticketer.map_err(Error::Config)?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The name of a client's TLS version, for logs.
pub fn version(session: &rustls::ServerConnection) -> &'static str {
    match session.protocol_version() {
        Some(rustls::ProtocolVersion::TLSv1_2) => "TLSv1.2",
        _ => "TLSv1.3",
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, ServerConnection};

    use super::*;
    use crate::config::snapshot::Snapshot;

    /// A self-signed certificate and its key, PEM.
    fn minted(name: &str) -> (String, String) {
        let minted = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        (minted.cert.pem(), minted.signing_key.serialize_pem())
    }

    fn pair_for(name: &str) -> Arc<CertifiedKey> {
        let (certificate, key) = minted(name);
        pair(certificate.as_bytes(), key.as_bytes()).unwrap()
    }

    fn snapshot(
        generation: u64,
        names: &[(&str, &Arc<CertifiedKey>)],
        listener: Option<&Arc<CertifiedKey>>,
    ) -> Snapshot {
        let names = names.iter().map(|(name, pair)| ((*name).into(), Pairs::new(Arc::clone(pair), None)));
        let certificates = Certificates::new(names, vec![listener.cloned()]);
        Snapshot { certificates, ..Snapshot::empty(generation) }
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

    #[test]
    fn of_two_pairs_the_client_gets_the_one_it_can_verify() {
        let first = pair_for("a.example");
        let key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let certificate = rcgen::CertificateParams::new(["a.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let second = pair(certificate.pem().as_bytes(), key.serialize_pem().as_bytes()).unwrap();
        let (ecdsa, ed25519) = (SignatureScheme::ECDSA_NISTP256_SHA256, SignatureScheme::ED25519);
        let both = Pairs::new(Arc::clone(&first), Some(Arc::clone(&second)));
        for (schemes, expected) in [
            (&[ecdsa][..], &first),
            (&[ed25519], &second),
            (&[ed25519, ecdsa], &second),
            (&[ecdsa, ed25519], &first),
            (&[SignatureScheme::RSA_PSS_SHA256], &first),
            (&[], &first),
        ] {
            assert!(Arc::ptr_eq(both.choose(schemes), expected), "{schemes:?}");
        }
    }

    #[test]
    fn the_nearest_name_wins() {
        let pairs: Vec<_> = (0..6).map(|n| pair_for(&format!("{n}"))).collect();
        let names = ["a.example", "*.example", "a.*", "*"].map(Box::from);
        let all = Certificates::new(
            names.into_iter().zip(pairs.iter().map(|pair| Pairs::new(Arc::clone(pair), None))),
            vec![Some(Arc::clone(&pairs[4])), None],
        );
        let place = |found: Option<&Pairs>| {
            pairs.iter().position(|pair| found.is_some_and(|found| Arc::ptr_eq(&found.first, pair)))
        };
        for (sni, listener, expected) in [
            (Some("a.example"), 0, Some(0)),
            (Some("A.Example."), 0, Some(0)),
            (Some("b.example"), 0, Some(1)),
            (Some("a.test"), 0, Some(2)),
            (Some("b.a.example"), 0, Some(4)),
            (Some("example"), 0, Some(4)),
            (Some("b.test"), 1, Some(3)),
            (None, 0, Some(4)),
            (None, 1, Some(3)),
        ] {
            assert_eq!(place(all.resolve(sni, listener)), expected, "{sni:?} {listener}");
        }
        assert!(Certificates::default().resolve(Some("a"), 0).is_none());
        assert_eq!(all.name_count(), 4);
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
    fn a_replaced_certificate_serves_the_next_handshake() {
        let (first, second, default) = (pair_for("a.example"), pair_for("a.example"), pair_for("d"));
        let (store, mut publisher) = Store::new(snapshot(1, &[("a.example", &first)], Some(&default)));
        let server = server_config(0, &store, None).unwrap();
        let client = client_config(&ClientTls { verify: Verify::Off, ..ClientTls::default() }).unwrap();
        let shown = |name: &str| {
            // A client that keeps no session: a resumed one shows no certificate.
            let mut client = (*client).clone();
            client.resumption = rustls::client::Resumption::disabled();
            let client = Arc::new(client);
            handshake(&server, &client, name).unwrap().peer_certificates().unwrap()[0].clone().into_owned()
        };
        assert_eq!(shown("a.example"), first.cert[0]);
        assert_eq!(shown("b.example"), default.cert[0]);
        publisher.publish(snapshot(2, &[("a.example", &second)], Some(&default)));
        assert_eq!(shown("a.example"), second.cert[0]);
        publisher.publish(Snapshot::empty(3));
        assert!(handshake(&server, &client, "c.example").is_err());
    }

    #[test]
    fn sessions_resume_and_versions_are_the_modern_ones() {
        let default = pair_for("a.example");
        let (store, _publisher) = Store::new(snapshot(1, &[], Some(&default)));
        let server = server_config(0, &store, None).unwrap();
        assert_eq!(server.max_early_data_size, 0);
        let any = Arc::new(client::AnyCertificate(crypto::tls_provider()));
        for (version, kind) in
            [(&rustls::version::TLS13, ProtocolVersion::TLSv1_3), (&rustls::version::TLS12, ProtocolVersion::TLSv1_2)]
        {
            let client = ClientConfig::builder_with_provider(crypto::tls_provider())
                .with_protocol_versions(&[version])
                .unwrap()
                .dangerous()
                .with_custom_certificate_verifier(any.clone())
                .with_no_client_auth();
            let mut client = client;
            client.alpn_protocols = vec![b"h2".to_vec()];
            let client = Arc::new(client);
            let seen = [HandshakeKind::Full, HandshakeKind::Resumed].map(|_| {
                let connection = handshake(&server, &client, "a.example").unwrap();
                assert_eq!(connection.protocol_version(), Some(kind));
                assert_eq!(connection.alpn_protocol(), Some(&b"h2"[..]));
                connection.handshake_kind()
            });
            assert_eq!(seen, [Some(HandshakeKind::Full), Some(HandshakeKind::Resumed)], "{kind:?}");
        }
    }

    #[test]
    fn upstreams_are_verified_unless_switched_off() {
        let default = pair_for("a.example");
        let (store, _publisher) = Store::new(snapshot(1, &[], Some(&default)));
        let server = server_config(0, &store, None).unwrap();
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
