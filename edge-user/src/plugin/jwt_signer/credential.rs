//! Where a token stands in a request: in one field, under a scheme where that is `Authorization`.

use crate::config::reader::Reader;
use crate::http::head::{Head, Known, is_field_name};
use crate::plugin::fields::is_of_hop;
use crate::plugin::openid_connect::is_b64token;

/// A field that bears a token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Source {
    /// `Authorization`, under one of these schemes.
    Authorization(&'static [&'static str]),
    /// Another field: the token alone, or after `Bearer`.
    Field(Box<str>),
}

/// What there is of a token.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Credential<'a> {
    /// None was sent.
    Absent,
    /// Something that is no token: more than one field, another scheme, characters that no token has.
    Malformed,
    /// A token.
    Token(&'a [u8]),
}

impl Source {
    /// Kong's spelling: a header name, or `authorization:bearer` and `authorization:basic` for one scheme alone.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match &*name.to_ascii_lowercase() {
            "authorization" => Self::Authorization(&["bearer", "basic"]),
            "authorization:bearer" => Self::Authorization(&["bearer"]),
            "authorization:basic" => Self::Authorization(&["basic"]),
            _ if is_usable(name) => Self::Field(name.into()),
            _ => return None,
        })
    }

    /// The field's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::Authorization(_) => Known::Authorization.spelling(),
            Self::Field(name) => name,
        }
    }

    /// The scheme that stands before the token.
    pub(super) fn scheme(&self) -> Option<&'static str> {
        match self {
            Self::Authorization(["basic"]) => Some("Basic"),
            Self::Authorization(_) => Some("Bearer"),
            Self::Field(_) => None,
        }
    }

    /// Finds the token. Its characters are those of RFC 6750, 2.1.
    pub(super) fn find<'a>(&self, head: &'a Head) -> Credential<'a> {
        let name = self.name().as_bytes();
        let mut values = head.fields().filter(|field| field.name.eq_ignore_ascii_case(name)).map(|field| field.value);
        let value = match (values.next(), values.next()) {
            (None, _) | (Some(b""), None) => return Credential::Absent,
            (Some(value), None) => value,
            // RFC 9110, 5.3: a field that is no list stands once (T40).
            (Some(_), Some(_)) => return Credential::Malformed,
        };
        let token = match (self, split(value)) {
            (Self::Authorization(schemes), Some((scheme, token))) => {
                let taken = schemes.iter().any(|known| scheme.eq_ignore_ascii_case(known.as_bytes()));
                if taken { token } else { return Credential::Malformed }
            }
            (Self::Authorization(_), None) => return Credential::Malformed,
            (Self::Field(_), Some((scheme, token))) if scheme.eq_ignore_ascii_case(b"bearer") => token,
            (Self::Field(_), _) => value,
        };
        if is_b64token(token) { Credential::Token(token) } else { Credential::Malformed }
    }
}

/// A scheme and what stands after the spaces behind it.
fn split(value: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = value.iter().position(|byte| *byte == b' ')?;
    Some((&value[..at], value[at..].trim_ascii_start()))
}

/// A field in which a token goes to the upstream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Destination {
    /// `Authorization`, after `Bearer`.
    AuthorizationBearer,
    /// This field, alone.
    Field(Box<str>),
}

impl Destination {
    /// Kong's spelling: a header name, or `Authorization:Bearer` in any case.
    pub(super) fn parse(name: &str) -> Option<Self> {
        match name.eq_ignore_ascii_case("authorization:bearer") {
            true => Some(Self::AuthorizationBearer),
            false => is_usable(name).then(|| Self::Field(name.into())),
        }
    }

    /// Reads the setting; nothing where it is `null`, empty, or wrong.
    pub(super) fn read(config: &mut Reader<'_>, key: &'static str, default: Option<&'static str>) -> Option<Self> {
        let name = written_or(config, key, default)?;
        let destination = Self::parse(name);
        if destination.is_none() {
            config.problem(key, format!("{name:?}"), "a header name, or Authorization:Bearer");
        }
        destination
    }

    /// The field's name.
    pub(super) fn name(&self) -> &str {
        match self {
            Self::AuthorizationBearer => Known::Authorization.spelling(),
            Self::Field(name) => name,
        }
    }

    /// Writes the token there, in place of whatever stands there.
    pub(super) fn write(&self, head: &mut Head, token: &[u8]) {
        match self {
            Self::AuthorizationBearer => head.set_known(Known::Authorization, &[b"Bearer ", token].concat()),
            Self::Field(name) => head.replace(name.as_bytes(), token),
        }
    }
}

