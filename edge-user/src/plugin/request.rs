//! One request as plugins see it, what they leave for its later phases, and how they answer in the upstream's place.

use std::borrow::Cow;
use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::config::snapshot::{Consumer, ConsumerGroup, Consumers, Route};
use crate::http::h1::parse::Framing;
use crate::http::head::{Head, Known};
use crate::metrics::WorkerMetrics;
use crate::proxy::connection::Connection;
use crate::reason::Reason;
use crate::router::{Captures, Match, Router};
use crate::token::cache::LocalCache;
use crate::token::{Now, Progress, Verified, Wait};
use crate::trace::Observer;

use super::Refusal;
use super::upstream_oauth::Sent;

/// One request before it is forwarded.
pub struct Request<'a> {
    /// Its head, which a plugin may change.
    pub head: &'a mut Head,
    /// The normalised path.
    pub path: &'a [u8],
    /// The query, without its question mark. A plugin may set another: that goes on.
    pub query: Option<Cow<'a, [u8]>>,
    /// The host that routing saw, without a port: the realm of challenges.
    pub host: &'a [u8],
    /// The port of `Host`, or else the listener's.
    pub port: u16,
    /// Whether the client uses TLS, by the rules of `trusted_ips`.
    pub https: bool,
    /// Whether the client waits to be asked for the body (RFC 9110, 10.1.1).
    pub expects_continue: bool,
    /// The client by the rules of `trusted_ips`.
    pub client: IpAddr,
    /// The connection it came over.
    pub connection: &'a Connection,
    /// Its id, as logs carry it.
    pub id: &'a str,
    /// When it came.
    pub now: Now,
    /// Where it goes.
    pub route: &'a Route,
    /// What found its route.
    pub router: &'a Router,
    /// How it was found.
    pub found: Option<Match>,
    /// Whom tokens may stand for.
    pub consumers: &'a Consumers,
    /// The worker's verdicts.
    pub cache: &'a LocalCache,
    /// How long it may wait for an issuer's keys.
    pub key_wait: Duration,
    /// Its body.
    pub body: &'a mut dyn RequestBody,
    /// What is left for later phases.
    pub notes: &'a mut Notes,
    /// Who hears what each check of its token finds.
    pub observer: Observer<'a>,
}

impl<'a> Request<'a> {
    /// Waits for a verdict's ground, but for no longer than a request may.
    pub async fn wait(&mut self, wait: Wait) -> Progress {
        let given_up = wait.given_up();
        let limit = self.key_wait;
        self.within(async move { tokio::time::timeout(limit, wait.done()).await.unwrap_or(given_up) }).await
    }

    /// Waits for others; how long is noted, and the clock read anew.
    pub async fn within<T>(&mut self, others: impl Future<Output = T>) -> T {
        let began = Instant::now();
        let came = others.await;
        self.notes.waited = Some(self.notes.waited.unwrap_or_default() + began.elapsed());
        self.now = Now::read();
        came
    }

    /// What the groups of the route's regular expression took of the path, where one made the match.
    pub fn captures(&self) -> Option<Captures<'a>> {
        self.router.captures(self.found.as_ref()?, self.path)
    }
}

/// A request's body. It is read from the client once, whoever asks, and what was read goes on to the upstream.
pub trait RequestBody {
    /// How the client framed it.
    fn framing(&self) -> Framing;

    /// Reads it whole; false where it is over `limit` bytes or `limits.buffer_bytes`, or its client failed. Whatever a
    /// plugin does then, a client that failed is answered so.
    fn poll_collect(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<bool>;

    /// The whole body where it was collected and is not over `limit` bytes.
    fn collected(&self, limit: usize) -> Option<&[u8]>;

    /// Lets other content go on in its place, without the trailers; false, and nothing done, where it was not collected
    /// whole.
    #[must_use]
    fn replace(&mut self, body: Vec<u8>) -> bool;
}

impl dyn RequestBody + '_ {
    /// The whole body, or nothing where it is over `limit` bytes or `limits.buffer_bytes`, or its client failed.
    pub async fn collect(&mut self, limit: usize) -> Option<&[u8]> {
        poll_fn(|cx| self.poll_collect(cx, limit)).await.then(|| self.collected(limit)).flatten()
    }
}

/// What plugins leave for later phases of one request.
#[derive(Default)]
pub struct Notes {
    /// Whom it stands for.
    pub caller: Caller,
    /// Fields of the response, whoever answers: each takes the place of those of its name, and nothing but removes
    /// them.
    pub reply: Vec<(Cow<'static, str>, Option<Vec<u8>>)>,
    /// The longest body the request may have, in bytes.
    pub body_limit: Option<u64>,
    /// What ties the logs of many systems together: `correlation-id`.
    pub correlation_id: Option<Box<str>>,
    /// How long it waited for its issuer.
    pub waited: Option<Duration>,
    /// The path it goes upstream with, where a plugin gives it another than routing does.
    pub upstream_path: Option<Vec<u8>>,
    /// The host it goes upstream with, where a plugin gives it another.
    pub upstream_host: Option<Vec<u8>>,
    /// The method it came with, where a plugin gave it another.
    pub client_method: Option<Box<[u8]>>,
    /// Fields that may carry a client's certificate, as they came: they are in the head no more.
    pub certificates: Vec<(Box<str>, Vec<u8>)>,
    /// The edge's own token that it goes upstream with, until one was refused.
    pub sent: Option<Sent>,
}

impl Notes {
    /// Sets a field of the response, whoever answers.
    pub fn reply(&mut self, name: impl Into<Cow<'static, str>>, value: impl Into<Vec<u8>>) {
        self.reply.push((name.into(), Some(value.into())));
    }

