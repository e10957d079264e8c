//! One worker: a thread with its own runtime, listeners, upstream connections, first-level verdicts and log buffer.
//! A request never leaves the worker that accepted its connection, so nothing here is shared or locked.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio::task::LocalSet;

use crate::clock::{Clock, TICK, Wait};
use crate::config::snapshot::Snapshot;
use crate::crypto;
use crate::kept::KeptConnections;
use crate::kernel::DenyList;
use crate::metrics::WorkerMetrics;
use crate::penalty::{Feed, PenaltyBox, Tally};
use crate::plugin::Ended;
use crate::proxy::Heads;
use crate::proxy::buffers::Buffers;
use crate::proxy::connection::ListenerInfo;
use crate::proxy::context::{Context, RequestId};
use crate::proxy::listener::{self, Bound};
use crate::proxy::owned::OwnedNames;
use crate::proxy::service_of;
use crate::proxy::sources::Sources;
use crate::proxy::upstream::Pool;
use crate::reason::Reason;
use crate::rejection::{Rejections, Remembered};
use crate::settings::Settings;
use crate::store::Store;
use crate::telemetry::{AccessWriter, Record, Refusal, RefusalLog, RefusalRing, SessionRecord};
use crate::tls::ListenerTls;
use crate::token::cache::{LocalCache, VerdictCache};

/// How long the worker still accepts what the kernel has queued once a drain begins, and how often slow chores run.
const CHORES: Duration = Duration::from_secs(1);
/// How long a connection must have waited for a request before it gives way to others.
pub const SETTLED: Duration = Duration::from_secs(1);
/// How often idle connections are looked for at most.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How often the log is told of a crowd at most.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// The part of all connections, one of so many, that gives way at once.
const CROWD: usize = 64;

/// What the whole process asks of its workers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// Accept and serve.
    Serve,
    /// Accept nothing new, finish what is there, close what is idle, then end.
    Drain,
    /// The same for another generation's sake, which accepts in our place: kept connections end with their next answer
    /// and not between two requests, where a client may be sending one.
    Retire,
}

/// A snapshot as one worker sees it.
pub struct View {
    /// The snapshot.
    pub snapshot: Arc<Snapshot>,
    /// The names no client may send under it.
    pub owned: OwnedNames,
}

impl View {
    fn of(snapshot: Arc<Snapshot>, settings: &Settings) -> Rc<Self> {
        let owned = OwnedNames::new(snapshot.owned_names.iter().map(|name| &**name));
        let owned = owned.with_real_ip(settings.proxy.real_ip.source.own_name());
        Rc::new(Self { snapshot, owned })
    }

    /// The TLS of a listener.
    pub fn listener(&self, info: &ListenerInfo) -> Option<&ListenerTls> {
        self.snapshot.listeners.get(info.index)?.as_ref()
    }
}

/// What a worker is made of; sent to its thread.
pub struct Parts {
    /// The node's settings.
    pub settings: Arc<Settings>,
    /// Where snapshots come from.
    pub store: Arc<Store>,
    /// This worker's counters.
    pub metrics: WorkerMetrics,
    /// This worker's end of the access log.
    pub access: AccessWriter,
    /// What this worker's first-level verdict cache is made from.
    pub verdicts: Arc<VerdictCache>,
    /// Sources the operator denies, where the kernel did not drop them already.
    pub denied: Arc<ArcSwap<DenyList>>,
    /// Where bad tokens go that the kernel is to refuse.
    pub rejections: Arc<Rejections>,
    /// Connections on which the kernel refuses some.
    pub kept: Arc<KeptConnections>,
    /// Where this worker's refusals are remembered for a while.
    pub recent: RefusalRing,
    /// Where this worker's counts of good and bad tokens go.
    pub penalties: Feed,
    /// Connections of each source, where those have a limit.
    pub sources: Option<Arc<Sources>>,
    /// This worker's sockets.
    pub listeners: Vec<Bound>,
    /// Client connections this worker may hold.
    pub max_connections: usize,
    /// Bytes it may hold of bodies for slow clients.
    pub buffered_bytes: usize,
    /// The process's phase.
    pub phase: watch::Receiver<Phase>,
}

