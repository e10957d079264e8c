mod ownership;
mod rejection;
mod routes;
mod streams;

use super::snapshot::{Protocol, Protocols, Scheme};
use super::*;
use crate::http::head::{Head, Version};
use crate::router;

fn settings() -> Settings {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.toml");
    fs::write(&path, "[[listeners]]\naddress = \"127.0.0.1:0\"\n").unwrap();
    Settings::load(&path).unwrap()
}

fn set(protocols: &[Protocol]) -> Protocols {
    protocols.iter().copied().collect()
}

fn env() -> Env {
    Env::default()
}

fn load_yaml(text: &str) -> Result<Snapshot, Problems> {
    load_text(text, "k", &settings(), &env(), 1)
}

fn good(text: &str) -> Snapshot {
    load_yaml(&format!("_format_version: \"3.0\"\n{text}")).unwrap_or_else(|problems| panic!("{text}\n{problems}"))
}

/// The text begins at line 2.
fn bad(text: &str, expected: &[&str]) {
    let problems = load_yaml(&format!("_format_version: \"3.0\"\n{text}")).err().unwrap_or_default();
    let seen: Vec<_> = problems.0.iter().map(ToString::to_string).collect();
    assert_eq!(seen, expected, "{text}");
}

/// The route of a GET in clear text and how much of the path it took.
fn selected(snapshot: &Snapshot, host: &str, port: u16, path: &str) -> Option<(usize, usize)> {
    let mut head = Head::default();
    head.start_request(b"GET", path.as_bytes(), Version::Http11);
    let (host, path) = (host.as_bytes(), path.as_bytes());
    let request = router::Request { head: &head, host, port, path, tls: false, sni: None };
    snapshot.router.select(&request).map(|found| (found.route, found.matched))
}

const SERVICE: &str = "services:\n- host: h\n"; // lines 2 and 3

#[test]
fn services_have_their_defaults_and_rules() {
    let s = good("services:\n- name: s\n  host: Up.Example\n  routes:\n  - paths: [/a]\n");
    let service = s.routes[0].service.clone().unwrap();
    assert_eq!((service.name.as_deref(), &*service.label, service.scheme), (Some("s"), "s", snapshot::Scheme::Http));
    assert_eq!((&*service.host_header, service.port, service.path.as_deref()), ("up.example", 80, None));
    assert_eq!((service.retries, service.connect_timeout.as_millis(), service.tls.is_none()), (5, 60_000, true));
    for (fields, host_header, port, path) in [
        ("url: http://httpbin.konghq.com/anything", "httpbin.konghq.com", 80, Some("/anything")),
        ("url: https://h", "h", 443, None),
        ("url: https://h:80/", "h:80", 80, Some("/")),
        ("url: 'http://[::1]:81'", "[::1]:81", 81, None),
        ("{protocol: https, host: h}", "h:80", 80, None),
        ("{protocol: https, host: 10.0.0.1, port: 443, path: /x}", "10.0.0.1", 443, Some("/x")),
        ("{host: '::1', port: 80}", "[::1]", 80, None),
    ] {
        let fields = fields.trim_matches(['{', '}']);
        let s = good(&format!("services: [{{{fields}, routes: [{{paths: [/]}}]}}]"));
        let service = s.routes[0].service.clone().unwrap();
        assert_eq!(
            (&*service.host_header, service.port, service.path.as_deref()),
            (host_header, port, path),
            "{fields}"
        );
        assert_eq!(service.tls.is_some(), service.scheme == snapshot::Scheme::Https);
    }
    for (fields, expected) in [
        ("{}", "k:2: services[0].host: found nothing, expected a host name or address, without port"),
        ("{host: 'h:80'}", "k:2: services[0].host: found \"h:80\", expected a host name or address, without port"),
        ("{host: h, port: 65536}", "k:2: services[0].port: found 65536, expected an integer between 0 and 65535"),
        ("{host: h, retries: -1}", "k:2: services[0].retries: found -1, expected an integer between 0 and 32767"),
        (
            "{host: h, read_timeout: 0}",
            "k:2: services[0].read_timeout: found 0, expected an integer between 1 and 2147483646",
        ),
        (
            "{host: h, protocol: udp}",
            "k:2: services[0].protocol: found a protocol the edge does not speak, \
             expected a protocol over TCP: the edge forwards no datagrams",
        ),
        (
            "{host: h, protocol: grpc, path: /a}",
            "k:2: services[0].path: found a string, \
             expected nothing: value must be null unless the protocol is http or https",
        ),
        (
            "{host: h, path: a}",
            "k:2: services[0].path: found \"a\", expected a normal path: should start with: /, \
             and have no //, dot segments or raw special characters",
        ),
        (
            "{url: 'http://h/a?b'}",
            "k:2: services[0].url: found \"http://h/a?b\", \
             expected a URL like https://host:port/path, with a service's protocol, a normal path and no query",
        ),
        (
            "{url: 'http://me:pw@h/'}",
            "k:2: services[0].url: found a string, \
             expected a URL like https://host:port/path, with a service's protocol, a normal path and no query",
        ),
        ("{url: 'http://h', port: 1}", "k:2: services[0].port: found it beside `url`, expected one of the two"),
        ("{host: h, hots: x}", "k:2: services[0].hots: found an unknown field, expected `host`"),
        ("{host: h, id: x}", "k:2: services[0].id: found \"x\", expected a UUID"),
        ("{host: h, name: a b}", "k:2: services[0].name: found \"a b\", expected letters, digits and . - _ ~"),
        ("{host: h, tags: ['a,b']}", "k:2: services[0].tags[0]: found \"a,b\", expected a tag without `,` and `/`"),
        (
            "{host: h, protocol: tls, ca_certificates: [x]}",
            "k:2: services[0].ca_certificates[0]: found \"x\", \
             expected the id or name of one of the file's 'ca_certificates'",
        ),
        (
            "{host: h, tls_verify: true}",
            "k:2: services[0].tls_verify: found a boolean, \
             expected nothing: value must be null unless the protocol is https, grpcs or tls",
        ),
        (
            "{host: 127.0.0.1, port: 8001}",
            "k:2: services[0]: found the Admin API's address, \
             expected another upstream: requests from outside must not reach the Admin API",
        ),
    ] {
        bad(&format!("services: [{fields}]"), &[expected]);
    }
}

