//! One comparison → what a route can ask: subject, operator, and the texts of which one must fit.

use std::collections::BTreeSet;

use super::accepted;
use super::matching::{HeaderTest, Match, Sources, Unfit};
use super::paths::{PathKind, PathTest, escape};
use super::text::{Part, Text};
use crate::router::{HostPattern, Pattern};
use crate::settings::Cidr;

/// How two texts are compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the words of iRules and policies")]
pub(super) enum Operator {
    Equals,
    StartsWith,
    EndsWith,
    Contains,
    Glob,
    Regex,
}

/// A comparison as conditions. What it means a little differently is said in `notes`.
pub(super) fn atom(
    subject: &Text,
    operator: Operator,
    texts: &[String],
    notes: &mut Vec<String>,
) -> Result<Match, Unfit> {
    let any_case = subject.lower;
    let mut found = Match::default();
    match subject.parts.as_slice() {
        [Part::Host] => {
            let mut hosts = BTreeSet::new();
            for text in texts {
                hosts.extend(host(operator, text, notes)?);
            }
            found.hosts = Some(hosts);
        }
        [part @ (Part::Path | Part::Uri)] => {
            let mut paths = Vec::new();
            for text in texts {
                paths.extend(path(operator, text, any_case, *part == Part::Uri, notes)?);
            }
            found.paths = Some(paths);
        }
        [Part::Method] if operator == Operator::Equals => {
            let method = |text: &String| {
                let text = text.to_ascii_uppercase();
                let is_method = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase());
                is_method.then_some(text).ok_or_else(|| "a method of other characters than letters".to_owned())
            };
            found.methods = Some(texts.iter().map(method).collect::<Result<_, _>>()?);
        }
        [Part::Method] => return Err("methods are compared whole by a route".to_owned()),
        [Part::Header(name) | Part::AnswerHeader(name)] => {
            accepted::field_name(name)?;
            if !any_case {
                notes.push(
                    "the edge compares values without regard to case, and any of several fields of the name".to_owned(),
                );
            }
            let test = header(operator, texts)?;
            if test.holds("") {
                return Err("a comparison that a field which is not there fits as well".to_owned());
            }
            found.headers.insert(name.clone(), test);
        }
        [Part::Status] => {
            let test = header(operator, texts)?;
            let statuses: BTreeSet<u16> = (100..=599).filter(|status: &u16| test.holds(&status.to_string())).collect();
            if statuses.is_empty() {
                return Err("a status that no answer has".to_owned());
            }
            found.statuses = Some(statuses);
        }
        [Part::Certificate(_)] => {
            return Err("what a certificate says, in a condition: that there is one can be".to_owned());
        }
        [Part::Client] if operator == Operator::Equals => {
            let range = |text: &String| Cidr::parse(text).ok_or_else(|| format!("{text:?} is no range of addresses"));
            let ranges = texts.iter().map(range).collect::<Result<_, _>>()?;
            found.sources = vec![Sources { inside: true, ranges }];
        }
        [Part::Client] => return Err("a client's address is compared by ranges".to_owned()),
        [Part::Host, second @ (Part::Path | Part::Uri)] => {
            let [text] = texts else { return Err("host and path in one text, of several".to_owned()) };
            let slash = text.find('/').ok_or("host and path in one text, without a slash")?;
            let (name, rest) = text.split_at(slash);
            if name.contains(['*', '?', '[']) && !name.starts_with("*.") || operator == Operator::Regex {
                return Err("a pattern over host and path at once".to_owned());
            }
            let of_host = if name.contains('*') { Operator::Glob } else { Operator::Equals };
            found.hosts = Some(host(of_host, name, notes)?.into_iter().collect());
            if !matches!(operator, Operator::Equals | Operator::StartsWith | Operator::Glob) {
                return Err("host and path in one text, compared from its end".to_owned());
            }
            found.paths = Some(path(operator, rest, any_case, *second == Part::Uri, notes)?);
        }
        [Part::Query] => return Err("routes do not look at the query".to_owned()),
        [Part::Other(why)] => return Err(why.clone()),
        _ => return Err("a condition on more than one thing of the request".to_owned()),
    }
    if found.hosts.as_ref().is_some_and(BTreeSet::is_empty) || texts.is_empty() {
        return Err("a condition on one of no values".to_owned());
    }
    Ok(found)
}

fn host(operator: Operator, text: &str, notes: &mut Vec<String>) -> Result<Vec<String>, Unfit> {
    let text = text.to_ascii_lowercase();
    if text.contains(':') && !text.starts_with('[') {
        return Err("a host with its port: routes of every listener are one set, which names hosts".to_owned());
    }
    let hosts = match operator {
        Operator::Equals => vec![text],
        Operator::StartsWith if text.ends_with('.') => vec![format!("{text}*")],
        Operator::EndsWith if text.starts_with('.') => vec![format!("*{text}")],
        Operator::EndsWith => {
            notes.push(format!("hosts are {text} and *.{text}: names that only end in the same letters are not meant"));
            vec![text.clone(), format!("*.{text}")]
        }
        Operator::Glob => vec![text],
        Operator::StartsWith | Operator::Contains | Operator::Regex => {
            return Err("a route's hosts are names, *.name and name.*".to_owned());
        }
    };
    match hosts.iter().all(|host| HostPattern::parse(host).is_some()) {
        true => Ok(hosts),
        false => Err(format!("{:?} is no host, *.host or host.*", hosts[0])),
    }
}

