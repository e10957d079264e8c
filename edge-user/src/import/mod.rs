//! `edge import`: from an F5's configuration to that of an edge, with the fate of every line; and what Kong's file holds
//! that this edge has not.
//!
//! `bigip` and `tcl` read text, `model` finds objects, `http`, `profile`, `pool`, `policy`, `rule` and `virtuals` say what
//! they mean, `outcome`, `matching`, `change` and `shape` are what that is, `routes` and `output` write it down; `accepted`
//! asks the edge's own readers first; `ledger` and `report` tell of each line; `verify` replays the requests that are
//! written beside it. Nothing here serves requests.

mod accepted;
mod actions;
mod answers;
mod atoms;
mod attached;
mod bigip;
mod change;
mod decisions;
mod expr;
mod gaps;
mod guarded;
mod http;
mod kong;
mod ledger;
mod matching;
mod model;
mod outcome;
mod output;
mod paths;
mod policy;
mod pool;
mod profile;
mod report;
mod routes;
mod rule;
mod scope;
mod shape;
mod tcl;
mod text;
pub mod verify;
mod virtuals;
mod wiring;

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};

pub(crate) use self::kong::bare_settings;
pub use self::kong::kong;
pub use self::ledger::Bin;
pub use self::report::Report;

use self::bigip::Node;
use self::ledger::{Ledger, Span};
use self::model::{Model, Object};
use self::output::Edge;
use self::report::Group;

/// Bytes of all files of one import.
const MAX_BYTES: u64 = 64 << 20;

/// Why nothing is written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the input.
    #[error("{}: found no readable file ({error}), expected a configuration", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Too much.
    #[error("{}: found more than {} MiB in all, expected less", .path.display(), MAX_BYTES >> 20)]
    TooLarge {
        /// The file that was too much.
        path: PathBuf,
    },
    /// A file that would be written over.
    #[error("{}: found it, expected nothing there, or --force", .path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// A file of the output.
    #[error("{}: found that it cannot be written ({error}), expected a folder that can", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Nothing to write.
    #[error("found no virtual server that can be translated, expected at least one: the report says why")]
    Nothing(Box<Report>),
}

/// One file of the input.
pub struct Input {
    /// What reports call it.
    pub name: String,
    /// Its text.
    pub text: String,
}

/// One file of the output.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Within the folder that was named.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
}

/// What an import comes to.
pub struct Translation {
    /// What to write.
    pub files: Vec<Written>,
    /// What to tell.
    pub report: Report,
}

/// What holds whatever the lines say.
const EVERYWHERE: [&str; 6] = [
    "paths are compared and sent on in normal form (RFC 3986, 6): no dot segments, no double slashes",
    "a route belongs to every listener of its edge, so each virtual server that does something of its own got an edge of its own",
    "X-Forwarded-For, -Proto, -Host, -Port, X-Real-IP and Via are written for every request; forwarding and identity fields of clients are dropped",
    "what two readers could read differently (RFC 9112) is refused with 400, where the F5 repairs or passes it",
    "no route matches: 404; the F5 resets, or sends to the default pool",
    "a member is chosen for each request, and field names keep their capitals over HTTP/1.1 alone",
];

/// Reads the files of an F5.
pub fn read(paths: &[PathBuf]) -> Result<Vec<Input>, Error> {
    let mut left = MAX_BYTES;
    let read = |path: &PathBuf| {
        let unreadable = |error| Error::Unreadable { path: path.clone(), error };
        let length = fs::metadata(path).map_err(unreadable)?.len();
        left = left.checked_sub(length).ok_or_else(|| Error::TooLarge { path: path.clone() })?;
        let bytes = fs::read(path).map_err(unreadable)?;
        // Descriptions in old encodings are nothing that is translated.
        Ok(Input { name: path.display().to_string(), text: String::from_utf8_lossy(&bytes).into_owned() })
    };
    paths.iter().map(read).collect()
}

/// Translates the configuration of an F5.
pub fn f5(inputs: &[Input]) -> Translation {
    let ledger = Ledger::default();
    let mut model = Model::default();
    for input in inputs {
        let file = ledger.add(&input.name, &input.text);
        model.add(bigip::parse(&input.text, file, &ledger), &ledger);
    }
    let edges = wiring::edges(&model, &ledger);
    for object in &model.objects {
        settle_object(object, &ledger);
    }
    let mut groups: Vec<Group> =
        model.objects.iter().map(|object| Group { label: object.label(), span: object.node.span }).collect();
    groups.sort_by_key(|group| (group.span.file, group.span.first));
    let files = written(&edges);
    let (lines, opened) = ledger.into_parts();
    Translation { files, report: Report { files: lines, groups, opened, notes: &EVERYWHERE } }
}

