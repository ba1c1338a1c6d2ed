//! Event scripts (spec H13): ours, written out for the shell to find, and a site's, which go before.
//!
//! A recovery program names a script (`"node_up"`) or a path (`"/opt/site/tell --all"`). A name is
//! looked for in the site's folder first, then among the built-in scripts; a path is taken as it is.
//! What cannot be run is said before anything is tried, with what would help.

use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The folder of a site's own event scripts.
pub const SITE: &str = "/etc/vedette/events";

/// The folder of the built-in scripts, within the directory of the node's state.
const FOLDER: &str = "events";

/// What the scripts share. It is read by them, and is no script.
const LIBRARY: (&str, &str) = ("functions", include_str!("../events/functions"));

macro_rules! scripts {
    ($($name:literal),+ $(,)?) => {
        /// The built-in event scripts, by name.
        pub const BUILT_IN: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../events/", $name)))),+];
    };
}

scripts![
    "node_up",
    "node_up_complete",
    "node_down",
    "node_down_complete",
    "network_up",
    "network_up_complete",
    "network_down",
    "network_down_complete",
    "swap_adapter",
    "swap_adapter_complete",
    "join_standby",
    "fail_standby",
    "reconfig_topology",
    "reconfig_topology_complete",
    "reconfig_resource_release",
    "reconfig_resource_acquire",
    "reconfig_resource_complete",
    "group_release",
    "group_acquire",
];

/// Writes the built-in scripts into the directory of the node's state, where they differ from what
/// is there. Answers their folder.
///
/// # Errors
/// If something cannot be written.
pub fn materialise(state_dir: &Path) -> io::Result<PathBuf> {
    let folder = state_dir.join(FOLDER);
    std::fs::create_dir_all(&folder)?;
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o755))?;
    for (name, text) in BUILT_IN.iter().chain([&LIBRARY]) {
        let path = folder.join(name);
        if !is_same(&path, text) {
            replace(&path, text)?;
        }
    }
    Ok(folder)
}

/// Whether that file has that text and may be run by everybody.
fn is_same(path: &Path, text: &str) -> bool {
    let usable = std::fs::symlink_metadata(path)
        .is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o7777 == 0o755);
    usable && std::fs::read(path).is_ok_and(|present| present == text.as_bytes())
}

/// Puts a whole new file in the place of another: one that runs just now keeps its own.
fn replace(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = std::fs::remove_file(&new);
    let mut file =
        std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&new)?;
    file.write_all(text.as_bytes())?;
    // The mode as it is meant, whatever the umask.
    file.set_permissions(PermissionsExt::from_mode(0o755))?;
    drop(file);
    std::fs::rename(&new, path)
}

/// Why a command cannot be run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what}. {advice}")]
pub struct Unusable {
    /// One sentence without its full stop.
    pub what: String,
    /// What to do.
    pub advice: String,
}

impl Unusable {
    fn new(what: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { what: what.into(), advice: advice.into() }
    }
}

/// The program and the arguments of a command line of a recovery program. `built_in` is the folder
/// that [`materialise`] wrote.
///
/// # Errors
/// If there is no such program, or it cannot be run.
pub fn resolve(built_in: &Path, line: &str) -> Result<Vec<String>, Unusable> {
    resolve_in(Path::new(SITE), built_in, line)
}

/// The same with another folder of the site's scripts.
///
/// # Errors
/// If there is no such program, or it cannot be run.
pub fn resolve_in(site: &Path, built_in: &Path, line: &str) -> Result<Vec<String>, Unusable> {
    let mut words = line.split_whitespace();
    let Some(command) = words.next() else {
        return Err(Unusable::new("the command is empty", "Correct the recovery program."));
    };
    let path = find(site, built_in, command)?;
    let program = path.to_str().map(str::to_owned).ok_or_else(|| {
        let what = format!("the path {} has letters that are not UTF-8", path.display());
        Unusable::new(what, "Use another folder.")
    })?;
    Ok(std::iter::once(program).chain(words.map(str::to_owned)).collect())
}

/// Why a command would not run on this node, if it would not; for those who check a recovery
/// program. Built-in scripts are wherever a daemon runs.
pub fn missing(line: &str) -> Option<Unusable> {
    let name = line.split_whitespace().next().unwrap_or_default();
    let replaced = Path::new(SITE).join(name).symlink_metadata().is_ok();
    if BUILT_IN.iter().any(|(known, _)| *known == name) && !replaced {
        return None;
    }
    resolve(Path::new(SITE), line).err()
}

fn find(site: &Path, built_in: &Path, command: &str) -> Result<PathBuf, Unusable> {
    if command.starts_with('/') {
        return runnable(PathBuf::from(command));
    }
    if command.contains('/') || command == LIBRARY.0 {
        return Err(Unusable::new(
            format!("{command} is neither the name of an event script nor a whole path"),
            "Correct the recovery program: vedette rules check FILE.",
        ));
    }
    // Whatever a site has put there is meant, even if it cannot be run.
    if site.join(command).symlink_metadata().is_ok() {
        return runnable(site.join(command));
    }
    if BUILT_IN.iter().any(|(name, _)| *name == command) || built_in.join(command).is_file() {
        return runnable(built_in.join(command));
    }
    Err(Unusable::new(
        format!("there is no event script {command}, built in or in {}", site.display()),
        format!("Put it into {} on every node, or name its whole path.", site.display()),
    ))
}

/// That path, if it is a file that may be run.
fn runnable(path: PathBuf) -> Result<PathBuf, Unusable> {
    let shown = path.display();
    let data = std::fs::metadata(&path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::new(
            format!("{shown} does not exist on this node"),
            "Put it there on every node, or correct the recovery program.",
        ),
        _ => Unusable::new(
            format!("{shown} cannot be looked at: {error}"),
            "Correct the permissions of its folders.",
        ),
    })?;
    if !data.is_file() {
        return Err(Unusable::new(format!("{shown} is no file"), "Name a program."));
    }
    if data.permissions().mode() & 0o111 == 0 {
        return Err(Unusable::new(
            format!("{shown} is not executable"),
            format!("Make it so on every node: chmod +x {shown}."),
        ));
    }
    Ok(path)
}

#[cfg(test)]
mod tests;
