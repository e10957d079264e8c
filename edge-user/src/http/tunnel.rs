//! Two byte streams joined after 101 (Switching Protocols): each direction as it comes, until both have ended.

use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::buffer::Buffer;
use super::h1::conn::BODY_BUFFER_BYTES;
use super::io::Io;
use crate::clock::{Alarm, Clock, Wait};

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
pub struct Bounds {
    /// Without a byte in either direction.
    pub idle: Duration,
    /// In all; zero for no bound. A verified token's remaining life, where there is one (P8).
    pub total: Duration,
}

/// Joins client and upstream until both have ended, one broke, or a bound is reached.
pub async fn join(client: End, upstream: End, clock: &Rc<Clock>, bounds: Bounds) -> Traffic {
    let (mut up, mut down) = (Direction::new(client.input), Direction::new(upstream.input));
    let mut idle = Wait::new(clock);
    let life = Alarm::new(clock);
    life.set(bounds.total);
    let mut traffic = Traffic::default();
    poll_fn(|cx| {
        let upward = up.poll_copy(cx, &client.io, &upstream.io);
        let downward = down.poll_copy(cx, &upstream.io, &client.io);
        if (up.moved, down.moved) != (traffic.up_bytes, traffic.down_bytes) {
            idle.progressed();
        }
        (traffic.up_bytes, traffic.down_bytes) = (up.moved, down.moved);
        match (upward, downward) {
            (Poll::Ready(Err(())), _) | (_, Poll::Ready(Err(()))) => Poll::Ready(()),
            (Poll::Ready(Ok(())), Poll::Ready(Ok(()))) => Poll::Ready(()),
            _ if idle.is_over(bounds.idle, cx) || life.poll_due(cx) => Poll::Ready(()),
            _ => Poll::Pending,
        }
    })
    .await;
    traffic
}

struct Direction {
    buffer: Buffer,
    moved: u64,
    ended: bool,
    shut: bool,
}

impl Direction {
    fn new(buffer: Buffer) -> Self {
        Self { buffer, moved: 0, ended: false, shut: false }
    }

    fn poll_copy(&mut self, cx: &mut Context<'_>, from: &Io, to: &Io) -> Poll<Result<(), ()>> {
        loop {
            while !self.buffer.is_empty() {
                let written = ready!(to.poll_write(cx, self.buffer.filled())).map_err(drop)?;
                self.buffer.consume(written);
                self.moved += written as u64;
            }
            ready!(to.poll_flush(cx)).map_err(drop)?;
            if self.shut {
                return Poll::Ready(Ok(()));
            }
            if self.ended {
                ready!(to.poll_shutdown(cx)).map_err(drop)?;
                self.shut = true;
                return Poll::Ready(Ok(()));
            }
            self.ended = ready!(self.buffer.poll_fill(from, BODY_BUFFER_BYTES, cx)).map_err(drop)? == 0;
        }
    }
}
