//! Rules about fields: what one does, and when. They go one after another, each by what those before it left.

use super::condition::{Side, When};
use super::view::View;
use crate::config::reader::Reader;
use crate::http::head::{Head, Known, Owner, is_field_name, is_field_value};
use crate::plugin::fields::{is_of_hop, is_same};
use crate::plugin::request_transformer::template::{Dialect, Template};
use crate::proxy::owned;

/// What a template made of a request cannot stand in a field.
pub(super) struct Unfit;

/// One rule.
pub(super) struct Rule {
    action: Action,
    when: Option<When>,
    /// Whether no client may send the field that it writes.
    owns: bool,
}

enum Action {
    /// A further line of the name.
    Insert(Box<str>, Template),
    /// At the end of the last line of the name, behind a comma, or a line where there is none.
    Append(Box<str>, Template),
    /// In place of every line of the name; nothing in their place where the value is empty.
    Replace(Box<str>, Template),
    Erase(Box<str>),
    /// Old and new name.
    Rename(Box<str>, Box<str>),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verb {
    Insert,
    Append,
    Replace,
    Erase,
    Rename,
}

const VERBS: [(&str, Verb); 5] = [
    ("insert", Verb::Insert),
    ("append", Verb::Append),
    ("replace", Verb::Replace),
    ("erase", Verb::Erase),
    ("rename", Verb::Rename),
];

impl Rule {
    /// Reads one rule; problems go to the reader's sink.
    pub(super) fn parse(mut config: Reader<'_>, side: Side) -> Option<Self> {
        let problems = config.sink().count();
        let verb = match config.missing("action", "one of: insert, append, replace, erase, rename") {
            true => None,
            false => config.word("action", &VERBS),
        };
        let name = name(&mut config, "name");
        let writes_value = matches!(verb, Some(Verb::Insert | Verb::Append | Verb::Replace));
        let value = match writes_value {
            true => value(&mut config, side),
            false => None,
        };
        let to = if verb == Some(Verb::Rename) { self::name(&mut config, "to") } else { None };
        let when = config.object("when").map(|when| When::parse(when, side));
        let owned = match side {
            Side::Request if verb != Some(Verb::Erase) => config.bool("owned").unwrap_or(false),
            _ => false,
        };
        if let (Some(verb), Some(name)) = (verb, name) {
            may_change(&config, side, "name", name, verb);
            if let Some(to) = to {
                may_change(&config, side, "to", to, Verb::Insert);
            }
        }
        let owns = owned || side == Side::Request && value.as_ref().is_some_and(Template::tells_identity);
        if let Some(written) = to.or(name).filter(|name| owns && known(name) != Known::Other) {
            let expected = "a name that no client needs: this one would be taken from every request";
            config.problem(if to.is_some() { "to" } else { "name" }, format!("{written:?}"), expected);
        }
        let sink = config.sink();
        config.finish();
        if sink.count() != problems {
            return None;
        }
        let name = Box::from(name?);
        let action = match verb? {
            Verb::Insert => Action::Insert(name, value?),
            Verb::Append => Action::Append(name, value?),
            Verb::Replace => Action::Replace(name, value?),
            Verb::Erase => Action::Erase(name),
            Verb::Rename => Action::Rename(name, to?.into()),
        };
        Some(Self { action, when, owns })
    }

    /// The name of the field that it writes.
    pub(super) fn written_name(&self) -> Option<&str> {
        match &self.action {
            Action::Insert(name, _) | Action::Append(name, _) | Action::Replace(name, _) | Action::Rename(_, name) => {
                Some(name)
            }
            Action::Erase(_) => None,
        }
    }

    /// The same where only the edge may write it.
    pub(super) fn owned_name(&self) -> Option<&str> {
        self.written_name().filter(|_| self.owns)
    }

