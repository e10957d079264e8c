//! Debian's redis-server, without a file of its own, and its sentinel.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::edge::{READY, free_address};

/// A server for one test.
pub struct Redis {
    /// Where it serves.
    pub address: SocketAddr,
    child: Child,
    _dir: TempDir,
}

impl Redis {
    /// Starts one with these further arguments.
    pub fn start(more: &[&str]) -> Self {
        Self::start_at(free_address(), more)
    }

    /// As `start`, where another may have been.
    pub fn start_at(address: SocketAddr, more: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), address, more)
    }

    /// As `start_at`, in a folder with files that the arguments name.
    pub fn start_in(dir: TempDir, address: SocketAddr, more: &[&str]) -> Self {
        let port = address.port().to_string();
        let port = if more.contains(&"--tls-port") { ["--port", "0"] } else { ["--port", &port] };
        let fixed = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir"];
        let path = dir.path().to_str().unwrap().to_owned();
        let arguments = [&port[..], &fixed, &[&path], more].concat();
        Self::run(dir, address, &arguments)
    }

    /// A sentinel that knows this master as `name`.
    pub fn sentinel(name: &str, master: SocketAddr) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind 127.0.0.1\ndir {}\nsentinel monitor {name} {} {} 1\n",
            address.port(),
            dir.path().display(),
            master.ip(),
            master.port()
        );
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap().to_owned();
        Self::run(dir, address, &[&file, "--sentinel"])
    }

    fn run(dir: TempDir, address: SocketAddr, arguments: &[&str]) -> Self {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "--", "redis-server"])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let end = Instant::now() + READY;
        while TcpStream::connect(address).is_err() {
            assert!(Instant::now() < end, "no redis at {address}");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { address, child, _dir: dir }
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// One command in the inline form; the lines of a flat answer.
    pub fn ask(&self, command: &str) -> Vec<String> {
        let text = String::from_utf8(self.ask_bytes(command)).unwrap();
        let lines = text.lines().filter(|line| !line.starts_with(['$', '*']));
        let mut lines: Vec<_> = lines.map(|line| line.trim_start_matches(':').to_owned()).collect();
        assert_eq!(lines.pop().as_deref(), Some("+OK"), "{text}");
        lines
    }

    /// As `ask`: the whole answer, as it came.
    pub fn ask_bytes(&self, command: &str) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(READY)).unwrap();
        write!(stream, "{command}\r\nQUIT\r\n").unwrap();
        let mut bytes = Vec::new();
        BufReader::new(stream).read_to_end(&mut bytes).unwrap();
        bytes
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
