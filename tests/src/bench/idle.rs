//! What a cluster costs while nothing happens: processor time, memory, packets, a node at a time.
//!
//! Ours and corosync run at the same time and are looked at over the same seconds.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::corosync::{Corosync, Tuning};
use super::figures::{Section, Series, number};
use super::machine::{self, Noise, Sent};
use super::ours::Ours;
use super::wire::now_ms;
use super::{Progress, Stop};
use crate::lab::Result;

/// How long everything is left alone before it is looked at.
const SETTLE: Duration = Duration::from_secs(5);

/// A process that is looked at.
struct Process {
    kind: &'static str,
    pid: u32,
    cpu_ns: u64,
}

impl Process {
    fn new(kind: &'static str, pid: u32) -> Self {
        Self { kind, pid, cpu_ns: machine::cpu_ns(pid).unwrap_or(0) }
    }
}

/// Cables that are looked at, through a process that lives where they end.
struct Cables {
    kind: &'static str,
    pid: u32,
    sent: Sent,
}

impl Cables {
    fn new(kind: &'static str, pid: u32) -> Self {
        Self { kind, pid, sent: machine::sent(pid, &["mgmt"]) }
    }
}

/// What one kind of process was found to need.
#[derive(Default, Serialize)]
struct Need {
    cpu_percent: Series,
    rss_mib: Series,
    pss_mib: Series,
}

/// Table of processes and table of packets, of both profiles.
///
/// # Errors
/// If a cluster cannot be formed.
pub(super) fn measure(
    dir: &Path,
    seconds: u64,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Vec<Section>> {
    let mut all = Vec::new();
    for (profile, tuning) in [("default", Tuning::Default), ("fast", Tuning::Fast)] {
        stop.check()?;
        progress(&format!("idle: forming ours ({profile}) and {}", tuning.name()));
        let ours = Ours::up(&dir.join(format!("idle-{profile}")), profile)?;
        let theirs = Corosync::up(&dir.join(format!("idle-corosync-{profile}")), tuning)?;
        std::thread::sleep(SETTLE);
        progress(&format!("idle: looking for {seconds} s"));
        all.extend(look(&ours, &theirs, (profile, tuning), Duration::from_secs(seconds))?);
    }
    Ok(all)
}

fn look(
    ours: &Ours,
    theirs: &Corosync,
    (profile, tuning): (&str, Tuning),
    time: Duration,
) -> Result<[Section; 2]> {
    let pairs = ours.processes()?;
    let daemons = theirs.daemons();
    let noise = Noise::now();
    let (mut processes, mut cables) = (Vec::new(), Vec::new());
    for (guard, agent) in pairs {
        processes.extend([Process::new("guard", guard), Process::new("agent", agent)]);
        cables.push(Cables::new("ours", guard));
    }
    for (first, daemon) in daemons {
        processes.push(Process::new("corosync", daemon));
        cables.push(Cables::new("corosync", first));
    }
    let zero = now_ms();
    std::thread::sleep(time);
    let seconds = (now_ms() - zero) / 1e3;
    let when = format!(
        "{:.0} s at rest, three nodes, two networks, profile `{profile}` beside {}.",
        seconds,
        tuning.name()
    );
    let notes = (when, noise.since());
    Ok([
        of_processes(profile, &processes, seconds, &notes),
        of_cables(profile, &cables, seconds, &notes),
    ])
}

fn of_processes(
    profile: &str,
    processes: &[Process],
    seconds: f64,
    notes: &(String, String),
) -> Section {
    let columns = [
        "process, mean of the nodes",
        "CPU, % of a core",
        "resident MiB",
        "of that its own share (PSS) MiB",
        "n",
    ];
    let mut section =
        Section::table(&format!("Idle: processor and memory, profile `{profile}`"), columns)
            .note(&notes.0)
            .note(&notes.1);
    let mut values = serde_json::Map::new();
    let mut sum = [0.0; 3];
    for kind in ["guard", "agent", "corosync"] {
        let need = need_of(kind, processes, seconds);
        let means =
            [&need.cpu_percent, &need.rss_mib, &need.pss_mib].map(|s| s.mean().unwrap_or(0.0));
        section.row(process_row(kind, means, need.rss_mib.len()));
        if kind != "corosync" {
            sum.iter_mut().zip(means).for_each(|(sum, mean)| *sum += mean);
        }
        if kind == "agent" {
            section.row(process_row("ours, both", sum, need.rss_mib.len()));
        }
        values.insert(kind.into(), json!(need));
    }
    section.values = values.into();
    section
}

fn need_of(kind: &str, processes: &[Process], seconds: f64) -> Need {
    let mut need = Need::default();
    for process in processes.iter().filter(|process| process.kind == kind) {
        // A process that ended meanwhile has nothing to be counted.
        let Some((now, memory)) = machine::cpu_ns(process.pid).zip(machine::memory(process.pid))
        else {
            continue;
        };
        need.cpu_percent.push(now.saturating_sub(process.cpu_ns) as f64 / 1e7 / seconds);
        need.rss_mib.push(memory.rss as f64 / 1024.0);
        need.pss_mib.push(memory.pss as f64 / 1024.0);
    }
    need
}

fn process_row(name: &str, means: [f64; 3], count: usize) -> Vec<String> {
    let cells = std::iter::once(name.to_owned()).chain(means.map(number));
    cells.chain([count.to_string()]).collect()
}

fn of_cables(profile: &str, cables: &[Cables], seconds: f64, notes: &(String, String)) -> Section {
    let columns = ["a node sends, both networks together", "packets/s", "kbit/s", "n"];
    let mut section =
        Section::table(&format!("Idle: packets, profile `{profile}`"), columns).note(&notes.0);
    let mut values = serde_json::Map::new();
    for kind in ["ours", "corosync"] {
        let (mut packets, mut kbits) = (Series::default(), Series::default());
        for cable in cables.iter().filter(|cable| cable.kind == kind) {
            let now = machine::sent(cable.pid, &["mgmt"]);
            packets.push(now.packets.saturating_sub(cable.sent.packets) as f64 / seconds);
            kbits.push(now.bytes.saturating_sub(cable.sent.bytes) as f64 / 125.0 / seconds);
        }
        let cell = |series: &Series| series.mean().map_or("–".into(), number);
        section.row([kind.to_owned(), cell(&packets), cell(&kbits), packets.len().to_string()]);
        values.insert(kind.into(), json!({ "packets": packets, "kbits": kbits }));
    }
    section.values = values.into();
    section
}
