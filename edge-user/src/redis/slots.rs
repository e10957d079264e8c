//! Which node of a cluster has a key: the slot of a key, the table of slots, and where a node sends who asks the wrong one.
//!
//! Nothing here does I/O; `dial` fetches the table and `cluster` follows.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use redis::{ErrorKind, RedisError, ServerErrorKind, Value};

use super::Error;
use super::dial::text;
use super::settings::{Address, MAX_NODES};

/// What a cluster divides its keys into.
const SLOTS: u16 = 16_384;
/// The longest name that a host can have.
const MAX_HOST: usize = 255;

/// The slot of a key: of the part in its first braces where there is one, so that keys can be kept together.
pub(super) fn of(key: &[u8]) -> u16 {
    crc16(tag(key).unwrap_or(key)) % SLOTS
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    let (_, behind) = split(key, b'{')?;
    let (tag, _) = split(behind, b'}')?;
    (!tag.is_empty()).then_some(tag)
}

fn split(bytes: &[u8], at: u8) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|byte| *byte == at)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// CRC-16/XMODEM: polynomial 0x1021, from 0, not reflected.
fn crc16(bytes: &[u8]) -> u16 {
    let step = |crc: u16, _| if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
    bytes.iter().fold(0, |crc, byte| (0..8).fold(crc ^ (u16::from(*byte) << 8), step))
}

/// The table of slots, as one node of the cluster told it.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct Slots {
    masters: Vec<Address>,
    /// In order, none over another.
    ranges: Vec<Range>,
}

/// The slots `first..=last` of one master.
#[derive(PartialEq, Eq, Debug)]
struct Range {
    first: u16,
    last: u16,
    master: usize,
}

impl Slots {
    /// Reads the answer to `CLUSTER SLOTS` of the node at this address. Slots of a master that the cluster knows no
    /// address of are nobody's.
    pub(super) fn parse(answer: &Value, asked: &Address) -> Result<Self, Error> {
        let Value::Array(entries) = answer else { return Err(Error::Table) };
        let mut known = HashMap::new();
        let mut slots = Self { masters: Vec::new(), ranges: Vec::new() };
        for entry in entries {
            let Value::Array(parts) = entry else { return Err(Error::Table) };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = &parts[..] else {
                return Err(Error::Table);
            };
            let slot = |number: &i64| u16::try_from(*number).ok().filter(|slot| *slot < SLOTS).ok_or(Error::Table);
            let (first, last) = (slot(first)?, slot(last)?);
            let Some(address) = endpoint(master, asked) else { continue };
            let master = match known.entry(address) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(_) if slots.masters.len() == MAX_NODES => return Err(Error::Nodes),
                Entry::Vacant(entry) => {
                    slots.masters.push(entry.key().clone());
                    *entry.insert(slots.masters.len() - 1)
                }
            };
            slots.ranges.push(Range { first, last, master });
        }
        slots.ranges.sort_unstable_by_key(|range| range.first);
        let apart = slots.ranges.windows(2).all(|pair| pair[0].last < pair[1].first);
        let right = slots.ranges.iter().all(|range| range.first <= range.last);
        if !apart || !right || slots.ranges.is_empty() {
            return Err(Error::Table);
        }
        Ok(slots)
    }

    /// Who has this slot; nothing where the cluster names nobody.
    pub(super) fn master(&self, slot: u16) -> Option<&Address> {
        let behind = self.ranges.partition_point(|range| range.first <= slot);
        let range = self.ranges.get(behind.checked_sub(1)?).filter(|range| slot <= range.last)?;
        Some(&self.masters[range.master])
    }

    /// Every master that has slots, once.
    pub(super) fn masters(&self) -> &[Address] {
        &self.masters
    }
}

/// Name or address, and port, of a node; nothing where they lead nowhere.
fn endpoint(parts: &[Value], asked: &Address) -> Option<Address> {
    let host = match parts.first()? {
        Value::Nil => "",
        host => text(Some(host))?,
    };
    let Value::Int(port) = parts.get(1)? else { return None };
    address(host, u16::try_from(*port).ok()?, asked)
}

/// An empty name is the name that the node was asked by; `?` is one that the node was not told.
fn address(host: &str, port: u16, asked: &Address) -> Option<Address> {
    if host == "?" || host.len() > MAX_HOST || port == 0 {
        return None;
    }
    let host = if host.is_empty() { asked.host.clone() } else { host.into() };
    Some(Address { host, port })
}

/// Where a node sends who asks it for a key that is not, or not any more, with it.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Redirection {
    /// The slot has another master, for this query and all that follow.
    Moved(Address),
    /// The slot is being given away; this key has gone already, or was never there.
    Ask(Address),
}

