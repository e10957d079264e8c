use super::super::super::OpenidConnect;
use super::*;
use crate::config::problem::Sink;
use crate::config::value::Value;
use crate::plugin::Place;

const ISSUER: &str = "issuer: 'https://a.example', client_id: c, client_secret: s";

fn parse(yaml: &str) -> (Option<OpenidConnect>, Vec<String>, Vec<String>) {
    let (sink, env) = (Sink::new("k"), PluginEnv::default());
    let value = Value::from_yaml(yaml, &sink).expect("YAML");
    let reader = Reader::new(&value, "config", &sink);
    let plugin = reader.and_then(|reader| OpenidConnect::parse(reader, &Place::default(), &env));
    let (problems, warnings) = sink.into_parts();
    (plugin, problems.iter().map(ToString::to_string).collect(), warnings)
}

/// The one problem of a configuration has this part; an empty one is none.
fn check(more: &str, expected: &str) {
    let (_, problems, _) = parse(&format!("{{{ISSUER}, {more}}}"));
    let found = problems.join("\n");
    assert_eq!(problems.is_empty(), expected.is_empty(), "{more}: {found}");
    assert!(found.contains(expected), "{more}: {found}");
}

fn exchange(record: &str) -> String {
    format!("auth_methods: [bearer], token_exchange: {{{record}}}")
}

fn flows(more: &str) -> Flows {
    let (plugin, problems, _) = parse(&format!("{{{ISSUER}, {more}}}"));
    plugin.unwrap_or_else(|| panic!("{more}: {problems:?}")).flows
}

#[test]
fn grants_name_what_they_need() {
    // A6, A7
    for (more, expected) in [
        ("auth_methods: [client_credentials]", ""),
        ("auth_methods: [password]", ""),
        ("auth_methods: [refresh_token]", "config.refresh_token_param_name: found nothing, with the method"),
        ("auth_methods: [refresh_token], refresh_token_param_name: r", ""),
        ("auth_methods: [password], password_param_type: []", "config.password_param_type: found an empty list"),
        ("client_credentials_param_type: [cookie]", "expected one of: header, query, body"),
        ("id_token_param_type: [body, header]", ""),
        ("id_token_param_type: []", "config.id_token_param_type: found an empty list"),
        ("refresh_token_param_type: []", "config.refresh_token_param_type: found an empty list"),
        ("ignore_signature: [bearer]", "config.ignore_signature"),
        ("token_endpoint: 'http://a.example/t'", "is not https"),
        ("token_endpoint: 'https://a.example/t'", ""),
        ("cache_tokens: maybe", "config.cache_tokens"),
        ("token_post_args_client: [client_secret]", "an argument that the edge does not send itself"),
    ] {
        check(more, expected);
    }
    assert!(flows("auth_methods: [bearer]").grants.is_none());
    let (_, _, warnings) = parse(&format!("{{{ISSUER}, auth_methods: [password], ignore_signature: [password]}}"));
    assert!(warnings.iter().any(|warning| warning.contains("ignore_signature")), "{warnings:?}");
}

#[test]
fn a_pseudo_issuer_names_its_endpoints() {
    let pseudo = "using_pseudo_issuer: true, jwks_endpoint: 'https://a.example/j'";
    for (more, endpoint) in [
        ("auth_methods: [client_credentials]", "token_endpoint"),
        (
            "auth_methods: [bearer], token_exchange: {subject_token_issuers: [{issuer: 'https://b.example'}]}",
            "token_endpoint",
        ),
        ("auth_methods: [bearer], search_user_info: true", "userinfo_endpoint"),
        ("auth_methods: [bearer], upstream_user_info_header: X-U", "userinfo_endpoint"),
        ("auth_methods: [bearer], downstream_user_info_jwt_header: X-U", "userinfo_endpoint"),
        ("auth_methods: [userinfo]", "userinfo_endpoint"),
    ] {
        check(&format!("{pseudo}, {more}"), &format!("`{endpoint}`: a pseudo issuer is not asked"));
        check(&format!("{pseudo}, {more}, {endpoint}: 'https://a.example/e'"), "");
    }
    check(&format!("{pseudo}, auth_methods: [bearer]"), "");
}

