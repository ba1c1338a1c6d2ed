//! Failures, and the one story that every surface tells of them.

use vedette_tests::lab::{Direction, Lab, Victim};

use crate::{PATIENCE, lab, look};

fn wait_for_host(lab: &Lab, asked: &str, name: &str, status: &str) {
    lab.wait_for(&format!("{name} {status} as {asked} sees it"), PATIENCE, |lab| {
        (look::host(lab, asked, name) == status).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, asked)));
}

fn wait_for_record(
    lab: &Lab,
    asked: &str,
    seq: u64,
    wanted: (&str, &str, &str),
) -> serde_json::Value {
    lab.wait_for(&format!("record {wanted:?} on {asked}"), PATIENCE, |lab| {
        look::find_record(lab, asked, seq, wanted)
    })
    .unwrap_or_else(|error| panic!("{error}:\n{:#?}", look::records_after(lab, asked, seq)))
}

/// Waits until a node's agent has been RUNNING for more than a second: what happens to one that was
/// adopted a moment ago is told differently (it starts, rather than fails).
fn wait_until_settled(lab: &Lab, name: &str) {
    lab.wait_for("a settled agent", PATIENCE, |lab| {
        let screen = lab.json("n1", &["status", "-o", "json"]).ok()?;
        let node = look::nodes(lab, "n1").into_iter().find(|node| node["name"] == name)?;
        let second = |text: &serde_json::Value| text.as_str().map(|text| text[..19].to_owned());
        (second(&screen["now"])? > second(&node["agent_since"])?).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    // The next whole second may have been near.
    let _ = lab.wait_for("one more look", std::time::Duration::from_millis(900), |_| None::<()>);
}

/// The node that is director, and the others.
fn director(lab: &Lab, asked: &str) -> (String, Vec<String>) {
    let director = lab
        .wait_for("a director", PATIENCE, |lab| {
            look::nodes(lab, asked)
                .iter()
                .find(|node| node["director"] == true)
                .and_then(|node| node["name"].as_str().map(str::to_owned))
        })
        .expect("a director");
    let others = lab.names().into_iter().filter(|name| *name != director).collect();
    (director, others)
}

/// Every surface of `asked` tells of a host change that is `record`.
fn assert_every_surface_tells(lab: &Lab, asked: &str, record: &serde_json::Value) {
    let name = record["subject"]["name"].as_str().expect("a name");
    let number = record["subject"]["node"].as_u64().expect("a number");
    let status = record["current"].as_str().expect("a status");
    let revision = record["revision"].as_u64().expect("a revision");
    let lower = status.to_lowercase();

    let answer = look::get(lab, asked, "/api/v1/nodes").expect("the API answers");
    assert!(answer.revision >= revision, "{asked}: {} < {revision}", answer.revision);
    assert_eq!(look::host(lab, asked, name), status, "API of {asked}");

    let metrics = look::get(lab, asked, "/metrics").expect("metrics").body;
    let series =
        format!("vedette_node_host_status{{cluster=\"lab\",node=\"{name}\",state=\"{lower}\"}} 1");
    assert!(metrics.contains(&series), "{series} is missing on {asked}");

    let walk = lab
        .wait_for("SNMP", PATIENCE, |lab| {
            let walk = look::walk(lab, asked);
            walk.contains(&format!("vedetteNodeHostStatus.{number} = {lower}")).then_some(walk)
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::walk(lab, asked)));
    assert!(walk.contains(&format!("vedetteNodeName.{number} = {name}")), "{walk}");

    let screen = look::status(lab, asked);
    assert!(screen.lines().any(|line| line.contains(name) && line.contains(status)), "{screen}");
}

/// H1, H4, A8, A9, A10, A11, V9: a node loses power. Both survivors agree, and SNMP, a received
/// notification, the metrics, the API, a watching client, the status screen, the history of both
/// and the alert script's log tell the same story at the same revision; then it comes back.
#[test]
fn power_off_is_one_story_on_every_surface() {
    let lab = lab();
    let survivors = ["n1", "n2"];
    let before = look::seq(&lab, "n1");
    let watcher = look::Watcher::start(&lab, "n2");
    lab.wait_for("the watcher's first event", PATIENCE, |_| {
        (!watcher.seen().is_empty()).then_some(())
    })
    .expect("watch begins with a snapshot");

    lab.kill("n3", Victim::Power).expect("n3 can be powered off");
    let down = wait_for_record(&lab, "n1", before, ("NODE_HOST", "n3", "DOWN"));
    assert_eq!(down["previous"], "UP");
    let cause = down["cause"].as_str().expect("a cause");
    assert!(cause.contains("neta") && cause.contains("netb"), "the evidence is named: {cause}");
    for survivor in survivors {
        wait_for_host(&lab, survivor, "n3", "DOWN");
        assert_every_surface_tells(&lab, survivor, &down);
        let same = wait_for_record(&lab, survivor, before, ("NODE_HOST", "n3", "DOWN"));
        assert_eq!(same, down, "history of {survivor}: same record, same hash, same revision");
    }
    assert_notified(&lab, &down);
    assert_watched(&lab, &watcher, &down);
    assert_alerted_once(&lab, &survivors, before, &down);

    lab.restart("n3").expect("n3 gets its power back");
    let up = wait_for_record(&lab, "n1", before, ("NODE_HOST", "n3", "UP"));
    assert!(up["seq"].as_u64() > down["seq"].as_u64());
    for node in ["n1", "n2", "n3"] {
        wait_for_host(&lab, node, "n3", "UP");
        assert_every_surface_tells(&lab, node, &up);
        assert_eq!(wait_for_record(&lab, node, before, ("NODE_HOST", "n3", "UP")), up);
    }
    assert_notified(&lab, &up);
    assert_watched(&lab, &watcher, &up);
    let compare = lab.json("n3", &["history", "compare", "-o", "json"]).expect("compare");
    let nodes = compare["nodes"].as_array().expect("nodes");
    assert!(nodes.iter().all(|node| node["equal"] == true), "{compare:#}");
}

fn assert_notified(lab: &Lab, record: &serde_json::Value) {
    let message = record["message"].as_str().expect("a message").to_owned();
    lab.wait_for("a notification with the message", PATIENCE, |lab| {
        look::traps(lab).contains(&message).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {message}\n{}", look::traps(lab)));
}

fn assert_watched(lab: &Lab, watcher: &look::Watcher, record: &serde_json::Value) {
    let hash = record["hash"].as_str().expect("a hash").to_owned();
    lab.wait_for("the record at the watching client", PATIENCE, |_| {
        watcher.seen().contains(&hash).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", watcher.seen()));
}

/// A14: the script ran for the record once in the whole cluster, and every node knows of it.
fn assert_alerted_once(lab: &Lab, nodes: &[&str], before: u64, record: &serde_json::Value) {
    let seq = record["seq"].as_u64().expect("a sequence number");
    let mention = format!("record {seq}:");
    for node in nodes {
        let of_alert = |lab: &Lab| {
            let records = look::records_after(lab, node, before);
            let mine = |record: &&serde_json::Value| {
                record["code"] == "ALERT_DELIVERED"
                    && record["message"].as_str().is_some_and(|text| text.contains(&mention))
            };
            records.iter().filter(mine).cloned().collect::<Vec<_>>()
        };
        lab.wait_for("the alert script's outcome", PATIENCE, |lab| {
            (!of_alert(lab).is_empty()).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, node)));
        let runs = of_alert(lab);
        assert_eq!(runs.len(), 1, "{runs:#?}");
        assert_eq!(runs[0]["current"], "exit status 0", "{runs:#?}");
    }
}

/// H4: one network of one node is cut, then one network of all nodes. No node is declared down, and
/// the log's leader stays.
#[test]
fn a_cut_network_brings_no_node_down() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    let (leader, _) = director(&lab, "n1");
    lab.cut("n2", Some("neta"), None).expect("a cable can be cut");
    wait_for_record(&lab, "n1", before, ("INTERFACE", "n2/neta", "DOWN"));
    lab.heal().expect("healed");
    wait_for_record(&lab, "n1", before, ("INTERFACE", "n2/neta", "UP"));

    let middle = look::seq(&lab, "n1");
    for node in ["n1", "n2", "n3"] {
        lab.cut(node, Some("netb"), None).expect("a cable can be cut");
    }
    wait_for_record(&lab, "n1", middle, ("NETWORK", "netb", "DOWN"));
    lab.heal().expect("healed");
    wait_for_record(&lab, "n1", middle, ("NETWORK", "netb", "UP"));

    let hosts: Vec<_> = look::records_after(&lab, "n1", before)
        .into_iter()
        .filter(|record| record["code"] == "NODE_HOST" || record["code"] == "DIRECTOR_ELECTED")
        .collect();
    assert!(hosts.is_empty(), "{hosts:#?}");
    assert_eq!(director(&lab, "n1").0, leader);
}

/// H4: one direction of one network fails; the link is ONE_WAY, the host stays up.
#[test]
fn one_way_loss_is_seen_as_what_it_is() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    lab.cut("n3", Some("neta"), Some(Direction::Out)).expect("a direction can be cut");
    wait_for_record(&lab, "n1", before, ("LINK", "n1-n3/neta", "ONE_WAY"));
    assert_eq!(look::host(&lab, "n1", "n3"), "UP");
    lab.heal().expect("healed");
    wait_for_record(&lab, "n1", before, ("LINK", "n1-n3/neta", "UP"));
}

/// A9: an agent is killed: its host stays UP, its agent is DOWN and then RUNNING again, and nothing
/// else happens.
#[test]
fn a_killed_agent_is_not_a_dead_node() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    let (_, others) = director(&lab, "n1");
    let victim = others.last().expect("a node that is not the director").clone();
    wait_until_settled(&lab, &victim);
    lab.kill(&victim, Victim::Agent).expect("an agent can be killed");
    wait_for_record(&lab, "n1", before, ("NODE_AGENT", &victim, "RUNNING"));
    let records = look::records_after(&lab, "n1", before);
    let story: Vec<_> = records
        .iter()
        .filter(|record| record["code"] == "NODE_AGENT")
        .map(|record| record["current"].as_str().unwrap_or_default())
        .collect();
    assert_eq!(story.first(), Some(&"DOWN"), "{story:?}");
    let other: Vec<_> = records
        .iter()
        .filter(|record| {
            matches!(
                record["code"].as_str(),
                Some("NODE_HOST" | "NETWORK" | "INTERFACE" | "LINK" | "DIRECTOR_ELECTED")
            )
        })
        .collect();
    assert!(other.is_empty(), "{other:#?}");
}

/// A11: the director loses power; the others agree as fast as on any other node, and one of them
/// is director.
#[test]
fn the_director_can_die_too() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    let (victim, others) = director(&lab, "n1");
    let first = &others[0];
    lab.kill(&victim, Victim::Power).expect("the director can be powered off");
    let down = wait_for_record(&lab, first, before, ("NODE_HOST", &victim, "DOWN"));
    for other in &others {
        wait_for_host(&lab, other, &victim, "DOWN");
        assert_eq!(wait_for_record(&lab, other, before, ("NODE_HOST", &victim, "DOWN")), down);
    }
    let (successor, _) = director(&lab, first);
    assert!(others.contains(&successor), "{successor}");
}

/// A8: a node that is cut off from every network says so itself, without a quorum it claims nothing
/// about the cluster; the others declare it down.
#[test]
fn a_cut_off_node_says_so_itself() {
    let lab = lab();
    lab.cut("n3", None, None).expect("all cables can be cut");
    wait_for_host(&lab, "n1", "n3", "DOWN");
    lab.wait_for("n3 to know that it is cut off", PATIENCE, |lab| {
        let local = look::get(lab, "n3", "/api/v1/local")?.json();
        (local["host_status"] == "DISCONNECTED" && local["quorate"] == false).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n3")));
    let metrics = look::get(&lab, "n3", "/metrics").expect("metrics").body;
    assert!(metrics.contains("vedette_cluster_state{cluster=\"lab\",state=\"unknown\"} 1"));
    lab.heal().expect("healed");
    wait_for_host(&lab, "n3", "n3", "UP");
}

/// V10: all networks are away for some seconds, as when the switches restart. Nobody can decide
/// anything then; afterwards the cluster goes on, and does not take that for a new start.
#[test]
fn a_restart_of_all_switches_is_no_new_start() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    for node in ["n1", "n2", "n3"] {
        lab.cut(node, None, None).expect("all cables can be cut");
    }
    for node in ["n1", "n2", "n3"] {
        lab.wait_for("every node to know that it has no quorum", PATIENCE, |lab| {
            (look::get(lab, node, "/api/v1/local")?.json()["quorate"] == false).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, node)));
    }
    lab.heal().expect("healed");
    lab.wait_for("a healthy cluster", PATIENCE, |lab| look::is_healthy(lab, "n1").then_some(()))
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    let told: Vec<_> = look::records_after(&lab, "n1", before)
        .into_iter()
        .filter(|record| {
            matches!(record["code"].as_str(), Some("CLUSTER_STATE" | "CLUSTER_SEEDED"))
        })
        .collect();
    assert!(told.is_empty(), "{told:#?}");
}

/// V10: after everybody lost power, a starting cluster waits for its nodes and says for whom.
#[test]
fn a_starting_cluster_waits_for_its_nodes() {
    let lab = lab();
    for node in ["n1", "n2", "n3"] {
        lab.kill(node, Victim::Power).expect("a node can be powered off");
    }
    for node in ["n1", "n2"] {
        lab.restart(node).expect("a node gets its power back");
    }
    lab.wait_for("n1 to wait for n3", PATIENCE, |lab| {
        let cluster = look::get(lab, "n1", "/api/v1/clusters")?.json();
        let cluster = cluster.as_array().map_or(cluster.clone(), |all| all[0].clone());
        let waits = look::status(lab, "n1").contains("n3");
        (cluster["quorate"] == true && cluster["seeded"] == false && waits).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    lab.restart("n3").expect("n3 gets its power back");
    lab.wait_for("the cluster to be seeded", PATIENCE, |lab| {
        look::is_healthy(lab, "n1").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
}

/// A19: a daemon that is stopped by request leaves cleanly: the cluster knows it from a crash.
#[test]
fn a_clean_departure_is_no_crash() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    lab.stop("n2").expect("a daemon can be stopped");
    let down = wait_for_record(&lab, "n1", before, ("NODE_HOST", "n2", "DOWN"));
    assert_eq!(down["severity"], "notice", "{down:#}");
}
