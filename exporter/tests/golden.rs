//! The same cluster on every route, as files that a person can read; and one test that compares
//! the facts in them. `UPDATE_EXPECT=1` writes the files anew.

mod common;

use std::path::PathBuf;
use std::time::Duration;

use common::{Stage, get};
use serde_json::Value;
use vedette_core::command::GroupCommand;
use vedette_core::fixture::Fixture;
use vedette_core::id::NodeNumber;

/// Every route whose answer is a golden file, and the file.
const GOLDEN: &[(&str, &str)] = &[
    ("/metrics", "metrics.txt"),
    ("/api/v1/status", "status.json"),
    ("/api/v1/clusters", "clusters.json"),
    ("/api/v1/nodes", "nodes.json"),
    ("/api/v1/nodes/n3", "node.json"),
    ("/api/v1/nodes/2/route", "route.json"),
    ("/api/v1/local", "local.json"),
    ("/api/v1/primary", "primary.json"),
    ("/api/v1/networks", "networks.json"),
    ("/api/v1/interfaces", "interfaces.json"),
    ("/api/v1/links", "links.json"),
    ("/api/v1/ports", "ports.json"),
    ("/api/v1/alerts", "alerts.json"),
    ("/api/v1/events?severity=warning", "events.json"),
    ("/api/v1/addresses/10.91.0.3/available", "available.json"),
    ("/api/v1/nodes/n9", "problem.json"),
    ("/api/v1/incidents/last", "incident.json"),
];

/// The same for the cluster at its busiest: groups, an event in progress, failures, maintenance.
const BUSY: &[(&str, &str)] = &[
    ("/metrics", "busy/metrics.txt"),
    ("/api/v1/status", "busy/status.json"),
    ("/api/v1/groups/db", "busy/group.json"),
    ("/api/v1/groups/web/location", "busy/location.json"),
    ("/api/v1/groups/logs/location", "busy/location_concurrent.json"),
    ("/api/v1/manager", "busy/manager.json"),
    ("/api/v1/addresses/10.92.0.50/available", "busy/service_address.json"),
    ("/api/v1/lb/web/active", "busy/lb_active.json"),
    ("/api/v1/lb/logs/active", "busy/lb_logs.txt"),
    ("/api/v1/groups/mail", "busy/problem.json"),
];

/// What rules watch.
const WATCHED: &[(&str, &str)] = &[("/api/v1/monitors", "watched/monitors.json")];

