use proptest::prelude::*;
use serde_json::{Value, json};

use super::super::fetched::parse;
use super::super::record::Record;
use super::*;
use crate::crypto::sign::SigningKey;

/// Members that only a private key has (RFC 7518, 6), and the secret itself.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];

fn assert_public(text: &str) {
    fn walk(value: &Value) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    assert!(!PRIVATE.contains(&name.as_str()), "{name}");
                    walk(member);
                }
            }
            Value::Array(items) => items.iter().for_each(walk),
            _ => {}
        }
    }
    walk(&serde_json::from_str(text).expect("JSON"));
}

/// What anybody may be shown of a set with these keys, rotated once.
fn shown(keys: Vec<Arc<SigningKey>>) -> String {
    let record = Record::first(uuid::Uuid::nil(), keys.clone(), 0).rotated(keys, 1);
    let (current, previous) = record.published();
    let published = Published {
        id: record.id,
        name: "kong".into(),
        created_ms: Some(0),
        updated_ms: Some(1),
        keys: current,
        previous,
    };
    assert!(!format!("{published:?}").contains("\"d\"") && !format!("{published:?}").contains("\"k\""));
    json!({"all": published.all(), "keys": published.keys, "previous": published.previous}).to_string()
}

#[tokio::test]
async fn no_serialisation_of_a_generated_set_has_private_members() {
    // R1
    let made = super::super::generated::keys(Policy::default().algorithms).await.expect("keys");
    let text = shown(made.iter().map(|made| made.key.clone()).collect());
    assert_public(&text);
    for made in &made {
        assert!(text.contains(made.key.kid()));
        let private = private_value(made.algorithm, &made.pkcs8);
        for encoded in [base64url(private), hex(private)] {
            assert!(!text.contains(&encoded), "{:?}", made.algorithm);
        }
    }
}

/// The private value of a curve's key, which is its PKCS#8's one OCTET STRING of that length; of RSA the end, `qi`.
fn private_value(algorithm: SigningAlgorithm, pkcs8: &[u8]) -> &[u8] {
    let length = match algorithm {
        SigningAlgorithm::ES256 | SigningAlgorithm::EdDSA => 32,
        SigningAlgorithm::ES384 => 48,
        SigningAlgorithm::ES512 => 66,
        _ => return &pkcs8[pkcs8.len() - 120..],
    };
    let at = pkcs8.windows(2).position(|pair| pair == [4, length]).expect("an OCTET STRING") + 2;
    &pkcs8[at..at + usize::from(length)]
}

fn base64url(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// R1: whatever else a fetched key has beside what signs.
    #[test]
    fn no_serialisation_of_a_fetched_set_has_private_members(
        secret in proptest::collection::vec(any::<u8>(), 64..100),
        kid in "key-[a-z0-9]{1,8}",
        other in proptest::sample::select(&PRIVATE[..]),
        value in "[A-Za-z0-9_-]{20,40}",
    ) {
        let mut oct = json!({"kty": "oct", "kid": kid, "alg": "HS256", "k": base64url(&secret), "x-note": value});
        let mut ed = json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x-note": value,
            "d": "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
        if other != "k" {
            oct[other] = json!(value);
        }
        if other != "d" {
            ed[other] = json!(value);
        }
        let fetched = parse(json!({"keys": [oct, ed]}).to_string().as_bytes(), |_, _| {}).expect("two keys");
        prop_assert_eq!(fetched.keys.len(), 2);
        let text = format!("{}{:?}", shown(fetched.keys.clone()), fetched.keys);
        assert_public(&shown(fetched.keys));
        let secret = base64url(&secret);
        for hidden in [secret.as_str(), value.as_str(), "nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"] {
            prop_assert!(!text.contains(hidden));
        }
    }
}
