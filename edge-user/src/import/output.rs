//! What is written: one edge's settings and entities, with the lines of the input they come from beside them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;

use serde_json::Value;

use super::verify::Expected;
use crate::settings::HostName;

/// The file of the key that cookies are sealed under.
pub(super) const KEY_FILE: &str = "cookies.key";

/// One edge: a folder with `edge.toml`, `kong.yaml` and `requests.json`.
#[derive(Clone, Default)]
pub(super) struct Edge {
    /// The folder's name, where there are several.
    pub(super) name: String,
    /// Where it listens.
    pub(super) listeners: Vec<Listener>,
    /// `limits.fields`
    pub(super) fields: Option<u64>,
    /// `limits.head_bytes`
    pub(super) head_bytes: Option<u64>,
    /// `timeouts.idle`
    pub(super) idle_ms: Option<u64>,
    /// `timeouts.tunnel_idle`
    pub(super) tunnel_idle_ms: Option<u64>,
    /// `certificates`, for names.
    pub(super) certificates: Vec<Certificate>,
    /// `upstreams`
    pub(super) upstreams: Vec<Entity>,
    /// `services`, their routes within.
    pub(super) services: Vec<Service>,
    /// Routes that lead nowhere: those that answer.
    pub(super) routes: Vec<Entity>,
    /// Whether cookies are sealed under the node's key.
    pub(super) encrypts: bool,
    /// Ports of its listeners and targets, none of which the Admin API may have.
    pub(super) ports: BTreeSet<u16>,
    /// What to ask, and what is expected.
    pub(super) requests: Vec<Expected>,
}

impl Edge {
    /// The same without what needs certificates and keys.
    pub(super) fn without_files(&self) -> Self {
        let bare = |listener: &Listener| Listener {
            comment: listener.comment.clone(),
            stream: listener.stream,
            ..Listener::at(listener.address)
        };
        Self {
            listeners: self.listeners.iter().map(bare).collect(),
            certificates: Vec::new(),
            encrypts: false,
            requests: Vec::new(),
            ..self.clone()
        }
    }

    /// Ports that the Admin API can have, best first.
    pub(super) fn free_ports(&self) -> impl Iterator<Item = u16> {
        (8001..=u16::MAX).chain(1024..8001).filter(|port| !self.ports.contains(port))
    }
}

/// A listener.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Listener {
    /// Where it comes from.
    pub(super) comment: String,
    /// Its address.
    pub(super) address: SocketAddr,
    /// Whether it takes connections instead of requests.
    pub(super) stream: bool,
    /// TLS.
    pub(super) tls: bool,
    /// Files of the certificate and its key.
    pub(super) pair: Option<(String, String)>,
    /// What it asks of clients.
    pub(super) clients: Clients,
    /// Hosts that ask for something else.
    pub(super) hosts: Vec<Host>,
}

/// What is asked of clients.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub(super) struct Clients {
    /// `client_certificate`: `require` or `request`; nothing is `off`.
    pub(super) certificate: Option<&'static str>,
    /// `client_ca`, with a question alone.
    pub(super) ca: Option<String>,
    /// `client_crl`, with authorities alone.
    pub(super) crl: Option<String>,
    /// `client_verify_depth`, with authorities alone.
    pub(super) depth: Option<u8>,
}

/// A host with rules of its own.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Host {
    /// Where it comes from.
    pub(super) comment: String,
    /// Its name.
    pub(super) name: HostName,
    /// What it asks of clients.
    pub(super) clients: Clients,
}

impl Listener {
    /// One for requests in clear text.
    pub(super) fn at(address: SocketAddr) -> Self {
        Self {
            comment: String::new(),
            address,
            stream: false,
            tls: false,
            pair: None,
            clients: Clients::default(),
            hosts: Vec::new(),
        }
    }
}

/// A certificate for a name of its own.
#[derive(Clone)]
pub(super) struct Certificate {
    /// Where it comes from.
    pub(super) comment: String,
    /// Files of the certificate and its key.
    pub(super) pair: (String, String),
    /// The name.
    pub(super) name: String,
}

