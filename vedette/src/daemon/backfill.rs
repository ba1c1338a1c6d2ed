//! Fills gaps of this node's history with rows of the other nodes.
//!
//! A node that was away for long, or has just joined, gets the state but not the records that led
//! to it. They are fetched from whoever has them; every row is checked by its hash, so it does not
//! matter whom one asks.

use std::sync::Arc;
use std::time::Duration;

use vedette_collector::history::Gap;
use vedette_core::id::NodeNumber;
use vedette_core::record::Record;
use vedette_node::peers::{Peers, kinds};

use super::publisher::Publisher;
use super::service::RowsRequest;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Runs until the process ends.
pub(crate) async fn run(me: NodeNumber, publisher: Arc<Publisher>, peers: Peers) {
    let mut health = publisher.history().health();
    loop {
        let wanted = wanted(&publisher);
        if let Some(after) = wanted
            && fill(me, &publisher, &peers, after).await
        {
            continue;
        }
        let pause = Duration::from_millis(if wanted.is_some() { 200 } else { 1_000 });
        if let Ok(Err(_)) = tokio::time::timeout(pause, health.changed()).await {
            return;
        }
    }
}

/// After which record something is missing: before a gap, or (after a snapshot was installed)
/// between the last record here and the last one of the state.
fn wanted(publisher: &Publisher) -> Option<u64> {
    let history = publisher.history();
    let gap: Option<Gap> = history.health().borrow().gap;
    let head = history.head().seq;
    // Records on their way to the disk are not missing: without a gap, only what stays missing.
    gap.map(|_| head).or_else(|| (publisher.installed_seq() > head).then_some(head))
}

/// Asks one node after the other; true if something came.
async fn fill(me: NodeNumber, publisher: &Publisher, peers: &Peers, after: u64) -> bool {
    let state = publisher.state();
    for node in state.nodes.keys().filter(|node| **node != me) {
        let Ok(body) = serde_json::to_vec(&RowsRequest { after }) else { return false };
        let Ok(answer) = peers.call(*node, kinds::HISTORY_ROWS, body, PATIENCE).await else {
            continue;
        };
        let Ok(rows) = serde_json::from_slice::<Vec<Record>>(&answer) else { continue };
        if rows.is_empty() {
            continue;
        }
        match publisher.history().import(rows) {
            Ok(_) => return true,
            Err(error) => tracing::warn!(%error, node = %node, "rows of that node do not fit"),
        }
    }
    false
}
