//! Groups that fail over, with real addresses, a real prober, and every fault that the lab can make.
//!
//! In each story a prober asks two hundred times a second who has the service address, in a way that
//! every holder answers. However the story goes, no question may ever have two answers, and in the end
//! one node has the address.

mod adapters;
mod changes;
mod cuts;
mod layouts;
mod leases;
mod pairs;
mod paths;
mod pauses;
mod released;
mod tolerance;
mod truth;

use std::net::Ipv4Addr;
use std::time::Duration;

use serde_json::Value;
use vedette_tests::lab::{Direction, Handover, Lab, Prober, Victim};

use self::truth::Truth;
use crate::{PATIENCE, lab, look};

/// Groups in a document, each with one address: name, policy, nodes.
pub(crate) fn apply(lab: &Lab, groups: &[(&str, &str, &[&str])]) {
    let mut text = String::new();
    for (place, (name, policy, nodes)) in groups.iter().enumerate() {
        let address = address(lab, place);
        let nodes: Vec<String> = nodes.iter().map(|node| format!("\"{node}\"")).collect();
        text += &format!(
            "[groups.{name}]\npolicy = \"{policy}\"\nnodes = [{}]\n\n[[groups.{name}.resources]]\n\
             name = \"{name}-ip\"\nkind = \"address\"\naddress = \"{address}/24\"\n\n\
             [[groups.{name}.resources]]\nname = \"{name}-app\"\nkind = \"application\"\n\
             start = [\"/bin/sh\", \"-c\", \"sleep 100000 &\"]\nstop = [\"/bin/true\"]\n\n",
            nodes.join(", ")
        );
    }
    give(lab, &text);
}

/// Puts a document in force.
pub(crate) fn give(lab: &Lab, text: &str) {
    let file = lab.dir().join("groups.toml");
    std::fs::write(&file, text).expect("written");
    let path = file.display().to_string();
    let applied = lab.vedette("n1", &["config", "apply", &path, "--yes"]).expect("run");
    let said = String::from_utf8_lossy(&applied.stderr).into_owned();
    assert!(applied.status.success() || said.contains("in force"), "{said}");
}

pub(crate) fn address(lab: &Lab, place: usize) -> Ipv4Addr {
    lab.service_address(0, u8::try_from(place).expect("few groups") + 1)
}

/// The nodes that have a group, and its state, as a node tells it.
pub(crate) fn group(lab: &Lab, asked: &str, name: &str) -> Option<(Vec<String>, String)> {
    let group = look::get(lab, asked, &format!("/api/v1/groups/{name}"))?.json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let nodes = group["owners"].as_array().into_iter().flatten().map(text).collect();
    Some((nodes, text(&group["state"])))
}

/// Waits until a group is online on that node, and nothing is in progress.
pub(crate) fn wait_online(lab: &Lab, asked: &str, name: &str, on: &str) {
    wait_online_on(lab, asked, name, &[on]);
}

/// Waits until a group is online on one of those nodes, and nothing is in progress; answers which.
pub(crate) fn wait_online_on(lab: &Lab, asked: &str, name: &str, on: &[&str]) -> String {
    let what = format!("group {name} to be online on {}", on.join(" or "));
    lab.wait_for(&what, PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, name)?;
        let manager = look::get(lab, asked, "/api/v1/manager")?.json();
        let idle = manager["in_progress"].is_null() && manager["queue"].as_array()?.is_empty();
        let there = nodes.first().filter(|node| on.contains(&node.as_str()))?;
        (state == "ONLINE" && nodes.len() == 1 && idle).then(|| there.clone())
    })
    .unwrap_or_else(|error| {
        let groups = lab.vedette(asked, &["group", "list"]).map(|o| o.stdout).unwrap_or_default();
        panic!("{error}:\n{}{}", String::from_utf8_lossy(&groups), look::status(lab, asked))
    })
}

/// Runs again what failed of an event, as soon as that waits for an operator.
pub(crate) fn retry(lab: &Lab, asked: &str) {
    let failed = lab.wait_for("an event to wait for an operator", PATIENCE, |lab| {
        let manager = look::get(lab, asked, "/api/v1/manager")?.json();
        let aside = manager["set_aside"].as_array().into_iter().flatten();
        let mut all = aside.chain([&manager["in_progress"]]);
        all.any(|event| event["stage"] == "error").then_some(())
    });
    failed.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
    let retried = lab.vedette(asked, &["recover", "retry"]).expect("run");
    assert!(retried.status.success(), "{}", String::from_utf8_lossy(&retried.stderr));
}

