//! Control groups (version 2): where the processes of a resource live, so that all of them can be
//! counted and ended whatever they did to their parents, sessions and names.
//!
//! The tree is `<cgroup2>/vedette/<cluster>-<node>/<group>/<resource>`. Killing a directory kills
//! everything below it. A program is put there before its first instruction
//! ([`crate::process::Program::cgroup`]); one whose directory was removed does not start.
//!
//! `<group>` is made before the guard is told to hold it, and never by a start. The guard removes it
//! when the lease ends, so a start that comes late, by an agent that was stopped in between, finds no
//! place for its processes.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use vedette_core::group::nested_slice;

/// How often to look whether a group is empty: the kernel ends processes in their own time.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where version 2 is mounted on this machine, alone or beside version 1.
pub fn mount_point() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(cgroup2_of)
}

/// `36 35 98:0 / /mnt rw - type source options`
fn cgroup2_of(line: &str) -> Option<PathBuf> {
    let (mount, system) = line.split_once(" - ")?;
    let is = system.split(' ').next() == Some("cgroup2");
    let place = mount.split(' ').nth(4).filter(|_| is)?;
    Some(PathBuf::from(unescaped(place)))
}

/// The kernel writes blank, tab, line end and backslash as `\` and three octal digits.
pub(crate) fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) if *first == b'\\' => {
                bytes.push(byte);
                rest = &after[3..];
            }
            _ => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The directory of all groups of this node: `<cgroup2>/vedette/<cluster>-<node>`; of the
/// cluster's id the first eight characters are enough.
pub fn root(cluster: &str, node: u16) -> Option<PathBuf> {
    let short: String = cluster.chars().filter(char::is_ascii_alphanumeric).take(8).collect();
    mount_point().map(|mount| mount.join("vedette").join(format!("{short}-{node}")))
}

/// The control groups of a unit of the machine's systemd. Sought and not remembered: an administrator may
/// have moved the unit to another slice since. Units of users and of containers are not looked at.
pub fn of_unit(unit: &str) -> Vec<ControlGroup> {
    let Some(mount) = mount_point() else { return Vec::new() };
    let first = std::fs::read_to_string("/proc/1/cgroup").unwrap_or_default();
    let mut found = Vec::new();
    find_unit(&mount.join(root_of_units(&first)), unit, &mut found);
    found
}

/// The control groups in which an engine may run what it was told to run in the one of that path below cgroup2.
/// They need not be there.
pub fn of_engine(path: &str) -> Vec<ControlGroup> {
    let Some(mount) = mount_point() else { return Vec::new() };
    let places = std::iter::once(path.to_owned()).chain(nested_slice(path));
    places.map(|place| ControlGroup::at(mount.join(place))).collect()
}

/// Where systemd keeps its slices, by the control groups of the first process: not at the top if the machine
/// is a container that sees those of its host.
fn root_of_units(first: &str) -> &str {
    let whole = first.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    whole.strip_suffix("init.scope").unwrap_or_default()
}

/// A unit's directory has its name, or that with `_` before it where the kernel uses the name itself. Only
/// slices have units in them, and those of users are below a service.
fn find_unit(directory: &Path, unit: &str, found: &mut Vec<ControlGroup>) {
    for group in ControlGroup::at(directory).below() {
        let Some(name) = group.0.file_name().and_then(|name| name.to_str()) else { continue };
        if name == unit || name.strip_prefix('_') == Some(unit) {
            found.push(group);
        } else if name.ends_with(".slice") {
            find_unit(&group.0, unit, found);
        }
    }
}

/// One control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlGroup(PathBuf);

