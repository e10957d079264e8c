//! One generation of the edge after another: taking over from the running one, and being reachable for operators and
//! for the next.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use anyhow::{Context as _, bail};

use crate::control::{self, ControlSocket, Listening, Reply, Request, TakeOver};
use crate::penalty;
use crate::settings::{Control, Settings};

/// What a start has from the generation before, and for the one after it.
pub(super) struct Generation {
    /// The penalties that the running edge had in force.
    pub(super) sentences: Vec<penalty::Handed>,
    take_over: Option<TakeOver>,
    control: Option<ControlSocket>,
}

impl Generation {
    /// Takes the listening sockets from the running edge, where there is one and `upgrade` wants it, and binds the
    /// control socket. The running edge serves on.
    pub(super) fn begin(settings: &Settings, upgrade: bool) -> anyhow::Result<(Self, Listening)> {
        let Some(path) = settings.process.control.path() else {
            if upgrade {
                bail!("--upgrade needs the control socket, and [process] control is \"off\"");
            }
            return Ok((Self { sentences: Vec::new(), take_over: None, control: None }, Listening::default()));
        };
        let (mut take_over, mut listening, mut sentences) = (None, Listening::default(), Vec::new());
        if upgrade {
            match TakeOver::begin(path) {
                Ok((begun, sockets)) => {
                    tracing::info!(pid = begun.pid, "taking over from the running edge");
                    (take_over, listening) = (Some(begun), sockets);
                    sentences = ask_for_sentences(path);
                }
                Err(control::Error::NotRunning { .. }) => tracing::info!("no edge runs to take over from"),
                Err(error) => return Err(error).context("taking over from the running edge"),
            }
        }
        let bound = match take_over.is_none() && ControlSocket::is_taken(path) {
            true => Err(std::io::Error::other("another edge answers there; --upgrade takes over from it")),
            false => ControlSocket::bind(path),
        };
        let control = match (bound, &settings.process.control) {
            (Ok(control), _) => Some(control),
            (Err(error), Control::At(_)) => {
                return Err(error).with_context(|| format!("[process] control {}", path.display()));
            }
            (Err(error), _) => {
                tracing::warn!(path = %path.display(), %error, "no control socket: `edge kernel` and `edge why` cannot ask this edge");
                None
            }
        };
        Ok((Self { sentences, take_over, control }, listening))
    }

    /// Whether another generation runs.
    pub(super) fn takes_over(&self) -> bool {
        self.take_over.is_some()
    }

    /// Maps and links of the running edge's kernel programs, once.
    pub(super) fn take_kernel(&mut self) -> Option<OwnedFd> {
        self.take_over.as_mut()?.kernel.take()
    }

    /// Before this generation attaches its kernel programs: an interface takes one. `replaces`: it puts them in the
    /// place of those that `take_kernel` gave.
    pub(super) fn detach_the_old(&mut self, replaces: bool) -> anyhow::Result<()> {
        match &mut self.take_over {
            Some(take_over) => {
                take_over.detach(replaces).context("the running edge did not give up its kernel programs")
            }
            None => Ok(()),
        }
    }

    /// This generation serves: the old one drains, operators reach this one, and whoever supervises it is told. Gives
    /// the control socket.
    pub(super) fn serves(self) -> Option<ControlSocket> {
        let published = self.control.filter(|control| match control.publish() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(%error, "the control socket could not take its place");
                false
            }
        });
        if let Some(take_over) = self.take_over {
            let pid = take_over.pid;
            match take_over.complete() {
                Ok(()) => tracing::info!(pid, "took over: the old edge drains"),
                Err(error) => tracing::warn!(pid, %error, "the old edge did not answer that it drains"),
            }
        }
        notify_supervisor();
        published
    }
}

/// Without them sources have to earn their penalties anew: no reason not to start.
fn ask_for_sentences(path: &Path) -> Vec<penalty::Handed> {
    match control::ask(path, &Request::Sentences) {
        Ok(Reply::Sentences { sentences }) => sentences,
        Ok(_) => Vec::new(),
        Err(error) => {
            tracing::warn!(error = format!("{:#}", anyhow::Error::from(error)), "penalties were not handed over");
            Vec::new()
        }
    }
}

/// Tells systemd that the service is up (sd_notify(3)), where it asks.
fn notify_supervisor() {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else { return };
    let told = UnixDatagram::unbound().and_then(|socket| {
        use std::os::linux::net::SocketAddrExt as _;
        use std::os::unix::ffi::OsStrExt as _;
        match path.as_bytes().strip_prefix(b"@") {
            Some(name) => socket.send_to_addr(b"READY=1", &std::os::unix::net::SocketAddr::from_abstract_name(name)?),
            None => socket.send_to(b"READY=1", &path),
        }
    });
    if let Err(error) = told {
        tracing::warn!(%error, "the supervisor could not be told that the edge is ready");
    }
}
