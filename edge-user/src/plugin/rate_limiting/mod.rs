//! `rate-limiting`: at most so many requests a second, minute, hour, day, month and year, for each of a kind of callers.
//!
//! Keys and windows are Kong's, so that edges and Kongs in front of one Redis count together. Where Kong counts after
//! its decision and lets bursts overshoot, a local limit here is exact.

mod counters;
mod fleet;
mod settings;
#[cfg(test)]
mod tests;
mod window;

use std::fmt::Write as _;
use std::sync::{Arc, Weak};
use std::time::Duration;

use dashmap::DashMap;
use tokio::runtime::Handle;
use uuid::Uuid;

use self::counters::{Counter, Counters, take_all};
use self::fleet::{Addition, Fleet};
use self::window::{Period, Window};
use crate::config::reader::Reader;
use crate::crypto;
use crate::http::head::Known;
use crate::metrics::{Exposition, Kind};
use crate::plugin::{Access, Answer, Notes, Place, PluginEnv, Request};
use crate::reason::Reason;
use crate::redis;

/// As in the configuration.
pub const NAME: &str = "rate-limiting";
/// Kong's.
pub const PRIORITY: u32 = 910;

/// Identifiers longer than this stand in keys as their SHA-256.
const LONGEST_IDENTIFIER: usize = 256;

/// What all instances share, across reloads: one for the process.
pub struct Rates {
    control: Option<Handle>,
    /// By what their keys begin with: a flood of identifiers on one route forgets no counter of another.
    local: DashMap<Box<str>, Weak<Counters>>,
    /// By server and rate.
    fleets: DashMap<(redis::Settings, Duration), Weak<Fleet>>,
}

impl Rates {
    /// No counters yet. Tasks run on `control`.
    pub fn new(control: Option<Handle>) -> Self {
        Self { control, local: DashMap::new(), fleets: DashMap::new() }
    }

    fn local(&self, prefix: &str) -> Arc<Counters> {
        self.local.retain(|_, counters| counters.strong_count() > 0);
        let mut entry = self.local.entry(prefix.into()).or_default();
        if let Some(counters) = entry.upgrade() {
            return counters;
        }
        let counters = Arc::<Counters>::default();
        *entry = Arc::downgrade(&counters);
        counters
    }

    fn fleet(&self, settings: &redis::Settings, client: Arc<redis::Client>, every: Duration) -> Arc<Fleet> {
        self.fleets.retain(|_, fleet| fleet.strong_count() > 0);
        let mut entry = self.fleets.entry((settings.clone(), every)).or_default();
        if let Some(fleet) = entry.upgrade() {
            return fleet;
        }
        let fleet = Fleet::start(client, every, self.control.as_ref());
        *entry = Arc::downgrade(&fleet);
        fleet
    }

    /// Writes what is kept.
    pub fn collect(&self, to: &mut Exposition) {
        let fleets: Vec<_> = self.fleets.iter().filter_map(|entry| entry.value().upgrade()).collect();
        let local: Vec<_> = self.local.iter().filter_map(|entry| entry.value().upgrade()).collect();
        let stores = || local.iter().map(|counters| &**counters).chain(fleets.iter().map(|fleet| &fleet.counters));
        to.family("edge_rate_limit_counters", Kind::Gauge, "Counters of rate-limiting in memory.");
        to.sample(&[], stores().map(Counters::len).sum::<usize>());
        let help = "Counters forgotten before their window was over, for want of room.";
        to.family("edge_rate_limit_evictions_total", Kind::Counter, help);
        to.sample(&[], stores().map(Counters::evicted).sum::<u64>());
    }
}

/// One configured instance.
pub struct RateLimiting {
    /// What its keys begin with.
    prefix: Box<str>,
    /// The shortest period first.
    limits: Box<[Limit]>,
    identifier: Identifier,
    policy: Policy,
    fault_tolerant: bool,
    hide_client_headers: bool,
    /// Nothing where `error_code` is no status of an error.
    error_status: Option<u16>,
    error_message: Box<str>,
}