#[test]
fn exchanges_say_whose_tokens_and_when() {
    for (record, expected) in [
        ("", "at least one issuer"),
        ("subject_token_issuers: []", "at least one issuer"),
        ("subject_token_issuers: [{}]", "the issuer, as its tokens name it"),
        ("subject_token_issuers: [{issuer: 'https://b.example'}]", ""),
        ("subject_token_issuers: [{issuer: 'https://b.example', verify_signatures: true}]", "an unknown field"),
        ("subject_token_issuers: [{issuer: 'https://b.example', conditions: {has_scopes: [a]}}]", "always exchanged"),
        ("subject_token_issuers: [{issuer: 'https://b.example', conditions: {has_scopes: []}}]", ""),
        ("subject_token_issuers: [{issuer: 'https://b.example', conditions: {has_scope: [a]}}]", "an unknown field"),
        ("subject_token_issuers: [{issuer: 'https://a.example'}]", "exchanged only where they hold"),
        ("subject_token_issuers: [{issuer: 'https://a.example/'}]", "exchanged only where they hold"),
        ("subject_token_issuers: [{issuer: 'https://a.example', conditions: {}}]", "exchanged only where they hold"),
        ("subject_token_issuers: [{issuer: 'https://a.example', conditions: {missing_audience: [a]}}]", ""),
        (
            "subject_token_issuers: [{issuer: 'https://b.example', jwks_uri: 'https://b.example/j'}]",
            "nothing is verified",
        ),
        (
            "subject_token_issuers: [{issuer: 'https://b.example', verify_signature: true, jwks_uri: 'https://b.example/j'}]",
            "",
        ),
        (
            "subject_token_issuers: [{issuer: 'https://b.example', verify_signature: true, jwks_uri: 'http://b.example/j'}]",
            "jwks_uri: found",
        ),
        ("subject_token_issuers: [{issuer: 'http://b.example', verify_signature: true}]", "is not https"),
        ("subject_token_issuers: [{issuer: 'http://b.example'}]", ""),
    ] {
        check(&exchange(record), expected);
    }
    let foreign = "subject_token_issuers: [{issuer: 'https://b.example'}]";
    for (record, expected) in [
        ("request: {scopes: [a], empty_scopes: true}", "empty_scopes: found true beside `scopes`"),
        ("request: {audience: [a], empty_audience: true}", "empty_audience: found true beside `audience`"),
        ("request: {scopes: [a], audience: [b]}", ""),
        ("request: {resource: a}", "an unknown field"),
        ("cache: {ttl: -1}", "ttl"),
        ("cache: {enabled: false, ttl: 5}", ""),
        ("cache: {lifetime: 5}", "an unknown field"),
    ] {
        check(&exchange(&format!("{foreign}, {record}")), expected);
    }
    check(&format!("auth_methods: [client_credentials], token_exchange: {{{foreign}}}"), "bearer in `auth_methods`");
    check("token_exchange_endpoint: 'http://a.example/x'", "is not https");
}

#[test]
fn exchanges_ask_and_keep_as_they_are_told() {
    let foreign = "subject_token_issuers: [{issuer: 'https://b.example'}]";
    let read = |record: &str| flows(&exchange(&format!("{foreign}, {record}"))).exchange.expect("an exchange");
    let these = |list: &[&str]| Wanted::These(list.iter().copied().map(Box::from).collect());
    for (record, scopes, audience) in [
        ("request: {}", Wanted::Configured, Wanted::Configured),
        ("request: {scopes: [a, b], audience: c}", these(&["a", "b"]), these(&["c"])),
        ("request: {scopes: [], empty_audience: true}", Wanted::Configured, these(&[])),
        ("request: {empty_scopes: true}", these(&[]), Wanted::Configured),
    ] {
        let exchange = read(record);
        assert_eq!((exchange.scopes, exchange.audience), (scopes, audience), "{record}");
    }
    let secs = Duration::from_secs;
    for (record, left, expected) in [
        ("cache: {}", Some(secs(9000)), Some(secs(9000))),
        ("cache: {}", None, Some(secs(3600))),
        // The shorter of both.
        ("cache: {ttl: 60}", Some(secs(9000)), Some(secs(60))),
        ("cache: {ttl: 60}", Some(secs(5)), Some(secs(5))),
        ("cache: {ttl: 60}", None, Some(secs(60))),
        ("cache: {enabled: false, ttl: 60}", None, None),
    ] {
        let kept = match read(record).tokens.keep {
            Keep::For(lifetimes) => Some(lifetimes.of(left)),
            Keep::Nothing => None,
        };
        assert_eq!(kept, expected, "{record} {left:?}");
    }
}

#[test]
fn id_tokens_are_for_a_client() {
    check("id_token_param_name: X-Id-Token", "");
    let (_, problems, _) = parse("{issuer: 'https://a.example', id_token_param_name: X-Id-Token}");
    assert!(problems.concat().contains("ID tokens without `client_id`"), "{problems:?}");
    assert!(flows("auth_methods: [bearer], upstream_id_token_header: X-Id").id_tokens.is_none(), "nobody sends one");
    assert!(flows("auth_methods: [password], upstream_id_token_header: X-Id").id_tokens.is_some());
}
