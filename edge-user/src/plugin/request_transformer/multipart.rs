//! A `multipart/form-data` body (RFC 7578) in its parts: what no step touches stays byte for byte as it came.

use super::Step;

/// One part, from behind its boundary to before the next one: line end, fields, empty line, content, line end.
struct Part<'b> {
    name: Option<String>,
    bytes: std::borrow::Cow<'b, [u8]>,
}

/// The parts between a boundary.
pub struct Multipart<'b> {
    boundary: Vec<u8>,
    /// Before the first boundary.
    preamble: &'b [u8],
    parts: Vec<Part<'b>>,
    /// Behind the last one.
    epilogue: &'b [u8],
}

/// The `boundary` parameter of a content type (RFC 2046, 5.1.1).
pub fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type).ok()?;
    let value = parameter(text.split_once(';')?.1, "boundary")?;
    ((1..=70).contains(&value.len())).then(|| value.into_bytes())
}

/// A parameter of a field's value, quoted or not.
fn parameter(mut rest: &str, wanted: &str) -> Option<String> {
    loop {
        let (name, after) = rest.trim_start_matches([';', ' ', '\t']).split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
            Some(quoted) => {
                let (mut value, mut escaped, mut end) = (String::new(), false, None);
                for (at, c) in quoted.char_indices() {
                    match c {
                        _ if std::mem::take(&mut escaped) => value.push(c),
                        '\\' => escaped = true,
                        '"' => {
                            end = Some(at + 1);
                            break;
                        }
                        c => value.push(c),
                    }
                }
                (value, &quoted[end?..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = after;
    }
}

impl<'b> Multipart<'b> {
    /// Takes a body apart; nothing where it is not one with this boundary, whole.
    pub fn parse(body: &'b [u8], boundary: Vec<u8>) -> Option<Self> {
        let delimiter = [b"--", &boundary[..]].concat();
        let first = match body.starts_with(&delimiter) {
            true => 0,
            false => find(body, &[b"\r\n", &delimiter[..]].concat())? + 2,
        };
        let (preamble, mut rest) = (&body[..first], &body[first + delimiter.len()..]);
        let next = [b"\r\n", &delimiter[..]].concat();
        let mut parts = Vec::new();
        while !rest.starts_with(b"--") {
            let end = find(rest, &next)?;
            let bytes = &rest[..end];
            bytes.starts_with(b"\r\n").then_some(())?;
            let head = &bytes[..find(bytes, b"\r\n\r\n")?];
            parts.push(Part { name: name(head), bytes: bytes.into() });
            rest = &rest[end + next.len()..];
        }
        Some(Self { boundary, preamble, parts, epilogue: &rest[2..] })
    }

    /// As text once more.
    pub fn text(&self) -> Vec<u8> {
        let mut text = self.preamble.to_vec();
        for (index, part) in self.parts.iter().enumerate() {
            text.extend_from_slice(if index == 0 { b"--" } else { b"\r\n--" });
            text.extend_from_slice(&self.boundary);
            text.extend_from_slice(&part.bytes);
        }
        text.extend_from_slice(if self.parts.is_empty() { b"--" } else { b"\r\n--" });
        text.extend_from_slice(&self.boundary);
        text.extend_from_slice(b"--");
        text.extend_from_slice(self.epilogue);
        text
    }

    /// Whether a part has this name.
    pub fn has(&self, name: &str) -> bool {
        self.parts.iter().any(|part| part.is(name))
    }

    fn remove(&mut self, name: &str) {
        self.parts.retain(|part| !part.is(name));
    }

    /// Takes a step; appending is none that Kong knows here.
    pub fn apply(&mut self, step: &Step, value: &[u8]) {
        match step {
            Step::Remove(name) => self.remove(name),
            Step::Rename(old, new) if old != new && self.has(old) => {
                self.remove(new);
                for part in self.parts.iter_mut().filter(|part| part.is(old)) {
                    let content = find(&part.bytes, b"\r\n\r\n").map_or(0, |at| at);
                    let (head, content) = part.bytes.split_at(content);
                    let renamed = renamed(&String::from_utf8_lossy(head), new);
                    part.bytes = [renamed.as_bytes(), content].concat().into();
                    part.name = Some(new.to_string());
                }
            }
            Step::Replace(name, _) => {
                let Some(at) = self.parts.iter().position(|part| part.is(name)) else { return };
                self.parts[at] = Part::simple(name, value);
                let mut place = 0..;
                self.parts.retain(|part| place.next() <= Some(at) || !part.is(name));
            }
            Step::Add(name, _) if !self.has(name) => self.parts.push(Part::simple(name, value)),
            Step::Rename(..) | Step::Add(..) | Step::Append(..) => {}
        }
    }

    /// Whether a value would end a part before its end.
    pub(super) fn ends_with(&self, value: &[u8]) -> bool {
        find(value, &[b"--", &self.boundary[..]].concat()).is_some()
    }
}

impl Part<'_> {
    fn is(&self, name: &str) -> bool {
        self.name.as_deref() == Some(name)
    }

    fn simple(name: &str, value: &[u8]) -> Self {
        let head = format!("\r\nContent-Disposition: form-data; name=\"{}\"\r\n\r\n", escaped(name));
        Self { name: Some(name.to_owned()), bytes: [head.as_bytes(), value].concat().into() }
    }
}

/// The name that a part's fields give it.
fn name(head: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(head);
    let disposition = text.split("\r\n").find_map(disposition)?;
    parameter(disposition.split_once(';')?.1, "name")
}

fn disposition(line: &str) -> Option<&str> {
    let (name, value) = line.split_once(':')?;
    name.eq_ignore_ascii_case("content-disposition").then_some(value)
}

/// The fields of a part with another name in its disposition; a file's name stays.
fn renamed(head: &str, new: &str) -> String {
    let lines = head.split("\r\n").map(|line| match disposition(line) {
        None => line.to_owned(),
        Some(value) => {
            let file = value.split_once(';').and_then(|(_, rest)| parameter(rest, "filename"));
            let file = file.map_or(String::new(), |file| format!("; filename=\"{}\"", escaped(&file)));
            format!("Content-Disposition: form-data; name=\"{}\"{file}", escaped(new))
        }
    });
    lines.collect::<Vec<_>>().join("\r\n")
}

/// As browsers write it (WHATWG HTML, 4.10.21.8).
fn escaped(name: &str) -> String {
    name.replace('"', "%22").replace('\r', "%0D").replace('\n', "%0A")
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, wanted)
}

#[cfg(test)]
mod tests {
    use super::super::template::Template;
    use super::*;

    const BODY: &str = "--b\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\n1\r\n--b\r\ncontent-disposition: form-data; \
                        filename=\"x;y.txt\"; name=f\r\nContent-Type: text/plain\r\n\r\nfile\r\n\r\nend\r\n--b--\r\n";

    fn apply(body: &str, step: &Step) -> Option<String> {
        let mut multipart = Multipart::parse(body.as_bytes(), b"b".to_vec())?;
        multipart.apply(step, b"new");
        Some(String::from_utf8(multipart.text()).unwrap())
    }

    #[test]
    fn steps_change_parts_by_name() {
        let value = || Template::parse("", &mut Vec::new()).unwrap();
        let simple = |name: &str, value: &str| {
            format!("\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n--b")
        };
        let (a, f) = (simple("a", "1"), &BODY[BODY.find("\r\ncontent-").unwrap()..BODY.len() - 4]);
        let check = |step: Step, parts: &str| assert_eq!(apply(BODY, &step), Some(format!("--b{parts}--\r\n")));
        check(Step::Remove("none".into()), &format!("{a}{f}"));
        check(Step::Remove("a".into()), f);
        check(Step::Remove("f".into()), &a);
        check(Step::Rename("a".into(), "f".into()), &simple("f", "1"));
        let file = "\r\nContent-Disposition: form-data; name=\"g\"; filename=\"x;y.txt\"\r\nContent-Type: text/plain\r\n\r\n\
                    file\r\n\r\nend\r\n--b";
        check(Step::Rename("f".into(), "g".into()), &format!("{a}{file}"));
        check(Step::Replace("a".into(), value()), &format!("{}{f}", simple("a", "new")));
        check(Step::Replace("none".into(), value()), &format!("{a}{f}"));
        check(Step::Add("a".into(), value()), &format!("{a}{f}"));
        check(Step::Add("c\"".into(), value()), &format!("{a}{f}{}", simple("c%22", "new")));
        check(Step::Append("a".into(), value()), &format!("{a}{f}"));
    }

    #[test]
    fn what_is_not_whole_is_left_alone() {
        let step = Step::Remove("a".into());
        let with_preamble = format!("before\r\n{BODY}after");
        assert!(apply(&with_preamble, &step).unwrap().starts_with("before\r\n--b\r\ncontent"));
        assert!(apply(&with_preamble, &step).unwrap().ends_with("--b--\r\nafter"));
        for body in
            ["", "x", "--b", "--b\r\n\r\n1", "--b\r\n1\r\n--b--", "--bx\r\n\r\n1\r\n--b--", &BODY[..BODY.len() - 5]]
        {
            assert_eq!(apply(body, &step), None, "{body}");
        }
        assert_eq!(apply("--b--", &step).as_deref(), Some("--b--"));
    }

    #[test]
    fn the_boundary_is_a_parameter() {
        for (text, expected) in [
            ("multipart/form-data; boundary=abc", Some("abc")),
            ("multipart/form-data;charset=x; Boundary=\"a;b\"", Some("a;b")),
            ("multipart/form-data; x=\"boundary=no\"; boundary=yes", Some("yes")),
            ("multipart/form-data", None),
            ("multipart/form-data; boundary=", None),
            ("multipart/form-data; boundary=\"abc", None),
        ] {
            assert_eq!(boundary(text.as_bytes()).as_deref(), expected.map(str::as_bytes), "{text}");
        }
    }
}
