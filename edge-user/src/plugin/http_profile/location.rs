//! `Location` of redirects (F5: `redirectRewrite`), so that a client behind TLS is not led out of it, nor to an address
//! that only the edge can reach.

use crate::http::h1::parse::split_port;
use crate::http::head::{Head, Known};
use crate::plugin::Response;

/// Which redirects are rewritten, by F5's names.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub(super) enum Redirects {
    /// None.
    #[default]
    None,
    /// Every one in clear text, where the client uses TLS: its scheme becomes `https`.
    All,
    /// The same of those alone that lead to what was asked for, a slash at its end aside.
    Matching,
    /// Those that name the upstream in the edge's place: its address, or the `Host` that it was sent.
    Nodes,
}

/// What a rewrite goes by.
struct Asked<'a> {
    https: bool,
    /// The authority the client asked for.
    authority: &'a [u8],
    /// The path of its target, without the query.
    path: &'a [u8],
    /// What names the upstream.
    nodes: [Option<&'a [u8]>; 2],
}

impl Redirects {
    /// Rewrites the `Location` of a redirect.
    pub(super) fn apply(self, response: &mut Response<'_>) {
        if self == Self::None || !matches!(response.head.status(), 201 | 300..=399) {
            return;
        }
        let address = response.upstream.map(|address| address.to_string());
        let asked = Asked {
            https: response.https,
            authority: response.authority,
            path: path_of(response.request),
            nodes: [response.request.get(Known::Host), address.as_deref().map(str::as_bytes)],
        };
        let rewritten = response.head.get(Known::Location).and_then(|location| self.rewritten(location, &asked));
        if let Some(location) = rewritten {
            response.head.set_known(Known::Location, &location);
        }
    }

    fn rewritten(self, location: &[u8], asked: &Asked<'_>) -> Option<Vec<u8>> {
        let (is_clear, authority, rest) = absolute(location)?;
        let (host, port) = split_port(authority);
        let scheme: &[u8] = if asked.https { b"https://" } else { b"http://" };
        // Never out of TLS, and a port that was named is kept unless it is that of clear text.
        let secured = || {
            let authority = if port == Some(b"80") { host } else { authority };
            (is_clear && asked.https).then(|| [scheme, authority, rest].concat())
        };
        match self {
            Self::None => None,
            Self::All => secured(),
            Self::Matching => {
                let path = &rest[..rest.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(rest.len())];
                let bare = |path: &[u8]| path.strip_suffix(b"/").unwrap_or(path).to_vec();
                let is_same_host = host.eq_ignore_ascii_case(split_port(asked.authority).0);
                secured().filter(|_| is_same_host && bare(path) == bare(asked.path))
            }
            Self::Nodes => {
                let is_own = authority.eq_ignore_ascii_case(asked.authority);
                let named = asked.nodes.into_iter().flatten().any(|node| {
                    let (node_host, node_port) = split_port(node);
                    host.eq_ignore_ascii_case(node_host) && (port.is_none() || node_port.is_none() || port == node_port)
                });
                (named && !is_own && !asked.authority.is_empty())
                    .then(|| [scheme, asked.authority, if rest.is_empty() { b"/" } else { rest }].concat())
            }
        }
    }
}

/// Whether it is in clear text, its authority, and what follows.
fn absolute(location: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let scheme = |scheme: &[u8]| {
        let start = location.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then(|| &location[scheme.len()..])
    };
    let (is_clear, rest) =
        scheme(b"http://").map(|rest| (true, rest)).or_else(|| scheme(b"https://").map(|rest| (false, rest)))?;
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    (end > 0).then(|| (is_clear, &rest[..end], &rest[end..]))
}

/// The path that a request's target names, as it came.
fn path_of(request: &Head) -> &[u8] {
    let target = request.target();
    let path = absolute(target).map_or(target, |(_, _, rest)| rest);
    &path[..path.iter().position(|byte| *byte == b'?').unwrap_or(path.len())]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_mode_rewrites_what_it_says() {
        use Redirects::{All, Matching, Nodes};
        let secure = |location: &str, mode: Redirects, https: bool| {
            let asked = Asked {
                https,
                authority: b"Api.example:8443",
                path: b"/shop",
                nodes: [Some(b"up.internal:8080"), Some(b"10.0.0.7:8080")],
            };
            let rewritten = mode.rewritten(location.as_bytes(), &asked);
            rewritten.map(|location| String::from_utf8(location).expect("ASCII"))
        };
        for (location, mode, expected) in [
            ("http://api.example/a?b#c", All, Some("https://api.example/a?b#c")),
            ("HTTP://other.example:80/a", All, Some("https://other.example/a")),
            ("http://other.example:8080/a", All, Some("https://other.example:8080/a")),
            ("https://api.example/a", All, None),
            ("/a", All, None),
            ("ftp://a/b", All, None),
            ("http:///a", All, None),
            ("http://api.example/shop/", Matching, Some("https://api.example/shop/")),
            ("http://API.example/shop?a", Matching, Some("https://API.example/shop?a")),
            ("http://api.example/shops", Matching, None),
            ("http://other.example/shop", Matching, None),
            ("http://10.0.0.7:8080/a", Nodes, Some("https://Api.example:8443/a")),
            ("http://10.0.0.7", Nodes, Some("https://Api.example:8443/")),
            ("http://UP.internal:8080/a?b", Nodes, Some("https://Api.example:8443/a?b")),
            ("http://10.0.0.7:9090/a", Nodes, None),
            ("http://10.0.0.8:8080/a", Nodes, None),
            ("https://api.example:8443/a", Nodes, None),
        ] {
            assert_eq!(secure(location, mode, true).as_deref(), expected, "{location} {mode:?}");
        }
        // Nobody is led out of TLS, nor into it where the client has none.
        assert_eq!(secure("https://10.0.0.7:8080/a", Nodes, false).as_deref(), Some("http://Api.example:8443/a"));
        assert_eq!(secure("http://api.example/a", All, false), None);
    }
}
