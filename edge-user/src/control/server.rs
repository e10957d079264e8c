//! The running edge's end of the control socket.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::handover::Word;
use super::operator::Operator;
use super::{Error, Reply, bound, connect, handover, read_line, write_line};

/// Operators at a time; more wait.
const CONNECTIONS: usize = 8;
/// How long the next generation may take to load and serve.
const TAKE_OVER: Duration = Duration::from_secs(120);

/// The socket, bound while the process still has its rights, so that it belongs to whom they belonged to.
pub struct ControlSocket {
    listener: UnixListener,
    path: PathBuf,
    /// Where it waits to become the one under `path`.
    fresh: PathBuf,
    owner: u32,
}

impl ControlSocket {
    /// Binds it beside its place, for nobody but the owner. It takes its place by `publish`.
    pub fn bind(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::FileTypeExt as _;
        if fs::symlink_metadata(path).is_ok_and(|found| !found.file_type().is_socket()) {
            return Err(io::Error::other("something else than a socket stands there"));
        }
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let fresh = path.with_file_name(name);
        // One that a process with our id left behind.
        let _ = fs::remove_file(&fresh);
        let listener = UnixListener::bind(&fresh)?;
        fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, path: path.to_owned(), fresh, owner: nix::unistd::geteuid().as_raw() })
    }

    /// Whether an edge answers under the path.
    pub fn is_taken(path: &Path) -> bool {
        !matches!(connect(path), Err(Error::NotRunning { .. }))
    }

    /// Puts it in its place, atomically: from here on operators reach this process.
    pub fn publish(&self) -> io::Result<()> {
        fs::rename(&self.fresh, &self.path)
    }
}

impl Drop for ControlSocket {
    fn drop(&mut self) {
        // There only where it was not published.
        let _ = fs::remove_file(&self.fresh);
    }
}

/// Answers operators until the process ends.
pub async fn serve(socket: ControlSocket, operator: Arc<Operator>) -> io::Result<()> {
    socket.listener.set_nonblocking(true)?;
    let owner = socket.owner;
    let listener = tokio::net::UnixListener::from_std(socket.listener.try_clone()?)?;
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let is_handing_over = Arc::new(AtomicBool::new(false));
    loop {
        let Ok(slot) = slots.clone().acquire_owned().await else { return Ok(()) };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "the control socket could not accept");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        // The file's rights say the same; who could change those is asked once more.
        let allowed = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == owner);
        let Some(stream) = allowed.then(|| stream.into_std().ok()).flatten() else { continue };
        let (operator, is_handing_over) = (operator.clone(), is_handing_over.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = answer(stream, &operator, &is_handing_over) {
                tracing::debug!(%error, "an operator's connection broke");
            }
            drop(slot);
        });
    }
}

fn answer(mut stream: UnixStream, operator: &Operator, is_handing_over: &AtomicBool) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    bound(&stream)?;
    let reply = match serde_json::from_str(&read_line(&stream)?) {
        Ok(super::Request::TakeOver) if !is_handing_over.swap(true, Ordering::Relaxed) => {
            let result = hand_over(&mut stream, operator);
            is_handing_over.store(false, Ordering::Relaxed);
            return result;
        }
        Ok(request) => operator.answer(request),
        Err(error) => Reply::Refused { message: format!("the request is not understood: {error}") },
    };
    write_line(&mut stream, &reply)
}

fn hand_over(stream: &mut UnixStream, operator: &Operator) -> io::Result<()> {
    tracing::info!("another generation asks for the listening sockets");
    let listening = operator.listening()?;
    let obey = |word| match word {
        Word::Detach => operator.kernel.detach(false),
        Word::Replace => operator.kernel.detach(true),
        Word::Serves => {
            operator.kernel.leave();
            // The process ends by it: there is nobody to tell where it does already.
            let _ = operator.succeeded.blocking_send(());
        }
    };
    let kernel = operator.kernel.handed();
    match handover::hand_over(stream, &listening, kernel, operator.version, TAKE_OVER, obey) {
        Ok(true) => Ok(()),
        Ok(false) => {
            tracing::warn!("the other generation ended before it served: this one serves on");
            operator.serve_on();
            Ok(())
        }
        Err(error) => {
            tracing::warn!(%error, "the other generation did not say that it serves: this one serves on");
            operator.serve_on();
            Err(error)
        }
    }
}
