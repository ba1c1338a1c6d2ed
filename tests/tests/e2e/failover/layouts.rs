//! The layouts of chapter 8 on five nodes, nodes that fail one after the other, and a director that is
//! lost in the middle of a recovery program.

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober, Victim};

use super::truth::{Truth, assert_told, latest, told, wait_idle};
use super::{
    PATIENCE, address, apply, assert_one_owner, give, handover, look, wait_answer, wait_online,
    wait_online_on,
};
use crate::lab_of_five;

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// Takes a node's power; the group has to come from it to that node, and its incident to be true.
fn power_off(lab: &Lab, prober: &Prober, (group, from, to): (&str, &str, &str)) {
    let before = latest(lab, to);
    wait_answer(prober, number(from));
    lab.kill(from, Victim::Power).expect("power off");
    wait_online(lab, to, group, to);
    let seen = handover(prober, from, to);
    let title = format!("node {from} is DOWN");
    let truth = Truth { title: &title, ground: "its lease is over", group, from, to };
    assert_told(lab, to, before, &truth, (prober, seen));
}

/// 8.2.2, H24: one node stands by for four. Two of them fail, one after the other; the others are not
/// disturbed, and each has its own back when its node is.
#[test]
fn one_hot_standby_for_four_nodes() {
    let lab = lab_of_five();
    apply(
        &lab,
        &[
            ("ga", "cascading", &["n1", "n5"]),
            ("gb", "cascading", &["n2", "n5"]),
            ("gc", "cascading", &["n3", "n5"]),
            ("gd", "cascading", &["n4", "n5"]),
        ],
    );
    let homes = [("ga", "n1"), ("gb", "n2"), ("gc", "n3"), ("gd", "n4")];
    for (group, home) in homes {
        wait_online(&lab, "n5", group, home);
    }
    let prober = |place| Prober::start(&lab, 0, address(&lab, place)).expect("a prober");
    let [a, b, c, d] = [0, 1, 2, 3].map(prober);
    for (prober, owner) in [(&a, 1), (&b, 2), (&c, 3)] {
        wait_answer(prober, owner);
    }
    power_off(&lab, &d, ("gd", "n4", "n5"));
    power_off(&lab, &b, ("gb", "n2", "n5"));
    lab.restart("n2").expect("power on");
    lab.restart("n4").expect("power on");
    for (prober, group, home) in [(&b, "gb", "n2"), (&d, "gd", "n4")] {
        wait_answer(prober, number(home));
        wait_online(&lab, "n5", group, home);
    }
    assert_one_owner(a, &[1]);
    assert_one_owner(b, &[2, 5, 2]);
    assert_one_owner(c, &[3]);
    assert_one_owner(d, &[4, 5, 4]);
}

