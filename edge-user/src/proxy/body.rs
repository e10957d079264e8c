//! A request's body for a plugin that must see it before anyone else does.

use std::task::{Context, Poll};

use crate::http::downstream::{Downstream, Fault};
use crate::http::h1::parse::Framing;
use crate::http::h1::write::BodyEncoder;
use crate::plugin::RequestBody;

/// Reads the body from the client into memory.
pub(super) struct Collector<'d, D> {
    down: &'d mut D,
    bytes: Vec<u8>,
    ended: bool,
}

impl<'d, D: Downstream> Collector<'d, D> {
    pub(super) fn new(down: &'d mut D) -> Self {
        Self { down, bytes: Vec::new(), ended: false }
    }
}

impl<D: Downstream> RequestBody for Collector<'_, D> {
    fn framing(&self) -> Framing {
        self.down.request_framing()
    }

    fn poll_collect(&mut self, cx: &mut Context<'_>, limit: usize) -> Poll<Result<bool, Fault>> {
        if matches!(self.framing(), Framing::None | Framing::Length(0)) {
            self.ended = true;
        }
        while !self.ended {
            if self.bytes.len() > limit {
                return Poll::Ready(Ok(false));
            }
            // A framing that adds nothing of its own: what arrives is the data alone.
            let mut piece = Vec::new();
            let mut sink = BodyEncoder::new(&mut piece, Framing::Length(u64::MAX));
            let polled = self.down.poll_body(cx, &mut sink);
            self.bytes.append(&mut piece);
            match polled {
                Poll::Ready(ended) => self.ended = ended?,
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(Ok(self.bytes.len() <= limit))
    }

    fn collected(&self) -> &[u8] {
        &self.bytes
    }
}
