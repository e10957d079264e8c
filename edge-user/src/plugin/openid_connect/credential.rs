//! Where the token of a request stands, and that it stands there once (RFC 6750, 2).

use super::possession::Scheme;
use crate::http::head::{Head, Known};
use crate::reason::Reason;

/// The bearer token of a request.
pub(super) struct Found<'a> {
    /// The scheme it came with.
    pub(super) scheme: Scheme,
    /// The token; only characters of RFC 6750's `b64token`.
    pub(super) token: &'a [u8],
    /// Whether the field is spelled `Bearer <token>` already.
    pub(super) is_canonical: bool,
}

/// Finds the token, or the status and reason of the refusal. The query is only looked at for a second token: it is
/// never a place to send one.
pub(super) fn find<'a>(head: &'a Head, query: Option<&[u8]>) -> Result<Found<'a>, (u16, Reason)> {
    let mut fields = head.all(Known::Authorization);
    let value = fields.next();
    // RFC 9110, 5.3: a field that is no list must not be repeated, even with equal values.
    if fields.next().is_some() {
        return Err((400, Reason::HeaderMalformed));
    }
    let Some(value) = value else { return Err((401, Reason::HeaderMissing)) };
    let found = parse(value).map_err(|reason| (401, reason))?;
    if query.is_some_and(has_access_token) {
        return Err((400, Reason::TokenInQuery));
    }
    Ok(found)
}

fn parse(value: &[u8]) -> Result<Found<'_>, Reason> {
    const SCHEMES: [(&[u8], Scheme); 2] = [(b"bearer", Scheme::Bearer), (b"dpop", Scheme::Dpop)];
    let scheme_len = value.iter().position(|byte| *byte == b' ').unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_len);
    let known = SCHEMES.iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name));
    let Some((_, kind)) = known else {
        // Another scheme with its credentials is no attempt at ours; anything else is a broken one.
        let other = !rest.is_empty() && scheme.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        return Err(if other { Reason::HeaderMissing } else { Reason::HeaderMalformed });
    };
    let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
    let token = &rest[spaces..];
    if !is_b64token(token) {
        return Err(Reason::HeaderMalformed);
    }
    Ok(Found { scheme: *kind, token, is_canonical: spaces == 1 && scheme == b"Bearer" })
}

/// RFC 6750, 2.1: `1*( ALPHA / DIGIT / "-" / "." / "_" / "~" / "+" / "/" ) *"="`.
fn is_b64token(token: &[u8]) -> bool {
    let padding = token.iter().rev().take_while(|byte| **byte == b'=').count();
    let body = &token[..token.len() - padding];
    !body.is_empty() && body.iter().all(|byte| B64TOKEN[usize::from(*byte)])
}

const B64TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let it = byte as u8;
        table[byte] = it.is_ascii_alphanumeric() || matches!(it, b'-' | b'.' | b'_' | b'~' | b'+' | b'/');
        byte += 1;
    }
    table
};

/// Whether a query has an argument `access_token`, however its name is escaped.
fn has_access_token(query: &[u8]) -> bool {
    query.split(|byte| matches!(byte, b'&' | b';')).any(|argument| {
        let name = argument.split(|byte| *byte == b'=').next().unwrap_or_default();
        is_escaped(name, b"access_token")
    })
}

