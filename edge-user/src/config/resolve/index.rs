//! Entities of one kind by id and name.

use std::collections::HashMap;

use uuid::Uuid;

use super::super::problem::Sink;
use super::super::schema::{Common, Ref};
use super::super::value::quote_text;

/// The entities of one kind, in the file's order.
pub(super) struct Index {
    kind: &'static str,
    pub(super) ids: Vec<Uuid>,
    by_id: HashMap<Uuid, usize>,
    by_name: HashMap<String, usize>,
}

impl Index {
    pub(super) fn new(kind: &'static str) -> Self {
        Self { kind, ids: Vec::new(), by_id: HashMap::new(), by_name: HashMap::new() }
    }

    /// All of a list, with each one's name.
    pub(super) fn of<'a, T: 'a>(
        kind: &'static str,
        key: &str,
        entities: &'a [T],
        parts: impl Fn(&'a T) -> (&'a Common, Option<&'a str>),
        sink: &Sink,
    ) -> Self {
        let mut index = Self::new(kind);
        for entity in entities {
            let (common, name) = parts(entity);
            index.add(common, key, name, sink);
        }
        index
    }

    /// Adds the next one. Its name is looked at first: of two with one name the made ids are the same as well.
    pub(super) fn add(&mut self, common: &Common, key: &str, name: Option<&str>, sink: &Sink) {
        let index = self.ids.len();
        self.ids.push(common.id);
        let named = name.is_some_and(|name| self.by_name.insert(name.to_owned(), index).is_some());
        let same_id = self.by_id.insert(common.id, index).is_some();
        match name {
            Some(name) if named => self.violation(common, key, name, sink),
            _ if same_id => self.violation(common, "primary key", &common.id.to_string(), sink),
            _ => {}
        }
    }

    /// The one of this id or name.
    pub(super) fn get(&self, text: &str) -> Option<usize> {
        let by_id = Uuid::try_parse(text).ok().and_then(|id| self.by_id.get(&id));
        by_id.or_else(|| self.by_name.get(text)).copied()
    }

    /// The one a reference means; a problem where there is none.
    pub(super) fn find(&self, reference: &Ref, sink: &Sink) -> Option<usize> {
        let found = self.get(&reference.text);
        if found.is_none() {
            let expected = format!("the id or name of one of the file's '{}'", self.kind);
            sink.problem(reference.line, &reference.path, quote_text(&reference.text), expected);
        }
        found
    }

    /// Reports what stands there for the second time.
    pub(super) fn violation(&self, common: &Common, key: &str, value: &str, sink: &Sink) {
        let found = format!("'{value}' again");
        let expected = format!(
            "each once (uniqueness violation: '{}' entity with {key} set to '{value}' already declared)",
            self.kind
        );
        sink.problem(common.line, &common.path, found, expected);
    }
}
