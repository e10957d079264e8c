//! Sources that keep sending proven bad tokens, and what they lose for it: the right to connect, for a while.
//!
//! Workers count what they judge (`Tally`) and hand it over; one task (`run`) judges the sources (`Judge`), writes the
//! sentences where workers read them (`PenaltyBox`) and tells the kernel, which then drops what userspace would close.
//! A request waits for none of it. Only requests count, so only completed handshakes: spoofed addresses box nobody (X2).

mod handed;
mod judge;
mod sentences;
mod source;
mod tally;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;

pub use self::handed::Handed;
use self::judge::Judge;
pub use self::judge::Record;
pub use self::sentences::{PenaltyBox, Sentence};
pub use self::source::Source;
pub(crate) use self::source::{v4_mask, v6_mask};
pub use self::tally::{Report, Tally};
use crate::kernel::{Kernel, Lane};
use crate::metrics::{Exposition, Kind};
use crate::reason::Reason;
use crate::settings::{Cidr, Penalty, PenaltyMode};

/// Batches of reports that may wait for the task: some twenty a second and worker.
const QUEUED_BATCHES: usize = 1024;
/// Sentences that one generation tells another of.
const HANDED: usize = 10_000;
/// How long a source is good for the lanes after a verified token.
const GOOD_FOR: Duration = Duration::from_secs(600);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(1);

/// The whole of it, as operators' commands see it.
pub struct Penalties {
    /// What workers read.
    pub sentences: Arc<PenaltyBox>,
    judge: Mutex<Judge>,
    has_lanes: bool,
    kernel: Arc<Kernel>,
}

/// What is known of one source.
pub struct Case {
    /// The source an address belongs to.
    pub source: Source,
    /// What it is counted for now.
    pub record: Option<Record>,
    /// What it was sentenced to.
    pub sentence: Option<Sentence>,
    /// Frames the kernel has dropped for it, or would have; where it does.
    pub frames: Option<u64>,
}

/// Where workers' reports arrive.
pub struct Reports(mpsc::Receiver<Vec<Report>>);

/// One end for each worker.
#[derive(Clone)]
pub struct Feed {
    sentences: Arc<PenaltyBox>,
    has_lanes: bool,
    to: mpsc::Sender<Vec<Report>>,
}

impl Feed {
    /// A worker's counts.
    pub fn tally(&self) -> Tally {
        Tally::new(self.sentences.clone(), self.has_lanes, self.to.clone())
    }
}

impl Penalties {
    /// By these rules; sources of `trusted` never enter. `has_lanes`: whether good sources are told apart.
    pub fn new(rules: Penalty, trusted: &[Cidr], has_lanes: bool, kernel: Arc<Kernel>) -> (Arc<Self>, Feed, Reports) {
        let sentences = Arc::new(PenaltyBox::new(rules));
        let (to, reports) = mpsc::channel(QUEUED_BATCHES);
        let judge = Mutex::new(Judge::new(rules, trusted.to_vec()));
        let feed = Feed { sentences: sentences.clone(), has_lanes, to };
        (Arc::new(Self { sentences, judge, has_lanes, kernel }), feed, Reports(reports))
    }

    /// What is known of the source this address belongs to.
    pub fn case(&self, address: IpAddr) -> Case {
        let source = self.sentences.source(address);
        Case {
            record: self.judge().record(source).cloned(),
            sentence: self.sentences.of(source),
            frames: self.kernel.penalty_frames(source.address()),
            source,
        }
    }

    /// Lets the source of this address in again, its past forgotten; whether there was anything to forgive.
    pub fn forgive(&self, address: IpAddr) -> bool {
        let source = self.sentences.source(address);
        let known = self.judge().forget(source);
        if known {
            self.sentences.forget_suspect(source);
        }
        let sentenced = self.release(source);
        known || sentenced
    }

    /// Every sentence in force.
    pub fn all(&self) -> Vec<(Source, Sentence)> {
        self.sentences.all()
    }

    /// The sentences in force, for another generation: the latest ones, where there are very many.
    pub fn hand_over(&self) -> Vec<Handed> {
        let mut all = self.sentences.all();
        let (now, first) = (Instant::now(), all.len().saturating_sub(HANDED));
        all.drain(first..).filter_map(|(source, sentence)| Handed::new(source, &sentence, now)).collect()
    }

    /// Takes over what another generation had in force.
    pub fn adopt(&self, handed: Vec<Handed>) {
        let now = Instant::now();
        for handed in handed {
            let source = self.sentences.source(handed.address);
            let Some(sentence) = handed.sentence(now) else { continue };
            if self.judge().adopt(source, &sentence, now) {
                self.sentences.suspect(source);
                self.enforce(source, sentence);
            }
        }
    }

