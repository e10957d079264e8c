//! Values that stand elsewhere: `{vault://env/NAME}` and `{vault://file/PATH}` in the fields that may be references.
//!
//! * `{vault://env/NAME}`: the environment variable, its name in capitals and with `_` for `-`, as Kong has it;
//!   `{vault://env/NAME/key}`: one member of the JSON object it holds.
//! * `{vault://file/PATH}`: the file without the line ends at its end, at most 64 KiB; `{vault://file/PATH#key}`: one
//!   member of the JSON object it holds. A path counts from the entities' directory; a second slash makes it absolute:
//!   `{vault://file//run/secrets/edge}`.
//!
//! Each load reads anew. What was read is told to the sink, which keeps it out of problems and warnings; a dump is made
//! before, and has the references. decK's `${{ env "DECK_X" }}` that nobody filled in is a problem wherever it stands.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::normal::{Collection, Normal};
use super::problem::Sink;
use super::value::{Kind, Value, join, quote_text};

const MAX_FILE_BYTES: u64 = 64 << 10;

/// Fields of certificates that may be references.
const CERTIFICATE: [&str; 4] = ["cert", "key", "cert_alt", "key_alt"];

/// Fields of plugins that may be references: plugin, field, and whether it is a secret. `*` is any member.
const PLUGINS: &[(&str, &str, bool)] = &[
    ("http-profile", "request.headers.value", true),
    ("jwt-signer", "access_token_jwks_uri_client_username", false),
    ("jwt-signer", "access_token_jwks_uri_client_password", true),
    ("jwt-signer", "access_token_keyset_client_username", false),
    ("jwt-signer", "access_token_keyset_client_password", true),
    ("jwt-signer", "channel_token_jwks_uri_client_username", false),
    ("jwt-signer", "channel_token_jwks_uri_client_password", true),
    ("jwt-signer", "channel_token_keyset_client_username", false),
    ("jwt-signer", "channel_token_keyset_client_password", true),
    ("openid-connect", "issuer", false),
    ("openid-connect", "extra_jwks_uris", false),
    ("openid-connect", "issuers_allowed", false),
    ("openid-connect", "scopes", false),
    ("openid-connect", "introspection_endpoint", false),
    ("openid-connect", "introspection_headers_values", true),
    ("openid-connect", "client_id", true),
    ("openid-connect", "client_secret", true),
    ("openid-connect", "http_proxy_authorization", true),
    ("openid-connect", "https_proxy_authorization", true),
    ("openid-connect", "cluster_cache_redis.host", false),
    ("openid-connect", "cluster_cache_redis.port", false),
    ("openid-connect", "cluster_cache_redis.server_name", false),
    ("openid-connect", "cluster_cache_redis.username", false),
    ("openid-connect", "cluster_cache_redis.password", true),
    ("openid-connect", "cluster_cache_redis.sentinel_username", false),
    ("openid-connect", "cluster_cache_redis.sentinel_password", true),
    ("openid-connect", "redis.host", false),
    ("openid-connect", "redis.port", false),
    ("openid-connect", "redis.server_name", false),
    ("openid-connect", "redis.username", false),
    ("openid-connect", "redis.password", true),
    ("openid-connect", "redis.sentinel_username", false),
    ("openid-connect", "redis.sentinel_password", true),
    ("rate-limiting", "redis.username", false),
    ("rate-limiting", "redis.password", true),
    ("rate-limiting", "redis_username", false),
    ("rate-limiting", "redis_password", true),
    ("upstream-oauth", "oauth.client_id", true),
    ("upstream-oauth", "oauth.client_secret", true),
    ("upstream-oauth", "oauth.username", true),
    ("upstream-oauth", "oauth.password", true),
    ("upstream-oauth", "oauth.token_headers.*", true),
    ("upstream-oauth", "oauth.token_post_args.*", true),
    ("upstream-oauth", "cache.redis.host", false),
    ("upstream-oauth", "cache.redis.port", false),
    ("upstream-oauth", "cache.redis.server_name", false),
    ("upstream-oauth", "cache.redis.username", false),
    ("upstream-oauth", "cache.redis.password", true),
    ("upstream-oauth", "cache.redis.sentinel_username", false),
    ("upstream-oauth", "cache.redis.sentinel_password", true),
];

