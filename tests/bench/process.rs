//! A program on its core: started, measured, ended.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

/// The core of the upstream and the load generator.
pub(crate) const LOAD_CORE: &str = "0";
/// The core of the proxy.
pub(crate) const PROXY_CORE: &str = "1";

/// A command pinned to a core; with real-time priority as root, so that other work on the machine takes no part.
pub(crate) fn pinned(core: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut words = Vec::new();
    if geteuid().is_root() {
        words.extend(["chrt", "-r", "10"]);
    }
    words.extend(["setpriv", "--pdeathsig", "KILL", "taskset", "-c", core]);
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).arg(program);
    command
}

/// A running program.
pub(crate) struct Running {
    child: Child,
}

/// What a program has used so far.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Time on a CPU of all its threads.
    pub(crate) cpu_ns: u64,
    /// Resident memory.
    pub(crate) resident_kib: u64,
}

impl Running {
    /// Starts a program and waits until it listens everywhere.
    pub(crate) fn start(mut command: Command, log: &Path, addresses: &[SocketAddr]) -> Result<Self> {
        let file = fs::File::create(log)?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start {command:?}"))?;
        let mut running = Self { child };
        let end = Instant::now() + Duration::from_secs(15);
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                if running.child.try_wait()?.is_some() || Instant::now() > end {
                    bail!("{command:?} does not listen on {address}:\n{}", fs::read_to_string(log).unwrap_or_default());
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        Ok(running)
    }

    /// The process and those it started.
    fn pids(&self) -> Vec<u32> {
        let mut pids = vec![self.child.id()];
        let mut next = 0;
        while let Some(&pid) = pids.get(next) {
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            pids.extend(children.split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            next += 1;
        }
        pids
    }

    /// What it has used, threads that live now.
    pub(crate) fn usage(&self) -> Usage {
        let mut usage = Usage::default();
        for pid in self.pids() {
            let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
            for thread in threads.flatten() {
                let text = fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
                usage.cpu_ns += text.split(' ').next().and_then(|ns| ns.parse::<u64>().ok()).unwrap_or(0);
            }
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
            let kib = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse::<u64>().ok());
            usage.resident_kib += kib.unwrap_or(0);
        }
        usage
    }

    /// Whether it has a handler for a signal (proc(5), `SigCgt`).
    pub(crate) fn catches(&self, signal: Signal) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or("0");
        u64::from_str_radix(mask.trim(), 16).unwrap_or(0) & 1 << (signal as u32 - 1) != 0
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), signal);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let pids = self.pids();
        self.signal(Signal::SIGTERM);
        let end = Instant::now() + Duration::from_secs(3);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        for pid in &pids[1..] {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
    }
}