fn path(
    operator: Operator,
    text: &str,
    any_case: bool,
    is_uri: bool,
    notes: &mut Vec<String>,
) -> Result<Vec<PathTest>, Unfit> {
    let is_pattern = matches!(operator, Operator::Glob | Operator::Regex);
    if text.contains('?') && !is_pattern {
        return Err("routes do not look at the query".to_owned());
    }
    if is_uri && operator != Operator::StartsWith {
        notes.push("the path alone is compared: a query no longer counts".to_owned());
    }
    let one = |kind, text: &str| Ok(vec![PathTest::new(kind, text, any_case)?]);
    match operator {
        Operator::Equals => one(PathKind::Equals, text),
        Operator::StartsWith => one(PathKind::StartsWith, text),
        Operator::EndsWith => one(PathKind::EndsWith, text),
        Operator::Contains => one(PathKind::Contains, text),
        Operator::Glob => glob(text, any_case).map(|test| vec![test]),
        Operator::Regex => {
            let (text, any_case) = text.strip_prefix("(?i)").map_or((text, any_case), |text| (text, true));
            let mut tests = Vec::new();
            for alternative in alternatives(text) {
                tests.push(PathTest::new(PathKind::Regex, &anchored(&alternative)?, any_case)?);
            }
            Ok(tests)
        }
    }
}

/// A pattern of `switch -glob` and `string match`.
fn glob(text: &str, any_case: bool) -> Result<PathTest, Unfit> {
    let inner = text.trim_matches('*');
    if !inner.contains(['*', '?', '[', '\\']) && !inner.is_empty() {
        let kind = match (text.starts_with('*'), text.ends_with('*')) {
            (false, false) => PathKind::Equals,
            (false, true) => PathKind::StartsWith,
            (true, false) => PathKind::EndsWith,
            (true, true) => PathKind::Contains,
        };
        return PathTest::new(kind, inner, any_case);
    }
    let mut regex = glob_regex(text.trim_start_matches('*'));
    if !text.ends_with('*') {
        regex.push('$');
    }
    let anywhere = match (text.starts_with('*'), regex.strip_prefix('/')) {
        (false, _) => regex,
        (true, Some(rest)) => format!("/(?:.*/)?{rest}"),
        (true, None) => format!("/.*{regex}"),
    };
    PathTest::new(PathKind::Regex, &anywhere, any_case)
}

/// The expression for a pattern, not anchored.
fn glob_regex(text: &str) -> String {
    let mut regex = String::new();
    let mut chars = text.trim_end_matches('*').chars();
    while let Some(char) = chars.next() {
        match char {
            '*' => regex.push_str(".*"),
            '?' => regex.push('.'),
            '[' | ']' => regex.push(char),
            '\\' => regex.extend(chars.next().map(|char| escape(&char.to_string()))),
            other => regex.push_str(&escape(&other.to_string())),
        }
    }
    regex
}

/// The alternatives of an expression at its top, and those of a group at its front.
fn alternatives(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for part in split(text) {
        let is_plain = |char: char| char.is_ascii_alphanumeric() || "^/_-".contains(char);
        let (anchor, rest) = part.split_at(part.find(|char| !is_plain(char)).unwrap_or(part.len()));
        let group = rest.strip_prefix('(').filter(|rest| !rest.starts_with('?'));
        let end = group.and_then(closing);
        match (group, end) {
            (Some(group), Some(end)) if !group[end + 1..].starts_with(['?', '*', '+', '{']) => {
                let behind = &group[end + 1..];
                found.extend(split(&group[..end]).iter().map(|inner| format!("{anchor}{inner}{behind}")));
            }
            _ => found.push(part.to_owned()),
        }
    }
    found
}

/// Where the parenthesis is closed that was open at the front.
fn closing(text: &str) -> Option<usize> {
    depths(text).find(|(_, char, depth)| *char == ')' && *depth == 0).map(|(at, ..)| at)
}

fn split(text: &str) -> Vec<&str> {
    let bars: Vec<usize> =
        depths(text).filter(|(_, char, depth)| *char == '|' && *depth == 0).map(|(at, ..)| at).collect();
    let (mut parts, mut start) = (Vec::new(), 0);
    for bar in bars {
        parts.push(&text[start..bar]);
        start = bar + 1;
    }
    parts.push(&text[start..]);
    parts
}

/// The characters that are not escaped nor in a class, with how many groups are open around each.
fn depths(text: &str) -> impl Iterator<Item = (usize, char, usize)> + '_ {
    let (mut depth, mut is_escaped, mut in_class) = (0usize, false, false);
    text.char_indices().filter_map(move |(at, char)| {
        if std::mem::take(&mut is_escaped) {
            return None;
        }
        match char {
            '\\' => is_escaped = true,
            ']' if in_class => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => {
                depth += 1;
                return Some((at, char, depth - 1));
            }
            ')' => {
                let open = depth;
                depth = depth.saturating_sub(1);
                return Some((at, char, open));
            }
            _ => return Some((at, char, depth)),
        }
        None
    })
}

