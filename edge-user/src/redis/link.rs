//! What is opened when somebody first asks for it and others wait for meanwhile: a connection, or the table of a cluster.

use tokio::sync::watch;

use super::Error;

/// How it stands with it.
#[derive(Clone)]
pub(super) enum State<T> {
    /// Nobody has asked yet.
    Idle,
    /// The first, or the next after one that served, is being opened.
    Opening,
    Open(T),
    /// The last attempt failed, or takes longer than somebody waits.
    Down,
}

/// The state that one task keeps and many read.
pub(super) struct Link<T>(watch::Sender<State<T>>);

impl<T: Clone> Link<T> {
    /// One that nobody has asked for.
    pub(super) fn idle() -> Self {
        Self(watch::Sender::new(State::Idle))
    }

    /// Whether who waits would wait for nothing.
    pub(super) fn is_down(&self) -> bool {
        matches!(*self.0.borrow(), State::Down)
    }

    /// What is open at this moment.
    pub(super) fn current(&self) -> Option<T> {
        match &*self.0.borrow() {
            State::Open(open) => Some(open.clone()),
            _ => None,
        }
    }

    /// True for the first who asks: it starts the task that opens.
    pub(super) fn begin(&self) -> bool {
        self.change(State::Opening, |state| matches!(state, State::Idle))
    }

    /// Sets the state; true where it was down.
    pub(super) fn set(&self, state: State<T>) -> bool {
        matches!(self.0.send_replace(state), State::Down)
    }

    /// Has nobody wait any longer for what is being opened; once it is there, it serves.
    pub(super) fn give_up(&self) {
        self.change(State::Down, |state| matches!(state, State::Opening));
    }

    /// What is open, waiting while it is being opened.
    pub(super) async fn opened(&self) -> Result<T, Error> {
        let mut states = self.0.subscribe();
        let known = states.wait_for(|state| matches!(state, State::Open(_) | State::Down)).await;
        match &*known.map_err(|_| Error::Ended)? {
            State::Open(open) => Ok(open.clone()),
            _ => Err(Error::Down),
        }
    }

    fn change(&self, to: State<T>, from: impl FnOnce(&State<T>) -> bool) -> bool {
        self.0.send_if_modified(|state| {
            let changes = from(state);
            if changes {
                *state = to;
            }
            changes
        })
    }
}
