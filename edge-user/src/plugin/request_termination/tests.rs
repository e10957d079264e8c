use super::*;
use crate::http::h1::parse::Framing;
use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, parse};

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).expect("good settings")
}

/// Status, body and its type; nothing where the request goes on. A message is shown in quotes.
async fn answer(scene: &mut Scene, yaml: &str) -> Option<(u16, String, Option<String>)> {
    match scene.access(&plugin(yaml)).await {
        Access::Answer(Answer { status, body, reason, fields }) => {
            assert!(reason == Reason::RequestTerminated && fields.is_empty());
            Some(match body {
                AnswerBody::Message(message) => (status, format!("{message:?}"), None),
                AnswerBody::Raw(body, kind) => (status, text(&body), kind.map(str::to_owned)),
                AnswerBody::Error(_) => panic!("an error in place of an exit"),
            })
        }
        Access::Continue => None,
        Access::Refuse(_) => panic!("a refusal"),
    }
}

#[tokio::test]
async fn each_setting_makes_its_answer() {
    for (yaml, status, body, kind) in [
        ("{}", 503, "\"Service unavailable\"", None),
        ("status_code: 401", 401, "\"Unauthorized\"", None),
        ("status_code: 404", 404, "\"Not found\"", None),
        ("status_code: 405", 405, "\"Method not allowed\"", None),
        ("status_code: 500", 500, "\"An unexpected error occurred\"", None),
        ("status_code: 502", 502, "\"Bad Gateway\"", None),
        ("status_code: 403", 403, "", None),
        ("status_code: 204", 204, "", None),
        ("{status_code: 403, message: 'So long'}", 403, "\"So long\"", None),
        ("{message: '', status_code: 200}", 200, "", None),
        ("{status_code: 200, body: '<p>'}", 200, "<p>", None),
        ("{body: '<p>', content_type: text/html}", 503, "<p>", Some("text/html")),
        ("{body: 'x', message: ''}", 503, "x", None),
    ] {
        let expected = (status, body.to_owned(), kind.map(str::to_owned));
        assert_eq!(answer(&mut Scene::new("GET", &[]), yaml).await, Some(expected), "{yaml}");
    }
}

#[tokio::test]
async fn a_trigger_is_a_field_or_an_argument() {
    for (fields, query, ends) in [
        (&[][..], "a=1", false),
        (&[("x-stop", "")], "a=1", true),
        (&[("X-Stopped", "1")], "a=1", false),
        (&[], "a=1&X-Stop", true),
        (&[], "X%2dStop=no", true),
        (&[], "x-stop=1", false),
        (&[], "a=X-Stop", false),
    ] {
        let mut scene = Scene::new("GET", fields);
        scene.query = Some(query.into());
        assert_eq!(answer(&mut scene, "trigger: X-Stop").await.is_some(), ends, "{fields:?} {query}");
        scene.query = None;
        assert_eq!(answer(&mut scene, "trigger: X-Stop").await.is_some(), ends && query == "a=1");
    }
}

async fn echoed(scene: &mut Scene, yaml: &str) -> Value {
    let (status, body, kind) = answer(scene, yaml).await.expect("an answer");
    assert_eq!((status, kind.as_deref()), (200, Some(JSON)));
    serde_json::from_str(&body).expect("JSON")
}

#[tokio::test]
async fn an_echo_describes_what_the_client_sent() {
    let sent = [("Host", "api.example"), ("X-A", "1"), ("x-a", "2"), ("Content-Type", "application/json; charset=x")];
    let mut scene = Scene::new("POST", &sent);
    scene.head.push(Owner::Edge, b"Authorization", b"Bearer of the edge");
    scene.query = Some("a=1&b&a=%32&c=".into());
    (scene.body.bytes, scene.body.framing) = (b"{\"n\": 1}".to_vec(), Framing::Length(8));
    let mut echo = echoed(&mut scene, "{echo: true, status_code: 200, message: Hi}").await;
    let kong = echo["kong"].take();
    assert_eq!(kong["worker_pid"], std::process::id());
    assert!(
        kong["node_id"].as_str().is_some_and(|id| uuid::Uuid::try_parse(id).is_ok()) && kong["hostname"].is_string()
    );
    let expected = json!({
        "message": "Hi",
        "kong": null,
        "request": {
            "scheme": "http", "host": "api.example", "port": 8000, "method": "POST", "path": "/path",
            "headers": {"host": "api.example", "x-a": ["1", "2"], "content-type": "application/json; charset=x"},
            "query": {"a": ["1", "2"], "b": true, "c": ""},
            "body": {"n": 1}, "raw_body": "{\"n\": 1}",
            "uri_captures": {"named": {}, "unnamed": []},
        },
        "matched_route": {"id": "00000000-0000-0000-0000-000000000001", "name": "route"},
    });
    assert_eq!(echo, expected);
}

#[tokio::test]
async fn an_echo_repeats_bodies_within_bounds() {
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    for (fields, length, has_raw, body) in [
        (&form[..], 3, true, json!({"xxx": true})),
        (&[("Content-Type", "application/json")], 3, true, Value::Null),
        (&[], ECHO_BYTES, true, Value::Null),
        (&[], ECHO_BYTES + 1, false, Value::Null),
    ] {
        let mut scene = Scene::new("POST", fields);
        (scene.body.bytes, scene.body.framing) = (vec![b'x'; length], Framing::Length(length as u64));
        let echo = echoed(&mut scene, "{echo: true, status_code: 200}").await;
        assert_eq!((echo["request"]["raw_body"].is_string(), &echo["request"]["body"]), (has_raw, &body));
        assert!(echo.get("message").is_none());
    }
}

#[test]
fn settings_are_judged() {
    for (yaml, part) in [
        ("status_code: 99", "an integer between 100 and 599"),
        ("status_code: 600", "an integer between 100 and 599"),
        ("status_code: 100", "an interim response is no answer"),
        ("{message: a, body: b}", "message cannot be used with content_type or body"),
        ("{message: a, content_type: b}", "message cannot be used with content_type or body"),
        ("content_type: text/html", "content_type requires a body"),
        ("{content_type: text/html, body: ''}", "content_type requires a body"),
        ("{echo: true, body: x}", "echo cannot be used with content_type and body"),
        ("{body: x, content_type: \"a\\nb\"}", "a media type"),
        ("trigger: 'a b'", "bad header name 'a b', allowed characters are A-Z, a-z, 0-9, '_', and '-'"),
        ("triggers: a", "`trigger`"),
    ] {
        let problems = parse(NAME, yaml).err().expect("a problem");
        assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
    }
}
