//! What can go wrong with kernel programs and maps, in words an operator can act on.

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
    /// The kernel's clock cannot be read.
    #[error("reading the kernel's clock")]
    Clock(#[source] std::io::Error),
    /// Nothing can be kept there.
    #[error("keeping kernel programs and maps at {}", path.display())]
    Pin {
        /// `kernel.pin`, or below it.
        path: std::path::PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// A listening socket, or the network namespace, does not tell what is asked of it.
    #[error("asking for a socket's address or the network namespace")]
    Socket(#[source] std::io::Error),
    /// The kernel does not take the program that chooses sockets.
    #[error("attaching the program of `kernel.lanes`")]
    Lanes {
        /// What it answered.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// More listening sockets than the map takes.
    #[error("{found} listening sockets with lanes, and the kernel takes {}", edge_ebpf::LANE_SOCKETS_CAPACITY)]
    LaneCapacity {
        /// How many there are.
        found: u64,
    },
    /// The kernel does not take the program that finds listeners.
    #[error("attaching the program of `vips`")]
    Vips {
        /// What it answered.
        #[source]
        source: aya::programs::ProgramError,
    },
    /// More listeners with virtual addresses than the maps take.
    #[error("{found} listeners, and virtual addresses are for the first {}", edge_ebpf::VIP_LISTENERS)]
    VipListeners {
        /// How many there are.
        found: u32,
    },
    /// More listeners at one prefix than an entry takes.
    #[error("more than {} listeners have virtual addresses around {prefix}", edge_ebpf::VIP_LISTENERS_PER_PREFIX)]
    VipsOfPrefix {
        /// The prefix.
        prefix: String,
    },
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
