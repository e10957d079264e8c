//! What the kernel says of the loaded programs.

use std::fs;
use std::os::fd::{AsFd as _, AsRawFd as _};

use aya::Ebpf;

/// One loaded program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its name.
    pub name: String,
    /// Instructions that the verifier went through.
    pub verified_instructions: Option<u64>,
    /// How often it ran while the kernel counted: `kernel.bpf_stats_enabled` (sysctl).
    pub runs: u64,
    /// How long these runs took together, in nanoseconds.
    pub run_ns_total: u64,
}

/// All of them, by name. Read from the descriptors' `fdinfo` (proc(5)), which needs no privilege.
pub(super) fn programs(ebpf: &Ebpf) -> Vec<Program> {
    let mut programs: Vec<Program> = ebpf
        .programs()
        .filter_map(|(name, program)| {
            let descriptor = program.fd().ok()?.as_fd().as_raw_fd();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{descriptor}")).ok()?;
            Some(read(name, &info))
        })
        .collect();
    programs.sort_by(|one, other| one.name.cmp(&other.name));
    programs
}

fn read(name: &str, info: &str) -> Program {
    let field = |wanted: &str| {
        let line = info.lines().find_map(|line| line.strip_prefix(wanted)?.strip_prefix(':'))?;
        line.trim().parse::<u64>().ok()
    };
    Program {
        name: name.to_owned(),
        verified_instructions: field("verified_insns"),
        runs: field("run_cnt").unwrap_or(0),
        run_ns_total: field("run_time_ns").unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_tell_of_their_programs() {
        let info = "pos:\t0\nprog_type:\t6\nrun_time_ns:\t700\nrun_cnt:\t7\nverified_insns:\t334\n";
        let expected = Program { name: "one".to_owned(), verified_instructions: Some(334), runs: 7, run_ns_total: 700 };
        assert_eq!(read("one", info), expected);
        let nothing = Program { name: "one".to_owned(), verified_instructions: None, runs: 0, run_ns_total: 0 };
        assert_eq!(read("one", "pos:\t0\n"), nothing);
    }
}
