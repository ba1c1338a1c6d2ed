//! Who votes: three or five nodes, never an even number, healed when one stays away.
//!
//! A majority of the voters must be there for anything to be decided. Of `2k` voters, `k` may not
//! fail, as of `2k - 1`; the additional one only adds a machine that can break. Hence odd numbers,
//! and with two members *one* voter, not two: two voters stand still when either fails, one voter
//! stands still only when it is the one that fails. The price is that with two members the log is
//! on one disk when it is acknowledged and on the other a moment later; a third member removes both
//! limits. The one voter is the director, so it is never moved without need.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::Command;
use crate::id::NodeNumber;
use crate::model::{AgentStatus, HostStatus};
use crate::state::ClusterState;
use crate::time::Instant;

use super::{Director, Office, Output, VOTER_PATIENCE, VOTERS_TIMEOUT};

/// The voters that the cluster should have, given those it has, the nodes that have been `away`
/// for too long to wait for, and the director `me`. Answers `current` where no better set is safe.
pub fn desired_voters(
    state: &ClusterState,
    current: &[NodeNumber],
    away: &BTreeSet<NodeNumber>,
    me: NodeNumber,
) -> Vec<NodeNumber> {
    let target = odd(usize::from(state.settings.voters).min(state.nodes.len()));
    let there = |node: &NodeNumber| {
        state
            .nodes
            .get(node)
            .is_some_and(|node| node.host == HostStatus::Up && node.agent == AgentStatus::Running)
    };
    // The director first, then voters that serve, then nodes that could, then voters that are
    // missed but not replaceable.
    let rank = |node: &NodeNumber| {
        if *node == me {
            Some(0)
        } else if current.contains(node) {
            Some(if away.contains(node) { 3 } else { 1 })
        } else {
            there(node).then_some(2)
        }
    };
    let mut ranked: Vec<(u8, NodeNumber)> =
        state.nodes.keys().filter_map(|node| Some((rank(node)?, *node))).collect();
    ranked.sort_unstable();
    let size = odd(target.min(ranked.len()));
    let mut voters: Vec<NodeNumber> = ranked.into_iter().take(size).map(|(_, node)| node).collect();
    voters.sort_unstable();
    let present = voters.iter().filter(|node| **node == me || there(node)).count();
    if voters.is_empty() || present * 2 <= voters.len() { current.to_vec() } else { voters }
}

/// The greatest odd number that is not greater; 1 at least.
const fn odd(number: usize) -> usize {
    if number == 0 {
        1
    } else if number.is_multiple_of(2) {
        number - 1
    } else {
        number
    }
}

/// Nodes that have been away for longer than a voter may.
fn away_too_long(away: &BTreeMap<NodeNumber, Instant>, now: Instant) -> BTreeSet<NodeNumber> {
    away.iter()
        .filter(|(_, since)| now - **since >= VOTER_PATIENCE)
        .map(|(node, _)| *node)
        .collect()
}

impl Director {
    /// Makes the log's voters what they should be, and the state's roles what the log's voters are.
    pub(super) fn keep_voters(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        let Some(current) = self.voters.clone() else { return };
        self.record_voters(now, office, &current, out);
        if self.changing_voters.is_some_and(|since| now - since < VOTERS_TIMEOUT) {
            return;
        }
        let away = away_too_long(&self.away, now);
        let desired = desired_voters(&self.state, &current, &away, office.me);
        let mut sorted = current;
        sorted.sort_unstable();
        if desired == sorted {
            self.wanted_voters = None;
            self.changing_voters = None;
            return;
        }
        // The wish must have lasted, so that a node that comes and goes does not vote in turns.
        let hold = self.voters_hold();
        let since = match &self.wanted_voters {
            Some((wanted, since)) if *wanted == desired => *since,
            _ => now,
        };
        self.wanted_voters = Some((desired.clone(), since));
        if now - since >= hold {
            self.changing_voters = Some(now);
            out.push(Output::SetVoters(desired));
        }
    }

    fn voters_hold(&self) -> Duration {
        self.state.settings.timing.detect() * 2
    }

    /// Tells everybody who votes, if the log's voters are not what the state says.
    fn record_voters(
        &mut self,
        now: Instant,
        office: Office,
        current: &[NodeNumber],
        out: &mut Vec<Output>,
    ) {
        let recorded: Vec<NodeNumber> = self.state.voter_set().numbers().collect();
        let mut known: Vec<NodeNumber> =
            current.iter().copied().filter(|n| self.state.nodes.contains_key(n)).collect();
        known.sort_unstable();
        if recorded != known && !known.is_empty() && self.recording_voters.is_none() {
            let command = Command::Voters { voters: known };
            self.recording_voters = Some(self.propose(now, office, command, out));
        }
    }
}
