//! `vedetteResourceTable`: each resource of a group on each of its nodes, with its failures there
//! (spec H25, H28).

use vedette_core::group::{FailCount, GroupState, ResourceDef, ResourceState, ResourceStatus};
use vedette_core::id::NodeNumber;
use vedette_core::time::WallTime;

use super::group::{in_order, nodes_of};
use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 19, 1];

/// The column that notifications carry.
pub(crate) const RESOURCE_NAME: u32 = 2;

pub(crate) struct Resources;

/// A resource on a node.
pub(crate) struct OnNode<'a> {
    node: NodeNumber,
    group: &'a str,
    name: &'a str,
    def: Option<&'a ResourceDef>,
    /// What its group is there.
    instance: Option<GroupState>,
    status: Option<&'a ResourceStatus>,
    /// Whether it was seen to run there, where its group is not; none where nobody knows.
    extra: Option<bool>,
    fail: Option<&'a FailCount>,
}

impl OnNode<'_> {
    /// What is nowhere active is off; what is active and was not reported yet is not known. A node
    /// that does not know the cluster knows of its own resources what its group is.
    fn state(&self, facts: &Facts<'_>) -> ResourceState {
        if !facts.knows_of(self.node) {
            return ResourceState::Unknown;
        }
        match (self.status, self.instance) {
            (_, None) => match self.extra {
                Some(true) => ResourceState::Online,
                Some(false) => ResourceState::Offline,
                None => ResourceState::Unknown,
            },
            (_, Some(GroupState::Offline)) if !facts.knows() => ResourceState::Offline,
            (Some(status), Some(GroupState::Online)) => status.state,
            (Some(status), Some(_)) if facts.knows() => status.state,
            _ => ResourceState::Unknown,
        }
    }

    fn since(&self) -> WallTime {
        self.status.map_or_else(WallTime::default, |status| status.since)
    }
}

impl Table for Resources {
    type Row<'a> = OnNode<'a>;
}

pub(crate) const COLUMNS: &[Column<Resources>] = &[
    column(RESOURCE_NAME, "vedetteResourceName", "SnmpAdminString", |_, r| {
        Value::text(r.name, NAME)
    }),
    column(3, "vedetteResourceKind", "VedetteResourceKindCode", |_, r| {
        Value::code(r.def.map_or(1, |def| def.kind.code()))
    }),
    column(4, "vedetteResourceState", "VedetteResourceStateCode", |f, r| {
        Value::code(r.state(f).code())
    }),
    column(5, "vedetteResourceSince", "DateAndTime", |f, r| f.known(|| Value::date(r.since()))),
    column(6, "vedetteResourceLastChange", "TimeStamp", |f, r| f.known(|| f.base.stamp(r.since()))),
    column(7, "vedetteResourceDetail", "VedetteText", |f, r| {
        f.known(|| Value::text(r.status.map_or("", |status| &status.detail), TEXT))
    }),
    column(8, "vedetteResourceFailures", "Gauge32", |f, r| {
        f.known(|| Value::Gauge32(r.fail.map_or(0, |fail| fail.count)))
    }),
    column(9, "vedetteResourceLastFailure", "DateAndTime", |f, r| {
        f.known(|| Value::date(r.fail.map_or_else(WallTime::default, |fail| fail.last)))
    }),
    column(10, "vedetteResourceFailureCause", "VedetteText", |f, r| {
        f.known(|| Value::text(r.fail.map_or("", |fail| &fail.why), TEXT))
    }),
    column(11, "vedetteResourceRestartsLeft", "Gauge32", |f, r| {
        f.known(|| {
            let all = r.def.map_or(0, |def| def.restarts);
            Value::Gauge32(r.fail.map_or(all, |fail| f.view.state.restarts_left(r.group, fail)))
        })
    }),
    column(12, "vedetteResourceFailuresEnd", "DateAndTime", |f, r| {
        let end = r.fail.and_then(|fail| f.view.state.failures_end(r.group, fail));
        end.map_or(Value::NoSuchInstance, |end| f.known(|| Value::date(end)))
    }),
    column(13, "vedetteResourceTolerated", "Gauge32", |f, r| {
        let now = r.status.and_then(|status| status.tolerates());
        f.known(|| Value::Gauge32(now.map_or(0, |seen| seen.count)))
    }),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let mut rows: Vec<(Vec<u32>, OnNode<'_>)> = Vec::new();
    for (of, def, group) in in_order(facts.view) {
        let mut numbered: Vec<(u16, &str)> =
            group.resource_numbers.iter().map(|(name, number)| (*number, name.as_str())).collect();
        numbered.sort_unstable();
        let nodes = nodes_of(def, group);
        for (number, name) in numbered {
            let all = facts.view.state.resources_of(of);
            let resource = all.iter().find(|own| own.name == name);
            for node in &nodes {
                let instance = group.instances.get(node);
                let row = OnNode {
                    node: *node,
                    group: of,
                    name,
                    def: resource,
                    instance: instance.map(|instance| instance.state),
                    status: instance.and_then(|instance| instance.resources.get(name)),
                    extra: facts.view.state.runs_besides(group, name, *node),
                    fail: group
                        .fails
                        .iter()
                        .find(|fail| fail.node == *node && fail.resource == name),
                };
                rows.push((index(group.number, number, *node), row));
            }
        }
    }
    Block::build(facts, ENTRY, COLUMNS, &rows)
}

/// The index of a row: group, resource, node.
pub(crate) fn index(group: u16, resource: u16, node: NodeNumber) -> Vec<u32> {
    vec![u32::from(group), u32::from(resource), u32::from(node.0)]
}
