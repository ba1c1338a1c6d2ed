//! The verdict: one honest sentence for 3 a.m., and how bad it is.
//!
//! The order of the questions is the whole idea. First whether this node may speak for the cluster
//! at all: a node without a quorum says what it is missing, not what it last heard. Then whether
//! the cluster serves. Then what is not as it should be, the worst first, and what that costs.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::clock::{CLOCK_TOLERANCE_US, clock_trouble};
use vedette_core::event::Member;
use vedette_core::group::{Group, GroupState};
use vedette_core::id::NodeNumber;
use vedette_core::local_view::RaisedCondition;
use vedette_core::model::{
    AgentStatus, HostStatus, InterfaceStatus, NetworkStatus, Node, Role, Severity, Substate,
};
use vedette_core::record::Code;
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;
use vedette_core::view::View;

mod groups;

use super::Seen;
use super::cluster::{Redundancy, networks_up};
use super::local::{TAKE_IN_AGAIN, was_deleted};

/// How bad it is; also the exit status of `vedette status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Everything is as it should be.
    Fine,
    /// The cluster serves, but has lost something.
    Degraded,
    /// The cluster does not serve, or this node is cut off from it.
    Failed,
    /// This node cannot tell.
    Unknown,
}

impl Level {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fine => "fine",
            Self::Degraded => "degraded",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }

    /// The exit status that stands for it, as Nagios has them.
    pub const fn exit_status(self) -> u8 {
        self as u8
    }
}

/// The verdict on a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How bad it is.
    pub level: Level,
    /// In one sentence.
    pub sentence: String,
    /// Everything that is not as it should be, the worst first.
    pub problems: Vec<String>,
}

impl Verdict {
    /// The verdict on what is seen.
    pub fn new(seen: Seen<'_>) -> Self {
        if let Some((level, sentence)) = may_not_speak(seen) {
            let own = own_problems(seen).into_iter().map(|(_, problem)| problem);
            let problems = std::iter::once(sentence.clone()).chain(own).collect();
            return Self { level, problems, sentence };
        }
        let state = &*seen.view.state;
        let problems = problems(seen);
        if !state.seeded {
            let sentence =
                format!("{} is down: it waits for {}.", state.name, waiting_for(seen.view));
            return Self { level: Level::Failed, sentence, problems };
        }
        if let Some(sentence) = does_not_serve(state, &problems) {
            return Self { level: Level::Failed, sentence, problems };
        }
        match problems.first() {
            None => Self { level: Level::Fine, sentence: all_is_well(state), problems },
            Some(worst) => {
                let sentence = degraded(state, worst, problems.len());
                Self { level: Level::Degraded, sentence, problems }
            }
        }
    }
}

/// What the answering node or the cluster waits for; empty if for nothing.
pub(super) fn waiting_for(view: &View) -> String {
    let state = &view.state;
    if !view.local.waiting_for.is_empty() || state.seeded || state.cluster.is_none() {
        return view.local.waiting_for.clone();
    }
    let missing: Vec<&str> = state.missing_nodes().iter().map(|node| node.name.as_str()).collect();
    let there = state.nodes.len() - missing.len();
    let wanted = usize::from(state.settings.seed_count).min(state.nodes.len());
    format!("{} ({there} of {wanted} needed nodes are there)", missing.join(", "))
}

