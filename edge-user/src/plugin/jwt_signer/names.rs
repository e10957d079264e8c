//! The names of Kong's parameters, which exist twice: once for the access token, once for the channel token.

/// The second token, as logs and reports say it.
pub const CHANNEL_TOKEN: &str = "channel token";

macro_rules! names {
    ($($field:ident = $before:literal $after:literal;)+) => {
        /// One token's names.
        pub(super) struct Names {
            /// The token's own, as logs say it.
            pub(super) token: &'static str,
            $(pub(super) $field: &'static str,)+
        }

        /// Those of the access token.
        pub(super) const ACCESS: Names =
            Names { token: "access token", $($field: concat!($before, "access_token", $after),)+ };

        /// Those of the channel token.
        pub(super) const CHANNEL: Names =
            Names { token: CHANNEL_TOKEN, $($field: concat!($before, "channel_token", $after),)+ };
    };
}

names! {
    request_header = "" "_request_header";
    optional = "" "_optional";
    verify_signature = "verify_" "_signature";
    jwks_uri = "" "_jwks_uri";
    jwks_uri_client_username = "" "_jwks_uri_client_username";
    jwks_uri_client_password = "" "_jwks_uri_client_password";
    jwks_uri_client_certificate = "" "_jwks_uri_client_certificate";
    jwks_uri_rotate_period = "" "_jwks_uri_rotate_period";
    endpoints_ssl_verify = "" "_endpoints_ssl_verify";
    verify_expiry = "verify_" "_expiry";
    expiry_claim = "" "_expiry_claim";
    leeway = "" "_leeway";
    verify_notbefore = "verify_" "_notbefore";
    notbefore_claim = "" "_notbefore_claim";
    verify_issuer = "verify_" "_issuer";
    issuer_claim = "" "_issuer_claim";
    issuers_allowed = "" "_issuers_allowed";
    verify_subject = "verify_" "_subject";
    subject_claim = "" "_subject_claim";
    subjects_allowed = "" "_subjects_allowed";
    verify_audience = "verify_" "_audience";
    audience_claim = "" "_audience_claim";
    audiences_allowed = "" "_audiences_allowed";
    verify_scopes = "verify_" "_scopes";
    scopes_claim = "" "_scopes_claim";
    scopes_required = "" "_scopes_required";
    required_claims = "" "_required_claims";
    optional_claims = "" "_optional_claims";
    enable_introspection = "enable_" "_introspection";
    introspection_endpoint = "" "_introspection_endpoint";
    introspection_authorization = "" "_introspection_authorization";
    introspection_body_args = "" "_introspection_body_args";
    introspection_hint = "" "_introspection_hint";
    introspection_timeout = "" "_introspection_timeout";
    introspection_jwt_claim = "" "_introspection_jwt_claim";
    trust_introspection = "trust_" "_introspection";
    cache_introspection = "cache_" "_introspection";
    verify_introspection_expiry = "verify_" "_introspection_expiry";
    introspection_expiry_claim = "" "_introspection_expiry_claim";
    introspection_leeway = "" "_introspection_leeway";
    verify_introspection_notbefore = "verify_" "_introspection_notbefore";
    introspection_notbefore_claim = "" "_introspection_notbefore_claim";
    verify_introspection_issuer = "verify_" "_introspection_issuer";
    introspection_issuer_claim = "" "_introspection_issuer_claim";
    introspection_issuers_allowed = "" "_introspection_issuers_allowed";
    verify_introspection_subject = "verify_" "_introspection_subject";
    introspection_subject_claim = "" "_introspection_subject_claim";
    introspection_subjects_allowed = "" "_introspection_subjects_allowed";
    verify_introspection_audience = "verify_" "_introspection_audience";
    introspection_audience_claim = "" "_introspection_audience_claim";
    introspection_audiences_allowed = "" "_introspection_audiences_allowed";
    verify_introspection_scopes = "verify_" "_introspection_scopes";
    introspection_scopes_claim = "" "_introspection_scopes_claim";
    introspection_scopes_required = "" "_introspection_scopes_required";
    introspection_required_claims = "" "_introspection_required_claims";
    introspection_optional_claims = "" "_introspection_optional_claims";
    consumer_claim = "" "_consumer_claim";
    consumer_by = "" "_consumer_by";
    introspection_consumer_claim = "" "_introspection_consumer_claim";
    introspection_consumer_by = "" "_introspection_consumer_by";
    signing = "" "_signing";
    signing_algorithm = "" "_signing_algorithm";
    issuer = "" "_issuer";
    keyset = "" "_keyset";
    keyset_client_username = "" "_keyset_client_username";
    keyset_client_password = "" "_keyset_client_password";
    keyset_client_certificate = "" "_keyset_client_certificate";
    keyset_rotate_period = "" "_keyset_rotate_period";
    upstream_header = "" "_upstream_header";
    upstream_leeway = "" "_upstream_leeway";
    original_upstream_header = "original_" "_upstream_header";
    add_claims = "add_" "_claims";
    set_claims = "set_" "_claims";
    remove_claims = "remove_" "_claims";
}
