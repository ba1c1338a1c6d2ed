//! The guard: a small process that keeps this node's word while everything else may fail.
//!
//! `vedette daemon` *is* the guard. It beats over every network from a real-time thread with its
//! memory locked, and starts the agent, which does all the rest, as a child. If the agent crashes
//! or hangs, the guard says so in its very next beats, goes on beating, and starts the agent again:
//! peers see a host that is UP with an agent that is DOWN, and nobody has to guess.
//!
//! ```text
//!   main thread   supervises the agent; signals            (this file)
//!   heartbeat     topology, sockets; real-time              heartbeat, sockets
//!   enforcer      holds nothing without a lease             enforcer, lease, gate, watchdog
//!   journal         writes down what is held                  journal
//!   reaper        a process: lets go if all others cannot   reaper
//!   control       orders and notices over the socket        control, protocol, client
//!   probe         asks a third party when in doubt (H4)     probe
//! ```
//!
//! Invariants:
//! - One guard a state directory (a lock file says so).
//! - No async runtime here, and at most 8 MiB resident: what is small can be locked and is seldom
//!   wrong.
//! - Before it says a word it lets go of what an earlier guard left behind, and when it ends, of
//!   everything.
//! - If the guard ends, the agent ends: by the end of its socket, and by SIGTERM from the kernel.

mod beat_sockets;
mod child;
pub mod client;
mod control;
mod enforcer;
mod gate;
mod heartbeat;
mod held_journal;
mod lease;
mod lease_watch;
mod memory;
mod probe;
pub mod protocol;
pub mod reaper;
mod sys;
mod watchdog;

use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use vedette_core::holding::Inheritance;
use vedette_core::id::Session;

pub use self::beat_sockets::bind;

use self::child::{Agent, BackOff};
use self::control::{Inside, Presence};
use self::enforcer::{EnforcerHandle, Task};
use self::gate::Gate;
use self::heartbeat::{Command, Heartbeat};
use self::lease::LeaseCell;
use self::protocol::Notice;
use self::reaper::Board;
use crate::hold;

/// An agent that found its configuration to be wrong exits so (`EX_CONFIG`); it is not restarted.
pub const EXIT_CONFIGURATION: i32 = 78;

/// Its lock, in the state directory.
const LOCK: &str = "guard.lock";

/// How long the reaper of a guard that died may take to let go of what that one held.
const REAPED_WITHIN: Duration = Duration::from_secs(3);

/// How long an agent may take to end when asked: it hands over what runs here first, which it bounds
/// itself. One that hangs is silent, and is not waited for that long.
const END_WITHIN: Duration = Duration::from_secs(90);
/// How often the agent is looked at.
const TICK: Duration = Duration::from_secs(1);
/// Ticks without an order after which a connected agent is taken for hung.
const SILENT_TICKS: u32 = 5;
/// Ticks that an agent may take to connect: it may have a long log to read.
const START_TICKS: u32 = 60;
/// How long a guard that starts may take to let go of what an earlier one left behind, before it
/// goes on and tries again beside its other work.
const CLEAN_WITHIN: Duration = Duration::from_secs(2);
/// Time between the last beats of a node that leaves.
const FAREWELL: Duration = Duration::from_millis(20);

/// What the guard is given.
#[derive(Clone, Debug)]
pub struct GuardConfig {
    /// Where the lock is.
    pub state_dir: PathBuf,
    /// Where the agent connects.
    pub socket: PathBuf,
    /// The agent's program and arguments.
    pub agent: Vec<OsString>,
    /// What this program is to be given to run [`reaper::run`].
    pub reaper: Vec<OsString>,
    /// The version that is shown.
    pub version: String,
    /// The machine's watchdog, such as `/dev/watchdog`, if it is to be used.
    pub watchdog: Option<PathBuf>,
}

/// Why the guard ended, if it did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExitReason {
    /// The node left: by a signal, or because the agent said so.
    Left,
    /// The agent refuses its configuration; exit with [`EXIT_CONFIGURATION`].
    Configuration,
}

