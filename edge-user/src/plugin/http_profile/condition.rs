//! When a rule applies: every part that is given must hold.

use super::view::View;
use crate::config::reader::Reader;
use crate::http::head::{Head, is_field_name, is_token_byte};
use crate::router::{HostPattern, Pattern};

/// The two kinds of messages that rules are for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// Requests, on their way to the upstream.
    Request,
    /// Responses, on their way to the client.
    Response,
}

/// Where a condition stands: inside `not` there is no other `not`.
#[derive(Clone, Copy)]
enum Nesting {
    Outside,
    Negated,
}

/// A condition.
pub(super) struct When {
    header: Option<HeaderTest>,
    hosts: Box<[HostPattern]>,
    paths: Box<[Box<str>]>,
    methods: Box<[Box<str>]>,
    statuses: Box<[u16]>,
    client_cert: Option<bool>,
    not: Option<Box<When>>,
}

struct HeaderTest {
    name: Box<str>,
    test: Test,
}

/// What one of the values of a field must be.
enum Test {
    Exists(bool),
    Equals(Box<str>),
    StartsWith(Box<str>),
    EndsWith(Box<str>),
    Contains(Box<str>),
    Matches(Pattern),
}

impl When {
    /// Reads a condition; problems go to the reader's sink.
    pub(super) fn parse(config: Reader<'_>, side: Side) -> Self {
        Self::part(config, side, Nesting::Outside)
    }

    fn part(mut config: Reader<'_>, side: Side, nesting: Nesting) -> Self {
        let problems = config.sink().count();
        let header = config.object("header").and_then(HeaderTest::parse);
        let hosts = config.parsed_list("host", "a host, `*.host` or `host.*`, without a port", |text| {
            HostPattern::parse(text).filter(|_| !text.contains(':'))
        });
        let methods =
            config.parsed_list("method", "a method", |text| text.bytes().all(is_token_byte).then(|| Box::from(text)));
        let client_cert = config.bool("client_cert");
        let (mut paths, mut statuses) = (None, None);
        match side {
            Side::Request => {
                let path = |text: &str| text.starts_with('/').then(|| Box::from(text));
                paths = config.parsed_list("path", "the beginning of a path: `/…`", path);
            }
            Side::Response => statuses = config.integers("status", 100..=599),
        }
        // One inside another would say no more than what stands outside of both.
        let not = match nesting {
            Nesting::Outside => config.object("not").map(|not| Box::new(Self::part(not, side, Nesting::Negated))),
            Nesting::Negated => None,
        };
        let counts = [
            ("host", hosts.as_ref().map(Vec::len)),
            ("method", methods.as_ref().map(Vec::len)),
            ("path", paths.as_ref().map(Vec::len)),
            ("status", statuses.as_ref().map(Vec::len)),
        ];
        for (key, _) in counts.iter().filter(|(_, count)| *count == Some(0)) {
            config.problem(key, "an empty list", "at least one: nothing is among none");
        }
        let is_empty = counts.iter().all(|(_, count)| count.is_none())
            && header.is_none()
            && client_cert.is_none()
            && not.is_none();
        let sink = config.sink();
        let (line, path) = (config.line(), config.path().to_owned());
        config.finish();
        if is_empty && sink.count() == problems {
            sink.problem(line, &path, "no condition", "at least one part of a condition");
        }
        Self {
            header,
            hosts: hosts.unwrap_or_default().into(),
            paths: paths.unwrap_or_default().into(),
            methods: methods.unwrap_or_default().into(),
            // In range: read as such.
            statuses: statuses.unwrap_or_default().into_iter().filter_map(|status| status.try_into().ok()).collect(),
            client_cert,
            not,
        }
    }

    /// Whether it holds for a message.
    pub(super) fn holds(&self, head: &Head, view: &View<'_>) -> bool {
        let is_one = |method: &[u8]| self.methods.iter().any(|one| one.as_bytes() == method);
        (self.statuses.is_empty() || view.status.is_some_and(|status| self.statuses.contains(&status)))
            && (self.methods.is_empty() || is_one(view.method(head)))
            && (self.client_cert.is_none_or(|shown| shown == view.connection.client_certificate.is_some()))
            && (self.paths.is_empty() || self.paths.iter().any(|path| view.path.starts_with(path.as_bytes())))
            && (self.hosts.is_empty() || self.hosts.iter().any(|host| host.is_for(view.host)))
            && self.header.as_ref().is_none_or(|header| header.holds(head))
            && self.not.as_ref().is_none_or(|not| !not.holds(head, view))
    }
}

impl HeaderTest {
    fn parse(mut config: Reader<'_>) -> Option<Self> {
        let name = config.required_string("name", "the name of a field");
        if let Some(name) = name.filter(|name| !is_field_name(name.as_bytes())) {
            config.problem("name", format!("{name:?}"), "the name of a field");
        }
        let exists = config.bool("exists").map(Test::Exists);
        let mut text = |key| config.string(key).map(Box::<str>::from);
        let mut tests = vec![
            exists,
            text("equals").map(Test::Equals),
            text("starts_with").map(Test::StartsWith),
            text("ends_with").map(Test::EndsWith),
            text("contains").map(Test::Contains),
        ];
        if let Some(text) = config.string("matches") {
            match Pattern::value(text) {
                Ok(pattern) => tests.push(Some(Test::Matches(pattern))),
                Err(error) => config.problem("matches", format!("{text:?}"), format!("a regular expression: {error}")),
            }
        }
        let mut given: Vec<Test> = tests.into_iter().flatten().collect();
        let (sink, line, path) = (config.sink(), config.line(), config.path().to_owned());
        let is_wrong = config.has("matches") && given.is_empty();
        config.finish();
        if given.len() != 1 && !is_wrong {
            let expected = "one of: exists, equals, starts_with, ends_with, contains, matches";
            sink.problem(line, &path, format!("{} tests", given.len()), expected);
        }
        Some(Self { name: name?.into(), test: given.pop()? })
    }

    /// Of several fields of the name one is enough.
    fn holds(&self, head: &Head) -> bool {
        let name = self.name.as_bytes();
        let named = || head.fields().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
        match &self.test {
            Test::Exists(wanted) => named().next().is_some() == *wanted,
            Test::Equals(text) => named().any(|value| value == text.as_bytes()),
            Test::StartsWith(text) => named().any(|value| value.starts_with(text.as_bytes())),
            Test::EndsWith(text) => named().any(|value| value.ends_with(text.as_bytes())),
            Test::Contains(text) => named().any(|value| memchr::memmem::find(value, text.as_bytes()).is_some()),
            Test::Matches(pattern) => named().any(|value| pattern.matches_value(value)),
        }
    }
}
