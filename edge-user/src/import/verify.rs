//! `edge import verify`: replays the requests that an import wrote, and compares what comes back.
//!
//! The same file can be replayed against the F5 and against the edge. What the service was sent can be compared where
//! the service echoes it, as `[echo]` of the edge and httpbin do.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Client, Method, Url};
use rustls::ClientConfig;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::doctor::{chain, printable};
use crate::tls::{self, ClientTls, Verify};

/// Bytes of a file of requests at most.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Bytes of an answer that are read.
const MAX_BODY_BYTES: usize = 1 << 20;
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Why nothing can be replayed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of requests.
    #[error("{}: found no readable file ({error}), expected requests as `edge import f5` writes them", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file of requests is none.
    #[error("{}: found {found}, expected requests as `edge import f5` writes them", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What stands there.
        found: String,
    },
    /// `--against`
    #[error("--against: found {found}, expected a URL like https://192.0.2.1:8443, without a path")]
    Url {
        /// What was given.
        found: String,
    },
    /// The certificate to be shown.
    #[error("{}: found {found}, expected a certificate and its key, both PEM", .path.display())]
    Identity {
        /// The file.
        path: PathBuf,
        /// What was found.
        found: String,
    },
    /// The client or its runtime.
    #[error("no client: {0}")]
    Client(String),
    /// Nothing was asked.
    #[error("no request of the file is for {0}: the URL's scheme decides")]
    Nothing(String),
}

/// One request, and what is expected of its answer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expected {
    /// What the report calls it.
    pub name: String,
    /// The lines it comes from.
    #[serde(default)]
    pub from: String,
    /// What is asked.
    pub request: Sent,
    /// `http` or `https`, where it is for one of them alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<String>,
    /// The status; without it any but those that say that no service was reached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// `Location`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<String>,
    /// The body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Fields of the answer, by name in lower case; null for those that must not be there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fields: BTreeMap<String, Option<String>>,
    /// The pool it goes to: for readers, nobody can tell from outside.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pool: Option<String>,
    /// What the service is sent; compared where it echoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Upstream>,
}

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sent {
    /// The method.
    pub method: String,
    /// `Host`, and the server name.
    pub host: String,
    /// The path.
    pub path: String,
    /// More fields.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
}

/// What the service is sent.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Upstream {
    /// The path.
    pub path: String,
    /// Fields, by name in lower case; null for those that must not be there.
    pub fields: BTreeMap<String, Option<String>>,
}

impl Expected {
    /// Whether the request can be sent at all.
    pub(super) fn is_askable(&self) -> bool {
        let Sent { method, host, path, headers } = &self.request;
        let is_field = |(name, value): (&String, &String)| {
            HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
        };
        Method::from_bytes(method.as_bytes()).is_ok()
            && Url::parse(&format!("http://{host}{path}")).is_ok()
            && headers.iter().all(is_field)
    }
}

/// A file of requests.
pub fn file(requests: &[Expected]) -> String {
    format!("{:#}\n", json!({"requests": requests}))
}

/// What is replayed, and against whom.
pub struct Replay {
    /// The file of requests.
    pub file: PathBuf,
    /// The URL.
    pub against: String,
    /// Whether the server's certificate is not looked at.
    pub insecure: bool,
    /// The files of the certificate that is shown to a server that asks for one, and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// One difference: of what, what was expected and found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Difference {
    what: String,
    expected: String,
    found: String,
}

/// What became of one request.
pub struct Outcome {
    expected: Expected,
    url: String,
    differences: Vec<Difference>,
    /// Whether the service told what it was sent.
    echoed: bool,
}

/// Everything that was asked.
pub struct Report {
    outcomes: Vec<Outcome>,
    left_out: usize,
}

impl Report {
    /// 0 where everything is as expected, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.outcomes.iter().any(|outcome| !outcome.differences.is_empty()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in &self.outcomes {
            let word = if outcome.differences.is_empty() { "ok  " } else { "FAIL" };
            let Expected { name, from, request, .. } = &outcome.expected;
            let line = format!("{word}  {name}: {} {} ({from})", request.method, outcome.url);
            writeln!(f, "{}", printable(&line))?;
            for Difference { what, expected, found } in &outcome.differences {
                let line = format!("      {what}: expected {expected}, found {found}");
                writeln!(f, "{}", printable(&line))?;
            }
        }
        let failed = self.outcomes.iter().filter(|outcome| !outcome.differences.is_empty()).count();
        let silent = |outcome: &&Outcome| outcome.expected.upstream.is_some() && !outcome.echoed;
        let silent = self.outcomes.iter().filter(silent).count();
        write!(f, "{} as expected, {failed} not", self.outcomes.len() - failed)?;
        if silent > 0 {
            write!(f, "; {silent} whose service does not echo, so that what it was sent is not compared")?;
        }
        if self.left_out > 0 {
            write!(f, "; {} left out, for the other scheme", self.left_out)?;
        }
        writeln!(f)
    }
}

