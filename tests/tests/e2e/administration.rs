//! What administrators do with a cluster that serves: all of it stopped and started, machines shut down,
//! members deleted and added, maintenance, changes that disturb nobody, snapshots.

use std::collections::BTreeSet;
use std::process::Output;

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober, Victim};

use crate::failover::{address, give, group, wait_answer, wait_online, wait_online_on};
use crate::{PATIENCE, lab, look};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A command that must succeed.
pub(crate) fn run(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = lab.vedette(node, arguments).expect("run");
    assert!(output.status.success(), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// A command that must be refused, with what it says.
fn refused(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = lab.vedette(node, arguments).expect("run");
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", said(&output));
    said(&output)
}

/// A group with an address and an application, which is looked at often.
pub(crate) fn document(lab: &Lab, groups: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (place, (name, nodes)) in groups.iter().enumerate() {
        text += &format!(
            "[groups.{name}]\npolicy = \"cascading\"\nnodes = [{nodes}]\n\n\
             [[groups.{name}.resources]]\nname = \"{name}-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [[groups.{name}.resources]]\nname = \"{name}-app\"\nkind = \"application\"\n\
             start = [\"/bin/sh\", \"-c\", \"sleep 100000 &\"]\nstop = [\"/bin/true\"]\n\
             monitor_interval = \"200ms\"\n\n",
            address(lab, place)
        );
    }
    text
}

/// Waits until a record with that code has these words, and answers it.
pub(crate) fn wait_told(lab: &Lab, asked: &str, before: u64, code: &str, words: &str) -> Value {
    lab.wait_for(&format!("{code} {words}"), PATIENCE, |lab| {
        look::records_after(lab, asked, before).into_iter().find(|record| {
            record["code"] == code
                && record["message"].as_str().is_some_and(|text| text.contains(words))
        })
    })
    .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(lab, asked, before)))
}

pub(crate) fn wait_state(lab: &Lab, asked: &str, name: &str, state: &str) {
    lab.wait_for(&format!("group {name} to be {state}"), PATIENCE, |lab| {
        (group(lab, asked, name)?.1 == state).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
}

/// A17: everything is stopped, services first, then daemons; started in reverse, what was offline
/// before stays offline.
#[test]
fn a17_everything_is_stopped_and_started_again() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n1\", \"n2\""), ("db", "\"n2\", \"n3\"")]));
    wait_online(&lab, "n3", "web", "n1");
    wait_online(&lab, "n3", "db", "n2");
    run(&lab, "n3", &["group", "offline", "db", "--yes"]);
    wait_state(&lab, "n3", "db", "OFFLINE");
    let before = look::seq(&lab, "n3");
    run(&lab, "n3", &["stop", "--all", "--mode", "graceful", "--yes", "--wait"]);
    let off = wait_told(&lab, "n3", before, "GROUP", "group web is OFFLINE");
    for node in lab.names() {
        let down =
            wait_told(&lab, "n3", before, "EVENT_ENDED", &format!("node_down {node}: completed"));
        assert!(off["seq"].as_u64() < down["seq"].as_u64(), "services first: {off:#} {down:#}");
        assert!(lab.applications(&node).expect("it has power").is_empty(), "{node}");
    }
    for node in lab.names() {
        lab.stop(&node).expect("a daemon can be stopped");
    }
    for node in lab.names() {
        lab.restart(&node).expect("a daemon can be started");
    }
    crate::make_healthy(&lab);
    wait_state(&lab, "n1", "web", "OFFLINE");
    run(&lab, "n2", &["start", "--all", "--wait"]);
    wait_online(&lab, "n1", "web", "n1");
    assert_eq!(group(&lab, "n1", "db").expect("known").1, "OFFLINE", "it was offline before");
    run(&lab, "n1", &["group", "online", "db"]);
    wait_online(&lab, "n1", "db", "n2");
    give(&lab, "");
}

