//! What an authorization server knows: itself, its key, its scopes and its clients. In memory, from the settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;

use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::Error;
use super::secret::SecretHash;
use super::template::{About, Subject};
use crate::crypto::sign::SigningKey;
use crate::settings::{IdentityClaim, IdentityClient, IdentityServer, SigningAlgorithm};

/// One authorization server.
pub(super) struct AuthServer {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) key: SigningKey,
    about: About,
    scopes: BTreeMap<String, Scope>,
    claims: Vec<IdentityClaim>,
    clients: HashMap<String, Client>,
}

struct Scope {
    default: bool,
}

/// One client.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: SecretHash,
    about: About,
    scopes: BTreeSet<String>,
    pub(super) access_token_duration: u64,
}

impl AuthServer {
    /// Reads or makes the key and hashes the secrets. Slow.
    pub(super) fn new(settings: &IdentityServer, address: SocketAddr) -> Result<Self, Error> {
        let clients = settings.clients.iter().map(|client| (client.id.clone(), Client::new(client)));
        let scopes = settings.scopes.iter().map(|scope| (scope.name.clone(), Scope { default: scope.default }));
        Ok(Self {
            name: settings.name.clone(),
            issuer: issuer(settings, address)?,
            audience: settings.audience.clone(),
            key: signing_key(settings)?,
            about: settings.about.clone(),
            scopes: scopes.collect(),
            claims: settings.claims.clone(),
            clients: clients.collect(),
        })
    }

    /// The issuer's path, before the suffix of each endpoint.
    pub(super) fn path(&self) -> &str {
        let authority = self.issuer.split_once("://").map_or("", |(_, rest)| rest);
        authority.find('/').map_or("", |slash| &authority[slash..])
    }

    pub(super) fn client(&self, id: &str) -> Option<&Client> {
        self.clients.get(id)
    }

    /// The scopes a client gets. What it asks for and cannot have is left out, as Kong Identity is seen to do; RFC 6749,
    /// 3.3 allows it, and the answer tells what was granted. Without a request: the default ones it may have.
    pub(super) fn grant(&self, client: &Client, requested: Option<&[&str]>) -> Vec<String> {
        let may_have = |scope: &str| client.scopes.contains(scope);
        let mut granted: Vec<String> = Vec::new();
        match requested {
            None => {
                let default = self.scopes.iter().filter(|(name, scope)| scope.default && may_have(name));
                granted.extend(default.map(|(name, _)| name.clone()));
            }
            Some(requested) => {
                for scope in requested.iter().filter(|scope| may_have(scope)) {
                    if !granted.iter().any(|known| known == scope) {
                        granted.push((*scope).to_owned());
                    }
                }
            }
        }
        granted
    }

    /// The names of the configured claims.
    pub(super) fn claim_names(&self) -> impl Iterator<Item = &str> {
        self.claims.iter().map(|claim| claim.name.as_str())
    }

    /// The configured claims of a token with these scopes. `asked`: whether the client asked for any.
    pub(super) fn claims(
        &self,
        client: &Client,
        granted: &[String],
        asked: bool,
        now: u64,
    ) -> Result<Map<String, Value>, String> {
        let subject = Subject {
            server: &self.about,
            algorithm: self.key.algorithm(),
            audience: &self.audience,
            client_id: &client.id,
            client: &client.about,
            now,
        };
        let wanted = self.claims.iter().filter(|claim| match &claim.in_scopes[..] {
            _ if claim.in_all_scopes => true,
            [] => !asked,
            scopes => scopes.iter().any(|scope| granted.contains(scope)),
        });
        wanted.map(|claim| Ok((claim.name.clone(), claim.value.render(&subject)?))).collect()
    }
}

impl Client {
    fn new(settings: &IdentityClient) -> Self {
        Self {
            id: settings.id.clone(),
            secret: SecretHash::new(settings.secret.expose()),
            about: settings.about.clone(),
            scopes: settings.scopes.iter().cloned().collect(),
            access_token_duration: settings.access_token_duration.as_secs(),
        }
    }
}

fn issuer(settings: &IdentityServer, address: SocketAddr) -> Result<String, Error> {
    let server = settings.name.clone();
    match &settings.issuer {
        Some(issuer) if issuer.ends_with('/') => Err(Error::Issuer { server, issuer: issuer.clone() }),
        Some(issuer) => Ok(issuer.clone()),
        None if address.ip().is_unspecified() => Err(Error::IssuerMissing(server)),
        None => Ok(format!("http://{address}/{server}/auth")),
    }
}

fn algorithm(setting: SigningAlgorithm) -> Algorithm {
    match setting {
        SigningAlgorithm::Rs256 => Algorithm::RS256,
        SigningAlgorithm::Rs384 => Algorithm::RS384,
        SigningAlgorithm::Rs512 => Algorithm::RS512,
        SigningAlgorithm::Ps256 => Algorithm::PS256,
        SigningAlgorithm::Ps384 => Algorithm::PS384,
        SigningAlgorithm::Ps512 => Algorithm::PS512,
    }
}

fn signing_key(settings: &IdentityServer) -> Result<SigningKey, Error> {
    let (server, algorithm) = (settings.name.clone(), algorithm(settings.signing_algorithm));
    let key = match &settings.signing_key {
        Some(path) => match fs::read(path) {
            Ok(pem) => SigningKey::from_pem(algorithm, &pem),
            Err(source) => return Err(Error::KeyFile { server, path: path.clone(), source }),
        },
        None => SigningKey::generate(algorithm),
    };
    key.map_err(|source| Error::Key { server, algorithm, source })
}