/// Asks everything, one after the other.
pub fn verify(replay: &Replay) -> Result<Report, Error> {
    let requests = read(&replay.file)?;
    let wrong = || Error::Url { found: replay.against.clone() };
    let base = Url::parse(&replay.against).map_err(|_| wrong())?;
    let (host, port) = (base.host_str().ok_or_else(wrong)?, base.port_or_known_default().ok_or_else(wrong)?);
    if !matches!(base.scheme(), "http" | "https")
        || base.path() != "/"
        || base.query().is_some()
        || !base.username().is_empty()
    {
        return Err(wrong());
    }
    let address = (host.trim_matches(['[', ']']), port)
        .to_socket_addrs()
        .ok()
        .and_then(|mut all| all.next())
        .ok_or_else(wrong)?;
    crate::crypto::install();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Error::Client(error.to_string()))?;
    let is_for = |expected: &Expected| expected.scheme.as_deref().is_none_or(|scheme| scheme == base.scheme());
    let (asked, others): (Vec<Expected>, Vec<Expected>) = requests.into_iter().partition(is_for);
    if asked.is_empty() {
        return Err(Error::Nothing(base.scheme().to_owned()));
    }
    let tls = tls_rules(replay)?;
    let mut outcomes = Vec::with_capacity(asked.len());
    for expected in asked {
        outcomes.push(runtime.block_on(ask(expected, base.scheme(), address, &tls))?);
    }
    Ok(Report { outcomes, left_out: others.len() })
}

fn read(path: &Path) -> Result<Vec<Expected>, Error> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        requests: Vec<Expected>,
    }
    let unreadable = |error| Error::Unreadable { path: path.to_owned(), error };
    let length = fs::metadata(path).map_err(unreadable)?.len();
    if length > MAX_FILE_BYTES {
        return Err(Error::Malformed {
            path: path.to_owned(),
            found: format!("{length} bytes, over {MAX_FILE_BYTES}"),
        });
    }
    let text = fs::read_to_string(path).map_err(unreadable)?;
    let file: Result<File, _> = serde_json::from_str(&text);
    file.map(|file| file.requests).map_err(|error| Error::Malformed { path: path.to_owned(), found: error.to_string() })
}

async fn ask(expected: Expected, scheme: &str, address: SocketAddr, tls: &ClientConfig) -> Result<Outcome, Error> {
    let Sent { host, path, method, headers } = &expected.request;
    let url = format!("{scheme}://{host}:{}{path}", address.port());
    let mut outcome = Outcome { url: url.clone(), differences: Vec::new(), echoed: false, expected: expected.clone() };
    let mut differ = |what: &str, expected: String, found: String| {
        outcome.differences.push(Difference { what: what.to_owned(), expected, found });
    };
    let method = Method::from_bytes(method.as_bytes());
    let (Ok(url), Ok(method)) = (Url::parse(&url), method) else {
        differ("request", "a method and a URL".to_owned(), format!("{} {url}", expected.request.method));
        return Ok(outcome);
    };
    // The name leads to the address that was given, so that the certificate and `Host` are those of the request.
    let mut request = client(host, address, tls)?.request(method, url).header("host", host);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    let mut answer = match request.send().await {
        Ok(answer) => answer,
        Err(error) => {
            differ("answer", "one".to_owned(), chain(&error));
            return Ok(outcome);
        }
    };
    let mut body = Vec::new();
    while body.len() < MAX_BODY_BYTES {
        match answer.chunk().await {
            Ok(Some(chunk)) => body.extend_from_slice(&chunk),
            Ok(None) => break,
            Err(error) => {
                differ("body", "a whole one".to_owned(), chain(&error));
                return Ok(outcome);
            }
        }
    }
    let fields: Vec<(String, String)> = answer
        .headers()
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let (differences, echoed) = compare(&expected, answer.status().as_u16(), &fields, &body);
    Ok(Outcome { differences, echoed, ..outcome })
}

fn tls_rules(replay: &Replay) -> Result<Arc<ClientConfig>, Error> {
    let read = |path: &Path| {
        fs::read(path).map_err(|error| Error::Identity { path: path.to_owned(), found: error.to_string() })
    };
    let identity = match &replay.identity {
        Some((certificate, key)) => {
            let unusable = |error: tls::Error| Error::Identity { path: certificate.clone(), found: error.to_string() };
            Some(tls::pair(&read(certificate)?, &read(key)?).map_err(unusable)?)
        }
        None => None,
    };
    let verify = if replay.insecure { Verify::Off } else { Verify::Full };
    let rules = ClientTls { verify, identity, ..ClientTls::default() };
    tls::client_config(&rules).map_err(|error| Error::Client(chain(&error)))
}

fn client(host: &str, address: SocketAddr, tls: &ClientConfig) -> Result<Client, Error> {
    let builder = Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(Policy::none())
        .no_proxy()
        .http1_only()
        .resolve(host, address)
        .timeout(PATIENCE);
    builder.build().map_err(|error| Error::Client(chain(&error)))
}

/// The values of a field, with commas between them.
fn joined(fields: &[(String, String)], name: &str) -> Option<String> {
    let values: Vec<&str> =
        fields.iter().filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str()).collect();
    (!values.is_empty()).then(|| values.join(","))
}

