//! The upstream OAuth tutorial with Kong Identity, from the plugin on: the edge's embedded issuer stands for the hosted
//! one, httpbin for `httpbin.konghq.com`. What the page sends to Konnect stands in `edge.toml` and the declarative file.

use edge_tests::edge::{Edge, Setup, free_address};
use edge_tests::issuer::{Issuer, error};
use edge_tests::mint;
use edge_tests::parties::Httpbin;
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::{Ran, Shell};

const CLIENT: (&str, &str) = ("11c1d0c4-client", "client-secret-of-the-page-0123456789");

/// S4.9: the body that the page posts to `…/core-entities/plugins/`, its variables filled in.
fn plugin(issuer: &str) -> Value {
    let (id, secret) = CLIENT;
    json!({
        "name": "upstream-oauth",
        "config": {
            "oauth": {
                "token_endpoint": format!("{issuer}/oauth/token"),
                "grant_type": "client_credentials",
                "client_id": id,
                "client_secret": secret,
                "scopes": ["Scope"],
            },
            "behavior": {"upstream_access_token_header_name": "Authorization"},
        },
    })
}

/// S4.2 with the plugin: the service's URL has a path, and its route is a top-level entity.
fn entities(upstream: &str, plugin: &Value) -> String {
    json!({"_format_version": "3.0",
        "services": [{"name": "example-service", "url": format!("{upstream}/anything")}],
        "routes": [{"name": "example-route", "paths": ["/anything"], "service": {"name": "example-service"}}],
        "plugins": [plugin]})
    .to_string()
}

/// The page's edge in front of an upstream, with its auth server, scope and client (S4.3 to S4.7); and the issuer's URL.
fn edge(upstream: &str) -> (Edge, String) {
    let address = free_address();
    let (id, secret) = CLIENT;
    let issuer = format!("http://{address}/appointments-dev/auth");
    let section = format!(
        "[identity]\naddress = \"{address}\"\n[[identity.servers]]\nname = \"appointments-dev\"\n\
         audience = \"http://myhttpbin.dev\"\n[[identity.servers.scopes]]\nname = \"my-scope\"\n\
         [[identity.servers.clients]]\nid = \"{id}\"\nsecret = \"{secret}\"\nscopes = [\"my-scope\"]\n\
         access_token_duration = 3600\nname = \"Client\"\n\
         [[identity.servers.claims]]\nname = \"test-claim\"\nvalue = \"test\"\ninclude_in_scopes = [\"my-scope\"]\n\
         [[identity.servers.claims]]\nname = \"id\"\nvalue = \"${{ uuidv4 }}\"\ninclude_in_all_scopes = true\n\
         [[identity.servers.claims]]\nname = \"made\"\ninclude_in_all_scopes = true\n\
         value = '${{ now | date \"2006-01-02T15:04:05Z07:00\" }}'\n\
         [[identity.servers.claims]]\nname = \"whose\"\ninclude_in_all_scopes = true\n\
         value = '${{ .AuthServer.Audience }}-${{ .Client.ID }} ${{ upper .Client.Name }} \
         ${{ .Client.Labels.environment | default \"production\" }}'\n"
    );
    let edge = Setup::new(entities(upstream, &plugin(&issuer))).section(&section).start();
    (edge, issuer)
}

/// Runs a command of the page.
fn run(edge: &Edge, issuer: &str, text: &str, access_token: &str) -> Ran {
    let proxy = format!("http://{}", edge.address());
    let (id, secret) = CLIENT;
    let variables = [
        ("KONNECT_PROXY_URL", proxy.as_str()),
        ("ISSUER_URL", issuer),
        ("CLIENT_ID", id),
        ("CLIENT_SECRET", secret),
        ("ACCESS_TOKEN", access_token),
    ];
    Shell::new(&[]).run(text, &variables)
}