/// The busy cluster on a node that lost all others: UNKNOWN of what they would have to confirm, and what
/// was known last beside it.
const ALONE: &[(&str, &str)] = &[
    ("/metrics", "alone/metrics.txt"),
    ("/api/v1/status", "alone/status.json"),
    ("/api/v1/clusters", "alone/clusters.json"),
    ("/api/v1/nodes/n1", "alone/node_itself.json"),
    ("/api/v1/nodes/n1/route", "alone/route_to_itself.json"),
    ("/api/v1/nodes/n2", "alone/node.json"),
    ("/api/v1/nodes/n2/route", "alone/route.json"),
    ("/api/v1/local", "alone/local.json"),
    ("/api/v1/local/records", "alone/records.json"),
    ("/api/v1/primary", "alone/primary.json"),
    ("/api/v1/networks/neta", "alone/network.json"),
    ("/api/v1/interfaces", "alone/interfaces.json"),
    ("/api/v1/links", "alone/links.json"),
    ("/api/v1/ports", "alone/ports.json"),
    ("/api/v1/groups/db", "alone/group.json"),
    ("/api/v1/groups/logs/location", "alone/location.json"),
    ("/api/v1/lb/logs/online", "alone/lb_online.json"),
    ("/api/v1/manager", "alone/manager.json"),
    ("/api/v1/alerts", "alone/alerts.json"),
    ("/api/v1/monitors", "alone/monitors.json"),
    ("/api/v1/addresses/10.92.0.50/available", "alone/service_address.json"),
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// H40, H41, A10: what the API and the metrics page say of the example cluster.
#[tokio::test]
async fn golden_answers() {
    compare(GOLDEN, Stage::one_down).await;
}

/// H29 to H33: monitors, their values, and rules that have fired, on the route and as metrics.
#[tokio::test]
async fn golden_answers_of_what_is_watched() {
    compare(WATCHED, Stage::watched).await;
    let page = get(&Stage::watched().router(), "/metrics").await.body;
    for line in [
        "vedette_monitor_works{cluster=\"prod\",node=\"n1\",monitor=\"programs\"} 1",
        "vedette_monitor_works{cluster=\"prod\",node=\"n1\",monitor=\"file systems\"} 0",
        "vedette_rule_fired{cluster=\"prod\",rule=\"UE_RWHOD\"} 1",
        "vedette_rule_fired{cluster=\"prod\",rule=\"UE_QUEUE\"} 0",
        "vedette_monitors_failed{cluster=\"prod\"} 1",
        "instance=\"NodeNum=1;MountPoint=/\"} 41.5",
        "UserName=root\"} 1",
    ] {
        assert!(page.contains(line), "{line} is missing:\n{page}");
    }
}

/// H11, H24: manager, groups, resources, failures on every route.
#[tokio::test]
async fn golden_answers_of_a_busy_cluster() {
    compare(BUSY, Stage::busy).await;
}

/// T2: what a node says that lost all others.
#[tokio::test]
async fn golden_answers_of_a_node_alone() {
    compare(ALONE, Stage::alone).await;
}

/// T2: without a quorum all routes and the metrics page agree that nothing of others is known, whatever
/// the log said last: director, votes, quorum, hosts, groups, events.
#[tokio::test]
async fn all_routes_agree_that_nothing_is_known() {
    let router = Stage::alone().router();
    let page = get(&router, "/metrics").await.body;
    let status = get(&router, "/api/v1/status").await.json();
    let (cluster, own) = (&status["cluster"], &status["local"]);
    assert_eq!(
        (&status["known"], &cluster["known"], &own["knows"]),
        (&false.into(), &false.into(), &false.into())
    );
    assert_eq!(status["as_of"], own["unknown_since"]);
    assert_eq!((&cluster["director"], &own["director"]), (&Value::Null, &false.into()));
    for (series, value) in [
        (r#"vedette_nodes_up{cluster="prod"}"#, &cluster["nodes_up"]),
        (r#"vedette_votes{cluster="prod",type="up"}"#, &cluster["redundancy"]["voters_up"]),
        (
            r#"vedette_redundancy_remaining{cluster="prod",scope="quorum"}"#,
            &cluster["redundancy"]["quorum_remaining"],
        ),
        (
            r#"vedette_network_members{cluster="prod",network="neta"}"#,
            &status["networks"][0]["nodes_in_group"],
        ),
    ] {
        assert!(metric(&page, series).is_nan() && value.is_null(), "{series}");
    }
    for node in status["nodes"].as_array().expect("nodes").iter().filter(|it| it["local"] == false)
    {
        assert_eq!((&node["host_status"], &node["director"]), (&"UNKNOWN".into(), &false.into()));
        assert!(node["last_known"]["host_status"].is_string(), "{node}");
        let name = node["name"].as_str().expect("a name");
        let labels = format!(r#"cluster="prod",node="{name}""#);
        assert_eq!(
            metric(&page, &format!(r#"vedette_node_host_status{{{labels},state="unknown"}}"#)),
            1.0
        );
        assert_eq!(metric(&page, &format!("vedette_director{{{labels}}}")), 0.0);
    }
    let groups = status["groups"].as_array().expect("groups");
    assert!(groups.len() > 2, "{groups:?}");
    for group in groups {
        assert_eq!((&group["state"], &group["owner"]), (&"UNKNOWN".into(), &Value::Null));
        assert!(group["last_known"]["state"].is_string() && group["standbys"].is_null());
        let name = group["name"].as_str().expect("a name");
        let series =
            format!(r#"vedette_group_state{{cluster="prod",group="{name}",state="unknown"}}"#);
        assert_eq!(metric(&page, &series), 1.0);
        let online = get(&router, &format!("/api/v1/lb/{name}/online")).await;
        assert_eq!(online.status.as_u16(), 503, "{name}");
    }
    assert_eq!(status["manager"]["in_progress"], Value::Null);
    assert_eq!(metric(&page, r#"vedette_event_stage{cluster="prod",state="unknown"}"#), 1.0);
    nothing_is_claimed(&page, &status, &get(&router, "/api/v1/alerts").await.json());
    assert_eq!(metric(&page, r#"vedette_local_condition{cluster="prod",code="quorum_lost"}"#), 1.0);
    assert_eq!(metric(&page, r#"vedette_local_condition{cluster="prod",code="disk_full"}"#), 0.0);
    assert_eq!(own["conditions"][0]["code"], "QUORUM_LOST");
}

/// What the cluster decided last is no fact of now: `null` on every route is NaN on the metrics page, never
/// `false`, 0 or an empty list.
fn nothing_is_claimed(page: &str, status: &Value, alerts: &Value) {
    let unknown = |series: String, value: &Value| {
        assert!(metric(page, &series).is_nan() && value.is_null(), "{series}: {value}");
    };
    let manager = &status["manager"];
    for (family, value) in [
        ("vedette_cluster_maintenance", &manager["maintenance"]),
        ("vedette_event_queue_length", &manager["queue"]),
        ("vedette_fencing_pending", &manager["fencing"]),
        ("vedette_alerts_pending", &alerts["pending"]),
        ("vedette_alerts_pending", &status["cluster"]["alerts_pending"]),
        ("vedette_seeded", &status["cluster"]["seeded"]),
    ] {
        unknown(format!(r#"{family}{{cluster="prod"}}"#), value);
    }
    for key in ["maintenance", "fired"] {
        assert_eq!(status[key], Value::Null, "{key}");
    }
    for node in status["nodes"].as_array().expect("nodes") {
        let (name, own) = (node["name"].as_str().expect("a name"), &node["manager"]);
        for (family, value) in [
            ("vedette_node_in_jeopardy", &node["jeopardy"]),
            ("vedette_node_maintenance", &own["maintenance"]),
            ("vedette_manager_joined", &own["joined"]),
        ] {
            unknown(format!(r#"{family}{{cluster="prod",node="{name}"}}"#), value);
        }
        for key in ["stopped", "backing", "watchdog"] {
            assert_eq!(own[key], Value::Null, "{key} of {name}");
        }
        assert_eq!(node["incident"], Value::Null, "{name}");
    }
    for group in status["groups"].as_array().expect("groups") {
        let name = group["name"].as_str().expect("a name");
        for (family, key) in [
            ("vedette_group_maintenance", "maintenance"),
            ("vedette_group_wanted_offline", "wanted_offline"),
            ("vedette_group_blocked", "blocked"),
        ] {
            unknown(format!(r#"{family}{{cluster="prod",group="{name}"}}"#), &group[key]);
        }
        for key in ["preferred", "held_for", "waits_for", "last", "also_on", "avoid", "fails"] {
            assert_eq!(group[key], Value::Null, "{key} of {name}");
        }
    }
    let peers = status["local"]["peers"].as_array().expect("peers");
    assert!(!peers.is_empty());
    for peer in peers {
        let node = status["nodes"].as_array().expect("nodes").iter();
        let node = node.clone().find(|node| node["number"] == peer["number"]).expect("a member");
        assert_eq!((&peer["position"], &node["log_position"]), (&Value::Null, &Value::Null));
        assert_eq!(peer["log_stalled"], Value::Null);
    }
}

async fn compare(golden: &[(&str, &'static str)], stage: impl Fn() -> Stage) {
    let mut wrong = Vec::new();
    for (path, name) in golden {
        // A router of its own for each: the metrics page counts requests.
        let answer = get(&stage().router(), path).await;
        let text = match serde_json::from_str::<Value>(&answer.body) {
            Ok(json) => format!("{json:#}\n"),
            Err(_) => answer.body,
        };
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(file(name), &text).expect("the golden file can be written");
        }
        if std::fs::read_to_string(file(name)).unwrap_or_default() != text {
            wrong.push(*name);
        }
    }
    assert!(wrong.is_empty(), "{wrong:?} differ; UPDATE_EXPECT=1 writes them anew, read the diff");
}

/// The value of a series of the metrics page.
fn metric(page: &str, series: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(&format!("{series} ")));
    let line = line.unwrap_or_else(|| panic!("no series {series}"));
    line.rsplit(' ').next().and_then(|value| value.parse().ok()).expect("a number")
}

async fn json(path: &str) -> Value {
    get(&Stage::one_down().router(), path).await.json()
}

/// One truth: metrics, status, nodes, networks, ports and events agree on every fact.
#[tokio::test]
async fn all_routes_agree() {
    let page = get(&Stage::one_down().router(), "/metrics").await.body;
    let status = json("/api/v1/status").await;
    let cluster = &json("/api/v1/clusters").await[0];
    assert_eq!(&status["cluster"], cluster);
    assert_eq!(status["nodes"], json("/api/v1/nodes").await);
    assert_eq!(status["networks"], json("/api/v1/networks").await);
    assert_eq!(status["local"], json("/api/v1/local").await);

    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} is no number"));
    let same =
        |series: &str, value: &Value| assert_eq!(metric(&page, series), number(value), "{series}");
    same(r#"vedette_revision{cluster="prod"}"#, &cluster["revision"]);
    same(r#"vedette_nodes{cluster="prod"}"#, &cluster["nodes"]);
    same(r#"vedette_nodes_up{cluster="prod"}"#, &cluster["nodes_up"]);
    same(r#"vedette_history_sequence{cluster="prod"}"#, &cluster["seq"]);
    same(r#"vedette_alerts_pending{cluster="prod"}"#, &cluster["alerts_pending"]);
    let left = &cluster["redundancy"];
    same(
        r#"vedette_redundancy_remaining{cluster="prod",scope="quorum"}"#,
        &left["quorum_remaining"],
    );
    same(r#"vedette_votes{cluster="prod",type="up"}"#, &left["voters_up"]);

    for node in status["nodes"].as_array().expect("nodes") {
        let name = node["name"].as_str().expect("a name");
        let host = node["host_status"].as_str().expect("a status").to_lowercase();
        let agent = node["agent_status"].as_str().expect("a status").to_lowercase();
        let is = |family: &str, state: &str| {
            let labels = format!(r#"cluster="prod",node="{name}",state="{state}""#);
            assert_eq!(metric(&page, &format!("{family}{{{labels}}}")), 1.0, "{family} {labels}");
        };
        is("vedette_node_host_status", &host);
        is("vedette_node_agent_status", &agent);
        let director = f64::from(u8::from(node["director"] == true));
        let series = format!(r#"vedette_director{{cluster="prod",node="{name}"}}"#);
        assert_eq!(metric(&page, &series), director);
    }
    for network in status["networks"].as_array().expect("networks") {
        let name = network["name"].as_str().expect("a name");
        let series = format!(r#"vedette_network_members{{cluster="prod",network="{name}"}}"#);
        same(&series, &network["nodes_in_group"]);
        let ports = json("/api/v1/ports").await;
        let port = ports.as_array().and_then(|all| all.iter().find(|port| port["name"] == name));
        assert_eq!(port.map(|port| &port["members"]), Some(&network["members"]));
    }
    let events = json("/api/v1/events?code=NODE_HOST&severity=error").await;
    let last = events["events"].as_array().and_then(|all| all.last()).expect("an event");
    assert_eq!(last["subject"]["name"], "n3");
    assert_eq!(json("/api/v1/alerts").await["pending"][0]["event"], *last);
    let verdict = status["verdict"].as_str().expect("a verdict");
    assert!(verdict.contains(last["cause"].as_str().expect("a cause")), "{verdict}");
}

/// One truth: groups, manager and verdict agree on all routes and the metrics page.
#[tokio::test]
async fn all_routes_agree_on_groups() {
    let router = Stage::busy().router();
    let page = get(&router, "/metrics").await.body;
    let status = get(&router, "/api/v1/status").await.json();
    assert_eq!(status["groups"], get(&router, "/api/v1/groups").await.json());
    assert_eq!(status["manager"], get(&router, "/api/v1/manager").await.json());
    for group in status["groups"].as_array().expect("groups") {
        let name = group["name"].as_str().expect("a name");
        let state = group["state"].as_str().expect("a state").to_lowercase();
        let series =
            format!(r#"vedette_group_state{{cluster="prod",group="{name}",state="{state}"}}"#);
        assert_eq!(metric(&page, &series), 1.0);
        let blocked = format!(r#"vedette_group_blocked{{cluster="prod",group="{name}"}}"#);
        assert_eq!(metric(&page, &blocked) > 0.0, group["blocked"].is_object());
        for owner in group["owners"].as_array().expect("owners") {
            let owner = owner.as_str().expect("a name");
            let series =
                format!(r#"vedette_group_owner{{cluster="prod",group="{name}",node="{owner}"}}"#);
            assert_eq!(metric(&page, &series), 1.0);
        }
        let location = get(&router, &format!("/api/v1/groups/{name}/location")).await.json();
        assert_eq!(location["state"], group["state"]);
    }
    for node in status["nodes"].as_array().expect("nodes") {
        let (name, own) = (node["name"].as_str().expect("a name"), &node["manager"]);
        let state = own["state"].as_str().expect("a state");
        let series =
            format!(r#"vedette_manager_state{{cluster="prod",node="{name}",state="{state}"}}"#);
        assert_eq!(metric(&page, &series), 1.0);
    }
    let event = &status["manager"]["in_progress"];
    assert_eq!(
        metric(&page, r#"vedette_event_step{cluster="prod"}"#),
        event["step"].as_f64().expect("a step")
    );
    let age = metric(&page, r#"vedette_event_age_seconds{cluster="prod"}"#);
    assert_eq!(age, event["age_ms"].as_f64().expect("an age") / 1e3);
}

/// A takeover that waits for evidence does so on the metrics page too, until there is some.
#[tokio::test]
async fn r7_a_takeover_that_waits_is_in_the_metrics() {
    let mut fixture = Fixture::with_groups();
    let node = fixture.state.groups["web"].owner().expect("an owner");
    fixture.node_down(node, "silent");
    let waits = |group: &str| {
        format!(r#"vedette_group_waits_for_evidence{{cluster="prod",group="{group}"}}"#)
    };
    let groups = ["web".to_owned()].into();
    for (command, expected) in [
        (GroupCommand::Waits { node, groups, why: "it could not stop it".into() }, 1.0),
        (GroupCommand::ConfirmOff { node }, 0.0),
    ] {
        fixture.group(command);
        let view = fixture.view(NodeNumber(2));
        let page =
            get(&Stage::showing(view, Vec::new(), Duration::ZERO).router(), "/metrics").await.body;
        assert_eq!((metric(&page, &waits("web")), metric(&page, &waits("batch"))), (expected, 0.0));
    }
}