impl ControlGroup {
    /// The control group at a directory, which need not be there.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        &self.0
    }

    /// Makes it, with those above it.
    pub fn make(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.0)
    }

    /// Makes it where the one above it is: whoever may take that away decides whether anything can
    /// be started below.
    ///
    /// # Errors
    /// `NotFound` if the one above it is gone.
    pub fn make_inside(&self) -> io::Result<()> {
        match std::fs::create_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            other => other,
        }
    }

    /// Whether there is a living process in it or below.
    pub fn is_populated(&self) -> bool {
        let events = std::fs::read_to_string(self.0.join("cgroup.events")).unwrap_or_default();
        events.lines().any(|line| line == "populated 1")
    }

    /// Whether this process lives in it or below.
    pub fn has_this_process(&self) -> bool {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
        let place = mount_point().zip(own).map(|(mount, own)| mount.join(own));
        place.is_some_and(|place| place.starts_with(&self.0))
    }

    /// Processes in it and below.
    pub fn processes(&self) -> Vec<i32> {
        let here = std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default();
        let mut found: Vec<i32> = here.lines().filter_map(|line| line.parse().ok()).collect();
        found.extend(self.below().iter().flat_map(Self::processes));
        found
    }

    fn below(&self) -> Vec<Self> {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        folders.map(|entry| Self(entry.path())).collect()
    }

    /// Kills everything in it and below. A group that is not there has nothing to kill.
    pub fn kill(&self) -> io::Result<()> {
        match std::fs::write(self.0.join("cgroup.kill"), "1") {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.0.exists() => Ok(()),
            // Kernels before 5.14 have no such file.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.kill_each(),
            other => other,
        }
    }

    fn kill_each(&self) -> io::Result<()> {
        use nix::sys::signal::{Signal, kill};
        use nix::unistd::Pid;
        for process in self.processes() {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
        Ok(())
    }

    /// Kills what is in it until nothing is, and removes it. Says whether it is empty in time.
    pub async fn end(&self, time: Duration) -> io::Result<bool> {
        let empty = self.empty(time).await?;
        if empty {
            self.remove();
        }
        Ok(empty)
    }

    /// Kills what is in it until nothing is, and leaves it to whoever made it. Says whether it is empty in time.
    pub async fn empty(&self, time: Duration) -> io::Result<bool> {
        let until = Instant::now() + time;
        while self.is_populated() {
            self.kill()?;
            if Instant::now() >= until {
                return Ok(false);
            }
            sleep(LOOK_EVERY).await;
        }
        Ok(true)
    }

    /// Removes it and what is below it, as far as it is empty.
    pub fn remove(&self) {
        self.below().iter().for_each(Self::remove);
        // Not there, or not empty: both may be.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cgroup2_is_found_in_its_line_and_nowhere_else() {
        let line = "41 31 0:38 / /sys/fs/my\\040cgroup rw,relatime - cgroup2 cgroup2 rw";
        assert_eq!(cgroup2_of(line), Some(PathBuf::from("/sys/fs/my cgroup")));
        assert_eq!(cgroup2_of("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"), None);
        assert_eq!(cgroup2_of("nonsense"), None);
    }

    #[test]
    fn a_unit_is_found_in_any_slice_and_in_no_container() {
        let tree = tempfile::tempdir().unwrap();
        for path in [
            "system.slice/web.service/inner",
            "a.slice/a-b.slice/_web.service",
            "system.slice/docker-1.scope/system.slice/web.service",
            "user.slice/user@0.service/app.slice/web.service",
            "lxc/web.service",
        ] {
            std::fs::create_dir_all(tree.path().join(path)).unwrap();
        }
        let mut found = Vec::new();
        find_unit(tree.path(), "web.service", &mut found);
        let mut found: Vec<_> = found.iter().map(ControlGroup::directory).collect();
        found.sort();
        let at = |path: &str| tree.path().join(path);
        assert_eq!(found, [at("a.slice/a-b.slice/_web.service"), at("system.slice/web.service")]);
    }

    #[test]
    fn slices_are_beside_the_first_process_of_systemd() {
        assert_eq!(root_of_units("1:name=systemd:/x\n0::/init.scope\n"), "");
        assert_eq!(root_of_units("0::/lxc/one/init.scope\n"), "lxc/one/");
        assert_eq!(root_of_units("0::/something/else\n"), "");
        assert_eq!(root_of_units(""), "");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_line_holds_never_panics(line in "\\PC{0,80}") {
            let _ = (cgroup2_of(&line), unescaped(&line));
        }
    }
}
