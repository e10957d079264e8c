//! Kong's parameters that this edge knows and does not honour: each is accepted with the value it has by default, because
//! dumps of real configurations write defaults out, and refused by name with any other, saying what to use instead.

use crate::config::reader::Reader;

/// Names with their defaults as JSON, and what to use instead of another value.
type Inert = (&'static [(&'static str, &'static str)], &'static str);

/// Logins of browsers and their sessions.
const BROWSER: &[(&str, &str)] = &[
    ("authorization_cookie_domain", "null"),
    ("authorization_cookie_http_only", "true"),
    ("authorization_cookie_name", r#""authorization""#),
    ("authorization_cookie_path", r#""/""#),
    ("authorization_cookie_same_site", r#""Default""#),
    ("authorization_cookie_secure", "null"),
    ("authorization_endpoint", "null"),
    ("authorization_query_args_client", "null"),
    ("authorization_query_args_names", "null"),
    ("authorization_query_args_values", "null"),
    ("authorization_rolling_timeout", "600"),
    ("disable_session", "null"),
    ("downstream_session_id_header", "null"),
    ("end_session_endpoint", "null"),
    ("forbidden_destroy_session", "true"),
    ("forbidden_redirect_uri", "null"),
    ("login_action", r#""upstream""#),
    ("login_methods", r#"["authorization_code"]"#),
    ("login_redirect_mode", r#""fragment""#),
    ("login_redirect_uri", "null"),
    ("login_tokens", r#"["id_token"]"#),
    ("logout_methods", r#"["DELETE", "POST"]"#),
    ("logout_post_arg", "null"),
    ("logout_query_arg", "null"),
    ("logout_redirect_uri", "null"),
    ("logout_revoke", "false"),
    ("logout_revoke_access_token", "true"),
    ("logout_revoke_refresh_token", "true"),
    ("logout_uri_suffix", "null"),
    ("preserve_query_args", "false"),
    ("pushed_authorization_request_endpoint", "null"),
    ("pushed_authorization_request_endpoint_auth_method", "null"),
    ("redirect_uri", "null"),
    ("require_proof_key_for_code_exchange", "null"),
    ("require_pushed_authorization_requests", "null"),
    ("require_signed_request_object", "null"),
    ("response_mode", r#""query""#),
    ("response_type", r#"["code"]"#),
    ("reverify", "false"),
    ("session_absolute_timeout", "86400"),
    ("session_audience", r#""default""#),
    ("session_bind", "null"),
    ("session_cookie_domain", "null"),
    ("session_cookie_http_only", "true"),
    ("session_cookie_name", r#""session""#),
    ("session_cookie_path", r#""/""#),
    ("session_cookie_same_site", r#""Lax""#),
    ("session_cookie_secure", "null"),
    ("session_enforce_same_subject", "false"),
    ("session_hash_storage_key", "false"),
    ("session_hash_subject", "false"),
    ("session_idling_timeout", "900"),
    ("session_memcached_host", r#""127.0.0.1""#),
    ("session_memcached_port", "11211"),
    ("session_memcached_prefix", "null"),
    ("session_memcached_socket", "null"),
    ("session_memcached_ssl", "null"),
    ("session_memcached_ssl_verify", "true"),
    ("session_remember", "false"),
    ("session_remember_absolute_timeout", "2592000"),
    ("session_remember_cookie_name", r#""remember""#),
    ("session_remember_rolling_timeout", "604800"),
    ("session_request_headers", "null"),
    ("session_response_headers", "null"),
    ("session_rolling_timeout", "3600"),
    ("session_secret", "null"),
    ("session_storage", r#""cookie""#),
    ("session_store_metadata", "false"),
    ("unauthorized_destroy_session", "true"),
    ("unauthorized_redirect_uri", "null"),
    ("unexpected_redirect_uri", "null"),
    ("upstream_session_id_header", "null"),
    ("verify_nonce", "true"),
];

/// What a logout would tell the issuer.
const LOGOUT: &[(&str, &str)] = &[
    ("mtls_revocation_endpoint", "null"),
    ("revocation_endpoint", "null"),
    ("revocation_endpoint_auth_method", "null"),
    ("revocation_token_param_name", r#""token""#),
];

/// A switch without a counterpart: what a grant brought is kept until it ends, and asked for anew then.
const RENEWAL: &[(&str, &str)] = &[("refresh_tokens", "true")];

/// All of them.
const INERT: [Inert; 5] = [
    (BROWSER, "an application that logs browsers in: the edge serves APIs, whose clients bring tokens"),
    (LOGOUT, "the issuer's own logout: the edge has no sessions to end"),
    (
        RENEWAL,
        "the default: tokens of a grant are asked for anew when they end, by the credential that the request brings",
    ),
    (&[("verify_parameters", "false")], "`edge doctor`, which compares the configuration with what the issuer says"),
    (
        &[("resolve_distributed_claims", "false")],
        "claims in the token or in user info: the edge follows no URL that a token names",
    ),
];

/// Members of `principals`.
const PRINCIPALS: &[(&str, &str)] = &[
    ("enabled", "false"),
    ("directory", r#""default""#),
    ("error_on_miss", "true"),
    ("principal_claim", "null"),
    ("principal_by", "null"),
    ("match_consumer", "true"),
    ("match_consumer_groups", "true"),
];

/// Reads all of them; problems go to the reader's sink.
pub(super) fn read(config: &mut Reader<'_>) {
    for (names, instead) in INERT {
        refuse_but_defaults(config, names, instead);
    }
    if let Some(mut principals) = config.object("principals") {
        refuse_but_defaults(&mut principals, PRINCIPALS, "consumers: principals live in Kong's own directory");
        principals.finish();
    }
    // Connection settings of a store that `session_storage`, at its default, does not use.
    config.object("redis");
}

fn refuse_but_defaults(reader: &mut Reader<'_>, names: &[(&'static str, &'static str)], instead: &str) {
    for (name, default) in names {
        reader.only_default(name, serde_json::from_str(default).expect("the tables hold JSON"), instead);
    }
}
