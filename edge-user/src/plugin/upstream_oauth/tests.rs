use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::*;
use crate::config::testing;
use crate::http::head::Version;
use crate::http_client::HttpClient;
use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, fields, parse};
use crate::state::State;
use crate::token::Now;
use crate::token::keys::KeySources;
use crate::token::source::FetchPolicy;

fn plugin(behavior: &str) -> Arc<UpstreamOauth> {
    let oauth = "{token_endpoint: 'https://idp.example/token', client_id: edge, client_secret: s}";
    match parse(NAME, &format!("{{oauth: {oauth}, behavior: {behavior}}}")) {
        Ok(Plugin::UpstreamOauth(plugin)) => plugin,
        Ok(_) => panic!("another plugin"),
        Err(problems) => panic!("{problems:?}"),
    }
}

fn sent(by: &Arc<UpstreamOauth>, token: &str) -> Sent {
    let token = Arc::new(UpstreamToken::new(token, Duration::from_secs(60), Now::read(), 0));
    Sent { by: Arc::clone(by), token }
}

// T43, P1
#[test]
fn the_token_takes_the_place_of_whatever_stood_there() {
    let (named, plain) = (plugin("{upstream_access_token_header_name: X-Up}"), plugin("{}"));
    for (plugin, before, after) in [
        (&plain, &[][..], &[("Authorization", "Bearer t")][..]),
        (
            &plain,
            &[("A", "1"), ("authorization", "Bearer theirs"), ("AUTHORIZATION", "Basic x"), ("B", "2")],
            &[("A", "1"), ("authorization", "Bearer t"), ("B", "2")],
        ),
        (
            &named,
            &[("x-up", "1"), ("X_Up", "2"), ("x.UP", "3"), ("X-Upper", "4"), ("Authorization", "Bearer theirs")],
            &[("X-Upper", "4"), ("Authorization", "Bearer theirs"), ("X-Up", "Bearer t")],
        ),
    ] {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in before {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        sent(plugin, "t").write(&mut head);
        let after: Vec<_> = after.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        assert_eq!(fields(&head), after);
        assert!(head.fields().any(|field| field.owner == Owner::Edge && field.value == b"Bearer t"));
    }
}

// U4: nothing passes without credentials, least of all with the client's own.
#[tokio::test]
async fn without_a_token_the_edge_answers() {
    let plugin = Plugin::UpstreamOauth(plugin("{idp_error_response_status_code: 599}"));
    let mut scene = Scene::new("GET", &[("Authorization", "Bearer theirs")]);
    let Access::Answer(Answer { status, reason, body: AnswerBody::Raw(body, content_type), fields }) =
        scene.access(&plugin).await
    else {
        panic!("another answer")
    };
    assert_eq!(
        (status, reason, content_type, fields.len()),
        (599, Reason::UpstreamTokenFailed, Some("application/json; charset=utf-8"), 0)
    );
    assert_eq!(&*body, br#"{ "code": "599", "message": "Failed to authenticate request to upstream" }"#);
    assert!(scene.notes.sent.is_none() && scene.notes.waited.is_some());
}

// U5
#[test]
fn statuses_refuse_a_token_as_configured() {
    for (behavior, status, refused) in [
        ("{}", 401, true),
        ("{}", 403, false),
        ("{purge_token_on_upstream_status_codes: [403, 503]}", 401, false),
        ("{purge_token_on_upstream_status_codes: [403, 503]}", 503, true),
        ("{purge_token_on_upstream_status_codes: []}", 401, false),
    ] {
        assert_eq!(sent(&plugin(behavior), "t").is_refused_by(status), refused, "{behavior} {status}");
    }
}

/// An instance whose issuer gives out `t`, counting how often.
fn live(calls: Arc<AtomicUsize>) -> Plugin {
    let listener = TcpListener::bind("127.0.0.1:0").expect("an address");
    let url = format!("http://{}/token", listener.local_addr().expect("an address"));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            calls.fetch_add(1, Ordering::SeqCst);
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let body = r#"{"access_token":"t","token_type":"Bearer","expires_in":3600}"#;
            let length = body.len();
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: application/json";
            let _ = write!(stream, "{head}\r\nContent-Length: {length}\r\n\r\n{body}");
        }
    });
    let http = HttpClient::new(&[]).expect("a client");
    let keys = KeySources::new(http, State::in_memory(), None, FetchPolicy::default());
    let env = PluginEnv::new(keys, Handle::current());
    let yaml = format!("{{oauth: {{token_endpoint: '{url}', client_id: edge, client_secret: s}}}}");
    let (plugin, problems, _) = testing::read("", &format!("{{c: {yaml}}}"), |config| {
        UpstreamOauth::parse(config.object("c").expect("an object"), &Place::default(), &env)
    });
    Plugin::UpstreamOauth(Arc::new(plugin.unwrap_or_else(|| panic!("{problems:?}"))))
}

// U2
#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_asked_for_once_and_sent_with_every_request() {
    let calls = Arc::new(AtomicUsize::new(0));
    let plugin = live(calls.clone());
    for waits in [true, false, false] {
        let mut scene = Scene::new("GET", &[("Authorization", "Bearer theirs")]);
        assert!(matches!(scene.access(&plugin).await, Access::Continue));
        assert_eq!(fields(&scene.head), [("Authorization".to_owned(), "Bearer t".to_owned())]);
        assert!(scene.notes.sent.is_some());
        assert_eq!(scene.notes.waited.is_some(), waits);
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
}

/// Prints what the access phase costs once the token is known:
/// `cargo nextest run --release --run-ignored only --no-capture cost_of_a_token_of_our_own`.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn cost_of_a_token_of_our_own() {
    const ROUNDS: u32 = 200_000;
    let plugin = live(Arc::default());
    let pad = "p".repeat(800);
    let fields = [("Host", "api.example"), ("User-Agent", "x"), ("Accept", "*/*"), ("Authorization", pad.as_str())];
    let mut scene = Scene::new("GET", &fields);
    let head = scene.head.clone();
    assert!(matches!(scene.access(&plugin).await, Access::Continue));
    let mut spent = Duration::ZERO;
    for _ in 0..ROUNDS {
        scene.head.clone_from(&head);
        let start = Instant::now();
        std::hint::black_box(plugin.access(&mut scene.request()).await);
        spent += start.elapsed();
    }
    println!("{:.0} ns", spent.as_nanos() as f64 / f64::from(ROUNDS));
}

#[test]
fn it_runs_in_its_place_and_for_whom_it_is() {
    let plugin = Plugin::UpstreamOauth(plugin("{}"));
    assert_eq!((plugin.name(), plugin.priority()), ("upstream-oauth", 760));
    assert!(plugin.may_be_for("consumer") && plugin.may_be_for("consumer_group"));
    assert!(!plugin.answers() && !plugin.logs() && plugin.credential_names().is_empty());
}
