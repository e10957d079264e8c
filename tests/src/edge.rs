//! The edge as a process: its folder, its ports, its two logs, and an orderly end.

use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::certs;
use crate::log::Log;
use crate::wire::{Client, Message};

/// How long a start, a reload or a line in a log may take.
pub const READY: Duration = Duration::from_secs(60);

/// The binary under test: `EDGE_BIN`, else the one beside the test's own.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("EDGE_BIN") {
        return path.into();
    }
    let own = std::env::current_exe().expect("own path");
    let dir = own.ancestors().find(|dir| dir.join("edge").is_file());
    dir.expect("no edge binary beside the tests: run `cargo xtask test`").join("edge")
}

/// What one edge is started with.
#[derive(Default)]
pub struct Setup {
    entities: String,
    listeners: Vec<String>,
    sections: String,
    log: String,
    files: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    workers: Option<usize>,
    folder_mode: Option<u32>,
    namespace: Option<String>,
    privileges: Vec<String>,
}

impl Setup {
    /// An edge with these entities (YAML or JSON) and one clear-text listener unless others are named.
    pub fn new(entities: impl Into<String>) -> Self {
        Self { entities: entities.into(), ..Self::default() }
    }

    /// A clear-text listener.
    pub fn clear(mut self) -> Self {
        self.listeners.push("[[listeners]]\naddress = \"127.0.0.1:0\"\n".into());
        self
    }

    /// A clear-text listener at an address that was chosen before.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listeners.push(format!("[[listeners]]\naddress = \"{address}\"\n"));
        self
    }

    /// A listener of streams at an address that was chosen before, with more lines of its section.
    pub fn stream(mut self, address: SocketAddr, more: &str) -> Self {
        self.listeners.push(format!("[[listeners]]\naddress = \"{address}\"\nmode = \"stream\"\n{more}"));
        self
    }

    /// A TLS listener with the harness's certificate for `localhost`, `edge.test` and 127.0.0.1.
    pub fn tls(self) -> Self {
        self.tls_with("")
    }

    /// The same with more lines of its section.
    pub fn tls_with(mut self, more: &str) -> Self {
        let pair = certs::server();
        self.listeners.push(format!(
            "[[listeners]]\naddress = \"127.0.0.1:0\"\ntls = true\ncertificate = \"tls.crt\"\nkey = \"tls.key\"\n{more}\n"
        ));
        self.files.push(("tls.crt".into(), pair.certificate.clone()));
        self.files.push(("tls.key".into(), pair.key.clone()));
        self
    }

    /// More of `edge.toml`, as text.
    pub fn section(mut self, text: &str) -> Self {
        self.sections.push_str(text);
        self.sections.push('\n');
        self
    }

    /// A line of `[log]` beyond the two outputs.
    pub fn log(mut self, line: &str) -> Self {
        self.log.push_str(line);
        self.log.push('\n');
        self
    }

    /// How many workers; one for tests that must meet the same worker again.
    pub fn workers(mut self, count: usize) -> Self {
        self.workers = Some(count);
        self
    }

    /// A file beside `edge.toml`.
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.into(), text.into()));
        self
    }

    /// The permissions of the folder, which is the tests' own and closed to others by default.
    pub fn folder_mode(mut self, mode: u32) -> Self {
        self.folder_mode = Some(mode);
        self
    }

    /// The network namespace to run in, by its name.
    pub fn within(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.into());
        self
    }

    /// As this user from the start, with these capabilities alone, as setpriv(1) writes them: `+bpf,+net_admin`.
    pub fn as_user(mut self, user: &str, capabilities: &str) -> Self {
        self.privileges = ["--reuid", user, "--clear-groups"].map(Into::into).to_vec();
        if !capabilities.is_empty() {
            self.privileges.extend(["--inh-caps", capabilities, "--ambient-caps", capabilities].map(Into::into));
        }
        self
    }

    /// A listener with more lines of its section.
    pub fn listener(mut self, lines: &str) -> Self {
        self.listeners.push(format!("[[listeners]]\n{lines}\n"));
        self
    }

    /// A variable of the process's environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// Writes the folder and starts; the edge is serving when this returns.
    pub fn start(self) -> Edge {
        match self.try_start() {
            Ok(edge) => edge,
            Err(e) => panic!("the edge did not start: {e:#}"),
        }
    }

    /// Writes the folder and nothing more; the path of `edge.toml`.
    pub fn write(&self, dir: &Path, admin: SocketAddr) -> Result<PathBuf> {
        let mut text = if self.listeners.is_empty() {
            "[[listeners]]\naddress = \"127.0.0.1:0\"\n".to_owned()
        } else {
            self.listeners.concat()
        };
        let workers = self.workers.unwrap_or(2);
        write!(text, "[workers]\ncount = {workers}\n[entities]\nfile = \"kong.yaml\"\n")?;
        write!(text, "[admin]\naddress = \"{admin}\"\n[log]\naccess = \"stdout\"\nerror = \"stderr\"\n{}", self.log)?;
        if !self.sections.contains("[kernel]") {
            text.push_str("[kernel]\nmode = \"off\"\n");
        }
        text.push_str(&self.sections);
        for (name, content) in &self.files {
            std::fs::write(dir.join(name), content)?;
        }
        std::fs::write(dir.join("kong.yaml"), &self.entities)?;
        let config = dir.join("edge.toml");
        std::fs::write(&config, text)?;
        Ok(config)
    }

    /// As `start`, for starts that fail.
    pub fn try_start(self) -> Result<Edge> {
        let dir = tempfile::tempdir()?;
        if let Some(mode) = self.folder_mode {
            std::fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        // Whatever port is free when it starts: one that was free before may be taken by then.
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        self.write(dir.path(), admin)?;
        let listeners = self.listeners.len().max(1);
        let place =
            Place { dir, environment: self.environment, namespace: self.namespace, privileges: self.privileges };
        let edge = Edge::spawn(place, &[])?;
        ensure!(edge.listeners.len() >= listeners, "not all listeners in:\n{}", edge.error.text());
        Ok(edge)
    }
}

