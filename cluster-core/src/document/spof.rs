//! Single points of failure (spec H47): what would take a service away by failing alone, each with
//! what removes it. They are no errors: a cluster of two nodes and one switch is a choice.

use std::collections::{BTreeMap, BTreeSet};

use crate::definition::Standby;
use crate::group::{GroupDef, Policy, ResourceDef, ResourceKind};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::InterfaceStatus;
use crate::state::{ClusterState, StandbyStatus};
use crate::takeover::Backing;

use super::{Document, Finding};

/// Those that remain with a document, as far as they can be seen without a machine.
pub fn single_points(document: &Document, state: &ClusterState) -> Vec<Finding> {
    let mut found = Vec::new();
    members(document, &mut found);
    networks(document, &mut found);
    groups(document, state, &mut found);
    adapters(document, state, &mut found);
    reapers(state, &mut found);
    watchdogs(state, &mut found);
    release(document, state, &mut found);
    processes(document, state, &mut found);
    found
}

fn members(document: &Document, found: &mut Vec<Finding>) {
    let members = document.addresses.len();
    let (what, advice) = match members {
        0 | 1 => ("there is only one node", "Admit a second and a third: vedette node add n2."),
        2 => (
            "with two voters the loss of either takes the majority away",
            "Admit a third node; it needs no resources: vedette node add n3.",
        ),
        _ => return,
    };
    found.push(Finding::warning("nodes", what, advice));
}

fn networks(document: &Document, found: &mut Vec<Finding>) {
    if document.networks.len() == 1 {
        let what = "there is only one network: a broken switch looks like the death of every node";
        let advice =
            "Add a second one over other hardware: [networks.NAME], with an address of every node.";
        found.push(Finding::warning("networks", what, advice));
    }
    let unprobed = document.networks.values().all(|network| network.ping.is_none());
    if document.addresses.len() == 2 && unprobed {
        let what =
            "two nodes that lose each other cannot tell whose adapter failed: nothing is probed";
        let advice = "Name a router on the network: ping = \"10.91.0.254\".";
        found.push(Finding::warning("networks", what, advice));
    }
}

fn groups(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    for group in &document.definition.groups {
        if let [only] = group.nodes[..] {
            let what = format!("{} can run on {} only", group.name, state.node_name(only));
            let advice = "Add a second node to its list.";
            found.push(Finding::warning(format!("groups.{}.nodes", group.name), what, advice));
        }
        for resource in &group.resources {
            if resource.monitor_interval_ms == 0 && group.policy != Policy::Concurrent {
                let what = format!("nobody looks whether {} works", resource.name);
                let key =
                    format!("groups.{}.resources.{}.monitor_interval", group.name, resource.name);
                found.push(Finding::warning(key, what, "Set monitor_interval, such as \"1s\"."));
            }
        }
    }
}

/// Networks that carry service addresses, and nodes with a single adapter there that works: a standby
/// adapter that failed takes nothing over.
fn adapters(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let resources = document.definition.groups.iter().flat_map(|group| &group.resources);
    let used: BTreeSet<NetworkNumber> = resources
        .filter_map(|resource| match resource.kind {
            ResourceKind::Address { network, .. } => Some(network),
            _ => None,
        })
        .collect();
    for network in used {
        let standby = |node: NodeNumber| {
            let mut all = document.definition.standbys.iter();
            all.find(|standby| (standby.node, standby.network) == (node, network))
        };
        let mut single = Vec::new();
        for node in document.addresses.keys() {
            match standby(*node) {
                None => single.push(state.node_name(*node)),
                Some(standby) => found.extend(no_help(document, state, standby)),
            }
        }
        if !single.is_empty() {
            let name = document.network_name(network);
            let what =
                format!("one adapter on {name} carries service addresses on {}", single.join(", "));
            let advice = "A bond removes that, or a standby adapter: [[standby]]. Without, its \
                failure moves the group.";
            found.push(Finding::warning(format!("networks.{name}"), what, advice));
        }
    }
}

/// A standby adapter that could not take over now. One that is new with the document was not looked at
/// yet, and counts as it is written.
fn no_help(document: &Document, state: &ClusterState, standby: &Standby) -> Option<Finding> {
    let is_it = |seen: &StandbyStatus<'_>| {
        (seen.node, seen.network, seen.address) == (standby.node, standby.network, standby.address)
    };
    let seen = state.standbys().find(is_it).filter(|seen| seen.status != InterfaceStatus::Up)?;
    let (name, node) = (document.network_name(standby.network), state.node_name(standby.node));
    let why = seen.fault.map_or_else(String::new, |fault| format!(" ({})", fault.cause));
    let what = format!(
        "one adapter on {name} carries service addresses on {node}: its standby adapter {} is {}{why}",
        standby.address, seen.status
    );
    let advice = "See to the standby adapter and its node: until it is UP, the failure of the \
        other adapter moves the group.";
    Some(Finding::warning(format!("networks.{name}"), what, advice))
}

