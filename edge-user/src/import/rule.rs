//! iRules → cases. Statements are walked in the order of their events and priorities; nothing is run.
//!
//! What a statement means is in `actions`, what an expression means in `expr`. A statement that cannot be had is given to
//! the ledger whole, and the rest of the rule goes on without it.

use std::collections::{BTreeMap, BTreeSet};

use super::actions;
use super::change::Change;
use super::decisions::{Decisions, join};
use super::expr::{arms, operator};
use super::gaps;
use super::guarded;
use super::ledger::{Ledger, Span};
use super::matching::Unfit;
use super::model::{Model, Object};
use super::outcome::{Cases, MAX_CASES, Outcome};
use super::scope::Scope;
use super::shape::Shape;
use super::tcl::{self, Command, Word};
use super::text::{Part, Side, Text};

/// Deepest nesting of `if` and `switch`.
const MAX_DEPTH: usize = 16;
/// TMM's priority of an event where a rule says none.
const PRIORITY: u32 = 500;

/// The rules of one virtual server.
pub(super) struct Rules<'a> {
    /// All objects.
    pub(super) model: &'a Model,
    /// Where lines are claimed.
    pub(super) ledger: &'a Ledger,
    /// The folder of the rule that is read.
    pub(super) folder: String,
    /// The file of the rule that is read.
    pub(super) file: usize,
    /// What `RULE_INIT` set.
    pub(super) statics: BTreeMap<String, Text>,
    /// Changes of answers' fields.
    pub(super) response: Vec<Change>,
    /// What else http-profile does.
    pub(super) shape: Shape,
    /// The fields of answers that are left, where the others were taken out.
    pub(super) left: Option<BTreeSet<String>>,
    /// Whether answers are looked at now, not requests.
    pub(super) in_response: bool,
    /// Whether the event is there for clients with a certificate alone.
    pub(super) of_certificate: bool,
    /// Variables that events set which are not read.
    pub(super) unsure: BTreeSet<String>,
    is_tls: bool,
    depth: usize,
}

struct Handler<'o> {
    rule: &'o Object,
    event: String,
    priority: u32,
    body: Word,
}

/// Events whose statements are those of a request.
const REQUEST_EVENTS: [&str; 5] =
    ["CLIENT_ACCEPTED", "CLIENTSSL_HANDSHAKE", "CLIENTSSL_CLIENTCERT", "HTTP_REQUEST", "HTTP_REQUEST_SEND"];
/// Events whose statements are those of an answer.
const RESPONSE_EVENTS: [&str; 2] = ["HTTP_RESPONSE", "HTTP_RESPONSE_RELEASE"];

impl<'a> Rules<'a> {
    /// For one virtual server, with what its profiles have for http-profile, and whether it speaks TLS.
    pub(super) fn new(model: &'a Model, ledger: &'a Ledger, shape: Shape, is_tls: bool) -> Self {
        Self {
            model,
            ledger,
            folder: String::new(),
            file: 0,
            statics: BTreeMap::new(),
            response: Vec::new(),
            shape,
            left: None,
            in_response: false,
            of_certificate: false,
            unsure: BTreeSet::new(),
            is_tls,
            depth: 0,
        }
    }

    /// Walks rules, behind what is known of requests already.
    pub(super) fn walk(&mut self, rules: &[&Object], mut cases: Cases) -> Cases {
        let mut handlers = Vec::new();
        for rule in rules {
            rule.mark();
            handlers.extend(self.handlers(rule));
        }
        // Stable: rules of one priority stay in the order of the virtual server.
        handlers.sort_by_key(|handler| handler.priority);
        for event in ["RULE_INIT"].iter().chain(&REQUEST_EVENTS).chain(&RESPONSE_EVENTS) {
            // Nobody shakes hands in clear text.
            if *event == "CLIENTSSL_HANDSHAKE" && !self.is_tls {
                continue;
            }
            self.in_response = RESPONSE_EVENTS.contains(event);
            self.of_certificate = *event == "CLIENTSSL_CLIENTCERT";
            for handler in handlers.iter().filter(|handler| handler.event == *event) {
                self.folder = handler.rule.folder().to_owned();
                self.file = handler.rule.node.span.file;
                // What one event ended, the next begins.
                for (_, outcome) in &mut cases {
                    outcome.ended = outcome.answer.is_some();
                }
                if *event == "RULE_INIT" {
                    self.statics(&handler.body);
                } else {
                    match self.script(&handler.body, cases.clone()) {
                        Ok(next) => cases = next,
                        Err(why) => {
                            let lines = handler.body.text.matches('\n').count() as u32;
                            let span = self.span(handler.body.line, handler.body.line + lines);
                            self.ledger.opened(span, why);
                            self.forget(&handler.body.text, &mut cases);
                        }
                    }
                }
            }
        }
        for rule in rules {
            // Braces, and bodies that never come to be walked.
            self.ledger.rest(rule.node.span, super::ledger::Bin::Translated, "");
        }
        cases
    }

