//! HTTP/2 downstream: the same requests, and what RFC 9113 forbids (security properties, 10).

use bytes::Bytes;
use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::h2raw::{self, END_HEADERS, END_STREAM, Outcome, Raw, block, frame, kind};
use edge_tests::upstream::{Reply, Upstream};
use http::Request;

use super::{Guarded, open};

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://api.test{path}")).version(http::Version::HTTP_2)
}

#[test]
fn requests_and_responses_pass_over_prior_knowledge_and_alpn() {
    let upstream = Upstream::with(|request| match request.target() {
        "/chunked" => Reply::raw(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 9\r\n\r\n",
        ),
        "/204" => Reply::raw("HTTP/1.1 204 No Content\r\n\r\n"),
        _ => Reply::new("200 OK", "Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-UP: v\r\n", &request.text()),
    });
    let edge = Setup::new(open(&upstream.url())).clear().tls().start();
    h2raw::block_on(async {
        for sender in [h2raw::connect(edge.listener(0)).await, h2raw::connect_tls(edge.listener(1), "edge.test").await]
        {
            let post = request("POST", "/echo?a=b")
                .header("x-a", "1")
                .header("x-a", "2")
                .header("cookie", "k=1")
                .header("cookie", "l=2");
            let answer = h2raw::ask(&sender, post.body(()).unwrap(), b"hello").await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
            assert_eq!(answer.fields.get_all("set-cookie").iter().count(), 2);
            assert_eq!(answer.fields["x-up"], "v");
            let seen = upstream.last();
            assert_eq!(seen.start, "POST /echo?a=b HTTP/1.1");
            assert_eq!(seen.field("host"), Some(upstream.address().to_string().as_str()));
            assert_eq!(seen.all("x-a"), ["1", "2"]);
            // RFC 9113, 8.2.3: crumbs are joined for HTTP/1.1.
            assert_eq!(seen.field("cookie"), Some("k=1; l=2"));

            let answer = h2raw::ask(&sender, request("GET", "/chunked").body(()).unwrap(), b"").await.unwrap();
            assert_eq!((answer.status, answer.text().as_str()), (200, "ok"));
            assert_eq!(answer.trailers.unwrap()["x-sum"], "9");
            assert!(answer.fields.get("x-hop").is_none() && answer.fields.get("connection").is_none());
            let answer = h2raw::ask(&sender, request("GET", "/204").body(()).unwrap(), b"").await.unwrap();
            assert_eq!(answer.status, 204);
            let answer = h2raw::ask(&sender, request("HEAD", "/").body(()).unwrap(), b"").await.unwrap();
            assert_eq!((answer.status, answer.body.len()), (200, 0));
        }
    });
    assert_eq!(upstream.faults(), [""; 0]);
}

