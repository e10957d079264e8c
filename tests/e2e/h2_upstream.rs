//! HTTP/2 towards upstreams: shared connections, limits of the upstream, what may be sent again, windows, TLS.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use edge_tests::certs;
use edge_tests::edge::Setup;
use edge_tests::h2raw;
use edge_tests::h2upstream::{H2Upstream, Notes, Rules, answer, content};
use edge_tests::wire::get;
use http::Request;
use serde_json::json;

/// A service that is spoken to in HTTP/2, behind a route for everything.
fn entities(address: std::net::SocketAddr, service: serde_json::Value) -> String {
    let mut up = json!({"name": "up", "url": format!("grpc://{address}"),
        "routes": [{"name": "all", "paths": ["/"], "strip_path": false}]});
    up.as_object_mut().unwrap().extend(service.as_object().unwrap().clone());
    json!({"_format_version": "3.0", "services": [up]}).to_string()
}

#[test]
fn requests_share_connections_within_the_upstreams_limit() {
    for (limit, expected) in [(None, 1..=1), (Some(2), 5..=10)] {
        let busy = Arc::new(Mutex::new(HashMap::<usize, usize>::new()));
        let most = Arc::new(AtomicUsize::new(0));
        let (shared, seen) = (busy.clone(), most.clone());
        let upstream = H2Upstream::start(Rules { max_streams: limit, pair: None }, move |number, _, respond| {
            let (busy, most) = (shared.clone(), seen.clone());
            async move {
                let now = {
                    let mut busy = busy.lock().unwrap();
                    let count = busy.entry(number).or_default();
                    *count += 1;
                    *count
                };
                most.fetch_max(now, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                *busy.lock().unwrap().get_mut(&number).unwrap() -= 1;
                answer(respond, b"ok", &[]).await;
            }
        });
        let edge = Setup::new(entities(upstream.address(), json!({}))).workers(1).start();
        let threads: Vec<_> = (0..10)
            .map(|_| {
                let mut client = edge.connect();
                std::thread::spawn(move || client.ask(get("/", &[])).text())
            })
            .collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), "ok", "{limit:?}");
        }
        assert!(expected.contains(&upstream.connections()), "{limit:?}: {}", upstream.connections());
        assert!(most.load(Ordering::SeqCst) <= limit.map_or(10, |limit| limit as usize), "{limit:?}");
    }
}

#[test]
fn what_was_refused_unseen_is_sent_again_and_nothing_else() {
    // D7; RFC 9113, 8.7
    for (code, status, tries) in
        [(h2::Reason::REFUSED_STREAM, 200, 2), (h2::Reason::INTERNAL_ERROR, 502, 1), (h2::Reason::CANCEL, 502, 1)]
    {
        let notes = Notes::default();
        let kept = notes.clone();
        let count = Cell::new(0);
        let upstream = H2Upstream::start(Rules::default(), move |_, request, mut respond| {
            let (notes, first) = (kept.clone(), count.get() == 0);
            count.set(count.get() + 1);
            async move {
                notes.keep(request.method().as_str());
                if first {
                    return respond.send_reset(code);
                }
                let (data, _) = content(request.into_body()).await;
                answer(respond, &data, &[]).await;
            }
        });
        let edge = Setup::new(entities(upstream.address(), json!({"retries": 2}))).start();
        let seen = edge.ask("POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((seen.status(), notes.all().len()), (status, tries), "{code:?}");
    }
}

#[test]
fn bodies_and_trailers_pass_between_the_versions() {
    let upstream = H2Upstream::start(Rules::default(), |_, request, respond| async move {
        let target = request.uri().path().to_owned();
        let (data, trailers) = content(request.into_body()).await;
        let sum = trailers.as_ref().and_then(|trailers| trailers.get("x-sum")).map_or("-", |sum| sum.to_str().unwrap());
        match target.as_str() {
            "/plain" => answer(respond, &data, &[]).await,
            _ => answer(respond, &data, &[("x-sum", sum)]).await,
        }
    });
    let edge = Setup::new(entities(upstream.address(), json!({}))).start();
    let mut client = edge.connect();
    let seen = client.ask(
        "POST /t HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 9\r\nX-Consumer-ID: 1\r\n\r\n",
    );
    assert_eq!((seen.status(), seen.text().as_str()), (200, "abc"));
    assert_eq!(seen.trailers, [("x-sum".to_owned(), "9".to_owned())]);
    assert_eq!(client.ask("PUT /plain HTTP/1.1\r\nHost: test\r\nContent-Length: 2\r\n\r\nhi").text(), "hi");
    client.send("HEAD /plain HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response_to("HEAD").status(), 200);
    // Larger than every window on the way.
    let large = vec![b'x'; 5 << 20];
    h2raw::block_on(async {
        let mut sender = h2raw::connect(edge.address()).await.ready().await.unwrap();
        let request = Request::builder().method("POST").uri("http://api.test/plain").body(()).unwrap();
        let (response, mut stream) = sender.send_request(request, false).unwrap();
        let upload = async {
            let mut rest = bytes::Bytes::from(large.clone());
            while !rest.is_empty() {
                stream.reserve_capacity(rest.len());
                let capacity = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await.unwrap().unwrap();
                stream.send_data(rest.split_to(capacity), false).unwrap();
            }
            stream.send_data(bytes::Bytes::new(), true).unwrap();
        };
        let (seen, ()) = tokio::join!(h2raw::read(response), upload);
        assert_eq!(seen.unwrap().body.len(), large.len());
    });
}

#[test]
fn services_over_tls_speak_http2_where_it_is_offered() {
    let pair = certs::self_signed("localhost");
    let notes = Notes::default();
    let kept = notes.clone();
    let upstream = H2Upstream::start(Rules { max_streams: None, pair: Some(&pair) }, move |_, request, respond| {
        kept.keep(format!("{:?} {}", request.version(), request.uri().scheme_str().unwrap_or("-")));
        async move { answer(respond, b"ok", &[]).await }
    });
    let url = format!("https://localhost:{}", upstream.address().port());
    let trusting = json!({"url": url, "tls_verify": false});
    let edge = Setup::new(entities(upstream.address(), trusting)).section("[proxy]\nupstream_http2 = true").start();
    assert_eq!(edge.ask(get("/", &[])).text(), "ok");
    assert_eq!(notes.all(), ["HTTP/2.0 https"]);
    // One that nobody vouches for is not asked.
    let verified = Setup::new(entities(upstream.address(), json!({"url": url}))).start();
    assert_eq!(verified.ask(get("/", &[])).status(), 502);
    assert_eq!(notes.all().len(), 1);
}

#[test]
fn an_upstream_that_speaks_no_http2_is_an_invalid_one() {
    let upstream = edge_tests::upstream::Upstream::start();
    let edge = Setup::new(entities(upstream.address(), json!({"retries": 0}))).start();
    let seen = edge.ask(get("/", &[]));
    assert_eq!((seen.status(), edge.reason_of(&seen).as_str()), (502, "upstream_malformed"));
}
