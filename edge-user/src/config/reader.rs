//! Typed fields out of one object. Each getter consumes its key; `finish` reports what nobody asked for.
//!
//! `null` is the same as nothing, as in Kong. A getter that finds the wrong type reports it and gives `None`.

use std::ops::RangeInclusive;

use super::problem::Sink;
use super::value::{Entry, Kind, Value, join};

/// Reads one object; see the module text.
pub struct Reader<'a> {
    entries: &'a [Entry],
    line: u32,
    path: String,
    sink: &'a Sink,
    known: Vec<&'static str>,
    hints: Vec<(&'static str, &'static str)>,
}

impl<'a> Reader<'a> {
    /// Reads a whole value; a problem where it is no object.
    pub fn new(value: &'a Value, path: &str, sink: &'a Sink) -> Option<Self> {
        let Kind::Object(entries) = &value.kind else {
            sink.problem(value.line, path, value.type_word(), "an object");
            return None;
        };
        Some(Self::of(entries, value.line, path.to_owned(), sink))
    }

    /// Reads nothing: every field of it is absent. For an optional object whose absence means its defaults.
    pub fn empty(line: u32, path: &str, sink: &'a Sink) -> Self {
        Self::of(&[], line, path.to_owned(), sink)
    }

    fn of(entries: &'a [Entry], line: u32, path: String, sink: &'a Sink) -> Self {
        Self { entries, line, path, sink, known: Vec::new(), hints: Vec::new() }
    }

    /// The place of this object.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The line this object begins at.
    pub fn line(&self) -> u32 {
        self.line
    }

