//! `if` and `switch` that only change fields: rules of http-profile with a condition, where no route has to be of its own
//! and, for answers, none could be.

use std::collections::BTreeSet;

use super::actions::{self, Field};
use super::answers;
use super::change::{Change, Guard};
use super::decisions::{Decision, MAX_DECISIONS};
use super::gaps;
use super::matching::{Match, Unfit};
use super::outcome::{Cases, Outcome};
use super::rule::{Branches, Rules};
use super::tcl::{self, Command};
use super::text::Side;

/// What one statement comes to for one case.
#[derive(PartialEq, Default)]
struct Guarded {
    changes: Vec<Change>,
    /// Of the fields that are others behind it.
    names: BTreeSet<String>,
    /// By line.
    notes: Vec<(u32, String)>,
}

/// Does a statement to every case that goes on; an error where it does more than change fields, or asks too much.
pub(super) fn take(rules: &mut Rules<'_>, command: &Command, cases: &Cases) -> Result<Cases, Unfit> {
    let branches = rules.branches(command)?;
    let read = |body: &tcl::Word| tcl::parse(&body.text, body.line).map_err(|error| error.to_string());
    let bodies = branches.iter().map(|(_, body)| body.as_ref().map_or(Ok(Vec::new()), read));
    let bodies: Vec<Vec<Command>> = bodies.collect::<Result<_, _>>()?;
    let span = rules.span(command.first, command.last);
    if let Some(next) = certificate_variables(rules, &branches, &bodies, cases)? {
        rules.ledger.translated(span);
        return Ok(next);
    }
    if rules.in_response
        && let Some((note, others)) = answers::conditional(rules, &branches, &bodies, cases)?
    {
        rules.ledger.changed(span, note);
        others.into_iter().for_each(|(line, note)| rules.ledger.changed(rules.span(line, line), note));
        return Ok(cases.clone());
    }
    let other = bodies.iter().flatten().find(|command| !is_change(command));
    if let Some(command) = other {
        return Err(match rules.in_response {
            true => format!("a condition on an answer, for more than its fields: {}", gaps::command(command.word(0))),
            false => "a condition for more than changes of fields".to_owned(),
        });
    }
    let mut next = cases.clone();
    let mut all: Vec<Guarded> = Vec::new();
    let side = if rules.in_response { Side::Answer } else { Side::Request };
    for (_, outcome) in next.iter_mut().filter(|(_, outcome)| !outcome.ended) {
        let guarded = one(rules, &branches, &bodies, outcome)?;
        outcome.request.extend(guarded.changes.iter().filter(|_| !rules.in_response).cloned());
        guarded.names.iter().try_for_each(|name| outcome.change(side, name))?;
        all.push(guarded);
    }
    if rules.in_response {
        let changes = actions::agreed(all.iter().map(|guarded| guarded.changes.clone()))?;
        rules.response.extend(changes);
    }
    rules.ledger.translated(span);
    for (line, note) in all.into_iter().flat_map(|guarded| guarded.notes) {
        rules.ledger.changed(rules.span(line, line), note);
    }
    for command in bodies.iter().flatten().filter(|command| command.word(0) == "log") {
        rules.ledger.dropped(rules.span(command.first, command.last), actions::LOG);
    }
    Ok(next)
}

fn is_change(command: &Command) -> bool {
    matches!((command.word(0), command.word(1)), ("HTTP::header", "insert" | "replace" | "remove") | ("log", _))
}

fn one(rules: &Rules<'_>, branches: &Branches, bodies: &[Vec<Command>], outcome: &Outcome) -> Result<Guarded, Unfit> {
    let mut guarded = Guarded::default();
    let chain = chain(rules, branches, outcome, &mut guarded.notes)?;
    let side = if rules.in_response { Side::Answer } else { Side::Request };
    let mut written: Vec<String> = Vec::new();
    for (index, (_, body)) in chain.iter().enumerate() {
        let Some(body) = body else { continue };
        let Some(guard) = Guard::nth(&chain, index)? else { continue };
        let mut outcome = outcome.clone();
        for command in bodies[*body].iter().filter(|command| command.word(0) != "log") {
            for (name, field) in actions::fields(rules, command, &outcome, &guard)? {
                outcome.change(side, &name)?;
                guarded.names.insert(name);
                match field {
                    Field::Change(change) => {
                        if written.iter().any(|name| guard.looks_at(name)) {
                            return Err("a condition on a field that is another by then".to_owned());
                        }
                        written.push(change.name().to_owned());
                        guarded.notes.extend(change.notes().map(|note| (command.first, note.to_owned())));
                        guarded.changes.push(*change);
                    }
                    Field::Note(note) => guarded.notes.push((command.first, note)),
                    Field::Host(_) | Field::ForwardedFor(_) => {
                        return Err("Host or X-Forwarded-For under a condition of a rule".to_owned());
                    }
                }
            }
        }
    }
    Ok(guarded)
}

/// Conditions in their order, each with the body that is taken.
pub(super) fn chain(
    rules: &Rules<'_>,
    branches: &Branches,
    outcome: &Outcome,
    notes: &mut Vec<(u32, String)>,
) -> Result<Vec<Decision<Option<usize>>>, Unfit> {
    let mut all = vec![(Match::default(), None)];
    for (index, (question, _)) in branches.iter().enumerate().rev() {
        let (decisions, told, line) = rules.question(question, outcome)?;
        notes.extend(told.into_iter().map(|note| (line, note)));
        let rest = std::mem::take(&mut all);
        for (when, is) in decisions {
            match is {
                true => all.push((when, Some(index))),
                false => {
                    for (other, body) in &rest {
                        all.extend(when.and(other)?.map(|both| (both, *body)));
                    }
                }
            }
        }
        if all.len() > MAX_DECISIONS {
            return Err(format!("conditions of more than {MAX_DECISIONS} cases"));
        }
    }
    // Those that lead to one body and follow each other are one, where one condition can say it.
    let mut merged: Vec<Decision<Option<usize>>> = Vec::with_capacity(all.len());
    for (when, body) in all {
        match merged.last_mut().filter(|(_, last)| *last == body).and_then(|(last, _)| Some((last.or(&when)?, last))) {
            Some((either, last)) => *last = either,
            None => merged.push((when, body)),
        }
    }
    Ok(merged)
}

/// `if {[SSL::cert count] > 0} {set subject [X509::subject [SSL::cert 0]]}`: without a certificate the value is nothing in
/// any case.
fn certificate_variables(
    rules: &Rules<'_>,
    branches: &Branches,
    bodies: &[Vec<Command>],
    cases: &Cases,
) -> Result<Option<Cases>, Unfit> {
    let ([(question, _)], [body]) = (branches.as_slice(), bodies) else { return Ok(None) };
    if body.is_empty() || body.iter().any(|command| command.word(0) != "set" || command.words.len() != 3) {
        return Ok(None);
    }
    let mut cases = cases.clone();
    for (_, outcome) in cases.iter_mut().filter(|(_, outcome)| !outcome.ended) {
        let (decisions, ..) = rules.question(question, outcome)?;
        let shown = Match { certificate: Some(true), ..Match::default() };
        if decisions.first() != Some(&(shown, true)) {
            return Ok(None);
        }
        for command in body {
            let scope = rules.scope(outcome);
            let text = scope.text(&command.words[2])?;
            // What it held before it would hold without a certificate.
            let is_other = scope.known(command.word(1)).is_some_and(|before| *before != text);
            if is_other || !text.is_of_certificate() {
                return Ok(None);
            }
            outcome.variables.insert(command.word(1).to_owned(), text);
        }
    }
    Ok(Some(cases))
}
