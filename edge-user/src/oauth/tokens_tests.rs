use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue};

use super::super::request::Request;
use super::*;

fn answer(status: u16, content_type: &'static str, body: &str) -> Answer {
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    Answer { status, headers, body: body.as_bytes().to_vec() }
}

fn read_json(status: u16, body: &str) -> Result<Result<Tokens, Refused>, Malformed> {
    read(answer(status, "application/json;charset=UTF-8", body), &Secrets::default())
}

fn good(more: &str) -> Result<Tokens, Malformed> {
    let body = format!(r#"{{"access_token":"a.b-c~d","token_type":"Bearer"{more}}}"#);
    read_json(200, &body).map(|tokens| tokens.expect("not refused"))
}

#[test]
fn a_good_answer_is_read() {
    let tokens = good(r#","expires_in":300,"refresh_token":"r","id_token":"i.j.k","scope":"a b","x":[1]"#).unwrap();
    assert_eq!(&**tokens.access_token, "a.b-c~d");
    assert_eq!((tokens.token_type, tokens.left), (TokenType::Bearer, Some(Duration::from_secs(300))));
    assert_eq!(tokens.refresh_token.as_ref().map(|text| text.as_str()), Some("r"));
    assert_eq!(tokens.id_token.as_ref().map(|text| text.as_str()), Some("i.j.k"));
    assert_eq!(tokens.scope.as_deref(), Some("a b"));
    assert!(!format!("{tokens:?}").contains("a.b"), "L1");
    // `null` is nothing, as many issuers mean it.
    let bare = good(r#","refresh_token":null,"expires_in":null,"scope":null"#).unwrap();
    assert!(bare.refresh_token.is_none() && bare.left.is_none() && bare.scope.is_none());
}

// U4
#[test]
fn lifetimes_are_sane() {
    for (text, expected) in [
        ("300", Some(300_000)),
        ("299.5", Some(299_500)),
        ("\"300\"", Some(300_000)),
        ("0", Some(0)),
        ("-5", Some(0)),
        ("4000000000", Some(MAX_LIFE.as_millis() as u64)),
        // T30: neither wraps nor counts.
        ("9223372036854775807", None),
        ("1e400", None),
        ("\"99999999999999999999999\"", Some(MAX_LIFE.as_millis() as u64)),
        ("\"\"", None),
        ("\"5s\"", None),
        ("\"-5\"", None),
        ("\"+5\"", None),
        ("true", None),
        ("[300]", None),
        ("{}", None),
    ] {
        let left =
            good(&format!(r#","expires_in":{text}"#)).map(|tokens| tokens.left.map(|left| left.as_millis() as u64));
        assert_eq!(left.ok().flatten(), expected, "{text}");
    }
}

// U4
#[test]
fn what_is_no_clear_answer_is_none() {
    for (body, good) in [
        (r#"{"access_token":"a","token_type":"bearer"}"#, true),
        (r#"{"access_token":"a","token_type":"DPoP"}"#, true),
        (r#"{"access_token":"a","token_type":"N_A"}"#, true),
        (r#"{"access_token":"a","token_type":"mac"}"#, false),
        (r#"{"access_token":"a","token_type":"Bearer "}"#, false),
        (r#"{"access_token":"a","token_type":1}"#, false),
        (r#"{"access_token":"a"}"#, false),
        (r#"{"token_type":"Bearer"}"#, false),
        (r#"{"access_token":"","token_type":"Bearer"}"#, false),
        (r#"{"access_token":null,"token_type":"Bearer"}"#, false),
        (r#"{"access_token":["a"],"token_type":"Bearer"}"#, false),
        (r#"{"access_token":"a b","token_type":"Bearer"}"#, false),
        (r#"{"access_token":"a\r\nX: y","token_type":"Bearer"}"#, false),
        (r#"{"access_token":"é","token_type":"Bearer"}"#, false),
        (r#"{"access_token":"a","token_type":"Bearer","refresh_token":"a b"}"#, false),
        (r#"{"access_token":"a","token_type":"Bearer","scope":["a"]}"#, false),
        (
            r#"{"access_token":"a","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:jwt"}"#,
            true,
        ),
        (
            r#"{"access_token":"a","token_type":"Bearer","issued_token_type":"urn:ietf:params:oauth:token-type:id_token"}"#,
            false,
        ),
        (r#"{"access_token":"a","token_type":"Bearer"}x"#, false),
        (r#"{"access_token":"a","access_token":"b","token_type":"Bearer"}"#, false),
        (r#"["a"]"#, false),
        (r#""a""#, false),
        ("access_token=a&token_type=bearer", false),
        ("", false),
    ] {
        assert_eq!(read_json(200, body).is_ok_and(|tokens| tokens.is_ok()), good, "{body}");
    }
    let long = |length: usize| good_with("a".repeat(length));
    assert!(long(MAX_TOKEN_BYTES) && !long(MAX_TOKEN_BYTES + 1));
    let body = r#"{"access_token":"a","token_type":"Bearer"}"#;
    for (content_type, good) in [("application/json", true), ("text/html", false), ("application/jwt", false)] {
        assert_eq!(read(answer(200, content_type, body), &Secrets::default()).is_ok(), good, "{content_type}");
    }
    for status in [201, 204, 302, 404, 418] {
        assert!(read_json(status, body).is_err(), "{status}");
    }
}

fn good_with(token: String) -> bool {
    read_json(200, &format!(r#"{{"access_token":"{token}","token_type":"Bearer"}}"#)).is_ok()
}

#[test]
fn errors_are_verdicts_with_the_issuers_words() {
    for (status, body, expected) in [
        (
            400,
            r#"{"error":"invalid_grant","error_description":"no such user"}"#,
            Some(("invalid_grant", Some("no such user"))),
        ),
        (401, r#"{"error":"invalid_client"}"#, Some(("invalid_client", None))),
        (403, r#"{"error":"invalid_grant"}"#, Some(("invalid_grant", None))),
        (403, "<html>", None),
        (401, "", Some(("", None))),
        (401, "<html>", Some(("", None))),
        (400, "", None),
        (400, "<html>", None),
        (400, r#"{"error":7}"#, None),
    ] {
        let found = read_json(status, body);
        let refused = found.as_ref().ok().map(|tokens| tokens.as_ref().expect_err("no tokens"));
        let words = refused.map(|refused| (&*refused.error, refused.description.as_deref()));
        assert_eq!(words, expected, "{status} {body}");
    }
}

// L1, L2
#[test]
fn words_that_repeat_a_secret_are_not_shown_and_others_cut() {
    let mut request = Request::post();
    request.hide("correct horse");
    request.hide("a");
    let secrets = request.secrets();
    let body = r#"{"error":"invalid_grant","error_description":"'correct horse' is wrong"}"#;
    let refused = refused(&answer(400, "application/json", body), &secrets).unwrap();
    assert_eq!(
        (&*refused.error, refused.description.as_deref()),
        ("invalid_grant", Some("[not shown: it repeats a secret]"))
    );
    assert_eq!(words(&"é".repeat(500), &secrets).chars().count(), MAX_WORDS);
}

#[test]
fn what_the_fleet_keeps_comes_back() {
    let mut tokens = good(r#","expires_in":300,"refresh_token":"r","scope":"a \"b\"""#).unwrap();
    tokens.replay.push(("x-a".into(), Box::from(&b"\xff"[..])));
    let bytes = tokens.encode();
    let back = Tokens::decode(&bytes, Duration::from_secs(7)).expect("tokens");
    tokens.left = Some(Duration::from_secs(7));
    assert_eq!(back.ends_ms(), Some(back.answered_ms + 7000));
    tokens.answered_ms = back.answered_ms;
    assert!(back == tokens);
    assert!(Tokens::decode(&bytes[..bytes.len() - 1], Duration::ZERO).is_none());
    assert!(Tokens::decode(b"{}", Duration::ZERO).is_none());
}
