//! Whether all bad tokens of a route are refused in one way: what the kernel's eligibility rules ask for.

use super::{OpenidConnect, Schemes, refusal};

/// How bad tokens are refused: equal where no client can tell two instances apart by it.
#[derive(PartialEq, Eq)]
pub struct Alike {
    /// Which tokens are bad.
    rules: [u8; 32],
    /// The answers, by reason.
    words: Vec<Vec<u8>>,
}

impl OpenidConnect {
    /// How each bad bearer token in `Authorization` is refused; or why not all of them are in one way.
    pub fn refuses_alike(&self) -> Result<Alike, &'static str> {
        if !self.run_on_preflight {
            return Err("that lets preflights pass");
        }
        if !self.places.is_authorization_alone() {
            return Err("that takes tokens elsewhere than in `Authorization`");
        }
        if self.schemes != Schemes::Bearer {
            return Err("that takes DPoP");
        }
        if self.flows.are_any() || self.validator.remote().is_some() {
            return Err("with other `auth_methods` than `bearer`");
        }
        if self.mapping.has_anonymous() {
            return Err("with `anonymous`");
        }
        let words = refusal::FOR_THE_KERNEL.map(|reason| self.answers.in_words(reason)).to_vec();
        Ok(Alike { rules: *self.validator.id(), words })
    }
}
