//! Machines that talk to each other in virtual time. A packet takes one millisecond.

mod clocks;
mod world;

use self::world::{World, config};
use super::*;
use crate::takeover::Remains;

const HIGH: &[Priority] = &[Priority::High, Priority::High];
const HIGH_LOW: &[Priority] = &[Priority::High, Priority::Low];
const UP: Option<(bool, bool)> = Some((true, true));
const LOST: Option<(bool, bool)> = Some((false, false));

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Whether every link of every report since then is up in both directions.
fn nobody_doubted(world: &World, node: u16, since: Instant) -> bool {
    let reports = world.reports_since(node, since);
    reports.iter().all(|(_, r)| r.links.iter().all(|l| l.inbound && l.outbound))
}

#[test]
fn links_come_up_in_two_round_trips() {
    let mut world = World::new(2, HIGH);
    world.run(ms(5));
    for (me, peer) in [(1, 2), (2, 1)] {
        assert_eq!(world.link(me, peer, 1), UP);
        assert_eq!(world.link(me, peer, 2), UP);
    }
    assert_eq!(world.peer(1, 2).unwrap().session, Some(Session(1_002)));
}

#[test]
fn a_node_that_starts_later_is_heard_at_once() {
    let mut world = World::new(2, HIGH);
    let second = world.config(2);
    world.stop(2);
    world.run(ms(5_010));
    assert_eq!(world.link(1, 2, 1), LOST);
    world.start(second);
    world.run(ms(6));
    assert_eq!((world.link(1, 2, 1), world.link(2, 1, 1)), (UP, UP));
}

/// Silence on a link that has just been added is no testimony before the time for detection.
#[test]
fn a_new_link_is_not_spoken_of_before_it_was_given_time() {
    let mut world = World::new(2, HIGH);
    world.stop(2);
    world.run(ms(900));
    assert_eq!(world.link(1, 2, 1), None);
    world.run(ms(110));
    assert_eq!(world.link(1, 2, 1), LOST);
    assert!(
        world
            .reports_since(1, Instant::from_millis(1_000))
            .iter()
            .any(|(_, r)| !r.links.is_empty())
    );
}

/// H1, H4: one network is cut; the other goes on, and both ends say the same.
#[test]
fn one_cut_network_leaves_the_other_alone() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    world.cut_both(1, 2, 1);
    world.run(ms(1_010));
    assert_eq!((world.link(1, 2, 1), world.link(2, 1, 1)), (LOST, LOST));
    for (me, peer, network) in [(1, 2, 2), (2, 1, 2), (1, 3, 1), (2, 3, 1), (3, 1, 1)] {
        assert_eq!(world.link(me, peer, network), UP, "{me} of {peer} on {network}");
    }
    world.cut.clear();
    world.run(ms(210));
    assert_eq!((world.link(1, 2, 1), world.link(2, 1, 1)), (UP, UP));
}

/// H4: in one direction only: the deaf end lost its inbound, the mute end its outbound.
#[test]
fn a_one_way_cut_differs_at_its_ends() {
    let mut world = World::new(2, HIGH);
    world.run(ms(2_000));
    world.cut.insert((1, 2, 1));
    world.run(ms(1_010));
    assert_eq!(world.link(2, 1, 1), LOST);
    assert_eq!(world.link(1, 2, 1), Some((true, false)));
    world.run(Duration::from_secs(3_600));
    assert_eq!(world.link(1, 2, 1), Some((true, false)), "an hour later too");
}

#[test]
fn a_dead_node_is_reported_when_the_time_for_detection_is_over() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let died = world.now();
    world.stop(3);
    world.run(ms(2_000));
    let (at, _) = world
        .reports_since(1, died)
        .into_iter()
        .find(|(_, r)| r.links.iter().any(|l| l.peer == NodeNumber(3) && !l.inbound))
        .expect("a report");
    assert!((ms(790)..=ms(1_002)).contains(&at.since(died)), "after {:?}", at.since(died));
    assert_eq!(world.peer(1, 3).unwrap().agent, AgentStatus::Unknown);
}

