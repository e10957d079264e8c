//! Settings, whom a request counts for, and what the client reads. Redis itself is asked in `tests/e2e`.

use std::sync::Arc;

use uuid::Uuid;

use super::*;
use crate::config::snapshot::{Consumer, ConsumerGroup};
use crate::plugin::testing::{Scene, parse};
use crate::plugin::{AnswerBody, Plugin};
use crate::token::Now;

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).unwrap_or_else(|problems| panic!("{yaml}: {problems:?}"))
}

fn instance(plugin: &Plugin) -> &RateLimiting {
    let Plugin::RateLimiting(plugin) = plugin else { panic!("{}", plugin.name()) };
    plugin
}

#[test]
fn wrong_settings_are_named() {
    for (yaml, part) in [
        ("{}", "at least one of these fields must be non-empty: 'config.second', 'config.minute'"),
        ("minute: 0", "config.minute: found 0"),
        ("minute: -1", "config.minute: found -1"),
        ("{minute: 10, hour: 5}", "The limit for hour(5.0) cannot be lower than the limit for minute(10.0)"),
        ("{second: 10, year: 5}", "The limit for year(5.0) cannot be lower than the limit for second(10.0)"),
        ("{minute: 1, limit_by: nobody}", "config.limit_by"),
        ("{minute: 1, limit_by: header}", "config.header_name: found nothing"),
        ("{minute: 1, limit_by: header, header_name: 'a b'}", "config.header_name"),
        ("{minute: 1, limit_by: path}", "config.path: found nothing"),
        ("{minute: 1, limit_by: path, path: 'a'}", "config.path"),
        ("{minute: 1, limit_by: path, path: '/a//b'}", "config.path"),
        ("{minute: 1, policy: cluster}", "cluster needs a database"),
        ("{minute: 1, policy: redis}", "`redis.host`: required field missing"),
        ("{minute: 1, sync_rate: 1}", "sync_rate can only be used with the redis policy"),
        (
            "{minute: 1, policy: redis, redis: {host: r}, sync_rate: 0}",
            "sync_rate must be greater than 0.02, or -1 to disable",
        ),
        ("{minute: 1, error_code: 0}", "config.error_code"),
        ("{minute: 1, minuet: 1}", "expected `minute`"),
    ] {
        let problems = parse(NAME, yaml).map(|_| ()).expect_err(yaml);
        assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
    }
    for yaml in [
        "{second: 1, minute: 1, hour: 1, day: 1, month: 1, year: 1}",
        "{minute: 0.5}",
        "{minute: 1, limit_by: header, header_name: X-Who, path: null, policy: local, sync_rate: -1}",
        "{minute: 1, limit_by: consumer-group, fault_tolerant: false, hide_client_headers: true, error_code: 503}",
        "{minute: 1, policy: redis, redis_host: 127.0.0.1, sync_rate: 0.02}",
        "{minute: 1, policy: local, redis: {host: r, port: 1, timeout: 5, database: 0}}",
    ] {
        plugin(yaml);
    }
}

#[test]
fn keys_are_kongs() {
    let (route, service) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
    for (place, expected) in [
        (
            Place { route, ..Place::default() },
            "ratelimit:00000000-0000-0000-0000-000000000001:00000000-0000-0000-0000-000000000000:",
        ),
        (
            Place { route, service, ..Place::default() },
            "ratelimit:00000000-0000-0000-0000-000000000001:00000000-0000-0000-0000-000000000002:",
        ),
        (Place::default(), "ratelimit:00000000-0000-0000-0000-000000000000:00000000-0000-0000-0000-000000000000:"),
    ] {
        assert_eq!(&*key_prefix(&place), expected);
    }
    let mut key = b"ratelimit:r:s:192.0.2.7".to_vec();
    let begin = key.len();
    let limit = Limit { period: Period::Minute, most: 5.0 };
    let window = Period::Minute.window(1_709_210_096_789);
    complete(&mut key, begin, &Use { limit, window, before: 0 });
    assert_eq!(key, b"ratelimit:r:s:192.0.2.7:1709210040000:minute");
}

