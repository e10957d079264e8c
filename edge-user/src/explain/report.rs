//! What `edge explain` tells: as text for people, as one JSON object for programs.

use std::fmt;

use serde_json::{Value, json};
use uuid::Uuid;

use super::remedy::Remedy;
use crate::doctor::printable;
use crate::reason::Reason;
use crate::trace::{Check, KeyUse, Outcome, Trace};

/// Whether the request would pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// As the token's owner.
    Passes,
    /// As the consumer of `anonymous`.
    PassesAsAnonymous,
    /// It is refused.
    Refused,
    /// Nobody can say now.
    Unknown,
}

impl Verdict {
    /// The process's exit code.
    pub fn exit_code(self) -> u8 {
        match self {
            Self::Passes | Self::PassesAsAnonymous => 0,
            Self::Refused => 1,
            Self::Unknown => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Passes => "passes",
            Self::PassesAsAnonymous => "passes_as_anonymous",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What became of one check here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mark {
    Pass,
    Fail,
    NotReached,
    NotRequired,
}

impl Mark {
    fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::NotReached => "not_reached",
            Self::NotRequired => "not_required",
        }
    }
}

/// One check.
pub(super) struct Row {
    pub(super) check: Check,
    pub(super) reached: Mark,
    pub(super) expected: Option<String>,
    pub(super) found: Option<String>,
}

impl Row {
    /// A check as it was heard of. One that was passed over does not apply to this token.
    pub(super) fn of(check: Check, demand: Option<String>, trace: &Trace) -> Self {
        let step = trace.step(check);
        let reached = match &step {
            Some((Outcome::Passed, _)) => Mark::Pass,
            Some((Outcome::Failed, _)) => Mark::Fail,
            None if demand.is_none() || trace.refused().is_none() => Mark::NotRequired,
            None if trace.last().is_some_and(|last| last > check) => Mark::NotRequired,
            None => Mark::NotReached,
        };
        let found = step.map(|(_, found)| printable(&found)).filter(|found| !found.is_empty());
        Self { check, reached, expected: demand.as_deref().map(printable), found }
    }
}

/// The issuer's clock.
pub(super) struct Clock {
    pub(super) url: String,
    pub(super) skew_ms: i64,
}

/// Everything.
pub struct Report {
    pub(super) route: String,
    pub(super) route_id: Uuid,
    pub(super) plugin: &'static str,
    /// Which token it is about, where the plugin looks at several.
    pub(super) subject: Option<&'static str>,
    pub(super) issuer: String,
    pub(super) verdict: Verdict,
    pub(super) status: u16,
    pub(super) reason: Option<Reason>,
    pub(super) failed: Option<Check>,
    pub(super) rows: Vec<Row>,
    pub(super) key: Option<KeyUse>,
    pub(super) clock: Option<Clock>,
    pub(super) expires_in_secs: Option<i64>,
    /// Whom a good token stands for.
    pub(super) caller: Option<String>,
    /// What the error log would say beside the reason.
    pub(super) detail: Option<String>,
    /// Why an issuer does not answer.
    pub(super) cause: Option<String>,
    pub(super) remedy: Option<Remedy>,
    /// Of the plugins before this one, which let the request pass.
    pub(super) before: Vec<Report>,
}

impl Report {
    /// Whether the request would pass.
    pub fn verdict(&self) -> Verdict {
        self.verdict
    }

    /// As one JSON object, whose keys do not change.
    pub fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            json!({
                "check": row.check.name(), "outcome": row.reached.name(), "expected": row.expected, "found": row.found,
            })
        });
        json!({
            "route": self.route,
            "route_id": self.route_id.to_string(),
            "plugin": self.plugin,
            "token": self.subject,
            "issuer": self.issuer,
            "verdict": self.verdict.name(),
            "status": self.status,
            "reason": self.reason.map(Reason::code),
            "failed_check": self.failed.map(Check::name),
            "checks": rows.collect::<Vec<_>>(),
            "key": self.key.as_ref().map(|key| json!({
                "kid": key.kid, "alg": key.algorithm, "url": key.url, "fetched_at_ms": key.fetched_unix_ms,
            })),
            "clock": self.clock.as_ref().map(|clock| json!({"url": clock.url, "skew_ms": clock.skew_ms})),
            "expires_in_s": self.expires_in_secs,
            "caller": self.caller,
            "detail": self.detail,
            "cause": self.cause,
            "remedy": self.remedy.as_ref().map(|remedy| json!({
                "client": remedy.client, "configuration": remedy.configuration, "operator": remedy.operator,
            })),
            "before": self.before.iter().map(Self::json).collect::<Vec<_>>(),
        })
    }
}

