//! The request's body on its way up: held first where its route buffers, then as fast as both sides let it.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::body::Held;
use super::buffers::Part;
use super::content::Chunking;
use super::forward::{Failure, Outgoing};
use super::link::Link;
use super::owned::{OwnedNames, imitates_known};
use crate::http::downstream::Downstream;
use crate::http::h1::parse::Framing;
use crate::plugin::http_profile::HttpProfile;
use crate::reason::Reason;

/// Which trailers of a client may go up: none that tells an identity or the way (P1), none that an allow-list leaves out.
#[derive(Clone, Copy)]
pub struct Trailing<'a> {
    /// Names that are the edge's.
    pub owned: &'a OwnedNames,
    /// The profile of the request's route.
    pub profile: Option<&'a HttpProfile>,
}

impl<'a> Trailing<'a> {
    fn rule(self) -> impl Fn(&[u8]) -> bool + 'a {
        move |name| {
            !self.owned.owns(name) && !imitates_known(name) && self.profile.is_none_or(|profile| profile.lets_up(name))
        }
    }
}

/// How far the request has come.
pub(super) struct Upload<'a> {
    framing: Framing,
    /// As the link of this try is told.
    told: Framing,
    chunking: Chunking,
    trailing: Trailing<'a>,
    limit_bytes: u64,
    held: Option<Box<Held>>,
    /// What is held has this much room.
    part: Part,
    /// Its length is told in place of chunks, and none follow that.
    pub drops_trailers: bool,
    /// All of it was given to the link.
    pub ended: bool,
    /// All of it is sent.
    pub done: bool,
    /// The upstream takes no more of it; an answer may stand there all the same.
    broken: bool,
    /// Body bytes taken from the client.
    pub bytes: u64,
}

impl<'a> Upload<'a> {
    /// A body the client framed so, of which plugins have read what is `held`; over `limit_bytes` it is too large.
    pub(super) fn new(
        framing: Framing,
        chunking: Chunking,
        trailing: Trailing<'a>,
        limit_bytes: u64,
        held: Option<Box<Held>>,
        part: Part,
    ) -> Result<Self, Failure> {
        let framing = match &held {
            Some(held) if held.is_replaced => Framing::Length(held.data.len() as u64),
            _ => framing,
        };
        let ended = matches!(framing, Framing::None | Framing::Length(0));
        let taken = held.as_ref().map_or(0, |held| held.taken_bytes);
        let mut upload = Self {
            framing,
            told: framing,
            chunking,
            trailing,
            limit_bytes,
            held,
            part,
            drops_trailers: false,
            ended,
            done: false,
            broken: false,
            bytes: 0,
        };
        upload.took(taken)?;
        Ok(upload)
    }

    /// Reads the body up to about so many bytes, as far as there is room for them, so that a slow client costs no
    /// upstream anything, and a request that may be repeated can be.
    pub(super) async fn hold<D: Downstream>(&mut self, down: &mut D, bytes: usize) -> Result<(), Failure> {
        let mut held = self.held.take().unwrap_or_default();
        if let Framing::Length(length) = self.framing {
            let whole = usize::try_from(length).unwrap_or(bytes).min(bytes);
            held.data.reserve_exact(whole.saturating_sub(held.data.len()));
        }
        poll_fn(|cx| {
            while !held.ended && held.data.len() < bytes && self.part.has_room(held.data.len()) {
                let before = held.taken_bytes;
                let polled = held.poll_read(cx, down);
                self.took(held.taken_bytes - before)?;
                ready!(polled).map_err(Failure::Client)?;
            }
            Poll::Ready(Ok::<_, Failure>(()))
        })
        .await?;
        if self.chunking == Chunking::Unchunk && held.ended {
            self.framing = Framing::Length(held.data.len() as u64);
            self.ended = held.data.is_empty();
            // HTTP/2 could send them, and is not to be another way than HTTP/1.
            held.trailers.clear();
            self.drops_trailers = true;
        }
        self.held = Some(held);
        Ok(())
    }

    fn took(&mut self, bytes: u64) -> Result<(), Failure> {
        self.bytes += bytes;
        match self.bytes > self.limit_bytes {
            true => Err(Failure::TooLarge),
            false => Ok(()),
        }
    }

    /// Begins a try: the head, and what is held. False where the link cannot carry the request's target.
    pub(super) fn begin(&mut self, link: &mut Link, outgoing: &Outgoing<'_>) -> Result<bool, Failure> {
        // HTTP/2 has frames for it.
        self.told = match (self.chunking, self.framing, &*link) {
            (Chunking::Rechunk, Framing::Length(1..), Link::H1(_)) => Framing::Chunked,
            (_, framing, _) => framing,
        };
        if !link.begin(outgoing, self.told, self.ended)? {
            return Ok(false);
        }
        if let Some(held) = &self.held {
            let may_trail = self.trailing.rule();
            let mut sink = link.sink(self.told, &may_trail);
            sink.data(&held.data);
            if held.ended {
                sink.end(&held.trailers);
                self.ended = true;
            }
        }
        Ok(true)
    }

    /// Whether everything taken from the client is held still, so that another try can have it.
    pub(super) fn is_whole(&self) -> bool {
        self.bytes == self.held.as_ref().map_or(0, |held| held.taken_bytes)
    }

    /// Makes ready for another try.
    pub(super) fn rewind(&mut self) {
        self.ended = matches!(self.framing, Framing::None | Framing::Length(0));
        (self.done, self.broken) = (false, false);
    }

    /// There is no other try of this exchange: what is held is needed here no more.
    pub(super) fn forget(&mut self) -> Option<Box<Held>> {
        self.part.clear();
        self.held.take()
    }

    /// Goes on with the request as far as both sides let it.
    pub(super) fn drive<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        link: &mut Link,
        write_timeout: Duration,
    ) -> Result<(), Failure> {
        if self.done || self.broken {
            return Ok(());
        }
        match self.poll(cx, down, link, write_timeout) {
            Poll::Pending => Ok(()),
            Poll::Ready(Ok(())) => {
                self.done = true;
                link.await_answer();
                Ok(())
            }
            // It may have answered before it closed: the reading side will tell.
            Poll::Ready(Err(Failure::Upstream(Reason::UpstreamReset))) => {
                self.broken = true;
                Ok(())
            }
            Poll::Ready(Err(failure)) => Err(failure),
        }
    }

    fn poll<D: Downstream>(
        &mut self,
        cx: &mut Context<'_>,
        down: &mut D,
        link: &mut Link,
        write_timeout: Duration,
    ) -> Poll<Result<(), Failure>> {
        loop {
            if !self.ended && link.can_take_more() {
                let may_trail = self.trailing.rule();
                let mut sink = link.sink(self.told, &may_trail);
                let polled = down.poll_body(cx, &mut sink);
                let bytes = sink.data_bytes;
                self.took(bytes)?;
                self.ended = ready!(polled).map_err(Failure::Client)?;
            }
            ready!(link.poll_send(cx, write_timeout, self.ended))?;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
        }
    }
}
