mod identity;
mod kernel;
mod log;
mod proxy;

use super::*;
use crate::proxy::forwarded::Forwarded;
use crate::proxy::real_ip::{RealIp, Source};

fn read_text(text: &str, env: &[(&str, &str)]) -> (Settings, Vec<String>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("edge.toml");
    std::fs::write(&path, text).unwrap();
    std::fs::write(dir.path().join("secret"), "from file\n").unwrap();
    let env = |name: &str| env.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let (settings, problems) = read(&path, env);
    let prefix = format!("{}:", path.display());
    let problems = problems.iter().map(|p| p.to_string().replacen(&prefix, "", 1).trim_start().to_owned()).collect();
    (settings, problems, dir)
}

fn good(text: &str) -> (Settings, tempfile::TempDir) {
    let (settings, problems, dir) = read_text(text, &[]);
    assert_eq!(problems, [""; 0], "{text}");
    (settings, dir)
}

const LISTENER: &str = "[[listeners]]\naddress = \"127.0.0.1:0\"\n";

#[test]
fn every_value_has_its_default() {
    let (s, dir) = good(LISTENER);
    assert_eq!(
        s.listeners,
        [Listener {
            address: "127.0.0.1:0".parse().unwrap(),
            mode: Mode::Http,
            tls: false,
            line: 1,
            pair: None,
            clients: ClientRules::default(),
            hosts: vec![],
            kernel_reject: KernelReject::Off,
            proxy_protocol: Versions::Off,
            vips: vec![],
            ports: vec![],
        }]
    );
    assert_eq!((s.process.user, s.workers.count), (None, 0));
    assert_eq!(s.entities.file, dir.path().join("kong.yaml"));
    assert_eq!(s.store.path, dir.path().join("edge.db"));
    assert_eq!(s.kernel, Kernel { mode: KernelMode::Auto, ..Default::default() });
    assert_eq!(
        s.proxy,
        Proxy {
            trusted_ips: vec![],
            real_ip: RealIp { source: Source::Field("X-Real-IP".into()), recursive: false },
            forwarded: Forwarded::Off,
            upstreams: vec![],
            expose_reason: false,
            upgrades: vec!["websocket".into()],
            upstream_http2: false,
            keepalive: Keepalive {
                pool_size: 512,
                max_requests: 10_000,
                idle_timeout: Duration::from_secs(55),
                max_age: None,
            },
            cut_at_expiry: true,
            max_over_exp: Duration::ZERO,
        }
    );
    assert_eq!(
        s.limits,
        Limits {
            head_bytes: 32768,
            fields: 64,
            body_bytes: 0,
            buffer_bytes: 1 << 20,
            buffered_bytes: 256 << 20,
            connections: 100_000,
            connections_per_source: 0,
            requests_per_connection: 0,
            streams: 128,
            upstream_requests: 0,
            upstream_queue: 1000,
        }
    );
    let ms = Duration::from_millis;
    let timeouts = Timeouts {
        handshake: ms(10_000),
        request_head: ms(10_000),
        idle: ms(75_000),
        request_body: ms(60_000),
        response_write: ms(60_000),
        request_total: None,
        tunnel_idle: ms(3_600_000),
        resolve: ms(5_000),
        key_wait: ms(5_000),
        upstream_queue: ms(5_000),
        drain: ms(30_000),
    };
    assert_eq!(s.timeouts, timeouts);
    assert_eq!(s.dns, Dns::default());
    assert_eq!(s.verdicts.cache_bytes, 67_108_864);
    assert_eq!(s.issuers.allow_http, [""; 0]);
    assert_eq!(s.secrets, Secrets::default());
    assert_eq!(s.log, Log { level: Level::Info, access: LogTarget::Stdout, error: LogTarget::Stderr });
    assert_eq!(s.admin, Some(Admin { address: "127.0.0.1:8001".parse().unwrap() }));
    assert_eq!((s.identity, s.echo, s.warnings), (None, None, vec![]));
}

