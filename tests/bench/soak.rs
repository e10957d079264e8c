//! Everything changes for a long time: connections, routes, tokens, upstreams that die. Each answer must be the one to its
//! own request, and the memory in use must stay what it was.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use edge_tests::edge::{binary, free_address};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, flip, with};
use edge_tests::parties::say;
use edge_tests::wire::{Client, Reader, get};
use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::data::AUDIENCE;
use crate::process::{LOAD_CORE, PROXY_CORE, Running, pinned};

const CLIENTS: u64 = 24;
const ROUTES: u64 = 8;
/// Tokens in use at a time; one is replaced every few milliseconds.
const TOKENS: usize = 64;
const RELOAD: Duration = Duration::from_secs(2);
const DEATH: Duration = Duration::from_secs(7);
/// What the median of the last fifth may be above that of the second.
const GROWTH: f64 = 1.10;

/// What the clients saw.
#[derive(Default)]
struct Seen {
    answers: AtomicU64,
    refused: AtomicU64,
    /// No answer, or one that nobody should get.
    lost: AtomicU64,
    /// The answer to another request.
    crossed: AtomicU64,
    connections: AtomicU64,
    first: Mutex<Option<String>>,
}

impl Seen {
    fn fault(&self, counter: &AtomicU64, what: impl FnOnce() -> String) {
        counter.fetch_add(1, Ordering::Relaxed);
        let mut first = self.first.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        first.get_or_insert_with(what);
    }
}

