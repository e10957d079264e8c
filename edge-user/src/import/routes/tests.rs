//! The order of cases against the router itself: whatever the cases and the request, the first that holds wins.

use proptest::prelude::*;
use serde_json::json;

use super::super::paths::{PathKind, PathTest};
use super::*;
use crate::http::head::{Head, Owner, Version};
use crate::router::{self, Criteria, HeaderPattern, HostPattern, PathPattern, Pattern, Router, ValuePattern};

fn path(kind: PathKind, text: &str) -> PathTest {
    PathTest::new(kind, text, false).unwrap()
}

/// The route of a draft as the router takes it.
fn criteria(draft: &Draft, drafts: &Drafts, count: usize) -> Criteria {
    let ledger = Ledger::default();
    let shape = Shape::default();
    let common = Common {
        name: "r",
        host: "www.example.com",
        https_only: None,
        tls: false,
        response: &[],
        shape: &shape,
        ledger: &ledger,
    };
    let entity = route(draft, 0, &Outcome::default(), drafts, count, &common).unwrap();
    let get = |key: &str| entity.members.iter().find(|(known, _)| *known == key).map(|(_, value)| value.clone());
    let strings = |key: &str| -> Vec<String> {
        get(key)
            .and_then(|value| value.as_array().cloned())
            .unwrap_or_default()
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let header = |(name, values): (&String, &Value)| HeaderPattern {
        name: name.as_str().into(),
        value: match values[0].as_str().unwrap().strip_prefix("~*") {
            Some(text) => ValuePattern::Regex(Pattern::value(text).unwrap()),
            None => ValuePattern::OneOf(
                values.as_array().unwrap().iter().map(|value| value.as_str().unwrap().into()).collect(),
            ),
        },
    };
    Criteria {
        methods: strings("methods").iter().map(|method| method.as_str().into()).collect(),
        hosts: strings("hosts").iter().map(|host| HostPattern::parse(host).unwrap()).collect(),
        paths: strings("paths")
            .iter()
            .map(|path| match path.strip_prefix('~') {
                Some(text) => PathPattern::Regex(Pattern::path(text).unwrap()),
                None => PathPattern::Prefix(path.as_str().into()),
            })
            .collect(),
        headers: get("headers")
            .and_then(|value| value.as_object().cloned())
            .unwrap_or_default()
            .iter()
            .map(header)
            .collect(),
        snis: Vec::new(),
        regex_priority: get("regex_priority").and_then(|value| value.as_i64()).unwrap_or(0),
    }
}

/// The case whose route the router chooses.
fn chosen(drafts: &Drafts, router: &Router, sample: &super::super::matching::Sample) -> Option<usize> {
    let mut head = Head::default();
    head.start_request(sample.method.as_bytes(), sample.path.as_bytes(), Version::Http11);
    for (name, value) in &sample.headers {
        head.push(Owner::Peer, name.as_bytes(), value.as_bytes());
    }
    let (host, path) = (sample.host.as_bytes(), sample.path.as_bytes());
    let request = router::Request { head: &head, host, port: 80, path, tls: false, sni: None };
    Some(drafts.all[router.select(&request)?.route].case)
}

fn compiled(drafts: &Drafts, count: usize) -> Router {
    let criteria: Vec<Criteria> = drafts.all.iter().map(|draft| criteria(draft, drafts, count)).collect();
    Router::new(&criteria)
}

fn when() -> impl Strategy<Value = Match> {
    let hosts = prop::option::of(prop::collection::btree_set(
        prop::sample::select(vec!["a.example.com", "b.example.com", "*.example.com", "a.*"]).prop_map(str::to_owned),
        1..3,
    ));
    let methods = prop::option::weighted(
        0.3,
        prop::collection::btree_set(prop::sample::select(vec!["GET", "POST"]).prop_map(str::to_owned), 1..2),
    );
    let kinds = prop::sample::select(vec![
        (PathKind::StartsWith, "/a"),
        (PathKind::StartsWith, "/a/b"),
        (PathKind::StartsWith, "/b"),
        (PathKind::Equals, "/a"),
        (PathKind::Equals, "/a/b/x.png"),
        (PathKind::EndsWith, ".png"),
        (PathKind::Contains, "b"),
    ]);
    let paths = prop::option::of(prop::collection::vec(kinds.prop_map(|(kind, text)| path(kind, text)), 1..3));
    let test = prop_oneof![Just(HeaderTest::Exists), Just(HeaderTest::OneOf(["1".to_owned()].into()))];
    let headers =
        prop::collection::btree_map(prop::sample::select(vec!["x-a", "x-b"]).prop_map(str::to_owned), test, 0..3);
    (hosts, methods, paths, headers).prop_map(|(hosts, methods, paths, headers)| Match {
        hosts,
        methods,
        paths,
        headers,
        ..Match::default()
    })
}

fn sample() -> impl Strategy<Value = super::super::matching::Sample> {
    let header = prop::sample::select(vec!["x-a", "x-b"]).prop_map(str::to_owned);
    let value = prop::sample::select(vec!["1", "2"]).prop_map(str::to_owned);
    (
        prop::sample::select(vec!["GET", "POST"]),
        prop::sample::select(vec!["a.example.com", "b.example.com", "c.example.com", "a.test"]),
        prop::sample::select(vec!["/", "/a", "/a/b", "/a/b/x.png", "/b", "/c.png"]),
        prop::collection::btree_map(header, value, 0..3),
    )
        .prop_map(|(method, host, path, headers)| super::super::matching::Sample {
            method: method.into(),
            host: host.into(),
            path: path.into(),
            headers,
        })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// P5: the edge does what the first case says, or says that it may not.
    #[test]
    fn the_first_case_that_holds_wins(whens in prop::collection::vec(when(), 1..5), samples in prop::collection::vec(sample(), 12)) {
        let mut cases: Cases = whens.into_iter().map(|when| (when, Outcome::default())).collect();
        cases.push((Match::default(), Outcome::default()));
        if let Ok(drafts) = drafts(&cases) {
            let router = compiled(&drafts, cases.len());
            for sample in &samples {
                let first = cases.iter().position(|(when, _)| when.holds(sample));
                let found = chosen(&drafts, &router, sample);
                let is_told = found.is_some_and(|case| drafts.unsure.contains(&case));
                prop_assert!(found == first || is_told, "{sample:?}: {found:?}, expected {first:?} of {cases:?}");
            }
        }
    }
}

#[test]
fn prefixes_stay_prefixes_where_their_length_is_the_order() {
    let case = |text: &str| {
        (Match { paths: Some(vec![path(PathKind::StartsWith, text)]), ..Match::default() }, Outcome::default())
    };
    let last = || (Match::default(), Outcome::default());
    assert!(drafts(&vec![case("/a/b"), case("/a"), last()]).unwrap().by_prefix);
    assert!(drafts(&vec![case("/a"), case("/b"), last()]).unwrap().by_prefix);
    assert!(!drafts(&vec![case("/a"), case("/a/b"), last()]).unwrap().by_prefix);
}

#[test]
fn a_later_case_that_would_win_gives_way() {
    let by_path = Match { paths: Some(vec![path(PathKind::StartsWith, "/a")]), ..Match::default() };
    let by_host = Match { hosts: Some(["h.example.com".to_owned()].into()), ..Match::default() };
    let cases =
        vec![(by_path, Outcome::default()), (by_host, Outcome::default()), (Match::default(), Outcome::default())];
    let drafts = drafts(&cases).unwrap();
    assert_eq!(drafts.all.iter().map(|draft| draft.case).collect::<Vec<_>>(), [0, 0, 1, 2]);
}

#[test]
fn restrictions_are_one_plugin() {
    let sources = |inside, texts: &[&str]| Sources {
        inside,
        ranges: texts.iter().map(|text| Cidr::parse(text).unwrap()).collect(),
    };
    for (all, expected) in [
        (vec![sources(true, &["192.0.2.0/24"])], json!({"allow": ["192.0.2.0/24"]})),
        (
            vec![sources(true, &["192.0.2.0/24"]), sources(true, &["192.0.2.128/25", "198.51.100.0/24"])],
            json!({"allow": ["192.0.2.128/25"]}),
        ),
        (
            vec![sources(true, &["192.0.2.0/24"]), sources(false, &["192.0.2.1"])],
            json!({"allow": ["192.0.2.0/24"], "deny": ["192.0.2.1/32"]}),
        ),
        (
            vec![sources(true, &["192.0.2.0/24"]), sources(true, &["198.51.100.0/24"])],
            json!({"deny": ["0.0.0.0/0", "::/0"]}),
        ),
    ] {
        assert_eq!(restriction(&all), expected);
    }
}
