//! A local log as tests have it: of n1 in a cluster of three, with a history of its own on disk.

use std::sync::Arc;

use vedette_collector::history::History;
use vedette_core::fixture::Fixture;
use vedette_core::id::{NodeNumber, Session};
use vedette_core::local::Phase;
use vedette_core::record::Code;
use vedette_core::state::ClusterState;

use super::super::publisher::Publisher;
use super::LocalLog;

/// The node whose log it is.
pub(super) const N1: NodeNumber = NodeNumber(1);

/// A node in a run of its agent.
pub(super) struct Node {
    pub(super) log: LocalLog,
    pub(super) state: ClusterState,
    directory: tempfile::TempDir,
}

impl Node {
    /// A node whose journal is empty.
    pub(super) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        Self::start(directory, Fixture::settled(3).state, Session(1))
    }

    /// Ends this run of the agent and begins another one, which goes on with the journal on disk.
    pub(super) fn restart(self) -> Self {
        let Self { log, state, directory } = self;
        // The last one who holds the history has it written.
        drop(log);
        Self::start(directory, state, Session(2))
    }

    fn start(directory: tempfile::TempDir, state: ClusterState, session: Session) -> Self {
        let history = History::open(directory.path().join("history.db")).expect("a history");
        let publisher = Publisher::new(N1, session, state.clone(), Arc::new(history));
        let publisher = Arc::new(publisher.expect("a publisher"));
        let log = LocalLog::new((N1, "n1".into()), session, publisher);
        Self { log, state, directory }
    }

    /// Codes of the conditions that stand, each with its cause.
    pub(super) fn conditions(&self) -> Vec<(Code, String)> {
        self.log.raised().into_iter().map(|it| (it.code, it.cause)).collect()
    }

    /// Everything in the journal, in order.
    pub(super) fn told(&self) -> Vec<(Phase, String)> {
        let journal = self.log.history().local_recent();
        journal.iter().map(|it| (it.content.phase, it.content.message.clone())).collect()
    }
}
