//! What the commands of iRules do to a request or an answer, as far as plugins and routes of the edge can do it.

use super::answers;
use super::change::{Change, Guard, Kind};
use super::decisions::Decisions;
use super::expr::operator;
use super::gaps;
use super::http::FORWARDED;
use super::matching::Unfit;
use super::outcome::{Answer, Cases, Outcome};
use super::rule::Rules;
use super::shape::Table;
use super::tcl::{Command, Word};
use super::text::{Part, Side, Text};
use crate::plugin::fields::is_of_forwarding;
use crate::router::is_normalized;

/// What the F5 sends where it rejects, and the edge cannot.
pub(super) const REJECTED: &str = "the F5 resets the connection; the edge answers 403";

/// What a rejection becomes.
pub(super) const REJECTION: Answer = Answer::bare(403);

/// Why a statement about clients with a certificate is given up.
const OF_CERTIFICATE: &str = "of an event for clients with a certificate there are values of that certificate alone";

/// Why a `log` is given up.
pub(super) const LOG: &str = "`log`: the access log has a line for each request";

/// A change of a field; a note in its place where the edge writes the field itself.
pub(super) fn change(
    side: Side,
    kind: Kind,
    name: &str,
    value: Text,
    guard: &Guard,
) -> Result<Result<Change, String>, Unfit> {
    match Change::new(side, kind, name, value, guard.clone()) {
        Ok(change) => Ok(Ok(change)),
        Err(_) if side == Side::Request && is_of_forwarding(name) => {
            Ok(Err(format!("the edge writes {name} itself, for every request; {FORWARDED}")))
        }
        Err(why) => Err(format!("{}: {why}", name.escape_debug())),
    }
}

/// What a command on a field comes to.
pub(super) enum Field {
    /// A rule of http-profile.
    Change(Box<Change>),
    /// The edge does it otherwise.
    Note(String),
    /// Another host for the service.
    Host(Text),
    /// What becomes of X-Forwarded-For.
    ForwardedFor(&'static str),
}

impl Field {
    /// Of the words of a policy or rule.
    pub(super) fn new(side: Side, kind: Kind, name: &str, value: Text, guard: &Guard) -> Result<Self, Unfit> {
        if side == Side::Request && name.eq_ignore_ascii_case("host") {
            return match kind {
                Kind::Set => Ok(Self::Host(value)),
                _ => Err("a request has one Host, which can be replaced alone".to_owned()),
            };
        }
        if side == Side::Request && name.eq_ignore_ascii_case("x-forwarded-for") {
            match (kind, value.parts.as_slice()) {
                (Kind::Insert, [Part::Client]) => return Ok(Self::ForwardedFor("insert")),
                (Kind::Set, [Part::Client]) => return Ok(Self::ForwardedFor("replace")),
                (Kind::Remove, _) => return Ok(Self::ForwardedFor("off")),
                _ => {}
            }
        }
        Ok(change(side, kind, name, value, guard)?.map_or_else(Self::Note, |change| Self::Change(Box::new(change))))
    }

