//! Who the edge is to an issuer: one client, and the seven ways it can prove that (RFC 6749 2.3, RFC 7523, RFC 8705).

use super::keys::GeneratedKeys;
use super::request::{Request, encode};
use crate::crypto::sign::{Signer, SigningKey};
use crate::crypto::{self, FieldDigest};
use crate::http_client::{Identity, Options};
use crate::token::Now;
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use jsonwebtoken::signature::Signer as _;
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// RFC 7523, 2.2
const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";
/// Seconds that an assertion lives: long enough for clocks that differ a little, short enough to be worthless later.
const ASSERTION_SECS: i64 = 60;

/// How a client authenticates (OpenID Connect Core 1.0, 9; RFC 8705, 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Method {
    /// Id and secret as Basic credentials, each form-encoded first (RFC 6749, 2.3.1).
    ClientSecretBasic,
    /// Id and secret in the body.
    ClientSecretPost,
    /// An assertion under the secret.
    ClientSecretJwt,
    /// An assertion under a private key.
    PrivateKeyJwt,
    /// A certificate of a CA.
    TlsClientAuth,
    /// A certificate that the issuer knows itself.
    SelfSignedTlsClientAuth,
    /// The id alone.
    None,
}

/// The methods by the names of the IANA registry, which are Kong's.
pub const METHODS: [(&str, Method); 7] = [
    ("client_secret_basic", Method::ClientSecretBasic),
    ("client_secret_post", Method::ClientSecretPost),
    ("client_secret_jwt", Method::ClientSecretJwt),
    ("private_key_jwt", Method::PrivateKeyJwt),
    ("tls_client_auth", Method::TlsClientAuth),
    ("self_signed_tls_client_auth", Method::SelfSignedTlsClientAuth),
    ("none", Method::None),
];

impl Method {
    /// Whether the TLS handshake is the proof.
    pub fn is_mtls(self) -> bool {
        matches!(self, Self::TlsClientAuth | Self::SelfSignedTlsClientAuth)
    }

    /// Whether a signed assertion is the proof (RFC 7523).
    pub(super) fn is_assertion(self) -> bool {
        matches!(self, Self::ClientSecretJwt | Self::PrivateKeyJwt)
    }

    /// What this needs, for a client that has not got it.
    pub(super) fn needs(self) -> &'static str {
        match self {
            Self::ClientSecretBasic | Self::ClientSecretPost | Self::ClientSecretJwt => "client_secret",
            Self::PrivateKeyJwt => "client_jwk",
            Self::TlsClientAuth | Self::SelfSignedTlsClientAuth => "tls_client_auth_cert_id",
            Self::None => "client_id",
        }
    }
}

/// One client of ours at an issuer.
pub struct Client {
    pub(super) id: Box<str>,
    pub(super) secret: Option<Box<str>>,
    /// `client_auth`
    pub(super) method: Option<Method>,
    /// `client_alg`
    pub(super) algorithm: Option<Algorithm>,
    pub(super) key: Option<PrivateKey>,
    pub(super) generated: Arc<GeneratedKeys>,
    pub(super) certificate: Option<Certificate>,
}

/// `client_jwk`
pub(super) struct PrivateKey {
    pub(super) key: SigningKey,
    /// What an assertion's header says of the key: `kid`, and where the record has them `x5t` and `x5t#S256`.
    pub(super) header: Map<String, Value>,
}

/// `tls_client_auth_cert_id`
#[derive(Clone)]
pub(super) struct Certificate {
    pub(super) identity: Identity,
    /// `tls_client_auth_ssl_verify`
    pub(super) ssl_verify: bool,
}

/// The clients of one issuer, in the order of `client_id`.
#[derive(Default)]
pub struct Clients(pub(super) Vec<Client>);

impl Clients {
    /// The client of this index; the first where there is none such.
    pub fn client(&self, index: usize) -> Option<&Client> {
        self.0.get(index).or(self.0.first())
    }

    /// All of them.
    pub fn iter(&self) -> std::slice::Iter<'_, Client> {
        self.0.iter()
    }

    /// A hash over everything; secrets as their SHA-256.
    pub fn digest(&self) -> [u8; 32] {
        FieldDigest::default().list(self.0.iter().map(Client::digest)).finish()
    }
}

impl Client {
    /// `client_id`
    pub fn id(&self) -> &str {
        &self.id
    }

    /// `client_secret`
    pub fn secret(&self) -> Option<&str> {
        self.secret.as_deref()
    }

    /// Whether everything is there that a method needs. A key that the edge makes itself is there only for who asks for
    /// `private_key_jwt` by name: no issuer knows it otherwise.
    pub fn can(&self, method: Method) -> bool {
        match method {
            Method::ClientSecretBasic | Method::ClientSecretPost | Method::ClientSecretJwt => self.secret.is_some(),
            Method::PrivateKeyJwt => self.key.is_some() || self.method == Some(Method::PrivateKeyJwt),
            Method::TlsClientAuth | Method::SelfSignedTlsClientAuth => self.certificate.is_some(),
            Method::None => true,
        }
    }

