//! `vedetteNodeTable`: the members; the index is the node's number.

use vedette_core::model::{InterfaceStatus, Node};

use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 10, 1];

/// Columns that notifications carry.
pub(crate) const NODE_NAME: u32 = 2;
pub(crate) const HOST_STATUS: u32 = 3;
pub(crate) const AGENT_STATUS: u32 = 7;

pub(crate) struct Nodes;

impl Table for Nodes {
    type Row<'a> = &'a Node;
}

pub(crate) const COLUMNS: &[Column<Nodes>] = &[
    column(NODE_NAME, "vedetteNodeName", "SnmpAdminString", |_, n| Value::text(&n.name, NAME)),
    column(HOST_STATUS, "vedetteNodeHostStatus", "VedetteHostStatusCode", |_, n| {
        Value::code(n.host.code())
    }),
    column(4, "vedetteNodeHostSince", "DateAndTime", |_, n| Value::date(n.host_since)),
    column(5, "vedetteNodeHostLastChange", "TimeStamp", |f, n| f.base.stamp(n.host_since)),
    column(6, "vedetteNodeHostCause", "VedetteText", |f, n| {
        // The cause on record is why the others took it for what it was.
        let own = !f.knows() && f.view.local.node == n.number;
        Value::text(if own { "as the node sees itself" } else { &n.host_cause }, TEXT)
    }),
    column(AGENT_STATUS, "vedetteNodeAgentStatus", "VedetteAgentStatusCode", |_, n| {
        Value::code(n.agent.code())
    }),
    column(8, "vedetteNodeAgentSince", "DateAndTime", |_, n| Value::date(n.agent_since)),
    column(9, "vedetteNodeAgentLastChange", "TimeStamp", |f, n| f.base.stamp(n.agent_since)),
    column(10, "vedetteNodeRole", "VedetteRoleCode", |_, n| Value::code(n.role.code())),
    column(11, "vedetteNodeVersion", "SnmpAdminString", |_, n| Value::text(&n.version, NAME)),
    column(12, "vedetteNodeDirector", "TruthValue", |f, n| {
        Value::truth(f.knows() && f.view.state.director == Some(n.number))
    }),
    column(13, "vedetteNodeJeopardy", "TruthValue", |f, n| {
        f.known(|| Value::truth(f.view.state.in_jeopardy(n)))
    }),
    column(14, "vedetteNodeInterfaces", "Gauge32", |_, n| Value::gauge(n.interfaces.len())),
    column(15, "vedetteNodeInterfacesUp", "Gauge32", |f, n| {
        let up = |status| status == InterfaceStatus::Up;
        let up = n.interfaces.values().filter(|interface| up(interface.status));
        f.known(|| Value::gauge(up.count()))
    }),
    column(16, "vedetteNodeIncident", "VedetteLogIndex", |f, n| {
        f.known(|| Value::Counter64(n.incident.unwrap_or(0)))
    }),
    column(17, "vedetteNodeAddedAt", "DateAndTime", |_, n| Value::date(n.added_at)),
    column(18, "vedetteNodeClockOffset", "Integer32", |f, n| {
        let report = f.view.local.report.as_ref();
        let offset_us = report.and_then(|report| report.clock_offset_of(n.number));
        offset_us.map_or(Value::NoSuchInstance, Value::milliseconds)
    }),
    column(19, "vedetteNodeLogPosition", "VedetteLogIndex", |f, n| {
        let report = f.view.local.report.as_ref();
        let position = report.and_then(|report| report.position_of(n.number));
        position.map_or(Value::NoSuchInstance, Value::Counter64)
    }),
    column(20, "vedetteNodeLastKnownStatus", "VedetteHostStatusCode", |f, n| {
        let known = f.last_known().and_then(|known| known.nodes.get(&n.number));
        known.map_or(Value::NoSuchInstance, |node| Value::code(node.host.code()))
    }),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let nodes = facts.view.state.nodes.iter();
    let rows: Vec<(Vec<u32>, <Nodes as Table>::Row<'_>)> =
        nodes.map(|(number, node)| (vec![u32::from(number.0)], node)).collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
