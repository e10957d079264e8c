use proptest::prelude::*;

use super::*;
use crate::config::problem::Problems;

fn read(text: &str, from: fn(&str, &Sink) -> Option<Value>) -> Result<Value, String> {
    let sink = Sink::new("f");
    let value = from(text, &sink);
    let (problems, _) = sink.into_parts();
    value.filter(|_| problems.is_empty()).ok_or_else(|| Problems(problems).to_string())
}

fn yaml(text: &str) -> Result<Value, String> {
    read(text, Value::from_yaml)
}

fn toml(text: &str) -> Result<Value, String> {
    read(text, Value::from_toml)
}

fn lines(value: &Value, path: &str, out: &mut Vec<(String, u32)>) {
    match &value.kind {
        Kind::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                lines(item, &format!("{path}[{index}]"), out);
            }
        }
        Kind::Object(entries) => {
            for entry in entries {
                out.push((join(path, &entry.key), entry.line));
                lines(&entry.value, &join(path, &entry.key), out);
            }
        }
        _ => {}
    }
}

#[test]
fn scalars_follow_the_core_schema() {
    for (text, expected) in [
        ("", Kind::Null),
        ("~", Kind::Null),
        ("null", Kind::Null),
        ("true", Kind::Bool(true)),
        ("yes", Kind::String("yes".into())),
        ("on", Kind::String("on".into())),
        ("12", Kind::Integer(12)),
        ("-3", Kind::Integer(-3)),
        ("0x1F", Kind::Integer(31)),
        ("0x+1", Kind::String("0x+1".into())),
        ("0777", Kind::Integer(777)),
        ("3.0", Kind::Float(3.0)),
        ("1e3", Kind::Float(1000.0)),
        ("99999999999999999999", Kind::Float(1e20)),
        ("inf", Kind::String("inf".into())),
        ("10.0.0.1", Kind::String("10.0.0.1".into())),
        ("\"12\"", Kind::String("12".into())),
        ("'true'", Kind::String("true".into())),
        ("!!str 12", Kind::String("12".into())),
        ("\"a\\nb\"", Kind::String("a\nb".into())),
    ] {
        assert!(yaml(&format!("k: {text}")).unwrap().is_entry("k", &expected), "{text}");
    }
}

impl Value {
    fn is_entry(&self, key: &str, expected: &Kind) -> bool {
        let Kind::Object(entries) = &self.kind else { return false };
        entries.iter().any(|entry| entry.key == key && entry.value.kind == *expected)
    }
}

#[test]
fn every_format_gives_lines() {
    let mut seen = Vec::new();
    lines(&yaml("a: 1\nb:\n  - c: x\n    d: y\n  - c: z\n").unwrap(), "", &mut seen);
    let path = |(path, line): &(String, u32)| format!("{path}@{line}");
    assert_eq!(seen.iter().map(path).collect::<Vec<_>>(), ["a@1", "b@2", "b[0].c@3", "b[0].d@4", "b[1].c@5"]);
    seen.clear();
    lines(&yaml("{\n \"a\": 1,\n \"b\": [{\n \"c\": 2}]}").unwrap(), "", &mut seen);
    assert_eq!(seen.iter().map(path).collect::<Vec<_>>(), ["a@2", "b@3", "b[0].c@4"]);
    seen.clear();
    lines(&toml("x = 1\n\n[[b]]\nc = 1\n[a]\nd = 0xff\ne.f = [\n1,\n{ g = 2 }]\n").unwrap(), "", &mut seen);
    assert_eq!(
        seen.iter().map(path).collect::<Vec<_>>(),
        ["x@1", "b@3", "b[0].c@4", "a@5", "a.d@6", "a.e@7", "a.e.f@7", "a.e.f[1].g@9"]
    );
}

#[test]
fn aliases_are_expanded_within_bounds() {
    assert!(yaml("a: &x [1]\nb: *x").unwrap().is_entry("b", &yaml("- 1").map(|v| v.kind).unwrap().at(1)));
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..10 {
        let item = format!("*a{}, ", level - 1);
        bomb.push_str(&format!("a{level}: &a{level} [{}]\n", item.repeat(10)));
    }
    let error = yaml(&bomb).unwrap_err();
    assert!(error.contains("aliases that expand too far"), "{error}");
    assert_eq!(
        yaml("a: &x [*x]").unwrap_err(),
        "f:1: a[0]: found an alias inside its own anchor, expected an alias of a complete value"
    );
}