    /// Does it to a request, or to what is gathered for answers; gives what is different.
    pub(super) fn apply(
        self,
        outcome: &mut Outcome,
        answers: &mut Vec<Change>,
        side: Side,
    ) -> Result<Vec<String>, Unfit> {
        match self {
            Self::Change(change) => {
                let notes = change.notes().map(str::to_owned).collect();
                match side {
                    Side::Request => outcome.request.push(*change),
                    Side::Answer => answers.push(*change),
                }
                Ok(notes)
            }
            Self::Note(note) => Ok(vec![note]),
            Self::Host(text) => host(outcome, &text).map(|()| Vec::new()),
            Self::ForwardedFor(word) => {
                let before = outcome.shape.value(Table::Request, "xforwarded_for").and_then(|word| word.as_str());
                // One that is inserted where none is left is the only one.
                let word = if (before, word) == (Some("off"), "insert") { "replace" } else { word };
                outcome.shape.set(Table::Request, "xforwarded_for", word)?;
                Ok(vec![FORWARDED.to_owned()])
            }
        }
    }
}

/// A redirect to a text.
pub(super) fn redirect(target: &Text, status: u16) -> Result<Answer, Unfit> {
    match target.parts.as_slice() {
        _ if target.constant().is_some_and(|location| !location.is_empty()) => {
            let field = Change::new(Side::Answer, Kind::Set, "Location", target.clone(), Guard::default())?;
            Answer::fixed(status, None, vec![field])
        }
        [Part::Text(scheme), Part::Host, Part::Uri]
            if scheme == "https://" && [301, 302, 307, 308].contains(&status) =>
        {
            Ok(Answer::ToHttps { status })
        }
        [] | [Part::Text(_)] => Err("a redirect to nothing".to_owned()),
        _ => Err("a redirect to a URL made of parts of the request: no plugin makes one".to_owned()),
    }
}

/// Does one command to every case that goes on.
pub(super) fn take(rules: &mut Rules<'_>, command: &Command, cases: &Cases) -> Result<Cases, Unfit> {
    let span = rules.span(command.first, command.last);
    let mut notes = Vec::new();
    let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
    if rules.of_certificate && !matches!(words.as_slice(), ["set", _, _] | ["HTTP::header", "insert", ..] | ["log", ..])
    {
        return Err(OF_CERTIFICATE.to_owned());
    }
    let mut next = match words.as_slice() {
        ["set", name, _] => {
            let mut cases = cases.clone();
            let mut unknown = None;
            for (_, outcome) in going(&mut cases) {
                let mut text = rules.scope(outcome).text(&command.words[2])?;
                if rules.of_certificate && !text.is_of_certificate() {
                    return Err(OF_CERTIFICATE.to_owned());
                }
                if rules.unsure.contains(*name) {
                    text = Text::of(Part::Other("a variable that an event sets as well which is not read".to_owned()));
                }
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
        ["log", ..] => return Err(LOG.to_owned()),
        ["unset", names @ ..] => {
            let mut cases = cases.clone();
            going(&mut cases).for_each(|(_, outcome)| outcome.variables.retain(|name, _| !names.contains(&&**name)));
            cases
        }
        ["COMPRESS::disable" | "CACHE::disable" | "ASM::disable"] => cases.clone(),
        ["return", ..] | ["event", "disable"] => {
            let mut cases = cases.clone();
            going(&mut cases).for_each(|(_, outcome)| outcome.ended = true);
            cases
        }
        ["HTTP::header", "sanitize", ..] => {
            if rules.in_response {
                settles(rules, cases)?;
            }
            let mut cases = cases.clone();
            notes.push(answers::sanitize(rules, command, &mut cases)?.to_owned());
            cases
        }
        ["HTTP::header", "replace", ..] if rules.in_response && answers::secures_location(command) => {
            settles(rules, cases)?;
            rules.shape.set(Table::Response, "location", "all")?;
            notes.push(answers::SECURED.to_owned());
            cases.clone()
        }
        ["HTTP::header", "insert" | "replace" | "remove", ..] => header(rules, command, cases, &mut notes)?,
        ["HTTP::cookie", ..] => {
            settles(rules, cases)?;
            notes.extend(answers::cookie(rules, command, None)?.map(str::to_owned));
            cases.clone()
        }
        ["foreach", ..] if rules.in_response => {
            settles(rules, cases)?;
            answers::all_cookies(rules, command)?;
            cases.clone()
        }
        _ if rules.in_response => return Err(in_response(command.word(0))),
        ["pool", _] => return pool(rules, command, cases),
        ["pool", ..] => return Err("a member of a pool by its address: give it to a pool of its own".to_owned()),
        ["HTTP::host", _] => each(rules, cases, &command.words[1], |outcome, text| host(outcome, &text))?,
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
            going(&mut cases).for_each(|(_, outcome)| answer(outcome, REJECTION));
            cases
        }
        _ => return Err(gaps::command(command.word(0))),
    };
    match notes.is_empty() {
        true => rules.ledger.translated(span),
        false => notes.into_iter().for_each(|note| rules.ledger.changed(span, note)),
    }
    let decides = !matches!(command.word(0), "set" | "unset" | "return" | "event" | "HTTP::header" | "HTTP::cookie");
    // None of these commands makes more cases, or fewer.
    for ((_, outcome), _) in next.iter_mut().zip(cases).filter(|(_, (_, before))| decides && !before.ended) {
        outcome.spans.push(span);
    }
    Ok(next)
}

/// Whether a statement can set what holds for every request: it has to be one of every request.
fn settles(rules: &Rules<'_>, cases: &Cases) -> Result<(), Unfit> {
    let is_passed = cases.iter().any(|(_, outcome)| outcome.ended && outcome.answer.is_none());
    match is_passed || !rules.is_unconditional() {
        true => Err("it would be done to every answer, where some requests alone come to the line".to_owned()),
        false => Ok(()),
    }
}

fn in_response(name: &str) -> String {
    match name {
        "HTTP::respond" | "HTTP::redirect" => "an answer in place of every one of a member's".to_owned(),
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
        let text = rules.scope(outcome).text(word)?;
        with(outcome, text)?;
    }
    Ok(cases)
}

/// The first answer is the one: TMM refuses a second.
fn answer(outcome: &mut Outcome, answer: Answer) {
    outcome.answer = Some(answer);
    outcome.ended = true;
}

/// A host for the service.
pub(super) fn host(outcome: &mut Outcome, text: &Text) -> Result<(), Unfit> {
    outcome.shape.set(Table::Request, "host", text.template(Side::Request)?)
}

/// A path for the service, the same for each request.
pub(super) fn path(text: &Text) -> Result<String, Unfit> {
    let path = text
        .constant()
        .ok_or("a path made of parts of the request: a route's `strip_path` and a service's `path` do most of it")?;
    match is_normalized(&path) {
        true => Ok(path),
        false => Err(format!("{path:?} is no path in normal form, without query")),
    }
}

/// What `HTTP::header insert`, `replace` and `remove` come to for one case, by the names of fields.
pub(super) fn fields(
    rules: &Rules<'_>,
    command: &Command,
    outcome: &Outcome,
    guard: &Guard,
) -> Result<Vec<(String, Field)>, Unfit> {
    let operation = command.word(1);
    let words = match command.words.get(2..).unwrap_or_default() {
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
    let scope = rules.scope(outcome);
    let mut fields: Vec<(String, Field)> = Vec::new();
    for pair in words.chunks(step) {
        let name = scope.text(&pair[0])?.constant().ok_or("a field whose name depends on the request")?;
        let value = pair.get(1).map_or(Ok(Text::default()), |word| scope.text(word))?;
        if rules.of_certificate && !value.is_of_certificate() {
            return Err(OF_CERTIFICATE.to_owned());
        }
        // All values are there on the F5 before the first field is written.
        if fields.iter().any(|(written, _)| value.reads(&Part::field(scope.side, written))) {
            return Err(gaps::ANOTHER.to_owned());
        }
        let name = name.trim().trim_end_matches(':');
        let field = Field::new(scope.side, kind, name, value, guard)?;
        fields.push((name.to_owned(), field));
        if kind == Kind::Set {
            let note = "of several fields of the name the F5 changes the last; one is left here";
            fields.push((name.to_owned(), Field::Note(note.to_owned())));
        }
    }
    Ok(fields)
}

fn header(rules: &mut Rules<'_>, command: &Command, cases: &Cases, notes: &mut Vec<String>) -> Result<Cases, Unfit> {
    let mut cases = cases.clone();
    let mut all = Vec::new();
    let side = rules.scope(&Outcome::default()).side;
    for (_, outcome) in going(&mut cases) {
        let mut of_answer = Vec::new();
        for (name, field) in fields(rules, command, outcome, &Guard::default())? {
            notes.extend(field.apply(outcome, &mut of_answer, side)?);
            outcome.change(side, &name)?;
        }
        all.push(of_answer);
    }
    let of_answer = agreed(all)?;
    rules.response.extend(of_answer);
    Ok(cases)
}

/// The changes of answers that all cases come to.
pub(super) fn agreed(all: impl IntoIterator<Item = Vec<Change>>) -> Result<Vec<Change>, Unfit> {
    let mut all = all.into_iter();
    let first = all.next().unwrap_or_default();
    match all.all(|other| other == first) {
        true => Ok(first),
        false => Err("changes of answers that depend on what the request was".to_owned()),
    }
}

/// What `HTTP::respond` says.
#[derive(Default)]
pub(super) struct Said {
    /// The status.
    pub(super) status: u16,
    /// `content`
    pub(super) body: Option<String>,
    /// `Content-Type`
    pub(super) of_type: Option<String>,
    /// The other fields.
    pub(super) fields: Vec<Change>,
    /// `Location`
    pub(super) location: Option<Text>,
}

/// Reads `HTTP::respond`; `words` are those behind it.
pub(super) fn said(
    rules: &Rules<'_>,
    words: &[Word],
    outcome: &Outcome,
    notes: &mut Vec<String>,
) -> Result<Said, Unfit> {
    let scope = rules.scope(outcome);
    let constant = |word: &Word| -> Result<String, Unfit> {
        scope.text(word)?.constant().ok_or_else(|| "an answer made of parts of the request".to_owned())
    };
    let status = words.first().map_or(Ok(String::new()), constant)?.parse().map_err(|_| "no status of an answer")?;
    let mut said = Said { status, ..Said::default() };
    let mut field = |kind, name: &str, value| match change(Side::Answer, kind, name, value, &Guard::default())? {
        Ok(change) => {
            said.fields.push(change);
            Ok(())
        }
        Err(why) => Err(why),
    };
    let mut rest = words[1..].iter();
    while let Some(word) = rest.next() {
        let mut value = || rest.next().ok_or_else(|| "`HTTP::respond` with a name and no value".to_owned());
        match word.text.as_str() {
            "content" => said.body = Some(constant(value()?)?).filter(|body| !body.is_empty()),
            "noserver" => field(Kind::Remove, "Server", Text::default())?,
            "-reset" => {}
            "-version" => {
                value()?;
            }
            "ifile" => return Err("a body that stands in an iFile".to_owned()),
            name if name.eq_ignore_ascii_case("location") => said.location = Some(scope.text(value()?)?),
            name if name.eq_ignore_ascii_case("content-type") => said.of_type = Some(constant(value()?)?),
            name if name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("connection") => {
                value()?;
            }
            name => field(Kind::Set, name, scope.text(value()?)?)?,
        }
    }
    if said.body.is_none() && matches!(status, 401 | 404 | 405 | 500 | 502 | 503) {
        notes.push("the answer has the edge's own body, as request-termination writes it".to_owned());
    }
    Ok(said)
}

fn respond(rules: &Rules<'_>, words: &[Word], cases: &Cases, notes: &mut Vec<String>) -> Result<Cases, Unfit> {
    let mut cases = cases.clone();
    for (_, outcome) in going(&mut cases) {
        let Said { status, body, of_type, mut fields, location } = said(rules, words, outcome, notes)?;
        let body = body.map(|body| (body, of_type.unwrap_or_else(|| "text/html".to_owned())));
        let found = match location.map(|target| redirect(&target, status)).transpose()? {
            Some(Answer::Fixed { fields: more, .. }) => {
                fields.extend(more);
                Answer::fixed(status, body, fields)?
            }
            Some(to_https) => {
                if body.is_some() || !fields.is_empty() {
                    notes.push("the redirect has the edge's own body, and no other fields than Location".to_owned());
                }
                to_https
            }
            None => Answer::fixed(status, body, fields)?,
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
        let mut scope = rules.scope(outcome);
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
                outcome.is_asked_in_time(&condition)?;
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
