//! What a request must be for something to happen to it: conditions as a route of the edge can ask them, and what two of
//! them are together.

use std::collections::{BTreeMap, BTreeSet};

use super::paths::{PathTest, paths_and};
use crate::router::{HostPattern, Pattern};
use crate::settings::Cidr;

/// Why two conditions cannot stand in one route.
pub(super) type Unfit = String;

/// Conditions, all of which must hold. Empty: every request.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Match {
    /// One of these, in lower case; `*.x` and `x.*` among them.
    pub(super) hosts: Option<BTreeSet<String>>,
    /// One of these.
    pub(super) methods: Option<BTreeSet<String>>,
    /// One of these.
    pub(super) paths: Option<Vec<PathTest>>,
    /// By name in lower case.
    pub(super) headers: BTreeMap<String, HeaderTest>,
    /// Where the client is.
    pub(super) sources: Vec<Sources>,
    /// Whether the client showed a certificate: no route asks that, a rule of http-profile does.
    pub(super) certificate: Option<bool>,
    /// One of these is the answer's status: for rules about answers.
    pub(super) statuses: Option<BTreeSet<u16>>,
}

/// What a field must be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum HeaderTest {
    /// There.
    Exists,
    /// One of these, in lower case.
    OneOf(BTreeSet<String>),
    /// An expression matches it.
    Regex(String),
}

/// Ranges of client addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sources {
    /// Whether the client is in them, or outside.
    pub(super) inside: bool,
    /// The ranges.
    pub(super) ranges: Vec<Cidr>,
}

/// What `Match` looks at, of a made-up request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Sample {
    /// In capitals.
    pub(super) method: String,
    /// Without port.
    pub(super) host: String,
    /// Without query.
    pub(super) path: String,
    /// Names in lower case.
    pub(super) headers: BTreeMap<String, String>,
}

impl Match {
    /// Whether it asks nothing.
    pub(super) fn is_any(&self) -> bool {
        *self == Self::default()
    }

    /// Both together: `None` where nothing can be both, an error where no route could ask it.
    pub(super) fn and(&self, other: &Self) -> Result<Option<Self>, Unfit> {
        let hosts = match both(&self.hosts, &other.hosts, hosts_and)? {
            Some(hosts) if hosts.is_empty() => return Ok(None),
            hosts => hosts,
        };
        let methods = match both(&self.methods, &other.methods, |a, b| {
            Ok(a.intersection(b).cloned().collect::<BTreeSet<_>>())
        })? {
            Some(methods) if methods.is_empty() => return Ok(None),
            methods => methods,
        };
        let paths = match both(&self.paths, &other.paths, |a, b| paths_and(a, b))? {
            Some(paths) if paths.is_empty() => return Ok(None),
            paths => paths,
        };
        let mut headers = self.headers.clone();
        for (name, test) in &other.headers {
            let test = match headers.get(name) {
                None => test.clone(),
                Some(mine) => {
                    match mine.and(test).map_err(|()| format!("two patterns for the header {name} at once"))? {
                        Some(test) => test,
                        None => return Ok(None),
                    }
                }
            };
            headers.insert(name.clone(), test);
        }
        if matches!((self.certificate, other.certificate), (Some(a), Some(b)) if a != b) {
            return Ok(None);
        }
        let statuses = match both(&self.statuses, &other.statuses, |a, b| {
            Ok(a.intersection(b).copied().collect::<BTreeSet<_>>())
        })? {
            Some(statuses) if statuses.is_empty() => return Ok(None),
            statuses => statuses,
        };
        let is_opposite = |a: &Sources, b: &Sources| a.inside != b.inside && a.ranges == b.ranges;
        if self.sources.iter().any(|a| other.sources.iter().any(|b| is_opposite(a, b))) {
            return Ok(None);
        }
        let mut sources = self.sources.clone();
        sources.extend(other.sources.iter().filter(|source| !self.sources.contains(source)).cloned());
        let certificate = self.certificate.or(other.certificate);
        Ok(Some(Self { hosts, methods, paths, headers, sources, certificate, statuses }))
    }

