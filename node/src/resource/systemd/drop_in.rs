//! The drop-in by which a unit belongs to a group: `/run/systemd/system/UNIT.d/50-vedette.conf`.
//!
//! It says two things to systemd. `Restart=no`: whether it is restarted is for the cluster to decide, which
//! counts failures. `ConditionPathIsDirectory=` with the control group of the unit's group: that is made before
//! the guard holds the group, and removed by the guard when the lease ends. So whatever wants the unit after
//! that (a restart, a socket, a timer, the boot, an operator), systemd does not start it, without being asked to
//! by anybody at that moment.
//!
//! It is below `/run`: a machine that boots has none before its agent runs, which is why a unit must not be
//! enabled.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

/// Where drop-ins are that last until the machine boots.
const RUNTIME: &str = "/run/systemd/system";

/// Its name in the unit's directory.
const NAME: &str = "50-vedette.conf";

/// Its path.
pub(super) fn path(unit: &str) -> PathBuf {
    Path::new(RUNTIME).join(format!("{unit}.d")).join(NAME)
}

/// Writes it if it says something else. Answers whether it did.
pub(super) fn write(unit: &str, place: &Path) -> io::Result<bool> {
    let (path, text) = (path(unit), text(place));
    if std::fs::read_to_string(&path).is_ok_and(|there| there == text) {
        return Ok(false);
    }
    // Without systemd there is no directory above it, and whoever makes that one seems to have booted with it.
    match path.parent().map(std::fs::create_dir) {
        Some(Err(error)) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let next = path.with_extension("new");
    std::fs::write(&next, text)?;
    std::fs::rename(next, path)?;
    Ok(true)
}

fn text(place: &Path) -> String {
    let place = place.display().to_string().replace('%', "%%");
    format!(
        "# Vedette: this unit is a resource of a group, and runs where the group is.\n[Unit]\n{CONDITION}{place}\n\
         [Service]\nRestart=no\n"
    )
}

const CONDITION: &str = "ConditionPathIsDirectory=";

/// Removes those of units that are no resources any more, as far as they are of groups below `root`. Answers
/// whether there were any.
pub(super) fn remove_others(wanted: &BTreeMap<String, PathBuf>, root: &Path) -> io::Result<bool> {
    remove_others_in(Path::new(RUNTIME), wanted, root)
}

fn remove_others_in(
    runtime: &Path,
    wanted: &BTreeMap<String, PathBuf>,
    root: &Path,
) -> io::Result<bool> {
    let entries = match std::fs::read_dir(runtime) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    let ours = format!("{CONDITION}{}/", root.display().to_string().replace('%', "%%"));
    let mut removed = false;
    for directory in entries.flatten().map(|entry| entry.path()) {
        let name = directory.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let Some(unit) = name.strip_suffix(".d") else { continue };
        let file = directory.join(NAME);
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        if wanted.contains_key(unit) || !text.contains(&ours) {
            continue;
        }
        std::fs::remove_file(file)?;
        // Others may have drop-ins there.
        let _ = std::fs::remove_dir(directory);
        removed = true;
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_ours_and_not_wanted_is_removed() {
        let runtime = tempfile::tempdir().unwrap();
        let root = Path::new("/sys/fs/cgroup/vedette/c-1");
        let add = |unit: &str, text: &str| {
            let directory = runtime.path().join(format!("{unit}.d"));
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(directory.join(NAME), text).unwrap();
        };
        add("web.service", &text(&root.join("web")));
        add("old.service", &text(&root.join("old")));
        add("other.service", &text(Path::new("/sys/fs/cgroup/vedette/c-12/old")));
        let wanted = BTreeMap::from([("web.service".to_owned(), root.join("web"))]);
        assert!(remove_others_in(runtime.path(), &wanted, root).unwrap());
        let there = |unit: &str| runtime.path().join(format!("{unit}.d")).exists();
        assert!(there("web.service") && there("other.service") && !there("old.service"));
        assert!(!remove_others_in(runtime.path(), &wanted, root).unwrap());
        assert!(!remove_others_in(&runtime.path().join("none"), &wanted, root).unwrap());
    }
}
