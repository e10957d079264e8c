//! A service behind the edge that keeps every byte it got and answers as it was told.

use std::collections::HashMap;
use std::io::Write;
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

pub use crate::reply::Reply;
use crate::wire::{Message, PATIENCE, Reader};

#[derive(Default)]
struct Record {
    messages: Vec<Message>,
    /// Requests by the connection they came on.
    per_connection: Vec<usize>,
    /// What closes the open connections when the upstream stops.
    open: HashMap<usize, TcpStream>,
    faults: Vec<String>,
}

/// What an upstream has seen.
#[derive(Clone, Default)]
pub struct Seen {
    record: Arc<(Mutex<Record>, Condvar)>,
    connections: Arc<AtomicUsize>,
    /// Which connection speaks, counted from 0.
    connection: usize,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a message.
    pub fn keep(&self, message: Message) {
        let mut record = self.lock();
        if record.per_connection.len() <= self.connection {
            record.per_connection.resize(self.connection + 1, 0);
        }
        record.per_connection[self.connection] += 1;
        record.messages.push(message);
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
    listener: TcpListener,
    seen: Seen,
}

impl Upstream {
    /// Answers every request with 200 and `ok`.
    pub fn start() -> Self {
        Self::with(|_| Reply::ok("ok"))
    }

    /// Answers each whole request by a function.
    pub fn with(answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::at(([127, 0, 0, 1], 0).into(), answer)
    }

    /// The same at an address that was chosen before: where another upstream stopped, for example.
    pub fn at(address: SocketAddr, answer: impl Fn(&Message) -> Reply + Send + Sync + 'static) -> Self {
        Self::listen(TcpListener::bind(address).expect("bind"), move |socket, seen| {
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
                if !matches!(reply.write(reader.stream()), Ok(true)) {
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
        let accepting = listener.try_clone().expect("a second handle");
        std::thread::spawn(move || {
            for socket in accepting.incoming().map_while(Result::ok) {
                let connection = shared.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, serve) = (Seen { connection, ..shared.clone() }, serve.clone());
                shared.lock().open.extend(socket.try_clone().map(|socket| (connection, socket)));
                std::thread::spawn(move || {
                    // Kept connections stay silent for long; only writes are bounded.
                    let _ = socket.set_write_timeout(Some(PATIENCE));
                    let _ = socket.set_nodelay(true);
                    serve(socket, &seen);
                    seen.lock().open.remove(&seen.connection);
                    seen.record.1.notify_all();
                });
            }
        });
        Self { address, listener, seen }
    }

    /// Closes all connections and listens no longer; others may listen at the address then.
    pub fn stop(self) -> SocketAddr {
        // Ends the wait for connections in the other thread; it closes its handle of the socket.
        let _ = socket2::SockRef::from(&self.listener).shutdown(Shutdown::Both);
        for (_, socket) in self.seen.lock().open.drain() {
            let _ = socket.shutdown(Shutdown::Both);
        }
        self.address
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

    /// How many requests came on each connection, in the order of acceptance, those without requests at the end left
    /// out.
    pub fn per_connection(&self) -> Vec<usize> {
        self.seen.lock().per_connection.clone()
    }

    /// How many requests of this method and target came.
    pub fn count(&self, method: &str, target: &str) -> usize {
        let record = self.seen.lock();
        record.messages.iter().filter(|seen| seen.method() == method && seen.target() == target).count()
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

    /// Waits until no connection is open.
    pub fn wait_closed(&self) {
        self.wait_for(|record| record.open.is_empty());
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
