//! A JSON-like tree that remembers the line of everything, read from YAML, TOML or JSON.
//!
//! Reading is bounded: nesting, and what YAML aliases expand to. Duplicate keys are problems, whatever the format.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use saphyr_parser::{Event, Parser, ScalarStyle, Tag};
use toml::de::{DeTable, DeValue};

use super::problem::Sink;

/// Deepest nesting of lists and objects.
const MAX_DEPTH: usize = 64;
/// Bytes that all aliases of one file may expand to, counting `NODE_BYTES` per node.
const MAX_ALIAS_BYTES: usize = 64 << 20;
const NODE_BYTES: usize = 64;
/// What a problem quotes of a longer text.
pub(super) const MAX_QUOTED_CHARS: usize = 60;

/// A value and the line it stands on.
#[derive(Clone, PartialEq)]
pub struct Value {
    /// From 1; 0 where the document has no lines.
    pub line: u32,
    /// What it is.
    pub kind: Kind,
}

/// What a value is.
#[derive(Clone, PartialEq)]
#[allow(missing_docs, reason = "the variants are JSON's types, numbers split by form")]
pub enum Kind {
    Null,
    Bool(bool),
    Integer(i64),
    Float(f64),
    String(String),
    Array(Vec<Value>),
    Object(Vec<Entry>),
}

/// One member of an object, in the file's order.
#[derive(Clone, PartialEq)]
pub struct Entry {
    /// The member's name.
    pub key: String,
    /// The line of the name.
    pub line: u32,
    /// The member's value.
    pub value: Value,
}

impl Value {
    /// Reads one YAML 1.2 document (JSON is one); `None` and a problem where the text is none.
    pub fn from_yaml(text: &str, sink: &Sink) -> Option<Self> {
        YamlBuilder { sink, stack: Vec::new(), anchors: BTreeMap::new(), alias_bytes: 0, root: None }.build(text)
    }

