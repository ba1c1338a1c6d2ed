//! Situations × surfaces: what is told when things are worst, on real daemons.
//!
//! Each situation is made, one node is asked, and what each of its surfaces answers is compared with the
//! same expected facts. A surface may leave out what it cannot say, but nothing that it says may differ.
//! That the comparison can fail is shown in the same run: what each surface told while all was well is
//! what it would tell if it showed the last known state as the present one, and that must be found wrong.

use std::collections::BTreeMap;

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use crate::failover::{address, give, wait_online_on};
use crate::{PATIENCE, lab, lab_of_five, look};

/// What a node is expected to tell, or a surface tells: statuses by name, in capitals.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Facts {
    /// It knows the present state of the cluster.
    knows: Option<bool>,
    /// The director that it names: none, if it names nobody.
    director: Option<Option<String>>,
    hosts: BTreeMap<String, String>,
    groups: BTreeMap<String, String>,
    networks: BTreeMap<String, String>,
    /// Conditions of its own.
    conditions: Option<Vec<String>>,
    /// The exit status of a command that shows it.
    exit: Option<i32>,
}

/// A stream begins with its snapshot at once; a node that is starting is asked again.
const SNAPSHOT: std::time::Duration = std::time::Duration::from_secs(2);

/// One surface: its name, and how it is read.
type Surface = (&'static str, fn(&Lab, &str) -> Option<Facts>);

const SURFACES: &[Surface] = &[
    ("API", api),
    ("SSE", sse),
    ("metrics", metrics),
    ("SNMP", snmp),
    ("status", status),
    ("group list", group_list),
];

impl Facts {
    /// What `told` says otherwise than expected.
    fn contradictions(&self, told: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, wanted: &dyn std::fmt::Debug, is: &dyn std::fmt::Debug| {
            let (wanted, is) = (format!("{wanted:?}"), format!("{is:?}"));
            if wanted != is {
                found.push(format!("{what}: {is}, expected {wanted}"));
            }
        };
        if let (Some(wanted), Some(is)) = (self.knows, told.knows) {
            compare("knows", &wanted, &is);
        }
        if let (Some(wanted), Some(is)) = (&self.director, &told.director) {
            compare("director", wanted, is);
        }
        if let (Some(wanted), Some(is)) = (self.exit, told.exit) {
            compare("exit status", &wanted, &is);
        }
        for (kind, wanted, is) in [
            ("host", &self.hosts, &told.hosts),
            ("group", &self.groups, &told.groups),
            ("network", &self.networks, &told.networks),
        ] {
            for (name, status) in wanted {
                if let Some(told) = is.get(name) {
                    compare(&format!("{kind} {name}"), status, told);
                }
            }
        }
        if let (Some(wanted), Some(is)) = (&self.conditions, &told.conditions) {
            for code in wanted.iter().filter(|code| !is.contains(code)) {
                found.push(format!("condition {code} is not told"));
            }
        }
        found
    }

    /// Everything but the node itself is unknown.
    fn unknown(lab: &Lab, asked: &str, own: &str) -> Self {
        let host = |name: &String| {
            let status = if name == asked { own } else { "UNKNOWN" };
            (name.clone(), status.to_owned())
        };
        Self {
            knows: Some(false),
            director: Some(None),
            hosts: lab.names().iter().map(host).collect(),
            groups: [("web".to_owned(), "UNKNOWN".to_owned())].into(),
            exit: Some(3),
            ..Self::default()
        }
    }
}

fn texts(rows: &Value, name: &str, status: &str) -> BTreeMap<String, String> {
    let text = |row: &Value, key: &str| row[key].as_str().map(str::to_owned);
    let pair = |row: &Value| Some((text(row, name)?, text(row, status)?));
    rows.as_array().into_iter().flatten().filter_map(pair).collect()
}

/// The facts in the documents of nodes, groups, networks and cluster.
fn documents(nodes: &Value, groups: &Value, networks: &Value, cluster: &Value) -> Facts {
    let directs = |row: &&Value| row["director"] == true;
    let director = nodes.as_array().into_iter().flatten().find(directs);
    Facts {
        knows: cluster["status"].as_str().map(|status| status != "unknown"),
        director: Some(director.and_then(|row| row["name"].as_str()).map(str::to_owned)),
        hosts: texts(nodes, "name", "host_status"),
        groups: texts(groups, "name", "state"),
        networks: texts(networks, "name", "status"),
        ..Facts::default()
    }
}

fn codes(local: &Value) -> Option<Vec<String>> {
    let code = |row: &Value| row["code"].as_str().map(str::to_lowercase);
    Some(local["conditions"].as_array()?.iter().filter_map(code).collect())
}

fn api(lab: &Lab, asked: &str) -> Option<Facts> {
    let get = |path: &str| look::get(lab, asked, path).map(|answer| answer.json());
    let cluster = get("/api/v1/clusters")?;
    let mut facts = documents(
        &get("/api/v1/nodes")?,
        &get("/api/v1/groups")?,
        &get("/api/v1/networks")?,
        &cluster[0],
    );
    let local = get("/api/v1/local")?;
    facts.conditions = codes(&local);
    // Two places say who directs: they must not differ.
    let primary = get("/api/v1/primary")?;
    let named = primary["name"].as_str().map(str::to_owned);
    if Some(named.clone()) != facts.director {
        facts.director = Some(Some(format!("{:?} and {named:?}", facts.director)));
    }
    Some(facts)
}

fn screen(document: &Value) -> Facts {
    let mut facts = documents(
        &document["nodes"],
        &document["groups"],
        &document["networks"],
        &document["cluster"],
    );
    facts.conditions = codes(&document["local"]);
    facts
}

fn sse(lab: &Lab, asked: &str) -> Option<Facts> {
    let watcher = look::Watcher::start(lab, asked);
    let snapshot = lab
        .wait_for("the stream's snapshot", SNAPSHOT, |_| {
            let seen = watcher.seen();
            let (_, rest) = seen.split_once("event: snapshot")?;
            let (_, data) = rest.split_once("data: ")?;
            let (line, _) = data.split_once("\n\n")?;
            serde_json::from_str::<Value>(line).ok()
        })
        .ok()?;
    Some(screen(&snapshot))
}

fn status(lab: &Lab, asked: &str) -> Option<Facts> {
    let output = lab.vedette(asked, &["status", "-o", "json"]).ok()?;
    let document: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(Facts { exit: output.status.code(), ..screen(&document) })
}

fn group_list(lab: &Lab, asked: &str) -> Option<Facts> {
    let output = lab.vedette(asked, &["group", "list"]).ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let row = text.lines().find(|line| line.split_whitespace().next() == Some("web"))?;
    let state = row.split_whitespace().nth(1)?.to_owned();
    let groups = [("web".to_owned(), state)].into();
    Some(Facts { groups, exit: output.status.code(), ..Facts::default() })
}

/// The series of a family that are 1: the value of `key`, and the state in capitals.
fn ones(page: &str, family: &str, key: &str) -> BTreeMap<String, String> {
    let label = |line: &str, name: &str| -> Option<String> {
        let (_, rest) = line.split_once(&format!("{name}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    page.lines()
        .filter(|line| line.starts_with(&format!("{family}{{")) && line.ends_with(" 1"))
        .filter_map(|line| {
            let state = label(line, "state").unwrap_or_default().to_uppercase();
            Some((label(line, key)?, state))
        })
        .collect()
}

fn metrics(lab: &Lab, asked: &str) -> Option<Facts> {
    let page = look::get(lab, asked, "/metrics")?.body;
    let cluster = ones(&page, "vedette_cluster_state", "cluster");
    let director = ones(&page, "vedette_node_director", "node");
    let conditions = ones(&page, "vedette_local_condition", "code");
    Some(Facts {
        knows: cluster.values().next().map(|state| state != "UNKNOWN"),
        director: Some(director.into_keys().next()),
        hosts: ones(&page, "vedette_node_host_status", "node"),
        groups: ones(&page, "vedette_group_state", "group"),
        networks: ones(&page, "vedette_network_status", "network"),
        conditions: Some(conditions.into_keys().collect()),
        exit: None,
    })
}

/// Rows of a table in a walk: the values of `name`, with those of `status`.
fn column(walk: &str, name: &str, status: &str) -> BTreeMap<String, String> {
    let cells = |object: &str| -> BTreeMap<String, String> {
        let prefix = format!("{object}.");
        let lines = walk.lines().filter_map(|line| line.strip_prefix(&prefix));
        let pair = |line: &str| {
            let (index, value) = line.split_once(" = ")?;
            Some((index.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
        };
        lines.filter_map(pair).collect()
    };
    let states = cells(status);
    cells(name)
        .into_iter()
        .filter_map(|(index, name)| Some((name, states.get(&index)?.to_uppercase())))
        .collect()
}

fn snmp(lab: &Lab, asked: &str) -> Option<Facts> {
    let walk = look::walk(lab, asked);
    let scalar = |object: &str| {
        let prefix = format!("{object}.0 = ");
        walk.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    let director = scalar("vedetteDirectorName").map(|name| name.trim_matches('"').to_owned());
    Some(Facts {
        knows: Some(scalar("vedetteClusterState")? != "unknown"),
        director: Some(director.filter(|name| !name.is_empty())),
        hosts: column(&walk, "vedetteNodeName", "vedetteNodeHostStatus"),
        groups: column(&walk, "vedetteGroupName", "vedetteGroupState"),
        networks: column(&walk, "vedetteNetworkName", "vedetteNetworkStatus"),
        ..Facts::default()
    })
}

/// What each surface of `asked` tells.
fn told(lab: &Lab, asked: &str) -> Vec<(&'static str, Facts)> {
    let read = |(name, read): &Surface| {
        let facts = read(lab, asked);
        (*name, facts.unwrap_or_else(|| panic!("{name} of {asked} does not answer")))
    };
    SURFACES.iter().map(read).collect()
}

/// Waits until every surface of `asked` tells the facts.
fn assert_told(lab: &Lab, asked: &str, situation: &str, expected: &Facts) {
    let wrong = |lab: &Lab| -> Vec<String> {
        let read = |(name, read): &Surface| match read(lab, asked) {
            None => vec![format!("{name} does not answer")],
            Some(facts) => {
                let found = expected.contradictions(&facts).into_iter();
                found.map(|what| format!("{name}: {what}")).collect()
            }
        };
        SURFACES.iter().flat_map(read).collect()
    };
    let all_right = |lab: &Lab| wrong(lab).is_empty().then_some(());
    lab.wait_for(&format!("{asked} tells the truth ({situation})"), PATIENCE, all_right)
        .unwrap_or_else(|error| {
            panic!("{error}:\n{}\n{}", wrong(lab).join("\n"), look::status(lab, asked))
        });
}

/// The last known state, told as the present one, is found wrong on every surface.
fn assert_can_fail(situation: &str, before: &[(&'static str, Facts)], expected: &Facts) {
    for (surface, facts) in before {
        let found = expected.contradictions(facts);
        assert!(
            !found.is_empty(),
            "{situation}: {surface} would show the last known state unnoticed: {facts:#?}"
        );
    }
}

/// A group `web` on any node; answers where it is.
fn web(lab: &Lab) -> String {
    give(lab, "");
    let names: Vec<String> = lab.names().iter().map(|name| format!("\"{name}\"")).collect();
    give(
        lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [{}]\n\n[[groups.web.resources]]\n\
             name = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
            names.join(", "),
            address(lab, 0)
        ),
    );
    let names = lab.names();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    wait_online_on(lab, "n1", "web", &all)
}

/// T2: of three nodes two lose power; the last one knows of itself, and of nothing else.
#[test]
fn all_alone() {
    let lab = lab();
    let owner = web(&lab);
    let asked = lab.names().into_iter().find(|name| *name != owner).expect("another node");
    let before = told(&lab, &asked);
    for name in lab.names().iter().filter(|name| **name != asked) {
        lab.kill(name, Victim::Power).expect("powered off");
    }
    let expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        networks: [("neta".into(), "UNKNOWN".into()), ("netb".into(), "UNKNOWN".into())].into(),
        ..Facts::unknown(&lab, &asked, "DISCONNECTED")
    };
    assert_told(&lab, &asked, "all alone", &expected);
    assert_can_fail("all alone", &before, &expected);
    let text = look::status(&lab, &asked);
    assert!(!text.contains("ONLINE  ") || text.contains("UNKNOWN"), "{text}");
}

/// T2: two of five hear each other and have no quorum: neither knows more than one alone.
#[test]
fn a_minority_of_two_of_five() {
    let lab = lab_of_five();
    web(&lab);
    let before = told(&lab, "n5");
    // Three are voters: with two of them gone, whoever is left is a minority.
    for name in ["n1", "n2", "n3"] {
        lab.kill(name, Victim::Power).expect("powered off");
    }
    let expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        networks: [("neta".into(), "UP".into())].into(),
        ..Facts::unknown(&lab, "n5", "UP")
    };
    assert_told(&lab, "n5", "a minority of two of five", &expected);
    assert_can_fail("a minority of two of five", &before, &expected);
}

/// A node that starts alone has a state on disk, and does not show it as the present one.
#[test]
fn no_director_yet() {
    let lab = lab();
    web(&lab);
    let before = told(&lab, "n2");
    for name in lab.names() {
        lab.kill(&name, Victim::Power).expect("powered off");
    }
    lab.restart("n2").expect("powered on");
    let expected = Facts::unknown(&lab, "n2", "DISCONNECTED");
    assert_told(&lab, "n2", "no director yet", &expected);
    assert_can_fail("no director yet", &before, &expected);
}

/// A director whose guard is stopped cannot know whether it has a lease, and claims nothing.
#[test]
fn a_director_without_its_guards_word() {
    let lab = lab();
    web(&lab);
    let nodes = look::nodes(&lab, "n1");
    let director = nodes.iter().find(|node| node["director"] == true).expect("a director");
    let asked = director["name"].as_str().expect("a name").to_owned();
    let before = told(&lab, &asked);
    lab.pause(&asked, Victim::Guard).expect("its guard is stopped");
    let expected = Facts {
        conditions: Some(vec!["quorum_lost".into()]),
        hosts: Facts::unknown(&lab, &asked, "?").hosts,
        ..Facts::unknown(&lab, &asked, "?")
    };
    let mut expected = expected;
    expected.hosts.remove(&asked);
    assert_told(&lab, &asked, "a director without its guard's word", &expected);
    assert_can_fail("a director without its guard's word", &before, &expected);
    lab.resume(&asked).expect("its guard goes on");
}

/// One network of one node is cut: everything is known, and that network's interface is down.
#[test]
fn cut_from_one_network() {
    let lab = lab();
    let owner = web(&lab);
    lab.cut("n2", Some("neta"), None).expect("cut");
    let expected = Facts {
        knows: Some(true),
        hosts: lab.names().into_iter().map(|name| (name, "UP".to_owned())).collect(),
        networks: [("neta".into(), "UP".into()), ("netb".into(), "UP".into())].into(),
        groups: [("web".into(), "ONLINE".into())].into(),
        ..Facts::default()
    };
    assert_told(&lab, "n2", "cut from one network", &expected);
    lab.wait_for("the interface that is down", PATIENCE, |lab| {
        let rows = look::get(lab, "n2", "/api/v1/interfaces")?.json();
        let down = |row: &&Value| row["node"] == "n2" && row["network"] == "neta";
        let row = rows.as_array()?.iter().find(down)?.clone();
        (row["status"] == "DOWN").then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n2")));
    let node = look::nodes(&lab, "n2");
    let own = node.iter().find(|node| node["name"] == "n2").expect("n2");
    assert_eq!(own["jeopardy"], true, "one interface is left (owner of web: {owner})");
}

/// Everything on a node stands still for ten seconds. The others know; it says afterwards what it missed,
/// and everybody's history has that with its own time.
#[test]
fn frozen_for_ten_seconds() {
    let lab = lab();
    web(&lab);
    let before = look::seq(&lab, "n1");
    lab.pause("n3", Victim::Both).expect("stopped");
    let others = Facts {
        knows: Some(true),
        hosts: [("n3".to_owned(), "DOWN".to_owned())].into(),
        ..Facts::default()
    };
    assert_told(&lab, "n1", "n3 is frozen", &others);
    let _ = lab.wait_for("ten seconds", std::time::Duration::from_secs(10), |_| None::<()>);
    lab.resume("n3").expect("goes on");
    let well = Facts {
        knows: Some(true),
        hosts: lab.names().into_iter().map(|name| (name, "UP".to_owned())).collect(),
        groups: [("web".into(), "ONLINE".into())].into(),
        ..Facts::default()
    };
    assert_told(&lab, "n3", "n3 goes on", &well);
    for asked in ["n1", "n2", "n3"] {
        for code in ["QUORUM_LOST", "QUORUM_REGAINED"] {
            let told = |lab: &Lab| {
                let records = look::records_after(lab, asked, before);
                records.into_iter().find(|it| it["code"] == code && it["subject"]["name"] == "n3")
            };
            let record = lab
                .wait_for(&format!("{code} of n3 in the history of {asked}"), PATIENCE, told)
                .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
            assert!(record["told"]["happened_at"].is_string(), "{record:#}");
        }
    }
}
