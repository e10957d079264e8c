//! `edge import`: what it writes for an F5's configuration serves as the configuration says, and `edge import verify`
//! sees where it does not.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use edge_tests::certs::{self, Authority, Pair};
use edge_tests::edge::{Edge, binary, free_address};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use nix::sys::signal::Signal;
use rustls::{ClientConfig, DEFAULT_VERSIONS};
use serde_json::{Map, Value, json};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/f5").join(name)
}

/// Exit code, standard output and standard error.
fn import(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(binary());
    command.arg("import").args(arguments).env("SSL_CERT_FILE", roots());
    let output = command.output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// A file with the authority of the tests' certificates.
fn roots() -> PathBuf {
    let path = std::env::temp_dir().join(format!("edge-import-roots-{}.pem", std::process::id()));
    std::fs::write(&path, certs::root()).unwrap();
    path
}

/// An upstream that tells what it was asked, as `[echo]` does.
fn echo() -> Upstream {
    Upstream::with(|request| {
        let mut headers = Map::new();
        for (name, value) in &request.fields {
            headers.insert(name.clone(), value.clone().into());
        }
        let url = format!("http://{}{}", request.field("host").unwrap_or("none"), request.target());
        let body = json!({"headers": headers, "url": url}).to_string();
        let fields = "Content-Type: application/json\r\nX-Powered-By: tests\r\nServer: tests\r\n";
        match request.target() {
            "/fail" => Reply::new("500 Internal Server Error", "", ""),
            "/login" => Reply::new("200 OK", &format!("{fields}Set-Cookie: session=abc; Path=/\r\n"), &body),
            "/moved" => Reply::new("302 Found", "Location: http://shop.example.com:80/moved/\r\n", ""),
            _ => Reply::new("200 OK", fields, &body),
        }
    })
}

/// Imports a text, and starts an edge on what was written.
fn served(text: &str, files: &[(&str, String)]) -> Edge {
    let dir = tempfile::tempdir().unwrap();
    let input = dir.path().join("bigip.conf");
    std::fs::write(&input, text).unwrap();
    let out = dir.path().to_str().unwrap();
    let (code, told, error) = import(&["f5", input.to_str().unwrap(), "--out", out]);
    assert_eq!(code, 0, "{told}{error}");
    let settings = dir.path().join("edge.toml");
    let toml = std::fs::read_to_string(&settings).unwrap();
    // Ports of the machine's own, and no kernel programs.
    let toml = toml.replace("127.0.0.1:8001", "127.0.0.1:0");
    std::fs::write(&settings, format!("{toml}\n[kernel]\nmode = \"off\"\n[workers]\ncount = 2\n")).unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    // The key for cookies, where one is asked for.
    std::fs::write(dir.path().join("cookies.key"), [0x80; 32]).unwrap();
    Edge::serve(dir).unwrap()
}

fn verify(edge: &Edge, against: &str) -> (i32, String) {
    verify_as(edge, against, &[])
}

fn verify_as(edge: &Edge, against: &str, options: &[&str]) -> (i32, String) {
    let requests = edge.path("requests.json");
    let (code, out, error) = import(&[&["verify", requests.to_str().unwrap(), "--against", against], options].concat());
    (code, format!("{out}{error}"))
}

/// The paths that the file of requests sends to a pool.
fn paths_to(edge: &Edge, pool: &str) -> BTreeSet<String> {
    let requests: Value = serde_json::from_slice(&std::fs::read(edge.path("requests.json")).unwrap()).unwrap();
    let all = requests["requests"].as_array().unwrap().iter().filter(|one| one["pool"] == pool);
    all.map(|one| one["upstream"]["path"].as_str().unwrap().to_owned()).collect()
}

fn seen(upstream: &Upstream) -> BTreeSet<String> {
    let all = upstream.requests();
    let asked = all.iter().filter(|request| request.target() != "/health");
    asked.map(|request| request.target().to_owned()).collect()
}

struct Shop {
    edge: Edge,
    tls: SocketAddr,
    clear: SocketAddr,
    pools: [(&'static str, Upstream); 3],
}

fn shop() -> Shop {
    let pools = [("/Common/pool_catalog", echo()), ("/Common/pool_orders", echo()), ("/Common/pool_shop", echo())];
    let (tls, clear) = (free_address(), free_address());
    let mut text = std::fs::read_to_string(fixture("shop.conf")).unwrap();
    for (from, to) in [
        ("192.0.2.10:443", tls.to_string()),
        ("192.0.2.10:http", clear.to_string()),
        ("203.0.113.11", "127.0.0.1".to_owned()),
        ("203.0.113.12", "127.0.0.1".to_owned()),
        (":8081 {", format!(":{} {{", pools[0].1.address().port())),
        (":8082 {", format!(":{} {{", pools[1].1.address().port())),
        ("web1:http {", format!("web1:{} {{", pools[2].1.address().port())),
        ("web2:http {", format!("web2:{} {{", pools[2].1.address().port())),
    ] {
        assert!(text.contains(from), "{from}");
        text = text.replace(from, &to);
    }
    let pair = certs::pair(&["shop.example.com", "www.example.com"]);
    let files = [("shop.example.com.crt", pair.certificate), ("shop.example.com.key", pair.key)];
    Shop { edge: served(&text, &files), tls, clear, pools }
}

#[test]
fn what_is_written_for_the_shop_serves_as_its_rules_say() {
    let shop = shop();
    let (code, told) = verify(&shop.edge, &format!("https://{}", shop.tls));
    assert_eq!(code, 0, "{told}");
    assert!(!told.contains("does not echo"), "{told}");
    // Which pool a request went to.
    for (name, upstream) in &shop.pools {
        assert_eq!(seen(upstream), paths_to(&shop.edge, name), "{name}");
    }
    let (code, told) = verify(&shop.edge, &format!("http://{}", shop.clear));
    assert_eq!(code, 0, "{told}");

    let ask = |request: &[u8]| {
        let client = certs::client(&["http/1.1"]);
        Client::tls(shop.tls, "shop.example.com", client).unwrap().ask(request)
    };
    // Nobody here is in the office: the refusal is a restriction now.
    assert_eq!(ask(&get("/admin/x", &[])).status(), 403);
    assert_eq!(ask(&get("/shop", &["User-Agent: some BadBot/1"])).status(), 403);
    let answer = ask(&get("/Legacy/page", &[]));
    assert_eq!((answer.status(), answer.field("location")), (302, Some("https://shop.example.com/new")));
    let answer = ask(&get("/shop", &["X-Internal-User: root", "X-Trace: 1", "X-Debug: 1", "X-Shop-Host: other"]));
    let sent = &answer.json()["headers"];
    for (name, expected) in [("X-Site", json!("eu-1")), ("X-Edge-Site", json!("shop")), ("X-Shop-Host", json!("test"))]
    {
        assert_eq!(sent[name], expected, "{sent}");
    }
    for name in ["X-Internal-User", "X-Trace", "X-Debug"] {
        assert!(sent.get(name).is_none(), "{sent}");
    }
    for (name, expected) in [
        ("x-frame-options", Some("DENY")),
        ("x-content-type-options", Some("nosniff")),
        ("x-powered-by", None),
        ("strict-transport-security", Some("max-age=31536000; includeSubDomains")),
        ("server", None),
    ] {
        assert_eq!(answer.field(name), expected);
    }
    // A cookie that the edge alone reads.
    let answer = ask(&get("/login", &[]));
    let cookie = answer.all("set-cookie").into_iter().find(|cookie| cookie.starts_with("session=")).unwrap().to_owned();
    assert!(!cookie.contains("abc") && cookie.ends_with("; Path=/"), "{cookie}");
    let sealed = cookie.split(';').next().unwrap();
    assert_eq!(ask(&get("/shop", &[&format!("Cookie: {sealed}")])).json()["headers"]["Cookie"], "session=abc");
    assert!(ask(&get("/shop", &["Cookie: session=abc"])).json()["headers"].get("Cookie").is_none());
    // An answer in place of a member's, and a redirect out of clear text to what was asked for.
    let answer = ask(&get("/fail", &[]));
    assert_eq!((answer.status(), answer.text().as_str()), (503, "sorry"));
    let answer = ask(b"GET /moved HTTP/1.1\r\nHost: shop.example.com\r\n\r\n");
    assert_eq!(answer.field("location"), Some("https://shop.example.com/moved/"));
}

#[test]
fn a_difference_is_told_and_fails() {
    let shop = shop();
    let against = format!("https://{}", shop.tls);
    let good = std::fs::read_to_string(shop.edge.path("kong.yaml")).unwrap();
    for (from, to, words) in [
        ("value: eu-1", "value: eu-2", "field x-site to the service: expected \"eu-1\", found \"eu-2\""),
        ("status_code: 302", "status_code: 307", "status: expected \"302\", found \"307\""),
        ("value: DENY", "value: SAMEORIGIN", "field x-frame-options: expected \"DENY\", found \"SAMEORIGIN\""),
    ] {
        assert!(good.contains(from), "{good}");
        let mark = shop.edge.errors().mark();
        std::fs::write(shop.edge.path("kong.yaml"), good.replace(from, to)).unwrap();
        shop.edge.signal(Signal::SIGHUP);
        shop.edge.logged_after(mark, "configuration");
        let (code, told) = verify(&shop.edge, &against);
        assert_eq!(code, 1, "{told}");
        assert!(told.contains("FAIL") && told.contains(words), "{told}");
    }
    let [.., (_, upstream)] = shop.pools;
    upstream.stop();
    let (code, told) = verify(&shop.edge, &against);
    assert!(code == 1 && told.contains("expected \"an answer of the service\""), "{told}");
}

#[test]
fn an_http_profile_and_its_rules_shape_heads() {
    let (upstream, http) = (echo(), free_address());
    let text = format!(
        "ltm pool p {{ members {{ {0} {{ address 127.0.0.1 }} }} }}\n\
         ltm profile http h {{\n insert-xforwarded-for enabled\n via-request remove\n server-agent-name shop\n \
         header-insert \"X-Way: [IP::client_addr] [HTTP::method]\"\n header-erase X-Debug\n \
         fallback-host https://sorry.example.com/\n fallback-status-codes {{ 500-503 }}\n}}\n\
         ltm rule r {{\nwhen HTTP_REQUEST {{\n HTTP::header sanitize User-Agent X-Beta\n HTTP::host [HTTP::header X-Beta].test\n \
         if {{ [HTTP::header exists X-Beta] and not ([HTTP::method] eq \"PUT\") }} {{ HTTP::header replace X-Variant beta }}\n}}\n\
         when HTTP_RESPONSE {{\n switch [HTTP::status] {{ 404 - 410 {{ HTTP::header insert Cache-Control no-store }} \
         default {{ HTTP::header remove X-Powered-By }} }}\n HTTP::header insert X-Asked [HTTP::host]\n}}\n}}\n\
         ltm virtual v {{\n destination {http}\n pool p\n profiles {{ h {{ }} }}\n rules {{ r }}\n}}\n",
        upstream.address()
    );
    let edge = served(&text, &[]);
    let (code, told) = verify(&edge, &format!("http://{http}"));
    assert_eq!(code, 0, "{told}");
    let ask = |method: &str, path: &str, fields: &str| {
        edge.ask(format!("{method} {path} HTTP/1.1\r\nHost: shop.example.com\r\n{fields}Content-Length: 0\r\n\r\n"))
    };
    let answer = ask("GET", "/x", "X-Beta: b\r\nX-Debug: 1\r\nX-Other: 1\r\nX-Variant: mine\r\nVia: 1.1 me\r\n");
    let sent = answer.json()["headers"].clone();
    for (name, expected) in [
        ("X-Way", json!("127.0.0.1 GET")),
        ("X-Variant", json!("beta")),
        ("X-Beta", json!("b")),
        ("Host", json!("b.test")),
        ("X-Forwarded-For", json!("127.0.0.1")),
        ("X-Debug", json!(null)),
        ("X-Other", json!(null)),
        ("Via", json!(null)),
    ] {
        assert_eq!(sent[name], expected, "{name}: {sent}");
    }
    for (name, expected) in [("server", Some("shop")), ("x-powered-by", None), ("x-asked", Some("shop.example.com"))] {
        assert_eq!(answer.field(name), expected, "{name}");
    }
    assert_eq!(ask("PUT", "/x", "X-Beta: b\r\n").json()["headers"].get("X-Variant"), None);
    let answer = ask("GET", "/fail", "X-Beta: b\r\n");
    assert_eq!((answer.status(), answer.field("location")), (302, Some("https://sorry.example.com/")));
    upstream.stop();
    assert_eq!(ask("GET", "/x", "X-Beta: b\r\n").field("location"), Some("https://sorry.example.com/"));
}

#[test]
fn a_policy_serves_and_so_does_a_connection() {
    let (v1, v2, database) = (echo(), echo(), echo());
    let (http, stream) = (free_address(), free_address());
    let text = std::fs::read_to_string(fixture("api.conf")).unwrap();
    let policy = text.split("ltm policy").nth(1).unwrap().split("ltm profile").next().unwrap();
    let pool = |name: &str, upstream: &Upstream| {
        format!(
            "ltm pool /Api/{name} {{\n members {{\n /Api/{0} {{ address 127.0.0.1 }}\n }}\n}}\n",
            upstream.address()
        )
    };
    let text = format!(
        "{}{}ltm policy{policy}ltm virtual /Api/vs {{\n destination /Api/{http}\n policies {{ policy_api {{ }} }}\n \
         pool pool_v1\n profiles {{ /Common/http {{ }} }}\n}}\n",
        pool("pool_v1", &v1),
        pool("pool_v2", &v2),
    );
    let edge = served(&text, &[]);
    let (code, told) = verify(&edge, &format!("http://{http}"));
    assert_eq!(code, 0, "{told}");
    assert_eq!(seen(&v1), paths_to(&edge, "/Api/pool_v1"));
    assert_eq!(seen(&v2), paths_to(&edge, "/Api/pool_v2"));
    let answer =
        edge.ask("GET /x HTTP/1.1\r\nHost: api.example.com\r\nAccept: application/vnd.example.v2+json\r\n\r\n");
    assert_eq!(answer.json()["headers"]["X-Api-Version"], "2");
    assert_eq!(answer.json()["headers"]["Host"], "v2.internal.example.com");
    let status = |request: &str| edge.ask(format!("{request} HTTP/1.1\r\nHost: api.example.com\r\n\r\n")).status();
    assert_eq!((status("DELETE /x"), status("GET /soap/x"), status("GET /x")), (403, 302, 200));

    let text = format!(
        "{}ltm virtual /Api/vs_db {{\n destination /Api/{stream}\n pool pool_db\n source 127.0.0.0/8\n \
         profiles {{ /Common/fastL4 {{ }} }}\n}}\n",
        pool("pool_db", &database),
    );
    let _edge = served(&text, &[]);
    assert_eq!(Client::connect(stream).ask(get("/through", &[])).status(), 200);
    assert_eq!(seen(&database), BTreeSet::from(["/through".to_owned()]));
}

#[test]
fn profiles_of_one_virtual_server_ask_clients_for_certificates_by_name() {
    // S3
    let (staff, partners, upstream, address) =
        (Authority::new("staff"), Authority::new("partners"), echo(), free_address());
    let profile = |name: &str, asked: &str| {
        format!(
            "ltm profile client-ssl {name} {{\n cert {name}.crt\n key {name}.key\n server-name {name}.test\n {asked}\n}}\n"
        )
    };
    let text = format!(
        "ltm pool p {{ members {{ {} {{ address 127.0.0.1 }} }} }}\n{}{}{}ltm virtual v {{\n destination {address}\n pool p\n \
         profiles {{ http {{ }} staff {{ }} partner {{ }} open {{ }} }}\n}}\n",
        upstream.address(),
        profile(
            "staff",
            "sni-default true\n peer-cert-mode require\n ca-file staff-ca.crt\n crl-file staff.crl\n authenticate-depth 1"
        ),
        profile("partner", "peer-cert-mode require\n ca-file partners-ca.crt"),
        profile("open", "peer-cert-mode ignore\n ca-file staff-ca.crt\n crl-file other.crl"),
    );
    let pairs = ["staff", "partner", "open"].map(|name| (name, certs::pair(&[&format!("{name}.test"), "127.0.0.1"])));
    let mut files: Vec<(String, String)> = vec![
        ("staff-ca.crt".into(), staff.own().certificate.clone()),
        ("staff.crl".into(), staff.revoked(&[2], (-60, 86_400))),
        ("partners-ca.crt".into(), partners.own().certificate.clone()),
    ];
    for (name, pair) in pairs {
        files.extend([(format!("{name}.crt"), pair.certificate), (format!("{name}.key"), pair.key)]);
    }
    let employee = staff.client("employee", 1);
    files.extend([("me.crt".into(), employee.certificate.clone()), ("me.key".into(), employee.key.clone())]);
    let files: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.clone())).collect();
    let edge = served(&text, &files);

    let (employee, partner) = (shows(&employee), shows(&partners.client("partner", 1)));
    let former = shows(&staff.client("former", 2));
    let names = ["staff.test", "partner.test", "open.test"];
    for (who, client, expected) in [
        ("nobody", &certs::client(&["http/1.1"]), [0, 0, 200]),
        ("an employee", &employee, [200, 0, 200]),
        ("a former employee", &former, [0, 0, 200]),
        ("a partner", &partner, [0, 200, 200]),
    ] {
        let found = names.map(|name| {
            let asked = Client::tls(address, name, client.clone()).ok().and_then(|mut connection| {
                connection.try_send(format!("GET / HTTP/1.1\r\nHost: {name}\r\n\r\n")).ok()?;
                connection.try_response("GET").ok()
            });
            asked.map_or(0, |answer| answer.status())
        });
        assert_eq!(found, expected, "{who}");
    }

    // Replayed with a certificate, and without.
    let against = format!("https://{address}");
    let [certificate, key] = ["me.crt", "me.key"].map(|name| edge.path(name).to_str().unwrap().to_owned());
    let shown = ["--client-cert-file", &certificate, "--client-key-file", &key];
    let (code, told) = verify_as(&edge, &against, &shown);
    assert_eq!(code, 0, "{told}");
    let (code, told) = verify(&edge, &against);
    assert!(code == 1 && told.contains("CertificateRequired"), "{told}");
    let (code, told) = verify_as(&edge, &against, &["--client-cert-file", &certificate]);
    assert!(code == 2 && told.contains("--client-key-file"), "{told}");
    let (code, told) = verify_as(&edge, &against, &["--client-cert-file", &key, "--client-key-file", &key]);
    assert!(
        code == 2 && told.contains("me.key: found") && told.contains("expected a certificate and its key"),
        "{told}"
    );
}

#[test]
fn rules_on_certificates_tell_of_clients_that_show_one() {
    let (staff, upstream, address) = (Authority::new("staff"), echo(), free_address());
    let rule = "when CLIENTSSL_CLIENTCERT {\n if {[SSL::cert count] > 0} { set dn [X509::subject [SSL::cert 0]] }\n set ok 1\n}\n\
                when HTTP_REQUEST {\n HTTP::header remove X-DN\n HTTP::header remove X-Shown\n \
                if {[SSL::cert count] > 0} { HTTP::header insert X-Shown yes }\n \
                if {[info exists dn]} { HTTP::header insert X-DN $dn }\n \
                if {![info exists dn]} { reject }\n if {![info exists ok]} { reject }\n}\n\
                when HTTP_RESPONSE {\n foreach c [HTTP::cookie names] {\n HTTP::cookie secure $c enable\n \
                HTTP::cookie httponly $c enable\n }\n}";
    let text = format!(
        "ltm pool p {{ members {{ {} {{ address 127.0.0.1 }} }} }}\n\
         ltm profile client-ssl s {{\n cert s.crt\n key s.key\n server-name s.test\n peer-cert-mode request\n \
         ca-file ca.crt\n}}\nltm rule r {{\n{rule}\n}}\n\
         ltm virtual v {{\n destination {address}\n pool p\n profiles {{ http {{ }} s {{ }} }}\n rules {{ r }}\n}}\n",
        upstream.address()
    );
    let pair = certs::pair(&["s.test", "127.0.0.1"]);
    let files = [("s.crt", pair.certificate), ("s.key", pair.key), ("ca.crt", staff.own().certificate.clone())];
    let edge = served(&text, &files);

    let employee = shows(&staff.client("employee", 1));
    for (client, shown) in [(employee, true), (certs::client(&["http/1.1"]), false)] {
        let mut connection = Client::tls(address, "s.test", client).unwrap();
        let answer = connection.ask("GET /login HTTP/1.1\r\nHost: s.test\r\nX-DN: CN=root\r\nX-Shown: yes\r\n\r\n");
        let sent = &answer.json()["headers"];
        assert_eq!((answer.status(), sent["X-Shown"] == "yes"), (200, shown), "{sent}");
        let name = sent["X-DN"].as_str();
        assert_eq!(name.map(|name| name.contains("CN=employee")), shown.then_some(true), "{sent}");
        let cookie = answer.field("set-cookie").unwrap().to_lowercase();
        assert!(cookie.contains("; secure") && cookie.contains("; httponly"), "{cookie}");
    }
    // Who shows none comes in, which the report says of both refusals.
    let report = std::fs::read_to_string(edge.path("report.txt")).unwrap();
    let (_, refused) = report.split_once("REFUSED REQUESTS").unwrap();
    let lost: Vec<&str> = refused.lines().skip(1).take_while(|line| line.starts_with("  - ")).collect();
    assert!(
        lost.len() == 2 && lost[0].contains("client's certificate") && lost[1].contains("`info exists`"),
        "{report}"
    );
    let (code, told) = verify(&edge, &format!("https://{address}"));
    assert_eq!(code, 0, "{told}");
}

fn shows(pair: &Pair) -> Arc<ClientConfig> {
    certs::client_showing(pair, DEFAULT_VERSIONS)
}

#[test]
fn commands_say_how_it_went() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let (out, input) = (out.to_str().unwrap(), fixture("shop.conf"));
    let input = input.to_str().unwrap();
    let (code, told, error) = import(&["f5", input, "--out", out, "--report", "json"]);
    let report: Value = serde_json::from_str(&told).unwrap();
    assert!(code == 0 && report["lines"]["translated"].as_u64().unwrap() > 100, "{error}");
    assert!(error.contains("wrote") && error.contains("kong.yaml"), "{error}");
    let (code, _, error) = import(&["f5", input, "--out", out]);
    assert!(code == 1 && error.contains("--force"), "{error}");
    let (code, told, _) = import(&["f5", input, "--out", out, "--force", "--strict"]);
    assert!(code == 1 && told.contains("not translated"), "{told}");
    let (code, _, error) = import(&["f5", "/nowhere/bigip.conf", "--out", out]);
    assert!(code == 1 && error.contains("/nowhere/bigip.conf: found no readable file"), "{error}");
    let empty = dir.path().join("empty.conf");
    std::fs::write(&empty, "net vlan /Common/v {\n tag 1\n}\n").unwrap();
    let (code, told, error) = import(&["f5", empty.to_str().unwrap(), "--out", out, "--force"]);
    assert!(code == 1 && told.contains("the host's") && error.contains("no virtual server"), "{told}{error}");

    let kong = dir.path().join("kong.yaml");
    std::fs::write(&kong, "_format_version: \"3.0\"\nservices:\n- name: a\n  url: http://127.0.0.1:9\n").unwrap();
    let kong = kong.to_str().unwrap();
    let (code, told, _) = import(&["kong", kong, "--strict"]);
    assert!(code == 0 && told.contains("4 lines: 4 translated, 0 changed, 0 not translated"), "{told}");
    std::fs::write(kong, "_format_version: \"3.0\"\nplugins:\n- name: bot-detection\n").unwrap();
    let (code, told, _) = import(&["kong", kong, "--strict"]);
    assert!(code == 1 && told.contains("'bot-detection' not enabled"), "{told}");
    assert_eq!(import(&["kong", kong]).0, 0);

    let (code, _, error) = import(&["verify", kong, "--against", "http://127.0.0.1:1"]);
    assert!(code == 2 && error.contains("expected requests"), "{error}");
}
