//! Every case of the corpus against the edge: answers, reason codes, what the upstream counts, and what becomes of the
//! connection.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};
use edge_tests::corpus::{self, AFTER, Action, Case, End, Reading, Step, Then};
use edge_tests::edge::{Edge, Setup};
use edge_tests::upstream::Upstream;
use edge_tests::wire::{Client, Message, get, until_read};
use serde_json::{Value, json};

use super::LANES;

/// The limits the corpus speaks of; waits short enough to be waited for.
const SETTINGS: &str = "[limits]\nbody_bytes = 100000\n[timeouts]\nrequest_head = 1500\nrequest_body = 1500\n";

/// An edge and its upstream, used by one case at a time.
struct Lane {
    edge: Edge,
    upstream: Upstream,
    /// Cases with the id of an answer of the edge's own, and the reason that the access log must have for it.
    reasons: Vec<(String, String, String)>,
}

impl Lane {
    fn start() -> Self {
        let upstream = Upstream::start();
        let closed = json!([{"name": "request-termination", "config": {"status_code": 403, "message": "closed"}}]);
        let all = json!({"name": "all", "paths": ["/"], "strip_path": false, "preserve_host": true});
        let secret = json!({"name": "secret", "paths": ["/secret"], "plugins": closed});
        let items = json!({"name": "items", "methods": ["DELETE"], "paths": ["/items"], "plugins": closed});
        let internal = json!({"name": "internal", "hosts": ["internal.test"], "plugins": closed});
        let entities = crate::entities(&upstream.url(), json!([all, secret, items, internal]));
        // One worker: its pooled upstream connection carries what follows a case, so that nothing left on it stays unseen.
        let edge = Setup::new(entities).workers(1).section(SETTINGS).start();
        Self { edge, upstream, reasons: Vec::new() }
    }

    fn check(&mut self, case: &Case) -> Result<()> {
        let exchange = Exchange { client: self.edge.connect(), left: &case.steps, answers: Vec::new() };
        let outcome = exchange.run(case);
        // On the same upstream connection, behind whatever the case may have left there.
        let probe = self.edge.ask(get("/probe", &[]));
        let mut seen = self.upstream.take();
        let last = seen.pop().map(|message| message.target().to_owned());
        ensure!(probe.status() == 200 && last.as_deref() == Some("/probe"), "the probe was not the last: {last:?}");
        let readings: Vec<Reading> = seen.iter().map(Reading::of).collect();
        let outcome = outcome.with_context(|| format!("the upstream read {readings:?}"))?;
        let mut expected = case.readings();
        if outcome.went_on && case.end == End::Either {
            expected.push(corpus::after());
        }
        let same = readings.len() == expected.len() && readings.iter().zip(&expected).all(|(a, b)| a.is(b));
        ensure!(same, "the upstream read {readings:?}");
        ensure!(self.upstream.faults().is_empty(), "broken upstream: {:?}", self.upstream.faults());
        fields(case, &seen)?;
        for (answer, reason) in outcome.answers {
            let id = answer.field("x-kong-request-id").context("an answer without a request id")?.to_owned();
            self.reasons.push((case.name.clone(), id, reason));
        }
        Ok(())
    }

    /// Ends the edge in order, and looks for every reason in its access log.
    fn end(self, pid: u32) {
        // D6: the process is the one that began.
        assert_eq!(self.edge.pid(), pid);
        let (access, errors) = self.edge.stop();
        assert!(!errors.text().contains("panicked"), "{}", errors.text());
        let lines = access.lines();
        let lines = lines.iter().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let logged: HashMap<String, Value> =
            lines.map(|line| (line["request_id"].as_str().unwrap_or("").to_owned(), line["reason"].clone())).collect();
        assert!(!self.reasons.is_empty(), "nothing was refused");
        for (case, id, reason) in self.reasons {
            assert_eq!(logged.get(&id).and_then(Value::as_str), Some(reason.as_str()), "{case}");
        }
    }
}

