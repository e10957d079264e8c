//! Once more with another token: what becomes of an answer by which an upstream refuses the edge's own (U5).
//!
//! Beyond Kong, whose client gets that answer. The rules of other tries hold here too (D7): a method that is idempotent,
//! and a body that is held whole; a POST is never sent twice, whatever the upstream says of the first.

use super::context::Context;
use super::forward::Exchange;
use crate::http::downstream::Downstream;
use crate::plugin::upstream_oauth::Sent;

/// The token to send the request with again in place of the one that this status refuses; nothing where the answer is
/// the client's. What is refused is forgotten in either case.
pub(super) async fn with<D: Downstream>(
    context: &mut Context<'_>,
    exchange: &Exchange<'_, D>,
    status: u16,
) -> Option<Sent> {
    // What switches protocols is no refusal, whatever the configuration lists.
    if status == 101 || !context.notes.sent.as_ref().is_some_and(|sent| sent.is_refused_by(status)) {
        return None;
    }
    // It is gone from here on: one refusal, one other token.
    let sent = context.notes.sent.take()?;
    let may_be_had = sent.purge();
    if !may_be_had || !sent.wants_another() || !exchange.may_be_repeated() {
        return None;
    }
    let limit = context.worker.settings.timeouts.key_wait;
    // Rare and large: no part of what each request keeps.
    let another = Box::pin(sent.another(limit, &mut context.notes.waited)).await;
    tracing::debug!(status, again = another.is_some(), "an upstream refuses the edge's token");
    another
}
