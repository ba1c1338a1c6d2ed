//! What is done to the owner of the group.

use std::fmt;
use std::time::Duration;

use super::PATIENCE;
use super::service::{GROUP, MISCHIEF};
use crate::lab::{Lab, LabError, Result, Victim};

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// A move, and the stop program fails.
    StopFails,
    /// A move, and the stop program says that it stopped, and did not.
    StopLies,
    /// A move, and the stop program hangs.
    StopHangs,
    /// All networks of the owner are cut until another one has the group, then healed.
    Cut,
    /// The same, and its agent stands still.
    CutWithoutAgent,
    /// Its agent is killed.
    KilledAgent,
    /// Its guard is killed.
    KilledGuard,
    /// Guard and agent are killed.
    KilledBoth,
    /// Guard and agent stand still for three seconds.
    StoppedBoth,
    /// The same for a minute, which is longer than anything waits.
    StoppedForAMinute,
    /// A move, and guard and agent are killed while the stop program hangs.
    KilledInStop,
    /// It loses power.
    Power,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::StopFails,
        Self::StopLies,
        Self::StopHangs,
        Self::Cut,
        Self::CutWithoutAgent,
        Self::KilledAgent,
        Self::KilledGuard,
        Self::KilledBoth,
        Self::StoppedBoth,
        Self::StoppedForAMinute,
        Self::KilledInStop,
        Self::Power,
    ];

    /// Does it, and whatever ends it again.
    pub(super) fn inflict(self, lab: &Lab, owner: &str) -> Result<()> {
        match self {
            Self::StopFails => wrong_stop(lab, owner, "fails"),
            Self::StopLies => wrong_stop(lab, owner, "lies"),
            Self::StopHangs => wrong_stop(lab, owner, "hangs"),
            Self::Cut => {
                lab.cut(owner, None, None)?;
                elsewhere(lab, owner)
            }
            Self::CutWithoutAgent => {
                lab.pause(owner, Victim::Agent)?;
                lab.cut(owner, None, None)?;
                elsewhere(lab, owner)?;
                lab.resume(owner)
            }
            Self::KilledAgent => lab.kill(owner, Victim::Agent),
            Self::KilledGuard => {
                lab.kill(owner, Victim::Guard)?;
                elsewhere(lab, owner)
            }
            Self::KilledBoth => {
                lab.kill(owner, Victim::Both)?;
                elsewhere(lab, owner)
            }
            Self::StoppedBoth => stopped(lab, owner, Duration::from_secs(2)),
            Self::StoppedForAMinute => stopped(lab, owner, Duration::from_secs(60)),
            Self::KilledInStop => killed_in_stop(lab, owner),
            Self::Power => {
                lab.kill(owner, Victim::Power)?;
                elsewhere(lab, owner)
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StopFails => "stop program fails",
            Self::StopLies => "stop program stops nothing",
            Self::StopHangs => "stop program hangs",
            Self::Cut => "networks cut and healed",
            Self::CutWithoutAgent => "networks cut, agent stopped",
            Self::KilledAgent => "agent killed",
            Self::KilledGuard => "guard killed",
            Self::KilledBoth => "guard and agent killed",
            Self::StoppedBoth => "guard and agent stopped",
            Self::StoppedForAMinute => "guard and agent stopped for 60 s",
            Self::KilledInStop => "guard and agent killed in a stop",
            Self::Power => "power off",
        })
    }
}

/// Another node than that, as asked.
fn other(lab: &Lab, than: &str) -> Result<String> {
    let mut names = lab.names().into_iter().filter(|name| name != than);
    names.next().ok_or_else(|| LabError("There is only one node.".into()))
}

/// Guard and agent stand still until another node has the group, and for so long after that.
fn stopped(lab: &Lab, owner: &str, length: Duration) -> Result<()> {
    lab.pause(owner, Victim::Both)?;
    elsewhere(lab, owner)?;
    std::thread::sleep(length);
    lab.resume(owner)
}

/// Begins a move with a stop program that goes wrong.
fn begin_move(lab: &Lab, owner: &str, how: &str) -> Result<()> {
    std::fs::write(lab.dir().join(MISCHIEF), how)?;
    let to = other(lab, owner)?;
    let moved = lab.vedette(owner, &["group", "move", GROUP, "--to", &to, "--yes", "--no-wait"])?;
    match moved.status.success() {
        true => Ok(()),
        false => Err(LabError(String::from_utf8_lossy(&moved.stderr).into_owned())),
    }
}

fn killed_in_stop(lab: &Lab, owner: &str) -> Result<()> {
    begin_move(lab, owner, "hangs")?;
    let stopping = lab.wait_for("the stop program to run", PATIENCE, |lab| {
        let group = lab.json(owner, &["group", "show", GROUP, "-o", "json"]).ok()?;
        let instances = group["instances"].as_array()?.iter();
        let mut resources = instances.filter_map(|it| it["resources"].as_array()).flatten();
        let is = |it: &serde_json::Value| it["name"] == "escaped" && it["state"] == "STOPPING";
        resources.any(is).then_some(())
    });
    let killed = stopping.and_then(|()| lab.kill(owner, Victim::Both));
    std::fs::remove_file(lab.dir().join(MISCHIEF))?;
    killed?;
    elsewhere(lab, owner)
}

/// Moves the group while the stop program does not do what it should; then puts that right.
fn wrong_stop(lab: &Lab, owner: &str, how: &str) -> Result<()> {
    let mischief = lab.dir().join(MISCHIEF);
    begin_move(lab, owner, how)?;
    let blocked = lab.wait_for("the group to be blocked", PATIENCE, |lab| {
        let group = lab.json(owner, &["group", "show", GROUP, "-o", "json"]).ok()?;
        (group["state"] == "ERROR").then_some(())
    });
    std::fs::remove_file(&mischief)?;
    blocked?;
    // Its event may need a moment to fail as well.
    lab.wait_for("the group to go on", PATIENCE, |lab| {
        lab.vedette(owner, &["recover", "retry"]).ok()?;
        let group = lab.json(owner, &["group", "show", GROUP, "-o", "json"]).ok()?;
        (group["state"] != "ERROR").then_some(())
    })
}

/// Waits until another node has the group.
fn elsewhere(lab: &Lab, owner: &str) -> Result<()> {
    let asked = other(lab, owner)?;
    lab.wait_for("another owner", PATIENCE, |lab| {
        let group = lab.json(&asked, &["group", "show", GROUP, "-o", "json"]).ok()?;
        let owners = group["owners"].as_array()?;
        let there = group["state"] == "ONLINE" && owners.first().is_some_and(|it| it != owner);
        there.then_some(())
    })
}