#[test]
fn identifiers_fall_back_to_the_address() {
    let ip = "192.0.2.7";
    let long = "x".repeat(LONGEST_IDENTIFIER + 1);
    let hashed: String = crypto::sha256(long.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    let consumer = Uuid::from_u128(7).to_string();
    let group = Uuid::from_u128(5).to_string();
    let whole = "x".repeat(LONGEST_IDENTIFIER);
    for (config, who, fields, expected) in [
        ("limit_by: ip", None, vec![], ip),
        ("limit_by: ip", Some(()), vec![], ip),
        ("limit_by: consumer", None, vec![], ip),
        ("limit_by: consumer", Some(()), vec![], &*consumer),
        ("limit_by: credential", Some(()), vec![], ip),
        ("limit_by: service", None, vec![], ip),
        ("limit_by: consumer-group", None, vec![], ip),
        ("limit_by: consumer-group", Some(()), vec![], &*group),
        ("{limit_by: header, header_name: X-Who}", None, vec![], ip),
        ("{limit_by: header, header_name: X-Who}", None, vec![("x-who", "a"), ("X-Who", "b")], "a"),
        ("{limit_by: header, header_name: X-Who}", None, vec![("x-who", &*whole)], &*whole),
        ("{limit_by: header, header_name: X-Who}", None, vec![("x-who", &*long)], &*hashed),
        ("{limit_by: path, path: /path}", None, vec![], "/path"),
        ("{limit_by: path, path: /other}", None, vec![], ip),
    ] {
        let config = config.trim_matches(['{', '}']);
        let plugin = plugin(&format!("{{minute: 1, {config}}}"));
        let mut scene = Scene::new("GET", &fields);
        scene.notes.caller.consumer = who.map(|()| {
            let group = ConsumerGroup { id: Uuid::from_u128(5), name: "gold".into() };
            Arc::new(Consumer { id: Uuid::from_u128(7), groups: [Arc::new(group)].into(), ..Consumer::default() })
        });
        let mut key = Vec::new();
        instance(&plugin).identify(&scene.request(), &mut key);
        assert_eq!(String::from_utf8_lossy(&key), expected, "{config} {who:?}");
    }
}

/// What a client reads of one request at this moment: the status (200 where it passes) and the fields.
async fn ask(plugin: &Plugin, now_ms: i64) -> (u16, String, Vec<(String, String)>) {
    let mut scene = Scene::new("GET", &[]);
    scene.now = Now { unix_ms: now_ms };
    let answer = match scene.access(plugin).await {
        Access::Answer(answer) => Some(answer),
        _ => None,
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut fields: Vec<_> = scene
        .notes
        .reply
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_ref().expect("none is removed"))))
        .collect();
    let Some(answer) = answer else { return (200, String::new(), fields) };
    fields.extend(answer.fields.iter().map(|(name, value)| (name.spelling().to_owned(), text(value))));
    let AnswerBody::Error(message) = answer.body else { panic!("another body") };
    (answer.status, message.into_owned(), fields)
}

/// Fields in short: `minute=limit/remaining …; limit/remaining/reset; retry`.
fn short(fields: &[(String, String)]) -> String {
    let value = |name: &str| {
        let mut found = fields.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let first = found.next().unwrap_or("-").to_owned();
        assert!(found.next().is_none(), "{name} twice");
        first
    };
    let of = |period: &Period| {
        let (limit, remaining) = period.fields();
        let limit = value(limit);
        (limit != "-").then(|| format!("{}={limit}/{} ", period.name(), value(remaining)))
    };
    let periods: String = Period::ALL.iter().filter_map(of).collect();
    let whole = [value("RateLimit-Limit"), value("RateLimit-Remaining"), value("RateLimit-Reset")].join("/");
    format!("{}; {whole}; {}", periods.trim_end(), value("Retry-After"))
}

#[tokio::test]
async fn clients_read_what_is_left() {
    // 20 s into a minute that begins an hour.
    let now = 1_709_208_020_000;
    let both = plugin("{minute: 2, hour: 3}");
    for (at, status, expected) in [
        (now, 200, "minute=2/1 hour=3/2; 2/1/40; -"),
        (now + 1, 200, "minute=2/0 hour=3/1; 2/0/40; -"),
        (now + 2, 429, "minute=2/0 hour=3/1; 2/0/40; 40"),
        // The next minute: the hour is the tighter one, and what is refused by it costs the minute nothing.
        (now + 60_000, 200, "minute=2/1 hour=3/0; 3/0/3520; -"),
        (now + 60_001, 429, "minute=2/1 hour=3/0; 3/0/3520; 3520"),
        (now + 60_002, 429, "minute=2/1 hour=3/0; 3/0/3520; 3520"),
        // Equally little left of both: the longer one is told.
        (now + 3_600_000, 200, "minute=2/1 hour=3/2; 2/1/40; -"),
    ] {
        let (got, message, fields) = ask(&both, at).await;
        assert_eq!((got, &*short(&fields)), (status, expected), "{at}");
        assert_eq!(message, if status == 429 { "API rate limit exceeded" } else { "" });
    }
    let tie = plugin("{second: 2, day: 2}");
    assert_eq!(short(&ask(&tie, now).await.2), "second=2/1 day=2/1; 2/1/43180; -");
    let half = plugin("{minute: 1.5}");
    assert_eq!(short(&ask(&half, now).await.2), "minute=1.5/0.5; 1.5/0.5/40; -");
    assert_eq!(short(&ask(&half, now).await.2), "minute=1.5/0; 1.5/0/40; -");
    assert_eq!(ask(&half, now).await.0, 429);
}

#[tokio::test]
async fn answers_are_the_configured_ones() {
    for (config, status, message, told) in [
        ("", 429, "API rate limit exceeded", true),
        (", error_code: 503, error_message: 'slow down'", 503, "slow down", true),
        (", error_code: 600", 500, "An unexpected error occurred", true),
        (", hide_client_headers: true", 429, "API rate limit exceeded", false),
    ] {
        let plugin = plugin(&format!("{{hour: 1{config}}}"));
        assert_eq!(ask(&plugin, 0).await.0, 200);
        let (got, text, fields) = ask(&plugin, 1).await;
        assert_eq!((got, &*text, !fields.is_empty()), (status, message, told), "{config}");
    }
}

#[tokio::test]
async fn a_store_that_is_gone_is_tolerated_or_not() {
    // Unit tests have no control runtime, so every server is down.
    for (tolerant, status) in [(true, 200), (false, 500)] {
        let plugin = plugin(&format!("{{minute: 1, policy: redis, redis: {{host: r}}, fault_tolerant: {tolerant}}}"));
        let (got, message, fields) = ask(&plugin, 0).await;
        assert_eq!((got, fields.len()), (status, 0));
        assert_eq!(message, if tolerant { "" } else { "An unexpected error occurred" });
    }
}