/// A paused node doubts itself, not its peers; its peers rightly doubt it.
#[test]
fn a_paused_node_doubts_itself() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let paused = world.now();
    world.pause(1, ms(10_000));
    world.run(ms(10_300));
    assert_eq!(world.link(2, 1, 1), UP, "back");
    assert!(!nobody_doubted(&world, 2, paused), "it was missed");
    let own = world.reports_since(1, paused);
    assert!(own.first().expect("a report at once").1.self_suspect);
    assert!(own.iter().all(|(_, r)| r.links.iter().all(|l| l.inbound)), "no peer was lost");
    world.run(ms(2_000));
    assert!(!world.report(1).self_suspect, "it was punctual for a while");
}

fn word(epoch: u64, released: bool, holds: bool) -> Word {
    Word { epoch, released, holds, remains: Remains::default() }
}

/// The epoch of a guard, which says that it has let go, is known to its peers one packet later.
#[test]
fn a_new_epoch_is_visible_at_the_peers_at_once() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_050));
    let said = world.now();
    world.input(1, Input::Holds(word(7, true, false)));
    world.run(ms(1));
    for peer in [2, 3] {
        assert_eq!(world.peer(peer, 1).unwrap().epoch, 7);
        assert_eq!(world.peer(peer, 5 - peer).unwrap().epoch, 0);
        assert!(!world.reports_since(peer, said).is_empty(), "reported without being asked");
    }
    assert!(world.report(1).released);
    world.input(1, Input::Holds(word(7, false, true)));
    world.run(ms(1));
    assert!(!world.report(1).released);
    assert_eq!((world.report(1).epoch, world.peer(2, 1).unwrap().epoch), (7, 7));
    // What is left of an earlier epoch is known as soon, and that it is gone.
    for remains in [Remains::default().with(3), Remains::default()] {
        world.input(1, Input::Holds(Word { remains, ..word(7, false, true) }));
        world.run(ms(1));
        assert_eq!(world.peer(2, 1).unwrap().remains, remains);
    }
}

#[test]
fn a_short_pause_is_nobodys_business() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let paused = world.now();
    world.pause(1, ms(150));
    world.run(ms(3_000));
    assert!((1..=3).all(|n| nobody_doubted(&world, n, paused)));
    assert!(world.reports_since(1, paused).iter().all(|(_, r)| !r.self_suspect));
}

/// A9: what a guard says of its agent is known to its peers one packet later, without waiting.
#[test]
fn agent_status_is_visible_at_the_peers_at_once() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_050));
    let said = world.now();
    world.say(1, AgentStatus::Running, None);
    world.run(ms(1));
    for peer in [2, 3] {
        assert_eq!(world.peer(peer, 1).unwrap().agent, AgentStatus::Running);
        assert!(!world.reports_since(peer, said).is_empty(), "reported without being asked");
    }
    world.say(1, AgentStatus::Down, None);
    world.run(ms(1));
    assert_eq!(world.peer(2, 1).unwrap().agent, AgentStatus::Down);
    assert_eq!(world.link(2, 1, 1), UP, "the host is as well as ever");
}

/// A19: who leaves says so, and that is remembered when it is gone.
#[test]
fn leaving_is_remembered() {
    let mut world = World::new(2, HIGH);
    world.run(ms(1_000));
    world.input(1, Input::Leave);
    world.stop(1);
    world.run(ms(3_000));
    let first = world.peer(2, 1).unwrap();
    assert!(first.leaving);
    let again = Config { session: Session(5), ..config(1, 2, HIGH) };
    world.start(again);
    world.run(ms(300));
    assert!(!world.peer(2, 1).unwrap().leaving);
    assert_eq!(world.peer(2, 1).unwrap().session, Some(Session(5)));
}

