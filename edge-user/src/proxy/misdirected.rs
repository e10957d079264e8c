//! Requests over a connection whose TLS was not made for their host (RFC 9110, 15.5.20): what a client proved under one
//! host's rules is nothing under another's (S8).

use std::sync::Arc;

use super::context::Context;
use super::respond::Local;
use crate::reason::Reason;
use crate::worker::View;

const MESSAGE: &str = "Misdirected request";

/// Refuses a request for a host at which other certificates are asked for than at the name of the connection's
/// handshake; and one whose client certificate has expired since, or is refused by what was read anew since.
pub(super) fn check(view: &View, context: &Context<'_>, host: &[u8]) -> Result<(), Local<'static>> {
    let connection = context.connection;
    let mut policy = connection.policy.borrow_mut();
    let Some(held) = policy.as_mut() else { return Ok(()) };
    let wanted = view.listener(&connection.listener).map(|tls| tls.policy(Some(host)));
    let Some(wanted) = wanted.filter(|wanted| Arc::ptr_eq(wanted, held) || wanted.has_rules_of(held)) else {
        return Err(Local::new(421, Reason::HostMisdirected, MESSAGE));
    };
    let shown = connection.client_certificate.as_deref();
    let has_expired = shown.is_some_and(|shown| shown.ends_unix_ms() < context.now.unix_ms);
    if has_expired || !Arc::ptr_eq(wanted, held) && !wanted.still_takes(shown, held) {
        // No later request can be better; a new connection may bring another certificate.
        connection.ends.set(true);
        return Err(Local::new(421, Reason::ClientCertificateRefused, MESSAGE).close());
    }
    if !Arc::ptr_eq(wanted, held) {
        *held = wanted.clone();
    }
    Ok(())
}
