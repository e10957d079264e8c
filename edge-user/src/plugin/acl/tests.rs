use std::sync::Arc;

use super::*;
use crate::config::snapshot::{Consumer, ConsumerGroup};
use crate::plugin::AnswerBody;
use crate::plugin::testing::{Scene, fields, parse};
use crate::token::testing::verified;

/// Who asks: whether with a credential, as a consumer in these groups (`acl|consumer groups`), by a token with these.
#[derive(Default, Clone, Copy)]
struct Who<'a> {
    credential: bool,
    consumer: Option<(&'a [&'a str], &'a [&'a str])>,
    token: Option<&'a [&'a str]>,
}

fn names(names: &[&str]) -> Box<[Box<str>]> {
    names.iter().map(|name| Box::from(*name)).collect()
}

/// The status of the answer, or the fields that tell the upstream of groups.
async fn check(yaml: &str, who: Who<'_>) -> Result<String, u16> {
    let plugin = parse(NAME, yaml).expect("good settings");
    let mut scene = Scene::new("GET", &[]);
    let group = |name: &&str| Arc::new(ConsumerGroup { id: uuid::Uuid::nil(), name: Box::from(*name) });
    let facts = match who.credential {
        true => Some(verified().await),
        false => None,
    };
    scene.notes.caller = Caller {
        consumer: who.consumer.map(|(acl, groups)| {
            let groups = groups.iter().map(group).collect();
            Arc::new(Consumer { acl_groups: names(acl), groups, ..Consumer::default() })
        }),
        groups: who.token.map(|groups| names(groups).into()),
        facts,
        ..Caller::default()
    };
    match scene.access(&plugin).await {
        Access::Continue => {
            let fields: Vec<_> =
                fields(&scene.head).into_iter().map(|(name, value)| format!("{name}: {value}")).collect();
            Ok(fields.join("\n"))
        }
        Access::Answer(Answer { status, reason, body: AnswerBody::Error(message), .. }) => {
            let expected = match status {
                401 => (Reason::CallerUnknown, "Unauthorized"),
                _ => (Reason::GroupNotAllowed, "You cannot consume this service"),
            };
            assert_eq!((reason, &*message), expected);
            Err(status)
        }
        _ => panic!("another answer"),
    }
}

#[tokio::test]
async fn every_situation_has_its_groups() {
    let nobody = Who::default();
    let token = |token| Who { credential: true, token, consumer: None };
    let consumer = |acl, token| Who { credential: true, token, consumer: Some((acl, &[])) };
    let anonymous = |acl, token| Who { credential: false, token, consumer: Some((acl, &[])) };
    let (a, b): (&[&str], &[&str]) = (&["a"], &["b"]);
    let acl_a = || Ok("X-Consumer-Groups: a".to_owned());
    let token_a = || Ok("X-Authenticated-Groups: a".to_owned());
    let always = "{allow: [a], always_use_authenticated_groups: true}";
    for (yaml, who, expected) in [
        // No consumer.
        ("allow: [a]", nobody, Err(401)),
        ("deny: [b]", nobody, Err(401)),
        ("allow: [a]", token(None), Err(403)),
        ("deny: [b]", token(None), Err(403)),
        ("allow: [a]", token(Some(a)), token_a()),
        ("allow: [a]", token(Some(b)), Err(403)),
        ("allow: [a]", token(Some(&[])), Err(403)),
        ("deny: [b]", token(Some(a)), token_a()),
        ("deny: [b]", token(Some(b)), Err(403)),
        ("deny: [b]", token(Some(&[])), Ok(String::new())),
        // A consumer with a credential.
        ("allow: [a]", consumer(a, Some(b)), acl_a()),
        ("allow: [a]", consumer(b, Some(a)), Err(403)),
        ("allow: [a]", consumer(&[], Some(a)), Err(403)),
        ("deny: [b]", consumer(a, Some(b)), acl_a()),
        ("deny: [b]", consumer(b, None), Err(403)),
        ("deny: [b]", consumer(&[], None), Ok(String::new())),
        // A consumer without one.
        ("allow: [a]", anonymous(b, Some(a)), token_a()),
        ("allow: [a]", anonymous(a, None), acl_a()),
        ("allow: [a]", anonymous(&[], None), Err(401)),
        ("deny: [b]", anonymous(&[], None), Ok(String::new())),
        // The token's groups win where the settings say so, if it gives any.
        (always, consumer(b, Some(a)), token_a()),
        (always, consumer(a, Some(b)), Err(403)),
        (always, consumer(a, None), acl_a()),
        (always, consumer(&[], None), Err(403)),
    ] {
        let Who { credential, consumer, token } = who;
        assert_eq!(check(yaml, who).await, expected, "{yaml}: {credential} {consumer:?} {token:?}");
    }
}

#[tokio::test]
async fn consumer_groups_count_where_they_are_included() {
    let who = |acl, groups| Who { credential: true, token: None, consumer: Some((acl, groups)) };
    let include = "{allow: [gold], include_consumer_groups: true}";
    for (yaml, who, expected) in [
        ("allow: [gold]", who(&[], &["gold"]), Err(403)),
        (include, who(&[], &["gold"]), Ok("X-Consumer-Groups: gold".to_owned())),
        (include, who(&["a", "gold"], &["gold", "new"]), Ok("X-Consumer-Groups: a, gold, new".to_owned())),
        (include, who(&[], &["new"]), Err(403)),
        ("{deny: [gold], include_consumer_groups: true}", who(&["a"], &["gold"]), Err(403)),
    ] {
        assert_eq!(check(yaml, who).await, expected, "{yaml}");
    }
}

#[tokio::test]
async fn groups_match_whole_and_go_upstream_as_a_list_nobody_can_misread() {
    let token = |groups| Who { credential: true, token: Some(groups), consumer: None };
    for (yaml, who, expected) in [
        ("allow: [A]", token(&["a"]), Err(403)),
        ("allow: [a]", token(&["a ", "ab"]), Err(403)),
        ("allow: [b, a]", token(&["x", "a", "y"]), Ok("X-Authenticated-Groups: x, a, y".to_owned())),
        ("allow: [a]", token(&["a", "", "u, admin", "x\ny", " z"]), Ok("X-Authenticated-Groups: a".to_owned())),
        ("{allow: [a], hide_groups_header: true}", token(&["a"]), Ok(String::new())),
    ] {
        assert_eq!(check(yaml, who).await, expected, "{yaml}");
    }
}

#[test]
fn settings_are_judged() {
    let exactly = "exactly one of these fields must be non-empty: 'config.allow', 'config.deny'";
    for (yaml, part) in [
        ("{}", exactly),
        ("{allow: [], deny: []}", exactly),
        ("{allow: [a], deny: [b]}", exactly),
        ("allow: [1]", "a string"),
        ("{allow: [a], hide_group_header: true}", "`hide_groups_header`"),
    ] {
        let problems = parse(NAME, yaml).err().expect("a problem");
        assert!(problems.len() == 1 && problems[0].contains(part), "{yaml}: {problems:?}");
    }
    assert!(parse(NAME, "{allow: [a], deny: []}").is_ok());
}
