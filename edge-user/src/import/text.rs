//! Texts of rules and profiles: words with parts that stand for something of the request or its answer.

use super::gaps;
use super::matching::{Sample, Unfit};
use crate::http::head::is_field_name;

/// The two kinds of messages whose fields change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Side {
    /// Requests, on their way to a member.
    Request,
    /// Answers, on their way to the client.
    Answer,
}

/// What is told of a client's certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "the words of templates")]
pub(super) enum Fact {
    /// The certificate itself, as `SSL::cert` gives it: nothing that a field can hold.
    Whole,
    Pem,
    Subject,
    Issuer,
    Serial,
    Fingerprint,
}

/// A part of a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Part {
    /// Itself.
    Text(String),
    /// The host that the client asked for.
    Host,
    /// Path and query.
    Uri,
    /// The path.
    Path,
    /// The query.
    Query,
    /// The method.
    Method,
    /// The client's address.
    Client,
    /// The client's port.
    ClientPort,
    /// A field of the request.
    Header(String),
    /// A field of the answer.
    AnswerHeader(String),
    /// The answer's status.
    Status,
    /// Of the client's certificate; nothing where it showed none.
    Certificate(Fact),
    /// What a data group has for something: the subject, how it is compared, and the group.
    Lookup(Box<Text>, String, String),
    /// Something of which the edge knows nothing, and why.
    Other(String),
}

/// A text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Text {
    /// In their order.
    pub(super) parts: Vec<Part>,
    /// Whether capitals became small letters.
    pub(super) lower: bool,
}

impl Part {
    /// A field of one side's messages.
    pub(super) fn field(side: Side, name: &str) -> Self {
        match side {
            Side::Request => Self::Header(name.to_ascii_lowercase()),
            Side::Answer => Self::AnswerHeader(name.to_ascii_lowercase()),
        }
    }
}

impl Text {
    /// A text that is the same for each request.
    pub(super) fn plain(text: &str) -> Self {
        Self::of(Part::Text(text.to_owned()))
    }

    /// Of one part.
    pub(super) fn of(part: Part) -> Self {
        Self { parts: vec![part], lower: false }
    }

    /// The text, where it is the same for each request.
    pub(super) fn constant(&self) -> Option<String> {
        let texts: Option<Vec<&str>> = self
            .parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => Some(text.as_str()),
                _ => None,
            })
            .collect();
        let text = texts?.concat();
        Some(if self.lower { text.to_lowercase() } else { text })
    }

    /// The text in the language of http-profile's values.
    pub(super) fn template(&self, side: Side) -> Result<String, Unfit> {
        if let Some(text) = self.constant() {
            return Ok(literal(&text, true));
        }
        if self.lower {
            return Err(gaps::LOWER.to_owned());
        }
        let (mut template, mut plain) = (String::new(), String::new());
        for part in &self.parts {
            if let Part::Text(text) = part {
                plain.push_str(text);
                continue;
            }
            let reference = reference(part, side)?;
            template.push_str(&literal(&std::mem::take(&mut plain), template.is_empty()));
            template.push_str(&format!("$({reference})"));
        }
        template.push_str(&literal(&plain, template.is_empty()));
        Ok(template)
    }

    /// The text for a request; nothing where it depends on more.
    pub(super) fn on(&self, sample: &Sample) -> Option<String> {
        if self.lower {
            return self.constant();
        }
        let part = |part: &Part| match part {
            Part::Text(text) => Some(text.clone()),
            Part::Host => Some(sample.host.clone()),
            Part::Path => Some(sample.path.clone()),
            Part::Method => Some(sample.method.clone()),
            Part::Header(name) => Some(sample.headers.get(name).cloned().unwrap_or_default()),
            _ => None,
        };
        self.parts.iter().map(part).collect::<Option<Vec<_>>>().map(|parts| parts.concat().trim().to_owned())
    }

    /// Whether it tells of a certificate and nothing else: without one it is nothing.
    pub(super) fn is_of_certificate(&self) -> bool {
        matches!(self.parts.as_slice(), [Part::Certificate(_)])
    }

    /// Whether a part stands in it, or in what it looks up.
    pub(super) fn reads(&self, part: &Part) -> bool {
        let inner = |found: &Part| matches!(found, Part::Lookup(of, ..) if of.reads(part));
        self.parts.iter().any(|found| found == part || inner(found))
    }

    /// How many parts it has, and bytes in them.
    pub(super) fn size(&self) -> (usize, usize) {
        let one = |part: &Part| match part {
            Part::Text(text) | Part::Header(text) | Part::AnswerHeader(text) => (1, text.len()),
            Part::Lookup(of, _, group) => {
                let (parts, bytes) = of.size();
                (parts + 1, bytes + group.len())
            }
            _ => (1, 0),
        };
        self.parts.iter().map(one).fold((0, 0), |all, one| (all.0 + one.0, all.1 + one.1))
    }

    /// What its parts mean a little differently on the edge.
    pub(super) fn notes(&self) -> impl Iterator<Item = &'static str> {
        self.parts.iter().filter_map(|part| match part {
            Part::Certificate(Fact::Pem) => Some("the certificate stands in one line, as PEM, URL-encoded"),
            Part::Certificate(Fact::Subject | Fact::Issuer) => Some("the name is written as RFC 4514 has it"),
            Part::Certificate(Fact::Serial) => Some("the serial number is written in hex, in capitals"),
            Part::Certificate(Fact::Fingerprint) => Some("the fingerprint is the SHA-256, in hex"),
            Part::Header(_) | Part::AnswerHeader(_) => {
                Some("of several fields of the name the F5 takes the last; here all stand, with commas between them")
            }
            _ => None,
        })
    }
}

