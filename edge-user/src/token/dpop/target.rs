//! Whether an `htu` names a request: scheme, authority and path after RFC 3986's normalisation, query and fragment
//! left out (RFC 9449, 4.3).

use super::Target;
use crate::http::h1::parse::{is_authority, split_port};
use crate::router::normalize_path;

/// See the module text.
pub(super) fn names(htu: &str, target: &Target<'_>) -> bool {
    let Some((scheme, rest)) = htu.split_once("://") else { return false };
    let wanted = if target.https { "https" } else { "http" };
    if !scheme.eq_ignore_ascii_case(wanted) {
        return false;
    }
    let end = rest.find(['?', '#']).unwrap_or(rest.len());
    let rest = &rest[..end];
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let mut scratch = Vec::new();
    is_same_place(authority.as_bytes(), target.authority, target.https)
        && normalize_path(path.as_bytes(), &mut scratch).is_ok_and(|path| path == target.path)
}

/// Hosts compare without case, ports by number; an absent or empty one is the scheme's (RFC 3986, 6.2.3).
fn is_same_place(a: &[u8], b: &[u8], https: bool) -> bool {
    let port = |digits: Option<&[u8]>| match digits {
        None | Some(b"") => Some(if https { 443 } else { 80 }),
        Some(digits) => std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u16>().ok()),
    };
    let ((host_a, port_a), (host_b, port_b)) = (split_port(a), split_port(b));
    is_authority(a) && host_a.eq_ignore_ascii_case(host_b) && port(port_a).is_some() && port(port_a) == port(port_b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn htu_is_compared_in_its_normal_form() {
        // S5
        for (htu, https, authority, path, expected) in [
            ("https://a.example/b", true, "a.example", "/b", true),
            ("HTTPS://A.Example:443/b", true, "a.example", "/b", true),
            ("https://a.example:/b", true, "A.EXAMPLE:443", "/b", true),
            ("https://a.example/b?x=1", true, "a.example", "/b", true),
            ("https://a.example/b#x", true, "a.example", "/b", true),
            ("https://a.example/b?x#/c", true, "a.example", "/b", true),
            ("https://a.example/%7Eb/./c/../%2f", true, "a.example", "/~b/%2F", true),
            ("https://a.example", true, "a.example", "/", true),
            ("https://a.example?x", true, "a.example", "/", true),
            ("http://a.example:8000/b", false, "a.example:8000", "/b", true),
            ("http://[::1]:8000/b", false, "[::1]:8000", "/b", true),
            ("http://a.example/b", true, "a.example", "/b", false),
            ("https://a.example/b", false, "a.example", "/b", false),
            ("https://a.example:8443/b", true, "a.example", "/b", false),
            ("https://a.example:80/b", true, "a.example", "/b", false),
            ("https://a.example/b", true, "a.example:8443", "/b", false),
            ("https://a.example:99999/b", true, "a.example:99999", "/b", false),
            ("https://b.example/b", true, "a.example", "/b", false),
            ("https://a.example/B", true, "a.example", "/b", false),
            ("https://a.example/b/", true, "a.example", "/b", false),
            ("https://a.example/b/c", true, "a.example", "/b", false),
            ("https://a.example/%62%00", true, "a.example", "/b", false),
            ("https://u@a.example/b", true, "a.example", "/b", false),
            ("https://a.example@b.example/b", true, "b.example", "/b", false),
            ("https:///b", true, "", "/b", false),
            ("https:/b", true, "a.example", "/b", false),
            ("//a.example/b", true, "a.example", "/b", false),
            ("/b", true, "a.example", "/b", false),
            ("", true, "a.example", "/", false),
            (" https://a.example/b", true, "a.example", "/b", false),
            ("https://a.example/b ", true, "a.example", "/b", false),
        ] {
            let target = Target { method: b"GET", https, authority: authority.as_bytes(), path: path.as_bytes() };
            assert_eq!(names(htu, &target), expected, "{htu} for {authority}{path}");
        }
    }
}
