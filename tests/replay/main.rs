//! The fuzz targets on stable: every kept input of `tests/fuzz/corpus`, then neighbours of them for a few seconds.
//! What a fuzzer once found stays in the corpus, so it fails here first.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[allow(unreachable_pub, reason = "a library of its own, for libFuzzer")]
#[path = "../fuzz/src/lib.rs"]
mod fuzz;

/// How long one target's neighbours are tried.
const BUDGET: Duration = Duration::from_secs(2);
/// Bytes of a mutated input at most.
const MAX_BYTES: usize = 8 * 1024;

/// Runs a target's corpus and neighbours, and shows the input that fails so that it can be kept.
fn check(name: &str) {
    let seeds = corpus(name);
    assert!(!seeds.is_empty(), "no corpus for {name}");
    for (path, seed) in &seeds {
        try_input(name, seed, &path.display().to_string());
    }
    let mut random = Random(0x5eed);
    let began = Instant::now();
    let mut runs = 0u32;
    while began.elapsed() < BUDGET {
        let seed = &seeds[random.below(seeds.len())].1;
        let other = &seeds[random.below(seeds.len())].1;
        let mut input = seed.clone();
        for _ in 0..=random.below(4) {
            mutate(&mut input, other, &mut random);
        }
        input.truncate(MAX_BYTES);
        try_input(name, &input, "a neighbour");
        runs += 1;
    }
    println!("{name}: {} kept, {runs} neighbours", seeds.len());
}

fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("a corpus that can be listed").path()).collect();
    files.sort();
    files.into_iter().map(|path| (path.clone(), fs::read(path).expect("a readable input"))).collect()
}

fn try_input(name: &str, input: &[u8], origin: &str) {
    if let Err(fault) = catch_unwind(AssertUnwindSafe(|| fuzz::run(name, input))) {
        eprintln!("{name} fails on {origin}: b\"{}\"", input.escape_ascii());
        std::panic::resume_unwind(fault);
    }
}

/// Changes an input in one of the ways that find most: bytes that mean something, pieces moved, doubled, cut out.
fn mutate(input: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    const TELLING: [&[u8]; 24] = [
        b"\r\n",
        b"\n",
        b"\r",
        b"\0",
        b" ",
        b"\t",
        b":",
        b",",
        b";",
        b"%2e",
        b"%2F",
        b"..",
        b"/",
        b"\\",
        b"?",
        b"#",
        b"\"",
        b"{",
        b"}",
        b"[",
        b"0",
        b"18446744073709551616",
        b"\xff",
        b"chunked",
    ];
    let at = random.below(input.len() + 1);
    let end = at + random.below(input.len() - at + 1).min(32);
    match random.below(6) {
        0 if at < input.len() => input[at] = random.next() as u8,
        1 if at < input.len() => input[at] ^= 1 << random.below(8),
        2 => drop(input.drain(at..end)),
        3 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        4 => {
            let from = random.below(other.len() + 1);
            let to = from + random.below(other.len() - from + 1).min(64);
            input.splice(at..end, other[from..to].iter().copied());
        }
        _ => drop(input.splice(at..at, TELLING[random.below(TELLING.len())].iter().copied())),
    }
}

/// xorshift: the same neighbours in every run, so that a failure is not a matter of luck.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

macro_rules! replay {
    ($($name:ident),+) => {
        $(#[test] fn $name() { check(stringify!($name)); })+

        #[test]
        fn every_target_is_replayed() {
            let known: Vec<&str> = fuzz::TARGETS.iter().map(|(name, _)| *name).collect();
            assert_eq!(known, [$(stringify!($name)),+]);
            for name in known {
                let file = format!("fuzz/fuzz_targets/{name}.rs");
                assert!(Path::new(env!("CARGO_MANIFEST_DIR")).join(&file).is_file(), "no {file}");
            }
        }
    };
}

replay!(
    head,
    response,
    chunked,
    h2_head,
    h2_frames,
    forward,
    target,
    jws,
    claims,
    jwks,
    dpop,
    jwk,
    introspection,
    entities,
    settings,
    rewrite,
    websocket,
    proxy_protocol,
    arguments,
    transform,
    private_jwks,
    bigip,
    irule
);
