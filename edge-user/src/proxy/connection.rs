//! What is known of a client connection before its first request.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

/// One listener as requests see it.
pub struct ListenerInfo {
    /// The bound address, for logs.
    pub label: Box<str>,
    /// The bound port.
    pub port: u16,
    /// Whether it terminates TLS.
    pub tls: bool,
}

/// One client connection.
pub struct Connection {
    /// The peer.
    pub peer: SocketAddr,
    /// The peer's address as text: `X-Forwarded-For`, `X-Real-IP`.
    pub peer_text: Box<str>,
    /// Whether the peer is one of `proxy.trusted_ips`.
    pub trusted: bool,
    /// Where it was accepted.
    pub listener: Arc<ListenerInfo>,
    /// The listener's port.
    pub port: u16,
    /// Whether it is encrypted.
    pub tls: bool,
    /// The TLS version, for the access log.
    pub tls_version: Option<&'static str>,
    /// The server name the client asked for in its TLS handshake.
    pub sni: Option<Box<str>>,
}

impl Connection {
    /// A connection from `peer`, an IPv4 address mapped into IPv6 taken as IPv4.
    pub fn new(
        peer: SocketAddr,
        trusted: bool,
        listener: Arc<ListenerInfo>,
        tls_version: Option<&'static str>,
    ) -> Self {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let (port, tls) = (listener.port, listener.tls);
        Self { peer, peer_text: peer.ip().to_string().into(), trusted, listener, port, tls, tls_version, sni: None }
    }

    /// The peer's address.
    pub fn ip(&self) -> IpAddr {
        self.peer.ip()
    }
}
