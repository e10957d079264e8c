//! Raw requests as text: `tests/corpus/*.txt`, each with what must become of it and why. Its README has the notation.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

/// What the client does, in this order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Sends these bytes, in a segment of their own where the kernel lets it.
    Send(Vec<u8>),
    /// Reads one answer before it goes on.
    Wait,
}

/// What the client does behind the case's own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Then {
    /// Sends one more request, `AFTER`, at once.
    Follows,
    /// Ends its direction.
    Ends,
    /// Says no more and waits.
    Holds,
}

/// One answer, and what the upstream counts for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The upstream reads this request, and its answer comes back.
    Passes(Reading),
    /// The edge answers by itself.
    Answered {
        /// The status.
        status: u16,
        /// The reason code of the access log.
        reason: String,
    },
    /// 100 (Continue).
    Continues,
}

/// What becomes of the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It serves the next request.
    Open,
    /// It is closed, and nothing that followed counts.
    Closed,
    /// Either, but what stood in content never counts.
    Either,
}

/// One request as an upstream reads it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The method.
    pub method: String,
    /// The target.
    pub target: String,
    /// The host; `None` where it is the upstream's own.
    pub host: Option<String>,
    /// The content.
    pub body: Vec<u8>,
}

impl Reading {
    /// What an upstream read.
    pub fn of(message: &crate::wire::Message) -> Self {
        let host = message.all("host").first().map(|host| (*host).to_owned());
        let (method, target) = (message.method().to_owned(), message.target().to_owned());
        Self { method, target, host, body: message.body.clone() }
    }

    /// Whether this is what was expected, at whatever host where that is the upstream's own.
    pub fn is(&self, expected: &Self) -> bool {
        (&self.method, &self.target, &self.body) == (&expected.method, &expected.target, &expected.body)
            && (expected.host.is_none() || self.host == expected.host)
    }
}

/// A field that must, or must not, have reached the upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Whether it must.
    pub present: bool,
    /// Of the last request, not the first.
    pub last: bool,
    /// Among the trailers.
    pub trailer: bool,
    /// Its name, as spelled.
    pub name: String,
    /// Its value; `None` is any.
    pub value: Option<String>,
}

/// A raw request, or several on one connection.
#[derive(Clone, Debug)]
pub struct Case {
    /// `file/name`.
    pub name: String,
    /// Why the verdict is this one.
    pub why: String,
    /// What the client does.
    pub actions: Vec<Action>,
    /// And then.
    pub then: Then,
    /// The answers it gets.
    pub steps: Vec<Step>,
    /// And then.
    pub end: End,
    /// What must, or must not, have reached the upstream.
    pub checks: Vec<Check>,
    /// Proxies whose upstream reads something else, and why.
    pub differs: Vec<(String, String)>,
}

/// The target of the request that follows every case whose bytes are complete.
pub const AFTER: &str = "/after";

/// That request as an upstream reads it.
pub fn after() -> Reading {
    Reading { method: "GET".into(), target: AFTER.into(), host: Some("t".into()), body: Vec::new() }
}

impl Case {
    /// What the upstream counts, the following request included where it is served.
    pub fn readings(&self) -> Vec<Reading> {
        let passes = self.steps.iter().filter_map(|step| match step {
            Step::Passes(reading) => Some(reading.clone()),
            Step::Answered { .. } | Step::Continues => None,
        });
        passes.chain((self.end == End::Open).then(after)).collect()
    }

    /// All bytes, for other uses.
    pub fn bytes(&self) -> Vec<u8> {
        let sent = self.actions.iter().map(|action| match action {
            Action::Send(bytes) => bytes.as_slice(),
            Action::Wait => &[],
        });
        sent.collect::<Vec<_>>().concat()
    }
}

/// Every case of every file.
pub fn load() -> Result<Vec<Case>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    let mut cases: Vec<Case> = Vec::new();
    for path in files {
        let class = path.file_stem().and_then(|stem| stem.to_str()).context("a file name")?.to_owned();
        cases.extend(parse(&class, &std::fs::read_to_string(&path)?)?);
    }
    let mut seen = HashSet::new();
    for case in &cases {
        ensure!(seen.insert((case.actions.clone(), case.then)), "{}: its bytes stand in another case, too", case.name);
    }
    let names: HashSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
    ensure!(names.len() == cases.len(), "two cases have one name");
    Ok(cases)
}

