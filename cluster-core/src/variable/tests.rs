//! Instances, names and values.

use proptest::prelude::*;

use super::*;
use crate::id::NodeNumber;

fn instance(text: &str) -> Instance {
    Instance::parse(text).unwrap()
}

/// H30: the vector of the document, and what it selects.
#[test]
fn vectors_select_instances() {
    let pattern = Pattern::parse("NodeNum=*;ProgName=rwhod;UserName=root").unwrap();
    for (text, meant) in [
        ("NodeNum=5;ProgName=rwhod;UserName=root", true),
        ("UserName=root;ProgName=rwhod;NodeNum=1", true),
        ("NodeNum=5;ProgName=rwhod;UserName=daemon", false),
        ("NodeNum=5;ProgName=upr6;UserName=root", false),
        ("NodeNum=5;UserName=root", false),
    ] {
        assert_eq!(pattern.matches(&instance(text)), meant, "{text}");
    }
    // What is left out may be anything, as in the document's example about a file system.
    let node_six = Pattern::parse("NodeNum=6").unwrap();
    assert!(node_six.matches(&instance("NodeNum=6;MountPoint=/tmp")));
    assert!(!node_six.matches(&instance("NodeNum=5;MountPoint=/tmp")));
    assert!(Pattern::parse("").unwrap().matches(&instance("NodeNum=1")));
    assert_eq!(pattern.to_string(), "NodeNum=*;ProgName=rwhod;UserName=root");
    assert_eq!(pattern.wanted("ProgName"), Some("rwhod"));
}

/// H30: what is no vector is refused with a reason.
#[test]
fn wrong_vectors_are_refused() {
    for (text, what) in [
        ("NodeNum", "has no ="),
        ("NodeNum=1;", "has no ="),
        ("NodeNum=", "NodeNum has no value"),
        ("=5", "is no name of an element"),
        ("Node Num=5", "is no name of an element"),
        ("A=1;A=2", "A is there twice"),
    ] {
        let error = Pattern::parse(text).unwrap_err();
        assert!(error.what.contains(what), "{text}: {error}");
    }
    assert!(Instance::parse("NodeNum=*").is_err());
}

/// H32: IBM's names and ours are the same variables.
#[test]
fn names_of_ibm_are_aliases() {
    for (ibm, ours) in [
        ("IBM.PSSP.aixos.FS.%totused", "fs.used_percent"),
        ("IBM.PSSP.Prog.xpcount", "program.count"),
        ("IBM.PSSP.aixos.PagSp.%totalfree", "paging.free_percent"),
        ("IBM.PSSP.aixos.CPU.glidle", "cpu.idle_percent"),
        ("site.queue_length", "site.queue_length"),
    ] {
        assert_eq!((canonical(ibm), canonical(ours)), (ours, ours));
    }
    assert!(BUILT_IN.iter().all(|variable| is_name(variable.name)
        && variable.ibm.iter().all(|name| is_name(name))
        && variable.elements.contains(&"NodeNum")));
    assert!(advice("IBM.PSSP.aixos.FS.%totusd").contains("IBM.PSSP.aixos.FS.%totused"));
}

#[test]
fn values_are_read_as_they_are_printed() {
    for (text, value) in [
        ("12", Value::Integer(12)),
        (" -1.5\n", Value::Float(-1.5)),
        ("up", Value::Text("up".into())),
        ("inf", Value::Text("inf".into())),
        ("\"12\"", Value::Text("12".into())),
        ("", Value::Text(String::new())),
        (
            "0,1,\"7218 3,9\"",
            Value::Fields(vec![
                Value::Integer(0),
                Value::Integer(1),
                Value::Text("7218 3,9".into()),
            ]),
        ),
    ] {
        assert_eq!(Value::parse(text), value, "{text}");
        assert_eq!(Value::parse(&value.to_string()), value, "{text}");
    }
}

proptest! {
    /// H30: instances are read as they are printed, and a pattern of themselves matches them.
    #[test]
    fn instances_are_read_back(node in any::<u16>(), values in proptest::collection::btree_map("[A-Z][a-z]{1,6}", ".{0,30}", 0..4)) {
        let elements: Vec<(&str, &str)> =
            values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let made = Instance::on(NodeNumber(node), &elements);
        let text = made.to_string();
        prop_assume!(text.len() <= 1_024);
        prop_assert_eq!(Instance::parse(&text), Ok(made.clone()));
        prop_assert_eq!(made.node(), Some(NodeNumber(node)));
        let pattern = Pattern::parse(&text);
        prop_assert!(pattern.is_ok_and(|pattern| pattern.matches(&made)));
    }

    /// H30: no text makes a parser panic.
    #[test]
    fn no_text_is_too_strange(text in ".{0,120}") {
        let _ = (Pattern::parse(&text), Instance::parse(&text));
        let value = Value::parse(&text);
        let again = Value::parse(&value.to_string());
        prop_assert_eq!(std::mem::discriminant(&again), std::mem::discriminant(&value));
    }
}
