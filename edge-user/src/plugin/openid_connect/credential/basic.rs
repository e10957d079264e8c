//! `Authorization: Basic` (RFC 7617), and values that must not be printed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{MALFORMED, REPEATED, Refused};
use crate::http::head::{Head, Known};
use crate::plugin::arguments;

/// A credential; printing it tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub(in super::super) struct Secret(Box<str>);

impl Secret {
    /// Takes a value; nothing where it is no UTF-8 or has controls (RFC 7617, 2), which no identity provider takes.
    pub(super) fn new(bytes: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(bytes).ok()?;
        (!text.chars().any(char::is_control)).then(|| Self(text.into()))
    }

    /// The value, to send it or to compare it.
    pub(in super::super) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// A name and its password.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(in super::super) struct Basic {
    /// Before the first colon.
    pub(in super::super) id: Secret,
    /// After it.
    pub(in super::super) secret: Secret,
}

impl Basic {
    /// As a client sends itself: both are form-encoded before they are joined (RFC 6749, 2.3.1). What no encoder writes
    /// is taken as it stands, since many clients encode nothing.
    pub(super) fn form_decoded(self) -> Option<Self> {
        Some(Self { id: form_decoded(self.id)?, secret: form_decoded(self.secret)? })
    }
}

/// The Basic credentials of a request; nothing where there is no `Authorization` or it has another scheme.
pub(in super::super) fn basic(head: &Head) -> Result<Option<Basic>, Refused> {
    let mut fields = head.all(Known::Authorization);
    let value = match (fields.next(), fields.next()) {
        (None, _) => return Ok(None),
        (Some(value), None) => value,
        (Some(_), Some(_)) => return Err(REPEATED),
    };
    let word_len = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (word, rest) = value.split_at(word_len);
    if !word.eq_ignore_ascii_case(b"basic") {
        return Ok(None);
    }
    parse(rest.trim_ascii_start()).map(Some).ok_or(MALFORMED)
}

fn parse(encoded: &[u8]) -> Option<Basic> {
    let text = STANDARD.decode(encoded).ok()?;
    let colon = memchr::memchr(b':', &text)?;
    Some(Basic { id: Secret::new(&text[..colon])?, secret: Secret::new(&text[colon + 1..])? })
}

fn form_decoded(text: Secret) -> Option<Secret> {
    let bytes = text.0.as_bytes();
    let is_escape =
        |at: usize| bytes.get(at + 1..at + 3).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit));
    let is_encoded = bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => is_escape(at),
        byte => byte.is_ascii_alphanumeric() || b"*-._~+".contains(byte),
    });
    if is_encoded { Secret::new(&arguments::decode(bytes)) } else { Some(text) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    type Pair<'t> = (&'t str, &'t str);

    fn check(values: &[&str], expected: Result<Option<Pair<'_>>, Refused>) {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        values.iter().for_each(|value| head.push(Owner::Peer, b"Authorization", value.as_bytes()));
        let found = basic(&head);
        let pair = |basic: &Basic| (basic.id.expose().to_owned(), basic.secret.expose().to_owned());
        let found = found.map(|found| found.as_ref().map(pair));
        assert_eq!(
            found,
            expected.map(|pair| pair.map(|(id, secret)| (id.to_owned(), secret.to_owned()))),
            "{values:?}"
        );
    }

    #[test]
    fn basic_credentials_are_read_and_broken_ones_refused() {
        let of = |text: &[u8]| format!("Basic {}", STANDARD.encode(text));
        check(&[&of(b"id:secret")], Ok(Some(("id", "secret"))));
        check(&[&of(b"id:secret").replace("Basic", "bASIC ")], Ok(Some(("id", "secret"))));
        check(&[&of("id:a:\u{e4}%20+".as_bytes())], Ok(Some(("id", "a:\u{e4}%20+"))));
        check(&[&of(b":")], Ok(Some(("", ""))));
        check(&["Bearer x"], Ok(None));
        check(&[], Ok(None));
        for broken in [&of(b"no colon"), &of(b"id:\xff"), &of(b"id:a\0"), &of(b"i\nd:a"), "Basic", "Basic a", "Basic *"]
        {
            check(&[broken], Err(MALFORMED));
        }
        check(&[&of(b"id:secret"), &of(b"id:secret")], Err(REPEATED));
    }

    #[test]
    fn what_a_form_encoder_wrote_is_decoded_and_nothing_else() {
        // RFC 6749, 2.3.1 and appendix B
        for (text, expected) in [
            ("plain-1_2.3*", "plain-1_2.3*"),
            ("a%20b%2B%25%3A", "a b+%:"),
            ("a+b", "a b"),
            ("a/b+c==", "a/b+c=="),
            ("50%", "50%"),
            ("%zz+", "%zz+"),
            ("\u{e4}+", "\u{e4}+"),
        ] {
            let secret = Secret::new(text.as_bytes()).expect("text");
            assert_eq!(form_decoded(secret).expect("text").expose(), expected, "{text}");
        }
        assert_eq!(form_decoded(Secret::new(b"a%00").expect("text")), None);
    }

    #[test]
    fn nothing_of_a_secret_is_printed() {
        // L1
        let secret = Secret::new(b"s3cret").expect("text");
        let basic = Basic { id: secret.clone(), secret };
        assert!(!format!("{basic:?}").contains("s3cret"));
    }
}
