//! The sections of a document but for groups: settings, networks, nodes, standby adapters, programs
//! around events, fencing, monitors, limits of the manager.

use std::collections::BTreeMap;
use std::net::IpAddr;

use toml::de::DeTable;

use crate::command::NewNetwork;
use crate::config::{NAME_ADVICE, is_name};
use crate::definition::{
    Definition, FenceDef, Hooks, ManagerOptions, MonitorDef, OnFailure, Standby,
};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{Priority, Settings, Severity, Timing};
use crate::state::ClusterState;

use super::reader::{Notes, Table, suggestion};
use super::{Addresses, Document, groups};

/// Longest time of a heartbeat timer, as in a node's own file.
const LONGEST_TIMER_MS: i64 = 600_000;

/// Names by which a text speaks of nodes and networks.
pub(super) struct Names<'a> {
    pub(super) state: &'a ClusterState,
    pub(super) networks: BTreeMap<NetworkNumber, NewNetwork>,
}

impl Names<'_> {
    /// The member of that name; anybody else is a finding.
    pub(super) fn node(&self, notes: &mut Notes<'_>, key: &str, name: &str) -> Option<NodeNumber> {
        if let Some(node) = self.state.node_named(name) {
            return Some(node.number);
        }
        let known: Vec<&str> = self.state.nodes.values().map(|node| node.name.as_str()).collect();
        let what = format!("there is no node {name:?} in this cluster");
        notes.error(key, what, suggestion(name, &known, "Its nodes"));
        None
    }

    /// The network of that name; any other is a finding.
    pub(super) fn network(
        &self,
        notes: &mut Notes<'_>,
        key: &str,
        name: &str,
    ) -> Option<NetworkNumber> {
        if let Some((number, _)) = self.networks.iter().find(|(_, network)| network.name == name) {
            return Some(*number);
        }
        let known: Vec<&str> =
            self.networks.values().map(|network| network.name.as_str()).collect();
        let what = format!("there is no network {name:?} in this cluster");
        notes.error(key, what, suggestion(name, &known, "Its networks"));
        None
    }
}

/// Reads the whole text; what is not TOML at all leaves everything as it is.
pub(super) fn read(text: &str, state: &ClusterState, notes: &mut Notes<'_>) -> Document {
    let mut document = Document::of(state);
    let (parsed, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let what = format!("this is not TOML: {}", error.message().replace('\n', ", "));
        let advice = "Correct the line; https://toml.io shows how TOML is written.";
        let mut finding = super::Finding::error("", what, advice);
        finding.line = error.span().map(|span| notes.line(span.start));
        notes.add(finding);
    }
    if !errors.is_empty() {
        return document;
    }
    let mut top = Table::new(parsed.get_ref(), String::new());
    if let Some(section) = top.table(notes, "cluster") {
        document.settings = cluster(section, state, &document.settings, notes);
    }
    let mut names = Names { state, networks: document.networks };
    networks(&mut top, &mut names, notes);
    document.addresses = nodes(&mut top, &names, document.addresses, notes);
    document.addresses.values_mut().for_each(|own| {
        own.retain(|network, _| names.networks.contains_key(network));
    });
    document.definition = definition(&mut top, &names, &document.addresses, notes);
    document.networks = names.networks;
    top.finish(notes);
    document
}

