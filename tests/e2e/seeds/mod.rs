//! The acceptance cases of the seeds, one test a case, named by its id: their commands run in bash as they are printed.
//! Host names lead to the edge by curl's own settings (`CURL_HOME`); only file names and what a reader fills in differ.
//!
//! What the seeds write by the Admin API stands in the declarative file here.

mod interplay;
mod s0;
mod s1;
mod s2;
mod s3;
mod s4;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use edge_tests::certs;
use edge_tests::edge::Setup;
use serde_json::{Value, json};

/// Routes for everything the seeds ask for, on the hosts they name.
const HOSTS: [&str; 3] = ["kong.example.com", "api.example.com", "edge.example.com"];

/// A shell in which the seeds' hosts are on this machine.
struct Shell {
    dir: tempfile::TempDir,
}

/// What a command wrote and how it ended.
struct Ran {
    out: String,
    code: i32,
}

impl Shell {
    /// Port 443 of each name is at an address, whose certificate is by the tests' authority.
    fn new(hosts: &[(&str, SocketAddr)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root.crt");
        std::fs::write(&root, certs::root()).unwrap();
        let mut settings = format!("cacert = \"{}\"\nmax-time = 20\nsilent\nshow-error\n", root.display());
        for (host, address) in hosts {
            settings.push_str(&format!("connect-to = \"{host}:443:{}:{}\"\n", address.ip(), address.port()));
        }
        std::fs::write(dir.path().join(".curlrc"), settings).unwrap();
        Self { dir }
    }

    /// The seeds' three hosts at one TLS listener.
    fn at(address: SocketAddr) -> Self {
        Self::new(&HOSTS.map(|host| (host, address)))
    }

    /// More of curl's settings.
    fn setting(self, line: &str) -> Self {
        let file = self.dir.path().join(".curlrc");
        let text = format!("{}{line}\n", std::fs::read_to_string(&file).unwrap());
        std::fs::write(file, text).unwrap();
        self
    }

    /// Runs a text of a seed with these variables.
    fn run(&self, text: &str, variables: &[(&str, &str)]) -> Ran {
        let output = Command::new("bash")
            .args(["-c", text])
            .env("CURL_HOME", self.dir.path())
            .envs(variables.iter().copied())
            .current_dir(self.dir.path())
            .stdin(Stdio::null())
            .output()
            .expect("run bash");
        let error = String::from_utf8_lossy(&output.stderr);
        if !error.is_empty() {
            eprintln!("{text}: {error}");
        }
        Ran { out: String::from_utf8_lossy(&output.stdout).into_owned(), code: output.status.code().unwrap_or(-1) }
    }
}

impl Ran {
    /// The status of a response that was printed with its head (`-i`).
    fn status(&self) -> u16 {
        self.out.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0)
    }

    /// One field of such a response.
    fn field(&self, name: &str) -> Option<&str> {
        let head = self.out.split("\r\n\r\n").next().unwrap_or_default();
        let mut fields = head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The body of such a response.
    fn body(&self) -> &str {
        self.out.split_once("\r\n\r\n").map_or("", |(_, body)| body)
    }
}

/// An edge with a clear-text and a TLS listener for the seeds' hosts.
fn listening(entities: String) -> Setup {
    let pair = certs::pair(&HOSTS);
    let certificate =
        json!({"cert": pair.certificate, "key": pair.key, "snis": HOSTS.map(|name| json!({"name": name}))});
    let mut entities: Value = serde_json::from_str(&entities).unwrap();
    entities["certificates"] = json!([certificate]);
    Setup::new(entities.to_string()).clear().tls()
}