/// An expression that is looked for anywhere, as one from the path's first slash on.
fn anchored(text: &str) -> Result<String, Unfit> {
    let text = text.replace("\\/", "/");
    if let Some(rest) = text.strip_prefix('^') {
        return match rest.starts_with('/') {
            true => Ok(rest.to_owned()),
            false => Err(format!("the expression {text:?} does not begin with a slash")),
        };
    }
    let mut chars = text.chars();
    let (first, second) = (chars.next(), chars.next());
    if second.is_some_and(|char| "?*+{".contains(char)) {
        return Err(format!("the expression {text:?} may begin anywhere"));
    }
    match first {
        Some('/') => Ok(format!("/(?:.*/)?{}", &text[1..])),
        Some(char) if char.is_ascii_alphanumeric() => Ok(format!("/.*{text}")),
        Some('\\') if second == Some('.') => Ok(format!("/.*{text}")),
        _ => Err(format!("the expression {text:?} may begin anywhere")),
    }
}

fn header(operator: Operator, texts: &[String]) -> Result<HeaderTest, Unfit> {
    if operator == Operator::Equals
        || operator == Operator::Glob && texts.iter().all(|text| !text.contains(['*', '?', '[', '\\']))
    {
        if texts.iter().any(|text| text.starts_with("~*")) {
            return Err("a value that begins with ~*".to_owned());
        }
        texts.iter().try_for_each(|text| accepted::text(text))?;
        return Ok(HeaderTest::OneOf(texts.iter().map(|text| text.to_lowercase()).collect()));
    }
    let regex = |text: &String| match operator {
        Operator::Equals => format!("^{}$", escape(text)),
        Operator::StartsWith => format!("^{}", escape(text)),
        Operator::EndsWith => format!("{}$", escape(text)),
        Operator::Contains => escape(text),
        Operator::Glob => {
            let end = if text.ends_with('*') { "" } else { "$" };
            format!("^{}{end}", glob_regex(text))
        }
        Operator::Regex => text.clone(),
    };
    let all: Vec<String> = texts.iter().map(regex).collect();
    let text = match all.as_slice() {
        [one] => one.clone(),
        many => many.iter().map(|one| format!("(?:{one})")).collect::<Vec<_>>().join("|"),
    };
    accepted::text(&text)?;
    Pattern::value(&text).map_err(|error| format!("no regular expression of the edge: {error}"))?;
    Ok(HeaderTest::Regex(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(part: Part, operator: Operator, text: &str) -> String {
        let mut notes = Vec::new();
        match atom(&Text::of(part), operator, &[text.to_owned()], &mut notes) {
            Err(why) => format!("no: {why}"),
            Ok(found) => {
                let hosts: Vec<String> = found.hosts.into_iter().flatten().collect();
                let paths = found.paths.into_iter().flatten().map(|path| format!("~{}", path.regex()));
                hosts.into_iter().chain(paths).chain(found.methods.into_iter().flatten()).collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn comparisons_become_what_routes_ask() {
        use Operator::*;
        for (part, operator, text, expected) in [
            (Part::Host, Equals, "WWW.example.com", "www.example.com"),
            (Part::Host, StartsWith, "api.", "api.*"),
            (Part::Host, StartsWith, "api", "no: a route's hosts"),
            (Part::Host, EndsWith, ".example.com", "*.example.com"),
            (Part::Host, Glob, "*.example.com", "*.example.com"),
            (Part::Host, Glob, "a*b.example.com", "no: "),
            (Part::Path, Equals, "/a", "~/a$"),
            (Part::Path, StartsWith, "a", "no: a path begins"),
            (Part::Uri, Contains, "a?b", "no: routes do not look at the query"),
            (Part::Path, Glob, "/a*", "~/a"),
            (Part::Path, Glob, "*.jpg", "~/.*\\.jpg$"),
            (Part::Path, Glob, "*/x/*y", "~/(?:.*/)?x/.*y$"),
            (Part::Path, Glob, "/a*b?", "~/a.*b.$"),
            (Part::Path, Regex, "^/v[0-9]+/", "~/v[0-9]+/"),
            (Part::Path, Regex, "^/(a|b)/c", "~/a/c ~/b/c"),
            (Part::Path, Regex, "^(/a|/b)/c", "~/a/c ~/b/c"),
            (Part::Path, Regex, "/x|\\.gif$", "~/(?:.*/)?x ~/.*\\.gif$"),
            (Part::Path, Regex, ".*x", "no: the expression"),
            (Part::Method, Equals, "post", "POST"),
            (Part::Method, StartsWith, "P", "no: methods"),
            (Part::Query, Contains, "x", "no: routes do not look"),
        ] {
            let found = shown(part, operator, text);
            let right = if expected.starts_with("no: ") { found.starts_with(expected) } else { found == expected };
            assert!(right, "{operator:?} {text}: {found}, expected {expected}");
        }
    }
}
