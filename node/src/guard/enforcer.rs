//! The enforcer thread: carries out what [`Enforcer`] decides, so that this node holds nothing without its lease.
//!
//! A thread of its own, because what it does may take a moment, and the heartbeat must not wait. It
//! is woken by each grant, by each task and by the machine's deadline; it owns the kernel's gate ([`super::gate`]),
//! the watchdog ([`super::watchdog`]) and the looks at what remains ([`crate::hold::Looks`]), and decides nothing.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel};
use std::time::Duration;

use vedette_core::holding::{
    Announcement, Enforcer, GateOrder, Hold, Inheritance, Input, JournalEntry, Output,
    WatchdogFacts,
};
use vedette_core::model::Timing;
use vedette_core::time::Instant;

use super::gate::{Gate, table_name};
use super::heartbeat::{Command, Heartbeat};
use super::held_journal::{HeldJournal, JournalOrder};
use super::lease::LeaseCell;
use super::protocol::{Configure, Notice};
use super::reaper::Board;
use super::sys;
use super::watchdog::Watchdog;
use crate::hold::{self, Held, Looks};

/// Between two attempts to tell an agent that does not listen.
const UNSAID: Duration = Duration::from_millis(20);
/// A call to the kernel that took longer opened the gate for too long, and is repeated.
const SLOW_US: u64 = 10_000;
/// Notices that wait for an agent; a fresh one is told how things are.
const PENDING_NOTICES: usize = 16;

/// Messages to the enforcer thread.
#[derive(Debug)]
pub(super) enum Task {
    /// The node's identity and timers.
    Configure {
        /// Name of the gate's tables.
        table: String,
        /// Timers.
        timing: Timing,
    },
    /// An order about what is to be held; the file has it already. The answer is what is held now.
    Hold(Box<Hold>, Sender<Held>),
    /// An order that could not be written down.
    Refuse(u64, String),
    /// An agent is there and listens.
    Listener(SyncSender<Notice>),
    /// The agent is gone.
    Gone,
    /// Reason why there is no reaper, or that there is one.
    Reaper(Option<String>),
    /// Let go of everything; the guard ends.
    End(Sender<()>),
}

/// The way in for other threads.
#[derive(Clone, Debug)]
pub(super) struct EnforcerHandle {
    tasks: Sender<Task>,
    cell: Arc<LeaseCell>,
}

impl EnforcerHandle {
    pub(super) fn tell(&self, task: Task) {
        // If the thread is gone, so is the guard.
        let _ = self.tasks.send(task);
        self.cell.waker.wake();
    }

    pub(super) fn configure(&self, configure: &Configure) {
        let table = table_name(configure.cluster, configure.me.0);
        self.tell(Task::Configure { table, timing: configure.timing });
    }

    /// Lets go of everything, within a time that is bounded.
    pub(super) fn end(&self) {
        let (sender, done) = channel();
        self.tell(Task::End(sender));
        let _ = done.recv_timeout(Duration::from_secs(10));
    }
}

/// Starts the thread, with what an earlier guard left and the path of the watchdog.
pub(super) fn start(
    cell: Arc<LeaseCell>,
    board: Arc<Board>,
    heartbeat: Heartbeat,
    journal: HeldJournal,
    (inherited, watchdog): (Inheritance, Option<PathBuf>),
) -> io::Result<EnforcerHandle> {
    let (sender, tasks) = channel();
    let handle = EnforcerHandle { tasks: sender, cell: Arc::clone(&cell) };
    journal.tell(JournalOrder::Enforcer(handle.clone()));
    std::thread::Builder::new().name("enforcer".into()).stack_size(256 << 10).spawn(move || {
        Driver::new(cell, board, (heartbeat, journal), tasks, (inherited, watchdog)).run();
    })?;
    Ok(handle)
}

/// What belongs to the thread.
struct Driver {
    enforcer: Enforcer,
    outputs: VecDeque<Output>,
    cell: Arc<LeaseCell>,
    board: Arc<Board>,
    heartbeat: Heartbeat,
    journal: HeldJournal,
    tasks: Receiver<Task>,
    listener: Option<SyncSender<Notice>>,
    pending_notices: VecDeque<Notice>,
    gate: Option<Gate>,
    watchdog: Option<Watchdog>,
    looks: Looks,
    /// The journal waits for what is held after its order.
    journal_waits: Option<Sender<Held>>,
    ended: bool,
}

