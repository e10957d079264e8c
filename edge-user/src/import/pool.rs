//! Pools with their members and monitors → upstreams with targets and health checks.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::bigip::Node;
use super::ledger::{Ledger, Span};
use super::model::{Model, Object, is_built_in};
use super::output::Entity;
use crate::router::{HostPattern, is_host_name};

/// How requests of one client stay with one member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Persist {
    /// By a cookie of this name.
    Cookie(String),
    /// By the client's address.
    Address,
}

/// A name that upstreams, services and routes can bear: of the object's own, without what they cannot.
pub(super) fn plain_name(name: &str) -> String {
    let name = name.strip_prefix("/Common/").unwrap_or(name);
    let plain: String =
        name.chars().map(|char| if char.is_ascii_alphanumeric() { char.to_ascii_lowercase() } else { '-' }).collect();
    let mut short = plain.trim_matches('-').to_owned();
    short.truncate(60);
    match short.trim_matches('-') {
        "" => "unnamed".to_owned(),
        // A name of digits alone could be taken for an address.
        rest if rest.bytes().all(|byte| byte.is_ascii_digit()) => format!("n{rest}"),
        rest => rest.to_owned(),
    }
}

/// The port that a number or a service's name means.
pub(super) fn port(text: &str) -> Option<u16> {
    const NAMES: [(&str, u16); 14] = [
        ("any", 0),
        ("domain", 53),
        ("ftp", 21),
        ("http", 80),
        ("http-alt", 8080),
        ("https", 443),
        ("ldap", 389),
        ("ldaps", 636),
        ("mysql", 3306),
        ("pcsync-https", 8443),
        ("postgresql", 5432),
        ("smtp", 25),
        ("ssh", 22),
        ("webcache", 8080),
    ];
    NAMES.iter().find(|(name, _)| *name == text).map(|(_, port)| *port).or_else(|| text.parse().ok())
}

/// Name or address, and port, of `/Common/name:80` and `2001:db8::1.80`.
pub(super) fn address_and_port(text: &str) -> Option<(&str, u16)> {
    let text = text.rsplit('/').next()?;
    // An IPv6 address has colons of its own, and a dot before its port.
    let (host, digits) = match text.matches(':').count() > 1 {
        true => text.rsplit_once('.')?,
        false => text.rsplit_once(':').or_else(|| text.rsplit_once('.'))?,
    };
    Some((host, port(digits)?))
}

/// Translates a pool; its members' ports are added to `ports`.
pub(super) fn translate(
    pool: &Object,
    persist: Option<&Persist>,
    name: &str,
    ports: &mut BTreeSet<u16>,
    model: &Model,
    ledger: &Ledger,
) -> Entity {
    pool.mark();
    let mode = pool.node.value("load-balancing-mode");
    let mut members = vec![("name", json!(name))];
    match persist {
        Some(Persist::Cookie(cookie)) => {
            members.extend([
                ("algorithm", json!("consistent-hashing")),
                ("hash_on", json!("cookie")),
                ("hash_on_cookie", json!(cookie)),
            ]);
        }
        Some(Persist::Address) => {
            members.extend([("algorithm", json!("consistent-hashing")), ("hash_on", json!("ip"))])
        }
        None => {}
    }
    let algorithm = mode.map_or("round-robin", |(mode, span)| algorithm(mode, span, ledger));
    if persist.is_none() && algorithm != "round-robin" {
        members.push(("algorithm", json!(algorithm)));
    }
    let is_by_ratio = mode.is_some_and(|(mode, _)| mode.starts_with("ratio") || mode.contains("weighted"));
    let targets = targets(pool, is_by_ratio, ports, model, ledger);
    if let Some(checks) = checks(pool, model, ledger) {
        members.push(("healthchecks", json!({"active": checks})));
    }
    members.push(("targets", Value::Array(targets)));
    for node in pool.node.children() {
        match node.word(0) {
            "members" => ledger.translated(node.span.head()),
            "description" | "app-service" | "partition" => ledger.translated(node.span),
            "min-active-members" if matches!(node.word(1), "0" | "1") => ledger.translated(node.span),
            "min-active-members" => ledger.dropped(node.span, "an upstream has no groups of members by priority"),
            "slow-ramp-time" => ledger.dropped(node.span, "a member that comes back gets its share at once"),
            "service-down-action" | "reselect-tries" => ledger.changed(
                node.span,
                "`retries` of the service: other members are tried where nothing was sent or a request may be repeated",
            ),
            _ => {}
        }
    }
    Entity { comment: format!("{} ({})", pool.label(), ledger.place(pool.node.span)), members }
}

