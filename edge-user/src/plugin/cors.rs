//! `cors`: answers preflights, and tells browsers which other sites may read an answer (the Fetch standard, 3.2).

use std::borrow::Cow;

use super::fields::value;
use super::{Access, Answer, AnswerBody, Request, Response};
use crate::config::reader::Reader;
use crate::http::h1::parse::list;
use crate::http::head::{Head, Owner, is_field_value};
use crate::reason::Reason;
use crate::router::{BadPattern, Pattern};

/// As in the configuration.
pub const NAME: &str = "cors";
/// Kong's: before any authentication, for a preflight bears no credential.
pub const PRIORITY: u32 = 2000;

const METHODS: [(&str, &str); 9] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("POST", "POST"),
    ("DELETE", "DELETE"),
    ("OPTIONS", "OPTIONS"),
    ("TRACE", "TRACE"),
    ("CONNECT", "CONNECT"),
];

/// One configured instance.
pub struct Cors {
    origins: Origins,
    methods: Box<str>,
    headers: Option<Box<str>>,
    exposed_headers: Option<Box<str>>,
    max_age: Option<Box<str>>,
    credentials: bool,
    private_network: bool,
    preflight_continue: bool,
    allow_origin_absent: bool,
}

enum Origins {
    /// Every site.
    Any,
    /// This one, whoever asks.
    One(Box<str>),
    /// Those one of the entries is for; or, beside them, every site that says where it is.
    Listed { entries: Box<[Entry]>, any: bool },
}

enum Entry {
    /// A whole origin in normal form.
    Literal(Box<str>),
    /// An expression for the host alone.
    Host(Pattern),
    /// An expression for the whole origin.
    Origin(Pattern),
}

/// An origin in normal form: without the scheme's own port.
struct Normal<'o> {
    text: Cow<'o, str>,
    host: Option<&'o str>,
}

impl Cors {
    /// Reads the settings; problems go to the reader's sink.
    pub fn parse(mut config: Reader<'_>) -> Option<Self> {
        let problems = config.sink().count();
        let origins = origins(&mut config);
        let methods = config.words("methods", &METHODS).filter(|methods| !methods.is_empty());
        let methods = methods.unwrap_or_else(|| METHODS.map(|(_, method)| method).into());
        let headers = names(&mut config, "headers");
        let exposed_headers = names(&mut config, "exposed_headers");
        let max_age = config.number("max_age", -1e15..=1e15).map(|secs| secs.to_string().into());
        let mut switch = |key, default| config.bool(key).unwrap_or(default);
        let credentials = switch("credentials", false);
        let private_network = switch("private_network", false);
        let preflight_continue = switch("preflight_continue", false);
        let allow_origin_absent = switch("allow_origin_absent", true);
        if credentials && matches!(origins, Origins::Any | Origins::Listed { any: true, .. }) {
            config.warn("credentials", "with every origin allowed, any site may read answers with the user's cookies");
        }
        let sink = config.sink();
        config.finish();
        (sink.count() == problems).then(|| Self {
            origins,
            methods: methods.join(",").into(),
            headers,
            exposed_headers,
            max_age,
            credentials,
            private_network,
            preflight_continue,
            allow_origin_absent,
        })
    }

    /// The access phase: a preflight ends here, whether its origin is allowed or not.
    pub fn access(&self, request: &mut Request<'_>) -> Access<'static> {
        if self.preflight_continue || !is_preflight(request.head) {
            return Access::Continue;
        }
        let body = AnswerBody::Raw(Cow::Borrowed(b""), None);
        Access::Answer(Answer { status: 200, reason: Reason::CorsPreflight, body, fields: Vec::new() })
    }

    /// The response phase.
    pub fn respond(&self, response: &mut Response<'_>) {
        let Response { head, request, .. } = response;
        let origin = value(request, "Origin").filter(|origin| !origin.is_empty());
        let preflight = is_preflight(request);
        if preflight && self.preflight_continue || origin.is_none() && !self.allow_origin_absent {
            return;
        }
        self.write_origin(head, origin);
        if !preflight {
            if let Some(names) = &self.exposed_headers {
                head.replace(b"Access-Control-Expose-Headers", names.as_bytes());
            }
            return;
        }
        head.replace(b"Access-Control-Allow-Methods", self.methods.as_bytes());
        let headers = match &self.headers {
            Some(names) => Some(names.as_bytes()),
            None => value(request, "Access-Control-Request-Headers").filter(|names| !names.is_empty()),
        };
        if let Some(names) = headers {
            head.replace(b"Access-Control-Allow-Headers", names);
        }
        if let Some(secs) = &self.max_age {
            head.replace(b"Access-Control-Max-Age", secs.as_bytes());
        }
        let private = value(request, "Access-Control-Request-Private-Network") == Some(b"true");
        if self.private_network && private {
            head.replace(b"Access-Control-Allow-Private-Network", b"true");
        }
    }

    /// Who may read the answer, and whether with credentials.
    fn write_origin(&self, head: &mut Head, origin: Option<&[u8]>) {
        const ALLOW_ORIGIN: &[u8] = b"Access-Control-Allow-Origin";
        let everyone = match &self.origins {
            Origins::Any => true,
            Origins::One(_) => false,
            Origins::Listed { any, .. } => *any && origin.is_some(),
        };
        let allowed: Option<Cow<'_, [u8]>> = match (&self.origins, origin) {
            // With credentials `*` means no one.
            (_, Some(origin)) if everyone && self.credentials => Some(origin.into()),
            _ if everyone => Some(b"*".into()),
            (Origins::One(only), _) => Some(only.as_bytes().into()),
            (Origins::Listed { entries, .. }, Some(origin)) => {
                matching(entries, origin).map(|origin| origin.into_bytes().into())
            }
            _ => None,
        };
        if self.credentials && (!everyone || origin.is_some()) {
            head.replace(b"Access-Control-Allow-Credentials", b"true");
        }
        let depends = !matches!(self.origins, Origins::Any) || everyone && self.credentials && origin.is_some();
        if depends && !varies_by_origin(head) {
            head.push(Owner::Edge, b"Vary", b"Origin");
        }
        match allowed {
            Some(allowed) => head.replace(ALLOW_ORIGIN, &allowed),
            None => head.remove_named(ALLOW_ORIGIN),
        }
    }
}

