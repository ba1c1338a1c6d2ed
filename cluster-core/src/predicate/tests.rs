//! Predicates: what they mean, what is refused, and where.

use proptest::prelude::*;

use super::*;

fn count(now: i64, before: i64) -> Value {
    Value::Fields(vec![Value::Integer(now), Value::Integer(before), Value::Text("7218".into())])
}

fn holds(text: &str, value: &Value) -> bool {
    Predicate::parse(text).unwrap().holds(value, None).unwrap()
}

/// H31: the predicates of the document.
#[test]
fn the_predicates_of_the_document() {
    for (now, before, died) in [(0, 1, true), (0, 0, false), (1, 0, false), (2, 1, false)] {
        assert_eq!(holds("X@0==0&&X@1!=0", &count(now, before)), died, "{now} {before}");
        assert_eq!(holds("X@0>0", &count(now, before)), now > 0);
    }
    assert!(holds("X>90", &Value::Integer(91)) && holds("X>90", &Value::Float(90.5)));
    assert!(!holds("X>90", &Value::Integer(90)) && holds("X<10", &Value::Float(9.99)));
}

/// H31: precedences, truth and arithmetic are C's.
#[test]
fn expressions_mean_what_they_mean_in_c() {
    let x = Value::Integer(7);
    for text in [
        "X==7",
        "X+1*2==9",
        "(X+1)*2==16",
        "X-3-2==2",
        "X/2==3",
        "-X/2==-3",
        "X%4==3",
        "X/2.0==3.5",
        "X>1==1",
        "!X==0",
        "!!X",
        "X==1||X==2&&X==3||X==7",
        "X&&1.5",
        "- -X==+7",
        "X!=8 && ( X < 8 )",
        "X>=7&&X<=7&&!(X<7)",
        "X==7e0",
    ] {
        assert!(holds(text, &x), "{text}");
    }
    // What decides is all that is looked at.
    assert!(!holds("X!=7&&1/(X-7)", &x) && holds("X==7||1/(X-7)", &x));
    let user = Value::Text("root".into());
    assert!(holds("X==\"root\"&&X!=\"wheel\"&&X<\"s\"", &user));
}

/// H31: a value before is asked for with P; while there is none the predicate does not hold.
#[test]
fn the_value_before() {
    let rising = Predicate::parse("X>X@P").unwrap();
    let (low, high) = (Value::Integer(1), Value::Integer(2));
    assert_eq!(rising.holds(&high, None), Ok(false));
    assert_eq!(rising.holds(&high, Some(&low)), Ok(true));
    assert_eq!(rising.holds(&low, Some(&high)), Ok(false));
    let died = Predicate::parse("X@0<X@P@0").unwrap();
    assert_eq!(died.holds(&count(0, 1), Some(&count(1, 1))), Ok(true));
}

/// H31: what can be known to be wrong is refused with its place and what to do.
#[test]
fn wrong_predicates_are_refused_with_their_place() {
    for (text, column, what, advice) in [
        ("", 1, "the predicate is empty", "X>90"),
        ("X>", 3, "something is missing at the end", "X or a number"),
        (">90", 1, "something is missing before `>`", "before it"),
        ("X=0", 2, "`=` has no meaning here", "=="),
        ("X@0==0&X@1", 7, "`&` has no meaning here", "&&"),
        ("X@O==0", 3, "`O` is no field", "the digit"),
        ("X@==0", 3, "`` is no field", "X@0"),
        ("X@0==٥", 6, "`٥` is unknown", "called X"),
        ("Y>90", 1, "`Y` is unknown", "called X"),
        ("(X>90", 1, "this parenthesis is not closed", "Close it"),
        ("X>90)", 5, "this parenthesis was not opened", "Remove it"),
        ("X>90 X<3", 6, "an operator is missing here", "&&"),
        ("(X 3)", 4, "an operator is missing here", "&&"),
        ("X>()", 4, "something is missing before this parenthesis", "X or a number"),
        ("X==\"a", 4, "this quote is not closed", "Close it"),
        ("X>99999999999999999999", 3, "this number is too large", "9223372036854775807"),
        ("X>1e999", 3, "this number is too large", "smaller"),
        ("X>9x", 4, "`x` cannot follow a number", "Separate"),
        ("X/0>1", 3, "this is a division by zero", "something else"),
        ("X%0", 3, "this is a division by zero", "something else"),
        ("X+\"a\">1", 3, "a text stands where a number is needed", "=="),
        ("1==\"a\"&&X", 4, "a text stands where a number is needed", "=="),
        ("X==1||\"a\"", 7, "a text stands where a number is needed", "=="),
        ("1==1", 1, "does not ask for X", "X>90"),
        ("X@0==0&&X>1", 9, "with a field and without one", "X@0"),
        ("X>90 ? 1", 6, "`?` has no meaning here", "Use X"),
        ("X > é", 5, "`é` is unknown", "called X"),
        ("\"é\"==X $", 8, "`$` has no meaning here", "Use X"),
    ] {
        let error = Predicate::parse(text).unwrap_err();
        assert_eq!(error.column(), column, "{text}: {error}");
        assert!(error.what.contains(what) && error.advice.contains(advice), "{text}: {error}");
    }
    let deep = format!("{}X", "(".repeat(900));
    assert!(Predicate::parse(&deep).unwrap_err().what.contains("nested too deeply"));
    assert!(Predicate::parse(&"!".repeat(1_000)).is_err());
    assert!(Predicate::parse(&format!("X{}", "+1".repeat(600))).is_err(), "too long");
}

