//! The keeper: sees to it that this node holds nothing without its lease.
//!
//! A thread of its own, because what it does may take a moment, and the heartbeat must not wait. It
//! is woken by each grant and by its own clock, and at the lease's end it releases everything
//! ([`crate::hold`]), without asking anybody. With each grant it opens the kernel's gate for as long
//! as the lease lasts now ([`super::gate`]), so that the kernel does what it cannot do while it is
//! stopped; behind both may stand a watchdog ([`super::watchdog`]).
//!
//! The *epoch* counts the ends of the lease. What the agent knows of before such an end may have
//! been given to another node since, so an order of an earlier epoch is refused.
//!
//! Invariants:
//! - Something is held only from a [`Notice::Holding`] that accepts it to the end of that lease; a
//!   grant that comes after the end does not undo it.
//! - A new epoch begins when addresses of the one before are gone and its control groups killed, not earlier. Release
//!   programs, data, and processes that did not end within `release_max` take longer, and are named beside it until
//!   they are seen to be gone ([`Remaining`]): they hold up their own group alone.
//! - An order is answered after the [`File`](crate::hold::File) on disk names all of it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, channel};
use std::time::Duration;

use vedette_core::model::Timing;
use vedette_core::takeover::{Backing, Remains, Word};

use super::clerk::{Clerk, Note};
use super::gate::{Gate, table_name};
use super::heart::{Command, Heart};
use super::lease::{LeaseCell, LeaseNow};
use super::protocol::{Configure, Hold, Holding, Notice};
use super::reaper::Board;
use super::sys;
use super::watchdog::Watchdog;
use crate::hold::{self, Held, Remaining};

/// Between two attempts to let go of what does not go.
const AGAIN_US: u64 = 100_000;
/// Between two looks at what remains of earlier epochs.
const LOOK_US: u64 = 10_000;
/// Between two attempts to tell an agent that does not listen.
const UNSAID_US: u64 = 20_000;
/// A call to the kernel that took longer opened the gate for too long, and is repeated.
const SLOW_US: u64 = 10_000;
/// Notices that wait for an agent; a fresh one is told how things are.
const UNSAID: usize = 16;

/// What the keeper is told.
#[derive(Debug)]
pub(super) enum Task {
    /// Who and where this node is.
    Configure {
        /// Name of the gate's tables.
        table: String,
        /// Timers.
        timing: Timing,
    },
    /// What is to be held; the file has it already. The answer is what is held now.
    Hold(Box<Hold>, Sender<Held>),
    /// What was to be held could not be written down.
    Refuse(u64, String),
    /// An agent is there and listens.
    Listener(SyncSender<Notice>),
    /// The agent is gone.
    Gone,
    /// Why there is no reaper, or that there is one.
    Reaper(Option<String>),
    /// Let go of everything; the guard ends.
    End(Sender<()>),
}

/// How other threads speak to the keeper.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    tasks: Sender<Task>,
    cell: Arc<LeaseCell>,
}