    fn handlers<'o>(&mut self, rule: &'o Object) -> Vec<Handler<'o>> {
        let Some((text, line)) = &rule.node.script else { return Vec::new() };
        let file = rule.node.span.file;
        let commands = match tcl::parse(text, *line) {
            Ok(commands) => commands,
            Err(error) => {
                self.ledger.opened(rule.node.span, format!("no Tcl ({error}, line {})", error.line));
                return Vec::new();
            }
        };
        let mut handlers = Vec::new();
        for command in commands {
            let span = Span { file, first: command.first, last: command.last };
            let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
            let (event, priority) = match words.as_slice() {
                ["when", event, _] => (*event, PRIORITY),
                ["when", event, "priority", number, _] => (*event, number.parse().unwrap_or(PRIORITY)),
                ["when", ..] => {
                    self.lost(&command, file, "`when` with words that the importer does not know");
                    continue;
                }
                ["priority", _]
                | ["timing", _]
                | ["definition-signature" | "verification-signature" | "definition-checksum", ..] => {
                    self.ledger.translated(span);
                    continue;
                }
                _ => {
                    self.lost(&command, file, &gaps::command(command.word(0)));
                    continue;
                }
            };
            let is_known = event == "RULE_INIT" || REQUEST_EVENTS.contains(&event) || RESPONSE_EVENTS.contains(&event);
            if !is_known {
                self.lost(&command, file, &unknown_event(event));
                self.unsure.extend(command.words.iter().flat_map(|word| assigned(&word.text)).map(str::to_owned));
                continue;
            }
            self.ledger.translated(span.head());
            let body = command.words.last().cloned();
            handlers.extend(body.map(|body| Handler { rule, event: event.to_owned(), priority, body }));
        }
        handlers
    }

    fn statics(&mut self, body: &Word) {
        for command in tcl::parse(&body.text, body.line).unwrap_or_default() {
            let span = self.span(command.first, command.last);
            let value = match command.words.as_slice() {
                [set, name, value] if set.text == "set" => {
                    self.scope(&Outcome::default()).text(value).ok().map(|text| (name.text.clone(), text))
                }
                _ => None,
            };
            match value {
                Some((name, text)) if text.constant().is_some() => {
                    self.statics.insert(name.trim_start_matches("::").to_owned(), text);
                    self.ledger.translated(span);
                }
                _ => self.ledger.dropped(span, gaps::command(command.word(0))),
            }
        }
    }

    /// Lines of the file that is read.
    pub(super) fn span(&self, first: u32, last: u32) -> Span {
        Span { file: self.file, first, last }
    }

    /// What names mean here.
    pub(super) fn scope<'s>(&'s self, outcome: &'s Outcome) -> Scope<'s> {
        let (side, left) = match self.in_response {
            true => (Side::Answer, &self.left),
            false => (Side::Request, &outcome.left),
        };
        let (model, folder, left, statics) = (self.model, &self.folder, left.as_ref(), &self.statics);
        Scope { model, folder, outcome, left, statics, side, notes: Vec::new() }
    }

    /// Whether statements are those of every request.
    pub(super) fn is_unconditional(&self) -> bool {
        self.depth == 0
    }

    /// Forgets what a statement that is given up may set.
    fn forget(&self, text: &str, cases: &mut Cases) {
        for (_, outcome) in cases {
            for name in assigned(text) {
                if self.scope(outcome).known(name).is_some() {
                    let why = format!("the variable {name}, which a line that is not translated may set");
                    outcome.variables.insert(name.to_owned(), Text::of(Part::Other(why)));
                }
            }
        }
    }

    /// Gives a statement up.
    fn lost(&self, command: &Command, file: usize, why: &str) {
        let span = Span { file, first: command.first, last: command.last };
        match command.words.iter().any(|word| refuses(&word.text)) || refuses(command.word(0)) {
            true => self.ledger.opened(span, why),
            false => self.ledger.dropped(span, why),
        }
    }

    /// Walks the statements of a body.
    pub(super) fn script(&mut self, body: &Word, mut cases: Cases) -> Result<Cases, Unfit> {
        let commands =
            tcl::parse(&body.text, body.line).map_err(|error| format!("no Tcl ({error}, line {})", error.line))?;
        for command in &commands {
            match self.statement(command, &cases) {
                Ok(next) if next.len() <= MAX_CASES => cases = next,
                result => {
                    let why = result.err().unwrap_or_else(|| format!("more than {MAX_CASES} cases"));
                    self.lost(command, self.file, &why);
                    let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
                    self.forget(&words.join(" "), &mut cases);
                }
            }
        }
        Ok(cases)
    }

    fn statement(&mut self, command: &Command, cases: &Cases) -> Result<Cases, Unfit> {
        if matches!(command.word(0), "if" | "switch") {
            match guarded::take(self, command, cases) {
                Err(why) if self.in_response => return Err(why),
                // Routes of their own, then.
                Err(_) => {}
                done => return done,
            }
            self.depth += 1;
            let result = if self.depth > MAX_DEPTH {
                Err("conditions nest too deep".to_owned())
            } else {
                self.branches(command).and_then(|branches| self.branched(command, &branches, cases))
            };
            self.depth -= 1;
            return result;
        }
        actions::take(self, command, cases)
    }

    /// The conditions and bodies of an `if` or `switch`, one that is empty last where there is an `else`.
    pub(super) fn branches(&self, command: &Command) -> Result<Branches, Unfit> {
        if command.word(0) == "switch" {
            return self.switch(command);
        }
        let mut words = command.words[1..].iter();
        let mut branches = Vec::new();
        let unread = || "an `if` whose words the importer does not know".to_owned();
        loop {
            let condition = words.next().ok_or_else(unread)?;
            let mut body = words.next().ok_or_else(unread)?;
            if body.text == "then" {
                body = words.next().ok_or_else(unread)?;
            }
            branches.push((Question::Expression(condition.clone()), Some(body.clone())));
            match words.next().map(|word| word.text.as_str()) {
                None => return Ok(branches),
                Some("elseif") => {}
                Some("else") => {
                    branches.push((Question::Always, Some(words.next().ok_or_else(unread)?.clone())));
                    return Ok(branches);
                }
                Some(_) => return Err(unread()),
            }
        }
    }

    fn switch(&self, command: &Command) -> Result<Branches, Unfit> {
        let mut how = "equals";
        let mut any_case = false;
        let mut words = &command.words[1..];
        while let [first, rest @ ..] = words {
            match first.text.as_str() {
                "-glob" => how = "matches_glob",
                "-regexp" => how = "matches_regex",
                "-exact" => how = "equals",
                "-nocase" => any_case = true,
                "--" => {
                    words = rest;
                    break;
                }
                _ => break,
            }
            words = rest;
        }
        let [subject, rest @ ..] = words else { return Err("a `switch` over nothing".to_owned()) };
        let list = match rest {
            [one] => tcl::list(&one.text, one.line).map_err(|error| error.to_string())?,
            many => many.to_vec(),
        };
        let mut branches = Vec::new();
        for (patterns, body) in arms(&list)? {
            let is_default = patterns.iter().any(|pattern| pattern.text == "default");
            let question = match is_default {
                true => Question::Always,
                false => Question::Arm { subject: subject.clone(), how, any_case, patterns },
            };
            branches.push((question, Some(body)));
        }
        Ok(branches)
    }

    fn branched(
        &mut self,
        command: &Command,
        branches: &[(Question, Option<Word>)],
        cases: &Cases,
    ) -> Result<Cases, Unfit> {
        let mut all = Cases::new();
        for (when, outcome) in cases {
            if outcome.ended {
                all.push((when.clone(), outcome.clone()));
            } else {
                self.decide(branches, vec![(when.clone(), outcome.clone())], &mut all)?;
            }
            if all.len() > MAX_CASES {
                return Err(format!("more than {MAX_CASES} cases"));
            }
        }
        self.ledger.translated(self.span(command.first, command.first));
        Ok(all)
    }

    /// Takes one case through the branches; what comes of it is added to `all`.
    fn decide(&mut self, branches: &[(Question, Option<Word>)], case: Cases, all: &mut Cases) -> Result<(), Unfit> {
        if all.len() > MAX_CASES {
            return Err(format!("more than {MAX_CASES} cases"));
        }
        let Some(((question, body), rest)) = branches.split_first() else {
            all.extend(case);
            return Ok(());
        };
        let [(when, outcome)] = case.as_slice() else { return Ok(()) };
        let (decisions, notes, line) = self.question(question, outcome)?;
        // An `else` has no line that decides.
        let span = self.span(line, line);
        match notes.is_empty() {
            true => self.ledger.translated(span),
            false => notes.into_iter().for_each(|note| self.ledger.changed(span, note)),
        }
        for (condition, is) in decisions {
            if let Some(why) = condition.beyond_routes() {
                return Err(why.to_owned());
            }
            outcome.is_asked_in_time(&condition)?;
            let Some(both) = when.and(&condition)? else { continue };
            let mut outcome = outcome.clone();
            if is {
                outcome.spans.extend((line > 0).then_some(span));
                match body {
                    Some(body) => all.extend(self.script(body, vec![(both, outcome)])?),
                    None => all.push((both, outcome)),
                }
            } else {
                self.decide(rest, vec![(both, outcome)], all)?;
            }
        }
        Ok(())
    }

    /// The answer of a question, what is meant differently, and its line.
    pub(super) fn question(
        &self,
        question: &Question,
        outcome: &Outcome,
    ) -> Result<(Decisions, Vec<String>, u32), Unfit> {
        let mut scope = self.scope(outcome);
        let (decisions, line) = match question {
            Question::Always => (vec![(Default::default(), true)], 0),
            Question::Expression(word) => (scope.decide(&word.text, word.line)?, word.line),
            Question::Arm { subject, how, any_case, patterns } => {
                let mut text = scope.text(subject)?;
                text.lower |= any_case;
                let (operator, _) = operator(how).ok_or("a `switch` of an unknown kind")?;
                let mut texts = Vec::new();
                for pattern in patterns {
                    let pattern = scope.text(pattern)?.constant().ok_or("a pattern that depends on the request")?;
                    texts.push(if *any_case { pattern.to_lowercase() } else { pattern });
                }
                let line = patterns.first().map_or(subject.line, |pattern| pattern.line);
                if let [Part::Host, Part::Path | Part::Uri] = text.parts.as_slice() {
                    // Host and path go together, so that each pattern is a condition of its own.
                    let mut all: Decisions = vec![(Default::default(), false)];
                    for one in texts {
                        let next = scope.compare(&text, operator, &[one])?;
                        all = join(&all, &next, |a, b| a || b)?;
                    }
                    (all, line)
                } else {
                    (scope.compare(&text, operator, &texts)?, line)
                }
            }
        };
        Ok((decisions, scope.notes, line))
    }
}

