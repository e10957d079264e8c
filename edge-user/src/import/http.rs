//! An http profile, what it inherits resolved → settings and rules of http-profile, and limits of the node.

use super::change::{Change, Guard, Kind};
use super::ledger::{Ledger, Span};
use super::matching::Unfit;
use super::model::Options;
use super::profile::{is_off, is_silent, value_of};
use super::scope::Scope;
use super::shape::{Shape, Table};
use super::text::{Side, Text};

/// What an http profile leads to.
#[derive(Clone, Default, PartialEq, Debug)]
pub(super) struct Http {
    /// Changes of each request's fields.
    pub(super) request: Vec<Change>,
    /// The plugin's other settings.
    pub(super) shape: Shape,
    /// `limits.fields`
    pub(super) fields: Option<u64>,
    /// `limits.head_bytes`
    pub(super) head_bytes: Option<u64>,
}

/// What the edge does with a field of the way by itself.
pub(super) const FORWARDED: &str =
    "a client's own X-Forwarded-For is dropped unless `proxy.trusted_ips` has the client";
/// What becomes of cookies that an F5 encrypted.
pub(super) const SEALED: &str = "cookies that the F5 encrypted do not open: clients lose them once";
/// What `unchunk` does not do.
const UNCHUNKED: &str = "bodies over `limits.buffer_bytes`, event streams and gRPC stay in chunks";
/// Where a fallback stands beside what the F5 has it for.
pub(super) const FALLBACK: &str = "it also stands where a member gives no answer at all (502 to 504 of the edge)";

