//! Resource groups: where each is, how each of its resources does, and what stands in its way
//! (spec H24 to H28).

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::event::ManagerState;
use vedette_core::group::{
    FailCount, Group, GroupState, Instance, MultipleActive, Policy, ResourceDef, ResourceKind,
    ResourceState, Sighting, Tolerated, Until,
};
use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Node};
use vedette_core::state::ClusterState;
use vedette_core::trigger::Trigger;
use vedette_core::view::View;

use super::LastKnownGroupDoc;

/// A resource group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GroupDoc {
    /// Its number in the MIB and in events.
    pub number: u16,
    /// Its name.
    pub name: String,
    /// `cascading`, `rotating` or `concurrent`; `null` for a group that is on its way out.
    #[schema(value_type = Option<String>, example = "cascading")]
    pub policy: Option<Policy>,
    /// `UNKNOWN`, `ONLINE`, `OFFLINE`, `ACQUIRING`, `RELEASING`, `ERROR` or `UNMANAGED`.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: GroupState,
    /// Since when.
    pub since: String,
    /// The node that has it; of a concurrent group the first.
    pub owner: Option<String>,
    /// Its number.
    pub owner_number: Option<u16>,
    /// Every node that has something of it.
    pub owners: Vec<String>,
    /// The nodes it may run on, best first.
    pub nodes: Vec<String>,
    /// What was known of it last, where its present state is not known.
    #[serde(default)]
    pub last_known: Option<LastKnownGroupDoc>,
    /// Those that would take it now and do not have it; `null` where that is not known.
    pub standbys: Option<Vec<String>>,
    /// Whether a cascading group goes back to its home, the first of its nodes, when that returns.
    pub fallback: bool,
    /// How long its home has to be back before it goes there.
    #[serde(default)]
    pub fallback_delay_ms: u64,
    /// The part of the day, in UTC, in which it goes back; `null`: all of it.
    #[serde(default)]
    #[schema(example = "02:00-04:00")]
    pub fallback_window: Option<String>,
    /// The move that is planned: it goes back home; `null` if none is, or where that is not known.
    #[serde(default)]
    pub goes_back: Option<GoesBackDoc>,
    /// Whether nothing is done about it: it, or the whole cluster, is in maintenance; `null` where that
    /// is not known.
    pub maintenance: Option<bool>,
    /// Whether an operator wants it to be off; `null` where that is not known.
    pub wanted_offline: Option<bool>,
    /// Why its policy had it stopped and keeps it off until an operator brings it online; `null` if that is not so,
    /// or where it is not known.
    #[serde(default)]
    #[schema(example = "it also ran on n3, and multiple_active is stop_all")]
    pub stopped_for: Option<String>,
    /// An operator moved it to this node; `null` if nobody did, or where that is not known.
    pub preferred: Option<String>,
    /// When that ends: a time, or `home` for the return of its home, its first node; `null`: once the group is
    /// home, or if there is none.
    #[serde(default)]
    #[schema(example = "2026-11-22T14:00:00.000Z")]
    pub preferred_until: Option<String>,
    /// A node that was stopped took it along; it waits for that node; `null` if none did, or where that
    /// is not known.
    pub held_for: Option<String>,
    /// What it waits for while it is not where it should be, where that needs an operator or a node;
    /// `null` if for nothing, or where that is not known.
    #[schema(example = "event 7 node_down n3, which failed and needs an operator")]
    pub waits_for: Option<String>,
    /// Where it ran last; `null` if nowhere yet, or where that is not known.
    pub last: Option<String>,
    /// Where something of it runs although it is not there, or may; `null` where that is not known.
    #[serde(default)]
    pub also_on: Option<Vec<AlsoOnDoc>>,
    /// Why nothing is done about it until an operator says so; `null` if nothing is in its way, or where
    /// that is not known.
    pub blocked: Option<BlockedDoc>,
    /// Nodes that it does not go to until failures are cleared; `null` where that is not known.
    pub avoid: Option<Vec<String>>,
    /// Why, of those of them for which it was said; `null` where that is not known.
    #[serde(default)]
    pub avoided: Option<Vec<AvoidedDoc>>,
    /// Since when it fails over again and again, so that its failures alert nobody; `null` if it does not, or
    /// where that is not known.
    #[serde(default)]
    pub flapping: Option<String>,
    /// Failures, until they end by themselves or are cleared; `null` where that is not known.
    pub fails: Option<Vec<FailCountDoc>>,
    /// How many times it was brought online on a node other than the last.
    pub failovers: u64,
    /// Where something of it may be active.
    pub instances: Vec<InstanceDoc>,
    /// Its resources, in the order in which they are acquired.
    pub resources: Vec<ResourceDoc>,
}

