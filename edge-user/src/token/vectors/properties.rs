//! Arbitrary documents and claims: the strict reader reads what serde_json reads, and no claim set surprises.

use super::*;
use crate::token::claims::{ClaimPath, Facts, Reading, Required};
use crate::token::json::{Document, Kind, Value as Strict};
use crate::token::testing::first;
use crate::token::{Judgement, Validator};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};
use serde_json::{Map, Number};

fn config(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// Any JSON, with names and texts that escapes, prefixes and registered claims make interesting.
fn any_json() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Number::from),
        any::<u64>().prop_map(Number::from),
        // Eighths are read alike by every reader, to the last bit.
        any::<i32>().prop_map(|eighths| Number::from_f64(f64::from(eighths) / 8.0).expect("finite")),
        prop::sample::select(vec![0i64, 1, -1, 1_300_819_378, 1_300_819_379, 1_300_819_380, 9_999_999_999])
            .prop_map(Number::from),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number.prop_map(Value::from),
        any_text().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(any_text(), inner, 0..20)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn any_text() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec!["", "joe", "read", "read write", "api", "a\"b", "\\", "\u{1f600}", "\u{0}", "é"])
            .prop_map(str::to_owned),
        "[a-c]{0,3}",
        any::<String>(),
    ]
}

/// Writes JSON in one of its many spellings, which `spelling` chooses.
fn write(value: &Value, spelling: &mut u64, out: &mut String) {
    let mut choose = |bound: u64| {
        *spelling = spelling.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*spelling >> 33) % bound
    };
    let space = [" ", "\n", "\t\r\n", "", "", "", "", ""][choose(8) as usize];
    out.push_str(space);
    match value {
        Value::String(text) => write_text(text, choose(3), out),
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                write(item, spelling, out);
            }
            out.push_str(space);
            out.push(']');
        }
        Value::Object(members) => {
            out.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                out.push_str(if index > 0 { "," } else { "" });
                out.push_str(space);
                write_text(name, (*spelling >> 40) & 1, out);
                out.push_str(space);
                out.push(':');
                write(member, spelling, out);
                out.push_str(space);
            }
            out.push('}');
        }
        plain => out.push_str(&plain.to_string()),
    }
    out.push_str(space);
}

/// A string: as serde_json has it, with every character escaped, or with every other one.
fn write_text(text: &str, style: u64, out: &mut String) {
    if style == 0 {
        return out.push_str(&Value::from(text).to_string());
    }
    out.push('"');
    for (index, unit) in text.chars().enumerate() {
        let plain = index % 2 == 0 && style == 1 && unit >= ' ' && !matches!(unit, '"' | '\\');
        if plain {
            out.push(unit);
        } else {
            unit.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
        }
    }
    out.push('"');
}

