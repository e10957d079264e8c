//! How many connections each source has open, over all workers.

use std::net::IpAddr;
use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

use crate::penalty::Source;
use crate::settings::Penalty;

/// The connections of each source that has one: no more entries than there are connections.
pub struct Sources {
    /// The most that one may have.
    limit: u32,
    rules: Penalty,
    open: DashMap<Source, u32>,
}

/// One connection of a source, for as long as this lives.
pub(crate) struct Seat {
    sources: Arc<Sources>,
    source: Source,
}

impl Sources {
    /// None has any yet; `rules` say which addresses are one source.
    pub fn new(limit: u32, rules: Penalty) -> Arc<Self> {
        Arc::new(Self { limit, rules, open: DashMap::new() })
    }

    /// Counts a connection from this address; `None` where its source has as many as it may.
    pub(crate) fn seat(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let source = Source::of(address, &self.rules);
        let mut count = self.open.entry(source).or_insert(0);
        // Nobody leaves an entry of nought: a limit is at least one.
        (*count < self.limit).then(|| {
            *count += 1;
            Seat { sources: self.clone(), source }
        })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Entry::Occupied(mut open) = self.sources.open.entry(self.source) {
            *open.get_mut() -= 1;
            if *open.get() == 0 {
                open.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_so_many_and_no_more_and_leaves_nothing_behind() {
        let sources = Sources::new(2, Penalty::default());
        let seat = |address: &str| sources.seat(address.parse().unwrap());
        let one = seat("192.0.2.7").unwrap();
        let two = seat("::ffff:192.0.2.7").unwrap();
        assert!(seat("192.0.2.7").is_none());
        let other = seat("192.0.2.8").unwrap();
        // Two addresses of one IPv6 prefix are one source.
        let prefix = [seat("2001:db8::1").unwrap(), seat("2001:db8::2").unwrap()];
        assert!(seat("2001:db8::3").is_none());
        drop(one);
        let again = seat("192.0.2.7").unwrap();
        assert_eq!(sources.open.len(), 3);
        drop((two, other, prefix, again));
        assert_eq!(sources.open.len(), 0);
    }

    #[test]
    fn of_many_threads_so_many_get_one() {
        let sources = Sources::new(8, Penalty::default());
        let address = "192.0.2.7".parse().unwrap();
        std::thread::scope(|scope| {
            let take = || (0..1000).filter_map(|_| sources.seat(address)).collect::<Vec<_>>();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            let seats: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
            assert_eq!(seats.len(), 8);
        });
        assert_eq!(sources.open.len(), 0);
    }
}
