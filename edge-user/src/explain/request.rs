//! The request that shows the token, made as the proxy makes it of a client's bytes.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::Asked;
use super::guard::Guard;
use crate::config::snapshot::Snapshot;
use crate::http::h1::parse::Framing;
use crate::http::head::{Head, Known, Owner, Version};
use crate::plugin::openid_connect::Showing;
use crate::plugin::{Notes, Request, RequestBody};
use crate::proxy::connection::{Connection, ListenerInfo};
use crate::proxy::headers;
use crate::proxy::owned::OwnedNames;
use crate::proxy::target::{self, Target};
use crate::proxy_protocol::Versions;
use crate::tls::ClientCertificate;
use crate::token::Now;
use crate::token::cache::LocalCache;

/// A secret as it was read.
pub type Secret = Zeroizing<Vec<u8>>;

/// Bytes of a file: more than any token or chain of certificates has.
const MAX_BYTES: u64 = 1 << 20;

/// A file without the white space around its text.
fn read_secret(path: &Path) -> Result<Secret, FileError> {
    let mut bytes = Zeroizing::new(Vec::new());
    let read = match path.as_os_str() == "-" {
        true => io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)),
    };
    match read {
        Err(source) => Err(FileError::Read { path: path.to_owned(), source }),
        Ok(length) if length as u64 > MAX_BYTES => Err(FileError::TooLong(path.to_owned())),
        Ok(_) => Ok(Zeroizing::new(bytes.trim_ascii().to_vec())),
    }
}

/// What of a request its checks look at.
pub struct Shown {
    /// The token; nothing shows none.
    pub token: Option<Secret>,
    /// The second token of `jwt-signer`.
    pub channel_token: Option<Secret>,
    /// The method.
    pub method: String,
    /// The path, or the URL that the client asked for, which a DPoP proof names.
    pub path: String,
    /// The DPoP proof.
    pub dpop: Option<Secret>,
    /// The value of `Cookie`.
    pub cookie: Option<Secret>,
    /// The certificate of the TLS handshake.
    pub certificate: Option<Arc<ClientCertificate>>,
}

/// Where the parts of a request are read from; `-` is standard input, for one of them.
#[derive(Default)]
pub struct Files {
    /// The token's.
    pub token_file: Option<PathBuf>,
    /// The channel token's.
    pub channel_token_file: Option<PathBuf>,
    /// The DPoP proof's.
    pub dpop_file: Option<PathBuf>,
    /// The certificate's, in PEM form.
    pub client_cert_file: Option<PathBuf>,
    /// The value of `Cookie`'s.
    pub cookie_file: Option<PathBuf>,
}

/// Why a file is no part of a request.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It cannot be read.
    #[error("{} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is too long to be one.
    #[error("{} has more than {MAX_BYTES} bytes", .0.display())]
    TooLong(PathBuf),
    /// It has no certificate.
    #[error("{} has no certificate in PEM form", .0.display())]
    Certificate(PathBuf),
}

impl Shown {
    /// Reads a request's parts.
    pub fn read(method: String, path: String, files: &Files) -> Result<Self, FileError> {
        let secret = |path: &Option<PathBuf>| path.as_deref().map(read_secret).transpose();
        let certificate = match &files.client_cert_file {
            None => None,
            Some(path) => {
                let der = CertificateDer::from_pem_slice(&read_secret(path)?).ok();
                let read = der.and_then(ClientCertificate::read).map(Arc::new);
                Some(read.ok_or_else(|| FileError::Certificate(path.clone()))?)
            }
        };
        let (token, dpop, cookie) =
            (secret(&files.token_file)?, secret(&files.dpop_file)?, secret(&files.cookie_file)?);
        let channel_token = secret(&files.channel_token_file)?;
        Ok(Self { token, channel_token, method, path, dpop, cookie, certificate })
    }

    /// Whether the URL says https; nothing where only a path is known.
    pub(super) fn is_https(&self) -> Option<bool> {
        let is = |scheme: &str| self.path.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if is("https://") { Some(true) } else { is("http://").then_some(false) }
    }

    /// A connection of a client that nobody trusts to speak for others.
    pub(super) fn connection(&self, https: bool) -> Connection {
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let port = if https { 443 } else { 80 };
        let listener = ListenerInfo {
            index: 0,
            label: "explain".into(),
            address: local,
            port,
            tls: https,
            has_vips: false,
            proxy_protocol: Versions::Off,
            rejects: None,
        };
        let mut connection = Connection::new((local, 0).into(), (local, port).into(), false, Arc::new(listener), None);
        connection.client_certificate = self.certificate.clone();
        connection
    }

