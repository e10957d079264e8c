//! Changes of fields: rules of http-profile, each read by the plugin's own reader before it is one, and what they come to
//! for one request.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::accepted;
use super::decisions::Decision;
use super::gaps;
use super::matching::{HeaderTest, Match, Sample, Unfit};
use super::paths::{PathKind, escape};
use super::text::{Part, Side, Text};
use crate::plugin::http_profile;

/// How a field changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One more line.
    Insert,
    /// One line with this value, whether there was one or not.
    Set,
    /// None left.
    Remove,
}

/// When a field changes: where all of this holds, and the other does not.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Guard {
    when: Match,
    not: Option<Match>,
}

/// A change of one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    side: Side,
    kind: Kind,
    name: String,
    value: Text,
    guard: Guard,
}

/// What is known of fields, by names in lower case: their values, or that nobody can tell.
pub(super) type Fields = BTreeMap<String, Option<Vec<String>>>;

impl Change {
    /// A change that http-profile takes.
    pub(super) fn new(side: Side, kind: Kind, name: &str, value: Text, guard: Guard) -> Result<Self, Unfit> {
        let of_cookies = Part::AnswerHeader("set-cookie".to_owned());
        if name.eq_ignore_ascii_case("set-cookie") && value.parts.contains(&of_cookies) {
            return Err("`Set-Cookie` made of itself: several cookies would become one".to_owned());
        }
        let change = Self { side, kind, name: name.to_owned(), value, guard };
        accepted::plugin(http_profile::NAME, &rules([&change])?)?;
        Ok(change)
    }

    /// The same as an object of the plugin's.
    fn rule(&self) -> Result<Value, Unfit> {
        let action = match self.kind {
            Kind::Insert => "insert",
            Kind::Set => "replace",
            Kind::Remove => "erase",
        };
        let mut rule = json!({"action": action, "name": self.name});
        if self.kind != Kind::Remove {
            rule["value"] = self.value.template(self.side)?.trim().into();
        }
        if let Some(when) = self.guard.condition(self.side)? {
            rule["when"] = when;
        }
        Ok(rule)
    }

    /// The field's name.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// When it is made.
    pub(super) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// What its value means a little differently.
    pub(super) fn notes(&self) -> impl Iterator<Item = &'static str> {
        self.value.notes()
    }
}

/// Changes as settings of http-profile.
pub(super) fn rules<'c>(changes: impl IntoIterator<Item = &'c Change>) -> Result<Value, Unfit> {
    let mut config = Map::new();
    for change in changes {
        let side = match change.side {
            Side::Request => "request",
            Side::Answer => "response",
        };
        let side = config.entry(side).or_insert_with(|| json!({"headers": []}));
        if let Some(rules) = side["headers"].as_array_mut() {
            rules.push(change.rule()?);
        }
    }
    Ok(config.into())
}

/// What changes of one side make of fields. Of the other fields of an answer nobody knows anything.
pub(super) fn applied<'c>(changes: impl IntoIterator<Item = &'c Change>, sample: &Sample) -> Fields {
    let mut fields = Fields::new();
    for change in changes {
        let key = change.name.to_ascii_lowercase();
        let before = |name: &str| match (fields.get(name), change.side) {
            (Some(known), _) => known.clone(),
            (None, Side::Request) => Some(sample.headers.get(name).cloned().into_iter().collect()),
            (None, Side::Answer) => None,
        };
        let value = change.value.on(sample).map(|value| Vec::from_iter(Some(value).filter(|value| !value.is_empty())));
        let next = match (change.guard.holds(sample, &before), change.kind) {
            // What it was before is nobody's word here.
            (Some(false), _) => continue,
            (None, _) => None,
            (Some(true), Kind::Remove) => Some(Vec::new()),
            (Some(true), Kind::Set) => value,
            (Some(true), Kind::Insert) => before(&key).and_then(|lines| Some([lines, value?].concat())),
        };
        fields.insert(key, next);
    }
    fields
}

