//! One endpoint of an issuer, shared by everyone who calls it: bounds on calls and time, a circuit breaker, metrics.
//!
//! It judges what concerns the endpoint as a whole: whether it answers, and whether it takes the edge's own credentials.
//! What an answer says is its caller's to read.

use super::breaker::{Breaker, LONGEST_ASKED, Outcome};
use super::failure::{Failure, FailureKind, Malformed, RETRY_SECS};
use super::latency::Latency;
use super::request::Request;
use crate::crypto::FieldDigest;
use crate::http_client::{self, Answer, Call, HttpClient, Options, Session};
use crate::metrics::{Exposition, Kind};
use crate::token::json;
use dashmap::DashMap;
use reqwest::Url;
use reqwest::header::RETRY_AFTER;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{Semaphore, SemaphorePermit};

/// Calls in flight at one endpoint.
const MAX_CALLS: usize = 64;
/// Calls that wait for one of those to end.
const MAX_WAITING: usize = 1024;
/// Bytes of an answer's body.
pub const MAX_BODY: usize = 1024 * 1024;
/// Between two log lines about one endpoint.
const LOG_EVERY: Duration = Duration::from_secs(10);
/// Characters of an issuer's text that a log line shows.
const MAX_QUOTED: usize = 200;

/// What an endpoint is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Purpose {
    /// RFC 7662
    Introspection,
    /// RFC 6749, 3.2
    Token,
    /// OpenID Connect Core 1.0, 5.3
    UserInfo,
    /// Kong's legacy `token_exchange_endpoint`.
    TokenExchange,
    /// RFC 6749, 3.2, for tokens of the edge's own towards upstreams.
    UpstreamToken,
}

impl Purpose {
    /// Its name in logs and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Introspection => "introspection",
            Self::Token => "token",
            Self::UserInfo => "userinfo",
            Self::TokenExchange => "token_exchange",
            Self::UpstreamToken => "upstream_token",
        }
    }

    /// The plugin that asks there, for logs.
    pub(super) fn plugin(self) -> &'static str {
        match self {
            Self::UpstreamToken => "upstream-oauth",
            _ => "openid-connect",
        }
    }

    /// Whether a call whose connection broke may be made again (RFC 9110, 9.2.2): one that only reads.
    fn may_repeat(self) -> bool {
        matches!(self, Self::Introspection | Self::UserInfo)
    }
}

/// Whose credentials a request carries, which decides what a refusal of them means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    /// The edge's: a refusal is its operator's fault.
    Edge,
    /// A caller's, or a token: the answer is a verdict on those.
    Caller,
    /// The edge's beside a caller's: the answer's `error` says which of them is refused.
    Both,
}

/// The endpoints in use, by what they are and how they are asked.
pub struct Endpoints {
    http: HttpClient,
    endpoints: DashMap<[u8; 32], Weak<Endpoint>>,
}

impl Endpoints {
    /// None yet.
    pub fn new(http: HttpClient) -> Self {
        Self { http, endpoints: DashMap::new() }
    }

    /// The outbound client, for checks of configured URLs.
    pub fn http(&self) -> &HttpClient {
        &self.http
    }

    /// The endpoint at this URL under these options: the one in use, where there is one. `issuer` is the configured one.
    pub fn endpoint(
        &self,
        purpose: Purpose,
        issuer: &str,
        url: &str,
        options: &Options,
    ) -> Result<Arc<Endpoint>, http_client::Error> {
        self.http.check(url)?;
        let host =
            Url::parse(issuer).ok().and_then(|url| url.host_str().map(Box::from)).unwrap_or_else(|| issuer.into());
        let id = endpoint_id(purpose, &host, url, options);
        if let Some(endpoint) = self.endpoints.get(&id).and_then(|known| known.upgrade()) {
            return Ok(endpoint);
        }
        let session = self.http.session(options)?;
        self.endpoints.retain(|_, endpoint| endpoint.strong_count() > 0);
        let mut place = self.endpoints.entry(id).or_default();
        if let Some(endpoint) = place.upgrade() {
            return Ok(endpoint);
        }
        let endpoint = Arc::new(Endpoint {
            id,
            purpose,
            host,
            url: url.into(),
            session,
            slots: Semaphore::new(MAX_CALLS),
            waiting: AtomicUsize::new(0),
            breaker: Mutex::default(),
            born: Instant::now(),
            logged_ms: AtomicU64::new(0),
            results: Default::default(),
            latency: Latency::default(),
        });
        *place = Arc::downgrade(&endpoint);
        Ok(endpoint)
    }

