//! The publisher: turns what is applied into what is shown.
//!
//! The log tells it of every entry ([`Applied`]); it keeps the latest state and records, hands
//! the records to the history, and publishes a new [`View`]. It is the one [`Source`] of every
//! surface. A reader takes the latest view and never waits for another reader, nor does the log
//! wait for any of them; only a history that cannot keep up (a full disk) is waited for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;
use vedette_collector::history::{Head, History, HistoryError};
use vedette_core::clock::disagree;
use vedette_core::group::GroupState;
use vedette_core::id::{NodeNumber, Session};
use vedette_core::local_view::lead;
use vedette_core::local_view::{JournalHealth, Local, LogView};
use vedette_core::model::{AgentStatus, HostStatus, Role, Severity};
use vedette_core::record::{Code, Record};
use vedette_core::state::ClusterState;
use vedette_core::time::WallTime;
use vedette_core::view::{Change, Source, View};
use vedette_node::log::Applied;

use super::proposer::{cluster_time, own_clock_us};

/// What was applied so far.
struct AppliedState {
    state: Arc<ClusterState>,
    recent: VecDeque<Arc<Record>>,
    shown: Arc<[Arc<Record>]>,
    local: Local,
    viewpoint: Option<Viewpoint>,
    /// The cluster's clock minus the monotonic one, in microseconds, when moments of this node were dated.
    dated: Option<i64>,
}

impl AppliedState {
    /// Moments of this node's own stay as long ago as they are: they are dated anew when the clock is set by which
    /// it shows them.
    fn date_anew(&mut self) {
        let own_us = own_clock_us();
        let lead_us = lead(&self.local, self.state.director, Some(own_us));
        let now = own_us.saturating_sub(lead_us);
        let set_us = now.saturating_sub(*self.dated.get_or_insert(now));
        if disagree(set_us, true) {
            self.dated = Some(now);
            self.local.date_anew(set_us);
        }
    }
}

/// What a reader who waits is woken for although the revision is the same: from where this node sees
/// the cluster, and what it says of itself.
#[derive(Clone, Debug, PartialEq)]
struct Viewpoint {
    quorate: bool,
    knows: bool,
    director: bool,
    host: HostStatus,
    agent: AgentStatus,
    stage: &'static str,
    waiting_for: String,
    groups: Arc<BTreeMap<String, GroupState>>,
    conditions: usize,
}

impl Viewpoint {
    fn of(view: &View) -> Self {
        let local = &view.local;
        Self {
            quorate: local.quorate,
            knows: local.knows(),
            director: local.director,
            host: local.host,
            agent: local.agent,
            stage: local.stage,
            waiting_for: local.waiting_for.clone(),
            groups: local.groups.clone(),
            conditions: local.conditions.len(),
        }
    }
}

/// See the module.
pub(crate) struct Publisher {
    known: Mutex<AppliedState>,
    /// As applied, for whoever works by it.
    view: watch::Sender<Arc<View>>,
    /// As surfaces may show it.
    shown: watch::Sender<Arc<View>>,
    change: watch::Sender<Change>,
    /// When this node was last part of a quorum; `None` while it is.
    stale_since: Mutex<Option<Instant>>,
    history: Arc<History>,
    /// Records up to this one were there before this process started, and are not news.
    old_until: u64,
    /// Records up to this one are in a state that was installed as a whole.
    installed_seq: AtomicU64,
}

impl Publisher {
    /// A publisher of the state `initial`, with the latest records that the history holds.
    pub(crate) fn new(
        node: NodeNumber,
        session: Session,
        initial: ClusterState,
        history: Arc<History>,
    ) -> Result<Self, HistoryError> {
        let mut latest = history.before(u64::MAX, View::RECENT)?;
        latest.reverse();
        let recent: VecDeque<Arc<Record>> = latest.into_iter().map(Arc::new).collect();
        let state = Arc::new(initial);
        let local = Local {
            node,
            session,
            lease: false,
            quorate: false,
            director: false,
            role: Role::Learner,
            host: HostStatus::Unknown,
            agent: AgentStatus::Initializing,
            stage: "topology",
            waiting_for: "its own guard".into(),
            report: None,
            clocks: Arc::default(),
            history_seq: history.head().seq,
            agentx: None,
            monitors: Arc::default(),
            unknown_since: None,
            presented: false,
            groups: Arc::default(),
            conditions: Arc::default(),
            journal: Arc::default(),
            journal_health: JournalHealth::default(),
            log: LogView::default(),
        };
        let shown: Arc<[Arc<Record>]> = recent.iter().cloned().collect();
        let view = View {
            state: state.clone(),
            known: None,
            recent: shown.clone(),
            local: local.clone(),
            viewpoint: 0,
        };
        Ok(Self {
            known: Mutex::new(AppliedState {
                state,
                recent,
                shown,
                local,
                viewpoint: None,
                dated: None,
            }),
            shown: watch::Sender::new(Arc::new(view.shown())),
            view: watch::Sender::new(Arc::new(view)),
            change: watch::Sender::new(Change::default()),
            stale_since: Mutex::new(Some(Instant::now())),
            old_until: history.head().seq.max(history.floor()),
            history,
            installed_seq: AtomicU64::new(0),
        })
    }

    /// The clock that surfaces show.
    pub(crate) fn clock(&self) -> WallTime {
        let view = self.view.borrow();
        cluster_time(&view.local, view.state.director)
    }

    /// The latest view as applied, followed as it changes. What it shows of others may be of the past:
    /// surfaces take [`Source::view`] instead.
    pub(crate) fn views(&self) -> watch::Receiver<Arc<View>> {
        self.view.subscribe()
    }

