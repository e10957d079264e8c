//! Names of targets to addresses, for all workers: asked for on the control runtime, remembered here.
//!
//! An answer is used until its TTL ends; from then on a look-up refreshes it behind the requests that still use it.
//! Whom to ask, and for what, stands in `query`; how long an outcome counts in `state`.

mod query;
mod state;

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use hickory_resolver::net::NetError;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};

use self::query::{Client, Found};
use self::state::State;
use crate::settings::Dns;

/// Names asked for at once; a reload may bring thousands.
const MAX_FLIGHTS: usize = 64;

/// Why there is no resolver.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `dns.hosts_file` went away after it was checked.
    #[error("the hosts file {} cannot be read", path.display())]
    Hosts {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The DNS client refuses its configuration.
    #[error("the DNS client cannot be built")]
    Client(#[source] NetError),
}

/// Why a name has no addresses now.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum LookupError {
    /// The servers say that it has none.
    #[error("the name has no records")]
    NotFound,
    /// The servers could not say.
    #[error("the name servers failed")]
    Failed,
    /// Nobody answered in time.
    #[error("no name server answered in time")]
    TimedOut,
}

/// What a name leads to. While nothing changes it is the same `Arc`, so that a comparison of pointers tells.
#[derive(PartialEq, Eq, Debug)]
pub struct Answer {
    /// In a fixed order; never empty.
    pub addresses: Box<[Record]>,
}

/// One address of a name; port, priority, weight and name are an SRV record's (RFC 2782).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Record {
    /// Where to connect.
    pub address: IpAddr,
    /// `None` without SRV record.
    pub port: Option<u16>,
    /// The lowest of the answer, whose others are left out.
    pub priority: u16,
    /// As the record says; 1 without SRV record.
    pub weight: u16,
    /// The name the SRV record points at, in lower case, without the last dot.
    pub name: Option<Box<str>>,
}

impl Record {
    fn plain(address: IpAddr) -> Self {
        Self { address, port: None, priority: 0, weight: 1, name: None }
    }
}

/// How a look-up ends.
type Outcome = Result<Arc<Answer>, LookupError>;

struct Entry {
    state: watch::Sender<State>,
    /// Whether a flight is under way.
    flying: AtomicBool,
    /// Seconds from the resolver's start to the last use.
    used: AtomicU64,
}

struct Lookups {
    control: Handle,
    client: Client,
    flights: Semaphore,
    limit: Duration,
    settings: Dns,
}

/// The resolver all workers share.
pub struct Resolver {
    lookups: Option<Lookups>,
    started: Instant,
    names: DashMap<Box<str>, Arc<Entry>>,
}

impl Resolver {
    /// A resolver that asks on `control`; a request waits at most `limit` (`timeouts.resolve`).
    pub fn new(control: Handle, settings: &Dns, limit: Duration) -> Result<Arc<Self>, Error> {
        let client = Client::new(settings, limit)?;
        let flights = Semaphore::new(MAX_FLIGHTS);
        Ok(Self::with(Some(Lookups { control, client, flights, limit, settings: settings.clone() })))
    }

    /// A resolver that knows no name.
    pub fn idle() -> Arc<Self> {
        Self::with(None)
    }

    fn with(lookups: Option<Lookups>) -> Arc<Self> {
        Arc::new(Self { lookups, started: Instant::now(), names: DashMap::new() })
    }

    /// What a name leads to; waits only where nothing is known. All that wait share one flight.
    pub async fn lookup(self: &Arc<Self>, name: &str) -> Outcome {
        let Some(lookups) = &self.lookups else { return Err(LookupError::NotFound) };
        let entry = self.entry(name, lookups.settings.cache_size);
        let mut states = entry.state.subscribe();
        let now = Instant::now();
        let outcome = states.borrow_and_update().at(now);
        self.refresh(name, &entry, now);
        if let Some(outcome) = outcome {
            return outcome;
        }
        match tokio::time::timeout(lookups.limit, states.changed()).await {
            Ok(Ok(())) => states.borrow().outcome.clone().unwrap_or(Err(LookupError::Failed)),
            _ => Err(LookupError::TimedOut),
        }
    }

    fn entry(&self, name: &str, cache_size: usize) -> Arc<Entry> {
        let second = self.started.elapsed().as_secs();
        if let Some(entry) = self.names.get(name) {
            // Workers share the line: it is written once a second at most.
            if entry.used.load(Ordering::Relaxed) != second {
                entry.used.store(second, Ordering::Relaxed);
            }
            return entry.clone();
        }
        while self.names.len() >= cache_size {
            let oldest = self.names.iter().min_by_key(|entry| entry.used.load(Ordering::Relaxed));
            let Some(oldest) = oldest.map(|entry| entry.key().clone()) else { break };
            self.names.remove(&oldest);
        }
        let fresh = || {
            let (state, flying) = (watch::Sender::new(State::new(self.started)), AtomicBool::new(false));
            Arc::new(Entry { state, flying, used: AtomicU64::new(second) })
        };
        self.names.entry(name.into()).or_insert_with(fresh).clone()
    }

    /// Begins a flight when it is time and none is under way.
    fn refresh(self: &Arc<Self>, name: &str, entry: &Arc<Entry>, now: Instant) {
        let Some(lookups) = &self.lookups else { return };
        if now < entry.state.borrow().refresh_at || entry.flying.swap(true, Ordering::AcqRel) {
            return;
        }
        let (resolver, entry, name) = (self.clone(), entry.clone(), Box::<str>::from(name));
        lookups.control.spawn(async move {
            let Some(lookups) = &resolver.lookups else { return };
            // The one that flew before may have ended between the two looks above.
            if Instant::now() >= entry.state.borrow().refresh_at {
                let found = lookups.find(&name).await;
                entry.state.send_modify(|state| state.settle(&name, found, &lookups.settings, Instant::now()));
            }
            entry.flying.store(false, Ordering::Release);
        });
    }
}

impl Lookups {
    async fn find(&self, name: &str) -> Result<Found, LookupError> {
        // The wait for its turn is not the name servers'.
        let _permit = self.flights.acquire().await.map_err(|_| LookupError::Failed)?;
        let found = tokio::time::timeout(self.limit, self.client.resolve(name)).await;
        found.unwrap_or(Err(LookupError::TimedOut))
    }
}
