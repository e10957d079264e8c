//! Tables of values and refusals.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn about(name: &str, labels: &[(&str, &str)]) -> About {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    About { name: name.to_owned(), description: "of tests".to_owned(), labels }
}

fn render(text: &str) -> Result<Value, String> {
    let (server, client) = (about("Demo", &[("tier", "gold")]), about("My Client", &[("team", "blue sky")]));
    let subject = Subject {
        server: &server,
        algorithm: "RS256",
        audience: "http://myhttpbin.dev",
        client_id: "c-1",
        client: &client,
        // A Saturday.
        now: 1_795_849_445,
    };
    Template::parse(text)?.render(&subject)
}

#[test]
fn values_are_rendered() {
    for (text, expected) in [
        ("test", json!("test")),
        ("", json!("")),
        ("7", json!(7)),
        ("007", json!("007")),
        ("true", json!(true)),
        (r#"{"a":[1,"b"]}"#, json!({"a": [1, "b"]})),
        ("$5 {and} $", json!("$5 {and} $")),
        ("${ .Client.Name }", json!("My Client")),
        ("${.Client.ID}", json!("c-1")),
        ("${ .AuthServer.Audience }-${ .Client.ID }", json!("http://myhttpbin.dev-c-1")),
        (
            "${ .AuthServer.Name }/${ .AuthServer.Description }/${ .AuthServer.SigningAlgorithm }",
            json!("Demo/of tests/RS256"),
        ),
        ("${ .AuthServer.Labels.tier }${ .Client.Labels.team }", json!("goldblue sky")),
        (r#"${ .Client.Labels.environment | default "production" }"#, json!("production")),
        (r#"${ .Client.Labels.team | default "production" }"#, json!("blue sky")),
        ("[${ .Client.Labels.none }]", json!([])),
        ("${ upper .Client.Name }", json!("MY CLIENT")),
        (r#"${ now | date "2006-01-02T15:04:05Z07:00" }"#, json!("2026-11-28T07:04:05Z")),
        (
            r#"${ date "Mon Monday, Jan January 2 06 3:4:5 PM 03 MST -07:00 -0700 1" now }"#,
            json!("Sat Saturday, Nov November 28 26 7:4:5 AM 07 UTC +00:00 +0000 11"),
        ),
        (r#"${ date "2006-1-2 15 3PM" 0 } ${ date "2006" -86401 }"#, json!("1970-1-1 00 12AM 1969")),
        ("${ now }", json!(1_795_849_445)),
        ("${ now | unixEpoch }s", json!("1795849445s")),
        (r#"${ (cat "a" "b" | upper) | replace " " "-" }"#, json!("A-B")),
        (r#"${ list 1 2 3 | toJson }"#, json!([1, 2, 3])),
        (r#"${ splitList " " .Client.Name | first }${ list 1 2 | last }"#, json!("My2")),
        (r#"${ "a b" | splitList " " | join "+" }"#, json!("a+b")),
        (r#"${ add 1 2 3 }"#, json!(6)),
        (r#"${ sub 1 2 } ${ mul 2 3 } ${ div 7 2 } ${ mod 7 2 } ${ max 1 3 2 } ${ min 3 1 }"#, json!("-1 6 3 1 3 1")),
        (r#"${ ternary "yes" "no" (hasPrefix "My" .Client.Name) }"#, json!("yes")),
        (r#"${ ternary "yes" "no" (contains "x" .Client.Name) }"#, json!("no")),
        (r#"${ coalesce nil "" "third" }"#, json!("third")),
        (
            r#"${ "hello" | trunc 2 }${ "hello" | trunc -2 }${ substr 1 3 "hello" }${ substr 3 -1 "hello" }"#,
            json!("heloello"),
        ),
        (r#"${ trim "  a " }${ nospace " b c " }${ lower "D" }${ repeat 2 "e" }"#, json!("abcdee")),
        (r#"${ "a}b" }${ `c"}` }"#, json!("a}bc\"}")),
        (r#"${ quote "a\"b" }"#, json!("a\"b")),
        (r#"${ b64enc "ab" } ${ b64dec "YWI=" } ${ sha256sum "" | trunc 8 }"#, json!("YWI= ab e3b0c442")),
        (r#"${ fromJson "[1]" | has 1 }"#, json!(true)),
        (
            r#"${ empty "" }${ hasSuffix "a" "ba" }${ atoi "x" }${ int "4" }${ int64 5 }${ toString 6 }"#,
            json!("truetrue0456"),
        ),
    ] {
        assert_eq!(render(text), Ok(expected), "{text}");
    }
}

#[test]
fn what_is_random_is_new_each_time() {
    for (text, length) in [("${ uuidv4 }", 36), ("${ randAlphaNum 16 }x", 17), ("${ randAlpha 256 }", 256)] {
        let (one, other) = (render(text).unwrap(), render(text).unwrap());
        assert_ne!(one, other);
        assert_eq!(one.as_str().unwrap().len(), length);
    }
    let digits = render("n${ randNumeric 8 }").unwrap();
    assert!(digits.as_str().unwrap()[1..].bytes().all(|byte| byte.is_ascii_digit()));
}

#[test]
fn what_cannot_be_is_refused_with_what_could() {
    for (text, expected) in [
        ("${ .Client.Name", "no `}` after `${`"),
        ("${ }", "`}`, expected a value or a function"),
        ("${ .Client.Secret }", "`.Client.Secret`, expected .AuthServer.Name,"),
        ("${ env \"HOME\" }", "the function `env`, expected one of: add, atoi,"),
        ("${ upper }", "`upper` with 0 arguments, expected 1"),
        ("${ add }", "`add` with 0 arguments, expected at least 1"),
        ("${ 1 | 2 }", "`2` after `|`, expected a function"),
        ("${ 1 2 }", "`2` in a `${`, expected `|` or `}`"),
        ("${ (1 }", "`}`, expected `)`"),
        ("${ \"a }", "a string that does not end"),
        ("${ 1.5 }", "`1.5`, expected a whole number"),
        ("${ ; }", "`;`, expected a function, a field, a string or a number"),
        ("${ div 1 0 }", "`div`: no result in 64 bits"),
        ("${ add 9223372036854775807 1 }", "`add`: no result in 64 bits"),
        ("${ repeat 1000000000000 \"ab\" }", "`repeat`: more than 4096 bytes"),
        ("${ randAlpha 257 }", "`randAlpha`: 257 characters, expected at most 256"),
        ("${ date \"2006\" 999999999999 }", "`date`: 999999999999, expected seconds of a year with four digits"),
        ("${ first 1 }", "`first`: 1, expected a list"),
        ("${ b64dec \"/w==\" }", "`b64dec`: bytes that are no text"),
    ] {
        let error = render(text).unwrap_err();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    assert!(Template::parse(&"a".repeat(BYTES + 1)).is_err());
    assert!(Template::parse(&format!("${{ {}1{} }}", "(".repeat(DEPTH + 1), ")".repeat(DEPTH + 1))).is_err());
    let long = "${ repeat 2000 \"a\" }".repeat(3);
    assert_eq!(render(&long).unwrap_err(), "a value of more than 4096 bytes");
}

proptest! {
    #[test]
    fn no_text_surprises(text in "(\\$\\{|\\}|[a-z0-9 .|()\"`\\\\-]|now|upper|repeat|\\PC){0,40}") {
        let _ = render(&text);
    }
}
