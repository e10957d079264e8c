//! What commands of iRules do to answers beside their fields: cookies that members set, lists of fields that pass, redirects
//! into clear text, and answers in place of those of members.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::actions;
use super::gaps;
use super::guarded;
use super::http::{FALLBACK, SEALED};
use super::matching::{Match, Unfit};
use super::outcome::{Cases, Outcome};
use super::rule::{Branches, Rules};
use super::shape::{Shape, Table};
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
        let text = rules.scope(&Outcome::default()).text(word)?.constant();
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
    let names = |rules: &Rules<'_>, outcome: &Outcome| -> Result<BTreeSet<String>, Unfit> {
        let scope = rules.scope(outcome);
        let name = |word: &tcl::Word| {
            scope.text(word)?.constant().ok_or_else(|| "a field whose name depends on the request".to_owned())
        };
        let names = command.words[2..].iter().map(name).collect::<Result<Vec<String>, Unfit>>()?;
        Ok(names.iter().flat_map(|names| names.split_whitespace()).map(str::to_lowercase).collect())
    };
    // What an earlier list or that of the profile took out does not come back.
    let set = |shape: &mut Shape, table, mut names: BTreeSet<String>| {
        if let Some(before) = shape.value(table, "allow").and_then(Value::as_array) {
            let is_left =
                |name: &String| before.iter().filter_map(Value::as_str).any(|left| left.eq_ignore_ascii_case(name));
            names.retain(is_left);
        }
        shape.set(table, "allow", json!(names)).map(|()| Some(names))
    };
    if rules.in_response {
        let names = names(rules, &Outcome::default())?;
        rules.left = set(&mut rules.shape, Table::Response, names)?;
        return Ok("Location, Date, WWW-Authenticate and Retry-After pass as well, and so does what rules insert");
    }
    for (_, outcome) in cases.iter_mut().filter(|(_, outcome)| !outcome.ended) {
        let names = names(rules, outcome)?;
        outcome.left = set(&mut outcome.shape, Table::Request, names)?;
    }
    Ok("Authorization, DPoP, Host and the fields of the way pass as well, and so does what rules insert")
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

/// An `if` whose body answers in place of a member, or turns its redirect to https: what is different, as a whole and by
/// line. Nothing where it does something else.
pub(super) fn conditional(
    rules: &mut Rules<'_>,
    branches: &Branches,
    bodies: &[Vec<Command>],
    cases: &Cases,
) -> Result<Option<Different>, Unfit> {
    let [body] = bodies else { return Ok(None) };
    let [command] = body.as_slice() else { return Ok(None) };
    let is_answer = matches!(command.word(0), "HTTP::respond" | "HTTP::redirect");
    if !is_answer && !secures_location(command) {
        return Ok(None);
    }
    let mut all = Vec::new();
    for (_, outcome) in cases.iter().filter(|(_, outcome)| !outcome.ended) {
        let mut notes = Vec::new();
        let chain = guarded::chain(rules, branches, outcome, &mut notes)?;
        let asked = match chain.as_slice() {
            [(when, Some(_)), (_, None)] => when.clone(),
            _ => return Err("an answer in place of a member's, for more than a status".to_owned()),
        };
        let said = if is_answer { instead(rules, command, outcome, &mut notes)? } else { Value::Null };
        all.push((asked, said, notes));
    }
    let Some((asked, mut fallback, notes)) = all.pop() else { return Ok(None) };
    if all.iter().any(|(when, said, _)| *when != asked || *said != fallback) {
        return Err("an answer in place of a member's that depends on what the request was".to_owned());
    }
    let others = Match { statuses: None, headers: Default::default(), ..asked.clone() };
    let only = |name: &str| asked.headers.keys().all(|known| known == name);
    if !is_answer {
        // Redirects alone have it.
        if !others.is_any() || !only("location") {
            return Err("`Location` under a condition that is not of redirects".to_owned());
        }
        rules.shape.set(Table::Response, "location", "all")?;
        return Ok(Some((SECURED, notes)));
    }
    let statuses = asked.statuses.as_ref().filter(|_| others.is_any() && asked.headers.is_empty());
    let statuses = statuses.ok_or("an answer in place of a member's, for more than a status")?;
    if rules.shape.value(Table::Response, "fallback").is_some() {
        return Err("a second answer in place of members': there is one (`fallback`)".to_owned());
    }
    fallback["statuses"] = json!(statuses);
    rules.shape.set(Table::Response, "fallback", fallback)?;
    Ok(Some((FALLBACK, notes)))
}

/// What is different about all of a statement, and about lines of it.
pub(super) type Different = (&'static str, Vec<(u32, String)>);

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
    let mut told = Vec::new();
    let said = actions::said(rules, &command.words[1..], outcome, &mut told)?;
    notes.extend(told.into_iter().map(|note| (command.first, note)));
    if !said.fields.is_empty() || said.location.is_some() {
        return Err("fields of an answer in place of a member's".to_owned());
    }
    let mut page = json!({"status": said.status, "body": said.body.unwrap_or_default()});
    if let Some(of_type) = said.of_type {
        page["content_type"] = of_type.into();
    }
    Ok(json!({"page": page}))
}
