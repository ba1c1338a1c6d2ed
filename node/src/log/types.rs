//! What the log is made of: openraft's generic types with our choices filled in.
//!
//! Only one of them, [`Types`], depends on the async runtime; entries, votes and snapshots are plain
//! values. That is why the very same state machine, network and configuration run on tokio in a
//! daemon and on a virtual clock in the simulator.
//!
//! Two choices matter. Leader ids are those of standard Raft, so that *at most one leader exists in
//! a term* and a term names its director. And a member of the log is a bare number: addresses come
//! from the cluster state, because an address in the log's membership could disagree with it, and
//! changing one there is a way to a split brain.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use openraft::vote::RaftLeaderId;
use openraft::{
    AsyncRuntime, EmptyNode, EntryPayload, OptionalSend, RaftTypeConfig, StoredMembership,
};
use vedette_core::command::Proposal;
use vedette_core::state::{ClusterState, Outcome};

/// Who leads in which term.
pub type LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>;
/// Which leader made an entry: its term.
pub type Committed = <LeaderId as RaftLeaderId>::Committed;
/// Position of an entry: term and index.
pub type LogId = openraft::LogId<Committed>;
/// A vote, or the proof of leadership once it is committed.
pub type Vote = openraft::Vote<LeaderId>;
/// What an entry carries: nothing, a proposal, or the log's membership.
pub type Payload = EntryPayload<Proposal, u64, EmptyNode>;
/// An entry.
pub type Entry = openraft::Entry<Committed, Payload>;
/// The log's membership and the entry that set it.
pub type Members = StoredMembership<Committed, u64, EmptyNode>;
/// What a snapshot stands for.
pub type SnapshotMeta = openraft::SnapshotMeta<Committed, u64, EmptyNode>;
/// The state at an index.
pub type Snapshot = openraft::Snapshot<Committed, u64, EmptyNode, Arc<ClusterState>>;

/// openraft's parameters on the runtime `R`.
pub struct Types<R>(PhantomData<fn() -> R>);

impl<R: AsyncRuntime> RaftTypeConfig for Types<R> {
    type D = Proposal;
    type R = Outcome;
    type NodeId = u64;
    type Node = EmptyNode;
    type Term = u64;
    type LeaderId = LeaderId;
    type Vote = Vote;
    type Payload = Payload;
    type Entry = Entry;
    type AsyncRuntime = R;
    type Responder<T>
        = openraft::impls::ProgressResponder<Self, T>
    where
        T: OptionalSend + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: OptionalSend + 'static;
    type ErrorSource = openraft::impls::BoxedErrorSource;
}

// Derived implementations would ask the same of `R`, which is a mere name here.

impl<R> Clone for Types<R> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<R> Copy for Types<R> {}

impl<R> Default for Types<R> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<R> fmt::Debug for Types<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Types")
    }
}

impl<R> PartialEq for Types<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<R> Eq for Types<R> {}

impl<R> PartialOrd for Types<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for Types<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}
