use std::time::Duration;

use super::super::kept::{Keep, Kept};
use super::super::testing::{Idp, Reply, clients, endpoints, options, read, word};
use super::*;
use crate::token::{Issuers, Now};

const TOKENS: &str = r#"{"access_token":"at","token_type":"Bearer","expires_in":300}"#;

fn around(client: &str) -> Surroundings {
    Surroundings {
        issuer: "https://idp.example".into(),
        issuers: Issuers::Discovered,
        options: options(),
        clients: Arc::new(clients(client)),
        source: None,
    }
}

const OURS: &str = "{client_id: [edge], client_secret: ['s&c']}";

fn endpoint(idp: &Idp, client: &str, more: &str) -> TokenEndpoint {
    let yaml = format!("{{token_endpoint: '{}'{more}}}", idp.url);
    let around = around(client);
    let (endpoint, problems) = read(&yaml, |config| TokenEndpoint::read(config, &around, &endpoints()));
    assert_eq!(problems, [""; 0], "{yaml}");
    endpoint
}

fn secret(text: &str) -> Secret {
    Zeroizing::new(text.as_bytes().to_vec())
}

fn caller() -> Grant {
    Grant::ClientCredentials { id: secret("ann:a"), secret: secret("p+w d") }
}

fn password() -> Grant {
    Grant::Password { username: secret("ann"), password: secret("p&w=d") }
}