/// The fields that must, or must not, have reached the upstream.
fn fields(case: &Case, seen: &[Message]) -> Result<()> {
    let passed = case.steps.iter().filter(|step| matches!(step, Step::Passes(_))).count();
    for check in &case.checks {
        let message = seen.get(if check.last { passed - 1 } else { 0 }).context("nothing to look at")?;
        let fields = if check.trailer { &message.trailers } else { &message.fields };
        let found = fields
            .iter()
            .any(|(name, value)| *name == check.name && check.value.as_ref().is_none_or(|wanted| wanted == value));
        ensure!(found == check.present, "{check:?}, of {fields:?}");
    }
    Ok(())
}

/// What a case came to.
struct Outcome {
    /// The edge's own answers, with the reason each must have.
    answers: Vec<(Message, String)>,
    /// Whether the request that follows was served.
    went_on: bool,
}

/// One case under way.
struct Exchange<'a> {
    client: Client,
    left: &'a [Step],
    answers: Vec<(Message, String)>,
}

impl Exchange<'_> {
    fn run(mut self, case: &Case) -> Result<Outcome> {
        let mut sent = false;
        for action in &case.actions {
            // Pieces arrive apart.
            if sent {
                until_read(self.client.socket());
            }
            sent = matches!(action, Action::Send(_));
            match action {
                // What is refused early may be closed before all of it is sent.
                Action::Send(bytes) => drop(self.client.try_send(bytes)),
                Action::Wait => self.answer()?,
            }
        }
        match case.then {
            Then::Follows => drop(self.client.try_send(format!("GET {AFTER} HTTP/1.1\r\nHost: t\r\n\r\n"))),
            Then::Ends => self.client.finish(),
            Then::Holds => {}
        }
        while !self.left.is_empty() {
            self.answer()?;
        }
        let went_on = match case.end {
            End::Closed => {
                ensure!(self.client.closes(), "the connection goes on");
                false
            }
            End::Open => self.after().context("the connection does not go on")?,
            End::Either => self.after().unwrap_or(false),
        };
        Ok(Outcome { answers: self.answers, went_on })
    }

    /// The answer to the request that follows.
    fn after(&mut self) -> Result<bool> {
        let answer = self.client.try_response("GET")?;
        ensure!(answer.status() == 200 && answer.text() == "ok", "{:?} to {AFTER}", answer.start);
        Ok(true)
    }

    /// Reads one answer and holds it against what comes next.
    fn answer(&mut self) -> Result<()> {
        let Some((step, left)) = self.left.split_first() else { bail!("nothing more is expected") };
        self.left = left;
        let (method, status) = match step {
            Step::Continues => ("GET", 100),
            Step::Passes(reading) => (reading.method.as_str(), 200),
            Step::Answered { status, .. } => ("GET", *status),
        };
        let answer = self.client.try_response(method).with_context(|| format!("{step:?}"))?;
        ensure!(answer.status() == status, "{:?} for {step:?}", answer.start);
        if let Step::Answered { status, reason } = step {
            // 505 is the client's fault by its meaning; every other 5xx would be ours.
            ensure!(*status < 500 || *status == 505, "{status} for bad input");
            self.answers.push((answer, reason.clone()));
        }
        Ok(())
    }
}

#[test]
fn every_case_has_its_verdict() {
    // H1 to H19, P1 to P6, D3, D6: the verdict of each case, its reason in the access log, and an upstream that counts.
    let cases = corpus::load().unwrap();
    let lanes: Vec<Lane> = (0..LANES).map(|_| Lane::start()).collect();
    let pids: Vec<u32> = lanes.iter().map(|lane| lane.edge.pid()).collect();
    let lanes = super::run(lanes, &cases, |lane, case| lane.check(case));
    lanes.into_iter().zip(pids).for_each(|(lane, pid)| lane.end(pid));
}
