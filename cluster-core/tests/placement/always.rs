//! What must be true of every plan, whatever the story; tried on random clusters too.

use std::collections::BTreeSet;

use proptest::prelude::*;
use vedette_core::group::Policy;
use vedette_core::id::NodeNumber;
use vedette_core::model::{AgentStatus, HostStatus};
use vedette_core::placement::{astray, carry_out, for_event, obstacle};
use vedette_core::plan::Plan;
use vedette_core::state::ClusterState;
use vedette_core::trigger::{StopMode, Trigger};

use crate::story::Story;

/// Checks a plan for an event.
pub(crate) fn check(state: &ClusterState, trigger: &Trigger, plan: &Plan) {
    assert_eq!(*plan, for_event(state, trigger), "the same question has the same answer");
    let mut joined = state.clone();
    if let Trigger::NodeUp(node) = trigger
        && let Some(member) = joined.manager.members.get_mut(node)
    {
        member.joined = true;
    }
    for m in &plan.moves {
        let policy = state.definition.group(&m.group).map(|def| def.policy);
        assert!(!m.reason.is_empty() && !m.reason.ends_with('.'), "{m:?}");
        assert!(!m.release.is_empty() || !m.acquire.is_empty(), "a move that moves nothing: {m:?}");
        if policy != Some(Policy::Concurrent) {
            assert!(m.acquire.len() <= 1, "one owner: {m:?}");
        }
        for node in &m.acquire {
            assert_eq!(obstacle(&joined, &m.group, *node), None, "{node} may not have it: {m:?}");
        }
        releases_what_is_there(state, m.group.as_str(), &m.release);
    }
    let named = |group: &String| plan.moves.iter().filter(|m| m.group == *group).count();
    assert!(plan.moves.iter().all(|m| named(&m.group) == 1), "a group moves once: {plan:?}");
}

fn releases_what_is_there(state: &ClusterState, group: &str, release: &[NodeNumber]) {
    for node in release {
        let has = state.groups.get(group).is_some_and(|g| g.instances.contains_key(node));
        assert!(has, "{node} releases what it does not have: {group}");
        let host = state.nodes.get(node).map(|node| node.host);
        assert_eq!(host, Some(HostStatus::Up), "{node} is asked to release though it is away");
    }
}

/// Lines that tell a random cluster with random groups.
fn any_story() -> impl Strategy<Value = Vec<String>> {
    let status = prop_oneof![
        6 => Just(""),
        1 => Just("down"),
        1 => Just("unknown"),
        1 => Just("netpar"),
        1 => Just("disconnected"),
        1 => Just("agent-down"),
        1 => Just("joining"),
        1 => Just("stopped"),
        1 => Just("maintenance"),
    ];
    let statuses = prop::collection::vec(status, 5);
    let groups = prop::collection::vec(any_group(), 1..6);
    let coming = prop::option::of(1..6_u16);
    (statuses, groups, coming).prop_map(|(statuses, groups, coming)| {
        let mut lines = vec!["nodes 5".to_owned()];
        let told = statuses.iter().enumerate().filter(|(_, status)| !status.is_empty());
        lines.extend(told.map(|(place, status)| format!("n{} {status}", place + 1)));
        lines.extend(groups.iter().enumerate().map(|(n, group)| format!("group g{n} {group}")));
        lines.extend(coming.map(|node| format!("queue node_up n{node}")));
        lines
    })
}

fn any_group() -> impl Strategy<Value = String> {
    let list = Just(vec![1, 2, 3, 4, 5]).prop_shuffle();
    let node = || prop::option::weighted(0.3, 1..6_u16);
    let flags = prop::collection::vec(prop::bool::weighted(0.1), 4);
    let policy = prop::sample::select(vec!["cascading", "rotating", "concurrent"]);
    let states = prop::sample::select(vec!["ONLINE", "ONLINE", "ACQUIRING", "ERROR", "UNMANAGED"]);
    let on = prop::option::weighted(0.7, 1..6_u16);
    (policy, list, 1..6_usize, (on, node(), node(), node()), flags, states).prop_map(
        |(policy, list, size, (on, preferred, avoid, held), flags, state)| {
            let list: Vec<String> = list.iter().take(size).map(|n| format!("n{n}")).collect();
            let option = |key: &str, node: Option<u16>| node.map(|n| format!(" {key}=n{n}"));
            let names = ["offline", "blocked", "maintenance", "no-fallback"];
            let flags = names.iter().zip(flags).filter(|(_, on)| *on).map(|(n, _)| format!(" {n}"));
            let nodes = [("on", on), ("preferred", preferred), ("avoid", avoid), ("held", held)];
            let nodes = nodes.into_iter().filter_map(|(key, node)| option(key, node));
            let options: String = nodes.chain(flags).collect();
            format!("{policy} {} : state={state} net=neta{options}", list.join(" "))
        },
    )
}

