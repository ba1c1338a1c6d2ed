//! Rules and recovery programs as they are on disk.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vedette_core::rules::{RuleSet, file};

use super::super::edit::read_at_most;
use super::super::fail::{Failure, Result};

/// A rules file and the programs that go with it.
pub(super) struct Files {
    /// What the rules file is called.
    pub(super) name: String,
    /// Rules, and programs by the path that rules name.
    pub(super) set: RuleSet,
    /// The file of each program, by that path.
    pub(super) places: BTreeMap<String, String>,
    /// Programs that no rule names.
    pub(super) useless: Vec<PathBuf>,
}

impl Files {
    /// Reads the file, and every `*.rp` of the folder. A program belongs to the rules that name a
    /// path with its file name.
    pub(super) fn read(path: &Path, folder: Option<&Path>) -> Result<Self> {
        let text = read(path)?;
        let (rules, _) = file::parse("", &text);
        let mut files = Self {
            name: path.display().to_string(),
            set: RuleSet { text, ..RuleSet::default() },
            places: BTreeMap::new(),
            useless: Vec::new(),
        };
        for program in folder.map_or(Ok(Vec::new()), programs)? {
            let text = read(&program)?;
            let name = program.file_name().unwrap_or_default();
            let paths: BTreeMap<String, String> = rules
                .iter()
                .filter(|rule| Path::new(&rule.program).file_name() == Some(name))
                .map(|rule| (rule.program.clone(), text.clone()))
                .collect();
            if paths.is_empty() {
                files.useless.push(program.clone());
            }
            let place = |path: &String| (path.clone(), program.display().to_string());
            files.places.extend(paths.keys().map(place));
            files.set.programs.extend(paths);
        }
        Ok(files)
    }
}

/// The recovery programs in a folder, in the order of their names.
fn programs(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |error: std::io::Error| {
        Failure::failed(
            format!("the folder {} cannot be read: {error}", folder.display()),
            "Name the folder of the recovery programs with --programs.",
        )
    };
    let entries = std::fs::read_dir(folder).map_err(failed)?;
    let mut found = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<Vec<PathBuf>>>()
        .map_err(failed)?;
    found.retain(|path| path.extension().is_some_and(|extension| extension == "rp"));
    found.sort();
    Ok(found)
}

/// More is refused by the cluster; a device that never ends must not fill the memory.
const LONGEST: u64 = 1 << 20;

fn read(path: &Path) -> Result<String> {
    read_at_most(path, LONGEST)
}
