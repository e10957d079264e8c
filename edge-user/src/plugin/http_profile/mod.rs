//! `http-profile`: the header work of an F5 HTTP profile and of the iRules that usually stand beside it.
//!
//! `settings.rs` reads it. `rule.rs` and `condition.rs` are its rules, `allow.rs` its allow-lists, `view.rs` what both see of
//! a request, `certificate.rs` what it tells of a client's certificate, `cookies.rs`, `location.rs` and `fallback.rs` what they
//! are named after. What a request's rules do is done once all other plugins had their say; what a response's do comes last of
//! all, so that nothing the edge adds escapes them.

mod allow;
mod certificate;
mod condition;
mod cookies;
mod fallback;
mod location;
mod rule;
mod settings;
mod view;

use self::allow::Allowed;
use self::certificate::Told;
use self::cookies::Cookies;
use self::fallback::Fallback;
use self::location::Redirects;
use self::rule::{Rule, Unfit};
use super::request_transformer::template::Template;
use super::{Access, Answer, PluginEnv, Request, Response};
use crate::config::reader::Reader;
use crate::http::h1::parse::is_authority;
use crate::http::h1::write::Case;
use crate::http::head::{Head, Known, Owner};
use crate::proxy::content::Chunking;
use crate::proxy::headers::{Marks, Via};
use crate::proxy::upstream::Sharing;
use crate::reason::Reason;
use uuid::Uuid;

/// As in the configuration.
pub const NAME: &str = "http-profile";
/// Ours: behind everything that writes fields of requests, `upstream-oauth` included.
pub const PRIORITY: u32 = 750;

/// One configured instance.
pub struct HttpProfile {
    request: RequestSide,
    response: ResponseSide,
    upstream: UpstreamSide,
}

/// What becomes of requests.
#[derive(Default)]
struct RequestSide {
    limits: Limits,
    allowed: Option<Allowed>,
    rules: Box<[Rule]>,
    certificate: Told,
    host: Option<Template>,
    marks: Marks,
    chunking: Chunking,
}

/// What becomes of responses.
#[derive(Default)]
struct ResponseSide {
    allowed: Option<Allowed>,
    rules: Box<[Rule]>,
    server: Server,
    hsts: Option<Box<str>>,
    via: Via,
    redirects: Redirects,
    cookies: Cookies,
    fallback: Option<Fallback>,
    chunking: Chunking,
}

/// How upstreams are spoken to.
#[derive(Default)]
struct UpstreamSide {
    header_case: Case,
    reuse: Reuse,
}

/// Whose requests may follow each other over one connection (F5: OneConnect).
#[derive(Clone, Copy, Default)]
enum Reuse {
    /// Everybody's.
    #[default]
    Shared,
    /// Those of one consumer; those of nobody known among themselves.
    PerConsumer,
    /// Those of one connection of a client.
    PerConnection,
}

/// What a request's head may come to; over it 431.
#[derive(Default)]
struct Limits {
    fields: Option<usize>,
    field_bytes: Option<usize>,
    head_bytes: Option<u64>,
}

/// What becomes of `Server`.
#[derive(Default)]
enum Server {
    #[default]
    Preserve,
    Remove,
    Name(Box<str>),
}

impl HttpProfile {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(config: Reader<'_>, env: &PluginEnv) -> Option<Self> {
        settings::parse(config, env)
    }

