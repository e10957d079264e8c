//! Asking an issuer for tokens (RFC 6749, 4 and 6; RFC 8693): Kong's `token_…`, `scopes` and `audience`.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

use super::endpoint::{Purpose, Whose};
use super::extras::{self, Additions};
use super::fleet::{EntryName, Fleet};
use super::introspection::{Extras, Surroundings};
use super::kept::{Brought, Lifetimes};
use super::request::{Request, encode, is_framing};
use super::target::{self, Target};
use super::tokens::{self, GrantError, Tokens};
use super::{Clients, Endpoints};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::token::Now;

/// RFC 8693, 2.1
const EXCHANGE: &str = "urn:ietf:params:oauth:grant-type:token-exchange";
/// RFC 8693, 3
const ACCESS_TOKEN_TYPE: &str = "urn:ietf:params:oauth:token-type:access_token";

/// Arguments that the edge sends itself, or that would make it somebody else.
pub(super) const OWN_ARGS: [&str; 10] = [
    "grant_type",
    "username",
    "password",
    "refresh_token",
    "subject_token",
    "subject_token_type",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

/// Bytes that a caller presented: wiped when they are dropped.
pub type Secret = Zeroizing<Vec<u8>>;

/// What tokens are asked for with.
pub enum Grant {
    /// The caller's own client, in place of ours (RFC 6749, 4.4).
    ClientCredentials {
        /// `client_id`
        id: Secret,
        /// `client_secret`
        secret: Secret,
    },
    /// A user's, beside our client's credentials (RFC 6749, 4.3).
    Password {
        /// `username`
        username: Secret,
        /// `password`
        password: Secret,
    },
    /// RFC 6749, 6; beside our client's credentials.
    RefreshToken(Secret),
    /// A token that was verified, beside our client's credentials (RFC 8693).
    Exchange(Secret),
}

/// A kind of grant: Kong's words, and one for exchange.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GrantKind {
    /// `client_credentials`
    ClientCredentials,
    /// `password`
    Password,
    /// `refresh_token`
    RefreshToken,
    /// RFC 8693
    Exchange,
}

impl GrantKind {
    /// `grant_type`
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientCredentials => "client_credentials",
            Self::Password => "password",
            Self::RefreshToken => "refresh_token",
            Self::Exchange => EXCHANGE,
        }
    }
}

impl Grant {
    /// Its kind.
    pub fn kind(&self) -> GrantKind {
        match self {
            Self::ClientCredentials { .. } => GrantKind::ClientCredentials,
            Self::Password { .. } => GrantKind::Password,
            Self::RefreshToken(_) => GrantKind::RefreshToken,
            Self::Exchange(_) => GrantKind::Exchange,
        }
    }

    /// What was presented: for the key of what it brings.
    pub fn credentials(&self) -> [&[u8]; 2] {
        match self {
            Self::ClientCredentials { id, secret } => [id, secret],
            Self::Password { username, password } => [username, password],
            Self::RefreshToken(token) | Self::Exchange(token) => [token, b""],
        }
    }
}

/// Which scopes or audiences are asked for.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Wanted {
    /// `scopes` or `audience`
    #[default]
    Configured,
    /// These; none are none.
    These(Box<[Box<str>]>),
}

/// One question.
pub struct Ask {
    /// What with.
    pub grant: Grant,
    /// `token_exchange.request.scopes`, `.empty_scopes`
    pub scopes: Wanted,
    /// `token_exchange.request.audience`, `.empty_audience`
    pub audience: Wanted,
}

impl From<Grant> for Ask {
    fn from(grant: Grant) -> Self {
        Self { grant, scopes: Wanted::Configured, audience: Wanted::Configured }
    }
}

/// How a caller's own client is presented.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Presented {
    Basic,
    Post,
}

/// `token_headers_replay`, `_prefix` and `_grants`
struct Replay {
    names: Box<[HeaderName]>,
    prefix: Box<str>,
    grants: Box<[GrantKind]>,
}

/// One issuer's token endpoint. Equal settings ask the same one.
pub struct TokenEndpoint {
    /// As our client.
    ours: Target,
    /// As whoever calls us.
    theirs: Target,
    presented: Presented,
    scopes: Box<[Box<str>]>,
    audience: Box<[Box<str>]>,
    additions: Additions,
    replay: Replay,
    id: [u8; 32],
}

