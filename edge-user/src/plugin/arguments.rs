//! Named arguments of a request: of its query, of a form, of a JSON body; found, counted, and taken out with the rest
//! left byte for byte as it came. Work is in proportion to bytes that the caller has bounded.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{Request, RequestBody};
use crate::http::head::{Head, Known};

/// The longest body in which arguments are looked for: they are credentials, not content.
pub const BODY_BYTES: usize = 64 * 1024;

/// What there is of one name.
#[derive(PartialEq, Eq)]
pub enum Argument<'t> {
    /// Nothing.
    Absent,
    /// One value, decoded.
    Once(Cow<'t, [u8]>),
    /// More than one, or a value that is no string.
    Unusable,
}

/// A body whose arguments are named.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `application/x-www-form-urlencoded`
    Form,
    /// `application/json`: the string members of its object.
    Json,
}

impl Kind {
    /// What the body is by the only `Content-Type` there is.
    pub fn of(head: &Head) -> Option<Self> {
        let mut types = head.all(Known::ContentType);
        let (Some(whole), None) = (types.next(), types.next()) else { return None };
        let media_type = whole.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        match media_type {
            form if form.eq_ignore_ascii_case(b"application/x-www-form-urlencoded") => Some(Self::Form),
            json if json.eq_ignore_ascii_case(b"application/json") => Some(Self::Json),
            _ => None,
        }
    }
}

/// A body with arguments, whole.
#[derive(Clone, Copy)]
pub struct Body<'t> {
    kind: Kind,
    bytes: &'t [u8],
}

impl<'t> Body<'t> {
    /// Reads a request's body, if its type has arguments and it is within `BODY_BYTES`.
    pub async fn collect(request: &mut Request<'_>) {
        if Kind::of(request.head).is_some() {
            request.body.collect(BODY_BYTES).await;
        }
    }

    /// The body that was collected, if its type has arguments.
    pub fn of(head: &Head, body: &'t dyn RequestBody) -> Option<Self> {
        let kind = Kind::of(head)?;
        body.collected(BODY_BYTES).map(|bytes| Self { kind, bytes })
    }

    /// A body of a kind.
    pub fn new(kind: Kind, bytes: &'t [u8]) -> Self {
        Self { kind, bytes }
    }

    /// What it has of a name.
    pub fn find(&self, name: &str) -> Argument<'t> {
        match self.kind {
            Kind::Form => find(self.bytes, name),
            Kind::Json => members(self.bytes).map_or(Argument::Absent, |members| find_member(&members, name)),
        }
    }

    /// The body without every argument of these names; `None` where it has none of them.
    pub fn without(&self, names: &[&str]) -> Option<Vec<u8>> {
        match self.kind {
            Kind::Form => without(self.bytes, names),
            Kind::Json => without_members(self.bytes, &members(self.bytes)?, names),
        }
    }
}

/// What a query or form has of a name.
pub fn find<'t>(text: &'t [u8], name: &str) -> Argument<'t> {
    let mut values = pieces(text).filter(|piece| is_named(piece, name));
    match (values.next(), values.next()) {
        (None, _) => Argument::Absent,
        (Some(piece), None) => Argument::Once(decode(split(piece).1)),
        (Some(_), Some(_)) => Argument::Unusable,
    }
}

/// Whether a query or form has an argument of this name, with a value or without.
pub fn has(text: &[u8], name: &str) -> bool {
    pieces(text).any(|piece| is_named(piece, name))
}

/// A query or form without every argument of these names; `None` where it has none of them.
pub fn without(text: &[u8], names: &[&str]) -> Option<Vec<u8>> {
    let goes = |piece: &[u8]| names.iter().any(|name| is_named(piece, name));
    if !pieces(text).any(goes) {
        return None;
    }
    let mut rest = Vec::with_capacity(text.len());
    let (mut at, mut is_first) = (0, true);
    for piece in pieces(text) {
        let start = at;
        at += piece.len() + 1;
        if goes(piece) {
            continue;
        }
        // Each but the first takes the separator before it along.
        if !std::mem::take(&mut is_first) {
            rest.push(text[start - 1]);
        }
        rest.extend_from_slice(piece);
    }
    Some(rest)
}

/// `;` separates too, as HTML 4.01 (B.2.2) has it: no argument is to hide from one reader and be seen by another.
fn pieces(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| matches!(byte, b'&' | b';'))
}

