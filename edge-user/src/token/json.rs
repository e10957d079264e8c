//! Strict JSON (RFC 8259) for tokens: one pass over the bytes gives a flat tree of offsets; nothing is copied.
//!
//! Stricter than the RFC where tokens need it: members are unique at every level (RFC 7519, 4), depth and size are
//! bounded, escapes never form a lone surrogate. Look-ups allocate nothing unless a string has escapes.

use std::borrow::Cow;
use std::collections::HashSet;

/// Levels of arrays and objects that a token may nest.
pub const MAX_DEPTH: usize = 32;
/// Bytes of one document: offsets are 16 bit.
pub const MAX_BYTES: usize = u16::MAX as usize;
/// Up to this many members of an object are compared one by one; more go through a set.
const FEW_MEMBERS: usize = 16;

/// What a value is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `{…}`
    Object,
    /// `[…]`
    Array,
    /// A string without escapes.
    Text,
    /// A string with escapes.
    Escaped,
    /// A number.
    Number,
    /// `true`
    True,
    /// `false`
    False,
    /// `null`
    Null,
}

/// One value or member name. Strings exclude their quotes; `next` is the node after the whole value.
#[derive(Clone, Copy)]
struct Node {
    start: u16,
    end: u16,
    next: u16,
    kind: Kind,
}

/// A parsed document that owns its bytes.
pub struct Document {
    bytes: Box<[u8]>,
    nodes: Box<[Node]>,
}

/// The document is not what this module takes.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the strict JSON a token needs")]
pub struct Malformed;

impl Document {
    /// Parses bytes that must be exactly one JSON value in UTF-8.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BYTES || std::str::from_utf8(&bytes).is_err() {
            return Err(Malformed);
        }
        // A typical claim set has a node for every 12 bytes or fewer.
        let mut parser = Parser { bytes: &bytes, at: 0, nodes: Vec::with_capacity(bytes.len() / 12 + 4) };
        parser.space();
        parser.value(0)?;
        parser.space();
        if parser.at != bytes.len() {
            return Err(Malformed);
        }
        let nodes = parser.nodes.into_boxed_slice();
        Ok(Self { bytes: bytes.into_boxed_slice(), nodes })
    }

    /// The outermost value.
    pub fn root(&self) -> Value<'_> {
        Value { document: self, index: 0 }
    }

    /// Bytes this document holds on the heap.
    pub fn heap_bytes(&self) -> usize {
        self.bytes.len() + size_of_val(&*self.nodes)
    }
}

/// One value of a document.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    document: &'a Document,
    index: usize,
}

impl<'a> Value<'a> {
    fn node(self) -> Node {
        self.document.nodes[self.index]
    }

    /// What this is.
    pub fn kind(self) -> Kind {
        self.node().kind
    }

    /// Whether this is a string.
    pub fn is_text(self) -> bool {
        matches!(self.kind(), Kind::Text | Kind::Escaped)
    }

    /// The value as written; strings without their quotes, escapes as they stand.
    pub fn raw(self) -> &'a str {
        let node = self.node();
        let bytes = &self.document.bytes[usize::from(node.start)..usize::from(node.end)];
        std::str::from_utf8(bytes).expect("checked when parsed; every node starts and ends at ASCII")
    }

    /// The string's text; nothing for other kinds.
    pub fn text(self) -> Option<Cow<'a, str>> {
        match self.kind() {
            Kind::Text => Some(Cow::Borrowed(self.raw())),
            Kind::Escaped => Some(Cow::Owned(unescape(self.raw()))),
            _ => None,
        }
    }

    /// Whether this is a string with exactly this text.
    pub fn is(self, text: &str) -> bool {
        match self.kind() {
            Kind::Text => {
                let node = self.node();
                &self.document.bytes[usize::from(node.start)..usize::from(node.end)] == text.as_bytes()
            }
            Kind::Escaped => unescape(self.raw()) == text,
            _ => false,
        }
    }

    /// Elements of an array; none for other kinds.
    pub fn items(self) -> impl Iterator<Item = Value<'a>> {
        let node = self.node();
        let end = if node.kind == Kind::Array { usize::from(node.next) } else { self.index + 1 };
        Siblings { document: self.document, index: self.index + 1, end }
    }

    /// Members of an object in order; none for other kinds.
    pub fn members(self) -> impl Iterator<Item = (Value<'a>, Value<'a>)> {
        let node = self.node();
        let end = if node.kind == Kind::Object { usize::from(node.next) } else { self.index + 1 };
        let mut nodes = Siblings { document: self.document, index: self.index + 1, end };
        std::iter::from_fn(move || Some((nodes.next()?, nodes.next()?)))
    }

    /// The member of this name.
    pub fn member(self, name: &str) -> Option<Value<'a>> {
        self.members().find(|(key, _)| key.is(name)).map(|(_, value)| value)
    }

    /// A number of seconds as milliseconds, fractions cut; nothing beyond ±2^53 s or for other kinds (RFC 7519, 2).
    pub fn seconds_as_ms(self) -> Option<i64> {
        const EXACT: f64 = 9_007_199_254_740_992.0;
        if self.kind() != Kind::Number {
            return None;
        }
        let raw = self.raw();
        if raw.len() <= 15 && raw.bytes().all(|byte| byte.is_ascii_digit()) {
            return raw.parse::<i64>().ok().map(|seconds| seconds * 1000);
        }
        let seconds = raw.parse::<f64>().ok()?;
        (seconds.abs() <= EXACT).then(|| (seconds * 1000.0).floor() as i64)
    }
}

