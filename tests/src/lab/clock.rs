//! Wall clocks of nodes that are off: a library that is preloaded into what runs on a node moves its wall
//! clock and leaves the monotonic ones alone, as somebody does who sets a clock.
//!
//! The programs of a node map one file with the offset in it: writing it sets the clocks of all that run.
//! A program that was started without the library keeps the machine's clock.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Lab, LabError, Result};

/// Source of the library.
const SOURCE: &str = include_str!("clock.c");

/// The file of a node that says by how many seconds its clock is ahead.
fn offset_file(node_dir: &Path) -> PathBuf {
    node_dir.join("clock")
}

/// The library, in the directory of the lab, where the directories of its nodes are.
fn library(node_dir: &Path) -> PathBuf {
    node_dir.with_file_name("clock.so")
}

/// Gives `command` the clock of the node that it is for, if that has one of its own.
pub(super) fn give(node_dir: &Path, command: &mut Command) {
    let file = offset_file(node_dir);
    if file.exists() {
        command.env("LD_PRELOAD", library(node_dir)).env("VEDETTE_LAB_CLOCK", file);
    }
}

/// In place: whoever has the file mapped sees it.
fn write(file: &Path, seconds: i64) -> io::Result<()> {
    use std::io::Write;
    let mut file = fs::File::options().create(true).write(true).truncate(false).open(file)?;
    file.write_all(&seconds.to_ne_bytes())
}

impl Lab {
    /// Sets the wall clock of a node to so many seconds ahead of the machine's: at once for what was
    /// started since it has a clock of its own, for the rest with its next start.
    ///
    /// # Errors
    /// If there is no such node or the library cannot be built.
    pub fn set_clock(&self, name: &str, seconds: i64) -> Result<()> {
        let dir = &self.node(name)?.dir;
        if !library(dir).exists() {
            build(dir)?;
        }
        Ok(write(&offset_file(dir), seconds)?)
    }

    /// Gives every node the machine's clock back.
    pub(super) fn right_clocks(&self) -> Result<()> {
        for node in &self.sandbox.nodes {
            let file = offset_file(&node.dir);
            if file.exists() {
                // What runs has it mapped and goes on with a clock that is right.
                write(&file, 0)?;
                fs::remove_file(&file)?;
            }
        }
        Ok(())
    }
}

fn build(node_dir: &Path) -> Result<()> {
    let library = library(node_dir);
    let source = library.with_extension("c");
    fs::write(&source, SOURCE)?;
    let mut compiler = Command::new("cc");
    compiler.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    let output = compiler.arg(&library).arg(&source).output().map_err(|error| {
        LabError(format!("A clock cannot be moved without cc ({error}): apt-get install gcc."))
    })?;
    if output.status.success() {
        return Ok(());
    }
    Err(LabError(format!("cc: {}", String::from_utf8_lossy(&output.stderr).trim())))
}