/// A move that is planned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GoesBackDoc {
    /// Where the group goes back to.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// When, at the earliest.
    pub at: String,
}

/// What runs of a group on a node that does not have it, or may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlsoOnDoc {
    /// The node.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// The resources.
    pub resources: Vec<String>,
    /// Since when.
    pub since: String,
    /// What is done about it: `stop_extra`, `block` or `stop_all`.
    #[schema(example = "stop_extra")]
    pub policy: String,
    /// Why it is not stopped there yet, if that was tried and failed.
    #[serde(default)]
    pub failing: Option<String>,
    /// Why nobody knows whether it runs there; `null` where that is seen.
    #[serde(default)]
    #[schema(example = "nothing proves that it ended there")]
    pub doubt: Option<String>,
    /// What to do about it: one clause.
    #[serde(default)]
    #[schema(example = "it is being stopped there")]
    pub then: String,
}

/// What blocks a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BlockedDoc {
    /// On which node, if on one.
    pub node: Option<String>,
    /// Why.
    pub why: String,
    /// What to do about it: one clause.
    #[serde(default)]
    #[schema(example = "stop it on n1 by hand, then: vedette group clear web")]
    pub advice: String,
    /// The command that goes on with it once that is repaired; `null` if it goes on by itself when that is seen.
    pub then: Option<String>,
    /// Since when.
    pub since: String,
}

/// Why a group does not go to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AvoidedDoc {
    /// The node.
    pub node: String,
    /// What happened there.
    #[schema(example = "web-app cannot be started: exit status 1")]
    pub why: String,
}

/// Failures of a resource on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FailCountDoc {
    /// The node.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// The resource.
    pub resource: String,
    /// How many since they ended or were cleared.
    pub count: u32,
    /// How many times it would still be restarted in place there.
    #[serde(default)]
    pub restarts_left: u32,
    /// When it failed last.
    pub last: String,
    /// When they are forgotten if there is no other one; `null` if the resource is configured no more. That the
    /// group avoids the node ends when an operator clears it.
    #[serde(default)]
    #[schema(example = "2026-11-22T13:04:01.020Z")]
    pub ends: Option<String>,
    /// What was seen.
    pub why: String,
}

/// A group on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct InstanceDoc {
    /// The node.
    pub node: String,
    /// Its number.
    pub node_number: u16,
    /// State of the group there.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: GroupState,
    /// Since when.
    pub since: String,
    /// The log index that allowed it: a fencing token.
    pub token: u64,
    /// Whether it was acquired under its node's lease, and ends with it as far as its resources can. If not, maintenance
    /// or a forced stop has left it to itself, and the node's silence is no reason to start it elsewhere.
    #[serde(default)]
    pub covered: bool,
    /// Its resources there, in the order in which they are acquired.
    pub resources: Vec<ResourceStateDoc>,
}

/// A resource on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceStateDoc {
    /// Its name.
    pub name: String,
    /// `UNKNOWN`, `ONLINE`, `OFFLINE`, `STARTING`, `STOPPING` or `FAILED`.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: ResourceState,
    /// Since when.
    pub since: String,
    /// What is to be said about it.
    pub detail: String,
    /// Failures of its monitor that were tolerated; `null` if none was since it is there.
    #[serde(default)]
    pub tolerated: Option<ToleratedDoc>,
}

/// Failures of a monitor that are too few in a row to make its resource failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ToleratedDoc {
    /// How many in a row now; 0: the latest look was none.
    pub count: u32,
    /// As many in a row as would make it failed.
    pub limit: u32,
    /// How many since it is there.
    pub total: u64,
    /// When the last one was.
    pub last: String,
    /// What was seen then.
    pub why: String,
}

