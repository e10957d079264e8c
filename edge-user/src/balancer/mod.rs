//! From a service to the address of one try: its targets, their order and their health.
//!
//! A service without an upstream entity has a balancer of one target. A worker chooses from an immutable `ring` of
//! addresses with atomics alone; names are looked up and targets probed on the control runtime. `registry` hands
//! balancers, or what they know, from one configuration to the next.

pub(crate) mod addresses;
mod hashing;
mod health;
mod latency;
mod probe;
mod queue;
mod registry;
mod ring;
pub mod settings;
mod wheel;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

pub use self::hashing::{Affinity, HashSource};
pub use self::health::{AddressHealth, State, TargetHealth, UpstreamHealth};
pub use self::queue::Room;
pub use self::registry::Balancers;

use self::addresses::Answer;
use self::queue::{Line, Queue};
use self::ring::{Ring, Rules};
use self::settings::Upstream;
use crate::config::snapshot::Host;
use crate::dns::Resolver;
use crate::reason::Reason;

/// How often a balancer in use asks the resolver, which minds the TTLs, whether its names still stand for the same.
const LOOK_MS: u64 = 1000;
/// How long a look may be overdue, for want of requests, before one waits for it.
const IDLE_MS: u64 = 60_000;
/// No name: nothing is ever due.
const NEVER: u64 = u64::MAX;

/// Milliseconds since the first call.
fn now_ms() -> u64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_millis() as u64
}

/// The targets of one service or upstream.
pub struct Balancer {
    this: Weak<Self>,
    resolver: Arc<Resolver>,
    /// The Admin API's address, where no name may lead.
    admin: Option<SocketAddr>,
    /// Where slow work goes; without it nothing is looked up or probed.
    control: Option<Handle>,
    ring: ArcSwap<Ring>,
    line: Line,
    /// Counts choices.
    turn: AtomicU64,
    /// When to look at the names again, by `now_ms`.
    due_ms: AtomicU64,
    /// Whether somebody looks at them.
    looking: AtomicBool,
    /// Tells the end of each look.
    looks: watch::Sender<()>,
    probes: Mutex<Option<Probes>>,
}

/// What all balancers are made with.
#[derive(Clone)]
struct Shared {
    resolver: Arc<Resolver>,
    control: Option<Handle>,
    admin: Option<SocketAddr>,
    room: Room,
}

/// Running probes; they end with it.
struct Probes(JoinHandle<()>);

impl Drop for Probes {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// How one try ended, as passive health checks and the latency algorithm want to know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A response head came, after so long.
    Answered(u16, Duration),
    /// No connection, or one that broke before the answer.
    Failed,
    /// A wait ended.
    TimedOut,
}

/// The address of one try, which counts as under way until this is dropped.
pub struct Pick {
    /// Where to connect.
    pub address: SocketAddr,
    ring: Arc<Ring>,
    index: usize,
    under_way: bool,
}

impl Pick {
    /// `None` where others have just taken the last of its places.
    fn new(ring: &Arc<Ring>, index: usize) -> Option<Self> {
        let peer = &ring.places[index].peer;
        let entered = peer.enter(ring.rules.queue.limit());
        entered.then(|| Self { address: peer.address, ring: ring.clone(), index, under_way: true })
    }

    /// The try is over: it counts no longer.
    pub fn end(&mut self) {
        if std::mem::take(&mut self.under_way) {
            self.ring.places[self.index].peer.in_flight.fetch_sub(1, Ordering::SeqCst);
            self.ring.rules.queue.changed();
        }
    }

    /// Tells how the try ended.
    pub fn report(&self, outcome: Outcome) {
        self.ring.report(self.index, outcome);
    }

    /// The name for `Host` where `use_srv_name` is set and an SRV record led here.
    pub fn srv_name(&self) -> Option<&str> {
        self.ring.places[self.index].name.as_deref().filter(|_| self.ring.rules.upstream.use_srv_name)
    }
}

impl Drop for Pick {
    fn drop(&mut self) {
        self.end();
    }
}

