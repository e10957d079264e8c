//! Profiles of virtual servers, what they inherit resolved: http, TCP, client-SSL and server-SSL, one-connect, http2.
//!
//! Options that say what the edge does anyway are translated; those it has no word for are given up here, each with its
//! reason.

use super::actions;
use super::bigip::Node;
use super::gaps;
use super::ledger::{Ledger, Span};
use super::model::Options;
use super::outcome::{Change, Kind};
use super::text::{Part, Text};

/// What an http profile leads to.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Http {
    /// Changes of each request's fields.
    pub(super) request: Vec<Change>,
    /// Changes of each answer's fields.
    pub(super) response: Vec<Change>,
    /// `limits.fields`
    pub(super) fields: Option<u64>,
    /// `limits.head_bytes`
    pub(super) head_bytes: Option<u64>,
}

/// What a client-SSL profile leads to.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct ClientSsl {
    /// Files of the certificate and its key.
    pub(super) pair: (String, String),
    /// `request` or `require`.
    pub(super) client_certificate: Option<&'static str>,
    /// The authorities' file.
    pub(super) client_ca: Option<String>,
    /// The name it is for.
    pub(super) server_name: Option<String>,
    /// Whether it serves names that no other profile has.
    pub(super) is_default: bool,
    /// Where it stands.
    pub(super) comment: String,
}

/// Options of every kind of object that say nothing to the edge.
fn is_silent(key: &str) -> bool {
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
fn is_off(value: &str) -> bool {
    matches!(value, "none" | "disabled" | "no" | "0" | "")
}

/// The value of an option; of one with a list in braces that there is one.
fn value_of(option: &Node) -> &str {
    if option.children().is_empty() { option.word(1) } else { "{}" }
}

/// Reads an http profile.
pub(super) fn http(options: &Options<'_>, ledger: &Ledger) -> Http {
    let mut http = Http::default();
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match key {
            _ if is_silent(key) => ledger.translated(span),
            "proxy-type" if value == "reverse" => ledger.translated(span),
            "proxy-type" => ledger.dropped(span, "the edge is a reverse proxy alone"),
            "insert-xforwarded-for" if value == "enabled" => {
                ledger.changed(span, "the edge adds the client to X-Forwarded-For always, in the one line there is; a client's own value is dropped unless `proxy.trusted_ips` has it");
            }
            "insert-xforwarded-for" => {
                ledger.changed(span, "the edge always sends X-Forwarded-For, and X-Forwarded-Proto, -Host and -Port")
            }
            "accept-xff" if is_off(value) => ledger.translated(span),
            "accept-xff" => ledger.dropped(
                span,
                "whose X-Forwarded-For is believed has to be said: name the proxies in front in `proxy.trusted_ips`",
            ),
            "xff-alternative-names" if is_off(value) => ledger.translated(span),
            "xff-alternative-names" => ledger.dropped(span, "the client is read from X-Forwarded-For alone"),
            "header-insert" if is_off(value) => ledger.translated(span),
            "header-insert" => match inserted(value) {
                Ok(Ok(change)) => {
                    http.request.push(change);
                    ledger.translated(span);
                }
                Ok(Err(note)) => ledger.changed(span, note),
                Err(why) => ledger.dropped(span, why),
            },
            "header-erase" if is_off(value) => ledger.translated(span),
            "header-erase" => match actions::change(Kind::Remove, value, &Text::default(), false) {
                Ok(Ok(change)) => {
                    http.request.push(change);
                    ledger.translated(span);
                }
                Ok(Err(note)) => ledger.changed(span, note),
                Err(why) => ledger.dropped(span, why),
            },
            "hsts" => hsts(options, &mut http, ledger),
            "enforcement" => enforcement(options, &mut http, ledger),
            "oneconnect-transformations" | "oneconnect-status-reuse" => ledger.translated(span),
            "lws-width" | "lws-separator" => ledger.changed(span, "folded fields are refused with 400 (RFC 9112, 5.2)"),
            "request-chunking" | "response-chunking" if matches!(value, "preserve" | "sustain" | "selective") => {
                ledger.translated(span)
            }
            "request-chunking" | "response-chunking" => {
                ledger.changed(span, "bodies keep the length they come with, or are chunked where none is known")
            }
            "via-request" | "via-response" if value == "append" => ledger.translated(span),
            "via-request" | "via-response" => ledger.dropped(span, gaps::profile("Via kept or removed")),
            "via-host-name" if is_off(value) => ledger.translated(span),
            "redirect-rewrite"
            | "encrypt-cookies"
            | "encrypt-cookie-secret"
            | "fallback-host"
            | "fallback-status-codes"
            | "response-headers-permitted"
                if is_off(value) =>
            {
                ledger.translated(span);
            }
            "redirect-rewrite" => ledger.dropped(span, gaps::profile("Location rewriting")),
            "encrypt-cookies" | "encrypt-cookie-secret" => ledger.dropped(span, gaps::profile("cookie encryption")),
            "fallback-host" | "fallback-status-codes" => ledger.dropped(span, gaps::profile("fallback pages")),
            "response-headers-permitted" => ledger.dropped(span, gaps::profile("a list of the only fields that pass")),
            "server-agent-name" | "via-host-name" => ledger.dropped(span, gaps::profile("the name in Server and Via")),
            "basic-auth-realm" if is_off(value) => ledger.translated(span),
            "basic-auth-realm" => ledger.dropped(span, "no plugin here asks for passwords"),
            "max-requests" if is_off(value) => ledger.translated(span),
            "sflow" | "explicit-proxy" | "http-strict-transport-security" => {
                ledger.dropped(span, "not what a reverse proxy of this kind has")
            }
            _ => {}
        }
    }
    http
}