fn written(edges: &[Edge]) -> Vec<Written> {
    let (mut files, mut taken) = (Vec::new(), HashSet::new());
    for edge in edges {
        let folder = if edges.len() > 1 { PathBuf::from(&edge.name) } else { PathBuf::new() };
        // All edges may run on one machine: no listener, member or Admin API of one has the port of another's.
        let is_free = |port: &u16| !edges.iter().any(|other| other.ports.contains(port)) && !taken.contains(port);
        let port = edge.free_ports().find(is_free).unwrap_or_default();
        taken.insert(port);
        for (name, text) in [
            ("edge.toml", output::settings(edge, port)),
            ("kong.yaml", output::entities(edge)),
            ("requests.json", verify::file(&edge.requests)),
        ] {
            files.push(Written { path: folder.join(name), text });
        }
    }
    files
}

/// Writes what an import came to; nothing where a file is there already, unless `force`.
pub fn write(translation: Translation, folder: &Path, force: bool) -> Result<(Report, Vec<PathBuf>), Error> {
    let Translation { files, report } = translation;
    if files.is_empty() {
        return Err(Error::Nothing(Box::new(report)));
    }
    let mut files: Vec<(PathBuf, String)> = files.into_iter().map(|file| (folder.join(file.path), file.text)).collect();
    files.push((folder.join("report.txt"), report.to_string()));
    if let Some((path, _)) = files.iter().find(|(path, _)| !force && path.exists()) {
        return Err(Error::Exists { path: path.clone() });
    }
    for (path, text) in &files {
        let unwritable = |error| Error::Unwritable { path: path.clone(), error };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(unwritable)?;
        }
        fs::write(path, text).map_err(unwritable)?;
    }
    Ok((report, files.into_iter().map(|(path, _)| path).collect()))
}

/// Gives the lines of an object that nobody claimed to a bin.
fn settle_object(object: &Object, ledger: &Ledger) {
    let span = object.node.span;
    if object.kind == "replaced" {
        return;
    }
    if !object.is_used() {
        ledger.rest(span, Bin::Dropped, &unused(&object.kind));
        return;
    }
    if object.kind.starts_with("ltm data-group") {
        // Its records stand in the routes that ask for them.
        ledger.rest(span, Bin::Translated, "");
    }
    settle(&object.node, ledger);
}

fn unused(kind: &str) -> String {
    let why = match kind.split(' ').collect::<Vec<_>>().as_slice() {
        ["ltm", "virtual-address"] => {
            "an address of this host: give it to an interface, or write it as `vips` of a listener"
        }
        ["ltm", "data-group", "external"] => "its records stand in a file of their own",
        ["ltm", "snat" | "snatpool" | "snat-translation" | "nat", ..] => {
            "the edge connects from its host's own address"
        }
        ["ltm", ..] => "nothing that was translated uses it",
        ["net", ..] => "interfaces, VLANs, addresses and routes are the host's",
        ["sys", "file", ..] => "files are not in bigip.conf: copy certificates and keys beside edge.toml",
        ["apm", ..] => "APM: openid-connect, jwt-signer and upstream-oauth verify and exchange tokens",
        ["asm" | "security" | "pem", ..] => "no web application firewall",
        ["gtm", ..] => "no name server",
        _ => "of the F5 itself",
    };
    why.to_owned()
}

/// A leaf that nobody claimed is not known; a line with a brace goes as what it holds.
fn settle(node: &Node, ledger: &Ledger) {
    let span = node.span;
    let Some(children) = &node.block else {
        ledger.rest(span, Bin::Dropped, "an option that the importer does not know");
        return;
    };
    children.iter().for_each(|child| settle(child, ledger));
    let line = |line: u32| Span { first: line, last: line, ..span };
    let bins = (span.first..=span.last).filter_map(|line| ledger.bin(span.file, line));
    match bins.min() {
        None => ledger.rest(span, Bin::Dropped, "an option that the importer does not know"),
        Some(Bin::Dropped) => ledger.rest(span, Bin::Dropped, "nothing within it is translated"),
        Some(_) => [line(span.first), line(span.last)].iter().for_each(|one| ledger.rest(*one, Bin::Translated, "")),
    }
    ledger.rest(span, Bin::Dropped, "an option that the importer does not know");
}

#[cfg(test)]
mod tests;
