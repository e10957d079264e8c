//! Real programs as parties: curl, nginx, httpbin, a certified issuer and, in files of their own, gRPC, jose, WebSocket and
//! Redis. `cargo xtask test` brings them.

pub mod front;
pub mod grpc;
pub mod jose;
mod oidc_provider;
pub mod redis;
pub mod redis_cluster;
pub mod websocket;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub use oidc_provider::OidcProvider;

use crate::edge::free_address;

/// What `cargo xtask test` exports: where it put a party.
fn place(variable: &str) -> PathBuf {
    let path = std::env::var_os(variable);
    path.unwrap_or_else(|| panic!("{variable} is not set: run the tests by `cargo xtask test`")).into()
}

/// A program that ends with the test, whatever becomes of the test.
fn tied(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--"]).arg(program).stdin(Stdio::null());
    command
}

/// A child that is ended and waited for.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.0.id() as i32);
        // nginx and gunicorn end their workers on SIGTERM alone.
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn wait_until_it_listens(address: SocketAddr, child: &mut Child) {
    let end = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.try_wait().expect("wait") {
            panic!("the party at {address} ended with {status}");
        }
        assert!(Instant::now() < end, "nothing listens on {address}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Runs curl; standard output and whether it succeeded.
pub fn curl(arguments: &[&str]) -> (String, bool) {
    let output = Command::new("curl").args(["-sS", "--max-time", "20"]).args(arguments).output().expect("run curl");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        eprintln!("curl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    (text, output.status.success())
}

/// Runs curl and gives the status code and the body.
pub fn curl_status(arguments: &[&str]) -> (u16, String) {
    let mut all = vec!["-w", "\n%{http_code}"];
    all.extend(arguments);
    let (text, _) = curl(&all);
    let (body, status) = text.rsplit_once('\n').expect("a status line");
    (status.parse().unwrap_or(0), body.to_owned())
}

/// Debian's nginx as an upstream.
pub struct Nginx {
    address: SocketAddr,
    _child: Ended,
    _dir: tempfile::TempDir,
}

impl Nginx {
    /// One server with these directives beside its `listen`.
    pub fn start(server: &str) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().expect("a folder"));
        let path = dir.path().display();
        let conf = format!(
            "worker_processes 1; daemon off; master_process off; pid {path}/pid; error_log {path}/error.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{ access_log off; client_body_temp_path {path}/b; proxy_temp_path {path}/p; fastcgi_temp_path {path}/f;\n\
             uwsgi_temp_path {path}/u; scgi_temp_path {path}/s;\n\
             server {{ listen {address}; {server} }} }}\n"
        );
        let file = dir.path().join("nginx.conf");
        std::fs::write(&file, conf).expect("write a configuration");
        let nginx = std::env::var_os("NGINX").unwrap_or_else(|| "/usr/sbin/nginx".into());
        let mut command = tied(nginx);
        command.arg("-c").arg(&file).arg("-e").arg(dir.path().join("error.log"));
        let mut child = command.spawn().expect("start nginx");
        wait_until_it_listens(address, &mut child);
        Self { address, _child: Ended(child), _dir: dir }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// httpbin under gunicorn.
pub struct Httpbin {
    address: SocketAddr,
    _child: Ended,
}

impl Httpbin {
    /// Starts it; it says what it was sent under `/anything`.
    pub fn start() -> Self {
        let address = free_address();
        let mut child = tied(place("TESTS_PYTHON"))
            .args(["-m", "gunicorn", "--threads", "4", "--log-level", "warning", "--bind"])
            .arg(address.to_string())
            .arg("httpbin:app")
            .spawn()
            .expect("start httpbin");
        wait_until_it_listens(address, &mut child);
        Self { address, _child: Ended(child) }
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }
}

/// Writes a line at once, for output of long runs.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}");
    let _ = out.flush();
}
