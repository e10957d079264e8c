use super::super::testing::{Idp, Reply, endpoints, options};
use super::*;
use crate::telemetry::testing::Captured;

const TOKEN: &str = "opaque-token";

fn request() -> Request {
    let mut request = Request::post();
    request.form().push("token", TOKEN);
    request.hide("s3cret-of-ours");
    request
}

async fn ok(answer: Answer) -> Result<u16, Malformed> {
    Ok(answer.status)
}

async fn call(endpoint: &Endpoint) -> Result<u16, Failure> {
    endpoint.call(request(), Whose::Edge, ok).await
}

fn endpoint(all: &Endpoints, url: &str) -> Arc<Endpoint> {
    all.endpoint(Purpose::Introspection, "https://idp.example/realm", url, &options()).unwrap()
}

/// What of an answer is no answer.
#[tokio::test]
async fn statuses_are_told_apart() {
    // I7, I13
    let all = endpoints();
    let idp = Idp::start(Reply::json(200, "{}")).await;
    let status = |status, retry_after_secs| Err(Failure { kind: FailureKind::Status(status), retry_after_secs });
    let credentials = || Err(FailureKind::Credentials.into());
    for (reply, expected) in [
        (Reply::json(200, "{}"), Ok(200)),
        (Reply::json(302, "").with("Location: /introspect"), Ok(302)),
        (Reply::json(400, r#"{"error":"invalid_grant"}"#), Ok(400)),
        (Reply::json(400, "<html>"), Ok(400)),
        (Reply::json(400, r#"{"error":"invalid_client"}"#), credentials()),
        (Reply::json(401, ""), credentials()),
        (Reply::json(403, "<html>"), credentials()),
        (Reply::json(500, "").with("Retry-After: 7"), status(500, 1)),
        (Reply::json(503, ""), status(503, 1)),
        (Reply::json(503, "").with("Retry-After: 7"), status(503, 7)),
        (Reply::json(429, "").with("Retry-After: 100000"), status(429, 300)),
        (Reply::json(429, "").with("Retry-After: soon"), status(429, 1)),
    ] {
        idp.answer(reply.clone());
        // Another URL each time: another breaker.
        let endpoint = endpoint(&all, &format!("{}?{}", idp.url, idp.seen().len()));
        assert_eq!(call(&endpoint).await, expected, "{} {} {}", reply.status, reply.headers, reply.body);
    }
    idp.answer(Reply::json(401, ""));
    let theirs = endpoint(&all, &idp.url);
    assert_eq!(theirs.call(request(), Whose::Caller, ok).await, Ok(401), "a verdict on the caller's credentials");
    // A limit on one caller is no fault of the endpoint: the next one is asked for.
    idp.answer(Reply::json(429, "").with("Retry-After: 100"));
    for whose in [Whose::Caller, Whose::Both] {
        assert_eq!(theirs.call(request(), whose, ok).await, status(429, 100));
    }
    idp.answer(Reply::json(200, ""));
    assert_eq!(theirs.call(request(), Whose::Caller, ok).await, Ok(200));
    let read = async |_| Err::<(), _>(Malformed("odd"));
    idp.answer(Reply::json(200, ""));
    assert_eq!(theirs.call(request(), Whose::Caller, read).await, Err(FailureKind::Malformed(Malformed("odd")).into()));
}

#[test]
fn retry_after_is_read_in_both_forms() {
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
    for (text, expected) in [
        ("0", Some(0)),
        ("120", Some(120)),
        ("Sun, 06 Nov 1994 08:49:47 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:27 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("99999999999999999999", None),
    ] {
        let mut headers = reqwest::header::HeaderMap::new();
        headers.insert(RETRY_AFTER, text.parse().unwrap());
        let answer = Answer { status: 503, headers, body: Vec::new() };
        assert_eq!(retry_after(&answer, now), expected.map(Duration::from_secs), "{text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_fails_is_left_alone_and_tried_again() {
    // I7
    let all = endpoints();
    let idp = Idp::start(Reply::json(500, "")).await;
    let endpoint = endpoint(&all, &idp.url);
    for _ in 0..5 {
        assert!(matches!(call(&endpoint).await, Err(Failure { kind: FailureKind::Status(500), .. })));
    }
    let open = call(&endpoint).await;
    assert_eq!(open, Err(Failure { kind: FailureKind::Open, retry_after_secs: 1 }));
    assert_eq!(idp.seen().len(), 5, "nobody was asked");
    idp.answer(Reply::json(200, "{}"));
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(call(&endpoint).await, Ok(200));
    assert_eq!(call(&endpoint).await, Ok(200));
    let mut text = Exposition::default();
    all.collect(&mut text);
    let text = text.finish();
    for line in [
        "edge_idp_calls_total{issuer=\"idp.example\",endpoint=\"introspection\",result=\"answered\"} 2",
        "edge_idp_calls_total{issuer=\"idp.example\",endpoint=\"introspection\",result=\"status\"} 5",
        "edge_idp_calls_total{issuer=\"idp.example\",endpoint=\"introspection\",result=\"skipped\"} 1",
        "edge_idp_call_seconds_bucket{issuer=\"idp.example\",endpoint=\"introspection\",le=\"+Inf\"} 7",
        "edge_idp_call_seconds_count{issuer=\"idp.example\",endpoint=\"introspection\"} 7",
        "edge_idp_breaker{issuer=\"idp.example\",endpoint=\"introspection\"} 0",
    ] {
        assert!(text.lines().any(|have| have == line), "{line} in\n{text}");
    }
}

#[tokio::test]
async fn nobody_there_and_no_answer_in_time_are_told_apart() {
    // D1
    let all = endpoints();
    let gone = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let gone = endpoint(&all, &format!("http://{gone}/"));
    assert_eq!(call(&gone).await, Err(FailureKind::Transport.into()));
    let idp = Idp::start(Reply::json(200, "{}").late(Duration::from_secs(5))).await;
    let hasty = Options { timeout: Duration::from_millis(100), ..options() };
    let slow = all.endpoint(Purpose::Introspection, "https://idp.example", &idp.url, &hasty).unwrap();
    assert_eq!(call(&slow).await, Err(FailureKind::Timeout.into()));
    assert_eq!(idp.seen().len(), 1);
}

#[tokio::test]
async fn calls_in_flight_and_those_that_wait_are_bounded() {
    // D3, I7
    let all = endpoints();
    let idp = Idp::start(Reply::json(200, "{}").late(Duration::from_millis(300))).await;
    let endpoint = endpoint(&all, &idp.url);
    let calls: Vec<_> = (0..MAX_CALLS + MAX_WAITING)
        .map(|_| {
            let endpoint = Arc::clone(&endpoint);
            tokio::spawn(async move { call(&endpoint).await })
        })
        .collect();
    tokio::time::timeout(Duration::from_secs(5), async {
        while idp.seen().len() < MAX_CALLS || endpoint.waiting.load(Ordering::Acquire) < MAX_WAITING {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(call(&endpoint).await, Err(FailureKind::Busy.into()));
    for call in &calls {
        call.abort();
    }
    for call in calls {
        let _ = call.await;
    }
    assert_eq!((endpoint.waiting.load(Ordering::Acquire), endpoint.slots.available_permits()), (0, MAX_CALLS));
    assert_eq!(call(&endpoint).await, Ok(200), "what was given up left nothing behind");
}

#[tokio::test]
async fn equal_settings_share_an_endpoint_while_it_is_in_use() {
    let all = endpoints();
    let first = endpoint(&all, "https://idp.example/i");
    assert!(Arc::ptr_eq(&first, &endpoint(&all, "https://idp.example/i")));
    let other = all.endpoint(Purpose::Token, "https://idp.example", "https://idp.example/i", &options()).unwrap();
    assert!(!Arc::ptr_eq(&first, &other));
    assert!(all.endpoint(Purpose::Token, "https://idp.example", "http://idp.example/", &options()).is_err(), "K1");
    drop((first, other));
    endpoint(&all, "https://idp.example/j");
    assert!(all.endpoints.len() <= 1, "the others are forgotten");
}

#[test]
fn the_issuers_words_are_quoted_without_our_secrets() {
    // L1
    for (body, error, description) in [
        (r#"{"error":"invalid_client","error_description":"bad"}"#, Some("invalid_client"), Some("bad")),
        (r#"{"error":1}"#, None, None),
        ("<html>", None, None),
    ] {
        let answer = Answer { status: 401, headers: Default::default(), body: body.as_bytes().to_vec() };
        let words = Words::read(&answer);
        assert_eq!((words.error.as_deref(), words.description.as_deref()), (error, description));
    }
    for echo in [TOKEN, "s3cret-of-ours"] {
        assert!(request().secrets().are_echoed_in(&format!("the value {echo} is wrong")));
    }
}

#[tokio::test]
async fn a_question_is_repeated_once_where_an_idle_connection_breaks_and_neither_grant_nor_assertion_is() {
    // D7
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let broken = Err(FailureKind::Transport.into());
    for (purpose, asserts, expected) in [
        (Purpose::Introspection, false, Ok(200)),
        // The issuer may have seen the assertion, and takes it once (RFC 7523, 3).
        (Purpose::Introspection, true, broken),
        (Purpose::Token, false, broken),
    ] {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        // Each connection answers once and closes on the second request.
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut chunk = [0; 8192];
                    let _ = stream.read(&mut chunk).await.unwrap();
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await.unwrap();
                    let _ = stream.read(&mut chunk).await.unwrap();
                });
            }
        });
        let all = endpoints();
        let endpoint = all.endpoint(purpose, "https://idp.example", &url, &options()).unwrap();
        for expected in [Ok(200), expected] {
            let mut request = request();
            if asserts {
                request.form().push("client_assertion", "a.b.c");
            }
            assert_eq!(endpoint.call(request, Whose::Edge, ok).await, expected, "{purpose:?} {asserts}");
        }
    }
}

#[tokio::test]
async fn a_refusal_of_our_credentials_is_an_alarm_without_them() {
    // I13, L1, L2
    let all = endpoints();
    let refused = |description: &str| {
        Reply::json(401, &serde_json::json!({"error": "invalid_client", "error_description": description}).to_string())
    };
    let long = "x".repeat(1000);
    for (number, (description, shown)) in [
        ("no such\nclient", "error_description=Some(\"no such\\nclient\")"),
        ("unknown secret s3cret-of-ours", "error_description=Some(\"[not shown: it repeats a secret]\")"),
        ("unknown token opaque-token", "error_description=Some(\"[not shown: it repeats a secret]\")"),
        (&*long, &*format!("error_description=Some(\"{}\")", "x".repeat(200))),
    ]
    .into_iter()
    .enumerate()
    {
        let log = Captured::start();
        let idp = Idp::start(refused(description)).await;
        let endpoint = endpoint(&all, &format!("{}?{number}", idp.url));
        for _ in 0..3 {
            assert_eq!(call(&endpoint).await, Err(FailureKind::Credentials.into()));
        }
        let text = log.text();
        let alarms: Vec<_> = text.lines().filter(|line| line.contains("ERROR")).collect();
        assert_eq!(alarms.len(), 1, "{text}");
        assert!(alarms[0].contains(shown) && alarms[0].contains("error=Some(\"invalid_client\")"), "{text}");
        assert!(!text.contains("s3cret-of-ours") && !text.contains(TOKEN), "{text}");
    }
}
