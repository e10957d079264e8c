//! Header rules: what is dropped, replaced, added, and never taken from a client (security properties, 11).

use edge_tests::edge::Setup;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::{Guarded, entities, open, with_token};

#[test]
fn hop_by_hop_fields_end_here() {
    // P2
    let upstream = Upstream::with(|_| {
        Reply::new(
            "200 OK",
            "Connection: X-Up\r\nX-Up: 1\r\nKeep-Alive: timeout=9\r\nProxy-Connection: close\r\nX-Stay: 1\r\n",
            "ok",
        )
    });
    let edge = Setup::new(open(&upstream.url())).start();
    let answer = edge.ask(get(
        "/",
        &[
            "Connection: keep-alive, X-Drop, x-other",
            "X-Drop: 1",
            "X-Other: 2",
            "Keep-Alive: timeout=5",
            "Proxy-Connection: keep-alive",
            "Proxy-Authorization: Basic eDp5",
            "TE: gzip",
            "X-Stay: 1",
        ],
    ));
    let request = upstream.last();
    for name in ["x-drop", "x-other", "keep-alive", "proxy-connection", "proxy-authorization"] {
        assert_eq!(request.field(name), None, "{name}");
    }
    assert_eq!(request.field("x-stay"), Some("1"));
    assert!(request.field("te").is_none_or(|te| te == "trailers"), "{:?}", request.field("te"));
    for name in ["x-up", "keep-alive", "proxy-connection"] {
        assert_eq!(answer.field(name), None, "{name}");
    }
    assert_eq!(answer.field("x-stay"), Some("1"));
}

#[test]
fn connection_cannot_name_what_the_edge_relies_on() {
    // P2: the field stays, or the request is refused; it never passes without it.
    let good = Guarded::start();
    let token = good.token();
    for named in [
        "Authorization",
        "authorization, close",
        "Host",
        "Content-Length",
        "Transfer-Encoding",
        "X-Forwarded-For",
        "X-Real-IP",
        "Via",
    ] {
        let mut client = good.edge.connect();
        let answer = client.ask(format!(
            "POST /orders HTTP/1.1\r\nHost: t\r\nConnection: {named}\r\nAuthorization: Bearer {token}\r\nContent-Length: 2\r\n\r\nhi"
        ));
        if answer.status() == 400 {
            continue;
        }
        assert_eq!(answer.status(), 200, "{named}");
        let request = good.upstream.last();
        assert_eq!(request.text(), "hi", "{named}");
        for name in ["host", "authorization", "x-forwarded-for", "x-real-ip", "via"] {
            assert!(request.field(name).is_some(), "Connection: {named} removed {name}");
        }
    }
}

#[test]
fn no_client_speaks_with_the_edges_voice() {
    // P1, S4: also on routes without authentication, in any case, with `_` or `.` for `-`, and repeated.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let forged = [
        "X-Consumer-ID: 1",
        "x-consumer-id: 2",
        "X-CONSUMER-USERNAME: admin",
        "X_Consumer_Username: admin",
        "X.Consumer.Username: admin",
        "X-Consumer_Custom-ID: 1",
        "X-Consumer-Groups: root",
        "X-Credential-Identifier: 1",
        "X-Credential_Username: 1",
        "X-Authenticated-Userid: 1",
        "X-Authenticated-Groups: root",
        "X-Authenticated-Scope: all",
        "X-Anonymous-Consumer: false",
        "X-Userinfo: e30=",
        "X_USERINFO: e30=",
        "X-Client-Id: app",
        "X-Client-Cert: MII",
        "X-Forwarded-Client-Cert: Hash=1",
        "Client-Cert: :MII:",
    ];
    let mut fields = forged.to_vec();
    fields.push("X-Consumer-Stay: 1");
    fields.push("X-Other: 1");
    assert_eq!(edge.ask(get("/", &fields)).status(), 200);
    let request = upstream.last();
    let folded = |name: &str| name.to_ascii_lowercase().replace(['_', '.'], "-");
    for line in forged {
        let name = folded(line.split(':').next().unwrap());
        let left: Vec<_> = request.fields.iter().filter(|(field, _)| folded(field) == name).collect();
        assert!(left.is_empty(), "{left:?} reached the upstream");
    }
    assert_eq!(request.field("x-other"), Some("1"));
}

#[test]
fn forwarding_fields_of_strangers_are_replaced() {
    // P3
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let forged = [
        "X-Forwarded-For: 9.9.9.9",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil.test",
        "X-Forwarded-Port: 1",
        "X-Forwarded-Path: /evil",
        "X-Forwarded-Prefix: /evil",
        "X-Real-IP: 9.9.9.9",
        "Forwarded: for=9.9.9.9",
    ];
    let answer =
        edge.ask(format!("GET /a/b?q=1 HTTP/1.1\r\nHost: api.test:1234\r\n{}\r\n\r\n", forged.join("\r\n")).as_bytes());
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(request.field("x-real-ip"), Some("127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto"), Some("http"));
    assert_eq!(request.field("x-forwarded-host"), Some("api.test"));
    assert_eq!(request.field("x-forwarded-port"), Some(edge.address().port().to_string().as_str()));
    assert_eq!(request.field("x-forwarded-path"), Some("/a/b"));
    assert!(request.field("forwarded").is_none_or(|value| !value.contains("9.9.9.9")));
    assert!(!String::from_utf8_lossy(&request.raw).contains("evil"));
}