impl Keeper {
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

/// What a guard starts with.
#[derive(Debug)]
pub(super) struct Inheritance {
    /// Its first epoch.
    pub(super) epoch: u64,
    /// What an earlier guard left behind and could not be let go of yet.
    pub(super) pending: Held,
    /// What it had not seen gone of earlier epochs.
    pub(super) remaining: Held,
    /// When what an earlier guard had left running was let go of, if anything was there.
    pub(super) released_us: Option<u64>,
    /// The watchdog's path.
    pub(super) watchdog: Option<PathBuf>,
}

/// Starts the thread.
pub(super) fn start(
    cell: Arc<LeaseCell>,
    board: Arc<Board>,
    heart: Heart,
    clerk: Clerk,
    inheritance: Inheritance,
) -> io::Result<Keeper> {
    let (sender, tasks) = channel();
    let keeper = Keeper { tasks: sender, cell: Arc::clone(&cell) };
    let keeping = Keeping::new(cell, board, (heart, clerk), tasks, inheritance);
    clerk_knows(&keeping, keeper.clone());
    std::thread::Builder::new()
        .name("keeper".into())
        .stack_size(256 << 10)
        .spawn(move || keeping.run())?;
    Ok(keeper)
}

fn clerk_knows(keeping: &Keeping, keeper: Keeper) {
    keeping.clerk.tell(Note::Keeper(keeper));
}

/// What belongs to the thread.
struct Keeping {
    cell: Arc<LeaseCell>,
    board: Arc<Board>,
    heart: Heart,
    clerk: Clerk,
    tasks: Receiver<Task>,
    listener: Option<SyncSender<Notice>>,
    unsaid: VecDeque<Notice>,
    timing: Timing,
    table: Option<String>,
    gate: Option<Gate>,
    /// The gate could be raised when that was tried last: at the latest when the guard learns whom it
    /// serves, so that what stands behind a node is known before it holds anything.
    able: bool,
    /// The operator was told that it could not.
    complained: bool,
    dog: Option<Dog>,
    /// Why the watchdog that is configured could not be opened.
    no_dog: Option<String>,
    /// Why there is no reaper.
    no_reaper: Option<String>,
    /// What the agent was told last of what stands behind a release.
    said: (Backing, Option<String>, Option<String>),
    known: Vec<IpAddr>,
    held: Held,
    /// What has to be let go of before anything else.
    pending: Held,
    again_at: u64,
    /// What is let go of more slowly, and of which groups the agent was told.
    remaining: Remaining,
    told: Told,
    look_at: u64,
    /// Why not everything could be let go of at the first attempt; the agent was told.
    unreleased: Option<String>,
    /// When the lease ended last.
    ended_us: u64,
    /// When the lease had ended, and when everything was released, the last time.
    last_release_us: Option<(u64, u64)>,
    /// How many ends of the lease there were.
    ends: u64,
    leased: bool,
    epoch: u64,
    released: bool,
    /// The end of the lease that the gate and the agent know.
    spread_us: u64,
}

/// What the agent was told of what remains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Told {
    remains: Remains,
    stuck: BTreeMap<String, String>,
    goes_on: bool,
}

/// The watchdog, and when it was petted.
struct Dog {
    watchdog: Watchdog,
    path: PathBuf,
    due_us: u64,
    turns: u64,
}

impl Keeping {
    fn new(
        cell: Arc<LeaseCell>,
        board: Arc<Board>,
        (heart, clerk): (Heart, Clerk),
        tasks: Receiver<Task>,
        inheritance: Inheritance,
    ) -> Self {
        let (dog, no_dog) = match inheritance.watchdog.map(open_watchdog) {
            None => (None, None),
            Some(Ok(dog)) => (Some(dog), None),
            Some(Err(why)) => (None, Some(why)),
        };
        let mut remaining = Remaining::default();
        remaining.add(&inheritance.remaining);
        Self {
            cell,
            board,
            heart,
            clerk,
            tasks,
            listener: None,
            unsaid: VecDeque::new(),
            timing: Timing::DEFAULT,
            table: None,
            gate: None,
            able: false,
            complained: false,
            dog,
            no_dog,
            no_reaper: None,
            said: (Backing::None, None, None),
            known: Vec::new(),
            held: Held::default(),
            pending: inheritance.pending,
            again_at: 0,
            remaining,
            told: Told::default(),
            look_at: 0,
            unreleased: None,
            ended_us: 0,
            // When the lease had ended nobody knows: no guard was there.
            last_release_us: inheritance.released_us.map(|released_us| (0, released_us)),
            ends: 0,
            leased: false,
            epoch: inheritance.epoch,
            released: false,
            spread_us: 0,
        }
    }

    fn run(mut self) {
        if let Err(error) = sys::nearly_real_time() {
            tracing::debug!(%error, "the keeper runs without real-time priority");
        }
        self.set_released(false);
        self.post();
        loop {
            let mut fds = [sys::readable(&self.cell.waker)];
            sys::wait(&mut fds, self.time_left());
            self.cell.waker.clear();
            self.step();
            while let Ok(task) = self.tasks.try_recv() {
                if let Task::End(done) = task {
                    self.end();
                    let _ = done.send(());
                    return;
                }
                // Before each order: what it stands on may have ended meanwhile.
                self.step();
                self.obey(task);
            }
            self.say_unsaid();
        }
    }