/// Watchdogs that are configured and end nothing in time.
fn watchdogs(state: &ClusterState, found: &mut Vec<Finding>) {
    for (node, member) in &state.manager.members {
        let Some(why) = &member.watchdog else { continue };
        let what =
            format!("the watchdog of {} stands behind nothing: {why}", state.node_name(*node));
        let advice = "Make it able to, or take it out of that node's configuration ([guard] \
            watchdog): what is there only in name is no redundancy.";
        found.push(Finding::warning("watchdog", what, advice));
    }
}

/// Nodes of which nothing is certain once they are silent.
fn release(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let definition = &document.definition;
    if definition.groups.is_empty() || definition.manager.trust_guard {
        return;
    }
    let unbacked = state.manager.members.iter().filter(|(node, member)| {
        member.backing == Backing::None && !definition.fencing.contains_key(node)
    });
    let names: Vec<String> = unbacked.map(|(node, _)| state.node_name(*node)).collect();
    if !names.is_empty() {
        let what = format!(
            "nothing makes {} let go when silent: no kernel filter, no watchdog, no fencing",
            names.join(", ")
        );
        let advice = "Make nf_tables available there (modules nf_tables, nf_tables_inet and \
            nf_tables_arp, and CAP_NET_ADMIN), or configure [fencing.NODE]; else an operator has to \
            confirm each takeover.";
        found.push(Finding::warning("fencing", what, advice));
    }
}

/// Those of them that a lease does not end: a finding for each group that outlives one on some node.
pub fn outliving(document: &Document, state: &ClusterState) -> Vec<Finding> {
    let mut found = Vec::new();
    processes(document, state, &mut found);
    found
}

/// Resources that outlive a lease if processes of their node are stopped: the kernel covers addresses, and a reaper
/// other processes (finding F2); nobody but the agent unmounts.
fn processes(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let definition = &document.definition;
    let trusts = definition.manager.trust_guard;
    for group in &definition.groups {
        let mut left: BTreeMap<(bool, Vec<String>), Vec<String>> = BTreeMap::new();
        for node in group.nodes.iter().filter(|node| !definition.fencing.contains_key(node)) {
            for data in [true, false] {
                let resources = uncovered(group, *node, state, data);
                if !resources.is_empty() {
                    left.entry((data, resources)).or_default().push(state.node_name(*node));
                }
            }
        }
        for ((data, resources), nodes) in left {
            let (then, otherwise) = match (data, definition.manager.strict) {
                (true, _) if trusts => (
                    "another node writes to it beside",
                    "with [manager] trust_guard = false a takeover waits for an operator.",
                ),
                (true, _) => (
                    "a takeover waits for an operator",
                    "with [manager] trust_guard = true it does not, and two nodes may write to it.",
                ),
                (false, true) => (
                    "a takeover waits for an operator",
                    "with [manager] strict = false it does not.",
                ),
                (false, false) => (
                    "another node starts it beside",
                    "with [manager] strict = true no takeover happens without one of them.",
                ),
            };
            let nodes = nodes.join(" or ");
            let stopped = if data {
                format!("the agent of {nodes} stands still when the lease ends")
            } else {
                format!("guard and agent of {nodes} are stopped together")
            };
            let mut uncovered = group.resources.iter().filter(|it| resources.contains(&label(it)));
            let nothing = match !data && uncovered.all(|it| it.kind.release().is_some()) {
                true => "nobody knows whether a release program takes",
                false => "nothing takes",
            };
            let resources = resources.join(", ");
            let what = format!("if {stopped}, {nothing} {resources} away, and {then}");
            let advice = format!(
                "Give these nodes a watchdog ([guard] watchdog) or [fencing.NODE]; {otherwise}"
            );
            found.push(Finding::warning(format!("groups.{}", group.name), what, advice));
        }
    }
}

/// What of a group nothing takes away on a node whose processes are stopped, where the kernel alone stands behind its
/// release: what holds data, or else what runs.
fn uncovered(group: &GroupDef, node: NodeNumber, state: &ClusterState, data: bool) -> Vec<String> {
    let member = state.manager.members.get(&node);
    let Some(member) = member.filter(|member| member.backing == Backing::Kernel) else {
        return Vec::new();
    };
    let reaper = member.reaper.is_none();
    let left = group.resources.iter().filter(|it| !member.backing.covers(&it.kind, reaper));
    let left = left.filter(|it| it.kind.is_data() == data);
    left.map(label).collect()
}

/// A resource with its kind, as findings name it.
fn label(resource: &ResourceDef) -> String {
    format!("{} ({})", resource.name, resource.kind.name())
}

/// Nodes on which two processes that are stopped are enough for two owners.
fn reapers(state: &ClusterState, found: &mut Vec<Finding>) {
    for (node, member) in &state.manager.members {
        let Some(why) = &member.reaper else { continue };
        let what = format!("{} has no reaper: {why}", state.node_name(*node));
        let advice = "The log of its guard says more; the guard tries again by itself. Until it has one, processes \
            there end with the lease by guard or agent only.";
        found.push(Finding::warning("reaper", what, advice));
    }
}
