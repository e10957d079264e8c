//! The kernel programs as the rest of the edge sees them: a handle, which may be a disabled one. They make refusals
//! cheaper and decide nothing: all that is lost without them is speed.

mod counters;
mod error;
mod gates;
mod handover;
mod kept;
mod lanes;
mod loader;
mod log;
mod penalties;
mod pins;
mod publisher;
mod rejections;
mod samples;
mod status;
mod token_hash;
mod vips;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aya::Ebpf;
use nix::time::{ClockId, clock_gettime};
use tracing::{info, warn};

use self::{
    counters::Counters,
    kept::Kept,
    lanes::Lanes,
    penalties::Penalties,
    pins::{Held, Pins},
    publisher::Publisher,
    rejections::Rejections,
    vips::VirtualAddresses,
};
pub use self::{
    error::Error,
    gates::Gates,
    lanes::{Lane, unsteer},
    loader::OBJECT,
    log::LogReader,
    publisher::Changes,
    rejections::{Judged, RejectedToken},
    samples::{Sample, SampleReader},
    status::Program,
    token_hash::reject_key,
    vips::Vips,
};
/// Which sources the operator denies, asked in userspace: the kernel only answers earlier, so that no one gets in
/// without a program who would not have got in otherwise (X1).
pub use crate::settings::CidrSet as DenyList;
use crate::settings::{self, Cidr, KernelMode, PenaltyMode};
/// Of the frames dropped in one way on one CPU, one in so many is sampled.
pub use edge_ebpf::SAMPLE_EVERY;

/// How a program is attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XdpVariant {
    /// In the driver, before the kernel spends anything on the frame.
    Native,
    /// In the kernel's stack: any driver, a little later.
    Generic,
}

/// One interface with a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Its name.
    pub interface: String,
    /// How.
    pub variant: XdpVariant,
}

/// The running kernel programs; dropping it detaches them. A disabled one takes the same calls and does nothing.
#[derive(Default)]
pub struct Kernel {
    active: Option<Active>,
}

struct Active {
    attachments: Vec<Attachment>,
    counters: Counters,
    publisher: Mutex<Publisher>,
    penalties: Mutex<Penalties>,
    lanes: Mutex<Lanes>,
    vips: Mutex<VirtualAddresses>,
    rejections: Mutex<Rejections>,
    kept: Mutex<Kept>,
    /// Whether a listener wants them.
    keeps: bool,
    log: Option<LogReader>,
    samples: Option<SampleReader>,
    pins: Option<Pins>,
    links: Mutex<Vec<Held>>,
    /// Holds the programs.
    ebpf: Mutex<Ebpf>,
}

/// Loads what the settings ask for and puts the programs on the interfaces.
pub fn start(settings: &settings::Kernel) -> Result<Kernel, Error> {
    let mut kernel = load(settings, None)?;
    kernel.attach(settings)?;
    Ok(kernel)
}

/// Loads what the settings ask for; nothing runs yet. What is called on the handle after it was attached needs no
/// privilege (Linux 6.1), so the caller drops them then. `handed`: what the generation before gave (`handed`).
pub fn load(settings: &settings::Kernel, handed: Option<OwnedFd>) -> Result<Kernel, Error> {
    let is_wanted = !settings.interfaces.is_empty() || settings.lanes || settings.has_vips;
    match settings.mode {
        KernelMode::Off => Ok(Kernel::disabled()),
        KernelMode::Auto if !is_wanted => {
            info!("no interface is named in [kernel], so no kernel program runs");
            Ok(Kernel::disabled())
        }
        KernelMode::Required if !is_wanted => Err(Error::NoInterface),
        KernelMode::Required => Ok(Kernel { active: Some(Active::load(settings, handed)?) }),
        KernelMode::Auto => match Active::load(settings, handed) {
            Ok(active) => Ok(Kernel { active: Some(active) }),
            Err(error) => {
                warn!(reason = loader::chain(&error), "no kernel program runs; userspace does all of the work");
                if settings.has_vips {
                    tracing::error!("without kernel programs no connection to `vips` reaches a listener");
                }
                Ok(Kernel::disabled())
            }
        },
    }
}

/// Whether this process may load the programs here: loads them, attaches nothing, and lets them go.
pub fn try_load() -> Result<(), Error> {
    loader::load(&settings::Penalty::default(), None, false).map(drop)
}

