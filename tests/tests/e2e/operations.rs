//! What operators do with a running cluster.

use std::process::Output;

use vedette_tests::lab::Lab;

use crate::{PATIENCE, lab, look};

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A14, A15: the script is edited on one node, is the same on all, its test runs on every member
/// and shows exit status, output and duration, is marked as a test, and can be rolled back.
#[test]
fn the_alert_script_is_edited_tested_and_rolled_back() {
    let lab = lab();
    let editor = lab.dir().join("editor.sh");
    let script =
        "#!/bin/sh\\necho \"hello from $VEDETTE_ALERT_MEMBER test=$VEDETTE_ALERT_TEST\"\\n";
    std::fs::write(&editor, format!("#!/bin/sh\nprintf '{script}' > \"$1\"\n")).expect("written");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&editor, mode).expect("made executable");
    let old = lab.json("n1", &["alert", "show", "-o", "json"]).expect("alert show");
    let edit = edit_with(&lab, &editor);
    assert!(edit.status.success(), "{}", said(&edit));
    for node in lab.names() {
        lab.wait_for("the new script on every node", PATIENCE, |lab| {
            let shown = lab.json(&node, &["alert", "show", "-o", "json"]).ok()?;
            (shown["active"] != old["active"]).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}"));
    }
    let before = look::seq(&lab, "n1");
    let test = lab.json("n2", &["alert", "test", "-o", "json"]).expect("alert test");
    let runs = test["runs"].as_array().unwrap_or_else(|| panic!("{test:#}"));
    assert_eq!(runs.len(), 3, "{test:#}");
    for run in runs {
        assert_eq!(run["exit"], 0, "{run:#}");
        let output = run["output"].as_str().expect("output");
        assert!(output.contains("hello from n") && output.contains("test=1"), "{output}");
        assert!(run["duration_ms"].is_u64(), "{run:#}");
    }
    let tested: Vec<_> = look::records_after(&lab, "n1", before)
        .into_iter()
        .filter(|record| record["code"] == "ALERT_TESTED")
        .collect();
    assert_eq!(tested.len(), 3, "{tested:#?}");
    assert!(tested.iter().all(|record| record["test"] == true), "{tested:#?}");

    let version = old["active"].as_u64().expect("a version").to_string();
    let back =
        lab.vedette("n3", &["alert", "rollback", &version, "--yes"]).expect("alert rollback");
    assert!(back.status.success(), "{}", said(&back));
}

fn edit_with(lab: &Lab, editor: &std::path::Path) -> Output {
    use std::process::{Command, Stdio};
    let node = lab.node("n1").expect("n1");
    let mut command = Command::new(&lab.sandbox().program);
    command.arg("--config").arg(node.config()).args(["alert", "edit", "--comment", "a test"]);
    command.env("VISUAL", editor).env("EDITOR", editor);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    lab.spawn("n1", command).expect("started").wait_with_output().expect("ended")
}

/// A2, A4, V4: a number that is taken is refused with both owners, a token of a typing error is
/// recognised, and nothing changes.
#[test]
fn a_wrong_join_is_refused_before_anything_changes() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    let taken = lab.vedette("n1", &["node", "add", "n9", "--number", "2", "--yes"]).expect("run");
    assert_eq!(taken.status.code(), Some(1), "{}", said(&taken));
    assert!(said(&taken).contains("n9") && said(&taken).contains("n2"), "{}", said(&taken));
    let typo = lab.vedette("n1", &["join", "vjoin1.nonsense", "--yes"]).expect("run");
    assert!(!typo.status.success(), "{}", said(&typo));
    assert_eq!(look::seq(&lab, "n1"), before, "nothing happened");
}

/// A13, A5: the logging level is set on one node and holds on all.
#[test]
fn the_logging_level_holds_everywhere() {
    let lab = lab();
    for level in ["informational", "notice"] {
        let set = lab.vedette("n3", &["config", "set", "logging-level", level]).expect("run");
        assert!(set.status.success(), "{}", said(&set));
        for node in lab.names() {
            lab.wait_for("the level on every node", PATIENCE, |lab| {
                let cluster = look::get(lab, &node, "/api/v1/clusters")?.json();
                let cluster = cluster.as_array().map_or(cluster.clone(), |all| all[0].clone());
                (cluster["logging_level"] == level).then_some(())
            })
            .unwrap_or_else(|error| panic!("{error}"));
        }
    }
}

/// H3: interval and sensitivity are changed while running; values that break the timer contract are
/// refused with the reason.
#[test]
fn heartbeats_are_tuned_while_running() {
    let lab = lab();
    let before = look::seq(&lab, "n1");
    let bad = ["config", "set", "heartbeat", "--interval", "50ms", "--sensitivity", "4"];
    let refused = lab.vedette("n1", &bad).expect("run");
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(said(&refused).contains("election"), "{}", said(&refused));
    for (interval, sensitivity) in [("250ms", "6"), ("200ms", "5")] {
        let arguments = [
            "config",
            "set",
            "heartbeat",
            "--interval",
            interval,
            "--sensitivity",
            sensitivity,
            "--yes",
        ];
        let set = lab.vedette("n1", &arguments).expect("run");
        assert!(set.status.success(), "{}", said(&set));
    }
    let hosts: Vec<_> = look::records_after(&lab, "n1", before)
        .into_iter()
        .filter(|record| record["code"] == "NODE_HOST")
        .collect();
    assert!(hosts.is_empty(), "{hosts:#?}");
}

/// V9, A5: every node holds the same history, and each verifies.
#[test]
fn histories_are_equal_and_verify() {
    let lab = lab();
    for node in lab.names() {
        let verify = lab.vedette(&node, &["history", "verify"]).expect("run");
        assert!(verify.status.success(), "{}", said(&verify));
    }
    let compare = lab.vedette("n1", &["history", "compare"]).expect("run");
    assert!(compare.status.success(), "{}", said(&compare));
}

/// Every panel of the dashboard would have data: a real Prometheus scrapes the real daemons.
#[test]
fn prometheus_scrapes_every_node() {
    let lab = lab();
    let url = format!(
        "http://{}/api/v1/query?query=vedette_node_host_status%7Bstate%3D%22up%22%7D",
        lab.sandbox().prometheus
    );
    lab.wait_for("nine series of value 1", PATIENCE, |_| {
        let output = std::process::Command::new("curl").args(["-s", &url]).output().ok()?;
        let answer: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        let series = answer["data"]["result"].as_array()?;
        let up = series.iter().filter(|one| one["value"][1] == "1").count();
        (up == 9).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
}
