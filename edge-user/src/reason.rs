//! The closed set of reasons for which the edge itself answers a request or ends a connection: access log, metric label, `Proxy-Status`.

use serde::Serialize;

macro_rules! reasons {
    ($($variant:ident = $code:literal, $phrase:literal;)+) => {
        /// Why the edge answered in place of the upstream.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Reason { $(#[doc = $phrase] $variant),+ }

        impl Reason {
            /// Every reason, in declaration order: the index of a counter.
            pub const ALL: &'static [Reason] = &[$(Self::$variant),+];

            /// The code as logs and metrics carry it.
            pub fn code(self) -> &'static str {
                match self { $(Self::$variant => $code),+ }
            }

            /// What an operator reads in the error log.
            pub fn phrase(self) -> &'static str {
                match self { $(Self::$variant => $phrase),+ }
            }
        }
    };
}

reasons! {
    HeaderMissing = "header_missing", "no bearer token was sent";
    HeaderMalformed = "header_malformed", "the bearer credential is malformed";
    TokenInQuery = "token_in_query", "a bearer token was sent in more than one place";
    TokenMalformed = "token_malformed", "the bearer token is not a well-formed JWT";
    TokenTooLarge = "token_too_large", "the bearer token is larger than the edge accepts";
    AlgNotAllowed = "alg_not_allowed", "the JWT algorithm is not allowed";
    KidUnknown = "kid_unknown", "no key of the issuer's jwks has the JWT's kid";
    SignatureInvalid = "signature_invalid", "signature verification failed, unable to verify bearer token (invalid signature)";
    TokenExpired = "token_expired", "token expired, unable to verify bearer token (invalid exp claim)";
    TokenNotYetValid = "token_not_yet_valid", "token not yet valid, unable to verify bearer token (invalid nbf claim)";
    ClaimInvalid = "claim_invalid", "a registered JWT claim has the wrong type or is missing";
    TypNotAllowed = "typ_not_allowed", "the JWT typ is not that of an access token";
    IssuerNotAllowed = "issuer_not_allowed", "issuer not allowed, unable to verify bearer token (invalid issuer)";
    AudienceNotAllowed = "audience_not_allowed", "audience not allowed";
    ScopeMissing = "scope_missing", "a required scope is missing from the bearer token";
    RoleMissing = "role_missing", "a required role is missing from the bearer token";
    GroupMissing = "group_missing", "a required group is missing from the bearer token";
    ClaimForbidden = "claim_forbidden", "a forbidden claim stands in the bearer token";
    ClaimMissing = "claim_missing", "a required claim is missing from the bearer token";
    SubjectNotAllowed = "subject_not_allowed", "the subject of the bearer token is not allowed";
    IdTokenUsed = "id_token_used", "an ID token was used as bearer token";
    ProfileViolated = "profile_violated", "the bearer token is not what RFC 9068 demands of an access token";
    DomainNotAllowed = "domain_not_allowed", "the bearer token is of a domain (hd) that is not allowed";
    SessionMismatch = "session_mismatch", "the bearer token is not of the session whose cookie came with it";
    AcrInsufficient = "acr_insufficient", "the bearer token is of a login without a required authentication context (acr)";
    AuthenticationTooOld = "authentication_too_old", "the bearer token is of a login that is too long ago (auth_time)";
    TokenBound = "token_bound", "the bearer token is bound to a key (cnf), which is not supported here";
    TokenUnbound = "token_unbound", "the bearer token is not bound to its sender's key (cnf), which the route requires";
    ProofMissing = "proof_missing", "no DPoP proof came with the bearer token";
    ProofInvalid = "proof_invalid", "the DPoP proof is not one for this request and bearer token";
    ProofReplayed = "proof_replayed", "the DPoP proof of the bearer token was used before";
    NonceMissing = "nonce_missing", "the DPoP proof of the bearer token has no current nonce";
    CertificateMissing = "certificate_missing", "the bearer token is bound to a client certificate, and none came";
    CertificateInvalid = "certificate_invalid", "the client certificate in the header of the bearer token's sender is malformed, or no authority vouches for it";
    CertificateMismatch = "certificate_mismatch", "the bearer token is bound to another client certificate, or that one expired";
    IntrospectionUnavailable = "introspection_unavailable", "opaque bearer token, and introspection is not configured";
    TokenInactive = "token_inactive", "the bearer token's issuer says it is not active (introspection: token active:false)";
    IntrospectionFailed = "introspection_failed", "introspection active could not be told: the issuer did not answer for the bearer token";
    GrantRefused = "grant_refused", "the issuer's token endpoint refuses the credential that stands for a bearer token";
    GrantFailed = "grant_failed", "the issuer's token endpoint did not answer for the credential that stands for a bearer token";
    ExchangeRefused = "exchange_refused", "the issuer refuses to exchange the bearer token";
    ExchangeFailed = "exchange_failed", "the issuer did not answer for the exchange of the bearer token";
    IdTokenInvalid = "id_token_invalid", "the ID token beside the bearer token is not valid";
    UserInfoRefused = "user_info_refused", "the issuer's user info is not given for the bearer token, or is another user's";
    UserInfoFailed = "user_info_failed", "the issuer's user info endpoint did not answer for the bearer token";
    KeysUnavailable = "keys_unavailable", "could not get jwks from the issuer";
    VerificationBusy = "verification_busy", "too many bearer tokens wait for signature verification";
    ConsumerGroupUnknown = "consumer_group_unknown", "no consumer group was found for the bearer token's claim";
    ConsumerUnknown = "consumer_unknown", "kong consumer was not found for the bearer token's claim";
    SourcePenalized = "source_penalized", "the source has a penalty for sending many bad tokens";
    RouteNotFound = "route_not_found", "no route matched";
    ServiceNotFound = "service_not_found", "the route has no service";
    HostMisdirected = "host_misdirected", "the host has other rules for client certificates than the name of the TLS handshake";
    ClientCertificateRefused = "client_certificate_refused", "the connection's client certificate expired, or is refused by the authorities and lists read since";
    HttpsRequired = "https_required", "the route wants https";
    NotGrpc = "not_grpc", "the route is for gRPC, and the request is none";
    Http2Required = "http2_required", "the route is for gRPC, which needs HTTP/2";
    RequestMalformed = "request_malformed", "the request is malformed";
    RequestTimeout = "request_timeout", "the request did not arrive in time";
    HeadTooLarge = "head_too_large", "the request head is over the limit";
    BodyTooLarge = "body_too_large", "the request body is over limits.body_bytes";
    MethodNotAllowed = "method_not_allowed", "the method is not forwarded";
    ExpectationFailed = "expectation_failed", "the expectation is unknown";
    VersionNotSupported = "version_not_supported", "the HTTP version is not supported";
    Http2Flood = "http2_flood", "the HTTP/2 connection brought more frames than its requests are worth";
    UpstreamResolve = "upstream_resolve", "the upstream's name could not be resolved";
    UpstreamConnect = "upstream_connect", "the upstream could not be connected";
    UpstreamTls = "upstream_tls", "the upstream's TLS handshake failed";
    UpstreamReset = "upstream_reset", "the upstream closed the connection before it answered";
    UpstreamMalformed = "upstream_malformed", "the upstream's answer violates HTTP framing";
    UpstreamUnhealthy = "upstream_unhealthy", "no target of the upstream is healthy";
    UpstreamBusy = "upstream_busy", "every target of the upstream has limits.upstream_requests under way, and the queue is full or the wait was too long";
    UpstreamTimeout = "upstream_timeout", "the upstream did not answer in time";
    FallbackAnswered = "fallback_answered", "http-profile answered in place of the upstream, whose status is not for clients";
    ResponseTooLarge = "response_too_large", "the response is over limits.buffer_bytes and a plugin must rewrite it whole";
    RequestTerminated = "request_terminated", "request-termination answered";
    CorsPreflight = "cors_preflight", "cors answered a preflight";
    AddressNotAllowed = "address_not_allowed", "ip-restriction refused the client's address";
    PayloadTooLarge = "payload_too_large", "request-size-limiting refused the body's size";
    LengthRequired = "length_required", "request-size-limiting wants a Content-Length";
    SigningFailed = "signing_failed", "the token for the upstream could not be signed";
    TokenUnlocated = "token_unlocated", "a token is required, and no header is configured that may bear it";
    GroupNotAllowed = "group_not_allowed", "acl refused the caller's groups";
    CallerUnknown = "caller_unknown", "acl found neither a credential nor groups";
    RateLimited = "rate_limited", "a limit of rate-limiting is exceeded";
    RateLimitUnavailable = "rate_limit_unavailable", "rate-limiting cannot reach its store, and fault_tolerant is false";
    UpstreamTokenFailed = "upstream_token_failed", "upstream-oauth got no token to send upstream";
    SourceConnections = "source_connections", "the source has limits.connections_per_source connections open";
    ClientGone = "client_gone", "the client closed the connection";
    ProxyProtocolMissing = "proxy_protocol_missing", "the connection does not begin with a PROXY header that the listener takes";
    ProxyProtocolMalformed = "proxy_protocol_malformed", "the connection's PROXY header is malformed";
    ProxyProtocolUntrusted = "proxy_protocol_untrusted", "the peer is none of proxy.trusted_ips, and the listener takes PROXY headers";
    ProxyProtocolTimeout = "proxy_protocol_timeout", "the connection's PROXY header did not arrive in time";
    StreamRouteNotFound = "stream_route_not_found", "no route wants the connection";
    TlsRequired = "tls_required", "the listener takes TLS alone";
    ClientHelloTimeout = "client_hello_timeout", "the client's first bytes did not arrive in time";
    ClientHelloMalformed = "client_hello_malformed", "the client's first bytes look like TLS and are not";
    ClientHelloTooLarge = "client_hello_too_large", "the client's ClientHello is over the limit";
    TlsHandshakeFailed = "tls_handshake_failed", "the TLS handshake with the client failed";
    TunnelIdle = "tunnel_idle", "nothing went through the connection for too long";
    TunnelTokenExpired = "tunnel_token_expired", "the token of an upgraded connection expired";
    Draining = "draining", "the edge stops";
}

impl Reason {
    /// The reason's place in `ALL`.
    pub fn index(self) -> usize {
        self as usize
    }

    /// Whether a token, or the lack of one, is the reason: those stand first in `ALL`, up to `ConsumerUnknown`.
    pub fn concerns_token(self) -> bool {
        self.index() <= Self::ConsumerUnknown.index()
    }
}
