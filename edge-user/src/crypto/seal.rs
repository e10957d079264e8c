//! Sealing what leaves the process but must stay its own: values in a shared cache, private keys at rest.
//!
//! The node's secrets key never seals anything itself: each purpose has a key of its own (HKDF-SHA-256, RFC 5869), and
//! each entry one of that purpose's, so that random nonces stay far from the bound of AES-GCM (NIST SP 800-38D, 8.3)
//! however much is written. An entry opens only under the key, purpose and name it was sealed with.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use base64::engine::{DecodePaddingMode, general_purpose};
use zeroize::Zeroizing;

use super::backend::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use super::backend::{hkdf, hmac};
use super::{MacKey, constant_time_eq, random};

/// The first byte of everything sealed: what follows is a nonce, then the ciphertext with its tag.
const VERSION: u8 = 1;
/// What sealing adds to a value, in bytes.
pub const OVERHEAD: usize = 1 + NONCE_LEN + 16;
/// Larger files hold something else than a key.
pub const MAX_KEY_FILE_BYTES: u64 = 1024;

/// Keeps these derivations apart from any other use of the same 32 bytes.
const SALT: &[u8] = b"edge secrets key, version 1";

/// Takes either alphabet's text with or without padding; `+/` here, `-_` below.
const STANDARD: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::STANDARD, LENIENT);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&base64::alphabet::URL_SAFE, LENIENT);
const LENIENT: GeneralPurposeConfig = general_purpose::PAD.with_decode_padding_mode(DecodePaddingMode::Indifferent);

/// The node's secrets key, `[secrets] key_file` or `EDGE_SECRETS_KEY`: 256 bit that never print and are wiped.
#[derive(Clone)]
pub struct SecretsKey(Zeroizing<[u8; 32]>);

impl SecretsKey {
    /// A key that this process alone has.
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// A key from a file's content: 32 raw bytes, or their text as in `from_text`.
    pub fn from_file(content: &[u8]) -> Option<Self> {
        // 32 printable characters are a shorter key's text, not 256 random bits.
        match <[u8; 32]>::try_from(content) {
            Ok(_) if content.is_ascii() => None,
            Ok(bytes) => Some(Self(Zeroizing::new(bytes))),
            Err(_) => Self::from_text(std::str::from_utf8(content).ok()?),
        }
    }

    /// A key from 64 hex digits or 32 bytes in base64, of either alphabet; white space around it is ignored.
    pub fn from_text(text: &str) -> Option<Self> {
        let text = text.trim();
        let mut key = Zeroizing::new([0; 32]);
        if text.len() == 64 {
            for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
                let digit = |index: usize| char::from(pair[index]).to_digit(16);
                *byte = (digit(0)? << 4 | digit(1)?) as u8;
            }
            return Some(Self(key));
        }
        let engine = if text.contains(['-', '_']) { &URL_SAFE } else { &STANDARD };
        let bytes = Zeroizing::new(engine.decode(text).ok()?);
        if bytes.len() != key.len() {
            return None;
        }
        key.copy_from_slice(&bytes);
        Some(Self(key))
    }

    /// A MAC key for one purpose.
    pub fn mac_key(&self, purpose: Purpose) -> MacKey {
        let prk = self.extract();
        let info = [purpose.name()];
        // The length is the algorithm's own, which HKDF-SHA-256 always gives.
        MacKey(prk.expand(&info, hmac::HMAC_SHA256).expect("an HMAC key fits HKDF's output").into())
    }

    fn extract(&self) -> hkdf::Prk {
        hkdf::Salt::new(hkdf::HKDF_SHA256, SALT).extract(&*self.0)
    }
}

impl PartialEq for SecretsKey {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&*self.0, &*other.0)
    }
}

impl Eq for SecretsKey {}

impl fmt::Debug for SecretsKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretsKey(…)")
    }
}

/// What a derived key is for. A name is part of the derivation: it never changes, and never serves twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// Names of entries in the fleet's cache.
    FleetNames,
    /// Values in the fleet's cache.
    FleetValues,
    /// Key sets in the node's store.
    KeySets,
    /// Cookies of upstreams, which their browsers keep.
    Cookies,
    /// Sessions of TLS clients, which they keep.
    Tickets,
}

impl Purpose {
    fn name(self) -> &'static [u8] {
        match self {
            Self::FleetNames => b"fleet cache names",
            Self::FleetValues => b"fleet cache values",
            Self::KeySets => b"key sets",
            Self::Cookies => b"cookies",
            Self::Tickets => b"session tickets",
        }
    }
}

/// Why something sealed did not open: deliberately one reason for all.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not sealed under this key for this entry, or altered since")]
pub struct Unopened;

/// Seals and opens for one purpose.
pub struct Sealer {
    prk: hkdf::Prk,
    purpose: Purpose,
}

impl Sealer {
    /// A sealer for one purpose.
    pub fn new(key: &SecretsKey, purpose: Purpose) -> Self {
        Self { prk: key.extract(), purpose }
    }

    /// Seals a value under the name of its entry, which `open` must be given again.
    pub fn seal(&self, entry: &[u8], value: &[u8]) -> Vec<u8> {
        self.seal_with(entry, value, random())
    }

    fn seal_with(&self, entry: &[u8], value: &[u8], nonce: [u8; NONCE_LEN]) -> Vec<u8> {
        let mut sealed = Vec::with_capacity(value.len() + OVERHEAD);
        sealed.push(VERSION);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let (_, value) = sealed.split_at_mut(1 + NONCE_LEN);
        let tag = self.key(entry).seal_in_place_separate_tag(nonce, Aad::from(entry), value);
        let tag = tag.expect("a value below 64 GiB is sealed");
        sealed.extend_from_slice(tag.as_ref());
        sealed
    }

