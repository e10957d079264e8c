//! Every socket the process listens on, bound before privileges are dropped, or taken over from the running edge.

use std::collections::HashSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use anyhow::Context as _;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::socket::{setsockopt, sockopt::SetStruct};
use nix::{libc, setsockopt_impl};
use socket2::{Domain, Socket, Type};

use crate::control::{Listening, Purpose};
use crate::kernel::{self, Kernel, Lane, Vips};
use crate::proxy::connection::{ListenerInfo, Rejects};
use crate::proxy::listener::{Bound, LaneSocket};
use crate::settings::{KernelReject, Listener, Mode, PortRange, Settings};

/// Connections the kernel queues per socket; `net.core.somaxconn` may lower it.
const BACKLOG: i32 = 4096;

/// How long a connection may stay without a byte before it is accepted nevertheless, at listeners with
/// `kernel_reject`: until then a request that the kernel refuses costs userspace nothing at all.
const DEFER_SECS: i32 = 5;

/// Bytes of an answer that the kernel takes before they can be sent. Without a bound it takes megabytes for each client that
/// does not read, and all of the machine's connections share what it has for that.
const UNSENT_BYTES: u32 = 64 << 10;

/// `TCP_NOTSENT_LOWAT` (tcp(7)), in bytes; accepted connections inherit it.
#[derive(Clone)]
struct NotSentLowat;
setsockopt_impl!(NotSentLowat, libc::IPPROTO_TCP, libc::TCP_NOTSENT_LOWAT, u32, SetStruct<'_, u32>);

/// `TCP_DEFER_ACCEPT` (tcp(7)), in seconds; 0 is off.
#[derive(Clone)]
struct DeferAccept;
setsockopt_impl!(DeferAccept, libc::IPPROTO_TCP, libc::TCP_DEFER_ACCEPT, i32, SetStruct<'_, i32>);

/// The bound sockets.
pub(super) struct Sockets {
    /// All of them once more, by the address that the settings name: for the next generation.
    pub(super) listening: Listening,
    /// One per listener of the settings.
    listeners: Vec<Opened>,
    workers: usize,
    lanes: usize,
    /// The Admin API's.
    pub(super) admin: Option<TcpListener>,
    /// The embedded issuer's.
    pub(super) identity: Option<TcpListener>,
    /// The demo upstream's.
    pub(super) echo: Option<TcpListener>,
}

/// The sockets of one listener.
struct Opened {
    /// Where they are bound.
    address: SocketAddr,
    /// One for each lane and worker, lane by lane; more where another generation had more.
    sockets: Vec<TcpListener>,
    /// The one that virtual addresses lead to, where there are some. It stands in no lane: the kernel keeps one such
    /// place a socket.
    entrance: Option<TcpListener>,
}

/// The listeners as workers take them.
pub(super) struct PerWorker {
    /// Bound addresses, what they take, and whether they speak TLS.
    pub(super) addresses: Vec<(SocketAddr, Mode, bool)>,
    /// Each worker's sockets.
    pub(super) workers: Vec<Vec<Bound>>,
}

impl Sockets {
    /// Has the kernel choose among the listeners' sockets, and find them by virtual addresses.
    pub(super) fn attach(&self, settings: &Settings, kernel: &mut Kernel) -> Result<(), kernel::Error> {
        let mut entrances = Vec::new();
        for (number, Opened { sockets, entrance, .. }) in (0..).zip(&self.listeners) {
            match self.lanes {
                // The program of another generation would choose by maps that nobody feeds any more.
                1 => sockets.first().into_iter().for_each(kernel::unsteer),
                _ => kernel.steer(&sockets[..self.lanes * self.workers])?,
            }
            entrances.extend(entrance.as_ref().map(|entrance| (number, entrance)));
        }
        if !entrances.is_empty() {
            kernel.attach_vips(&vips(settings), &entrances)?;
        }
        Ok(())
    }

    /// Binds everything the settings name that does not come from another generation. What that has and the settings
    /// do not name stays with it, and ends with it.
    pub(super) fn bind(
        settings: &Settings,
        workers: usize,
        lanes: usize,
        mut inherited: Listening,
    ) -> anyhow::Result<Self> {
        let mut listening = Listening::default();
        let mut listeners = Vec::new();
        for (index, listener) in settings.listeners.iter().enumerate() {
            let address = listener.address;
            let same = settings.listeners[..index].iter().filter(|other| other.address == address).count();
            let purpose = Purpose::Listener(address, same);
            let place = || format!("[[listeners]] address {address}");
            let (bound, sockets) = share(address, inherited.take(purpose), workers * lanes).with_context(place)?;
            listening.keep(purpose, &sockets).with_context(place)?;
            let entrance = match listener.has_vips() {
                false => None,
                true => {
                    let purpose = Purpose::Entrance(address, same);
                    let socket = match inherited.take(purpose).pop() {
                        Some(socket) => socket,
                        None => open(bound, true).with_context(place)?,
                    };
                    listening.keep(purpose, std::slice::from_ref(&socket)).with_context(place)?;
                    Some(socket)
                }
            };
            let defer_secs = if listener.kernel_reject == KernelReject::Off { 0 } else { DEFER_SECS };
            for socket in sockets.iter().chain(&entrance) {
                setsockopt(socket, DeferAccept, &defer_secs).with_context(place)?;
                setsockopt(socket, NotSentLowat, &UNSENT_BYTES).with_context(place)?;
            }
            listeners.push(Opened { address: bound, sockets, entrance });
        }
        let mut single = |section: &str, purpose: fn(SocketAddr) -> Purpose, address: Option<SocketAddr>| {
            let Some(address) = address else { return Ok(None) };
            let (place, purpose) = (|| format!("[{section}] address {address}"), purpose(address));
            let socket = match inherited.take(purpose).pop() {
                Some(socket) => socket,
                None => open(address, false).with_context(place)?,
            };
            listening.keep(purpose, std::slice::from_ref(&socket)).with_context(place)?;
            anyhow::Ok(Some(socket))
        };
        let admin = single("admin", Purpose::Admin, settings.admin.as_ref().map(|admin| admin.address))?;
        let identity =
            single("identity", Purpose::Identity, settings.identity.as_ref().map(|identity| identity.address))?;
        let echo = single("echo", Purpose::Echo, settings.echo.as_ref().map(|echo| echo.address))?;
        Ok(Self { listening, listeners, workers, lanes, admin, identity, echo })
    }

    /// Deals the listeners out.
    pub(super) fn per_worker(&mut self, settings: &Settings) -> PerWorker {
        let mut addresses = Vec::new();
        let mut workers: Vec<Vec<Bound>> = std::iter::repeat_with(Vec::new).take(self.workers).collect();
        let shares = match self.lanes {
            1 => vec![Lane::Good.share()],
            _ => Lane::ALL.map(Lane::share).to_vec(),
        };
        for (index, (opened, listener)) in self.listeners.drain(..).zip(&settings.listeners).enumerate() {
            let Opened { address, sockets, entrance } = opened;
            addresses.push((address, listener.mode, listener.tls));
            let info = Arc::new(ListenerInfo {
                label: address.to_string().into(),
                address: address.ip(),
                port: address.port(),
                index,
                tls: listener.tls,
                has_vips: listener.has_vips(),
                proxy_protocol: listener.proxy_protocol,
                rejects: (listener.kernel_reject != KernelReject::Off)
                    .then_some(Rejects { listener: index as u32, keeps: listener.kernel_reject == KernelReject::Kept }),
            });
            let mut bound: Vec<Vec<LaneSocket>> = workers.iter().map(|_| Vec::new()).collect();
            // Another generation may have had more workers or lanes: each of its queues is somebody's.
            for (index, socket) in sockets.into_iter().chain(entrance).enumerate() {
                let share = shares.get(index / self.workers).copied().unwrap_or(Lane::Unknown.share());
                bound[index % self.workers].push(LaneSocket { socket, share });
            }
            for (worker, sockets) in workers.iter_mut().zip(bound) {
                worker.push(Bound { sockets, info: info.clone(), mode: listener.mode });
            }
        }
        PerWorker { addresses, workers }
    }
}

/// The virtual addresses of the listeners, as the kernel takes them.
pub(super) fn vips(settings: &Settings) -> Vec<Vips> {
    let numbered = (0..).zip(&settings.listeners).filter(|(_, listener)| listener.has_vips());
    let vips = |(number, listener): (u32, &Listener)| Vips {
        listener: number,
        prefixes: listener.vips.clone(),
        ports: listener.ports.clone(),
    };
    numbered.map(vips).collect()
}

/// The ports at which a connection is the edge's: those of its listeners and of their virtual addresses.
pub(super) fn guarded_ports(own: &[u16], settings: &Settings) -> HashSet<u16> {
    let virtual_ports = settings.listeners.iter().flat_map(|listener| &listener.ports).flat_map(PortRange::iter);
    own.iter().copied().chain(virtual_ports).collect()
}

/// So many sockets on the same address: the kernel spreads connections over them.
fn share(
    address: SocketAddr,
    inherited: Vec<TcpListener>,
    count: usize,
) -> anyhow::Result<(SocketAddr, Vec<TcpListener>)> {
    let address = match inherited.first() {
        Some(socket) => socket.local_addr()?,
        // A shared port would let a second process of the same user steal connections unnoticed: look first.
        None => open(address, false)?.local_addr()?,
    };
    let mut sockets = inherited;
    while sockets.len() < count {
        sockets.push(open(address, true)?);
    }
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
