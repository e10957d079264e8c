//! What an authorization server knows: itself, its key, its scopes and its clients. In memory, from the settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;

use jsonwebtoken::Algorithm;

use super::Error;
use super::secret::SecretHash;
use crate::crypto::sign::SigningKey;
use crate::settings::{IdentityClient, IdentityServer, SigningAlgorithm};

/// One authorization server.
pub(super) struct AuthServer {
    pub(super) name: String,
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) key: SigningKey,
    scopes: BTreeMap<String, Scope>,
    clients: HashMap<String, Client>,
}

struct Scope {
    default: bool,
}

/// One client.
pub(super) struct Client {
    pub(super) id: String,
    pub(super) secret: SecretHash,
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
            scopes: scopes.collect(),
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
}

impl Client {
    fn new(settings: &IdentityClient) -> Self {
        Self {
            id: settings.id.clone(),
            secret: SecretHash::new(settings.secret.expose()),
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
