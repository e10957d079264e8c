//! Settings of http-profile beside its rules: what an F5's http profile and the rules of a virtual server ask for.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::accepted;
use super::matching::Unfit;
use crate::plugin::http_profile;

/// The tables of the plugin's settings.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the words of the settings")]
pub(super) enum Table {
    Request,
    Response,
    Upstream,
}

/// Settings that the plugin takes.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Shape {
    tables: BTreeMap<&'static str, Map<String, Value>>,
    /// Attributes by the name of a cookie, `*` for all.
    cookies: BTreeMap<String, Map<String, Value>>,
}

impl Table {
    fn key(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Response => "response",
            Self::Upstream => "upstream",
        }
    }
}

impl Shape {
    /// Sets one; an error where the plugin does not take it.
    pub(super) fn set(&mut self, table: Table, key: &str, value: impl Into<Value>) -> Result<(), Unfit> {
        let mut next = self.clone();
        next.tables.entry(table.key()).or_default().insert(key.to_owned(), value.into());
        self.become_one(next)
    }

    /// Sets an attribute of a cookie.
    pub(super) fn cookie(&mut self, name: &str, key: &str, value: impl Into<Value>) -> Result<(), Unfit> {
        let mut next = self.clone();
        next.cookies.entry(name.to_owned()).or_default().insert(key.to_owned(), value.into());
        self.become_one(next)
    }

    fn become_one(&mut self, next: Self) -> Result<(), Unfit> {
        accepted::plugin(http_profile::NAME, &next.config())?;
        *self = next;
        Ok(())
    }

    /// What is set.
    pub(super) fn value(&self, table: Table, key: &str) -> Option<&Value> {
        self.tables.get(table.key())?.get(key)
    }

    /// Takes what another has beside its own.
    pub(super) fn extend(&mut self, other: &Self) {
        for (table, values) in &other.tables {
            self.tables.entry(table).or_default().extend(values.clone());
        }
        for (name, attributes) in &other.cookies {
            self.cookies.entry(name.clone()).or_default().extend(attributes.clone());
        }
    }

    /// Whether it needs the node's key.
    pub(super) fn encrypts(&self) -> bool {
        self.cookies.values().any(|attributes| attributes.contains_key("encrypt"))
    }

    /// As the plugin's `config`.
    pub(super) fn config(&self) -> Value {
        let mut config: Map<String, Value> =
            self.tables.iter().map(|(table, values)| ((*table).to_owned(), values.clone().into())).collect();
        let all = self.cookies.get("*");
        // Of the rules for a name the first counts, so that each says what holds for all as well, and that comes last.
        let named = self.cookies.iter().filter(|(name, _)| *name != "*").map(|(name, attributes)| {
            let mut rule = all.cloned().unwrap_or_default();
            rule.extend(attributes.clone());
            (name.as_str(), rule)
        });
        let rules: Vec<Value> = named
            .chain(all.map(|attributes| ("*", attributes.clone())))
            .map(|(name, mut rule)| {
                rule.insert("name".into(), name.into());
                rule.into()
            })
            .collect();
        if !rules.is_empty() {
            config.entry("response").or_insert_with(|| json!({}))["cookies"] = rules.into();
        }
        config.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_plugin_refuses_is_not_set() {
        let mut shape = Shape::default();
        for (table, key, value, expected) in [
            (Table::Request, "via", json!("remove"), Ok(())),
            (Table::Request, "via_host_name", json!("edge"), Err("does not name itself")),
            (Table::Request, "host", json!("a b"), Err("a host")),
            (Table::Response, "server", json!("{vault://env/X}"), Err("reference")),
            (Table::Response, "location", json!("all"), Ok(())),
            (Table::Upstream, "reuse", json!("nobody"), Err("per_connection")),
        ] {
            match (shape.set(table, key, value), expected) {
                (Ok(()), Ok(())) => {}
                (Err(found), Err(part)) => assert!(found.contains(part), "{found}"),
                (found, _) => panic!("{key}: {found:?}"),
            }
        }
        assert_eq!(shape.config(), json!({"request": {"via": "remove"}, "response": {"location": "all"}}));
    }

    #[test]
    fn cookies_of_a_name_have_what_all_have() {
        let mut shape = Shape::default();
        shape.cookie("*", "secure", true).unwrap();
        shape.cookie("session", "encrypt", true).unwrap();
        assert!(shape.cookie("a;b", "secure", true).is_err() && shape.encrypts());
        let expected = json!({"response": {"cookies": [
            {"name": "session", "secure": true, "encrypt": true}, {"name": "*", "secure": true},
        ]}});
        assert_eq!(shape.config(), expected);
    }
}
