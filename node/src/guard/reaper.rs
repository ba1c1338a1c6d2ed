//! The reaper: a third process, so that two that are stopped are not enough for two owners (finding F2).
//!
//! What ends a lease for processes is the guard, and the agent if its guard is silent. Whoever stops both (a
//! debugger, a `SIGSTOP` that was meant for something else, a bug that both share) would leave the processes of
//! groups running after the lease, on this node and soon on the next one. The reaper waits for the end of the lease
//! and lets go of what the guard held; it does nothing else, speaks to nobody, opens no file while it waits, and
//! has the memory locked that it uses ([`memory`]).
//!
//! It learns the lease's end and what is held from memory that it shares with the guard ([`Board`]), so a guard that
//! is stopped in the middle has said everything already. Whatever is held is held under a lease that ends later
//! than the one before, so looking again at each end is often enough. It begins when half of the time of a release is
//! over: guard and agent have let go by then, normally. Release programs it leaves to a guard that has begun.
//!
//! When the guard is gone, however that came, the reaper lets go at once, and ends. It does so under the guard's own
//! lock: where another guard runs already, what is held is that one's.
//!
//! It lives outside the control group of the service, which a service manager empties when the guard dies.

mod board;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, PipeWriter, Read};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};

pub(super) use self::board::Board;
use super::child::BackOff;
use super::{LOCK, memory, sys};
use crate::cgroup::mount_point;
use crate::hold::{self, Held, HeldAddress, Programs};

/// The longest time between two looks of a reaper that has nothing to wait for.
const LOOK: Duration = Duration::from_millis(100);
/// Between two attempts to let go of what does not go.
const AGAIN: Duration = Duration::from_millis(100);
/// Between two looks at release programs that run.
const PROGRAMS: Duration = Duration::from_millis(10);
/// Attempts when the guard is gone; the reaper ends then, whatever is left.
const LAST_ATTEMPTS: usize = 10;
/// A reaper that has not looked for so long is taken for hung.
const SILENT: Duration = Duration::from_secs(3);
/// The longest time between two looks of a guard that runs: whatever is longer, it was not run itself.
const ASKED: Duration = Duration::from_millis(1_200);
/// How long the kernel may take to close what a dead guard had open.
const CLOSED_WITHIN: Duration = Duration::from_secs(2);
/// Between two attempts to have its lock.
const CLOSED_PAUSE: Duration = Duration::from_millis(1);
/// Longest time for a release where the guard never said how long one may take.
const RELEASE_MAX: Duration = Duration::from_secs(2);

/// What is to be done at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Nothing before so long.
    Wait(Duration),
    /// Let go of everything.
    LetGo,
}

/// What the reaper goes by, in microseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Copy, Debug)]
struct Moment {
    now: u64,
    lease: u64,
    release_max: Duration,
    /// Something is held that it has not let go of yet.
    holds: bool,
}

impl Moment {
    fn step(self) -> Step {
        // Guard and agent come first.
        let due = self.lease + self.release_max.as_micros() as u64 / 2;
        match due.checked_sub(self.now).filter(|left| *left > 0) {
            Some(left) => Step::Wait(Duration::from_micros(left)),
            None if self.holds => Step::LetGo,
            None => Step::Wait(LOOK),
        }
    }
}

/// Runs the reaper, in a process of its own that [`Watched::start`] made, until its guard is gone.
///
/// # Errors
/// If it was not started by a guard of this build.
pub fn run(state_dir: &Path) -> io::Result<()> {
    let board = Board::of(io::stdout().as_fd())?;
    // Nothing that anybody prints may reach the board.
    nix::unistd::dup2_stdout(io::stderr())?;
    let named = nix::sys::prctl::set_name(c"vedette-reaper");
    let locked = memory::lock_what_is_used(|| rehearse(&board));
    for outcome in [named.map_err(Into::into), leave_service(), locked] {
        if let Err(error) = outcome {
            tracing::debug!(%error, "the reaper is less sheltered than it could be");
        }
    }
    if let Err(error) = sys::nearly_real_time() {
        tracing::debug!(%error, "the reaper runs without real-time priority");
    }
    let guard = std::os::unix::process::parent_id();
    let mut reaper = Reaper { board, guard, done: 0, programs: Programs::default() };
    reaper.watch();
    reaper.inherit(state_dir);
    Ok(())
}

