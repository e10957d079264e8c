use super::*;
use crate::http::h1::parse::Framing;
use crate::plugin::testing::{Bytes, Scene, fields, parse};
use crate::plugin::{Access, Plugin};

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).unwrap_or_else(|problems| panic!("{yaml}: {problems:?}"))
}

/// What a request has become.
#[derive(Debug, PartialEq)]
struct Became {
    method: String,
    fields: String,
    query: Option<String>,
    body: String,
    path: Option<String>,
    host: Option<String>,
}

async fn run(yaml: &str, scene: &mut Scene) -> Result<Became, u16> {
    let plugin = plugin(yaml);
    let mut request = scene.request();
    let access = plugin.access(&mut request).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let query = request.query.as_deref().map(text);
    if let Access::Answer(answer) = access {
        return Err(answer.status);
    }
    let fields: Vec<String> = fields(&scene.head).into_iter().map(|(name, value)| format!("{name}={value}")).collect();
    Ok(Became {
        method: text(scene.head.method()),
        fields: fields.join(" "),
        query,
        body: text(&scene.body.bytes),
        path: scene.notes.upstream_path.as_deref().map(text),
        host: scene.notes.upstream_host.as_deref().map(text),
    })
}

#[tokio::test]
async fn fields_change_in_the_order_of_the_groups() {
    const FIELDS: &[(&str, &str)] = &[("Host", "h"), ("A", "1"), ("a", "2"), ("B", "3")];
    for (yaml, expected) in [
        ("{}", "Host=h A=1 a=2 B=3"),
        ("remove: {headers: [a, none, 'B:value']}", "Host=h"),
        ("remove: {headers: [Host]}", "Host=h A=1 a=2 B=3"),
        ("rename: {headers: ['A:c']}", "Host=h B=3 c=1 c=2"),
        ("rename: {headers: ['a:B']}", "Host=h B=1 B=2"),
        ("rename: {headers: ['b:BB', 'none:A']}", "Host=h A=1 a=2 BB=3"),
        ("rename: {headers: ['b:b']}", "Host=h A=1 a=2 b=3"),
        ("replace: {headers: ['a:x:y z', 'none:1']}", "Host=h B=3 a=x:y z"),
        ("add: {headers: ['a:x', 'C-d:: x ']}", "Host=h A=1 a=2 B=3 C-d=x"),
        ("add: {headers: ['host:x']}", "Host=h A=1 a=2 B=3"),
        ("append: {headers: ['a:3', 'c:1']}", "Host=h A=1 a=2 B=3 a=3 c=1"),
        // An empty value is no value.
        ("replace: {headers: ['a:']}", "Host=h A=1 a=2 B=3"),
        ("add: {headers: ['c:$(headers.none)']}", "Host=h A=1 a=2 B=3"),
        // Removed, so there is none to replace, and one to add.
        ("{remove: {headers: [a]}, replace: {headers: ['a:x']}, add: {headers: ['a:y']}}", "Host=h B=3 a=y"),
        // Templates see what came.
        ("{remove: {headers: [b]}, add: {headers: ['c:$(headers.b)', 'd:<$(headers.c)>']}}", "Host=h A=1 a=2 c=3 d=<>"),
    ] {
        let became = run(yaml, &mut Scene::new("GET", FIELDS)).await.unwrap();
        assert_eq!((became.fields.as_str(), became.query.as_deref()), (expected, Some("a=1")), "{yaml}");
    }
}

#[tokio::test]
async fn host_is_replaced_and_nothing_else() {
    let run_host = async |yaml: &str| run(yaml, &mut Scene::new("GET", &[("X", "up.example:8443")])).await;
    let became = run_host("replace: {headers: ['Host:$(headers.x)']}").await.unwrap();
    assert_eq!(became.host.as_deref(), Some("up.example:8443"));
    assert_eq!(run_host("replace: {headers: ['host:a/$(headers.x)']}").await, Err(400));
}

