//! The value of an expression. Whole numbers do not wrap around: what does not fit is an error.

use std::cmp::Ordering;

use crate::variable::Value;

use super::{Binary, Expression, Flaw, Node, Unary};

/// What an expression yields.
#[derive(Clone, Copy, Debug)]
enum Yield<'a> {
    Integer(i64),
    Float(f64),
    Text(&'a str),
}

/// The value now and the one before.
#[derive(Clone, Copy)]
struct Values<'a> {
    now: &'a Value,
    before: Option<&'a Value>,
}

/// Whether an expression is true: not zero.
pub(super) fn truth(
    expression: &Expression,
    now: &Value,
    before: Option<&Value>,
) -> Result<bool, Flaw> {
    is_true(expression, Values { now, before })
}

fn is_true(expression: &Expression, values: Values<'_>) -> Result<bool, Flaw> {
    match evaluate(expression, values)? {
        Yield::Integer(number) => Ok(number != 0),
        Yield::Float(number) => Ok(number != 0.0),
        Yield::Text(_) => Err(no_number(expression.at)),
    }
}

fn no_number(at: usize) -> Flaw {
    Flaw::new(at, "the value is a text, and a number is needed", "Compare texts with == or !=.")
}

fn overflow(at: usize) -> Flaw {
    Flaw::new(at, "the result is too large", "Use smaller numbers, or numbers with a point.")
}

fn evaluate<'a>(expression: &'a Expression, values: Values<'a>) -> Result<Yield<'a>, Flaw> {
    match &expression.node {
        Node::Integer(number) => Ok(Yield::Integer(*number)),
        Node::Float(number) => Ok(Yield::Float(*number)),
        Node::Text(text) => Ok(Yield::Text(text)),
        Node::X { previous, field } => x(expression.at, *previous, *field, values),
        Node::Unary(operator, inner) => unary(*operator, inner, values),
        Node::Binary(operator, left, right) => match operator {
            Binary::And => Ok(yes(is_true(left, values)? && is_true(right, values)?)),
            Binary::Or => Ok(yes(is_true(left, values)? || is_true(right, values)?)),
            operator if operator.is_arithmetic() => {
                let pair = (evaluate(left, values)?, evaluate(right, values)?);
                arithmetic(*operator, expression.at, (left.at, right.at), pair)
            }
            operator => {
                let pair = (evaluate(left, values)?, evaluate(right, values)?);
                compare(*operator, expression.at, pair)
            }
        },
    }
}

const fn yes<'a>(truth: bool) -> Yield<'a> {
    Yield::Integer(truth as i64)
}

fn x<'a>(
    at: usize,
    previous: bool,
    field: Option<usize>,
    values: Values<'a>,
) -> Result<Yield<'a>, Flaw> {
    let whole = if previous { values.before } else { Some(values.now) };
    let Some(whole) = whole else {
        return Err(Flaw::new(at, "there is no value before", "Wait for a second value."));
    };
    let value = match field {
        None => whole,
        Some(number) => whole.field(number).ok_or_else(|| no_field(at, number, whole))?,
    };
    match value {
        Value::Integer(number) => Ok(Yield::Integer(*number)),
        Value::Float(number) => Ok(Yield::Float(*number)),
        Value::Text(text) => Ok(Yield::Text(text)),
        Value::Fields(fields) => {
            let what = format!("the value has {} fields, and none is named", fields.len());
            Err(Flaw::new(at, what, "Write X@0 for the first one."))
        }
    }
}

fn no_field(at: usize, number: usize, whole: &Value) -> Flaw {
    match whole {
        Value::Fields(fields) => {
            let what = format!("the value has {} fields, and no field {number}", fields.len());
            Flaw::new(at, what, "Fields are counted from 0.")
        }
        other => {
            let what = format!("the value is {} and has no fields", other.kind());
            Flaw::new(at, what, "Write X for it.")
        }
    }
}

