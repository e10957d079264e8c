//! Verdicts of others: what an issuer says of a token when it is asked (RFC 7662, or its user info).
//!
//! Who is asked, and how, is `oauth`'s. Here: one flight a token, how long an answer stands, and what becomes of it. A
//! flight runs on the control runtime; workers join it and at most wait for its end.

use super::cache::{CacheKey, Entry, Ground, Verdict, VerdictCache};
use super::claims::{ClaimPath, Facts};
use super::jws::{Shape, shape};
use super::keys::KeySource;
use super::{Refused, Settings};
use crate::crypto::{self, FieldDigest};
use crate::reason::Reason;
use dashmap::DashMap;
use dashmap::mapref::entry::Entry as Place;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Flights of the process at once; sources without a good verdict take at most half of them (D4).
const MAX_FLIGHTS: usize = 4096;
/// Entries are asked for anew in the last part of their life, so that a hot token never waits.
const REFRESH_PART: i64 = 10;
/// The longest such part, in milliseconds.
const MAX_REFRESH_MS: i64 = 30_000;

/// What an issuer said of a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Said {
    /// It is good.
    Active {
        /// The answer, a JSON object; the introspection itself where the answer was signed (RFC 9701, 5).
        json: Vec<u8>,
        /// The answer as it came where it was signed.
        jwt: Option<Box<str>>,
    },
    /// It is not, and nobody says why (RFC 7662, 2.2).
    Inactive,
}

impl Said {
    /// Whether the answer may have an `iss`.
    fn names_issuer(&self) -> bool {
        matches!(self, Self::Active { json, .. } if memchr::memmem::find(json, b"\"iss\"").is_some())
    }
}

/// What of a request goes along when its token is asked about. Part of the verdict's key; it may hold secrets.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Extras {
    /// Which of our clients asks.
    pub client: usize,
    /// Headers, by name and value.
    pub headers: Vec<(String, String)>,
    /// Arguments of the form.
    pub args: Vec<(String, String)>,
}

impl Extras {
    /// A hash over all of it.
    pub(crate) fn digest(&self) -> [u8; 32] {
        let both = |pairs: &[(String, String)]| {
            let texts: Vec<_> = pairs.iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect();
            FieldDigest::default().list(texts.into_iter()).finish()
        };
        let digest = FieldDigest::default().field(self.client.to_be_bytes());
        digest.field(both(&self.headers)).field(both(&self.args)).finish()
    }
}

/// The one who is asked has no answer: never a verdict on the token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Unanswered {
    /// For `Retry-After`.
    pub retry_after_secs: u32,
    /// Why, for the operator.
    pub fault: &'static str,
    /// Whether there is nobody to ask, now and later: the issuer has no such endpoint.
    pub is_nobody: bool,
}

impl Unanswered {
    /// What it means for a token. One that nobody can ever be asked about is refused, if nothing else tells what it is.
    fn refusal(self, token: &[u8]) -> Refused {
        let fault = Some(self.fault);
        match self.is_nobody && shape(token) == Shape::Opaque {
            true => Refused { fault, ..Reason::IntrospectionUnavailable.into() },
            false => {
                let retry_after_secs = Some(self.retry_after_secs);
                Refused { reason: Reason::IntrospectionFailed, retry_after_secs, fault }
            }
        }
    }
}

/// The answer to come.
pub type Asking<'a> = Pin<Box<dyn Future<Output = Result<Said, Unanswered>> + Send + 'a>>;

/// Who is asked about tokens. Runs on the control runtime.
pub trait Introspect: Send + Sync {
    /// A hash over every setting that can change an answer.
    fn id(&self) -> [u8; 32];

    /// Asks about one token.
    fn ask<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Asking<'a>;
}

/// Answers shared by a fleet of edges. Runs on the control runtime; what it cannot answer is simply asked for.
pub trait Shared: Send + Sync {
    /// The answer another edge got, and how long it stands from now.
    fn find<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Finding<'a>;

    /// Tells the others. `ttl` is how long the answer stands.
    fn tell<'a>(&'a self, token: &'a [u8], extras: &'a Extras, said: &'a Said, ttl: Duration) -> Telling<'a>;
}

