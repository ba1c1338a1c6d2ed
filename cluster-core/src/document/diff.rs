//! What a change does, in sentences: what comes, goes and changes, and which groups are disturbed.

use std::collections::BTreeMap;
use std::fmt::Debug;

use crate::definition::MonitorDef;
use crate::group::{GroupDef, Policy, Release, ResourceDef, ResourceKind};
use crate::state::ClusterState;
use crate::time::DayWindow;

use super::{Document, duration_text};

/// What differs between two documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Difference {
    /// Changes of settings, a line each: `+` comes, `-` goes, `~` changes.
    pub settings: Vec<String>,
    /// Changes of networks and addresses, likewise.
    pub topology: Vec<String>,
    /// Changes of all the rest, likewise.
    pub resources: Vec<String>,
    /// Groups that stop for a moment or for good, with why.
    pub disturbed: BTreeMap<String, String>,
}

impl Difference {
    /// Whether nothing changes.
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.topology.is_empty() && self.resources.is_empty()
    }

    /// Every line, for people.
    pub fn lines(&self) -> Vec<String> {
        let all = self.settings.iter().chain(&self.topology).chain(&self.resources).cloned();
        let disturbed = self.disturbed.iter().map(|(group, why)| format!("! {group}: {why}"));
        all.chain(disturbed).collect()
    }
}

/// What has to be done to get from `old` to `new`. The state says which groups run where, and what
/// nodes are called.
pub fn diff(old: &Document, new: &Document, state: &ClusterState) -> Difference {
    let (mut changed, mut topology) = (Vec::new(), Vec::new());
    settings(old, new, &mut changed);
    networks(old, new, &mut topology);
    addresses(old, new, state, &mut topology);
    let mut resources = Vec::new();
    groups(old, new, state, &mut resources);
    rest(old, new, state, &mut resources);
    Difference { settings: changed, topology, resources, disturbed: disturbed(old, new, state) }
}

/// A line if two values differ.
fn changed<T: PartialEq>(
    lines: &mut Vec<String>,
    what: &str,
    old: &T,
    new: &T,
    shown: impl Fn(&T) -> String,
) {
    if old != new {
        lines.push(format!("~ {what}: {} -> {}", shown(old), shown(new)));
    }
}

/// Lines for what is in one map only, and for what differs.
fn maps<K: Ord, T: PartialEq>(
    lines: &mut Vec<String>,
    old: &BTreeMap<K, T>,
    new: &BTreeMap<K, T>,
    what: impl Fn(&K) -> String,
    shown: impl Fn(&T) -> String,
) {
    for (key, value) in old {
        match new.get(key) {
            None => lines.push(format!("- {}", what(key))),
            Some(other) => changed(lines, &what(key), value, other, &shown),
        }
    }
    for (key, value) in new.iter().filter(|(key, _)| !old.contains_key(key)) {
        lines.push(format!("+ {}: {}", what(key), shown(value)));
    }
}

fn settings(old: &Document, new: &Document, lines: &mut Vec<String>) {
    let (from, to) = (&old.settings, &new.settings);
    changed(lines, "logging_level", &from.logging_level, &to.logging_level, ToString::to_string);
    changed(lines, "seed_count", &from.seed_count, &to.seed_count, ToString::to_string);
    changed(lines, "voters", &from.voters, &to.voters, ToString::to_string);
    let ms = |ms: &u64| format!("{ms} ms");
    changed(lines, "alert_timeout", &from.alert_timeout_ms, &to.alert_timeout_ms, ms);
    let (from, to) = (&from.timing, &to.timing);
    for (name, from, to) in [
        ("interval", from.interval_ms, to.interval_ms),
        ("log heartbeat", from.raft_heartbeat_ms, to.raft_heartbeat_ms),
        ("least election timeout", from.election_min_ms, to.election_min_ms),
        ("greatest election timeout", from.election_max_ms, to.election_max_ms),
        ("lease", from.lease_ms, to.lease_ms),
        ("release", from.release_max_ms, to.release_max_ms),
    ] {
        changed(lines, &format!("timing: {name}"), &from, &to, ms);
    }
    changed(lines, "timing: sensitivity", &from.sensitivity, &to.sensitivity, ToString::to_string);
}

