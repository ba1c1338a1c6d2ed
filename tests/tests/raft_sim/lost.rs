//! A member whose log became shorter than what it had acknowledged: the end of its database was lost
//! (its memory of the others is still there), or an older copy of all of its files was put back.
//!
//! Rule (F1): such a member is recognised by what is remembered of it, caught up like a new one, and
//! counts neither for commits nor for votes meanwhile; everybody who knows of it says so.

use std::collections::BTreeSet;
use std::time::Duration;

use openraft::{AsyncRuntime, Instant};
use openraft_rt_sim::{SimInstant, SimRuntime};
use vedette_core::id::RaftId;
use vedette_core::log_memory::Loss;

use crate::dice::Dice;
use crate::world::{Copy, Member, World};
use crate::{chatter, form, propose_until};

/// Virtual time in which a member must be caught up, or a proposal must be answered.
const SOON: Duration = Duration::from_secs(5);

/// Runs of each story; they differ in how long messages and disks take.
const SEEDS: u64 = 3;

/// Runs `story` in a world of `voters` voters, the first of which leads.
fn tell<F: Future<Output = Result<(), String>>>(
    seed: u64,
    voters: u64,
    story: impl FnOnce(World) -> F,
) -> Result<(), String> {
    SimRuntime::with_seed(seed).block_on(async {
        let world = World::new(Dice::new(seed), false);
        let told = async {
            let first = world.start(1).await;
            first.form(form()).await.map_err(|error| error.to_string())?;
            for member in 2..=voters {
                world.start(member).await;
                first.add_learner(RaftId(member)).await.map_err(|error| error.to_string())?;
            }
            let all: BTreeSet<RaftId> = (1..=voters).map(RaftId).collect();
            first.set_voters(all).await.map_err(|error| error.to_string())?;
            story(world.clone()).await
        }
        .await;
        world.end_all().await;
        told.and_then(|()| world.violation().map_or(Ok(()), Err))
    })
}

/// Commits proposals, wherever the leader is: index of the last.
async fn commit(world: &World, numbers: std::ops::Range<u64>) -> Result<u64, String> {
    let mut last = 0;
    for n in numbers {
        last = propose_until(world, chatter(n), SimInstant::now() + SOON).await?;
    }
    Ok(last)
}

fn end_of(world: &World, n: u64) -> u64 {
    world.member(n).and_then(|member| member.metrics().last_applied).map_or(0, |last| last.index)
}

