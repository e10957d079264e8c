use std::time::Duration;

use super::*;
use crate::http::head::Version;
use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, fields, parse};
use crate::token::Now;

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

#[test]
fn it_runs_in_its_place_and_for_whom_it_is() {
    let plugin = Plugin::UpstreamOauth(plugin("{}"));
    assert_eq!((plugin.name(), plugin.priority()), ("upstream-oauth", 760));
    assert!(plugin.may_be_for("consumer") && plugin.may_be_for("consumer_group"));
    assert!(!plugin.answers() && !plugin.logs() && plugin.credential_names().is_empty());
}
