//! What a source asks for and keeps on disk: the issuer's metadata (RFC 8414; OpenID Connect Discovery 1.0) and its key
//! sets (RFC 7517, 5).

use super::{DISCOVERY_AGE_MS, Discovered, Documents, Error, KeySource, StoredSet};
use crate::http_client::{self, Options};
use crate::state::StoredKeys;
use crate::token::issuer::Metadata;
use crate::token::jwks::Kinds;
use crate::token::source::Discovery;
use crate::token::{Now, jwks};

impl KeySource {
    /// Keeps the documents for the next start.
    pub(super) async fn store(&self, documents: &Documents) {
        if self.settings.kinds == Kinds::PublicAndSecret {
            // Secrets stay in memory.
            return;
        }
        // Plain strings and numbers always serialize.
        if let Ok(body) = serde_json::to_string(documents) {
            self.shared.state.save_keys(&self.id, &StoredKeys { fetched_ms: Now::read().unix_ms, body }).await;
        }
    }

    /// Takes what the last run kept.
    pub(super) async fn restore(&self) {
        let Some(stored) = self.shared.state.load_keys(&self.id).await else { return };
        if let Ok(documents) = serde_json::from_str::<Documents>(&stored.body) {
            self.publish(&documents);
            self.inner().documents = documents;
        }
    }

    /// Fetches what is due. What fails keeps its last good document; the first failure is returned beside.
    pub(super) async fn fetch(&self, mut documents: Documents) -> (Documents, Option<Error>) {
        let mut failed = None;
        let mut urls = Vec::new();
        if let Some(discovery) = &self.settings.discovery {
            let now_ms = Now::read().unix_ms;
            // One from the future is of a clock that was wrong.
            let fresh = |known: &Discovered| (0..DISCOVERY_AGE_MS).contains(&(now_ms - known.fetched_ms));
            if self.inner().failures > 0 || !documents.discovered.as_ref().is_some_and(fresh) {
                match self.discover(discovery).await {
                    Ok(discovered) => documents.discovered = Some(discovered),
                    Err(error) => failed = Some(error),
                }
            }
            urls.extend(documents.jwks_uri(discovery).map(str::to_owned));
        }
        urls.extend(self.settings.jwks_uris.iter().cloned());
        documents.sets.retain(|set| urls.contains(&set.url));
        for url in urls {
            match self.fetch_set(&url).await {
                Ok(set) => {
                    documents.sets.retain(|old| old.url != url);
                    documents.sets.push(set);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        (documents, failed)
    }

    async fn discover(&self, discovery: &Discovery) -> Result<Discovered, Error> {
        let mut last = None;
        for url in &discovery.urls {
            let url = url.clone();
            match self.shared.http.get(&url, &self.settings.options, jwks::MAX_BYTES).await {
                Ok(body) => {
                    let metadata: Metadata =
                        serde_json::from_slice(&body).map_err(|_| Error::Document { url: url.clone() })?;
                    if !discovery.issuers.contains(&metadata.issuer) {
                        return Err(Error::Issuer { url, found: metadata.issuer });
                    }
                    return Ok(Discovered { metadata, fetched_ms: Now::read().unix_ms });
                }
                Err(source) => {
                    let absent = matches!(source, http_client::Error::Status(404));
                    // The first URL is the one the operator expects to read about.
                    last = last.or(Some(Error::Discovery { url: url.clone(), source }));
                    if !absent {
                        break;
                    }
                }
            }
        }
        Err(last.unwrap_or(Error::Document { url: String::new() }))
    }

    async fn fetch_set(&self, url: &str) -> Result<StoredSet, Error> {
        let url = url.to_owned();
        // Headers are for who is configured: the set that a document names may be anybody's.
        let options = match &self.settings.discovery {
            Some(_) => Options { headers: Default::default(), ..self.settings.options.clone() },
            None => self.settings.options.clone(),
        };
        let body = match self.shared.http.get(&url, &options, jwks::MAX_BYTES).await {
            Ok(body) => body,
            Err(source) => return Err(Error::Fetch { url, source }),
        };
        let warn = |kid: Option<&str>, error: &jwks::Error| {
            tracing::warn!(url, ?kid, %error, "[openid-connect] a key of the jwks is not used");
        };
        if let Err(source) = jwks::parse(&body, self.settings.kinds, warn) {
            return Err(Error::Set { url, source });
        }
        let body =
            String::from_utf8(body).map_err(|_| Error::Set { url: url.clone(), source: jwks::Error::NotASet })?;
        Ok(StoredSet { url, fetched_ms: Now::read().unix_ms, body })
    }
}
