//! Whose requests a connection to an upstream carries, where it begins with a PROXY header: that states one client, so it
//! is this client's alone.

use std::net::SocketAddr;

use x509_parser::parse_x509_certificate;

use super::connection::Connection;
use super::context::{Context, RequestId};
use super::upstream::Sharing;
use crate::proxy_protocol::{Sends, Shown, Tls, Told};
use crate::tls::ClientCertificate;

/// One request's client.
#[derive(Clone, Copy)]
pub struct Whose<'a> {
    sends: Sends,
    connection: &'a Connection,
    client: SocketAddr,
    request_id: RequestId,
}

impl<'a> Whose<'a> {
    /// The client of this request.
    pub fn of(context: &Context<'a>, sends: Sends) -> Self {
        Self { sends, connection: context.connection, client: context.client_address(), request_id: context.request_id }
    }

    /// Which connections its requests may use, of those that others than clients are told apart by.
    pub fn sharing(&self, sharing: Sharing) -> Sharing {
        sharing.for_client(self.connection.serial, self.client)
    }

    /// What a new connection begins with.
    pub fn header(&self) -> Vec<u8> {
        let connection = self.connection;
        // The session is the peer's, and tells nothing of a client that the peer named in a field.
        let is_own = self.client == connection.peer;
        let tls = connection.tls_version.filter(|_| is_own).map(|version| Tls {
            version,
            certificate: connection.client_certificate.as_deref().map(|certificate| Shown {
                common_name: common_name(certificate),
                in_handshake: !connection.is_resumed,
                is_verified: connection.policy.borrow().as_ref().is_some_and(|policy| policy.has_authorities()),
            }),
        });
        self.sends.header(Some(&Told {
            client: self.client,
            destination: SocketAddr::new(connection.local, connection.port),
            authority: connection.sni.as_deref().filter(|_| is_own),
            tls,
            unique_id: self.request_id.as_str(),
        }))
    }
}

/// The last one of the subject, which is the most specific.
fn common_name(certificate: &ClientCertificate) -> Option<String> {
    let (_, parsed) = parse_x509_certificate(&certificate.der).ok()?;
    let name = parsed.subject().iter_common_name().last()?;
    name.as_str().ok().map(str::to_owned)
}
