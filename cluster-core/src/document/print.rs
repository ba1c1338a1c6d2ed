//! The text of a document: complete, in one order, and read again as the same.
//!
//! Values that are the usual ones are left out where their absence says the same; settings, networks
//! and addresses are written whole, because their absence would say "as it is".

use std::collections::BTreeMap;
use std::fmt::Write;

use crate::definition::{Definition, Hooks, ManagerOptions, OnFailure};
use crate::group::{
    GroupDef, MultipleActive, OnConflict, Policy, Release, ResourceDef, ResourceKind,
};
use crate::model::Timing;
use crate::state::ClusterState;
use crate::variable;

use super::Document;
use super::reader::written;

/// The text of what is in force.
pub fn print(state: &ClusterState) -> String {
    print_document(&Document::of(state), state)
}

/// The text of a document; nodes are called as the state knows them.
pub fn print_document(document: &Document, state: &ClusterState) -> String {
    let mut out = Text(String::new());
    out.settings(document, state);
    out.networks(document);
    out.nodes(document, state);
    out.definition(document, state);
    out.0
}

/// A text in the making.
struct Text(String);

impl Text {
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.0.write_fmt(line);
        self.0.push('\n');
    }

    /// A table's heading, after an empty line.
    fn head(&mut self, path: &[&str]) {
        let path: Vec<String> = path.iter().map(|part| bare(part)).collect();
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.line(format_args!("[{}]", path.join(".")));
    }

    fn text(&mut self, key: &str, value: &str) {
        self.line(format_args!("{key} = {}", quoted(value)));
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Display) {
        self.line(format_args!("{key} = {value}"));
    }

    fn time(&mut self, key: &str, ms: u64) {
        self.text(key, &written(ms));
    }

    /// A program, if there is one.
    fn command(&mut self, key: &str, words: &[String]) {
        if !words.is_empty() {
            self.words(key, words.iter().map(String::as_str));
        }
    }

    fn words<'a>(&mut self, key: &str, words: impl Iterator<Item = &'a str>) {
        let words: Vec<String> = words.map(quoted).collect();
        self.value(key, format_args!("[{}]", words.join(", ")));
    }

    fn values(&mut self, path: &[&str], values: &BTreeMap<String, String>) {
        if values.is_empty() {
            return;
        }
        self.head(path);
        for (name, value) in values {
            self.text(&bare(name), value);
        }
    }

    fn settings(&mut self, document: &Document, state: &ClusterState) {
        let settings = &document.settings;
        self.head(&["cluster"]);
        self.text("name", &state.name);
        self.text("logging_level", settings.logging_level.name());
        self.value("seed_count", settings.seed_count);
        self.value("voters", settings.voters);
        self.time("alert_timeout", settings.alert_timeout_ms);
        self.head(&["cluster", "timing"]);
        self.timing(&settings.timing);
    }

    fn timing(&mut self, timing: &Timing) {
        if let Some(profile) = timing.profile() {
            return self.text("profile", profile);
        }
        self.value("interval_ms", timing.interval_ms);
        self.value("sensitivity", timing.sensitivity);
        self.value("raft_heartbeat_ms", timing.raft_heartbeat_ms);
        self.value("election_min_ms", timing.election_min_ms);
        self.value("election_max_ms", timing.election_max_ms);
        self.value("lease_ms", timing.lease_ms);
        self.value("release_max_ms", timing.release_max_ms);
    }

    fn networks(&mut self, document: &Document) {
        for network in document.networks.values() {
            self.head(&["networks", &network.name]);
            self.text("priority", network.priority.name());
            self.value("beat_port", network.beat_port);
            self.value("peer_port", network.peer_port);
            let ping = network.ping.map_or_else(|| "none".into(), |ip| ip.to_string());
            self.text("ping", &ping);
        }
    }

    fn nodes(&mut self, document: &Document, state: &ClusterState) {
        for (node, own) in &document.addresses {
            let name = state.node_name(*node);
            self.head(&["nodes", &name]);
            self.value("number", node);
            let addresses: Vec<String> = own
                .iter()
                .map(|(network, ip)| {
                    format!("{} = \"{ip}\"", bare(&document.network_name(*network)))
                })
                .collect();
            self.value("addresses", format_args!("{{ {} }}", addresses.join(", ")));
        }
    }

    fn definition(&mut self, document: &Document, state: &ClusterState) {
        let Definition { manager, groups, standbys, hooks, fencing, monitors } =
            &document.definition;
        self.manager(manager);
        for standby in standbys {
            self.0.push_str("\n[[standby]]\n");
            self.text("node", &state.node_name(standby.node));
            self.text("network", &document.network_name(standby.network));
            self.text("address", &standby.address.to_string());
        }
        for group in groups {
            self.group(group, document, state);
        }
        for (name, hooks) in hooks {
            self.hooks(name, hooks);
        }
        for (node, fence) in fencing {
            let name = state.node_name(*node);
            self.head(&["fencing", &name]);
            self.text("agent", &fence.agent);
            self.text("action", &fence.action);
            self.time("timeout", fence.timeout_ms);
            self.values(&["fencing", &name, "options"], &fence.options);
        }
        for monitor in monitors {
            self.head(&["monitors", &monitor.variable]);
            if !monitor.command.is_empty() || variable::known(&monitor.variable).is_none() {
                self.words("command", monitor.command.iter().map(String::as_str));
            }
            self.time("interval", monitor.interval_ms);
            self.time("timeout", monitor.timeout_ms);
        }
    }

    fn manager(&mut self, options: &ManagerOptions) {
        if *options == ManagerOptions::default() {
            return;
        }
        self.head(&["manager"]);
        if let Some(settle) = options.settle_ms {
            self.time("settle", settle);
        }
        self.time("command_timeout", options.command_timeout_ms);
        self.time("too_long", options.too_long_ms);
        self.time("probe_interval", options.probe_interval_ms);
        self.value("flap_failovers", options.flap_failovers);
        self.time("flap_window", options.flap_window_ms);
        self.value("verbose", options.verbose);
        self.value("trust_guard", options.trust_guard);
        self.value("fence_always", options.fence_always);
        self.value("strict", options.strict);
    }

    fn hooks(&mut self, name: &str, hooks: &Hooks) {
        self.head(&["events", name]);
        self.command("notify", &hooks.notify);
        self.command("pre", &hooks.pre);
        self.command("recovery", &hooks.recovery);
        self.value("retries", hooks.retries);
        self.command("post", &hooks.post);
        if hooks.on_failure != OnFailure::default() {
            self.text("on_failure", hooks.on_failure.name());
        }
        if let Some(limit) = hooks.time_limit_ms {
            self.time("time_limit", limit);
        }
    }

    fn group(&mut self, group: &GroupDef, document: &Document, state: &ClusterState) {
        self.head(&["groups", &group.name]);
        self.text("policy", group.policy.name());
        let nodes: Vec<String> = group.nodes.iter().map(|node| state.node_name(*node)).collect();
        self.words("nodes", nodes.iter().map(String::as_str));
        if group.policy == Policy::Cascading || group.fallback {
            self.value("fallback", group.fallback);
        }
        if group.fallback_delay_ms != 0 {
            self.time("fallback_delay", group.fallback_delay_ms);
        }
        if let Some(window) = group.fallback_window {
            self.text("fallback_window", &window.to_string());
        }
        // What an earlier release took for a concurrent group means nothing.
        let exclusive = group.policy != Policy::Concurrent;
        if exclusive && group.multiple_active != MultipleActive::StopExtra {
            self.text("multiple_active", group.multiple_active.name());
        }
        for resource in &group.resources {
            self.resource(group, resource, document);
        }
    }

    fn resource(&mut self, group: &GroupDef, resource: &ResourceDef, document: &Document) {
        let path = ["groups", &group.name, "resources", &resource.name];
        self.head(&path);
        self.text("kind", resource.kind.name());
        self.kind(&resource.kind, document);
        let usual = ResourceDef::new("", ResourceKind::VolumeGroup { name: String::new() });
        for (key, value, usual) in [
            ("monitor_interval", resource.monitor_interval_ms, usual.monitor_interval_ms),
            ("start_timeout", resource.start_timeout_ms, usual.start_timeout_ms),
            ("stop_timeout", resource.stop_timeout_ms, usual.stop_timeout_ms),
            ("monitor_timeout", resource.monitor_timeout_ms, usual.monitor_timeout_ms),
        ] {
            if value != usual {
                self.time(key, value);
            }
        }
        for (key, value, usual) in [
            ("fall", resource.fall, usual.fall),
            ("timeout_fall", resource.timeout_fall, usual.timeout_fall),
            ("rise", resource.rise, usual.rise),
            ("restarts", resource.restarts, usual.restarts),
        ] {
            if value != usual {
                self.value(key, value);
            }
        }
        if resource.failure_window_ms != usual.failure_window_ms {
            self.time("failure_window", resource.failure_window_ms);
        }
        if let ResourceKind::Ocf { parameters, .. } = &resource.kind {
            self.values(&[path[0], path[1], path[2], path[3], "parameters"], parameters);
        }
    }

    fn kind(&mut self, kind: &ResourceKind, document: &Document) {
        match kind {
            ResourceKind::Address { address, prefix, network, mode, on_conflict } => {
                self.text("address", &format!("{address}/{prefix}"));
                self.text("network", &document.network_name(*network));
                self.text("mode", mode.name());
                if *on_conflict != OnConflict::Fail {
                    self.text("on_conflict", on_conflict.name());
                }
            }
            ResourceKind::FileSystem { device, mount_point, fs_type, options, check } => {
                self.text("device", device);
                self.text("mount_point", mount_point);
                self.text("fs_type", fs_type);
                if !options.is_empty() {
                    self.text("options", options);
                }
                self.value("check", check);
            }
            ResourceKind::VolumeGroup { name } => self.text("volume_group", name),
            ResourceKind::Application { start, stop, monitor, user, control_group, release } => {
                self.command("start", start);
                self.command("stop", stop);
                self.command("monitor", monitor);
                if let Some(user) = user {
                    self.text("user", user);
                }
                if let Some(control_group) = control_group {
                    self.text("control_group", control_group);
                }
                self.release(release.as_ref());
            }
            ResourceKind::Systemd { unit } => self.text("unit", unit),
            ResourceKind::Ocf { provider, agent, release, .. } => {
                self.text("agent", &format!("ocf:{provider}:{agent}"));
                self.release(release.as_ref());
            }
        }
    }

    fn release(&mut self, release: Option<&Release>) {
        let Some(release) = release else { return };
        self.command("release", &release.program);
        if release.within_ms != Release::USUAL_MS {
            self.time("release_max", release.within_ms);
        }
    }
}

/// A key: as it is, or quoted where that is needed.
fn bare(key: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    if !key.is_empty() && key.chars().all(fits) { key.into() } else { quoted(key) }
}

/// A text in quotes, as TOML has it.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
