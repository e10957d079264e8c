//! The plugin's `config`: Kong's four records, and beyond them `client.auth_method` `private_key_jwt` (with
//! `client.client_jwk`) and `tls_client_auth` (with `client.tls_client_certificate`), and `behavior.retry_on_purge`.

use std::time::Duration;

use super::source::Source;
use super::token::Times;
use super::{FailureAnswer, Header, NAME, UpstreamOauth};
use crate::config::reader::Reader;
use crate::http::head::{Known, is_field_name, is_field_value};
use crate::http_client::{Identity, Options};
use crate::oauth::fleet::{Fleet, FleetSettings, Kind};
use crate::oauth::own_grant::{OwnGrant, Question};
use crate::oauth::{Clients, Method};
use crate::plugin::{Place, PluginEnv};
use crate::redis;

const TEMPLATE: &str = "{ \"code\": \"{{status}}\", \"message\": \"{{message}}\" }";
const CONTENT_TYPE: &str = "application/json; charset=utf-8";
const MESSAGE: &str = "Failed to authenticate request to upstream";

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<UpstreamOauth> {
    let problems = config.sink().count();
    if config.missing("oauth", "the record that says whom to ask, and as which client") {
        return None;
    }
    let mut oauth = config.object("oauth")?;
    let mut client = record(&mut config, "client");
    let question = Question::read(&mut oauth, env.endpoints());
    let options = Options::read_as(&mut client, "keep_alive");
    let (clients, method) = Clients::read_own(&mut client, &oauth, question.as_ref(), env.client_keys());
    let options = Options { identity: identity(&mut client, method, place), ..options };
    oauth.finish();
    client.finish();
    let (times, fleet) = cache(record(&mut config, "cache"), env);
    let behavior = behavior(record(&mut config, "behavior"));
    let sink = config.sink();
    config.finish();
    let (question, behavior) = (question?, behavior?);
    if sink.count() > problems {
        return None;
    }
    let digest = question.digest();
    // Whoever asks by an equal `oauth` has the token, as with Kong: the client's proof is not part of the question.
    let parts: [&[u8]; 2] = [NAME.as_bytes(), &digest];
    let store = env.upstream_tokens();
    let shared = fleet.map(|fleet| {
        let name = fleet.name(Kind::UpstreamTokens, &parts);
        (fleet, name)
    });
    let timeout = options.timeout;
    let grant = OwnGrant::new(question, clients, options, env.endpoints());
    let Behavior { header, purges_on, retries, failure } = behavior;
    let source = Source::new((store, store.key(&parts)), grant, times, shared, timeout);
    Some(UpstreamOauth { source, header, purges_on, retries, failure })
}

/// A record whose absence means its defaults.
fn record<'a>(config: &mut Reader<'a>, key: &'static str) -> Reader<'a> {
    let empty = Reader::empty(config.line(), &config.path_of(key), config.sink());
    config.object(key).unwrap_or(empty)
}

/// `client.tls_client_certificate`
fn identity(client: &mut Reader<'_>, method: Method, place: &Place<'_>) -> Option<Identity> {
    const KEY: &str = "tls_client_certificate";
    let id = client.string(KEY);
    match (method.is_mtls(), id) {
        (false, None) => None,
        (false, Some(_)) => {
            client.problem(KEY, "a certificate", "none, with another `auth_method` than tls_client_auth");
            None
        }
        (true, None) => {
            client.problem(KEY, "nothing", "the id of a certificate, for `auth_method` tls_client_auth");
            None
        }
        (true, Some(id)) => {
            let pair = place.certificate(id);
            if pair.is_none() {
                client.problem(KEY, format!("{id:?}"), "the id of a certificate of this configuration");
            }
            pair.map(Identity)
        }
    }
}

