//! "What in this state is my work?": the question that every node's runner asks of each new state.
//!
//! A pure function of the state and the node, so nothing is handed to anybody and nothing can be
//! lost on the way: a restarted agent asks again and finds the same tasks. A task that is done is
//! answered by a command that makes it disappear.

use serde::{Deserialize, Serialize};

use crate::event::{Fencing, Running, Stage};
use crate::group::{Group, GroupDef, GroupState, Instance, Policy};
use crate::id::NodeNumber;
use crate::model::{AgentStatus, HostStatus, Node};
use crate::state::ClusterState;
use crate::trigger::Trigger;

/// Something that a node has to do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// Approve an event; answer with [`crate::command::ManagerCommand::Approve`].
    Approve {
        /// Its id.
        event: u64,
    },
    /// Run this node's commands of a phase, in parallel; answer with
    /// [`crate::command::ManagerCommand::Ran`]. There may be none: then the answer is all there is
    /// to do.
    Run {
        /// The event's id.
        event: u64,
        /// The phase.
        phase: usize,
        /// The attempt.
        attempt: u32,
        /// Places in the phase and command lines. In a retry, only what failed.
        commands: Vec<(usize, String)>,
    },
    /// Something of a group may be active here without leave: an acquisition whose event is over,
    /// or a group that was taken off this node. Release it; answer with
    /// [`crate::command::GroupCommand::Released`] or a progress with state ERROR.
    CleanUp {
        /// Which group.
        group: String,
        /// The instance's token.
        token: u64,
    },
    /// Verify a document on this machine; answer with
    /// [`crate::command::ConfigCommand::Verified`].
    Verify {
        /// The proposal's id.
        proposal: u64,
    },
    /// Let the agent end and its guard start it again: its log was opened with timers that are not in
    /// force any more. The next agent answers with [`crate::command::ManagerCommand::Present`].
    Renew,
    /// Call the fence agent for a node; answer with [`crate::command::GroupCommand::Fenced`].
    Fence {
        /// Whom.
        node: NodeNumber,
        /// Which attempt.
        attempt: u32,
    },
}

/// What `me` has to do, in an order that says nothing.
pub fn tasks(state: &ClusterState, me: NodeNumber) -> Vec<Task> {
    let mut tasks = Vec::new();
    tasks.extend(state.manager.begun().filter_map(|running| of_event(running, me)));
    tasks.extend(clean_ups(state, me));
    tasks.extend(verification(state, me));
    tasks.extend(fencing(state, me));
    tasks.extend(renewal(state, me));
    tasks
}

/// Approve the event that is voted on, or run what has not ended well yet.
fn of_event(running: &Running, me: NodeNumber) -> Option<Task> {
    if !running.participants.contains(&me) {
        return None;
    }
    let event = running.event.id;
    if running.stage == Stage::Voting {
        return (!running.approvals.contains(&me)).then_some(Task::Approve { event });
    }
    if running.arrived.contains(&me) || running.failed.contains(&me) {
        return None;
    }
    let pending = running.pending(me);
    let commands = pending.into_iter().map(|(place, line)| (place, line.command.clone())).collect();
    Some(Task::Run { event, phase: running.phase, attempt: running.attempt, commands })
}

/// What is here without leave: in motion although no event plans that, or something that the
/// cluster lost sight of while this node was away. Who said that it could not stop it tries again when it
/// is back.
fn clean_ups(state: &ClusterState, me: NodeNumber) -> impl Iterator<Item = Task> {
    state.groups.iter().filter_map(move |(name, group)| {
        let instance = group.instances.get(&me)?;
        let back = state.nodes.get(&me).is_some_and(|node| node.host == HostStatus::Up);
        let open = back || !group.unreleased.contains(&me);
        let unseen = instance.state == GroupState::Unknown && !instance.is_left() && open;
        let here = unseen || state.is_stray(name, me);
        here.then(|| Task::CleanUp { group: name.clone(), token: instance.token })
    })
}

fn verification(state: &ClusterState, me: NodeNumber) -> Option<Task> {
    let pending = state.documents.pending.as_ref()?;
    let asked = pending.asked.contains(&me) && !pending.findings.contains_key(&me);
    asked.then_some(Task::Verify { proposal: pending.id })
}