/// See the module text.
pub struct Worker {
    /// The node's settings.
    pub settings: Arc<Settings>,
    /// Time and time-outs.
    pub clock: Rc<Clock>,
    /// Idle upstream connections.
    pub pool: Pool,
    /// What it may hold of bodies for slow clients.
    pub buffers: Buffers,
    /// Sources the operator denies: what the kernel does early, done here too, so that it changes speed alone (X1).
    pub denied: Arc<ArcSwap<DenyList>>,
    /// Sources that may not connect for a while.
    pub penalties: Arc<PenaltyBox>,
    /// Connections of each source, where those have a limit.
    pub sources: Option<Arc<Sources>>,
    /// Where bad tokens go that the kernel is to refuse, and those of them that came before.
    pub rejections: Arc<Rejections>,
    /// See there.
    pub remembered: Remembered,
    /// Connections on which the kernel refuses some.
    pub kept: Arc<KeptConnections>,
    /// Counters.
    pub metrics: WorkerMetrics,
    /// First-level verdicts.
    pub verdicts: LocalCache,
    /// Whether connections end after their next answer.
    pub draining: Cell<bool>,
    /// Whether idle ones end at once.
    pub closes_idle: Cell<bool>,
    /// How many connections that wait for requests are to end, to make room for others.
    surplus: Cell<usize>,
    /// When idle connections were looked for last, to make room.
    looked: Cell<Option<Instant>>,
    /// When the log was told of a crowd last.
    told: Cell<Option<Instant>>,
    /// Client connections now, and what their end wakes.
    pub connections: Cell<usize>,
    /// Sockets that still accept.
    pub listeners: Cell<usize>,
    /// Woken when a connection or a socket ended.
    pub connection_ended: Notify,
    /// Client connections this worker may hold.
    pub max_connections: usize,
    store: Arc<Store>,
    view: RefCell<Rc<View>>,
    tally: RefCell<Tally>,
    recent: RefusalRing,
    access: RefCell<AccessWriter>,
    refusals: RefCell<RefusalLog>,
    request_ids: Cell<u128>,
}

/// Runs a worker to its end on the calling thread.
pub fn run(parts: Parts) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build()?;
    LocalSet::new().block_on(&runtime, serve(parts))
}

async fn serve(parts: Parts) -> std::io::Result<()> {
    let Parts {
        settings,
        store,
        metrics,
        access,
        verdicts,
        denied,
        rejections,
        kept,
        recent,
        penalties,
        sources,
        listeners,
        max_connections,
        buffered_bytes,
        mut phase,
    } = parts;
    let tally = penalties.tally();
    let view = View::of(store.load_full(), &settings);
    let worker = Rc::new(Worker {
        clock: Clock::new(),
        pool: Pool::new(settings.proxy.keepalive),
        buffers: Buffers::new(buffered_bytes),
        denied,
        penalties: tally.sentences().clone(),
        sources,
        tally: RefCell::new(tally),
        recent,
        rejections,
        kept,
        remembered: Remembered::default(),
        metrics,
        verdicts: verdicts.local(),
        draining: Cell::new(false),
        closes_idle: Cell::new(false),
        surplus: Cell::new(0),
        looked: Cell::new(None),
        told: Cell::new(None),
        connections: Cell::new(0),
        listeners: Cell::new(0),
        connection_ended: Notify::new(),
        max_connections,
        store,
        view: RefCell::new(view),
        access: RefCell::new(access),
        refusals: RefCell::new(RefusalLog::new(Instant::now())),
        request_ids: Cell::new(u128::from_be_bytes(crypto::random())),
        settings,
    });
    for bound in listeners {
        tokio::task::spawn_local(listener::accept(worker.clone(), bound, phase.clone())?);
    }
    let ticker = tokio::task::spawn_local(tick(worker.clone()));
    // The sender only goes away with the process; either way there is nothing left to serve for.
    let closes_idle = phase.wait_for(|phase| *phase != Phase::Serve).await.is_ok_and(|phase| *phase == Phase::Drain);
    worker.draining.set(true);
    worker.closes_idle.set(closes_idle);
    worker.clock.wake_all();
    let finished = async {
        while worker.connections.get() > 0 || worker.listeners.get() > 0 {
            worker.connection_ended.notified().await;
        }
    };
    let _ = tokio::time::timeout(worker.settings.timeouts.drain, finished).await;
    ticker.abort();
    worker.access.borrow_mut().flush();
    worker.refusals.borrow_mut().flush();
    Ok(())
}

