//! Service addresses and who else has them: a foreign machine, a node that does not have the group. The foreign machine is the switch, which answers for an address that it is given.

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use crate::failover::{address, apply, give, group, wait_online, wait_online_on};
use crate::{PATIENCE, lab, look};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The group `web`, off.
fn web_is_off(lab: &Lab, on_conflict: &str) {
    give(
        lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
             [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\
             on_conflict = \"{on_conflict}\"\n",
            address(lab, 0)
        ),
    );
    wait_online_on(lab, "n1", "web", &NODES);
    let off = lab.vedette("n1", &["group", "offline", "web", "--yes"]).expect("run");
    assert!(off.status.success(), "{}", String::from_utf8_lossy(&off.stderr));
    let gone = lab.wait_for("web to be off", PATIENCE, |lab| {
        (group(lab, "n1", "web")?.1 == "OFFLINE").then_some(())
    });
    gone.unwrap_or_else(|error| panic!("{error}"));
}

/// Records of conflicts since that one.
fn conflicts(lab: &Lab, after: u64) -> Vec<Value> {
    let mut records = look::records_after(lab, "n2", after);
    records.retain(|record| record["code"] == "ADDRESS_CONFLICT");
    records
}

/// Findings R3, F11: who answers for the address is named in the record and by `status`; the group waits for
/// an operator, and goes on once that is settled.
#[test]
fn a_foreign_machine_that_has_the_address_is_told_and_keeps_it() {
    let lab = lab();
    web_is_off(&lab, "fail");
    let before = look::seq(&lab, "n2");
    let stray = lab.foreign_host(0, address(&lab, 0)).expect("a foreign host");
    let hardware = stray.hardware().expect("it has one");
    lab.vedette("n1", &["group", "online", "web", "--no-wait"]).expect("run");
    let blocked = lab.wait_for("web to need an operator", PATIENCE, |lab| {
        (group(lab, "n1", "web")?.1 == "ERROR").then_some(())
    });
    blocked.unwrap_or_else(|error| panic!("{error}: {:?}", group(&lab, "n1", "web")));
    let told = conflicts(&lab, before);
    assert_eq!(told.len(), NODES.len(), "each node tried: {told:#?}");
    for event in &told {
        let message = event["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(&hardware) && message.contains("web-ip"), "{event:#}");
        assert_eq!((&event["severity"], &event["alert"]), (&"error".into(), &true.into()));
    }
    let status = look::status(&lab, "n3");
    assert!(status.contains(&hardware), "{status}");
    let message = told[0]["message"].as_str().unwrap_or_default();
    let everywhere = lab.wait_for("a notification, and a count", PATIENCE, |lab| {
        let page = look::get(lab, "n3", "/metrics")?.body;
        let counts = |line: &&str| line.starts_with("vedette_address_conflicts_total{");
        let count = page.lines().find(counts)?.split(' ').next_back()?.parse::<f64>().ok()?;
        (look::traps(lab).contains(message) && count >= 3.0).then_some(())
    });
    everywhere.unwrap_or_else(|error| panic!("{error}: {}", look::traps(&lab)));

    drop(stray);
    let cleared = lab.vedette("n1", &["group", "clear", "web"]).expect("run");
    assert!(cleared.status.success(), "{}", String::from_utf8_lossy(&cleared.stderr));
    wait_online_on(&lab, "n1", "web", &NODES);
    assert_eq!(conflicts(&lab, before).len(), NODES.len(), "nobody else has it now");
    give(&lab, "");
}

/// The same where the operator wants the address in any case.
#[test]
fn an_address_is_taken_from_a_foreign_machine_where_that_is_configured() {
    let lab = lab();
    web_is_off(&lab, "take");
    let before = look::seq(&lab, "n2");
    let stray = lab.foreign_host(0, address(&lab, 0)).expect("a foreign host");
    lab.vedette("n1", &["group", "online", "web", "--no-wait"]).expect("run");
    wait_online_on(&lab, "n1", "web", &NODES);
    let told = conflicts(&lab, before);
    let [only] = told.as_slice() else { panic!("one acquisition: {told:#?}") };
    assert!(
        only["message"]
            .as_str()
            .unwrap_or_default()
            .starts_with(&stray.hardware().expect("it has one"))
    );
    assert_eq!(only["severity"], "warning");
    drop(stray);
    give(&lab, "");
}

/// Findings F11: a foreign machine that begins to answer for an address in service is told, by the node that has it.
#[test]
fn a_foreign_machine_that_comes_later_is_told() {
    let lab = lab();
    give(
        &lab,
        &format!(
            "[manager]\nprobe_interval = \"1s\"\n\n[groups.web]\npolicy = \"rotating\"\n\
             nodes = [\"n1\", \"n2\", \"n3\"]\n\n[[groups.web.resources]]\nname = \"web-ip\"\n\
             kind = \"address\"\naddress = \"{}/24\"\n",
            address(&lab, 0)
        ),
    );
    let owner = wait_online_on(&lab, "n1", "web", &NODES);
    let before = look::seq(&lab, "n2");
    let stray = lab.foreign_host(0, address(&lab, 0)).expect("a foreign host");
    let hardware = stray.hardware().expect("it has one");
    let told = lab.wait_for("the conflict", PATIENCE, |lab| conflicts(lab, before).pop());
    let told = told.unwrap_or_else(|error| panic!("{error}"));
    assert!(told["message"].as_str().unwrap_or_default().starts_with(&hardware), "{told:#}");
    assert_eq!((&told["severity"], &told["alert"]), (&"error".into(), &true.into()));
    let (nodes, state) = group(&lab, "n1", "web").expect("the group");
    assert_eq!((nodes, state.as_str()), (vec![owner], "ONLINE"), "it is served all the same");
    drop(stray);
    give(&lab, "");
}

/// Findings R3: an address that is left on a node without its group is removed when the daemon starts.
#[test]
fn an_address_that_was_left_behind_is_removed_at_start() {
    let lab = lab();
    apply(&lab, &[("web", "rotating", &NODES)]);
    let owner = wait_online_on(&lab, "n1", "web", &NODES);
    let other = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(other, Victim::Everything).expect("its daemon ends");
    let stray = lab.stray_address(other, 0, address(&lab, 0)).expect("an address");
    assert!(stray.is_there().expect("a look"));
    lab.restart(other).expect("its daemon starts");
    let removed = lab.wait_for("the address to be removed", PATIENCE, |_| {
        (!stray.is_there().ok()?).then_some(())
    });
    removed.unwrap_or_else(|error| panic!("{error}"));
    wait_online(&lab, &owner, "web", &owner);
    give(&lab, "");
}
