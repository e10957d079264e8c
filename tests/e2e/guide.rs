//! The README's troubleshooting guide, row by row: a real edge shows the symptom, what the row quotes stands in logs or is
//! printed by the commands it names, and with the row's fix the request passes. `ROWS` and the README say the same.

mod changing;
mod intermittent;
mod never;
mod refused;

use std::path::Path;

use edge_tests::edge::{Edge, Setup};
use edge_tests::issuer::Issuer;
use edge_tests::mint::{self, Key, with};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Message, get};
use edge_user::reason::Reason;
use serde_json::{Value, json};

use super::explain::{explain, run};
use super::{AUDIENCE, bearer, entities, guarded, plus, with_token};

/// One row of the guide.
struct Row {
    /// How its first cell begins.
    symptom: &'static str,
    /// What the client gets.
    status: u16,
    /// In the access log; empty where the edge has none.
    reason: &'static str,
    /// What the second cell quotes beside the reason.
    shows: &'static [&'static str],
    /// What the last cell quotes, and the test uses.
    fix: &'static [&'static str],
}

/// The rows in the guide's order, and a test for each.
macro_rules! rows {
    ($($module:ident :: $scene:ident: $symptom:literal, $status:literal $reason:literal, $shows:expr, $fix:expr;)+) => {
        const ROWS: &[Row] =
            &[$(Row { symptom: $symptom, status: $status, reason: $reason, shows: &$shows, fix: &$fix }),+];

        $(
            #[test]
            fn $scene() {
                $module::$scene(ROWS.iter().find(|row| row.symptom == $symptom).unwrap());
            }
        )+
    };
}

rows! {
    never::no_field: "401, yet the client sends", 401 "header_missing",
        ["no bearer token was sent", "FAIL credential"], ["bearer_token_header_name"];
    never::no_form: "401, the header arrives", 401 "header_malformed",
        ["expected one field with a scheme and a token, no quotes"], ["Authorization: Bearer <token>"];
    never::two_fields: "400 through the F5", 400 "header_malformed", ["the field came twice"], [];
    never::two_places: "400 from some clients", 400 "token_in_query",
        ["a bearer token was sent in more than one place"], [];
    never::too_large: "401 for users in many groups", 401 "token_too_large", ["FAIL shape"], [];
    never::cut: "401, it was a JWT", 401 "token_malformed", ["FAIL payload"], [];
    never::opaque: "401 for an opaque token", 401 "introspection_unavailable",
        ["FAIL introspection", "nobody to ask about it"], ["auth_methods", "introspection", "client_id", "client_secret"];
    refused::issuer: "401, `iss` looks right", 401 "issuer_not_allowed", ["FAIL issuer"], ["issuers_allowed"];
    refused::audience: "403, the scope is there", 403 "audience_not_allowed",
        ["FAIL audience", "found aud \"api://other\""], ["audience_required", "audience_claim"];
    refused::expired: "401 shortly before or after", 401 "token_expired", ["FAIL time", "token expired"], ["leeway"];
    refused::clock: "401 for new tokens alone", 401 "token_not_yet_valid",
        ["FAIL time", "ahead of this one", "operator: set the clocks (NTP)", "warning clock"], ["leeway"];
    refused::scope: "403, the audience is there", 403 "scope_missing", ["FAIL scopes", "found scope absent"],
        ["scopes_claim"];
    refused::role: "403 for a user with the role", 403 "role_missing", ["FAIL roles", "found roles absent"],
        ["roles_claim"];
    refused::algorithm: "401 since the issuer signs", 401 "alg_not_allowed", ["FAIL algorithm", "found alg ES256"],
        ["algorithms_allowed"];
    refused::signature: "401, every claim is right", 401 "signature_invalid",
        ["FAIL signature", "signature verification failed"], [];
    refused::other_set: "401, the signing key is", 401 "kid_unknown", ["FAIL key"], ["extra_jwks_uris"];
    refused::keys: "503 with `Retry-After`", 503 "keys_unavailable",
        ["could not get jwks", "status 502", "failed discovery"], [];
    refused::authority: "503 since the issuer has a certificate", 503 "keys_unavailable", ["UnknownIssuer"],
        ["SSL_CERT_FILE"];
    refused::id_token: "401, the token came with the login", 401 "id_token_used", ["FAIL id_token"],
        ["id_tokens_refused: false"];
    refused::addresses: "403 for everybody behind", 403 "address_not_allowed", ["client"],
        ["trusted_ips", "real_ip_header = \"X-Forwarded-For\""];
    refused::scheme: "426 behind the F5", 426 "https_required", [], ["trusted_ips", "X-Forwarded-Proto"];
    refused::proof: "401 with DPoP behind", 401 "proof_invalid", ["FAIL proof_of_possession"], ["trusted_ips"];
    changing::revoked: "401 minutes after the logout", 401 "token_inactive",
        ["FAIL introspection", "token active:false"], ["cache_ttl_max", "cache_introspection: false", "cache_ttl: 0"];
    changing::revoked_jwt: "200 with a revoked JWT", 200 "", [". introspection not required"],
        ["introspect_jwt_tokens: true"];
    changing::rotated: "401 for minutes after a rotation", 401 "kid_unknown", ["FAIL key"], ["rediscovery_lifetime"];
    changing::nodes: "401 for a steady share", 401 "issuer_not_allowed", ["FAIL issuer"],
        ["issuers_allowed", "extra_jwks_uris"];
    changing::restarted: "503 right after a restart", 503 "keys_unavailable", ["could not get jwks"], ["[store]", "path"];
    changing::not_reloaded: "the same refusal after", 403 "audience_not_allowed",
        ["configuration refused, the old one stays in force", "audience_requird"], ["edge check"];
    changing::one_consumer: "403 for one consumer", 403 "consumer_unknown",
        ["kong consumer was not found", "credential", "FAIL consumer"], ["consumer_by"];
    intermittent::one_client: "401 for one client", 401 "grant_refused", ["invalid_client"], [];
    intermittent::own_client: "503 for opaque tokens alone", 503 "introspection_failed",
        ["failed introspection", "the issuer refuses the edge's own credentials"], ["client_auth"];
    intermittent::slow: "503 in bursts", 503 "introspection_failed", ["no answer in time"], ["key_wait", "timeout"];
    intermittent::no_token: "502, `Failed to authenticate", 502 "upstream_token_failed",
        ["invalid_request", "Unsupported client authentication method"], ["client.auth_method"];
    intermittent::refused_post: "401 for a POST now", 401 "", ["upstream", "an upstream refuses the token"], [];
    intermittent::own_401: "401 of the service", 401 "", ["upstream", "verdict passes"],
        ["upstream_access_token_header: authorization:bearer"];
    intermittent::added: "401 of the service, though", 401 "", ["upstream"], ["add", "replace", "upstream-oauth"];
    intermittent::no_channel: "500 for every request", 500 "token_unlocated", ["every request gets 500"],
        ["channel_token_optional: true"];
    intermittent::no_key: "500 for good tokens", 500 "signing_failed", ["key set cannot be had"],
        ["access_token_keyset"];
    intermittent::no_set: "401 from `jwt-signer`", 401 "kid_unknown", ["FAIL key"], ["access_token_jwks_uri"];
    intermittent::other_keys: "401 of the service after", 401 "", ["in memory: a restart has others"],
        ["private_keys", "sealed"];
    intermittent::framing: "400 before any plugin", 400 "request_malformed", [], [];
}

