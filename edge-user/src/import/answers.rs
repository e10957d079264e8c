//! What commands of iRules do to answers beside their fields: cookies that members set, lists of fields that pass, redirects
//! into clear text, and answers in place of those of members.

use serde_json::{Value, json};

use super::actions;
use super::gaps;
use super::guarded;
use super::http::{FALLBACK, SEALED};
use super::matching::{Match, Unfit};
use super::outcome::{Cases, Outcome};
use super::rule::{Branches, Rules};
use super::shape::Table;
use super::tcl::{self, Command, Piece};
use super::text::Text;

/// Attributes of a cookie; nothing where the command is another one. `each` is the variable that stands for all cookies.
pub(super) fn cookie(
    rules: &mut Rules<'_>,
    command: &Command,
    each: Option<&str>,
) -> Result<Option<&'static str>, Unfit> {
    let constant = |rules: &Rules<'_>, index: usize| -> Result<String, Unfit> {
        let word = command.words.get(index).ok_or("`HTTP::cookie` without its arguments")?;
        let text = rules.scope(&Default::default()).text(word)?.constant();
        text.ok_or_else(|| "a cookie whose name or value depends on the request".to_owned())
    };
    let name = match each {
        Some(variable)
            if [format!("${variable}"), format!("${{{variable}}}")].iter().any(|text| text == command.word(2)) =>
        {
            "*".to_owned()
        }
        _ => constant(rules, 2)?,
    };
    let is_on = |word: &str| match word {
        "enable" => Ok(true),
        "disable" => Ok(false),
        _ => Err("neither `enable` nor `disable`".to_owned()),
    };
    let (key, value): (&str, Value) = match (command.word(1), rules.in_response, command.words.len()) {
        ("secure", true, 4) => ("secure", is_on(command.word(3))?.into()),
        ("httponly", true, 4) => ("http_only", is_on(command.word(3))?.into()),
        (key @ ("domain" | "path"), true, 4) => (key, constant(rules, 3)?.into()),
        ("attribute", true, 6) if command.word(4).eq_ignore_ascii_case("samesite") && command.word(3) != "remove" => {
            ("same_site", constant(rules, 5)?.to_lowercase().into())
        }
        ("encrypt", true, 4..) | ("decrypt", false, 4..) => ("encrypt", true.into()),
        _ => return Err(gaps::COOKIES.to_owned()),
    };
    rules.shape.cookie(&name, key, value)?;
    Ok((key == "encrypt").then_some(SEALED))
}

/// `foreach c [HTTP::cookie names] {HTTP::cookie secure $c enable}`
pub(super) fn all_cookies(rules: &mut Rules<'_>, command: &Command) -> Result<(), Unfit> {
    let [_, variable, list, body] = command.words.as_slice() else { return Err(gaps::command("foreach")) };
    if list.text != "[HTTP::cookie names]" {
        return Err(gaps::command("foreach"));
    }
    let commands = tcl::parse(&body.text, body.line).map_err(|error| error.to_string())?;
    let before = rules.shape.clone();
    for command in &commands {
        let done = match command.word(0) {
            "HTTP::cookie" => cookie(rules, command, Some(&variable.text)).map(drop),
            name => Err(gaps::command(name)),
        };
        if let Err(why) = done {
            rules.shape = before;
            return Err(why);
        }
    }
    Ok(())
}

/// `HTTP::header sanitize`: what is different, or why not.
pub(super) fn sanitize(rules: &mut Rules<'_>, command: &Command, cases: &mut Cases) -> Result<&'static str, Unfit> {
    let names = |rules: &Rules<'_>, outcome: &Outcome| -> Result<Value, Unfit> {
        let scope = rules.scope(outcome);
        let name = |word: &tcl::Word| {
            scope.text(word)?.constant().ok_or_else(|| "a field whose name depends on the request".to_owned())
        };
        let names = command.words[2..].iter().map(name).collect::<Result<Vec<String>, Unfit>>()?;
        Ok(names.iter().flat_map(|names| names.split_whitespace()).map(str::to_lowercase).collect())
    };
    if rules.in_response {
        let names = names(rules, &Outcome::default())?;
        let names = left_of(rules.shape.value(Table::Response, "allow"), names);
        rules.shape.set(Table::Response, "allow", names)?;
        return Ok("Location, Date, WWW-Authenticate and Retry-After pass as well, and so does what rules insert");
    }
    for (_, outcome) in cases.iter_mut().filter(|(_, outcome)| !outcome.ended) {
        let names = left_of(outcome.shape.value(Table::Request, "allow"), names(rules, outcome)?);
        outcome.shape.set(Table::Request, "allow", names)?;
    }
    Ok("Authorization, DPoP, Host and the fields of the way pass as well, and so does what rules insert")
}

/// What a second list leaves of a first one.
fn left_of(before: Option<&Value>, names: Value) -> Value {
    match (before, names) {
        (Some(Value::Array(before)), Value::Array(names)) => {
            let is_left = |name: &Value| {
                let is_it = |one: &Value| {
                    one.as_str().zip(name.as_str()).is_some_and(|(one, name)| one.eq_ignore_ascii_case(name))
                };
                before.iter().any(is_it)
            };
            names.into_iter().filter(is_left).collect()
        }
        (_, names) => names,
    }
}

