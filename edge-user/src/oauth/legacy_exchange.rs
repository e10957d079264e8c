//! Kong's legacy `token_exchange_endpoint`: a verified token goes there, and the body of the answer is another.

use std::sync::Arc;

use zeroize::Zeroizing;

use super::Endpoints;
use super::endpoint::{Purpose, Whose};
use super::extras;
use super::failure::Malformed;
use super::introspection::Surroundings;
use super::request::{Request, Secrets};
use super::target::{self, Target};
use super::tokens::{GrantError, Refused, Tokens, refused, token_text, until_exp};
use crate::config::reader::Reader;
use crate::http_client::Answer;
use crate::token::Now;

/// One such endpoint.
pub struct LegacyExchange {
    target: Target,
}

impl LegacyExchange {
    /// Reads `token_exchange_endpoint`; nothing where it is not set.
    pub fn read(config: &mut Reader<'_>, around: &Surroundings, endpoints: &Arc<Endpoints>) -> Option<Self> {
        let url = extras::url(config, "token_exchange_endpoint", endpoints)?;
        let settings = target::Settings {
            purpose: Purpose::TokenExchange,
            issuer: around.issuer.clone(),
            url: Some(url),
            mtls_url: None,
            method: None,
            options: around.options.clone(),
            // The token is the proof.
            clients: Arc::default(),
            source: None,
        };
        Some(Self { target: Target::new(settings, endpoints) })
    }

    /// A hash over every setting.
    pub fn id(&self) -> [u8; 32] {
        self.target.digest()
    }

    /// Exchanges a verified token for another.
    pub async fn exchange(&self, token: &str) -> Result<Tokens, GrantError> {
        let mut request = Request::post();
        request.accept = "*/*";
        let endpoint = self.target.address(0, &mut request).await?;
        request.authorize(&format!("Bearer {token}"));
        request.hide(token);
        let secrets = request.secrets();
        let answered = endpoint.call(request, Whose::Caller, async |answer| judge(answer, &secrets, Now::read()));
        answered.await?.map_err(GrantError::Refused)
    }
}

fn judge(answer: Answer, secrets: &Secrets, now: Now) -> Result<Result<Tokens, Refused>, Malformed> {
    match answer.status {
        200 => {}
        400 | 401 | 403 => return refused(&answer, secrets).map(Err),
        _ => return Err(Malformed("the status is neither 200 nor that of an error")),
    }
    let body = Zeroizing::new(String::from_utf8(answer.body).map_err(|_| Malformed("it is no token"))?);
    let token = Zeroizing::new(body.trim_ascii().to_owned());
    let token = token_text(token).ok_or(Malformed("it is no token"))?;
    let left = until_exp(token.as_bytes(), now);
    Ok(Ok(Tokens::alone(token, left)))
}

#[cfg(test)]
#[path = "legacy_exchange_tests.rs"]
mod tests;