/// An entity: members in their order, each with its value.
#[derive(Clone, PartialEq)]
pub(super) struct Entity {
    /// Where it comes from.
    pub(super) comment: String,
    /// Names and values.
    pub(super) members: Vec<(&'static str, Value)>,
}

/// A service with its routes.
#[derive(Clone)]
pub(super) struct Service {
    /// Itself.
    pub(super) entity: Entity,
    /// Its routes.
    pub(super) routes: Vec<Entity>,
}

/// Writes `edge.toml`. `admin_port`: several edges of one machine need one each.
pub(super) fn settings(edge: &Edge, admin_port: u16) -> String {
    let mut out = String::from("# Written by `edge import f5`: the node. See README, `Settings of the node`.\n");
    for listener in &edge.listeners {
        let (comment, address) = (comment(&listener.comment), toml(&listener.address.to_string()));
        let _ = write!(out, "\n# {comment}\n[[listeners]]\naddress = {address}\n");
        if listener.stream {
            out.push_str("mode = \"stream\"\n");
        }
        if listener.tls {
            out.push_str("tls = true\n");
        }
        if let Some((certificate, key)) = &listener.pair {
            let _ = write!(out, "certificate = {}\nkey = {}\n", toml(certificate), toml(key));
        }
        if listener.clients.certificate.is_some() {
            clients(&mut out, &listener.clients);
        }
        for host in &listener.hosts {
            let (comment, name) = (self::comment(&host.comment), toml(host.name.as_str()));
            let _ = write!(out, "\n# {comment}\n[[listeners.hosts]]\nnames = [{name}]\n");
            clients(&mut out, &host.clients);
        }
    }
    let _ = write!(out, "\n[entities]\nfile = \"kong.yaml\"\n\n[admin]\naddress = \"127.0.0.1:{admin_port}\"\n");
    if edge.encrypts {
        let _ = write!(out, "\n[secrets]\nkey_file = \"{KEY_FILE}\"\n");
    }
    section(&mut out, "limits", &[("head_bytes", edge.head_bytes), ("fields", edge.fields)]);
    section(&mut out, "timeouts", &[("idle", edge.idle_ms), ("tunnel_idle", edge.tunnel_idle_ms)]);
    out
}

fn clients(out: &mut String, clients: &Clients) {
    let Clients { certificate, ca, crl, depth } = clients;
    let _ = writeln!(out, "client_certificate = \"{}\"", certificate.unwrap_or("off"));
    if let Some(file) = ca {
        let _ = writeln!(out, "client_ca = {}", toml(file));
    }
    if let Some(file) = crl {
        let _ = writeln!(out, "client_crl = [{}]", toml(file));
    }
    if let Some(depth) = depth {
        let _ = writeln!(out, "client_verify_depth = {depth}");
    }
}

fn section(out: &mut String, name: &str, values: &[(&str, Option<u64>)]) {
    let given: Vec<_> = values.iter().filter_map(|(key, value)| Some((key, (*value)?))).collect();
    if !given.is_empty() {
        let _ = write!(out, "\n[{name}]\n");
        given.iter().for_each(|(key, value)| {
            let _ = writeln!(out, "{key} = {value}");
        });
    }
}

/// A basic string of TOML.
fn toml(text: &str) -> String {
    // JSON's escapes are TOML's, which wants one for DEL as well.
    Value::from(text).to_string().replace('\u{7f}', "\\u007F")
}

/// Writes `kong.yaml`.
pub(super) fn entities(edge: &Edge) -> String {
    let mut out = String::from("# Written by `edge import f5`: the entities.\n_format_version: \"3.0\"\n");
    if !edge.certificates.is_empty() {
        out.push_str("certificates:\n");
        for certificate in &edge.certificates {
            let file = |name: &str| Value::from(format!("{{vault://file/{name}}}"));
            let members = vec![
                ("cert", file(&certificate.pair.0)),
                ("key", file(&certificate.pair.1)),
                ("snis", serde_json::json!([{"name": certificate.name}])),
            ];
            entity(&mut out, 0, &Entity { comment: certificate.comment.clone(), members });
        }
    }
    list(&mut out, "upstreams", 0, &edge.upstreams);
    if !edge.services.is_empty() {
        out.push_str("services:\n");
        for service in &edge.services {
            entity(&mut out, 0, &service.entity);
            list(&mut out, "routes", 2, &service.routes);
        }
    }
    list(&mut out, "routes", 0, &edge.routes);
    out
}

fn list(out: &mut String, key: &str, indent: usize, entities: &[Entity]) {
    if !entities.is_empty() {
        let _ = writeln!(out, "{:indent$}{key}:", "");
        entities.iter().for_each(|one| entity(out, indent, one));
    }
}

fn entity(out: &mut String, indent: usize, entity: &Entity) {
    if !entity.comment.is_empty() {
        let _ = writeln!(out, "{:indent$}# {}", "", comment(&entity.comment));
    }
    for (index, (key, value)) in entity.members.iter().enumerate() {
        let dash = if index == 0 { "- " } else { "  " };
        let _ = write!(out, "{:indent$}{dash}{key}:", "");
        yaml(out, indent + 2, value);
    }
}

/// One line that is none of YAML's or TOML's.
pub(super) fn comment(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

/// What stands behind a colon, line end included.
fn yaml(out: &mut String, indent: usize, value: &Value) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            out.push('\n');
            for (key, value) in members {
                let _ = write!(out, "{:width$}{}:", "", scalar(&Value::from(key.as_str())), width = indent + 2);
                yaml(out, indent + 2, value);
            }
        }
        Value::Array(items) if items.iter().any(|item| item.is_object()) => {
            out.push('\n');
            for item in items {
                let mut inner = String::new();
                yaml(&mut inner, indent, item);
                // The first member stands behind the dash.
                let inner = inner.trim_start_matches('\n');
                let first = inner.trim_start_matches(' ');
                let _ = write!(out, "{:indent$}- {first}", "");
            }
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(scalar).collect();
            let _ = writeln!(out, " [{}]", items.join(", "));
        }
        other => {
            let _ = writeln!(out, " {}", scalar(other));
        }
    }
}

