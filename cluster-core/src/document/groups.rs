//! Groups and their resources, as they are written.
//!
//! Resources may be written as a list, `[[groups.web.resources]]`, or each under its name,
//! `[groups.web.resources.web-ip]`; either way their order is the order in which they are acquired.

use std::net::IpAddr;

use crate::group::{
    AddressMode, GroupDef, MultipleActive, OnConflict, Policy, Release, ResourceDef, ResourceKind,
};
use crate::id::NetworkNumber;
use crate::reach;
use crate::time::DayWindow;

use super::Addresses;
use super::read::{Names, address};
use super::reader::{Notes, Table};

/// What a resource may be.
const KINDS: [(&str, &str); 6] = [
    ("address", "address"),
    ("file_system", "file_system"),
    ("volume_group", "volume_group"),
    ("application", "application"),
    ("systemd", "systemd"),
    ("ocf", "ocf"),
];

/// Reads every group.
pub(super) fn groups(
    top: &mut Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> Vec<GroupDef> {
    let tables = top.named(notes, "groups");
    tables.into_iter().map(|(name, table)| group(name, table, names, addresses, notes)).collect()
}

fn group(
    name: String,
    mut table: Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> GroupDef {
    let policies: Vec<(&str, Policy)> =
        Policy::ALL.iter().map(|policy| (policy.name(), *policy)).collect();
    let policy = table.choice(notes, "policy", &policies).unwrap_or(Policy::Cascading);
    let key = table.key("nodes");
    let nodes = table.texts(notes, "nodes").unwrap_or_default();
    let nodes = nodes.iter().filter_map(|name| names.node(notes, &key, name)).collect();
    let fallback = table.flag(notes, "fallback").unwrap_or(policy == Policy::Cascading);
    let fallback_delay_ms = table.duration(notes, "fallback_delay").unwrap_or(0);
    let fallback_window = fallback_window(&mut table, notes);
    let ways: Vec<(&str, MultipleActive)> =
        MultipleActive::ALL.iter().map(|way| (way.name(), *way)).collect();
    let multiple_active =
        table.choice(notes, "multiple_active", &ways).unwrap_or(MultipleActive::StopExtra);
    if policy == Policy::Concurrent && table.has("multiple_active") {
        let what =
            format!("{name} runs on several nodes at once, so nothing of it is one too many");
        let advice = "Leave it out, or make the group cascading or rotating.";
        notes.error(&table.key("multiple_active"), what, advice);
    }
    let resources = resources(&mut table, names, addresses, notes);
    table.finish(notes);
    GroupDef {
        name,
        policy,
        nodes,
        fallback,
        fallback_delay_ms,
        fallback_window,
        multiple_active,
        resources,
    }
}

fn fallback_window(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<DayWindow> {
    let text = table.text(notes, "fallback_window")?;
    let window = DayWindow::parse(&text);
    if window.is_none() {
        let what = format!("{text:?} is no time of the day in which something could be done");
        let advice = "Write two different times in UTC: fallback_window = \"02:00-04:00\".";
        notes.error(&table.key("fallback_window"), what, advice);
    }
    window
}

fn resources(
    group: &mut Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> Vec<ResourceDef> {
    let tables = if group.is_list("resources") {
        let path = group.key("resources");
        let tables = group.listed(notes, "resources");
        tables.into_iter().filter_map(|table| called(table, &path, notes)).collect()
    } else {
        group.named(notes, "resources")
    };
    tables
        .into_iter()
        .filter_map(|(name, table)| resource(name, table, names, addresses, notes))
        .collect()
}

/// An entry of the list with its name, by which findings call it from here on.
fn called<'t, 'i>(
    mut table: Table<'t, 'i>,
    path: &str,
    notes: &mut Notes<'_>,
) -> Option<(String, Table<'t, 'i>)> {
    let advice = "Give it a name that no other resource of the cluster has: name = \"web-ip\".";
    let name = table.need(notes, "name", advice)?;
    table.rename(notes, format!("{path}.{name}"));
    Some((name, table))
}

fn resource(
    name: String,
    mut table: Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> Option<ResourceDef> {
    if !table.has("kind") {
        let words: Vec<&str> = KINDS.iter().map(|(word, _)| *word).collect();
        let advice = format!("Say what it is: kind = one of {}.", words.join(", "));
        notes.error(&table.key("kind"), format!("the resource {name} has no kind"), advice);
        return None;
    }
    let kind = match table.choice(notes, "kind", &KINDS)? {
        "address" => service_address(&mut table, names, addresses, notes),
        "file_system" => file_system(&mut table, notes),
        "volume_group" => volume_group(&mut table, notes),
        "application" => application(&mut table, notes),
        "systemd" => systemd(&mut table, notes),
        _ => ocf(&mut table, notes),
    };
    let usual = ResourceDef::new(name, ResourceKind::VolumeGroup { name: String::new() });
    let mut time = |key, usual| table.duration(notes, key).unwrap_or(usual);
    let resource = ResourceDef {
        monitor_interval_ms: time("monitor_interval", usual.monitor_interval_ms),
        start_timeout_ms: time("start_timeout", usual.start_timeout_ms),
        stop_timeout_ms: time("stop_timeout", usual.stop_timeout_ms),
        monitor_timeout_ms: time("monitor_timeout", usual.monitor_timeout_ms),
        failure_window_ms: time("failure_window", usual.failure_window_ms),
        fall: table.number(notes, "fall", 1..=100).unwrap_or(usual.fall),
        timeout_fall: table.number(notes, "timeout_fall", 1..=100).unwrap_or(usual.timeout_fall),
        rise: table.number(notes, "rise", 1..=100).unwrap_or(usual.rise),
        restarts: table.number(notes, "restarts", 0..=1_000).unwrap_or(usual.restarts),
        kind: usual.kind,
        name: usual.name,
    };
    table.finish(notes);
    kind.map(|kind| ResourceDef { kind, ..resource })
}

fn service_address(
    table: &mut Table<'_, '_>,
    names: &Names<'_>,
    addresses: &Addresses,
    notes: &mut Notes<'_>,
) -> Option<ResourceKind> {
    let modes: Vec<(&str, AddressMode)> =
        AddressMode::ALL.iter().map(|mode| (mode.name(), *mode)).collect();
    let mode = table.choice(notes, "mode", &modes).unwrap_or(AddressMode::Alias);
    let ways: Vec<(&str, OnConflict)> =
        OnConflict::ALL.iter().map(|way| (way.name(), *way)).collect();
    let on_conflict = table.choice(notes, "on_conflict", &ways).unwrap_or(OnConflict::Fail);
    let key = table.key("address");
    let written =
        table.need(notes, "address", "Write it with its prefix: address = \"10.91.0.50/24\".");
    let given: Option<u8> = table.number(notes, "prefix", 1..=128);
    let network = table.text(notes, "network");
    let written = written?;
    let (text, inside) = match written.split_once('/') {
        Some((text, prefix)) => (text, Some(prefix)),
        None => (written.as_str(), None),
    };
    let ip = address(notes, &key, text)?;
    let prefix = match (inside, given) {
        (Some(prefix), _) => whole_prefix(prefix, ip),
        (None, given) => given,
    };
    let Some(prefix) = prefix.filter(|prefix| (1..=longest(ip)).contains(prefix)) else {
        let what = format!("{written:?} has no prefix length that fits");
        notes.error(&key, what, format!("Write 1 to {} after a slash: \"{ip}/24\".", longest(ip)));
        return None;
    };
    let network = match network {
        Some(name) => names.network(notes, &table.key("network"), &name)?,
        None => network_of(ip, prefix, names, addresses, &table.key("network"), notes)?,
    };
    Some(ResourceKind::Address { address: ip, prefix, network, mode, on_conflict })
}

fn whole_prefix(text: &str, ip: IpAddr) -> Option<u8> {
    text.parse().ok().filter(|prefix| *prefix <= longest(ip))
}

/// The longest prefix of an address.
pub(super) const fn longest(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// Whether two addresses have the same first `prefix` bits.
pub(super) fn same_subnet(one: IpAddr, other: IpAddr, prefix: u8) -> bool {
    let differ = |one: u128, other: u128, bits: u32| {
        let rest = bits.saturating_sub(u32::from(prefix));
        rest < bits && (one ^ other) >> rest != 0
    };
    match (one, other) {
        (IpAddr::V4(one), IpAddr::V4(other)) => {
            !differ(u32::from(one).into(), u32::from(other).into(), 32)
        }
        (IpAddr::V6(one), IpAddr::V6(other)) => !differ(one.into(), other.into(), 128),
        _ => false,
    }
}

/// The network on which nodes have addresses in the same subnet.
fn network_of(
    ip: IpAddr,
    prefix: u8,
    names: &Names<'_>,
    addresses: &Addresses,
    key: &str,
    notes: &mut Notes<'_>,
) -> Option<NetworkNumber> {
    // A host's prefix says nothing of the subnet that the address is in.
    let alone = prefix == longest(ip);
    let fits = |own: IpAddr| {
        if alone { reach::is_near(own, ip) } else { same_subnet(own, ip, prefix) }
    };
    let inside = |number: &NetworkNumber| {
        addresses.values().filter_map(|own| own.get(number)).any(|own| fits(*own))
    };
    let fitting: Vec<NetworkNumber> = names.networks.keys().copied().filter(inside).collect();
    match fitting[..] {
        [only] => Some(only),
        // What nobody can have is told as that, and not as a question of networks.
        [] if reach::unreachable(ip).is_some() => names.networks.keys().next().copied(),
        [] if alone => {
            let what = format!("which network {ip}/{prefix} is on is not said by its prefix");
            notes.error(key, what, "Write the prefix of its subnet, or name its network.");
            None
        }
        [] => {
            let what = format!("{ip}/{prefix} is outside every network of this cluster");
            notes.error(key, what, "Correct the address or its prefix, or name its network.");
            None
        }
        _ => {
            let what = format!("{ip}/{prefix} fits {} networks", fitting.len());
            notes.error(key, what, "Say which one it is for: network = \"neta\".");
            None
        }
    }
}

fn file_system(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<ResourceKind> {
    let device = table.need(notes, "device", "Name the block device: device = \"/dev/vg/lv\".");
    let mount_point =
        table.need(notes, "mount_point", "Say where it is mounted: mount_point = \"/srv\".");
    let fs_type = table.need(notes, "fs_type", "Name its type: fs_type = \"ext4\".");
    let options = table.text(notes, "options").unwrap_or_default();
    let check = table.flag(notes, "check").unwrap_or(true);
    Some(ResourceKind::FileSystem {
        device: device?,
        mount_point: mount_point?,
        fs_type: fs_type?,
        options,
        check,
    })
}

fn volume_group(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<ResourceKind> {
    let advice = "Write the volume group's name: volume_group = \"datavg\".";
    let name = table.need(notes, "volume_group", advice)?;
    Some(ResourceKind::VolumeGroup { name })
}

/// That start and stop are there is checked where their words are.
fn application(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<ResourceKind> {
    let user = table.text(notes, "user");
    let control_group = table.text(notes, "control_group");
    let start = table.command(notes, "start");
    let stop = table.command(notes, "stop");
    let monitor = table.command(notes, "monitor").unwrap_or_default();
    // Written, but not readable: that is a finding already.
    let unread = (start.is_none() && table.has("start")) || (stop.is_none() && table.has("stop"));
    let release = release(table, notes);
    (!unread).then(|| ResourceKind::Application {
        start: start.unwrap_or_default(),
        stop: stop.unwrap_or_default(),
        monitor,
        user,
        control_group,
        release,
    })
}

fn release(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<Release> {
    let program = table.command(notes, "release");
    let within_ms = table.duration(notes, "release_max");
    if within_ms.is_some() && !table.has("release") {
        let what = "there is no release program whose time could be limited";
        let advice = "Name one, or leave it out: release = [\"/usr/local/bin/prog\", \"release\"].";
        notes.error(&table.key("release_max"), what, advice);
    }
    Some(Release { program: program?, within_ms: within_ms.unwrap_or(Release::USUAL_MS) })
}

fn systemd(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<ResourceKind> {
    let unit = table.need(notes, "unit", "Name the unit: unit = \"nginx.service\".")?;
    Some(ResourceKind::Systemd { unit })
}

fn ocf(table: &mut Table<'_, '_>, notes: &mut Notes<'_>) -> Option<ResourceKind> {
    const ADVICE: &str = "Write it as it is installed: agent = \"ocf:heartbeat:Dummy\".";
    let agent = table.need(notes, "agent", ADVICE);
    let parameters = table.values(notes, "parameters");
    let release = release(table, notes);
    let agent = agent?;
    if let Some(unit) = agent.strip_prefix("systemd:") {
        let advice = format!("Write kind = \"systemd\" and unit = \"{unit}.service\".");
        notes.error(&table.key("agent"), "a unit of systemd is no OCF agent", advice);
        return None;
    }
    let parts: Vec<&str> = agent.split(':').collect();
    let [_, provider, kind] = parts[..] else {
        notes.error(
            &table.key("agent"),
            format!("{agent:?} is not the name of an OCF agent"),
            ADVICE,
        );
        return None;
    };
    if parts[0] != "ocf" {
        let what = format!("agents of the class {:?} are not supported", parts[0]);
        notes.error(&table.key("agent"), what, ADVICE);
        return None;
    }
    Some(ResourceKind::Ocf { provider: provider.into(), agent: kind.into(), parameters, release })
}
