//! Waiting for what becomes of an order to managers of nodes: one is stopped when its node takes part no more and
//! has released what it had, and with takeover only when others serve that; one is started when it takes part.

use vedette_core::group::{GroupState, Policy};
use vedette_core::id::NodeNumber;
use vedette_core::model::HostStatus;
use vedette_core::state::ClusterState;
use vedette_core::trigger::{StopMode, Trigger};

use super::super::context::Context;
use super::super::fail::{Failure, Result};
use super::super::text::{clean, length};
use super::{Await, Look, follow, is_being_moved, label, step as step_of_group};

/// What was ordered, of which nodes: of all if none is named.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    nodes: Vec<NodeNumber>,
    /// How they are stopped; `None` if they are started.
    how: Option<StopMode>,
    /// The groups that they had.
    groups: Vec<String>,
}

impl Order {
    /// An order to those nodes, as the state was when it was given.
    pub(crate) fn new(state: &ClusterState, nodes: &[NodeNumber], how: Option<StopMode>) -> Self {
        // Who is not there is not stopped by an order to all.
        let there = |node: &NodeNumber| how.is_none() || state.is_there(*node);
        let all = || state.manager.members.keys().copied().filter(there).collect();
        let nodes = if nodes.is_empty() { all() } else { nodes.to_vec() };
        let has = |node: &NodeNumber, name: &str| {
            let instance = state.groups.get(name).and_then(|it| it.instances.get(node));
            instance.is_some_and(|it| it.state != GroupState::Unmanaged)
                && !state.is_left_alone(name, *node)
        };
        let had = |name: &&String| nodes.iter().any(|node| has(node, name));
        let groups = state.groups.keys().filter(had).cloned().collect();
        Self { nodes, how, groups }
    }

    /// Waits until the order that was taken at `index` has led to something; answers what becomes of the groups, in
    /// a sentence that may be empty.
    ///
    /// # Errors
    /// If that is not what was ordered, or nobody knows yet.
    pub(crate) fn outcome(&self, context: &Context, index: u64, wait: Await) -> Result<String> {
        let late = || {
            let what = if self.how.is_some() { "is not stopped" } else { "takes no part" };
            format!("it {what} after {}; it goes on", length(wait.timeout))
        };
        let look =
            |state: &ClusterState| -> Result<Look> { Ok((self.step(state), self.verdict(state))) };
        follow(context, index, wait.timeout, &late, look)
    }

    /// Where the managers and their groups are.
    fn step(&self, state: &ClusterState) -> String {
        let manager = |node: &NodeNumber| {
            let member = state.manager.members.get(node);
            let is = member.map_or_else(|| "unknown".into(), |member| member.state.to_string());
            format!("{} {is}", state.node_name(*node))
        };
        let managers: Vec<String> = self.nodes.iter().map(manager).collect();
        let group = |name: &String| Some(step_of_group(state, name, state.groups.get(name)?));
        let groups: Vec<String> = self.groups.iter().filter_map(group).collect();
        let own = state.manager.begun().find(|running| self.is_about(&running.event.trigger));
        let mut text = managers.join(", ");
        if let Some(running) = own {
            text.push_str(&format!("; event {}", label(state, running)));
        }
        if self.how.is_some() && !groups.is_empty() {
            text.push_str(&format!("; {}", groups.join("; ")));
        }
        clean(&text)
    }

    fn is_about(&self, trigger: &Trigger) -> bool {
        match trigger {
            Trigger::NodeUp(node) => self.how.is_none() && self.nodes.contains(node),
            Trigger::NodeDown { node, stop: Some(_) } => {
                self.how.is_some() && self.nodes.contains(node)
            }
            Trigger::GroupMove { group } => self.how.is_some() && self.groups.contains(group),
            _ => false,
        }
    }