/// Reads an http profile.
pub(super) fn http(options: &Options<'_>, ledger: &Ledger) -> Http {
    let mut http = Http::default();
    for option in options.nodes() {
        let (key, value, span) = (option.word(0), value_of(option), option.span);
        // Options of the plugin's: what it is told, and what is different there.
        let mut set = |table: Table, key: &str, value: serde_json::Value, note: Option<&str>| {
            settled(http.shape.set(table, key, value).map(|()| note), span, ledger);
        };
        match key {
            _ if is_silent(key) => ledger.translated(span),
            "proxy-type" if value == "reverse" => ledger.translated(span),
            "proxy-type" => ledger.dropped(span, "the edge is a reverse proxy alone"),
            "insert-xforwarded-for" if value == "enabled" => {
                set(Table::Request, "xforwarded_for", "insert".into(), Some(FORWARDED))
            }
            "insert-xforwarded-for" => set(
                Table::Request,
                "xforwarded_for",
                "off".into(),
                Some("X-Forwarded-Proto, -Host and -Port are sent in any case"),
            ),
            "accept-xff" if is_off(value) => ledger.translated(span),
            "accept-xff" => ledger.dropped(
                span,
                "whose X-Forwarded-For is believed has to be said: name the proxies in front in `proxy.trusted_ips`, and the field in `proxy.real_ip_header`",
            ),
            "xff-alternative-names" if is_off(value) => ledger.translated(span),
            "xff-alternative-names" => ledger.dropped(span, "the client is read from one field: `proxy.real_ip_header` names it"),
            "header-insert" | "header-erase" if is_off(value) => ledger.translated(span),
            "header-insert" => changed(inserted(value), &mut http.request, span, ledger),
            "header-erase" => {
                let erased = Change::new(Side::Request, Kind::Remove, value, Text::default(), Guard::default());
                changed(erased, &mut http.request, span, ledger);
            }
            "hsts" => hsts(options, &mut http.shape, ledger),
            "enforcement" => enforcement(options, &mut http, ledger),
            "oneconnect-transformations" | "oneconnect-status-reuse" => ledger.translated(span),
            "lws-width" | "lws-separator" => ledger.changed(span, "folded fields are refused with 400 (RFC 9112, 5.2)"),
            "request-chunking" | "response-chunking" => {
                let table = if key == "request-chunking" { Table::Request } else { Table::Response };
                set(table, "chunking", value.into(), (value == "unchunk").then_some(UNCHUNKED));
            }
            "via-request" => set(Table::Request, "via", value.into(), None),
            "via-response" => set(Table::Response, "via", value.into(), None),
            "via-host-name" if is_off(value) => ledger.translated(span),
            "via-host-name" => via_host_name(options, value, span, &mut http.shape, ledger),
            "redirect-rewrite" => set(Table::Response, "location", value.into(), None),
            "server-agent-name" => {
                let server = if value == "none" { "remove" } else { value };
                let note = "members' own `Server` as well: on the F5 it is that of its own answers alone";
                set(Table::Response, "server", server.into(), Some(note));
            }
            "encrypt-cookies"
            | "encrypt-cookie-secret"
            | "fallback-host"
            | "fallback-status-codes"
            | "response-headers-permitted"
                if is_off(value) =>
            {
                ledger.translated(span);
            }
            "encrypt-cookies" => {
                let mut names = option.children().iter().flat_map(|node| &node.words).chain(&option.words[1..]);
                // All of them or none: a line is in one bin.
                let mut shape = http.shape.clone();
                let sealed = names.try_for_each(|name| shape.cookie(name, "encrypt", true));
                if sealed.is_ok() {
                    http.shape = shape;
                }
                settled(sealed.map(|()| Some(SEALED)), span, ledger);
            }
            "encrypt-cookie-secret" => ledger
                .changed(span, "the edge has a key of its own: put 32 random bytes beside edge.toml, as cookies.key"),
            "fallback-host" => settled(fallback(options, &mut http.shape).map(|()| Some(FALLBACK)), span, ledger),
            "fallback-status-codes" if options.value("fallback-host").is_none() => {
                ledger.dropped(span, "statuses without a `fallback-host` to send clients to")
            }
            // With the host.
            "fallback-status-codes" => ledger.translated(span),
            "response-headers-permitted" => {
                let names: Vec<&str> = option.names().map(|(name, _)| name).collect();
                let names = if option.block.is_some() { names } else { value.split_whitespace().collect() };
                let note = "Set-Cookie, Location, Date, WWW-Authenticate and Retry-After pass as well";
                set(Table::Response, "allow", names.into(), Some(note));
            }
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

/// Gives an option to its bin: one that the plugin takes has the same meaning, or that of the note.
pub(super) fn settled(result: Result<Option<&str>, Unfit>, span: Span, ledger: &Ledger) {
    match result {
        Ok(None) => ledger.translated(span),
        Ok(Some(note)) => ledger.changed(span, note),
        Err(why) => ledger.dropped(span, why),
    }
}

fn changed(change: Result<Change, Unfit>, changes: &mut Vec<Change>, span: Span, ledger: &Ledger) {
    match change {
        Ok(change) => {
            ledger.translated(span);
            change.notes().for_each(|note| ledger.changed(span, note));
            changes.push(change);
        }
        Err(why) => ledger.dropped(span, why),
    }
}

/// `Name: value`, where the value may hold brackets.
fn inserted(text: &str) -> Result<Change, Unfit> {
    let (name, value) = text.split_once(':').ok_or("no `Name: value`")?;
    Change::new(Side::Request, Kind::Insert, name.trim(), Scope::read(value.trim(), Side::Request)?, Guard::default())
}

fn via_host_name(options: &Options<'_>, name: &str, span: Span, shape: &mut Shape, ledger: &Ledger) {
    let sides = [("via-request", Table::Request), ("via-response", Table::Response)];
    let mut named = sides.iter().filter(|(key, _)| options.value(key).is_some_and(|(value, _)| value == "append"));
    // Where nobody adds to Via, nobody needs a name for it.
    let set = named.try_for_each(|(_, table)| shape.set(*table, "via_host_name", name));
    settled(set.map(|()| None), span, ledger);
}

fn fallback(options: &Options<'_>, shape: &mut Shape) -> Result<(), Unfit> {
    let (url, _) = options.value("fallback-host").ok_or("no host")?;
    let mut fallback = serde_json::json!({"redirect": url});
    if let Some(node) = options.node("fallback-status-codes") {
        let words = node.children().iter().flat_map(|child| &child.words).chain(&node.words[1..]);
        let mut statuses = Vec::new();
        for word in words.flat_map(|word| word.split_whitespace()).filter(|word| *word != "none") {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            let number = |text: &str| text.parse::<u16>().ok().filter(|status| (400..=599).contains(status));
            let (first, last) = number(first).zip(number(last)).ok_or("statuses other than 400 to 599")?;
            statuses.extend(first..=last);
        }
        fallback["statuses"] = statuses.into();
    }
    shape.set(Table::Response, "fallback", fallback)
}

fn hsts(options: &Options<'_>, shape: &mut Shape, ledger: &Ledger) {
    let Some(node) = options.node("hsts") else { return };
    node.children().iter().for_each(|child| ledger.translated(child.span));
    ledger.translated(node.span.head());
    let word = |key: &str| node.value(key).map(|(text, _)| text);
    if word("mode") != Some("enabled") {
        return;
    }
    // All of them: F5's defaults are the plugin's, and the requests that are written beside it say the whole value.
    let age = word("maximum-age").unwrap_or("16070400");
    let settings = serde_json::json!({
        "max_age": age.parse::<i64>().map_or_else(|_| age.into(), serde_json::Value::from),
        "include_subdomains": word("include-subdomains").unwrap_or("enabled") == "enabled",
        "preload": word("preload") == Some("enabled"),
    });
    if let Err(why) = shape.set(Table::Response, "hsts", settings) {
        ledger.dropped(node.span, why);
    }
}

fn enforcement(options: &Options<'_>, http: &mut Http, ledger: &Ledger) {
    /// Of the node, where nothing is said.
    const DEFAULT: (u64, u64) = (64, 32 << 10);
    let Some(node) = options.node("enforcement") else { return };
    ledger.translated(node.span.head());
    let mut limits = serde_json::Map::new();
    for option in node.children() {
        let (value, span) = (option.word(1), option.span);
        // The node takes what any of its virtual servers does; each has its own limit below that.
        let mut bounded = |key: &str, default: u64, least: u64, most: u64| {
            let number = value.parse::<u64>().ok()?;
            let kept = number.clamp(least, most);
            limits.insert(key.to_owned(), kept.into());
            match kept == number {
                true => ledger.changed(span, "over it is 431"),
                false => ledger.changed(span, format!("the edge takes {least} to {most}: {kept}, and over it is 431")),
            }
            (kept > default).then_some(kept)
        };
        match option.word(0) {
            "max-header-count" => http.fields = bounded("fields", DEFAULT.0, 8, 1000),
            "max-header-size" => http.head_bytes = bounded("head_bytes", DEFAULT.1, 1024, 1 << 20),
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
    if !limits.is_empty()
        && let Err(why) = http.shape.set(Table::Request, "limits", limits)
    {
        ledger.dropped(node.span, why);
    }
}
