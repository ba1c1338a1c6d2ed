//! Words of a predicate: from a text to tokens with their places.

use super::{Binary, Flaw};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Integer(i64),
    Float(f64),
    Text(String),
    X { previous: bool, field: Option<usize> },
    Operator(Binary),
    Not,
    Open,
    Close,
}

/// The tokens of `text`, each with its place in bytes.
pub(super) fn tokens(text: &str) -> Result<Vec<(usize, Token)>, Flaw> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = token(&text[at..], first, at)?;
        tokens.push((at, token));
        at += length;
    }
    Ok(tokens)
}

/// The token that `rest` begins with, and its length in bytes; `rest` is at `at` in the text.
fn token(rest: &str, first: char, at: usize) -> Result<(Token, usize), Flaw> {
    match first {
        '(' => Ok((Token::Open, 1)),
        ')' => Ok((Token::Close, 1)),
        '"' => quoted(rest, at),
        '0'..='9' | '.' => number(rest, at),
        letter if letter.is_alphanumeric() || letter == '_' => word(rest, at),
        _ => symbol(rest, first, at),
    }
}

fn symbol(rest: &str, first: char, at: usize) -> Result<(Token, usize), Flaw> {
    if let Some(operator) = Binary::ALL.iter().find(|known| rest.starts_with(known.symbol())) {
        return Ok((Token::Operator(*operator), operator.symbol().len()));
    }
    let advice = match first {
        '!' => return Ok((Token::Not, 1)),
        '=' => "Write == to compare.",
        '&' => "Write && for and.",
        '|' => "Write || for or.",
        '@' => "Write it after X, as in X@0.",
        '\'' => "Write texts in double quotes.",
        _ => "Use X, numbers, + - * / %, comparisons, && || ! and parentheses.",
    };
    Err(Flaw::new(at, format!("`{first}` has no meaning here"), advice))
}

fn quoted(rest: &str, at: usize) -> Result<(Token, usize), Flaw> {
    match rest[1..].find('"') {
        Some(length) => Ok((Token::Text(rest[1..=length].into()), length + 2)),
        None => Err(Flaw::new(at, "this quote is not closed", "Close it.")),
    }
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

fn number(rest: &str, at: usize) -> Result<(Token, usize), Flaw> {
    let mut length = digits(rest);
    let mut whole = true;
    if rest[length..].starts_with('.') {
        whole = false;
        length += 1 + digits(&rest[length + 1..]);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['+', '-']));
        let power = digits(&rest[length + 1 + sign..]);
        if power > 0 {
            whole = false;
            length += 1 + sign + power;
        }
    }
    if let Some(next) = rest[length..].chars().next().filter(|c| c.is_alphanumeric() || *c == '_') {
        let advice = "Separate them, or correct the number.";
        return Err(Flaw::new(at + length, format!("`{next}` cannot follow a number"), advice));
    }
    let text = &rest[..length];
    if whole {
        let parsed = text.parse().map(|number| (Token::Integer(number), length));
        return parsed.map_err(|_| {
            Flaw::new(at, "this number is too large", "Whole numbers go up to 9223372036854775807.")
        });
    }
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Ok((Token::Float(number), length)),
        Ok(_) => Err(Flaw::new(at, "this number is too large", "Write a smaller one.")),
        Err(_) => Err(Flaw::new(at, format!("`{text}` is no number"), "Write it like 12 or 1.5.")),
    }
}

/// `X` with what follows it.
fn word(rest: &str, at: usize) -> Result<(Token, usize), Flaw> {
    let length =
        |text: &str| text.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(text.len());
    let name = &rest[..length(rest)];
    if name != "X" {
        let what = format!("`{name}` is unknown");
        return Err(Flaw::new(at, what, "The value is called X, its fields X@0, X@1 and so on."));
    }
    let (mut previous, mut end) = (false, 1);
    while rest[end..].starts_with('@') {
        let part = &rest[end + 1..][..length(&rest[end + 1..])];
        let place = end + 1;
        end = place + part.len();
        if part == "P" && !previous {
            previous = true;
            continue;
        }
        let field = field(part, at + place)?;
        return Ok((Token::X { previous, field: Some(field) }, end));
    }
    Ok((Token::X { previous, field: None }, end))
}

fn field(part: &str, at: usize) -> Result<usize, Flaw> {
    if let Ok(field) = part.parse::<u16>() {
        return Ok(usize::from(field));
    }
    let advice = match part {
        "O" | "o" => "Did you mean the digit: X@0?",
        _ => "Write the number of a field, as in X@0, or P for the value before.",
    };
    Err(Flaw::new(at, format!("`{part}` is no field"), advice))
}
