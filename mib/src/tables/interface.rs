//! `vedetteInterfaceTable`: the address of each node on each network.

use std::net::IpAddr;

use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::model::Interface;
use vedette_core::record::Subject;

use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const ENTRY: &[u32] = &[1, 12, 1];

/// Columns that notifications carry.
pub(crate) const INTERFACE_NAME: u32 = 1;
pub(crate) const STATUS: u32 = 4;

/// Longest name: node, slash, network.
pub(crate) const LONGEST_NAME: usize = 130;

pub(crate) struct Interfaces;

impl Table for Interfaces {
    type Row<'a> = (NodeNumber, NetworkNumber, &'a Interface);
}

pub(crate) const COLUMNS: &[Column<Interfaces>] = &[
    column(INTERFACE_NAME, "vedetteInterfaceName", "SnmpAdminString", |f, (node, network, _)| {
        let name = f.view.state.subject_name(&Subject::Interface(*node, *network));
        Value::text(&name, LONGEST_NAME)
    }),
    column(2, "vedetteInterfaceAddressType", "InetAddressType", |_, (_, _, i)| {
        Value::Integer(if i.address.is_ipv4() { 1 } else { 2 })
    }),
    column(3, "vedetteInterfaceAddress", "InetAddress", |_, (_, _, i)| {
        Value::Octets(match i.address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        })
    }),
    column(STATUS, "vedetteInterfaceStatus", "VedetteInterfaceStatusCode", |_, (_, _, i)| {
        Value::code(i.status.code())
    }),
    column(5, "vedetteInterfaceSince", "DateAndTime", |_, (_, _, i)| Value::date(i.since)),
    column(6, "vedetteInterfaceLastChange", "TimeStamp", |f, (_, _, i)| f.base.stamp(i.since)),
];

pub(crate) fn build(facts: &Facts<'_>) -> Block {
    let mut rows: Vec<(Vec<u32>, <Interfaces as Table>::Row<'_>)> = Vec::new();
    for node in facts.view.state.nodes.values() {
        for (network, interface) in &node.interfaces {
            let index = vec![u32::from(node.number.0), u32::from(network.0)];
            rows.push((index, (node.number, *network, interface)));
        }
    }
    Block::build(facts, ENTRY, COLUMNS, &rows)
}