impl Balancer {
    /// A balancer that starts with what `previous` knows of the same targets.
    fn new(upstream: Upstream, shared: &Shared, previous: Option<&Self>) -> Arc<Self> {
        let Shared { resolver, control, admin, room } = shared.clone();
        let previous = previous.map(|previous| previous.ring.load_full());
        let known = previous.as_ref().map(|ring| (ring.rules.changes.clone(), ring.rules.queue.clone()));
        let (changes, queue) = known.unwrap_or_else(|| (Arc::default(), Arc::new(Queue::new(room))));
        let rules = Arc::new(Rules::new(upstream, changes, queue));
        let answer = |target: &settings::Target| {
            let old = previous.as_ref().and_then(|ring| {
                let same = |old: &settings::Target| (&old.host, old.port) == (&target.host, target.port);
                ring.answers[ring.rules.upstream.targets.iter().position(same)?].clone()
            });
            old.or_else(|| addresses::literal(target))
        };
        let answers = rules.upstream.targets.iter().map(answer).collect();
        let ring = Ring::new(&rules, answers, previous.as_deref());
        let due_ms = if ring.has_names() { now_ms() } else { NEVER };
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            resolver,
            admin,
            control,
            ring: ArcSwap::from_pointee(ring),
            line: Line::default(),
            turn: AtomicU64::new(0),
            due_ms: AtomicU64::new(due_ms),
            looking: AtomicBool::new(false),
            looks: watch::Sender::new(()),
            probes: Mutex::default(),
        })
    }

    /// What consistent hashing makes of a request.
    pub fn affinity(&self, request: &dyn HashSource) -> Affinity {
        hashing::affinity(&self.ring.load().rules.upstream, request)
    }

    /// The address for the next try; `tried` had theirs and come again only when no other is left. `UpstreamResolve`
    /// where no name has an address, `UpstreamUnhealthy` where every target, or by `threshold` the upstream, is down,
    /// `UpstreamBusy` where none had room for it in time.
    pub async fn pick(&self, affinity: &Affinity, tried: &[SocketAddr]) -> Result<Pick, Reason> {
        match self.overdue_ms() {
            None => {}
            // Who has addresses of late does not wait.
            Some(overdue_ms) if overdue_ms < IDLE_MS && !self.ring.load().places.is_empty() => self.look(),
            Some(_) => self.looked().await,
        }
        let ring = self.ring.load_full();
        match ring.rules.queue.limit() {
            0 => self.choose(&ring, affinity, tried),
            // Whoever waited chooses among the targets that are there by then.
            _ => ring.rules.queue.pass(&self.line, || self.choose(&self.ring.load_full(), affinity, tried)).await,
        }
    }

    fn choose(&self, ring: &Arc<Ring>, affinity: &Affinity, tried: &[SocketAddr]) -> Result<Pick, Reason> {
        loop {
            let index = ring.choose(&self.turn, affinity.hash, tried)?;
            if let Some(pick) = Pick::new(ring, index) {
                return Ok(pick);
            }
        }
    }

    /// The names its targets are looked up by.
    pub fn names(&self) -> Vec<Box<str>> {
        self.ring.load().names()
    }

    /// How long a look at the names is due; `None` before.
    fn overdue_ms(&self) -> Option<u64> {
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        // Without names the clock is not even read.
        if due_ms == NEVER { None } else { now_ms().checked_sub(due_ms) }
    }

    /// Looks at the names behind the requests, unless that is under way.
    fn look(&self) {
        let (Some(control), Some(this)) = (&self.control, self.this.upgrade()) else { return };
        if self.looking.swap(true, Ordering::AcqRel) {
            return;
        }
        control.spawn(async move {
            let _ended = Look(&this);
            this.update().await;
        });
    }

    /// Waits for the end of a look; the resolver bounds it.
    async fn looked(&self) {
        if self.control.is_some() {
            let mut looks = self.looks.subscribe();
            self.look();
            let _ = looks.changed().await;
        }
    }

    /// Asks for all names, and replaces the ring where an answer has changed.
    async fn update(&self) {
        let old = self.ring.load_full();
        let targets = &old.rules.upstream.targets;
        let mut answers: Box<[Answer]> = targets.iter().map(addresses::literal).collect();
        let mut lookups = JoinSet::new();
        for (index, target) in targets.iter().enumerate() {
            if let Host::Name(name) = &target.host {
                let asked = addresses::ask(self.resolver.clone(), target.clone(), name.clone(), self.admin);
                lookups.spawn(async move { (index, asked.await) });
            }
        }
        while let Some(looked_up) = lookups.join_next().await {
            if let Ok((index, answer)) = looked_up {
                answers[index] = answer;
            }
        }
        if answers != old.answers {
            self.ring.store(Arc::new(Ring::new(&old.rules, answers, Some(&old))));
            old.rules.queue.changed();
        }
        self.due_ms.store(now_ms() + LOOK_MS, Ordering::Relaxed);
    }

    /// Starts the probes, if any are asked for and none run.
    fn start_probes(&self) {
        let Some(control) = self.control.as_ref().filter(|_| self.ring.load().rules.active) else { return };
        let mut probes = self.probes.lock().unwrap_or_else(PoisonError::into_inner);
        if probes.is_none() {
            *probes = Some(Probes(control.spawn(probe::run(self.this.clone(), self.ring.load().rules.clone()))));
        }
    }

    /// Ends the probes: a successor has taken over.
    fn stop_probes(&self) {
        self.probes.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// The ring as it stands, for probes; names that nobody else asks for are looked at.
    fn current(&self) -> Arc<Ring> {
        if self.overdue_ms().is_some() {
            self.look();
        }
        self.ring.load_full()
    }

    fn waiting(&self) -> u32 {
        self.ring.load().rules.queue.waiting()
    }

    fn health(&self) -> UpstreamHealth {
        let ring = self.ring.load_full();
        let state = |healthy| match healthy {
            _ if !ring.rules.active && !ring.rules.passive => State::HealthchecksOff,
            true => State::Healthy,
            false => State::Unhealthy,
        };
        let address = |place: &ring::Place| AddressHealth {
            address: place.peer.address,
            state: state(place.peer.health.is_healthy()),
            weight: place.weight,
            in_flight: place.peer.in_flight.load(Ordering::Relaxed),
        };
        let targets = ring.rules.upstream.targets.iter().enumerate().map(|(index, target)| {
            let places = || ring.places.iter().filter(|place| place.target == index);
            let state = match places().next() {
                None => State::DnsError,
                Some(_) => state(places().any(|place| place.peer.health.is_healthy())),
            };
            let addresses = places().map(address).collect();
            TargetHealth { target: addresses::label(target), weight: target.weight, state, addresses }
        });
        UpstreamHealth {
            upstream: ring.rules.upstream.name.clone(),
            healthy: ring.is_healthy(),
            changes: [0, 1].map(|to| ring.rules.changes[to].load(Ordering::Relaxed)),
            targets: targets.collect(),
        }
    }
}

/// One look at the names; whatever becomes of it, those who wait go on and the next may begin.
struct Look<'a>(&'a Balancer);

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.looking.store(false, Ordering::Release);
        self.0.looks.send_replace(());
    }
}

#[cfg(test)]
mod tests;
