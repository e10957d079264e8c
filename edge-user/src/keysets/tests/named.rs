use super::*;

#[tokio::test]
async fn a_set_is_made_once_for_all_who_ask() {
    let (clock, sets) = (Clock::new(), in_memory(&Clock::new()));
    let (set, other) = (named(&sets, "kong"), named(&sets, "kong"));
    assert!(set.signing_key(ES256).is_none() && sets.list().await == Ok(Vec::new()), "nothing before it is asked for");
    let before = set.generation();
    let asked = (0..50).map(|at| {
        let set = if at % 2 == 0 { set.clone() } else { other.clone() };
        tokio::spawn(async move { set.ready(ES256).await.map(|key| kid(&key)) })
    });
    let asked: Vec<_> = asked.collect();
    for one in asked {
        assert_eq!(one.await.expect("no panic"), Ok(signs(&set)));
    }
    assert_eq!((number(&sets, "edge_key_sets_generated_total").as_str(), signs(&other)), ("1", signs(&set)));
    assert_ne!(set.generation(), before);
    assert_eq!(set.ready(SigningAlgorithm::RS256).await.err(), Some(Unavailable::NoKey(SigningAlgorithm::RS256)));
    let symmetric = Unavailable::Symmetric(SigningAlgorithm::HS256);
    assert_eq!(set.ready(SigningAlgorithm::HS256).await.err(), Some(symmetric));
    assert!(symmetric.to_string().contains("name the URL of a key set"), "{symmetric}");
    let listed = sets.list().await.expect("a list");
    assert_eq!(kids(&listed[0].keys), [signs(&set), kid(&set.signing_key(EDDSA).expect("a key"))]);
    assert_eq!((listed.len(), &*listed[0].name, listed[0].created_ms), (1, "kong", Some(clock.now_ms())));
    assert_eq!(number(&sets, "edge_key_set_keys{age=\"current\"}"), "2");
}

#[tokio::test]
async fn a_set_has_a_key_of_its_own_for_each_algorithm_that_others_can_verify() {
    // R1: distinct kids and `use`.
    let policy = Policy { wait: Duration::from_secs(120), ..Policy::default() };
    let sets = Arc::new(KeySets::new(http(), Keeping::Memory, Handle::current(), policy));
    let set = named(&sets, "kong");
    for algorithm in SigningAlgorithm::ALL {
        match set.ready(algorithm).await {
            Ok(key) => assert_eq!(key.algorithm(), algorithm.name()),
            Err(error) => assert_eq!(error, Unavailable::Symmetric(algorithm)),
        }
    }
    let keys = sets.find("kong").await.expect("an answer").expect("a set").keys;
    let algorithms: Vec<_> = keys.iter().map(|key| key["alg"].as_str().expect("a text")).collect();
    assert_eq!(algorithms.join(" "), "ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS512");
    assert!(keys.iter().all(|key| key["use"] == "sig"));
    let mut distinct = kids(&keys);
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), keys.len());
    assert!(distinct.iter().all(|kid| kid.len() == 43));
}

#[tokio::test]
async fn rotation_publishes_before_it_signs_and_forgets_after_the_second() {
    // R5, S2.6
    let clock = Clock::new();
    let sets = in_memory(&clock);
    let set = named(&sets, "kong");
    let first = kid(&set.ready(ES256).await.expect("a key"));
    let generation = set.generation();
    let rotated = sets.rotate("kong", None).await.expect("an answer").expect("a set");
    let second = kids(&rotated.keys)[0].clone();
    assert_eq!(kids(&rotated.previous)[0], first);
    assert_ne!(first, second);
    assert_eq!((signs(&set), set.generation()), (first.clone(), generation), "published, and not signing yet");
    assert_eq!(rotated.all().len(), 4);
    clock.advance(MINUTE_MS - 1);
    looked(&set).await;
    assert_eq!((signs(&set), set.generation()), (first.clone(), generation));
    clock.advance(1);
    looked(&set).await;
    assert_eq!((signs(&set), set.generation()), (second.clone(), generation + 1));
    // Twice at once: what nobody can fetch any more does not sign.
    sets.rotate(&rotated.id.to_string(), None).await.expect("an answer").expect("a set, by its id");
    let twice = sets.rotate("kong", None).await.expect("an answer").expect("a set");
    assert!(!twice.all().iter().any(|key| key["kid"] == *first || key["kid"] == *second));
    assert_eq!(signs(&set), kids(&twice.previous)[0]);
    assert_eq!(set.generation(), generation + 2);
    clock.advance(MINUTE_MS);
    looked(&set).await;
    assert_eq!((signs(&set), twice.id), (kids(&twice.keys)[0].clone(), rotated.id));
    assert_eq!(number(&sets, "edge_key_set_rotations_total{cause=\"manual\"}"), "3");
    assert_eq!(sets.rotate("other", None).await, Ok(None));
}

