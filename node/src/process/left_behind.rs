//! Finds and ends processes that a run has left behind.
//!
//! A process belongs to a run if it is in the run's process group, or if its environment has the
//! run's mark, which children inherit even when they become daemons. Signals go through a process
//! descriptor that is opened before the process is looked at, so a number that was given to
//! another process in between is never hit.

use std::os::fd::AsRawFd;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// The name of the variable that marks the processes of a run.
pub(super) const MARK: &str = "VEDETTE_RUN";

/// The processes of one run.
#[derive(Clone, Debug)]
pub(super) struct LeftBehind {
    /// `NAME=value` as it stands in the environment.
    pub(super) mark: String,
    /// The process group, while its leader was not waited for; afterwards its number may be
    /// somebody else's.
    pub(super) group: Option<i32>,
}

impl LeftBehind {
    /// Whether any process is left; `all` also counts those outside the group.
    pub(super) fn any(&self, all: bool) -> bool {
        processes().any(|pid| self.in_group(pid) || all && self.is_marked(pid))
    }

    /// Sends a signal to every process that is left.
    pub(super) fn signal(&self, signal: i32) {
        for pid in processes() {
            if let Some(process) = open(pid)
                && self.owns(pid)
            {
                send(&process, signal);
            }
        }
    }

    fn owns(&self, pid: i32) -> bool {
        self.in_group(pid) || self.is_marked(pid)
    }

    fn in_group(&self, pid: i32) -> bool {
        self.group.is_some_and(|group| group_of_living(pid) == Some(group))
    }

    fn is_marked(&self, pid: i32) -> bool {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
    }
}

/// Numbers of all processes.
pub(crate) fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// The process group, unless the process has ended and only waits to be waited for.
fn group_of_living(pid: i32) -> Option<i32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may contain anything, so count from the last one.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(1)?.parse().ok()
}

/// Holds a process by its descriptor, which no other process can get.
pub(crate) fn open(pid: i32) -> Option<OwnedFd> {
    // SAFETY: the call takes two integers and touches no memory.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let descriptor = RawFd::try_from(descriptor).ok().filter(|number| *number >= 0)?;
    // SAFETY: the descriptor was just made for us, and nobody else has it.
    Some(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// A process that has ended meanwhile is no failure.
pub(crate) fn send(process: &OwnedFd, signal: i32) {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer for the details is allowed.
    unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), signal, no_info, 0);
    }
}
