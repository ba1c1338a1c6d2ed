//! Nodes that nobody waits for although they are there (finding F3): their agents have not run for a while, or
//! come and go.
//!
//! An agent that was killed is back in a moment, and the event in progress waits for it. One that cannot write
//! its log, or that dies at its first work, would hold up everybody's failover again and again. The director,
//! which has a clock, says when a node has been without a running agent for too long, and when it is to be
//! counted on again ([`ManagerCommand::Attend`](crate::command::ManagerCommand::Attend)).
//!
//! Invariant: a node that has something of a group is waited for in events that move it, as nobody else can let go of
//! it. It has no vote.

use crate::event::{Running, Stage};
use crate::id::NodeNumber;
use crate::model::{AgentStatus, Severity};
use crate::record::{Code, Subject};

use super::super::{ClusterState, Entry, RecordDraft};

impl ClusterState {
    /// Whether an answer of a node is to be waited for: it is there, and its agent runs or is away for a
    /// moment only; or nobody else can do what it has to do, as it has something of a group.
    pub(super) fn can_answer(&self, node: NodeNumber) -> bool {
        let holds = || self.groups.values().any(|group| group.instances.contains_key(&node));
        self.is_there(node) && (!self.is_absent(node) || holds())
    }

    /// Whether an event waits for an answer of one that takes part. Of those that are absent it does so for what they have
    /// that it moves.
    pub(super) fn is_waited_for(&self, running: &Running, node: NodeNumber) -> bool {
        let moves = || running.plan.moves.iter().any(|planned| planned.is_for(node));
        let needed = || running.stage == Stage::Voting || moves();
        self.can_answer(node) && (!self.is_absent(node) || needed())
    }

    fn is_absent(&self, node: NodeNumber) -> bool {
        self.manager.members.get(&node).is_some_and(|member| member.absent)
    }

    /// Approves a vote for those that are absent, as silence would in the end. What they have they may have to release.
    pub(super) fn approve_for_the_absent(&mut self) {
        let Some(running) = self.manager.current.as_ref() else { return };
        let absent = running.participants.difference(&running.approvals).copied();
        let absent: Vec<NodeNumber> = absent.filter(|node| self.is_absent(*node)).collect();
        let voting = |running: &&mut Running| running.stage == Stage::Voting;
        if let Some(running) = self.manager.current.as_mut().filter(voting) {
            running.approvals.extend(&absent);
            running.silent.extend(absent);
        }
    }

    /// The agent of a node has been away for so long that nobody waits for it (finding F3), or has come to
    /// stay.
    pub(super) fn attend(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        attends: bool,
    ) -> bool {
        let Some(known) = self.nodes.get(&node) else { return false };
        let (name, agent) = (known.name.clone(), known.agent);
        let runs = agent == AgentStatus::Running;
        let there = self.is_there(node);
        let Some(member) = self.manager.members.get_mut(&node) else { return false };
        if runs != attends || !there || !member.joined || member.absent != attends {
            return false;
        }
        member.absent = !attends;
        let (what, why, severity) = if attends {
            ("takes part in events again", "its agent runs".into(), Severity::Notice)
        } else {
            let why = format!("its agent is {agent} and does not answer; nobody waits for it");
            ("takes no part in events", why, Severity::Warning)
        };
        let message = format!("manager of {name} {what}");
        self.record(
            entry,
            RecordDraft::new(Code::Manager, severity, Subject::Node(node), message).because(why),
        );
        true
    }

    /// A node that is gone, or has yet to join, is no absent participant.
    pub(super) fn forget_the_absent(&mut self) {
        let there: Vec<NodeNumber> =
            self.manager.members.keys().copied().filter(|node| self.is_there(*node)).collect();
        for (node, member) in &mut self.manager.members {
            member.absent &= member.joined && there.contains(node);
        }
    }
}
