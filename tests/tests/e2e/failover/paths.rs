//! Paths between nodes that are hardly good enough: long round trips, and frames that are lost because they are long.

use std::time::Duration;

use vedette_tests::lab::{Lab, Victim};

use super::{PATIENCE, assert_one_owner, handover, look, rotating, wait_answer, wait_moved};
use crate::lab;

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// Waits until every node says that of its peers, or none does; and is part of a quorum with a director meanwhile.
fn wait_told(lab: &Lab, code: &str, told: bool) {
    let says = |lab: &Lab, node: &String| {
        let local = look::get(lab, node, "/api/v1/local")?.json();
        Some(local["conditions"].to_string().contains(code) == told && local["quorate"] == true)
    };
    lab.wait_for(&format!("{code} told: {told}"), PATIENCE, |lab| {
        lab.names().iter().all(|node| says(lab, node) == Some(true)).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, "n1")));
}

fn verified(lab: &Lab) -> String {
    let output = lab.vedette("n1", &["verify"]).expect("run");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// F4: with round trips as long as profile `default` is made for a group moves, and a dead node is replaced; what comes
/// near to what it can bear is told by every node, and by `verify`, until it is over.
#[test]
fn f4_a_long_round_trip_is_survived_and_told() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    lab.delay(ms(40), ms(5)).expect("long cables");
    let next = lab.names().into_iter().find(|name| *name != owner).expect("another node");
    let moved = lab.vedette(&owner, &["group", "move", "web", "--to", &next, "--yes"]);
    let moved = moved.expect("run");
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    wait_answer(&prober, number(&next));
    wait_told(&lab, "ROUND_TRIP", false);
    lab.wait_for("verify warns of no round trip", PATIENCE, |lab| {
        (!verified(lab).contains("round trip")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", verified(&lab)));
    lab.delay(ms(66), ms(0)).expect("longer cables");
    wait_told(&lab, "ROUND_TRIP", true);
    let warned = verified(&lab);
    assert!(warned.contains("are for less than 75 ms. Take a profile for longer ones"), "{warned}");
    lab.kill(&next, Victim::Power).expect("powered off");
    let last = wait_moved(&lab, &next);
    handover(&prober, &next, &last);
    lab.heal().expect("short cables");
    lab.restart(&next).expect("power on");
    crate::make_healthy(&lab);
    wait_told(&lab, "ROUND_TRIP", false);
    let owners = [&owner, &next, &last].map(|name| number(name));
    assert_one_owner(prober, &owners);
}

/// F9: beats arrive and longer frames do not, while nothing needs any: told by every node and by `verify` before the log
/// stands still, and over when they arrive.
#[test]
fn f9_frames_that_are_lost_are_told_while_all_is_quiet() {
    let lab = lab();
    assert!(!verified(&lab).contains("frames of"));
    lab.frames(Some(1_300), Some("neta")).expect("a rule");
    wait_told(&lab, "FRAME_SIZE", true);
    let warned = verified(&lab);
    assert!(
        warned.contains("frames of 1400 bytes are lost on neta, and beats are not"),
        "{warned}"
    );
    lab.heal().expect("healed");
    wait_told(&lab, "FRAME_SIZE", false);
}
