//! The files of tests/fixtures/entities: one with every field, one with every kind of mistake, and one that is large.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Instant;

use super::dump::{Format, Secrets};
use super::problem::{Problems, Sink};
use super::snapshot::{Host, Scheme, Snapshot};
use super::value::{Entry, Kind, Value};
use super::*;
use crate::crypto::seal::SecretsKey;
use crate::plugin::PluginEnv;

fn fixture(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "..", "tests", "fixtures", "entities", name].iter().collect()
}

fn settings(name: &str) -> Settings {
    let toml =
        format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n[entities]\nfile = \"{}\"\n", fixture(name).display());
    Settings::load_text(&toml, Path::new("edge.toml")).unwrap()
}

fn loaded(text: &str) -> Result<Snapshot, Problems> {
    let key = SecretsKey::from_text(&"5".repeat(64)).unwrap();
    let env = Env { plugins: PluginEnv::default().with_secrets(Some(&key)), ..Env::default() };
    load_text(text, "k", &settings("every.yaml"), &env, 1)
}

fn dumped(text: &str, format: Format, secrets: Secrets) -> String {
    let sink = Sink::new("k");
    let normal = normal::normalize(Value::from_yaml(text, &sink).unwrap(), &sink).unwrap();
    let problems = sink.into_parts().0;
    assert!(problems.is_empty(), "{}", Problems(problems));
    dump::dump(normal, format, secrets)
}