/// What a fleet knows.
pub type Finding<'a> = Pin<Box<dyn Future<Output = Option<(Said, Duration)>> + Send + 'a>>;
/// A fleet is told.
pub type Telling<'a> = Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// Which tokens are asked about, and how long answers stand.
#[derive(Clone)]
pub struct Remote {
    /// Who is asked.
    pub who: Arc<dyn Introspect>,
    /// Where flights run; nothing in a program that only checks a configuration.
    pub control: Option<Handle>,
    /// What is done with JWTs.
    pub jwts: JwtBy,
    /// The claim of an answer that holds a JWT, whose claims are the token's then (Kong's `introspection_jwt_claim`).
    pub jwt_claim: Option<ClaimPath>,
    /// Whether answers are kept (Kong's `cache_introspection`).
    pub keep: bool,
    /// Life of an inactive token's verdict (Kong's `cache_ttl_neg`).
    pub ttl_inactive: Duration,
    /// Shortest life of an answer, within `exp` (Kong's `cache_ttl_min`).
    pub ttl_min: Duration,
    /// How much longer an answer serves while nobody answers (Kong's `cache_ttl_resurrect`), within `exp`.
    pub ttl_stale: Duration,
    /// Answers of the fleet.
    pub shared: Option<Arc<dyn Shared>>,
}

/// How JWTs are judged where somebody can be asked about tokens.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum JwtBy {
    /// By key set alone.
    Keys,
    /// By key set, and then by asking: a revoked one is refused.
    KeysThenIntrospection,
    /// By asking alone.
    Introspection,
}

impl Remote {
    /// A hash over every setting that can change a fact.
    pub(super) fn id(&self) -> [u8; 32] {
        let times = (self.ttl_inactive, self.ttl_min, self.ttl_stale);
        let how = (self.jwts, &self.jwt_claim, self.keep);
        crypto::sha256(format!("{:?}{how:?}{times:?}", self.who.id()).as_bytes())
    }
}

/// What a token's own keys say of it, where it is asked about as well.
pub(super) struct ByKeys {
    pub(super) facts: Facts,
    pub(super) ground: Ground,
    pub(super) epoch: u64,
}

/// The end of a flight: a verdict, or why there is none.
pub type Landed = Result<Arc<Entry>, Refused>;

/// The end of a flight, or of the longest wait.
#[derive(Debug)]
pub struct FlightWait(watch::Receiver<Option<Landed>>);

impl FlightWait {
    /// Waits. Whoever bounds this wait and gives up has no verdict: `given_up()`.
    pub async fn done(mut self) -> Landed {
        match self.0.wait_for(Option::is_some).await {
            Ok(landed) => landed.clone().unwrap_or_else(unanswered),
            // The flight was lost with its runtime, or panicked.
            Err(_) => unanswered(),
        }
    }
}

/// No verdict, because a request waits no longer: its client may ask again.
pub fn given_up() -> Landed {
    Err(Refused { fault: Some("no answer in time (timeouts.key_wait)"), ..no_verdict() })
}

/// No verdict, because the flight was lost: the client may ask again.
fn unanswered() -> Landed {
    Err(no_verdict())
}

fn no_verdict() -> Refused {
    Refused { retry_after_secs: Some(1), ..Reason::IntrospectionFailed.into() }
}

/// The flights of the process, by what is asked.
#[derive(Default)]
pub struct Flights(DashMap<CacheKey, watch::Receiver<Option<Landed>>>);

/// What asking for a token came to.
pub(super) enum Boarding {
    /// Somebody asks already.
    Joined(FlightWait),
    /// The caller asks; dropping the ticket ends the flight for all who wait.
    Mine(Ticket, FlightWait),
    /// Too much is asked.
    Full,
}

