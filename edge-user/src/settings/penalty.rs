//! `[kernel.penalty]`: which sources lose the right to connect for a while, and for how long.

use std::time::Duration;

use crate::config::reader::Reader;

/// `[kernel.penalty]`. Times are in seconds and may have a fraction. The rules hold with and without kernel programs:
/// these drop what userspace would close.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Penalty {
    /// `mode`: `off`, `observe` (default) or `enforce`.
    pub mode: PenaltyMode,
    /// `ratio`: of the source's tokens that were proven good or bad, how many must be bad. Default 0.95.
    pub ratio: f64,
    /// `distinct_tokens`: how many different bad tokens it may send within `window`. Default 50.
    pub distinct_tokens: usize,
    /// `window`: how long good and bad tokens are counted together. Default 60.
    pub window: Duration,
    /// `ttl`: the first penalty; each further one takes twice as long as the last. Default 60.
    pub ttl: Duration,
    /// `max_ttl`: the longest penalty, and how long after its end a source's past counts. Default 3600.
    pub max_ttl: Duration,
    /// `ipv4_prefix`: the bits of an IPv4 address by which sources are told apart. Default 32.
    pub ipv4_prefix: u8,
    /// `ipv6_prefix`: the same for IPv6. Default 64.
    pub ipv6_prefix: u8,
}

// `ratio` is a number within its range, never NaN.
impl Eq for Penalty {}

/// What becomes of a source that earned a penalty.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PenaltyMode {
    /// Nobody counts.
    Off,
    /// It is counted and told, and nothing is refused.
    Observe,
    /// Its new connections are dropped, and its open ones end.
    Enforce,
}

impl PenaltyMode {
    /// As the setting spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Observe => "observe",
            Self::Enforce => "enforce",
        }
    }
}

impl Default for Penalty {
    fn default() -> Self {
        Self {
            mode: PenaltyMode::Observe,
            ratio: 0.95,
            distinct_tokens: 50,
            window: Duration::from_secs(60),
            ttl: Duration::from_secs(60),
            max_ttl: Duration::from_secs(3600),
            ipv4_prefix: 32,
            ipv6_prefix: 64,
        }
    }
}

/// Shorter than a tenth of a second nothing is counted or dropped.
const SHORTEST: f64 = 0.1;
/// A day: who is to stay out for longer belongs into `kernel.deny`.
const LONGEST: f64 = 86_400.0;

pub(super) fn penalty(reader: &mut Reader<'_>) -> Penalty {
    let default = Penalty::default();
    let modes = [PenaltyMode::Off, PenaltyMode::Observe, PenaltyMode::Enforce].map(|mode| (mode.word(), mode));
    let mode = reader.word("mode", &modes).unwrap_or(default.mode);
    // Below a half, a source that mostly sends good tokens would lose its right to.
    let ratio = reader.number("ratio", 0.5..=1.0).unwrap_or(default.ratio);
    // With one, a single token that went bad somewhere would box all who share its sender's address.
    let distinct_tokens = reader.integer("distinct_tokens", 2..=1000).map_or(default.distinct_tokens, |n| n as usize);
    let mut seconds = |key| reader.number(key, SHORTEST..=LONGEST).map(Duration::from_secs_f64);
    let window = seconds("window").unwrap_or(default.window);
    let ttl = seconds("ttl").unwrap_or(default.ttl);
    let max_ttl = seconds("max_ttl").unwrap_or(default.max_ttl.max(ttl));
    if max_ttl < ttl {
        let (found, expected) =
            (format!("{} s", max_ttl.as_secs_f64()), format!("at least `ttl`, {} s", ttl.as_secs_f64()));
        reader.problem("max_ttl", found, expected);
    }
    let ipv4_prefix = reader.integer("ipv4_prefix", 8..=32).map_or(default.ipv4_prefix, |bits| bits as u8);
    let ipv6_prefix = reader.integer("ipv6_prefix", 16..=128).map_or(default.ipv6_prefix, |bits| bits as u8);
    Penalty { mode, ratio, distinct_tokens, window, ttl, max_ttl, ipv4_prefix, ipv6_prefix }
}
