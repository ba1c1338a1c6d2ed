//! The dashboard and the alert rules work against the real thing: a real Prometheus scrapes a real
//! exporter that serves the example cluster, and every panel's query must find something.

mod common;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{Stage, get};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};
use vedette_exporter::{Limits, metrics::FAMILIES, serve_tcp};

const INSTALL: &str = "prometheus and promtool are needed: apt-get install prometheus";

fn grafana() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana")
}

fn read(path: &str) -> String {
    let path = grafana().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The dashboards: file, uid.
const DASHBOARDS: [(&str, &str); 2] =
    [("cluster.json", "vedette-cluster"), ("groups.json", "vedette-groups")];

fn dashboard(file: &str) -> Value {
    serde_json::from_str(&read(&format!("dashboards/{file}"))).expect("JSON")
}

/// The panels of a dashboard; a row is none, only their headline.
fn panels(file: &str) -> Vec<Value> {
    let dashboard = dashboard(file);
    let all = dashboard["panels"].as_array().expect("panels");
    all.iter().filter(|panel| panel["type"] != "row").cloned().collect()
}

fn exists(name: &str) -> bool {
    FAMILIES.iter().any(|family| family.name == name)
}

/// Title and query of every target.
fn queries() -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    let all = DASHBOARDS.iter().flat_map(|(file, _)| panels(file)).collect::<Vec<_>>();
    all.iter()
        .flat_map(|panel| {
            let targets = panel["targets"].as_array().expect("targets").clone();
            let title = text(&panel["title"]);
            targets.into_iter().map(move |target| (title.clone(), text(&target["expr"])))
        })
        .collect()
}

/// The names that begin with `vedette_` in a query.
fn families_in(query: &str) -> BTreeSet<String> {
    query
        .split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with("vedette_"))
        .map(str::to_owned)
        .collect()
}

/// A Prometheus of our own, ended with the test.
struct Prometheus {
    process: Child,
    port: u16,
    _directory: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Prometheus {
    fn start(targets: &[std::net::SocketAddr]) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let config = directory.path().join("prometheus.yml");
        let targets: Vec<String> = targets.iter().map(|it| format!("\"{it}\"")).collect();
        let targets = targets.join(", ");
        let text = format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: vedette\n    \
             static_configs:\n      - targets: [{targets}]\n"
        );
        std::fs::write(&config, text).expect("it can be written");
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("an address").port();
        drop(free);
        let process = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect(INSTALL);
        Self { process, port, _directory: directory }
    }

    /// The number of series that a query finds; `Err` if it is refused.
    async fn query(&self, query: &str) -> Result<usize, String> {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))
            .await
            .map_err(|error| error.to_string())?;
        // HTTP/1.0: the answer is not chunked.
        let request = format!("GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.map_err(|error| error.to_string())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.map_err(|error| error.to_string())?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("no body")?;
        let json: Value = serde_json::from_str(body).map_err(|_| answer.clone())?;
        match json["data"]["result"].as_array() {
            Some(series) => Ok(series.len()),
            None => Err(body.into()),
        }
    }
}

/// What a panel about the cluster shows when nobody can know. It is always there, so it proves nothing.
const NOBODY_KNOWS: &str = " or vector(-1)";

/// As Grafana fills the variables in, without what is always found.
fn filled(query: &str) -> String {
    let query = query.strip_suffix(NOBODY_KNOWS).unwrap_or(query);
    query.replace("$cluster", ".+").replace("$__rate_interval", "10s")
}