fn definition(
    top: &mut Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> Definition {
    Definition {
        manager: manager(top, notes),
        standbys: standbys(top, names, notes),
        groups: groups::groups(top, names, addresses, notes),
        hooks: hooks(top, notes),
        fencing: fencing(top, names, notes),
        monitors: monitors(top, notes),
    }
}

fn cluster(
    mut section: Table<'_, '_>,
    state: &ClusterState,
    present: &Settings,
    notes: &mut Notes<'_>,
) -> Settings {
    let levels: Vec<(&str, Severity)> =
        Severity::ALL.iter().map(|severity| (severity.name(), *severity)).collect();
    if let Some(name) = section.text(notes, "name")
        && name != state.name
    {
        let what = format!("this cluster is called {}, not {name}", state.name);
        notes.error("cluster.name", what, "Use the document of this cluster, or correct the name.");
    }
    let settings = Settings {
        logging_level: section
            .choice(notes, "logging_level", &levels)
            .unwrap_or(present.logging_level),
        seed_count: section.number(notes, "seed_count", 1..=999).unwrap_or(present.seed_count),
        voters: section.number(notes, "voters", 3..=5).unwrap_or(present.voters),
        alert_timeout_ms: section
            .duration(notes, "alert_timeout")
            .unwrap_or(present.alert_timeout_ms),
        timing: section
            .table(notes, "timing")
            .map_or(present.timing, |table| timing(table, present.timing, notes)),
    };
    section.finish(notes);
    settings
}

/// Names and meanings are those of `[timing]` in a node's own file.
fn timing(mut table: Table<'_, '_>, present: Timing, notes: &mut Notes<'_>) -> Timing {
    let base = table.choice(notes, "profile", Timing::PROFILES).unwrap_or(present);
    let mut number =
        |key, default| table.number(notes, key, 1..=LONGEST_TIMER_MS).unwrap_or(default);
    let timing = Timing {
        interval_ms: number("interval_ms", base.interval_ms),
        sensitivity: number("sensitivity", base.sensitivity),
        raft_heartbeat_ms: number("raft_heartbeat_ms", base.raft_heartbeat_ms),
        election_min_ms: number("election_min_ms", base.election_min_ms),
        election_max_ms: number("election_max_ms", base.election_max_ms),
        lease_ms: number("lease_ms", base.lease_ms),
        release_max_ms: number("release_max_ms", base.release_max_ms),
    };
    table.finish(notes);
    timing
}

/// Networks that are there change; new names are new networks, with the lowest free numbers.
fn networks(top: &mut Table<'_, '_>, names: &mut Names<'_>, notes: &mut Notes<'_>) {
    for (name, mut table) in top.named(notes, "networks") {
        let known = names.networks.iter().find(|(_, network)| network.name == name);
        let known = known.map(|(number, network)| (*number, network.clone()));
        let removed = table.flag(notes, "remove").unwrap_or(false);
        let free = || {
            (1..=NetworkNumber::MAX).map(NetworkNumber).find(|n| !names.networks.contains_key(n))
        };
        let number = known.as_ref().map(|(number, _)| *number).or_else(free);
        let network = network(&name, &mut table, known.map(|(_, network)| network), notes);
        let key = table.path.clone();
        table.finish(notes);
        match number {
            Some(number) if removed => drop(names.networks.remove(&number)),
            Some(number) => drop(names.networks.insert(number, network)),
            None => {
                let what = format!("there are {} networks already", names.networks.len());
                notes.error(&key, what, "A cluster has no more than that; leave one out.");
            }
        }
    }
}

fn network(
    name: &str,
    table: &mut Table<'_, '_>,
    present: Option<NewNetwork>,
    notes: &mut Notes<'_>,
) -> NewNetwork {
    if !is_name(name) || matches!(name, "a" | "h") {
        let what = format!("{name:?} cannot be a network's name");
        notes.error(&table.path, what, NAME_ADVICE);
    }
    let priorities: Vec<(&str, Priority)> =
        Priority::ALL.iter().map(|priority| (priority.name(), *priority)).collect();
    let present = present.unwrap_or_else(|| NewNetwork {
        name: name.into(),
        priority: Priority::High,
        beat_port: 7_770,
        peer_port: 7_771,
        ping: None,
    });
    let ports = 1..=65_535;
    NewNetwork {
        priority: table.choice(notes, "priority", &priorities).unwrap_or(present.priority),
        beat_port: table.number(notes, "beat_port", ports.clone()).unwrap_or(present.beat_port),
        peer_port: table.number(notes, "peer_port", ports).unwrap_or(present.peer_port),
        ping: match table.text(notes, "ping").as_deref() {
            None => present.ping,
            Some("none" | "") => None,
            Some(text) => address(notes, &table.key("ping"), text),
        },
        name: present.name,
    }
}

/// An IP address; anything else is a finding.
pub(super) fn address(notes: &mut Notes<'_>, key: &str, text: &str) -> Option<IpAddr> {
    let parsed = text.parse().ok();
    if parsed.is_none() {
        let what = format!("{text:?} is not an IP address");
        notes.error(key, what, "Write one such as \"10.91.0.50\" or \"fd00::50\".");
    }
    parsed
}

fn nodes(
    top: &mut Table<'_, '_>,
    names: &Names<'_>,
    mut addresses: Addresses,
    notes: &mut Notes<'_>,
) -> Addresses {
    for (name, mut table) in top.named(notes, "nodes") {
        let number: Option<u16> = table.number(notes, "number", 1..=999);
        let written = table.values(notes, "addresses");
        let (key, path) = (table.key("number"), table.path.clone());
        table.finish(notes);
        let Some(node) = names.state.node_named(&name) else {
            let what = format!("{name} is no member of this cluster");
            let advice = format!("Admit it first: vedette node add {name}; or leave it out.");
            notes.error(&path, what, advice);
            continue;
        };
        if number.is_some_and(|number| number != node.number.0) {
            let what = format!("{name} has the number {}", node.number);
            notes.error(&key, what, "A number never changes while a node is a member.");
        }
        let own = addresses.entry(node.number).or_default();
        for (network, text) in written {
            let key = format!("{path}.addresses.{network}");
            let number = names.network(notes, &key, &network);
            if let (Some(number), Some(ip)) = (number, address(notes, &key, &text)) {
                own.insert(number, ip);
            }
        }
    }
    addresses
}

fn standbys(top: &mut Table<'_, '_>, names: &Names<'_>, notes: &mut Notes<'_>) -> Vec<Standby> {
    let mut standbys = Vec::new();
    for mut table in top.listed(notes, "standby") {
        let node = table.need(notes, "node", "Say whose adapter it is: node = \"n1\".");
        let node = node.and_then(|name| names.node(notes, &table.key("node"), &name));
        let network = table.need(notes, "network", "Say which network it is on.");
        let network = network.and_then(|name| names.network(notes, &table.key("network"), &name));
        let own = table.need(notes, "address", "Write the adapter's own address.");
        let own = own.and_then(|text| address(notes, &table.key("address"), &text));
        table.finish(notes);
        if let (Some(node), Some(network), Some(address)) = (node, network, own) {
            standbys.push(Standby { node, network, address });
        }
    }
    standbys
}

fn hooks(top: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> BTreeMap<String, Hooks> {
    let mut hooks = BTreeMap::new();
    let ways = [OnFailure::Wait, OnFailure::Skip, OnFailure::Abort].map(|way| (way.name(), way));
    for (name, mut table) in top.named(notes, "events") {
        let read = Hooks {
            notify: table.command(notes, "notify").unwrap_or_default(),
            pre: table.command(notes, "pre").unwrap_or_default(),
            recovery: table.command(notes, "recovery").unwrap_or_default(),
            retries: table.number(notes, "retries", 0..=100).unwrap_or(0),
            post: table.command(notes, "post").unwrap_or_default(),
            on_failure: table.choice(notes, "on_failure", &ways).unwrap_or_default(),
            time_limit_ms: table.duration(notes, "time_limit"),
        };
        table.finish(notes);
        hooks.insert(name, read);
    }
    hooks
}

fn fencing(
    top: &mut Table<'_, '_>,
    names: &Names<'_>,
    notes: &mut Notes<'_>,
) -> BTreeMap<NodeNumber, FenceDef> {
    let mut fencing = BTreeMap::new();
    let actions = [("off", "off"), ("reboot", "reboot")];
    for (name, mut table) in top.named(notes, "fencing") {
        let node = names.node(notes, &table.path, &name);
        let agent = table.need(notes, "agent", "Name a fence agent, such as \"fence_ipmilan\".");
        let action = table.choice(notes, "action", &actions).unwrap_or("off");
        let timeout_ms = table.duration(notes, "timeout").unwrap_or(60_000);
        let options = table.values(notes, "options");
        table.finish(notes);
        if let (Some(node), Some(agent)) = (node, agent) {
            fencing.insert(node, FenceDef { agent, options, action: action.into(), timeout_ms });
        }
    }
    fencing
}

fn monitors(top: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Vec<MonitorDef> {
    let mut monitors = Vec::new();
    for (variable, mut table) in top.named(notes, "monitors") {
        let mut command = table.command(notes, "command");
        if crate::variable::known(&variable).is_some() && !table.has("command") {
            command = Some(Vec::new());
        }
        if command.is_none() && !table.has("command") {
            let advice = "Name the program that prints its values: command = [\"/path/prog\"].";
            notes.error(&table.key("command"), "the monitor has no command", advice);
        }
        let interval_ms = table.duration(notes, "interval").unwrap_or(10_000);
        let timeout_ms = table.duration(notes, "timeout").unwrap_or(5_000);
        table.finish(notes);
        if let Some(command) = command {
            monitors.push(MonitorDef { variable, command, interval_ms, timeout_ms });
        }
    }
    monitors
}

fn manager(top: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> ManagerOptions {
    let usual = ManagerOptions::default();
    let Some(mut table) = top.table(notes, "manager") else { return usual };
    let options = ManagerOptions {
        settle_ms: table.duration(notes, "settle"),
        command_timeout_ms: table
            .duration(notes, "command_timeout")
            .unwrap_or(usual.command_timeout_ms),
        too_long_ms: table.duration(notes, "too_long").unwrap_or(usual.too_long_ms),
        probe_interval_ms: table
            .duration(notes, "probe_interval")
            .unwrap_or(usual.probe_interval_ms),
        flap_failovers: table
            .number(notes, "flap_failovers", 0..=100)
            .unwrap_or(usual.flap_failovers),
        flap_window_ms: table.duration(notes, "flap_window").unwrap_or(usual.flap_window_ms),
        verbose: table.flag(notes, "verbose").unwrap_or(usual.verbose),
        trust_guard: table.flag(notes, "trust_guard").unwrap_or(usual.trust_guard),
        fence_always: table.flag(notes, "fence_always").unwrap_or(usual.fence_always),
        strict: table.flag(notes, "strict").unwrap_or(usual.strict),
    };
    table.finish(notes);
    options
}
