//! The state of each node's manager (spec H11), worked out from everything else.
//!
//! It is kept in the state only so that its changes can be recorded: one record for all nodes that
//! go from the same state to the same state.

use std::collections::BTreeMap;

use crate::event::{ManagerState, Member, Running, Stage};
use crate::id::NodeNumber;
use crate::model::{AgentStatus, Severity};
use crate::record::{Code, Subject};
use crate::time::WallTime;
use crate::trigger::Trigger;

use super::{ClusterState, Entry, RecordDraft, ms_between};

impl ClusterState {
    /// Brings the states of all managers up to date.
    pub(super) fn mark_states(&mut self, entry: &mut Entry<'_>) {
        let states: Vec<(NodeNumber, ManagerState)> = self
            .manager
            .members
            .iter()
            .map(|(node, member)| (*node, self.manager_state(*node, member)))
            .collect();
        self.set_states(entry, states);
    }

    pub(super) fn set_states(
        &mut self,
        entry: &mut Entry<'_>,
        states: Vec<(NodeNumber, ManagerState)>,
    ) {
        let mut changes: BTreeMap<(ManagerState, ManagerState), (Vec<NodeNumber>, WallTime)> =
            BTreeMap::new();
        for (node, state) in states {
            let Some(member) = self.manager.members.get_mut(&node) else { continue };
            if member.state == state {
                continue;
            }
            let from = std::mem::replace(&mut member.state, state);
            let since = std::mem::replace(&mut member.since, entry.proposal.at);
            let (nodes, first) = changes.entry((from, state)).or_insert((Vec::new(), since));
            nodes.push(node);
            *first = since.min(*first);
        }
        for ((from, to), (nodes, since)) in changes {
            let took = ms_between(since, entry.proposal.at);
            self.record_states(entry, (from.name(), to.name()), &nodes, took);
        }
    }

    /// With the time that they were in the state before (the longest, of several).
    fn record_states(
        &mut self,
        entry: &mut Entry<'_>,
        (from, to): (&str, &str),
        nodes: &[NodeNumber],
        took: u64,
    ) {
        let (subject, word) = match nodes {
            [node] => (Subject::Node(*node), "manager"),
            _ => (Subject::Cluster, "managers"),
        };
        let message = format!("{word} of {}: {from} → {to}", self.names(nodes));
        let mut happening =
            RecordDraft::new(Code::Manager, Severity::Informational, subject, message)
                .change(from, to);
        if let Some(running) = &self.manager.current {
            let (event, incident) = (running.event.id, running.event.incident);
            happening = happening.of_event(event, None, None).of_incident(Some(incident));
        }
        happening.node = nodes.first().copied().filter(|_| nodes.len() == 1);
        happening.duration_ms = Some(took);
        self.record(entry, happening);
    }

    fn manager_state(&self, node: NodeNumber, member: &Member) -> ManagerState {
        let agent = self.nodes.get(&node).map(|known| known.agent);
        if !self.is_there(node) {
            return ManagerState::Unknown;
        }
        match agent {
            Some(AgentStatus::Running) => {}
            Some(AgentStatus::Initializing) if !member.joined => return ManagerState::Init,
            _ => return ManagerState::Unknown,
        }
        let current = self.manager.current.as_ref();
        let aside = self.manager.aside.iter().filter(|running| running.is_at_work());
        let mut events = current.into_iter().chain(aside);
        if let Some(running) = events.find(|running| running.participants.contains(&node)) {
            return state_in(running, node);
        }
        let quiet = self.manager.queue.is_empty() && current.is_none();
        let settles = self.waits(|t| *t == Trigger::NodeUp(node)) && current.is_none();
        match (member.joined, member.stopped) {
            (true, _) if quiet => ManagerState::Stable,
            (true, _) => ManagerState::Unstable,
            (false, Some(_)) => ManagerState::Done,
            (false, None) if settles => ManagerState::Unstable,
            (false, None) => ManagerState::Joining,
        }
    }
}

fn state_in(running: &Running, node: NodeNumber) -> ManagerState {
    let last = running.phase + 1 >= running.program.phases.len();
    match running.stage {
        Stage::Voting => ManagerState::Voting,
        _ if running.failed.contains(&node) => ManagerState::Error,
        _ if running.arrived.contains(&node) && last => ManagerState::Cbarrier,
        _ if running.arrived.contains(&node) => ManagerState::Barrier,
        _ => ManagerState::RpRunning,
    }
}
