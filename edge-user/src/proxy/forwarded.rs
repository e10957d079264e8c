//! `Forwarded` (RFC 7239): what trusted peers said of the way in it, and the edge's own part.
//!
//! What goes on is written anew in one field, so that no two readers of it see two things. Of a peer whose list is not
//! well-formed nothing goes on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::connection::Connection;
use crate::http::h1::parse::is_authority;
use crate::http::head::{Head, Known, is_token_byte};

/// Parameters of one element; RFC 7239 has four, extensions are rare.
const MAX_PARAMETERS: usize = 16;

/// What the edge says in `Forwarded`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Forwarded {
    /// Nothing: what trusted peers said goes on.
    #[default]
    Off,
    /// Behind that, which host it was asked for, by whom and how, and perhaps itself.
    Sent(By),
}

/// How the edge names itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum By {
    /// Not at all.
    #[default]
    Nobody,
    /// By the address it was asked at.
    Address,
    /// By an obfuscated identifier.
    Name(Box<str>),
}

impl By {
    /// What is wanted of `forwarded_by`.
    pub const EXPECTED: &str = "`address`, or a name of letters, digits, `.`, `_` and `-` that begins with `_`";

    /// Reads one.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "address" => Some(Self::Address),
            name => is_obfuscated(name.as_bytes()).then(|| Self::Name(name.into())),
        }
    }
}

/// Puts what is to go on into the head; whatever is there was sent by a trusted peer. `authority` is what the client asked
/// for.
pub fn write(head: &mut Head, connection: &Connection, authority: &[u8], rule: &Forwarded) {
    let is_told = head.has(Known::Forwarded);
    if !is_told && *rule == Forwarded::Off {
        return;
    }
    let mut list = is_told.then(|| normal(head.all(Known::Forwarded))).flatten().unwrap_or_default();
    if let Forwarded::Sent(by) = rule {
        let scheme: &[u8] = if connection.tls { b"https" } else { b"http" };
        let by = match by {
            By::Nobody => Vec::new(),
            By::Address => node(connection.local),
            By::Name(name) => name.as_bytes().to_vec(),
        };
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        let mut separator: &[u8] = b"";
        let pairs: [(&[u8], &[u8]); 4] =
            [(b"for", &node(connection.ip())), (b"by", &by), (b"host", authority), (b"proto", scheme)];
        for (name, value) in pairs.into_iter().filter(|(_, value)| !value.is_empty()) {
            list.extend_from_slice(separator);
            pair(&mut list, name, value);
            separator = b";";
        }
    }
    match list.is_empty() {
        true => head.remove(Known::Forwarded),
        false => head.set_known(Known::Forwarded, &list),
    }
}

/// An address as a node is named (RFC 7239, 6).
fn node(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    }
    .into_bytes()
}

/// The value is quoted where it is no token.
fn pair(list: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    list.extend_from_slice(name);
    list.push(b'=');
    if !value.is_empty() && value.iter().all(|byte| is_token_byte(*byte)) {
        return list.extend_from_slice(value);
    }
    list.push(b'"');
    for byte in value {
        if matches!(byte, b'"' | b'\\') {
            list.push(b'\\');
        }
        list.push(*byte);
    }
    list.push(b'"');
}

/// All elements of these lines as one list, each pair in one spelling; nothing where a line is not well-formed.
pub fn normal<'a>(lines: impl IntoIterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let mut list = Vec::new();
    for line in lines {
        let mut rest = line.trim_ascii_start();
        while let Some(byte) = rest.first() {
            if *byte == b',' {
                rest = rest[1..].trim_ascii_start();
                continue;
            }
            rest = element(rest, &mut list)?;
        }
    }
    Some(list)
}

/// Reads one element, of which each parameter may stand once (RFC 7239, 4), a few at most, and tells what follows it.
fn element<'a>(mut rest: &'a [u8], list: &mut Vec<u8>) -> Option<&'a [u8]> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    loop {
        if !matches!(rest.first(), None | Some(b';' | b',')) {
            let length = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
            let (name, after) = rest.split_at(length);
            let name = name.to_ascii_lowercase();
            let (value, after) = value(after.strip_prefix(b"=")?)?;
            if name.is_empty() || names.len() == MAX_PARAMETERS || names.contains(&name) || !is_valid(&name, &value) {
                return None;
            }
            let separator: &[u8] = match (names.is_empty(), list.is_empty()) {
                (false, _) => b";",
                (true, false) => b", ",
                (true, true) => b"",
            };
            list.extend_from_slice(separator);
            pair(list, &name, &value);
            names.push(name);
            rest = after.trim_ascii_start();
        }
        match rest.first() {
            Some(b';') => rest = rest[1..].trim_ascii_start(),
            None | Some(b',') => return Some(rest),
            Some(_) => return None,
        }
    }
}

/// A token, or what a quoted string says, and what follows it.
fn value(rest: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let Some(quoted) = rest.strip_prefix(b"\"") else {
        let length = rest.iter().take_while(|byte| is_token_byte(**byte)).count();
        let (token, rest) = rest.split_at(length);
        return (!token.is_empty()).then(|| (token.to_vec(), rest));
    };
    let (mut said, mut bytes) = (Vec::new(), quoted);
    loop {
        let (byte, rest) = match bytes {
            [b'"', rest @ ..] => return Some((said, rest)),
            [b'\\', byte, rest @ ..] | [byte, rest @ ..] => (*byte, rest),
            [] => return None,
        };
        // Beyond ASCII nobody knows which letters are meant.
        if !(byte.is_ascii_graphic() || matches!(byte, b' ' | b'\t')) {
            return None;
        }
        said.push(byte);
        bytes = rest;
    }
}

