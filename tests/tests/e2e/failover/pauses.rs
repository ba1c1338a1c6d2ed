//! Processes that are stopped (SIGSTOP) for longer than the lease, and go on: the agent alone, the
//! applications alone, everything. (Guard, and guard with agent: in the file above.)

use std::time::Duration;

use vedette_tests::lab::{Lab, Prober, Victim};

use super::truth::{Truth, assert_told, latest, outages_after, told, wait_idle};
use super::{
    PATIENCE, address, apply, give, handover, look, wait_answer, wait_online, wait_online_on,
};
use crate::lab;

/// Three leases of the default profile.
const LONGER_THAN_THE_LEASE: Duration = Duration::from_millis(2_400);

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// Waits until that node has answered for so long.
fn answers_for(prober: &Prober, node: u16, time: Duration) {
    let since = prober.now() + time;
    let deadline = since + PATIENCE;
    while prober.so_far().answered_by(node, since).is_none() {
        assert!(prober.now() < deadline, "n{node} does not answer for the address any more");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// An agent that stands still, the director's too, costs no answer: its guard goes on. When it goes on
/// itself it believes its guard, and lets go of nothing.
#[test]
fn an_agent_that_stands_still_keeps_what_its_guard_holds() {
    let lab = lab();
    apply(&lab, &[("web", "rotating", &["n1", "n2", "n3"])]);
    let mut owner = wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&owner));
    let mut owners = vec![number(&owner)];
    for round in 0..2 {
        if round == 1 {
            // Now the director's.
            let to = look::director(&lab, "n1").expect("a director");
            if to != owner {
                let moved = lab
                    .vedette("n1", &["group", "move", "web", "--to", &to, "--yes", "--no-wait"])
                    .expect("run");
                assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
                wait_online(&lab, "n1", "web", &to);
                wait_answer(&prober, number(&to));
                owners.push(number(&to));
                owner = to;
            }
        }
        let before = latest(&lab, "n1");
        lab.pause(&owner, Victim::Agent).expect("paused");
        answers_for(&prober, number(&owner), LONGER_THAN_THE_LEASE);
        lab.resume(&owner).expect("resumed");
        answers_for(&prober, number(&owner), LONGER_THAN_THE_LEASE / 2);
        crate::make_healthy(&lab);
        wait_online(&lab, "n1", "web", &owner);
        assert_eq!(outages_after(&lab, "n1", before), Vec::<serde_json::Value>::new());
    }
    super::assert_one_owner(prober, &owners);
}

/// Everything on the owner stands still, as a frozen virtual machine does: another takes over when the
/// lease is over; when it goes on, nothing of the group is left there.
#[test]
fn a_frozen_node_is_taken_over_and_wakes_with_nothing() {
    let lab = lab();
    apply(&lab, &[("web", "rotating", &["n1", "n2", "n3"])]);
    let owner = wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
    let others: Vec<String> = lab.names().into_iter().filter(|name| *name != owner).collect();
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&owner));
    let before = latest(&lab, names[0]);
    assert_eq!(lab.applications(&owner).expect("power").len(), 1);
    lab.pause(&owner, Victim::Everything).expect("paused");
    let new = wait_online_on(&lab, names[0], "web", &names);
    let seen = handover(&prober, &owner, &new);
    let title = format!("node {owner} is DOWN");
    let truth =
        Truth { title: &title, ground: "its lease is over", group: "web", from: &owner, to: &new };
    assert_told(&lab, names[0], before, &truth, (&prober, seen));
    lab.resume(&owner).expect("resumed");
    let empty = |lab: &Lab| lab.applications(&owner).ok()?.is_empty().then_some(());
    lab.wait_for("what ran there to be ended", PATIENCE, empty)
        .unwrap_or_else(|error| panic!("{error}"));
    crate::make_healthy(&lab);
    wait_idle(&lab, names[0]);
    wait_online(&lab, names[0], "web", &new);
    super::assert_one_owner(prober, &[number(&owner), number(&new)]);
}