    /// Lower-case names of the fields that only the edge may write.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        let names = self.request.rules.iter().filter_map(Rule::owned_name);
        let names = names.chain(self.request.certificate.owned_names());
        names.map(|name| name.to_ascii_lowercase().into()).collect()
    }

    /// How the way of a request is told.
    pub fn marks(&self) -> &Marks {
        &self.request.marks
    }

    /// How the way of a response is told.
    pub fn response_via(&self) -> &Via {
        &self.response.via
    }

    /// Whether a client's trailer of this name may go up.
    pub fn lets_up(&self, name: &[u8]) -> bool {
        self.request.allowed.as_ref().is_none_or(|allowed| allowed.lets_trail(name))
    }

    /// Whether some response is another than without it.
    pub fn changes_responses(&self) -> bool {
        let side = &self.response;
        side.allowed.is_some()
            || !side.rules.is_empty()
            || !matches!(side.server, Server::Preserve)
            || side.hsts.is_some()
            || side.via != Via::Append
            || side.redirects != Redirects::None
            || !side.cookies.is_empty()
            || side.fallback.is_some()
    }

    /// How bodies of requests are framed.
    pub fn request_chunking(&self) -> Chunking {
        self.request.chunking
    }

    /// How bodies of responses are framed.
    pub fn response_chunking(&self) -> Chunking {
        self.response.chunking
    }

    /// How the names of fields are spelled towards the upstream.
    pub fn header_case(&self) -> Case {
        self.upstream.header_case
    }

    /// Whose connections to the upstream a request may use.
    pub fn sharing(&self, consumer: Option<Uuid>, connection: u64) -> Sharing {
        match self.upstream.reuse {
            Reuse::Shared => Sharing::All,
            Reuse::PerConsumer => Sharing::Consumer(consumer),
            Reuse::PerConnection => Sharing::Connection(connection),
        }
    }

    /// What is answered in place of an upstream's answer of this status, where that is not for clients.
    pub fn replaces(&self, status: u16) -> Option<Answer<'_>> {
        let fallback = self.response.fallback.as_ref().filter(|fallback| fallback.replaces(status))?;
        Some(fallback.answer(status, Reason::FallbackAnswered))
    }

    /// What is answered in place of this status where no upstream answered.
    pub fn stands_in(&self, status: u16, reason: Reason) -> Option<Answer<'_>> {
        self.response.fallback.as_ref().map(|fallback| fallback.answer(status, reason))
    }

    /// The access phase.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        let side = &self.request;
        if side.limits.are_exceeded(request.head) {
            return too_large();
        }
        self.response.cookies.open(request.head);
        let shown = request.connection.client_certificate.as_deref();
        if side.certificate.apply(request.head, shown).is_err() {
            return too_large();
        }
        if let Err(Unfit) = side.rule(request) {
            return Access::Answer(Answer::error(400, Reason::RequestMalformed, "Bad request"));
        }
        // After the rules, whose conditions may ask for what does not go on.
        if let Some(allowed) = &side.allowed {
            allowed.clean_request(request.head);
        }
        Access::Continue
    }

    /// The last word on the head of any response.
    pub fn shape(&self, response: &mut Response<'_>) {
        let side = &self.response;
        match &side.server {
            Server::Preserve => {}
            Server::Remove => response.head.remove(Known::Server),
            Server::Name(name) => response.head.set_known(Known::Server, name.as_bytes()),
        }
        side.redirects.apply(response);
        // A browser takes it over TLS alone, and no one may send it otherwise (RFC 6797, 7.2).
        if let Some(hsts) = side.hsts.as_ref().filter(|_| response.https) {
            response.head.replace(b"Strict-Transport-Security", hsts.as_bytes());
        }
        let (head, view) = view::of_response(response);
        for rule in &side.rules {
            if rule.apply(head, &view).is_err() {
                // A consumer's name may hold what no field can.
                tracing::warn!(plugin = NAME, "a rule's value cannot stand in a field of a response: nothing is done");
            }
        }
        // Those that a rule set, too.
        side.cookies.seal(response.head);
        if let Some(allowed) = &side.allowed {
            allowed.clean_response(response.head);
        }
    }
}

impl RequestSide {
    /// The rules, and then the host that the upstream sees.
    fn rule(&self, request: &mut Request<'_>) -> Result<(), Unfit> {
        let (head, view) = view::of_request(request);
        for rule in &self.rules {
            rule.apply(head, &view)?;
        }
        let Some(host) = &self.host else { return Ok(()) };
        let host = view.fill(head, host);
        // A template that comes to nothing leaves the host as routing has it.
        if !host.is_empty() {
            is_authority(&host).then_some(()).ok_or(Unfit)?;
            request.notes.upstream_host = Some(host.into_owned());
        }
        Ok(())
    }
}

fn too_large() -> Access<'static> {
    Access::Answer(Answer::error(431, Reason::HeadTooLarge, "Request header or cookie too large"))
}

impl Limits {
    /// Of the head as clients sent it, the fields of the hop left out.
    fn are_exceeded(&self, head: &Head) -> bool {
        let sent = || head.fields().filter(|field| field.owner == Owner::Peer);
        self.fields.is_some_and(|most| sent().count() > most)
            || self.field_bytes.is_some_and(|most| sent().any(|field| field.name.len() + field.value.len() + 2 > most))
            || self.head_bytes.is_some_and(|most| head.text_bytes(|owner| owner == Owner::Peer) > most)
    }
}

#[cfg(test)]
mod measure;
#[cfg(test)]
mod tests;