#[test]
fn interchangeable_upstreams_have_one_endpoint() {
    let endpoints = |urls: [&str; 2]| {
        let service = |url: &str| format!("- {url}\n  routes: [{{paths: [/]}}]\n");
        let s = good(&format!("services:\n{}{}", service(urls[0]), service(urls[1])));
        s.routes.iter().map(|route| route.service.as_ref().unwrap().endpoint).collect::<Vec<_>>()
    };
    for (urls, same) in [
        (["url: http://h/a", "url: http://H/b"], true),
        (["url: http://h", "url: http://h:81"], false),
        (["url: http://h:443", "url: https://h"], false),
        (["url: https://h", "url: https://h\n  tls_verify: false"], false),
        (["url: https://h\n  tls_verify: true", "url: https://h"], true),
    ] {
        let seen = endpoints(urls);
        assert_eq!(seen[0] == seen[1], same, "{urls:?}");
    }
    let s = good("services: [{url: https://h, tls_verify: false}]");
    assert_eq!(s.warnings, ["k:2: services[0].tls_verify: the upstream's certificate is not verified"]);
}

#[test]
fn ids_are_made_the_same_way_each_time() {
    let text = "services:\n- {name: s, host: h, routes: [{paths: [/]}, {name: r, paths: [/r]}]}\nconsumers: [{custom_id: c}]\n";
    let (a, b) = (good(text), good(text));
    let ids = |s: &Snapshot| s.routes.iter().map(|route| route.id).collect::<Vec<_>>();
    assert_eq!(ids(&a), ids(&b));
    assert_eq!((ids(&a)[0].get_version_num(), &a.hash), (5, &b.hash));
    assert_ne!(a.hash, good(&format!("{text}# more")).hash);
    assert!(ids(&a)[0] != ids(&a)[1] && ids(&a)[0] != a.routes[0].service.as_ref().unwrap().id);
}