    /// Does what it says, where its condition holds.
    pub(super) fn apply(&self, head: &mut Head, view: &View<'_>) -> Result<(), Unfit> {
        if !self.when.as_ref().is_none_or(|when| when.holds(head, view)) {
            return Ok(());
        }
        match &self.action {
            Action::Erase(name) => erase(head, name),
            Action::Rename(name, to) => rename(head, name, to),
            Action::Insert(name, template) => {
                let value = view.fill(head, template);
                let value = fit(&value)?;
                if !value.is_empty() {
                    head.push(Owner::Edge, name.as_bytes(), value);
                }
            }
            Action::Append(name, template) => {
                let value = view.fill(head, template);
                append(head, name, fit(&value)?);
            }
            Action::Replace(name, template) => {
                let value = view.fill(head, template);
                let value = fit(&value)?;
                erase(head, name);
                if !value.is_empty() {
                    head.push(Owner::Edge, name.as_bytes(), value);
                }
            }
        }
        Ok(())
    }
}

fn fit(value: &[u8]) -> Result<&[u8], Unfit> {
    let value = value.trim_ascii();
    is_field_value(value).then_some(value).ok_or(Unfit)
}

/// In every spelling that a server could fold into the name.
fn erase(head: &mut Head, name: &str) {
    if head.fields().any(|field| is_same(field.name, name.as_bytes())) {
        head.retain(|field| !is_same(field.name, name.as_bytes()));
    }
}

fn rename(head: &mut Head, name: &str, to: &str) {
    let is_old = |field: &[u8]| is_same(field, name.as_bytes());
    if !head.fields().any(|field| is_old(field.name)) {
        return;
    }
    let values: Vec<Vec<u8>> =
        head.fields().filter(|field| is_old(field.name)).map(|field| field.value.to_vec()).collect();
    erase(head, name);
    erase(head, to);
    values.iter().for_each(|value| head.push(Owner::Edge, to.as_bytes(), value));
}

fn append(head: &mut Head, name: &str, value: &[u8]) {
    if value.is_empty() {
        return;
    }
    let is_named = |field: &[u8]| field.eq_ignore_ascii_case(name.as_bytes());
    let Some(last) = head.fields().rev().find(|field| is_named(field.name)).map(|field| field.value.to_vec()) else {
        return head.push(Owner::Edge, name.as_bytes(), value);
    };
    let count = head.fields().filter(|field| is_named(field.name)).count();
    let mut seen = 0;
    head.retain(|field| {
        seen += usize::from(is_named(field.name));
        !is_named(field.name) || seen < count
    });
    let joined = if last.is_empty() { value.to_vec() } else { [&last, &b", "[..], value].concat() };
    head.push(Owner::Edge, name.as_bytes(), &joined);
}

fn name<'a>(config: &mut Reader<'a>, key: &'static str) -> Option<&'a str> {
    let name = config.required_string(key, "the name of a field")?;
    if !is_field_name(name.as_bytes()) {
        config.problem(key, format!("{name:?}"), "the name of a field");
        return None;
    }
    Some(name)
}

fn value(config: &mut Reader<'_>, side: Side) -> Option<Template> {
    let text = config.required_string("value", "the value of the field")?.trim_matches([' ', '\t']);
    if !is_field_value(text.as_bytes()) {
        config.problem("value", "control characters", "a value that can stand in a field");
        return None;
    }
    template(config, "value", text, side)
}

/// A template of a side's tables.
pub(super) fn template(config: &Reader<'_>, key: &str, text: &str, side: Side) -> Option<Template> {
    let dialect = match side {
        Side::Request => Dialect::Request,
        Side::Response => Dialect::Response,
    };
    // This dialect refuses what others only tell of.
    match Template::parse_as(dialect, text, &mut Vec::new()) {
        Ok(template) => Some(template),
        Err(expected) => {
            // Not the text: a value may be a credential.
            config.problem(key, "another `$(`", expected);
            None
        }
    }
}

/// The tag of a name, or of the one that a server could fold it into.
pub(super) fn known(name: &str) -> Known {
    Known::of(name.replace(['_', '.'], "-").as_bytes())
}

/// Whether rules may touch a field: framing, routing, credentials and the way are told by others.
fn may_change(config: &Reader<'_>, side: Side, key: &str, name: &str, verb: Verb) {
    let expected = match (side, known(name)) {
        (_, known) if is_of_hop(known.spelling()) => {
            "a field other than those of framing and hop, which the edge writes itself"
        }
        (Side::Response, _) => return,
        (_, Known::Authorization) => {
            "another field: `Authorization` stays as authentication left it; openid-connect's `hide_credentials` takes it \
             out"
        }
        (_, Known::Host) => "another field: `request.host` says which host the upstream sees",
        (_, Known::XForwardedFor) => "another field: `request.xforwarded_for` says what becomes of it",
        (_, Known::Via) => "another field: `request.via` says what becomes of it",
        (_, Known::XRealIp | Known::XKongRequestId | Known::Forwarded | Known::Http2Settings | Known::Expect) => {
            "another field: the edge writes or drops it itself"
        }
        (
            _,
            Known::XForwardedProto
            | Known::XForwardedHost
            | Known::XForwardedPort
            | Known::XForwardedPath
            | Known::XForwardedPrefix,
        ) if verb != Verb::Replace => "`replace`: without a value the edge writes its own",
        _ if verb != Verb::Erase && owned::is_identity(name.as_bytes()) => {
            "a name of its own: by this one the edge says who the caller is"
        }
        _ => return,
    };
    config.problem(key, format!("{name:?}"), expected);
}