#[test]
fn every_value_can_be_set() {
    let (s, dir) = good(
        r#"
[[listeners]]
address = "0.0.0.0:8000"
kernel_reject = "first"
[[listeners]]
address = "[::]:8443"
tls = true
certificate = "tls.crt"
client_certificate = "require"
client_ca = "clients.pem"
key = "/abs/tls.key"
vips = ["203.0.113.0/24", "2001:db8::/32"]
ports = ["443", "8000-8099"]
[process]
user = "edge"
control = "/run/edge.sock"
[workers]
count = 3
[entities]
file = "/etc/kong.yaml"
[kernel]
mode = "required"
interfaces = ["eth0"]
deny = ["203.0.113.0/24", "2001:db8::1"]
lanes = true
[kernel.penalty]
mode = "enforce"
ratio = 0.9
distinct_tokens = 9
window = 30
ttl = 5.5
max_ttl = 600
ipv4_prefix = 24
ipv6_prefix = 56
[proxy]
trusted_ips = ["10.0.0.0/8"]
real_ip_header = "X-Forwarded-For"
real_ip_recursive = true
expose_reason = true
upgrades = []
upstream_http2 = true
cut_at_expiry = false
max_over_exp = 90
[limits]
head_bytes = 16384
fields = 100
body_bytes = 1000000
buffer_bytes = 65536
buffered_bytes = 131072
connections = 5
connections_per_source = 6
requests_per_connection = 7
streams = 8
upstream_requests = 9
upstream_queue = 10
[timeouts]
upstream_queue = 11
request_total = 5
idle = 6
[dns]
nameservers = ["10.0.0.2", "10.0.0.3:5353", "::1", "[::1]:54"]
hosts_file = "secret"
order = ["AAAA", "A"]
valid_ttl = 5
stale_ttl = 0
not_found_ttl = 0.5
error_ttl = 2
cache_size = 7
[verdicts]
cache_bytes = 0
[issuers]
allow_http = ["IdP.example", "10.0.0.9"]
[store]
path = "x.db"
[log]
level = "notice"
access = "logs/access.log"
error = "off"
[admin]
address = "[::1]:9001"
[echo]
address = "127.0.0.1:9002"
[identity]
address = "127.0.0.1:9003"
[[identity.servers]]
name = "demo"
audience = "api"
description = "d"
signing_algorithm = "PS256"
issuer = "https://id.example/demo"
[[identity.servers.scopes]]
name = "orders:read"
default = true
[[identity.servers.scopes]]
name = "orders:write"
[[identity.servers.clients]]
id = "a"
secret = "hunter2"
scopes = ["orders:read"]
access_token_duration = 60
[[identity.servers.clients]]
id = "b"
secret_file = "secret"
"#,
    );
    let pair = PairFiles { certificate: dir.path().join("tls.crt"), key: "/abs/tls.key".into() };
    assert_eq!(
        s.listeners[1],
        Listener {
            address: "[::]:8443".parse().unwrap(),
            mode: Mode::Http,
            tls: true,
            line: 5,
            pair: Some(pair),
            clients: ClientRules {
                asks: ClientCertificates::Require,
                ca: Some(dir.path().join("clients.pem")),
                ..ClientRules::default()
            },
            hosts: vec![],
            kernel_reject: KernelReject::Off,
            proxy_protocol: Versions::Off,
            vips: vec![Cidr::parse("203.0.113.0/24").unwrap(), Cidr::parse("2001:db8::/32").unwrap()],
            ports: vec![PortRange::one(443), PortRange::parse("8000-8099").unwrap()],
        }
    );
    assert_eq!(s.process.control, Control::At("/run/edge.sock".into()));
    assert!(s.kernel.lanes && s.kernel.has_vips && s.kernel.rejects);
    assert_eq!(s.listeners[0].kernel_reject, KernelReject::First);
    let secs = Duration::from_secs_f64;
    assert_eq!(
        s.kernel.penalty,
        Penalty {
            mode: PenaltyMode::Enforce,
            ratio: 0.9,
            distinct_tokens: 9,
            window: secs(30.0),
            ttl: secs(5.5),
            max_ttl: secs(600.0),
            ipv4_prefix: 24,
            ipv6_prefix: 56,
        }
    );
    assert_eq!((s.process.user.as_deref(), s.workers.count), (Some("edge"), 3));
    assert_eq!(s.entities.file, Path::new("/etc/kong.yaml"));
    assert_eq!((s.kernel.mode, s.kernel.deny.len(), s.kernel.interfaces.len()), (KernelMode::Required, 2, 1));
    assert!(s.is_trusted("10.1.1.1".parse().unwrap()) && !s.is_trusted("11.1.1.1".parse().unwrap()));
    assert_eq!(s.proxy.real_ip, RealIp { source: Source::Field("X-Forwarded-For".into()), recursive: true });
    assert!(s.proxy.expose_reason && s.proxy.upgrades.is_empty() && s.proxy.upstream_http2);
    assert_eq!(
        s.limits,
        Limits {
            head_bytes: 16384,
            fields: 100,
            body_bytes: 1_000_000,
            buffer_bytes: 65_536,
            buffered_bytes: 131_072,
            connections: 5,
            ..s.limits
        }
    );
    let Limits { connections_per_source, requests_per_connection, streams, .. } = s.limits;
    assert_eq!((connections_per_source, requests_per_connection, streams), (6, 7, 8));
    assert_eq!((s.limits.upstream_requests, s.limits.upstream_queue), (9, 10));
    assert_eq!(s.timeouts.request_total, Some(Duration::from_millis(5)));
    assert_eq!(s.timeouts.idle, Duration::from_millis(6));
    assert_eq!(s.timeouts.upstream_queue, Duration::from_millis(11));
    let dns = Dns {
        nameservers: ["10.0.0.2:53", "10.0.0.3:5353", "[::1]:53", "[::1]:54"].map(|text| text.parse().unwrap()).into(),
        hosts_file: Some(dir.path().join("secret")),
        order: vec![RecordType::Aaaa, RecordType::A],
        valid_ttl: Some(Duration::from_secs(5)),
        stale_ttl: Duration::ZERO,
        not_found_ttl: Duration::from_millis(500),
        error_ttl: Duration::from_secs(2),
        cache_size: 7,
    };
    assert_eq!(s.dns, dns);
    assert_eq!((s.verdicts.cache_bytes, s.issuers.allow_http), (0, vec!["idp.example".into(), "10.0.0.9".into()]));
    let access = LogTarget::File(dir.path().join("logs/access.log"));
    assert_eq!(s.log, Log { level: Level::Info, access, error: LogTarget::Off });
    assert_eq!(s.admin.map(|a| a.address.port()), Some(9001));
    assert_eq!(s.echo.map(|e| e.address.port()), Some(9002));
    let identity = s.identity.unwrap();
    let server = &identity.servers[0];
    assert_eq!((server.name.as_str(), server.signing_algorithm), ("demo", SigningAlgorithm::Ps256));
    assert_eq!(server.issuer.as_deref(), Some("https://id.example/demo"));
    assert_eq!(server.scopes.iter().map(|scope| scope.default).collect::<Vec<_>>(), [true, false]);
    let secrets: Vec<_> = server.clients.iter().map(|client| client.secret.expose()).collect();
    assert_eq!(secrets, ["hunter2", "from file"]);
    assert_eq!(server.clients[1].access_token_duration, Duration::from_secs(300));
    assert!(!format!("{server:?}").contains("hunter2"));
}