/// The cases of one file.
fn parse(class: &str, text: &str) -> Result<Vec<Case>> {
    let mut cases: Vec<Case> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let at = || format!("corpus/{class}.txt:{}: {line}", index + 1);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some(more) = line.strip_prefix("    ") else {
            cases.push(head(class, line).with_context(at)?);
            continue;
        };
        let case = cases.last_mut().context("a line before the first case").with_context(at)?;
        if let Some(field) = more.strip_prefix("+ ") {
            case.checks.push(check(true, field).with_context(at)?);
        } else if let Some(field) = more.strip_prefix("- ") {
            case.checks.push(check(false, field).with_context(at)?);
        } else if let Some(difference) = more.strip_prefix("~ ") {
            let (peers, because) = difference.split_once(" because ").context("no `because`").with_context(at)?;
            case.differs.extend(peers.split(", ").map(|peer| (peer.to_owned(), because.to_owned())));
        } else {
            ensure!(case.actions.is_empty(), "bytes again: {}", at());
            (case.actions, case.then) = expand(more).with_context(at)?;
        }
    }
    Ok(cases)
}

/// `name | verdict | why`.
fn head(class: &str, line: &str) -> Result<Case> {
    let mut parts = line.splitn(3, " | ");
    let (Some(name), Some(verdict), Some(why)) = (parts.next(), parts.next(), parts.next()) else {
        bail!("not `name | verdict | why`");
    };
    let (mut steps, mut end) = (Vec::new(), End::Open);
    for part in verdict.split("; ") {
        ensure!(end == End::Open, "something follows the end");
        let (word, rest) = part.split_once(' ').unwrap_or((part, ""));
        match word {
            "100" => steps.push(Step::Continues),
            "passes" => steps.push(Step::Passes(reading(rest)?)),
            "answered" => steps.push(answered(rest)?),
            "refused" => (end, ()) = (End::Closed, steps.push(answered(rest)?)),
            "early" => (end, ()) = (End::Either, steps.push(answered(rest)?)),
            "closes" => end = End::Closed,
            _ => bail!("no verdict: {part:?}"),
        }
    }
    let (name, why) = (format!("{class}/{name}"), why.to_owned());
    let (checks, differs) = (Vec::new(), Vec::new());
    Ok(Case { name, why, actions: Vec::new(), then: Then::Follows, steps, end, checks, differs })
}

/// `METHOD target [@host] ["content"]`.
fn reading(text: &str) -> Result<Reading> {
    let (line, body) = match text.split_once(" \"") {
        Some((line, body)) => (line, body.strip_suffix('"').context("content without its quote")?),
        None => (text, ""),
    };
    let (line, host) = line.split_once(" @").map_or((line, "t"), |(line, host)| (line, host));
    let (method, target) = line.split_once(' ').context("no target")?;
    let host = (host != "upstream").then(|| self::text(host)).transpose()?;
    Ok(Reading { method: self::text(method)?, target: self::text(target)?, host, body: bytes(body)? })
}

/// `status [reason]`; the reason may be left out where the status tells it.
fn answered(text: &str) -> Result<Step> {
    let (status, reason) = text.split_once(' ').unwrap_or((text, ""));
    let usual = match status {
        "400" => "request_malformed",
        "405" => "method_not_allowed",
        "408" => "request_timeout",
        "413" => "body_too_large",
        "417" => "expectation_failed",
        "431" => "head_too_large",
        "505" => "version_not_supported",
        _ => "",
    };
    let reason = if reason.is_empty() { usual } else { reason };
    ensure!(!reason.is_empty(), "no reason");
    Ok(Step::Answered { status: status.parse()?, reason: reason.to_owned() })
}

/// `[last] [trailer] Name[: value]`.
fn check(present: bool, text: &str) -> Result<Check> {
    let (last, text) = text.strip_prefix("last ").map_or((false, text), |text| (true, text));
    let (trailer, text) = text.strip_prefix("trailer ").map_or((false, text), |text| (true, text));
    let (name, value) = text.split_once(':').map_or((text, None), |(name, value)| (name, Some(value.trim())));
    let value = value.map(self::text).transpose()?;
    Ok(Check { present, last, trailer, name: name.to_owned(), value })
}

fn text(notation: &str) -> Result<String> {
    Ok(String::from_utf8_lossy(&bytes(notation)?).into_owned())
}

/// Bytes alone.
fn bytes(notation: &str) -> Result<Vec<u8>> {
    match expand(notation)? {
        (actions, Then::Follows) => match actions.as_slice() {
            [] => Ok(Vec::new()),
            [Action::Send(bytes)] => Ok(bytes.clone()),
            _ => bail!("more than bytes: {notation:?}"),
        },
        _ => bail!("more than bytes: {notation:?}"),
    }
}

