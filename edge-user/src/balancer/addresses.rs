//! The addresses of targets: what their names stand for now. Asking is the resolver's.

use std::net::IpAddr;
use std::sync::Arc;

use super::settings::Target;
use crate::config::snapshot::Host;
use crate::dns::Resolver;

/// The port where neither the target nor an SRV record names one.
const DEFAULT_PORT: u16 = 8000;

/// One address of a target.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Found {
    /// Where to connect.
    pub(super) address: IpAddr,
    /// Of an SRV record, in place of the target's.
    pub(super) port: Option<u16>,
    /// Of an SRV record, in place of the target's.
    pub(super) weight: Option<u32>,
    /// What an SRV record points at.
    pub(super) name: Option<Box<str>>,
}

impl Found {
    fn plain(address: IpAddr) -> Self {
        Self { address, port: None, weight: None, name: None }
    }

    /// The port to connect to.
    pub(super) fn port(&self, target: &Target) -> u16 {
        self.port.or(target.port).unwrap_or(DEFAULT_PORT)
    }

    /// What the address counts: every address of a name counts as much as the target.
    pub(super) fn weight(&self, target: &Target) -> u32 {
        self.weight.unwrap_or(target.weight).max(1)
    }
}

/// The addresses of a target; `None` where its name has none.
pub(super) type Answer = Option<Arc<[Found]>>;

/// What is known without asking: an address is its own answer.
pub(super) fn literal(target: &Target) -> Answer {
    match &target.host {
        Host::Ip(address) => Some([Found::plain(*address)].into()),
        Host::Name(_) => None,
    }
}

/// What the resolver says of a name.
pub(super) async fn ask(resolver: Arc<Resolver>, name: Box<str>) -> Answer {
    let answer = resolver.lookup(&name).await.ok()?;
    let found = answer.addresses.iter().map(|record| Found {
        address: record.address,
        port: record.port,
        weight: record.port.map(|_| u32::from(record.weight)),
        name: record.name.clone(),
    });
    Some(found.collect())
}

/// A target as its entity spells it, with the port that applies.
pub(super) fn label(target: &Target) -> String {
    format!("{}:{}", target.host, target.port.unwrap_or(DEFAULT_PORT))
}
