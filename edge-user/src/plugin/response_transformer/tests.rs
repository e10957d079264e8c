use crate::plugin::Plugin;
use crate::plugin::testing::{Scene, fields, parse};

const NAME: &str = super::NAME;

fn plugin(yaml: &str) -> Plugin {
    parse(NAME, yaml).expect("good settings")
}

fn transformed(yaml: &str, response: &[(&str, &str)]) -> Vec<(String, String)> {
    fields(&Scene::new("GET", &[]).respond(&plugin(yaml), 200, response))
}

#[test]
fn each_header_step_does_what_kong_documents() {
    for (yaml, response, expected) in [
        ("remove: {headers: [a]}", &[("A", "1"), ("B", "2"), ("a", "3")][..], &[("B", "2")][..]),
        ("remove: {headers: ['a:1']}", &[("A", "2")], &[]),
        ("rename: {headers: ['a:c']}", &[("A", "1"), ("c", "0"), ("a", "2")], &[("c", "1"), ("c", "2")]),
        ("rename: {headers: ['a:b']}", &[("b", "0")], &[("b", "0")]),
        ("rename: {headers: ['a:A']}", &[("a", "1")], &[("A", "1")]),
        ("replace: {headers: ['a:x']}", &[("A", "1"), ("a", "2")], &[("a", "x")]),
        ("replace: {headers: ['a:x']}", &[("B", "1")], &[("B", "1")]),
        ("add: {headers: ['a:x']}", &[("A", "1")], &[("A", "1")]),
        ("add: {headers: ['a::x:y ']}", &[], &[("a", "x:y")]),
        ("append: {headers: ['a:x', 'a:y']}", &[("A", "1")], &[("A", "1"), ("a", "x"), ("a", "y")]),
        (
            "{add: {headers: ['a:']}, append: {headers: ['a:']}, replace: {headers: ['b:']}}",
            &[("b", "1")],
            &[("b", "1")],
        ),
    ] {
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(transformed(yaml, response), expected, "{yaml}");
    }
}

#[test]
fn steps_go_by_what_stood_there_before_the_first() {
    for (yaml, response, expected) in [
        ("{remove: {headers: [x]}, add: {headers: ['x:new']}}", &[("X", "1")][..], &[][..]),
        ("{remove: {headers: [x]}, rename: {headers: ['x:y']}}", &[("X", "1")], &[("y", "1")]),
        ("{remove: {headers: [x]}, replace: {headers: ['x:new']}}", &[("X", "1")], &[("x", "new")]),
        ("{add: {headers: ['x:1', 'x:2']}}", &[], &[("x", "2")]),
        ("{rename: {headers: ['a:b']}, add: {headers: ['b:new', 'a:new']}}", &[("a", "1")], &[("b", "new")]),
        ("{append: {headers: ['x:2']}, add: {headers: ['x:1']}}", &[], &[("x", "1"), ("x", "2")]),
    ] {
        let expected: Vec<_> = expected.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(transformed(yaml, response), expected, "{yaml}");
    }
}

fn rewritten(yaml: &str, body: &str) -> Option<String> {
    plugin(yaml).rewrite_body(body.as_bytes()).map(|body| String::from_utf8(body).expect("UTF-8"))
}

#[test]
fn json_steps_run_in_order_with_their_types() {
    let yaml = "
        remove: {json: ['gone:x']}
        rename: {json: ['old:new']}
        replace: {json: ['new:7', 'text:a: b ', 'off:1'], json_types: [number]}
        add: {json: ['yes:true', 'no:yes', 'big:123456789012345678901234567890', 'text:x'],
              json_types: [boolean, boolean, number]}
        append: {json: ['list:1', 'made:x'], json_types: [number, string]}";
    let body = r#"{"z":1.10,"gone":1,"old":null,"text":"","off":false,"list":["a"]}"#;
    let expected = concat!(
        r#"{"z":1.10,"new":7,"text":"a: b ","off":false,"list":["a",1],"yes":true,"no":false,"#,
        r#""big":123456789012345678901234567890,"made":["x"]}"#
    );
    assert_eq!(rewritten(yaml, body).as_deref(), Some(expected));
    for (number, expected) in [
        ("1", Some("1")),
        ("-1.50e3", Some("-1.50e3")),
        (" 2 ", Some("2")),
        ("+1.5", Some("1.5")),
        (".5", Some("0.5")),
        ("x", None),
        ("inf", None),
        ("NaN", None),
    ] {
        let yaml = format!("add: {{json: ['n:{number}'], json_types: [number]}}");
        let expected = expected.map_or("{}".to_owned(), |number| format!("{{\"n\":{number}}}"));
        // Where the step is skipped there is none, and the body is not touched at all.
        assert_eq!(rewritten(&yaml, "{}").as_deref(), Some(&*expected), "{number}");
    }
}

#[test]
fn what_is_no_json_object_stays() {
    for body in ["", "[1]", "1", "{", "\u{1f}\u{8b}", "{\"a\":1} x"] {
        assert_eq!(rewritten("add: {json: ['a:1']}", body), None, "{body}");
    }
}

#[test]
fn bodies_are_read_where_they_are_json_and_a_step_is_for_them() {
    let (json, headers) = ("add: {json: ['a:1']}", "add: {headers: ['a:1']}");
    for (yaml, content_type, expected) in [
        (json, Some("application/json"), true),
        (json, Some("Application/JSON; charset=utf-8"), true),
        (json, Some("application/problem+json"), true),
        (json, Some("text/plain, application/json"), true),
        (json, Some("application/+json"), false),
        (json, Some("application/jsonp"), false),
        (json, Some("text/json"), false),
        (json, None, false),
        (headers, Some("application/json"), false),
    ] {
        let sent: Vec<_> = content_type.into_iter().map(|kind| ("Content-Type", kind)).collect();
        let plugin = plugin(yaml);
        let head = Scene::new("GET", &[]).respond(&plugin, 200, &sent);
        assert_eq!(plugin.rewrites_body(&head), expected, "{yaml} {content_type:?}");
    }
}

#[test]
fn settings_are_judged() {
    for (yaml, part) in [
        ("add: {headers: [a]}", "`name:value`"),
        ("add: {headers: [':a']}", "`name:value`"),
        ("add: {json: [a]}", "`name:value`"),
        ("rename: {json: [a]}", "`name:value`"),
        ("rename: {headers: ['a b:c']}", "'a b' is not a valid header"),
        ("rename: {headers: ['a:b c']}", "'b c' is not a valid header"),
        ("append: {headers: ['a b:c']}", "'a b' is not a valid header"),
        ("add: {headers: ['transfer-encoding:chunked']}", "which the edge writes itself"),
        ("replace: {headers: ['Content-Length:1']}", "which the edge writes itself"),
        ("append: {headers: ['Connection:close']}", "which the edge writes itself"),
        ("rename: {headers: ['X-Upgrade:Upgrade']}", "which the edge writes itself"),
        ("add: {headers: [\"a:b\\r\\nc: d\"]}", "a value that can stand in a field"),
        ("add: {json: ['a:1'], json_types: [integer]}", "one of: boolean, number, string"),
        ("remove: {headers: [''], json_types: []}", "a string that is not empty"),
        ("add: {header: ['a:1']}", "`headers`"),
        ("adds: {headers: ['a:1']}", "`add`"),
    ] {
        let problems = parse(NAME, yaml).err().expect("a problem");
        assert!(problems.iter().any(|problem| problem.contains(part)), "{yaml}: {problems:?}");
    }
    assert!(parse(NAME, "{}").is_ok());
}
