//! Debian's nginx and HAProxy as reverse proxies in front of an upstream: what others make of the same bytes.

use std::net::SocketAddr;

use super::{Ended, place, tied, wait_until_it_listens};
use crate::edge::free_address;

/// A reverse proxy that passes everything to one upstream, the client's `Host` with it.
pub struct Front {
    address: SocketAddr,
    _child: Ended,
    _dir: tempfile::TempDir,
}

/// A service that answers with what PROXY headers say.
pub struct Told {
    /// Where it speaks HTTP/1.
    pub http: SocketAddr,
    /// Where it speaks HTTP/2.
    pub http2: SocketAddr,
    _front: Front,
}

impl Front {
    /// nginx with one worker, its waits a second long.
    pub fn nginx(upstream: SocketAddr) -> Self {
        let address = free_address();
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let paths = paths.map(|name| format!("{name}_temp_path {name};\n")).concat();
        let text = format!(
            "daemon off;\nmaster_process off;\npid pid;\nerror_log stderr crit;\nevents {{ }}\nhttp {{\naccess_log off;\n{paths}\
             client_header_timeout 1s;\nclient_body_timeout 1s;\nkeepalive_timeout 1s;\n\
             large_client_header_buffers 4 64k;\nclient_max_body_size 100000;\n\
             server {{\nlisten {address};\nlocation / {{\nproxy_pass http://{upstream};\nproxy_http_version 1.1;\n\
             proxy_set_header Host $http_host;\n}}\n}}\n}}\n"
        );
        Self::start(address, "NGINX", "nginx.conf", &text, &["-p", ".", "-e", "stderr", "-c"])
    }

    /// HAProxy with one thread, its waits a second long.
    pub fn haproxy(upstream: SocketAddr) -> Self {
        let address = free_address();
        let text = format!(
            "global\nnbthread 1\ntune.bufsize 65536\ndefaults\nmode http\ntimeout connect 5s\ntimeout server 5s\n\
             timeout client 1s\ntimeout http-request 1s\ntimeout http-keep-alive 1s\noption http-server-close\n\
             frontend f\nbind {address}\ndefault_backend b\nbackend b\nserver s {upstream}\n"
        );
        Self::start(address, "HAPROXY", "haproxy.cfg", &text, &["-db", "-f"])
    }

    /// HAProxy as a service that takes PROXY headers and answers with what they say: source, port, server name and id.
    pub fn haproxy_told() -> Told {
        let (http, http2) = (free_address(), free_address());
        let answer = "http-request return status 200 content-type text/plain lf-string \
                      \"%[src] %[src_port] %[fc_pp_authority] %[fc_pp_unique_id]\"";
        let text = format!(
            "global\nnbthread 1\ndefaults\nmode http\ntimeout connect 5s\ntimeout server 5s\ntimeout client 5s\n\
             frontend f\nbind {http} accept-proxy\n{answer}\nfrontend g\nbind {http2} accept-proxy proto h2\n{answer}\n"
        );
        Told { http, http2, _front: Self::start(http, "HAPROXY", "haproxy.cfg", &text, &["-db", "-f"]) }
    }

    fn start(address: SocketAddr, variable: &str, file: &str, text: &str, arguments: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let config = dir.path().join(file);
        std::fs::write(&config, text).expect("write the configuration");
        let mut command = tied(place(variable));
        // nginx takes a variable of its name for a list of sockets.
        command.env_remove("NGINX");
        let mut child = command.args(arguments).arg(&config).current_dir(dir.path()).spawn().expect("start the proxy");
        wait_until_it_listens(address, &mut child);
        Self { address, _child: Ended(child), _dir: dir }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}
