//! What a key source is made of: its URLs, the issuers it may speak for, and when it is asked.

use super::jwks::Kinds;
use crate::crypto;
use crate::http_client::Options;
use std::time::Duration;

const OIDC_SUFFIX: &str = "/.well-known/openid-configuration";
const OAUTH_SUFFIX: &str = "/.well-known/oauth-authorization-server";

/// When keys are fetched, and how long they stay good.
#[derive(Clone, Debug)]
pub struct FetchPolicy {
    /// Longest wait of a request for a fetch: `timeouts.key_wait`.
    pub key_wait: Duration,
    /// Time between background refreshes. A removed key is refused at the latest after this and one fetch.
    pub refresh: Duration,
    /// After the first failed fetch; doubles with each further one.
    pub retry_first: Duration,
    /// The longest time between retries.
    pub retry_max: Duration,
    /// Fetches that unknown `kid`s may cause at once; then one per `rediscovery_lifetime`.
    pub burst: u32,
    /// Keys not confirmed for this long are given up, and their issuer's tokens get 503.
    pub stale_max: Duration,
}

impl Default for FetchPolicy {
    fn default() -> Self {
        Self {
            key_wait: Duration::from_secs(5),
            refresh: Duration::from_secs(300),
            retry_first: Duration::from_secs(1),
            retry_max: Duration::from_secs(30),
            burst: 3,
            stale_max: Duration::from_secs(24 * 3600),
        }
    }
}

/// Where the keys of one issuer are found. Everything here is part of the source's identity.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SourceSettings {
    /// Discovery; nothing with a pseudo issuer or a `jwks_endpoint`.
    pub discovery: Option<Discovery>,
    /// Key set URLs of the configuration: `jwks_endpoint`, then `extra_jwks_uris`.
    pub jwks_uris: Vec<String>,
    /// Kong's `timeout`, `ssl_verify` and discovery headers.
    pub options: Options,
    /// Kong's `rediscovery_lifetime`, at least one second.
    pub rediscovery_lifetime: Duration,
    /// Time between background refreshes, where that is less than the node's.
    pub refresh: Option<Duration>,
    /// Which keys verify.
    pub kinds: Kinds,
}

/// How an issuer's metadata is found (OpenID Connect Discovery 1.0, 4; RFC 8414, 3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Discovery {
    /// Candidates, tried in order while the answer is 404.
    pub urls: Vec<String>,
    /// Accepted values of the document's `issuer`.
    pub issuers: Vec<String>,
    /// Whether the document's `jwks_uri` is where keys come from: false beside a `jwks_endpoint`.
    pub keys: bool,
}

impl Discovery {
    /// From Kong's `issuer`: with or without the well-known suffix and a trailing slash. `allowed` are issuers that the
    /// operator named, `url` a document named outright.
    pub fn new(issuer: &str, url: Option<&str>, allowed: &[String]) -> Self {
        let base = issuer_of(issuer);
        let stem = base.trim_end_matches('/');
        let urls = match url {
            Some(url) => vec![url.to_owned()],
            None if issuer.contains("/.well-known/") => vec![issuer.to_owned()],
            None => {
                // RFC 8414, 3.1 puts the suffix between host and path.
                let path = stem.find("://").and_then(|at| stem[at + 3..].find('/').map(|slash| at + 3 + slash));
                let (host, path) = stem.split_at(path.unwrap_or(stem.len()));
                vec![format!("{stem}{OIDC_SUFFIX}"), format!("{host}{OAUTH_SUFFIX}{path}")]
            }
        };
        let mut issuers = vec![base.clone(), stem.to_owned(), format!("{stem}/")];
        issuers.extend_from_slice(allowed);
        issuers.sort();
        issuers.dedup();
        Self { urls, issuers, keys: true }
    }
}

/// The issuer that a configured `issuer` stands for: without a well-known suffix.
pub fn issuer_of(issuer: &str) -> String {
    match issuer.strip_suffix(OIDC_SUFFIX) {
        Some(base) => base.to_owned(),
        None => issuer.replacen(OAUTH_SUFFIX, "", 1),
    }
}

impl SourceSettings {
    /// A hash over every setting.
    pub fn id(&self) -> [u8; 32] {
        let lists = self.discovery.as_ref().map(|it| (&it.urls, &it.issuers, it.keys));
        let how = (self.refresh, self.kinds);
        let text = format!("{lists:?}{:?}{:?}{how:?}", self.jwks_uris, self.rediscovery_lifetime);
        crypto::FieldDigest::default().field(text).field(self.options.digest()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn well_known_urls_follow_oidc_and_rfc_8414() {
        // K1, K2
        for (issuer, urls) in [
            (
                "https://a.example/realms/x",
                &[
                    "https://a.example/realms/x/.well-known/openid-configuration",
                    "https://a.example/.well-known/oauth-authorization-server/realms/x",
                ][..],
            ),
            (
                "https://a.example/",
                &[
                    "https://a.example/.well-known/openid-configuration",
                    "https://a.example/.well-known/oauth-authorization-server",
                ],
            ),
            (
                "https://a.example/x/.well-known/openid-configuration",
                &["https://a.example/x/.well-known/openid-configuration"],
            ),
            (
                "https://a.example/.well-known/oauth-authorization-server/x",
                &["https://a.example/.well-known/oauth-authorization-server/x"],
            ),
        ] {
            assert_eq!(Discovery::new(issuer, None, &[]).urls, urls, "{issuer}");
        }
        for (issuer, base) in [
            ("https://a/x", "https://a/x"),
            ("https://a/x/", "https://a/x/"),
            ("https://a/x/.well-known/openid-configuration", "https://a/x"),
            ("https://a/.well-known/oauth-authorization-server/x", "https://a/x"),
        ] {
            assert_eq!(issuer_of(issuer), base);
        }
    }
}