fn cache(mut cache: Reader<'_>, env: &PluginEnv) -> (Times, Option<Fleet>) {
    const STRATEGY: &str = "strategy";
    let ttl = cache.number("default_ttl", 0.0..=f64::MAX).map(|secs| Duration::from_secs_f64(secs.min(1e9)));
    let early = cache.integer("eagerly_expire", 0..=i64::MAX).map(|secs| Duration::from_secs(secs as u64));
    let times = Times {
        default_ttl: ttl.unwrap_or(Duration::from_secs(3600)),
        eagerly_expire: early.unwrap_or(Duration::from_secs(5)),
    };
    if let Some(mut memory) = cache.object("memory") {
        // A name for nginx's memory: here there is one store, bounded in bytes.
        memory.string("dictionary_name");
        memory.finish();
    }
    let shared = cache.word(STRATEGY, &[("memory", false), ("redis", true)]).unwrap_or(false);
    let redis = record(&mut cache, "redis");
    let fleet = match shared {
        // Not looked at, as with Kong.
        false => None,
        true => {
            let settings = redis::Settings::read(redis);
            let may = env.fleets().may_share(&cache, STRATEGY, "memory");
            let settings = settings.filter(|_| may).map(FleetSettings::for_upstream_tokens);
            settings.and_then(|settings| env.fleets().fleet(&settings))
        }
    };
    cache.finish();
    (times, fleet)
}

struct Behavior {
    header: Header,
    purges_on: Box<[u16]>,
    retries: bool,
    failure: FailureAnswer,
}

fn behavior(mut behavior: Reader<'_>) -> Option<Behavior> {
    let header = header(&mut behavior);
    let purges_on = behavior.integers("purge_token_on_upstream_status_codes", 100..=599);
    let purges_on = purges_on.unwrap_or_else(|| vec![401]).into_iter().map(|status| status as u16).collect();
    let retries = behavior.bool("retry_on_purge").unwrap_or(true);
    let status = behavior.integer("idp_error_response_status_code", 500..=599).unwrap_or(502) as u16;
    let message = behavior.any_string("idp_error_response_message").unwrap_or(MESSAGE);
    let template = behavior.any_string("idp_error_response_body_template").unwrap_or(TEMPLATE);
    let content_type = behavior.string("idp_error_response_content_type").unwrap_or(CONTENT_TYPE);
    if !is_field_value(content_type.as_bytes()) {
        behavior.problem("idp_error_response_content_type", "no field value", "a media type");
    }
    behavior.finish();
    let failure = FailureAnswer { status, content_type: content_type.into(), body: filled(template, status, message) };
    Some(Behavior { header: header?, purges_on, retries, failure })
}

fn header(behavior: &mut Reader<'_>) -> Option<Header> {
    const KEY: &str = "upstream_access_token_header_name";
    let name = match behavior.has(KEY) {
        true => behavior.string(KEY)?,
        false => {
            behavior.raw(KEY);
            return Some(Header::Authorization);
        }
    };
    match Known::of(name.as_bytes()) {
        Known::Authorization => return Some(Header::Authorization),
        Known::Other if is_field_name(name.as_bytes()) => return Some(Header::Named(name.into())),
        Known::Other => behavior.problem(KEY, format!("{name:?}"), "a header name"),
        // What frames the message, and what the edge says of itself and of the way.
        _ => behavior.problem(KEY, format!("{name:?}"), "another name: the edge writes this header itself"),
    }
    None
}

/// A template with its two places filled, each text as it is.
fn filled(template: &str, status: u16, message: &str) -> Box<str> {
    let status = status.to_string();
    let mut text = String::with_capacity(template.len() + message.len());
    let mut rest = template;
    while let Some(at) = rest.find("{{") {
        let (before, from) = rest.split_at(at);
        text.push_str(before);
        let place = [("{{status}}", status.as_str()), ("{{message}}", message)];
        let found = place.into_iter().find(|(name, _)| from.starts_with(name));
        let (filling, length) = found.map_or(("{", 1), |(name, filling)| (filling, name.len()));
        text.push_str(filling);
        rest = &from[length..];
    }
    text.push_str(rest);
    text.into()
}

#[cfg(test)]
mod tests;