    /// The head as the plugins get it.
    pub(super) fn build(
        &self,
        guards: &[Guard<'_>],
        snapshot: &Snapshot,
        https: bool,
        notes: &mut Notes,
    ) -> Result<Built, &'static str> {
        // The first plugin with a place for a token says where clients show it.
        let places = |index: usize| guards.iter().find_map(|guard| guard.showing(self.dpop.is_some())[index]);
        let (mut head, mut body) = (Head::default(), Form(Vec::new()));
        let mut url = self.path.clone().into_bytes();
        let showing = self.token.as_ref().zip(places(0));
        let channel = self.channel_token.as_ref().zip(places(1));
        let argument = |token: &Secret| {
            let value: String = form_urlencoded::byte_serialize(token).collect();
            format!("access_token={value}").into_bytes()
        };
        if let Some((token, Showing::Query)) = &showing {
            url.push(if url.contains(&b'?') { b'&' } else { b'?' });
            url.extend(argument(token));
        }
        head.start_request(self.method.as_bytes(), &url, Version::Http11);
        head.push(Owner::Peer, b"Host", b"localhost");
        let cookie = self.cookie.as_ref().map(|cookie| cookie.to_vec()).into_iter();
        let mut cookies: Vec<Vec<u8>> = cookie.collect();
        match showing {
            Some((token, Showing::Field(name, Some(scheme)))) => {
                let value = [scheme.as_bytes(), b" ", token].concat();
                head.push(Owner::Peer, name.as_bytes(), &value);
            }
            Some((token, Showing::Field(name, None))) => head.push(Owner::Peer, name.as_bytes(), token),
            Some((token, Showing::Cookie(name))) => cookies.push([name.as_bytes(), b"=", token].concat()),
            Some((token, Showing::Body)) => {
                head.push(Owner::Peer, b"Content-Type", b"application/x-www-form-urlencoded");
                body = Form(argument(token));
            }
            Some((_, Showing::Query)) | None => {}
        }
        if let Some((token, Showing::Field(name, scheme))) = channel {
            let scheme = scheme.map(|scheme| format!("{scheme} ")).unwrap_or_default();
            head.push(Owner::Peer, name.as_bytes(), &[scheme.as_bytes(), token].concat());
        }
        for cookie in &cookies {
            head.push_known(Known::Cookie, cookie);
        }
        if let Some(proof) = &self.dpop {
            head.push(Owner::Peer, b"DPoP", proof);
        }
        let (mut host, port) = (Vec::new(), if https { 443 } else { 80 });
        let target = target::resolve(&mut head, &mut host, port).map_err(|_| "no path or URL of a request")?;
        notes.certificates = headers::certificates(&head, &snapshot.certificate_names);
        let owned = OwnedNames::new(snapshot.owned_names.iter().map(|name| &**name));
        let credentials: Vec<_> = guards.iter().flat_map(|guard| guard.credential_names()).collect();
        headers::clean_request(&mut head, &owned, &credentials, false);
        Ok(Built { head, target, body })
    }
}

/// A request that stands by itself.
pub(super) struct Built {
    head: Head,
    target: Target,
    body: Form,
}

impl Built {
    pub(super) fn request<'r>(
        &'r mut self,
        asked: &Asked<'r>,
        connection: &'r Connection,
        cache: &'r LocalCache,
        notes: &'r mut Notes,
    ) -> Request<'r> {
        let Asked { settings, snapshot, route, https, .. } = *asked;
        Request {
            head: &mut self.head,
            path: self.target.path(),
            query: self.target.query().map(Cow::Borrowed),
            host: self.target.host(),
            port: self.target.port,
            https,
            expects_continue: false,
            client: connection.ip(),
            connection,
            id: "explain",
            now: Now::read(),
            route,
            router: &snapshot.router,
            found: None,
            consumers: &snapshot.consumers,
            cache,
            key_wait: settings.timeouts.key_wait,
            body: &mut self.body,
            notes,
            observer: Default::default(),
        }
    }
}

/// A body that is there already.
struct Form(Vec<u8>);

impl RequestBody for Form {
    fn framing(&self) -> Framing {
        Framing::Length(self.0.len() as u64)
    }

    fn poll_collect(&mut self, _cx: &mut Context<'_>, limit: usize) -> Poll<bool> {
        Poll::Ready(self.collected(limit).is_some())
    }

    fn collected(&self, limit: usize) -> Option<&[u8]> {
        (self.0.len() <= limit).then_some(&self.0)
    }

    fn replace(&mut self, body: Vec<u8>) -> bool {
        self.0 = body;
        true
    }
}
