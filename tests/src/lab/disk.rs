//! Disks of nodes that are full: a small file system of its own for the state directory of one node, and a
//! file that fills it to the last byte.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use vedette::sandbox::SandboxNode;

use super::{Lab, LabError, Result, Victim};

/// The state directory as it was before it got a disk of its own.
fn set_aside(node: &SandboxNode) -> PathBuf {
    node.dir.join("state.aside")
}

fn filler(node: &SandboxNode) -> PathBuf {
    node.state_dir().join("filler")
}

impl Lab {
    /// Gives the state directory of a node a disk of its own, with so much room beyond what is in it; the
    /// daemon is stopped, and the node booted anew: a machine that runs does not see what is mounted for it.
    ///
    /// # Errors
    /// If it has one already, or that cannot be mounted.
    pub fn give_small_disk(&self, name: &str, room: u64) -> Result<()> {
        let node = self.node(name)?;
        let (state, aside) = (node.state_dir(), set_aside(node));
        if aside.exists() {
            return Err(LabError(format!("{name} has a disk of its own already.")));
        }
        self.switch_off(name)?;
        let size = room + size_of(&state)?;
        fs::rename(&state, &aside)?;
        fs::create_dir(&state)?;
        let options = format!("size={size},mode=0700");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "vedette-lab"]).arg(&state);
        if !mount.status()?.success() {
            return Err(LabError(format!("{} cannot be mounted.", state.display())));
        }
        copy(&aside, &state)?;
        self.restart(name)
    }

    /// Fills that disk until so many bytes are left.
    ///
    /// # Errors
    /// If the node has no disk of its own.
    pub fn fill_disk(&self, name: &str, left: u64) -> Result<()> {
        let node = self.node(name)?;
        if !set_aside(node).exists() {
            return Err(LabError(format!(
                "{name} has no disk of its own: it would be the machine's."
            )));
        }
        let mut file = File::options().create(true).append(true).open(filler(node))?;
        let mut missing = room(&node.state_dir())?.saturating_sub(left);
        let block = vec![0u8; 64 << 10];
        while missing > 0 {
            let part = block.len().min(usize::try_from(missing).unwrap_or(usize::MAX));
            match file.write(&block[..part]) {
                Ok(written) => missing -= (written as u64).min(missing),
                Err(error) if error.kind() == io::ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes room on that disk again.
    ///
    /// # Errors
    /// If there is nothing to remove.
    pub fn free_disk(&self, name: &str) -> Result<()> {
        Ok(fs::remove_file(filler(self.node(name)?))?)
    }

    /// Ends what runs on a node in good order, and takes its power away.
    fn switch_off(&self, name: &str) -> Result<()> {
        if self.plan.guard_of(name).is_some() {
            self.stop(name)?;
        }
        if self.plan.holder_of(name).is_some() {
            self.kill(name, Victim::Power)?;
        }
        Ok(())
    }

    /// Gives every node its place on the machine's disk back, with what it wrote meanwhile; a daemon that
    /// ran is restarted.
    pub(super) fn right_disks(&self) -> Result<()> {
        for node in &self.sandbox.nodes {
            let (state, aside) = (node.state_dir(), set_aside(node));
            if !aside.exists() {
                continue;
            }
            let ran = self.plan.guard_of(&node.name).is_some();
            self.switch_off(&node.name)?;
            let _ = fs::remove_file(filler(node));
            fs::remove_dir_all(&aside)?;
            copy(&state, &aside)?;
            unmount(node);
            fs::remove_dir(&state)?;
            fs::rename(&aside, &state)?;
            if ran {
                self.restart(&node.name)?;
            }
        }
        Ok(())
    }
}

/// Takes the disk of a node away, if it has one, whoever still uses it.
pub(super) fn unmount(node: &SandboxNode) {
    if set_aside(node).exists() {
        let _ = Command::new("umount").arg("--lazy").arg(node.state_dir()).status();
    }
}

fn room(path: &Path) -> Result<u64> {
    let found = nix::sys::statvfs::statvfs(path).map_err(io::Error::from)?;
    Ok(found.blocks_available().saturating_mul(found.fragment_size()))
}

/// What is in a directory, in bytes of whole pages.
fn size_of(path: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let data = entry.metadata()?;
        let more = if data.is_dir() { size_of(&entry.path())? } else { data.len() };
        sum += more.next_multiple_of(4_096);
    }
    Ok(sum)
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status()?;
    if status.success() {
        return Ok(());
    }
    Err(LabError(format!("{} cannot be copied to {}.", from.display(), to.display())))
}