/// The arguments of a query or form as they are spelled; one without `=` has no value.
pub fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> {
    pieces(text).filter(|piece| !piece.is_empty()).map(|piece| match memchr::memchr(b'=', piece) {
        Some(at) => (&piece[..at], Some(&piece[at + 1..])),
        None => (piece, None),
    })
}

fn split(piece: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memchr(b'=', piece) {
        Some(at) => (&piece[..at], &piece[at + 1..]),
        None => (piece, b""),
    }
}

fn is_named(piece: &[u8], name: &str) -> bool {
    let spelled = split(piece).0;
    (name.len()..=name.len() * 3).contains(&spelled.len()) && Decoded(spelled).eq(name.bytes())
}

/// A name or value without its escapes (WHATWG URL, 5.1).
pub fn decode(text: &[u8]) -> Cow<'_, [u8]> {
    match memchr::memchr2(b'%', b'+', text) {
        None => Cow::Borrowed(text),
        Some(_) => Cow::Owned(Decoded(text).collect()),
    }
}

struct Decoded<'t>(&'t [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |digit: u8| char::from(digit).to_digit(16);
        let (byte, rest) = match self.0 {
            [] => return None,
            [b'%', high, low, rest @ ..] => match (digit(*high), digit(*low)) {
                (Some(high), Some(low)) => ((high * 16 + low) as u8, rest),
                _ => (b'%', &self.0[1..]),
            },
            [b'+', rest @ ..] => (b' ', rest),
            [byte, rest @ ..] => (*byte, rest),
        };
        self.0 = rest;
        Some(byte)
    }
}

/// One member of an object.
struct Member<'t> {
    name: Cow<'t, str>,
    value: &'t RawValue,
}

/// The members of a JSON object in their order; `None` where the text is none.
fn members(text: &[u8]) -> Option<Vec<Member<'_>>> {
    struct Members;
    impl<'t> Visitor<'t> for Members {
        type Value = Vec<Member<'t>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'t>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some((Name(name), value)) = map.next_entry()? {
                members.push(Member { name, value });
            }
            Ok(members)
        }
    }
    let mut json = serde_json::Deserializer::from_str(std::str::from_utf8(text).ok()?);
    let members = json.deserialize_map(Members).ok()?;
    json.end().ok()?;
    Some(members)
}

#[derive(serde::Deserialize)]
struct Name<'t>(#[serde(borrow)] Cow<'t, str>);

fn find_member<'t>(members: &[Member<'t>], name: &str) -> Argument<'t> {
    // `null` is how some clients spell that there is none.
    let mut values = members.iter().filter(|member| member.name == name).map(|member| member.value.get());
    match (values.next(), values.next()) {
        (None, _) | (Some("null"), None) => Argument::Absent,
        (Some(text), None) if text.starts_with('"') => match serde_json::from_str::<Name<'t>>(text) {
            Ok(Name(Cow::Borrowed(text))) => Argument::Once(Cow::Borrowed(text.as_bytes())),
            Ok(Name(Cow::Owned(text))) => Argument::Once(Cow::Owned(text.into_bytes())),
            Err(_) => Argument::Unusable,
        },
        _ => Argument::Unusable,
    }
}

