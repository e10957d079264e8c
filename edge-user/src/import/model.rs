//! The objects of all files by kind and name: references across partitions, and options through `defaults-from`.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};

use super::bigip::Node;
use super::ledger::{Ledger, Span};

/// One object.
pub(super) struct Object {
    /// `ltm virtual`, `ltm profile http`, …
    pub(super) kind: String,
    /// With its folder: `/Common/x`.
    pub(super) name: String,
    /// As it stood.
    pub(super) node: Node,
    used: Cell<bool>,
}

impl Object {
    /// What reports call it.
    pub(super) fn label(&self) -> String {
        format!("{} {}", self.kind, self.name)
    }

    /// The folder it stands in: `/Common`.
    pub(super) fn folder(&self) -> &str {
        self.name.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// Somebody who is translated needs it.
    pub(super) fn mark(&self) {
        self.used.set(true);
    }

    /// Whether somebody does.
    pub(super) fn is_used(&self) -> bool {
        self.used.get()
    }
}

/// All objects.
#[derive(Default)]
pub(super) struct Model {
    /// In the order of the files.
    pub(super) objects: Vec<Object>,
    by_name: HashMap<(String, String), usize>,
    files: RefCell<HashMap<String, String>>,
}

/// Where a name of this folder may lead, best first.
fn candidates(name: &str, folder: &str) -> Vec<String> {
    match name.starts_with('/') {
        true => vec![name.to_owned()],
        false => vec![format!("{folder}/{name}"), format!("/Common/{name}")],
    }
}

impl Model {
    /// Takes the objects of one file. The later of two with one name counts, as in the order of F5's own files.
    pub(super) fn add(&mut self, nodes: Vec<Node>, ledger: &Ledger) {
        for node in nodes {
            let Some((name, kind)) = node.words.split_last() else { continue };
            let kind = kind.join(" ");
            let name = if name.starts_with('/') { name.clone() } else { format!("/Common/{name}") };
            let key = (kind.clone(), name.clone());
            if let Some(earlier) = self.by_name.insert(key, self.objects.len()) {
                let span = self.objects[earlier].node.span;
                ledger.dropped(span, format!("{kind} {name} is written again further on, and that counts"));
                self.objects[earlier].kind = "replaced".to_owned();
            }
            self.objects.push(Object { kind, name, node, used: Cell::new(false) });
        }
    }

    /// The file that goes by a name, if that is free for what the F5 calls so.
    pub(super) fn takes_file(&self, file: &str, name: &str) -> bool {
        self.files.borrow_mut().entry(file.to_owned()).or_insert_with(|| name.to_owned()) == name
    }

    /// The objects of a kind.
    pub(super) fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Object> {
        self.objects.iter().filter(move |object| object.kind == kind)
    }

    /// The object that a name means where it stands in a folder.
    pub(super) fn find(&self, kind: &str, name: &str, folder: &str) -> Option<&Object> {
        candidates(name, folder)
            .into_iter()
            .find_map(|name| self.by_name.get(&(kind.to_owned(), name)).map(|index| &self.objects[*index]))
    }

    /// The object of this name whose kind begins so: `ltm profile ` and `ltm monitor ` have many.
    pub(super) fn find_any(&self, kind: &str, name: &str, folder: &str) -> Option<&Object> {
        candidates(name, folder)
            .into_iter()
            .find_map(|name| self.objects.iter().find(|object| object.name == name && object.kind.starts_with(kind)))
    }

    /// An object with what it inherits.
    pub(super) fn options<'a>(&'a self, object: &'a Object, ledger: &Ledger) -> Options<'a> {
        let mut chain = vec![object];
        let mut seen = HashSet::from([&*object.name]);
        let mut last = object;
        while let Some((parent, span)) = last.node.value("defaults-from") {
            match self.find(&object.kind, parent, last.folder()) {
                Some(next) if !seen.insert(&next.name) => {
                    ledger.dropped(span, format!("`defaults-from` goes in a circle: {parent} inherits from itself"));
                    break;
                }
                Some(next) => {
                    ledger.translated(span);
                    next.mark();
                    chain.push(next);
                    last = next;
                }
                None if is_built_in(parent) => {
                    ledger.translated(span);
                    break;
                }
                None => {
                    ledger.dropped(span, format!("{parent} is in none of the files: what it sets is not known"));
                    break;
                }
            }
        }
        let mut seen = HashSet::new();
        for node in chain.iter().flat_map(|object| object.node.children()) {
            if !seen.insert(node.word(0)) {
                // A nearer one says otherwise: it says nothing here.
                ledger.translated(node.span);
            }
        }
        Options { chain }
    }
}

/// Profiles and monitors that every BIG-IP has, and no `bigip.conf` holds.
const BUILT_IN: [&str; 26] = [
    "analytics",
    "clientssl",
    "clientssl-secure",
    "cookie",
    "dest_addr",
    "fastL4",
    "fasthttp",
    "gateway_icmp",
    "hash",
    "http",
    "http-transparent",
    "http2",
    "http_head_f5",
    "https",
    "https_443",
    "oneconnect",
    "serverssl",
    "source_addr",
    "ssl",
    "tcp",
    "tcp-lan-optimized",
    "tcp-wan-optimized",
    "tcp_half_open",
    "udp",
    "websocket",
    "f5-tcp-progressive",
];

/// Whether F5 itself brings an object of this name.
pub(super) fn is_built_in(name: &str) -> bool {
    let short = name.strip_prefix("/Common/").unwrap_or(name);
    BUILT_IN.contains(&short) || short.starts_with("tcp-mobile") || short.starts_with("f5-tcp-")
}

/// The options of an object and of those it inherits from.
pub(super) struct Options<'a> {
    /// The object itself first.
    pub(super) chain: Vec<&'a Object>,
}