impl Flights {
    /// Joins the flight of this key, or begins it. `proven`: the source had a good verdict lately.
    pub(super) fn board(self: &Arc<Self>, key: CacheKey, proven: bool) -> Boarding {
        let limit = if proven { MAX_FLIGHTS } else { MAX_FLIGHTS / 2 };
        let full = self.0.len() >= limit;
        match self.0.entry(key) {
            Place::Occupied(flight) => Boarding::Joined(FlightWait(flight.get().clone())),
            Place::Vacant(_) if full => Boarding::Full,
            Place::Vacant(place) => {
                let (sender, receiver) = watch::channel(None);
                place.insert(receiver.clone());
                let flights = Arc::clone(self);
                Boarding::Mine(Ticket { flights, key, sender, given_back: false }, FlightWait(receiver))
            }
        }
    }

    /// How many are under way.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One flight's place; given back when dropped.
pub(super) struct Ticket {
    flights: Arc<Flights>,
    key: CacheKey,
    sender: watch::Sender<Option<Landed>>,
    given_back: bool,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.give_back();
    }
}

impl Ticket {
    /// Ends the flight: those who come now find what was kept, or ask anew.
    fn land(mut self, landed: Landed) {
        self.give_back();
        self.sender.send_replace(Some(landed));
    }

    /// Once: the next flight of the key may have the place by then.
    fn give_back(&mut self) {
        if !std::mem::replace(&mut self.given_back, true) {
            self.flights.0.remove(&self.key);
        }
    }
}

/// Decides about the `iss` of an answer that has one; nothing while the issuer is not known.
pub(super) type IssuerAllowed = Box<dyn Fn(&Facts) -> Option<bool> + Send + Sync>;

/// What a flight needs of its validator.
pub(super) struct Plan {
    pub(super) remote: Remote,
    pub(super) settings: Settings,
    pub(super) cache: Arc<VerdictCache>,
    pub(super) key: CacheKey,
    pub(super) token: Box<[u8]>,
    pub(super) extras: Extras,
    pub(super) by_keys: Option<ByKeys>,
    /// Whether an answer stands still: the fleet knows no newer one then.
    pub(super) renews: bool,
    pub(super) issuer_allowed: IssuerAllowed,
    /// Where the issuer's name is to be discovered.
    pub(super) source: Option<Arc<KeySource>>,
}

/// Key of a token that goes with something of its request.
pub(super) fn key_with(key: CacheKey, extras: &Extras) -> CacheKey {
    if *extras == Extras::default() { key } else { key.and(&extras.digest()) }
}

/// One flight, from the question to what all who wait get.
pub(super) async fn fly(plan: Plan, ticket: Ticket, now_ms: impl Fn() -> i64) {
    let (landed, news) = plan.ask(now_ms).await;
    ticket.land(landed);
    // Nobody waits for the fleet to be told.
    if let Some(News { shared, token, extras, said, ttl }) = news {
        shared.tell(&token, &extras, &said, ttl).await;
    }
}

/// What the fleet does not know yet.
struct News {
    shared: Arc<dyn Shared>,
    token: Box<[u8]>,
    extras: Extras,
    said: Said,
    ttl: Duration,
}

impl Plan {
    async fn ask(self, now_ms: impl Fn() -> i64) -> (Landed, Option<News>) {
        let (who, extras) = (&self.remote.who, &self.extras);
        let shared = self.remote.shared.as_ref().filter(|_| self.remote.keep);
        let known = match shared.filter(|_| !self.renews) {
            Some(shared) => shared.find(&self.token, extras).await,
            None => None,
        };
        let (said, most) = match known {
            Some((said, left)) => (said, Some(left)),
            None => match who.ask(&self.token, extras).await {
                Ok(said) => (said, None),
                Err(unanswered) => return (Err(unanswered.refusal(&self.token)), None),
            },
        };
        // After a start an answer may come before what the issuer says of itself, its name among it.
        if let Some(source) =
            self.source.as_ref().filter(|source| said.names_issuer() && source.keys().issuer.is_none())
        {
            let _ = source.discovered().await;
        }
        let now_ms = now_ms();
        let teller = shared.filter(|_| most.is_none()).cloned();
        let told = teller.map(|shared| (shared, self.token.clone(), self.extras.clone(), said.clone()));
        let (landed, ttl) = self.conclude(said, most, now_ms);
        let news = told.zip(ttl).map(|((shared, token, extras, said), ttl)| News { shared, token, extras, said, ttl });
        (landed, news)
    }