/// H8, V4 and the replay rule: a repeated packet is counted and changes nothing.
#[test]
fn replayed_packets_do_not_keep_a_dead_node_alive() {
    let mut world = World::new(2, HIGH);
    world.run(ms(3_000));
    let recorded: Vec<_> =
        world.captured.iter().filter(|b| b.source == NodeNumber(2)).copied().collect();
    world.stop(2);
    for beat in recorded.iter().cycle().take(400) {
        world.input(1, Input::Beat(beat.network, *beat));
        world.run(ms(10));
    }
    assert_eq!(world.link(1, 2, 1), LOST);
    let refused = [Reject::Replayed, Reject::Stale, Reject::Unproven].map(|k| world.rejected(1, k));
    assert!(refused.iter().sum::<u64>() >= 400, "{:?}", world.nodes[&1].rejected());
}

#[test]
fn packets_of_an_older_run_do_not_count() {
    let mut world = World::new(2, HIGH);
    world.run(ms(3_000));
    let recorded: Vec<_> =
        world.captured.iter().filter(|b| b.source == NodeNumber(2)).copied().collect();
    world.start(Config { session: Session(9), ..config(2, 2, HIGH) });
    world.run(ms(500));
    assert_eq!(world.peer(1, 2).unwrap().session, Some(Session(9)));
    for beat in &recorded {
        world.input(1, Input::Beat(beat.network, *beat));
    }
    assert_eq!(world.peer(1, 2).unwrap().session, Some(Session(9)));
    // And against a new run of the receiver: nothing of it is fresh.
    world.start(Config { session: Session(10), ..config(1, 2, HIGH) });
    world.stop(2);
    for beat in &recorded {
        world.input(1, Input::Beat(beat.network, *beat));
    }
    assert_eq!(world.link(1, 2, 1), None);
    assert!(world.rejected(1, Reject::Unproven) >= recorded.len() as u64);
}

#[test]
fn unproven_packets_are_answered_at_a_limited_rate() {
    let mut world = World::new(2, HIGH);
    world.run(ms(3_000));
    let old = world.captured.iter().find(|b| b.source == NodeNumber(2)).copied().unwrap();
    let before = world.sent[&1];
    for _ in 0..1_000 {
        world.input(1, Input::Beat(old.network, old));
    }
    assert!(world.sent[&1] - before <= 1);
}

#[test]
fn packets_for_others_and_from_strangers_are_counted() {
    let mut world = World::new(2, HIGH);
    world.run(ms(1_000));
    let good = world.captured.iter().find(|b| b.source == NodeNumber(2)).copied().unwrap();
    let stranger = Beat { source: NodeNumber(7), ..good };
    let elsewhere = Beat { destination: NodeNumber(7), ..good };
    let double = Beat { source: NodeNumber(1), ..good };
    world.input(1, Input::Beat(good.network, stranger));
    world.input(1, Input::Beat(good.network, elsewhere));
    world.input(1, Input::Beat(NetworkNumber(2), good));
    world.input(1, Input::Beat(good.network, double));
    world.input(1, Input::Garbage(WireError::Seal));
    assert_eq!(world.rejected(1, Reject::Stranger), 1);
    assert_eq!(world.rejected(1, Reject::Misdirected), 2);
    assert_eq!(world.rejected(1, Reject::OwnNumber), 1);
    assert_eq!(world.rejected(1, Reject::Seal), 1);
}

/// V2: a low-priority link beats half as often, and is as reliable.
#[test]
fn low_priority_beats_at_half_the_rate() {
    let mut world = World::new(2, HIGH_LOW);
    world.run(ms(1_000));
    let start = world.captured.len();
    world.run(ms(10_000));
    let on = |n| world.captured[start..].iter().filter(|b| b.network == NetworkNumber(n)).count();
    assert_eq!((on(1), on(2)), (100, 50));
}

/// V3: promoted when every high-priority link has failed, demoted when one is back.
#[test]
fn low_priority_is_promoted_and_demoted() {
    let mut world = World::new(2, HIGH_LOW);
    world.run(ms(1_000));
    world.cut_both(1, 2, 1);
    world.run(ms(1_400));
    let promoted = world.captured.len();
    world.run(ms(2_000));
    let on_low = |from: usize, world: &World| {
        world.captured[from..].iter().filter(|b| b.network == NetworkNumber(2)).count()
    };
    assert_eq!(on_low(promoted, &world), 20, "every interval, from both");
    assert_eq!(world.link(1, 2, 2), UP);
    world.cut.clear();
    world.run(ms(400));
    let demoted = world.captured.len();
    world.run(ms(2_000));
    assert_eq!(on_low(demoted, &world), 10);
}

