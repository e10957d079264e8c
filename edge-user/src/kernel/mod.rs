//! The kernel programs as the rest of the edge sees them: a handle, which may be a disabled one. They make refusals
//! cheaper and decide nothing: all that is lost without them is speed.

mod counters;
mod loader;
mod log;
mod publisher;
mod token_hash;

use std::sync::{Mutex, PoisonError};

use aya::Ebpf;
use tracing::{info, warn};

use self::{counters::Counters, publisher::Publisher};
pub use self::{loader::OBJECT, log::LogReader, publisher::Changes, token_hash::reject_key};
/// Which sources the operator denies, asked in userspace: the kernel only answers earlier, so that no one gets in
/// without a program who would not have got in otherwise (X1).
pub use crate::settings::CidrSet as DenyList;
use crate::settings::{self, Cidr, KernelMode};

/// Why the kernel programs do not run, or do not run as told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The process may not load programs.
    #[error("loading kernel programs needs {missing}; start as root, or give the process these capabilities")]
    Capabilities {
        /// The capabilities it lacks.
        missing: String,
    },
    /// The kernel was built without BPF, or hides it.
    #[error("this kernel has no BPF")]
    NoBpf,
    /// Capabilities are there, but not in the kernel's own user namespace, or a security module says no.
    #[error("the kernel forbids loading BPF programs here, as in a container or a user namespace")]
    Forbidden,
    /// This kernel's verifier cannot prove the program safe.
    #[error("the kernel's verifier refuses the program: {reason}")]
    Verifier {
        /// Its last word; the rest is logged at debug level.
        reason: String,
    },
    /// `[kernel] mode = "required"` without an interface would require nothing.
    #[error("mode `required` needs at least one interface")]
    NoInterface,
    /// The kernel does not take the object.
    #[error("loading the kernel programs")]
    Load {
        /// What it answered.
        #[source]
        source: Box<aya::EbpfError>,
    },
    /// The object does not hold what the ABI says.
    #[error("the kernel object has no `{name}`: it is not the one this program was built with")]
    Object {
        /// The map or program that is missing.
        name: &'static str,
    },
    /// Neither the native nor the generic way works.
    #[error("attaching to interface `{interface}`")]
    Attach {
        /// The interface named in the settings.
        interface: String,
        /// What the kernel answered.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// A map cannot be read or written.
    #[error("reading or writing a kernel map")]
    Map(#[from] aya::maps::MapError),
    /// More networks than a deny trie takes.
    #[error("{found} denied networks of one address family, and the kernel takes {}", edge_ebpf::DENY_CAPACITY)]
    DenyCapacity {
        /// How many there are.
        found: usize,
    },
    /// The programs' log lines cannot be read.
    #[error("reading the kernel programs' log")]
    Log(#[from] aya_log::Error),
}

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
    log: Option<LogReader>,
    /// Holds the programs and their links.
    _ebpf: Ebpf,
}

/// Loads and attaches what the settings ask for. Later calls on the handle need no privilege (Linux 6.1), so the
/// caller drops them after this.
pub fn start(settings: &settings::Kernel) -> Result<Kernel, Error> {
    match settings.mode {
        KernelMode::Off => Ok(Kernel::disabled()),
        KernelMode::Auto if settings.interfaces.is_empty() => {
            info!("no interface is named in [kernel], so no kernel program runs");
            Ok(Kernel::disabled())
        }
        KernelMode::Required if settings.interfaces.is_empty() => Err(Error::NoInterface),
        KernelMode::Required => Ok(Kernel { active: Some(Active::start(settings)?) }),
        KernelMode::Auto => match Active::start(settings) {
            Ok(active) => Ok(Kernel { active: Some(active) }),
            Err(error) => {
                warn!(reason = loader::chain(&error), "no kernel program runs; userspace does all of the work");
                Ok(Kernel::disabled())
            }
        },
    }
}

/// Whether this process may load the programs here: loads them, attaches nothing, and lets them go.
pub fn try_load() -> Result<(), Error> {
    loader::load(false).map(drop)
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

    /// Makes the kernel deny exactly these networks, as after changed settings.
    pub fn publish_deny(&self, deny: &[Cidr]) -> Result<Changes, Error> {
        let Some(active) = &self.active else { return Ok(Changes::default()) };
        // A panic between two writes leaves the publisher true to the maps.
        active.publisher.lock().unwrap_or_else(PoisonError::into_inner).publish(deny)
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
}

impl Active {
    fn start(settings: &settings::Kernel) -> Result<Self, Error> {
        let debug = LogReader::wanted();
        let mut ebpf = loader::load(debug)?;
        let counters = Counters::new(&mut ebpf)?;
        let mut publisher = Publisher::new(&mut ebpf)?;
        let log = if debug { Some(LogReader::new(&mut ebpf)?) } else { None };
        // Entries before programs: from its first frame on, a program knows all of them.
        publisher.publish(&settings.deny)?;
        let mut attachments = Vec::new();
        for interface in &settings.interfaces {
            attachments.push(loader::attach(&mut ebpf, interface)?);
        }
        Ok(Self { attachments, counters, publisher: Mutex::new(publisher), log, _ebpf: ebpf })
    }
}

impl Drop for Active {
    fn drop(&mut self) {
        info!("detaching the kernel programs");
    }
}
