//! One request from its head to the last byte of its answer: `handle` is the order of the phases.

pub mod affinity;
mod again;
pub(crate) mod arrival;
mod body;
pub mod buffers;
pub mod connection;
pub mod content;
pub mod context;
mod early;
mod failed;
pub mod forward;
pub mod forwarded;
pub mod grpc;
pub mod headers;
mod link;
pub mod listener;
mod misdirected;
pub mod owned;
pub mod real_ip;
pub mod respond;
pub mod sources;
pub mod target;
mod tries;
pub mod tunnel;
mod upload;
pub mod upstream;
pub mod whose;

use std::borrow::Cow;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use self::connection::Connection;
use self::content::{Chunking, Content};
use self::context::Context;
use self::failed::{answer_locally, fail};
use self::forward::{Exchange, Failure, Outgoing};
use self::headers::Way;
use self::respond::{Body, Local};
use self::target::Target;
use self::tunnel::Tunnel;
use self::upload::Trailing;
use self::upstream::{Sharing, Terms};
use self::whose::Whose;
use crate::config::snapshot::{Protocol, Route, Service};
use crate::http::downstream::Downstream;
use crate::http::h1::parse::Framing;
use crate::http::h1::write::Case;
use crate::http::head::{Head, Known, Owner};
use crate::plugin::http_profile::HttpProfile;
use crate::plugin::{Access, Request};
use crate::reason::Reason;
use crate::router;
use crate::worker::{View, Worker};

/// What the connection does after a request.
pub enum After {
    /// Goes on to the next request, where it may.
    Next,
    /// Becomes a tunnel, at whose end the request is logged.
    Tunnel(Box<Tunnel>),
}

/// The two heads a connection keeps for all its requests.
#[derive(Default)]
pub struct Heads {
    /// The request's.
    pub request: Head,
    /// The response's.
    pub response: Head,
}

/// Serves one request whose head stands in `heads.request`, and logs it.
pub async fn handle<D: Downstream>(
    worker: &Rc<Worker>,
    connection: &Connection,
    heads: &mut Heads,
    upgrade: bool,
    down: &mut D,
) -> After {
    let generation = worker.rejections.generation();
    let view = worker.view();
    connection.count_request(worker.settings.limits.requests_per_connection);
    let mut context = Context::new(worker, connection);
    context.generation = generation;
    let in_time = {
        // Pinned where it is made: it is large, and a move would copy it for each request.
        let mut phases = pin!(run(&view, &mut context, heads, upgrade, down));
        match worker.settings.timeouts.request_total {
            None => Some(phases.as_mut().await),
            Some(limit) => tokio::time::timeout(limit, phases.as_mut()).await.ok(),
        }
    };
    let after = match in_time {
        Some(after) => after,
        None => {
            fail(&mut context, heads, down, Failure::Upstream(Reason::UpstreamTimeout)).await;
            After::Next
        }
    };
    match after {
        After::Next => worker.account(&context, heads),
        After::Tunnel(_) => worker.count(&context, heads, context.started.elapsed()),
    }
    after
}

async fn run<'a, D: Downstream>(
    view: &'a View,
    context: &mut Context<'a>,
    heads: &mut Heads,
    upgrade: bool,
    down: &mut D,
) -> After {
    let outcome = match route(view, context, &mut heads.request, down.request_framing()) {
        Ok(mut target) => match access(view, context, &mut heads.request, &mut target, down).await {
            Ok(()) => proxy_in_time(view, context, heads, &target, upgrade, down).await,
            Err(stop) => Err(stop),
        },
        Err(answer) => Err(Stop::Answer(answer)),
    };
    match outcome {
        Ok(after) => after,
        Err(Stop::Failed(failure)) => {
            fail(context, heads, down, failure).await;
            After::Next
        }
        Err(Stop::Answer(answer)) => {
            answer_locally(context, heads, down, &answer).await;
            After::Next
        }
    }
}

/// Why a request ends before its upstream's answer does.
enum Stop<'a> {
    Answer(Local<'a>),
    Failed(Failure),
}

