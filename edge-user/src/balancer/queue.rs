//! Who waits for a target to have room: requests beyond what every target takes at a time (the connection limit and the
//! request queue of an F5's pool member).

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, fence};
use std::time::Duration;

use tokio::sync::{Mutex, Notify};

use crate::reason::Reason;

/// What one target takes at a time, and who may wait until it takes more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Requests under way at one address of a target; 0 is no limit.
    pub requests: u32,
    /// Requests that wait for one of an upstream's targets.
    pub queue: u32,
    /// How long each of them waits.
    pub wait: Duration,
}

impl Room {
    /// Targets take all that comes.
    pub const ENDLESS: Self = Self { requests: 0, queue: 0, wait: Duration::ZERO };
}

/// Those who wait, over all configurations that a target outlives. Every order of memory here is the strict one: a request
/// that comes to wait while a place becomes free must see that, or be seen.
pub(super) struct Queue {
    room: Room,
    waiting: AtomicU32,
    changed: Notify,
}

/// The order of those who wait for the targets of one configuration: the first tries, the others wait for it.
pub(super) type Line = Mutex<()>;

/// A place in the queue.
struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl Queue {
    pub(super) fn new(room: Room) -> Self {
        Self { room, waiting: AtomicU32::new(0), changed: Notify::new() }
    }

    /// How many requests one address takes at a time; 0 is no limit.
    pub(super) fn limit(&self) -> u32 {
        self.room.requests
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// A place at a target has become free, or there are other targets, or their health is another.
    pub(super) fn changed(&self) {
        if self.limit() > 0 {
            fence(SeqCst);
            if self.waiting() > 0 {
                self.changed.notify_waiters();
            }
        }
    }

    /// What `choose` gives once a target has room. `UpstreamBusy` where too many wait already, or it took too long.
    pub(super) async fn pass<T>(&self, line: &Line, choose: impl Fn() -> Result<T, Reason>) -> Result<T, Reason> {
        // Nobody goes before those who wait.
        if self.waiting() == 0 {
            let chosen = choose();
            if !matches!(chosen, Err(Reason::UpstreamBusy)) {
                return chosen;
            }
        }
        let enter = |waiting| (waiting < self.room.queue).then_some(waiting + 1);
        self.waiting.fetch_update(SeqCst, SeqCst, enter).map_err(|_| Reason::UpstreamBusy)?;
        let _place = Place(self);
        fence(SeqCst);
        let turn = tokio::time::timeout(self.room.wait, self.turn(line, choose));
        turn.await.unwrap_or(Err(Reason::UpstreamBusy))
    }

    async fn turn<T>(&self, line: &Line, choose: impl Fn() -> Result<T, Reason>) -> Result<T, Reason> {
        let _first = line.lock().await;
        loop {
            // It is told of every change from here on.
            let changed = self.changed.notified();
            match choose() {
                Err(Reason::UpstreamBusy) => changed.await,
                chosen => return chosen,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;

    use tokio::task::{LocalSet, spawn_local, yield_now};

    use super::*;

    /// A target that takes one at a time.
    struct Target {
        queue: Queue,
        line: Line,
        free: Cell<u32>,
        served: RefCell<Vec<u32>>,
    }

    impl Target {
        fn new(queue: u32, wait: Duration) -> Rc<Self> {
            let queue = Queue::new(Room { requests: 1, queue, wait });
            Rc::new(Self { queue, line: Line::default(), free: Cell::new(1), served: RefCell::default() })
        }

        async fn ask(&self, name: u32) -> Result<(), Reason> {
            let choose = || {
                let left = self.free.get().checked_sub(1).ok_or(Reason::UpstreamBusy)?;
                self.free.set(left);
                Ok(())
            };
            self.queue.pass(&self.line, choose).await?;
            self.served.borrow_mut().push(name);
            Ok(())
        }

        fn release(&self, places: u32) {
            self.free.set(self.free.get() + places);
            self.queue.changed();
        }
    }

    async fn settled() {
        for _ in 0..10 {
            yield_now().await;
        }
    }

    #[tokio::test]
    async fn they_are_served_in_their_order_and_nobody_goes_before_them() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let target = Target::new(3, Duration::from_secs(60));
                target.ask(0).await.unwrap();
                let waiters: Vec<_> = (1..=3)
                    .map(|name| {
                        let target = target.clone();
                        spawn_local(async move { target.ask(name).await })
                    })
                    .collect();
                settled().await;
                assert_eq!(target.queue.waiting(), 3);
                assert_eq!(target.ask(4).await, Err(Reason::UpstreamBusy), "a fourth that waits");
                target.release(1);
                settled().await;
                assert_eq!(*target.served.borrow(), [0, 1]);
                // As many as there is room for.
                target.release(2);
                settled().await;
                assert_eq!(*target.served.borrow(), [0, 1, 2, 3]);
                target.release(1);
                target.ask(5).await.unwrap();
                assert_eq!(*target.served.borrow(), [0, 1, 2, 3, 5]);
                assert_eq!(target.queue.waiting(), 0);
                for waiter in waiters {
                    waiter.await.unwrap().unwrap();
                }
            })
            .await;
    }

    #[tokio::test]
    async fn a_wait_ends_and_one_that_was_given_up_holds_nobody_up() {
        let local = LocalSet::new();
        local
            .run_until(async {
                let target = Target::new(8, Duration::from_millis(300));
                target.ask(0).await.unwrap();
                let began = std::time::Instant::now();
                assert_eq!(target.ask(1).await, Err(Reason::UpstreamBusy));
                assert!(began.elapsed() >= Duration::from_millis(300));
                let one = |name| {
                    let target = target.clone();
                    spawn_local(async move { target.ask(name).await })
                };
                let (gone, next) = (one(2), one(3));
                settled().await;
                // The first is told that a place is free in the moment its client goes.
                target.release(1);
                gone.abort();
                next.await.unwrap().unwrap();
                assert_eq!((target.served.borrow().as_slice(), target.queue.waiting()), (&[0, 3][..], 0));
            })
            .await;
    }

    /// Whatever else is wrong with the targets ends the wait.
    #[tokio::test]
    async fn other_failures_are_told_at_once() {
        let queue = Queue::new(Room { requests: 1, queue: 1, wait: Duration::from_secs(60) });
        let asked = Cell::new(0);
        let choose = || {
            asked.set(asked.get() + 1);
            queue.changed();
            Err::<(), _>(if asked.get() < 3 { Reason::UpstreamBusy } else { Reason::UpstreamUnhealthy })
        };
        assert_eq!(queue.pass(&Line::default(), choose).await, Err(Reason::UpstreamUnhealthy));
        assert_eq!((asked.get(), queue.waiting()), (3, 0));
    }
}
