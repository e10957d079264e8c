use super::*;
use serde_json::json;

fn check(text: &str, read: impl FnOnce(&mut Reader<'_>), expected: &[&str]) {
    let sink = Sink::new("f");
    let value = Value::from_yaml(text, &sink).unwrap();
    let mut reader = Reader::new(&value, "", &sink).unwrap();
    read(&mut reader);
    reader.finish();
    let seen: Vec<_> = sink.into_parts().0.iter().map(ToString::to_string).collect();
    assert_eq!(seen, expected, "{text}");
}

#[test]
fn getters_give_what_stands_there() {
    let text =
        "b: true\ni: 5\nj: 6.0\nn: 1.5\ns: x\nw: two\nl: [a, b]\none: c\no: {k: 1}\nos: [{k: 1}, {k: 2}]\nz: ~\ne: ''";
    check(
        text,
        |r| {
            assert_eq!(r.bool("b"), Some(true));
            assert_eq!(r.integer("i", 0..=5), Some(5));
            assert_eq!(r.integer("j", 0..=9), Some(6));
            assert_eq!(r.number("n", 0.0..=2.0), Some(1.5));
            assert_eq!(r.required_string("s", "a name"), Some("x"));
            assert_eq!(r.word("w", &[("one", 1), ("two", 2)]), Some(2));
            assert_eq!(r.strings("l"), Some(vec!["a", "b"]));
            assert_eq!(r.strings_lenient("l"), Some(vec!["a", "b"]));
            assert_eq!(r.strings_lenient("one"), Some(vec!["c"]));
            let mut object = r.object("o").unwrap();
            assert_eq!((object.integer("k", 0..=1), object.path()), (Some(1), "o"));
            object.finish();
            let paths: Vec<_> =
                r.objects("os").iter_mut().map(|o| (o.integer("k", 0..=9), o.path().to_owned())).collect();
            assert_eq!(paths, [(Some(1), "os[0]".into()), (Some(2), "os[1]".into())]);
            assert_eq!((r.any_string("e"), r.any_string("s")), (Some(""), Some("x")));
            assert_eq!((r.string("z"), r.has("z"), r.has("s")), (None, false, true));
        },
        &[],
    );
}

#[test]
fn maps_are_read_by_names_of_their_own_and_say_no_values() {
    // L1
    check(
        "m: {a: '1', X-B: ''}\nz: ~\nempty: []",
        |r| {
            assert_eq!(r.map("m"), Some(vec![("a", "1"), ("X-B", "")]));
            assert_eq!((r.map("z"), r.map("absent"), r.map("empty")), (None, None, Some(Vec::new())));
        },
        &[],
    );
    check(
        "m: {a: [hush], b: hush}\nn: hush\no: [hush]",
        |r| {
            r.map("m");
            r.map("n");
            r.map("o");
        },
        &[
            "f:1: m.a: found a list, expected a string",
            "f:2: n: found a string, expected an object of strings",
            "f:3: o: found a list, expected an object of strings",
        ],
    );
}

#[test]
fn wrong_types_name_place_value_and_type() {
    check(
        "\nb: 1",
        |r| {
            r.bool("b");
        },
        &["f:2: b: found 1, expected a boolean"],
    );
    check(
        "i: 6",
        |r| {
            r.integer("i", 0..=5);
        },
        &["f:1: i: found 6, expected an integer between 0 and 5"],
    );
    check(
        "i: 1.5",
        |r| {
            r.integer("i", 0..=5);
        },
        &["f:1: i: found 1.5, expected an integer between 0 and 5"],
    );
    check(
        "i: \"1\"",
        |r| {
            r.integer("i", 0..=5);
        },
        &["f:1: i: found \"1\", expected an integer between 0 and 5"],
    );
    check(
        "s: ''",
        |r| {
            r.string("s");
        },
        &["f:1: s: found \"\", expected a string that is not empty"],
    );
    check(
        "s: 1",
        |r| {
            r.string("s");
        },
        &["f:1: s: found 1, expected a string that is not empty"],
    );
    check(
        "s: ~",
        |r| {
            r.required_string("s", "a host name");
        },
        &["f:1: s: found nothing, expected a host name"],
    );
    check(
        "w: x",
        |r| {
            r.word("w", &[("a", 1), ("b", 2)]);
        },
        &["f:1: w: found \"x\", expected one of: a, b"],
    );
    check(
        "l:\n- a\n- 1\n- {}",
        |r| {
            r.strings("l");
        },
        &[
            "f:3: l[1]: found 1, expected a string that is not empty",
            "f:4: l[2]: found an object, expected a string that is not empty",
        ],
    );
    check(
        "o: [1]",
        |r| {
            r.object("o");
        },
        &["f:1: o: found a list, expected an object"],
    );
    check(
        "os:\n  - 1",
        |r| {
            r.objects("os");
        },
        &["f:2: os[0]: found an integer, expected an object"],
    );
}

#[test]
fn unknown_fields_are_named_with_the_nearest() {
    check(
        "require_scop: 1\nzzz: 2\ndiscovery: 3\nname: x",
        |r| {
            r.string("name");
            r.string("require_scope");
            r.hint("discovery", "issuer");
        },
        &[
            "f:1: require_scop: found an unknown field, expected `require_scope`",
            "f:2: zzz: found an unknown field, expected one of: name, require_scope",
            "f:3: discovery: found an unknown field, expected `issuer`",
        ],
    );
}

#[test]
fn unsupported_fields_may_hold_their_default() {
    for (text, expected) in [
        ("x: ~", None),
        ("y: 1", None),
        ("x: 5", None),
        ("x: 6", Some("f:1: x: found 6, expected 5: anything else is not supported yet")),
        ("n: []", Some("f:1: n: found a list, expected nothing: not supported yet")),
    ] {
        check(
            text,
            |r| {
                r.unsupported("x", json!(5));
                r.unsupported("n", json!(null));
                r.raw("y");
            },
            expected.as_slice(),
        );
    }
}

#[test]
fn secrets_are_not_quoted() {
    for (key, quoted) in [
        ("client_secret", false),
        ("key", false),
        ("redis_password", false),
        ("token_headers_values", false),
        ("session_secret", false),
        ("name", true),
        ("bearer_token_param_type", true),
        ("jwks_uri", true),
    ] {
        let key: &'static str = key;
        let sink = Sink::new("f");
        let text = format!("{key}: hunter2");
        let value = Value::from_yaml(&text, &sink).unwrap();
        let mut reader = Reader::new(&value, "", &sink).unwrap();
        reader.integer(key, 0..=1);
        assert_eq!(sink.into_parts().0[0].to_string().contains("hunter2"), quoted, "{key}");
    }
    check(
        "u: http://me:pw@host",
        |r| {
            r.bool("u");
        },
        &["f:1: u: found a string, expected a boolean"],
    );
    check(
        "client_secret:\n  a: hunter2",
        |r| {
            let mut object = r.object("client_secret").unwrap();
            object.integer("a", 0..=1);
        },
        &["f:2: client_secret.a: found a string, expected an integer between 0 and 1"],
    );
}
