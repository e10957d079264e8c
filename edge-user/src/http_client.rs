//! The outbound client for issuers: key sets, discovery, introspection, tokens.
//!
//! No redirects, TLS with verification unless switched off by name, clear text only to loopback and to the hosts of
//! `issuers.allow_http`, and bounds on time and bytes for every answer. Connections are shared by everyone who asks
//! under the same TLS rules and proxies.

mod options;

use reqwest::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

pub use self::options::{HttpVersion, Identity, Options, Proxies, Proxy};
use self::options::{Profile, header};
use crate::tls;

/// Why an issuer gave no answer. Texts carry URLs of the configuration or of the issuer's metadata, and nothing that was
/// sent.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an absolute http or https URL.
    #[error("`{0}` is not an http or https URL")]
    Url(String),
    /// A user's name or password in it: it would stand in logs and answers.
    #[error("a URL with a user's name or password")]
    Credentials,
    /// Clear text to a host that is neither loopback nor allowed by name.
    #[error("`{0}` is not https; only loopback and hosts of issuers.allow_http may be asked without TLS")]
    ClearText(String),
    /// The client could not be built.
    #[error("the TLS configuration is unusable")]
    Tls(#[source] tls::Error),
    /// No connection, no TLS session, or no answer in time.
    #[error("the request failed{}", if .0.is_timeout() { ": timeout" } else { "" })]
    Transport(#[source] reqwest::Error),
    /// Any status but 200; a redirect among them.
    #[error("the answer has status {0}")]
    Status(u16),
    /// The answer is larger than asked for.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
    /// The proxy's URL or authorization.
    #[error("the proxy's URL or authorization is malformed")]
    Proxy,
    /// A configured header is no header.
    #[error("the header `{0}` is malformed")]
    Header(String),
}

impl Error {
    /// Whether nothing came in time.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_timeout())
    }

    /// Whether a connection that stood broke before an answer came.
    pub fn is_broken_connection(&self) -> bool {
        matches!(self, Self::Transport(error) if error.is_request() && !error.is_connect() && !error.is_timeout())
    }
}

/// What is asked.
pub struct Call<'a> {
    /// How.
    pub method: Method,
    /// Whom.
    pub url: &'a str,
    /// `Accept`
    pub accept: &'a str,
    /// Besides; they go before those of the options and before `Accept`.
    pub headers: HeaderMap,
    /// Bytes of the longest body that is taken.
    pub limit: usize,
}

/// The methods that issuers' endpoints take.
pub enum Method {
    /// GET
    Get,
    /// POST with a body of `application/x-www-form-urlencoded`.
    PostForm(String),
}