fn is_escaped(text: &[u8], plain: &[u8]) -> bool {
    if text.len() < plain.len() || text.len() > plain.len() * 3 {
        return false;
    }
    let (mut at, mut expected) = (0, plain.iter());
    while at < text.len() {
        let byte = match (text[at], text.get(at + 1..at + 3)) {
            (b'%', Some(digits)) => {
                let digit = |digit: u8| char::from(digit).to_digit(16);
                match (digit(digits[0]), digit(digits[1])) {
                    (Some(high), Some(low)) => {
                        at += 2;
                        (high * 16 + low) as u8
                    }
                    _ => b'%',
                }
            }
            (byte, _) => byte,
        };
        at += 1;
        if expected.next() != Some(&byte) {
            return false;
        }
    }
    expected.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::{Owner, Version};

    fn request(fields: &[(&str, &[u8])]) -> Head {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in fields {
            head.push(Owner::Peer, name.as_bytes(), value);
        }
        head
    }

    fn outcome(fields: &[(&str, &[u8])], query: Option<&str>) -> Result<String, (u16, Reason)> {
        let head = request(fields);
        find(&head, query.map(str::as_bytes)).map(|found| String::from_utf8_lossy(found.token).into_owned())
    }

    #[test]
    fn the_scheme_has_any_case_and_the_token_its_alphabet() {
        // T41
        for (value, expected) in [
            (&b"Bearer a.b-c_d~e+f/0=="[..], Ok("a.b-c_d~e+f/0==".to_owned())),
            (b"bearer x", Ok("x".to_owned())),
            (b"BEARER x", Ok("x".to_owned())),
            (b"Bearer  x", Ok("x".to_owned())),
            (b"Bearer", Err((401, Reason::HeaderMalformed))),
            (b"x.y.z", Err((401, Reason::HeaderMalformed))),
            (b"Bearer\tx", Err((401, Reason::HeaderMalformed))),
            (b"Bearer Bearer x", Err((401, Reason::HeaderMalformed))),
            (b"Bearer x y", Err((401, Reason::HeaderMalformed))),
            (b"Bearer x, Bearer y", Err((401, Reason::HeaderMalformed))),
            (b"Bearer x,y", Err((401, Reason::HeaderMalformed))),
            (b"\"Bearer x\"", Err((401, Reason::HeaderMalformed))),
            (b"Bearer \"x\"", Err((401, Reason::HeaderMalformed))),
            (b"Bearer x=y", Err((401, Reason::HeaderMalformed))),
            (b"Bearer ==", Err((401, Reason::HeaderMalformed))),
            (b"Bearer x\xff", Err((401, Reason::HeaderMalformed))),
            (b"Bearer:x", Err((401, Reason::HeaderMalformed))),
            (b"Basic dTpw", Err((401, Reason::HeaderMissing))),
            (b"DPoP x", Ok("x".to_owned())),
            (b"DPoP x y", Err((401, Reason::HeaderMalformed))),
            (b"", Err((401, Reason::HeaderMalformed))),
        ] {
            assert_eq!(outcome(&[("Authorization", value)], None), expected, "{value:?}");
        }
    }

    #[test]
    fn one_authorization_field_counts() {
        // T40
        let twice = [("Authorization", &b"Bearer x"[..]), ("authorization", b"Bearer x")];
        assert_eq!(outcome(&twice, None), Err((400, Reason::HeaderMalformed)));
        assert_eq!(outcome(&twice[1..], None), Ok("x".to_owned()));
    }

    #[test]
    fn nothing_else_authenticates() {
        // T42
        for name in
            ["Proxy-Authorization", "X-Authorization", "Cookie", "Access-Token", "X-Access-Token", "Authorization2"]
        {
            assert_eq!(outcome(&[(name, b"Bearer x")], None), Err((401, Reason::HeaderMissing)), "{name}");
        }
    }

    #[test]
    fn a_token_in_the_query_is_one_too_many() {
        // T38, T39
        let good = [("Authorization", &b"Bearer x"[..])];
        for (query, second) in [
            ("access_token=y", true),
            ("a=1&access_token=", true),
            ("access_token", true),
            ("a;access_token=y", true),
            ("%61ccess%5Ftoken=y", true),
            ("%61%63%63%65%73%73%5f%74%6f%6b%65%6e=y", true),
            ("access_tokens=y", false),
            ("xaccess_token=y", false),
            ("a=access_token", false),
            ("%access_token=y", false),
            ("Access_Token=y", false),
            ("", false),
        ] {
            let expected = if second { Err((400, Reason::TokenInQuery)) } else { Ok("x".to_owned()) };
            assert_eq!(outcome(&good, Some(query)), expected, "{query}");
            assert_eq!(outcome(&[], Some(query)), Err((401, Reason::HeaderMissing)), "{query}");
        }
    }
}