    /// Either of them, where one condition can say that.
    pub(super) fn or(&self, other: &Self) -> Option<Self> {
        let covers = |wide: &Self, narrow: &Self| wide.and(narrow).is_ok_and(|both| both.as_ref() == Some(narrow));
        match (covers(self, other), covers(other, self)) {
            (true, _) => return Some(self.clone()),
            (_, true) => return Some(other.clone()),
            _ => {}
        }
        let bare = |one: &Self| Self { statuses: None, ..one.clone() };
        let statuses = self.statuses.as_ref()?.union(other.statuses.as_ref()?).copied().collect();
        (bare(self) == bare(other)).then(|| Self { statuses: Some(statuses), ..bare(self) })
    }

    /// What of it no route can ask.
    pub(super) fn beyond_routes(&self) -> Option<&'static str> {
        match (self.certificate, &self.statuses) {
            (Some(_), _) => Some("a condition on the client's certificate: only changes of fields can depend on it"),
            (_, Some(_)) => Some("a condition on an answer, for more than changes of its fields"),
            (None, None) => None,
        }
    }

    /// Whether it holds for a request, whoever sent it, and without a certificate.
    pub(super) fn holds(&self, sample: &Sample) -> bool {
        let host =
            |pattern: &String| HostPattern::parse(pattern).is_some_and(|host| host.is_for(sample.host.as_bytes()));
        self.certificate != Some(true)
            && self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(host))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(&sample.method))
            && self.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| path.holds(&sample.path)))
            && self.headers.iter().all(|(name, test)| sample.headers.get(name).is_some_and(|value| test.holds(value)))
    }

    /// A request for which it holds, as plain as can be, for this host if any will do.
    pub(super) fn sample(&self, host: &str) -> Option<Sample> {
        let host = self
            .hosts
            .as_ref()
            .and_then(|hosts| hosts.first())
            .map_or_else(|| host.to_owned(), |host| host.replace("*.", "any.").replace(".*", ".example.com"));
        let method = self.methods.as_ref().and_then(|methods| methods.first()).map_or("GET", String::as_str).to_owned();
        let path = match self.paths.as_ref().and_then(|paths| paths.first()) {
            None => "/".to_owned(),
            Some(path) => path.example()?,
        };
        let mut headers = BTreeMap::new();
        for (name, test) in &self.headers {
            let value = match test {
                HeaderTest::Exists => "1".to_owned(),
                HeaderTest::OneOf(values) => values.first()?.clone(),
                HeaderTest::Regex(text) => text.trim_start_matches('^').trim_end_matches('$').replace('\\', ""),
            };
            headers.insert(name.clone(), value);
        }
        let sample = Sample { method, host, path, headers };
        self.holds(&sample).then_some(sample)
    }
}

fn both<T: Clone>(
    a: &Option<T>,
    b: &Option<T>,
    and: impl FnOnce(&T, &T) -> Result<T, Unfit>,
) -> Result<Option<T>, Unfit> {
    Ok(match (a, b) {
        (Some(a), Some(b)) => Some(and(a, b)?),
        (Some(one), None) | (None, Some(one)) => Some(one.clone()),
        (None, None) => None,
    })
}

/// The hosts that are in both.
fn hosts_and(a: &BTreeSet<String>, b: &BTreeSet<String>) -> Result<BTreeSet<String>, Unfit> {
    let mut all = BTreeSet::new();
    for a in a {
        for b in b {
            if a.starts_with('*') && b.ends_with('*') || a.ends_with('*') && b.starts_with('*') {
                return Err(format!("two patterns for the host at once: {a} and {b}"));
            }
            all.extend(host_and(a, b));
        }
    }
    Ok(all)
}

/// Where patterns nest, the narrower.
fn host_and(a: &str, b: &str) -> Option<String> {
    let covers = |wide: &str, narrow: &str| {
        wide == narrow
            || wide.strip_prefix('*').is_some_and(|tail| narrow.ends_with(tail) && narrow.len() > tail.len())
            || wide.strip_suffix('*').is_some_and(|start| narrow.starts_with(start) && !narrow.starts_with('*'))
    };
    match (covers(a, b), covers(b, a)) {
        (true, _) => Some(b.to_owned()),
        (_, true) => Some(a.to_owned()),
        _ => None,
    }
}

