//! How long until an agent that was killed is back: started again by its guard, adopted by the
//! cluster, and shown as RUNNING everywhere, while its host stays UP.
//!
//! A guard forgives a crash after ten seconds of life and is slower with an agent that keeps dying;
//! the crash that is measured is one out of the blue, so every victim has lived longer than that.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::json;

use super::figures::{SPREAD, Section, Series};
use super::machine::Noise;
use super::ours::Ours;
use super::{Progress, Stop};
use crate::lab::Result;

/// The table of this measurement, on a cluster that runs.
///
/// # Errors
/// If an agent does not come back.
pub(super) fn measure(
    ours: &Ours,
    trials: usize,
    stop: &Stop,
    progress: Progress<'_>,
) -> Result<Section> {
    let (mut member, mut director) = (Blows::default(), Blows::default());
    let noise = Noise::now();
    let mut born: Births =
        ours.lab.names().into_iter().map(|name| (name, Instant::now())).collect();
    for trial in 0..trials {
        stop.check()?;
        let (_, members) = ours.director()?;
        member.strike(ours, &members[trial % members.len()], &mut born)?;
        let (victim, _) = ours.director()?;
        director.strike(ours, &victim, &mut born)?;
        progress(&format!("agent killed: {} of {trials}", trial + 1));
    }
    let last = ["return not recorded", "more than the agent was affected"];
    let columns = [&["ms"][..], &SPREAD[..], &last[..]].concat();
    let mut section = Section::table(
        "Agent killed → started again, adopted, RUNNING everywhere",
        columns,
    )
    .note(
        "SIGKILL of an agent that had run for more than ten seconds. Corosync has nothing to set \
             beside this: nobody starts it again, and pacemaker fences the node.",
    )
    .note(noise.since());
    for (name, blows) in [("a member's agent", &member), ("the director's agent", &director)] {
        let last = [blows.missed.to_string(), blows.disturbed.to_string()];
        section.row(std::iter::once(name.to_owned()).chain(blows.times.spread()).chain(last));
    }
    section.values = json!({ "member": member, "director": director });
    Ok(section)
}

/// How long an agent must have lived, and the cluster been healthy, before the blow.
const LIFE: Duration = Duration::from_secs(11);
const QUIET: Duration = Duration::from_secs(2);

/// When each node's agent was last known to be new.
type Births = BTreeMap<String, Instant>;

/// Blows at one kind of agent.
#[derive(Default, Serialize)]
struct Blows {
    times: Series,
    /// Nobody was told within five seconds that the agent is back.
    missed: usize,
    /// Hosts, networks or the cluster were said to have changed.
    disturbed: usize,
}

impl Blows {
    fn strike(&mut self, ours: &Ours, victim: &str, born: &mut Births) -> Result<()> {
        let life = born.get(victim).map(Instant::elapsed).unwrap_or_default();
        std::thread::sleep(LIFE.saturating_sub(life).max(QUIET));
        let taken = ours.kill_agent(victim)?;
        ours.wait_until_healthy()?;
        born.insert(victim.to_owned(), Instant::now());
        self.times.extend(taken.all_ms());
        self.missed += usize::from(taken.all_ms().is_none());
        self.disturbed += usize::from(taken.was_more_than_an_agent());
        Ok(())
    }
}