    /// Takes over what an earlier process left in the kernel.
    pub fn restore(&self) {
        let kept = match self.kernel.kept_penalties() {
            Ok(kept) => kept,
            Err(error) => {
                let error = anyhow::Error::from(error);
                return tracing::warn!(error = format!("{error:#}"), "penalties that were kept cannot be read");
            }
        };
        let now = Instant::now();
        for (address, until, note) in kept {
            let source = self.sentences.source(address);
            let reason = note.checked_sub(1).and_then(|index| Reason::ALL.get(index as usize).copied());
            let is_ours = source.address() == address && self.sentences.rules().mode != PenaltyMode::Off;
            let sentence = reason.filter(|_| is_ours).map(|reason| Sentence {
                since: now,
                until,
                reason,
                good: 0,
                bad: 0,
                distinct_tokens: 0,
                offence: 1,
                is_direct: true,
            });
            match sentence {
                Some(sentence) if self.judge().adopt(source, &sentence, now) => {
                    self.sentences.suspect(source);
                    self.enforce(source, sentence);
                }
                // What userspace does not know of must not be dropped either.
                _ => drop(self.kernel.release(address)),
            }
        }
    }

    /// Takes one batch of reports.
    fn hear(&self, reports: Vec<Report>, now: Instant) {
        for report in reports {
            let (source, is_proven) = (report.source, report.is_proven);
            let heard = self.judge().hear(report, now);
            if self.has_lanes {
                self.choose_lane(source, is_proven, now);
            }
            if heard.is_new {
                self.sentences.suspect(source);
            }
            if let Some(forgotten) = heard.forgotten {
                self.sentences.forget_suspect(forgotten);
            }
            if let Some(sentence) = heard.sentence {
                self.impose(source, sentence);
            }
        }
    }

    /// A source that sent more bad tokens than good ones offends until they are forgotten, whatever else it sent.
    fn choose_lane(&self, source: Source, is_proven: bool, now: Instant) {
        let offends = self.judge().record(source).is_some_and(|record| record.bad > record.good);
        let lane = match (offends, is_proven) {
            (true, _) => (Lane::Offending, self.sentences.rules().window),
            (false, true) => (Lane::Good, GOOD_FOR),
            (false, false) => return,
        };
        if let Err(error) = self.kernel.set_lane(source.address(), lane.0, now + lane.1) {
            tracing::debug!(error = format!("{:#}", anyhow::Error::from(error)), "the kernel did not take a lane");
        }
    }

    fn enforce(&self, source: Source, sentence: Sentence) {
        let mode = self.sentences.rules().mode;
        if let Some(oldest) = self.sentences.insert(source, sentence) {
            self.release(oldest);
        }
        // One that came through a trusted proxy alone connects from there: the kernel sees the proxy.
        if sentence.is_direct
            && let Err(error) = self.kernel.penalize(source.address(), sentence.until, mode, note_of(sentence.reason))
        {
            // Userspace closes what the kernel does not drop.
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "the kernel did not take a penalty");
        }
    }

    fn impose(&self, source: Source, sentence: Sentence) {
        self.enforce(source, sentence);
        let mode = self.sentences.rules().mode;
        tracing::warn!(
            source = %source,
            mode = mode.word(),
            reason = sentence.reason.code(),
            bad = sentence.bad,
            good = sentence.good,
            distinct_tokens = sentence.distinct_tokens,
            offence = sentence.offence,
            seconds = sentence.until.saturating_duration_since(sentence.since).as_secs(),
            "{}",
            match mode {
                PenaltyMode::Enforce => "the source gets a penalty: its new connections are dropped",
                _ => "the source would get a penalty (kernel.penalty.mode is observe)",
            }
        );
    }

    fn release(&self, source: Source) -> bool {
        let removed = self.sentences.remove(source);
        // An entry whose time is over means nothing to the kernel, so a failure costs its place alone.
        let _ = self.kernel.release(source.address());
        removed
    }

    /// Forgets what is over.
    fn sweep(&self, now: Instant) {
        for source in self.judge().sweep(now) {
            self.sentences.forget_suspect(source);
        }
        for source in self.sentences.over(now) {
            self.release(source);
            tracing::info!(source = %source, "the source's penalty is over");
        }
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        // Each report changes one record, whole.
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the numbers.
    pub fn collect(&self, to: &mut Exposition) {
        to.family("edge_penalty_sources", Kind::Gauge, "Sources with a penalty, and sources that are counted");
        to.sample(&[("state", "penalized")], self.sentences.len());
        to.sample(&[("state", "counted")], self.judge().len());
        self.sentences.collect(to);
    }
}

/// How the kernel's entries remember a reason.
fn note_of(reason: Reason) -> u32 {
    reason.index() as u32 + 1
}

/// Judges what workers report, until the process ends.
pub async fn run(penalties: Arc<Penalties>, reports: Reports) {
    let Reports(mut reports) = reports;
    let mut sweep = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            batch = reports.recv() => match batch {
                Some(batch) => penalties.hear(batch, Instant::now()),
                None => return,
            },
            _ = sweep.tick() => penalties.sweep(Instant::now()),
        }
    }
}
