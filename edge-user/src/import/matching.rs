//! What a request must be for something to happen to it: conditions as a route of the edge can ask them, and what two of
//! them are together.

use std::collections::{BTreeMap, BTreeSet};

use crate::router::{HostPattern, Pattern, is_normalized};
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
}

/// What a path must be.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct PathTest {
    /// How it is compared.
    pub(super) kind: PathKind,
    /// With what; for `Regex` the expression behind `~`.
    pub(super) text: String,
    /// Whether capitals count.
    pub(super) any_case: bool,
}

/// How a path is compared.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[allow(missing_docs, reason = "the words of the policies")]
pub(super) enum PathKind {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
    Regex,
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
        let is_opposite = |a: &Sources, b: &Sources| a.inside != b.inside && a.ranges == b.ranges;
        if self.sources.iter().any(|a| other.sources.iter().any(|b| is_opposite(a, b))) {
            return Ok(None);
        }
        let mut sources = self.sources.clone();
        sources.extend(other.sources.iter().filter(|source| !self.sources.contains(source)).cloned());
        Ok(Some(Self { hosts, methods, paths, headers, sources }))
    }

    /// Whether it holds for a request, whoever sent it.
    pub(super) fn holds(&self, sample: &Sample) -> bool {
        let host =
            |pattern: &String| HostPattern::parse(pattern).is_some_and(|host| host.is_for(sample.host.as_bytes()));
        self.hosts.as_ref().is_none_or(|hosts| hosts.iter().any(host))
            && self.methods.as_ref().is_none_or(|methods| methods.contains(&sample.method))
            && self.paths.as_ref().is_none_or(|paths| paths.iter().any(|path| path.holds(&sample.path)))
            && self.headers.iter().all(|(name, test)| sample.headers.get(name).is_some_and(|value| test.holds(value)))
    }

    /// A request for which it holds, as plain as can be.
    pub(super) fn sample(&self) -> Option<Sample> {
        let host = self.hosts.as_ref().and_then(|hosts| hosts.first()).map_or_else(
            || "www.example.com".to_owned(),
            |host| host.replace("*.", "any.").replace(".*", ".example.com"),
        );
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

fn paths_and(a: &[PathTest], b: &[PathTest]) -> Result<Vec<PathTest>, Unfit> {
    let mut all = Vec::new();
    for a in a {
        for b in b {
            let test = match (a.covers(b), b.covers(a)) {
                (Some(true), _) => Some(b),
                (_, Some(true)) => Some(a),
                (Some(false), _) | (_, Some(false)) => None,
                (None, None) => return Err(format!("two conditions on the path at once: {a} and {b}")),
            };
            all.extend(test.filter(|test| !all.contains(*test)).cloned());
        }
    }
    Ok(all)
}

impl std::fmt::Display for PathTest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kind = match self.kind {
            PathKind::Equals => "equals",
            PathKind::StartsWith => "starts with",
            PathKind::EndsWith => "ends with",
            PathKind::Contains => "contains",
            PathKind::Regex => "matches",
        };
        write!(f, "{kind} {:?}", self.text)
    }
}

impl PathTest {
    /// A test; an error where no route could ask it.
    pub(super) fn new(kind: PathKind, text: &str, any_case: bool) -> Result<Self, Unfit> {
        let needs_slash = matches!(kind, PathKind::Equals | PathKind::StartsWith | PathKind::Regex);
        if needs_slash && !text.starts_with('/') {
            return Err(format!("a path begins with a slash, and {text:?} does not"));
        }
        if text.is_empty() {
            return Err("an empty text to look for in the path".to_owned());
        }
        let text = if any_case && kind != PathKind::Regex { text.to_ascii_lowercase() } else { text.to_owned() };
        let test = Self { kind, text, any_case };
        Pattern::path(&test.regex()).map_err(|error| format!("no regular expression of the edge: {error}"))?;
        Ok(test)
    }

    /// Whether every path of the other is one of these; nothing where nobody can tell.
    fn covers(&self, other: &Self) -> Option<bool> {
        if self == other {
            return Some(true);
        }
        let fixed = other.kind == PathKind::Equals && !other.any_case;
        if fixed {
            return Some(self.holds(&other.text));
        }
        let (mine, others) = (self.start().to_ascii_lowercase(), other.start().to_ascii_lowercase());
        if !mine.starts_with(&others) && !others.starts_with(&mine) {
            return Some(false);
        }
        let lower = |test: &Self| test.text.to_ascii_lowercase();
        match (self.kind, other.kind) {
            (PathKind::StartsWith, PathKind::StartsWith | PathKind::Equals) => {
                let reaches = |longer: &str, start: &str| longer.starts_with(start);
                // Without regard to case neither may reach the other for them to be apart.
                let (mine, others) = (lower(self), lower(other));
                if !reaches(&others, &mine) && !reaches(&mine, &others) {
                    return Some(false);
                }
                let is_wider = if self.any_case {
                    reaches(&others, &mine)
                } else {
                    !other.any_case && reaches(&other.text, &self.text)
                };
                if is_wider {
                    return Some(true);
                }
                // `/a` does not cover `/`, but `/` covers `/a`, which the other way round will say.
                (!self.any_case && !other.any_case && !reaches(&self.text, &other.text)).then_some(false)
            }
            (PathKind::Contains, PathKind::StartsWith | PathKind::EndsWith | PathKind::Contains)
                if self.any_case || !other.any_case =>
            {
                let found =
                    if self.any_case { lower(other).contains(&self.text) } else { other.text.contains(&self.text) };
                found.then_some(true)
            }
            (PathKind::EndsWith, PathKind::EndsWith) if self.any_case || !other.any_case => {
                let found =
                    if self.any_case { lower(other).ends_with(&self.text) } else { other.text.ends_with(&self.text) };
                found.then_some(true)
            }
            _ => None,
        }
    }

