//! What happens to a request: where it goes, what its fields become, or how it is answered; and lists of cases, of which
//! the first that matches counts.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::accepted;
use super::change::Change;
use super::gaps;
use super::ledger::Span;
use super::matching::{Match, Sources, Unfit};
use super::shape::{Shape, Table};
use super::text::{Part, Side, Text};
use crate::plugin::request_termination;

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
    /// What else http-profile does to it: the host that the service sees, and what becomes of forwarding fields.
    pub(super) shape: Shape,
    /// The path the service sees.
    pub(super) path: Option<String>,
    /// The answer that it gets at once.
    pub(super) answer: Option<Answer>,
    /// No more is to be done by the rules.
    pub(super) ended: bool,
    /// What variables hold.
    pub(super) variables: BTreeMap<String, Text>,
    /// Fields of the request that are others by now, in lower case.
    pub(super) changed: BTreeSet<String>,
    /// Those that are left, where the others were taken out.
    pub(super) left: Option<BTreeSet<String>>,
    /// Where clients must be.
    pub(super) sources: Vec<Sources>,
    /// The lines that decided.
    pub(super) spans: Vec<Span>,
}

impl Outcome {
    /// Tells that a field is another from here on. The edge reads what a variable holds where that is used, so that one
    /// which holds the field as it was is no longer known.
    pub(super) fn change(&mut self, side: Side, name: &str) -> Result<(), Unfit> {
        let field = Part::field(side, name);
        for text in self.variables.values_mut().filter(|text| text.reads(&field)) {
            *text = Text::of(Part::Other(gaps::ANOTHER.to_owned()));
        }
        if let Part::Header(name) = field {
            // The plugin makes the host once its rules are done.
            let host = self.shape.value(Table::Request, "host").and_then(Value::as_str);
            if host.is_some_and(|host| host.contains(&format!("headers[\"{name}\"]"))) {
                return Err("a field that the host is made of: it would be another by then".to_owned());
            }
            self.changed.insert(name);
        }
        Ok(())
    }

    /// Whether a route can ask this of the request as it came.
    pub(super) fn is_asked_in_time(&self, when: &Match) -> Result<(), Unfit> {
        match when.headers.keys().any(|name| self.changed.contains(name)) {
            true => Err(gaps::ANOTHER.to_owned()),
            false => Ok(()),
        }
    }
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
        /// Its body and the media type of that.
        body: Option<(String, String)>,
        /// Its fields, `Location` among them.
        fields: Vec<Change>,
    },
}

impl Answer {
    /// An answer that request-termination gives, with fields that http-profile adds.
    pub(super) fn fixed(status: u16, body: Option<(String, String)>, fields: Vec<Change>) -> Result<Self, Unfit> {
        accepted::plugin(request_termination::NAME, &termination(status, body.as_ref()))?;
        Ok(Self::Fixed { status, body, fields })
    }

    /// One without anything but the edge's own words.
    pub(super) const fn bare(status: u16) -> Self {
        Self::Fixed { status, body: None, fields: Vec::new() }
    }

    /// Whether it turns the client away.
    pub(super) fn refuses(&self) -> bool {
        matches!(self, Self::Fixed { status, .. } if *status >= 400)
    }
}

/// An answer as settings of request-termination.
pub(super) fn termination(status: u16, body: Option<&(String, String)>) -> Value {
    let mut config = json!({"status_code": status});
    if let Some((body, of_type)) = body {
        config["body"] = body.as_str().into();
        config["content_type"] = of_type.as_str().into();
    }
    config
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
    use super::super::paths::{PathKind, PathTest};
    use super::*;
    use crate::settings::Cidr;

    #[test]
    fn refusals_by_address_restrict_what_stands_behind_them() {
        let admin = PathTest::new(PathKind::StartsWith, "/admin", false).unwrap();
        let sources = vec![Sources { inside: false, ranges: vec![Cidr::parse("192.0.2.0/24").unwrap()] }];
        let refused = Answer::bare(403);
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
        let refused = Outcome { answer: Some(Answer::bare(403)), ..Outcome::default() };
        let cases = restrict(vec![(inside, Outcome::default()), (outside, refused)]).unwrap();
        assert!(cases.len() == 1 && cases[0].0.is_any() && cases[0].1.sources[0].inside);
    }
}
