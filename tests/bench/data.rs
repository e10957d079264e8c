//! Keys, tokens and certificates of a bench, made once a folder.

use std::path::Path;

use anyhow::Result;
use edge_tests::certs;
use edge_tests::mint::{self, Key, flip, with};
use serde_json::{Value, json};

/// The issuer all peers ask for.
pub(crate) const ISSUER: &str = "https://idp.example.com/realms/bench";
/// The audience all peers ask for.
pub(crate) const AUDIENCE: &str = "https://api.example.com";
const TOKENS: usize = 5000;

/// Writes everything the peers and the load generator read.
pub(crate) fn write(folder: &Path) -> Result<()> {
    let rs = Key::rsa(mint::RSA_A, "rs-2026-01-a7f3c9d1", "RS256");
    let es = Key::es256("es-2026-01-b81d44e0");
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    write("jwks.json", &mint::jwks(&[&rs, &es]).to_string())?;
    write("rs.pub.pem", &rs.public_pem())?;
    write("es.pub.pem", &es.public_pem())?;
    let pair = certs::pair(&["localhost", "127.0.0.1"]);
    write("root.crt", certs::root())?;
    write("tls.crt", &pair.certificate)?;
    write("tls.key", &pair.key)?;
    write("tls.pem", &format!("{}{}", pair.certificate, pair.key))?;

    let rs_tokens = many(&rs);
    write("rs_hot", &rs_tokens[0])?;
    write("rs_5k", &rs_tokens.join("\n"))?;
    write("es_hot", &es.token(&claims(0)))?;
    write("badsig", &flip(&rs_tokens[0]))?;
    write("expired", &rs.token(&with(claims(1), json!({"exp": mint::now() - 3600}))))?;
    let opaque: Vec<String> = (0..TOKENS).map(|number| format!("opaque-{number:032x}-{}", "t".repeat(16))).collect();
    write("opaque_hot", &opaque[0])?;
    write("opaque_5k", &opaque.join("\n"))?;
    write("none", "")?;
    Ok(())
}

fn many(key: &Key) -> Vec<String> {
    (0..TOKENS).map(|number| key.token(&claims(number))).collect()
}

/// Claims as an issuer for people writes them, so that tokens have the usual size.
fn claims(number: usize) -> Value {
    let changes = json!({
        "sub": format!("b1946ac9-2d4c-4f8e-9a1b-{number:012x}"), "jti": format!("0cc175b9-c0f1-4b6a-831c-{number:012x}"),
        "scope": "openid profile email orders:read orders:write", "azp": "mobile-app", "client_id": "mobile-app",
        "preferred_username": format!("user{number:06}"), "exp": mint::now() + 86_400,
    });
    with(mint::claims(ISSUER, AUDIENCE), changes)
}
