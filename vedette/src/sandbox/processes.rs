//! Processes of a sandbox: where they run, whether they live, and how they are ended.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::SandboxNode;

/// Decides where a process of a node runs: on this machine as it is, or in a namespace.
pub trait Launcher {
    /// Starts `command` for `node`, to be waited for.
    ///
    /// # Errors
    /// If it cannot be started.
    fn spawn(&self, node: &SandboxNode, command: Command) -> io::Result<Child>;

    /// Starts `command` for `node`, to go on by itself.
    ///
    /// # Errors
    /// If it cannot be started.
    fn start(&self, node: &SandboxNode, command: Command) -> io::Result<()>;

    /// Runs `command` for `node` to its end and takes what it prints.
    ///
    /// # Errors
    /// If it cannot be started.
    fn output(&self, node: &SandboxNode, mut command: Command) -> io::Result<Output> {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        self.spawn(node, command)?.wait_with_output()
    }
}

/// Lets `command` write to `log` and outlive a hang-up of the terminal's process group.
///
/// # Errors
/// If the log cannot be opened.
pub fn log_to(command: &mut Command, log: &Path) -> io::Result<()> {
    use std::os::unix::process::CommandExt;
    let file = File::options().create(true).append(true).open(log)?;
    command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).process_group(0);
    Ok(())
}

/// A program by name, in `PATH` and where Debian keeps daemons.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin"), PathBuf::from("/usr/bin")])
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// The guard that runs with this state directory, whoever started it: the process that the lock file
/// names, provided that it holds the file open. A number alone could be somebody else's by now.
pub fn guard_of(state_dir: &Path) -> Option<u32> {
    let lock = fs::canonicalize(state_dir.join("guard.lock")).ok()?;
    let pid: u32 = fs::read_to_string(&lock).ok()?.trim().parse().ok()?;
    let mut files = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.filter_map(Result::ok);
    files.any(|file| fs::read_link(file.path()).is_ok_and(|path| path == lock)).then_some(pid)
}

/// Whether a process exists and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// The children of a process that are no zombies.
pub fn children_of(pid: u32) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok())
        .filter(|child| stat(*child).is_some_and(|(state, parent)| parent == pid && state != 'Z'))
        .collect()
}

/// The agent of a guard.
pub fn agent_of(guard: u32) -> Option<u32> {
    children_of(guard).into_iter().find(|child| is_started_as("agent", *child))
}

/// The reaper of a guard.
pub fn reaper_of(guard: u32) -> Option<u32> {
    children_of(guard).into_iter().find(|child| is_started_as("reaper", *child))
}

/// Whether a word is among those of a process.
fn is_started_as(word: &str, pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    words.split(|byte| *byte == 0).skip(1).any(|it| it == word.as_bytes())
}

/// State letter and parent of a process.
fn stat(pid: u32) -> Option<(char, u32)> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may itself contain blanks and parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// Ends a process: a request first, force after `patience`. Answers when it is gone.
pub fn terminate(pid: u32, patience: Duration) {
    let Ok(raw) = i32::try_from(pid) else { return };
    let _ = kill(Pid::from_raw(raw), Signal::SIGTERM);
    wait_for_end(pid, patience);
    if is_alive(pid) {
        let _ = kill(Pid::from_raw(raw), Signal::SIGKILL);
    }
    wait_for_end(pid, Duration::from_secs(5));
}

/// Waits until a process is gone, for a while.
pub fn wait_for_end(pid: u32, patience: Duration) {
    let deadline = Instant::now() + patience;
    while is_alive(pid) && Instant::now() < deadline {
        if let Ok(raw) = i32::try_from(pid) {
            reap(raw);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Takes the exit status if it was a child of ours, so that it does not stay as a zombie.
fn reap(pid: i32) {
    use nix::sys::wait::{WaitPidFlag, waitpid};
    let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
}
