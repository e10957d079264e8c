//! A small reader of Tcl: commands, words, braces, quotes, `[…]`, `$name`. It evaluates nothing.
//!
//! Words stay as they stand until somebody asks what they are made of (`pieces`), as Tcl itself does with what stands in
//! braces.

/// Deepest nesting of braces and brackets in one word.
const MAX_DEPTH: usize = 64;

/// How a word stood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// `{…}`: nothing in it is replaced.
    Braced,
    /// `"…"`
    Quoted,
    /// Neither.
    Bare,
}

/// One word of a command, without its braces or quotes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// How it stood.
    pub(super) kind: Kind,
    /// What stood there.
    pub(super) text: String,
    /// The line it begins on.
    pub(super) line: u32,
}

/// One command with its words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Command {
    /// The name first.
    pub(super) words: Vec<Word>,
    /// The line of its first word.
    pub(super) first: u32,
    /// The line it ends on.
    pub(super) last: u32,
}

impl Command {
    /// The word at a place as it stood, or nothing.
    pub(super) fn word(&self, index: usize) -> &str {
        self.words.get(index).map_or("", |word| &word.text)
    }
}

/// What a word is made of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Piece {
    /// Itself.
    Text(String),
    /// `$name`, `${name}`
    Variable(String),
    /// `[command …]`
    Command(Command),
}

/// Why a text is no Tcl.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{what}")]
pub(super) struct Error {
    /// What is wrong.
    pub(super) what: &'static str,
    /// Where.
    pub(super) line: u32,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
}

/// Reads a script that begins on this line.
pub(super) fn parse(text: &str, line: u32) -> Result<Vec<Command>, Error> {
    let mut reader = Reader { text, at: 0, line };
    let mut commands = Vec::new();
    while let Some(command) = reader.command()? {
        if !command.words.is_empty() {
            commands.push(command);
        }
    }
    Ok(commands)
}

/// Reads the words of a list, such as the arms of a `switch`.
pub(super) fn list(text: &str, line: u32) -> Result<Vec<Word>, Error> {
    let mut reader = Reader { text, at: 0, line };
    let mut words = Vec::new();
    loop {
        let rest = &reader.text[reader.at..];
        match rest.bytes().next() {
            None => return Ok(words),
            Some(byte) if byte.is_ascii_whitespace() || byte == b';' => {
                reader.line += u32::from(byte == b'\n');
                reader.at += 1;
            }
            // Not Tcl's, but TMM takes comments between arms, and people write them.
            Some(b'#') => reader.at += rest.find('\n').unwrap_or(rest.len()),
            Some(b'\\') if reader.ends_line(reader.at + 1) => reader.at += 1,
            Some(_) => words.push(reader.word()?),
        }
    }
}

/// Takes a word apart.
pub(super) fn pieces(word: &Word) -> Result<Vec<Piece>, Error> {
    if word.kind == Kind::Braced {
        return Ok(vec![Piece::Text(word.text.clone())]);
    }
    let mut pieces = Vec::new();
    let mut plain = String::new();
    let mut reader = Reader { text: &word.text, at: 0, line: word.line };
    while let Some(char) = reader.text[reader.at..].chars().next() {
        let piece = match char {
            '[' => {
                let inner = reader.nested(b'[', b']')?;
                let mut commands = parse(&inner.text, inner.line)?;
                let command = match commands.len() {
                    1 => commands.remove(0),
                    _ => return Err(Error { what: "brackets with none or several commands", line: inner.line }),
                };
                Piece::Command(command)
            }
            '$' => match reader.variable() {
                Some(name) => Piece::Variable(name),
                None => {
                    plain.push('$');
                    reader.at += 1;
                    continue;
                }
            },
            '\\' => {
                reader.at += 1;
                if let Some(char) = reader.text[reader.at..].chars().next() {
                    reader.at += char.len_utf8();
                    plain.push(match char {
                        'n' => '\n',
                        'r' => '\r',
                        't' => '\t',
                        other => other,
                    });
                }
                continue;
            }
            _ => {
                plain.push(char);
                reader.at += char.len_utf8();
                continue;
            }
        };
        if !plain.is_empty() {
            pieces.push(Piece::Text(std::mem::take(&mut plain)));
        }
        pieces.push(piece);
    }
    if !plain.is_empty() || pieces.is_empty() {
        pieces.push(Piece::Text(plain));
    }
    Ok(pieces)
}

