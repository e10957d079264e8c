//! How an issuer is asked: Kong's connection parameters. Nothing here shows a secret.

use super::Error;
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::tls::{Alpn, ClientTls, Verify};
use reqwest::Url;
use reqwest::header::{HeaderName, HeaderValue};
use rustls::sign::CertifiedKey;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How one answer is fetched. Equality and `digest` go over everything, `Debug` leaves out what may be secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Options {
    /// From connecting to the last byte.
    pub timeout: Duration,
    /// Whether the issuer's certificate and host name are verified.
    pub ssl_verify: bool,
    /// Headers to send besides `Accept`.
    pub headers: Vec<(String, String)>,
    /// Whether a connection serves more than one call.
    pub keepalive: bool,
    /// What calls are written in, unless TLS agrees on HTTP/2.
    pub http_version: HttpVersion,
    /// Through whom.
    pub proxies: Proxies,
    /// Who the edge is in the TLS handshake, where it is asked.
    pub identity: Option<Identity>,
}

/// Kong's `http_version`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum HttpVersion {
    /// `1.0`: never HTTP/2.
    Http10,
    /// `1.1`: HTTP/2 where TLS agrees on it.
    #[default]
    Http11,
}

/// Kong's `http_proxy`, `https_proxy` and `no_proxy`. The environment's proxies are never used.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Proxies {
    /// For http URLs.
    pub http: Option<Proxy>,
    /// For https URLs, by `CONNECT`.
    pub https: Option<Proxy>,
    /// Hosts, domains and networks that are asked directly, with commas between.
    pub bypass: Option<Box<str>>,
}

/// One forward proxy.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its http or https URL.
    pub url: Box<str>,
    /// The value of `Proxy-Authorization`.
    pub authorization: Option<Box<str>>,
}

/// A certificate and its key. The certificate counts, not where it stands in memory: it has one key.
#[derive(Clone)]
pub struct Identity(pub Arc<CertifiedKey>);

impl PartialEq for Identity {
    fn eq(&self, other: &Self) -> bool {
        self.0.cert == other.0.cert
    }
}

impl Eq for Identity {}

impl Default for Options {
    /// Kong's.
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(10),
            ssl_verify: true,
            headers: Vec::new(),
            keepalive: true,
            http_version: HttpVersion::default(),
            proxies: Proxies::default(),
            identity: None,
        }
    }
}

/// Names headers, counts the rest.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let headers: Vec<_> = self.headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Options")
            .field("timeout", &self.timeout)
            .field("ssl_verify", &self.ssl_verify)
            .field("headers", &headers)
            .field("keepalive", &self.keepalive)
            .field("http_version", &self.http_version)
            .field("http_proxy", &self.proxies.http.is_some())
            .field("https_proxy", &self.proxies.https.is_some())
            .field("identity", &self.identity.is_some())
            .finish()
    }
}

impl Options {
    /// Reads `timeout` (ms), `ssl_verify`, `keepalive`, `http_version`, `http_proxy`, `https_proxy`, their
    /// `_authorization`s, and `no_proxy`.
    pub fn read(config: &mut Reader<'_>) -> Self {
        Self::read_as(config, "keepalive")
    }

    /// As `read`, where `keepalive` has another name.
    pub fn read_as(config: &mut Reader<'_>, keepalive: &'static str) -> Self {
        let timeout = config.integer("timeout", 1..=600_000).unwrap_or(10_000);
        let ssl_verify = config.bool("ssl_verify").unwrap_or(true);
        if !ssl_verify {
            config.warn("ssl_verify", "the issuer's certificate is not verified");
        }
        let keepalive = config.bool(keepalive).unwrap_or(true);
        let http_version = match config.number("http_version", 1.0..=1.1) {
            None => HttpVersion::default(),
            Some(1.0) => HttpVersion::Http10,
            Some(1.1) => HttpVersion::Http11,
            Some(other) => {
                config.problem("http_version", other.to_string(), "1.0 or 1.1");
                HttpVersion::default()
            }
        };
        let http = proxy(config, "http_proxy", "http_proxy_authorization");
        let https = proxy(config, "https_proxy", "https_proxy_authorization");
        let bypass = config.string("no_proxy").map(Box::from);
        if bypass.is_some() && http.is_none() && https.is_none() {
            config.warn("no_proxy", "without `http_proxy` or `https_proxy` nothing is proxied");
        }
        Self {
            timeout: Duration::from_millis(timeout as u64),
            ssl_verify,
            keepalive,
            http_version,
            proxies: Proxies { http, https, bypass },
            ..Self::default()
        }
    }