/// Whether a plugin's field is a secret by the table of references.
pub(super) fn is_secret(plugin: &str, field: &str) -> bool {
    PLUGINS.iter().any(|(name, pattern, secret)| *secret && *name == plugin && fits(pattern, field))
}

fn fits(pattern: &str, field: &str) -> bool {
    match pattern.strip_suffix(".*") {
        Some(map) => field.strip_prefix(map).is_some_and(|rest| rest.starts_with('.')),
        None => pattern == field,
    }
}

/// Whether a text is a reference.
pub(super) fn is_reference(text: &str) -> bool {
    text.starts_with("{vault://")
}

/// Whether a text is a variable of decK's that nobody filled in.
fn is_variable(text: &str) -> bool {
    text.contains("${{")
}

/// Whether a text stands for another value, and so cannot stand for itself.
pub(crate) fn stands_for_another(text: &str) -> bool {
    is_variable(text) || is_reference(text)
}

/// Where references lead.
pub(super) struct Vault<'a> {
    /// The value of an environment variable.
    pub(super) variable: &'a dyn Fn(&str) -> Option<String>,
    /// Where relative paths begin.
    pub(super) directory: &'a Path,
}

/// A node's way to the root: the entity's own path, then members and items.
struct Place<'p> {
    parent: Option<&'p Place<'p>>,
    step: Step<'p>,
}

enum Step<'p> {
    Root(&'p str),
    Member(&'p str),
    Item(usize),
}

impl Place<'_> {
    fn path(&self) -> String {
        let before = || self.parent.map(Place::path).unwrap_or_default();
        match self.step {
            Step::Root(path) => path.to_owned(),
            Step::Member(key) => join(&before(), key),
            Step::Item(index) => format!("{}[{index}]", before()),
        }
    }

    /// The members alone, below the entity.
    fn field(&self) -> String {
        let before = || self.parent.map(Place::field).unwrap_or_default();
        match self.step {
            Step::Root(_) => String::new(),
            Step::Member(key) => {
                let before = before();
                if before.is_empty() { key.to_owned() } else { format!("{before}.{key}") }
            }
            Step::Item(_) => before(),
        }
    }
}

/// What may hold references, as a walk needs it.
enum Fields {
    None,
    Certificate,
    Plugin(String),
}

impl Fields {
    fn allow(&self, field: &str) -> bool {
        match self {
            Self::None => false,
            Self::Certificate => CERTIFICATE.contains(&field),
            Self::Plugin(plugin) => {
                let Some(field) = field.strip_prefix("config.") else { return false };
                PLUGINS.iter().any(|(name, pattern, _)| name == plugin && fits(pattern, field))
            }
        }
    }
}

