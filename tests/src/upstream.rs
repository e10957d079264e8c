//! A service behind the edge that keeps every byte it got and answers as it was told.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::wire::{Message, PATIENCE, Reader};

/// What follows an answer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    Keep,
    Close,
}

/// The answer to one request.
pub struct Reply {
    bytes: Vec<u8>,
    then: Then,
}

impl Reply {
    /// These bytes, and the connection stays.
    pub fn raw(bytes: impl Into<Vec<u8>>) -> Self {
        Self { bytes: bytes.into(), then: Then::Keep }
    }

    /// A status with a body of known length.
    pub fn new(status: &str, fields: &str, body: &str) -> Self {
        Self::raw(format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len()))
    }

    /// 200 with a body.
    pub fn ok(body: &str) -> Self {
        Self::new("200 OK", "Content-Type: text/plain\r\n", body)
    }

    /// The same, then the connection is closed.
    pub fn close(mut self) -> Self {
        self.then = Then::Close;
        self
    }
}

#[derive(Default)]
struct Record {
    messages: Vec<Message>,
    faults: Vec<String>,
}

/// What an upstream has seen.
#[derive(Clone, Default)]
pub struct Seen {
    record: Arc<(Mutex<Record>, Condvar)>,
    connections: Arc<AtomicUsize>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message.
    pub fn keep(&self, message: Message) {
        self.lock().messages.push(message);
        self.record.1.notify_all();
    }

    /// Keeps what was wrong with the bytes of a connection.
    pub fn fault(&self, fault: String) {
        self.lock().faults.push(fault);
        self.record.1.notify_all();
    }
}

/// A listening upstream; its threads end with the test's process.
pub struct Upstream {
    address: SocketAddr,
    seen: Seen,
}

impl Upstream {
    /// Answers every request with 200 and `ok`.
    pub fn start() -> Self {
        Self::with(|_| Reply::ok("ok"))
    }

    /// Answers each whole request by a function.
    pub fn with(answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::raw(move |socket, seen| {
            let mut reader = Reader::new(socket);
            loop {
                let mut message = match reader.head() {
                    Ok(Some(message)) => message,
                    Ok(None) => return,
                    Err(e) => return seen.fault(format!("{e:#}")),
                };
                if message.field("expect").is_some() && reader.stream().write_all(CONTINUE).is_err() {
                    return;
                }
                if let Err(e) = reader.rest_of_request(&mut message) {
                    return seen.fault(format!("{}: {e:#}", message.start));
                }
                let reply = answer(&message);
                seen.keep(message);
                if reader.stream().write_all(&reply.bytes).is_err() || reply.then == Then::Close {
                    return;
                }
            }
        })
    }

    /// Leaves each connection to a function.
    pub fn raw(serve: impl Fn(TcpStream, &Seen) + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").expect("bind"), serve)
    }

    /// As `raw`, on a socket that is bound already.
    pub fn listen(listener: TcpListener, serve: impl Fn(TcpStream, &Seen) + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().expect("an address");
        let seen = Seen::default();
        let (shared, serve) = (seen.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for socket in listener.incoming().map_while(Result::ok) {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, serve) = (shared.clone(), serve.clone());
                std::thread::spawn(move || {
                    // Kept connections stay silent for long; only writes are bounded.
                    let _ = socket.set_write_timeout(Some(PATIENCE));
                    let _ = socket.set_nodelay(true);
                    serve(socket, &seen);
                });
            }
        });
        Self { address, seen }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Message> {
        self.seen.lock().messages.clone()
    }

    /// The requests since the last call of this.
    pub fn take(&self) -> Vec<Message> {
        std::mem::take(&mut self.seen.lock().messages)
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// What was wrong with the bytes that arrived.
    pub fn faults(&self) -> Vec<String> {
        self.seen.lock().faults.clone()
    }

    /// Waits until so many requests have arrived.
    pub fn wait(&self, count: usize) -> Vec<Message> {
        self.wait_for(|record| record.messages.len() >= count);
        self.requests()
    }

    /// Waits for a fault in what arrives.
    pub fn wait_fault(&self) -> String {
        self.wait_for(|record| !record.faults.is_empty());
        self.faults().remove(0)
    }

    fn wait_for(&self, done: impl Fn(&Record) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut record = self.seen.lock();
        while !done(&record) {
            let left = end.checked_duration_since(Instant::now()).unwrap_or(Duration::ZERO);
            assert!(!left.is_zero(), "the upstream waited in vain; it saw {:?}", record.messages);
            record = self.seen.record.1.wait_timeout(record, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The last request.
    pub fn last(&self) -> Message {
        self.requests().pop().expect("the upstream has seen a request")
    }
}

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";