fn algorithm(mode: &str, span: Span, ledger: &Ledger) -> &'static str {
    match mode {
        "round-robin" | "ratio-member" => ledger.translated(span),
        "least-connections-member" => {
            ledger
                .changed(span, "each worker counts for the whole edge; what other clients of a member do is not seen");
            return "least-connections";
        }
        "least-connections-node"
        | "least-sessions"
        | "weighted-least-connections-member"
        | "weighted-least-connections-node"
        | "observed-member"
        | "observed-node"
        | "predictive-member"
        | "predictive-node" => {
            ledger.changed(span, "least-connections, by member and weight");
            return "least-connections";
        }
        "fastest-node" | "fastest-app-response" => {
            ledger.changed(span, "latency: the moving average of answers' times");
            return "latency";
        }
        "ratio-node"
        | "ratio-session"
        | "dynamic-ratio-member"
        | "dynamic-ratio-node"
        | "ratio-least-connections-member"
        | "ratio-least-connections-node" => {
            ledger.changed(span, "round-robin by the members' ratios");
        }
        _ => ledger.dropped(
            span,
            "the edge has round-robin, least-connections, latency and consistent-hashing; round-robin stands",
        ),
    }
    "round-robin"
}

fn targets(pool: &Object, is_by_ratio: bool, ports: &mut BTreeSet<u16>, model: &Model, ledger: &Ledger) -> Vec<Value> {
    let members: Vec<&Node> = pool.node.child("members").into_iter().flat_map(Node::children).collect();
    let group = |node: &Node| node.value("priority-group").and_then(|(text, _)| text.parse::<u32>().ok()).unwrap_or(0);
    let best = members.iter().map(|node| group(node)).max().unwrap_or(0);
    let (mut targets, mut taken) = (Vec::new(), HashSet::new());
    for member in members {
        let is_down = |node: &Node| {
            node.value("session").is_some_and(|(word, _)| word == "user-disabled")
                || node.value("state").is_some_and(|(word, _)| word == "user-down")
        };
        let Some((name, port)) = address_and_port(member.word(0)) else {
            ledger.dropped(member.span, "a member without an address and port");
            continue;
        };
        let node =
            model.find("ltm node", member.word(0).rsplit_once(':').map_or(name, |(name, _)| name), pool.folder());
        if let Some(node) = node {
            node.mark();
            claim_node(node, ledger);
        }
        let named = |node: &Node| {
            let of = |node: &Node, key| node.value(key).map(|(text, _)| text.to_owned());
            of(node, "address").filter(|text| text != "any6").or_else(|| of(node.child("fqdn")?, "name"))
        };
        let host = named(member).or_else(|| named(&node?.node)).unwrap_or_else(|| name.to_owned());
        let host = host.split('%').next().unwrap_or_default().to_owned();
        if port == 0 {
            ledger.dropped(member.span, "a member of all ports: a target has one");
            continue;
        }
        let target = match host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{port}"),
            Ok(address) => format!("{address}:{port}"),
            Err(_) if is_host_name(&host) => format!("{}:{port}", host.to_ascii_lowercase()),
            Err(_) => {
                ledger.dropped(member.span, format!("{host:?} is neither an address nor a host name"));
                continue;
            }
        };
        let ratio = member.value("ratio").and_then(|(text, _)| text.parse::<u32>().ok()).unwrap_or(1);
        let mut weight = if is_by_ratio { ratio.clamp(1, 65535) } else { 100 };
        for option in member.children() {
            match option.word(0) {
                "ratio" if is_by_ratio || ratio == 1 => ledger.translated(option.span),
                "ratio" => {
                    ledger.changed(option.span, "the pool's mode does not look at it, and neither does the edge")
                }
                "address" | "fqdn" | "description" | "app-service" => ledger.translated(option.span),
                "session" | "state" if option.word(1) != "user-disabled" && option.word(1) != "user-down" => {
                    ledger.translated(option.span)
                }
                "session" | "state" => ledger.translated(option.span),
                "priority-group" if group(member) == best => ledger.translated(option.span),
                "connection-limit" | "rate-limit" if matches!(option.word(1), "0" | "disabled") => {
                    ledger.translated(option.span)
                }
                "connection-limit" | "rate-limit" => ledger.dropped(option.span, "the edge limits no single member"),
                "monitor" => ledger.dropped(option.span, "health checks are an upstream's, not a single member's"),
                _ => {}
            }
        }
        if is_down(member) || node.is_some_and(|node| is_down(&node.node)) {
            weight = 0;
        } else if group(member) < best {
            ledger.changed(
                member.span,
                "an upstream has no groups by priority: the member has weight 0, and serves when somebody raises it",
            );
            weight = 0;
        }
        ledger.translated(member.span.head());
        ports.insert(port);
        if taken.insert(target.clone()) {
            targets.push(json!({"target": target, "weight": weight}));
        } else {
            ledger.changed(member.span, "another member has this address and port: one target stands for both");
        }
    }
    targets
}

