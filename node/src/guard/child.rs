//! The agent as a child process: started, watched, started again.
//!
//! The first restart is immediate, because an agent that crashed once is most likely to run again;
//! then the pauses double, so that one that cannot run does not eat the machine. After ten seconds
//! of life the past is forgotten.

use std::ffi::OsString;
use std::io;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::protocol::SOCKET_VARIABLE;
use super::sys;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);
const FORGOTTEN_AFTER: Duration = Duration::from_secs(10);

/// How long to wait before the agent is started again.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct BackOff {
    next: Duration,
}

impl BackOff {
    /// The agent ended after it lived for `life`.
    pub(super) fn pause(&mut self, life: Duration) -> Duration {
        if life >= FORGOTTEN_AFTER {
            self.next = Duration::ZERO;
        }
        let pause = self.next;
        self.next = (pause * 2).clamp(FIRST, LONGEST);
        pause
    }
}

/// A running agent.
#[derive(Debug)]
pub(super) struct Agent {
    child: Child,
    born: Instant,
}

impl Agent {
    pub(super) fn start(arguments: &[OsString], socket: &Path) -> io::Result<Self> {
        let (program, rest) = arguments
            .split_first()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "no program is given"))?;
        let mut command = Command::new(program);
        command.args(rest).env(SOCKET_VARIABLE, socket);
        sys::end_with_parent(&mut command);
        Ok(Self { child: command.spawn()?, born: Instant::now() })
    }

    pub(super) fn life(&self) -> Duration {
        self.born.elapsed()
    }

    /// Its status if it ended.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Sends a signal. The child is not waited for yet, so its number is still its own.
    pub(super) fn signal(&self, signal: Signal) {
        if let Ok(id) = i32::try_from(self.child.id()) {
            let _ = kill(Pid::from_raw(id), signal);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_restart_is_immediate_and_then_pauses_double() {
        let mut back_off = BackOff::default();
        let pauses: Vec<_> =
            (0..9).map(|_| back_off.pause(Duration::from_secs(1)).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000]);
        assert_eq!(back_off.pause(Duration::from_secs(10)), Duration::ZERO);
        assert_eq!(back_off.pause(Duration::from_secs(1)), FIRST);
    }
}
