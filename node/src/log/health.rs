//! Health of the log as it is published: how far it is, for how long it stands still, who is behind.
//!
//! A task follows openraft's metrics, the proposals that wait, and the memory of the members' logs.
//! While something waits it looks four times a second; while nothing does, it only wakes for news.
//! What "standing still" means is decided in [`vedette_core::log_health`].

use std::collections::BTreeMap;
use std::time::Duration;

use openraft::RaftMetrics;
use openraft::async_runtime::watch::WatchReceiver;
use openraft_rt_tokio::TokioRuntime;
use tokio::sync::watch;
use tokio::time::Instant;
use vedette_core::id::RaftId;
use vedette_core::log_health::{Progress, StandStill};
use vedette_core::log_memory::Loss;

use super::Leadership;
use super::remembered::{Remembered, Standings};
use super::replica::Replica;
use super::types::Types;

/// Progress of the log on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogHealth {
    /// Index of the last entry in this node's log; 0 if there is none.
    pub last_log_index: u64,
    /// Index of the last entry known to be committed; 0 if there is none.
    pub committed: u64,
    /// Index of the last entry applied here; 0 if there is none.
    pub applied: u64,
    /// For how long nothing was committed although something waits, from one second on.
    pub stalled_for: Option<Duration>,
    /// The loss of this node's own log.
    pub lost: Option<Loss>,
    /// What this node knows of the other members' logs.
    pub members: BTreeMap<RaftId, MemberHealth>,
}

/// Log of another member.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemberHealth {
    /// Index of the last entry that it is known to have in common with this node, which leads. Only
    /// a leader knows.
    pub matched: Option<u64>,
    /// Its loss, if it has less than it had.
    pub lost: Option<Loss>,
}

/// Number of proposals that wait for an answer.
#[derive(Clone, Default)]
pub(super) struct Proposals(watch::Sender<usize>);

/// A proposal that waits, until this is dropped.
#[must_use]
pub struct Waiting(watch::Sender<usize>);

impl Proposals {
    pub(super) fn waits(&self) -> Waiting {
        self.0.send_modify(|waiting| *waiting += 1);
        Waiting(self.0.clone())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.send_modify(|waiting| *waiting = waiting.saturating_sub(1));
    }
}

/// Publishes the health as long as the member runs.
pub(super) fn watch(
    replica: &Replica<TokioRuntime>,
    remembered: &Remembered,
    proposals: &Proposals,
) -> watch::Receiver<LogHealth> {
    let (publish, health) = watch::channel(LogHealth::default());
    let mut metrics = replica.raft().metrics();
    let (mut standings, mut waiting) = (remembered.standings(), proposals.0.subscribe());
    let start = Instant::now();
    tokio::spawn(async move {
        let mut still = StandStill::default();
        loop {
            let now = vedette_core::time::Instant::from(start.elapsed());
            let seen = metrics.borrow_watched().clone();
            if seen.running_state.is_err() {
                return;
            }
            let mut new = LogHealth::of(&seen, &standings.borrow_and_update());
            let (last, committed) = (new.last_log_index, new.committed);
            still
                .handle(now, Progress { last, committed, proposals: *waiting.borrow_and_update() });
            new.stalled_for = still.stalled_for(now);
            publish.send_if_modified(|old| {
                let news = *old != new;
                *old = new;
                news
            });
            let wake = still.deadline().map(|at| start + Duration::from_micros(at.as_micros()));
            tokio::select! {
                changed = metrics.changed() => if changed.is_err() { return },
                changed = standings.changed() => if changed.is_err() { return },
                changed = waiting.changed() => if changed.is_err() { return },
                () = look_again(wake) => {}
            }
        }
    });
    health
}

/// Waits until the time to look again, if there is one.
async fn look_again(wake: Option<Instant>) {
    match wake {
        Some(wake) => tokio::time::sleep_until(wake).await,
        None => std::future::pending().await,
    }
}

impl LogHealth {
    fn of(metrics: &RaftMetrics<Types<TokioRuntime>>, standings: &Standings) -> Self {
        let Leadership { last_applied, committed, .. } = Leadership::of(metrics);
        let mut members: BTreeMap<RaftId, MemberHealth> = BTreeMap::new();
        for (&member, matched) in metrics.replication.iter().flatten() {
            if member != metrics.id {
                let matched = Some(matched.map_or(0, |matched| matched.index));
                members.insert(RaftId(member), MemberHealth { matched, lost: None });
            }
        }
        for (&member, &loss) in &standings.behind {
            members.entry(member).or_default().lost = Some(loss);
        }
        Self {
            last_log_index: metrics.last_log_index.unwrap_or(0),
            committed,
            applied: last_applied,
            stalled_for: None,
            lost: standings.own,
            members,
        }
    }
}
