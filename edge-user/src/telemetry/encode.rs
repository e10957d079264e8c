//! Bytes to log text without allocation: JSON strings of anything a client may send, numbers, and the time.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::calendar::DateTime;

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Bytes that stand in a JSON string as they are: printable ASCII but `"` and `\`.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 0x7f {
        plain[byte] = byte != b'"' as usize && byte != b'\\' as usize;
        byte += 1;
    }
    plain
};

/// Appends the inside of a JSON string (RFC 8259, 7). Control characters and others that drive a terminal become
/// escapes; a byte that is not UTF-8 becomes the text `\xNN`, so that a line is always JSON and shows what was sent.
pub(super) fn json_text(mut bytes: &[u8], out: &mut Vec<u8>) {
    loop {
        let run = bytes.iter().position(|byte| !PLAIN[*byte as usize]).unwrap_or(bytes.len());
        out.extend_from_slice(&bytes[..run]);
        bytes = &bytes[run..];
        let Some(&first) = bytes.first() else { return };
        let used = match first {
            b'"' | b'\\' => {
                out.extend_from_slice(&[b'\\', first]);
                1
            }
            0..0x80 => {
                unicode_escape(u32::from(first), out);
                1
            }
            _ => non_ascii(bytes, out),
        };
        bytes = &bytes[used..];
    }
}

/// Appends the character that `bytes` begins with and answers its length.
fn non_ascii(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let window = &bytes[..bytes.len().min(4)];
    let valid = match std::str::from_utf8(window) {
        Ok(text) => text,
        Err(error) => std::str::from_utf8(&window[..error.valid_up_to()]).unwrap_or_default(),
    };
    let Some(character) = valid.chars().next() else {
        out.extend_from_slice(b"\\\\x");
        out.extend_from_slice(&[HEX[(bytes[0] >> 4) as usize], HEX[(bytes[0] & 15) as usize]]);
        return 1;
    };
    if drives_terminal(character) {
        unicode_escape(character as u32, out);
    } else {
        out.extend_from_slice(&bytes[..character.len_utf8()]);
    }
    character.len_utf8()
}

/// Controls (C0, DEL, C1), line separators, marks that reorder or hide text.
fn drives_terminal(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn unicode_escape(code: u32, out: &mut Vec<u8>) {
    let digit = |shift: u32| HEX[(code >> shift & 15) as usize];
    out.extend_from_slice(&[b'\\', b'u', digit(12), digit(8), digit(4), digit(0)]);
}

/// Appends one line of plain text: whatever could start a second line or drive a terminal becomes `\u{…}`.
pub(super) fn plain_line(text: &str, out: &mut Vec<u8>) {
    for character in text.chars() {
        if character != '\t' && drives_terminal(character) {
            out.extend(character.escape_unicode().map(|escaped| escaped as u8));
        } else {
            out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        }
    }
}

/// Appends a number in decimal.
pub(super) fn integer(value: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// Appends a duration in milliseconds with three places: `0.412`.
pub(super) fn milliseconds(duration: Duration, out: &mut Vec<u8>) {
    let us = duration.as_micros() as u64;
    integer(us / 1000, out);
    out.push(b'.');
    padded(us % 1000, 3, out);
}

fn padded(mut value: u64, width: usize, out: &mut Vec<u8>) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

/// Writes times, remembering the text of the last second.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    text: Vec<u8>,
}

impl Clock {
    /// Appends a time as `2026-11-21T23:20:02.512Z` (RFC 3339).
    pub(super) fn write(&mut self, time: SystemTime, out: &mut Vec<u8>) {
        let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() || self.text.is_empty() {
            self.second = since.as_secs();
            self.text.clear();
            civil(self.second, &mut self.text);
        }
        out.extend_from_slice(&self.text);
        out.push(b'.');
        padded(u64::from(since.subsec_millis()), 3, out);
        out.push(b'Z');
    }
}

/// Appends date and time of a Unix second.
fn civil(second: u64, out: &mut Vec<u8>) {
    let DateTime { year, month, day, hour, minute, second, .. } = DateTime::of_unix(second as i64);
    for (value, width, mark) in [(year, 4, b'-'), (month, 2, b'-'), (day, 2, b'T'), (hour, 2, b':'), (minute, 2, b':')]
    {
        padded(value as u64, width, out);
        out.push(mark);
    }
    padded(second as u64, 2, out);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn strings_are_escaped_and_read_back_as_json() {
        for (input, expected) in [
            (&b"/plain path"[..], "/plain path"),
            (b"", ""),
            (b"a\"b\\c", "a\"b\\c"),
            (b"two\r\nlines", "two\r\nlines"),
            (b"\x1b[31m\x7f\x00", "\u{1b}[31m\u{7f}\0"),
            ("gr\u{fc}n \u{1f600}".as_bytes(), "gr\u{fc}n \u{1f600}"),
            ("\u{85}\u{202e}\u{2028}".as_bytes(), "\u{85}\u{202e}\u{2028}"),
            (b"\xff\xc3(", "\\xff\\xc3("),
            (b"\xf0\x9f\x98", "\\xf0\\x9f\\x98"),
            (b"\xed\xa0\x80", "\\xed\\xa0\\x80"),
        ] {
            let json = text(|out| json_text(input, out));
            assert!(!json.chars().any(drives_terminal), "{json:?}");
            assert_eq!(serde_json::from_str::<String>(&format!("\"{json}\"")).unwrap(), expected);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_make_one_json_string(bytes: Vec<u8>) {
            let json = text(|out| json_text(&bytes, out));
            serde_json::from_str::<String>(&format!("\"{json}\"")).unwrap();
            proptest::prop_assert!(!json.chars().any(drives_terminal));
        }
    }

    #[test]
    fn a_plain_line_stays_one_line() {
        let line = text(|out| plain_line("a\tb\r\nforged \u{1b}[2J\u{9b}", out));
        assert_eq!(line, "a\tb\\u{d}\\u{a}forged \\u{1b}[2J\\u{9b}");
    }

    #[test]
    fn numbers_have_their_places() {
        for (us, expected) in [(0, "0.000"), (412, "0.412"), (1_000, "1.000"), (60_012_345, "60012.345")] {
            assert_eq!(text(|out| milliseconds(Duration::from_micros(us), out)), expected);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        let mut clock = Clock::default();
        for (ms, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (951_782_400_001, "2000-02-29T00:00:00.001Z"),
            (951_868_800_000, "2000-03-01T00:00:00.000Z"),
            (1_795_303_202_512, "2026-11-21T23:20:02.512Z"),
            (4_102_444_799_000, "2099-12-31T23:59:59.000Z"),
        ] {
            assert_eq!(text(|out| clock.write(UNIX_EPOCH + Duration::from_millis(ms), out)), expected);
        }
    }
}
