//! What a node knows by itself: its half of a [`View`](crate::view::View).
//!
//! Nothing here came from the log, and it differs between nodes: what its guard saw, which conditions hold,
//! how journal, log and monitors do. [`Local::knows`] is the question whether the rest may be shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::clock::{Clocks, disagree};
use crate::group::GroupState;
use crate::id::{NodeNumber, Session};
use crate::local::LocalRecord;
use crate::model::{AgentStatus, HostStatus, Role, Severity};
use crate::observation::Report;
use crate::record::{Code, Subject};
use crate::time::WallTime;
use crate::variable::Reading;

/// What a node knows of itself and did not get from the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Local {
    /// Which node this is.
    pub node: NodeNumber,
    /// The run of its agent.
    pub session: Session,
    /// Whether its guard holds the lease: a majority of the voters has heard it lately. What it has of groups stands
    /// on that.
    pub lease: bool,
    /// Whether it holds the lease and is in touch with a director whom a majority confirms. What it knows of the
    /// cluster stands on that.
    pub quorate: bool,
    /// Whether this node is the director now.
    pub director: bool,
    /// Its role in the log.
    pub role: Role,
    /// Its own opinion of its host: DISCONNECTED where no peer at all can be reached.
    pub host: HostStatus,
    /// Status of its agent.
    pub agent: AgentStatus,
    /// Its stage of starting, in order: `topology`, `log`, `cluster`, `running` (spec H23).
    pub stage: &'static str,
    /// What it waits for, in words; empty if for nothing.
    pub waiting_for: String,
    /// What its guard saw last.
    pub report: Option<Arc<Report>>,
    /// What its clock and those of its peers showed when they were measured last.
    pub clocks: Arc<Clocks>,
    /// Last durable record of the history on this node.
    pub history_seq: u64,
    /// Whether the master SNMP agent is connected; `None` if SNMP is off.
    pub agentx: Option<bool>,
    /// What its resource monitors see, by their names.
    pub monitors: Arc<BTreeMap<String, MonitorView>>,
    /// When it last knew the state of the cluster, by the clock that dates entries; `None` while it does.
    pub unknown_since: Option<WallTime>,
    /// The state is of the guard's present epoch: before that it may show as this node's what was released.
    pub presented: bool,
    /// State of each group that it has something of, as it is on this machine now.
    pub groups: Arc<BTreeMap<String, GroupState>>,
    /// Conditions of this node that hold, in the order of their codes ([`crate::local`]).
    pub conditions: Arc<[RaisedCondition]>,
    /// Its latest local records, oldest first, at most [`View::RECENT`](crate::view::View::RECENT).
    pub journal: Arc<[Arc<LocalRecord>]>,
    /// How its journal does.
    pub journal_health: JournalHealth,
    /// How its log does.
    pub log: LogView,
}

impl Local {
    /// Whether this node knows the present state of the cluster: it is part of a quorum, was adopted,
    /// its log is not behind, and the state knows of the last time that its guard let go of everything.
    pub fn knows(&self) -> bool {
        self.quorate && self.stage == "running" && self.log.behind.is_none() && self.presented
    }

    /// Dates its own moments as a clock does that was set by `set_us` microseconds: they are as long ago as
    /// they were.
    pub fn date_anew(&mut self, set_us: i64) {
        let later = |at: &WallTime| WallTime(at.0.saturating_add(set_us));
        self.unknown_since = self.unknown_since.as_ref().map(later);
        self.log.stalled_since = self.log.stalled_since.as_ref().map(later);
        let conditions = self.conditions.iter();
        self.conditions = conditions
            .map(|it| RaisedCondition { since: later(&it.since), ..it.clone() })
            .collect();
    }
}

/// A condition of a node, while it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedCondition {
    /// Its code, one of [`Code::CONDITIONS`].
    pub code: Code,
    /// About what.
    pub subject: Subject,
    /// The subject's name.
    pub subject_name: String,
    /// How bad.
    pub severity: Severity,
    /// One sentence without full stop.
    pub message: String,
    /// Why.
    pub cause: String,
    /// When it began, by the clock that dates entries.
    pub since: WallTime,
}

