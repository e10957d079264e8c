//! The access log: one JSON object a line, one line a request or a session of a stream.
//!
//! Each worker formats into a buffer of its own and hands full batches to the sink, so a line costs its bytes and no
//! allocation. Fields without a value are left out.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use uuid::Uuid;

use super::encode::{Clock, integer, json_text, milliseconds};
use super::scrub::scrub_query;
use super::sink::Sink;
use super::{Error, cut};
use crate::http::head::Version;
use crate::metrics::{Exposition, Kind};
use crate::reason::Reason;
use crate::settings::LogTarget;

/// A worker hands its lines over once it has this many bytes.
const BATCH_BYTES: usize = 16 * 1024;
/// Batches that may wait for the disk: with their slack some 2 MiB.
const QUEUED_BATCHES: usize = 64;

/// One finished request, whatever its outcome.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// When the answer was complete.
    pub time: SystemTime,
    /// As sent in `X-Kong-Request-Id`.
    pub request_id: &'a str,
    /// The client, by the rules of `trusted_ips`.
    pub client: SocketAddr,
    /// The listener's address as configured.
    pub listener: &'a str,
    /// The peer whose PROXY header names the client.
    pub via: Option<SocketAddr>,
    /// The virtual address it came to, absent at a listener without.
    pub local: Option<SocketAddr>,
    /// Absent when no request line could be read.
    pub version: Option<Version>,
    /// The TLS version's name, absent in clear text.
    pub tls: Option<&'a str>,
    /// The request method as received.
    pub method: &'a [u8],
    /// The authority as received.
    pub host: &'a [u8],
    /// The request target as received; written without credentials.
    pub target: &'a [u8],
    /// The route's name, or its id.
    pub route: Option<&'a str>,
    /// The service's name, or its id.
    pub service: Option<&'a str>,
    /// The consumer's username, or its custom id.
    pub consumer: Option<&'a str>,
    /// The consumer's id.
    pub consumer_id: Option<Uuid>,
    /// The id of its credential, which a verified claim gave; written cut.
    pub credential: Option<&'a str>,
    /// The status sent to the client; 0 when it left before there was one.
    pub status: u16,
    /// Why the edge answered itself.
    pub reason: Option<Reason>,
    /// From the first byte of the request to the last of the answer.
    pub total: Duration,
    /// The edge's own part of it.
    pub edge: Duration,
    /// Waiting for the upstream, absent when none was asked.
    pub upstream: Option<Duration>,
    /// Waiting for an issuer, absent when none was asked.
    pub issuer: Option<Duration>,
    /// As `correlation-id` found or made it.
    pub correlation_id: Option<&'a str>,
    /// Request bytes received from the client.
    pub bytes_in: u64,
    /// Response bytes sent to the client.
    pub bytes_out: u64,
    /// How often an upstream was tried; written where more than once.
    pub tries: u32,
    /// The target that answered.
    pub upstream_address: Option<SocketAddr>,
}

/// One finished session of a stream, whatever its outcome.
#[derive(Clone, Copy, Debug)]
pub struct SessionRecord<'a> {
    /// When it ended.
    pub time: SystemTime,
    /// Its id: the upstream never sees it.
    pub request_id: &'a str,
    /// The client.
    pub client: SocketAddr,
    /// The listener's address as configured.
    pub listener: &'a str,
    /// What was done with the connection, absent before there was a route.
    pub protocol: Option<&'a str>,
    /// The TLS version's name, absent where TLS did not end here.
    pub tls: Option<&'a str>,
    /// The server name the client asked for.
    pub sni: Option<&'a str>,
    /// The route's name, or its id.
    pub route: Option<&'a str>,
    /// The service's name, or its id.
    pub service: Option<&'a str>,
    /// Why the edge ended it.
    pub reason: Option<Reason>,
    /// From the connection to its end.
    pub total: Duration,
    /// Waiting for the upstream's connection, absent when none was asked.
    pub upstream: Option<Duration>,
    /// Bytes from the client to the upstream.
    pub bytes_in: u64,
    /// Bytes from the upstream to the client.
    pub bytes_out: u64,
    /// The target.
    pub upstream_address: Option<SocketAddr>,
}

/// Connections that the kernel refused before userspace saw them: one sample stands for many.
#[derive(Clone, Copy, Debug)]
pub struct KernelRecord {
    /// When the sample was read.
    pub time: SystemTime,
    /// The source of the frame.
    pub client: IpAddr,
    /// What became of it, as the kernel's counters name it.
    pub verdict: &'static str,
    /// Of so many frames of its kind on one CPU it is the first.
    pub sampled: u64,
}

