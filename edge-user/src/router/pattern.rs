//! Regular expressions of paths and fields: judged when the configuration is read, compiled when first asked.
//!
//! Both match in time linear in the text. Classes (`\w`, `\d`, `(?i)`) are those of ASCII: paths in normal form have
//! nothing else (`path.rs`), and fields are octets (RFC 9110, 5.5). An expression that only Unicode makes sense of,
//! like `\p{L}`, gets it.

use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

use regex_automata::meta::{self, Regex};
use regex_automata::util::captures::Captures as Groups;
use regex_automata::util::primitives::PatternID;
use regex_automata::{Anchored, Input};
use regex_syntax::ParserBuilder;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Class, Hir, HirKind, Look};

/// A regular expression; equal where its text is. Copies share what is compiled.
#[derive(Clone)]
pub struct Pattern(Arc<Inner>);

struct Inner {
    text: Box<str>,
    kind: Kind,
    start: Box<[u8]>,
    compiled: OnceLock<Regex>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Path,
    Value,
}

/// Why a text is no regular expression for the edge.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPattern {
    /// The text says nothing, or something that has no linear-time machine.
    #[error("{0}")]
    Syntax(Box<str>),
    /// It counts too far.
    #[error("compiled it takes more than {} KiB", Pattern::MAX_BYTES / 1024)]
    TooLarge,
}

impl Pattern {
    /// Memory one compiled expression may take.
    const MAX_BYTES: usize = 1 << 20;
    /// Memory the states a thread meets while it matches may take.
    const MAX_STATE_BYTES: usize = 64 << 10;
    /// Above this many states, as `weight` counts, the size is found out by compiling at once.
    const MAX_WEIGHT: usize = 512;

    /// Reads the expression of a path (without its `~`): it holds from the path's start on.
    pub fn path(text: &str) -> Result<Self, BadPattern> {
        Self::read(text, Kind::Path)
    }

    /// Reads the expression of a field's value (without its `~*`): without regard to case, anywhere in it.
    pub fn value(text: &str) -> Result<Self, BadPattern> {
        Self::read(text, Kind::Value)
    }

    fn read(text: &str, kind: Kind) -> Result<Self, BadPattern> {
        let hir = parse(text, kind)?;
        let start = match kind {
            Kind::Path => Extractor::new().extract(&hir).longest_common_prefix().unwrap_or_default().into(),
            Kind::Value => Box::default(),
        };
        let compiled = OnceLock::new();
        if weight(&hir) > Self::MAX_WEIGHT {
            let _ = compiled.set(compile(&hir)?);
        }
        Ok(Self(Arc::new(Inner { text: text.into(), kind, start, compiled })))
    }

    /// What everything it matches begins with; empty where that is not one thing.
    pub(super) fn start(&self) -> &[u8] {
        &self.0.start
    }

    /// How many bytes of a path it matches, if it does.
    pub(crate) fn match_path(&self, path: &[u8]) -> Option<usize> {
        self.regex().search_half(&Input::new(path).anchored(Anchored::Yes)).map(|end| end.offset())
    }

    /// Whether it matches a field's value.
    pub(crate) fn matches_value(&self, value: &[u8]) -> bool {
        self.regex().is_match(value)
    }

    /// What its groups match of a path.
    pub(super) fn captures<'a>(&self, path: &'a [u8]) -> Option<Captures<'a>> {
        let mut groups = self.regex().create_captures();
        self.regex().search_captures(&Input::new(path).anchored(Anchored::Yes), &mut groups);
        groups.is_match().then_some(Captures { path, groups })
    }

    /// The first request that asks pays, about a tenth of a millisecond; requests of other workers that ask meanwhile wait.
    fn regex(&self) -> &Regex {
        self.0.compiled.get_or_init(|| {
            let hir = parse(&self.0.text, self.0.kind).expect("parsed when it was read");
            compile(&hir).expect("light: far below the bound")
        })
    }
}

fn parse(text: &str, kind: Kind) -> Result<Hir, BadPattern> {
    let parser = |unicode| {
        let mut builder = ParserBuilder::new();
        builder.utf8(false).unicode(unicode).case_insensitive(kind == Kind::Value).build()
    };
    let hir = match parser(false).parse(text) {
        Ok(hir) => hir,
        Err(_) => parser(true).parse(text).map_err(|error| BadPattern::Syntax(error.to_string().into()))?,
    };
    Ok(match kind {
        Kind::Path => Hir::concat(vec![Hir::look(Look::Start), hir]),
        Kind::Value => hir,
    })
}

fn compile(hir: &Hir) -> Result<Regex, BadPattern> {
    let config = meta::Config::new()
        .utf8_empty(false)
        .nfa_size_limit(Some(Pattern::MAX_BYTES))
        .onepass_size_limit(Some(Pattern::MAX_STATE_BYTES))
        .hybrid_cache_capacity(Pattern::MAX_STATE_BYTES)
        .dfa(false);
    meta::Builder::new().configure(config).build_from_hir(hir).map_err(|_| BadPattern::TooLarge)
}