fn fencing(state: &ClusterState, me: NodeNumber) -> impl Iterator<Item = Task> {
    let mine = move |fencing: &&Fencing| fencing.by == me && fencing.failure.is_none();
    state.manager.fencing.iter().filter_map(move |(node, fencing)| {
        Some(fencing).filter(mine).map(|f| Task::Fence { node: *node, attempt: f.attempt })
    })
}

/// Logs cannot change their timers while they are open, so agents begin anew: one after the other, the
/// director last, while every voter is there and nothing is going on. An agent that begins anew costs
/// no lease and no group.
fn renewal(state: &ClusterState, me: NodeNumber) -> Option<Task> {
    let manager = &state.manager;
    let runs = |node: &Node| node.host == HostStatus::Up && node.agent == AgentStatus::Running;
    let quiet = manager.begun().next().is_none() && manager.queue.is_empty();
    if !quiet || !state.voters().all(runs) || !state.nodes_up().all(runs) {
        return None;
    }
    let wanted = state.settings.timing.log();
    let behind =
        |node: &&Node| manager.members.get(&node.number).is_some_and(|member| member.log != wanted);
    let behind = state.nodes_up().filter(behind);
    let next = behind.min_by_key(|node| (state.director == Some(node.number), node.number))?;
    (next.number == me).then_some(Task::Renew)
}

/// What stands between a node and a group that a script wants to acquire there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// Nothing: the node has the cluster's leave, under this token.
    Open {
        /// The instance's token.
        token: u64,
    },
    /// Something that may change.
    Wait(String),
    /// The event goes on without it: the cluster brings the group elsewhere, or leaves it where it is.
    Elsewhere(String),
    /// It is not for this node.
    Closed(String),
}

/// Whether `me` may acquire `group` now, has to wait, or waits in vain.
pub fn admission(state: &ClusterState, group: &str, me: NodeNumber) -> Admission {
    let planned = plans(state, group, me);
    if planned.is_some() && state.definition.group(group).is_none() {
        return Admission::Elsewhere(format!("{group} is not part of the configuration any more"));
    }
    let known = state.groups.get(group);
    if let Some(instance) = known.and_then(|known| known.instances.get(&me)) {
        return match instance.state {
            // Its lease ended for a moment, say; that is over soon, or fails.
            GroupState::Releasing => {
                Admission::Wait(format!("{group} is still being released here"))
            }
            GroupState::Error => Admission::Closed(format!("{group} is ERROR on this node")),
            _ => Admission::Open { token: instance.token },
        };
    }
    if state.is_giving_up(me).is_some() {
        return Admission::Elsewhere(format!("{} is being stopped", state.node_name(me)));
    }
    let Some(running) = planned else {
        return Admission::Closed(format!(
            "no event in progress gives {group} to this node; to have it moved: vedette group move {group}"
        ));
    };
    if known.is_some_and(|known| known.avoid.contains(&me)) {
        return Admission::Elsewhere(format!("{group} could not be acquired by this node before"));
    }
    if let Some(why) = known.and_then(|known| in_vain(state, running, group, known)) {
        return Admission::Elsewhere(why);
    }
    if let Some(why) = known.and_then(|known| withheld(running, group, known)) {
        return Admission::Elsewhere(why);
    }
    let others: Vec<NodeNumber> =
        known.into_iter().flat_map(|known| known.instances.keys().copied()).collect();
    let about = |node: &NodeNumber| releases(running, group, *node);
    let late = running.slow && !others.is_empty() && others.iter().all(about);
    let others: Vec<String> = others.iter().map(|node| state.node_name(*node)).collect();
    if late {
        // This node has done its part; when it is released, another event brings it, with all the time that it needs.
        return Admission::Elsewhere(format!(
            "{} takes long to let go of {group}",
            others.join(", ")
        ));
    }
    Admission::Wait(match others.as_slice() {
        [] => "the cluster has not given it to this node yet".into(),
        names => format!("{} has not let go of it yet", names.join(", ")),
    })
}

/// The event that brings the group to that node, if one does.
pub fn plans<'a>(state: &'a ClusterState, group: &str, me: NodeNumber) -> Option<&'a Running> {
    state.manager.begun().find(|running| {
        running.stage != Stage::Voting && running.plan.acquires(me).any(|name| name == group)
    })
}

