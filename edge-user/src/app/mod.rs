//! Composition root: builds every part, in the order in which privileges allow, and owns start, reload and drain.

mod gauges;
mod generation;
mod lifeline;
mod local_routes;
mod privileges;
mod readable;
mod reload;
mod sockets;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};

use self::generation::Generation;
use self::lifeline::Lifeline;
use self::local_routes::LocalRoutes;
use self::reload::{Reloader, Signals};
use self::sockets::Sockets;
use crate::admin::{self, AdminState, Configuration, Node, PluginInfo};
use crate::balancer::{Balancers, Room};
use crate::config::dump::{Format, Secrets};
use crate::config::snapshot::Snapshot;
use crate::config::{self, Env, problem::Problems};
use crate::control::{self, Operator};
use crate::dns::Resolver;
use crate::http_client::HttpClient;
use crate::identity::{self, Identity};
use crate::import;
use crate::kept::{self, KeptConnections};
use crate::kernel::{self, DenyList, Lane, SAMPLE_EVERY, Sample, SampleReader};
use crate::keysets::{self, Keeping, KeySets};
use crate::metrics::{Exposition, Kind, Registry};
use crate::penalty::{self, Penalties};
use crate::plugin::{PLUGINS, PluginEnv};
use crate::proxy::sources::Sources;
use crate::rejection::{self, Rejections};
use crate::settings::{Level, LogTarget, Mode, Settings};
use crate::state::State;
use crate::store::Store;
use crate::telemetry::{self, AccessLog, AccessWriter, ErrorLog, KernelRecord, RecentRefusals};
use crate::token::cache::VerdictCache;
use crate::token::keys::KeySources;
use crate::token::source::FetchPolicy;
use crate::worker::{self, Parts, Phase};
use crate::{crypto, echo, tls};