/// `HTTP::header replace Location [string map {http:// https://} [HTTP::header Location]]`
pub(super) fn secures_location(command: &Command) -> bool {
    let ["HTTP::header", "replace", name, _] = command.words.iter().map(|word| &*word.text).collect::<Vec<_>>()[..]
    else {
        return false;
    };
    let is_location = |name: &str| name.trim_matches('"').eq_ignore_ascii_case("location");
    let single = |word: &tcl::Word| match tcl::pieces(word).ok()?.as_slice() {
        [Piece::Command(command)] => Some(command.clone()),
        _ => None,
    };
    let Some(map) = single(&command.words[3]) else { return false };
    let ["string", "map", ..] = [map.word(0), map.word(1)] else { return false };
    let pairs = map.words.get(2).and_then(|word| tcl::list(&word.text, word.line).ok()).unwrap_or_default();
    let pairs: Vec<&str> = pairs.iter().map(|word| word.text.as_str()).collect();
    let of = map.words.get(3).and_then(single);
    let is_of_location = of
        .is_some_and(|of| of.word(0) == "HTTP::header" && of.words.last().is_some_and(|word| is_location(&word.text)));
    is_location(name) && is_of_location && matches!(pairs[..], ["http://", "https://"] | ["http:", "https:"])
}

/// What of the rewriting of redirects is different.
pub(super) const SECURED: &str =
    "redirects in clear text become https for clients that use TLS, and their port 80 goes";

/// An `if` whose body answers in place of a member, or turns its redirect to https: what is different. Nothing where it
/// does something else.
pub(super) fn conditional(
    rules: &mut Rules<'_>,
    branches: &Branches,
    bodies: &[Vec<Command>],
    cases: &Cases,
) -> Result<Option<&'static str>, Unfit> {
    let [body] = bodies else { return Ok(None) };
    let [command] = body.as_slice() else { return Ok(None) };
    let is_answer = matches!(command.word(0), "HTTP::respond" | "HTTP::redirect");
    if !is_answer && !secures_location(command) {
        return Ok(None);
    }
    let (mut all, mut notes) = (Vec::new(), Vec::new());
    for (_, outcome) in cases.iter().filter(|(_, outcome)| !outcome.ended) {
        let chain = guarded::chain(rules, branches, outcome, &mut notes)?;
        let asked = match chain.as_slice() {
            [(when, Some(_)), (_, None)] => when,
            _ => return Err("an answer in place of a member's, for more than a status".to_owned()),
        };
        let others = Match { statuses: None, headers: Default::default(), ..asked.clone() };
        if !is_answer {
            // Redirects alone have it.
            if !others.is_any() || !asked.headers.keys().all(|name| name == "location") {
                return Err("`Location` under a condition that is not of redirects".to_owned());
            }
            all.push(Value::Null);
            continue;
        }
        let statuses = asked.statuses.as_ref().filter(|_| others.is_any() && asked.headers.is_empty());
        let statuses = statuses.ok_or("an answer in place of a member's, for more than a status")?;
        let mut fallback = instead(rules, command, outcome, &mut notes)?;
        fallback["statuses"] = json!(statuses);
        all.push(fallback);
    }
    let Some(first) = all.pop() else { return Ok(None) };
    if all.iter().any(|other| *other != first) {
        return Err("an answer in place of a member's that depends on what the request was".to_owned());
    }
    let note = if is_answer { FALLBACK } else { SECURED };
    if !is_answer {
        rules.shape.set(Table::Response, "location", "all")?;
    } else if rules.shape.value(Table::Response, "fallback").is_some() {
        return Err("a second answer in place of members': there is one (`fallback`)".to_owned());
    } else {
        rules.shape.set(Table::Response, "fallback", first)?;
    }
    for (line, note) in notes {
        rules.ledger.changed(rules.span(line, line), note);
    }
    Ok(Some(note))
}

fn instead(
    rules: &Rules<'_>,
    command: &Command,
    outcome: &Outcome,
    notes: &mut Vec<(u32, String)>,
) -> Result<Value, Unfit> {
    if command.word(0) == "HTTP::redirect" {
        let scope = rules.scope(outcome);
        let url = command.words.get(1).map_or(Ok(Text::default()), |word| scope.text(word))?;
        return Ok(json!({"redirect": url.constant().ok_or("a redirect to parts of the request")?}));
    }
    let mut more = Vec::new();
    let said = actions::said(rules, &command.words[1..], outcome, &mut more)?;
    notes.extend(more.into_iter().map(|note| (command.first, note)));
    if !said.fields.is_empty() || said.location.is_some() {
        return Err("fields of an answer in place of a member's".to_owned());
    }
    let mut page = json!({"status": said.status, "body": said.body.unwrap_or_default()});
    if let Some(of_type) = said.of_type {
        page["content_type"] = of_type.into();
    }
    Ok(json!({"page": page}))
}
