//! `[secrets]`: the key under which the node seals what others must not read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::read::resolve_path;
use crate::config::reader::Reader;
use crate::crypto::seal::{MAX_KEY_FILE_BYTES, SecretsKey};

/// Where the environment may bring the key; it goes before `key_file`.
const VARIABLE: &str = "EDGE_SECRETS_KEY";
/// What a key looks like.
const KEY: &str = "32 random bytes: raw, as 64 hex digits or in base64";

/// `[secrets]`
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Secrets {
    /// `key_file`: a file with 32 random bytes, raw, in hex or base64, the same on every node of a fleet. Default: none.
    pub key_file: Option<PathBuf>,
    /// The key of `EDGE_SECRETS_KEY`, else of `key_file`.
    pub key: Option<SecretsKey>,
}

pub(super) fn secrets(reader: &mut Reader<'_>, base: &Path, env: &impl Fn(&str) -> Option<String>) -> Secrets {
    let key_file = reader.string("key_file").map(|path| resolve_path(base, path));
    let from_file = key_file.as_deref().and_then(|path| read_file(reader, path));
    let said = env(VARIABLE).map(Zeroizing::new).filter(|text| !text.is_empty());
    let from_env = said.as_ref().and_then(|text| SecretsKey::from_text(text));
    if said.is_some() && from_env.is_none() {
        let expected = "32 random bytes as 64 hex digits or in base64";
        reader.sink().problem(0, &format!("environment {VARIABLE}"), "another text", expected);
    }
    Secrets { key_file, key: from_env.or(from_file) }
}

fn read_file(reader: &Reader<'_>, path: &Path) -> Option<SecretsKey> {
    let mut content = Zeroizing::new(Vec::with_capacity(MAX_KEY_FILE_BYTES as usize + 1));
    let read = File::open(path).and_then(|file| {
        let mode = file.metadata()?.mode();
        file.take(MAX_KEY_FILE_BYTES + 1).read_to_end(&mut content)?;
        Ok(mode)
    });
    let found = match read {
        Err(error) => format!("no readable file ({error})"),
        Ok(mode) => {
            if mode & 0o007 != 0 {
                reader.warn("key_file", "every user of this system may read or write the key: chmod o= it");
            }
            match SecretsKey::from_file(&content) {
                Some(key) => return Some(key),
                None => "something else in the file".to_owned(),
            }
        }
    };
    reader.problem("key_file", found, KEY);
    None
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::settings::read;

    const HEX: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const OTHER: &str = "ffffffffffffffffffffffffffffffffffffffffff8=";

    fn check(content: Option<&[u8]>, mode: u32, variable: Option<&str>) -> (Option<SecretsKey>, String, usize) {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("edge.toml");
        let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[secrets]\n";
        let mut text = text.to_owned();
        if let Some(content) = content {
            let key = dir.path().join("node.key");
            std::fs::write(&key, content).expect("a file");
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).expect("a mode");
            text.push_str("key_file = \"node.key\"\n");
        }
        std::fs::write(&path, text).expect("a file");
        let (settings, problems) =
            read(&path, |name| variable.filter(|_| name == "EDGE_SECRETS_KEY").map(str::to_owned));
        assert!(!format!("{settings:?}").contains("0001"), "{settings:?}");
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        (settings.secrets.key, problems.join("\n"), settings.warnings.len())
    }

    #[test]
    fn the_key_comes_from_a_file_or_the_environment() {
        let (hex, other) = (SecretsKey::from_text(HEX), SecretsKey::from_text(OTHER));
        assert!(hex.is_some() && other.is_some() && hex != other);
        for (content, variable, expected) in [
            (None, None, None),
            (None, Some(""), None),
            (Some(HEX), None, hex.clone()),
            (Some(HEX), Some(""), hex),
            (None, Some(OTHER), other.clone()),
            (Some(HEX), Some(OTHER), other),
        ] {
            let (key, problems, warnings) = check(content.map(str::as_bytes), 0o600, variable);
            assert_eq!((problems.as_str(), warnings), ("", 0), "{content:?} {variable:?}");
            assert!(key == expected, "{content:?} {variable:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_a_problem_that_does_not_show_it() {
        // L1
        let long = "a".repeat(2000);
        for (content, variable, place) in [
            (Some("hush-hush"), None, "secrets.key_file: found something else in the file, expected 32 random bytes"),
            (Some(""), None, "secrets.key_file: found something else"),
            (Some(long.as_str()), None, "secrets.key_file: found something else"),
            (None, Some("hush-hush"), "environment EDGE_SECRETS_KEY: found another text, expected 32 random bytes"),
            // A variable that is wrong is not passed over for the file.
            (Some(HEX), Some("hush-hush"), "environment EDGE_SECRETS_KEY: found another text"),
        ] {
            let (_, problems, _) = check(content.map(str::as_bytes), 0o600, variable);
            assert!(problems.contains(place) && !problems.contains("hush"), "{problems}");
            assert_eq!(problems.lines().count(), 1, "{problems}");
        }
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("edge.toml");
        let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[secrets]\nkey_file = \"gone\"\nkey = \"hush\"";
        std::fs::write(&path, text).expect("a file");
        let (_, problems) = read(&path, |_| None);
        let problems: Vec<String> = problems.iter().map(ToString::to_string).collect();
        assert!(problems[0].contains("secrets.key_file: found no readable file"), "{problems:?}");
        assert!(problems[1].contains("secrets.key: found an unknown field, expected one of: key_file"), "{problems:?}");
        assert!(!problems.join("").contains("hush"));
    }

    #[test]
    fn a_key_that_others_may_read_is_remarked_on() {
        for (mode, warnings) in [(0o600, 0), (0o400, 0), (0o640, 0), (0o644, 1), (0o604, 1)] {
            let (key, problems, found) = check(Some(HEX.as_bytes()), mode, None);
            assert_eq!((key.is_some(), problems.as_str(), found), (true, "", warnings), "{mode:o}");
        }
    }
}
