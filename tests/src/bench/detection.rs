//! How long until all survivors know, and agree, that a node has lost its power.
//!
//! Ours and corosync run at the same time on the same machine and are struck in turn, so that what
//! else goes on hits both alike. Zero is just before the first process of the node is killed; then
//! the switch's ports go down. The moments of the blow are spread over the timers' phases.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::corosync::{Corosync, NODES, Tuning};
use super::figures::{SPREAD, Section, Series, times};
use super::machine::Noise;
use super::ours::{Ours, Taken};
use super::{Progress, Stop};
use crate::lab::Result;

/// A timing of ours, and that of corosync which stands beside it.
const PAIRS: [(&str, Tuning); 2] = [("default", Tuning::Default), ("fast", Tuning::Fast)];

/// Longest time that is waited for corosync.
const PATIENCE_MS: f64 = 60_000.0;

/// Both tables of this measurement, one a timing.
///
/// # Errors
/// If a cluster cannot be formed, or does not notice.
pub(super) fn measure(
    dir: &Path,
    trials: usize,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Vec<Section>> {
    PAIRS
        .into_iter()
        .map(|(profile, tuning)| {
            progress(&format!("detection: forming ours ({profile}) and {}", tuning.name()));
            let mut pair = Pair {
                ours: Ours::up(&dir.join(format!("ours-{profile}")), profile)?,
                theirs: Corosync::up(&dir.join(format!("corosync-{profile}")), tuning)?,
                found: Found::default(),
            };
            let noise = Noise::now();
            for trial in 0..trials {
                stop.check()?;
                pair.trial(trial)?;
                progress(&format!("detection, {profile}: {} of {trials}", trial + 1));
            }
            Ok(pair.found.section(profile, tuning, &noise.since()))
        })
        .collect()
}

/// The two that are compared.
struct Pair {
    ours: Ours,
    theirs: Corosync,
    found: Found,
}

/// What was measured so far.
#[derive(Default)]
struct Found {
    member: Blows,
    director: Blows,
    theirs: Series,
}

/// Blows at one kind of node of ours.
#[derive(Default, Serialize)]
struct Blows {
    all: Series,
    first: Series,
    /// Trials in which the cluster was said to be down because of it.
    cluster_down: usize,
}

impl Blows {
    fn push(&mut self, taken: &Taken) {
        self.all.extend(taken.all_ms());
        self.first.extend(taken.first_ms());
        self.cluster_down += usize::from(taken.cluster_was_down());
    }
}

impl Pair {
    /// One blow at a member of ours, one at a node of theirs, one at our director; then all heal.
    fn trial(&mut self, trial: usize) -> Result<()> {
        let (_, members) = self.ours.director()?;
        let victim = &members[trial % members.len()];
        spread_phase(trial);
        self.found.member.push(&self.ours.power_off(victim)?);

        let node = trial % NODES + 1;
        spread_phase(trial);
        self.theirs.forget();
        let zero = self.theirs.power_off(node)?;
        self.found.theirs.push(self.theirs.wait_without(node, PATIENCE_MS)? - zero);

        self.ours.lab.restart(victim)?;
        self.theirs.power_on(node)?;
        self.theirs.wait_until_whole(PATIENCE_MS)?;
        self.ours.wait_until_healthy()?;

        let (director, _) = self.ours.director()?;
        spread_phase(trial);
        self.found.director.push(&self.ours.power_off(&director)?);
        self.ours.lab.restart(&director)?;
        self.ours.wait_until_healthy()
    }
}

/// Waits for a part of a second that is another one in every trial.
pub(super) fn spread_phase(trial: usize) {
    let part = (trial as f64 * 0.618_034).fract();
    std::thread::sleep(Duration::from_secs_f64(0.3 + part));
}

impl Found {
    fn section(&self, profile: &str, tuning: Tuning, noise: &str) -> Section {
        let last = ["corosync's p50 ÷ p50", "cluster said to be down"];
        let columns = [&["ms"][..], &SPREAD[..], &last[..]].concat();
        let mut section = Section::table(
            &format!(
                "Power-off of a node → all survivors agree that it is down, profile `{profile}`"
            ),
            columns,
        )
        .note(
            "Ours: every survivor's `/api/v1/watch` has shown the committed, durable record. \
             Corosync: every survivor's libquorum has notified. Three nodes, two networks, both \
             clusters up at the same time and struck in turn.",
        )
        .note(noise);
        let peer = self.theirs.median();
        for (name, blows) in
            [("ours, a member", &self.member), ("ours, the director", &self.director)]
        {
            let last = [times(blows.all.median(), peer), blows.cluster_down.to_string()];
            section.row(std::iter::once(name.to_owned()).chain(blows.all.spread()).chain(last));
        }
        let last = [times(peer, peer), String::new()];
        section
            .row(std::iter::once(tuning.name().to_owned()).chain(self.theirs.spread()).chain(last));
        section.values =
            json!({ "member": self.member, "director": self.director, "corosync": self.theirs });
        section
    }
}
