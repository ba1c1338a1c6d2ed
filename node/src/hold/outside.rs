//! Ends what lives in control groups that others made: units of systemd, and what engines run where a resource
//! told them to, without systemd and without the engine.
//!
//! Killing such a control group needs neither its manager nor a program, so it works while both hang. That a unit
//! stays down is prepared when it is started: [`crate::resource`] takes it into a group by a drop-in
//! that lets systemd start it only where the group's own directory is, and never by itself. An engine is to be told
//! not to restart what it runs.

use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::Place;
use crate::cgroup::{ControlGroup, of_engine, of_unit};

/// Between two looks whether what was killed has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// So long nothing of them was seen: a start that systemd or an engine had decided on a moment before has come to
/// its first process by then.
const SETTLED: Duration = Duration::from_millis(10);

/// The same for engines, which no condition keeps from a start that they were asked for a moment before.
const ENGINE_SETTLED: Duration = Duration::from_millis(100);

/// Control groups that can be killed: a wrong path in the file can do no harm, and never ends who reads it.
fn groups(place: &Place) -> Vec<ControlGroup> {
    let is_one = |group: &ControlGroup| {
        statfs(group.directory()).is_ok_and(|it| it.filesystem_type() == CGROUP2_SUPER_MAGIC)
    };
    match place {
        Place::Own(_) => Vec::new(),
        Place::Unit(unit) => of_unit(unit),
        Place::Engine(path) => {
            let all = of_engine(path).into_iter();
            all.filter(|group| is_one(group) && !group.has_this_process()).collect()
        }
    }
}

fn is_alive(place: &Place) -> bool {
    match place {
        Place::Own(_) => false,
        Place::Unit(unit) => of_unit(unit).iter().any(ControlGroup::is_populated),
        Place::Engine(path) => of_engine(path).iter().any(ControlGroup::is_populated),
    }
}

fn sentence(place: &Place) -> String {
    match place {
        Place::Own(group) => {
            format!("processes in the control group {} do not end", group.display())
        }
        Place::Unit(unit) => format!("processes of the unit {unit} do not end"),
        Place::Engine(path) => format!("processes in the control group {path} do not end"),
    }
}

/// Kills what they run at this moment.
pub(super) fn kill(all: &[Place]) {
    for group in all.iter().flat_map(groups) {
        // What fails is seen by `end`.
        let _ = group.kill();
    }
}

/// Kills until nothing of those of others is alive. Answers a sentence for each that is left.
pub(super) fn end(all: &[Place], deadline: Instant) -> Vec<(String, Place)> {
    let others = || all.iter().filter(|it| !matches!(it, Place::Own(_)));
    if others().next().is_none() {
        return Vec::new();
    }
    let has_engine = all.iter().any(|it| matches!(it, Place::Engine(_)));
    let settled = if has_engine { ENGINE_SETTLED } else { SETTLED };
    let mut quiet_since = Instant::now();
    loop {
        let alive: Vec<&Place> = others().filter(|it| is_alive(it)).collect();
        let now = Instant::now();
        if now >= deadline {
            return alive.into_iter().map(|it| (sentence(it), it.clone())).collect();
        }
        if !alive.is_empty() {
            kill(all);
            quiet_since = Instant::now();
        } else if now - quiet_since >= settled {
            return Vec::new();
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A path that leads to this very process is not killed, and is not said to be empty either.
    #[test]
    fn who_kills_is_not_killed() {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
        let engine = Place::Engine(own.to_owned());
        assert_eq!(groups(&engine), []);
        kill(std::slice::from_ref(&engine));
        let left = end(std::slice::from_ref(&engine), Instant::now());
        assert_eq!(left.len(), usize::from(is_alive(&engine)), "{left:?}");
    }
}