/// Questions, and what is done where the answer is yes.
pub(super) type Branches = Vec<(Question, Option<Word>)>;

/// What decides about a branch.
pub(super) enum Question {
    /// Nothing: an `else`.
    Always,
    /// An expression.
    Expression(Word),
    /// A subject is one of the patterns.
    Arm {
        /// The subject.
        subject: Word,
        /// The operator.
        how: &'static str,
        /// Whether capitals do not count.
        any_case: bool,
        /// The patterns.
        patterns: Vec<Word>,
    },
}

fn refuses(text: &str) -> bool {
    text.split(|char: char| char.is_whitespace() || ";{}".contains(char))
        .any(|word| matches!(word, "reject" | "drop" | "discard" | "HTTP::respond"))
}

/// The names of variables that statements may set.
fn assigned(text: &str) -> impl Iterator<Item = &str> {
    let word = |char: char| char.is_whitespace() || ";{}[]()\"".contains(char);
    let words: Vec<&str> = text.split(word).filter(|word| !word.is_empty()).collect();
    // Their variables stand anywhere behind them.
    let sets_more = words.iter().any(|word| matches!(*word, "regexp" | "scan" | "lassign" | "foreach" | "binary"));
    let is_name = move |before: &str| sets_more || matches!(before, "set" | "append" | "incr" | "lappend" | "unset");
    let names: Vec<&str> = words.windows(2).filter(|pair| is_name(pair[0])).map(|pair| pair[1]).collect();
    names.into_iter()
}

fn unknown_event(event: &str) -> String {
    match event {
        "CLIENT_DATA" | "SERVER_CONNECTED" | "SERVER_DATA" => {
            format!(
                "{event}: bytes of a connection are not for rules here; PROXY headers are read by `proxy_protocol` of a \
                 listener, and sent to `[[proxy.upstreams]]`"
            )
        }
        "LB_FAILED" | "LB_SELECTED" => format!("{event}: `retries` of the service decide about other members"),
        _ => format!("{event}: an event that the edge has no phase for"),
    }
}
