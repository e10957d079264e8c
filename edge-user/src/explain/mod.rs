//! `edge explain`: what the configuration makes of one token, check by check, and the one change that would let it pass.
//!
//! It loads the configuration that `edge run` would, asks the issuers that the edge would ask, and lets the very plugin
//! decide that decides requests; its `trace::Observer` hears what each check found. Nothing is written or kept.

mod guard;
mod remedy;
mod report;
mod request;

use std::path::PathBuf;

use tokio::runtime::Runtime;

pub use self::report::{Report, Verdict};
pub use self::request::{FileError, Files, Secret, Shown};

use self::guard::{Guard, guards};
use self::report::{Clock, Row};
use self::request::Built;
use crate::app;
use crate::config::problem::Problems;
use crate::config::snapshot::{Protocol, Route, Snapshot};
use crate::plugin::jwt_signer::CHANNEL_TOKEN as CHANNEL;
use crate::plugin::{Access, Notes};
use crate::proxy::connection::Connection;
use crate::reason::Reason;
use crate::settings::Settings;
use crate::token::Now;
use crate::token::cache::{LocalCache, VerdictCache};
use crate::token::explain::expires_unix_ms;
use crate::token::keys::Survey;
use crate::trace::{Check, Observer, Trace};

/// Memory for the verdicts of one request, in bytes.
const CACHE_BYTES: usize = 1 << 20;

/// What is explained.
pub struct Question {
    /// `edge.toml`
    pub config: PathBuf,
    /// The route's name or id.
    pub route: String,
    /// The request.
    pub shown: Shown,
}

/// What a question is asked of.
struct Asked<'q> {
    control: &'q Runtime,
    settings: &'q Settings,
    snapshot: &'q Snapshot,
    route: &'q Route,
    https: bool,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime.
    #[error("no runtime")]
    Runtime(#[from] std::io::Error),
    /// The configuration is not one.
    #[error(transparent)]
    Configuration(#[from] Problems),
    /// No route of this name or id.
    #[error("no route {0:?}; there are: {1}")]
    Route(String, String),
    /// The route looks at no token.
    #[error("route {0:?} has neither openid-connect nor jwt-signer")]
    Open(String),
    /// The request is none that the edge takes.
    #[error("{0}")]
    Request(&'static str),
}

/// Loads the configuration and shows it the request.
pub fn explain(question: &Question) -> Result<Report, Error> {
    crate::crypto::install();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, snapshot, _env) = app::load_apart(&question.config, &control)?;
    let route = find(&snapshot, &question.route)?;
    let https = question.shown.is_https().unwrap_or(!route.protocols.contains(Protocol::Http));
    let protocol = if https { Protocol::Https } else { Protocol::Http };
    let guards = guards(route, protocol);
    if guards.is_empty() {
        return Err(Error::Open(question.route.clone()));
    }
    let asked = Asked { control: &control, settings: &settings, snapshot: &snapshot, route, https };
    run(&asked, &guards, &question.shown)
}

fn find<'s>(snapshot: &'s Snapshot, wanted: &str) -> Result<&'s Route, Error> {
    let is_wanted = |route: &&Route| route.name.as_deref() == Some(wanted) || route.id.to_string() == wanted;
    snapshot.routes.iter().find(is_wanted).ok_or_else(|| {
        let known: Vec<&str> = snapshot.routes.iter().take(50).map(|route| &*route.label).collect();
        Error::Route(wanted.to_owned(), known.join(", "))
    })
}

