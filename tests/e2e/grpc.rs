//! gRPC through the edge: messages and trailers both ways, deadlines, cancellation, and the edge's own answers.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use edge_tests::edge::{Setup, free_address};
use edge_tests::h2raw;
use edge_tests::h2upstream::{H2Upstream, Notes, Rules, answer, content};
use http::{Request, Response};
use serde_json::json;

fn entities(url: &str) -> String {
    let routes = json!([{"name": "rpc", "protocols": ["grpc"], "paths": ["/shop.Orders"]}]);
    super::entities(url, routes)
}

fn call(method: &str) -> http::request::Builder {
    Request::builder()
        .method("POST")
        .uri(format!("http://api.test/shop.Orders/{method}"))
        .version(http::Version::HTTP_2)
        .header("content-type", "application/grpc+proto")
        .header("te", "trailers")
}

/// An upstream that echoes, unless its method says `Wait`: then it tells how the stream ended.
fn echo(notes: &Notes) -> H2Upstream {
    let notes = notes.clone();
    H2Upstream::start(Rules::default(), move |_, request, mut respond| {
        let notes = notes.clone();
        async move {
            let (head, body) = request.into_parts();
            let field = |name: &str| head.headers.get(name).map_or("-", |value| value.to_str().unwrap()).to_owned();
            notes.keep(format!("{} te={} timeout={}", head.uri, field("te"), field("grpc-timeout")));
            if head.uri.path().ends_with("Wait") {
                let code = poll_fn(|cx| respond.poll_reset(cx)).await;
                return notes.keep(format!("ended by {:?}", code.map(|code| format!("{code:?}")).unwrap_or_default()));
            }
            let (data, trailers) = content(body).await;
            notes.keep(format!("trailers={}", trailers.is_some()));
            answer(respond, &data, &[("grpc-status", "0"), ("x-sum", "1")]).await;
        }
    })
}

#[test]
fn calls_pass_with_their_metadata_and_trailers() {
    let notes = Notes::default();
    let upstream = echo(&notes);
    let edge = Setup::new(entities(&format!("grpc://{}", upstream.address()))).workers(1).start();
    h2raw::block_on(async {
        let sender = h2raw::connect(edge.address()).await;
        for size in [5, 700_000] {
            let message = vec![b'm'; size];
            let request = call("Get").header("grpc-timeout", "20S").body(()).unwrap();
            let seen = h2raw::ask(&sender, request, &message).await.unwrap();
            assert_eq!((seen.status, seen.body.len()), (200, size));
            let trailers = seen.trailers.expect("trailers");
            assert_eq!((&trailers["grpc-status"], &trailers["x-sum"]), (&"0".parse().unwrap(), &"1".parse().unwrap()));
        }
    });
    // The path is not cut although routes cut by default.
    let expected = format!("http://{}/shop.Orders/Get te=trailers timeout=20S", upstream.address());
    assert_eq!(notes.all()[0], expected);
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn both_sides_of_a_stream_talk_while_it_lasts() {
    let upstream = H2Upstream::start(Rules::default(), |_, request, mut respond| async move {
        let mut body = request.into_body();
        let mut stream = respond.send_response(Response::new(()), false).unwrap();
        while let Some(Ok(data)) = body.data().await {
            let _ = body.flow_control().release_capacity(data.len());
            stream.send_data(data, false).unwrap();
        }
        stream
            .send_trailers([(http::HeaderName::from_static("grpc-status"), "0".parse().unwrap())].into_iter().collect())
            .unwrap();
    });
    let edge = Setup::new(entities(&format!("grpc://{}", upstream.address()))).start();
    h2raw::block_on(async {
        let mut sender = h2raw::connect(edge.address()).await.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(call("Chat").body(()).unwrap(), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        for word in ["one", "two", "three"] {
            stream.send_data(Bytes::from(word), false).unwrap();
            let echoed = body.data().await.unwrap().unwrap();
            assert_eq!(echoed, word);
        }
        stream.send_data(Bytes::new(), true).unwrap();
        assert!(body.data().await.is_none());
        assert_eq!(body.trailers().await.unwrap().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn the_edges_own_answers_are_grpc_statuses() {
    let edge = Setup::new(entities(&format!("grpc://{}", free_address()))).clear().start();
    h2raw::block_on(async {
        let sender = h2raw::connect(edge.address()).await;
        let other = Request::builder().uri("http://api.test/none").header("content-type", "application/grpc");
        for (request, status, grpc_status, message) in [
            (other.body(()).unwrap(), 404, "5", "NotFound"),
            // Nobody listens at the upstream's address.
            (call("Get").body(()).unwrap(), 502, "14", "Unavailable"),
        ] {
            let seen = h2raw::ask(&sender, request, b"").await.unwrap();
            assert_eq!((seen.status, seen.body.len()), (status, 0));
            for (name, value) in
                [("content-type", "application/grpc"), ("grpc-status", grpc_status), ("grpc-message", message)]
            {
                assert_eq!(seen.fields[name], value, "{status}");
            }
        }
        let plain = Request::builder().uri("http://api.test/shop.Orders/Get").header("content-type", "text/plain");
        let seen = h2raw::ask(&sender, plain.body(()).unwrap(), b"").await.unwrap();
        assert_eq!(seen.status, 415);
        assert!(seen.text().contains("Non-gRPC request matched gRPC route"), "{}", seen.text());
    });
    let old = edge.ask(
        "POST /shop.Orders/Get HTTP/1.1\r\nHost: test\r\nContent-Type: application/grpc\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!((old.status(), old.field("upgrade"), old.field("grpc-status")), (426, Some("HTTP/2"), Some("3")));
}

#[test]
fn deadlines_and_cancellation_reach_the_upstream() {
    let notes = Notes::default();
    let upstream = echo(&notes);
    let edge = Setup::new(entities(&format!("grpc://{}", upstream.address()))).start();
    h2raw::block_on(async {
        let sender = h2raw::connect(edge.address()).await;
        let request = call("Wait").header("grpc-timeout", "200m").body(()).unwrap();
        let seen = h2raw::ask(&sender, request, b"").await.unwrap();
        assert_eq!((seen.status, &seen.fields["grpc-status"]), (504, &"4".parse().unwrap()));
    });
    notes.wait("ended by \"CANCEL\"");
    let before = notes.all().len();
    h2raw::block_on(async {
        let mut sender = h2raw::connect(edge.address()).await.ready().await.unwrap();
        let (response, mut stream) = sender.send_request(call("Wait").body(()).unwrap(), true).unwrap();
        while notes.all().len() == before {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        stream.send_reset(h2::Reason::CANCEL);
        drop(response);
        tokio::time::sleep(Duration::from_millis(200)).await;
    });
    edge.access(|line| line["status"] == 499);
    assert_eq!(notes.all().iter().filter(|note| note.contains("CANCEL")).count(), 2, "{:?}", notes.all());
}
