//! A director whose guard is silent, that nobody hears, or whose disk is full gives up the office: when is said by the
//! core's [`StepDown`], and done here.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::timeout;
use vedette_core::id::RaftId;
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;
use vedette_core::step_down::{Output, StepDown};
use vedette_node::log::{Disk, Log};

use super::executor::now;
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
    let mut machine = StepDown::default();
    loop {
        let detect = publisher.state().settings.timing.detect();
        let due = async {
            match machine.deadline() {
                Some(at) => tokio::time::sleep(at.since(now())).await,
                None => std::future::pending().await,
            }
        };
        let mut out = Vec::new();
        tokio::select! {
            // Who was held up reads first what was said meanwhile.
            biased;
            changed = reports.changed() => {
                if changed.is_err() {
                    return;
                }
                let lease = reports.borrow_and_update().as_ref().is_some_and(|it| it.lease);
                machine.report(now(), lease, detect, &mut out);
            }
            () = due => machine.on_timeout(now(), detect, &mut out),
        }
        for output in out {
            match output {
                Output::MayLead(may) => {
                    log.may_lead(may);
                    match may {
                        true => tracing::info!("the guard reports again"),
                        false => tracing::warn!("the guard is silent: this node leads no more"),
                    }
                }
                Output::HandOver => hand_over(&log, &publisher).await,
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
