//! Cases, of which the first counts, → routes, of which Kong's order decides.
//!
//! Where a route of a later case would win over one of an earlier, the earlier case gets another route for what is both.
//! That is repeated until no such pair is left, so that whatever route wins belongs to the first case that holds.

use serde_json::{Value, json};

use super::ledger::Ledger;
use super::matching::{HeaderTest, Match, Sources};
use super::outcome::{Answer, Cases, Fields, Outcome, fields};
use super::output::Entity;
use super::verify::{Expected, Sent, Upstream};
use crate::http::head::is_field_value;
use crate::settings::Cidr;

/// Routes of one virtual server at most.
const MAX_ROUTES: usize = 400;

/// One route to be.
#[derive(Clone, Debug)]
pub(super) struct Draft {
    /// The case it belongs to.
    pub(super) case: usize,
    /// What it asks.
    pub(super) when: Match,
}

/// The routes of cases, and how their paths are written.
pub(super) struct Drafts {
    /// In the order of cases.
    pub(super) all: Vec<Draft>,
    /// Whether paths are prefixes; else expressions, whose priority is their case's.
    pub(super) by_prefix: bool,
    /// Cases for which the order may not hold.
    pub(super) unsure: Vec<usize>,
}

/// Kong's order, as far as these routes differ in it.
type Priority = (u8, bool, usize, i64);

fn priority(draft: &Draft, count: usize, by_prefix: bool) -> Priority {
    let when = &draft.when;
    let kinds =
        1 + u8::from(when.hosts.is_some()) + u8::from(when.methods.is_some()) + u8::from(!when.headers.is_empty());
    let is_plain = when.hosts.as_ref().is_some_and(|hosts| hosts.iter().all(|host| !host.contains('*')));
    let order = match by_prefix {
        // Routes with several prefixes were split: each has one.
        true => when.paths.as_ref().and_then(|paths| paths.first()).map_or(1, |path| path.text.len() as i64),
        false => (count - draft.case) as i64,
    };
    (kinds, is_plain, when.headers.len(), order)
}

/// Finds routes for cases.
pub(super) fn drafts(cases: &Cases) -> Result<Drafts, String> {
    let all: Vec<Draft> =
        cases.iter().enumerate().map(|(case, (when, _))| Draft { case, when: when.clone() }).collect();
    let paths = |draft: &Draft| draft.when.paths.clone().unwrap_or_default();
    if all.iter().flat_map(paths).all(|path| path.is_prefix()) {
        let split = all.iter().flat_map(|draft| match &draft.when.paths {
            None => vec![draft.clone()],
            Some(paths) => paths
                .iter()
                .map(|path| Draft {
                    case: draft.case,
                    when: Match { paths: Some(vec![path.clone()]), ..draft.when.clone() },
                })
                .collect(),
        });
        let split: Vec<Draft> = split.collect();
        let count = split.len();
        if let Ok((closed, unsure)) = close(split, cases.len(), true)
            && closed.len() == count
            && unsure.is_empty()
        {
            return Ok(Drafts { all, by_prefix: true, unsure });
        }
    }
    let (all, unsure) = close(all, cases.len(), false)?;
    Ok(Drafts { all, by_prefix: false, unsure })
}

fn close(mut all: Vec<Draft>, count: usize, by_prefix: bool) -> Result<(Vec<Draft>, Vec<usize>), String> {
    let mut unsure = Vec::new();
    let mut at = 0;
    // Each draft is compared with those before it; what is added at the end has its turn later.
    while at < all.len() {
        for other in 0..at {
            let (first, second) = match all[other].case < all[at].case {
                true => (&all[other], &all[at]),
                false => (&all[at], &all[other]),
            };
            let rank = |draft| priority(draft, count, by_prefix);
            if first.case == second.case || rank(first) >= rank(second) {
                continue;
            }
            let case = first.case;
            match first.when.and(&second.when) {
                Ok(None) => {}
                Ok(Some(when)) if all.iter().any(|draft| draft.case <= case && draft.when == when) => {}
                Ok(Some(when)) => all.push(Draft { case, when }),
                Err(_) if unsure.contains(&second.case) => {}
                Err(_) => unsure.push(second.case),
            }
            if all.len() > MAX_ROUTES {
                return Err(format!(
                    "more than {MAX_ROUTES} routes would be needed to keep the order of its conditions"
                ));
            }
        }
        at += 1;
    }
    all.sort_by_key(|draft| draft.case);
    Ok((all, unsure))
}

/// What all routes of a virtual server share.
#[derive(Clone, Copy)]
pub(super) struct Common<'a> {
    /// What its routes' names begin with.
    pub(super) name: &'a str,
    /// Whether requests come in clear text alone to be sent on to https; with which status.
    pub(super) https_only: Option<u16>,
    /// Changes of every answer of a service.
    pub(super) response: &'a [super::outcome::Change],
    /// Where lines are.
    pub(super) ledger: &'a Ledger,
}