fn networks(old: &Document, new: &Document, lines: &mut Vec<String>) {
    let ping = |ping: &Option<std::net::IpAddr>| ping.map_or("none".into(), |ip| ip.to_string());
    for (number, from) in &old.networks {
        let what = format!("network {}", from.name);
        let Some(to) = new.networks.get(number) else {
            lines.push(format!("- {what}"));
            continue;
        };
        changed(lines, &format!("{what}: name"), &from.name, &to.name, Clone::clone);
        changed(
            lines,
            &format!("{what}: priority"),
            &from.priority,
            &to.priority,
            ToString::to_string,
        );
        changed(lines, &format!("{what}: ping"), &from.ping, &to.ping, ping);
        changed(
            lines,
            &format!("{what}: beat_port"),
            &from.beat_port,
            &to.beat_port,
            ToString::to_string,
        );
        changed(
            lines,
            &format!("{what}: peer_port"),
            &from.peer_port,
            &to.peer_port,
            ToString::to_string,
        );
    }
    for (_, network) in new.networks.iter().filter(|(number, _)| !old.networks.contains_key(number))
    {
        lines.push(format!("+ network {}: {} priority", network.name, network.priority));
    }
}

fn addresses(old: &Document, new: &Document, state: &ClusterState, lines: &mut Vec<String>) {
    for (node, own) in &new.addresses {
        let name = state.node_name(*node);
        let before = old.addresses.get(node).cloned().unwrap_or_default();
        // What goes with its network is said there.
        let kept =
            before.into_iter().filter(|(network, _)| new.networks.contains_key(network)).collect();
        let what = |network: &_| format!("{name}: address on {}", new.network_name(*network));
        maps(lines, &kept, own, what, ToString::to_string);
    }
}

fn groups(old: &Document, new: &Document, state: &ClusterState, lines: &mut Vec<String>) {
    for from in &old.definition.groups {
        match new.definition.group(&from.name) {
            None => lines.push(format!("- group {}", from.name)),
            Some(to) => group(from, to, (old, new), state, lines),
        }
    }
    for to in &new.definition.groups {
        if old.definition.group(&to.name).is_none() {
            let names: Vec<&str> =
                to.resources.iter().map(|resource| resource.name.as_str()).collect();
            lines.push(format!(
                "+ group {}: {} on {}, with {}",
                to.name,
                to.policy,
                nodes(to, state),
                if names.is_empty() { "no resources".into() } else { names.join(", ") }
            ));
        }
    }
    let order = |document: &Document, other: &Document| -> Vec<String> {
        let groups = document.definition.groups.iter().map(|group| group.name.clone());
        groups.filter(|name| other.definition.group(name).is_some()).collect()
    };
    changed(lines, "order of groups", &order(old, new), &order(new, old), |names| names.join(", "));
}

fn nodes(group: &GroupDef, state: &ClusterState) -> String {
    let names: Vec<String> = group.nodes.iter().map(|node| state.node_name(*node)).collect();
    names.join(", ")
}

fn group(
    from: &GroupDef,
    to: &GroupDef,
    (old, new): (&Document, &Document),
    state: &ClusterState,
    lines: &mut Vec<String>,
) {
    let what = format!("group {}", to.name);
    changed(lines, &format!("{what}: policy"), &from.policy, &to.policy, ToString::to_string);
    changed(lines, &format!("{what}: nodes"), &nodes(from, state), &nodes(to, state), Clone::clone);
    changed(lines, &format!("{what}: fallback"), &from.fallback, &to.fallback, ToString::to_string);
    let (before, after) = (&from.fallback_delay_ms, &to.fallback_delay_ms);
    let ms = |ms: &u64| super::reader::written(*ms);
    changed(lines, &format!("{what}: fallback_delay"), before, after, ms);
    let (before, after) = (&from.fallback_window, &to.fallback_window);
    let window = |it: &Option<DayWindow>| it.map_or("any time".into(), |it| it.to_string());
    changed(lines, &format!("{what}: fallback_window"), before, after, window);
    let (before, after) = (&from.multiple_active, &to.multiple_active);
    changed(lines, &format!("{what}: multiple_active"), before, after, ToString::to_string);
    for resource in &from.resources {
        let Some(other) = find(to, &resource.name) else {
            lines.push(format!("- {what}: resource {}", resource.name));
            continue;
        };
        let (before, after) = (facts(resource, old), facts(other, new));
        maps(
            lines,
            &before,
            &after,
            |key| format!("{what}: {}: {key}", resource.name),
            Clone::clone,
        );
    }
    for resource in to.resources.iter().filter(|resource| find(from, &resource.name).is_none()) {
        lines.push(format!("+ {what}: resource {}: {}", resource.name, summary(resource)));
    }
    let order = |group: &GroupDef, other: &GroupDef| -> Vec<String> {
        let names = group.resources.iter().map(|resource| resource.name.clone());
        names.filter(|name| find(other, name).is_some()).collect()
    };
    changed(lines, &format!("{what}: order"), &order(from, to), &order(to, from), |names| {
        names.join(", ")
    });
}

fn find<'a>(group: &'a GroupDef, name: &str) -> Option<&'a ResourceDef> {
    group.resources.iter().find(|resource| resource.name == name)
}

