//! What the operator reads: each answer as data, for `--json`, and as text.

use std::fmt;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// The kernel programs of the running edge.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Status {
    /// `kernel.mode`.
    pub mode: String,
    /// `kernel.penalty.mode`.
    pub penalty_mode: String,
    /// Interfaces with a program.
    pub attached: Vec<Attached>,
    /// The programs.
    pub programs: Vec<Program>,
    /// What they read and write.
    pub maps: Vec<MapFill>,
    /// What became of frames.
    pub frames: Vec<Counted>,
    /// Sources with a penalty, the oldest first; 100 at most.
    pub penalties: Vec<Verdict>,
}

/// One interface with a program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attached {
    /// Its name.
    pub interface: String,
    /// `native` or `generic`.
    pub mode: String,
}

/// One loaded program.
#[derive(Debug, Serialize, Deserialize)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier went through.
    pub verified_instructions: Option<u64>,
    /// How often it ran; counted while `kernel.bpf_stats_enabled` is set (sysctl).
    pub runs: u64,
    /// How long a run took on average, in nanoseconds.
    pub run_ns: Option<u64>,
}

/// One map.
#[derive(Debug, Serialize, Deserialize)]
pub struct MapFill {
    /// Its name.
    pub name: String,
    /// Its entries.
    pub entries: u64,
    /// As many as it takes.
    pub capacity: u64,
}

/// One counter.
#[derive(Debug, Serialize, Deserialize)]
pub struct Counted {
    /// What is counted.
    pub name: String,
    /// How often it was.
    pub count: u64,
}

/// What is in force against a source, or would be.
#[derive(Debug, Serialize, Deserialize)]
pub struct Verdict {
    /// The source or range it is for.
    pub source: String,
    /// `denied`, `penalized`, `would_penalize` or `counted`.
    pub verdict: String,
    /// What fed it.
    pub because: String,
    /// How long it is in force, in seconds.
    pub since_secs: Option<u64>,
    /// How long it will be, in seconds.
    pub left_secs: Option<u64>,
    /// What the kernel dropped for it, or would have.
    pub dropped: Option<Dropped>,
    /// What an operator can do.
    pub remedy: String,
}

/// What the kernel dropped.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dropped {
    /// Frames, each of which would have begun a connection.
    pub frames: u64,
}

/// Why an address or a request was or would be refused.
#[derive(Debug, Serialize, Deserialize)]
pub struct Why {
    /// What was asked for.
    pub subject: String,
    /// The address it is about.
    pub address: Option<IpAddr>,
    /// What is in force against it.
    pub verdicts: Vec<Verdict>,
    /// Its last refused requests, the latest first.
    pub refusals: Vec<Refusal>,
}

/// One refused request.
#[derive(Debug, Serialize, Deserialize)]
pub struct Refusal {
    /// Its id.
    pub request_id: String,
    /// How long ago, in seconds.
    pub ago_secs: u64,
    /// The client.
    pub client: IpAddr,
    /// The answer's status.
    pub status: u16,
    /// The reason's code.
    pub reason: String,
    /// The reason in words.
    pub phrase: String,
    /// The route, where there was one.
    pub route: Option<String>,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "mode         {}, penalties: {}", self.mode, self.penalty_mode)?;
        if self.programs.is_empty() {
            writeln!(f, "programs     none: userspace does all of the work")?;
        }
        for attached in &self.attached {
            writeln!(f, "attached     {}: XDP, {}", attached.interface, attached.mode)?;
        }
        for program in &self.programs {
            let instructions = program.verified_instructions.map_or("?".to_owned(), |count| count.to_string());
            write!(f, "program      {}: {instructions} instructions verified", program.name)?;
            match program.run_ns {
                Some(ns) => writeln!(f, ", {} runs of {ns} ns", program.runs)?,
                None => writeln!(f, "; run time: sysctl kernel.bpf_stats_enabled=1")?,
            }
        }
        for map in &self.maps {
            writeln!(f, "map          {}: {} of {}", map.name, map.entries, map.capacity)?;
        }
        for counted in &self.frames {
            writeln!(f, "frames       {}: {}", counted.name, counted.count)?;
        }
        self.penalties.iter().try_for_each(|verdict| write!(f, "{verdict}"))
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<13}{}: {}", self.verdict, self.source, self.because)?;
        if let Some(since) = self.since_secs {
            write!(f, "; for {since} s")?;
        }
        if let Some(left) = self.left_secs {
            write!(f, ", {left} s left")?;
        }
        if let Some(dropped) = &self.dropped {
            write!(f, "; {} frames in the kernel", dropped.frames)?;
        }
        writeln!(f, "\n             remedy: {}", self.remedy)
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.verdicts.is_empty()
            && let Some(address) = self.address
        {
            writeln!(f, "free         {address}: nothing is in force against it")?;
        }
        self.verdicts.iter().try_for_each(|verdict| write!(f, "{verdict}"))?;
        for refusal in &self.refusals {
            let route = refusal.route.as_deref().unwrap_or("(none)");
            writeln!(
                f,
                "refused      {} of {}, {} s ago: {} {} at route {route}\n             {}",
                refusal.request_id, refusal.client, refusal.ago_secs, refusal.status, refusal.reason, refusal.phrase,
            )?;
        }
        Ok(())
    }
}