/// How a node's journal does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JournalHealth {
    /// Number of the last entry.
    pub last: u64,
    /// Number of the last entry that an earlier run of the agent left behind.
    pub opened: u64,
    /// Number of the last entry that is in everybody's history.
    pub accounted: u64,
    /// Entries that were given up because too many waited.
    pub dropped: u64,
    /// Entries by code, since the agent started.
    pub counts: BTreeMap<Code, u64>,
}

/// How a node's log does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogView {
    /// Index of the last entry applied here.
    pub applied: u64,
    /// Since when nothing is committed although something waits, by the node's clock.
    pub stalled_since: Option<WallTime>,
    /// Why this node does not know the present state though it has a quorum: how far its log is behind,
    /// in words.
    pub behind: Option<String>,
    /// Members whose log is shorter than what they had acknowledged: had, has.
    pub lost: BTreeMap<NodeNumber, (u64, u64)>,
}

/// What a resource monitor of this node sees (spec H29).
#[derive(Clone, Debug, PartialEq)]
pub struct MonitorView {
    /// Time between two looks.
    pub interval: Duration,
    /// When it looked last; `None` if it did not yet.
    pub at: Option<WallTime>,
    /// Why it sees not everything that is wanted; a sentence without its full stop.
    pub failure: Option<String>,
    /// What it saw last.
    pub readings: Vec<Reading>,
}

impl MonitorView {
    /// How many values of one monitor become rows and series: a rule that means every program would
    /// make thousands. Documents hold all of them.
    pub const MOST_SHOWN: usize = 100;

    /// The values that become rows and series.
    pub fn shown(&self) -> &[Reading] {
        &self.readings[..self.readings.len().min(Self::MOST_SHOWN)]
    }
}

/// Lead of the own clock over the one by which entries are dated, in microseconds, while the own one shows
/// `own_us` more than the monotonic one, if that is known anew; 0 where they agree.
pub fn lead(local: &Local, director: Option<NodeNumber>, own_us: Option<i64>) -> i64 {
    let clocks = own_us.map(|own_us| local.clocks.now(own_us));
    let clocks = clocks.as_ref().unwrap_or(&local.clocks);
    let director = director.filter(|director| *director != local.node);
    let measured = director.and_then(|director| clocks.ahead_of_entries(director));
    let lead_us = measured.unwrap_or_else(|| clocks.correction().saturating_neg());
    if disagree(lead_us, false) { lead_us } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::tests::clocks;
    use crate::fixture;

    const HOUR: i64 = 3_600_000_000;

    /// Surfaces show the clock by which entries are dated, whoever directs and whoever looks.
    #[test]
    fn the_own_clock_leads_the_one_that_dates_entries() {
        let mut local = fixture::one_down().local;
        let hour_ahead = |second, third| Arc::new(clocks(second, third));
        local.clocks = hour_ahead(Some(-HOUR), Some(-HOUR - 30));
        let by = |director| lead(&local, Some(NodeNumber(director)), None);
        assert_eq!((by(1), by(2), by(3)), (HOUR, HOUR, HOUR + 30));
        assert_eq!(lead(&local, None, None), HOUR, "most clocks count where nobody directs");
        assert_eq!(lead(&local, Some(NodeNumber(1)), Some(6 * HOUR)), 0, "it was set right");
        local.clocks = hour_ahead(Some(HOUR), None);
        let by = |director| lead(&local, Some(NodeNumber(director)), None);
        assert_eq!((by(1), by(2)), (0, -HOUR), "of two, that of the director dates");
        local.clocks = hour_ahead(Some(-99_000), Some(-99_000));
        assert_eq!(lead(&local, Some(NodeNumber(2)), None), 0, "they agree");
    }
}
