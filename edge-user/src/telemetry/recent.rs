//! The last refused requests, for `edge why`: in memory, bounded, and without anything of their tokens.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::cut;
use crate::reason::Reason;

/// Refusals each worker remembers.
const PER_WORKER: usize = 1024;

/// One refused request.
#[derive(Clone, Debug)]
pub struct Refused {
    /// As sent in `X-Kong-Request-Id`.
    pub request_id: Box<str>,
    /// When it ended.
    pub time: SystemTime,
    /// The client, by the rules of `trusted_ips`.
    pub client: IpAddr,
    /// The answer's status.
    pub status: u16,
    /// Why.
    pub reason: Reason,
    /// The route's name, or its id.
    pub route: Option<Box<str>>,
}

/// What the workers of the process remember.
#[derive(Default)]
pub struct RecentRefusals {
    rings: Mutex<Vec<Arc<Mutex<VecDeque<Refused>>>>>,
}

/// One worker's part.
pub struct RefusalRing(Arc<Mutex<VecDeque<Refused>>>);

impl RecentRefusals {
    /// One more worker's part.
    pub fn ring(&self) -> RefusalRing {
        let ring = Arc::<Mutex<VecDeque<Refused>>>::default();
        self.rings.lock().unwrap_or_else(PoisonError::into_inner).push(ring.clone());
        RefusalRing(ring)
    }

    /// The refusal of the request with this id.
    pub fn of_request(&self, id: &str) -> Option<Refused> {
        self.find(|refused| &*refused.request_id == id).pop()
    }

    /// The last refusals of this client, the latest first.
    pub fn of_client(&self, client: IpAddr, most: usize) -> Vec<Refused> {
        let mut found = self.find(|refused| refused.client == client);
        found.sort_by_key(|refused| std::cmp::Reverse(refused.time));
        found.truncate(most);
        found
    }

    fn find(&self, wanted: impl Fn(&Refused) -> bool) -> Vec<Refused> {
        let rings = self.rings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut found = Vec::new();
        for ring in rings {
            let ring = ring.lock().unwrap_or_else(PoisonError::into_inner);
            found.extend(ring.iter().filter(|refused| wanted(refused)).cloned());
        }
        found
    }
}

impl RefusalRing {
    /// Remembers one. Where an operator's question reads the ring just now it is left out: a worker waits for nobody.
    pub fn note(&self, request_id: &str, client: IpAddr, status: u16, reason: Reason, route: Option<&str>) {
        let Ok(mut ring) = self.0.try_lock() else { return };
        if ring.len() == PER_WORKER {
            ring.pop_front();
        }
        ring.push_back(Refused {
            request_id: request_id.into(),
            time: SystemTime::now(),
            client,
            status,
            reason,
            route: route.map(|route| cut(route).into()),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_refusals_are_found_by_id_and_by_client() {
        let recent = RecentRefusals::default();
        let (one, other) = (recent.ring(), recent.ring());
        let (client, stranger) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        for n in 0..PER_WORKER + 1 {
            one.note(&format!("one-{n}"), client, 401, Reason::SignatureInvalid, Some("orders"));
        }
        other.note("other", client, 401, Reason::TokenExpired, None);
        assert!(recent.of_request("one-0").is_none(), "the oldest went");
        let found = recent.of_request("one-1").unwrap();
        assert_eq!(
            (found.status, found.reason, found.route.as_deref()),
            (401, Reason::SignatureInvalid, Some("orders"))
        );
        let last: Vec<String> =
            recent.of_client(client, 2).into_iter().map(|refused| refused.request_id.into()).collect();
        assert_eq!(last, ["other".to_owned(), format!("one-{PER_WORKER}")]);
        assert!(recent.of_client(stranger, 9).is_empty());
    }
}
