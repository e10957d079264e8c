//! Asking an issuer what a token is worth (RFC 7662), and reading the answer strictly, signed (RFC 9701) or not.

use super::endpoint::{Purpose, Whose};
use super::failure::{Failure, Malformed};
use super::request::{Request, is_framing};
use super::signed;
use super::target::{self, Target};
use super::{Clients, Endpoints};
use crate::config::reader::Reader;
use crate::crypto::FieldDigest;
use crate::http::head::is_field_name;
use crate::http_client::{Answer, Options};
pub use crate::token::introspection::{Extras, Said};
use crate::token::json::{Document, Kind, Value};
use crate::token::keys::KeySource;
use crate::token::{Issuers, Now};
use reqwest::header::HeaderValue;
use std::sync::Arc;

/// `typ` of a signed answer (RFC 9701, 5).
const SIGNED_TYPE: &str = "token-introspection+jwt";
/// What the clocks of issuer and edge may differ by where a signed answer has times.
const LEEWAY_MS: i64 = 60_000;

/// `introspection_accept`
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
enum Accept {
    #[default]
    Json,
    /// An earlier draft's name of the next.
    Jwt,
    /// RFC 9701
    IntrospectionJwt,
}

impl Accept {
    fn media_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Jwt => "application/jwt",
            Self::IntrospectionJwt => "application/token-introspection+jwt",
        }
    }
}

/// What an answer without `active` is (`introspection_check_active`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unsaid {
    /// No answer.
    Malformed,
    /// A good token's: the operator switched the check off by name.
    Active,
}

/// Kong's introspection parameters, without the endpoint's own.
pub struct Settings {
    accept: Accept,
    /// `introspection_token_param_name`
    token_name: Box<str>,
    /// `introspection_hint`; empty sends none.
    hint: Box<str>,
    /// `introspection_headers_names`, `_values`
    headers: Box<[(Box<str>, Box<str>)]>,
    /// `introspection_post_args_names`, `_values`
    args: Box<[(Box<str>, Box<str>)]>,
    /// `introspection_headers_client`
    client_headers: Box<[Box<str>]>,
    /// `introspection_post_args_client`
    client_args: Box<[Box<str>]>,
    /// `introspection_post_args_client_headers`
    client_header_args: Box<[Box<str>]>,
    unsaid: Unsaid,
}

/// Asks one issuer about tokens. Equal settings ask the same endpoint.
pub struct Introspection {
    settings: Settings,
    target: Target,
    issuers: Issuers,
    id: [u8; 32],
}

/// One endpoint that is asked about tokens without more settings: `jwt-signer`'s.
pub struct Asked {
    /// Its URL.
    pub url: Box<str>,
    /// `token_type_hint`; empty sends none.
    pub hint: Box<str>,
    /// The value of `Authorization`.
    pub authorization: Option<Box<str>>,
    /// Further arguments.
    pub args: Box<[(Box<str>, Box<str>)]>,
}

/// What introspection needs of the plugin's other parameters.
#[derive(Clone)]
pub struct Surroundings {
    /// The configured issuer.
    pub issuer: Box<str>,
    /// Which issuers may sign an answer.
    pub issuers: Issuers,
    /// How calls are made.
    pub options: Options,
    /// Who we are.
    pub clients: Arc<Clients>,
    /// What the issuer says of itself, and its keys.
    pub source: Option<Arc<KeySource>>,
}