/// Shows the request to each plugin that looks at tokens, up to the first that refuses it.
fn run(asked: &Asked<'_>, guards: &[Guard<'_>], shown: &Shown) -> Result<Report, Error> {
    let cache = VerdictCache::new(CACHE_BYTES).local();
    let connection: Connection = shown.connection(asked.https);
    let mut notes = Notes::default();
    let mut built = shown.build(guards, asked.snapshot, asked.https, &mut notes).map_err(Error::Request)?;
    let mut before = Vec::new();
    for guard in guards {
        let report = judge(asked, *guard, shown, &mut built, &mut notes, (&connection, &cache));
        let goes_on = matches!(report.verdict, Verdict::Passes | Verdict::PassesAsAnonymous);
        if !goes_on || before.len() + 1 == guards.len() {
            return Ok(Report { before, ..report });
        }
        before.push(report);
    }
    Err(Error::Open(asked.route.label.to_string()))
}

/// What one plugin makes of it.
fn judge(
    asked: &Asked<'_>,
    guard: Guard<'_>,
    shown: &Shown,
    built: &mut Built,
    notes: &mut Notes,
    (connection, cache): (&Connection, &LocalCache),
) -> Report {
    let trace = Trace::default();
    let (verdict, status, detail) = {
        let mut request = built.request(asked, connection, cache, notes);
        request.observer = Observer::of(&trace);
        match asked.control.block_on(guard.access(&mut request)) {
            Access::Refuse(refusal) if refusal.status == 503 => (Verdict::Unknown, 503, refusal.detail()),
            Access::Refuse(refusal) => (Verdict::Refused, refusal.status, refusal.detail()),
            Access::Answer(answer) if trace.refused().is_some() => (Verdict::Refused, answer.status, String::new()),
            Access::Continue if trace.refused().is_some() => (Verdict::PassesAsAnonymous, 200, String::new()),
            Access::Continue | Access::Answer(_) => (Verdict::Passes, 200, String::new()),
        }
    };
    let subject = trace.subject();
    let token = if subject == Some(CHANNEL) { &shown.channel_token } else { &shown.token };
    let surveys: Vec<Survey> = match guard.validator(subject).keys() {
        Some(keys) if token.is_some() => asked.control.block_on(keys.survey()),
        _ => Vec::new(),
    };
    let skew = surveys.iter().find_map(|survey| Some((survey.url.clone(), survey.skew_ms?)));
    let clock = skew.map(|(url, skew_ms)| Clock { url, skew_ms });
    let unavailable =
        surveys.iter().find_map(|survey| survey.document.as_ref().err()).map(|error| crate::doctor::chain(error));
    let token = token.as_deref().map(|token| &token[..]);
    let facts = notes.caller.facts.as_ref().filter(|_| subject != Some(CHANNEL));
    let expires = facts.and_then(|facts| facts.exp_ms()).or_else(|| token.and_then(expires_unix_ms));
    let row = |check: &Check| Row::of(*check, guard.demand(*check, subject), &trace);
    let rows: Vec<Row> = Check::ALL.iter().map(row).collect();
    let reason: Option<Reason> = trace.refused();
    let failed = reason.and_then(|_| trace.failed());
    let remedy = reason.map(|reason| {
        let row = failed.and_then(|failed| rows.iter().find(|row| row.check == failed));
        let text = |text: Option<&String>| text.cloned().unwrap_or_default();
        let (expected, found) =
            row.map(|row| (text(row.expected.as_ref()), text(row.found.as_ref()))).unwrap_or_default();
        let remedy = guard.remedy(reason, &expected, &found, &trace);
        remedy.with_skew(reason, clock.as_ref().map_or(0, |clock| clock.skew_ms))
    });
    Report {
        route: asked.route.label.to_string(),
        route_id: asked.route.id,
        plugin: guard.name(),
        subject,
        issuer: guard.issuer(subject).to_owned(),
        verdict,
        status,
        reason,
        failed,
        rows,
        key: trace.key(),
        clock,
        expires_in_secs: expires.map(|ms| (ms - Now::read().unix_ms).div_euclid(1000)),
        caller: crate::plugin::openid_connect::caller_text(&notes.caller),
        detail: Some(detail).filter(|detail| !detail.is_empty()),
        cause: unavailable.filter(|_| verdict == Verdict::Unknown),
        remedy,
        before: Vec::new(),
    }
}
