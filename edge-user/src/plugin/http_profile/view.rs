//! What rules see of a request beside the fields they change.

use std::net::IpAddr;

use crate::config::snapshot::Consumer;
use crate::http::h1::parse::split_port;
use crate::http::head::Head;
use crate::plugin::request_transformer::template::{Fact, Source, Template};
use crate::plugin::{Request, Response};
use crate::proxy::connection::Connection;
use crate::router::{Match, Router};

/// One request, as conditions and templates ask about it. Fields are those of the message at hand.
pub(super) struct View<'s> {
    /// The host the client asked for, without its port.
    pub(super) host: &'s [u8],
    /// The normalised path; empty where a response is shaped.
    pub(super) path: &'s [u8],
    /// The query, without its question mark.
    pub(super) query: &'s [u8],
    /// The request's method, where the message at hand is a response.
    pub(super) method: Option<&'s [u8]>,
    /// The status, where the message at hand is a response.
    pub(super) status: Option<u16>,
    /// The client by the rules of `trusted_ips`.
    pub(super) client: IpAddr,
    /// Whether the client uses TLS, by the rules of `trusted_ips`.
    pub(super) https: bool,
    /// The connection it came over.
    pub(super) connection: &'s Connection,
    /// The request's id.
    pub(super) id: &'s str,
    /// Whom it stands for.
    pub(super) consumer: Option<&'s Consumer>,
    found: Option<(&'s Router, Match)>,
}

/// The head and the view of a request.
pub(super) fn of_request<'s>(request: &'s mut Request<'_>) -> (&'s mut Head, View<'s>) {
    let view = View {
        host: request.host,
        path: request.path,
        query: request.query.as_deref().unwrap_or_default(),
        method: None,
        status: None,
        client: request.client,
        https: request.https,
        connection: request.connection,
        id: request.id,
        consumer: request.notes.caller.consumer.as_deref(),
        found: request.found.map(|found| (request.router, found)),
    };
    (request.head, view)
}

/// The head and the view of a response.
pub(super) fn of_response<'s>(response: &'s mut Response<'_>) -> (&'s mut Head, View<'s>) {
    let view = View {
        host: split_port(response.authority).0,
        path: b"",
        query: b"",
        method: Some(response.request.method()),
        status: Some(response.head.status()),
        client: response.client,
        https: response.https,
        connection: response.connection,
        id: response.id,
        consumer: response.notes.caller.consumer.as_deref(),
        found: None,
    };
    (response.head, view)
}

impl View<'_> {
    /// The request's method; `head` is the message at hand.
    pub(super) fn method<'h>(&'h self, head: &'h Head) -> &'h [u8] {
        self.method.unwrap_or_else(|| head.method())
    }

    /// A template's value, which may be empty; white space around it is none of it (RFC 9110, 5.5).
    pub(super) fn fill<'t>(&self, head: &Head, template: &'t Template) -> std::borrow::Cow<'t, [u8]> {
        template.fill(&Source {
            head,
            query: self.query,
            captures: match template.is_constant() {
                true => None,
                false => self.found.and_then(|(router, found)| router.captures(&found, self.path)),
            },
            consumer: self.consumer,
            facts: &|fact| self.fact(head, fact),
        })
    }

    fn fact(&self, head: &Head, fact: Fact) -> Option<Vec<u8>> {
        let text = || self.connection.client_certificate.as_deref()?.text();
        match fact {
            Fact::ClientAddress => Some(self.client.to_string().into_bytes()),
            Fact::ClientPort => Some(self.connection.peer.port().to_string().into_bytes()),
            Fact::Host => Some(self.host.to_vec()),
            Fact::Path => Some(self.path.to_vec()),
            Fact::Method => Some(self.method(head).to_vec()),
            Fact::Scheme => Some(if self.https { b"https".to_vec() } else { b"http".to_vec() }),
            Fact::Id => Some(self.id.as_bytes().to_vec()),
            Fact::CertificateSubject => Some(text()?.subject.as_bytes().to_vec()),
            Fact::CertificateIssuer => Some(text()?.issuer.as_bytes().to_vec()),
            Fact::CertificateSerial => Some(text()?.serial.as_bytes().to_vec()),
            Fact::CertificateFingerprint => Some(text()?.fingerprint.as_bytes().to_vec()),
            Fact::CertificatePem => Some(text()?.escaped_pem.as_bytes().to_vec()),
        }
    }
}
