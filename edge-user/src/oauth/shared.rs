//! Answers about tokens in the fleet's cache, as the verdict engine wants them: what one edge was told, all know.

use std::time::Duration;

use zeroize::Zeroizing;

use super::fleet::{EntryName, Fleet, Kind};
use crate::token::introspection::{Extras, Finding, Said, Shared, Telling};

/// First bytes of the forms in which an answer is kept.
const INACTIVE: u8 = 0;
const ACTIVE: u8 = 1;
/// The length of the object follows in four bytes, big-endian; then the object, then the signed answer.
const SIGNED: u8 = 2;

/// The answers to one way of asking.
pub struct SharedAnswers {
    fleet: Fleet,
    /// Who is asked and how (`Introspect::id`), and how long answers stand: the same on every node with these settings.
    /// Who has answers stand for other times gets none that is older than those allow.
    asked: [u8; 32],
}

impl SharedAnswers {
    /// Answers of whoever is asked in this way, kept for these times; nothing where `cluster_cache_items` does not say
    /// `introspection`.
    pub fn new(fleet: Fleet, asked: [u8; 32]) -> Option<Self> {
        fleet.shares(Kind::Introspection).then_some(Self { fleet, asked })
    }

    fn name(&self, token: &[u8], extras: &Extras) -> EntryName {
        self.fleet.name(Kind::Introspection, &[&self.asked, &extras.digest(), token])
    }
}

impl Shared for SharedAnswers {
    fn find<'a>(&'a self, token: &'a [u8], extras: &'a Extras) -> Finding<'a> {
        Box::pin(async move {
            let found = self.fleet.get(&self.name(token, extras)).await?;
            Some((decode(&found.value)?, found.left))
        })
    }

    fn tell<'a>(&'a self, token: &'a [u8], extras: &'a Extras, said: &'a Said, ttl: Duration) -> Telling<'a> {
        Box::pin(async move { self.fleet.put(&self.name(token, extras), &encode(said), ttl).await })
    }
}

fn encode(said: &Said) -> Zeroizing<Vec<u8>> {
    let mut bytes = Vec::new();
    match said {
        Said::Inactive => bytes.push(INACTIVE),
        Said::Active { json, jwt: None } => {
            bytes.reserve_exact(1 + json.len());
            bytes.push(ACTIVE);
            bytes.extend_from_slice(json);
        }
        Said::Active { json, jwt: Some(jwt) } => {
            bytes.reserve_exact(5 + json.len() + jwt.len());
            bytes.push(SIGNED);
            // A longer one is more than the fleet's cache takes.
            bytes.extend_from_slice(&u32::try_from(json.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(json);
            bytes.extend_from_slice(jwt.as_bytes());
        }
    }
    Zeroizing::new(bytes)
}

fn decode(bytes: &[u8]) -> Option<Said> {
    let (form, rest) = bytes.split_first()?;
    match *form {
        INACTIVE if rest.is_empty() => Some(Said::Inactive),
        ACTIVE => Some(Said::Active { json: rest.to_vec(), jwt: None }),
        SIGNED => {
            let (length, rest) = rest.split_first_chunk()?;
            let (json, jwt) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
            Some(Said::Active { json: json.to_vec(), jwt: Some(std::str::from_utf8(jwt).ok()?.into()) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_come_back_as_they_were() {
        let json = br#"{"active":true}"#.to_vec();
        for said in [
            Said::Inactive,
            Said::Active { json: json.clone(), jwt: None },
            Said::Active { json, jwt: Some("a.b.c".into()) },
        ] {
            assert_eq!(decode(&encode(&said)), Some(said));
        }
    }

    // I1: what is not whole is nothing, above all not an active token.
    #[test]
    fn what_is_not_whole_is_nothing() {
        for bytes in
            [&b""[..], b"\x00x", b"\x03{}", b"\x02", b"\x02\0\0\0", b"\x02\0\0\0\x05abc", b"\x02\0\0\0\x01a\xff"]
        {
            assert_eq!(decode(bytes), None, "{bytes:?}");
        }
    }
}
