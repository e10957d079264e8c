//! Consistent hashing: what of a request is hashed, and which peer a hash belongs to.
//!
//! Each of the upstream's `slots` is won by the peer with the best weighted draw (rendezvous hashing). So a peer that
//! comes or goes moves its own slots alone, and every edge with the same targets agrees without talking.

use std::fmt::Write;
use std::hash::{DefaultHasher, Hasher};
use std::net::IpAddr;

use super::settings::{Algorithm, HashOn, Upstream};
use crate::crypto;

/// What a request offers to consistent hashing. Every method gives nothing where the request has no such thing.
pub trait HashSource {
    /// The consumer's id.
    fn consumer(&self) -> Option<Vec<u8>>;
    /// The client's address.
    fn client(&self) -> IpAddr;
    /// The values of a field, joined.
    fn header(&self, name: &str) -> Option<Vec<u8>>;
    /// The value of a cookie.
    fn cookie(&self, name: &str) -> Option<Vec<u8>>;
    /// The normalised path.
    fn path(&self) -> &[u8];
    /// The values of an argument of the query, joined.
    fn query_arg(&self, name: &str) -> Option<Vec<u8>>;
    /// A capture of the route's regular expression.
    fn uri_capture(&self, name: &str) -> Option<Vec<u8>>;
}

/// Where a request's hash leads, the same for all its tries.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Affinity {
    /// The hash; `None` where the next in turn is right.
    pub hash: Option<u64>,
    /// The value of a `Set-Cookie` that makes the client come back to its target.
    pub set_cookie: Option<String>,
}

/// `hash_on`, then `hash_fallback`; where the request has neither, it is the next one's turn.
pub(super) fn affinity(settings: &Upstream, request: &dyn HashSource) -> Affinity {
    if settings.algorithm != Algorithm::ConsistentHashing {
        return Affinity::default();
    }
    let first = affinity_by(&settings.hash_on, request);
    first.or_else(|| affinity_by(&settings.hash_fallback, request)).unwrap_or_default()
}

fn affinity_by(what: &HashOn, request: &dyn HashSource) -> Option<Affinity> {
    let value = match what {
        HashOn::None => return None,
        HashOn::Consumer => request.consumer()?,
        HashOn::Ip => match request.client().to_canonical() {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        },
        HashOn::Header(name) => request.header(name)?,
        HashOn::Cookie { name, path } => match request.cookie(name).filter(|value| !value.is_empty()) {
            Some(value) => value,
            None => {
                let value = crypto::random::<16>().iter().fold(String::with_capacity(32), |mut text, byte| {
                    let _ = write!(text, "{byte:02x}");
                    text
                });
                let set_cookie = Some(format!("{name}={value}; Path={path}; HttpOnly"));
                return Some(Affinity { hash: Some(hash(value.as_bytes())), set_cookie });
            }
        },
        HashOn::Path => return Some(Affinity { hash: Some(hash(request.path())), set_cookie: None }),
        HashOn::QueryArg(name) => request.query_arg(name)?,
        HashOn::UriCapture(name) => request.uri_capture(name)?,
    };
    Some(Affinity { hash: Some(hash(&value)), set_cookie: None })
}

/// SipHash under a fixed key, so that all edges and all restarts agree.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(bytes);
    hasher.finish()
}

