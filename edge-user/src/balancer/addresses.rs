//! The addresses of targets: what their names stand for now. Asking is the resolver's.

use std::net::{IpAddr, SocketAddr};
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

/// What the resolver says of a name. Addresses that lead to `admin` are left out, whoever answers for the name: the
/// Admin API trusts those who reach it (A2).
pub(super) async fn ask(resolver: Arc<Resolver>, target: Target, name: Box<str>, admin: Option<SocketAddr>) -> Answer {
    let answer = resolver.lookup(&name).await.ok()?;
    let found = answer.addresses.iter().map(|record| Found {
        address: record.address,
        port: record.port,
        weight: record.port.map(|_| u32::from(record.weight)),
        name: record.name.clone(),
    });
    let leads_there = |found: &Found| admin.is_some_and(|admin| leads_to(found.address, found.port(&target), admin));
    let found: Arc<[Found]> = found.filter(|found| !leads_there(found)).collect();
    (!found.is_empty()).then_some(found)
}

/// Whether a connection to this address arrives at a listener of this machine.
pub(crate) fn leads_to(address: IpAddr, port: u16, listener: SocketAddr) -> bool {
    let (address, own) = (address.to_canonical(), listener.ip().to_canonical());
    let here = address == own || address.is_loopback() || address.is_unspecified();
    here && port == listener.port() && port != 0
}

/// A target as its entity spells it, with the port that applies.
pub(super) fn label(target: &Target) -> String {
    format!("{}:{}", target.host, target.port.unwrap_or(DEFAULT_PORT))
}

#[cfg(test)]
mod tests {
    use super::*;

    // A2
    #[test]
    fn the_admin_api_is_known_by_every_address_that_leads_to_it() {
        for (address, port, admin, leads) in [
            ("127.0.0.1", 8001, "127.0.0.1:8001", true),
            ("127.9.9.9", 8001, "127.0.0.1:8001", true),
            ("::1", 8001, "127.0.0.1:8001", true),
            ("::ffff:127.0.0.1", 8001, "127.0.0.1:8001", true),
            ("0.0.0.0", 8001, "127.0.0.1:8001", true),
            ("10.0.0.7", 8001, "10.0.0.7:8001", true),
            ("127.0.0.1", 8001, "10.0.0.7:8001", true),
            ("127.0.0.1", 8002, "127.0.0.1:8001", false),
            ("10.0.0.8", 8001, "10.0.0.7:8001", false),
            ("127.0.0.1", 0, "127.0.0.1:0", false),
        ] {
            let (address, admin) = (address.parse().unwrap(), admin.parse().unwrap());
            assert_eq!(leads_to(address, port, admin), leads, "{address} {port} {admin}");
        }
    }
}
