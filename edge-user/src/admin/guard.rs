//! Which names the Admin API answers to, and whose pages may change anything. A web page can make a browser connect to a
//! local address under the page's own name (DNS rebinding) and then read the answers; it cannot make the browser send a
//! `Host` that is not that name. It can have the browser send a bare POST to the right name, and then not leave `Origin` out.

use std::net::{IpAddr, SocketAddr};

use axum::http::{Method, Request, header, uri::Authority};

/// Why a request is not answered.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// HTTP/1.1 requires it (RFC 9112, 3.2).
    #[error("Host header missing, repeated or malformed")]
    Host,
    /// A name that is not ours.
    #[error("Host is not this Admin API: use localhost, a loopback address or the configured address")]
    Foreign,
    /// Another site's page, or a local file's.
    #[error("Origin is not this Admin API: no other page may change anything here")]
    Page,
}

/// Accepts loopback names and addresses and the configured address; any literal address where that is unspecified. Changes
/// are not taken from the pages of others (Fetch, 3.2: each POST and DELETE of a page carries its `Origin`).
pub(super) fn check<B>(request: &Request<B>, configured: SocketAddr) -> Result<(), Error> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).map_err(|_| Error::Host)?,
        _ => return Err(Error::Host),
    };
    // An absolute-form target names the host too and goes before the field (RFC 9112, 3.2.2).
    for authority in std::iter::once(&host).chain(request.uri().authority()) {
        if !is_ours(authority, configured.ip()) {
            return Err(Error::Foreign);
        }
    }
    let reads = [Method::GET, Method::HEAD, Method::OPTIONS].contains(request.method());
    let is_own = |origin: &[u8]| {
        let authority = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
        authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str().as_bytes()))
    };
    match reads || request.headers().get_all(header::ORIGIN).iter().all(|origin| is_own(origin.as_bytes())) {
        true => Ok(()),
        false => Err(Error::Page),
    }
}

fn is_ours(authority: &Authority, configured: IpAddr) -> bool {
    let name = authority.host();
    if authority.as_str().contains('@') {
        return false;
    }
    if name.eq_ignore_ascii_case("localhost") {
        return true;
    }
    let literal = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(name);
    let Ok(ip) = literal.parse::<IpAddr>() else { return false };
    // Rebinding needs a name: an address cannot be made to point elsewhere.
    ip.to_canonical().is_loopback() || ip == configured || configured.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A3.
    #[test]
    fn only_our_own_names_are_answered() {
        let (loopback, any, site) = ("127.0.0.1:8001", "[::]:8001", "192.0.2.1:8001");
        for (hosts, uri, configured, expected) in [
            (&["localhost:8001"][..], "/", loopback, Ok(())),
            (&["LOCALHOST"], "/", loopback, Ok(())),
            (&["127.0.0.1:9999"], "/", loopback, Ok(())),
            (&["[::1]:8001"], "/", loopback, Ok(())),
            (&["192.0.2.1"], "/", site, Ok(())),
            (&["192.0.2.2"], "/", any, Ok(())),
            (&["192.0.2.2"], "/", site, Err(Error::Foreign)),
            (&["evil.example:8001"], "/", loopback, Err(Error::Foreign)),
            (&["evil.example"], "/", any, Err(Error::Foreign)),
            (&["localhost.evil.example"], "/", loopback, Err(Error::Foreign)),
            (&["127.0.0.1.evil.example"], "/", loopback, Err(Error::Foreign)),
            (&["localhost@evil.example"], "/", loopback, Err(Error::Foreign)),
            (&["evil@localhost"], "/", loopback, Err(Error::Foreign)),
            (&["localhost"], "http://evil.example/", loopback, Err(Error::Foreign)),
            (&["localhost"], "http://localhost:8001/", loopback, Ok(())),
            (&[], "/", loopback, Err(Error::Host)),
            (&["localhost", "evil.example"], "/", loopback, Err(Error::Host)),
            (&["local host"], "/", loopback, Err(Error::Host)),
            (&[""], "/", loopback, Err(Error::Host)),
        ] {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header("host", *host);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request, configured.parse().unwrap()), expected, "{hosts:?} {uri} {configured}");
        }
    }

    /// A3.
    #[test]
    fn pages_of_others_change_nothing() {
        let own = "http://localhost:8001";
        for (method, origins, expected) in [
            ("POST", &[][..], Ok(())),
            ("POST", &[own], Ok(())),
            ("POST", &["HTTPS://LOCALHOST:8001"], Err(Error::Page)),
            ("POST", &["https://LOCALHOST:8001"], Ok(())),
            ("POST", &["http://localhost"], Err(Error::Page)),
            ("POST", &["http://localhost:3000"], Err(Error::Page)),
            ("POST", &["http://127.0.0.1:8001"], Err(Error::Page)),
            ("POST", &["https://evil.example"], Err(Error::Page)),
            ("POST", &["null"], Err(Error::Page)),
            ("POST", &[""], Err(Error::Page)),
            ("POST", &[own, "https://evil.example"], Err(Error::Page)),
            ("DELETE", &["https://evil.example"], Err(Error::Page)),
            ("PUT", &["https://evil.example"], Err(Error::Page)),
            // Without leave to read it, the page does not see what it asked for.
            ("GET", &["https://evil.example"], Ok(())),
        ] {
            let mut request = Request::builder().method(method).uri("/").header("host", "localhost:8001");
            for origin in origins {
                request = request.header("origin", *origin);
            }
            let request = request.body(()).unwrap();
            assert_eq!(check(&request, "127.0.0.1:8001".parse().unwrap()), expected, "{method} {origins:?}");
        }
    }
}