impl TokenEndpoint {
    /// Reads `token_endpoint`, `mtls_token_endpoint`, `token_endpoint_auth_method`, `scopes`, `audience`, and every
    /// `token_headers_…` and `token_post_args_…`.
    pub fn read(config: &mut Reader<'_>, around: &Surroundings, endpoints: &Arc<Endpoints>) -> Self {
        let url = extras::url(config, "token_endpoint", endpoints);
        let mtls_url = extras::url(config, "mtls_token_endpoint", endpoints);
        let method = around.clients.method_at(config, "token_endpoint_auth_method");
        let post = method.or(around.clients.client(0).and_then(|client| client.method))
            == Some(super::Method::ClientSecretPost);
        let presented = if post { Presented::Post } else { Presented::Basic };
        let owned = |list: Option<Vec<&str>>| -> Option<Box<[Box<str>]>> {
            list.map(|list| list.into_iter().map(Box::from).collect())
        };
        let scopes = owned(config.strings_lenient("scopes")).unwrap_or_else(|| Box::new(["openid".into()]));
        let audience = owned(config.strings_lenient("audience")).unwrap_or_default();
        let additions = Additions::read(config, &extras::TOKEN, |name| OWN_ARGS.contains(&name));
        let replay = Replay::read(config);
        let settings = |clients: &Arc<Clients>| target::Settings {
            purpose: Purpose::Token,
            issuer: around.issuer.clone(),
            url: url.clone(),
            mtls_url: mtls_url.clone(),
            method,
            options: around.options.clone(),
            clients: clients.clone(),
            source: around.source.clone(),
        };
        let ours = Target::new(settings(&around.clients), endpoints);
        let theirs = Target::new(settings(&Arc::default()), endpoints);
        let id = FieldDigest::default()
            .field(ours.digest())
            .field(format!("{presented:?}"))
            .list(scopes.iter().map(|text| text.as_bytes()))
            .list(audience.iter().map(|text| text.as_bytes()))
            .field(additions.digest())
            .field(replay.digest())
            .finish();
        Self { ours, theirs, presented, scopes, audience, additions, replay, id }
    }

    /// A hash over every setting that can change an answer; secrets as their SHA-256.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Header fields of a request that go along: `token_headers_client`.
    pub fn client_headers(&self) -> &[Box<str>] {
        &self.additions.client_headers
    }

    /// Arguments of a request that go along: `token_post_args_client`.
    pub fn client_args(&self) -> &[Box<str>] {
        &self.additions.client_args
    }

    /// The scopes that a question asks for, separated by spaces.
    pub fn scope(&self, ask: &Ask, extras: &Extras) -> String {
        let sent =
            |pairs: &[(String, String)]| pairs.iter().find(|(name, _)| name == "scope").map(|(_, value)| value.clone());
        let fixed = self.additions.args.iter().find(|(name, _)| &**name == "scope").map(|(_, value)| value.to_string());
        fixed.or_else(|| sent(&extras.args)).unwrap_or_else(|| wanted(&ask.scopes, &self.scopes).join(" "))
    }

    /// Asks for tokens.
    pub async fn grant(&self, ask: &Ask, extras: &Extras) -> Result<Tokens, GrantError> {
        let mut request = Request::post();
        request.form().push("grant_type", ask.grant.kind().word());
        for secret in ask.grant.credentials() {
            request.hide(secret);
        }
        let (target, whose) = match &ask.grant {
            Grant::ClientCredentials { id, secret } => {
                self.present(id, secret, &mut request);
                (&self.theirs, Whose::Caller)
            }
            Grant::Password { username, password } => {
                request.form().push("username", username);
                request.form().push("password", password);
                (&self.ours, Whose::Both)
            }
            Grant::RefreshToken(token) => {
                request.form().push("refresh_token", token);
                (&self.ours, Whose::Both)
            }
            Grant::Exchange(token) => {
                request.form().push("subject_token", token);
                request.form().push("subject_token_type", ACCESS_TOKEN_TYPE);
                (&self.ours, Whose::Both)
            }
        };
        let endpoint = target.address(extras.client, &mut request).await?;
        self.additions.add_args(&mut request, extras);
        // What the operator or, where allowed, the client says in their place goes before the defaults.
        let scopes = wanted(&ask.scopes, &self.scopes);
        if !scopes.is_empty() {
            request.form().push_new("scope", scopes.join(" "));
        }
        let audience = wanted(&ask.audience, &self.audience);
        match ask.grant {
            // RFC 8693, 2.1: one parameter for each.
            Grant::Exchange(_) if !request.form().has("audience") => {
                audience.iter().for_each(|one| request.form().push("audience", &**one));
            }
            _ if !audience.is_empty() => request.form().push_new("audience", audience.join(" ")),
            _ => {}
        }
        self.additions.add_headers(&mut request, extras);
        let replay = |headers: &HeaderMap| self.replay.of(ask.grant.kind(), headers);
        let (scope, secrets) = (self.scope(ask, extras), request.secrets());
        let answered = endpoint.call(request, whose, async |answer| {
            let replayed = replay(&answer.headers);
            let read = tokens::read(answer, &secrets)?;
            // Where the clocks differ, a token is over before `expires_in` is; and an ID token may be over sooner.
            let now = Now::read();
            Ok(read.map(|mut tokens| {
                // RFC 6749, 5.1: what is not said is what was asked for.
                tokens.scope = tokens.scope.take().or_else(|| (!scope.is_empty()).then(|| scope.as_str().into()));
                let all = [Some(&tokens.access_token), tokens.id_token.as_ref()].into_iter().flatten();
                let ends = all.filter_map(|token| tokens::until_exp(token.as_bytes(), now));
                let left = tokens.left.into_iter().chain(ends).min();
                Tokens { replay: replayed, left, ..tokens }
            }))
        });
        answered.await?.map_err(GrantError::Refused)
    }

