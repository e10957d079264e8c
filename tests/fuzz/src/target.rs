//! Paths: one normal form, from which nothing climbs out.

use std::sync::LazyLock;

use edge_user::http::head::{Head, Known, Owner, Version};
use edge_user::proxy::target;
use edge_user::router::{Criteria, PathPattern, Pattern, Request, Router, normalize_path, upstream_path};

/// A request target. Its path is the same to the edge and to a slow second reader, whatever prefix a route takes off.
pub fn path(data: &[u8]) {
    let raw = data.split(|byte| *byte == b'?').next().unwrap_or_default();
    let mut scratch = Vec::new();
    if let Ok(normal) = normalize_path(raw, &mut scratch) {
        check_normal(normal);
        let mut again = Vec::new();
        assert_eq!(normalize_path(normal, &mut again), Ok(normal), "the normal form has a normal form");
        assert_eq!(String::from_utf8_lossy(normal), slowly(raw));
        routed(normal);
        for matched in 0..=normal.len() {
            for base in [None, Some("/base"), Some("/base/")] {
                let mut up = Vec::new();
                upstream_path(base, true, matched, normal, &mut up);
                check_normal(&up);
                assert!(up.starts_with(base.unwrap_or("/").trim_end_matches('/').as_bytes()));
            }
        }
    }
    if !data.is_empty() && data.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        resolved(data);
    }
}

static ROUTER: LazyLock<Router> = LazyLock::new(|| {
    let route =
        |text| Criteria { paths: vec![PathPattern::Regex(Pattern::path(text).expect("good"))], ..Criteria::default() };
    Router::new(&["/(?<name>[^/.]+)/\\d+", "(?i)/a.*?(%2F|;)", "/\\w*", ".*"].map(route))
});

/// A regular expression takes a part of the path, and its groups parts of that.
fn routed(path: &[u8]) {
    let head = Head::default();
    let request = Request { head: &head, host: b"client.example", port: 80, path, tls: false, sni: None };
    let found = ROUTER.select(&request).expect("one takes everything");
    let captures = ROUTER.captures(&found, path).expect("all have expressions");
    assert_eq!(captures.by_index(0), Some(&path[..found.matched]), "route and groups see one match");
    let name = captures.by_name("name");
    assert_eq!((name.is_some(), name), (found.route == 0, captures.by_index(1).filter(|_| found.route == 0)));
    assert!(!name.unwrap_or_default().contains(&b'/'));
}

fn resolved(data: &[u8]) {
    let mut head = Head::default();
    head.start_request(b"GET", data, Version::Http11);
    head.push(Owner::Peer, b"Host", b"client.example:81");
    let Ok(target) = target::resolve(&mut head, &mut Vec::new(), 80) else { return };
    check_normal(target.path());
    let query = data.iter().position(|byte| *byte == b'?').map(|at| &data[at + 1..]);
    assert_eq!(target.query(), query, "the query goes on as it came");
    let host = head.get(Known::Host).expect("it stays").to_vec();
    assert!(host.starts_with(target.host()) && !target.host().is_empty());
    if data.starts_with(b"/") {
        assert_eq!((&host[..], target.port), (&b"client.example:81"[..], 81));
    } else {
        let lower = String::from_utf8_lossy(data).to_ascii_lowercase();
        let authority = lower.strip_prefix("http://").or(lower.strip_prefix("https://")).expect("absolute form");
        assert!(authority.as_bytes().starts_with(&host.to_ascii_lowercase()), "the target's authority is the host");
    }
}

/// Whether a path is what routing, rules and upstream may all rely on (P4).
pub fn check_normal(path: &[u8]) {
    let text = std::str::from_utf8(path).expect("ASCII");
    assert!(text.starts_with('/'), "{text}");
    assert!(text.bytes().all(|byte| byte.is_ascii_graphic() && !b"#?\\\"<>^`{|}".contains(&byte)), "{text}");
    let decoded = unescape(text);
    assert!(!decoded.contains(&0), "{text}");
    // Upstreams decode, take `\` for `/`, and cut off parameters.
    for segment in decoded.split(|byte| matches!(byte, b'/' | b'\\')) {
        let name = segment.split(|byte| *byte == b';').next().unwrap_or_default();
        assert!(name != b"..", "{text} climbs");
    }
    assert!(!text.split('/').any(|segment| segment == "."), "{text}");
    assert!(!text.contains("//"), "{text}");
}

fn unescape(text: &str) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), text.as_bytes());
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        if *byte != b'%' {
            out.push(*byte);
            continue;
        }
        let digits = std::str::from_utf8(rest.get(..2).expect("two digits")).expect("ASCII");
        assert!(!digits.bytes().any(|digit| digit.is_ascii_lowercase()), "escapes are in upper case");
        out.push(u8::from_str_radix(digits, 16).expect("hex digits"));
        rest = &rest[2..];
    }
    out
}

/// RFC 3986, 6.2.2, and merged slashes, written for the eye.
fn slowly(raw: &[u8]) -> String {
    let (mut plain, mut at) = (String::new(), 0);
    while at < raw.len() {
        let (byte, used) = match raw[at] {
            b'%' => {
                let digits = std::str::from_utf8(&raw[at + 1..at + 3]).expect("accepted: two digits");
                (u8::from_str_radix(digits, 16).expect("accepted: hex digits"), 3)
            }
            byte => (byte, 1),
        };
        at += used;
        let unreserved = byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        let raw_allowed = used == 1 && b"/!$&'()*+,;=:@[]".contains(&byte);
        match unreserved || raw_allowed {
            true => plain.push(char::from(byte)),
            false => plain.push_str(&format!("%{byte:02X}")),
        }
    }
    let mut stack: Vec<&str> = Vec::new();
    let segments: Vec<&str> = plain.split('/').skip(1).collect();
    for segment in &segments {
        match *segment {
            "" | "." => {}
            ".." => drop(stack.pop()),
            segment => stack.push(segment),
        }
    }
    let ends_open = matches!(segments.last(), None | Some(&"" | &"." | &".."));
    let mut out: String = stack.iter().flat_map(|segment| ["/", segment]).collect();
    if ends_open || out.is_empty() {
        out.push('/');
    }
    out
}
