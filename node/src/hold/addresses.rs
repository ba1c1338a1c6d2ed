//! Takes service addresses off this node, on whichever device they are.
//!
//! Looked for and not remembered: a device may have been renamed since, or the address moved to a
//! standby adapter. Removing the oldest IPv4 address of a subnet makes the kernel remove the younger
//! ones as well (unless `promote_secondaries` is set); those are put back.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;

use crate::netlink::{Address, Netlink};

/// Removes them. Answers a sentence for what is left.
pub(super) fn remove(addresses: &BTreeSet<IpAddr>) -> Vec<String> {
    match try_remove(addresses) {
        Ok(left) => left
            .into_iter()
            .map(|address| format!("the address {address} is still on this node"))
            .collect(),
        Err(error) => vec![format!("the service addresses cannot be removed: {error}")],
    }
}

fn try_remove(addresses: &BTreeSet<IpAddr>) -> io::Result<Vec<IpAddr>> {
    let mut kernel = Netlink::open()?;
    let before = kernel.addresses()?;
    let is_service = |at: &&Address| addresses.contains(&at.address);
    let mut first_error = None;
    for at in before.iter().filter(is_service) {
        if let Err(error) = kernel.remove_address(at.device, at.address, at.prefix) {
            first_error = first_error.or(Some(error));
        }
    }
    let after = kernel.addresses()?;
    let there = |at: &Address| after.iter().any(|now| same(now, at));
    for at in before.iter().filter(|at| !is_service(at) && !there(at)) {
        // It was not to be removed, so failing to put it back is nothing that is still held.
        if let Err(error) = kernel.add_address(at.device, at.address, at.prefix) {
            tracing::error!(address = %at.address, %error, "an address went with a service address");
        }
    }
    let left: Vec<IpAddr> = after.iter().filter(is_service).map(|at| at.address).collect();
    match first_error {
        Some(error) if !left.is_empty() => Err(error),
        _ => Ok(left),
    }
}

fn same(one: &Address, other: &Address) -> bool {
    (one.device, one.address, one.prefix) == (other.device, other.address, other.prefix)
}