#[tokio::test]
async fn the_new_keys_sign_by_themselves_when_their_time_comes() {
    let policy = Policy { publish_ahead: Duration::from_millis(300), algorithms: [ES256].into(), ..Policy::default() };
    let sets = Arc::new(KeySets::new(http(), Keeping::Memory, Handle::current(), policy));
    let set = named(&sets, "kong");
    let first = kid(&set.ready(ES256).await.expect("a key"));
    let generation = set.generation();
    let rotated = sets.rotate("kong", None).await.expect("an answer").expect("a set");
    assert_eq!((signs(&set), set.generation()), (first, generation));
    until(|| set.generation() != generation).await;
    assert_eq!(signs(&set), kids(&rotated.keys)[0]);
}

#[tokio::test]
async fn the_shortest_period_of_those_who_use_it_rotates_a_set() {
    let clock = Clock::new();
    let sets = in_memory(&clock);
    let every = |period| sets.set(SetSettings { origin: Origin::Named("kong".into()), rotate_period: Some(period) });
    let (set, daily) = (named(&sets, "kong"), every(HOUR * 24));
    let first = kid(&set.ready(ES256).await.expect("a key"));
    let hourly = every(HOUR);
    clock.advance(HOUR.as_millis() as i64 - 1);
    looked(&set).await;
    let current = async || kids(&sets.find("kong").await.expect("an answer").expect("a set").keys)[0].clone();
    assert_eq!(current().await, first);
    clock.advance(1);
    looked(&set).await;
    let second = current().await;
    assert_ne!(second, first);
    assert_eq!(signs(&set), first, "R5");
    drop(hourly);
    clock.advance(HOUR.as_millis() as i64 * 23);
    looked(&set).await;
    assert_eq!((current().await, signs(&set)), (second.clone(), second.clone()), "nobody wants it hourly any more");
    clock.advance(HOUR.as_millis() as i64);
    looked(&set).await;
    assert_ne!(current().await, second);
    drop(daily);
    clock.advance(HOUR.as_millis() as i64 * 1000);
    looked(&set).await;
    assert_eq!(number(&sets, "edge_key_set_rotations_total{cause=\"periodic\"}"), "2");
    every(Duration::ZERO);
    looked(&set).await;
    assert_eq!(number(&sets, "edge_key_set_rotations_total{cause=\"periodic\"}"), "2", "zero is never");
}

#[tokio::test]
async fn a_deleted_set_is_made_anew_at_its_next_use() {
    let sets = in_memory(&Clock::new());
    let set = named(&sets, "kong");
    let first = kid(&set.ready(ES256).await.expect("a key"));
    let generation = set.generation();
    assert_eq!(sets.delete("other").await, Ok(false));
    assert_eq!(sets.delete("kong").await, Ok(true));
    assert!(set.signing_key(ES256).is_none() && set.generation() != generation);
    assert_eq!((sets.find("kong").await, sets.delete("kong").await), (Ok(None), Ok(false)));
    assert_ne!(kid(&set.ready(ES256).await.expect("a key")), first);
}

#[tokio::test]
async fn nothing_is_made_without_a_place_for_it_or_while_a_configuration_is_checked() {
    let policy = || Clock::new().policy();
    let nowhere = Keeping::new(PrivateKeys::Sealed, None, State::in_memory());
    let sets = Arc::new(KeySets::new(http(), nowhere, Handle::current(), policy()));
    let advice = sets.may_generate().expect_err("no secrets key");
    for way in ["[secrets] key_file", "EDGE_SECRETS_KEY", "private_keys = \"memory\""] {
        assert!(advice.contains(way), "{advice}");
    }
    assert_eq!(named(&sets, "kong").ready(ES256).await.err(), Some(Unavailable::Failed { retry_after_secs: 1 }));
    for (private_keys, key) in [(PrivateKeys::Memory, None), (PrivateKeys::Sealed, Some(secrets_key('a')))] {
        let keeping = Keeping::new(private_keys, key.as_ref(), State::in_memory());
        let sets = Arc::new(KeySets::new(http(), keeping, None, policy()));
        assert_eq!(sets.may_generate(), Ok(()));
        assert_eq!(named(&sets, "kong").ready(ES256).await.err(), Some(Unavailable::NotRunning));
    }
}