impl Driver {
    fn new(
        cell: Arc<LeaseCell>,
        board: Arc<Board>,
        (heartbeat, journal): (Heartbeat, HeldJournal),
        tasks: Receiver<Task>,
        (inherited, path): (Inheritance, Option<PathBuf>),
    ) -> Self {
        let (watchdog, facts) = match path.map(open_watchdog) {
            None => (None, None),
            Some(Ok((watchdog, facts))) => (Some(watchdog), Some(Ok(facts))),
            Some(Err(why)) => (None, Some(Err(why))),
        };
        let mut out = Vec::new();
        let enforcer = Enforcer::new(inherited, facts, now(), &mut out);
        Self {
            enforcer,
            outputs: out.into(),
            cell,
            board,
            heartbeat,
            journal,
            tasks,
            listener: None,
            pending_notices: VecDeque::new(),
            gate: None,
            watchdog,
            looks: Looks::default(),
            journal_waits: None,
            ended: false,
        }
    }

    fn run(mut self) {
        if let Err(error) = sys::nearly_real_time() {
            tracing::debug!(%error, "leases are enforced without real-time priority");
        }
        self.carry_out();
        loop {
            let mut fds = [sys::readable(&self.cell.waker)];
            sys::wait(&mut fds, self.time_left());
            self.cell.waker.clear();
            self.look_at_the_lease();
            while let Ok(task) = self.tasks.try_recv() {
                self.look_at_the_lease();
                if let Task::End(done) = task {
                    self.end();
                    let _ = done.send(());
                    return;
                }
                self.obey(task);
            }
            self.say_pending();
        }
    }

    /// Time until something is due.
    fn time_left(&self) -> Option<Duration> {
        let unsaid = (!self.pending_notices.is_empty()).then(|| now() + UNSAID);
        let due = [self.enforcer.deadline(), unsaid].into_iter().flatten().min()?;
        // Rounded up: who wakes too early finds nothing to do.
        Some(due.since(now()) + Duration::from_micros(1))
    }

    fn look_at_the_lease(&mut self) {
        let lease = self.cell.get();
        self.hand_in(Input::Lease { lease, turns: self.cell.turns() });
    }

    fn obey(&mut self, task: Task) {
        match task {
            Task::Configure { table, timing } => {
                self.hand_in(Input::Configure { table, timing });
            }
            Task::Hold(order, answer) => {
                self.journal_waits = Some(answer);
                self.hand_in(Input::Hold(order));
            }
            Task::Refuse(sequence, why) => self.hand_in(Input::Unwritten { sequence, why }),
            Task::Listener(listener) => {
                self.listener = Some(listener);
                self.pending_notices.clear();
                self.hand_in(Input::Agent(true));
            }
            Task::Gone => {
                self.listener = None;
                self.hand_in(Input::Agent(false));
            }
            Task::Reaper(fault) => self.hand_in(Input::Reaper(fault)),
            Task::End(_) => {}
        }
    }

    fn end(&mut self) {
        self.hand_in(Input::End);
        while !self.ended {
            std::thread::sleep(self.time_left().unwrap_or_default());
            let mut out = Vec::new();
            self.enforcer.on_timeout(now(), &mut out);
            self.outputs.extend(out);
            self.carry_out();
        }
        self.say_pending();
    }

    fn hand_in(&mut self, input: Input) {
        let mut out = Vec::new();
        self.enforcer.handle(now(), input, &mut out);
        self.outputs.extend(out);
        self.carry_out();
    }

    fn carry_out(&mut self) {
        let mut out = Vec::new();
        while let Some(output) = self.outputs.pop_front() {
            if let Some(answer) = self.execute(output) {
                self.enforcer.handle(now(), answer, &mut out);
                self.outputs.extend(out.drain(..));
            }
        }
    }

    fn execute(&mut self, output: Output) -> Option<Input> {
        match output {
            Output::Journal(entry) => self.write_down(entry),
            Output::Release { held, within } => {
                let released = hold::release(&held, within);
                let reaped = self.board.reaped().map(Instant::from_micros);
                return Some(Input::Released(released, reaped));
            }
            Output::LookAt(what) => return Some(Input::Looked(self.looks.look(&what))),
            Output::Gate(order) => return self.change_gate(order),
            Output::Post(held) => {
                return Some(Input::Posted(self.board.post(&held).map_err(in_words)));
            }
            Output::Begin => self.board.begin(),
            Output::ReleaseMax(time_ms) => self.board.set_release_max(time_ms),
            Output::Word(word) => self.heartbeat.tell(Command::Holds(word)),
            Output::Tell(announcement) => self.announce(announcement),
            Output::Log(text) => tracing::warn!("{text}"),
            Output::WantGrants(wanted) => self.cell.want(wanted),
            Output::Pet => {
                let _ = self.watchdog.as_mut().map(Watchdog::pet);
            }
            Output::Nudge => self.heartbeat.nudge(),
            Output::CloseWatchdog => {
                let _ = self.watchdog.take().map(Watchdog::close);
            }
            Output::Ended(_) => self.ended = true,
        }
        None
    }