// I9, I10
#[tokio::test]
async fn each_grant_is_asked_for_in_its_own_bytes() {
    let idp = Idp::start(Reply::json(200, TOKENS)).await;
    // base64 of `edge:s%26c` and of `ann%3Aa:p%2Bw+d`.
    let (ours, theirs) = ("Basic ZWRnZTpzJTI2Yw==", "Basic YW5uJTNBYTpwJTJCdytk");
    for (grant, client, more, authorization, body) in [
        (caller(), OURS, "", Some(theirs), "grant_type=client_credentials&scope=openid"),
        (
            caller(),
            "{client_id: [edge], client_secret: [s], client_auth: [client_secret_post]}",
            "",
            None,
            "grant_type=client_credentials&client_id=ann%3Aa&client_secret=p%2Bw+d&scope=openid",
        ),
        (caller(), OURS, ", scopes: []", Some(theirs), "grant_type=client_credentials"),
        (
            caller(),
            OURS,
            ", scopes: [a, b], audience: [x, 'y z']",
            Some(theirs),
            "grant_type=client_credentials&scope=a+b&audience=x+y+z",
        ),
        (password(), OURS, "", Some(ours), "grant_type=password&username=ann&password=p%26w%3Dd&scope=openid"),
        (
            password(),
            OURS,
            ", token_endpoint_auth_method: client_secret_post",
            None,
            "grant_type=password&username=ann&password=p%26w%3Dd&client_id=edge&client_secret=s%26c&scope=openid",
        ),
        (
            Grant::RefreshToken(secret("r/t")),
            OURS,
            ", token_post_args_names: [scope, x], token_post_args_values: [own, 'y&']",
            Some(ours),
            "grant_type=refresh_token&refresh_token=r%2Ft&scope=own&x=y%26",
        ),
        (
            Grant::Exchange(secret("a.b.c")),
            OURS,
            ", audience: [x, y]",
            Some(ours),
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Atoken-exchange&subject_token=a.b.c\
             &subject_token_type=urn%3Aietf%3Aparams%3Aoauth%3Atoken-type%3Aaccess_token&scope=openid&audience=x&audience=y",
        ),
    ] {
        let endpoint = endpoint(&idp, client, more);
        let tokens = endpoint.grant(&grant.into(), &Extras::default()).await.expect("tokens");
        assert_eq!((tokens.access_token.as_str(), tokens.left), ("at", Some(Duration::from_secs(300))));
        let seen = idp.last();
        assert!(seen.head.starts_with("POST "), "{}", seen.head);
        assert_eq!((seen.header("authorization"), seen.body.as_str()), (authorization, body));
        assert_eq!(seen.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(seen.header("accept"), Some("application/json"));
    }
}

#[tokio::test]
async fn an_exchange_may_ask_for_something_else() {
    let idp = Idp::start(Reply::json(200, TOKENS)).await;
    let endpoint = endpoint(&idp, OURS, ", scopes: [a], audience: [x]");
    for (scopes, audience, expected) in [
        (Wanted::Configured, Wanted::Configured, "&scope=a&audience=x"),
        (Wanted::These(["b".into(), "c".into()].into()), Wanted::These(["y".into()].into()), "&scope=b+c&audience=y"),
        (Wanted::These([].into()), Wanted::These([].into()), ""),
    ] {
        let ask = Ask { grant: Grant::Exchange(secret("t")), scopes, audience };
        endpoint.grant(&ask, &Extras::default()).await.expect("tokens");
        let body = idp.last().body;
        let (_, rest) = body.split_once("access_token").expect("the type");
        assert_eq!(rest, expected);
    }
}

// I8: a client adds what is allowed by name, and replaces nothing of the edge's or the operator's.
#[tokio::test]
async fn a_clients_additions_replace_nothing() {
    let idp = Idp::start(Reply::json(200, TOKENS)).await;
    let more = ", token_post_args_names: [tenant], token_post_args_values: [t1], token_post_args_client: [scope, tenant], \
                token_headers_names: [x-a], token_headers_values: [own], token_headers_client: [x-a, x-b]";
    let endpoint = endpoint(&idp, OURS, more);
    assert_eq!(endpoint.client_args().len() + endpoint.client_headers().len(), 4);
    let pairs = |pairs: &[(&str, &str)]| pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let extras = Extras {
        client: 0,
        headers: pairs(&[("x-a", "theirs"), ("x-b", "b"), ("content-length", "1")]),
        args: pairs(&[("scope", "more&x=y"), ("tenant", "t2"), ("grant_type", "password"), ("username", "eve")]),
    };
    let ask = Ask::from(password());
    endpoint.grant(&ask, &extras).await.expect("tokens");
    let seen = idp.last();
    assert_eq!((seen.header("x-a"), seen.header("x-b")), (Some("own"), Some("b")));
    for (name, value) in [("scope", "more&x=y"), ("tenant", "t1"), ("grant_type", "password"), ("username", "ann")] {
        assert_eq!(seen.argument(name).as_deref(), Some(value));
    }
    assert_eq!(endpoint.scope(&ask, &extras), "more&x=y");
    assert_eq!(endpoint.scope(&ask, &Extras::default()), "openid");
}

// U4, I7, I13: who is refused decides whether it is a verdict.
#[tokio::test]
async fn refusals_of_callers_and_of_the_edge_are_told_apart() {
    let error = |word: &str| format!(r#"{{"error":"{word}","error_description":"because"}}"#);
    for (status, body, theirs, with_ours) in [
        (400, error("invalid_grant"), "refused invalid_grant", "refused invalid_grant"),
        (400, error("invalid_scope"), "refused invalid_scope", "refused invalid_scope"),
        (400, error("invalid_target"), "refused invalid_target", "refused invalid_target"),
        // Keycloak's and Auth0's words for a wrong password.
        (401, error("invalid_grant"), "refused invalid_grant", "refused invalid_grant"),
        (403, error("invalid_grant"), "refused invalid_grant", "refused invalid_grant"),
        (400, error("invalid_client"), "refused invalid_client", "alarm"),
        (401, error("invalid_client"), "refused invalid_client", "alarm"),
        (400, error("unauthorized_client"), "refused unauthorized_client", "alarm"),
        (401, String::new(), "refused ", "alarm"),
        // Somebody on the way, perhaps; where the edge shows credentials of its own, somebody has to look.
        (403, "<html>".into(), "malformed", "alarm"),
        (400, String::new(), "malformed", "malformed"),
        (404, error("invalid_grant"), "malformed", "malformed"),
        (302, String::new(), "malformed", "malformed"),
        (200, error("invalid_grant"), "malformed", "malformed"),
        (429, error("invalid_grant"), "status 429", "status 429"),
        (500, error("server_error"), "status 500", "status 500"),
        (200, TOKENS.into(), "tokens", "tokens"),
    ] {
        for (grant, expected) in
            [(caller(), theirs), (password(), with_ours), (Grant::RefreshToken(secret("refresh")), with_ours)]
        {
            let idp = Idp::start(Reply::json(status, &body)).await;
            let kind = grant.kind();
            let result = endpoint(&idp, OURS, "").grant(&grant.into(), &Extras::default()).await;
            assert_eq!(result.map_or_else(word, |_| "tokens".into()), expected, "{status} {body} {kind:?}");
            assert_eq!(idp.seen().len(), 1, "a grant is never asked for twice");
        }
    }
}

// L1
#[tokio::test]
async fn an_issuer_that_repeats_a_password_is_not_quoted() {
    let body = r#"{"error":"invalid_grant","error_description":"p&w=d is wrong"}"#;
    for (password, shown) in [("p&w=d is", "[not shown: it repeats a secret]"), ("another", "p&w=d is wrong")] {
        let idp = Idp::start(Reply::json(400, body)).await;
        let grant = Grant::Password { username: secret("ann"), password: secret(password) };
        let error = endpoint(&idp, OURS, "").grant(&grant.into(), &Extras::default()).await.expect_err("a refusal");
        let GrantError::Refused(refused) = error else { panic!("{error}") };
        assert_eq!(refused.description.as_deref(), Some(shown));
    }
}

// D1
#[tokio::test]
async fn a_late_answer_is_none() {
    let idp = Idp::start(Reply::json(200, TOKENS).late(Duration::from_secs(5))).await;
    let mut around = around(OURS);
    around.options.timeout = Duration::from_millis(100);
    let yaml = format!("{{token_endpoint: '{}'}}", idp.url);
    let (endpoint, _) = read(&yaml, |config| TokenEndpoint::read(config, &around, &endpoints()));
    let late = endpoint.grant(&password().into(), &Extras::default()).await;
    assert_eq!(late.err().map(word).as_deref(), Some("Timeout"));
}

#[tokio::test]
async fn headers_are_replayed_for_grants_that_are_named() {
    let reply = Reply::json(200, TOKENS).with("X-Trace: 1").with("X-Trace: 2").with("X-Other: 3");
    let idp = Idp::start(reply).await;
    let more = ", token_headers_replay: [X-Trace], token_headers_prefix: 'idp-', token_headers_grants: [password]";
    let endpoint = endpoint(&idp, OURS, more);
    let tokens = endpoint.grant(&password().into(), &Extras::default()).await.expect("tokens");
    let replay: Vec<_> = tokens.replay.iter().map(|(name, value)| (&**name, &**value)).collect();
    assert_eq!(replay, [("idp-x-trace", &b"1"[..]), ("idp-x-trace", b"2")]);
    let tokens = endpoint.grant(&caller().into(), &Extras::default()).await.expect("tokens");
    assert_eq!(tokens.replay.len(), 0);
}

#[test]
fn settings_are_judged() {
    for (yaml, problem) in [
        ("{}", ""),
        ("{token_endpoint: 'https://a.example/t', scopes: a, audience: [b]}", ""),
        ("{token_endpoint: 'http://a.example/t'}", "token_endpoint: found"),
        ("{mtls_token_endpoint: 'a.example'}", "mtls_token_endpoint: found"),
        ("{token_endpoint_auth_method: private_key_jwt}", ""),
        ("{token_endpoint_auth_method: tls_client_auth}", "token_endpoint_auth_method: found"),
        ("{token_post_args_names: [a], token_post_args_values: []}", "token_post_args_names: found 1 names"),
        ("{token_post_args_names: [grant_type], token_post_args_values: [x]}", "the edge does not send itself"),
        ("{token_post_args_client: [client_id]}", "the edge does not send itself"),
        ("{token_post_args_client: [scope]}", ""),
        ("{token_headers_client: [Authorization]}", "token_headers_client: found"),
        ("{token_headers_names: [host], token_headers_values: [x]}", "token_headers_names: found"),
        ("{token_headers_replay: [transfer-encoding]}", "token_headers_replay[0]: found"),
        ("{token_headers_replay: [length], token_headers_prefix: content-}", "token_headers_replay[0]: found"),
        ("{token_headers_grants: [authorization_code, password]}", ""),
        ("{token_headers_grants: [implicit]}", "expected one of"),
    ] {
        let around = around(OURS);
        let (_, problems) = read(yaml, |config| TokenEndpoint::read(config, &around, &endpoints()));
        assert_eq!(problems.len(), usize::from(!problem.is_empty()), "{yaml}: {problems:?}");
        assert!(problems.concat().contains(problem), "{yaml}: {problems:?}");
    }
}

#[test]
fn settings_that_change_an_answer_change_the_id() {
    let id = |yaml: &str, client: &str| {
        let around = around(client);
        read(yaml, |config| TokenEndpoint::read(config, &around, &endpoints())).0.id()
    };
    let base = id("{token_endpoint: 'https://a.example/t'}", OURS);
    assert_eq!(base, id("{token_endpoint: 'https://a.example/t', scopes: [openid]}", OURS));
    for (yaml, client) in [
        ("{token_endpoint: 'https://b.example/t'}", OURS),
        ("{token_endpoint: 'https://a.example/t'}", "{client_id: [edge], client_secret: [other]}"),
        ("{token_endpoint: 'https://a.example/t', scopes: [a]}", OURS),
        ("{token_endpoint: 'https://a.example/t', audience: [a]}", OURS),
        ("{token_endpoint: 'https://a.example/t', token_post_args_names: [a], token_post_args_values: [b]}", OURS),
        ("{token_endpoint: 'https://a.example/t', token_headers_replay: [x]}", OURS),
    ] {
        assert_ne!(base, id(yaml, client), "{yaml}");
    }
}

// U2: many callers with the same credentials, one call; the next finds the answer kept, another's password does not.
#[tokio::test]
async fn grants_are_kept_by_what_was_presented() {
    let idp = Idp::start(Reply::json(200, TOKENS).late(Duration::from_millis(50))).await;
    let endpoint = Arc::new(endpoint(&idp, OURS, ""));
    let store: Arc<Kept<Tokens, GrantError>> =
        Arc::new(Kept::new("tokens", 1 << 20, Some(tokio::runtime::Handle::current())));
    let ask = |text: &str| {
        let ask = Ask::from(Grant::Password { username: secret("ann"), password: secret(text) });
        let [first, second] = ask.grant.credentials();
        let key = store.key(&[&endpoint.id(), ask.grant.kind().word().as_bytes(), first, second]);
        let endpoint = endpoint.clone();
        let call = || async move {
            let tokens = endpoint.grant(&ask, &Extras::default()).await?;
            let left = tokens.left;
            Ok(Brought { value: tokens, left })
        };
        (key, store.ask(key, Keep::For(Lifetimes::default()), call).expect("room"))
    };
    let waiting: Vec<_> = (0..100).map(|_| ask("right")).collect();
    let key = waiting[0].0;
    for (_, waiting) in waiting {
        let tokens = waiting.outcome(Duration::from_secs(5)).await.expect("an end").expect("tokens");
        assert_eq!(tokens.access_token.as_str(), "at");
    }
    assert_eq!(idp.seen().len(), 1);
    let now = Now::read();
    assert!(store.look(&key, now).is_some());
    assert!(store.look(&key, Now { unix_ms: now.unix_ms + 301_000 }).is_none(), "never past its end");
    idp.answer(Reply::json(400, r#"{"error":"invalid_grant"}"#));
    let (key, waiting) = ask("wrong");
    assert!(store.look(&key, now).is_none());
    assert!(waiting.outcome(Duration::from_secs(5)).await.expect("an end").is_err());
    assert!(store.look(&key, now).is_none());
}
