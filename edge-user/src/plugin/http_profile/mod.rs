//! `http-profile`: the header work of an F5 HTTP profile and of the iRules that usually stand beside it.
//!
//! `settings.rs` reads it. `rule.rs` and `condition.rs` are its rules, `allow.rs` its allow-lists, `view.rs` what both see of
//! a request. What a request's rules do is done once all other plugins had their say; what a response's do comes last of
//! all, so that nothing the edge adds escapes them.

mod allow;
mod condition;
mod rule;
mod settings;
mod view;

use self::allow::Allowed;
use self::rule::Rule;
use super::{Access, Answer, Request, Response};
use crate::config::reader::Reader;
use crate::http::head::{Head, Known, Owner};
use crate::proxy::headers::{Marks, Via};
use crate::reason::Reason;

/// As in the configuration.
pub const NAME: &str = "http-profile";
/// Ours: behind everything that writes fields of requests, `upstream-oauth` included.
pub const PRIORITY: u32 = 750;

/// One configured instance.
pub struct HttpProfile {
    request: RequestSide,
    response: ResponseSide,
}

/// What becomes of requests.
#[derive(Default)]
struct RequestSide {
    limits: Limits,
    allowed: Option<Allowed>,
    rules: Box<[Rule]>,
    marks: Marks,
}

/// What becomes of responses.
#[derive(Default)]
struct ResponseSide {
    allowed: Option<Allowed>,
    rules: Box<[Rule]>,
    server: Server,
    hsts: Option<Box<str>>,
    via: Via,
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
    pub fn parse(config: Reader<'_>) -> Option<Self> {
        settings::parse(config)
    }

    /// Lower-case names of the fields that only the edge may write.
    pub fn owned_names(&self) -> Vec<Box<str>> {
        let names = self.request.rules.iter().filter_map(Rule::owned_name);
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
    }

    /// The access phase.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        let side = &self.request;
        if side.limits.are_exceeded(request.head) {
            let answer = Answer::error(431, Reason::HeadTooLarge, "Request header or cookie too large");
            return Access::Answer(answer);
        }
        if let Some(allowed) = &side.allowed {
            allowed.clean_request(request.head);
        }
        let (head, view) = view::of_request(request);
        for rule in &side.rules {
            if rule.apply(head, &view).is_err() {
                return Access::Answer(Answer::error(400, Reason::RequestMalformed, "Bad request"));
            }
        }
        Access::Continue
    }

    /// The last word on the head of any response.
    pub fn shape(&self, response: &mut Response<'_>) {
        let side = &self.response;
        if let Some(allowed) = &side.allowed {
            allowed.clean_response(response.head);
        }
        match &side.server {
            Server::Preserve => {}
            Server::Remove => response.head.remove(Known::Server),
            Server::Name(name) => response.head.set_known(Known::Server, name.as_bytes()),
        }
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
    }
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
mod tests;
