//! Every socket the process listens on, bound before privileges are dropped.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::tls;
use crate::proxy::connection::ListenerInfo;
use crate::proxy::listener::{Bound, Serves, TlsRules};
use crate::settings::{Mode, Settings};
use crate::store::Store;

/// Connections the kernel queues per socket; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;

/// The bound sockets.
pub(super) struct Sockets {
    /// One row per listener of the settings: its address, and a socket for each worker.
    listeners: Vec<(SocketAddr, Vec<TcpListener>)>,
    /// The Admin API's.
    pub(super) admin: Option<TcpListener>,
    /// The embedded issuer's.
    pub(super) identity: Option<TcpListener>,
    /// The demo upstream's.
    pub(super) echo: Option<TcpListener>,
}

/// The listeners as workers take them.
pub(super) struct PerWorker {
    /// Bound addresses, what they take, and whether they speak TLS.
    pub(super) addresses: Vec<(SocketAddr, Mode, bool)>,
    /// Each worker's sockets.
    pub(super) workers: Vec<Vec<Bound>>,
}

impl Sockets {
    /// Binds everything the settings name.
    pub(super) fn bind(settings: &Settings, workers: usize) -> anyhow::Result<Self> {
        let mut listeners = Vec::new();
        for listener in &settings.listeners {
            let bound = bind_shared(listener.address, workers)
                .with_context(|| format!("[[listeners]] address {}", listener.address))?;
            listeners.push(bound);
        }
        let single = |section: &str, address: Option<SocketAddr>| {
            address
                .map(|address| open(address, false).with_context(|| format!("[{section}] address {address}")))
                .transpose()
        };
        Ok(Self {
            listeners,
            admin: single("admin", settings.admin.as_ref().map(|admin| admin.address))?,
            identity: single("identity", settings.identity.as_ref().map(|identity| identity.address))?,
            echo: single("echo", settings.echo.as_ref().map(|echo| echo.address))?,
        })
    }

    /// Deals the listeners out, with their TLS configurations.
    pub(super) fn per_worker(&mut self, settings: &Settings, store: &Arc<Store>) -> anyhow::Result<PerWorker> {
        let mut addresses = Vec::new();
        let mut workers: Vec<Vec<Bound>> = Vec::new();
        for (index, ((address, sockets), listener)) in self.listeners.drain(..).zip(&settings.listeners).enumerate() {
            let serves = match (listener.mode, listener.tls) {
                (Mode::Http, false) => Serves::Http(None),
                (Mode::Http, true) => {
                    let clients = tls::ClientAuth::load(listener)
                        .with_context(|| format!("[[listeners]] {} client_ca", listener.address))?;
                    let config = tls::server_config(index, store, clients.as_ref())?;
                    Serves::Http(Some(TlsRules { config, clients }))
                }
                (Mode::Stream, _) => Serves::Stream(tls::stream_server_config(index, store)?),
            };
            addresses.push((address, listener.mode, listener.tls));
            let info = Arc::new(ListenerInfo {
                label: address.to_string().into(),
                address: address.ip(),
                port: address.port(),
                tls: listener.tls,
            });
            workers.resize_with(sockets.len().max(workers.len()), Vec::new);
            for (worker, socket) in workers.iter_mut().zip(sockets) {
                worker.push(Bound { socket, info: info.clone(), serves: serves.clone() });
            }
        }
        Ok(PerWorker { addresses, workers })
    }
}

/// One socket per worker on the same address: the kernel spreads connections over them.
fn bind_shared(address: SocketAddr, workers: usize) -> anyhow::Result<(SocketAddr, Vec<TcpListener>)> {
    // A shared port would let a second process of the same user steal connections unnoticed: look first.
    let address = open(address, false)?.local_addr()?;
    let sockets: Vec<TcpListener> = (0..workers).map(|_| open(address, true)).collect::<Result<_, _>>()?;
    Ok((address, sockets))
}

fn open(address: SocketAddr, shared: bool) -> anyhow::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    // Accepted sockets inherit it. Every write is a whole message or as much as there is: nothing to wait for.
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Takes as many descriptors as the system allows: each proxied connection needs two.
pub(super) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map(|()| hard));
    match raised {
        Ok(limit) => tracing::debug!(limit, "file descriptors"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }
}