/// Groups that may come to a node soon, so that it can begin what takes time and changes nothing: what the
/// event in progress brings there and, before there is a plan, what it could own and is to move or has lost
/// its node.
pub fn coming(state: &ClusterState, me: NodeNumber) -> Vec<&str> {
    let manager = &state.manager;
    let voting = manager.begun().filter(|running| running.stage == Stage::Voting);
    let ahead: Vec<&Trigger> = (manager.queue.iter().map(|event| &event.trigger))
        .chain(voting.map(|running| &running.event.trigger))
        .collect();
    let may_come = |def: &&GroupDef| {
        let Some(group) = state.groups.get(&def.name) else { return false };
        if !def.nodes.contains(&me) || group.avoid.contains(&me) {
            return false;
        }
        let free = !ahead.is_empty() && !group.instances.contains_key(&me);
        plans(state, &def.name, me).is_some() || (free && is_loose(state, &def.name, &ahead))
    };
    state.definition.groups.iter().filter(may_come).map(|def| def.name.as_str()).collect()
}

/// Whether what lies ahead may bring a group elsewhere: it is to move, or nobody who is there has it.
fn is_loose(state: &ClusterState, name: &str, ahead: &[&Trigger]) -> bool {
    let moves = |it: &&Trigger| matches!(it, Trigger::GroupMove { group } if group == name);
    let is_up = |node| state.nodes.get(node).is_some_and(|node| node.host == HostStatus::Up);
    let Some(group) = state.groups.get(name) else { return false };
    !group.wanted_offline && (ahead.iter().any(moves) || !group.instances.keys().any(is_up))
}

/// Why nobody is given the group, whoever lets go of it: that was ordered, or came up, after the event was planned.
/// When it is over, another event brings the group where it belongs.
fn withheld(running: &Running, name: &str, group: &Group) -> Option<String> {
    if group.wanted_offline {
        return Some(format!("{name} is to be off"));
    }
    let tries_again = |node| releases(running, name, node);
    let blocked = group.blocked.as_ref().filter(|it| !it.node.is_some_and(tries_again));
    blocked.map(|blocked| format!("{name} is blocked: {}", blocked.why))
}

/// Whether a node that is to release the group in an event is about it: it has neither arrived nor failed.
fn releases(running: &Running, name: &str, node: NodeNumber) -> bool {
    let about = running.participants.contains(&node)
        && !running.arrived.contains(&node)
        && !running.failed.contains(&node);
    about && running.plan.releases(node).any(|group| group == name)
}

/// Why nobody will let go of the group in this event, if that is so.
fn in_vain(state: &ClusterState, running: &Running, name: &str, group: &Group) -> Option<String> {
    if state.definition.group(name).is_some_and(|def| def.policy == Policy::Concurrent) {
        return None;
    }
    group.instances.iter().find_map(|(node, instance)| {
        let why =
            keeps(state, running, (name, *node), instance).or_else(|| stays(state, name, *node))?;
        Some(format!("{} keeps {name}: {why}", state.node_name(*node)))
    })
}

/// Why a node that holds something will not let go of it while this phase lasts. A node that is away
/// is evicted when that is certain; one that is there does it in a command of this phase.
fn keeps(
    state: &ClusterState,
    running: &Running,
    (name, node): (&str, NodeNumber),
    instance: &Instance,
) -> Option<String> {
    let there = state.nodes.get(&node).is_some_and(|known| known.host == HostStatus::Up);
    let busy = running.participants.contains(&node) && !running.arrived.contains(&node);
    let failed = running.failed.contains(&node);
    match instance.state {
        GroupState::Unmanaged => Some("it was left running there".into()),
        // Who is back takes that up as it is, in an event of its own.
        GroupState::Unknown if there && instance.is_left() => {
            Some("it was left running there".into())
        }
        // It tries again, or says in a moment that its command failed.
        GroupState::Error if releases(running, name, node) => None,
        GroupState::Error if there && !state.definition.fencing.contains_key(&node) => {
            Some("its release failed".into())
        }
        GroupState::Online | GroupState::Releasing if there && failed => {
            Some("its part of this event failed".into())
        }
        GroupState::Online if there && !busy => {
            Some("nothing in this event releases it now".into())
        }
        _ => None,
    }
}