    /// How to authenticate at an endpoint: by what is configured for it, else for the client, else by the first of the
    /// methods the issuer supports that this client has the means for. `none` is not chosen while there are others.
    pub fn method(&self, configured: Option<Method>, supported: &[String]) -> Method {
        let fallback = [Method::ClientSecretBasic, Method::PrivateKeyJwt, Method::TlsClientAuth];
        let named = |name: &String| METHODS.iter().find(|(known, _)| known == name).map(|(_, method)| *method);
        let feasible = |method: &Method| *method != Method::None && self.can(*method);
        let discovered = || supported.iter().filter_map(named).find(feasible);
        let default = || fallback.into_iter().find(feasible).unwrap_or(Method::None);
        configured.or(self.method).or_else(discovered).unwrap_or_else(default)
    }

    /// Whether the proof depends on what the issuer says of itself: the method, or whom an assertion is for.
    pub(super) fn asks_issuer(&self, configured: Option<Method>) -> bool {
        configured.or(self.method).is_none_or(Method::is_assertion)
    }

    /// The options of a call under a method: those given, with the certificate where the method is mutual TLS.
    pub fn options(&self, method: Method, base: &Options) -> Options {
        match self.certificate.as_ref().filter(|_| method.is_mtls()) {
            None => base.clone(),
            Some(Certificate { identity, ssl_verify }) => {
                Options { identity: Some(identity.clone()), ssl_verify: *ssl_verify, ..base.clone() }
            }
        }
    }

    /// Adds the proof to a request. `audience` is whom an assertion is for.
    pub async fn authenticate(
        &self,
        method: Method,
        audience: &str,
        now: Now,
        request: &mut Request,
    ) -> Result<(), crypto::Error> {
        let secret = self.secret.as_deref().unwrap_or_default();
        request.hide(secret);
        if method == Method::ClientSecretBasic {
            let mut pair = String::new();
            encode(self.id.as_bytes(), &mut pair);
            pair.push(':');
            encode(secret.as_bytes(), &mut pair);
            let encoded = STANDARD.encode(pair);
            request.authorize(&format!("Basic {encoded}"));
            request.hide(encoded);
            return Ok(());
        }
        request.form().push("client_id", &*self.id);
        match method {
            Method::ClientSecretPost => request.form().push("client_secret", secret),
            Method::ClientSecretJwt | Method::PrivateKeyJwt => {
                let assertion = self.assertion(method, audience, now).await?;
                request.form().push("client_assertion_type", ASSERTION_TYPE);
                request.form().push("client_assertion", assertion);
            }
            _ => {}
        }
        Ok(())
    }

    /// A client assertion (RFC 7523, 2.2 and 3). What it says of itself comes from the configuration alone.
    async fn assertion(&self, method: Method, audience: &str, now: Now) -> Result<String, crypto::Error> {
        let iat = now.unix_ms.div_euclid(1000);
        let jti = URL_SAFE_NO_PAD.encode(crypto::random::<16>());
        let claims = json!({
            "iss": self.id, "sub": self.id, "aud": audience, "jti": jti, "iat": iat, "exp": iat + ASSERTION_SECS,
        });
        let claims = claims.to_string().into_bytes();
        if method == Method::ClientSecretJwt {
            let algorithm = self.algorithm.unwrap_or(Algorithm::HS256);
            let signer = Signer::new(algorithm, self.secret.as_deref().unwrap_or_default().as_bytes())?;
            let header = json!({"alg": algorithm, "typ": "JWT"}).to_string();
            let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let signature = signer.try_sign(signed.as_bytes()).map_err(|_| crypto::Error::Backend)?;
            return Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)));
        }
        let sign = |key: &SigningKey, mut header: Map<String, Value>| {
            header.insert("alg".into(), json!(key.algorithm()));
            header.insert("typ".into(), json!("JWT"));
            key.sign_parts(Value::Object(header).to_string().as_bytes(), &claims)
        };
        match &self.key {
            Some(own) => sign(&own.key, own.header.clone()),
            None => {
                let key = self.generated.key(self.algorithm.unwrap_or(Algorithm::RS256)).await?;
                sign(&key, Map::from_iter([("kid".into(), json!(key.kid()))]))
            }
        }
    }

    fn digest(&self) -> [u8; 32] {
        let key = self.key.as_ref();
        FieldDigest::default()
            .field(&*self.id)
            .maybe(self.secret.as_ref().map(|secret| crypto::sha256(secret.as_bytes())))
            .field(format!("{:?} {:?}", self.method, self.algorithm))
            .maybe(key.map(|own| own.key.public_jwk().to_string()))
            .maybe(key.map(|own| Value::Object(own.header.clone()).to_string()))
            .field(self.options(Method::TlsClientAuth, &Options::default()).digest())
            .finish()
    }
}

/// Names the client only.
impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("id", &self.id).field("method", &self.method).finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