/// Why this node may not speak for the cluster, if it may not.
fn may_not_speak(seen: Seen<'_>) -> Option<(Level, String)> {
    let (state, local) = (&*seen.view.state, &seen.view.local);
    let own = state.node_name(local.node);
    let waits = if local.waiting_for.is_empty() {
        String::new()
    } else {
        format!("; it waits for {}", local.waiting_for)
    };
    if state.cluster.is_none() {
        return Some((Level::Unknown, format!("{own} is not part of a cluster yet{waits}.")));
    }
    if was_deleted(state, local.node, local.quorate, local.stage) {
        let name = &state.name;
        return Some((
            Level::Failed,
            format!(
                "this node was deleted from {name} and is no member of it any more; to take it in \
                 again: {TAKE_IN_AGAIN}."
            ),
        ));
    }
    if local.host == HostStatus::Disconnected {
        let known = match local.unknown_since {
            Some(at) => format!(", and has known nothing of them {}", since(at, seen.now)),
            None => String::new(),
        };
        let name = &state.name;
        let what = format!("{own} reaches no other node of {name} on any network{known}");
        return Some((Level::Failed, format!("this node is cut off: {what}.")));
    }
    if local.knows() {
        return None;
    }
    let lasts = local.unknown_since.map(|at| format!(" {}", since(at, seen.now)));
    let lasts = lasts.unwrap_or_default();
    let sentence =
        if let (true, "running", Some(behind)) = (local.quorate, local.stage, &local.log.behind) {
            format!("{} is unknown to {own}{lasts}: its log is behind, {behind}.", state.name)
        } else if local.stage == "running" {
            let what = if local.lease { "without a director" } else { "without a quorum" };
            let runs = if local.lease { "; what runs goes on, nothing can be moved" } else { "" };
            format!("{} is unknown to {own}: it has been {what}{lasts}{waits}{runs}.", state.name)
        } else {
            format!(
                "{own} is starting (stage {}) and knows nothing of {} yet{waits}.",
                local.stage, state.name
            )
        };
    Some((Level::Unknown, sentence))
}

/// Conditions of the answering node that hold. That it has no quorum or no director is told by the verdict itself, and
/// a clock that differs with the offsets that are measured.
fn own_problems(seen: Seen<'_>) -> Vec<(u8, String)> {
    let told = |code| matches!(code, Code::QuorumLost | Code::NoDirector | Code::ClockOff);
    let raised = seen.view.local.conditions.iter().filter(|raised| !told(raised.code));
    let problem = |raised: &RaisedCondition| {
        let cause = match raised.cause.as_str() {
            "" => String::new(),
            cause => format!(" ({cause})"),
        };
        let rank = if raised.severity == Severity::Error { 1 } else { 7 };
        (rank, format!("{} {}{cause}", raised.message, since(raised.since, seen.now)))
    };
    raised.map(problem).collect()
}

fn all_is_well(state: &ClusterState) -> String {
    let (nodes, networks) = (state.nodes.len(), state.networks.len());
    let fragile = match (nodes, Redundancy::new(state).quorum_remaining) {
        (1, _) => "; with one node there is no redundancy",
        (_, 0) => "; one more failure would lose quorum",
        _ => "",
    };
    format!(
        "{} is up: {nodes} of {nodes} nodes, {networks} of {networks} networks{fragile}.",
        state.name
    )
}

/// What is said when a group needs an operator: the cluster as such works, and yet somebody's
/// service does not.
fn does_not_serve(state: &ClusterState, problems: &[String]) -> Option<String> {
    let mut broken = state.groups.iter().filter(|(name, group)| {
        group.state() == GroupState::Error
            || groups::is_held_up(state, name, group)
            || groups::is_left_to_nobody(state, group)
            || groups::is_kept_off(group)
    });
    let (name, _) = broken.next()?;
    let others = match broken.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let worst = problems.first().map_or("", String::as_str);
    if worst.starts_with(groups::NOBODY) {
        return Some(format!("{} has failed: {worst}{}.", state.name, more(problems.len())));
    }
    Some(format!("{} does not serve {name}{others}: {worst}{}.", state.name, more(problems.len())))
}

/// How many problems there are beside the one that was told.
fn more(problems: usize) -> String {
    match problems.saturating_sub(1) {
        0 => String::new(),
        1 => " (and 1 more problem)".to_owned(),
        many => format!(" (and {many} more problems)"),
    }
}

