//! Who is measured: each peer's configuration in its own words, and what it can do.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use edge_tests::mint;
use serde_json::{Value, json};

use crate::data::{AUDIENCE, ISSUER};
use crate::process::{PROXY_CORE, Running, pinned};

/// Where the shared upstream answers.
pub(crate) const UPSTREAM: &str = "127.0.0.1:9800";
/// Where it publishes the key set.
const KEYS: &str = "127.0.0.1:9801";

/// What a peer may serve, each on a port of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Endpoint {
    /// Forwards everything.
    Plain,
    /// Verifies tokens.
    Jwt,
    /// Verifies tokens, behind TLS 1.3.
    Tls,
    /// Asks the issuer about tokens, and keeps the answers.
    Opaque,
}

/// A proxy to measure.
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    port: u16,
    pub(crate) endpoints: &'static [Endpoint],
}

use Endpoint::{Jwt, Opaque, Plain, Tls};

static PEERS: [Peer; 14] = [
    Peer { name: "edge", port: 9810, endpoints: &[Plain, Jwt, Tls, Opaque] },
    Peer { name: "edge-plugins", port: 9870, endpoints: &[Plain, Jwt, Tls] },
    Peer { name: "edge-upstream-oauth", port: 9890, endpoints: &[Plain] },
    Peer { name: "edge-jwt-signer", port: 9900, endpoints: &[Jwt] },
    Peer { name: "edge-nocache", port: 9820, endpoints: &[Jwt] },
    Peer { name: "edge-jwt-signer-nocache", port: 9930, endpoints: &[Jwt] },
    Peer { name: "edge-aws-lc", port: 9910, endpoints: &[Plain, Jwt, Tls] },
    Peer { name: "edge-nocache-aws-lc", port: 9920, endpoints: &[Jwt] },
    Peer { name: "edge-jwt-signer-nocache-aws-lc", port: 9940, endpoints: &[Jwt] },
    Peer { name: "haproxy", port: 9830, endpoints: &[Plain, Jwt, Tls] },
    Peer { name: "haproxy-cache", port: 9840, endpoints: &[Jwt, Tls] },
    Peer { name: "nginx", port: 9850, endpoints: &[Plain] },
    Peer { name: "nginx-lua", port: 9880, endpoints: &[Opaque] },
    Peer { name: "envoy", port: 9860, endpoints: &[Plain, Jwt] },
];

/// How the names of peers end that run the edge built on aws-lc-rs.
const AWS_LC: &str = "-aws-lc";

/// The peer of this name.
pub(crate) fn peer(name: &str) -> Result<&'static Peer> {
    let names = || PEERS.iter().map(|peer| peer.name).collect::<Vec<_>>().join(", ");
    PEERS.iter().find(|peer| peer.name == name).with_context(|| format!("no peer {name:?}; there are {}", names()))
}