/// Does what a release does, with what nobody has, so that the way is known and in memory.
fn rehearse(board: &Board) {
    let nobodys =
        HeldAddress { address: Ipv4Addr::UNSPECIFIED.into(), prefix: 32, device: String::new() };
    let held = Held {
        addresses: [nobodys].into(),
        groups: ["/sys/fs/cgroup/vedette-reapers/nobody".into()].into(),
        units: ["vedette-nobody.service".to_owned()].into(),
        engines: ["vedette-nobody.slice".to_owned()].into(),
        ..Held::default()
    };
    let released = hold::release(&held, RELEASE_MAX);
    let looked = (board.read().is_ok(), board.lease(), sys::boot_time_us());
    tracing::debug!(?released, ?looked, "the way to a release was rehearsed");
}

/// A control group of its own for the reapers of this machine.
fn leave_service() -> io::Result<()> {
    let mount = mount_point().ok_or_else(|| io::Error::other("there are no control groups"))?;
    let place = mount.join("vedette-reapers");
    std::fs::create_dir_all(&place)?;
    std::fs::write(place.join("cgroup.procs"), "0")
}

struct Reaper {
    board: Board,
    /// The process id of its guard.
    guard: u32,
    /// The version of what is held that was let go of.
    done: u64,
    programs: Programs,
}

impl Reaper {
    /// Lets go at each end of the lease, until the guard is gone.
    fn watch(&mut self) {
        loop {
            let now = sys::boot_time_us();
            self.board.look(now);
            let (version, held) = self.held();
            let moment = Moment {
                now,
                lease: self.board.lease(),
                release_max: self.release_max(),
                holds: version != self.done && !held.is_empty(),
            };
            let wait = match moment.step() {
                Step::Wait(wait) => wait,
                Step::LetGo => self.let_go(version, &held),
            };
            if guard_is_gone(wait) {
                return;
            }
        }
    }

    fn held(&self) -> (u64, Held) {
        self.board.read().unwrap_or_else(|error| {
            tracing::error!(%error, "what the guard holds cannot be read");
            (0, Held::default())
        })
    }

    fn release_max(&self) -> Duration {
        match self.board.release_max() {
            0 => RELEASE_MAX,
            time_ms => Duration::from_millis(time_ms),
        }
    }

    /// Tries once; answers when to look again.
    fn let_go(&mut self, version: u64, held: &Held) -> Duration {
        let outcome = hold::release(held, self.release_max());
        let mut failed = outcome.failed;
        if !self.board.is_begun(version) {
            let programs = self.programs.look(&held.programs);
            if failed.is_empty() && programs.running {
                return PROGRAMS;
            }
            failed.extend(programs.failed);
        }
        if !failed.is_empty() {
            tracing::error!("not everything could be let go of: {}", failed.join("; "));
            return AGAIN;
        }
        (self.done, self.programs) = (version, Programs::default());
        if !self.board.is_begun(version) {
            self.board.reap(version, sys::boot_time_us());
            tracing::error!("guard and agent are silent and the lease is over: all was let go of");
        }
        LOOK
    }

    /// The guard is gone: lets go of what it held, unless there is another one.
    fn inherit(&mut self, state_dir: &Path) {
        let (version, held) = self.held();
        if held.is_empty() || version == self.done {
            return;
        }
        let Some(_lock) = self.lock(state_dir) else { return };
        tracing::error!("the guard is gone: everything that this node holds is let go of");
        for _ in 0..LAST_ATTEMPTS {
            let outcome = hold::release_all(&held, self.release_max());
            if outcome.is_complete() {
                return;
            }
            tracing::error!("not everything could be let go of: {}", outcome.failed.join("; "));
            std::thread::sleep(AGAIN);
        }
    }

    /// The guard's lock, unless another guard has it already. The kernel closes what a dead process had open one
    /// after the other, and the lock need not be the first.
    fn lock(&self, state_dir: &Path) -> Option<Flock<File>> {
        let path = state_dir.join(LOCK);
        let until = Instant::now() + CLOSED_WITHIN;
        loop {
            let file = File::open(&path).ok()?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Some(lock),
                Err(_) if named(&path) == Some(self.guard) && Instant::now() < until => {
                    std::thread::sleep(CLOSED_PAUSE);
                }
                Err(_) => return None,
            }
        }
    }
}

/// The process that a lock file names.
pub(super) fn named(lock: &Path) -> Option<u32> {
    std::fs::read_to_string(lock).ok()?.trim().parse().ok()
}

/// Waits; answers whether the other end of the pipe, which the guard holds, is gone.
fn guard_is_gone(wait: Duration) -> bool {
    let stdin = io::stdin();
    let mut fds = [sys::readable(&stdin)];
    sys::wait(&mut fds, Some(wait));
    fds[0].revents != 0 && matches!(stdin.lock().read(&mut [0; 8]), Ok(0) | Err(_))
}

