//! Request targets as logs may carry them: without the credentials a query string or an authority can hold.

/// Parameters whose values are credentials (RFC 6749, RFC 6750 2.3, RFC 7523, RFC 7636, OpenID Connect).
const SECRET: &[&str] = &[
    "access_token",
    "api_key",
    "apikey",
    "assertion",
    "client_assertion",
    "client_secret",
    "code",
    "code_verifier",
    "device_code",
    "id_token",
    "id_token_hint",
    "jwt",
    "logout_token",
    "password",
    "refresh_token",
    "subject_token",
    "token",
];
const LONGEST: usize = 16;
const REDACTED: &[u8] = b"[redacted]";

/// Appends a request target with the values of credential parameters replaced.
///
/// Names match without case and after percent-decoding, because the receiver decodes them too. A `;` separates like a
/// `&`: some receivers read it so.
pub fn scrub_query(target: &[u8], out: &mut Vec<u8>) {
    let (path, query) = match target.iter().position(|byte| *byte == b'?') {
        Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
        None => (target, None),
    };
    scrub_authority(path, out);
    let Some(query) = query else { return };
    out.push(b'?');
    for part in query.split_inclusive(|byte| matches!(byte, b'&' | b';')) {
        let (pair, separator) = match part.split_last() {
            Some((&last @ (b'&' | b';'), pair)) => (pair, Some(last)),
            _ => (part, None),
        };
        match pair.iter().position(|byte| *byte == b'=') {
            Some(equals) if equals + 1 < pair.len() && is_secret(&pair[..equals]) => {
                out.extend_from_slice(&pair[..=equals]);
                out.extend_from_slice(REDACTED);
            }
            _ => out.extend_from_slice(pair),
        }
        out.extend(separator);
    }
}

/// An absolute-form target may carry `user:password@` before its host (RFC 9110, 4.2.4).
fn scrub_authority(path: &[u8], out: &mut Vec<u8>) {
    let userinfo = || {
        let start = path.windows(3).position(|three| three == b"://")? + 3;
        let end = path[start..].iter().position(|byte| *byte == b'/').map_or(path.len(), |slash| start + slash);
        let at = path[start..end].iter().rposition(|byte| *byte == b'@')?;
        Some((start, start + at))
    };
    match (!path.starts_with(b"/")).then(userinfo).flatten() {
        Some((start, at)) => {
            out.extend_from_slice(&path[..start]);
            out.extend_from_slice(REDACTED);
            out.extend_from_slice(&path[at..]);
        }
        None => out.extend_from_slice(path),
    }
}

fn is_secret(name: &[u8]) -> bool {
    let (mut decoded, mut length) = ([0; LONGEST], 0);
    let mut rest = name;
    while let Some((&first, tail)) = rest.split_first() {
        let (byte, tail) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, tail),
                _ => (first, tail_of(rest)),
            },
            _ => (first, tail),
        };
        let Some(slot) = decoded.get_mut(length) else { return false };
        *slot = byte;
        length += 1;
        rest = tail;
    }
    SECRET.iter().any(|secret| secret.as_bytes().eq_ignore_ascii_case(&decoded[..length]))
}

fn tail_of(bytes: &[u8]) -> &[u8] {
    bytes.get(1..).unwrap_or_default()
}

fn hex(digit: u8) -> Option<u8> {
    (digit as char).to_digit(16).map(|value| value as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_buffer_holds_the_longest_name() {
        assert_eq!(SECRET.iter().map(|name| name.len()).max(), Some(LONGEST));
    }

    /// L3.
    #[test]
    fn credentials_leave_the_target_and_nothing_else_does() {
        for (target, expected) in [
            ("/a", "/a"),
            ("/a?", "/a?"),
            ("/a?b=c&d", "/a?b=c&d"),
            ("/a?access_token=s3cret", "/a?access_token=[redacted]"),
            ("/a?x=1&code=s3cret&y=2", "/a?x=1&code=[redacted]&y=2"),
            ("/a?client_secret=s3cret;token=s3cret", "/a?client_secret=[redacted];token=[redacted]"),
            ("/a?ACCESS_Token=s3cret", "/a?ACCESS_Token=[redacted]"),
            ("/a?%61ccess%5Ftoken=s3cret", "/a?%61ccess%5Ftoken=[redacted]"),
            ("/a?access_token=s3=cret==", "/a?access_token=[redacted]"),
            ("/a?q=?token=x", "/a?q=?token=x"),
            ("/a?token=&x=1", "/a?token=&x=1"),
            ("/a?tokens=1&my_code=2&%zz=3&%=4", "/a?tokens=1&my_code=2&%zz=3&%=4"),
            ("/a?client_assertion=s3cret", "/a?client_assertion=[redacted]"),
            ("/a?a_name_longer_than_any_secret=1", "/a?a_name_longer_than_any_secret=1"),
            ("http://user:s3cret@h/p?token=s3cret", "http://[redacted]@h/p?token=[redacted]"),
            ("http://h/p@q", "http://h/p@q"),
            ("/p://x:y@z", "/p://x:y@z"),
            ("*", "*"),
        ] {
            let mut out = Vec::new();
            scrub_query(target.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{target}");
        }
    }
}