    /// What every path that fits begins with.
    fn start(&self) -> &str {
        match self.kind {
            PathKind::Equals | PathKind::StartsWith => &self.text,
            PathKind::EndsWith | PathKind::Contains => "/",
            PathKind::Regex => {
                let is_plain = |char: char| char.is_ascii_alphanumeric() || "/_-%~".contains(char);
                let end = self.text.find(|char| !is_plain(char)).unwrap_or(self.text.len());
                // What is counted may be there no time at all, and with `|` nothing need be.
                match self.text[end..].chars().next() {
                    _ if self.text.contains('|')
                        && !self.text[..end].is_empty()
                        && !self.text[end..].starts_with('(') =>
                    {
                        "/"
                    }
                    Some('*' | '?' | '{') => &self.text[..end.saturating_sub(1)],
                    _ => &self.text[..end],
                }
            }
        }
    }

    fn holds(&self, path: &str) -> bool {
        Pattern::path(&self.regex()).is_ok_and(|pattern| pattern.match_path(path.as_bytes()).is_some())
    }

    /// Whether a prefix says it: what a route's `paths` take without a `~`.
    pub(super) fn is_prefix(&self) -> bool {
        self.kind == PathKind::StartsWith && !self.any_case && is_normalized(&self.text)
    }

    /// The expression behind the `~` of a route's `paths`.
    pub(super) fn regex(&self) -> String {
        let text = escape(&self.text);
        let case = if self.any_case { "(?i)" } else { "" };
        // A path begins with a slash, and so must the expression: what a text with one in front is looked for in may
        // begin there.
        let anywhere = match text.strip_prefix('/') {
            Some(rest) => format!("/{case}(?:.*/)?{rest}"),
            None => format!("/{case}.*{text}"),
        };
        match self.kind {
            PathKind::Equals => format!("/{case}{}$", &text[1..]),
            PathKind::StartsWith => format!("/{case}{}", &text[1..]),
            PathKind::EndsWith => format!("{anywhere}$"),
            PathKind::Contains => anywhere,
            PathKind::Regex => format!("/{case}{}", &self.text[1..]),
        }
    }

    fn example(&self) -> Option<String> {
        let path = match self.kind {
            PathKind::Equals | PathKind::StartsWith => self.text.clone(),
            PathKind::EndsWith | PathKind::Contains if self.text.starts_with('/') => self.text.clone(),
            PathKind::EndsWith | PathKind::Contains => format!("/{}", self.text),
            PathKind::Regex => {
                let plain = self.text.replace(".*", "x").replace(".+", "x").replace('\\', "");
                plain.trim_end_matches('$').to_owned()
            }
        };
        (is_normalized(&path) && self.holds(&path)).then_some(path)
    }
}

/// A text as an expression that matches it alone.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        if "\\.+*?()|[]{}^$#&-~".contains(char) {
            escaped.push('\\');
        }
        escaped.push(char);
    }
    escaped
}

impl HeaderTest {
    fn and(&self, other: &Self) -> Result<Option<Self>, ()> {
        let only = |values: &BTreeSet<String>, test: &Self| {
            let left: BTreeSet<String> = values.iter().filter(|value| test.holds(value)).cloned().collect();
            (!left.is_empty()).then_some(Self::OneOf(left))
        };
        Ok(match (self, other) {
            (same, other) if same == other => Some(same.clone()),
            (Self::Exists, test) | (test, Self::Exists) => Some(test.clone()),
            (Self::OneOf(values), test) | (test, Self::OneOf(values)) => only(values, test),
            (Self::Regex(_), Self::Regex(_)) => return Err(()),
        })
    }

    fn holds(&self, value: &str) -> bool {
        match self {
            Self::Exists => true,
            Self::OneOf(values) => values.contains(&value.to_lowercase()),
            Self::Regex(text) => Pattern::value(text).is_ok_and(|pattern| pattern.matches_value(value.as_bytes())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PathKind::{Contains, EndsWith, Equals, Regex, StartsWith};
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
    fn expressions_match_what_the_words_say() {
        for (kind, text, any_case, good, bad) in [
            (Equals, "/a.b", false, "/a.b", "/a.bc"),
            (Equals, "/a.b", false, "/a.b", "/axb"),
            (StartsWith, "/api", false, "/api/x", "/x/api"),
            (StartsWith, "/API", true, "/api/x", "/ap"),
            (EndsWith, ".png", false, "/x/y.png", "/x/y.png/z"),
            (EndsWith, "/", false, "/x/", "/x"),
            (Contains, "/admin", false, "/admin", "/adm"),
            (Contains, "/admin", false, "/x/admin/y", "/xadmin"),
            (Contains, "id", false, "/a/id", "/a/i"),
            (Regex, "/v[0-9]+/", false, "/v12/x", "/vx/"),
        ] {
            let test = PathTest::new(kind, text, any_case).unwrap();
            assert!(test.holds(good) && !test.holds(bad), "{test} {}", test.regex());
        }
        assert!(PathTest::new(StartsWith, "api", false).is_err());
        assert!(PathTest::new(Regex, "/(?=x)", false).is_err());
        assert!(PathTest::new(Contains, "", false).is_err());
    }

    #[test]
    fn samples_hold() {
        for one in
            [paths(&[(EndsWith, ".png")]), paths(&[(Regex, "/v1/.*x$")]), hosts(&["*.example.com"]), hosts(&["a.*"])]
        {
            assert!(one.sample().is_some_and(|sample| one.holds(&sample)), "{one:?}");
        }
    }
}
