//! State that a node loses: the end of its log, an earlier copy of all of it put back, a page of its
//! history, its membership.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober, Victim};

use crate::failover::{address, apply, give, wait_answer, wait_online};
use crate::{PATIENCE, lab, look};

/// Time in which a member must be caught up once its daemon runs.
const SOON: Duration = crate::PATIENCE;

fn run(lab: &Lab, node: &str, arguments: &[&str]) {
    let output = lab.vedette(node, arguments).expect("run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {said}");
}

/// What the daemon of a node logged so far.
fn logged(lab: &Lab, node: &str) -> String {
    let dir = &lab.node(node).expect("a node of the lab").dir;
    let logs = fs::read_dir(dir).expect("the node's directory").flatten();
    let logs = logs.filter(|entry| entry.path().extension().is_some_and(|end| end == "log"));
    logs.filter_map(|entry| fs::read_to_string(entry.path()).ok()).collect()
}

fn times(lab: &Lab, node: &str, words: &str) -> usize {
    logged(lab, node).matches(words).count()
}

/// Writes some dozens of entries into the log.
fn fill(lab: &Lab) {
    for _ in 0..4 {
        run(lab, "n1", &["group", "move", "web", "--to", "n1", "--yes", "--no-wait"]);
        wait_online(lab, "n1", "web", "n1");
        run(lab, "n1", &["group", "move", "web", "--to", "n2", "--yes", "--no-wait"]);
        wait_online(lab, "n1", "web", "n2");
    }
}

fn revision(lab: &Lab, node: &str) -> Option<u64> {
    look::get(lab, node, "/api/v1/nodes").map(|answer| answer.revision).filter(|it| *it > 0)
}

