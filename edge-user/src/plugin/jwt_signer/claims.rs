//! The claims of the token that goes upstream: those of the one that came, with what the configuration changes.
//!
//! Members that stay are copied as they were written: no number is rounded, no text is re-encoded. Kong's order: remove,
//! add what is absent, set. The edge's own parameters: `strict_claims`, `claims_allowed`, `upstream_audience` (R2, R3).

use std::borrow::Cow;

use serde_json::Value as Json;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::crypto::FieldDigest;
use crate::token::Now;
use crate::token::claims::Facts;
use crate::token::json::{Kind, Value};

/// What `strict_claims` writes itself.
pub(super) const STRICT: [&str; 6] = ["iss", "aud", "exp", "nbf", "iat", "jti"];
/// What it copies where `claims_allowed` does not say: who the caller is, and what it may do.
pub(super) const ALLOWED: [&str; 8] = ["sub", "client_id", "azp", "scope", "scp", "acr", "amr", "auth_time"];

/// How a token's claims become those of the other one.
#[derive(Clone, Default)]
pub(super) struct NewClaims {
    /// `…_issuer`
    pub(super) issuer: Box<str>,
    /// `…_upstream_leeway`
    pub(super) leeway_ms: i64,
    /// `remove_…_claims`
    pub(super) remove: Box<[Box<str>]>,
    /// `add_claims`, then `add_…_claims`: a name and its value as JSON.
    pub(super) add: Box<[(Box<str>, Box<str>)]>,
    /// `set_claims`, then `set_…_claims`.
    pub(super) set: Box<[(Box<str>, Box<str>)]>,
    /// `strict_claims`
    pub(super) strict: Option<Strict>,
}

/// What a token has under `strict_claims`.
#[derive(Clone)]
pub(super) struct Strict {
    /// `upstream_audience`, as JSON.
    pub(super) audience: Box<str>,
    /// `claims_allowed`: the only claims that are copied.
    pub(super) allowed: Box<[Box<str>]>,
}

/// Claims under way: names as they read, values as JSON.
struct Claims<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Claims<'a> {
    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|(known, _)| known == name)
    }

    /// Sets one, in the place of the one of its name.
    fn set(&mut self, name: &'a str, value: impl Into<Cow<'a, str>>) {
        let value = value.into();
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name.into(), value)),
        }
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|(known, _)| known != name);
    }

    fn write(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.iter().map(|(name, value)| name.len() + value.len() + 4).sum());
        for (name, value) in self.0 {
            out.push(if out.is_empty() { b'{' } else { b',' });
            out.extend(json(&name).as_bytes());
            out.push(b':');
            out.extend(value.as_bytes());
        }
        if out.is_empty() {
            out.push(b'{');
        }
        out.push(b'}');
        out
    }
}

impl NewClaims {
    /// The payload of the token that stands for these facts from now on.
    pub(super) fn of(&self, facts: &Facts, now: Now) -> Vec<u8> {
        let mut claims = Claims(Vec::with_capacity(24));
        for (name, value) in facts.members() {
            // Accepted by the parser, so it is a text.
            let name = name.text().unwrap_or_default();
            if self.strict.as_ref().is_none_or(|strict| strict.allowed.iter().any(|allowed| **allowed == *name)) {
                claims.0.push((name, written(value)));
            }
        }
        if let Some(issuer) = facts.issuer() {
            claims.set("original_iss", written(issuer));
        }
        claims.set("iss", json(&self.issuer));
        if self.strict.is_none()
            && let Some(exp) = self.moved_expiry(facts)
        {
            claims.set("exp", exp);
        }
        self.remove.iter().for_each(|name| claims.remove(name));
        for (name, value) in &self.add {
            if !claims.has(name) {
                claims.set(name, &**value);
            }
        }
        self.set.iter().for_each(|(name, value)| claims.set(name, &**value));
        if let Some(strict) = &self.strict {
            claims.remove("nbf");
            claims.set("aud", &*strict.audience);
            claims.set("iat", now.unix_ms.div_euclid(1000).to_string());
            claims.set("jti", json(&Uuid::new_v4().to_string()));
            if let Some(exp_ms) = facts.exp_ms() {
                claims.set("exp", seconds(exp_ms.saturating_add(self.leeway_ms.min(0))));
            }
        }
        claims.write()
    }

    /// `exp` with the leeway; nothing where it stays as it is.
    fn moved_expiry(&self, facts: &Facts) -> Option<String> {
        let exp = facts.members().find(|(name, _)| name.is("exp"))?.1;
        let exp_ms = exp.seconds_as_ms().filter(|_| self.leeway_ms != 0)?;
        Some(seconds(exp_ms.saturating_add(self.leeway_ms)))
    }