/// What a line of bytes stands for.
fn expand(notation: &str) -> Result<(Vec<Action>, Then)> {
    let (mut actions, mut sent, mut then) = (Vec::new(), Vec::new(), Then::Follows);
    let mut rest = notation;
    while let Some(next) = rest.chars().next() {
        ensure!(then == Then::Follows, "something follows the end");
        match next {
            '\\' => rest = escape(&rest[1..], &mut sent)?,
            '{' => {
                let end = closing(rest)?;
                let inner = &rest[1..end];
                rest = &rest[end + 1..];
                match inner {
                    "split" | "wait" => {
                        actions.push(Action::Send(std::mem::take(&mut sent)));
                        actions.extend((inner == "wait").then_some(Action::Wait));
                    }
                    "end" => then = Then::Ends,
                    "hold" => then = Then::Holds,
                    _ => sent.extend(shorthand(inner)?),
                }
            }
            _ => {
                sent.extend(&rest.as_bytes()[..next.len_utf8()]);
                rest = &rest[next.len_utf8()..];
            }
        }
    }
    if !sent.is_empty() {
        actions.push(Action::Send(sent));
    }
    Ok((actions, then))
}

/// What stands behind a backslash; the rest.
fn escape<'a>(rest: &'a str, sent: &mut Vec<u8>) -> Result<&'a str> {
    let (byte, length) = match rest.as_bytes().first() {
        Some(b'r') => (b'\r', 1),
        Some(b'n') => (b'\n', 1),
        Some(b't') => (b'\t', 1),
        Some(b'0') => (0, 1),
        Some(b'x') => (u8::from_str_radix(rest.get(1..3).context("\\x without two digits")?, 16)?, 3),
        Some(byte @ (b'\\' | b'{' | b'}' | b'"')) => (*byte, 1),
        _ => bail!("no escape: \\{rest:.3}"),
    };
    sent.push(byte);
    Ok(&rest[length..])
}

/// Where the brace that opens `text` is closed.
fn closing(text: &str) -> Result<usize> {
    let (mut depth, mut escaped) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 1 => return Ok(at),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    bail!("a brace is not closed")
}

/// `{host}`, `{te}`, `{cl 5}`, `{80*text}`, `{GET /target}`.
fn shorthand(inner: &str) -> Result<Vec<u8>> {
    if let Some((count, text)) = inner.split_once('*')
        && let Ok(count) = count.parse()
    {
        return Ok(bytes(text)?.repeat(count));
    }
    match inner.split_once(' ') {
        Some(("cl", length)) => Ok(format!("Content-Length: {length}\r\n").into_bytes()),
        Some((method, target)) => Ok([method.as_bytes(), b" ", &bytes(target)?, b" HTTP/1.1\r\nHost: t\r\n"].concat()),
        None if inner == "host" => Ok(b"Host: t\r\n".to_vec()),
        None if inner == "te" => Ok(b"Transfer-Encoding: chunked\r\n".to_vec()),
        None => bail!("no shorthand: {{{inner}}}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notation_says_what_its_readme_says() {
        let text = "# why\n\nname | 100; passes POST /a?b @u \"h\\x00\"; closes | because\n    {POST /a?b}{cl 2}\\r\\n{wait}{2*{2*x}}{end}\n    + X: 1\n    - last trailer Y\n    ~ nginx, haproxy because of it\n";
        let cases = parse("class", text).expect("a case");
        let [case] = cases.as_slice() else { panic!("{cases:?}") };
        let head = b"POST /a?b HTTP/1.1\r\nHost: t\r\nContent-Length: 2\r\n\r\n".to_vec();
        assert_eq!(case.actions, [Action::Send(head), Action::Wait, Action::Send(b"xxxx".to_vec())]);
        let reading =
            Reading { method: "POST".into(), target: "/a?b".into(), host: Some("u".into()), body: b"h\0".to_vec() };
        assert_eq!(case.steps, [Step::Continues, Step::Passes(reading)]);
        assert_eq!((case.then, case.end, case.name.as_str()), (Then::Ends, End::Closed, "class/name"));
        assert_eq!((case.checks.len(), case.differs.len()), (2, 2));
        for wrong in ["x", "x | passes | y", "x | refused 499 | y", "x | refused 400; closes | y", "    bytes"] {
            assert!(parse("class", wrong).is_err(), "{wrong}");
        }
        for wrong in ["\\q", "{open", "{nothing}", "{end}more", "\\x1"] {
            assert!(expand(wrong).is_err(), "{wrong}");
        }
    }
}