#[tokio::test]
async fn every_panel_finds_something() {
    // One that is busy, and one on which something is watched.
    let mut addresses = Vec::new();
    for stage in [Stage::busy(), Stage::watched()] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        addresses.push(listener.local_addr().expect("an address"));
        let router = stage.router();
        tokio::spawn(serve_tcp(listener, router, Limits::default(), std::future::pending()));
    }
    let prometheus = Prometheus::start(&addresses);
    let deadline = Instant::now() + Duration::from_secs(90);
    for (title, query) in queries() {
        loop {
            let found = prometheus.query(&filled(&query)).await;
            if found.as_ref().is_ok_and(|series| *series > 0) {
                break;
            }
            assert!(Instant::now() < deadline, "{title}: {found:?} for {}", filled(&query));
            sleep(Duration::from_millis(200)).await;
        }
    }
    // The check itself can fail.
    assert_eq!(prometheus.query("vedette_no_such_thing").await, Ok(0));
    assert!(prometheus.query("rate(").await.is_err());
}

#[test]
fn the_dashboards_are_valid() {
    let schema =
        serde_json::from_str(&read("schemas/grafana-dashboard.schema.json")).expect("JSON");
    let validator = jsonschema::validator_for(&schema).expect("a schema");
    for (file, _) in DASHBOARDS {
        let errors: Vec<String> = validator
            .iter_errors(&dashboard(file))
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(errors.is_empty(), "{file}: {errors:#?}");
    }
    let mut typo = dashboard("cluster.json");
    typo["titel"] = Value::Null;
    assert!(!validator.is_valid(&typo), "the schema would notice a typo");
}

/// The rules of Grafana's dashboard linter that apply to one dashboard for many clusters.
#[test]
fn the_dashboards_keep_the_linter_rules() {
    for (file, uid) in DASHBOARDS {
        keeps_the_linter_rules(file, uid);
    }
}

fn keeps_the_linter_rules(file: &str, uid: &str) {
    let dashboard = dashboard(file);
    assert_eq!(dashboard["editable"], false, "uneditable");
    assert!(dashboard["uid"] == uid);
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    assert_eq!(variables[0]["type"], "datasource", "template-datasource");
    assert_eq!(variables[1]["name"], "cluster");
    assert_eq!((&variables[1]["multi"], &variables[1]["allValue"]), (&true.into(), &".+".into()));
    assert_eq!(variables[1]["refresh"], 2, "template-on-time-change-reload");
    let all = dashboard["panels"].as_array().expect("panels");
    let ids: BTreeSet<_> = all.iter().map(|panel| panel["id"].as_u64()).collect();
    assert!(ids.len() == all.len() && !ids.contains(&None), "{file}: an id is used twice");
    for panel in panels(file) {
        let title = panel["title"].as_str().unwrap_or_default();
        assert!(!title.is_empty(), "panel-title");
        assert!(panel["description"].as_str().is_some_and(|text| text.len() > 20), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}: panel-units");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}: panel-datasource");
        assert!(panel["targets"].as_array().is_some_and(|all| !all.is_empty()), "{title}");
    }
}

#[test]
fn queries_keep_the_linter_rules() {
    for (title, query) in queries() {
        for name in families_in(&query) {
            assert!(exists(&name), "{title}: there is no {name}");
            // target-counter-agg: a counter is only ever looked at through rate().
            if name.ends_with("_total") {
                assert!(query.contains(&format!("rate({name}")), "{title}: {name} without rate()");
            }
        }
        if query.contains("rate(") {
            assert!(query.contains("[$__rate_interval]"), "{title}: target-rate-interval");
        }
    }
}

