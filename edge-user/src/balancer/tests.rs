use std::collections::BTreeMap;
use std::net::IpAddr;

use super::addresses::Found;
use super::health::{Check, Seen};
use super::settings::{Active, Algorithm, HashOn, Healthchecks, Passive, Target};
use super::*;
use crate::settings::Dns;

/// An upstream of `address:port` or `name:port` targets with their weights.
pub(super) fn upstream(targets: &[(&str, u32)]) -> Upstream {
    let target = |(text, weight): &(&str, u32)| {
        let (host, port) = text.rsplit_once(':').unwrap();
        let host = host.parse().map_or_else(|_| Host::Name(host.into()), Host::Ip);
        Target { host, port: Some(port.parse().unwrap()), weight: *weight }
    };
    Upstream {
        name: "u".into(),
        algorithm: Algorithm::RoundRobin,
        hash_on: HashOn::None,
        hash_fallback: HashOn::None,
        slots: 1000,
        use_srv_name: false,
        proxy_protocol: None,
        healthchecks: Healthchecks::default(),
        targets: targets.iter().map(target).collect(),
    }
}

const THREE: [(&str, u32); 3] = [("10.0.0.1:80", 100), ("10.0.0.2:80", 100), ("10.0.0.3:80", 100)];

fn with(algorithm: Algorithm, targets: &[(&str, u32)]) -> Upstream {
    Upstream { algorithm, ..upstream(targets) }
}

/// One failure, or one success, is enough.
pub(super) fn checked(settings: Upstream, threshold: f64) -> Upstream {
    let mut passive = Passive::default();
    passive.thresholds.successes = 1;
    passive.thresholds.tcp_failures = 1;
    passive.thresholds.timeouts = 1;
    passive.thresholds.http_failures = 1;
    Upstream { healthchecks: Healthchecks { threshold, active: Active::default(), passive }, ..settings }
}

fn idle() -> Arc<Balancers> {
    Balancers::new(Resolver::idle(), None, None, Room::ENDLESS)
}

/// The future of a pick that need not wait.
fn pick(balancer: &Balancer, hash: Option<u64>, tried: &[SocketAddr]) -> Result<Pick, Reason> {
    let affinity = Affinity { hash, set_cookie: None };
    let mut future = std::pin::pin!(balancer.pick(&affinity, tried));
    match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
        std::task::Poll::Ready(picked) => picked,
        std::task::Poll::Pending => panic!("a pick waits"),
    }
}

