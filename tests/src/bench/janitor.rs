//! Takes down what a benchmark made when the benchmark dies, whatever it dies of.
//!
//! The janitor is a process of its own, in a process group of its own: a Ctrl-C or a SIGKILL that
//! ends the benchmark leaves the janitor alive to clean up behind it.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use vedette::sandbox::is_alive;

use super::corosync;
use crate::lab::{Lab, Result};

/// A janitor at work; without one, nobody cleans up.
#[derive(Debug)]
pub(super) struct Janitor(Child);

impl Janitor {
    /// Starts a janitor for this process and everything below `dir`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub(super) fn start(dir: &Path) -> Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["janitor", "--owner", &std::process::id().to_string()])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0);
        Ok(Self(command.spawn()?))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What the janitor does: waits for the death of `owner`, then removes its processes, namespaces
/// and files.
pub fn keep(owner: u32, dir: &Path) {
    while is_alive(owner) {
        std::thread::sleep(Duration::from_millis(200));
    }
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if let Ok(mut lab) = Lab::open(&entry.path()) {
            lab.take_down();
        }
    }
    corosync::sweep();
    let _ = std::fs::remove_dir_all(dir);
}
