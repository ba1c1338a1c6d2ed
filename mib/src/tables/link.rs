//! `vedetteLinkTable`: the paths between nodes. Status is the cluster's; round trip and beats are
//! what the answering node measures itself, so they differ from node to node.

use std::collections::HashMap;

use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::{Link, Priority};
use vedette_core::observation::LinkView;
use vedette_core::record::Subject;

use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 13, 1];

/// Longest name: two nodes, a dash, a slash, a network.
const LONGEST_NAME: usize = 200;

/// A link, and what this node measures of it if it is an end.
pub(crate) struct Links;

impl Table for Links {
    type Row<'a> = (&'a Link, Option<&'a LinkView>);
}

pub(crate) const COLUMNS: &[Column<Links>] = &[
    column(3, "vedetteLinkName", "SnmpAdminString", |f, (l, _)| {
        let name = f.view.state.subject_name(&Subject::Link(l.low, l.high, l.network));
        Value::text(&name, LONGEST_NAME)
    }),
    column(4, "vedetteLinkStatus", "VedetteLinkStatusCode", |_, (l, _)| {
        Value::code(l.status.code())
    }),
    column(5, "vedetteLinkSince", "DateAndTime", |_, (l, _)| Value::date(l.since)),
    column(6, "vedetteLinkLastChange", "TimeStamp", |f, (l, _)| f.base.stamp(l.since)),
    column(7, "vedetteLinkPriority", "VedettePriorityCode", |f, (l, _)| {
        let network = f.view.state.networks.get(&l.network);
        Value::code(network.map_or(Priority::High, |network| network.priority).code())
    }),
    column(8, "vedetteLinkRoundTrip", "Gauge32", |_, (_, seen)| {
        Value::Gauge32(seen.and_then(|seen| seen.rtt_us).unwrap_or(0))
    }),
    column(9, "vedetteLinkBeatsReceived", "Counter64", |_, (_, seen)| {
        Value::Counter64(seen.map_or(0, |seen| seen.received))
    }),
    column(10, "vedetteLinkBeatsLost", "Counter64", |_, (_, seen)| {
        Value::Counter64(seen.map_or(0, |seen| seen.lost))
    }),
];

/// What this node sees, by peer and network.
fn seen_here<'a>(facts: &Facts<'a>) -> HashMap<(NodeNumber, NetworkNumber), &'a LinkView> {
    let views = facts.view.local.report.iter().flat_map(|report| &report.links);
    views.map(|view| ((view.peer, view.network), view)).collect()
}

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let here = facts.view.local.node;
    let seen = seen_here(facts);
    let peer = |link: &Link| match here {
        end if end == link.low => Some(link.high),
        end if end == link.high => Some(link.low),
        _ => None,
    };
    let row = |link| {
        let view = peer(link).and_then(|peer| seen.get(&(peer, link.network)).copied());
        let index = vec![u32::from(link.low.0), u32::from(link.high.0), u32::from(link.network.0)];
        (index, (link, view))
    };
    let rows: Vec<(Vec<u32>, <Links as Table>::Row<'_>)> =
        facts.view.state.links.iter().map(row).collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
