//! `edge import kong`: which lines of a declarative file the edge takes as they are, and which it has not.
//!
//! The file is read by the reader that `edge run` has: what that refuses is not translated, what that remarks on is
//! changed. Nothing is written, for what is left is the file itself.

use std::collections::BTreeMap;
use std::path::Path;

use super::Input;
use super::ledger::{Ledger, Span};
use super::report::{Group, Report};
use crate::config::problem::{Problem, Sink};
use crate::config::value::{Kind, Value};
use crate::config::{self, Env};
use crate::settings::Settings;

/// Plugins whose bugs and gaps the edge does not copy, with where to read what differs.
const DIFFERENT: [(&str, &str); 6] = [
    (
        "openid-connect",
        "no sessions and no login pages: bearer tokens, introspection, user info and grants; see README, `openid-connect`",
    ),
    ("jwt-signer", "asked in two places, an unknown key set answers 503; see README, `jwt-signer`"),
    ("rate-limiting", "counts are exact under `policy: local`; see README, `Where the edge differs from Kong`"),
    ("request-transformer", "templates are look-ups, literals and `or`, without Lua"),
    ("cors", "expressions are of linear time, without look-around"),
    ("upstream-oauth", "answers of issuers are checked strictly; see README, `upstream-oauth`"),
];

/// What holds whatever the lines say.
const EVERYWHERE: [&str; 3] = [
    "head limits are 32 KiB and 64 fields: `[limits]`",
    "`tls_verify` of a service is on where nothing is said",
    "what two readers could read differently (RFC 9112) is refused with 400; identity fields of clients are dropped on every route",
];

/// Reports on one file. `settings`: those of the node, whose secrets and key sets plugins may need.
pub fn kong(input: &Input, settings: &Settings, env: &Env) -> Report {
    let ledger = Ledger::default();
    let file = ledger.add(&input.name, &input.text);
    let count = input.text.lines().count() as u32;
    let whole = Span { file, first: 1, last: count.max(1) };
    let sink = Sink::new(&input.name);
    let tree = Value::from_yaml(&input.text, &sink);
    let mut groups = Vec::new();
    match &tree {
        None => {
            let problems = sink.into_parts().0;
            let why = problems.first().map_or("no YAML".to_owned(), said);
            ledger.dropped(whole, why);
        }
        Some(tree) => {
            ledger.rest(whole, super::Bin::Translated, "");
            let mut places = Places::default();
            places.walk(tree, count, true);
            groups = places.groups(file);
            remarks(tree, file, &ledger);
            let (problems, warnings) = config::remarks_on_text(&input.text, &input.name, settings, env);
            for problem in &problems {
                ledger.dropped(places.span(file, problem, whole), said(problem));
            }
            for warning in warnings {
                if let Some((line, text)) = placed(&warning, &input.name) {
                    ledger.changed(Span { file, first: line, last: line }, text);
                }
            }
        }
    }
    let (files, opened) = ledger.into_parts();
    Report { files, groups, opened, notes: &EVERYWHERE }
}

fn said(problem: &Problem) -> String {
    let path = if problem.path.is_empty() { String::new() } else { format!("{}: ", problem.path) };
    format!("{path}found {}, expected {}", problem.found, problem.expected)
}

/// Line and text of a warning `file:line: text`.
fn placed<'w>(warning: &'w str, file: &str) -> Option<(u32, &'w str)> {
    let (line, text) = warning.strip_prefix(file)?.strip_prefix(':')?.split_once(": ")?;
    Some((line.parse().ok()?, text))
}

/// Where entities and members begin and end.
#[derive(Default)]
struct Places {
    /// By first line: the last line of the widest that begins there.
    ends: BTreeMap<u32, u32>,
    /// Entities of lists at the top: what they are, their lines.
    entities: Vec<(String, u32, u32)>,
    /// Plugins, by the line of their `name`.
    plugins: BTreeMap<u32, (u32, u32)>,
}