/// Where texts begin.
const INDENT: usize = 27;

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for before in &self.before {
            writeln!(f, "{before}")?;
        }
        let token = self.subject.map(|token| format!(" for the {token}")).unwrap_or_default();
        writeln!(f, "route {}, {}{token} with issuer {}", self.route, self.plugin, self.issuer)?;
        for row in &self.rows {
            let mark = match row.reached {
                Mark::Pass => "pass",
                Mark::Fail => "FAIL",
                Mark::NotReached => "-",
                Mark::NotRequired => ".",
            };
            let name = row.check.name();
            match (row.reached, &row.expected) {
                (Mark::NotRequired, _) => writeln!(f, "{mark:<5} {name:<20} not required")?,
                (Mark::NotReached, Some(expected)) => {
                    writeln!(f, "{mark:<5} {name:<20} not reached; expected {expected}")?;
                }
                (_, Some(expected)) => writeln!(f, "{mark:<5} {name:<20} expected {expected}")?,
                (_, None) => writeln!(f, "{mark:<5} {name}")?,
            }
            if let Some(found) = &row.found {
                writeln!(f, "{:INDENT$}found {found}", "")?;
            }
        }
        if let Some(key) = &self.key {
            let kid = key.kid.as_deref().map_or("without kid".to_owned(), |kid| format!("kid {kid:?}"));
            let url = key.url.as_deref().map_or("`client_secret`".to_owned(), printable);
            let fetched = key.fetched_unix_ms.map(|ms| httpdate::fmt_http_date(unix(ms)));
            let fetched = fetched.map(|date| format!(", fetched {date}")).unwrap_or_default();
            writeln!(f, "key      {kid}, {}, from {url}{fetched}", key.algorithm)?;
        }
        if let Some(clock) = &self.clock {
            let seconds = clock.skew_ms as f64 / 1000.0;
            let says = match clock.skew_ms {
                0 => "agrees with this one".to_owned(),
                1.. => format!("is {seconds:.1} s ahead of this one"),
                _ => format!("is {:.1} s behind this one", -seconds),
            };
            writeln!(f, "clock    the issuer's {says} (Date of {})", printable(&clock.url))?;
        }
        match self.expires_in_secs {
            Some(left @ 0..) => writeln!(f, "token    expires in {left} s")?,
            Some(ago) => writeln!(f, "token    expired {} s ago", -ago)?,
            None => {}
        }
        if let Some(caller) = &self.caller {
            writeln!(f, "caller   {caller}")?;
        }
        match self.reason {
            None => writeln!(f, "verdict  {}", self.verdict.name())?,
            Some(reason) => {
                let (verdict, status) = (self.verdict.name(), self.status);
                writeln!(f, "verdict  {verdict} ({status}), reason {}: {}", reason.code(), reason.phrase())?;
            }
        }
        if let Some(detail) = &self.detail {
            writeln!(f, "detail   {}", printable(detail))?;
        }
        if let Some(cause) = &self.cause {
            writeln!(f, "cause    {cause}")?;
        }
        let Some(Remedy { client, configuration, operator }) = &self.remedy else { return Ok(()) };
        let mut label = "remedy ";
        for (who, text) in [("client", client), ("configuration", configuration), ("operator", operator)] {
            if let Some(text) = text {
                writeln!(f, "{label}  {who}: {text}")?;
                label = "     or";
            }
        }
        Ok(())
    }
}

fn unix(ms: i64) -> std::time::SystemTime {
    std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms.max(0) as u64)
}
