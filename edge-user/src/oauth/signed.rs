//! Answers that an issuer signed: the signature under its keys. What they say is their reader's.

use std::sync::Arc;

use jsonwebtoken::signature::Verifier as _;

use super::failure::Malformed;
use crate::token::json::Value;
use crate::token::jwks::{Choice, Key};
use crate::token::jws::Jws;
use crate::token::keys::{Attempt, KeySource, Missing};
use crate::token::{Issuers, Now};

/// The payload of an answer that is of one of these `typ`s (lower case, without `application/`) and signed by a key of
/// its issuer; keys are fetched anew where its `kid` is not known.
pub(super) async fn verify(
    jwt: &[u8],
    types: &[&str],
    source: &Arc<KeySource>,
    now: Now,
) -> Result<Vec<u8>, Malformed> {
    let no_jwt = |_| Malformed("it is no JWT");
    let jws = Jws::parse(jwt).map_err(no_jwt)?;
    if !types.contains(&&*jws.typ) {
        return Err(Malformed("its `typ` is another token's"));
    }
    let (signature, payload) = (jws.signature().map_err(no_jwt)?, jws.payload().map_err(no_jwt)?);
    let mut attempt = Attempt::First;
    loop {
        let set = source.keys().clone();
        let good = |key: &&Key| {
            key.verifier(jws.algorithm).is_some_and(|verifier| verifier.verify(jws.signed, &signature).is_ok())
        };
        match set.choose(jws.kid.as_deref(), jws.algorithm) {
            Choice::Keys(keys) if keys.iter().any(good) => return Ok(payload),
            Choice::Keys(_) => return Err(Malformed("its signature is wrong")),
            Choice::AlgorithmDiffers => return Err(Malformed("its algorithm is not its key's")),
            Choice::Unknown => match source.missing(jws.kid.as_deref(), now, attempt) {
                Missing::Wait(wait) => attempt = wait.done().await,
                _ => return Err(Malformed("its key is not known")),
            },
        }
    }
}

/// Whether `iss` is one of those that may sign.
pub(super) fn is_of_issuer(claims: Value<'_>, issuers: &Issuers, source: &Arc<KeySource>) -> bool {
    let Some(issuer) = claims.member("iss") else { return false };
    match issuers {
        Issuers::Any => true,
        Issuers::Listed(issuers) => issuers.iter().any(|known| issuer.is(known)),
        Issuers::Discovered => source.metadata().is_some_and(|known| issuer.is(&known.issuer)),
    }
}