    /// Until something is due.
    fn time_left(&self) -> Option<Duration> {
        let lease = (!self.held.is_empty()).then(|| self.cell.get().until_us);
        let again = (!self.pending.is_empty()).then_some(self.again_at);
        let look = (!self.remaining.is_empty()).then_some(self.look_at);
        let dog = self.dog.as_ref().map(|dog| dog.due_us);
        let now = sys::boot_time_us();
        let unsaid = (!self.unsaid.is_empty()).then_some(now + UNSAID_US);
        let due = [lease, again, look, dog, unsaid].into_iter().flatten().min()?;
        // Rounded up: who wakes too early finds nothing to do.
        Some(Duration::from_micros(due.saturating_sub(now) + 1))
    }

    /// Looks at the lease, and does what follows.
    fn step(&mut self) {
        let (lease, now) = (self.cell.get(), sys::boot_time_us());
        let valid = now < lease.until_us;
        let ends = lease.lapses + u64::from(lease.until_us != 0 && !valid);
        let lost = ends != self.ends || (self.leased && lease.until_us == 0);
        (self.ends, self.leased) = (ends, valid);
        if lost {
            self.lease_ended();
        } else if !self.pending.is_empty() && now >= self.again_at {
            self.let_go();
        } else if !self.remaining.is_empty() && now >= self.look_at {
            self.look_at_the_rest();
        }
        if valid && !self.held.is_empty() {
            self.spread(lease);
        }
        self.pet(lease);
    }

    fn lease_ended(&mut self) {
        let now = sys::boot_time_us();
        let until = self.cell.get().until_us;
        // A lease that was granted again meanwhile ends later; this one ended before now.
        self.ended_us = if until == 0 || until > now { now } else { until };
        if let Some(gate) = self.gate.as_mut().filter(|gate| gate.is_up()) {
            // The kernel closed it by itself, unless this lease was granted again already.
            let _ = gate.close();
        }
        let held = std::mem::take(&mut self.held);
        if !held.is_empty() {
            tracing::warn!(
                addresses = held.addresses.len(),
                groups = held.groups.len(),
                "the lease is over: everything that this node holds is let go of"
            );
        }
        self.remaining.add(&held);
        self.pending.add(&Held { programs: BTreeSet::new(), data: BTreeSet::new(), ..held });
        self.board.begin();
        self.cell.want(false);
        self.set_released(self.released);
        self.let_go();
    }

    /// Tries to let go of what is pending; a new epoch begins if nothing of that is left.
    fn let_go(&mut self) {
        let within = Duration::from_millis(self.timing.release_max_ms);
        let outcome = hold::release(&self.pending, within);
        // Processes that cannot be killed hold up their own group, and no other one.
        if !outcome.is_complete() && outcome.left.is_empty() {
            if self.unreleased.is_none() {
                let left = outcome.failed.join("; ");
                self.warn(format!(
                    "not everything could be let go of: {left}. It is tried again and again; no group \
                     is acquired before it succeeds"
                ));
                self.unreleased = Some(left);
                self.answer(0, None);
            }
            self.again_at = sys::boot_time_us() + AGAIN_US;
            return;
        }
        self.remaining.add_left(outcome.left);
        let reaped = self.board.reaped();
        (self.pending, self.again_at) = (Held::default(), 0);
        self.post();
        self.unreleased = None;
        self.epoch += 1;
        // What was being mounted ended with its control group.
        self.remaining.look();
        self.clerk.tell(Note::Keep { epoch: self.epoch, remaining: self.remaining.held() });
        // If this process stood still, the reaper did it earlier.
        let ended_us = self.ended_us;
        let released_us = reaped.unwrap_or_else(sys::boot_time_us).max(ended_us);
        if ended_us > 0 {
            self.last_release_us = Some((ended_us, released_us));
        }
        let reaper = reaped.is_some();
        let left = self.remaining.groups();
        self.say(Notice::ReleasedAll { epoch: self.epoch, ended_us, released_us, reaper, left });
        self.set_released(true);
        self.tell_the_rest();
    }

    /// Looks at what remains of earlier epochs.
    fn look_at_the_rest(&mut self) {
        let before = self.remaining.held();
        self.remaining.look();
        self.look_at = sys::boot_time_us() + LOOK_US;
        let now = self.remaining.held();
        // What is pending is in the file as what is held.
        if now != before && self.pending.is_empty() {
            self.clerk.tell(Note::Remaining(now));
        }
        self.tell_the_rest();
    }

