//! Networks that fail one after the other: on one node, and on all.

use vedette_tests::lab::{Lab, Prober};

use super::truth::{Truth, assert_told, latest, outages_after, wait_idle};
use super::{PATIENCE, address, apply, assert_one_owner, handover, look, wait_answer, wait_online};
use crate::lab;

fn wait_record(lab: &Lab, asked: &str, after: u64, wanted: (&str, &str, &str)) {
    lab.wait_for(&format!("record {wanted:?}"), PATIENCE, |lab| {
        look::find_record(lab, asked, after, wanted)
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
}

/// The network of the service address fails on its node: the group goes where it is reached, and comes
/// home. A network that carries no address of it moves nothing; the second one then isolates the node.
#[test]
fn a_node_loses_one_network_after_the_other() {
    let lab = lab();
    apply(&lab, &[("web", "cascading", &["n1", "n2", "n3"])]);
    wait_online(&lab, "n3", "web", "n1");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, 1);

    let before = latest(&lab, "n3");
    lab.cut("n1", Some("neta"), None).expect("a cut");
    wait_online(&lab, "n3", "web", "n2");
    let seen = handover(&prober, "n1", "n2");
    let truth = Truth {
        title: "group_move web",
        ground: "n1 is not reached over neta any more",
        group: "web",
        from: "n1",
        to: "n2",
    };
    assert_told(&lab, "n3", before, &truth, (&prober, seen));
    lab.heal().expect("healed");
    wait_answer(&prober, 1);
    wait_online(&lab, "n3", "web", "n1");

    let (before, seq) = (latest(&lab, "n3"), look::seq(&lab, "n3"));
    lab.cut("n1", Some("netb"), None).expect("a cut");
    wait_record(&lab, "n3", seq, ("INTERFACE", "n1/netb", "DOWN"));
    wait_idle(&lab, "n3");
    assert_eq!(outages_after(&lab, "n3", before), Vec::<serde_json::Value>::new());
    lab.cut("n1", Some("neta"), None).expect("a cut");
    wait_online(&lab, "n3", "web", "n2");
    let seen = handover(&prober, "n1", "n2");
    let truth = Truth { title: "node n1 is DOWN", ground: "its lease is over", ..truth };
    assert_told(&lab, "n3", before, &truth, (&prober, seen));
    lab.heal().expect("healed");
    wait_answer(&prober, 1);
    wait_online(&lab, "n3", "web", "n1");
    assert_one_owner(prober, &[1, 2, 1, 2, 1]);
}

/// A network that fails everywhere is no reason to move what cannot be reached anywhere else either:
/// first the one of the address, and, when it is back, the other.
#[test]
fn networks_that_fail_everywhere_move_nothing() {
    let lab = lab();
    apply(&lab, &[("web", "cascading", &["n1", "n2", "n3"])]);
    wait_online(&lab, "n3", "web", "n1");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    let before = latest(&lab, "n3");
    for network in ["neta", "netb"] {
        wait_answer(&prober, 1);
        let seq = look::seq(&lab, "n3");
        lab.cut_everywhere(network).expect("a cut");
        wait_record(&lab, "n3", seq, ("NETWORK", network, "DOWN"));
        wait_idle(&lab, "n3");
        lab.heal().expect("healed");
        wait_record(&lab, "n3", seq, ("NETWORK", network, "UP"));
        crate::make_healthy(&lab);
        wait_idle(&lab, "n3");
    }
    wait_answer(&prober, 1);
    wait_online(&lab, "n3", "web", "n1");
    assert_eq!(outages_after(&lab, "n3", before), Vec::<serde_json::Value>::new());
    assert_one_owner(prober, &[1]);
}