/// Spreads the bits of a number over all of them (the last step of SplitMix64).
pub(super) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The winner of each slot, as an index of `peers`: each an identity and a weight.
pub(super) fn slots(peers: &[(u64, u32)], slots: u32) -> Box<[u16]> {
    if peers.is_empty() {
        return Box::default();
    }
    let winner = |slot: u32| {
        let place = mix(u64::from(slot));
        // The first of exponentially distributed arrivals is each one's with the probability of its rate.
        let arrival = |(identity, weight): (u64, u32)| {
            let uniform = ((mix(place ^ identity) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
            -uniform.ln() / f64::from(weight)
        };
        let mut best = (f64::INFINITY, 0);
        for (index, peer) in peers.iter().enumerate() {
            let arrives = arrival(*peer);
            if arrives < best.0 {
                best = (arrives, index);
            }
        }
        best.1 as u16
    };
    (0..slots).map(winner).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A request that has what is named here.
    #[derive(Default)]
    struct Request {
        consumer: Option<&'static str>,
        header: Option<&'static str>,
        cookie: Option<&'static str>,
        query_arg: Option<&'static str>,
        uri_capture: Option<&'static str>,
    }

    fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
        text.map(|text| text.as_bytes().to_vec())
    }

    impl HashSource for Request {
        fn consumer(&self) -> Option<Vec<u8>> {
            bytes(self.consumer)
        }
        fn client(&self) -> IpAddr {
            "::ffff:1.2.3.4".parse().unwrap()
        }
        fn header(&self, name: &str) -> Option<Vec<u8>> {
            bytes(self.header).filter(|_| name == "x-key")
        }
        fn cookie(&self, name: &str) -> Option<Vec<u8>> {
            bytes(self.cookie).filter(|_| name == "session")
        }
        fn path(&self) -> &[u8] {
            b"/a"
        }
        fn query_arg(&self, name: &str) -> Option<Vec<u8>> {
            bytes(self.query_arg).filter(|_| name == "q")
        }
        fn uri_capture(&self, name: &str) -> Option<Vec<u8>> {
            bytes(self.uri_capture).filter(|_| name == "1")
        }
    }

    #[test]
    fn every_kind_of_hash_and_its_fallback() {
        let full = Request {
            consumer: Some("c"),
            header: Some("h"),
            cookie: Some("s"),
            query_arg: Some("q"),
            uri_capture: Some("u"),
        };
        let header = || HashOn::Header("x-key".into());
        let argument = || HashOn::QueryArg("q".into());
        let capture = || HashOn::UriCapture("1".into());
        let cookie = || HashOn::Cookie { name: "session".into(), path: "/".into() };
        let nothing = Request::default();
        for (request, hash_on, hash_fallback, hashed) in [
            (&full, HashOn::None, HashOn::None, None),
            (&full, HashOn::Consumer, HashOn::None, Some(&b"c"[..])),
            (&full, HashOn::Ip, HashOn::None, Some(&[1, 2, 3, 4])),
            (&full, header(), HashOn::None, Some(b"h")),
            (&full, cookie(), HashOn::None, Some(b"s")),
            (&full, HashOn::Path, HashOn::None, Some(b"/a")),
            (&full, argument(), HashOn::None, Some(b"q")),
            (&full, capture(), HashOn::None, Some(b"u")),
            (&full, header(), HashOn::Consumer, Some(b"h")),
            (&nothing, HashOn::Consumer, HashOn::None, None),
            (&nothing, header(), HashOn::None, None),
            (&nothing, argument(), HashOn::None, None),
            (&nothing, capture(), HashOn::None, None),
            (&nothing, header(), HashOn::Ip, Some(&[1, 2, 3, 4])),
            (&nothing, HashOn::Consumer, HashOn::Path, Some(b"/a")),
            (&nothing, header(), argument(), None),
        ] {
            let algorithm = Algorithm::ConsistentHashing;
            let settings = Upstream { algorithm, hash_on, hash_fallback, ..super::super::tests::upstream(&[]) };
            let expected = Affinity { hash: hashed.map(hash), set_cookie: None };
            assert_eq!(affinity(&settings, request), expected, "{:?} {:?}", settings.hash_on, settings.hash_fallback);
            let other = Upstream { algorithm: Algorithm::LeastConnections, ..settings };
            assert_eq!(affinity(&other, request), Affinity::default());
        }
    }

    #[test]
    fn a_client_without_the_cookie_gets_one_that_leads_back() {
        let cookie = || HashOn::Cookie { name: "session".into(), path: "/app".into() };
        for (hash_on, hash_fallback) in [(cookie(), HashOn::Ip), (HashOn::Consumer, cookie())] {
            let algorithm = Algorithm::ConsistentHashing;
            let settings = Upstream { algorithm, hash_on, hash_fallback, ..super::super::tests::upstream(&[]) };
            let made = affinity(&settings, &Request::default());
            let set_cookie = made.set_cookie.unwrap();
            let value = set_cookie.strip_prefix("session=").unwrap().strip_suffix("; Path=/app; HttpOnly").unwrap();
            assert_eq!((value.len(), Some(hash(value.as_bytes()))), (32, made.hash));
            assert_ne!(affinity(&settings, &Request::default()).hash, made.hash);
            let again = affinity(&settings, &Request { cookie: Some("x"), ..Request::default() });
            assert_eq!(again, Affinity { hash: Some(hash(b"x")), set_cookie: None });
            let empty = affinity(&settings, &Request { cookie: Some(""), ..Request::default() });
            assert!(empty.set_cookie.is_some());
        }
    }

    proptest! {
        #[test]
        fn only_the_keys_of_a_lost_peer_move(
            weights in prop::collection::vec(1_u32..1000, 2..12),
            seed in any::<u64>(),
            lost in any::<prop::sample::Index>(),
        ) {
            let peers: Vec<_> =
                weights.iter().enumerate().map(|(index, weight)| (mix(seed ^ index as u64), *weight)).collect();
            let lost = lost.index(peers.len());
            let mut rest = peers.clone();
            rest.remove(lost);
            let (all, without) = (slots(&peers, 2000), slots(&rest, 2000));
            for (before, after) in all.iter().zip(&without) {
                let (before, after) = (usize::from(*before), usize::from(*after));
                prop_assert!(before == lost || peers[before] == rest[after]);
            }
        }
    }

    #[test]
    fn slots_go_by_weight_and_few_move() {
        let peers: Vec<_> = (0..10_u64).map(|index| (mix(index), 100 * (1 + (index as u32 % 2)))).collect();
        let all = slots(&peers, 10_000);
        for (index, (_, weight)) in peers.iter().enumerate() {
            let count = all.iter().filter(|winner| usize::from(**winner) == index).count();
            let expected = 10_000 * *weight as usize / 1500;
            assert!(count.abs_diff(expected) < expected / 5, "{index}: {count}, not {expected}");
        }
        let without = slots(&peers[..9], 10_000);
        let moved = all.iter().zip(&without).filter(|(before, after)| before != after).count();
        assert!(moved <= 10_000 * 2 / 10, "{moved}");
        assert!(slots(&[], 100).is_empty());
    }
}
