//! HTTP/1 on the way out: heads, chunks and the few answers that need no head object.

use super::parse::Framing;
use crate::http::head::{FieldRef, Head, Known, Owner};

/// How the names of fields are spelled. HTTP/2 knows lower case alone.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Case {
    /// As they came.
    #[default]
    Preserve,
    /// `Content-Type`
    Title,
    /// `content-type`
    Lower,
}

impl Case {
    /// Spells the names of a whole head's fields: the bytes from its start line to the empty line.
    pub fn apply(self, head: &mut [u8]) {
        if self == Self::Preserve {
            return;
        }
        // No value has a line feed.
        for line in head.split_mut(|byte| *byte == b'\n').skip(1) {
            let end = memchr::memchr(b':', line).unwrap_or(0);
            let mut begins = true;
            for byte in &mut line[..end] {
                *byte =
                    if begins && self == Self::Title { byte.to_ascii_uppercase() } else { byte.to_ascii_lowercase() };
                begins = *byte == b'-';
            }
        }
    }
}

/// Appends a request head. Framing fields are written from `framing`, in the place where the client had them.
pub fn request(out: &mut Vec<u8>, head: &Head, target: &[u8], framing: Framing) {
    out.extend_from_slice(head.method());
    out.push(b' ');
    out.extend_from_slice(target);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    fields(out, head, framing);
}

/// Appends a response head up to, not including, its empty line; the caller adds fields of the hop and ends it.
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    decimal(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason);
    out.extend_from_slice(b"\r\n");
}

/// Appends all fields but the framing ones as they stand, and the framing the message really has.
pub fn fields(out: &mut Vec<u8>, head: &Head, framing: Framing) {
    let mut framed = false;
    for FieldRef { name, value, known, .. } in head.fields() {
        if matches!(known, Known::ContentLength | Known::TransferEncoding) {
            if !framed {
                framing_field(out, if known == Known::ContentLength { name } else { LENGTH }, framing);
            }
            framed = true;
            continue;
        }
        field(out, name, value);
    }
    if !framed {
        framing_field(out, LENGTH, framing);
    }
}

const LENGTH: &[u8] = b"Content-Length";

