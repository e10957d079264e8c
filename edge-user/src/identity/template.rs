//! Values of claims: text with `${ … }` in it, pipelines in the manner of Go's text/template, with functions named as in
//! sprig. Read once, with the settings; rendered for each token.

mod date;
mod functions;
mod parse;

use serde_json::Value;

use self::functions::Function;

/// The longest value, as written and as rendered, in bytes.
const BYTES: usize = 4096;
/// Expressions within expressions.
const DEPTH: usize = 16;

/// A claim's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<str>),
    Pipeline(Expression),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Expression {
    Literal(Value),
    Field(Field),
    /// What is piped in is the last argument.
    Call(&'static Function, Vec<Self>),
}

/// What a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    ServerName,
    ServerDescription,
    ServerAudience,
    ServerAlgorithm,
    ServerLabel(Box<str>),
    ClientId,
    ClientName,
    ClientLabel(Box<str>),
}

/// Whose token it is.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// `.AuthServer`
    pub server: &'a About,
    /// `.AuthServer.SigningAlgorithm`
    pub algorithm: &'a str,
    /// `.AuthServer.Audience`
    pub audience: &'a str,
    /// `.Client.ID`
    pub client_id: &'a str,
    /// `.Client`
    pub client: &'a About,
    /// When the token is made, in seconds since 1970.
    pub now: u64,
}

/// What servers and clients alike have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct About {
    /// `.Name`
    pub name: String,
    /// `.Description`, of a server.
    pub description: String,
    /// `.Labels`
    pub labels: Vec<(String, String)>,
}

impl About {
    fn label(&self, key: &str) -> Value {
        self.labels.iter().find(|(name, _)| name == key).map_or(Value::Null, |(_, value)| value.as_str().into())
    }
}

impl Template {
    /// Reads a value; the error says what was found and what would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > BYTES {
            return Err(format!("{} bytes, expected at most {BYTES}", text.len()));
        }
        parse::parts(text).map(Self)
    }

    /// The value for a token. Text that is JSON is that JSON.
    pub fn render(&self, subject: &Subject<'_>) -> Result<Value, String> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Pipeline(expression) => text.push_str(&functions::text(&expression.value(subject)?)),
            }
            if text.len() > BYTES {
                return Err(format!("a value of more than {BYTES} bytes"));
            }
        }
        Ok(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }
}

impl Expression {
    fn value(&self, subject: &Subject<'_>) -> Result<Value, String> {
        match self {
            Self::Literal(value) => Ok(value.clone()),
            Self::Field(field) => Ok(field.value(subject)),
            Self::Call(function, arguments) => {
                let values: Result<Vec<Value>, String> =
                    arguments.iter().map(|argument| argument.value(subject)).collect();
                function.call(&values?, subject)
            }
        }
    }
}

impl Field {
    const EXPECTED: &str = ".AuthServer.Name, .Description, .Audience, .SigningAlgorithm or .Labels.<key>, \
                            .Client.ID, .Name or .Labels.<key>";

    fn parse(path: &[&str]) -> Option<Self> {
        match path {
            ["AuthServer", "Name"] => Some(Self::ServerName),
            ["AuthServer", "Description"] => Some(Self::ServerDescription),
            ["AuthServer", "Audience"] => Some(Self::ServerAudience),
            ["AuthServer", "SigningAlgorithm"] => Some(Self::ServerAlgorithm),
            ["AuthServer", "Labels", key] => Some(Self::ServerLabel((*key).into())),
            ["Client", "ID"] => Some(Self::ClientId),
            ["Client", "Name"] => Some(Self::ClientName),
            ["Client", "Labels", key] => Some(Self::ClientLabel((*key).into())),
            _ => None,
        }
    }

    fn value(&self, subject: &Subject<'_>) -> Value {
        match self {
            Self::ServerName => subject.server.name.as_str().into(),
            Self::ServerDescription => subject.server.description.as_str().into(),
            Self::ServerAudience => subject.audience.into(),
            Self::ServerAlgorithm => subject.algorithm.into(),
            Self::ServerLabel(key) => subject.server.label(key),
            Self::ClientId => subject.client_id.into(),
            Self::ClientName => subject.client.name.as_str().into(),
            Self::ClientLabel(key) => subject.client.label(key),
        }
    }
}

#[cfg(test)]
mod tests;
