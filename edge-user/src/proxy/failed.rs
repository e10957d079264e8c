//! What becomes of a request that its upstream does not answer, or not to the end.

use std::future::poll_fn;

use super::context::Context;
use super::forward::Failure;
use super::respond::{self, Body, Local};
use super::{Heads, body_limit, grpc, too_large};
use crate::http::downstream::{Downstream, Fault};
use crate::http::head::{Head, Version};
use crate::plugin::request_size_limiting;
use crate::reason::Reason;

/// An exchange that did not end as it should: an answer where the client has seen none yet, a cut where it has.
pub(super) async fn fail<D: Downstream>(context: &mut Context<'_>, heads: &mut Heads, down: &mut D, failure: Failure) {
    if context.status != 0 {
        context.reason = Some(match failure {
            Failure::Upstream(reason) => reason,
            Failure::TooLarge => Reason::BodyTooLarge,
            Failure::Client(Fault::Gone) => Reason::ClientGone,
            Failure::Client(Fault::Timeout) => Reason::RequestTimeout,
            Failure::Client(Fault::Malformed) => Reason::RequestMalformed,
        });
        down.abandon_body();
        match failure {
            // The status of a gRPC stream stands at its end.
            Failure::Upstream(reason) if is_grpc_stream(&heads.request) => {
                let mut trailers = Head::default();
                grpc::push_status(&mut trailers, respond::upstream_failure(reason).status);
                down.finish(&trailers);
                if poll_fn(|cx| down.poll_flush(cx)).await.is_err() {
                    down.abort();
                }
            }
            _ => down.abort(),
        }
        return;
    }
    let answer = match failure {
        Failure::Upstream(reason) => {
            let answer = respond::upstream_failure(reason);
            let fallback = context.profile().filter(|_| !grpc::is_grpc(&heads.request));
            fallback.and_then(|profile| profile.stands_in(answer.status, reason)).map_or(answer, Local::from)
        }
        Failure::TooLarge if context.notes.body_limit == Some(body_limit(context)) => {
            let status = if context.expects_continue { 417 } else { 413 };
            Local::new(status, Reason::PayloadTooLarge, request_size_limiting::MESSAGE).close()
        }
        Failure::TooLarge => too_large(),
        Failure::Client(Fault::Timeout) => {
            Local::new(408, Reason::RequestTimeout, "Request timeout").body(Body::ProxyError).close()
        }
        Failure::Client(Fault::Malformed) => {
            Local::new(400, Reason::RequestMalformed, "Bad request").body(Body::ProxyError).close()
        }
        Failure::Client(Fault::Gone) => {
            // Nobody is left to answer; the log says so with nginx's code.
            (context.status, context.reason) = (499, Some(Reason::ClientGone));
            down.abandon_body();
            down.abort();
            return;
        }
    };
    answer_locally(context, heads, down, &answer).await;
}

pub(super) async fn answer_locally<D: Downstream>(
    context: &mut Context<'_>,
    heads: &mut Heads,
    down: &mut D,
    answer: &Local<'_>,
) {
    respond::local(context, &heads.request, &mut heads.response, down, answer);
    if poll_fn(|cx| down.poll_flush(cx)).await.is_err() {
        down.abort();
    }
}

/// Whether the client reads a gRPC status from trailers.
fn is_grpc_stream(request: &Head) -> bool {
    request.version() == Version::Http2 && grpc::is_grpc(request)
}
