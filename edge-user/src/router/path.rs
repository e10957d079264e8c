//! One path for routing, rules and the upstream (P4): its normal form, and the path that goes upstream.

/// The path of a request target has no normal form: the request is malformed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with `/`.
    #[error("the path does not begin with a slash")]
    Relative,
    /// A control byte, a space, `#`, `?` or a backslash stands in it as such.
    #[error("the path has a byte that may not stand in it")]
    Byte,
    /// `%` without two hex digits.
    #[error("the path has a broken percent escape")]
    Escape,
    /// `%00`: no path has it, and what runs in C ends there.
    #[error("the path has an escaped NUL")]
    Nul,
    /// `..` that appears only once `%2F` or `%5C` is decoded or a parameter (`;x`, `%3Bx`) is cut off, as some upstreams do.
    #[error("the path hides a parent segment")]
    HiddenParent,
}

/// What a byte of a raw path means for its normal form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    /// Stands as it is.
    Plain,
    /// Stands as its escape: not allowed by RFC 3986, 3.3, but sent by some clients.
    Encode,
    /// Ends or begins something: `/`, `%`.
    Special,
    Bad,
}

const CLASSES: [Class; 256] = {
    let mut classes = [Class::Bad; 256];
    let mut byte = 0x21;
    while byte < 256 {
        classes[byte] = match byte as u8 {
            b'/' | b'%' => Class::Special,
            0x7f | b'#' | b'?' | b'\\' => Class::Bad,
            b'"' | b'<' | b'>' | b'^' | b'`' | b'{' | b'|' | b'}' | 0x80.. => Class::Encode,
            _ => Class::Plain,
        };
        byte += 1;
    }
    classes
};

/// The normal form of a path without query: escapes of unreserved characters decoded, the others in upper case, dot
/// segments removed, slashes merged (RFC 3986, 6.2.2). `%2F` and `%5C` stay escapes and so part of their segment; bytes
/// that RFC 3986 does not allow become escapes. Nothing is decoded twice. Without need for change `raw` itself comes back.
pub fn normalize_path<'a>(raw: &'a [u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], BadPath> {
    match raw.first() {
        None => return Ok(b"/"),
        Some(b'/') if is_normal(raw) => return Ok(raw),
        Some(b'/') => {}
        Some(_) => return Err(BadPath::Relative),
    }
    scratch.clear();
    let mut segments = raw[1..].split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        let start = scratch.len();
        scratch.push(b'/');
        decode_segment(segment, scratch)?;
        let last = segments.peek().is_none();
        match &scratch[start + 1..] {
            b"" if !last => scratch.truncate(start),
            b"." => {
                scratch.truncate(start);
                if last {
                    scratch.push(b'/');
                }
            }
            b".." => {
                scratch.truncate(start);
                let parent = scratch.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
                scratch.truncate(parent);
                if last {
                    scratch.push(b'/');
                }
            }
            segment if hides_parent(segment) => return Err(BadPath::HiddenParent),
            _ => {}
        }
    }
    Ok(scratch)
}

/// Whether a configured path is its own normal form.
pub fn is_normalized(path: &str) -> bool {
    normalize_path(path.as_bytes(), &mut Vec::new()) == Ok(path.as_bytes())
}

/// Whether a path needs no second look: only plain bytes, no `//`, no segment that begins with a dot.
fn is_normal(raw: &[u8]) -> bool {
    let mut after_slash = false;
    raw.iter().all(|byte| {
        let slash = *byte == b'/';
        let fine = if after_slash { !slash && *byte != b'.' } else { true };
        after_slash = slash;
        fine && (slash || CLASSES[*byte as usize] == Class::Plain) && *byte != b';'
    })
}

