//! One run after another: warm up, closed loop for CPU per request, open loop for latency.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::data;
use crate::peers::{self, Endpoint, Peer};
use crate::process::{LOAD_CORE, Running, pinned};

/// What is asked of the peers.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    endpoint: Endpoint,
    tokens: &'static str,
    connections: Connections,
    refused: bool,
    /// Whom it makes sense for, beside those that lack the endpoint.
    peers: &'static [&'static str],
}

/// How requests share connections.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Connections {
    /// One after the other over the same ones.
    Kept,
    /// Each has its own.
    New,
    /// Each has its own, whose keys are exchanged by X25519MLKEM768 alone.
    PostQuantum,
}

const VERIFIERS: &[&str] = &["edge", "edge-plugins", "edge-jwt-signer", "haproxy", "haproxy-cache", "envoy"];
const BARE: &[&str] = &["edge", "edge-plugins", "edge-upstream-oauth", "haproxy", "nginx", "envoy"];
const UNCACHED: &[&str] = &["edge-nocache", "edge-jwt-signer-nocache", "haproxy"];
const POST_QUANTUM: &[&str] = &["edge-aws-lc"];
const ASKING: &[&str] = &["edge", "nginx-lua"];

macro_rules! scenario {
    ($name:literal, $what:literal, $endpoint:ident, $tokens:literal, $connections:ident, $refused:literal, $peers:ident) => {
        Scenario {
            name: $name,
            what: $what,
            endpoint: Endpoint::$endpoint,
            tokens: $tokens,
            connections: Connections::$connections,
            refused: $refused,
            peers: $peers,
        }
    };
}

/// Every scenario, in the order of the table.
pub(crate) static SCENARIOS: [Scenario; 14] = [
    scenario!("plain", "forward alone, token ignored", Plain, "rs_hot", Kept, false, BARE),
    scenario!("rs_hot", "one RS256 token", Jwt, "rs_hot", Kept, false, VERIFIERS),
    scenario!("rs_5k", "5,000 RS256 tokens in turn", Jwt, "rs_5k", Kept, false, VERIFIERS),
    scenario!("es_hot", "one ES256 token", Jwt, "es_hot", Kept, false, VERIFIERS),
    scenario!("rs_new", "RS256, every token verified anew", Jwt, "rs_5k", Kept, false, UNCACHED),
    scenario!("badsig", "bad signature, 401", Jwt, "badsig", Kept, true, VERIFIERS),
    scenario!("expired", "expired, 401", Jwt, "expired", Kept, true, VERIFIERS),
    scenario!("badsig_close", "bad signature, new connection each", Jwt, "badsig", New, true, VERIFIERS),
    scenario!("expired_close", "expired, new connection each", Jwt, "expired", New, true, VERIFIERS),
    scenario!("opaque_hot", "one opaque token, its answer kept", Opaque, "opaque_hot", Kept, false, ASKING),
    scenario!("opaque_5k", "5,000 opaque tokens in turn", Opaque, "opaque_5k", Kept, false, ASKING),
    scenario!("tls", "TLS 1.3, one RS256 token", Tls, "rs_hot", Kept, false, VERIFIERS),
    scenario!("tls_hs", "TLS 1.3, full handshake each", Tls, "rs_hot", New, false, VERIFIERS),
    scenario!("tls_pq", "as tls_hs, by X25519MLKEM768", Tls, "rs_hot", PostQuantum, false, POST_QUANTUM),
];

impl Scenario {
    fn suits(&self, peer: &Peer) -> bool {
        (self.peers.contains(&peer.name) || self.peers.contains(&peer.kind()))
            && peer.endpoints.contains(&self.endpoint)
    }
}

/// What one run showed.
pub(crate) struct Run {
    pub(crate) peer: &'static str,
    pub(crate) scenario: &'static str,
    pub(crate) cpu_us: f64,
    pub(crate) rate: f64,
    pub(crate) resident_mib: f64,
    /// p50 and p99 in microseconds at the fixed rate, where one was asked for.
    pub(crate) latency: Option<(f64, f64)>,
}

/// Who is measured by what.
pub(crate) struct Bench {
    folder: PathBuf,
    peers: Vec<&'static Peer>,
    scenarios: Vec<&'static Scenario>,
}

