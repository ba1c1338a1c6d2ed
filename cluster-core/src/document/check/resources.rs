//! What resources may not be, each for itself and beside each other.

use std::collections::BTreeMap;

use crate::group::{GroupDef, Policy, ResourceDef, ResourceKind};

use super::super::reader::written;
use super::{Document, Finding, control_groups, key, program, units};

/// Most restarts in place before a group moves; more would hide a failure for hours.
const MOST_RESTARTS: u32 = 100;

/// Longest time of a release program: every takeover from a node that has it waits as long.
const LONGEST_RELEASE_MS: u64 = 60_000;

pub(super) fn check(document: &Document, found: &mut Vec<Finding>) {
    for group in &document.definition.groups {
        for resource in &group.resources {
            times(group, resource, found);
            kind(group, resource, found);
            release(document, group, resource, found);
        }
        order(group, found);
    }
    shared(document, found);
    control_groups::shared(document, found);
}

fn times(group: &GroupDef, resource: &ResourceDef, found: &mut Vec<Finding>) {
    let mut short = |name: &str, value: u64, least: u64| {
        if value < least {
            let what = format!("{value} ms are too short for {}", resource.name);
            let advice = format!("Use at least {least}ms.");
            found.push(Finding::error(key(group, resource, name), what, advice));
        }
    };
    short("start_timeout", resource.start_timeout_ms, 100);
    short("stop_timeout", resource.stop_timeout_ms, 100);
    if resource.monitor_interval_ms > 0 {
        short("monitor_interval", resource.monitor_interval_ms, 100);
        short("monitor_timeout", resource.monitor_timeout_ms, 100);
    }
    failure_window(group, resource, found);
    if resource.restarts > MOST_RESTARTS {
        let what =
            format!("{} would be restarted {} times in place", resource.name, resource.restarts);
        let advice = format!("Allow at most {MOST_RESTARTS}; then the group moves.");
        found.push(Finding::error(key(group, resource, "restarts"), what, advice));
    }
}

/// A failure that is forgotten before the next one could be seen counts for nothing.
fn failure_window(group: &GroupDef, resource: &ResourceDef, found: &mut Vec<Finding>) {
    let looks = resource.monitor_interval_ms.saturating_mul(u64::from(resource.fall));
    let least = looks.saturating_add(1_000);
    if resource.failure_window_ms < least {
        let window = written(resource.failure_window_ms);
        let what = format!(
            "failures of {} would be forgotten after {window}, before it can fail again: it would be \
             restarted in place for ever and its group never move",
            resource.name
        );
        let advice =
            format!("Use at least {}, better 1h, or leave failure_window out.", written(least));
        found.push(Finding::error(key(group, resource, "failure_window"), what, advice));
    }
}

/// The program is run by the guard, and a takeover waits for it.
fn release(
    document: &Document,
    group: &GroupDef,
    resource: &ResourceDef,
    found: &mut Vec<Finding>,
) {
    let Some(release) = resource.kind.release() else { return };
    let at = |last: &str| key(group, resource, last);
    if release.program.is_empty() {
        let what = format!("{} names no program that takes it away", resource.name);
        let advice = "Write release = [\"/usr/local/bin/prog\", \"release\"], or leave it out.";
        found.push(Finding::error(at("release"), what, advice));
    }
    program(&at("release"), &release.program, found);
    let least = document.settings.timing.release_max_ms;
    if release.within_ms < least {
        let what = format!(
            "{} ms are shorter than the time of every release, {least} ms",
            release.within_ms
        );
        found.push(Finding::error(at("release_max"), what, "Give it more, such as \"5s\"."));
    }
    if release.within_ms > LONGEST_RELEASE_MS {
        let what = format!(
            "a takeover from a silent node would wait {} s for the release program of {}",
            release.within_ms / 1_000,
            resource.name
        );
        found.push(Finding::error(at("release_max"), what, "Give it at most 60s."));
    }
}

fn kind(group: &GroupDef, resource: &ResourceDef, found: &mut Vec<Finding>) {
    let at = |last: &str| key(group, resource, last);
    match &resource.kind {
        ResourceKind::Address { .. } if group.policy == Policy::Concurrent => {
            let what =
                format!("{} runs on several nodes at once and cannot have an address", group.name);
            let advice = "Take the address out, or make the group cascading or rotating.";
            found.push(Finding::error(at("kind"), what, advice));
        }
        ResourceKind::Address { .. } => {}
        ResourceKind::FileSystem { device, mount_point, fs_type, options, .. } => {
            file_system(group, resource, device, mount_point, found);
            for (name, value) in [("fs_type", fs_type), ("options", options)] {
                word(&at(name), value, name == "options", found);
            }
        }
        ResourceKind::VolumeGroup { name } => word(&at("volume_group"), name, false, found),
        ResourceKind::Application { start, stop, monitor, user, control_group, release } => {
            application(group, resource, start, stop, found);
            match control_group {
                Some(path) => control_groups::path(&at("control_group"), path, found),
                None if release.is_none() => units::asked_for(&at("start"), start, found),
                None => {}
            }
            for (name, command) in [("start", start), ("stop", stop), ("monitor", monitor)] {
                program(&at(name), command, found);
            }
            if let Some(user) = user {
                word(&at("user"), user, false, found);
            }
        }
        ResourceKind::Systemd { unit } => units::name(&at("unit"), unit, found),
        ResourceKind::Ocf { provider, agent, parameters, release } => {
            if release.is_none() {
                units::engine_agent(&at("agent"), agent, found);
            }
            for part in [provider, agent] {
                ocf_name(&at("agent"), part, found);
            }
            for name in parameters.keys().filter(|name| !is_parameter(name)) {
                let what = format!("{name:?} cannot be a parameter of an OCF agent");
                let advice = "Parameters are letters, digits and '_'; its meta-data lists them.";
                found.push(Finding::error(at("parameters"), what, advice));
            }
        }
    }
}

