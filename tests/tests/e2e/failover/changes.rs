//! What is changed on a running cluster: timers and addresses reach everything, and no group notices.

use serde_json::Value;
use vedette_tests::lab::{Lab, Prober};

use super::truth::{latest, outages_after, wait_idle};
use super::{
    PATIENCE, address, assert_one_owner, give, look, wait_answer, wait_online, wait_online_on,
};
use crate::lab;

/// A group that is on n1 or n3, after other sections of a document.
fn document(lab: &Lab, first: &str) -> String {
    format!(
        "{first}\n[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
        address(lab, 0)
    )
}

/// The group is online, and a prober hears it.
fn probed(lab: &Lab) -> (String, Prober) {
    give(lab, &document(lab, ""));
    let owner = wait_online_on(lab, "n1", "web", &["n1", "n3"]);
    let prober = Prober::start(lab, 0, address(lab, 0)).expect("a prober");
    wait_answer(&prober, owner[1..].parse().expect("n and a number"));
    (owner, prober)
}

fn agents(lab: &Lab) -> Vec<u32> {
    let file = lab.refresh().expect("lab.json can be written");
    file.nodes.iter().map(|node| node.agent_pid.expect("an agent")).collect()
}

/// Waits until a record after `seq` has that code and begins so.
fn wait_record(lab: &Lab, seq: u64, code: &str, begins: &str) {
    let wanted = |record: &Value| {
        record["code"] == code
            && record["message"].as_str().is_some_and(|text| text.starts_with(begins))
    };
    lab.wait_for(&format!("{code} {begins:?}"), PATIENCE, |lab| {
        look::records_after(lab, "n1", seq).iter().any(wanted).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(lab, "n1", seq)));
}

/// H3, H34, invariant 4: shorter elections reach every log, the director's too, by agents that begin
/// anew; the group stays, nobody is DOWN, nothing is away for clients.
#[test]
fn timers_reach_every_log_and_no_group_notices() {
    let lab = lab();
    let (owner, prober) = probed(&lab);
    let before = latest(&lab, "n1");
    for most in [350, 400] {
        let (seq, old) = (look::seq(&lab, "n1"), agents(&lab));
        let timing = format!("[cluster.timing]\nelection_max_ms = {most}\n");
        give(&lab, &document(&lab, &timing));
        for name in lab.names() {
            let opened = format!("{name} has opened its log with elections of 250 to {most} ms");
            wait_record(&lab, seq, "SETTING_CHANGED", &opened);
        }
        crate::make_healthy(&lab);
        wait_idle(&lab, "n1");
        assert!(agents(&lab).iter().zip(&old).all(|(new, old)| new != old), "every agent is new");
        let records = look::records_after(&lab, "n1", seq);
        let hosts: Vec<_> = records.iter().filter(|it| it["code"] == "NODE_HOST").collect();
        assert!(hosts.is_empty(), "{hosts:#?}");
    }
    wait_online(&lab, "n1", "web", &owner);
    assert_eq!(outages_after(&lab, "n1", before), Vec::<Value>::new());
    assert_one_owner(prober, &[owner[1..].parse().expect("n and a number")]);
}

/// H34: a node gets another address on one network while everything runs. Its beats and its log use it
/// at once: with the other network cut it is still there, and takes part.
#[test]
fn a_changed_address_carries_beats_and_log() {
    let lab = lab();
    let (owner, prober) = probed(&lab);
    let before = latest(&lab, "n1");
    let (old, new) = (lab.node("n2").expect("a node").addresses[1], lab.service_address(1, 40));
    let on_n2 = |words: &[&str]| {
        let rest: Vec<String> = words[1..].iter().map(|word| (*word).to_owned()).collect();
        assert!(lab.exec("n2", words[0], &rest).expect("run").success(), "{words:?}");
    };
    let device =
        |verb: &str, address: String| on_n2(&["ip", "addr", verb, &address, "dev", "netb"]);
    // What is left of two addresses in one subnet is to stay when the first goes.
    let promote = "echo 1 >/proc/sys/net/ipv4/conf/netb/promote_secondaries";
    on_n2(&["sh", "-c", promote]);
    device("add", format!("{new}/24"));
    give(&lab, &document(&lab, &format!("[nodes.n2.addresses]\nnetb = \"{new}\"\n")));
    device("del", format!("{old}/24"));
    wait_idle(&lab, "n1");
    crate::make_healthy(&lab);
    let seq = look::seq(&lab, "n1");
    lab.cut("n2", Some("neta"), None).expect("a cut");
    wait_record(&lab, seq, "INTERFACE", "interface n2/neta is DOWN");
    let tested = lab.vedette("n2", &["alert", "test", "--node", "n2"]).expect("run");
    assert!(tested.status.success(), "{}", String::from_utf8_lossy(&tested.stderr));
    assert_eq!(look::host(&lab, "n1", "n2"), "UP");
    lab.heal().expect("healed");
    device("add", format!("{old}/24"));
    give(&lab, &document(&lab, &format!("[nodes.n2.addresses]\nnetb = \"{old}\"\n")));
    device("del", format!("{new}/24"));
    crate::make_healthy(&lab);
    wait_online(&lab, "n1", "web", &owner);
    assert_eq!(outages_after(&lab, "n1", before), Vec::<Value>::new());
    assert_one_owner(prober, &[owner[1..].parse().expect("n and a number")]);
}