impl Vault<'_> {
    /// Puts values in the place of references.
    pub(super) fn fill(&self, normal: &mut Normal, sink: &Sink) {
        if let Kind::Object(entries) = &mut normal.rest.kind {
            // The first two are for people and for anchors; shared settings were copied into plugins.
            let elsewhere = ["_comment", "_ignore", "_plugin_configs"];
            for entry in entries.iter_mut().filter(|entry| !elsewhere.contains(&entry.key.as_str())) {
                let place = Place { parent: None, step: Step::Root(&entry.key) };
                self.node(&mut entry.value, &place, &Fields::None, sink);
            }
        }
        for collection in Collection::ALL {
            for entity in normal.list_mut(collection) {
                let fields = match collection {
                    Collection::Certificates => Fields::Certificate,
                    Collection::Plugins => Fields::Plugin(match entity.value.get("name").map(|name| &name.kind) {
                        Some(Kind::String(name)) => name.clone(),
                        _ => String::new(),
                    }),
                    _ => Fields::None,
                };
                let place = Place { parent: None, step: Step::Root(&entity.path) };
                self.node(&mut entity.value, &place, &fields, sink);
            }
        }
    }

    fn node(&self, value: &mut Value, place: &Place<'_>, fields: &Fields, sink: &Sink) {
        match &mut value.kind {
            Kind::Object(entries) => {
                for entry in entries.iter_mut().filter(|entry| entry.value.may_hold_text()) {
                    let place = Place { parent: Some(place), step: Step::Member(&entry.key) };
                    self.node(&mut entry.value, &place, fields, sink);
                }
            }
            Kind::Array(items) => {
                for (index, item) in items.iter_mut().enumerate().filter(|(_, item)| item.may_hold_text()) {
                    let place = Place { parent: Some(place), step: Step::Item(index) };
                    self.node(item, &place, fields, sink);
                }
            }
            Kind::String(text) if is_variable(text) => {
                let expected =
                    "the value itself, which decK fills in (`deck file render`), or {vault://env/NAME} where allowed";
                sink.problem(value.line, &place.path(), "a decK variable", expected);
            }
            Kind::String(text) if is_reference(text) => {
                let field = place.field();
                if !fields.allow(&field) {
                    let expected = "the value itself: this field may not be a reference";
                    sink.problem(value.line, &place.path(), "a vault reference", expected);
                    return;
                }
                match self.look_up(text) {
                    Ok(found) => {
                        sink.hide(&found);
                        // A port is a number, and a variable is text.
                        value.kind = match found.parse() {
                            Ok(port) if field.ends_with(".port") => Kind::Integer(port),
                            _ => Kind::String(found),
                        };
                    }
                    Err((found, expected)) => sink.problem(value.line, &place.path(), found, expected),
                }
            }
            _ => {}
        }
    }

    /// The value of a reference, or what was found and would be right.
    fn look_up(&self, reference: &str) -> Result<String, (String, String)> {
        const FORMS: &str = "{vault://env/NAME} or {vault://file/PATH}";
        let inner = reference.strip_prefix("{vault://").and_then(|rest| rest.strip_suffix('}')).unwrap_or_default();
        match inner.split_once('/') {
            Some(("env", rest)) if !rest.is_empty() && !rest.contains('?') => {
                let (name, key) = rest.split_once('/').map_or((rest, None), |(name, key)| (name, Some(key)));
                let name = name.to_uppercase().replace('-', "_");
                let text = (self.variable)(&name).filter(|text| !text.is_empty()).ok_or_else(|| {
                    (format!("no environment variable {name}"), format!("{name} set for the edge's process"))
                })?;
                member(text, key, &name)
            }
            Some(("file", rest)) if !rest.is_empty() => {
                let (path, key) = rest.split_once('#').map_or((rest, None), |(path, key)| (path, Some(key)));
                let path = self.directory.join(path);
                let text = read(&path).map_err(|found| {
                    (format!("{found}: {}", quote_text(&path.display().to_string())), "a readable text file".to_owned())
                })?;
                member(text, key, &path.display().to_string())
            }
            Some((vault, _)) if !matches!(vault, "env" | "file") => {
                Err((format!("the vault {}", quote_text(vault)), format!("one the edge has: {FORMS}")))
            }
            _ => Err(("an unfinished vault reference".to_owned(), FORMS.to_owned())),
        }
    }
}

fn read(path: &PathBuf) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("no readable file ({error})");
    // A pipe or a device would never end.
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err("no file".to_owned());
    }
    let mut text = String::new();
    let file = File::open(path).map_err(unreadable)?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(unreadable)?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("a file of more than {MAX_FILE_BYTES} bytes"));
    }
    let length = text.trim_end_matches(['\r', '\n']).len();
    text.truncate(length);
    if text.is_empty() { Err("an empty file".to_owned()) } else { Ok(text) }
}