/// Everything before the plugins: the target, the route, and what a client may not send.
fn route<'a>(
    view: &'a View,
    context: &mut Context<'a>,
    head: &mut Head,
    framing: Framing,
) -> Result<Target, Local<'a>> {
    let settings = &context.worker.settings;
    let trusted = context.connection.trusted;
    if trusted {
        let client =
            settings.proxy.real_ip.client(head, context.connection.peer, |address| settings.is_trusted(address));
        (context.client, context.client_port) = (client.ip(), client.port());
    }
    // A client's own connection is refused where it is accepted.
    if !context.is_direct() && context.worker.penalties.refuses_request(context.client) {
        return Err(early::penalized(context));
    }
    let mut target = target::resolve(head, &mut context.host, context.connection.port)?;
    misdirected::check(view, context, target.host())?;
    if matches!(framing, Framing::Length(length) if settings.limits.body_bytes > 0 && length > settings.limits.body_bytes)
    {
        return Err(too_large());
    }
    let selected = view.snapshot.router.select(&router::Request {
        head,
        host: target.host(),
        port: target.port,
        path: target.path(),
        tls: context.connection.tls,
        sni: context.connection.sni.as_deref(),
    });
    let Some(found) = selected else {
        return Err(Local::new(404, Reason::RouteNotFound, "no Route matched with those values"));
    };
    target.found = Some(found);
    let route = &view.snapshot.routes[found.route];
    context.route = Some(route);
    let grpc = route.protocols.contains(Protocol::Grpc) || route.protocols.contains(Protocol::Grpcs);
    if let Some(answer) = grpc.then(|| grpc::refuse(head)).flatten() {
        return Err(answer);
    }
    let proto = head.get(Known::XForwardedProto).filter(|_| trusted);
    context.https = proto.map_or(context.connection.tls, |proto| proto.eq_ignore_ascii_case(b"https"));
    let (clear, secure) = if grpc { (Protocol::Grpc, Protocol::Grpcs) } else { (Protocol::Http, Protocol::Https) };
    context.protocol = if context.https { secure } else { clear };
    if !context.https && !route.protocols.contains(clear) {
        return Err(https_required(route, &target));
    }
    context.expects_continue = head.has(Known::Expect);
    context.notes.certificates = headers::certificates(head, &view.snapshot.certificate_names);
    headers::clean_request(head, &view.owned, &route.credential_names, trusted);
    Ok(target)
}

fn https_required<'a>(route: &Route, target: &Target) -> Local<'a> {
    let status = route.https_redirect_status_code;
    let answer = Local::new(status, Reason::HttpsRequired, "Please use HTTPS protocol");
    match status {
        426 => answer.field(Known::Connection, "Upgrade").field(Known::Upgrade, "TLS/1.2, HTTP/1.1"),
        _ => {
            let location = [b"https://", target.host(), target.path_and_query()].concat();
            answer.field(Known::Location, location)
        }
    }
}

fn too_large<'a>() -> Local<'a> {
    Local::new(413, Reason::BodyTooLarge, "Payload too large").body(Body::ProxyError).close()
}

/// The plugins, most important first; of each the instance that is for the caller known by then.
async fn access<'a, D: Downstream>(
    view: &'a View,
    context: &mut Context<'a>,
    head: &mut Head,
    target: &mut Target,
    down: &mut D,
) -> Result<(), Stop<'a>> {
    let Some(route) = context.route else { return Ok(()) };
    for (index, slot) in route.plugins.slots.iter().enumerate() {
        let plugin = slot.choose(context.protocol, &context.notes.caller);
        if slot.scoped.is_some() {
            context.chosen.push((index, plugin));
        }
        let Some(plugin) = plugin else { continue };
        let mut request = Request {
            head,
            path: target.path(),
            query: target.query().map(Cow::Borrowed),
            host: target.host(),
            port: target.port,
            https: context.https,
            expects_continue: context.expects_continue,
            client: context.client,
            connection: context.connection,
            id: context.request_id.as_str(),
            now: context.now,
            route,
            router: &view.snapshot.router,
            found: target.found,
            consumers: &view.snapshot.consumers,
            cache: &context.worker.verdicts,
            key_wait: context.worker.settings.timeouts.key_wait,
            body: &mut body::Collector::new(down, &mut context.held, context.worker.settings.limits.buffer_bytes),
            notes: &mut context.notes,
            observer: Default::default(),
        };
        let access = plugin.access(&mut request).await;
        context.now = request.now;
        let query = match request.query {
            Some(Cow::Owned(query)) => Some(Some(query)),
            Some(Cow::Borrowed(_)) => None,
            None => target.query().is_some().then_some(None),
        };
        if let Some(query) = query {
            target.set_query(query.as_deref());
        }
        // Whatever a plugin made of a body that did not arrive.
        if let Some(fault) = context.held.as_ref().and_then(|held| held.fault) {
            return Err(Stop::Failed(Failure::Client(fault)));
        }
        match access {
            Access::Continue => {}
            Access::Refuse(refusal) => {
                if let Some(token) = refusal.bad_token {
                    context.worker.note_bad(context, refusal.reason, token.fingerprint);
                }
                context.worker.note_refusal(context, &refusal);
                let told = early::for_the_kernel(view, context, head, &refusal);
                let answer = Local::from(refusal);
                if let Some((rejects, token)) = told {
                    early::tell_the_kernel(context, rejects, token, &answer);
                }
                return Err(Stop::Answer(answer));
            }
            Access::Answer(answer) => return Err(Stop::Answer(answer.into())),
        }
    }
    if context.notes.caller.facts.is_some() {
        context.worker.note_good(context);
    }
    if !route.credential_names.is_empty() {
        headers::clean_credentials(head, &view.owned);
    }
    Ok(())
}

