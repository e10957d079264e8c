//! Tokens under pressure: one new token in ten thousand hands, strange `kid`s, a rotation, new tokens to sign anew, a flood
//! of bad tokens.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use edge_tests::edge::free_address;
use edge_tests::issuer::{Issuer, good};
use edge_tests::mint::{self, Key, encode, with};
use edge_tests::parties::say;
use serde_json::{Value, json};

use crate::data::AUDIENCE;
use crate::measure::output;
use crate::peers::{UPSTREAM, bare_edge, upstream};
use crate::process::{LOAD_CORE, Running, pinned};

/// What there is to measure.
pub(crate) const SCENARIOS: [&str; 5] = ["one_token", "strange_kids", "rotation", "signing", "floods"];

/// Runs these, or all of them.
pub(crate) fn run(folder: &Path, scenarios: &[String], seconds: f64) -> Result<()> {
    fs::create_dir_all(folder)?;
    crate::data::write(folder)?;
    let _upstream = upstream(folder, LOAD_CORE)?;
    let bench = Bench { folder: folder.to_owned() };
    for scenario in SCENARIOS {
        if !scenarios.is_empty() && !scenarios.iter().any(|wanted| wanted == scenario) {
            continue;
        }
        match scenario {
            "one_token" => bench.one_token()?,
            "strange_kids" => bench.strange_kids()?,
            "rotation" => bench.rotation()?,
            "signing" => bench.signing()?,
            _ => {
                bench.flood(Bad::Signatures, seconds)?;
                bench.flood(Bad::Opaque, seconds)?;
            }
        }
    }
    Ok(())
}

struct Bench {
    folder: PathBuf,
}

/// Rounds of `signing`: more than a neighbour's noise lasts.
const ROUNDS: usize = 9;

/// What a flood consists of: no token comes twice.
#[derive(Clone, Copy, Debug)]
enum Bad {
    /// JWTs of the right form under signatures of random bytes.
    Signatures,
    /// Opaque tokens that no issuer gave out.
    Opaque,
}

/// A load generator's line of JSON, to come.
type Loading = JoinHandle<Result<Value>>;

impl Bench {
    fn edge(&self, name: &str, config: Value) -> Result<(Running, SocketAddr)> {
        self.edge_with(name, json!({"name": "openid-connect", "config": config}))
    }

    fn edge_with(&self, name: &str, plugin: Value) -> Result<(Running, SocketAddr)> {
        let address = free_address();
        let plugins = json!([plugin]);
        let routes = json!([{"name": "all", "paths": ["/"], "plugins": plugins}]);
        let services = json!([{"name": "up", "url": format!("http://{UPSTREAM}"), "routes": routes}]);
        let entities = json!({"_format_version": "3.0", "services": services});
        Ok((bare_edge(&self.folder, name, address, &entities, "")?, address))
    }

    /// Starts a load of these tokens, one after the other.
    fn load(&self, name: &str, address: SocketAddr, tokens: &[String], arguments: &[&str]) -> Result<Loading> {
        let file = self.folder.join(name);
        fs::write(&file, tokens.join("\n"))?;
        let mut command = pinned(LOAD_CORE, std::env::current_exe()?);
        command.arg("load").arg(address.to_string()).arg("--tokens").arg(file).args(arguments);
        Ok(thread::spawn(move || output(&mut command)))
    }

    fn one_token(&self) -> Result<()> {
        let issuer = Issuer::start(&[]);
        let active = json!({"active": true, "sub": "u", "exp": mint::now() + 3600});
        issuer.answer("/introspect", move |_| good(&active).after(Duration::from_secs(2)));
        let (_edge, address) = self.edge("one_token", introspection(&issuer))?;
        let arguments = ["--connections", "10000", "--requests", "10000", "--seconds", "30"];
        let answer =
            ended(self.load("one_token.tokens", address, &["one-new-opaque-token".to_owned()], &arguments)?)?;
        let calls = issuer.hits("/introspect");
        say(&format!("10,000 at once with one new opaque token: {calls} introspection call(s), {}", outcome(&answer)));
        ensure!(calls == 1 && failures(&answer) == 0, "{answer}");
        Ok(())
    }