impl Introspection {
    /// Reads every `introspection_…` parameter and `mtls_introspection_endpoint`.
    pub fn read(config: &mut Reader<'_>, around: &Surroundings, endpoints: &Arc<Endpoints>) -> Self {
        let settings = Settings::read(config, around);
        let mut endpoint = |key: &'static str| -> Option<Box<str>> {
            let url = config.string(key)?;
            if let Err(error) = endpoints.http().check(url) {
                config.problem(key, error.to_string(), "an https URL");
            }
            Some(url.into())
        };
        let (url, mtls_url) = (endpoint("introspection_endpoint"), endpoint("mtls_introspection_endpoint"));
        let method = around.clients.method_at(config, "introspection_endpoint_auth_method");
        let Surroundings { issuer, issuers, options, clients, source } = around.clone();
        let purpose = Purpose::Introspection;
        let target = target::Settings { purpose, issuer, url, mtls_url, method, options, clients, source };
        Self::new(settings, Target::new(target, endpoints), issuers)
    }

    /// Introspection at one endpoint; its URL is the caller's to check.
    pub fn asking(asked: Asked, options: Options, endpoints: &Arc<Endpoints>) -> Self {
        let Asked { url, hint, authorization, args } = asked;
        let settings = Settings {
            accept: Accept::Json,
            token_name: "token".into(),
            hint,
            headers: authorization.into_iter().map(|value| (Box::from("authorization"), value)).collect(),
            args,
            client_headers: Box::default(),
            client_args: Box::default(),
            client_header_args: Box::default(),
            unsaid: Unsaid::Malformed,
        };
        let target = target::Settings {
            purpose: Purpose::Introspection,
            issuer: url.clone(),
            url: Some(url),
            mtls_url: None,
            method: None,
            options,
            clients: Arc::default(),
            source: None,
        };
        Self::new(settings, Target::new(target, endpoints), Issuers::Any)
    }

    fn new(settings: Settings, target: Target, issuers: Issuers) -> Self {
        let id = FieldDigest::default()
            .field(settings.digest())
            .field(target.digest())
            .field(format!("{issuers:?}"))
            .finish();
        Self { settings, target, issuers, id }
    }

    /// A hash over every setting that can change an answer; secrets as their SHA-256.
    pub fn id(&self) -> [u8; 32] {
        self.id
    }

    /// Header fields of a request that go along.
    pub fn client_headers(&self) -> &[Box<str>] {
        &self.settings.client_headers
    }

    /// Arguments of a request that go along in the form.
    pub fn client_args(&self) -> &[Box<str>] {
        &self.settings.client_args
    }

    /// Header fields of a request that go along in the form.
    pub fn client_header_args(&self) -> &[Box<str>] {
        &self.settings.client_header_args
    }

    /// Asks about a token.
    pub async fn ask(&self, token: &[u8], extras: &Extras) -> Result<Said, Failure> {
        let settings = &self.settings;
        let mut request = Request::post();
        request.accept = settings.accept.media_type();
        request.form().push(&*settings.token_name, token);
        if !settings.hint.is_empty() {
            request.form().push("token_type_hint", &*settings.hint);
        }
        let endpoint = self.target.address(extras.client, &mut request).await?;
        // The operator's go last and so before the client's: a client's may not replace them.
        for (name, value) in &settings.args {
            request.form().push_new(&**name, &**value);
        }
        for (name, value) in &extras.args {
            request.form().push_new(name, value);
        }
        for (name, value) in &extras.headers {
            request.header(name, value);
        }
        for (name, value) in &settings.headers {
            request.header(name, value);
        }
        let said = endpoint.call(request, Whose::Edge, |answer| self.judge(answer, extras.client)).await;
        if let Ok(Said::Active { .. }) = &said {
            tracing::debug!(issuer = %self.target.settings().issuer, "[openid-connect] introspection active");
        }
        said
    }

    /// What an answer says. Only a clear one is taken (RFC 7662, 2.2).
    async fn judge(&self, answer: Answer, client: usize) -> Result<Said, Malformed> {
        if answer.status != 200 {
            return Err(Malformed("the status is not 200"));
        }
        let content_type = answer.content_type();
        match self.settings.accept {
            Accept::Json => is_active(&answer, self.settings.unsaid).map(|active| match active {
                true => Said::Active { json: answer.body, jwt: None },
                false => Said::Inactive,
            }),
            // RFC 9701, 8: who asks for a signed answer does not take another.
            _ if ![Accept::Jwt, Accept::IntrospectionJwt].iter().any(|jwt| jwt.media_type() == content_type) => {
                Err(Malformed("it is not signed"))
            }
            _ => {
                let json = self.verify(&answer.body, client, Now::read()).await?;
                let jwt = String::from_utf8(answer.body).map_err(|_| Malformed("it is no JWT"))?;
                says_active(&json, self.settings.unsaid).map(|active| match active {
                    true => Said::Active { json, jwt: Some(jwt.into()) },
                    false => Said::Inactive,
                })
            }
        }
    }

    /// The object in a signed answer, verified like any token (RFC 9701, 5).
    async fn verify(&self, jwt: &[u8], client: usize, now: Now) -> Result<Vec<u8>, Malformed> {
        let source = self.target.settings().source.as_ref().ok_or(Malformed("no key of the issuer is known"))?;
        let payload = signed::verify(jwt, &[SIGNED_TYPE], source, now).await?;
        let claims = Document::parse(payload).map_err(|_| Malformed("its payload is no strict JSON"))?;
        let claims = claims.root();
        if !signed::is_of_issuer(claims, &self.issuers, source) {
            return Err(Malformed("its `iss` is not the issuer"));
        }
        let id = self.target.settings().clients.client(client).map(|client| client.id()).unwrap_or_default();
        let audience = claims.member("aud").ok_or(Malformed("it has no `aud`"))?;
        if !audience.is(id) && !audience.items().any(|one| one.is(id)) {
            return Err(Malformed("its `aud` is not our client"));
        }
        let time = |name: &str| match claims.member(name) {
            None => Ok(None),
            Some(value) => value.seconds_as_ms().map(Some).ok_or(Malformed("one of its times is no number")),
        };
        if time("exp")?.is_some_and(|exp| now.unix_ms >= exp.saturating_add(LEEWAY_MS)) {
            return Err(Malformed("it expired"));
        }
        for name in ["iat", "nbf"] {
            if time(name)?.is_some_and(|from| from > now.unix_ms + LEEWAY_MS) {
                return Err(Malformed("it is from the future"));
            }
        }
        match claims.member("token_introspection").filter(|value| value.kind() == Kind::Object) {
            Some(object) => Ok(object.raw().as_bytes().to_vec()),
            None => Err(Malformed("it has no `token_introspection`")),
        }
    }
}

