//! The grammar of `bigip.conf`: `module type name { key value key { … } }`, with quotes, escapes, comments and rules whose
//! body is Tcl, kept as it stands.
//!
//! Nothing is understood here and nothing is lost: every node knows its lines. What cannot be read is given to the ledger
//! with its reason, and reading goes on behind it where it can.

use super::ledger::{Ledger, Span};

/// Deepest nesting of blocks.
pub(super) const MAX_DEPTH: usize = 32;

/// One statement: words, and a block where it has one.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// The words before the block or the line's end.
    pub(super) words: Vec<String>,
    /// What stands in its braces.
    pub(super) block: Option<Vec<Node>>,
    /// The Tcl of a rule, and the line on which it begins.
    pub(super) script: Option<(String, u32)>,
    /// From its first word to its closing brace.
    pub(super) span: Span,
}

impl Node {
    /// The word at a place, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", String::as_str)
    }

    /// Its block's nodes.
    pub(super) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The child of this name.
    pub(super) fn child(&self, key: &str) -> Option<&Node> {
        self.children().iter().find(|node| node.word(0) == key)
    }

    /// The value of the child of this name, unless it is `none`.
    pub(super) fn value(&self, key: &str) -> Option<(&str, Span)> {
        let node = self.child(key)?;
        let value = node.words.get(1)?;
        (value != "none").then_some((value, node.span))
    }

    /// The names in its block, one a line or many, each with its node.
    pub(super) fn names(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.children().iter().flat_map(|node| {
            // `a { … }` is one name; `a b` in a list are two.
            let count = if node.block.is_some() { 1 } else { node.words.len() };
            node.words.iter().take(count).map(move |word| (word.as_str(), node))
        })
    }
}

#[derive(PartialEq, Debug)]
enum Token {
    Word(String),
    Open,
    Close,
    Line,
    End,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    file: usize,
    ledger: &'a Ledger,
}

/// Reads one file that the ledger knows.
pub(super) fn parse(text: &str, file: usize, ledger: &Ledger) -> Vec<Node> {
    let mut reader = Reader { text, at: 0, line: 1, file, ledger };
    let mut nodes = Vec::new();
    while let Some(node) = reader.object() {
        nodes.extend(node);
    }
    nodes
}

/// Whether the body of an object is Tcl.
fn is_script(words: &[String]) -> bool {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["ltm" | "gtm", "rule", ..] | ["rule", ..] | ["cli", "script", ..] | ["sys", "icall", ..]
    )
}

