//! Cases, of which the first counts, → routes, of which Kong's order decides.
//!
//! Where a route of a later case would win over one of an earlier, the earlier case gets another route for what is both.
//! That is repeated until no such pair is left, so that whatever route wins belongs to the first case that holds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::change::{self, Change};
use super::ledger::Ledger;
use super::matching::{HeaderTest, Match, Sample, Sources, Unfit};
use super::outcome::{Answer, Cases, Outcome, termination};
use super::output::Entity;
use super::shape::{Shape, Table};
use super::text::{Side, Text};
use super::verify::{Expected, Sent, Upstream};
use crate::plugin::{http_profile, request_termination};
use crate::settings::Cidr;

/// A field that no list of allowed ones has, of the made-up requests.
const UNLISTED: &str = "x-not-listed";
/// Requests for one case at most.
const MAX_REQUESTS: usize = 8;
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
    /// The host of requests that may be for any.
    pub(super) host: &'a str,
    /// Whether requests come in clear text alone to be sent on to https; with which status.
    pub(super) https_only: Option<u16>,
    /// Whether requests come over TLS alone.
    pub(super) tls: bool,
    /// Changes of every answer of a service.
    pub(super) response: &'a [Change],
    /// What else http-profile does.
    pub(super) shape: &'a Shape,
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
) -> Result<Entity, Unfit> {
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
    let plugins = plugins(outcome, common)?;
    if !plugins.is_empty() {
        members.push(("plugins", Value::Array(plugins)));
    }
    let mut places: Vec<String> = outcome.spans.iter().map(|span| common.ledger.place(*span)).collect();
    places.dedup();
    Ok(Entity { comment: places.join(", "), members })
}

fn plugin(name: &str, config: Value) -> Value {
    json!({"name": name, "config": config})
}

/// The plugin with the settings of a shape and rules of fields; none where that is nothing.
fn profile<'c>(shape: &Shape, changes: impl IntoIterator<Item = &'c Change>) -> Result<Option<Value>, Unfit> {
    let mut config = shape.config();
    if let Value::Object(rules) = change::rules(changes)? {
        for (side, rules) in rules {
            match &mut config[&side] {
                Value::Object(settings) => drop(settings.insert("headers".into(), rules["headers"].clone())),
                none => *none = rules,
            }
        }
    }
    Ok((config != json!({})).then(|| plugin(http_profile::NAME, config)))
}

