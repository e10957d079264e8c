//! What the clients of a listener get and have to show, by the server name they ask for.
//!
//! Hosts may ask for other certificates than their listener does (`[[listeners.hosts]]`). The rules are chosen by the
//! name in the ClientHello; a request that comes over the connection for a host with other rules is not served there
//! (S8), or what one authority vouches for would count for another one's hosts. A snapshot has a whole set of these, so
//! that a reload changes nothing for handshakes under way.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, ServerConnection};

use super::{Certificates, ClientAuth, ClientCertificate, Error, TicketKeys, VERSIONS};
use crate::crypto::{self, FieldDigest};
use crate::settings::{ClientRules, HostName, Mode};
use crate::token::Now;

/// The TLS of one listener.
pub struct ListenerTls {
    own: Arc<Policy>,
    /// By lower-case name.
    names: HashMap<Box<str>, Arc<Policy>>,
    /// By what names end with, its dot included.
    above: HashMap<Box<str>, Arc<Policy>>,
}

/// What is wanted of a listener's TLS.
pub struct Wanted<'a> {
    /// The listener's index in the settings.
    pub listener: usize,
    /// What comes after the handshake.
    pub mode: Mode,
    /// What is shown.
    pub certificates: &'a Arc<Certificates>,
    /// How sessions are resumed.
    pub tickets: &'a Arc<TicketKeys>,
}

impl ListenerTls {
    /// By the listener's own rules and those of hosts, with what their files say.
    pub fn new<'h>(
        wanted: &Wanted<'_>,
        own: (&ClientRules, Option<Arc<ClientAuth>>),
        hosts: impl IntoIterator<Item = (&'h HostName, (&'h ClientRules, Option<Arc<ClientAuth>>))>,
    ) -> Result<Self, Error> {
        let own = Arc::new(Policy::new(wanted, own)?);
        let mut policies = vec![own.clone()];
        let (mut names, mut above) = (HashMap::new(), HashMap::new());
        for (name, rules) in hosts {
            // Equal rules are one policy: their hosts may share a connection (RFC 9113, 9.1.1).
            let known = policies.iter().find(|policy| policy.rules == *rules.0).cloned();
            let policy = match known {
                Some(policy) => policy,
                None => {
                    policies.push(Arc::new(Policy::new(wanted, rules)?));
                    policies[policies.len() - 1].clone()
                }
            };
            match name.as_str().strip_prefix('*') {
                Some(end) => above.insert(end.into(), policy),
                None => names.insert(name.as_str().into(), policy),
            };
        }
        Ok(Self { own, names, above })
    }

    /// The policy for a host: the name's own, then that of the longest wildcard above it, then the listener's.
    pub fn policy(&self, host: Option<&[u8]>) -> &Arc<Policy> {
        let has_hosts = !self.names.is_empty() || !self.above.is_empty();
        let named = host.filter(|_| has_hosts).and_then(|host| self.named(host));
        named.unwrap_or(&self.own)
    }

    fn named(&self, host: &[u8]) -> Option<&Arc<Policy>> {
        let name = std::str::from_utf8(host).ok()?;
        let name = name.strip_suffix('.').unwrap_or(name);
        // No rule is for a longer name, and each of its labels would be looked up.
        if name.len() > 255 {
            return None;
        }
        let name = match name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            true => Cow::Owned(name.to_ascii_lowercase()),
            false => Cow::Borrowed(name),
        };
        let above = || name.match_indices('.').find_map(|(dot, _)| self.above.get(&name[dot..]));
        self.names.get(&*name).or_else(above)
    }
}

/// One set of rules for clients, and the TLS that goes with it.
pub struct Policy {
    rules: ClientRules,
    clients: Option<Arc<ClientAuth>>,
    config: Arc<ServerConfig>,
}

impl Policy {
    /// Whether the certificates of clients must lead to authorities.
    pub fn has_authorities(&self) -> bool {
        self.rules.ca.is_some()
    }

    fn new(wanted: &Wanted<'_>, (rules, clients): (&ClientRules, Option<Arc<ClientAuth>>)) -> Result<Self, Error> {
        let resolver = Shows { certificates: wanted.certificates.clone(), listener: wanted.listener };
        let builder = ServerConfig::builder_with_provider(crypto::tls_provider())
            .with_protocol_versions(VERSIONS)
            .map_err(Error::Config)?;
        let builder = match &clients {
            None => builder.with_no_client_auth(),
            Some(clients) => builder.with_client_cert_verifier(clients.verifier()),
        };
        let mut config = builder.with_cert_resolver(Arc::new(resolver));
        // HTTP/2 or HTTP/1.1; what is spoken inside of a stream is between client and upstream.
        let (inside, protocols): (_, &[&[u8]]) = match wanted.mode {
            Mode::Http => ("http", &[b"h2", b"http/1.1"]),
            Mode::Stream => ("stream", &[]),
        };
        config.alpn_protocols = protocols.iter().map(|name| name.to_vec()).collect();
        let rules_digest = FieldDigest::default().field(inside).maybe(clients.as_ref().map(|clients| clients.digest()));
        config.ticketer = wanted.tickets.of(rules_digest.finish());
        // Each handshake gives the next ticket. Nothing else resumes a session, so nothing is kept on this side, where
        // it would outlive the rules it was made by.
        config.send_tls13_tickets = 1;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Self { rules: rules.clone(), clients, config: Arc::new(config) })
    }

    /// What is spoken.
    pub fn config(&self) -> &Arc<ServerConfig> {
        &self.config
    }

    /// The certificate the client of a finished handshake showed.
    pub fn certificate(&self, session: &ServerConnection) -> Result<Option<Arc<ClientCertificate>>, rustls::Error> {
        self.clients.as_ref().map_or(Ok(None), |clients| clients.certificate(session, UnixTime::now()))
    }

    /// Whether both have the same rules, whatever their files said at which time.
    pub fn has_rules_of(&self, other: &Self) -> bool {
        self.rules == other.rules
    }

    /// Whether what a client showed under an earlier policy with the same rules is good by what their files say now. It was
    /// looked at last `since`; both are in milliseconds since 1970.
    pub fn still_takes(
        &self,
        shown: &ClientCertificate,
        earlier: &Self,
        since_unix_ms: &Cell<i64>,
        now_unix_ms: i64,
    ) -> bool {
        let Some(clients) = &self.clients else { return true };
        let is_known = |earlier: &Arc<ClientAuth>| clients.still_says(earlier, since_unix_ms.get(), now_unix_ms);
        if earlier.clients.as_ref().is_some_and(is_known) {
            return true;
        }
        since_unix_ms.set(now_unix_ms);
        clients.takes(shown, UnixTime::now())
    }
}

/// The certificates of one snapshot, at one listener.
struct Shows {
    certificates: Arc<Certificates>,
    listener: usize,
}

impl fmt::Debug for Shows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shows({})", self.listener)
    }
}

impl ResolvesServerCert for Shows {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let pairs = self.certificates.resolve(hello.server_name(), self.listener)?;
        let now = Now::read().unix_ms.div_euclid(1000);
        Some(Arc::clone(pairs.choose(hello.signature_schemes(), now)))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