/// What differs; and whether the service told what it was sent.
fn compare(expected: &Expected, status: u16, fields: &[(String, String)], body: &[u8]) -> (Vec<Difference>, bool) {
    let mut differences = Vec::new();
    let mut same = |what: &str, expected: Option<&str>, found: Option<&str>| {
        if expected != found {
            let quoted = |text: Option<&str>| text.map_or("none".to_owned(), |text| format!("{text:?}"));
            differences.push(Difference { what: what.to_owned(), expected: quoted(expected), found: quoted(found) });
        }
    };
    let found = status.to_string();
    match expected.status {
        Some(status) => same("status", Some(&status.to_string()), Some(&found)),
        None => {
            let is_lost = status == 404 && String::from_utf8_lossy(body).contains("no Route matched");
            if is_lost || matches!(status, 502..=504) {
                same("status", Some("an answer of the service"), Some(&found));
            }
        }
    }
    if let Some(location) = &expected.location {
        same("Location", Some(location), joined(fields, "location").as_deref());
    }
    if let Some(text) = &expected.body {
        same("body", Some(text), Some(&String::from_utf8_lossy(body)));
    }
    for (name, value) in &expected.fields {
        same(&format!("field {name}"), value.as_deref(), joined(fields, name).as_deref());
    }
    let echo: Option<Value> = serde_json::from_slice(body).ok();
    let echoed = echo.as_ref().and_then(|echo| Some((echo.get("headers")?.as_object()?, echo.get("url")?.as_str()?)));
    if let (Some(upstream), Some((sent, url))) = (&expected.upstream, echoed) {
        let path = Url::parse(url).map(|url| url.path().to_owned()).unwrap_or_default();
        same("path to the service", Some(&upstream.path), Some(&path));
        let sent: Vec<(String, String)> =
            sent.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        for (name, value) in &upstream.fields {
            same(&format!("field {name} to the service"), value.as_deref(), joined(&sent, name).as_deref());
        }
    }
    let is_told = echoed.is_some();
    (differences, is_told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected() -> Expected {
        Expected {
            name: "vs 1".into(),
            status: Some(200),
            location: Some("https://a.example.com/".into()),
            fields: BTreeMap::from([("x-a".into(), Some("1".into())), ("server".into(), None)]),
            upstream: Some(Upstream {
                path: "/p".into(),
                fields: BTreeMap::from([("x-b".into(), Some("2".into())), ("x-c".into(), None)]),
            }),
            ..Expected::default()
        }
    }

    fn told(status: u16, fields: &[(&str, &str)], echo: Value) -> Vec<String> {
        let fields: Vec<_> = fields.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (differences, _) = compare(&expected(), status, &fields, echo.to_string().as_bytes());
        differences.into_iter().map(|one| format!("{}: {} / {}", one.what, one.expected, one.found)).collect()
    }

    #[test]
    fn what_differs_is_said_and_nothing_else() {
        let good = [("x-a", "1"), ("location", "https://a.example.com/")];
        assert_eq!(told(200, &good, json!({"headers": {"X-B": "2"}, "url": "http://h/p?x"})), [""; 0]);
        let found = told(301, &[("x-a", "2"), ("server", "s")], json!({"headers": {"X-C": "2"}, "url": "http://h/q"}));
        assert_eq!(
            found,
            [
                "status: \"200\" / \"301\"",
                "Location: \"https://a.example.com/\" / none",
                "field server: none / \"s\"",
                "field x-a: \"1\" / \"2\"",
                "path to the service: \"/p\" / \"/q\"",
                "field x-b to the service: \"2\" / none",
                "field x-c to the service: none / \"2\"",
            ]
        );
        let any = Expected { status: None, ..Expected::default() };
        assert_eq!(compare(&any, 418, &[], b"x"), (vec![], false));
        assert_eq!(compare(&any, 503, &[], b"x").0.len(), 1);
        assert_eq!(compare(&any, 404, &[], b"{\"message\":\"no Route matched with those values\"}").0.len(), 1);
        assert_eq!(compare(&any, 404, &[], b"not here").0.len(), 0);
    }

    #[test]
    fn files_of_requests_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("requests.json");
        fs::write(&path, file(&[expected()])).unwrap();
        assert_eq!(read(&path).unwrap(), [expected()]);
        for text in ["", "[]", "{\"requests\": [{\"name\": \"x\", \"oops\": 1}]}"] {
            fs::write(&path, text).unwrap();
            assert!(matches!(read(&path), Err(Error::Malformed { .. })), "{text}");
        }
        let url = |against: &str| {
            fs::write(&path, file(&[expected()])).unwrap();
            verify(&Replay { file: path.clone(), against: against.into(), insecure: false, identity: None })
                .err()
                .map(|error| error.to_string())
        };
        for against in ["x", "ftp://192.0.2.1", "http://127.0.0.1/path", "http://u@127.0.0.1"] {
            assert!(url(against).unwrap().starts_with("--against"), "{against}");
        }
    }
}