/// Why the guard could not run.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// Another one runs.
    #[error(
        "another vedette daemon runs with the state directory {0}. \
         Stop it first, or give this one its own with --state-dir"
    )]
    Locked(PathBuf),
    /// The state directory or the socket cannot be used.
    #[error("{what} {path}: {source}. Make sure that the directory exists and that root may write")]
    Path {
        /// What was tried.
        what: &'static str,
        /// With which path.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Nobody knows what an earlier guard held.
    #[error(
        "held.json in {path} cannot be read: {source}. It says which addresses and processes this \
         node may still have: see that none of a group is active here, then remove the file"
    )]
    Held {
        /// The state directory.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// The system refuses something that every system has.
    #[error("{what}: {source}. The system may be out of processes, memory or open files")]
    System {
        /// What was tried.
        what: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// Runs the guard until the node leaves. Call it from the main thread, before any other thread
/// exists: signals are blocked here for all of them.
pub fn run(config: GuardConfig) -> Result<ExitReason, GuardError> {
    let _lock = lock(&config.state_dir)?;
    let signals = signals().map_err(system("signals cannot be received"))?;
    if let Err(error) = sys::lock_memory() {
        tracing::warn!(
            %error,
            "the guard's memory is not locked: a machine that swaps may look dead. \
             Give the service CAP_IPC_LOCK or LimitMEMLOCK=infinity"
        );
    }
    let listener = control::listen(&config.socket).map_err(|source| GuardError::Path {
        what: "the guard cannot listen on",
        path: config.socket.clone(),
        source,
    })?;
    let (file, inherited) = inherit(&config)?;
    let session = Session(rand::random());
    let (targets, to_probe) = std::sync::mpsc::channel();
    let doubts = probe::Doubts::default();
    let board = Arc::new(Board::new().map_err(system("no memory can be shared"))?);
    let lease = LeaseCell::new(Arc::clone(&board)).map_err(system("no event descriptor"))?;
    let lease = Arc::new(lease);
    let (heartbeat, beating) =
        heartbeat::start(session, targets, doubts.clone(), Arc::clone(&lease))
            .map_err(system("the heartbeat cannot be started"))?;
    let journal = held_journal::start(file).map_err(system("the journal cannot be started"))?;
    let shared = Arc::clone(&board);
    let start = (inherited, config.watchdog.clone());
    let enforcer = enforcer::start(lease, shared, heartbeat.clone(), journal.clone(), start)
        .map_err(system("the enforcer cannot be started"))?;
    let presence = Arc::new(Presence::new().map_err(system("no event descriptor"))?);
    let welcome = Notice::Welcome { session, version: config.version.clone() };
    let prober = heartbeat.clone();
    thread("probe", move || probe::run(&to_probe, &doubts, &prober))?;
    let inside = Inside { heartbeat: heartbeat.clone(), enforcer: enforcer.clone(), journal };
    let seen = Arc::clone(&presence);
    thread("control", move || control::serve(&listener, &inside, &seen, &welcome))?;
    let inside = (heartbeat.clone(), enforcer.clone(), board);
    let supervisor = Supervisor::new(&config, inside, presence, signals);
    let reason = supervisor.run();
    enforcer.end();
    if reason == ExitReason::Left {
        farewell(&heartbeat);
    }
    heartbeat.tell(Command::Stop);
    let _ = beating.join();
    let _ = std::fs::remove_file(&config.socket);
    Ok(reason)
}

/// Lets go of what an earlier guard held when it ended, however that was; whatever the gate of that
/// time lets through is none of ours before.
fn inherit(config: &GuardConfig) -> Result<(hold::File, Inheritance), GuardError> {
    let mut file = hold::File::open(&config.state_dir)
        .map_err(|source| GuardError::Held { path: config.state_dir.clone(), source })?;
    let before = file.kept().clone();
    let pending = before.pending();
    let found = pending.groups.iter().any(|group| group.exists());
    let outcome = hold::release(&pending, CLEAN_WITHIN);
    if outcome.is_complete() {
        if !pending.is_empty() {
            tracing::warn!("what an earlier guard held when it ended was let go of");
        }
        remove_gate(before.gate.as_deref());
    }
    let wall = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let now = vedette_core::time::Instant::from_micros(sys::boot_time_us());
    let when = (now, wall.as_millis() as u64);
    let inherited = Inheritance::new(&before, &outcome, found, when);
    if let Err(error) = file.update(|kept| *kept = inherited.journal(&before)) {
        tracing::error!(%error, "held.json in the state directory cannot be written. Make room");
    }
    Ok((file, inherited))
}

/// Removes the gate of an earlier guard: there is nothing behind it any more.
fn remove_gate(table: Option<&str>) {
    let Some(table) = table else { return };
    if let Err(error) = Gate::new(table.into()).and_then(|mut gate| gate.remove()) {
        tracing::warn!(%error, table, "the gate of an earlier guard cannot be removed");
    }
}

/// Says goodbye, often enough that one lost packet does not matter.
fn farewell(heartbeat: &Heartbeat) {
    for _ in 0..3 {
        heartbeat.tell(Command::Leave);
        std::thread::sleep(FAREWELL);
    }
}

fn system(what: &'static str) -> impl Fn(io::Error) -> GuardError {
    move |source| GuardError::System { what, source }
}

fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> Result<(), GuardError> {
    let builder = std::thread::Builder::new().name(name.into()).stack_size(256 << 10);
    builder.spawn(work).map(drop).map_err(system("a thread cannot be started"))
}

fn lock(state_dir: &Path) -> Result<Flock<File>, GuardError> {
    let path = state_dir.join(LOCK);
    let wrong =
        |source| GuardError::Path { what: "the guard cannot lock", path: path.clone(), source };
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let until = Instant::now() + REAPED_WITHIN;
    let mut lock = loop {
        let file = options.open(&path).map_err(wrong)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => break lock,
            // Where nobody lives whom it names, a reaper has it for a moment.
            Err((_, nix::Error::EWOULDBLOCK)) if !is_alive(&path) && Instant::now() < until => {
                std::thread::sleep(FAREWELL);
            }
            Err((_, nix::Error::EWOULDBLOCK)) => return Err(GuardError::Locked(state_dir.into())),
            Err((_, error)) => return Err(wrong(error.into())),
        }
    };
    lock.set_len(0).map_err(wrong)?;
    writeln!(lock, "{}", std::process::id()).map_err(wrong)?;
    Ok(lock)
}

/// Whether the process that a lock file names lives; one that nobody has taken the status of does not.
fn is_alive(lock: &Path) -> bool {
    let stat = reaper::named(lock).map(|pid| std::fs::read_to_string(format!("/proc/{pid}/stat")));
    let stat = stat.and_then(Result::ok).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn signals() -> io::Result<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGCHLD] {
        set.add(signal);
    }
    set.thread_block()?;
    Ok(SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?)
}

