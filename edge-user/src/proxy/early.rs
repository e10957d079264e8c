//! Refusals before anything else is looked at: of sources with a penalty, here, and of bad tokens, in the kernel.

use super::connection::Rejects;
use super::context::Context;
use super::respond::{self, Local};
use crate::http::head::{Head, Known, Version};
use crate::plugin::{self, openid_connect};
use crate::reason::Reason;
use crate::rejection::Rejected;
use crate::worker::View;

/// The answer to a client with a penalty that a trusted proxy forwards for.
pub(super) fn penalized<'a>(context: &Context<'_>) -> Local<'a> {
    let penalties = &context.worker.penalties;
    let sentence = penalties.of(penalties.source(context.client));
    let left = sentence.map_or(0, |sentence| sentence.until.saturating_duration_since(context.started).as_secs());
    let answer = Local::new(429, Reason::SourcePenalized, "Too many invalid tokens");
    let answer = answer.field(Known::RetryAfter, (left + 1).to_string());
    // Others share the connection of a proxy that names its clients request by request.
    if context.owns_connection() { answer.close() } else { answer }
}

/// The listener and the token, where the kernel is to refuse it from here on.
pub(super) fn for_the_kernel(
    view: &View,
    context: &Context<'_>,
    head: &Head,
    refusal: &plugin::Refusal<'_>,
) -> Option<(Rejects, Box<[u8]>)> {
    let rejects = context.connection.listener.rejects?;
    // What makes a host eligible is compared of this plugin alone.
    if refusal.plugin != openid_connect::NAME {
        return None;
    }
    if refusal.bad_token.is_none() && refusal.reason != Reason::TokenExpired {
        return None;
    }
    let rejection = &view.snapshot.kernel_rejection;
    let is_wanted = head.version() == Version::Http11
        && context.worker.remembered.comes_again(refusal.fingerprint())
        && rejection.allows(&context.host)
        && refusal.lasts(context.now.unix_ms - rejection.patience_ms());
    is_wanted.then(|| (rejects, refusal.token().into()))
}

/// Tells it, with the answer that the token gets.
pub(super) fn tell_the_kernel(context: &Context<'_>, rejects: Rejects, token: Box<[u8]>, answer: &Local<'_>) {
    context.connection.brought_rejected.set(true);
    let exposes_reason = context.worker.settings.proxy.expose_reason;
    let reply = |closes| respond::kernel_reply(answer, exposes_reason, closes);
    context.worker.rejections.tell(Rejected {
        listener: rejects.listener,
        port: context.connection.port,
        host: context.host.as_slice().into(),
        token,
        generation: context.generation,
        reply: reply(true),
        kept_reply: rejects.keeps.then(|| reply(false)),
    });
}
