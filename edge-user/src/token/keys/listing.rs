//! What the Admin API tells of issuers, and how an operator has their documents fetched anew.

use super::{Documents, Inner, KeySource, KeySources, Metadata};
use crate::token::source::issuer_of;
use std::sync::Arc;

/// An issuer, as `/openid-connect/issuers` lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The first half of the hash over its source's settings: the same after a restart.
    pub id: [u8; 16],
    /// As it names itself; before its first answer, and where it is not asked, its URL.
    pub issuer: String,
    /// When what is known of it was fetched, Unix milliseconds; nothing where nothing is known, or it was forgotten.
    pub fetched_ms: Option<i64>,
    /// What it says of itself, as far as the edge acts on it.
    pub metadata: Option<Arc<Metadata>>,
    /// The public keys in force, each a JWK.
    pub keys: Vec<Box<str>>,
}

/// Which issuers are meant.
#[derive(Clone, Copy, Debug)]
pub enum Which<'a> {
    /// Each of them.
    All,
    /// That of this `Listed::id`.
    Id([u8; 16]),
    /// Those that have this URL as their name, configured or their own, or are asked at it.
    Url(&'a str),
}

impl Inner {
    /// What the next flight begins with. What was forgotten is due, and stays until something better comes.
    pub(super) fn take_due(&mut self) -> Documents {
        if std::mem::take(&mut self.forgotten)
            && let Some(discovered) = &mut self.documents.discovered
        {
            discovered.fetched_ms = 0;
        }
        self.documents.clone()
    }
}

impl KeySource {
    /// Has everything fetched anew now, whatever is known and whatever failed before. Until it came the last good keys
    /// stay in force.
    pub fn forget(self: &Arc<Self>) {
        self.start();
        self.inner().forgotten = true;
        self.take_off_again();
    }

    /// The same, and waits for its end: whether everything could be fetched.
    pub async fn fetch_anew(self: &Arc<Self>) -> bool {
        let mut done = self.done.subscribe();
        self.forget();
        let ended = async {
            // A flight that was under way ends first, and counts for nothing.
            while done.changed().await.is_ok() {
                let inner = self.inner();
                if !inner.forgotten && !inner.flight {
                    return;
                }
            }
        };
        let limit = self.settings.options.timeout + self.shared.policy.key_wait;
        tokio::time::timeout(limit, ended).await.is_ok() && self.inner().failures == 0
    }

    /// Another flight, where one is wanted that has yet to begin.
    pub(super) fn take_off_again(self: &Arc<Self>) {
        let mut inner = self.inner();
        if inner.forgotten && !inner.flight {
            self.take_off(&mut inner);
        }
    }

    /// What is told of it.
    pub fn listed(&self) -> Listed {
        let documents = self.inner().documents.clone();
        let discovered = documents.discovered.map(|discovered| discovered.fetched_ms);
        let fetched = discovered.or(documents.sets.first().map(|set| set.fetched_ms));
        Listed {
            id: *self.id.first_chunk().expect("a hash has 32 bytes"),
            issuer: self.report().name,
            fetched_ms: fetched.filter(|ms| *ms > 0),
            metadata: self.metadata(),
            keys: self.keys().keys.iter().map(|key| key.jwk().into()).collect(),
        }
    }

    fn is(&self, which: Which<'_>) -> bool {
        let url = match which {
            Which::All => return true,
            Which::Id(id) => return self.id.starts_with(&id),
            Which::Url(url) => url,
        };
        let same = |known: &str| known.trim_end_matches('/') == url.trim_end_matches('/');
        let mut asked = self.settings.discovery.iter().flat_map(|discovery| &discovery.urls);
        same(&self.report().name)
            || asked.any(|known| same(known) || same(&issuer_of(known)))
            || self.settings.jwks_uris.iter().any(|known| same(known))
    }
}

impl KeySources {
    /// These of the issuers in use, in a steady order.
    pub fn list(&self, which: Which<'_>) -> Vec<Listed> {
        let mut listed: Vec<_> = self.these(which).iter().map(|source| source.listed()).collect();
        listed.sort_by(|a, b| (&a.issuer, a.id).cmp(&(&b.issuer, b.id)));
        listed
    }

    /// Has the documents of these fetched anew; how many issuers they are.
    pub fn forget(&self, which: Which<'_>) -> usize {
        let these = self.these(which);
        these.iter().for_each(KeySource::forget);
        these.len()
    }

    fn these(&self, which: Which<'_>) -> Vec<Arc<KeySource>> {
        self.sources.iter().filter_map(|source| source.upgrade()).filter(|source| source.is(which)).collect()
    }
}
