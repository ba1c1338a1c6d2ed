//! Guard and agent of a node stopped together (finding F2): on the owner, on the director, on who is both; shorter
//! than a failover takes, and longer. What runs writes down each moment at which it does, so nobody has to be asked
//! whether it ran on two nodes.

use std::time::{Duration, Instant};

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober, Victim};

use super::{PATIENCE, address, give, look, wait_answer, wait_online, wait_online_on};
use crate::lab;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// An application that writes the time into its node's file while it runs.
fn configure(lab: &Lab) {
    let dir = lab.dir().display().to_string();
    give(
        lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
             [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [[groups.web.resources]]\nname = \"web-app\"\nkind = \"application\"\n\
             start = [\"/bin/sh\", \"-c\", \"while :; do date +%s%N >> {dir}/ran.$VEDETTE_NODE; sleep 0.02; \
             done &\"]\nstop = [\"/bin/true\"]\n",
            address(lab, 0)
        ),
    );
}

/// Which nodes it ran on, in the order of the moments that it wrote down: one that comes back in between ran beside
/// the other.
fn ran_on(lab: &Lab) -> Vec<&'static str> {
    let mut moments: Vec<(u64, &str)> = Vec::new();
    for node in NODES {
        let text = std::fs::read_to_string(lab.dir().join(format!("ran.{node}")));
        let text = text.unwrap_or_default();
        moments.extend(text.lines().filter_map(|line| Some((line.parse().ok()?, node))));
    }
    moments.sort_unstable();
    let mut nodes: Vec<&str> = moments.into_iter().map(|(_, node)| node).collect();
    nodes.dedup();
    nodes
}

fn director(lab: &Lab, asked: &str) -> String {
    lab.wait_for("a director", PATIENCE, |lab| look::director(lab, asked))
        .unwrap_or_else(|error| panic!("{error}"))
}

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// Who stands still.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pair {
    Owner,
    Director,
    Both,
}

/// Brings the group to where the round wants it; answers who has it and who is to stand still.
fn prepare(lab: &Lab, pair: Pair) -> (String, String) {
    let director = director(lab, "n1");
    let other = NODES.into_iter().find(|node| *node != director).expect("three nodes").to_owned();
    let owner = if pair == Pair::Both { director.clone() } else { other };
    let moved = lab.vedette("n1", &["group", "move", "web", "--to", &owner, "--yes"]).expect("run");
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    wait_online(lab, "n1", "web", &owner);
    let victim = if pair == Pair::Director { director } else { owner.clone() };
    (owner, victim)
}

/// Records of a node's own journal that it wrote down since.
fn told_by_itself(lab: &Lab, node: &str, since: u64) -> Vec<Value> {
    let records = look::get(lab, node, &format!("/api/v1/local/records?after={since}"));
    let records = records.map(|answer| answer.json()).unwrap_or_default();
    records["records"].as_array().cloned().unwrap_or_default()
}

fn end_of_journal(lab: &Lab, node: &str) -> u64 {
    let records = look::get(lab, node, "/api/v1/local/records?limit=1");
    let records = records.map(|answer| answer.json()).unwrap_or_default();
    let last = records["records"].as_array().and_then(|all| all.last().cloned());
    last.as_ref().and_then(|record| record["seq"].as_u64()).unwrap_or(0)
}

/// F2: whoever stands still, and for how long: what is taken over is taken over while it does, and nothing
/// ever runs on two nodes.
#[test]
fn f2_a_pair_that_stands_still_is_never_the_second_owner() {
    let lab = lab();
    configure(&lab);
    let first = wait_online_on(&lab, "n1", "web", &NODES);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&first));
    let mut owners = vec![first];
    let rounds = [
        (Pair::Owner, 1),
        (Pair::Owner, 3),
        (Pair::Director, 3),
        (Pair::Both, 3),
        (Pair::Both, 10),
    ];
    for (pair, seconds) in rounds {
        let (owner, victim) = prepare(&lab, pair);
        wait_answer(&prober, number(&owner));
        let asked = NODES.into_iter().find(|node| *node != victim).expect("another node");
        let before = end_of_journal(&lab, &victim);
        let end = Instant::now() + Duration::from_secs(seconds);
        lab.pause(&victim, Victim::Both).expect("it runs");
        let others: Vec<&str> = NODES.into_iter().filter(|node| *node != victim).collect();
        // Before it goes on: nobody waits for who stands still.
        let new = match pair {
            Pair::Director => owner.clone(),
            _ if seconds < 3 => owner.clone(),
            _ => wait_online_on(&lab, asked, "web", &others),
        };
        let waited =
            lab.wait_for("it to stand still", PATIENCE, |_| (Instant::now() >= end).then_some(()));
        waited.expect("time goes by");
        lab.resume(&victim).expect("it stood still");
        crate::make_healthy(&lab);
        let on = wait_online_on(&lab, asked, "web", &NODES);
        // A busy machine may cost the next owner its lease, too; who stood still does not get it for that.
        let back = pair != Pair::Director && seconds >= 3 && on == victim;
        assert!(!back, "{pair:?}, {seconds} s: back on {on} after {new}");
        for owner in [owner, new, on] {
            if owners.last() != Some(&owner) {
                owners.push(owner);
            }
        }
        let told = told_by_itself(&lab, &victim, before);
        let tells = |code: &str| told.iter().any(|it| it["code"] == code);
        assert!(tells("NODE_LATE") && tells("QUORUM_LOST"), "{pair:?}, {seconds} s: {told:#?}");
        let fails = look::get(&lab, asked, "/api/v1/groups/web").expect("an answer").json();
        assert_eq!(fails["fails"].as_array().map(Vec::len), Some(0), "nothing failed: {fails:#}");
        let let_go = pair == Pair::Director || tells("GROUP_RELEASED");
        assert!(let_go, "{pair:?}, {seconds} s: {told:#?}");
        assert_eq!(ran_on(&lab), owners, "{pair:?}, {seconds} s: where it ran, in order");
    }
    let owners: Vec<u16> = owners.iter().map(|name| number(name)).collect();
    super::assert_one_owner(prober, &owners);
    for node in NODES {
        let _ = std::fs::remove_file(lab.dir().join(format!("ran.{node}")));
    }
    give(&lab, "");
}
