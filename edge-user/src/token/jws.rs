//! The JWS compact serialization (RFC 7515): split, strict base64url, header. No keys, no claims, no I/O.

use super::json::{Document, Kind};
use crate::reason::Reason;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use std::str::FromStr;

/// Tokens above this many bytes are refused before anything else is done with them.
pub const MAX_BYTES: usize = 16 * 1024;

/// Whether a token is a JWT or, by its shape, something only its issuer can read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shape {
    /// Three parts: a JWS, whatever its parts hold.
    Jws,
    /// Begins like a JOSE header, but in another number of parts: a JWE, or a JWT cut short.
    Broken,
    /// Anything else.
    Opaque,
}

/// Whether the first part stands for text that begins with `{`, as every JOSE header does: an opaque token may have two
/// dots as well.
pub fn begins_with_header(token: &[u8]) -> bool {
    // base64url of `{` and the six bits of any byte after it (RFC 4648, 5).
    matches!(token, [b'e', b'w'..=b'z' | b'0'..=b'9' | b'-' | b'_', ..])
}

/// Judges by the dots, and by the `{"` that every JOSE header begins with.
pub fn shape(token: &[u8]) -> Shape {
    let mut dots = 0usize;
    let mut empty = token.first() == Some(&b'.') || token.last() == Some(&b'.');
    let mut before = 0;
    for byte in token {
        dots += usize::from(*byte == b'.');
        empty |= *byte == b'.' && before == b'.';
        before = *byte;
    }
    match (dots, empty) {
        (2, false) => Shape::Jws,
        _ if token.starts_with(b"eyJ") || (dots == 2 && empty) => Shape::Broken,
        _ => Shape::Opaque,
    }
}

/// A token split and its header read; nothing of it is proven.
pub struct Jws<'a> {
    /// The header's algorithm.
    pub algorithm: Algorithm,
    /// The header's `kid`.
    pub kid: Option<Box<str>>,
    /// The header's `typ`, lower case, without `application/`; empty if there is none.
    pub typ: Box<str>,
    /// Header and payload as received, with the dot between: what the signature covers.
    pub signed: &'a [u8],
    payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Jws<'a> {
    /// Splits a token of `Shape::Jws` and reads its header.
    pub fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        if token.len() > MAX_BYTES {
            return Err(Reason::TokenTooLarge);
        }
        if shape(token) != Shape::Jws {
            return Err(Reason::TokenMalformed);
        }
        let dot = |from: &[u8]| from.iter().rposition(|byte| *byte == b'.').ok_or(Reason::TokenMalformed);
        let second = dot(token)?;
        let (signed, signature) = (&token[..second], &token[second + 1..]);
        let first = dot(signed)?;
        let (header, payload) = (&signed[..first], &signed[first + 1..]);
        let header = Document::parse(decode(header)?).map_err(|_| Reason::TokenMalformed)?;
        let (algorithm, kid, typ) = read_header(&header)?;
        Ok(Self { algorithm, kid, typ, signed, payload, signature })
    }

    /// The payload's bytes.
    pub fn payload(&self) -> Result<Vec<u8>, Reason> {
        decode(self.payload)
    }

    /// The signature's bytes.
    pub fn signature(&self) -> Result<Vec<u8>, Reason> {
        decode(self.signature)
    }
}

/// base64url without padding, white space or stray bits (RFC 7515, 2; RFC 4648, 3.5).
fn decode(part: &[u8]) -> Result<Vec<u8>, Reason> {
    URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::TokenMalformed)
}

type Header = (Algorithm, Option<Box<str>>, Box<str>);

