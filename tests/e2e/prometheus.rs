//! `prometheus`: the families of Kong on `/metrics`, read by a strict parser.

use edge_tests::edge::{Edge, Setup};
use edge_tests::prometheus::{Family, parse};
use edge_tests::upstream::Upstream;
use edge_tests::wire::get;
use serde_json::{Value, json};

fn start(upstream: &Upstream, plugins: Value) -> Edge {
    let entities = json!({
        "_format_version": "3.0",
        "services": [{
            "name": "up", "url": upstream.url(),
            "routes": [
                {"name": "orders", "paths": ["/orders"]},
                {"name": "limited", "paths": ["/limited"],
                 "plugins": [{"name": "rate-limiting", "config": {"year": 1, "limit_by": "ip"}}]},
            ],
        }],
        "plugins": plugins,
    });
    Setup::new(entities.to_string()).start()
}

/// A scrape that holds what a family must have by now: the access log comes before the numbers.
fn scrape(edge: &Edge) -> std::collections::BTreeMap<String, Family> {
    let answer = edge.admin_get("/metrics");
    assert!(answer.field("content-type").unwrap().starts_with("text/plain"), "{:?}", answer.fields);
    parse(&answer.text()).unwrap_or_else(|error| panic!("{error:#}\n{}", answer.text()))
}

#[test]
fn families_labels_and_their_order_are_kongs() {
    let upstream = Upstream::start();
    let all = json!({"status_code_metrics": true, "latency_metrics": true, "bandwidth_metrics": true});
    let edge = start(&upstream, json!([{"name": "prometheus", "config": all}]));
    for (path, status) in [("/orders", 200), ("/orders", 200), ("/limited", 200), ("/limited", 429), ("/nothing", 404)]
    {
        assert_eq!(edge.ask(get(path, &[])).status(), status, "{path}");
    }
    edge.access(|line| line["status"] == 404);
    let families = scrape(&edge);

    let requests = &families["kong_http_requests_total"];
    assert_eq!(requests.kind, "counter");
    let seen: Vec<_> = requests
        .samples
        .iter()
        .map(|sample| {
            assert_eq!(sample.names(), ["service", "route", "code", "source", "workspace", "consumer"]);
            let label = |name| sample.label(name).unwrap();
            assert_eq!((label("service"), label("workspace"), label("consumer")), ("up", "default", ""));
            (label("route").to_owned(), label("code").to_owned(), label("source").to_owned(), sample.value)
        })
        .collect();
    let expected =
        [("limited", "200", "service", 1.0), ("limited", "429", "kong", 1.0), ("orders", "200", "service", 2.0)];
    let expected = expected.map(|(route, code, source, count)| (route.into(), code.into(), source.into(), count));
    assert_eq!(seen, expected, "requests without a route are not counted");

    for (name, count) in
        [("kong_kong_latency_ms", 2.0), ("kong_upstream_latency_ms", 1.0), ("kong_request_latency_ms", 2.0)]
    {
        let family = &families[name];
        assert_eq!(family.kind, "histogram");
        let limited = |sample: &&edge_tests::prometheus::Sample| sample.label("route") == Some("limited");
        let of: Vec<_> = family.samples.iter().filter(limited).collect();
        assert_eq!(of[0].names(), ["service", "route", "workspace", "le"]);
        let [.., counted, sum] = &of[..] else { panic!("{of:?}") };
        assert_eq!((counted.name.as_str(), counted.value), (&*format!("{name}_count"), count));
        assert_eq!(sum.name, format!("{name}_sum"));
        let bounds: Vec<_> = of.iter().filter_map(|sample| sample.label("le")).collect();
        let first = if name == "kong_kong_latency_ms" { "1" } else { "25" };
        assert_eq!((bounds[0], *bounds.last().unwrap()), (first, "+Inf"));
        assert_eq!(bounds.len(), if first == "1" { 18 } else { 14 });
    }

    let bandwidth = &families["kong_bandwidth_bytes"];
    for sample in &bandwidth.samples {
        assert_eq!(sample.names(), ["service", "route", "direction", "workspace", "consumer"]);
        // Heads count: no request here has a body.
        assert!(sample.value > 20.0, "{sample:?}");
    }
    for (name, labels) in [
        ("kong_nginx_connections_total", vec!["node_id", "subsystem", "state"]),
        ("kong_nginx_requests_total", vec!["node_id", "subsystem"]),
        ("kong_datastore_reachable", vec![]),
        ("kong_node_info", vec!["node_id", "version"]),
        ("kong_nginx_metric_errors_total", vec![]),
        ("kong_memory_workers_lua_vms_bytes", vec!["node_id", "pid", "kong_subsystem"]),
    ] {
        assert_eq!(families[name].samples[0].names(), labels, "{name}");
    }
}

#[test]
fn instances_switch_families_on_where_they_are() {
    let upstream = Upstream::start();
    let edge = start(
        &upstream,
        json!([
            {"name": "prometheus", "route": "limited", "config": {"status_code_metrics": true}},
            {"name": "prometheus", "config": {"bandwidth_metrics": true}},
        ]),
    );
    for path in ["/orders", "/limited"] {
        assert_eq!(edge.ask(get(path, &[])).status(), 200);
    }
    edge.access(|line| line["target"] == "/limited" || line["path"] == "/limited" || line["route"] == "limited");
    let families = scrape(&edge);
    let routes = |name: &str| -> Vec<String> {
        let samples = families.get(name).map(|family| family.samples.iter());
        samples.into_iter().flatten().map(|sample| sample.label("route").unwrap().to_owned()).collect()
    };
    assert_eq!(routes("kong_http_requests_total"), ["limited"]);
    assert_eq!(routes("kong_bandwidth_bytes"), ["orders", "orders"]);
    assert!(!families.contains_key("kong_kong_latency_ms"));
    // And none of it without an instance.
    let edge = start(&upstream, json!([]));
    assert_eq!(edge.ask(get("/orders", &[])).status(), 200);
    let families = scrape(&edge);
    assert!(!families.contains_key("kong_http_requests_total") && families.contains_key("kong_node_info"));
}
