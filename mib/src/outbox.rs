//! Which notifications are on their way, and how far the cursor may move.
//!
//! There are two lanes: records of this node's own journal, and those of the cluster's history. Each is
//! taken in order; the journal goes first, because it tells what cannot wait for a quorum. At most
//! [`WINDOW`] are with the master at once; its answers may come in any order, and the cursor of a lane
//! stands behind the last record of which all earlier ones are done too. When the session is lost,
//! everything that was not answered is sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::local::LocalRecord;
use vedette_core::record::Record;
use vedette_core::time::Instant;
use vedette_core::view::{Source, View};

use crate::cursor::{Cursor, Position};
use crate::notify::{local_notification, notification};
use crate::session::{Session, Told};

/// How many notifications may be with the master. A dead SNMPv3 receiver of informs holds net-snmp
/// up for six seconds each; more would hold up the answers for minutes.
const WINDOW: usize = 8;

/// How many records are fetched at once; most of a kind that is not notified are passed over.
const BATCH: usize = 64;

/// The cursor is put on disk at most so often; after a crash that much is sent twice.
const STORE_EVERY: Duration = Duration::from_millis(100);

/// Records of one kind on their way.
struct Lane<R> {
    /// Everything up to here is done.
    done: u64,
    /// Everything up to here was taken from the source.
    taken: u64,
    /// Records after those, fetched ahead.
    ahead: VecDeque<Arc<R>>,
    /// Records that were taken and are not done, or wait for one before them.
    pending: VecDeque<(u64, bool)>,
}

impl<R> Lane<R> {
    /// Goes on behind `done`.
    fn at(done: u64) -> Self {
        Self { done, taken: done, ahead: VecDeque::new(), pending: VecDeque::new() }
    }

    /// The next record, fetched by `fetch` if none was fetched ahead.
    fn next(&mut self, fetch: impl FnOnce(u64, usize) -> Vec<Arc<R>>) -> Option<Arc<R>> {
        if self.ahead.is_empty() {
            self.ahead.extend(fetch(self.taken, BATCH));
        }
        self.ahead.pop_front()
    }

    /// A record was taken; one that is not notified is done.
    fn take(&mut self, number: u64, done: bool) {
        self.taken = number;
        self.pending.push_back((number, done));
        self.advance();
    }

    /// The notification of a record was answered.
    fn answered(&mut self, number: u64) {
        if let Ok(place) = self.pending.binary_search_by_key(&number, |(number, _)| *number) {
            self.pending[place].1 = true;
            self.advance();
        }
    }

    fn advance(&mut self) {
        while let Some((number, true)) = self.pending.front() {
            self.done = *number;
            self.pending.pop_front();
        }
    }

    fn rewind(&mut self) {
        *self = Self::at(self.done);
    }
}

/// Notifications on their way.
pub(crate) struct Outbox {
    cursor: Box<dyn Cursor>,
    records: Lane<Record>,
    local: Lane<LocalRecord>,
    /// Everything up to here is on disk as done.
    stored: Option<Position>,
    stored_at: Instant,
    /// The last try to put it on disk failed.
    failing: bool,
    pub(crate) sent: u64,
    pub(crate) refused: u64,
}

impl Outbox {
    /// Goes on where the cursor stands. Without one, or with one of another history or journal, it
    /// begins at the present: nobody wants to be told of everything that ever happened.
    pub(crate) fn new(mut cursor: Box<dyn Cursor>, source: &dyn Source) -> Self {
        let view = source.view();
        let stored = cursor.load().unwrap_or_else(|why| {
            tracing::warn!(
                %why,
                "cannot read how far SNMP notifications were sent, so they go on from now; check the state directory"
            );
            None
        });
        let head = view.local.history_seq;
        let known = |seq: &u64| *seq <= head.max(view.state.seq) || head == 0;
        let seq = stored.map(|position| position.seq).filter(known).unwrap_or(head);
        let newest = newest_local(&view);
        // A journal that was not read yet has no newest; `fill` looks again.
        let known = |number: &u64| *number <= newest || newest == 0;
        let stored_local = stored.and_then(|position| position.local);
        // Of another journal what this run of the agent wrote is news.
        let begin = if stored_local.is_some() { view.local.journal_health.opened } else { newest };
        let local = stored_local.filter(known).unwrap_or(begin);
        let mut outbox = Self {
            cursor,
            records: Lane::at(seq),
            local: Lane::at(local),
            stored,
            stored_at: Instant::ZERO,
            failing: false,
            sent: 0,
            refused: 0,
        };
        outbox.store_if_due(Instant::ZERO + STORE_EVERY);
        outbox
    }

