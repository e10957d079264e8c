//! `bearer_token_param_type`, `bearer_token_header_name`, `bearer_token_cookie_name`: where a token may stand.

use super::Schemes;
use crate::config::reader::Reader;
use crate::http::head::is_field_name;

const TYPES: &str = "bearer_token_param_type";
const HEADER_NAME: &str = "bearer_token_header_name";
/// Where Kong looks beside `Authorization`.
pub(super) const KONG_FIELDS: [&str; 2] = ["access-token", "x-access-token"];
const COOKIE_NAME: &str = "bearer_token_cookie_name";

/// Where a token may stand.
pub(in super::super) struct Places {
    pub(super) fields: Fields,
    pub(super) query: bool,
    pub(super) body: bool,
    /// The cookie's name.
    pub(super) cookie: Option<Box<str>>,
}

/// Which fields a token may stand in.
pub(super) enum Fields {
    Nowhere,
    /// The edge's default: `Authorization` alone (T42).
    Authorization,
    /// `header` written in the configuration: `Authorization`, `access-token`, `x-access-token`.
    Kong,
    /// `bearer_token_header_name`, and no other.
    Named(Box<str>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Header,
    Query,
    Body,
    Cookie,
}

impl Places {
    /// Whether tokens stand in `Authorization` and nowhere else.
    pub(in super::super) fn is_authorization_alone(&self) -> bool {
        matches!(self.fields, Fields::Authorization) && !self.query && !self.body && self.cookie.is_none()
    }

    /// Reads the three settings; problems go to the reader's sink.
    pub(in super::super) fn parse(config: &mut Reader<'_>) -> Self {
        const WORDS: [(&str, Type); 4] =
            [("header", Type::Header), ("query", Type::Query), ("body", Type::Body), ("cookie", Type::Cookie)];
        let written = types(config, TYPES, &WORDS);
        if written.as_ref().is_some_and(Vec::is_empty) {
            config.problem(TYPES, "an empty list", "at least one of: header, query, body, cookie");
        }
        let has = |wanted| written.as_ref().map_or(wanted == Type::Header, |types| types.contains(&wanted));
        if has(Type::Query) {
            config.warn(TYPES, "tokens in a URL end up in histories and logs (RFC 9700, 4.3.2): prefer `header`");
        }
        let name = config.string(HEADER_NAME);
        if name.is_some_and(|name| !is_field_name(name.as_bytes())) {
            config.problem(HEADER_NAME, "no header name", "a header name");
        }
        if name.is_some() && !has(Type::Header) {
            config.problem(HEADER_NAME, "a name without `header` in `bearer_token_param_type`", "both, or neither");
        }
        let cookie = config.string(COOKIE_NAME);
        if cookie.is_some_and(|name| !is_field_name(name.as_bytes())) {
            config.problem(COOKIE_NAME, "no cookie name", "a cookie name (RFC 6265, 4.1.1)");
        }
        if cookie.is_some() != has(Type::Cookie) {
            let found = "a name without `cookie` in `bearer_token_param_type`, or the reverse";
            config.problem(COOKIE_NAME, found, "both, or neither");
        }
        let fields = match name {
            _ if !has(Type::Header) => Fields::Nowhere,
            Some(name) => Fields::Named(name.into()),
            None if written.is_some() => Fields::Kong,
            None => Fields::Authorization,
        };
        Self { fields, query: has(Type::Query), body: has(Type::Body), cookie: cookie.map(Box::from) }
    }

    /// Whether the body is among them, and so must be collected first.
    pub(in super::super) fn reads_body(&self) -> bool {
        self.body
    }

    /// The names of fields, besides `Authorization`, that a token may stand in.
    pub(in super::super) fn field_names(&self) -> Vec<&str> {
        match &self.fields {
            Fields::Nowhere | Fields::Authorization => Vec::new(),
            Fields::Kong => KONG_FIELDS.into(),
            Fields::Named(named) => vec![named],
        }
    }
}

/// How a client shows its token.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Showing<'p> {
    /// In this field, after this scheme where it has one.
    Field(&'p str, Option<&'static str>),
    /// As an argument of the query.
    Query,
    /// As a field of a form.
    Body,
    /// In the cookie of this name.
    Cookie(&'p str),
}

impl Places {
    /// The first place of those that count.
    pub(in super::super) fn showing(&self, dpop: bool) -> Showing<'_> {
        let scheme = Some(if dpop { "DPoP" } else { "Bearer" });
        match (&self.fields, &self.cookie) {
            (Fields::Authorization | Fields::Kong, _) => Showing::Field("Authorization", scheme),
            (Fields::Named(name), _) => Showing::Field(name, scheme.filter(|_| dpop)),
            (Fields::Nowhere, Some(cookie)) if !self.query && !self.body => Showing::Cookie(cookie),
            (Fields::Nowhere, _) if self.query => Showing::Query,
            (Fields::Nowhere, _) => Showing::Body,
        }
    }

    /// What the configuration wants, in words.
    pub(in super::super) fn demand(&self, schemes: Schemes) -> String {
        let scheme = if schemes == Schemes::Bearer { "Bearer" } else { "Bearer or DPoP" };
        let field = match &self.fields {
            Fields::Nowhere => None,
            Fields::Authorization => Some(format!("`Authorization: {scheme}`")),
            Fields::Kong => Some(format!("`Authorization: {scheme}`, access-token, x-access-token")),
            Fields::Named(name) => Some(format!("the header {name}")),
        };
        let query = self.query.then(|| "the query's access_token".to_owned());
        let body = self.body.then(|| "the body's access_token".to_owned());
        let cookie = self.cookie.as_ref().map(|name| format!("the cookie {name}"));
        let places: Vec<_> = [field, query, body, cookie].into_iter().flatten().collect();
        format!("one token, in {}", places.join(" or "))
    }
}

/// A list of words of a closed set, or one alone.
pub(super) fn types<T: Copy>(config: &mut Reader<'_>, key: &'static str, words: &[(&str, T)]) -> Option<Vec<T>> {
    let written = config.strings_lenient(key)?;
    let mut types = Vec::with_capacity(written.len());
    for text in written {
        match words.iter().find(|(word, _)| *word == text) {
            Some((_, value)) => types.push(*value),
            None => {
                let expected: Vec<_> = words.iter().map(|(word, _)| *word).collect();
                config.problem(key, format!("{text:?}"), format!("one of: {}", expected.join(", ")));
            }
        }
    }
    Some(types)
}
