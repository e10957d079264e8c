//! DPoP proofs: nothing passes without its signature, for another request, or twice.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use edge_user::token::Now;
use edge_user::token::dpop::{self, Bound, Fault, Ledger, Rules, Target};
use ring::digest;
use ring::signature::{self, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde_json::Value;

use super::{first_line, json};

const RULES: Rules = Rules { lifetime_ms: 300_000, nonce: false };

/// A proof as a client sends it; then a header and, behind the first line end, a payload: signed here.
pub fn proof(data: &[u8]) {
    raw(data);
    let (header, payload) = first_line(data);
    signed(header, payload);
}

/// The key and request of RFC 9449's example.
fn raw(proof: &[u8]) {
    let target =
        Target { method: b"GET", https: true, authority: b"resource.example.org", path: b"/protectedresource" };
    let bound = Bound {
        token: b"Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU",
        jkt: "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
    };
    let now = Now { unix_ms: 1_562_262_618_000 };
    let ledger = Ledger::default();
    if dpop::check(proof, &target, &bound, RULES, &ledger, now).is_err() {
        return;
    }
    let x = URL_SAFE_NO_PAD.decode("l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs").expect("base64url");
    let y = URL_SAFE_NO_PAD.decode("9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA").expect("base64url");
    let dot = proof.iter().rposition(|byte| *byte == b'.').expect("an accepted proof has parts");
    let signature = URL_SAFE_NO_PAD.decode(&proof[dot + 1..]).expect("an accepted signature is base64url");
    let key = UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, [&[4], &x[..], &y[..]].concat());
    assert!(key.verify(&proof[..dot], &signature).is_ok(), "accepted without a signature");
    assert_eq!(dpop::check(proof, &target, &bound, RULES, &ledger, now), Err(Fault::Replayed));
}

fn signed(header: &[u8], payload: &[u8]) {
    let key = Ed25519KeyPair::from_seed_unchecked(&[7; 32]).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(key.public_key());
    let hash = |text: &[u8]| URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, text));
    let jkt = hash(format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}").as_bytes());
    let target = Target { method: b"GET", https: true, authority: b"api.example", path: b"/orders" };
    let bound = Bound { token: b"a.b.c", jkt: &jkt };
    let now = Now { unix_ms: 1_700_000_000_000 };
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
    let proof = |signature: &[u8]| format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)).into_bytes();
    let signature = key.sign(text.as_bytes());
    let ledger = Ledger::default();
    let judge = |proof: &[u8]| dpop::check(proof, &target, &bound, RULES, &ledger, now);
    for wrong in [&[][..], &[0; 64], &signature.as_ref()[1..]] {
        assert!(judge(&proof(wrong)).is_err(), "accepted with another signature");
    }
    let good = proof(signature.as_ref());
    if judge(&good).is_err() {
        return;
    }
    assert_eq!(judge(&good), Err(Fault::Replayed));
    assert!(good.len() <= dpop::MAX_BYTES);
    let (Some(header), Some(payload)) = (json::read(header), json::read(payload)) else { return };
    let typ = header["typ"].as_str().expect("a type").to_ascii_lowercase();
    assert!(typ.trim_start_matches("application/") == "dpop+jwt" && header["alg"] == "EdDSA");
    assert_eq!((&header["jwk"]["kty"], &header["jwk"]["x"]), (&Value::from("OKP"), &Value::from(x)));
    assert!(header["jwk"].get("d").is_none(), "a private key");
    assert_eq!((&payload["htm"], &payload["ath"]), (&Value::from("GET"), &Value::from(hash(b"a.b.c"))));
    let htu = payload["htu"].as_str().expect("a URL").to_ascii_lowercase();
    assert!(htu.starts_with("https://api.example"), "{htu}");
    let jti = payload["jti"].as_str().expect("an id");
    assert!(!jti.is_empty() && jti.len() <= dpop::MAX_JTI_BYTES);
    let seconds = payload["iat"].as_f64().expect("a number");
    assert!((1_699_999_700.0..=1_700_000_011.0).contains(&seconds), "{seconds}");
}