impl Peer {
    /// Where it serves this.
    pub(crate) fn address(&self, endpoint: Endpoint) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port + endpoint as u16))
    }

    /// Its name but for the library that it is built on.
    pub(crate) fn kind(&self) -> &'static str {
        self.name.strip_suffix(AWS_LC).unwrap_or(self.name)
    }

    /// Starts it on its core.
    pub(crate) fn start(&self, folder: &Path) -> Result<Running> {
        let file = folder.join(format!("{}.conf", self.name));
        let mut command = match self.name {
            "haproxy" => self.haproxy(folder, &file, include_str!("haproxy.cfg"))?,
            "haproxy-cache" => self.haproxy(folder, &file, include_str!("haproxy-cache.cfg"))?,
            "nginx" => self.nginx(folder, &file, include_str!("nginx.conf"))?,
            "nginx-lua" => self.nginx(folder, &file, include_str!("nginx-lua.conf"))?,
            "envoy" => self.envoy(folder, &file)?,
            _ => self.edge(folder, &file)?,
        };
        command.env("EDGE_LOG_LEVEL", "warn");
        let addresses: Vec<SocketAddr> = self.endpoints.iter().map(|&endpoint| self.address(endpoint)).collect();
        Running::start(command, &folder.join(format!("{}.log", self.name)), &addresses)
    }

    fn values(&self, folder: &Path) -> HashMap<&'static str, String> {
        HashMap::from([
            ("FOLDER", folder.display().to_string()),
            ("UPSTREAM", UPSTREAM.to_owned()),
            ("KEYS", KEYS.to_owned()),
            ("ISSUER", ISSUER.to_owned()),
            ("AUDIENCE", AUDIENCE.to_owned()),
            ("PLAIN", self.address(Plain).to_string()),
            ("JWT", self.address(Jwt).to_string()),
            ("TLS", self.address(Tls).to_string()),
            ("OPAQUE", self.address(Opaque).to_string()),
        ])
    }

    fn edge(&self, folder: &Path, file: &Path) -> Result<Command> {
        let config = json!({"issuer": ISSUER, "using_pseudo_issuer": true, "jwks_endpoint": format!("http://{KEYS}/jwks"),
            "auth_methods": ["bearer"], "audience_required": [AUDIENCE], "hide_credentials": false});
        let verify = json!([{"name": "openid-connect", "config": config}]);
        let config = json!({"issuer": ISSUER, "using_pseudo_issuer": true, "introspection_endpoint": format!("http://{KEYS}/introspect"),
            "auth_methods": ["introspection"], "client_id": ["bench"], "client_secret": ["bench-secret"], "hide_credentials": false});
        let ask = json!([{"name": "openid-connect", "config": config}]);
        let oauth = json!({"token_endpoint": format!("http://{KEYS}/token"), "client_id": "bench", "client_secret": "bench-secret"});
        let own = json!([{"name": "upstream-oauth", "config": {"oauth": oauth}}]);
        let signer = json!([{"name": "jwt-signer", "config": {"access_token_jwks_uri": format!("http://{KEYS}/jwks"),
            "access_token_audiences_allowed": [AUDIENCE], "channel_token_optional": true}}]);
        let mut listeners = String::new();
        let mut routes = Vec::new();
        for &endpoint in self.endpoints {
            let address = self.address(endpoint);
            let tls = if endpoint == Tls { "tls = true\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n" } else { "" };
            listeners += &format!("[[listeners]]\naddress = \"{address}\"\n{tls}");
            let plugins = match endpoint {
                Plain if self.name == "edge-upstream-oauth" => own.clone(),
                Plain => json!([]),
                Jwt if self.kind().starts_with("edge-jwt-signer") => signer.clone(),
                Jwt | Tls => verify.clone(),
                Opaque => ask.clone(),
            };
            // A `Host` without a port has the listener's.
            let host = format!("bench.example.com:{}", address.port());
            routes.push(json!({"name": format!("{endpoint:?}"), "hosts": [host], "plugins": plugins}));
        }
        if self.name == "edge-plugins" {
            routes.extend((0..20).map(elsewhere));
        }
        let services = json!([{"name": "up", "url": format!("http://{UPSTREAM}"), "routes": routes}]);
        let entities = format!("{}.kong.yaml", self.name);
        fs::write(folder.join(&entities), json!({"_format_version": "3.0", "services": services}).to_string())?;
        let cache = if self.kind().ends_with("-nocache") { 0 } else { 64 << 20 };
        let text = format!(
            "{listeners}[workers]\ncount = 1\n[entities]\nfile = \"{entities}\"\n[kernel]\nmode = \"off\"\n\
             [log]\naccess = \"off\"\n[verdicts]\ncache_bytes = {cache}\n[admin]\naddress = \"off\"\n\
             [store]\npath = \"{}.db\"\n[key_sets]\nprivate_keys = \"memory\"\n",
            self.name
        );
        fs::write(file, text)?;
        let binary = match self.name.ends_with(AWS_LC) {
            true => std::env::var_os("EDGE_AWS_LC_BIN").context("EDGE_AWS_LC_BIN does not name a binary")?.into(),
            false => edge_tests::edge::binary(),
        };
        let mut command = pinned(PROXY_CORE, binary);
        command.args(["run", "--config"]).arg(file);
        Ok(command)
    }

    fn haproxy(&self, folder: &Path, file: &Path, text: &str) -> Result<Command> {
        fs::write(file, fill(text, &self.values(folder)))?;
        let mut command = pinned(PROXY_CORE, "/usr/sbin/haproxy");
        command.arg("-db").arg("-f").arg(file);
        Ok(command)
    }

    fn nginx(&self, folder: &Path, file: &Path, text: &str) -> Result<Command> {
        fs::write(file, fill(text, &self.values(folder)))?;
        let mut command = pinned(PROXY_CORE, nginx());
        command.arg("-c").arg(file).arg("-e").arg(folder.join(format!("{}.err", self.name)));
        Ok(command)
    }

    fn envoy(&self, folder: &Path, file: &Path) -> Result<Command> {
        let keys = fs::read_to_string(folder.join("jwks.json"))?;
        let mut values = self.values(folder);
        values.insert("JWKS", keys.replace('"', "\\\""));
        for (name, endpoint) in [("PLAIN_PORT", Plain), ("JWT_PORT", Jwt)] {
            values.insert(name, self.address(endpoint).port().to_string());
        }
        fs::write(file, fill(include_str!("envoy.json"), &values))?;
        let json = file.with_extension("json");
        fs::rename(file, &json)?;
        let envoy = std::env::var_os("ENVOY").context("ENVOY does not name a binary")?;
        let mut command = pinned(PROXY_CORE, envoy);
        command.arg("-c").arg(json).args(["--concurrency", "1", "--disable-hot-restart", "-l", "error"]);
        Ok(command)
    }
}