fn plugins(outcome: &Outcome, common: &Common<'_>) -> Result<Vec<Value>, Unfit> {
    let mut plugins = Vec::new();
    if !outcome.sources.is_empty() {
        plugins.push(plugin("ip-restriction", restriction(&outcome.sources)));
    }
    match &outcome.answer {
        Some(Answer::ToHttps { .. }) => {}
        Some(Answer::Fixed { status, body, fields }) => {
            plugins.push(plugin(request_termination::NAME, termination(*status, body.as_ref())));
            // The one setting that an F5 has for its own answers.
            let mut own = Shape::default();
            if let Some(server) = common.shape.value(Table::Response, "server") {
                own.set(Table::Response, "server", server.clone())?;
            }
            plugins.extend(profile(&own, fields)?);
        }
        None => {
            if let Some(path) = &outcome.path {
                let uri = Text::plain(path).template(Side::Request)?;
                plugins.push(plugin("request-transformer", json!({"replace": {"uri": uri}})));
            }
            let mut shape = common.shape.clone();
            shape.extend(&outcome.shape);
            plugins.extend(profile(&shape, outcome.request.iter().chain(common.response))?);
        }
    }
    Ok(plugins)
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

/// What to ask for a case: one request as plain as can be, and one for each condition of its changes of fields.
pub(super) fn expected(cases: &Cases, case: usize, common: &Common<'_>) -> Vec<Expected> {
    let (when, outcome) = &cases[case];
    let mut asked = vec![when.clone()];
    for guard in outcome.request.iter().map(|change| change.guard().when()) {
        if let Ok(Some(both)) = when.and(guard)
            && !asked.contains(&both)
            && asked.len() < MAX_REQUESTS
        {
            asked.push(both);
        }
    }
    let name = |index: usize| match index {
        0 => format!("{} {}", common.name, case + 1),
        index => format!("{} {}.{index}", common.name, case + 1),
    };
    let one = |(index, when): (usize, &Match)| request(when, name(index), cases, case, common);
    asked.iter().enumerate().filter_map(one).collect()
}

/// One request, and what is expected; nothing where it depends on who asks, or another case answers.
fn request(when: &Match, name: String, cases: &Cases, case: usize, common: &Common<'_>) -> Option<Expected> {
    let (_, outcome) = &cases[case];
    let mut sample = when.sample(common.host)?;
    let is_its = |sample: &Sample| cases.iter().position(|(when, _)| when.holds(sample)) == Some(case);
    if !outcome.sources.is_empty() || !is_its(&sample) {
        return None;
    }
    let mut places: Vec<String> = outcome.spans.iter().map(|span| common.ledger.place(*span)).collect();
    places.dedup();
    let mut expected = Expected { name, from: places.join(", "), ..Expected::default() };
    expected.scheme = common.https_only.map(|_| "https".to_owned());
    match &outcome.answer {
        Some(Answer::ToHttps { status }) => {
            expected.scheme = Some("http".to_owned());
            expected.status = Some(*status);
            expected.location = Some(format!("https://{}{}", sample.host, sample.path));
        }
        Some(Answer::Fixed { status, body, fields }) => {
            expected.status = Some(*status);
            expected.body = body.as_ref().map(|(body, _)| body.clone());
            if let Some(server) = common.shape.value(Table::Response, "server").and_then(Value::as_str) {
                let server = Some(server).filter(|server| *server != "remove").map(str::to_owned);
                expected.fields.insert("server".to_owned(), server);
            }
            expected.fields.extend(told(change::applied(fields, &sample)));
            expected.location = expected.fields.remove("location").flatten();
        }
        None => {
            sent_to_be_gone(outcome, &mut sample, is_its);
            let path = outcome.path.clone().unwrap_or_else(|| sample.path.clone());
            let mut fields: BTreeMap<_, _> = told(change::applied(&outcome.request, &sample)).collect();
            let host = outcome.shape.value(Table::Request, "host").and_then(Value::as_str);
            // What a template makes of a request is not known here.
            if !host.is_some_and(|host| host.contains("$(")) {
                fields.insert("host".to_owned(), Some(host.unwrap_or(&sample.host).to_owned()));
            }
            expected.upstream = Some(Upstream { path, fields });
            if let Some(hsts) = common.hsts() {
                expected.fields.insert("strict-transport-security".to_owned(), Some(hsts));
            }
            expected.fields.extend(told(change::applied(common.response, &sample)));
            expected.pool.clone_from(&outcome.pool);
        }
    }
    expected.request = Sent { method: sample.method, host: sample.host, path: sample.path, headers: sample.headers };
    expected.is_askable().then_some(expected)
}

/// Sends what is to be taken out: that it is gone can only be seen where it was there.
fn sent_to_be_gone(outcome: &Outcome, sample: &mut Sample, is_its: impl Fn(&Sample) -> bool) {
    let removed = change::applied(&outcome.request, sample).into_iter().filter(|(_, lines)| {
        // Nothing is left of it.
        lines.as_ref().is_some_and(Vec::is_empty)
    });
    let mut names: Vec<String> = removed.map(|(name, _)| name).collect();
    let allow = outcome.shape.value(Table::Request, "allow").and_then(Value::as_array);
    if allow.is_some_and(|names| !names.iter().any(|name| name == UNLISTED)) {
        names.push(UNLISTED.to_owned());
    }
    for name in names {
        let mut with = sample.clone();
        with.headers.entry(name).or_insert_with(|| "from the client".to_owned());
        // It must not lead elsewhere.
        if is_its(&with) {
            *sample = with;
        }
    }
}

/// Fields of which is known what they are: one value, or none at all.
fn told(fields: change::Fields) -> impl Iterator<Item = (String, Option<String>)> {
    fields.into_iter().filter_map(|(name, lines)| match lines?.as_slice() {
        [] => Some((name, None)),
        [one] => Some((name, Some(one.clone()))),
        _ => None,
    })
}

impl Common<'_> {
    /// The value of Strict-Transport-Security, where every answer of a service has it.
    fn hsts(&self) -> Option<String> {
        let hsts = self.shape.value(Table::Response, "hsts").filter(|_| self.tls || self.https_only.is_some())?;
        let is = |key: &str| hsts[key] == true;
        let subdomains = if is("include_subdomains") { "; includeSubDomains" } else { "" };
        let preload = if is("preload") { "; preload" } else { "" };
        Some(format!("max-age={}{subdomains}{preload}", hsts["max_age"]))
    }
}

#[cfg(test)]
mod tests;