    /// Tells others and the agent what remains, if that is news.
    fn tell_the_rest(&mut self) {
        let told = Told {
            remains: self.remaining.remains(),
            stuck: self.remaining.stuck(),
            goes_on: self.remaining.goes_on(),
        };
        let before = std::mem::replace(&mut self.told, told);
        if before.remains != self.told.remains {
            self.set_released(self.released);
        }
        if (&before.stuck, before.goes_on) != (&self.told.stuck, self.told.goes_on) {
            for (group, why) in &self.told.stuck {
                if !before.stuck.contains_key(group) {
                    tracing::warn!("{group} is not let go of yet: {why}");
                }
            }
            self.answer(0, None);
        }
    }

    fn set_released(&mut self, released: bool) {
        self.released = released;
        let (epoch, holds) = (self.epoch, !self.held.is_empty());
        let remains = self.remaining.remains();
        self.heart.tell(Command::Holds(Word { epoch, remains, released, holds }));
    }

    fn obey(&mut self, task: Task) {
        match task {
            Task::Configure { table, timing } => self.configure(table, timing),
            Task::Hold(order, answer) => {
                self.hold(*order);
                let mut all = self.held.clone();
                all.add(&self.pending);
                let _ = answer.send(all);
            }
            Task::Refuse(sequence, why) => self.answer(sequence, Some(why)),
            Task::Listener(listener) => {
                self.listener = Some(listener);
                self.unsaid.clear();
                self.answer(0, None);
            }
            Task::Gone => self.listener = None,
            Task::Reaper(fault) => {
                self.no_reaper = fault;
                self.answer(0, None);
            }
            Task::End(_) => {}
        }
    }

    fn configure(&mut self, table: String, timing: Timing) {
        self.timing = timing;
        self.board.set_release_max(timing.release_max_ms);
        if self.table.as_ref() != Some(&table) {
            self.take_gate_away();
            self.clerk.tell(Note::Gate(table.clone()));
            self.able = Gate::attempt(&table)
                .inspect_err(|error| tracing::debug!(%error, "the kernel's gate cannot be raised"))
                .is_ok();
            self.table = Some(table);
        }
        if self.said != (self.backing(), self.watchdog_fault(), self.no_reaper.clone()) {
            self.answer(0, None);
        }
    }

    fn hold(&mut self, mut order: Hold) {
        self.remaining.strip(&mut order.held, &order.anew);
        let mut refused = self.why_not(&order);
        if refused.is_none() {
            refused = self.board.post(&order.held).err().map(|error| error.to_string());
        }
        if refused.is_none() {
            let more = !order.held.is_within(&self.held);
            let addresses = order.held.addresses.iter().map(|held| held.address);
            let known: BTreeSet<_> = order.known.iter().copied().chain(addresses).collect();
            self.known = known.into_iter().collect();
            self.held = order.held;
            if self.remaining.take_back(&order.anew) && self.pending.is_empty() {
                self.clerk.tell(Note::Remaining(self.remaining.held()));
                self.tell_the_rest();
            }
            self.guard();
            self.cell.want(!self.held.is_empty());
            self.set_released(self.released && !more);
        }
        self.answer(order.sequence, refused);
    }

    /// Tells the reaper what there is to let go of. It could not be told only of more than there was before, and
    /// that was refused.
    fn post(&self) {
        let mut all = self.held.clone();
        all.add(&self.pending);
        if let Err(error) = self.board.post(&all) {
            tracing::error!(%error, "the reaper does not know what this node holds");
        }
    }

    /// Why an order cannot be followed, if it cannot.
    fn why_not(&self, order: &Hold) -> Option<String> {
        if order.epoch != self.epoch {
            return Some(format!(
                "it is of epoch {}, and this is epoch {}: everything was let go of in between",
                order.epoch, self.epoch
            ));
        }
        if !self.pending.is_empty() {
            return Some("what was held before is not let go of yet".into());
        }
        let more = !order.held.is_within(&self.held);
        (more && !self.leased).then(|| "this node has no lease".into())
    }

    /// Brings the gate in line with what is known and held.
    fn guard(&mut self) {
        // Without a service address in the cluster there is nothing to keep out.
        let wanted = !self.known.is_empty();
        if !wanted && self.able {
            return self.take_gate_away();
        }
        match if wanted { self.raise() } else { self.attempt() } {
            Ok(()) => (self.able, self.complained) = (true, false),
            Err(error) => self.gate_failed(&error),
        }
        if !wanted {
            self.take_gate_away();
        }
    }

