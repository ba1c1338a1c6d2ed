//! What a script of an event is told (spec H20): names that HACMP's scripts know, and ours.
//!
//! Everything is derived from the replicated state, so a script that is run again by a restarted
//! agent gets the same words, and `TRACEPARENT` names the same trace on every node without anybody
//! having to agree on it: the trace is the incident, the parent span is the command.

use vedette_core::event::Running;
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::state::ClusterState;
use vedette_core::trigger::Trigger;

/// Where the program finds its way back to this daemon.
#[derive(Clone, Debug, Default)]
pub(crate) struct Place {
    /// This program.
    pub(crate) program: String,
    /// The control socket.
    pub(crate) control: String,
    /// The folder of the event scripts.
    pub(crate) events: String,
}

/// `NAME=value`, ready for a program.
pub(crate) type Variables = Vec<(String, String)>;

/// Where scripts look for programs.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The environment of one command of a phase.
pub(crate) fn of(
    state: &ClusterState,
    running: &Running,
    me: NodeNumber,
    index: usize,
    place: &Place,
) -> Variables {
    let event = &running.event;
    let mut variables = Vec::new();
    let mut set = |name: &str, value: String| variables.push((name.to_owned(), value));
    set("PATH", PATH.into());
    set("EVNAME", event.trigger.name().into());
    set("EVLOCATION", location(state, &event.trigger));
    set("TIMESTAMP", event.at.to_string());
    set("LOCALNODENAME", state.node_name(me));
    set("VERBOSE_LOGGING", verbosity(state).into());
    set("VEDETTE", place.program.clone());
    set("VEDETTE_CONTROL", place.control.clone());
    set("VEDETTE_EVENTS", place.events.clone());
    set("VEDETTE_CLUSTER", state.name.clone());
    set("VEDETTE_NODE", state.node_name(me));
    set("VEDETTE_NODE_NUMBER", me.to_string());
    set("VEDETTE_EVENT_ID", event.id.to_string());
    set("VEDETTE_EVENT_CAUSE", one_line(&event.cause));
    set("VEDETTE_EVENT_PHASE", (running.phase + 1).to_string());
    set("VEDETTE_EVENT_ATTEMPT", running.attempt.to_string());
    set("VEDETTE_INCIDENT", event.incident.to_string());
    set("VEDETTE_PARTICIPANTS", names(state, running.participants.iter().copied()));
    set("VEDETTE_RELEASE", words(running.plan.releases(me)));
    set("VEDETTE_ACQUIRE", words(running.plan.acquires(me)));
    set("TRACEPARENT", traceparent(state, running, me, index));
    variables.extend(of_trigger(state, &event.trigger));
    variables.extend(tokens(state, me));
    variables
}

/// `VERBOSE_LOGGING`, for scripts of events and programs of resources alike.
pub(crate) fn verbosity(state: &ClusterState) -> &'static str {
    if state.definition.manager.verbose { "high" } else { "low" }
}

/// What belongs to one kind of event only.
fn of_trigger(state: &ClusterState, trigger: &Trigger) -> Variables {
    let pair = |name: &str, value: String| (name.to_owned(), one_line(&value));
    match trigger {
        Trigger::NodeDown { stop: Some(mode), .. } => vec![pair("VEDETTE_STOP", mode.to_string())],
        Trigger::SwapAdapter { network, .. }
        | Trigger::JoinStandby { network, .. }
        | Trigger::FailStandby { network, .. }
        | Trigger::NetworkUp(network)
        | Trigger::NetworkDown(network) => {
            vec![pair("VEDETTE_NETWORK", state.network_name(*network))]
        }
        Trigger::GroupMove { group } => vec![pair("VEDETTE_GROUP", group.clone())],
        Trigger::User { rule, instance, value, .. } => vec![
            pair("VEDETTE_RULE", rule.clone()),
            pair("VEDETTE_INSTANCE", instance.clone()),
            pair("VEDETTE_VALUE", value.clone()),
        ],
        _ => Vec::new(),
    }
}

/// The fencing tokens of what this node has: whoever writes to shared storage may show one.
fn tokens(state: &ClusterState, me: NodeNumber) -> Variables {
    let mine = state.groups.iter().filter_map(|(name, group)| {
        let instance = group.instances.get(&me)?;
        Some((format!("VEDETTE_TOKEN_{}", variable(name)), instance.token.to_string()))
    });
    mine.collect()
}

/// A group's name as part of a variable's.
fn variable(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

/// The node or network on which it happened; `all` if it is everywhere.
fn location(state: &ClusterState, trigger: &Trigger) -> String {
    match trigger {
        Trigger::NetworkUp(network) | Trigger::NetworkDown(network) => state.network_name(*network),
        other => other.node().map_or_else(|| "all".to_owned(), |node| state.node_name(node)),
    }
}

fn names(state: &ClusterState, nodes: impl Iterator<Item = NodeNumber>) -> String {
    nodes.map(|node| state.node_name(node)).collect::<Vec<_>>().join(" ")
}

fn words<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.collect::<Vec<_>>().join(" ")
}

fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// W3C trace context: the same trace on every node for one incident, one span a command.
fn traceparent(state: &ClusterState, running: &Running, me: NodeNumber, index: usize) -> String {
    let cluster = state.cluster.map(|cluster| cluster.to_string()).unwrap_or_default();
    let event = &running.event;
    let trace = Hash::of(format!("{cluster} incident {}", event.incident).as_bytes()).to_string();
    let (phase, attempt) = (running.phase, running.attempt);
    let step = format!("{cluster} {} {phase} {attempt} {me} {index}", event.id);
    let span = Hash::of(step.as_bytes()).to_string();
    format!("00-{}-{}-01", &trace[..32], &span[..16])
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use vedette_core::event::{Event, Stage};
    use vedette_core::fixture::Fixture;
    use vedette_core::group::{Group, GroupState, Instance};
    use vedette_core::plan::{Move, Plan};
    use vedette_core::rules::Program;
    use vedette_core::time::WallTime;

    use super::*;

    fn running(trigger: Trigger) -> Running {
        let mv = Move {
            group: "web".into(),
            release: vec![NodeNumber(3)],
            acquire: vec![NodeNumber(1)],
            reason: "n3 failed".into(),
        };
        Running {
            event: Event {
                id: 7,
                trigger,
                at: WallTime(0),
                cause: "a\nb".into(),
                incident: 90,
                motive: None,
            },
            stage: Stage::Running,
            since: WallTime(0),
            began: WallTime(0),
            participants: BTreeSet::from([NodeNumber(1), NodeNumber(2)]),
            approvals: BTreeSet::new(),
            silent: BTreeSet::new(),
            program: Program::default(),
            plan: Plan { moves: vec![mv], stays: Vec::new() },
            phase: 1,
            attempt: 2,
            outcomes: BTreeMap::new(),
            arrived: BTreeSet::new(),
            failed: BTreeSet::new(),
            too_long: false,
            time_limit_ms: None,
            ends_ms: None,
            overran: false,
            skipped: false,
            awaited_ms: None,
            slow: false,
            settled: false,
            steps: Vec::new(),
        }
    }

    fn value<'a>(variables: &'a Variables, name: &str) -> &'a str {
        let found = variables.iter().find(|(known, _)| known == name);
        found.map_or("(none)", |(_, value)| value.as_str())
    }

    /// H20: the names that HACMP's scripts know, and what ours need.
    #[test]
    fn h20_the_environment_of_a_script() {
        let mut fixture = Fixture::settled(3);
        let instance = Instance {
            state: GroupState::Acquiring,
            token: 41,
            since: WallTime(0),
            resources: BTreeMap::new(),
            uncovered: None,
        };
        let instances = BTreeMap::from([(NodeNumber(1), instance)]);
        fixture.state.groups.insert("we-b".into(), Group { instances, ..Group::default() });
        let running = running(Trigger::NodeDown { node: NodeNumber(3), stop: None });
        let place = Place { program: "/x/vedette".into(), ..Place::default() };
        let variables = of(&fixture.state, &running, NodeNumber(1), 0, &place);
        for (name, wanted) in [
            ("EVNAME", "node_down"),
            ("EVLOCATION", "n3"),
            ("LOCALNODENAME", "n1"),
            ("TIMESTAMP", "1970-01-01T00:00:00.000Z"),
            ("VERBOSE_LOGGING", "low"),
            ("VEDETTE_NODE", "n1"),
            ("VEDETTE_NODE_NUMBER", "1"),
            ("VEDETTE", "/x/vedette"),
            ("VEDETTE_EVENT_ID", "7"),
            ("VEDETTE_EVENT_ATTEMPT", "2"),
            ("VEDETTE_EVENT_CAUSE", "a b"),
            ("VEDETTE_PARTICIPANTS", "n1 n2"),
            ("VEDETTE_ACQUIRE", "web"),
            ("VEDETTE_RELEASE", ""),
            ("VEDETTE_STOP", "(none)"),
            ("VEDETTE_TOKEN_we_b", "41"),
        ] {
            assert_eq!(value(&variables, name), wanted, "{name}");
        }
    }

    /// H20: every node derives the same trace for an incident, and every command its own span.
    #[test]
    fn h20_the_trace_is_the_incident() {
        let fixture = Fixture::settled(3);
        let place = Place::default();
        let running = running(Trigger::NodeUp(NodeNumber(3)));
        let parent = |me: u16, index| {
            let variables = of(&fixture.state, &running, NodeNumber(me), index, &place);
            value(&variables, "TRACEPARENT").to_owned()
        };
        let (one, other) = (parent(1, 0), parent(2, 0));
        assert_eq!(one.len(), 55);
        assert_eq!(one[..36], other[..36]);
        assert_ne!(one, other);
        assert_ne!(one, parent(1, 1));
    }
}
