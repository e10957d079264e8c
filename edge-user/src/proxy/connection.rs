//! What is known of a client connection before its first request.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::net::TcpStream;

use super::sources::Seat;
use crate::proxy_protocol::{Preface, Versions};
use crate::tls::{ClientCertificate, Policy};

/// The serial number of the next connection of the process.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// One listener as requests see it.
pub struct ListenerInfo {
    /// Its index in the settings.
    pub index: usize,
    /// The bound address, for logs.
    pub label: Box<str>,
    /// The bound address.
    pub address: IpAddr,
    /// The bound port.
    pub port: u16,
    /// Whether it terminates TLS.
    pub tls: bool,
    /// Whether virtual addresses lead here.
    pub has_vips: bool,
    /// Which PROXY headers its connections begin with.
    pub proxy_protocol: Versions,
    /// Where the kernel refuses bad tokens for it.
    pub rejects: Option<Rejects>,
}

/// How the kernel refuses bad tokens for a listener.
#[derive(Clone, Copy, Debug)]
pub struct Rejects {
    /// The listener's number.
    pub listener: u32,
    /// Whether on kept connections, too.
    pub keeps: bool,
}

impl ListenerInfo {
    /// The address a connection came to. Only one bound to all addresses, or with virtual ones, has to ask the kernel.
    pub fn local(&self, tcp: &TcpStream) -> io::Result<SocketAddr> {
        match self.address.is_unspecified() || self.has_vips {
            false => Ok(SocketAddr::new(self.address, self.port)),
            true => tcp.local_addr(),
        }
    }
}

/// One client connection.
pub struct Connection {
    /// The peer, or the client that its PROXY header names.
    pub peer: SocketAddr,
    /// The peer, where its PROXY header names the client.
    pub via: Option<SocketAddr>,
    /// The peer's address as text: `X-Forwarded-For`, `X-Real-IP`.
    pub peer_text: Box<str>,
    /// The address it was accepted at.
    pub local: IpAddr,
    /// Its number among the process's connections.
    pub serial: u64,
    /// How many requests came over it so far.
    pub requests: Cell<u64>,
    /// Whether it ends after the answers under way.
    pub ends: Cell<bool>,
    /// Whether it brought a token that the kernel refuses from then on.
    pub brought_rejected: Cell<bool>,
    /// Whether the peer is one of `proxy.trusted_ips`.
    pub trusted: bool,
    /// Where it was accepted.
    pub listener: Arc<ListenerInfo>,
    /// The port it was accepted at.
    pub port: u16,
    /// Whether it is encrypted, here or, by its PROXY header, up to the peer.
    pub tls: bool,
    /// The TLS version, for the access log.
    pub tls_version: Option<&'static str>,
    /// The server name the client asked for in its TLS handshake.
    pub sni: Option<Box<str>>,
    /// Its place among its source's connections, where those are limited.
    pub(super) seat: Option<Seat>,
    /// The certificate the client showed in it, verified as `policy` wants it.
    pub client_certificate: Option<Arc<ClientCertificate>>,
    /// What was asked of the client in it, by what files said when the certificate was last looked at; none where TLS
    /// does not end here.
    pub policy: RefCell<Option<Arc<Policy>>>,
    /// When the certificate was judged by that last, in milliseconds since 1970.
    pub judged_unix_ms: Cell<i64>,
    /// Whether it was refused since.
    pub is_refused: Cell<bool>,
    /// Whether its TLS session is an earlier connection's.
    pub is_resumed: bool,
}

impl Connection {
    /// A connection from `peer`, an IPv4 address mapped into IPv6 taken as IPv4.
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        trusted: bool,
        listener: Arc<ListenerInfo>,
        tls_version: Option<&'static str>,
    ) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let (port, tls) = (local.port(), listener.tls);
        Self {
            peer,
            via: None,
            peer_text: peer.ip().to_string().into(),
            local: local.ip().to_canonical(),
            serial: NEXT.fetch_add(1, Ordering::Relaxed),
            requests: Cell::new(0),
            ends: Cell::new(false),
            brought_rejected: Cell::new(false),
            trusted,
            listener,
            port,
            tls,
            tls_version,
            sni: None,
            seat: None,
            client_certificate: None,
            policy: RefCell::default(),
            judged_unix_ms: Cell::new(0),
            is_refused: Cell::new(false),
            is_resumed: false,
        }
    }

    /// What a PROXY header says goes before what the sockets say.
    pub fn told(mut self, via: SocketAddr, preface: Preface) -> Self {
        self.via = Some(SocketAddr::new(via.ip().to_canonical(), via.port()));
        self.tls |= preface.tls.is_some();
        self.tls_version = self.tls_version.or(preface.tls);
        self.sni = self.sni.or(preface.authority);
        self
    }

    /// The address and port it was accepted at, where these may not be the listener's.
    pub fn virtual_address(&self) -> Option<SocketAddr> {
        (self.listener.has_vips || self.via.is_some()).then(|| SocketAddr::new(self.local, self.port))
    }

    /// Counts a request; after `limit` of them the connection ends. 0 is no limit.
    pub fn count_request(&self, limit: u64) {
        self.requests.set(self.requests.get() + 1);
        if self.requests.get() == limit {
            self.ends.set(true);
        }
    }

    /// The peer's address.
    pub fn ip(&self) -> IpAddr {
        self.peer.ip()
    }
}
