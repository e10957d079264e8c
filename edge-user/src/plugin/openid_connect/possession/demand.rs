//! What a route wants of tokens bound to a key, and what one names, in words: for `edge explain`.

use super::{Binding, Demand, Fault, Possession};
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, Facts};

/// What the token is bound to, and what is wrong with the proof.
pub(in super::super) fn found(facts: &Facts, unproven: &Option<(Reason, Option<Fault>)>) -> String {
    let cnf = facts.claim(&ClaimPath::new(["cnf"]));
    let bound = match cnf.map(Binding::read) {
        None => "a token bound to no key".to_owned(),
        Some(None) => "a token bound in an unknown way".to_owned(),
        Some(Some(binding)) => {
            let names = [binding.jkt.map(|_| "a DPoP key"), binding.x5t.map(|_| "a certificate")];
            format!("a token bound to {}", names.into_iter().flatten().collect::<Vec<_>>().join(" and "))
        }
    };
    match unproven {
        None => bound,
        Some((_, Some(fault))) => format!("{bound}; {fault}"),
        Some((reason, None)) => format!("{bound}; {}", reason.phrase()),
    }
}

impl Possession {
    /// What the configuration wants.
    pub(in super::super) fn demand(&self) -> String {
        let of = |demand: Demand, key: &str| match demand {
            Demand::Off => format!("no token bound to {key}"),
            Demand::Optional => format!("proof of {key} where the token is bound to one"),
            Demand::Strict => format!("a token bound to {key}, and proof of it"),
        };
        format!("{}; {}", of(self.mtls, "a certificate"), of(self.dpop, "a DPoP key"))
    }
}
