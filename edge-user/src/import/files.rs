//! Files that have to lie beside `edge.toml`: certificates, keys and lists, which are not in bigip.conf.

use std::cell::RefCell;
use std::collections::HashMap;

use super::output;

/// What names on the F5 are called beside `edge.toml`, each by a name of its own.
#[derive(Default)]
pub(super) struct Files(RefCell<HashMap<String, String>>);

impl Files {
    /// The file for what a name on the F5 means.
    pub(super) fn beside(&self, name: &str) -> String {
        let plain = plain(name);
        let mut taken = self.0.borrow_mut();
        let mut number = 1;
        loop {
            let file = if number == 1 { plain.clone() } else { format!("{number}-{plain}") };
            // Whatever the case: some file systems do not tell.
            let owner = taken.entry(file.to_ascii_lowercase()).or_insert_with(|| name.to_owned());
            if owner == name {
                return file;
            }
            number += 1;
        }
    }
}

fn plain(name: &str) -> String {
    const WRITTEN: [&str; 5] = ["edge.toml", "kong.yaml", "requests.json", "report.txt", output::KEY_FILE];
    let short = name.strip_prefix("/Common/").unwrap_or(name);
    let plain: String = short
        .chars()
        .map(|char| if char.is_ascii_alphanumeric() || "._-".contains(char) { char } else { '-' })
        .collect();
    match plain.trim_matches(['.', '-']) {
        "" => "unnamed.pem".to_owned(),
        taken if WRITTEN.contains(&taken) => format!("f5-{taken}"),
        plain => plain.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_has_a_file_of_its_own() {
        let files = Files::default();
        for (name, expected) in [
            ("/Common/shop.crt", "shop.crt"),
            ("/Api/shop.crt", "Api-shop.crt"),
            ("/Common/Api-shop.crt", "2-Api-shop.crt"),
            ("/Common/a b.crt", "a-b.crt"),
            ("/Common/a-b.crt", "2-a-b.crt"),
            ("/Common/A-B.crt", "3-A-B.crt"),
            ("/Common/edge.toml", "f5-edge.toml"),
            ("../..", "unnamed.pem"),
            ("/Common/shop.crt", "shop.crt"),
            ("/Common/Api-shop.crt", "2-Api-shop.crt"),
        ] {
            assert_eq!(files.beside(name), expected, "{name}");
        }
    }
}