#[test]
fn what_must_be_unique_is() {
    let id = "5f1d7e1c-1111-4222-8333-444455556666";
    for (text, expected) in [
        (
            "services:\n- {name: x, host: h}\n- {name: x, host: i, id: 5f1d7e1c-1111-4222-8333-444455556666}"
                .to_owned(),
            "k:4: services[1]: found 'x' again, expected each once \
             (uniqueness violation: 'services' entity with name set to 'x' already declared)"
                .to_owned(),
        ),
        (
            format!("services:\n- {{id: {id}, host: h}}\n- {{id: {id}, host: i}}"),
            format!(
                "k:4: services[1]: found '{id}' again, expected each once \
                 (uniqueness violation: 'services' entity with primary key set to '{id}' already declared)"
            ),
        ),
        (
            "consumers:\n- {username: a, custom_id: c}\n- {username: b, custom_id: c}".to_owned(),
            "k:4: consumers[1]: found 'c' again, expected each once \
             (uniqueness violation: 'consumers' entity with custom_id set to 'c' already declared)"
                .to_owned(),
        ),
    ] {
        bad(&text, &[&expected]);
    }
}

#[test]
fn consumers_need_a_name() {
    let s = good(
        "consumers:\n- {username: ann, tags: [a]}\n- {custom_id: c-2, id: 5f1d7e1c-1111-4222-8333-444455556666}\n",
    );
    assert_eq!(s.consumers.len(), 2);
    assert_eq!(s.consumers.by_custom_id("c-2").unwrap().id.to_string(), "5f1d7e1c-1111-4222-8333-444455556666");
    bad(
        "consumers: [{tags: [x]}]",
        &["k:2: consumers[0]: found neither, \
           expected at least one of these fields must be non-empty: 'custom_id', 'username'"],
    );
    bad(
        "consumers: [{username: a, keyauth_credentials: [{key: x}]}]",
        &["k:2: consumers[0].keyauth_credentials: found a list, expected []: anything else is not supported yet"],
    );
}

#[test]
fn plugins_that_are_not_there_are_refused_wherever_they_stand() {
    for (text, line) in [
        (format!("{SERVICE}plugins:\n- name: nope"), 5),
        (format!("{SERVICE}  plugins:\n  - name: nope"), 5),
        (format!("{SERVICE}  routes:\n  - paths: [/]\n    plugins:\n    - name: nope"), 7),
        (format!("{SERVICE}plugins:\n- name: nope\n  enabled: false"), 5),
    ] {
        let problems = load_yaml(&format!("_format_version: \"3.0\"\n{text}")).err().unwrap();
        assert_eq!((problems.0.len(), problems.0[0].line), (1, line), "{text}\n{problems}");
        assert!(problems.to_string().contains("nope"), "{problems}");
    }
    bad("plugins: [{}]", &["k:2: plugins[0].name: found nothing, expected the plugin's name"]);
}

#[test]
fn top_level_fields_are_known_or_refused() {
    for (text, expected) in [
        (
            "_transform: false\nservices: [{url: 'http://h'}]",
            "k:3: services[0].url: found `_transform: false` beside a `url`, \
             expected true: `url` must be taken apart, which is a transformation",
        ),
        ("vaults: [{name: u}]", "k:2: vaults: found a list, expected []: anything else is not supported yet"),
        (
            "_info: {defaults: {service: {retrys: 1}}}\nservices: [{host: a}, {host: b}]",
            "k:2: _info.defaults.service.retrys: found an unknown field, expected `retries`",
        ),
        ("service: []", "k:2: service: found an unknown field, expected `services`"),
        ("services: {}", "k:2: services: found an object, expected a list"),
        (
            "services: [{host: '{vault://env/x}'}]",
            "k:2: services[0].host: found a vault reference, \
             expected the value itself: this field may not be a reference",
        ),
    ] {
        let problems = load_yaml(&format!("_format_version: \"3.0\"\n{text}")).err().unwrap();
        assert_eq!(problems.0[0].to_string(), expected, "{text}");
    }
    let variable = "services:\n- host: h\n  name: ${{ env \"DECK_X\" }}";
    let problems = load_yaml(&format!("_format_version: \"3.0\"\n{variable}")).err().unwrap();
    assert!(problems.to_string().contains("found a decK variable"), "{problems}");
    good(
        "_transform: true\n_comment: hello\n_ignore: [1]\n_workspace: default\n_info: {select_tags: [a], defaults: {}}\nupstreams: []",
    );
    for (version, good) in [("\"3.0\"", true), ("3.0", false), ("\"2.1\"", true), ("\"1.1\"", true), ("\"2.0\"", false)]
    {
        assert_eq!(load_yaml(&format!("_format_version: {version}")).is_ok(), good, "{version}");
    }
    let no_version = load_yaml("services: []").err().unwrap().to_string();
    assert_eq!(no_version, "k:1: _format_version: found nothing, expected \"3.0\", \"2.1\" or \"1.1\", in quotes");
    assert_eq!(load_yaml("").err().unwrap().to_string(), "k:1: found null, expected an object");
}

