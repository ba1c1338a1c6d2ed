//! `vedetteGroupTable` and `vedetteGroupNodeTable`: resource groups, and each on its nodes
//! (spec H24). The index is the group's number, which is never given to another one.

use std::collections::BTreeSet;

use vedette_core::group::{Group, GroupDef, GroupState, Instance, Until};
use vedette_core::id::NodeNumber;
use vedette_core::time::WallTime;
use vedette_core::view::View;

use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 17, 1];
pub(crate) const ON_NODES: &[u32] = &[1, 18, 1];

/// Columns that notifications carry.
pub(crate) const GROUP_NAME: u32 = 2;
pub(crate) const STATE: u32 = 3;

/// The policy of a group that the configuration does not have any more.
const LEAVING: u32 = 4;

pub(crate) struct Groups;

/// Its name, what is configured, and how it does.
impl Table for Groups {
    type Row<'a> = (&'a str, Option<&'a GroupDef>, &'a Group);
}

pub(crate) const COLUMNS: &[Column<Groups>] = &[
    column(GROUP_NAME, "vedetteGroupName", "SnmpAdminString", |_, (name, ..)| {
        Value::text(name, NAME)
    }),
    column(STATE, "vedetteGroupState", "VedetteGroupStateCode", |_, (.., g)| {
        Value::code(g.state().code())
    }),
    column(4, "vedetteGroupSince", "DateAndTime", |_, (.., g)| Value::date(g.since)),
    column(5, "vedetteGroupLastChange", "TimeStamp", |f, (.., g)| f.base.stamp(g.since)),
    column(6, "vedetteGroupPolicy", "VedettePolicyCode", |_, (_, def, _)| {
        Value::code(def.map_or(LEAVING, |def| def.policy.code()))
    }),
    column(7, "vedetteGroupOwnerNumber", "VedetteNumberOrZero", |f, (.., g)| {
        owner(f, g, || number(g.owner()))
    }),
    column(8, "vedetteGroupOwnerName", "SnmpAdminString", |f, (.., g)| {
        let name = g.owner().map(|node| f.view.state.node_name(node));
        owner(f, g, || Value::text(&name.unwrap_or_default(), NAME))
    }),
    column(9, "vedetteGroupInstances", "Gauge32", |f, (.., g)| {
        f.known(|| Value::gauge(g.instances.len()))
    }),
    column(10, "vedetteGroupMaintenance", "TruthValue", |f, (.., g)| {
        f.known(|| Value::truth(g.maintenance))
    }),
    column(11, "vedetteGroupWantedOffline", "TruthValue", |f, (.., g)| {
        f.known(|| Value::truth(g.is_wanted_off()))
    }),
    column(12, "vedetteGroupBlocked", "TruthValue", |f, (.., g)| {
        f.known(|| Value::truth(g.blocked.is_some()))
    }),
    column(13, "vedetteGroupBlockedCause", "VedetteText", |f, (.., g)| {
        f.known(|| Value::text(g.blocked.as_ref().map_or("", |blocked| &blocked.why), TEXT))
    }),
    column(14, "vedetteGroupHeldFor", "VedetteNumberOrZero", |f, (.., g)| {
        f.known(|| number(g.held_for))
    }),
    column(15, "vedetteGroupPreferred", "VedetteNumberOrZero", |f, (.., g)| {
        f.known(|| number(g.preferred))
    }),
    column(16, "vedetteGroupLastNode", "VedetteNumberOrZero", |f, (.., g)| {
        f.known(|| number(g.last))
    }),
    column(17, "vedetteGroupFailovers", "Counter64", |f, (.., g)| {
        f.known(|| Value::Counter64(g.failovers))
    }),
    column(18, "vedetteGroupFailures", "Gauge32", |f, (.., g)| {
        f.known(|| Value::gauge(g.fails.iter().map(|fail| fail.count as usize).sum()))
    }),
    column(19, "vedetteGroupLastKnownState", "VedetteGroupStateCode", |f, (name, ..)| {
        last_known(f, name, |group| Value::code(group.state().code()))
    }),
    column(20, "vedetteGroupLastKnownNode", "VedetteNumberOrZero", |f, (name, ..)| {
        last_known(f, name, |group| number(group.owner()))
    }),
    column(21, "vedetteGroupExtraNodes", "Gauge32", |f, (.., g)| {
        let state = &f.view.state;
        let seen = || g.also.iter().filter(|(node, seen)| state.doubt(**node, seen).is_none());
        f.known(|| Value::gauge(seen().count()))
    }),
    column(22, "vedetteGroupPreferredUntil", "DateAndTime", |f, (.., g)| {
        match g.preferred.and(g.preferred_until) {
            Some(Until::At(at)) => f.known(|| Value::date(at)),
            Some(Until::Home) | None => Value::NoSuchInstance,
        }
    }),
    column(23, "vedetteGroupGoesBackTo", "VedetteNumberOrZero", |f, (.., g)| {
        f.known(|| number(g.goes_back.map(|planned| planned.to)))
    }),
    column(24, "vedetteGroupGoesBackAt", "DateAndTime", |f, (.., g)| {
        let at = g.goes_back.map(|planned| planned.at);
        at.map_or(Value::NoSuchInstance, |at| f.known(|| Value::date(at)))
    }),
    column(25, "vedetteGroupFlapping", "TruthValue", |f, (.., g)| {
        f.known(|| Value::truth(g.flapping.is_some()))
    }),
];

