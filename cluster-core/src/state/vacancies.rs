//! Times without a quorum, as far as they are known: losses that nodes have accounted for, and the time before each
//! director took office.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::id::NodeNumber;

use super::ClusterState;

/// For how long what is learned of a node in its first word may be from before the office.
pub(crate) const FRESH_MS: u64 = 60_000;

/// The latest time for which nodes were without a quorum, as far as they have accounted for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuorumLoss {
    /// The incident that it began or belongs to.
    pub incident: u64,
    /// When the first node lost its quorum, on the cluster's timeline.
    pub from_ms: u64,
    /// When the last one that accounted for it was part of a quorum again, at the latest.
    pub until_ms: u64,
}

/// The time before a director took office, in which there may have been none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vacancy {
    /// The last that was written down before that, on the cluster's timeline.
    #[serde(default)]
    pub from_ms: u64,
    /// When that director took office, on the cluster's timeline.
    pub until_ms: u64,
    /// Log entries in which nodes first spoke of themselves since.
    #[serde(default)]
    pub heard: BTreeMap<NodeNumber, u64>,
    /// The incident of the first node that turned out to be away since before.
    #[serde(default)]
    pub away: Option<u64>,
    /// Until when nodes had a quorum before that, as they accounted for it.
    pub ends: BTreeMap<NodeNumber, End>,
    /// Nodes whose accounts lack something: they may have lost their quorum earlier than they say.
    #[serde(default)]
    pub doubted: BTreeSet<NodeNumber>,
    /// It is on record.
    pub told: bool,
}

/// The end of a node's part in a quorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// When, on the cluster's timeline.
    pub at_ms: u64,
    /// The incident that the node's account belongs to.
    pub incident: Option<u64>,
    /// How it ended.
    pub how: Ending,
    /// It said that it had a quorum again, shortly before the director took office at the earliest.
    pub regained: bool,
}

/// How a node's part in a quorum ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It lost its quorum.
    Lost,
    /// It ended without a word, and was last alive then.
    Died,
    /// It left in good order.
    Left,
}

/// A node that was called DOWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Silence {
    /// The incident of it.
    pub incident: u64,
    /// Since when it was silent, on the cluster's timeline.
    pub since_ms: u64,
    /// When that was noticed.
    pub noticed_ms: u64,
}

impl ClusterState {
    /// How far apart nodes may notice the same loss of quorum, and its end.
    pub(crate) const fn slack_ms(&self) -> u64 {
        self.settings.timing.lease_ms + 2 * self.settings.timing.election_max_ms
    }

    /// The loss of quorum that goes on at a moment of the timeline, or had just begun or ended: leases
    /// of nodes do not end at the same moment.
    pub(crate) fn loss_at(&self, elapsed_ms: u64) -> Option<u64> {
        let slack = self.slack_ms();
        let loss = self.quorum_loss?;
        let begun = elapsed_ms + slack >= loss.from_ms;
        let over = elapsed_ms > loss.until_ms + slack;
        (begun && !over).then_some(loss.incident)
    }

    /// The incident in which the cluster has just come back, as it would be if nodes join now.
    pub(crate) fn incident_of_restart(&self) -> Option<u64> {
        let until_ms = self.vacancies.back()?.until_ms;
        let fresh = self.timeline.elapsed_ms().saturating_sub(until_ms) < FRESH_MS;
        self.loss_at(until_ms).filter(|_| fresh)
    }

    /// The incident of nodes that had just fallen silent at a moment of the timeline, or were away when the
    /// vacancy ended that it is in.
    pub(crate) fn incident_of_the_silent(&self, elapsed_ms: u64) -> Option<u64> {
        let slack_ms = self.slack_ms();
        let just_before = |it: &Silence| {
            let from_ms = it.since_ms.saturating_sub(slack_ms);
            (from_ms..=it.since_ms.saturating_add(2 * slack_ms)).contains(&elapsed_ms)
        };
        let known = self.silence.filter(just_before).map(|it| it.incident);
        known.or_else(|| self.incident_of_vacancy(elapsed_ms))
    }

    fn incident_of_vacancy(&self, elapsed_ms: u64) -> Option<u64> {
        let within = |it: &&Vacancy| {
            let slack_ms = self.slack_ms();
            (it.from_ms..=it.until_ms + slack_ms).contains(&(elapsed_ms + slack_ms))
        };
        self.vacancies.iter().rfind(within)?.away
    }
}
