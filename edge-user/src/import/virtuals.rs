//! Virtual servers with their profiles, policies and rules → what one listener does with a request or connection.

use std::net::{IpAddr, SocketAddr};

use super::bigip::Node;
use super::change::Change;
use super::http::Http;
use super::ledger::{Ledger, Span};
use super::matching::{Match, Sources};
use super::model::{Model, Object};
use super::outcome::{Answer, Cases, Outcome, is_refusal_by_address, reachable, restrict};
use super::output::{Certificate, Clients, Host, Listener};
use super::pool::{self, Persist};
use super::profile::ClientSsl;
use super::rule::Rules;
use super::shape::Shape;
use super::{attached, policy};
use crate::settings::{Cidr, HostName};

/// What a virtual server does.
pub(super) struct Plan<'a> {
    /// Itself.
    pub(super) object: &'a Object,
    /// The listener it becomes.
    pub(super) listener: Listener,
    /// The name for which it has its main certificate.
    pub(super) host: Option<String>,
    /// Certificates for names of their own, each name once.
    pub(super) certificates: Vec<Certificate>,
    /// What its http profile sets for the node.
    pub(super) http: Http,
    /// Seconds after which idle connections end.
    pub(super) idle_secs: Option<u64>,
    /// What becomes of requests. For connections: one case, with the pool.
    pub(super) cases: Cases,
    /// What answers' fields become.
    pub(super) response: Vec<Change>,
    /// What else http-profile does.
    pub(super) shape: Shape,
    /// Members are spoken to over TLS; whether their certificates are verified.
    pub(super) to_members: Option<bool>,
    /// How clients stay with members.
    pub(super) persist: Option<Persist>,
}

impl Plan<'_> {
    /// Whether it sends every request to https, and with which status.
    pub(super) fn redirects(&self) -> Option<u16> {
        match self.cases.as_slice() {
            [(when, Outcome { answer: Some(Answer::ToHttps { status }), .. })] if when.is_any() => Some(*status),
            _ => None,
        }
    }

    /// Whether the names of both can be served by one edge.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        let differ = |a: &Certificate, b: &Certificate| a.name == b.name && a.pair != b.pair;
        !self.certificates.iter().any(|a| other.certificates.iter().any(|b| differ(a, b)))
    }

    /// What tells two of them apart, beside where they listen.
    pub(super) fn content(&self) -> String {
        let bare = |(when, outcome): &(Match, Outcome)| {
            let outcome = Outcome {
                spans: Vec::new(),
                variables: Default::default(),
                changed: Default::default(),
                ..outcome.clone()
            };
            format!("{when:?} {outcome:?}")
        };
        let cases: Vec<String> = self.cases.iter().map(bare).collect();
        let Self { listener, response, shape, to_members, persist, .. } = self;
        format!("{} {response:?} {shape:?} {cases:?} {to_members:?} {persist:?}", listener.stream)
    }
}

