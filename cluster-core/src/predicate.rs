//! Predicates: when a value becomes an event (spec H31), in a subset of C's expressions.
//!
//! `X` is the value, `X@0`, `X@1`, … its fields where it has some, `X@P` the value before (and
//! `X@P@0` a field of that). There are whole numbers, numbers with a point, texts in quotes,
//! `+ - * / %`, comparisons, `&& || !` and parentheses, with C's precedences and its meaning of
//! truth: what is not zero.
//!
//! Whatever can be known to be wrong is refused when a predicate is read; what depends on a value
//! (a division by zero, a text where a number is needed) is an error of that evaluation. Every error
//! has its place in the text, and none is a panic. The depth is bounded, so that a hostile text
//! cannot exhaust the stack.

mod evaluate;
mod lex;
mod parse;
mod reach;
mod types;

use std::fmt;

use crate::variable::Value;

/// The longest predicate, in bytes.
pub const LONGEST: usize = 1_024;

/// A predicate that can be evaluated.
#[derive(Clone, Debug)]
pub struct Predicate {
    /// As it was written, for errors.
    text: String,
    expression: Expression,
}

/// What is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The predicate.
    pub text: String,
    /// Where, in bytes from its beginning.
    pub at: usize,
    /// One sentence without its full stop.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// An expression and its place in the text.
#[derive(Clone, Debug)]
struct Expression {
    at: usize,
    node: Node,
}

#[derive(Clone, Debug)]
enum Node {
    Integer(i64),
    Float(f64),
    Text(String),
    X { previous: bool, field: Option<usize> },
    Unary(Unary, Box<Expression>),
    Binary(Binary, Box<Expression>, Box<Expression>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unary {
    Not,
    Minus,
    Plus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Binary {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

impl Binary {
    const ALL: [Self; 13] = [
        Self::Or,
        Self::And,
        Self::Equal,
        Self::NotEqual,
        Self::LessEqual,
        Self::GreaterEqual,
        Self::Less,
        Self::Greater,
        Self::Add,
        Self::Subtract,
        Self::Multiply,
        Self::Divide,
        Self::Remainder,
    ];

    const fn symbol(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessEqual => "<=",
            Self::Greater => ">",
            Self::GreaterEqual => ">=",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
        }
    }

    /// How tightly it binds; C's order.
    const fn precedence(self) -> u8 {
        match self {
            Self::Or => 1,
            Self::And => 2,
            Self::Equal | Self::NotEqual => 3,
            Self::Less | Self::LessEqual | Self::Greater | Self::GreaterEqual => 4,
            Self::Add | Self::Subtract => 5,
            Self::Multiply | Self::Divide | Self::Remainder => 6,
        }
    }

    const fn is_arithmetic(self) -> bool {
        self.precedence() >= 5
    }

    const fn is_logical(self) -> bool {
        self.precedence() <= 2
    }
}

/// Tighter than every binary operator.
const UNARY: u8 = 7;

impl Predicate {
    /// Reads a predicate.
    ///
    /// # Errors
    /// The first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let expression = parse::parse(text).and_then(|expression| {
            types::check(&expression)?;
            Ok(expression)
        });
        match expression {
            Ok(expression) => Ok(Self { text: text.into(), expression }),
            Err(flaw) => Err(flaw.within(text)),
        }
    }

    /// Whether it holds for a value, where `before` is the one before. One that asks for the value
    /// before does not hold while there is none.
    ///
    /// # Errors
    /// If it has no meaning for these values.
    pub fn holds(&self, value: &Value, before: Option<&Value>) -> Result<bool, Error> {
        if before.is_none() && self.expression.asks_for_previous() {
            return Ok(false);
        }
        evaluate::truth(&self.expression, value, before).map_err(|flaw| flaw.within(&self.text))
    }
}

