//! The plugin's `config`: Kong's parameters, the deprecated `redis_*` spellings included.

use std::time::Duration;

use super::window::Period;
use super::{Identifier, Limit, Policy, RateLimiting, key_prefix};
use crate::config::reader::Reader;
use crate::http::head::is_field_name;
use crate::plugin::{Place, PluginEnv};
use crate::redis;

/// More uses than any window sees; counters hold it.
const MOST: f64 = 1e15;

/// `policy` as it is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolicyName {
    Local,
    Redis,
    Cluster,
}

/// Reads the whole object.
pub(super) fn parse(mut config: Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<RateLimiting> {
    let problems = config.sink().count();
    let limits = limits(&mut config);
    let identifier = identifier(&mut config);
    let fault_tolerant = config.bool("fault_tolerant").unwrap_or(true);
    let hide_client_headers = config.bool("hide_client_headers").unwrap_or(false);
    let error_code = config.integer("error_code", 1..=i64::MAX).unwrap_or(429);
    let error_message = config.any_string("error_message").unwrap_or("API rate limit exceeded").into();
    let policy = policy(&mut config, place, env);
    let sink = config.sink();
    let error_status = u16::try_from(error_code).ok().filter(|status| (400..=599).contains(status));
    if error_status.is_none() {
        config.warn("error_code", "an error has a status from 400 to 599: who is over the limit gets 500");
    }
    config.finish();
    let (policy, identifier) = (policy?, identifier?);
    (sink.count() == problems).then(|| RateLimiting {
        prefix: key_prefix(place),
        limits,
        identifier,
        policy,
        fault_tolerant,
        hide_client_headers,
        error_status,
        error_message,
    })
}

fn limits(config: &mut Reader<'_>) -> Box<[Limit]> {
    let read = |config: &mut Reader<'_>, period: Period| {
        let most = config.number(period.name(), f64::MIN_POSITIVE..=MOST)?;
        Some(Limit { period, most })
    };
    let present = Period::ALL.iter().any(|period| config.has(period.name()));
    let limits: Vec<Limit> = Period::ALL.into_iter().filter_map(|period| read(config, period)).collect();
    if !present {
        let names: Vec<_> = Period::ALL.iter().map(|period| format!("'config.{}'", period.name())).collect();
        let expected = format!("a limit: at least one of these fields must be non-empty: {}", names.join(", "));
        config.sink().problem(config.line(), config.path(), "none", expected);
    }
    for (shorter, longer) in limits.iter().zip(limits.iter().skip(1)) {
        if longer.most < shorter.most {
            let expected = format!(
                "a higher one: The limit for {}({:?}) cannot be lower than the limit for {}({:?})",
                longer.period.name(),
                longer.most,
                shorter.period.name(),
                shorter.most
            );
            config.problem(longer.period.name(), longer.most.to_string(), expected);
        }
    }
    limits.into()
}

fn identifier(config: &mut Reader<'_>) -> Option<Identifier> {
    const KINDS: [(&str, u8); 7] = [
        ("consumer", 0),
        ("credential", 1),
        ("ip", 2),
        ("service", 3),
        ("header", 4),
        ("path", 5),
        ("consumer-group", 6),
    ];
    let kind = if config.has("limit_by") { config.word("limit_by", &KINDS) } else { Some(0) };
    let name = config.parsed("header_name", "a header name", |text| is_field_name(text.as_bytes()).then_some(text));
    let is_path = |text: &&str| text.starts_with('/') && !text.contains("//");
    let path = config.parsed("path", "a path: `/…` without an empty segment", |text| Some(text).filter(is_path));
    let identifier = match kind? {
        0 => Identifier::Consumer,
        1 => Identifier::Credential,
        2 => Identifier::Ip,
        3 => Identifier::Service,
        4 if config.missing("header_name", "the header to limit by: required field missing") => return None,
        4 => Identifier::Header(name?.into()),
        5 if config.missing("path", "the path to limit by: required field missing") => return None,
        5 => Identifier::Path(path?.into()),
        _ => Identifier::ConsumerGroup,
    };
    Some(identifier)
}

fn policy(config: &mut Reader<'_>, place: &Place<'_>, env: &PluginEnv) -> Option<Policy> {
    const NAMES: [(&str, PolicyName); 3] =
        [("local", PolicyName::Local), ("redis", PolicyName::Redis), ("cluster", PolicyName::Cluster)];
    let name = if config.has("policy") { config.word("policy", &NAMES) } else { Some(PolicyName::Local) };
    let sync_rate = config.number("sync_rate", -1.0..=MOST).unwrap_or(-1.0);
    if sync_rate != -1.0 && sync_rate < 0.02 {
        let expected = "a higher one: sync_rate must be greater than 0.02, or -1 to disable";
        config.problem("sync_rate", sync_rate.to_string(), expected);
    }
    if sync_rate != -1.0 && name == Some(PolicyName::Local) {
        let expected = "nothing: sync_rate can only be used with the redis policy";
        config.problem("sync_rate", sync_rate.to_string(), expected);
    }
    let problems = config.sink().count();
    let record = config.object("redis");
    let settings = redis::Settings::read_with_flat(record, Some(config));
    match name? {
        PolicyName::Local => Some(Policy::Local(env.rates().local(&key_prefix(place)))),
        PolicyName::Cluster => {
            config.problem("policy", "\"cluster\"", "local or redis: cluster needs a database");
            None
        }
        PolicyName::Redis => {
            let Some(settings) = settings else {
                if config.sink().count() == problems {
                    config.problem("redis", "no `host`", "`redis.host`: required field missing");
                }
                return None;
            };
            let client = env.redis().client(&settings);
            match sync_rate {
                -1.0 => Some(Policy::Redis(client)),
                secs => {
                    let every = Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX);
                    Some(Policy::Fleet(env.rates().fleet(&settings, client, every)))
                }
            }
        }
    }
}