/// Reads `$name` or `[…]` at the front of an expression; gives the piece and how many bytes it took.
pub(super) fn substitution(text: &str, line: u32) -> Result<Option<(Piece, usize)>, Error> {
    let mut reader = Reader { text, at: 0, line };
    if text.starts_with('[') {
        let inner = reader.nested(b'[', b']')?;
        let commands = parse(&inner.text, inner.line)?;
        return match <[Command; 1]>::try_from(commands) {
            Ok([command]) => Ok(Some((Piece::Command(command), reader.at))),
            Err(_) => Err(Error { what: "brackets with none or several commands", line }),
        };
    }
    Ok(reader.variable().map(|name| (Piece::Variable(name), reader.at)))
}

/// Reads a quoted or braced word at the front of an expression; gives it and how many bytes it took.
pub(super) fn literal(text: &str, line: u32) -> Result<(Word, usize), Error> {
    let mut reader = Reader { text, at: 0, line };
    let word = reader.word()?;
    Ok((word, reader.at))
}

impl Reader<'_> {
    fn error(&self, what: &'static str) -> Error {
        Error { what, line: self.line }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The next command, empty between separators; `None` at the end.
    fn command(&mut self) -> Result<Option<Command>, Error> {
        let mut words: Vec<Word> = Vec::new();
        loop {
            let Some(byte) = self.peek() else {
                return Ok((!words.is_empty()).then(|| self.closed(words)));
            };
            match byte {
                b'\n' | b';' => {
                    let command = self.closed(words);
                    self.at += 1;
                    self.line += u32::from(byte == b'\n');
                    return Ok(Some(command));
                }
                b'#' if words.is_empty() => self.comment(),
                b'\\' if matches!(self.text.as_bytes().get(self.at + 1), Some(b'\n')) => {
                    self.at += 2;
                    self.line += 1;
                }
                b'\\' if self.text[self.at + 1..].starts_with("\r\n") => {
                    self.at += 3;
                    self.line += 1;
                }
                byte if byte.is_ascii_whitespace() => self.at += 1,
                _ => words.push(self.word()?),
            }
        }
    }

    fn closed(&self, words: Vec<Word>) -> Command {
        let first = words.first().map_or(self.line, |word| word.line);
        Command { words, first, last: self.line }
    }

    fn comment(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => return,
                // A comment goes on behind an escaped line end.
                b'\\' if self.text.as_bytes().get(self.at + 1) == Some(&b'\n') => {
                    self.line += 1;
                    self.at += 2;
                }
                _ => self.at += 1,
            }
        }
    }

    fn word(&mut self) -> Result<Word, Error> {
        match self.peek() {
            Some(b'{') => {
                let mut word = self.nested(b'{', b'}')?;
                word.kind = Kind::Braced;
                self.must_end()?;
                Ok(word)
            }
            Some(b'"') => {
                let word = self.quoted()?;
                self.must_end()?;
                Ok(word)
            }
            _ => self.bare(),
        }
    }

    /// Behind a brace or quote a word is over.
    fn must_end(&self) -> Result<(), Error> {
        match self.peek() {
            Some(byte) if !byte.is_ascii_whitespace() && !matches!(byte, b';' | b']' | b')' | b'&' | b'|' | b'}') => {
                Err(self.error("characters behind a closing brace or quote"))
            }
            _ => Ok(()),
        }
    }

    /// What stands between a pair of brackets that nest.
    fn nested(&mut self, open: u8, close: u8) -> Result<Word, Error> {
        let line = self.line;
        let start = self.at + 1;
        let mut depth = 0usize;
        while let Some(byte) = self.peek() {
            match byte {
                b'\\' => {
                    self.line += u32::from(self.text.as_bytes().get(self.at + 1) == Some(&b'\n'));
                    self.at += 1;
                }
                b'\n' => self.line += 1,
                byte if byte == open => {
                    depth += 1;
                    if depth > MAX_DEPTH {
                        return Err(self.error("braces or brackets nest too deep"));
                    }
                }
                byte if byte == close => depth -= 1,
                _ => {}
            }
            self.at += 1;
            if depth == 0 {
                // An escape may have ended inside a character; then `close` did not match there.
                let text = self.text.get(start..self.at - 1).unwrap_or_default().to_owned();
                return Ok(Word { kind: Kind::Bare, text, line });
            }
        }
        self.at = self.text.len();
        Err(Error { what: "a brace or bracket that is not closed", line })
    }

    fn quoted(&mut self) -> Result<Word, Error> {
        let line = self.line;
        self.at += 1;
        let start = self.at;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => {
                    let text = self.text[start..self.at].to_owned();
                    self.at += 1;
                    return Ok(Word { kind: Kind::Quoted, text, line });
                }
                b'[' => {
                    self.nested(b'[', b']')?;
                }
                b'\\' => {
                    self.line += u32::from(self.text.as_bytes().get(self.at + 1) == Some(&b'\n'));
                    self.at += 1 + self.char_len_at(self.at + 1);
                }
                byte => {
                    self.line += u32::from(byte == b'\n');
                    self.at += self.char_len_at(self.at);
                }
            }
        }
        Err(Error { what: "a quote that is not closed", line })
    }

    fn ends_line(&self, at: usize) -> bool {
        self.text.get(at..).is_some_and(|rest| rest.starts_with('\n') || rest.starts_with("\r\n"))
    }

    fn char_len_at(&self, at: usize) -> usize {
        self.text.get(at..).and_then(|rest| rest.chars().next()).map_or(0, char::len_utf8)
    }

    fn bare(&mut self) -> Result<Word, Error> {
        let (line, start) = (self.line, self.at);
        while let Some(byte) = self.peek() {
            match byte {
                b'[' => {
                    self.nested(b'[', b']')?;
                }
                b'\\' if self.ends_line(self.at + 1) => break,
                b'\\' => self.at += 1 + self.char_len_at(self.at + 1),
                b'$' if self.text.as_bytes().get(self.at + 1) == Some(&b'{') => {
                    self.at += 1;
                    self.nested(b'{', b'}')?;
                }
                byte if byte.is_ascii_whitespace() || byte == b';' => break,
                _ => self.at += self.char_len_at(self.at),
            }
        }
        Ok(Word { kind: Kind::Bare, text: self.text[start..self.at].to_owned(), line })
    }

    fn variable(&mut self) -> Option<String> {
        let rest = self.text.get(self.at..)?.strip_prefix('$')?;
        if let Some(braced) = rest.strip_prefix('{') {
            let end = braced.find('}')?;
            self.at += end + 3;
            return Some(braced[..end].to_owned());
        }
        let length =
            rest.bytes().take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b':')).count();
        // `$host:` in a text ends before its colon.
        let name = rest[..length].trim_end_matches(':');
        if name.is_empty() {
            return None;
        }
        self.at += name.len() + 1;
        Some(name.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        let show = |word: &Word| match word.kind {
            Kind::Braced => format!("{{{}}}", word.text),
            Kind::Quoted => format!("\"{}\"", word.text),
            Kind::Bare => word.text.clone(),
        };
        match parse(text, 1) {
            Ok(commands) => {
                let command = |command: &Command| {
                    let words: Vec<_> = command.words.iter().map(show).collect();
                    format!("{}-{} {}", command.first, command.last, words.join("|"))
                };
                commands.iter().map(command).collect::<Vec<_>>().join("\n")
            }
            Err(error) => format!("{}: {error}", error.line),
        }
    }

    #[test]
    fn commands_and_words_are_told_apart() {
        for (text, expected) in [
            ("a b; c\n# no {\nd {x {y} \n} \"q [e \"f\"] r\"", "1-1 a|b\n1-1 c\n3-4 d|{x {y} \n}|\"q [e \"f\"] r\""),
            ("a \\\n  b", "1-2 a|b"),
            ("a \\\r\n  b", "1-2 a|b"),
            ("pool [class lookup [HTTP::host] dg] x", "1-1 pool|[class lookup [HTTP::host] dg]|x"),
            ("a \"\\\"\" {\\}}", "1-1 a|\"\\\"\"|{\\}}"),
            ("set x ${a b}c", "1-1 set|x|${a b}c"),
            ("if {", "1: a brace or bracket that is not closed"),
            ("\n\"x", "2: a quote that is not closed"),
            ("{a}b", "1: characters behind a closing brace or quote"),
            ("", ""),
        ] {
            assert_eq!(shown(text), expected, "{text}");
        }
        assert!(shown(&"[".repeat(3000)).contains("too deep"));
    }

    #[test]
    fn words_are_taken_apart() {
        let word = |kind, text: &str| Word { kind, text: text.into(), line: 1 };
        let shown = |word: &Word| {
            let show = |piece: &Piece| match piece {
                Piece::Text(text) => format!("{text:?}"),
                Piece::Variable(name) => format!("${name}"),
                Piece::Command(command) => format!("[{}]", command.word(0)),
            };
            pieces(word).map(|pieces| pieces.iter().map(show).collect::<Vec<_>>().join(" "))
        };
        for (text, expected) in [
            ("https://[HTTP::host]/x$y", "\"https://\" [HTTP::host] \"/x\" $y"),
            ("a${b}\\n", "\"a\" $b \"\\n\""),
            ("$host: $static::x", "$host \": \" $static::x"),
            ("5$", "\"5$\""),
            ("", "\"\""),
        ] {
            assert_eq!(shown(&word(Kind::Quoted, text)).unwrap(), expected, "{text}");
        }
        assert_eq!(shown(&word(Kind::Braced, "$a [b]")).unwrap(), "\"$a [b]\"");
        assert!(shown(&word(Kind::Bare, "[a; b]")).is_err());
    }
}
