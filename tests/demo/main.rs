//! The demo: an edge with its embedded issuer and echo upstream, and a table of tokens that pass and that do not.
//!
//! `cargo xtask demo` builds everything and calls this with the binary and a signing key.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use edge_tests::edge::free_address;
use edge_tests::log::Log;
use edge_tests::mint::{self, Key, flip, unsigned, with};
use edge_tests::parties::say;
use serde_json::{Value, json};

/// Show the edge with real requests and real tokens.
#[derive(Parser)]
struct Args {
    /// The edge binary
    #[arg(long)]
    edge: PathBuf,
    /// PEM file with the issuer's RSA key: the demo signs its broken tokens with the same one
    #[arg(long)]
    signing_key: PathBuf,
    /// Where the demo's files are written
    #[arg(long)]
    folder: PathBuf,
    /// End after the table, with status 1 where a row differs
    #[arg(long)]
    once: bool,
}

const AUDIENCE: &str = "https://api.example.com";
const CLIENT: &str = "demo";
const SECRET: &str = "demo-secret";

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let ports = Ports::choose();
    std::fs::create_dir_all(&args.folder)?;
    let key = args.folder.join("issuer.pem");
    std::fs::copy(&args.signing_key, &key).context("copy the signing key")?;
    std::fs::write(args.folder.join("edge.toml"), ports.settings())?;
    std::fs::write(args.folder.join("kong.yaml"), ports.entities())?;
    let mut edge = Running::start(&args.edge, &args.folder)?;
    for line in edge.error.lines().iter().filter(|line| line.to_lowercase().contains("kernel")) {
        say(&format!("    {line}"));
    }

    let token = ports.token()?;
    let rows = rows(&token, &std::fs::read_to_string(&key)?)?;
    let wrong = table(&ports, &edge, &rows)?;
    if wrong > 0 {
        say(&format!(
            "\n{wrong} of {} rows differ from what is expected; the error log says:\n{}",
            rows.len(),
            edge.error.text()
        ));
    }
    if args.once {
        edge.stop()?;
        return Ok(if wrong == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    say(&ports.commands(&args.folder));
    let status = edge.child.wait()?;
    ensure!(status.success(), "the edge ended with {status}");
    Ok(ExitCode::SUCCESS)
}

/// Where the parts of the demo listen: the usual places, or free ones where those are taken.
struct Ports {
    proxy: SocketAddr,
    admin: SocketAddr,
    issuer: SocketAddr,
    echo: SocketAddr,
}

impl Ports {
    fn choose() -> Self {
        let usual = |port: u16| {
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            TcpListener::bind(address).map_or_else(|_| free_address(), |_| address)
        };
        Self { proxy: usual(8000), admin: usual(8001), issuer: usual(8180), echo: usual(8181) }
    }

    fn settings(&self) -> String {
        let Self { proxy, admin, issuer, echo } = self;
        format!(
            r#"[[listeners]]
address = "{proxy}"

[entities]
file = "kong.yaml"

[kernel]
mode = "auto"
interfaces = ["lo"]
deny = ["203.0.113.0/24"]

[admin]
address = "{admin}"

[echo]
address = "{echo}"

[identity]
address = "{issuer}"

[[identity.servers]]
name = "demo"
audience = "{AUDIENCE}"
signing_key = "issuer.pem"

[[identity.servers.scopes]]
name = "orders:read"
default = true

[[identity.servers.clients]]
id = "{CLIENT}"
secret = "{SECRET}"
scopes = ["orders:read"]
access_token_duration = 3600
"#
        )
    }

    fn entities(&self) -> String {
        format!(
            r#"_format_version: "3.0"
services:
- name: echo
  url: http://{}
  routes:
  - name: orders
    paths: [/orders]
    strip_path: false
    plugins:
    - name: openid-connect
      config:
        issuer: {}
        client_id: [{CLIENT}]
        auth_methods: [bearer]
        audience_required: ["{AUDIENCE}"]
        scopes_required: ["orders:read"]
  - name: public
    paths: [/public]
    strip_path: false
"#,
            self.echo,
            self.issuer_url()
        )
    }

    fn issuer_url(&self) -> String {
        format!("http://{}/demo/auth", self.issuer)
    }

    /// A token as any client gets one.
    fn token(&self) -> Result<String> {
        let form = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}");
        let answer = curl(&["-f", "-d", &form, &format!("{}/oauth/token", self.issuer_url())])?;
        let answer: Value = serde_json::from_str(&answer).context("the token endpoint's answer")?;
        Ok(answer["access_token"].as_str().context("no access_token in the answer")?.to_owned())
    }

    fn commands(&self, folder: &Path) -> String {
        format!(
            r#"
The edge serves until Ctrl-C. Its files are in {}. To try by hand:

  TOKEN=$(curl -s {}/oauth/token -d grant_type=client_credentials \
    -d client_id={CLIENT} -d client_secret={SECRET} | sed 's/.*"access_token": *"\([^"]*\)".*/\1/')
  curl -i http://{proxy}/orders -H "Authorization: Bearer $TOKEN"
  curl -i http://{proxy}/orders -H "Authorization: Bearer ${{TOKEN}}x"
  curl -i http://{proxy}/orders
  curl -i http://{proxy}/public
  curl -s http://{}/metrics
"#,
            folder.display(),
            self.issuer_url(),
            self.admin,
            proxy = self.proxy,
        )
    }
}

/// The edge of the demo.
struct Running {
    child: Child,
    access: Log,
    error: Log,
}

