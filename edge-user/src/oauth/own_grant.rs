//! Asking an issuer for a token as ourselves (RFC 6749, 4.3 and 4.4): Kong's `oauth` record of `upstream-oauth`.
//!
//! Nothing of a caller goes along: whoever asks by equal records asks the same question.

use std::sync::Arc;

use super::endpoint::{Purpose, Whose};
use super::failure::Malformed;
use super::request::{Request, is_framing};
use super::target::{self, Target};
use super::token_endpoint::{GrantKind, OWN_ARGS};
use super::tokens::{self, GrantError, TokenType, Tokens};
use super::{Clients, Endpoints, extras};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::http::head::is_field_name;
use crate::http_client::Options;
use reqwest::Url;
use reqwest::header::HeaderValue;

/// Names with their values.
type Pairs = Box<[(Box<str>, Box<str>)]>;

/// What is asked, all of which tells it from other questions.
pub struct Question {
    token_endpoint: Box<str>,
    grant: GrantKind,
    client_id: Option<Box<str>>,
    client_secret: Option<Box<str>>,
    username: Option<Box<str>>,
    password: Option<Box<str>>,
    scopes: Box<[Box<str>]>,
    audience: Box<[Box<str>]>,
    headers: Pairs,
    args: Pairs,
}

impl Question {
    /// Reads the whole record; problems go to the reader's sink.
    pub fn read(record: &mut Reader<'_>, endpoints: &Arc<Endpoints>) -> Option<Self> {
        const GRANTS: [(&str, GrantKind); 2] =
            [("client_credentials", GrantKind::ClientCredentials), ("password", GrantKind::Password)];
        let url = match record.missing("token_endpoint", "the URL of the issuer's token endpoint") {
            true => None,
            false => extras::url(record, "token_endpoint", endpoints),
        };
        let grant = record.word("grant_type", &GRANTS).unwrap_or(GrantKind::ClientCredentials);
        let [client_id, client_secret, username, password] =
            ["client_id", "client_secret", "username", "password"].map(|key| record.string(key).map(Box::from));
        for (key, given) in [("username", username.is_some()), ("password", password.is_some())] {
            match (grant, given) {
                (GrantKind::Password, false) => record.problem(key, "nothing", "one, for the grant `password`"),
                (GrantKind::ClientCredentials, true) => {
                    record.warn(key, "not sent: the grant `client_credentials` is the client's own");
                }
                _ => {}
            }
        }
        let mut list = |key| -> Option<Box<[Box<str>]>> {
            record.strings_lenient(key).map(|list| list.into_iter().map(Box::from).collect())
        };
        let scopes = list("scopes").unwrap_or_else(|| Box::new(["openid".into()]));
        let audience = list("audience").unwrap_or_default();
        let (headers, args) = (headers(record), args(record));
        Some(Self {
            token_endpoint: url?,
            grant,
            client_id,
            client_secret,
            username,
            password,
            scopes,
            audience,
            headers,
            args,
        })
    }

    /// `client_id`
    pub fn client_id(&self) -> Option<&str> {
        self.client_id.as_deref()
    }

    /// `client_secret`
    pub fn client_secret(&self) -> Option<&str> {
        self.client_secret.as_deref()
    }

    /// A hash over all of it.
    pub fn digest(&self) -> [u8; 32] {
        let list = |list: &[Box<str>]| FieldDigest::default().list(list.iter().map(|text| text.as_bytes())).finish();
        let pairs = |pairs: &Pairs| {
            let all: Vec<&Box<str>> = pairs.iter().flat_map(|(name, value)| [name, value]).collect();
            FieldDigest::default().list(all.iter().map(|text| text.as_bytes())).finish()
        };
        FieldDigest::default()
            .field(&*self.token_endpoint)
            .field(self.grant.word())
            .maybe(self.client_id.as_deref())
            .maybe(self.client_secret.as_deref())
            .maybe(self.username.as_deref())
            .maybe(self.password.as_deref())
            .field(list(&self.scopes))
            .field(list(&self.audience))
            .field(pairs(&self.headers))
            .field(pairs(&self.args))
            .finish()
    }
}

fn headers(record: &mut Reader<'_>) -> Pairs {
    const KEY: &str = "token_headers";
    let pairs = record.map(KEY).unwrap_or_default();
    for (name, value) in &pairs {
        if is_framing(name) || !is_field_name(name.as_bytes()) {
            record.problem(KEY, format!("{name:?}"), "a header that the message itself does not need");
        } else if HeaderValue::from_str(value).is_err() {
            record.problem(KEY, format!("a malformed value for `{name}`"), "visible ASCII");
        }
    }
    owned(pairs)
}

fn args(record: &mut Reader<'_>) -> Pairs {
    const KEY: &str = "token_post_args";
    let pairs = record.map(KEY).unwrap_or_default();
    for (name, _) in pairs.iter().filter(|(name, _)| OWN_ARGS.contains(name)) {
        record.problem(KEY, format!("{name:?}"), "an argument that the edge does not send itself");
    }
    owned(pairs)
}

/// Their order says nothing.
fn owned(mut pairs: Vec<(&str, &str)>) -> Pairs {
    pairs.sort_unstable();
    pairs.into_iter().map(|(name, value)| (name.into(), value.into())).collect()
}

/// A question, and as whom it is asked.
pub struct OwnGrant {
    question: Question,
    /// The endpoint's host.
    issuer: Box<str>,
    target: Target,
}

impl OwnGrant {
    /// Asks as this client, of which there is at most one, under these options.
    pub fn new(question: Question, clients: Clients, options: Options, endpoints: &Arc<Endpoints>) -> Self {
        let settings = target::Settings {
            purpose: Purpose::UpstreamToken,
            issuer: question.token_endpoint.clone(),
            url: Some(question.token_endpoint.clone()),
            mtls_url: None,
            method: None,
            options,
            clients: Arc::new(clients),
            source: None,
        };
        let url = Url::parse(&question.token_endpoint).ok();
        let issuer = url.as_ref().and_then(Url::host_str).unwrap_or_default().into();
        Self { question, issuer, target: Target::new(settings, endpoints) }
    }

    /// The host that it asks, for logs.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Asks for a token: a bearer token, or nothing (RFC 6749, 7.1: whoever does not know a type must not use it).
    pub async fn ask(&self) -> Result<Tokens, GrantError> {
        let question = &self.question;
        let mut request = Request::post();
        request.form().push("grant_type", question.grant.word());
        if question.grant == GrantKind::Password {
            request.form().push("username", question.username.as_deref().unwrap_or_default());
            request.form().push("password", question.password.as_deref().unwrap_or_default());
        }
        let endpoint = self.target.address(0, &mut request).await?;
        for (name, value) in &question.args {
            request.form().push_new(&**name, &**value);
        }
        // What the operator says in their place goes before them.
        for (name, words) in [("scope", &question.scopes), ("audience", &question.audience)] {
            if !words.is_empty() {
                request.form().push_new(name, words.join(" "));
            }
        }
        for (name, value) in &question.headers {
            request.header(name, value);
        }
        let secrets = request.secrets();
        let answered = endpoint.call(request, Whose::Edge, async |answer| {
            let read = tokens::read(answer, &secrets)?;
            if read.as_ref().is_ok_and(|tokens| tokens.token_type != TokenType::Bearer) {
                return Err(Malformed("its `token_type` is not Bearer"));
            }
            Ok(read)
        });
        answered.await?.map_err(GrantError::Refused)
    }
}

#[cfg(test)]
#[path = "own_grant_tests.rs"]
mod tests;