fn read_header(header: &Document) -> Result<Header, Reason> {
    let root = header.root();
    if root.kind() != Kind::Object {
        return Err(Reason::TokenMalformed);
    }
    let (mut algorithm, mut kid, mut typ) = (None, None, Box::from(""));
    for (name, value) in root.members() {
        let text = || value.text().ok_or(Reason::TokenMalformed);
        match name.text().as_deref() {
            Some("alg") => algorithm = Some(value),
            Some("kid") => kid = Some(text()?.into_owned().into_boxed_str()),
            Some("typ") => typ = short_type(&text()?),
            // A nested token would have to be judged on its own (RFC 7519, 5.2).
            Some("cty") if short_type(&text()?).ends_with("jwt") => return Err(Reason::TokenMalformed),
            // No extension is understood here, so any `crit` is one too many (RFC 7515, 4.1.11).
            Some("crit") => return Err(Reason::TokenMalformed),
            // RFC 7797, 6; and members of a JWE.
            Some("b64") if value.kind() != Kind::True => return Err(Reason::TokenMalformed),
            Some("enc" | "zip") => return Err(Reason::TokenMalformed),
            // `jwk`, `jku`, `x5u`, `x5c`, `x5t` too: keys come from configured sources alone (RFC 8725, 3.10).
            _ => {}
        }
    }
    let algorithm = algorithm.and_then(|value| value.text()).ok_or(Reason::AlgNotAllowed)?;
    // `FromStr` compares whole names in their exact case and knows no `none`.
    let algorithm = Algorithm::from_str(&algorithm).map_err(|_| Reason::AlgNotAllowed)?;
    Ok((algorithm, kid, typ))
}

