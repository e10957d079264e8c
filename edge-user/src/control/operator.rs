//! The answers: what the parts of the running edge know.

use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::mpsc;

use super::report::{Attached, Counted, Dropped, MapFill, Program, Refusal, Status, Verdict, Why};
use super::{Listening, Reply, Request};
use crate::kernel::{Kernel, XdpVariant};
use crate::penalty::{Case, Penalties, Sentence, Source};
use crate::settings::{KernelMode, PenaltyMode, Settings};
use crate::telemetry::{RecentRefusals, Refused};

/// Refusals of one client in an answer.
const REFUSALS: usize = 20;
/// Penalties in an answer.
const PENALTIES: usize = 100;

/// What the control socket answers from.
pub struct Operator {
    /// The program's version.
    pub version: &'static str,
    /// The settings in force.
    pub settings: Arc<ArcSwap<Settings>>,
    /// The kernel programs.
    pub kernel: Arc<Kernel>,
    /// Counts and sentences of sources.
    pub penalties: Arc<Penalties>,
    /// The last refusals.
    pub recent: Arc<RecentRefusals>,
    /// Every listening socket, for the next generation.
    pub listening: Mutex<Listening>,
    /// Told once the next generation serves.
    pub succeeded: mpsc::Sender<()>,
}

impl Operator {
    /// Everything but a take-over, which is more than an answer.
    pub(super) fn answer(&self, request: Request) -> Reply {
        match request {
            Request::KernelStatus => Reply::KernelStatus(self.status()),
            Request::Forgive { address } => Reply::Forgiven {
                was_known: self.penalties.forgive(address),
                source: self.penalties.sentences.source(address).to_string(),
            },
            Request::Why { subject } => self.why(subject),
            Request::Sentences => Reply::Sentences { sentences: self.penalties.hand_over() },
            Request::TakeOver => Reply::Refused { message: "a take-over is under way already".to_owned() },
        }
    }

    /// The sockets for the next generation.
    pub(super) fn listening(&self) -> io::Result<Listening> {
        self.lock().duplicate()
    }

    /// Puts right what a generation that does not serve has left in maps and on interfaces that both have. Programs that
    /// were detached for it stay off: attaching takes privileges that are gone.
    pub(super) fn serve_on(&self) {
        self.kernel.restore();
        if self.kernel.is_detached() {
            tracing::warn!("kernel programs are off until the next start: userspace does all of the work");
        }
        if let Err(error) = self.kernel.restore_deny(&self.settings.load().kernel.deny) {
            tracing::error!("kernel deny-list not restored: {:#}", anyhow::Error::from(error));
        }
    }

    /// Closes the duplicates: a socket that nobody accepts from must not be open.
    pub fn close(&self) {
        *self.lock() = Listening::default();
    }

