//! Small requests of a fixed rate beside large downloads at full speed, through each proxy: what a worker does for one
//! client must not keep the others waiting.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use edge_tests::parties::say;
use serde_json::Value;

use crate::data;
use crate::measure::small_p99;
use crate::peers::{Endpoint, peer, upstream};
use crate::process::LOAD_CORE;
use crate::table::median;

/// Who is compared.
const PEERS: [&str; 3] = ["edge", "haproxy", "nginx"];
/// Downloads at a time.
const DOWNLOADS: &str = "8";
/// Bytes of each.
const LARGE: usize = 16 << 20;
/// Seconds of downloads: as long as the small requests take, and a little before and after.
const SECONDS: &str = "7";

/// What one round has shown.
struct Round {
    alone_us: f64,
    beside_us: f64,
    mib: f64,
    cpu_us_per_mib: f64,
}

/// Interleaved rounds over the peers.
pub(crate) fn run(folder: &Path, rounds: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    data::write(folder)?;
    fs::write(folder.join("large"), vec![b'x'; LARGE])?;
    let _upstream = upstream(folder, LOAD_CORE)?;
    let mut shown: [Vec<Round>; PEERS.len()] = Default::default();
    for _ in 0..rounds {
        for (name, shown) in PEERS.iter().zip(&mut shown) {
            let peer = peer(name)?;
            let running = peer.start(folder)?;
            let address = peer.address(Endpoint::Plain);
            small_p99(LOAD_CORE, address)?;
            let alone_us = small_p99(LOAD_CORE, address)?;
            // Without real-time priority: the small requests, which share its core, come first.
            let mut command = Command::new("setpriv");
            command.args(["--pdeathsig", "KILL", "taskset", "-c", LOAD_CORE]).arg(std::env::current_exe()?);
            command.arg("load").arg(address.to_string()).args(["--path", "/large", "--connections", DOWNLOADS]);
            command.args(["--seconds", SECONDS]).stdout(Stdio::piped());
            let before = running.usage();
            let downloads = command.spawn().context("start downloads")?;
            std::thread::sleep(std::time::Duration::from_secs(1));
            let beside_us = small_p99(LOAD_CORE, address)?;
            let answer: Value = serde_json::from_slice(&downloads.wait_with_output()?.stdout)?;
            let mib = answer["requests"].as_f64().unwrap_or(0.0) * (LARGE >> 20) as f64;
            ensure!(mib > 0.0 && answer["errors"] == 0 && answer["unlike_2xx"] == 0, "{name}: {answer}");
            let cpu_us_per_mib = (running.usage().cpu_ns - before.cpu_ns) as f64 / 1e3 / mib;
            shown.push(Round { alone_us, beside_us, mib, cpu_us_per_mib });
        }
    }
    for (name, shown) in PEERS.iter().zip(&shown) {
        let of = |what: fn(&Round) -> f64| median(shown.iter().map(what).collect()).unwrap_or(0.0);
        say(&format!(
            "{name}: p99 of 1,000 small requests/s {:.0} µs beside {DOWNLOADS} downloads, {:.0} without; {:.0} MiB/s, {:.0} \
             µs of CPU for a MiB and what came beside it (medians of {rounds})",
            of(|round| round.beside_us),
            of(|round| round.alone_us),
            of(|round| round.mib) / SECONDS.parse::<f64>()?,
            of(|round| round.cpu_us_per_mib)
        ));
    }
    Ok(())
}