/// 8.1.2, H24: two rotating pairs, and a third group that a node of each shares. What rotated stays
/// when its node is back.
#[test]
fn rotating_pairs_share_a_third_group() {
    let lab = lab_of_five();
    apply(
        &lab,
        &[
            ("left", "rotating", &["n1", "n2"]),
            ("right", "rotating", &["n4", "n5"]),
            ("both", "rotating", &["n2", "n4"]),
        ],
    );
    let left = wait_online_on(&lab, "n3", "left", &["n1", "n2"]);
    let right = wait_online_on(&lab, "n3", "right", &["n4", "n5"]);
    let both = wait_online_on(&lab, "n3", "both", &["n2", "n4"]);
    let prober = |place| Prober::start(&lab, 0, address(&lab, place)).expect("a prober");
    let [l, r, b] = [0, 1, 2].map(prober);
    let other = |one: &str, pair: [&'static str; 2]| pair[usize::from(one == pair[0])];
    wait_answer(&r, number(&right));
    wait_answer(&b, number(&both));
    let new_left = other(&left, ["n1", "n2"]);
    power_off(&lab, &l, ("left", &left, new_left));
    lab.restart(&left).expect("power on");
    crate::make_healthy(&lab);
    wait_online(&lab, "n3", "left", new_left);

    let had_both = wait_online_on(&lab, "n3", "both", &["n2", "n4"]);
    power_off(&lab, &b, ("both", &had_both, other(&had_both, ["n2", "n4"])));
    lab.restart(&had_both).expect("power on");
    crate::make_healthy(&lab);
    wait_idle(&lab, "n3");
    for prober in [l, r, b] {
        let answers = prober.stop().expect("the prober ran");
        assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    }
}

/// 8.2.1: A fails, then B; B comes back and nothing moves; A comes back and has it again.
#[test]
fn a_cascade_runs_down_its_list_and_comes_home_in_one_step() {
    let lab = lab_of_five();
    apply(&lab, &[("web", "cascading", &["n3", "n4", "n5"])]);
    wait_online(&lab, "n1", "web", "n3");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    power_off(&lab, &prober, ("web", "n3", "n4"));
    power_off(&lab, &prober, ("web", "n4", "n5"));
    let joined = |name: &str| {
        lab.restart(name).expect("power on");
        let stable = |lab: &Lab| {
            let nodes = look::nodes(lab, "n1");
            let own = nodes.iter().find(|node| node["name"] == name)?;
            (own["manager"]["state"] == "stable").then_some(())
        };
        lab.wait_for("its manager to have joined", PATIENCE, stable)
            .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
        wait_idle(&lab, "n1");
    };
    joined("n4");
    wait_online(&lab, "n1", "web", "n5");
    joined("n3");
    wait_online(&lab, "n1", "web", "n3");
    wait_answer(&prober, 3);
    assert_one_owner(prober, &[3, 4, 5, 3]);
}

/// The director, and the others: a voter that is left out, then those that vote, learners last.
fn director_and_others(lab: &Lab) -> (String, Vec<String>) {
    let mut nodes = look::nodes(lab, "n1");
    nodes.sort_by_key(|node| node["role"] == "learner");
    let name = |node: &Value| node["name"].as_str().unwrap_or_default().to_owned();
    let director = nodes.iter().find(|node| node["director"] == true).map(name);
    let director = director.unwrap_or_else(|| panic!("no director: {nodes:#?}"));
    let others = nodes.iter().map(name).filter(|name| *name != director).collect();
    (director, others)
}

/// A script that waits, on one node, until a file is there.
fn waiting_script(lab: &Lab, node: &str) -> std::path::PathBuf {
    let (script, dir) = (lab.dir().join("waits"), lab.dir().display());
    let text = format!(
        "#!/bin/sh\n[ \"$LOCALNODENAME\" = {node} ] || exit 0\necho $EVNAME $EVLOCATION >>{dir}/waiting\n\
         while [ ! -e {dir}/go-on ]; do sleep 0.02; done\n"
    );
    for file in ["waiting", "go-on"] {
        let _ = std::fs::remove_file(lab.dir().join(file));
    }
    std::fs::write(&script, text).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("made executable");
    script
}

/// Invariant 5 and H12: the director is lost while a recovery program runs. The next one goes on where
/// it is: the script is on record once, the event ends, and that of the director's death follows it.
#[test]
fn a_director_is_lost_in_the_middle_of_a_recovery_program() {
    let lab = lab_of_five();
    let (director, others) = director_and_others(&lab);
    let (taker, owner) = (&others[2], &others[3]);
    let script = waiting_script(&lab, taker);
    let text = format!(
        "[events.node_down]\npre = [\"{}\"]\n\n[groups.web]\npolicy = \"cascading\"\n\
         nodes = [\"{owner}\", \"{taker}\"]\n\n[[groups.web.resources]]\nname = \"web-ip\"\n\
         kind = \"address\"\naddress = \"{}/24\"\n",
        script.display(),
        address(&lab, 0)
    );
    give(&lab, &text);
    wait_online(&lab, taker, "web", owner);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(owner));
    let before = latest(&lab, taker);
    lab.kill(owner, Victim::Power).expect("power off");
    let waits = |lab: &Lab| std::fs::read_to_string(lab.dir().join("waiting")).ok();
    lab.wait_for("the script to wait", PATIENCE, waits)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, taker)));
    lab.kill(&director, Victim::Power).expect("power off");
    let died = |lab: &Lab| (look::host(lab, taker, &director) == "DOWN").then_some(());
    lab.wait_for("the next director to say so", PATIENCE, died)
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, taker)));
    let running = look::get(&lab, taker, "/api/v1/manager").expect("answered").json();
    assert!(running["in_progress"].is_object(), "it was still to be gone on with: {running:#}");
    std::fs::write(lab.dir().join("go-on"), "").expect("written");
    wait_online(&lab, taker, "web", taker);

    let seen = handover(&prober, owner, taker);
    let title = format!("node {owner} is DOWN");
    let truth =
        Truth { title: &title, ground: "its lease is over", group: "web", from: owner, to: taker };
    let incident = assert_told(&lab, taker, before, &truth, (&prober, seen));
    let steps = incident["steps"].as_array().expect("steps");
    let ran = format!("node_down on {taker}: exit status 0");
    let ran = |step: &&Value| step["what"].as_str().is_some_and(|what| what.starts_with(&ran));
    assert_eq!(steps.iter().filter(ran).count(), 1, "{steps:#?}");
    told(&lab, taker, before, &format!("node {director} is DOWN"));
    assert_one_owner(prober, &[number(owner), number(taker)]);
    crate::make_healthy(&lab);
    wait_idle(&lab, taker);
    give(&lab, "");
}
