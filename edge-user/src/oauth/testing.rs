//! For tests: an issuer's endpoint over loopback that records what it is asked and answers as told.

use super::failure::FailureKind;
use super::tokens::GrantError;
use super::{Endpoints, GeneratedKeys};
use crate::config::reader::Reader;
use crate::config::testing;
use crate::http_client::{HttpClient, Options};
use crate::oauth::Clients;
use rustls::sign::CertifiedKey;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[derive(Clone)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: String,
    pub(super) body: String,
    pub(super) delay: Duration,
}

impl Reply {
    pub(super) fn json(status: u16, body: &str) -> Self {
        Self::of(status, "application/json", body)
    }

    pub(super) fn of(status: u16, content_type: &str, body: &str) -> Self {
        let headers = format!("Content-Type: {content_type}\r\n");
        Self { status, headers, body: body.to_owned(), delay: Duration::ZERO }
    }

    pub(super) fn with(mut self, header: &str) -> Self {
        self.headers.push_str(header);
        self.headers.push_str("\r\n");
        self
    }

    pub(super) fn late(self, delay: Duration) -> Self {
        Self { delay, ..self }
    }
}

#[derive(Clone)]
pub(super) struct Seen {
    pub(super) head: String,
    pub(super) body: String,
}

impl Seen {
    /// A header's value, by its lower-case name.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(&prefix))
    }

    pub(super) fn argument(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.body.as_bytes());
        pairs.find(|(known, _)| known == name).map(|(_, value)| value.into_owned())
    }
}

pub(super) struct Idp {
    pub(super) url: String,
    reply: Arc<Mutex<Reply>>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

impl Idp {
    pub(super) async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/introspect", listener.local_addr().unwrap());
        let (reply, seen) = (Arc::new(Mutex::new(reply)), Arc::new(Mutex::new(Vec::new())));
        let (replies, sees) = (reply.clone(), seen.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (replies, sees) = (replies.clone(), sees.clone());
                tokio::spawn(async move {
                    let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
                    let (head, body) = loop {
                        match stream.read(&mut chunk).await {
                            Ok(read) if read > 0 => bytes.extend_from_slice(&chunk[..read]),
                            _ => return,
                        }
                        let text = String::from_utf8_lossy(&bytes).into_owned();
                        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                        if body.len() >= length.map_or(0, |length| length.parse().unwrap()) {
                            break (head.to_owned(), body.to_owned());
                        }
                    };
                    sees.lock().unwrap().push(Seen { head, body });
                    let reply = replies.lock().unwrap().clone();
                    tokio::time::sleep(reply.delay).await;
                    let Reply { status, headers, body, .. } = reply;
                    let length = if headers.contains("Content-Length") {
                        String::new()
                    } else {
                        format!("Content-Length: {}\r\n", body.len())
                    };
                    let text = format!("HTTP/1.1 {status} X\r\nConnection: close\r\n{length}{headers}\r\n{body}");
                    let _ = stream.write_all(text.as_bytes()).await;
                });
            }
        });
        Self { url, reply, seen }
    }

    pub(super) fn answer(&self, reply: Reply) {
        *self.reply.lock().unwrap() = reply;
    }

    pub(super) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(super) fn last(&self) -> Seen {
        self.seen().pop().expect("a request")
    }
}

/// Why no token was given: a verdict's `error`, or why there is no answer.
pub(super) fn word(error: GrantError) -> String {
    match error {
        GrantError::Refused(refused) => format!("refused {}", refused.error),
        GrantError::Failed(failure) => match failure.kind {
            FailureKind::Credentials => "alarm".into(),
            FailureKind::Status(status) => format!("status {status}"),
            FailureKind::Malformed(_) => "malformed".into(),
            kind => format!("{kind:?}"),
        },
    }
}

pub(super) fn endpoints() -> Arc<Endpoints> {
    Arc::new(Endpoints::new(HttpClient::new(&[]).unwrap()))
}

pub(super) fn options() -> Options {
    Options { timeout: Duration::from_secs(5), ..Options::default() }
}

/// Reads a YAML object, and gives the problems beside.
pub(super) fn read<T>(yaml: &str, read: impl FnOnce(&mut Reader<'_>) -> T) -> (T, Vec<String>) {
    let (out, problems, _) = testing::read("", yaml, read);
    (out, problems)
}

pub(super) fn clients_with(
    yaml: &str,
    keys: &Arc<GeneratedKeys>,
    pair: Option<Arc<CertifiedKey>>,
) -> (Clients, Vec<String>) {
    let find = |id: &str| pair.clone().filter(|_| id == "cert");
    read(yaml, |config| Clients::read(config, &find, keys))
}

pub(super) fn clients(yaml: &str) -> Clients {
    let (clients, problems) = clients_with(yaml, &Arc::default(), None);
    assert_eq!(problems, [""; 0], "{yaml}");
    clients
}
