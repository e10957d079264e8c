//! Opaque tokens over sockets (RFC 7662; security properties, 6): what is asked, what of the answer counts, how long,
//! and what an issuer that fails costs.

mod answers;
mod cache;
mod clients;
mod outages;
mod requests;
mod signed;
mod strategy;

use std::sync::Barrier;
use std::time::{Duration, Instant};

use edge_tests::edge::{Edge, READY, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{entities, guarded, plus, with_token};

/// The secret of the edge at the harness's issuer.
const SECRET: &str = "edge-secret-of-the-tests-0123456789";

/// The plugin's configuration where an issuer is asked about tokens.
fn asking(issuer: &str) -> Value {
    json!({"issuer": issuer, "auth_methods": ["introspection"], "client_id": ["edge"], "client_secret": [SECRET]})
}

/// What an issuer says of a good token.
fn active() -> Value {
    json!({"active": true, "sub": "alice", "client_id": "app", "scope": "orders:read"})
}

/// An upstream, an issuer that knows opaque tokens, and an edge that guards the one by the other.
struct Opaque {
    edge: Edge,
    upstream: Upstream,
    issuer: Issuer,
}

impl Opaque {
    fn start() -> Self {
        Self::with(json!({}))
    }

    /// With more of the plugin's configuration.
    fn with(config: Value) -> Self {
        Self::set_up(config, |setup| setup)
    }

    fn set_up(config: Value, change: impl FnOnce(Setup) -> Setup) -> Self {
        let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
        let config = plus(asking(&issuer.url()), config);
        let edge = change(Setup::new(guarded(&upstream.url(), config))).start();
        Self { edge, upstream, issuer }
    }

    /// The same with one route a row, `/r00` on, each with an endpoint and so with a breaker of its own, `/i/r00` on.
    fn rows(count: usize, config: Value) -> Self {
        let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
        let route = |row: usize| {
            let endpoint = json!({"introspection_endpoint": format!("{}/i/{}", issuer.url(), name(row))});
            let config = plus(plus(asking(&issuer.url()), config.clone()), endpoint);
            let plugins = json!([{"name": "openid-connect", "config": config}]);
            json!({"name": name(row), "paths": [format!("/{}", name(row))], "plugins": plugins})
        };
        let routes = (0..count).map(route).collect();
        let edge = Setup::new(entities(&upstream.url(), routes)).start();
        Self { edge, upstream, issuer }
    }

    /// The answer to a request with this token.
    fn ask(&self, token: &str) -> Message {
        self.edge.ask(with_token(token))
    }

    /// The answer to one at a row's route.
    fn ask_row(&self, row: usize, token: &str) -> Message {
        self.edge.ask(get(&format!("/{}", name(row)), &[&format!("Authorization: Bearer {token}")]))
    }

    /// Asks until this status comes, at most for a while.
    fn until(&self, token: &str, status: u16) {
        wait(|| self.ask(token).status() == status, &format!("{status} for {token}"));
    }
}

fn name(row: usize) -> String {
    format!("r{row:02}")
}

/// Waits until this is so, at most for a while.
pub(super) fn wait(done: impl Fn() -> bool, what: &str) {
    let end = Instant::now() + READY;
    while !done() {
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Does this so often at the same time.
pub(super) fn together<T: Send>(count: usize, act: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(count);
    std::thread::scope(|scope| {
        let run = |number| {
            let (barrier, act) = (&barrier, &act);
            scope.spawn(move || {
                barrier.wait();
                act(number)
            })
        };
        let threads: Vec<_> = (0..count).map(run).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}
