//! `[key_sets]`: where the private keys of generated key sets are, and when they sign.

use std::time::Duration;

use crate::config::reader::Reader;

/// `[key_sets]`
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KeySets {
    /// `private_keys`: `sealed` (default) or `memory`.
    pub private_keys: PrivateKeys,
    /// `publish_ahead`: how long new keys are published before they sign, in seconds; may have a fraction. Default 60.
    pub publish_ahead: Duration,
}

/// Where the private keys of generated sets are.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PrivateKeys {
    /// In the store, sealed under the key of `[secrets]`.
    #[default]
    Sealed,
    /// In the process: a restart has others.
    Memory,
}

impl Default for KeySets {
    fn default() -> Self {
        Self { private_keys: PrivateKeys::default(), publish_ahead: Duration::from_secs(60) }
    }
}

/// A day: who verifies has asked for the keys again by then.
const LONGEST: f64 = 86_400.0;

pub(super) fn key_sets(reader: &mut Reader<'_>) -> KeySets {
    let default = KeySets::default();
    let words = [("sealed", PrivateKeys::Sealed), ("memory", PrivateKeys::Memory)];
    let private_keys = reader.word("private_keys", &words).unwrap_or(default.private_keys);
    let ahead = reader.number("publish_ahead", 0.0..=LONGEST).map(Duration::from_secs_f64);
    KeySets { private_keys, publish_ahead: ahead.unwrap_or(default.publish_ahead) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    fn check(section: &str, expected: Result<(PrivateKeys, u64), &str>) {
        let text = format!("[[listeners]]\naddress = \"127.0.0.1:0\"\n{section}");
        let read = Settings::load_text(&text, std::path::Path::new("edge.toml"));
        match (read, expected) {
            (Ok(settings), Ok((private_keys, ahead_ms))) => {
                let publish_ahead = Duration::from_millis(ahead_ms);
                assert_eq!(settings.key_sets, KeySets { private_keys, publish_ahead }, "{section}");
            }
            (Err(problems), Err(text)) => assert!(problems.0[0].to_string().contains(text), "{:?}", problems.0),
            (Ok(settings), Err(_)) => panic!("{section}: {:?}", settings.key_sets),
            (Err(problems), Ok(_)) => panic!("{section}: {:?}", problems.0),
        }
    }

    #[test]
    fn the_section_says_where_private_keys_are_and_when_keys_sign() {
        check("", Ok((PrivateKeys::Sealed, 60_000)));
        check("[key_sets]\nprivate_keys = \"memory\"\npublish_ahead = 0.5", Ok((PrivateKeys::Memory, 500)));
        check("[key_sets]\nprivate_keys = \"sealed\"\npublish_ahead = 0", Ok((PrivateKeys::Sealed, 0)));
        check("[key_sets]\nprivate_keys = \"disk\"", Err("key_sets.private_keys: found"));
        check("[key_sets]\npublish_ahead = -1", Err("key_sets.publish_ahead: found"));
        check("[key_sets]\npublish_ahead = \"60s\"", Err("key_sets.publish_ahead: found"));
        check("[key_sets]\npath = \"x\"", Err("key_sets.path: found an unknown field"));
    }
}
