//! What the commands of iRules do to a request or an answer, as far as plugins and routes of the edge can do it.

use super::decisions::Decisions;
use super::expr::operator;
use super::gaps;
use super::matching::Unfit;
use super::outcome::{Answer, Cases, Change, Kind, Outcome};
use super::rule::Rules;
use super::tcl::{Command, Word};
use super::text::{Part, Text};
use crate::http::head::{is_field_name, is_field_value};
use crate::plugin::fields::{is_header_name, is_of_forwarding, is_of_hop};
use crate::router::{HostPattern, is_normalized};

/// What the F5 sends where it rejects, and the edge cannot.
pub(super) const REJECTED: &str = "the F5 resets the connection; the edge answers 403";

/// What a rejection becomes.
pub(super) fn rejection() -> Answer {
    Answer::Fixed { status: 403, body: None, fields: Vec::new() }
}

/// Whether a plugin may write a field. `Err(Some(note))`: the edge writes it itself; `Err(None)`: nobody does.
pub(super) fn may_change(name: &str, in_response: bool) -> Result<(), Option<String>> {
    let is_name = if in_response { is_field_name(name.as_bytes()) } else { is_header_name(name) };
    match () {
        () if !is_name || is_of_hop(name) => Err(None),
        () if !in_response && is_of_forwarding(name) => Err(Some(format!(
            "the edge writes {name} itself, for every request; it takes a client's only from `proxy.trusted_ips`"
        ))),
        () => Ok(()),
    }
}

/// A change of a field; a note in its place where the edge writes the field itself.
pub(super) fn change(kind: Kind, name: &str, value: &Text, in_response: bool) -> Result<Result<Change, String>, Unfit> {
    match may_change(name, in_response) {
        Ok(()) => {}
        Err(Some(note)) => return Ok(Err(note)),
        Err(None) => {
            return Err(format!("{name:?}: a field of framing or hop, which the edge writes itself, or no name"));
        }
    }
    let value = match (kind, in_response) {
        (Kind::Remove, _) => String::new(),
        (_, true) => value.constant().ok_or_else(|| gaps::profile("a part of the request in an answer's field"))?,
        (_, false) => value.template()?,
    };
    let value = value.trim().to_owned();
    if kind != Kind::Remove && (value.is_empty() || value.starts_with(':') || !is_field_value(value.as_bytes())) {
        return Err(format!("{name}: a value that is empty, begins with a colon or holds control characters"));
    }
    Ok(Ok(Change { kind, name: name.to_owned(), value }))
}

/// A redirect to a text.
pub(super) fn redirect(target: &Text, status: u16) -> Result<Answer, Unfit> {
    if let Some(location) = target.constant() {
        if location.is_empty() || location.starts_with(':') || !is_field_value(location.as_bytes()) {
            return Err("a redirect to nothing that a field can hold".to_owned());
        }
        return Ok(Answer::Fixed { status, body: None, fields: vec![("Location".to_owned(), location)] });
    }
    match target.parts.as_slice() {
        [Part::Text(scheme), Part::Host, Part::Uri]
            if scheme == "https://" && [301, 302, 307, 308].contains(&status) =>
        {
            Ok(Answer::ToHttps { status })
        }
        _ => Err("a redirect to a URL made of parts of the request: no plugin makes one".to_owned()),
    }
}