/// S4.10
const TOKEN: &str = r#"curl -X POST "$ISSUER_URL/oauth/token" \
  -H "Content-Type: application/x-www-form-urlencoded" \
  -d "grant_type=client_credentials" \
  -d "client_id=$CLIENT_ID" \
  -d "client_secret=$CLIENT_SECRET" \
  -d "scope=my-scope""#;
/// S4.11
const ASK: &str = r#"curl -i -X GET "$KONNECT_PROXY_URL/anything" --no-progress-meter --fail-with-body -H "Authorization: Bearer $ACCESS_TOKEN""#;

/// The token httpbin was sent, by what it says.
fn echoed(ran: &Ran) -> String {
    let seen: Value = serde_json::from_str(ran.body()).unwrap_or_else(|e| panic!("{e}: {}", ran.out));
    let value = seen["headers"]["Authorization"].as_str().expect("a token").to_owned();
    value.strip_prefix("Bearer ").unwrap_or_else(|| panic!("{value}")).to_owned()
}

#[test]
fn s4_9_to_s4_11() {
    let httpbin = Httpbin::start();
    let (edge, issuer) = edge(&httpbin.url());
    let answer: Value = serde_json::from_str(&run(&edge, &issuer, TOKEN, "").out).expect("JSON");
    assert_eq!(
        (&answer["token_type"], &answer["expires_in"], &answer["scope"]),
        (&json!("Bearer"), &json!(3600), &json!("my-scope"))
    );
    let access_token = answer["access_token"].as_str().expect("a token");
    let claims = mint::open(access_token).1;
    assert_eq!((&claims["aud"], &claims["iss"]), (&json!("http://myhttpbin.dev"), &json!(issuer)));

    let ran = run(&edge, &issuer, ASK, access_token);
    assert_eq!((ran.status(), ran.code), (200, 0), "{}\n{}", ran.out, edge.output());
    let sent = echoed(&ran);
    assert_ne!(sent, access_token, "the caller's own is overwritten");
    let claims = mint::open(&sent).1;
    // S4.12: a scope that the hosted issuer does not know is left out of the token.
    assert_eq!((&claims["iss"], &claims["client_id"]), (&json!(issuer), &json!(CLIENT.0)));
    assert_eq!(claims.get("scope"), None, "S4.12");
    let output = edge.output();
    assert!(![access_token, &sent, CLIENT.1].iter().any(|secret| output.contains(*secret)), "L1");
}

