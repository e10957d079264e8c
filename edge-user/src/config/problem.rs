//! What is wrong with a file, said so that its author can put it right. Problems are gathered, never thrown.

use std::cell::RefCell;
use std::fmt;
use std::sync::Arc;

/// One thing that is wrong in a configuration file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// The file's name; empty for a document that came over the Admin API.
    pub file: Arc<str>,
    /// The line, from 1; 0 where none is known.
    pub line: u32,
    /// The place inside the document: `services[0].host`.
    pub path: String,
    /// What stands there. Never a value that may be a secret.
    pub found: String,
    /// What would be right.
    pub expected: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.file.is_empty(), self.line) {
            (true, _) => {}
            (false, 0) => write!(f, "{}: ", self.file)?,
            (false, line) => write!(f, "{}:{line}: ", self.file)?,
        }
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        write!(f, "found {}, expected {}", self.found, self.expected)
    }
}

/// Everything that is wrong, one problem a line.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// Gathers the problems and warnings of one file while it is read.
#[derive(Debug)]
pub struct Sink {
    file: Arc<str>,
    problems: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<String>>,
    /// Values that no text may show.
    hidden: RefCell<Vec<String>>,
}

impl Sink {
    /// An empty sink for the file of this name.
    pub fn new(file: &str) -> Self {
        Self {
            file: file.into(),
            problems: RefCell::default(),
            warnings: RefCell::default(),
            hidden: RefCell::default(),
        }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    /// Keeps a value that came from a vault out of everything that is said from here on.
    pub(super) fn hide(&self, value: &str) {
        self.hidden.borrow_mut().push(value.to_owned());
    }

    /// Whether a text shows a hidden value, whole, escaped, or cut as quotes are.
    fn shows_hidden(&self, text: &str) -> bool {
        self.hidden.borrow().iter().any(|value| {
            let cut: String = value.chars().take(super::value::MAX_QUOTED_CHARS).collect();
            text.contains(&cut) || text.contains(format!("{cut:?}").trim_matches('"'))
        })
    }

    /// Adds a problem.
    pub fn problem(&self, line: u32, path: &str, found: impl Into<String>, expected: impl Into<String>) {
        const HIDDEN: &str = "a value from a vault that does not fit";
        let said = |text: String| if self.shows_hidden(&text) { HIDDEN.to_owned() } else { text };
        self.problems.borrow_mut().push(Problem {
            file: Arc::clone(&self.file),
            line,
            path: path.to_owned(),
            found: said(found.into()),
            expected: said(expected.into()),
        });
    }

    /// Adds a remark for the operator that does not keep the file from being used.
    pub fn warn(&self, line: u32, path: &str, text: &str) {
        let place = match (self.file.is_empty(), line) {
            (true, _) => String::new(),
            (false, 0) => format!("{}: ", self.file),
            (false, line) => format!("{}:{line}: ", self.file),
        };
        let text = if self.shows_hidden(text) { "a value from a vault is odd" } else { text };
        self.warnings.borrow_mut().push(format!("{place}{path}: {text}"));
    }

    /// How many problems there are so far: unchanged across a step means the step went well.
    pub fn count(&self) -> usize {
        self.problems.borrow().len()
    }

    /// The problems in order of their lines, and the warnings.
    pub fn into_parts(self) -> (Vec<Problem>, Vec<String>) {
        let mut problems = self.problems.into_inner();
        problems.sort_by_key(|problem| problem.line);
        (problems, self.warnings.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_name_file_line_and_path() {
        for (file, line, path, expected) in [
            (
                "kong.yaml",
                12,
                "services[0].host",
                "kong.yaml:12: services[0].host: found nothing, expected a host name",
            ),
            ("kong.yaml", 0, "services[0].host", "kong.yaml: services[0].host: found nothing, expected a host name"),
            ("", 0, "host", "host: found nothing, expected a host name"),
            ("edge.toml", 1, "", "edge.toml:1: found nothing, expected a host name"),
        ] {
            let sink = Sink::new(file);
            sink.problem(line, path, "nothing", "a host name");
            assert_eq!(Problems(sink.into_parts().0).to_string(), expected);
        }
    }

    #[test]
    fn problems_come_in_order_of_lines_and_warnings_do_not_fail() {
        let sink = Sink::new("f");
        sink.problem(3, "b", "x", "y");
        sink.problem(1, "a", "x", "y");
        assert_eq!(sink.count(), 2);
        assert_eq!(
            Problems(sink.into_parts().0).to_string(),
            "f:1: a: found x, expected y\nf:3: b: found x, expected y"
        );
        let sink = Sink::new("f");
        sink.warn(4, "a.b", "is odd");
        assert_eq!(sink.into_parts(), (vec![], vec!["f:4: a.b: is odd".to_owned()]));
    }
}
