//! User info: what the issuer says of the user that a verified token stands for.

use super::super::{Denied, Request};
use super::{Verdicts, fetch};
use crate::oauth::kept::{Brought, Keep, Kept};
use crate::oauth::tokens::GrantError;
use crate::oauth::userinfo::{UserInfo, UserInfoEndpoint};
use crate::reason::Reason;
use crate::token::claims::{ClaimPath, Facts};
use crate::token::introspection::Extras;
use std::sync::Arc;
use zeroize::Zeroizing;

const VERDICTS: Verdicts = Verdicts { refused: Reason::UserInfoRefused, failed: Reason::UserInfoFailed };

/// Where user info comes from.
pub(in super::super) struct Users {
    pub(super) endpoint: Arc<UserInfoEndpoint>,
    pub(super) kept: Arc<Kept<UserInfo, GrantError>>,
    pub(super) keep: Keep,
    pub(super) sub: ClaimPath,
    /// `search_user_info`: whether claims are looked for in it.
    pub(super) searched: bool,
}

/// User info as a request uses it.
pub(in super::super) struct Named {
    /// The answer.
    pub(in super::super) answer: Arc<UserInfo>,
    /// Its claims, where they are looked for.
    pub(in super::super) claims: Option<Facts>,
}

impl Users {
    /// What of a request goes along.
    pub(in super::super) fn endpoint(&self) -> &UserInfoEndpoint {
        &self.endpoint
    }

    /// What the issuer says of the user of this token, whose facts are these.
    pub(in super::super) async fn fetch(
        &self,
        request: &mut Request<'_>,
        token: &[u8],
        facts: &Facts,
        extras: Extras,
    ) -> Result<Named, Denied> {
        let question: [&[u8]; 3] = [&self.endpoint.id(), token, &extras.digest()];
        let endpoint = Arc::clone(&self.endpoint);
        // Verified, so of RFC 6750's alphabet.
        let secret = Zeroizing::new(String::from_utf8_lossy(token).into_owned());
        let answer = fetch(request, &self.kept, (&question, self.keep), VERDICTS, move || async move {
            let value = endpoint.ask(&secret, &extras).await?;
            Ok(Brought { value, left: None })
        })
        .await?;
        self.name(answer, facts)
    }

    /// An answer as that on the user of a token whose facts are these.
    pub(in super::super) fn name(&self, answer: Arc<UserInfo>, facts: &Facts) -> Result<Named, Denied> {
        let refused = |why: &str| Denied { fault: Some(why.to_owned()), ..Denied::new(401, Reason::UserInfoRefused) };
        let claims = Facts::introspected(answer.json.to_vec(), None).map_err(|reason| refused(reason.phrase()))?;
        // OpenID Connect Core 1.0, 5.3.2: it must be about the same user.
        let sub = |facts: &Facts| facts.claim(&self.sub).and_then(|sub| sub.text().map(|sub| sub.into_owned()));
        match (sub(facts), sub(&claims)) {
            (Some(token), Some(user)) if token != user => Err(refused("its sub is not the token's")),
            _ => Ok(Named { answer, claims: self.searched.then_some(claims) }),
        }
    }
}
