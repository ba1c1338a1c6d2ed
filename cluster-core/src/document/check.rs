//! What can be said against a document without a machine: everything that contradicts itself, the
//! members, or what runs at this moment.
//!
//! Checks know a [`Document`] and the state, and no text; findings carry keys, and whoever has the
//! text adds lines. So the same checks examine what is in force (`vedette verify`).

mod addresses;
mod control_groups;
mod resources;
mod running;
mod units;

use std::collections::{BTreeMap, BTreeSet};

use crate::config::{NAME_ADVICE, is_name};
use crate::definition::OnFailure;
use crate::group::{GroupDef, Policy, ResourceDef};
use crate::state::ClusterState;
use crate::variable;

use super::reader::{suggestion, written};
use super::{Document, Finding};

/// Names of the events that need no rule of a site.
const EVENTS: [&str; 10] = [
    "node_up",
    "node_down",
    "network_up",
    "network_down",
    "swap_adapter",
    "join_standby",
    "fail_standby",
    "reconfig_topology",
    "reconfig_resource",
    "group_move",
];

/// The key of a resource.
fn key(group: &GroupDef, resource: &ResourceDef, last: &str) -> String {
    format!("groups.{}.resources.{}.{last}", group.name, resource.name)
}

/// Everything that speaks against a document, or is worth knowing.
pub(super) fn check(document: &Document, state: &ClusterState) -> Vec<Finding> {
    let mut found = Vec::new();
    settings(document, &mut found);
    addresses::topology(document, state, &mut found);
    for group in &document.definition.groups {
        check_group(group, &mut found);
        check_fallback(group, &mut found);
    }
    names_once(document, &mut found);
    resources::check(document, &mut found);
    addresses::service(document, state, &mut found);
    events(document, &mut found);
    fencing(document, state, &mut found);
    monitors(document, &mut found);
    manager(document, &mut found);
    running::check(document, state, &mut found);
    found
}

fn settings(document: &Document, found: &mut Vec<Finding>) {
    let settings = &document.settings;
    if let Err(refusal) = settings.timing.check() {
        found.push(Finding::error("cluster.timing", refusal.what, refusal.advice));
    }
    if !matches!(settings.voters, 3 | 5) {
        let what = format!("a log with {} voters is not possible", settings.voters);
        let advice = "Write 3 or 5; further nodes learn without voting.";
        found.push(Finding::error("cluster.voters", what, advice));
    }
    let members = document.addresses.len();
    if usize::from(settings.seed_count) > members {
        let what = format!(
            "a starting cluster waits for {} nodes, but there are only {members}",
            settings.seed_count
        );
        let advice = "Lower seed_count, or admit more nodes before the next start.";
        found.push(Finding::warning("cluster.seed_count", what, advice));
    }
    if settings.alert_timeout_ms < 1_000 {
        let what = format!("{} ms are too short for an alert script", settings.alert_timeout_ms);
        found.push(Finding::error("cluster.alert_timeout", what, "Give it at least 1s."));
    }
}

fn check_group(group: &GroupDef, found: &mut Vec<Finding>) {
    let key = format!("groups.{}", group.name);
    let nodes = format!("{key}.nodes");
    if !is_name(&group.name) {
        let what = format!("{:?} cannot be a group's name", group.name);
        found.push(Finding::error(&key, what, NAME_ADVICE));
    }
    if group.nodes.is_empty() {
        let what = format!("{} has no node to run on", group.name);
        found.push(Finding::error(&nodes, what, "List at least one, better two."));
    }
    let distinct: BTreeSet<_> = group.nodes.iter().collect();
    if distinct.len() < group.nodes.len() {
        let what = format!("a node stands twice in the list of {}", group.name);
        found.push(Finding::error(&nodes, what, "Write each node once, best first."));
    }
    if group.resources.is_empty() {
        let what = format!("{} has no resources", group.name);
        let advice = "Add one: [[groups.NAME.resources]] with name and kind.";
        found.push(Finding::warning(&key, what, advice));
    }
    if group.fallback && group.policy != Policy::Cascading {
        let what = format!("a {} group never falls back", group.policy);
        let advice = "Leave fallback out, or make the group cascading.";
        found.push(Finding::warning(format!("{key}.fallback"), what, advice));
    }
}

