//! Who is at the other end of a connection that was just accepted: its peer, or whom the peer's PROXY header names.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use tokio::net::TcpStream;

use super::Heads;
use super::connection::{Connection, ListenerInfo};
use super::context::Context;
use super::sources::Seat;
use crate::proxy_protocol::{self, Error, Preface, Versions};
use crate::reason::Reason;
use crate::worker::Worker;

/// A connection's ends.
pub(crate) struct Arrival {
    /// The client.
    pub(crate) client: SocketAddr,
    /// Where it connected to.
    pub(crate) local: SocketAddr,
    /// Who passed it on, and what else its header says.
    told: Option<(SocketAddr, Preface)>,
    /// Its place among its source's connections, where those are limited.
    pub(crate) seat: Option<Seat>,
}

impl Arrival {
    /// The connection, before its first request.
    pub(super) fn connection(
        self,
        worker: &Worker,
        listener: Arc<ListenerInfo>,
        tls_version: Option<&'static str>,
        sni: Option<&str>,
    ) -> Connection {
        let trusted = worker.settings.is_trusted(self.client.ip());
        let mut connection = Connection::new(self.client, self.local, trusted, listener, tls_version);
        connection.sni = sni.map(Into::into);
        connection.seat = self.seat;
        match self.told {
            Some((via, preface)) => connection.told(via, preface),
            None => connection,
        }
    }

    /// The host name that the header says the client asked for.
    pub(crate) fn authority(&self) -> Option<&str> {
        self.told.as_ref()?.1.authority.as_deref()
    }
}

/// Reads the PROXY header where the listener wants one. The error is why the connection ends; none where its source may
/// not connect, which is told nowhere else either.
pub(crate) async fn arrive(
    worker: &Worker,
    tcp: &mut TcpStream,
    peer: SocketAddr,
    local: SocketAddr,
    versions: Versions,
) -> Result<Arrival, Option<Reason>> {
    if versions == Versions::Off {
        let seat = seat(worker, peer, true)?;
        return Ok(Arrival { client: peer, local, told: None, seat });
    }
    // Whoever else could write a header could be anyone.
    if !worker.settings.is_trusted(peer.ip()) {
        return Err(Some(Reason::ProxyProtocolUntrusted));
    }
    let read = tokio::time::timeout(worker.settings.timeouts.handshake, proxy_protocol::read(tcp, versions)).await;
    let preface = match read.map_err(|_| Some(Reason::ProxyProtocolTimeout))? {
        Ok(preface) => preface,
        Err(error) => {
            tracing::debug!(%peer, %error, "a connection was refused");
            return Err(Some(match error {
                Error::Ended => Reason::ClientGone,
                Error::Missing => Reason::ProxyProtocolMissing,
                Error::Malformed(_) => Reason::ProxyProtocolMalformed,
            }));
        }
    };
    let (client, local) = preface.addresses.unwrap_or((peer, local));
    if worker.denied.load().contains(client.ip().to_canonical()) {
        return Err(None);
    }
    // Who speaks for itself is the peer, as without a header.
    let told = preface.addresses.is_some().then_some((peer, preface));
    let seat = seat(worker, client, told.is_none())?;
    Ok(Arrival { client, local, told, seat })
}

/// A place among the connections of the client's source. A trusted peer that speaks for itself brings those of many, and
/// needs none.
fn seat(worker: &Worker, client: SocketAddr, speaks_for_itself: bool) -> Result<Option<Seat>, Option<Reason>> {
    let Some(sources) = &worker.sources else { return Ok(None) };
    if speaks_for_itself && worker.settings.is_trusted(client.ip()) {
        return Ok(None);
    }
    sources.seat(client.ip()).map(Some).ok_or(Some(Reason::SourceConnections))
}

/// Counts and logs a connection of requests that ends before the first.
pub(super) fn refuse(
    worker: &Rc<Worker>,
    peer: SocketAddr,
    local: SocketAddr,
    listener: Arc<ListenerInfo>,
    reason: Reason,
) {
    let connection = Connection::new(peer, local, false, listener, None);
    let mut context = Context::new(worker, &connection);
    context.reason = Some(reason);
    worker.account(&context, &Heads::default());
}