/// A19: the operating system shuts down: its request to the daemon hands over what runs there, as
/// planned and without an alert, and the node is known to have left.
#[test]
fn a19_a_shutdown_hands_over_and_is_no_crash() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n2\", \"n3\"")]));
    wait_online(&lab, "n1", "web", "n2");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, 2);
    let before = look::seq(&lab, "n1");
    lab.stop("n2").expect("a daemon can be stopped");
    wait_answer(&prober, 3);
    wait_online(&lab, "n1", "web", "n3");
    let down = wait_told(&lab, "n1", before, "NODE_HOST", "n2 is DOWN");
    assert_eq!(down["severity"], "notice", "{down:#}");
    assert!(down["cause"].as_str().is_some_and(|text| text.contains("that it leaves")), "{down:#}");
    let taken = wait_told(&lab, "n1", before, "GROUP", "group web is ONLINE on n3");
    assert!(taken["seq"].as_u64() < down["seq"].as_u64(), "handed over before it left: {taken:#}");
    let errors: Vec<Value> = look::records_after(&lab, "n1", before)
        .into_iter()
        .filter(|record| matches!(record["severity"].as_str(), Some("error" | "warning")))
        .collect();
    assert!(errors.is_empty(), "{errors:#?}");
    lab.restart("n2").expect("a daemon can be started");
    wait_online(&lab, "n1", "web", "n2");
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    assert_eq!(answers.owners(), [2, 3, 2]);
    give(&lab, "");
}

/// A6, A7: a member that is deleted hands over its groups first, and it can be added again at once.
#[test]
fn a6_a7_a_member_is_deleted_and_added_again() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n3\", \"n2\"")]));
    wait_online(&lab, "n1", "web", "n3");
    let own = refused(&lab, "n1", &["node", "delete", "n1", "--yes"]);
    assert!(own.contains("n1 is this node") && own.contains("another member"), "{own}");
    let before = look::seq(&lab, "n1");
    run(&lab, "n1", &["node", "delete", "n3", "--yes"]);
    let gone = wait_told(&lab, "n1", before, "NODE_REMOVED", "n3 (node 3) was deleted");
    let taken = wait_told(&lab, "n1", before, "GROUP", "group web is ONLINE on n2");
    assert!(taken["seq"].as_u64() < gone["seq"].as_u64(), "first its groups: {taken:#} {gone:#}");
    let again = lab.json("n1", &["node", "add", "n3", "--number", "3", "--yes", "-o", "json"]);
    let again = again.expect("a token");
    let token = again["token"].as_str().expect("a token");
    let (state, old) = {
        let node = lab.node("n3").expect("n3");
        (node.state_dir(), node.dir.join("state.old"))
    };
    lab.stop("n3").expect("its daemon can be stopped");
    let kept = lab.vedette("n3", &["join", token, "--yes"]).expect("run");
    assert!(!kept.status.success());
    let kept = said(&kept);
    assert!(
        kept.contains("already belongs to cluster lab") && kept.contains("move this one away"),
        "{kept}"
    );
    std::fs::rename(&state, &old).expect("moved away");
    run(&lab, "n3", &["join", token, "--yes"]);
    lab.restart("n3").expect("its daemon can be started");
    crate::make_healthy(&lab);
    // What the configuration said of it went with it (J3), and is said again.
    let state = look::get(&lab, "n1", "/api/v1/groups/web").expect("web").json();
    assert_eq!(state["nodes"], serde_json::json!(["n2"]), "{state:#}");
    run(&lab, "n1", &["config", "set", "seed", "3"]);
    give(&lab, &document(&lab, &[("web", "\"n3\", \"n2\"")]));
    wait_online(&lab, "n1", "web", "n3");
    let _ = std::fs::remove_dir_all(old);
    give(&lab, "");
}