    fn write_down(&mut self, entry: JournalEntry) {
        if let JournalEntry::Held(held) = entry {
            if let Some(journal) = self.journal_waits.take() {
                let _ = journal.send(held);
            }
        } else {
            self.journal.tell(JournalOrder::Entry(entry));
        }
    }

    fn change_gate(&mut self, order: GateOrder) -> Option<Input> {
        let done = match order {
            GateOrder::Attempt(table) => Gate::attempt(&table),
            GateOrder::Guard { table, known, live, until } => {
                self.guard(&table, &known).and_then(|()| self.open(&live, until))
            }
            GateOrder::Open { live, until } => self.open(&live, until),
            GateOrder::Close => {
                let _ = self.gate.as_mut().map(Gate::close);
                return None;
            }
            GateOrder::Remove => {
                self.take_gate_away();
                return None;
            }
        };
        Some(Input::Gate(done.map_err(in_words)))
    }

    fn guard(&mut self, table: &str, known: &[IpAddr]) -> io::Result<()> {
        if self.gate.as_ref().is_none_or(|gate| gate.table() != table) {
            self.gate = Some(Gate::new(table.to_owned())?);
        }
        self.gate.as_mut().map_or(Ok(()), |gate| gate.guard(known))
    }

    /// Opens the gate for as long as the lease lasts; the kernel is told how long that is from now on.
    fn open(&mut self, live: &[IpAddr], mut until: Option<Instant>) -> io::Result<()> {
        let Some(gate) = self.gate.as_mut() else { return Ok(()) };
        loop {
            let began = now();
            let left = until.map_or(Duration::ZERO, |until| until.since(began));
            // Shorter than what the kernel measures in is nothing.
            if live.is_empty() || left < Duration::from_millis(1) {
                return gate.close();
            }
            gate.open(live, left)?;
            // Whoever was stopped in the middle gave the kernel too much.
            if now().since(began) < Duration::from_micros(SLOW_US) {
                return Ok(());
            }
            until = self.cell.get().until;
        }
    }

    fn take_gate_away(&mut self) {
        if let Some(mut gate) = self.gate.take()
            && let Err(error) = gate.remove()
        {
            let table = gate.table();
            let text = format!(
                "the kernel's table {table} cannot be removed: {error}. Remove it by hand: \
                 nft delete table inet {table}; nft delete table arp {table}"
            );
            tracing::warn!("{text}");
            self.say(Notice::Warning { text });
        }
    }

    fn announce(&mut self, announcement: Announcement) {
        match announcement {
            // An agent that does not listen is told with the next grant.
            Announcement::Lease { until } => {
                if let Some(listener) = &self.listener {
                    let _ = listener.try_send(Notice::Lease { until_us: until.as_micros() });
                }
            }
            Announcement::Warning { text } => {
                tracing::warn!("{text}");
                self.say(Notice::Warning { text });
            }
            Announcement::Holding(holding) => self.say(Notice::Holding(holding)),
            Announcement::ReleasedAll { epoch, ended_us, released_us, reaper, left } => {
                self.say(Notice::ReleasedAll { epoch, ended_us, released_us, reaper, left });
            }
        }
    }

    fn say(&mut self, notice: Notice) {
        self.pending_notices.push_back(notice);
        self.say_pending();
    }

    /// Tells the agent what there is to tell; what does not fit is told later.
    fn say_pending(&mut self) {
        let Some(listener) = &self.listener else { return self.pending_notices.clear() };
        self.pending_notices.truncate(PENDING_NOTICES);
        while let Some(notice) = self.pending_notices.pop_front() {
            if let Err(TrySendError::Full(notice)) = listener.try_send(notice) {
                return self.pending_notices.push_front(notice);
            }
        }
    }
}

/// On the clock that counts from the machine's start, also while it is suspended.
fn now() -> Instant {
    Instant::from_micros(sys::boot_time_us())
}

#[expect(clippy::needless_pass_by_value, reason = "the end of a chain")]
fn in_words(error: io::Error) -> String {
    error.to_string()
}

/// Opens it, or says why it is of no use.
fn open_watchdog(path: PathBuf) -> Result<(Watchdog, WatchdogFacts), String> {
    match Watchdog::open(&path) {
        Ok(watchdog) => {
            let facts = watchdog.facts(path.display().to_string());
            Ok((watchdog, facts))
        }
        Err(error) => {
            tracing::error!(
                path = %path.display(), %error,
                "the watchdog cannot be used. Load a driver (modprobe softdog, where the machine has \
                 none of its own), or remove [guard] watchdog from the configuration"
            );
            Err(format!("{} cannot be used: {error}", path.display()))
        }
    }
}