/// H31: the mark stands below the place.
#[test]
fn the_place_is_marked() {
    let error = Predicate::parse("X@0==0&X@1!=0").unwrap_err();
    assert_eq!(error.caret(), "X@0==0&X@1!=0\n      ^");
}

/// H31: what depends on the value is an error of the evaluation, with its place.
#[test]
fn errors_of_evaluation_have_their_place() {
    let zero = Value::Integer(0);
    for (text, value, column, what) in [
        ("1/X>2", &zero, 3, "division by zero"),
        ("1%X>2", &zero, 3, "division by zero"),
        ("1.0/X>2", &zero, 5, "division by zero"),
        ("X@0>1", &zero, 1, "a whole number and has no fields"),
        ("X>1", &count(1, 1), 1, "has 3 fields, and none is named"),
        ("X@7>1", &count(1, 1), 1, "has 3 fields, and no field 7"),
        ("X@2>1", &count(1, 1), 4, "a text is compared with a number"),
        ("X@2+1", &count(1, 1), 1, "the value is a text"),
        ("-X>1", &Value::Integer(i64::MIN), 2, "too large"),
        ("X*2>1", &Value::Integer(i64::MAX), 2, "too large"),
        ("X-1>1", &Value::Integer(i64::MIN), 2, "too large"),
        ("X/-1>1", &Value::Integer(i64::MIN), 2, "too large"),
        ("X*1e308>1", &Value::Float(1e300), 2, "too large"),
        ("!X", &Value::Text("a".into()), 2, "the value is a text"),
    ] {
        let error = Predicate::parse(text).unwrap().holds(value, None).unwrap_err();
        assert!(error.what.contains(what), "{text}: {error}");
        assert_eq!(error.column(), column, "{text}: {error}");
    }
}

fn expression() -> impl Strategy<Value = Expression> {
    let at = |node| Expression { at: 0, node };
    let leaf = prop_oneof![
        (0..=i64::MAX).prop_map(Node::Integer),
        (0.0..1e300_f64).prop_map(Node::Float),
        (any::<bool>(), 0..9_usize)
            .prop_map(|(previous, field)| Node::X { previous, field: Some(field) }),
    ]
    .prop_map(at);
    leaf.prop_recursive(5, 48, 2, move |inner| {
        let unary = prop_oneof![Just(Unary::Not), Just(Unary::Minus), Just(Unary::Plus)];
        let binary = proptest::sample::select(Binary::ALL.to_vec());
        prop_oneof![
            (unary, inner.clone())
                .prop_map(|(operator, inner)| Node::Unary(operator, inner.into())),
            (binary, inner.clone(), inner).prop_map(|(op, left, right)| Node::Binary(
                op,
                left.into(),
                right.into()
            )),
        ]
        .prop_map(at)
    })
}

/// The shape of an expression, without places.
fn shape(expression: &Expression) -> String {
    match &expression.node {
        Node::Unary(operator, inner) => format!("({operator:?} {})", shape(inner)),
        Node::Binary(operator, left, right) => {
            format!("({} {operator:?} {})", shape(left), shape(right))
        }
        leaf => format!("{leaf:?}"),
    }
}

proptest! {
    /// H31: what is printed is read back with the same shape.
    #[test]
    fn printed_predicates_are_read_back(expression in expression()) {
        let text = expression.to_string();
        prop_assume!(text.len() <= LONGEST);
        let read = super::parse::parse(&text).map_err(|flaw| TestCaseError::fail(flaw.what))?;
        prop_assert_eq!(shape(&read), shape(&expression), "{}", text);
    }

    /// H31: no text makes the parser panic; its errors stand within the text.
    #[test]
    fn no_text_is_too_strange(
        random in ".{0,80}",
        likely in "[X@P0-9.+*/%<>=!&|() \"ea-]{0,60}",
    ) {
        for text in [random, likely] {
            match Predicate::parse(&text) {
                Err(error) => prop_assert!(error.at <= text.len() && !error.caret().is_empty()),
                Ok(predicate) => for value in [Value::Integer(0), Value::Integer(i64::MIN), count(0, 1)] {
                    // An answer or an error, for any value.
                    let _ = predicate.holds(&value, Some(&value));
                },
            }
        }
    }
}
