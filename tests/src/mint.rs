//! Tokens, good and broken, and the key sets that verify them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::rand::SystemRandom;
use ring::signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RsaKeyPair};
use serde_json::{Value, json};

/// The first RSA key of the fixtures, 2048 bit.
pub const RSA_A: &str = include_str!("../fixtures/keys/rsa-a.pem");
/// The second RSA key of the fixtures, 2048 bit.
pub const RSA_B: &str = include_str!("../fixtures/keys/rsa-b.pem");

enum Private {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
    Secret(Vec<u8>),
}

/// A signing key with its `kid` and `alg`.
pub struct Key {
    kid: String,
    alg: String,
    private: Private,
}

impl Key {
    /// An RSA key in PKCS#8 PEM, for an RS or PS algorithm.
    pub fn rsa(pem: &str, kid: &str, alg: &str) -> Self {
        let private = Private::Rsa(RsaKeyPair::from_pkcs8(&der(pem)).expect("an RSA key"));
        Self { kid: kid.into(), alg: alg.into(), private }
    }

    /// A new P-256 key.
    pub fn es256(kid: &str) -> Self {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
        Self::es256_pkcs8(document.as_ref(), kid)
    }

    /// A P-256 key in PKCS#8 PEM.
    pub fn es256_pem(pem: &str, kid: &str) -> Self {
        Self::es256_pkcs8(&der(pem), kid)
    }

    fn es256_pkcs8(document: &[u8], kid: &str) -> Self {
        let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pair = EcdsaKeyPair::from_pkcs8(algorithm, document, &SystemRandom::new()).expect("a P-256 key");
        Self { kid: kid.into(), alg: "ES256".into(), private: Private::Ec(pair) }
    }

    /// A new Ed25519 key.
    pub fn eddsa(kid: &str) -> Self {
        let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).expect("an Ed25519 key");
        Self { kid: kid.into(), alg: "EdDSA".into(), private: Private::Ed(pair) }
    }

    /// A shared secret for HS256.
    pub fn hs256(secret: &[u8], kid: &str) -> Self {
        Self { kid: kid.into(), alg: "HS256".into(), private: Private::Secret(secret.to_vec()) }
    }

    /// The name of the key.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// The public key as a JWKS carries it.
    pub fn jwk(&self) -> Value {
        let mut jwk = json!({"kid": self.kid, "alg": self.alg, "use": "sig"});
        match &self.private {
            Private::Rsa(pair) => {
                jwk["kty"] = "RSA".into();
                let public: signature::RsaPublicKeyComponents<Vec<u8>> = pair.public().into();
                jwk["n"] = encode(&public.n).into();
                jwk["e"] = encode(&public.e).into();
            }
            Private::Ec(pair) => {
                // An uncompressed point: 4, x, y (SEC 1, 2.3.3).
                let point = pair.public_key().as_ref();
                jwk["kty"] = "EC".into();
                jwk["crv"] = "P-256".into();
                jwk["x"] = encode(&point[1..33]).into();
                jwk["y"] = encode(&point[33..]).into();
            }
            Private::Ed(pair) => {
                jwk["kty"] = "OKP".into();
                jwk["crv"] = "Ed25519".into();
                jwk["x"] = encode(pair.public_key().as_ref()).into();
            }
            Private::Secret(secret) => {
                jwk["kty"] = "oct".into();
                jwk["k"] = encode(secret).into();
            }
        }
        jwk
    }

    /// The public key in PEM (SubjectPublicKeyInfo, RFC 5280, 4.1).
    pub fn public_pem(&self) -> String {
        let (algorithm, key): (&[u8], &[u8]) = match &self.private {
            Private::Rsa(pair) => (RSA_ENCRYPTION, pair.public().as_ref()),
            Private::Ec(pair) => (EC_P256, pair.public_key().as_ref()),
            Private::Ed(_) | Private::Secret(_) => panic!("no PEM for {}", self.alg),
        };
        // A bit string begins with the count of its unused bits.
        let bits = element(0x03, &[&[0], key].concat());
        pem("PUBLIC KEY", &element(0x30, &[&element(0x30, algorithm), bits.as_slice()].concat()))
    }

    /// The header of this key's access tokens.
    pub fn header(&self) -> Value {
        json!({"alg": self.alg, "typ": "at+jwt", "kid": self.kid})
    }

    /// A token with this key's header.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }

    /// A token with any header, signed by this key whatever the header says.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// A token of any bytes.
    pub fn sign_bytes(&self, header: &[u8], payload: &[u8]) -> String {
        let input = format!("{}.{}", encode(header), encode(payload));
        let signature = self.signature(input.as_bytes());
        format!("{input}.{}", encode(&signature))
    }

    /// The signature over these bytes.
    pub fn signature(&self, input: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.private {
            Private::Rsa(pair) => {
                let scheme: &dyn signature::RsaEncoding = match self.alg.as_str() {
                    "RS256" => &signature::RSA_PKCS1_SHA256,
                    "RS384" => &signature::RSA_PKCS1_SHA384,
                    "RS512" => &signature::RSA_PKCS1_SHA512,
                    "PS256" => &signature::RSA_PSS_SHA256,
                    other => panic!("no RSA scheme for {other}"),
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(scheme, &random, input, &mut signature).expect("sign");
                signature
            }
            Private::Ec(pair) => pair.sign(&random, input).expect("sign").as_ref().to_vec(),
            Private::Ed(pair) => pair.sign(input).as_ref().to_vec(),
            Private::Secret(secret) => {
                let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
                ring::hmac::sign(&key, input).as_ref().to_vec()
            }
        }
    }
}