    /// As `grant`, for `Kept::ask`: what the fleet knows already is not asked for, and what is new it is told.
    pub async fn grant_shared(
        &self,
        ask: &Ask,
        extras: &Extras,
        fleet: &Fleet,
        name: &EntryName,
        lifetimes: Lifetimes,
    ) -> Result<Brought<Tokens>, GrantError> {
        if let Some(found) = fleet.get(name).await
            && let Some(tokens) = Tokens::decode(&found.value, found.left)
        {
            return Ok(Brought { value: tokens, left: Some(found.left) });
        }
        let tokens = self.grant(ask, extras).await?;
        let (left, bytes, fleet, name) = (tokens.left, tokens.encode(), fleet.clone(), name.clone());
        // Nobody waits for the fleet to be told.
        tokio::spawn(async move { fleet.put(&name, &bytes, lifetimes.of(left)).await });
        Ok(Brought { value: tokens, left })
    }

    fn present(&self, id: &[u8], secret: &[u8], request: &mut Request) {
        match self.presented {
            Presented::Post => {
                request.form().push("client_id", id);
                request.form().push("client_secret", secret);
            }
            Presented::Basic => {
                // RFC 6749, 2.3.1: each is form-encoded first.
                let mut pair = Zeroizing::new(String::new());
                encode(id, &mut pair);
                pair.push(':');
                encode(secret, &mut pair);
                let encoded = Zeroizing::new(STANDARD.encode(&*pair));
                request.authorize(&format!("Basic {}", *encoded));
                request.hide(&*encoded);
            }
        }
    }
}

fn wanted<'a>(wanted: &'a Wanted, configured: &'a [Box<str>]) -> &'a [Box<str>] {
    match wanted {
        Wanted::Configured => configured,
        Wanted::These(these) => these,
    }
}

impl Replay {
    fn read(config: &mut Reader<'_>) -> Self {
        const GRANTS: [(&str, Option<GrantKind>); 4] = [
            // Browsers' own.
            ("authorization_code", None),
            ("client_credentials", Some(GrantKind::ClientCredentials)),
            ("password", Some(GrantKind::Password)),
            ("refresh_token", Some(GrantKind::RefreshToken)),
        ];
        let prefix: Box<str> = config.string("token_headers_prefix").unwrap_or_default().into();
        let name = |text: &str| {
            let sent = HeaderName::from_bytes(format!("{prefix}{text}").as_bytes()).ok()?;
            let known = HeaderName::from_bytes(text.as_bytes()).ok()?;
            (!is_framing(sent.as_str()) && !is_framing(known.as_str())).then_some(known)
        };
        let expected = "a header that the message itself does not need";
        let names = config.parsed_list("token_headers_replay", expected, name).unwrap_or_default();
        let grants = config.words("token_headers_grants", &GRANTS).unwrap_or_default();
        Self { names: names.into(), prefix, grants: grants.into_iter().flatten().collect() }
    }

    /// The fields of an answer that the client gets, by their names there.
    fn of(&self, grant: GrantKind, headers: &HeaderMap) -> Vec<(Box<str>, Box<[u8]>)> {
        if !self.grants.contains(&grant) {
            return Vec::new();
        }
        let all = |name: &HeaderName| headers.get_all(name).into_iter().map(HeaderValue::as_bytes).collect::<Vec<_>>();
        let named = |name: &HeaderName| (Box::<str>::from(format!("{}{name}", self.prefix)), all(name));
        let pairs = self.names.iter().map(named);
        pairs.flat_map(|(name, values)| values.into_iter().map(move |value| (name.clone(), value.into()))).collect()
    }

    fn digest(&self) -> [u8; 32] {
        FieldDigest::default()
            .list(self.names.iter().map(|name| name.as_str()))
            .field(&*self.prefix)
            .field(format!("{:?}", self.grants))
            .finish()
    }
}

#[cfg(test)]
#[path = "token_endpoint_tests.rs"]
mod tests;
