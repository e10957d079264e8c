//! Local routes to virtual addresses: what makes the kernel take their packets for its own.
//!
//! A process of its own sets them, since a route needs CAP_NET_ADMIN, which the edge gives up, and may change with the
//! settings. It has nothing else, does nothing else, and takes its routes back when the edge's end of its standard input
//! closes, however the edge ended.

use std::collections::BTreeSet;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use caps::{CapSet, Capability, CapsHashSet};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use nix::libc;
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{User, geteuid, setgid, setuid};
use serde::{Deserialize, Serialize};

use crate::settings::Cidr;

/// The hidden command that makes a process the keeper.
pub const COMMAND: &str = "keep-routes";
/// Who set a route, for `ip route`: a number that nobody has registered (rtnetlink(7), `rtm_protocol`).
const PROTOCOL: RouteProtocol = RouteProtocol::Other(237);
/// The kernel's table of local addresses (RT_TABLE_LOCAL).
const LOCAL_TABLE: u8 = 255;
const LOOPBACK: &str = "lo";

/// Why routes could not be set.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The keeper cannot be started or talked to.
    #[error("the keeper of local routes")]
    Keeper(#[from] io::Error),
    /// The keeper's answer is none.
    #[error("the keeper of local routes answers what is not understood")]
    Answer(#[from] serde_json::Error),
    /// The kernel refuses.
    #[error("{0}")]
    Refused(String),
}

/// What the keeper is told.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Order {
    /// Have these routes and no others of ours. `adopt`: those that are there already are ours, another generation's.
    Have { prefixes: Vec<String>, adopt: bool },
    /// Leave all of them to the next generation.
    Leave,
}

/// What it did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Routes it added.
    pub added: Vec<String>,
    /// Routes it removed.
    pub removed: Vec<String>,
    /// What the kernel refused, and why.
    pub refused: Vec<String>,
}

