//! Time on a worker: one coarse timer for every time-out, and the second's `Date` line.
//!
//! A wait sets an alarm by writing one integer; nothing is queued or sorted. The worker's ticker walks all alarms
//! every `TICK`, so a time-out fires up to one tick late, and setting or clearing it costs no system call.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant, UNIX_EPOCH};

/// How often alarms are looked at.
pub const TICK: Duration = Duration::from_millis(50);

/// What a client must send, or take, within one limit.
pub const PROGRESS_BYTES: usize = 1024;

const OFF: u64 = u64::MAX;

struct Slot {
    due_ms: u64,
    waker: Option<Waker>,
}

/// One worker's clock and alarms.
pub struct Clock {
    started: Instant,
    /// Milliseconds since `started`, as of the last tick.
    now_ms: Cell<u64>,
    slots: RefCell<Vec<Slot>>,
    free: RefCell<Vec<usize>>,
    date: RefCell<(u64, [u8; 29])>,
}

impl Clock {
    /// A clock that starts now.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            started: Instant::now(),
            now_ms: Cell::new(0),
            slots: RefCell::default(),
            free: RefCell::default(),
            date: RefCell::new((0, [b' '; 29])),
        })
    }

    /// Wakes every task whose alarm is due. The worker calls this once per `TICK`.
    pub fn tick(&self) {
        let now = self.started.elapsed().as_millis() as u64;
        self.now_ms.set(now);
        for slot in self.slots.borrow_mut().iter_mut() {
            if slot.due_ms <= now
                && let Some(waker) = slot.waker.take()
            {
                waker.wake();
            }
        }
    }

    /// Wakes every task that waits with an alarm, so that it sees a drain.
    pub fn wake_all(&self) {
        for slot in self.slots.borrow_mut().iter_mut() {
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }

    /// The time as an HTTP date, formatted once a second.
    pub fn http_date(&self, unix_secs: u64) -> [u8; 29] {
        let mut date = self.date.borrow_mut();
        if date.0 != unix_secs {
            *date = (unix_secs, http_date(unix_secs));
        }
        date.1
    }
}

/// One task's time-out. A task that waits for two things at once has two.
pub struct Alarm {
    clock: Rc<Clock>,
    slot: usize,
}

impl Alarm {
    /// An alarm that is off.
    pub fn new(clock: &Rc<Clock>) -> Self {
        let mut slots = clock.slots.borrow_mut();
        let slot = clock.free.borrow_mut().pop().unwrap_or_else(|| {
            slots.push(Slot { due_ms: OFF, waker: None });
            slots.len() - 1
        });
        drop(slots);
        Self { clock: clock.clone(), slot }
    }

    /// Sets the alarm; zero means never.
    pub fn set(&self, after: Duration) {
        // One tick more, for `now_ms` is as old as the last one.
        let due_ms = match after.is_zero() {
            true => OFF,
            false => self.clock.now_ms.get() + (after + TICK).as_millis() as u64,
        };
        self.clock.slots.borrow_mut()[self.slot].due_ms = due_ms;
    }

    /// Switches the alarm off.
    pub fn clear(&self) {
        self.clock.slots.borrow_mut()[self.slot].due_ms = OFF;
    }

    /// Whether the alarm is due; otherwise the task will be woken when it is.
    pub fn poll_due(&self, cx: &Context<'_>) -> bool {
        let slot = &mut self.clock.slots.borrow_mut()[self.slot];
        if slot.due_ms <= self.clock.now_ms.get() {
            return true;
        }
        if !slot.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            slot.waker = Some(cx.waker().clone());
        }
        false
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let slot = &mut self.clock.slots.borrow_mut()[self.slot];
        (slot.due_ms, slot.waker) = (OFF, None);
        self.clock.free.borrow_mut().push(self.slot);
    }
}

/// The time limit of one kind of wait: armed by the first poll that has to wait, disarmed by progress.
pub struct Wait {
    alarm: Alarm,
    /// When it was armed, on the clock, in milliseconds.
    armed: Option<u64>,
    /// Bytes since the limit was last armed.
    trickle: usize,
}

impl Wait {
    /// A limit that nothing waits under yet.
    pub fn new(clock: &Rc<Clock>) -> Self {
        Self { alarm: Alarm::new(clock), armed: None, trickle: 0 }
    }

    /// The operation has to wait: true once it has done so for `limit` (zero: never). The task is woken then.
    pub fn is_over(&mut self, limit: Duration, cx: &Context<'_>) -> bool {
        if self.armed.is_none() {
            self.armed = Some(self.alarm.clock.now_ms.get());
            self.alarm.set(limit);
        }
        self.alarm.poll_due(cx)
    }

    /// Whether the operation has waited for so long, give or take a tick.
    pub fn has_lasted(&self, least: Duration) -> bool {
        let now_ms = self.alarm.clock.now_ms.get();
        self.armed.is_some_and(|armed| u128::from(now_ms.saturating_sub(armed)) >= least.as_millis())
    }

    /// The operation went on; the next wait starts anew.
    pub fn progressed(&mut self) {
        (self.armed, self.trickle) = (None, 0);
    }

    /// Some bytes went through. Only `PROGRESS_BYTES` of them count as going on: a client that trickles one byte
    /// after the other runs into the limit all the same (D2).
    pub fn progressed_by(&mut self, bytes: usize) {
        self.trickle += bytes;
        if self.trickle >= PROGRESS_BYTES {
            self.progressed();
        }
    }
}

/// The last second that four digits of a year can tell.
const LAST_SECOND: u64 = 253_402_300_799;

/// IMF-fixdate (RFC 9110, 5.6.7).
fn http_date(unix_secs: u64) -> [u8; 29] {
    let time = UNIX_EPOCH + Duration::from_secs(unix_secs.min(LAST_SECOND));
    httpdate::fmt_http_date(time).as_bytes().try_into().unwrap_or([b' '; 29])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_imf_fixdate() {
        for (unix, expected) in [
            (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
            (784_111_777, "Sun, 06 Nov 1994 08:49:37 GMT"),
            (951_782_400, "Tue, 29 Feb 2000 00:00:00 GMT"),
            (1_709_251_199, "Thu, 29 Feb 2024 23:59:59 GMT"),
            (4_102_444_800, "Fri, 01 Jan 2100 00:00:00 GMT"),
        ] {
            assert_eq!(http_date(unix), expected.as_bytes(), "{expected}");
        }
    }

    #[test]
    fn an_alarm_is_due_once_its_time_has_passed() {
        let clock = Clock::new();
        let (set, off) = (Alarm::new(&clock), Alarm::new(&clock));
        let cx = Context::from_waker(Waker::noop());
        set.set(Duration::from_millis(1));
        assert!(!set.poll_due(&cx));
        clock.now_ms.set(51);
        assert!(set.poll_due(&cx) && !off.poll_due(&cx));
        set.clear();
        assert!(!set.poll_due(&cx));
    }
}
