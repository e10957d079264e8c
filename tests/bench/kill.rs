//! One of three targets killed under load: how many requests fail, and until when.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use edge_tests::edge::free_address;
use edge_tests::parties::say;
use nix::sys::signal::Signal;
use serde_json::json;

use crate::measure::output;
use crate::peers::{bare_edge, fill, nginx};
use crate::process::{LOAD_CORE, Running, pinned};

/// Requests under way at once.
const CONNECTIONS: usize = 32;
/// How long the load runs before the target dies.
const BEFORE: Duration = Duration::from_secs(2);

/// Runs the load, kills one target, counts; once with tries left for a request that failed and once without.
pub(crate) fn run(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for retries in [5, 0] {
        let targets: Vec<SocketAddr> = (0..3).map(|_| free_address()).collect();
        let mut running = Vec::new();
        for (index, target) in targets.iter().enumerate() {
            running.push(serve(folder, index, *target)?);
        }
        let address = free_address();
        let edge = edge(folder, address, &targets, retries)?;
        let mut load = pinned(LOAD_CORE, std::env::current_exe()?);
        load.arg("load").arg(address.to_string()).args(["--seconds", "8", "--connections", &CONNECTIONS.to_string()]);
        let worker = std::thread::spawn(move || output(&mut load));
        std::thread::sleep(BEFORE);
        running[1].signal(Signal::SIGKILL);
        let answer = worker.join().ok().context("the load generator")??;
        let number = |name: &str| answer[name].as_u64().unwrap_or(0);
        let (served, failed) = (number("requests"), number("unlike_2xx") + number("errors"));
        let last = answer["last_failure_us"].as_u64().map(|us| us as f64 / 1e6 - BEFORE.as_secs_f64());
        let until = last.map_or(String::new(), |last| format!(", the last {last:.2} s after the target died"));
        say(&format!("retries {retries}: {failed} of {served} requests failed{until}"));
        ensure!(failed <= CONNECTIONS as u64, "more than were under way: {answer}");
        drop(edge);
    }
    Ok(())
}

fn serve(folder: &Path, index: usize, address: SocketAddr) -> Result<Running> {
    let file = folder.join(format!("target-{index}.conf"));
    let values = HashMap::from([
        ("FOLDER", folder.display().to_string()),
        ("INDEX", index.to_string()),
        ("ADDRESS", address.to_string()),
    ]);
    fs::write(&file, fill(include_str!("target.conf"), &values))?;
    let mut command = pinned(LOAD_CORE, nginx());
    command.arg("-c").arg(&file).arg("-e").arg(folder.join(format!("target-{index}.err")));
    Running::start(command, &folder.join(format!("target-{index}.log")), &[address])
}

fn edge(folder: &Path, address: SocketAddr, targets: &[SocketAddr], retries: u32) -> Result<Running> {
    let targets: Vec<_> = targets.iter().map(|target| json!({"target": target.to_string()})).collect();
    let checks = json!({
        "active": {"http_path": "/", "healthy": {"interval": 1, "successes": 1},
            "unhealthy": {"interval": 1, "tcp_failures": 1, "timeouts": 1}},
        "passive": {"unhealthy": {"tcp_failures": 1, "timeouts": 1}},
    });
    let entities = json!({
        "_format_version": "3.0",
        "upstreams": [{"name": "pool", "targets": targets, "healthchecks": checks}],
        "services": [{"name": "up", "host": "pool", "retries": retries, "routes": [{"name": "all", "paths": ["/"]}]}],
    });
    bare_edge(folder, "kill", address, &entities, "")
}
