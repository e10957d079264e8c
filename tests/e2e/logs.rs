//! What the logs say, and what they never say (security properties, 16).

use std::io::Read as _;
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use edge_tests::edge::{READY, Setup, binary, free_address};
use edge_tests::mint::{self, Key, flip, with};
use edge_tests::wire::{Client, get};
use serde_json::json;

use super::{Guarded, bearer, guarded, with_token};

#[test]
fn no_token_or_secret_stands_in_any_output() {
    // L1, L3: at the most talkative level.
    let config = json!({"client_id": ["app"], "client_secret": ["hush-hush-secret"]});
    let good = Guarded::with(config, |setup| setup.log("level = \"debug\""));
    let token = good.token();
    let bad = flip(&token);
    let expired = good.key.token(&with(good.claims(), json!({"exp": mint::now() - 99})));
    let stranger = Key::es256("stranger").token(&good.claims());
    let mut answers = Vec::new();
    for token in [&token, &bad, &expired, &stranger] {
        answers.push(good.edge.ask(with_token(token)));
        answers.push(good.edge.ask(get(&format!("/orders?access_token={token}&code=query-code&x=1"), &[])));
        answers.push(
            good.edge.ask(get(
                "/orders?client_secret=query-secret&token=query-token",
                &[&format!("Cookie: session={token}")],
            )),
        );
        answers.push(good.edge.ask(get("/orders", &[&format!("Authorization: Bearer {token} trailing")])));
        answers.push(good.edge.ask(get("/orders", &[&format!("Authorization: Basic {token}")])));
    }
    for answer in &answers {
        good.edge.reason_of(answer);
    }
    let metrics = good.edge.admin_get("/metrics").text();
    let Guarded { edge, .. } = good;
    let (access, error) = edge.stop();
    let output = format!("{}\n{}\n{metrics}", access.text(), error.text());
    for token in [&token, &bad, &expired, &stranger] {
        let parts: Vec<&str> = token.split('.').collect();
        for part in [parts[1], parts[2], token.as_str()] {
            assert!(!output.contains(part), "a token's part {part} was logged");
        }
    }
    for secret in ["hush-hush-secret", "query-secret", "query-token", "query-code"] {
        assert!(!output.contains(secret), "{secret} was logged");
    }
    for answer in answers.iter().filter(|answer| answer.status() >= 400) {
        assert!(!answer.text().contains(mint::encode(b"{\"alg\"").as_str()), "{}", answer.text());
    }
}

#[test]
fn a_client_cannot_forge_a_line() {
    // L2
    let good = Guarded::start();
    let answer = good.edge.ask(
        b"GET /a%0d%0a\"inject\":1?x=\x1b[31m%1b&y=\xff\xfe HTTP/1.1\r\nHost: t\r\nUser-Agent: \x1b[2J\xff\"},{\r\n\r\n".as_slice(),
    );
    assert!(matches!(answer.status(), 400 | 401));
    let kid = json!({"kid": "a\r\nerror forged line \u{1b}[31m"});
    let answer = good.edge.ask(with_token(&good.key.sign(&with(good.key.header(), kid), &good.claims())));
    good.edge.reason_of(&answer);
    let Guarded { edge, .. } = good;
    let (access, error) = edge.stop();
    for line in access.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok_and(|value| value.is_object()), "{line}");
    }
    for line in access.lines().iter().chain(&error.lines()) {
        assert!(line.chars().all(|c| c == '\t' || !c.is_control()), "a control character in {line:?}");
        assert!(!line.starts_with("error forged line"), "{line}");
    }
}

#[test]
fn an_access_line_has_what_an_operator_asks_for() {
    let good = Guarded::start();
    let mut client = good.edge.connect();
    let token = good.token();
    let request = format!(
        "POST /orders?x=1 HTTP/1.1\r\nHost: api.test\r\nAuthorization: Bearer {token}\r\nContent-Length: 4\r\n\r\nbody"
    );
    let answer = client.ask(&request);
    let id = answer.field("x-kong-request-id").unwrap().to_owned();
    let line = good.edge.access(|line| line["request_id"] == id.as_str());
    assert_eq!(line["method"], "POST");
    assert_eq!(line["status"], 200);
    assert_eq!(line["route"], "all");
    assert_eq!(line["service"], "up");
    assert!(line["client"].to_string().contains("127.0.0.1"), "{line}");
    assert!(line["bytes_in"].as_u64().unwrap() >= 4, "{line}");
    assert!(line["bytes_out"].as_u64().unwrap() >= 2, "{line}");
    assert!(line.get("reason").is_none_or(serde_json::Value::is_null), "{line}");
    let text = line.to_string();
    for part in ["time", "edge", "upstream"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
}

/// Whether a process has a handler for SIGTERM (proc(5), `SigCgt`).
fn catches_sigterm(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << 14 != 0
}

/// The error log of an edge that refused one request, with these variables.
fn errors_with(variables: &[(&str, &str)]) -> String {
    let (address, dir) = (free_address(), tempfile::tempdir().unwrap());
    let setup = Setup::new(guarded("http://127.0.0.1:9", bearer("http://127.0.0.1:9"))).listen(address);
    let config = setup.write(dir.path(), free_address()).unwrap();
    let mut child = Command::new(binary())
        .args(["run", "--config"])
        .arg(config)
        .env_remove("KONG_LOG_LEVEL")
        .env_remove("EDGE_LOG_LEVEL")
        .envs(variables.iter().copied())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // At this level nothing says that it is ready: it serves, and SIGTERM no longer kills it outright.
    let end = Instant::now() + READY;
    while (TcpStream::connect(address).is_err() || !catches_sigterm(child.id())) && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(Client::connect(address).ask(get("/", &[])).status(), 401);
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), nix::sys::signal::Signal::SIGTERM).unwrap();
    let mut text = String::new();
    child.stderr.take().unwrap().read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    text.to_lowercase()
}

#[test]
fn the_level_comes_from_the_environment_too() {
    // S0.8
    let quiet = errors_with(&[("KONG_LOG_LEVEL", "error")]);
    assert!(!quiet.contains("bearer") && !quiet.contains("listening"), "{quiet}");
    let loud = errors_with(&[("KONG_LOG_LEVEL", "error"), ("EDGE_LOG_LEVEL", "info")]);
    assert!(loud.contains("bearer") && loud.contains("listening"), "{loud}");
}