/// A reaper as its guard sees it.
#[derive(Debug)]
pub(super) struct Watched {
    command: Vec<OsString>,
    running: Option<Running>,
    back_off: BackOff,
    start_at: Instant,
    fault: Option<String>,
}

#[derive(Debug)]
struct Running {
    child: Child,
    born: Instant,
    silence: Silence,
    /// Its other end closes with the guard, however that ends.
    _alive: PipeWriter,
}

/// For how long a reaper has not looked at the board, in time in which its guard ran: one that stood still with
/// its guard, as with the machine, is not to blame.
#[derive(Clone, Copy, Debug)]
struct Silence {
    /// When it looked last, by the board.
    looked: u64,
    asked: Instant,
    lasted: Duration,
    /// It has looked since it was started.
    alive: bool,
}

impl Silence {
    fn new(looked: u64, now: Instant) -> Self {
        Self { looked, asked: now, lasted: Duration::ZERO, alive: false }
    }

    /// Takes what the board says now; answers whether it is taken for hung.
    fn take(&mut self, looked: u64, now: Instant) -> bool {
        let passed = now.saturating_duration_since(std::mem::replace(&mut self.asked, now));
        if std::mem::replace(&mut self.looked, looked) == looked {
            self.lasted += passed.min(ASKED);
        } else {
            (self.lasted, self.alive) = (Duration::ZERO, true);
        }
        self.lasted >= SILENT
    }

    /// Whether what was said of an earlier one is over.
    fn is_well(&self) -> bool {
        self.alive && self.lasted < SILENT
    }

    fn is_hung(&self) -> bool {
        self.lasted >= SILENT
    }
}

/// Why there is none while one that hung is replaced.
fn did_not_answer() -> String {
    format!("it did not answer for {} s, and is replaced", SILENT.as_secs())
}

impl Watched {
    /// One that is not started yet: the arguments of this program that make it a reaper.
    pub(super) fn new(command: Vec<OsString>) -> Self {
        let (running, back_off, fault) = (None, BackOff::default(), None);
        Self { command, running, back_off, start_at: Instant::now(), fault }
    }

    /// Starts it if it does not run, and ends it if it hangs. To be called when a child ended and now and then.
    pub(super) fn look(&mut self, board: &Board) {
        if let Some((status, life, hung)) = self.ended() {
            let pause = self.back_off.pause(life);
            self.start_at = Instant::now() + pause;
            tracing::warn!(%status, ?life, ?pause, "the reaper ended; it is started again");
            self.fault = Some(if hung { did_not_answer() } else { format!("it ended ({status})") });
        }
        if self.running.is_none() && Instant::now() >= self.start_at {
            match self.start(board) {
                Ok(running) => self.running = Some(running),
                Err(error) => {
                    tracing::error!(%error, "the reaper cannot be started");
                    self.fault = Some(format!("it cannot be started: {error}"));
                    self.start_at = Instant::now() + self.back_off.pause(Duration::ZERO);
                }
            }
        }
        self.judge(board);
    }

    /// Whether it looks: who does not is ended, and started again.
    fn judge(&mut self, board: &Board) {
        let Some(running) = &mut self.running else { return };
        if running.silence.take(board.looked(), Instant::now()) {
            tracing::warn!("the reaper does not answer; it is killed");
            self.fault = Some(did_not_answer());
            let _ = running.child.kill();
        } else if running.silence.is_well() {
            self.fault = None;
        }
    }

    /// How it ended, how long it had lived, and whether it was ended because it hung.
    fn ended(&mut self) -> Option<(ExitStatus, Duration, bool)> {
        let running = self.running.as_mut()?;
        let status = running.child.try_wait().ok().flatten()?;
        let (life, hung) = (running.born.elapsed(), running.silence.is_hung());
        self.running = None;
        Some((status, life, hung))
    }

    fn start(&self, board: &Board) -> io::Result<Running> {
        let (theirs, alive) = io::pipe()?;
        // The program that runs, though another one may be in its place by now: they share memory.
        let mut command = Command::new("/proc/self/exe");
        std::os::unix::process::CommandExt::arg0(&mut command, "vedette");
        command.args(&self.command).stdin(theirs);
        command.stdout(Stdio::from(board.file().try_clone_to_owned()?));
        sys::outlive_parent(&mut command);
        let now = Instant::now();
        let silence = Silence::new(board.looked(), now);
        Ok(Running { child: command.spawn()?, born: now, silence, _alive: alive })
    }

    /// When it is to be looked at next, besides every second.
    pub(super) fn start_at(&self) -> Option<Instant> {
        self.running.is_none().then_some(self.start_at)
    }