impl Kind {
    /// The same list with its items on another line.
    fn at(mut self, line: u32) -> Self {
        if let Self::Array(items) = &mut self {
            items.iter_mut().for_each(|item| item.line = line);
        }
        self
    }
}

#[test]
fn what_is_no_document_is_a_problem() {
    for (text, expected) in [
        ("a: 1\nb: 2\na: 3\n", "f:3: a: found a second value, expected one; line 1 has one"),
        ("{\"a\": {\"b\": 1, \"b\": 1}}", "f:1: a.b: found a second value, expected one; line 1 has one"),
        ("a: 1\n---\nb: 2", "f:2: found a second document, expected one document a file"),
        ("? [a]\n: 1", "f:1: found a list or object as a key, expected a string"),
        ("a: !x 1", "f:1: a: found the tag !x, expected a plain value or one that fits its tag"),
        ("a: !!int x", "f:1: a: found the tag tag:yaml.org,2002:!int, expected a plain value or one that fits its tag"),
    ] {
        assert_eq!(yaml(text).unwrap_err(), expected, "{text}");
    }
    assert!(yaml("a: [1").unwrap_err().starts_with("f:"));
    assert!(yaml("a: b\n  - c: \"").unwrap_err().contains("invalid YAML"));
    for depth in [64, 65, 100_000] {
        let text = "[".repeat(depth) + &"]".repeat(depth);
        assert_eq!(yaml(&text).is_ok(), depth <= MAX_DEPTH, "{depth}");
        let block = "- ".repeat(depth) + "x";
        assert_eq!(yaml(&block).is_ok(), depth <= MAX_DEPTH, "block {depth}");
    }
}

#[test]
fn what_is_no_toml_is_a_problem_without_an_excerpt() {
    // The parser says of this one not where it is.
    let nested = format!("[a]\na{} = 1\nb.c = 2", ".a".repeat(200));
    for (text, line) in [(&*nested, 2), ("a = 1\na = 2", 2), ("\n\nsecret = \"hunter2\" x", 3), ("a = 1979-05-27", 1)] {
        let error = toml(text).unwrap_err();
        assert!(error.starts_with(&format!("f:{line}: ")), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    assert!(toml("a = 99999999999999999999").unwrap_err().contains("more than 64 bit"));
}

#[test]
fn json_compares_by_value() {
    use serde_json::json;
    let value = Value::from_json(&json!({"a": [1, 2.5, null], "b": {"c": "x"}}));
    assert!(value.is_json(&json!({"b": {"c": "x"}, "a": [1.0, 2.5, null]})));
    for other in [json!({"a": [1, 2.5, null]}), json!({"a": [1, 2.5, null], "b": {"c": "y"}}), json!(1)] {
        assert!(!value.is_json(&other));
    }
}

#[test]
fn quotes_are_cut_and_debug_is_blind() {
    let value = Value { line: 3, kind: Kind::String("s3cret\n".repeat(40)) };
    assert!(value.quote().len() < 90 && value.quote().starts_with("\"s3cret\\n"));
    assert_eq!(format!("{value:?}"), "a string at line 3");
}

proptest! {
    #[test]
    fn no_text_ends_the_process(text in "([a-z]{0,3}|[0-9.]{0,4}|[-:?,\\[\\]{}&*!|>'\"#%@`=~<] ?|\\n| |\t|\u{e9}|\u{0}){0,40}") {
        for from in [Value::from_yaml, Value::from_toml] {
            let judged = read(&text, from);
            prop_assert!(judged.is_ok() || judged.is_err_and(|problems| !problems.is_empty()));
        }
    }
}

#[test]
fn odd_names_stand_quoted_in_paths() {
    for (path, key, expected) in [
        ("", "a_b-c", "a_b-c"),
        ("x", "\u{e9}", "x.\u{e9}"),
        ("x", "a\u{1b}[2J", "x.\"a\\u{1b}[2J\""),
        ("", "a\nb", "\"a\\nb\""),
    ] {
        assert_eq!(join(path, key), expected);
    }
}
