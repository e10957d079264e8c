//! The first bytes of a stream: TLS or not, and the server name the client asks for. rustls reads the ClientHello from a
//! copy, so the bytes themselves can go on untouched, or TLS can end here with what rustls has read.

use rustls::server::{Accepted, Acceptor};
use tokio::net::TcpStream;

use crate::reason::Reason;

/// What a ClientHello may take on the wire: post-quantum key shares are 2 KiB.
const MAX_BYTES: usize = 16 * 1024;
const FIRST_BYTES: usize = 4 * 1024;
/// A record of the handshake, and the major version all of TLS has (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
const MAJOR: u8 = 3;

/// What a client has sent before it was steered.
#[derive(Default)]
pub(super) struct Opening {
    /// Every byte so far.
    pub(super) bytes: Vec<u8>,
    /// The same as a ClientHello, where it is one.
    pub(super) hello: Option<Box<Accepted>>,
}

impl Opening {
    /// The server name it asks for, in lower case.
    pub(super) fn sni(&self) -> Option<String> {
        self.hello.as_ref()?.client_hello().server_name().map(str::to_owned)
    }
}

/// Reads until it is clear what the client speaks. The caller bounds the time.
pub(super) async fn read(tcp: &TcpStream) -> Result<Opening, Reason> {
    let mut reading = Reading::default();
    let mut bytes = vec![0; FIRST_BYTES];
    let mut end = 0;
    loop {
        if end == bytes.len() {
            if end >= MAX_BYTES {
                return Err(Reason::ClientHelloTooLarge);
            }
            bytes.resize(end * 2, 0);
        }
        tcp.readable().await.map_err(|_| Reason::ClientGone)?;
        let read = match tcp.try_read(&mut bytes[end..]) {
            Ok(0) => return Err(Reason::ClientGone),
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => continue,
            Err(_) => return Err(Reason::ClientGone),
        };
        let start = end;
        end += read;
        let hello = match reading.take(&bytes[..end], start)? {
            Seen::Part => continue,
            Seen::Clear => None,
            Seen::Hello(hello) => Some(hello),
        };
        bytes.truncate(end);
        return Ok(Opening { bytes, hello });
    }
}

enum Seen {
    /// More is needed.
    Part,
    /// It is no TLS.
    Clear,
    Hello(Box<Accepted>),
}

#[derive(Default)]
struct Reading(Acceptor);

impl Reading {
    /// Looks at all bytes so far, those from `new` on for the first time.
    fn take(&mut self, bytes: &[u8], new: usize) -> Result<Seen, Reason> {
        let looks_like_tls = [HANDSHAKE, MAJOR].iter().zip(bytes).all(|(expected, byte)| expected == byte);
        if !looks_like_tls {
            return Ok(Seen::Clear);
        }
        // All of it goes in before the answer is taken: what rustls has not been given then would be lost to it.
        let mut rest = &bytes[new..];
        while !rest.is_empty() {
            self.0.read_tls(&mut rest).map_err(|_| Reason::ClientHelloTooLarge)?;
        }
        match self.0.accept() {
            Ok(None) => Ok(Seen::Part),
            Ok(Some(hello)) => Ok(Seen::Hello(Box::new(hello))),
            Err((error, _)) => {
                tracing::debug!(%error, "no ClientHello");
                Err(Reason::ClientHelloMalformed)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;
    use rustls::pki_types::ServerName;

    use super::*;
    use crate::tls::{ClientTls, Verify, client_config};

    /// A ClientHello for this name, in one record.
    fn hello(name: &str) -> Vec<u8> {
        let config = Arc::new(rustls::ClientConfig::clone(
            &*client_config(&ClientTls { verify: Verify::Off, ..ClientTls::default() }).unwrap(),
        ));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let mut client = rustls::ClientConnection::new(config, name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    /// The same in records of at most so many bytes (RFC 8446, 5.1: handshake messages may span records).
    fn fragmented(record: &[u8], size: usize) -> Vec<u8> {
        let part = |part: &[u8]| [&record[..3], &(part.len() as u16).to_be_bytes(), part].concat();
        record[5..].chunks(size).flat_map(part).collect()
    }

    /// What comes of bytes that arrive in these parts: the name, or `-` for a hello without one.
    fn outcome(bytes: &[u8], step: usize) -> Result<String, &'static str> {
        let mut reading = Reading::default();
        for start in (0..bytes.len()).step_by(step) {
            match reading.take(&bytes[..(start + step).min(bytes.len())], start) {
                Ok(Seen::Part) => {}
                Ok(Seen::Clear) => return Err("clear"),
                Ok(Seen::Hello(hello)) => {
                    return Ok(hello.client_hello().server_name().unwrap_or("-").to_owned());
                }
                Err(reason) => return Err(reason.code()),
            }
        }
        Err("part")
    }

    #[test]
    fn names_are_read_however_the_bytes_are_cut() {
        let record = hello("A.Example");
        for bytes in [record.clone(), fragmented(&record, 100), fragmented(&record, 7), fragmented(&record, 1)] {
            for step in [1, 3, 50, 10_000] {
                assert_eq!(outcome(&bytes, step).as_deref(), Ok("a.example"), "{step}");
            }
        }
        assert_eq!(outcome(&hello("192.0.2.1"), 10_000).as_deref(), Ok("-"));
        assert_eq!(outcome(&record[..record.len() - 1], 10_000), Err("part"));
    }

    #[test]
    fn other_bytes_are_clear_or_malformed() {
        let mut broken = hello("a.example");
        broken[5] = 2;
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\r\n"[..], "clear"),
            (b"\x16", "part"),
            (b"\x16\x02", "clear"),
            (b"\x16\x03\x01\xff\xff\x01", "client_hello_malformed"),
            (b"\x15\x03\x03\x00\x02\x01\x00", "clear"),
            (&broken, "client_hello_malformed"),
        ] {
            assert_eq!(outcome(bytes, 10_000), Err(expected), "{bytes:02x?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken(
            bytes in prop::collection::vec(any::<u8>(), 1..400), at in 0usize..300, step in 1usize..400, mode in 0..3,
        ) {
            let mut text = match mode { 0 => vec![], 1 => vec![22, 3, 1, 0, 200, 1, 0, 0, 196], _ => hello("a.example") };
            if mode == 2 {
                let at = at % text.len();
                text.splice(at..(at + bytes.len()).min(text.len()), bytes);
            } else {
                text.extend(bytes);
            }
            let _ = outcome(&text, step);
        }
    }
}
