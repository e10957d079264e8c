//! Answers of the edge's own: every refusal and failure becomes a status, a challenge and a body here.
//!
//! Bodies follow Kong's three kinds: the router's and the proxy's by what the client accepts, a plugin's compact.

use std::borrow::Cow;

use super::context::Context;
use super::grpc;
use crate::http::downstream::{Downstream, ResponseShape};
use crate::http::h1::parse::{Framing, list};
use crate::http::h1::write::decimal;
use crate::http::head::{Head, Known, Owner, Version};
use crate::plugin::{self, Answer, AnswerBody, Refusal};
use crate::reason::Reason;

/// When to come again to an upstream that has too much to do.
const RETRY_AFTER_SECS: &str = "1";

/// What an answer's body looks like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// By `Accept`, JSON by default: router and run loop.
    Negotiated,
    /// By `Accept`, then the request's `Content-Type`, plain text by default: failures of the proxy.
    ProxyError,
    /// Compact JSON without the request id: plugins.
    Plugin,
    /// These bytes, of this type if one is given, in place of the message.
    Raw(Cow<'a, [u8]>, Option<&'a str>),
}

/// One answer of the edge's own.
pub struct Local<'a> {
    /// The status.
    pub status: u16,
    /// Why, for log and metrics.
    pub reason: Reason,
    /// What the client reads.
    pub message: Cow<'a, str>,
    /// How it is written.
    pub body: Body<'a>,
    /// Further fields.
    pub fields: Vec<(Known, Vec<u8>)>,
    /// Whether the connection must end.
    pub close: bool,
}

impl<'a> Local<'a> {
    /// An answer of the router or the run loop.
    pub fn new(status: u16, reason: Reason, message: impl Into<Cow<'a, str>>) -> Self {
        Self { status, reason, message: message.into(), body: Body::Negotiated, fields: Vec::new(), close: false }
    }

    /// With this body.
    pub fn body(mut self, body: Body<'a>) -> Self {
        self.body = body;
        self
    }

    /// With one more field.
    pub fn field(mut self, known: Known, value: impl Into<Vec<u8>>) -> Self {
        self.fields.push((known, value.into()));
        self
    }

    /// With the connection's end after it.
    pub fn close(mut self) -> Self {
        self.close = true;
        self
    }
}

/// A plugin's refusal.
impl<'a> From<Refusal<'a>> for Local<'a> {
    fn from(refusal: Refusal<'a>) -> Self {
        let body = match refusal.description {
            None => Body::Plugin,
            Some(description) => {
                let (message, description) = (json_string(refusal.message), json_string(description));
                let text = format!("{{\"message\":{message},\"error_description\":{description}}}");
                Body::Raw(text.into_bytes().into(), Some(Form::Json.content_type()))
            }
        };
        let mut answer = Self::new(refusal.status, refusal.reason, refusal.message).body(body);
        for challenge in refusal.challenges.into_iter().flatten() {
            answer = answer.field(Known::WwwAuthenticate, challenge);
        }
        match refusal.retry_after {
            Some(secs) => answer.field(Known::RetryAfter, secs.to_string()),
            None => answer,
        }
    }
}

/// A plugin's answer in the upstream's place.
impl<'a> From<Answer<'a>> for Local<'a> {
    fn from(answer: Answer<'a>) -> Self {
        let (message, body) = match answer.body {
            AnswerBody::Error(message) => (message, Body::Negotiated),
            AnswerBody::Message(message) => (message, Body::Plugin),
            AnswerBody::Raw(bytes, content_type) => (Cow::Borrowed(""), Body::Raw(bytes, content_type)),
        };
        Self { status: answer.status, reason: answer.reason, message, body, fields: answer.fields, close: false }
    }
}