/// Translates one; nothing where it cannot be had, which the ledger is told.
pub(super) fn translate<'a>(object: &'a Object, model: &'a Model, ledger: &Ledger) -> Option<Plan<'a>> {
    let node = &object.node;
    let refuse = |why: String| {
        ledger.dropped(node.span, why);
        None
    };
    for kind in ["disabled", "ip-forward", "l2-forward", "dhcp-relay", "internal", "reject"] {
        if node.child(kind).is_some() {
            return refuse(match kind {
                "disabled" => "it is disabled on the F5".to_owned(),
                _ => format!(
                    "a virtual server of the kind {kind}: the edge takes requests, and TCP connections by name and port"
                ),
            });
        }
    }
    let Some((destination, _)) = node.value("destination") else { return refuse("no destination".to_owned()) };
    let Some((address, port)) = pool::address_and_port(destination) else {
        return refuse(format!("{destination:?} is no address with a port"));
    };
    let Ok(address) = address.split('%').next().unwrap_or_default().parse::<IpAddr>() else {
        return refuse(format!("{address:?} is no address of a listener: write a range as its `vips`"));
    };
    if port == 0 {
        return refuse("all ports: write them as `vips` and `ports` of a listener".to_owned());
    }
    if node
        .value("mask")
        .is_some_and(|(mask, _)| !matches!(mask, "255.255.255.255" | "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"))
    {
        return refuse("a range of addresses: write it as `vips` of a listener".to_owned());
    }
    if let Some((protocol, _)) = node.value("ip-protocol").filter(|(protocol, _)| *protocol != "tcp") {
        return refuse(format!("the protocol {protocol}: the edge takes TCP alone"));
    }
    let profiles = attached::profiles(object, model, ledger);
    let address = SocketAddr::new(address, port);
    let is_stream = profiles.http.is_none();
    let mut plan = Plan {
        object,
        listener: Listener {
            comment: format!("{} ({})", object.label(), ledger.place(node.span)),
            stream: is_stream,
            ..Listener::at(address)
        },
        host: None,
        certificates: Vec::new(),
        http: profiles.http.clone().unwrap_or_default(),
        idle_secs: profiles.idle_secs,
        cases: Vec::new(),
        response: Vec::new(),
        shape: Shape::default(),
        to_members: profiles.to_members,
        persist: None,
    };
    tls(&mut plan, profiles.client_ssl, ledger);
    plan.persist = attached::persist(object, model, ledger);
    let mut first = Outcome {
        changed: plan.http.request.iter().map(|change| change.name().to_ascii_lowercase()).collect(),
        request: plan.http.request.clone(),
        spans: vec![node.span.head()],
        ..Outcome::default()
    };
    for option in node.children() {
        match option.word(0) {
            "pool" => match model.find("ltm pool", option.word(1), object.folder()) {
                Some(found) => {
                    first.pool = Some(found.name.clone());
                    ledger.translated(option.span);
                }
                None if option.word(1) == "none" => ledger.translated(option.span),
                None => ledger.dropped(option.span, format!("the pool {} is in none of the files", option.word(1))),
            },
            "source" => first.sources.extend(source(option, ledger)),
            _ => other(option, ledger),
        }
    }
    plan.shape = plan.http.shape.clone();
    plan.shape.extend(&profiles.shape);
    plan.cases = vec![(Match::default(), first)];
    behaviour(&mut plan, model, ledger);
    if is_stream && plan.cases.iter().all(|(_, outcome)| outcome.pool.is_none()) {
        return refuse(
            "neither an http profile nor a pool: nothing that the edge could do with a connection".to_owned(),
        );
    }
    Some(plan)
}

