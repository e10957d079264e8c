//! A second reader of HTTP/1.1 requests, as strict as RFC 9112 lets a server be, and of chunked bodies. Slow and plain
//! on purpose: it is what the edge's own code is judged by.

/// A field's name and value.
pub type Field = (Vec<u8>, Vec<u8>);

/// How a body's length is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
}

/// One request as a server would take it.
#[derive(Debug)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub fields: Vec<Field>,
    pub framing: Framing,
}

impl Request {
    /// Every value of a field.
    pub fn all(&self, name: &str) -> Vec<&[u8]> {
        let named = |field: &&Field| field.0.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(named).map(|field| &field.1[..]).collect()
    }
}

/// Reads one request head and gives what follows it.
pub fn head(stream: &[u8]) -> Result<(Request, &[u8]), &'static str> {
    let (start, mut rest) = line(stream)?;
    let words: Vec<&[u8]> = start.split(|byte| *byte == b' ').collect();
    let [method, target, b"HTTP/1.1"] = words[..] else { return Err("request line") };
    if method.is_empty() || !method.iter().all(is_token) {
        return Err("method");
    }
    if target.is_empty() || !target.iter().all(|byte| byte.is_ascii_graphic() && *byte != b'#') {
        return Err("target");
    }
    let fields;
    (fields, rest) = section(rest)?;
    let request = Request { method: method.to_vec(), target: target.to_vec(), framing: framing(&fields)?, fields };
    if request.all("host").len() != 1 {
        return Err("Host");
    }
    Ok((request, rest))
}

/// Reads a stream that must hold one whole request and nothing else, and gives its body too.
pub fn only_request(stream: &[u8]) -> Result<(Request, Vec<u8>), &'static str> {
    let (request, rest) = head(stream)?;
    let (body, rest) = match request.framing {
        Framing::None => (Vec::new(), rest),
        Framing::Length(length) => {
            let length = usize::try_from(length).map_err(|_| "length")?;
            let (body, rest) = rest.split_at_checked(length).ok_or("short body")?;
            (body.to_vec(), rest)
        }
        Framing::Chunked => {
            let (body, _, rest) = chunked(rest)?;
            (body, rest)
        }
    };
    if rest.is_empty() { Ok((request, body)) } else { Err("more than one request") }
}

/// A chunked body's data, its trailers, and what follows.
pub type Chunked<'a> = (Vec<u8>, Vec<Field>, &'a [u8]);

/// Reads a chunked body.
pub fn chunked(mut rest: &[u8]) -> Result<Chunked<'_>, &'static str> {
    let mut data = Vec::new();
    loop {
        let (size, after) = line(rest)?;
        let digits = size.split(|byte| *byte == b';').next().unwrap_or_default();
        let digits = std::str::from_utf8(digits).map_err(|_| "chunk size")?;
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("chunk size");
        }
        let length = u64::from_str_radix(digits, 16).map_err(|_| "chunk size")?;
        if length == 0 {
            let (trailers, after) = section(after)?;
            return Ok((data, trailers, after));
        }
        let length = usize::try_from(length).map_err(|_| "chunk size")?;
        let (chunk, after) = after.split_at_checked(length).ok_or("short chunk")?;
        data.extend_from_slice(chunk);
        rest = after.strip_prefix(b"\r\n").ok_or("chunk end")?;
    }
}

fn section(mut rest: &[u8]) -> Result<(Vec<Field>, &[u8]), &'static str> {
    let mut fields = Vec::new();
    loop {
        let (text, after) = line(rest)?;
        rest = after;
        if text.is_empty() {
            return Ok((fields, rest));
        }
        let colon = text.iter().position(|byte| *byte == b':').ok_or("no colon")?;
        let (name, value) = (&text[..colon], text[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(is_token) {
            return Err("field name");
        }
        if value.iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err("field value");
        }
        fields.push((name.to_vec(), value.to_vec()));
    }
}

fn framing(fields: &[Field]) -> Result<Framing, &'static str> {
    let all = |name: &[u8]| -> Vec<&[u8]> {
        fields.iter().filter(|field| field.0.eq_ignore_ascii_case(name)).map(|field| &field.1[..]).collect()
    };
    match (&all(b"content-length")[..], &all(b"transfer-encoding")[..]) {
        ([], []) => Ok(Framing::None),
        ([], [b"chunked"]) => Ok(Framing::Chunked),
        ([length], []) if !length.is_empty() && length.iter().all(u8::is_ascii_digit) => {
            let length = std::str::from_utf8(length).ok().and_then(|text| text.parse().ok());
            Ok(Framing::Length(length.ok_or("length")?))
        }
        _ => Err("framing"),
    }
}

/// A line that ends in CRLF, without another line end or a NUL in it.
fn line(stream: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    let end = stream.windows(2).position(|pair| pair == b"\r\n").ok_or("no line end")?;
    let text = &stream[..end];
    if text.iter().any(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
        return Err("line end in a line");
    }
    Ok((text, &stream[end + 2..]))
}

fn is_token(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
}