    /// The latest revision and viewpoint, followed as they change.
    pub(crate) fn changes(&self) -> watch::Receiver<Change> {
        self.change.subscribe()
    }

    /// The latest state.
    pub(crate) fn state(&self) -> Arc<ClusterState> {
        self.lock().state.clone()
    }

    /// The last record of a state that was installed as a whole: records up to it may have to be
    /// fetched from other nodes.
    pub(crate) fn installed_seq(&self) -> u64 {
        self.installed_seq.load(Ordering::SeqCst)
    }

    /// The history behind it.
    pub(crate) fn history(&self) -> &Arc<History> {
        &self.history
    }

    /// The last durable record, followed as it changes.
    pub(crate) fn durable(&self) -> watch::Receiver<Head> {
        self.history.durable()
    }

    /// Changes what this node knows of itself, and publishes if that made a difference.
    pub(crate) fn update_local(&self, change: impl FnOnce(&mut Local)) {
        let mut known = self.lock();
        let before = known.local.clone();
        change(&mut known.local);
        if known.local == before {
            return;
        }
        self.publish(&mut known);
    }

    /// Keeps in mind since when this node does not know the state of the cluster: since a loss of quorum
    /// that an earlier run of the agent saw, if it stands.
    fn mark_age(&self, known: &mut AppliedState) {
        let now = cluster_time(&known.local, known.state.director);
        let local = &mut known.local;
        let mut since = self.stale_since.lock().unwrap_or_else(PoisonError::into_inner);
        if local.knows() {
            (*since, local.unknown_since) = (None, None);
            return;
        }
        let at = *local.unknown_since.get_or_insert(now);
        let counted = since.get_or_insert_with(Instant::now);
        let lost = local.conditions.iter().find(|it| it.code == Code::QuorumLost);
        if let Some(lost) = lost.map(|it| it.since).filter(|lost| *lost < at) {
            local.unknown_since = Some(lost);
            let longer = u64::try_from(at.0 - lost.0).map(Duration::from_micros);
            *counted = longer.ok().and_then(|by| counted.checked_sub(by)).unwrap_or(*counted);
        }
    }

    fn lock(&self) -> MutexGuard<'_, AppliedState> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, known: &mut AppliedState) {
        known.date_anew();
        self.mark_age(known);
        let mut view = View {
            state: known.state.clone(),
            known: None,
            recent: known.shown.clone(),
            local: known.local.clone(),
            viewpoint: self.change.borrow().viewpoint,
        };
        let viewpoint = Some(Viewpoint::of(&view));
        if known.viewpoint != viewpoint {
            view.viewpoint += 1;
            known.viewpoint = viewpoint;
        }
        let change = Change { revision: known.state.revision, viewpoint: view.viewpoint };
        self.shown.send_replace(Arc::new(view.shown()));
        self.view.send_replace(Arc::new(view));
        // Also when only the local part changed: surfaces show that too.
        self.change.send_replace(change);
    }

    fn take(&self, state: &Arc<ClusterState>, records: &[Arc<Record>]) {
        let mut known = self.lock();
        known.state = state.clone();
        if let Some(me) = state.nodes.get(&known.local.node) {
            known.local.role = me.role;
        }
        let last = known.recent.back().map_or(0, |record| record.seq);
        known.recent.extend(records.iter().filter(|record| record.seq > last).cloned());
        while known.recent.len() > View::RECENT {
            known.recent.pop_front();
        }
        if !records.is_empty() {
            known.shown = known.recent.iter().cloned().collect();
        }
        self.publish(&mut known);
    }

    /// Hands records to the history; where it is full, waits until it has room.
    async fn keep(&self, records: &[Arc<Record>]) {
        let mut warned = false;
        loop {
            let refused = match self.history.append(records.iter().cloned()) {
                Ok(appended) => appended.refused,
                Err(error) => {
                    tracing::error!(%error, "a record does not fit the history of this node");
                    return;
                }
            };
            if refused == 0 {
                return;
            }
            if !warned {
                tracing::error!("the history takes no more records; this node waits for it");
                warned = true;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    fn log(&self, record: &Record) {
        if record.seq <= self.old_until {
            return;
        }
        let (seq, cause, message) = (record.seq, &record.cause, &record.message);
        match record.severity {
            Severity::Error => tracing::error!(seq, %cause, "{message}"),
            Severity::Warning => tracing::warn!(seq, %cause, "{message}"),
            Severity::Notice => tracing::info!(seq, %cause, "{message}"),
            Severity::Informational => tracing::debug!(seq, %cause, "{message}"),
        }
    }
}

impl Applied for Publisher {
    fn applied<'a>(
        &'a self,
        state: &'a Arc<ClusterState>,
        _index: u64,
        records: Vec<Record>,
    ) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let records: Vec<Arc<Record>> = records.into_iter().map(Arc::new).collect();
            self.take(state, &records);
            if !records.is_empty() {
                self.keep(&records).await;
            }
            for record in &records {
                self.log(record);
            }
        })
    }

    fn installed<'a>(&'a self, state: &'a Arc<ClusterState>) -> BoxFuture<'a, ()> {
        self.installed_seq.fetch_max(state.seq, Ordering::SeqCst);
        Box::pin(async move { self.take(state, &[]) })
    }
}

impl Source for Publisher {
    fn view(&self) -> Arc<View> {
        self.shown.borrow().clone()
    }

    fn stale(&self) -> Duration {
        let since = *self.stale_since.lock().unwrap_or_else(PoisonError::into_inner);
        since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>> {
        match self.history.after(seq, most) {
            Ok(records) => records.into_iter().map(Arc::new).collect(),
            Err(error) => {
                tracing::warn!(%error, "the history cannot be read");
                Vec::new()
            }
        }
    }
}
