//! From tokens to an expression: precedence climbing, with a bound on the depth.

use super::lex::{Token, tokens};
use super::{Binary, Expression, Flaw, LONGEST, Node, UNARY, Unary};

/// How deeply parentheses and signs may be nested.
const DEEPEST: usize = 64;

/// Reads the whole of `text` as one expression.
pub(super) fn parse(text: &str) -> Result<Expression, Flaw> {
    if text.len() > LONGEST {
        let what = format!("the predicate is longer than {LONGEST} bytes");
        return Err(Flaw::new(0, what, "Write a shorter one, or several rules."));
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, end: text.len() };
    if parser.tokens.is_empty() {
        return Err(Flaw::new(0, "the predicate is empty", "Write one, such as X>90."));
    }
    let expression = parser.expression(0, 0)?;
    match parser.peek() {
        None => Ok(expression),
        Some(Token::Close) => Err(parser.flaw("this parenthesis was not opened", "Remove it.")),
        Some(_) => Err(parser.flaw("an operator is missing here", "Write && or || between two.")),
    }
}

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    end: usize,
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|(_, token)| token)
    }

    fn at(&self) -> usize {
        self.tokens.get(self.next).map_or(self.end, |(at, _)| *at)
    }

    fn flaw(&self, what: &str, advice: &str) -> Flaw {
        Flaw::new(self.at(), what, advice)
    }

    /// Operands and operators that bind at least as tightly as `least`.
    fn expression(&mut self, least: u8, depth: usize) -> Result<Expression, Flaw> {
        let mut left = self.operand(depth)?;
        while let Some(operator) = self.operator(least) {
            let at = self.at();
            self.next += 1;
            let right = self.expression(operator.precedence() + 1, depth + 1)?;
            left = Expression { at, node: Node::Binary(operator, left.into(), right.into()) };
        }
        Ok(left)
    }

    /// The next operator, if it binds tightly enough.
    fn operator(&self, least: u8) -> Option<Binary> {
        match self.peek() {
            Some(Token::Operator(operator)) if operator.precedence() >= least => Some(*operator),
            _ => None,
        }
    }

    fn operand(&mut self, depth: usize) -> Result<Expression, Flaw> {
        if depth > DEEPEST {
            return Err(self.flaw("this is nested too deeply", "Write it more simply."));
        }
        let at = self.at();
        let Some(token) = self.peek().cloned() else {
            return Err(self.flaw("something is missing at the end", "Write X or a number."));
        };
        self.next += 1;
        let node = match token {
            Token::Integer(number) => Node::Integer(number),
            Token::Float(number) => Node::Float(number),
            Token::Text(text) => Node::Text(text),
            Token::X { previous, field } => Node::X { previous, field },
            Token::Not => self.unary(Unary::Not, depth)?,
            Token::Operator(Binary::Subtract) => self.unary(Unary::Minus, depth)?,
            Token::Operator(Binary::Add) => self.unary(Unary::Plus, depth)?,
            Token::Open => return self.parenthesis(at, depth),
            Token::Operator(operator) => {
                let what = format!("something is missing before `{}`", operator.symbol());
                return Err(Flaw::new(at, what, "Write X or a number before it."));
            }
            Token::Close => {
                let what = "something is missing before this parenthesis";
                return Err(Flaw::new(at, what, "Write X or a number before it."));
            }
        };
        Ok(Expression { at, node })
    }

    fn unary(&mut self, operator: Unary, depth: usize) -> Result<Node, Flaw> {
        Ok(Node::Unary(operator, self.expression(UNARY, depth + 1)?.into()))
    }

    fn parenthesis(&mut self, opened: usize, depth: usize) -> Result<Expression, Flaw> {
        let inner = self.expression(0, depth + 1)?;
        match self.peek() {
            Some(Token::Close) => {
                self.next += 1;
                Ok(inner)
            }
            None => Err(Flaw::new(opened, "this parenthesis is not closed", "Close it.")),
            Some(_) => Err(self.flaw("an operator is missing here", "Write && or || between two.")),
        }
    }
}
