//! Configuration files: whatever they hold, they are taken whole or every problem has its place.

use std::path::Path;
use std::sync::LazyLock;

use edge_user::config;
use edge_user::config::Env;
use edge_user::config::problem::{Problems, Sink};
use edge_user::config::value::Value;
use edge_user::settings::Settings;

static SETTINGS: LazyLock<Settings> = LazyLock::new(|| {
    Settings::load_text("[[listeners]]\naddress = \"127.0.0.1:0\"\n", Path::new("edge.toml")).expect("good settings")
});

/// One for all inputs: making it reads the machine's roots, which takes longer than a thousand inputs.
static ENV: LazyLock<Env> = LazyLock::new(Env::default);

/// `kong.yaml`
pub fn entities(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let sink = Sink::new("kong.yaml");
    let value = Value::from_yaml(text, &sink);
    assert!(value.is_some() || sink.count() > 0, "refused without a word");
    match config::load_text(text, "kong.yaml", &SETTINGS, &ENV, 1) {
        Ok(snapshot) => {
            assert!(value.is_some());
            let again = config::load_text(text, "kong.yaml", &SETTINGS, &ENV, 2);
            assert_eq!(again.expect("good a second time").routes.len(), snapshot.routes.len());
        }
        Err(problems) => check(&problems, text, "kong.yaml"),
    }
}

/// `edge.toml`
pub fn settings(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    // Files that settings name are looked at: leave this machine's alone.
    if text.contains("file") && (text.contains('/') || text.contains('\\')) {
        return;
    }
    match Settings::load_text(text, Path::new("nowhere/edge.toml")) {
        Ok(settings) => {
            assert!(!settings.listeners.is_empty());
            assert_eq!(Settings::load_text(text, Path::new("nowhere/edge.toml")).as_ref(), Ok(&settings));
        }
        Err(problems) => check(&problems, text, "nowhere/edge.toml"),
    }
}

fn check(problems: &Problems, text: &str, file: &str) {
    // YAML takes a bare carriage return for a line end too.
    let lines = text.split(['\n', '\r']).count() as u32 + 1;
    assert!(!problems.0.is_empty(), "refused without a word");
    for problem in &problems.0 {
        assert_eq!(&*problem.file, file);
        assert!(problem.line <= lines, "{problem}: behind the end");
        assert!(problem.line > 0 || !problem.path.is_empty(), "{problem}: no place");
        assert!(!problem.found.is_empty() && !problem.expected.is_empty(), "{problem}");
        assert!(!problem.to_string().contains(['\r', '\0', '\u{1b}']), "{problem:?}: drives a terminal");
    }
}
