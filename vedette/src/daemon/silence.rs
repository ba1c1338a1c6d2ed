//! A director whose guard is silent, or whose disk is full, gives up the office.
//!
//! What a director decides on is what its guard hears, and its beats tell the others that there is one. If
//! somebody stops that guard while its agent goes on, the log has a leader that a majority confirms, and yet nobody
//! is in touch with it, and nothing is taken over. So an agent that misses two reports of its guard lets
//! another node lead, and does not stand for election until it hears its guard again. Leases do not depend on it:
//! half the detection time is how long the others may know nothing of now.
//!
//! The same goes for a director whose guard nobody hears, so that it has no lease: it sees its own links, and
//! nobody hears that it is there. It lets another lead if there is one.
//!
//! Needlessly changed is little lost, so there is no proof to wait for. Only an agent that was held up
//! itself reads first what its guard said meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::timeout;
use vedette_core::id::RaftId;
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;
use vedette_node::log::{Disk, Log};

use super::publisher::Publisher;

/// How often it is looked who else could lead, while this node cannot write.
const LOOK: Duration = Duration::from_millis(250);

/// How long a transfer of the office may take before it is tried again.
const TRANSFER: Duration = Duration::from_secs(2);

/// Watches the guard's reports until there are no more.
pub(crate) async fn watch_guard(
    log: Log,
    publisher: Arc<Publisher>,
    mut reports: watch::Receiver<Option<Arc<Report>>>,
) {
    // There is nothing to miss before the first one.
    if reports.changed().await.is_err() {
        return;
    }
    let mut silent = false;
    let mut unheard: Option<Instant> = None;
    loop {
        let patience = publisher.state().settings.timing.detect() / 2;
        let begun = Instant::now();
        match timeout(patience, reports.changed()).await {
            Ok(Err(_)) => return,
            Ok(Ok(())) if silent => {
                silent = false;
                log.may_lead(true);
                tracing::info!("the guard reports again");
            }
            Ok(Ok(())) => {
                let lease = reports.borrow_and_update().as_ref().is_some_and(|it| it.lease);
                unheard = if lease { None } else { unheard.or(Some(begun)) };
                if unheard.is_some_and(|since| since.elapsed() >= patience * 2) {
                    unheard = None;
                    hand_over(&log, &publisher).await;
                }
            }
            Err(_) if begun.elapsed() > patience + patience / 4 => {}
            Err(_) => {
                if !std::mem::replace(&mut silent, true) {
                    log.may_lead(false);
                    tracing::warn!("the guard is silent: this node is director no more");
                }
                hand_over(&log, &publisher).await;
            }
        }
    }
}

/// Waits until this node leads, its disk takes nothing, and another node can lead; answers why.
pub(crate) async fn cannot_lead(log: &Log, publisher: &Publisher) -> String {
    let mut disk = log.disk();
    loop {
        let refuses = disk.wait_for(|disk| matches!(disk, Disk::Refuses(_))).await;
        let Ok(refuses) = refuses.map(|disk| disk.clone()) else {
            return std::future::pending().await;
        };
        if let (Disk::Refuses(why), Some(_)) = (refuses, successor(log, publisher)) {
            return why;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// A director lets another voter lead, so that nobody has to wait for an election.
pub(crate) async fn hand_over(log: &Log, publisher: &Publisher) {
    if let Some(successor) = successor(log, publisher) {
        let transfer = log.transfer_leader(successor);
        let _ = timeout(TRANSFER, transfer).await;
    }
}

/// A voter that works, if this node leads and there is one.
fn successor(log: &Log, publisher: &Publisher) -> Option<RaftId> {
    let leadership = log.leadership().borrow().clone();
    if !leadership.me {
        return None;
    }
    let state = publisher.state();
    let mut able = state.nodes_up().filter(|node| node.agent == AgentStatus::Running);
    able.find(|node| {
        leadership.voters.contains(&node.raft_id) && Some(node.raft_id) != leadership.leader
    })
    .map(|node| node.raft_id)
}
