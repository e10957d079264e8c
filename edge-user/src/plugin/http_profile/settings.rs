//! The plugin's `config`: what becomes of requests, and what of responses.

use super::allow::Allowed;
use super::certificate::Told;
use super::condition::Side;
use super::cookies::Cookies;
use super::fallback::Fallback;
use super::location::Redirects;
use super::rule::{Rule, template};
use super::{HttpProfile, Limits, RequestSide, ResponseSide, Reuse, Server, UpstreamSide};
use crate::config::reader::Reader;
use crate::http::h1::parse::is_authority;
use crate::http::h1::write::Case;
use crate::http::head::is_field_value;
use crate::plugin::PluginEnv;
use crate::proxy::content::Chunking;
use crate::proxy::headers::{ForwardedFor, Marks, Pseudonym, Via};

const FORWARDED_FOR: [(&str, ForwardedFor); 4] = [
    ("append", ForwardedFor::Append),
    ("insert", ForwardedFor::Insert),
    ("replace", ForwardedFor::Replace),
    ("off", ForwardedFor::Off),
];

const REDIRECTS: [(&str, Redirects); 4] = [
    ("none", Redirects::None),
    ("all", Redirects::All),
    ("matching", Redirects::Matching),
    ("nodes", Redirects::Nodes),
];

const CASES: [(&str, Case); 3] = [("preserve", Case::Preserve), ("title", Case::Title), ("lower", Case::Lower)];

const REUSES: [(&str, Reuse); 3] =
    [("shared", Reuse::Shared), ("per_consumer", Reuse::PerConsumer), ("per_connection", Reuse::PerConnection)];

/// F5's first three differ in what its other modules see of chunks, not in what goes on.
const CHUNKING: [(&str, Chunking); 5] = [
    ("sustain", Chunking::Sustain),
    ("preserve", Chunking::Sustain),
    ("selective", Chunking::Sustain),
    ("rechunk", Chunking::Rechunk),
    ("unchunk", Chunking::Unchunk),
];

/// F5's: half a year and a bit.
const HSTS_MAX_AGE_SECS: i64 = 16_070_400;

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, env: &PluginEnv) -> Option<HttpProfile> {
    let problems = config.sink().count();
    let request = config.object("request").map(request_side).unwrap_or_default();
    let response = config.object("response").map(|side| response_side(side, env)).unwrap_or_default();
    let upstream = config.object("upstream").map(upstream_side).unwrap_or_default();
    let sink = config.sink();
    config.finish();
    (sink.count() == problems).then_some(HttpProfile { request, response, upstream })
}

fn request_side(mut config: Reader<'_>) -> RequestSide {
    let rules = rules(&mut config, Side::Request);
    let allowed = Allowed::parse(&mut config);
    let forwarded_for = config.word("xforwarded_for", &FORWARDED_FOR).unwrap_or_default();
    let via = via(&mut config);
    let limits = config.object("limits").map(limits).unwrap_or_default();
    let certificate = config.object("client_certificate").map(Told::parse).unwrap_or_default();
    let clash = rules.iter().filter_map(Rule::written_name).find(|name| certificate.owns(name));
    if let Some(name) = clash {
        config.problem(
            "client_certificate",
            format!("`{name}`, which a rule writes, too"),
            "a name that no rule writes",
        );
    }
    let host = config.string("host").and_then(|text| {
        let host = template(&config, "host", text, Side::Request)?;
        let is_host = !host.is_constant() || is_authority(text.as_bytes());
        if !is_host {
            config.problem("host", format!("{text:?}"), "a host, with or without a port, or a template of one");
        }
        is_host.then_some(host)
    });
    let chunking = config.word("chunking", &CHUNKING).unwrap_or_default();
    config.finish();
    RequestSide { limits, allowed, rules, certificate, host, marks: Marks { forwarded_for, via }, chunking }
}

fn response_side(mut config: Reader<'_>, env: &PluginEnv) -> ResponseSide {
    let rules = rules(&mut config, Side::Response);
    let allowed = Allowed::parse(&mut config);
    let server = server(&mut config);
    let via = via(&mut config);
    let hsts = config.object("hsts").map(hsts);
    let redirects = config.word("location", &REDIRECTS).unwrap_or_default();
    let cookies = Cookies::parse(&mut config, env.cookies());
    let fallback = config.object("fallback").and_then(Fallback::parse);
    let chunking = config.word("chunking", &CHUNKING).unwrap_or_default();
    config.finish();
    ResponseSide { allowed, rules, server, hsts, via, redirects, cookies, fallback, chunking }
}

fn upstream_side(mut config: Reader<'_>) -> UpstreamSide {
    let header_case = config.word("header_case", &CASES).unwrap_or_default();
    let reuse = config.word("reuse", &REUSES).unwrap_or_default();
    config.finish();
    UpstreamSide { header_case, reuse }
}

fn rules(config: &mut Reader<'_>, side: Side) -> Box<[Rule]> {
    config.objects("headers").into_iter().filter_map(|rule| Rule::parse(rule, side)).collect()
}

fn via(config: &mut Reader<'_>) -> Via {
    let words = [("append", Via::Append), ("preserve", Via::Preserve), ("remove", Via::Remove)];
    let names = words.each_ref().map(|(word, via)| (*word, via));
    let via = config.word("via", &names).cloned().unwrap_or_default();
    let name = config.parsed("via_host_name", "the name of a host or another token", Pseudonym::parse);
    match (via, name) {
        (Via::Append, Some(name)) => Via::AppendAs(name),
        (via, None) => via,
        (via, Some(_)) => {
            config.problem("via_host_name", "a name", "nothing: with this `via` the edge does not name itself");
            via
        }
    }
}

fn server(config: &mut Reader<'_>) -> Server {
    let expected = "`preserve`, `remove`, or the text of the field";
    let server = config.parsed("server", expected, |text| match text {
        "preserve" => Some(Server::Preserve),
        "remove" => Some(Server::Remove),
        text => is_field_value(text.as_bytes()).then(|| Server::Name(text.into())),
    });
    server.unwrap_or_default()
}

fn hsts(mut config: Reader<'_>) -> Box<str> {
    /// What browsers ask of a host that is to be in their own lists.
    const PRELOADED_SECS: i64 = 31_536_000;
    let max_age = config.integer("max_age", 0..=i64::from(u32::MAX)).unwrap_or(HSTS_MAX_AGE_SECS);
    let subdomains = config.bool("include_subdomains").unwrap_or(true);
    let preload = config.bool("preload").unwrap_or(false);
    if preload && (max_age < PRELOADED_SECS || !subdomains) {
        config.warn("preload", "browsers want a `max_age` of 31536000 at least, and `include_subdomains`");
    }
    config.finish();
    let subdomains = if subdomains { "; includeSubDomains" } else { "" };
    let preload = if preload { "; preload" } else { "" };
    format!("max-age={max_age}{subdomains}{preload}").into()
}

fn limits(mut config: Reader<'_>) -> Limits {
    let mut most = |key| config.integer(key, 1..=i64::from(u32::MAX));
    let (fields, field_bytes, head_bytes) = (most("fields"), most("field_bytes"), most("head_bytes"));
    let instead = "F5's `pass-through` lets requests by that servers may read in two ways";
    config.only_default("action", "reject".into(), instead);
    config.finish();
    // In range: read as such.
    let size = |most: Option<i64>| most.and_then(|most| most.try_into().ok());
    Limits {
        fields: size(fields),
        field_bytes: size(field_bytes),
        head_bytes: head_bytes.and_then(|most| most.try_into().ok()),
    }
}