/// Findings about keys that say when a group goes back, where it never does.
fn check_fallback(group: &GroupDef, found: &mut Vec<Finding>) {
    let never = !group.fallback || group.policy != Policy::Cascading;
    let written = [
        ("fallback_delay", group.fallback_delay_ms > 0),
        ("fallback_window", group.fallback_window.is_some()),
    ];
    for (name, _) in written.iter().filter(|(_, written)| never && *written) {
        let what = format!("{name} says when {} goes back, but it never does", group.name);
        let advice =
            format!("Leave {name} out, or write policy = \"cascading\" and fallback = true.");
        found.push(Finding::warning(format!("groups.{}.{name}", group.name), what, advice));
    }
}

/// Names of groups and of resources are unique: records and commands use nothing else.
fn names_once(document: &Document, found: &mut Vec<Finding>) {
    let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
    for group in &document.definition.groups {
        for resource in &group.resources {
            if !is_name(&resource.name) {
                let what = format!("{:?} cannot be a resource's name", resource.name);
                found.push(Finding::error(key(group, resource, "name"), what, NAME_ADVICE));
            }
            if let Some(first) = seen.insert(&resource.name, &group.name) {
                let what = format!(
                    "the name {} is used twice: in {first} and in {}",
                    resource.name, group.name
                );
                let advice = "Give every resource of the cluster a name of its own.";
                found.push(Finding::error(key(group, resource, "name"), what, advice));
            }
        }
    }
}

/// Whether a program can be called: an absolute path, since nothing is looked up in a `PATH`.
fn program(key: &str, command: &[String], found: &mut Vec<Finding>) {
    let Some(program) = command.first() else { return };
    if !program.starts_with('/') {
        let what = format!("{program:?} is no absolute path");
        let advice = "Write the whole path of the program, such as \"/usr/local/bin/start\".";
        found.push(Finding::error(key, what, advice));
    }
}

fn events(document: &Document, found: &mut Vec<Finding>) {
    for (name, hooks) in &document.definition.hooks {
        let key = format!("events.{name}");
        if !EVENTS.contains(&name.as_str()) {
            let what = format!("{name} is none of the built-in events");
            let advice = format!(
                "It is meant if a rule of your own has this name. {}",
                suggestion(name, &EVENTS, "Built in")
            );
            found.push(Finding::warning(&key, what, advice));
        }
        let built_in = EVENTS.contains(&name.as_str());
        if built_in && (hooks.on_failure != OnFailure::Wait || hooks.time_limit_ms.is_some()) {
            let what = format!(
                "{name} is a built-in event, which only an operator goes on with if it fails"
            );
            let advice = "on_failure and time_limit are for events of rules of your own.";
            found.push(Finding::error(&key, what, advice));
        }
        if hooks.time_limit_ms.is_some_and(|limit| limit < 1_000) {
            let what = "no program of an event ends for sure in less than a second";
            let advice = "Allow at least \"1s\".";
            found.push(Finding::error(format!("{key}.time_limit"), what, advice));
        }
        for (part, command) in [
            ("notify", &hooks.notify),
            ("pre", &hooks.pre),
            ("recovery", &hooks.recovery),
            ("post", &hooks.post),
        ] {
            program(&format!("{key}.{part}"), command, found);
        }
        if !hooks.recovery.is_empty() && hooks.retries == 0 {
            let what = "a recovery program without retries never runs";
            let advice = "Say how often the script is tried again: retries = 1.";
            found.push(Finding::warning(format!("{key}.retries"), what, advice));
        }
    }
}

fn fencing(document: &Document, state: &ClusterState, found: &mut Vec<Finding>) {
    let definition = &document.definition;
    for (node, fence) in &definition.fencing {
        let key = format!("fencing.{}", state.node_name(*node));
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/');
        if fence.agent.is_empty() || fence.agent.starts_with('-') || !fence.agent.chars().all(fits)
        {
            let what = format!("{:?} is not the name of a fence agent", fence.agent);
            let advice = "Write for example \"fence_ipmilan\".";
            found.push(Finding::error(format!("{key}.agent"), what, advice));
        }
        if fence.timeout_ms < 1_000 {
            let what = format!("{} ms are too short to fence a node", fence.timeout_ms);
            found.push(Finding::error(format!("{key}.timeout"), what, "Give it at least 1s."));
        }
        for (name, value) in &fence.options {
            let odd = name.is_empty() || name.contains(['=', '\n']) || value.contains('\n');
            if odd || name == "action" {
                let what = format!("{name} cannot be an option of a fence agent");
                let advice = "Options are lines name=value; the action has a key of its own.";
                found.push(Finding::error(format!("{key}.options.{name}"), what, advice));
            }
        }
    }
    let missing: Vec<String> = document
        .addresses
        .keys()
        .filter(|node| !definition.fencing.contains_key(node))
        .map(|node| state.node_name(*node))
        .collect();
    if definition.manager.strict && definition.manager.trust_guard {
        let what = "strict and trust_guard ask for both more and less than a lease that is over";
        let advice = "Set one of them to false: strict waits for what certainly ends a node's resources, \
            trust_guard takes its guard's word.";
        found.push(Finding::error("manager.strict", what, advice));
    }
    if definition.manager.fence_always && !missing.is_empty() {
        let what = format!(
            "every node shall be fenced before a takeover, but nobody can fence {}",
            missing.join(", ")
        );
        let advice = "Add [fencing.NODE] for each of them, or set fence_always = false.";
        found.push(Finding::error("manager.fence_always", what, advice));
    }
}