    fn strange_kids(&self) -> Result<()> {
        let (issuer, stranger) = (Issuer::start(&[&Key::es256("known")]), Key::es256("stranger"));
        let (_edge, address) = self.edge("strange_kids", bearer(&issuer))?;
        let claims = mint::claims(&issuer.url(), AUDIENCE);
        let token = |n: usize| stranger.sign(&with(stranger.header(), json!({"kid": format!("k-{n}")})), &claims);
        let tokens: Vec<String> = (0..10_000).map(token).collect();
        let before = issuer.key_fetches();
        let start = Instant::now();
        let answer =
            ended(self.load("strange_kids.tokens", address, &tokens, &["--requests", "10000", "--seconds", "60"])?)?;
        let (fetches, took) = (issuer.key_fetches() - before, start.elapsed().as_secs_f64());
        say(&format!("10,000 tokens with a `kid` of their own in {took:.1} s: {fetches} fetches of the key set"));
        ensure!(fetches <= 3 + took as usize / 30, "{answer}");
        Ok(())
    }

    fn rotation(&self) -> Result<()> {
        let (old, new) = (Key::es256("old"), Key::es256("new"));
        let issuer = Issuer::start(&[&old]);
        let (_edge, address) = self.edge("rotation", bearer(&issuer))?;
        let mint = |key: &Key| -> Vec<String> {
            let claims = mint::claims(&issuer.url(), AUDIENCE);
            (0..1000).map(|n| key.token(&with(claims.clone(), json!({"jti": n.to_string()})))).collect()
        };
        let (olds, news) = (mint(&old), mint(&new));
        let first = self.load("rotation.old", address, &olds, &["--rate", "1500", "--seconds", "8"])?;
        thread::sleep(Duration::from_secs(3));
        issuer.rotate(&[&new, &old]);
        let second = self.load("rotation.new", address, &news, &["--rate", "1500", "--seconds", "5"])?;
        let (first, second) = (ended(first)?, ended(second)?);
        say(&format!("a rotation with overlap under load: old key {}, new key {}", outcome(&first), outcome(&second)));
        ensure!(failures(&first) + failures(&second) == 0, "{first} {second}");
        Ok(())
    }

    /// 500 new tokens a second, each of which gets an RS256 signature of the edge's, beside good ones that have theirs; and
    /// beside as many that have theirs too, so that the signatures alone make the difference.
    fn signing(&self) -> Result<()> {
        let key = Key::es256("es");
        let issuer = Issuer::start(&[&key]);
        let config = json!({"access_token_jwks_uri": format!("{}/jwks", issuer.url()), "channel_token_optional": true});
        let (_edge, address) = self.edge_with("signing", json!({"name": "jwt-signer", "config": config}))?;
        let claims = mint::claims(&issuer.url(), AUDIENCE);
        let hot = key.token(&claims);
        let tokens: Vec<String> =
            (0..ROUNDS * 2500).map(|n| key.token(&with(claims.clone(), json!({"n": n})))).collect();
        let calm = ["--rate", "1000", "--connections", "16", "--seconds", "4"];
        let load = |name: &str, tokens: &[String], arguments: &[&str]| self.load(name, address, tokens, arguments);
        let (mut idle, mut busy) = (Vec::new(), Vec::new());
        let p99 = |answer: &Value| answer["p99"].as_f64().unwrap_or(0.0);
        // A run of its own first: connections, caches and the key set are there then.
        ended(load("signing.hot", std::slice::from_ref(&hot), &calm)?)?;
        for round in 0..ROUNDS {
            let arguments = ["--rate", "500", "--connections", "16", "--seconds", "4.5"];
            let known = load("signing.known", std::slice::from_ref(&hot), &arguments)?;
            idle.push(p99(&ended(load("signing.hot", std::slice::from_ref(&hot), &calm)?)?));
            ended(known)?;
            // New ones in each round: those of the last have their signatures.
            let new = &tokens[round * 2500..(round + 1) * 2500];
            let signed = load("signing.new", new, &arguments)?;
            let beside = ended(load("signing.hot", std::slice::from_ref(&hot), &calm)?)?;
            let signed = ended(signed)?;
            ensure!(failures(&beside) + failures(&signed) == 0, "{beside} {signed}");
            busy.push(p99(&beside));
        }
        idle.sort_by(f64::total_cmp);
        busy.sort_by(f64::total_cmp);
        say(&format!(
            "500 new tokens/s signed by RS256 beside 1,000 good/s: good p99 {:.0} µs ({:.0} beside known ones, ratio {:.2}; medians of \
             {ROUNDS}), {:.0} and {:.0} in the quietest rounds",
            busy[ROUNDS / 2],
            idle[ROUNDS / 2],
            busy[ROUNDS / 2] / idle[ROUNDS / 2],
            busy[0],
            idle[0],
        ));
        Ok(())
    }

