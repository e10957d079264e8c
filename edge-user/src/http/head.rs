//! One message head: the start line and an ordered list of fields in one buffer.
//!
//! Order, spelling and duplicates are kept as they came. Nothing is hashed: a head has a few dozen fields, and a
//! walk over them with a one-byte tag is cheaper than a map. Parsing stands in `h1::parse` and `h2`, rules of
//! forwarding in `proxy::headers`.

use std::fmt;

pub use super::known::{KNOWN_BYTES, Known};

/// A range of `Head::buf`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Span {
    start: u32,
    len: u32,
}

impl Span {
    /// A range of the buffer. Heads are bounded far below 4 GiB by `limits.head_bytes`.
    pub fn new(start: usize, len: usize) -> Self {
        Self { start: start as u32, len: len as u32 }
    }

    fn of(self, buf: &[u8]) -> &[u8] {
        &buf[self.start as usize..(self.start + self.len) as usize]
    }
}

/// Who put a field into the head. Rules that protect what the edge says look at this.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// The peer that sent the message.
    Peer,
    /// The edge itself: a plugin or the forwarding rules.
    Edge,
}

#[derive(Clone, Copy, Debug)]
struct Field {
    name: Span,
    value: Span,
    known: Known,
    owner: Owner,
}

/// One field as it stands in a head.
#[derive(Clone, Copy)]
pub struct FieldRef<'a> {
    /// The name as spelled.
    pub name: &'a [u8],
    /// The value without surrounding white space.
    pub value: &'a [u8],
    /// The name's tag.
    pub known: Known,
    /// Who put it here.
    pub owner: Owner,
}

/// The protocol version a message was received with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

impl Version {
    /// As `Via` and the access log name it: `1.0`, `1.1`, `2`.
    pub fn number(self) -> &'static str {
        match self {
            Self::Http10 => "1.0",
            Self::Http11 => "1.1",
            Self::Http2 => "2",
        }
    }
}

/// A request or response head. See the module text.
#[derive(Clone)]
pub struct Head {
    buf: Vec<u8>,
    fields: Vec<Field>,
    version: Version,
    /// Request: the method. Response: the reason phrase.
    first: Span,
    /// Request: the target as received. Response: unused.
    second: Span,
    status: u16,
}

impl Default for Head {
    fn default() -> Self {
        Self {
            buf: Vec::new(),
            fields: Vec::new(),
            version: Version::Http11,
            first: Span::default(),
            second: Span::default(),
            status: 0,
        }
    }
}

impl Head {
    /// An empty head with room for `bytes`; fill it with one of the `start_*` methods.
    pub fn with_capacity(bytes: usize) -> Self {
        Self { buf: Vec::with_capacity(bytes), fields: Vec::with_capacity(24), ..Self::default() }
    }

    /// Makes this an otherwise empty request head.
    pub fn start_request(&mut self, method: &[u8], target: &[u8], version: Version) {
        self.clear();
        self.version = version;
        self.first = self.append(method);
        self.second = self.append(target);
    }

    /// Gives a request another method.
    pub fn set_method(&mut self, method: &[u8]) {
        self.first = self.append(method);
    }

    /// Makes this an otherwise empty response head.
    pub fn start_response(&mut self, status: u16, reason: &[u8], version: Version) {
        self.clear();
        self.version = version;
        self.status = status;
        self.first = self.append(reason);
    }

    /// Takes over the bytes of a parsed message, whose spans the parser gives afterwards.
    pub(super) fn start_parsed(&mut self, bytes: &[u8], version: Version) {
        self.clear();
        self.version = version;
        self.buf.extend_from_slice(bytes);
    }

    pub(super) fn parsed_request_line(&mut self, method: Span, target: Span) {
        self.first = method;
        self.second = target;
    }

    pub(super) fn parsed_status_line(&mut self, status: u16, reason: Span) {
        self.status = status;
        self.first = reason;
    }

    pub(super) fn parsed_field(&mut self, name: Span, value: Span) -> Known {
        let known = Known::of(name.of(&self.buf));
        self.fields.push(Field { name, value, known, owner: Owner::Peer });
        known
    }