    /// The verdict, kept where it may be, and how long it stands: at most `most`.
    fn conclude(self, said: Said, most: Option<Duration>, now_ms: i64) -> (Landed, Option<Duration>) {
        let Self { remote, settings, cache, key, token, by_keys, issuer_allowed, .. } = self;
        let (json, jwt) = match said {
            Said::Inactive => {
                let ttl = most.map_or(remote.ttl_inactive, |most| most.min(remote.ttl_inactive));
                let until_ms = now_ms.saturating_add(millis(ttl));
                let entry = Arc::new(Entry::new(Verdict::Inactive, Ground::Always, 0, until_ms));
                if remote.keep {
                    cache.keep_inactive(&key, &entry, now_ms);
                }
                return (Ok(entry), Some(ttl));
            }
            Said::Active { json, jwt } => (json, jwt),
        };
        let said = match Facts::introspected(json, jwt) {
            Ok(said) => said,
            Err(reason) => return (Err(reason.into()), None),
        };
        match issuer_allowed(&said) {
            Some(true) => {}
            Some(false) => return (Err(Reason::IssuerNotAllowed.into()), None),
            // Whose answer it is cannot be told yet, which is no verdict on the token.
            None => return (unanswered(), None),
        }
        let (facts, ground, epoch) = match by_keys {
            None => {
                let own = match &remote.jwt_claim {
                    Some(path) => said.holding(path),
                    None => said.of_token(&token),
                };
                match own {
                    Ok(facts) => (facts, Ground::Always, 0),
                    Err(reason) => return (Err(reason.into()), None),
                }
            }
            Some(ByKeys { facts, ground, epoch }) => (facts.with_introspection(said), ground, epoch),
        };
        let life = Life::of(&facts, &settings, &remote, most, now_ms);
        let room = settings.room_for(&facts);
        let entry = Entry::new(Verdict::Verified(facts), ground, epoch, life.until_ms).with_room(room);
        let entry = Arc::new(entry.refreshed_at(life.refresh_at_ms).stale_for(life.stale_ms));
        if remote.keep && life.until_ms > now_ms {
            cache.keep_positive(&key, &entry, now_ms);
        }
        let left = u64::try_from(life.until_ms - now_ms).ok().filter(|left| *left > 0);
        (Ok(entry), left.map(Duration::from_millis))
    }
}

fn millis(duration: Duration) -> i64 {
    duration.as_millis().min(1 << 50) as i64
}

/// How long an answer stands.
#[derive(PartialEq, Eq, Debug)]
struct Life {
    until_ms: i64,
    refresh_at_ms: i64,
    stale_ms: i64,
}

impl Life {
    /// `exp`, or the time-to-live where there is none, within the configured bounds and never past `exp`.
    fn of(facts: &Facts, settings: &Settings, remote: &Remote, most: Option<Duration>, now_ms: i64) -> Self {
        let exp_ms = facts.exp_ms().unwrap_or(i64::MAX);
        let ttl = exp_ms.checked_sub(now_ms).filter(|_| exp_ms < i64::MAX).unwrap_or(millis(settings.ttl_without_exp));
        let ttl = ttl.max(millis(remote.ttl_min));
        let ttl = settings.ttl_max.map_or(ttl, |most| ttl.min(millis(most)));
        let ttl = most.map_or(ttl, |most| ttl.min(millis(most)));
        let until_ms = now_ms.saturating_add(ttl).min(exp_ms);
        // Nothing is gained by asking for what has ended by then.
        let part = ((until_ms - now_ms) / REFRESH_PART).min(MAX_REFRESH_MS);
        let [random] = crypto::random::<1>();
        let jitter = part / 2 * i64::from(random) / 255;
        let refresh_at_ms = if until_ms < exp_ms && part > 0 { until_ms - part + jitter } else { i64::MAX };
        let stale_ms = millis(remote.ttl_stale).min(exp_ms.saturating_sub(until_ms)).max(0);
        Self { until_ms, refresh_at_ms, stale_ms }
    }
}

#[cfg(test)]
#[path = "introspection_tests.rs"]
mod tests;
