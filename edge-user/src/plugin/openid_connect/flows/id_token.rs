//! ID tokens beside the access token: sent by the client, or brought by a grant (OpenID Connect Core 1.0, 2).

use super::super::credential::Sent;
use super::super::credential::named::ParamTypes;
use super::super::{Denied, Request, judge};
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, Facts, Reading, holds};
use crate::token::introspection::Extras;
use crate::token::{Validator, Verified};
use crate::trace::Observer;
use std::sync::Arc;

/// How ID tokens are found and judged.
pub(in super::super) struct IdTokens {
    /// `id_token_param_name` and `_type`; nothing where clients send none.
    pub(super) sent: Option<(Box<str>, ParamTypes)>,
    pub(super) validator: Arc<Validator>,
    /// Our ids at the issuer: an ID token is for one of them.
    pub(super) clients: Box<[Box<str>]>,
    pub(super) aud: ClaimPath,
    pub(super) sub: ClaimPath,
}

impl IdTokens {
    /// Whether one may stand in the body.
    pub(super) fn reads_body(&self) -> bool {
        self.sent.as_ref().is_some_and(|(_, types)| types.reads_body())
    }

    /// The name of the field that clients send one in.
    pub(super) fn field_name(&self) -> Option<&str> {
        self.sent.as_ref().filter(|(_, types)| types.reads_field()).map(|(name, _)| &**name)
    }

    /// The validator of ID tokens: knows the keys that verified them.
    pub(in super::super) fn validator(&self) -> &Validator {
        &self.validator
    }

    /// The ID token that a client sent.
    pub(in super::super) fn find(&self, sent: &Sent<'_>) -> Result<Option<Box<[u8]>>, Denied> {
        let Some((name, types)) = &self.sent else { return Ok(None) };
        let found = types.named(name, sent).map_err(|(status, reason)| Denied::new(status, reason))?;
        Ok(found.map(|found| found.value.expose().as_bytes().into()))
    }

    /// Takes what clients send out of what goes upstream.
    pub(in super::super) fn remove(&self, request: &mut Request<'_>) {
        if let Some((name, types)) = &self.sent {
            types.remove_named(name, request);
        }
    }

    /// Judges one: its issuer, times, signature, and that it is for us.
    pub(in super::super) async fn judge(&self, request: &mut Request<'_>, token: &[u8]) -> Result<Verified, Denied> {
        let judged = judge(&self.validator, request, token, &Extras::default(), Observer::default()).await;
        let facts = judged.map_err(|refused| match refused.retry_after_secs {
            Some(_) => Denied { retry_after_secs: refused.retry_after_secs, ..Denied::new(503, refused.reason) },
            None => invalid(refused.reason.phrase()),
        })?;
        let is_ours = |claim| self.clients.iter().any(|id| holds(claim, id, Reading::Whole));
        // `azp` is left to extensions that use it (OpenID Connect Core 1.0 with errata 2, 3.1.3.7).
        match facts.claim(&self.aud).is_some_and(is_ours) {
            true => Ok(facts),
            false => Err(invalid("its aud is none of the configured `client_id`s")),
        }
    }

    /// Whether one that a client sent is about the user of its access token: what it says is believed of that one.
    pub(in super::super) fn fits(&self, id_token: &Facts, access_token: &Facts) -> Result<(), Denied> {
        let sub = |facts: &Facts| facts.claim(&self.sub).and_then(|sub| sub.text().map(|sub| sub.into_owned()));
        match sub(id_token).is_some_and(|said| sub(access_token).is_some_and(|sub| sub == said)) {
            true => Ok(()),
            false => Err(invalid("its sub is not the access token's")),
        }
    }
}

fn invalid(why: &str) -> Denied {
    Denied { fault: Some(why.to_owned()), ..Denied::new(401, Reason::IdTokenInvalid) }
}
