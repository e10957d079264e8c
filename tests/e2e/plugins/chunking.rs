//! How bodies are framed on their way on (`chunking` of http-profile), judged on the bytes of both sides.

use std::time::Duration;

use edge_tests::edge::{Edge, Setup};
use edge_tests::h2raw;
use edge_tests::h2upstream::{self, H2Upstream, Notes, Rules, content};
use edge_tests::upstream::{Reply, Upstream};
use edge_tests::wire::{Message, get};
use serde_json::{Value, json};

use super::{behind, plugin};

const BUFFER: usize = 8192;

fn edge(upstream: &Upstream, profile: Value) -> Edge {
    let entities = behind(upstream, json!([plugin("http-profile", profile)])).to_string();
    Setup::new(entities).section(&format!("[limits]\nbuffer_bytes = {BUFFER}")).start()
}

/// Length, coding, content and trailers of a message.
fn framed(message: &Message) -> (Option<&str>, Option<&str>, String, usize) {
    let trailers = message.trailers.len();
    (message.field("content-length"), message.field("transfer-encoding"), message.text(), trailers)
}

const CHUNKED: (Option<&str>, Option<&str>) = (None, Some("chunked"));

/// A response of each framing by its target; `/long` is over what is held.
fn upstream() -> Upstream {
    Upstream::with(|request| {
        let chunks = "2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n";
        let head = "HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n";
        match (request.method(), request.target()) {
            ("HEAD", "/length") => Reply::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            ("HEAD", _) => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
            (_, "/length") => Reply::ok("hello"),
            (_, "/empty") => Reply::ok(""),
            (_, "/none") => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            (_, "/204") => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
            (_, "/304") => Reply::raw("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"),
            (_, "/close") => Reply::raw("HTTP/1.1 200 OK\r\n\r\nhello").close(),
            (_, "/cut") => Reply::raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel").close(),
            (_, "/early") => Reply::raw(format!("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n{head}{chunks}")),
            (_, "/long") => {
                let chunk = format!("{:x}\r\n{}\r\n", 3000, "a".repeat(3000));
                Reply::raw(format!("{head}{}0\r\nX-Sum: 1\r\n\r\n", chunk.repeat(30)))
            }
            _ => Reply::raw(format!("{head}{chunks}")),
        }
    })
}

#[test]
fn responses_are_framed_as_configured() {
    let upstream = upstream();
    let hello = || "hello".to_owned();
    for (mode, target, expected) in [
        ("sustain", "/", (None, Some("chunked"), hello(), 1)),
        ("preserve", "/", (None, Some("chunked"), hello(), 1)),
        ("selective", "/length", (Some("5"), None, hello(), 0)),
        ("sustain", "/close", (None, Some("chunked"), hello(), 0)),
        ("rechunk", "/", (None, Some("chunked"), hello(), 1)),
        ("rechunk", "/length", (None, Some("chunked"), hello(), 0)),
        ("rechunk", "/empty", (Some("0"), None, String::new(), 0)),
        ("unchunk", "/", (Some("5"), None, hello(), 0)),
        ("unchunk", "/length", (Some("5"), None, hello(), 0)),
        ("unchunk", "/close", (Some("5"), None, hello(), 0)),
        ("unchunk", "/none", (Some("0"), None, String::new(), 0)),
        ("unchunk", "/long", (None, Some("chunked"), "a".repeat(90_000), 1)),
    ] {
        let edge = edge(&upstream, json!({"response": {"chunking": mode}}));
        let mut client = edge.connect();
        for _ in 0..2 {
            let answer = client.ask(get(target, &[]));
            assert_eq!(framed(&answer), (expected.0, expected.1, expected.2.clone(), expected.3), "{mode} {target}");
            assert_eq!(
                answer.field("trailer"),
                (target == "/long" || mode != "unchunk" && target == "/").then_some("X-Sum")
            );
        }
    }
}