    /// A hash over everything: for the identities of what is asked with these options.
    pub fn digest(&self) -> [u8; 32] {
        let switches = [u8::from(self.ssl_verify), u8::from(self.keepalive), self.http_version as u8];
        let mut digest = FieldDigest::default().field(self.timeout.as_nanos().to_be_bytes()).field(switches);
        digest =
            digest.list(self.headers.iter().map(|(name, _)| name)).list(self.headers.iter().map(|(_, value)| value));
        for proxy in [&self.proxies.http, &self.proxies.https] {
            digest = digest.maybe(proxy.as_ref().map(|proxy| proxy.url.as_bytes()));
            digest = digest.maybe(proxy.as_ref().and_then(|proxy| proxy.authorization.as_deref()));
        }
        digest = digest.maybe(self.proxies.bypass.as_deref());
        digest.list(self.identity.iter().flat_map(|Identity(pair)| &pair.cert).collect::<Vec<_>>().into_iter()).finish()
    }

    /// The part that decides which connections may serve a call.
    pub(super) fn profile(&self) -> Profile {
        // HTTP/2 has no way to say that a connection ends after one call.
        let alpn = match (self.keepalive, self.http_version) {
            (true, HttpVersion::Http11) => Alpn::Either,
            _ => Alpn::Http1,
        };
        let verify = if self.ssl_verify { Verify::Full } else { Verify::Off };
        let identity = self.identity.as_ref().map(|Identity(pair)| Arc::clone(pair));
        let tls = ClientTls { verify, identity, alpn, ..ClientTls::default() };
        Profile { tls, keepalive: self.keepalive, proxies: self.proxies.clone() }
    }
}

/// What connections have in common that may be shared.
#[derive(Clone, PartialEq)]
pub(super) struct Profile {
    pub(super) tls: ClientTls,
    pub(super) keepalive: bool,
    pub(super) proxies: Proxies,
}

impl Proxy {
    /// As reqwest takes it.
    pub(super) fn build(
        &self,
        of: impl FnOnce(Url) -> reqwest::Result<reqwest::Proxy>,
        bypass: Option<&str>,
    ) -> Result<reqwest::Proxy, Error> {
        let url = proxy_url(&self.url).ok_or(Error::Proxy)?;
        let mut proxy = of(url).map_err(|_| Error::Proxy)?;
        if let Some(authorization) = &self.authorization {
            let mut value = HeaderValue::from_str(authorization).map_err(|_| Error::Proxy)?;
            value.set_sensitive(true);
            proxy = proxy.custom_http_auth(value);
        }
        Ok(proxy.no_proxy(bypass.and_then(reqwest::NoProxy::from_string)))
    }
}

fn proxy(config: &mut Reader<'_>, key: &'static str, authorization_key: &'static str) -> Option<Proxy> {
    let url = config.parsed(key, "an http or https URL", |text| proxy_url(text).map(|_| Box::from(text)));
    let header = |text: &str| HeaderValue::from_str(text).ok().map(|_| Box::from(text));
    let authorization = config.parsed(authorization_key, "the value of a header", header);
    if authorization.is_some() && !config.has(key) {
        config.problem(authorization_key, "no proxy to send it to", format!("`{key}` beside it"));
    }
    url.map(|url| Proxy { url, authorization })
}

fn proxy_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    (matches!(url.scheme(), "http" | "https") && url.has_host()).then_some(url)
}

/// A header of the configuration; credentials are marked, so that no `Debug` of a request shows them.
pub(super) fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Error> {
    let bad = || Error::Header(name.to_owned());
    let mut value = HeaderValue::from_str(value).map_err(|_| bad())?;
    value.set_sensitive(true);
    Ok((HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value))
}
