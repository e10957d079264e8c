//! DPoP proofs (RFC 9449): whether the sender of a request holds the key that its token is bound to.
//!
//! No I/O. The caller brings the one field value, what the request is, and the `Ledger` that the process shares; which
//! tokens need a proof is the plugin's affair.

mod key;
mod nonce;
mod replay;
mod target;

use super::Now;
use super::json::{Document, Kind, Value};
use super::jws::Jws;
use crate::crypto::{self, MacKey, constant_time_eq};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Verifier;
use replay::Replays;
use std::sync::OnceLock;

/// Bytes of one proof; with an RSA key of 4096 bit it has about 2 KiB.
pub const MAX_BYTES: usize = 8 * 1024;
/// Bytes of a `jti`.
pub const MAX_JTI_BYTES: usize = 256;
/// What proofs may be signed with: every asymmetric algorithm of the edge. The issuers' allow-list does not bind
/// clients' keys.
pub const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
];

/// How far a client's clock may be ahead, in milliseconds.
const AHEAD_MS: i64 = 10_000;
/// How far a client's clock may be behind where a nonce dates the proof, in milliseconds; a longer lifetime widens it.
const OFF_MS: i64 = 300_000;
/// How far it may be ahead then: what is dated ahead keeps room for used proofs from all that is not.
const AHEAD_WITH_NONCE_MS: i64 = 60_000;

/// Why a proof is not taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// Too long, no JWS, or not typed `dpop+jwt`.
    #[error("the proof is no JWT of type dpop+jwt")]
    Malformed,
    /// Symmetric, `none`, or unknown.
    #[error("the proof's algorithm is not an asymmetric one of the edge")]
    Algorithm,
    /// Missing, private, of another type than the algorithm's, or unusable.
    #[error("the proof's jwk is missing, private or unusable")]
    Key,
    /// A claim is missing or of the wrong type.
    #[error("a claim of the proof is missing or malformed")]
    Claim,
    /// `htm`
    #[error("the proof is for another method (htm)")]
    Method,
    /// `htu`
    #[error("the proof is for another URL (htu)")]
    Target,
    /// `iat`, or an `exp` or `nbf` the client added.
    #[error("the proof is too old or from the future (iat)")]
    Time,
    /// `ath`
    #[error("the proof is for another token (ath)")]
    Token,
    /// None, an old one, or one that was never given.
    #[error("the proof has no current nonce")]
    Nonce,
    /// The key is not the token's.
    #[error("the proof's key is not the one that the token is bound to (jkt)")]
    Thumbprint,
    /// The signature is not the key's.
    #[error("the proof's signature is invalid")]
    Signature,
    /// Its `jti` was seen, or is older than what the edge can remember.
    #[error("the proof was used before (jti)")]
    Replayed,
}

/// What a route asks of proofs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// How long a proof is good, in milliseconds (Kong's `dpop_proof_lifetime`).
    pub lifetime_ms: i64,
    /// Whether it has to carry a nonce of the edge (Kong's `dpop_use_nonce`).
    pub nonce: bool,
}

/// The request that a proof has to name.
#[derive(Clone, Copy)]
pub struct Target<'a> {
    /// The method.
    pub method: &'a [u8],
    /// Whether the client used https.
    pub https: bool,
    /// The host as the client named it, with its port if it named one.
    pub authority: &'a [u8],
    /// The normalised path.
    pub path: &'a [u8],
}

/// The token that a proof belongs to.
#[derive(Clone, Copy)]
pub struct Bound<'a> {
    /// The token.
    pub token: &'a [u8],
    /// Its `cnf.jkt`.
    pub jkt: &'a str,
}

/// What all workers share: the proofs seen, and the key of the nonces. Keys are made at the start of the process.
pub struct Ledger {
    seen: MacKey,
    nonces: MacKey,
    replays: OnceLock<Replays>,
}

impl Default for Ledger {
    fn default() -> Self {
        let key = || MacKey::new(&crypto::random::<32>());
        Self { seen: key(), nonces: key(), replays: OnceLock::new() }
    }
}

impl Ledger {
    /// The nonce a client should use now.
    pub fn nonce(&self, rules: Rules, now: Now) -> String {
        nonce::give(&self.nonces, rules.lifetime_ms, now)
    }

    /// Makes room for the proofs that are seen: workers should not have to.
    pub fn open(&self) {
        self.replays.get_or_init(Replays::default);
    }

    /// Whether this proof is new; it is not from now on.
    fn take(&self, thumbprint: &[u8; 32], jti: &str, iat_ms: i64) -> bool {
        let digest = self.seen.mac(&[&thumbprint[..], jti.as_bytes()].concat());
        self.replays.get_or_init(Replays::default).take(&digest, iat_ms)
    }
}

