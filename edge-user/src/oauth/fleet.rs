//! A cache that the edges of a fleet share in Redis: what one of them learned from an issuer the others need not ask.
//!
//! It is a second level that may vanish at any moment: then everything is a miss, and no request fails. Whoever reads
//! the server learns nothing: names are MACs and values are sealed, both under keys of the node's secrets key, so that
//! an entry moved to another name, altered, or kept beyond its time is not believed (I3, I5).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::{Cmd, FromRedisValue};
use zeroize::Zeroizing;

use crate::config::reader::Reader;
use crate::crypto::MacKey;
use crate::crypto::seal::{OVERHEAD, Purpose, Sealer, SecretsKey};
use crate::metrics::{self, Exposition};
use crate::redis::{Client, Clients, Error, Settings};
use crate::token::Now;

/// The largest value that is shared, in bytes.
pub const MAX_VALUE_BYTES: usize = 64 << 10;
/// Before the value, inside the seal: when it ends, Unix milliseconds, big-endian. Redis is not trusted with that.
const END_BYTES: usize = 8;
/// One more byte than the longest entry of ours has.
const LONGEST_SEALED: usize = END_BYTES + MAX_VALUE_BYTES + OVERHEAD;
/// How long a request may be held up for the fleet's answer, whatever time-outs are configured.
const PATIENCE: Duration = Duration::from_millis(500);
/// Longer than anything is kept; fits what Redis takes.
const MAX_TTL: Duration = Duration::from_secs(365 * 24 * 3600);

/// What an entry holds: Kong's `cluster_cache_items`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Answers of introspection endpoints.
    Introspection,
    /// Answers of token endpoints.
    Tokens,
    /// Tokens of the edge's own towards upstreams.
    UpstreamTokens,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Introspection, Self::Tokens, Self::UpstreamTokens];
    /// What `cluster_cache_items` may say.
    const ITEMS: [Self; 2] = [Self::Introspection, Self::Tokens];

    /// The word in the configuration, in names of entries and in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Introspection => "introspection",
            Self::Tokens => "tokens",
            Self::UpstreamTokens => "upstream_tokens",
        }
    }
}

/// `cluster_cache_strategy`, `cluster_cache_items` and `cluster_cache_redis`.
pub struct FleetSettings {
    redis: Settings,
    items: Vec<Kind>,
}

impl FleetSettings {
    /// Reads the three; nothing where the strategy is off, or refused because the node has no secrets key.
    pub fn read(config: &mut Reader<'_>, fleets: &Fleets) -> Option<Self> {
        let shared = config.word("cluster_cache_strategy", &[("off", false), ("redis", true)]).unwrap_or(false);
        let items = config.words("cluster_cache_items", &Kind::ITEMS.map(|kind| (kind.word(), kind)));
        let record = config.object("cluster_cache_redis");
        if !shared {
            return None;
        }
        let redis = match record {
            Some(record) => Settings::read(record),
            None => {
                config.problem("cluster_cache_redis", "nothing", "the Redis that the fleet shares");
                None
            }
        };
        if !fleets.may_share(config, "cluster_cache_strategy", "off") {
            return None;
        }
        Some(Self { redis: redis?, items: items.unwrap_or_else(|| vec![Kind::Introspection]) })
    }

    /// A server for the edge's own tokens alone.
    pub fn for_upstream_tokens(redis: Settings) -> Self {
        Self { redis, items: vec![Kind::UpstreamTokens] }
    }
}

/// Every fleet's keys and numbers; one for the process.
pub struct Fleets {
    keys: Option<Arc<Keys>>,
    clients: Arc<Clients>,
    counts: Arc<Counts>,
}

struct Keys {
    names: MacKey,
    values: Sealer,
}

impl Fleets {
    /// Caches on servers of these clients, under keys of this one; without it none can be had.
    pub fn new(key: Option<&SecretsKey>, clients: Arc<Clients>) -> Self {
        let derive = |key: &SecretsKey| {
            Arc::new(Keys { names: key.mac_key(Purpose::FleetNames), values: Sealer::new(key, Purpose::FleetValues) })
        };
        Self { keys: key.map(derive), clients, counts: Arc::default() }
    }