/// The answer to a failed exchange with the upstream. Terse: neither address nor cause (P7).
pub fn upstream_failure(reason: Reason) -> Local<'static> {
    let (status, message) = match reason {
        Reason::UpstreamTimeout => (504, "The upstream server is timing out"),
        Reason::UpstreamResolve => (503, "name resolution failed"),
        Reason::UpstreamUnhealthy | Reason::UpstreamBusy => (503, "The upstream server is currently unavailable"),
        _ => (502, "An invalid response was received from the upstream server"),
    };
    let answer = Local::new(status, reason, message).body(Body::ProxyError);
    match reason {
        Reason::UpstreamBusy => answer.field(Known::RetryAfter, RETRY_AFTER_SECS),
        _ => answer,
    }
}

/// Answers, and tells the context. The request's body is left unread: the connection is kept only if all of it has
/// come already.
pub fn local<D: Downstream>(
    context: &mut Context<'_>,
    request: &Head,
    response: &mut Head,
    down: &mut D,
    answer: &Local<'_>,
) {
    context.status = answer.status;
    context.reason = Some(answer.reason);
    down.abandon_body();
    response.start_response(answer.status, reason_phrase(answer.status).as_bytes(), Version::Http11);
    response.push_known(Known::Date, &context.worker.clock.http_date(context.now.unix_ms as u64 / 1000));
    let grpc = grpc::is_grpc(request);
    let (content_type, mut text) = match grpc {
        true => (Some(grpc::CONTENT_TYPE), Default::default()),
        false => body_text(context, request, answer),
    };
    if let Some(content_type) = content_type {
        response.push_known(Known::ContentType, content_type.as_bytes());
    }
    if grpc {
        grpc::push_status(response, answer.status);
    }
    for (known, value) in &answer.fields {
        response.push_known(*known, value);
    }
    if context.may_see_reason() {
        response.push(Owner::Edge, b"Proxy-Status", proxy_status(answer.reason).as_bytes());
    }
    plugin_fields(context, request, response, false);
    for plugin in context.answering().filter(|plugin| plugin.rewrites_body(response)) {
        if let Some(rewritten) = plugin.rewrite_body(&text) {
            text = rewritten.into();
        }
    }
    let mut latency = Vec::with_capacity(4);
    decimal(&mut latency, context.started.elapsed().as_millis() as u64);
    response.replace(b"X-Kong-Response-Latency", &latency);
    response.set_known(Known::Server, b"edge");
    response.set_known(Known::XKongRequestId, context.request_id.as_bytes());
    shape(context, request, response, false);
    let declared = Framing::Length(text.len() as u64);
    if answer.status == 401 && context.owns_connection() && context.worker.penalties.ends_connection(context.client) {
        context.connection.ends.set(true);
    }
    let close = answer.close || context.ends_connection();
    let bodiless = request.method() == b"HEAD" || matches!(answer.status, 204 | 304);
    let framing = if bodiless { Framing::None } else { declared };
    down.respond(response, ResponseShape { framing, declared }, close);
    if !bodiless {
        down.write(&text);
    }
    down.finish(&Head::default());
    context.response_bytes += if bodiless { 0 } else { text.len() as u64 };
}

/// The whole of a plugin's refusal as the kernel sends it: what `local` sends, but for the date and the request's id, which
/// differ from request to request, and the reason where it is for trusted peers alone.
pub fn kernel_reply(answer: &Local<'_>, exposes_reason: bool, closes: bool) -> Vec<u8> {
    let text: Cow<'_, [u8]> = match &answer.body {
        Body::Raw(bytes, _) => Cow::Borrowed(bytes),
        _ => plugin_body(&answer.message).into(),
    };
    let (status, phrase) = (answer.status, reason_phrase(answer.status));
    let mut reply =
        format!("HTTP/1.1 {status} {phrase}\r\nContent-Type: {}\r\n", Form::Json.content_type()).into_bytes();
    for (known, value) in &answer.fields {
        reply.extend_from_slice(known.spelling().as_bytes());
        reply.extend_from_slice(b": ");
        reply.extend_from_slice(value);
        reply.extend_from_slice(b"\r\n");
    }
    if exposes_reason {
        reply.extend_from_slice(format!("Proxy-Status: {}\r\n", proxy_status(answer.reason)).as_bytes());
    }
    let connection = if closes { "Connection: close\r\n" } else { "" };
    let rest =
        format!("X-Kong-Response-Latency: 0\r\nServer: edge\r\nContent-Length: {}\r\n{connection}\r\n", text.len());
    reply.extend_from_slice(rest.as_bytes());
    reply.extend_from_slice(&text);
    reply
}