#[test]
fn s4_12() {
    // An issuer that refuses a scope it does not know: the tutorial fails with the documented answer.
    let (upstream, issuer) = (Upstream::start(), Issuer::start(&[]));
    issuer.answer("/oauth/token", |_| error("invalid_scope", "Scope is unknown"));
    let edge = Setup::new(entities(&upstream.url(), &plugin(&issuer.url()))).start();
    let ran = run(&edge, &issuer.url(), ASK, "of-the-caller");
    assert_eq!(
        (ran.status(), ran.field("content-type")),
        (502, Some("application/json; charset=utf-8")),
        "{}",
        ran.out
    );
    assert_eq!(ran.body(), r#"{ "code": "502", "message": "Failed to authenticate request to upstream" }"#);
    assert_eq!(ran.code, 22, "--fail-with-body");
    assert!(upstream.requests().is_empty());
    edge.logged("error=\"invalid_scope\"");
}

#[test]
fn s4_13() {
    // Without a token of the caller's: the plugin does not ask for one.
    let httpbin = Httpbin::start();
    let (edge, issuer) = edge(&httpbin.url());
    let ran =
        run(&edge, &issuer, r#"curl -i -X GET "$KONNECT_PROXY_URL/anything" --no-progress-meter --fail-with-body"#, "");
    assert_eq!((ran.status(), ran.code), (200, 0), "{}", ran.out);
    assert_eq!(mint::open(&echoed(&ran)).1["client_id"], CLIENT.0);
}

#[test]
fn s4_14() {
    // Plain http: a route that says nothing of protocols takes it, with no 426.
    let upstream = Upstream::start();
    let (edge, _) = edge(&upstream.url());
    let answer = edge.ask(get("/anything", &[]));
    assert_eq!((answer.status(), answer.field("upgrade")), (200, None));
    assert_eq!(upstream.last().target(), "/anything");
}

#[test]
fn s4_15() {
    // The secret is told to nobody: no part of the issuer shows a client, and no log or command its secret.
    let upstream = Upstream::start();
    let (edge, issuer) = edge(&upstream.url());
    let (authority, _) = issuer.strip_prefix("http://").and_then(|rest| rest.split_once('/')).expect("a URL");
    let address: std::net::SocketAddr = authority.parse().expect("an address");
    for (path, status) in [
        ("/appointments-dev/auth/.well-known/openid-configuration".to_owned(), 200),
        ("/appointments-dev/auth/.well-known/jwks".to_owned(), 200),
        (format!("/v1/auth-servers/appointments-dev/clients/{}", CLIENT.0), 404),
        (format!("/appointments-dev/auth/clients/{}", CLIENT.0), 404),
    ] {
        let answer = Client::connect(address).ask(get(&path, &[]));
        assert_eq!(answer.status(), status, "{path}");
        assert!(!answer.text().contains(CLIENT.1), "{path}");
    }
    let said = edge.command(&["check"]);
    assert!(said.status.success());
    let said = [said.stdout, said.stderr].concat();
    assert!(!String::from_utf8_lossy(&said).contains(CLIENT.1) && !edge.output().contains(CLIENT.1));
}

#[test]
fn s4_16() {
    // S4.6: the claim is in tokens with its scope alone. Claims that are made anew for each token, as the guide has them.
    let upstream = Upstream::start();
    let (edge, issuer) = edge(&upstream.url());
    let claims = |text: &str| {
        let answer: Value = serde_json::from_str(&run(&edge, &issuer, text, "").out).expect("JSON");
        mint::open(answer["access_token"].as_str().expect("a token")).1
    };
    let (one, other) = (claims(TOKEN), claims(&TOKEN.replace("scope=my-scope", "scope=unknown")));
    assert_eq!((&one["test-claim"], other.get("test-claim")), (&json!("test"), None), "S4.6");
    assert_eq!(one["whose"], format!("http://myhttpbin.dev-{} CLIENT production", CLIENT.0));
    for claims in [&one, &other] {
        let id = claims["id"].as_str().expect("an id");
        assert_eq!((id.len(), id.as_bytes()[14]), (36, b'4'), "{id}");
        let made = claims["made"].as_str().expect("a time");
        assert!(made.len() == 20 && made.starts_with("20") && made.ends_with('Z'), "{made}");
    }
    assert_ne!(one["id"], other["id"]);
}

#[test]
fn s4_17() {
    // Two requests, one token; the upstream's 401 has the next one fetched.
    let upstream = Upstream::with(|request| match request.target().contains("refused") {
        true => Reply::new("401 Unauthorized", "", ""),
        false => Reply::ok("ok"),
    });
    let (edge, _) = edge(&upstream.url());
    let sample = "edge_idp_calls_total{issuer=\"127.0.0.1\",endpoint=\"upstream_token\",result=\"answered\"}";
    let ask = |target: &str| (edge.ask(get(target, &[])).status(), edge.metric(sample));
    assert_eq!((ask("/anything"), ask("/anything")), ((200, 1.0), (200, 1.0)));
    // With a fresh one at once, where the request may be repeated: that is beyond Kong.
    assert_eq!(ask("/anything/refused"), (401, 2.0));
    assert_eq!(ask("/anything"), (200, 2.0));
    let post = "POST /anything/refused HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(edge.ask(post).status(), 401);
    assert_eq!(ask("/anything"), (200, 3.0));
}