    /// Whether this node has a secrets key, which everything shared needs; a problem where it has none. `key` asks for
    /// Redis, and `without` is its word for doing without.
    pub fn may_share(&self, config: &Reader<'_>, key: &str, without: &str) -> bool {
        if self.keys.is_none() {
            let expected = format!(
                "{without}, or a key for what goes there: `[secrets] key_file` in edge.toml or EDGE_SECRETS_KEY"
            );
            config.problem(key, "redis without a secrets key of this node", expected);
        }
        self.keys.is_some()
    }

    /// The cache that these settings describe; nothing without a secrets key.
    pub fn fleet(&self, settings: &FleetSettings) -> Option<Fleet> {
        Some(Fleet {
            client: self.clients.client(&settings.redis),
            keys: self.keys.clone()?,
            items: settings.items.clone().into(),
            counts: self.counts.clone(),
        })
    }

    /// Writes the numbers; nothing where no node of this kind exists.
    pub fn collect(&self, to: &mut Exposition) {
        if self.keys.is_none() {
            return;
        }
        let help = "Uses of the cache that the fleet shares, by what is kept and what became of the use.";
        to.family("edge_fleet_cache_total", metrics::Kind::Counter, help);
        for kind in Kind::ALL {
            for outcome in Outcome::ALL {
                let (operation, result) = outcome.words();
                let labels = [("kind", kind.word()), ("operation", operation), ("result", result)];
                to.sample(&labels, self.counts.of(kind, outcome).load(Ordering::Relaxed));
            }
        }
    }
}

/// What became of one use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Hit,
    Miss,
    /// Something stands there that this fleet did not write, or whose time is over.
    Unreadable,
    GetFailed,
    Stored,
    TooLarge,
    PutFailed,
    Deleted,
    DeleteFailed,
}

impl Outcome {
    const ALL: [Self; 9] = [
        Self::Hit,
        Self::Miss,
        Self::Unreadable,
        Self::GetFailed,
        Self::Stored,
        Self::TooLarge,
        Self::PutFailed,
        Self::Deleted,
        Self::DeleteFailed,
    ];

    fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Hit => ("get", "hit"),
            Self::Miss => ("get", "miss"),
            Self::Unreadable => ("get", "unreadable"),
            Self::GetFailed => ("get", "failed"),
            Self::Stored => ("put", "stored"),
            Self::TooLarge => ("put", "too_large"),
            Self::PutFailed => ("put", "failed"),
            Self::Deleted => ("delete", "deleted"),
            Self::DeleteFailed => ("delete", "failed"),
        }
    }
}

#[derive(Default)]
struct Counts([[AtomicU64; Outcome::ALL.len()]; Kind::ALL.len()]);

impl Counts {
    fn of(&self, kind: Kind, outcome: Outcome) -> &AtomicU64 {
        &self.0[kind as usize][outcome as usize]
    }
}

/// The name of one entry; it tells nothing of what it was made from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryName {
    kind: Kind,
    /// `edge:<kind>:<64 hex digits>`
    text: String,
}

/// A value another edge of the fleet, or this one, put there.
#[derive(PartialEq, Eq, Debug)]
pub struct Found {
    /// The value.
    pub value: Zeroizing<Vec<u8>>,
    /// How much of its time is left.
    pub left: Duration,
}

/// One shared cache; cheap to clone.
#[derive(Clone)]
pub struct Fleet {
    client: Arc<Client>,
    keys: Arc<Keys>,
    items: Arc<[Kind]>,
    counts: Arc<Counts>,
}

impl Fleet {
    /// Whether `cluster_cache_items` says that this is shared.
    pub fn shares(&self, kind: Kind) -> bool {
        self.items.contains(&kind)
    }

