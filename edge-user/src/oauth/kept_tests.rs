use std::sync::atomic::AtomicUsize;

use tokio::sync::{Notify, Semaphore};

use super::*;

#[derive(Debug, PartialEq)]
struct Text(String);

impl Value for Text {
    fn heap_bytes(&self) -> usize {
        self.0.capacity()
    }
}

#[derive(Debug, PartialEq)]
enum Bad {
    Refused,
    Down,
}

impl Refusal for Bad {
    fn is_answer(&self) -> bool {
        *self == Self::Refused
    }

    fn heap_bytes(&self) -> usize {
        0
    }
}

const WAIT: Duration = Duration::from_secs(5);

fn store(limit_bytes: usize) -> Arc<Kept<Text, Bad>> {
    Arc::new(Kept::new("test", limit_bytes, Some(Handle::current())))
}

fn text(text: &str, left_secs: u64) -> Result<Brought<Text>, Bad> {
    Ok(Brought { value: Text(text.to_owned()), left: Some(Duration::from_secs(left_secs)) })
}

fn later(secs: i64) -> Now {
    Now { unix_ms: Now::read().unix_ms + secs * 1000 }
}

async fn ask(store: &Arc<Kept<Text, Bad>>, key: Key, keep: Keep, answer: Result<Brought<Text>, Bad>) {
    let waiting = store.ask(key, keep, || async { answer }).expect("room for a flight");
    assert!(waiting.outcome(WAIT).await.is_some());
}

const KEEP: Keep = Keep::For(Lifetimes { ttl: LONGEST, min: None, max: None, negative: Duration::ZERO });

#[test]
fn lifetimes_follow_the_parameters_and_never_pass_the_end() {
    let secs = |count: u64| Some(Duration::from_secs(count));
    for (ttl, min, max, left, expected) in [
        (3600, None, None, Some(60), 60),
        (3600, None, None, None, 3600),
        (3600, None, Some(600), None, 600),
        (3600, None, Some(600), Some(60), 60),
        (3600, None, Some(30), Some(60), 30),
        (10, Some(100), None, None, 100),
        // A value that ends sooner than the least time is not kept longer for it.
        (10, Some(100), None, Some(60), 60),
        (10, Some(100), Some(50), Some(1000), 50),
        (3600, None, None, Some(0), 0),
        (0, None, None, None, 0),
        (0, None, None, Some(60), 60),
        (0, Some(5), None, None, 5),
        (3600, None, None, Some(u64::MAX), LONGEST.as_secs()),
    ] {
        let lifetimes = Lifetimes {
            ttl: Duration::from_secs(ttl),
            min: min.and_then(secs),
            max: max.and_then(secs),
            negative: Duration::ZERO,
        };
        let found = lifetimes.of(left.map(Duration::from_secs));
        assert_eq!(found.as_secs(), expected, "{lifetimes:?} {left:?}");
    }
}

#[tokio::test]
async fn questions_are_told_apart() {
    // I5
    let (store, other) = (store(1 << 20), store(1 << 20));
    let key = store.key(&[b"grant", b"ann", b"secret"]);
    assert!(key == store.key(&[b"grant", b"ann", b"secret"]));
    assert!(key != other.key(&[b"grant", b"ann", b"secret"]), "a key of the process");
    for parts in [&[&b"grant"[..], b"anns", b"ecret"][..], &[b"grant", b"ann"], &[b"grantannsecret"]] {
        assert!(key != store.key(parts));
    }
}

#[tokio::test]
async fn values_are_kept_until_they_end() {
    let store = store(1 << 20);
    let key = store.key(&[b"a"]);
    assert!(store.look(&key, later(0)).is_none());
    ask(&store, key, KEEP, text("one", 60)).await;
    let found = store.look(&key, later(55)).expect("kept");
    assert_eq!(found.expect("a value").0, "one");
    assert!(store.look(&key, later(61)).is_none(), "its time is over");
    assert!(store.look(&store.key(&[b"b"]), later(0)).is_none());
    // What is over when it comes is for those who waited.
    ask(&store, key, KEEP, text("two", 0)).await;
    assert_eq!(store.look(&key, later(0)).expect("the first").expect("a value").0, "one");
    ask(&store, store.key(&[b"c"]), Keep::Nothing, text("three", 60)).await;
    assert!(store.look(&store.key(&[b"c"]), later(0)).is_none());
}