impl Redirection {
    /// What the answer of the node at this address says; nothing where it is another error, or leads nowhere.
    pub(super) fn of(error: &RedisError, asked: &Address) -> Option<Self> {
        let (node, _) = error.redirect_node()?;
        // An IPv6 address has colons of its own, and no brackets here.
        let (host, port) = node.rsplit_once(':')?;
        let to = address(host, port.parse().ok()?, asked)?;
        let asks = error.kind() == ErrorKind::Server(ServerErrorKind::Ask);
        Some(if asks { Self::Ask(to) } else { Self::Moved(to) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address { host: host.into(), port }
    }

    fn answer(text: &str) -> Value {
        redis::parse_redis_value(text.replace(' ', "\r\n").as_bytes()).expect("RESP")
    }

    /// `CLUSTER SLOTS` as a node writes it, with one replica that nobody asks.
    fn table(ranges: &[(i64, i64, &str, i64)]) -> Value {
        let mut text = format!("*{} ", ranges.len());
        for (first, last, host, port) in ranges {
            let host = if *host == "-" { "$-1".to_owned() } else { format!("${} {host}", host.len()) };
            text += &format!("*4 :{first} :{last} *4 {host} :{port} $2 id *0 *3 $7 replica :1 $2 id ");
        }
        answer(&text)
    }

    fn parse(ranges: &[(i64, i64, &str, i64)]) -> Result<Slots, Error> {
        Slots::parse(&table(ranges), &at("asked", 7))
    }

    #[test]
    fn keys_have_the_slots_of_the_specification() {
        // The CRC's published check value, and what `redis-cli cluster keyslot` says.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [
            (&b""[..], 0),
            (b"123456789", 12739),
            (b"foo", 12182),
            (b"bar", 5061),
            (b"{user1000}.following", 3443),
            (b"{user1000}.followers", 3443),
            (b"user1000", 3443),
            (b"foo{}{bar}", 8363),
            (b"foo{{bar}}zap", 4015),
            (b"{bar", 4015),
            (b"foo{bar}{zap}", 5061),
            (b"foo}bar{", 11073),
            (b"edge:upstream_tokens:00", 11106),
            (b"\xff\x00{\xfe}", 3793),
        ] {
            assert_eq!(of(key), slot, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_table_says_who_has_a_slot() {
        let slots = parse(&[
            (10_000, 16_383, "2001:db8::1", 3),
            (0, 99, "10.0.0.1", 1),
            (100, 100, "r2.example", 2),
            (200, 300, "10.0.0.1", 1),
            (400, 500, "", 4),
            (600, 700, "-", 5),
            (800, 900, "?", 6),
            (1000, 1100, "10.0.0.1", 0),
        ])
        .expect("a table");
        for (slot, master) in [
            (0, Some(at("10.0.0.1", 1))),
            (99, Some(at("10.0.0.1", 1))),
            (100, Some(at("r2.example", 2))),
            (101, None),
            (200, Some(at("10.0.0.1", 1))),
            (301, None),
            // The node asked, by the name it was asked by.
            (450, Some(at("asked", 4))),
            (650, Some(at("asked", 5))),
            // Addresses that lead nowhere.
            (850, None),
            (1050, None),
            (9999, None),
            (10_000, Some(at("2001:db8::1", 3))),
            (16_383, Some(at("2001:db8::1", 3))),
        ] {
            assert_eq!(slots.master(slot), master.as_ref(), "{slot}");
        }
        assert_eq!(slots.masters().len(), 5);
    }

    #[test]
    fn what_is_no_table_is_not_believed() {
        for ranges in [
            &[][..],
            &[(0, 16_384, "a", 1)],
            &[(-1, 5, "a", 1)],
            &[(5, 4, "a", 1)],
            &[(0, 10, "a", 1), (10, 20, "b", 1)],
            &[(0, 10, "?", 1)],
        ] {
            assert!(matches!(parse(ranges), Err(Error::Table)), "{ranges:?}");
        }
        assert!(parse(&[(0, 10, "a", 1), (11, 20, "b", 1)]).is_ok());
        for text in ["+OK ", ":1 ", "$-1 ", "*1 :1 ", "*1 *0 ", "*1 *2 :0 :1 ", "*1 *3 :0 :1 :2 ", "*1 *3 $1 0 :1 *0 "]
        {
            assert!(matches!(Slots::parse(&answer(text), &at("asked", 7)), Err(Error::Table)), "{text}");
        }
        let many = |count: i64| -> Vec<_> { (0..count).map(|slot| (slot, slot, "a", slot + 1)).collect() };
        assert_eq!(parse(&many(1000)).expect("a table").masters().len(), 1000);
        assert!(matches!(parse(&many(1001)), Err(Error::Nodes)));
    }

    #[test]
    fn redirections_lead_somewhere_or_are_errors() {
        let (moved, ask) = (Redirection::Moved, Redirection::Ask);
        for (line, to) in [
            ("MOVED 3999 127.0.0.1:6381", Some(moved(at("127.0.0.1", 6381)))),
            ("ASK 3999 127.0.0.1:6381", Some(ask(at("127.0.0.1", 6381)))),
            ("MOVED 3999 r.example:6381", Some(moved(at("r.example", 6381)))),
            ("MOVED 3999 2001:db8::1:6381", Some(moved(at("2001:db8::1", 6381)))),
            ("MOVED 3999 :6381", Some(moved(at("asked", 6381)))),
            ("MOVED 3999 ?:6381", None),
            ("MOVED 3999 a:0", None),
            ("MOVED 3999 a:65536", None),
            ("MOVED 3999 a", None),
            ("MOVED 3999", None),
            ("MOVED", None),
            ("MOVED x a:1", None),
            ("CLUSTERDOWN Hash slot not served", None),
            ("TRYAGAIN Multiple keys request during rehashing of slot", None),
            ("ERR 3999 a:1", None),
        ] {
            let error = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).expect("RESP");
            let error = error.extract_error().expect_err("an error");
            assert_eq!(Redirection::of(&error, &at("asked", 7)), to, "{line}");
        }
    }
}
