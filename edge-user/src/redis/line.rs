//! One connection to one server, kept: opened on demand, watched, and opened anew when it ends.
//!
//! All I/O runs on the control runtime. While the server is known to be down, whoever asks is told so at once; one
//! attempt a second finds out when it is back.

use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, Pipeline, RedisError, ServerErrorKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::link::{Link, State};
use super::settings::{Address, Place, Settings};
use super::voice::Voice;
use super::{Error, RETRY, dial};

/// What is sent.
pub(super) enum Question {
    Plain(Arc<Cmd>),
    /// To a node that is being given the key's slot and takes only who was sent to it.
    Asking(Arc<Cmd>),
}

/// One connection; see the module text.
pub(super) struct Line {
    settings: Arc<Settings>,
    place: Place,
    /// Of a cluster: which node this is, for the log.
    node: Option<Box<str>>,
    link: Link<MultiplexedConnection>,
    /// Woken by who found the open connection dead.
    suspect: Arc<Notify>,
    /// Told whenever the server is found to be down.
    lost: Arc<Notify>,
    voice: Arc<Voice>,
}

/// A task whose work nobody wants once its owner is gone.
struct Wanted<T>(JoinHandle<T>);

impl<T> Drop for Wanted<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Line {
    /// The only connection of a client.
    pub(super) fn to(settings: Arc<Settings>, place: Place, voice: Arc<Voice>) -> Self {
        Self { settings, place, node: None, link: Link::idle(), suspect: Arc::default(), lost: Arc::default(), voice }
    }

    /// The connection to one node of a cluster, which hears by `lost` that the node is down.
    pub(super) fn to_node(settings: Arc<Settings>, node: &Address, voice: Arc<Voice>, lost: Arc<Notify>) -> Self {
        let name = node.to_string().into();
        Self { node: Some(name), lost, ..Self::to(settings, Place::At(node.clone()), voice) }
    }

    /// Whether the server is known to be down: a question would fail at once.
    pub(super) fn is_down(&self) -> bool {
        self.link.is_down()
    }

    /// Asks on the control runtime. May be called from any runtime with a timer.
    pub(super) async fn ask(
        self: &Arc<Self>,
        control: &Handle,
        question: Question,
        deadline: Instant,
    ) -> Result<Value, Error> {
        if self.is_down() {
            return Err(Error::Down);
        }
        let line = self.clone();
        let mut task = Wanted(control.spawn(async move { line.send(question).await }));
        match tokio::time::timeout_at(deadline, &mut task.0).await {
            Ok(answer) => answer.unwrap_or(Err(Error::Ended)),
            Err(_) => {
                // A server that holds its tongue holds up every query of this connection, the one being made as well.
                self.suspect.notify_waiters();
                self.link.give_up();
                Err(Error::Timeout)
            }
        }
    }

    async fn send(self: &Arc<Self>, question: Question) -> Result<Value, Error> {
        if self.link.begin() {
            tokio::spawn(keep(Arc::downgrade(self)));
        }
        let mut connection = self.link.opened().await?;
        let answer = match question {
            Question::Plain(command) => connection.send_packed_command(&command).await,
            Question::Asking(command) => asking(&mut connection, &command).await,
        };
        answer.and_then(Value::extract_error).map_err(|error| {
            // After a failover the old master serves on as a replica: who named it knows better by now.
            if error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly) {
                self.suspect.notify_waiters();
            }
            Error::Server(error)
        })
    }

    fn down(&self) {
        self.link.set(State::Down);
        self.lost.notify_one();
    }
}

/// Nothing of another query may come between the two.
async fn asking(connection: &mut MultiplexedConnection, command: &Cmd) -> Result<Value, RedisError> {
    let mut pair = Pipeline::with_capacity(2);
    pair.cmd("ASKING").add_command(command.clone());
    let answers = connection.send_packed_commands(&pair, 1, 1).await?;
    Ok(answers.into_iter().next().unwrap_or(Value::Nil))
}

/// Keeps a line's connection open until the line is gone.
async fn keep(weak: Weak<Line>) {
    while let Some(pause) = once(&weak).await {
        tokio::time::sleep(pause).await;
    }
}

/// One connection from its first byte to its last; how long to wait for the next, or nothing once the line is gone.
async fn once(weak: &Weak<Line>) -> Option<Duration> {
    let line = weak.upgrade()?;
    let (connection, driver) = match dial::connect(&line.settings, &line.place).await {
        Ok(opened) => opened,
        Err(error) => {
            line.down();
            line.voice.warn(line.node.as_deref(), &error);
            return Some(RETRY);
        }
    };
    if line.link.set(State::Open(connection)) {
        line.voice.again(line.node.as_deref());
    }
    let (suspect, began) = (line.suspect.clone(), Instant::now());
    // The driver ends with the last handle on the connection, which is the line's own.
    drop(line);
    let closed = tokio::select! {
        () = driver => true,
        () = suspect.notified() => false,
    };
    let line = weak.upgrade()?;
    // An idle connection that the server closed says nothing about the next; one that never served does.
    if closed && began.elapsed() > RETRY {
        line.link.set(State::Opening);
        return Some(Duration::ZERO);
    }
    line.down();
    Some(RETRY)
}
