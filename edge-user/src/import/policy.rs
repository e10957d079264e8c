//! Local traffic policies → cases: rules with conditions and actions, in their order.

use super::accepted;
use super::actions::{self, Field, REJECTED, REJECTION};
use super::atoms::{Operator, atom};
use super::bigip::Node;
use super::change::{Change, Guard, Kind};
use super::decisions::{Decision, exists};
use super::gaps;
use super::ledger::{Bin, Ledger, Span};
use super::matching::{Match, Unfit};
use super::model::{Model, Object};
use super::outcome::{Cases, MAX_CASES, Outcome};
use super::scope::Scope;
use super::text::{Part, Side, Text};

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
    let mut chain: Vec<Decision<()>> = Vec::new();
    for rule in rules {
        match one(rule, &mut chain, policy, model, ledger) {
            Ok(Rule { when, outcome, response }) => {
                translated.response.extend(response);
                // What an answer is like comes too late to decide about its request.
                if when.statuses.is_none() {
                    translated.cases.push((when, outcome));
                }
            }
            Err((span, why)) => match rule.child("actions").into_iter().flat_map(Node::children).any(refuses) {
                true => ledger.opened(rule.span, why),
                false => ledger.dropped(if span == rule.span { span } else { rule.span }, why),
            },
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

/// One rule; `chain` has the conditions of those before it.
fn one(
    rule: &Node,
    chain: &mut Vec<Decision<()>>,
    policy: &Object,
    model: &Model,
    ledger: &Ledger,
) -> Result<Rule, (Span, Unfit)> {
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
    chain.push((when.clone(), ()));
    let mut found =
        Rule { when, outcome: Outcome { spans: vec![rule.span.head()], ..Outcome::default() }, response: Vec::new() };
    for action in rule.child("actions").into_iter().flat_map(Node::children) {
        let mut notes = Vec::new();
        match acted(action, chain, policy, model, &mut found, &mut notes) {
            Ok(()) if notes.is_empty() => ledger.translated(action.span),
            Ok(()) => notes.into_iter().for_each(|note| ledger.changed(action.span, note)),
            Err(why) if refuses(action) => ledger.opened(action.span, why),
            Err(why) => ledger.dropped(action.span, why),
        }
    }
    for node in rule.children().iter().filter(|node| matches!(node.word(0), "ordinal" | "description")) {
        ledger.translated(node.span);
    }
    ledger.rest(rule.span.head(), Bin::Translated, "");
    Ok(found)
}

/// Whether an action turns requests away.
fn refuses(action: &Node) -> bool {
    words(action).iter().any(|word| matches!(*word, "reset" | "reject" | "drop" | "shutdown"))
}

/// The words of a condition or action in any order, and the values of those that have one.
fn words(node: &Node) -> Vec<&str> {
    node.children().iter().map(|child| child.word(0)).collect()
}

fn values(condition: &Node) -> Vec<String> {
    let names = condition.child("values").into_iter().flat_map(Node::names);
    names.map(|(name, _)| name.to_owned()).collect()
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
    if has("response") && has("http-status") {
        return atom(&Text::of(Part::Status), Operator::Equals, &values(condition), notes);
    }
    if has("response") || has("ssl-server-hello") || has("client-accepted") && !has("tcp") {
        return Err("a condition of another event than the request".to_owned());
    }
    let values = values(condition);
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
        () if has("http-cookie") => return Err(gaps::COOKIES.to_owned()),
        () if has("tcp") => Part::Client,
        () => return Err(format!("a condition on {}", words.first().unwrap_or(&"nothing"))),
    };
    let operator = match () {
        () if has("exists") => match &subject {
            Part::Header(name) => return accepted::field_name(name).map(|()| exists(name)),
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

fn acted(
    action: &Node,
    chain: &[Decision<()>],
    policy: &Object,
    model: &Model,
    rule: &mut Rule,
    notes: &mut Vec<String>,
) -> Result<(), Unfit> {
    let words = words(action);
    let has = |word: &str| words.contains(&word);
    let side = if has("response") { Side::Answer } else { Side::Request };
    if side == Side::Request && rule.when.statuses.is_some() {
        return Err("an action on the request, for the status of its answer".to_owned());
    }
    if side == Side::Answer && !has("http-header") {
        return Err("an action on answers: their fields alone can change".to_owned());
    }
    let value = |key: &str| -> Result<Text, Unfit> {
        let (text, _) = action.value(key).ok_or_else(|| format!("an action without its `{key}`"))?;
        match text.starts_with("tcl:") || text.contains('[') {
            true => Scope::read(text.trim_start_matches("tcl:"), side),
            false => Ok(Text::plain(text)),
        }
    };
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
            rule.outcome.answer = Some(REJECTION);
        }
        () if has("forward") => return Err("it forwards to something else than a pool".to_owned()),
        () if has("http-reply") || has("redirect") => {
            let status = action.value("code").and_then(|(code, _)| code.parse().ok()).unwrap_or(302);
            rule.outcome.answer = Some(actions::redirect(&value("location")?, status)?);
        }
        () if has("http-host") => actions::host(&mut rule.outcome, &value("value")?)?,
        () if has("http-uri") => {
            let key = if action.child("path").is_some() { "path" } else { "value" };
            if key == "value" {
                notes.push("the path alone is replaced: the request's query stays".to_owned());
            }
            rule.outcome.path = Some(actions::path(&value(key)?)?);
        }
        () if has("http-header") || has("http-referer") => {
            let kind = match () {
                () if has("insert") => Kind::Insert,
                () if has("replace") => Kind::Set,
                () if has("remove") => Kind::Remove,
                () => return Err("an action on a field that the importer does not know".to_owned()),
            };
            let name = match has("http-referer") {
                true => "Referer".to_owned(),
                false => value("name")?.constant().ok_or("a field whose name depends on the request")?,
            };
            let text = if kind == Kind::Remove { Text::default() } else { value("value")? };
            let guard = match side {
                // The route asks it.
                Side::Request => Guard::default(),
                Side::Answer => Guard::nth(chain, chain.len() - 1)?.ok_or("a rule that no request reaches")?,
            };
            if side == Side::Answer && guard.looks_at_fields() {
                return Err(gaps::GONE.to_owned());
            }
            let field = Field::new(side, kind, &name, text, &guard)?;
            notes.extend(field.apply(&mut rule.outcome, &mut rule.response, side)?);
            rule.outcome.change(side, &name)?;
        }
        () if has("http-cookie") || has("http-set-cookie") => return Err(gaps::COOKIES.to_owned()),
        () if has("log") => return Err(actions::LOG.to_owned()),
        () => return Err(format!("the action {}", words.first().unwrap_or(&"nothing"))),
    }
    Ok(())
}