async fn tick(worker: Rc<Worker>) {
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut chores = Instant::now();
    loop {
        interval.tick().await;
        worker.clock.tick();
        worker.tally.borrow_mut().hand_over();
        if chores.elapsed() >= CHORES {
            chores = Instant::now();
            worker.pool.sweep(chores);
            worker.refusals.borrow_mut().flush();
            worker.access.borrow_mut().flush();
        }
    }
}

impl Worker {
    /// The configuration in force. A request asks once and keeps what it got.
    pub fn view(&self) -> Rc<View> {
        let current = self.store.load();
        let mut view = self.view.borrow_mut();
        if !Arc::ptr_eq(&current, &view.snapshot) {
            *view = View::of(Arc::clone(&current), &self.settings);
        }
        view.clone()
    }

    /// All connections that the worker may hold are there, and there are more: some of those that wait for requests end.
    pub fn make_room(&self) {
        // Each look wakes all that wait.
        if self.looked.get().is_some_and(|at| at.elapsed() < LOOK_EVERY) {
            return;
        }
        self.looked.set(Some(Instant::now()));
        self.surplus.set(self.crowd());
        if self.told.get().is_none_or(|at| at.elapsed() >= TELL_EVERY) {
            self.told.set(Some(Instant::now()));
            tracing::warn!(limit = self.max_connections, "as many connections as a worker may have: idle ones end");
        }
        self.clock.wake_all();
    }

    /// How many give way at once, so that not every newcomer has to look for one.
    fn crowd(&self) -> usize {
        (self.max_connections / CROWD).max(1)
    }

    /// Whether a connection that waits like this for its next request ends.
    pub fn ends_idle(&self, idle: &Wait) -> bool {
        self.closes_idle.get() || self.gives_way(idle)
    }

    /// Whether it ends to make room for others.
    pub fn gives_way(&self, idle: &Wait) -> bool {
        let surplus = self.surplus.get();
        if surplus == 0 || !idle.has_lasted(SETTLED) {
            return false;
        }
        // Others may have gone by themselves meanwhile.
        let is_crowded = self.connections.get() + self.crowd() > self.max_connections;
        self.surplus.set(if is_crowded { surplus - 1 } else { 0 });
        is_crowded
    }