/// The last byte of an address: its name here.
fn last(address: &SocketAddr) -> u8 {
    match address.ip() {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

/// How often each address is picked, every try ended at once.
fn picks(balancer: &Balancer, count: u64, hash: impl Fn(u64) -> Option<u64>) -> BTreeMap<u8, u64> {
    let mut counts = BTreeMap::new();
    for round in 0..count {
        let picked = pick(balancer, hash(round), &[]).map(|picked| last(&picked.address)).unwrap();
        *counts.entry(picked).or_default() += 1;
    }
    counts
}

fn set(balancer: &Balancer, address: &str, healthy: bool) {
    let ring = balancer.ring.load_full();
    let address = address.parse().unwrap();
    let index = ring.places.iter().position(|place| place.peer.address == address).unwrap();
    ring.count(index, Check::Passive, if healthy { Seen::Success } else { Seen::TcpFailure });
    assert_eq!(ring.places[index].peer.health.is_healthy(), healthy);
}

const ALL: [Algorithm; 4] =
    [Algorithm::RoundRobin, Algorithm::LeastConnections, Algorithm::ConsistentHashing, Algorithm::Latency];

#[test]
fn round_robin_goes_by_weight_exactly() {
    let balancer = idle().upstream(&upstream(&[("10.0.0.1:80", 100), ("10.0.0.2:80", 250), ("10.0.0.3:80", 50)]));
    assert_eq!(picks(&balancer, 800, |_| None), BTreeMap::from([(1, 200), (2, 500), (3, 100)]));
    // Consistent hashing without a hash is the same.
    let balancer = idle().upstream(&with(Algorithm::ConsistentHashing, &THREE));
    assert_eq!(picks(&balancer, 300, |_| None), BTreeMap::from([(1, 100), (2, 100), (3, 100)]));
}

#[test]
fn what_was_tried_comes_again_only_when_nothing_else_is_left() {
    for algorithm in ALL {
        let balancer = idle().upstream(&with(algorithm, &THREE));
        for round in 0..50 {
            let mut tried = Vec::new();
            for _ in 0..3 {
                let picked = pick(&balancer, Some(round), &tried).unwrap_or_else(|_| panic!("{algorithm:?}"));
                assert!(!tried.contains(&picked.address), "{algorithm:?}");
                tried.push(picked.address);
            }
            assert!(pick(&balancer, Some(round), &tried).is_ok(), "{algorithm:?}");
        }
    }
}

#[test]
fn unhealthy_targets_are_left_out_and_their_share_is_divided() {
    let targets = [("10.0.0.1:80", 100), ("10.0.0.2:80", 100), ("10.0.0.3:80", 100), ("10.0.0.4:80", 1)];
    for algorithm in ALL {
        let balancer = idle().upstream(&checked(with(algorithm, &targets[..3]), 0.0));
        set(&balancer, "10.0.0.3:80", false);
        let counts = picks(&balancer, 1000, |round| Some(hashing::mix(round)));
        assert_eq!(counts.keys().copied().collect::<Vec<_>>(), [1, 2], "{algorithm:?}");
        assert!(counts[&1].abs_diff(500) < 80, "{algorithm:?}: {counts:?}");
        set(&balancer, "10.0.0.3:80", true);
        assert_eq!(picks(&balancer, 1000, |round| Some(hashing::mix(round))).len(), 3, "{algorithm:?}");
        // One that is far away on the wheel is found as well.
        let balancer = idle().upstream(&checked(with(algorithm, &targets), 0.0));
        targets[..3].iter().for_each(|(address, _)| set(&balancer, address, false));
        assert_eq!(picks(&balancer, 1000, Some), BTreeMap::from([(4, 1000)]), "{algorithm:?}");
    }
    // Round robin stays exact.
    let balancer = idle().upstream(&checked(upstream(&THREE), 0.0));
    set(&balancer, "10.0.0.3:80", false);
    assert_eq!(picks(&balancer, 1000, |_| None), BTreeMap::from([(1, 500), (2, 500)]));
}

#[test]
fn an_upstream_is_down_below_its_threshold() {
    let targets = [("10.0.0.1:80", 100), ("10.0.0.2:80", 100), ("10.0.0.3:80", 200)];
    for (threshold, down, up) in [
        (0.0, &["10.0.0.1:80", "10.0.0.2:80"][..], true),
        (0.0, &["10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"], false),
        (50.0, &["10.0.0.1:80", "10.0.0.2:80"], true),
        (50.1, &["10.0.0.1:80", "10.0.0.2:80"], false),
        (50.1, &["10.0.0.1:80"], true),
        (100.0, &[], true),
        (100.0, &["10.0.0.1:80"], false),
    ] {
        let balancer = idle().upstream(&checked(upstream(&targets), threshold));
        down.iter().for_each(|address| set(&balancer, address, false));
        let picked = pick(&balancer, None, &[]).map(|_| ());
        assert_eq!(picked, if up { Ok(()) } else { Err(Reason::UpstreamUnhealthy) }, "{threshold} {down:?}");
        assert_eq!(balancer.health().healthy, up);
    }
}

#[test]
fn a_target_without_address_counts_as_down() {
    let unknown = ("a.test:80", 100);
    for (targets, threshold, expected) in [
        (&[unknown][..], 0.0, Err(Reason::UpstreamResolve)),
        (&[], 0.0, Err(Reason::UpstreamUnhealthy)),
        (&[unknown, ("10.0.0.1:80", 100)], 0.0, Ok(())),
        (&[unknown, ("10.0.0.1:80", 100)], 50.0, Ok(())),
        (&[unknown, ("10.0.0.1:80", 100)], 51.0, Err(Reason::UpstreamUnhealthy)),
    ] {
        let balancer = idle().upstream(&checked(upstream(targets), threshold));
        assert_eq!(pick(&balancer, None, &[]).map(|_| ()), expected, "{targets:?} {threshold}");
    }
    let single = idle().single(Host::Name("a.test".into()), 80);
    assert_eq!(pick(&single, None, &[]).map(|_| ()), Err(Reason::UpstreamResolve));
}

#[test]
fn least_connections_fills_up_by_weight() {
    let targets = [("10.0.0.1:80", 100), ("10.0.0.2:80", 300)];
    let balancer = idle().upstream(&with(Algorithm::LeastConnections, &targets));
    let mut held: Vec<_> = (0..40).map(|_| pick(&balancer, None, &[]).unwrap()).collect();
    let in_flight = |balancer: &Balancer| -> Vec<u32> {
        balancer.health().targets.iter().map(|target| target.addresses[0].in_flight).collect()
    };
    assert_eq!(in_flight(&balancer), [10, 30]);
    // The next one goes where tries have ended.
    held.retain(|pick| last(&pick.address) == 2);
    assert_eq!(in_flight(&balancer), [0, 30]);
    let next: Vec<_> = (0..10).map(|_| pick(&balancer, None, &[]).unwrap()).collect();
    assert!(next.iter().all(|pick| last(&pick.address) == 1));
    drop((held, next));
    assert_eq!(in_flight(&balancer), [0, 0]);
}

#[test]
fn latency_prefers_the_quick_and_avoids_the_failing() {
    let balancer = idle().upstream(&with(Algorithm::Latency, &THREE));
    let run = |outcome: &dyn Fn(u8) -> Outcome| {
        let mut counts = BTreeMap::<u8, u64>::new();
        for _ in 0..900 {
            let picked = pick(&balancer, None, &[]).unwrap();
            picked.report(outcome(last(&picked.address)));
            *counts.entry(last(&picked.address)).or_default() += 1;
        }
        counts
    };
    let took = |ms| Outcome::Answered(200, Duration::from_millis(ms));
    // The slowest of the three is in no pair the better one; it has its first try alone.
    let counts = run(&|address| took(10 * u64::from(address)));
    assert!(counts[&1] > 500 && counts[&2] > 200 && counts.get(&3).is_none_or(|count| *count < 5), "{counts:?}");
    for failure in [Outcome::Failed, Outcome::TimedOut] {
        let counts = run(&|address| if address == 1 { failure } else { took(20) });
        assert!(counts.get(&1).is_none_or(|count| *count < 5), "{counts:?}");
    }
}

#[test]
fn a_hash_leads_to_one_target_and_then_to_one_other() {
    let settings = with(Algorithm::ConsistentHashing, &THREE);
    let (one, other) = (idle().upstream(&settings), idle().upstream(&settings));
    let mut firsts = BTreeMap::<u8, u64>::new();
    for key in (0..300).map(hashing::mix) {
        let first = pick(&one, Some(key), &[]).unwrap().address;
        let second = pick(&one, Some(key), &[first]).unwrap().address;
        for balancer in [&one, &other] {
            assert_eq!(pick(balancer, Some(key), &[]).unwrap().address, first);
            assert_eq!(pick(balancer, Some(key), &[first]).unwrap().address, second);
        }
        *firsts.entry(last(&first)).or_default() += 1;
    }
    assert!(firsts.values().all(|count| count.abs_diff(100) < 40), "{firsts:?}");
    // Whoever loses its target goes where retries went; all others stay.
    let down = idle().upstream(&checked(settings, 0.0));
    set(&down, "10.0.0.2:80", false);
    for key in (0..300).map(hashing::mix) {
        let first = pick(&one, Some(key), &[]).unwrap().address;
        let tried = if last(&first) == 2 { vec![first] } else { vec![] };
        assert_eq!(pick(&down, Some(key), &[]).unwrap().address, pick(&one, Some(key), &tried).unwrap().address);
    }
}

#[test]
fn outcomes_count_for_health() {
    let answered = |status| Outcome::Answered(status, Duration::ZERO);
    for (outcomes, healthy) in [
        (&[answered(200)][..], true),
        (&[answered(500)], false),
        (&[answered(404)], true),
        (&[Outcome::Failed], false),
        (&[Outcome::TimedOut], false),
        (&[Outcome::Failed, answered(200)], true),
        (&[Outcome::Failed, answered(404)], false),
    ] {
        for settings in [upstream(&THREE), checked(upstream(&THREE), 0.0)] {
            let balancer = idle().upstream(&settings);
            let picked = pick(&balancer, None, &[]).unwrap();
            outcomes.iter().for_each(|outcome| picked.report(*outcome));
            let health = balancer.health();
            let address =
                health.targets.iter().flat_map(|target| &target.addresses).find(|a| a.in_flight == 1).unwrap();
            let expected = match (settings.healthchecks == Healthchecks::default(), healthy) {
                (true, _) => State::HealthchecksOff,
                (_, true) => State::Healthy,
                (_, false) => State::Unhealthy,
            };
            assert_eq!(address.state, expected, "{outcomes:?}");
        }
    }
}

#[test]
fn equal_settings_are_the_same_balancer_and_changed_ones_take_over() {
    let balancers = idle();
    let settings = checked(with(Algorithm::LeastConnections, &THREE), 0.0);
    let first = balancers.upstream(&settings);
    balancers.activate([&first]);
    assert!(Arc::ptr_eq(&first, &balancers.upstream(&settings)));
    set(&first, "10.0.0.1:80", false);
    let held = pick(&first, None, &[]).unwrap();
    let changed = Upstream { targets: upstream(&[THREE[0], (THREE[1].0, 7), ("10.0.0.9:80", 1)]).targets, ..settings };
    // What a refused configuration asked for displaces nothing.
    drop(balancers.upstream(&changed));
    assert!(Arc::ptr_eq(&first, &balancers.upstream(&checked(with(Algorithm::LeastConnections, &THREE), 0.0))));
    let second = balancers.upstream(&changed);
    assert!(!Arc::ptr_eq(&first, &second) && Arc::ptr_eq(&second, &balancers.upstream(&changed)));
    balancers.activate([&second]);
    drop(first);
    let states = |health: &[UpstreamHealth]| -> Vec<_> {
        let addresses = health.iter().flat_map(|upstream| &upstream.targets).flat_map(|target| &target.addresses);
        addresses.map(|a| (last(&a.address), a.state, a.weight, a.in_flight)).collect()
    };
    let known = u32::from(last(&held.address) == 2);
    let expected = [(1, State::Unhealthy, 100, 0), (2, State::Healthy, 7, known), (9, State::Healthy, 1, 0)];
    assert_eq!(states(&balancers.health()), expected);
    assert_eq!(balancers.health()[0].changes, [0, 1]);
    // Other checks: what the old ones found may be a state without a way out.
    let mut rechecked = changed.clone();
    rechecked.healthchecks.passive.thresholds.timeouts = 2;
    let third = balancers.upstream(&rechecked);
    balancers.activate([&third]);
    assert!(states(&balancers.health()).iter().all(|(_, state, ..)| *state == State::Healthy));
    // Out of force, out of the list; and no upstream is taken for a service's host.
    balancers.activate([&balancers.single(Host::Ip([10, 0, 0, 1].into()), 80)]);
    assert!(balancers.health().is_empty());
}

#[test]
fn singles_are_kept_while_they_are_used() {
    let balancers = idle();
    let host = |last| Host::Ip([10, 0, 0, last].into());
    let (one, two) = (balancers.single(host(1), 80), balancers.single(host(1), 81));
    assert!(!Arc::ptr_eq(&one, &two) && Arc::ptr_eq(&one, &balancers.single(host(1), 80)));
    balancers.activate([&one, &two]);
    assert!(Arc::ptr_eq(&two, &balancers.single(host(1), 81)));
    assert_eq!(pick(&two, None, &[]).unwrap().address, "10.0.0.1:81".parse().unwrap());
    // Refused configurations leave nothing behind.
    for port in 100..5000 {
        drop(balancers.single(host(2), port));
    }
    assert!(balancers.made() <= 128, "{}", balancers.made());
}

#[test]
fn srv_records_bring_port_weight_and_name() {
    let mut settings = upstream(&[("a.test:80", 100)]);
    let found = |last, port, weight, name: Option<&str>| Found {
        address: [10, 0, 0, last].into(),
        port,
        weight,
        name: name.map(Into::into),
    };
    let answer: Answer = Some([found(1, Some(8001), Some(3), Some("one.test")), found(2, None, Some(0), None)].into());
    for use_srv_name in [true, false] {
        settings.use_srv_name = use_srv_name;
        let rules = Arc::new(Rules::new(settings.clone(), Arc::default(), Arc::new(Queue::new(Room::ENDLESS))));
        let ring = Arc::new(Ring::new(&rules, [answer.clone()].into(), None));
        let places: Vec<_> = ring.places.iter().map(|place| (place.peer.address.to_string(), place.weight)).collect();
        assert_eq!(places, [("10.0.0.1:8001".to_owned(), 3), ("10.0.0.2:80".to_owned(), 1)]);
        assert_eq!(Pick::new(&ring, 0).unwrap().srv_name(), use_srv_name.then_some("one.test"));
        assert_eq!(Pick::new(&ring, 1).unwrap().srv_name(), None);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_looked_up_behind_and_answers_survive_a_reload() {
    let control = Handle::current();
    let resolver = Resolver::new(control.clone(), &Dns::default(), Duration::from_secs(5)).unwrap();
    let balancers = Balancers::new(resolver, Some(control.clone()), None, Room::ENDLESS);
    let settings = checked(upstream(&[("localhost:81", 100)]), 0.0);
    let balancer = balancers.upstream(&settings);
    balancers.activate([&balancer]);
    let dns_error = balancers.health();
    assert!(!dns_error[0].healthy && dns_error[0].targets[0].addresses.is_empty());
    assert_eq!(dns_error[0].targets[0].state, State::DnsError);
    let picks: Vec<_> = (0..20)
        .map(|_| {
            let balancer = balancer.clone();
            tokio::spawn(async move { balancer.pick(&Affinity::default(), &[]).await.map(|pick| pick.address) })
        })
        .collect();
    for pick in picks {
        assert_eq!(pick.await.unwrap().unwrap().port(), 81);
    }
    let address = balancers.health()[0].targets[0].addresses[0].address;
    set(&balancer, &address.to_string(), false);
    let more = Upstream { targets: upstream(&[("localhost:81", 5), ("10.0.0.1:80", 1)]).targets, ..settings };
    // The answer is there at once, and so is the state.
    let next = balancers.upstream(&more);
    assert_eq!(pick(&next, None, &[]).unwrap().address, "10.0.0.1:80".parse().unwrap());
    assert_eq!(next.health().targets[0].addresses[0].state, State::Unhealthy);
    assert_eq!(next.health().targets[1].state, State::Healthy);
    // A look that finds the same leaves the ring alone.
    let ring = next.ring.load_full();
    next.looked().await;
    assert!(Arc::ptr_eq(&ring, &next.ring.load_full()));
    assert!(next.overdue_ms().is_none());
    // A name without address: those who ask wait for the look, and are told.
    let gone =
        Balancers::new(Resolver::idle(), Some(control), None, Room::ENDLESS).single(Host::Name("a.test".into()), 80);
    assert_eq!(gone.pick(&Affinity::default(), &[]).await.map(|_| ()), Err(Reason::UpstreamResolve));
    assert!(gone.overdue_ms().is_none());
}

#[test]
fn threads_choose_and_report_at_once() {
    for algorithm in ALL {
        let balancer = idle().upstream(&checked(with(algorithm, &THREE), 0.0));
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let balancer = &balancer;
                scope.spawn(move || {
                    for round in 0..5000_u64 {
                        let Ok(picked) = pick(balancer, Some(hashing::mix(round)), &[]) else {
                            (1..4).for_each(|last| {
                                let ring = balancer.ring.load();
                                ring.count(last - 1, Check::Passive, Seen::Success);
                            });
                            continue;
                        };
                        let failed = round % 7 == thread;
                        let outcome = if failed { Outcome::Failed } else { Outcome::Answered(200, Duration::ZERO) };
                        picked.report(outcome);
                        if round % 100 == 0 {
                            let old = balancer.ring.load_full();
                            let answers = old.answers.clone();
                            balancer.ring.store(Arc::new(Ring::new(&old.rules, answers, Some(&old))));
                        }
                    }
                });
            }
        });
        let health = balancer.health();
        let addresses: Vec<_> = health.targets.iter().flat_map(|target| &target.addresses).collect();
        assert_eq!(addresses.iter().map(|address| address.in_flight).sum::<u32>(), 0, "{algorithm:?}");
        let down = addresses.iter().filter(|address| address.state == State::Unhealthy).count() as u64;
        assert_eq!(health.changes[1] - health.changes[0], down, "{algorithm:?}");
    }
}

#[test]
#[ignore = "a measurement"]
fn measure_pick() {
    let many: Vec<_> = (0..100).map(|last| (format!("10.0.1.{last}:80"), 100)).collect();
    let many: Vec<_> = many.iter().map(|(address, weight)| (address.as_str(), *weight)).collect();
    for (name, targets) in [("1", &THREE[..1]), ("3", &THREE[..]), ("100", &many)] {
        for algorithm in ALL {
            let balancer = idle().upstream(&checked(with(algorithm, targets), 0.0));
            let rounds = 1_000_000_u64;
            let start = Instant::now();
            for round in 0..rounds {
                let picked = pick(&balancer, Some(round), &[]).unwrap();
                picked.report(Outcome::Answered(200, Duration::from_millis(1)));
            }
            let each = start.elapsed().as_nanos() as f64 / rounds as f64;
            println!("{algorithm:?}, {name} targets: {each:.0} ns for pick, report and end");
        }
    }
}
