//! `vedettePortTable`: named memberships with their generation (spec V7, V8). The index is the
//! name, `IMPLIED`: without its length, so that the order of names is the order of rows.

use vedette_core::model::Port;

use super::NAME;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 14, 1];

/// A name for every node of a thousand, and a blank for every ten.
const LONGEST_MEMBERSHIP: usize = 1_200;

pub(crate) struct Ports;

impl Table for Ports {
    type Row<'a> = &'a Port;
}

pub(crate) const COLUMNS: &[Column<Ports>] = &[
    column(2, "vedettePortGroup", "SnmpAdminString", |_, p| Value::text(&p.group, 128)),
    column(3, "vedettePortGeneration", "VedetteLogIndex", |f, p| {
        f.known(|| Value::Counter64(p.generation))
    }),
    column(4, "vedettePortMembers", "VedetteMembershipText", |f, p| {
        f.known(|| Value::text(&p.membership_text(), LONGEST_MEMBERSHIP))
    }),
    column(5, "vedettePortMemberCount", "Gauge32", |f, p| {
        f.known(|| Value::gauge(p.members.len()))
    }),
];

/// A name that is too long to be an index is left out; configurations do not allow one.
pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let ports = facts.view.state.ports.iter();
    let rows: Vec<(Vec<u32>, <Ports as Table>::Row<'_>)> = ports
        .filter(|(name, _)| (1..=NAME).contains(&name.len()))
        .map(|(name, port)| (name.bytes().map(u32::from).collect(), port))
        .collect();
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