    /// Why there is none, if there is none.
    pub(super) fn fault(&self) -> Option<&String> {
        self.fault.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment(now: u64, lease: u64, holds: bool) -> Moment {
        Moment { now, lease, release_max: Duration::from_micros(300), holds }
    }

    #[test]
    fn guard_and_agent_come_first() {
        let wait = |time| Step::Wait(Duration::from_micros(time));
        assert_eq!(moment(900, 1_000, true).step(), wait(250));
        assert_eq!(moment(1_149, 1_000, true).step(), wait(1));
        assert_eq!(moment(1_150, 1_000, true).step(), Step::LetGo);
        // A lease that was granted meanwhile.
        assert_eq!(moment(1_150, 1_800, true).step(), wait(800));
    }

    /// Who stood still with its guard did not hang, and who hangs is told as that, not as one that was killed.
    #[test]
    fn a_reaper_hangs_only_while_its_guard_runs() {
        let (began, mut looked) = (Instant::now(), 7);
        let at = |ms| began + Duration::from_millis(ms);
        let mut silence = Silence::new(looked, began);
        assert!(!silence.take(looked, at(900)) && !silence.is_well(), "it has not looked yet");
        looked += 1;
        assert!(!silence.take(looked, at(1_000)) && silence.is_well());
        assert!(!silence.take(looked, at(61_000)), "nobody ran for a minute");
        looked += 1;
        assert!(!silence.take(looked, at(62_000)));
        for second in [63, 64] {
            assert!(!silence.take(looked, at(second * 1_000)));
        }
        assert!(silence.take(looked, at(65_000)) && silence.is_hung() && !silence.is_well());
    }

    /// Whatever is acquired is acquired under a lease that ends later: the end of this one is early enough.
    #[test]
    fn nothing_held_is_looked_at_again_in_time() {
        assert_eq!(moment(900, 1_000, false).step(), Step::Wait(Duration::from_micros(250)));
        assert_eq!(moment(9_000, 1_000, false).step(), Step::Wait(LOOK));
        assert_eq!(moment(9_000, 0, false).step(), Step::Wait(LOOK));
    }

    /// What an earlier guard left behind is held without any lease.
    #[test]
    fn what_is_held_without_a_lease_is_let_go_of() {
        assert_eq!(moment(9_000, 0, true).step(), Step::LetGo);
    }

    fn reaper() -> Reaper {
        let (board, guard) = (Board::new().unwrap(), u32::MAX);
        Reaper { board, guard, done: 0, programs: Programs::default() }
    }

    fn with_program(program: &[&str]) -> Held {
        let program = crate::hold::HeldProgram {
            of: Default::default(),
            program: program.iter().map(|it| (*it).to_owned()).collect(),
            environment: Default::default(),
            user: None,
            place: None,
            within_ms: 10_000,
            transcripts: None,
        };
        Held { programs: [program].into(), ..Held::default() }
    }

    #[test]
    fn release_programs_run_if_the_guard_has_not_begun() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let held = with_program(&["/usr/bin/touch", mark.to_str().unwrap()]);
        let mut reaper = reaper();
        reaper.board.post(&held).unwrap();
        reaper.board.begin();
        let (version, held) = reaper.held();
        reaper.let_go(version, &held);
        assert!(reaper.done == version && !mark.exists(), "the guard has begun");
        assert_eq!(reaper.board.reaped(), None, "it was not the reaper");
        reaper.board.post(&held).unwrap();
        let (version, held) = reaper.held();
        while reaper.done != version {
            std::thread::sleep(reaper.let_go(version, &held));
        }
        assert!(mark.exists() && reaper.board.reaped().is_some());
    }

    /// Where another guard has the lock, what is held is its.
    #[test]
    fn nothing_is_inherited_where_another_guard_runs() {
        let folder = tempfile::tempdir().unwrap();
        let mark = folder.path().join("mark");
        let held = with_program(&["/usr/bin/touch", mark.to_str().unwrap()]);
        let mut reaper = reaper();
        reaper.board.post(&held).unwrap();
        let file = File::create(folder.path().join(LOCK)).unwrap();
        let other = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        reaper.inherit(folder.path());
        assert!(!mark.exists());
        // A guard that is just dying has it for a moment longer.
        std::fs::write(folder.path().join(LOCK), "4294967295\n").unwrap();
        std::thread::scope(|scope| {
            let dying = scope.spawn(|| reaper.inherit(folder.path()));
            while !dying.is_finished() && named(&folder.path().join(LOCK)).is_none() {
                std::thread::yield_now();
            }
            drop(other);
        });
        assert!(mark.exists());
    }
}