    /// Where problems and warnings go.
    pub fn sink(&self) -> &'a Sink {
        self.sink
    }

    /// The place of one of its fields.
    pub fn path_of(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// The line of one of its fields; the object's own where it is absent.
    pub fn line_of(&self, key: &str) -> u32 {
        self.entries.iter().find(|entry| entry.key == key).map_or(self.line, |entry| entry.line)
    }

    /// Whether the field stands here with a value other than `null`. Does not consume it.
    pub fn has(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.value.kind != Kind::Null)
    }

    /// Whether the field stands here as `true`. Does not consume it.
    pub fn raw_bool(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.value.kind == Kind::Bool(true))
    }

    /// Whether the field stands here as `null`, which for some fields is not the same as its absence. Does not consume it.
    pub fn is_null(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && entry.value.kind == Kind::Null)
    }

    /// Reports a problem with one field of this object.
    pub fn problem(&self, key: &str, found: impl Into<String>, expected: impl Into<String>) {
        self.sink.problem(self.line_of(key), &self.path_of(key), found, expected);
    }

    /// Remarks on one field of this object.
    pub fn warn(&self, key: &str, text: &str) {
        self.sink.warn(self.line_of(key), &self.path_of(key), text);
    }

    /// The untyped value; `None` when absent or `null`.
    pub fn raw(&mut self, key: &'static str) -> Option<&'a Value> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        (entry.value.kind != Kind::Null).then_some(&entry.value)
    }

    /// Reports a field that must be there and is not; true when it is missing.
    pub fn missing(&mut self, key: &'static str, expected: &str) -> bool {
        let missing = self.raw(key).is_none();
        if missing {
            self.sink.problem(self.line_of(key), &self.path_of(key), "nothing", expected);
        }
        missing
    }

    fn wrong(&self, value: &Value, line: u32, path: &str, expected: impl Into<String>) {
        self.sink.problem(line, path, found(value, path), expected);
    }

    fn typed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        convert: impl FnOnce(&'a Value) -> Option<T>,
    ) -> Option<T> {
        let value = self.raw(key)?;
        let converted = convert(value);
        if converted.is_none() {
            // A list or object in block style begins on the line after its key.
            self.wrong(value, self.line_of(key), &self.path_of(key), expected);
        }
        converted
    }

    /// `true` or `false`.
    pub fn bool(&mut self, key: &'static str) -> Option<bool> {
        self.typed(key, "a boolean", |value| match value.kind {
            Kind::Bool(value) => Some(value),
            _ => None,
        })
    }

    /// An integer of a range.
    pub fn integer(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        let expected = format!("an integer between {} and {}", range.start(), range.end());
        self.typed(key, &expected, |value| integer(value).filter(|number| range.contains(number)))
    }

    /// A number of a range, with or without a fraction.
    pub fn number(&mut self, key: &'static str, range: RangeInclusive<f64>) -> Option<f64> {
        let expected = format!("a number between {} and {}", range.start(), range.end());
        self.typed(key, &expected, |value| {
            let number = match value.kind {
                Kind::Integer(number) => number as f64,
                Kind::Float(number) => number,
                _ => return None,
            };
            range.contains(&number).then_some(number)
        })
    }

    /// A string that is not empty.
    pub fn string(&mut self, key: &'static str) -> Option<&'a str> {
        self.typed(key, "a string that is not empty", text)
    }

    /// A string, which may be empty.
    pub fn any_string(&mut self, key: &'static str) -> Option<&'a str> {
        self.typed(key, "a string", |value| match &value.kind {
            Kind::String(text) => Some(text.as_str()),
            _ => None,
        })
    }

    /// A string that is there and not empty; `expected` says which one.
    pub fn required_string(&mut self, key: &'static str, expected: &str) -> Option<&'a str> {
        if self.missing(key, expected) { None } else { self.string(key) }
    }

    /// A string that `parse` understands; `expected` says what it wants.
    pub fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&'a str) -> Option<T>,
    ) -> Option<T> {
        self.typed(key, expected, |value| text(value).and_then(parse))
    }

    /// Strings that `parse` understands, each on its own.
    pub fn parsed_list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&'a str) -> Option<T>,
    ) -> Option<Vec<T>> {
        self.list(key, expected, |value| text(value).and_then(&parse))
    }

    /// One of a closed set of words.
    pub fn word<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.typed(key, &one_of(words), |value| word(value, words))
    }

    /// A list of words of a closed set.
    pub fn words<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<Vec<T>> {
        self.list(key, &one_of(words), |value| word(value, words))
    }

    /// A list of strings.
    pub fn strings(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        self.list(key, "a string that is not empty", text)
    }

    /// A list of strings; a string alone is a list of one.
    pub fn strings_lenient(&mut self, key: &'static str) -> Option<Vec<&'a str>> {
        match self.raw(key)?.kind {
            Kind::Array(_) => self.strings(key),
            _ => self.typed(key, "a string or a list of strings", text).map(|text| vec![text]),
        }
    }

    /// A list of integers of a range.
    pub fn integers(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<Vec<i64>> {
        let expected = format!("an integer between {} and {}", range.start(), range.end());
        self.list(key, &expected, |value| integer(value).filter(|number| range.contains(number)))
    }

    fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        convert: impl Fn(&'a Value) -> Option<T>,
    ) -> Option<Vec<T>> {
        let items = self.typed(key, "a list", array)?;
        let mut converted = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            match convert(item) {
                Some(value) => converted.push(value),
                None => self.wrong(item, item.line, &format!("{}[{index}]", self.path_of(key)), expected),
            }
        }
        (converted.len() == items.len()).then_some(converted)
    }

    /// An object.
    pub fn object(&mut self, key: &'static str) -> Option<Reader<'a>> {
        let value = self.raw(key)?;
        Reader::new(value, &self.path_of(key), self.sink)
    }

    /// An object of strings under names of their own. What stands in their places is never said: it may be a secret.
    pub fn map(&mut self, key: &'static str) -> Option<Vec<(&'a str, &'a str)>> {
        let value = self.raw(key)?;
        let entries = match &value.kind {
            Kind::Object(entries) => &entries[..],
            // As a language writes an empty map that knows no other tables.
            Kind::Array(items) if items.is_empty() => &[],
            _ => {
                self.problem(key, value.type_word(), "an object of strings");
                return None;
            }
        };
        let mut pairs = Vec::with_capacity(entries.len());
        for Entry { key: name, line, value } in entries {
            match &value.kind {
                Kind::String(text) => pairs.push((name.as_str(), text.as_str())),
                _ => self.sink.problem(*line, &join(&self.path_of(key), name), value.type_word(), "a string"),
            }
        }
        Some(pairs)
    }

    /// A list of objects; absent is empty. Items of another type are reported and left out.
    pub fn objects(&mut self, key: &'static str) -> Vec<Reader<'a>> {
        let items = self.typed(key, "a list", array).unwrap_or_default();
        let path = self.path_of(key);
        let reader = |(index, item)| Reader::new(item, &format!("{path}[{index}]"), self.sink);
        items.iter().enumerate().filter_map(reader).collect()
    }

    /// A field that is known but not honoured yet: anything but nothing, `null` or its default is a problem.
    pub fn unsupported(&mut self, key: &'static str, default: serde_json::Value) {
        let Some(value) = self.raw(key) else { return };
        if value.is_json(&default) {
            return;
        }
        let path = self.path_of(key);
        let expected = match default {
            serde_json::Value::Null => "nothing: not supported yet".to_owned(),
            default => format!("{default}: anything else is not supported yet"),
        };
        self.wrong(value, self.line_of(key), &path, expected);
    }

    /// A field that is known and never honoured: anything but nothing, `null` or its default is a problem, which says
    /// what to use instead.
    pub fn only_default(&mut self, key: &'static str, default: serde_json::Value, instead: &str) {
        let Some(value) = self.raw(key).filter(|value| !value.is_json(&default)) else { return };
        let expected = match default {
            serde_json::Value::Null => format!("nothing; instead: {instead}"),
            default => format!("{default}; instead: {instead}"),
        };
        self.wrong(value, self.line_of(key), &self.path_of(key), expected);
    }

    /// Says which field is right for an unknown one whose name is not close to it.
    pub fn hint(&mut self, unknown: &'static str, right: &'static str) {
        self.hints.push((unknown, right));
    }

    /// Reports every key that was not asked for, with the nearest name that was.
    pub fn finish(self) {
        for entry in self.entries.iter().filter(|entry| !self.known.contains(&entry.key.as_str())) {
            let hinted = self.hints.iter().find(|(unknown, _)| *unknown == entry.key).map(|(_, right)| *right);
            let expected = match hinted.or_else(|| nearest(&entry.key, &self.known)) {
                Some(name) => format!("`{name}`"),
                None if self.known.len() <= 16 => format!("one of: {}", self.known.join(", ")),
                None => "a field that is known here".to_owned(),
            };
            self.sink.problem(entry.line, &self.path_of(&entry.key), "an unknown field", expected);
        }
    }
}

fn text(value: &Value) -> Option<&str> {
    match &value.kind {
        Kind::String(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

fn integer(value: &Value) -> Option<i64> {
    match value.kind {
        Kind::Integer(number) => Some(number),
        // decK writes whole numbers with an exponent once they are large.
        Kind::Float(number) if number.fract() == 0.0 && number.abs() < 9e15 => Some(number as i64),
        _ => None,
    }
}

fn array(value: &Value) -> Option<&[Value]> {
    match &value.kind {
        Kind::Array(items) => Some(items),
        _ => None,
    }
}

fn word<T: Copy>(value: &Value, words: &[(&str, T)]) -> Option<T> {
    let Kind::String(text) = &value.kind else { return None };
    words.iter().find(|(word, _)| word == text).map(|(_, value)| *value)
}

fn one_of<T>(words: &[(&str, T)]) -> String {
    let words: Vec<_> = words.iter().map(|(word, _)| *word).collect();
    format!("one of: {}", words.join(", "))
}

/// The name that an unknown one was meant to be, if one is near enough.
fn nearest<'k>(unknown: &str, known: &[&'k str]) -> Option<&'k str> {
    const NEAR: f64 = 0.7;
    let best = known.iter().copied().max_by(|a, b| likeness(unknown, a).total_cmp(&likeness(unknown, b)))?;
    (likeness(unknown, best) >= NEAR).then_some(best)
}

/// How alike two names are, from 0 to 1: by letters, or by words, which may stand in another order.
fn likeness(a: &str, b: &str) -> f64 {
    let (a, b) = (a.to_ascii_lowercase(), b.to_ascii_lowercase());
    letters(&a, &b).max(words(&a, &b))
}

/// Edits, against the longer name.
fn letters(a: &str, b: &str) -> f64 {
    strsim::normalized_damerau_levenshtein(a, b)
}

/// The likeness of the words of each that fit best, against the name with more of them. A word may be cut short.
fn words(a: &str, b: &str) -> f64 {
    let split = |name: &str| -> Vec<String> { name.split(['_', '-', '.']).map(str::to_owned).collect() };
    let (a, b) = (split(a), split(b));
    if a.len() < 2 && b.len() < 2 {
        return 0.0;
    }
    let (many, few) = if a.len() >= b.len() { (&a, &b) } else { (&b, &a) };
    let alike = |word: &String, other: &String| {
        let cut =
            word.len().min(other.len()) >= 4 && (word.starts_with(other.as_str()) || other.starts_with(word.as_str()));
        if cut { 0.9 } else { letters(word, other) }
    };
    let best = |word: &String| few.iter().map(|other| alike(word, other)).fold(0.0, f64::max);
    many.iter().map(best).sum::<f64>() / many.len() as f64
}

/// What a problem may say of a value: the value itself, or only its type where it may be a secret (L1).
fn found(value: &Value, path: &str) -> String {
    let credentials_in_url = matches!(&value.kind, Kind::String(text) if text.contains("://") && text.contains('@'));
    if credentials_in_url || path.split('.').any(is_sensitive) {
        return value.type_word().to_owned();
    }
    value.quote()
}

pub(super) fn is_sensitive(segment: &str) -> bool {
    let name = segment.split('[').next().unwrap_or_default().trim_matches('"').to_ascii_lowercase();
    let anywhere = ["secret", "password", "passphrase", "private", "credential", "authorization", "_values", "jwk"];
    let at_end = ["key", "keys", "token", "assertion", "cert", "args"];
    (anywhere.iter().any(|part| name.contains(part)) || at_end.iter().any(|part| name.ends_with(part)))
        && !name.ends_with("_uri")
        && !name.ends_with("_uris")
        && !name.ends_with("_endpoint")
}

#[cfg(test)]
mod tests;