/// What a resource is, in a few words.
fn summary(resource: &ResourceDef) -> String {
    match &resource.kind {
        ResourceKind::Address { address, prefix, .. } => format!("address {address}/{prefix}"),
        ResourceKind::FileSystem { device, mount_point, .. } => {
            format!("file system {device} on {mount_point}")
        }
        ResourceKind::VolumeGroup { name } => format!("volume group {name}"),
        ResourceKind::Application { start, .. } => format!("application {}", start.join(" ")),
        ResourceKind::Systemd { unit } => format!("unit {unit}"),
        ResourceKind::Ocf { provider, agent, .. } => format!("ocf:{provider}:{agent}"),
    }
}

/// Everything of a resource, by name.
fn facts(resource: &ResourceDef, document: &Document) -> BTreeMap<String, String> {
    let mut facts = kind_facts(&resource.kind, document);
    facts.push(("kind", resource.kind.name().into()));
    for (name, ms) in [
        ("monitor_interval", resource.monitor_interval_ms),
        ("start_timeout", resource.start_timeout_ms),
        ("stop_timeout", resource.stop_timeout_ms),
        ("monitor_timeout", resource.monitor_timeout_ms),
        ("failure_window", resource.failure_window_ms),
    ] {
        facts.push((name, super::reader::written(ms)));
    }
    for (name, count) in [
        ("fall", resource.fall),
        ("timeout_fall", resource.timeout_fall),
        ("rise", resource.rise),
        ("restarts", resource.restarts),
    ] {
        facts.push((name, count.to_string()));
    }
    let mut facts: BTreeMap<String, String> =
        facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    if let ResourceKind::Ocf { parameters, .. } = &resource.kind {
        facts.extend(
            parameters.iter().map(|(name, value)| (format!("parameter {name}"), value.clone())),
        );
    }
    facts
}

fn kind_facts(kind: &ResourceKind, document: &Document) -> Vec<(&'static str, String)> {
    match kind {
        ResourceKind::Address { address, prefix, network, mode, on_conflict } => vec![
            ("address", format!("{address}/{prefix}")),
            ("network", document.network_name(*network)),
            ("mode", mode.to_string()),
            ("on_conflict", on_conflict.to_string()),
        ],
        ResourceKind::FileSystem { device, mount_point, fs_type, options, check } => vec![
            ("device", device.clone()),
            ("mount_point", mount_point.clone()),
            ("fs_type", fs_type.clone()),
            ("options", if options.is_empty() { "none".into() } else { options.clone() }),
            ("check", check.to_string()),
        ],
        ResourceKind::VolumeGroup { name } => vec![("volume_group", name.clone())],
        ResourceKind::Application { start, stop, monitor, user, control_group, release } => {
            let own = [
                ("start", start.join(" ")),
                ("stop", stop.join(" ")),
                (
                    "monitor",
                    if monitor.is_empty() { "its processes".into() } else { monitor.join(" ") },
                ),
                ("user", user.clone().unwrap_or_else(|| "root".into())),
                ("control_group", control_group.clone().unwrap_or_else(|| "none".into())),
            ];
            own.into_iter().chain(released(release.as_ref())).collect()
        }
        ResourceKind::Systemd { unit } => vec![("unit", unit.clone())],
        ResourceKind::Ocf { provider, agent, release, .. } => {
            let own = ("agent", format!("ocf:{provider}:{agent}"));
            [own].into_iter().chain(released(release.as_ref())).collect()
        }
    }
}

