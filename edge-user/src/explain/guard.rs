//! The plugins that look at tokens, as `edge explain` asks them.

use super::remedy::Remedy;
use crate::config::snapshot::{Protocol, Route};
use crate::plugin::jwt_signer::{self, JwtSigner};
use crate::plugin::openid_connect::{self, OpenidConnect, Showing};
use crate::plugin::{Access, Caller, Plugin, Request};
use crate::reason::Reason;
use crate::token::Validator;
use crate::trace::{Check, Trace};

/// One of them, on the route in question.
#[derive(Clone, Copy)]
pub(super) enum Guard<'p> {
    OpenidConnect(&'p OpenidConnect),
    JwtSigner(&'p JwtSigner),
}

/// The route's instances in the order in which they run; they are for every caller.
pub(super) fn guards(route: &Route, protocol: Protocol) -> Vec<Guard<'_>> {
    let chosen = route.plugins.slots.iter().filter_map(|slot| slot.choose(protocol, &Caller::default()));
    chosen
        .filter_map(|plugin: &Plugin| match plugin {
            Plugin::OpenidConnect(plugin) => Some(Guard::OpenidConnect(plugin)),
            Plugin::JwtSigner(plugin) => Some(Guard::JwtSigner(plugin)),
            _ => None,
        })
        .collect()
}

impl<'p> Guard<'p> {
    /// The plugin's name.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::OpenidConnect(_) => openid_connect::NAME,
            Self::JwtSigner(_) => jwt_signer::NAME,
        }
    }

    /// By whom it has tokens verified; `subject` is the token in question, where there are several.
    pub(super) fn issuer(self, subject: Option<&str>) -> &'p str {
        match self {
            Self::OpenidConnect(plugin) => plugin.issuer(),
            Self::JwtSigner(plugin) => plugin.party(subject),
        }
    }

    /// What the configuration wants of a check.
    pub(super) fn demand(self, check: Check, subject: Option<&str>) -> Option<String> {
        match self {
            Self::OpenidConnect(plugin) => plugin.demand(check),
            Self::JwtSigner(plugin) => plugin.demand(check, subject),
        }
    }

    /// Who verifies the token.
    pub(super) fn validator(self, subject: Option<&str>) -> &'p Validator {
        match self {
            Self::OpenidConnect(plugin) => plugin.validator(),
            Self::JwtSigner(plugin) => plugin.validator(subject),
        }
    }

    /// Where a client shows the token, and the channel token.
    pub(super) fn showing(self, dpop: bool) -> [Option<Showing<'p>>; 2] {
        match self {
            Self::OpenidConnect(plugin) => [Some(plugin.showing(dpop)), None],
            Self::JwtSigner(plugin) => {
                plugin.showing().map(|field| field.map(|(name, scheme)| Showing::Field(name, scheme)))
            }
        }
    }

    /// Lower-case names of fields in which it looks for credentials.
    pub(super) fn credential_names(self) -> Vec<Box<str>> {
        match self {
            Self::OpenidConnect(plugin) => plugin.credential_names(),
            Self::JwtSigner(plugin) => plugin.credential_names(),
        }
    }

    /// Decides about a request.
    pub(super) async fn access(self, request: &mut Request<'_>) -> Access<'p> {
        match self {
            Self::OpenidConnect(plugin) => plugin.access(request).await,
            Self::JwtSigner(plugin) => plugin.access(request).await,
        }
    }

    /// The one change that would let the request pass.
    pub(super) fn remedy(self, reason: Reason, expected: &str, found: &str, trace: &Trace) -> Remedy {
        let usual = Remedy::of(reason, expected, found);
        match self {
            Self::OpenidConnect(_) => usual,
            Self::JwtSigner(plugin) => match plugin.advice(trace.subject(), reason, trace.has_asked()) {
                Some((client, configuration)) => Remedy { client, configuration, operator: None },
                None => usual,
            },
        }
    }
}