/// What `deck gateway dump` writes: every default in full.
#[test]
fn a_dump_with_all_defaults_loads() {
    let s = good(
        r#"
_info: {defaults: {}}
services:
- connect_timeout: 60000
  enabled: true
  host: httpbin.konghq.com
  id: 0b3b4b0c-8c5c-4f29-9b5e-0d4b8f3f3f3f
  name: example-service
  path: /anything
  port: 80
  protocol: http
  read_timeout: 60000
  retries: 5
  tags: [a, "b c"]
  write_timeout: 60000
  ca_certificates: null
  client_certificate: null
  tls_verify: null
  tls_verify_depth: null
  routes:
  - https_redirect_status_code: 426
    name: example-route
    path_handling: v0
    paths: [/anything]
    methods: null
    hosts: null
    headers: null
    snis: null
    sources: null
    destinations: null
    preserve_host: false
    protocols: [http, https]
    regex_priority: 0
    request_buffering: true
    response_buffering: false
    strip_path: true
    created_at: 1700000000
    updated_at: 1700000000.5
consumers:
- {username: a, custom_id: null}
"#,
    );
    assert_eq!((s.routes.len(), s.consumers.len(), s.warnings.len()), (1, 1, 0));
}

fn minted() -> (String, String) {
    let minted = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    (minted.cert.pem(), minted.signing_key.serialize_pem())
}

#[test]
fn certificates_go_with_their_snis() {
    let ((cert, key), (_, other)) = (minted(), minted());
    let json = |value: serde_json::Value| value.to_string();
    let id = "5f1d7e1c-1111-4222-8333-444455556666";
    let nested = serde_json::json!({"_format_version": "3.0", "certificates": [{"cert": cert, "key": key, "snis": [{"name": "LocalHost"}]}]});
    let apart = serde_json::json!({"_format_version": "3.0", "certificates": [{"id": id, "cert": cert, "key": key}],
        "snis": [{"name": "*.localhost", "certificate": {"id": id}}]});
    for (text, name) in [(json(nested), "localhost"), (json(apart), "a.localhost")] {
        let s = load_yaml(&text).unwrap_or_else(|problems| panic!("{problems}"));
        assert!(s.certificates.resolve(Some(name), 0).is_some(), "{name}");
        assert!(s.certificates.resolve(Some("other"), 0).is_none() && s.warnings.is_empty());
    }
    let unused = serde_json::json!({"_format_version": "3.0", "certificates": [{"cert": cert, "key": key}]});
    assert_eq!(load_yaml(&json(unused)).unwrap_or_else(|p| panic!("{p}")).warnings.len(), 1);
    let mismatch = serde_json::json!({"_format_version": "3.0", "certificates": [{"cert": cert, "key": other}]});
    let error = load_yaml(&json(mismatch)).err().unwrap().to_string();
    assert_eq!(
        error,
        "k:1: certificates[0].key: found certificate does not match key, \
         expected a certificate and its private key, both PEM"
    );
    let no_pem = serde_json::json!({"_format_version": "3.0", "certificates": [{"cert": cert, "key": "hunter2"}]});
    let error = load_yaml(&json(no_pem)).err().unwrap().to_string();
    assert!(error.contains("no private key in PEM form") && !error.contains("hunter2"), "{error}");
    const NAME: &str = "expected a host name, *.name, name.* or *";
    bad("snis: [{certificate: x}]", &[&format!("k:2: snis[0].name: found nothing, {NAME}")]);
    bad("snis: [{name: 'a:1', certificate: x}]", &[&format!("k:2: snis[0].name: found \"a:1\", {NAME}")]);
    bad("snis: [{name: a}]", &["k:2: snis[0].certificate: found nothing, expected the id of its certificate"]);
    let dangling = "k:2: snis[0].certificate: found \"x\", expected the id or name of one of the file's 'certificates'";
    bad("snis: [{name: a, certificate: x}]", &[dangling]);
}

