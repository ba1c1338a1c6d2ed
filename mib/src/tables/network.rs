//! `vedetteNetworkTable`: the networks, with what `lssrc -ls topsvcs` told of each (spec H5).

use vedette_core::id::NetworkNumber;
use vedette_core::model::{GroupStatus, Network};

use super::NAME;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 11, 1];

/// Columns that notifications carry.
pub(crate) const NETWORK_NAME: u32 = 2;
pub(crate) const STATUS: u32 = 3;

pub(crate) struct Networks;

impl Table for Networks {
    type Row<'a> = (NetworkNumber, &'a Network);
}

pub(crate) const COLUMNS: &[Column<Networks>] = &[
    column(NETWORK_NAME, "vedetteNetworkName", "SnmpAdminString", |_, (_, n)| {
        Value::text(&n.name, NAME)
    }),
    column(STATUS, "vedetteNetworkStatus", "VedetteNetworkStatusCode", |_, (_, n)| {
        Value::code(n.status.code())
    }),
    column(4, "vedetteNetworkSince", "DateAndTime", |_, (_, n)| Value::date(n.since)),
    column(5, "vedetteNetworkLastChange", "TimeStamp", |f, (_, n)| f.base.stamp(n.since)),
    column(6, "vedetteNetworkPriority", "VedettePriorityCode", |_, (_, n)| {
        Value::code(n.priority.code())
    }),
    column(7, "vedetteNetworkBeatPort", "InetPortNumber", |_, (_, n)| {
        Value::Gauge32(u32::from(n.beat_port))
    }),
    column(8, "vedetteNetworkPeerPort", "InetPortNumber", |_, (_, n)| {
        Value::Gauge32(u32::from(n.peer_port))
    }),
    column(9, "vedetteNetworkNodesDefined", "Gauge32", |f, (number, _)| {
        let nodes = f.view.state.nodes.values();
        Value::gauge(nodes.filter(|node| node.interfaces.contains_key(number)).count())
    }),
    column(10, "vedetteNetworkNodesInGroup", "Gauge32", |f, (_, n)| {
        let port = f.view.state.ports.get(&n.name);
        f.known(|| Value::gauge(port.map_or(0, |port| port.members.len())))
    }),
    column(11, "vedetteNetworkGroupStatus", "VedetteGroupStatusCode", |f, (number, _)| {
        let status = f.view.state.group_status(*number);
        Value::code(if f.knows() { status } else { GroupStatus::Unknown }.code())
    }),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let networks = facts.view.state.networks.iter();
    let rows: Vec<(Vec<u32>, <Networks as Table>::Row<'_>)> =
        networks.map(|(number, network)| (vec![u32::from(number.0)], (*number, network))).collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