/// Keeps an agent and a reaper running.
struct Supervisor<'a> {
    config: &'a GuardConfig,
    heartbeat: Heartbeat,
    enforcer: EnforcerHandle,
    board: Arc<Board>,
    reaper: reaper::Watched,
    presence: Arc<Presence>,
    signals: SignalFd,
    agent: Option<Agent>,
    back_off: BackOff,
    start_at: Instant,
    /// The guard is ending; then the agent is killed.
    kill_at: Option<Instant>,
    next_tick: Instant,
    silent: u32,
    orders: u64,
}

impl<'a> Supervisor<'a> {
    fn new(
        config: &'a GuardConfig,
        (heartbeat, enforcer, board): (Heartbeat, EnforcerHandle, Arc<Board>),
        presence: Arc<Presence>,
        signals: SignalFd,
    ) -> Self {
        let now = Instant::now();
        Self {
            config,
            heartbeat,
            enforcer,
            board,
            reaper: reaper::Watched::new(config.reaper.clone()),
            presence,
            signals,
            agent: None,
            back_off: BackOff::default(),
            start_at: now,
            kill_at: None,
            next_tick: now + TICK,
            silent: 0,
            orders: 0,
        }
    }

    fn run(mut self) -> ExitReason {
        loop {
            self.see_to_the_reaper();
            if self.agent.is_none() && Instant::now() >= self.start_at {
                self.start();
            }
            let mut fds = [sys::readable(&self.signals), sys::readable(&self.presence.waker)];
            sys::wait(&mut fds, Some(self.time_left()));
            self.presence.waker.clear();
            self.take_signals();
            if self.presence.shutdown.load(Ordering::Relaxed) {
                self.end();
            }
            let status = self.agent.as_mut().and_then(Agent::ended);
            if let Some(reason) = status.and_then(|status| self.ended(status)) {
                return reason;
            }
            if self.agent.is_none() && self.kill_at.is_some() {
                return ExitReason::Left;
            }
            self.look();
        }
    }