fn any_trigger() -> impl Strategy<Value = String> {
    let node = 1..6_u16;
    prop_oneof![
        node.clone().prop_map(|n| format!("node_up n{n}")),
        node.clone().prop_map(|n| format!("node_down n{n}")),
        (node, prop::sample::select(vec!["graceful", "takeover", "forced"]))
            .prop_map(|(n, how)| format!("stop n{n} {how}")),
        (0..6_u16).prop_map(|n| format!("move g{n}")),
    ]
}

fn told(lines: &[String]) -> Story {
    let mut story = Story::new(1);
    for line in lines {
        story.line(line).unwrap_or_else(|why| panic!("{why}: {line}"));
    }
    story
}

/// A stop is asked of a node that is there; anything else cannot be queued.
fn possible(state: &ClusterState, trigger: &str) -> bool {
    let mut words = trigger.split_whitespace();
    if words.next() != Some("stop") {
        return true;
    }
    let number = words.next().and_then(|name| name[1..].parse().ok()).map(NodeNumber);
    number
        .and_then(|n| state.nodes.get(&n))
        .is_some_and(|node| node.host == HostStatus::Up && node.agent == AgentStatus::Running)
}

/// Exclusive groups that several nodes have.
fn doubled(state: &ClusterState) -> BTreeSet<String> {
    let exclusive = |name: &&String| {
        state.definition.group(name).is_some_and(|def| def.policy != Policy::Concurrent)
    };
    let many = |(_, group): &(&String, &vedette_core::group::Group)| group.instances.len() > 1;
    state.groups.iter().filter(many).map(|(name, _)| name).filter(exclusive).cloned().collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// H24, invariant 8: whatever happens in whatever order, every plan is sound, and a group that
    /// is not concurrent is on one node at most.
    #[test]
    fn plans_are_sound(
        lines in any_story(),
        triggers in prop::collection::vec(any_trigger(), 1..8),
    ) {
        let mut story = told(&lines);
        for trigger in triggers {
            if possible(&story.state, &trigger) {
                story.line(&format!("> {trigger}")).expect("an event");
                prop_assert_eq!(doubled(&story.state), BTreeSet::new());
            }
        }
    }

    /// What was moved because it was astray is astray no more, and in the end nothing is: groups do
    /// not chase each other.
    #[test]
    fn what_is_astray_comes_to_rest(lines in any_story()) {
        let mut story = told(&lines);
        story.state.manager.queue.clear();
        for _ in 0..=2 * story.state.groups.len() {
            let Some((group, _)) = astray(&story.state).into_iter().next() else { return Ok(()) };
            let trigger = Trigger::GroupMove { group: group.clone() };
            let plan = for_event(&story.state, &trigger);
            check(&story.state, &trigger, &plan);
            prop_assert!(!plan.is_idle(), "{} is astray and does not move: {:?}", group, plan);
            carry_out(&mut story.state, &trigger, &plan);
            let next = astray(&story.state).into_iter().next().map(|(group, _)| group);
            prop_assert_ne!(next, Some(group));
        }
        prop_assert!(false, "it never comes to rest");
    }

    /// An event that was carried out leaves nothing to do for the same event.
    #[test]
    fn a_plan_that_was_carried_out_is_done(lines in any_story(), trigger in any_trigger()) {
        let mut story = told(&lines);
        story.state.manager.queue.clear();
        prop_assume!(possible(&story.state, &trigger) && !trigger.contains("forced"));
        story.line(&format!("> {trigger}")).expect("an event");
        let after = story.state.clone();
        let again = again(&after, &trigger);
        prop_assert!(again.is_idle(), "{} again: {:?}", trigger, again);
    }
}

/// The plan of the same event in the state that it left behind.
fn again(state: &ClusterState, trigger: &str) -> Plan {
    let words: Vec<&str> = trigger.split_whitespace().collect();
    let node = |name: &str| NodeNumber(name[1..].parse().expect("a number"));
    match words.as_slice() {
        // A join that was processed is no join any more; what it left would be astray.
        ["node_up", _] => Plan::default(),
        ["node_down", name] => {
            for_event(state, &Trigger::NodeDown { node: node(name), stop: None })
        }
        ["stop", name, how] => for_event(
            state,
            &Trigger::NodeDown { node: node(name), stop: StopMode::from_name(how) },
        ),
        ["move", group] => for_event(state, &Trigger::GroupMove { group: (*group).into() }),
        other => panic!("no such event: {other:?}"),
    }
}
