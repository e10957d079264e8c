//! The corpus of raw requests (`tests/corpus`): each through the edge, whose upstream counts what it reads, and through
//! nginx and HAProxy, whose upstreams must read no other requests than the corpus explains.

mod edge;
mod peers;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use edge_tests::corpus::{self, Case};

/// How many cases run at a time, each lane with a proxy and an upstream of its own.
const LANES: usize = 4;

/// Runs every case, as many at a time as there are lanes, and fails with all that failed.
fn run<L: Send>(lanes: Vec<L>, cases: &[Case], one: impl Fn(&mut L, &Case) -> anyhow::Result<()> + Sync) -> Vec<L> {
    let next = AtomicUsize::new(0);
    let (one, next) = (&one, &next);
    let work = |mut lane: L| {
        let mut failures = Vec::new();
        while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
            if let Err(error) = one(&mut lane, case) {
                failures.push(format!("{} ({}): {error:#}", case.name, case.why));
            }
        }
        (lane, failures)
    };
    let done: Vec<(L, Vec<String>)> = std::thread::scope(|scope| {
        let threads: Vec<_> = lanes.into_iter().map(|lane| scope.spawn(move || work(lane))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let (lanes, failures): (Vec<L>, Vec<Vec<String>>) = done.into_iter().unzip();
    let failures = failures.concat();
    assert!(failures.is_empty(), "{} of {} cases:\n{}", failures.len(), cases.len(), failures.join("\n"));
    lanes
}

#[test]
fn the_corpus_is_large_and_each_case_has_a_reason() {
    let cases = corpus::load().unwrap();
    assert!(cases.len() >= 600, "{} cases", cases.len());
    let mut classes = BTreeMap::new();
    for case in &cases {
        assert!(!case.why.is_empty(), "{}: {}", case.name, case.why);
        assert!(!case.actions.is_empty() || case.then == corpus::Then::Ends, "{} sends nothing", case.name);
        for (peer, _) in &case.differs {
            assert!(["nginx", "haproxy"].contains(&peer.as_str()), "{}: {peer}", case.name);
        }
        *classes.entry(case.name.split('/').next().unwrap()).or_insert(0) += 1;
    }
    assert!(classes.values().all(|count| *count >= 20), "{classes:?}");
}
