//! Tests of queries: what is read, what is refused and how, and that the document knows the same parameters.

use proptest::prelude::*;
use vedette_collector::clinfo::problem::Kind;

use super::*;

crate::query! {
    /// An example.
    struct Example {
        /// A number
        number: u64,
        /// A text,
        /// in two lines
        text: String,
        /// At most ten
        limit: Limit<10>,
        /// Severity
        severity: Severity,
        /// Kind
        code: Code,
        /// From then on
        since: WallTime,
    }
}

crate::query! {
    /// Another one, to go with it.
    struct Other {
        /// Besides
        besides: u64,
    }
}

type Pair = (Example, Other);

fn asked(query: &str) -> Result<Pair, Problem> {
    let uri: Uri = format!("/x?{query}").parse().expect("a path with a query");
    Asked::<Pair>::of(&uri).map(|asked| asked.0)
}

/// Detail and advice of the problem that a query is.
fn refused(query: &str) -> (String, String) {
    let problem = asked(query).expect_err(query);
    assert!(problem.document().is(Kind::BadParameter), "{query}");
    (problem.document().detail.to_string(), problem.document().advice.to_string())
}

#[test]
fn what_is_given_is_read_and_the_rest_is_not_there() {
    let (example, other) = asked("text=a%20b&severity=error&besides=7&limit=10").expect("a query");
    let expected = Example {
        text: Some("a b".into()),
        severity: Some(Severity::Error),
        limit: Some(Limit(10)),
        ..Example::default()
    };
    assert_eq!((example, other), (expected, Other { besides: Some(7) }));
    assert_eq!(asked("").expect("nothing"), Pair::default());
}

#[test]
fn a_value_that_is_refused_is_named() {
    let cases = [
        ("number=x", "number=\"x\" is not a whole number.", "number=42"),
        ("number=-1", "number=\"-1\" is not a whole number.", "number=42"),
        ("number=", "number=\"\" is not a whole number.", "number=42"),
        ("limit=0", "limit=\"0\" is out of range.", "from 1 to 10"),
        ("limit=11", "limit=\"11\" is out of range.", "from 1 to 10"),
        ("severity=loud", "severity=\"loud\" is not known.", "error, warning, notice"),
        ("code=NOPE", "code=\"NOPE\" is not known.", "NODE_HOST"),
        ("since=yesterday", "since=\"yesterday\" is no time.", "since=2026-11"),
        ("besides=x", "besides=\"x\" is not a whole number.", "besides=42"),
        ("colour=red", "There is no parameter \"colour\" here.", "number, text, limit"),
        ("number=1&number=1", "The parameter \"number\" was given twice.", "once"),
    ];
    for (query, expected, help) in cases {
        let (detail, advice) = refused(query);
        assert_eq!(detail, expected);
        assert!(advice.contains(help), "{query}: {advice}");
    }
}

/// The document has the names, descriptions and schemas of the very type that reads them.
#[test]
fn the_document_comes_from_the_same_type() {
    let parameters = Example::into_params(|| None);
    let told: Vec<&str> = parameters.iter().map(|parameter| parameter.name.as_str()).collect();
    assert_eq!(told, Example::names());
    let described = parameters[1].description.as_deref();
    assert_eq!(described, Some("A text, in two lines"));
    let schema = |place: usize| serde_json::to_value(&parameters[place].schema).expect("JSON");
    assert_eq!((&schema(0)["type"], &schema(1)["type"]), (&"integer".into(), &"string".into()));
}

proptest! {
    /// Whatever is asked, it is read or refused with a problem that helps.
    #[test]
    fn no_query_breaks_it(query in "[!-~]{0,60}") {
        let Ok(uri) = format!("/x?{query}").parse::<Uri>() else { return Ok(()) };
        if let Err(problem) = Asked::<Pair>::of(&uri) {
            let problem = problem.document();
            prop_assert!(problem.is(Kind::BadParameter));
            prop_assert!(!problem.detail.is_empty() && !problem.advice.is_empty());
        }
    }

    /// A refusal names parameter and value, whatever the value is.
    #[test]
    fn a_refusal_names_parameter_and_value(
        name in prop::sample::select(&["number", "limit", "severity", "code", "since", "besides"][..]),
        value in "[ -~]{0,20}",
    ) {
        let escaped: String = value.bytes().map(|byte| format!("%{byte:02x}")).collect();
        if let Err(problem) = asked(&format!("{name}={escaped}")) {
            let told = format!("{name}={value:?} is ");
            prop_assert!(problem.document().detail.starts_with(&told), "{}", problem.document().detail);
        }
    }

    #[test]
    fn numbers_are_read_as_they_are(number: u64) {
        let (example, _) = asked(&format!("number={number}")).expect("a number");
        prop_assert_eq!(example.number, Some(number));
    }
}