fn unary<'a>(
    operator: Unary,
    inner: &'a Expression,
    values: Values<'a>,
) -> Result<Yield<'a>, Flaw> {
    if operator == Unary::Not {
        return is_true(inner, values).map(|truth| yes(!truth));
    }
    match (operator, evaluate(inner, values)?) {
        (_, Yield::Text(_)) => Err(no_number(inner.at)),
        (Unary::Minus, Yield::Integer(number)) => {
            number.checked_neg().map(Yield::Integer).ok_or_else(|| overflow(inner.at))
        }
        (Unary::Minus, Yield::Float(number)) => Ok(Yield::Float(-number)),
        (_, number) => Ok(number),
    }
}

fn arithmetic<'a>(
    operator: Binary,
    at: usize,
    (left_at, right_at): (usize, usize),
    pair: (Yield<'a>, Yield<'a>),
) -> Result<Yield<'a>, Flaw> {
    match pair {
        (Yield::Text(_), _) => Err(no_number(left_at)),
        (_, Yield::Text(_)) => Err(no_number(right_at)),
        (Yield::Integer(left), Yield::Integer(right)) => {
            if right == 0 && matches!(operator, Binary::Divide | Binary::Remainder) {
                return Err(by_zero(right_at));
            }
            let result = match operator {
                Binary::Add => left.checked_add(right),
                Binary::Subtract => left.checked_sub(right),
                Binary::Multiply => left.checked_mul(right),
                Binary::Divide => left.checked_div(right),
                _ => left.checked_rem(right),
            };
            result.map(Yield::Integer).ok_or_else(|| overflow(at))
        }
        (left, right) => float(operator, at, right_at, as_float(left), as_float(right)),
    }
}

fn by_zero(at: usize) -> Flaw {
    let advice = "Ask for that first, as in X@1!=0&&X@0/X@1>2.";
    Flaw::new(at, "this is a division by zero", advice)
}

const fn as_float(value: Yield<'_>) -> f64 {
    match value {
        Yield::Integer(number) => number as f64,
        Yield::Float(number) => number,
        Yield::Text(_) => 0.0,
    }
}

fn float<'a>(
    operator: Binary,
    at: usize,
    right_at: usize,
    left: f64,
    right: f64,
) -> Result<Yield<'a>, Flaw> {
    if right == 0.0 && matches!(operator, Binary::Divide | Binary::Remainder) {
        return Err(by_zero(right_at));
    }
    let result = match operator {
        Binary::Add => left + right,
        Binary::Subtract => left - right,
        Binary::Multiply => left * right,
        Binary::Divide => left / right,
        _ => left % right,
    };
    if result.is_finite() { Ok(Yield::Float(result)) } else { Err(overflow(at)) }
}

fn compare<'a>(
    operator: Binary,
    at: usize,
    pair: (Yield<'a>, Yield<'a>),
) -> Result<Yield<'a>, Flaw> {
    let order = match pair {
        (Yield::Text(left), Yield::Text(right)) => Some(left.cmp(right)),
        (Yield::Text(_), _) | (_, Yield::Text(_)) => {
            let what = "a text is compared with a number";
            return Err(Flaw::new(at, what, "Write the text in quotes, or compare numbers."));
        }
        (Yield::Integer(left), Yield::Integer(right)) => Some(left.cmp(&right)),
        (left, right) => as_float(left).partial_cmp(&as_float(right)),
    };
    let is = |wanted: &[Ordering]| order.is_some_and(|order| wanted.contains(&order));
    Ok(yes(match operator {
        Binary::Equal => is(&[Ordering::Equal]),
        Binary::NotEqual => !is(&[Ordering::Equal]),
        Binary::Less => is(&[Ordering::Less]),
        Binary::LessEqual => is(&[Ordering::Less, Ordering::Equal]),
        Binary::Greater => is(&[Ordering::Greater]),
        _ => is(&[Ordering::Greater, Ordering::Equal]),
    }))
}
