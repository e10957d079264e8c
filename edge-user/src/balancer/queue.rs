//! Who waits for a target to have room: requests beyond what every target takes at a time (the connection limit and the
//! request queue of an F5's pool member).

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::sync::Notify;

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

/// Those who wait, the longest first. Every order of memory here is the strict one: a request that comes to wait while a
/// place becomes free must see that, or be seen.
pub(super) struct Queue {
    room: Room,
    waiting: AtomicU32,
    freed: Notify,
}

/// A place in the queue.
struct Place<'a>(&'a Queue);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

impl Queue {
    pub(super) fn new(room: Room) -> Self {
        Self { room, waiting: AtomicU32::new(0), freed: Notify::new() }
    }

    /// How many requests one address takes at a time; 0 is no limit.
    pub(super) fn limit(&self) -> u32 {
        self.room.requests
    }

    /// How many wait.
    pub(super) fn waiting(&self) -> u32 {
        self.waiting.load(SeqCst)
    }

    /// A place at a target has become free.
    pub(super) fn freed(&self) {
        if self.limit() > 0 && self.waiting() > 0 {
            self.freed.notify_one();
        }
    }

    /// What `choose` gives once a target has room. `UpstreamBusy` where too many wait already, or it took too long.
    pub(super) async fn pass<T>(&self, choose: impl Fn() -> Result<T, Reason>) -> Result<T, Reason> {
        // Nobody goes before those who wait.
        if self.waiting() == 0 {
            let chosen = choose();
            if !matches!(chosen, Err(Reason::UpstreamBusy)) {
                return chosen;
            }
        }
        let enter = |waiting| (waiting < self.room.queue).then_some(waiting + 1);
        let before = self.waiting.fetch_update(SeqCst, SeqCst, enter).map_err(|_| Reason::UpstreamBusy)?;
        let _place = Place(self);
        let turn = tokio::time::timeout(self.room.wait, self.turn(before == 0, &choose));
        turn.await.unwrap_or(Err(Reason::UpstreamBusy))
    }

    async fn turn<T>(&self, mut is_first: bool, choose: impl Fn() -> Result<T, Reason>) -> Result<T, Reason> {
        loop {
            let mut freed = std::pin::pin!(self.freed.notified());
            freed.as_mut().enable();
            if std::mem::take(&mut is_first) {
                match choose() {
                    Err(Reason::UpstreamBusy) => {}
                    chosen => return chosen,
                }
            }
            freed.await;
            is_first = true;
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
        free: Cell<bool>,
        served: RefCell<Vec<u32>>,
    }

    impl Target {
        fn new(queue: u32, wait: Duration) -> Rc<Self> {
            let queue = Queue::new(Room { requests: 1, queue, wait });
            Rc::new(Self { queue, free: Cell::new(true), served: RefCell::default() })
        }

        async fn ask(&self, name: u32) -> Result<(), Reason> {
            let choose = || if self.free.replace(false) { Ok(()) } else { Err(Reason::UpstreamBusy) };
            self.queue.pass(choose).await?;
            self.served.borrow_mut().push(name);
            Ok(())
        }

        fn release(&self) {
            self.free.set(true);
            self.queue.freed();
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
                for served in 2..=4 {
                    target.release();
                    settled().await;
                    assert_eq!(target.served.borrow().len(), served);
                }
                target.release();
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
                target.release();
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
            queue.freed();
            Err::<(), _>(if asked.get() < 3 { Reason::UpstreamBusy } else { Reason::UpstreamUnhealthy })
        };
        assert_eq!(queue.pass(choose).await, Err(Reason::UpstreamUnhealthy));
        assert_eq!((asked.get(), queue.waiting()), (3, 0));
    }
}
