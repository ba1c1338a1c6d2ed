//! Where records wait between the one who has them and the disk.
//!
//! The inbox is what makes [`History::append`](super::History::append) quick: it checks that a
//! record continues the chain, puts it into a queue and returns. The writer takes from the front,
//! and a record leaves the queue only when it is on disk, so a disk that stops taking records
//! costs memory and nothing else. Both the queue and what waits behind a gap are bounded.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::watch;
use vedette_core::id::Hash;
use vedette_core::local::{Draft, LocalRecord, Stamp};
use vedette_core::record::Record;
use vedette_core::time::WallTime;

use super::journal::{self, Journal};
use super::{Appended, Gap, Head, Health, HistoryError, Stalled, set_aside};

/// How many records may wait for the disk: a minute at a thousand a second, about 30 MB.
pub const MOST_WAITING: usize = 65_536;

/// How many records may wait behind a gap.
pub const MOST_ASIDE: usize = 65_536;

/// A record that continues the chain, with the hash of the one before it.
#[derive(Clone)]
pub(super) struct Linked {
    pub(super) record: Arc<Record>,
    pub(super) link: Hash,
}

/// What the writer does in one transaction.
pub(super) struct Work {
    pub(super) records: Vec<Linked>,
    pub(super) cursors: Vec<(String, u64)>,
    pub(super) locals: Vec<journal::Linked>,
}

/// A record that is on disk already by its number; its hash is still to be compared.
pub(super) type RecordOnDisk = (u64, Hash);

#[derive(Default)]
struct Inbox {
    /// The end of the chain, with what still waits.
    head: Head,
    /// The largest number that was ever given; what lies between is missing.
    seen: u64,
    queue: VecDeque<Linked>,
    aside: BTreeMap<u64, Arc<Record>>,
    cursors: BTreeMap<String, u64>,
    /// Names of cursors that moved since the last commit.
    moved: Vec<String>,
    journal: Journal,
    stop: bool,
}

/// What appenders and the writer share.
pub(super) struct Shared {
    inbox: Mutex<Inbox>,
    wake: Condvar,
    pub(super) durable: watch::Sender<Head>,
    pub(super) health: watch::Sender<Health>,
    /// The last local record, told at once.
    pub(super) told: watch::Sender<u64>,
}

impl Inbox {
    /// Takes one record; returns it as `RecordOnDisk` if only the disk can tell whether it is the same.
    fn take(
        &mut self,
        record: Arc<Record>,
        aside: bool,
        appended: &mut Appended,
    ) -> Result<Option<RecordOnDisk>, HistoryError> {
        if record.seq <= self.head.seq {
            appended.duplicates += 1;
            return self.compare(&record);
        }
        if aside {
            self.seen = self.seen.max(record.seq);
        }
        if record.seq != self.head.seq + 1 {
            self.keep_aside(record, aside, appended);
        } else if self.push(record, appended)? {
            self.join_aside(appended)?;
        }
        Ok(None)
    }

    fn compare(&self, record: &Record) -> Result<Option<RecordOnDisk>, HistoryError> {
        let first = self.head.seq + 1 - self.queue.len() as u64;
        let Some(place) = record.seq.checked_sub(first) else {
            return Ok(Some((record.seq, record.hash)));
        };
        match self.queue.get(place as usize) {
            Some(waiting) => same(record.seq, waiting.record.hash, record.hash).map(|()| None),
            None => Ok(Some((record.seq, record.hash))),
        }
    }

    /// Whether there was room.
    fn push(&mut self, record: Arc<Record>, appended: &mut Appended) -> Result<bool, HistoryError> {
        let link = self.head.hash;
        let expected = record.chained(link);
        if expected != record.hash {
            let (seq, found) = (record.seq, record.hash);
            return Err(HistoryError::BrokenChain { seq, expected, found });
        }
        if self.queue.len() >= MOST_WAITING {
            appended.refused += 1;
            return Ok(false);
        }
        self.head = Head::of(&record);
        self.queue.push_back(Linked { record, link });
        appended.accepted += 1;
        Ok(true)
    }

