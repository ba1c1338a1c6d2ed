//! "What would happen if …": the events that would follow, carried out on a copy of the state.

use std::collections::{BTreeMap, BTreeSet};

use crate::event::{Manager, ManagerState, Member};
use crate::group::{GroupState, Instance, Policy};
use crate::id::{NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus};
use crate::plan::{Move, Plan, Stay};
use crate::state::ClusterState;
use crate::takeover::Backing;
use crate::trigger::{StopMode, Trigger};

use super::{astray, for_event};

/// What is supposed to happen. All of it happens at once; the events come in their usual order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WhatIf {
    /// Nodes that fail.
    pub down: Vec<NodeNumber>,
    /// Nodes that join.
    pub up: Vec<NodeNumber>,
    /// Nodes whose managers are stopped, and how.
    pub stop: Vec<(NodeNumber, StopMode)>,
}

/// Where the groups would go in the end: each move from where it is now to where it would be, with
/// the reason that decided. Acquisitions are supposed to succeed and takeovers to be allowed.
pub fn what_if(state: &ClusterState, supposed: &WhatIf) -> Plan {
    let mut world = state.clone();
    world.manager.queue.clear();
    world.manager.current = None;
    world.manager.aside.clear();
    let mut reasons = BTreeMap::new();
    let mut stays = BTreeMap::new();
    let triggers = suppose(&mut world, supposed);
    for trigger in &triggers {
        let plan = for_event(&world, trigger);
        note(&plan, &mut reasons, &mut stays);
        carry_out(&mut world, trigger, &plan);
    }
    // Every group can be astray a few times at most; a bound is cheaper than a proof.
    for _ in 0..4 * world.groups.len().max(world.definition.groups.len()) {
        let Some((group, _)) = astray(&world).into_iter().next() else { break };
        let plan = for_event(&world, &Trigger::GroupMove { group });
        note(&plan, &mut reasons, &mut stays);
        execute(&mut world, &plan);
    }
    difference(state, &world, reasons, stays)
}

fn execute(state: &mut ClusterState, plan: &Plan) {
    for m in &plan.moves {
        let exclusive =
            state.definition.group(&m.group).is_none_or(|def| def.policy != Policy::Concurrent);
        let (token, since) = (state.revision, state.changed_at);
        let group = state.groups.entry(m.group.clone()).or_default();
        if exclusive && !m.acquire.is_empty() {
            group.instances.clear();
        }
        for node in &m.release {
            group.instances.remove(node);
        }
        for node in &m.acquire {
            let resources = BTreeMap::new();
            let instance =
                Instance { state: GroupState::Online, token, since, resources, uncovered: None };
            group.instances.insert(*node, instance);
            group.last = Some(*node);
            group.held_for = None;
        }
    }
}

/// Makes the statuses what they would be, and answers with the events that would follow.
fn suppose(world: &mut ClusterState, supposed: &WhatIf) -> Vec<Trigger> {
    let known = |node: &NodeNumber| world.nodes.contains_key(node);
    let ups = supposed.up.iter().filter(|n| known(n)).map(|n| Trigger::NodeUp(*n));
    let down = |node: NodeNumber, stop| Trigger::NodeDown { node, stop };
    let downs = supposed.down.iter().filter(|n| known(n)).map(|n| down(*n, None));
    let stops = supposed.stop.iter().filter(|(n, _)| known(n)).map(|(n, how)| down(*n, Some(*how)));
    let mut triggers: Vec<Trigger> = ups.chain(downs).chain(stops).collect();
    triggers.sort_by_key(Trigger::rank);
    triggers.dedup();
    for node in &supposed.down {
        set_host(world, *node, HostStatus::Down, AgentStatus::Unknown);
    }
    for node in &supposed.up {
        set_host(world, *node, HostStatus::Up, AgentStatus::Running);
        enlist(&mut world.manager, *node);
    }
    triggers
}