/// A route that nobody asks, with a plugin.
fn elsewhere(number: usize) -> Value {
    let plugin = match number % 8 {
        0 => {
            json!({"name": "cors", "config": {"origins": ["https://a.example", "https://b.example"], "credentials": true}})
        }
        1 => json!({"name": "ip-restriction", "config": {"deny": ["203.0.113.0/24"]}}),
        2 => json!({"name": "correlation-id"}),
        3 => json!({"name": "request-size-limiting", "config": {"allowed_payload_size": 1}}),
        4 => json!({"name": "rate-limiting", "config": {"minute": 100}}),
        5 => json!({"name": "response-transformer", "config": {"remove": {"headers": ["X-Powered-By"]}}}),
        6 => json!({"name": "request-termination", "config": {"status_code": 503}}),
        _ => json!({"name": "acl", "config": {"allow": ["staff"]}}),
    };
    json!({"name": format!("elsewhere-{number}"), "hosts": [format!("other-{number}.example")], "plugins": [plugin]})
}

/// Starts the upstream that all peers share, on a core.
pub(crate) fn upstream(folder: &Path, core: &str) -> Result<Running> {
    let file = folder.join("upstream.conf");
    let values = HashMap::from([
        ("FOLDER", folder.display().to_string()),
        ("UPSTREAM", UPSTREAM.to_owned()),
        ("PORT", UPSTREAM.rsplit(':').next().unwrap_or_default().to_owned()),
        ("KEYS", KEYS.to_owned()),
        ("JWKS", fs::read_to_string(folder.join("jwks.json"))?),
        ("EXP", (mint::now() + 86_400).to_string()),
        // As long as the clients' own.
        ("TOKEN", "own-token-".repeat(80)),
    ]);
    fs::write(&file, fill(include_str!("upstream.conf"), &values))?;
    let mut command = pinned(core, nginx());
    command.arg("-c").arg(&file).arg("-e").arg(folder.join("upstream.err"));
    Running::start(command, &folder.join("upstream.log"), &[UPSTREAM.parse()?, KEYS.parse()?])
}

/// Starts an edge with these entities, one worker and nothing but these sections, on its core.
pub(crate) fn bare_edge(
    folder: &Path,
    name: &str,
    address: SocketAddr,
    entities: &Value,
    sections: &str,
) -> Result<Running> {
    fs::write(folder.join(format!("{name}.kong.yaml")), entities.to_string())?;
    let config = folder.join(format!("{name}.toml"));
    fs::write(
        &config,
        format!(
            "[[listeners]]\naddress = \"{address}\"\n[workers]\ncount = 1\n[entities]\nfile = \"{name}.kong.yaml\"\n\
             [kernel]\nmode = \"off\"\n[log]\naccess = \"off\"\n[admin]\naddress = \"off\"\n[store]\npath = \"{name}.db\"\n\
             [key_sets]\nprivate_keys = \"memory\"\n{sections}"
        ),
    )?;
    let mut command = pinned(PROXY_CORE, edge_tests::edge::binary());
    command.args(["run", "--config"]).arg(&config);
    Running::start(command, &folder.join(format!("{name}.log")), &[address])
}

/// The nginx binary.
pub(crate) fn nginx() -> PathBuf {
    std::env::var_os("NGINX").map_or_else(|| "/usr/sbin/nginx".into(), PathBuf::from)
}

/// Puts values in the places of their names between `@`.
pub(crate) fn fill(text: &str, values: &HashMap<&'static str, String>) -> String {
    values.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("@{name}@"), value))
}
