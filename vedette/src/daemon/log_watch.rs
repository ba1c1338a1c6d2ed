//! Shows how the log of this node does: how far it is, since when it stands still, whether it is behind
//! what the others have, and who has lost something.
//!
//! The log itself says what it knows ([`Log::health`]); beats say how far the others are, without a
//! director, and what they once had is remembered for the log ([`Log::remembered`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::id::{NodeNumber, RaftId};
use vedette_core::local_view::{Local, LogView};
use vedette_core::log_health::Behind;
use vedette_core::log_memory::Loss;
use vedette_core::observation::{PeerView, Report};
use vedette_core::state::ClusterState;
use vedette_core::time::{Instant, WallTime};
use vedette_core::view::View;
use vedette_node::log::{Disk, Log, LogHealth};

use super::local_log::boot_time_us;
use super::proposer::cluster_time;
use super::publisher::Publisher;

/// How often it is looked while something is amiss.
const LOOK: Duration = Duration::from_millis(250);

/// Runs until the process ends.
pub(crate) async fn run(log: Log, publisher: Arc<Publisher>) {
    let mut views = publisher.views();
    let (mut health, mut disk) = (log.health(), log.disk());
    let mut behind = Behind::default();
    loop {
        let now = Instant::from_micros(boot_time_us());
        let view = views.borrow_and_update().clone();
        let seen = health.borrow_and_update().clone();
        let report = view.local.report.as_deref();
        remember(&log, &view.state, report);
        behind.handle(now, seen.applied, furthest(report));
        let refused = disk.borrow_and_update().clone();
        let shown = shown(&view, &seen, (&refused, behind.of(now)));
        publisher.update_local(|local| show(local, shown));
        let waits = behind.deadline().is_some();
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = health.changed() => if changed.is_err() { return },
            changed = disk.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(LOOK), if waits => {}
        }
    }
}

/// Peers that are heard.
fn heard(report: Option<&Report>) -> impl Iterator<Item = &PeerView> {
    report.into_iter().flat_map(|report| report.peers.iter().filter(|peer| peer.position > 0))
}

fn furthest(report: Option<&Report>) -> u64 {
    heard(report).map(|peer| peer.position).max().unwrap_or(0)
}

/// What a member was heard to have, it had: a guard remembers it while agents come and go.
fn remember(log: &Log, state: &ClusterState, report: Option<&Report>) {
    for peer in report.into_iter().flat_map(|report| &report.peers) {
        if let Some(node) = state.nodes.get(&peer.peer).filter(|_| peer.position_max > 0) {
            log.remembered().note(node.raft_id, peer.position_max);
        }
    }
}

fn shown(view: &View, seen: &LogHealth, (disk, behind): (&Disk, Option<u64>)) -> LogView {
    let (local, state) = (&view.local, &view.state);
    let own = seen.lost.map(|loss| (local.node, loss));
    let others = seen
        .members
        .iter()
        .filter_map(|(member, health)| Some((number(state, *member)?, health.lost?)));
    let entry = |(node, Loss { had, has }): (NodeNumber, Loss)| (node, (had, has));
    let lost: BTreeMap<NodeNumber, (u64, u64)> = own.into_iter().chain(others).map(entry).collect();
    LogView {
        applied: seen.applied,
        stalled_since: stalled_since(view, seen),
        behind: match (disk, seen.lost, behind) {
            (Disk::Refuses(why), ..) => Some(why.clone()),
            (_, Some(Loss { had, has }), _) => {
                Some(format!("its log had entry {had} and has {has}; it is being caught up"))
            }
            (_, None, Some(goal)) => {
                Some(format!("it has applied entry {}, the others have {goal}", seen.applied))
            }
            (_, None, None) => None,
        },
        lost,
    }
}

/// By the first look at it: it does not move while it lasts. A director that says that the log stands
/// still is believed.
fn stalled_since(view: &View, seen: &LogHealth) -> Option<WallTime> {
    let director = view.state.director.filter(|director| *director != view.local.node);
    let told = heard(view.local.report.as_deref())
        .any(|peer| Some(peer.peer) == director && peer.log_stalled);
    let length = seen.stalled_for.or(told.then_some(Duration::from_secs(1)))?;
    let begun = WallTime(
        cluster_time(&view.local, view.state.director).0
            - i64::try_from(length.as_micros()).unwrap_or(0),
    );
    Some(view.local.log.stalled_since.unwrap_or(begun))
}

fn show(local: &mut Local, shown: LogView) {
    if local.log != shown {
        local.log = shown;
    }
}

fn number(state: &ClusterState, member: RaftId) -> Option<NodeNumber> {
    state.nodes.values().find(|node| node.raft_id == member).map(|node| node.number)
}
