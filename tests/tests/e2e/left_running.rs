//! Left running is left running (spec H21; findings R8 and R9): maintenance and forced stops survive the end,
//! the restart and the death of daemon and guard, and a lost quorum. A prober asks for the service all the
//! time.

use vedette_tests::lab::{Lab, Prober, Victim};

use crate::administration::{document, run, unanswered, wait_state, wait_told};
use crate::failover::{address, give, group, wait_answer, wait_online};
use crate::{PATIENCE, lab, look};

/// The group `web` on n2, and somebody who asks for it.
fn serving(lab: &Lab) -> Prober {
    // A group of that name with an operator's wish on it may be there.
    give(lab, "");
    give(lab, &document(lab, &[("web", "\"n2\", \"n3\"")]));
    wait_online(lab, "n1", "web", "n2");
    let prober = Prober::start(lab, 0, address(lab, 0)).expect("a prober");
    wait_answer(&prober, 2);
    prober
}

/// Every question was answered, by n2, and its process is the one that it was.
fn assert_unbroken(lab: &Lab, prober: &Prober, pids: &[u32]) {
    wait_answer(prober, 2);
    assert_eq!(lab.applications("n2").expect("it has power"), pids, "the same process");
    assert_eq!(prober.so_far().owners(), [2]);
    let missed = unanswered(prober);
    assert!(missed.is_empty(), "{} questions were not answered: {missed:?}", missed.len());
}

/// The guard's list has the group again: what a lease covers fails over.
fn assert_covered(lab: &Lab, prober: &Prober) {
    lab.wait_for("a lease to cover web again", PATIENCE, |lab| {
        let group = look::get(lab, "n1", "/api/v1/groups/web")?.json();
        let here = group["instances"].as_array()?;
        here.iter().all(|it| it["covered"] == true).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    lab.kill("n2", Victim::Power).expect("power off");
    wait_answer(prober, 3);
    wait_online(lab, "n1", "web", "n3");
    lab.restart("n2").expect("power on");
    wait_online(lab, "n1", "web", "n2");
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
}

/// R8, an upgrade by the book: maintenance, stop, new binary, start, maintenance off.
#[test]
fn r8_an_upgrade_in_maintenance_is_not_noticed() {
    let lab = lab();
    let prober = serving(&lab);
    let pids = lab.applications("n2").expect("it has power");
    run(&lab, "n1", &["maintenance", "on"]);
    lab.stop("n2").expect("a daemon can be stopped");
    wait_state(&lab, "n1", "web", "UNMANAGED");
    assert_unbroken(&lab, &prober, &pids);
    let status = look::status(&lab, "n1");
    assert!(status.contains("UNMANAGED"), "{status}");
    lab.restart("n2").expect("a daemon can be started");
    wait_online(&lab, "n1", "web", "n2");
    assert_unbroken(&lab, &prober, &pids);
    run(&lab, "n1", &["maintenance", "off"]);
    wait_online(&lab, "n1", "web", "n2");
    assert_unbroken(&lab, &prober, &pids);
    assert_covered(&lab, &prober);
    give(&lab, "");
}

/// R8: nothing that happens to daemon, guard or quorum in maintenance touches the service; what dies is
/// shown, and is not taken over before somebody is certain.
#[test]
fn r8_no_fault_in_maintenance_takes_a_service_away() {
    let lab = lab();
    let prober = serving(&lab);
    let pids = lab.applications("n2").expect("it has power");
    run(&lab, "n1", &["maintenance", "on"]);
    wait_answer(&prober, 2);
    lab.kill("n2", Victim::Agent).expect("it runs");
    crate::wait_healthy(&lab);
    assert_unbroken(&lab, &prober, &pids);
    lab.kill("n2", Victim::Both).expect("it runs");
    lab.restart("n2").expect("a daemon can be started");
    wait_online(&lab, "n1", "web", "n2");
    assert_unbroken(&lab, &prober, &pids);
    lab.kill("n1", Victim::Power).expect("power off");
    lab.kill("n3", Victim::Power).expect("power off");
    lab.wait_for("n2 to have no quorum", PATIENCE, |lab| {
        let local = look::get(lab, "n2", "/api/v1/local")?.json();
        (local["quorate"] == false).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    assert_unbroken(&lab, &prober, &pids);
    lab.restart("n1").expect("power on");
    lab.restart("n3").expect("power on");
    crate::make_healthy(&lab);
    wait_online(&lab, "n1", "web", "n2");
    assert_unbroken(&lab, &prober, &pids);

    let before = look::seq(&lab, "n1");
    lab.kill("n2", Victim::Power).expect("power off");
    wait_told(&lab, "n1", before, "NODE_HOST", "n2 is DOWN");
    run(&lab, "n1", &["maintenance", "off"]);
    let waits = wait_told(&lab, "n1", before, "TAKEOVER_WAITS", "web");
    assert!(waits.to_string().contains("maintenance left"), "{waits:#}");
    run(&lab, "n1", &["node", "confirm-off", "n2", "--i-am-certain"]);
    wait_online(&lab, "n1", "web", "n3");
    lab.restart("n2").expect("power on");
    wait_online(&lab, "n1", "web", "n2");
    give(&lab, "");
}

/// R9: a forced stop, then the daemon ends, then the node dies; each is told as it is.
#[test]
fn r9_what_a_forced_stop_left_outlives_its_daemon() {
    let lab = lab();
    let prober = serving(&lab);
    let pids = lab.applications("n2").expect("it has power");
    run(&lab, "n1", &["stop", "--node", "n2", "--mode", "forced", "--yes"]);
    wait_state(&lab, "n1", "web", "UNMANAGED");
    assert_unbroken(&lab, &prober, &pids);
    lab.stop("n2").expect("a daemon can be stopped");
    lab.wait_for("n1 to know that n2 left", PATIENCE, |lab| {
        let node = look::get(lab, "n1", "/api/v1/nodes/n2")?.json();
        (node["host_status"] == "DOWN").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    assert_unbroken(&lab, &prober, &pids);
    lab.restart("n2").expect("a daemon can be started");
    crate::wait_healthy(&lab);
    assert_unbroken(&lab, &prober, &pids);
    run(&lab, "n1", &["start", "--node", "n2", "--wait"]);
    wait_online(&lab, "n1", "web", "n2");
    assert_unbroken(&lab, &prober, &pids);
    assert_covered(&lab, &prober);

    run(&lab, "n1", &["stop", "--node", "n2", "--mode", "forced", "--yes"]);
    wait_state(&lab, "n1", "web", "UNMANAGED");
    lab.kill("n2", Victim::Power).expect("power off");
    lab.wait_for("n1 to say that nobody serves web", PATIENCE, |lab| {
        look::status(lab, "n1").starts_with("FAILED").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    lab.restart("n2").expect("power on");
    crate::make_healthy(&lab);
    run(&lab, "n1", &["start", "--node", "n2", "--wait"]);
    wait_online(&lab, "n1", "web", "n2");
    assert!(group(&lab, "n3", "web").is_some_and(|(nodes, _)| nodes == ["n2"]));
    give(&lab, "");
}
