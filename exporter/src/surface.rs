//! What this crate is given, and what it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use vedette_collector::clinfo::Seen;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};
use vedette_core::time::WallTime;
use vedette_core::view::{Change, Source, View};

/// Which events are wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    /// Only those with a greater sequence number.
    pub after: u64,
    /// At most so many.
    pub limit: usize,
    /// Only those at least this bad.
    pub severity: Option<Severity>,
    /// Only those of this kind.
    pub code: Option<Code>,
}

impl EventQuery {
    /// Whether a record is wanted.
    pub fn wants(&self, record: &Record) -> bool {
        record.seq > self.after
            && self.severity.is_none_or(|least| record.severity <= least)
            && self.code.is_none_or(|code| record.code == code)
    }
}

/// The history could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the history cannot be read: {0}")]
pub struct HistoryUnavailable(pub String);

/// Where durable events come from. May block (it is called on a thread for that).
pub trait HistoryReader: Send + Sync + 'static {
    /// The wanted events, oldest first.
    ///
    /// # Errors
    /// The store cannot be read now.
    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Record>>, HistoryUnavailable>;

    /// Incidents (their numbers are below `before`), the latest first, at most `most`.
    ///
    /// # Errors
    /// The store cannot be read now.
    fn incidents(&self, before: u64, most: usize) -> Result<Vec<u64>, HistoryUnavailable>;

    /// The records of an incident, oldest first, at most `most`.
    ///
    /// # Errors
    /// The store cannot be read now.
    fn incident(&self, id: u64, most: usize) -> Result<Vec<Arc<Record>>, HistoryUnavailable>;
}

/// A history that has what the source still holds: the fallback where there is no store.
pub struct SourceHistory(pub Arc<dyn Source>);

impl SourceHistory {
    /// Everything the source still holds that is wanted.
    fn all(&self, wanted: impl Fn(&Record) -> bool) -> Vec<Arc<Record>> {
        let whole = self.0.records_after(0, usize::MAX);
        whole.into_iter().filter(|record| wanted(record)).collect()
    }
}

impl HistoryReader for SourceHistory {
    fn incidents(&self, before: u64, most: usize) -> Result<Vec<u64>, HistoryUnavailable> {
        let known = self.all(|record| record.incident.is_some_and(|id| id < before));
        let ids: BTreeSet<u64> = known.iter().filter_map(|record| record.incident).collect();
        Ok(ids.into_iter().rev().take(most).collect())
    }

    fn incident(&self, id: u64, most: usize) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
        let mut records = self.all(|record| record.incident == Some(id));
        records.truncate(most);
        Ok(records)
    }

    fn events(&self, query: &EventQuery) -> Result<Vec<Arc<Record>>, HistoryUnavailable> {
        const PAGE: usize = 1_024;
        let (mut wanted, mut after) = (Vec::new(), query.after);
        loop {
            let page = self.0.records_after(after, PAGE);
            let Some(last) = page.last().map(|record| record.seq) else { break };
            wanted.extend(page.into_iter().filter(|record| query.wants(record)));
            if wanted.len() >= query.limit || last <= after {
                break;
            }
            after = last;
        }
        wanted.truncate(query.limit);
        Ok(wanted)
    }
}

/// What every route reads.
pub struct Surface {
    /// The latest view.
    pub source: Arc<dyn Source>,
    /// Durable events.
    pub history: Arc<dyn HistoryReader>,
    /// The time by the clock of most nodes, by which the state is dated: beside one that is off by an hour
    /// every change would be an hour old, or in the future.
    pub clock: Arc<dyn Fn() -> WallTime + Send + Sync>,
    /// What is counted; the daemon adds to it.
    pub counters: Arc<Counters>,
    /// Revision and viewpoint of the latest view. Sent again, unchanged, when something else of the
    /// local part changed.
    pub changed: watch::Receiver<Change>,
    /// Sequence number of the last durable record.
    pub records: watch::Receiver<u64>,
}

impl Surface {
    /// A document built from the latest view.
    pub(crate) fn read<T>(&self, build: impl FnOnce(Seen<'_>) -> T) -> (T, Arc<View>) {
        let view = self.source.view();
        let seen = Seen { view: &view, now: (self.clock)(), stale: self.source.stale() };
        (build(seen), view)
    }
}

/// What is counted since the process started, beside what a view holds.
#[derive(Debug, Default)]
pub struct Counters {
    /// Whether the history could not be written when it was last tried.
    pub history_stalled: AtomicBool,
    /// Clients of `/api/v1/watch`.
    pub watchers: AtomicI64,
    /// Watchers that were told to begin anew because they did not keep up.
    pub watchers_resynced: AtomicU64,
    /// Events announced, by severity.
    pub(crate) events: [AtomicU64; Severity::ALL.len()],
    /// Address conflicts announced, by resource.
    conflicts: Mutex<BTreeMap<String, u64>>,
    requests: Mutex<BTreeMap<(String, u16), u64>>,
}

impl Counters {
    /// An answer was given.
    pub(crate) fn answered(&self, route: &str, status: u16) {
        let mut requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        match requests.get_mut(&(route.to_owned(), status)) {
            Some(count) => *count += 1,
            None => {
                requests.insert((route.to_owned(), status), 1);
            }
        }
    }

    /// Answers so far, by route and status.
    pub(crate) fn requests(&self) -> BTreeMap<(String, u16), u64> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An event was announced.
    pub(crate) fn announced(&self, record: &Record) {
        let place = Severity::ALL.iter().position(|each| *each == record.severity).unwrap_or(0);
        self.events[place].fetch_add(1, Ordering::Relaxed);
        if record.code == Code::AddressConflict {
            let mut conflicts = self.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
            *conflicts.entry(record.subject_name.clone()).or_default() += 1;
        }
    }

    /// Address conflicts of a resource so far.
    pub(crate) fn conflicts(&self, resource: &str) -> u64 {
        let conflicts = self.conflicts.lock().unwrap_or_else(PoisonError::into_inner);
        conflicts.get(resource).copied().unwrap_or(0)
    }
}
