//! Nodes whose first process is a systemd of their own (`scripts/private-systemd`): a node is then a machine
//! with control groups and mounts of its own as well, and its daemon sees those alone.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use vedette_node::cgroup::{self, ControlGroup};

use super::namespaces::child_that_runs;
use super::{Lab, LabError, Plan, Result};

/// Boots a systemd.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/private-systemd");

/// How long that may take on a loaded machine.
const BOOT: Duration = Duration::from_secs(30);

/// The control group in which a node's lie, as the machine sees it.
fn group(plan: &Plan, node: &str) -> Option<ControlGroup> {
    Some(ControlGroup::at(cgroup::mount_point()?.join(plan.namespace(node))))
}

/// Starts the first process of a node, and waits until it answers.
pub(super) fn start_holder(plan: &Plan, node: &str) -> Result<u32> {
    let namespace = plan.namespace(node);
    // Of an earlier boot.
    group(plan, node).iter().for_each(ControlGroup::remove);
    let mut command = Command::new("ip");
    command.args(["netns", "exec", &namespace, SCRIPT, &namespace]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).process_group(0);
    let mut maker = command.spawn()?;
    let until = Instant::now() + BOOT;
    loop {
        if maker.try_wait()?.is_some() {
            let said = io::read_to_string(maker.stderr.take().ok_or_else(|| off(node))?)?;
            return Err(LabError(format!("{node} has no systemd: {}", said.trim())));
        }
        if let Some(holder) = booted(maker.id()) {
            std::thread::spawn(move || maker.wait());
            return Ok(holder);
        }
        if Instant::now() >= until {
            return Err(LabError(format!("The systemd of {node} did not start.")));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The systemd of that parent, if it is there and can be asked.
fn booted(parent: u32) -> Option<u32> {
    let holder = child_that_runs(parent, "--system").ok()?;
    Path::new(&format!("/proc/{holder}/root/run/systemd/private")).exists().then_some(holder)
}

/// Removes the control groups of all nodes.
pub(super) fn remove(plan: &Plan) {
    if !plan.systemd {
        return;
    }
    let until = Instant::now() + Duration::from_secs(5);
    for group in plan.nodes().filter_map(|(name, _)| group(plan, &name)) {
        while group.directory().exists() && Instant::now() < until {
            let _ = group.kill();
            group.remove();
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Lab {
    /// Puts a unit on a node.
    ///
    /// # Errors
    /// If the node has no power, or no systemd.
    pub fn install_unit(&self, node: &str, unit: &str, text: &str) -> Result<()> {
        let holder = self.plan.holder_of(node).ok_or_else(|| off(node))?;
        let path = format!("/proc/{holder}/root/run/systemd/system/{unit}");
        Ok(fs::write(path, text)?)
    }

    /// A control group of a node, by its path on that node, as the machine sees it.
    pub fn control_group(&self, node: &str, path: &str) -> PathBuf {
        let group = group(&self.plan, node).map(|group| group.directory().to_owned());
        group.unwrap_or_default().join(path)
    }

    /// Where a unit of a node has its processes, as the machine sees it: `cgroup.events` there says whether
    /// any is alive.
    pub fn unit_group(&self, node: &str, unit: &str) -> PathBuf {
        self.control_group(node, "system.slice").join(unit)
    }
}

fn off(node: &str) -> LabError {
    LabError(format!("{node} is powered off."))
}