/// n3 has as much as n1, and says so soon.
fn caught_up(lab: &Lab) {
    lab.wait_for("n3 to be caught up", SOON, |lab| {
        let (leader, member) = (revision(lab, "n1")?, revision(lab, "n3")?);
        (member >= leader && look::seq(lab, "n3") >= look::seq(lab, "n1")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", logged(lab, "n3")));
}

/// The owner of the group loses power: with n1 and n3 the cluster goes on.
fn owner_is_struck(lab: &Lab) {
    let prober = Prober::start(lab, 0, address(lab, 0)).expect("a prober");
    wait_answer(&prober, 2);
    lab.kill("n2", Victim::Power).expect("power off");
    wait_answer(&prober, 1);
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    assert_eq!(look::host(lab, "n1", "n2"), "DOWN");
}

/// F1: the agent is killed and the write-ahead log of its database cut to a third.
#[test]
fn f1_a_node_that_lost_the_end_of_its_log_is_caught_up_and_counts_again() {
    let lab = lab();
    // A group of an earlier test would stay where that left it.
    give(&lab, "");
    apply(&lab, &[("web", "cascading", &["n2", "n1"])]);
    wait_online(&lab, "n1", "web", "n2");
    // The write-ahead log begins anew, so that its end is the end of the log.
    lab.restart("n3").expect("its daemon can be started");
    crate::make_healthy(&lab);
    fill(&lab);
    let before = times(&lab, "n3", "this node's log ends at entry");
    let wal = lab.node("n3").expect("n3").state_dir().join("cluster.db-wal");
    lab.kill("n3", Victim::Both).expect("its daemon can be killed");
    let file = OpenOptions::new().write(true).open(&wal).expect("a write-ahead log");
    file.set_len(file.metadata().expect("its length").len() / 3).expect("cut");
    drop(file);
    lab.restart("n3").expect("its daemon can be started");
    caught_up(&lab);
    assert!(times(&lab, "n3", "this node's log ends at entry") > before, "{}", logged(&lab, "n3"));
    assert!(times(&lab, "n3", "has again what it had lost") > 0, "{}", logged(&lab, "n3"));
    crate::make_healthy(&lab);
    owner_is_struck(&lab);
    crate::make_healthy(&lab);
    give(&lab, "");
}

/// F1: an older copy of the whole state directory is put back, as a restored machine has it.
#[test]
fn f1_a_node_with_an_older_state_directory_is_caught_up_and_counts_again() {
    let lab = lab();
    // A group of an earlier test would stay where that left it.
    give(&lab, "");
    apply(&lab, &[("web", "cascading", &["n2", "n1"])]);
    wait_online(&lab, "n1", "web", "n2");
    let state = lab.node("n3").expect("n3").state_dir();
    let copy = lab.dir().join("n3.copy");
    lab.stop("n3").expect("its daemon can be stopped");
    replace(&state, &copy);
    lab.restart("n3").expect("its daemon can be started");
    crate::make_healthy(&lab);
    fill(&lab);
    let before = times(&lab, "n3", "this node's log ends at entry");
    lab.kill("n3", Victim::Both).expect("its daemon can be killed");
    replace(&copy, &state);
    lab.restart("n3").expect("its daemon can be started");
    caught_up(&lab);
    assert!(times(&lab, "n3", "this node's log ends at entry") > before, "{}", logged(&lab, "n3"));
    crate::make_healthy(&lab);
    owner_is_struck(&lab);
    crate::make_healthy(&lab);
    give(&lab, "");
}

/// Makes the directory `to` a copy of `from`.
fn replace(from: &Path, to: &Path) {
    let _ = fs::remove_dir_all(to);
    let status = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(status.expect("cp runs").success());
}

/// F8: a broken page of the history costs nothing but the time to fetch it again.
#[test]
fn f8_a_damaged_history_is_set_aside_and_fetched_again() {
    let lab = lab();
    lab.stop("n3").expect("its daemon can be stopped");
    let history = lab.node("n3").expect("n3").state_dir().join("history.db");
    // All of it into the file itself: pages of the write-ahead log would hide the damage.
    let connection = rusqlite::Connection::open(&history).expect("the history");
    connection
        .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0))
        .expect("a checkpoint");
    drop(connection);
    let mut bytes = fs::read(&history).expect("the history");
    let third = bytes.len() / 3;
    bytes[third..2 * third].fill(0xa5);
    fs::write(&history, bytes).expect("damaged");
    lab.restart("n3").expect("its daemon can be started");
    caught_up(&lab);
    let state = history.parent().expect("a state directory");
    let names = fs::read_dir(state).expect("it can be read").flatten();
    let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let aside: Vec<String> = names.filter(|name| name.starts_with("history.db.damaged-")).collect();
    assert!(!aside.is_empty() && times(&lab, "n3", "is set aside as") > 0, "{aside:?}");
    run(&lab, "n3", &["history", "verify"]);
    crate::make_healthy(&lab);
}

/// F15: a node that was deleted while it was off says that, and not that it is cut off.
#[test]
fn f15_a_node_that_was_deleted_while_it_was_off_says_so() {
    let lab = lab();
    lab.kill("n3", Victim::Power).expect("power off");
    lab.wait_for("n3 to be DOWN", PATIENCE, |lab| {
        (look::host(lab, "n1", "n3") == "DOWN").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    // Refused until the event of its death is over.
    lab.wait_for("n3 to be deleted", PATIENCE, |lab| {
        let deleted = lab.vedette("n1", &["node", "delete", "n3", "--yes"]).ok()?;
        deleted.status.success().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    lab.restart("n3").expect("power on");
    lab.wait_for("n3 to know that it was deleted", PATIENCE, |lab| {
        let said = look::status(lab, "n3");
        said.contains("this node was deleted from lab and is no member of it any more")
            .then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    let local = look::get(&lab, "n3", "/api/v1/local").expect("an answer").json();
    assert_eq!(local["stage"], "deleted", "{local:#}");
    join_again(&lab);
    crate::make_healthy(&lab);
}

/// n3 becomes a member again, with a new state directory.
fn join_again(lab: &Lab) {
    let added = lab.json("n1", &["node", "add", "n3", "--number", "3", "--yes", "-o", "json"]);
    let added: Value = added.expect("a token");
    let token = added["token"].as_str().expect("a token");
    lab.stop("n3").expect("its daemon can be stopped");
    let node = lab.node("n3").expect("n3");
    let old = node.dir.join("state.old");
    fs::rename(node.state_dir(), &old).expect("moved away");
    run(lab, "n3", &["join", token, "--yes"]);
    lab.restart("n3").expect("its daemon can be started");
    let _ = fs::remove_dir_all(old);
}