/// The strict reader's value as serde_json's.
fn read(value: Strict<'_>) -> Value {
    match value.kind() {
        Kind::Object => {
            let members =
                value.members().map(|(name, member)| (name.text().expect("a name").into_owned(), read(member)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Kind::Array => value.items().map(read).collect(),
        Kind::Text | Kind::Escaped => value.text().expect("a text").into_owned().into(),
        Kind::Number => serde_json::from_str(value.raw()).expect("a number"),
        Kind::True => true.into(),
        Kind::False => false.into(),
        Kind::Null => Value::Null,
    }
}

#[test]
fn every_spelling_of_a_document_is_read_as_serde_json_reads_it() {
    // T26, T27
    let outcome = TestRunner::new(config(2000)).run(&(any_json(), any::<u64>()), |(value, mut spelling)| {
        let mut text = String::new();
        write(&value, &mut spelling, &mut text);
        let serde: Value = serde_json::from_str(&text).expect("JSON");
        prop_assert_eq!(&serde, &value, "the writer writes what it is given: {}", text);
        let document = Document::parse(text.clone().into_bytes());
        let document = document.map_err(|error| TestCaseError::fail(format!("{error}: {text}")))?;
        prop_assert_eq!(read(document.root()), serde, "{}", text);
        // Members are found by any name they have, and by no other.
        if let Value::Object(members) = &value {
            for (name, member) in members {
                let found = document.root().member(name).map(read);
                prop_assert_eq!(found.as_ref(), Some(member));
            }
            prop_assert!(document.root().member("a name that nobody has").is_none());
        }
        Ok(())
    });
    outcome.expect("both read the same");
}

#[test]
fn what_the_strict_reader_takes_serde_json_reads_alike() {
    // T26, T27: here the text is damaged; whatever is still taken is still the same.
    const DAMAGE: &[u8] = b"\"\\{}[]:,0-9.eE+ untrf\x00\x1f\x80\xc3\xed";
    let damage = prop::collection::vec((any::<usize>(), prop::sample::select(DAMAGE)), 1..4);
    let cases = (any_json(), any::<u64>(), damage);
    let taken = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config(4000)).run(&cases, |(value, mut spelling, damage)| {
        let mut text = String::new();
        write(&value, &mut spelling, &mut text);
        let mut bytes = text.into_bytes();
        for (at, byte) in damage {
            let at = at % bytes.len();
            if byte & 1 == 0 { bytes[at] = byte } else { bytes.insert(at, byte) }
        }
        let Ok(document) = Document::parse(bytes.clone()) else { return Ok(()) };
        match serde_json::from_slice::<Value>(&bytes) {
            Ok(serde) => prop_assert_eq!(read(document.root()), serde, "{}", bytes.escape_ascii()),
            // A number beyond 64 bit floats is JSON all the same (RFC 8259, 6).
            Err(error) => {
                prop_assert!(error.to_string().starts_with("number out of range"), "{}", bytes.escape_ascii())
            }
        }
        taken.set(taken.get() + 1);
        Ok(())
    });
    outcome.expect("both read the same");
    assert!(taken.get() > 100, "damage that is still JSON is met too: {}", taken.get());
}

/// What RFC 7519 says of these claims, read by serde_json: whether they may pass at `BEFORE`.
fn may_pass(claims: &Value) -> bool {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let now = BEFORE.unix_ms as f64 / 1000.0;
    let text = |name: &str| claims.get(name).is_none_or(Value::is_string);
    let seconds = |claim: &Value| claim.as_f64().filter(|seconds| seconds.abs() <= EXACT);
    claims["iss"] == "joe"
        && seconds(&claims["exp"]).is_some_and(|exp| exp > now)
        && claims.get("nbf").is_none_or(|nbf| seconds(nbf).is_some_and(|nbf| nbf <= now))
        && claims.get("iat").is_none_or(|iat| seconds(iat).is_some())
        && text("sub")
        && text("jti")
}

/// Whether a claim holds a value: the claims RFCs in a few lines (RFC 7519, 4.1.3; RFC 6749, 3.3).
fn holds(claim: Option<&Value>, wanted: &str, reading: Reading) -> bool {
    match claim {
        Some(Value::String(text)) if reading == Reading::Words => text.split(' ').any(|word| word == wanted),
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(items)) => items.iter().all(Value::is_string) && items.iter().any(|item| item == wanted),
        _ => false,
    }
}

#[test]
fn no_claim_set_surprises() {
    // T16, T26, T29, T30, T31, T32, T33, T34, D6
    const SECRET: &[u8] = b"secret";
    let settings = Settings {
        issuers: Issuers::Listed(vec!["joe".to_owned()]),
        algorithms: vec![Algorithm::HS256],
        hs_secrets: vec![SECRET.to_vec()],
        ..settings()
    };
    let validator = Validator::new(settings, None, None).expect("a validator");
    let (cache, key) = (VerdictCache::new(1 << 20).local(), secret(Algorithm::HS256, "", SECRET));
    const NAMES: &[&str] = &[
        "iss",
        "sub",
        "aud",
        "exp",
        "nbf",
        "iat",
        "jti",
        "scope",
        "cnf",
        "nonce",
        "typ",
        "acr",
        "client_id",
        "scp",
        "at_hash",
        "x",
    ];
    let registered = prop::collection::btree_map(prop::sample::select(NAMES), any_json(), 0..8);
    // Half of the claim sets would pass but for what is put over them.
    let cases = (any::<bool>(), registered, any::<u64>());
    let passed = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config(4000)).run(&cases, |(base, members, mut spelling)| {
        let mut claims = if base { json!({"iss": "joe", "exp": 1_300_819_380}) } else { json!({}) };
        members.into_iter().for_each(|(name, value)| claims[name] = value);
        let mut text = String::new();
        write(&claims, &mut spelling, &mut text);
        let token = key.mint_raw("{\"alg\":\"HS256\"}", &text);
        prop_assume!(token.len() <= crate::token::jws::MAX_BYTES);
        let judged = first(&validator, &cache, &token, BEFORE);
        let verified = matches!(judged, Judgement::Verified(_));
        prop_assert_eq!(verified, may_pass(&claims), "{}", text);
        passed.set(passed.get() + usize::from(verified));
        let Ok(facts) = Facts::parse(text.clone().into_bytes(), "") else { return Ok(()) };
        let _ = (facts.is_bound(), facts.is_id_token(&["joe"]), facts.bytes(), facts.iat_ms());
        for (name, reading) in [("aud", Reading::Whole), ("scope", Reading::Words), ("x", Reading::Words)] {
            for wanted in ["api", "read", "joe", "a", ""] {
                let met = Required::new([wanted]).met_by(facts.claim(&ClaimPath::new([name])), reading);
                let expected = !wanted.is_empty() && holds(claims.get(name), wanted, reading);
                prop_assert_eq!(met, expected, "{} in {} of {}", wanted, name, text);
            }
        }
        Ok(())
    });
    outcome.expect("no surprise");
    assert!((200..3800).contains(&passed.get()), "both outcomes are met: {} passed", passed.get());
}