fn behaviour(plan: &mut Plan<'_>, model: &Model, ledger: &Ledger) {
    let object = plan.object;
    let is_stream = plan.listener.stream;
    for node in object.node.children().iter().filter(|node| node.word(0) == "policies") {
        ledger.translated(node.span.head());
        for (name, entry) in node.names() {
            match model.find("ltm policy", name, object.folder()) {
                Some(_) if is_stream => ledger.dropped(
                    entry.span,
                    "a policy on connections: those are steered by server name, source and port alone",
                ),
                Some(found) => {
                    let translated = policy::translate(found, model, ledger);
                    match combined(&plan.cases, &translated.cases) {
                        Ok(cases) => {
                            plan.cases = cases;
                            plan.response.extend(translated.response);
                            ledger.translated(entry.span);
                        }
                        Err(why) => ledger.opened(entry.span, why),
                    }
                }
                None => ledger.opened(entry.span, format!("the policy {name} is in none of the files")),
            }
        }
    }
    let mut rules = Vec::new();
    for node in object.node.children().iter().filter(|node| node.word(0) == "rules") {
        ledger.translated(node.span.head());
        for (name, entry) in node.names() {
            match model.find("ltm rule", name, object.folder()) {
                Some(_) if is_stream => ledger.opened(
                    entry.span,
                    "a rule on connections: those are steered by server name, source and port alone",
                ),
                Some(rule) => {
                    ledger.translated(entry.span);
                    rules.push(rule);
                }
                // The one rule that every BIG-IP has.
                None if name.ends_with("_sys_https_redirect") && !is_stream => {
                    ledger.translated(entry.span);
                    for (_, outcome) in &mut plan.cases {
                        outcome.answer = Some(Answer::ToHttps { status: 302 });
                        outcome.spans.push(entry.span);
                    }
                }
                None => ledger.opened(entry.span, format!("the rule {name} is in none of the files")),
            }
        }
    }
    if !rules.is_empty() {
        let mut walk = Rules::new(model, ledger, std::mem::take(&mut plan.shape), plan.listener.tls);
        plan.cases = walk.walk(&rules, std::mem::take(&mut plan.cases));
        plan.response.extend(walk.response);
        plan.shape = walk.shape;
    }
    let cases = std::mem::take(&mut plan.cases);
    plan.cases = match restrict(cases.clone()) {
        Ok(restricted) => {
            for span in
                cases.iter().filter(|case| is_refusal_by_address(case)).filter_map(|(_, then)| then.spans.last())
            {
                ledger.changed(*span, "ip-restriction answers 403 in its own words");
            }
            restricted
        }
        Err(why) => {
            let mut free = Cases::new();
            for case in cases {
                let depends = !case.0.sources.is_empty();
                if depends {
                    case.1.spans.iter().skip(1).for_each(|span| ledger.opened(*span, why.clone()));
                }
                // Closed rather than open: what refused some clients refuses all.
                if !depends || is_refusal_by_address(&case) {
                    free.push((Match { sources: Vec::new(), ..case.0 }, case.1));
                }
            }
            free
        }
    };
    plan.cases = reachable(std::mem::take(&mut plan.cases));
}

/// What a policy makes of cases.
fn combined(cases: &Cases, policy: &Cases) -> Result<Cases, String> {
    let mut all = Cases::new();
    for (when, outcome) in cases {
        for (other, then) in policy {
            let Some(both) = when.and(other)? else { continue };
            let mut outcome = outcome.clone();
            outcome.pool = then.pool.clone().or(outcome.pool);
            outcome.shape.extend(&then.shape);
            outcome.path = then.path.clone().or(outcome.path);
            outcome.answer = then.answer.clone().or(outcome.answer);
            outcome.ended |= outcome.answer.is_some();
            outcome.request.extend(then.request.iter().cloned());
            outcome.changed.extend(then.changed.iter().cloned());
            outcome.spans.extend(&then.spans);
            all.push((both, outcome));
        }
    }
    match all.len() > super::outcome::MAX_CASES {
        true => Err(format!("more than {} cases", super::outcome::MAX_CASES)),
        false => Ok(all),
    }
}

fn tls(plan: &mut Plan<'_>, mut profiles: Vec<(ClientSsl, Span)>, ledger: &Ledger) {
    if profiles.is_empty() {
        return;
    }
    let default = profiles.iter().position(|(ssl, _)| ssl.is_default).unwrap_or(0);
    let (main, span) = profiles.swap_remove(default);
    plan.listener.tls = true;
    plan.listener.pair = Some(main.pair);
    plan.host = main.server_name.filter(|name| !name.contains('*'));
    plan.listener.clients = clients(main.clients, plan.listener.stream, span, ledger);
    for (ssl, span) in profiles {
        let Some(name) = ssl.server_name else {
            ledger.dropped(span, "a second certificate for all names: a listener has one");
            continue;
        };
        if plan.certificates.iter().any(|certificate| certificate.name == name) {
            ledger.dropped(span, format!("another profile has the server name {name}"));
            continue;
        }
        let clients = clients(ssl.clients, plan.listener.stream, span, ledger);
        if clients != plan.listener.clients {
            match HostName::parse(&name) {
                Some(name) => {
                    ledger.changed(span, "a request for a host with other rules than its connection's is 421");
                    plan.listener.hosts.push(Host { comment: ssl.comment.clone(), name, clients });
                }
                None => ledger.opened(
                    span,
                    format!("what is asked of clients goes by host names, or by all below one: {name} is neither"),
                ),
            }
        }
        plan.certificates.push(Certificate { comment: ssl.comment, pair: ssl.pair, name });
    }
}