/// An upstream and an issuer with one ES256 key; edges between them come and go.
struct Scene {
    upstream: Upstream,
    issuer: Issuer,
    key: Key,
}

impl Scene {
    fn start() -> Self {
        Self::before(Upstream::start())
    }

    fn before(upstream: Upstream) -> Self {
        let key = Key::es256("es-1");
        let issuer = Issuer::start(&[&key]);
        Self { upstream, issuer, key }
    }

    /// An edge that guards the upstream, with more of openid-connect's configuration.
    fn edge(&self, config: Value) -> Edge {
        self.set_up(config, |setup| setup)
    }

    fn set_up(&self, config: Value, change: impl FnOnce(Setup) -> Setup) -> Edge {
        change(Setup::new(self.entities(config))).start()
    }

    fn entities(&self, config: Value) -> String {
        guarded(&self.upstream.url(), plus(bearer(&self.issuer.url()), config))
    }

    /// An edge with these plugins on its one route.
    fn plugins(&self, plugins: Value, change: impl FnOnce(Setup) -> Setup) -> Edge {
        let route = json!([{"name": "all", "paths": ["/"], "strip_path": false, "plugins": plugins}]);
        change(Setup::new(entities(&self.upstream.url(), route))).start()
    }

    /// A good token but for these claims.
    fn token(&self, changes: Value) -> String {
        self.key.token(&with(mint::claims(&self.issuer.url(), AUDIENCE), changes))
    }
}

/// The answer of an edge that forwards this token.
#[track_caller]
fn passes(edge: &Edge, token: &str) {
    let answer = edge.ask(with_token(token));
    assert_eq!(answer.status(), 200, "{} {}", answer.text(), edge.output());
}

/// A text with single spaces.
fn squeezed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

impl Row {
    /// The client gets the row's status, and the access log has its reason; gives the access line.
    #[track_caller]
    fn happens(&self, edge: &Edge, request: impl AsRef<[u8]>) -> Value {
        let answer = edge.ask(request);
        self.is_answer(edge, &answer)
    }

    #[track_caller]
    fn is_answer(&self, edge: &Edge, answer: &Message) -> Value {
        let id = answer.field("x-kong-request-id").expect("a request id").to_owned();
        let line = edge.access(|line| line["request_id"] == id.as_str());
        let seen = (answer.status(), line["reason"].as_str().unwrap_or_default());
        assert_eq!(seen, (self.status, self.reason), "{}: {}", self.symptom, edge.output());
        assert_eq!(line["upstream"].is_null(), !self.reason.is_empty(), "the edge answers, or the service: {line}");
        line
    }