/// The limit of one period.
#[derive(Clone, Copy)]
struct Limit {
    period: Period,
    most: f64,
}

/// `limit_by`; the client's address wherever there is nothing to go by.
enum Identifier {
    Consumer,
    Credential,
    Ip,
    Service,
    Header(Box<str>),
    Path(Box<str>),
    ConsumerGroup,
}

/// Where it is counted.
enum Policy {
    Local(Arc<Counters>),
    /// Every request at once.
    Redis(Arc<redis::Client>),
    /// Now and then.
    Fleet(Arc<Fleet>),
}

/// One limit as a request met it.
struct Use {
    limit: Limit,
    window: Window,
    /// Requests before this one.
    before: u64,
}

impl Use {
    fn remaining(&self) -> f64 {
        self.limit.most - self.before as f64
    }
}

/// What the keys of an instance begin with: Kong's zeros where it is not for a route or service.
fn key_prefix(place: &Place<'_>) -> Box<str> {
    let id = |id: Option<Uuid>| id.unwrap_or(Uuid::nil());
    format!("ratelimit:{}:{}:", id(place.route), id(place.service)).into()
}

/// The store cannot be reached, and nobody is to pass uncounted.
fn unavailable<'a>() -> Access<'a> {
    Access::Answer(Answer::error(500, Reason::RateLimitUnavailable, "An unexpected error occurred"))
}

impl RateLimiting {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, place, env)
    }

    /// The access phase: counts the request, or refuses it.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        let now_ms = request.now.unix_ms;
        let mut key = Vec::with_capacity(160);
        key.extend_from_slice(self.prefix.as_bytes());
        self.identify(request, &mut key);
        let windows = self.limits.iter().map(|limit| limit.period.window(now_ms));
        let mut uses: Vec<Use> =
            self.limits.iter().zip(windows).map(|(limit, window)| Use { limit: *limit, window, before: 0 }).collect();
        let passed = match &self.policy {
            Policy::Local(counters) => count(counters, &mut key, &mut uses, now_ms).is_some(),
            Policy::Fleet(fleet) if !self.fault_tolerant && fleet.is_down() => return unavailable(),
            Policy::Fleet(fleet) => {
                let begin = key.len();
                let counted = count(&fleet.counters, &mut key, &mut uses, now_ms);
                for (used, (counter, _)) in uses.iter().zip(counted.iter().flatten()) {
                    complete(&mut key, begin, used);
                    fleet.counted(&key, used.limit.period.length_secs(), counter);
                }
                counted.is_some()
            }
            Policy::Redis(client) => match ask(client, &key, &mut uses).await {
                Ok(passed) => passed,
                Err(_) if self.fault_tolerant => return Access::Continue,
                Err(_) => return unavailable(),
            },
        };
        let reset = self.tell(&uses, passed, now_ms, request.notes);
        if passed {
            return Access::Continue;
        }
        let (status, message) = match self.error_status {
            Some(status) => (status, &*self.error_message),
            None => (500, "An unexpected error occurred"),
        };
        let mut answer = Answer::error(status, Reason::RateLimited, message);
        if !self.hide_client_headers {
            answer.fields.push((Known::RetryAfter, reset.to_string().into_bytes()));
        }
        Access::Answer(answer)
    }

    /// Appends whom the request counts for.
    fn identify(&self, request: &Request<'_>, key: &mut Vec<u8>) {
        let caller = &request.notes.caller;
        let begin = key.len();
        let credential =
            |key: &mut Vec<u8>| key.extend_from_slice(caller.credential.as_deref().unwrap_or_default().as_bytes());
        match &self.identifier {
            Identifier::Consumer => match &caller.consumer {
                Some(consumer) => push_id(key, consumer.id),
                None => credential(key),
            },
            Identifier::Credential => credential(key),
            Identifier::Ip => {}
            Identifier::Service => {
                if let Some(service) = &request.route.service {
                    push_id(key, service.id);
                }
            }
            Identifier::Header(name) => {
                let named = |field: &crate::http::head::FieldRef<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
                if let Some(field) = request.head.fields().find(named) {
                    key.extend_from_slice(field.value);
                }
            }
            Identifier::Path(path) if request.path == path.as_bytes() => key.extend_from_slice(request.path),
            Identifier::Path(_) => {}
            Identifier::ConsumerGroup => {
                if let Some(group) = caller.consumer_groups().next() {
                    push_id(key, group.id);
                }
            }
        }
        if key.len() == begin {
            let mut address = String::with_capacity(40);
            write!(address, "{}", request.client).expect("a String takes everything");
            key.extend_from_slice(address.as_bytes());
        } else if key.len() - begin > LONGEST_IDENTIFIER {
            let digest = crypto::sha256(&key[begin..]);
            key.truncate(begin);
            key.extend(digest.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()));
        }
    }

    /// Leaves the fields of the response; the seconds until the tightest limit is reset.
    fn tell(&self, uses: &[Use], passed: bool, now_ms: i64, notes: &mut Notes) -> i64 {
        // Of those with equally little left, the longest counts.
        let tightest =
            uses.iter().reduce(|least, next| if next.remaining() <= least.remaining() { next } else { least });
        let Some(tightest) = tightest else { return 1 };
        let reset = tightest.limit.period.reset_secs(tightest.window, now_ms);
        if self.hide_client_headers {
            return reset;
        }
        // A refused request used up nothing of what is left for other periods.
        let left = |used: &Use| if passed { used.remaining() - 1.0 } else { used.remaining() }.max(0.0);
        for used in uses {
            let (limit, remaining) = used.limit.period.fields();
            notes.reply(limit, used.limit.most.to_string());
            notes.reply(remaining, left(used).to_string());
        }
        notes.reply("RateLimit-Limit", tightest.limit.most.to_string());
        notes.reply("RateLimit-Remaining", left(tightest).to_string());
        notes.reply("RateLimit-Reset", reset.to_string());
        reset
    }
}