/// What a listener can ask of what a profile does.
fn clients(asked: Clients, is_stream: bool, span: Span, ledger: &Ledger) -> Clients {
    if asked.certificate.is_none() {
        return asked;
    }
    if is_stream {
        ledger.opened(span, "connections are asked for no client certificate, requests alone are");
        return Clients::default();
    }
    if asked.ca.is_none() {
        ledger.changed(span, "without `ca-file` any certificate is taken whose key the client proves to hold");
    }
    asked
}

fn source(option: &Node, ledger: &Ledger) -> Option<Sources> {
    let text = option.word(1).split('%').next().unwrap_or_default();
    match Cidr::parse(text) {
        Some(range) if range.prefix_bits() == 0 => {
            ledger.translated(option.span);
            None
        }
        Some(range) => {
            ledger.changed(option.span, "others get 403; the F5 does not answer them");
            Some(Sources { inside: true, ranges: vec![range] })
        }
        None => {
            ledger.opened(option.span, format!("{text:?} is no range of addresses"));
            None
        }
    }
}

/// Options that say nothing about requests.
fn other(option: &Node, ledger: &Ledger) {
    let (value, span) = (option.word(1), option.span);
    match option.word(0) {
        "destination" | "ip-protocol" | "mask" | "description" | "app-service" | "partition" | "enabled"
        | "creation-time" | "last-modified-time" => {
            ledger.translated(span);
        }
        "source-address-translation" | "snat" | "snatpool" => {
            let is_off = option.value("type").is_none() && option.block.is_some() || matches!(value, "none");
            let why = match is_off {
                true => "the service sees the edge's address, not the client's, which stands in X-Forwarded-For",
                false => "the service sees the address that the edge's host sends from, the kernel's choice",
            };
            ledger.changed(span, why);
        }
        "vlans" | "vlans-enabled" | "vlans-disabled" => ledger.dropped(
            span,
            "a listener has an address, and takes whoever reaches it: keep others out by the host's firewall",
        ),
        "translate-address" | "translate-port" if value == "enabled" => ledger.translated(span),
        "translate-address" | "translate-port" => {
            ledger.dropped(span, "a connection to a member goes to the member's address and port")
        }
        "serverssl-use-sni" if value == "disabled" => ledger.translated(span),
        "connection-limit" | "rate-limit" if matches!(value, "0" | "disabled") => ledger.translated(span),
        "connection-limit" => ledger.dropped(span, "`limits.connections` is the whole edge's"),
        "rate-limit" | "rate-limit-mode" | "rate-class" => {
            ledger.dropped(span, "rate-limiting counts requests; connections are not limited by time")
        }
        "fallback-persistence" if value == "none" => ledger.translated(span),
        "fallback-persistence" => {
            ledger.dropped(span, "an upstream has one way to hash, and `hash_fallback` where a value is missing")
        }
        "mirror" if value == "disabled" => ledger.translated(span),
        "mirror" => ledger.dropped(span, "connections are not mirrored to a second machine"),
        "last-hop-pool" | "auto-lasthop" | "source-port" | "nat64" | "address-status" | "gtm-score"
        | "serverssl-use-sni" => {
            ledger.dropped(span, "routing is the host's, and announcing addresses is its routing daemon's");
        }
        "security-log-profiles"
        | "fw-enforced-policy"
        | "fw-staged-policy"
        | "ip-intelligence-policy"
        | "per-flow-request-access-policy" => {
            ledger.opened(span, "a firewall or access policy of the F5: keep others out by the host's firewall, `[kernel] deny`, ip-restriction and openid-connect");
        }
        _ => {}
    }
}
