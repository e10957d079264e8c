//! One issuer: its documents, its clock, its certificate, and whether it takes the edge's credentials.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use reqwest::Url;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Report;
use super::host::{days_left, listed};
use crate::crypto;
use crate::oauth::{FailureKind, Said};
use crate::plugin::jwt_signer::JwtSigner;
use crate::plugin::openid_connect::OpenidConnect;
use crate::tls::{self, ClientTls};
use crate::token::introspection::Extras;
use crate::token::keys::{Document, Error, KeySource, Survey};
use crate::trace::Check;

/// The check of who is asked about tokens.
const INTROSPECTION: &str = "introspection";
/// From here on clocks differ by too much.
const SKEW_MS: i64 = 5000;
/// For a connection of our own.
const CONNECT: Duration = Duration::from_secs(10);

/// Looks at the issuer of one instance.
pub(super) async fn examine(plugin: &OpenidConnect, route: &str, report: &mut Report) {
    let subject = format!("{} (route {route})", plugin.issuer());
    let mut metadata = None;
    if let Some(keys) = plugin.validator().keys() {
        let surveys = keys.survey().await;
        for survey in &surveys {
            documents(survey, report);
            if let Ok(Document::Metadata(known, whole)) = &survey.document {
                supports(plugin, whole, &subject, report);
                metadata = Some(known.clone());
            }
        }
        clock(&surveys, plugin.validator().settings().leeway, &subject, report);
        hosts(&surveys, report).await;
        if let Some(url) = metadata.and_then(|metadata| metadata.token_endpoint) {
            token_endpoint(keys, &url, plugin, report).await;
        }
    }
    introspection(plugin, &subject, report).await;
}

/// Looks at those who verify the tokens of a `jwt-signer`.
pub(super) async fn examine_signer(plugin: &JwtSigner, route: &str, report: &mut Report) {
    for (party, validator) in plugin.validators() {
        let subject = format!("{party} (route {route})");
        if let Some(keys) = validator.keys() {
            let surveys = keys.survey().await;
            surveys.iter().for_each(|survey| documents(survey, report));
            clock(&surveys, validator.settings().leeway, &subject, report);
            hosts(&surveys, report).await;
        }
        let Some(remote) = validator.remote() else { continue };
        match remote.who.ask(random_token().as_bytes(), &Extras::default()).await {
            Ok(said) => random(&said, &subject, report),
            Err(unanswered) => {
                let remedy =
                    "`…_introspection_endpoint` and `…_introspection_authorization`, and the client at the issuer";
                report.fail(INTROSPECTION, &subject, unanswered.fault, remedy);
            }
        }
    }
}

fn documents(survey: &Survey, report: &mut Report) {
    let url = &survey.url;
    match &survey.document {
        Ok(Document::Metadata(metadata, _)) => {
            report.ok("discovery", url, format!("issuer {:?}", metadata.issuer));
        }
        Ok(Document::Keys(keys)) => {
            let unused =
                keys.iter().filter_map(|(kid, why)| Some((kid.as_deref().unwrap_or("without kid"), why.as_ref()?)));
            for (kid, why) in unused {
                report.warn(
                    "jwks",
                    url,
                    format!("key {kid:?} is not used: {why}"),
                    "none is needed, where no token names it",
                );
            }
            report.ok("jwks", url, format!("{} usable keys", keys.iter().filter(|(_, why)| why.is_none()).count()));
        }
        Err(error) => {
            let area = match error {
                Error::Discovery { .. } | Error::Document { .. } | Error::Issuer { .. } => "discovery",
                Error::Fetch { .. } | Error::Set { .. } => "jwks",
            };
            let remedy = "the issuer's URL (`issuer`, `discovery`, `jwks_endpoint`), its network and its TLS trust";
            report.fail(area, url, super::chain(error), remedy);
        }
    }
}

/// Whether the issuer says that it can what the configuration wants (Kong's `verify_parameters`).
fn supports(plugin: &OpenidConnect, metadata: &Value, subject: &str, report: &mut Report) {
    let list = |name: &str| -> Option<Vec<&str>> {
        metadata.get(name)?.as_array().map(|list| list.iter().filter_map(Value::as_str).collect())
    };
    let algorithms: Vec<String> =
        plugin.validator().settings().algorithms.iter().map(|algorithm| format!("{algorithm:?}")).collect();
    if let Some(signs) = list("id_token_signing_alg_values_supported")
        && !signs.iter().any(|alg| algorithms.iter().any(|allowed| allowed == alg))
    {
        let found = format!("it says to sign by {signs:?}, and {algorithms:?} are taken");
        report.warn("discovery", subject, found, "`algorithms_allowed`");
    }
    if let Some(known) = list("scopes_supported") {
        let missing: Vec<&str> =
            plugin.scope().split(' ').filter(|scope| !scope.is_empty() && !known.contains(scope)).collect();
        if !missing.is_empty() {
            let found = format!("it does not list the required scopes {missing:?}");
            report.warn("discovery", subject, found, "`scopes_required`, or the issuer's scopes");
        }
    }
}