    /// Empties the head and keeps its memory, up to a bound that one large head must not outlive.
    pub fn clear(&mut self) {
        const KEEP_BYTES: usize = 16 * 1024;
        self.fields.clear();
        self.buf.clear();
        if self.buf.capacity() > KEEP_BYTES {
            self.buf = Vec::new();
        }
        self.first = Span::default();
        self.second = Span::default();
        self.status = 0;
    }

    fn append(&mut self, bytes: &[u8]) -> Span {
        let span = Span::new(self.buf.len(), bytes.len());
        self.buf.extend_from_slice(bytes);
        span
    }

    /// The version the message was received with.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The request method.
    pub fn method(&self) -> &[u8] {
        self.first.of(&self.buf)
    }

    /// The request target as received, or as set since.
    pub fn target(&self) -> &[u8] {
        self.second.of(&self.buf)
    }

    /// The response status.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The response's reason phrase.
    pub fn reason(&self) -> &[u8] {
        self.first.of(&self.buf)
    }

    /// How long it is as HTTP/1 text with the fields of these owners, start line and empty line included.
    pub fn text_bytes(&self, of: impl Fn(Owner) -> bool) -> u64 {
        // `GET /path HTTP/1.1` or `HTTP/1.1 200 OK`: what stands around the two spans, and two line ends.
        let around = if self.status == 0 { 14 } else { 17 };
        let fields = self.fields.iter().filter(|field| of(field.owner));
        let fields: u32 = fields.map(|field| field.name.len + field.value.len + 4).sum();
        u64::from(self.first.len + self.second.len + around + fields)
    }

    /// All fields in order.
    pub fn fields(&self) -> impl DoubleEndedIterator<Item = FieldRef<'_>> + ExactSizeIterator {
        self.fields.iter().map(|field| self.view(field))
    }

    fn view<'a>(&'a self, field: &Field) -> FieldRef<'a> {
        FieldRef {
            name: field.name.of(&self.buf),
            value: field.value.of(&self.buf),
            known: field.known,
            owner: field.owner,
        }
    }

    /// The first value of a known field.
    pub fn get(&self, known: Known) -> Option<&[u8]> {
        self.fields.iter().find(|field| field.known == known).map(|field| field.value.of(&self.buf))
    }

    /// Every value of a known field, in order.
    pub fn all(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.fields.iter().filter(move |field| field.known == known).map(|field| field.value.of(&self.buf))
    }

    /// Whether a known field stands here.
    pub fn has(&self, known: Known) -> bool {
        self.fields.iter().any(|field| field.known == known)
    }

    /// Appends a field. `name` and `value` must be clean (`is_field_name`, `is_field_value`).
    pub fn push(&mut self, owner: Owner, name: &[u8], value: &[u8]) {
        debug_assert!(is_field_name(name) && is_field_value(value));
        let (name, value, known) = (self.append(name), self.append(value), Known::of(name));
        self.fields.push(Field { name, value, known, owner });
    }

    /// Appends a field of the edge's own, without the look-up of its tag.
    pub fn push_known(&mut self, known: Known, value: &[u8]) {
        debug_assert!(known != Known::Other && is_field_value(value));
        let (name, value) = (self.append(known.spelling().as_bytes()), self.append(value));
        self.fields.push(Field { name, value, known, owner: Owner::Edge });
    }

    /// Removes every field of this name and appends one of the edge's own.
    pub fn replace(&mut self, name: &[u8], value: &[u8]) {
        self.remove_named(name);
        self.push(Owner::Edge, name, value);
    }

    /// Gives a known field a new value in the place where it first stands, or appends it; other occurrences go.
    pub fn set_known(&mut self, known: Known, value: &[u8]) {
        debug_assert!(known != Known::Other && is_field_value(value));
        match self.fields.iter().position(|field| field.known == known) {
            Some(at) => {
                let value = self.append(value);
                self.fields[at].value = value;
                self.fields[at].owner = Owner::Edge;
                let mut later = false;
                self.fields.retain(|field| field.known != known || !std::mem::replace(&mut later, true));
            }
            None => self.push_known(known, value),
        }
    }

    /// Removes every occurrence of a known field.
    pub fn remove(&mut self, known: Known) {
        self.fields.retain(|field| field.known != known);
    }

    /// Removes every occurrence of a name, compared without case.
    pub fn remove_named(&mut self, name: &[u8]) {
        let buf = &self.buf;
        self.fields.retain(|field| !field.name.of(buf).eq_ignore_ascii_case(name));
    }

    /// Keeps the fields the closure says yes to.
    pub fn retain(&mut self, mut keep: impl FnMut(FieldRef<'_>) -> bool) {
        let buf = &self.buf;
        self.fields.retain(|field| {
            keep(FieldRef {
                name: field.name.of(buf),
                value: field.value.of(buf),
                known: field.known,
                owner: field.owner,
            })
        });
    }
}