/// As `proxy`, within the time that a gRPC client waits.
async fn proxy_in_time<'a, D: Downstream>(
    view: &View,
    context: &mut Context<'a>,
    heads: &mut Heads,
    target: &Target,
    upgrade: bool,
    down: &mut D,
) -> Result<After, Stop<'a>> {
    let limit = if grpc::is_grpc(&heads.request) { grpc::deadline(&heads.request) } else { None };
    let left = limit.map(|limit| limit.saturating_sub(context.started.elapsed()));
    let mut exchange = pin!(proxy(view, context, heads, target, upgrade, down));
    let in_time = match left {
        None => Ok(exchange.as_mut().await),
        Some(left) => tokio::time::timeout(left, exchange.as_mut()).await,
    };
    in_time.unwrap_or(Err(Stop::Failed(Failure::Upstream(Reason::UpstreamTimeout))))
}

/// Sends the request on and the response back.
async fn proxy<'a, D: Downstream>(
    view: &View,
    context: &mut Context<'a>,
    heads: &mut Heads,
    target: &Target,
    upgrade: bool,
    down: &mut D,
) -> Result<After, Stop<'a>> {
    let Some(route) = context.route else { return Ok(After::Next) };
    let Some(service) = &route.service else {
        return Err(Stop::Answer(Local::new(503, Reason::ServiceNotFound, "no Service found with those values")));
    };
    let Heads { request, response } = heads;
    let mut held = context.held.take();
    let profile = context.profile();
    let grpc = service.scheme.is_grpc();
    let chunking = profile.filter(|_| !grpc).map(HttpProfile::request_chunking).unwrap_or_default();
    if held.as_ref().is_some_and(|held| held.is_replaced) {
        // None follow a length.
        request.remove(Known::Trailer);
    }
    let matched = if route.strip_path { target.matched() } else { 0 };
    let original = target.original_path(request);
    let response_via = profile.map_or(&headers::USUAL_MARKS.via, HttpProfile::response_via);
    headers::add_forwarding(
        request,
        context.connection,
        &Way {
            client: context.client,
            host: target.host(),
            authority: &context.host,
            path: &original,
            prefix: &target.path()[..matched],
            request_id: context.request_id.as_bytes(),
            marks: profile.map_or(&headers::USUAL_MARKS, HttpProfile::marks),
            forwarded: &context.worker.settings.proxy.forwarded,
        },
    );
    let host = context.notes.upstream_host.take();
    match &host {
        Some(host) => request.set_known(Known::Host, host),
        None => headers::set_host(request, route.preserve_host, &service.host_header),
    }
    let mut upstream_target = Vec::with_capacity(128);
    match &context.notes.upstream_path {
        Some(path) => upstream_target.extend_from_slice(path),
        None => router::upstream_path(
            service.path.as_deref(),
            route.strip_path,
            target.matched(),
            target.path(),
            &mut upstream_target,
        ),
    }
    if let Some(query) = target.query() {
        upstream_target.push(b'?');
        upstream_target.extend_from_slice(query);
    }
    let protocol = if upgrade { target.upgrade(&context.worker.settings.proxy.upgrades) } else { None };
    let affinity =
        service.balancer.affinity(&affinity::Request { head: request, target, router: &view.snapshot.router, context });
    let worker = &**context.worker;
    let buffer_bytes = worker.settings.limits.buffer_bytes;
    let whose = service.proxy_protocol.map(|sends| Whose::of(context, sends));
    let sharing = profile.map_or(Sharing::All, |profile| {
        let consumer = context.notes.caller.consumer.as_ref().map(|consumer| consumer.id);
        profile.sharing(consumer, context.connection.serial)
    });
    let upgrade = protocol.filter(|_| !grpc);
    // What an answer took that the client does not get.
    let mut unused = Duration::ZERO;
    let (mut exchange, meta) = loop {
        let outgoing = Outgoing {
            head: request,
            target: &upstream_target,
            https: service.scheme.is_tls(),
            upgrade,
            trailing: Trailing { owned: &view.owned, profile },
            response_via,
            body_limit: body_limit(context),
            affinity: &affinity,
            header_case: profile.map_or(Case::Preserve, HttpProfile::header_case),
            terms: Terms {
                sharing: whose.map_or(sharing, |whose| whose.sharing(sharing)),
                whose,
                only_http1: upgrade.is_some(),
            },
            chunking,
            keeps_host: route.preserve_host || host.is_some(),
            // Both ends of a gRPC stream talk while it lasts.
            hold_bytes: if (route.request_buffering || chunking == Chunking::Unchunk) && !grpc {
                buffer_bytes
            } else {
                0
            },
            ahead_bytes: if route.response_buffering { buffer_bytes.max(1) } else { 1 },
        };
        let started = Exchange::start(worker, service, &outgoing, held, &mut context.tries, down, response).await;
        context.upstream_address = context.tries.address;
        context.upstream_started = context.tries.began;
        let (exchange, meta) = started.map_err(Stop::Failed)?;
        let took = context.upstream_started.map(|began| exchange.answered.duration_since(began) + unused);
        let Some(sent) = again::with(context, &exchange, response.status()).await else {
            context.upstream = took;
            break (exchange, meta);
        };
        unused = took.unwrap_or_default();
        // Rare and large: no part of what each request keeps.
        held = Box::pin(exchange.give_up()).await;
        sent.write(request);
    };
    let answered = exchange.answered;
    if let Some(answer) = profile.filter(|_| !grpc).and_then(|profile| profile.replaces(response.status())) {
        // Rare and large: no part of what each request keeps.
        Box::pin(exchange.give_up()).await;
        return Err(Stop::Answer(answer.into()));
    }
    if response.status() == 101 {
        context.status = 101;
        return Ok(switch(context, request, response, exchange, protocol.unwrap_or_default()).await);
    }
    headers::clean_response(response, false);
    if !response.has(Known::Date) {
        // RFC 9110, 6.6.1: who forwards a response without a date gives it one.
        response.push_known(Known::Date, &context.worker.clock.http_date(context.now.unix_ms as u64 / 1000));
    }
    respond::plugin_fields(context, request, response, true);
    let chunking = profile.filter(|_| !grpc).map(HttpProfile::response_chunking).unwrap_or_default();
    let content = Content::prepare(context, &mut exchange, request, response, meta, chunking).await?;
    headers::add_via(response, response_via);
    headers::add_latencies(response, context, answered);
    if let Some(cookie) = &affinity.set_cookie {
        response.push(Owner::Edge, b"Set-Cookie", cookie.as_bytes());
    }
    respond::shape(context, request, response, true);
    // From here on the client has seen a head.
    context.status = response.status();
    exchange.down().respond(response, content.shape, context.ends_connection());
    let transferred = content.send(&mut exchange).await;
    context.request_bytes = exchange.request_bytes();
    context.response_bytes = exchange.response_bytes;
    transferred.map_err(Stop::Failed)?;
    let _room = exchange.finish(answered);
    poll_fn(|cx| down.poll_flush(cx)).await.map_err(|fault| Stop::Failed(Failure::Client(fault)))?;
    Ok(After::Next)
}