/// A resource, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ResourceDoc {
    /// Its name.
    pub name: String,
    /// Its number in the MIB; 0 if it has none yet.
    pub number: u16,
    /// `address`, `file_system`, `volume_group`, `application`, `ocf` or `systemd`.
    #[schema(example = "address")]
    pub kind: String,
    /// What it is, in a few words.
    #[schema(example = "10.91.0.100/24 on neta")]
    pub what: String,
    /// The address, if it is one.
    pub address: Option<String>,
    /// The control group that an engine fills for it, below cgroup2, if there is one.
    #[schema(example = "web.slice")]
    pub control_group: Option<String>,
}

/// Where a group is: the question of `cl_getgroupnodestates` in one answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LocationDoc {
    /// The group.
    pub group: String,
    /// Its state.
    #[schema(value_type = String, example = "ONLINE")]
    pub state: GroupState,
    /// Since when.
    pub since: String,
    /// The node where it is in service; of a concurrent group the first.
    pub node: Option<String>,
    /// Its number.
    pub node_number: Option<u16>,
    /// Every node where it is in service.
    pub nodes: Vec<String>,
    /// Its service addresses.
    pub addresses: Vec<String>,
    /// Whether the answering node is part of a quorum.
    pub quorate: bool,
    /// What was known of it last, where its present state is not known.
    #[serde(default)]
    pub last_known: Option<LastKnownGroupDoc>,
}

/// What a load balancer wants to know of the answering node and a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// The group is in service on this node.
    Active,
    /// This node would take the group, and does not have it.
    Standby,
    /// The group is in service somewhere.
    Online,
}

impl GroupDoc {
    /// One group of a view.
    pub fn new(view: &View, name: &str, group: &Group) -> Self {
        let state = &*view.state;
        let def = state.definition.group(name);
        let node_name = |node: NodeNumber| state.node_name(node);
        let knows = view.local.knows();
        let place = |node: Option<NodeNumber>| node.filter(|_| knows).map(node_name);
        let owner = group.owner();
        Self {
            number: group.number,
            name: name.into(),
            policy: def.map(|def| def.policy),
            state: group.state(),
            since: group.since.to_string(),
            owner: owner.map(node_name),
            owner_number: owner.map(|node| node.0),
            owners: group.instances.keys().copied().map(node_name).collect(),
            nodes: def.into_iter().flat_map(|def| &def.nodes).copied().map(node_name).collect(),
            last_known: LastKnownGroupDoc::of(view, name, group),
            standbys: standbys(view, name, group)
                .map(|nodes| nodes.into_iter().map(node_name).collect()),
            fallback: def.is_some_and(|def| def.fallback),
            fallback_delay_ms: def.map_or(0, |def| def.fallback_delay_ms),
            fallback_window: def.and_then(|def| Some(def.fallback_window?.to_string())),
            goes_back: group.goes_back.filter(|_| knows).map(|planned| GoesBackDoc {
                node: node_name(planned.to),
                node_number: planned.to.0,
                at: planned.at.to_string(),
            }),
            maintenance: knows.then_some(group.maintenance || state.manager.maintenance),
            wanted_offline: knows.then_some(group.is_wanted_off()),
            stopped_for: group.stopped_for.clone().filter(|_| knows),
            preferred: place(group.preferred),
            preferred_until: preferred_until(group).filter(|_| knows),
            held_for: place(group.held_for),
            waits_for: (waits_for(state, name, group))
                .or_else(|| waits_for_phase(state, name, group))
                .or_else(|| waits_for_change(state, name, group))
                .filter(|_| knows),
            last: place(group.last),
            also_on: knows.then(|| also_on(state, name, group)),
            blocked: group.blocked.as_ref().map(|blocked| BlockedDoc {
                node: blocked.node.map(node_name),
                why: blocked.why.clone(),
                advice: state.advice(name),
                then: state.way_out(name),
                since: blocked.since.to_string(),
            }),
            avoid: knows.then(|| group.avoid.iter().copied().map(node_name).collect()),
            avoided: knows.then(|| avoided(state, group)),
            flapping: group.flapping.filter(|_| knows).map(|since| since.to_string()),
            fails: knows.then(|| fails(state, name, group)),
            failovers: group.failovers,
            instances: instances(state, name, group),
            resources: resources(state, name, group),
        }
    }