    /// Reads a TOML document; `None` and problems where the text is none.
    pub fn from_toml(text: &str, sink: &Sink) -> Option<Self> {
        let starts: Vec<usize> = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let line_of = |offset: usize| starts.partition_point(|start| *start <= offset) as u32;
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            // `message` has no excerpt of the text; the error's own display quotes the line, and with it a secret.
            let line = error.span().map_or_else(|| deepest_line(text), |span| line_of(span.start));
            sink.problem(line, "", format!("invalid TOML ({})", error.message()), "a TOML document");
        }
        let mut root = from_toml_table(table.get_ref(), 1, &line_of, "", sink);
        root.line = 1;
        errors.is_empty().then_some(root)
    }

    /// Takes over a JSON value, as the Admin API receives them: without lines.
    pub fn from_json(json: &serde_json::Value) -> Self {
        use serde_json::Value as Json;
        let kind = match json {
            Json::Null => Kind::Null,
            Json::Bool(value) => Kind::Bool(*value),
            Json::Number(number) => match number.as_i64() {
                Some(integer) => Kind::Integer(integer),
                None => Kind::Float(number.as_f64().unwrap_or(f64::INFINITY)),
            },
            Json::String(text) => Kind::String(text.clone()),
            Json::Array(items) => Kind::Array(items.iter().map(Self::from_json).collect()),
            Json::Object(members) => {
                let entry =
                    |(key, value): (&String, &Json)| Entry { key: key.clone(), line: 0, value: Self::from_json(value) };
                Kind::Object(members.iter().map(entry).collect())
            }
        };
        Self { line: 0, kind }
    }

    /// Whether this is the same value as a JSON one; numbers compare by value, objects without order.
    pub fn is_json(&self, json: &serde_json::Value) -> bool {
        use serde_json::Value as Json;
        match (&self.kind, json) {
            (Kind::Null, Json::Null) => true,
            (Kind::Bool(a), Json::Bool(b)) => a == b,
            (Kind::Integer(a), Json::Number(b)) => b.as_i64() == Some(*a) || b.as_f64() == Some(*a as f64),
            (Kind::Float(a), Json::Number(b)) => b.as_f64() == Some(*a),
            (Kind::String(a), Json::String(b)) => a == b,
            (Kind::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.is_json(b)),
            (Kind::Object(a), Json::Object(b)) => {
                a.len() == b.len() && a.iter().all(|entry| b.get(&entry.key).is_some_and(|b| entry.value.is_json(b)))
            }
            _ => false,
        }
    }

    /// A member of an object.
    pub(crate) fn get(&self, key: &str) -> Option<&Self> {
        let Kind::Object(entries) = &self.kind else { return None };
        entries.iter().find(|entry| entry.key == key).map(|entry| &entry.value)
    }

    /// Whether a string may stand in it.
    pub(crate) fn may_hold_text(&self) -> bool {
        matches!(self.kind, Kind::String(_) | Kind::Array(_) | Kind::Object(_))
    }

    /// The type, as a problem names it.
    pub fn type_word(&self) -> &'static str {
        match self.kind {
            Kind::Null => "null",
            Kind::Bool(_) => "a boolean",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a number",
            Kind::String(_) => "a string",
            Kind::Array(_) => "a list",
            Kind::Object(_) => "an object",
        }
    }

    /// The value, as a problem quotes it: scalars only, long ones cut. Not for what may be a secret.
    pub fn quote(&self) -> String {
        match &self.kind {
            Kind::Bool(value) => value.to_string(),
            Kind::Integer(value) => value.to_string(),
            Kind::Float(value) => format!("{value:?}"),
            Kind::String(text) => quote_text(text),
            Kind::Null | Kind::Array(_) | Kind::Object(_) => self.type_word().to_owned(),
        }
    }

    /// What a clone of this costs, roughly.
    fn cost_bytes(&self) -> usize {
        NODE_BYTES
            + match &self.kind {
                Kind::String(text) => text.len(),
                Kind::Array(items) => items.iter().map(Self::cost_bytes).sum(),
                Kind::Object(entries) => {
                    entries.iter().map(|entry| NODE_BYTES + entry.key.len() + entry.value.cost_bytes()).sum()
                }
                _ => 0,
            }
    }

    fn depth(&self) -> usize {
        match &self.kind {
            Kind::Array(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            Kind::Object(entries) => 1 + entries.iter().map(|entry| entry.value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }
}

/// A text in quotes, escaped, cut where it is long.
pub fn quote_text(text: &str) -> String {
    if text.chars().nth(MAX_QUOTED_CHARS).is_none() {
        return format!("{text:?}");
    }
    format!("{:?}…", text.chars().take(MAX_QUOTED_CHARS).collect::<String>())
}

/// Prints the shape alone: values may be secrets.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at line {}", self.type_word(), self.line)
    }
}

fn from_toml_value(value: &DeValue<'_>, line: u32, line_of: &dyn Fn(usize) -> u32, path: &str, sink: &Sink) -> Value {
    let kind = match value {
        DeValue::String(text) => Kind::String(text.clone().into_owned()),
        DeValue::Boolean(value) => Kind::Bool(*value),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(integer) => Kind::Integer(integer),
            Err(_) => {
                sink.problem(line, path, "an integer of more than 64 bit", "a smaller number");
                Kind::Null
            }
        },
        DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Datetime(_) => {
            sink.problem(line, path, "a date or time", "a string, number, boolean, list or table");
            Kind::Null
        }
        DeValue::Array(items) => Kind::Array(
            items
                .iter()
                .enumerate()
                .map(|(index, item)| {
                    let line = line_of(item.span().start);
                    from_toml_value(item.get_ref(), line, line_of, &format!("{path}[{index}]"), sink)
                })
                .collect(),
        ),
        DeValue::Table(table) => return from_toml_table(table, line, line_of, path, sink),
    };
    Value { line, kind }
}

/// The line with the most nesting: its parser's only error without a place is that there is too much of it.
fn deepest_line(text: &str) -> u32 {
    let nesting = |line: &str| line.matches(['.', '[', '{']).count();
    (1..).zip(text.lines()).max_by_key(|(_, line)| nesting(line)).map_or(1, |(number, _)| number)
}