fn scalar(value: &Value) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    if let Value::String(text) = value {
        let plain = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
        if text.starts_with(|char: char| char.is_ascii_alphabetic())
            && text.chars().all(plain)
            && !WORDS.contains(&text.to_ascii_lowercase().as_str())
        {
            return text.clone();
        }
    }
    value.to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::problem::Sink;
    use crate::config::value::Value as Tree;

    #[test]
    fn what_is_written_is_read_again() {
        let members = vec![
            ("name", json!("a")),
            ("tags", json!(["yes", "1", "a: b", "~/x\\.y$", "\u{7f}\n#"])),
            ("config", json!({"add": {"headers": ["X:1"]}, "empty": [], "n": 5, "b": true})),
            ("targets", json!([{"target": "192.0.2.1:80", "weight": 1}, {"target": "[2001:db8::1]:80"}])),
        ];
        let entity = Entity { comment: "f:1\n- x: y".into(), members };
        let service = Service { entity: entity.clone(), routes: vec![entity.clone()] };
        let edge = Edge { upstreams: vec![entity.clone()], services: vec![service], ..Edge::default() };
        let text = entities(&edge);
        let sink = Sink::new("k");
        let tree = Tree::from_yaml(&text, &sink).unwrap_or_else(|| panic!("{text}"));
        assert_eq!(sink.count(), 0, "{text}");
        let one = |routes: Value| {
            let mut all: serde_json::Map<_, _> =
                entity.members.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
            if !routes.is_null() {
                all.insert("routes".into(), routes);
            }
            Value::Object(all)
        };
        let expected = json!({
            "_format_version": "3.0", "upstreams": [one(Value::Null)], "services": [one(json!([one(Value::Null)]))],
        });
        assert!(tree.is_json(&expected), "{text}");
    }

    #[test]
    fn settings_are_toml() {
        let listener = Listener {
            comment: "f:1".into(),
            tls: true,
            pair: Some(("a \"b\".crt".into(), "a\u{7f}.key".into())),
            ..Listener::at(([192, 0, 2, 1], 443).into())
        };
        let edge = Edge { listeners: vec![listener], fields: Some(100), ..Edge::default() };
        let text = settings(&edge, 8001);
        let settings = crate::settings::Settings::load_text(&text, std::path::Path::new("edge.toml"));
        let settings = settings.unwrap_or_else(|problems| panic!("{problems}\n{text}"));
        assert_eq!((settings.limits.fields, settings.listeners[0].tls), (100, true));
        assert!(settings.listeners[0].pair.as_ref().unwrap().key.ends_with("a\u{7f}.key"));
    }
}
