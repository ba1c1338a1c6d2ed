//! Looking at a cluster from outside, through each surface.

use std::fs::File;
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use vedette_tests::lab::Lab;

/// What a GET of the API answers, with the revision it is of.
pub(crate) struct Answer {
    pub(crate) revision: u64,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// GET on a node's HTTP listener.
pub(crate) fn get(lab: &Lab, node: &str, path: &str) -> Option<Answer> {
    let url = format!("http://{}{path}", lab.node(node).ok()?.http);
    let output = Command::new("curl")
        .args(["-s", "-i", "--max-time", "5", &url])
        .output()
        .expect("curl is needed: apt-get install curl");
    let text = String::from_utf8(output.stdout).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let revision = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("x-vedette-revision").then(|| value.trim().parse().ok())?
    });
    Some(Answer { revision: revision.unwrap_or(0), body: body.to_owned() })
}

/// The nodes as the API of `asked` shows them.
pub(crate) fn nodes(lab: &Lab, asked: &str) -> Vec<Value> {
    let Some(answer) = get(lab, asked, "/api/v1/nodes") else { return Vec::new() };
    serde_json::from_str::<Value>(&answer.body)
        .ok()
        .and_then(|body| body.as_array().cloned())
        .unwrap_or_default()
}

/// The director as `asked` sees it.
pub(crate) fn director(lab: &Lab, asked: &str) -> Option<String> {
    let nodes = nodes(lab, asked);
    let director = nodes.iter().find(|node| node["director"] == true)?;
    director["name"].as_str().map(str::to_owned)
}

/// One field of one node.
pub(crate) fn node_field(lab: &Lab, asked: &str, name: &str, field: &str) -> String {
    let nodes = nodes(lab, asked);
    let node = nodes.iter().find(|node| node["name"] == name);
    node.and_then(|node| node[field].as_str()).unwrap_or("?").to_owned()
}

pub(crate) fn host(lab: &Lab, asked: &str, name: &str) -> String {
    node_field(lab, asked, name, "host_status")
}

/// Everything UP, RUNNING, quorate and settled, as `asked` sees it.
pub(crate) fn is_healthy(lab: &Lab, asked: &str) -> bool {
    let nodes = nodes(lab, asked);
    let all_there = nodes.len() == lab.names().len()
        && nodes
            .iter()
            .all(|node| node["host_status"] == "UP" && node["agent_status"] == "RUNNING");
    let settled = get(lab, asked, "/api/v1/networks").is_some_and(|answer| {
        let networks = answer.json();
        networks.as_array().is_some_and(|networks| {
            networks.iter().all(|network| {
                network["status"] == "UP" && network["nodes_in_group"] == network["nodes_defined"]
            })
        })
    });
    let voters = nodes.iter().filter(|node| node["role"] == "voter").count();
    let ready = get(lab, asked, "/api/v1/local")
        .is_some_and(|answer| answer.json()["quorate"] == true && answer.json()["agentx"] == true);
    // As many as there are, an odd number, five at most.
    let wanted = (nodes.len().clamp(1, 5) - 1) / 2 * 2 + 1;
    all_there && settled && ready && voters == wanted
}

/// The operator's screen.
pub(crate) fn status(lab: &Lab, asked: &str) -> String {
    match lab.vedette(asked, &["status"]) {
        Ok(output) => format!(
            "{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(error) => error.to_string(),
    }
}

/// Sequence number of the last record that `asked` holds.
pub(crate) fn seq(lab: &Lab, asked: &str) -> u64 {
    let head = lab.json(asked, &["history", "show", "--limit", "1", "-o", "json"]);
    head.ok().and_then(|rows| rows[0]["seq"].as_u64()).unwrap_or(0)
}

/// Records after `seq`, oldest first, as the history of `asked` has them.
pub(crate) fn records_after(lab: &Lab, asked: &str, seq: u64) -> Vec<Value> {
    let path = format!("/api/v1/events?after={seq}&limit=500");
    let Some(answer) = get(lab, asked, &path) else { return Vec::new() };
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_default();
    let rows = body.as_array().or_else(|| body["events"].as_array());
    rows.cloned().unwrap_or_default()
}

/// The first record after `seq` with that code, subject and new status.
pub(crate) fn find_record(
    lab: &Lab,
    asked: &str,
    seq: u64,
    (code, subject, current): (&str, &str, &str),
) -> Option<Value> {
    records_after(lab, asked, seq).into_iter().find(|record| {
        record["code"] == code
            && record["subject"]["name"] == subject
            && record["current"] == current
    })
}

/// A walk of the whole MIB at a node's snmpd.
pub(crate) fn walk(lab: &Lab, asked: &str) -> String {
    let mibs = concat!(env!("CARGO_MANIFEST_DIR"), "/../mib");
    let output = Command::new("snmpwalk")
        .args(["-v2c", "-c", "public", "-t", "2", "-r", "1", "-OQs"])
        .arg("-M")
        .arg(format!("{mibs}:{mibs}/base"))
        .args(["-m", "VEDETTE-MIB"])
        .arg(lab.node(asked).expect("a node of the lab").snmp.to_string())
        .arg("1.3.6.1.4.1.8072.9999.9999.7770")
        .output()
        .expect("snmpwalk is needed: apt-get install snmp");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The notifications that were received so far.
pub(crate) fn traps(lab: &Lab) -> String {
    std::fs::read_to_string(lab.dir().join("traps.log")).unwrap_or_default()
}

/// A client of `/api/v1/watch` that writes all it receives into a file.
pub(crate) struct Watcher {
    client: Child,
    file: std::path::PathBuf,
}

impl Watcher {
    pub(crate) fn start(lab: &Lab, asked: &str) -> Self {
        let file = lab.dir().join(format!("watch-{asked}.log"));
        let url = format!("http://{}/api/v1/watch", lab.node(asked).expect("a node").http);
        let client = Command::new("curl")
            .args(["-s", "-N", &url])
            .stdout(File::create(&file).expect("the lab's directory can be written"))
            .stderr(Stdio::null())
            .spawn()
            .expect("curl is needed: apt-get install curl");
        Self { client, file }
    }

    pub(crate) fn seen(&self) -> String {
        std::fs::read_to_string(&self.file).unwrap_or_default()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.client.kill();
        let _ = self.client.wait();
    }
}
