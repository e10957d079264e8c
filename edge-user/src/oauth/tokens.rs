//! What a token endpoint answered (RFC 6749, 5.1 and 5.2), read strictly. No I/O.

use std::time::Duration;

use reqwest::header::WWW_AUTHENTICATE;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::failure::{Failure, Malformed};
use super::kept;
use super::request::Secrets;
use crate::http_client::Answer;
use crate::token::Now;
use crate::token::json::{Document, Kind, Value};
use crate::token::jws::Jws;

/// Bytes of the longest token that is taken: what a request may carry.
const MAX_TOKEN_BYTES: usize = 16 * 1024;
/// Characters of an issuer's own words that are kept for logs.
const MAX_WORDS: usize = 200;
/// Longer than any token lives.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);

/// A text that is wiped when it is dropped, and never prints.
pub type SecretText = Zeroizing<String>;

/// `token_type`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub enum TokenType {
    /// RFC 6750
    Bearer,
    /// RFC 9449
    Dpop,
    /// RFC 8693, 2.2.1: the token is no access token.
    NotApplicable,
}

/// Tokens an issuer gave out.
#[derive(PartialEq, Eq)]
pub struct Tokens {
    /// `access_token`, or whatever token an exchange was for.
    pub access_token: SecretText,
    /// What it is.
    pub token_type: TokenType,
    /// `refresh_token`
    pub refresh_token: Option<SecretText>,
    /// `id_token`
    pub id_token: Option<SecretText>,
    /// `scope`, where it differs from what was asked for.
    pub scope: Option<Box<str>>,
    /// Header fields of the answer that `token_headers_replay` names, as the client gets them.
    pub replay: Vec<(Box<str>, Box<[u8]>)>,
    /// `expires_in` at the time of the answer.
    pub left: Option<Duration>,
    /// When that was, Unix milliseconds.
    pub answered_ms: i64,
}

/// Names nothing.
impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("type", &self.token_type).field("left", &self.left).finish_non_exhaustive()
    }
}

impl Tokens {
    /// A token without company: what the legacy exchange brings.
    pub fn alone(access_token: SecretText, left: Option<Duration>) -> Self {
        Self {
            access_token,
            token_type: TokenType::Bearer,
            refresh_token: None,
            id_token: None,
            scope: None,
            replay: Vec::new(),
            left,
            answered_ms: Now::read().unix_ms,
        }
    }

    /// When the access token ends, Unix milliseconds; nothing where nobody says.
    pub fn ends_ms(&self) -> Option<i64> {
        let left_ms = self.left?.as_millis().min(1 << 50) as i64;
        Some(self.answered_ms.saturating_add(left_ms))
    }

