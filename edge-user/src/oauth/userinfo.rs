//! Asking an issuer who the user of a token is (OpenID Connect Core 1.0, 5.3): Kong's `userinfo_…`.

use std::sync::Arc;

use super::endpoint::{Purpose, Whose};
use super::extras::{self, Additions};
use super::failure::Malformed;
use super::introspection::{Extras, Surroundings};
use super::request::{Request, Secrets};
use super::signed;
use super::target::{self, Target};
use super::tokens::{GrantError, Refused, refused};
use super::{Endpoints, kept};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::http_client::Answer;
use crate::token::json::{Document, Kind, Value};
use crate::token::keys::KeySource;
use crate::token::{Issuers, Now};

/// `userinfo_accept`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Accept {
    Json,
    Jwt,
}

impl Accept {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jwt => "application/jwt",
        }
    }
}

/// What an issuer says of a user: an object with a `sub`.
#[derive(PartialEq, Eq)]
pub struct UserInfo {
    /// The JSON object, as it came.
    pub json: Box<[u8]>,
    /// The signed answer that the object came in.
    pub jwt: Option<Box<str>>,
}

/// Counts only: it is about a person.
impl std::fmt::Debug for UserInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("UserInfo").field("bytes", &self.json.len()).finish_non_exhaustive()
    }
}

impl kept::Value for UserInfo {
    fn heap_bytes(&self) -> usize {
        self.json.len() + self.jwt.as_ref().map_or(0, |jwt| jwt.len())
    }
}

/// One issuer's user info endpoint. Equal settings ask the same one.
pub struct UserInfoEndpoint {
    target: Target,
    accept: Accept,
    additions: Additions,
    issuers: Issuers,
    source: Option<Arc<KeySource>>,
    /// Of our clients, one of whom a signed answer is for.
    client_ids: Box<[Box<str>]>,
    id: [u8; 32],
}

impl UserInfoEndpoint {
    /// Reads `userinfo_endpoint`, `userinfo_accept`, and every `userinfo_headers_…` and `userinfo_query_args_…`.
    pub fn read(config: &mut Reader<'_>, around: &Surroundings, endpoints: &Arc<Endpoints>) -> Self {
        let url = extras::url(config, "userinfo_endpoint", endpoints);
        let words = [Accept::Json, Accept::Jwt].map(|accept| (accept.media_type(), accept));
        let accept = config.word("userinfo_accept", &words).unwrap_or(Accept::Json);
        if accept == Accept::Jwt && around.source.is_none() {
            let expected = "the issuer's keys, which the answer is verified with";
            config.problem("userinfo_accept", "a signed answer without keys", expected);
        }
        // The token goes in the header alone.
        let additions = Additions::read(config, &extras::USER_INFO, |name| name == "access_token");
        let settings = target::Settings {
            purpose: Purpose::UserInfo,
            issuer: around.issuer.clone(),
            url,
            mtls_url: None,
            method: None,
            options: around.options.clone(),
            // The token is the proof.
            clients: Arc::default(),
            source: around.source.clone(),
        };
        let target = Target::new(settings, endpoints);
        let client_ids: Box<[Box<str>]> = around.clients.iter().map(|client| client.id().into()).collect();
        let id = FieldDigest::default()
            .field(target.digest())
            .field(accept.media_type())
            .field(additions.digest())
            .field(format!("{:?}", around.issuers))
            .list(client_ids.iter().map(|id| id.as_bytes()))
            .finish();
        let (issuers, source) = (around.issuers.clone(), around.source.clone());
        Self { target, accept, additions, issuers, source, client_ids, id }
    }

    /// A hash over every setting that can change an answer.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Header fields of a request that go along: `userinfo_headers_client`.
    pub fn client_headers(&self) -> &[Box<str>] {
        &self.additions.client_headers
    }

    /// Arguments of a request that go along: `userinfo_query_args_client`.
    pub fn client_args(&self) -> &[Box<str>] {
        &self.additions.client_args
    }

    /// Asks who the user of this access token is.
    pub async fn ask(&self, token: &str, extras: &Extras) -> Result<UserInfo, GrantError> {
        let mut request = Request::default();
        request.accept = self.accept.media_type();
        let endpoint = self.target.address(0, &mut request).await?;
        self.additions.add_query(&mut request, extras);
        self.additions.add_headers(&mut request, extras);
        request.authorize(&format!("Bearer {token}"));
        request.hide(token);
        let secrets = request.secrets();
        let answered = endpoint.call(request, Whose::Caller, |answer| self.judge(answer, &secrets));
        answered.await?.map_err(GrantError::Refused)
    }

    async fn judge(&self, answer: Answer, secrets: &Secrets) -> Result<Result<UserInfo, Refused>, Malformed> {
        match answer.status {
            200 => {}
            // RFC 6750, 3.1
            400 | 401 | 403 => return refused(&answer, secrets).map(Err),
            _ => return Err(Malformed("the status is neither 200 nor that of an error")),
        }
        if answer.content_type() != self.accept.media_type() {
            return Err(Malformed("it is not of the type that was asked for"));
        }
        if self.accept == Accept::Json {
            object(&answer.body)?;
            return Ok(Ok(UserInfo { json: answer.body.into(), jwt: None }));
        }
        let source = self.source.as_ref().ok_or(Malformed("no key of the issuer is known"))?;
        // T25
        let payload = signed::verify(&answer.body, &["", "jwt"], source, Now::read()).await?;
        let document = object(&payload)?;
        self.check_parties(document.root(), source)?;
        let jwt = String::from_utf8(answer.body).map_err(|_| Malformed("it is no JWT"))?;
        Ok(Ok(UserInfo { json: payload.into(), jwt: Some(jwt.into()) }))
    }

    /// `iss` and `aud` of a signed answer (OpenID Connect Core 1.0, 5.3.2): the issuer's, and for us.
    fn check_parties(&self, claims: Value<'_>, source: &Arc<KeySource>) -> Result<(), Malformed> {
        if !signed::is_of_issuer(claims, &self.issuers, source) {
            return Err(Malformed("its `iss` is not the issuer"));
        }
        // Without a client of ours at the issuer it cannot name one.
        let Some(audience) = claims.member("aud").filter(|_| !self.client_ids.is_empty()) else { return Ok(()) };
        let is_ours = |one: Value<'_>| self.client_ids.iter().any(|id| one.is(id));
        match is_ours(audience) || audience.items().any(is_ours) {
            true => Ok(()),
            false => Err(Malformed("its `aud` is none of our clients")),
        }
    }
}

/// A strict JSON object that names a subject.
fn object(body: &[u8]) -> Result<Document, Malformed> {
    let document = Document::parse(body.to_vec()).map_err(|_| Malformed("it is no strict JSON"))?;
    if document.root().kind() != Kind::Object {
        return Err(Malformed("it is no JSON object"));
    }
    let names = document.root().member("sub").and_then(Value::text).is_some_and(|sub| !sub.is_empty());
    if names { Ok(document) } else { Err(Malformed("it has no `sub`")) }
}

#[cfg(test)]
#[path = "userinfo_tests.rs"]
mod tests;