/// `Name: value`, where the value may hold brackets.
fn inserted(text: &str) -> Result<Result<Change, String>, String> {
    let (name, value) = text.split_once(':').ok_or("no `Name: value`")?;
    let value = value.trim();
    let word = super::tcl::Word { kind: super::tcl::Kind::Quoted, text: value.to_owned(), line: 1 };
    let pieces = super::tcl::pieces(&word).map_err(|error| error.to_string())?;
    let parts = pieces.iter().map(|piece| match piece {
        super::tcl::Piece::Text(text) => Part::Text(text.clone()),
        super::tcl::Piece::Command(command) => match command.word(0) {
            "HTTP::host" => Part::Host,
            "IP::client_addr" | "IP::remote_addr" => Part::Client,
            "HTTP::uri" => Part::Uri,
            name => Part::Other(gaps::command(name)),
        },
        super::tcl::Piece::Variable(name) => Part::Other(format!("the variable {name}")),
    });
    let text = Text { parts: parts.collect(), lower: false };
    actions::change(Kind::Insert, name.trim(), &text, false)
}

fn hsts(options: &Options<'_>, http: &mut Http, ledger: &Ledger) {
    let Some(node) = options.node("hsts") else { return };
    node.children().iter().for_each(|child| ledger.translated(child.span));
    ledger.translated(node.span.head());
    let word =
        |key: &str, default: &'static str| node.value(key).map_or(default.to_owned(), |(text, _)| text.to_owned());
    if word("mode", "disabled") != "enabled" {
        return;
    }
    let mut value = format!("max-age={}", word("maximum-age", "16070400"));
    if word("include-subdomains", "enabled") == "enabled" {
        value.push_str("; includeSubDomains");
    }
    if word("preload", "disabled") == "enabled" {
        value.push_str("; preload");
    }
    http.response.push(Change { kind: Kind::Set, name: "Strict-Transport-Security".into(), value });
}

fn enforcement(options: &Options<'_>, http: &mut Http, ledger: &Ledger) {
    let Some(node) = options.node("enforcement") else { return };
    ledger.translated(node.span.head());
    for option in node.children() {
        let (value, span) = (option.word(1), option.span);
        let bounded = |least: u64, most: u64| {
            let number = value.parse::<u64>().ok()?;
            let kept = number.clamp(least, most);
            match kept == number {
                true => ledger.changed(span, "it counts for every virtual server of this edge, and over it is 431"),
                false => ledger.changed(span, format!("the edge takes {least} to {most}: {kept}")),
            }
            Some(kept)
        };
        match option.word(0) {
            "max-header-count" => http.fields = bounded(8, 1000),
            "max-header-size" => http.head_bytes = bounded(1024, 1 << 20),
            "max-requests" if value == "0" => ledger.translated(span),
            "max-requests" => ledger.dropped(span, "connections are kept for as long as `timeouts.idle` lets them"),
            "pipeline" if value == "allow" => ledger.translated(span),
            "rfc-compliance" if value == "enabled" => ledger.translated(span),
            "rfc-compliance" => {
                ledger.changed(span, "RFC 9112 is always kept to: what two readers could read differently is refused")
            }
            "excess-client-headers"
            | "excess-server-headers"
            | "oversize-client-headers"
            | "oversize-server-headers"
                if value == "reject" =>
            {
                ledger.translated(span);
            }
            "excess-client-headers"
            | "excess-server-headers"
            | "oversize-client-headers"
            | "oversize-server-headers" => {
                ledger.dropped(
                    span,
                    "what is over a limit never passes unread: another server could read it differently",
                );
            }
            "known-methods" | "unknown-method" => ledger.dropped(
                span,
                "every method that is a token passes, CONNECT and TRACE do not; routes can name `methods`",
            ),
            "truncated-redirects" | "allow-ws-header-name" if is_off(value) => ledger.translated(span),
            _ => {}
        }
    }
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
pub(super) fn connection(kind: &str, options: &Options<'_>, ledger: &Ledger) {
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        match (kind, key) {
            _ if is_silent(key) => ledger.translated(span),
            ("one-connect", "source-mask") if matches!(value, "any" | "0.0.0.0" | "::") => ledger.translated(span),
            ("one-connect", "source-mask") => ledger.dropped(span, "connections to members are shared by all clients"),
            ("one-connect", _) => ledger
                .changed(span, "the edge keeps connections to members by itself; a member is chosen for each request"),
            ("http2", "insert-header") if is_off(value) => ledger.translated(span),
            ("http2", "insert-header" | "insert-header-name") => {
                ledger.dropped(span, gaps::profile("a field that tells of HTTP/2"))
            }
            ("http2", _) => ledger
                .changed(span, "HTTP/2 is offered on every TLS listener, with windows and frames of the edge's own"),
            _ => {}
        }
    }
}