/// The worst problem, how many more there are, and what is left.
fn degraded(state: &ClusterState, worst: &str, problems: usize) -> String {
    let more = more(problems);
    let (up, all) = (state.nodes_up().count(), state.nodes.len());
    let networks = match (networks_up(state), state.networks.len()) {
        (up, all) if up == all => String::new(),
        (up, all) => format!(", {up} of {all} networks are up"),
    };
    let Redundancy { voters_up, quorum, quorum_remaining, network_remaining, .. } =
        Redundancy::new(state);
    let left = if voters_up < quorum {
        " and the quorum is in danger"
    } else if state.manager.maintenance {
        " and nothing fails over until the maintenance ends"
    } else if quorum_remaining == 0 {
        " and one more failure would lose quorum"
    } else if network_remaining == 0 && all > 1 {
        " and one more network failure would cut a node off"
    } else if let Some(name) = groups::alone(state) {
        &format!(" and nobody could take over group {name}")
    } else {
        " and one more failure would do no harm"
    };
    format!(
        "{} is degraded: {worst}{more}; {up} of {all} nodes are up{networks}{left}.",
        state.name
    )
}

/// Whether an event failed and waits for an operator.
fn failed_event(state: &ClusterState) -> bool {
    state.manager.failed().next().is_some()
}

/// Everything that is not as it should be, the worst first.
fn problems(seen: Seen<'_>) -> Vec<String> {
    let state = &*seen.view.state;
    let mut found: Vec<(u8, String)> = Vec::new();
    for node in state.nodes.values() {
        found.extend(node_problem(node, seen.now));
        found.extend(interface_problems(state, node, seen.now));
        found.extend(watchdog_problem(state, node));
        found.extend(reaper_problem(state, node));
        found.extend(unreleased_problems(state, node));
    }
    found.extend(standby_problems(state, seen.now));
    for network in state.networks.values().filter(|net| net.status == NetworkStatus::Down) {
        found.push((
            2,
            format!("network {} is DOWN {}", network.name, since(network.since, seen.now)),
        ));
    }
    // A failed event is told itself, with what to do about it.
    let told = failed_event(state) && state.substate == Substate::Error;
    let unsettled = [Substate::Error, Substate::NotSynced, Substate::Reconfig];
    if unsettled.contains(&state.substate) && !told {
        found.push((
            0,
            format!("its substate is {} {}", state.substate, since(state.substate_since, seen.now)),
        ));
    }
    found.extend(groups::problems(state, seen.now));
    found.extend(clock_problems(seen.view));
    found.extend(own_problems(seen));
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, problem)| problem).collect()
}

/// Clocks that differ: nothing fails over it, but nobody can put what happened in order.
fn clock_problems(view: &View) -> Vec<(u8, String)> {
    let Some(report) = view.local.report.as_deref() else { return Vec::new() };
    let own = view.state.node_name(report.observer);
    let from = seconds(CLOCK_TOLERANCE_US);
    let sentence = |(node, offset_us): (NodeNumber, i64)| {
        let (name, apart) = (view.state.node_name(node), seconds(offset_us));
        let where_to = if offset_us < 0 { "behind" } else { "ahead of" };
        format!(
            "the clock of {name} is {apart} s {where_to} that of {own} (warned about from {from} s): \
             correct it, for example with chronyc makestep"
        )
    };
    clock_trouble(report, &view.state).into_iter().map(|clock| (9, sentence(clock))).collect()
}

/// The length of an offset in seconds, to a tenth.
fn seconds(offset_us: i64) -> String {
    format!("{:.1}", offset_us.unsigned_abs() as f64 / 1e6)
}

