use super::*;
use serde_json::json;

fn mac() -> MacKey {
    derive_mac(&[1; 32])
}

fn facts(n: usize, pad: usize) -> Verdict {
    let payload = json!({"jti": n.to_string(), "exp": 1_700_000_000, "pad": "p".repeat(pad)}).to_string();
    Verdict::Verified(Facts::parse(payload.into_bytes(), "").expect("claims"))
}

fn key(n: usize) -> CacheKey {
    CacheKey::new(&mac(), format!("token {n}").as_bytes())
}

fn entry(verdict: Verdict) -> Entry {
    Entry::new(verdict, Ground::Always, 0, 1_000)
}

#[test]
fn keys_differ_by_token_and_validator() {
    // I5
    assert_eq!(key(1), key(1));
    assert_ne!(key(1), key(2));
    assert_ne!(CacheKey::new(&derive_mac(&[2; 32]), b"token 1"), key(1));
}

#[test]
fn both_levels_are_bounded_by_bytes() {
    // D3
    let bytes = 256 * 1024;
    let shared = VerdictCache::new(bytes);
    let local = shared.local();
    for n in 0..10_000 {
        local.keep(&key(n), entry(facts(n, 500)), 0);
        for _ in 0..2 {
            local.keep_refusal(&key(n + 100_000), entry(Verdict::Malformed), 0);
        }
    }
    let stats = shared.stats();
    assert!(stats.positive_bytes + stats.negative_bytes <= bytes as u64, "{stats:?}");
    assert!(stats.positive_bytes > bytes as u64 / 2 && stats.positive_entries > 100, "{stats:?}");
    assert!(stats.negative_bytes <= bytes as u64 / 8 && stats.negative_entries > 20, "{stats:?}");
    // Evicted entries are dead in the first level, whatever it still holds.
    let live = (0..10_000).filter(|n| local.find(&key(*n)).is_some()).count() as u64;
    assert!(live <= stats.positive_entries);
}

#[test]
fn what_is_used_outlives_what_is_not() {
    let shared = VerdictCache::new(256 * 1024);
    let local = shared.local();
    local.keep(&key(0), entry(facts(0, 500)), 0);
    for n in 1..5_000 {
        local.keep(&key(n), entry(facts(n, 500)), 0);
        assert!(local.find(&key(0)).is_some(), "{n}");
    }
}

#[test]
fn refusals_enter_on_second_sight_and_crowd_out_no_facts() {
    let shared = VerdictCache::new(1 << 20);
    let local = shared.local();
    local.keep_refusal(&key(1), entry(Verdict::BadSignature), 0);
    assert!(local.find(&key(1)).is_none());
    local.keep_refusal(&key(1), entry(Verdict::BadSignature), 0);
    assert!(local.find(&key(1)).is_some());
    local.keep(&key(2), entry(facts(2, 10)), 0);
    for n in 10..50_000 {
        for _ in 0..2 {
            local.keep_refusal(&key(n), entry(Verdict::BadSignature), 0);
        }
    }
    assert!(local.find(&key(2)).is_some());
}

#[test]
fn a_killed_entry_is_gone_for_every_worker() {
    let shared = VerdictCache::new(1 << 20);
    let (one, two) = (shared.local(), shared.local());
    let held = one.keep(&key(1), entry(facts(1, 10)), 0);
    assert!(two.find(&key(1)).is_some() && two.find(&key(1)).is_some());
    held.kill();
    assert!(one.find(&key(1)).is_none() && two.find(&key(1)).is_none());
    let stats = shared.stats();
    assert_eq!((stats.local_hits, stats.shared_hits), (1, 1));
}

#[test]
fn expired_and_dead_entries_make_room_first() {
    let shared = VerdictCache::new(1 << 20);
    let local = shared.local();
    for n in 0..200 {
        local.keep(&key(n), entry(facts(n, 10)), 0);
    }
    for n in 200..600 {
        local.keep(&key(n), Entry::new(facts(n, 10), Ground::Always, 0, 9_000), 5_000);
    }
    assert!(shared.stats().positive_entries < 450);
    assert!((200..600).all(|n| local.find(&key(n)).is_some()));
}

#[test]
fn off_means_off() {
    let shared = VerdictCache::new(0);
    let local = shared.local();
    assert!(local.is_off());
    local.keep(&key(1), entry(facts(1, 10)), 0);
    local.keep_refusal(&key(1), entry(Verdict::Malformed), 0);
    assert!(local.find(&key(1)).is_none());
}

#[test]
fn an_unproven_source_gets_half_of_the_time() {
    // D4
    let budget = VerifyBudget::default();
    let (bad, good) = (IpAddr::from([1, 1, 1, 1]), IpAddr::from([2, 2, 2, 2]));
    let slow = || {
        let start = Instant::now();
        while start.elapsed().as_millis() < 2 {}
        false
    };
    assert_eq!(budget.spend(good, 0, || true), Some(true));
    let (start, mut spent) = (Instant::now(), 0);
    while start.elapsed().as_millis() < 300 {
        spent += u128::from(budget.spend(bad, 0, slow).is_some()) * 2;
    }
    // 50 ms to start with, then half of the time, and the one that overdraws. A busy machine gets less.
    let allowed = 50 + start.elapsed().as_millis() / 2 + 4;
    assert!((20..=allowed).contains(&spent), "{spent} of {allowed}");
    assert_eq!(budget.spend(good, 1, || true), Some(true));
    assert!(budget.is_good(good, GOOD_FOR_MS) && !budget.is_good(good, GOOD_FOR_MS + 2));
    // Bad signatures take a good standing back.
    budget.spend(good, 2, || false);
    assert!(!budget.is_good(good, 3));
}