    /// Every group: those of the configuration in its order, then those on their way out.
    pub fn all(view: &View) -> Vec<Self> {
        in_order(&view.state).map(|(name, group)| Self::new(view, name, group)).collect()
    }

    /// The group with that name or number.
    pub fn find(view: &View, name_or_number: &str) -> Option<Self> {
        find(&view.state, name_or_number).map(|(name, group)| Self::new(view, name, group))
    }
}

/// What a group that is not ONLINE waits for, if not for what is being done: nothing is done about it
/// before that has happened.
pub(super) fn waits_for(state: &ClusterState, name: &str, group: &Group) -> Option<String> {
    let waits = waits_for_evidence(state, name, group).filter(|_| group.blocked.is_none());
    if waits.is_some() {
        return waits;
    }
    let wanted = !group.wanted_offline && group.held_for.is_none() && group.blocked.is_none();
    if !wanted || matches!(group.state(), GroupState::Online | GroupState::Unmanaged) {
        return None;
    }
    if let Some(running) = state.manager.failed().find(|running| running.concerns(name)) {
        let what = state.trigger_label(&running.event.trigger);
        let id = running.event.id;
        return Some(format!("event {id} {what}, which failed and needs an operator"));
    }
    if !group.instances.is_empty() {
        return None;
    }
    if let Some(extra) = state.runs_elsewhere(name, None) {
        return Some(format!("{} to stop what runs there of it", state.node_name(extra)));
    }
    let nodes = &state.definition.group(name)?.nodes;
    let joined = |node: &NodeNumber| state.manager.members.get(node).is_some_and(|m| m.joined);
    if nodes.iter().any(joined) {
        return None;
    }
    let names: Vec<String> = nodes.iter().map(|node| state.node_name(*node)).collect();
    Some(match names.as_slice() {
        [only] => format!("{only}, whose manager takes no part"),
        several => format!("one of {}, whose managers take no part", several.join(", ")),
    })
}

/// The event that is to start it, and has not come to that for so long that others do not wait for it any more: commands
/// of an earlier phase still run.
fn waits_for_phase(state: &ClusterState, name: &str, group: &Group) -> Option<String> {
    let off = |it: &Instance| {
        let mut resources = it.resources.values();
        it.state == GroupState::Acquiring && resources.all(|it| it.state == ResourceState::Offline)
    };
    let running = state.manager.begun().find(|running| running.has_in_hand(name))?;
    let busy: Vec<String> = running
        .participants
        .difference(&running.arrived)
        .map(|node| state.node_name(*node))
        .collect();
    let late = running.slow && !busy.is_empty() && group.instances.values().any(off);
    let label = state.event_label(&running.event);
    late.then(|| format!("{label}, of which a command still runs on {}", busy.join(", ")))
}

/// The event that changes what is active to what the configuration has by now.
fn waits_for_change(state: &ClusterState, name: &str, group: &Group) -> Option<String> {
    let away = |node: &NodeNumber| !state.is_there(*node);
    if group.retired.is_none()
        || state.definition.group(name).is_none()
        || group.blocked.is_some()
        || group.instances.keys().any(away)
    {
        return None;
    }
    if let Some(running) = state.manager.begun().find(|running| running.has_in_hand(name)) {
        let event = state.event_label(&running.event);
        return Some(format!("the end of {event} to be as it is configured now"));
    }
    let changes = |trigger: &Trigger| matches!(trigger, Trigger::ReconfigResource { .. });
    let waiting = state.manager.queue.iter();
    let begun = state.manager.begun().map(|running| &running.event);
    let event = begun.chain(waiting).find(|event| changes(&event.trigger));
    Some(match event {
        Some(event) => format!("{} to be as it is configured now", state.event_label(event)),
        None => "its next start to be as it is configured now".into(),
    })
}