fn set_host(world: &mut ClusterState, node: NodeNumber, host: HostStatus, agent: AgentStatus) {
    if let Some(node) = world.nodes.get_mut(&node) {
        (node.host, node.agent) = (host, agent);
    }
}

fn enlist(manager: &mut Manager, node: NodeNumber) {
    let member = manager.members.entry(node).or_insert_with(|| Member {
        state: ManagerState::Joining,
        since: Default::default(),
        joined: false,
        joined_at: Default::default(),
        joined_ms: 0,
        stopped: None,
        maintenance: false,
        absent: false,
        backing: Backing::None,
        watchdog: None,
        reaper: None,
        unreleased: Default::default(),
        session: Session::default(),
        epoch: 0,
        voters: 0,
        timing: None,
        log: Default::default(),
    });
    member.stopped = None;
}

/// Carries out an event as if everything in its plan succeeded at once and whoever had to let go
/// had: its plan, and what becomes of its node.
pub fn carry_out(world: &mut ClusterState, trigger: &Trigger, plan: &Plan) {
    execute(world, plan);
    let Some(number) = trigger.node() else { return };
    let held: BTreeSet<&str> = plan.releases(number).collect();
    let now = (world.timeline.wall(), world.timeline.elapsed_ms());
    let Some(member) = world.manager.members.get_mut(&number) else { return };
    match trigger {
        Trigger::NodeUp(_) => {
            member.joined = true;
            (member.joined_at, member.joined_ms) = now;
        }
        Trigger::NodeDown { stop, .. } => {
            member.joined = false;
            member.stopped = stop.or(member.stopped);
            for (name, group) in &mut world.groups {
                match stop {
                    // What is left on a node that failed ends with the evidence that it let go.
                    None => {
                        group.instances.remove(&number);
                    }
                    Some(StopMode::Graceful) if held.contains(name.as_str()) => {
                        group.held_for = Some(number);
                    }
                    Some(StopMode::Forced) => {
                        if let Some(instance) = group.instances.get_mut(&number) {
                            instance.state = GroupState::Unmanaged;
                        }
                    }
                    Some(_) => {}
                }
            }
        }
        _ => {}
    }
}

fn note(plan: &Plan, reasons: &mut BTreeMap<String, String>, stays: &mut BTreeMap<String, String>) {
    for m in &plan.moves {
        reasons.insert(m.group.clone(), m.reason.clone());
        stays.remove(&m.group);
    }
    for stay in &plan.stays {
        stays.insert(stay.group.clone(), stay.reason.clone());
    }
}

fn difference(
    before: &ClusterState,
    after: &ClusterState,
    mut reasons: BTreeMap<String, String>,
    mut stays: BTreeMap<String, String>,
) -> Plan {
    let on = |state: &ClusterState, name: &str| -> BTreeSet<NodeNumber> {
        state.groups.get(name).map(|g| g.instances.keys().copied().collect()).unwrap_or_default()
    };
    let mut plan = Plan::default();
    let going = before.groups.keys().filter(|name| before.definition.group(name).is_none());
    let configured = before.definition.groups.iter().map(|def| &def.name);
    for name in going.chain(configured) {
        let (from, to) = (on(before, name), on(after, name));
        let there = |node: &&NodeNumber| {
            after.nodes.get(node).is_some_and(|node| node.host == HostStatus::Up)
        };
        let release: Vec<NodeNumber> = from.difference(&to).filter(there).copied().collect();
        let acquire: Vec<NodeNumber> = to.difference(&from).copied().collect();
        if !release.is_empty() || !acquire.is_empty() {
            let reason = reasons.remove(name).unwrap_or_default();
            plan.moves.push(Move { group: name.clone(), release, acquire, reason });
        } else if let Some(reason) = stays.remove(name) {
            plan.stays.push(Stay { group: name.clone(), reason });
        }
    }
    plan.moves.sort_by_key(|m| !m.acquire.is_empty());
    plan
}
