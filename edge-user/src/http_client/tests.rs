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
        ("https://user:secret@idp.example.com/jwks", false),
        ("https://user@idp.example.com/jwks", false),
    ] {
        assert_eq!(client.check(url).is_ok(), good, "{url}");
    }
    // L1
    let error = client.check("https://user:secret@idp.example.com/jwks").expect_err("credentials").to_string();
    assert!(!error.contains("secret"), "{error}");
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

/// Answers one connection after another with these bytes and gives what it was sent.
async fn record(answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<(usize, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (tell, told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        for connection in 0.. {
            let Ok((mut stream, _)) = listener.accept().await else { return };
            let tell = tell.clone();
            tokio::spawn(async move {
                let mut chunk = [0; 8192];
                while let Ok(read @ 1..) = stream.read(&mut chunk).await {
                    tell.send((connection, String::from_utf8_lossy(&chunk[..read]).into_owned())).unwrap();
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
            });
        }
    });
    (url, told)
}

const TEAPOT: &str =
    "HTTP/1.1 418 X\r\nContent-Type: Text/JSON; charset=utf-8\r\nX-A: b\r\nContent-Length: 2\r\n\r\nno";

fn call(url: &str, method: Method) -> Call<'_> {
    Call { method, url, accept: "text/plain", headers: HeaderMap::new(), limit: 10 }
}

#[tokio::test]
async fn a_call_sends_what_it_is_told_and_judges_no_status() {
    let (url, mut told) = record(TEAPOT).await;
    let headers = vec![("x-tenant".to_owned(), "a".to_owned()), ("x-other".to_owned(), "b".to_owned())];
    let session = HttpClient::new(&[]).unwrap().session(&Options { headers, ..Options::default() }).unwrap();
    let mut form = call(&url, Method::PostForm("a=1&b=%26".into()));
    form.headers.insert("x-tenant", HeaderValue::from_static("c"));
    let answer = session.call(form).await.unwrap();
    assert_eq!((answer.status, &*answer.body, &*answer.content_type()), (418, &b"no"[..], "text/json"));
    assert_eq!(answer.headers["x-a"], "b");
    let (_, sent) = told.recv().await.unwrap();
    let host = url.strip_prefix("http://").unwrap();
    let expected = format!(
        "POST / HTTP/1.1\r\naccept: text/plain\r\nx-other: b\r\nx-tenant: c\r\n\
         content-type: application/x-www-form-urlencoded\r\nhost: {host}\r\ncontent-length: 9\r\n\r\na=1&b=%26"
    );
    assert_eq!(sent, expected);
    session.call(call(&url, Method::Get)).await.unwrap();
    let (connection, sent) = told.recv().await.unwrap();
    assert!(sent.starts_with("GET / HTTP/1.1\r\n"), "{sent}");
    assert_eq!(connection, 0, "kept");
}

#[tokio::test]
async fn keepalive_and_version_are_as_configured() {
    let (url, mut told) = record(TEAPOT).await;
    let http = HttpClient::new(&[]).unwrap();
    let once = http.session(&Options { keepalive: false, ..Options::default() }).unwrap();
    let old = http.session(&Options { http_version: HttpVersion::Http10, ..Options::default() }).unwrap();
    for (session, line, close) in
        [(&once, "GET / HTTP/1.1\r\n", true), (&once, "GET / HTTP/1.1\r\n", true), (&old, "GET / HTTP/1.0\r\n", false)]
    {
        session.call(call(&url, Method::Get)).await.unwrap();
        let (_, sent) = told.recv().await.unwrap();
        assert!(sent.starts_with(line), "{sent}");
        assert_eq!(sent.contains("connection: close\r\n"), close, "{sent}");
    }
    once.call(call(&url, Method::Get)).await.unwrap();
    assert_eq!(told.recv().await.unwrap().0, 3, "another connection each time");
}

#[tokio::test]
async fn proxies_are_asked_in_place_of_the_issuer_unless_it_is_listed() {
    let (proxy, mut told) = record(TEAPOT).await;
    let http = HttpClient::new(&["idp.invalid".to_owned()]).unwrap();
    let via = Proxy { url: proxy.clone().into(), authorization: Some("Basic c2VjcmV0".into()) };
    let proxies =
        Proxies { http: Some(via.clone()), https: Some(via), bypass: Some("127.0.0.1, direct.invalid".into()) };
    let options = Options { proxies, ..Options::default() };
    let session = http.session(&options).unwrap();
    assert_eq!(session.call(call("http://idp.invalid/x", Method::Get)).await.unwrap().status, 418);
    let (_, sent) = told.recv().await.unwrap();
    assert!(sent.starts_with("GET http://idp.invalid/x HTTP/1.1\r\n"), "{sent}");
    assert!(sent.contains("proxy-authorization: Basic c2VjcmV0\r\n"), "{sent}");
    // The proxy refuses the tunnel.
    assert!(session.call(call("https://idp.invalid/x", Method::Get)).await.is_err());
    let (_, sent) = told.recv().await.unwrap();
    assert!(sent.starts_with("CONNECT idp.invalid:443 HTTP/1.1\r\n"), "{sent}");
    let (direct, mut direct_told) = record(TEAPOT).await;
    session.call(call(&direct, Method::Get)).await.unwrap();
    assert!(direct_told.recv().await.unwrap().1.starts_with("GET / HTTP/1.1"));
}

