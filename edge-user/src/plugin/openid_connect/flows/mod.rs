//! What the edge fetches itself: tokens for credentials that clients send in place of one (RFC 6749, 4.3, 4.4 and 6),
//! tokens exchanged for others (RFC 8693), and what the issuer says of the user (OpenID Connect Core 1.0, 5.3).
//!
//! Calls run on the control runtime, one at a time for each question; answers are kept for their time. A request looks,
//! and at most waits as long as for keys.
//!
//! A fetched token is judged at each use, after it was kept: one that fails is asked for anew some seconds later. So an
//! issuer that gives out bad tokens is not asked by each request, and one that changed its keys not refused for long.

mod exchange;
mod grants;
mod id_token;
mod settings;
mod user_info;

use super::{Denied, Request};
use crate::oauth::kept::{Brought, Keep, Kept, Key, Outcome, Value};
use crate::oauth::tokens::{GrantError, Refused};
use crate::reason::Reason;
use std::sync::Arc;

pub(super) use exchange::{Exchange, Legacy};
pub(super) use grants::Grants;
pub(super) use id_token::IdTokens;
pub(super) use settings::{Ground, Methods, lifetimes, parse};
pub(super) use user_info::{Named, Users};

/// All of one instance; most have none.
#[derive(Default)]
pub(super) struct Flows {
    pub(super) grants: Option<Grants>,
    pub(super) exchange: Option<Exchange>,
    pub(super) legacy: Option<Legacy>,
    pub(super) id_tokens: Option<IdTokens>,
    pub(super) users: Option<Users>,
}

impl Flows {
    /// Whether there is more than a token that is sent and verified.
    pub(super) fn are_any(&self) -> bool {
        let Self { grants, exchange, legacy, id_tokens, users } = self;
        grants.is_some() || exchange.is_some() || legacy.is_some() || id_tokens.is_some() || users.is_some()
    }

    /// Whether some credential may stand in the body, or what goes along; it must be collected first then.
    pub(super) fn reads_body(&self) -> bool {
        let args = [
            self.grants.as_ref().map(|grants| grants.endpoint().client_args()),
            self.exchange.as_ref().map(|exchange| exchange.endpoint().client_args()),
            self.users.as_ref().map(|users| users.endpoint().client_args()),
        ];
        args.into_iter().flatten().any(|args| !args.is_empty())
            || self.grants.as_ref().is_some_and(Grants::reads_body)
            || self.id_tokens.as_ref().is_some_and(IdTokens::reads_body)
    }

    /// The names of fields, besides `Authorization`, that some credential may stand in.
    pub(super) fn field_names(&self) -> impl Iterator<Item = &str> {
        let refresh_token = self.grants.as_ref().and_then(Grants::field_name);
        let id_token = self.id_tokens.as_ref().and_then(IdTokens::field_name);
        [refresh_token, id_token].into_iter().flatten()
    }

    /// Takes every credential of theirs out of what goes upstream; `Authorization` is the caller's to remove.
    pub(super) fn remove_credentials(&self, request: &mut Request<'_>) {
        if let Some(grants) = &self.grants {
            grants.remove(request);
        }
        if let Some(id_tokens) = &self.id_tokens {
            id_tokens.remove(request);
        }
    }
}

/// What a failed call is to a client: a verdict on what it sent, or a fault that it cannot mend.
#[derive(Clone, Copy)]
struct Verdicts {
    /// The issuer said no.
    refused: Reason,
    /// It said nothing.
    failed: Reason,
}

/// Looks a question up, or asks it and waits. Who keeps answers for other times asks another question: none gets one
/// that is older than its settings allow.
async fn fetch<T: Value, F>(
    request: &mut Request<'_>,
    kept: &Arc<Kept<T, GrantError>>,
    (question, keep): (&[&[u8]], Keep),
    verdicts: Verdicts,
    call: impl FnOnce() -> F,
) -> Result<Arc<T>, Denied>
where
    F: Future<Output = Result<Brought<T>, GrantError>> + Send + 'static,
{
    let key = key(kept, question, keep);
    if let Some(outcome) = kept.look(&key, request.now) {
        return brought(outcome, verdicts);
    }
    let unanswered = || Denied { retry_after_secs: Some(1), ..Denied::new(503, verdicts.failed) };
    let Some(waiting) = kept.ask(key, keep, call) else { return Err(unanswered()) };
    let outcome = request.within(waiting.outcome(request.key_wait)).await;
    outcome.map_or_else(|| Err(unanswered()), |outcome| brought(outcome, verdicts))
}

fn key<T: Value>(kept: &Kept<T, GrantError>, question: &[&[u8]], keep: Keep) -> Key {
    kept.key(&[question, &[format!("{keep:?}").as_bytes()]].concat())
}

fn brought<T>(outcome: Outcome<T, GrantError>, verdicts: Verdicts) -> Result<Arc<T>, Denied> {
    let error = match outcome {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    Err(match &*error {
        GrantError::Refused(Refused { status, error, description }) => {
            let description = description.as_deref().unwrap_or_default();
            let fault = format!("the issuer says {status}, error={error:?}, error_description={description:?}");
            Denied { fault: Some(fault), ..Denied::new(401, verdicts.refused) }
        }
        GrantError::Failed(failure) => {
            let retry_after_secs = Some(failure.retry_after_secs);
            Denied { fault: Some(failure.to_string()), retry_after_secs, ..Denied::new(503, verdicts.failed) }
        }
    })
}
