//! Rejected tokens in clear text: what the kernel is told of them, and the programs that answer.

use std::collections::{HashMap as Map, HashSet};
use std::time::{Duration, Instant};

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions},
    },
};
use edge_ebpf::rejection::{
    FIRST, HANDSHAKE_PROGRAM, KEPT, REJECT_ARMED, REJECT_COUNTERS, REJECT_GENERATION, REJECT_KEY, REJECT_LISTENERS,
    REJECT_PROGRAM, REJECTED, REJECTED_CAPACITY, REPLIES, REPLY_BYTES, REPLY_CAPACITY, RejectCounter, RejectEntry,
    RejectKey, RejectListener, Reply,
};
use tracing::{info, warn};

use super::{Error, counters::sums, loader, monotonic_ns, reject_key};
use crate::crypto;

/// After the last entry that names an answer has expired: how long its place keeps it.
const REST: Duration = Duration::from_secs(10);
/// The same where answers are repeated, for as long as a client's TCP may ask.
const REST_WHERE_KEPT: Duration = Duration::from_secs(1200);
/// Between two lines that say there is no room.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// One token that the kernel is to refuse.
pub struct RejectedToken<'a> {
    /// The listener's number.
    pub listener: u32,
    /// The value of `Host` as it came.
    pub host: &'a [u8],
    /// The token as it came.
    pub token: &'a [u8],
    /// The generation under which it was proven bad.
    pub generation: u64,
    /// When it may be looked at again.
    pub until: Instant,
    /// The whole answer, where it ends the connection.
    pub reply: &'a [u8],
    /// The same, where it does not; for listeners that keep connections.
    pub kept_reply: Option<&'a [u8]>,
}

/// Which requests of a listener are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// None.
    No,
    /// Those that are the first of their connection.
    First,
    /// Later ones, too.
    Kept,
}

/// Holds the maps and the programs' links.
pub(super) struct Rejections {
    listeners: HashMap<MapData, u16, RejectListener>,
    armed: HashSet<u16>,
    armed_count: Array<MapData, u64>,
    rejected: HashMap<MapData, RejectKey, RejectEntry>,
    generations: Array<MapData, u64>,
    replies: Array<MapData, Reply>,
    counters: PerCpuArray<MapData, u64>,
    key: [u64; 2],
    /// Whether answers may have to be repeated, so that their places keep them.
    keeps: bool,
    /// Where each answer stands, and until when the kernel may look for it.
    places: Map<Box<[u8]>, (u32, Instant)>,
    /// When it was last logged that there is no room.
    warned: Option<Instant>,
    links: Vec<SchedClassifierLink>,
}

impl Rejections {
    /// Takes over the maps and gives the programs their key.
    pub(super) fn new(ebpf: &mut Ebpf, keeps: bool) -> Result<Self, Error> {
        let key = [u64::from_ne_bytes(crypto::random()), u64::from_ne_bytes(crypto::random())];
        let mut keys: Array<MapData, [u64; 2]> = loader::take_map(ebpf, REJECT_KEY)?;
        keys.set(0, key, 0)?;
        Ok(Self {
            listeners: loader::take_map(ebpf, REJECT_LISTENERS)?,
            armed: HashSet::new(),
            armed_count: loader::take_map(ebpf, REJECT_ARMED)?,
            rejected: loader::take_map(ebpf, REJECTED)?,
            generations: loader::take_map(ebpf, REJECT_GENERATION)?,
            replies: loader::take_map(ebpf, REPLIES)?,
            counters: loader::take_map(ebpf, REJECT_COUNTERS)?,
            key,
            keeps,
            places: Map::new(),
            warned: None,
            links: Vec::new(),
        })
    }