impl Reader<'_> {
    fn span(&self, first: u32) -> Span {
        Span { file: self.file, first, last: self.line }
    }

    /// The next object; `None` at the end, `Some(None)` where a line is none.
    fn object(&mut self) -> Option<Option<Node>> {
        let mut words = Vec::new();
        let mut first = self.line;
        loop {
            match self.token() {
                Token::End if words.is_empty() => return None,
                Token::Line if words.is_empty() => {}
                Token::Word(word) => {
                    if words.is_empty() {
                        first = self.word_line(&word);
                    }
                    words.push(word);
                }
                Token::Open if !words.is_empty() => break,
                Token::Line | Token::End => {
                    self.ledger.dropped(self.before(first), "not an object: no `{` follows on this line");
                    return Some(None);
                }
                Token::Open | Token::Close => {
                    self.ledger.dropped(self.span(self.line), "a brace that belongs to nothing");
                    return Some(None);
                }
            }
        }
        if is_script(&words) {
            let line = self.line;
            return Some(self.script(first).map(|script| Node {
                words,
                block: None,
                script: Some((script, line)),
                span: self.span(first),
            }));
        }
        let block = self.block(first, 1);
        Some(block.map(|block| Node { words, block: Some(block), script: None, span: self.span(first) }))
    }

    /// The line a word began on: quoted ones may span several.
    fn word_line(&self, word: &str) -> u32 {
        self.line - (word.matches('\n').count() as u32).min(self.line - 1)
    }

    /// Up to the line that has just ended.
    fn before(&self, first: u32) -> Span {
        Span { file: self.file, first, last: self.line.saturating_sub(1).max(first) }
    }

    fn block(&mut self, first: u32, depth: usize) -> Option<Vec<Node>> {
        if depth > MAX_DEPTH {
            self.skip();
            self.ledger.dropped(self.span(first), format!("blocks nest deeper than {MAX_DEPTH} levels"));
            return None;
        }
        let mut nodes = Vec::new();
        let (mut words, mut start) = (Vec::new(), self.line);
        loop {
            let token = self.token();
            let ends = !matches!(token, Token::Word(_) | Token::Open);
            if ends && !words.is_empty() {
                let span = if token == Token::Line { self.before(start) } else { self.span(start) };
                nodes.push(Node { words: std::mem::take(&mut words), block: None, script: None, span });
            }
            match token {
                Token::Word(word) => {
                    if words.is_empty() {
                        start = self.word_line(&word);
                    }
                    words.push(word);
                }
                Token::Line => {}
                Token::Open => {
                    let start = if words.is_empty() { self.line } else { start };
                    let words = std::mem::take(&mut words);
                    let block = Some(self.block(start, depth + 1)?);
                    nodes.push(Node { words, block, script: None, span: self.span(start) });
                }
                Token::Close => return Some(nodes),
                Token::End => {
                    self.ledger.dropped(self.span(first), "its braces are not closed before the file ends");
                    return None;
                }
            }
        }
    }

    /// Everything up to the brace that closes a block, by the rules of Tcl: quotes do not count, `\` escapes.
    fn script(&mut self, first: u32) -> Option<String> {
        let (start, mut depth) = (self.at, 1usize);
        let mut bytes = self.text.as_bytes()[start..].iter().enumerate();
        while let Some((offset, byte)) = bytes.next() {
            match byte {
                b'\\' => self.line += u32::from(bytes.next().is_some_and(|(_, byte)| *byte == b'\n')),
                b'\n' => self.line += 1,
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                self.at = start + offset + 1;
                return Some(self.text[start..start + offset].to_owned());
            }
        }
        self.at = self.text.len();
        self.ledger.dropped(self.span(first), "its braces are not closed before the file ends");
        None
    }

    /// Leaves out the rest of a block.
    fn skip(&mut self) {
        let mut depth = 1usize;
        while depth > 0 {
            match self.token() {
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                Token::End => return,
                Token::Word(_) | Token::Line => {}
            }
        }
    }

    fn token(&mut self) -> Token {
        let rest = &self.text[self.at..];
        let blank = rest.len() - rest.trim_start_matches([' ', '\t', '\r', '\x0c']).len();
        self.at += blank;
        let rest = &self.text[self.at..];
        let Some(byte) = rest.bytes().next() else { return Token::End };
        match byte {
            b'\n' => {
                self.at += 1;
                self.line += 1;
                Token::Line
            }
            b'{' => self.one(Token::Open),
            b'}' => self.one(Token::Close),
            // A comment has its line for itself.
            b'#' if self.text[..self.at].rsplit('\n').next().is_some_and(|start| start.trim().is_empty()) => {
                self.at += rest.find('\n').unwrap_or(rest.len());
                self.token_behind_comment()
            }
            b'"' => Token::Word(self.quoted()),
            _ => Token::Word(self.bare()),
        }
    }

    /// A comment ends at its line's end, so this goes no deeper.
    fn token_behind_comment(&mut self) -> Token {
        if self.at == self.text.len() {
            return Token::End;
        }
        self.at += 1;
        self.line += 1;
        Token::Line
    }

    fn one(&mut self, token: Token) -> Token {
        self.at += 1;
        token
    }

    fn bare(&mut self) -> String {
        let mut word = String::new();
        let mut chars = self.text[self.at..].char_indices();
        let end = loop {
            match chars.next() {
                None => break self.text.len() - self.at,
                Some((at, char)) if char.is_ascii_whitespace() || matches!(char, '{' | '}') => break at,
                Some((_, '\\')) => match chars.next() {
                    Some((_, '\n')) => self.line += 1,
                    Some((_, char)) => word.push(char),
                    None => {}
                },
                Some((_, char)) => word.push(char),
            }
        };
        self.at += end;
        word
    }

    /// `\"` and `\\` are the characters themselves; what else follows a `\` is its user's.
    fn quoted(&mut self) -> String {
        let mut word = String::new();
        let mut chars = self.text[self.at..].char_indices().skip(1);
        let end = loop {
            match chars.next() {
                None => break self.text.len() - self.at,
                Some((at, '"')) => break at + 1,
                Some((_, '\\')) => match chars.next() {
                    Some((_, char @ ('"' | '\\'))) => word.push(char),
                    Some((_, char)) => {
                        self.line += u32::from(char == '\n');
                        word.extend(['\\', char]);
                    }
                    None => {}
                },
                Some((_, char)) => {
                    self.line += u32::from(char == '\n');
                    word.push(char);
                }
            }
        };
        self.at += end;
        word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The nodes as text: `first-last words{children}`.
    fn shown(text: &str) -> String {
        fn show(node: &Node) -> String {
            let block = node
                .block
                .as_ref()
                .map_or(String::new(), |nodes| format!("{{{}}}", nodes.iter().map(show).collect::<Vec<_>>().join(";")));
            let script = node.script.as_ref().map_or(String::new(), |(text, line)| format!("<{line}:{text}>"));
            format!("{}-{} {}{block}{script}", node.span.first, node.span.last, node.words.join("|"))
        }
        let ledger = Ledger::default();
        let file = ledger.add("f", text);
        parse(text, file, &ledger).iter().map(show).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn objects_blocks_quotes_and_rules_are_read_with_their_lines() {
        for (text, expected) in [
            (
                "ltm pool /Common/a {\n    members {\n        x:80 { address 192.0.2.1 }\n    }\n}\n",
                "1-5 ltm|pool|/Common/a{2-4 members{3-3 x:80{3-3 address|192.0.2.1}}}",
            ),
            (
                "# c\nltm monitor http m { send \"GET /\\\\r\\\\n \\\"x\\\" {\" recv none }",
                "2-2 ltm|monitor|http|m{2-2 send|GET /\\r\\n \"x\" {|recv|none}",
            ),
            (
                "ltm rule r {\nwhen X {\n set a \"\\}\"\n}\n}\nltm node n { }",
                "1-5 ltm|rule|r<1:\nwhen X {\n set a \"\\}\"\n}\n>\n6-6 ltm|node|n{}",
            ),
            ("a b {\n  # { not a brace\n  k \"two\nlines\"\n}", "1-5 a|b{3-4 k|two\nlines}"),
            ("stray\nltm node n { a b }", "2-2 ltm|node|n{2-2 a|b}"),
            ("ltm\u{c}node n { a\u{c}b }", "1-1 ltm|node|n{1-1 a|b}"),
            ("}\n", ""),
            ("ltm pool p {\n a {\n", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
    }

    #[test]
    fn what_is_no_object_has_its_reason() {
        for (text, line, why) in [
            ("ltm pool p {\n a b\n", 2, "not closed"),
            ("ltm rule r {\n when { \n", 1, "not closed"),
            ("stray words\n", 1, "no `{`"),
            ("}\n", 1, "belongs to nothing"),
        ] {
            let ledger = Ledger::default();
            let file = ledger.add("f", text);
            parse(text, file, &ledger);
            let (files, _) = ledger.into_parts();
            let verdict = files[0].lines[line - 1].as_ref().unwrap();
            assert!(verdict.reasons[0].contains(why), "{text}: {verdict:?}");
        }
        let deep = format!("ltm pool p {}{}\nltm node n {{ }}\n", "{ a ".repeat(2000), "}".repeat(2000));
        assert_eq!(shown(&deep), "2-2 ltm|node|n{}");
    }
}
