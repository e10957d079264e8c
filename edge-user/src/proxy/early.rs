//! Refusals before anything else is looked at: of sources with a penalty, here, and of bad tokens, in the kernel.

use super::context::Context;
use super::respond::{self, Local};
use crate::http::head::{Head, Known, Version};
use crate::plugin::{self, BadToken};
use crate::reason::Reason;
use crate::rejection::Rejected;
use crate::worker::View;

/// The answer to a client with a penalty that a trusted proxy forwards for.
pub(super) fn penalized<'a>(context: &Context<'_>) -> Local<'a> {
    let penalties = &context.worker.penalties;
    let sentence = penalties.of(penalties.source(context.client));
    let left = sentence.map_or(0, |sentence| sentence.until.saturating_duration_since(context.started).as_secs());
    Local::new(429, Reason::SourcePenalized, "Too many invalid tokens").field(Known::RetryAfter, (left + 1).to_string())
}

/// The listener's number and the token, where the kernel is to refuse it from here on.
pub(super) fn for_the_kernel(
    view: &View,
    context: &Context<'_>,
    head: &Head,
    refusal: &plugin::Refusal<'_>,
) -> Option<(u32, Box<[u8]>)> {
    let listener = context.connection.listener.rejects?;
    let BadToken { fingerprint, .. } = refusal.bad_token.filter(|token| token.lasts)?;
    let is_wanted = head.version() == Version::Http11
        && context.worker.remembered.comes_again(fingerprint)
        && view.snapshot.kernel_rejection.allows(&context.host);
    is_wanted.then(|| (listener, refusal.token().into()))
}

/// Tells it, with the answer that the token gets.
pub(super) fn tell_the_kernel(context: &Context<'_>, listener: u32, token: Box<[u8]>, answer: &Local<'_>) {
    context.worker.rejections.tell(Rejected {
        listener,
        port: context.connection.port,
        host: context.host.as_slice().into(),
        token,
        generation: context.generation,
        reply: respond::kernel_reply(answer, context.worker.settings.proxy.expose_reason),
    });
}
