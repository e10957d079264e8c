//! What one instance wants of a request, check by check, and how a request is made that shows it a token: for
//! `edge explain`.

use super::OpenidConnect;
use crate::oauth::Introspection;
use crate::trace::Check;

pub use super::credential::Showing;

impl OpenidConnect {
    /// What the configuration wants of a check; nothing where it wants nothing.
    pub fn demand(&self, check: Check) -> Option<String> {
        match check {
            Check::Credential if self.takes_tokens => Some(self.places.demand(self.schemes)),
            Check::Credential => Some("no token: other credentials alone are taken".to_owned()),
            Check::Grant if self.flows.exchange.is_some() => Some("the issuer exchanges the token".to_owned()),
            Check::Grant => self.flows.grants.as_ref().map(|_| "or a credential that stands for a token".to_owned()),
            Check::ProofOfPossession => Some(self.possession.demand()),
            Check::IdTokenBeside => {
                self.flows.id_tokens.as_ref().map(|_| "a valid ID token, where one comes".to_owned())
            }
            Check::UserInfo => self.flows.users.as_ref().map(|_| "the issuer's user info for the token".to_owned()),
            Check::Consumer | Check::ConsumerGroups | Check::Anonymous => self.mapping.demand(check),
            _ => self.validator.demand(check).or_else(|| self.rules.demand(check)),
        }
    }

    /// Where a client of this route shows its token, by preference.
    pub fn showing(&self, dpop: bool) -> Showing<'_> {
        self.places.showing(dpop)
    }

    /// The scopes that a client is told to ask for; empty where none are required.
    pub fn scope(&self) -> &str {
        self.rules.scope()
    }

    /// Who is asked about tokens, if anybody is.
    pub fn introspection(&self) -> Option<&Introspection> {
        self.along.introspection()
    }
}
