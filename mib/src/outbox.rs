//! Which notifications are on their way, and how far the cursor may move.
//!
//! Records are taken in order. At most [`WINDOW`] are with the master at once; its answers may come
//! in any order, and the cursor stands behind the last record of which all earlier ones are done
//! too. When the session is lost, everything that was not answered is sent again.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::record::Record;
use vedette_core::time::Instant;
use vedette_core::view::Source;

use crate::cursor::Cursor;
use crate::notify::notification;
use crate::pdu::VarBind;
use crate::session::Session;

/// How many notifications may be with the master. A dead SNMPv3 receiver of informs holds net-snmp
/// up for six seconds each; more would hold up the answers for minutes.
const WINDOW: usize = 8;

/// How many records are fetched at once; most of a kind that is not notified are passed over.
const BATCH: usize = 64;

/// The cursor is put on disk at most so often; after a crash that much is sent twice.
const STORE_EVERY: Duration = Duration::from_millis(100);

/// Notifications on their way.
pub(crate) struct Outbox {
    cursor: Box<dyn Cursor>,
    /// Everything up to here is done.
    done: u64,
    /// Everything up to here is on disk as done.
    stored: u64,
    stored_at: Instant,
    /// Everything up to here was taken from the source.
    taken: u64,
    /// Records after those, fetched ahead.
    ahead: VecDeque<Arc<Record>>,
    /// Records that were taken and are not done, or wait for one before them.
    pending: VecDeque<(u64, bool)>,
    pub(crate) sent: u64,
    pub(crate) refused: u64,
}

impl Outbox {
    /// Goes on where the cursor stands. Without one, or with one of another history, it begins at
    /// the present: nobody wants to be told of everything that ever happened.
    pub(crate) fn new(cursor: Box<dyn Cursor>, source: &dyn Source) -> Self {
        let view = source.view();
        let head = view.local.history_seq;
        let mut outbox = Self {
            cursor,
            done: head,
            stored: u64::MAX,
            stored_at: Instant::ZERO,
            taken: head,
            ahead: VecDeque::new(),
            pending: VecDeque::new(),
            sent: 0,
            refused: 0,
        };
        match outbox.cursor.load() {
            Ok(Some(seq)) if seq <= head.max(view.state.seq) || head == 0 => {
                (outbox.done, outbox.taken, outbox.stored) = (seq, seq, seq);
            }
            Ok(_) => {}
            Err(why) => tracing::warn!(
                %why,
                "cannot read how far SNMP notifications were sent, so they go on from now; check the state directory"
            ),
        }
        outbox.store_if_due(Instant::ZERO + STORE_EVERY);
        outbox
    }

    /// The session is lost: what was not answered counts as not sent.
    pub(crate) fn rewind(&mut self) {
        self.pending.clear();
        self.ahead.clear();
        self.taken = self.done;
    }

    /// Gives the master as many notifications as may be on their way.
    pub(crate) fn fill(&mut self, now: Instant, source: &Arc<dyn Source>, session: &mut Session) {
        while session.in_flight() < WINDOW {
            if self.ahead.is_empty() {
                self.ahead.extend(source.records_after(self.taken, BATCH));
            }
            let Some(record) = self.ahead.pop_front() else { break };
            let varbinds = notification(&record, &source.view());
            self.take(now, &record, varbinds, session);
        }
        self.advance();
    }

    fn take(
        &mut self,
        now: Instant,
        record: &Record,
        varbinds: Option<Vec<VarBind>>,
        session: &mut Session,
    ) {
        self.taken = record.seq;
        self.pending.push_back((record.seq, varbinds.is_none()));
        if let Some(varbinds) = varbinds {
            session.notify(now, record.seq, varbinds);
        }
    }

    /// The master took the notification of a record, or refused it. A refusal is not repeated: it
    /// would be refused for ever and hold up all that follow.
    pub(crate) fn answered(&mut self, seq: u64, error: u16) {
        let Ok(place) = self.pending.binary_search_by_key(&seq, |(seq, _)| *seq) else { return };
        self.pending[place].1 = true;
        match error {
            0 => self.sent += 1,
            _ => {
                self.refused += 1;
                tracing::warn!(seq, error, "the master SNMP agent refused a notification");
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some((seq, true)) = self.pending.front() {
            self.done = *seq;
            self.pending.pop_front();
        }
    }

    /// When [`Self::store_if_due`] wants to be called, if at all.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (self.done != self.stored).then(|| self.stored_at + STORE_EVERY)
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
        if self.done == self.stored {
            return;
        }
        match self.cursor.store(self.done) {
            Ok(()) => self.stored = self.done,
            Err(why) => tracing::warn!(
                %why,
                "cannot keep how far SNMP notifications were sent, so they may be sent again; check the disk"
            ),
        }
    }

    /// The last record that was taken from the source.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    /// The last record that is done.
    pub(crate) fn done(&self) -> u64 {
        self.done
    }
}