impl Guard {
    /// The condition under which the body of one decision is taken, of those in their order; nothing where it never is.
    pub(super) fn nth<T>(chain: &[Decision<T>], index: usize) -> Result<Option<Self>, Unfit> {
        let (when, _) = &chain[index];
        let mut not: Option<Match> = None;
        for (earlier, _) in &chain[..index] {
            if earlier.and(when)?.is_none() {
                continue;
            }
            not = Some(match not {
                None => earlier.clone(),
                Some(other) => other.or(earlier).ok_or("a rule of http-profile has one `not`: this needs several")?,
            });
        }
        let is_possible = not.as_ref().is_none_or(|not| !not.is_any());
        Ok(is_possible.then(|| Self { when: when.clone(), not }))
    }

    /// What must hold.
    pub(super) fn when(&self) -> &Match {
        &self.when
    }

    /// Whether it looks at this field.
    pub(super) fn looks_at(&self, name: &str) -> bool {
        let name = name.to_ascii_lowercase();
        self.when.headers.contains_key(&name) || self.not.as_ref().is_some_and(|not| not.headers.contains_key(&name))
    }

    /// Whether it looks at fields.
    pub(super) fn looks_at_fields(&self) -> bool {
        !self.when.headers.is_empty() || self.not.as_ref().is_some_and(|not| !not.headers.is_empty())
    }

    fn condition(&self, side: Side) -> Result<Option<Value>, Unfit> {
        let mut condition = part(&self.when, side)?;
        if let Some(not) = &self.not {
            condition.insert("not".into(), part(not, side)?.into());
        }
        Ok((!condition.is_empty()).then(|| condition.into()))
    }

    fn holds(&self, sample: &Sample, before: &impl Fn(&str) -> Option<Vec<String>>) -> Option<bool> {
        let not = self.not.as_ref().map_or(Some(false), |not| holds(not, sample, before));
        match (holds(&self.when, sample, before), not) {
            (Some(false), _) | (_, Some(true)) => Some(false),
            (Some(true), Some(false)) => Some(true),
            _ => None,
        }
    }
}

fn holds(when: &Match, sample: &Sample, before: &impl Fn(&str) -> Option<Vec<String>>) -> Option<bool> {
    if when.statuses.is_some() {
        return None;
    }
    if !(Match { headers: BTreeMap::new(), ..when.clone() }).holds(sample) {
        return Some(false);
    }
    for (name, test) in &when.headers {
        if !before(name)?.iter().any(|value| test.holds(value)) {
            return Some(false);
        }
    }
    Some(true)
}

/// One part of a rule's `when`.
fn part(when: &Match, side: Side) -> Result<Map<String, Value>, Unfit> {
    let mut part = Map::new();
    if !when.sources.is_empty() {
        return Err("a change of fields that depends on the client's address".to_owned());
    }
    if let Some(hosts) = &when.hosts {
        part.insert("host".into(), json!(hosts));
    }
    if let Some(methods) = &when.methods {
        part.insert("method".into(), json!(methods));
    }
    if let Some(paths) = &when.paths {
        if side == Side::Answer {
            return Err(gaps::GONE.to_owned());
        }
        if paths.iter().any(|path| path.kind != PathKind::StartsWith || path.any_case) {
            return Err("a rule of http-profile looks at beginnings of the path alone".to_owned());
        }
        part.insert("path".into(), paths.iter().map(|path| path.text.as_str()).collect());
    }
    if let Some(statuses) = &when.statuses {
        part.insert("status".into(), json!(statuses));
    }
    if let Some(shown) = when.certificate {
        part.insert("client_cert".into(), shown.into());
    }
    let mut headers = when.headers.iter();
    if let Some((name, test)) = headers.next() {
        let (key, value) = match test {
            HeaderTest::Exists => ("exists", Value::from(true)),
            HeaderTest::Regex(text) => ("matches", text.as_str().into()),
            HeaderTest::OneOf(values) => {
                let values: Vec<String> = values.iter().map(|value| escape(value)).collect();
                ("matches", format!("^(?:{})$", values.join("|")).into())
            }
        };
        part.insert("header".into(), json!({"name": name, key: value}));
    }
    match headers.next() {
        Some(_) => Err("a rule of http-profile looks at one field".to_owned()),
        None => Ok(part),
    }
}