    fn attempt(&self) -> io::Result<()> {
        Gate::attempt(self.table.as_ref().ok_or_else(|| io::Error::other("not configured yet"))?)
    }

    fn raise(&mut self) -> io::Result<()> {
        let table = self.table.as_ref().ok_or_else(|| io::Error::other("not configured yet"))?;
        if self.gate.as_ref().is_none_or(|gate| gate.table() != table) {
            self.gate = Some(Gate::new(table.clone())?);
        }
        let Some(gate) = &mut self.gate else { return Ok(()) };
        gate.guard(&self.known)?;
        self.spread_us = 0;
        self.open_gate()
    }

    fn gate_failed(&mut self, error: &io::Error) {
        self.able = false;
        if !std::mem::replace(&mut self.complained, true) {
            self.warn(format!(
                "the kernel does not watch over the service addresses: {error}. It takes nf_tables \
                 (modules nf_tables, nf_tables_inet, nf_tables_arp) and CAP_NET_ADMIN; without, \
                 configure a watchdog or fencing"
            ));
        }
    }

    fn take_gate_away(&mut self) {
        if let Some(mut gate) = self.gate.take()
            && let Err(error) = gate.remove()
        {
            let table = gate.table();
            self.warn(format!(
                "the kernel's table {table} cannot be removed: {error}. Remove it by hand: \
                 nft delete table inet {table}; nft delete table arp {table}"
            ));
        }
    }

    /// Makes the gate and the agent know the present end of the lease; often enough, not always.
    fn spread(&mut self, lease: LeaseNow) {
        let step_us = self.timing.lease_ms * 1_000 / 8;
        // Timers that became faster have shortened it: kernel and agent must not go by the longer one.
        let shortened = lease.until_us < self.spread_us;
        if !shortened && lease.until_us < self.spread_us + step_us {
            return;
        }
        if let Err(first) = self.open_gate() {
            let was = self.backing();
            match self.raise() {
                Ok(()) => tracing::warn!(error = %first, "the kernel's gate was made anew"),
                Err(error) => self.gate_failed(&error),
            }
            if self.backing() != was {
                self.answer(0, None);
            }
        }
        self.spread_us = lease.until_us;
        // An agent that does not listen is told with the next grant.
        if let Some(listener) = &self.listener {
            let _ = listener.try_send(Notice::Lease { until_us: lease.until_us });
        }
    }

    /// Opens the gate for as long as the lease lasts.
    fn open_gate(&mut self) -> io::Result<()> {
        let Some(gate) = self.gate.as_mut().filter(|gate| gate.is_up()) else { return Ok(()) };
        let live: Vec<_> = self.held.addresses.iter().map(|held| held.address).collect();
        loop {
            let (lease, now) = (self.cell.get(), sys::boot_time_us());
            let left = Duration::from_micros(lease.until_us.saturating_sub(now));
            // Shorter than what the kernel measures in is nothing.
            if live.is_empty() || left < Duration::from_millis(1) {
                return gate.close();
            }
            gate.open(&live, left)?;
            // Whoever was stopped in the middle gave the kernel too much.
            if sys::boot_time_us() - now < SLOW_US {
                return Ok(());
            }
        }
    }

    fn backing(&self) -> Backing {
        let timing = &self.timing;
        let lease = Duration::from_millis(timing.lease_ms);
        let release_max = Duration::from_millis(timing.release_max_ms);
        let firm = |dog: &Dog| dog.watchdog.is_firm(lease, release_max, timing.interval());
        // A watchdog ends data as well, which the kernel's gate does not.
        match &self.dog {
            Some(dog) if firm(dog) => Backing::Watchdog,
            _ if self.gate_stands() => Backing::Kernel,
            _ => Backing::None,
        }
    }

    /// Why the watchdog that is configured stands behind nothing, if it does not. Where the gate
    /// stands, one that is slow is a second line all the same.
    fn watchdog_fault(&self) -> Option<String> {
        let Some(dog) = &self.dog else { return self.no_dog.clone() };
        if self.table.is_none() || self.backing() != Backing::None {
            return None;
        }
        let timing = &self.timing;
        let lease = Duration::from_millis(timing.lease_ms);
        let release_max = Duration::from_millis(timing.release_max_ms);
        let why = dog.watchdog.why_not_firm(lease, release_max, timing.interval())?;
        Some(format!("{} {why}", dog.path.display()))
    }

