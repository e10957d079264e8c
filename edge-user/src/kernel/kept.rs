//! Kept connections: the map in which the kernel has their state, and the programs that answer on them.

use std::net::SocketAddr;
use std::sync::Arc;

use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData},
    programs::{
        LinkOrder, ProgramError, SchedClassifier, TcAttachType,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
};
use edge_ebpf::kept::{FLOW_COUNT, FLOWS, Flow, KEPT_PROGRAM, SHIFT_PROGRAM};
use edge_ebpf::rejection::HandshakeKey;
use tracing::{info, warn};

use super::{Error, gates::Gates, loader};

/// Holds the maps and the programs' links.
pub(super) struct Kept {
    flows: HashMap<MapData, HandshakeKey, Flow>,
    count: Array<MapData, u64>,
    /// Where workers say how connections stand.
    pub(super) gates: Arc<Gates>,
    links: Vec<SchedClassifierLink>,
}

impl Kept {
    /// Takes over the maps.
    pub(super) fn new(ebpf: &mut Ebpf) -> Result<Self, Error> {
        Ok(Self {
            flows: loader::take_map(ebpf, FLOWS)?,
            count: loader::take_map(ebpf, FLOW_COUNT)?,
            gates: Arc::new(Gates::new(ebpf)?),
            links: Vec::new(),
        })
    }

    /// Puts both programs on an interface, or leaves kept connections to userspace: what takes a program off a qdisc is
    /// not the process's end, and numbers must be changed as long as there are such connections.
    pub(super) fn attach(&mut self, ebpf: &mut Ebpf, interface: &str) -> Result<(), Error> {
        let mut attach = |name: &'static str, direction| {
            let program = ebpf.program_mut(name).ok_or(Error::Object { name })?;
            let program: &mut SchedClassifier = program.try_into().map_err(|_| Error::Object { name })?;
            let link = TcAttachOptions::TcxOrder(LinkOrder::default());
            let failed = |source: ProgramError| Error::Attach { interface: interface.to_owned(), source };
            let id = program.attach_with_options(interface, direction, link).map_err(failed)?;
            program.take_link(id).map_err(failed)
        };
        // Numbers are changed on the way out before the first one is on the way in.
        let links = attach(SHIFT_PROGRAM, TcAttachType::Egress)
            .and_then(|out| Ok([out, attach(KEPT_PROGRAM, TcAttachType::Ingress)?]));
        match links {
            Ok(links) => {
                self.links.extend(links);
                info!(interface, "programs of kernel_reject = \"kept\" attached");
                Ok(())
            }
            Err(Error::Attach { interface, source }) => {
                let reason = loader::chain(&source);
                warn!(interface, reason, "no tcx (Linux 6.6): bad tokens on kept connections are left to userspace");
                self.gates.close_all();
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// Has the kernel keep the state of a connection from now on.
    pub(super) fn insert(&mut self, client: SocketAddr, server: SocketAddr, gate: u32) -> Result<(), Error> {
        Ok(self.flows.insert(key(client, server), Flow { gate, ..Flow::default() }, 0)?)
    }

    /// The connection is over.
    pub(super) fn remove(&mut self, client: SocketAddr, server: SocketAddr) -> Result<(), Error> {
        match self.flows.remove(&key(client, server)) {
            // Its addresses have begun a new connection.
            Err(aya::maps::MapError::KeyNotFound) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// How many connections there are.
    pub(super) fn set_count(&mut self, count: u64) -> Result<(), Error> {
        Ok(self.count.set(0, count, 0)?)
    }

    /// Connections now.
    pub(super) fn fill(&self) -> usize {
        self.flows.keys().filter(Result::is_ok).count()
    }
}

fn key(client: SocketAddr, server: SocketAddr) -> HandshakeKey {
    let mapped = |address: SocketAddr| match address {
        SocketAddr::V4(v4) => v4.ip().to_ipv6_mapped().octets(),
        SocketAddr::V6(v6) => v6.ip().octets(),
    };
    HandshakeKey {
        client: mapped(client),
        server: mapped(server),
        client_port_be: client.port().to_be_bytes(),
        server_port_be: server.port().to_be_bytes(),
    }
}