/// Does one command to every case that goes on.
pub(super) fn take(rules: &mut Rules<'_>, command: &Command, cases: &Cases) -> Result<Cases, Unfit> {
    let span = rules.span(command.first, command.last);
    let mut notes = Vec::new();
    let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
    let mut next = match words.as_slice() {
        ["set", name, _] => {
            let mut cases = cases.clone();
            let mut unknown = None;
            for (_, outcome) in going(&mut cases) {
                let text = rules.scope(&outcome.variables).text(&command.words[2])?;
                if let Some(Part::Other(why)) = text.parts.iter().find(|part| matches!(part, Part::Other(_))) {
                    unknown = Some(why.clone());
                }
                outcome.variables.insert((*name).to_owned(), text);
            }
            match unknown {
                Some(why) => {
                    rules.ledger.dropped(span, why);
                    return Ok(cases);
                }
                None => cases,
            }
        }
        ["log", ..] => return Err("`log`: the access log has a line for each request".to_owned()),
        ["unset", ..] | ["COMPRESS::disable" | "CACHE::disable" | "ASM::disable"] => cases.clone(),
        ["return", ..] | ["event", "disable"] => {
            let mut cases = cases.clone();
            going(&mut cases).for_each(|(_, outcome)| outcome.ended = true);
            cases
        }
        ["HTTP::header", "sanitize", ..] => {
            return Err("`HTTP::header sanitize`: name the fields to remove; no plugin removes all but some, and Authorization would go with them".to_owned());
        }
        ["HTTP::header", operation @ ("insert" | "replace" | "remove"), ..] => {
            header(rules, operation, &command.words[2..], cases, &mut notes)?
        }
        _ if rules.in_response => return Err(in_response(command.word(0))),
        ["pool", _] => return pool(rules, command, cases),
        ["pool", ..] => return Err("a member of a pool by its address: give it to a pool of its own".to_owned()),
        ["HTTP::host", _] => each(rules, cases, &command.words[1], |outcome, text| {
            outcome.host = Some(host(&text)?);
            Ok(())
        })?,
        [which @ ("HTTP::path" | "HTTP::uri"), _] => {
            if *which == "HTTP::uri" {
                notes.push("the path alone is replaced: the request's query stays".to_owned());
            }
            each(rules, cases, &command.words[1], |outcome, text| {
                outcome.path = Some(path(&text)?);
                Ok(())
            })?
        }
        ["HTTP::redirect", _] => each(rules, cases, &command.words[1], |outcome, text| {
            answer(outcome, redirect(&text, 302)?);
            Ok(())
        })?,
        ["HTTP::respond", _, ..] => respond(rules, &command.words[1..], cases, &mut notes)?,
        ["reject" | "drop" | "discard"] => {
            notes.push(REJECTED.to_owned());
            let mut cases = cases.clone();
            going(&mut cases).for_each(|(_, outcome)| answer(outcome, rejection()));
            cases
        }
        _ => return Err(gaps::command(command.word(0))),
    };
    match notes.is_empty() {
        true => rules.ledger.translated(span),
        false => notes.into_iter().for_each(|note| rules.ledger.changed(span, note)),
    }
    let decides = !matches!(command.word(0), "set" | "unset" | "return" | "event" | "HTTP::header");
    // None of these commands makes more cases, or fewer.
    for ((_, outcome), _) in next.iter_mut().zip(cases).filter(|(_, (_, before))| decides && !before.ended) {
        outcome.spans.push(span);
    }
    Ok(next)
}

fn in_response(name: &str) -> String {
    match name {
        "HTTP::respond" | "HTTP::redirect" | "HTTP::retry" => gaps::profile("another answer in place of the service's"),
        _ => gaps::command(name),
    }
}

fn going(cases: &mut Cases) -> impl Iterator<Item = &mut (super::matching::Match, Outcome)> {
    cases.iter_mut().filter(|(_, outcome)| !outcome.ended)
}

/// Does something with the text of a word for each case that goes on.
fn each(
    rules: &Rules<'_>,
    cases: &Cases,
    word: &Word,
    mut with: impl FnMut(&mut Outcome, Text) -> Result<(), Unfit>,
) -> Result<Cases, Unfit> {
    let mut cases = cases.clone();
    for (_, outcome) in going(&mut cases) {
        let text = rules.scope(&outcome.variables).text(word)?;
        with(outcome, text)?;
    }
    Ok(cases)
}

/// The first answer is the one: TMM refuses a second.
fn answer(outcome: &mut Outcome, answer: Answer) {
    outcome.answer = Some(answer);
    outcome.ended = true;
}

/// A host for the service, the same for each request.
pub(super) fn host(text: &Text) -> Result<String, Unfit> {
    let host = text.constant().ok_or("a host made of parts of the request")?;
    match !host.contains('*') && HostPattern::parse(&host).is_some() {
        true => Ok(host),
        false => Err(format!("{host:?} is no host")),
    }
}

/// A path for the service, the same for each request.
pub(super) fn path(text: &Text) -> Result<String, Unfit> {
    let path = text
        .constant()
        .ok_or("a path made of parts of the request: a route's `strip_path` and a service's `path` do most of it")?;
    match is_normalized(&path) && !path.contains("$(") {
        true => Ok(path),
        false => Err(format!("{path:?} is no path in normal form, without query")),
    }
}

fn header(
    rules: &mut Rules<'_>,
    operation: &str,
    words: &[Word],
    cases: &Cases,
    notes: &mut Vec<String>,
) -> Result<Cases, Unfit> {
    let words = match words {
        [first, rest @ ..] if first.text == "lws" => rest,
        all => all,
    };
    let (kind, step) = match operation {
        "insert" => (Kind::Insert, 2),
        "replace" => (Kind::Set, 2),
        _ => (Kind::Remove, 1),
    };
    if words.is_empty() || words.len() % step != 0 {
        return Err(format!("`HTTP::header {operation}` with words that the importer does not know"));
    }
    if kind == Kind::Set {
        notes.push("of several fields of the name the F5 changes the last; one is left here".to_owned());
    }
    let mut cases = cases.clone();
    let mut common: Option<Vec<Change>> = None;
    for (_, outcome) in going(&mut cases) {
        let mut changes = Vec::new();
        for pair in words.chunks(step) {
            let scope = rules.scope(&outcome.variables);
            let name = scope.text(&pair[0])?.constant().ok_or("a field whose name depends on the request")?;
            let name = name.trim().trim_end_matches(':').to_owned();
            let value = match pair.get(1) {
                Some(word) => scope.text(word)?,
                None => Text::default(),
            };
            if name.eq_ignore_ascii_case("host") && !rules.in_response {
                match kind {
                    Kind::Set => outcome.host = Some(host(&value)?),
                    _ => return Err("a request has one Host, which can be replaced alone".to_owned()),
                }
                continue;
            }
            match change(kind, &name, &value, rules.in_response)? {
                Ok(change) => changes.push(change),
                Err(note) => notes.push(note),
            }
        }
        outcome.request.extend(changes.iter().filter(|_| !rules.in_response).cloned());
        common = Some(changes);
    }
    if rules.in_response {
        rules.response.extend(common.unwrap_or_default());
    }
    Ok(cases)
}

