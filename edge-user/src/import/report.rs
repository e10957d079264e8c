//! What `edge import` tells: each line of the input in one of three bins, grouped by object, and a summary.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::ledger::{Bin, File, Span, Verdict};
use crate::doctor::printable;

/// An object of the input, for grouping.
#[derive(Debug)]
pub(super) struct Group {
    /// What it is called.
    pub(super) label: String,
    /// Where it stands.
    pub(super) span: Span,
}

/// Everything.
#[derive(Debug)]
pub struct Report {
    /// The files, line by line.
    pub(super) files: Vec<File>,
    /// The objects, in the order of the files.
    pub(super) groups: Vec<Group>,
    /// Lines whose loss lets requests in.
    pub(super) opened: Vec<(Span, String)>,
    /// What is different whatever the lines say.
    pub(super) notes: &'static [&'static str],
}

/// Lines that follow each other, with one verdict.
struct Run<'a> {
    first: usize,
    last: usize,
    verdict: &'a Verdict,
}

impl Report {
    /// How many lines each bin has.
    pub fn counts(&self) -> BTreeMap<Bin, usize> {
        let mut counts = BTreeMap::from([(Bin::Translated, 0), (Bin::Changed, 0), (Bin::Dropped, 0)]);
        for verdict in self.files.iter().flat_map(|file| file.lines.iter().flatten()) {
            *counts.entry(verdict.bin).or_default() += 1;
        }
        counts
    }

    /// Whether a line is not translated.
    pub fn has_gaps(&self) -> bool {
        self.counts()[&Bin::Dropped] > 0
    }

    /// The lines of a file in groups: label, and from line to line.
    fn sections(&self, index: usize) -> Vec<(String, usize, usize)> {
        let length = self.files[index].lines.len();
        let mut sections = Vec::new();
        let mut next = 1;
        for group in self.groups.iter().filter(|group| group.span.file == index) {
            let (first, last) = (group.span.first as usize, (group.span.last as usize).min(length));
            if first < next {
                // Two objects on one line.
                continue;
            }
            if first > next {
                sections.push(("no object".to_owned(), next, first - 1));
            }
            sections.push((group.label.clone(), first, last));
            next = last + 1;
        }
        if next <= length {
            sections.push(("no object".to_owned(), next, length));
        }
        sections
    }

    fn runs(&self, index: usize, first: usize, last: usize) -> Vec<Run<'_>> {
        let mut runs: Vec<Run<'_>> = Vec::new();
        for line in first..=last {
            let Some(verdict) = &self.files[index].lines[line - 1] else { continue };
            match runs.last_mut() {
                Some(run) if run.verdict.bin == verdict.bin && run.verdict.reasons == verdict.reasons => {
                    run.last = line
                }
                _ => runs.push(Run { first: line, last: line, verdict }),
            }
        }
        runs
    }

    /// For programs.
    pub fn json(&self) -> Value {
        let counts = self.counts();
        let files = (0..self.files.len()).map(|index| {
            let sections = self.sections(index).into_iter().filter_map(|(label, first, last)| {
                let lines: Vec<Value> = self
                    .runs(index, first, last)
                    .iter()
                    .map(|run| json!({"first": run.first, "last": run.last, "bin": run.verdict.bin.name(), "why": run.verdict.reasons}))
                    .collect();
                (!lines.is_empty()).then(|| json!({"object": label, "lines": lines}))
            });
            json!({"file": self.files[index].name, "objects": sections.collect::<Vec<_>>()})
        });
        let opened = self.opened.iter().map(|(span, why)| {
            json!({"file": self.files[span.file].name, "first": span.first, "last": span.last, "why": why})
        });
        json!({
            "lines": {"translated": counts[&Bin::Translated], "changed": counts[&Bin::Changed], "not_translated": counts[&Bin::Dropped]},
            "refusals_lost": opened.collect::<Vec<_>>(),
            "everywhere": self.notes,
            "files": files.collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.files.iter().enumerate() {
            writeln!(f, "{}", printable(&file.name))?;
            for (label, first, last) in self.sections(index) {
                let runs = self.runs(index, first, last);
                if runs.is_empty() {
                    continue;
                }
                writeln!(f, "\n  {} ({first}-{last})", printable(&label))?;
                for run in runs {
                    let lines = if run.first == run.last {
                        run.first.to_string()
                    } else {
                        format!("{}-{}", run.first, run.last)
                    };
                    let bin = run.verdict.bin.name();
                    match run.verdict.reasons.split_first() {
                        None => writeln!(f, "    {bin:<14} {lines}")?,
                        Some((why, more)) => {
                            writeln!(f, "    {bin:<14} {lines:<9} {}", printable(why))?;
                            for why in more {
                                writeln!(f, "    {:<14} {:<9} {}", "", "", printable(why))?;
                            }
                        }
                    }
                }
            }
            writeln!(f)?;
        }
        if !self.notes.is_empty() {
            writeln!(f, "Different everywhere:")?;
            self.notes.iter().try_for_each(|note| writeln!(f, "  - {note}"))?;
            writeln!(f)?;
        }
        if !self.opened.is_empty() {
            writeln!(f, "NOT TRANSLATED, AND REFUSED REQUESTS: what these lines kept out comes in")?;
            for (span, why) in &self.opened {
                writeln!(
                    f,
                    "  - {}:{}-{}: {}",
                    printable(&self.files[span.file].name),
                    span.first,
                    span.last,
                    printable(why)
                )?;
            }
            writeln!(f)?;
        }
        let counts = self.counts();
        let (translated, changed, dropped) = (counts[&Bin::Translated], counts[&Bin::Changed], counts[&Bin::Dropped]);
        writeln!(
            f,
            "{} lines: {translated} translated, {changed} changed, {dropped} not translated",
            translated + changed + dropped
        )
    }
}
