//! Profiles of virtual servers for connections, what they inherit resolved: TCP, client-SSL and server-SSL, one-connect,
//! http2. That for requests is in `http`.
//!
//! Options that say what the edge does anyway are translated; those it has no word for are given up here, each with its
//! reason.

use super::bigip::Node;
use super::ledger::{Ledger, Span};
use super::model::{Model, Options};
use super::output::{self, Clients};
use super::shape::{Shape, Table};
use crate::config;

/// What a client-SSL profile leads to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct ClientSsl {
    /// Files of the certificate and its key.
    pub(super) pair: (String, String),
    /// What it asks of clients.
    pub(super) clients: Clients,
    /// The name it is for.
    pub(super) server_name: Option<String>,
    /// Whether it serves names that no other profile has.
    pub(super) is_default: bool,
    /// Where it stands.
    pub(super) comment: String,
}

/// Options of every kind of object that say nothing to the edge.
pub(super) fn is_silent(key: &str) -> bool {
    matches!(
        key,
        "app-service"
            | "defaults-from"
            | "description"
            | "partition"
            | "creation-time"
            | "last-modified-time"
            | "inherit-certkeychain"
    )
}

/// Whether a value says that something is off.
pub(super) fn is_off(value: &str) -> bool {
    matches!(value, "none" | "disabled" | "no" | "0" | "")
}

/// The value of an option; of one with a list in braces that there is one.
pub(super) fn value_of(option: &Node) -> &str {
    if option.children().is_empty() { option.word(1) } else { "{}" }
}

/// Reads a TCP profile; the time after which an idle connection ends, in seconds.
pub(super) fn tcp(options: &Options<'_>, ledger: &Ledger) -> Option<u64> {
    let mut idle = None;
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match key {
            _ if is_silent(key) => ledger.translated(span),
            "idle-timeout" => match value.parse::<u64>() {
                Ok(seconds @ 1..=2_147_483) => {
                    ledger.changed(span, "it counts for kept connections between requests, and for streams, of all virtual servers of this edge");
                    idle = Some(seconds);
                }
                _ => ledger.dropped(span, "every wait has an end: `timeouts` has 75 s for idle connections"),
            },
            "reset-on-timeout" | "nagle" | "delayed-acks" => {
                ledger.dropped(span, "the edge turns Nagle off and leaves the rest to the kernel")
            }
            _ => ledger.dropped(span, "TCP itself is the Linux kernel's: see sysctl net.ipv4.tcp_*"),
        }
    }
    idle
}

/// Options whose only meaning is how an F5 keeps connections to members, or speaks HTTP/2.
pub(super) fn connection(kind: &str, options: &Options<'_>, shape: &mut Shape, ledger: &Ledger) {
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match (kind, key) {
            _ if is_silent(key) => ledger.translated(span),
            ("one-connect", "source-mask") if matches!(value, "any" | "0.0.0.0" | "::") => ledger.translated(span),
            ("one-connect", "source-mask") => match shape.set(Table::Upstream, "reuse", "per_connection") {
                Ok(()) => ledger.changed(
                    span,
                    "connections to members are each for one connection of a client (`reuse`), not for its network",
                ),
                Err(why) => ledger.dropped(span, why),
            },
            ("one-connect", _) => ledger
                .changed(span, "the edge keeps connections to members by itself; a member is chosen for each request"),
            ("http2", "insert-header") if is_off(value) => ledger.translated(span),
            ("http2", "insert-header" | "insert-header-name") => {
                ledger.dropped(span, "members are not told which version of HTTP a client speaks")
            }
            ("http2", _) => ledger
                .changed(span, "HTTP/2 is offered on every TLS listener, with windows and frames of the edge's own"),
            _ => {}
        }
    }
}

/// What becomes of responses that the F5 fetches and staples.
const STAPLES: &str =
    "the edge fetches no OCSP responses: have a timer fetch them, and name the files in `tls.ocsp_responses`";

