//! Every parameter that Kong documents is known, with its default and its type; none is accepted and then ignored.

use super::tests::parse_tree;
use crate::config::problem::Sink;
use crate::config::value::{Entry, Kind, Value};
use crate::plugin::PluginEnv;

/// All of them with their defaults, in two groups: those of APIs, and those of browsers and their sessions.
const DEFAULTS: &str =
    include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/openid_connect/defaults.yaml"));

/// The one default that is refused when it is written out: it would let in more than an API's clients.
const REFUSED: &str = "auth_methods";

/// Objects or lists of objects, whose members have tests of their own.
const RECORDS: [&str; 7] = [
    "client_jwk",
    "cluster_cache_redis",
    "downstream_headers",
    "principals",
    "proof_of_possession_mtls_from_header",
    "token_exchange",
    "upstream_headers",
];

fn entries(group: &str) -> Vec<Entry> {
    let tree = Value::from_yaml(DEFAULTS, &Sink::new("k")).expect("YAML");
    match tree.get(group).map(|group| group.kind.clone()) {
        Some(Kind::Object(entries)) => entries,
        _ => panic!("no {group}"),
    }
}

fn value(kind: Kind) -> Value {
    Value { line: 1, kind }
}

fn entry(key: &str, kind: Kind) -> Entry {
    Entry { key: key.to_owned(), line: 1, value: value(kind) }
}

/// Problems and warnings of a configuration of these parameters.
fn said(entries: Vec<Entry>) -> (Vec<String>, Vec<String>) {
    let (plugin, problems, warnings) = parse_tree(&value(Kind::Object(entries)), &PluginEnv::default());
    assert_eq!(plugin.is_some(), problems.is_empty());
    (problems, warnings)
}

/// The same of one parameter beside the issuer.
fn alone(key: &str, kind: Kind) -> Vec<String> {
    let issuer = (key != "issuer").then(|| entry("issuer", Kind::String("https://issuer.example".to_owned())));
    said(issuer.into_iter().chain([entry(key, kind)]).collect()).0
}

#[test]
fn a_dump_with_every_default_loads() {
    // A6
    let (api, browser) = (entries("api"), entries("browser"));
    assert_eq!((api.len(), browser.len()), (160, 74));
    let (refused, taken): (Vec<_>, Vec<_>) = api.into_iter().chain(browser).partition(|entry| entry.key == REFUSED);
    let (problems, warnings) = said(taken);
    assert_eq!(problems, [""; 0]);
    // Kong looks for tokens in URLs by default: where a dump says so the edge does too, and says what it thinks of that.
    assert!(warnings.len() == 1 && warnings[0].contains("config.bearer_token_param_type: "), "{warnings:?}");
    let problems = alone(REFUSED, refused[0].value.kind.clone());
    // Its other methods are served, once something says where a refresh token is.
    assert_eq!(problems.len(), 4, "{problems:?}");
    assert!(problems[3].contains("config.refresh_token_param_name: found nothing, with the method"), "{problems:?}");
    for method in ["authorization_code", "session", "kong_oauth2"] {
        let found = format!("config.auth_methods: found \"{method}\", expected bearer or introspection: ");
        assert!(problems.iter().any(|problem| problem.contains(&found)), "{problems:?}");
    }
}

#[test]
fn another_value_for_browsers_is_refused_with_what_to_use_instead() {
    // A6
    let other = |default: &Kind| match default {
        Kind::Bool(value) => Kind::Bool(!value),
        Kind::Integer(number) => Kind::Integer(number + 1),
        Kind::Array(_) => Kind::Array(vec![value(Kind::String("other".to_owned()))]),
        _ => Kind::String("other".to_owned()),
    };
    for Entry { key, value: default, .. } in entries("browser") {
        if key == "redis" {
            // Where the default of `session_storage` stands, which does not look at it: as with Kong.
            assert_eq!(alone(&key, Kind::Object(vec![entry("host", Kind::String("other".to_owned()))])), [""; 0]);
            continue;
        }
        let problems = alone(&key, other(&default.kind));
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
        let place = format!("config.{key}: found ");
        let instead = "; instead: an application that logs browsers in";
        assert!(problems[0].contains(&place) && problems[0].contains(instead), "{problems:?}");
    }
}

#[test]
fn what_an_api_edge_does_not_honour_is_refused_with_what_to_use_instead() {
    // A6
    let text = || Kind::String("other".to_owned());
    for (key, other, instead) in [
        ("refresh_tokens", Kind::Bool(false), "by the credential that the request brings"),
        ("verify_parameters", Kind::Bool(true), "`edge doctor`"),
        ("resolve_distributed_claims", Kind::Bool(true), "the edge follows no URL that a token names"),
        ("revocation_endpoint", text(), "the issuer's own logout"),
        ("revocation_endpoint_auth_method", text(), "the issuer's own logout"),
        ("revocation_token_param_name", text(), "the issuer's own logout"),
        ("mtls_revocation_endpoint", text(), "the issuer's own logout"),
        ("principals", Kind::Object(vec![entry("enabled", Kind::Bool(true))]), "consumers: principals live"),
    ] {
        let problems = alone(key, other);
        assert_eq!(problems.len(), 1, "{key}: {problems:?}");
        assert!(problems[0].contains(&format!("config.{key}")) && problems[0].contains(instead), "{problems:?}");
    }
}

#[test]
fn a_value_of_another_type_is_refused_by_name() {
    // A6, A7
    for Entry { key, .. } in entries("api") {
        let wrong = match RECORDS.contains(&key.as_str()) {
            true => Kind::Integer(7),
            false => Kind::Object(vec![entry("a", Kind::Integer(1))]),
        };
        let problems = alone(&key, wrong);
        let place = format!("config.{key}: found ");
        assert!(problems.iter().any(|problem| problem.contains(&place)), "{key}: {problems:?}");
        assert!(!problems.iter().any(|problem| problem.contains("unknown field")), "{problems:?}");
    }
}