/// Runs it; fails where an answer was lost or another's, where the memory grew, and where there were too few answers.
pub(crate) fn run(folder: &Path, length: Duration, least: u64) -> Result<()> {
    fs::create_dir_all(folder)?;
    let address = free_address();
    let upstreams = [free_address(), free_address()];
    let key = Key::es256("soak");
    let issuer = Issuer::start(&[&key]);
    let mut servers = upstreams.iter().map(|one| upstream(folder, *one)).collect::<Result<Vec<_>>>()?;
    let mut edge = edge(folder, address, &entities(0, upstreams, &issuer))?;
    let (seen, over) = (Seen::default(), AtomicBool::new(false));
    let token = |number: u64| key.token(&with(mint::claims(&issuer.url(), AUDIENCE), json!({"n": number})));
    let tokens = RwLock::new((0..TOKENS as u64).map(token).collect::<Vec<_>>());
    let (mut resident, start) = (Vec::new(), Instant::now());
    let (mut reloads, mut deaths) = (0, 0);
    thread::scope(|scope| -> Result<()> {
        for client in 0..CLIENTS {
            let (seen, over, tokens) = (&seen, &over, &tokens);
            scope.spawn(move || ask(client, address, tokens, seen, over));
        }
        scope.spawn(|| {
            for number in TOKENS as u64.. {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let (fresh, place) = (token(number), number as usize % TOKENS);
                if let Some(old) = tokens.write().unwrap_or_else(|poisoned| poisoned.into_inner()).get_mut(place) {
                    *old = fresh;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        let mut work = || -> Result<()> {
            let (mut reloaded, mut died) = (start, start);
            while start.elapsed() < length {
                thread::sleep(Duration::from_millis(200));
                ensure!(!edge.has_ended(), "the edge has ended; see {}", folder.display());
                resident.push((start.elapsed(), edge.usage().resident_kib));
                if reloaded.elapsed() >= RELOAD {
                    (reloads, reloaded) = (reloads + 1, Instant::now());
                    let fresh = folder.join("soak.kong.yaml.new");
                    fs::write(&fresh, entities(reloads, upstreams, &issuer).to_string())?;
                    fs::rename(fresh, folder.join("soak.kong.yaml"))?;
                    edge.signal(Signal::SIGHUP);
                }
                if died.elapsed() >= DEATH {
                    (deaths, died) = (deaths + 1, Instant::now());
                    let place = deaths as usize % upstreams.len();
                    // Killed where it is dropped; the other one is there alone for a moment.
                    servers.remove(place);
                    thread::sleep(Duration::from_millis(300));
                    servers.insert(place, upstream(folder, upstreams[place])?);
                }
            }
            Ok(())
        };
        let worked = work();
        over.store(true, Ordering::Relaxed);
        worked
    })?;
    let median = |from: u32, to: u32| {
        let within = |(at, _): &&(Duration, u64)| (length / 5 * from..length / 5 * to).contains(at);
        let mut sizes: Vec<u64> = resident.iter().filter(within).map(|(_, kib)| *kib).collect();
        sizes.sort_unstable();
        sizes.get(sizes.len() / 2).copied().context("too short")
    };
    let (early, late) = (median(1, 2)?, median(4, 5)?);
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (answers, lost, crossed) = (number(&seen.answers), number(&seen.lost), number(&seen.crossed));
    say(&format!(
        "{answers} answers, {} of them refusals of bad tokens, on {} connections; {lost} lost, {crossed} of another request; \
         {reloads} reloads, {deaths} deaths of an upstream, in {} s; resident {early} KiB, at the end {late} KiB ({:.2})",
        number(&seen.refused),
        number(&seen.connections),
        start.elapsed().as_secs(),
        late as f64 / early as f64,
    ));
    if let Some(first) = seen.first.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()) {
        say(&format!("the first fault: {first}"));
    }
    ensure!(lost == 0 && crossed == 0, "answers were lost or another's");
    ensure!(late as f64 <= early as f64 * GROWTH, "the memory grew");
    ensure!(answers >= least, "expected at least {least} answers");
    Ok(())
}

fn edge(folder: &Path, address: SocketAddr, entities: &Value) -> Result<Running> {
    fs::write(folder.join("soak.kong.yaml"), entities.to_string())?;
    let config = folder.join("soak.toml");
    // A small cache is full soon, so that what grows later is something else.
    let text = format!(
        "[[listeners]]\naddress = \"{address}\"\n[workers]\ncount = 2\n[entities]\nfile = \"soak.kong.yaml\"\n\
         [kernel]\nmode = \"off\"\n[log]\naccess = \"off\"\n[admin]\naddress = \"off\"\n[store]\npath = \"soak.db\"\n\
         [verdicts]\ncache_bytes = 1048576\n"
    );
    fs::write(&config, text)?;
    let mut command = pinned(PROXY_CORE, binary());
    command.args(["run", "--config"]).arg(&config);
    Running::start(command, &folder.join("soak.log"), &[address])
}

/// The routes that are asked, in another order each time, with others between them and other plugins.
fn entities(round: u64, upstreams: [SocketAddr; 2], issuer: &Issuer) -> Value {
    let bearer = json!({"name": "openid-connect", "config": {
        "issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": [AUDIENCE]}});
    let asked = (0..ROUTES).map(|number| {
        let correlation = json!({"name": "correlation-id", "config": {"generator": "uuid"}});
        let plugins: Vec<Value> = [
            (number.is_multiple_of(2)).then(|| bearer.clone()),
            ((number + round).is_multiple_of(3)).then_some(correlation),
        ]
        .into_iter()
        .flatten()
        .collect();
        json!({"name": format!("asked-{number}-{}", round % 4), "paths": [format!("/r{number}/")], "strip_path": false,
            "plugins": plugins})
    });
    let others =
        (0..round % 5).map(|number| json!({"name": format!("other-{number}"), "paths": [format!("/r{number}x")]}));
    let mut routes: Vec<Value> = others.chain(asked).collect();
    routes.rotate_left(round as usize % 5);
    let targets = upstreams.map(|one| json!({"target": one.to_string(), "weight": 1 + round % 7}));
    json!({"_format_version": "3.0", "upstreams": [{"name": "pool", "targets": targets}],
        "services": [{"name": "up", "host": "pool", "retries": 5, "routes": routes}]})
}

/// One client: some requests on a connection, and then another connection.
fn ask(client: u64, address: SocketAddr, tokens: &RwLock<Vec<String>>, seen: &Seen, over: &AtomicBool) {
    let mut number = 0_u64;
    while !over.load(Ordering::Relaxed) {
        let mut connection = Client::connect(address);
        seen.connections.fetch_add(1, Ordering::Relaxed);
        // Lengths that clients do not have in common.
        for _ in 0..1 + (number.wrapping_mul(0x9e37_79b9) ^ client) % 150 {
            number += 1;
            let (route, is_bad) = (number % ROUTES, number.is_multiple_of(50));
            let target = format!("/r{route}/{client}-{number}");
            let token = {
                let tokens = tokens.read().unwrap_or_else(|poisoned| poisoned.into_inner());
                tokens.get(number as usize % TOKENS).cloned().unwrap_or_default()
            };
            let token = if is_bad { flip(&token) } else { token };
            let field = format!("Authorization: Bearer {token}");
            let sent = connection.try_send(get(&target, &[&field]));
            let answer = sent.map_err(anyhow::Error::from).and_then(|()| connection.try_response("GET"));
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    seen.fault(&seen.lost, || format!("{target}: {error:#}"));
                    break;
                }
            };
            seen.answers.fetch_add(1, Ordering::Relaxed);
            match answer.status() {
                401 if is_bad && route.is_multiple_of(2) => {
                    seen.refused.fetch_add(1, Ordering::Relaxed);
                }
                200 if !(is_bad && route.is_multiple_of(2)) => {
                    let text = answer.text();
                    if text != target {
                        seen.fault(&seen.crossed, || format!("{target}: got {text}"));
                    }
                }
                status => seen.fault(&seen.lost, || format!("{target}: {status} {}", answer.text())),
            }
            if answer.says_close() {
                break;
            }
        }
    }
}

fn upstream(folder: &Path, address: SocketAddr) -> Result<Running> {
    let mut command = pinned(LOAD_CORE, std::env::current_exe()?);
    command.args(["soak-upstream", &address.to_string()]);
    Running::start(command, &folder.join(format!("upstream-{}.log", address.port())), &[address])
}

/// Answers each request with its target.
pub(crate) fn serve(address: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(address)?;
    for socket in listener.incoming() {
        let socket = socket?;
        socket.set_nodelay(true)?;
        thread::spawn(move || -> Result<()> {
            use std::io::Write as _;
            let mut reader = Reader::new(socket);
            while let Some(request) = reader.request()? {
                let target = request.target();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{target}", target.len());
                reader.stream().write_all(answer.as_bytes())?;
            }
            Ok(())
        });
    }
    bail!("the listener ended")
}
