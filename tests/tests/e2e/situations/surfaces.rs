//! The surfaces of a node, each read into the same [`Facts`].

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;
use vedette_tests::lab::Lab;

use super::{Facts, page};
use crate::look;

/// A stream begins with its snapshot at once; a node that is starting is asked again.
const SNAPSHOT: Duration = Duration::from_secs(2);

/// One surface: its name, and how it is read.
pub(super) type Surface = (&'static str, fn(&Lab, &str) -> Option<Facts>);

pub(super) const SURFACES: &[Surface] = &[
    ("API", api),
    ("SSE", sse),
    ("metrics", metrics),
    ("SNMP", snmp),
    ("status", status),
    ("group list", group_list),
    ("page", page::read),
];

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
        offsets: offsets(nodes),
        ..Facts::default()
    }
}

/// By how many seconds the clocks of nodes are ahead.
fn offsets(nodes: &Value) -> BTreeMap<String, i64> {
    let ms =
        |row: &Value| Some((row["name"].as_str()?.to_owned(), row["clock_offset_ms"].as_f64()?));
    let all = nodes.as_array().into_iter().flatten().filter_map(ms);
    all.map(|(name, ms)| (name, seconds(ms / 1e3))).collect()
}

fn seconds(offset: f64) -> i64 {
    offset.round() as i64
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
    facts.level = document["level"].as_str().map(str::to_owned);
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
    let director = ones(&page, "vedette_director", "node");
    let conditions = ones(&page, "vedette_local_condition", "code");
    Some(Facts {
        knows: cluster.values().next().map(|state| state != "UNKNOWN"),
        director: Some(director.into_keys().next()),
        hosts: ones(&page, "vedette_node_host_status", "node"),
        groups: ones(&page, "vedette_group_state", "group"),
        networks: ones(&page, "vedette_network_status", "network"),
        conditions: Some(conditions.into_keys().collect()),
        offsets: values(&page, "vedette_clock_offset_seconds", "peer"),
        ..Facts::default()
    })
}

/// The values of a family by the value of `key`, in whole numbers.
fn values(page: &str, family: &str, key: &str) -> BTreeMap<String, i64> {
    let value = |line: &str| {
        let (labels, value) = line.strip_prefix(family)?.strip_prefix('{')?.split_once("} ")?;
        let (_, rest) = labels.split_once(&format!("{key}=\""))?;
        Some((rest.split_once('"')?.0.to_owned(), seconds(value.parse().ok()?)))
    };
    page.lines().filter_map(value).collect()
}

/// The values of an object in a walk, by index.
fn cells(walk: &str, object: &str) -> BTreeMap<String, String> {
    let prefix = format!("{object}.");
    let lines = walk.lines().filter_map(|line| line.strip_prefix(&prefix));
    let pair = |line: &str| {
        let (index, value) = line.split_once(" = ")?;
        Some((index.trim().to_owned(), value.trim().trim_matches('"').to_owned()))
    };
    lines.filter_map(pair).collect()
}

/// Rows of a table in a walk: the values of `name`, with those of `status`.
fn column(walk: &str, name: &str, status: &str) -> BTreeMap<String, String> {
    let states = cells(walk, status);
    cells(walk, name)
        .into_iter()
        .filter_map(|(index, name)| Some((name, states.get(&index)?.to_uppercase())))
        .collect()
}

/// A name of the MIB in the spelling of the other surfaces.
fn snake(name: &str) -> String {
    let spelled = |letter: char| match letter.is_uppercase() {
        true => format!("_{}", letter.to_lowercase()),
        false => letter.to_string(),
    };
    name.chars().map(spelled).collect()
}

fn snmp(lab: &Lab, asked: &str) -> Option<Facts> {
    let walk = look::walk(lab, asked);
    let scalar = |object: &str| {
        let prefix = format!("{object}.0 = ");
        walk.lines().find_map(|line| line.strip_prefix(&prefix)).map(str::to_owned)
    };
    let director =
        scalar("vedetteClusterDirectorName").map(|name| name.trim_matches('"').to_owned());
    Some(Facts {
        knows: Some(scalar("vedetteClusterState")? != "unknown"),
        director: Some(director.filter(|name| !name.is_empty())),
        hosts: column(&walk, "vedetteNodeName", "vedetteNodeHostStatus"),
        groups: column(&walk, "vedetteGroupName", "vedetteGroupState"),
        networks: column(&walk, "vedetteNetworkName", "vedetteNetworkStatus"),
        conditions: Some(
            cells(&walk, "vedetteConditionCode").values().map(|it| snake(it)).collect(),
        ),
        offsets: column(&walk, "vedetteNodeName", "vedetteNodeClockOffset")
            .into_iter()
            .filter_map(|(name, ms)| Some((name, seconds(ms.parse::<f64>().ok()? / 1e3))))
            .collect(),
        ..Facts::default()
    })
}
