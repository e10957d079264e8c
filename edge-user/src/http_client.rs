//! The outbound client for issuers: key sets and discovery now, introspection and tokens later.
//!
//! No redirects, TLS with verification unless switched off by name, clear text only to loopback and to the hosts of
//! `issuers.allow_http`, and bounds on time and bytes for every answer.

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Url};
use rustls::ClientConfig;
use std::sync::Arc;
use std::time::Duration;

use crate::tls::{self, ClientTls, Verify};

/// Why an issuer gave no answer. Texts carry URLs from the configuration only.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an absolute http or https URL.
    #[error("`{0}` is not an http or https URL")]
    Url(String),
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
    /// A configured header is no header.
    #[error("the header `{0}` is malformed")]
    Header(String),
}

/// How one answer is fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// From connecting to the last byte.
    pub timeout: Duration,
    /// Whether the issuer's certificate and host name are verified.
    pub ssl_verify: bool,
    /// Headers to send besides `Accept`.
    pub headers: Vec<(String, String)>,
}

impl Default for Options {
    /// Kong's `timeout` and `ssl_verify`.
    fn default() -> Self {
        Self { timeout: Duration::from_secs(10), ssl_verify: true, headers: Vec::new() }
    }
}

/// The client; cheap to clone.
#[derive(Clone)]
pub struct HttpClient {
    verifying: Client,
    trusting: Client,
    allow_http: Arc<[String]>,
}

impl HttpClient {
    /// A client with the public roots and the system's.
    pub fn new(allow_http: &[String]) -> Result<Self, Error> {
        // The rules are those towards upstreams; the protocols are reqwest's own choice.
        let tls = |verify| -> Result<ClientConfig, Error> {
            let rules = ClientTls { verify, ..ClientTls::default() };
            let mut rules = (*tls::client_config(&rules).map_err(Error::Tls)?).clone();
            rules.alpn_protocols.clear();
            Ok(rules)
        };
        Ok(Self {
            verifying: client(tls(Verify::Full)?)?,
            trusting: client(tls(Verify::Off)?)?,
            allow_http: allow_http.iter().map(|host| host.to_ascii_lowercase()).collect(),
        })
    }

    /// Whether this URL may be asked at all: for checks of the configuration.
    pub fn check(&self, url: &str) -> Result<Url, Error> {
        let parsed = Url::parse(url).map_err(|_| Error::Url(url.to_owned()))?;
        let host = parsed.host_str().unwrap_or_default().to_ascii_lowercase();
        match parsed.scheme() {
            "https" if !host.is_empty() => Ok(parsed),
            "http" if is_loopback(&host) || self.allow_http.contains(&host) => Ok(parsed),
            "http" if !host.is_empty() => Err(Error::ClearText(url.to_owned())),
            _ => Err(Error::Url(url.to_owned())),
        }
    }

    /// The body of a 200 answer of at most `limit` bytes.
    pub async fn get(&self, url: &str, options: &Options, limit: usize) -> Result<Vec<u8>, Error> {
        let url = self.check(url)?;
        let client = if options.ssl_verify { &self.verifying } else { &self.trusting };
        let mut headers = HeaderMap::new();
        headers.insert(reqwest::header::ACCEPT, HeaderValue::from_static("application/json, application/jwk-set+json"));
        for (name, value) in &options.headers {
            let bad = || Error::Header(name.clone());
            let value = HeaderValue::from_str(value).map_err(|_| bad())?;
            headers.insert(HeaderName::from_bytes(name.as_bytes()).map_err(|_| bad())?, value);
        }
        let request = client.get(url).headers(headers).timeout(options.timeout);
        let mut answer = request.send().await.map_err(transport)?;
        if answer.status().as_u16() != 200 {
            return Err(Error::Status(answer.status().as_u16()));
        }
        if answer.content_length().is_some_and(|length| length > limit as u64) {
            return Err(Error::TooLarge(limit));
        }
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(transport)? {
            if body.len() + chunk.len() > limit {
                return Err(Error::TooLarge(limit));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

/// The URL is in the configuration and in the log line already.
fn transport(error: reqwest::Error) -> Error {
    Error::Transport(error.without_url())
}

fn client(tls: ClientConfig) -> Result<Client, Error> {
    Client::builder()
        .tls_backend_preconfigured(tls)
        .redirect(Policy::none())
        .no_proxy()
        .connect_timeout(Duration::from_secs(10))
        .pool_idle_timeout(Duration::from_secs(60))
        .build()
        .map_err(transport)
}

fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    #[test]
    fn clear_text_needs_loopback_or_a_name() {
        // K1
        let client = HttpClient::new(&["Idp.internal".to_owned()]).expect("a client");
        for (url, good) in [
            ("https://idp.example.com/jwks", true),
            ("http://127.0.0.1:8080/jwks", true),
            ("http://127.8.9.1/", true),
            ("http://[::1]:1/", true),
            ("http://localhost/", true),
            ("http://idp.internal/", true),
            ("http://IDP.internal:8080/", true),
            ("http://idp.example.com/", false),
            ("http://localhost.example.com/", false),
            ("http://x.idp.internal/", false),
            ("http://10.0.0.1/", false),
            ("ftp://127.0.0.1/", false),
            ("file:///etc/passwd", false),
            ("idp.example.com", false),
            ("", false),
        ] {
            assert_eq!(client.check(url).is_ok(), good, "{url}");
        }
    }

    /// Answers every connection with these bytes.
    async fn serve(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut head = [0; 4096];
                let _ = stream.read(&mut head).await;
                let _ = stream.write_all(&answer).await;
                if answer.is_empty() {
                    std::future::pending::<()>().await;
                }
            }
        });
        url
    }

    #[tokio::test]
    async fn answers_are_bounded_and_redirects_not_followed() {
        // K1, K8
        let client = HttpClient::new(&[]).expect("a client");
        let target = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()).await;
        let options = Options { timeout: Duration::from_millis(500), ..Options::default() };
        assert_eq!(client.get(&target, &options, 10).await.expect("an answer"), b"{}");
        let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
        let endless =
            [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &b"5\r\naaaaa\r\n".repeat(10)].concat();
        let cases: [(&str, Vec<u8>); 6] = [
            ("Status(302)", redirect.into_bytes()),
            ("Status(500)", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
            ("TooLarge(10)", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
            ("TooLarge(10)", endless),
            ("Transport", Vec::new()),
            ("Transport", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec()),
        ];
        for (expected, answer) in cases {
            let error = client.get(&serve(answer).await, &options, 10).await.expect_err("a failure");
            assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
        }
    }
}