/// The edge's end of the keeper.
pub struct Routes {
    keeper: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Routes {
    /// Starts the keeper, while this process may do what the keeper will.
    pub fn start(user: Option<&str>) -> Result<Self, Error> {
        let mut command = Command::new("/proc/self/exe");
        command.arg(COMMAND).args(user).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut keeper = command.spawn()?;
        let orders = keeper.stdin.take();
        let answers = keeper.stdout.take().ok_or(io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(Self { keeper, orders, answers: BufReader::new(answers) })
    }

    /// Has local routes to these prefixes and no others.
    pub fn have(&mut self, prefixes: &[Cidr], adopt: bool) -> Result<Changed, Error> {
        let prefixes = prefixes.iter().map(ToString::to_string).collect();
        self.order(&Order::Have { prefixes, adopt })
    }

    /// Leaves the routes to the next generation.
    pub fn leave(&mut self) -> Result<Changed, Error> {
        self.order(&Order::Leave)
    }

    fn order(&mut self, order: &Order) -> Result<Changed, Error> {
        let orders = self.orders.as_mut().ok_or(io::Error::from(io::ErrorKind::BrokenPipe))?;
        let mut line = serde_json::to_vec(order)?;
        line.push(b'\n');
        orders.write_all(&line)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        Ok(serde_json::from_str(&answer)?)
    }
}

impl Drop for Routes {
    fn drop(&mut self) {
        // The keeper takes its routes back and ends.
        self.orders = None;
        let _ = self.keeper.wait();
    }
}

/// The keeper's own work, until its standard input ends. `user`: whom it becomes, with CAP_NET_ADMIN alone.
pub fn keep(user: Option<&str>) -> anyhow::Result<()> {
    // What ends the edge goes to the whole group; the keeper ends after it.
    SigSet::from_iter([Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]).thread_block()?;
    restrict(user)?;
    let mut table = Table::open()?;
    let mut had = BTreeSet::new();
    for line in io::stdin().lock().lines() {
        let changed = match serde_json::from_str(&line?)? {
            Order::Leave => {
                had.clear();
                Changed::default()
            }
            Order::Have { prefixes, adopt } => table.apply(&mut had, prefixes.into_iter().collect(), adopt),
        };
        let mut out = io::stdout().lock();
        serde_json::to_writer(&mut out, &changed)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    table.apply(&mut had, BTreeSet::new(), false);
    Ok(())
}

fn restrict(user: Option<&str>) -> anyhow::Result<()> {
    if let Some(name) = user
        && geteuid().is_root()
        && let Some(user) = User::from_name(name)?
    {
        nix::sys::prctl::set_keepcaps(true)?;
        setgid(user.gid)?;
        setuid(user.uid)?;
    }
    let only: CapsHashSet = [Capability::CAP_NET_ADMIN].into();
    for set in [CapSet::Ambient, CapSet::Inheritable] {
        caps::clear(None, set)?;
    }
    caps::set(None, CapSet::Effective, &only)?;
    Ok(caps::set(None, CapSet::Permitted, &only)?)
}

/// The kernel's routes, over netlink.
struct Table {
    socket: Socket,
    loopback: u32,
}

impl Table {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        let loopback = nix::net::if_::if_nametoindex(LOOPBACK)?;
        Ok(Self { socket, loopback })
    }

    /// Makes `had` what is desired, as far as the kernel lets us.
    fn apply(&mut self, had: &mut BTreeSet<String>, desired: BTreeSet<String>, adopt: bool) -> Changed {
        let mut changed = Changed::default();
        let gone: Vec<String> = had.difference(&desired).cloned().collect();
        for prefix in gone {
            match self.change(&prefix, false) {
                Ok(()) => changed.removed.push(prefix.clone()),
                // Somebody else took it away.
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {}
                Err(error) => changed.refused.push(format!("{prefix}: {error}")),
            }
            had.remove(&prefix);
        }
        let new: Vec<String> = desired.difference(had).cloned().collect();
        for prefix in new {
            match self.change(&prefix, true) {
                Ok(()) => changed.added.push(prefix.clone()),
                Err(error) if adopt && error.raw_os_error() == Some(libc::EEXIST) => {}
                // Somebody else's, who will take it away again: it serves as well as ours.
                Err(error) if error.raw_os_error() == Some(libc::EEXIST) => continue,
                Err(error) => {
                    changed.refused.push(format!("{prefix}: {error}"));
                    continue;
                }
            }
            had.insert(prefix);
        }
        changed
    }

    fn change(&self, prefix: &str, add: bool) -> io::Result<()> {
        let prefix = Cidr::parse(prefix).ok_or(io::ErrorKind::InvalidInput)?;
        let mut route = RouteMessage::default();
        let is_v4 = prefix.address().is_ipv4();
        route.header = RouteHeader {
            address_family: if is_v4 { AddressFamily::Inet } else { AddressFamily::Inet6 },
            destination_prefix_length: prefix.prefix_bits(),
            table: LOCAL_TABLE,
            protocol: PROTOCOL,
            scope: if is_v4 { RouteScope::Host } else { RouteScope::Universe },
            kind: RouteType::Local,
            ..RouteHeader::default()
        };
        route.attributes =
            vec![RouteAttribute::Destination(prefix.address().into()), RouteAttribute::Oif(self.loopback)];
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | if add { NLM_F_CREATE | NLM_F_EXCL } else { 0 };
        let payload = if add { RouteNetlinkMessage::NewRoute(route) } else { RouteNetlinkMessage::DelRoute(route) };
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(payload));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0)?;
        let (answer, _) = self.socket.recv_from_full()?;
        match NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer).map_err(io::Error::other)?.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Err(error.to_io()),
            NetlinkPayload::Error(_) => Ok(()),
            other => Err(io::Error::other(format!("the kernel answers {other:?}"))),
        }
    }
}