/// A node that is not there and of which nothing proves that it has let go of a group, and why nothing does.
pub fn waits_for_evidence(state: &ClusterState, name: &str, group: &Group) -> Option<String> {
    let away = |node: &NodeNumber| {
        let host = state.nodes.get(node).map(|known| known.host);
        matches!(host, Some(HostStatus::Down | HostStatus::Disconnected))
    };
    let mut gone = group.instances.iter().filter(|(node, _)| away(node));
    let (node, why) = gone.find_map(|(node, instance)| {
        let left = instance.state == GroupState::Unmanaged;
        let by_order = || {
            let what = "it was left running there without its manager";
            left.then(|| format!("{what}; {}", state.make_certain(*node)))
        };
        let why = state.takeover_waits_for(name, *node).map(str::to_owned).or_else(by_order)?;
        Some((*node, why))
    })?;
    Some(format!("evidence that {} has let go of it: {why}", state.node_name(node)))
}

fn also_on(state: &ClusterState, name: &str, group: &Group) -> Vec<AlsoOnDoc> {
    let policy = state.multiple_active(name);
    let doc = |(node, seen): (&NodeNumber, &Sighting)| {
        let doubt = state.doubt(*node, seen);
        let member = state.manager.members.get(node).filter(|_| doubt.is_none());
        let failing = member.and_then(|member| member.unreleased.groups.get(name).cloned());
        let then = match (&doubt, &failing, policy) {
            (Some(_), _, _) => state.make_certain(*node),
            (None, Some(why), _) => format!("it does not stop: {why}"),
            (None, None, MultipleActive::Block) => "stop it there by hand".into(),
            (None, None, _) => "it is being stopped there".into(),
        };
        AlsoOnDoc {
            node: state.node_name(*node),
            node_number: node.0,
            resources: seen.resources.iter().cloned().collect(),
            since: seen.since.to_string(),
            policy: policy.name().into(),
            failing,
            doubt,
            then,
        }
    };
    group.also.iter().map(doc).collect()
}

/// Groups in the order of the configuration; those that are on their way out come last.
fn in_order(state: &ClusterState) -> impl Iterator<Item = (&str, &Group)> {
    let known =
        state.definition.groups.iter().filter_map(|def| state.groups.get_key_value(&def.name));
    let leaving = state.groups.iter().filter(|(name, _)| state.definition.group(name).is_none());
    known.chain(leaving).map(|(name, group)| (name.as_str(), group))
}

/// The group with that name or, if there is none of that name, that number.
fn find<'a>(state: &'a ClusterState, name_or_number: &str) -> Option<(&'a str, &'a Group)> {
    let numbered = || {
        let number: u16 = name_or_number.parse().ok()?;
        state.groups.iter().find(|(_, group)| group.number == number)
    };
    let found = state.groups.get_key_value(name_or_number).or_else(numbered);
    found.map(|(name, group)| (name.as_str(), group))
}

impl FailCountDoc {
    fn new(state: &ClusterState, group: &str, fail: &FailCount) -> Self {
        Self {
            node: state.node_name(fail.node),
            node_number: fail.node.0,
            resource: fail.resource.clone(),
            count: fail.count,
            restarts_left: state.restarts_left(group, fail),
            last: fail.last.to_string(),
            ends: state.failures_end(group, fail).map(|at| at.to_string()),
            why: fail.why.clone(),
        }
    }
}

fn fails(state: &ClusterState, name: &str, group: &Group) -> Vec<FailCountDoc> {
    group.fails.iter().map(|fail| FailCountDoc::new(state, name, fail)).collect()
}

fn preferred_until(group: &Group) -> Option<String> {
    group.preferred?;
    Some(match group.preferred_until? {
        Until::Home => "home".into(),
        Until::At(at) => at.to_string(),
    })
}

impl ToleratedDoc {
    fn new(seen: &Tolerated) -> Self {
        Self {
            count: seen.count,
            limit: seen.limit,
            total: seen.total,
            last: seen.last.to_string(),
            why: seen.why.clone(),
        }
    }
}

