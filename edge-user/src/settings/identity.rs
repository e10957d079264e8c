//! `[identity]`: the embedded authorization server, as far as `edge.toml` describes it.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::read::{address, is_http_url, resolve_path};
use crate::config::reader::Reader;
use crate::identity::{About, Subject, Template};

/// `[identity]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// `address` the servers answer at. Default `127.0.0.1:8180`.
    pub address: SocketAddr,
    /// `[[identity.servers]]`: exactly one for now.
    pub servers: Vec<IdentityServer>,
}

/// `[[identity.servers]]`: one authorization server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityServer {
    /// `name`: a part of its URLs; letters, digits, `. - _ ~`. Required.
    pub name: String,
    /// `audience` of its access tokens. Required.
    pub audience: String,
    /// `name`, `description` (default empty) and `labels` (default none), for claims.
    pub about: About,
    /// `signing_algorithm`: `RS256` (default), `RS384`, `RS512`, `PS256`, `PS384`, `PS512`.
    pub signing_algorithm: SigningAlgorithm,
    /// `issuer`: its URL as tokens name it. Default `http://<address>/<name>/auth`.
    pub issuer: Option<String>,
    /// `signing_key`: PEM file with the private key. Default: generated.
    pub signing_key: Option<PathBuf>,
    /// `[[identity.servers.scopes]]`
    pub scopes: Vec<IdentityScope>,
    /// `[[identity.servers.claims]]`
    pub claims: Vec<IdentityClaim>,
    /// `[[identity.servers.clients]]`
    pub clients: Vec<IdentityClient>,
}

/// `[[identity.servers.scopes]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityScope {
    /// `name`: one scope token (RFC 6749, 3.3). Required.
    pub name: String,
    /// `default`: given without being asked for. Default false.
    pub default: bool,
}

/// `[[identity.servers.claims]]`: a claim of its access tokens, besides those of RFC 9068.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityClaim {
    /// `name`: required.
    pub name: String,
    /// `value`: text, JSON, or a template of one. Required.
    pub value: Template,
    /// `include_in_all_scopes`: in every token. Default false.
    pub in_all_scopes: bool,
    /// `include_in_scopes`: in tokens with one of these. Default none: in tokens for which no scope was asked.
    pub in_scopes: Vec<String>,
}

/// `[[identity.servers.clients]]`
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdentityClient {
    /// `id`: required.
    pub id: String,
    /// `name` (default: the id) and `labels` (default none), for claims.
    pub about: About,
    /// `secret`, or the content of `secret_file` without its last line break. One of them is required.
    pub secret: Secret,
    /// `scopes` it may ask for; each must be one of the server's. Default: none.
    pub scopes: Vec<String>,
    /// `access_token_duration` in seconds, 60 to 2592000. Default 300.
    pub access_token_duration: Duration,
}

/// A JWS algorithm of the embedded server (RFC 7518, 3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the RFC's names")]
pub enum SigningAlgorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
}

const SIGNING_ALGORITHMS: [(&str, SigningAlgorithm); 6] = [
    ("RS256", SigningAlgorithm::Rs256),
    ("RS384", SigningAlgorithm::Rs384),
    ("RS512", SigningAlgorithm::Rs512),
    ("PS256", SigningAlgorithm::Ps256),
    ("PS384", SigningAlgorithm::Ps384),
    ("PS512", SigningAlgorithm::Ps512),
];

/// Claims that the token endpoint sets (RFC 9068, 2.2), and one that it may.
const REGISTERED: [&str; 9] = ["iss", "aud", "sub", "client_id", "iat", "nbf", "exp", "jti", "scope"];

impl SigningAlgorithm {
    /// The RFC's name.
    pub fn name(self) -> &'static str {
        SIGNING_ALGORITHMS.iter().find(|(_, algorithm)| *algorithm == self).map_or("", |(name, _)| name)
    }
}

/// A text that never prints.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps a text from printing.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

pub(super) fn identity(mut reader: Reader<'_>, base: &Path) -> Option<Identity> {
    let address = address(&mut reader, "address").unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 8180)));
    let servers = reader.objects("servers");
    if servers.len() != 1 {
        let found = format!("{} authorization servers", servers.len());
        reader.problem("servers", found, "exactly one: more are not supported yet");
    }
    let servers = servers.into_iter().filter_map(|server| identity_server(server, base)).collect();
    reader.finish();
    Some(Identity { address, servers })
}

fn identity_server(mut reader: Reader<'_>, base: &Path) -> Option<IdentityServer> {
    let name = if reader.missing("name", "the server's name") {
        None
    } else {
        reader.parsed("name", "letters, digits and . - _ ~", |text| is_path_segment(text).then(|| text.to_owned()))
    };
    let audience = reader.required_string("audience", "the audience of its tokens").map(str::to_owned);
    let description = reader.any_string("description").unwrap_or_default().to_owned();
    let labels = labels(&mut reader);
    let signing_algorithm = reader.word("signing_algorithm", &SIGNING_ALGORITHMS).unwrap_or(SigningAlgorithm::Rs256);
    let issuer = reader.parsed("issuer", "an http or https URL", |text| is_http_url(text).then(|| text.to_owned()));
    let signing_key = reader.string("signing_key").map(|path| resolve_path(base, path));
    if let Some(path) = &signing_key
        && let Err(error) = fs::File::open(path)
    {
        reader.problem("signing_key", format!("no readable file ({error})"), "a PEM file");
    }
    let mut scopes: Vec<IdentityScope> = Vec::new();
    for mut scope in reader.objects("scopes") {
        let default = scope.bool("default").unwrap_or(false);
        if let Some(name) = scope_name(&mut scope) {
            if scopes.iter().any(|other| other.name == name) {
                scope.problem("name", format!("{name:?} again"), "each scope once");
            }
            scopes.push(IdentityScope { name, default });
        }
        scope.finish();
    }
    let mut clients: Vec<IdentityClient> = Vec::new();
    for client in reader.objects("clients") {
        clients.extend(identity_client(client, base, &scopes, &clients));
    }
    let about = About { name: name.clone().unwrap_or_default(), description, labels };
    let subjects: Vec<Subject<'_>> = clients
        .iter()
        .map(|client| Subject {
            server: &about,
            algorithm: signing_algorithm.name(),
            audience: audience.as_deref().unwrap_or_default(),
            client_id: &client.id,
            client: &client.about,
            now: 0,
        })
        .collect();
    let mut claims: Vec<IdentityClaim> = Vec::new();
    for claim in reader.objects("claims") {
        claims.extend(identity_claim(claim, &scopes, &claims, &subjects));
    }
    reader.finish();
    Some(IdentityServer {
        name: name?,
        audience: audience?,
        about,
        signing_algorithm,
        issuer,
        signing_key,
        scopes,
        claims,
        clients,
    })
}