/// A generous count of the states of the machine; no state takes more than a few hundred bytes.
fn weight(hir: &Hir) -> usize {
    let sum = |parts: &[Hir]| parts.iter().map(weight).fold(1, usize::saturating_add);
    match hir.kind() {
        HirKind::Empty | HirKind::Look(_) => 1,
        HirKind::Literal(literal) => literal.0.len(),
        HirKind::Class(Class::Bytes(class)) => class.ranges().len(),
        // In UTF-8 one range is several chains of bytes.
        HirKind::Class(Class::Unicode(class)) => class.ranges().len().saturating_mul(16),
        HirKind::Repetition(repetition) => {
            let times = repetition.max.unwrap_or(repetition.min.saturating_add(1)).max(1) as usize;
            weight(&repetition.sub).saturating_add(1).saturating_mul(times)
        }
        HirKind::Capture(capture) => weight(&capture.sub).saturating_add(2),
        HirKind::Concat(parts) | HirKind::Alternation(parts) => sum(parts),
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.kind == other.0.kind && self.0.text == other.0.text
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.text.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.0.text)
    }
}

/// The patterns of one router: routes that ask for the same compile it once.
#[derive(Default)]
pub(super) struct Shared(HashSet<Pattern>);

impl Shared {
    /// The first pattern that equals this one.
    pub(super) fn one(&mut self, pattern: &Pattern) -> Pattern {
        if let Some(first) = self.0.get(pattern) {
            return first.clone();
        }
        self.0.insert(pattern.clone());
        pattern.clone()
    }
}

/// What the groups of a route's regular expression match of a path.
pub struct Captures<'a> {
    path: &'a [u8],
    groups: Groups,
}

impl<'a> Captures<'a> {
    /// What a group matches, counted by opening parentheses from 1 on; 0 is the whole match.
    pub fn by_index(&self, index: usize) -> Option<&'a [u8]> {
        self.groups.get_group(index).map(|span| &self.path[span.range()])
    }

    /// What each group matches, the whole match left out, and its name if it has one.
    pub fn groups(&self) -> impl Iterator<Item = (Option<&str>, Option<&'a [u8]>)> {
        let names = self.groups.group_info().pattern_names(PatternID::ZERO);
        let spans = self.groups.iter().map(|span| span.map(|span| &self.path[span.range()]));
        names.zip(spans).skip(1)
    }

    /// What a named group matches.
    pub fn by_name(&self, name: &str) -> Option<&'a [u8]> {
        self.groups.get_group_by_name(name).map(|span| &self.path[span.range()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn expressions_are_judged_when_they_are_read() {
        for good in ["/a", "/(?<id>\\d+)", "/(?P<id>[^/]+)$", "(?x)/a # note", "/\\p{L}", "/[é]", "/a{500}", "/\\w{50}"]
        {
            assert!(Pattern::path(good).is_ok(), "{good}");
        }
        for bad in ["/(", "/a)(?:b", "/[", "/(?=a)", "/(a)\\1", "/a**{", "/(?<a>x)(?<a>y)"] {
            assert!(matches!(Pattern::path(bad), Err(BadPattern::Syntax(_))), "{bad}");
        }
        for big in ["/(a{1000}){1000}", "/(\\pL{100}){100}"] {
            assert_eq!(Pattern::path(big), Err(BadPattern::TooLarge), "{big}");
        }
        assert_eq!(BadPattern::TooLarge.to_string(), "compiled it takes more than 1024 KiB");
    }

    #[test]
    fn what_a_match_begins_with_is_known() {
        for (text, start) in [
            ("/users/\\d+", "/users/"),
            ("/a|/b", "/"),
            ("(?:/api)(/v1)?", "/api"),
            ("/v[0-9]/x", "/v"),
            ("(?i)/Api", "/"),
            (".*", ""),
            ("", ""),
            ("^/a", "/a"),
        ] {
            assert_eq!(Pattern::path(text).unwrap().start(), start.as_bytes(), "{text}");
        }
    }

    #[test]
    fn equal_texts_share_one_machine() {
        let mut shared = Shared::default();
        let (first, second) = (Pattern::path("/a\\d").unwrap(), Pattern::path("/a\\d").unwrap());
        assert_eq!(shared.one(&first), second);
        assert!(Arc::ptr_eq(&shared.one(&second).0, &first.0));
        assert_ne!(shared.one(&Pattern::value("/a\\d").unwrap()), first);
    }

    proptest! {
        /// What is left for later compiles, begins as said, and takes what the `regex` crate takes.
        #[test]
        fn accepted_expressions_compile_and_match_alike(
            text in "(/|a|b|1|\\.|[ab1]|\\\\d|\\\\w|\\(a\\|/b\\)|\\(\\?<n>b\\)|\\*|\\+|\\?|\\{2,3\\}|\\$|\\^|\\||\\(\\?i\\)){1,9}",
            path in "(/|a|b|B|1){0,9}",
        ) {
            let Ok(pattern) = Pattern::path(&text) else {
                prop_assert!(regex::bytes::Regex::new(&text).is_err());
                return Ok(());
            };
            let path = format!("/{path}");
            let found = regex::bytes::Regex::new(&format!("^(?:{text})")).unwrap().find(path.as_bytes());
            prop_assert_eq!(pattern.match_path(path.as_bytes()), found.map(|found| found.end()));
            prop_assert!(found.is_none() || path.as_bytes().starts_with(pattern.start()));
            let value = Pattern::value(&text).unwrap();
            let reference = regex::bytes::RegexBuilder::new(&text).case_insensitive(true).build().unwrap();
            prop_assert_eq!(value.matches_value(path.as_bytes()), reference.is_match(path.as_bytes()));
        }
    }
}