fn avoided(state: &ClusterState, group: &Group) -> Vec<AvoidedDoc> {
    let avoided = group.avoid_why.iter().filter(|(node, _)| group.avoid.contains(node));
    avoided
        .map(|(node, why)| AvoidedDoc { node: state.node_name(*node), why: why.clone() })
        .collect()
}

fn instances(state: &ClusterState, name: &str, group: &Group) -> Vec<InstanceDoc> {
    let doc = |(node, instance): (&NodeNumber, &Instance)| InstanceDoc {
        node: state.node_name(*node),
        node_number: node.0,
        state: instance.state,
        since: instance.since.to_string(),
        token: instance.token,
        covered: instance.is_covered(),
        resources: resource_states(state.resources_of(name), instance),
    };
    group.instances.iter().map(doc).collect()
}

/// In the order of the configuration; what it does not know any more comes last.
fn resource_states(listed: &[ResourceDef], instance: &Instance) -> Vec<ResourceStateDoc> {
    let place =
        |name: &str| listed.iter().position(|resource| resource.name == name).unwrap_or(usize::MAX);
    let mut all: Vec<_> = instance.resources.iter().collect();
    all.sort_by_key(|(name, _)| place(name));
    all.into_iter()
        .map(|(name, status)| ResourceStateDoc {
            name: name.clone(),
            state: status.state,
            since: status.since.to_string(),
            detail: status.detail.clone(),
            tolerated: status.tolerated.as_ref().map(ToleratedDoc::new),
        })
        .collect()
}

fn resources(state: &ClusterState, name: &str, group: &Group) -> Vec<ResourceDoc> {
    let doc = |resource: &ResourceDef| ResourceDoc {
        name: resource.name.clone(),
        number: group.resource_numbers.get(&resource.name).copied().unwrap_or(0),
        kind: resource.kind.name().into(),
        what: what(state, &resource.kind),
        address: address(resource).map(|address| address.to_string()),
        control_group: resource.kind.control_group().map(str::to_owned),
    };
    state.resources_of(name).iter().map(doc).collect()
}

/// A resource in a few words.
fn what(state: &ClusterState, kind: &ResourceKind) -> String {
    match kind {
        ResourceKind::Address { address, prefix, network, .. } => {
            format!("{address}/{prefix} on {}", state.network_name(*network))
        }
        ResourceKind::FileSystem { device, mount_point, .. } => {
            format!("{device} at {mount_point}")
        }
        ResourceKind::VolumeGroup { name } => name.clone(),
        ResourceKind::Application { start, control_group: None, .. } => start.join(" "),
        ResourceKind::Application { start, control_group: Some(path), .. } => {
            format!("{} in {path}", start.join(" "))
        }
        ResourceKind::Systemd { unit } => unit.clone(),
        ResourceKind::Ocf { provider, agent, .. } => format!("ocf:{provider}:{agent}"),
    }
}

pub(super) fn address(resource: &ResourceDef) -> Option<IpAddr> {
    match resource.kind {
        ResourceKind::Address { address, .. } => Some(address),
        _ => None,
    }
}

impl LocationDoc {
    /// Where the group with that name or number is.
    pub fn find(view: &View, name_or_number: &str) -> Option<Self> {
        let state = &*view.state;
        let (name, group) = find(state, name_or_number)?;
        let serving: Vec<NodeNumber> = serving(state, group).collect();
        let addresses = state.resources_of(name).iter().filter_map(address);
        Some(Self {
            group: name.into(),
            state: group.state(),
            since: group.since.to_string(),
            node: serving.first().map(|node| state.node_name(*node)),
            node_number: serving.first().map(|node| node.0),
            nodes: serving.iter().map(|node| state.node_name(*node)).collect(),
            addresses: addresses.map(|address| address.to_string()).collect(),
            quorate: view.local.quorate,
            last_known: LastKnownGroupDoc::of(view, name, group),
        })
    }
}

/// Nodes where a group is in service; left running by a forced stop or in maintenance is in service too
/// (spec H21), unless the node is DOWN and did not say that it leaves.
pub(super) fn serving<'a>(
    state: &'a ClusterState,
    group: &'a Group,
) -> impl Iterator<Item = NodeNumber> + 'a {
    let serves = |state| matches!(state, GroupState::Online | GroupState::Unmanaged);
    let lost = |node: &Node| node.host == HostStatus::Down && !node.left;
    let down = move |node: NodeNumber| state.nodes.get(&node).is_some_and(lost);
    let serving =
        group.instances.iter().filter(move |(node, own)| serves(own.state) && !down(**node));
    serving.map(|(node, _)| *node)
}

