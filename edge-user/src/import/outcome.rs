//! What happens to a request: where it goes, what its fields become, or how it is answered; and lists of cases, of which
//! the first that matches counts.

use std::collections::BTreeMap;

use super::ledger::Span;
use super::matching::{Match, Sources, Unfit};
use super::text::Text;

/// Cases of one virtual server at most.
pub(super) const MAX_CASES: usize = 200;

/// Cases in order; the last one matches every request.
pub(super) type Cases = Vec<(Match, Outcome)>;

/// What happens to a request.
#[derive(Clone, Debug, Default)]
pub(super) struct Outcome {
    /// The pool it goes to, by its whole name.
    pub(super) pool: Option<String>,
    /// What its fields become, in order.
    pub(super) request: Vec<Change>,
    /// The host the service sees.
    pub(super) host: Option<String>,
    /// The path the service sees.
    pub(super) path: Option<String>,
    /// The answer that it gets at once.
    pub(super) answer: Option<Answer>,
    /// No more is to be done by the rules.
    pub(super) ended: bool,
    /// What variables hold.
    pub(super) variables: BTreeMap<String, Text>,
    /// Where clients must be.
    pub(super) sources: Vec<Sources>,
    /// The lines that decided.
    pub(super) spans: Vec<Span>,
}

/// An answer of the edge's own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// To the same URL with https.
    ToHttps {
        /// Its status.
        status: u16,
    },
    /// The same for each request.
    Fixed {
        /// Its status.
        status: u16,
        /// Its body.
        body: Option<String>,
        /// Its fields, `Location` among them.
        fields: Vec<(String, String)>,
    },
}

impl Answer {
    /// Whether it turns the client away.
    pub(super) fn refuses(&self) -> bool {
        matches!(self, Self::Fixed { status, .. } if *status >= 400)
    }
}

/// How a field changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// One more line.
    Insert,
    /// One line with this value, whether there was one or not.
    Set,
    /// A line where there is none.
    Add,
    /// None left.
    Remove,
}

/// A change of one field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Change {
    /// How.
    pub(super) kind: Kind,
    /// The field's name as it stood.
    pub(super) name: String,
    /// The new value, in the language of the transformers.
    pub(super) value: String,
}

/// What all changes of one name come to, in the order in which the transformers take them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Fields {
    /// Names whose fields go.
    pub(super) remove: Vec<String>,
    /// Names and values that stand alone afterwards.
    pub(super) set: Vec<(String, String)>,
    /// For names that are not there.
    pub(super) add: Vec<(String, String)>,
    /// One more line each.
    pub(super) append: Vec<(String, String)>,
}

/// Sums up changes.
pub(super) fn fields(changes: &[Change]) -> Fields {
    #[derive(Default)]
    struct Sum {
        removed: bool,
        set: Option<String>,
        add: Option<String>,
        append: Vec<String>,
    }
    let mut order: Vec<&str> = Vec::new();
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    for change in changes {
        let key = change.name.to_ascii_lowercase();
        if !sums.contains_key(&key) {
            order.push(&change.name);
        }
        let sum = sums.entry(key).or_default();
        let value = || change.value.clone();
        match change.kind {
            Kind::Remove => *sum = Sum { removed: true, ..Sum::default() },
            // The last of several lines is the one that a replacement means.
            Kind::Set if !sum.append.is_empty() => {
                if let Some(last) = sum.append.last_mut() {
                    *last = value();
                }
            }
            Kind::Set if sum.removed => sum.append.push(value()),
            Kind::Set => (sum.set, sum.add) = (Some(value()), None),
            Kind::Add if sum.set.is_some() || sum.add.is_some() || !sum.append.is_empty() => {}
            Kind::Add if sum.removed => sum.append.push(value()),
            Kind::Add => sum.add = Some(value()),
            Kind::Insert => sum.append.push(value()),
        }
    }
    let mut fields = Fields::default();
    for name in order {
        let Some(sum) = sums.remove(&name.to_ascii_lowercase()) else { continue };
        let pair = |value: String| (name.to_owned(), value);
        if sum.removed {
            fields.remove.push(name.to_owned());
        }
        fields.set.extend(sum.set.map(pair));
        fields.add.extend(sum.add.map(pair));
        fields.append.extend(sum.append.into_iter().map(pair));
    }
    fields
}

/// Drops cases that no request reaches, because one before them asks nothing more than they do.
pub(super) fn reachable(cases: Cases) -> Cases {
    let mut kept: Cases = Vec::new();
    for (when, outcome) in cases {
        if !kept.iter().any(|(earlier, _)| earlier.and(&when).is_ok_and(|both| both.as_ref() == Some(&when))) {
            kept.push((when, outcome));
        }
    }
    kept
}

/// Whether a case refuses clients for their address alone.
pub(super) fn is_refusal_by_address((when, outcome): &(Match, Outcome)) -> bool {
    !when.sources.is_empty() && outcome.answer.as_ref().is_some_and(Answer::refuses)
}