fn promtool(arguments: &[&str]) {
    let output = Command::new("promtool")
        .args(arguments)
        .current_dir(grafana().join("prometheus"))
        .output()
        .expect(INSTALL);
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

#[test]
fn promtool_accepts_rules_and_configuration() {
    promtool(&["check", "rules", "rules/vedette.yml"]);
    promtool(&["check", "config", "prometheus.yml"]);
}

#[test]
fn every_alert_fires_when_it_should_and_not_before() {
    promtool(&["test", "rules", "rules_test.yml"]);
    promtool(&["test", "rules", "rules_test_hours.yml"]);
}

/// The query of a panel, for all clusters.
fn query_of(file: &str, title: &str) -> String {
    let all = panels(file);
    let panel = all.iter().find(|panel| panel["title"] == title);
    let panel = panel.unwrap_or_else(|| panic!("{file}: no panel {title}"));
    panel["targets"][0]["expr"].as_str().expect("a query").replace("$cluster", ".+")
}

/// W1, W4: three nodes and five groups. Four groups go after five minutes; two nodes die after ten, and the
/// third, left alone, goes on to say what it knew; after fifteen, it is dead too. A panel about the cluster
/// shows -1, or nothing at all, once nobody can know.
const SHOWN: [(&str, &str, [&[f64]; 4]); 10] = [
    ("cluster.json", "Cluster state", [&[2.0], &[2.0], &[-1.0], &[-1.0]]),
    ("cluster.json", "Quorum", [&[1.0], &[1.0], &[0.0], &[-1.0]]),
    ("cluster.json", "Nodes up", [&[1.0], &[1.0], &[-1.0], &[-1.0]]),
    ("cluster.json", "Voter failures survived", [&[1.0], &[1.0], &[-1.0], &[-1.0]]),
    ("cluster.json", "Hosts", [&[2.0], &[2.0], &[], &[]]),
    ("groups.json", "Groups in service", [&[1.0], &[0.2], &[-1.0], &[-1.0]]),
    ("groups.json", "Groups in error", [&[0.0], &[0.0], &[-1.0], &[-1.0]]),
    ("groups.json", "Event in progress", [&[0.0], &[0.0], &[-1.0], &[-1.0]]),
    ("groups.json", "In maintenance", [&[0.0], &[0.0], &[-1.0], &[-1.0]]),
    ("groups.json", "Owners", [&[1.0], &[1.0], &[], &[]]),
];

/// What the nodes of [`SHOWN`] export, a value each minute: name, labels, values of `n1`.
const EXPORTED: [(&str, &str, &str); 10] = [
    ("vedette_cluster_state_code", "", "2x15 stale"),
    ("vedette_nodes", "", "3x15 stale"),
    ("vedette_nodes_up", "", "3x15 stale"),
    ("vedette_redundancy_remaining", ",scope=\"quorum\"", "1x15 stale"),
    ("vedette_node_host_status_code", ",node=\"n2\"", "2x15 stale"),
    ("vedette_event_stage", ",state=\"voting\"", "0x15 stale"),
    ("vedette_event_stage", ",state=\"running\"", "0x15 stale"),
    ("vedette_event_stage", ",state=\"error\"", "0x15 stale"),
    ("vedette_cluster_maintenance", "", "0x15 stale"),
    ("vedette_group_owner", ",group=\"a\",node=\"n2\"", "1x15 stale"),
];

#[test]
fn a_panel_does_not_show_as_known_what_nobody_knows() {
    let mut series = Vec::new();
    let mut export = |name: &str, labels: &str, node: &str, values: &str| {
        let labels = format!("cluster=\"prod\",instance=\"{node}\",job=\"vedette\"{labels}");
        let values = if node == "n1" { values.to_owned() } else { values.replace("x15", "x10") };
        series
            .push(serde_json::json!({ "series": format!("{name}{{{labels}}}"), "values": values }));
    };
    for node in ["n1", "n2", "n3"] {
        let quorate = if node == "n1" { "1x10 0x4 stale" } else { "1x10 stale" };
        export("vedette_quorate", "", node, quorate);
        for (name, labels, values) in EXPORTED {
            export(name, labels, node, values);
        }
        for group in ["a", "b", "c", "d", "e"] {
            let (label, last) = (format!(",group=\"{group}\""), u8::from(group == "a"));
            let online = format!("1x5 {last}x9 stale");
            export("vedette_group_state", &format!("{label},state=\"online\""), node, &online);
            export("vedette_group_state", &format!("{label},state=\"error\""), node, "0x15 stale");
            export("vedette_group_wanted_offline", &label, node, "0x15 stale");
        }
        // Somebody wants this one to be off: it does not count.
        export("vedette_group_state", ",group=\"spare\",state=\"online\"", node, "0x15 stale");
        export("vedette_group_wanted_offline", ",group=\"spare\"", node, "1x15 stale");
    }
    let mut expected = Vec::new();
    for (file, title, values) in SHOWN {
        // Without labels: what counts here is the value.
        let query = format!("max({})", query_of(file, title));
        for (minute, values) in [4, 9, 14, 24].iter().zip(values) {
            let samples: Vec<Value> = values
                .iter()
                .map(|value| serde_json::json!({ "labels": "{}", "value": value }))
                .collect();
            expected.push(serde_json::json!({
                "expr": query, "eval_time": format!("{minute}m"), "exp_samples": samples,
            }));
        }
    }
    // YAML is a superset of JSON.
    let test = serde_json::json!({ "tests": [{
        "interval": "1m", "input_series": series, "promql_expr_test": expected,
    }] });
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("panels.yml");
    std::fs::write(&file, test.to_string()).expect("it can be written");
    promtool(&["test", "rules", file.to_str().expect("text")]);
}

/// Alerts with neither cluster nor scope: they are about Prometheus.
const ABOUT_NO_CLUSTER: [&str; 1] = ["Watchdog"];

/// Every alert that a test expects names its cluster and what it speaks for, so that it can be routed, and
/// silenced by one about more.
#[test]
fn every_alert_names_its_cluster_and_its_scope() {
    let mut expected = 0;
    for file in ["rules_test.yml", "rules_test_hours.yml"] {
        let text = read(&format!("prometheus/{file}"));
        for test in text.split("alertname: ").skip(1) {
            let name = test.lines().next().unwrap_or_default();
            for labels in
                test.split("exp_labels:\n").skip(1).filter_map(|it| it.split("exp_ann").next())
            {
                expected += 1;
                let scoped = ["cluster", "node", "group"]
                    .iter()
                    .any(|scope| labels.contains(&format!(" scope: \"{scope}\"\n")));
                let good = scoped && labels.contains(" cluster: \"");
                assert!(good || ABOUT_NO_CLUSTER.contains(&name), "{name}: {labels}");
            }
        }
    }
    assert!(expected > 30, "{expected} alerts are expected somewhere");
}

/// What silences what names alerts that exist.
#[test]
fn what_inhibits_exists() {
    let (rules, inhibit) = (read("prometheus/rules/vedette.yml"), read("prometheus/inhibit.yml"));
    let mut named = 0;
    for matcher in inhibit.lines().filter(|line| line.contains("alertname")) {
        let names = matcher.split('"').nth(1).expect("a value in quotes");
        for name in names.split('|') {
            named += 1;
            assert!(rules.contains(&format!("- alert: {name}\n")), "there is no alert {name}");
        }
    }
    assert!(named > 3, "{named}");
}

/// Each alert has its runbook, its test and only metrics that exist; no runbook is an orphan.
#[tokio::test]
async fn every_alert_has_runbook_and_test() {
    let rules = read("prometheus/rules/vedette.yml");
    let tests = read("prometheus/rules_test.yml") + &read("prometheus/rules_test_hours.yml");
    let alerts: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(alerts.len() > 10);
    for alert in &alerts {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "{alert} has no test");
        assert!(rules.contains(&format!("{{{{ end }}}}/{alert}.md\"\n")), "{alert}: runbook_url");
        assert!(read(&format!("runbooks/{alert}.md")).contains("**What to do.**"), "{alert}");
    }
    let directory = std::fs::read_dir(grafana().join("runbooks")).expect("runbooks");
    for entry in directory {
        let name = entry.expect("an entry").file_name().to_string_lossy().replace(".md", "");
        assert!(alerts.contains(name.as_str()), "the runbook {name} has no alert");
    }
    let page = get(&Stage::busy().router(), "/metrics").await.body;
    for name in families_in(&rules) {
        // The name of the group of rules has no underscore and is not found here.
        assert!(page.contains(&format!("# TYPE {name} ")), "there is no {name}");
    }
}
