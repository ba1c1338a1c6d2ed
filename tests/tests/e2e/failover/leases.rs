//! What a lease stands on: a majority of guards, and no director, agent or log.

use std::time::Duration;

use vedette_tests::lab::Victim;

use super::truth::{latest, outages_after};
use super::{
    PATIENCE, assert_one_owner, handover, look, rotating, wait_answer, wait_moved, wait_online,
};
use crate::lab;

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// The agents of two of three nodes stand still, so that nobody can be director, for several times as long as a
/// lease: what runs goes on, wherever it runs. The one that can speak says that nothing can be moved, and shows no
/// group of others as online.
#[test]
fn services_outlive_the_director() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    let before = latest(&lab, &owner);
    let others: Vec<String> = lab.names().into_iter().filter(|name| *name != owner).collect();
    for name in &others {
        lab.pause(name, Victim::Agent).expect("paused");
    }
    let told = |lab: &vedette_tests::lab::Lab| {
        let verdict = look::status(lab, &owner);
        let local = look::get(lab, &owner, "/api/v1/local")?.json();
        let raised = local["conditions"].to_string().contains("NO_DIRECTOR");
        (verdict.contains("without a director") && raised && local["lease"] == true).then_some(())
    };
    lab.wait_for("NO_DIRECTOR to be told", PATIENCE, told).unwrap_or_else(|error| {
        panic!("{error}:\n{}", look::status(&lab, &owner));
    });
    let listed = lab.vedette(&owner, &["group", "list"]).expect("run");
    assert_eq!(listed.status.code(), Some(3), "what others have is not known");
    // Several times as long as a lease, an answer after the other.
    let end = prober.now() + Duration::from_secs(2);
    while prober.now() < end {
        wait_answer(&prober, number(&owner));
    }
    lab.resume(&others[0]).expect("resumed");
    lab.resume(&others[1]).expect("resumed");
    crate::make_healthy(&lab);
    wait_online(&lab, &owner, "web", &owner);
    assert_eq!(outages_after(&lab, &owner, before), Vec::<serde_json::Value>::new());
    assert_one_owner(prober, &[number(&owner)]);
}

/// Findings X13: nobody hears the beats of the owner, and everything else arrives. It has no lease, so its group is served
/// elsewhere, and it is not called UP meanwhile.
#[test]
fn x13_a_node_that_nobody_hears_is_no_place_for_groups() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    lab.mute(&owner).expect("beats can be dropped");
    let next = wait_moved(&lab, &owner);
    handover(&prober, &owner, &next);
    // DISCONNECTED while its reports arrive; DOWN once they do not.
    assert_ne!(look::host(&lab, &next, &owner), "UP");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    assert_one_owner(prober, &[number(&owner), number(&next)]);
}