    /// The name of the entry for these parts, in this order: the validator or endpoint, then token or credentials. All
    /// of them must be the same on every node; none can be had back.
    pub fn name(&self, kind: Kind, parts: &[&[u8]]) -> EntryName {
        let mut whole = Zeroizing::new(Vec::with_capacity(parts.iter().map(|part| part.len() + 8).sum()));
        for part in parts {
            // Lengths keep ("a", "bc") from being ("ab", "c").
            whole.extend_from_slice(&(part.len() as u64).to_be_bytes());
            whole.extend_from_slice(part);
        }
        let mut text = format!("edge:{}:", kind.word());
        for byte in self.keys.names.mac(&whole) {
            write!(text, "{byte:02x}").expect("a String takes everything");
        }
        EntryName { kind, text }
    }

    /// The value there, if the server has it, serves at once, and what it gives is the fleet's own.
    pub async fn get(&self, name: &EntryName) -> Option<Found> {
        let mut command = Cmd::new();
        // Whatever stands there, no more of it crosses the wire than could be ours.
        command.arg("GETRANGE").arg(&name.text).arg(0).arg(LONGEST_SEALED);
        match self.client.query_within::<Vec<u8>>(PATIENCE, name.text.as_bytes(), command).await {
            Err(_) => self.count(name.kind, Outcome::GetFailed),
            Ok(sealed) if sealed.is_empty() => self.count(name.kind, Outcome::Miss),
            Ok(sealed) => {
                let found = self.open(name, &sealed, Now::read().unix_ms);
                self.count(name.kind, if found.is_some() { Outcome::Hit } else { Outcome::Unreadable });
                return found;
            }
        }
        None
    }

    fn open(&self, name: &EntryName, sealed: &[u8], now_ms: i64) -> Option<Found> {
        let opened = self.keys.values.open(name.text.as_bytes(), sealed).ok()?;
        let (end_ms, value) = opened.split_first_chunk::<END_BYTES>()?;
        let left_ms = u64::try_from(i64::from_be_bytes(*end_ms).checked_sub(now_ms)?).ok().filter(|left| *left > 0)?;
        // A clock far behind must not stretch an entry's life.
        let left = Duration::from_millis(left_ms).min(MAX_TTL);
        Some(Found { value: Zeroizing::new(value.to_vec()), left })
    }

    /// Puts a value there for this long. What is too large, over already, or not taken by the server is not shared.
    pub async fn put(&self, name: &EntryName, value: &[u8], ttl: Duration) {
        let ttl_ms = ttl.min(MAX_TTL).as_millis() as i64;
        if value.len() > MAX_VALUE_BYTES {
            return self.count(name.kind, Outcome::TooLarge);
        }
        if ttl_ms == 0 {
            return;
        }
        let mut clear = Zeroizing::new(Vec::with_capacity(END_BYTES + value.len()));
        clear.extend_from_slice(&(Now::read().unix_ms + ttl_ms).to_be_bytes());
        clear.extend_from_slice(value);
        let mut command = Cmd::new();
        command.arg("SET").arg(&name.text).arg(self.keys.values.seal(name.text.as_bytes(), &clear));
        command.arg("PX").arg(ttl_ms);
        let stored = self.done(name, command).await;
        self.count(name.kind, if stored { Outcome::Stored } else { Outcome::PutFailed });
    }

    /// Takes the value away, for every node.
    pub async fn delete(&self, name: &EntryName) {
        let mut command = Cmd::new();
        command.arg("DEL").arg(&name.text);
        let deleted = self.done(name, command).await;
        self.count(name.kind, if deleted { Outcome::Deleted } else { Outcome::DeleteFailed });
    }

    /// Takes this value away, for every node, and leaves another that stands there by now.
    pub async fn delete_value(&self, name: &EntryName, value: &[u8]) {
        /// Nothing comes between the look and the deletion.
        const SCRIPT: &str =
            "if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end return 0";
        let mut command = Cmd::new();
        command.arg("GETRANGE").arg(&name.text).arg(0).arg(LONGEST_SEALED);
        let sealed = match self.client.query::<Vec<u8>>(name.text.as_bytes(), command).await {
            Ok(sealed) => sealed,
            Err(_) => return self.count(name.kind, Outcome::DeleteFailed),
        };
        let opened = self.keys.values.open(name.text.as_bytes(), &sealed).ok();
        let is_it = |opened: &[u8]| opened.get(END_BYTES..).is_some_and(|known| known == value);
        if !opened.is_some_and(|opened| is_it(&opened)) {
            return;
        }
        let mut command = Cmd::new();
        command.arg("EVAL").arg(SCRIPT).arg(1).arg(&name.text).arg(sealed);
        let deleted = self.done(name, command).await;
        self.count(name.kind, if deleted { Outcome::Deleted } else { Outcome::DeleteFailed });
    }