fn decode_segment(segment: &[u8], out: &mut Vec<u8>) -> Result<(), BadPath> {
    let mut rest = segment;
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        match CLASSES[*byte as usize] {
            Class::Plain => out.push(*byte),
            Class::Encode => push_escape(*byte, out),
            Class::Bad => return Err(BadPath::Byte),
            Class::Special => {
                let digits = rest.split_first_chunk::<2>();
                let (byte, after) = digits
                    .and_then(|([high, low], after)| Some((hex(*high)? << 4 | hex(*low)?, after)))
                    .ok_or(BadPath::Escape)?;
                rest = after;
                match byte {
                    0 => return Err(BadPath::Nul),
                    byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(byte),
                    byte => push_escape(byte, out),
                }
            }
        }
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

fn push_escape(byte: u8, out: &mut Vec<u8>) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    out.extend_from_slice(&[b'%', DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
}

/// Whether a decoded segment turns into a parent segment for an upstream that decodes `%2F` or `%5C`, or cuts `;x`,
/// escaped or not.
fn hides_parent(segment: &[u8]) -> bool {
    let mut rest = segment;
    loop {
        let end = rest.windows(3).position(|escape| matches!(escape, b"%2F" | b"%5C"));
        let piece = &rest[..end.unwrap_or(rest.len())];
        if piece == b".." && piece.len() < segment.len() || piece.starts_with(b"..;") || piece.starts_with(b"..%3B") {
            return true;
        }
        match end {
            Some(end) => rest = &rest[end + 3..],
            None => return false,
        }
    }
}

/// Writes the path that goes upstream (`path_handling` v0). `matched` bytes of `path` are what the route's prefix or
/// regular expression took; with `strip` they are cut off. What is then a dot segment, hidden or not, is left out: both may
/// end inside a segment.
pub fn upstream_path(service_path: Option<&str>, strip: bool, matched: usize, path: &[u8], out: &mut Vec<u8>) {
    let base = service_path.unwrap_or("/").as_bytes();
    out.clear();
    if !strip {
        match base.split_last() {
            Some((b'/', start)) => out.extend_from_slice(start),
            _ => out.extend_from_slice(base),
        }
        // A base without final slash keeps none for the root.
        if path != b"/" || base.ends_with(b"/") {
            out.extend_from_slice(path);
        }
        return;
    }
    // A route without paths takes the first slash, as one for `/` does.
    let matched = matched.max(1);
    let mut rest = &path[matched..];
    if !rest.starts_with(b"/") && !path[..matched].ends_with(b"/") {
        let end = rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len());
        if matches!(&rest[..end], b"." | b"..") || hides_parent(&rest[..end]) {
            rest = rest.get(end + 1..).unwrap_or_default();
        }
    }
    let bare = base.strip_suffix(b"/").unwrap_or(base);
    out.extend_from_slice(bare);
    match rest.first() {
        Some(b'/') => out.extend_from_slice(rest),
        Some(_) => {
            out.push(b'/');
            out.extend_from_slice(rest);
        }
        None if bare.is_empty() => out.push(b'/'),
        None if path.ends_with(b"/") && (path.len() > 1 || base.ends_with(b"/")) => out.push(b'/'),
        None => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths_have_one_normal_form() {
        for (raw, expected) in [
            ("", Ok("/")),
            ("/", Ok("/")),
            ("/a/b", Ok("/a/b")),
            ("/a/b/", Ok("/a/b/")),
            ("//", Ok("/")),
            ("//a///b//", Ok("/a/b/")),
            ("/.", Ok("/")),
            ("/..", Ok("/")),
            ("/../../a", Ok("/a")),
            ("/a/.", Ok("/a/")),
            ("/a/..", Ok("/")),
            ("/a/b/..", Ok("/a/")),
            ("/a/./b", Ok("/a/b")),
            ("/a/../b", Ok("/b")),
            ("/a//../b", Ok("/b")),
            ("/a/.../b", Ok("/a/.../b")),
            ("/a/.b/..c", Ok("/a/.b/..c")),
            ("/%61%2Db%7e", Ok("/a-b~")),
            ("/a/%2e%2E/b", Ok("/b")),
            ("/a/.%2e/b", Ok("/b")),
            ("/a%2fb", Ok("/a%2Fb")),
            ("/a%5cb", Ok("/a%5Cb")),
            ("/%252e%252e/a", Ok("/%252e%252e/a")),
            ("/%2525", Ok("/%2525")),
            ("/a;x=1/b", Ok("/a;x=1/b")),
            ("/a/..x;y", Ok("/a/..x;y")),
            ("/a:b@c!$&'()*+,=[]", Ok("/a:b@c!$&'()*+,=[]")),
            ("/%3a", Ok("/%3A")),
            ("/\"<>^`{|}", Ok("/%22%3C%3E%5E%60%7B%7C%7D")),
            ("/\u{e9}", Ok("/%C3%A9")),
            ("/%c3%a9", Ok("/%C3%A9")),
            ("/%0a", Ok("/%0A")),
            ("a", Err(BadPath::Relative)),
            ("*", Err(BadPath::Relative)),
            ("/a b", Err(BadPath::Byte)),
            ("/a\tb", Err(BadPath::Byte)),
            ("/a\nb", Err(BadPath::Byte)),
            ("/a\0", Err(BadPath::Byte)),
            ("/a\x7f", Err(BadPath::Byte)),
            ("/a#b", Err(BadPath::Byte)),
            ("/a?b", Err(BadPath::Byte)),
            ("/a\\b", Err(BadPath::Byte)),
            ("/%", Err(BadPath::Escape)),
            ("/%4", Err(BadPath::Escape)),
            ("/%zz", Err(BadPath::Escape)),
            ("/%4/1", Err(BadPath::Escape)),
            ("/%+1", Err(BadPath::Escape)),
            ("/a%00", Err(BadPath::Nul)),
            ("/a/..;/b", Err(BadPath::HiddenParent)),
            ("/a/..;x=1", Err(BadPath::HiddenParent)),
            ("/a/%2e%2e;/b", Err(BadPath::HiddenParent)),
            ("/a/..%3b/b", Err(BadPath::HiddenParent)),
            ("/a/x%2f..%3By", Err(BadPath::HiddenParent)),
            ("/a/..x%3b", Ok("/a/..x%3B")),
            ("/a/..%2fb", Err(BadPath::HiddenParent)),
            ("/a/x%2f..%2fb", Err(BadPath::HiddenParent)),
            ("/a/x%5c..", Err(BadPath::HiddenParent)),
            ("/a/x%2f..;y", Err(BadPath::HiddenParent)),
        ] {
            let mut scratch = b"old".to_vec();
            let seen = normalize_path(raw.as_bytes(), &mut scratch);
            assert_eq!(seen, expected.map(str::as_bytes), "{raw:?}");
        }
    }

    #[test]
    fn a_normal_path_is_not_copied() {
        let (raw, mut scratch) = (b"/api/v1/orders", Vec::new());
        assert_eq!(normalize_path(raw, &mut scratch).unwrap().as_ptr(), raw.as_ptr());
        assert!(is_normalized("/a/b") && !is_normalized("/a//b") && !is_normalized("/%41") && !is_normalized("a"));
    }

    #[test]
    fn upstream_paths_follow_the_table() {
        for (base, strip, prefix, path, expected) in [
            // base ends with a slash, strip
            (None, true, "/a", "/a", "/"),
            (None, true, "/a", "/a/b", "/b"),
            (None, true, "/a", "/ab", "/b"),
            (None, true, "/a/", "/a/", "/"),
            (None, true, "/", "/x", "/x"),
            (None, true, "/", "/", "/"),
            (None, true, "", "/x/y", "/x/y"),
            (Some("/s/"), true, "/a", "/a", "/s"),
            (Some("/s/"), true, "/a/", "/a/", "/s/"),
            (Some("/s/"), true, "/a", "/a/b", "/s/b"),
            (Some("/s/"), true, "/a", "/ab", "/s/b"),
            (Some("/s/"), true, "/", "/", "/s/"),
            // base ends with a slash, no strip
            (None, false, "/a", "/a/b", "/a/b"),
            (None, false, "/", "/", "/"),
            (Some("/s/"), false, "/a", "/a/b", "/s/a/b"),
            (Some("/s/"), false, "/", "/", "/s/"),
            // base without final slash, strip
            (Some("/s"), true, "/a", "/a", "/s"),
            (Some("/s"), true, "/a/", "/a/", "/s/"),
            (Some("/s"), true, "/", "/", "/s"),
            (Some("/s"), true, "/a", "/a/", "/s/"),
            (Some("/s"), true, "/tv0", "/tv0/req", "/s/req"),
            (Some("/s"), true, "/a", "/ab", "/s/b"),
            (Some("/s"), true, "", "/x", "/s/x"),
            (Some("/s"), true, "", "/", "/s"),
            // what a regular expression matched, to the middle of a segment or of an escape, or nothing
            (Some("/s"), true, "/users/42", "/users/42/items", "/s/items"),
            (Some("/s/"), true, "/users/4", "/users/42/items", "/s/2/items"),
            (Some("/s"), true, "/a%2", "/a%2Fb", "/s/Fb"),
            (None, true, "/users/42/items", "/users/42/items", "/"),
            // base without final slash, no strip
            (Some("/s"), false, "/fv0", "/fv0/req", "/s/fv0/req"),
            (Some("/s"), false, "/", "/", "/s"),
            // a prefix that ends inside a segment must not make a dot segment
            (Some("/s"), true, "/a", "/a..", "/s"),
            (Some("/s"), true, "/a", "/a.", "/s"),
            (Some("/s"), true, "/a", "/a../x", "/s/x"),
            (Some("/s/"), true, "/a", "/a./x", "/s/x"),
            (Some("/s"), true, "/a", "/a..;x/y", "/s/y"),
            (Some("/s"), true, "/a", "/a..%2Fx/y", "/s/y"),
            (Some("/s"), true, "/a", "/a.b", "/s/.b"),
            (Some("/s"), true, "/a", "/a..b", "/s/..b"),
        ] {
            let mut out = b"old".to_vec();
            upstream_path(base, strip, prefix.len(), path.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{base:?} {strip} {prefix} {path}");
        }
    }

    proptest! {
        #[test]
        fn normal_forms_are_stable_and_clean(tail in "(/|\\.|%2e|%2E|%2f|%5c|%41|;|a|B|é|\\{){0,24}") {
            let raw = format!("/{tail}");
            let mut scratch = Vec::new();
            if let Ok(once) = normalize_path(raw.as_bytes(), &mut scratch) {
                let once = once.to_vec();
                let mut again = Vec::new();
                prop_assert_eq!(normalize_path(&once, &mut again), Ok(&once[..]));
                let text = String::from_utf8(once).unwrap();
                prop_assert!(text.starts_with('/') && !text.contains("//"), "{}", text);
                prop_assert!(!text.split('/').any(|segment| segment == "." || segment == ".."), "{}", text);
            }
        }

        #[test]
        fn any_bytes_are_judged_without_panic(raw in proptest::collection::vec(any::<u8>(), 0..40), cut in 0usize..40) {
            let mut scratch = Vec::new();
            if let Ok(path) = normalize_path(&raw, &mut scratch) {
                let (cut, path) = (cut.min(path.len()), path.to_vec());
                let mut out = Vec::new();
                upstream_path(Some("/s"), true, cut, &path, &mut out);
                prop_assert!(out.starts_with(b"/s"));
                prop_assert!(!out.split(|byte| *byte == b'/').any(|segment| matches!(segment, b"." | b"..")));
            }
        }
    }
}