/// H25: an application that stands still is found by its monitor, and restarted in place, the address
/// with its node; the next time its group moves, and an incident says why.
#[test]
fn an_application_that_stands_still_is_restarted_and_then_moves() {
    let lab = lab();
    let dir = lab.dir().display().to_string();
    let text = format!(
        "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
         [[groups.web.resources]]\nname = \"web-app\"\nkind = \"application\"\nrestarts = 1\n\
         start = [\"/bin/sh\", \"-c\", \"while :; do date +%s%N > {dir}/pulse; sleep 0.05; done &\"]\n\
         stop = [\"/bin/true\"]\nmonitor_interval = \"200ms\"\nmonitor_timeout = \"5s\"\n\
         monitor = [\"/bin/sh\", \"-c\", \"a=$(cat {dir}/pulse); for i in 1 2 3 4 5 6 7 8 9 10; do \
         sleep 0.1; [ \\\"$a\\\" = \\\"$(cat {dir}/pulse)\\\" ] || exit 0; done; exit 1\"]\n",
        address(&lab, 0)
    );
    give(&lab, &text);
    let owner = wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
    let others: Vec<String> = lab.names().into_iter().filter(|name| *name != owner).collect();
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&owner));

    let seq = look::seq(&lab, "n1");
    lab.pause(&owner, Victim::Applications).expect("paused");
    let restarted = |lab: &Lab| {
        let records = look::records_after(lab, "n1", seq);
        records.into_iter().find(|record| {
            record["code"] == "RESOURCE"
                && record["message"].as_str().is_some_and(|text| {
                    text.starts_with(&format!("resource web-app is ONLINE on {owner}"))
                })
        })
    };
    lab.wait_for("it to be restarted", PATIENCE, restarted)
        .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(&lab, "n1", seq)));
    wait_online(&lab, "n1", "web", &owner);
    assert_eq!(prober.so_far().owners(), [number(&owner)]);

    let before = latest(&lab, "n1");
    lab.pause(&owner, Victim::Applications).expect("paused");
    let new = wait_online_on(&lab, names[0], "web", &names);
    let seen = handover(&prober, &owner, &new);
    let ground = format!("{owner} is avoided after failures");
    let truth = Truth { title: "web", ground: &ground, group: "web", from: &owner, to: &new };
    let incident = told(&lab, names[0], before, "web");
    let title = format!("resource web-app failed on {owner}, failure 2: its group is to move");
    assert_eq!(incident["title"], title.as_str(), "{incident:#}");
    assert_told(&lab, names[0], before, &truth, (&prober, seen));
    super::assert_one_owner(prober, &[number(&owner), number(&new)]);
    lab.resume(&owner).expect("resumed");
}

/// A reaper that stands still is replaced, and its loss is on record with the true reason and its end, although
/// it lasted seconds.
#[test]
fn a_reaper_that_stands_still_is_replaced_and_told() {
    let lab = lab();
    let seq = look::seq(&lab, "n1");
    lab.pause_reaper("n2").expect("stopped");
    let told = |lab: &Lab| {
        let records = look::records_after(lab, "n1", seq);
        let lost = |record: &&serde_json::Value| record["code"] == "REAPER_LOST";
        let text = |it: &serde_json::Value, key: &str| it[key].as_str().unwrap_or("").to_owned();
        let said = records.iter().filter(lost).map(|it| (text(it, "message"), text(it, "cause")));
        let said: Vec<(String, String)> = said.collect();
        (said.len() == 2).then_some(said)
    };
    let said = lab
        .wait_for("the loss of the reaper and its end to be on record", PATIENCE, told)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    assert_eq!(said[0].0, "n2 has no reaper");
    assert!(said[0].1.contains("it did not answer for 3 s, and is replaced"), "{said:?}");
    assert_eq!(said[1].0, "n2 has a reaper again");
}