fn claim_node(node: &Object, ledger: &Ledger) {
    ledger.translated(node.node.span.head());
    for option in node.node.children() {
        match option.word(0) {
            "address" | "fqdn" | "description" | "session" | "state" | "app-service" => ledger.translated(option.span),
            "monitor" => ledger.dropped(option.span, "health checks are an upstream's, not a node's"),
            "ratio" | "connection-limit" | "rate-limit" => {
                ledger.dropped(option.span, "a weight or limit is a target's, not a node's")
            }
            _ => {}
        }
    }
}

/// The active health checks of the first monitor that the edge can do.
fn checks(pool: &Object, model: &Model, ledger: &Ledger) -> Option<Value> {
    let node = pool.node.child("monitor")?;
    let span = node.span;
    let names: Vec<&str> = node.words[1..]
        .iter()
        .map(String::as_str)
        .filter(|word| !matches!(*word, "and" | "min" | "of" | "none") && word.parse::<u32>().is_err())
        .collect();
    let names: Vec<&str> = if names.is_empty() { node.names().map(|(name, _)| name).collect() } else { names };
    let mut found = None;
    for name in &names {
        let object = model.find_any("ltm monitor ", name, pool.folder());
        let kind = match object {
            Some(object) => object.kind.trim_start_matches("ltm monitor ").to_owned(),
            None if is_built_in(name) => name.rsplit('/').next().unwrap_or_default().to_owned(),
            None => {
                ledger.dropped(span, format!("the monitor {name} is in none of the files"));
                continue;
            }
        };
        let probe = match kind.as_str() {
            "http" | "http_head_f5" => "http",
            "https" | "https_443" => "https",
            "tcp" | "tcp_half_open" | "tcp-half-open" => "tcp",
            other => {
                ledger.dropped(
                    span,
                    format!("a monitor of the kind {other}: the edge checks by http, https, tcp and grpc"),
                );
                if let Some(object) = object {
                    object.mark();
                    ledger.dropped(
                        object.node.span,
                        format!("a monitor of the kind {other}: the edge checks by http, https, tcp and grpc"),
                    );
                }
                continue;
            }
        };
        if let Some(object) = object {
            object.mark();
        }
        if found.is_some() {
            ledger.changed(span, "an upstream has one active check: the first monitor");
            continue;
        }
        found = Some(check(probe, object, model, ledger));
    }
    if found.is_some() {
        ledger.translated(span);
    }
    found
}

fn check(probe: &str, monitor: Option<&Object>, model: &Model, ledger: &Ledger) -> Value {
    let options = monitor.map(|monitor| model.options(monitor, ledger));
    let number = |key: &str, default: u64| {
        let found = options.as_ref().and_then(|options| options.number(key));
        found.map_or(default, |(number, _)| number)
    };
    let interval = number("interval", 5).clamp(1, 3600);
    let timeout = number("timeout", 16).max(1);
    let failures = timeout.div_ceil(interval).clamp(1, 255);
    let mut active = Map::new();
    active.insert("type".into(), probe.into());
    active.insert("timeout".into(), interval.into());
    let mut healthy = json!({"interval": interval, "successes": 1});
    let mut unhealthy = json!({"interval": interval, "tcp_failures": failures, "timeouts": failures});
    if probe != "tcp" {
        unhealthy["http_failures"] = failures.into();
    }
    if probe == "https" {
        // As the F5 does: it asks whether a member answers, not who it is.
        active.insert("https_verify_certificate".into(), false.into());
    }
    for option in options.iter().flat_map(|options| options.nodes()) {
        let (span, value) = (option.span, option.word(1));
        match option.word(0) {
            "interval" => ledger.translated(span),
            "timeout" => {
                ledger.changed(span, format!("down after {failures} failures in a row, one every {interval} s"))
            }
            "send" if probe == "tcp" => ledger.dropped(span, "a tcp check connects, and sends nothing"),
            "send" => match sent(value) {
                Some((path, host)) => {
                    active.insert("http_path".into(), path.into());
                    if let Some(host) = host {
                        active.insert("headers".into(), json!({"Host": [host]}));
                    }
                    ledger.changed(span, "a GET with HTTP/1.1 of this path and Host; other fields are the edge's");
                }
                None => ledger.dropped(span, "no GET of a path: `/` is asked for"),
            },
            "recv" if value == "none" => ledger.translated(span),
            "recv" => match value
                .split_whitespace()
                .find_map(|word| word.parse::<u16>().ok().filter(|code| (100..=599).contains(code)))
            {
                Some(code) if value.len() < 40 => {
                    healthy["http_statuses"] = json!([code]);
                    ledger.changed(span, format!("an answer with status {code} is healthy; no body is read"));
                }
                _ => {
                    ledger.dropped(span, "bodies of checks are not read: the status decides (200 and 302 are healthy)")
                }
            },
            "recv-disable" if value == "none" => ledger.translated(span),
            "recv-disable" => {
                ledger.dropped(span, "a member is healthy or not, and never healthy for old clients alone")
            }
            "destination" if matches!(value, "*:*" | "*.*") => ledger.translated(span),
            "destination" => ledger.dropped(span, "a member is checked at its own address and port"),
            "username" | "password" => ledger.dropped(span, "checks carry no credentials"),
            "defaults-from" | "description" | "app-service" | "ip-dscp" => ledger.translated(span),
            "up-interval" | "time-until-up" | "manual-resume" | "reverse" | "transparent" | "adaptive"
                if matches!(value, "0" | "disabled") =>
            {
                ledger.translated(span)
            }
            _ => {}
        }
    }
    if let Some(monitor) = monitor {
        ledger.translated(monitor.node.span.head());
    }
    active.insert("healthy".into(), healthy);
    active.insert("unhealthy".into(), unhealthy);
    Value::Object(active)
}