#[test]
fn what_has_no_content_gets_none() {
    let upstream = upstream();
    for (mode, length, chunked) in [("rechunk", Some("5"), Some("chunked")), ("unchunk", Some("5"), None)] {
        let edge = edge(&upstream, json!({"response": {"chunking": mode}}));
        let mut client = edge.connect();
        for (target, expected) in [("/length", (length, None)), ("/", (None, chunked))] {
            client.send(format!("HEAD {target} HTTP/1.1\r\nHost: test\r\n\r\n"));
            let answer = client.response_to("HEAD");
            assert_eq!(
                (answer.field("content-length"), answer.field("transfer-encoding")),
                expected,
                "{mode} {target}"
            );
        }
        for (target, status, length) in [("/204", 204, None), ("/304", 304, Some("9"))] {
            let answer = client.ask(get(target, &[]));
            let told = (answer.status(), answer.field("content-length"), answer.field("transfer-encoding"));
            assert_eq!(told, (status, length, None), "{mode}");
        }
        assert_eq!(client.ask(get("/early", &[])).status(), 103);
        assert_eq!((client.response().text().as_str(), mode), ("hello", mode));
        // Nothing is left over for the next answer.
        assert_eq!(client.ask(get("/length", &[])).text(), "hello");
    }
}

/// H18: what is cut short is never told to be whole.
#[test]
fn a_response_that_breaks_off_is_no_shorter_one() {
    let upstream = upstream();
    let edge = edge(&upstream, json!({"response": {"chunking": "unchunk"}}));
    assert_eq!(edge.ask(get("/cut", &[])).status(), 502);
}

#[test]
fn http_1_0_clients_get_what_they_can_read() {
    let upstream = upstream();
    for (mode, target, length, persists) in
        [("sustain", "/", None, false), ("rechunk", "/length", Some("5"), true), ("unchunk", "/", Some("5"), true)]
    {
        let edge = edge(&upstream, json!({"response": {"chunking": mode}}));
        let mut client = edge.connect();
        let answer = client.ask(format!("GET {target} HTTP/1.0\r\nHost: test\r\nConnection: keep-alive\r\n\r\n"));
        assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), (length, None), "{mode}");
        assert_eq!((answer.text().as_str(), answer.field("connection") == Some("keep-alive")), ("hello", persists));
    }
}

/// An event is seen when it comes, and not once there are no more.
#[test]
fn events_are_not_held() {
    let upstream = Upstream::with(|_| Reply::events(&["one", "two"], Duration::from_millis(300)));
    let edge = edge(&upstream, json!({"response": {"chunking": "unchunk"}}));
    let answer = edge.ask(get("/", &[]));
    assert_eq!((answer.field("content-length"), answer.field("transfer-encoding")), CHUNKED);
    assert_eq!(answer.text(), "data: one\n\ndata: two\n\n");
}

#[test]
fn requests_are_framed_as_configured() {
    let chunked = "POST / HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n\
                   2\r\nhe\r\n3\r\nllo\r\n0\r\nX-Sum: 1\r\n\r\n";
    let length = "POST / HTTP/1.1\r\nHost: test\r\ncontent-length: 5\r\n\r\nhello";
    let empty = "POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n";
    let nothing = "POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", 3000, "a".repeat(3000));
    let long = format!(
        "POST / HTTP/1.1\r\nHost: test\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n{}0\r\nX-Sum: 1\r\n\r\n",
        chunk.repeat(30)
    );
    let hello = || "hello".to_owned();
    for (mode, request, expected) in [
        ("sustain", chunked, (None, Some("chunked"), hello(), 1)),
        ("sustain", length, (Some("5"), None, hello(), 0)),
        ("rechunk", chunked, (None, Some("chunked"), hello(), 1)),
        ("rechunk", length, (None, Some("chunked"), hello(), 0)),
        ("rechunk", empty, (Some("0"), None, String::new(), 0)),
        ("unchunk", chunked, (Some("5"), None, hello(), 0)),
        ("unchunk", length, (Some("5"), None, hello(), 0)),
        ("unchunk", nothing, (Some("0"), None, String::new(), 0)),
        ("unchunk", &long, (None, Some("chunked"), "a".repeat(90_000), 1)),
    ] {
        let upstream = Upstream::start();
        for buffering in [true, false] {
            let mut entities =
                behind(&upstream, json!([plugin("http-profile", json!({"request": {"chunking": mode}}))]));
            entities["services"][0]["routes"][0]["request_buffering"] = buffering.into();
            let edge = Setup::new(entities.to_string()).section(&format!("[limits]\nbuffer_bytes = {BUFFER}")).start();
            let mut client = edge.connect();
            for _ in 0..2 {
                assert_eq!(client.ask(request).status(), 200);
                let seen = upstream.last();
                assert_eq!(
                    framed(&seen),
                    (expected.0, expected.1, expected.2.clone(), expected.3),
                    "{mode} {request:.90}"
                );
                assert_eq!(seen.field("trailer"), (expected.3 > 0).then_some("X-Sum"), "{mode} {request:.90}");
            }
            let answer = client.ask(get("/", &[]));
            assert_eq!(answer.status(), 200);
            assert_eq!(framed(&upstream.last()), (None, None, String::new(), 0), "{mode}: no body, no framing");
        }
        assert!(upstream.faults().is_empty());
    }
}

