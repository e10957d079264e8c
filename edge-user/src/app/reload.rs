//! What the running process listens for: a new configuration, and the end.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::local_routes::LocalRoutes;
use super::sockets;
use crate::config::{self, Env};
use crate::kernel::{DenyList, Kernel};
use crate::metrics::Registry;
use crate::rejection::Rejections;
use crate::settings::{Listener, Settings};
use crate::store::Publisher;

/// How often the files are looked at. A change counts once it has stood for one such time: editors write in steps.
const LOOK: Duration = Duration::from_secs(1);

/// Everything a reload touches.
pub(super) struct Reloader {
    /// `edge.toml`.
    pub(super) path: PathBuf,
    /// The settings the process runs under.
    pub(super) settings: Arc<Settings>,
    /// The same for operators' questions.
    pub(super) in_force: Arc<ArcSwap<Settings>>,
    /// What one configuration hands to the next.
    pub(super) env: Env,
    /// The right to replace the snapshot.
    pub(super) publisher: Publisher,
    /// Where reloads are counted.
    pub(super) registry: Arc<Registry>,
    /// Takes a changed deny-list.
    pub(super) kernel: Arc<Kernel>,
    /// The same list for the workers.
    pub(super) denied: Arc<ArcSwap<DenyList>>,
    /// Follow changed virtual addresses.
    pub(super) routes: LocalRoutes,
    /// The ports of the listeners themselves.
    pub(super) own_ports: Vec<u16>,
    /// Forgets what the kernel refuses, before and after the configuration changes.
    pub(super) rejections: Arc<Rejections>,
}

impl Reloader {
    /// Builds a new snapshot and puts it into force, or says why not and leaves the old one (A5, A8).
    fn reload(&mut self) {
        let loaded = Settings::load(&self.path).and_then(|settings| {
            let generation = self.publisher.next_generation();
            // Sockets keep their places: what is read for listeners has to be for those that are bound.
            let mut effective = (*self.settings).clone();
            effective.listeners = with_changed_tls(&self.settings.listeners, &settings.listeners);
            effective.tls.ocsp_responses.clone_from(&settings.tls.ocsp_responses);
            let snapshot = config::load(&effective, &self.env, generation)?;
            Ok((settings, effective, snapshot))
        });
        let (settings, mut in_force, snapshot) = match loaded {
            Ok(loaded) => loaded,
            Err(problems) => {
                self.registry.configuration_refused();
                for problem in &problems.0 {
                    tracing::error!("configuration refused, the old one stays in force: {problem}");
                }
                return;
            }
        };
        for warning in settings.warnings.iter().chain(&snapshot.warnings) {
            tracing::warn!("{warning}");
        }
        let generation = snapshot.generation;
        self.env.balancers.activate(snapshot.balancers());
        self.rejections.invalidate();
        self.publisher.publish(snapshot);
        self.rejections.invalidate();
        self.registry.configured(generation);
        self.env.plugins.warm();
        if settings.kernel.deny != self.settings.kernel.deny {
            self.denied.store(Arc::new(DenyList::new(&settings.kernel.deny)));
            match self.kernel.publish_deny(&settings.kernel.deny) {
                Ok(changes) => {
                    tracing::info!(?changes, "kernel deny-list changed");
                    if self.kernel.is_active() && self.kernel.attachments().is_empty() {
                        tracing::warn!("nothing was denied at the start: until the next one userspace refuses alone");
                    }
                }
                Err(error) => tracing::error!("kernel deny-list not changed: {:#}", anyhow::Error::from(error)),
            }
        }
        in_force.kernel.deny.clone_from(&settings.kernel.deny);
        in_force.warnings.clone_from(&settings.warnings);
        let before = in_force.listeners.clone();
        if can_take_vips(&in_force, &settings) {
            for (listener, changed) in in_force.listeners.iter_mut().zip(&settings.listeners) {
                listener.vips.clone_from(&changed.vips);
                listener.ports.clone_from(&changed.ports);
            }
            in_force.kernel.has_vips = settings.kernel.has_vips;
        }
        if in_force.listeners != before {
            match self.kernel.publish_vips(&sockets::vips(&in_force)) {
                Ok(changes) => tracing::info!(?changes, "virtual addresses changed"),
                Err(error) => tracing::error!("virtual addresses not changed: {:#}", anyhow::Error::from(error)),
            }
            self.routes.set(&in_force);
            if let Err(error) = self.kernel.guard(&sockets::guarded_ports(&self.own_ports, &in_force)) {
                tracing::error!("penalties do not follow changed ports: {:#}", anyhow::Error::from(error));
            }
        }
        if settings != in_force {
            tracing::warn!(
                file = %self.path.display(),
                "changed settings other than kernel.deny, the TLS of listeners and the vips of those that have some take effect at the next start"
            );
        }
        self.settings = Arc::new(in_force);
        self.in_force.store(self.settings.clone());
        tracing::info!(generation, "configuration loaded");
    }
}