/// The files as the bench writes them: JSON as YAML, hosts with ports, paths from elsewhere.
#[test]
fn both_files_are_checked_together() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (cert, key) = minted();
    fs::write(at("tls.crt"), &cert).unwrap();
    fs::write(at("tls.key"), &key).unwrap();
    let entities = serde_json::json!({"_format_version": "3.0",
        "services": [{"name": "up", "url": "http://127.0.0.1:9801", "routes": [
            {"name": "plain", "hosts": ["127.0.0.1:9700"], "protocols": ["http", "https"]},
            {"name": "tls", "hosts": ["127.0.0.1:9701"], "protocols": ["http", "https"]}]}],
        "certificates": [{"cert": cert, "key": key, "snis": [{"name": "localhost"}]}]});
    fs::write(at("kong.yaml"), serde_json::to_string_pretty(&entities).unwrap()).unwrap();
    let toml = "[[listeners]]\naddress = \"127.0.0.1:9700\"\n[[listeners]]\naddress = \"127.0.0.1:9701\"\ntls = true\n\
        certificate = \"tls.crt\"\nkey = \"tls.key\"\n[workers]\ncount = 1\n[kernel]\nmode = \"off\"\n[log]\naccess = \"off\"\n";
    fs::write(at("edge.toml"), toml).unwrap();
    let check = || check(&at("edge.toml"), |_| env());
    let (settings, snapshot) = check().unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((settings.listeners.len(), snapshot.generation), (2, 1));
    assert_eq!(selected(&snapshot, "127.0.0.1", 9701, "/api/v1/orders").map(|hit| hit.0), Some(1));
    assert!(snapshot.certificates.resolve(None, 1).is_some() && snapshot.certificates.resolve(None, 0).is_none());

    fs::write(at("edge.toml"), format!("{toml}bogus = 1\n")).unwrap();
    fs::write(at("kong.yaml"), "_format_version: \"3.0\"\nbogus: 1\n").unwrap();
    fs::write(at("tls.key"), "x").unwrap();
    let problems = check().err().unwrap();
    let places: Vec<_> =
        problems.0.iter().map(|p| (p.file.rsplit('/').next().unwrap().to_owned(), p.line, p.path.clone())).collect();
    let place = |file: &str, line, path: &str| (file.to_owned(), line, path.to_owned());
    assert_eq!(
        places,
        [
            place("edge.toml", 14, "log.bogus"),
            place("edge.toml", 3, "listeners[1].key"),
            place("kong.yaml", 2, "bogus")
        ]
    );
    fs::write(at("edge.toml"), "[[listeners]]\naddress = \"127.0.0.1:9701\"\ntls = true\n").unwrap();
    fs::write(at("kong.yaml"), "_format_version: \"3.0\"\n").unwrap();
    let problems = check().err().unwrap();
    assert!(
        problems.to_string().ends_with(
            "edge.toml:1: listeners[0]: found TLS without a certificate, \
         expected `certificate` and `key`, or a certificate entity with an sni"
        ),
        "{problems}"
    );
    fs::remove_file(at("kong.yaml")).unwrap();
    assert!(check().err().unwrap().to_string().contains("kong.yaml: found no readable file"));
    fs::write(at("edge.toml"), "[[listeners]\n").unwrap();
    let problems = check().err().unwrap();
    assert!(problems.0.len() == 1 && problems.to_string().contains("edge.toml:1: found invalid TOML"), "{problems}");
}
