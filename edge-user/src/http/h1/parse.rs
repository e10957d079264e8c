//! HTTP/1 heads: where one ends, whether it is valid, how its body is framed.
//!
//! `httparse` splits the lines; the rules are ours. Where RFC 9112 lets a recipient repair or refuse, this refuses:
//! a message that two parsers can read in two ways is how requests are smuggled.

use std::mem::MaybeUninit;
use std::net::Ipv6Addr;

use crate::http::head::{Head, Known, Span, Version, is_token_byte};

/// More fields than any configuration may allow; `limits.fields` is checked against what was parsed.
const MAX_FIELDS: usize = 256;

/// Why a head is refused. `status` tells what a client is answered; an upstream's fault is always 502.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bytes are not a head by the grammar (RFC 9112, 2.2, 3, 5).
    #[error("malformed head: {0}")]
    Malformed(&'static str),
    /// Another major version than 1.
    #[error("HTTP version not supported")]
    Version,
    /// Over `limits.head_bytes` or `limits.fields`.
    #[error("head over the limit")]
    TooLarge,
    /// The framing can be read in more than one way, or in none (RFC 9112, 6).
    #[error("faulty framing: {0}")]
    Framing(&'static str),
    /// An expectation other than `100-continue` (RFC 9110, 10.1.1).
    #[error("unknown expectation")]
    Expectation,
}

/// How the length of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    None,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
    /// Up to the end of the connection; only responses.
    Eof,
}

/// What a request head says beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestMeta {
    /// The body's framing.
    pub framing: Framing,
    /// Whether the client wants the connection kept (RFC 9112, 9.3).
    pub persistent: bool,
    /// Whether the client waits for 100 (Continue).
    pub expect_continue: bool,
    /// Whether `Upgrade` stands here and `Connection` names it.
    pub upgrade: bool,
}

/// What a response head says beside its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ResponseMeta {
    /// The framing of the body that follows.
    pub framing: Framing,
    /// The framing its fields tell, which for HEAD and 304 is that of a body not sent (RFC 9110, 8.6).
    pub declared: Framing,
    /// Whether the upstream keeps the connection.
    pub persistent: bool,
}

/// Searches the end of a head, each byte once however slowly it comes, and refuses bare line feeds on the way.
#[derive(Default)]
pub struct Scanner {
    scanned: usize,
    line_start: usize,
}

impl Scanner {
    /// The length of the head in `bytes`, its empty line included, or `None` while it is incomplete. `bytes` must
    /// begin where it began at the last call.
    pub fn find_end(&mut self, bytes: &[u8]) -> Result<Option<usize>, Error> {
        while let Some(at) = memchr::memchr(b'\n', &bytes[self.scanned..]) {
            let newline = self.scanned + at;
            if newline == 0 || bytes[newline - 1] != b'\r' {
                return Err(Error::Malformed("bare line feed"));
            }
            let empty = newline - self.line_start == 1;
            self.scanned = newline + 1;
            self.line_start = newline + 1;
            if empty {
                *self = Self::default();
                return Ok(Some(newline + 1));
            }
        }
        self.scanned = bytes.len();
        Ok(None)
    }
}

/// Parses one whole request head (as `Scanner` delimits it) into `head`.
pub fn request(bytes: &[u8], head: &mut Head, max_fields: usize) -> Result<RequestMeta, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Request::new(&mut []);
    match parsed.parse_with_uninit_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
        Ok(_) => return Err(Error::Malformed("incomplete")),
        Err(error) => return Err(refusal(error, bytes)),
    }
    if parsed.headers.len() > max_fields {
        return Err(Error::TooLarge);
    }
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let method = parsed.method.unwrap_or_default().as_bytes();
    let target = parsed.path.unwrap_or_default().as_bytes();
    if !target.iter().all(|byte| (0x21..0x7f).contains(byte) && *byte != b'#') {
        return Err(Error::Malformed("request target"));
    }
    let span = |part: &[u8]| Span::new(part.as_ptr() as usize - bytes.as_ptr() as usize, part.len());
    head.start_parsed(bytes, version);
    head.parsed_request_line(span(method), span(target));
    let mut framing = FramingFields::default();
    let mut control = Control::default();
    let mut hosts = 0;
    for field in parsed.headers.iter() {
        // httparse cuts white space at both ends of a value except a tab at the front.
        let value = field.value.trim_ascii();
        let known = head.parsed_field(span(field.name.as_bytes()), span(value));
        match known {
            Known::ContentLength | Known::TransferEncoding => framing.add(known, value)?,
            Known::Connection | Known::Expect | Known::Upgrade => control.add(known, value, version)?,
            Known::Host => hosts += 1,
            _ => {}
        }
    }
    if hosts > 1 || (hosts == 0 && version == Version::Http11) {
        return Err(Error::Malformed("Host must stand exactly once"));
    }
    if let Some(host) = head.get(Known::Host)
        && !is_authority(host)
        && (!host.is_empty() || target.starts_with(b"/"))
    {
        return Err(Error::Malformed("Host"));
    }
    if framing.chunked && version == Version::Http10 {
        return Err(Error::Framing("Transfer-Encoding in HTTP/1.0"));
    }
    Ok(RequestMeta {
        framing: framing.whole()?.unwrap_or(Framing::None),
        persistent: control.persistent(version),
        expect_continue: control.expect_continue,
        upgrade: control.upgrade_field && control.upgrade_option && version == Version::Http11,
    })
}