/// Where an edge runs, and the next one after it.
struct Place {
    dir: tempfile::TempDir,
    environment: Vec<(String, String)>,
    namespace: Option<String>,
    privileges: Vec<String>,
}

/// A running edge; ended when dropped.
pub struct Edge {
    child: Child,
    place: Arc<Place>,
    access: Log,
    error: Log,
    listeners: Vec<SocketAddr>,
    admin: SocketAddr,
    ended: Option<ExitStatus>,
}

impl Edge {
    /// Starts `edge run` in a folder that was written.
    fn spawn(place: impl Into<Arc<Place>>, more: &[&str]) -> Result<Self> {
        let place = place.into();
        let mut command = match &place.namespace {
            None => Command::new("setpriv"),
            Some(namespace) => {
                let mut command = Command::new("ip");
                command.args(["netns", "exec", namespace, "setpriv"]);
                command
            }
        };
        // The edge must not outlive a test that was killed.
        let mut child = command
            .args(&place.privileges)
            .args(["--pdeathsig", "KILL", "--"])
            .arg(binary())
            .arg("run")
            .arg("--config")
            .arg(place.dir.path().join("edge.toml"))
            .args(more)
            .env_remove("KONG_LOG_LEVEL")
            .env_remove("EDGE_LOG_LEVEL")
            .envs(place.environment.clone())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the edge")?;
        let access = Log::follow(child.stdout.take().context("stdout")?);
        let error = Log::follow(child.stderr.take().context("stderr")?);
        let admin = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut edge = Self { child, place, access, error, listeners: Vec::new(), admin, ended: None };
        if edge.error.wait(0, READY, |line| line.contains("edge ready")).is_none() {
            let _ = edge.child.kill();
            bail!("not ready:\n{}", edge.error.text());
        }
        for line in edge.error.lines() {
            if let Some((_, address)) = line.split_once("admin on ") {
                edge.admin = address.trim().parse()?;
            }
            if let Some((_, address)) = line.split_once("listening on ") {
                let address: SocketAddr = address.split_whitespace().next().unwrap_or_default().parse()?;
                if !edge.listeners.contains(&address) {
                    edge.listeners.push(address);
                }
            }
        }
        Ok(edge)
    }

    /// An edge on a folder that somebody else wrote; serving when this returns.
    pub fn serve(dir: tempfile::TempDir) -> Result<Self> {
        Self::spawn(Place { dir, environment: Vec::new(), namespace: None, privileges: Vec::new() }, &[])
    }

    /// The next generation, in the same folder, which takes over from this one; serving when this returns.
    pub fn upgrade(&self) -> Result<Self> {
        Self::spawn(self.place.clone(), &["--upgrade"])
    }

    /// A command of the operator's about this edge: `kernel status`, `why 192.0.2.1`.
    pub fn command(&self, words: &[&str]) -> std::process::Output {
        let mut command = Command::new(binary());
        command.args(words).arg("--config").arg(self.path("edge.toml"));
        command.output().expect("the edge's own program runs")
    }

