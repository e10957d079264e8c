//! `request-termination`: answers in the upstream's place, with a message, a body, or a description of the request.

use std::borrow::Cow;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::fields::{header_name, optional, value};
use super::{Access, Answer, AnswerBody, Node, PluginEnv, Request};
use crate::config::reader::Reader;
use crate::http::head::{Head, Known, Owner, is_field_value};
use crate::reason::Reason;

/// As in the configuration.
pub const NAME: &str = "request-termination";
/// Kong's: after every other plugin, so that what they refuse stays refused.
pub const PRIORITY: u32 = 2;

/// The longest body an echo repeats.
const ECHO_BYTES: usize = 1 << 20;
const JSON: &str = "application/json; charset=utf-8";

/// One configured instance.
pub struct RequestTermination {
    status: u16,
    reply: Reply,
    /// The field or query argument without which the request goes on.
    trigger: Option<Box<str>>,
}

enum Reply {
    Message(Cow<'static, str>),
    Empty,
    Raw(Box<str>, Option<Box<str>>),
    Echo(Option<Cow<'static, str>>, Arc<Node>),
}

impl RequestTermination {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>, env: &PluginEnv) -> Option<Self> {
        let problems = config.sink().count();
        let status = config.integer("status_code", 100..=599).unwrap_or(503) as u16;
        if status < 200 {
            config.problem("status_code", status.to_string(), "200 to 599: an interim response is no answer");
        }
        let message = optional(&mut config, "message");
        let body = optional(&mut config, "body");
        let content_type = optional(&mut config, "content_type");
        let echo = config.bool("echo").unwrap_or(false);
        let trigger = header_name(&mut config, "trigger").map(Box::from);
        if message.is_some() && (content_type.is_some() || body.is_some()) {
            config.problem("message", "a message", "message cannot be used with content_type or body");
        }
        if content_type.is_some() && body.is_none() {
            config.problem("content_type", "no body", "content_type requires a body");
        }
        if echo && (content_type.is_some() || body.is_some()) {
            config.problem("echo", "true", "echo cannot be used with content_type and body");
        }
        if content_type.is_some_and(|content_type| !is_field_value(content_type.as_bytes())) {
            config.problem("content_type", "no field value", "a media type");
        }
        let sink = config.sink();
        config.finish();
        if sink.count() > problems {
            return None;
        }
        let message = message.map(|message| message.to_owned().into()).or(default_message(status).map(Cow::Borrowed));
        let reply = match (echo, body, message) {
            (true, _, message) => Reply::Echo(message, env.node().clone()),
            (false, Some(body), _) => Reply::Raw(body.into(), content_type.map(Box::from)),
            (false, None, Some(message)) => Reply::Message(message),
            (false, None, None) => Reply::Empty,
        };
        Some(Self { status, reply, trigger })
    }

    /// The access phase.
    pub async fn access<'a>(&'a self, request: &mut Request<'_>) -> Access<'a> {
        if let Some(trigger) = &self.trigger
            && value(request.head, trigger).is_none()
            && !arguments(request.query.as_deref().unwrap_or_default()).any(|(name, _)| name == **trigger)
        {
            return Access::Continue;
        }
        let body = match &self.reply {
            Reply::Message(message) => AnswerBody::Message(Cow::Borrowed(message)),
            Reply::Empty => AnswerBody::Raw(Cow::Borrowed(b""), None),
            Reply::Raw(body, content_type) => AnswerBody::Raw(body.as_bytes().into(), content_type.as_deref()),
            Reply::Echo(message, node) => {
                let echo = echo(request, message.as_deref(), node).await;
                AnswerBody::Raw(echo.to_string().into_bytes().into(), Some(JSON))
            }
        };
        Access::Answer(Answer { status: self.status, reason: Reason::RequestTerminated, body, fields: Vec::new() })
    }
}

fn default_message(status: u16) -> Option<&'static str> {
    Some(match status {
        401 => "Unauthorized",
        404 => "Not found",
        405 => "Method not allowed",
        500 => "An unexpected error occurred",
        502 => "Bad Gateway",
        503 => "Service unavailable",
        _ => return None,
    })
}

