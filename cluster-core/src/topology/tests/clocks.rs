//! Wall clocks and positions in the log, as the beats tell them.

use super::*;

const HOUR: i64 = 3_600_000_000;

/// What a node measures of the clock of another, in microseconds.
fn offset(world: &mut World, me: u16, peer: u16) -> Option<i64> {
    world.peer(me, peer).expect("it was heard").clock_offset_us
}

fn two_clocks(ahead: i64) -> World {
    let mut world = World::new(2, HIGH);
    world.wall.extend([(1, 0), (2, ahead)]);
    world
}

#[test]
fn clocks_an_hour_apart_are_measured_by_both() {
    let mut world = two_clocks(HOUR);
    world.run(ms(1_000));
    assert_eq!(offset(&mut world, 1, 2), Some(HOUR));
    assert_eq!(offset(&mut world, 2, 1), Some(-HOUR));
}

/// Both ends show a step in their own reports, without being asked, within two seconds.
#[test]
fn a_step_of_a_clock_shows_within_two_seconds() {
    for stepped in [1, 2] {
        let mut world = two_clocks(HOUR);
        // Round trips differ, so that the best beat of before has to be forgotten.
        world.slow.extend([((1, 2), (1, 4)), ((2, 1), (1, 4))]);
        world.run(ms(5_050));
        let before = world.now();
        let was = world.wall[&stepped];
        world.wall.insert(stepped, was + HOUR / 2);
        world.run(ms(2_000));
        let apart = world.wall[&2] - world.wall[&1];
        assert_ne!(apart, HOUR);
        for (me, peer, expected) in [(1, 2, apart), (2, 1, -apart)] {
            let reports = world.reports_since(me, before);
            let (_, last) = reports.last().expect("a report");
            let view = last.peers.iter().find(|view| view.peer == NodeNumber(peer)).unwrap();
            let wrong = view.clock_offset_us.expect("measured") - expected;
            assert!(wrong.abs() < 10_000, "{stepped} stepped, {me} is wrong by {wrong} µs");
        }
    }
}

/// Whatever is lost, and however much slower one way is: less wrong than the round trip.
#[test]
fn loss_and_asymmetric_delay_keep_the_error_under_the_round_trip() {
    let mut world = two_clocks(HOUR);
    world.slow.extend([((1, 2), (1, 8)), ((2, 1), (20, 8))]);
    world.loss.extend([(1, 40), (2, 30)]);
    world.run(ms(2_000));
    let start = world.now();
    world.run(Duration::from_secs(600));
    let mut worst = 0;
    for (me, expected) in [(1, HOUR), (2, -HOUR)] {
        let reports = world.reports_since(me, start);
        assert!(reports.len() > 1_000);
        for (_, report) in reports {
            let measured = report.peers[0].clock_offset_us.expect("measured all the time");
            worst = worst.max((measured - expected).abs());
        }
    }
    let least_round_trip = 21_000;
    assert!((1..least_round_trip).contains(&worst), "wrong by {worst} µs");
}

/// One beat that was long on its way says nothing of the clock.
#[test]
fn one_late_beat_does_not_move_the_offset() {
    let mut world = two_clocks(HOUR);
    world.run(ms(3_050));
    for at in 1..20 {
        world.slow.insert((2, 1), (150, 0));
        world.run(Timing::DEFAULT.interval());
        world.slow.clear();
        world.run(ms(1_200 + at));
        assert_eq!(offset(&mut world, 1, 2), Some(HOUR));
    }
    let start = Instant::from_millis(3_000);
    assert!(world.reports_since(1, start).iter().any(|(_, r)| r.links[0].rtt_us > Some(10_000)));
    for (_, report) in world.reports_since(1, start) {
        assert_eq!(report.peers[0].clock_offset_us, Some(HOUR));
    }
}

#[test]
fn an_unknown_clock_is_unknown() {
    let mut world = World::new(3, HIGH);
    world.wall.extend([(1, 0), (2, 7_000)]);
    world.run(ms(2_000));
    assert_eq!(offset(&mut world, 1, 2), Some(7_000));
    assert_eq!(offset(&mut world, 1, 3), None, "n3 does not know the time");
    assert_eq!(offset(&mut world, 3, 1), None);
    world.stop(2);
    world.run(ms(1_300));
    assert_eq!(offset(&mut world, 1, 2), None, "nobody knows what it would be now");
}