fn released(release: Option<&Release>) -> [(&'static str, String); 2] {
    let program = release.map_or_else(|| "none".into(), |it| it.program.join(" "));
    let within = release.map_or(Release::USUAL_MS, |it| it.within_ms);
    [("release", program), ("release_max", super::reader::written(within))]
}

/// Standby adapters, programs around events, fencing, monitors, limits.
fn rest(old: &Document, new: &Document, state: &ClusterState, lines: &mut Vec<String>) {
    let (from, to) = (&old.definition, &new.definition);
    let standbys = |document: &Document| -> BTreeMap<String, ()> {
        let named = document.definition.standbys.iter().map(|standby| {
            let network = document.network_name(standby.network);
            format!("{} of {} on {network}", standby.address, state.node_name(standby.node))
        });
        named.map(|name| (name, ())).collect()
    };
    let (before, after) = (standbys(old), standbys(new));
    lines.extend(
        before
            .keys()
            .filter(|key| !after.contains_key(*key))
            .map(|key| format!("- standby adapter {key}")),
    );
    lines.extend(
        after
            .keys()
            .filter(|key| !before.contains_key(*key))
            .map(|key| format!("+ standby adapter {key}")),
    );
    maps(
        lines,
        &from.hooks,
        &to.hooks,
        |name| format!("programs around {name}"),
        |hooks| {
            let parts = [
                ("notify", &hooks.notify),
                ("pre", &hooks.pre),
                ("recovery", &hooks.recovery),
                ("post", &hooks.post),
            ];
            let parts = parts.iter().filter(|(_, command)| !command.is_empty());
            let parts: Vec<String> =
                parts.map(|(name, words)| format!("{name} {}", words.join(" "))).collect();
            let limit = hooks.time_limit_ms.map(duration_text);
            let limit = limit.map(|limit| format!(", within {limit}")).unwrap_or_default();
            format!(
                "{} ({} retries, then {}{limit})",
                if parts.is_empty() { "none".into() } else { parts.join(", ") },
                hooks.retries,
                hooks.on_failure.name()
            )
        },
    );
    // Options may hold passwords; that they differ is enough.
    maps(
        lines,
        &from.fencing,
        &to.fencing,
        |node| format!("fencing of {}", state.node_name(*node)),
        |fence| format!("{} ({}, {} options)", fence.agent, fence.action, fence.options.len()),
    );
    let monitors = |document: &Document| -> BTreeMap<String, String> {
        let all = document.definition.monitors.iter();
        all.map(|monitor| {
            let every = super::reader::written(monitor.interval_ms);
            let most = super::reader::written(monitor.timeout_ms);
            (
                monitor.variable.clone(),
                format!("{} every {every}, at most {most}", program_of(monitor)),
            )
        })
        .collect()
    };
    maps(lines, &monitors(old), &monitors(new), |name| format!("monitor {name}"), Clone::clone);
    options(old, new, lines);
}

/// What runs for a monitor.
fn program_of(monitor: &MonitorDef) -> String {
    match monitor.command.as_slice() {
        [] => "built in".into(),
        words => words.join(" "),
    }
}

fn options(old: &Document, new: &Document, lines: &mut Vec<String>) {
    let (from, to) = (&old.definition.manager, &new.definition.manager);
    let ms = |ms: &u64| super::reader::written(*ms);
    let settle =
        |ms: &Option<u64>| ms.map_or("a quarter of the interval".into(), super::reader::written);
    let shown = |flag: &bool| flag.to_string();
    changed(lines, "manager: settle", &from.settle_ms, &to.settle_ms, settle);
    changed(
        lines,
        "manager: command_timeout",
        &from.command_timeout_ms,
        &to.command_timeout_ms,
        ms,
    );
    changed(lines, "manager: too_long", &from.too_long_ms, &to.too_long_ms, ms);
    let (before, after) = (&from.probe_interval_ms, &to.probe_interval_ms);
    changed(lines, "manager: probe_interval", before, after, ms);
    let (before, after) = (&from.flap_failovers, &to.flap_failovers);
    changed(lines, "manager: flap_failovers", before, after, ToString::to_string);
    changed(lines, "manager: flap_window", &from.flap_window_ms, &to.flap_window_ms, ms);
    changed(lines, "manager: verbose", &from.verbose, &to.verbose, shown);
    changed(lines, "manager: trust_guard", &from.trust_guard, &to.trust_guard, shown);
    changed(lines, "manager: fence_always", &from.fence_always, &to.fence_always, shown);
    changed(lines, "manager: strict", &from.strict, &to.strict, shown);
}

/// Groups that run and will not go on just as they are.
fn disturbed(old: &Document, new: &Document, state: &ClusterState) -> BTreeMap<String, String> {
    let mut disturbed = BTreeMap::new();
    for from in &old.definition.groups {
        let Some(group) = state.groups.get(&from.name).filter(|group| !group.instances.is_empty())
        else {
            continue;
        };
        let places: Vec<String> =
            group.instances.keys().map(|node| state.node_name(*node)).collect();
        let places = places.join(", ");
        let why = match new.definition.group(&from.name) {
            None => format!("is released on {places} and gone"),
            Some(to) if group.instances.keys().any(|node| !to.nodes.contains(node)) => {
                format!("leaves {places}, which is no longer in its list")
            }
            Some(to) if continues(from, to) => continue,
            Some(_) => format!("is released and acquired again on {places}"),
        };
        disturbed.insert(from.name.clone(), why);
    }
    disturbed
}

/// Whether what is active by one definition is right for another as well: how it is watched and how
/// long it may take is no reason to stop it, as `apply` sees it, too.
pub(super) fn continues(from: &GroupDef, to: &GroupDef) -> bool {
    let substance = |def: &GroupDef| -> Vec<(String, ResourceKind)> {
        let all = def.resources.iter();
        all.map(|resource| (resource.name.clone(), resource.kind.clone())).collect()
    };
    let concurrent = |def: &GroupDef| def.policy == Policy::Concurrent;
    concurrent(from) == concurrent(to) && substance(from) == substance(to)
}