/// What the client sent, told back to it. What plugins added is left out: it may be the edge's own credential.
async fn echo(request: &mut Request<'_>, message: Option<&str>, node: &Node) -> Value {
    let raw_body = request.body.collect(ECHO_BYTES).await.map(|body| (text(body), parsed(request.head, body)));
    let route = request.route;
    let mut echo = json!({
        "kong": {"node_id": node.id.to_string(), "worker_pid": std::process::id(), "hostname": node.hostname},
        "request": {
            "scheme": if request.connection.tls { "https" } else { "http" },
            "host": text(request.host),
            "port": request.port,
            "headers": headers(request.head),
            "query": query(request.query.as_deref().unwrap_or_default()),
            "method": text(request.head.method()),
            "path": text(request.path),
            "uri_captures": captures(request),
        },
        "matched_route": entity(&route.id, route.name.as_deref()),
    });
    if let Some((raw_body, body)) = raw_body {
        echo["request"]["raw_body"] = raw_body.into();
        if let Some(body) = body {
            echo["request"]["body"] = body;
        }
    }
    if let Some(message) = message {
        echo["message"] = message.into();
    }
    if let Some(service) = &route.service {
        // Nothing of where it is: that is nobody's outside (P7).
        echo["matched_service"] = entity(&service.id, service.name.as_deref());
    }
    echo
}

/// What the groups of the route's expression took: by number all of them, by name those that have one.
fn captures(request: &Request<'_>) -> Value {
    let (mut named, mut unnamed) = (serde_json::Map::new(), Vec::new());
    let captures = request.captures();
    for (name, taken) in captures.iter().flat_map(|captures| captures.groups()) {
        let taken = taken.map_or(Value::Null, |taken| text(taken).into());
        if let Some(name) = name {
            named.insert(name.to_owned(), taken.clone());
        }
        unnamed.push(taken);
    }
    json!({"named": named, "unnamed": unnamed})
}

fn entity(id: &uuid::Uuid, name: Option<&str>) -> Value {
    match name {
        Some(name) => json!({"id": id.to_string(), "name": name}),
        None => json!({"id": id.to_string()}),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The client's fields under their lower-case names; what came twice is an array.
fn headers(head: &Head) -> Value {
    let sent = head.fields().filter(|field| field.owner == Owner::Peer);
    gathered(sent.map(|field| (text(field.name).to_ascii_lowercase(), text(field.value).into())))
}

/// The arguments of a query; one without `=` is `true`, what came twice is an array.
fn query(query: &[u8]) -> Value {
    gathered(query.split(|byte| *byte == b'&').filter_map(|argument| {
        let (name, value) = arguments(argument).next()?;
        let value = if argument.contains(&b'=') { Value::from(value) } else { Value::Bool(true) };
        Some((name.into_owned(), value))
    }))
}

fn arguments(query: &[u8]) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
    form_urlencoded::parse(query)
}

fn gathered(pairs: impl Iterator<Item = (String, Value)>) -> Value {
    let mut gathered = Map::new();
    for (name, value) in pairs {
        match gathered.get_mut(&name) {
            None => drop(gathered.insert(name, value)),
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    gathered.into()
}

/// The body as what its type says: JSON or a form.
fn parsed(head: &Head, body: &[u8]) -> Option<Value> {
    let content_type = head.get(Known::ContentType)?.split(|byte| *byte == b';').next()?.trim_ascii();
    let is = |name: &str| content_type.eq_ignore_ascii_case(name.as_bytes());
    match () {
        () if is("application/json") => serde_json::from_slice(body).ok(),
        () if is("application/x-www-form-urlencoded") => Some(query(body)),
        () => None,
    }
}

#[cfg(test)]
mod tests;
