//! Ends what units of systemd run, without systemd.
//!
//! Killing a unit's control group needs neither its manager nor a program, so it works while both hang. That
//! it stays down is prepared when it is started: [`crate::resource`] takes the unit into a group by a drop-in
//! that lets systemd start it only where the group's own directory is, and never by itself.

use std::time::{Duration, Instant};

use crate::cgroup::{ControlGroup, of_unit};

/// Between two looks whether a killed unit has ended.
const PAUSE: Duration = Duration::from_millis(2);

/// So long nothing of them was seen: a start that systemd had decided on a moment before has come to its first
/// process by then.
const SETTLED: Duration = Duration::from_millis(10);

/// Kills what they run at this moment.
pub(super) fn kill(units: &[String]) {
    for group in units.iter().flat_map(|unit| of_unit(unit)) {
        // What fails is seen by `end`.
        let _ = group.kill();
    }
}

/// Kills until nothing of them is alive. Answers a sentence for each that is left.
pub(super) fn end(units: &[String], deadline: Instant) -> Vec<String> {
    let mut quiet_since = Instant::now();
    while !units.is_empty() {
        let alive: Vec<&String> = units.iter().filter(|unit| is_alive(unit)).collect();
        let now = Instant::now();
        if now >= deadline {
            let sentence = |unit| format!("processes of the unit {unit} do not end");
            return alive.into_iter().map(sentence).collect();
        }
        if !alive.is_empty() {
            kill(units);
            quiet_since = Instant::now();
        } else if now - quiet_since >= SETTLED {
            break;
        }
        std::thread::sleep(PAUSE);
    }
    Vec::new()
}

fn is_alive(unit: &str) -> bool {
    of_unit(unit).iter().any(ControlGroup::is_populated)
}