#[tokio::test]
async fn what_is_of_no_use_ends_sooner() {
    let store = store(1 << 20);
    let key = store.key(&[b"a"]);
    let five = Duration::from_secs(5);
    assert!(!store.shorten(&key, five, later(0)), "nothing to shorten");
    ask(&store, key, KEEP, text("one", 60)).await;
    assert!(store.shorten(&key, five, later(0)));
    assert!(!store.shorten(&key, five, later(2)), "it never lengthens");
    assert!(store.look(&key, later(4)).is_some());
    assert!(store.look(&key, later(6)).is_none());
}

#[tokio::test]
async fn a_value_stands_while_it_is_asked_for_anew() {
    // U2
    let store = store(1 << 20);
    let negative = Keep::For(Lifetimes { negative: Duration::from_secs(5), ..Lifetimes::default() });
    let key = store.key(&[b"a"]);
    ask(&store, key, KEEP, text("one", 60)).await;
    let value = |now: Now| store.look(&key, now).map(|outcome| outcome.expect("a value"));
    let one = value(later(0)).expect("kept");
    let landed = async || {
        while !store.flights.is_empty() {
            tokio::task::yield_now().await
        }
    };
    // A refusal does not take its place, and nothing begins beside a call.
    let gate = Arc::new(Notify::new());
    let opened = gate.clone();
    let call = || async move {
        opened.notified().await;
        Err(Bad::Refused)
    };
    assert!(store.renew(key, negative, &one, call));
    assert!(!store.renew(key, negative, &one, || async { text("beside", 60) }), "one call at a time");
    assert_eq!(value(later(0)).expect("it stands").0, "one");
    gate.notify_one();
    landed().await;
    assert_eq!(value(later(0)).expect("it stands").0, "one");
    assert!(store.renew(key, KEEP, &one, || async { text("two", 600) }));
    landed().await;
    assert_eq!(value(later(100)).expect("another").0, "two");
    assert!(!store.renew(key, KEEP, &one, || async { text("three", 60) }), "another stands already");
    assert!(!store.renew(store.key(&[b"b"]), KEEP, &one, || async { text("three", 60) }), "nothing stands");
    let sum: usize = store.entries.iter().map(|entry| entry.bytes).sum();
    assert_eq!(sum, store.bytes.load(Ordering::Relaxed));
}

#[tokio::test]
async fn only_what_stands_is_forgotten() {
    // U5
    let store = store(1 << 20);
    let key = store.key(&[b"a"]);
    ask(&store, key, KEEP, text("one", 60)).await;
    let one = store.look(&key, later(0)).expect("kept").expect("a value");
    assert!(!store.forget(&key, &one, || false) && store.look(&key, later(0)).is_some());
    assert!(store.forget(&key, &one, || true) && store.look(&key, later(0)).is_none());
    assert_eq!(store.bytes.load(Ordering::Relaxed), 0);
    assert!(!store.forget(&key, &one, || panic!("asked for nothing")));
    ask(&store, key, KEEP, text("two", 60)).await;
    assert!(!store.forget(&key, &one, || panic!("asked for another")));
    assert_eq!(store.look(&key, later(0)).expect("kept").expect("a value").0, "two");
}

#[tokio::test]
async fn only_refusals_are_kept_and_only_when_asked_for() {
    // I4, I7
    let store = store(1 << 20);
    let negative = Keep::For(Lifetimes { negative: Duration::from_secs(5), ..Lifetimes::default() });
    for (name, keep, error, kept) in [
        ("a", KEEP, Bad::Refused, false),
        ("b", negative, Bad::Refused, true),
        ("c", negative, Bad::Down, false),
        ("d", Keep::Nothing, Bad::Refused, false),
    ] {
        let key = store.key(&[name.as_bytes()]);
        ask(&store, key, keep, Err(error)).await;
        assert_eq!(store.look(&key, later(0)).is_some_and(|outcome| outcome.is_err()), kept, "{name}");
        assert!(store.look(&key, later(6)).is_none(), "{name}");
    }
}

