use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::super::testing::{Idp, Reply, clients, endpoints, options, read};
use super::*;
use crate::token::Issuers;

fn exchange(idp: &Idp) -> LegacyExchange {
    let around = Surroundings {
        issuer: "https://idp.example".into(),
        issuers: Issuers::Discovered,
        options: options(),
        clients: Arc::new(clients("{client_id: [edge], client_secret: [s]}")),
        source: None,
    };
    let yaml = format!("{{token_exchange_endpoint: '{}'}}", idp.url);
    let (exchange, problems) = read(&yaml, |config| LegacyExchange::read(config, &around, &endpoints()));
    assert_eq!(problems, [""; 0]);
    exchange.expect("settings")
}

#[tokio::test]
async fn the_body_is_the_new_token() {
    let now_secs = Now::read().unix_ms / 1000;
    let jwt = |payload: &str| {
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"RS256"}"#), part(payload), part("signature"))
    };
    for (status, body, expected) in [
        (200, "opaque-token".to_owned(), Some(None)),
        (200, "opaque-token\r\n".to_owned(), Some(None)),
        (200, jwt(&format!(r#"{{"exp":{}}}"#, now_secs + 100)), Some(Some(100))),
        (200, jwt(r#"{"exp":5}"#), Some(Some(0))),
        (200, jwt("{}"), Some(None)),
        (200, String::new(), None),
        (200, "two tokens".to_owned(), None),
        (200, "{\"access_token\": \"a\"}".to_owned(), None),
        (201, "opaque-token".to_owned(), None),
        (401, "opaque-token".to_owned(), None),
        (500, "opaque-token".to_owned(), None),
    ] {
        let idp = Idp::start(Reply::of(status, "text/plain", &body)).await;
        let result = exchange(&idp).exchange("the-old-one").await;
        let seen = idp.last();
        assert!(seen.head.starts_with("POST ") && seen.body.is_empty(), "{}", seen.head);
        assert_eq!(seen.header("authorization"), Some("Bearer the-old-one"));
        assert!(matches!(&result, Err(GrantError::Refused(_))) == (status == 401), "{status} {result:?}");
        let left = result.as_ref().ok().map(|tokens| tokens.left.map(|left| left.as_secs().div_ceil(10) * 10));
        assert_eq!(left, expected, "{status} {body}");
        if let Ok(tokens) = &result {
            assert_eq!(tokens.access_token.as_str(), body.trim_end());
        }
    }
}