/// Parameters of the RFC say what it lets them say; those of extensions anything.
fn is_valid(name: &[u8], value: &[u8]) -> bool {
    match name {
        b"for" | b"by" => is_node(value),
        b"host" => is_authority(value),
        b"proto" => {
            let rest = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
            value.first().is_some_and(u8::is_ascii_alphabetic) && value.iter().all(rest)
        }
        _ => true,
    }
}

/// `nodename [ ":" node-port ]` (RFC 7239, 6).
fn is_node(text: &[u8]) -> bool {
    fn is<T: std::str::FromStr>(text: &[u8]) -> bool {
        std::str::from_utf8(text).is_ok_and(|text| text.parse::<T>().is_ok())
    }
    let inner = text.strip_prefix(b"[").and_then(|rest| Some((rest, rest.iter().position(|byte| *byte == b']')?)));
    let (is_name, rest) = match inner {
        Some((inner, end)) => (is::<Ipv6Addr>(&inner[..end]), &inner[end + 1..]),
        None => {
            let end = text.iter().position(|byte| *byte == b':').unwrap_or(text.len());
            let name = &text[..end];
            (is::<Ipv4Addr>(name) || name.eq_ignore_ascii_case(b"unknown") || is_obfuscated(name), &text[end..])
        }
    };
    let is_port =
        |port: &[u8]| (1..=5).contains(&port.len()) && port.iter().all(u8::is_ascii_digit) || is_obfuscated(port);
    is_name && (rest.is_empty() || rest.strip_prefix(b":").is_some_and(is_port))
}

/// What stands for a node or a port without telling it (RFC 7239, 6.3).
fn is_obfuscated(text: &[u8]) -> bool {
    let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    matches!(text, [b'_', rest @ ..] if !rest.is_empty() && rest.iter().all(is_part))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(lines: &[&str]) -> Option<String> {
        let list = normal(lines.iter().map(|line| line.as_bytes()))?;
        Some(String::from_utf8(list).unwrap())
    }

    #[test]
    fn lists_are_read_by_the_grammar_and_written_in_one_spelling() {
        for (lines, expected) in [
            (&["for=192.0.2.43"][..], "for=192.0.2.43"),
            (&["For=\"[2001:db8:cafe::17]:4711\""], "for=\"[2001:db8:cafe::17]:4711\""),
            (&["for=192.0.2.60;proto=http;by=203.0.113.43"], "for=192.0.2.60;proto=http;by=203.0.113.43"),
            (&["for=192.0.2.43, for=\"198.51.100.17:80\""], "for=192.0.2.43, for=\"198.51.100.17:80\""),
            (&["for=_hidden, FOR=unknown", "for=_SEVKISEK"], "for=_hidden, for=unknown, for=_SEVKISEK"),
            (&["for=\"_a:_b\";by=\"unknown:80\""], "for=\"_a:_b\";by=\"unknown:80\""),
            (&["for=\"192.0.2.43\""], "for=192.0.2.43"),
            (&["for=\"\\1.2.3.4\""], "for=1.2.3.4"),
            (&["for=1.2.3.4; proto=https ;host=\"a.example:8443\""], "for=1.2.3.4;proto=https;host=\"a.example:8443\""),
            (&["host=a.example;;proto=h2c;"], "host=a.example;proto=h2c"),
            (&[" , for=1.2.3.4,,for=1.2.3.5 ,"], "for=1.2.3.4, for=1.2.3.5"),
            (&["secret=\"a, for=1.2.3.4\\\"\";for=_x"], "secret=\"a, for=1.2.3.4\\\"\";for=_x"),
            (&["ext=\"\""], "ext=\"\""),
            (&["", ";", ","], ""),
        ] {
            assert_eq!(of(lines).as_deref(), Some(expected), "{lines:?}");
        }
    }

    #[test]
    fn what_is_not_well_formed_says_nothing() {
        for line in [
            "for",
            "for=",
            "=1.2.3.4",
            "for =1.2.3.4",
            "for= 1.2.3.4",
            "for=1.2.3.4 proto=http",
            "for=1.2.3",
            "for=[::1]",
            "for=::1",
            "for=\"::1\"",
            "for=\"[::1\"",
            "for=\"[::1]80\"",
            "for=\"[1.2.3.4]\"",
            "for=1.2.3.4:80",
            "for=\"1.2.3.4:\"",
            "for=\"1.2.3.4:123456\"",
            "for=\"1.2.3.4:x\"",
            "for=_",
            "for=\"_a b\"",
            "for=localhost",
            "for=\"1.2.3.4",
            "for=\"1.2.3.4\\",
            "for=\"1.2.3.4\"x",
            "for=1.2.3.4;for=1.2.3.5",
            "for=1.2.3.4;FOR=_x",
            "host=\"a b\"",
            "host=\"\"",
            "proto=\"\"",
            "proto=1http",
            "ext=\"\u{e9}\"",
            "for=1.2.3.4, junk",
        ] {
            assert_eq!(of(&["for=192.0.2.1", line]), None, "{line}");
        }
    }

    #[test]
    fn names_of_the_edge_are_judged() {
        for (text, expected) in [
            ("address", Some(By::Address)),
            ("_edge-1.a", Some(By::Name("_edge-1.a".into()))),
            ("_", None),
            ("edge", None),
            ("_a b", None),
            ("unknown", None),
        ] {
            assert_eq!(By::parse(text), expected, "{text}");
        }
    }

    proptest! {
        /// What is written reads the same once more, and ends no field.
        #[test]
        fn what_is_written_is_read_the_same(line in "[forbyhstpax=;, \"\\\\\\[\\]:_.1-3]{0,40}") {
            if let Some(list) = of(&[&line]) {
                prop_assert_eq!(of(&[&list]), Some(list));
            }
        }
    }
}
