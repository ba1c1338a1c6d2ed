//! Does the agent run? A guard says it of its own agent, in its beats and in its reports (A9).
//!
//! Two sources can disagree for a moment. A report of the node itself is carried by its agent, so
//! one that has just arrived proves that the agent is alive. A peer's word is what the guard said
//! in its last beat, and may be older than it looks. Hence: RUNNING only by the node's own report;
//! DOWN by any peer whose word is newer than that report; and no return from DOWN on the word of
//! peers until they agree.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::Change;
use crate::id::NodeNumber;
use crate::model::{AgentStatus, HostStatus, Node};

use super::{Picture, Received};

impl Picture<'_> {
    pub(super) fn agent_changes(&self, hosts: &BTreeMap<NodeNumber, HostStatus>) -> Vec<Change> {
        self.state
            .nodes
            .values()
            .filter(|node| hosts.get(&node.number) == Some(&HostStatus::Up))
            .filter_map(|node| {
                let (to, cause) = self.agent_verdict(node)?;
                (node.agent != to).then_some(Change::Agent { node: node.number, to, cause })
            })
            .collect()
    }

    fn agent_verdict(&self, node: &Node) -> Option<(AgentStatus, String)> {
        let own = self.fresh(node.number);
        if node.number != self.me
            && let Some(who) = self.guard_says_down(node, own)
        {
            let who = self.names(who);
            return Some((AgentStatus::Down, format!("its guard says so, as {who} heard")));
        }
        match own {
            Some(own) if own.age < self.report_gap() || node.agent != AgentStatus::Running => {
                self.own_word(own)
            }
            // A report that is a little late is no reason to doubt a running agent; that all peers
            // hear of a new start is.
            Some(own) => self.starting(node, Some(own)),
            None => self.starting(node, None),
        }
    }

    /// A node whose agent runs reports at least this often.
    fn report_gap(&self) -> Duration {
        self.detect / 2
    }

    fn own_word(&self, own: &Received) -> Option<(AgentStatus, String)> {
        let cause = match own.report.agent {
            AgentStatus::Running => "it reports to the director",
            AgentStatus::Initializing => "it has started and is catching up",
            AgentStatus::Invalid => "it does not belong to this cluster",
            AgentStatus::Down | AgentStatus::Unknown => return None,
        };
        Some((own.report.agent, cause.into()))
    }

    /// Peers whose word is newer than the node's own report and says DOWN. Where the agent became
    /// what it is a moment ago, a peer may not have heard of it yet; then its word must be younger
    /// than that moment, or the reports must have stopped.
    fn guard_says_down(&self, node: &Node, own: Option<&Received>) -> Option<Vec<NodeNumber>> {
        let settled = self.evidence.agent_settled.get(&node.number).copied().unwrap_or_default();
        let believed_at_once = node.agent == AgentStatus::Down || settled >= self.interval * 2;
        let reports = own.is_some_and(|own| own.age < self.report_gap());
        let believed = |observer: NodeNumber| {
            believed_at_once || !reports || self.heard_within(observer, node.number, settled)
        };
        let newer = |age| own.is_none_or(|own| age < own.age);
        let who: Vec<NodeNumber> = self
            .peer_views_of(node.number)
            .iter()
            .filter(|(_, age, view)| newer(*age) && view.agent == AgentStatus::Down)
            .map(|(observer, ..)| *observer)
            .filter(|observer| believed(*observer))
            .collect();
        (!who.is_empty()).then_some(who)
    }

    /// Whether an observer heard a node certainly less than `settled` ago: half a beat is allowed
    /// for what its report took to get here.
    fn heard_within(&self, observer: NodeNumber, node: NodeNumber, settled: Duration) -> bool {
        let sights = self.sights_of(node).iter().filter(|sight| sight.observer == observer);
        let heard = sights.filter(|sight| sight.ever_heard()).map(|sight| sight.since_heard());
        heard.min().is_some_and(|heard| heard + self.interval / 2 <= settled)
    }

    /// Whether all peers that hear the node say that its agent is there, while it does not report.
    fn starting(&self, node: &Node, own: Option<&Received>) -> Option<(AgentStatus, String)> {
        let words: Vec<AgentStatus> = self
            .peer_views_of(node.number)
            .iter()
            .filter(|(_, age, _)| own.is_none_or(|own| *age < own.age))
            .map(|(_, _, view)| view.agent)
            .filter(|word| *word != AgentStatus::Unknown)
            .collect();
        let all = |accepted: &[AgentStatus]| words.iter().all(|word| accepted.contains(word));
        let starts = if node.agent == AgentStatus::Running {
            all(&[AgentStatus::Initializing])
        } else {
            all(&[AgentStatus::Initializing, AgentStatus::Running])
        };
        (starts && !words.is_empty())
            .then(|| (AgentStatus::Initializing, "it has started and does not report yet".into()))
    }
}
