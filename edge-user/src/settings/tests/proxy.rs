//! `[proxy]`: whose word is taken, and what is told of it.

use super::*;

#[test]
fn the_field_that_names_the_client_is_judged() {
    for (text, expected) in [
        (
            "real_ip_header = \"Forwarded\"",
            "4: proxy.real_ip_header: found \"Forwarded\", expected `X-Real-IP`, `X-Forwarded-For`, `proxy_protocol`, \
             or another field that is no part of HTTP",
        ),
        (
            "real_ip_header = \"proxy_protocol\"",
            "4: proxy.real_ip_header: found `proxy_protocol`, and no listener takes it, \
             expected `proxy_protocol` at a listener",
        ),
        ("real_ip_recursive = \"on\"", "4: proxy.real_ip_recursive: found \"on\", expected a boolean"),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}[proxy]\n{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
    let told = "proxy_protocol = \"v1\"\n";
    for (text, header, recursive, warns) in [
        ("[proxy]\ntrusted_ips = [\"::1\"]", "X-Real-IP", false, Some("whoever wrote it")),
        ("[proxy]\ntrusted_ips = [\"::1\"]\nreal_ip_header = \"X-Real-IP\"", "X-Real-IP", false, None),
        ("[proxy]\nreal_ip_header = \"X-Forwarded-For\"\nreal_ip_recursive = true", "X-Forwarded-For", true, None),
        (&format!("{told}[proxy]\ntrusted_ips = [\"::1\"]"), "X-Real-IP", false, None),
        (
            &format!("{told}[proxy]\ntrusted_ips = [\"::1\"]\nreal_ip_header = \"proxy_protocol\""),
            "proxy_protocol",
            false,
            None,
        ),
        (
            &format!(
                "{told}[proxy]\ntrusted_ips = [\"::1\"]\nreal_ip_header = \"proxy_protocol\"\nreal_ip_recursive = true"
            ),
            "proxy_protocol",
            true,
            Some("names one client"),
        ),
    ] {
        let (s, _dir) = good(&format!("{LISTENER}{text}"));
        let source = Source::parse(header).unwrap();
        assert_eq!(s.proxy.real_ip, RealIp { source, recursive }, "{text}");
        assert_eq!(s.warnings.len(), usize::from(warns.is_some()), "{text}: {:?}", s.warnings);
        assert!(warns.is_none_or(|part| s.warnings[0].contains(part)), "{text}: {:?}", s.warnings);
    }
}

#[test]
fn what_is_said_in_forwarded_is_judged() {
    use crate::proxy::forwarded::By;
    for (text, expected) in [
        ("", Forwarded::Off),
        ("forwarded = false", Forwarded::Off),
        ("forwarded = true", Forwarded::Sent(By::Nobody)),
        ("forwarded = true\nforwarded_by = \"address\"", Forwarded::Sent(By::Address)),
        ("forwarded = true\nforwarded_by = \"_edge\"", Forwarded::Sent(By::Name("_edge".into()))),
    ] {
        assert_eq!(good(&format!("{LISTENER}[proxy]\n{text}")).0.proxy.forwarded, expected, "{text}");
    }
    for (text, expected) in [
        (
            "forwarded_by = \"_edge\"",
            "4: proxy.forwarded_by: found it without `forwarded`, expected `forwarded = true` beside it",
        ),
        (
            "forwarded = true\nforwarded_by = \"edge\"",
            "5: proxy.forwarded_by: found \"edge\", expected `address`, or a name of letters, digits, `.`, `_` and `-` \
             that begins with `_`",
        ),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}[proxy]\n{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
}

#[test]
fn upstreams_that_want_a_header_are_judged() {
    use crate::config::snapshot::Host;
    use crate::proxy_protocol::Sends;
    let text = "[[proxy.upstreams]]\nhost = \"Orders\"\nproxy_protocol = \"v2\"\n\
                [[proxy.upstreams]]\nhost = \"[::1]\"\nproxy_protocol = \"v1\"";
    let (s, _dir) = good(&format!("{LISTENER}{text}"));
    for (host, expected) in [
        (Host::Name("orders".into()), Some(Sends::V2)),
        (Host::Ip("::1".parse().unwrap()), Some(Sends::V1)),
        (Host::Name("other".into()), None),
    ] {
        assert_eq!(s.proxy.sends_to(&host), expected, "{host}");
    }
    for (text, expected) in [
        ("proxy_protocol = \"v1\"", "3: proxy.upstreams[0].host: found nothing, expected the `host` of a service"),
        (
            "host = \"a b\"\nproxy_protocol = \"v1\"",
            "4: proxy.upstreams[0].host: found \"a b\", expected the `host` of a service",
        ),
        ("host = \"a\"", "3: proxy.upstreams[0].proxy_protocol: found nothing, expected `v1` or `v2`"),
        (
            "host = \"a\"\nproxy_protocol = \"any\"",
            "5: proxy.upstreams[0].proxy_protocol: found \"any\", expected one of: v1, v2",
        ),
        (
            "host = \"a\"\nproxy_protocol = \"v1\"\n[[proxy.upstreams]]\nhost = \"A\"\nproxy_protocol = \"v2\"",
            "7: proxy.upstreams[1].host: found a again, expected each host once",
        ),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}[[proxy.upstreams]]\n{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
}

#[test]
fn what_is_kept_of_connections_goes_by_kongs_names() {
    let text = "upstream_keepalive_pool_size = 0\nupstream_keepalive_max_requests = 7\n\
                upstream_keepalive_idle_timeout = 8\nupstream_keepalive_max_age = 9";
    let seconds = Duration::from_secs;
    let expected = Keepalive { pool_size: 0, max_requests: 7, idle_timeout: seconds(8), max_age: Some(seconds(9)) };
    assert_eq!(good(&format!("{LISTENER}[proxy]\n{text}")).0.proxy.keepalive, expected);
    let (_, problems, _dir) = read_text(&format!("{LISTENER}[proxy]\nupstream_keepalive_idle_timeout = 0"), &[]);
    assert_eq!(
        problems,
        ["4: proxy.upstream_keepalive_idle_timeout: found 0, expected an integer between 1 and 86400"]
    );
}