/// rsaEncryption with NULL (RFC 3279, 2.3.1).
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\x00";
/// ecPublicKey on P-256 (RFC 5480, 2.1.1).
const EC_P256: &[u8] = b"\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";

/// A DER element of up to 64 KiB.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = match length {
        0..128 => vec![tag, length as u8],
        128..256 => vec![tag, 0x81, length as u8],
        _ => vec![tag, 0x82, (length >> 8) as u8, length as u8],
    };
    bytes.extend_from_slice(content);
    bytes
}

/// A key set.
pub fn jwks(keys: &[&Key]) -> Value {
    json!({"keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>()})
}

/// The claims of a good access token.
pub fn claims(issuer: &str, audience: &str) -> Value {
    let now = now();
    json!({
        "iss": issuer, "aud": audience, "sub": "alice", "azp": "app", "client_id": "app", "scope": "orders:read orders:write",
        "iat": now - 5, "nbf": now - 5, "exp": now + 3600, "jti": format!("{now}-1"),
    })
}

/// Those claims with some set; `null` removes one.
pub fn with(mut claims: Value, changes: Value) -> Value {
    for (name, value) in changes.as_object().expect("an object") {
        match (claims.as_object_mut().expect("an object"), value) {
            (claims, Value::Null) => drop(claims.remove(name)),
            (claims, value) => drop(claims.insert(name.clone(), value.clone())),
        }
    }
    claims
}

/// The token with one bit of its signature turned.
pub fn flip(token: &str) -> String {
    let (input, signature) = token.rsplit_once('.').expect("a token");
    let mut bytes = decode(signature);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    format!("{input}.{}", encode(&bytes))
}

/// A token of any header and payload with this text as its signature.
pub fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    format!("{}.{}.{signature}", encode(header.to_string().as_bytes()), encode(claims.to_string().as_bytes()))
}

/// The header and claims of a token.
pub fn open(token: &str) -> (Value, Value) {
    let mut parts = token.split('.').map(|part| serde_json::from_slice(&decode(part)).unwrap_or(Value::Null));
    (parts.next().unwrap_or(Value::Null), parts.next().unwrap_or(Value::Null))
}

/// Seconds since 1970.
pub fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() as i64
}

/// base64url without padding.
pub fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes of base64url without padding.
pub fn decode(text: &str) -> Vec<u8> {
    URL_SAFE_NO_PAD.decode(text).expect("base64url")
}

/// The bytes of a PEM block.
pub fn der(pem: &str) -> Vec<u8> {
    let text: String = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    STANDARD.decode(text).expect("PEM")
}

/// A PEM block.
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// A new P-256 key in PKCS#8 PEM.
pub fn es256_pem() -> String {
    let algorithm = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let document = EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).expect("a key");
    pem("PRIVATE KEY", document.as_ref())
}