/// While the agent does not know, only an owner that is this node itself is named.
fn owner(facts: &Facts<'_>, group: &Group, value: impl FnOnce() -> Value) -> Value {
    if group.state() == GroupState::Unknown { facts.known(value) } else { value() }
}

/// What was known last of a group, while nothing is known of it now.
fn last_known(facts: &Facts<'_>, name: &str, value: impl FnOnce(&Group) -> Value) -> Value {
    let group = facts.last_known().and_then(|known| known.groups.get(name));
    group.map_or(Value::NoSuchInstance, value)
}

fn number(node: Option<NodeNumber>) -> Value {
    Value::Gauge32(node.map_or(0, |node| u32::from(node.0)))
}

/// Every group in the order of the numbers; the state has them in the order of the names.
pub(super) fn in_order(view: &View) -> Vec<<Groups as Table>::Row<'_>> {
    let state = &view.state;
    let mut all: Vec<<Groups as Table>::Row<'_>> = state
        .groups
        .iter()
        .map(|(name, group)| (name.as_str(), state.definition.group(name), group))
        .collect();
    all.sort_by_key(|(.., group)| group.number);
    all
}

/// The nodes of a group's list, and any other where something of it may be active or failed.
pub(super) fn nodes_of(def: Option<&GroupDef>, group: &Group) -> BTreeSet<NodeNumber> {
    let listed = def.into_iter().flat_map(|def| def.nodes.iter().copied());
    let failed = group.fails.iter().map(|fail| fail.node);
    listed.chain(group.instances.keys().copied()).chain(failed).collect()
}

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let rows: Vec<(Vec<u32>, <Groups as Table>::Row<'_>)> =
        in_order(facts.view).into_iter().map(|row| (vec![u32::from(row.2.number)], row)).collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}

pub(crate) struct OnNodes;

/// A group on a node.
pub(crate) struct OnNode<'a> {
    node: NodeNumber,
    def: Option<&'a GroupDef>,
    group: &'a Group,
    instance: Option<&'a Instance>,
}

impl Table for OnNodes {
    type Row<'a> = OnNode<'a>;
}

pub(crate) const NODE_COLUMNS: &[Column<OnNodes>] = &[
    column(1, "vedetteGroupNodeState", "VedetteGroupStateCode", |f, r| {
        let seen = r.group.also.get(&r.node);
        let doubtful = seen.is_some_and(|it| f.view.state.doubt(r.node, it).is_some());
        let knows = f.knows_of(r.node) && !doubtful;
        let nothing = if knows { GroupState::Offline } else { GroupState::Unknown };
        Value::code(r.instance.map_or(nothing, |instance| instance.state).code())
    }),
    column(2, "vedetteGroupNodeSince", "DateAndTime", |f, r| {
        f.known_of(r.node, || Value::date(since(r.instance)))
    }),
    column(3, "vedetteGroupNodeLastChange", "TimeStamp", |f, r| {
        f.known_of(r.node, || f.base.stamp(since(r.instance)))
    }),
    column(4, "vedetteGroupNodeToken", "VedetteLogIndex", |f, r| {
        f.known_of(r.node, || Value::Counter64(r.instance.map_or(0, |instance| instance.token)))
    }),
    column(5, "vedetteGroupNodePlace", "Gauge32", |_, r| {
        let list = r.def.map_or(&[][..], |def| &def.nodes);
        Value::gauge(list.iter().position(|node| *node == r.node).map_or(0, |place| place + 1))
    }),
    column(6, "vedetteGroupNodeAvoided", "TruthValue", |_, r| {
        Value::truth(r.group.avoid.contains(&r.node))
    }),
];

/// Where nothing is active, nobody notes since when.
fn since(instance: Option<&Instance>) -> WallTime {
    instance.map_or_else(WallTime::default, |instance| instance.since)
}

pub(crate) fn build_on_nodes(facts: &Facts<'_>) -> Block {
    let mut rows: Vec<(Vec<u32>, OnNode<'_>)> = Vec::new();
    for (_, def, group) in in_order(facts.view) {
        for node in nodes_of(def, group) {
            let index = vec![u32::from(group.number), u32::from(node.0)];
            rows.push((index, OnNode { node, def, group, instance: group.instances.get(&node) }));
        }
    }
    Block::build(facts, ON_NODES, NODE_COLUMNS, &rows)
}
