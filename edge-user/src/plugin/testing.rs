//! What unit tests of plugins stand on: one request with everything around it.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::{Access, Notes, Place, Plugin, PluginEnv, Request, RequestBody, Response};
use crate::config::problem::Sink;
use crate::config::reader::Reader;
use crate::config::snapshot::{Consumers, Protocols, Route};
use crate::config::value::Value;
use crate::http::h1::parse::Framing;
use crate::http::head::{Head, Owner, Version};
use crate::proxy::connection::{Connection, ListenerInfo};
use crate::router::{Match, Router};
use crate::token::Now;
use crate::token::cache::{LocalCache, VerdictCache};

/// Reads a plugin's `config`; the plugin, or the problems.
pub(crate) fn parse(name: &str, yaml: &str) -> Result<Plugin, Vec<String>> {
    let sink = Sink::new("k");
    let value = Value::from_yaml(yaml, &sink).expect("YAML");
    let reader = Reader::new(&value, "config", &sink).expect("an object");
    let plugin = Plugin::parse(name, reader, &Place::default(), &PluginEnv::default());
    let (problems, _) = sink.into_parts();
    plugin.filter(|_| problems.is_empty()).ok_or_else(|| problems.iter().map(ToString::to_string).collect())
}

/// A body that has come already.
pub(crate) struct Bytes {
    pub(crate) framing: Framing,
    pub(crate) bytes: Vec<u8>,
}

impl RequestBody for Bytes {
    fn framing(&self) -> Framing {
        self.framing
    }

    fn poll_collect(&mut self, _cx: &mut Context<'_>, limit: usize) -> Poll<bool> {
        Poll::Ready(self.collected(limit).is_some())
    }

    fn collected(&self, limit: usize) -> Option<&[u8]> {
        (self.bytes.len() <= limit).then_some(&self.bytes)
    }

    fn replace(&mut self, body: Vec<u8>) -> bool {
        self.bytes = body;
        true
    }
}

/// One request; change what matters, then run a phase.
pub(crate) struct Scene {
    pub(crate) head: Head,
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) https: bool,
    pub(crate) expects_continue: bool,
    pub(crate) client: IpAddr,
    pub(crate) now: Now,
    pub(crate) connection: Connection,
    pub(crate) route: Route,
    pub(crate) router: Router,
    pub(crate) found: Option<Match>,
    pub(crate) consumers: Consumers,
    pub(crate) cache: LocalCache,
    pub(crate) body: Bytes,
    pub(crate) notes: Notes,
}

impl Scene {
    /// A request with these fields, from 192.0.2.7 to `http://api.example/path?a=1`.
    pub(crate) fn new(method: &str, fields: &[(&str, &str)]) -> Self {
        let mut head = Head::default();
        head.start_request(method.as_bytes(), b"/path?a=1", Version::Http11);
        for (name, value) in fields {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        let local = IpAddr::from([127, 0, 0, 1]);
        let listener = ListenerInfo {
            index: 0,
            label: "127.0.0.1:8000".into(),
            address: local,
            port: 8000,
            tls: false,
            has_vips: false,
            proxy_protocol: crate::proxy_protocol::Versions::Off,
            rejects: None,
        };
        Self {
            head,
            path: "/path".into(),
            query: Some("a=1".into()),
            https: false,
            expects_continue: false,
            client: IpAddr::from([192, 0, 2, 7]),
            now: Now::read(),
            connection: Connection::new(
                ([192, 0, 2, 7], 1234).into(),
                (local, 8000).into(),
                false,
                Arc::new(listener),
                None,
            ),
            route: Route {
                id: uuid::Uuid::from_u128(1),
                name: Some("route".into()),
                label: "route".into(),
                protocols: Protocols::ALL_HTTP,
                https_redirect_status_code: 426,
                strip_path: true,
                preserve_host: false,
                request_buffering: true,
                response_buffering: true,
                service: None,
                plugins: Arc::default(),
                credential_names: Box::default(),
            },
            router: Router::default(),
            found: None,
            consumers: Consumers::default(),
            cache: VerdictCache::new(1 << 20).local(),
            body: Bytes { framing: Framing::None, bytes: Vec::new() },
            notes: Notes::default(),
        }
    }

    /// The request as plugins see it.
    pub(crate) fn request(&mut self) -> Request<'_> {
        Request {
            head: &mut self.head,
            path: self.path.as_bytes(),
            query: self.query.as_deref().map(|query| Cow::Borrowed(query.as_bytes())),
            host: b"api.example",
            port: 8000,
            https: self.https,
            expects_continue: self.expects_continue,
            client: self.client,
            connection: &self.connection,
            id: "0123456789abcdef0123456789abcdef",
            now: self.now,
            route: &self.route,
            router: &self.router,
            found: self.found,
            consumers: &self.consumers,
            cache: &self.cache,
            key_wait: Duration::from_secs(5),
            body: &mut self.body,
            notes: &mut self.notes,
            observer: Default::default(),
        }
    }

    /// Runs the access phase.
    pub(crate) async fn access<'p>(&mut self, plugin: &'p Plugin) -> Access<'p> {
        plugin.access(&mut self.request()).await
    }

    /// Runs the response phase on a response of this status and fields.
    pub(crate) fn respond(&self, plugin: &Plugin, status: u16, fields: &[(&str, &str)]) -> Head {
        self.answered(status, fields, |response| plugin.respond(response))
    }

    /// Has a profile's last word on a response of this status and fields.
    pub(crate) fn shape(&self, plugin: &Plugin, status: u16, fields: &[(&str, &str)]) -> Head {
        self.answered(status, fields, |response| plugin.profile().expect("a profile").shape(response))
    }

    fn answered(&self, status: u16, fields: &[(&str, &str)], phase: impl FnOnce(&mut Response<'_>)) -> Head {
        let mut head = Head::default();
        head.start_response(status, b"", Version::Http11);
        for (name, value) in fields {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        phase(&mut Response {
            head: &mut head,
            request: &self.head,
            authority: b"api.example",
            id: "0123456789abcdef0123456789abcdef",
            upstream: None,
            client: self.client,
            https: self.https,
            connection: &self.connection,
            is_proxied: true,
            notes: &self.notes,
        });
        head
    }
}

/// A head's fields as text.
pub(crate) fn fields(head: &Head) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    head.fields().map(|field| (text(field.name), text(field.value))).collect()
}