/// Parses one whole response head. `to_head` tells that the request was HEAD (RFC 9112, 6.3).
pub fn response(bytes: &[u8], head: &mut Head, to_head: bool) -> Result<ResponseMeta, Error> {
    let mut fields = [const { MaybeUninit::uninit() }; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut []);
    match httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut parsed, bytes, &mut fields) {
        Ok(httparse::Status::Complete(n)) if n == bytes.len() => {}
        Ok(_) => return Err(Error::Malformed("incomplete")),
        Err(error) => return Err(refusal(error, bytes)),
    }
    let version = if parsed.version == Some(1) { Version::Http11 } else { Version::Http10 };
    let status = parsed.code.unwrap_or_default();
    if !(100..=599).contains(&status) {
        return Err(Error::Malformed("status code"));
    }
    let span = |part: &[u8]| Span::new(part.as_ptr() as usize - bytes.as_ptr() as usize, part.len());
    head.start_parsed(bytes, version);
    let reason = parsed.reason.unwrap_or_default().as_bytes();
    head.parsed_status_line(status, if reason.is_empty() { Span::default() } else { span(reason) });
    let mut framing = FramingFields::default();
    let mut control = Control::default();
    for field in parsed.headers.iter() {
        let value = field.value.trim_ascii();
        let known = head.parsed_field(span(field.name.as_bytes()), span(value));
        match known {
            Known::ContentLength | Known::TransferEncoding => framing.add(known, value)?,
            Known::Connection => control.add(known, value, version)?,
            _ => {}
        }
    }
    if framing.chunked && version == Version::Http10 {
        return Err(Error::Framing("Transfer-Encoding in HTTP/1.0"));
    }
    let whole = framing.whole()?;
    let framing = match status {
        _ if to_head => Framing::None,
        100..=199 | 204 | 304 => Framing::None,
        _ => whole.unwrap_or(Framing::Eof),
    };
    let declared = if matches!(status, 100..=199 | 204) { Framing::None } else { whole.unwrap_or(framing) };
    Ok(ResponseMeta { framing, declared, persistent: control.persistent(version) && framing != Framing::Eof })
}

/// Parses a trailer section, empty line included, keeping only fields that may stand there (RFC 9110, 6.5.1):
/// nothing that frames, routes, authenticates or names a connection.
pub fn trailers(bytes: &[u8], trailers: &mut Head) -> Result<(), Error> {
    let mut fields = [httparse::EMPTY_HEADER; 64];
    match httparse::parse_headers(bytes, &mut fields) {
        Ok(httparse::Status::Complete((n, parsed))) if n == bytes.len() => {
            let span = |part: &[u8]| Span::new(part.as_ptr() as usize - bytes.as_ptr() as usize, part.len());
            trailers.start_parsed(bytes, Version::Http11);
            for field in parsed {
                trailers.parsed_field(span(field.name.as_bytes()), span(field.value.trim_ascii()));
            }
            trailers.retain(|field| may_trail(field.known));
            Ok(())
        }
        Ok(_) => Err(Error::Malformed("trailer section")),
        Err(error) => Err(refusal(error, bytes)),
    }
}

/// Whether a field may stand in a trailer section.
pub fn may_trail(known: Known) -> bool {
    // Everything the edge knows by name either frames, routes, authenticates or describes the hop, save these.
    matches!(known, Known::Other | Known::Server | Known::Date)
}

fn refusal(error: httparse::Error, bytes: &[u8]) -> Error {
    match error {
        httparse::Error::TooManyHeaders => Error::TooLarge,
        httparse::Error::Version if names_other_version(bytes) => Error::Version,
        httparse::Error::Version => Error::Malformed("version"),
        httparse::Error::HeaderName => Error::Malformed("field name"),
        httparse::Error::HeaderValue => Error::Malformed("field value"),
        httparse::Error::NewLine => Error::Malformed("line end"),
        httparse::Error::Status => Error::Malformed("status code"),
        httparse::Error::Token => Error::Malformed("request line"),
    }
}