fn node_problem(node: &Node, now: WallTime) -> Option<(u8, String)> {
    let rank = if node.role == Role::Voter { 1 } else { 3 };
    match (node.host, node.agent) {
        (HostStatus::Up, AgentStatus::Running) => None,
        (HostStatus::Up, agent) => {
            let since = since(node.agent_since, now);
            Some((rank + 3, format!("the agent of {} is {agent} {since}", node.name)))
        }
        (host, _) => {
            let since = since(node.host_since, now);
            let cause = if node.host_cause.is_empty() {
                String::new()
            } else {
                format!(" ({})", node.host_cause)
            };
            let rank = if host == HostStatus::Unknown { rank + 3 } else { rank };
            Some((rank, format!("{} is {host} {since}{cause}", node.name)))
        }
    }
}

/// An interface that is down alone; those on a network that is down as a whole are its matter.
fn interface_problems(
    state: &ClusterState,
    node: &Node,
    now: WallTime,
) -> impl Iterator<Item = (u8, String)> {
    let jeopardy = if state.in_jeopardy(node) {
        format!(", and {} has only one interface left", node.name)
    } else {
        String::new()
    };
    node.interfaces.iter().filter_map(move |(number, own)| {
        let network = state.networks.get(number)?;
        let alone = own.status == InterfaceStatus::Down && network.status != NetworkStatus::Down;
        let since = since(own.since, now);
        alone.then(|| {
            (5, format!("interface {}/{} is DOWN {since}{jeopardy}", node.name, network.name))
        })
    })
}

/// Redundancy that is paid for and not there: an adapter that could not take over.
fn standby_problems(state: &ClusterState, now: WallTime) -> impl Iterator<Item = (u8, String)> {
    state.standbys().filter_map(move |standby| {
        let fault = standby.fault?;
        let node = state.node_name(standby.node);
        let network = state.network_name(standby.network);
        let since = since(fault.since, now);
        let (address, cause) = (standby.address, &fault.cause);
        let what = format!("standby adapter {address} of {node} on {network} failed");
        Some((5, format!("{what} {since} ({cause})")))
    })
}

/// A watchdog that is configured and ends nothing in time.
fn watchdog_problem(state: &ClusterState, node: &Node) -> Option<(u8, String)> {
    let member = state.manager.members.get(&node.number)?;
    let why = member.watchdog.as_ref().filter(|_| node.host == HostStatus::Up)?;
    Some((6, format!("the watchdog of {} stands behind nothing: {why}", node.name)))
}

/// A node on which two processes that are stopped are enough for two owners.
fn reaper_problem(state: &ClusterState, node: &Node) -> Option<(u8, String)> {
    let member = state.manager.members.get(&node.number)?;
    let why = member.reaper.as_ref().filter(|_| node.host == HostStatus::Up)?;
    Some((6, format!("{} has no reaper: {why}", node.name)))
}

/// A node that is no place for groups before it has let go of what it had.
fn unreleased_problems(state: &ClusterState, node: &Node) -> Vec<(u8, String)> {
    let up = |_: &&Member| node.host == HostStatus::Up;
    let Some(member) = state.manager.members.get(&node.number).filter(up) else {
        return Vec::new();
    };
    let name = &node.name;
    let unreleased = &member.unreleased;
    let guard = unreleased.guard.iter().map(|why| {
        let what = format!("{name} could not release what it had, and gets no group before it has");
        (2, format!("{what}: {why}"))
    });
    let gone = |group: &&String| {
        let has = |it: &Group| it.instances.contains_key(&node.number);
        state.groups.get(*group).is_some_and(|it| !has(it))
    };
    let groups = unreleased.groups.iter().filter(|(group, _)| gone(group));
    let groups = groups.map(|(group, why)| (2, format!("{name} has not let go of {group}: {why}")));
    guard.chain(groups).collect()
}

/// `since 12:04:01Z`, with the date if that was not today.
fn since(at: WallTime, now: WallTime) -> String {
    let text = at.to_string();
    let (day, clock) = text.split_at(text.find('T').unwrap_or(0));
    let clock = clock.trim_start_matches('T').split('.').next().unwrap_or_default();
    if now.to_string().starts_with(day) {
        format!("since {clock}Z")
    } else {
        format!("since {day} {clock}Z")
    }
}
