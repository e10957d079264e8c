//! An F5's configuration: whatever it holds, each of its lines has one bin, and what is written the edge accepts.

use std::path::PathBuf;
use std::sync::LazyLock;

use edge_user::config::{self, Env};
use edge_user::crypto::seal::SecretsKey;
use edge_user::import::{self, Input};
use edge_user::settings::Settings;

/// Where `edge.toml` would be, with the key that its cookies are sealed under.
static SETTINGS: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("edge-fuzz-import-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("cookies.key"), KEY).expect("a file");
    folder.join("edge.toml")
});
const KEY: [u8; 32] = [0x80; 32];

/// One for all inputs: making it reads the machine's roots.
static ENV: LazyLock<Env> = LazyLock::new(|| {
    let env = Env::default();
    Env { plugins: env.plugins.with_secrets(SecretsKey::from_file(&KEY).as_ref()), ..env }
});

/// `bigip.conf`
pub fn bigip(data: &[u8]) {
    if let Ok(text) = std::str::from_utf8(data) {
        check(text);
    }
}

/// The Tcl of a rule, at a virtual server that has everything.
pub fn irule(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    check(&format!(
        "ltm pool a {{ members {{ 192.0.2.9:80 {{ address 192.0.2.9 }} }} }}\n\
         ltm pool b {{ members {{ 192.0.2.8:80 {{ address 192.0.2.8 }} }} }}\n\
         ltm data-group internal d {{ records {{ /a {{ data a }} \"x.example.com\" {{ data b }} }} }}\n\
         ltm virtual v {{\n destination 192.0.2.1:80\n pool a\n profiles {{ http {{ }} }}\n rules {{ r }}\n}}\n\
         ltm rule r {{\n{text}\n}}\n"
    ));
}

fn check(text: &str) {
    let translation = import::f5(&[Input { name: "bigip.conf".into(), text: text.into() }]);
    let is_input = |line: &&str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
    let lines = text.lines().filter(is_input).count();
    assert_eq!(translation.report.counts().values().sum::<usize>(), lines, "a line without a bin");
    let told = translation.report.to_string();
    assert!(!told.contains(['\r', '\0', '\u{1b}']), "{told:?}: drives a terminal");
    // What the readers refuse is told line by line: an edge that they refuse as a whole is a line that was not looked at.
    assert!(!told.contains("what is written for it is not accepted"), "{told}");
    for file in translation.files.iter().filter(|file| file.path.ends_with("edge.toml")) {
        let settings = Settings::load_text(&file.text, &SETTINGS);
        let settings = settings.unwrap_or_else(|problems| panic!("{problems}\n{}", file.text));
        // Certificates are not in the input, so they are not there.
        if settings.listeners.iter().any(|listener| listener.tls) {
            continue;
        }
        let path = file.path.with_file_name("kong.yaml");
        let entities = translation.files.iter().find(|file| file.path == path).expect("entities beside settings");
        if let Err(problems) = config::load_text(&entities.text, "kong.yaml", &settings, &ENV, 1) {
            panic!("{problems}\n{}", entities.text);
        }
    }
}