#[test]
fn every_entity_and_field_loads_and_round_trips() {
    let text = fs::read_to_string(fixture("every.yaml")).unwrap();
    let s = loaded(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let first = dumped(&text, Format::Yaml, Secrets::Given);
    let again = loaded(&first).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(dumped(&first, Format::Yaml, Secrets::Given), first);
    let json = dumped(&text, Format::Json, Secrets::Given);
    assert_eq!(dumped(&json, Format::Json, Secrets::Given), json);
    loaded(&json).unwrap_or_else(|problems| panic!("{problems}"));
    let ids = |s: &Snapshot| s.routes.iter().map(|route| (route.id, route.label.clone())).collect::<Vec<_>>();
    assert_eq!(ids(&s), ids(&again));
    assert!(first.contains("{vault://env/cargo-pkg-name}") && !first.contains(env!("CARGO_PKG_NAME")));

    let hidden = dumped(&text, Format::Yaml, Secrets::Redacted);
    for secret in ["PRIVATE KEY", "not a real secret", "dXNlcjpwYXNz", "l3cPmx8Cx_xRyBjA"] {
        assert!(first.contains(secret) && !hidden.contains(secret), "{secret}");
    }
    assert!(hidden.contains("BEGIN CERTIFICATE") && hidden.contains("{vault://file/client.key}"));
}

#[test]
fn what_the_file_says_is_in_the_snapshot() {
    let text = fs::read_to_string(fixture("every.yaml")).unwrap();
    let s = loaded(&text).unwrap_or_else(|problems| panic!("{problems}"));
    let route = |label: &str| s.routes.iter().find(|route| &*route.label == label).unwrap();
    let orders = route("orders-https").service.clone().unwrap();
    assert_eq!((&*orders.host_header, orders.scheme, orders.retries), ("orders.example", Scheme::Https, 2));
    assert!(orders.tls.as_ref().is_some_and(|tls| tls.client_auth_cert_resolver.has_certs()));
    assert!(!route("orders-https").request_buffering && !route("orders-https").preserve_host);
    // `_info.defaults`
    assert!(route("nowhere").preserve_host && route("nowhere").service.is_none());
    let calls = route("calls").service.clone().unwrap();
    assert_eq!((calls.scheme, calls.retries, route("calls").strip_path), (Scheme::Grpcs, 3, false));
    let clear = route("calls-clear").service.clone().unwrap();
    assert_eq!((clear.scheme, &clear.host, clear.port), (Scheme::Grpc, &Host::Ip("10.0.10.1".parse().unwrap()), 50051));
    let streams: Vec<_> = s.stream_routes.iter().map(|route| (&*route.label, route.snis.len())).collect();
    assert_eq!(streams, [("lines", 0), ("sealed", 1), ("passed", 1)]);
    assert_eq!((s.stream_routes[0].sources.len(), s.stream_routes[0].destinations[0].port), (2, Some(5432)));
    for (username, groups, acl_groups) in [
        ("ann", &["gold", "silver"][..], &["admins", "readers", "writers"][..]),
        ("bob", &["gold", "silver"], &["readers"]),
    ] {
        let consumer = s.consumers.by_username(username).unwrap();
        assert_eq!(consumer.groups.iter().map(|group| &*group.name).collect::<Vec<_>>(), groups, "{username}");
        let mut acl: Vec<&str> = consumer.acl_groups.iter().map(|group| &**group).collect();
        acl.sort_unstable();
        assert_eq!(acl, acl_groups, "{username}");
    }
    for name in ["api.example", "x.api.example", "short.example", "client.test", "other.example"] {
        assert!(s.certificates.resolve(Some(name), 0).is_some(), "{name}");
    }
}

#[test]
fn every_parameter_of_openid_connect_stands_there_with_another_value() {
    // Kong's own: those that are honoured at all.
    const ONLY_DEFAULT: [&str; 8] = [
        "mtls_revocation_endpoint",
        "principals",
        "refresh_tokens",
        "resolve_distributed_claims",
        "revocation_endpoint",
        "revocation_endpoint_auth_method",
        "revocation_token_param_name",
        "verify_parameters",
    ];
    let tree = |text: &str| Value::from_yaml(text, &Sink::new("k")).unwrap();
    let members = |value: &Value| match &value.kind {
        Kind::Object(entries) => entries.clone(),
        _ => panic!("no object"),
    };
    let said = fs::read_to_string(fixture("../openid_connect/defaults.yaml")).unwrap();
    let documented = members(tree(&said).get("api").unwrap());
    let every = tree(&fs::read_to_string(fixture("every.yaml")).unwrap());
    let Kind::Array(plugins) = &every.get("plugins").unwrap().kind else { panic!("no list") };
    let configs = plugins.iter().filter_map(|plugin| plugin.get("config")).map(members);
    let written: Vec<Entry> = configs.flatten().collect();
    for Entry { key, value: default, .. } in documented {
        let default = dump::to_json(&default);
        let stands = written.iter().any(|entry| entry.key == key && !entry.value.is_json(&default));
        assert_eq!(stands, !ONLY_DEFAULT.contains(&key.as_str()), "{key}");
    }
}

#[test]
fn every_parameter_of_upstream_oauth_stands_there_with_another_value() {
    let tree = |name: &str| Value::from_yaml(&fs::read_to_string(fixture(name)).unwrap(), &Sink::new("k")).unwrap();
    let every = tree("every.yaml");
    let Kind::Array(plugins) = &every.get("plugins").unwrap().kind else { panic!("no list") };
    // A cluster and sentinels exclude each other.
    let config = |name: &str| {
        let name = Kind::String(name.to_owned());
        let is_it = |plugin: &&Value| plugin.get("instance_name").is_some_and(|value| value.kind == name);
        plugins.iter().find(is_it).unwrap().get("config").unwrap()
    };
    fn check(default: &Value, written: &[&Value], path: &str) {
        let Kind::Object(entries) = &default.kind else {
            let stands = written.iter().any(|value| !value.is_json(&dump::to_json(default)));
            return assert!(stands, "{path}");
        };
        for Entry { key, value, .. } in entries {
            let written: Vec<&Value> = written.iter().filter_map(|record| record.get(key)).collect();
            // Those that are known, and honoured with their defaults alone.
            if ["cloud_authentication", "connection_is_proxied"].contains(&key.as_str()) {
                assert!(written.is_empty(), "{path}.{key}");
            } else {
                check(value, &written, &format!("{path}.{key}"));
            }
        }
    }
    check(
        &tree("../upstream_oauth/defaults.yaml"),
        &[config("own-token"), config("own-token-by-certificate")],
        "config",
    );
}

#[test]
fn every_planted_mistake_is_found_in_one_run() {
    const MARK: &str = " # mistake: ";
    let text = fs::read_to_string(fixture("mistakes.yaml")).unwrap();
    let planted: Vec<(u32, String)> = (text.lines().zip(1..))
        .filter_map(|(line, number)| Some((number, line.split_once(MARK)?.1.to_owned())))
        .collect();
    assert_eq!(planted.len(), 50);
    let problems = load_text(&text, "k", &settings("mistakes.yaml"), &Env::default(), 1).err().unwrap();
    let place = |problem: &Problem| (problem.line, problem.path.clone());
    for mistake in &planted {
        assert!(problems.0.iter().any(|problem| place(problem) == *mistake), "not found: {mistake:?}\n{problems}");
    }
    for problem in &problems.0 {
        assert!(planted.contains(&place(problem)), "nobody planted: {problem}");
        assert!(!problem.found.is_empty() && !problem.expected.is_empty(), "{problem}");
    }
    let said = problems.to_string();
    assert!(said.contains("require_scop: found an unknown field, expected `scopes_required`"), "{said}");
}

#[test]
fn old_formats_guess_regular_expressions() {
    let text = "_format_version: \"VERSION\"\nservices: [{name: s, host: h, routes: [{paths: ['/a/\\d+', /b]}]}]";
    for (version, warned) in [("1.1", true), ("2.1", true)] {
        let s = loaded(&text.replace("VERSION", version)).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(s.warnings.iter().any(|warning| warning.contains("\"~/a/\\d+\"")), warned, "{:?}", s.warnings);
    }
    let problems = loaded(&text.replace("VERSION", "3.0")).err().unwrap();
    assert!(problems.to_string().contains("services[0].routes[0].paths[0]"), "{problems}");
}

#[test]
fn values_from_vaults_are_never_said() {
    let text = "_format_version: \"3.0\"\nplugins:\n- name: openid-connect\n  config:\n    issuer: '{vault://env/cargo-pkg-name}'\n";
    let problems = loaded(text).err().unwrap().to_string();
    assert!(!problems.contains(env!("CARGO_PKG_NAME")) && problems.contains("plugins[0].config.issuer"), "{problems}");
}

/// What 100,000 routes take to load; run with `--run-ignored`.
#[test]
#[ignore = "prints a measurement"]
fn a_hundred_thousand_routes() {
    let mut text = String::from("_format_version: \"3.0\"\nservices:\n");
    for service in 0..1_000 {
        writeln!(text, "- name: s{service}\n  host: 10.1.{}.{}\n  routes:", service / 250, service % 250).unwrap();
        for route in 0..100 {
            writeln!(
                text,
                "  - name: r{service}-{route}\n    hosts: [h{service}.example]\n    paths: [/api/v{route}/things]\n    methods: [GET, POST]"
            )
            .unwrap();
        }
    }
    let resident = || {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default().to_owned()
    };
    let settings = settings("every.yaml");
    let sink = Sink::new("k");
    let start = Instant::now();
    let value = Value::from_yaml(&text, &sink).unwrap();
    println!("tree {:?} {}", start.elapsed(), resident());
    let normal = normal::normalize(value, &sink).unwrap();
    println!("normal form {:?} {}", start.elapsed(), resident());
    let document = schema::document(&normal, &sink);
    println!("entities {:?} {}", start.elapsed(), resident());
    let snapshot = resolve::resolve(document, Vec::new(), &Env::default(), &settings.proxy, 1, &sink);
    println!("snapshot {:?} {}", start.elapsed(), resident());
    assert_eq!((snapshot.routes.len(), sink.count()), (100_000, 0));
}