    /// Appends everything that a payload depends on.
    pub(super) fn digest(&self, digest: FieldDigest) -> FieldDigest {
        let pairs = |pairs: &[(Box<str>, Box<str>)]| -> Vec<Box<str>> {
            pairs.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect()
        };
        let bytes =
            |texts: &[Box<str>]| -> Vec<Vec<u8>> { texts.iter().map(|text| text.as_bytes().to_vec()).collect() };
        let digest = digest.field(&*self.issuer).field(self.leeway_ms.to_be_bytes());
        let digest = digest.list(bytes(&self.remove).into_iter());
        let digest = digest.list(bytes(&pairs(&self.add)).into_iter()).list(bytes(&pairs(&self.set)).into_iter());
        match &self.strict {
            None => digest.field([0]),
            Some(strict) => digest.field([1]).field(&*strict.audience).list(bytes(&strict.allowed).into_iter()),
        }
    }

    /// Bytes that the payload may be longer by than the one that it is made of.
    pub(super) fn added_bytes(&self) -> usize {
        /// `original_iss`, `iss`, and what `strict_claims` writes.
        const FIXED: usize = 512;
        let pairs = self.add.iter().chain(&self.set).map(|(name, value)| name.len() + value.len() + 8);
        let audience = self.strict.as_ref().map_or(0, |strict| strict.audience.len());
        FIXED + self.issuer.len() + audience + pairs.sum::<usize>()
    }
}

/// A value of the configuration: what parses as JSON is that, as it is written; everything else a text.
pub(super) fn configured(text: &str) -> Box<str> {
    match serde_json::from_str::<&RawValue>(text) {
        Ok(value) => value.get().into(),
        Err(_) => json(text).into(),
    }
}

/// A text as JSON.
pub(super) fn json(text: &str) -> String {
    Json::from(text).to_string()
}