    /// The first listener.
    pub fn address(&self) -> SocketAddr {
        self.listeners[0]
    }

    /// A listener by its place in the file.
    pub fn listener(&self, index: usize) -> SocketAddr {
        self.listeners[index]
    }

    /// Where the Admin API listens.
    pub fn admin(&self) -> SocketAddr {
        self.admin
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A file beside `edge.toml`.
    pub fn path(&self, name: &str) -> PathBuf {
        self.place.dir.path().join(name)
    }

    /// A connection to the first listener.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// One request on a connection of its own.
    pub fn ask(&self, request: impl AsRef<[u8]>) -> Message {
        self.connect().ask(request)
    }

    /// A GET of the Admin API.
    pub fn admin_get(&self, path: &str) -> Message {
        self.admin_ask("GET", path)
    }

    /// A request to the Admin API, without a body.
    pub fn admin_ask(&self, method: &str, path: &str) -> Message {
        let length = if method == "POST" { "Content-Length: 0\r\n" } else { "" };
        let request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\n{length}Connection: close\r\n\r\n", self.admin);
        let mut client = Client::connect(self.admin);
        client.send(request);
        client.response_to(method)
    }

    /// The value of one sample of `/metrics`, by the text before the value; 0 where it is absent.
    pub fn metric(&self, sample: &str) -> f64 {
        let text = self.admin_get("/metrics").text();
        let line = text.lines().find(|line| line.strip_prefix(sample).is_some_and(|rest| rest.starts_with(' ')));
        line.and_then(|line| line.rsplit(' ').next()).and_then(|value| value.parse().ok()).unwrap_or(0.0)
    }

    /// The error log.
    pub fn errors(&self) -> &Log {
        &self.error
    }

    /// The access log.
    pub fn accesses(&self) -> &Log {
        &self.access
    }

    /// The first access-log line that satisfies a condition, waited for.
    pub fn access(&self, accept: impl Fn(&Value) -> bool) -> Value {
        self.access_after(0, accept)
    }

    /// As `access`, from a mark on.
    pub fn access_after(&self, mark: usize, accept: impl Fn(&Value) -> bool) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let line = self.access.wait(mark, READY, |line| parse(line).is_some_and(|value| accept(&value)));
        let line = line.unwrap_or_else(|| panic!("no such line in the access log:\n{}", self.access.text()));
        parse(&line).expect("JSON")
    }

    /// The reason code the access log carries for the answer with this request id.
    pub fn reason_of(&self, answer: &Message) -> String {
        let id = answer.field("x-kong-request-id").expect("a request id").to_owned();
        let line = self.access(|line| line["request_id"] == id.as_str());
        line["reason"].as_str().unwrap_or("").to_owned()
    }

    /// Waits for a line in the error log.
    pub fn logged(&self, part: &str) -> String {
        self.logged_after(0, part)
    }

    /// As `logged`, from a mark on.
    pub fn logged_after(&self, mark: usize, part: &str) -> String {
        let part = part.to_lowercase();
        let line = self.error.wait(mark, READY, |line| line.to_lowercase().contains(&part));
        line.unwrap_or_else(|| panic!("{part:?} is not in the error log:\n{}", self.error.text()))
    }

    /// Everything the process wrote.
    pub fn output(&self) -> String {
        format!("{}\n{}", self.access.text(), self.error.text())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.child.id() as i32), signal).expect("signal the edge");
    }

    /// Replaces the entities, asks for a reload and waits for the line that says how it went.
    pub fn reload(&self, entities: &str, line: &str) -> String {
        let mark = self.error.mark();
        std::fs::write(self.path("kong.yaml"), entities).expect("write the entities");
        self.signal(Signal::SIGHUP);
        self.logged_after(mark, line)
    }

    /// Whether the process ends by itself within this time, and how.
    pub fn ends_within(&mut self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait().expect("wait for the edge") {
                self.ended = Some(status);
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }

    /// Ends it by SIGTERM and checks that it says so with status 0.
    pub fn stop(mut self) -> (Log, Log) {
        self.signal(Signal::SIGTERM);
        let status = self.ends_within(READY).expect("the edge did not end after SIGTERM");
        assert!(status.success(), "the edge ended with {status}:\n{}", self.error.text());
        (self.access.clone(), self.error.clone())
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        if self.ended.is_none() {
            if std::thread::panicking() {
                eprintln!("--- error log\n{}\n--- access log\n{}", self.error.text(), self.access.text());
            }
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// An address of loopback that nobody listens on.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port")
}