/// A node with a low-priority network is found dead within one interval of one without.
#[test]
fn low_priority_does_not_delay_detection() {
    let mut world = World::new(2, HIGH_LOW);
    world.run(ms(2_000));
    world.stop(2);
    world.run(ms(1_205));
    assert_eq!((world.link(1, 2, 1), world.link(1, 2, 2)), (LOST, LOST));
}

/// 20 % loss on one of two networks for an hour: no peer was ever unreachable.
#[test]
fn loss_on_one_network_never_makes_a_node_unreachable() {
    let mut world = World::new(3, HIGH);
    world.loss.insert(1, 20);
    world.run(ms(2_000));
    let start = world.now();
    world.run(Duration::from_secs(3_600));
    for (_, report) in world.reports_since(1, start) {
        for peer in [2, 3].map(NodeNumber) {
            assert!(report.links.iter().any(|l| l.peer == peer && l.inbound && l.outbound));
        }
    }
    let report = world.report(1);
    let lossy = report.links.iter().find(|l| l.network == NetworkNumber(1)).unwrap();
    let share = lossy.lost as f64 / (lossy.lost + lossy.received) as f64;
    assert!((0.18..0.22).contains(&share), "lost {share}");
}

/// F9: who gets the beats of a peer and not its long ones says so, for as long as it is so, and takes the link for up.
#[test]
fn f9_a_path_that_loses_long_frames_is_seen() {
    let mut world = World::new(3, &[Priority::High]);
    let narrow = |world: &mut World| {
        let link = world.report(2).links.into_iter().find(|link| link.peer == NodeNumber(1));
        link.map(|link| (link.narrow, link.inbound && link.outbound))
    };
    world.run(Duration::from_secs(10));
    assert_eq!(narrow(&mut world), Some((false, true)));
    world.narrow.insert((1, 2, 1));
    world.run(Duration::from_secs(4));
    assert_eq!(narrow(&mut world), Some((false, true)), "some may be lost");
    world.run(Duration::from_secs(4));
    assert_eq!(narrow(&mut world), Some((true, true)));
    assert!(world.report(3).links.iter().all(|link| !link.narrow));
    world.narrow.clear();
    world.run(Duration::from_secs(2));
    assert_eq!(narrow(&mut world), Some((false, true)));
}

#[test]
fn round_trips_are_measured_in_spite_of_differing_clocks() {
    let mut world = World::new(2, HIGH);
    world.run(ms(2_000));
    assert_eq!(world.report(1).links[0].rtt_us, Some(2_000));
}

/// H2: in a large cluster each node beats to three others and hears nothing of the rest.
#[test]
fn sixteen_nodes_watch_in_a_ring() {
    let mut world = World::new(16, HIGH);
    world.run(ms(2_000));
    for node in 1..=16 {
        let links = world.report(node).links;
        assert_eq!(links.len(), 3 * 2, "node {node}");
        assert!(links.iter().all(|l| l.inbound && l.outbound));
    }
    let before = world.sent[&1];
    world.run(ms(1_000));
    assert_eq!(world.sent[&1] - before, 5 * 3 * 2);
}

/// H2: the ring closes around a dead node, without doubting anybody else, and opens for it again.
#[test]
fn the_ring_is_made_anew_when_the_live_set_changes() {
    let mut world = World::new(16, HIGH);
    world.run(ms(2_000));
    world.stop(5);
    world.run(ms(1_100));
    let start = world.now();
    set_live(&mut world, 5, false);
    world.run(ms(5_000));
    for node in (1..=16).filter(|n| *n != 5) {
        for (_, report) in world.reports_since(node, start) {
            let others = report.links.iter().filter(|l| l.peer != NodeNumber(5));
            assert!(others.into_iter().all(|l| l.inbound && l.outbound), "node {node}");
        }
    }
    assert_eq!(world.link(4, 6, 1), UP, "neighbours now");
    // The dead one starts again and believes that nobody lives.
    let mut fresh = config(5, 16, HIGH);
    fresh.session = Session(55);
    fresh.peers.iter_mut().for_each(|p| p.live = false);
    world.start(fresh);
    world.run(ms(1_000));
    assert_eq!(world.link(4, 5, 1), UP, "its return is seen");
    set_live(&mut world, 5, true);
    world.reconfigure(5, Config { session: Session(55), ..config(5, 16, HIGH) });
    world.run(ms(5_000));
    assert_eq!(world.report(5).links.len(), 6);
}

