//! A request's body for plugins that must see it before its upstream does, and what of it is held for the upstream.

use std::task::{Context, Poll, ready};

use crate::http::downstream::{Downstream, Fault};
use crate::http::h1::parse::Framing;
use crate::http::h1::write::BodyEncoder;
use crate::http::head::Head;
use crate::plugin::RequestBody;

/// What was read of a body before an upstream was asked; every try begins with it.
#[derive(Default)]
pub(super) struct Held {
    /// Its content so far, or what a plugin put in its place.
    pub data: Vec<u8>,
    /// What followed it.
    pub trailers: Head,
    /// Nothing of it is to come.
    pub ended: bool,
    /// Bytes of content taken from the client.
    pub taken_bytes: u64,
    /// Whether the content is a plugin's: its length is then told in place of the client's framing.
    pub is_replaced: bool,
    /// What went wrong while it was read.
    pub fault: Option<Fault>,
}

impl Held {
    /// Reads what has arrived; waits only where nothing has.
    pub(super) fn poll_read<D: Downstream>(&mut self, cx: &mut Context<'_>, down: &mut D) -> Poll<Result<(), Fault>> {
        let mut sink = BodyEncoder::new(&mut self.data, Framing::None).keeping(&mut self.trailers).from_here();
        let polled = down.poll_body(cx, &mut sink);
        self.taken_bytes += sink.data_bytes;
        self.ended = ready!(polled)?;
        Poll::Ready(Ok(()))
    }
}

/// The body as plugins see it: read from the client once, then held.
pub(super) struct Collector<'r, D> {
    down: &'r mut D,
    held: &'r mut Option<Box<Held>>,
    /// `limits.buffer_bytes`
    most_bytes: usize,
}

impl<'r, D: Downstream> Collector<'r, D> {
    pub(super) fn new(down: &'r mut D, held: &'r mut Option<Box<Held>>, most_bytes: usize) -> Self {
        Self { down, held, most_bytes }
    }

    fn is_empty(&self) -> bool {
        matches!(self.framing(), Framing::None | Framing::Length(0))
    }
}

impl<D: Downstream> RequestBody for Collector<'_, D> {
    fn framing(&self) -> Framing {
        self.down.request_framing()
    }

    fn poll_collect(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<bool> {
        let limit = limit.min(self.most_bytes);
        if self.held.is_none() {
            match self.framing() {
                Framing::None | Framing::Length(0) => return Poll::Ready(true),
                // It need not be read to know.
                Framing::Length(length) if length > limit as u64 => return Poll::Ready(false),
                _ => {}
            }
        }
        let held = self.held.get_or_insert_default();
        while !held.ended && held.fault.is_none() && held.data.len() <= limit {
            if let Err(fault) = ready!(held.poll_read(cx, self.down)) {
                held.fault = Some(fault);
            }
        }
        Poll::Ready(self.collected(limit).is_some())
    }

    fn collected(&self, limit: usize) -> Option<&[u8]> {
        match &self.held {
            Some(held) => (held.ended && held.data.len() <= limit.min(self.most_bytes)).then_some(&held.data),
            None => self.is_empty().then_some(&[]),
        }
    }

    fn replace(&mut self, body: Vec<u8>) -> bool {
        let is_whole = self.held.as_ref().map_or_else(|| self.is_empty(), |held| held.ended);
        if is_whole {
            let held = self.held.get_or_insert_default();
            (held.data, held.ended, held.is_replaced) = (body, true, true);
            // They were about what came before them.
            held.trailers.clear();
        }
        is_whole
    }
}