#[cfg(test)]
mod tests {
    use super::super::decisions::exists;
    use super::*;

    fn guards(chain: &[Decision<Option<usize>>]) -> Vec<String> {
        let shown = |index| match Guard::nth(chain, index).map(|guard| guard.map(|guard| guard.condition(Side::Answer)))
        {
            Ok(Some(Ok(condition))) => condition.map_or("always".to_owned(), |condition| condition.to_string()),
            Ok(Some(Err(why))) | Err(why) => format!("no: {why}"),
            Ok(None) => "never".to_owned(),
        };
        (0..chain.len()).map(shown).collect()
    }

    fn status(statuses: &[u16]) -> Match {
        Match { statuses: Some(statuses.iter().copied().collect()), ..Match::default() }
    }

    #[test]
    fn of_a_chain_each_has_what_those_before_it_leave() {
        let any = Match::default;
        let chain = |whens: &[Match]| {
            whens.iter().enumerate().map(|(index, when)| (when.clone(), Some(index))).collect::<Vec<_>>()
        };
        for (whens, expected) in [
            (vec![any()], vec!["always"]),
            (vec![any(), status(&[404])], vec!["always", "never"]),
            (
                vec![status(&[404]), status(&[500]), any()],
                vec!["{\"status\":[404]}", "{\"status\":[500]}", "{\"not\":{\"status\":[404,500]}}"],
            ),
            (
                vec![exists("a"), any()],
                vec![
                    "{\"header\":{\"exists\":true,\"name\":\"a\"}}",
                    "{\"not\":{\"header\":{\"exists\":true,\"name\":\"a\"}}}",
                ],
            ),
            (
                vec![exists("a"), exists("b"), any()],
                vec![
                    "{\"header\":{\"exists\":true,\"name\":\"a\"}}",
                    "{\"header\":{\"exists\":true,\"name\":\"b\"},\"not\":{\"header\":{\"exists\":true,\"name\":\"a\"}}}",
                    "no: a rule of http-profile has one `not`: this needs several",
                ],
            ),
        ] {
            assert_eq!(guards(&chain(&whens)), expected);
        }
    }

    #[test]
    fn changes_follow_each_other() {
        let sample = Sample {
            method: "GET".into(),
            host: "a.example.com".into(),
            path: "/".into(),
            headers: BTreeMap::from([("x-a".to_owned(), "1".to_owned())]),
        };
        let change =
            |side, kind, value: &str, guard| Change::new(side, kind, "X-A", Text::plain(value), guard).unwrap();
        let when = |when| Guard { when, not: None };
        let lines = |lines: &[&str]| Some(Some(lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>()));
        use Kind::{Insert, Remove, Set};
        for (side, changes, expected) in [
            (Side::Request, vec![(Insert, "2", Guard::default())], lines(&["1", "2"])),
            (Side::Request, vec![(Set, "2", Guard::default())], lines(&["2"])),
            (Side::Request, vec![(Remove, "", Guard::default()), (Insert, "2", Guard::default())], lines(&["2"])),
            (Side::Request, vec![(Remove, "", when(exists("x-b")))], None),
            // By then it is there no longer.
            (Side::Request, vec![(Remove, "", Guard::default()), (Insert, "2", when(exists("x-a")))], lines(&[])),
            (Side::Answer, vec![(Insert, "2", Guard::default())], Some(None)),
            (Side::Answer, vec![(Remove, "", Guard::default()), (Insert, "2", Guard::default())], lines(&["2"])),
            (Side::Answer, vec![(Set, "2", when(status(&[404])))], Some(None)),
        ] {
            let changes: Vec<Change> =
                changes.into_iter().map(|(kind, value, guard)| change(side, kind, value, guard)).collect();
            assert_eq!(applied(&changes, &sample).remove("x-a"), expected, "{changes:?}");
        }
    }
}