/// The program's version, of the package.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Runs the edge until SIGTERM or SIGINT has been obeyed, or another generation has taken over. `upgrade`: takes over
/// from the running one.
pub fn run(path: &Path, upgrade: bool) -> anyhow::Result<()> {
    // A huge page per thread's small heap would be two thirds of the edge's memory.
    let _ = nix::sys::prctl::set_thp_disable(true);
    crypto::install();
    let settings = Settings::load(path)?;
    let error_log = telemetry::init(&settings.log.error, settings.log.level)?;
    let access_log = AccessLog::open(&settings.log.access)?;
    for warning in &settings.warnings {
        tracing::warn!("{warning}");
    }
    sockets::raise_descriptor_limit();
    let workers = match settings.workers.count {
        0 => thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    if upgrade {
        // The running edge gives up its kernel programs for this one: not for one that will not start.
        check(path)?;
    }
    // What needs privileges comes first and alone; no thread of ours that serves exists yet.
    let (mut generation, inherited) = Generation::begin(&settings, upgrade)?;
    let programs = "the kernel programs of [kernel]";
    let handed = generation.take_kernel();
    let was_handed = handed.is_some();
    let mut kernel = kernel::load(&settings.kernel, handed).context(programs)?;
    let lanes = if settings.kernel.lanes && kernel.is_active() { Lane::ALL.len() } else { 1 };
    let mut sockets = Sockets::bind(&settings, workers, lanes, inherited)?;
    generation.detach_the_old(was_handed && kernel.handed().is_some())?;
    kernel.attach(&settings.kernel).context(programs)?;
    sockets.attach(&settings, &mut kernel).context(programs)?;
    let routes = LocalRoutes::start(&settings, &kernel, generation.takes_over())?;
    privileges::drop(settings.process.user.as_deref())?;

    let settings = Arc::new(settings);
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_name("control")
        .enable_all()
        .build()
        .context("the control runtime")?;
    let signals = control.block_on(async { Signals::install() }).context("signal handlers")?;
    let state = control.block_on(State::open(&settings.store.path));
    let resolver =
        Resolver::new(control.handle().clone(), &settings.dns, settings.timeouts.resolve).context("[dns]")?;
    let admin = settings.admin.map(|admin| admin.address);
    let (limits, wait) = (&settings.limits, settings.timeouts.upstream_queue);
    let room = Room { requests: limits.upstream_requests, queue: limits.upstream_queue, wait };
    let balancers = Balancers::new(resolver, Some(control.handle().clone()), admin, room);
    let tickets = tls::TicketKeys::rotated(settings.tls.ticket_period, control.handle());
    let env =
        Env { plugins: plugin_env(&settings, &control, Some(state)), balancers, tickets, clients: Arc::default() };
    let registry = Arc::new(Registry::new(VERSION, env.plugins.node().id));
    let snapshot = config::load(&settings, &env, 1)?;
    env.balancers.activate(snapshot.balancers());
    let (store, publisher) = Store::new(snapshot);
    control.spawn(tls::freshness::watch(store.clone(), &registry));
    let verdicts = VerdictCache::new(settings.verdicts.cache_bytes);
    let (phase, phases) = watch::channel(Phase::Serve);
    if let Some(log) = kernel.take_log() {
        control.spawn(log.run());
    }
    if let Some(samples) = kernel.take_samples() {
        control.spawn(log_samples(samples, access_log.writer()));
    }
    let kernel = Arc::new(kernel);
    let (penalties, feed, reports) =
        Penalties::new(settings.kernel.penalty, &settings.proxy.trusted_ips, lanes > 1, kernel.clone());
    penalties.restore();
    penalties.adopt(std::mem::take(&mut generation.sentences));
    control.spawn(penalty::run(penalties.clone(), reports));
    let denied = Arc::new(ArcSwap::from_pointee(DenyList::new(&settings.kernel.deny)));
    gauges::register(&registry, &kernel, &verdicts, &env, &access_log, &error_log);
    let plugins = env.plugins.clone();
    registry.register(move |to: &mut Exposition| plugins.collect(to));
    let key_sets = env.plugins.key_sets().clone();
    registry.register(move |to: &mut Exposition| key_sets.collect(to));
    let collected = penalties.clone();
    registry.register(move |to: &mut Exposition| collected.collect(to));
    registry.configured(1);

    let (rejections, bad_tokens) = Rejections::new(kernel.clone());
    control.spawn(rejection::run(rejections.clone(), bad_tokens));
    let (kept, ended) = KeptConnections::new(kernel.gates());
    control.spawn(kept::run(kernel.clone(), kept.clone(), ended));
    let collected = kept.clone();
    registry.register(move |to: &mut Exposition| {
        to.family("edge_kernel_kept_connections", Kind::Gauge, "Connections on which the kernel may refuse bad tokens");
        to.sample(&[], collected.count());
    });
    let invalidated = rejections.clone();
    env.plugins.keys().on_change(move || invalidated.invalidate());
    let recent = Arc::new(RecentRefusals::default());
    let sources = match settings.limits.connections_per_source {
        0 => None,
        limit => Some(Sources::new(limit, settings.kernel.penalty)),
    };
    let (mut threads, lifeline) = (Vec::new(), Lifeline::default());
    let listeners = sockets.per_worker(&settings);
    let addresses = listeners.addresses;
    let own_ports: Vec<u16> = addresses.iter().map(|(address, ..)| address.port()).collect();
    kernel.guard(&sockets::guarded_ports(&own_ports, &settings)).context("the kernel's ports")?;
    for (index, bound) in listeners.workers.into_iter().enumerate() {
        let parts = Parts {
            settings: settings.clone(),
            store: store.clone(),
            metrics: registry.worker(),
            access: access_log.writer(),
            verdicts: verdicts.clone(),
            denied: denied.clone(),
            rejections: rejections.clone(),
            kept: kept.clone(),
            recent: recent.ring(),
            penalties: feed.clone(),
            sources: sources.clone(),
            listeners: bound,
            max_connections: (settings.limits.connections / workers).max(1),
            buffered_bytes: settings.limits.buffered_bytes / workers,
            phase: phases.clone(),
        };
        let thread = lifeline.spawn(format!("worker-{index}"), move || worker::run(parts));
        threads.push(thread.context("a worker's thread")?);
    }
    for (address, mode, tls) in &addresses {
        let streams = if *mode == Mode::Stream { " for streams" } else { "" };
        tracing::info!("listening on {address}{streams}{}", if *tls { " (TLS)" } else { "" });
    }
    let listeners_of = |wanted| {
        let of_mode = addresses.iter().filter(move |(_, mode, _)| *mode == wanted);
        of_mode.map(|(address, _, tls)| (*address, *tls)).collect()
    };
    let node = Arc::new(Node {
        version: VERSION,
        hostname: env.plugins.node().hostname.to_string(),
        node_id: env.plugins.node().id,
        workers,
        listeners: listeners_of(Mode::Http),
        stream_listeners: listeners_of(Mode::Stream),
        plugins: PLUGINS
            .iter()
            .map(|(name, priority)| PluginInfo { name, version: VERSION, priority: *priority })
            .collect(),
    });
    let started = control.block_on(async {
        serve_admin(sockets.admin, &registry, &store, &env, node, phases.clone())?;
        serve_identity(sockets.identity, &settings, phases.clone())?;
        if let Some(listener) = sockets.echo {
            let listener = TcpListener::from_std(listener)?;
            tracing::info!("echo upstream on {}", listener.local_addr()?);
            tokio::spawn(echo::serve(listener, drained(phases.clone())));
        }
        anyhow::Ok(())
    });
    started?;
    env.plugins.warm();
    for warning in &store.load().warnings {
        tracing::warn!("{warning}");
    }
    let in_force = Arc::new(ArcSwap::new(settings.clone()));
    let (succeeded, mut successor) = mpsc::channel(1);
    let operator = Arc::new(Operator {
        version: VERSION,
        settings: in_force.clone(),
        kernel: kernel.clone(),
        penalties,
        recent,
        listening: Mutex::new(sockets.listening),
        succeeded,
    });
    if let Some(socket) = generation.serves() {
        control.spawn(control::serve(socket, operator.clone()));
    }
    tracing::info!(workers, kernel = kernel.is_active(), "edge ready");
    let reloader = Reloader {
        path: path.to_owned(),
        settings: settings.clone(),
        in_force,
        env,
        publisher,
        registry,
        kernel,
        denied,
        routes: routes.clone(),
        own_ports,
        rejections,
    };
    let reopen = move || {
        for (name, reopened) in [("error", error_log.reopen()), ("access", access_log.reopen())] {
            if let Err(error) = reopened {
                tracing::warn!(%error, "the {name} log could not be opened anew");
            }
        }
    };
    let (end, mut failed) = control.block_on(async {
        tokio::select! {
            () = reload::until_stopped(reloader, signals, reopen) => (Phase::Drain, false),
            Some(()) = successor.recv() => {
                routes.leave();
                tracing::info!("another generation serves: this one drains and ends");
                (Phase::Retire, false)
            }
            () = lifeline.ended() => {
                tracing::error!("a worker ended by itself: the edge stops, for its supervisor to start it anew");
                (Phase::Drain, true)
            }
        }
    });
    tracing::info!(
        drain_ms = settings.timeouts.drain.as_millis() as u64,
        "stopping: no new connections, the open ones end"
    );
    operator.close();
    if end == Phase::Drain {
        operator.kernel.end();
    }
    phase.send_replace(end);
    for thread in threads {
        failed |= !matches!(thread.join(), Ok(Ok(())));
    }
    control.shutdown_timeout(Duration::from_secs(2));
    if failed {
        bail!("a worker ended with an error");
    }
    tracing::info!("edge stopped");
    Ok(())
}

/// What a check of a good configuration says.
pub struct Checked {
    /// What an operator should know.
    pub warnings: Vec<String>,
    /// For which hosts the kernel refuses bad tokens, where a listener wants it.
    pub notes: Vec<String>,
}

/// Checks `edge.toml` and the entities without starting anything.
pub fn check(path: &Path) -> anyhow::Result<Checked> {
    crypto::install();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (settings, snapshot, _) = load_apart(path, &control)?;
    let unreadable = readable::problems(path, &settings);
    if !unreadable.is_empty() {
        return Err(Problems(unreadable).into());
    }
    let notes = if settings.kernel.rejects { snapshot.kernel_rejection.report() } else { Vec::new() };
    Ok(Checked { warnings: settings.warnings.into_iter().chain(snapshot.warnings).collect(), notes })
}

/// Sends what the parts log, from warnings on, to standard error, for commands that speak on standard output; until the
/// log is dropped.
pub fn log_to_stderr() -> anyhow::Result<ErrorLog> {
    Ok(telemetry::init(&LogTarget::Stderr, Level::Warn)?)
}

/// Asks the edge that runs with these settings.
pub fn ask(path: &Path, request: &control::Request) -> anyhow::Result<control::Reply> {
    let settings = Settings::load(path)?;
    let Some(socket) = settings.process.control.path() else {
        bail!("[process] control is \"off\": this edge cannot be asked");
    };
    Ok(control::ask(socket, request)?)
}

/// Prints the entities in normal form, as `edge run` would take them.
pub fn dump(path: &Path, format: Format, secrets: Secrets) -> anyhow::Result<String> {
    crypto::install();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let env = |settings: &Settings| Env { plugins: plugin_env(settings, &control, None), ..Env::default() };
    Ok(config::dump(path, env, format, secrets)?)
}

/// Tells which lines of a declarative file of Kong's the edge has not.
pub fn import_kong(file: &Path) -> anyhow::Result<import::Report> {
    crypto::install();
    let control = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let inputs = import::read(&[file.to_owned()])?;
    let settings = import::bare_settings(file);
    let env = Env { plugins: plugin_env(&settings, &control, None), ..Env::default() };
    Ok(import::kong(&inputs[0], &settings, &env))
}

/// Loads everything as `edge run` would, but without the store's file: for commands that look and change nothing.
pub(crate) fn load_apart(path: &Path, control: &Runtime) -> Result<(Settings, Snapshot, Env), Problems> {
    let mut kept = None;
    let (settings, snapshot) = config::check(path, |settings| {
        let plugins = plugin_env(settings, control, None);
        kept.insert(Env { plugins, ..Env::default() }).clone()
    })?;
    Ok((settings, snapshot, kept.unwrap_or_default()))
}

/// What plugins share; without the node's store in a program that looks and changes nothing.
fn plugin_env(settings: &Settings, control: &Runtime, state: Option<State>) -> PluginEnv {
    let http =
        HttpClient::new(&settings.issuers.allow_http).expect("built from constants and the system's certificates");
    let policy = FetchPolicy { key_wait: settings.timeouts.key_wait, ..FetchPolicy::default() };
    let control = control.handle().clone();
    let secrets = settings.secrets.key.as_ref();
    let keeping = |state| Keeping::new(settings.key_sets.private_keys, secrets, state);
    let (keeping, state) = match state {
        Some(state) => (keeping(state.clone()), state),
        None => (keeping(State::in_memory()).apart(), State::in_memory()),
    };
    let (publish_ahead, wait) = (settings.key_sets.publish_ahead, settings.timeouts.key_wait);
    let signing = keysets::Policy { publish_ahead, wait, ..keysets::Policy::default() };
    let key_sets = KeySets::new(http.clone(), keeping, control.clone(), signing);
    let keys = KeySources::new(http, state, control.clone(), policy);
    PluginEnv::new(keys, control).with_secrets(secrets).with_key_sets(key_sets)
}

/// Writes what the kernel dropped to the access log, one line a sample.
async fn log_samples(mut samples: SampleReader, mut access: AccessWriter) {
    // The buffer takes two thousand: a flood of more is in the counters.
    let mut ticks = tokio::time::interval(Duration::from_millis(250));
    loop {
        ticks.tick().await;
        for Sample { source, verdict } in samples.by_ref() {
            let time = SystemTime::now();
            access.write_kernel(&KernelRecord { time, client: source, verdict, sampled: SAMPLE_EVERY });
        }
        access.flush();
    }
}

/// Resolves when the process drains.
async fn drained(mut phases: watch::Receiver<Phase>) {
    let _ = phases.wait_for(|phase| *phase != Phase::Serve).await;
}

fn serve_admin(
    listener: Option<std::net::TcpListener>,
    registry: &Arc<Registry>,
    store: &Arc<Store>,
    env: &Env,
    node: Arc<Node>,
    phases: watch::Receiver<Phase>,
) -> anyhow::Result<()> {
    let Some(listener) = listener else { return Ok(()) };
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    tracing::info!("admin on {address}");
    let store = store.clone();
    let configuration = Arc::new(move || {
        let snapshot = store.load();
        let enabled_plugins = snapshot.plugin_names.iter().map(|name| (*name).to_owned()).collect();
        Configuration { hash: snapshot.hash.to_string(), enabled_plugins, lacks_keys: snapshot.lacks_keys() }
    });
    let state = AdminState {
        node,
        registry: registry.clone(),
        configuration,
        client_keys: env.plugins.client_keys().clone(),
        issuers: env.plugins.keys().clone(),
        key_sets: env.plugins.key_sets().clone(),
        address,
    };
    tokio::spawn(admin::serve(listener, state, drained(phases)));
    Ok(())
}

fn serve_identity(
    listener: Option<std::net::TcpListener>,
    settings: &Settings,
    phases: watch::Receiver<Phase>,
) -> anyhow::Result<()> {
    let (Some(listener), Some(identity)) = (listener, &settings.identity) else { return Ok(()) };
    let listener = TcpListener::from_std(listener)?;
    let address = listener.local_addr()?;
    let identity = Arc::new(tokio::task::block_in_place(|| Identity::new(identity, address)).context("[identity]")?);
    tokio::spawn(identity::serve(listener, identity, drained(phases)));
    Ok(())
}
