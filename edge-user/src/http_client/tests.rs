use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

#[test]
fn clear_text_needs_loopback_or_a_name() {
    // K1
    let client = HttpClient::new(&["Idp.internal".to_owned()]).expect("a client");
    for (url, good) in [
        ("https://idp.example.com/jwks", true),
        ("http://127.0.0.1:8080/jwks", true),
        ("http://127.8.9.1/", true),
        ("http://[::1]:1/", true),
        ("http://localhost/", true),
        ("http://idp.internal/", true),
        ("http://IDP.internal:8080/", true),
        ("http://idp.example.com/", false),
        ("http://localhost.example.com/", false),
        ("http://x.idp.internal/", false),
        ("http://10.0.0.1/", false),
        ("ftp://127.0.0.1/", false),
        ("file:///etc/passwd", false),
        ("idp.example.com", false),
        ("", false),
    ] {
        assert_eq!(client.check(url).is_ok(), good, "{url}");
    }
}

/// Answers every connection with these bytes.
async fn serve(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(&answer).await;
            if answer.is_empty() {
                std::future::pending::<()>().await;
            }
        }
    });
    url
}

#[tokio::test]
async fn answers_are_bounded_and_redirects_not_followed() {
    // K1, K8
    let client = HttpClient::new(&[]).expect("a client");
    let target = serve(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec()).await;
    let options = Options { timeout: Duration::from_millis(500), ..Options::default() };
    assert_eq!(client.get(&target, &options, 10).await.expect("an answer"), b"{}");
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n");
    let endless =
        [&b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"[..], &b"5\r\naaaaa\r\n".repeat(10)].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("Status(302)", redirect.into_bytes()),
        ("Status(500)", b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("TooLarge(10)", b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n".to_vec()),
        ("TooLarge(10)", endless),
        ("Transport", Vec::new()),
        ("Transport", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{}".to_vec()),
    ];
    for (expected, answer) in cases {
        let error = client.get(&serve(answer).await, &options, 10).await.expect_err("a failure");
        assert!(format!("{error:?}").starts_with(expected), "{expected}: {error:?}");
    }
}
