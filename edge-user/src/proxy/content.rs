//! A response's content between its upstream and its client: as it comes, rewritten by plugins, or in another framing.
//!
//! What has to be whole before its head can be told is held up to `limits.buffer_bytes`.

use super::Stop;
use super::context::Context;
use super::forward::{Exchange, Failure, Room};
use crate::http::downstream::{Downstream, ResponseShape};
use crate::http::h1::parse::{Framing, ResponseMeta};
use crate::http::head::{Head, Known, Version};
use crate::plugin::Plugin;
use crate::reason::Reason;

/// How bodies are framed on their way on. In HTTP/2 frames do what chunks do: there a length is told, or none is.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub enum Chunking {
    /// In chunks what came in chunks, with its length what came with one.
    #[default]
    Sustain,
    /// In chunks, wherever HTTP/1.1 is spoken.
    Rechunk,
    /// With its length, where it is short enough to be held until that is known.
    Unchunk,
}

/// What follows a response's head.
pub(super) struct Content {
    /// How the head tells of it.
    pub(super) shape: ResponseShape,
    held: Option<Held>,
}

/// What was read of it before the head is sent.
struct Held {
    bytes: Vec<u8>,
    /// Whether that is all of it.
    is_whole: bool,
}

impl Content {
    /// Reads as much as must be known for the head, which still lacks what the edge says in it.
    pub(super) async fn prepare<D: Downstream>(
        context: &Context<'_>,
        exchange: &mut Exchange<'_, D>,
        request: &Head,
        response: &mut Head,
        meta: ResponseMeta,
        chunking: Chunking,
    ) -> Result<Self, Stop<'static>> {
        let limit = context.worker.settings.limits.buffer_bytes;
        let rewriters: Vec<&Plugin> = context.answering().filter(|plugin| plugin.rewrites_body(response)).collect();
        let mut shape = ResponseShape { framing: meta.framing, declared: meta.declared };
        let is_chunked = |framing| matches!(framing, Framing::Chunked | Framing::Eof);
        let mut held = None;
        if meta.framing == Framing::None {
            // The answer to HEAD: nobody knows the length that a body would get (RFC 9110, 8.6).
            if !rewriters.is_empty() || chunking == Chunking::Unchunk && is_chunked(meta.declared) {
                shape.declared = Framing::None;
            }
        } else if !rewriters.is_empty() {
            // Rare and large: no part of what each request keeps.
            let bytes = Box::pin(rewrite(exchange, &rewriters, limit)).await?;
            held = Some(Held { bytes, is_whole: true });
        } else if chunking == Chunking::Unchunk && is_chunked(meta.framing) && !is_endless(response) {
            let (bytes, is_whole) = Box::pin(exchange.gather(limit, Room::Shared)).await.map_err(Stop::Failed)?;
            held = Some(Held { bytes, is_whole });
        }
        if let Some(Held { bytes, is_whole: true }) = &held {
            let framing = Framing::Length(bytes.len() as u64);
            shape = ResponseShape { framing, declared: framing };
            // None follow a length.
            response.remove(Known::Trailer);
        }
        if chunking == Chunking::Rechunk
            && matches!(shape.framing, Framing::Length(1..))
            && request.version() == Version::Http11
        {
            shape = ResponseShape { framing: Framing::Chunked, declared: Framing::Chunked };
        }
        Ok(Self { shape, held })
    }

    /// Puts it behind `Downstream::respond`; what the client has not taken yet is to be flushed.
    pub(super) async fn send<D: Downstream>(self, exchange: &mut Exchange<'_, D>) -> Result<(), Failure> {
        match self.held {
            None => return exchange.transfer().await,
            Some(Held { bytes, is_whole: true }) => exchange.send(bytes),
            Some(Held { bytes, is_whole: false }) => {
                exchange.put(bytes);
                return exchange.transfer().await;
            }
        }
        Ok(())
    }
}

/// Whether it is sent for as long as it is watched, and held would never be seen.
fn is_endless(response: &Head) -> bool {
    let media_type = response.get(Known::ContentType).unwrap_or_default().split(|byte| *byte == b';').next();
    media_type.is_some_and(|media_type| media_type.trim_ascii().eq_ignore_ascii_case(b"text/event-stream"))
}

/// The upstream's body as the plugins want it.
async fn rewrite<D: Downstream>(
    exchange: &mut Exchange<'_, D>,
    plugins: &[&Plugin],
    limit: usize,
) -> Result<Vec<u8>, Stop<'static>> {
    let (mut body, is_whole) = exchange.gather(limit, Room::Own).await.map_err(Stop::Failed)?;
    if !is_whole {
        return Err(Stop::Failed(Failure::Upstream(Reason::ResponseTooLarge)));
    }
    for plugin in plugins {
        if let Some(rewritten) = plugin.rewrite_body(&body) {
            body = rewritten;
        }
    }
    Ok(body)
}
