//! HTTP/1 bodies: finding the data between the framing (RFC 9112, 6 and 7).

use super::parse::{self, Framing, Scanner};
use crate::http::buffer::Buffer;
use crate::http::head::Head;

/// Chunk extensions of one body, in all: enough for any honest use, too little to hide work in.
const EXTENSION_BYTES: usize = 4 * 1024;
/// A trailer section's bytes.
pub const TRAILER_BYTES: usize = 8 * 1024;

/// Why a body is not one. The connection it came over is of no further use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A chunk-size line that is not hex digits, or too many of them.
    #[error("faulty chunk size")]
    Size,
    /// Chunk data that does not end in CRLF.
    #[error("chunk data without its line end")]
    DataEnd,
    /// Extensions over the bound, or with bytes that may not stand there.
    #[error("faulty chunk extension")]
    Extension,
    /// A trailer section that is malformed or over the bound.
    #[error("faulty trailer section")]
    Trailer,
    /// The stream ended inside the body.
    #[error("body cut short")]
    Truncated,
}

/// What the decoder found at the front of the buffer, framing consumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// So many bytes of data; consume them, then ask again.
    Data(usize),
    /// More bytes are needed.
    More,
    /// The body is complete.
    End,
}

#[derive(Debug)]
enum State {
    Length(u64),
    Eof,
    Size {
        value: u64,
        digits: u8,
    },
    /// After the digits: extensions up to the line end.
    Extension {
        value: u64,
        after_cr: bool,
    },
    Data(u64),
    DataEnd {
        after_cr: bool,
    },
    Trailer,
    End,
}

/// Reads one body.
pub struct Decoder {
    state: State,
    extension_bytes: usize,
    scanner: Scanner,
}

impl Decoder {
    /// A decoder for a body framed so.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Size { value: 0, digits: 0 },
            Framing::Eof => State::Eof,
        };
        Self { state, extension_bytes: 0, scanner: Scanner::default() }
    }

    /// Whether nothing is left to read.
    pub fn is_end(&self) -> bool {
        matches!(self.state, State::End)
    }

    /// Looks at the front of `buffer`. Data it reports counts as taken: the caller consumes exactly that many bytes
    /// before the next call. Trailers, where there are any, are put into `trailers`.
    pub fn decode(&mut self, buffer: &mut Buffer, trailers: &mut Head) -> Result<Found, Error> {
        loop {
            let bytes = buffer.filled();
            if bytes.is_empty() && !self.is_end() {
                return Ok(Found::More);
            }
            match &mut self.state {
                State::End => return Ok(Found::End),
                State::Eof => return Ok(Found::Data(bytes.len())),
                State::Length(left) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::End;
                    }
                    return Ok(Found::Data(n));
                }
                State::Data(left) => {
                    let n = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= n as u64;
                    if *left == 0 {
                        self.state = State::DataEnd { after_cr: false };
                    }
                    return Ok(Found::Data(n));
                }
                State::DataEnd { after_cr } => {
                    match (*after_cr, bytes[0]) {
                        (false, b'\r') => *after_cr = true,
                        (true, b'\n') => self.state = State::Size { value: 0, digits: 0 },
                        _ => return Err(Error::DataEnd),
                    }
                    buffer.consume(1);
                }
                State::Size { value, digits } => {
                    let byte = bytes[0];
                    match (byte as char).to_digit(16) {
                        Some(digit) => {
                            // 15 digits hold any size a u64 can without overflow, leading zeros counted.
                            if *digits == 15 {
                                return Err(Error::Size);
                            }
                            *value = *value << 4 | u64::from(digit);
                            *digits += 1;
                            buffer.consume(1);
                        }
                        None if *digits == 0 => return Err(Error::Size),
                        // RFC 9112, 7.1.1 allows white space before ";" only as bad white space: refused.
                        None if byte != b';' && byte != b'\r' => return Err(Error::Size),
                        None => self.state = State::Extension { value: *value, after_cr: false },
                    }
                }
                State::Extension { value, after_cr } => {
                    let byte = bytes[0];
                    match (*after_cr, byte) {
                        (true, b'\n') => {
                            self.state = if *value == 0 { State::Trailer } else { State::Data(*value) };
                        }
                        (true, _) | (false, b'\n' | 0..=8 | 11..=12 | 14..=31 | 127) => return Err(Error::Extension),
                        (false, b'\r') => *after_cr = true,
                        (false, _) => {
                            self.extension_bytes += 1;
                            if self.extension_bytes > EXTENSION_BYTES {
                                return Err(Error::Extension);
                            }
                        }
                    }
                    buffer.consume(1);
                }
                State::Trailer => {
                    let Some(length) = self.scanner.find_end(bytes).map_err(|_| Error::Trailer)? else {
                        return if bytes.len() > TRAILER_BYTES { Err(Error::Trailer) } else { Ok(Found::More) };
                    };
                    if length > TRAILER_BYTES {
                        return Err(Error::Trailer);
                    }
                    if length > 2 {
                        parse::trailers(&bytes[..length], trailers).map_err(|_| Error::Trailer)?;
                    }
                    buffer.consume(length);
                    self.state = State::End;
                }
            }
        }
    }

    /// The stream ended: complete for a body that runs to the end, cut short for every other unfinished one.
    pub fn finish(&mut self) -> Result<(), Error> {
        match self.state {
            State::Eof | State::End => {
                self.state = State::End;
                Ok(())
            }
            _ => Err(Error::Truncated),
        }
    }
}

#[cfg(test)]
mod tests;