    /// As the fleet's cache keeps them; `left` is that cache's to know.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let stored = Stored {
            access_token: self.access_token.to_string(),
            token_type: self.token_type,
            refresh_token: self.refresh_token.as_ref().map(|text| text.to_string()),
            id_token: self.id_token.as_ref().map(|text| text.to_string()),
            scope: self.scope.clone(),
            replay: self.replay.clone(),
        };
        // Room for all of it at once: a buffer that grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * kept::Value::heap_bytes(self) + 1024));
        serde_json::to_writer(&mut *bytes, &stored).expect("texts and bytes always serialize");
        bytes
    }

    /// What `encode` made.
    pub fn decode(bytes: &[u8], left: Duration) -> Option<Self> {
        let mut stored: Stored = serde_json::from_slice(bytes).ok()?;
        let take = |text: &mut String| Zeroizing::new(std::mem::take(text));
        Some(Self {
            access_token: take(&mut stored.access_token),
            token_type: stored.token_type,
            refresh_token: stored.refresh_token.as_mut().map(take),
            id_token: stored.id_token.as_mut().map(take),
            scope: stored.scope.take(),
            replay: std::mem::take(&mut stored.replay),
            left: Some(left),
            answered_ms: Now::read().unix_ms,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct Stored {
    access_token: String,
    token_type: TokenType,
    refresh_token: Option<String>,
    id_token: Option<String>,
    scope: Option<Box<str>>,
    replay: Vec<(Box<str>, Box<[u8]>)>,
}

impl Drop for Stored {
    fn drop(&mut self) {
        self.access_token.zeroize();
        self.refresh_token.zeroize();
        self.id_token.zeroize();
    }
}

impl kept::Value for Tokens {
    fn heap_bytes(&self) -> usize {
        let optional = |text: &Option<SecretText>| text.as_ref().map_or(0, |text| text.capacity());
        let replay: usize = self.replay.iter().map(|(name, value)| name.len() + value.len() + 32).sum();
        self.access_token.capacity()
            + optional(&self.refresh_token)
            + optional(&self.id_token)
            + self.scope.as_ref().map_or(0, |scope| scope.len())
            + replay
    }
}

/// The issuer judged what it was asked, and said no.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The answer's status.
    pub status: u16,
    /// `error`, cut; empty where there was none. The issuer's words: quote them.
    pub error: Box<str>,
    /// `error_description`, cut.
    pub description: Option<Box<str>>,
}

/// Why a call brought nothing.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum GrantError {
    /// A verdict on what the caller presented.
    #[error("the issuer refuses the credentials: {:?}", .0.error)]
    Refused(Refused),
    /// A fault of the issuer's or of ours, never a verdict.
    #[error(transparent)]
    Failed(#[from] Failure),
}

impl kept::Refusal for GrantError {
    fn is_answer(&self) -> bool {
        matches!(self, Self::Refused(_))
    }

    fn heap_bytes(&self) -> usize {
        match self {
            Self::Refused(refused) => refused.error.len() + refused.description.as_ref().map_or(0, |text| text.len()),
            Self::Failed(_) => 0,
        }
    }
}

/// An issuer's words, cut, or that they are not shown because they repeat a secret (L1).
fn words(text: &str, secrets: &Secrets) -> Box<str> {
    match secrets.are_echoed_in(text) {
        true => "[not shown: it repeats a secret]".into(),
        false => text.chars().take(MAX_WORDS).collect(),
    }
}

/// What an answer of a token endpoint says: tokens, or no.
pub(super) fn read(answer: Answer, secrets: &Secrets) -> Result<Result<Tokens, Refused>, Malformed> {
    match answer.status {
        200 => tokens(answer).map(Ok),
        // RFC 6749, 5.2 has 400 and 401; some issuers say 403 to a wrong password.
        400 | 401 | 403 => refused(&answer, secrets).map(Err),
        _ => Err(Malformed("the status is neither 200 nor that of an error")),
    }
}

/// An error answer. One that says only by its status who is refused will do.
pub(super) fn refused(answer: &Answer, secrets: &Secrets) -> Result<Refused, Malformed> {
    let document = Document::parse(answer.body.clone()).ok();
    let member = |name: &str| document.as_ref()?.root().member(name)?.text();
    let text = |name: &str| member(name).map(|text| words(&text, secrets));
    match text("error") {
        Some(error) => Ok(Refused { status: answer.status, error, description: text("error_description") }),
        None if says_whom_it_refuses(answer) => {
            Ok(Refused { status: answer.status, error: "".into(), description: None })
        }
        None => Err(Malformed("an error's status without `error`")),
    }
}

/// Whether a body without `error` still refuses what was presented: 401 does, and a challenge with `error` (RFC 6750,
/// 3.1). A bare 403 may be anybody's on the way, about anything.
fn says_whom_it_refuses(answer: &Answer) -> bool {
    let is_ours = |scheme: &str| scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("dpop");
    let challenge = answer.headers.get(WWW_AUTHENTICATE).and_then(|value| value.to_str().ok());
    answer.status == 401
        || challenge.is_some_and(|text| {
            text.split_once(' ').is_some_and(|(scheme, rest)| is_ours(scheme) && rest.contains("error="))
        })
}

fn tokens(answer: Answer) -> Result<Tokens, Malformed> {
    if answer.content_type() != "application/json" {
        return Err(Malformed("it is not application/json"));
    }
    let document = Document::parse(answer.body).map_err(|_| Malformed("it is no strict JSON"))?;
    let root = document.root();
    if root.kind() != Kind::Object {
        return Err(Malformed("it is no JSON object"));
    }
    let optional = |name: &str| root.member(name).filter(|value| value.kind() != Kind::Null);
    let access_token = token(optional("access_token").ok_or(Malformed("it has no `access_token`"))?)?;
    let token_type = optional("token_type").and_then(Value::text).ok_or(Malformed("it has no `token_type`"))?;
    // RFC 6749, 5.1: the value is case-insensitive.
    let token_type = [("bearer", TokenType::Bearer), ("dpop", TokenType::Dpop), ("n_a", TokenType::NotApplicable)]
        .into_iter()
        .find_map(|(name, kind)| token_type.eq_ignore_ascii_case(name).then_some(kind))
        .ok_or(Malformed("its `token_type` is neither Bearer nor DPoP"))?;
    if optional("issued_token_type").is_some_and(|kind| !ISSUED.iter().any(|known| kind.is(known))) {
        return Err(Malformed("its `issued_token_type` is no access token's"));
    }
    let scope = match optional("scope") {
        None => None,
        Some(value) => Some(value.text().ok_or(Malformed("its `scope` is no string"))?.into()),
    };
    Ok(Tokens {
        access_token,
        token_type,
        refresh_token: optional("refresh_token").map(token).transpose()?,
        id_token: optional("id_token").map(token).transpose()?,
        scope,
        replay: Vec::new(),
        left: optional("expires_in").map(expires_in).transpose()?,
        answered_ms: Now::read().unix_ms,
    })
}

/// Kinds of token that an exchange may bring for an access token (RFC 8693, 3).
const ISSUED: [&str; 2] = ["urn:ietf:params:oauth:token-type:access_token", "urn:ietf:params:oauth:token-type:jwt"];

/// Visible ASCII (RFC 6749, A.12 and A.17): nothing else can stand in a header.
fn token(value: Value<'_>) -> Result<SecretText, Malformed> {
    let text = value.text().ok_or(Malformed("a token is no string"))?;
    token_text(text.into_owned().into()).ok_or(Malformed("a token is empty, too long, or not visible ASCII"))
}

/// A text as a token, where it can be one.
pub(super) fn token_text(text: SecretText) -> Option<SecretText> {
    let fits = !text.is_empty() && text.len() <= MAX_TOKEN_BYTES && text.bytes().all(|byte| byte.is_ascii_graphic());
    fits.then_some(text)
}

/// Seconds, which some issuers write as a string of digits. What is not ahead is over: nothing is kept of it.
fn expires_in(value: Value<'_>) -> Result<Duration, Malformed> {
    let malformed = Malformed("its `expires_in` is no number of seconds");
    let ms = match value.text() {
        None => value.seconds_as_ms().ok_or(malformed)?,
        Some(text) => {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(malformed);
            }
            text.parse::<i64>().unwrap_or(i64::MAX).saturating_mul(1000)
        }
    };
    Ok(Duration::from_millis(ms.max(0) as u64).min(MAX_LIFE))
}

/// How much of a JWT's time is left by its own word. Nothing is accepted by it: it only shortens how long the token is
/// kept.
pub(crate) fn until_exp(token: &[u8], now: Now) -> Option<Duration> {
    let payload = Jws::parse(token).ok()?.payload().ok()?;
    let exp_ms = Document::parse(payload).ok()?.root().member("exp")?.seconds_as_ms()?;
    Some(Duration::from_millis(exp_ms.saturating_sub(now.unix_ms).max(0) as u64))
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
