//! The view: what every surface renders, and the only thing it may render.
//!
//! A [`View`] is an immutable snapshot: the replicated state at one revision, the latest records,
//! and what this node knows of itself ([`Local`]). Two nodes at the same revision show the same
//! `state`; `local` differs, and is labelled as such wherever it is shown.

use std::sync::Arc;
use std::time::Duration;

use crate::local::LocalRecord;
use crate::local_view::Local;
use crate::model::ClusterStatus;
use crate::record::Record;
use crate::state::ClusterState;

/// A snapshot of everything that may be shown.
#[derive(Clone, Debug)]
pub struct View {
    /// The cluster's state, as this node may show it: the replicated one, identical on every node at
    /// equal `state.revision`; without a quorum, what [`crate::knowledge::present`] leaves of it.
    pub state: Arc<ClusterState>,
    /// What was known last, where `state` is not that.
    pub known: Option<Arc<ClusterState>>,
    /// The latest records, oldest first, at most [`View::RECENT`]; the history holds all.
    pub recent: Arc<[Arc<Record>]>,
    /// What this node knows of itself.
    pub local: Local,
    /// See [`Change::viewpoint`].
    pub viewpoint: u64,
}

impl View {
    /// How many records a view holds.
    pub const RECENT: usize = 256;

    /// The number by which surfaces are compared: the log index of the last command that changed
    /// the state.
    pub fn revision(&self) -> u64 {
        self.state.revision
    }

    /// Cluster state as this node may claim it: `unknown` without a quorum, whatever the last
    /// state it heard of was.
    pub fn cluster_status(&self) -> ClusterStatus {
        if self.local.knows() { self.state.status } else { ClusterStatus::Unknown }
    }

    /// The view as surfaces may show it.
    pub fn shown(&self) -> Self {
        if self.known.is_some() || self.local.knows() {
            return self.clone();
        }
        let shown = crate::knowledge::present(&self.state, &self.local);
        Self { state: Arc::new(shown), known: Some(self.state.clone()), ..self.clone() }
    }

    /// The state that was replicated last, whether or not it may be shown as the present one.
    pub fn last_known(&self) -> &Arc<ClusterState> {
        self.known.as_ref().unwrap_or(&self.state)
    }
}

/// What readers wait for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The revision of the latest view.
    pub revision: u64,
    /// Counts up when the node's own part changes in a way that a reader may wait for: quorum,
    /// director, stage, host, what it waits for, what it holds, its conditions.
    pub viewpoint: u64,
}

/// Where a surface gets what it shows. Implemented by the agent, and by fixtures in tests.
pub trait Source: Send + Sync + 'static {
    /// The latest view; cheap.
    fn view(&self) -> Arc<View>;

    /// Time since this node last knew itself to be part of a quorum; zero while it is.
    fn stale(&self) -> Duration;

    /// Records after `seq`, oldest first, at most `most`; only durable ones.
    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>>;

    /// Local records after `number`, oldest first, at most `most`; told at once, durable or not.
    fn local_after(&self, number: u64, most: usize) -> Vec<Arc<LocalRecord>> {
        let view = self.view();
        view.local.journal.iter().filter(|it| it.number > number).take(most).cloned().collect()
    }
}