    fn start(&mut self) {
        match Agent::start(&self.config.agent, &self.config.socket) {
            Ok(agent) => self.agent = Some(agent),
            Err(error) => {
                tracing::error!(%error, agent = ?self.config.agent, "the agent cannot be started");
                self.start_at = Instant::now() + self.back_off.pause(Duration::ZERO);
            }
        }
        self.silent = 0;
    }

    fn see_to_the_reaper(&mut self) {
        let before = self.reaper.fault().cloned();
        self.reaper.look(&self.board);
        if self.reaper.fault() != before.as_ref() {
            self.enforcer.tell(Task::Reaper(self.reaper.fault().cloned()));
        }
    }

    fn time_left(&self) -> Duration {
        let start = self.agent.is_none().then_some(self.start_at);
        let due = [Some(self.next_tick), start, self.kill_at, self.reaper.start_at()];
        let due = due.into_iter().flatten().min();
        due.map_or(TICK, |due| due.saturating_duration_since(Instant::now()))
    }

    fn take_signals(&mut self) {
        while let Ok(Some(signal)) = self.signals.read_signal() {
            if signal.ssi_signo != Signal::SIGCHLD as u32 {
                self.end();
                if let Some(agent) = &self.agent {
                    agent.signal(Signal::SIGTERM);
                }
            }
        }
    }

    fn end(&mut self) {
        self.kill_at = self.kill_at.or(Some(Instant::now() + END_WITHIN));
    }

    /// The agent ended. Returns why the guard ends too, if it does.
    fn ended(&mut self, status: ExitStatus) -> Option<ExitReason> {
        self.heartbeat.tell(Command::Gone);
        let life = self.agent.take().map(|agent| agent.life()).unwrap_or_default();
        if status.code() == Some(EXIT_CONFIGURATION) {
            return Some(ExitReason::Configuration);
        }
        let left = status.success() && self.presence.leaving.load(Ordering::Relaxed);
        if left || self.kill_at.is_some() {
            return Some(ExitReason::Left);
        }
        let pause = self.back_off.pause(life);
        if status.success() {
            tracing::info!(?life, ?pause, "the agent ended to begin anew; it is started again");
        } else {
            tracing::warn!(%status, ?life, ?pause, "the agent ended unexpectedly; it is started again");
        }
        self.start_at = Instant::now() + pause;
        None
    }

    /// Once a second: does the agent still speak? Counted in looks and not in time, so that a
    /// machine that was suspended does not blame its agent.
    fn look(&mut self) {
        let now = Instant::now();
        if self.kill_at.is_some_and(|at| now >= at) {
            self.kill("did not end when asked");
            self.kill_at = Some(now + END_WITHIN);
        }
        if now < self.next_tick {
            return;
        }
        self.next_tick = now + TICK;
        let orders = self.presence.orders.load(Ordering::Relaxed);
        self.silent = if orders == self.orders { self.silent + 1 } else { 0 };
        self.orders = orders;
        let connected = self.presence.connected.load(Ordering::Relaxed);
        let most = if connected { SILENT_TICKS } else { START_TICKS };
        if self.silent >= most {
            self.kill("is silent");
            self.silent = 0;
        }
    }

    fn kill(&self, why: &str) {
        if let Some(agent) = &self.agent {
            tracing::warn!("the agent {why}; it is killed");
            agent.signal(Signal::SIGKILL);
        }
    }
}