/// The access log of the process: opens the target, makes a writer for each worker.
#[derive(Clone)]
pub struct AccessLog {
    sink: Option<Arc<Sink>>,
}

impl AccessLog {
    /// Opens `[log] access`; `off` makes writers that do nothing.
    pub fn open(target: &LogTarget) -> Result<Self, Error> {
        let sink = match target {
            LogTarget::Off => None,
            target => Some(Arc::new(Sink::open(target, QUEUED_BATCHES)?)),
        };
        Ok(Self { sink })
    }

    /// One worker's end of the log.
    pub fn writer(&self) -> AccessWriter {
        let capacity = if self.sink.is_some() { BATCH_BYTES + BATCH_BYTES / 4 } else { 0 };
        AccessWriter {
            sink: self.sink.clone(),
            buffer: Vec::with_capacity(capacity),
            scratch: Vec::new(),
            lines: 0,
            clock: Clock::default(),
        }
    }

    /// Opens the file anew (SIGHUP); on failure the old one stays in use. Waits for the writing thread.
    pub fn reopen(&self) -> io::Result<()> {
        self.sink.as_ref().map_or(Ok(()), |sink| sink.reopen())
    }

    /// Waits, at most 2 s, until all batches handed over are written.
    pub fn flush(&self) {
        if let Some(sink) = &self.sink {
            sink.flush();
        }
    }

    /// Lines lost to a full queue or a failing target.
    pub fn collect(&self, to: &mut Exposition) {
        to.family("edge_access_log_lost_lines_total", Kind::Counter, "Access log lines that could not be written.");
        to.sample(&[], self.sink.as_ref().map_or(0, |sink| sink.lost()));
    }
}

/// What stands before a value, in one piece: the cost of a line is the number of its parts.
macro_rules! key {
    ($name:literal) => {
        concat!(",\"", $name, "\":")
    };
}

/// The same with the value's opening quote.
macro_rules! text_key {
    ($name:literal) => {
        concat!(",\"", $name, "\":\"")
    };
}

/// A worker's end of the access log. Hands its last lines over when dropped.
pub struct AccessWriter {
    sink: Option<Arc<Sink>>,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    lines: u64,
    clock: Clock,
}

impl AccessWriter {
    /// Whether anything is written at all: callers need not build a record otherwise.
    pub fn enabled(&self) -> bool {
        self.sink.is_some()
    }

    /// Formats one line; never waits.
    pub fn write(&mut self, record: &Record<'_>) {
        if !self.enabled() {
            return;
        }
        self.format(record);
        self.written();
    }

    /// The same for a session.
    pub fn write_session(&mut self, record: &SessionRecord<'_>) {
        if !self.enabled() {
            return;
        }
        self.format_session(record);
        self.written();
    }

    /// The same for what the kernel refused.
    pub fn write_kernel(&mut self, record: &KernelRecord) {
        if !self.enabled() {
            return;
        }
        let out = &mut self.buffer;
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.write(record.time, out);
        out.push(b'"');
        optional(out, text_key!("by"), Some("kernel"));
        out.extend_from_slice(text_key!("client").as_bytes());
        address(record.client, out);
        out.push(b'"');
        optional(out, text_key!("reason"), Some(record.verdict));
        number(out, key!("sampled"), record.sampled);
        end(out, None);
        self.written();
    }

    fn written(&mut self) {
        self.lines += 1;
        if self.buffer.len() >= BATCH_BYTES {
            self.flush();
        }
    }

    /// Hands over the lines so far; a coarse timer calls this so that a quiet edge's log is not late.
    pub fn flush(&mut self) {
        let Some(sink) = &self.sink else { return };
        if !self.buffer.is_empty() {
            let next = Vec::with_capacity(BATCH_BYTES + BATCH_BYTES / 4);
            sink.send(std::mem::replace(&mut self.buffer, next), std::mem::take(&mut self.lines));
        }
    }

