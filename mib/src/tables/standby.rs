//! `vedetteStandbyTable`: standby adapters, which take over from the adapter in use on their network.

use std::net::IpAddr;

use vedette_core::state::StandbyStatus;
use vedette_core::time::WallTime;

use super::TEXT;
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 27, 1];

pub(crate) struct Standbys;

impl Table for Standbys {
    type Row<'a> = StandbyStatus<'a>;
}

pub(crate) const COLUMNS: &[Column<Standbys>] = &[
    column(1, "vedetteStandbyAddressType", "InetAddressType", |_, s| {
        Value::Integer(if s.address.is_ipv4() { 1 } else { 2 })
    }),
    column(2, "vedetteStandbyAddress", "InetAddress", |_, s| {
        Value::Octets(match s.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })
    }),
    column(3, "vedetteStandbyStatus", "VedetteInterfaceStatusCode", |_, s| {
        Value::code(s.status.code())
    }),
    column(4, "vedetteStandbyDownSince", "DateAndTime", |_, s| {
        Value::date(s.fault.map_or_else(WallTime::default, |fault| fault.since))
    }),
    column(5, "vedetteStandbyCause", "VedetteText", |_, s| {
        Value::text(s.fault.map_or("", |fault| &fault.cause), TEXT)
    }),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let mut rows: Vec<(Vec<u32>, <Standbys as Table>::Row<'_>)> = Vec::new();
    for standby in facts.view.state.standbys() {
        rows.push((vec![u32::from(standby.node.0), u32::from(standby.network.0)], standby));
    }
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