    fn lock(&self) -> MutexGuard<'_, Listening> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn status(&self) -> Status {
        let settings = self.settings.load();
        let mode = match settings.kernel.mode {
            KernelMode::Off => "off",
            KernelMode::Auto => "auto",
            KernelMode::Required => "required",
        };
        let attached = self.kernel.attachments().iter().map(|attachment| Attached {
            interface: attachment.interface.clone(),
            mode: match attachment.variant {
                XdpVariant::Native => "native".to_owned(),
                XdpVariant::Generic => "generic".to_owned(),
            },
        });
        let programs = self.kernel.programs().into_iter().map(|program| Program {
            name: program.name,
            verified_instructions: program.verified_instructions,
            runs: program.runs,
            run_ns: program.run_ns_total.checked_div(program.runs),
        });
        let map = |(name, entries, capacity): (&str, u64, u64)| MapFill { name: name.to_owned(), entries, capacity };
        let counted = |(name, count): (&str, u64)| Counted { name: name.to_owned(), count };
        let penalties = self.penalties.all().into_iter().take(PENALTIES);
        Status {
            mode: mode.to_owned(),
            penalty_mode: settings.kernel.penalty.mode.word().to_owned(),
            attached: attached.collect(),
            programs: programs.collect(),
            maps: self.kernel.maps().into_iter().map(map).collect(),
            frames: self.kernel.counters().into_iter().map(counted).collect(),
            penalties: penalties
                .map(|(source, sentence)| {
                    let frames = self.kernel.penalty_frames(source.address());
                    self.sentenced(source, sentence, frames)
                })
                .collect(),
        }
    }

    fn why(&self, subject: String) -> Reply {
        let (address, refusals) = match subject.parse::<IpAddr>() {
            Ok(address) => (address.to_canonical(), self.recent.of_client(address.to_canonical(), REFUSALS)),
            Err(_) => match self.recent.of_request(&subject) {
                Some(refused) => (refused.client, vec![refused]),
                None => {
                    let message = format!(
                        "{subject:?} is no address, and no request with this id is among the last that were refused"
                    );
                    return Reply::Refused { message };
                }
            },
        };
        let verdicts = self.verdicts(address);
        Reply::Why(Why {
            subject,
            address: Some(address),
            verdicts,
            refusals: refusals.into_iter().map(refusal).collect(),
        })
    }

    /// What is in force against an address.
    fn verdicts(&self, address: IpAddr) -> Vec<Verdict> {
        let settings = self.settings.load();
        let denied = settings.kernel.deny.iter().filter(|range| range.contains(address)).map(|range| Verdict {
            source: range.to_string(),
            verdict: "denied".to_owned(),
            because: "it stands in kernel.deny".to_owned(),
            since_secs: None,
            left_secs: None,
            dropped: None,
            remedy: format!("take {range} out of kernel.deny; the running edge sees the changed file"),
        });
        let Case { source, record, sentence, frames } = self.penalties.case(address);
        let sentenced = sentence.map(|sentence| self.sentenced(source, sentence, frames));
        let rules = self.penalties.sentences.rules();
        let counted = record.filter(|record| record.bad > 0).map(|record| Verdict {
            source: source.to_string(),
            verdict: "counted".to_owned(),
            because: format!(
                "{} proven bad tokens ({} different of {} that count), {} good; the last for {}",
                record.bad,
                record.distinct_tokens(),
                rules.distinct_tokens,
                record.good,
                record.reason.code(),
            ),
            since_secs: Some(record.began.elapsed().as_secs()),
            left_secs: None,
            dropped: None,
            remedy: "mend the client; `edge explain` says what is wrong with a token".to_owned(),
        });
        denied.chain(sentenced).chain(counted).collect()
    }

    fn sentenced(&self, source: Source, sentence: Sentence, frames: Option<u64>) -> Verdict {
        let now = Instant::now();
        let verdict = match self.penalties.sentences.rules().mode {
            PenaltyMode::Enforce => "penalized",
            _ => "would_penalize",
        };
        let through = if sentence.is_direct { "" } else { ", all through trusted proxies" };
        Verdict {
            source: source.to_string(),
            verdict: verdict.to_owned(),
            because: match sentence.bad {
                0 => format!("kept from before a restart; the last bad token for {}", sentence.reason.code()),
                _ => format!(
                    "{} proven bad tokens (at least {} different), {} good{through}; the last for {}; penalty number {}",
                    sentence.bad,
                    sentence.distinct_tokens,
                    sentence.good,
                    sentence.reason.code(),
                    sentence.offence,
                ),
            },
            since_secs: Some(now.saturating_duration_since(sentence.since).as_secs()),
            left_secs: Some(sentence.until.saturating_duration_since(now).as_secs()),
            dropped: frames.map(|frames| Dropped { frames }),
            remedy: format!("edge kernel forgive {}", source.address()),
        }
    }
}

fn refusal(refused: Refused) -> Refusal {
    let ago = SystemTime::now().duration_since(refused.time).unwrap_or_default();
    Refusal {
        request_id: refused.request_id.into(),
        ago_secs: ago.as_secs(),
        client: refused.client,
        status: refused.status,
        reason: refused.reason.code().to_owned(),
        phrase: refused.reason.phrase().to_owned(),
        route: refused.route.map(Into::into),
    }
}
