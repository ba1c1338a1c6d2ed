//! A disk that forgets: what the log writes is safe only after a simulated `fsync`.
//!
//! The running member sees all it wrote at once. Changes reach the durable side in order, after a
//! delay, several together. A power failure keeps some first part of what was on its way and loses
//! the rest, and no callback of the old run is ever called again.

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{AsyncRuntime, OptionalSend, RaftLogReader};
use openraft_rt_sim::SimRuntime;
use vedette_node::log::{Entry, LogId, Snapshot, Snapshots, Types, Vote};

use crate::dice::Dice;

type Sim = Types<SimRuntime>;
type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// What a log consists of.
#[derive(Clone, Default)]
pub(crate) struct Contents {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    entries: std::collections::BTreeMap<u64, Entry>,
    snapshot: Option<Snapshot>,
}

enum Change {
    Vote(Vote),
    Committed(Option<LogId>),
    Append(Vec<Entry>),
    Truncate(u64),
    Purge(LogId),
    Snapshot(Box<Snapshot>),
}

impl Contents {
    fn change(&mut self, change: &Change) {
        match change {
            Change::Vote(vote) => self.vote = Some(*vote),
            Change::Committed(committed) => self.committed = *committed,
            Change::Append(entries) => {
                self.entries.extend(entries.iter().map(|entry| (entry.index(), entry.clone())));
            }
            Change::Truncate(from) => drop(self.entries.split_off(from)),
            Change::Purge(upto) => {
                self.entries = self.entries.split_off(&(upto.index + 1));
                self.purged = Some(*upto);
            }
            Change::Snapshot(snapshot) => self.snapshot = Some((**snapshot).clone()),
        }
    }
}

struct State {
    durable: Contents,
    seen: Contents,
    on_its_way: VecDeque<(Change, Done)>,
    flushing: bool,
    /// Counts power failures; a handle of an earlier run can do nothing.
    run: u64,
    dice: Dice,
    /// Says "done" at once, as a disk with a volatile cache does. No log survives on it.
    lies: bool,
}

/// A disk, which outlives the runs of its member.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

/// The log on a disk, in one run of its member.
#[derive(Clone)]
pub(crate) struct Store {
    disk: Disk,
    run: u64,
}

impl Disk {
    pub(crate) fn new(dice: Dice, lies: bool) -> Self {
        Self(Arc::new(Mutex::new(State {
            durable: Contents::default(),
            seen: Contents::default(),
            on_its_way: VecDeque::new(),
            flushing: false,
            run: 0,
            dice,
            lies,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic under the lock")
    }

    /// The log for a run that begins now.
    pub(crate) fn store(&self) -> Store {
        Store { disk: self.clone(), run: self.state().run }
    }

    /// Power fails: of what was on its way, some first part is kept.
    pub(crate) fn fail(&self) {
        let mut state = self.state();
        let waiting = state.on_its_way.len() as u64;
        let kept = state.dice.below(waiting + 1) as usize;
        let lost: Vec<_> = state.on_its_way.drain(..).collect();
        for (change, _) in &lost[..kept] {
            state.durable.change(change);
        }
        state.seen = state.durable.clone();
        state.flushing = false;
        state.run += 1;
    }

    /// What is safe on it now.
    pub(crate) fn copy(&self) -> Contents {
        self.state().durable.clone()
    }

    /// Has an earlier content again, as after a loss of everything that was written since. Its member
    /// must not run.
    pub(crate) fn put_back(&self, contents: Contents) {
        let mut state = self.state();
        state.on_its_way.clear();
        state.durable = contents.clone();
        state.seen = contents;
        state.flushing = false;
        state.run += 1;
    }

    /// Writes what is on its way until nothing is.
    async fn flush(self, run: u64) {
        loop {
            let delay = {
                let mut state = self.state();
                if state.run != run {
                    return;
                }
                if state.on_its_way.is_empty() {
                    state.flushing = false;
                    return;
                }
                // Mostly a fast disk, now and then one that stalls; a cache is written at leisure.
                let stall = state.dice.one_in(100);
                let millis = if state.lies { 2_000 } else { 1 + 120 * u64::from(stall) };
                Duration::from_micros(200 + state.dice.below(millis * 1_000))
            };
            SimRuntime::sleep(delay).await;
            let mut state = self.state();
            if state.run != run {
                return;
            }
            let written: Vec<_> = state.on_its_way.drain(..).collect();
            for (change, _) in &written {
                state.durable.change(change);
            }
            drop(state);
            written.into_iter().for_each(|(_, done)| done(Ok(())));
        }
    }
}

impl Store {
    fn write(&self, change: Change, done: Done) -> io::Result<()> {
        let mut state = self.disk.state();
        if state.run != self.run {
            return Err(io::Error::other("the power failed"));
        }
        state.seen.change(&change);
        if state.lies {
            state.on_its_way.push_back((change, Box::new(|_| ())));
        } else {
            state.on_its_way.push_back((change, done));
        }
        if !state.flushing {
            state.flushing = true;
            drop(SimRuntime::spawn(self.disk.clone().flush(self.run)));
        }
        Ok(())
    }

    /// Writes and waits until it is safe.
    async fn write_safely(&self, change: Change) -> io::Result<()> {
        let lies = self.disk.state().lies;
        let (sender, receiver) = answer();
        self.write(change, Box::new(sender))?;
        if lies { Ok(()) } else { receiver.await }
    }

    fn seen<T>(&self, look: impl FnOnce(&Contents) -> T) -> T {
        look(&self.disk.state().seen)
    }
}

type Waiting<'a> = Pin<Box<dyn Future<Output = io::Result<()>> + Send + 'a>>;

/// A channel for one result; if the sender is dropped, the power failed.
fn answer() -> (impl FnOnce(io::Result<()>) + Send, Waiting<'static>) {
    use openraft::async_runtime::{Oneshot, OneshotSender};
    let (sender, receiver) = <SimRuntime as AsyncRuntime>::Oneshot::channel::<io::Result<()>>();
    let send = move |result| drop(sender.send(result));
    let wait = async move { receiver.await.unwrap_or_else(|_| Err(io::Error::other("no power"))) };
    (send, Box::pin(wait))
}

impl RaftLogReader<Sim> for Store {
    async fn try_get_log_entries<B: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: B,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.seen(|log| log.entries.range(range).map(|(_, entry)| entry.clone()).collect()))
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.seen(|log| log.vote))
    }
}

impl RaftLogStorage<Sim> for Store {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Sim>, io::Error> {
        Ok(self.seen(|log| {
            let last = log.entries.values().next_back().map(RaftEntry::log_id);
            LogState { last_purged_log_id: log.purged, last_log_id: last.or(log.purged) }
        }))
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.write_safely(Change::Vote(*vote)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.write(Change::Committed(committed), Box::new(|_| ()))
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.seen(|log| log.committed))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<Sim>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let change = Change::Append(entries.into_iter().collect());
        if self.disk.state().lies {
            self.write(change, Box::new(|_| ()))?;
            callback.io_completed(Ok(()));
            return Ok(());
        }
        self.write(change, Box::new(move |result| callback.io_completed(result)))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.write_safely(Change::Truncate(last.map_or(0, |last| last.index + 1))).await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.write(Change::Purge(upto), Box::new(|_| ()))
    }
}

impl Snapshots for Store {
    fn save(&self, snapshot: Snapshot) -> Waiting<'_> {
        Box::pin(self.write_safely(Change::Snapshot(Box::new(snapshot))))
    }

    fn newest(&self) -> Option<Snapshot> {
        self.seen(|log| log.snapshot.clone())
    }
}
