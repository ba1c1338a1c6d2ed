//! Whether a configuration document can take effect on this machine (spec H35).
//!
//! What the text alone can tell was checked before anybody was asked; here stand the questions that
//! only the machine can answer: are devices, programs and addresses where the document says they are?

use std::sync::Arc;
use std::time::Duration;

use vedette_core::definition::Definition;
use vedette_core::document::{self, Document, Finding};
use vedette_core::group::{ResourceDef, ResourceKind};
use vedette_core::id::NodeNumber;
use vedette_core::model::Timing;
use vedette_core::observation::Report;
use vedette_core::state::ClusterState;

use super::executor::ResourceOps;
use super::local_log::{limit, lost_on};
use super::peer_set;

/// What was found on this machine, a sentence each.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// What speaks against the document.
    pub(crate) findings: Vec<String>,
    /// What is worth knowing.
    pub(crate) warnings: Vec<String>,
}

impl Found {
    fn take(&mut self, finding: &Finding) {
        let list = if finding.error { &mut self.findings } else { &mut self.warnings };
        list.push(sentence(finding));
    }
}

/// What there is to be said of the pending document on this machine; nothing if none is pending.
pub(crate) async fn pending(
    ops: &ResourceOps,
    state: &Arc<ClusterState>,
    report: Option<&Report>,
) -> Found {
    let Some(pending) = &state.documents.pending else { return Found::default() };
    let (document, findings) = document::read(&pending.version.text, state);
    if findings.iter().any(|finding| finding.error) {
        // `apply` has refused such a document already, unless the state moved on since.
        let mut found = Found::default();
        findings.iter().filter(|finding| finding.error).for_each(|finding| found.take(finding));
        return found;
    }
    let mut found = machine(ops, &document.definition, state, pending.dry_run).await;
    found.findings.extend(addresses(&document, state, ops.me, pending.dry_run));
    found.warnings.extend(report.and_then(|report| far(&document.settings.timing, state, report)));
    found.warnings.extend(report.into_iter().flat_map(|report| narrow(state, report)));
    found
}

/// The peer to which round trips come nearest to what the document's timers allow for, or are longer (finding F4).
fn far(timing: &Timing, state: &ClusterState, report: &Report) -> Option<String> {
    let measured =
        state.nodes.keys().filter_map(|peer| Some((report.round_trip_of(*peer)?, *peer)));
    let (longest, peer) = measured.max()?;
    let longest = Duration::from_micros(longest.into());
    let (own, name) = (state.node_name(report.observer), state.node_name(peer));
    timing.is_near_its_end(longest, false).then(|| {
        format!(
            "cluster.timing: a round trip between {own} and {name} takes {:.0} ms, and {}. Take a profile for longer \
             ones, such as \"wide\".",
            longest.as_secs_f64() * 1e3,
            limit(timing),
        )
    })
}

/// Own addresses that are not on this machine. One that is in force already stands in nobody's way but that of
/// `verify`: whoever repairs something else must be able to do so while an adapter is away.
fn addresses(document: &Document, state: &ClusterState, me: NodeNumber, all: bool) -> Vec<String> {
    let name = state.node_name(me);
    let present = state.nodes.get(&me).map(|node| &node.interfaces);
    let own = document.addresses.get(&me).into_iter().flatten();
    let service = own.filter_map(|(network, address)| {
        let same = present.and_then(|it| it.get(network)).is_some_and(|it| it.address == *address);
        let title = document.networks.get(network)?.name.clone();
        Some((format!("nodes.{name}.addresses.{title}"), *address, !same))
    });
    let standbys = document.definition.standbys.iter().filter(|standby| standby.node == me);
    let standbys = standbys.map(|standby| {
        let new = !state.definition.standbys.contains(standby);
        ("standby.address".to_owned(), standby.address, new)
    });
    let asked = service.chain(standbys).filter(|(_, _, new)| all || *new);
    asked
        .filter(|(_, address, _)| !peer_set::is_here(*address))
        .map(|(key, address, _)| {
            format!(
                "{key}: {address} is not on this machine. Give it to an adapter (ip address add {address}/… dev …), \
                 or correct it."
            )
        })
        .collect()
}

