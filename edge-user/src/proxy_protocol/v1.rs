//! Version 1: a line of text.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Error, Preface, Progress};

pub(super) const START: &[u8] = b"PROXY ";
/// The longest line with its end, by the specification.
pub(super) const LONGEST: usize = 107;

pub(super) fn progress(bytes: &[u8]) -> Result<Progress, Error> {
    if !bytes.ends_with(b"\n") {
        return match LONGEST - bytes.len().min(LONGEST) {
            0 => Err(Error::Malformed("a line of more than 107 bytes")),
            most => Ok(Progress::NeedsLine(most)),
        };
    }
    let line = bytes.strip_suffix(b"\r\n").ok_or(Error::Malformed("a line that does not end in CR LF"))?;
    let line = std::str::from_utf8(line).map_err(|_| Error::Malformed("bytes that are no ASCII"))?;
    let mut words = line.split(' ').skip(1);
    let family = words.next().unwrap_or_default();
    if family == "UNKNOWN" {
        // Whatever follows is to be ignored.
        return Ok(Progress::Whole(Preface::default()));
    }
    let (Some(source), Some(destination), Some(from), Some(to), None) =
        (words.next(), words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Error::Malformed("not two addresses and two ports"));
    };
    let read = match family {
        "TCP4" => |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        "TCP6" => |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => return Err(Error::Malformed("a family other than TCP4, TCP6 and UNKNOWN")),
    };
    let end = |address: &str, number: &str| Some(SocketAddr::new(read(address)?, port(number)?));
    let addresses = end(source, from).zip(end(destination, to));
    let addresses = addresses.ok_or(Error::Malformed("an address or a port that is none of the family"))?;
    Ok(Progress::Whole(Preface { addresses: Some(addresses), ..Preface::default() }))
}

/// Digits alone, without zeros before them.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| is_plain)
}
