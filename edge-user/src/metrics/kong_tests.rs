//! The text as Kong's dashboards read it.

use std::time::Instant;

use super::*;
use crate::balancer::{AddressHealth, TargetHealth};
use crate::config::snapshot::{Protocols, Service};
use crate::metrics::{Registry, WorkerMetrics};

fn route(name: &str) -> Route {
    Route {
        id: Uuid::from_u128(1),
        name: Some(name.into()),
        label: name.into(),
        protocols: Protocols::ALL_HTTP,
        https_redirect_status_code: 426,
        strip_path: true,
        preserve_host: false,
        request_buffering: true,
        response_buffering: true,
        service: None::<Arc<Service>>,
        plugins: Arc::default(),
        credential_names: Box::default(),
    }
}

fn sample<'a>(route: &'a Route, consumer: Option<&'a Consumer>, code: u16) -> Sample<'a> {
    let ms = Duration::from_millis;
    Sample {
        route,
        consumer,
        code,
        by_service: code == 200,
        counts: true,
        latencies: Some(Latencies { kong: ms(6), upstream: (code == 200).then(|| ms(70)), request: ms(76) }),
        bytes: Some(Bytes { ingress: 100, egress: 0 }),
    }
}

fn scrape(workers: &[&WorkerMetrics]) -> String {
    let mut to = Exposition::default();
    write(&workers.iter().map(|worker| worker.kong.shared()).collect::<Vec<_>>(), &mut to);
    to.finish()
}

#[test]
fn workers_are_added_up_label_by_label() {
    let (one, two) = (WorkerMetrics::default(), WorkerMetrics::default());
    let orders = route("or\"ders\\");
    let ann = Consumer { id: Uuid::from_u128(3), username: Some("ann".into()), ..Consumer::default() };
    one.kong.record(&sample(&orders, Some(&ann), 200));
    two.kong.record(&sample(&orders, Some(&ann), 200));
    two.kong.record(&sample(&orders, None, 401));
    let text = scrape(&[&one, &two]);
    let lines: Vec<&str> = text.lines().filter(|line| !line.starts_with("# HELP")).collect();
    assert_eq!(
        lines[..6],
        [
            "# TYPE kong_http_requests_total counter",
            r#"kong_http_requests_total{service="",route="or\"ders\\",code="200",source="service",workspace="default",consumer="ann"} 2"#,
            r#"kong_http_requests_total{service="",route="or\"ders\\",code="401",source="kong",workspace="default",consumer=""} 1"#,
            "# TYPE kong_kong_latency_ms histogram",
            r#"kong_kong_latency_ms_bucket{service="",route="or\"ders\\",workspace="default",le="1"} 0"#,
            r#"kong_kong_latency_ms_bucket{service="",route="or\"ders\\",workspace="default",le="2"} 0"#,
        ]
    );
    for line in [
        r#"kong_kong_latency_ms_bucket{service="",route="or\"ders\\",workspace="default",le="7"} 3"#,
        r#"kong_kong_latency_ms_sum{service="",route="or\"ders\\",workspace="default"} 18"#,
        r#"kong_upstream_latency_ms_count{service="",route="or\"ders\\",workspace="default"} 2"#,
        r#"kong_request_latency_ms_bucket{service="",route="or\"ders\\",workspace="default",le="80"} 3"#,
        r#"kong_request_latency_ms_bucket{service="",route="or\"ders\\",workspace="default",le="+Inf"} 3"#,
        r#"kong_bandwidth_bytes{service="",route="or\"ders\\",direction="ingress",workspace="default",consumer="ann"} 200"#,
        "kong_nginx_metric_errors_total 0",
        "edge_metric_series_dropped_total 0",
    ] {
        assert!(lines.contains(&line), "{line} in\n{text}");
    }
    assert!(!text.contains("egress"), "what is zero is left out");
    let tail: Vec<_> = lines.iter().filter(|line| line.starts_with("kong_kong_latency_ms_")).collect();
    assert!(tail[tail.len() - 3].contains("+Inf") && tail[tail.len() - 2].contains("_count{"), "{tail:?}");
}

