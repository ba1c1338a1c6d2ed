//! Members of the log together, on tokio and SQLite, over a network in memory: forming, learning,
//! voting, losing a leader and coming back (invariants 1, 5, 7; spec A11: a new director takes over).

mod log_support;

use vedette_core::id::RaftId;
use vedette_core::state::Outcome;
use vedette_node::log::{MembershipError, ProposeError};

use log_support::{Cluster, chatter, until};

fn index_of(outcome: &Outcome) -> u64 {
    match outcome {
        Outcome::Applied { index } | Outcome::Repeated { index } => *index,
        Outcome::Refused(refusal) => panic!("refused: {refusal}"),
    }
}

/// All given members hold the same state and the same end of the hash chain.
async fn assert_equal(cluster: &Cluster, members: &[u64], index: u64) {
    for &member in members {
        cluster.applied(member, index).await;
    }
    let first = cluster.seen(members[0]).state;
    for &member in members {
        let state = cluster.seen(member).state;
        assert_eq!(state.head, first.head, "chain of member {member}");
        assert_eq!(state, first, "state of member {member}");
    }
}

/// The leader is killed, another one takes over, the old one comes back: one state everywhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_outlives_its_leader() {
    let mut cluster = Cluster::of(3).await;
    for n in 1..=10 {
        cluster.propose(chatter(n)).await;
    }
    let first = cluster.leader().await;
    let term = cluster.log(first).leadership().borrow().term;
    cluster.stop(first).await;

    let second = cluster.leader().await;
    assert_ne!(second, first);
    let now = until(cluster.log(second), |now| now.me && now.last_quorum_ack.is_some()).await;
    assert!(now.term > term, "a new leader has a new term");
    let index = index_of(&cluster.propose(chatter(11)).await);

    cluster.start(first, false).await;
    assert_equal(&cluster, &[1, 2, 3], index).await;
    assert_eq!(index_of(&cluster.propose(chatter(11)).await), index, "a repeat changes nothing");
    for member in 1..=3 {
        let records = cluster.seen(member).records;
        assert!(records.is_sorted_by(|a, b| a + 1 == *b), "member {member}: {records:?}");
        cluster.log(member).shutdown().await;
    }
}

/// Only voters decide: ten more members follow, and the majority stays two of three.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_learners_stay_learners() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    for member in 4..=13 {
        cluster.start(member, true).await;
        cluster.log(leader).add_learner(RaftId(member)).await.expect("it learns");
    }
    let index = index_of(&cluster.propose(chatter(1)).await);
    assert_equal(&cluster, &(1..=13).collect::<Vec<_>>(), index).await;
    let now = cluster.log(leader).leadership().borrow().clone();
    assert_eq!(now.voters, (1..=3).map(RaftId).collect());
    assert_eq!(now.learners, (4..=13).map(RaftId).collect());

    cluster.stop(leader).await;
    let next = cluster.leader().await;
    assert!(next <= 3, "a learner must never lead");
    let index = index_of(&cluster.propose(chatter(2)).await);
    assert_equal(&cluster, &(4..=13).collect::<Vec<_>>(), index).await;
}

/// A leader that is cut off loses its office, and what it was told meanwhile is not applied.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_without_majority_applies_nothing() {
    let cluster = Cluster::of(3).await;
    let old = cluster.leader().await;
    let before = index_of(&cluster.propose(chatter(1)).await);
    cluster.switch.cut(RaftId(old), true);
    let lonely = cluster.log(old).propose(chatter(2)).await;
    assert!(
        matches!(lonely, Err(ProposeError::Unknown | ProposeError::NotLeader { .. })),
        "{lonely:?}"
    );
    let others: Vec<u64> = (1..=3).filter(|member| *member != old).collect();
    let now = until(cluster.log(others[0]), |now| now.leader.is_some_and(|l| l.0 != old)).await;
    let new = now.leader.expect("just seen").0;
    let index = index_of(&cluster.log(new).propose(chatter(4)).await.expect("a majority decides"));
    assert!(index > before);

    cluster.switch.cut(RaftId(old), false);
    assert_equal(&cluster, &[1, 2, 3], index).await;
    let again = cluster.propose(chatter(2)).await;
    assert!(matches!(again, Outcome::Applied { .. }), "it had not been applied: {again:?}");
}

/// A member that was away while the others went on past a snapshot is given the whole state.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_far_behind_gets_a_snapshot() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let away = (1..=3).find(|member| *member != leader).expect("three members");
    cluster.stop(away).await;
    // More than the entries kept behind a snapshot and those that are purged together.
    let proposals = (1..=1_400).map(|n| {
        let log = cluster.log(leader).clone();
        async move { log.propose(chatter(n)).await }
    });
    for outcome in futures_util::future::join_all(proposals).await {
        outcome.expect("applied");
    }
    let log = cluster.log(leader).clone();
    log.snapshot_now().await.expect("a snapshot is taken");
    until(&log, |now| now.purged > 0).await;
    let index = index_of(&cluster.propose(chatter(2_000)).await);
    cluster.start(away, false).await;
    assert_equal(&cluster, &[1, 2, 3], index).await;
    assert!(!cluster.seen(away).installed.is_empty(), "it came as a snapshot");
}

/// Members come, vote, lead, stop voting and leave, each by one call (spec A6: a node is deleted).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_come_and_go() {
    let mut cluster = Cluster::of(3).await;
    let leader = cluster.leader().await;
    let log = cluster.log(leader).clone();
    let other = (1..=3).find(|member| *member != leader).expect("three members");
    let refused = cluster.log(other).add_learner(RaftId(4)).await;
    assert_eq!(refused, Err(MembershipError::NotLeader { leader: Some(RaftId(leader)) }));
    let early = log.set_voters([RaftId(leader), RaftId(4)].into()).await;
    assert_eq!(early, Err(MembershipError::NotALearner(RaftId(4))));
    assert_eq!(log.set_voters([].into()).await, Err(MembershipError::NoVoters));
    assert_eq!(log.remove(RaftId(leader)).await, Err(MembershipError::Leads(RaftId(leader))));

    log.transfer_leader(RaftId(other)).await.expect("the other one leads");
    // The third hears of it a moment later.
    for member in 1..=3 {
        until(cluster.log(member), |now| now.leader == Some(RaftId(other))).await;
    }
    let log = cluster.log(other).clone();
    cluster.start(4, true).await;
    log.add_learner(RaftId(4)).await.expect("it learns");
    log.set_voters([RaftId(other), RaftId(4)].into()).await.expect("two vote");
    let now = until(&log, |now| !now.joint && now.voters.len() == 2).await;
    assert_eq!(now.learners.len(), 2, "former voters learn");
    log.set_voters([RaftId(other), RaftId(4)].into()).await.expect("nothing to do is done");
    let third = (1..=3).find(|m| *m != leader && *m != other).expect("three members");
    for gone in [leader, third] {
        log.remove(RaftId(gone)).await.expect("removed");
        log.remove(RaftId(gone)).await.expect("removed is removed");
        cluster.stop(gone).await;
    }
    log.remove(RaftId(4)).await.expect("a voter is removed, too");
    let now = until(&log, |now| now.learners.is_empty() && now.voters.len() == 1).await;
    assert_eq!(now.voters, [RaftId(other)].into());
    log.propose(chatter(1)).await.expect("one alone is a majority");
}