struct Siblings<'a> {
    document: &'a Document,
    index: usize,
    end: usize,
}

impl<'a> Iterator for Siblings<'a> {
    type Item = Value<'a>;

    fn next(&mut self) -> Option<Value<'a>> {
        if self.index >= self.end {
            return None;
        }
        let value = Value { document: self.document, index: self.index };
        self.index = usize::from(value.node().next);
        Some(value)
    }
}

/// Resolves escapes of a string that the parser accepted.
fn unescape(raw: &str) -> String {
    let mut out = String::with_capacity(raw.len());
    let mut rest = raw;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = rest.as_bytes()[at + 1];
        let mut used = 2;
        match escape {
            b'b' => out.push('\u{8}'),
            b'f' => out.push('\u{c}'),
            b'n' => out.push('\n'),
            b'r' => out.push('\r'),
            b't' => out.push('\t'),
            b'u' => {
                let high = hex4(rest.as_bytes(), at + 2).unwrap_or(0xfffd);
                used = 6;
                let code = if (0xd800..0xdc00).contains(&high) {
                    used = 12;
                    let low = hex4(rest.as_bytes(), at + 8).unwrap_or(0xdc00);
                    0x10000 + ((high - 0xd800) << 10) + (low.wrapping_sub(0xdc00) & 0x3ff)
                } else {
                    high
                };
                out.push(char::from_u32(code).unwrap_or('\u{fffd}'));
            }
            other => out.push(char::from(other)),
        }
        rest = &rest[at + used..];
    }
    out.push_str(rest);
    out
}

fn hex4(bytes: &[u8], at: usize) -> Option<u32> {
    let digits = bytes.get(at..at + 4)?;
    digits.iter().try_fold(0, |value, digit| Some(value * 16 + char::from(*digit).to_digit(16)?))
}

struct Parser<'a> {
    bytes: &'a [u8],
    at: usize,
    nodes: Vec<Node>,
}