#[tokio::test]
async fn arguments_change() {
    for (yaml, expected) in [
        ("{remove: {querystring: [a]}}", Some("")),
        ("{rename: {querystring: ['a:b']}}", Some("b=1")),
        ("{replace: {querystring: ['a:x y', 'b:2']}}", Some("a=x%20y")),
        ("{add: {querystring: ['a:2', 'b:$(query_params.a)$(headers.x)']}}", Some("a=1&b=1h")),
        ("{append: {querystring: ['a:2']}}", Some("a=1&a=2")),
        ("{remove: {querystring: [a]}, add: {querystring: ['a:2']}}", Some("a=2")),
    ] {
        let became = run(yaml, &mut Scene::new("GET", &[("X", "h")])).await.unwrap();
        assert_eq!(became.query.as_deref(), expected, "{yaml}");
    }
    let mut scene = Scene::new("GET", &[]);
    scene.query = None;
    assert_eq!(run("{remove: {querystring: [a]}}", &mut scene).await.unwrap().query, None);
    assert_eq!(run("{add: {querystring: ['a:1']}}", &mut scene).await.unwrap().query.as_deref(), Some("a=1"));
}

#[tokio::test]
async fn bodies_change_by_their_type() {
    const JSON: &str = "application/json; charset=utf-8";
    const FORM: &str = "application/x-www-form-urlencoded";
    for (kind, body, yaml, expected) in [
        (JSON, r#"{"a":1,"b":[2]}"#, "remove: {body: [a]}", r#"{"b":[2]}"#),
        (JSON, r#"{"a":1.50,"b":2}"#, "rename: {body: ['a:c']}", r#"{"c":1.50,"b":2}"#),
        (JSON, r#"{"a":null,"b":false}"#, "replace: {body: ['a:x', 'b:y', 'c:z']}", r#"{"a":"x","b":"y"}"#),
        (JSON, r#"{"a":1}"#, "add: {body: ['a:x', 'b:1']}", r#"{"a":1,"b":"1"}"#),
        (
            JSON,
            r#"{"a":"1","b":[1]}"#,
            "append: {body: ['a:2', 'b:2', 'c:3']}",
            r#"{"a":["1","2"],"b":[1,"2"],"c":["3"]}"#,
        ),
        (JSON, "", "add: {body: ['a:x']}", r#"{"a":"x"}"#),
        (JSON, "", "remove: {body: [a]}", ""),
        (JSON, "[1] ", "add: {body: ['a:x']}", "[1] "),
        (JSON, r#"{"a": 1"#, "remove: {body: [a]}", r#"{"a": 1"#),
        (JSON, r#"{ "a": 1 }"#, "remove: {headers: [x]}", r#"{ "a": 1 }"#),
        (FORM, "a=1&b=2", "{remove: {body: [a]}, add: {body: ['c:$(query_params.a)']}}", "b=2&c=1"),
        (FORM, "", "add: {body: ['c:d']}", "c=d"),
        ("text/plain", "a=1", "remove: {body: [a]}", "a=1"),
        (
            "multipart/form-data; boundary=b",
            "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--",
            "{remove: {body: [c]}, rename: {body: ['a:c']}}",
            "--b--",
        ),
        ("multipart/form-data", "--b--", "remove: {body: [c]}", "--b--"),
    ] {
        let mut scene = Scene::new("POST", &[("Content-Type", kind)]);
        scene.body = Bytes { framing: Framing::Length(body.len() as u64), bytes: body.into() };
        let became = run(yaml, &mut scene).await.unwrap();
        assert_eq!((became.body.as_str(), became.query.as_deref()), (expected, Some("a=1")), "{yaml}");
    }
}

#[tokio::test]
async fn path_and_method_are_set() {
    let became = run("{http_method: PUT, replace: {uri: '/fixed'}}", &mut Scene::new("POST", &[])).await.unwrap();
    assert_eq!((became.method.as_str(), became.path.as_deref()), ("PUT", Some("/fixed")));
    for (value, expected) in [
        ("a b?c#d%zz", Ok("/x/a%20b%3Fc%23d%25zz/y")),
        ("%2f%41", Ok("/x/%2f%41/y")),
        ("a/b", Ok("/x/a/b/y")),
        ("..", Err(400)),
        ("%2e%2E", Err(400)),
        ("../..", Err(400)),
        (".", Err(400)),
    ] {
        let mut scene = Scene::new("GET", &[("X", value)]);
        let became = run("replace: {uri: '/x/$(headers.x)/y'}", &mut scene).await;
        assert_eq!(became.map(|became| became.path.unwrap()).as_deref(), expected.as_ref().copied(), "{value}");
    }
    // An answer to HEAD has no body.
    let became = run("http_method: GET", &mut Scene::new("HEAD", &[])).await.unwrap();
    assert_eq!(became.method, "HEAD");
    // The arguments of a form go on in the query.
    let mut scene = Scene::new("POST", &[("Content-Type", "application/x-www-form-urlencoded")]);
    scene.body = Bytes { framing: Framing::Length(3), bytes: b"b=2".to_vec() };
    let became = run("http_method: GET", &mut scene).await.unwrap();
    assert_eq!(
        (became.method.as_str(), became.query.as_deref(), became.body.as_str()),
        ("GET", Some("a=1&b=2"), "b=2")
    );
}

/// No value of a client ends a field, or a part, before its end.
#[tokio::test]
async fn what_cannot_stand_where_it_should_is_refused() {
    let mut scene = Scene::new("GET", &[]);
    scene.query = Some("v=a%0d%0aEvil:%201".into());
    assert_eq!(run("add: {headers: ['x:$(query_params.v)']}", &mut scene).await, Err(400));
    let body = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b--";
    let mut scene = Scene::new("POST", &[("Content-Type", "multipart/form-data; boundary=b"), ("X", "1\t--b--")]);
    scene.body = Bytes { framing: Framing::Length(body.len() as u64), bytes: body.into() };
    assert_eq!(run("replace: {body: ['a:$(headers.x)']}", &mut scene).await, Err(400));
}

#[test]
fn wrong_settings_are_named() {
    for (yaml, expected) in [
        (
            "add: {headers: [novalue]}",
            "config.add.headers: found \"novalue\", expected `name:value`: invalid value: novalue",
        ),
        ("add: {body: ['a:']}", "config.add.body: found \"a:\", expected `name:value`: key 'a' has no value"),
        (
            "rename: {querystring: [a]}",
            "config.rename.querystring: found \"a\", expected `name:value`: key 'a' has no value",
        ),
        (
            "replace: {headers: ['a b:c']}",
            "config.replace.headers: found \"a b\", expected a header name: 'a b' is not a valid header",
        ),
        (
            "append: {headers: ['Host:x']}",
            "config.append.headers: found \"Host:x\", expected another header: a request has one `Host`, which `replace` sets",
        ),
        (
            "rename: {headers: ['host:x']}",
            "config.rename.headers: found \"host:x\", expected headers other than `Host` and those of framing, hop and forwarding",
        ),
        (
            "add: {headers: ['Transfer-Encoding:x']}",
            "config.add.headers: found \"Transfer-Encoding:x\", expected a header other than those of framing and hop, which the edge writes itself",
        ),
        (
            "replace: {uri: 'x'}",
            "config.replace.uri: found a path without a slash, expected a path that begins with `/`",
        ),
        ("http_method: get", "config.http_method: found \"get\", expected upper-case letters: invalid value: get"),
        (
            "http_method: HEAD",
            "config.http_method: found \"HEAD\", expected a method whose answers are like other methods': an answer to HEAD has no body: invalid value: HEAD",
        ),
        (
            "add: {body: ['a:$(headers.x:sub(1))']}",
            "config.add.body: found value '$(headers.x:sub(1))', expected `$(…)` with",
        ),
        ("adds: {}", "config.adds: found an unknown field, expected `add`"),
    ] {
        let problems = parse(NAME, yaml).err().unwrap_or_else(|| panic!("{yaml} is taken"));
        assert!(problems.len() == 1 && problems[0].contains(expected), "{yaml}: {problems:?}");
    }
}