    /// What became of it, if that can be said.
    fn verdict(&self, state: &ClusterState) -> Option<Result<String>> {
        let about = |trigger: &Trigger| self.is_about(trigger);
        let mut failed = state.manager.failed();
        if let Some(stuck) = failed.find(|it| about(&it.event.trigger) && it.is_stuck()) {
            return Some(Err(Failure::failed(
                format!("event {} failed and waits for an operator", label(state, stuck)),
                "See what failed: vedette recover show.",
            )));
        }
        if let Some(waiting) = state.manager.queue.iter().find(|event| about(&event.trigger)) {
            let mut failed = state.manager.failed();
            let before = failed.find(|it| it.event.trigger.comes_before(&waiting.trigger))?;
            return Some(Err(Failure::refused(
                format!(
                    "that waits until event {}, which failed, is continued",
                    label(state, before)
                ),
                "See what failed: vedette recover show.",
            )));
        }
        if state.manager.begun().any(|it| !it.settled && about(&it.event.trigger)) {
            return None;
        }
        match self.how {
            Some(how) => self.stopped(state, how),
            None => self.started(state),
        }
    }

    fn stopped(&self, state: &ClusterState, how: StopMode) -> Option<Result<String>> {
        let member = |node: &NodeNumber| state.manager.members.get(node);
        let over = |node: &NodeNumber| {
            member(node).is_none_or(|member| member.stopped.is_some() && !member.joined)
        };
        let wanted = |node: &&NodeNumber| member(node).is_some_and(|it| it.stopped.is_none());
        if let Some(node) = self.nodes.iter().find(wanted) {
            let what =
                format!("the manager of {} was started again meanwhile", state.node_name(*node));
            let advice = "See who ordered that: vedette history show --code NODE_ORDERED.";
            return Some(Err(Failure::refused(clean(&what), advice)));
        }
        if !self.nodes.iter().all(over) {
            return None;
        }
        if how == StopMode::Forced {
            return Some(Ok(String::new()));
        }
        let has = |name: &String| {
            let group = state.groups.get(name);
            self.nodes.iter().any(|node| {
                let instance = group.and_then(|group| group.instances.get(node));
                instance.is_some_and(|it| it.state != GroupState::Unmanaged)
                    && !state.is_left_alone(name, *node)
            })
        };
        if let Some(name) = self.groups.iter().find(|name| has(name)) {
            return Some(Err(self.not_released(state, name)));
        }
        if let Some(failure) = self.remains(state) {
            return Some(Err(failure));
        }
        let goes_on = how == StopMode::Takeover && state.manager.joined().next().is_some();
        if !goes_on { Some(Ok(String::new())) } else { self.taken_over(state) }
    }

    /// What a node that is stopped has not let go of, though it has no group any more.
    fn remains(&self, state: &ClusterState) -> Option<Failure> {
        self.nodes.iter().find_map(|node| {
            let unreleased = &state.manager.members.get(node)?.unreleased;
            let (group, why) = unreleased.groups.first_key_value()?;
            let name = clean(&state.node_name(*node));
            let what =
                format!("{name} takes no part any more, and has not let go of {group}: {why}");
            Some(Failure::failed(
                clean(&what),
                format!("See what is left: vedette node show {name}."),
            ))
        })
    }

    fn not_released(&self, state: &ClusterState, name: &str) -> Failure {
        let group = state.groups.get(name);
        let why = group.and_then(|group| group.blocked.as_ref()).map(|it| format!(": {}", it.why));
        let what = format!("{name} is not released{}", why.unwrap_or_default());
        Failure::failed(clean(&what), format!("See why: vedette group show {}.", clean(name)))
    }

    /// Who serves what they had.
    fn taken_over(&self, state: &ClusterState) -> Option<Result<String>> {
        let mut places = Vec::new();
        for name in &self.groups {
            let (Some(group), Some(def)) = (state.groups.get(name), state.definition.group(name))
            else {
                continue;
            };
            let owners: Vec<String> =
                group.instances.keys().map(|node| state.node_name(*node)).collect();
            let on =
                if owners.is_empty() { "".into() } else { format!(" on {}", owners.join(", ")) };
            let is = format!("{name} is {}{on}", group.state());
            match group.state() {
                GroupState::Online => places.push(is),
                GroupState::Acquiring | GroupState::Releasing => return None,
                // Released late, it is brought by an event of its own.
                _ if is_being_moved(state, name) => return None,
                _ if group.wanted_offline || def.policy == Policy::Concurrent => {}
                _ => {
                    let why = group.blocked.as_ref().map(|it| format!(": {}", it.why));
                    let what = format!("nobody has taken over: {is}{}", why.unwrap_or_default());
                    let advice = format!("See why: vedette group show {}.", clean(name));
                    return Some(Err(Failure::failed(clean(&what), advice)));
                }
            }
        }
        Some(Ok(clean(&places.join("; "))))
    }

