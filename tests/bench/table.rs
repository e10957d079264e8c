//! Medians as Markdown.

use std::fmt::Write as _;

use crate::measure::{Run, SCENARIOS};

/// The tables of a comparison.
pub(crate) fn markdown(runs: &[Run], rate: u32) -> String {
    let mut peers: Vec<&str> = Vec::new();
    for run in runs {
        if !peers.contains(&run.peer) {
            peers.push(run.peer);
        }
    }
    let mut text =
        String::from("CPU of the proxy in µs per request at saturation (median, in brackets the range):\n\n");
    let own = |peer: &str| peer.starts_with("edge");
    let _ = writeln!(text, "| scenario | {} | edge to the best other |", peers.join(" | "));
    let _ = writeln!(text, "|---|{}---|", "---|".repeat(peers.len()));
    for scenario in &SCENARIOS {
        let of = |peer: &str| -> Vec<f64> {
            runs.iter().filter(|run| run.peer == peer && run.scenario == scenario.name).map(|run| run.cpu_us).collect()
        };
        let cells: Vec<String> = peers.iter().map(|peer| cell(of(peer))).collect();
        if cells.iter().all(String::is_empty) {
            continue;
        }
        let best = |ours: bool| {
            let medians = peers.iter().filter(|peer| own(peer) == ours).filter_map(|peer| median(of(peer)));
            medians.min_by(f64::total_cmp)
        };
        let ratio =
            best(true).zip(best(false)).map_or_else(String::new, |(edge, other)| format!("{:.2}", edge / other));
        let _ = writeln!(text, "| {} ({}) | {} | {ratio} |", scenario.what, scenario.name, cells.join(" | "));
    }

    let _ = writeln!(text, "\nLatency p50 / p99 in µs at {rate} requests/s:\n");
    let _ = writeln!(text, "| scenario | {} |", peers.join(" | "));
    let _ = writeln!(text, "|---|{}", "---|".repeat(peers.len()));
    for scenario in &SCENARIOS {
        let of = |peer: &str, part: fn(&(f64, f64)) -> f64| {
            let some = runs.iter().filter(|run| run.peer == peer && run.scenario == scenario.name);
            median(some.filter_map(|run| run.latency.as_ref().map(part)).collect())
        };
        let cells: Vec<String> = peers
            .iter()
            .map(|peer| match (of(peer, |pair| pair.0), of(peer, |pair| pair.1)) {
                (Some(p50), Some(p99)) => format!("{p50:.0} / {p99:.0}"),
                _ => String::new(),
            })
            .collect();
        if cells.iter().any(|cell| !cell.is_empty()) {
            let _ = writeln!(text, "| {} | {} |", scenario.name, cells.join(" | "));
        }
    }

    let _ = writeln!(text, "\n| | {} |\n|---|{}", peers.join(" | "), "---|".repeat(peers.len()));
    let most = |part: fn(&Run) -> f64, peer: &str| {
        runs.iter().filter(|run| run.peer == peer).map(part).max_by(f64::total_cmp).unwrap_or(0.0)
    };
    let memory: Vec<String> = peers.iter().map(|peer| format!("{:.0}", most(|run| run.resident_mib, peer))).collect();
    let rates: Vec<String> = peers.iter().map(|peer| format!("{:.0}", most(|run| run.rate, peer))).collect();
    let _ = writeln!(text, "| resident memory under load, MiB | {} |", memory.join(" | "));
    let _ = writeln!(text, "| most requests/s seen | {} |", rates.join(" | "));
    text
}

/// Median and range; empty without a value.
fn cell(values: Vec<f64>) -> String {
    let least = values.iter().copied().min_by(f64::total_cmp);
    let most = values.iter().copied().max_by(f64::total_cmp);
    match (median(values), least, most) {
        (Some(median), Some(least), Some(most)) => format!("{median:.1} ({least:.1}..{most:.1})"),
        _ => String::new(),
    }
}

pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_and_ratios() {
        let run = |peer, cpu_us| Run {
            peer,
            scenario: "plain",
            cpu_us,
            rate: 1000.0,
            resident_mib: 12.4,
            latency: Some((200.0, 450.0)),
        };
        let runs =
            [run("edge", 12.0), run("haproxy", 16.0), run("edge", 10.0), run("haproxy", 20.0), run("edge", 14.0)];
        let text = markdown(&runs, 1500);
        assert!(text.contains("| 12.0 (10.0..14.0) | 20.0 (16.0..20.0) | 0.60 |"), "{text}");
        assert!(text.contains("| plain | 200 / 450 | 200 / 450 |"), "{text}");
        assert!(text.contains("| resident memory under load, MiB | 12 | 12 |"), "{text}");
    }
}