    /// A request id: a random start, then splitmix64 steps on both halves.
    pub fn next_request_id(&self) -> RequestId {
        let id = self.request_ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
        self.request_ids.set(id);
        let mix = |half: u64| {
            let half = (half ^ (half >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let half = (half ^ (half >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            half ^ (half >> 31)
        };
        RequestId::new(u128::from(mix((id >> 64) as u64)) << 64 | u128::from(mix(id as u64)))
    }

    /// A token of this request was verified.
    pub fn note_good(&self, context: &Context<'_>) {
        let mut tally = self.tally.borrow_mut();
        if tally.counts_good() && !self.settings.is_trusted(context.client) {
            tally.good(context.client);
        }
    }

    /// A token of this request was proven bad. A trusted proxy that names no client is none.
    pub fn note_bad(&self, context: &Context<'_>, reason: Reason, token: u64) {
        if !self.settings.is_trusted(context.client) {
            self.tally.borrow_mut().bad(context.client, reason, token, context.is_direct());
        }
    }

    /// Writes one refusal of a token to the error log, within its budget.
    pub fn note_refusal(&self, context: &Context<'_>, refusal: &crate::plugin::Refusal<'_>) {
        let consumer = context.notes.caller.consumer.as_deref();
        let line = Refusal {
            plugin: refusal.plugin,
            reason: refusal.reason,
            request_id: context.request_id.as_str(),
            client: context.client,
            route: context.route.map(|route| &*route.label),
            service: service_of(context).map(|service| &*service.label),
            consumer: consumer.and_then(|consumer| consumer.username.as_deref().or(consumer.custom_id.as_deref())),
            credential: context.notes.caller.credential.as_deref(),
            issuer: refusal.issuer,
        };
        self.refusals.borrow_mut().note(Instant::now(), &line, || refusal.detail());
    }

    /// Counts and logs a request that has ended.
    pub fn account(&self, context: &Context<'_>, heads: &Heads) {
        let request = &heads.request;
        let total = context.started.elapsed();
        self.count(context, heads, total);
        let mut access = self.access.borrow_mut();
        if !access.enabled() {
            return;
        }
        let consumer = context.notes.caller.consumer.as_deref();
        access.write(&Record {
            time: SystemTime::now(),
            request_id: context.request_id.as_str(),
            client: context.client_address(),
            listener: &context.connection.listener.label,
            via: context.connection.via,
            local: context.connection.virtual_address(),
            version: (!request.method().is_empty()).then(|| request.version()),
            tls: context.connection.tls_version,
            method: context.notes.client_method.as_deref().unwrap_or(request.method()),
            host: &context.host,
            target: request.target(),
            route: context.route.map(|route| &*route.label),
            service: service_of(context).map(|service| &*service.label),
            consumer: consumer.and_then(|consumer| consumer.username.as_deref().or(consumer.custom_id.as_deref())),
            consumer_id: consumer.map(|consumer| consumer.id),
            credential: context.notes.caller.credential.as_deref(),
            status: context.status,
            reason: context.reason,
            total,
            edge: context.edge_part(total),
            upstream: context.upstream,
            issuer: context.notes.waited,
            correlation_id: context.notes.correlation_id.as_deref(),
            bytes_in: context.request_bytes,
            bytes_out: context.response_bytes,
            tries: context.tries.count,
            upstream_address: context.upstream_address.or(context.tries.address),
        });
    }

    /// Counts a request without its line in the log: one that became a tunnel is logged at its end.
    pub fn count(&self, context: &Context<'_>, heads: &Heads, total: Duration) {
        let request = &heads.request;
        self.metrics.request(request.version(), context.status);
        self.metrics.total.observe(total);
        if let Some(upstream) = context.upstream {
            self.metrics.upstream.observe(upstream);
        }
        self.metrics.edge_overhead.observe(context.edge_part(total));
        if let Some(reason) = context.reason {
            let route = context.route.map(|route| &*route.label);
            self.metrics.refused(reason, route);
            self.recent.note(context.request_id.as_str(), context.client, context.status, reason, route);
        }
        let Some(route) = context.route.filter(|route| route.plugins.logs) else { return };
        let ended = Ended {
            route,
            caller: &context.notes.caller,
            status: context.status,
            request,
            response: (context.status != 0 && context.status == heads.response.status()).then_some(&heads.response),
            request_bytes: context.request_bytes,
            response_bytes: context.response_bytes,
            total,
            edge: context.edge_part(total),
            upstream: context.upstream,
            metrics: &self.metrics,
        };
        context.logging().for_each(|plugin| plugin.log(&ended));
    }

    /// Writes one line of the access log.
    pub fn log(&self, record: &Record<'_>) {
        self.access.borrow_mut().write(record);
    }

    /// The same for a session of a stream.
    pub fn log_session(&self, record: &SessionRecord<'_>) {
        self.access.borrow_mut().write_session(record);
    }
}