fn without_members(text: &[u8], members: &[Member<'_>], names: &[&str]) -> Option<Vec<u8>> {
    let goes = |member: &Member<'_>| names.contains(&&*member.name);
    if !members.iter().any(goes) {
        return None;
    }
    // A value is a part of the text: its place tells where its member ends. The next begins after the comma.
    let base = text.as_ptr().addr();
    let mut at = memchr::memchr(b'{', text)? + 1;
    let mut rest = text[..at].to_vec();
    let mut is_first = true;
    for member in members {
        let value = member.value.get();
        let end = value.as_ptr().addr() - base + value.len();
        let start = at;
        at = end + memchr::memchr2(b',', b'}', &text[end..])?;
        if !goes(member) {
            if !std::mem::take(&mut is_first) {
                rest.push(b',');
            }
            rest.extend_from_slice(&text[start..at]);
        }
        // The end of the object is copied below.
        if text[at] == b',' {
            at += 1;
        }
    }
    rest.extend_from_slice(&text[at..]);
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    fn shown(argument: Argument<'_>) -> Option<Result<String, ()>> {
        match argument {
            Argument::Absent => None,
            Argument::Once(value) => Some(Ok(String::from_utf8_lossy(&value).into_owned())),
            Argument::Unusable => Some(Err(())),
        }
    }

    fn check(kind: Kind, text: &str, expected: Option<Result<&str, ()>>, rest: Option<&str>) {
        let body = Body::new(kind, text.as_bytes());
        assert_eq!(shown(body.find("a_b")), expected.map(|value| value.map(str::to_owned)), "{text}");
        assert_eq!(body.without(&["a_b"]).as_deref(), rest.map(str::as_bytes), "{text}");
    }

    #[test]
    fn form_arguments_are_found_counted_and_taken_out() {
        for (text, expected, rest) in [
            ("a_b=1", Some(Ok("1")), Some("")),
            ("x=%31&a_b=1&y=%32", Some(Ok("1")), Some("x=%31&y=%32")),
            ("a_b=1;y", Some(Ok("1")), Some("y")),
            ("x;a_b=1&y", Some(Ok("1")), Some("x&y")),
            ("%61%5Fb=a%2Bb+c%zz%", Some(Ok("a+b c%zz%")), Some("")),
            ("a_b", Some(Ok("")), Some("")),
            ("&a_b=1&&x&", Some(Ok("1")), Some("&&x&")),
            ("a_b=1=2", Some(Ok("1=2")), Some("")),
            ("a_b=1&a_b=1", Some(Err(())), Some("")),
            ("a_b=1&x&%61_b", Some(Err(())), Some("x")),
            ("", None, None),
            ("a_bc=1&xa_b=2&x=a_b&A_B=3&a+b=4&%zza_b=5", None, None),
        ] {
            check(Kind::Form, text, expected, rest);
        }
    }

    #[test]
    fn json_members_are_found_counted_and_taken_out() {
        for (text, expected, rest) in [
            (r#"{"a_b":"1"}"#, Some(Ok("1")), Some("{}")),
            (r#" { "a_b" : "1" } "#, Some(Ok("1")), Some(" {} ")),
            (
                r#"{"x": 1.0e0, "a_b":"1", "y" :[{"a_b":2}] }"#,
                Some(Ok("1")),
                Some(r#"{"x": 1.0e0, "y" :[{"a_b":2}] }"#),
            ),
            (r#"{"a_b":"1" ,"x":"},{"}"#, Some(Ok("1")), Some(r#"{"x":"},{"}"#)),
            (r#"{"x":{},"a_b":"a\n\u0062"}"#, Some(Ok("a\nb")), Some(r#"{"x":{}}"#)),
            (r#"{"\u0061_b":"1"}"#, Some(Ok("1")), Some("{}")),
            (r#"{"a_b":"1","x":1,"a\u005fb":"1"}"#, Some(Err(())), Some(r#"{"x":1}"#)),
            (r#"{"a_b":1}"#, Some(Err(())), Some("{}")),
            (r#"{"a_b":["1"]}"#, Some(Err(())), Some("{}")),
            (r#"{"a_b":null}"#, None, Some("{}")),
            (r#"{"x":{"a_b":"1"}}"#, None, None),
            (r#"["a_b"]"#, None, None),
            (r#"{"a_b":"1"} x"#, None, None),
            (r#"{"a_b":"1""#, None, None),
            ("", None, None),
        ] {
            check(Kind::Json, text, expected, rest);
        }
        assert_eq!(shown(Body::new(Kind::Json, b"{\"a_b\":\"\xff\"}").find("a_b")), None);
        // Depth costs nothing but its bytes.
        let deep = format!(r#"{{"x":{}{},"a_b":"1"}}"#, "[".repeat(30_000), "]".repeat(30_000));
        assert_eq!(shown(Body::new(Kind::Json, deep.as_bytes()).find("a_b")), Some(Ok("1".into())));
    }

    #[test]
    fn the_type_says_what_a_body_is() {
        for (types, expected) in [
            (&["application/json"][..], Some(Kind::Json)),
            (&["Application/JSON ; charset=utf-8"], Some(Kind::Json)),
            (&["application/x-www-form-urlencoded;charset=x"], Some(Kind::Form)),
            (&["application/json", "application/json"], None),
            (&["application/jsonx"], None),
            (&["text/plain"], None),
            (&[], None),
        ] {
            let mut head = Head::default();
            head.start_request(b"POST", b"/", Version::Http11);
            types.iter().for_each(|text| head.push(Owner::Peer, b"Content-Type", text.as_bytes()));
            assert_eq!(Kind::of(&head), expected, "{types:?}");
        }
    }
}
