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

/// Devices of n1 that have an address.
fn devices(lab: &Lab, address: &str) -> Vec<String> {
    let mut command = std::process::Command::new("ip");
    command.args(["-j", "address", "show"]).stdout(std::process::Stdio::piped());
    let shown = lab.spawn("n1", command).and_then(|ip| Ok(ip.wait_with_output()?)).expect("ip");
    let all: Value = serde_json::from_slice(&shown.stdout).expect("JSON");
    let has = |device: &&Value| {
        let own = device["addr_info"].as_array();
        own.is_some_and(|own| own.iter().any(|it| it["local"] == address))
    };
    let name = |device: &Value| device["ifname"].as_str().unwrap_or_default().to_owned();
    all.as_array().expect("devices").iter().filter(has).map(name).collect()
}

fn wait_on(lab: &Lab, address: &str, device: &str) {
    let there = |lab: &Lab| (devices(lab, address) == [device]).then_some(());
    lab.wait_for(&format!("{address} on {device}"), PATIENCE, there)
        .unwrap_or_else(|error| panic!("{error}: {:?}", devices(lab, address)));
}

/// Findings R4: an address in mode swap leaves the standby adapter whose link goes, which is on record; after a
/// swap it is with the adapter that works, and so it is when the machine was started anew and its own address
/// is on the dead one again.
#[test]
fn a_service_address_is_never_left_on_an_adapter_without_a_link() {
    let lab = lab();
    let standby = lab.add_standby("n1", "neta").expect("an adapter").to_string();
    let own = lab.node("n1").expect("n1").addresses[0].to_string();
    let service = address(&lab, 0).to_string();
    let text = format!(
        "[[standby]]\nnode = \"n1\"\nnetwork = \"neta\"\naddress = \"{standby}\"\n\n\
         [groups.web]\npolicy = \"cascading\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{service}/24\"\n\
         mode = \"swap\"\n"
    );
    give(&lab, &text);
    wait_online(&lab, "n3", "web", "n1");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_on(&lab, &service, "neta-sb");

    let seq = look::seq(&lab, "n3");
    lab.set_standby("n1", "neta", false).expect("a cut");
    wait_on(&lab, &service, "neta");
    wait_answer(&prober, 1);
    lab.wait_for("its move to be on record", PATIENCE, |lab| {
        let moved = |record: &Value| {
            record["message"] == "resource web-ip is still ONLINE on n1, over another adapter"
                && record["cause"] == "on neta, because neta-sb has no link"
        };
        look::records_after(lab, "n3", seq).iter().any(moved).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(&lab, "n3", seq)));
    wait_event(&lab, seq, "fail_standby n1");
    lab.set_standby("n1", "neta", true).expect("plugged in");
    wait_event(&lab, seq, "join_standby n1");

    lab.cut("n1", Some("neta"), None).expect("a cut");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_good(&lab, seq);
    wait_on(&lab, &service, "neta-sb");
    wait_on(&lab, &own, "neta-sb");
    wait_answer(&prober, 1);

    // The adapter that it came from works again, and the one with all of it loses its link: beats find a way over the
    // other one, so nobody but the node sees that.
    lab.heal().expect("plugged in");
    wait_event(&lab, seq, "join_standby n1");
    let seq = look::seq(&lab, "n3");
    lab.set_standby("n1", "neta", false).expect("a cut");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_on(&lab, &own, "neta");
    wait_on(&lab, &service, "neta");
    wait_answer(&prober, 1);
    lab.set_standby("n1", "neta", true).expect("plugged in");
    let seq = look::seq(&lab, "n3");
    lab.cut("n1", Some("neta"), None).expect("a cut");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_good(&lab, seq);
    wait_on(&lab, &own, "neta-sb");

    lab.stop("n1").expect("stopped");
    wait_online(&lab, "n3", "web", "n2");
    let ip = |words: &str| {
        let words: Vec<String> = words.split(' ').map(str::to_owned).collect();
        assert!(lab.exec("n1", "ip", &words).expect("ip").success(), "{words:?}");
    };
    let as_after_a_boot = || {
        // All of them first: the oldest of a subnet takes the younger ones along.
        for (address, from) in [(&own, "neta-sb"), (&standby, "neta")] {
            ip(&format!("address del {address}/24 dev {from}"));
        }
        for (address, to) in [(&own, "neta"), (&standby, "neta-sb")] {
            ip(&format!("address add {address}/24 dev {to}"));
        }
    };
    as_after_a_boot();
    let seq = look::seq(&lab, "n3");
    lab.restart("n1").expect("started");
    wait_online(&lab, "n3", "web", "n1");
    wait_event(&lab, seq, "swap_adapter n1");
    wait_on(&lab, &service, "neta-sb");
    wait_answer(&prober, 1);
    wait_good(&lab, seq);
    assert_one_owner(prober, &[1, 2, 1]);
    wait_event(&lab, seq, "fail_standby n1");
    lab.heal().expect("healed");
    wait_event(&lab, seq, "join_standby n1");
    give(&lab, "");
    as_after_a_boot();
    lab.remove_standby("n1", "neta").expect("removed");
}
