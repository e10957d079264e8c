//! Names of upstreams to addresses: looked up on the control runtime, kept for a while, never by a worker.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use dashmap::DashMap;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// Age at which an answer is refreshed behind the requests that still use it.
const FRESH: Duration = Duration::from_secs(30);
/// Age up to which a name server's outage goes unnoticed.
const STALE: Duration = Duration::from_secs(600);
/// Names kept; configuration bounds them, reloads could pile up old ones.
const MAX_NAMES: usize = 4096;

type Addresses = Arc<[IpAddr]>;

struct Entry {
    addresses: watch::Receiver<Option<Addresses>>,
    since: Instant,
    refreshing: AtomicBool,
}

/// The resolver all workers share.
pub struct Resolver {
    control: Option<Handle>,
    limit: Duration,
    names: DashMap<Box<str>, Arc<Entry>>,
}

impl Resolver {
    /// A resolver that looks names up on `control`, each look-up bounded by `limit`.
    pub fn new(control: Handle, limit: Duration) -> Arc<Self> {
        Arc::new(Self { control: Some(control), limit, names: DashMap::new() })
    }

    /// A resolver that knows no name.
    pub fn idle() -> Arc<Self> {
        Arc::new(Self { control: None, limit: Duration::ZERO, names: DashMap::new() })
    }

    /// The addresses of a name, or nothing if it has none or nobody answered in time.
    pub async fn lookup(self: &Arc<Self>, name: &str) -> Option<Addresses> {
        if let Some(entry) = self.names.get(name).map(|entry| entry.clone()) {
            let known = entry.addresses.borrow().clone();
            let age = entry.since.elapsed();
            if let Some(addresses) = known.filter(|_| age < STALE) {
                if age >= FRESH && !entry.refreshing.swap(true, Ordering::Relaxed) {
                    self.start(name);
                }
                return Some(addresses);
            }
            // Under way: share it.
            if age < self.limit && entry.addresses.has_changed().is_ok() {
                return wait(entry.addresses.clone()).await;
            }
        }
        wait(self.start(name)).await
    }

    /// Looks a name up; its answer replaces the entry only when there is one, so the old stays in force meanwhile.
    fn start(self: &Arc<Self>, name: &str) -> watch::Receiver<Option<Addresses>> {
        let (sender, receiver) = watch::channel(None);
        let entry =
            Arc::new(Entry { addresses: receiver.clone(), since: Instant::now(), refreshing: AtomicBool::new(false) });
        let known = self.names.get(name).is_some_and(|old| old.addresses.borrow().is_some());
        if !known {
            if self.names.len() >= MAX_NAMES {
                self.names.clear();
            }
            self.names.insert(name.into(), entry.clone());
        }
        let (resolver, name) = (self.clone(), Box::<str>::from(name));
        let Some(control) = &self.control else { return receiver };
        control.spawn(async move {
            let addresses = match tokio::time::timeout(resolver.limit, addresses_of(&name)).await {
                Ok(Ok(found)) => found,
                _ => Vec::new(),
            };
            if addresses.is_empty() {
                tracing::warn!(%name, "upstream name could not be resolved");
                // The next request tries again; a refresh that failed leaves the old answer for another `FRESH`.
                match known {
                    true => resolver.names.get(&*name).inspect(|old| old.refreshing.store(false, Ordering::Relaxed)),
                    false => None,
                };
                return;
            }
            sender.send_replace(Some(addresses.into()));
            resolver.names.insert(name, entry);
        });
        receiver
    }
}

async fn addresses_of(name: &str) -> std::io::Result<Vec<IpAddr>> {
    Ok(tokio::net::lookup_host((name, 0)).await?.map(|address| address.ip()).collect())
}

/// The answer, or nothing once the look-up has given up.
async fn wait(mut addresses: watch::Receiver<Option<Addresses>>) -> Option<Addresses> {
    addresses.wait_for(Option::is_some).await.ok().and_then(|found| found.clone())
}
