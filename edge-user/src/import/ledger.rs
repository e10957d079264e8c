//! What became of each line of the input: one bin a line, the worst that anybody found for it, and why.
//!
//! Whoever translates claims lines; what nobody claims is not translated, with that as its reason. `report` prints it.

use std::cell::RefCell;

/// Reasons that one line keeps.
const MAX_REASONS: usize = 6;

/// What became of a line, from good to bad.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Bin {
    /// The edge does the same.
    Translated,
    /// The edge does something like it.
    Changed,
    /// The edge does nothing for it.
    Dropped,
}

impl Bin {
    /// Its word in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Translated => "translated",
            Self::Changed => "changed",
            Self::Dropped => "not translated",
        }
    }
}

/// Lines of one file, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    /// The file's place among those that were read.
    pub(super) file: usize,
    /// The first line, from 1.
    pub(super) first: u32,
    /// The last line.
    pub(super) last: u32,
}

impl Span {
    /// Its first line alone.
    pub(super) fn head(self) -> Self {
        Self { last: self.first, ..self }
    }
}

/// The verdict on one line.
#[derive(Clone, Debug)]
pub(super) struct Verdict {
    /// The bin.
    pub(super) bin: Bin,
    /// Why, where it is not `Translated`.
    pub(super) reasons: Vec<String>,
}

/// One input file.
#[derive(Debug)]
pub(super) struct File {
    /// As it was named.
    pub(super) name: String,
    /// A verdict for each line; `None` for blank lines and comments.
    pub(super) lines: Vec<Option<Verdict>>,
}

struct Line {
    is_input: bool,
    verdict: Option<Verdict>,
}

/// Gathers the verdicts while the files are translated.
#[derive(Default)]
pub(super) struct Ledger {
    files: RefCell<Vec<(String, Vec<Line>)>>,
    opened: RefCell<Vec<(Span, String)>>,
}

impl Ledger {
    /// Adds a file; gives its place.
    pub(super) fn add(&self, name: &str, text: &str) -> usize {
        let is_input = |line: &str| !line.trim().is_empty() && !line.trim_start().starts_with('#');
        let lines = text.lines().map(|line| Line { is_input: is_input(line), verdict: None }).collect();
        let mut files = self.files.borrow_mut();
        files.push((name.to_owned(), lines));
        files.len() - 1
    }

    /// A span as people read it: `bigip.conf:12-40`.
    pub(super) fn place(&self, span: Span) -> String {
        let files = self.files.borrow();
        let name = files.get(span.file).map_or("", |(name, _)| name);
        let name = name.rsplit('/').next().unwrap_or_default();
        match span.first == span.last {
            true => format!("{name}:{}", span.first),
            false => format!("{name}:{}-{}", span.first, span.last),
        }
    }

    /// The edge does the same.
    pub(super) fn translated(&self, span: Span) {
        self.claim(span, Bin::Translated, None);
    }

    /// The edge does something like it.
    pub(super) fn changed(&self, span: Span, why: impl Into<String>) {
        self.claim(span, Bin::Changed, Some(why.into()));
    }

    /// The edge does nothing for it.
    pub(super) fn dropped(&self, span: Span, why: impl Into<String>) {
        self.claim(span, Bin::Dropped, Some(why.into()));
    }

    /// As `dropped`, of something that refuses requests: what it kept out comes in now.
    pub(super) fn opened(&self, span: Span, why: impl Into<String>) {
        let why = why.into();
        let mut opened = self.opened.borrow_mut();
        if !opened.iter().any(|(known, _)| *known == span) {
            opened.push((span, why.clone()));
        }
        self.dropped(span, why);
    }

    fn claim(&self, span: Span, bin: Bin, why: Option<String>) {
        let mut files = self.files.borrow_mut();
        let Some((_, lines)) = files.get_mut(span.file) else { return };
        let end = (span.last as usize).min(lines.len());
        let first = (span.first.max(1) as usize - 1).min(end);
        for line in lines[first..end].iter_mut().filter(|line| line.is_input) {
            let verdict = line.verdict.get_or_insert(Verdict { bin, reasons: Vec::new() });
            if bin > verdict.bin {
                verdict.bin = bin;
                // What is not done at all is not done in another way as well.
                verdict.reasons.clear();
            }
            if bin == verdict.bin
                && let Some(why) = &why
                && verdict.reasons.len() < MAX_REASONS
                && !verdict.reasons.contains(why)
            {
                verdict.reasons.push(why.clone());
            }
        }
    }

    /// The bin of a line, where somebody claimed it.
    pub(super) fn bin(&self, file: usize, line: u32) -> Option<Bin> {
        let files = self.files.borrow();
        let (_, lines) = files.get(file)?;
        Some(lines.get(line.checked_sub(1)? as usize)?.verdict.as_ref()?.bin)
    }

    /// Gives lines of a span that nobody claimed to a bin.
    pub(super) fn rest(&self, span: Span, bin: Bin, why: &str) {
        for line in span.first..=span.last {
            if self.bin(span.file, line).is_none() {
                let why = (bin != Bin::Translated).then(|| why.to_owned());
                self.claim(Span { first: line, last: line, ..span }, bin, why);
            }
        }
    }

    /// Everything, and the lines whose loss lets requests in.
    pub(super) fn into_parts(self) -> (Vec<File>, Vec<(Span, String)>) {
        let unread = || Verdict { bin: Bin::Dropped, reasons: vec!["nothing that the importer reads".to_owned()] };
        let line = |line: Line| line.is_input.then(|| line.verdict.unwrap_or_else(unread));
        let file = |(name, lines): (String, Vec<Line>)| File { name, lines: lines.into_iter().map(line).collect() };
        (self.files.into_inner().into_iter().map(file).collect(), self.opened.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_has_one_bin_the_worst() {
        let ledger = Ledger::default();
        let file = ledger.add("f", "a\n\n # c\nb\nc\nd\n");
        let span = |first, last| Span { file, first, last };
        ledger.translated(span(1, 4));
        ledger.changed(span(4, 5), "other");
        ledger.changed(span(5, 5), "another");
        ledger.dropped(span(5, 5), "gone");
        ledger.translated(span(5, 5));
        ledger.dropped(span(90, 95), "behind the end");
        let (files, opened) = ledger.into_parts();
        let lines: Vec<_> = files[0].lines.iter().map(|line| line.as_ref().map(|line| line.bin)).collect();
        use Bin::{Changed, Dropped, Translated};
        assert_eq!(lines, [Some(Translated), None, None, Some(Changed), Some(Dropped), Some(Dropped)]);
        assert_eq!(files[0].lines[4].as_ref().unwrap().reasons, ["gone"]);
        assert!(opened.is_empty());
    }
}