fn is_preflight(request: &Head) -> bool {
    request.method() == b"OPTIONS"
        && value(request, "Origin").is_some_and(|origin| !origin.is_empty())
        && value(request, "Access-Control-Request-Method").is_some()
}

fn varies_by_origin(head: &Head) -> bool {
    let vary = head.fields().filter(|field| field.name.eq_ignore_ascii_case(b"Vary"));
    vary.flat_map(|field| list(field.value)).any(|name| name.eq_ignore_ascii_case(b"Origin"))
}

/// The origin in normal form, where an entry is for it.
fn matching(entries: &[Entry], origin: &[u8]) -> Option<String> {
    let Normal { text, host } = Normal::of(std::str::from_utf8(origin).ok()?);
    let matches = |entry: &Entry| match entry {
        Entry::Literal(literal) => **literal == text,
        Entry::Host(pattern) => pattern.match_path(host.unwrap_or(&text).as_bytes()).is_some(),
        Entry::Origin(pattern) => pattern.match_path(text.as_bytes()).is_some(),
    };
    entries.iter().any(matches).then(|| text.into_owned())
}

impl<'o> Normal<'o> {
    /// `scheme://host[:port]`; what is no such thing stays the text it is.
    fn of(origin: &'o str) -> Self {
        let parts = origin.split_once("://").and_then(|(scheme, rest)| {
            let authority = rest.split(['/', '?', '#']).next().filter(|authority| !authority.contains('@'))?;
            let colon = authority.rfind(':').filter(|colon| !authority[*colon..].contains(']'));
            let (host, port) = colon.map_or((authority, ""), |colon| (&authority[..colon], &authority[colon + 1..]));
            (!host.is_empty()).then_some((scheme, host, port))
        });
        let Some((scheme, host, port)) = parts else { return Self { text: origin.into(), host: None } };
        let text = match (scheme, port) {
            (_, "") | ("http", "80") | ("https", "443") => format!("{scheme}://{host}"),
            _ => format!("{scheme}://{host}:{port}"),
        };
        Self { text: text.into(), host: Some(host) }
    }
}

fn origins(config: &mut Reader<'_>) -> Origins {
    let texts = config.strings("origins").unwrap_or_default();
    match texts[..] {
        [] | ["*"] => return Origins::Any,
        [only] if is_literal(only) => return Origins::One(only.into()),
        _ => {}
    }
    let any = texts.contains(&"*");
    let mut entries = Vec::new();
    for text in texts.into_iter().filter(|text| *text != "*") {
        if is_literal(text) {
            entries.push(Entry::Literal(Normal::of(text).text.into()));
            continue;
        }
        match whole(text) {
            Ok(pattern) if text.contains(':') => entries.push(Entry::Origin(pattern)),
            Ok(pattern) => entries.push(Entry::Host(pattern)),
            Err(_) => config.problem("origins", format!("{text:?}"), format!("'{text}' is not a valid regex")),
        }
    }
    Origins::Listed { entries: entries.into(), any }
}

fn is_literal(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:/-".contains(&byte))
}

/// The expression for all of a text: no site may get in by what stands before or behind it.
fn whole(text: &str) -> Result<Pattern, BadPattern> {
    // Alone first: nothing in it may close the group around it.
    Pattern::value(text)?;
    Pattern::path(&format!("(?:{text})$"))
}

/// Names of fields, joined as they are sent.
fn names(config: &mut Reader<'_>, key: &'static str) -> Option<Box<str>> {
    let names = config.strings(key).filter(|names| !names.is_empty())?;
    if let Some(name) = names.iter().find(|name| !is_field_value(name.as_bytes())) {
        config.problem(key, format!("{name:?}"), "header names");
    }
    Some(names.join(",").into())
}

#[cfg(test)]
mod tests;
