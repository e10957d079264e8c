//! The penalty box in userspace: what it does where no kernel program drops anything (X1, X2). With one it is
//! `tests/kernel/penalty.rs`.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use edge_tests::edge::READY;
use edge_tests::mint::flip;
use edge_tests::wire::{Client, get};
use serde_json::{Value, json};

use super::{Guarded, with_token};

const RULES: &str = "distinct_tokens = 5\nttl = 2\nmax_ttl = 8\n";

fn start(mode: &str, more: &str) -> Guarded {
    let sections = format!("{more}[kernel]\nmode = \"off\"\n[kernel.penalty]\nmode = \"{mode}\"\n{RULES}");
    Guarded::with(json!({}), |setup| setup.section(&sections))
}

fn source(last: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 7, last))
}

/// A token with a signature of its own that is wrong.
fn bad(good: &Guarded, number: i64) -> String {
    let claims = edge_tests::mint::with(good.claims(), json!({"n": number}));
    flip(&good.key.token(&claims))
}

/// Sends so many different bad tokens from here, over one connection, or as many as it takes to have that closed. The
/// penalty is in force when this returns.
fn offend(good: &Guarded, from: IpAddr, count: i64) -> Client {
    let mark = good.edge.errors().mark();
    let mut client = Client::connect_from(from, good.edge.address()).unwrap();
    for number in 0..count {
        let answer = client.ask(with_token(&bad(good, number)));
        assert_eq!(answer.status(), 401);
        if answer.says_close() {
            break;
        }
    }
    good.edge.logged_after(mark, "a penalty");
    client
}

/// Whether a connection from here is answered at all.
fn is_served(good: &Guarded, from: IpAddr) -> bool {
    let Ok(mut client) = Client::connect_from(from, good.edge.address()) else { return false };
    let sent = client.try_send(with_token(&good.token()));
    sent.is_ok() && client.try_response("GET").is_ok_and(|answer| answer.status() == 200)
}

