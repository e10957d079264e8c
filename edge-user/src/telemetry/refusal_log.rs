//! One warning for each refusal, with the words an operator greps for, at a bounded rate.
//!
//! Each worker may write 20 lines of one reason at once and 10 a second after that. What is held back is counted and
//! reported in a line of its own; the access log and the counters have every refusal.

use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::cut;
use crate::reason::Reason;

const BURST: u32 = 20;
const REFILL: Duration = Duration::from_millis(100);

/// What a line says of a refusal, beside its reason's phrase.
#[derive(Clone, Copy, Debug)]
pub struct Refusal<'a> {
    /// Who refuses: the plugin.
    pub plugin: &'a str,
    /// Why.
    pub reason: Reason,
    /// As sent in `X-Kong-Request-Id`.
    pub request_id: &'a str,
    /// The client's address.
    pub client: IpAddr,
    /// The route's name, or its id.
    pub route: Option<&'a str>,
    /// The service's name, or its id.
    pub service: Option<&'a str>,
    /// The consumer, where one was found before the refusal.
    pub consumer: Option<&'a str>,
    /// The id of its credential, which a verified claim gave before the refusal.
    pub credential: Option<&'a str>,
    /// The issuer as configured; never one a token merely claims.
    pub issuer: Option<&'a str>,
}

#[derive(Clone, Copy)]
struct Budget {
    lines: u32,
    refilled: Instant,
    held_back: u64,
}

/// A worker's refusals on their way to the error log.
pub struct RefusalLog {
    budgets: Vec<Budget>,
}

impl RefusalLog {
    /// A full budget for every reason.
    pub fn new(now: Instant) -> Self {
        Self { budgets: vec![Budget { lines: BURST, refilled: now, held_back: 0 }; Reason::ALL.len()] }
    }

    /// Writes one line within the budget. `detail` says what was found and expected, never the token; it is not asked
    /// for when the line is held back.
    pub fn note<D: fmt::Display>(&mut self, now: Instant, refusal: &Refusal<'_>, detail: impl FnOnce() -> D) {
        let budget = &mut self.budgets[refusal.reason.index()];
        let earned = now.saturating_duration_since(budget.refilled).as_millis() / REFILL.as_millis();
        if earned > 0 {
            budget.lines = BURST.min(budget.lines.saturating_add(u32::try_from(earned).unwrap_or(BURST)));
            budget.refilled = now;
        }
        if budget.lines == 0 {
            budget.held_back += 1;
            return;
        }
        budget.lines -= 1;
        report(refusal.reason, &mut budget.held_back);
        tracing::warn!(
            target: "edge",
            reason = refusal.reason.code(),
            route = refusal.route,
            service = refusal.service,
            consumer = refusal.consumer,
            credential = refusal.credential.map(cut),
            issuer = refusal.issuer,
            client = %refusal.client,
            request_id = refusal.request_id,
            "[{}] {}: {}",
            refusal.plugin,
            refusal.reason.phrase(),
            detail(),
        );
    }

    /// Reports what was held back since; a timer of about a second calls this, so a flood's last
    /// count is not kept forever.
    pub fn flush(&mut self) {
        for (reason, budget) in Reason::ALL.iter().zip(&mut self.budgets) {
            report(*reason, &mut budget.held_back);
        }
    }
}

fn report(reason: Reason, held_back: &mut u64) {
    if *held_back > 0 {
        let count = std::mem::take(held_back);
        tracing::warn!(target: "edge", reason = reason.code(), count, "more refusals, not logged one by one: {}", reason.phrase());
    }
}

#[cfg(test)]
mod tests {
    use super::super::error_log::tests::logged;
    use super::*;
    use crate::settings::Level;

    fn refusal(reason: Reason) -> Refusal<'static> {
        Refusal {
            plugin: "openid-connect",
            reason,
            request_id: "0f3a",
            client: IpAddr::from([192, 0, 2, 7]),
            route: Some("orders"),
            service: None,
            consumer: None,
            credential: None,
            issuer: Some("https://idp.example"),
        }
    }

    /// L4.
    #[test]
    fn a_line_names_check_route_and_issuer() {
        let lines = logged(Level::Warn, || {
            let now = Instant::now();
            RefusalLog::new(now).note(now, &refusal(Reason::TokenExpired), || "exp 100, now 200");
        });
        assert_eq!(lines.len(), 1);
        for part in [
            "[openid-connect]",
            "token expired",
            "invalid exp claim",
            "exp 100, now 200",
            "reason=\"token_expired\"",
            "route=\"orders\"",
            "issuer=\"https://idp.example\"",
            "client=192.0.2.7",
            "request_id=\"0f3a\"",
        ] {
            assert!(lines[0].contains(part), "{part} in {}", lines[0]);
        }
    }

    /// S0.9, and the words S0.1 filters by.
    #[test]
    fn phrases_hold_the_words_operators_know() {
        for (reason, ours, kongs) in [
            (
                Reason::SignatureInvalid,
                "signature verification failed",
                "unable to verify bearer token (invalid signature",
            ),
            (Reason::TokenExpired, "token expired", "unable to verify bearer token (invalid exp claim"),
            (Reason::TokenNotYetValid, "not yet valid", "unable to verify bearer token (invalid nbf claim"),
            (Reason::AudienceNotAllowed, "audience not allowed", "audience"),
            (Reason::IssuerNotAllowed, "issuer not allowed", "unable to verify bearer token (invalid issuer"),
            (Reason::KeysUnavailable, "could not get jwks", "jwks"),
            (Reason::ConsumerUnknown, "bearer", "kong consumer was not found"),
        ] {
            assert!(reason.phrase().contains(ours) && reason.phrase().contains(kongs), "{}", reason.phrase());
        }
        let words = ["oidc", "jwt", "introspect", "jwks", "bearer", "signature", "aud", "iss"];
        for reason in Reason::ALL.iter().filter(|reason| reason.concerns_token()) {
            let phrase = reason.phrase().to_ascii_lowercase();
            assert!(words.iter().any(|word| phrase.contains(word)), "{phrase}");
        }
    }

    #[test]
    fn a_flood_is_held_back_counted_and_does_not_hide_other_reasons() {
        let mut asked = 0;
        let lines = logged(Level::Warn, || {
            let start = Instant::now();
            let mut log = RefusalLog::new(start);
            for _ in 0..1000 {
                log.note(start, &refusal(Reason::SignatureInvalid), || {
                    asked += 1;
                    "bad"
                });
            }
            log.note(start, &refusal(Reason::TokenExpired), || "other");
            log.note(start + REFILL, &refusal(Reason::SignatureInvalid), || "later");
            log.flush();
        });
        assert_eq!(asked, BURST);
        assert_eq!(lines.len() as u32, BURST + 3);
        let tail = &lines[BURST as usize..];
        assert!(tail[0].contains("other") && tail[1].contains("count=980") && tail[2].contains("later"), "{tail:?}");
    }

    #[test]
    fn the_last_count_is_reported_without_another_refusal() {
        let lines = logged(Level::Warn, || {
            let start = Instant::now();
            let mut log = RefusalLog::new(start);
            (0..BURST + 5).for_each(|_| log.note(start, &refusal(Reason::RouteNotFound), || ""));
            log.flush();
            log.flush();
        });
        assert!(lines.last().unwrap().contains("count=5"));
        assert_eq!(lines.len() as u32, BURST + 1);
    }
}