impl Kernel {
    /// A handle without programs.
    pub fn disabled() -> Self {
        Self::default()
    }

    /// Whether programs run.
    pub fn is_active(&self) -> bool {
        self.active.is_some()
    }

    /// The interfaces with a program, and how each is attached.
    pub fn attachments(&self) -> &[Attachment] {
        self.active.as_ref().map_or(&[], |active| &active.attachments)
    }

    /// Puts the programs on the interfaces. In mode `auto`, where that fails, no program runs.
    pub fn attach(&mut self, settings: &settings::Kernel) -> Result<(), Error> {
        let Some(active) = &mut self.active else { return Ok(()) };
        match active.attach(settings) {
            Ok(()) => Ok(()),
            Err(error) if settings.mode == KernelMode::Auto => {
                warn!(
                    reason = loader::chain(&error),
                    "no kernel program runs on interfaces; userspace does their work"
                );
                if !settings.lanes && !settings.has_vips {
                    self.active = None;
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Has the kernel refuse a bad token.
    pub fn reject(&self, rejected: &RejectedToken<'_>) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.rejections().insert(rejected))
    }

    /// Whether requests to this port of a listener are looked at.
    pub fn arm(&self, port: u16, listener: u32, judged: Judged) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.rejections().arm(port, listener, judged))
    }

    /// Where kept connections stand; nothing where no program answers on them.
    pub fn gates(&self) -> Option<Arc<Gates>> {
        self.active.as_ref().filter(|active| active.keeps).map(|active| active.kept().gates.clone())
    }

    /// Has the kernel keep the state of a connection, whose gate has this place.
    pub fn keep(&self, client: SocketAddr, server: SocketAddr, gate: u32) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.kept().insert(client, server, gate))
    }