/// Whether the first line has three words, the last of them `HTTP/d.d` of another version than 1.0 and 1.1: well-formed,
/// so 505 and not 400.
fn names_other_version(bytes: &[u8]) -> bool {
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|byte| *byte == b' ');
    let (Some([_, ..]), Some([_, ..]), Some(version), None) = (words.next(), words.next(), words.next(), words.next())
    else {
        return false;
    };
    match version {
        [b'H', b'T', b'T', b'P', b'/', b'1', b'.', b'0' | b'1'] => false,
        [b'H', b'T', b'T', b'P', b'/', major, b'.', minor] => major.is_ascii_digit() && minor.is_ascii_digit(),
        _ => false,
    }
}

/// The framing fields of one head.
#[derive(Default)]
struct FramingFields {
    length: Option<u64>,
    chunked: bool,
}

impl FramingFields {
    fn add(&mut self, known: Known, value: &[u8]) -> Result<(), Error> {
        if known == Known::TransferEncoding {
            // One field, one coding: a list or a repetition is where two parsers part ways (RFC 9112, 6.1).
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Error::Framing("Transfer-Encoding other than one chunked"));
            }
            self.chunked = true;
            return Ok(());
        }
        if self.length.is_some() {
            return Err(Error::Framing("more than one Content-Length"));
        }
        self.length = Some(decimal(value).ok_or(Error::Framing("Content-Length is not a number"))?);
        Ok(())
    }

    fn whole(self) -> Result<Option<Framing>, Error> {
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Error::Framing("Content-Length beside Transfer-Encoding")),
            (Some(length), false) => Ok(Some(Framing::Length(length))),
            (None, true) => Ok(Some(Framing::Chunked)),
            (None, false) => Ok(None),
        }
    }
}

/// Digits only, no sign, no list, no overflow (RFC 9110, 8.6).
fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// `Connection`, `Upgrade` and `Expect` of one head.
#[derive(Default)]
struct Control {
    close: bool,
    keep_alive: bool,
    upgrade_option: bool,
    upgrade_field: bool,
    expect_continue: bool,
}

impl Control {
    fn add(&mut self, known: Known, value: &[u8], version: Version) -> Result<(), Error> {
        match known {
            Known::Upgrade => self.upgrade_field = true,
            // An HTTP/1.0 client cannot wait for 100 (RFC 9110, 10.1.1).
            Known::Expect if version == Version::Http10 => {}
            Known::Expect if value.eq_ignore_ascii_case(b"100-continue") => self.expect_continue = true,
            Known::Expect => return Err(Error::Expectation),
            _ => {
                for option in list(value) {
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                    self.upgrade_option |= option.eq_ignore_ascii_case(b"upgrade");
                }
            }
        }
        Ok(())
    }

    fn persistent(&self, version: Version) -> bool {
        !self.close && (version == Version::Http11 || self.keep_alive)
    }
}

/// The members of a comma-separated list, without the empty ones (RFC 9110, 5.6.1).
pub fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

/// Whether this is `uri-host [ ":" port ]` (RFC 9110, 7.2), without user information.
pub fn is_authority(text: &[u8]) -> bool {
    let (host, port) = split_port(text);
    let digits = |port: &[u8]| port.len() <= 5 && port.iter().all(u8::is_ascii_digit);
    let host_ok = match host {
        // Of the literals of RFC 3986, 3.2.2 only IPv6 addresses exist.
        [b'[', inner @ .., b']'] => std::str::from_utf8(inner).is_ok_and(|inner| inner.parse::<Ipv6Addr>().is_ok()),
        [] => false,
        _ => host.iter().enumerate().all(|(at, byte)| match byte {
            b'%' => matches!(host.get(at + 1..at + 3), Some(digits) if digits.iter().all(u8::is_ascii_hexdigit)),
            b'#' | b'^' | b'`' | b'|' => false,
            byte => is_token_byte(*byte),
        }),
    };
    host_ok && port.is_none_or(digits)
}

/// An authority's host and, behind the last colon outside brackets, its port.
pub fn split_port(authority: &[u8]) -> (&[u8], Option<&[u8]>) {
    let after_bracket = authority.iter().rposition(|byte| *byte == b']').map_or(0, |at| at + 1);
    match authority[after_bracket..].iter().position(|byte| *byte == b':') {
        Some(colon) => (&authority[..after_bracket + colon], Some(&authority[after_bracket + colon + 1..])),
        None => (authority, None),
    }
}

#[cfg(test)]
mod tests;