    /// Writes the endpoints' numbers.
    pub fn collect(&self, to: &mut Exposition) {
        let mut all: Vec<_> = self.endpoints.iter().filter_map(|entry| entry.value().upgrade()).collect();
        if all.is_empty() {
            return;
        }
        // Endpoints that differ in how they are asked are one to an operator.
        let name = |endpoint: &Arc<Endpoint>| (endpoint.host.clone(), endpoint.purpose);
        all.sort_by_key(name);
        let groups: Vec<&[Arc<Endpoint>]> = all.chunk_by(|a, b| name(a) == name(b)).collect();
        let labels = |group: &[Arc<Endpoint>]| (group[0].host.clone(), group[0].purpose.name());
        to.family("edge_idp_calls_total", Kind::Counter, "Calls to issuers' endpoints, by what became of them.");
        for group in &groups {
            let (issuer, purpose) = labels(group);
            for (slot, result) in RESULTS.iter().enumerate() {
                let count: u64 = group.iter().map(|one| one.results[slot].load(Ordering::Relaxed)).sum();
                to.sample(&[("issuer", &issuer), ("endpoint", purpose), ("result", result)], count);
            }
        }
        to.family("edge_idp_call_seconds", Kind::Histogram, "How long calls to issuers' endpoints took.");
        for group in &groups {
            let (issuer, purpose) = labels(group);
            Latency::write(group.iter().map(|one| &one.latency), &issuer, purpose, to);
        }
        to.family("edge_idp_breaker", Kind::Gauge, "0 while calls are made, 1 while one tries, 2 while none is.");
        for group in &groups {
            let (issuer, purpose) = labels(group);
            let state = group.iter().map(|one| one.breaker().state(Instant::now()) as u8).max().unwrap_or_default();
            to.sample(&[("issuer", &issuer), ("endpoint", purpose)], state);
        }
    }
}

pub(super) fn endpoint_id(purpose: Purpose, issuer: &str, url: &str, options: &Options) -> [u8; 32] {
    FieldDigest::default().field(purpose.name()).field(issuer).field(url).field(options.digest()).finish()
}

/// Labels of what became of a call.
const RESULTS: [&str; 8] =
    ["answered", "transport", "timeout", "status", "credentials", "malformed", "busy", "skipped"];

/// One endpoint; see the module text.
pub struct Endpoint {
    id: [u8; 32],
    purpose: Purpose,
    /// The configured issuer's host.
    host: Box<str>,
    url: Box<str>,
    session: Session,
    slots: Semaphore,
    waiting: AtomicUsize,
    breaker: Mutex<Breaker>,
    born: Instant,
    /// When the last line was logged, in ms since `born`; 0 for never.
    logged_ms: AtomicU64,
    results: [AtomicU64; RESULTS.len()],
    latency: Latency,
}

/// A call that the breaker let through; one that is given up is recorded as such.
struct Pass<'a> {
    endpoint: &'a Endpoint,
    open: bool,
}

impl Pass<'_> {
    fn record(mut self, outcome: Outcome) {
        self.open = false;
        self.endpoint.breaker().record(outcome, Instant::now());
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        if self.open {
            self.endpoint.breaker().record(Outcome::Abandoned, Instant::now());
        }
    }
}