/// One word that no program can take for an option.
fn word(key: &str, text: &str, may_be_empty: bool, found: &mut Vec<Finding>) {
    let odd = text.contains(|c: char| c.is_whitespace() || c.is_control());
    if odd || text.starts_with('-') || (text.is_empty() && !may_be_empty) {
        let what = format!("{text:?} cannot stand here");
        found.push(Finding::error(key, what, "Write one word that does not begin with '-'."));
    }
}

fn file_system(
    group: &GroupDef,
    resource: &ResourceDef,
    device: &str,
    mount_point: &str,
    found: &mut Vec<Finding>,
) {
    if device.is_empty() || device.starts_with('-') || device.contains(char::is_control) {
        let what = format!("{device:?} is no device");
        let advice = "Write its path, such as \"/dev/datavg/web\".";
        found.push(Finding::error(key(group, resource, "device"), what, advice));
    }
    let climbs = mount_point.split('/').any(|part| part == "..");
    if !mount_point.starts_with('/') || mount_point == "/" || climbs {
        let what = format!("{mount_point:?} is no directory to mount on");
        let advice = "Write an absolute path below /, such as \"/srv/web\".";
        found.push(Finding::error(key(group, resource, "mount_point"), what, advice));
    }
    if group.policy == Policy::Concurrent {
        let what = format!("{} mounts {device} on several nodes at once", group.name);
        let advice = "That destroys data unless the file system is made for it, such as gfs2.";
        found.push(Finding::warning(key(group, resource, "kind"), what, advice));
    }
}

fn application(
    group: &GroupDef,
    resource: &ResourceDef,
    start: &[String],
    stop: &[String],
    found: &mut Vec<Finding>,
) {
    if start.is_empty() {
        let what = format!("{} has no program that starts it", resource.name);
        let advice = "Write start = [\"/usr/local/bin/prog\", \"start\"].";
        found.push(Finding::error(key(group, resource, "start"), what, advice));
    }
    if stop.is_empty() {
        let what = format!(
            "{} has no program that stops it, so its group could never move in good order",
            resource.name
        );
        let advice = "Write stop = [\"/usr/local/bin/prog\", \"stop\"]; it must end with status 0 when nothing runs.";
        found.push(Finding::error(key(group, resource, "stop"), what, advice));
    }
}

/// The name becomes part of a path below the folder of OCF agents.
fn ocf_name(key: &str, name: &str, found: &mut Vec<Finding>) {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.starts_with(['.', '-']) || !name.chars().all(fits) {
        let what = format!("{name:?} cannot be part of the name of an OCF agent");
        found.push(Finding::error(key, what, "Write for example \"ocf:heartbeat:Dummy\"."));
    }
}

fn is_parameter(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_';
    !name.is_empty() && name.chars().all(fits)
}

/// An order in which something is started before what it stands on.
fn order(group: &GroupDef, found: &mut Vec<Finding>) {
    let mut application: Option<&str> = None;
    let mut mounted: Option<&str> = None;
    for resource in &group.resources {
        let late = match resource.kind {
            ResourceKind::Application { .. } | ResourceKind::Systemd { .. } => {
                application = application.or(Some(&resource.name));
                None
            }
            ResourceKind::VolumeGroup { .. } => application.or(mounted),
            ResourceKind::FileSystem { .. } => {
                mounted = mounted.or(Some(&resource.name));
                application
            }
            ResourceKind::Address { .. } => application,
            ResourceKind::Ocf { .. } => None,
        };
        if let Some(early) = late {
            let what = format!("{early} is acquired before {}", resource.name);
            let advice = "Usual is: volume group, file system, address, application.";
            found.push(Finding::warning(key(group, resource, "name"), what, advice));
        }
    }
}

/// Two groups with one disk, mount point or unit would take it from each other.
fn shared(document: &Document, found: &mut Vec<Finding>) {
    let mut seen: BTreeMap<(&str, &str), &str> = BTreeMap::new();
    for group in &document.definition.groups {
        for resource in &group.resources {
            let claims = match &resource.kind {
                ResourceKind::FileSystem { device, mount_point, .. } => {
                    vec![("device", device.as_str()), ("mount_point", mount_point.as_str())]
                }
                ResourceKind::VolumeGroup { name } => vec![("volume_group", name.as_str())],
                ResourceKind::Systemd { unit } => vec![("unit", unit.as_str())],
                _ => Vec::new(),
            };
            for claim in claims {
                if let Some(first) = seen.insert(claim, &resource.name) {
                    let what = format!("{} is used by {first} and by {}", claim.1, resource.name);
                    let advice = "Give each its own, or put both into one group as one resource.";
                    found.push(Finding::error(key(group, resource, claim.0), what, advice));
                }
            }
        }
    }
}