/// A file beside `edge.toml` for what a name on the F5 means; another one for each name.
fn file(name: &str, model: &Model) -> String {
    const WRITTEN: [&str; 5] = ["edge.toml", "kong.yaml", "requests.json", "report.txt", output::KEY_FILE];
    let short = name.strip_prefix("/Common/").unwrap_or(name);
    let plain: String = short
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' })
        .collect();
    let plain = match plain.trim_matches(['.', '-']) {
        "" => "unnamed.pem".to_owned(),
        taken if WRITTEN.contains(&taken) => format!("f5-{taken}"),
        plain => plain.to_owned(),
    };
    let (stem, end) = plain.rsplit_once('.').map_or((&*plain, ""), |(stem, _)| (stem, &plain[stem.len()..]));
    let mut file = plain.clone();
    let mut number = 1;
    while !model.takes_file(&file, short) {
        number += 1;
        file = format!("{stem}-{number}{end}");
    }
    file
}

/// Reads a client-SSL profile.
pub(super) fn client_ssl(options: &Options<'_>, model: &Model, ledger: &Ledger) -> ClientSsl {
    let object = options.chain[0];
    let mut ssl = ClientSsl {
        pair: ("default.crt".into(), "default.key".into()),
        comment: format!("{} ({})", object.label(), ledger.place(object.node.span)),
        ..ClientSsl::default()
    };
    let put = |span: Span, file: &str| {
        ledger.changed(span, format!("the file is not in bigip.conf: put it beside edge.toml, as {file}"));
    };
    // Of the two ways to say it the nearer one counts.
    let asks = options.value("peer-cert-mode").is_some_and(|(mode, _)| matches!(mode, "require" | "request"));
    let has_authorities = options.value("ca-file").is_some_and(|(file, _)| !is_off(file));
    let by_chain = options.distance("cert-key-chain") <= options.distance("cert");
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match key {
            _ if is_silent(key) => ledger.translated(span),
            "cert-key-chain" if !by_chain => ledger.translated(span),
            "cert-key-chain" => {
                ledger.translated(span);
                for (index, entry) in option.children().iter().enumerate() {
                    if index > 0 {
                        ledger.dropped(entry.span, "a listener has one certificate for all other names: give a second kind of key as `cert_alt` of a certificate entity");
                        continue;
                    }
                    for member in entry.children() {
                        let name = file(member.word(1), model);
                        match member.word(0) {
                            "cert" => {
                                put(member.span, &name);
                                ssl.pair.0 = name;
                            }
                            "key" => {
                                put(member.span, &name);
                                ssl.pair.1 = name;
                            }
                            "chain" if is_off(member.word(1)) => ledger.translated(member.span),
                            "chain" => ledger.changed(member.span, format!("append {name} to the certificate's file")),
                            "passphrase" => {
                                ledger.dropped(member.span, "keys are read without a passphrase: take it off")
                            }
                            _ => ledger.dropped(member.span, STAPLES),
                        }
                    }
                }
            }
            "cert" | "key" if is_off(value) => ledger.translated(span),
            "cert" | "key" if by_chain => ledger.translated(span),
            "cert" => {
                ssl.pair.0 = file(value, model);
                put(span, &ssl.pair.0);
            }
            "key" => {
                ssl.pair.1 = file(value, model);
                put(span, &ssl.pair.1);
            }
            "chain" if is_off(value) || by_chain => ledger.translated(span),
            "chain" => ledger.changed(span, format!("append {} to the certificate's file", file(value, model))),
            "ciphers" | "cipher-group" | "options" | "tm-options" if is_off(value) => ledger.translated(span),
            "ciphers" | "cipher-group" | "options" | "tm-options" | "ssl-sign-hash" => {
                ledger.changed(span, "TLS 1.2 and 1.3 with forward secrecy and AEAD, and nothing else");
            }
            "peer-cert-mode" => match value {
                "require" | "request" => {
                    ssl.clients.certificate = Some(if value == "require" { "require" } else { "request" });
                    ledger.translated(span);
                }
                _ => ledger.translated(span),
            },
            // Nobody is asked, on the F5 as little as here.
            "ca-file" | "client-cert-ca" | "crl-file" | "crl" | "allow-expired-crl" | "authenticate-depth" if !asks => {
                ledger.translated(span)
            }
            "ca-file" | "client-cert-ca" if is_off(value) => ledger.translated(span),
            "ca-file" => {
                let name = file(value, model);
                put(span, &name);
                ssl.clients.ca = Some(name);
            }
            "client-cert-ca" => ledger.changed(span, "what clients are told of authorities is what `client_ca` has"),
            "crl-file" | "crl" | "allow-expired-crl" if is_off(value) => ledger.translated(span),
            "crl-file" if has_authorities => {
                let name = file(value, model);
                put(span, &name);
                ledger
                    .changed(span, "an authority between a client's and that of `ca-file` needs a list in it as well");
                ssl.clients.crl = Some(name);
            }
            "crl-file" => ledger.opened(
                span,
                "without `ca-file` no list counts: a client's certificate that was revoked is taken until it expires",
            ),
            "crl" => ledger.opened(
                span,
                "the edge fetches no revocation lists: have a timer fetch them, and name the files in `client_crl`",
            ),
            "allow-expired-crl" => {
                ledger.changed(span, "a list that is past its `nextUpdate` refuses its certificates")
            }
            "authenticate" if value == "once" => ledger.translated(span),
            "authenticate" => {
                ledger.changed(span, "a certificate is verified at each handshake, resumed ones included")
            }
            "authenticate-depth" if !has_authorities => ledger.dropped(span, "without `ca-file` no chain is followed"),
            "authenticate-depth" => match value.parse() {
                Ok(depth @ 0..=6) => {
                    ledger.changed(span, "it counts the certificates between a client's own and that of its authority");
                    ssl.clients.depth = Some(depth);
                }
                // The F5's own default is nine.
                Ok(_) => {
                    ledger.changed(span, "six certificates between a client's own and that of its authority at most")
                }
                Err(_) => ledger.opened(span, format!("{value:?} is no depth")),
            },
            "server-name" if is_off(value) => ledger.translated(span),
            "server-name" => {
                ssl.server_name = config::server_name(value);
                match ssl.server_name {
                    Some(_) => ledger.translated(span),
                    None => ledger.dropped(span, format!("{value:?} is no server name")),
                }
            }
            "sni-default" => {
                ssl.is_default = value == "true";
                ledger.translated(span);
            }
            "sni-require" if matches!(value, "false") || is_off(value) => ledger.translated(span),
            "sni-require" => ledger.dropped(span, "a client without a server name gets the listener's certificate"),
            "ocsp-stapling" | "renegotiation" | "c3d" | "forward-proxy" | "ssl-forward-proxy" if is_off(value) => {
                ledger.translated(span)
            }
            "renegotiation" | "secure-renegotiation" | "renegotiate-period" | "renegotiate-size" => {
                ledger.changed(span, "there is no renegotiation")
            }
            "ocsp-stapling" => ledger.dropped(span, STAPLES),
            "cache-size" | "cache-timeout" | "session-ticket" | "session-mirroring" => {
                ledger.changed(span, "sessions are resumed as the edge does")
            }
            "alert-timeout" | "handshake-timeout" => ledger.changed(span, "`timeouts.handshake`, 10 s unless set"),
            _ => {}
        }
    }
    ssl
}

/// Reads a server-SSL profile; whether members' certificates are verified.
pub(super) fn server_ssl(options: Option<&Options<'_>>, ledger: &Ledger) -> bool {
    let mut is_verified = false;
    for option in options.into_iter().flat_map(Options::nodes) {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match key {
            _ if is_silent(key) => ledger.translated(span),
            "peer-cert-mode" => {
                is_verified = value == "require";
                ledger.translated(span);
            }
            "ca-file" if is_off(value) => ledger.translated(span),
            "ca-file" => ledger.dropped(span, "members are verified by the system's authorities: add this one as a `ca_certificates` entity, and name it in the service"),
            "cert" | "key" | "chain" if is_off(value) => ledger.translated(span),
            "cert" | "key" | "chain" => ledger.dropped(span, "give the service a `client_certificate` of this certificate and key"),
            "server-name" | "authenticate-name" if is_off(value) => ledger.translated(span),
            "server-name" => ledger.dropped(span, "the server name is that of the request's Host, as `preserve_host` has it"),
            "ciphers" | "cipher-group" | "options" | "tm-options" => ledger.changed(span, "TLS 1.2 and 1.3 with forward secrecy and AEAD, and nothing else"),
            _ => {}
        }
    }
    is_verified
}