impl Running {
    fn start(binary: &Path, folder: &Path) -> Result<Self> {
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--"])
            .arg(binary)
            .args(["run", "--config"])
            .arg(folder.join("edge.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the edge")?;
        let access = Log::follow(child.stdout.take().context("stdout")?);
        let error = Log::follow(child.stderr.take().context("stderr")?);
        if error.wait(0, Duration::from_secs(20), |line| line.contains("edge ready")).is_none() {
            let _ = child.kill();
            bail!("the edge did not start:\n{}", error.text());
        }
        Ok(Self { child, access, error })
    }

    /// The reason code of the answer with this request id; `-` where the request was passed on.
    fn reason(&self, id: &str) -> String {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok().filter(|value| value["request_id"] == id);
        let line = self.access.wait(0, Duration::from_secs(10), |line| parse(line).is_some());
        let reason = line.and_then(|line| parse(&line)).and_then(|line| line["reason"].as_str().map(str::to_owned));
        reason.unwrap_or_else(|| "-".into())
    }

    fn stop(mut self) -> Result<()> {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let status = self.child.wait()?;
        ensure!(status.success(), "the edge ended with {status}");
        Ok(())
    }
}

/// One request of the table.
struct Row {
    case: &'static str,
    header: Option<String>,
    status: u16,
    reason: &'static str,
}

/// The good token, and the same one with a single thing wrong.
fn rows(token: &str, pem: &str) -> Result<Vec<Row>> {
    let (header, claims) = mint::open(token);
    let kid = header["kid"].as_str().context("the token has no kid")?;
    let algorithm = header["alg"].as_str().context("the token has no alg")?;
    let key = Key::rsa(pem, kid, algorithm);
    let other = Key::rsa(mint::RSA_B, kid, algorithm);
    let now = mint::now();
    let changed = |changes: Value| key.sign(&header, &with(claims.clone(), changes));
    let id_token = key.sign(
        &json!({"alg": algorithm, "kid": kid, "typ": "JWT"}),
        &with(claims.clone(), json!({"aud": CLIENT, "nonce": "n-0S6", "scope": null})),
    );
    let bearer = |token: String| Some(format!("Bearer {token}"));
    let row = |case, header, status, reason| Row { case, header, status, reason };
    Ok(vec![
        row("good token", bearer(token.to_owned()), 200, "-"),
        row("the same, `bearer` in lower case", Some(format!("bearer {token}")), 200, "-"),
        row("ID token", bearer(id_token), 401, "id_token_used"),
        row("expired", bearer(changed(json!({"exp": now - 600}))), 401, "token_expired"),
        row("not yet valid", bearer(changed(json!({"nbf": now + 600}))), 401, "token_not_yet_valid"),
        row(
            "wrong audience",
            bearer(changed(json!({"aud": "https://other.example.com"}))),
            403,
            "audience_not_allowed",
        ),
        row("wrong issuer", bearer(changed(json!({"iss": "https://evil.example.com"}))), 401, "issuer_not_allowed"),
        row("scope missing", bearer(changed(json!({"scope": "orders:write"}))), 403, "scope_missing"),
        row("bad signature", bearer(flip(token)), 401, "signature_invalid"),
        row("signed by another key", bearer(other.sign(&header, &claims)), 401, "signature_invalid"),
        row(
            "unknown kid",
            bearer(key.sign(&with(header.clone(), json!({"kid": "nobody"})), &claims)),
            401,
            "kid_unknown",
        ),
        row(
            "alg none",
            bearer(unsigned(&json!({"alg": "none", "kid": kid, "typ": "at+jwt"}), &claims, "AA")),
            401,
            "alg_not_allowed",
        ),
        row("not base64url", bearer(format!("{token}=")), 401, "token_malformed"),
        row("token without scheme", Some(token.to_owned()), 401, "header_malformed"),
        row("header in quotes", Some(format!("\"Bearer {token}\"")), 401, "header_malformed"),
        row("no header", None, 401, "header_missing"),
        row("opaque token", bearer("b5d2c8f09a7e4c31".into()), 401, "introspection_unavailable"),
    ])
}

/// Asks every row with curl and prints what came; how many differ.
fn table(ports: &Ports, edge: &Running, rows: &[Row]) -> Result<usize> {
    let url = format!("http://{}/orders", ports.proxy);
    let mut seen = Vec::new();
    for row in rows {
        let mut arguments = vec!["-o", "/dev/null", "-w", "%{http_code} %header{x-kong-request-id}"];
        let header = row.header.as_ref().map(|value| format!("Authorization: {value}"));
        if let Some(header) = &header {
            arguments.extend(["-H", header]);
        }
        arguments.push(&url);
        let answer = curl(&arguments)?;
        let (status, id) = answer.split_once(' ').context("curl's answer")?;
        seen.push((status.parse::<u16>().unwrap_or(0), id.to_owned()));
    }
    let width = rows.iter().map(|row| row.case.len()).max().unwrap_or(0);
    let mut text = format!(
        "\n{:width$}  expected                         seen\n",
        format!("GET {url}").chars().take(width).collect::<String>()
    );
    let mut wrong = 0;
    for (row, (status, id)) in rows.iter().zip(seen) {
        let reason = edge.reason(&id);
        let right = status == row.status && reason == row.reason;
        wrong += usize::from(!right);
        let mark = if right { "" } else { "   <== differs" };
        writeln!(text, "{:width$}  {} {:28} {status} {reason}{mark}", row.case, row.status, row.reason)?;
    }
    say(&text);
    Ok(wrong)
}

fn curl(arguments: &[&str]) -> Result<String> {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().context("run curl")?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "curl: {}", complaint.trim_end());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
