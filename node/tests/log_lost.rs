//! A member on SQLite whose database ends earlier than it did, and what is told of it (F1).

mod log_support;

use std::collections::BTreeMap;
use std::path::Path;

use tokio::sync::watch;
use vedette_core::id::RaftId;
use vedette_core::log_health::STANDS_STILL_AFTER;
use vedette_core::log_memory::Loss;
use vedette_core::state::Outcome;
use vedette_node::log::LogHealth;

use log_support::{Cluster, PATIENCE, chatter, until};

const N3: RaftId = RaftId(3);

/// Waits until what is watched fits.
async fn seen<T: Clone + std::fmt::Debug>(
    what: &mut watch::Receiver<T>,
    fits: impl FnMut(&T) -> bool,
) -> T {
    let found = tokio::time::timeout(PATIENCE, what.wait_for(fits)).await.map(|seen| seen.is_ok());
    assert_eq!(found, Ok(true), "last seen: {:?}", what.borrow());
    what.borrow().clone()
}

async fn commit(cluster: &Cluster, numbers: std::ops::RangeInclusive<u64>) -> u64 {
    let mut last = 0;
    for n in numbers {
        if let Outcome::Applied { index } = cluster.propose(chatter(n)).await {
            last = index;
        }
    }
    last
}

fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).expect("the database of a member that does not run");
    for companion in ["-wal", "-shm"] {
        let stale = format!("{}{companion}", to.display());
        let _ = std::fs::remove_file(stale);
    }
}

/// The member knows of its loss from its own memory as soon as it starts, and the others from theirs
/// when it speaks; then it is caught up, and everybody says so. A restart forgets nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_lost_its_tail_says_so_and_is_caught_up() {
    let mut cluster = Cluster::of(3).await;
    let old = commit(&cluster, 1..=5).await;
    cluster.applied(3, old).await;
    if cluster.leader().await == 3 {
        cluster.log(3).transfer_leader(RaftId(1)).await.expect("member 1 leads");
    }
    cluster.stop(3).await;
    let (path, kept) = (cluster.path(3), cluster.path(3).with_extension("old"));
    copy(&path, &kept);
    cluster.start(3, false).await;
    let last = commit(&cluster, 6..=30).await;
    cluster.applied(3, last).await;
    let memory = path.with_extension("memory.json");
    kept_up_to(&memory, last).await;
    cluster.stop(3).await;

    copy(&kept, &path);
    cluster.switch.cut(N3, true);
    let log = cluster.start(3, false).await;
    let mut own = log.standing();
    let lost = own.borrow().own.expect("it remembers what it had");
    assert!(lost.had >= last && (old..last).contains(&lost.has), "{lost:?}, {old}, {last}");
    let health = seen(&mut log.health(), |health| health.lost.is_some()).await;
    assert_eq!(health.lost, Some(lost));

    let leader = cluster.leader_of(&[1, 2]).await;
    let mut told = cluster.log(leader).standing();
    cluster.switch.cut(N3, false);
    cluster.applied(3, last).await;
    seen(&mut own, |standings| standings.own.is_none()).await;
    seen(&mut told, |standings| standings.behind.is_empty()).await;
    let next = commit(&cluster, 31..=35).await;
    cluster.applied(3, next).await;
    let leader = cluster.leader().await;
    let matched = |health: &LogHealth| {
        health.members.len() == 2 && health.members.values().all(|it| it.matched >= Some(next))
    };
    let health = seen(&mut cluster.log(leader).health(), matched).await;
    assert!(health.members.values().all(|member| member.lost.is_none()), "{health:?}");
}

/// Waits until the file says that member 3 had `index`.
async fn kept_up_to(memory: &Path, index: u64) {
    let kept = || -> Option<u64> {
        let text = std::fs::read(memory).ok()?;
        let kept: serde_json::Value = serde_json::from_slice(&text).ok()?;
        kept["memory"]["had"]["3"].as_u64()
    };
    let waited = tokio::time::timeout(PATIENCE, async {
        while kept() < Some(index) {
            tokio::task::yield_now().await;
        }
    });
    assert!(waited.await.is_ok(), "{:?} of {index}", kept());
}

/// F1: that nothing commits is told after a second, and that it does again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_stands_still_says_so() {
    let cluster = Cluster::of(3).await;
    commit(&cluster, 1..=3).await;
    let leader = cluster.leader().await;
    let log = cluster.log(leader).clone();
    let mut health = log.health();
    let idle = seen(&mut health, |health| health.last_log_index == health.committed).await;
    assert_eq!(idle.stalled_for, None);
    cluster.switch.cut(RaftId(leader), true);
    let proposer = log.clone();
    let proposed = tokio::spawn(async move { proposer.propose(chatter(4)).await });
    let stalled = seen(&mut health, |health| health.stalled_for.is_some()).await;
    assert!(stalled.stalled_for >= Some(STANDS_STILL_AFTER), "{stalled:?}");
    let first = stalled.stalled_for;
    seen(&mut health, |health| health.stalled_for > first).await;
    cluster.switch.cut(RaftId(leader), false);
    let _ = proposed.await.expect("it is answered");
    commit(&cluster, 5..=6).await;
    seen(&mut health, |health| health.stalled_for.is_none()).await;
}

/// What is known in another way counts as well: a member that says in its beats how far it is, and
/// then has less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_beats_tell_is_remembered() {
    let cluster = Cluster::of(1).await;
    let log = cluster.log(1);
    let last = commit(&cluster, 1..=3).await;
    until(log, |now| now.last_applied >= last).await;
    log.remembered().note(RaftId(1), last + 100);
    let standings = seen(&mut log.standing(), |standings| standings.own.is_some()).await;
    assert_eq!(standings.own, Some(Loss { had: last + 100, has: last }));
    assert_eq!(standings.behind, BTreeMap::new());
}