    /// Opens what `seal` made for this entry.
    pub fn open(&self, entry: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        let (&version, rest) = sealed.split_first().ok_or(Unopened)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Unopened)?;
        if version != VERSION {
            return Err(Unopened);
        }
        let mut value = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let length = self.key(entry).open_in_place(nonce, Aad::from(entry), &mut value).map_err(|_| Unopened)?.len();
        value.truncate(length);
        Ok(value)
    }

    fn key(&self, entry: &[u8]) -> LessSafeKey {
        // No purpose holds a zero byte, so no two pairs run together.
        let info = [self.purpose.name(), &[0], entry];
        let key = self.prk.expand(&info, &AES_256_GCM).expect("an AES key fits HKDF's output");
        LessSafeKey::new(UnboundKey::from(key))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1eff";

    fn key(last: u8) -> SecretsKey {
        let mut bytes: [u8; 32] = std::array::from_fn(|index| index as u8);
        bytes[31] = last;
        SecretsKey(Zeroizing::new(bytes))
    }

    #[test]
    fn keys_are_read_from_three_spellings() {
        let raw = *key(0xff).0;
        let base64 = general_purpose::STANDARD.encode(raw);
        for (content, good) in [
            (raw.to_vec(), true),
            (HEX.as_bytes().to_vec(), true),
            (HEX.to_uppercase().into_bytes(), true),
            (format!(" {HEX}\r\n").into_bytes(), true),
            (base64.clone().into_bytes(), true),
            (format!("{base64}\n").into_bytes(), true),
            (base64.trim_end_matches('=').as_bytes().to_vec(), true),
            (base64.replace('+', "-").replace('/', "_").into_bytes(), true),
            (raw[..31].to_vec(), false),
            ([&raw[..], b"\n"].concat(), false),
            (HEX.as_bytes()[..62].to_vec(), false),
            (format!("{HEX}00").into_bytes(), false),
            (HEX.replace('a', "g").into_bytes(), false),
            (b"only thirty-two letters, no key!".to_vec(), false),
            (general_purpose::STANDARD.encode(&raw[..31]).into_bytes(), false),
            (Vec::new(), false),
        ] {
            let read = SecretsKey::from_file(&content);
            let text = String::from_utf8_lossy(&content).into_owned();
            assert_eq!(read.is_some(), good, "{text:?}");
            assert!(read.is_none_or(|read| read == key(0xff)), "{text:?}");
        }
    }

    #[test]
    fn no_key_prints() {
        // L1
        assert_eq!(format!("{:?}", SecretsKey::from_text(HEX).expect("a key")), "SecretsKey(…)");
    }

    #[test]
    fn what_is_sealed_stays_readable_by_later_versions() {
        // The bytes that stand in stores: a change of derivation or layout would lose them.
        let sealer = Sealer::new(&key(0xff), Purpose::FleetValues);
        let sealed = sealer.seal_with(b"entry", b"value", [7; NONCE_LEN]);
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "01070707070707070707070707f60b0ac8fe1cde23404ad54e8e5edcd768cef390c5");
        let sealed = Sealer::new(&key(0xff), Purpose::KeySets).seal_with(b"kong", b"keys", [7; NONCE_LEN]);
        let hex: String = sealed.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "010707070707070707070707074fc1078bb08f8ee709ac5619576bd109c2c39bfe");
        let mac: String =
            key(0xff).mac_key(Purpose::FleetNames).mac(b"x").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(mac, "16cfbdf936220a2dca5008384f538ce5afff00a517cfa4c75ae9ad9336101ae2");
    }

    #[test]
    fn nothing_opens_under_another_key_purpose_or_entry() {
        let sealer = Sealer::new(&key(0xff), Purpose::FleetValues);
        for value in [&b""[..], b"v", &[0x5a; 70_000]] {
            let sealed = sealer.seal(b"entry", value);
            assert_eq!(sealed.len(), value.len() + OVERHEAD);
            assert_eq!(sealer.open(b"entry", &sealed).as_deref().map(Vec::as_slice), Ok(value));
            assert_ne!(sealed, sealer.seal(b"entry", value), "a nonce of its own each time");
            assert_eq!(sealer.open(b"entri", &sealed), Err(Unopened));
            assert_eq!(sealer.open(b"", &sealed), Err(Unopened));
            assert_eq!(Sealer::new(&key(0xfe), Purpose::FleetValues).open(b"entry", &sealed), Err(Unopened));
            assert_eq!(Sealer::new(&key(0xff), Purpose::FleetNames).open(b"entry", &sealed), Err(Unopened));
        }
    }

    #[test]
    fn nothing_altered_opens() {
        let sealer = Sealer::new(&key(0xff), Purpose::FleetValues);
        let sealed = sealer.seal(b"entry", b"value");
        for length in 0..sealed.len() {
            assert_eq!(sealer.open(b"entry", &sealed[..length]), Err(Unopened), "{length} bytes");
        }
        for index in 0..sealed.len() {
            let mut altered = sealed.clone();
            altered[index] ^= 1;
            assert_eq!(sealer.open(b"entry", &altered), Err(Unopened), "byte {index}");
        }
        let longer = [&sealed[..], &[0]].concat();
        assert_eq!(sealer.open(b"entry", &longer), Err(Unopened));
    }
}
