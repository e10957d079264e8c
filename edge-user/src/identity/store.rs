//! What an authorization server knows: itself, its key, its scopes and its clients. In memory, from the settings.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use axum::http::Uri;

use super::secret::SecretHash;
use super::{ClientSettings, Error, ServerSettings};
use crate::crypto::sign::SigningKey;

const DURATIONS: RangeInclusive<u64> = 60..=2_592_000;
const CLIENT_ID_BYTES: usize = 255;

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
    /// Checks the settings, reads or makes the key, hashes the secrets. Slow.
    pub(super) fn new(address: SocketAddr, settings: &ServerSettings) -> Result<Self, Error> {
        let name = settings.name.clone();
        let issuer = issuer(address, settings)?;
        if settings.audience.is_empty() {
            return Err(Error::Audience(name));
        }
        let mut scopes = BTreeMap::new();
        for scope in &settings.scopes {
            let known = scopes.insert(scope.name.clone(), Scope { default: scope.default });
            if known.is_some() || !is_scope(&scope.name) {
                return Err(Error::Scope { server: name, scope: scope.name.clone() });
            }
        }
        let mut clients = HashMap::new();
        for client in &settings.clients {
            let problem = || Error::Client { server: name.clone(), client: client.id.clone() };
            check_client(&name, &scopes, client)?;
            let known = clients.insert(
                client.id.clone(),
                Client {
                    id: client.id.clone(),
                    secret: SecretHash::new(&client.secret),
                    scopes: client.scopes.iter().cloned().collect(),
                    access_token_duration: client.access_token_duration,
                },
            );
            if known.is_some() {
                return Err(problem());
            }
        }
        let key = signing_key(settings)?;
        Ok(Self { name, issuer, audience: settings.audience.clone(), key, scopes, clients })
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

fn check_client(server: &str, scopes: &BTreeMap<String, Scope>, settings: &ClientSettings) -> Result<(), Error> {
    let (server, client) = (server.to_owned(), settings.id.clone());
    if client.is_empty() || client.len() > CLIENT_ID_BYTES || client.chars().any(char::is_control) {
        return Err(Error::Client { server, client });
    }
    if settings.secret.is_empty() {
        return Err(Error::Secret { server, client });
    }
    if !DURATIONS.contains(&settings.access_token_duration) {
        return Err(Error::Duration { server, client });
    }
    match settings.scopes.iter().find(|scope| !scopes.contains_key(*scope)) {
        Some(scope) => Err(Error::UnknownScope { server, client, scope: scope.clone() }),
        None => Ok(()),
    }
}

fn issuer(address: SocketAddr, settings: &ServerSettings) -> Result<String, Error> {
    let server = settings.name.clone();
    let Some(issuer) = settings.issuer.clone() else {
        let words = server.split(|character: char| !character.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
        let path = words.collect::<Vec<_>>().join("-").to_ascii_lowercase();
        return match (path.is_empty(), address.ip().is_unspecified()) {
            (true, _) => Err(Error::Name(server)),
            (_, true) => Err(Error::IssuerMissing(server)),
            _ => Ok(format!("http://{address}/{path}")),
        };
    };
    // RFC 8414, 2 and 3.1: suffixes are appended, so nothing may follow the path.
    let good = issuer.parse::<Uri>().is_ok_and(|uri| {
        let scheme = uri.scheme_str().unwrap_or_default();
        let host = uri.authority().is_some_and(|authority| !authority.as_str().contains('@'));
        host && ["http", "https"].contains(&scheme) && uri.query().is_none()
    });
    if !good || issuer.contains('#') || issuer.ends_with('/') {
        return Err(Error::Issuer { server, issuer });
    }
    Ok(issuer)
}

fn signing_key(settings: &ServerSettings) -> Result<SigningKey, Error> {
    let (server, algorithm) = (settings.name.clone(), settings.signing_algorithm);
    let key = match &settings.signing_key {
        Some(path) => match fs::read(path) {
            Ok(pem) => SigningKey::from_pem(algorithm, &pem),
            Err(source) => return Err(Error::KeyFile { server, path: path.clone(), source }),
        },
        None => SigningKey::generate(algorithm),
    };
    key.map_err(|source| Error::Key { server, algorithm, source })
}

/// Whether this is a scope token (RFC 6749, 3.3).
pub(super) fn is_scope(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e))
}
