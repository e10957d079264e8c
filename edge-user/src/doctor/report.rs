//! What `edge doctor` found: as text for people, as one JSON object for programs.

use std::fmt;

use serde_json::{Value, json};

use super::printable;

/// How bad it is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// It is as it should be.
    Ok,
    /// It works, and may not for long or not for all.
    Warning,
    /// Requests fail by it.
    Failed,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Failed => "failed",
        }
    }
}

/// One thing that was looked at.
pub struct Finding {
    /// What was checked; a closed set.
    pub area: &'static str,
    /// Of what.
    pub subject: String,
    /// How bad it is.
    pub level: Level,
    /// What was found.
    pub text: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// Everything, in the order in which it was looked at.
#[derive(Default)]
pub struct Report {
    findings: Vec<Finding>,
}

impl Report {
    /// 0 where nothing failed, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(self.findings.iter().any(|finding| finding.level == Level::Failed))
    }

    pub(super) fn ok(&mut self, area: &'static str, subject: &str, text: impl Into<String>) {
        self.push(area, subject, Level::Ok, text.into(), None);
    }

    pub(super) fn warn(&mut self, area: &'static str, subject: &str, text: impl Into<String>, remedy: &str) {
        self.push(area, subject, Level::Warning, text.into(), Some(remedy.to_owned()));
    }

    pub(super) fn fail(&mut self, area: &'static str, subject: &str, text: impl Into<String>, remedy: &str) {
        self.push(area, subject, Level::Failed, text.into(), Some(remedy.to_owned()));
    }

    fn push(&mut self, area: &'static str, subject: &str, level: Level, text: String, remedy: Option<String>) {
        let (subject, text) = (printable(subject), printable(&text));
        self.findings.push(Finding { area, subject, level, text, remedy });
    }

    /// As one JSON object, whose keys do not change.
    pub fn json(&self) -> Value {
        let findings = self.findings.iter().map(|finding| {
            json!({
                "check": finding.area, "subject": finding.subject, "level": finding.level.name(),
                "found": finding.text, "remedy": finding.remedy,
            })
        });
        let worst = self.findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        json!({"level": worst.name(), "checks": findings.collect::<Vec<_>>()})
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { area, subject, level, text, remedy } in &self.findings {
            writeln!(f, "{:<8} {area:<15} {subject}: {text}", level.name())?;
            if let Some(remedy) = remedy {
                writeln!(f, "{:24} remedy: {remedy}", "")?;
            }
        }
        let count = |wanted| self.findings.iter().filter(|finding| finding.level == wanted).count();
        writeln!(f, "{} failed, {} warnings", count(Level::Failed), count(Level::Warning))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_make_the_exit_code() {
        let mut report = Report::default();
        report.ok("dns", "a", "x");
        report.warn("clock", "b", "y", "z");
        assert_eq!((report.exit_code(), report.json()["level"].as_str()), (0, Some("warning")));
        report.fail("jwks", "c", "y", "z");
        assert_eq!((report.exit_code(), report.json()["level"].as_str()), (1, Some("failed")));
        let text = report.to_string();
        assert!(text.starts_with("ok       dns             a: x\n"), "{text}");
        assert!(
            text.ends_with("failed   jwks            c: y\n                         remedy: z\n1 failed, 1 warnings\n"),
            "{text}"
        );
    }
}
