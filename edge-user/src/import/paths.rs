//! What a path must be for something to happen: tests as a route of the edge can ask them, and what two of them are
//! together.

use super::accepted;
use super::matching::Unfit;
use crate::router::{Pattern, is_normalized};

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

/// The paths that are in both lists.
pub(super) fn paths_and(a: &[PathTest], b: &[PathTest]) -> Result<Vec<PathTest>, Unfit> {
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
        accepted::text(&test.regex())?;
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

    /// Whether it holds for a path in normal form.
    pub(super) fn holds(&self, path: &str) -> bool {
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

    /// A path for which it holds, where one is easily made up.
    pub(super) fn example(&self) -> Option<String> {
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

#[cfg(test)]
mod tests {
    use super::PathKind::{Contains, EndsWith, Equals, Regex, StartsWith};
    use super::*;

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
}
