//! What a template can call: the part of sprig that claims need. Whatever is not here is refused when the settings are
//! read.

use std::fmt;
use std::ops::RangeInclusive;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{BYTES, Subject, date};
use crate::crypto;

/// The longest random text.
const RANDOM: usize = 256;
const DIGITS: &str = "0123456789";
const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
const LETTERS_AND_DIGITS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";

type Body = fn(&[Value], &Subject<'_>) -> Result<Value, String>;

/// One of them.
pub(super) struct Function {
    name: &'static str,
    arguments: RangeInclusive<usize>,
    body: Body,
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Function {
    /// By its name; the error lists what there is.
    pub(super) fn named(name: &str) -> Result<&'static Self, String> {
        FUNCTIONS.iter().find(|function| function.name == name).ok_or_else(|| {
            let names: Vec<&str> = FUNCTIONS.iter().map(|function| function.name).collect();
            format!("the function `{name}`, expected one of: {}", names.join(", "))
        })
    }

    /// Whether it takes so many arguments.
    pub(super) fn takes(&self, count: usize) -> Result<(), String> {
        if self.arguments.contains(&count) {
            return Ok(());
        }
        let (least, most) = (self.arguments.start(), self.arguments.end());
        let expected = match (least == most, *most) {
            (true, _) => format!("{least}"),
            (false, MANY) => format!("at least {least}"),
            (false, _) => format!("{least} to {most}"),
        };
        Err(format!("`{}` with {count} arguments, expected {expected}", self.name))
    }

    /// Its value.
    pub(super) fn call(&self, arguments: &[Value], subject: &Subject<'_>) -> Result<Value, String> {
        let value = (self.body)(arguments, subject).map_err(|error| format!("`{}`: {error}", self.name))?;
        match value.as_str().is_some_and(|text| text.len() > BYTES) {
            true => Err(format!("`{}`: more than {BYTES} bytes", self.name)),
            false => Ok(value),
        }
    }
}

const MANY: usize = 64;

const fn function(name: &'static str, arguments: RangeInclusive<usize>, body: Body) -> Function {
    Function { name, arguments, body }
}

static FUNCTIONS: [Function; 46] = [
    function("add", 1..=MANY, |a, _| fold(a, i64::checked_add)),
    function("atoi", 1..=1, |a, _| Ok(text(&a[0]).trim().parse::<i64>().unwrap_or(0).into())),
    function("b64dec", 1..=1, |a, _| {
        let bytes = STANDARD.decode(text(&a[0])).map_err(|error| error.to_string())?;
        String::from_utf8(bytes).map(Value::from).map_err(|_| "bytes that are no text".to_owned())
    }),
    function("b64enc", 1..=1, |a, _| Ok(STANDARD.encode(text(&a[0])).into())),
    function("cat", 1..=MANY, |a, _| Ok(joined(a, " ").into())),
    function("coalesce", 1..=MANY, |a, _| Ok(a.iter().find(|value| !is_empty(value)).cloned().unwrap_or_default())),
    function("contains", 2..=2, |a, _| Ok(text(&a[1]).contains(&text(&a[0])).into())),
    function("date", 2..=2, |a, _| date::format(&text(&a[0]), number(&a[1])?).map(Value::from)),
    function("default", 2..=2, |a, _| Ok(a[usize::from(!is_empty(&a[1]))].clone())),
    function("div", 2..=2, |a, _| fold(a, i64::checked_div)),
    function("empty", 1..=1, |a, _| Ok(is_empty(&a[0]).into())),
    function("first", 1..=1, |a, _| Ok(list(&a[0])?.first().cloned().unwrap_or_default())),
    function("fromJson", 1..=1, |a, _| {
        serde_json::from_str(&text(&a[0])).map_err(|_| "text that is no JSON".to_owned())
    }),
    function("has", 2..=2, |a, _| Ok(list(&a[1])?.contains(&a[0]).into())),
    function("hasPrefix", 2..=2, |a, _| Ok(text(&a[1]).starts_with(&text(&a[0])).into())),
    function("hasSuffix", 2..=2, |a, _| Ok(text(&a[1]).ends_with(&text(&a[0])).into())),
    function("int", 1..=1, |a, _| number(&a[0]).map(Value::from)),
    function("int64", 1..=1, |a, _| number(&a[0]).map(Value::from)),
    function("join", 2..=2, |a, _| Ok(joined(list(&a[1])?, &text(&a[0])).into())),
    function("last", 1..=1, |a, _| Ok(list(&a[0])?.last().cloned().unwrap_or_default())),
    function("list", 0..=MANY, |a, _| Ok(a.to_vec().into())),
    function("lower", 1..=1, |a, _| Ok(text(&a[0]).to_lowercase().into())),
    function("max", 1..=MANY, |a, _| fold(a, |x, y| Some(x.max(y)))),
    function("min", 1..=MANY, |a, _| fold(a, |x, y| Some(x.min(y)))),
    function("mod", 2..=2, |a, _| fold(a, i64::checked_rem)),
    function("mul", 1..=MANY, |a, _| fold(a, i64::checked_mul)),
    function("nospace", 1..=1, |a, _| Ok(text(&a[0]).split_whitespace().collect::<String>().into())),
    function("now", 0..=0, |_, subject| Ok(subject.now.into())),
    function("quote", 1..=MANY, |a, _| {
        let quoted: Vec<Value> = a.iter().map(|value| Value::from(text(value)).to_string().into()).collect();
        Ok(joined(&quoted, " ").into())
    }),
    function("randAlpha", 1..=1, |a, _| random(LETTERS, &a[0])),
    function("randAlphaNum", 1..=1, |a, _| random(LETTERS_AND_DIGITS, &a[0])),
    function("randNumeric", 1..=1, |a, _| random(DIGITS, &a[0])),
    function("replace", 3..=3, |a, _| {
        let (from, to, subject) = (text(&a[0]), text(&a[1]), text(&a[2]));
        // As often as it stands there, each time this much longer.
        let places = if from.is_empty() { subject.len() + 1 } else { subject.len() / from.len() };
        within(subject.len() + places * to.len()).map(|()| subject.replace(&from, &to).into())
    }),
    function("repeat", 2..=2, |a, _| {
        let (times, subject) = (size(&a[0])?, text(&a[1]));
        within(times.saturating_mul(subject.len())).map(|()| subject.repeat(times).into())
    }),
    function("sha256sum", 1..=1, |a, _| {
        Ok(crypto::sha256(text(&a[0]).as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
    }),
    function("splitList", 2..=2, |a, _| {
        Ok(text(&a[1]).split(&text(&a[0])).map(Value::from).collect::<Vec<_>>().into())
    }),
    function("sub", 2..=2, |a, _| fold(a, i64::checked_sub)),
    function("substr", 3..=3, |a, _| {
        let (start, end) = (size(&a[0])?, number(&a[1])?);
        let length = usize::try_from(end).map_or(usize::MAX, |end| end.saturating_sub(start));
        Ok(text(&a[2]).chars().skip(start).take(length).collect::<String>().into())
    }),
    function("ternary", 3..=3, |a, _| Ok(a[usize::from(is_empty(&a[2]))].clone())),
    function("toJson", 1..=1, |a, _| Ok(a[0].to_string().into())),
    function("toString", 1..=1, |a, _| Ok(text(&a[0]).into())),
    function("trim", 1..=1, |a, _| Ok(text(&a[0]).trim().into())),
    function("trunc", 2..=2, |a, _| {
        let (length, subject) = (number(&a[0])?, text(&a[1]));
        let (wanted, all) = (usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX), subject.chars().count());
        let skipped = if length < 0 { all.saturating_sub(wanted) } else { 0 };
        Ok(subject.chars().skip(skipped).take(wanted).collect::<String>().into())
    }),
    function("unixEpoch", 1..=1, |a, _| Ok(number(&a[0])?.to_string().into())),
    function("upper", 1..=1, |a, _| Ok(text(&a[0]).to_uppercase().into())),
    function("uuidv4", 0..=0, |_, _| Ok(uuid::Uuid::new_v4().to_string().into())),
];

/// As it stands in a claim; what is missing is nothing.
pub(super) fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// As Go's templates have it: false, 0, nothing, and what holds nothing.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.is_empty(),
    }
}

