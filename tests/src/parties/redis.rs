//! Debian's Redis, which keeps nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;

use super::{Ended, tied, wait_until_it_listens};
use crate::edge::free_address;
use crate::wire::PATIENCE;

/// A Redis of its own on loopback.
pub struct Redis {
    address: SocketAddr,
    _child: Ended,
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
        Self { address, _child: Ended(child), _dir: dir }
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
        let mut stream = TcpStream::connect(self.address).expect("connect to Redis");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
        let mut text = format!("*{}\r\n", words.len());
        for word in words {
            text.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        stream.write_all(text.as_bytes()).expect("ask Redis");
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        reader.read_line(&mut line).expect("a reply");
        let line = line.trim_end();
        match line.split_at(1) {
            ("$", "-1") => None,
            ("$", length) => {
                let mut bytes = vec![0; length.parse().expect("a length")];
                reader.read_exact(&mut bytes).expect("a string");
                Some(String::from_utf8_lossy(&bytes).into_owned())
            }
            ("-", _) => Some(line.to_owned()),
            (_, value) => Some(value.to_owned()),
        }
    }
}