/// Prints the start line and field names; values may be credentials.
impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.fields().map(|field| String::from_utf8_lossy(field.name).into_owned()).collect();
        f.debug_struct("Head")
            .field("version", &self.version)
            .field("status", &self.status)
            .field("names", &names)
            .finish()
    }
}

/// Whether this is a field name: a non-empty token (RFC 9110, 5.1 and 5.6.2).
pub fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|byte| is_token_byte(*byte))
}

/// Whether this byte may stand in a token (RFC 9110, 5.6.2).
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// Whether this is a field value: no control but HTAB, no white space at either end (RFC 9110, 5.5).
pub fn is_field_value(value: &[u8]) -> bool {
    let edge_space = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    value.iter().all(|byte| *byte == b'\t' || (*byte >= 0x20 && *byte != 0x7f))
        && !edge_space(value.first())
        && !edge_space(value.last())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_keep_order_spelling_and_duplicates() {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in [("hOsT", "a"), ("X-One", "1"), ("x-one", "2"), ("Accept", "*/*")] {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        head.replace(b"Accept", b"text/html");
        head.remove(Known::Host);
        let seen: Vec<_> = head.fields().map(|f| (f.name, f.value, f.owner)).collect();
        assert_eq!(
            seen,
            [
                (&b"X-One"[..], &b"1"[..], Owner::Peer),
                (b"x-one", b"2", Owner::Peer),
                (b"Accept", b"text/html", Owner::Edge)
            ]
        );
    }

    #[test]
    fn a_known_field_that_is_set_stands_once() {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        for (name, value) in [("x-real-ip", "1"), ("A", "2"), ("X-Real-IP", "3")] {
            head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
        }
        head.set_known(Known::XRealIp, b"4");
        head.set_known(Known::Via, b"5");
        let seen: Vec<_> = head.fields().map(|f| (f.name, f.value)).collect();
        assert_eq!(seen, [(&b"x-real-ip"[..], &b"4"[..]), (b"A", b"2"), (b"Via", b"5")]);
    }

    #[test]
    fn names_and_values_are_judged_by_the_grammar() {
        for (name, good) in
            [("X-A", true), ("a_b.c~", true), ("", false), ("a b", false), ("a:", false), ("a\u{e9}", false)]
        {
            assert_eq!(is_field_name(name.as_bytes()), good, "{name:?}");
        }
        for (value, good) in [
            (&b"a b\tc"[..], true),
            (b"", true),
            (b"\xff", true),
            (b" a", false),
            (b"a\t", false),
            (b"a\rb", false),
            (b"a\0", false),
        ] {
            assert_eq!(is_field_value(value), good, "{value:?}");
        }
    }

    #[test]
    fn debug_output_has_no_values() {
        let mut head = Head::default();
        head.start_request(b"GET", b"/?access_token=secret", Version::Http11);
        head.push(Owner::Peer, b"Authorization", b"Bearer secret");
        assert!(!format!("{head:?}").contains("secret"));
    }

    #[test]
    fn lengths_are_those_of_the_text() {
        let mut head = Head::default();
        head.start_request(b"GET", b"/a?b", Version::Http11);
        head.push(Owner::Peer, b"Host", b"x");
        head.push(Owner::Edge, b"Via", b"1.1 edge");
        for (bytes, text) in [
            (head.text_bytes(|_| true), "GET /a?b HTTP/1.1\r\nHost: x\r\nVia: 1.1 edge\r\n\r\n"),
            (head.text_bytes(|owner| owner == Owner::Peer), "GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            assert_eq!(bytes, text.len() as u64);
        }
        head.start_response(204, b"No Content", Version::Http11);
        assert_eq!(head.text_bytes(|_| true), "HTTP/1.1 204 No Content\r\n\r\n".len() as u64);
    }
}
