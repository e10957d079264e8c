//! Where an instance has its token from: memory, a Redis that the fleet shares, the issuer, in this order.
//!
//! A request looks, and at most waits for a call that somebody's request began: there is one at a time for each
//! question, whoever asks it. A token that ends soon is asked for anew in the background and stands until another comes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::token::{Purges, Times, Unissued, UpstreamToken, pause};
use crate::crypto;
use crate::oauth::fleet::{EntryName, Fleet};
use crate::oauth::kept::{Brought, Keep, Kept, Key, Lifetimes};
use crate::oauth::own_grant::OwnGrant;
use crate::oauth::tokens::{GrantError, Refused, until_exp};
use crate::token::Now;

/// All instances' tokens.
pub type Store = Kept<UpstreamToken, Unissued>;

/// One instance's source.
pub(super) struct Source {
    store: Arc<Store>,
    key: Key,
    asking: Arc<Asking>,
    /// What a call takes at most.
    timeout: Duration,
    purges: Purges,
}

/// What calls need, which may outlive the instance.
struct Asking {
    grant: OwnGrant,
    times: Times,
    /// The fleet's cache and the token's name there.
    shared: Option<(Fleet, EntryName)>,
    /// The last token that an upstream refused: the fleet may still have it for a moment.
    refused: Mutex<Option<Arc<UpstreamToken>>>,
}

impl Source {
    /// Tokens that answer the question of `key`, each of which takes a call at most `timeout` to get.
    pub(super) fn new(
        (store, key): (&Arc<Store>, Key),
        grant: OwnGrant,
        times: Times,
        shared: Option<(Fleet, EntryName)>,
        timeout: Duration,
    ) -> Self {
        let asking = Asking { grant, times, shared, refused: Mutex::default() };
        Self { store: Arc::clone(store), key, asking: Arc::new(asking), timeout, purges: Purges::default() }
    }

    /// The token for a request of this time: the one that is known, or the one that a call brings within `limit`. What
    /// the wait was is added to `waited`. Nothing where there is none to be had at present.
    pub(super) async fn token(
        &self,
        now: Now,
        limit: Duration,
        waited: &mut Option<Duration>,
    ) -> Option<Arc<UpstreamToken>> {
        let Some(known) = self.store.look(&self.key, now) else { return self.fetch(limit, waited).await };
        let token = known.ok()?;
        if token.is_due(now) {
            self.renew(&token, now);
        }
        Some(token)
    }

    /// Joins the call that is under way or begins one, and waits for its end as `token` does.
    pub(super) async fn fetch(&self, limit: Duration, waited: &mut Option<Duration>) -> Option<Arc<UpstreamToken>> {
        let (began, asking) = (Instant::now(), Arc::clone(&self.asking));
        let waiting = self.store.ask(self.key, keep(), || async move { asking.run(None).await });
        let outcome = match waiting {
            Some(waiting) => waiting.outcome(limit).await,
            None => None,
        };
        *waited = Some(waited.unwrap_or_default() + began.elapsed());
        outcome?.ok()
    }

    /// Has a token asked for anew while it stands.
    fn renew(&self, token: &Arc<UpstreamToken>, now: Now) {
        if !token.falls_due(now, self.timeout) {
            return;
        }
        let (asking, standing) = (Arc::clone(&self.asking), Arc::clone(token));
        self.store.renew(self.key, keep(), token, || async move {
            let brought = asking.run(Some(&standing)).await;
            if brought.is_err() {
                standing.postpone(Now::read(), random());
            }
            brought
        });
    }

    /// Forgets a token that an upstream refused, here and in the fleet, unless another stands in its place by now. Whether
    /// another may be had: it stands there, or it may be asked for at this rate.
    pub(super) fn purge(&self, token: &Arc<UpstreamToken>) -> bool {
        let now = Now::read();
        let mut asked = None;
        let may = || {
            let may = self.purges.spend(now);
            if may {
                // Before it is gone: who finds it gone sees by whom.
                *self.asking.refused() = Some(Arc::clone(token));
            }
            *asked.insert(may)
        };
        if !self.store.forget(&self.key, token, may) {
            let is_purged = || self.asking.refused().as_ref().is_some_and(|known| Arc::ptr_eq(known, token));
            let stands = || self.store.look(&self.key, now).is_some();
            // For one that was never kept a call counts as well.
            return asked.unwrap_or_else(|| is_purged() || stands() || self.purges.spend(now));
        }
        tracing::warn!(
            issuer = self.asking.grant.issuer(),
            "[upstream-oauth] an upstream refuses the token: it is forgotten"
        );
        if let (Some(control), Some((fleet, name))) = (self.store.control(), self.asking.shared.clone()) {
            let token = Arc::clone(token);
            control.spawn(async move { fleet.delete_value(&name, token.token().as_bytes()).await });
        }
        true
    }
}

impl Asking {
    fn refused(&self) -> MutexGuard<'_, Option<Arc<UpstreamToken>>> {
        // A value is stored whole or not at all.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A token that is neither the one refused last nor the `standing` one.
    async fn run(&self, standing: Option<&UpstreamToken>) -> Result<Brought<UpstreamToken>, Unissued> {
        if let Some((fleet, name)) = &self.shared
            && let Some(found) = fleet.get(name).await
            && let Ok(token) = std::str::from_utf8(&found.value)
        {
            let is = |known: Option<&UpstreamToken>| known.is_some_and(|known| known.token() == token);
            if !is(standing) && !is(self.refused().as_deref()) {
                let value = UpstreamToken::new(token, found.left, Now::read(), random());
                return Ok(Brought { value, left: Some(found.left) });
            }
        }
        let tokens = self.grant.ask().await.map_err(|error| self.unissued(error))?;
        // Where the clocks differ, a token is over before `expires_in` is.
        let exp = until_exp(tokens.access_token.as_bytes(), Now::read());
        let kept = self.times.kept(tokens.left, exp);
        let value = UpstreamToken::new(&tokens.access_token, kept, Now::read(), random());
        if let Some((fleet, name)) = self.shared.clone() {
            let token = tokens.access_token;
            // Nobody waits for the fleet to be told.
            tokio::spawn(async move { fleet.put(&name, token.as_bytes(), kept).await });
        }
        Ok(Brought { value, left: Some(kept) })
    }

    /// Whoever runs the issuer needs its own words; a failure without any was told of where it happened.
    fn unissued(&self, error: GrantError) -> Unissued {
        if let GrantError::Refused(Refused { status, error, description }) = &error {
            tracing::error!(
                issuer = self.grant.issuer(),
                status,
                ?error,
                error_description = ?description.as_deref().unwrap_or_default(),
                "[upstream-oauth] the issuer gives no token"
            );
        }
        Unissued(error)
    }
}

/// Values until they end, of which they say when; failures for a moment, each for another.
fn keep() -> Keep {
    Keep::For(Lifetimes { ttl: Duration::ZERO, min: None, max: None, negative: pause(1, random()) })
}

fn random() -> u16 {
    u16::from_be_bytes(crypto::random())
}