impl Places {
    /// `end`: the last line that can belong to the value.
    fn walk(&mut self, value: &Value, end: u32, is_top: bool) {
        match &value.kind {
            Kind::Object(entries) => {
                if let Some(name) = entries.iter().find(|entry| entry.key == "name")
                    && !is_top
                {
                    let first = entries.iter().map(|entry| entry.line).min().unwrap_or(value.line);
                    self.plugins.insert(name.value.line, (first, end));
                }
                for (index, entry) in entries.iter().enumerate() {
                    let next = entries[index + 1..].iter().map(|next| next.line).find(|line| *line > entry.line);
                    let last = next.map_or(end, |next| next - 1).max(entry.line);
                    self.ends.entry(entry.line).or_insert(last);
                    self.walk(&entry.value, last, false);
                    if let (true, Kind::Array(items)) = (is_top, &entry.value.kind) {
                        for (index, item) in items.iter().enumerate() {
                            let after =
                                items.get(index + 1).map_or(last, |next| next.line.saturating_sub(1)).max(item.line);
                            let name = ["name", "username", "target"].iter().find_map(|key| {
                                match item.get(key).map(|value| &value.kind) {
                                    Some(Kind::String(name)) => Some(name.as_str()),
                                    _ => None,
                                }
                            });
                            let label = format!("{}[{index}] {}", entry.key, name.unwrap_or_default());
                            self.entities.push((label.trim_end().to_owned(), item.line, after));
                        }
                    }
                }
            }
            Kind::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    let next = items[index + 1..].iter().map(|next| next.line).find(|line| *line > item.line);
                    let last = next.map_or(end, |next| next - 1).max(item.line);
                    self.ends.entry(item.line).or_insert(last);
                    self.walk(item, last, false);
                }
            }
            _ => {}
        }
    }

    fn groups(&self, file: usize) -> Vec<Group> {
        let group = |(label, first, last): &(String, u32, u32)| Group {
            label: label.clone(),
            span: Span { file, first: *first, last: *last },
        };
        self.entities.iter().map(group).collect()
    }

    /// The lines that a problem is about: all of a plugin that the edge has not, all of a member it does not know.
    fn span(&self, file: usize, problem: &Problem, whole: Span) -> Span {
        if problem.line == 0 {
            return whole;
        }
        // The plugin is told by the line of its settings; the narrowest that holds it is the one.
        let around = self.plugins.values().filter(|(first, last)| (*first..=*last).contains(&problem.line));
        let plugin =
            around.min_by_key(|(first, last)| last - first).filter(|_| problem.expected.ends_with("not enabled"));
        let (first, last) = match plugin {
            Some(lines) => *lines,
            None => (problem.line, self.ends.get(&problem.line).copied().unwrap_or(problem.line)),
        };
        Span { file, first, last }
    }
}

/// Plugins that the edge has, and that differ from Kong's in something worth reading about.
fn remarks(value: &Value, file: usize, ledger: &Ledger) {
    match &value.kind {
        Kind::Object(entries) => {
            for entry in entries {
                match (&*entry.key, &entry.value.kind) {
                    ("plugins", Kind::Array(items)) => {
                        for item in items {
                            let Some(name) = item.get("name") else { continue };
                            let Kind::String(text) = &name.kind else { continue };
                            if let Some((_, why)) = DIFFERENT.iter().find(|(known, _)| known == text) {
                                ledger.changed(Span { file, first: name.line, last: name.line }, *why);
                            }
                        }
                    }
                    _ => remarks(&entry.value, file, ledger),
                }
            }
        }
        Kind::Array(items) => items.iter().for_each(|item| remarks(item, file, ledger)),
        _ => {}
    }
}

/// Settings for a file that is judged alone.
pub(crate) fn bare_settings(file: &Path) -> Settings {
    let text = "[[listeners]]\naddress = \"127.0.0.1:0\"\n[key_sets]\nprivate_keys = \"memory\"\n";
    let path = file.parent().unwrap_or(Path::new("")).join("edge.toml");
    // Invariant: the text above is good.
    let mut settings = Settings::load_text(text, &path).expect("good settings");
    settings.entities.file = file.to_owned();
    settings
}

#[cfg(test)]
mod tests {
    use super::super::Bin;
    use super::*;

    fn bins(text: &str) -> Vec<Option<Bin>> {
        let input = Input { name: "kong.yaml".into(), text: text.into() };
        let report = kong(&input, &bare_settings(Path::new("kong.yaml")), &Env::default());
        report.files[0].lines.iter().map(|line| line.as_ref().map(|line| line.bin)).collect()
    }

    #[test]
    fn what_the_edge_has_not_is_not_translated_whole() {
        const T: Option<Bin> = Some(Bin::Translated);
        const D: Option<Bin> = Some(Bin::Dropped);
        let text = "_format_version: \"3.0\"\n\
            # a comment\n\
            services:\n\
            - name: a\n\
            \u{20} url: http://a.example.com\n\
            \u{20} plugins:\n\
            \u{20} - name: bot-detection\n\
            \u{20}   config:\n\
            \u{20}     deny: [x]\n\
            \u{20} - config: {minute: 5, policy: local}\n\
            \u{20}   name: rate-limiting\n\
            \u{20} routes:\n\
            \u{20} - name: r\n\
            \u{20}   paths: [/x]\n\
            \u{20}   unknown_field: 1\n";
        let changed = Some(Bin::Changed);
        assert_eq!(bins(text), [T, None, T, T, T, T, D, D, D, T, changed, T, T, T, D]);
    }

    #[test]
    fn no_yaml_is_no_line_translated() {
        assert!(bins("a: [\nb: {").iter().flatten().all(|bin| *bin == Bin::Dropped));
        assert!(bins("").is_empty());
    }
}