impl Balance {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Standby => "standby",
            Self::Online => "online",
        }
    }

    /// Whether it holds for the group with that name or number; if not, why. `None` if there is no
    /// such group. A node without a quorum claims nothing.
    pub fn holds(self, view: &View, name_or_number: &str) -> Option<Result<(), String>> {
        let (name, group) = find(&view.state, name_or_number)?;
        let own = view.state.node_name(view.local.node);
        if !view.local.knows() {
            let why = match (view.local.quorate, view.local.stage) {
                (false, "running") if view.local.lease => "hears no director",
                (false, _) => "is not part of a quorum",
                (true, "running") => "is behind with its log",
                (true, _) => "is starting",
            };
            return Some(Err(format!("{own} {why}, so it claims nothing")));
        }
        let state = &*view.state;
        let here = serving(state, group).any(|node| node == view.local.node);
        let answer = match self {
            Self::Active if here => Ok(()),
            Self::Active => Err(elsewhere(view, name, group, &own)),
            Self::Standby => standby(view, name, group, &own),
            Self::Online if serving(state, group).next().is_some() => Ok(()),
            Self::Online => Err(format!("{name} is {} and in service nowhere", group.state())),
        };
        Some(answer)
    }
}

fn elsewhere(view: &View, name: &str, group: &Group, own: &str) -> String {
    match serving(&view.state, group).next() {
        Some(node) => {
            format!("{name} is in service on {} and not on {own}", view.state.node_name(node))
        }
        None => format!("{name} is {} and not in service on {own}", group.state()),
    }
}

/// Whether the answering node would take a group that it does not have.
fn standby(view: &View, name: &str, group: &Group, own: &str) -> Result<(), String> {
    let node = view.local.node;
    if group.instances.contains_key(&node) {
        return Err(format!("{own} has {name} itself"));
    }
    match hindrance(&view.state, name, group, node) {
        None => Ok(()),
        Some(why) => Err(why),
    }
}

/// The nodes that would take a group now and do not have it, best first; `None` where the answering
/// node does not know.
pub fn standbys(view: &View, name: &str, group: &Group) -> Option<Vec<NodeNumber>> {
    view.local.knows().then(|| standby_nodes(&view.state, name, group).collect())
}

/// The nodes of a state that would take a group now and do not have it, best first.
pub fn standby_nodes<'a>(
    state: &'a ClusterState,
    name: &'a str,
    group: &'a Group,
) -> impl Iterator<Item = NodeNumber> + 'a {
    let listed = state.definition.group(name).into_iter().flat_map(|def| &def.nodes).copied();
    listed.filter(move |node| {
        !group.instances.contains_key(node) && hindrance(state, name, group, *node).is_none()
    })
}

/// What keeps a node from taking a group, if anything does.
fn hindrance(state: &ClusterState, name: &str, group: &Group, node: NodeNumber) -> Option<String> {
    let own = state.node_name(node);
    let listed = state.definition.group(name).is_some_and(|def| def.nodes.contains(&node));
    let member = state.manager.members.get(&node);
    let takes_part = member.is_some_and(|member| {
        member.joined && !matches!(member.state, ManagerState::Done | ManagerState::Error)
    });
    let there = state.nodes.get(&node).is_some_and(|node| node.host == HostStatus::Up);
    if !listed {
        Some(format!("{name} may not run on {own}"))
    } else if !there || !takes_part {
        Some(format!("the manager of {own} takes no part in events"))
    } else if member.is_some_and(|member| member.maintenance) {
        Some(format!("{own} is in maintenance"))
    } else if let Some(why) = state.unreleased_on(name, node) {
        Some(format!("{own} {why}"))
    } else if group.avoid.contains(&node) {
        Some(format!("{own} is avoided by {name} because of failures there"))
    } else {
        None
    }
}
