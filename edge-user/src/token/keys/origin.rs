//! Where keys come from, for people: the URLs of a source, the one a key was found at, and what they answer now.

use super::{Error, KeySource, Metadata, jwks};
use crate::http_client::{self, Call, Method};
use crate::token::jwks::Kinds;
use reqwest::header::{DATE, HeaderMap};
use std::time::{SystemTime, UNIX_EPOCH};

/// What a URL of an issuer answered.
pub struct Survey {
    /// Whom was asked.
    pub url: String,
    /// The answer's `Date` less this clock, in milliseconds; nothing where it has none.
    pub skew_ms: Option<i64>,
    /// What it is.
    pub document: Result<Document, Error>,
}

/// A document of an issuer.
pub enum Document {
    /// The metadata (RFC 8414, 2), and all of it as JSON.
    Metadata(Box<Metadata>, serde_json::Value),
    /// A key set: each key's `kid` and why it is not used, if it is not.
    Keys(Vec<(Option<String>, Option<String>)>),
}

impl KeySource {
    /// Where it asks, discovery first; the key set's URL once it is known.
    pub fn urls(&self) -> Vec<String> {
        let discovery = self.settings.discovery.as_ref();
        let known = self.metadata().and_then(|metadata| metadata.jwks_uri.clone());
        let discovered = discovery.filter(|discovery| discovery.keys);
        let discovered = discovered.and_then(|discovery| known.or_else(|| discovery.urls.first().cloned()));
        discovered.into_iter().chain(self.settings.jwks_uris.iter().cloned()).collect()
    }

    /// The URL at which a key in force was found, and when it was fetched, in Unix milliseconds.
    pub fn origin(&self, identity: &[u8; 32]) -> Option<(String, i64)> {
        let documents = self.inner().documents.clone();
        let holds = |body: &str| {
            let keys = jwks::parse(body.as_bytes(), self.settings.kinds, |_, _| {});
            keys.is_ok_and(|keys| keys.iter().any(|key| key.identity() == identity))
        };
        documents.sets.into_iter().find(|set| holds(&set.body)).map(|set| (set.url, set.fetched_ms))
    }

    /// Asks every URL once, by the rules of the source's own fetches, and changes nothing.
    pub async fn survey(&self) -> Vec<Survey> {
        let mut surveys = Vec::new();
        let mut key_urls = self.settings.jwks_uris.clone();
        if let Some(discovery) = &self.settings.discovery {
            for url in &discovery.urls {
                let survey = self.look(url, |body| self.metadata_at(url, body)).await;
                // As in `discover`: the next is asked only where this one is not there.
                let absent =
                    matches!(survey.document, Err(Error::Discovery { source: http_client::Error::Status(404), .. }));
                if let Ok(Document::Metadata(metadata, _)) = &survey.document {
                    key_urls.extend(metadata.jwks_uri.clone().filter(|_| discovery.keys));
                }
                surveys.push(survey);
                if !absent {
                    break;
                }
            }
        }
        // The first URL is the one the operator expects to read about.
        if surveys.len() > 1 {
            let good = surveys.iter().position(|survey| survey.document.is_ok()).unwrap_or(0);
            surveys = vec![surveys.swap_remove(good)];
        }
        for url in &key_urls {
            surveys.push(self.look(url, |body| keys_at(url, body, self.settings.kinds)).await);
        }
        surveys
    }

    /// The status that a URL answers to an empty GET, by the rules of the source's own fetches.
    pub async fn reach(&self, url: &str) -> Result<u16, http_client::Error> {
        let call = Call { method: Method::Get, url, accept: "*/*", headers: HeaderMap::new(), limit: jwks::MAX_BYTES };
        Ok(self.shared.http.session(&self.settings.options)?.call(call).await?.status)
    }

    async fn look(&self, url: &str, read: impl FnOnce(&[u8]) -> Result<Document, Error>) -> Survey {
        let is_discovery = self.settings.discovery.as_ref().is_some_and(|it| it.urls.iter().any(|known| known == url));
        let failed = |source| match is_discovery {
            true => Error::Discovery { url: url.to_owned(), source },
            false => Error::Fetch { url: url.to_owned(), source },
        };
        let accept = "application/json, application/jwk-set+json";
        let call = Call { method: Method::Get, url, accept, headers: HeaderMap::new(), limit: jwks::MAX_BYTES };
        let answer = match self.shared.http.session(&self.settings.options) {
            Ok(session) => session.call(call).await,
            Err(error) => Err(error),
        };
        let (skew_ms, document) = match answer {
            Err(error) => (None, Err(failed(error))),
            Ok(answer) => {
                let date = answer.headers.get(DATE).and_then(|date| date.to_str().ok());
                let document = match answer.status {
                    200 => read(&answer.body),
                    status => Err(failed(http_client::Error::Status(status))),
                };
                (date.and_then(|date| skew_ms(date, SystemTime::now())), document)
            }
        };
        Survey { url: url.to_owned(), skew_ms, document }
    }

    fn metadata_at(&self, url: &str, body: &[u8]) -> Result<Document, Error> {
        let malformed = |_| Error::Document { url: url.to_owned() };
        let metadata: Metadata = serde_json::from_slice(body).map_err(malformed)?;
        let whole = serde_json::from_slice(body).map_err(malformed)?;
        let expected = self.settings.discovery.as_ref().map(|discovery| &discovery.issuers);
        if !expected.is_some_and(|issuers| issuers.contains(&metadata.issuer)) {
            return Err(Error::Issuer { url: url.to_owned(), found: metadata.issuer });
        }
        Ok(Document::Metadata(Box::new(metadata), whole))
    }
}

fn keys_at(url: &str, body: &[u8], kinds: Kinds) -> Result<Document, Error> {
    let mut keys = Vec::new();
    let used = jwks::parse(body, kinds, |kid, error| keys.push((kid.map(str::to_owned), Some(error.to_string()))));
    let used = used.map_err(|source| Error::Set { url: url.to_owned(), source })?;
    keys.extend(used.iter().map(|key| (key.kid().map(str::to_owned), None)));
    Ok(Document::Keys(keys))
}

/// What a clock that says `date` (RFC 9110, 5.6.7), in whole seconds, is ahead of `now` at least.
fn skew_ms(date: &str, now: SystemTime) -> Option<i64> {
    let unix_ms = |time: SystemTime| Some(time.duration_since(UNIX_EPOCH).ok()?.as_millis() as i64);
    let (theirs, ours) = (unix_ms(httpdate::parse_http_date(date).ok()?)?, unix_ms(now)?);
    // Their second began at `theirs` and ended a second later.
    Some(match ours - theirs {
        0..1000 => 0,
        behind @ 1000.. => 999 - behind,
        ahead => -ahead,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn skew_is_what_is_beyond_the_second_that_dates_have() {
        let check = |now_ms: u64, expected: Option<i64>| {
            let now = UNIX_EPOCH + Duration::from_millis(now_ms);
            assert_eq!(skew_ms("Sun, 06 Nov 1994 08:49:37 GMT", now), expected, "{now_ms}");
        };
        check(784_111_777_000, Some(0));
        check(784_111_777_999, Some(0));
        check(784_111_778_000, Some(-1));
        check(784_111_787_999, Some(-10_000));
        check(784_111_776_000, Some(1000));
        assert_eq!(skew_ms("yesterday", UNIX_EPOCH), None);
    }
}
