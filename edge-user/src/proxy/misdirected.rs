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
    let tls = view.listener(&connection.listener);
    let wanted = tls.map(|tls| tls.policy(Some(host)));
    let Some(wanted) = wanted.filter(|wanted| Arc::ptr_eq(wanted, held) || wanted.has_rules_of(held)) else {
        let refusal = Local::new(421, Reason::HostMisdirected, MESSAGE);
        // Where its own name has other rules by now, no host can be asked for over it any more.
        let own = tls.map(|tls| tls.policy(connection.sni.as_deref().map(str::as_bytes)));
        let is_of_use = own.is_some_and(|own| own.has_rules_of(held));
        connection.ends.set(connection.ends.get() || !is_of_use);
        return Err(if is_of_use { refusal } else { refusal.close() });
    };
    if let Some(shown) = connection.client_certificate.as_deref() {
        let (now, judged) = (context.now.unix_ms, &connection.judged_unix_ms);
        // Streams of HTTP/2 may go on to come: they are not worth another look.
        let is_good = || shown.ends_unix_ms() >= now && wanted.still_takes(shown, held, judged, now);
        if connection.is_refused.get() || !is_good() {
            // No later request can be better; a new connection may bring another certificate.
            connection.is_refused.set(true);
            connection.ends.set(true);
            return Err(Local::new(421, Reason::ClientCertificateRefused, MESSAGE).close());
        }
    }
    if !Arc::ptr_eq(wanted, held) {
        *held = wanted.clone();
    }
    Ok(())
}
