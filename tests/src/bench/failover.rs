//! How long a client is without the service address when its node loses power, and in a planned
//! move; beside pacemaker and keepalived.
//!
//! All run at the same time on the same machine and are struck in turn. A prober on each cluster's
//! own network asks two hundred times a second, the ordinary way (through its kernel's neighbour
//! table), who has the address. Zero is just before the blow; the end is the first answer of another
//! node. The prober also asks so that *every* holder answers, and counts questions that two answered.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::corosync::{Corosync, NODES, Stack, Tuning};
use super::detection::spread_phase;
use super::figures::{SPREAD, Section, Series, times};
use super::machine::Noise;
use super::ours::Ours;
use super::{Progress, Stop};
use crate::lab::{Answers, LabError, Prober, Result, Victim};

/// Profiles of ours, each with the peers' settings that stand beside it.
const PAIRS: [(&str, Tuning); 2] = [("default", Tuning::Default), ("fast", Tuning::Fast)];

/// How long an address may take to be answered again.
const PATIENCE: Duration = Duration::from_secs(40);

/// What was measured of one cluster.
#[derive(Debug, Default, Serialize)]
struct Found {
    power: Series,
    moves: Series,
    agent: Series,
    doubles: usize,
}

impl Found {
    fn row(&self, section: &mut Section, name: &str, peer: Option<f64>) {
        for (what, series) in [
            ("power-off", &self.power),
            ("planned move", &self.moves),
            ("agent killed", &self.agent),
        ] {
            if series.is_empty() {
                continue;
            }
            let base = if what == "power-off" { peer } else { None };
            let last = [times(series.median(), base), self.doubles.to_string()];
            let head = [name.to_owned(), what.to_owned()];
            section.row(head.into_iter().chain(series.spread()).chain(last));
        }
    }
}