    /// Puts both programs on an interface: natively, or on the older kernels' qdisc.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, interface: &str) -> Result<(), Error> {
        for (name, direction) in [(REJECT_PROGRAM, TcAttachType::Ingress), (HANDSHAKE_PROGRAM, TcAttachType::Egress)] {
            let program = ebpf.program_mut(name).ok_or(Error::Object { name })?;
            let program: &mut SchedClassifier = program.try_into().map_err(|_| Error::Object { name })?;
            let failed = |source: ProgramError| Error::Attach { interface: interface.to_owned(), source };
            let link = TcAttachOptions::TcxOrder(LinkOrder::default());
            let id = match program.attach_with_options(interface, direction, link) {
                Ok(id) => id,
                // Before Linux 6.6.
                Err(error @ ProgramError::SyscallError(_)) => {
                    let reason = loader::chain(&error);
                    info!(interface, program = name, reason, "no tcx: attaching to the clsact qdisc");
                    // It is there already where somebody else uses it.
                    let _ = tc::qdisc_add_clsact(interface);
                    // What a killed process left behind passes everything by now, and only costs time.
                    let _ = tc::qdisc_detach_program(interface, direction, name);
                    let filter = TcAttachOptions::Netlink(NlOptions::default());
                    program.attach_with_options(interface, direction, filter).map_err(failed)?
                }
                Err(error) => return Err(failed(error)),
            };
            self.links.push(program.take_link(id).map_err(failed)?);
        }
        info!(interface, "programs of kernel_reject attached");
        Ok(())
    }

    /// Takes them off.
    pub(super) fn detach(&mut self) {
        self.links.clear();
    }

    /// Whether requests to this port are looked at.
    pub(super) fn arm(&mut self, port: u16, listener: u32, judged: Judged) -> Result<(), Error> {
        let armed = match judged {
            Judged::No => 0,
            Judged::First => FIRST,
            Judged::Kept => FIRST | KEPT,
        };
        self.listeners.insert(port, RejectListener { armed, listener }, 0)?;
        match judged {
            Judged::No => self.armed.remove(&port),
            Judged::First | Judged::Kept => self.armed.insert(port),
        };
        Ok(self.armed_count.set(0, self.armed.len() as u64, 0)?)
    }

    /// From here on entries of other generations count no more.
    pub(super) fn set_generation(&mut self, generation: u64) -> Result<(), Error> {
        self.generations.set(0, generation, 0)?;
        Ok(())
    }

    /// Has the kernel refuse a token. An answer for which there is no room leaves the token to userspace.
    pub(super) fn insert(&mut self, rejected: &RejectedToken<'_>) -> Result<(), Error> {
        let Some(reply) = self.place(rejected.reply, rejected.until)? else { return Ok(()) };
        // A place that is none lets requests pass.
        let kept_reply = match rejected.kept_reply {
            Some(kept_reply) => self.place(kept_reply, rejected.until)?.unwrap_or(REPLY_CAPACITY),
            None => REPLY_CAPACITY,
        };
        let key = reject_key(self.key, rejected.listener, rejected.host, rejected.token);
        let expires_ns = monotonic_ns(rejected.until)?;
        let entry = RejectEntry { generation: rejected.generation, expires_ns, reply, kept_reply };
        Ok(self.rejected.insert(key, entry, 0)?)
    }

    /// The place of an answer that may be given until then. Answers have the host in them, which clients choose: where all
    /// places are taken, one is taken anew that nobody can ask for any more.
    fn place(&mut self, reply: &[u8], until: Instant) -> Result<Option<u32>, Error> {
        if let Some((place, used)) = self.places.get_mut(reply) {
            *used = until.max(*used);
            return Ok(Some(*place));
        }
        let mut bytes = [0; REPLY_BYTES as usize];
        let place = match u32::try_from(self.places.len()) {
            Ok(place) if place < REPLY_CAPACITY => Some(place),
            _ => self.vacate(),
        };
        let (Some(place), Some(room)) = (place, bytes.get_mut(..reply.len())) else {
            let now = Instant::now();
            if self.warned.is_none_or(|warned| now.duration_since(warned) >= WARN_EVERY) {
                self.warned = Some(now);
                warn!(bytes = reply.len(), "no room for an answer of kernel_reject: userspace gives it");
            }
            return Ok(None);
        };
        room.copy_from_slice(reply);
        self.replies.set(place, Reply { length: reply.len() as u32, pad: 0, bytes }, 0)?;
        self.places.insert(reply.into(), (place, until));
        Ok(Some(place))
    }

    /// Gives up the answer that was asked for longest ago, if that is long enough.
    fn vacate(&mut self) -> Option<u32> {
        let rest = if self.keeps { REST_WHERE_KEPT } else { REST };
        let (reply, (place, used)) = self.places.iter().min_by_key(|(_, (_, used))| *used)?;
        if used.elapsed() < rest {
            return None;
        }
        let (reply, place) = (reply.clone(), *place);
        self.places.remove(&reply);
        Some(place)
    }

    /// What became of first requests, by name.
    pub(super) fn counters(&self) -> Vec<(&'static str, u64)> {
        sums(&self.counters, RejectCounter::ALL.map(|counter| (counter.index(), counter.name())))
    }

    /// Tokens, and as many as there may be.
    pub(super) fn fill(&self) -> (usize, u32) {
        (self.rejected.keys().filter(Result::is_ok).count(), REJECTED_CAPACITY)
    }
}