/// One route.
pub(super) fn route(
    draft: &Draft,
    index: usize,
    outcome: &Outcome,
    drafts: &Drafts,
    count: usize,
    common: &Common<'_>,
) -> Entity {
    let when = &draft.when;
    let mut members = vec![("name", json!(format!("{}-{}", common.name, index + 1)))];
    if let Some(hosts) = &when.hosts {
        members.push(("hosts", json!(hosts)));
    }
    let paths: Vec<String> = match (&when.paths, drafts.by_prefix) {
        (None, true) => vec!["/".to_owned()],
        (None, false) => vec!["~/".to_owned()],
        (Some(paths), true) => paths.iter().map(|path| path.text.clone()).collect(),
        (Some(paths), false) => paths.iter().map(|path| format!("~{}", path.regex())).collect(),
    };
    members.push(("paths", json!(paths)));
    if !drafts.by_prefix {
        members.push(("regex_priority", json!(count - draft.case)));
    }
    if let Some(methods) = &when.methods {
        members.push(("methods", json!(methods)));
    }
    if !when.headers.is_empty() {
        let value = |test: &HeaderTest| match test {
            HeaderTest::Exists => json!(["~*^.*$"]),
            HeaderTest::OneOf(values) => json!(values),
            HeaderTest::Regex(text) => json!([format!("~*{text}")]),
        };
        let headers: serde_json::Map<String, Value> =
            when.headers.iter().map(|(name, test)| (name.clone(), value(test))).collect();
        members.push(("headers", Value::Object(headers)));
    }
    let to_https = match outcome.answer {
        Some(Answer::ToHttps { status }) => Some(status),
        _ => common.https_only,
    };
    match to_https {
        Some(status) => {
            members.extend([("protocols", json!(["https"])), ("https_redirect_status_code", json!(status))])
        }
        None => members.push(("protocols", json!(["http", "https"]))),
    }
    members.extend([("strip_path", json!(false)), ("preserve_host", json!(true))]);
    let plugins = plugins(outcome, common.response);
    if !plugins.is_empty() {
        members.push(("plugins", Value::Array(plugins)));
    }
    let mut places: Vec<String> = outcome.spans.iter().map(|span| common.ledger.place(*span)).collect();
    places.dedup();
    Entity { comment: places.join(", "), members }
}

fn plugin(name: &str, config: Value) -> Value {
    json!({"name": name, "config": config})
}

fn lists(pairs: &[(String, String)]) -> Value {
    json!({"headers": pairs.iter().map(|(name, value)| format!("{name}:{value}")).collect::<Vec<_>>()})
}

fn transformer(changes: &Fields) -> serde_json::Map<String, Value> {
    let mut config = serde_json::Map::new();
    if !changes.remove.is_empty() {
        config.insert("remove".into(), json!({"headers": changes.remove}));
    }
    // One that is there is replaced, one that is not is added.
    let add: Vec<(String, String)> = changes.set.iter().chain(&changes.add).cloned().collect();
    for (key, pairs) in [("replace", &changes.set), ("add", &add), ("append", &changes.append)] {
        if !pairs.is_empty() {
            config.insert(key.into(), lists(pairs));
        }
    }
    config
}

fn plugins(outcome: &Outcome, response: &[super::outcome::Change]) -> Vec<Value> {
    let mut plugins = Vec::new();
    if !outcome.sources.is_empty() {
        plugins.push(plugin("ip-restriction", restriction(&outcome.sources)));
    }
    match &outcome.answer {
        Some(Answer::ToHttps { .. }) => {}
        Some(Answer::Fixed { status, body, fields }) => {
            let is_type = |name: &str| name.eq_ignore_ascii_case("content-type");
            let mut config = json!({"status_code": status});
            if let Some(body) = body {
                // What can stand in no field is none that the F5 sent.
                let given = fields.iter().find(|(name, value)| is_type(name) && is_field_value(value.as_bytes()));
                let of_type = given.map_or("text/html", |(_, value)| value);
                config["body"] = json!(body);
                config["content_type"] = json!(of_type);
            }
            plugins.push(plugin("request-termination", config));
            let fields: Vec<_> = fields.iter().filter(|(name, _)| !is_type(name)).cloned().collect();
            if !fields.is_empty() {
                plugins.push(plugin("response-transformer", json!({"add": lists(&fields)})));
            }
        }
        None => {
            let mut config = transformer(&fields(&outcome.request));
            let mut replaced = |key: &str, value: Value| {
                let replace = config.entry("replace").or_insert_with(|| json!({}));
                match &mut replace[key] {
                    Value::Array(items) => items.push(value),
                    other => *other = if key == "headers" { json!([value]) } else { value },
                }
            };
            if let Some(host) = &outcome.host {
                replaced("headers", json!(format!("Host:{host}")));
            }
            if let Some(path) = &outcome.path {
                replaced("uri", json!(path));
            }
            if !config.is_empty() {
                plugins.push(plugin("request-transformer", Value::Object(config)));
            }
            let config = transformer(&fields(response));
            if !config.is_empty() {
                plugins.push(plugin("response-transformer", Value::Object(config)));
            }
        }
    }
    plugins
}