    /// The session is lost: what was not answered counts as not sent.
    pub(crate) fn rewind(&mut self) {
        self.records.rewind();
        self.local.rewind();
    }

    /// Whether there is something to send that was not taken yet.
    pub(crate) fn has_news(&self, view: &View) -> bool {
        let newest = newest_local(view);
        view.local.history_seq > self.records.taken || (newest > 0 && newest != self.local.taken)
    }

    /// Gives the master as many notifications as may be on their way.
    pub(crate) fn fill(&mut self, now: Instant, source: &Arc<dyn Source>, session: &mut Session) {
        let newest = newest_local(&source.view());
        if newest > 0 && newest < self.local.taken {
            // The journal is another one: what this run of the agent wrote is news.
            self.local = Lane::at(source.view().local.journal_health.opened.min(newest));
        }
        while session.in_flight() < WINDOW {
            let local = self.local.next(|number, most| source.local_after(number, most));
            if let Some(record) = local {
                let varbinds = local_notification(&record, &source.view());
                session.notify(now, Told::Local(record.number), varbinds);
                self.local.take(record.number, false);
                continue;
            }
            let record = self.records.next(|seq, most| source.records_after(seq, most));
            let Some(record) = record else { break };
            let varbinds = notification(&record, &source.view());
            self.records.take(record.seq, varbinds.is_none());
            if let Some(varbinds) = varbinds {
                session.notify(now, Told::Record(record.seq), varbinds);
            }
        }
    }

    /// The master took a notification, or refused it. A refusal is not repeated: it
    /// would be refused for ever and hold up all that follow.
    pub(crate) fn answered(&mut self, told: Told, error: u16) {
        match error {
            0 => self.sent += 1,
            _ => {
                self.refused += 1;
                tracing::warn!(?told, error, "the master SNMP agent refused a notification");
            }
        }
        match told {
            Told::SubagentUp => {}
            Told::Record(seq) => self.records.answered(seq),
            Told::Local(number) => self.local.answered(number),
        }
    }

    /// Up to where everything is done.
    pub(crate) fn done(&self) -> Position {
        Position { seq: self.records.done, local: Some(self.local.done) }
    }

    /// When [`Self::store_if_due`] wants to be called, if at all.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (Some(self.done()) != self.stored).then(|| self.stored_at + STORE_EVERY)
    }

    /// Puts the cursor on disk if it moved and if that was not done just before.
    pub(crate) fn store_if_due(&mut self, now: Instant) {
        if self.deadline().is_some_and(|due| now >= due) {
            self.stored_at = now;
            self.store();
        }
    }

    /// Puts the cursor on disk.
    pub(crate) fn store(&mut self) {
        let done = self.done();
        if Some(done) == self.stored {
            return;
        }
        let before = self.failing;
        match self.cursor.store(done) {
            Ok(()) => (self.stored, self.failing) = (Some(done), false),
            Err(why) => {
                self.failing = true;
                // Tried again ten times a second; said once.
                if !before {
                    tracing::warn!(
                        %why,
                        "cannot keep how far SNMP notifications were sent, so they may be sent again; check \
                         the disk"
                    );
                }
            }
        }
    }
}

/// Number of the last entry of this node's journal.
fn newest_local(view: &View) -> u64 {
    let last = view.local.journal.last().map_or(0, |record| record.number);
    last.max(view.local.journal_health.last)
}