fn push_id(key: &mut Vec<u8>, id: Uuid) {
    let mut text = [0; uuid::fmt::Hyphenated::LENGTH];
    key.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
}

/// Makes the key of one window out of what all keys of the request begin with.
fn complete(key: &mut Vec<u8>, begin: usize, used: &Use) {
    key.truncate(begin);
    key.push(b':');
    key.extend_from_slice(itoa::Buffer::new().format(used.window.start_ms).as_bytes());
    key.push(b':');
    key.extend_from_slice(used.limit.period.name().as_bytes());
}

/// Counts in memory; the counters with their limits if the request passes.
fn count(counters: &Counters, key: &mut Vec<u8>, uses: &mut [Use], now_ms: i64) -> Option<Vec<(Arc<Counter>, u64)>> {
    let begin = key.len();
    let mut pairs = Vec::with_capacity(uses.len());
    for used in &*uses {
        complete(key, begin, used);
        // Of a limit of two and a half requests the third still begins below it.
        let most = used.limit.most.ceil() as u64;
        pairs.push((counters.counter(key, used.window.end_ms, now_ms), most));
    }
    key.truncate(begin);
    let mut before = Vec::with_capacity(uses.len());
    let passed = take_all(&pairs, &mut before);
    for (used, before) in uses.iter_mut().zip(before) {
        used.before = before;
    }
    passed.then_some(pairs)
}

/// Counts in Redis; whether the request passes.
async fn ask(client: &Arc<redis::Client>, key: &[u8], uses: &mut [Use]) -> Result<bool, redis::Error> {
    let addition = |used: &Use| {
        let mut whole = key.to_vec();
        complete(&mut whole, key.len(), used);
        Addition { key: whole.into(), count: 1, ttl_secs: used.limit.period.length_secs() }
    };
    let additions: Vec<Addition> = uses.iter().map(addition).collect();
    let totals = fleet::add(client, &additions).await?;
    for (used, total) in uses.iter_mut().zip(totals) {
        used.before = total.saturating_sub(1);
    }
    Ok(uses.iter().all(|used| used.remaining() > 0.0))
}
