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

/// The same for `http-profile`, whose templates have tables of the edge's own.
const SUPPORTED_IN_REQUESTS: &str = "`$(…)` with `headers`, `query_params`, `uri_captures`, `consumer`, `client` \
    (`address`, `port`), `request` (`host`, `path`, `method`, `scheme`, `id`), `certificate` (`subject`, `issuer`, \
    `serial`, `fingerprint`, `pem`), literals and `or`";
const SUPPORTED_IN_RESPONSES: &str = "`$(…)` with `headers`, `consumer`, `client` (`address`, `port`), `request` \
    (`host`, `method`, `scheme`, `id`), `certificate` (`subject`, `issuer`, `serial`, `fingerprint`, `pem`), literals \
    and `or`";

/// Which tables a template may look into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Kong's; a name that is no variable stands for nothing.
    Kong,
    /// Those of a request, the edge's own among them; any other name is an error.
    Request,
    /// Those that are known when a response is sent.
    Response,
}

/// What the edge knows of a request beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// `client.address`: by the rules of `trusted_ips`.
    ClientAddress,
    /// `client.port`: the peer's.
    ClientPort,
    /// `request.host`: as the client asked for it, without its port.
    Host,
    /// `request.path`: normalised.
    Path,
    /// `request.method`
    Method,
    /// `request.scheme`: `http` or `https`, by the rules of `trusted_ips`.
    Scheme,
    /// `request.id`
    Id,
    /// `certificate.subject`: of the client's certificate, as RFC 4514 writes it.
    CertificateSubject,
    /// `certificate.issuer`: the same of who signed it.
    CertificateIssuer,
    /// `certificate.serial`: in upper-case hex.
    CertificateSerial,
    /// `certificate.fingerprint`: SHA-256 in lower-case hex.
    CertificateFingerprint,
    /// `certificate.pem`: URL-encoded.
    CertificatePem,
}

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
    Fact(Fact),
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
pub(in crate::plugin) struct Source<'s> {
    pub(in crate::plugin) head: &'s Head,
    pub(in crate::plugin) query: &'s [u8],
    pub(in crate::plugin) captures: Option<Captures<'s>>,
    pub(in crate::plugin) consumer: Option<&'s Consumer>,
    pub(in crate::plugin) facts: &'s dyn Fn(Fact) -> Option<Vec<u8>>,
}

impl Template {
    /// Reads a value; an error says what would be right. `unknown` is told names that are no variables.
    pub fn parse(text: &str, unknown: &mut Vec<String>) -> Result<Self, String> {
        Self::parse_as(Dialect::Kong, text, unknown)
    }

    /// The same in a dialect.
    pub fn parse_as(dialect: Dialect, text: &str, unknown: &mut Vec<String>) -> Result<Self, String> {
        let supported = match dialect {
            Dialect::Kong => SUPPORTED,
            Dialect::Request => SUPPORTED_IN_REQUESTS,
            Dialect::Response => SUPPORTED_IN_RESPONSES,
        };
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(at) = rest.find("$(") {
            if at > 0 {
                parts.push(Part::Text(rest[..at].into()));
            }
            let mut scan = Scan { rest: &rest[at + 2..], dialect, unknown };
            parts.push(Part::Choice(scan.choice().ok_or_else(|| supported.to_owned())?));
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
    pub(in crate::plugin) fn is_constant(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Text(_)))
    }

    /// Whether it may say who the caller is: a consumer, or a certificate's holder.
    pub(in crate::plugin) fn tells_identity(&self) -> bool {
        let terms = self.0.iter().filter_map(|part| match part {
            Part::Choice(terms) => Some(terms.iter()),
            Part::Text(_) => None,
        });
        terms.flatten().any(|term| match term {
            Term::Consumer(_) => true,
            Term::Fact(fact) => fact.is_of_certificate(),
            _ => false,
        })
    }

