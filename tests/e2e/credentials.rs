//! Where a token may stand in a request, that it stands there once and goes no further, and that a body which was read
//! for it goes on as it came.

use bytes::Bytes;
use edge_tests::edge::Setup;
use edge_tests::h2raw;
use edge_tests::h2upstream::{H2Upstream, Rules, answer, content};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key};
use edge_tests::wire::{Message, get};
use http::Request;
use serde_json::{Value, json};

use super::{AUDIENCE, Guarded, bearer, plus};

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

/// A route where tokens may stand in these places; the cookie's name is `t`.
fn placed(types: &[&str]) -> Guarded {
    let cookie = types.contains(&"cookie").then_some("t");
    Guarded::with(json!({"bearer_token_param_type": types, "bearer_token_cookie_name": cookie}), |setup| setup)
}

/// A POST with these field lines and a counted body.
fn post(target: &str, fields: &[&str], body: &str) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let length = body.len();
    format!("POST {target} HTTP/1.1\r\nHost: test\r\n{fields}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The same in chunks of so many bytes, with a trailer.
fn chunked(fields: &[&str], body: &str, size: usize) -> Vec<u8> {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    let mut request =
        format!("POST /c HTTP/1.1\r\nHost: test\r\n{fields}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for chunk in body.as_bytes().chunks(size) {
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend(chunk);
        request.extend(b"\r\n");
    }
    request.extend(b"0\r\nX-Sum: 9\r\n\r\n");
    request
}

fn occurrences(message: &Message, token: &str) -> usize {
    String::from_utf8_lossy(&message.raw).matches(token).count()
}

#[test]
fn each_place_is_searched_where_it_is_configured_and_left_without_the_token() {
    // T39, T42, T43
    let all = placed(&["header", "query", "body", "cookie"]);
    let default = Guarded::start();
    type Row = (&'static str, fn(&str) -> Vec<u8>, &'static str, &'static str);
    let rows: [Row; 9] = [
        ("header", |token| get("/o?a=1", &[&format!("Authorization: Bearer {token}")]), "/o?a=1", ""),
        ("access-token", |token| get("/o", &[&format!("access-token: {token}")]), "/o", ""),
        ("x-access-token", |token| get("/o", &[&format!("X-Access-Token: Bearer {token}")]), "/o", ""),
        ("query", |token| get(&format!("/o?a=%31&access_token={token}&b"), &[]), "/o?a=%31&b", ""),
        ("query alone", |token| get(&format!("/o?%61ccess_token={token}"), &[]), "/o", ""),
        (
            "form",
            |token| post("/o", &[&format!("Content-Type: {FORM}")], &format!("a=%31&access_token={token}&b=+")),
            "/o",
            "a=%31&b=+",
        ),
        (
            "chunked form",
            |token| chunked(&[&format!("Content-Type: {FORM}")], &format!("access_token={token}&a=1"), 7),
            "/c",
            "a=1",
        ),
        (
            "json",
            |token| {
                let body = r#"{ "a":1.0, "access_token":"TOKEN", "b":[ ]}"#.replace("TOKEN", token);
                post("/o", &[&format!("Content-Type: {JSON}")], &body)
            },
            "/o",
            r#"{ "a":1.0, "b":[ ]}"#,
        ),
        ("cookie", |token| get("/o", &[&format!("Cookie: a=1; t={token}; b=2")]), "/o", ""),
    ];
    for (name, with, target, body) in rows {
        let token = all.token();
        let answer = all.edge.ask(with(&token));
        assert_eq!(answer.status(), 200, "{name}: {}", answer.text());
        let seen = all.upstream.last();
        assert_eq!((seen.target(), seen.text().as_str()), (target, body), "{name}");
        assert_eq!(seen.field("authorization"), Some(format!("Bearer {token}").as_str()), "{name}");
        assert_eq!(occurrences(&seen, &token), 1, "{name}: what the edge sends, and nothing of the client's");
        assert_eq!(seen.field("cookie"), (name == "cookie").then_some("a=1; b=2"), "{name}");
        // The default is one place alone.
        let answer = default.edge.ask(with(&default.token()));
        assert_eq!(answer.status(), if name == "header" { 200 } else { 401 }, "{name}");
        if name != "header" {
            assert_eq!(default.edge.reason_of(&answer), "header_missing", "{name}");
        }
    }
    assert_eq!(default.upstream.requests().len(), 1);
    assert_eq!((all.upstream.faults(), default.upstream.faults()), (vec![], vec![]));
}

#[test]
fn a_header_of_its_own_is_the_only_one() {
    // T42
    let named = Guarded::with(json!({"bearer_token_header_name": "X-Token"}), |setup| setup);
    let token = named.token();
    for (line, status) in [
        (format!("X-Token: {token}"), 200),
        (format!("x-token: bearer {token}"), 200),
        (format!("Authorization: Bearer {token}"), 401),
        (format!("X-Tokens: {token}"), 401),
    ] {
        assert_eq!(named.edge.ask(get("/o", &[&line])).status(), status, "{line}");
    }
    for seen in named.upstream.requests() {
        assert_eq!((seen.field("x-token"), occurrences(&seen, &token)), (None, 1));
    }
}

#[test]
fn a_token_in_two_places_is_refused() {
    // T38
    let all = placed(&["header", "query", "body", "cookie"]);
    let headers = placed(&["header"]);
    let token = all.token();
    let (header, form) = (format!("Authorization: Bearer {token}"), format!("Content-Type: {FORM}"));
    let argument = format!("access_token={token}");
    for (name, request) in [
        ("query", get(&format!("/o?{argument}"), &[&header])),
        ("query twice", get(&format!("/o?{argument}&{argument}"), &[])),
        ("form", post("/o", &[&header, &form], &argument)),
        ("chunked form", chunked(&[&header, &form], &argument, 3)),
        ("json", post("/o", &[&header, &format!("Content-Type: {JSON}")], &json!({"access_token": token}).to_string())),
        ("cookie", get("/o", &[&header, &format!("Cookie: t={token}")])),
        ("another field", get("/o", &[&header, &format!("access-token: {token}")])),
        ("query and form", post(&format!("/o?{argument}"), &[&form], &argument)),
    ] {
        let answer = all.edge.ask(request);
        assert_eq!(answer.status(), 400, "{name}");
        let challenge = answer.field("www-authenticate").unwrap();
        assert!(challenge.contains("error=\"invalid_request\""), "{name}: {challenge}");
        assert_eq!(all.edge.reason_of(&answer), "token_in_query", "{name}");
    }
    assert!(all.upstream.requests().is_empty());
    // A body counts where bodies are searched, a query always.
    let header = format!("Authorization: Bearer {}", headers.token());
    assert_eq!(headers.edge.ask(post("/o", &[&header, &form], &argument)).status(), 200);
    assert_eq!(headers.upstream.last().text(), argument);
    assert_eq!(headers.edge.ask(get(&format!("/o?{argument}"), &[&header])).status(), 400);
}

#[test]
fn what_the_upstream_sees_follows_the_settings() {
    // T43
    for (config, bearer, in_query) in [
        (json!({}), true, false),
        (json!({"hide_credentials": false}), true, true),
        (json!({"upstream_access_token_header": null}), false, false),
        (json!({"upstream_access_token_header": null, "hide_credentials": false}), false, true),
    ] {
        let door =
            Guarded::with(plus(json!({"bearer_token_param_type": ["query", "body"]}), config.clone()), |setup| setup);
        let token = door.token();
        assert_eq!(door.edge.ask(get(&format!("/o?access_token={token}"), &[])).status(), 200);
        let seen = door.upstream.last();
        assert_eq!(
            (seen.field("authorization").is_some(), seen.target().contains(&token)),
            (bearer, in_query),
            "{config}"
        );
        let form = post("/o", &[&format!("Content-Type: {FORM}")], &format!("access_token={token}"));
        assert_eq!(door.edge.ask(form).status(), 200);
        let seen = door.upstream.last();
        assert_eq!(
            (seen.field("authorization").is_some(), seen.text().contains(&token)),
            (bearer, in_query),
            "{config}"
        );
    }
}

/// Bodies that look like what they are not, below and above the 64 KiB in which a token is looked for.
fn bodies() -> Vec<String> {
    let smuggled = "GET /smuggled HTTP/1.1\r\nHost: test\r\n\r\n";
    vec![String::new(), "a=1".into(), smuggled.into(), "x".repeat(65_536), "y".repeat(65_537), smuggled.repeat(8_000)]
}

#[test]
fn a_body_that_was_read_goes_on_byte_for_byte() {
    // H13, H17
    for (buffering, bytes) in [(true, 1 << 20), (false, 1 << 20), (true, 4096), (false, 4096)] {
        let (upstream, key) = (edge_tests::upstream::Upstream::start(), Key::es256("es-1"));
        let issuer = Issuer::start(&[&key]);
        let config = plus(bearer(&issuer.url()), json!({"bearer_token_param_type": ["header", "body"]}));
        let plugins = json!([{"name": "openid-connect", "config": config}]);
        let route = json!({"name": "all", "paths": ["/"], "strip_path": false, "request_buffering": buffering,
            "plugins": plugins});
        let limits = format!("[limits]\nbuffer_bytes = {bytes}");
        let edge = Setup::new(super::entities(&upstream.url(), json!([route]))).section(&limits).start();
        let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
        let (header, form) = (format!("Authorization: Bearer {token}"), format!("Content-Type: {FORM}"));
        let mut client = edge.connect();
        for body in bodies() {
            for request in [
                post("/c", &[&header, &form], &body),
                chunked(&[&header, &form], &body, 5000),
                chunked(&[&header], &body, 100_000),
            ] {
                let is_chunked = String::from_utf8_lossy(&request).contains("chunked");
                // The next requests stand right behind it, each judged on its own.
                client.send([request, get("/next", &[]), get("/good", &[&header])].concat());
                let statuses = [client.response(), client.response(), client.response()].map(|answer| answer.status());
                assert_eq!(statuses, [200, 401, 200], "{} bytes", body.len());
                let [seen, good] = &upstream.take()[..] else { panic!("two requests have tokens") };
                assert!(seen.body == body.as_bytes(), "{} of {} bytes", seen.body.len(), body.len());
                assert_eq!((seen.target(), good.target()), ("/c", "/good"));
                let trailers: &[(String, String)] = if is_chunked { &[("X-Sum".into(), "9".into())] } else { &[] };
                assert_eq!(seen.trailers, trailers);
                assert_eq!(seen.field("content-length").is_some(), !is_chunked);
            }
        }
        assert_eq!(upstream.faults(), [""; 0]);
    }
}

#[test]
fn a_body_beyond_the_bound_bears_no_token() {
    let door = placed(&["header", "body"]);
    let (token, form) = (door.token(), format!("Content-Type: {FORM}"));
    let fill = |length: usize| {
        let argument = format!("&access_token={token}");
        "x".repeat(length - argument.len()) + &argument
    };
    for (request, status) in [
        (post("/o", &[&form], &fill(65_536)), 200),
        (post("/o", &[&form], &fill(65_537)), 401),
        (chunked(&[&form], &fill(65_536), 1000), 200),
        (chunked(&[&form], &fill(65_537), 1000), 401),
    ] {
        let answer = door.edge.ask(request);
        assert_eq!(answer.status(), status);
    }
    assert_eq!(door.upstream.requests().len(), 2);
}

#[test]
fn continue_is_sent_before_a_body_is_read_for_its_token() {
    // H16
    let door = placed(&["header", "body"]);
    let (token, form) = (door.token(), format!("Content-Type: {FORM}"));
    let body = format!("access_token={token}&a=1");
    let request = String::from_utf8(post("/o", &[&form, "Expect: 100-continue"], &body)).unwrap();
    let (head, body) = request.split_at(request.len() - body.len());
    let mut client = door.edge.connect();
    client.send(head);
    assert_eq!(client.response().status(), 100);
    client.send(body);
    assert_eq!(client.response().status(), 200);
    assert_eq!(door.upstream.last().text(), "a=1");
    // Where no body is searched, credentials come first.
    let plain = Guarded::start();
    let mut client = plain.edge.connect();
    client.send(head);
    assert_eq!(client.response().status(), 401);
}

#[test]
fn a_refused_body_is_never_the_next_request() {
    // H13
    let door = placed(&["body"]);
    let (token, form) = (door.token(), format!("Content-Type: {FORM}"));
    let good = post("/good", &[&form], &format!("access_token={token}"));
    let mut client = door.edge.connect();
    for bad in ["a=1", "access_token=a.b.c", "access_token=", "GET /smuggled HTTP/1.1\r\n\r\n"] {
        client.send([post("/bad", &[&form], bad), good.clone()].concat());
        assert_eq!((client.response().status(), client.response().status()), (401, 200), "{bad}");
    }
    // A body that violates its framing is no body, whatever stands in it.
    let mut client = door.edge.connect();
    let broken = format!("access_token={token}");
    client.send(format!(
        "POST /bad HTTP/1.1\r\nHost: test\r\n{form}\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n{broken}\r\nxyz\r\n",
        broken.len()
    ));
    let answer = client.response();
    assert_eq!((answer.status(), answer.says_close()), (400, true));
    let targets: Vec<String> = door.upstream.requests().iter().map(|seen| seen.target().to_owned()).collect();
    assert_eq!(targets, ["/good"; 4]);
}

#[test]
fn bodies_pass_between_the_versions_after_they_were_read() {
    let key = Key::es256("es-1");
    let issuer = Issuer::start(&[&key]);
    let token = key.token(&mint::claims(&issuer.url(), AUDIENCE));
    let config = plus(bearer(&issuer.url()), json!({"bearer_token_param_type": ["header", "body"]}));
    let entities = |url: String| -> String {
        let mut entities: Value = serde_json::from_str(&super::guarded(&url, config.clone())).unwrap();
        entities["services"][0]["url"] = url.into();
        entities.to_string()
    };
    // What the upstream has got comes back, in either version.
    let old = edge_tests::upstream::Upstream::with(|request| {
        let length = request.field("content-length").unwrap_or("-");
        let sum = request.trailers.iter().map(|(_, value)| value.as_str()).collect::<String>();
        let authorized = request.field("authorization").is_some();
        edge_tests::upstream::Reply::ok(&format!("{length} {sum} {authorized} {}", request.text()))
    });
    let new = H2Upstream::start(Rules::default(), |_, request, respond| async move {
        let field =
            |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned();
        let (length, authorized) = (field("content-length"), request.headers().contains_key("authorization"));
        let (data, trailers) = content(request.into_body()).await;
        let sum =
            trailers.and_then(|trailers| Some(trailers.get("x-sum")?.to_str().ok()?.to_owned())).unwrap_or_default();
        let seen = format!("{length} {sum} {authorized} {}", String::from_utf8_lossy(&data));
        answer(respond, seen.as_bytes(), &[]).await;
    });
    let large = "z".repeat(200_000);
    for url in [old.url(), format!("grpc://{}", new.address())] {
        let edge = Setup::new(entities(url.clone())).clear().start();
        let (header, form) = (format!("Authorization: Bearer {token}"), format!("Content-Type: {FORM}"));
        let argument = format!("access_token={token}&a=1");
        for (request, expected) in [
            (post("/", &[&form], &argument), "3  true a=1".to_owned()),
            (post("/", &[&header, &form], "b=2"), "3  true b=2".to_owned()),
            (post("/", &[&header, &form], &large), format!("200000  true {large}")),
            // A body that was changed has a length, and no trailers.
            (chunked(&[&form], &argument, 9), "3  true a=1".to_owned()),
            (chunked(&[&header, &form], "b=2", 1), "- 9 true b=2".to_owned()),
            (chunked(&[&header, &form], &large, 9000), format!("- 9 true {large}")),
        ] {
            let answer = edge.ask(request);
            assert_eq!(answer.status(), 200, "{url}: {}", answer.text());
            assert!(answer.text() == expected, "{url}: {:.80} for {expected:.80}", answer.text());
        }
        h2raw::block_on(async {
            let sender = h2raw::connect(edge.listener(0)).await;
            for (fields, body, trailer, expected) in [
                (vec![], argument.as_str(), false, "3  true a=1".to_owned()),
                (vec![], &argument, true, "3  true a=1".to_owned()),
                (vec![("authorization", format!("Bearer {token}"))], "b=2", false, "-  true b=2".to_owned()),
                (vec![("authorization", format!("Bearer {token}"))], "b=2", true, "- 9 true b=2".to_owned()),
                (vec![("authorization", format!("Bearer {token}"))], &large, true, format!("- 9 true {large}")),
            ] {
                let mut request =
                    Request::builder().method("POST").uri("http://api.test/").header("content-type", FORM);
                for (name, value) in fields {
                    request = request.header(name, value);
                }
                let mut sender = sender.clone().ready().await.unwrap();
                let (response, mut stream) = sender.send_request(request.body(()).unwrap(), false).unwrap();
                let upload = async {
                    let mut rest = Bytes::copy_from_slice(body.as_bytes());
                    while !rest.is_empty() {
                        stream.reserve_capacity(rest.len());
                        let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                        stream.send_data(rest.split_to(capacity), false).unwrap();
                    }
                    match trailer {
                        true => {
                            let trailers = [(http::HeaderName::from_static("x-sum"), "9".parse().unwrap())];
                            stream.send_trailers(trailers.into_iter().collect()).unwrap();
                        }
                        false => stream.send_data(Bytes::new(), true).unwrap(),
                    }
                };
                let (answer, ()) = tokio::join!(h2raw::read(response), upload);
                let answer = answer.unwrap();
                assert_eq!(answer.status, 200, "{url}: {}", answer.text());
                assert!(answer.text() == expected, "{url}: {:.80} for {expected:.80}", answer.text());
            }
        });
    }
    assert_eq!(old.faults(), [""; 0]);
}
