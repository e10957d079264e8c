//! Slow clients beside good ones: heads, bodies and answers at a trickle, by slowhttptest.
//!
//! The attacker has a core of its own. It keeps that busy, and a kernel without preemption ends what it does for the
//! attacker before it lets anyone else in: good clients on the same core would wait for that, not for the edge. They and
//! their upstream are on the core of the edge, which is where an attack may cost them something. What else the machine has
//! to do stays away from there: the scheduler takes the attacker's core for a free one, and all sockets are in a network
//! namespace that nobody lists. One attacker, because each asks for its answer at full speed now and then, as a probe.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_tests::edge::free_address;
use edge_tests::parties::say;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::geteuid;
use serde_json::json;

use crate::data;
use crate::measure::small_p99;
use crate::peers::{UPSTREAM, bare_edge, upstream};
use crate::process::{LOAD_CORE as ATTACK_CORE, PROXY_CORE, Running};
use crate::table::median;

/// Slow connections.
const SLOW: u64 = 4000;
/// Where the services are (see `upstream.conf`).
const ELSEWHERE: &str = "127.0.0.4";
/// As long as slowhttptest takes to open them and the edge to come to rest, and those of them that the edge must hold by then.
const OPENING: Duration = Duration::from_secs(30);
const HELD: u64 = SLOW * 95 / 100;
/// What one of them may cost: a head as long as `limits.head_bytes` lets it be, what is on its way, and its task.
const EACH_KIB: u64 = 64;
/// How much longer good clients may wait beside them.
const MOST_RATIO: f64 = 2.0;
/// `limits.buffered_bytes`: what is held for all of them.
const ALL_KIB: u64 = 256 << 10;

/// The attacks: name, slowhttptest's arguments, and what is asked for.
const ATTACKS: [(&str, &[&str], &str); 3] = [
    ("heads", &["-H", "-i", "5", "-x", "24"], ""),
    ("bodies", &["-B", "-i", "5", "-s", "8192", "-x", "10"], ""),
    ("answers", &["-X", "-n", "5", "-z", "32", "-w", "512", "-y", "1024"], "large"),
];
/// What the edge does in a second in which it has nothing but slow clients.
const CALM_NS: u64 = 50_000_000;
/// Bytes of a large answer.
const LARGE: usize = 1 << 20;

/// Good requests of a fixed rate, alone and beside each attack.
pub(crate) fn run(folder: &Path, rounds: usize) -> Result<()> {
    apart()?;
    fs::create_dir_all(folder)?;
    data::write(folder)?;
    let _upstream = upstream(folder, PROXY_CORE)?;
    fs::write(folder.join("large"), vec![b'x'; LARGE])?;
    for (name, arguments, path) in ATTACKS {
        let (mut alone, mut beside, mut cost_kib) = (Vec::new(), Vec::new(), 0);
        let bound_kib = EACH_KIB + ALL_KIB / SLOW;
        for _ in 0..rounds {
            let address = free_address();
            let edge = edge(folder, address)?;
            small_p99(PROXY_CORE, address)?;
            alone.push(small_p99(PROXY_CORE, address)?);
            let before = edge.usage().resident_kib;
            let attack = Attack::start(folder, address, arguments, path)?;
            let held = attack.wait(&edge)?;
            beside.push(small_p99(PROXY_CORE, address)?);
            cost_kib = cost_kib.max(edge.usage().resident_kib.saturating_sub(before) / held);
            ensure!(attack.held() >= HELD, "the slow connections have gone meanwhile");
        }
        let (alone, beside) = (median(alone).unwrap_or(0.0), median(beside).unwrap_or(0.0));
        say(&format!(
            "slow {name}, {SLOW} connections, beside 1,000 good/s: good p99 {beside:.0} µs, {alone:.0} without (ratio \
             {:.2}; medians of {rounds}); {cost_kib} KiB at most for each",
            beside / alone
        ));
        ensure!(cost_kib <= bound_kib, "a slow connection costs more than {bound_kib} KiB");
        ensure!(beside <= MOST_RATIO * alone, "good clients wait more than {MOST_RATIO} times as long");
    }
    Ok(())
}

/// Moves this process, and so all that it starts, to a network namespace with nothing but a loopback interface, as root.
fn apart() -> Result<()> {
    if !geteuid().is_root() {
        return Ok(());
    }
    unshare(CloneFlags::CLONE_NEWNET).context("a network namespace")?;
    let status = Command::new("ip").args(["link", "set", "lo", "up"]).status().context("start ip")?;
    ensure!(status.success(), "ip link set lo up: {status}");
    Ok(())
}

/// An edge that waits for slow ones longer than a round takes.
fn edge(folder: &Path, address: SocketAddr) -> Result<Running> {
    let routes = json!([{"name": "all", "paths": ["/"]}]);
    let port = UPSTREAM.parse::<SocketAddr>()?.port();
    let services = json!([{"name": "up", "url": format!("http://{ELSEWHERE}:{port}"), "routes": routes}]);
    let entities = json!({"_format_version": "3.0", "services": services});
    bare_edge(folder, "slow", address, &entities, "[timeouts]\nrequest_head = 60000\n")
}

/// A running slowhttptest; it ends with this.
struct Attack {
    _slowhttptest: Running,
    address: SocketAddr,
}

impl Attack {
    fn start(folder: &Path, address: SocketAddr, arguments: &[&str], path: &str) -> Result<Self> {
        let mut command = Command::new("chrt");
        command.args(["--idle", "0", "setpriv", "--pdeathsig", "KILL", "taskset", "-c", ATTACK_CORE]);
        command.arg("slowhttptest").args(arguments).arg("-c").arg(SLOW.to_string());
        command.args(["-r", "1000", "-l", "60", "-p", "5", "-u"]).arg(format!("http://{address}/{path}"));
        command.current_dir(folder);
        Ok(Self { _slowhttptest: Running::start(command, &folder.join("slowhttptest.log"), &[])?, address })
    }

    /// How many connections to the edge are open (proc(5), `net/tcp`).
    fn held(&self) -> u64 {
        const ESTABLISHED: &str = "01";
        let port = format!(":{:04X}", self.address.port());
        let is_held = |line: &&str| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|local| local.ends_with(&port)) && words.nth(1) == Some(ESTABLISHED)
        };
        fs::read_to_string("/proc/net/tcp").unwrap_or_default().lines().filter(is_held).count() as u64
    }

    /// Waits until the edge holds them; how many it does.
    fn wait(&self, edge: &Running) -> Result<u64> {
        let end = Instant::now() + OPENING;
        while self.held() < HELD {
            ensure!(Instant::now() < end, "{} connections are open, not {HELD}", self.held());
            thread::sleep(Duration::from_millis(50));
        }
        // What fits into buffers is on its way to them.
        let busy = |before: u64| edge.usage().cpu_ns.saturating_sub(before) > CALM_NS;
        loop {
            let before = edge.usage().cpu_ns;
            thread::sleep(Duration::from_secs(1));
            if !busy(before) {
                return Ok(self.held());
            }
            ensure!(Instant::now() < end, "the edge does not come to rest");
        }
    }
}