/// The listeners that run, with what the new settings say about the TLS of the same ones: certificates, and what clients
/// are asked for.
fn with_changed_tls(current: &[Listener], changed: &[Listener]) -> Vec<Listener> {
    let mut left: Vec<&Listener> = changed.iter().collect();
    let taken = |current: &Listener| {
        let is_same = |changed: &&Listener| {
            (current.address, current.mode, current.tls) == (changed.address, changed.mode, changed.tls)
        };
        // Several may have one address: that of a port that the kernel chooses.
        let Some(place) = left.iter().position(is_same) else { return current.clone() };
        let changed = left.remove(place);
        Listener {
            line: changed.line,
            pair: changed.pair.clone(),
            clients: changed.clients.clone(),
            hosts: changed.hosts.clone(),
            ..current.clone()
        }
    };
    current.iter().map(taken).collect()
}

/// Whether the listeners are the same but for virtual addresses, and those that get some have what leads there.
fn can_take_vips(current: &Settings, changed: &Settings) -> bool {
    let pairs = || current.listeners.iter().zip(&changed.listeners);
    current.listeners.len() == changed.listeners.len()
        && pairs()
            .all(|(current, changed)| current.address == changed.address && (current.has_vips() || !changed.has_vips()))
}

/// The signals the edge obeys. Installed before the first client is served: none may end the process its own way.
pub(super) struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// Takes the signals over; on a runtime.
    pub(super) fn install() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Reloads on SIGHUP and on changed files until SIGTERM or SIGINT. `reopen` opens log files anew on SIGHUP.
pub(super) async fn until_stopped(mut reloader: Reloader, mut signals: Signals, reopen: impl Fn()) {
    let mut look = tokio::time::interval(LOOK);
    let files = [reloader.path.clone(), reloader.settings.entities.file.clone()];
    let (mut in_force, mut last) = (Seen::of(&files), Seen::of(&files));
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return,
            _ = signals.interrupt.recv() => return,
            _ = signals.hangup.recv() => {
                reopen();
                in_force = Seen::of(&files);
                tokio::task::block_in_place(|| reloader.reload());
            }
            _ = look.tick() => {
                let now = Seen::of(&files);
                if now != in_force && now == last {
                    in_force = now.clone();
                    tokio::task::block_in_place(|| reloader.reload());
                }
                last = now;
            }
        }
    }
}

/// What tells one state of the files from another.
#[derive(Clone, PartialEq, Eq)]
struct Seen(Vec<Option<(u64, u64, Option<SystemTime>)>>);

impl Seen {
    fn of(files: &[impl AsRef<Path>]) -> Self {
        use std::os::unix::fs::MetadataExt;
        let look = |file: &Path| {
            let metadata = std::fs::metadata(file).ok()?;
            Some((metadata.ino(), metadata.len(), metadata.modified().ok()))
        };
        Self(files.iter().map(|file| look(file.as_ref())).collect())
    }
}
