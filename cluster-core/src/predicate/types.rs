//! What can be known to be wrong before there is a value.

use super::{Binary, Expression, Flaw, Node};

/// What an expression yields; nothing is known of `X`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Number,
    Text,
    Any,
}

/// How `X` is used: with fields or without, and where first.
#[derive(Default)]
struct Uses {
    whole: Option<usize>,
    field: Option<usize>,
}

pub(super) fn check(expression: &Expression) -> Result<(), Flaw> {
    let mut uses = Uses::default();
    let kind = kind(expression, &mut uses)?;
    if kind == Kind::Text {
        return Err(text_here(expression.at));
    }
    match (uses.whole, uses.field) {
        (None, None) => Err(Flaw::new(
            0,
            "the predicate does not ask for X, so it never changes",
            "Compare X with something, such as X>90.",
        )),
        (Some(whole), Some(field)) => Err(Flaw::new(
            whole.max(field),
            "X is used with a field and without one, and no value is both",
            "Use X@0 and so on if the variable has fields, and X if not.",
        )),
        _ => Ok(()),
    }
}

fn text_here(at: usize) -> Flaw {
    Flaw::new(at, "a text stands where a number is needed", "Compare texts with == or !=.")
}

fn kind(expression: &Expression, uses: &mut Uses) -> Result<Kind, Flaw> {
    match &expression.node {
        Node::Integer(_) | Node::Float(_) => Ok(Kind::Number),
        Node::Text(_) => Ok(Kind::Text),
        Node::X { field, .. } => {
            let first = if field.is_some() { &mut uses.field } else { &mut uses.whole };
            first.get_or_insert(expression.at);
            Ok(Kind::Any)
        }
        Node::Unary(_, inner) => {
            number(inner, uses)?;
            Ok(Kind::Number)
        }
        Node::Binary(operator, left, right) => {
            binary(*operator, left, right, uses)?;
            Ok(Kind::Number)
        }
    }
}

/// Refuses what is certainly no number.
fn number(expression: &Expression, uses: &mut Uses) -> Result<(), Flaw> {
    if kind(expression, uses)? == Kind::Text {
        return Err(text_here(expression.at));
    }
    Ok(())
}

fn binary(
    operator: Binary,
    left: &Expression,
    right: &Expression,
    uses: &mut Uses,
) -> Result<(), Flaw> {
    if operator.is_arithmetic() || operator.is_logical() {
        number(left, uses)?;
        number(right, uses)?;
        let divides = matches!(operator, Binary::Divide | Binary::Remainder);
        if divides && matches!(right.node, Node::Integer(0)) {
            let advice = "Divide by something else.";
            return Err(Flaw::new(right.at, "this is a division by zero", advice));
        }
        return Ok(());
    }
    match (kind(left, uses)?, kind(right, uses)?) {
        (Kind::Number, Kind::Text) => Err(text_here(right.at)),
        (Kind::Text, Kind::Number) => Err(text_here(left.at)),
        _ => Ok(()),
    }
}