#[track_caller]
fn becomes(good: &Guarded, from: IpAddr, expected: bool) {
    let end = Instant::now() + READY;
    while is_served(good, from) != expected {
        assert!(Instant::now() < end, "{from}: served is not {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn why(good: &Guarded, subject: &str) -> Value {
    let output = good.edge.command(&["why", subject, "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn many_bad_tokens_cost_the_source_its_connections_for_a_while() {
    // X1, X2
    let good = start("enforce", "");
    let (offender, neighbour) = (source(2), source(3));
    let mut open = offend(&good, offender, 5);
    becomes(&good, offender, false);
    assert!(is_served(&good, neighbour));

    // What it has open still judges tokens, and ends with its next 401.
    assert_eq!(open.ask(with_token(&good.token())).status(), 200);
    let last = open.ask(with_token(&bad(&good, 99)));
    assert_eq!((last.status(), last.field("connection")), (401, Some("close")));
    assert!(open.closes());

    let line = good.edge.logged("the source gets a penalty");
    for part in ["source=127.0.7.2", "reason=\"signature_invalid\"", "bad=5", "distinct_tokens=5", "offence=1"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    let found = why(&good, "127.0.7.2");
    assert_eq!(found["verdicts"][0]["verdict"], "penalized");
    assert_eq!(found["refusals"][0]["reason"], "signature_invalid");
    assert!(good.edge.metric("edge_penalty_refusals_total{mode=\"enforce\",what=\"connection\"}") >= 1.0);
    assert_eq!(good.edge.metric("edge_penalty_sources{state=\"penalized\"}"), 1.0);

    // X2: it ends.
    becomes(&good, offender, true);
    // And the next one takes twice as long; the good token of just now does not help.
    drop(offend(&good, offender, 60));
    becomes(&good, offender, false);
    let again = Instant::now();
    becomes(&good, offender, true);
    assert!(again.elapsed() > Duration::from_secs(3), "{:?}", again.elapsed());
}

#[test]
fn observing_refuses_nobody_and_says_what_would_be() {
    let good = start("observe", "");
    let mut open = offend(&good, source(2), 5);
    good.edge.logged("the source would get a penalty");
    assert!(is_served(&good, source(2)));
    let last = open.ask(with_token(&bad(&good, 99)));
    assert_eq!((last.status(), last.field("connection")), (401, None));
    assert_eq!(why(&good, "127.0.7.2")["verdicts"][0]["verdict"], "would_penalize");
    assert!(good.edge.metric("edge_penalty_refusals_total{mode=\"observe\",what=\"connection\"}") >= 1.0);
}

#[test]
fn few_or_equal_tokens_and_those_that_time_made_bad_cost_nothing() {
    let good = start("enforce", "");
    // One bad token over and over, as from a client that was set up wrongly.
    let mut client = Client::connect_from(source(2), good.edge.address()).unwrap();
    let same = bad(&good, 1);
    for _ in 0..40 {
        assert_eq!(client.ask(with_token(&same)).status(), 401);
    }
    // Expired ones, of somebody whose clock or renewal is broken.
    let mut client = Client::connect_from(source(3), good.edge.address()).unwrap();
    for number in 0..40 {
        let claims = edge_tests::mint::with(good.claims(), json!({"exp": edge_tests::mint::now() - 900, "n": number}));
        assert_eq!(client.ask(with_token(&good.key.token(&claims))).status(), 401);
    }
    // Many good clients and a bad one behind one address.
    let mut client = Client::connect_from(source(4), good.edge.address()).unwrap();
    assert_eq!(client.ask(with_token(&bad(&good, 0))).status(), 401);
    let end = Instant::now() + READY;
    while why(&good, "127.0.7.4")["verdicts"].as_array().unwrap().is_empty() {
        assert!(Instant::now() < end, "a bad token is not counted");
    }
    for number in 1..20 {
        assert_eq!(client.ask(with_token(&good.token())).status(), 200);
        assert_eq!(client.ask(with_token(&bad(&good, number))).status(), 401);
    }
    // Counts go to the judge twenty times a second.
    std::thread::sleep(Duration::from_millis(300));
    for last in [2, 3, 4] {
        assert!(is_served(&good, source(last)), "{last}");
    }
    assert_eq!(good.edge.metric("edge_penalties_total{mode=\"enforce\"}"), 0.0);
    assert_eq!(why(&good, "127.0.7.3")["verdicts"], json!([]));
    assert_eq!(why(&good, "127.0.7.2")["verdicts"][0]["verdict"], "counted");
}

/// Whom a trusted proxy names is judged, and refused at its requests; the proxy and its other clients are not.
#[test]
fn behind_a_trusted_proxy_the_client_is_judged() {
    let good = start("enforce", "[proxy]\ntrusted_ips = [\"127.0.7.2\"]\nreal_ip_header = \"X-Forwarded-For\"\n");
    let mut proxy = Client::connect_from(source(2), good.edge.address()).unwrap();
    let by = |client: &str, token: &str| {
        get("/orders", &[&format!("Authorization: Bearer {token}"), &format!("X-Forwarded-For: {client}")])
    };
    for number in 0..5 {
        assert_eq!(proxy.ask(by("203.0.113.9", &bad(&good, number))).status(), 401);
    }
    good.edge.logged("the source gets a penalty");
    let answer = proxy.ask(by("203.0.113.9", &good.token()));
    assert_eq!((answer.status(), answer.field("connection")), (429, None));
    assert!(answer.field("retry-after").unwrap().parse::<u64>().unwrap() <= 2);
    assert_eq!(good.edge.reason_of(&answer), "source_penalized");
    assert_eq!(proxy.ask(by("203.0.113.10", &good.token())).status(), 200);
    // Bad tokens of its own count for nothing: it cannot enter.
    for number in 0..10 {
        assert_eq!(proxy.ask(with_token(&bad(&good, number))).status(), 401);
    }
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(proxy.ask(with_token(&good.token())).status(), 200);
    assert!(is_served(&good, source(2)));
    assert_eq!(good.edge.metric("edge_penalties_total{mode=\"enforce\"}"), 1.0);
}

#[test]
fn an_operator_forgives_and_sees_why() {
    let good = start("enforce", "");
    let refused = good.edge.ask(with_token(&bad(&good, 0)));
    let id = refused.field("x-kong-request-id").unwrap();
    let found = why(&good, id);
    assert_eq!((&found["address"], &found["refusals"][0]["route"]), (&json!("127.0.0.1"), &json!("all")));
    let text = good.edge.command(&["why", id]);
    let text = String::from_utf8_lossy(&text.stdout).into_owned();
    assert!(text.contains(&format!("refused      {id} of 127.0.0.1")) && text.contains("signature_invalid"), "{text}");
    let unknown = good.edge.command(&["why", "ffffffffffffffffffffffffffffffff"]);
    assert_eq!(unknown.status.code(), Some(1));

    drop(offend(&good, source(2), 5));
    becomes(&good, source(2), false);
    let forgiven = good.edge.command(&["kernel", "forgive", "127.0.7.2"]);
    assert_eq!(String::from_utf8_lossy(&forgiven.stdout), "127.0.7.2 may connect again\n");
    assert!(is_served(&good, source(2)));
    let again = good.edge.command(&["kernel", "forgive", "127.0.7.2"]);
    assert_eq!(String::from_utf8_lossy(&again.stdout), "nothing was held against 127.0.7.2\n");
    let status = good.edge.command(&["kernel", "status"]);
    let status = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(status.starts_with("mode         off, penalties: enforce\nprograms     none"), "{status}");
}

/// HTTP/2 has no `Connection`: the connection is told to end (RFC 9113, 6.8).
#[test]
fn an_open_http2_connection_is_told_to_go() {
    let good = start("enforce", "");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((source(2), 0).into()).unwrap();
        let tcp = socket.connect(good.edge.address()).await.unwrap();
        let (mut send, connection) = h2::client::handshake(tcp).await.unwrap();
        let ended = tokio::spawn(connection);
        let mut ask = async |token: String| {
            let request = http::Request::get(format!("http://{}/orders", good.edge.address()));
            let request = request.header("authorization", format!("Bearer {token}")).body(()).unwrap();
            let ready = std::future::poll_fn(|cx| send.poll_ready(cx)).await;
            ready?;
            let (answer, _) = send.send_request(request, true)?;
            Ok::<_, h2::Error>(answer.await?.status())
        };
        for number in 0..5 {
            assert_eq!(ask(bad(&good, number)).await.unwrap(), 401);
        }
        let is_penalized = || good.edge.metric("edge_penalty_sources{state=\"penalized\"}") == 1.0;
        let end = Instant::now() + READY;
        while !is_penalized() {
            assert!(Instant::now() < end, "no penalty");
        }
        assert_eq!(ask(good.token()).await.unwrap(), 200);
        assert_eq!(ask(bad(&good, 99)).await.unwrap(), 401);
        drop(send);
        tokio::time::timeout(READY, ended).await.expect("the connection did not end").unwrap().unwrap();
    });
}