/// A value as it was written.
fn written(value: Value<'_>) -> Cow<'_, str> {
    match value.kind() {
        Kind::Text | Kind::Escaped => Cow::Owned(format!("\"{}\"", value.raw())),
        _ => Cow::Borrowed(value.raw()),
    }
}

/// Milliseconds as a number of seconds.
fn seconds(ms: i64) -> String {
    match ms.rem_euclid(1000) {
        0 => (ms / 1000).to_string(),
        part => format!("{}.{part:03}", ms.div_euclid(1000)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::json::Document;
    use proptest::prelude::*;

    const NOW: Now = Now { unix_ms: 1_700_000_000_500 };

    fn facts(payload: &str) -> Facts {
        Facts::parse(payload.as_bytes().to_vec(), "").expect("claims")
    }

    fn pairs(pairs: &[(&str, &str)]) -> Box<[(Box<str>, Box<str>)]> {
        pairs.iter().map(|(name, value)| (Box::from(*name), configured(value))).collect()
    }

    fn kong() -> NewClaims {
        NewClaims { issuer: "kong".into(), ..NewClaims::default() }
    }

    fn text(claims: &NewClaims, payload: &str) -> String {
        String::from_utf8(claims.of(&facts(payload), NOW)).expect("text")
    }

    #[test]
    fn claims_are_copied_as_written_under_another_issuer() {
        // T27, T30
        for (payload, expected) in [
            (
                r#"{"iss":"https://a","sub":"ann","exp":1700000100}"#,
                r#"{"iss":"kong","sub":"ann","exp":1700000100,"original_iss":"https://a"}"#,
            ),
            (r#"{}"#, r#"{"iss":"kong"}"#),
            (
                r#"{"iss":"a\/b","big":12345678901234567890123,"f":1.10,"e":1e400,"o":{"x":[1, 2]},"u":"\u00e9"}"#,
                r#"{"iss":"kong","big":12345678901234567890123,"f":1.10,"e":1e400,"o":{"x":[1, 2]},"u":"\u00e9","original_iss":"a\/b"}"#,
            ),
            (r#"{"i\u0073s":"a","n\"m":1}"#, r#"{"iss":"kong","n\"m":1,"original_iss":"a"}"#),
            (r#"{"original_iss":"x","iss":"a"}"#, r#"{"original_iss":"a","iss":"kong"}"#),
            (r#"{"original_iss":"x"}"#, r#"{"original_iss":"x","iss":"kong"}"#),
            (r#"{"active":true,"token_type":"Bearer"}"#, r#"{"active":true,"token_type":"Bearer","iss":"kong"}"#),
        ] {
            assert_eq!(text(&kong(), payload), expected);
        }
    }

    #[test]
    fn the_end_moves_by_the_leeway() {
        // S2.10
        for (leeway_ms, exp, expected) in [
            (0, "1700000100", "1700000100"),
            (60_000, "1700000100", "1700000160"),
            (-60_000, "1700000100", "1700000040"),
            (1_500, "1700000100", "1700000101.500"),
            (1_000, "1700000100.25", "1700000101.250"),
            (0, "1700000100.250", "1700000100.250"),
        ] {
            let claims = NewClaims { leeway_ms, ..kong() };
            assert_eq!(
                text(&claims, &format!("{{\"exp\":{exp}}}")),
                format!("{{\"exp\":{expected},\"iss\":\"kong\"}}")
            );
        }
        assert_eq!(text(&NewClaims { leeway_ms: 5, ..kong() }, "{}"), "{\"iss\":\"kong\"}");
    }

    #[test]
    fn claims_are_removed_added_and_set_in_this_order() {
        // S2.15
        let claims = NewClaims {
            remove: Box::from([Box::from("a"), Box::from("gone")]),
            add: pairs(&[("a", "1"), ("b", "text"), ("kept", "no")]),
            set: pairs(&[("c", "{\"x\": [true]}"), ("kept2", "null"), ("iss", "mine")]),
            ..kong()
        };
        let payload = r#"{"iss":"i","a":0,"gone":1,"kept":"yes","kept2":1,"c":2}"#;
        let expected =
            r#"{"iss":"mine","kept":"yes","kept2":null,"c":{"x": [true]},"original_iss":"i","a":1,"b":"text"}"#;
        assert_eq!(text(&claims, payload), expected);
    }

    #[test]
    fn values_are_json_where_they_parse() {
        for (value, expected) in [
            ("1", "1"),
            ("true", "true"),
            ("null", "null"),
            ("[1, \"a\"]", "[1, \"a\"]"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("\"1\"", "\"1\""),
            ("text", "\"text\""),
            ("a\"b", "\"a\\\"b\""),
            ("{", "\"{\""),
            ("", "\"\""),
        ] {
            assert_eq!(&*configured(value), expected);
        }
    }

    #[test]
    fn strict_claims_are_the_edges_and_rights_only_shrink() {
        // R2, R3
        let strict = Strict { audience: "\"https://up\"".into(), allowed: ALLOWED.map(Box::from).into() };
        let claims = NewClaims { strict: Some(strict), leeway_ms: -10_000, ..kong() };
        let payload = r#"{"iss":"i","aud":["front"],"sub":"ann","scope":"read","role":"root","jti":"old","iat":1,"nbf":2,"exp":1700000100}"#;
        let one: Json = serde_json::from_str(&text(&claims, payload)).expect("JSON");
        let two: Json = serde_json::from_str(&text(&claims, payload)).expect("JSON");
        assert_ne!(one["jti"], two["jti"]);
        assert!(one["jti"].as_str().is_some_and(|jti| Uuid::try_parse(jti).is_ok()));
        let mut one = one;
        one["jti"] = Json::Null;
        let expected = serde_json::json!({"sub": "ann", "scope": "read", "original_iss": "i", "iss": "kong",
            "aud": "https://up", "iat": 1_700_000_000, "jti": null, "exp": 1_700_000_090});
        assert_eq!(one, expected);
    }

    #[test]
    fn everything_that_changes_a_token_changes_its_digest() {
        // R6
        let digest = |claims: &NewClaims| claims.digest(FieldDigest::default()).finish();
        let strict = |allowed: &str| Strict { audience: "\"u\"".into(), allowed: Box::from([Box::from(allowed)]) };
        let all = [
            kong(),
            NewClaims { issuer: "other".into(), ..kong() },
            NewClaims { leeway_ms: 1, ..kong() },
            NewClaims { remove: Box::from([Box::from("a")]), ..kong() },
            NewClaims { add: pairs(&[("a", "1")]), ..kong() },
            NewClaims { set: pairs(&[("a", "1")]), ..kong() },
            NewClaims { set: pairs(&[("a", "2")]), ..kong() },
            NewClaims { strict: Some(strict("a")), ..kong() },
            NewClaims { strict: Some(strict("b")), ..kong() },
        ];
        let mut digests: Vec<_> = all.iter().map(digest).collect();
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), all.len());
    }

    proptest! {
        #[test]
        fn what_is_written_is_strict_json_and_keeps_what_it_keeps(members in members(), remove in 0..4usize) {
            // T27, T30
            let text = format!("{{{}}}", members.iter().map(|(name, value)| format!("{}:{value}", json(name))).collect::<Vec<_>>().join(","));
            let Ok(facts) = Facts::parse(text.clone().into_bytes(), "") else { return Ok(()) };
            let removed: Vec<Box<str>> = members.iter().take(remove).map(|(name, _)| Box::from(name.as_str())).collect();
            let claims = NewClaims { remove: removed.clone().into(), ..kong() };
            let written = claims.of(&facts, NOW);
            let written = Document::parse(written).expect("strict JSON");
            for (name, value) in &members {
                let found = written.root().member(name).map(|value| super::written(value).into_owned());
                if removed.iter().any(|gone| **gone == **name) {
                    prop_assert!(found.is_none());
                } else if !["iss", "original_iss"].contains(&name.as_str()) {
                    prop_assert_eq!(found.as_ref(), Some(value), "{}", text);
                }
            }
        }
    }

    /// Distinct names with values as somebody may write them.
    fn members() -> impl Strategy<Value = Vec<(String, String)>> {
        let value = prop_oneof![
            "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,3})?",
            Just("null".to_owned()),
            Just("true".to_owned()),
            any::<String>().prop_map(|text| json(&text)),
            Just("{\"a\": [1, {\"b\":\"\\u00e9\\/\"}]}".to_owned()),
        ];
        let name = prop_oneof![
            any::<String>(),
            Just("iss".to_owned()),
            Just("aud".to_owned()),
            Just("original_iss".to_owned())
        ];
        proptest::collection::btree_map(name, value, 0..12).prop_map(|map| map.into_iter().collect())
    }
}