#[test]
fn http_2_frames_instead_on_either_side() {
    // Downstream: a body without a length gets one for the upstream, and the answer one for the client.
    let upstream = upstream();
    let profile = json!({"request": {"chunking": "unchunk"}, "response": {"chunking": "unchunk"}});
    let unchunking = edge(&upstream, profile);
    let ask = |edge: &Edge, target: &str| {
        h2raw::block_on(async {
            let sender = h2raw::connect(edge.address()).await;
            let request = http::Request::post(format!("http://test{target}")).version(http::Version::HTTP_2);
            h2raw::ask(&sender, request.body(()).unwrap(), b"body").await.unwrap()
        })
    };
    let answer = ask(&unchunking, "/");
    assert_eq!((answer.text().as_str(), answer.fields.get("content-length").unwrap().as_bytes()), ("hello", &b"5"[..]));
    assert_eq!(framed(&upstream.last()), (Some("4"), None, "body".into(), 0));
    let rechunking = edge(&upstream, json!({"response": {"chunking": "rechunk"}}));
    let answer = ask(&rechunking, "/length");
    assert_eq!(answer.text(), "hello");
    assert!(!answer.fields.contains_key("transfer-encoding"));

    // Upstream: HTTP/2 over TLS, an answer without a length.
    let pair = edge_tests::certs::pair(&["127.0.0.1"]);
    let notes = Notes::default();
    let kept = notes.clone();
    let upstream = H2Upstream::start(Rules { max_streams: None, pair: Some(&pair) }, move |_, request, respond| {
        let notes = kept.clone();
        async move {
            let (head, body) = request.into_parts();
            let length = head.headers.get("content-length").map(|length| length.to_str().unwrap().to_owned());
            let (body, trailers) = content(body).await;
            notes.keep(format!("{length:?} {} {}", String::from_utf8_lossy(&body), trailers.is_some()));
            h2upstream::answer(respond, b"hello", &[("x-sum", "1")]).await;
        }
    });
    let chunks = |text: &str| format!("Transfer-Encoding: chunked\r\n\r\n2\r\n{text}\r\n0\r\nX-Sum: 1\r\n\r\n");
    for (mode, request, expected) in [
        ("rechunk", "Content-Length: 2\r\n\r\nhi", "Some(\"2\") hi false"),
        ("unchunk", &chunks("ok"), "Some(\"2\") ok false"),
        ("sustain", &chunks("as"), "None as true"),
    ] {
        let profile = json!({"request": {"chunking": mode}, "response": {"chunking": "unchunk"}});
        let route = json!({"name": "all", "paths": ["/"], "plugins": [plugin("http-profile", profile)]});
        let text = json!({"_format_version": "3.0", "services": [{"name": "up", "tls_verify": false,
            "url": format!("https://{}", upstream.address()), "routes": [route]}]});
        let edge = Setup::new(text.to_string()).section("[proxy]\nupstream_http2 = true").start();
        let answer = edge.ask(format!("POST / HTTP/1.1\r\nHost: test\r\n{request}").as_bytes());
        assert_eq!(framed(&answer), (Some("5"), None, "hello".into(), 0));
        notes.wait(expected);
    }
}