/// `name` spells the length's.
fn framing_field(out: &mut Vec<u8>, name: &[u8], framing: Framing) {
    match framing {
        Framing::Length(length) => {
            out.extend_from_slice(name);
            out.extend_from_slice(b": ");
            decimal(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
        Framing::None | Framing::Eof => {}
    }
}

/// Appends one field line.
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.reserve(name.len() + value.len() + 4);
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk.
pub fn chunk(out: &mut Vec<u8>, data: &[u8]) {
    debug_assert!(!data.is_empty(), "an empty chunk would end the body");
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (usize::BITS - data.len().leading_zeros()).div_ceil(4);
    for place in (0..digits).rev() {
        out.push(HEX[data.len() >> (place * 4) & 15]);
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(data);
    out.extend_from_slice(b"\r\n");
}

/// Appends the last chunk and the trailer section, without the fields that may not pass.
pub fn last_chunk(out: &mut Vec<u8>, trailers: &Head, may_pass: impl Fn(&[u8]) -> bool) {
    out.extend_from_slice(b"0\r\n");
    for FieldRef { name, value, .. } in trailers.fields().filter(|field| may_pass(field.name)) {
        field(out, name, value);
    }
    out.extend_from_slice(b"\r\n");
}

/// Whether a trailer of this name may pass.
pub type MayTrail<'a> = &'a dyn Fn(&[u8]) -> bool;

/// Writes a body in the framing its head told.
pub struct BodyEncoder<'a> {
    out: &'a mut Vec<u8>,
    chunked: bool,
    may_trail: Option<MayTrail<'a>>,
    kept: Option<&'a mut Head>,
    /// Where what is pending begins.
    start: usize,
    /// Bytes of data since this encoder was made.
    pub data_bytes: u64,
}

impl<'a> BodyEncoder<'a> {
    /// An encoder that appends to `out`.
    pub fn new(out: &'a mut Vec<u8>, framing: Framing) -> Self {
        Self { out, chunked: framing == Framing::Chunked, may_trail: None, kept: None, start: 0, data_bytes: 0 }
    }

    /// Lets only trailers of these names through.
    pub fn trailing_only(mut self, may_trail: MayTrail<'a>) -> Self {
        self.may_trail = Some(may_trail);
        self
    }

    /// Puts trailers there, where the framing has no place for them.
    pub fn keeping(mut self, trailers: &'a mut Head) -> Self {
        self.kept = Some(trailers);
        self
    }

    /// Takes what stands before for nobody's: not pending.
    pub fn from_here(mut self) -> Self {
        self.start = self.out.len();
        self
    }

    /// Appends data.
    pub fn data(&mut self, data: &[u8]) {
        self.data_bytes += data.len() as u64;
        match self.chunked {
            _ if data.is_empty() => {}
            true => chunk(self.out, data),
            false => self.out.extend_from_slice(data),
        }
    }

    /// Appends the end.
    pub fn end(&mut self, trailers: &Head) {
        let may_trail = |name: &[u8]| self.may_trail.is_none_or(|may_trail| may_trail(name));
        if self.chunked {
            last_chunk(self.out, trailers, may_trail);
        } else if let Some(kept) = &mut self.kept {
            for field in trailers.fields().filter(|field| may_trail(field.name)) {
                kept.push(Owner::Peer, field.name, field.value);
            }
        }
    }

    /// Bytes that wait to be written, those of a head before them included.
    pub fn pending(&self) -> usize {
        self.out.len() - self.start
    }
}

/// Appends a number in decimal.
pub fn decimal(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::Version;

    #[test]
    fn one_framing_field_stands_where_one_stood() {
        for (name, value, framing, expected) in [
            ("content-length", "9", Framing::Length(5), "content-length: 5\r\n"),
            ("transfer-encoding", "chunked", Framing::Length(5), "Content-Length: 5\r\n"),
            ("content-length", "9", Framing::Chunked, "Transfer-Encoding: chunked\r\n"),
            ("Transfer-Encoding", "chunked", Framing::Chunked, "Transfer-Encoding: chunked\r\n"),
            ("Content-Length", "9", Framing::None, ""),
        ] {
            let mut head = Head::default();
            head.start_request(b"POST", b"/", Version::Http11);
            for (name, value) in [("A", "1"), (name, value), (name, value), ("B", "2")] {
                head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
            }
            let mut out = Vec::new();
            fields(&mut out, &head, framing);
            assert_eq!(String::from_utf8_lossy(&out), format!("A: 1\r\n{expected}B: 2\r\n"), "{name} {framing:?}");
        }
    }

    #[test]
    fn names_alone_are_spelled_anew() {
        let head = b"GET /A:B HTTP/1.1\r\nhoST: A:b\r\nX-oDD--nAME_a: B: c\r\n\r\n";
        for (case, expected) in [
            (Case::Preserve, &head[..]),
            (Case::Title, b"GET /A:B HTTP/1.1\r\nHost: A:b\r\nX-Odd--Name_a: B: c\r\n\r\n"),
            (Case::Lower, b"GET /A:B HTTP/1.1\r\nhost: A:b\r\nx-odd--name_a: B: c\r\n\r\n"),
        ] {
            let mut bytes = head.to_vec();
            case.apply(&mut bytes);
            assert_eq!(bytes, expected, "{case:?}");
        }
    }

    #[test]
    fn framing_stands_where_the_sender_had_it() {
        let mut head = Head::default();
        head.start_request(b"POST", b"/x", Version::Http11);
        head.push(Owner::Peer, b"A", b"1");
        head.push(Owner::Peer, b"content-LENGTH", b"005");
        head.push(Owner::Peer, b"B", b"2");
        let mut out = Vec::new();
        request(&mut out, &head, b"/y?z", Framing::Length(5));
        assert_eq!(out, b"POST /y?z HTTP/1.1\r\nA: 1\r\ncontent-LENGTH: 5\r\nB: 2\r\n");
        out.clear();
        fields(&mut out, &head, Framing::Chunked);
        assert_eq!(out, b"A: 1\r\nTransfer-Encoding: chunked\r\nB: 2\r\n");
    }

    #[test]
    fn chunks_and_numbers() {
        for (len, size) in [(1, "1"), (15, "f"), (16, "10"), (4096, "1000"), (65535, "ffff")] {
            let mut out = Vec::new();
            chunk(&mut out, &vec![b'x'; len]);
            assert!(out.starts_with(format!("{size}\r\nx").as_bytes()), "{len}");
        }
        for number in [0, 9, 10, 12345, u64::MAX] {
            let mut out = Vec::new();
            decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn trailers_without_a_place_in_the_framing_are_kept_apart() {
        let mut trailers = Head::default();
        trailers.push(Owner::Peer, b"x-sum", b"1");
        trailers.push(Owner::Peer, b"x-not", b"2");
        let (mut out, mut kept) = (b"before".to_vec(), Head::default());
        let may_trail = |name: &[u8]| name != b"x-not";
        let mut body =
            BodyEncoder::new(&mut out, Framing::None).trailing_only(&may_trail).keeping(&mut kept).from_here();
        assert_eq!(body.pending(), 0);
        body.data(b"data");
        body.end(&trailers);
        assert_eq!((body.pending(), body.data_bytes), (4, 4));
        assert_eq!(out, b"beforedata");
        assert_eq!(kept.fields().map(|field| field.name).collect::<Vec<_>>(), [b"x-sum"]);
    }
}
