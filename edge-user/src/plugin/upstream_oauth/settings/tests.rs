use super::*;
use crate::config::testing;
use crate::crypto::seal::SecretsKey;

const OAUTH: &str = "oauth: {token_endpoint: 'https://idp.example/token', client_id: edge, client_secret: hush}";

/// The plugin's `config` on a node with a secrets key.
fn read(yaml: &str) -> (Option<UpstreamOauth>, Vec<String>, Vec<String>) {
    let key = SecretsKey::from_text(&"5".repeat(64)).expect("a key");
    read_with(yaml, &PluginEnv::default().with_secrets(Some(&key)))
}

fn read_with(yaml: &str, env: &PluginEnv) -> (Option<UpstreamOauth>, Vec<String>, Vec<String>) {
    let yaml = format!("{{c: {yaml}}}");
    let parsed = |config: &mut Reader<'_>| parse(config.object("c").expect("an object"), &Place::default(), env);
    let (plugin, problems, warnings) = testing::read("", &yaml, parsed);
    assert_eq!(plugin.is_some(), problems.is_empty(), "{yaml}: {problems:?}");
    (plugin, problems, warnings)
}

fn good(yaml: &str) -> UpstreamOauth {
    read(yaml).0.unwrap_or_else(|| panic!("{yaml}: {:?}", read(yaml).1))
}

/// The client's answer as text.
fn failure(plugin: &UpstreamOauth) -> (u16, &str, &str) {
    (plugin.failure.status, &plugin.failure.content_type, &plugin.failure.body)
}

#[test]
fn defaults_are_kongs() {
    let plugin = good(&format!("{{{OAUTH}}}"));
    assert!(matches!(plugin.header, Header::Authorization));
    assert_eq!((&*plugin.purges_on, plugin.retries), (&[401][..], true));
    let body = r#"{ "code": "502", "message": "Failed to authenticate request to upstream" }"#;
    assert_eq!(failure(&plugin), (502, "application/json; charset=utf-8", body));
}

#[test]
fn behaviour_is_as_configured() {
    let plugin = good(&format!(
        "{{{OAUTH}, behavior: {{idp_error_response_status_code: 503, idp_error_response_content_type: text/plain, \
         idp_error_response_message: 'no {{{{status}}}}', idp_error_response_body_template: '{{{{message}}}}: {{{{status}}}} {{{{x}}}} {{', \
         purge_token_on_upstream_status_codes: [], retry_on_purge: false, \
         upstream_access_token_header_name: X-Upstream-Token}}}}"
    ));
    // A text that looks like a place is none.
    assert_eq!(failure(&plugin), (503, "text/plain", "no {{status}}: 503 {{x}} {"));
    assert!(plugin.purges_on.is_empty() && !plugin.retries);
    assert_eq!(plugin.owned_names().concat(), "x-upstream-token");
    let plugin = good(&format!("{{{OAUTH}, behavior: {{upstream_access_token_header_name: authorization}}}}"));
    assert!(matches!(plugin.header, Header::Authorization) && plugin.owned_names().is_empty());
}

#[test]
fn what_is_wrong_is_said_by_name_and_without_secrets() {
    // A6, A7, L1
    let with = |more: &str| format!("{{{OAUTH}, {more}}}");
    for (yaml, part) in [
        ("{}".to_owned(), "c.oauth: found nothing"),
        ("{oauth: hush}".to_owned(), "c.oauth: found"),
        ("{oauth: {client_id: edge, client_secret: hush}}".to_owned(), "c.oauth.token_endpoint: found nothing"),
        (with("cach: {}"), "c.cach: found an unknown field, expected `cache`"),
        (with("client: {keepalive: true}"), "c.client.keepalive: found an unknown field, expected `keep_alive`"),
        (with("client: {timeout: 0}"), "c.client.timeout: found 0"),
        (with("client: {http_version: 2}"), "c.client.http_version"),
        (with("client: {http_proxy_authorization: Basic hush}"), "c.client.http_proxy_authorization: found no proxy"),
        (with("client: {tls_client_certificate: id}"), "with another `auth_method` than tls_client_auth"),
        (with("client: {auth_method: tls_client_auth}"), "c.client.tls_client_certificate: found nothing"),
        (
            with("client: {auth_method: tls_client_auth, tls_client_certificate: id}"),
            "found \"id\", expected the id of a certificate",
        ),
        (with("cache: {strategy: serverless}"), "one of: memory, redis"),
        (with("cache: {eagerly_expire: -1}"), "c.cache.eagerly_expire"),
        (with("cache: {memory: {size: 1}}"), "c.cache.memory.size: found an unknown field"),
        (
            with("cache: {strategy: redis, redis: {cluster_nodes: [{}], database: 1}}"),
            "c.cache.redis.database: found 1",
        ),
        (with("cache: {strategy: redis, redis: {cloud_authentication: {auth_provider: aws}}}"), "not supported"),
        (with("behavior: {upstream_access_token_header_name: Host}"), "the edge writes this header itself"),
        (
            with("behavior: {upstream_access_token_header_name: Transfer-Encoding}"),
            "the edge writes this header itself",
        ),
        (with("behavior: {upstream_access_token_header_name: 'a b'}"), "a header name"),
        (
            with("behavior: {purge_token_on_upstream_status_codes: [99]}"),
            "purge_token_on_upstream_status_codes[0]: found 99",
        ),
        (with("behavior: {idp_error_response_status_code: 499}"), "found 499"),
        (with("behavior: {idp_error_response_content_type: \"a\\nb\"}"), "a media type"),
        (with("behavior: {retry_on_purge: 1}"), "c.behavior.retry_on_purge"),
    ] {
        let (_, problems, _) = read(&yaml);
        assert_eq!(problems.len(), 1, "{yaml}: {problems:?}");
        assert!(problems[0].contains(part) && !problems[0].contains("hush"), "{yaml}: {problems:?}");
    }
}

#[test]
fn redis_is_used_under_the_nodes_key_and_looked_at_only_then() {
    let redis = |strategy: &str| {
        format!("{{{OAUTH}, cache: {{strategy: {strategy}, redis: {{connection_is_proxied: true}}}}}}")
    };
    assert_eq!(read(&redis("memory")).1, [""; 0]);
    assert_eq!(read(&redis("redis")).1.len(), 1);
    let shared = format!("{{{OAUTH}, cache: {{strategy: redis}}}}");
    good(&shared);
    let (_, problems, _) = read_with(&shared, &PluginEnv::default());
    let expected = "c.cache.strategy: found redis without a secrets key of this node, expected memory, or a key";
    assert!(problems.len() == 1 && problems[0].contains(expected), "{problems:?}");
}

#[test]
fn a_secret_that_is_not_sent_and_a_check_that_is_off_are_said() {
    let (_, _, warnings) = read(&format!("{{{OAUTH}, client: {{ssl_verify: false, auth_method: none}}}}"));
    assert_eq!(warnings.len(), 2, "{warnings:?}");
    assert!(warnings.iter().any(|warning| warning.contains("client.ssl_verify")), "{warnings:?}");
}
