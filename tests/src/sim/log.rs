//! The replicated log as the nodes see it: who leads, what is committed, who has it on disk.
//!
//! It is one object, but it is honest where it matters: a leader commits only with a majority of
//! voters that it reaches in both directions; one that lost its majority is deposed after an
//! election time, and the next takes as long again; only a node that has everything that was
//! committed can be elected; a proposal whose leader was deposed may be in the log or not.

use std::collections::{BTreeMap, VecDeque};

use vedette_core::command::Proposal;

/// The log of the cluster.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// What is committed; the entry at position `i` has index `i + 1`.
    pub(super) entries: Vec<Proposal>,
    /// The leader and its term.
    pub(super) leader: Option<(usize, u64)>,
    /// Since when that node leads.
    pub(super) leader_since: u64,
    /// When the leader last had a majority.
    pub(super) confirmed: u64,
    /// When a leader last led a seeded cluster.
    pub(super) seeded_until: u64,
    /// The last term.
    pub(super) term: u64,
    /// When the next election may be won.
    pub(super) election_at: u64,
    /// Who votes.
    pub(super) voters: Vec<usize>,
    /// How many entries each node has on disk.
    pub(super) stored: Vec<usize>,
    /// Proposals of deposed leaders that some voter may have received.
    pub(super) limbo: VecDeque<Proposal>,
    /// Terms won so far, by node; for figures.
    pub(super) elections: BTreeMap<usize, u64>,
}

impl Log {
    pub(super) fn committed(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn leads(&self, node: usize) -> bool {
        self.leader.is_some_and(|(leader, _)| leader == node)
    }

    /// Whether so many voters are a majority.
    pub(super) fn majority(voters: &[usize], count: usize) -> bool {
        count * 2 > voters.len()
    }
}