/// Why, for those who may know (RFC 9209).
fn proxy_status(reason: Reason) -> String {
    format!("edge; error=http_request_denied; details=\"{}\"", reason.code())
}

/// The body of a plugin's refusal.
fn plugin_body(message: &str) -> Vec<u8> {
    format!("{{\"message\":{}}}", json_string(message)).into_bytes()
}

/// What the route's plugins make of a response's fields: those set in the access phase, then each plugin in turn.
pub fn plugin_fields(context: &Context<'_>, request: &Head, response: &mut Head, is_proxied: bool) {
    for (name, value) in &context.notes.reply {
        match value {
            Some(value) => response.replace(name.as_bytes(), value),
            None => response.remove_named(name.as_bytes()),
        }
    }
    for plugin in context.answering() {
        plugin.respond(&mut view(context, request, response, is_proxied));
    }
}

/// What the route's profile makes of a response, after everything else.
pub fn shape(context: &Context<'_>, request: &Head, response: &mut Head, is_proxied: bool) {
    if let Some(profile) = context.profile() {
        profile.shape(&mut view(context, request, response, is_proxied));
    }
}

/// A response as plugins see it.
fn view<'r>(
    context: &'r Context<'_>,
    request: &'r Head,
    response: &'r mut Head,
    is_proxied: bool,
) -> plugin::Response<'r> {
    plugin::Response {
        head: response,
        request,
        authority: &context.host,
        id: context.request_id.as_str(),
        upstream: context.upstream_address,
        client: context.client,
        https: context.https,
        connection: context.connection,
        is_proxied,
        notes: &context.notes,
    }
}

/// The forms an error body can take.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Json,
    Text,
    Html,
    Xml,
}

impl Form {
    /// The form the client likes best, the first of those it likes equally; nothing where it knows none of them.
    fn of(accept: &[u8]) -> Option<Self> {
        let mut best: Option<(u16, Self)> = None;
        for member in list(accept) {
            let mut parts = member.split(|byte| *byte == b';').map(<[u8]>::trim_ascii);
            let Some(form) = parts.next().and_then(Self::of_range) else { continue };
            let weight = parts.find_map(|part| part.strip_prefix(b"q=").or(part.strip_prefix(b"Q=")));
            let weight = weight.map_or(1000, thousandths);
            if weight > best.map_or(0, |(weight, _)| weight) {
                best = Some((weight, form));
            }
        }
        best.map(|(_, form)| form)
    }

    fn of_range(range: &[u8]) -> Option<Self> {
        let is = |name: &str| range.eq_ignore_ascii_case(name.as_bytes());
        match () {
            () if is("application/json") || is("application/*") || is("*/*") => Some(Self::Json),
            () if is("text/plain") || is("text/*") => Some(Self::Text),
            () if is("text/html") => Some(Self::Html),
            () if is("application/xml") => Some(Self::Xml),
            () => None,
        }
    }