    fn format(&mut self, record: &Record<'_>) {
        self.begin(record.time, record.request_id, record.client, record.listener);
        let out = &mut self.buffer;
        if let Some(via) = record.via {
            out.extend_from_slice(text_key!("via").as_bytes());
            socket(via, out);
            out.push(b'"');
        }
        if let Some(local) = record.local {
            out.extend_from_slice(text_key!("local").as_bytes());
            socket(local, out);
            out.push(b'"');
        }
        optional(out, text_key!("version"), record.version.map(Version::number));
        optional(out, text_key!("tls"), record.tls);
        string(out, text_key!("method"), record.method);
        string(out, text_key!("host"), record.host);
        self.scratch.clear();
        scrub_query(record.target, &mut self.scratch);
        string(out, text_key!("path"), &self.scratch);
        optional(out, text_key!("route"), record.route);
        optional(out, text_key!("service"), record.service);
        optional(out, text_key!("consumer"), record.consumer);
        if let Some(id) = record.consumer_id {
            string(out, text_key!("consumer_id"), id.hyphenated().encode_lower(&mut Uuid::encode_buffer()).as_bytes());
        }
        optional(out, text_key!("credential"), record.credential.map(cut));
        number(out, key!("status"), u64::from(record.status));
        optional(out, text_key!("reason"), record.reason.map(Reason::code));
        duration(out, key!("total_ms"), Some(record.total));
        duration(out, key!("edge_ms"), Some(record.edge));
        duration(out, key!("upstream_ms"), record.upstream);
        duration(out, key!("issuer_ms"), record.issuer);
        optional(out, text_key!("correlation_id"), record.correlation_id);
        number(out, key!("bytes_in"), record.bytes_in);
        number(out, key!("bytes_out"), record.bytes_out);
        if record.tries > 1 {
            number(out, key!("tries"), u64::from(record.tries));
        }
        end(out, record.upstream_address);
    }

    fn format_session(&mut self, record: &SessionRecord<'_>) {
        self.begin(record.time, record.request_id, record.client, record.listener);
        let out = &mut self.buffer;
        optional(out, text_key!("protocol"), record.protocol);
        optional(out, text_key!("tls"), record.tls);
        optional(out, text_key!("host"), record.sni);
        optional(out, text_key!("route"), record.route);
        optional(out, text_key!("service"), record.service);
        optional(out, text_key!("reason"), record.reason.map(Reason::code));
        duration(out, key!("total_ms"), Some(record.total));
        duration(out, key!("upstream_ms"), record.upstream);
        number(out, key!("bytes_in"), record.bytes_in);
        number(out, key!("bytes_out"), record.bytes_out);
        end(out, record.upstream_address);
    }

    fn begin(&mut self, time: SystemTime, request_id: &str, client: SocketAddr, listener: &str) {
        let out = &mut self.buffer;
        out.extend_from_slice(b"{\"time\":\"");
        self.clock.write(time, out);
        out.push(b'"');
        string(out, text_key!("request_id"), request_id.as_bytes());
        out.extend_from_slice(text_key!("client").as_bytes());
        address(client.ip(), out);
        out.push(b'"');
        number(out, key!("client_port"), u64::from(client.port()));
        string(out, text_key!("listener"), listener.as_bytes());
    }
}

fn end(out: &mut Vec<u8>, upstream_address: Option<SocketAddr>) {
    if let Some(upstream) = upstream_address {
        out.extend_from_slice(text_key!("upstream").as_bytes());
        socket(upstream, out);
        out.push(b'"');
    }
    out.extend_from_slice(b"}\n");
}

impl Drop for AccessWriter {
    fn drop(&mut self) {
        self.flush();
    }
}

fn string(out: &mut Vec<u8>, key: &str, value: &[u8]) {
    out.extend_from_slice(key.as_bytes());
    json_text(value, out);
    out.push(b'"');
}

fn optional(out: &mut Vec<u8>, key: &str, value: Option<&str>) {
    if let Some(value) = value {
        string(out, key, value.as_bytes());
    }
}

fn number(out: &mut Vec<u8>, key: &str, value: u64) {
    out.extend_from_slice(key.as_bytes());
    integer(value, out);
}

fn duration(out: &mut Vec<u8>, key: &str, value: Option<Duration>) {
    if let Some(value) = value {
        out.extend_from_slice(key.as_bytes());
        milliseconds(value, out);
    }
}

fn address(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(v4) => {
            for (index, octet) in v4.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                integer(u64::from(octet), out);
            }
        }
        // Writing into a `Vec` cannot fail.
        IpAddr::V6(v6) => drop(io::Write::write_fmt(out, format_args!("{v6}"))),
    }
}

fn socket(address_and_port: SocketAddr, out: &mut Vec<u8>) {
    let (open, close) = if address_and_port.is_ipv6() { (&b"["[..], &b"]:"[..]) } else { (&b""[..], &b":"[..]) };
    out.extend_from_slice(open);
    address(address_and_port.ip(), out);
    out.extend_from_slice(close);
    integer(u64::from(address_and_port.port()), out);
}

#[cfg(test)]
mod tests;