fn labels(reader: &mut Reader<'_>) -> Vec<(String, String)> {
    let labels = reader.map("labels").unwrap_or_default();
    labels.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

fn identity_claim(
    mut reader: Reader<'_>,
    known: &[IdentityScope],
    others: &[IdentityClaim],
    subjects: &[Subject<'_>],
) -> Option<IdentityClaim> {
    let name = reader.required_string("name", "the claim's name").map(str::to_owned);
    if let Some(name) = &name
        && REGISTERED.contains(&name.as_str())
    {
        reader.problem("name", format!("{name:?}"), "a name that is none of the token's own");
    }
    if let Some(name) = &name
        && others.iter().any(|other| other.name == *name)
    {
        reader.problem("name", format!("{name:?} again"), "each claim once");
    }
    let value = reader.required_string("value", "the claim's value").and_then(|text| {
        let read = Template::parse(text).and_then(|template| {
            match subjects.iter().try_for_each(|subject| template.render(subject).map(drop)) {
                Ok(()) => Ok(template),
                Err(error) => Err(error),
            }
        });
        read.map_err(|error| match error.split_once(", expected ") {
            Some((found, expected)) => reader.problem("value", found, expected),
            None => reader.problem("value", error, "text, JSON, or a template with a value for each client"),
        })
        .ok()
    });
    let in_all_scopes = reader.bool("include_in_all_scopes").unwrap_or(false);
    let in_scopes = reader.strings("include_in_scopes").unwrap_or_default();
    for scope in &in_scopes {
        if !known.iter().any(|known| known.name == *scope) {
            reader.problem("include_in_scopes", format!("{scope:?}"), "scopes of this server");
        }
    }
    reader.finish();
    let in_scopes = in_scopes.into_iter().map(str::to_owned).collect();
    Some(IdentityClaim { name: name?, value: value?, in_all_scopes, in_scopes })
}

fn scope_name(reader: &mut Reader<'_>) -> Option<String> {
    if reader.missing("name", "the scope's name") {
        return None;
    }
    let is_scope = |text: &str| text.bytes().all(|byte| matches!(byte, 0x21 | 0x23..=0x5b | 0x5d..=0x7e));
    reader.parsed("name", "printable ASCII without spaces, quotes and backslashes", |text| {
        is_scope(text).then(|| text.to_owned())
    })
}

fn identity_client(
    mut reader: Reader<'_>,
    base: &Path,
    known: &[IdentityScope],
    others: &[IdentityClient],
) -> Option<IdentityClient> {
    let id = reader.required_string("id", "the client's id").map(str::to_owned);
    if let Some(id) = &id
        && others.iter().any(|other| other.id == *id)
    {
        reader.problem("id", format!("{id:?} again"), "each client once");
    }
    let secret = client_secret(&mut reader, base);
    let scopes = reader.strings("scopes").unwrap_or_default();
    for scope in &scopes {
        if !known.iter().any(|known| known.name == *scope) {
            reader.problem("scopes", format!("{scope:?}"), "scopes of this server");
        }
    }
    let seconds = reader.integer("access_token_duration", 60..=2_592_000).unwrap_or(300);
    let name = reader.string("name").or(id.as_deref()).unwrap_or_default().to_owned();
    let about = About { name, description: String::new(), labels: labels(&mut reader) };
    reader.finish();
    Some(IdentityClient {
        id: id?,
        about,
        secret: secret?,
        scopes: scopes.into_iter().map(str::to_owned).collect(),
        access_token_duration: Duration::from_secs(seconds as u64),
    })
}

fn client_secret(reader: &mut Reader<'_>, base: &Path) -> Option<Secret> {
    match (reader.has("secret"), reader.has("secret_file")) {
        (true, true) => reader.problem("secret_file", "it beside `secret`", "one of the two"),
        (false, false) => reader.problem("secret", "nothing", "`secret` or `secret_file`"),
        _ => {}
    }
    let inline = reader.string("secret").map(Secret::new);
    let Some(path) = reader.string("secret_file").map(|path| resolve_path(base, path)) else { return inline };
    let found = match fs::read_to_string(&path) {
        Ok(text) => match text.trim_end_matches(['\r', '\n']) {
            "" => "an empty file".to_owned(),
            secret => return Some(Secret::new(secret)),
        },
        Err(error) => format!("no readable file ({error})"),
    };
    reader.problem("secret_file", found, "a file with the secret");
    None
}

fn is_path_segment(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_~".contains(&byte)) && text != "." && text != ".."
}
