mod fetched;
mod named;
mod privacy;
mod stored;

use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use tokio::runtime::Handle;

use super::flights::Order;
use super::*;
use crate::telemetry::testing::Captured;

const ES256: SigningAlgorithm = SigningAlgorithm::ES256;
const EDDSA: SigningAlgorithm = SigningAlgorithm::EdDSA;
const MINUTE_MS: i64 = 60_000;
const HOUR: Duration = Duration::from_secs(3600);

/// A clock that stands until it is moved.
#[derive(Clone)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    fn new() -> Self {
        Self(Arc::new(AtomicI64::new(1_800_000_000_000)))
    }

    fn advance(&self, ms: i64) {
        self.0.fetch_add(ms, Ordering::SeqCst);
    }

    fn now_ms(&self) -> i64 {
        self.0.load(Ordering::SeqCst)
    }

    /// Keys sign after a minute; no RSA keys, which take long to make.
    fn policy(&self) -> Policy {
        let clock = self.0.clone();
        let clock = Arc::new(move || clock.load(Ordering::SeqCst));
        Policy { wait: Duration::from_secs(20), algorithms: [ES256, EDDSA].into(), clock, ..Policy::default() }
    }
}

fn http() -> HttpClient {
    HttpClient::new(&[]).expect("a client")
}

fn secrets_key(digit: char) -> SecretsKey {
    SecretsKey::from_text(&digit.to_string().repeat(64)).expect("a key")
}

/// Sets in memory.
fn in_memory(clock: &Clock) -> Arc<KeySets> {
    Arc::new(KeySets::new(http(), Keeping::Memory, Handle::current(), clock.policy()))
}

/// Sets in a file, as one process opens it.
async fn in_file(path: &Path, digit: char, clock: &Clock) -> Arc<KeySets> {
    let vault = Vault::new(State::open(path).await, &secrets_key(digit));
    Arc::new(KeySets::new(http(), Keeping::Sealed(vault), Handle::current(), clock.policy()))
}

fn named(sets: &Arc<KeySets>, name: &str) -> Arc<KeySet> {
    sets.set(SetSettings { origin: Origin::Named(name.into()), rotate_period: None })
}

fn kid(key: &crypto::sign::SigningKey) -> String {
    key.kid().to_owned()
}

/// Has the set's task look at the clock, and waits until it did what is due.
async fn looked(set: &KeySet) {
    let orders = set.set.orders().expect("a control runtime");
    let (reply, answer) = tokio::sync::oneshot::channel();
    orders.send(Order::Look).await.expect("a task");
    orders.send(Order::Load(reply)).await.expect("a task");
    answer.await.expect("an answer").expect("a set that can be read");
}

/// The kid that signs now.
fn signs(set: &KeySet) -> String {
    kid(&set.signing_key(ES256).expect("a key"))
}

/// The kids of published keys.
fn kids(keys: &[serde_json::Value]) -> Vec<String> {
    keys.iter().map(|key| key["kid"].as_str().expect("a kid").to_owned()).collect()
}

async fn until(mut condition: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the condition never held");
}

/// The numbers whose lines begin so.
fn number(sets: &KeySets, line: &str) -> String {
    let mut to = Exposition::default();
    sets.collect(&mut to);
    let text = to.finish();
    let found = text.lines().find_map(|known| known.strip_prefix(line)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("{line} in {text}")).to_owned()
}