/// A file beside `edge.toml` for what a name on the F5 means.
fn file(name: &str) -> String {
    let short = name.rsplit('/').next().unwrap_or_default().trim_start_matches(':');
    let plain: String = short
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' })
        .collect();
    let plain = plain.trim_matches('.').to_owned();
    if plain.is_empty() { "unnamed.pem".to_owned() } else { plain }
}

/// Reads a client-SSL profile.
pub(super) fn client_ssl(options: &Options<'_>, ledger: &Ledger) -> ClientSsl {
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
                        let name = file(member.word(1));
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
                            _ => ledger.dropped(member.span, "no OCSP responses are stapled"),
                        }
                    }
                }
            }
            "cert" | "key" if is_off(value) => ledger.translated(span),
            "cert" | "key" if by_chain => ledger.translated(span),
            "cert" => {
                ssl.pair.0 = file(value);
                put(span, &ssl.pair.0);
            }
            "key" => {
                ssl.pair.1 = file(value);
                put(span, &ssl.pair.1);
            }
            "chain" if is_off(value) || by_chain => ledger.translated(span),
            "chain" => ledger.changed(span, format!("append {} to the certificate's file", file(value))),
            "ciphers" | "cipher-group" | "options" | "tm-options" if is_off(value) => ledger.translated(span),
            "ciphers" | "cipher-group" | "options" | "tm-options" | "ssl-sign-hash" => {
                ledger.changed(span, "TLS 1.2 and 1.3 with forward secrecy and AEAD, and nothing else");
            }
            "peer-cert-mode" => match value {
                "require" | "request" => {
                    ssl.client_certificate = Some(if value == "require" { "require" } else { "request" });
                    ledger.translated(span);
                }
                _ => ledger.translated(span),
            },
            "ca-file" | "client-cert-ca" if is_off(value) => ledger.translated(span),
            "ca-file" => {
                let name = file(value);
                put(span, &name);
                ssl.client_ca = Some(name);
            }
            "client-cert-ca" => ledger.changed(span, "what clients are told of authorities is what `client_ca` has"),
            "crl-file" | "crl" if is_off(value) => ledger.translated(span),
            "crl-file" | "crl" => ledger.opened(
                span,
                "the edge reads no revocation lists: a client's certificate that was revoked is taken until it expires",
            ),
            "authenticate" if value == "once" => ledger.translated(span),
            "authenticate" => {
                ledger.changed(span, "a certificate is verified at each handshake, resumed ones included")
            }
            "authenticate-depth" => ledger.dropped(span, "the depth of clients' chains is the verifier's"),
            "server-name" if is_off(value) => ledger.translated(span),
            "server-name" => {
                ssl.server_name = Some(value.to_owned());
                ledger.translated(span);
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
            "ocsp-stapling" => ledger.dropped(span, "no OCSP responses are stapled"),
            "cache-size" | "cache-timeout" | "session-ticket" | "session-mirroring" => {
                ledger.changed(span, "sessions are resumed as the edge does")
            }
            "alert-timeout" | "handshake-timeout" => ledger.changed(span, "`timeouts.handshake`, 10 s unless set"),
            _ => {}
        }
    }
    if ssl.client_certificate.is_none() {
        // Without a question to clients nobody needs the authorities.
        ssl.client_ca = None;
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