    fn keep_aside(&mut self, record: Arc<Record>, aside: bool, appended: &mut Appended) {
        if aside && (self.aside.len() < MOST_ASIDE || self.aside.contains_key(&record.seq)) {
            self.aside.insert(record.seq, record);
            appended.aside += 1;
        } else {
            appended.refused += 1;
        }
    }

    /// Takes from what waited aside all that continues the chain now.
    fn join_aside(&mut self, appended: &mut Appended) -> Result<(), HistoryError> {
        while let Some(record) = self.aside.remove(&(self.head.seq + 1)) {
            if !self.push(Arc::clone(&record), appended)? {
                self.aside.insert(record.seq, record);
                break;
            }
        }
        self.aside = self.aside.split_off(&(self.head.seq + 1));
        Ok(())
    }

    fn gap(&self) -> Option<Gap> {
        let got = self.aside.keys().next().copied().unwrap_or(self.seen);
        (got > self.head.seq).then_some(Gap { have: self.head.seq, got })
    }
}

/// An error unless the hashes are equal.
pub(super) fn same(seq: u64, ours: Hash, theirs: Hash) -> Result<(), HistoryError> {
    if ours == theirs { Ok(()) } else { Err(HistoryError::Diverged { seq, ours, theirs }) }
}

impl Shared {
    pub(super) fn new(head: Head, cursors: BTreeMap<String, u64>, journal: Journal) -> Self {
        let last = journal.health().last;
        let inbox = Inbox { head, seen: head.seq, cursors, journal, ..Inbox::default() };
        Self {
            inbox: Mutex::new(inbox),
            wake: Condvar::new(),
            durable: watch::Sender::new(head),
            health: watch::Sender::new(Health::default()),
            told: watch::Sender::new(last),
        }
    }

    /// No code of ours panics while it holds the lock, and the inbox is whole after each step.
    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes records until one contradicts the chain.
    pub(super) fn accept(
        &self,
        records: impl Iterator<Item = Arc<Record>>,
        aside: bool,
    ) -> (Appended, Vec<RecordOnDisk>, Option<HistoryError>) {
        let mut appended = Appended::default();
        let mut known = Vec::new();
        let mut wrong = None;
        let mut inbox = self.lock();
        for record in records {
            match inbox.take(record, aside, &mut appended) {
                Ok(compare) => known.extend(compare),
                Err(error) => {
                    wrong = Some(error);
                    break;
                }
            }
        }
        appended.gap = inbox.gap();
        drop(inbox);
        self.wake.notify_all();
        self.announce_gap(&appended);
        (appended, known, wrong)
    }

    fn announce_gap(&self, appended: &Appended) {
        let refused = appended.refused as u64;
        self.health.send_if_modified(|health| {
            let changed = refused > 0 || health.gap != appended.gap;
            health.refused += refused;
            health.gap = appended.gap;
            changed
        });
    }

    /// Says loudly, once, that records contradict this history.
    pub(super) fn complain(&self, error: &HistoryError) {
        tracing::error!("{error}");
        if matches!(error, HistoryError::Diverged { .. } | HistoryError::BrokenChain { .. }) {
            self.health.send_modify(|health| {
                health.diverged.get_or_insert_with(|| error.to_string());
            });
        }
    }