impl Predicate {
    /// Whether every part of it has a meaning for a value like that one, also what `&&` and `||` would not get as
    /// far as.
    ///
    /// # Errors
    /// The first part that has none.
    pub fn fits(&self, sample: &Value) -> Result<(), Error> {
        self.expression.fits(sample).map_err(|flaw| flaw.within(&self.text))
    }

    /// Whether it, and each of its parts, can become true and false, for numbers from the first to the second.
    ///
    /// # Errors
    /// The first part that cannot.
    pub fn can_change(&self, domain: (f64, f64)) -> Result<(), Error> {
        reach::check(&self.expression, domain).map_err(|flaw| flaw.within(&self.text))
    }
}

impl Expression {
    fn fits(&self, sample: &Value) -> Result<(), Flaw> {
        match &self.node {
            Node::Binary(operator, left, right) if operator.is_logical() => {
                left.fits(sample)?;
                right.fits(sample)
            }
            Node::Unary(Unary::Not, inner) => inner.fits(sample),
            _ => match evaluate::truth(self, sample, Some(sample)) {
                // With another value there may be none.
                Err(flaw) if flaw.what.contains("by zero") => Ok(()),
                other => other.map(|_| ()),
            },
        }
    }

    fn asks_for_previous(&self) -> bool {
        match &self.node {
            Node::X { previous, .. } => *previous,
            Node::Unary(_, inner) => inner.asks_for_previous(),
            Node::Binary(_, left, right) => left.asks_for_previous() || right.asks_for_previous(),
            Node::Integer(_) | Node::Float(_) | Node::Text(_) => false,
        }
    }

    fn precedence(&self) -> u8 {
        match &self.node {
            Node::Binary(operator, ..) => operator.precedence(),
            Node::Unary(..) => UNARY,
            _ => UNARY + 1,
        }
    }

    /// Prints it, in parentheses if it binds less tightly than its surroundings.
    fn print(&self, f: &mut fmt::Formatter<'_>, least: u8) -> fmt::Result {
        if self.precedence() >= least {
            return write!(f, "{self}");
        }
        write!(f, "({self})")
    }
}

/// In the form that is read back as the same.
impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.node {
            Node::Integer(number) => write!(f, "{number}"),
            Node::Float(number) => write!(f, "{number:?}"),
            Node::Text(text) => write!(f, "\"{text}\""),
            Node::X { previous, field } => {
                write!(f, "X{}", if *previous { "@P" } else { "" })?;
                field.map_or(Ok(()), |field| write!(f, "@{field}"))
            }
            Node::Unary(operator, inner) => {
                let symbol = match operator {
                    Unary::Not => "!",
                    Unary::Minus => "-",
                    Unary::Plus => "+",
                };
                write!(f, "{symbol}")?;
                inner.print(f, UNARY)
            }
            Node::Binary(operator, left, right) => {
                left.print(f, operator.precedence())?;
                write!(f, "{}", operator.symbol())?;
                right.print(f, operator.precedence() + 1)
            }
        }
    }
}

impl fmt::Display for Predicate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.expression)
    }
}

impl Error {
    /// Where, in characters, counted from 1.
    pub fn column(&self) -> usize {
        self.text.char_indices().take_while(|(at, _)| *at < self.at).count() + 1
    }

    /// The predicate, and below it a mark at the place.
    pub fn caret(&self) -> String {
        let shown: String =
            self.text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        format!("{shown}\n{:>width$}", "^", width = self.column())
    }
}

impl std::error::Error for Error {}

/// What and where, the place in the text, what to do.
impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: {}.\n{}\n{}", self.column(), self.what, self.caret(), self.advice)
    }
}

/// An error that does not know its text yet.
#[derive(Debug)]
struct Flaw {
    at: usize,
    what: String,
    advice: String,
}

impl Flaw {
    fn new(at: usize, what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { at, what: what.into(), advice: advice.into() }
    }

    fn within(self, text: &str) -> Error {
        Error { text: text.into(), at: self.at, what: self.what, advice: self.advice }
    }
}

#[cfg(test)]
mod tests;
