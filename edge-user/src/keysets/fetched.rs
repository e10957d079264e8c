//! Sets behind a URL: JWKs with their private members, fetched and never written down.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Credentials, Error};
use crate::crypto::sign::{SigningAlgorithm, SigningKey};
use crate::crypto::{self, FieldDigest, jwk};
use crate::http_client::{HttpClient, Options};
use crate::token::jwks::{MAX_BYTES, MAX_KEYS};

/// Why one key of a set does not sign.
#[derive(Debug, thiserror::Error)]
pub enum Unused {
    /// Not an object.
    #[error("not a JWK")]
    NotAKey,
    /// RFC 7517, 4.2 and 4.3.
    #[error("its `use` or `key_ops` is not to sign")]
    Purpose,
    /// RFC 7517, 4.4: which of the algorithms of its type is not for the edge to guess.
    #[error("no `alg`, or one that the edge does not sign with")]
    Algorithm,
    /// The name of a secret cannot be made from it, as a public key's is.
    #[error("a secret without `kid`")]
    Nameless,
    /// No private members, or of another key.
    #[error(transparent)]
    Key(#[from] crypto::Error),
}

/// What was fetched: the keys that sign, and what tells them from others.
pub struct Fetched {
    /// In the order of the set.
    pub keys: Vec<Arc<SigningKey>>,
    /// Over public members and secrets.
    pub print: [u8; 32],
}

/// Fetches a set. Credentials take the place of the configured ones, for this once.
pub(super) async fn fetch(
    http: &HttpClient,
    url: &str,
    options: &Options,
    credentials: Option<&Credentials>,
    unused: impl Fn(Option<&str>, &Unused),
) -> Result<Fetched, Error> {
    let mut options = options.clone();
    if let Some(Credentials { username, password }) = credentials {
        options.headers.retain(|(name, _)| !name.eq_ignore_ascii_case("authorization"));
        let pair = Zeroizing::new(format!("{username}:{}", **password));
        options.headers.push(("Authorization".to_owned(), format!("Basic {}", STANDARD.encode(&*pair))));
    }
    let body = Zeroizing::new(http.get(url, &options, MAX_BYTES).await?);
    // Each key signs once to show that it can, which the other work of the runtime does not wait for.
    let read = move || {
        let mut left_out = Vec::new();
        let parsed = parse(&body, |kid, error| left_out.push((kid.map(str::to_owned), error)));
        (parsed, left_out)
    };
    let (parsed, left_out) = tokio::task::spawn_blocking(read).await.map_err(|_| crypto::Error::Backend)?;
    left_out.iter().for_each(|(kid, error)| unused(kid.as_deref(), error));
    parsed
}

/// Reads a JWK set (RFC 7517, 5). Keys that cannot sign are left out, and said.
pub fn parse(body: &[u8], mut unused: impl FnMut(Option<&str>, Unused)) -> Result<Fetched, Error> {
    let set: Value = serde_json::from_slice(body).map_err(|_| Error::NotASet)?;
    let list = set.get("keys").and_then(Value::as_array).ok_or(Error::NotASet)?;
    if list.len() > MAX_KEYS {
        return Err(Error::TooMany(list.len()));
    }
    let mut keys = Vec::new();
    let mut print = FieldDigest::default();
    for jwk in list {
        match key(jwk) {
            Ok(key) => {
                print = print.field(key.public_jwk().to_string()).maybe(jwk.get("k").and_then(Value::as_str));
                keys.push(Arc::new(key));
            }
            Err(error) => unused(jwk.get("kid").and_then(Value::as_str), error),
        }
    }
    if keys.is_empty() { Err(Error::Empty) } else { Ok(Fetched { keys, print: print.finish() }) }
}

fn key(jwk: &Value) -> Result<SigningKey, Unused> {
    let jwk = jwk.as_object().ok_or(Unused::NotAKey)?;
    let signs = |list: &Value| list.as_array().is_some_and(|list| list.iter().any(|operation| operation == "sign"));
    if jwk.get("use").is_some_and(|purpose| purpose != "sig") || !jwk.get("key_ops").is_none_or(signs) {
        return Err(Unused::Purpose);
    }
    let name = jwk.get("alg").and_then(Value::as_str);
    let algorithm = name.and_then(SigningAlgorithm::from_name).ok_or(Unused::Algorithm)?;
    let kid = jwk.get("kid").and_then(Value::as_str);
    if algorithm.is_symmetric() {
        return Ok(SigningKey::from_secret(algorithm, kid.ok_or(Unused::Nameless)?, &secret(jwk)?)?);
    }
    let key = jwk::signing_key(jwk, algorithm)?;
    Ok(match kid {
        Some(kid) => key.with_kid(kid),
        None => key,
    })
}

/// The secret of an `oct` key (RFC 7518, 6.4).
fn secret(jwk: &Map<String, Value>) -> Result<Zeroizing<Vec<u8>>, crypto::Error> {
    if jwk.get("kty").is_none_or(|kind| kind != "oct") {
        return Err(crypto::Error::KeyMalformed);
    }
    let text = jwk.get("k").and_then(Value::as_str).ok_or(crypto::Error::KeyMalformed)?;
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map(Zeroizing::new).map_err(|_| crypto::Error::KeyMalformed)
}