/// A table for each profile.
///
/// # Errors
/// If a cluster cannot be formed or an address is not answered again.
pub(super) fn measure(
    dir: &Path,
    trials: usize,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Vec<Section>> {
    PAIRS
        .into_iter()
        .map(|(profile, tuning)| measure_pair(dir, (profile, tuning), trials, stop, progress))
        .collect()
}

fn measure_pair(
    dir: &Path,
    (profile, tuning): (&str, Tuning),
    trials: usize,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Section> {
    progress(&format!("failover: forming ours ({profile}), pacemaker and keepalived"));
    let ours = OurService::up(&dir.join(format!("ours-f-{profile}")), profile)?;
    let pacemaker =
        Corosync::up_with(&dir.join(format!("pacemaker-{profile}")), tuning, Stack::Pacemaker)?;
    pacemaker.configure()?;
    let keepalived =
        Corosync::up_with(&dir.join(format!("keepalived-{profile}")), tuning, Stack::Keepalived)?;
    let (mut pacemaker, mut keepalived) = (Theirs::of(pacemaker)?, Theirs::of(keepalived)?);
    let (mut mine, mut second, mut third) = Default::default();
    let noise = Noise::now();
    for trial in 0..trials {
        stop.check()?;
        ours.trial(trial, &mut mine)?;
        pacemaker.trial(trial, &mut second)?;
        keepalived.trial(trial, &mut third)?;
        progress(&format!("failover, {profile}: {} of {trials}", trial + 1));
    }
    Ok(section(profile, tuning, [&mine, &second, &third], &noise.since()))
}

fn section(profile: &str, tuning: Tuning, found: [&Found; 3], noise: &str) -> Section {
    let [mine, pacemaker, keepalived] = found;
    let columns =
        ["cluster", "what"].into_iter().chain(SPREAD).chain(["against pacemaker", "two owners"]);
    let mut section = Section::table(&format!("Service address, profile {profile}"), columns)
        .note("Milliseconds from the blow (or the command) until another node answers a client.")
        .note(noise.to_owned());
    let peer = pacemaker.power.median();
    let advert = if tuning == Tuning::Fast { "0.1 s" } else { "1 s" };
    mine.row(&mut section, "ours", peer);
    pacemaker.row(&mut section, &format!("pacemaker on {}", tuning.name()), peer);
    keepalived.row(&mut section, &format!("keepalived, advert {advert}"), peer);
    section.values = json!({ "ours": mine, "pacemaker": pacemaker, "keepalived": keepalived });
    section
}

/// Waits until a node other than `old` answers; how long after `zero`.
fn wait_for_other(prober: &Prober, old: u16, zero: Duration) -> Result<(f64, u16)> {
    while prober.now() < zero + PATIENCE {
        let answers = prober.so_far();
        let other = answers.answers.iter().find(|a| !a.to_all && a.at >= zero && a.node != old);
        if let Some(answer) = other {
            return Ok(((answer.at - zero).as_secs_f64() * 1e3, answer.node));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Err(LabError(format!("nobody but node {old} answered within {} s", PATIENCE.as_secs())))
}

/// The node that answers now.
fn owner(prober: &Prober) -> Result<u16> {
    let since = prober.now();
    while prober.now() < since + PATIENCE {
        let answers = prober.so_far();
        if let Some(last) = answers.answers.iter().rev().find(|a| !a.to_all && a.at >= since) {
            return Ok(last.node);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(LabError("nobody answers for the service address".into()))
}

/// Our cluster with a group that has one address.
struct OurService {
    ours: Ours,
    address: std::net::Ipv4Addr,
}

impl OurService {
    fn up(dir: &Path, profile: &str) -> Result<Self> {
        let ours = Ours::up(dir, profile)?;
        let address = ours.lab.service_address(0, 1);
        let document = dir.join("cluster-document.toml");
        fs::write(&document, group_document(address))?;
        let path = document.display().to_string();
        let output = ours.lab.vedette("n1", &["config", "apply", &path, "--yes"])?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(LabError(format!("the group was not accepted: {why}")));
        }
        Ok(Self { ours, address })
    }

    /// Power-off of the owner, a planned move back and forth, the death of the owner's agent.
    fn trial(&self, trial: usize, found: &mut Found) -> Result<()> {
        self.wait_until_whole()?;
        let prober = Prober::start(&self.ours.lab, 0, self.address)?;
        let old = owner(&prober)?;
        let name = format!("n{old}");
        spread_phase(trial);
        let zero = prober.now();
        self.ours.lab.kill(&name, Victim::Power)?;
        let (took, new) = wait_for_other(&prober, old, zero)?;
        found.power.push(took);
        found.doubles += doubles(&prober.stop()?);
        self.ours.lab.restart(&name)?;
        self.wait_until_whole()?;
        self.planned_move(new, old, found)?;
        self.agent_dies(found)
    }

    fn planned_move(&self, from: u16, to: u16, found: &mut Found) -> Result<()> {
        let prober = Prober::start(&self.ours.lab, 0, self.address)?;
        owner(&prober)?;
        let zero = prober.now();
        let target = format!("n{to}");
        self.ours.lab.vedette("n1", &["group", "move", "web", "--to", &target])?;
        let (took, _) = wait_for_other(&prober, from, zero)?;
        found.moves.push(took);
        found.doubles += doubles(&prober.stop()?);
        self.wait_until_whole()
    }

    /// The longest time without an answer around the death of the owner's agent.
    fn agent_dies(&self, found: &mut Found) -> Result<()> {
        let prober = Prober::start(&self.ours.lab, 0, self.address)?;
        let name = format!("n{}", owner(&prober)?);
        self.ours.lab.kill(&name, Victim::Agent)?;
        self.wait_until_whole()?;
        let answers = prober.stop()?;
        found.agent.push(answers.outage().as_secs_f64() * 1e3);
        found.doubles += doubles(&answers);
        Ok(())
    }

    fn wait_until_whole(&self) -> Result<()> {
        self.ours.wait_until_healthy()?;
        self.ours.lab.wait_for("the group to be online", PATIENCE, |_| {
            let group = self.ours.get("n1", "/api/v1/groups/web");
            let manager = self.ours.get("n1", "/api/v1/manager");
            (group["state"] == "ONLINE" && manager["in_progress"].is_null()).then_some(())
        })
    }
}

fn group_document(address: std::net::Ipv4Addr) -> String {
    format!(
        "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{address}/24\"\n"
    )
}

fn doubles(answers: &Answers) -> usize {
    answers.doubly_owned().len()
}

/// A peer's cluster.
struct Theirs {
    cluster: Corosync,
}

impl Theirs {
    fn of(cluster: Corosync) -> Result<Self> {
        Ok(Self { cluster })
    }

    fn trial(&mut self, trial: usize, found: &mut Found) -> Result<()> {
        let prober = self.cluster.probe()?;
        let old = owner(&prober)?;
        spread_phase(trial);
        let zero = prober.now();
        self.cluster.power_off(usize::from(old))?;
        let (took, new) = wait_for_other(&prober, old, zero)?;
        found.power.push(took);
        self.cluster.power_on(usize::from(old))?;
        if self.cluster.stack() == Stack::Pacemaker {
            self.cluster.wait_until_online(PATIENCE)?;
            let zero = prober.now();
            let target = format!("node{old}");
            let moved = ["--move", "-r", "vip", "-N", &target];
            self.cluster.inside(usize::from(new), "crm_resource", &moved)?;
            let (took, _) = wait_for_other(&prober, new, zero)?;
            found.moves.push(took);
            self.cluster.inside(usize::from(new), "crm_resource", &["--clear", "-r", "vip"])?;
        } else {
            settle(&prober, new)?;
        }
        found.doubles += doubles(&prober.stop()?);
        Ok(())
    }
}

/// Keepalived tells nobody how it does: its address has to be answered by one node for two seconds.
fn settle(prober: &Prober, owner: u16) -> Result<()> {
    let since = prober.now();
    while prober.now() < since + Duration::from_secs(2) {
        std::thread::sleep(Duration::from_millis(50));
    }
    let answers = prober.so_far();
    let others = answers.answers.iter().any(|a| a.at >= since && a.node != owner);
    if others { Err(LabError("keepalived moved the address back".into())) } else { Ok(()) }
}

const _: () = assert!(NODES == 3, "the peers' configurations are written for three nodes");
