use super::*;
use crate::config::testing;
use crate::http::head::Version;
use crate::plugin::testing::fields;
use crate::token::claims::Facts;
use uuid::Uuid;

fn parse_with(yaml: &str) -> (Mapping, Vec<String>) {
    let (mapping, problems, _) = testing::read("config", yaml, Mapping::parse);
    (mapping, problems)
}

fn mapping(yaml: &str) -> Mapping {
    let (mapping, problems) = parse_with(yaml);
    assert_eq!(problems, [""; 0], "{yaml}");
    mapping
}

fn facts(claims: &str) -> Facts {
    Facts::parse(claims.as_bytes().to_vec(), "").expect("claims")
}

fn group(id: u128, name: &str) -> Arc<ConsumerGroup> {
    Arc::new(ConsumerGroup { id: Uuid::from_u128(id), name: name.into() })
}

fn consumers() -> Consumers {
    let consumer = |id, username: Option<&str>, custom_id: Option<&str>| Consumer {
        id: Uuid::from_u128(id),
        username: username.map(Box::from),
        custom_id: custom_id.map(Box::from),
        groups: [group(7, "silver")].into(),
        ..Consumer::default()
    };
    let all = [
        consumer(1, Some("Ann"), None),
        consumer(2, None, Some("1001")),
        consumer(3, Some("e\r\nvil: 1"), Some("app-3")),
        consumer(4, Some("guest"), None),
    ];
    Consumers::new(all).with_groups([group(5, "gold"), group(6, "beta"), group(7, "silver")])
}

