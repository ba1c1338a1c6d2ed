//! What a predicate can never become: parts that are true for every value or for none, and parts that no value
//! gets as far as.
//!
//! Nothing is proved about arithmetic. Where an expression only compares fields of `X` with constants, its truth
//! changes at those constants and nowhere else, so values at, beside and between them say everything; there are
//! few, and each is tried. What compares or computes otherwise is taken as it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::variable::Value;

use super::evaluate::truth;
use super::{Expression, Flaw, Node, Unary};

/// Values that are tried at most; a predicate with more is taken as it is.
const MOST: usize = 20_000;

/// The highest field that is looked at.
const MOST_FIELDS: usize = 16;

/// A value or a field of it, now or before.
type Place = (bool, Option<usize>);

/// What stands beside a constant, too: values need not be whole.
const BESIDE: [f64; 5] = [-1.0, -0.5, 0.0, 0.5, 1.0];

/// The values that a place is compared with.
#[derive(Default)]
struct Constants {
    numbers: Vec<f64>,
    texts: BTreeSet<String>,
}

type Places = BTreeMap<Place, Constants>;

/// Refuses what never becomes true or false, for numbers within `domain`.
pub(super) fn check(expression: &Expression, domain: (f64, f64)) -> Result<(), Flaw> {
    let mut places = Places::new();
    if collect(expression, &mut places).is_none() {
        return Ok(());
    }
    let Some(worlds) = worlds(&places, domain) else { return Ok(()) };
    part(expression, &worlds)
}

/// Every part that is asked whether it is true; the largest that is never, or always, comes first.
fn part(expression: &Expression, worlds: &[(Value, Value)]) -> Result<(), Flaw> {
    let truths = worlds.iter().map(|(now, before)| truth(expression, now, Some(before)).ok());
    let truths: Option<BTreeSet<bool>> = truths.collect();
    match truths.as_ref().map(|truths| (truths.contains(&true), truths.contains(&false))) {
        Some((false, true)) => {
            let what = format!("`{expression}` is true for no value");
            return Err(Flaw::new(expression.at, what, "Correct the comparison, or leave it out."));
        }
        Some((true, false)) => {
            let what = format!("`{expression}` is true for every value");
            return Err(Flaw::new(expression.at, what, "Correct the comparison, or leave it out."));
        }
        _ => {}
    }
    match &expression.node {
        Node::Binary(operator, left, right) if operator.is_logical() => {
            part(left, worlds)?;
            part(right, worlds)
        }
        Node::Unary(Unary::Not, inner) => part(inner, worlds),
        _ => Ok(()),
    }
}

/// Which places are compared with which constants. None if something else is done with one.
fn collect(expression: &Expression, places: &mut Places) -> Option<()> {
    match &expression.node {
        Node::Binary(operator, left, right) if operator.is_logical() => {
            collect(left, places)?;
            collect(right, places)
        }
        Node::Unary(Unary::Not, inner) => collect(inner, places),
        Node::X { previous, field } => {
            places.entry((*previous, *field)).or_default().numbers.push(0.0);
            Some(())
        }
        Node::Binary(operator, left, right) if !operator.is_arithmetic() => {
            compared(left, right, places).or_else(|| compared(right, left, places))
        }
        _ => number(expression).map(|_| ()),
    }
}

fn compared(place: &Expression, constant: &Expression, places: &mut Places) -> Option<()> {
    let Node::X { previous, field } = place.node else { return None };
    if let Node::Text(text) = &constant.node {
        places.entry((previous, field)).or_default().texts.insert(text.clone());
        return Some(());
    }
    let number = number(constant)?;
    places.entry((previous, field)).or_default().numbers.push(number);
    Some(())
}

fn number(expression: &Expression) -> Option<f64> {
    match &expression.node {
        Node::Integer(number) => Some(*number as f64),
        Node::Float(number) => Some(*number),
        Node::Unary(Unary::Minus, inner) => number(inner).map(|number| -number),
        Node::Unary(Unary::Plus, inner) => number(inner),
        _ => None,
    }
}

/// Values, each with one before it, that make every comparison come out in every way that it can.
fn worlds(places: &Places, domain: (f64, f64)) -> Option<Vec<(Value, Value)>> {
    let choices: Vec<(Place, Vec<Value>)> = places
        .iter()
        .map(|(place, constants)| Some((*place, values(constants, domain)?)))
        .collect::<Option<_>>()?;
    let count = choices.iter().try_fold(1_usize, |all, (_, own)| all.checked_mul(own.len()))?;
    if count == 0 || count > MOST {
        return None;
    }
    let world = |mut number: usize| {
        let mut chosen = BTreeMap::new();
        for (place, own) in &choices {
            chosen.insert(*place, own[number % own.len()].clone());
            number /= own.len();
        }
        Some((whole(&chosen, false)?, whole(&chosen, true)?))
    };
    (0..count).map(world).collect()
}

/// What a place can be, as far as its constants matter. None if it is compared with a text and a number.
fn values(constants: &Constants, (least, most): (f64, f64)) -> Option<Vec<Value>> {
    if !constants.texts.is_empty() {
        let other = "\u{1}".to_owned();
        let texts = constants.texts.iter().cloned().chain([other]);
        return constants.numbers.is_empty().then(|| texts.map(Value::Text).collect());
    }
    let ends = [least, most].into_iter().filter(|end| end.is_finite());
    let around = constants.numbers.iter().flat_map(|number| BESIDE.map(|by| number + by));
    let mut numbers: Vec<f64> =
        around.chain(ends).filter(|it| (least..=most).contains(it)).collect();
    numbers.sort_by(f64::total_cmp);
    numbers.dedup();
    Some(numbers.into_iter().map(Value::Float).collect())
}

/// The value of which the chosen ones are the fields, or which one of them is.
fn whole(chosen: &BTreeMap<Place, Value>, previous: bool) -> Option<Value> {
    if let Some(value) = chosen.get(&(previous, None)) {
        return Some(value.clone());
    }
    let own = chosen.iter().filter(|((of, _), _)| *of == previous);
    let fields: BTreeMap<usize, &Value> =
        own.filter_map(|((_, field), value)| Some(((*field)?, value))).collect();
    let Some(last) = fields.keys().next_back().copied() else { return Some(Value::Integer(0)) };
    let field = |number| fields.get(&number).copied().cloned().unwrap_or(Value::Integer(0));
    (last < MOST_FIELDS).then(|| Value::Fields((0..=last).map(field).collect()))
}
