//! Tcl expressions as iRules have them in `if`: comparisons, `class match`, `and`, `or`, `not`.
//!
//! An expression becomes decisions: conditions a route can ask, each with the answer, the first that holds counts. So a
//! `not` costs nothing, though no route can ask for what a request is not.

use super::accepted;
use super::atoms::Operator;
use super::decisions::{Decisions, exists, join, not, pruned, whether};
use super::matching::{Match, Unfit};
use super::scope::Scope;
use super::tcl::{self, Command, Kind, Piece, Word};
use super::text::{Part, Text};

/// Deepest nesting of parentheses.
const MAX_DEPTH: usize = 24;

impl Scope<'_> {
    /// Reads an expression.
    pub(super) fn decide(&mut self, text: &str, line: u32) -> Result<Decisions, Unfit> {
        let mut reader = Reader { rest: text, line, depth: 0, scope: self };
        let decisions = reader.or()?;
        match reader.rest.trim().is_empty() {
            true => Ok(pruned(decisions)),
            false => Err("an expression that the importer does not read".to_owned()),
        }
    }
}

/// The operator of this name, and whether it is the opposite.
pub(super) fn operator(word: &str) -> Option<(Operator, bool)> {
    Some(match word {
        "equals" | "eq" | "==" | "equal" => (Operator::Equals, false),
        "ne" | "!=" => (Operator::Equals, true),
        "starts_with" | "starts-with" => (Operator::StartsWith, false),
        "ends_with" | "ends-with" => (Operator::EndsWith, false),
        "contains" => (Operator::Contains, false),
        "matches_glob" | "matches" => (Operator::Glob, false),
        "matches_regex" => (Operator::Regex, false),
        _ => return None,
    })
}

struct Reader<'r, 's, 'm> {
    rest: &'r str,
    line: u32,
    depth: usize,
    scope: &'s mut Scope<'m>,
}

enum Operand {
    Text(Text),
    Decided(Decisions),
}