/// Peers whose long frames do not arrive (finding F9).
fn narrow(state: &ClusterState, report: &Report) -> Vec<String> {
    let peers = state.nodes.keys().map(|peer| (*peer, report.widths(*peer).0));
    let narrow = peers.filter(|(_, networks)| !networks.is_empty());
    let own = state.node_name(report.observer);
    narrow
        .map(|(peer, networks)| {
            let name = state.node_name(peer);
            format!("networks: from {name} to {own}, {}.", lost_on(state, &networks))
        })
        .collect()
}

/// What there is to be said of a definition on this machine. A resource that is in force as it is stands in the
/// way of `verify` alone (`all`): what it lacks may be what is being repaired.
async fn machine(
    ops: &ResourceOps,
    definition: &Definition,
    state: &ClusterState,
    all: bool,
) -> Found {
    let (me, mut found) = (ops.me, Found::default());
    for group in definition.groups.iter().filter(|group| group.nodes.contains(&me)) {
        let present = state.definition.group(&group.name).filter(|it| it.nodes.contains(&me));
        for (place, resource) in group.resources.iter().enumerate() {
            let is_in_force = present.is_some_and(|present| present.resources.contains(resource));
            let makes = group.resources[..place].iter().any(makes_devices);
            for mut finding in ops.verify(&group.name, state, resource, makes).await {
                finding.error &= all || !is_in_force;
                found.take(&finding);
            }
        }
    }
    let findings = &mut found.findings;
    findings.extend(programs(definition));
    for (node, fencing) in definition.fencing.iter().filter(|(node, _)| **node != me) {
        let of_fencing = vedette_node::fence::verify(fencing, &state.node_name(*node));
        findings.extend(of_fencing.iter().filter(|finding| finding.error).map(sentence));
    }
    found
}

/// Whether a resource may bring devices that are not there before it is started: volumes, disks over a network.
fn makes_devices(resource: &ResourceDef) -> bool {
    !matches!(resource.kind, ResourceKind::Address { .. } | ResourceKind::FileSystem { .. })
}

/// Programs around events and of monitors that are not on this machine.
fn programs(definition: &Definition) -> Vec<String> {
    let hooks = definition.hooks.iter().flat_map(|(event, hooks)| {
        [&hooks.notify, &hooks.pre, &hooks.recovery, &hooks.post]
            .map(|argv| (format!("hook.{event}"), argv))
    });
    let monitors =
        definition.monitors.iter().map(|it| (format!("monitor.{}", it.variable), &it.command));
    hooks.chain(monitors).filter_map(|(key, argv)| missing(&key, argv)).collect()
}

fn missing(key: &str, argv: &[String]) -> Option<String> {
    let program = argv.first()?;
    let path = vedette_node::process::PATH;
    let there = if program.contains('/') {
        nix::unistd::access(program.as_str(), nix::unistd::AccessFlags::X_OK).is_ok()
    } else {
        vedette_node::process::find_in(path, program).is_some()
    };
    (!there).then(|| {
        format!("{key}: {program} is no executable program here. Install it, or correct the path.")
    })
}

fn sentence(finding: &Finding) -> String {
    let place = finding.line.map(|line| format!("line {line}, ")).unwrap_or_default();
    format!("{place}{}: {}. {}", finding.key, finding.what, finding.advice)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use vedette_core::definition::Hooks;

    use super::*;

    /// H35: what is not on the machine is named before it is needed.
    #[test]
    fn h35_programs_that_are_missing_are_named() {
        let hooks = Hooks {
            pre: vec!["/bin/sh".into()],
            post: vec!["sh".into(), "-c".into()],
            notify: vec!["/nowhere/notify".into()],
            ..Hooks::default()
        };
        let hooks = BTreeMap::from([("node_up".to_owned(), hooks)]);
        let findings = programs(&Definition { hooks, ..Definition::default() });
        assert_eq!(
            findings,
            [
                "hook.node_up: /nowhere/notify is no executable program here. Install it, or correct \
              the path."
            ]
        );
    }
}