/// A text that is there, or its default where nothing is written; `null` and the empty text mean none.
pub(super) fn written_or<'a>(config: &mut Reader<'a>, key: &'static str, default: Option<&'a str>) -> Option<&'a str> {
    let default = if config.is_null(key) { None } else { default };
    config.any_string(key).or(default).filter(|text| !text.is_empty())
}

/// Whether a token may stand in this field.
fn is_usable(name: &str) -> bool {
    is_field_name(name.as_bytes()) && !is_of_hop(name) && Known::of(name.as_bytes()) != Known::Host
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    fn find<'a>(name: &str, head: &'a mut Head, fields: &[(&str, &str)]) -> Credential<'a> {
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in fields {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        Source::parse(name).expect("a name").find(head)
    }

    #[test]
    fn tokens_stand_in_one_field_under_a_known_scheme() {
        // T40, T41
        use Credential::{Absent, Malformed, Token};
        for (name, fields, expected) in [
            ("Authorization", &[][..], Absent),
            ("Authorization", &[("authorization", "")], Absent),
            ("Authorization", &[("authorization", "Bearer a.b.c")], Token(b"a.b.c")),
            ("authorization", &[("AUTHORIZATION", "bearer  a.b.c")], Token(b"a.b.c")),
            ("Authorization", &[("authorization", "Basic YTpi==")], Token(b"YTpi==")),
            ("Authorization:Bearer", &[("authorization", "Bearer a")], Token(b"a")),
            ("Authorization:Bearer", &[("authorization", "Basic a")], Malformed),
            ("authorization:basic", &[("authorization", "Basic a")], Token(b"a")),
            ("authorization:basic", &[("authorization", "Bearer a")], Malformed),
            ("Authorization", &[("authorization", "a.b.c")], Malformed),
            ("Authorization", &[("authorization", "Bearer")], Malformed),
            ("Authorization", &[("authorization", "Bearer ")], Malformed),
            ("Authorization", &[("authorization", "Bearer Bearer a")], Malformed),
            ("Authorization", &[("authorization", "Bearer a, Bearer b")], Malformed),
            ("Authorization", &[("authorization", "Bearer \"a\"")], Malformed),
            ("Authorization", &[("authorization", "DPoP a")], Malformed),
            ("Authorization", &[("authorization", "Bearer a"), ("Authorization", "Bearer a")], Malformed),
            ("X-Channel", &[("x-channel", "a.b.c")], Token(b"a.b.c")),
            ("X-Channel", &[("x-channel", "BEARER a.b.c")], Token(b"a.b.c")),
            ("X-Channel", &[("x-channel", "Basic a")], Malformed),
            ("X-Channel", &[("x-channel", "")], Absent),
            ("X-Channel", &[("x-channel", "a"), ("X-Channel", "a")], Malformed),
            ("X-Channel", &[("authorization", "Bearer a")], Absent),
        ] {
            let mut head = Head::default();
            assert_eq!(find(name, &mut head, fields), expected, "{name} {fields:?}");
        }
        for name in ["", "a b", "a:b", "Host", "Content-Length", "Connection", "x\r\ny"] {
            assert_eq!(Source::parse(name), None, "{name}");
        }
    }

    #[test]
    fn tokens_go_to_one_field_in_place_of_what_stands_there() {
        // T43
        for (name, field, value) in [
            ("Authorization:Bearer", "Authorization", "Bearer new"),
            ("authorization:BEARER", "Authorization", "Bearer new"),
            ("Authorization", "Authorization", "new"),
            ("X-New", "X-New", "new"),
        ] {
            let mut head = Head::default();
            head.start_request(b"GET", b"/", Version::Http11);
            for name in ["authorization", "x-new", "X-NEW", "Authorization"] {
                head.push(Owner::Peer, name.as_bytes(), b"Bearer old");
            }
            Destination::parse(name).expect("a name").write(&mut head, b"new");
            let values: Vec<_> = head
                .fields()
                .filter(|found| found.name.eq_ignore_ascii_case(field.as_bytes()))
                .map(|found| (found.owner, String::from_utf8_lossy(found.value)))
                .collect();
            assert_eq!(values, [(Owner::Edge, value.into())], "{name}");
        }
        for name in ["Authorization:Basic", "a:b", "a b", "Host"] {
            assert_eq!(Destination::parse(name), None, "{name}");
        }
    }
}
