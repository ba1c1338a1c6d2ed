//! Kills control groups: every process in them and below, and the directories as well.
//!
//! `cgroup.kill` reaches processes that ignore signals, fork or hide in a session of their own. The
//! directory goes too, so that whoever comes late with one more process finds no place for it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};

use super::Place;
use crate::cgroup::ControlGroup;

/// Between two looks whether a killed group is empty.
const PAUSE: Duration = Duration::from_millis(2);

/// Kills all of ours and removes them. Answers a sentence for each that is left.
pub(super) fn kill(places: &[Place], deadline: Instant) -> Vec<(String, Place)> {
    let own = places.iter().filter_map(|place| match place {
        Place::Own(directory) => Some((place, directory.as_path())),
        Place::Unit(_) | Place::Engine(_) => None,
    });
    let mut left: Vec<(&Place, &Path, io::Result<bool>)> =
        own.map(|(place, group)| (place, group, kill_one(group))).collect();
    loop {
        left.retain(|(.., outcome)| !matches!(outcome, Ok(true)));
        let killed = left.iter().any(|(.., outcome)| outcome.is_ok());
        if !killed || Instant::now() >= deadline {
            break;
        }
        std::thread::sleep(PAUSE);
        for (_, group, outcome) in left.iter_mut().filter(|(.., outcome)| outcome.is_ok()) {
            // Again and again: somebody may have put a process there in between.
            *outcome = kill_one(group);
        }
    }
    let said = left.iter().map(|(place, group, outcome)| (sentence(group, outcome), *place));
    said.map(|(why, place)| (why, place.clone())).collect()
}

fn sentence(group: &Path, outcome: &io::Result<bool>) -> String {
    let group = group.display();
    match outcome {
        Ok(_) => format!("processes in the control group {group} do not end"),
        Err(error) => format!("the control group {group} cannot be killed: {error}"),
    }
}

/// Kills and removes one. Answers whether it is gone.
fn kill_one(group: &Path) -> io::Result<bool> {
    match statfs(group) {
        Ok(system) if system.filesystem_type() == CGROUP2_SUPER_MAGIC => {}
        Ok(_) => return Err(io::Error::other("it is no control group (version 2)")),
        Err(nix::Error::ENOENT) => return Ok(true),
        Err(error) => return Err(error.into()),
    }
    match ControlGroup::at(group).kill() {
        Err(error) if !gone(&error) => return Err(error),
        _ => {}
    }
    Ok(remove_tree(group))
}

fn gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
}

/// Removes the directory and those in it, which have to go first. Answers whether it is gone.
fn remove_tree(group: &Path) -> bool {
    let entries = fs::read_dir(group).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    match fs::remove_dir(group) {
        Ok(()) => true,
        Err(error) => gone(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A wrong path in the file can do no harm.
    #[test]
    fn what_is_no_control_group_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let failed = kill(&[Place::Own(inner.clone())], Instant::now());
        assert!(failed[0].0.contains("no control group"), "{failed:?}");
        assert!(inner.exists());
    }
}
