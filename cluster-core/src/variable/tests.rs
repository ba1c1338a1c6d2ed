//! Instances, names, values, and watchers over a sequence of readings.

use proptest::prelude::*;

use super::*;
use crate::id::NodeNumber;
use crate::rules::{Rule, RuleSet};
use crate::time::WallTime;

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

fn rule(variable: &str, predicate: &str, rearm: &str) -> Rule {
    Rule {
        name: "UE_TEST".into(),
        state: "0".into(),
        program: "/p.rp".into(),
        kind: "2".into(),
        level: "0".into(),
        variable: variable.into(),
        vector: "NodeNum=*".into(),
        predicate: predicate.into(),
        rearm: rearm.into(),
    }
}

fn reading(variable: &str, node: u16, value: Value) -> Reading {
    let instance = Instance::on(NodeNumber(node), &[]);
    Reading { variable: variable.into(), instance, value, at: WallTime(i64::from(node)) }
}

/// What the state remembers: for which rules and instances there was an event.
#[derive(Default)]
struct Memory(std::collections::BTreeSet<(String, String)>);

impl Memory {
    /// Takes in a reading, and what comes of it into the memory.
    fn observe(&mut self, watchers: &mut Watchers, reading: &Reading) -> Observed {
        let instance = reading.instance.to_string();
        let seen = |rule: &str| self.0.contains(&(rule.to_owned(), instance.clone()));
        let observed = watchers.observe(reading, seen);
        for fired in &observed.fired {
            assert!(self.0.insert((fired.rule.clone(), fired.instance.clone())));
        }
        for armed in &observed.rearmed {
            assert!(self.0.remove(&(armed.rule.clone(), armed.instance.clone())));
        }
        observed
    }
}

/// Which of the values make an event.
fn events(rule: &Rule, values: &[i64]) -> Vec<bool> {
    let mut watchers = Watchers::new(std::slice::from_ref(rule));
    let mut memory = Memory::default();
    let mut fires = |value: &i64| {
        let reading = reading("fs.used_percent", 1, Value::Integer(*value));
        !memory.observe(&mut watchers, &reading).fired.is_empty()
    };
    values.iter().map(&mut fires).collect()
}

/// H31: once fired, nothing more is told until the rearm predicate holds.
#[test]
fn rearming_stops_repeated_events() {
    let hysteresis = rule("IBM.PSSP.aixos.FS.%totused", "X>90", "X<80");
    let fired = events(&hysteresis, &[85, 91, 95, 85, 92, 79, 92, 93]);
    assert_eq!(fired, [false, true, false, false, false, false, true, false]);
    // Without a rearm predicate: whenever it comes true again.
    let plain = rule("fs.used_percent", "X>90", "");
    assert_eq!(events(&plain, &[91, 92, 90, 91]), [true, false, false, true]);
}

/// H31, H32, H33: the rule of chapter 11, with values as a monitor yields them.
#[test]
fn a_process_that_dies_is_an_event_on_its_node() {
    let text = include_str!("../../testdata/rules/rules.hacmprd");
    let rules = RuleSet { text: text.into(), ..RuleSet::default() }.rules();
    let (mut watchers, mut memory) = (Watchers::new(&rules), Memory::default());
    let mut observe = |node: u16, program: &str, value: &str| {
        let elements = [("ProgName", program), ("UserName", "root")];
        let reading = Reading {
            variable: "program.count".into(),
            instance: Instance::on(NodeNumber(node), &elements),
            value: Value::parse(value),
            at: WallTime(7),
        };
        let observed = memory.observe(&mut watchers, &reading);
        assert_eq!(observed.complaints, []);
        observed.fired
    };
    assert_eq!(observe(5, "rwhod", "1,0,\"7218\""), []);
    assert_eq!(observe(5, "upr6", "0,1,\"\""), [], "another program");
    let fired = observe(5, "rwhod", "0,1,\"\"");
    assert_eq!(fired.len(), 1);
    assert_eq!((fired[0].rule.as_str(), fired[0].node), ("UE_PGMRWHO_DOWN", NodeNumber(5)));
    assert_eq!(fired[0].instance, "NodeNum=5;ProgName=rwhod;UserName=root");
    assert_eq!(fired[0].trigger().rule(), "UE_PGMRWHO_DOWN");
    assert_eq!(fired[0].trigger().rank().0, 11, "after all predefined events");
    assert!(fired[0].cause.contains("X@0==0&&X@1!=0 holds"), "{}", fired[0].cause);
    assert_eq!(observe(5, "rwhod", "0,1,\"\""), [], "not armed");
    assert_eq!(observe(4, "rwhod", "0,2,\"\"").len(), 1, "each instance by itself");
    assert_eq!(observe(5, "rwhod", "1,0,\"99\""), [], "armed again");
    assert_eq!(observe(5, "rwhod", "0,1,\"\"").len(), 1);
}

/// H31: a rule that cannot be applied complains once, and again after it could.
#[test]
fn a_rule_that_cannot_be_applied_complains_once() {
    let mut watcher = Watcher::new(&rule("q", "1/X>0", "")).unwrap();
    let mut observe = |value: i64| watcher.observe(&reading("q", 1, Value::Integer(value)), false);
    let complaint = observe(0).unwrap_err();
    assert!(
        complaint.to_string().contains("division by zero (column 3 of `1/X>0`)"),
        "{complaint}"
    );
    assert_eq!(observe(0), Ok((None, false)));
    assert!(matches!(observe(1), Ok((Some(Edge::Fired(_)), true))), "it can be applied again");
    assert!(observe(0).is_err());
}

/// H33: an instance without a node cannot be an event of a node.
#[test]
fn an_instance_without_a_node_is_complained_about() {
    let free = Rule { vector: String::new(), ..rule("q", "X>0", "") };
    let mut watcher = Watcher::new(&free).unwrap();
    let nowhere =
        Reading { instance: instance("Queue=mail"), ..reading("q", 1, Value::Integer(1)) };
    assert!(watcher.observe(&nowhere, false).unwrap_err().what.contains("names no node"));
    assert_eq!(watcher.observe(&nowhere, false), Ok((None, false)));
}

/// H16, H31: a reload keeps what is known under rules that did not change: the value before.
#[test]
fn a_reload_keeps_the_values_before_of_unchanged_rules() {
    let grows = rule("q", "X@P<X", "");
    let mut watchers = Watchers::new(std::slice::from_ref(&grows));
    let fires = |watchers: &mut Watchers, value: i64| {
        !watchers.observe(&reading("q", 1, Value::Integer(value)), |_| false).fired.is_empty()
    };
    assert!(!fires(&mut watchers, 1), "there is no value before");
    watchers.reload(std::slice::from_ref(&grows));
    assert!(fires(&mut watchers, 2));
    watchers.reload(&[Rule { rearm: "X<1".into(), ..grows }]);
    assert!(!fires(&mut watchers, 3), "another rule knows no value before");
    watchers.reload(&[]);
    assert!(watchers.is_empty());
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