#[test]
fn forwarding_fields_of_trusted_peers_are_kept() {
    // P3: the client's address comes from trusted hops only.
    let upstream = Upstream::start();
    let trusted = "[proxy]\ntrusted_ips = [\"127.0.0.0/8\", \"10.0.0.0/8\"]\n";
    let section = format!("{trusted}real_ip_header = \"X-Forwarded-For\"\nreal_ip_recursive = true");
    let edge = Setup::new(open(&upstream.url())).section(&section).start();
    let answer = edge.ask(get(
        "/",
        &[
            "X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.0.0.5",
            "X-Forwarded-Proto: https",
            "X-Forwarded-Host: shop.test",
            "X-Forwarded-Port: 443",
        ],
    ));
    assert_eq!(answer.status(), 200);
    let request = upstream.last();
    assert_eq!(request.field("x-forwarded-for"), Some("1.1.1.1, 203.0.113.7, 10.0.0.5, 127.0.0.1"));
    assert_eq!(request.field("x-forwarded-proto"), Some("https"));
    assert_eq!(request.field("x-forwarded-host"), Some("shop.test"));
    assert_eq!(request.field("x-forwarded-port"), Some("443"));
    assert_eq!(request.field("x-real-ip"), Some("203.0.113.7"));
    let line = edge.access(|line| line["status"] == 200);
    assert!(line["client"].to_string().contains("203.0.113.7"), "{line}");
}

#[test]
fn the_edge_says_what_it_did() {
    let upstream = Upstream::with(|_| Reply::new("200 OK", "Via: 1.0 before\r\nServer: service/1\r\n", "ok"));
    let edge = Setup::new(open(&upstream.url())).start();
    let answer = edge.ask(get("/", &["Via: 1.1 client-side", "X-Kong-Request-Id: forged"]));
    let request = upstream.last();
    let id = answer.field("x-kong-request-id").expect("a request id").to_owned();
    assert_eq!(id.len(), 32);
    assert!(id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(request.all("x-kong-request-id"), [id.as_str()], "one id for client, log and upstream");
    let via = request.all("via").join(", ");
    assert!(via.starts_with("1.1 client-side,") && via.len() > 16, "{via}");
    let via = answer.all("via").join(", ");
    assert!(via.starts_with("1.0 before,"), "{via}");
    assert_eq!(answer.field("server"), Some("service/1"));
    for name in ["x-kong-upstream-latency", "x-kong-proxy-latency"] {
        assert!(
            answer.field(name).is_some_and(|value| value.parse::<u64>().is_ok()),
            "{name}: {:?}",
            answer.field(name)
        );
    }
    let own = edge_tests::wire::get("/", &[]);
    let closed = Setup::new(entities(&upstream.url(), json!([{"name": "a", "hosts": ["a.test"]}]))).start();
    let answer = closed.ask(own);
    assert_eq!(answer.status(), 404);
    assert!(answer.field("x-kong-response-latency").is_some());
    assert!(answer.field("x-kong-request-id").is_some());
    // P7: no version of the edge unless asked for.
    assert!(!answer.all("server").concat().contains(env!("CARGO_PKG_VERSION")), "{:?}", answer.field("server"));
}

#[test]
fn credentials_are_hidden_and_given_as_configured() {
    // T43
    let good = Guarded::start();
    let token = good.token();
    assert_eq!(good.edge.ask(with_token(&token)).status(), 200);
    assert_eq!(good.upstream.last().field("authorization"), Some(format!("Bearer {token}").as_str()));

    let none = Guarded::with(json!({"hide_credentials": true, "upstream_access_token_header": null}), |setup| setup);
    let token = none.token();
    assert_eq!(none.edge.ask(with_token(&token)).status(), 200);
    let raw = String::from_utf8_lossy(&none.upstream.last().raw).into_owned();
    assert!(!raw.contains(&token), "{raw}");
}

#[test]
fn the_method_is_the_request_lines() {
    // P6
    let upstream = Upstream::start();
    let edge =
        Setup::new(entities(&upstream.url(), json!([{"name": "read", "paths": ["/"], "methods": ["GET"]}]))).start();
    let overriding = ["X-HTTP-Method-Override: GET", "X-HTTP-Method: GET", "X-Method-Override: GET"].join("\r\n");
    let answer = edge.ask(format!("DELETE / HTTP/1.1\r\nHost: t\r\n{overriding}\r\n\r\n"));
    assert_eq!(answer.status(), 404);
    assert_eq!(edge.ask(get("/", &["X-HTTP-Method-Override: DELETE"])).status(), 200);
    assert_eq!(upstream.last().method(), "GET");
}

#[test]
fn names_are_found_in_any_case() {
    // S0.10: a load balancer may have changed the spelling.
    let good = Guarded::start();
    let token = good.token();
    for name in ["authorization", "AUTHORIZATION", "aUTHORIZATION"] {
        let mut client = Client::connect(good.edge.address());
        let answer = client.ask(format!("GET / HTTP/1.1\r\nhOST: t\r\n{name}: Bearer {token}\r\n\r\n"));
        assert_eq!(answer.status(), 200, "{name}");
    }
}
