//! Values of resource variables: a number, a text, or fields of those.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A whole number.
    Integer(i64),
    /// A number; never infinite, never NaN.
    Float(f64),
    /// Anything else.
    Text(String),
    /// Fields, which predicates call `X@0`, `X@1`, … (a structured byte string).
    Fields(Vec<Value>),
}

impl Value {
    /// The longest text that is read as a value, in bytes.
    pub const LONGEST: usize = 4_096;

    /// Reads what a monitor printed: `12`, `1.5`, `"a text"`, or fields with commas between, such
    /// as `0,1,"7218 39276"`. What is nothing of that is a text as it stands.
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let fields = split(text);
        match fields.as_slice() {
            [one] => scalar(one),
            many => Self::Fields(many.iter().map(|field| scalar(field)).collect()),
        }
    }

    /// The field with that number.
    pub fn field(&self, number: usize) -> Option<&Self> {
        match self {
            Self::Fields(fields) => fields.get(number),
            _ => None,
        }
    }

    /// The value as a number, if it is or begins with one.
    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(number) => Some(*number as f64),
            Self::Float(number) => Some(*number),
            Self::Text(_) => None,
            Self::Fields(fields) => fields.first().and_then(Self::number),
        }
    }

    /// What it is, in words.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Integer(_) => "a whole number",
            Self::Float(_) => "a number",
            Self::Text(_) => "a text",
            Self::Fields(_) => "fields",
        }
    }
}

/// The parts between commas that stand in no quotes.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut from, mut quoted) = (0, false);
    for (at, letter) in text.char_indices() {
        match letter {
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn scalar(text: &str) -> Value {
    let text = text.trim();
    if let Ok(number) = text.parse::<i64>() {
        return Value::Integer(number);
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::Float(number),
        _ => Value::Text(unquoted(text).into()),
    }
}

fn unquoted(text: &str) -> &str {
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(text)
}

/// The form that [`Value::parse`] reads.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            // With a point, so that it is read as a float again.
            Self::Float(number) => write!(f, "{number:?}"),
            Self::Text(text) => write!(f, "\"{}\"", text.replace('"', "'")),
            Self::Fields(fields) => {
                for (place, field) in fields.iter().enumerate() {
                    write!(f, "{}{field}", if place > 0 { "," } else { "" })?;
                }
                Ok(())
            }
        }
    }
}
