//! The tries of one request: where each goes, and whether there is another one after it failed (D7).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::link::Link;
use super::upstream::{self, Terms};
use crate::balancer::{Affinity, Outcome, Pick};
use crate::config::snapshot::Service;
use crate::reason::Reason;
use crate::worker::Worker;

/// What was closed while it was idle shows so at its next use; what ends later did so over its work.
const AT_ONCE: Duration = Duration::from_secs(1);
/// Kept connections that were closed by the upstream in the very moment of their use: so many cost no try.
const STALE: u8 = 8;

/// What the tries of a request came to, for its log.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Tally {
    /// How many there were.
    pub count: u32,
    /// Where the last one went.
    pub address: Option<SocketAddr>,
    /// When the first one began: the upstream's part, without the wait for a slow client.
    pub began: Option<Instant>,
}

/// One try that has a connection.
pub(super) struct Try {
    /// Its connection.
    pub link: Link,
    /// Its address; held until the exchange ends, for whoever counts what is under way.
    pub pick: Pick,
    /// When it began.
    pub began: Instant,
}

impl Try {
    /// Tells the balancer of a try that failed.
    fn report(pick: &Pick, reason: Reason) {
        pick.report(match reason {
            Reason::UpstreamTimeout => Outcome::TimedOut,
            _ => Outcome::Failed,
        });
    }
}

/// A request's tries.
pub(super) struct Tries<'a> {
    worker: &'a Worker,
    service: &'a Service,
    affinity: &'a Affinity,
    terms: Terms<'a>,
    began: Instant,
    left: u32,
    stale: u8,
    tried: Vec<SocketAddr>,
    /// Why the last one failed, where only another address can do better.
    elsewhere: Option<Reason>,
    tally: &'a mut Tally,
}

impl<'a> Tries<'a> {
    /// A request of which nothing was tried; its first try begins now.
    pub(super) fn new(
        worker: &'a Worker,
        service: &'a Service,
        affinity: &'a Affinity,
        terms: Terms<'a>,
        tally: &'a mut Tally,
    ) -> Self {
        let began = Instant::now();
        tally.began = Some(began);
        Self {
            worker,
            service,
            affinity,
            terms,
            began,
            left: service.retries,
            stale: STALE,
            tried: Vec::new(),
            elsewhere: None,
            tally,
        }
    }

    /// The next try that gets a connection.
    pub(super) async fn next(&mut self) -> Result<Try, Reason> {
        loop {
            let pick = self.service.balancer.pick(self.affinity, &self.tried).await?;
            if let Some(reason) = self.elsewhere
                && self.tried.contains(&pick.address)
            {
                return Err(reason);
            }
            self.tally.count += 1;
            self.tally.address = Some(pick.address);
            match upstream::obtain(self.worker, self.service, pick.address, &self.terms).await {
                Ok(link) => return Ok(Try { link, pick, began: self.began }),
                Err(reason) => {
                    Try::report(&pick, reason);
                    if !self.goes_on(pick.address, reason) {
                        return Err(reason);
                    }
                }
            }
        }
    }

    /// Takes a try whose exchange failed before its answer; whether there is another one. Whether the request may be
    /// sent again at all is the caller's to know.
    pub(super) fn failed(&mut self, tried: &Try, reason: Reason) -> bool {
        // Not the upstream's fault, nor a try lost: it need not keep what is idle, and may refuse what it never began.
        if reason == Reason::UpstreamReset && tried.link.is_stale() && tried.began.elapsed() < AT_ONCE && self.stale > 0
        {
            self.stale -= 1;
            self.began = Instant::now();
            return true;
        }
        Try::report(&tried.pick, reason);
        self.goes_on(tried.pick.address, reason)
    }

    fn goes_on(&mut self, address: SocketAddr, reason: Reason) -> bool {
        self.worker.metrics.upstream_failures.add(1);
        tracing::debug!(
            service = %self.service.label, %address, reason = reason.code(), attempt = self.tally.count, left = self.left,
            "a try failed"
        );
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        if !self.tried.contains(&address) {
            self.tried.push(address);
        }
        // A wait that ended, or a handshake that failed, would do so again at the same place.
        let same_again = matches!(reason, Reason::UpstreamTimeout | Reason::UpstreamTls);
        self.elsewhere = same_again.then_some(reason);
        self.began = Instant::now();
        true
    }
}