    fn started(&self, state: &ClusterState) -> Option<Result<String>> {
        let stops = |trigger: &Trigger| match trigger {
            Trigger::NodeDown { node, stop: Some(_) } => self.nodes.contains(node),
            _ => false,
        };
        // Who is still being stopped takes part in nothing new until that is over, or for as long as others wait.
        let mut begun = state.manager.begun().filter(|it| !it.is_stuck() && !it.settled);
        if begun.any(|running| stops(&running.event.trigger)) {
            return None;
        }
        let mut waits = self.nodes.iter().filter(|node| {
            let member = state.manager.members.get(*node);
            !member.is_some_and(|member| member.stopped.is_none() && member.joined)
        });
        let there = |node: &&NodeNumber| {
            let known = state.nodes.get(node);
            known.is_some_and(|known| known.host == HostStatus::Up)
        };
        let Some(first) = waits.clone().find(|node| !there(node)) else {
            return waits.next().is_none().then(|| Ok(String::new()));
        };
        let (name, host) = (state.node_name(*first), state.nodes.get(first).map(|node| node.host));
        let is = host.map_or_else(|| "no member".into(), |host| host.to_string());
        // Who is there is waited for.
        waits.all(|node| !there(&node)).then(|| {
            Err(Failure::refused(
                clean(&format!("{name} is {is}, and takes part once it is there")),
                "See what is the matter with it: vedette node list.",
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::command::ManagerCommand;
    use vedette_core::fixture::Fixture;

    use super::super::super::fail::{FAILED, REFUSED};
    use super::*;

    const N1: NodeNumber = NodeNumber(1);
    const N2: NodeNumber = NodeNumber(2);

    fn stop(fixture: &mut Fixture, nodes: &[NodeNumber], how: StopMode) -> Order {
        let order = Order::new(&fixture.state, nodes, Some(how));
        fixture.manage(ManagerCommand::Stop { nodes: nodes.to_vec(), how });
        order
    }

    #[test]
    fn a_stop_with_takeover_is_over_when_others_serve() {
        let mut fixture = Fixture::with_groups();
        let order = stop(&mut fixture, &[N2], StopMode::Takeover);
        assert_eq!(order.groups, ["batch", "db"]);
        let mut steps = vec![order.step(&fixture.state)];
        while order.verdict(&fixture.state).is_none() {
            assert!(fixture.work(), "{steps:#?}");
            steps.push(order.step(&fixture.state));
        }
        let told = order.verdict(&fixture.state).unwrap().unwrap();
        assert!(told.contains("; db is ONLINE on n"), "{told}");
        let member = &fixture.state.manager.members[&N2];
        assert!(!member.joined && member.stopped.is_some());
        assert!(
            steps.iter().any(|it| it.contains(" node_down n2; batch: ") && it.contains("; db: ")),
            "{steps:#?}"
        );
    }

    #[test]
    fn a_stop_that_takes_no_group_elsewhere_is_over_when_they_are_off() {
        for (nodes, how) in [
            (vec![N2], StopMode::Graceful),
            (vec![], StopMode::Takeover),
            (vec![N2], StopMode::Forced),
        ] {
            let mut fixture = Fixture::with_groups();
            let order = stop(&mut fixture, &nodes, how);
            assert_eq!(order.verdict(&fixture.state).is_some(), how == StopMode::Forced);
            fixture.run_events();
            assert_eq!(order.verdict(&fixture.state), Some(Ok(String::new())), "{how}");
        }
    }

    #[test]
    fn what_cannot_be_done_is_said() {
        let mut fixture = Fixture::with_groups();
        let avoid = |fixture: &mut Fixture| {
            let group = fixture.state.groups.get_mut("db").expect("there is db");
            group.avoid.extend([N1, NodeNumber(3)]);
        };
        avoid(&mut fixture);
        let order = stop(&mut fixture, &[N2], StopMode::Takeover);
        fixture.run_events();
        let nobody = order.verdict(&fixture.state).unwrap().unwrap_err();
        assert_eq!(nobody.exit, FAILED);
        assert!(nobody.what.starts_with("nobody has taken over: db is "), "{nobody:?}");
        let mut fixture = Fixture::with_groups();
        let order = stop(&mut fixture, &[N2], StopMode::Takeover);
        fixture.work();
        fixture.work();
        let event = fixture.state.manager.current.as_ref().unwrap().event.id;
        for node in [N1, N2, NodeNumber(3)] {
            fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node });
        }
        let failed = order.verdict(&fixture.state).unwrap().unwrap_err();
        assert_eq!(failed.exit, FAILED);
        assert!(failed.what.ends_with("failed and waits for an operator"), "{failed:?}");
    }

    #[test]
    fn a_start_is_over_when_they_take_part() {
        let mut fixture = Fixture::with_groups();
        stop(&mut fixture, &[N2], StopMode::Takeover);
        fixture.run_events();
        let order = Order::new(&fixture.state, &[N2], None);
        fixture.manage(ManagerCommand::Start { nodes: vec![N2] });
        assert_eq!(order.verdict(&fixture.state), None);
        fixture.run_events();
        assert_eq!(order.verdict(&fixture.state), Some(Ok(String::new())));
        stop(&mut fixture, &[N2], StopMode::Takeover);
        fixture.run_events();
        fixture.node_down(N2, "silent");
        fixture.manage(ManagerCommand::Start { nodes: vec![N2] });
        fixture.run_events();
        let away = order.verdict(&fixture.state).unwrap().unwrap_err();
        assert_eq!(away.exit, REFUSED);
        assert_eq!(away.what, "n2 is DOWN, and takes part once it is there");
    }

    #[test]
    fn what_a_stopped_node_has_not_let_go_of_is_said() {
        let mut fixture = Fixture::with_groups();
        let order = stop(&mut fixture, &[N2], StopMode::Graceful);
        fixture.run_events();
        assert_eq!(order.verdict(&fixture.state), Some(Ok(String::new())));
        let member = fixture.state.manager.members.get_mut(&N2).expect("a manager");
        member.unreleased.groups.insert("old".into(), "it cannot be stopped".into());
        let left = order.verdict(&fixture.state).unwrap().unwrap_err();
        let what = "n2 takes no part any more, and has not let go of old: it cannot be stopped";
        assert_eq!((left.exit, left.what.as_str()), (FAILED, what));
    }

    #[test]
    fn a_stop_of_all_is_of_those_that_are_there() {
        let mut fixture = Fixture::with_groups();
        fixture.node_down(N1, "silent");
        fixture.lease_over(N1);
        fixture.run_events();
        let order = stop(&mut fixture, &[], StopMode::Graceful);
        assert!(!order.nodes.contains(&N1));
        fixture.run_events();
        assert_eq!(order.verdict(&fixture.state), Some(Ok(String::new())));
    }

    /// A start program hangs on another node: whoever stops, or starts, the first one is not kept waiting for it.
    #[test]
    fn what_goes_on_elsewhere_is_not_waited_for() {
        let mut fixture = Fixture::with_groups();
        let stopped = stop(&mut fixture, &[N2], StopMode::Graceful);
        while fixture.state.manager.current.is_none() {
            assert!(fixture.work());
        }
        if let Some(running) = &mut fixture.state.manager.current {
            running.settled = true;
        }
        let member = |fixture: &mut Fixture, joined: bool, how: Option<StopMode>| {
            let member = fixture.state.manager.members.get_mut(&N2).expect("a manager");
            (member.joined, member.stopped) = (joined, how);
        };
        assert_eq!(stopped.verdict(&fixture.state), None, "it is a member");
        member(&mut fixture, false, Some(StopMode::Graceful));
        let kept = stopped.verdict(&fixture.state).unwrap().unwrap_err();
        assert_eq!(kept.what, "batch is not released");
        let started = Order::new(&fixture.state, &[N2], None);
        member(&mut fixture, false, None);
        assert_eq!(started.verdict(&fixture.state), None, "it is no member");
        member(&mut fixture, true, None);
        assert_eq!(started.verdict(&fixture.state), Some(Ok(String::new())));
        let again = stopped.verdict(&fixture.state).unwrap().unwrap_err();
        assert_eq!(again.what, "the manager of n2 was started again meanwhile");
    }
}
