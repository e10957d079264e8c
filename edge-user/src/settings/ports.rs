//! Ranges of ports: `443`, `8000-8099`.

use std::fmt;

/// Ports from the first to the last, both included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PortRange {
    first: u16,
    last: u16,
}

impl PortRange {
    /// This port alone.
    pub fn one(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Reads a port or a range. Port 0 is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| {
            // `parse` takes a sign.
            let port = text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u16>().ok()).flatten();
            port.filter(|port| *port != 0)
        };
        let (first, last) = (port(first)?, port(last)?);
        (first <= last).then_some(Self { first, last })
    }

    /// Its ports.
    pub fn iter(&self) -> impl Iterator<Item = u16> + use<> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => self.first.fmt(f),
            false => write!(f, "{}-{}", self.first, self.last),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_ranges_are_read() {
        let check = |text: &str, expected: Option<(u16, u16)>| {
            assert_eq!(PortRange::parse(text).map(|range| (range.first, range.last)), expected, "{text}");
        };
        check("443", Some((443, 443)));
        check("8000-8099", Some((8000, 8099)));
        check("1-65535", Some((1, 65535)));
        for text in ["", "0", "0-9", "9-8", "65536", "-1", "1-", "1-2-3", "+80", " 80", "http"] {
            check(text, None);
        }
    }
}
