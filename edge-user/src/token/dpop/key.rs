//! The public key in a proof's header. A client uses one key for all its proofs, so each thread keeps the last ones
//! ready: checking a key costs more than the signature.

use crate::crypto;
use crate::crypto::sign::thumbprint;
use crate::crypto::verify::VerifyingKey;
use crate::token::json::{Document, Kind};
use crate::token::jwks::{Key, Kinds};
use jsonwebtoken::Algorithm;
use std::cell::RefCell;
use std::rc::Rc;

/// Keys a thread keeps ready; a power of two.
const KEPT: usize = 128;
/// Members of private and symmetric keys (RFC 7518, 6).
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

/// A usable key.
pub(super) struct ProofKey {
    /// As RFC 7638 has it.
    pub(super) thumbprint: [u8; 32],
    key: Key,
}

impl ProofKey {
    /// The verifier for an algorithm that fits the key.
    pub(super) fn verifier(&self, algorithm: Algorithm) -> Option<&VerifyingKey> {
        self.key.verifier(algorithm)
    }
}

/// A key, and the hash of its text: one text means one key.
type Kept = Option<([u8; 32], Rc<ProofKey>)>;

thread_local! {
    static KEYS: RefCell<Vec<Kept>> = const { RefCell::new(Vec::new()) };
}

/// The key in this header; nothing where it is missing, private or unusable.
pub(super) fn read(header: &Document) -> Option<Rc<ProofKey>> {
    let jwk = header.root().member("jwk").filter(|jwk| jwk.kind() == Kind::Object)?;
    let text = crypto::sha256(jwk.raw().as_bytes());
    let place = usize::from(text[0]) % KEPT;
    KEYS.with_borrow_mut(|keys| {
        keys.resize_with(KEPT, || None);
        if let Some((_, key)) = keys[place].as_ref().filter(|(kept, _)| *kept == text) {
            return Some(Rc::clone(key));
        }
        let key = Rc::new(parse(jwk.raw())?);
        keys[place] = Some((text, Rc::clone(&key)));
        Some(key)
    })
}

/// `jwk` was read by the strict parser, so both parsers see the same members.
fn parse(jwk: &str) -> Option<ProofKey> {
    let jwk: serde_json::Value = serde_json::from_str(jwk).ok()?;
    if PRIVATE.iter().any(|member| jwk.get(member).is_some()) {
        return None;
    }
    let key = Key::parse(&jwk, Kinds::Public).ok()?;
    Some(ProofKey { thumbprint: thumbprint(&jwk)?, key })
}