/// Turns refusals of clients by their address into restrictions of the other cases: a route does not ask for addresses, a
/// plugin of it does. An error where something else than a refusal depends on them.
pub(super) fn restrict(cases: Cases) -> Result<Cases, Unfit> {
    let mut refusals: Vec<(usize, Match, Sources, Vec<Span>)> = Vec::new();
    for (index, (when, outcome)) in cases.iter().enumerate().filter(|(_, case)| is_refusal_by_address(case)) {
        let [sources] = when.sources.as_slice() else {
            return Err("several conditions on the client's address at once".to_owned());
        };
        // Who is refused inside must be outside, and the other way round.
        let allowed = Sources { inside: !sources.inside, ranges: sources.ranges.clone() };
        refusals.push((index, Match { sources: Vec::new(), ..when.clone() }, allowed, outcome.spans.clone()));
    }
    let mut restricted = Cases::new();
    for (index, (when, outcome)) in cases.into_iter().enumerate() {
        if refusals.iter().any(|(refusal, ..)| *refusal == index) {
            continue;
        }
        let mut sources = when.sources.clone();
        let open = Match { sources: Vec::new(), ..when };
        // The narrower goes before the wider, each with what restricts it.
        let mut variants = vec![(open, outcome)];
        for (refusal, asked, allowed, spans) in &refusals {
            let is_its_rest = sources.contains(allowed);
            if *refusal > index && !is_its_rest {
                continue;
            }
            let mut next = Vec::new();
            for (when, outcome) in variants {
                let Some(both) = asked.and(&when)? else {
                    next.push((when, outcome));
                    continue;
                };
                let mut with = outcome.clone();
                with.sources.push(allowed.clone());
                with.spans.extend(spans);
                if both == when {
                    next.push((when, with));
                } else if is_its_rest {
                    return Err(DEPENDS.to_owned());
                } else {
                    next.extend([(both, with), (when, outcome)]);
                }
            }
            variants = next;
            sources.retain(|source| source != allowed);
        }
        if !sources.is_empty() {
            return Err(DEPENDS.to_owned());
        }
        restricted.extend(variants);
        if restricted.len() > MAX_CASES {
            return Err(format!("more than {MAX_CASES} cases"));
        }
    }
    Ok(restricted)
}

const DEPENDS: &str = "what happens to a request depends on the client's address: only refusals can";

#[cfg(test)]
mod tests {
    use super::super::matching::{PathKind, PathTest};
    use super::*;
    use crate::settings::Cidr;

    fn change(kind: Kind, name: &str, value: &str) -> Change {
        Change { kind, name: name.into(), value: value.into() }
    }

    #[test]
    fn changes_of_one_name_are_summed_up_in_their_order() {
        use Kind::{Add, Insert, Remove, Set};
        let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        for (changes, expected) in [
            (
                vec![change(Remove, "A", ""), change(Insert, "a", "1")],
                Fields { remove: vec!["A".into()], append: pairs(&[("A", "1")]), ..Fields::default() },
            ),
            (
                vec![change(Insert, "A", "1"), change(Remove, "A", "")],
                Fields { remove: vec!["A".into()], ..Fields::default() },
            ),
            (
                vec![change(Set, "A", "1"), change(Set, "A", "2"), change(Insert, "B", "3")],
                Fields { set: pairs(&[("A", "2")]), append: pairs(&[("B", "3")]), ..Fields::default() },
            ),
            (
                vec![change(Insert, "A", "1"), change(Set, "A", "2")],
                Fields { append: pairs(&[("A", "2")]), ..Fields::default() },
            ),
            (
                vec![change(Add, "A", "1"), change(Add, "A", "2")],
                Fields { add: pairs(&[("A", "1")]), ..Fields::default() },
            ),
        ] {
            assert_eq!(fields(&changes), expected);
        }
    }

    #[test]
    fn refusals_by_address_restrict_what_stands_behind_them() {
        let admin = PathTest::new(PathKind::StartsWith, "/admin", false).unwrap();
        let sources = vec![Sources { inside: false, ranges: vec![Cidr::parse("192.0.2.0/24").unwrap()] }];
        let refused = Answer::Fixed { status: 403, body: None, fields: Vec::new() };
        let case = |answer| {
            let when = Match { paths: Some(vec![admin.clone()]), sources: sources.clone(), ..Match::default() };
            vec![(when, Outcome { answer, ..Outcome::default() }), (Match::default(), Outcome::default())]
        };
        let cases = restrict(case(Some(refused))).unwrap();
        let shape: Vec<_> = cases.iter().map(|(when, then)| (when.paths.is_some(), then.sources.len())).collect();
        assert_eq!(shape, [(true, 1), (false, 0)]);
        assert!(cases[0].1.sources[0].inside && cases.iter().all(|(when, _)| when.sources.is_empty()));
        assert!(restrict(case(None)).is_err());
        // The same said the other way round: who is inside goes on, who is not is refused.
        let inside = Match { sources: cases[0].1.sources.clone(), ..Match::default() };
        let outside = Match { sources, ..Match::default() };
        let refused = Outcome {
            answer: Some(Answer::Fixed { status: 403, body: None, fields: Vec::new() }),
            ..Outcome::default()
        };
        let cases = restrict(vec![(inside, Outcome::default()), (outside, refused)]).unwrap();
        assert!(cases.len() == 1 && cases[0].0.is_any() && cases[0].1.sources[0].inside);
    }
}
