//! When silence is evidence: what voters attest, and whose attestations count.

use super::*;
use crate::lease::VoterSet;

/// No eviction before `last heard + let_go_after`, whenever the node was heard last and whoever was elected since; and not
/// long after it either.
#[test]
fn a_lease_is_over_when_nobody_can_have_extended_it() {
    assert_eq!(let_go_after(&Timing::DEFAULT), Duration::from_millis(ENOUGH));
    for heard in [1_000, 8_000, 9_990, 10_000, 10_001, 10_150, 10_399, 10_777, 12_000, 13_456] {
        let mut world = world(takeover());
        world.heard.insert(DEAD, heard.min(10_000));
        let mut evicted = None;
        // Heard until then, and not any more.
        while world.now < heard && evicted.is_none() {
            world.heard.insert(DEAD, world.now);
            evicted = world.evicted(world.now + 1);
        }
        assert_eq!(evicted, None, "evicted while it is heard until {heard}");
        world.heard.insert(DEAD, heard);
        let allowed = (heard + ENOUGH).max(10_000);
        let at = world.evicted(20_000);
        let at = at.unwrap_or_else(|| panic!("never evicted, last heard at {heard}"));
        assert!(at >= allowed, "heard at {heard}, evicted at {at}, allowed at {allowed}");
        assert!(at <= allowed + 250, "heard at {heard}, evicted at {at}, allowed at {allowed}");
    }
}

/// Clocks whose rates differ by one percent: the node's lease and its release end before.
#[test]
fn the_margin_covers_the_drift_of_clocks() {
    for timing in [Timing::DEFAULT, Timing::FAST] {
        let on_a_slow_clock = (timing.lease_ms as f64) * 1.01 + timing.release_max_ms as f64;
        assert!(let_go_after(&timing).as_secs_f64() * 1_000.0 > on_a_slow_clock);
    }
}

#[test]
fn the_evidence_says_how_long_and_what_stands_behind_it() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_000);
    let proposed = world.run(12_000);
    let evidence = proposed.iter().find_map(|(at, command)| match command {
        Command::Group(GroupCommand::Evict { node: DEAD, evidence }) => Some((*at, evidence)),
        _ => None,
    });
    let (at, evidence) = evidence.expect("an eviction");
    let LetGo::LeaseOver { silent_ms, backing: Backing::Kernel, .. } = evidence else {
        panic!("{evidence:?}")
    };
    assert!((1_109..=at - 9_000).contains(silent_ms), "{silent_ms}");
}

/// Each of two voters heard nothing for a second, but not in the same second: the node may have lived all the time.
#[test]
fn silences_that_do_not_overlap_prove_nothing() {
    let mut world = world(takeover());
    while world.now < 20_000 {
        // One hears it while the other does not, in turns.
        let (own, other) = match world.now / 1_200 % 2 {
            0 => (world.now, world.now / 1_200 * 1_200 - 1),
            _ => (world.now / 1_200 * 1_200 - 1, world.now),
        };
        world.heard.insert(DEAD, own);
        world.other_heard = Some(other);
        assert_eq!(world.evicted(world.now + 1), None, "at {}", world.now);
    }
    let last = world.now;
    world.heard.insert(DEAD, last);
    world.other_heard = None;
    assert!(world.evicted(22_000).is_some_and(|at| at >= last + ENOUGH));
}

/// A voter that hears it keeps its lease alive, whatever the director hears.
#[test]
fn one_voter_of_three_that_hears_it_is_enough() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_000);
    while world.now < 15_000 {
        world.other_heard = Some(world.now);
        assert_eq!(world.evicted(world.now + 1), None);
    }
}

/// A report was made before it arrives: when, only the beats say that its maker had heard by then.
#[test]
fn a_report_that_comes_late_is_of_the_past() {
    let mut world = world(takeover());
    world.other_late = 700;
    world.heard.insert(DEAD, 9_500);
    world.other_heard = Some(9_500);
    // At 10.7 s it says what was so at 10.0 s.
    assert_eq!(world.evicted(11_000), None);
    assert!(world.evicted(13_000).is_some());
}