/// The text, or one member of the JSON object that it is.
fn member(text: String, key: Option<&str>, holder: &str) -> Result<String, (String, String)> {
    let Some(key) = key else { return Ok(text) };
    let expected = || format!("a JSON object in {holder} with a text or number as {}", quote_text(key));
    let Ok(serde_json::Value::Object(members)) = serde_json::from_str(&text) else {
        return Err((format!("no JSON object in {holder}"), expected()));
    };
    match members.get(key) {
        Some(serde_json::Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(serde_json::Value::Number(number)) => Ok(number.to_string()),
        Some(serde_json::Value::Bool(value)) => Ok(value.to_string()),
        Some(_) => Err((format!("another kind of value as {} in {holder}", quote_text(key)), expected())),
        None => Err((format!("no {} in {holder}", quote_text(key)), expected())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(name: &str) -> Option<String> {
        match name {
            "MY_SECRET" => Some("hunter2".into()),
            "MY_JSON" => Some(r#"{"a": "x", "n": 5, "o": {}}"#.into()),
            _ => None,
        }
    }

    #[test]
    fn references_lead_to_variables_and_files() {
        let dir = tempfile::tempdir().unwrap();
        let absolute = dir.path().join("a.txt");
        std::fs::write(&absolute, "from a file\n").unwrap();
        std::fs::write(dir.path().join("j.json"), r#"{"k": "v"}"#).unwrap();
        std::fs::write(dir.path().join("big"), vec![b'x'; MAX_FILE_BYTES as usize + 1]).unwrap();
        let vault = Vault { variable: &variable, directory: dir.path() };
        let absolute = format!("{{vault://file/{}}}", absolute.display());
        for (reference, expected) in [
            ("{vault://env/MY_SECRET}", Ok("hunter2")),
            ("{vault://env/my-secret}", Ok("hunter2")),
            ("{vault://env/my_json/a}", Ok("x")),
            ("{vault://env/my_json/n}", Ok("5")),
            ("{vault://file/a.txt}", Ok("from a file")),
            ("{vault://file/j.json#k}", Ok("v")),
            (&absolute, Ok("from a file")),
            ("{vault://env/nope}", Err("no environment variable NOPE")),
            ("{vault://env/my_json/o}", Err("another kind of value as \"o\" in MY_JSON")),
            ("{vault://env/my_json/z}", Err("no \"z\" in MY_JSON")),
            ("{vault://env/my_secret/a}", Err("no JSON object in MY_SECRET")),
            ("{vault://env/}", Err("an unfinished vault reference")),
            ("{vault://env/x?prefix=y}", Err("an unfinished vault reference")),
            ("{vault://env", Err("an unfinished vault reference")),
            ("{vault://aws/x}", Err("the vault \"aws\"")),
            ("{vault://file/.}", Err("no file: ")),
            ("{vault://file/nope}", Err("no readable file (")),
            ("{vault://file/big}", Err("a file of more than 65536 bytes: ")),
        ] {
            match (vault.look_up(reference), expected) {
                (Ok(found), expected) => assert_eq!(Ok(&*found), expected, "{reference}"),
                (Err((found, _)), Err(start)) => assert!(found.starts_with(start), "{reference}: {found}"),
                (Err((found, _)), Ok(_)) => panic!("{reference}: {found}"),
            }
        }
    }

    #[test]
    fn the_table_knows_members_and_maps() {
        assert!(is_secret("upstream-oauth", "oauth.token_headers.X-Key"));
        assert!(!is_secret("upstream-oauth", "oauth.token_headers"));
        assert!(is_secret("openid-connect", "client_secret") && !is_secret("openid-connect", "issuer"));
        assert!(Fields::Plugin("openid-connect".into()).allow("config.issuer"));
        assert!(!Fields::Plugin("openid-connect".into()).allow("config.realm"));
        assert!(!Fields::Plugin("cors".into()).allow("config.issuer") && !Fields::None.allow("key"));
        for field in ["client_id", "introspection_headers_values", "cluster_cache_redis.port", "redis.password"] {
            assert!(Fields::Plugin("openid-connect".into()).allow(&format!("config.{field}")), "{field}");
        }
        // Kong's schema has no references here.
        for field in ["token_headers_values", "userinfo_headers_values", "cluster_cache_redis.database"] {
            assert!(!Fields::Plugin("openid-connect".into()).allow(&format!("config.{field}")), "{field}");
        }
    }
}