/// One of those that wait.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Endpoint {
    /// Its URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The hash over what it is and how it is asked.
    pub fn id(&self) -> &[u8; 32] {
        &self.id
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        // Every critical section only stores plain values.
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call and has its answer read by `read`. An answer of 5xx or 429, and one that refuses the edge's own
    /// credentials, do not come that far.
    pub async fn call<T, F: Future<Output = Result<T, Malformed>>>(
        &self,
        request: Request,
        whose: Whose,
        read: impl FnOnce(Answer) -> F,
    ) -> Result<T, Failure> {
        let result = match self.exchange(&request, whose).await {
            Ok(answer) => read(answer).await.map_err(|malformed| {
                self.warn(&malformed);
                Failure::from(FailureKind::from(malformed))
            }),
            Err(failure) => Err(failure),
        };
        let slot = match result.as_ref().err().map(|failure| failure.kind) {
            None => 0,
            Some(FailureKind::Transport) => 1,
            Some(FailureKind::Timeout) => 2,
            Some(FailureKind::Status(_)) => 3,
            Some(FailureKind::Credentials) => 4,
            Some(FailureKind::Malformed(_)) => 5,
            Some(FailureKind::Busy) => 6,
            Some(FailureKind::Open) => 7,
            // Of finding the endpoint; no call came this far.
            Some(FailureKind::Undiscovered | FailureKind::NoEndpoint | FailureKind::BadEndpoint) => 7,
        };
        self.results[slot].fetch_add(1, Ordering::Relaxed);
        result
    }

    async fn exchange(&self, request: &Request, whose: Whose) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.session.options().timeout;
        // Whoever will not be let through need not wait for that.
        let remaining = self.breaker().remaining(Instant::now());
        if !remaining.is_zero() {
            return Err(open(remaining));
        }
        let _slot = self.slot(deadline).await?;
        self.breaker().admit(Instant::now()).map_err(open)?;
        let pass = Pass { endpoint: self, open: true };
        let began = Instant::now();
        let answer = tokio::time::timeout_at(deadline.into(), self.send(request)).await;
        self.latency.observe(began.elapsed());
        let failed = Outcome::Failed { retry_after: None };
        match answer {
            Err(_) => {
                pass.record(failed);
                Err(self.unanswered(FailureKind::Timeout, None))
            }
            Ok(Err(error)) => {
                pass.record(failed);
                let kind = match &error {
                    http_client::Error::TooLarge(_) => Malformed("longer than is taken").into(),
                    error if error.is_timeout() => FailureKind::Timeout,
                    _ => FailureKind::Transport,
                };
                Err(self.unanswered(kind, Some(&error)))
            }
            Ok(Ok(answer)) if answer.status >= 500 || answer.status == 429 => {
                let asks = matches!(answer.status, 429 | 503);
                let retry_after = asks.then(|| retry_after(&answer, SystemTime::now())).flatten();
                let kind = FailureKind::Status(answer.status);
                // A limit on what the caller presented is that caller's: others are still answered.
                if answer.status == 429 && whose != Whose::Edge {
                    pass.record(Outcome::Answered);
                    let retry_after_secs = whole_secs(retry_after.unwrap_or_default());
                    return Err(Failure { retry_after_secs, ..self.unanswered(kind, None) });
                }
                pass.record(Outcome::Failed { retry_after });
                Err(self.unanswered(kind, None))
            }
            Ok(Ok(answer)) => {
                pass.record(Outcome::Answered);
                match refuses_us(&answer, whose) {
                    true => Err(self.alarm(request, &answer)),
                    false => Ok(answer),
                }
            }
        }
    }

    /// The right to make one call, until `deadline`.
    async fn slot(&self, deadline: Instant) -> Result<SemaphorePermit<'_>, Failure> {
        if let Ok(permit) = self.slots.try_acquire() {
            return Ok(permit);
        }
        let before = self.waiting.fetch_add(1, Ordering::AcqRel);
        let _waiting = Waiting(&self.waiting);
        if before >= MAX_WAITING {
            return Err(FailureKind::Busy.into());
        }
        match tokio::time::timeout_at(deadline.into(), self.slots.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(FailureKind::Busy.into()),
        }
    }

    async fn send(&self, request: &Request) -> Result<Answer, http_client::Error> {
        let url = request.url(&self.url);
        let call = || Call {
            method: request.method(),
            url: &url,
            accept: if request.accept.is_empty() { "application/json" } else { request.accept },
            headers: request.headers.clone(),
            limit: MAX_BODY,
        };
        match self.session.call(call()).await {
            // The issuer may close an idle connection in the moment it is used again.
            Err(error) if self.may_repeat(request) && error.is_broken_connection() => self.session.call(call()).await,
            result => result,
        }
    }

    /// An assertion is good for one call (RFC 7523, 3): the issuer may have seen it.
    fn may_repeat(&self, request: &Request) -> bool {
        self.purpose.may_repeat() && !request.form.as_ref().is_some_and(|form| form.has("client_assertion"))
    }

    fn unanswered(&self, kind: FailureKind, error: Option<&http_client::Error>) -> Failure {
        match error {
            Some(error) => self.warn(error),
            None => self.warn(&kind),
        }
        let remaining = self.breaker().remaining(Instant::now());
        Failure { kind, retry_after_secs: whole_secs(remaining) }
    }

    /// The issuer does not take our credentials: somebody has to know, with the issuer's own words.
    fn alarm(&self, request: &Request, answer: &Answer) -> Failure {
        if self.may_log() {
            let (words, secrets) = (Words::read(answer), request.secrets());
            let quote = |text: &Option<String>| match text.as_deref() {
                Some(text) if secrets.are_echoed_in(text) => Some("[not shown: it repeats a secret]".to_owned()),
                text => text.map(|text| text.chars().take(MAX_QUOTED).collect()),
            };
            tracing::error!(
                issuer = &*self.host,
                endpoint = self.purpose.name(),
                status = answer.status,
                error = ?quote(&words.error),
                error_description = ?quote(&words.description),
                "[{}] the issuer refuses this edge's own credentials",
                self.purpose.plugin()
            );
        }
        FailureKind::Credentials.into()
    }

    fn warn(&self, error: &(dyn std::error::Error + 'static)) {
        if self.may_log() {
            tracing::warn!(
                issuer = &*self.host,
                endpoint = self.purpose.name(),
                error,
                "[{}] the issuer gives no answer",
                self.purpose.plugin()
            );
        }
    }

    /// Whether a line is due; the one who is told so logs it.
    fn may_log(&self) -> bool {
        let now = self.born.elapsed().as_millis() as u64 + 1;
        let last = self.logged_ms.load(Ordering::Relaxed);
        let due = last == 0 || now - last.min(now) >= LOG_EVERY.as_millis() as u64;
        due && self.logged_ms.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

/// `error` and `error_description` of an error answer (RFC 6749, 5.2).
#[derive(Default)]
struct Words {
    error: Option<String>,
    description: Option<String>,
}

impl Words {
    fn read(answer: &Answer) -> Self {
        let Ok(document) = json::Document::parse(answer.body.clone()) else { return Self::default() };
        let text = |name: &str| document.root().member(name)?.text().map(|text| text.into_owned());
        Self { error: text("error"), description: text("error_description") }
    }
}

/// Whether an answer refuses the edge's own credentials (RFC 6749, 5.2; RFC 7662, 2.3).
fn refuses_us(answer: &Answer, whose: Whose) -> bool {
    if whose == Whose::Caller || !matches!(answer.status, 400 | 401 | 403) {
        return false;
    }
    match Words::read(answer).error.as_deref() {
        Some("invalid_client" | "unauthorized_client") => true,
        // Some issuers say 401 or 403 to a wrong password or an old refresh token as well.
        Some(_) if whose == Whose::Both => false,
        _ => answer.status != 400,
    }
}

fn open(remaining: Duration) -> Failure {
    Failure { kind: FailureKind::Open, retry_after_secs: whole_secs(remaining) }
}

fn whole_secs(remaining: Duration) -> u32 {
    remaining.as_millis().div_ceil(1000).clamp(u128::from(RETRY_SECS), LONGEST_ASKED.as_secs().into()) as u32
}

/// `Retry-After` in either form (RFC 9110, 10.2.3).
fn retry_after(answer: &Answer, now: SystemTime) -> Option<Duration> {
    let text = answer.headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse().ok().map(Duration::from_secs),
        false => httpdate::parse_http_date(text).ok()?.duration_since(now).ok(),
    }
}

#[cfg(test)]
#[path = "endpoint_tests.rs"]
mod tests;
