//! A token that the edge signed in place of a verified one. It lives in that one's cache entry, so that the signature is
//! paid once and never outlives its source (R6).
//!
//! Whoever finds none there begins one; all who need it meanwhile wait for the same. Who signs it is `plugin::jwt_signer`'s.

use arc_swap::ArcSwapOption;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::sync::watch;

/// One such token, or one that is being made.
pub struct Resigned {
    /// The signing keys' generation it was begun under.
    generation: u64,
    /// Nothing where it could not be made.
    token: OnceLock<Option<Box<[u8]>>>,
    done: watch::Sender<bool>,
}

/// What a look at the place of a token comes to.
pub enum Found {
    /// It is there.
    Ready(Arc<Resigned>),
    /// Somebody is making it.
    Pending(Arc<Resigned>),
    /// The caller makes it.
    Mine(Making),
}

impl Resigned {
    /// The token of this generation in its place, or the place for it.
    pub fn look(place: &ArcSwapOption<Self>, generation: u64) -> Found {
        loop {
            if let Some(found) = Self::look_once(place, generation) {
                return found;
            }
        }
    }

    /// The same; nothing where another worker was first with one that does not serve.
    fn look_once(place: &ArcSwapOption<Self>, generation: u64) -> Option<Found> {
        let found = place.load();
        if let Some(resigned) = found.as_ref().filter(|resigned| resigned.generation == generation) {
            match resigned.token.get() {
                Some(Some(_)) => return Some(Found::Ready(Arc::clone(resigned))),
                None => return Some(Found::Pending(Arc::clone(resigned))),
                // It could not be made, which is tried anew.
                Some(None) => {}
            }
        }
        let mine = Arc::new(Self { generation, token: OnceLock::new(), done: watch::Sender::new(false) });
        let before = place.compare_and_swap(&*found, Some(Arc::clone(&mine)));
        let is_mine = match (&*before, &*found) {
            (None, None) => true,
            (Some(before), Some(found)) => Arc::ptr_eq(before, found),
            _ => false,
        };
        is_mine.then(|| Found::Mine(Making(mine)))
    }

    /// The token.
    pub fn token(&self) -> Option<&[u8]> {
        self.token.get()?.as_deref()
    }

    /// Waits until it is made or cannot be, at most for `limit`.
    pub async fn made(&self, limit: Duration) {
        let mut done = self.done.subscribe();
        let _ = tokio::time::timeout(limit, done.wait_for(|done| *done)).await;
    }
}

/// The making of one token. Dropped without a token it releases who waits: there is none then.
pub struct Making(Arc<Resigned>);

impl Making {
    /// What is being made.
    pub fn resigned(&self) -> &Arc<Resigned> {
        &self.0
    }

    /// It is made.
    pub fn done(self, token: Box<[u8]>) {
        let _ = self.0.token.set(Some(token));
    }
}

impl Drop for Making {
    fn drop(&mut self) {
        let _ = self.0.token.set(None);
        self.0.done.send_replace(true);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine(place: &ArcSwapOption<Resigned>, generation: u64) -> Making {
        match Resigned::look(place, generation) {
            Found::Mine(making) => making,
            Found::Ready(_) | Found::Pending(_) => panic!("somebody else's"),
        }
    }

    #[tokio::test]
    async fn one_makes_it_and_all_have_it() {
        let place = ArcSwapOption::empty();
        let making = mine(&place, 1);
        let Found::Pending(pending) = Resigned::look(&place, 1) else { panic!("it is being made") };
        assert_eq!(pending.token(), None);
        pending.made(Duration::from_millis(5)).await;
        assert_eq!(pending.token(), None, "a wait has an end");
        let waits = tokio::spawn(async move {
            pending.made(Duration::from_secs(10)).await;
            pending.token().map(<[u8]>::to_vec)
        });
        making.done(Box::from(&b"a.b.c"[..]));
        assert_eq!(waits.await.expect("no panic").as_deref(), Some(&b"a.b.c"[..]));
        let Found::Ready(ready) = Resigned::look(&place, 1) else { panic!("it is there") };
        assert_eq!(ready.token(), Some(&b"a.b.c"[..]));
    }

    #[tokio::test]
    async fn other_keys_and_failures_make_it_anew() {
        // R5
        let place = ArcSwapOption::empty();
        mine(&place, 1).done(Box::from(&b"old"[..]));
        let making = mine(&place, 2);
        let Found::Pending(pending) = Resigned::look(&place, 2) else { panic!("it is being made") };
        drop(making);
        pending.made(Duration::from_secs(10)).await;
        assert_eq!(pending.token(), None);
        mine(&place, 2).done(Box::from(&b"new"[..]));
        let Found::Ready(ready) = Resigned::look(&place, 2) else { panic!("it is there") };
        assert_eq!(ready.token(), Some(&b"new"[..]));
    }
}