/// What is not measured any more is not known, even of a peer that is still heard.
#[test]
fn a_peer_that_does_not_hear_us_cannot_be_measured_for_long() {
    let mut world = two_clocks(HOUR);
    world.run(ms(2_000));
    world.cut.extend([(1, 2, 1), (1, 2, 2)]);
    world.run(ms(3_000));
    assert_eq!(world.link(1, 2, 1), Some((true, false)));
    assert_eq!(offset(&mut world, 1, 2), Some(HOUR), "the last echo is young enough");
    world.run(ms(8_000));
    assert_eq!(offset(&mut world, 1, 2), None);
}

#[test]
fn the_position_in_the_log_is_known_one_beat_later() {
    let mut world = World::new(3, HIGH);
    world.run(ms(2_050));
    world.say_log(1, 300, false);
    world.run(ms(210));
    for peer in [2, 3] {
        let view = world.peer(peer, 1).unwrap();
        assert_eq!((view.position, view.position_max, view.log_stalled), (300, 300, false));
    }
    assert_eq!(world.report(1).position, 300);
    assert_eq!(world.peer(1, 2).unwrap().position, 0, "it said nothing");
}

/// A log that stands still is told at once, in a beat and in a report.
#[test]
fn a_stalled_log_is_visible_at_the_peers_at_once() {
    let mut world = World::new(3, HIGH);
    world.say_log(1, 300, false);
    world.run(ms(2_050));
    let said = world.now();
    world.say_log(1, 300, true);
    world.run(ms(1));
    for peer in [2, 3] {
        assert!(world.peer(peer, 1).unwrap().log_stalled);
        let reports = world.reports_since(peer, said);
        assert!(reports.iter().any(|(_, r)| r.peers.iter().any(|p| p.log_stalled)));
    }
    world.say_log(1, 301, false);
    world.run(ms(1));
    assert!(!world.peer(2, 1).unwrap().log_stalled);
}

/// With timers of an hour's patience too: while positions move, reports come several times a second.
/// Once they stand, as seldom as ever.
#[test]
fn reports_hasten_while_positions_move() {
    let mut world = World::new(2, HIGH);
    let slow = Timing { interval_ms: 250, sensitivity: 60, ..Timing::DEFAULT };
    for node in [1, 2] {
        world.reconfigure(node, Config { timing: slow, ..world.config(node) });
    }
    world.run(ms(30_000));
    let (quiet, span) = (world.now(), Duration::from_secs(20));
    world.run(span);
    assert!(world.reports_since(2, quiet).len() <= 5);
    let moving = world.now();
    for position in 1..200 {
        world.say_log(1, position, false);
        world.run(ms(100));
    }
    for node in [1, 2] {
        let times: Vec<_> = world.reports_since(node, moving).iter().map(|(at, _)| *at).collect();
        assert!((35..=60).contains(&times.len()), "{} reports of {node}", times.len());
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= ms(500)), "node {node}");
    }
    let seen: Vec<_> =
        world.reports_since(2, moving).iter().map(|(_, r)| r.peers[0].position).collect();
    assert!(seen.is_sorted() && seen.last() > Some(&190));
    world.run(ms(1_000));
    let quiet = world.now();
    world.run(span);
    assert!(world.reports_since(2, quiet).len() <= 5);
}

/// The highest position outlives agents and guards of the peer, but not its storage.
#[test]
fn the_highest_position_belongs_to_the_storage() {
    let mut world = World::new(2, HIGH);
    world.say_log(2, 900, false);
    world.run(ms(1_000));
    let positions = |world: &mut World| {
        let view = world.peer(1, 2).unwrap();
        (view.position, view.position_max)
    };
    assert_eq!(positions(&mut world), (900, 900));
    world.say(2, AgentStatus::Down, None);
    world.run(ms(500));
    assert_eq!(positions(&mut world), (0, 900), "its agent is gone");
    world.say_log(2, 850, false);
    world.run(ms(500));
    assert_eq!(positions(&mut world), (850, 900), "its agent came back with less");
    world.stop(2);
    world.run(ms(2_000));
    assert_eq!(positions(&mut world), (0, 900), "its guard is gone");
    world.start(Config { session: Session(77), ..world.config(2) });
    world.say_log(2, 860, false);
    world.run(ms(1_000));
    assert_eq!(positions(&mut world), (860, 900));
    let mut config = world.config(1);
    config.peers[0].live = false;
    world.reconfigure(1, config.clone());
    assert_eq!(positions(&mut world), (860, 900), "the same storage");
    config.peers[0].storage = StorageId([9; 16]);
    world.reconfigure(1, config);
    assert_eq!(positions(&mut world), (0, 0), "another storage");
}