    /// Whether the gate is up, or would be if there were anything to guard.
    fn gate_stands(&self) -> bool {
        self.gate.as_ref().map_or(self.able, Gate::is_up)
    }

    fn pet(&mut self, lease: LeaseNow) {
        let now = sys::boot_time_us();
        let alone = self.backing() == Backing::Watchdog;
        let Some(dog) = &mut self.dog else { return };
        let fresh = alone && !self.held.is_empty();
        if now < dog.due_us && !fresh {
            return;
        }
        let every = dog.watchdog.every();
        dog.due_us = now + every.as_micros() as u64 / 2;
        let turns = self.cell.turns();
        let beats = std::mem::replace(&mut dog.turns, turns) != turns;
        let left = Duration::from_micros(lease.until_us.saturating_sub(now));
        let release_max = Duration::from_millis(self.timing.release_max_ms);
        let leased = dog.watchdog.may_be_petted(left, release_max, alone);
        // The first line has to hold, whatever remains.
        let gone = self.pending.is_empty() && !(alone && self.remaining.is_overdue());
        if beats && gone && (self.held.is_empty() || leased) {
            let _ = dog.watchdog.pet();
            dog.due_us = now + every.as_micros() as u64;
        }
        // A heartbeat that has nothing to do turns once for this.
        self.heart.nudge();
    }

    fn end(&mut self) {
        let mut held = std::mem::take(&mut self.held);
        held.add(&self.pending);
        // Nobody waits for a node that leaves, so it may take its time.
        let within = Duration::from_millis(self.timing.release_max_ms).max(Duration::from_secs(2));
        self.remaining.add(&held);
        let mut outcome = hold::release(&held, within);
        outcome.failed.extend(self.remaining.wait(within));
        if !outcome.is_complete() {
            let left = outcome.failed.join("; ");
            tracing::error!(%left, "the guard ends, and not everything could be let go of");
            if let Some(gate) = &mut self.gate {
                let _ = gate.close();
            }
            // The watchdog is not closed: it ends what the guard could not.
            return;
        }
        (self.held, self.pending) = (Held::default(), Held::default());
        self.post();
        self.take_gate_away();
        self.clerk.tell(Note::Ended);
        if let Some(dog) = self.dog.take() {
            let _ = dog.watchdog.close();
        }
    }

    fn answer(&mut self, sequence: u64, refused: Option<String>) {
        let (backing, watchdog) = (self.backing(), self.watchdog_fault());
        let reaper = self.no_reaper.clone();
        let said = (backing, watchdog.clone(), reaper.clone());
        let before = std::mem::replace(&mut self.said, said);
        if let Some(why) = watchdog.as_ref().filter(|why| before.1.as_ref() != Some(why)) {
            self.warn(format!("the watchdog stands behind nothing: {why}"));
        }
        let holding = Holding {
            sequence,
            refused,
            epoch: self.epoch,
            held: self.held.clone(),
            backing,
            watchdog,
            reaper,
            unreleased: self.unreleased.clone(),
            stuck: self.told.stuck.clone(),
            goes_on: self.told.goes_on,
            lease_until_us: if self.leased { self.cell.get().until_us } else { 0 },
            last_release_us: self.last_release_us,
        };
        self.say(Notice::Holding(Box::new(holding)));
    }

    fn warn(&mut self, text: String) {
        tracing::warn!("{text}");
        self.say(Notice::Warning { text });
    }

    fn say(&mut self, notice: Notice) {
        self.unsaid.push_back(notice);
        self.say_unsaid();
    }

    /// Tells the agent what there is to tell; what does not fit is told later.
    fn say_unsaid(&mut self) {
        let Some(listener) = &self.listener else { return self.unsaid.clear() };
        self.unsaid.truncate(UNSAID);
        while let Some(notice) = self.unsaid.pop_front() {
            if let Err(TrySendError::Full(notice)) = listener.try_send(notice) {
                return self.unsaid.push_front(notice);
            }
        }
    }
}

/// Opens it, or says why it is of no use.
fn open_watchdog(path: PathBuf) -> Result<Dog, String> {
    match Watchdog::open(&path) {
        Ok(watchdog) => Ok(Dog { watchdog, path, due_us: 0, turns: 0 }),
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
