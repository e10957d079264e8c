//! The arguments of a query or form in their order: what no step touches stays byte for byte as it came.

use super::Step;
use crate::plugin::arguments::decode;

/// One argument, or an empty place between two separators.
struct Argument {
    /// Before it, but for the first one.
    separator: u8,
    /// Decoded.
    name: Vec<u8>,
    /// As it is spelled, its value included.
    text: Vec<u8>,
}

/// All of them.
pub struct Arguments(Vec<Argument>);

impl Arguments {
    /// Reads a query or form: any bytes are one.
    pub fn parse(text: &[u8]) -> Self {
        let mut arguments = Vec::new();
        let (mut rest, mut separator) = (text, b'&');
        while !rest.is_empty() || !arguments.is_empty() {
            // `;` separates too: no argument is to hide from a step and be seen by an upstream.
            let end = memchr::memchr2(b'&', b';', rest).unwrap_or(rest.len());
            let piece = &rest[..end];
            let name = &piece[..memchr::memchr(b'=', piece).unwrap_or(piece.len())];
            arguments.push(Argument { separator, name: decode(name).into_owned(), text: piece.to_vec() });
            let Some(next) = rest.get(end) else { break };
            (separator, rest) = (*next, &rest[end + 1..]);
        }
        Self(arguments)
    }

    /// As text once more.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        for (index, argument) in self.0.iter().enumerate() {
            if index > 0 {
                text.push(argument.separator);
            }
            text.extend_from_slice(&argument.text);
        }
        text
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Those of the other behind these.
    pub(super) fn extend(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument.is(name))
    }

    fn remove(&mut self, name: &str) {
        self.0.retain(|argument| !argument.is(name));
    }

    fn push(&mut self, name: &str, value: &[u8]) {
        self.0.push(Argument { separator: b'&', name: name.as_bytes().to_vec(), text: spelled(name, value) });
    }

    /// Takes a step; a value is given for those that have one.
    pub fn apply(&mut self, step: &Step, value: &[u8]) {
        match step {
            Step::Remove(name) => self.remove(name),
            Step::Rename(old, new) if old != new && self.has(old) => {
                self.remove(new);
                for argument in self.0.iter_mut().filter(|argument| argument.is(old)) {
                    let rest = memchr::memchr(b'=', &argument.text).map_or(&[][..], |at| &argument.text[at..]);
                    argument.text = [&encoded(new.as_bytes())[..], rest].concat();
                    argument.name = new.as_bytes().to_vec();
                }
            }
            Step::Replace(name, _) => {
                let Some(at) = self.0.iter().position(|argument| argument.is(name)) else { return };
                self.0[at].text = spelled(name, value);
                let mut place = 0..;
                self.0.retain(|argument| place.next() <= Some(at) || !argument.is(name));
            }
            Step::Add(name, _) if !self.has(name) => self.push(name, value),
            Step::Append(name, _) => self.push(name, value),
            Step::Rename(..) | Step::Add(..) => {}
        }
    }
}

impl Argument {
    fn is(&self, name: &str) -> bool {
        self.name == name.as_bytes()
    }
}

fn spelled(name: &str, value: &[u8]) -> Vec<u8> {
    [&encoded(name.as_bytes())[..], b"=", &encoded(value)].concat()
}

/// Everything but unreserved characters escaped (RFC 3986, 2.3).
fn encoded(text: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(text.len());
    for byte in text {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) => encoded.push(*byte),
            byte => encoded.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::template::Template;
    use super::*;

    #[test]
    fn steps_change_what_they_name_and_nothing_else() {
        let value = || Template::parse("", &mut Vec::new()).unwrap();
        let remove = |name: &str| Step::Remove(name.into());
        let rename = |old: &str, new: &str| Step::Rename(old.into(), new.into());
        let replace = |name: &str| Step::Replace(name.into(), value());
        let add = |name: &str| Step::Add(name.into(), value());
        let append = |name: &str| Step::Append(name.into(), value());
        for (text, step, expected) in [
            ("a=1&b=%32&a", remove("a"), "b=%32"),
            ("x;a=1&b", remove("a"), "x&b"),
            ("%61=1", remove("a"), ""),
            ("A=1", remove("a"), "A=1"),
            ("a=1&&b=2&", remove("c"), "a=1&&b=2&"),
            ("a=%31&b=2&a=3", rename("a", "c d"), "c%20d=%31&b=2&c%20d=3"),
            ("a=1&b=2", rename("a", "b"), "b=1"),
            ("b=2", rename("a", "b"), "b=2"),
            ("a", rename("a", "b"), "b"),
            ("a=1&b=2&a=3", replace("a"), "a=v%26%20%C3%A9&b=2"),
            ("b=2", replace("a"), "b=2"),
            ("b=2", add("a"), "b=2&a=v%26%20%C3%A9"),
            ("a", add("a"), "a"),
            ("", add("a"), "a=v%26%20%C3%A9"),
            ("a=1", append("a"), "a=1&a=v%26%20%C3%A9"),
        ] {
            let mut arguments = Arguments::parse(text.as_bytes());
            arguments.apply(&step, "v& é".as_bytes());
            assert_eq!(String::from_utf8(arguments.text()).unwrap(), expected, "{text}");
        }
    }
}