/// A media type as `typ` writes it: in any case, `application/` left off or not (RFC 7515, 4.1.9).
pub fn short_type(typ: &str) -> Box<str> {
    let lower = typ.to_ascii_lowercase();
    Box::from(lower.strip_prefix("application/").unwrap_or(&lower))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(header: &str) -> Vec<u8> {
        format!("{}.e30.AA", URL_SAFE_NO_PAD.encode(header)).into_bytes()
    }

    fn reason(header: &str) -> Option<Reason> {
        Jws::parse(&token(header)).err()
    }

    #[test]
    fn alg_is_a_known_name_in_its_exact_spelling() {
        // T1, T3
        for none in ["none", "None", "NONE", "nOnE", "none "] {
            for signature in ["", "AA"] {
                let header = URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"{none}\"}}"));
                assert!(Jws::parse(format!("{header}.e30.{signature}").as_bytes()).is_err(), "{none}");
            }
            assert_eq!(reason(&format!("{{\"alg\":\"{none}\"}}")), Some(Reason::AlgNotAllowed));
        }
        for alg in [
            "\"rs256\"",
            "\"RS256 \"",
            "\" RS256\"",
            "\"\"",
            "256",
            "[\"RS256\"]",
            "null",
            "true",
            "{}",
            "\"RS256\\u0000\"",
        ] {
            assert_eq!(reason(&format!("{{\"alg\":{alg}}}")), Some(Reason::AlgNotAllowed), "{alg}");
        }
        assert_eq!(reason("{}"), Some(Reason::AlgNotAllowed));
        for alg in ["RS256", "PS512", "ES384", "EdDSA", "HS256"] {
            assert_eq!(reason(&format!("{{\"alg\":\"{alg}\"}}")), None, "{alg}");
        }
    }

    #[test]
    fn tokens_have_three_parts() {
        // T14, T24: a JWE has five parts and is told from its first bytes; no part of it is decoded.
        for (text, expected) in [
            ("a.b.c", Shape::Jws),
            ("eyJ.b.c", Shape::Jws),
            ("eyJ", Shape::Broken),
            ("eyJ.b", Shape::Broken),
            ("eyJ.b.c.d", Shape::Broken),
            ("eyJ.b.c.d.e", Shape::Broken),
            ("eyJ.b.", Shape::Broken),
            ("a..c", Shape::Broken),
            (".b.c", Shape::Broken),
            ("a.b.", Shape::Broken),
            ("..", Shape::Broken),
            ("", Shape::Opaque),
            ("a", Shape::Opaque),
            ("a.b", Shape::Opaque),
            ("a.b.c.d", Shape::Opaque),
            ("{\"payload\":\"a\"}", Shape::Opaque),
        ] {
            assert_eq!(shape(text.as_bytes()), expected, "{text}");
            let good = expected == Shape::Jws && text.starts_with("eyJhb");
            assert_eq!(Jws::parse(text.as_bytes()).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_header_is_told_from_its_first_byte() {
        // S0.4
        for (text, expected) in [("{}", true), ("{\"alg\":1}", true), ("{ ", true), ("{\n", true), ("{\u{ff}", true)] {
            assert_eq!(begins_with_header(URL_SAFE_NO_PAD.encode(text).as_bytes()), expected, "{text}");
        }
        for text in ["", "e", "a.b.c", "e.b.c", "ev", "eA", "W3", "InR", "fgo"] {
            assert!(!begins_with_header(text.as_bytes()), "{text}");
        }
    }

    #[test]
    fn base64url_is_strict_in_all_parts() {
        // T15
        let header = URL_SAFE_NO_PAD.encode("{\"alg\":\"RS256\"}");
        let whole = |header: &str, payload: &str, signature: &str| {
            let token = format!("{header}.{payload}.{signature}");
            let jws = Jws::parse(token.as_bytes())?;
            jws.payload().and(jws.signature())
        };
        assert!(whole(&header, "e30", "AAAA").is_ok());
        for spoil in ["=", "+", "/", " ", "\n", "\r\n", "%3D", "\t", "\0", "\u{e9}"] {
            assert!(whole(&format!("{header}{spoil}"), "e30", "AAAA").is_err(), "header {spoil:?}");
            assert!(whole(&header, &format!("e30{spoil}"), "AAAA").is_err(), "payload {spoil:?}");
            assert!(whole(&header, "e30", &format!("AAAA{spoil}")).is_err(), "signature {spoil:?}");
            assert!(whole(&header, "e30", &format!("{spoil}AAAA")).is_err(), "signature {spoil:?}");
        }
        // The last character's low bits must be zero: "e31" would decode to the same byte count as "e30".
        assert!(whole(&header, "e31", "AAAA").is_err());
        assert!(whole(&header, "e30", "AB").is_err());
        assert!(whole(&header, "e30", "A").is_err());
    }

    #[test]
    fn header_members_are_typed_and_critical_ones_refused() {
        // T20, T22, T23, T24, T26, T27
        let with = |member: &str| reason(&format!("{{\"alg\":\"RS256\",{member}}}"));
        for bad in [
            "\"kid\":1",
            "\"kid\":null",
            "\"kid\":[\"a\"]",
            "\"kid\":{}",
            "\"typ\":1",
            "\"typ\":null",
            "\"crit\":[\"exp\"]",
            "\"crit\":[]",
            "\"crit\":\"b64\"",
            "\"crit\":[1]",
            "\"crit\":[\"alg\"]",
            "\"crit\":[\"b64\",\"b64\"]",
            "\"crit\":null",
            "\"b64\":false",
            "\"b64\":0",
            "\"b64\":null",
            "\"cty\":\"JWT\"",
            "\"cty\":\"jwt\"",
            "\"cty\":\"application/JWT\"",
            "\"zip\":\"DEF\"",
            "\"enc\":\"A128GCM\"",
            "\"alg\":\"RS256\"",
            "\"kid\":\"a\",\"kid\":\"a\"",
            "\"k\\u0069d\":\"a\",\"kid\":\"b\"",
        ] {
            assert_eq!(with(bad), Some(Reason::TokenMalformed), "{bad}");
        }
        // T18: parameters that name keys are not looked at.
        for good in [
            "\"kid\":\"a\"",
            "\"kid\":\"\"",
            "\"typ\":\"JWT\"",
            "\"b64\":true",
            "\"cty\":\"json\"",
            "\"jku\":\"http://a/\"",
            "\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}",
            "\"x5u\":1",
            "\"x5c\":[\"AA\"]",
            "\"x5t\":\"AA\"",
        ] {
            assert_eq!(with(good), None, "{good}");
        }
        for header in ["[]", "\"RS256\"", "1", "null", "", "{\"alg\":\"RS256\"}x", "{'alg':'RS256'}"] {
            assert_eq!(reason(header), Some(Reason::TokenMalformed), "{header}");
        }
    }

    #[test]
    fn large_tokens_are_refused_unread() {
        // T36
        let mut large = token("{\"alg\":\"RS256\"}");
        large.extend(std::iter::repeat_n(b'A', MAX_BYTES));
        assert_eq!(Jws::parse(&large).err(), Some(Reason::TokenTooLarge));
    }

    #[test]
    fn types_compare_short_and_lower() {
        for (typ, short) in
            [("at+jwt", "at+jwt"), ("AT+JWT", "at+jwt"), ("Application/at+JWT", "at+jwt"), ("JWT", "jwt"), ("", "")]
        {
            assert_eq!(&*short_type(typ), short);
        }
    }
}