/// What stands between the parentheses of a template.
fn reference(part: &Part, side: Side) -> Result<String, Unfit> {
    Ok(match (part, side) {
        (Part::Host, Side::Request) => "headers.host".to_owned(),
        (Part::Host, Side::Answer) => "request.host".to_owned(),
        (Part::Path, Side::Request) => "request.path".to_owned(),
        (Part::Method, _) => "request.method".to_owned(),
        (Part::Client, _) => "client.address".to_owned(),
        (Part::ClientPort, _) => "client.port".to_owned(),
        (Part::Header(name), Side::Request) | (Part::AnswerHeader(name), Side::Answer) => {
            if !is_field_name(name.as_bytes()) {
                return Err(format!("{name:?} is no name of a field"));
            }
            format!("headers[\"{name}\"]")
        }
        (Part::Certificate(fact), _) => match fact {
            Fact::Whole => return Err("a certificate as it is, in a value: `X509::whole` has it as text".to_owned()),
            Fact::Pem => "certificate.pem".to_owned(),
            Fact::Subject => "certificate.subject".to_owned(),
            Fact::Issuer => "certificate.issuer".to_owned(),
            Fact::Serial => "certificate.serial".to_owned(),
            Fact::Fingerprint => "certificate.fingerprint".to_owned(),
        },
        (Part::Uri | Part::Query, _) => return Err("the query in a value: no template has it as a whole".to_owned()),
        (Part::Path | Part::Header(_), Side::Answer) => return Err(gaps::GONE.to_owned()),
        (Part::AnswerHeader(_) | Part::Status, _) => return Err("a part of the answer in that value".to_owned()),
        (Part::Lookup(..), _) => return Err("what a data group has for a request, in a value".to_owned()),
        (Part::Other(why), _) => return Err(why.clone()),
        // Constant: read before.
        (Part::Text(text), _) => literal(text, false),
    })
}

/// A text that stands for itself in a template, and for no reference of the file's.
fn literal(text: &str, is_first: bool) -> String {
    let mut escaped = String::with_capacity(text.len());
    for (at, char) in text.char_indices() {
        match char {
            '$' if text[at + 1..].starts_with(['(', '{']) => escaped.push_str("$(\"$\")"),
            '{' if at == 0 && is_first && text.starts_with("{vault:") => escaped.push_str("$(\"{\")"),
            char => escaped.push(char),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::super::accepted;
    use super::*;

    #[test]
    fn templates_hold_what_http_profile_knows() {
        use Side::{Answer, Request};
        let text = |parts: Vec<Part>| Text { parts, lower: false };
        for (text, side, expected) in [
            (text(vec![Part::Text("a".into()), Part::Text("b".into())]), Request, Ok("ab")),
            (text(vec![Part::Text("x-".into()), Part::Host]), Request, Ok("x-$(headers.host)")),
            (text(vec![Part::Host]), Answer, Ok("$(request.host)")),
            (text(vec![Part::Header("x-id".into())]), Request, Ok("$(headers[\"x-id\"])")),
            (text(vec![Part::Header("x-id".into())]), Answer, Err("no longer known")),
            (text(vec![Part::AnswerHeader("x-id".into())]), Answer, Ok("$(headers[\"x-id\"])")),
            (text(vec![Part::Header("x\"] or".into())]), Request, Err("no name")),
            (
                text(vec![Part::Client, Part::Text(":".into()), Part::ClientPort]),
                Answer,
                Ok("$(client.address):$(client.port)"),
            ),
            (text(vec![Part::Path]), Request, Ok("$(request.path)")),
            (text(vec![Part::Uri]), Request, Err("query")),
            (text(vec![Part::Certificate(Fact::Subject)]), Request, Ok("$(certificate.subject)")),
            (Text::plain("$(x)"), Request, Ok("$(\"$\")(x)")),
            (text(vec![Part::Text("$".into()), Part::Text("{{ env".into())]), Answer, Ok("$(\"$\"){{ env")),
            (Text::plain("{vault://env/X}"), Request, Ok("$(\"{\")vault://env/X}")),
            (Text::plain("US$ {1}"), Request, Ok("US$ {1}")),
            (Text { parts: vec![Part::Method], lower: true }, Request, Err("small letters")),
        ] {
            match (text.template(side), expected) {
                (Ok(found), Ok(expected)) => {
                    assert_eq!(found, expected);
                    accepted::text(&found).unwrap();
                }
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{text:?}: {found:?}"),
            }
        }
    }
}