/// The ranges of all conditions at once: within each list that is inside, within none that is outside.
pub(super) fn restriction(sources: &[Sources]) -> Value {
    let mut allow: Option<Vec<Cidr>> = None;
    let mut deny: Vec<Cidr> = Vec::new();
    for source in sources {
        match (source.inside, &allow) {
            (false, _) => deny.extend(source.ranges.iter().copied()),
            (true, None) => allow = Some(source.ranges.clone()),
            (true, Some(before)) => {
                let narrower = |a: &Cidr, b: &Cidr| match () {
                    () if a.contains(b.address()) && a.prefix_bits() <= b.prefix_bits() => Some(*b),
                    () if b.contains(a.address()) && b.prefix_bits() <= a.prefix_bits() => Some(*a),
                    () => None,
                };
                let both = before.iter().flat_map(|a| source.ranges.iter().filter_map(|b| narrower(a, b)));
                allow = Some(both.collect());
            }
        }
    }
    // Nobody is in no range.
    if allow.as_ref().is_some_and(Vec::is_empty) {
        (allow, deny) = (None, [Cidr::parse("0.0.0.0/0"), Cidr::parse("::/0")].into_iter().flatten().collect());
    }
    let texts = |ranges: &[Cidr]| ranges.iter().map(ToString::to_string).collect::<Vec<_>>();
    let mut config = serde_json::Map::new();
    if let Some(allow) = allow {
        config.insert("allow".into(), json!(texts(&allow)));
    }
    if !deny.is_empty() {
        config.insert("deny".into(), json!(texts(&deny)));
    }
    Value::Object(config)
}

/// What to ask for a case, and what is expected; nothing where it depends on who asks, or another case answers.
pub(super) fn expected(cases: &Cases, case: usize, common: &Common<'_>) -> Option<Expected> {
    let (when, outcome) = &cases[case];
    let mut sample = when.sample()?;
    if !outcome.sources.is_empty() || cases.iter().position(|(when, _)| when.holds(&sample)) != Some(case) {
        return None;
    }
    let mut places: Vec<String> = outcome.spans.iter().map(|span| common.ledger.place(*span)).collect();
    places.dedup();
    let mut expected =
        Expected { name: format!("{} {}", common.name, case + 1), from: places.join(", "), ..Expected::default() };
    expected.scheme = common.https_only.map(|_| "https".to_owned());
    match &outcome.answer {
        Some(Answer::ToHttps { status }) => {
            expected.scheme = Some("http".to_owned());
            expected.status = Some(*status);
            expected.location = Some(format!("https://{}{}", sample.host, sample.path));
        }
        Some(Answer::Fixed { status, body, fields }) => {
            expected.status = Some(*status);
            expected.body.clone_from(body);
            for (name, value) in fields {
                match name.eq_ignore_ascii_case("location") {
                    true => expected.location = Some(value.clone()),
                    false => drop(expected.fields.insert(name.to_ascii_lowercase(), Some(value.clone()))),
                }
            }
        }
        None => {
            let changes = fields(&outcome.request);
            let mut upstream =
                Upstream { path: outcome.path.clone().unwrap_or_else(|| sample.path.clone()), ..Upstream::default() };
            upstream
                .fields
                .insert("host".to_owned(), Some(outcome.host.clone().unwrap_or_else(|| sample.host.clone())));
            for name in &changes.remove {
                // It can only be seen to be gone where it was sent.
                sample.headers.entry(name.to_ascii_lowercase()).or_insert_with(|| "from the client".to_owned());
                upstream.fields.insert(name.to_ascii_lowercase(), None);
            }
            for (name, value) in changes.set.iter().chain(&changes.add).chain(&changes.append) {
                if !value.contains("$(") && !sample.headers.contains_key(&name.to_ascii_lowercase()) {
                    upstream.fields.insert(name.to_ascii_lowercase(), Some(value.clone()));
                }
            }
            let answer = fields(common.response);
            expected.fields.extend(answer.remove.iter().map(|name| (name.to_ascii_lowercase(), None)));
            expected
                .fields
                .extend(answer.set.iter().map(|(name, value)| (name.to_ascii_lowercase(), Some(value.clone()))));
            expected.pool.clone_from(&outcome.pool);
            expected.upstream = Some(upstream);
        }
    }
    expected.request = Sent { method: sample.method, host: sample.host, path: sample.path, headers: sample.headers };
    Some(expected)
}

#[cfg(test)]
mod tests;
