//! A standby adapter takes over from a service adapter of its node, and back.

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober};

use super::truth::{latest, outages_after, told, wait_idle};
use super::{PATIENCE, address, assert_one_owner, give, look, wait_answer, wait_online};
use crate::lab;

/// Waits until an event of that name, queued after the record `seq`, was completed.
fn wait_event(lab: &Lab, seq: u64, name: &str) {
    let completed = |record: &Value| {
        let text = record["message"].as_str().unwrap_or_default();
        record["code"] == "EVENT_ENDED" && text.contains(name) && text.contains("completed")
    };
    lab.wait_for(&format!("{name} to be completed"), PATIENCE, |lab| {
        look::records_after(lab, "n3", seq).iter().any(completed).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(lab, "n3", seq)));
}

/// The adapter on neta is good again, whichever it is.
fn wait_good(lab: &Lab, seq: u64) {
    lab.wait_for("the heartbeat over the other adapter", PATIENCE, |lab| {
        look::find_record(lab, "n3", seq, ("INTERFACE", "n1/neta", "UP"))
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, "n3")));
    wait_idle(lab, "n3");
}

/// H13, H26, H27: the service adapter of the owner fails. Its standby adapter takes over, own address,
/// service address and heartbeat; the group stays. The failed adapter is the standby that failed, and
/// joins when it is repaired; then the other one fails, and everything goes back.
#[test]
fn a_standby_adapter_takes_over_and_no_group_moves() {
    let lab = lab();
    let standby = lab.add_standby("n1", "neta").expect("an adapter");
    let text = format!(
        "[[standby]]\nnode = \"n1\"\nnetwork = \"neta\"\naddress = \"{standby}\"\n\n\
         [groups.web]\npolicy = \"cascading\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
        address(&lab, 0)
    );
    give(&lab, &text);
    wait_online(&lab, "n3", "web", "n1");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, 1);

    let (before, seq) = (latest(&lab, "n3"), look::seq(&lab, "n3"));
    lab.cut("n1", Some("neta"), None).expect("a cut");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_answer(&prober, 1);
    wait_good(&lab, seq);
    let incident = told(&lab, "n3", before, "swap_adapter n1");
    assert!(incident.to_string().contains("swap_adapter on n1: exit status 0"), "{incident:#}");
    wait_event(&lab, seq, "fail_standby n1");
    lab.heal().expect("healed");
    wait_event(&lab, seq, "join_standby n1");

    let seq = look::seq(&lab, "n3");
    lab.set_standby("n1", "neta", false).expect("a cut");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_answer(&prober, 1);
    wait_good(&lab, seq);
    assert_eq!(outages_after(&lab, "n3", before), Vec::<Value>::new());
    assert_one_owner(prober, &[1]);
    give(&lab, "");
    lab.remove_standby("n1", "neta").expect("removed");
}
