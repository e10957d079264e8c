use super::*;
use proptest::prelude::*;

fn parse(text: &str) -> Result<Document, Malformed> {
    Document::parse(text.as_bytes().to_vec())
}

#[test]
fn only_strict_json_is_taken() {
    // T26
    let good = ["{}", " {\"a\" : [1 , 2.5e-3, -0, true,false,null,\"x\\u00e9\\ud83d\\ude00\"] } ", "[]", "\"\"", "0"];
    for text in good {
        assert!(parse(text).is_ok(), "{text}");
    }
    let bad = [
        "",
        " ",
        "{",
        "}",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{,}",
        "[1,]",
        "[1 2]",
        "{'a':1}",
        "{a:1}",
        "nul",
        "NaN",
        "Infinity",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "-",
        "0x1",
        "{}{}",
        "{} x",
        "//c\n{}",
        "{/**/}",
        "\"\n\"",
        "\"\\x\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\\ud800\\u0041\"",
        "\"\\u12g4\"",
        "\"a",
        "\u{feff}{}",
        "{\"a\":1}\0",
    ];
    for text in bad {
        assert!(parse(text).is_err(), "{text:?}");
    }
    for bytes in
        [&b"{\"a\":\"\xff\"}"[..], b"\xff\xfe{\0}\0", b"\0{\0}", b"{\"a\":\"\xc0\xaf\"}", b"{\"a\":\"\xed\xa0\x80\"}"]
    {
        assert!(Document::parse(bytes.to_vec()).is_err(), "{bytes:?}");
    }
}

#[test]
fn members_are_unique_at_every_level() {
    // T27
    for text in
        ["{\"a\":1,\"a\":1}", "{\"a\":1,\"b\":2,\"\\u0061\":3}", "{\"x\":{\"a\":1,\"a\":2}}", "[{\"a\":1,\"a\":2}]"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    for text in ["{\"a\":1,\"b\":{\"a\":1}}", "[{\"a\":1},{\"a\":1}]", "{\"a\":1,\"A\":2,\"\":3}"] {
        assert!(parse(text).is_ok(), "{text}");
    }
    let many = |extra: &str| {
        let members: Vec<_> = (0..500).map(|n| format!("\"m{n}\":{n}")).collect();
        format!("{{{}{extra}}}", members.join(","))
    };
    assert!(parse(&many("")).is_ok());
    for name in ["m0", "m15", "m16", "m499", "\\u006d7"] {
        assert!(parse(&many(&format!(",\"{name}\":1"))).is_err(), "{name}");
    }
}

#[test]
fn nesting_is_bounded_and_cheap() {
    // T28
    let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    assert!(parse(&nested(MAX_DEPTH + 1)).is_ok());
    assert!(parse(&nested(MAX_DEPTH + 2)).is_err());
    let start = std::time::Instant::now();
    assert!(parse(&nested(50_000)).is_err());
    assert!(parse(&"[".repeat(50_000)).is_err());
    assert!(parse(&"{\"a\":".repeat(10_000)).is_err());
    assert!(start.elapsed().as_millis() < 10);
}

#[test]
fn values_are_found_without_copies() {
    let document = parse(r#"{"a":{"b":["x y","\u0041"],"n":null},"t":"q\"\\\/\b\f\n\r\t","":1}"#).expect("JSON");
    let root = document.root();
    let list = root.member("a").and_then(|a| a.member("b")).expect("a list");
    let texts: Vec<_> = list.items().filter_map(Value::text).collect();
    assert_eq!(texts, ["x y", "A"]);
    assert!(list.items().nth(1).expect("an item").is("A"));
    assert_eq!(root.member("t").and_then(Value::text).expect("text"), "q\"\\/\u{8}\u{c}\n\r\t");
    assert_eq!(root.member("a").and_then(|a| a.member("n")).map(Value::kind), Some(Kind::Null));
    assert!(root.member("").is_some() && root.member("b").is_none() && list.member("b").is_none());
    assert_eq!(list.raw(), r#"["x y","\u0041"]"#);
}

#[test]
fn seconds_neither_wrap_nor_crash() {
    // T30
    let ms = |text: &str| parse(text).expect("a number").root().seconds_as_ms();
    assert_eq!(ms("1700000000"), Some(1_700_000_000_000));
    assert_eq!(ms("1700000000.75"), Some(1_700_000_000_750));
    assert_eq!(ms("-1.5"), Some(-1500));
    assert_eq!(ms("2147483648"), Some(2_147_483_648_000));
    assert_eq!(ms("1.7e9"), Some(1_700_000_000_000));
    for huge in ["9223372036854775808", "18446744073709551617", "1e400", "-1e400", &format!("1{}", "0".repeat(400))] {
        assert_eq!(ms(huge), None, "{huge}");
    }
}

proptest! {
    #[test]
    fn what_is_taken_is_what_serde_json_takes(text in "[\\[\\]{}:,\"a1.e+\\\\u0-9tfn ]{0,24}") {
        // Whatever this parser accepts is JSON; it may refuse more (duplicate names, lone surrogates).
        if parse(&text).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }

    #[test]
    fn parsing_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Document::parse(bytes);
    }
}
