//! Watchers over a sequence of readings.

use super::*;
use crate::rules::RuleSet;

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
    let nowhere = Reading {
        instance: Instance::parse("Queue=mail").unwrap(),
        ..reading("q", 1, Value::Integer(1))
    };
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
