//! Values with `$(…)`: parts that stand for something of the request as it came to the plugin.
//!
//! Kong compiles what stands between the parentheses as Lua. The edge runs no Lua: a part is a look-up, a literal, or a
//! choice of them (`headers.a or query_params.b or "none"`), of which the first that there is counts.

use std::borrow::Cow;

use crate::config::snapshot::Consumer;
use crate::http::head::Head;
use crate::plugin::arguments::{decode, pairs};
use crate::router::Captures;

/// What can stand between the parentheses, for operators.
const SUPPORTED: &str = "`$(…)` with `headers`, `query_params`, `uri_captures`, `consumer` (`.name`, `[\"name\"]`, \
                         `uri_captures[1]`), literals and `or`: the edge runs no Lua";

/// A value.
#[derive(Debug, PartialEq, Eq)]
pub struct Template(Box<[Part]>);

#[derive(Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    /// The first of them that there is.
    Choice(Box<[Term]>),
}

#[derive(Debug, PartialEq, Eq)]
enum Term {
    Literal(Box<str>),
    Header(Box<str>),
    Query(Box<str>),
    Capture(Box<str>),
    CaptureAt(usize),
    Consumer(ConsumerValue),
    /// What nobody sets: `nil`, `shared.…`, and names that are no variables.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsumerValue {
    Id,
    Username,
    CustomId,
}

/// What a template is filled from.
pub(super) struct Source<'s> {
    pub(super) head: &'s Head,
    pub(super) query: &'s [u8],
    pub(super) captures: Option<Captures<'s>>,
    pub(super) consumer: Option<&'s Consumer>,
}

impl Template {
    /// Reads a value; an error says what would be right. `unknown` is told names that are no variables.
    pub fn parse(text: &str, unknown: &mut Vec<String>) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            let mut scan = Scan { rest: &rest[at + 2..], unknown };
            parts.push(Part::Choice(scan.choice().ok_or_else(|| SUPPORTED.to_owned())?));
            rest = scan.rest;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.into()));
        }
        Ok(Self(parts.into()))
    }

    /// What it begins with, whatever the request is.
    pub(super) fn start(&self) -> Option<&str> {
        match self.0.first() {
            Some(Part::Text(text)) => Some(text),
            Some(Part::Choice(_)) | None => None,
        }
    }

    /// Whether it is the same for each request.
    pub(super) fn is_constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// The value for a request.
    pub(super) fn fill(&self, source: &Source<'_>) -> Cow<'_, [u8]> {
        if let [Part::Text(text)] = &*self.0 {
            return Cow::Borrowed(text.as_bytes());
        }
        let mut value = Vec::new();
        for part in &self.0 {
            match part {
                Part::Text(text) => value.extend_from_slice(text.as_bytes()),
                Part::Choice(terms) => {
                    value.extend(terms.iter().find_map(|term| term.find(source)).unwrap_or_default())
                }
            }
        }
        value.into()
    }
}

impl Term {
    /// What there is of it; several values of one name with commas between them.
    fn find(&self, source: &Source<'_>) -> Option<Vec<u8>> {
        let joined = |values: Vec<Vec<u8>>| (!values.is_empty()).then(|| values.join(&b", "[..]));
        match self {
            Self::Literal(text) => Some(text.as_bytes().to_vec()),
            Self::Header(name) => {
                let is_named = |field: &[u8]| {
                    let dashed = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
                    field.iter().map(dashed).eq(name.bytes())
                };
                let fields = source.head.fields().filter(|field| is_named(field.name));
                joined(fields.map(|field| field.value.to_vec()).collect())
            }
            Self::Query(name) => {
                let named = pairs(source.query).filter(|(spelled, _)| *decode(spelled) == *name.as_bytes());
                // An argument without a value is true, as for Kong.
                let value = |value: Option<&[u8]>| value.map_or(b"true".to_vec(), |value| decode(value).into_owned());
                joined(named.map(|(_, spelled)| value(spelled)).collect())
            }
            Self::Capture(name) => source.captures.as_ref()?.by_name(name).map(<[u8]>::to_vec),
            Self::CaptureAt(index) => source.captures.as_ref()?.by_index(*index).map(<[u8]>::to_vec),
            Self::Consumer(value) => {
                let consumer = source.consumer?;
                match value {
                    ConsumerValue::Id => Some(consumer.id.to_string().into_bytes()),
                    ConsumerValue::Username => consumer.username.as_ref().map(|name| name.as_bytes().to_vec()),
                    ConsumerValue::CustomId => consumer.custom_id.as_ref().map(|id| id.as_bytes().to_vec()),
                }
            }
            Self::Nothing => None,
        }
    }
}

/// Reads what stands between the parentheses.
struct Scan<'t, 'u> {
    rest: &'t str,
    unknown: &'u mut Vec<String>,
}

