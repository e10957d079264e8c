//! What words of iRules stand for: commands and variables as texts, data groups, and comparisons as decisions.

use std::collections::{BTreeMap, BTreeSet};

use super::accepted;
use super::atoms::{Operator, atom};
use super::decisions::{Decisions, MAX_DECISIONS, not, whether};
use super::expr::operator;
use super::gaps;
use super::matching::{HeaderTest, Match, Sources, Unfit};
use super::model::Model;
use super::outcome::Outcome;
use super::tcl::{self, Command, Kind, Piece, Word};
use super::text::{Fact, Part, Side, Text};
use crate::plugin::fields::is_of_forwarding;

/// Deepest nesting of commands in a word.
const MAX_DEPTH: usize = 24;
/// Parts of one text at most, and bytes in them: variables in each other double with every line.
const MAX_PARTS: usize = 256;
const MAX_BYTES: usize = 65_536;

/// What names in an expression may mean.
pub(super) struct Scope<'a> {
    /// All objects, for data groups.
    pub(super) model: &'a Model,
    /// The folder that names without one are looked for in.
    pub(super) folder: &'a str,
    /// What became of the request so far, and what variables hold.
    pub(super) outcome: &'a Outcome,
    /// The fields that are left, where the others were taken out.
    pub(super) left: Option<&'a BTreeSet<String>>,
    /// The variables of `RULE_INIT`.
    pub(super) statics: &'a BTreeMap<String, Text>,
    /// Whether a request is looked at, or its answer.
    pub(super) side: Side,
    /// What is meant a little differently.
    pub(super) notes: Vec<String>,
}