/// Each text follows a good listener of two lines, so it begins at line 3.
#[test]
fn wrong_values_are_problems_with_line_and_path() {
    for (text, expected) in [
        ("[workers]\ncount = -1", "4: workers.count: found -1, expected an integer between 0 and 1024"),
        ("[worker]\ncount = 1", "3: worker: found an unknown field, expected `workers`"),
        ("[limits]\nhead_byte = 1", "4: limits.head_byte: found an unknown field, expected `head_bytes`"),
        (
            "[limits]\nhead_bytes = 1023",
            "4: limits.head_bytes: found 1023, expected an integer between 1024 and 1048576",
        ),
        ("[timeouts]\nidle = 0", "4: timeouts.idle: found 0, expected an integer between 1 and 2147483647"),
        ("[kernel]\nmode = \"on\"", "4: kernel.mode: found \"on\", expected one of: off, auto, required"),
        (
            "[kernel.penalty]\nmode = \"drop\"",
            "4: kernel.penalty.mode: found \"drop\", expected one of: off, observe, enforce",
        ),
        ("[kernel.penalty]\nratio = 0.2", "4: kernel.penalty.ratio: found 0.2, expected a number between 0.5 and 1"),
        (
            "[kernel.penalty]\ndistinct_tokens = 1",
            "4: kernel.penalty.distinct_tokens: found 1, expected an integer between 2 and 1000",
        ),
        (
            "[kernel.penalty]\nttl = 60\nmax_ttl = 9",
            "5: kernel.penalty.max_ttl: found 9 s, expected at least `ttl`, 60 s",
        ),
        ("[kernel.penalty]\nttls = 60", "4: kernel.penalty.ttls: found an unknown field, expected `ttl`"),
        (
            "vips = [\"203.0.113.0\"]\nports = [\"443\"]\n[kernel]\nmode = \"off\"",
            "1: listeners: found `vips` without kernel programs, expected another `kernel.mode` than \"off\"",
        ),
        (
            "vips = [\"2001:db8::/32\"]\nports = [\"443\"]",
            "3: listeners[0].vips: found 2001:db8::/32, \
             expected ranges of the address family of `address`, or `[::]`, which takes both",
        ),
        ("proxy_protocol = \"v3\"", "3: listeners[0].proxy_protocol: found \"v3\", expected one of: off, v1, v2, any"),
        (
            "proxy_protocol = \"v1\"\nkernel_reject = \"first\"\n[proxy]\ntrusted_ips = [\"::1\"]\n[kernel]\ninterfaces = [\"eth0\"]",
            "4: listeners[0].kernel_reject: found it beside `proxy_protocol`, \
             expected one of them: the kernel reads no PROXY header",
        ),
        (
            "proxy_protocol = \"v1\"",
            "1: listeners: found `proxy_protocol` without a peer that may speak it, expected peers in `proxy.trusted_ips`",
        ),
        ("kernel_reject = \"all\"", "3: listeners[0].kernel_reject: found \"all\", expected one of: off, first, kept"),
        (
            "kernel_reject = \"first\"",
            "1: listeners: found `kernel_reject` without an interface, expected the interfaces in `kernel.interfaces`",
        ),
        (
            "tls = true\nkernel_reject = \"first\"\n[kernel]\ninterfaces = [\"eth0\"]",
            "4: listeners[0].kernel_reject: found it where the kernel cannot read requests: TLS ends in userspace, \
             and streams are none, expected a listener in clear text, as behind a TLS terminator",
        ),
        ("ports = [\"443\"]", "3: listeners[0].ports: found it without virtual addresses, expected `vips` beside it"),
        (
            "vips = [\"203.0.113.0\"]",
            "1: listeners[0].ports: found nothing, and `address` leaves the port to the system, expected the ports of `vips`",
        ),
        (
            "vips = [\"203.0.113.0\"]\nports = [\"443\", \"9-8\"]",
            "4: listeners[0].ports[1]: found \"9-8\", expected a port or a range of them, like \"443\" or \"8000-8099\"",
        ),
        (
            "[kernel]\ndeny = [\n\"10.0.0.0/33\"]",
            "5: kernel.deny[0]: found \"10.0.0.0/33\", expected an address or a range like 10.0.0.0/8",
        ),
        (
            "[kernel]\ninterfaces = [\"eth0/1\"]",
            "4: kernel.interfaces[0]: found \"eth0/1\", expected the name of a network interface",
        ),
        (
            "[admin]\naddress = \"0.0.0.0:8001\"",
            "4: admin.address: found 0.0.0.0:8001, expected a loopback address, or `allow_remote = true`",
        ),
        (
            "[admin]\naddress = \"localhost:1\"",
            "4: admin.address: found \"localhost:1\", expected an IP address with a port, like 127.0.0.1:8000",
        ),
        (
            "[proxy]\nupgrades = [\"websocket\", \"H2C\"]",
            "4: proxy.upgrades[1]: found \"H2C\", expected a protocol name such as websocket, but not h2c",
        ),
        ("[echo]", "3: echo.address: found nothing, expected an IP address with a port, like 127.0.0.1:8000"),
        (
            "[[listeners]]\naddress = \"1.2.3.4:5\"\n[[listeners]]\naddress = \"1.2.3.4:5\"",
            "6: listeners[2].address: found 1.2.3.4:5 again, expected each address once",
        ),
        (
            "[[listeners]]\ntls = true",
            "3: listeners[1].address: found nothing, expected an IP address with a port, like 127.0.0.1:8000",
        ),
        (
            "[[listeners]]\naddress = \"1.2.3.4:5\"\ntls = true\ncertificate = \"a\"",
            "3: listeners[1].key: found nothing, expected the key of `certificate`",
        ),
        (
            "client_certificate = \"require\"\n",
            "3: listeners[0].client_certificate: found it without TLS for requests, \
             expected `tls = true` and mode `http` beside it",
        ),
        (
            "client_certificate = \"yes\"\n",
            "3: listeners[0].client_certificate: found \"yes\", expected one of: off, request, require",
        ),
        (
            "client_ca = \"clients.pem\"\n",
            "3: listeners[0].client_ca: found it without a certificate, \
             expected `client_certificate = \"require\"` or \"request\"",
        ),
        (
            "[[listeners]]\naddress = \"1.2.3.4:5\"\ntls = true\nmode = \"stream\"\nclient_certificate = \"request\"",
            "7: listeners[1].client_certificate: found it without TLS for requests, \
             expected `tls = true` and mode `http` beside it",
        ),
        (
            "[dns]\nnameservers = [\"ns.example\"]",
            "4: dns.nameservers[0]: found \"ns.example\", \
             expected an IP address, with or without a port, like 10.0.0.2:53",
        ),
        (
            "[dns]\nnameservers = [\"10.0.0.2:0\"]",
            "4: dns.nameservers[0]: found \"10.0.0.2:0\", \
             expected an IP address, with or without a port, like 10.0.0.2:53",
        ),
        ("[dns]\norder = [\"LAST\"]", "4: dns.order[0]: found \"LAST\", expected one of: SRV, A, AAAA"),
        ("[dns]\norder = []", "4: dns.order: found none, expected one or more of SRV, A, AAAA, each once"),
        (
            "[dns]\norder = [\"A\", \"A\"]",
            "4: dns.order: found a type twice, expected one or more of SRV, A, AAAA, each once",
        ),
        ("[dns]\nerror_ttl = 0", "4: dns.error_ttl: found 0, expected a number between 0.1 and 2147483647"),
        ("[dns]\ncache_size = 0", "4: dns.cache_size: found 0, expected an integer between 1 and 10000000"),
        (
            "[dns]\nhosts_file = \"none\"",
            "4: dns.hosts_file: found no readable file (No such file or directory (os error 2)), \
             expected a file of addresses and their names",
        ),
        ("key = 1", "3: listeners[0].key: found an integer, expected a string that is not empty"),
        (
            "[identity]",
            "3: identity.servers: found 0 authorization servers, expected exactly one: more are not supported yet",
        ),
        (
            "[log]\nlevel = \"loud\"",
            "4: log.level: found \"loud\", expected one of: debug, info, notice, warn, warning, error, crit, alert, emerg",
        ),
        (
            "[issuers]\nallow_http = [\"http://x\"]",
            "4: issuers.allow_http[0]: found \"http://x\", expected a host name or address, without port",
        ),
    ] {
        let (_, problems, _dir) = read_text(&format!("{LISTENER}{text}"), &[]);
        assert_eq!(problems, [expected], "{text}");
    }
    let (s, problems, _dir) = read_text(&format!("{LISTENER}tls = true\nclient_certificate = \"require\""), &[]);
    assert!(problems.is_empty() && s.warnings[0].contains("any certificate is taken"), "{:?}", s.warnings);
    let (_, problems, _dir) = read_text("", &[]);
    assert_eq!(problems, ["1: listeners: found none, expected at least one [[listeners]] with an address"]);
    let (_, problems, _dir) =
        read_text("[[listeners]]\naddress = \"1.1.1.1:1\"\ncertificate = \"a\"\nkey = \"b\"", &[]);
    assert_eq!(
        problems,
        [
            "3: listeners[0].certificate: found it without TLS, expected `tls = true` beside it",
            "4: listeners[0].key: found it without TLS, expected `tls = true` beside it"
        ]
    );
}

#[test]
fn admin_can_be_opened_by_name_or_switched_off() {
    let (s, _dir) = good(&format!("{LISTENER}[admin]\naddress = \"0.0.0.0:8001\"\nallow_remote = true"));
    assert_eq!((s.admin.map(|a| a.address.to_string()).as_deref(), s.warnings.len()), (Some("0.0.0.0:8001"), 1));
    let (s, _dir) = good(&format!("{LISTENER}[admin]\naddress = \"off\""));
    assert_eq!(s.admin, None);
    let (s, _dir) = good(&format!("{LISTENER}[admin]\naddress = \"127.3.2.1:0\""));
    assert!(s.admin.is_some());
}

#[test]
fn a_missing_file_is_one_problem() {
    let error = Settings::load(Path::new("/nonexistent/edge.toml")).unwrap_err();
    assert_eq!(error.0.len(), 1);
    assert!(error.to_string().starts_with("/nonexistent/edge.toml: found no readable file"), "{error}");
}