    /// Has it forget that.
    pub fn forget_kept(&self, client: SocketAddr, server: SocketAddr) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.kept().remove(client, server))
    }

    /// How many connections the kernel is to look for.
    pub fn count_kept(&self, count: u64) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.kept().set_count(count))
    }

    /// From here on rejected tokens of other generations count no more.
    pub fn set_reject_generation(&self, generation: u64) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.rejections().set_generation(generation))
    }

    /// Takes the programs off that refuse tokens, and has none be refused on kept connections.
    pub fn detach_rejections(&self) {
        if let Some(active) = &self.active {
            active.rejections().detach();
            active.kept().gates.close_all();
        }
    }

    /// What became of first requests; nothing where no program looks at them.
    pub fn reject_counters(&self) -> Vec<(&'static str, u64)> {
        self.active.as_ref().map_or_else(Vec::new, |active| active.rejections().counters())
    }

    /// Penalties that an earlier process left: addresses, when they are free, and the notes they came with.
    pub fn kept_penalties(&self) -> Result<Vec<(IpAddr, Instant, u32)>, Error> {
        self.penalties().map_or(Ok(Vec::new()), |mut penalties| penalties.kept())
    }

    /// Has connections of a listener choose among these sockets: as many of each lane, one for each worker.
    pub fn steer(&self, sockets: &[TcpListener]) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.lanes().steer(&active.ebpf(), sockets))
    }

    /// Puts a source into a lane until then. `address`: the first of its prefix.
    pub fn set_lane(&self, address: IpAddr, lane: Lane, until: Instant) -> Result<(), Error> {
        self.active.as_ref().map_or(Ok(()), |active| active.lanes().insert(address, lane, until))
    }

    /// Where new connections went, by lane; nothing where no program chooses.
    pub fn lane_counters(&self) -> Vec<(&'static str, u64)> {
        self.active.as_ref().map_or_else(Vec::new, |active| active.lanes().counters())
    }

    /// Has connections to virtual addresses reach their listeners, through one socket of each.
    pub fn attach_vips(&mut self, vips: &[Vips], sockets: &[(u32, &TcpListener)]) -> Result<(), Error> {
        let Some(active) = &mut self.active else { return Ok(()) };
        let mut addresses = active.vips.lock().unwrap_or_else(PoisonError::into_inner);
        for (listener, socket) in sockets {
            addresses.set_socket(*listener, socket)?;
        }
        addresses.publish(vips)?;
        addresses.attach(active.ebpf.get_mut().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes these the virtual addresses, as after changed settings; connections go on.
    pub fn publish_vips(&self, vips: &[Vips]) -> Result<Changes, Error> {
        self.active.as_ref().map_or(Ok(Changes::default()), |active| active.vips().publish(vips))
    }

    /// What became of connections to virtual addresses.
    pub fn vip_counters(&self) -> Vec<(&'static str, u64)> {
        self.active.as_ref().map_or_else(Vec::new, |active| active.vips().counters())
    }

    /// Makes the kernel deny exactly these networks, as after changed settings.
    pub fn publish_deny(&self, deny: &[Cidr]) -> Result<Changes, Error> {
        let Some(active) = &self.active else { return Ok(Changes::default()) };
        // A panic between two writes leaves the publisher true to the maps.
        active.publisher.lock().unwrap_or_else(PoisonError::into_inner).publish(deny)
    }

    /// The same where another process may have written meanwhile: a generation that shared the maps and did not serve.
    pub fn restore_deny(&self, deny: &[Cidr]) -> Result<Changes, Error> {
        let Some(active) = &self.active else { return Ok(Changes::default()) };
        let mut publisher = active.publisher.lock().unwrap_or_else(PoisonError::into_inner);
        publisher.look();
        publisher.publish(deny)
    }

    /// Makes these the ports at which penalties count, and no others.
    pub fn guard(&self, ports: &HashSet<u16>) -> Result<(), Error> {
        self.penalties().map_or(Ok(()), |mut penalties| penalties.guard(ports))
    }

    /// Drops new connections of a source until then, or counts them alone. `address`: the first of its prefix.
    /// `note`: the caller's own, for `kept_penalties`.
    pub fn penalize(&self, address: IpAddr, until: Instant, mode: PenaltyMode, note: u32) -> Result<(), Error> {
        self.penalties().map_or(Ok(()), |mut penalties| penalties.insert(address, until, mode, note))
    }

    /// Lets a source connect again.
    pub fn release(&self, address: IpAddr) -> Result<(), Error> {
        self.penalties().map_or(Ok(()), |mut penalties| penalties.remove(address))
    }

    /// Frames dropped for a source's penalty, or that would have been; nothing where the kernel knows of none.
    pub fn penalty_frames(&self, address: IpAddr) -> Option<u64> {
        self.penalties()?.frames(address)
    }

    fn penalties(&self) -> Option<MutexGuard<'_, Penalties>> {
        // Each call is one write or read, so a panic leaves nothing half done.
        Some(self.active.as_ref()?.penalties.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The loaded programs.
    pub fn programs(&self) -> Vec<Program> {
        self.active.as_ref().map_or_else(Vec::new, |active| status::programs(&active.ebpf()))
    }

    /// The maps with their entries and how many they take.
    pub fn maps(&self) -> Vec<(&'static str, u64, u64)> {
        let Some(active) = &self.active else { return Vec::new() };
        let (deny_v4, deny_v6) = active.publisher.lock().unwrap_or_else(PoisonError::into_inner).fill();
        let (penalty_v4, penalty_v6) = self.penalties().map_or((0, 0), |penalties| penalties.fill());
        let (lane_v4, lane_v6) = active.lanes().fill();
        let (vips_v4, vips_v6) = active.vips().fill();
        let (rejected, rejected_capacity) = active.rejections().fill();
        let of = |name, entries: usize, capacity: u32| (name, entries as u64, u64::from(capacity));
        vec![
            of(edge_ebpf::DENY_V4, deny_v4, edge_ebpf::DENY_CAPACITY),
            of(edge_ebpf::DENY_V6, deny_v6, edge_ebpf::DENY_CAPACITY),
            of(edge_ebpf::PENALTY_V4, penalty_v4, edge_ebpf::PENALTY_CAPACITY),
            of(edge_ebpf::PENALTY_V6, penalty_v6, edge_ebpf::PENALTY_CAPACITY),
            of(edge_ebpf::LANE_V4, lane_v4, edge_ebpf::LANE_CAPACITY),
            of(edge_ebpf::LANE_V6, lane_v6, edge_ebpf::LANE_CAPACITY),
            of(edge_ebpf::rejection::REJECTED, rejected, rejected_capacity),
            of(edge_ebpf::kept::FLOWS, active.kept().fill(), edge_ebpf::kept::FLOW_CAPACITY),
            of(edge_ebpf::VIPS_V4, vips_v4, edge_ebpf::VIP_CAPACITY),
            of(edge_ebpf::VIPS_V6, vips_v6, edge_ebpf::VIP_CAPACITY),
        ]
    }

    /// What became of the frames so far, by name; nothing where no program runs.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        self.active.as_ref().map_or_else(Vec::new, |active| active.counters.read())
    }

    /// The reader of the programs' log lines, once, where they are wanted. No thread of its own: it would be started
    /// before the caller drops privileges and could keep them.
    pub fn take_log(&mut self) -> Option<LogReader> {
        self.active.as_mut()?.log.take()
    }

    /// The reader of samples of what is dropped, once.
    pub fn take_samples(&mut self) -> Option<SampleReader> {
        self.active.as_mut()?.samples.take()
    }
}

impl Active {
    fn load(settings: &settings::Kernel, handed: Option<OwnedFd>) -> Result<Self, Error> {
        let debug = LogReader::wanted();
        let owner = settings.pin_owner.as_deref();
        let pins = match &settings.pin {
            Some(path) => Some(Pins::at(path, owner)?),
            None => Pins::unmounted(handed, owner),
        };
        let mut ebpf = loader::load(&settings.penalty, pins.as_ref(), debug)?;
        let counters = Counters::new(&mut ebpf)?;
        let mut publisher = Publisher::new(&mut ebpf)?;
        let penalties = Mutex::new(Penalties::new(&mut ebpf)?);
        let lanes = Mutex::new(Lanes::new(&mut ebpf)?);
        let vips = Mutex::new(VirtualAddresses::new(&mut ebpf)?);
        let rejections = Mutex::new(Rejections::new(&mut ebpf, settings.keeps)?);
        let kept = Mutex::new(Kept::new(&mut ebpf)?);
        let samples = Some(SampleReader::new(&mut ebpf)?);
        let log = if debug { Some(LogReader::new(&mut ebpf)?) } else { None };
        // Entries before programs: from its first frame on, a program knows all of them.
        publisher.publish(&settings.deny)?;
        let (attachments, publisher, links) = (Vec::new(), Mutex::new(publisher), Mutex::default());
        Ok(Self {
            attachments,
            counters,
            publisher,
            penalties,
            lanes,
            vips,
            rejections,
            kept,
            keeps: settings.keeps,
            log,
            samples,
            pins,
            links,
            ebpf: Mutex::new(ebpf),
        })
    }

    fn attach(&mut self, settings: &settings::Kernel) -> Result<(), Error> {
        // On some devices, virtual ones above all, a program costs every packet more than its own time.
        let drops = !settings.deny.is_empty() || settings.penalty.mode != PenaltyMode::Off;
        let ebpf = self.ebpf.get_mut().unwrap_or_else(PoisonError::into_inner);
        for interface in &settings.interfaces {
            if drops {
                let (attachment, link) = loader::attach(ebpf, self.pins.as_ref(), interface)?;
                self.attachments.push(attachment);
                self.links.lock().unwrap_or_else(PoisonError::into_inner).push(link);
            }
            if settings.rejects {
                let mut rejections = self.rejections.lock().unwrap_or_else(PoisonError::into_inner);
                rejections.attach(ebpf, interface)?;
            }
            if settings.keeps {
                let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
                kept.attach(ebpf, interface)?;
            }
        }
        if let Some(pins) = &self.pins {
            pins.clean(&self.links());
        }
        Ok(())
    }

    // Each call on one of these is one write or read, so a panic leaves nothing half done.
    fn ebpf(&self) -> MutexGuard<'_, Ebpf> {
        self.ebpf.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn links(&self) -> MutexGuard<'_, Vec<Held>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lanes(&self) -> MutexGuard<'_, Lanes> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn rejections(&self) -> MutexGuard<'_, Rejections> {
        self.rejections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn vips(&self) -> MutexGuard<'_, VirtualAddresses> {
        self.vips.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A moment on the kernel's clock, in nanoseconds.
fn monotonic_ns(moment: Instant) -> Result<u64, Error> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(std::io::Error::from).map_err(Error::Clock)?;
    let left = moment.saturating_duration_since(Instant::now());
    Ok(u64::try_from((Duration::from(now) + left).as_nanos()).unwrap_or(u64::MAX))
}

impl Drop for Active {
    fn drop(&mut self) {
        info!("detaching the kernel programs");
    }
}
