//! What is attached to a virtual server by name: profiles, and persistence.

use super::http::{self, Http};
use super::ledger::{Ledger, Span};
use super::model::{Model, Object, Options, is_built_in};
use super::pool::Persist;
use super::profile::{self, ClientSsl};
use super::shape::Shape;

/// What the profiles of a virtual server come to.
#[derive(Default)]
pub(super) struct Profiles {
    /// The http profile; without one connections are taken.
    pub(super) http: Option<Http>,
    /// What profiles for connections have for http-profile.
    pub(super) shape: Shape,
    /// Seconds after which idle connections end.
    pub(super) idle_secs: Option<u64>,
    /// Client-SSL profiles, and where they are named.
    pub(super) client_ssl: Vec<(ClientSsl, Span)>,
    /// Members are spoken to over TLS; whether they are verified.
    pub(super) to_members: Option<bool>,
}

/// Reads the profiles of a virtual server.
pub(super) fn profiles(object: &Object, model: &Model, ledger: &Ledger) -> Profiles {
    let mut found = Profiles::default();
    for node in object.node.children().iter().filter(|node| node.word(0) == "profiles") {
        ledger.translated(node.span.head());
        for (name, entry) in node.names() {
            let context = entry.value("context").map(|(word, _)| word);
            entry.children().iter().for_each(|child| ledger.translated(child.span));
            let profile = model.find_any("ltm profile ", name, object.folder());
            let kind = match profile {
                Some(profile) => {
                    profile.mark();
                    profile.kind.trim_start_matches("ltm profile ").to_owned()
                }
                None if is_built_in(name) => built_in_kind(name).to_owned(),
                None => {
                    ledger.dropped(entry.span, format!("the profile {name} is in none of the files"));
                    continue;
                }
            };
            let options = profile.map(|profile| model.options(profile, ledger));
            options
                .iter()
                .flat_map(|options| &options.chain)
                .for_each(|object| ledger.translated(object.node.span.head()));
            one_profile(&kind, context, options, entry.span, &mut found, model, ledger);
        }
    }
    found
}

fn one_profile(
    kind: &str,
    context: Option<&str>,
    options: Option<Options<'_>>,
    span: Span,
    found: &mut Profiles,
    model: &Model,
    ledger: &Ledger,
) {
    match kind {
        "http" => {
            found.http = Some(options.map(|options| http::http(&options, ledger)).unwrap_or_default());
            ledger.translated(span);
        }
        "tcp" => {
            let idle = options.and_then(|options| profile::tcp(&options, ledger));
            if context != Some("serverside") {
                found.idle_secs = idle.or(found.idle_secs);
            }
            ledger.translated(span);
        }
        "client-ssl" => {
            let ssl = match &options {
                Some(options) => profile::client_ssl(options, model, ledger),
                None => ClientSsl { pair: ("default.crt".into(), "default.key".into()), ..ClientSsl::default() },
            };
            match options.is_some() {
                true => ledger.translated(span),
                false => ledger.changed(
                    span,
                    "the F5's own certificate: put one beside edge.toml, as default.crt and default.key",
                ),
            }
            found.client_ssl.push((ssl, span));
        }
        "server-ssl" => {
            let is_verified = profile::server_ssl(options.as_ref(), ledger);
            found.to_members = Some(is_verified);
            match is_verified {
                true => ledger.translated(span),
                false => ledger.changed(span, "members' certificates are not verified, as on the F5 (`tls_verify: false`); the edge says so at each start"),
            }
        }
        "one-connect" | "http2" | "httprouter" => {
            if let Some(options) = options {
                profile::connection(kind, &options, &mut found.shape, ledger);
            }
            ledger.changed(
                span,
                match kind {
                    "one-connect" => {
                        "the edge keeps connections to members by itself; a member is chosen for each request"
                    }
                    _ => "HTTP/2 is offered on every TLS listener",
                },
            );
        }
        "websocket" => ledger.translated(span),
        "fastl4" | "fasthttp" => ledger.changed(span, "connections end at the edge and begin there anew"),
        _ => {
            let why = match kind {
                "web-acceleration" | "http-compression" => "the edge neither caches nor compresses answers".to_owned(),
                "rewrite" | "html" | "stream" => {
                    "URLs in bodies: those in Location can change (`redirect-rewrite`)".to_owned()
                }
                "request-log" | "analytics" | "statistics" => {
                    "the access log and /metrics tell of each request".to_owned()
                }
                other => format!("a profile of the kind {other}: the edge has none"),
            };
            if let Some(options) = options {
                options.chain.iter().for_each(|object| ledger.dropped(object.node.span, why.clone()));
            }
            ledger.dropped(span, why);
        }
    }
}

fn built_in_kind(name: &str) -> &'static str {
    match name.rsplit('/').next().unwrap_or_default() {
        "http" | "http-transparent" => "http",
        "clientssl" | "clientssl-secure" => "client-ssl",
        "serverssl" => "server-ssl",
        "oneconnect" => "one-connect",
        "http2" => "http2",
        "fastL4" => "fastl4",
        "fasthttp" => "fasthttp",
        "websocket" => "websocket",
        "udp" => "udp",
        "analytics" => "analytics",
        _ => "tcp",
    }
}

/// Reads how clients stay with members.
pub(super) fn persist(object: &Object, model: &Model, ledger: &Ledger) -> Option<Persist> {
    let mut found = None;
    for node in object.node.children().iter().filter(|node| node.word(0) == "persist") {
        ledger.translated(node.span.head());
        for (name, entry) in node.names().filter(|(name, _)| !matches!(*name, "persist" | "none")) {
            entry.children().iter().for_each(|child| ledger.translated(child.span));
            let profile = model.find_any("ltm persistence ", name, object.folder());
            let kind = match profile {
                Some(profile) => {
                    profile.mark();
                    profile.kind.trim_start_matches("ltm persistence ").to_owned()
                }
                None => name.rsplit('/').next().unwrap_or_default().replace('_', "-"),
            };
            let options = profile.map(|profile| model.options(profile, ledger));
            let (persist, why) = match kind.as_str() {
                "cookie" => {
                    let named = options.as_ref().and_then(|options| options.value("cookie-name")).map(|(name, _)| name);
                    let cookie =
                        named.filter(|name| crate::http::head::is_field_name(name.as_bytes())).unwrap_or("edge-member");
                    (
                        Some(Persist::Cookie(cookie.to_owned())),
                        format!(
                            "a cookie {cookie} of the edge's own is hashed to a member; cookies of the F5 say nothing to it"
                        ),
                    )
                }
                "source-addr" => (
                    Some(Persist::Address),
                    "the client's address is hashed to a member; there is no table, and no time-out".to_owned(),
                ),
                other => (
                    None,
                    format!(
                        "persistence by {other}: the edge hashes cookies, addresses, headers, paths and arguments (`hash_on`)"
                    ),
                ),
            };
            for object in options.iter().flat_map(|options| &options.chain) {
                match persist {
                    Some(_) => ledger.changed(object.node.span, why.clone()),
                    None => ledger.dropped(object.node.span, why.clone()),
                }
            }
            match persist {
                Some(_) => ledger.changed(entry.span, why),
                None => ledger.dropped(entry.span, why),
            }
            found = persist.or(found);
        }
    }
    found
}
