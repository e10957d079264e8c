//! Reloads of routes, targets and plugins under load: each of at least 200,000 requests must succeed, and be answered
//! by its own route.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_tests::edge::free_address;
use edge_tests::parties::say;
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::data;
use crate::measure::output;
use crate::peers::{self, UPSTREAM};
use crate::process::{LOAD_CORE, pinned};

/// Runs the load and reloads all through it; fails where a request did.
pub(crate) fn run(folder: &Path, requests: u64, reloads: usize) -> Result<()> {
    fs::create_dir_all(folder)?;
    data::write(folder)?;
    let _upstream = peers::upstream(folder, LOAD_CORE)?;
    let address = free_address();
    let entities = |round: u32| {
        json!({
            "_format_version": "3.0", "upstreams": [upstream(round)],
            "services": [{"name": "up", "host": "pool", "routes": routes(round)}],
        })
    };
    let mut edge = peers::bare_edge(folder, "reload", address, &entities(0), "")?;
    let log = folder.join("reload.log");
    let start = Instant::now();
    while !edge.catches(Signal::SIGHUP) {
        let said = || fs::read_to_string(&log).unwrap_or_default();
        ensure!(!edge.has_ended() && start.elapsed() < Duration::from_secs(20), "the edge does not start:\n{}", said());
        std::thread::sleep(Duration::from_millis(20));
    }

    let mut load = pinned(LOAD_CORE, std::env::current_exe()?);
    load.arg("load").arg(address.to_string()).args(["--seconds", "300", "--requests", &requests.to_string()]);
    load.args(["--routes", &ROUTES.to_string()]);
    let worker = std::thread::spawn(move || output(&mut load));
    let start = Instant::now();
    let mut done = 0;
    // Reloads go on evenly until the load has ended; those after it do not count.
    while !worker.is_finished() {
        done += 1;
        // In one step, so that nobody reads half of it.
        let fresh = folder.join("reload.kong.yaml.new");
        fs::write(&fresh, entities(done).to_string())?;
        fs::rename(fresh, folder.join("reload.kong.yaml"))?;
        edge.signal(Signal::SIGHUP);
        std::thread::sleep(Duration::from_millis(40));
        ensure!(!edge.has_ended(), "the edge has ended; see {}", log.display());
        ensure!(start.elapsed() < Duration::from_secs(300), "the load does not end");
    }
    let loaded = fs::read_to_string(&log)?.matches("configuration loaded").count();
    let answer = worker.join().ok().context("the load generator")??;
    let number = |name: &str| answer[name].as_u64().unwrap_or(0);
    let (served, failed) = (number("requests"), number("unlike_2xx") + number("errors"));
    let wrong = number("wrong_route");
    say(&format!(
        "{failed} failed and {wrong} on a wrong route of {served} requests across {loaded} reloads in {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    ensure!(failed == 0 && wrong == 0 && served >= requests && loaded >= reloads, "{answer}; see {}", log.display());
    Ok(())
}

/// Routes that are asked in turn.
const ROUTES: u32 = 10;

/// The targets change with every reload: the one service, under one, two or three addresses.
fn upstream(round: u32) -> Value {
    let port = UPSTREAM.rsplit(':').next().unwrap_or_default();
    let targets: Vec<_> =
        (1..=1 + round % 3).map(|n| json!({"target": format!("127.0.0.{n}:{port}"), "weight": 10 * n})).collect();
    let algorithm = ["round-robin", "least-connections"][round as usize % 2];
    json!({"name": "pool", "algorithm": algorithm, "targets": targets})
}

/// The routes that are asked say who they are; each reload brings others between them and changes their plugins.
fn routes(round: u32) -> Vec<Value> {
    let asked = (0..ROUTES).map(|n| {
        let mut plugins =
            vec![json!({"name": "response-transformer", "config": {"add": {"headers": [format!("X-Route:{n}")]}}})];
        if (n + round).is_multiple_of(3) {
            plugins.push(json!({"name": "correlation-id", "config": {"generator": "uuid"}}));
        }
        json!({"name": format!("asked-{n}-{}", round % 4), "paths": [format!("/route-{n}/")], "plugins": plugins})
    });
    let others = (0..round % 7).map(|n| {
        json!({"name": format!("other-{round}-{n}"), "paths": [format!("/route-{n}"), format!("~/route-{n}[a-z]+")]})
    });
    let mut all: Vec<_> = others.chain(asked).collect();
    all.rotate_left(round as usize % 5);
    all
}
