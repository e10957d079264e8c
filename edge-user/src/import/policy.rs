//! Local traffic policies → cases: rules with conditions and actions, in their order.

use super::actions::{self, REJECTED};
use super::atoms::{Operator, atom};
use super::bigip::Node;
use super::decisions::exists;
use super::gaps;
use super::ledger::{Bin, Ledger, Span};
use super::matching::{Match, Unfit};
use super::model::{Model, Object};
use super::outcome::{Cases, Change, Kind, MAX_CASES, Outcome};
use super::text::{Part, Text};
use crate::http::head::is_field_name;

/// What one policy says.
#[derive(Default)]
pub(super) struct Policy {
    /// What becomes of requests; the last case is every other request.
    pub(super) cases: Cases,
    /// What answers' fields become, whatever the request was.
    pub(super) response: Vec<Change>,
}

/// Translates a policy.
pub(super) fn translate(policy: &Object, model: &Model, ledger: &Ledger) -> Policy {
    policy.mark();
    let mut translated = Policy::default();
    let is_all = strategy(policy, ledger);
    let mut rules: Vec<&Node> = policy.node.child("rules").into_iter().flat_map(Node::children).collect();
    rules.sort_by_key(|rule| rule.value("ordinal").and_then(|(text, _)| text.parse::<u32>().ok()).unwrap_or(0));
    if is_all && rules.len() > 1 {
        ledger.dropped(policy.node.span, "the strategy all-match: rules that add up are written one behind the other in iRules or first-match policies");
        translated.cases = vec![(Match::default(), Outcome::default())];
        return translated;
    }
    for rule in rules {
        match one(rule, policy, model, ledger) {
            Ok(Rule { when, outcome, response }) => {
                if !response.is_empty() && !when.is_any() {
                    ledger.dropped(rule.span, gaps::profile("a condition on an answer's fields"));
                    continue;
                }
                translated.response.extend(response);
                translated.cases.push((when, outcome));
            }
            Err((span, why)) => {
                let text = format!("{rule:?}");
                match ["reset", "drop"].iter().any(|word| text.contains(word)) {
                    true => ledger.opened(rule.span, why),
                    false => ledger.dropped(if span == rule.span { span } else { rule.span }, why),
                }
            }
        }
        if translated.cases.len() > MAX_CASES {
            ledger.dropped(rule.span, format!("more than {MAX_CASES} cases"));
            break;
        }
    }
    translated.cases.push((Match::default(), Outcome::default()));
    translated
}

fn strategy(policy: &Object, ledger: &Ledger) -> bool {
    for node in policy.node.children() {
        match node.word(0) {
            "strategy" => match node.word(1).rsplit('/').next() {
                Some("first-match") => ledger.translated(node.span),
                Some("best-match") => ledger.changed(node.span, "the first rule that fits counts, in their order"),
                Some("all-match") => {
                    ledger.translated(node.span);
                    return true;
                }
                _ => ledger.changed(node.span, "a strategy of one's own: the first rule that fits counts"),
            },
            "rules" => ledger.translated(Span { last: node.span.first, ..node.span }),
            _ => ledger.translated(node.span),
        }
    }
    false
}

struct Rule {
    when: Match,
    outcome: Outcome,
    response: Vec<Change>,
}

fn one(rule: &Node, policy: &Object, model: &Model, ledger: &Ledger) -> Result<Rule, (Span, Unfit)> {
    let mut when = Match::default();
    for condition in rule.child("conditions").into_iter().flat_map(Node::children) {
        let mut notes = Vec::new();
        let found = asked(condition, &mut notes).map_err(|why| (condition.span, why))?;
        when = when
            .and(&found)
            .map_err(|why| (condition.span, why))?
            .ok_or((condition.span, "conditions that no request fulfils".to_owned()))?;
        match notes.is_empty() {
            true => ledger.translated(condition.span),
            false => notes.into_iter().for_each(|note| ledger.changed(condition.span, note)),
        }
    }
    let mut found =
        Rule { when, outcome: Outcome { spans: vec![rule.span.head()], ..Outcome::default() }, response: Vec::new() };
    for action in rule.child("actions").into_iter().flat_map(Node::children) {
        let mut notes = Vec::new();
        match acted(action, policy, model, &mut found, &mut notes) {
            Ok(()) if notes.is_empty() => ledger.translated(action.span),
            Ok(()) => notes.into_iter().for_each(|note| ledger.changed(action.span, note)),
            Err(why) => ledger.dropped(action.span, why),
        }
    }
    for node in rule.children().iter().filter(|node| matches!(node.word(0), "ordinal" | "description")) {
        ledger.translated(node.span);
    }
    ledger.rest(rule.span.head(), Bin::Translated, "");
    Ok(found)
}

/// The words of a condition or action in any order, and the values of those that have one.
fn words(node: &Node) -> Vec<&str> {
    node.children().iter().map(|child| child.word(0)).collect()
}