fn from_toml_table(table: &DeTable<'_>, line: u32, line_of: &dyn Fn(usize) -> u32, path: &str, sink: &Sink) -> Value {
    let mut members: Vec<_> = table.iter().collect();
    members.sort_by_key(|(key, _)| key.span().start);
    let entries = members
        .into_iter()
        .map(|(key, value)| {
            let (name, line) = (key.get_ref().to_string(), line_of(key.span().start));
            let value =
                from_toml_value(value.get_ref(), line_of(value.span().start), line_of, &join(path, &name), sink);
            Entry { key: name, line, value }
        })
        .collect();
    Value { line, kind: Kind::Object(entries) }
}

/// The path of a member. A name that could drive a terminal or begin a line stands in quotes, escaped (L2).
pub(super) fn join(path: &str, key: &str) -> String {
    let plain = key.escape_debug().eq(key.chars());
    let key = if plain { Cow::Borrowed(key) } else { Cow::Owned(format!("{key:?}")) };
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// A list or object whose end has not come yet.
struct Open {
    line: u32,
    anchor: usize,
    content: OpenContent,
}

enum OpenContent {
    Array(Vec<Value>),
    Object { entries: Vec<Entry>, key: Option<(String, u32)> },
}

struct YamlBuilder<'a> {
    sink: &'a Sink,
    stack: Vec<Open>,
    anchors: BTreeMap<usize, Value>,
    alias_bytes: usize,
    root: Option<Value>,
}

/// The problem was reported; reading ends.
struct Stop;