impl Parser<'_> {
    fn peek(&self) -> u8 {
        // NUL is never legal outside strings, so it stands for the end.
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\t' | b'\n' | b'\r') {
            self.at += 1;
        }
    }

    fn open(&mut self, kind: Kind) -> usize {
        self.nodes.push(Node { start: self.at as u16, end: 0, next: 0, kind });
        self.nodes.len() - 1
    }

    fn close(&mut self, index: usize, end: usize) {
        let next = self.nodes.len() as u16;
        let node = &mut self.nodes[index];
        node.end = end as u16;
        node.next = next;
    }

    fn value(&mut self, depth: usize) -> Result<(), Malformed> {
        if depth > MAX_DEPTH {
            return Err(Malformed);
        }
        match self.peek() {
            b'"' => self.string(),
            b'{' => self.object(depth),
            b'[' => self.array(depth),
            b'-' | b'0'..=b'9' => self.number(),
            b't' => self.word("true", Kind::True),
            b'f' => self.word("false", Kind::False),
            b'n' => self.word("null", Kind::Null),
            _ => Err(Malformed),
        }
    }

    fn word(&mut self, word: &str, kind: Kind) -> Result<(), Malformed> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(Malformed);
        }
        let node = self.open(kind);
        self.at += word.len();
        self.close(node, self.at);
        Ok(())
    }

    fn digits(&mut self) -> Result<(), Malformed> {
        let start = self.at;
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
        if self.at == start { Err(Malformed) } else { Ok(()) }
    }

    fn number(&mut self) -> Result<(), Malformed> {
        let node = self.open(Kind::Number);
        if self.peek() == b'-' {
            self.at += 1;
        }
        if self.peek() == b'0' {
            self.at += 1;
        } else {
            self.digits()?;
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            if matches!(self.peek(), b'+' | b'-') {
                self.at += 1;
            }
            self.digits()?;
        }
        self.close(node, self.at);
        Ok(())
    }

    fn string(&mut self) -> Result<(), Malformed> {
        self.at += 1;
        let node = self.open(Kind::Text);
        loop {
            match self.bytes.get(self.at) {
                None | Some(0..=0x1f) => return Err(Malformed),
                Some(b'"') => break,
                Some(b'\\') => {
                    self.nodes[node].kind = Kind::Escaped;
                    self.escape()?;
                }
                Some(_) => self.at += 1,
            }
        }
        self.close(node, self.at);
        self.at += 1;
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Malformed> {
        match self.bytes.get(self.at + 1) {
            Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => self.at += 2,
            Some(b'u') => {
                let code = hex4(self.bytes, self.at + 2).ok_or(Malformed)?;
                self.at += 6;
                match code {
                    0xd800..0xdc00 => {
                        let follows = self.bytes[self.at..].starts_with(b"\\u");
                        let low = hex4(self.bytes, self.at + 2).filter(|low| (0xdc00..0xe000).contains(low));
                        if !follows || low.is_none() {
                            return Err(Malformed);
                        }
                        self.at += 6;
                    }
                    0xdc00..0xe000 => return Err(Malformed),
                    _ => {}
                }
            }
            _ => return Err(Malformed),
        }
        Ok(())
    }

    fn array(&mut self, depth: usize) -> Result<(), Malformed> {
        let node = self.open(Kind::Array);
        self.at += 1;
        self.space();
        if self.peek() != b']' {
            loop {
                self.value(depth + 1)?;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b']' => break,
                    _ => return Err(Malformed),
                }
                self.space();
            }
        }
        self.at += 1;
        self.close(node, self.at);
        Ok(())
    }

    fn object(&mut self, depth: usize) -> Result<(), Malformed> {
        let node = self.open(Kind::Object);
        self.at += 1;
        self.space();
        let mut names = Names::default();
        if self.peek() != b'}' {
            loop {
                if self.peek() != b'"' {
                    return Err(Malformed);
                }
                let name = self.nodes.len();
                self.string()?;
                if !names.insert(self, node + 1, name) {
                    return Err(Malformed);
                }
                self.space();
                if self.peek() != b':' {
                    return Err(Malformed);
                }
                self.at += 1;
                self.space();
                self.value(depth + 1)?;
                self.space();
                match self.peek() {
                    b',' => self.at += 1,
                    b'}' => break,
                    _ => return Err(Malformed),
                }
                self.space();
            }
        }
        self.at += 1;
        self.close(node, self.at);
        Ok(())
    }

    fn name(&self, index: usize) -> Cow<'_, [u8]> {
        let node = self.nodes[index];
        let raw = &self.bytes[usize::from(node.start)..usize::from(node.end)];
        match node.kind {
            Kind::Escaped => Cow::Owned(unescape(std::str::from_utf8(raw).unwrap_or_default()).into_bytes()),
            _ => Cow::Borrowed(raw),
        }
    }
}

/// The member names of one object so far. Hashing is seeded per process, so a token cannot aim at it.
#[derive(Default)]
struct Names {
    count: usize,
    many: Option<HashSet<Vec<u8>>>,
}

impl Names {
    /// Adds the name at node `name` of the object whose first name stands at `first`; false if it is there already.
    fn insert(&mut self, parser: &Parser<'_>, first: usize, name: usize) -> bool {
        self.count += 1;
        let new = parser.name(name);
        if self.count <= FEW_MEMBERS {
            let mut at = first;
            while at < name {
                if parser.name(at) == new {
                    return false;
                }
                at = usize::from(parser.nodes[at + 1].next);
            }
            return true;
        }
        if self.many.is_none() {
            let mut all = HashSet::with_capacity(64);
            let mut at = first;
            while at < name {
                all.insert(parser.name(at).into_owned());
                at = usize::from(parser.nodes[at + 1].next);
            }
            self.many = Some(all);
        }
        self.many.as_mut().is_some_and(|all| all.insert(new.into_owned()))
    }
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