#[tokio::test]
async fn one_call_serves_all_who_ask_at_once() {
    // I6, U2
    let store = store(1 << 20);
    let (calls, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
    let key = store.key(&[b"a"]);
    let waiting: Vec<_> = (0..1000)
        .map(|_| {
            let (calls, gate) = (calls.clone(), gate.clone());
            let call = || async move {
                calls.fetch_add(1, Ordering::SeqCst);
                gate.notified().await;
                text("one", 60)
            };
            store.ask(key, KEEP, call).expect("room")
        })
        .collect();
    let early = store.ask(key, KEEP, || async { text("two", 60) }).expect("room");
    assert!(early.outcome(Duration::from_millis(10)).await.is_none(), "waiting is bounded");
    gate.notify_one();
    for waiting in waiting {
        assert_eq!(waiting.outcome(WAIT).await.expect("an end").expect("a value").0, "one");
    }
    assert_eq!(calls.load(Ordering::SeqCst), 1);
    // The next finds it kept, and makes no call.
    let next = store.ask(key, KEEP, || async { text("two", 60) }).expect("room");
    assert_eq!(next.outcome(WAIT).await.expect("an end").expect("a value").0, "one");
    assert!(store.flights.is_empty());
}

#[tokio::test]
async fn a_call_that_panics_releases_who_waits() {
    // D6
    let store = store(1 << 20);
    let key = store.key(&[b"a"]);
    let waiting = store.ask(key, KEEP, || async { panic!("a bug") }).expect("room");
    assert!(waiting.outcome(WAIT).await.is_none());
    assert!(store.flights.is_empty());
    ask(&store, key, KEEP, text("one", 60)).await;
    assert!(store.look(&key, later(0)).is_some());
}

#[tokio::test]
async fn memory_and_calls_are_bounded() {
    // D3
    let limit = 100 * 1024;
    let store = store(limit);
    for index in 0..2000_u32 {
        ask(&store, store.key(&[&index.to_be_bytes()]), KEEP, text(&"x".repeat(1000), 60 + u64::from(index))).await;
        assert!(store.bytes.load(Ordering::Relaxed) <= limit, "{index}");
    }
    assert!(store.entries.len() > 50, "{}", store.entries.len());
    assert!(store.look(&store.key(&[&1999_u32.to_be_bytes()]), later(0)).is_some(), "the latest end stays");
    let sum: usize = store.entries.iter().map(|entry| entry.bytes).sum();
    assert_eq!(sum, store.bytes.load(Ordering::Relaxed));
    let big = store.key(&[b"big"]);
    ask(&store, big, KEEP, text(&"x".repeat(limit), 60)).await;
    assert!(store.look(&big, later(0)).is_none(), "one value does not push out all others");

    // I4: refusals have a part of their own, however long they are kept.
    let (held, negative) = (store.entries.len(), Lifetimes { negative: LONGEST, ..Lifetimes::default() });
    for index in 0..2000_u32 {
        let key = store.key(&[b"refused", &index.to_be_bytes()]);
        ask(&store, key, Keep::For(negative), Err(Bad::Refused)).await;
    }
    let refused = store.entries.iter().filter(|entry| entry.outcome.is_err()).count();
    assert!(refused > 10 && refused * (ENTRY_BYTES + size_of::<Bad>()) <= limit / 8, "{refused}");
    assert!(store.entries.len() - refused >= held / 2, "{held}");
    // Those that have ended leave that part to new ones, though nothing else is kept meanwhile.
    let (last, now_ms) = (store.key(&[b"the last"]), later(0).unix_ms + LONGEST.as_millis() as i64 + SWEEP_MS);
    let refusal = Entry { outcome: Err(Arc::new(Bad::Refused)), until_ms: now_ms + 1000, bytes: ENTRY_BYTES };
    store.insert(last, refusal, now_ms);
    assert!(store.entries.contains_key(&last));

    let gate = Arc::new(Semaphore::new(0));
    let waiting: Vec<_> = (0..MAX_FLIGHTS)
        .map(|index| {
            let gate = gate.clone();
            let call = || async move {
                let _ = gate.acquire().await;
                text("one", 60)
            };
            store.ask(store.key(&[b"flight", &index.to_be_bytes()]), Keep::Nothing, call).expect("room")
        })
        .collect();
    assert!(store.ask(store.key(&[b"one more"]), KEEP, || async { text("one", 60) }).is_none());
    // Who asks what is asked already takes no room.
    assert!(store.ask(store.key(&[b"flight", &0_usize.to_be_bytes()]), KEEP, || async { text("one", 60) }).is_some());
    gate.close();
    for waiting in waiting {
        assert!(waiting.outcome(WAIT).await.is_some());
    }
    assert!(store.ask(store.key(&[b"one more"]), KEEP, || async { text("one", 60) }).is_some());
}

#[tokio::test]
async fn without_a_runtime_nothing_is_asked() {
    let store: Arc<Kept<Text, Bad>> = Arc::new(Kept::new("test", 1 << 20, None));
    assert!(store.ask(store.key(&[b"a"]), KEEP, || async { text("one", 60) }).is_none());
}