fn asked(condition: &Node, notes: &mut Vec<String>) -> Result<Match, Unfit> {
    let words = words(condition);
    let has = |word: &str| words.contains(&word);
    if has("not") {
        return Err(
            "a condition with `not`: no route asks what a request is not; put the opposite in a rule before it"
                .to_owned(),
        );
    }
    if has("response") || has("ssl-server-hello") || has("client-accepted") && !has("tcp") {
        return Err("a condition of another event than the request".to_owned());
    }
    let values: Vec<String> = condition
        .child("values")
        .into_iter()
        .flat_map(|node| node.names().map(|(name, _)| name.to_owned()).collect::<Vec<_>>())
        .collect();
    let name = condition.value("name").map(|(name, _)| name);
    let subject = match () {
        () if has("http-host") => Part::Host,
        () if has("http-uri") && (has("query-string") || has("query-parameter")) => Part::Query,
        () if has("http-uri") && (has("path") || has("path-segment")) && !has("path-segment") => Part::Path,
        () if has("http-uri") && has("path-segment") => return Err("a segment of the path by its number".to_owned()),
        () if has("http-uri") => Part::Uri,
        () if has("http-method") => Part::Method,
        () if has("http-header") => match name {
            Some(name) if name.eq_ignore_ascii_case("host") => Part::Host,
            Some(name) => Part::Header(name.to_ascii_lowercase()),
            None => return Err("a condition on a field without its name".to_owned()),
        },
        () if has("http-cookie") => return Err(gaps::profile("cookies of a request or answer")),
        () if has("tcp") => Part::Client,
        () => return Err(format!("a condition on {}", words.first().unwrap_or(&"nothing"))),
    };
    let operator = match () {
        () if has("exists") => match &subject {
            Part::Header(name) if is_field_name(name.as_bytes()) => return Ok(exists(name)),
            Part::Header(name) => return Err(format!("{name:?} is no name of a field")),
            _ => return Ok(Match::default()),
        },
        () if has("starts-with") => Operator::StartsWith,
        () if has("ends-with") => Operator::EndsWith,
        () if has("contains") => Operator::Contains,
        () if ["less", "greater", "less-or-equal", "greater-or-equal"].into_iter().any(has) => {
            return Err("a comparison of numbers".to_owned());
        }
        () => Operator::Equals,
    };
    if condition.child("datagroup").is_some() {
        return Err("a data group in a policy: write its keys as values".to_owned());
    }
    if values.is_empty() {
        return Err("a condition without values".to_owned());
    }
    let any_case = !has("case-sensitive") && matches!(subject, Part::Path | Part::Uri);
    let values = if any_case { values.iter().map(|value| value.to_lowercase()).collect() } else { values };
    atom(&Text { parts: vec![subject], lower: any_case || has("case-insensitive") }, operator, &values, notes)
}

fn acted(action: &Node, policy: &Object, model: &Model, rule: &mut Rule, notes: &mut Vec<String>) -> Result<(), Unfit> {
    let words = words(action);
    let has = |word: &str| words.contains(&word);
    let value = |key: &str| -> Result<Text, Unfit> {
        let (text, _) = action.value(key).ok_or_else(|| format!("an action without its `{key}`"))?;
        match text.starts_with("tcl:") || text.contains('[') {
            true => expression(text.trim_start_matches("tcl:")),
            false => Ok(Text::plain(text)),
        }
    };
    let in_response = has("response");
    match () {
        () if has("forward") && action.child("pool").is_some() => {
            let name = action.value("pool").map_or("", |(name, _)| name);
            let pool = model
                .find("ltm pool", name, policy.folder())
                .ok_or_else(|| format!("the pool {name:?} is in none of the files"))?;
            rule.outcome.pool = Some(pool.name.clone());
        }
        () if has("forward") && (has("reset") || has("reject")) || has("shutdown") || has("drop") => {
            notes.push(REJECTED.to_owned());
            rule.outcome.answer = Some(actions::rejection());
        }
        () if has("forward") => return Err("it forwards to something else than a pool".to_owned()),
        () if has("http-reply") || has("redirect") => {
            let status = action.value("code").and_then(|(code, _)| code.parse().ok()).unwrap_or(302);
            rule.outcome.answer = Some(actions::redirect(&value("location")?, status)?);
        }
        () if has("http-host") => rule.outcome.host = Some(actions::host(&value("value")?)?),
        () if has("http-uri") => {
            let key = if action.child("path").is_some() { "path" } else { "value" };
            if key == "value" {
                notes.push("the path alone is replaced: the request's query stays".to_owned());
            }
            rule.outcome.path = Some(actions::path(&value(key)?)?);
        }
        () if has("http-header") => {
            let kind = match () {
                () if has("insert") => Kind::Insert,
                () if has("replace") => Kind::Set,
                () if has("remove") => Kind::Remove,
                () => return Err("an action on a field that the importer does not know".to_owned()),
            };
            let name = value("name")?.constant().ok_or("a field whose name depends on the request")?;
            let text = if kind == Kind::Remove { Text::default() } else { value("value")? };
            if name.eq_ignore_ascii_case("host") && !in_response {
                rule.outcome.host = Some(actions::host(&text)?);
                return Ok(());
            }
            match actions::change(kind, &name, &text, in_response)? {
                Ok(change) if in_response => rule.response.push(change),
                Ok(change) => rule.outcome.request.push(change),
                Err(note) => notes.push(note),
            }
        }
        () if has("http-cookie") || has("http-set-cookie") || has("http-referer") => {
            return Err(gaps::profile("cookies of a request or answer"));
        }
        () if has("log") => return Err("`log`: the access log has a line for each request".to_owned()),
        () => return Err(format!("the action {}", words.first().unwrap_or(&"nothing"))),
    }
    Ok(())
}

/// The Tcl of an action: one text with brackets.
fn expression(text: &str) -> Result<Text, Unfit> {
    let word = super::tcl::Word { kind: super::tcl::Kind::Quoted, text: text.to_owned(), line: 1 };
    let (model, nothing) = (Model::default(), Default::default());
    let scope =
        super::expr::Scope { model: &model, folder: "", variables: &nothing, statics: &nothing, notes: Vec::new() };
    scope.text(&word)
}
