//! Two hosts in network namespaces, joined by a veth pair. Names carry this process's id; dropping removes them.

use std::{
    fs::{self, File},
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
    thread,
    time::Duration,
};

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Socket, Type};

use crate::cable::Cable;

const PREFIX: &str = "edge-kernel-test";
const PLACE: &str = "/run/netns";

/// The server's interface, where programs are attached.
pub(crate) const INTERFACE: &str = "edge0";
/// The client's.
pub(crate) const PEER: &str = "edge1";

pub(crate) struct Namespace {
    name: String,
}

impl Namespace {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        crate::require_root();
        sweep();
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self { name: format!("{PREFIX}-{}-{count}", std::process::id()) };
        ip(&["netns", "add", &namespace.name]);
        namespace.ip(&["link", "set", "lo", "up"]);
        namespace
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Runs `ip` within.
    pub(crate) fn ip(&self, args: &[&str]) -> String {
        ip(&[&["-n", &self.name], args].concat())
    }

    /// Runs the work on a thread of its own within.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        enter(&self.name, work)
    }

    /// What the kernel says of a program on the interface: `xdp`, `xdpgeneric`, or nothing.
    pub(crate) fn program(&self, interface: &str) -> Option<&'static str> {
        let shown = self.ip(&["link", "show", "dev", interface]);
        let words: Vec<&str> = shown.split_whitespace().collect();
        ["xdpgeneric", "xdp"].into_iter().find(|word| words.contains(word))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Not `ip`: a panic while another unwinds would end the process.
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs the work on a thread of its own within the namespace of this name.
pub(crate) fn enter<T: Send>(name: &str, work: impl FnOnce() -> T + Send) -> T {
    let file = File::open(Path::new(PLACE).join(name)).unwrap();
    thread::scope(|scope| {
        let inside = scope.spawn(move || {
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Removes what killed test processes left behind.
fn sweep() {
    let Ok(entries) = fs::read_dir(PLACE) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let pid = name.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).map(str::to_owned);
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
}

fn ip(args: &[&str]) -> String {
    let output = Command::new("ip").args(args).output().expect("kernel tests need iproute2 (cargo xtask setup)");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {}: {complaint}", args.join(" "));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A server with addresses ending in 1, and a client with addresses ending in 2 and 3.
pub(crate) struct Hosts {
    pub(crate) server: Namespace,
    pub(crate) client: Namespace,
}

impl Hosts {
    pub(crate) fn new() -> Self {
        let hosts = Self { server: Namespace::new(), client: Namespace::new() };
        let (server, client) = (hosts.server.name.as_str(), hosts.client.name.as_str());
        ip(&["link", "add", INTERFACE, "netns", server, "type", "veth", "peer", "name", PEER, "netns", client]);
        hosts.begin();
        hosts
    }

    /// The same with a cable between them.
    pub(crate) fn over_cable() -> (Self, Cable) {
        const END: &str = "edge2";
        let hosts = Self { server: Namespace::new(), client: Namespace::new() };
        let places = [Namespace::new(), Namespace::new()];
        for (host, interface, place) in [(&hosts.server, INTERFACE, &places[0]), (&hosts.client, PEER, &places[1])] {
            let (host, place) = (host.name.as_str(), place.name.as_str());
            ip(&["link", "add", interface, "netns", host, "type", "veth", "peer", "name", END, "netns", place]);
            ip(&["-n", place, "link", "set", END, "up"]);
        }
        hosts.begin();
        (hosts, Cable::new(places, END))
    }

    /// Gives interfaces their addresses.
    fn begin(&self) {
        for (namespace, interface, hosts) in [(&self.server, INTERFACE, &["1"][..]), (&self.client, PEER, &["2", "3"])]
        {
            namespace.ip(&["link", "set", interface, "up"]);
            for host in hosts {
                namespace.ip(&["address", "add", &format!("10.9.0.{host}/24"), "dev", interface]);
                namespace.ip(&["address", "add", &format!("fd00:9::{host}/64"), "dev", interface, "nodad"]);
            }
        }
    }

    /// Starts a server that answers each connection with the peer's address, for as long as the process lives.
    pub(crate) fn serve(&self) -> u16 {
        let listener = self.server.run(|| TcpListener::bind("[::]:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for mut connection in listener.incoming().flatten() {
                let peer = connection.peer_addr().unwrap().ip().to_canonical();
                let _ = connection.write_all(peer.to_string().as_bytes());
            }
        });
        port
    }

    /// Connects from one address to another: what the server answers, or why not.
    pub(crate) fn connect(&self, source: &str, server: &str, port: u16) -> io::Result<String> {
        let (source, server): (IpAddr, IpAddr) = (source.parse().unwrap(), server.parse().unwrap());
        self.client.run(|| {
            let server = SocketAddr::new(server, port);
            let socket = Socket::new(Domain::for_address(server), Type::STREAM, None)?;
            socket.bind(&SocketAddr::new(source, 0).into())?;
            // A dropped SYN is repeated after a second; whoever gets through does so at once.
            socket.connect_timeout(&server.into(), Duration::from_millis(700))?;
            let mut answer = String::new();
            TcpStream::from(socket).read_to_string(&mut answer)?;
            Ok(answer)
        })
    }
}