/// A report that does not show that its maker hears this node's guard could be of any time.
#[test]
fn a_report_of_no_certain_time_is_no_evidence() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_000);
    world.other_late = 10_000;
    assert_eq!(world.evicted(20_000), None);
}

/// What waits in the socket of a guard that was late, it has not accepted.
#[test]
fn a_guard_that_was_late_knows_what_it_has_accepted() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_000);
    world.suspect = true;
    assert!(world.evicted(12_000).is_some());
}

/// No memory of a predecessor's grants is needed: what voters attest is of leases, not of offices.
#[test]
fn a_new_director_does_not_wait_for_its_own_election() {
    let mut world = world(takeover());
    world.tell(Input::Deposed);
    world.heard.insert(DEAD, 9_000);
    assert_eq!(world.evicted(15_000), None, "not in office");
    world.elect();
    assert!(world.evicted(20_000).is_some_and(|at| at <= 15_200));
}

/// Voters changed while the node was away: a majority of each set that it may go by is needed.
#[test]
fn silence_counts_by_every_set_that_the_node_may_go_by() {
    let mut state = takeover();
    let presented = state.voter_set();
    let storage = |node: NodeNumber| (node, state.nodes[&node].storage);
    let members = vec![storage(ME), storage(DEAD), (NodeNumber(8), presented.members[0].1)];
    let since = presented.since + 5;
    state.voter_sets.push_back(VoterSet { since, members });
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    assert_eq!(world.evicted(13_000), None, "of the later set only the director attests");
    world.change(|state| {
        let set = state.voter_sets.back_mut().expect("a set");
        let other = (OTHER, state.nodes[&OTHER].storage);
        set.members[2] = other;
    });
    assert!(world.evicted(14_000).is_some());
}

/// The number of a voter was given to another machine: what that one says is not what the voter would.
#[test]
fn a_voter_is_its_storage_not_its_number() {
    let mut state = takeover();
    if let Some(node) = state.nodes.get_mut(&OTHER) {
        node.storage = crate::id::StorageId([0x77; 16]);
    }
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    assert_eq!(world.evicted(13_000), None);
}

#[test]
fn a_set_that_is_not_remembered_is_no_majority() {
    let mut state = takeover();
    if let Some(member) = state.manager.members.get_mut(&DEAD) {
        member.voters = 0;
    }
    state.voter_sets.drain(..state.voter_sets.len() - 1);
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    assert_eq!(world.evicted(13_000), None);
}

/// Seed 90371 of the simulation: a node that was cut off from the new voters lived on a lease of the old ones, and went
/// over to the new set a moment before the director looked. What the new voters had not heard before proved nothing.
#[test]
fn a_silence_from_before_a_set_was_presented_needs_the_voters_of_that_time() {
    let mut state = takeover();
    let presented = state.voter_set();
    let storage = |node: NodeNumber| (node, state.nodes[&node].storage);
    let before = VoterSet { since: presented.since, members: vec![storage(DEAD)] };
    let since = presented.since + 1;
    let after = VoterSet { since, members: [ME, OTHER, DEAD].map(storage).to_vec() };
    state.voter_sets = [before, after].into();
    state.manager.members.get_mut(&DEAD).expect("a member").voters = presented.since;
    set_host(&mut state, DEAD, HostStatus::Disconnected);
    let mut world = world(state);
    world.heard.insert(DEAD, 10_000);
    world.change(|_| ());
    assert_eq!(world.evicted(12_000), None, "it votes for itself in the old set");
    let presents = world.now;
    world.change(|state| {
        state.manager.members.get_mut(&DEAD).expect("a member").voters = since;
    });
    let at = world.evicted(20_000).expect("it is silent in the new set, too");
    let lasts = u64::try_from(let_go_after(&Timing::DEFAULT).as_millis()).expect("small");
    assert!(at >= presents + lasts, "{at}");
}