impl<'a> Options<'a> {
    /// The node of an option, from the nearest that has it.
    pub(super) fn node(&self, key: &str) -> Option<&'a Node> {
        self.chain.iter().find_map(|object| object.node.child(key))
    }

    /// How far up the nearest that has an option is; 0 is the object itself.
    pub(super) fn distance(&self, key: &str) -> usize {
        self.chain.iter().position(|object| object.node.child(key).is_some()).unwrap_or(usize::MAX)
    }

    /// Its value, unless it is `none`.
    pub(super) fn value(&self, key: &str) -> Option<(&'a str, Span)> {
        let node = self.node(key)?;
        let value = node.words.get(1)?;
        (value != "none").then_some((value, node.span))
    }

    /// A count, in the file's unit.
    pub(super) fn number(&self, key: &str) -> Option<(u64, Span)> {
        let (value, span) = self.value(key)?;
        Some((value.parse().ok()?, span))
    }

    /// The options that count, each once.
    pub(super) fn nodes(&self) -> Vec<&'a Node> {
        let mut seen = HashSet::new();
        let nodes = self.chain.iter().flat_map(|object| object.node.children());
        nodes.filter(|node| seen.insert(node.word(0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::bigip;
    use super::*;

    fn model(text: &str) -> (Model, Ledger) {
        let ledger = Ledger::default();
        let file = ledger.add("f", text);
        let mut model = Model::default();
        model.add(bigip::parse(text, file, &ledger), &ledger);
        (model, ledger)
    }

    #[test]
    fn options_come_from_the_nearest_ancestor() {
        let (model, ledger) = model(
            "ltm profile http /Common/base { defaults-from /Common/http a 1 }\n\
             ltm profile http /Common/base2 {\n a 1\n b 2\n defaults-from /Common/http\n}\n\
             ltm profile http /Shop/mine {\n b 3\n defaults-from base2\n}\n",
        );
        let mine = model.find("ltm profile http", "mine", "/Shop").unwrap();
        let options = model.options(mine, &ledger);
        assert_eq!(options.chain.len(), 2);
        assert_eq!(options.value("a").unwrap().0, "1");
        assert_eq!(options.number("b").unwrap().0, 3);
        assert!(options.value("c").is_none());
        assert!(model.find("ltm profile http", "mine", "/Common").is_none());
    }

    #[test]
    fn circles_and_unknown_parents_are_reported() {
        let (model, ledger) = model(
            "ltm profile tcp a {\n defaults-from b\n}\nltm profile tcp b {\n defaults-from a\n}\n\
             ltm profile tcp c {\n defaults-from d\n}\n",
        );
        model.options(model.find("ltm profile tcp", "/Common/a", "").unwrap(), &ledger);
        model.options(model.find("ltm profile tcp", "/Common/c", "").unwrap(), &ledger);
        let (files, _) = ledger.into_parts();
        let reason = |line: usize| files[0].lines[line - 1].as_ref().unwrap().reasons.join(" ");
        assert!(reason(5).contains("circle") && reason(8).contains("none of the files"), "{}", reason(5));
    }

    #[test]
    fn of_two_with_one_name_the_later_counts() {
        let (model, ledger) = model("ltm node n {\n a 1\n}\nltm node /Common/n {\n a 2\n}\n");
        assert_eq!(model.find("ltm node", "n", "/X").unwrap().node.value("a").unwrap().0, "2");
        assert_eq!(ledger.bin(0, 1), Some(super::super::ledger::Bin::Dropped));
    }
}