#[test]
fn a_renamed_route_gets_series_of_its_own() {
    let worker = WorkerMetrics::default();
    for name in ["old", "new", "new"] {
        worker.kong.record(&sample(&route(name), None, 200));
    }
    let text = scrape(&[&worker]);
    for (name, count) in [("old", 1), ("new", 2)] {
        let line = format!(
            r#"kong_http_requests_total{{service="",route="{name}",code="200",source="service",workspace="default",consumer=""}} {count}"#
        );
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
}

#[test]
fn series_are_bounded_and_what_is_beyond_is_counted() {
    let worker = WorkerMetrics::default();
    let orders = route("orders");
    for id in 0..MAX_SERIES as u128 + 500 {
        let consumer =
            Consumer { id: Uuid::from_u128(id + 1), username: Some(id.to_string().into()), ..Consumer::default() };
        worker.kong.record(&sample(&orders, Some(&consumer), 200));
    }
    let text = scrape(&[&worker]);
    // One place is a series of its own.
    assert!(text.contains("\nedge_metric_series_dropped_total 501\n"), "{}", &text[text.len() - 300..]);
    assert!(text.contains("\nkong_nginx_metric_errors_total 501\n"));
}

#[test]
fn without_the_plugin_only_gauges_appear() {
    let registry = Registry::new("1.2.3", Uuid::nil());
    registry.worker().accepted.add(3);
    let text = registry.render();
    let node = Uuid::nil();
    for line in [
        format!("kong_nginx_connections_total{{node_id=\"{node}\",subsystem=\"http\",state=\"accepted\"}} 3"),
        format!("kong_node_info{{node_id=\"{node}\",version=\"1.2.3\"}} 1"),
        "kong_datastore_reachable 1".to_owned(),
        "kong_nginx_metric_errors_total 0".to_owned(),
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
    for absent in ["kong_http_requests_total", "latency_ms", "kong_bandwidth"] {
        assert!(!text.contains(absent), "{absent}");
    }
}

#[test]
fn targets_have_a_series_for_each_state() {
    let mut to = Exposition::default();
    let target = |target: &str, state, addresses| TargetHealth { target: target.into(), weight: 100, state, addresses };
    let address = "10.0.0.1:80".parse().expect("an address");
    let found = AddressHealth { address, state: State::Healthy, weight: 100, in_flight: 0 };
    let targets = vec![target("a:80", State::Healthy, vec![found]), target("b:80", State::DnsError, Vec::new())];
    let upstream = UpstreamHealth { upstream: "u".into(), healthy: true, changes: [0, 0], targets };
    write_target_health(&[upstream], &mut to);
    let text = to.finish();
    let line = |target: &str, address: &str, state: &str, value: u8| {
        format!(
            "kong_upstream_target_health{{upstream=\"u\",target=\"{target}\",address=\"{address}\",state=\"{state}\",subsystem=\"http\"}} {value}"
        )
    };
    let samples: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    let expected: Vec<String> = ["healthchecks_off", "healthy", "unhealthy", "dns_error"]
        .into_iter()
        .map(|state| line("a:80", "10.0.0.1:80", state, u8::from(state == "healthy")))
        .chain(
            ["healthchecks_off", "healthy", "unhealthy", "dns_error"]
                .into_iter()
                .map(|state| line("b:80", "", state, u8::from(state == "dns_error"))),
        )
        .collect();
    assert_eq!(samples, expected);
}

/// `cargo nextest run --release --run-ignored all -E 'test(cost_of_a_request)' --no-capture`
#[test]
#[ignore = "a measurement"]
fn cost_of_a_request() {
    let worker = WorkerMetrics::default();
    let orders = route("orders");
    let ann = Consumer { id: Uuid::from_u128(3), username: Some("ann".into()), ..Consumer::default() };
    let rounds = 1_000_000;
    let began = Instant::now();
    for _ in 0..rounds {
        worker.kong.record(std::hint::black_box(&sample(&orders, Some(&ann), 200)));
    }
    println!("{:.0} ns a request", began.elapsed().as_nanos() as f64 / f64::from(rounds));
}