fn monitors(document: &Document, found: &mut Vec<Finding>) {
    for monitor in &document.definition.monitors {
        let key = format!("monitors.{}", monitor.variable);
        let fits = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '#' | '\\');
        if monitor.variable.is_empty() || !monitor.variable.chars().all(fits) {
            let what = format!("{:?} cannot be a resource variable", monitor.variable);
            found.push(Finding::error(
                &key,
                what,
                "Write one word, such as \"site.queue.length\".",
            ));
        }
        let built_in = variable::known(&monitor.variable);
        if let Some(known) = built_in.filter(|_| !monitor.command.is_empty()) {
            let what = format!("{} has a built-in monitor and needs no program", known.name);
            let advice = "Leave command out, or choose another name for your own variable.";
            found.push(Finding::error(format!("{key}.command"), what, advice));
        }
        if monitor.command.is_empty() && built_in.is_none() {
            let advice = "Name the program that prints its values: command = [\"/path/prog\"].";
            found.push(Finding::error(
                format!("{key}.command"),
                "the monitor has no command",
                advice,
            ));
        }
        if built_in.is_none() {
            program(&format!("{key}.command"), &monitor.command, found);
        }
        if monitor.interval_ms < 100 || monitor.timeout_ms < 100 {
            let what = "a monitor cannot run that often or that briefly";
            found.push(Finding::error(&key, what, "Use at least 100ms for interval and timeout."));
        }
    }
}

fn manager(document: &Document, found: &mut Vec<Finding>) {
    let options = &document.definition.manager;
    if options.settle_ms.is_some_and(|settle| settle > 60_000) {
        let what = "an event that settles longer than a minute holds up every takeover";
        found.push(Finding::error("manager.settle", what, "Use at most 60s, or leave it out."));
    }
    for (name, value) in
        [("command_timeout", options.command_timeout_ms), ("too_long", options.too_long_ms)]
    {
        if value < 1_000 {
            let what = format!("{value} ms are too short for a command of a recovery program");
            found.push(Finding::error(format!("manager.{name}"), what, "Give it at least 1s."));
        }
    }
    if options.probe_interval_ms == 0 {
        let what = "no node looks whether something runs on it that should not";
        let advice = "Leave probe_interval out, which looks once a minute.";
        found.push(Finding::warning("manager.probe_interval", what, advice));
    } else if options.probe_interval_ms < 1_000 {
        let what = format!(
            "every monitor of every group would run on every node each {} ms",
            options.probe_interval_ms
        );
        found.push(Finding::error("manager.probe_interval", what, "Give it at least 1s."));
    }
    if options.flap_failovers == 1 {
        let what = "a group that failed over once does not fail over again and again";
        let advice = "Use at least 2, better 3; 0 if no group is ever to count as flapping.";
        found.push(Finding::error("manager.flap_failovers", what, advice));
    }
    if options.flap_failovers > 0 && options.flap_window_ms < 60_000 {
        let window = written(options.flap_window_ms);
        let what = format!("no group fails over {} times within {window}", options.flap_failovers);
        let advice = "Use at least 1m, better 1h, or leave flap_window out.";
        found.push(Finding::error("manager.flap_window", what, advice));
    }
    if options.trust_guard {
        let what = "a lease that is over is taken as proof even where nothing stands behind it";
        let advice = "A node whose guard is paused could keep its addresses; better use fencing.";
        found.push(Finding::warning("manager.trust_guard", what, advice));
    }
    for group in &document.definition.groups {
        let whole: u64 = group.resources.iter().map(|resource| resource.start_timeout_ms).sum();
        if whole > options.command_timeout_ms {
            let what = format!(
                "{} may take {} s to start, but a command of an event is ended after {} s",
                group.name,
                whole / 1_000,
                options.command_timeout_ms / 1_000
            );
            let advice = "Raise manager.command_timeout, or lower start_timeout of its resources.";
            found.push(Finding::warning(format!("groups.{}", group.name), what, advice));
        }
    }
}