    fn flood(&self, kind: Bad, seconds: f64) -> Result<()> {
        let key = Key::rsa(mint::RSA_A, "rsa", "RS256");
        let issuer = Issuer::start(&[&key]);
        let config = match kind {
            Bad::Signatures => bearer(&issuer),
            Bad::Opaque => introspection(&issuer),
        };
        let good = match kind {
            Bad::Signatures => key.token(&mint::claims(&issuer.url(), AUDIENCE)),
            Bad::Opaque => "a-good-opaque-token".to_owned(),
        };
        issuer.know("a-good-opaque-token", json!({"active": true, "exp": mint::now() + 3600}));
        let (edge, address) = self.edge(&format!("flood_{kind:?}"), config)?;
        // Good traffic is measured once the storm's generator has read its tokens: they share a core.
        let ahead = 5.0;
        let duration = seconds.to_string();
        let arguments = ["--rate", "1000", "--connections", "16", "--seconds"];
        let with = |seconds: &'static str| [&arguments[..], &[seconds]].concat();
        let idle = ended(self.load("flood.good", address, std::slice::from_ref(&good), &with("10"))?)?;
        let before = edge.usage().resident_kib;
        let count = (5000.0 * (seconds + ahead)) as usize;
        let claims = mint::claims(&issuer.url(), AUDIENCE);
        let token = |n: usize| match kind {
            Bad::Opaque => format!("{n:x}-{}", encode(&random())),
            Bad::Signatures => {
                let payload = with_number(&claims, n);
                let signature: Vec<u8> = (0..8).flat_map(|_| random()).collect();
                format!(
                    "{}.{}.{}",
                    encode(key.header().to_string().as_bytes()),
                    encode(payload.as_bytes()),
                    encode(&signature)
                )
            }
        };
        let tokens: Vec<String> = (0..count).map(token).collect();
        let storm_seconds = (seconds + ahead).to_string();
        let storm_arguments = ["--rate", "5000", "--connections", "64", "--seconds", &storm_seconds];
        let storm = self.load("flood.bad", address, &tokens, &storm_arguments)?;
        thread::sleep(Duration::from_secs_f64(ahead - 1.0));
        let good_arguments = [&arguments[..], &[duration.as_str()]].concat();
        let calm = self.load("flood.good", address, &[good], &good_arguments)?;
        let mut peak = before;
        while !calm.is_finished() {
            peak = peak.max(edge.usage().resident_kib);
            thread::sleep(Duration::from_millis(100));
        }
        let (storm, calm) = (ended(storm)?, ended(calm)?);
        let p99 = |answer: &Value| answer["p99"].as_f64().unwrap_or(0.0);
        say(&format!(
            "{kind:?}, {count} different bad tokens at 5,000/s beside good ones at 1,000/s for {seconds:.0} s: good p99 {:.0} µs \
             ({:.0} idle, ratio {:.2}), good {}; bad {} of which 2xx {}; memory {} -> at most {} MiB",
            p99(&calm),
            p99(&idle),
            p99(&calm) / p99(&idle),
            outcome(&calm),
            outcome(&storm),
            storm["requests"].as_u64().unwrap_or(0) - storm["unlike_2xx"].as_u64().unwrap_or(0),
            before / 1024,
            peak / 1024,
        ));
        ensure!(failures(&calm) == 0, "good tokens were refused: {calm}");
        Ok(())
    }
}

fn bearer(issuer: &Issuer) -> Value {
    json!({"issuer": issuer.url(), "auth_methods": ["bearer"], "audience_required": [AUDIENCE]})
}

fn introspection(issuer: &Issuer) -> Value {
    json!({"issuer": issuer.url(), "auth_methods": ["introspection"], "client_id": ["bench"], "client_secret": ["s"]})
}

fn with_number(claims: &Value, number: usize) -> String {
    with(claims.clone(), json!({"jti": number.to_string()})).to_string()
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes)
        .expect("the system's generator answers");
    bytes
}

fn ended(load: Loading) -> Result<Value> {
    load.join().ok().context("the load generator")?
}

fn failures(answer: &Value) -> u64 {
    answer["unlike_2xx"].as_u64().unwrap_or(0) + answer["errors"].as_u64().unwrap_or(0)
}

fn outcome(answer: &Value) -> String {
    format!("{} of {} not answered well", failures(answer), answer["requests"])
}