/// Whatever an issuer answered.
pub struct Answer {
    /// The status; a redirect's among them.
    pub status: u16,
    /// All header fields.
    pub headers: HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Answer {
    /// The media type in lower case, without parameters; empty where there is none.
    pub fn content_type(&self) -> String {
        let value = self.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct HttpClient(Arc<Shared>);

struct Shared {
    allow_http: Box<[String]>,
    made: Mutex<Vec<(Profile, Weak<Client>)>>,
    /// The one that most issuers are asked with: made at start, so that what is wrong with it shows then.
    _default: Arc<Client>,
}

/// Calls under one set of options, whose connections are kept as long as somebody holds this.
#[derive(Clone)]
pub struct Session {
    http: HttpClient,
    client: Arc<Client>,
    options: Options,
}

impl HttpClient {
    /// A client with the public roots and the system's.
    pub fn new(allow_http: &[String]) -> Result<Self, Error> {
        let profile = Options::default().profile();
        let default = Arc::new(client(&profile)?);
        Ok(Self(Arc::new(Shared {
            allow_http: allow_http.iter().map(|host| host.to_ascii_lowercase()).collect(),
            made: Mutex::new(vec![(profile, Arc::downgrade(&default))]),
            _default: default,
        })))
    }

    /// For calls under these options.
    pub fn session(&self, options: &Options) -> Result<Session, Error> {
        for (name, value) in &options.headers {
            header(name, value)?;
        }
        let profile = options.profile();
        let client = {
            // Only configurations and the first call to an issuer come here.
            let mut made = self.0.made.lock().unwrap_or_else(PoisonError::into_inner);
            made.retain(|(_, client)| client.strong_count() > 0);
            match made.iter().find(|(known, _)| *known == profile).and_then(|(_, client)| client.upgrade()) {
                Some(client) => client,
                None => {
                    let client = Arc::new(client(&profile)?);
                    made.push((profile, Arc::downgrade(&client)));
                    client
                }
            }
        };
        Ok(Session { http: self.clone(), client, options: options.clone() })
    }

    /// Whether this URL may be asked at all: for checks of the configuration.
    pub fn check(&self, url: &str) -> Result<Url, Error> {
        let parsed = Url::parse(url).map_err(|_| Error::Url(url.to_owned()))?;
        if !parsed.username().is_empty() || parsed.password().is_some() {
            return Err(Error::Credentials);
        }
        let host = parsed.host_str().unwrap_or_default().to_ascii_lowercase();
        match parsed.scheme() {
            "https" if !host.is_empty() => Ok(parsed),
            "http" if is_loopback(&host) || self.0.allow_http.contains(&host) => Ok(parsed),
            "http" if !host.is_empty() => Err(Error::ClearText(url.to_owned())),
            _ => Err(Error::Url(url.to_owned())),
        }
    }

    /// The body of a 200 answer of at most `limit` bytes.
    pub async fn get(&self, url: &str, options: &Options, limit: usize) -> Result<Vec<u8>, Error> {
        let accept = "application/json, application/jwk-set+json";
        let call = Call { method: Method::Get, url, accept, headers: HeaderMap::new(), limit };
        let answer = self.session(options)?.call(call).await?;
        if answer.status == 200 { Ok(answer.body) } else { Err(Error::Status(answer.status)) }
    }
}

impl Session {
    /// The options.
    pub fn options(&self) -> &Options {
        &self.options
    }

    /// Any answer whose body has at most `limit` bytes, within `timeout`. The status is the caller's to judge; the body
    /// of one that is not 200 is cut rather than refused.
    pub async fn call(&self, call: Call<'_>) -> Result<Answer, Error> {
        let url = self.http.check(call.url)?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(call.accept).map_err(|_| Error::Header("accept".into()))?);
        for (name, value) in &self.options.headers {
            let (name, value) = header(name, value)?;
            headers.insert(name, value);
        }
        for name in call.headers.keys() {
            headers.remove(name);
        }
        for (name, value) in &call.headers {
            headers.append(name, value.clone());
        }
        if !self.options.keepalive {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let request = match call.method {
            Method::Get => self.client.get(url),
            Method::PostForm(form) => {
                headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
                self.client.post(url).body(form)
            }
        };
        let request = match self.options.http_version {
            HttpVersion::Http10 => request.version(reqwest::Version::HTTP_10),
            HttpVersion::Http11 => request,
        };
        let mut answer = request.headers(headers).timeout(self.options.timeout).send().await.map_err(transport)?;
        let (status, headers) = (answer.status().as_u16(), std::mem::take(answer.headers_mut()));
        let mut body = Vec::new();
        if status == 200 && answer.content_length().is_some_and(|length| length > call.limit as u64) {
            return Err(Error::TooLarge(call.limit));
        }
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            let room = call.limit - body.len();
            body.extend_from_slice(&chunk[..chunk.len().min(room)]);
            match (chunk.len() > room, status) {
                (false, _) => {}
                (true, 200) => return Err(Error::TooLarge(call.limit)),
                (true, _) => break,
            }
        }
        Ok(Answer { status, headers, body })
    }
}

/// The URL is in the configuration and in the log line already.
fn transport(error: reqwest::Error) -> Error {
    Error::Transport(error.without_url())
}

fn client(profile: &Profile) -> Result<Client, Error> {
    let rules = tls::client_config(&profile.tls).map_err(Error::Tls)?;
    let mut builder = Client::builder()
        .tls_backend_preconfigured((*rules).clone())
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60))
        // A connection that died silently must not swallow call after call.
        .http2_keep_alive_interval(Duration::from_secs(10))
        .http2_keep_alive_timeout(Duration::from_secs(5));
    if !profile.keepalive {
        builder = builder.pool_max_idle_per_host(0);
    }
    let bypass = profile.proxies.bypass.as_deref();
    if let Some(proxy) = &profile.proxies.http {
        builder = builder.proxy(proxy.build(reqwest::Proxy::http, bypass)?);
    }
    if let Some(proxy) = &profile.proxies.https {
        builder = builder.proxy(proxy.build(reqwest::Proxy::https, bypass)?);
    }
    builder.build().map_err(transport)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests;
