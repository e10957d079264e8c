//! Session tickets: all workers and listeners seal them under one key, which is replaced every `tls.ticket_period`; the
//! one before opens them still. Both stand in memory alone and end with the process.
//!
//! A ticket carries the client's certificate. It opens only under the rules it was made by, their authorities and
//! revocation lists included, so that a session brings no certificate past other rules or a newer list (S3, S8).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rustls::server::ProducesTickets;
use tokio::runtime::Handle;

use crate::crypto::seal::{Purpose, Sealer, SecretsKey};

/// The keys of the process.
pub struct TicketKeys {
    keys: ArcSwap<Keys>,
    period: Duration,
}

struct Keys {
    current: Arc<Sealer>,
    previous: Option<Arc<Sealer>>,
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::new(&SecretsKey::generate(), Purpose::Tickets))
}

impl TicketKeys {
    /// Fresh ones, replaced on this runtime after each period.
    pub fn rotated(period: Duration, control: &Handle) -> Arc<Self> {
        let keys = Self::new(period);
        control.spawn(keys.clone().rotate());
        keys
    }

    /// Fresh ones that are not replaced, for what ends soon.
    pub fn new(period: Duration) -> Arc<Self> {
        Arc::new(Self { keys: ArcSwap::from_pointee(Keys { current: sealer(), previous: None }), period })
    }

    async fn rotate(self: Arc<Self>) {
        let mut periods = tokio::time::interval(self.period);
        // The first ends at once.
        periods.tick().await;
        loop {
            periods.tick().await;
            self.replace();
        }
    }

    fn replace(&self) {
        let previous = Some(self.keys.load().current.clone());
        self.keys.store(Arc::new(Keys { current: sealer(), previous }));
    }

    /// The tickets of connections by these rules.
    pub(super) fn of(self: &Arc<Self>, rules: [u8; 32]) -> Arc<dyn ProducesTickets> {
        Arc::new(Tickets { keys: self.clone(), rules })
    }
}

struct Tickets {
    keys: Arc<TicketKeys>,
    rules: [u8; 32],
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tickets(…)")
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(self.keys.period.as_secs()).unwrap_or(u32::MAX)
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        Some(self.keys.keys.load().current.seal(&self.rules, plain))
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        let keys = self.keys.keys.load();
        let mut both = [Some(&keys.current), keys.previous.as_ref()].into_iter().flatten();
        both.find_map(|key| key.open(&self.rules, cipher).ok()).map(|mut plain| std::mem::take(&mut *plain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tickets_open_for_one_to_two_periods_and_under_their_rules_alone() {
        let keys = TicketKeys::new(Duration::from_secs(9));
        let (own, same, other) = (keys.of([1; 32]), keys.of([1; 32]), keys.of([2; 32]));
        assert_eq!((own.lifetime(), own.enabled()), (9, true));
        let ticket = own.encrypt(b"session").unwrap();
        for (tickets, expected) in
            [(&own, Some(b"session".to_vec())), (&same, Some(b"session".to_vec())), (&other, None)]
        {
            assert_eq!(tickets.decrypt(&ticket), expected);
        }
        assert_eq!(TicketKeys::new(Duration::from_secs(9)).of([1; 32]).decrypt(&ticket), None, "another process's");
        keys.replace();
        assert_eq!(own.decrypt(&ticket).as_deref(), Some(&b"session"[..]));
        assert_ne!(own.encrypt(b"session"), own.encrypt(b"session"));
        keys.replace();
        assert_eq!(own.decrypt(&ticket), None);
        for broken in [&b""[..], b"x", &[1; 40]] {
            assert_eq!(own.decrypt(broken), None);
        }
    }

    #[tokio::test]
    async fn keys_are_replaced_after_each_period() {
        let keys = TicketKeys::rotated(Duration::from_millis(5), &Handle::current());
        let tickets = keys.of([0; 32]);
        let first = tickets.encrypt(b"1").unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(60);
        while tickets.decrypt(&first).is_some() {
            assert!(std::time::Instant::now() < end, "the first key opens for ever");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
