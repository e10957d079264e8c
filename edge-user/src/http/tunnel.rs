//! Two byte streams joined, after 101 (Switching Protocols) or for a stream route: each direction as it comes, until
//! both have ended. An end of one direction is passed on and the other goes on.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::buffer::Buffer;
use super::h1::conn::{BODY_BUFFER_BYTES, lingering_close};
use super::io::Io;
use super::websocket::{self, Frames};
use crate::clock::{Alarm, Clock, TICK, Wait};
use crate::reason::Reason;

/// How long the client may take for the last frame.
const FAREWELL: Duration = Duration::from_secs(1);
/// How long before the drain's end a tunnel ends, so that its end is logged.
const BEFORE_DRAINED: Duration = Duration::from_millis(4 * TICK.as_millis() as u64);

/// One end: the stream and what was already read from it.
pub struct End {
    /// The stream.
    pub io: Io,
    /// Bytes read ahead of the switch.
    pub input: Buffer,
}

/// Bytes that went each way.
#[derive(Clone, Copy, Default, Debug)]
pub struct Traffic {
    /// From the client.
    pub up_bytes: u64,
    /// To the client.
    pub down_bytes: u64,
}

/// How long a tunnel may last.
pub struct Bounds<'a> {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// Until one side takes what the other has sent, for each KiB.
    pub write: Duration,
    /// In all; zero for no bound. A verified token's remaining life, where there is one (P8).
    pub total: Duration,
    /// Whether what comes down are WebSocket frames: the client is told by one why `total` ended it.
    pub websocket: bool,
    /// Whether the edge drains.
    pub draining: &'a Cell<bool>,
    /// How long it then waits.
    pub drain: Duration,
}

/// How a tunnel came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// Both sides have said all.
    Closed,
    /// The client's connection broke.
    ClientBroke,
    /// The upstream's connection broke.
    UpstreamBroke,
    /// A wait for bytes, or for room for them, ended.
    Idle,
    /// `Bounds::total` was reached.
    Expired,
    /// The edge stopped.
    Drained,
}

/// Joins client and upstream until both have ended, one broke, or a bound is reached.
pub async fn join(client: End, upstream: End, clock: &Rc<Clock>, bounds: &Bounds<'_>) -> (Traffic, Ending) {
    let (mut up, mut down) = (Direction::new(client.input, clock), Direction::new(upstream.input, clock));
    let (client, upstream) = (client.io, upstream.io);
    down.frames = (bounds.websocket && !bounds.total.is_zero()).then(Frames::default);
    let mut idle = Wait::new(clock);
    let (life, drain) = (Alarm::new(clock), Alarm::new(clock));
    life.set(bounds.total);
    let mut told = false;
    let mut traffic = Traffic::default();
    let ending = poll_fn(|cx| {
        let upward = up.poll_copy(cx, &client, &upstream);
        let downward = down.poll_copy(cx, &upstream, &client);
        if (up.moved, down.moved) != (traffic.up_bytes, traffic.down_bytes) {
            idle.progressed();
        }
        (traffic.up_bytes, traffic.down_bytes) = (up.moved, down.moved);
        if bounds.draining.get() && !told {
            told = true;
            drain.set(bounds.drain.saturating_sub(BEFORE_DRAINED).max(TICK));
        }
        let stuck = [&mut up, &mut down].map(|direction| direction.is_stuck(bounds.write, cx));
        let over = [idle.is_over(bounds.idle, cx) || stuck[0] || stuck[1], life.poll_due(cx), drain.poll_due(cx)];
        Poll::Ready(match (upward, downward, over) {
            (Poll::Ready(Err(Side::From)), _, _) | (_, Poll::Ready(Err(Side::To)), _) => Ending::ClientBroke,
            (Poll::Ready(Err(Side::To)), _, _) | (_, Poll::Ready(Err(Side::From)), _) => Ending::UpstreamBroke,
            (Poll::Ready(Ok(())), Poll::Ready(Ok(())), _) => Ending::Closed,
            (_, _, [_, true, _]) => Ending::Expired,
            (_, _, [true, _, _]) => Ending::Idle,
            (_, _, [_, _, true]) => Ending::Drained,
            _ => return Poll::Pending,
        })
    })
    .await;
    if ending == Ending::Expired {
        drop(upstream);
        traffic.down_bytes += say_expired(&client, &down, clock).await;
    }
    (traffic, ending)
}

/// Ends the frame under way, if its rest is here, and sends a Close frame; gives the bytes sent.
async fn say_expired(client: &Io, down: &Direction, clock: &Rc<Clock>) -> u64 {
    let waiting = down.buffer.filled();
    let Some(rest) = down.frames.as_ref().and_then(|frames| frames.ends_after(waiting)).filter(|_| !down.ended) else {
        return 0;
    };
    let last = [&waiting[..rest], websocket::TOKEN_EXPIRED].concat();
    let (mut sent, mut wait) = (0, Wait::new(clock));
    let whole = poll_fn(|cx| match client.poll_write_all(cx, &last, &mut sent) {
        Poll::Pending if wait.is_over(FAREWELL, cx) => Poll::Ready(false),
        polled => polled.map(|written| written.is_ok()),
    });
    if whole.await {
        lingering_close(client, clock).await;
    }
    sent as u64
}

impl Ending {
    /// Why it ended, where not by the will of both sides.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Self::Closed => None,
            Self::ClientBroke => Some(Reason::ClientGone),
            Self::UpstreamBroke => Some(Reason::UpstreamReset),
            Self::Idle => Some(Reason::TunnelIdle),
            Self::Expired => Some(Reason::TunnelTokenExpired),
            Self::Drained => Some(Reason::Draining),
        }
    }
}

enum Side {
    From,
    To,
}

struct Direction {
    buffer: Buffer,
    /// What passes, where somebody has to know where frames end.
    frames: Option<Frames>,
    stuck: Wait,
    moved: u64,
    ended: bool,
    shut: bool,
}

impl Direction {
    fn new(buffer: Buffer, clock: &Rc<Clock>) -> Self {
        Self { buffer, frames: None, stuck: Wait::new(clock), moved: 0, ended: false, shut: false }
    }

    /// Whether bytes have waited for `limit` to be taken.
    fn is_stuck(&mut self, limit: Duration, cx: &Context<'_>) -> bool {
        if self.buffer.is_empty() {
            self.stuck.progressed();
            return false;
        }
        self.stuck.is_over(limit, cx)
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &Io, to: &Io) -> Poll<Result<(), Side>> {
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(to.poll_write(cx, self.buffer.filled())).map_err(|_| Side::To)?;
                if let Some(frames) = &mut self.frames {
                    frames.pass(&self.buffer.filled()[..written]);
                }
                self.buffer.consume(written);
                self.moved += written as u64;
                self.stuck.progressed_by(written);
            }
            ready!(to.poll_flush(cx)).map_err(|_| Side::To)?;
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                ready!(to.poll_shutdown(cx)).map_err(|_| Side::To)?;
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            let read = ready!(self.buffer.poll_fill(from, BODY_BUFFER_BYTES, cx)).map_err(|_| Side::From)?;
            self.ended = read == 0;
        }
    }
}