/// A group `web` that may be on any node; answers its owner, and a prober that hears it.
fn rotating(lab: &Lab) -> (String, Prober) {
    apply(lab, &[("web", "rotating", &["n1", "n2", "n3"])]);
    let owner = wait_online_on(lab, "n1", "web", &["n1", "n2", "n3"]);
    let prober = Prober::start(lab, 0, address(lab, 0)).expect("a prober");
    wait_answer(&prober, owner[1..].parse().expect("n and a number"));
    (owner, prober)
}

/// Waits until `web` is online on another node than `owner`, and answers which.
fn wait_moved(lab: &Lab, owner: &str) -> String {
    let others: Vec<String> = lab.names().into_iter().filter(|name| name != owner).collect();
    let names: Vec<&str> = others.iter().map(String::as_str).collect();
    wait_online_on(lab, names[0], "web", &names)
}

/// Waits until clients have their answers of another node than before, and answers when that was.
fn handover(prober: &Prober, from: &str, to: &str) -> Handover {
    let number = |name: &str| name[1..].parse::<u16>().expect("n and a number");
    wait_answer(prober, number(to));
    let seen = prober.so_far().latest_handover().expect("one node after another");
    assert_eq!((seen.before, seen.after), (number(from), number(to)), "who had the address");
    seen
}

/// Ends the prober: nobody ever shared the address, and these nodes had it, in this order.
fn assert_one_owner(prober: Prober, owners: &[u16]) {
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    assert_eq!(answers.owners(), owners, "owners in order");
}