#[test]
fn consumers_are_found_by_the_first_claim_that_exists() {
    for (yaml, claims, expected) in [
        ("{}", r#"{"sub":"Ann"}"#, Ok(None)),
        ("{consumer_claim: sub}", r#"{"sub":"Ann"}"#, Ok(Some(1))),
        ("{consumer_claim: [a, b]}", r#"{"a":{"b":"Ann"}}"#, Ok(Some(1))),
        ("{consumer_claims: [[uid], [sub]]}", r#"{"uid":1001,"sub":"Ann"}"#, Ok(Some(2))),
        ("{consumer_claims: [[uid], [sub]]}", r#"{"uid":null,"sub":"Ann"}"#, Ok(Some(1))),
        ("{consumer_claims: [[uid], [sub]]}", r#"{"uid":7,"sub":"Ann"}"#, Err(Reason::ConsumerUnknown)),
        ("{consumer_claim: sub}", r#"{"sub":"ann"}"#, Err(Reason::ConsumerUnknown)),
        ("{consumer_claim: sub, by_username_ignore_case: true}", r#"{"sub":"ANN"}"#, Ok(Some(1))),
        ("{consumer_claim: sub, consumer_by: [custom_id]}", r#"{"sub":"Ann"}"#, Err(Reason::ConsumerUnknown)),
        (
            "{consumer_claim: sub, consumer_by: [custom_id], by_username_ignore_case: true}",
            r#"{"sub":"APP-3"}"#,
            Err(Reason::ConsumerUnknown),
        ),
        ("{consumer_claim: sub, consumer_by: [id]}", r#"{"sub":"00000000-0000-0000-0000-000000000001"}"#, Ok(Some(1))),
        ("{consumer_claim: sub, consumer_optional: true}", r#"{"sub":"bob"}"#, Ok(None)),
        ("{consumer_claim: sub}", r#"{}"#, Err(Reason::ConsumerUnknown)),
        ("{consumer_claim: groups}", r#"{"groups":["Ann"]}"#, Err(Reason::ConsumerUnknown)),
    ] {
        let facts = facts(claims);
        let (caller, outcome) = mapping(yaml).identify(&Sources::of(&facts), &consumers(), Observer::default());
        let seen = outcome.map(|()| caller.consumer.map(|consumer| consumer.id.as_u128()));
        assert_eq!(seen, expected, "{yaml} {claims}");
    }
}

#[test]
fn consumer_groups_are_found_by_name() {
    for (yaml, claims, expected) in [
        ("{}", r#"{"plan":"gold"}"#, Ok(vec![])),
        ("{consumer_groups_claim: plan}", r#"{"plan":"gold"}"#, Ok(vec!["gold"])),
        (
            "{consumer_groups_claim: [app, plans]}",
            r#"{"app":{"plans":["beta","gold","beta"]}}"#,
            Ok(vec!["beta", "gold"]),
        ),
        ("{consumer_groups_claim: plan}", r#"{"plan":"none gold"}"#, Ok(vec!["gold"])),
        ("{consumer_groups_claim: plan}", r#"{"plan":"Gold"}"#, Err(Reason::ConsumerGroupUnknown)),
        ("{consumer_groups_claim: plan}", "{}", Err(Reason::ConsumerGroupUnknown)),
        ("{consumer_groups_claim: plan, consumer_groups_optional: true}", "{}", Ok(vec![])),
        ("{consumer_groups_claim: plan, consumer_claim: sub}", r#"{"plan":"gold"}"#, Err(Reason::ConsumerUnknown)),
        (
            "{consumer_groups_claim: plan, consumer_claim: sub}",
            r#"{"plan":"gold","sub":"Ann"}"#,
            Ok(vec!["gold", "silver"]),
        ),
    ] {
        let facts = facts(claims);
        let (caller, outcome) = mapping(yaml).identify(&Sources::of(&facts), &consumers(), Observer::default());
        let seen: Vec<_> = caller.consumer_groups().map(|group| &*group.name).collect();
        assert_eq!(outcome.map(|()| seen), expected, "{yaml} {claims}");
    }
}

#[test]
fn credentials_and_groups_are_claims() {
    let other = r#"{"sub":"s","azp":"app","groups":["a","b c"]}"#;
    for (yaml, claims, credential, groups) in [
        ("{}", other, Some("s"), None),
        ("{credential_claim: azp, authenticated_groups_claim: groups}", other, Some("app"), Some(vec!["a", "b c"])),
        ("{credential_claim: [a, b]}", r#"{"a":{"b":7}}"#, Some("7"), None),
        ("{credential_claim: gone, authenticated_groups_claim: gone}", other, None, None),
        ("{consumer_claim: sub}", other, Some("s"), None),
    ] {
        let facts = facts(claims);
        // Found even where the caller is refused: the log says it.
        let (caller, _) = mapping(yaml).identify(&Sources::of(&facts), &consumers(), Observer::default());
        let seen = caller.groups.as_ref().map(|groups| groups.iter().map(|name| &**name).collect::<Vec<_>>());
        assert_eq!((caller.credential.as_deref(), seen), (credential, groups), "{yaml}");
    }
}

#[test]
fn anonymous_stands_for_those_who_could_not_be_told() {
    let id = Uuid::from_u128(4).to_string();
    for (anonymous, status, reason, expected) in [
        ("guest", 401, Reason::HeaderMissing, Some(4)),
        (&*id, 401, Reason::TokenExpired, Some(4)),
        ("guest", 403, Reason::ConsumerUnknown, Some(4)),
        ("guest", 403, Reason::ConsumerGroupUnknown, Some(4)),
        ("guest", 403, Reason::ScopeMissing, None),
        ("guest", 400, Reason::TokenInQuery, None),
        ("guest", 503, Reason::KeysUnavailable, None),
        ("nobody", 401, Reason::HeaderMissing, None),
        ("1001", 401, Reason::HeaderMissing, None),
    ] {
        let mapping = mapping(&format!("{{anonymous: '{anonymous}'}}"));
        let caller = mapping.anonymous(status, reason, &consumers());
        if let Some(caller) = &caller {
            assert!(caller.is_anonymous && !caller.is_authenticated() && caller.credential.is_none());
        }
        let seen = caller.and_then(|caller| caller.consumer).map(|consumer| consumer.id.as_u128());
        assert_eq!(seen, expected, "{anonymous} {status} {reason:?}");
    }
    assert!(mapping("{}").anonymous(401, Reason::HeaderMissing, &consumers()).is_none());
}

#[test]
fn upstreams_are_told_in_kongs_fields() {
    // T35
    let consumers = consumers();
    let id = |id| Uuid::from_u128(id).to_string();
    let named = |username: &str| consumers.by_username(username).cloned();
    let caller = |consumer: Option<Arc<Consumer>>, credential: Option<&str>, groups: Option<&[&str]>| Caller {
        consumer,
        credential: credential.map(Box::from),
        groups: groups.map(|groups| groups.iter().map(|name| Box::from(*name)).collect()),
        ..Caller::default()
    };
    for (caller, expected) in [
        (Caller::default(), vec![]),
        (
            caller(named("Ann"), Some("s"), Some(&["a", "b"])),
            vec![
                ("X-Consumer-ID", id(1)),
                ("X-Consumer-Username", "Ann".into()),
                ("X-Credential-Identifier", "s".into()),
                ("X-Authenticated-Groups", "a, b".into()),
            ],
        ),
        (
            caller(named("e\r\nvil: 1"), Some("s\r\nX-Admin: 1"), Some(&["a, admin", "b\n", "c"])),
            vec![
                ("X-Consumer-ID", id(3)),
                ("X-Consumer-Custom-ID", "app-3".into()),
                ("X-Authenticated-Groups", "c".into()),
            ],
        ),
        (
            mapping("{anonymous: guest}").anonymous(401, Reason::HeaderMissing, &consumers).expect("a guest"),
            vec![
                ("X-Consumer-ID", id(4)),
                ("X-Consumer-Username", "guest".into()),
                ("X-Anonymous-Consumer", "true".into()),
            ],
        ),
    ] {
        let mut head = Head::default();
        head.start_request(b"GET", b"/", Version::Http11);
        write(&mut head, &caller);
        let expected: Vec<_> = expected.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert_eq!(fields(&head), expected);
    }
}

#[test]
fn wrong_settings_are_named() {
    for (yaml, expected) in [
        ("{consumer_claims: [sub]}", "claim paths"),
        ("{consumer_claim: []}", "config.consumer_claim: found an empty list"),
        ("{consumer_claims: []}", "found an empty list"),
        ("{consumer_claim: sub, consumer_by: []}", "found an empty list"),
        ("{consumer_by: [email]}", "expected one of: id, username, custom_id"),
        ("{credential_claim: []}", "config.credential_claim: found an empty list"),
        ("{consumer_groups_claim: []}", "config.consumer_groups_claim: found an empty list"),
        ("{anonymous: ''}", "config.anonymous"),
    ] {
        let (_, problems) = parse_with(yaml);
        assert!(problems.len() == 1 && problems[0].contains(expected), "{yaml}: {problems:?}");
    }
}
