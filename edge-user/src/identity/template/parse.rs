//! From text to expressions.

use serde_json::Value;

use super::{DEPTH, Expression, Field, Function, Part};

/// Literal text and pipelines in their order.
pub(super) fn parts(text: &str) -> Result<Vec<Part>, String> {
    let (mut parts, mut rest) = (Vec::new(), text);
    while let Some((before, after)) = rest.split_once("${") {
        push_text(&mut parts, before);
        let mut parser = Parser { rest: after };
        let pipeline = parser.pipeline(0)?;
        match parser.token()? {
            Token::End => parts.push(Part::Pipeline(pipeline)),
            found => return Err(format!("{found} in a `${{`, expected `|` or `}}`")),
        }
        rest = parser.rest;
    }
    push_text(&mut parts, rest);
    Ok(parts)
}

fn push_text(parts: &mut Vec<Part>, text: &str) {
    if !text.is_empty() {
        parts.push(Part::Text(text.into()));
    }
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Word(&'a str),
    Field(Vec<&'a str>),
    Literal(Value),
    Pipe,
    Open,
    Close,
    /// `}`
    End,
}

impl std::fmt::Display for Token<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{word}`"),
            Self::Field(path) => write!(f, "`.{}`", path.join(".")),
            Self::Literal(value) => write!(f, "`{value}`"),
            Self::Pipe => f.write_str("`|`"),
            Self::Open => f.write_str("`(`"),
            Self::Close => f.write_str("`)`"),
            Self::End => f.write_str("`}`"),
        }
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    /// Commands with `|` between them.
    fn pipeline(&mut self, depth: usize) -> Result<Expression, String> {
        if depth > DEPTH {
            return Err(format!("more than {DEPTH} parentheses within each other"));
        }
        let mut piped = None;
        loop {
            let command = self.command(depth, piped)?;
            if self.peek()? != Token::Pipe {
                return Ok(command);
            }
            self.token()?;
            piped = Some(command);
        }
    }

    /// A function with its arguments, or one value alone.
    fn command(&mut self, depth: usize, piped: Option<Expression>) -> Result<Expression, String> {
        match self.token()? {
            Token::Word(name) => {
                let mut arguments = Vec::new();
                while !matches!(self.peek()?, Token::Pipe | Token::Close | Token::End) {
                    arguments.push(self.term(depth)?);
                }
                arguments.extend(piped);
                call(name, arguments)
            }
            found if piped.is_some() => Err(format!("{found} after `|`, expected a function")),
            found => self.value(found, depth),
        }
    }

    fn term(&mut self, depth: usize) -> Result<Expression, String> {
        match self.token()? {
            Token::Word(name) => call(name, Vec::new()),
            found => self.value(found, depth),
        }
    }

    fn value(&mut self, token: Token<'_>, depth: usize) -> Result<Expression, String> {
        match token {
            Token::Literal(value) => Ok(Expression::Literal(value)),
            Token::Field(path) => {
                let unknown = || format!("`.{}`, expected {}", path.join("."), Field::EXPECTED);
                Field::parse(&path).map(Expression::Field).ok_or_else(unknown)
            }
            Token::Open => {
                let inner = self.pipeline(depth + 1)?;
                match self.token()? {
                    Token::Close => Ok(inner),
                    found => Err(format!("{found}, expected `)`")),
                }
            }
            found => Err(format!("{found}, expected a value or a function")),
        }
    }

    fn peek(&self) -> Result<Token<'a>, String> {
        Parser { rest: self.rest }.token()
    }

    fn token(&mut self) -> Result<Token<'a>, String> {
        self.rest = self.rest.trim_start();
        let Some(first) = self.rest.chars().next() else { return Err("no `}` after `${`".to_owned()) };
        let single = match first {
            '|' => Some(Token::Pipe),
            '(' => Some(Token::Open),
            ')' => Some(Token::Close),
            '}' => Some(Token::End),
            _ => None,
        };
        if let Some(token) = single {
            self.rest = &self.rest[1..];
            return Ok(token);
        }
        match first {
            '"' => self.quoted(),
            '`' => {
                let (raw, rest) = self.rest[1..].split_once('`').ok_or("a ` that does not end")?;
                self.rest = rest;
                Ok(Token::Literal(raw.into()))
            }
            '.' => {
                let path = self.take(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-'));
                Ok(Token::Field(path[1..].split('.').collect()))
            }
            _ => {
                let word = self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '+' | '.'));
                match word {
                    "" => Err(format!("`{first}`, expected a function, a field, a string or a number")),
                    "true" | "false" => Ok(Token::Literal((word == "true").into())),
                    "nil" => Ok(Token::Literal(Value::Null)),
                    _ if word.starts_with(|c: char| c.is_ascii_digit() || c == '-') => match word.parse::<i64>() {
                        Ok(number) => Ok(Token::Literal(number.into())),
                        Err(_) => Err(format!("`{word}`, expected a whole number")),
                    },
                    _ => Ok(Token::Word(word)),
                }
            }
        }
    }

    fn take(&mut self, belongs: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    /// With the escapes that Go's and JSON's strings share.
    fn quoted(&mut self) -> Result<Token<'a>, String> {
        let mut is_escaped = false;
        let end = self.rest[1..].find(|c| {
            let ends = c == '"' && !is_escaped;
            is_escaped = c == '\\' && !is_escaped;
            ends
        });
        let end = end.ok_or("a string that does not end")? + 2;
        let (quoted, rest) = self.rest.split_at(end);
        self.rest = rest;
        let value: String = serde_json::from_str(quoted).map_err(|_| format!("{quoted}, expected a string"))?;
        Ok(Token::Literal(value.into()))
    }
}

fn call(name: &str, arguments: Vec<Expression>) -> Result<Expression, String> {
    let function = Function::named(name)?;
    function.takes(arguments.len())?;
    Ok(Expression::Call(function, arguments))
}