impl Reader<'_, '_, '_> {
    fn skip(&mut self) {
        let start = self.rest.trim_start_matches(|char: char| char.is_whitespace() || char == '\\');
        self.line += self.rest[..self.rest.len() - start.len()].matches('\n').count() as u32;
        self.rest = start;
    }

    fn take(&mut self, words: &[&str]) -> bool {
        self.skip();
        for word in words {
            let Some(rest) = self.rest.strip_prefix(word) else { continue };
            let is_word = word.ends_with(|char: char| char.is_ascii_alphanumeric());
            if !is_word || !rest.starts_with(|char: char| char.is_ascii_alphanumeric() || char == '_') {
                self.rest = rest;
                return true;
            }
        }
        false
    }

    fn or(&mut self) -> Result<Decisions, Unfit> {
        let mut all = self.and()?;
        while self.take(&["||", "or"]) {
            let next = self.and()?;
            all = join(&all, &next, |a, b| a || b)?;
        }
        Ok(all)
    }

    fn and(&mut self) -> Result<Decisions, Unfit> {
        let mut all = self.not()?;
        while self.take(&["&&", "and"]) {
            let next = self.not()?;
            all = join(&all, &next, |a, b| a && b)?;
        }
        Ok(all)
    }

    fn not(&mut self) -> Result<Decisions, Unfit> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("an expression that nests too deep".to_owned());
        }
        self.skip();
        let decisions = if !self.rest.starts_with("!=") && self.take(&["!", "not"]) {
            not(self.not()?)
        } else if self.rest.starts_with('(') {
            self.rest = &self.rest[1..];
            let inner = self.or()?;
            if !self.take(&[")"]) {
                return Err("a parenthesis that is not closed".to_owned());
            }
            self.compared(Operand::Decided(inner))?
        } else {
            let operand = self.operand()?;
            self.compared(operand)?
        };
        self.depth -= 1;
        Ok(decisions)
    }

    /// What stands behind an operand decides what it is.
    fn compared(&mut self, left: Operand) -> Result<Decisions, Unfit> {
        self.skip();
        let end = match self.rest.starts_with(|char: char| char.is_ascii_alphabetic()) {
            true => {
                self.rest.find(|char: char| !char.is_ascii_alphanumeric() && char != '_').unwrap_or(self.rest.len())
            }
            false => self.rest.find(|char: char| !"=!<>".contains(char)).unwrap_or(self.rest.len()).min(2),
        };
        if let Operand::Decided(decisions) = &left
            && matches!(&self.rest[..end], ">" | ">=")
        {
            // `[SSL::cert count] > 0`
            let (least, decisions) = (if &self.rest[..end] == ">" { "0" } else { "1" }, decisions.clone());
            self.rest = &self.rest[end..];
            return match self.operand()? {
                Operand::Text(text) if text.constant().as_deref() == Some(least) => Ok(decisions),
                _ => Err("a count compared with something else than none".to_owned()),
            };
        }
        let Some((operator, is_opposite)) = operator(&self.rest[..end]) else {
            return match left {
                Operand::Decided(decisions) => Ok(decisions),
                Operand::Text(text) => match text.constant().as_deref() {
                    Some("1" | "true" | "yes" | "on") => Ok(vec![(Match::default(), true)]),
                    Some("0" | "false" | "no" | "off") => Ok(vec![(Match::default(), false)]),
                    _ => Err(why(&text)),
                },
            };
        };
        self.rest = &self.rest[end..];
        let right = self.operand()?;
        let decisions = match (left, right) {
            (Operand::Text(left), Operand::Text(right)) => match (left.constant(), right.constant()) {
                (_, Some(text)) => self.scope.compare(&left, operator, &[text])?,
                (Some(text), None) if operator == Operator::Equals => self.scope.compare(&right, operator, &[text])?,
                _ => return Err("two things of the request compared with each other".to_owned()),
            },
            // `[class match …] == 1`, `[HTTP::header exists x] equals 0`
            (Operand::Decided(left), Operand::Text(right)) => match (operator, right.constant().as_deref()) {
                (Operator::Equals, Some("1" | "true")) => left,
                (Operator::Equals, Some("0" | "false")) => not(left),
                _ => return Err("an answer of yes or no compared with something else".to_owned()),
            },
            _ => return Err("an answer of yes or no compared with something else".to_owned()),
        };
        Ok(if is_opposite { not(decisions) } else { decisions })
    }

    fn operand(&mut self) -> Result<Operand, Unfit> {
        self.skip();
        let unread = || "an expression that the importer does not read".to_owned();
        if self.rest.starts_with(['"', '{']) {
            let (word, length) = tcl::literal(self.rest, self.line).map_err(|error| error.to_string())?;
            self.rest = self.rest.get(length..).ok_or_else(unread)?;
            return self.scope.text(&word).map(Operand::Text);
        }
        let substitution = tcl::substitution(self.rest, self.line).map_err(|error| error.to_string())?;
        if let Some((piece, length)) = substitution {
            self.rest = self.rest.get(length..).ok_or_else(unread)?;
            // `[IP::client_addr]/24`
            if self.rest.starts_with('/') {
                return Err("an address cut to a range".to_owned());
            }
            return match &piece {
                Piece::Command(command) => self.asked(command),
                _ => self.scope.assembled(&[piece], 0).map(Operand::Text),
            };
        }
        let end = self.rest.find(|char: char| char.is_whitespace() || "()&|!=<>\"{}[]$;".contains(char));
        let (word, rest) = self.rest.split_at(end.unwrap_or(self.rest.len()));
        if word.is_empty() {
            return Err(unread());
        }
        self.rest = rest;
        Ok(Operand::Text(Text::plain(word)))
    }

    /// A command that answers yes or no; what answers otherwise is a text.
    fn asked(&mut self, command: &Command) -> Result<Operand, Unfit> {
        let words: Vec<&str> = command.words.iter().map(|word| word.text.as_str()).collect();
        let scope = &mut *self.scope;
        let text = |scope: &Scope<'_>, index: usize| match command.words.get(index) {
            Some(word) => scope.text(word),
            None => Err(format!("`{}` without its arguments", command.word(0))),
        };
        let decided = match words.as_slice() {
            ["HTTP::header", "exists", _] => {
                let name = text(scope, 2)?.constant().ok_or("a header whose name depends on the request")?;
                accepted::field_name(&name)?;
                scope.is_in_time(&name)?;
                whether(exists(&name))
            }
            ["HTTP::is_redirect"] | ["HTTP::header", "is_redirect"] => {
                let statuses = [301, 302, 303, 305, 307].into();
                whether(Match { statuses: Some(statuses), ..Match::default() })
            }
            ["SSL::cert", "count"] => whether(Match { certificate: Some(true), ..Match::default() }),
            ["info", "exists", name] => match scope.known(name).map(|text| text.parts.as_slice()) {
                // Set where there is a certificate.
                Some([Part::Certificate(_)]) => whether(Match { certificate: Some(true), ..Match::default() }),
                _ => {
                    return Err(
                        "`info exists`: only of a certificate's values is it known whether they are there".to_owned()
                    );
                }
            },
            ["class", "match", ..] | ["matchclass", ..] => {
                let is_option = |word: &&&str| word.starts_with('-');
                let from = if words[0] == "class" { 2 } else { 1 };
                let from = from + words[from..].iter().take_while(is_option).count();
                if words[..from].contains(&"-value") {
                    return self.scope.command(command, 0).map(Operand::Text);
                }
                let (operator, is_opposite) =
                    words.get(from + 1).and_then(|word| operator(word)).ok_or("`class match` without an operator")?;
                let group = match command.words.get(from + 2) {
                    // The old form names a group as a global variable.
                    Some(word) if word.text.starts_with("$::") => word.text[3..].to_owned(),
                    _ => text(scope, from + 2)?.constant().ok_or("a data group whose name depends on the request")?,
                };
                let subject = text(scope, from)?;
                let keys: Vec<String> = scope.records(&group)?.into_iter().map(|(key, _)| key).collect();
                if keys.is_empty() {
                    return Ok(Operand::Decided(vec![(Match::default(), is_opposite)]));
                }
                let decisions = scope.compare(&subject, operator, &keys)?;
                if is_opposite { not(decisions) } else { decisions }
            }
            ["IP::addr", _, word, range] if operator(word).is_some_and(|(found, _)| found == Operator::Equals) => {
                let decisions = scope.compare(&text(scope, 1)?, Operator::Equals, &[addressed(range)])?;
                if operator(word).is_some_and(|(_, is_opposite)| is_opposite) { not(decisions) } else { decisions }
            }
            ["string", "match", .., _, _] => {
                let last = words.len() - 1;
                let any_case = words[2] == "-nocase";
                let pattern = text(scope, last - 1)?.constant().ok_or("a pattern that depends on the request")?;
                let mut subject = text(scope, last)?;
                subject.lower |= any_case;
                let pattern = if any_case { pattern.to_lowercase() } else { pattern };
                scope.compare(&subject, Operator::Glob, &[pattern])?
            }
            ["string", "equal", .., _, _] => {
                let last = words.len() - 1;
                let value =
                    text(scope, last)?.constant().ok_or("two things of the request compared with each other")?;
                let mut subject = text(scope, last - 1)?;
                subject.lower |= words[2] == "-nocase";
                let value = if subject.lower { value.to_lowercase() } else { value };
                scope.compare(&subject, Operator::Equals, &[value])?
            }
            ["regexp", .., _, _] if words.len() == 3 || words.len() == 4 && matches!(words[1], "-nocase" | "--") => {
                let last = words.len() - 1;
                let pattern = text(scope, last - 1)?.constant().ok_or("a pattern that depends on the request")?;
                let mut subject = text(scope, last)?;
                subject.lower |= words[1] == "-nocase";
                let pattern = if subject.lower { pattern.to_lowercase() } else { pattern };
                scope.compare(&subject, Operator::Regex, &[pattern])?
            }
            _ => return self.scope.command(command, 0).map(Operand::Text),
        };
        Ok(Operand::Decided(decided))
    }
}

