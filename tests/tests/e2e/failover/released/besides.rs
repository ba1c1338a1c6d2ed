//! What runs on a node that does not have the group, or may: seen, in doubt, and blocked for it.

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use super::{NODES, Service, move_group, stops};
use crate::failover::{PATIENCE, address, give, group, look, wait_online_on};
use crate::lab;

fn shown(lab: &Lab, asked: &str) -> Option<Value> {
    Some(look::get(lab, asked, "/api/v1/groups/svc")?.json())
}

/// Whether a sample of the metrics of a node is that.
fn measures(lab: &Lab, asked: &str, sample: &str, value: &str) -> bool {
    let page = look::get(lab, asked, "/metrics").map(|answer| answer.body).unwrap_or_default();
    let mut lines = page.lines().filter(|line| line.starts_with(sample));
    lines.any(|line| line.ends_with(value))
}

/// R1: a service that no lease ends is taken over from a node whose processes are gone, with an alert. From then on all
/// surfaces say that it may run there, too, until that node is back and has looked.
#[test]
fn what_is_taken_over_without_proof_is_in_doubt() {
    let lab = lab();
    let service = Service::configured(&lab, &stops(&lab));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(&owner, Victim::Both).expect("they were there");
    let told = lab.wait_for("the doubt", PATIENCE, |lab| {
        let shown = shown(lab, asked)?;
        let also = &shown["also_on"][0];
        let taken = shown["state"] == "ONLINE" && shown["owner"] != owner.as_str();
        (taken && also["node"] == owner.as_str() && also["doubt"].is_string()).then_some(())
    });
    told.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    assert!(service.alive().contains(&owner.as_str()), "and it does");
    let status = look::status(&lab, asked);
    let said = format!("group svc may also run on {owner}");
    assert!(status.contains(&said), "{status}");
    assert!(status.contains(&format!("vedette node confirm-off {owner}")), "{status}");
    let sample =
        format!("vedette_group_multiple_active{{cluster=\"lab\",group=\"svc\",node=\"{owner}\"");
    assert!(measures(&lab, asked, &sample, " NaN"));
    let message = format!("group svc may also run on {owner}");
    let trap = lab.wait_for("a notification", PATIENCE, |lab| {
        look::traps(lab).contains(&message).then_some(())
    });
    trap.unwrap_or_else(|error| panic!("{error}: {}", look::traps(&lab)));

    crate::make_healthy(&lab);
    let over = lab.wait_for("the end of it", PATIENCE, |lab| {
        let also = shown(lab, asked)?["also_on"].as_array()?.is_empty();
        (also && service.alive().len() == 1).then_some(())
    });
    over.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    assert!(measures(&lab, asked, &sample, " 0"));
}

/// R3: while something runs on two nodes nothing is done with a group that says `block`. What then fails is not in
/// service; the node that runs it besides loses power, and the way out that is shown is one.
#[test]
fn a_block_has_a_way_out_when_its_node_is_gone() {
    let lab = lab();
    let service = Service::configured(&lab, &stops(&lab));
    let text = std::fs::read_to_string(lab.dir().join("groups.toml")).expect("written before");
    let block = text
        .replace("policy = \"rotating\"\n", "policy = \"rotating\"\nmultiple_active = \"block\"\n");
    give(&lab, &block);
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != owner).collect();
    let (stray, asked) = (others[0], others[1]);
    std::fs::write(service.file(stray), "").expect("started by hand");
    let blocked = |lab: &Lab| Some(shown(lab, asked)?["blocked"]["advice"].as_str()?.to_owned());
    lab.wait_for("the block", PATIENCE, blocked).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(group(&lab, asked, "svc").map(|it| it.1).as_deref(), Some("ONLINE"), "it serves");
    let moved = move_group(&lab, asked, "svc", asked);
    assert!(!moved.0 && moved.1.contains("blocked"), "{}", moved.1);

    lab.kill(stray, Victim::Power).expect("it has power");
    let advice = format!("make sure that {stray} is off, then: vedette node confirm-off {stray}");
    let told = lab.wait_for("the way out", PATIENCE, |lab| (blocked(lab)? == advice).then_some(()));
    told.unwrap_or_else(|error| panic!("{error}: {:?}", blocked(&lab)));
    let sure = ["node", "confirm-off", stray, "--i-am-certain"];
    let done = lab.vedette(asked, &sure).expect("run");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    std::fs::remove_file(service.file(stray)).expect("it has no power");
    let freed = lab.wait_for("the end of the block", PATIENCE, |lab| {
        let shown = shown(lab, asked)?;
        (shown["blocked"].is_null() && shown["also_on"].as_array()?.is_empty()).then_some(())
    });
    freed.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    crate::make_healthy(&lab);
}

/// R3, F7: a service address that was left on some other device of a member is found there, told and taken away.
#[test]
fn an_address_on_another_device_is_found() {
    let lab = lab();
    let service = address(&lab, 0).to_string();
    give(
        &lab,
        &format!(
            "[manager]\nprobe_interval = \"1s\"\n\n[groups.web]\npolicy = \"cascading\"\n\
             nodes = [\"n1\", \"n2\", \"n3\"]\n\n[[groups.web.resources]]\nname = \"web-ip\"\n\
             kind = \"address\"\naddress = \"{service}/24\"\n"
        ),
    );
    wait_online_on(&lab, "n1", "web", &["n1"]);
    let seq = look::seq(&lab, "n2");
    let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    for device in ["lo", "netb"] {
        let put = words(&format!("address add {service}/32 dev {device}"));
        assert!(lab.exec("n3", "ip", &put).expect("ip").success());
    }
    let told = lab.wait_for("both ends of it", PATIENCE, |lab| {
        let records = look::records_after(lab, "n2", seq);
        let says = |what: &str| {
            records.iter().any(|it| it["message"].as_str().is_some_and(|said| said == what))
        };
        (says("group web also runs on n3, besides n1") && says("group web runs on n3 no more"))
            .then_some(())
    });
    told.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n2")));
    give(&lab, "");
}