fn number(value: &Value) -> Result<i64, String> {
    let number = match value {
        Value::String(text) => text.trim().parse().ok(),
        other => other.as_i64(),
    };
    number.ok_or_else(|| format!("{value}, expected a whole number"))
}

fn size(value: &Value) -> Result<usize, String> {
    usize::try_from(number(value)?).map_err(|_| format!("{value}, expected no negative number"))
}

fn within(bytes: usize) -> Result<(), String> {
    if bytes <= BYTES { Ok(()) } else { Err(format!("more than {BYTES} bytes")) }
}

fn list(value: &Value) -> Result<&Vec<Value>, String> {
    value.as_array().ok_or_else(|| format!("{value}, expected a list"))
}

fn joined(values: &[Value], separator: &str) -> String {
    values.iter().map(text).collect::<Vec<_>>().join(separator)
}

fn fold(values: &[Value], operation: fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let mut numbers = values.iter().map(number);
    let first = numbers.next().unwrap_or(Ok(0))?;
    let result = numbers.try_fold(first, |sum, next| operation(sum, next?).ok_or("no result in 64 bits".to_owned()))?;
    Ok(result.into())
}

/// Each character with the same chance.
fn random(characters: &str, length: &Value) -> Result<Value, String> {
    let (length, count) = (size(length)?, characters.len());
    if length > RANDOM {
        return Err(format!("{length} characters, expected at most {RANDOM}"));
    }
    let fair = 256 - 256 % count;
    let mut text = String::with_capacity(length);
    while text.len() < length {
        let bytes = crypto::random::<64>();
        let fit = bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair);
        text.extend(fit.map(|byte| char::from(characters.as_bytes()[byte % count])).take(length - text.len()));
    }
    Ok(text.into())
}