/// Path and host of what a monitor sends.
fn sent(text: &str) -> Option<(String, Option<String>)> {
    let text = text.replace("\\r", "\r").replace("\\n", "\n");
    let mut lines = text.lines().map(str::trim);
    let mut words = lines.next()?.split_whitespace();
    let (method, path) = (words.next()?, words.next()?);
    let is_path = path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic());
    let host = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("host")
            .then(|| value.trim().to_owned())
            .filter(|host| HostPattern::parse(host).is_some())
    });
    (matches!(method, "GET" | "HEAD") && is_path).then(|| (path.to_owned(), host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_ports_and_names_are_read() {
        for (text, expected) in [
            ("/Common/192.0.2.1:80", Some(("192.0.2.1", 80))),
            ("/Common/node-1:http", Some(("node-1", 80))),
            ("/Common/2001:db8::1.443", Some(("2001:db8::1", 443))),
            ("192.0.2.1:any", Some(("192.0.2.1", 0))),
            ("/Common/x", None),
            ("x:nothing", None),
        ] {
            assert_eq!(address_and_port(text), expected, "{text}");
        }
        for (name, expected) in [
            ("/Common/pool_Orders.v1", "pool-orders-v1"),
            ("/Shop/pool", "shop-pool"),
            ("/Common/--", "unnamed"),
            ("/Common/192.0.2.1", "192-0-2-1"),
            ("/Common/80", "n80"),
        ] {
            assert_eq!(plain_name(name), expected);
        }
    }

    #[test]
    fn members_of_one_host_are_one_target_however_it_is_written() {
        let text = "ltm pool p {\n members {\n app.example.com:80 { fqdn { autopopulate enabled } }\n\
                    App.Example.com:80 { fqdn { autopopulate enabled } }\n }\n}\n\
                    ltm virtual v {\n destination 192.0.2.1:80\n pool p\n profiles { http { } }\n}\n";
        let translation = super::super::f5(&[super::super::Input { name: "bigip.conf".into(), text: text.into() }]);
        let entities = translation.files.iter().find(|file| file.path.ends_with("kong.yaml")).unwrap();
        assert_eq!(entities.text.matches("app.example.com:80").count(), 1, "{}", entities.text);
        assert!(!entities.text.contains("App."), "{}", entities.text);
        let told = translation.report.to_string();
        assert!(told.contains("one target stands for both"), "{told}");
    }

    #[test]
    fn monitors_send_a_path_and_a_host() {
        for (text, expected) in [
            ("GET /health HTTP/1.1\\r\\nHost: a.example.com\\r\\n\\r\\n", Some(("/health", Some("a.example.com")))),
            ("GET /\\r\\n", Some(("/", None))),
            ("POST /x", None),
            ("hello", None),
            ("", None),
        ] {
            let expected =
                expected.map(|(path, host): (&str, Option<&str>)| (path.to_owned(), host.map(str::to_owned)));
            assert_eq!(sent(text), expected, "{text}");
        }
    }
}