fn clock(surveys: &[Survey], leeway: Duration, subject: &str, report: &mut Report) {
    let Some(skew_ms) = surveys.iter().find_map(|survey| survey.skew_ms) else { return };
    let text = format!(
        "the issuer's clock is {:.1} s {} this one; leeway {} s",
        skew_ms.unsigned_abs() as f64 / 1000.0,
        if skew_ms < 0 { "behind" } else { "ahead of" },
        leeway.as_secs_f64()
    );
    match skew_ms.abs() > SKEW_MS {
        true => report.warn("clock", subject, text, "set the clocks (NTP), or a `leeway` above the difference"),
        false => report.ok("clock", subject, text),
    }
}

/// Names and certificates of the hosts that were asked.
async fn hosts(surveys: &[Survey], report: &mut Report) {
    let mut seen: Vec<(String, u16)> = Vec::new();
    for survey in surveys {
        let Ok(url) = Url::parse(&survey.url) else { continue };
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else { continue };
        let place = (host.to_owned(), port);
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        let name = host.trim_start_matches('[').trim_end_matches(']');
        match tokio::net::lookup_host((name, port)).await {
            Ok(addresses) => report.ok("dns", host, listed(addresses.map(|address| address.ip()))),
            Err(error) => report.fail("dns", host, error.to_string(), "the system's resolver (/etc/resolv.conf)"),
        }
        if url.scheme() == "https" {
            certificate(name, port, report).await;
        }
    }
}

async fn certificate(host: &str, port: u16, report: &mut Report) {
    let subject = format!("{host}:{port}");
    match tokio::time::timeout(CONNECT, last_day(host, port)).await {
        Ok(Ok(ends_ms)) => days_left("issuer_tls", &subject, ends_ms, report),
        Ok(Err(error)) => {
            let remedy =
                "the issuer's certificate, or its authority among the system's; fetches may go through a proxy";
            report.warn("issuer_tls", &subject, error, remedy);
        }
        Err(_) => {
            report.warn("issuer_tls", &subject, "no answer in time", "the network; fetches may go through a proxy")
        }
    }
}

/// The end of a server's certificate, which is verified.
async fn last_day(host: &str, port: u16) -> Result<i64, String> {
    let rules = tls::client_config(&ClientTls::default()).map_err(|error| error.to_string())?;
    let name = ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let tcp = TcpStream::connect((host, port)).await.map_err(|error| error.to_string())?;
    let session = TlsConnector::from(rules).connect(name, tcp).await.map_err(|error| error.to_string())?;
    let certificate = session.get_ref().1.peer_certificates().and_then(|chain| chain.first()).cloned();
    let certificate = certificate.and_then(|der| tls::ClientCertificate::read(der.into_owned()));
    certificate.map(|certificate| certificate.ends_unix_ms()).ok_or_else(|| "no certificate".to_owned())
}

/// Any answer will do: a grant is the business of requests.
async fn token_endpoint(keys: &KeySource, url: &str, plugin: &OpenidConnect, report: &mut Report) {
    match keys.reach(url).await {
        Ok(status) => report.ok("token_endpoint", url, format!("answers ({status} to an empty GET)")),
        Err(error) => {
            let (text, remedy) = (super::chain(&error), "the network between, and the issuer's TLS trust");
            match plugin.demand(Check::Grant).is_some() {
                true => report.fail("token_endpoint", url, text, remedy),
                false => report.warn("token_endpoint", url, text, remedy),
            }
        }
    }
}

/// Asks about a token that nobody ever got.
async fn introspection(plugin: &OpenidConnect, subject: &str, report: &mut Report) {
    let Some(asked) = plugin.introspection() else { return };
    match asked.ask(random_token().as_bytes(), &Extras::default()).await {
        Ok(said) => random(&said, subject, report),
        Err(failure) => {
            let remedy = match failure.kind {
                FailureKind::Credentials => {
                    "`client_id`, `client_secret` and `client_auth`, and the client at the issuer"
                }
                FailureKind::NoEndpoint => "`introspection_endpoint`, which the issuer does not name",
                _ => "the endpoint's URL, its network and its TLS trust",
            };
            report.fail(INTROSPECTION, subject, super::chain(&failure), remedy);
        }
    }
}

fn random_token() -> String {
    URL_SAFE_NO_PAD.encode(crypto::random::<24>())
}

/// What an issuer said of a random token.
fn random(said: &Said, subject: &str, report: &mut Report) {
    match said {
        Said::Inactive => report.ok(INTROSPECTION, subject, "takes the edge's credentials, and knows no random token"),
        Said::Active { .. } => {
            let remedy = "the endpoint's URL and the issuer: it says so of every token";
            report.fail(INTROSPECTION, subject, "says that a random token is active", remedy);
        }
    }
}