#[test]
fn streams_run_beside_each_other() {
    // H27: identities of streams stay apart.
    let good = Guarded::start();
    let token = good.token();
    h2raw::block_on(async {
        let sender = h2raw::connect(good.edge.address()).await;
        let mut tasks = Vec::new();
        for number in 0..60 {
            let mut builder = request("GET", &format!("/{number}"));
            let expected = match number % 3 {
                0 => 401,
                1 => {
                    builder = builder.header("authorization", format!("Bearer {}", edge_tests::mint::flip(&token)));
                    401
                }
                _ => {
                    builder = builder.header("authorization", format!("Bearer {token}"));
                    200
                }
            };
            let (sender, request) = (sender.clone(), builder.body(()).unwrap());
            tasks.push(tokio::task::spawn_local(async move {
                assert_eq!(h2raw::ask(&sender, request, b"").await.unwrap().status, expected, "{number}");
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
    let seen = good.upstream.requests();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|request| request.target()[1..].parse::<usize>().unwrap() % 3 == 2));
}

type Fields<'a> = Vec<(&'a [u8], &'a [u8])>;

fn base<'a>() -> Fields<'a> {
    vec![(b":method", b"GET"), (b":scheme", b"http"), (b":authority", b"api.test"), (b":path", b"/")]
}

#[test]
fn malformed_field_sections_are_refused() {
    // H20, H21, H23, H24
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let extra = |name: &'static [u8], value: &'static [u8]| {
        let mut fields = base();
        fields.push((name, value));
        fields
    };
    let set = |name: &'static [u8], value: &'static [u8]| {
        base().into_iter().map(|(n, v)| if n == name { (n, value) } else { (n, v) }).collect::<Fields<'_>>()
    };
    let without = |name: &'static [u8]| base().into_iter().filter(|(n, _)| *n != name).collect::<Fields<'_>>();
    let bad: Vec<Fields<'_>> = vec![
        extra(b"X-Upper", b"1"),
        extra(b"x-cr", b"a\rb"),
        extra(b"x-lf", b"a\nb"),
        extra(b"x-crlf", b"a\r\nx-smuggled: 1"),
        extra(b"x-nul", b"a\0b"),
        extra(b"x-lead", b" a"),
        extra(b"x-trail", b"a\t"),
        extra(b"x bad", b"1"),
        extra(b"x:bad", b"1"),
        extra(b"x\r\nbad", b"1"),
        extra(b"", b"1"),
        extra(b"transfer-encoding", b"chunked"),
        extra(b"connection", b"close"),
        extra(b"connection", b"authorization"),
        extra(b"keep-alive", b"1"),
        extra(b"proxy-connection", b"1"),
        extra(b"upgrade", b"websocket"),
        extra(b"te", b"gzip"),
        extra(b"host", b"other.test"),
        extra(b":path", b"/again"),
        extra(b":unknown", b"1"),
        extra(b":status", b"200"),
        extra(b"content-length", b"5"),
        extra(b"content-length", b"+0"),
        [vec![(&b"x-first"[..], &b"1"[..])], base()].concat(),
        without(b":method"),
        without(b":scheme"),
        without(b":path"),
        without(b":authority"),
        set(b":path", b""),
        set(b":path", b"relative"),
        set(b":path", b"/a b"),
        set(b":path", b"/a\r\nb"),
        set(b":path", b"*"),
        set(b":method", b"GE T"),
        set(b":method", b""),
        set(b":method", b"GET /x HTTP/1.1\r\nX: y"),
        set(b":scheme", b"ht tp"),
        set(b":authority", b"a b"),
        set(b":authority", b"a/b"),
        set(b":authority", b"user@api.test"),
        set(b":authority", b""),
    ];
    for fields in bad {
        let shown: Vec<_> =
            fields.iter().map(|(n, v)| (String::from_utf8_lossy(n), String::from_utf8_lossy(v))).collect();
        let mut raw = Raw::connect(edge.address());
        raw.request(1, &fields);
        let outcome = raw.outcome(1);
        assert!(outcome.refused(), "{outcome:?} for {shown:?}");
        assert!(upstream.requests().is_empty(), "the upstream received {shown:?}");
    }
    // Where the edge itself resets the stream.
    edge.access(|line| line["reason"] == "request_malformed" && line["status"] == 0);
    for fields in [
        base(),
        extra(b"te", b"trailers"),
        extra(b"host", b"api.test"),
        extra(b"x-empty", b""),
        extra(b"x-space", b"a b\tc"),
        extra(b"content-length", b"0"),
    ] {
        let mut raw = Raw::connect(edge.address());
        raw.request(1, &fields);
        assert_eq!(raw.outcome(1), Outcome::Response(200), "{fields:?}");
    }
    assert_eq!(upstream.faults(), [""; 0]);
}

#[test]
fn content_length_is_the_sum_of_data() {
    // H22
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let send = |length: &'static [u8], data: &[&[u8]]| {
        let mut fields = base();
        fields[0].1 = b"POST";
        fields.push((b"content-length", length));
        let mut raw = Raw::connect(edge.address());
        raw.send(frame(kind::HEADERS, END_HEADERS, 1, &block(&fields)));
        for (index, chunk) in data.iter().enumerate() {
            let last = if index + 1 == data.len() { END_STREAM } else { 0 };
            let _ = raw.try_send(frame(kind::DATA, last, 1, chunk));
        }
        raw.outcome(1)
    };
    for (length, data) in
        [(&b"5"[..], &[&b"four"[..]][..]), (b"3", &[b"four"]), (b"8", &[b"abc", b"def"]), (b"5", &[b"abc", b"def"])]
    {
        let outcome = send(length, data);
        assert!(outcome.refused(), "{outcome:?}");
        assert!(upstream.requests().is_empty(), "a request was completed: {:?}", upstream.requests());
    }
    assert_eq!(send(b"6", &[b"abc", b"def"]), Outcome::Response(200));
    assert_eq!(upstream.last().text(), "abcdef");
}

/// Sends the same frame over and over until the edge ends the connection.
fn flood(edge: &edge_tests::edge::Edge, opening: Vec<u8>, mut next: impl FnMut(u32) -> Vec<u8>) {
    let mut raw = Raw::connect(edge.address());
    raw.send(opening);
    for number in 0..200_000 {
        if raw.try_send(next(number)).is_err() {
            return;
        }
    }
    assert!(raw.ends(), "the flood was taken to its end");
}

#[test]
fn floods_end_their_connection() {
    // H25
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let head = block(&base());
    let served = || assert_eq!(edge.ask(edge_tests::wire::get("/", &[])).status(), 200);
    // Rapid reset (CVE-2023-44487)
    flood(&edge, Vec::new(), |number| {
        let stream = number * 2 + 1;
        let mut bytes = frame(kind::HEADERS, END_HEADERS | END_STREAM, stream, &head);
        bytes.extend(frame(kind::RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
        bytes
    });
    served();
    // CONTINUATION without end (CVE-2024-27316)
    let piece = block(&[(b"x-pad", &[b'a'; 1000])]);
    flood(&edge, frame(kind::HEADERS, END_STREAM, 1, &head), |_| frame(kind::CONTINUATION, 0, 1, &piece));
    served();
    // Empty CONTINUATION frames cost no bytes of the list, only work.
    flood(&edge, frame(kind::HEADERS, END_STREAM, 1, &head), |_| frame(kind::CONTINUATION, 0, 1, &[]));
    served();
}

#[test]
fn field_lists_above_the_limit_are_refused() {
    // H26: also where the list is large only once it is decoded.
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).start();
    let pad = vec![b'a'; 60_000];
    let mut fields = base();
    fields.push((b"x-pad", &pad));
    let mut raw = Raw::connect(edge.address());
    let bytes = block(&fields);
    raw.send(frame(kind::HEADERS, END_STREAM, 1, &bytes[..16_000]));
    let rest: Vec<&[u8]> = bytes[16_000..].chunks(16_000).collect();
    for (index, piece) in rest.iter().enumerate() {
        let last = if index + 1 == rest.len() { END_HEADERS } else { 0 };
        let _ = raw.try_send(frame(kind::CONTINUATION, last, 1, piece));
    }
    let outcome = raw.outcome(1);
    assert!(outcome.refused(), "{outcome:?}");

    // One entry of the dynamic table, named again and again: 4000 bytes each for one byte on the wire.
    let mut bomb = block(&base());
    let value = vec![b'b'; 3900];
    bomb.extend([0x40, 1, b'x']);
    bomb.extend([0x7f, 0xbd, 0x1d]); // 3900 = 127 + 61 + 29 * 128
    bomb.extend(&value);
    bomb.extend(vec![0xbe; 10_000]);
    let mut raw = Raw::connect(edge.address());
    raw.send(frame(kind::HEADERS, END_STREAM | END_HEADERS, 1, &bomb));
    let outcome = raw.outcome(1);
    assert!(outcome.refused(), "{outcome:?}");
    assert!(upstream.requests().is_empty());

    let many: Vec<(Vec<u8>, Vec<u8>)> = (0..200).map(|n| (format!("x-{n}").into_bytes(), b"1".to_vec())).collect();
    let mut fields = base();
    fields.extend(many.iter().map(|(name, value)| (name.as_slice(), value.as_slice())));
    let mut raw = Raw::connect(edge.address());
    raw.request(1, &fields);
    assert!(raw.outcome(1).refused(), "200 fields are over limits.fields");
    edge.access(|line| line["reason"] == "head_too_large" && line["status"] == 431);
    let mut raw = Raw::connect(edge.address());
    raw.request(1, &fields[..40]);
    assert_eq!(raw.outcome(1), Outcome::Response(200));
}

#[test]
fn bodies_stream_both_ways() {
    let upstream = Upstream::with(|request| Reply::ok(&request.text()));
    let edge = Setup::new(open(&upstream.url())).start();
    let body = "0123456789".repeat(100_000);
    h2raw::block_on(async {
        let sender = h2raw::connect(edge.address()).await;
        let mut sender = sender.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        let reader = tokio::task::spawn_local(h2raw::read(response));
        let mut rest = Bytes::copy_from_slice(body.as_bytes());
        while !rest.is_empty() {
            stream.reserve_capacity(rest.len());
            let capacity = std::future::poll_fn(|context| stream.poll_capacity(context)).await.unwrap().unwrap();
            let chunk = rest.split_to(capacity.min(rest.len()));
            stream.send_data(chunk, rest.is_empty()).unwrap();
        }
        let answer = reader.await.unwrap().unwrap();
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body.len(), body.len());
        assert!(answer.text() == body);
    });
    assert_eq!(upstream.last().body.len(), body.len());
}

#[test]
fn alpn_chooses_between_the_two() {
    let upstream = Upstream::start();
    let edge = Setup::new(open(&upstream.url())).tls().start();
    let mut client = edge_tests::wire::Client::tls(edge.address(), "edge.test", certs::client(&["http/1.1"])).unwrap();
    assert_eq!(client.ask(edge_tests::wire::get("/", &[])).status(), 200);
    let mut client = edge_tests::wire::Client::tls(edge.address(), "edge.test", certs::client(&[])).unwrap();
    assert_eq!(client.ask(edge_tests::wire::get("/", &[])).status(), 200);
    h2raw::block_on(async {
        let sender = h2raw::connect_tls(edge.address(), "edge.test").await;
        let https = Request::get("https://edge.test/").body(()).unwrap();
        assert_eq!(h2raw::ask(&sender, https, b"").await.unwrap().status, 200);
    });
    assert_eq!(upstream.last().field("x-forwarded-proto"), Some("https"));
}

#[test]
fn a_refusal_has_the_same_answer_as_over_http_1() {
    let good = Guarded::start();
    h2raw::block_on(async {
        let sender = h2raw::connect(good.edge.address()).await;
        let answer = h2raw::ask(&sender, request("POST", "/").body(()).unwrap(), &[b'x'; 100_000]).await.unwrap();
        assert_eq!((answer.status, answer.text().as_str()), (401, "{\"message\":\"Unauthorized\"}"));
        assert!(answer.fields["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        // The connection goes on for the other streams.
        let get = request("GET", "/").header("authorization", format!("Bearer {}", good.token())).body(()).unwrap();
        assert_eq!(h2raw::ask(&sender, get, b"").await.unwrap().status, 200);
    });
}
