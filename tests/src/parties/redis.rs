//! Debian's Redis, which keeps nothing.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use super::{Ended, tied, wait_until_it_listens};
use crate::edge::free_address;
use crate::wire::PATIENCE;

/// A Redis of its own on loopback.
pub struct Redis {
    address: SocketAddr,
    child: Ended,
    _dir: tempfile::TempDir,
}

impl Redis {
    /// Without a password.
    pub fn start() -> Self {
        Self::at(free_address(), &[])
    }

    /// At an address that was chosen before, with more options (`--requirepass word`).
    pub fn at(address: SocketAddr, options: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut child = tied(program)
            .args(["--bind", &address.ip().to_string(), "--port", &address.port().to_string()])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(dir.path())
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .expect("start Redis");
        wait_until_it_listens(address, &mut child);
        Self { address, child: Ended(child), _dir: dir }
    }

    /// A sentinel that knows the master at this address as `name`.
    pub fn sentinel(name: &str, master: SocketAddr) -> Self {
        let (address, dir) = (free_address(), tempfile::tempdir().expect("a folder"));
        let file = dir.path().join("sentinel.conf");
        let text = format!(
            "port {}\nbind {}\ndir {}\nsentinel monitor {name} {} {} 1\n",
            address.port(),
            address.ip(),
            dir.path().display(),
            master.ip(),
            master.port()
        );
        std::fs::write(&file, text).expect("a file");
        let program = std::env::var_os("REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut child =
            tied(program).arg(&file).arg("--sentinel").stdout(Stdio::null()).spawn().expect("start a sentinel");
        wait_until_it_listens(address, &mut child);
        Self { address, child: Ended(child), _dir: dir }
    }

    /// Stops or resumes the process, which keeps its connections.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let pid = nix::unistd::Pid::from_raw(self.child.0.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("a running Redis");
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends it; its address is free then.
    pub fn stop(self) -> SocketAddr {
        self.address
    }

    /// The reply to one command whose reply is one line or one string, nil as `None`; errors begin with `-`.
    pub fn command(&self, words: &[&str]) -> Option<String> {
        let mut reader = self.ask(words);
        reply(&mut reader).map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
    }

    /// As `command`: the bytes of a string.
    pub fn bytes(&self, words: &[&str]) -> Option<Vec<u8>> {
        reply(&mut self.ask(words))
    }

    /// The names of all keys.
    pub fn keys(&self) -> Vec<String> {
        let mut reader = self.ask(&["KEYS", "*"]);
        let count = reply(&mut reader).expect("a list");
        let count: usize = String::from_utf8_lossy(&count).parse().expect("a length");
        let name = |_| String::from_utf8(reply(&mut reader).expect("a name")).expect("UTF-8");
        (0..count).map(name).collect()
    }

    fn ask(&self, words: &[&str]) -> BufReader<TcpStream> {
        let mut stream = TcpStream::connect(self.address).expect("connect to Redis");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(text.as_bytes()).expect("ask Redis");
        BufReader::new(stream)
    }
}

/// One string, or the line of another reply; of an error with its mark.
fn reply(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a reply");
    let line = line.trim_end();
    match line.split_at(1) {
        ("$", "-1") => None,
        ("$", length) => {
            let mut bytes = vec![0; length.parse::<usize>().expect("a length") + 2];
            reader.read_exact(&mut bytes).expect("a string");
            bytes.truncate(bytes.len() - 2);
            Some(bytes)
        }
        ("-", _) => Some(line.into()),
        (_, value) => Some(value.into()),
    }
}