/// A proof that holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Proven {
    /// Whether its nonce is the last one before the current: time to tell the client.
    pub nonce_is_ageing: bool,
}

/// Judges one proof, cheap checks first; one that holds is used up by it. RFC 9449, 4.3 and 7.1.
pub fn check(
    proof: &[u8],
    target: &Target<'_>,
    bound: &Bound<'_>,
    rules: Rules,
    ledger: &Ledger,
    now: Now,
) -> Result<Proven, Fault> {
    if proof.len() > MAX_BYTES {
        return Err(Fault::Malformed);
    }
    let jws = Jws::parse(proof).map_err(|reason| match reason {
        crate::reason::Reason::AlgNotAllowed => Fault::Algorithm,
        _ => Fault::Malformed,
    })?;
    if &*jws.typ != "dpop+jwt" {
        return Err(Fault::Malformed);
    }
    if !ALGORITHMS.contains(&jws.algorithm) {
        return Err(Fault::Algorithm);
    }
    let payload = document(jws.payload().map_err(|_| Fault::Malformed)?)?;
    let signature = jws.signature().map_err(|_| Fault::Malformed)?;
    let claim = |name: &str| payload.root().member(name);
    let text = |name: &str| claim(name).and_then(Value::text).ok_or(Fault::Claim);
    let jti = text("jti")?;
    if jti.is_empty() || jti.len() > MAX_JTI_BYTES {
        return Err(Fault::Claim);
    }
    if text("htm")?.as_bytes() != target.method {
        return Err(Fault::Method);
    }
    if !target::names(&text("htu")?, target) {
        return Err(Fault::Target);
    }
    let iat_ms = claim("iat").and_then(Value::seconds_as_ms).ok_or(Fault::Claim)?;
    let nonce_is_ageing = match rules.nonce {
        true => {
            let given = claim("nonce").and_then(Value::text).ok_or(Fault::Nonce)?;
            nonce::is_ageing(&ledger.nonces, &given, rules.lifetime_ms, now).ok_or(Fault::Nonce)?
        }
        false => false,
    };
    check_time(&claim, iat_ms, rules, now)?;
    if !constant_time_eq(text("ath")?.as_bytes(), URL_SAFE_NO_PAD.encode(crypto::sha256(bound.token)).as_bytes()) {
        return Err(Fault::Token);
    }
    let key = key::read(&header(jws.signed)?).ok_or(Fault::Key)?;
    if !constant_time_eq(URL_SAFE_NO_PAD.encode(key.thumbprint).as_bytes(), bound.jkt.as_bytes()) {
        return Err(Fault::Thumbprint);
    }
    let verifier = key.verifier(jws.algorithm).ok_or(Fault::Key)?;
    if verifier.verify(jws.signed, &signature).is_err() {
        return Err(Fault::Signature);
    }
    // Last, so that only what the token's owner signed takes room.
    if !ledger.take(&key.thumbprint, &jti, iat_ms) {
        return Err(Fault::Replayed);
    }
    Ok(Proven { nonce_is_ageing })
}

fn document(bytes: Vec<u8>) -> Result<Document, Fault> {
    let document = Document::parse(bytes).map_err(|_| Fault::Malformed)?;
    if document.root().kind() == Kind::Object { Ok(document) } else { Err(Fault::Malformed) }
}

/// The header once more: `Jws` leaves the key in it alone on purpose.
fn header(signed: &[u8]) -> Result<Document, Fault> {
    let header = signed.split(|byte| *byte == b'.').next().unwrap_or_default();
    document(URL_SAFE_NO_PAD.decode(header).map_err(|_| Fault::Malformed)?)
}

/// A nonce dates a proof better than the client's clock does; without one `iat` has to.
fn check_time<'a>(
    claim: &impl Fn(&str) -> Option<Value<'a>>,
    iat_ms: i64,
    rules: Rules,
    now: Now,
) -> Result<(), Fault> {
    let (behind, ahead) = match rules.nonce {
        true => (OFF_MS.max(rules.lifetime_ms), AHEAD_WITH_NONCE_MS),
        false => (rules.lifetime_ms, AHEAD_MS),
    };
    if iat_ms.saturating_add(behind) <= now.unix_ms || iat_ms.saturating_sub(ahead) > now.unix_ms {
        return Err(Fault::Time);
    }
    for (name, is_good) in [
        ("exp", &(|ms: i64| now.unix_ms < ms.saturating_add(ahead)) as &dyn Fn(i64) -> bool),
        ("nbf", &|ms| now.unix_ms.saturating_add(ahead) >= ms),
    ] {
        match claim(name).map(Value::seconds_as_ms) {
            None => {}
            Some(Some(ms)) if is_good(ms) => {}
            Some(Some(_)) => return Err(Fault::Time),
            Some(None) => return Err(Fault::Claim),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