impl<'t> Scan<'t, '_> {
    /// Terms with `or` between them, and the parenthesis at the end.
    fn choice(&mut self) -> Option<Box<[Term]>> {
        let mut terms = Vec::new();
        loop {
            terms.push(self.term()?);
            if self.takes(")") {
                return Some(terms.into());
            }
            (self.name()? == "or").then_some(())?;
        }
    }

    fn term(&mut self) -> Option<Term> {
        self.skip_space();
        if let Some(text) = self.string()? {
            return Some(Term::Literal(text.into()));
        }
        if let Some(number) = self.number() {
            return Some(Term::Literal(number.into()));
        }
        match self.name()? {
            "nil" | "false" => Some(Term::Nothing),
            "true" => Some(Term::Literal("true".into())),
            name @ ("headers" | "query_params" | "uri_captures" | "shared" | "consumer") => self.member_of(name),
            name => {
                self.unknown.push(name.to_owned());
                Some(Term::Nothing)
            }
        }
    }

    fn member_of(&mut self, table: &str) -> Option<Term> {
        let (member, index) = if self.takes(".") {
            (self.name()?.to_owned(), None)
        } else {
            self.takes("[").then_some(())?;
            self.skip_space();
            let member = match self.string()? {
                Some(text) => (text, None),
                None => (String::new(), Some(self.number()?.parse().ok()?)),
            };
            self.takes("]").then_some(())?;
            member
        };
        match (table, index) {
            ("uri_captures", Some(index)) => Some(Term::CaptureAt(index)),
            ("shared", _) => Some(Term::Nothing),
            (_, Some(_)) => None,
            ("headers", None) => Some(Term::Header(member.to_ascii_lowercase().replace('_', "-").into())),
            ("query_params", None) => Some(Term::Query(member.into())),
            ("uri_captures", None) => Some(Term::Capture(member.into())),
            _ => match &*member {
                "id" => Some(Term::Consumer(ConsumerValue::Id)),
                "username" => Some(Term::Consumer(ConsumerValue::Username)),
                "custom_id" => Some(Term::Consumer(ConsumerValue::CustomId)),
                _ => None,
            },
        }
    }

    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn takes(&mut self, text: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(text);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn name(&mut self) -> Option<&'t str> {
        self.skip_space();
        let is_of_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let length = self.rest.find(|c| !is_of_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(length);
        let begins_well = name.starts_with(|c: char| !c.is_ascii_digit());
        self.rest = rest;
        begins_well.then_some(name)
    }

    fn number(&mut self) -> Option<&'t str> {
        let length = self.rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(self.rest.len());
        let (number, rest) = self.rest.split_at(length);
        number.parse::<f64>().ok()?;
        self.rest = rest;
        Some(number)
    }

    /// A quoted string; nothing where none begins here, and no answer where it does not end well.
    fn string(&mut self) -> Option<Option<String>> {
        let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'')) else { return Some(None) };
        let mut text = String::new();
        let mut chars = self.rest[1..].char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                c if c == quote => {
                    self.rest = &self.rest[1 + at + 1..];
                    return Some(Some(text));
                }
                '\\' => text.push(match chars.next()?.1 {
                    'n' => '\n',
                    't' => '\t',
                    c @ ('\\' | '"' | '\'') => c,
                    _ => return None,
                }),
                c => text.push(c),
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    fn fill(text: &str) -> Result<String, ()> {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in [("X-One", "1"), ("X_Two", "2"), ("Many", "a"), ("many", "b"), ("Empty", "")] {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        let source = Source { head: &head, query: b"q=a%20b&flag&q2=1&q2=2&e=", captures: None, consumer: None };
        let template = Template::parse(text, &mut Vec::new()).map_err(drop)?;
        Ok(String::from_utf8(template.fill(&source).into_owned()).unwrap())
    }

    #[test]
    fn parts_stand_for_the_request() {
        for (text, expected) in [
            ("plain $ text ( )", "plain $ text ( )"),
            ("", ""),
            ("$(headers.x_one)", "1"),
            ("a$(headers['X-One'])b$( headers[\"x-two\"] )c", "a1b2c"),
            ("$(headers.many)", "a, b"),
            ("$(headers.none)", ""),
            ("$(query_params.q)$(query_params[\"q2\"])$(query_params.flag)", "a b1, 2true"),
            ("$(headers.none or query_params.none or \"un\\\"known\")", "un\"known"),
            // An empty value is one.
            ("$(headers.empty or query_params.e or 'x')", ""),
            ("$(nil or false or 12.5)", "12.5"),
            ("$(true)", "true"),
            ("$('$(not_a_template)')", "$(not_a_template)"),
            ("$(shared.user or uri_captures[1] or uri_captures.name or consumer.username or 'none')", "none"),
            ("Bearer $(jwt_token)", "Bearer "),
        ] {
            assert_eq!(fill(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn lua_is_refused() {
        for text in [
            "$(",
            "$()",
            "$(headers)",
            "$(headers.x",
            "$(headers.x:sub(1))",
            "$(headers.x .. 'a')",
            "$(headers.x and 'a')",
            "$(type(headers.x))",
            "$((function() return 1 end)())",
            "$(headers[1])",
            "$(headers['x)",
            "$(consumer.tags)",
            "$(headers.x or)",
            "$(1abc)",
            "$('\\x41')",
        ] {
            assert_eq!(fill(text), Err(()), "{text}");
        }
    }

    #[test]
    fn names_that_are_no_variables_are_told() {
        let mut unknown = Vec::new();
        assert!(Template::parse("$(jwt_token or headers.a)", &mut unknown).is_ok());
        assert_eq!(unknown, ["jwt_token"]);
    }
}