/// Why nothing takes a group from a node that is away, if the director has said that its takeover waits.
fn stays(state: &ClusterState, name: &str, node: NodeNumber) -> Option<String> {
    let away = state.nodes.get(&node).is_none_or(|known| known.host != HostStatus::Up);
    (away && state.takeover_waits_for(name, node).is_some())
        .then(|| "nothing proves that it has let go of it".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Waiting;
    use crate::fixture::Fixture;

    const N1: NodeNumber = NodeNumber(1);
    const N2: NodeNumber = NodeNumber(2);

    /// An event that moves web from n1 to n2 and has come to n2's part.
    fn moving(mut holder: impl FnMut(&mut ClusterState)) -> ClusterState {
        let mut fixture = Fixture::failing_over();
        let state = &mut fixture.state;
        let running = state.manager.current.as_mut().expect("an event in progress");
        running.participants = [N1, N2].into();
        running.arrived = [N1].into();
        if let Some(node) = state.nodes.get_mut(&N1) {
            node.host = HostStatus::Up;
        }
        let web = state.groups.get_mut("web").expect("there is web");
        web.instances.clear();
        let since = crate::time::WallTime::default();
        let resources = std::collections::BTreeMap::new();
        web.instances.insert(
            N1,
            Instance { state: GroupState::Online, token: 1, since, resources, uncovered: None },
        );
        holder(state);
        fixture.state
    }

    fn web(state: &mut ClusterState, to: GroupState) {
        let web = state.groups.get_mut("web").expect("there is web");
        web.instances.get_mut(&N1).expect("n1 has it").state = to;
    }

    /// Seed 67681 of the simulation: a node whose join had failed and stepped aside was to release a group in
    /// the next event, in which it took no part, and another node waited for that.
    #[test]
    fn what_is_in_motion_on_a_node_that_takes_no_part_is_cleaned_up() {
        let cleans = |state: &ClusterState| {
            let of_web =
                |task: &Task| matches!(task, Task::CleanUp { group, .. } if group == "web");
            tasks(state, N1).iter().any(of_web)
        };
        let with = |participants: &[NodeNumber]| {
            moving(|state| {
                web(state, GroupState::Acquiring);
                let running = state.manager.current.as_mut().expect("an event in progress");
                running.participants = participants.iter().copied().collect();
                running.plan.moves[0].release = vec![N1];
            })
        };
        assert!(with(&[N1, N2]).manager.current.is_some_and(|running| running.plans("web", N1)));
        assert!(!cleans(&with(&[N1, N2])), "its own command does it");
        assert!(cleans(&with(&[N2])), "nobody else would");
    }

    /// Seed 2242 of the simulation: a release failed, the failure was cleared and its event skipped. In the next phase
    /// the other node waited for a release that no command of its did any more, and with it everything else.
    #[test]
    fn what_no_command_of_its_event_releases_any_more_is_cleaned_up() {
        let at = |arrived: &[NodeNumber]| {
            let state = moving(|state| {
                web(state, GroupState::Releasing);
                let running = state.manager.current.as_mut().expect("an event in progress");
                running.arrived = arrived.iter().copied().collect();
                running.plan.moves[0].release = vec![N1];
            });
            tasks(&state, N1).iter().any(|task| matches!(task, Task::CleanUp { .. }))
        };
        assert!(!at(&[]), "its command may do it");
        assert!(at(&[N1]), "it is at the barrier");
    }

    /// What nothing proves to be over stays where it is though its node is lost, so nobody waits for it, and what waits
    /// behind that event goes on. What else that node had ends with its lease, and is waited for.
    #[test]
    fn r7_nobody_waits_for_a_takeover_that_waits_for_an_operator() {
        let way_when = |waits: &[&str]| {
            let state = moving(|state| {
                web(state, GroupState::Unknown);
                state.nodes.get_mut(&N1).expect("n1").host = HostStatus::Down;
                let db = state.groups["web"].clone();
                state.groups.insert("db".into(), db);
                let why =
                    |group: &&str| ((*group).to_owned(), "it is not seen to be off".to_owned());
                let groups = waits.iter().map(why).collect();
                state.manager.takeovers.insert(N1, Waiting { incident: 1, groups });
                let running = state.manager.current.as_mut().expect("an event in progress");
                let mut other = running.plan.moves[0].clone();
                other.group = "db".into();
                running.plan.moves.push(other);
            });
            ["web", "db"]
                .map(|group| matches!(admission(&state, group, N2), Admission::Elsewhere(_)))
        };
        assert_eq!(way_when(&[]), [false, false], "it may be fenced");
        assert_eq!(way_when(&["web"]), [true, false]);
        assert_eq!(way_when(&["web", "db"]), [true, true]);
    }

    /// Seed 3659 of the simulation: a node that could not stop a group, and was away then, did not try again when it
    /// was back, because for its runner that task was done.
    #[test]
    fn what_could_not_be_stopped_is_tried_again_by_who_is_back() {
        let at = |host| {
            let state = moving(|state| {
                web(state, GroupState::Unknown);
                state.groups.get_mut("web").expect("it").unreleased.insert(N1);
                state.nodes.get_mut(&N1).expect("n1").host = host;
            });
            tasks(&state, N1).iter().any(|task| matches!(task, Task::CleanUp { .. }))
        };
        assert!(!at(HostStatus::Down) && at(HostStatus::Up));
    }

    #[test]
    fn h25_who_waits_for_a_release_says_for_whose() {
        let waits = moving(|state| web(state, GroupState::Releasing));
        assert_eq!(
            admission(&waits, "web", N2),
            Admission::Wait("n1 has not let go of it yet".into())
        );
    }

    /// A holder that is there and has nothing left to do in this phase will not let go of it.
    #[test]
    fn h25_nobody_waits_in_vain() {
        for how in [GroupState::Online, GroupState::Unmanaged, GroupState::Error] {
            let keeps = moving(|state| web(state, how));
            assert!(matches!(admission(&keeps, "web", N2), Admission::Elsewhere(_)), "{how}");
        }
        let busy = moving(|state| {
            state.manager.current.as_mut().expect("an event").arrived.clear();
        });
        assert!(
            matches!(admission(&busy, "web", N2), Admission::Wait(_)),
            "its command may still release it"
        );
        let away = moving(|state| {
            state.nodes.get_mut(&N1).expect("n1").host = HostStatus::Down;
        });
        assert!(
            matches!(admission(&away, "web", N2), Admission::Wait(_)),
            "it is evicted when that is certain"
        );
    }

    /// Seed 40848 of the simulation: a group that was to be stopped everywhere, or an operator wants off, was waited
    /// for in the event that had planned it, until the time of its command was over.
    #[test]
    fn what_is_to_be_off_meanwhile_is_not_waited_for() {
        let free = |change: &dyn Fn(&mut Group)| {
            let state = moving(|state| {
                let web = state.groups.get_mut("web").expect("there is web");
                web.instances.clear();
                change(web);
            });
            admission(&state, "web", N2)
        };
        assert!(matches!(free(&|_| ()), Admission::Wait(_)));
        let off = Admission::Elsewhere("web is to be off".into());
        assert_eq!(free(&|web| web.wanted_offline = true), off);
        let since = crate::time::WallTime::default();
        let why = "it also runs on n3".to_owned();
        let blocked = crate::group::Blocked { node: None, why, since };
        let off = Admission::Elsewhere("web is blocked: it also runs on n3".into());
        assert_eq!(free(&|web| web.blocked = Some(blocked.clone())), off);
    }

    /// From the entry that declares an owner DOWN, each of the others may get its groups; with the plan, one.
    #[test]
    fn what_may_come_is_known_before_it_is_planned() {
        const N3: NodeNumber = NodeNumber(3);
        let mut fixture = Fixture::with_groups();
        for node in [N1, N2, N3] {
            assert_eq!(coming(&fixture.state, node), [""; 0], "nothing lies ahead");
        }
        fixture.node_down(N1, "silent");
        assert!(!fixture.state.manager.queue.is_empty(), "the event waits for its vote");
        assert_eq!(
            (coming(&fixture.state, N2), coming(&fixture.state, N3)),
            (vec!["web"], vec!["web"])
        );
        assert_eq!(coming(&fixture.state, N1), [""; 0], "it has it");
        let mut off = fixture.state.clone();
        off.groups.get_mut("web").expect("it").wanted_offline = true;
        assert_eq!(coming(&off, N2), [""; 0], "it goes nowhere");
        fixture.state.groups.get_mut("web").expect("it").avoid.insert(N3);
        assert_eq!(coming(&fixture.state, N3), [""; 0], "it could not acquire it");
        let planned = Fixture::failing_over().state;
        assert_eq!((coming(&planned, N2), coming(&planned, N3)), (vec!["web"], vec![]));
    }

    #[test]
    fn h25_only_what_an_event_gives_is_acquired() {
        let state = Fixture::with_groups().state;
        assert!(matches!(admission(&state, "web", NodeNumber(9)), Admission::Closed(_)));
    }
}