impl Scope<'_> {
    /// The Tcl of a profile or policy: one text with brackets, where no names mean anything.
    pub(super) fn read(text: &str, side: Side) -> Result<Text, Unfit> {
        let word = Word { kind: Kind::Quoted, text: text.to_owned(), line: 1 };
        let (model, outcome, statics) = (Model::default(), Outcome::default(), BTreeMap::new());
        let (model, outcome, statics, notes) = (&model, &outcome, &statics, Vec::new());
        Scope { model, folder: "", outcome, left: None, statics, side, notes }.text(&word)
    }

    /// A word as a text.
    pub(super) fn text(&self, word: &Word) -> Result<Text, Unfit> {
        let pieces = tcl::pieces(word).map_err(|error| error.to_string())?;
        self.assembled(&pieces, 0)
    }

    /// Pieces as one text.
    pub(super) fn assembled(&self, pieces: &[Piece], depth: usize) -> Result<Text, Unfit> {
        let mut texts = Vec::with_capacity(pieces.len());
        for piece in pieces {
            texts.push(match piece {
                Piece::Text(text) => Text::plain(text),
                Piece::Variable(name) => self.variable(name),
                Piece::Command(command) => self.command(command, depth + 1)?,
            });
        }
        let (parts, bytes) = texts.iter().map(Text::size).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1));
        if parts > MAX_PARTS || bytes > MAX_BYTES {
            return Err(format!("a text of more than {MAX_PARTS} parts or {MAX_BYTES} bytes"));
        }
        if let [_] = texts.as_slice() {
            return Ok(texts.remove(0));
        }
        let mut all = Text::default();
        for text in texts {
            match (text.constant(), text.lower) {
                (Some(text), _) => all.parts.push(Part::Text(text)),
                // A host is one whatever its capitals.
                (None, true) if text.parts != [Part::Host] => {
                    all.parts.push(Part::Other(gaps::LOWER.to_owned()));
                }
                _ => all.parts.extend(text.parts),
            }
        }
        Ok(all)
    }

    /// What a variable holds, where that is known.
    pub(super) fn known(&self, name: &str) -> Option<&Text> {
        self.outcome.variables.get(name).or_else(|| self.statics.get(name.trim_start_matches("::")))
    }

    fn variable(&self, name: &str) -> Text {
        self.known(name)
            .cloned()
            .unwrap_or_else(|| Text::of(Part::Other(format!("the variable {name}, whose value is not known"))))
    }

    /// What a command gives.
    pub(super) fn command(&self, command: &Command, depth: usize) -> Result<Text, Unfit> {
        if depth > MAX_DEPTH {
            return Err("commands nest too deep".to_owned());
        }
        let inner = |index: usize| -> Result<Text, Unfit> {
            let word =
                command.words.get(index).ok_or_else(|| format!("`{}` without its arguments", command.word(0)))?;
            self.assembled(&tcl::pieces(word).map_err(|error| error.to_string())?, depth)
        };
        let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
        Ok(match words.as_slice() {
            ["HTTP::host"] => Text::of(Part::Host),
            ["HTTP::uri"] | ["HTTP::uri", "-normalized"] => Text::of(Part::Uri),
            ["HTTP::path"] | ["HTTP::path", "-normalized"] => Text::of(Part::Path),
            ["HTTP::query"] => Text::of(Part::Query),
            ["HTTP::method"] => Text::of(Part::Method),
            ["HTTP::status"] => Text::of(Part::Status),
            ["IP::client_addr" | "IP::remote_addr"] => Text::of(Part::Client),
            ["TCP::client_port" | "TCP::remote_port"] => Text::of(Part::ClientPort),
            ["SSL::cert", "0"] => Text::of(Part::Certificate(Fact::Whole)),
            ["URI::encode", _] if inner(1)?.parts == [Part::Certificate(Fact::Pem)] => inner(1)?,
            [name, _] if fact(name).is_some() && inner(1)?.parts == [Part::Certificate(Fact::Whole)] => {
                fact(name).map_or_else(Text::default, |fact| Text::of(Part::Certificate(fact)))
            }
            ["HTTP::header", "value", _] => self.header(&inner(2)?),
            ["HTTP::header", "exists" | "count" | "names" | "values" | "at" | "is_redirect" | "is_keepalive", ..] => {
                Text::of(Part::Other(format!("`{}` as a text", words[..2].join(" "))))
            }
            ["HTTP::header", _] => self.header(&inner(1)?),
            ["string", "tolower", _] => {
                let text = inner(2)?;
                let lower = text.lower || text.constant().is_none();
                text.constant().map_or(Text { lower, ..text }, |text| Text::plain(&text.to_lowercase()))
            }
            ["string", "toupper", _] if inner(2)?.parts == [Part::Method] => inner(2)?,
            ["string", "trim", _] | ["URI::decode", _] => inner(words.len() - 1)?,
            ["getfield", _, ":", "1"] if inner(1)?.parts == [Part::Host] => inner(1)?,
            ["URI::path", _] if matches!(inner(1)?.parts.as_slice(), [Part::Uri | Part::Path]) => Text::of(Part::Path),
            ["class", "lookup", _, _] => self.lookup(inner(2)?, "equals", &inner(3)?)?,
            ["class", "match", "-value", _, operator, _] => self.lookup(inner(3)?, operator, &inner(5)?)?,
            ["class", "match", "-value", "--", _, operator, _] => self.lookup(inner(4)?, operator, &inner(6)?)?,
            _ => Text::of(Part::Other(gaps::command(command.word(0)))),
        })
    }

    fn header(&self, name: &Text) -> Text {
        Text::of(match name.constant() {
            Some(name) if self.side == Side::Request && name.eq_ignore_ascii_case("host") => Part::Host,
            Some(name) => match self.is_in_time(&name) {
                Ok(()) => Part::field(self.side, &name),
                Err(why) => Part::Other(why),
            },
            None => Part::Other("a header whose name depends on the request".to_owned()),
        })
    }

    /// Whether the edge sees a field here as the F5 does: a list of those that are left, and what becomes of forwarding
    /// fields, have their turn once all rules are done.
    pub(super) fn is_in_time(&self, name: &str) -> Result<(), Unfit> {
        let name = name.to_ascii_lowercase();
        let is_taken_out = self.left.is_some_and(|left| !left.contains(&name));
        let is_late = self.side == Side::Request && is_of_forwarding(&name) && self.outcome.changed.contains(&name);
        match is_taken_out || is_late {
            true => Err(gaps::ANOTHER.to_owned()),
            false => Ok(()),
        }
    }

    /// Whether something can be asked for where the scope stands.
    pub(super) fn is_known(&self, part: &Part) -> Result<(), Unfit> {
        match (self.side, part) {
            (Side::Answer, Part::Uri | Part::Path | Part::Query | Part::Header(_)) => Err(gaps::GONE.to_owned()),
            _ => Ok(()),
        }
    }

    fn lookup(&self, subject: Text, operator: &str, group: &Text) -> Result<Text, Unfit> {
        let group = group.constant().ok_or("a data group whose name depends on the request")?;
        Ok(Text::of(Part::Lookup(Box::new(subject), operator.to_owned(), group)))
    }

    /// The records of an internal data group: keys, and what stands behind them.
    pub(super) fn records(&self, name: &str) -> Result<Vec<(String, String)>, Unfit> {
        let name = name.trim_start_matches("::");
        let Some(group) = self.model.find("ltm data-group internal", name, self.folder) else {
            return Err(match self.model.find("ltm data-group external", name, self.folder) {
                Some(_) => format!("the data group {name} stands in a file of its own"),
                None => format!("the data group {name} is in none of the files"),
            });
        };
        group.mark();
        let records = group.node.child("records");
        let data = |value: Option<(&str, _)>| value.map_or_else(String::new, |(text, _)| text.to_owned());
        Ok(records
            .into_iter()
            .flat_map(|records| records.children())
            .map(|record| (record.word(0).to_owned(), data(record.value("data"))))
            .collect())
    }

    /// Whether what a data group has for something is one of these texts; an empty text: it has nothing.
    fn looked_up(&mut self, of: &Text, how: &str, group: &str, texts: &[String]) -> Result<Decisions, Unfit> {
        let (how, _) = operator(how).filter(|(_, is_opposite)| !is_opposite).ok_or("a look-up without an operator")?;
        let records = self.records(group)?;
        let is_asked = |data: &String| !data.is_empty() && texts.contains(data);
        let mut all: Decisions = vec![(Match::default(), texts.iter().any(String::is_empty))];
        // The first record that fits decides; it is joined last, so that it goes before the others.
        for (key, data) in records.iter().rev() {
            let fits = self.compare(of, how, std::slice::from_ref(key))?;
            let (data, rest) = (is_asked(data), std::mem::take(&mut all));
            for (when, is) in fits {
                match is {
                    true => all.push((when, data)),
                    false => {
                        for (other, answer) in &rest {
                            all.extend(when.and(other)?.map(|both| (both, *answer)));
                        }
                    }
                }
            }
            if all.len() > MAX_DECISIONS {
                return Err(format!("an expression of more than {MAX_DECISIONS} cases"));
            }
        }
        Ok(all)
    }

    /// One comparison.
    pub(super) fn compare(&mut self, subject: &Text, operator: Operator, texts: &[String]) -> Result<Decisions, Unfit> {
        if let Some(text) = subject.constant() {
            let is_one = texts.iter().any(|one| match operator {
                Operator::Equals => *one == text,
                Operator::StartsWith => text.starts_with(one.as_str()),
                Operator::EndsWith => text.ends_with(one.as_str()),
                Operator::Contains => text.contains(one.as_str()),
                Operator::Glob | Operator::Regex => false,
            });
            if matches!(operator, Operator::Glob | Operator::Regex) {
                return Err("a pattern on a constant".to_owned());
            }
            return Ok(vec![(Match::default(), is_one)]);
        }
        if let ([Part::Lookup(of, how, group)], Operator::Equals) = (subject.parts.as_slice(), operator) {
            return self.looked_up(of, how, group, texts);
        }
        let is_empty = operator == Operator::Equals && texts.iter().all(String::is_empty);
        subject.parts.iter().try_for_each(|part| self.is_known(part))?;
        if let [Part::Header(name) | Part::AnswerHeader(name)] = subject.parts.as_slice()
            && operator == Operator::Equals
            && texts.iter().any(String::is_empty)
            && accepted::field_name(name).is_ok()
        {
            // A field without a value is as good as none: what is compared with nothing has to have some.
            let filled = [(name.clone(), HeaderTest::Regex(HeaderTest::FILLED.to_owned()))].into();
            let filled = Match { headers: filled, ..Match::default() };
            self.notes.push("of several fields of the name the F5 looks at the last, the edge at any".to_owned());
            let others: Vec<String> = texts.iter().filter(|text| !text.is_empty()).cloned().collect();
            let mut decisions = match others.is_empty() {
                true => Vec::new(),
                false => vec![(atom(subject, operator, &others, &mut self.notes)?, true)],
            };
            decisions.extend([(filled, false), (Match::default(), true)]);
            return Ok(decisions);
        }
        if let ([Part::Certificate(_)], true) = (subject.parts.as_slice(), is_empty) {
            return Ok(not(whether(Match { certificate: Some(true), ..Match::default() })));
        }
        // With no capitals left in it, a text is not equal to one that has some.
        if subject.lower && texts.iter().any(|text| text.bytes().any(|byte| byte.is_ascii_uppercase())) {
            return Err("small letters compared with capitals, which never fit".to_owned());
        }
        let found = atom(subject, operator, texts, &mut self.notes)?;
        // Where a client is not can be asked as well as where it is, which no route could be asked of anything else.
        let otherwise = found.sources.iter().map(|sources| Sources { inside: !sources.inside, ..sources.clone() });
        let otherwise = Match { sources: otherwise.collect(), ..Match::default() };
        Ok(vec![(found, true), (otherwise, false)])
    }
}

/// What a command of the family tells of a certificate.
fn fact(command: &str) -> Option<Fact> {
    Some(match command {
        "X509::whole" => Fact::Pem,
        "X509::subject" => Fact::Subject,
        "X509::issuer" => Fact::Issuer,
        "X509::serial_number" => Fact::Serial,
        "X509::hash" => Fact::Fingerprint,
        _ => return None,
    })
}