#[tokio::test]
async fn equal_options_share_connections_while_they_are_in_use() {
    let http = HttpClient::new(&[]).unwrap();
    let session = |options: &Options| http.session(options).unwrap();
    let base = session(&Options::default());
    let slow = session(&Options { timeout: Duration::from_secs(1), ..Options::default() });
    assert!(Arc::ptr_eq(&base.client, &slow.client), "time and headers are a call's own");
    let once = Options { keepalive: false, ..Options::default() };
    let first = session(&once);
    assert!(!Arc::ptr_eq(&base.client, &first.client));
    assert!(Arc::ptr_eq(&first.client, &session(&once).client));
    drop(first);
    session(&Options { ssl_verify: false, ..Options::default() });
    assert_eq!(http.0.made.lock().unwrap().iter().filter(|(_, client)| client.strong_count() > 0).count(), 1);
}

#[test]
fn options_are_read_and_what_is_wrong_is_named() {
    let read = |yaml: &str| {
        let (options, problems, _) = crate::config::testing::read("", yaml, Options::read);
        (options, problems)
    };
    assert_eq!(read("{}"), (Options::default(), vec![]));
    let (all, problems) = read(
        "{timeout: 500, ssl_verify: false, keepalive: false, http_version: 1.0, http_proxy: 'http://p:1', http_proxy_authorization: hunter22, https_proxy: 'https://u:hunter33@p:2', no_proxy: 'a,b'}",
    );
    assert_eq!(problems, [""; 0]);
    let https = Proxy { url: "https://u:hunter33@p:2".into(), authorization: None };
    let proxies = Proxies {
        http: Some(Proxy { url: "http://p:1".into(), authorization: Some("hunter22".into()) }),
        https: Some(https),
        bypass: Some("a,b".into()),
    };
    let expected = Options {
        timeout: Duration::from_millis(500),
        ssl_verify: false,
        headers: vec![],
        keepalive: false,
        http_version: HttpVersion::Http10,
        proxies,
        identity: None,
    };
    assert_eq!(all, expected);
    assert!(!format!("{all:?}").contains("hunter"), "{all:?}");
    for (yaml, expected) in [
        ("timeout: 0", "timeout: found 0, expected an integer between 1 and 600000"),
        ("http_version: 1.05", "http_version: found 1.05, expected 1.0 or 1.1"),
        ("http_version: 2", "http_version: found 2, expected a number between 1 and 1.1"),
        ("http_proxy: p", "http_proxy: found \"p\", expected an http or https URL"),
        ("http_proxy: 'socks5://p'", "http_proxy: found \"socks5://p\", expected an http or https URL"),
        (
            "https_proxy_authorization: hunter22",
            "https_proxy_authorization: found no proxy to send it to, expected `https_proxy` beside it",
        ),
        ("keepalive: 1", "keepalive: found 1, expected a boolean"),
    ] {
        assert_eq!(read(yaml).1, [format!("k:1: {expected}")]);
    }
}

#[test]
fn the_digest_changes_with_every_option_and_debug_shows_no_secret() {
    // L1
    let base = Options::default();
    let headers = |value: &str| Options { headers: vec![("x-a".into(), value.into())], ..base.clone() };
    let proxied = |url: &str, authorization: Option<&str>| {
        let proxy = Proxy { url: url.into(), authorization: authorization.map(Box::from) };
        Options { proxies: Proxies { http: Some(proxy), ..Proxies::default() }, ..base.clone() }
    };
    let all = [
        base.clone(),
        Options { timeout: Duration::from_secs(1), ..base.clone() },
        Options { ssl_verify: false, ..base.clone() },
        Options { keepalive: false, ..base.clone() },
        Options { http_version: HttpVersion::Http10, ..base.clone() },
        headers("hunter1"),
        headers("hunter2"),
        proxied("http://p", None),
        proxied("http://q", None),
        proxied("http://q", Some("hunter3")),
    ];
    for (at, one) in all.iter().enumerate() {
        assert!(all[at + 1..].iter().all(|other| other.digest() != one.digest() && other != one), "{one:?}");
        assert_eq!(one.digest(), one.clone().digest());
        assert!(!format!("{one:?}").contains("hunter"), "{one:?}");
    }
}

#[tokio::test]
async fn the_certificate_is_shown_and_http_2_offered_over_tls() {
    use rustls::server::WebPkiClientVerifier;
    use rustls::sign::CertifiedKey;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(["edge".to_owned()]).unwrap().self_signed(&key).unwrap();
    let der = || rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let provider = crate::crypto::tls_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone()).build().unwrap();
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![certificate.der().clone()], der())
        .unwrap();
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(server));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}/", listener.local_addr().unwrap());
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                tell.send(None).unwrap();
                continue;
            };
            tell.send(stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec)).unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(TEAPOT.as_bytes()).await;
        }
    });
    let pair = CertifiedKey::from_der(vec![certificate.der().clone()], der(), &provider).unwrap();
    let identity = Some(Identity(Arc::new(pair)));
    let trusting = Options { ssl_verify: false, ..Options::default() };
    let with = Options { identity: identity.clone(), ..trusting.clone() };
    let once = Options { keepalive: false, ..with.clone() };
    let http = HttpClient::new(&[]).unwrap();
    let answer = http.session(&once).unwrap().call(call(&url, Method::Get)).await.unwrap();
    assert_eq!((answer.status, told.recv().await.unwrap()), (418, Some(b"http/1.1".to_vec())));
    // That server speaks no HTTP/2; here only the offer counts.
    assert!(http.session(&with).unwrap().call(call(&url, Method::Get)).await.is_err());
    assert_eq!(told.recv().await.unwrap(), Some(b"h2".to_vec()));
    for refused in [trusting, Options { identity, ..Options::default() }] {
        assert!(http.session(&refused).unwrap().call(call(&url, Method::Get)).await.is_err());
        assert_eq!(told.recv().await.unwrap(), None, "no certificate, or one of the server's that leads nowhere");
    }
}