/// All of a large cluster starts with nobody live yet.
#[test]
fn a_large_cluster_finds_itself() {
    let mut world = World::new(12, HIGH);
    for node in 1..=12 {
        let mut config = world.config(node);
        config.peers.iter_mut().for_each(|p| p.live = false);
        world.start(config);
    }
    world.run(ms(1_000));
    assert!(world.report(1).links.iter().filter(|l| l.inbound).count() >= 22);
}

fn set_live(world: &mut World, who: u16, live: bool) {
    for node in (1..=16).filter(|n| *n != who) {
        let mut config = world.config(node);
        let peer = config.peers.iter_mut().find(|p| p.number == NodeNumber(who)).unwrap();
        peer.live = live;
        world.reconfigure(node, config);
        // The commit arrives at one after the other.
        world.run(ms(3));
    }
}

/// What a node is told by the director ends by itself; the lease does not depend on it.
#[test]
fn a_cluster_without_a_director_keeps_its_leases_and_says_so() {
    let mut world = World::new(3, HIGH);
    for _ in 0..20 {
        world.say(1, AgentStatus::Running, Some(4));
        world.run(ms(100));
    }
    assert!((1..=3).all(|n| world.report(n).lease && world.report(n).directed));
    // The office is not confirmed any more.
    let since = world.now();
    world.run(ms(1_500));
    for node in 1..=3 {
        let reports = world.reports_since(node, since);
        let (at, _) = reports.iter().find(|(_, r)| !r.directed).expect("told at once");
        assert!(at.since(since) <= ms(300 + 800), "node {node} after {:?}", at.since(since));
        assert!(reports.iter().all(|(_, r)| r.lease), "no lease was lost");
    }
}

/// Agents, and with them director and log, take no part in leases.
#[test]
fn leases_outlive_all_agents() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    for node in 1..=3 {
        world.say(node, AgentStatus::Down, None);
    }
    let since = world.now();
    world.run(ms(5_000));
    for node in 1..=3 {
        assert!(world.reports_since(node, since).iter().all(|(_, r)| r.lease));
    }
}

/// H2, H24: in a ring most nodes are no neighbours of the voters. Voters and everybody watch each
/// other, so all get leases, and are in touch with the next director at once too.
#[test]
fn in_a_large_cluster_everybody_gets_a_lease() {
    let mut world = World::new(16, HIGH);
    for node in 1..=16 {
        let voters = [1, 2, 3].map(NodeNumber).into();
        world.reconfigure(node, Config { voters, ..world.config(node) });
    }
    for director in [1, 3] {
        for _ in 0..20 {
            world.say(director, AgentStatus::Running, Some(u64::from(director)));
            world.run(ms(100));
            let late = director > 1;
            assert!(!late || (1..=16).all(|n| world.report(n).lease), "no lease was lost");
        }
        assert!((1..=16).all(|n| world.report(n).lease && world.report(n).directed));
        world.say(director, AgentStatus::Running, None);
    }
    assert_eq!(world.link(8, 13, 1), None, "the others stand in a ring");
}

#[test]
fn a_cut_off_node_loses_its_lease() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    assert!(world.report(3).lease);
    for (peer, network) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        world.cut_both(3, peer, network);
    }
    world.run(ms(2_000));
    assert_eq!((world.report(2).lease, world.report(3).lease), (true, false));
}