fn respond(rules: &Rules<'_>, words: &[Word], cases: &Cases, notes: &mut Vec<String>) -> Result<Cases, Unfit> {
    let mut cases = cases.clone();
    for (_, outcome) in going(&mut cases) {
        let scope = rules.scope(&outcome.variables);
        let constant = |word: &Word| -> Result<String, Unfit> {
            scope.text(word)?.constant().ok_or_else(|| gaps::profile("an answer made of parts of the request"))
        };
        let status: u16 = constant(&words[0])?
            .parse()
            .ok()
            .filter(|status| (200..=599).contains(status))
            .ok_or("no status of an answer")?;
        let (mut body, mut fields, mut location) = (None, Vec::new(), None);
        let mut rest = words[1..].iter();
        while let Some(word) = rest.next() {
            let mut value = || rest.next().ok_or_else(|| "`HTTP::respond` with a name and no value".to_owned());
            match word.text.as_str() {
                "content" => body = Some(constant(value()?)?).filter(|body| !body.is_empty()),
                "noserver" | "-reset" => {}
                "-version" => {
                    value()?;
                }
                "ifile" => return Err("a body that stands in an iFile".to_owned()),
                name if name.eq_ignore_ascii_case("location") => location = Some(scope.text(value()?)?),
                name if name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("connection") => {
                    value()?;
                }
                name => {
                    let name = name.to_owned();
                    fields.push((name, constant(value()?)?));
                }
            }
        }
        for (name, text) in &fields {
            change(Kind::Set, name, &Text::plain(text), true)??;
        }
        let found = match location {
            Some(target) => match redirect(&target, status)? {
                Answer::Fixed { fields: more, .. } => {
                    fields.extend(more);
                    Answer::Fixed { status, body, fields }
                }
                to_https => to_https,
            },
            None => {
                if body.is_none() && matches!(status, 401 | 404 | 405 | 500 | 502 | 503) {
                    notes.push("the answer has the edge's own body, as request-termination writes it".to_owned());
                }
                Answer::Fixed { status, body, fields }
            }
        };
        answer(outcome, found);
    }
    Ok(cases)
}

fn pool(rules: &mut Rules<'_>, command: &Command, cases: &Cases) -> Result<Cases, Unfit> {
    let span = rules.span(command.first, command.last);
    let mut all = Cases::new();
    for (when, outcome) in cases {
        if outcome.ended {
            all.push((when.clone(), outcome.clone()));
            continue;
        }
        let mut scope = rules.scope(&outcome.variables);
        let text = scope.text(&command.words[1])?;
        let choices: Vec<(Decisions, String)> = match (text.constant(), text.parts.as_slice()) {
            (Some(name), _) => vec![(vec![(Default::default(), true)], name)],
            (None, [Part::Lookup(subject, how, group)]) => {
                let (how, _) =
                    operator(how).filter(|(_, is_opposite)| !is_opposite).ok_or("a look-up without an operator")?;
                let mut choices = Vec::new();
                for (key, data) in scope.records(group)? {
                    choices.push((scope.compare(subject, how, &[key])?, data));
                }
                choices
            }
            (None, [Part::Other(why)]) => return Err(why.clone()),
            _ => return Err("a pool whose name depends on the request".to_owned()),
        };
        let notes = std::mem::take(&mut scope.notes);
        notes.into_iter().for_each(|note| rules.ledger.changed(span, note));
        for (decisions, name) in choices {
            let Some(pool) = rules.model.find("ltm pool", &name, &rules.folder) else {
                return Err(format!("the pool {name:?} is in none of the files"));
            };
            for (condition, _) in decisions.into_iter().filter(|(_, is)| *is) {
                let Some(both) = when.and(&condition)? else { continue };
                let mut outcome = outcome.clone();
                outcome.pool = Some(pool.name.clone());
                outcome.spans.push(span);
                all.push((both, outcome));
            }
        }
        // Where no record fits, the pool stays what it was.
        if text.constant().is_none() {
            all.push((when.clone(), outcome.clone()));
        }
    }
    rules.ledger.translated(span);
    Ok(all)
}