    async fn done(&self, name: &EntryName, command: Cmd) -> bool {
        // The client says why, once in a while, and counts by server.
        let answer: Result<Taken, Error> = self.client.query(name.text.as_bytes(), command).await;
        answer.is_ok()
    }

    fn count(&self, kind: Kind, outcome: Outcome) {
        self.counts.of(kind, outcome).fetch_add(1, Ordering::Relaxed);
    }
}

/// Any answer that is not an error.
struct Taken;

impl FromRedisValue for Taken {
    fn from_redis_value(_: redis::Value) -> Result<Self, redis::ParsingError> {
        Ok(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::testing;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER_KEY: &str = "ff0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn fleets(key: Option<&str>) -> Fleets {
        let key = key.map(|text| SecretsKey::from_text(text).expect("a key"));
        Fleets::new(key.as_ref(), Arc::new(Clients::new(None)))
    }

    fn read(yaml: &str, fleets: &Fleets) -> (Option<FleetSettings>, Vec<String>) {
        let (settings, problems, _) = testing::read("config", yaml, |config| FleetSettings::read(config, fleets));
        (settings, problems)
    }

    fn fleet(key: &str) -> Fleet {
        let fleets = fleets(Some(key));
        let (settings, _) = read("{cluster_cache_strategy: redis, cluster_cache_redis: {}}", &fleets);
        fleets.fleet(&settings.expect("settings")).expect("a fleet")
    }

    fn sealed(fleet: &Fleet, name: &EntryName, end_ms: i64, value: &[u8]) -> Vec<u8> {
        fleet.keys.values.seal(name.text.as_bytes(), &[&end_ms.to_be_bytes(), value].concat())
    }

    #[test]
    fn settings_are_read_and_need_a_key() {
        let redis = "cluster_cache_strategy: redis, cluster_cache_redis: {host: r}";
        for (yaml, key, items, problem) in [
            ("{}".to_owned(), None, None, ""),
            // A dump writes the record out though nobody uses it, whatever it says.
            (
                "{cluster_cache_strategy: off, cluster_cache_redis: {connection_is_proxied: true}}".to_owned(),
                None,
                None,
                "",
            ),
            ("{cluster_cache_items: [introspection, tokens]}".to_owned(), Some(KEY), None, ""),
            (format!("{{{redis}}}"), Some(KEY), Some(vec![Kind::Introspection]), ""),
            (format!("{{{redis}, cluster_cache_items: [tokens]}}"), Some(KEY), Some(vec![Kind::Tokens]), ""),
            (format!("{{{redis}}}"), None, None, "config.cluster_cache_strategy: found redis without a secrets key"),
            (
                "{cluster_cache_strategy: redis}".to_owned(),
                Some(KEY),
                None,
                "config.cluster_cache_redis: found nothing, expected the Redis that the fleet shares",
            ),
            ("{cluster_cache_strategy: memcached}".to_owned(), Some(KEY), None, "expected one of: off, redis"),
            ("{cluster_cache_items: [keys]}".to_owned(), Some(KEY), None, "expected one of: introspection, tokens"),
        ] {
            let (settings, problems) = read(&yaml, &fleets(key));
            assert_eq!(settings.map(|settings| settings.items), items, "{yaml}");
            assert_eq!(problems.len(), usize::from(!problem.is_empty()), "{yaml}: {problems:?}");
            assert!(problems.concat().contains(problem), "{yaml}: {problems:?}");
        }
        assert!(fleet(KEY).shares(Kind::Introspection) && !fleet(KEY).shares(Kind::Tokens));
    }

    #[test]
    fn names_are_the_fleets_and_tell_nothing() {
        // I5
        let (one, two, other) = (fleet(KEY), fleet(KEY), fleet(OTHER_KEY));
        let name = |fleet: &Fleet, kind, parts: &[&[u8]]| fleet.name(kind, parts).text;
        let whole = name(&one, Kind::Introspection, &[b"validator", b"secret-token"]);
        assert!(whole.starts_with("edge:introspection:") && whole.len() == 19 + 64 && !whole.contains("token-"));
        assert_eq!(whole, name(&two, Kind::Introspection, &[b"validator", b"secret-token"]));
        let others = [
            name(&other, Kind::Introspection, &[b"validator", b"secret-token"]),
            name(&one, Kind::Tokens, &[b"validator", b"secret-token"]),
            name(&one, Kind::Introspection, &[b"validators", b"ecret-token"]),
            name(&one, Kind::Introspection, &[b"validatorsecret-token"]),
            name(&one, Kind::Introspection, &[b"validator", b"secret-token", b""]),
            name(&one, Kind::Introspection, &[b"secret-token", b"validator"]),
        ];
        assert!(!others.contains(&whole));
    }

    #[test]
    fn only_what_is_whole_in_time_and_in_its_place_is_believed() {
        // I3, I5
        let (one, other) = (fleet(KEY), fleet(OTHER_KEY));
        let (name, next) = (one.name(Kind::Introspection, &[b"a"]), one.name(Kind::Introspection, &[b"b"]));
        let good = sealed(&one, &name, 5_000, b"value");
        let found = one.open(&name, &good, 2_000).expect("a value");
        assert_eq!((&found.value[..], found.left), (&b"value"[..], Duration::from_secs(3)));
        assert!(!good.windows(5).any(|window| window == b"value"));
        assert_eq!(one.open(&name, &good, 5_000), None, "its time is over, whatever the server thinks");
        assert!(one.open(&name, &good, 4_999).is_some());
        assert_eq!(one.open(&next, &good, 2_000), None, "moved to another name");
        assert_eq!(one.open(&name, &sealed(&other, &name, 5_000, b"value"), 2_000), None);
        assert_eq!(one.open(&name, b"{\"active\":true}", 2_000), None);
        assert_eq!(one.open(&name, &good[..good.len() - 1], 2_000), None);
        let short = one.keys.values.seal(name.text.as_bytes(), b"1234567");
        assert_eq!(one.open(&name, &short, 2_000), None);
        let forever = one.open(&name, &sealed(&one, &name, i64::MAX, b""), 0).expect("a value");
        assert_eq!(forever.left, MAX_TTL);
        assert_eq!(one.open(&name, &sealed(&one, &name, i64::MIN, b""), 2_000), None);
    }

    #[tokio::test]
    async fn without_a_server_everything_is_a_miss() {
        let fleets = fleets(Some(KEY));
        let (settings, _) = read("{cluster_cache_strategy: redis, cluster_cache_redis: {}}", &fleets);
        let fleet = fleets.fleet(&settings.expect("settings")).expect("a fleet");
        let name = fleet.name(Kind::Tokens, &[b"a"]);
        assert_eq!(fleet.get(&name).await, None);
        fleet.put(&name, b"value", Duration::from_secs(1)).await;
        fleet.put(&name, &vec![0; MAX_VALUE_BYTES + 1], Duration::from_secs(1)).await;
        fleet.delete(&name).await;
        fleet.delete_value(&name, b"value").await;
        let mut text = Exposition::default();
        fleets.collect(&mut text);
        let text = text.finish();
        for (operation, result, count) in
            [("get", "failed", 1), ("put", "failed", 1), ("put", "too_large", 1), ("delete", "failed", 2)]
        {
            let labels = format!("{{kind=\"tokens\",operation=\"{operation}\",result=\"{result}\"}}");
            let line = format!("edge_fleet_cache_total{labels} {count}\n");
            assert!(text.contains(&line), "{line}{text}");
        }
    }
}