/// A lease asks for both directions: who is heard by nobody has none, though it hears them all.
#[test]
fn a_node_that_nobody_hears_loses_its_lease() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    for (peer, network) in [(1, 1), (1, 2), (2, 1), (2, 2)] {
        world.cut.insert((3, peer, network));
    }
    world.run(ms(2_000));
    assert!(world.report(3).links.iter().all(|link| link.inbound));
    assert_eq!((world.report(2).lease, world.report(3).lease), (true, false));
}

/// One voter of three that hears it is a majority with itself.
#[test]
fn one_path_to_one_other_voter_is_enough() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let since = world.now();
    for (peer, network) in [(1, 1), (1, 2), (2, 1)] {
        world.cut_both(3, peer, network);
    }
    world.run(ms(5_000));
    for node in 1..=3 {
        assert!(world.reports_since(node, since).iter().all(|(_, r)| r.lease), "node {node}");
    }
}

/// A lease that something stands on is as long as it can be when the voters die: a voter answers who holds something.
#[test]
fn a_holder_is_answered_at_once() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let age = |world: &mut World| {
        let end = world.nodes[&1].lease_until().expect("a lease");
        ms(800) - (end - world.clock(1))
    };
    world.input(1, Input::Holds(word(1, false, true)));
    let mut oldest = ms(0);
    for _ in 0..400 {
        world.run(ms(5));
        oldest = oldest.max(age(&mut world));
    }
    assert!(oldest <= ms(210), "a beat, and an answer: {oldest:?}");
    let before = world.sent[&2];
    world.run(ms(1_000));
    assert!(world.sent[&2] - before <= 2 * 2 * 2 * 5, "answers are not answered");
}

/// An agent that has just begun knows an earlier set of voters than its guard: that one is kept.
#[test]
fn voters_are_not_gone_back_to() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let since = world.now();
    let earlier = Config { voters: Vec::new(), voters_since: 0, ..world.config(1) };
    world.reconfigure(1, earlier);
    world.run(ms(2_000));
    assert_eq!(world.report(1).voters, 1);
    assert!(world.reports_since(1, since).iter().all(|(_, r)| r.lease));
}

#[test]
fn a_single_node_holds_its_own_lease() {
    let mut world = World::new(1, HIGH);
    world.run(ms(1));
    assert!(world.report(1).lease && !world.report(1).directed);
    world.say(1, AgentStatus::Running, Some(1));
    assert!(world.report(1).directed);
    world.run(ms(1_500));
    assert!(world.report(1).lease && !world.report(1).directed);
}

#[test]
fn own_interfaces_are_reported() {
    let mut world = World::new(2, HIGH);
    let broken = OwnInterface { network: NetworkNumber(2), usable: false, probe: Some(false) };
    let before = world.now();
    world.input(1, Input::Interface(broken.clone()));
    assert_eq!(world.reports_since(1, before).last().unwrap().1.interfaces[1], broken);
}

/// H3: timers change while running; nobody is lost over it.
#[test]
fn timing_changes_while_running() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_000));
    let start = world.now();
    for node in 1..=3 {
        world.reconfigure(node, Config { timing: Timing::FAST, ..world.config(node) });
        world.run(ms(5));
    }
    world.run(ms(2_000));
    assert!((1..=3).all(|n| nobody_doubted(&world, n, start)));
    let before = world.sent[&1];
    world.run(ms(1_000));
    assert_eq!(world.sent[&1] - before, 40 * 2 * 2);
}

/// The report that shows that a peer's lease was over comes when it can, not when it is a report's turn.
#[test]
fn silence_is_reported_as_soon_as_it_tells_something() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_050));
    world.stop(1);
    let cut = world.now();
    world.run(ms(1_400));
    let telling = crate::takeover::telling_silence(&Timing::DEFAULT);
    let shows = |report: &Report| {
        let mut links = report.links.iter().filter(|link| link.peer == NodeNumber(1));
        links.all(|link| link.silent.is_some_and(|silent| silent >= telling))
    };
    let reports = world.reports_since(2, cut);
    let (at, _) = reports.iter().find(|(_, report)| shows(report)).expect("a report shows it");
    let earliest = telling.max(Timing::DEFAULT.detect());
    assert!(*at - cut <= earliest + ms(10), "{:?}", *at - cut);
}