    /// The value for a request.
    pub(in crate::plugin) fn fill(&self, source: &Source<'_>) -> Cow<'_, [u8]> {
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
            Self::Fact(fact) => (source.facts)(*fact),
            Self::Nothing => None,
        }
    }
}

impl Fact {
    fn of(table: &str, member: &str) -> Option<Self> {
        Some(match (table, member) {
            ("client", "address") => Self::ClientAddress,
            ("client", "port") => Self::ClientPort,
            ("request", "host") => Self::Host,
            ("request", "path") => Self::Path,
            ("request", "method") => Self::Method,
            ("request", "scheme") => Self::Scheme,
            ("request", "id") => Self::Id,
            ("certificate", "subject") => Self::CertificateSubject,
            ("certificate", "issuer") => Self::CertificateIssuer,
            ("certificate", "serial") => Self::CertificateSerial,
            ("certificate", "fingerprint") => Self::CertificateFingerprint,
            ("certificate", "pem") => Self::CertificatePem,
            _ => return None,
        })
    }

    fn is_of_certificate(self) -> bool {
        matches!(
            self,
            Self::CertificateSubject
                | Self::CertificateIssuer
                | Self::CertificateSerial
                | Self::CertificateFingerprint
                | Self::CertificatePem
        )
    }
}

/// Reads what stands between the parentheses.
struct Scan<'t, 'u> {
    rest: &'t str,
    dialect: Dialect,
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
            name @ ("client" | "request" | "certificate") if self.dialect != Dialect::Kong => self.member_of(name),
            name @ ("headers" | "query_params" | "uri_captures" | "shared" | "consumer") => self.member_of(name),
            _ if self.dialect != Dialect::Kong => None,
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
        let is_late = self.dialect == Dialect::Response;
        match (table, index) {
            ("query_params" | "uri_captures", _) if is_late => None,
            ("shared", _) if self.dialect != Dialect::Kong => None,
            ("client" | "request" | "certificate", None) => {
                let fact = Fact::of(table, &member)?;
                (fact != Fact::Path || !is_late).then_some(Term::Fact(fact))
            }
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
        let source = Source {
            head: &head,
            query: b"q=a%20b&flag&q2=1&q2=2&e=",
            captures: None,
            consumer: None,
            facts: &|_| None,
        };
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
    fn each_dialect_has_its_tables() {
        for (text, request, response) in [
            ("$(client.address or client['port'])", true, true),
            ("$(request.host)$(request.method)$(request.scheme)$(request.id)", true, true),
            ("$(certificate.subject or certificate.issuer or certificate.serial or certificate.pem)", true, true),
            ("$(certificate.fingerprint)$(consumer.username)$(headers.a)", true, true),
            ("$(request.path)", true, false),
            ("$(query_params.a)", true, false),
            ("$(uri_captures[1])", true, false),
            ("$(client.name)", false, false),
            ("$(request[1])", false, false),
            ("$(shared.a)", false, false),
            ("$(jwt_token)", false, false),
        ] {
            let reads = |dialect| Template::parse_as(dialect, text, &mut Vec::new()).is_ok();
            assert_eq!((reads(Dialect::Request), reads(Dialect::Response)), (request, response), "{text}");
        }
        assert!(Template::parse("$(client.address)", &mut Vec::new()).is_err(), "Kong has no such table");
        for (text, tells) in [
            ("$(consumer.username)", true),
            ("x$(headers.a or certificate.subject)", true),
            ("$(client.address)consumer.id", false),
        ] {
            let template = Template::parse_as(Dialect::Request, text, &mut Vec::new()).unwrap();
            assert_eq!(template.tells_identity(), tells, "{text}");
        }
    }

    #[test]
    fn names_that_are_no_variables_are_told() {
        let mut unknown = Vec::new();
        assert!(Template::parse("$(jwt_token or headers.a)", &mut unknown).is_ok());
        assert_eq!(unknown, ["jwt_token"]);
    }
}