    /// Waits for something to write; `None` when all is written and the end was asked for.
    pub(super) fn next(&self, most: usize) -> Option<Work> {
        let mut inbox = self.lock();
        loop {
            let locals = inbox.journal.unwritten(most);
            if !inbox.queue.is_empty() || !inbox.moved.is_empty() || !locals.is_empty() {
                let records = inbox.queue.iter().take(most).cloned().collect();
                let moved = std::mem::take(&mut inbox.moved);
                let value = |name: String| {
                    let seq = inbox.cursors.get(&name).copied().unwrap_or(0);
                    (name, seq)
                };
                let cursors = moved.into_iter().map(value).collect();
                return Some(Work { records, cursors, locals });
            }
            if inbox.stop {
                return None;
            }
            inbox = self.wake.wait(inbox).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The work is on disk.
    pub(super) fn written(&self, work: &Work) {
        let mut inbox = self.lock();
        inbox.queue.drain(..work.records.len());
        inbox.journal.written(&work.locals);
        drop(inbox);
        if self.health.borrow().stalled.is_some() {
            tracing::info!("the history's disk takes records again");
            self.health.send_modify(|health| health.stalled = None);
        }
        if let Some(last) = work.records.last() {
            self.durable.send_replace(Head::of(&last.record));
        }
    }

    /// The disk did not take the work. Waits, unless the end was asked for; then returns false.
    pub(super) fn failed(&self, work: Work, why: &str, pause: Duration) -> bool {
        let mut inbox = self.lock();
        inbox.moved.extend(work.cursors.into_iter().map(|(name, _)| name));
        let waiting = inbox.queue.len();
        self.announce_stall(why, waiting);
        if inbox.stop {
            tracing::error!(waiting, why, "the history ends with records that are not on disk");
            return false;
        }
        let paused = self.wake.wait_timeout_while(inbox, pause, |inbox| !inbox.stop);
        drop(paused.unwrap_or_else(PoisonError::into_inner));
        true
    }

    fn announce_stall(&self, why: &str, waiting: usize) {
        let first = self.health.borrow().stalled.is_none();
        if first {
            tracing::error!(waiting, why, "the history's disk does not take records");
        }
        self.health.send_modify(|health| {
            let since = health.stalled.as_ref().map_or_else(wall_time, |stalled| stalled.since);
            health.stalled = Some(Stalled { since, why: why.to_owned(), waiting });
        });
    }

    /// Adds a local record and tells it at once.
    pub(super) fn note(&self, stamp: Stamp, content: Draft) -> Arc<LocalRecord> {
        let record = self.lock().journal.append(stamp, content);
        self.wake.notify_all();
        self.told.send_replace(record.number);
        record
    }

    /// Reads the journal in memory.
    pub(super) fn journal<T>(&self, read: impl FnOnce(&Journal) -> T) -> T {
        read(&self.lock().journal)
    }

    /// Begins another journal if the file had lost the end of this one.
    pub(super) fn branch(&self, number: u64) -> bool {
        let branched = self.lock().journal.branch(number);
        if branched {
            self.wake.notify_all();
        }
        branched
    }

    /// Local records up to `number` are in everybody's history.
    pub(super) fn accounted(&self, number: u64) {
        let (name, number) = self.lock().journal.accounted(number);
        self.set_cursor(&name, number);
    }

    pub(super) fn stop(&self) {
        self.lock().stop = true;
        self.wake.notify_all();
    }

    pub(super) fn known_cursor(&self, name: &str) -> Option<u64> {
        self.lock().cursors.get(name).copied()
    }

    pub(super) fn cursor(&self, name: &str) -> u64 {
        let inbox = self.lock();
        // Numbers of journals are none of the history's.
        let floor =
            || inbox.cursors.get(set_aside::FLOOR).filter(|_| !name.starts_with("journal."));
        inbox.cursors.get(name).or_else(floor).copied().unwrap_or(0)
    }

    pub(super) fn set_cursor(&self, name: &str, seq: u64) {
        let mut inbox = self.lock();
        if inbox.cursors.insert(name.to_owned(), seq) == Some(seq) {
            return;
        }
        if !inbox.moved.iter().any(|moved| moved == name) {
            inbox.moved.push(name.to_owned());
        }
        drop(inbox);
        self.wake.notify_all();
    }
}

fn wall_time() -> WallTime {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    WallTime(i64::try_from(since_epoch.as_micros()).unwrap_or(i64::MAX))
}