impl YamlBuilder<'_> {
    fn build(mut self, text: &str) -> Option<Value> {
        for event in Parser::new_from_str(text) {
            let (event, span) = match event {
                Ok(event) => event,
                Err(error) => {
                    let line = error.marker().line() as u32;
                    self.sink.problem(line, &self.path(), format!("invalid YAML ({})", error.info()), "YAML or JSON");
                    return None;
                }
            };
            self.event(event, span.start.line() as u32).ok()?;
        }
        Some(self.root.unwrap_or(Value { line: 1, kind: Kind::Null }))
    }

    fn event(&mut self, event: Event<'_>, line: u32) -> Result<(), Stop> {
        match event {
            Event::DocumentStart(_) if self.root.is_some() => {
                Err(self.stop(line, "a second document", "one document a file"))
            }
            Event::Scalar(text, style, anchor, tag) => {
                let kind = self.scalar(&text, style, tag.as_deref(), line)?;
                self.value(Value { line, kind }, anchor, Some(text.into_owned()))
            }
            Event::SequenceStart(anchor, _) => self.open(line, anchor, OpenContent::Array(Vec::new())),
            Event::MappingStart(anchor, _) => {
                self.open(line, anchor, OpenContent::Object { entries: Vec::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(),
            Event::Alias(anchor) => self.alias(anchor, line),
            _ => Ok(()),
        }
    }

    fn stop(&self, line: u32, found: &str, expected: &str) -> Stop {
        self.sink.problem(line, &self.path(), found, expected);
        Stop
    }

    fn path(&self) -> String {
        let mut path = String::new();
        for open in &self.stack {
            match &open.content {
                OpenContent::Array(items) => path = format!("{path}[{}]", items.len()),
                OpenContent::Object { key: Some((key, _)), .. } => path = join(&path, key),
                OpenContent::Object { key: None, .. } => {}
            }
        }
        path
    }

    fn open(&mut self, line: u32, anchor: usize, content: OpenContent) -> Result<(), Stop> {
        if self.stack.len() == MAX_DEPTH {
            return Err(self.stop(line, "nesting that is too deep", &format!("at most {MAX_DEPTH} levels")));
        }
        if let Some(Open { content: OpenContent::Object { key: None, .. }, .. }) = self.stack.last() {
            return Err(self.stop(line, "a list or object as a key", "a string"));
        }
        self.stack.push(Open { line, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(Open { line, anchor, content }) = self.stack.pop() else { return Ok(()) };
        let kind = match content {
            OpenContent::Array(items) => Kind::Array(items),
            OpenContent::Object { entries, .. } => Kind::Object(entries),
        };
        self.value(Value { line, kind }, anchor, None)
    }

    fn alias(&mut self, anchor: usize, line: u32) -> Result<(), Stop> {
        let Some(target) = self.anchors.get(&anchor) else {
            return Err(self.stop(line, "an alias inside its own anchor", "an alias of a complete value"));
        };
        self.alias_bytes += target.cost_bytes();
        if self.alias_bytes > MAX_ALIAS_BYTES || self.stack.len() + target.depth() > MAX_DEPTH {
            return Err(self.stop(line, "aliases that expand too far", "64 MiB and 64 levels at most"));
        }
        let (mut value, text) = (target.clone(), None);
        value.line = line;
        let text = if let Kind::String(key) = &value.kind { Some(key.clone()) } else { text };
        self.value(value, 0, text)
    }

    /// Puts a complete value where it belongs. `text` is the spelling of a scalar, for the case that it is a key.
    fn value(&mut self, value: Value, anchor: usize, text: Option<String>) -> Result<(), Stop> {
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        let line = value.line;
        match self.stack.last_mut().map(|open| &mut open.content) {
            None => self.root = Some(value),
            Some(OpenContent::Array(items)) => items.push(value),
            Some(OpenContent::Object { entries, key }) => match (key.take(), text) {
                (Some((key, line)), _) => {
                    if !entries.iter().any(|entry| entry.key == key) {
                        entries.push(Entry { key, line, value });
                    }
                }
                (None, Some(text)) => {
                    let repeated = entries.iter().find(|entry| entry.key == text).map(|entry| entry.line);
                    *key = Some((text, line));
                    if let Some(first) = repeated {
                        self.sink.problem(line, &self.path(), "a second value", format!("one; line {first} has one"));
                    }
                }
                (None, None) => return Err(self.stop(line, "a list or object as a key", "a string")),
            },
        }
        Ok(())
    }

    /// The core schema of YAML 1.2 (10.3.2): `yes`, `on` and `0777` are not what YAML 1.1 made of them.
    fn scalar(&self, text: &str, style: ScalarStyle, tag: Option<&Tag>, line: u32) -> Result<Kind, Stop> {
        let plain = || resolve_plain(text);
        let Some(tag) = tag else {
            return Ok(if style == ScalarStyle::Plain { plain() } else { Kind::String(text.to_owned()) });
        };
        let kind = match (tag.is_yaml_core_schema(), tag.suffix.as_str()) {
            (true, "str") => Some(Kind::String(text.to_owned())),
            (true, "int") => Some(plain()).filter(|kind| matches!(kind, Kind::Integer(_))),
            (true, "float") => match plain() {
                Kind::Integer(integer) => Some(Kind::Float(integer as f64)),
                kind => Some(kind).filter(|kind| matches!(kind, Kind::Float(_))),
            },
            (true, "bool") => Some(plain()).filter(|kind| matches!(kind, Kind::Bool(_))),
            (true, "null") => Some(plain()).filter(|kind| matches!(kind, Kind::Null)),
            _ => None,
        };
        kind.ok_or_else(|| self.stop(line, &format!("the tag {tag}"), "a plain value or one that fits its tag"))
    }
}

/// Whether a text without quotes is a string, and not a number or word of YAML's.
pub(super) fn is_plain_string(text: &str) -> bool {
    matches!(resolve_plain(text), Kind::String(_))
}

fn resolve_plain(text: &str) -> Kind {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" | "True" | "TRUE" => return Kind::Bool(true),
        "false" | "False" | "FALSE" => return Kind::Bool(false),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => return Kind::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => return Kind::Float(f64::NEG_INFINITY),
        ".nan" | ".NaN" | ".NAN" => return Kind::Float(f64::NAN),
        _ => {}
    }
    let radix = [("0x", 16), ("0o", 8)];
    if let Some((digits, radix)) = radix.iter().find_map(|(start, radix)| Some((text.strip_prefix(start)?, *radix)))
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
        && let Ok(integer) = i64::from_str_radix(digits, radix)
    {
        return Kind::Integer(integer);
    }
    if let Ok(integer) = text.parse() {
        return Kind::Integer(integer);
    }
    // `f64` also reads `inf` and `nan`, which are words here.
    let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    match text.parse() {
        Ok(number) if numeric => Kind::Float(number),
        _ => Kind::String(text.to_owned()),
    }
}

#[cfg(test)]
mod tests;