/// `10.0.0.0/255.0.0.0` and `10.0.0.0 mask 255.0.0.0` as a range.
fn addressed(text: &str) -> String {
    let Some((address, mask)) = text.split_once('/') else { return text.to_owned() };
    match mask.parse::<std::net::Ipv4Addr>() {
        Ok(mask) if mask.to_bits().count_ones() == mask.to_bits().leading_ones() => {
            format!("{address}/{}", mask.to_bits().count_ones())
        }
        _ => text.to_owned(),
    }
}

fn why(text: &Text) -> Unfit {
    match text.parts.as_slice() {
        [Part::Other(why)] => why.clone(),
        _ => "a text where yes or no is asked".to_owned(),
    }
}

/// The patterns of a `switch` in the order of its arms: a word, its body's word, and whether it shares the next body.
pub(super) fn arms(words: &[Word]) -> Result<Vec<(Vec<Word>, Word)>, Unfit> {
    let mut arms = Vec::new();
    let mut patterns = Vec::new();
    for pair in words.chunks(2) {
        let [pattern, body] = pair else { return Err("a `switch` with a pattern and no body".to_owned()) };
        patterns.push(pattern.clone());
        if body.text != "-" || body.kind != Kind::Bare {
            arms.push((std::mem::take(&mut patterns), body.clone()));
        }
    }
    match patterns.is_empty() {
        true => Ok(arms),
        false => Err("a `switch` whose last pattern has no body".to_owned()),
    }
}

#[cfg(test)]
mod tests;