/// The longest body this request may have, in bytes.
fn body_limit(context: &Context<'_>) -> u64 {
    let limits = [context.notes.body_limit, Some(context.worker.settings.limits.body_bytes).filter(|limit| *limit > 0)];
    limits.into_iter().flatten().min().unwrap_or(u64::MAX)
}

/// Tells the client of the switch; the connection's owner joins the two ends.
async fn switch<D: Downstream>(
    context: &mut Context<'_>,
    request: &Head,
    response: &mut Head,
    mut exchange: Exchange<'_, D>,
    protocol: &[u8],
) -> After {
    headers::clean_response(response, true);
    headers::add_via(response, context.profile().map_or(&headers::USUAL_MARKS.via, HttpProfile::response_via));
    respond::shape(context, request, response, true);
    exchange.down().interim(response);
    if poll_fn(|cx| exchange.down().poll_flush(cx)).await.is_err() {
        return After::Next;
    }
    match exchange.into_upstream() {
        Some((upstream, pick)) => After::Tunnel(Box::new(Tunnel::new(context, upstream, pick, protocol))),
        None => After::Next,
    }
}

/// The service a context was routed to.
pub(crate) fn service_of<'a>(context: &Context<'a>) -> Option<&'a Service> {
    context.route.and_then(|route| route.service.as_deref())
}