/// Waits until a member has applied `index`.
async fn caught_up(world: &World, n: u64, index: u64) -> Result<(), String> {
    let end = SimInstant::now() + SOON;
    while end_of(world, n) < index {
        if SimInstant::now() >= end {
            return Err(format!("member {n} has {} of {index}", end_of(world, n)));
        }
        SimRuntime::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// The losses of `lost` that `by` spoke of.
fn losses(world: &World, by: u64, lost: u64) -> Vec<Loss> {
    let said = world.said(by).into_iter();
    if by == lost {
        return said.filter_map(|standings| standings.own).collect();
    }
    said.filter_map(|standings| standings.behind.get(&RaftId(lost)).copied()).collect()
}

/// The leader lives: the member is caught up within seconds, all say what it lost and, in the end,
/// that nothing is lost; and it counts again when the other follower is struck.
async fn caught_up_by_the_leader(
    world: World,
    entries: u64,
    with_memory: bool,
) -> Result<(), String> {
    let before = commit(&world, 1..30).await?;
    caught_up(&world, 3, before).await?;
    let copy = world.copy(3);
    let last = commit(&world, 30..30 + entries).await?;
    caught_up(&world, 3, last).await?;
    world.revert(3, &copy, with_memory).await;
    caught_up(&world, 3, last).await?;
    for by in [1, 3] {
        let told = losses(&world, by, 3);
        let right = |loss: &Loss| loss.had > loss.has && loss.has >= before && loss.had <= last;
        if told.is_empty() || !told.iter().all(right) {
            return Err(format!(
                "member {by} says of member 3: {told:?}, entries {before}, {last}"
            ));
        }
        SimRuntime::sleep(Duration::from_millis(500)).await;
        let now = world.said(by).pop().unwrap_or_default();
        if now.own.is_some() || !now.behind.is_empty() {
            return Err(format!("member {by} still says {now:?}"));
        }
    }
    world.crash(2);
    let next = commit(&world, 1_000..1_005).await?;
    caught_up(&world, 3, next).await
}

#[test]
fn a_member_that_lost_its_tail_is_caught_up() {
    for seed in 1..=SEEDS {
        // Few entries are sent again; of many, the whole state is.
        for (entries, with_memory) in [(20, false), (20, true), (150, false), (150, true)] {
            tell(seed, 3, |world| caught_up_by_the_leader(world, entries, with_memory))
                .unwrap_or_else(|why| panic!("seed {seed}, {entries}, {with_memory}: {why}"));
        }
    }
}

/// The other follower is struck in the same moment in which the member comes back with less.
#[test]
fn the_log_goes_on_with_the_leader_and_a_member_that_lost_its_tail() {
    for seed in 1..=SEEDS {
        for with_memory in [false, true] {
            let story = |world: World| async move {
                let copy = world.copy(3);
                let last = commit(&world, 1..40).await?;
                caught_up(&world, 3, last).await?;
                world.crash(2);
                world.revert(3, &copy, with_memory).await;
                commit(&world, 100..105).await.map(drop)
            };
            tell(seed, 3, story).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        }
    }
}

/// What a member acknowledged and lost again does not make a majority: with one more member that has
/// the entry, two of five have it.
#[test]
fn what_was_lost_commits_nothing() {
    for seed in 1..=SEEDS {
        tell(seed, 5, lost_is_not_counted).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
    }
}

async fn lost_is_not_counted(world: World) -> Result<(), String> {
    let copy = world.copy(2);
    let last = commit(&world, 1..30).await?;
    for n in 1..=5 {
        caught_up(&world, n, last).await?;
    }
    let leader = world.member(1).ok_or("member 1 runs")?;
    for away in 3..=5 {
        world.part(&[away], false);
    }
    let proposer = leader.clone();
    drop(SimRuntime::spawn(async move { drop(proposer.propose(chatter(99)).await) }));
    let entry = last + 1;
    until("member 2 has the entry", || matched(&leader, 2) >= entry).await?;
    world.starve(&[2]);
    world.revert(2, &copy, true).await;
    until("the leader knows of the loss", || !losses(&world, 1, 2).is_empty()).await?;
    world.join(&[1, 2, 3]);
    until("member 3 has the entry", || matched(&leader, 3) >= entry).await?;
    SimRuntime::sleep(Duration::from_millis(300)).await;
    let committed = leader.metrics().local_committed.map_or(0, |id| id.index);
    if committed >= entry {
        return Err(format!("entry {entry} counts as committed, and two of five have it"));
    }
    world.starve(&[]);
    world.heal();
    commit(&world, 100..101).await.map(drop)
}

/// Index up to which the leader knows a member to have its log.
fn matched(leader: &Member, n: u64) -> u64 {
    let metrics = leader.metrics();
    let matched = metrics.replication.as_ref().and_then(|all| all.get(&n).copied().flatten());
    matched.map_or(0, |id| id.index)
}

async fn until(what: &str, happened: impl Fn() -> bool) -> Result<(), String> {
    let end = SimInstant::now() + SOON;
    while !happened() {
        if SimInstant::now() >= end {
            return Err(format!("never: {what}"));
        }
        SimRuntime::sleep(Duration::from_millis(1)).await;
    }
    Ok(())
}

/// How the third member, which does not have the newest entries, hears of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Third {
    /// By the leader's heartbeats.
    Knows,
    /// Not at all.
    IsCutOff,
}

/// Entries are committed by the leader and one follower. The leader dies, the follower comes back
/// without them, and the third never had them.
async fn two_without_the_entries(
    world: World,
    third: Third,
    with_memory: bool,
) -> Result<(), String> {
    let before = commit(&world, 1..20).await?;
    caught_up(&world, 2, before).await?;
    caught_up(&world, 3, before).await?;
    let copy: Copy = world.copy(2);
    match third {
        Third::Knows => world.starve(&[3]),
        Third::IsCutOff => world.part(&[3], false),
    }
    let last = commit(&world, 20..40).await?;
    caught_up(&world, 2, last).await?;
    // The commit and who has it travel with the next heartbeats.
    SimRuntime::sleep(Duration::from_millis(300)).await;
    world.crash(1);
    world.revert(2, &copy, with_memory).await;
    world.starve(&[]);
    world.heal();
    SimRuntime::sleep(Duration::from_secs(20)).await;
    for n in [2, 3] {
        if world.member(n).is_some_and(|member| member.raft().is_leader()) {
            return Err(format!("member {n} leads without entry {last}"));
        }
    }
    if losses(&world, 2, 2).is_empty() {
        return Err("member 2 does not know of its loss".into());
    }
    world.start(1).await;
    let next = commit(&world, 100..105).await?;
    for n in 1..=3 {
        caught_up(&world, n, next).await?;
    }
    Ok(())
}

#[test]
fn nobody_leads_without_a_committed_entry() {
    for seed in 1..=SEEDS {
        for (third, with_memory) in
            [(Third::Knows, true), (Third::Knows, false), (Third::IsCutOff, false)]
        {
            tell(seed, 3, |world| two_without_the_entries(world, third, with_memory))
                .unwrap_or_else(|why| panic!("seed {seed}, {third:?}, {with_memory}: {why}"));
        }
    }
}

/// The tests above are worth something: where nobody remembers, the two do elect a leader.
#[test]
fn what_nobody_remembers_is_not_kept() {
    let story = |world| two_without_the_entries(world, Third::IsCutOff, true);
    let why = tell(1, 3, story).expect_err("neither of the two can know");
    assert!(why.contains("leads without entry"), "{why}");
}