    /// As `happens`, for a token of which `edge explain` says the same.
    #[track_caller]
    fn is_explained(&self, edge: &Edge, token: &str) {
        self.happens(edge, with_token(token));
        let said = explain(&edge.path("edge.toml"), &["--route", "all"], token);
        let verdict = format!("({}), reason {}: ", self.status, self.reason);
        assert!(said.out.contains(&verdict), "{verdict:?} is not in\n{}", said.out);
        self.shows(edge, &said.out);
    }

    /// Every quotation stands in this text or in the edge's logs.
    #[track_caller]
    fn shows(&self, edge: &Edge, text: &str) {
        let text = squeezed(text);
        for quoted in self.shows.iter().filter(|quoted| !text.contains(**quoted)) {
            let known = edge.accesses().text().contains(&format!("\"{quoted}\":"));
            assert!(known || edge.logged(quoted).contains(*quoted), "{quoted:?} is not in {text}\n{}", edge.output());
        }
    }
}

/// What `edge doctor` prints of a configuration.
fn doctor(config: &Path) -> String {
    let (_, out, err) = run("doctor", config, &[], "");
    format!("{out}{err}")
}

/// The guide: its text, and the cells of its tables' rows.
fn guide() -> (&'static str, Vec<Vec<&'static str>>) {
    const README: &str = include_str!("../../README.md");
    let (_, rest) = README.split_once("\n## Troubleshooting\n").expect("the guide");
    let text = rest.split("\n## ").next().unwrap_or_default();
    let lines = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| symptom"));
    let cells = |line: &'static str| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>();
    (text, lines.map(cells).filter(|cells| cells.len() == 4).collect())
}

/// What stands in backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// Quotations of the second cell that are commands and settings for looking rather than what is seen.
const LOOKS: [&str; 4] = ["edge explain", "edge doctor", "reason", "edge why"];

#[test]
fn the_readme_has_these_rows_and_no_others() {
    let (text, rows) = guide();
    let first: Vec<&str> = rows.iter().map(|cells| cells[0]).collect();
    assert_eq!(rows.len(), ROWS.len(), "{first:#?}");
    for (cells, row) in rows.iter().zip(ROWS) {
        let Row { symptom, status, reason, shows, fix } = row;
        assert!(cells[0].starts_with(symptom), "{symptom:?} is not the beginning of {:?}", cells[0]);
        let named = cells[0].get(..3).and_then(|code| code.parse().ok());
        assert!(named.is_none_or(|code: u16| code == *status), "{status}: {:?}", cells[0]);
        let seen: Vec<&str> = quoted(cells[1]).collect();
        match reason {
            &"" => assert!(cells[1].starts_with("no `reason`"), "{:?}", cells[1]),
            reason => assert_eq!(seen.first(), Some(reason), "{:?}", cells[1]),
        }
        for show in *shows {
            assert!(seen.contains(show), "{show:?} is not quoted in {:?}", cells[1]);
        }
        for show in &seen {
            assert!(
                show == reason || shows.contains(show) || LOOKS.contains(show),
                "{show:?} in {symptom:?} is not shown"
            );
        }
        let fixed: Vec<&str> = quoted(cells[3]).collect();
        assert_eq!(fixed, *fix, "{symptom:?}");
    }
    // What looks like a reason is one, and some row makes it.
    for code in quoted(text) {
        if Reason::ALL.iter().any(|reason| reason.code() == code) {
            assert!(ROWS.iter().any(|row| row.reason == code), "{code} is made by no row");
        }
    }
    for row in ROWS.iter().filter(|row| !row.reason.is_empty()) {
        assert!(Reason::ALL.iter().any(|reason| reason.code() == row.reason), "{} is no reason", row.reason);
    }
}

#[test]
fn three_commands_find_the_answer() {
    let scene = Scene::start();
    let edge = scene.edge(json!({}));
    let token = scene.token(json!({"aud": "api://other"}));
    let answer = edge.ask(with_token(&token));
    let id = answer.field("x-kong-request-id").unwrap();
    // The lines of both logs by the answer's id, and what the running edge remembers of it.
    let access = edge.access(|line| line["request_id"] == id);
    assert_eq!((&access["reason"], &access["route"]), (&json!("audience_not_allowed"), &json!("all")));
    let line = edge.logged(&format!("request_id=\"{id}\""));
    assert!(line.contains("audience not allowed"), "{line}");
    let why = edge.command(&["why", id]);
    let why = String::from_utf8_lossy(&why.stdout).into_owned();
    assert!(why.contains("403 audience_not_allowed at route all"), "{why}");
    let said = explain(&edge.path("edge.toml"), &["--route", "all"], &token);
    assert!(said.code == 1 && said.out.contains("FAIL  audience"), "{}", said.out);
    assert!(doctor(&edge.path("edge.toml")).contains("ok       discovery"));
    // The client is told no reason, unless that is wanted.
    assert!(!answer.field("proxy-status").unwrap_or_default().contains("audience"), "T17");
    let open = scene.set_up(json!({}), |setup| setup.section("[proxy]\nexpose_reason = true"));
    let answer = open.ask(with_token(&token));
    assert!(answer.field("proxy-status").unwrap().contains("audience_not_allowed"));
}