impl HeaderTest {
    /// The expression for a value that is not empty.
    pub(super) const FILLED: &str = ".";

    fn and(&self, other: &Self) -> Result<Option<Self>, ()> {
        let only = |values: &BTreeSet<String>, test: &Self| {
            let left: BTreeSet<String> = values.iter().filter(|value| test.holds(value)).cloned().collect();
            (!left.is_empty()).then_some(Self::OneOf(left))
        };
        Ok(match (self, other) {
            (same, other) if same == other => Some(same.clone()),
            (Self::Exists, test) | (test, Self::Exists) => Some(test.clone()),
            (Self::OneOf(values), test) | (test, Self::OneOf(values)) => only(values, test),
            (Self::Regex(any), test) | (test, Self::Regex(any)) if any == Self::FILLED && !test.holds("") => {
                Some(test.clone())
            }
            (Self::Regex(_), Self::Regex(_)) => return Err(()),
        })
    }

    /// Whether it holds for a value.
    pub(super) fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::OneOf(values) => values.contains(&value.to_lowercase()),
            Self::Regex(text) => Pattern::value(text).is_ok_and(|pattern| pattern.matches_value(value.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::paths::PathKind::{self, Contains, EndsWith, Equals, Regex, StartsWith};
    use super::*;

    fn paths(tests: &[(PathKind, &str)]) -> Match {
        let tests = tests.iter().map(|(kind, text)| PathTest::new(*kind, text, false).unwrap()).collect();
        Match { paths: Some(tests), ..Match::default() }
    }

    fn hosts(hosts: &[&str]) -> Match {
        Match { hosts: Some(hosts.iter().map(|host| (*host).to_owned()).collect()), ..Match::default() }
    }

    #[test]
    fn two_conditions_are_the_narrower_none_or_refused() {
        for (a, b, expected) in [
            (paths(&[(StartsWith, "/a")]), paths(&[(StartsWith, "/a/b")]), Ok(Some(paths(&[(StartsWith, "/a/b")])))),
            (paths(&[(StartsWith, "/a/b")]), paths(&[(StartsWith, "/a")]), Ok(Some(paths(&[(StartsWith, "/a/b")])))),
            (paths(&[(StartsWith, "/a")]), paths(&[(StartsWith, "/b")]), Ok(None)),
            (paths(&[(StartsWith, "/a")]), paths(&[(Equals, "/a/x")]), Ok(Some(paths(&[(Equals, "/a/x")])))),
            (paths(&[(EndsWith, ".png")]), paths(&[(Equals, "/a")]), Ok(None)),
            (paths(&[(EndsWith, ".png")]), paths(&[(StartsWith, "/a")]), Err(())),
            (paths(&[(Regex, "/api/v[0-9]+/")]), paths(&[(StartsWith, "/admin")]), Ok(None)),
            (paths(&[(Regex, "/ab*")]), paths(&[(StartsWith, "/ac")]), Err(())),
            (paths(&[(Regex, "/a|/b")]), paths(&[(StartsWith, "/c")]), Err(())),
            (paths(&[(Contains, "x")]), paths(&[(StartsWith, "/axb")]), Ok(Some(paths(&[(StartsWith, "/axb")])))),
            (
                hosts(&["*.example.com"]),
                hosts(&["a.example.com", "b.example.org"]),
                Ok(Some(hosts(&["a.example.com"]))),
            ),
            (hosts(&["a.example.com"]), hosts(&["b.example.com"]), Ok(None)),
        ] {
            assert_eq!(a.and(&b).map_err(|_| ()), expected, "{a:?} {b:?}");
        }
    }

    #[test]
    fn samples_hold() {
        for one in
            [paths(&[(EndsWith, ".png")]), paths(&[(Regex, "/v1/.*x$")]), hosts(&["*.example.com"]), hosts(&["a.*"])]
        {
            assert!(one.sample("www.example.com").is_some_and(|sample| one.holds(&sample)), "{one:?}");
        }
    }
}