/// Whether a plain answer says that the token is active (RFC 7662, 2.2).
pub fn is_active(answer: &Answer, unsaid: Unsaid) -> Result<bool, Malformed> {
    if answer.status != 200 {
        return Err(Malformed("the status is not 200"));
    }
    if answer.content_type() != "application/json" {
        return Err(Malformed("it is not application/json"));
    }
    says_active(&answer.body, unsaid)
}

/// Whether an object says that the token is active.
fn says_active(body: &[u8], unsaid: Unsaid) -> Result<bool, Malformed> {
    let document = Document::parse(body.to_vec()).map_err(|_| Malformed("it is no strict JSON"))?;
    if document.root().kind() != Kind::Object {
        return Err(Malformed("it is no JSON object"));
    }
    match document.root().member("active").map(Value::kind) {
        Some(Kind::True) => Ok(true),
        Some(Kind::False) => Ok(false),
        None if unsaid == Unsaid::Active => Ok(true),
        _ => Err(Malformed("`active` is neither true nor false")),
    }
}

impl Settings {
    fn read(config: &mut Reader<'_>, around: &Surroundings) -> Self {
        const ACCEPTS: [(&str, Accept); 3] = [
            ("application/json", Accept::Json),
            ("application/jwt", Accept::Jwt),
            ("application/token-introspection+jwt", Accept::IntrospectionJwt),
        ];
        let accept = config.word("introspection_accept", &ACCEPTS).unwrap_or_default();
        if accept != Accept::Json && (around.clients.client(0).is_none() || around.source.is_none()) {
            let found = "a signed answer without `client_id` and the issuer's keys";
            config.problem("introspection_accept", found, "both, which the answer is verified with");
        }
        let unsaid = match config.bool("introspection_check_active").unwrap_or(true) {
            true => Unsaid::Malformed,
            false => {
                config.warn("introspection_check_active", "an answer that does not say `active` counts as active");
                Unsaid::Active
            }
        };
        let token_name: Box<str> = config.string("introspection_token_param_name").unwrap_or("token").into();
        let hint: Box<str> = config.any_string("introspection_hint").unwrap_or("access_token").into();
        let is_ours = |name: &str| {
            name == &*token_name
                || (name == "token_type_hint" && !hint.is_empty())
                || ["client_secret", "client_assertion", "client_assertion_type"].contains(&name)
                || (name == "client_id" && around.clients.client(0).is_some())
        };
        let headers = pairs(config, "introspection_headers_names", "introspection_headers_values");
        let args = pairs(config, "introspection_post_args_names", "introspection_post_args_values");
        let client_headers = names(config, "introspection_headers_client");
        let client_args = names(config, "introspection_post_args_client");
        let client_header_args = names(config, "introspection_post_args_client_headers");
        for (name, value) in &headers {
            if HeaderValue::from_str(value).is_err() {
                config.problem(
                    "introspection_headers_values",
                    format!("a malformed value for `{name}`"),
                    "visible ASCII",
                );
            }
        }
        let fixed = headers.iter().map(|(name, _)| name).map(|name| ("introspection_headers_names", name));
        let copied = client_headers.iter().map(|name| ("introspection_headers_client", name));
        for (key, name) in fixed.chain(copied) {
            if is_framing(name) || !is_field_name(name.as_bytes()) {
                config.problem(key, format!("{name:?}"), "a header that the message itself does not need");
            }
        }
        // The operator may show other credentials; a client's are not the edge's.
        if client_headers.iter().any(|name| name.eq_ignore_ascii_case("authorization")) {
            config.problem("introspection_headers_client", "\"authorization\"", "other names: the edge shows its own");
        }
        let fixed = args.iter().map(|(name, _)| name).map(|name| ("introspection_post_args_names", name));
        let copied = client_args.iter().map(|name| ("introspection_post_args_client", name));
        let headers_as_args = client_header_args.iter().map(|name| ("introspection_post_args_client_headers", name));
        for (key, name) in fixed.chain(copied).chain(headers_as_args) {
            if is_ours(name) {
                config.problem(key, format!("{name:?}"), "an argument that the edge does not send itself");
            }
        }
        Self { accept, token_name, hint, headers, args, client_headers, client_args, client_header_args, unsaid }
    }