    /// Removes a field from the response, whoever answers.
    pub fn withhold(&mut self, name: impl Into<Cow<'static, str>>) {
        self.reply.push((name.into(), None));
    }
}

/// Whom a request stands for.
#[derive(Default)]
pub struct Caller {
    /// The consumer its credential was mapped to.
    pub consumer: Option<Arc<Consumer>>,
    /// Consumer groups that the authenticating plugin gives, in the token's order; a consumer need not be in them.
    pub claimed_groups: Box<[Arc<ConsumerGroup>]>,
    /// Whether the consumer stands for all who could not be told.
    pub is_anonymous: bool,
    /// The id of its credential, which a verified claim gives.
    pub credential: Option<Box<str>>,
    /// What its token says, once verified.
    pub facts: Option<Verified>,
    /// Groups that the authenticating plugin gives, in the token's order; `None` where it gives none.
    pub groups: Option<Vec<Box<str>>>,
    /// When the token stops being good, leeway included: a stream that outlives its request ends then (P8).
    pub expires_unix_ms: Option<i64>,
}

impl Caller {
    /// Whether a credential was verified.
    pub fn is_authenticated(&self) -> bool {
        self.facts.is_some()
    }

    /// The consumer groups it is in: those of its token first, then the consumer's by name.
    pub fn consumer_groups(&self) -> impl Iterator<Item = &Arc<ConsumerGroup>> {
        let own = self.consumer.iter().flat_map(|consumer| &consumer.groups);
        self.claimed_groups.iter().chain(own)
    }
}

/// A plugin's answer to a request.
pub enum Access<'a> {
    /// Go on.
    Continue,
    /// The caller is not who it must be.
    Refuse(Refusal<'a>),
    /// The plugin answers in the upstream's place.
    Answer(Answer<'a>),
}

/// An answer in the upstream's place.
pub struct Answer<'a> {
    /// The status.
    pub status: u16,
    /// Why, for log and metrics.
    pub reason: Reason,
    /// The body.
    pub body: AnswerBody<'a>,
    /// Further fields.
    pub fields: Vec<(Known, Vec<u8>)>,
}

impl<'a> Answer<'a> {
    /// An error whose form the client's `Accept` decides.
    pub fn error(status: u16, reason: Reason, message: impl Into<Cow<'a, str>>) -> Self {
        Self { status, reason, body: AnswerBody::Error(message.into()), fields: Vec::new() }
    }
}

/// The body of an answer.
pub enum AnswerBody<'a> {
    /// JSON, text, HTML or XML by `Accept`, with the request's id.
    Error(Cow<'a, str>),
    /// `{"message":"…"}`, compact and always JSON.
    Message(Cow<'a, str>),
    /// These bytes, of this type if one is given.
    Raw(Cow<'a, [u8]>, Option<&'a str>),
}

/// A response before it is sent, the upstream's or the edge's own.
pub struct Response<'a> {
    /// Its head, which a plugin may change.
    pub head: &'a mut Head,
    /// The request's head, as it went upstream.
    pub request: &'a Head,
    /// The authority the client asked for.
    pub authority: &'a [u8],
    /// The request's id, as logs carry it.
    pub id: &'a str,
    /// The upstream's address, where one was asked.
    pub upstream: Option<SocketAddr>,
    /// The client by the rules of `trusted_ips`.
    pub client: IpAddr,
    /// Whether the client uses TLS, by the rules of `trusted_ips`.
    pub https: bool,
    /// The connection it goes back over.
    pub connection: &'a Connection,
    /// Whether an upstream answered.
    pub is_proxied: bool,
    /// What the access phase left.
    pub notes: &'a Notes,
}

/// A request that has ended, as the log phase sees it.
pub struct Ended<'a> {
    /// Where it went.
    pub route: &'a Route,
    /// Whom it stood for.
    pub caller: &'a Caller,
    /// The status sent; 0 where the client saw none.
    pub status: u16,
    /// Its head, as it went upstream.
    pub request: &'a Head,
    /// The head of the response, if one was sent.
    pub response: Option<&'a Head>,
    /// Body bytes from the client.
    pub request_bytes: u64,
    /// Body bytes to the client.
    pub response_bytes: u64,
    /// From its first byte to the response's last.
    pub total: Duration,
    /// The edge's own part of it.
    pub edge: Duration,
    /// How long the upstream took to its response head, if it answered.
    pub upstream: Option<Duration>,
    /// The worker's numbers.
    pub metrics: &'a WorkerMetrics,
}