impl Bench {
    /// Looks the names up and writes the data.
    pub(crate) fn new(folder: &Path, names: &[String], wanted: &[String]) -> Result<Self> {
        let cores = std::thread::available_parallelism()?.get();
        ensure!(cores >= 2, "a comparison needs two cores, one for the proxy and one for all others");
        // nginx reads its files as another user.
        std::fs::create_dir_all(folder)?;
        data::write(folder)?;
        let peers = names.iter().map(|name| peers::peer(name)).collect::<Result<Vec<_>>>()?;
        for name in wanted {
            if !SCENARIOS.iter().any(|scenario| scenario.name == name) {
                let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
                bail!("no scenario {name:?}; there are {}", names.join(", "));
            }
        }
        let chosen = |scenario: &&Scenario| wanted.is_empty() || wanted.iter().any(|name| name == scenario.name);
        Ok(Self { folder: folder.to_owned(), peers, scenarios: SCENARIOS.iter().filter(chosen).collect() })
    }

    /// Interleaved rounds over all peers.
    pub(crate) fn run(&self, rounds: usize, seconds: f64, rate: u32) -> Result<Vec<Run>> {
        let _upstream = peers::upstream(&self.folder, LOAD_CORE)?;
        let mut runs = Vec::new();
        for round in 1..=rounds {
            for peer in &self.peers {
                let running = peer.start(&self.folder)?;
                for scenario in self.scenarios.iter().filter(|scenario| scenario.suits(peer)) {
                    let run = self.one(peer, scenario, &running, seconds, rate)?;
                    eprintln!("==> round {round}/{rounds} {:14} {:14} {:7.2} µs", peer.name, scenario.name, run.cpu_us);
                    runs.push(run);
                }
            }
        }
        Ok(runs)
    }

    fn one(&self, peer: &Peer, scenario: &Scenario, running: &Running, seconds: f64, rate: u32) -> Result<Run> {
        self.load(peer, scenario, seconds.min(1.0), 32, 0)?;
        let (before, start) = (running.usage(), Instant::now());
        let answer = self.load(peer, scenario, seconds, 32, 0)?;
        let (after, took) = (running.usage(), start.elapsed());
        let number = |name: &str| answer[name].as_f64().unwrap_or(0.0);
        let requests = number("requests");
        let unlike = number("unlike_2xx");
        let wrong = if scenario.refused { requests - unlike } else { unlike };
        ensure!(
            requests > 0.0 && wrong == 0.0 && number("errors") * 1000.0 <= requests,
            "{} {}: {wrong} of {requests} answers are wrong: {answer}",
            peer.name,
            scenario.name
        );
        let latency = if scenario.endpoint == Endpoint::Tls || scenario.connections != Connections::Kept || rate == 0 {
            None
        } else {
            let answer = self.load(peer, scenario, seconds, 16, rate)?;
            Some((answer["p50"].as_f64().unwrap_or(0.0), answer["p99"].as_f64().unwrap_or(0.0)))
        };
        Ok(Run {
            peer: peer.name,
            scenario: scenario.name,
            cpu_us: (after.cpu_ns - before.cpu_ns) as f64 / requests / 1e3,
            rate: requests / took.as_secs_f64(),
            resident_mib: after.resident_kib as f64 / 1024.0,
            latency,
        })
    }

    /// Runs the load generator on its core.
    fn load(&self, peer: &Peer, scenario: &Scenario, seconds: f64, connections: usize, rate: u32) -> Result<Value> {
        let mut command = pinned(LOAD_CORE, std::env::current_exe()?);
        command.arg("load").arg(peer.address(scenario.endpoint).to_string());
        command.args(["--seconds", &seconds.to_string(), "--connections", &connections.to_string()]);
        command.args(["--rate", &rate.to_string()]).arg("--tokens").arg(self.folder.join(scenario.tokens));
        if scenario.connections != Connections::Kept {
            command.arg("--close");
        }
        if scenario.connections == Connections::PostQuantum {
            command.arg("--post-quantum");
        }
        if scenario.endpoint == Endpoint::Tls {
            command.arg("--tls").arg(self.folder.join("root.crt"));
        }
        output(&mut command)
    }
}

/// The p99 of 1,000 small requests a second from a core, in µs; none may fail.
pub(crate) fn small_p99(core: &str, address: SocketAddr) -> Result<f64> {
    let mut command = pinned(core, std::env::current_exe()?);
    command.arg("load").arg(address.to_string());
    command.args(["--rate", "1000", "--connections", "16", "--seconds", "4"]);
    let answer = output(&mut command)?;
    ensure!(answer["errors"] == 0 && answer["unlike_2xx"] == 0, "{answer}");
    answer["p99"].as_f64().context("no p99")
}

/// Runs a load generator and reads its line.
pub(crate) fn output(command: &mut Command) -> Result<Value> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.trim())
        .with_context(|| format!("{command:?}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}
