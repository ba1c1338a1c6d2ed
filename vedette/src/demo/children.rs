//! The processes of a demo. None of them outlives it: they are ended when the demo ends, by the
//! kernel if the demo is killed, and a daemon that somebody started by hand (as the tour says) is
//! found by the lock in its state directory.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use vedette::sandbox::{self, LabFile, Launcher, Sandbox, SandboxNode};

/// What the janitor is told when there is nothing left for it to do.
const DONE: &[u8] = b"done";

/// How long a process may take to end when asked. The cluster is thrown away, so nobody waits for
/// its last election.
const PATIENCE: Duration = Duration::from_millis(700);

/// How long what the groups of a dead node run may take to end.
const REAPED: Duration = Duration::from_secs(3);

/// Every process that the demo started.
#[derive(Default)]
pub(super) struct Children(Mutex<Vec<Child>>);

impl Launcher for Children {
    fn spawn(&self, _: &SandboxNode, mut command: Command) -> io::Result<Child> {
        if super::ended() {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "the demo was ended"));
        }
        die_with_me(&mut command).spawn()
    }

    fn start(&self, _: &SandboxNode, command: Command) -> io::Result<()> {
        self.start_helper(command)
    }
}

impl Children {
    /// Starts a process that runs as long as the demo.
    pub(super) fn start_helper(&self, mut command: Command) -> io::Result<()> {
        let child = die_with_me(&mut command).spawn()?;
        self.lock().push(child);
        Ok(())
    }

    /// Takes the exit status of those that ended, so that they do not stay as zombies.
    pub(super) fn collect(&self) {
        self.lock().retain_mut(|child| !matches!(child.try_wait(), Ok(Some(_))));
    }

    /// Ends them all, and whatever daemon runs in the sandbox besides.
    pub(super) fn end(&self, sandbox: &Sandbox) {
        let guards = sandbox.nodes.iter().filter_map(|node| sandbox::guard_of(&node.state_dir()));
        let mut pids: Vec<u32> = guards.collect();
        pids.extend(self.lock().drain(..).map(|child| child.id()));
        pids.sort_unstable();
        pids.dedup();
        std::thread::scope(|scope| {
            for pid in pids {
                scope.spawn(move || end(pid));
            }
        });
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Child>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A process that waits for the end of the demo, and clears up if the demo was killed and could not.
pub(super) struct Janitor(Child);

impl Janitor {
    /// Starts it.
    pub(super) fn start(sandbox: &Sandbox) -> io::Result<Self> {
        let mut command = Command::new(&sandbox.program);
        command.args(["demo", "--janitor", "--dir"]).arg(&sandbox.dir).stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        command.spawn().map(Self)
    }

    /// Tells it that all is done, and waits until it is gone.
    pub(super) fn dismiss(mut self) {
        if let Some(mut pipe) = self.0.stdin.take() {
            let _ = pipe.write_all(DONE);
        }
        let _ = self.0.wait();
    }
}

/// The janitor's work: waits for the end of its standard input, which the demo holds.
pub(super) fn clear_up_after(dir: &Path) -> io::Result<()> {
    let mut told = Vec::new();
    io::stdin().read_to_end(&mut told)?;
    if told == DONE {
        return Ok(());
    }
    for node in std::fs::read_dir(dir)?.filter_map(Result::ok) {
        if let Some(guard) = sandbox::guard_of(&node.path().join("state")) {
            end(guard);
        }
    }
    // Those that the kernel ends may still write.
    for _ in 0..50 {
        if std::fs::remove_dir_all(dir).is_ok() {
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Ends a process, and then its children: a guard that is killed leaves its agent behind, and what its groups
/// run to its reaper, which ends by itself when that is gone.
fn end(pid: u32) {
    let (children, reaper) = (sandbox::children_of(pid), sandbox::reaper_of(pid));
    sandbox::terminate(pid, PATIENCE);
    for child in children {
        if Some(child) != reaper {
            sandbox::terminate(child, Duration::ZERO);
        }
    }
    if let Some(reaper) = reaper {
        sandbox::wait_for_end(reaper, REAPED);
        sandbox::terminate(reaper, Duration::ZERO);
    }
}

/// Lets the kernel end the process when the demo dies, however it dies.
fn die_with_me(command: &mut Command) -> &mut Command {
    let demo = nix::unistd::getpid();
    // SAFETY: between fork and exec only system calls are made, and nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGTERM)?;
            if nix::unistd::getppid() == demo {
                return Ok(());
            }
            Err(io::ErrorKind::Interrupted.into())
        })
    }
}

/// Puts the processes that run now into the file. A pid that still lives is taken as it is, because
/// looking for the children of a process means reading all of `/proc`.
pub(super) fn fill_pids(file: &mut LabFile) {
    for node in &mut file.nodes {
        let alive = |pid: Option<u32>| pid.filter(|pid| sandbox::is_alive(*pid));
        let (guard, agent) = (alive(node.guard_pid), alive(node.agent_pid));
        if guard.is_some() && agent.is_some() {
            continue;
        }
        node.guard_pid = guard.or_else(|| sandbox::guard_of(&node.state_dir));
        node.agent_pid = node.guard_pid.and_then(sandbox::agent_of);
    }
}