/// V11: a cluster that waits in vain is seeded by hand, on one node, once, with a warning of what it
/// risks; who comes later takes part without it.
#[test]
fn v11_a_cluster_is_seeded_by_hand() {
    let lab = lab();
    for node in lab.names() {
        lab.kill(&node, Victim::Power).expect("a node can be powered off");
    }
    for node in ["n1", "n2"] {
        lab.restart(node).expect("a node gets its power back");
    }
    lab.wait_for("n2 to wait for n3", PATIENCE, |lab| {
        let local = look::get(lab, "n2", "/api/v1/local")?.json();
        local["waiting_for"].as_str()?.starts_with("n3 (2 of 3").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n2")));
    let asked = refused(&lab, "n2", &["seed"]);
    for words in ["lab waits for n3", "make sure that they are off", "Add --yes"] {
        assert!(asked.contains(words), "{words:?} is not said: {asked}");
    }
    let before = look::seq(&lab, "n2");
    run(&lab, "n2", &["seed", "--yes"]);
    let seeded = wait_told(&lab, "n2", before, "CLUSTER_SEEDED", "was seeded by hand");
    assert_eq!((&seeded["severity"], &seeded["cause"]), (&"warning".into(), &"missing: n3".into()));
    let again = run(&lab, "n1", &["seed"]);
    assert!(again.contains("lab was seeded before and runs: it goes on without n3"), "{again}");
    lab.restart("n3").expect("n3 gets its power back");
    crate::make_healthy(&lab);
    let again = run(&lab, "n3", &["seed"]);
    assert!(again.contains("all of its nodes are there"), "{again}");
    let seeds: Vec<Value> = look::records_after(&lab, "n2", before)
        .into_iter()
        .filter(|record| record["code"] == "CLUSTER_SEEDED")
        .collect();
    assert_eq!(seeds.len(), 1, "{seeds:#?}");
}

/// H21: in maintenance of a group, of a node, of the cluster, what fails is shown and nothing is done;
/// every screen says so, and when it ends, what is astray is put right.
#[test]
fn h21_in_maintenance_nothing_is_moved_or_restarted() {
    let lab = lab();
    give(&lab, &document(&lab, &[("web", "\"n2\", \"n3\"")]));
    wait_online(&lab, "n1", "web", "n2");
    for scope in [&["--group", "web"][..], &["--node", "n2"]] {
        let command = |on| [&["maintenance", on], scope].concat();
        let before = look::seq(&lab, "n1");
        run(&lab, "n1", &command("on"));
        lab.wait_for("n2 to know of it", PATIENCE, |lab| {
            look::status(lab, "n2").to_lowercase().contains("maintenance").then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n2")));
        lab.kill("n2", Victim::Applications).expect("it runs");
        wait_told(&lab, "n1", before, "RESOURCE", "resource web-app is FAILED on n2");
        let status = lab.vedette("n1", &["status"]).expect("run");
        assert!(!status.status.success(), "{}", said(&status));
        assert!(lab.applications("n2").expect("it has power").is_empty(), "it was restarted");
        let before = look::seq(&lab, "n1");
        run(&lab, "n1", &command("off"));
        wait_told(&lab, "n1", before, "RESOURCE_FAILED", "it was started again in place");
        wait_online(&lab, "n1", "web", "n2");
        let records = look::records_after(&lab, "n1", before);
        assert!(records.iter().all(|record| record["code"] != "EVENT_QUEUED"), "{records:#?}");
        run(&lab, "n1", &["group", "clear", "web"]);
    }
    let before = look::seq(&lab, "n1");
    run(&lab, "n1", &["maintenance", "on"]);
    lab.kill("n2", Victim::Power).expect("power off");
    wait_told(&lab, "n1", before, "EVENT_ENDED", "node_down n2: completed");
    let moved = refused(&lab, "n1", &["group", "move", "web", "--to", "n3", "--yes", "--no-wait"]);
    assert!(moved.contains("is in maintenance"), "{moved}");
    assert!(lab.applications("n3").expect("it has power").is_empty(), "it was moved");
    lab.restart("n2").expect("power on");
    crate::make_healthy(&lab);
    run(&lab, "n1", &["maintenance", "off"]);
    wait_online(&lab, "n1", "web", "n2");
    give(&lab, "");
}

/// Rounds of a prober that nobody answered, those left out that may still be under way.
pub(crate) fn unanswered(prober: &Prober) -> Vec<u32> {
    let answers = prober.so_far();
    let answered: BTreeSet<u32> =
        answers.answers.iter().filter(|answer| answer.to_all).map(|answer| answer.round).collect();
    let first = answered.first().copied().unwrap_or(0);
    let last = answered.last().copied().unwrap_or(0);
    (first..last).filter(|round| !answered.contains(round)).collect()
}

/// Documents that would strand the group `blue`, give one address to two groups, or undo what they do
/// not know of.
fn refuse_what_would_harm(lab: &Lab, text: &str) {
    let version = || {
        let history = lab.json("n1", &["config", "history", "-o", "json"]).expect("it says");
        history["active"].as_u64().expect("a version")
    };
    let active = version();
    let file = lab.dir().join("other.toml").display().to_string();
    let wrong = |text: &str, words: [&str; 2]| {
        std::fs::write(&file, text).expect("written");
        let output = lab.vedette("n1", &["config", "apply", &file, "--yes"]).expect("run");
        assert_eq!(output.status.code(), Some(2), "{}", said(&output));
        // Lines are cut for a terminal.
        let flat = said(&output).split_whitespace().collect::<Vec<_>>().join(" ");
        for word in words {
            assert!(
                flat.contains(word) && flat.contains("nothing was changed"),
                "{word:?}: {flat}"
            );
        }
    };
    run(lab, "n1", &["stop", "--node", "n3", "--yes", "--wait"]);
    wrong(
        &text.replace("\"n2\", \"n3\"", "\"n3\""),
        ["error: groups.blue.nodes: blue runs on n2", "Keep n2 in the list"],
    );
    run(lab, "n1", &["start", "--node", "n3", "--wait"]);
    let (one, other) = (address(lab, 0).to_string(), address(lab, 1).to_string());
    wrong(
        &text.replace(&other, &one),
        [&format!("{one} is the address of red-ip and of blue-ip"), "a different address"],
    );
    std::fs::write(&file, text).expect("written");
    let older = (active - 1).to_string();
    let late = refused(lab, "n1", &["config", "apply", &file, "--based-on", &older, "--yes"]);
    let words = format!("made from version {older}, but version {active} is in force now");
    assert!(late.contains(&words), "{late}");
    let present = lab.dir().join("groups.toml").display().to_string();
    let twice = run(lab, "n1", &["config", "apply", &present]);
    assert!(twice.contains("says the same and is in force already"), "{twice}");
    assert_eq!(version(), active);
}

/// H34: a document that changes one group does not disturb another: its clients have an answer to
/// every question, its processes are the same. One that would strand a group that runs, or that was
/// made from an older version, is refused and changes nothing.
#[test]
fn h34_a_change_of_one_group_does_not_disturb_another() {
    let lab = lab();
    let text = document(&lab, &[("red", "\"n1\", \"n3\""), ("blue", "\"n2\", \"n3\"")]);
    give(&lab, &text);
    wait_online(&lab, "n3", "red", "n1");
    wait_online(&lab, "n3", "blue", "n2");
    let pids = lab.applications("n2").expect("it has power");
    assert_eq!(pids.len(), 1, "{pids:?}");
    let blue = Prober::start(&lab, 0, address(&lab, 1)).expect("a prober");
    wait_answer(&blue, 2);

    let before = look::seq(&lab, "n3");
    let (old, new) = (address(&lab, 0), address(&lab, 7));
    give(&lab, &text.replace(&format!("{old}/24"), &format!("{new}/24")));
    let red = Prober::start(&lab, 0, new).expect("a prober");
    wait_answer(&red, 1);
    wait_online(&lab, "n3", "red", "n1");
    wait_answer(&blue, 2);
    assert_eq!(lab.applications("n2").expect("it has power"), pids, "the same process");
    let of_blue: Vec<Value> = look::records_after(&lab, "n3", before)
        .into_iter()
        .filter(|record| record["message"].as_str().is_some_and(|text| text.contains("blue")))
        .filter(|record| matches!(record["code"].as_str(), Some("GROUP" | "RESOURCE")))
        .collect();
    assert!(of_blue.is_empty(), "{of_blue:#?}");

    refuse_what_would_harm(&lab, &text);

    assert_eq!(unanswered(&blue), Vec::<u32>::new(), "no question was left without an answer");
    let answers = blue.stop().expect("the prober ran");
    assert_eq!((answers.doubly_owned(), answers.owners()), (Vec::new(), vec![2]));
    give(&lab, "");
}

/// H36: what was saved is brought back by one command: groups, rules, settings; with an error in it,
/// nothing of it takes effect.
#[test]
fn h36_a_snapshot_brings_back_what_it_was_taken_of() {
    let lab = lab();
    let text = document(&lab, &[("web", "\"n1\", \"n2\"")]);
    give(&lab, &text);
    wait_online(&lab, "n3", "web", "n1");
    let at = lab.dir().join("snapshot");
    std::fs::create_dir_all(at.join("programs")).expect("made");
    let path = |name: &str| at.join(name).display().to_string();
    std::fs::write(path("rules"), "TE_JOIN_STANDBY\n0\n/site/tell.rp\n2\n0\n\n\n\n\n")
        .expect("written");
    std::fs::write(path("programs/tell.rp"), "all \"/bin/true\" 0 NULL\n").expect("written");
    run(&lab, "n2", &["rules", "load", &path("rules"), "--programs", &path("programs"), "--yes"]);
    run(&lab, "n2", &["snapshot", "save", &path("saved"), "--force"]);
    let same =
        lab.json("n2", &["snapshot", "diff", &path("saved"), "-o", "json"]).expect("it says");
    assert_eq!(same["same"], true, "{same:#}");

    give(&lab, &document(&lab, &[("other", "\"n3\"")]));
    run(&lab, "n1", &["rules", "rollback", "0", "--yes"]);
    run(&lab, "n1", &["config", "set", "logging-level", "warning"]);
    wait_online(&lab, "n3", "other", "n3");
    let saved = std::fs::read_to_string(path("saved")).expect("a text");
    let own = lab.node("n1").expect("n1").addresses[0].to_string();
    let wrong = saved.replace(&format!("{}/24", address(&lab, 0)), &format!("{own}/24"));
    assert_ne!(wrong, saved);
    std::fs::write(path("wrong"), wrong).expect("written");
    let bad = lab.vedette("n3", &["snapshot", "apply", &path("wrong"), "--yes"]).expect("run");
    assert_eq!(bad.status.code(), Some(2), "{}", said(&bad));
    assert!(
        said(&bad).contains("web-ip") && said(&bad).contains("nothing was changed"),
        "{}",
        said(&bad)
    );
    assert_eq!(wait_online_on(&lab, "n1", "other", &["n3"]), "n3");

    run(&lab, "n3", &["snapshot", "apply", &path("saved"), "--yes"]);
    wait_online(&lab, "n2", "web", "n1");
    assert!(group(&lab, "n2", "other").is_none_or(|(nodes, _)| nodes.is_empty()), "it is gone");
    for node in lab.names() {
        lab.wait_for("the snapshot to be in force", PATIENCE, |lab| {
            let diff = lab.json(&node, &["snapshot", "diff", &path("saved"), "-o", "json"]).ok()?;
            (diff["same"] == true).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    }
    let rules = run(&lab, "n1", &["rules", "show"]);
    assert!(rules.contains("/site/tell.rp"), "{rules}");
    run(&lab, "n1", &["rules", "rollback", "0", "--yes"]);
    give(&lab, "");
}