/// Waits until the prober hears an ordinary answer of that node from now on.
pub(crate) fn wait_answer(prober: &Prober, node: u16) {
    let (since, deadline) = (prober.now(), prober.now() + PATIENCE);
    while prober.so_far().answered_by(node, since).is_none() {
        assert!(prober.now() < deadline, "n{node} does not answer for the address");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// H24 cascading, H22, H26: the owner loses power, the next takes over, the home node comes back
/// and has it again; an incident tells it.
#[test]
fn a_cascading_group_follows_its_list_and_comes_home() {
    let lab = lab();
    apply(&lab, &[("web", "cascading", &["n1", "n2", "n3"])]);
    wait_online(&lab, "n2", "web", "n1");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, 1);
    lab.kill("n1", Victim::Power).expect("power off");
    wait_answer(&prober, 2);
    wait_online(&lab, "n2", "web", "n2");
    let incident = lab.json("n3", &["incident", "show", "-o", "json"]).expect("an incident");
    let text = incident.to_string();
    assert!(text.contains("node_down n1") && text.contains("lease is over"), "{incident:#}");
    lab.restart("n1").expect("power on");
    wait_answer(&prober, 1);
    wait_online(&lab, "n2", "web", "n1");
    assert_one_owner(prober, &[1, 2, 1]);
}

/// H24 rotating: it stays where it is when the old owner returns. H21: a node that is stopped with
/// takeover hands over; one that is stopped gracefully takes its groups along.
#[test]
fn a_rotating_group_stays_and_stops_are_told_apart() {
    let lab = lab();
    apply(&lab, &[("db", "rotating", &["n2", "n3"])]);
    let first = wait_online_on(&lab, "n1", "db", &["n2", "n3"]);
    let other = if first == "n2" { "n3" } else { "n2" };
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    let number = |name: &str| if name == "n2" { 2 } else { 3 };
    wait_answer(&prober, number(&first));
    let stop =
        lab.vedette("n1", &["stop", "--node", &first, "--mode", "takeover", "--yes"]).expect("run");
    assert!(stop.status.success(), "{}", String::from_utf8_lossy(&stop.stderr));
    wait_online(&lab, "n1", "db", other);
    wait_answer(&prober, number(other));
    let start = lab.vedette("n1", &["start", "--node", &first]).expect("run");
    assert!(start.status.success(), "{}", String::from_utf8_lossy(&start.stderr));
    lab.wait_for("the manager to be there again", PATIENCE, |lab| {
        let nodes = look::nodes(lab, "n1");
        let own = nodes.iter().find(|node| node["name"] == first.as_str())?;
        (own["manager"]["state"] == "stable").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", look::nodes(&lab, "n1")));
    wait_online(&lab, "n1", "db", other);
    assert_one_owner(prober, &[number(&first), number(other)]);

    let stop =
        lab.vedette("n1", &["stop", "--node", other, "--mode", "graceful", "--yes"]).expect("run");
    assert!(stop.status.success(), "{}", String::from_utf8_lossy(&stop.stderr));
    lab.wait_for("the group to be off", PATIENCE, |lab| {
        (group(lab, "n1", "db")?.1 == "OFFLINE").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let start = lab.vedette("n1", &["start", "--node", other]).expect("run");
    assert!(start.status.success(), "{}", String::from_utf8_lossy(&start.stderr));
    wait_online(&lab, "n1", "db", other);
}

/// Chapter 8: mutual takeover of two nodes, with a standby for both (H24).
#[test]
fn mutual_takeover_with_a_hot_standby() {
    let lab = lab();
    apply(&lab, &[("red", "cascading", &["n1", "n3"]), ("blue", "cascading", &["n2", "n3"])]);
    wait_online(&lab, "n3", "red", "n1");
    wait_online(&lab, "n3", "blue", "n2");
    let red = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    let blue = Prober::start(&lab, 0, address(&lab, 1)).expect("a prober");
    wait_answer(&red, 1);
    wait_answer(&blue, 2);
    lab.kill("n2", Victim::Power).expect("power off");
    wait_answer(&blue, 3);
    wait_online(&lab, "n3", "blue", "n3");
    wait_online(&lab, "n3", "red", "n1");
    lab.restart("n2").expect("power on");
    wait_answer(&blue, 2);
    assert_one_owner(red, &[1]);
    assert_one_owner(blue, &[2, 3, 2]);
}

/// Invariant 8: a node that is cut off from everybody lets go by itself, before another has it; its
/// agent and guard live all the time.
#[test]
fn an_isolated_owner_lets_go_before_another_takes_over() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    let before = truth::latest(&lab, "n1");
    // What it sends arrives, so the prober would hear it: only what it should hear is lost.
    lab.cut(&owner, Some("netb"), None).expect("a cut");
    lab.cut(&owner, Some("neta"), Some(Direction::In)).expect("a one-way cut");
    // It is heard all the time: that it has let go, its beats say themselves.
    let new = wait_moved(&lab, &owner);
    let seen = handover(&prober, &owner, &new);
    let truth = Truth {
        title: &format!("node {owner} is DISCONNECTED"),
        ground: "let go of it when its lease ended",
        group: "web",
        from: &owner,
        to: &new,
    };
    truth::assert_told(&lab, &new, before, &truth, (&prober, seen));
    lab.heal().expect("healed");
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
}

/// Both cables out: the majority starts the group no earlier than the lease allows, and when the
/// cables are back the loser stays without it.
#[test]
fn a_node_without_cables_loses_its_group_and_never_shares_it() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    lab.cut(&owner, Some("neta"), None).expect("a cut");
    lab.cut(&owner, Some("netb"), None).expect("a cut");
    let new = wait_moved(&lab, &owner);
    lab.heal().expect("healed");
    lab.wait_for("the loser to be back", PATIENCE, |lab| {
        (look::host(lab, &new, &owner) == "UP").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    wait_online(&lab, &new, "web", &new);
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
    assert_eq!(answers.owners().last(), new[1..].parse::<u16>().ok().as_ref());
}

/// Processes that are stopped for longer than the lease: guard, agent, both. The kernel closes the
/// address of whoever cannot act; the agent's own pause moves nothing.
#[test]
fn stopped_processes_never_make_two_owners() {
    let lab = lab();
    apply(&lab, &[("web", "rotating", &["n1", "n2", "n3"])]);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    for victim in [Victim::Guard, Victim::Both] {
        let mut owner = wait_online_on(&lab, "n1", "web", &["n1", "n2", "n3"]);
        // The hardest case: the director, whose guard grants the leases of all.
        let primary = look::get(&lab, "n1", "/api/v1/primary").expect("answered").json();
        let director = primary["name"].as_str().expect("a name").to_owned();
        if victim == Victim::Guard && director != owner {
            let moved = lab
                .vedette("n1", &["group", "move", "web", "--to", &director, "--yes", "--no-wait"])
                .expect("run");
            assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
            wait_online(&lab, "n1", "web", &director);
            owner = director;
        }
        lab.pause(&owner, victim).expect("paused");
        wait_moved(&lab, &owner);
        lab.resume(&owner).expect("resumed");
        crate::make_healthy(&lab);
    }
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
}

/// An agent that is killed costs no failover, and not one answer is given by anybody else; a guard
/// that is killed does.
#[test]
fn a_killed_agent_costs_nothing_and_a_killed_guard_moves_the_group() {
    let lab = lab();
    let (owner, prober) = rotating(&lab);
    let number = owner[1..].parse::<u16>().expect("n and a number");
    let before = truth::latest(&lab, "n1");
    lab.kill(&owner, Victim::Agent).expect("killed");
    crate::make_healthy(&lab);
    wait_online(&lab, "n1", "web", &owner);
    wait_answer(&prober, number);
    assert_eq!(prober.so_far().owners(), [number]);
    assert_eq!(truth::outages_after(&lab, "n1", before), Vec::<Value>::new());
    let before = truth::latest(&lab, "n1");
    lab.kill(&owner, Victim::Guard).expect("killed");
    let new = wait_moved(&lab, &owner);
    handover(&prober, &owner, &new);
    // Its agent sees the guard die and may say that it let go before anybody misses it.
    let told = truth::outages_after(&lab, &new, before);
    let of_web: Vec<_> = told.iter().filter(|outage| outage["group"] == "web").collect();
    let [outage] = of_web[..] else { panic!("one outage, not {told:#?}") };
    assert_eq!((&outage["from"], &outage["to"]), (&Value::from(owner), &Value::from(new)));
    assert!(outage["ended"].is_string(), "{outage:#}");
    let answers = prober.stop().expect("the prober ran");
    assert_eq!(answers.doubly_owned(), Vec::new(), "two nodes had the address");
}

/// H18: a script that fails on one node puts the cluster in substate error, with an alert that says
/// what it printed; `recover abort` ends it. A retry of an event that has ended is refused.
#[test]
fn a_script_that_fails_waits_for_an_operator() {
    let lab = lab();
    let script = lab.dir().join("fails");
    std::fs::write(&script, "#!/bin/sh\necho the disk is on fire\nexit 7\n").expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&script, mode).expect("made executable");
    let text = format!(
        "[events.group_move]\npre = [\"{}\"]\n\n[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\"]\n\n\
         [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
        script.display(),
        address(&lab, 0)
    );
    give(&lab, &text);
    let owner = wait_online_on(&lab, "n3", "web", &["n1", "n2"]);
    let number = owner[1..].parse::<u16>().expect("n and a number");
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number);
    let before = look::seq(&lab, "n3");
    let moved = lab.vedette("n3", &["group", "move", "web", "--yes", "--no-wait"]).expect("run");
    assert!(moved.status.success(), "{}", String::from_utf8_lossy(&moved.stderr));
    let failed = lab
        .wait_for("the failure", PATIENCE, |lab| {
            let records = look::records_after(lab, "n3", before);
            records.into_iter().find(|record| record["code"] == "EVENT_FAILED")
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    assert!(failed.to_string().contains("the disk is on fire"), "{failed:#}");
    let clusters = look::get(&lab, "n3", "/api/v1/clusters").expect("answered").json();
    assert!(clusters.to_string().contains("\"error\""), "{clusters:#}");
    give(&lab, &text.replace(&format!("pre = [\"{}\"]", script.display()), "pre = []"));
    lab.wait_for("the event to be continued", PATIENCE, |lab| {
        let _ = lab.vedette("n3", &["recover", "abort", "--yes"]);
        let manager = look::get(lab, "n3", "/api/v1/manager")?.json();
        manager["in_progress"].is_null().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    let told =
        lab.json("n3", &["incident", "show", "-o", "json"]).expect("an incident").to_string();
    for said in ["group_move web", "the disk is on fire", "abort"] {
        assert!(told.contains(said), "{said:?} is not told: {told}");
    }
    let late = lab.vedette("n3", &["recover", "retry"]).expect("run");
    assert_eq!(late.status.code(), Some(0), "{}", String::from_utf8_lossy(&late.stderr));
    let late = String::from_utf8_lossy(&late.stdout);
    assert_eq!(late, "Nothing had to be done: no event has failed.\n");
    wait_answer(&prober, number);
    assert_one_owner(prober, &[number]);
    give(&lab, "");
}
