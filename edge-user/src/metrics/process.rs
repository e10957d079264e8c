//! The process as the kernel sees it, under the names Prometheus' own clients use. What `/proc` does not tell is left out.

use std::fs;

use super::{Exposition, Kind};

/// `/proc` counts processor time in hundredths of a second on every architecture (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;

pub(super) fn write(started: u64, to: &mut Exposition) {
    to.family("process_start_time_seconds", Kind::Gauge, "When the process started, in Unix time.");
    to.sample(&[], started);
    if let Some(seconds) = fs::read_to_string("/proc/self/stat").ok().as_deref().and_then(cpu_seconds) {
        to.family("process_cpu_seconds_total", Kind::Counter, "Processor time used, user and system.");
        to.sample(&[], seconds);
    }
    if let Some(bytes) = resident_bytes() {
        to.family("process_resident_memory_bytes", Kind::Gauge, "Memory in use.");
        to.sample(&[], bytes);
    }
    if let Ok(entries) = fs::read_dir("/proc/self/fd") {
        to.family("process_open_fds", Kind::Gauge, "File descriptors in use.");
        // The directory handle that counts is one of them, and gone afterwards.
        to.sample(&[], entries.count().saturating_sub(1));
    }
    if let Ok((soft, _)) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE) {
        to.family("process_max_fds", Kind::Gauge, "File descriptors allowed.");
        to.sample(&[], soft);
    }
}

/// The resident set of this process.
pub(crate) fn resident_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.trim().strip_suffix(" kB")?.parse::<u64>().ok()? * 1024)
}

/// `utime` and `stime` of a stat line; fields are counted after the name, which may hold anything but `)` last.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let (user, system): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some((user + system) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        for (stat, expected) in [
            ("1 (edge) S 0 1 1 0 -1 0 0 0 0 0 250 50 0 0", Some(3.0)),
            ("1 (a b) c) S 0 1 1 0 -1 0 0 0 0 0 7 0 0 0", Some(0.07)),
            ("1 (edge) S 0", None),
            ("", None),
        ] {
            assert_eq!(cpu_seconds(stat), expected, "{stat}");
        }
    }

    #[test]
    fn this_process_has_memory() {
        assert!(resident_bytes().unwrap() > 100_000);
    }
}