    fn digest(&self) -> [u8; 32] {
        let list = |pairs: &[(Box<str>, Box<str>)]| {
            let all = pairs.iter().flat_map(|(name, value)| [name, value]).collect::<Vec<_>>();
            FieldDigest::default().list(all.iter().map(|text| text.as_bytes())).finish()
        };
        let names = |names: &[Box<str>]| FieldDigest::default().list(names.iter().map(|name| name.as_bytes())).finish();
        FieldDigest::default()
            .field(format!("{:?} {:?}", self.accept, self.unsaid))
            .field(&*self.token_name)
            .field(&*self.hint)
            .field(list(&self.headers))
            .field(list(&self.args))
            .field(names(&self.client_headers))
            .field(names(&self.client_args))
            .field(names(&self.client_header_args))
            .finish()
    }
}

fn names(config: &mut Reader<'_>, key: &'static str) -> Box<[Box<str>]> {
    config.strings_lenient(key).unwrap_or_default().into_iter().map(Box::from).collect()
}

/// Two parallel lists as pairs.
pub(super) fn pairs(
    config: &mut Reader<'_>,
    names_key: &'static str,
    values_key: &'static str,
) -> Box<[(Box<str>, Box<str>)]> {
    let names = config.strings_lenient(names_key).unwrap_or_default();
    let values = config.strings_lenient(values_key).unwrap_or_default();
    if names.len() != values.len() {
        let found = format!("{} names for {} values", names.len(), values.len());
        config.problem(names_key, found, format!("as many as `{values_key}`"));
    }
    names.into_iter().zip(values).map(|(name, value)| (name.into(), value.into())).collect()
}

#[cfg(test)]
#[path = "introspection_tests.rs"]
mod tests;