    fn text(self, message: &str, id: &str) -> String {
        match self {
            Self::Json => format!("{{\n  \"message\":{},\n  \"request_id\":\"{id}\"\n}}", json_string(message)),
            Self::Text => format!("{message}\nrequest_id: {id}\n"),
            Self::Html => format!(
                "<!doctype html>\n<html>\n<head><meta charset=\"utf-8\"><title>Error</title></head>\n<body>\n\
                 <h1>Error</h1>\n<p>{}.</p>\n<p>request_id: {id}</p>\n</body>\n</html>\n",
                escaped(message)
            ),
            Self::Xml => format!(
                "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<error>\n  <message>{}</message>\n  \
                 <requestid>{id}</requestid>\n</error>\n",
                escaped(message)
            ),
        }
    }

    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json; charset=utf-8",
            Self::Text => "text/plain; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml; charset=utf-8",
        }
    }
}

fn body_text<'a>(context: &Context<'_>, request: &Head, answer: &'a Local<'_>) -> (Option<&'a str>, Cow<'a, [u8]>) {
    let (message, id) = (&*answer.message, context.request_id.as_str());
    if let Body::Raw(bytes, content_type) = &answer.body {
        return (*content_type, Cow::Borrowed(bytes));
    }
    if answer.body == Body::Plugin {
        return (Some(Form::Json.content_type()), plugin_body(message).into());
    }
    let accepted = request.get(Known::Accept).and_then(Form::of);
    let form = match &answer.body {
        Body::ProxyError => {
            accepted.or_else(|| request.get(Known::ContentType).and_then(Form::of)).unwrap_or(Form::Text)
        }
        _ => accepted.unwrap_or(Form::Json),
    };
    (Some(form.content_type()), form.text(message, id).into_bytes().into())
}

/// A weight in thousandths (RFC 9110, 12.4.2); zero where it is none.
fn thousandths(weight: &[u8]) -> u16 {
    let weight = std::str::from_utf8(weight).ok().and_then(|weight| weight.parse::<f32>().ok());
    weight.filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u16)
}

/// A text that no browser takes for markup: messages may hold what a client or a configuration put there.
fn escaped(text: &str) -> Cow<'_, str> {
    if !text.contains(['<', '>', '&', '"', '\'']) {
        return text.into();
    }
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    text.replace('"', "&quot;").replace('\'', "&#39;").into()
}

/// Messages are the edge's or the configuration's; the latter may hold anything.
fn json_string(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The reason phrases of the statuses the edge itself sends.
pub fn reason_phrase(status: u16) -> &'static str {
    http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason()).unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_follow_the_media_type_liked_best() {
        for (accept, expected) in [
            ("application/json", Some(Form::Json)),
            ("*/*", Some(Form::Json)),
            ("application/*", Some(Form::Json)),
            ("text/*", Some(Form::Text)),
            ("text/plain", Some(Form::Text)),
            ("APPLICATION/XML", Some(Form::Xml)),
            ("text/html;q=0.9, application/json", Some(Form::Json)),
            ("text/html, application/json", Some(Form::Html)),
            ("text/html;q=0.5;x=1, application/xml; q=0.5", Some(Form::Html)),
            ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", Some(Form::Html)),
            ("image/png, text/plain;q=0.1", Some(Form::Text)),
            ("text/html;q=0", None),
            ("text/html;q=x", None),
            ("image/png", None),
            ("", None),
        ] {
            assert!(Form::of(accept.as_bytes()) == expected, "{accept}");
        }
    }

    #[test]
    fn every_form_bears_message_and_id_and_no_markup_of_others() {
        for (form, expected) in [
            (Form::Json, "{\n  \"message\":\"a <b> \\\"&\\\"\",\n  \"request_id\":\"7\"\n}"),
            (Form::Text, "a <b> \"&\"\nrequest_id: 7\n"),
            (Form::Html, "<h1>Error</h1>\n<p>a &lt;b&gt; &quot;&amp;&quot;.</p>\n<p>request_id: 7</p>\n"),
            (Form::Xml, "<message>a &lt;b&gt; &quot;&amp;&quot;</message>\n  <requestid>7</requestid>\n</error>\n"),
        ] {
            let text = form.text("a <b> \"&\"", "7");
            assert!(text.contains(expected), "{text}");
        }
    }
}
