//! What choosing and building cost: `cargo nextest run --release --run-ignored only -E 'test(measure_select)' --no-capture`.

use std::fs;
use std::hint::black_box;
use std::time::Instant;

use super::tests::{Sent, header, path};
use super::*;

/// The best of several runs, in nanoseconds a request.
fn nanoseconds(router: &Router, requests: &[Sent]) -> f64 {
    let requests: Vec<_> = requests.iter().map(Sent::request).collect();
    let rounds = 200_000 / requests.len() + 1;
    let run = || {
        let begun = Instant::now();
        for _ in 0..rounds {
            for request in &requests {
                assert!(black_box(router.select(black_box(request))).is_some());
            }
        }
        begun.elapsed().as_nanos() as f64 / (rounds * requests.len()) as f64
    };
    (0..3).map(|_| run()).fold(f64::INFINITY, f64::min)
}

fn resident_kib() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Route and request number `n` of so many.
type Kind = (&'static str, fn(usize) -> Criteria, fn(usize) -> String);

const KINDS: [Kind; 4] = [
    (
        "hosts",
        |n| Criteria {
            hosts: vec![HostPattern::parse(&format!("host{}.example", n / 10)).unwrap()],
            paths: vec![path(&format!("/service{}", n % 10))],
            ..Criteria::default()
        },
        |n| format!("GET host{}.example 80 /service{}/orders/17", n / 10, n % 10),
    ),
    (
        "prefixes",
        |n| Criteria { paths: vec![path(&format!("/team{}/service{n}", n % 100))], ..Criteria::default() },
        |n| format!("GET a.example 80 /team{}/service{n}/orders/17", n % 100),
    ),
    (
        "headers",
        |n| Criteria {
            paths: vec![path("/api")],
            headers: vec![header(&format!("x-tenant=tenant{n}"))],
            ..Criteria::default()
        },
        |n| format!("GET a.example 80 /api/orders/17 accept=*/* user-agent=curl x-tenant=tenant{n}"),
    ),
    (
        "regexes",
        |n| Criteria { paths: vec![path(&format!("~/service{n}/(?<id>\\d+)/items$"))], ..Criteria::default() },
        |n| format!("GET a.example 80 /service{n}/1234/items"),
    ),
];

#[test]
#[ignore = "prints times, judges none"]
fn measure_select() {
    for (name, route, request) in KINDS {
        for count in [10, 10_000] {
            let criteria: Vec<_> = (0..count).map(route).collect();
            let router = Router::new(&criteria);
            // A prime step: neighbours in time are none in memory.
            let requests: Vec<_> = (0..count.min(1000)).map(|n| Sent::parse(&request(n * 7919 % count))).collect();
            println!("{name}: {count} routes, {:.0} ns", nanoseconds(&router, &requests));
        }
        let before = resident_kib();
        let begun = Instant::now();
        let criteria: Vec<_> = (0..100_000).map(route).collect();
        let (read, parsed) = (begun.elapsed(), resident_kib());
        let begun = Instant::now();
        let router = Router::new(&criteria);
        let (built, after) = (begun.elapsed(), resident_kib());
        let (read_kib, built_kib) = (parsed.saturating_sub(before), after.saturating_sub(parsed));
        println!(
            "{name}: 100000 criteria read in {read:?}, {read_kib} KiB; router built in {built:?}, {built_kib} KiB"
        );
        if name == "regexes" {
            let begun = Instant::now();
            for n in 0..10_000 {
                let sent = Sent::parse(&request(n));
                assert!(router.select(&sent.request()).is_some());
            }
            let (elapsed, kib) = (begun.elapsed(), resident_kib().saturating_sub(after));
            println!("{name}: first use of 10000 took {elapsed:?}, {kib} KiB");
        }
    }
}
