//! Every screen, as text files in `testdata/screens`: rendered from the same example cluster that
//! the golden files of the other surfaces show. `UPDATE_EXPECT=1` writes them anew; read the diff.

mod alone;
mod manager;
mod narrow;

use std::path::Path;
use std::time::Duration;

use serde_json::json;
use vedette_collector::clinfo::{
    AlertsDoc, LinkDoc, NetworkDoc, NodeDoc, PortDoc, ScriptDoc, Seen, StatusDoc,
};
use vedette_core::command::Command;
use vedette_core::fixture::{DOWN_AT, Fixture, one_down};
use vedette_core::id::NodeNumber;
use vedette_core::model::{RunOutcome, Severity};
use vedette_core::time::WallTime;
use vedette_core::view::View;

use super::text::Style;
use super::{alert, config, history, network, node, status};

const NOW: WallTime = WallTime(DOWN_AT.0 + 31_000_000);

/// A terminal without colours.
pub(super) const SCREEN: Style = Style { colour: false, width: 100, cut: true };

pub(super) fn now() -> String {
    NOW.to_string()
}

/// Compares a screen with its file. No line is wider than a screen.
pub(super) fn expect(name: &str, screen: &str) {
    compare(name, screen);
    for line in screen.lines() {
        assert!(line.chars().count() <= SCREEN.width, "{name}: too wide: {line}");
    }
}

/// The same; it fits into 80 columns, too.
pub(super) fn expect_narrow(name: &str, screen: &str) {
    compare(name, screen);
    for line in screen.lines() {
        assert!(line.chars().count() <= 80, "{name}: too wide: {line}");
    }
}

/// Compares a text with its file.
pub(super) fn compare(name: &str, screen: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/screens").join(name);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, screen).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(screen == expected, "{name} (UPDATE_EXPECT=1 rewrites):\n{screen}");
}

fn status_of(view: &View, stale: Duration) -> String {
    let document = StatusDoc::new(Seen { view, now: NOW, stale });
    // What is shown is what the daemon sends, not what it has in memory.
    let text = serde_json::to_string(&document).unwrap();
    status::screen(&serde_json::from_str(&text).unwrap(), SCREEN)
}

/// A10: both columns, the verdict first.
#[test]
fn status_of_a_healthy_cluster() {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    expect("status_fine.txt", &status_of(&fixture.view(NodeNumber(1)), Duration::ZERO));
}

/// A10, H4: what is wrong stands in the first line.
#[test]
fn status_of_a_degraded_cluster() {
    expect("status_degraded.txt", &status_of(&one_down(), Duration::ZERO));
}

#[test]
fn nodes() {
    let nodes = NodeDoc::all(&one_down());
    expect("node_list.txt", &status::nodes(&nodes, &now(), true).render(SCREEN, 0));
    expect("node_show.txt", &node::screen(&nodes[2], &now(), SCREEN));
    expect("node_add.txt", &node::members(&one_down().state).render(SCREEN, 0));
}

/// H5: the content of `lssrc -ls topsvcs`.
#[test]
fn networks() {
    let networks = NetworkDoc::all(&one_down());
    expect("network_list.txt", &status::networks(&networks, &now()).render(SCREEN, 0));
    expect("network_show.txt", &network::network_screen(&networks[0], &now(), SCREEN));
}

/// V6: the content of `lltstat -nvv`.
#[test]
fn links() {
    let view = one_down();
    let screen = network::link_screen(&NodeDoc::all(&view), &LinkDoc::all(&view), &now(), SCREEN);
    expect("link_list.txt", &screen);
}

/// V8 and H10: the contents of `gabconfig -a` and of `lssrc -ls grpsvcs`.
#[test]
fn ports() {
    let view = one_down();
    let status = StatusDoc::new(Seen { view: &view, now: NOW, stale: Duration::ZERO });
    let screen = network::port_screen("prod", &status.local, &PortDoc::all(&view), SCREEN);
    expect("port_list.txt", &screen);
}

/// A cluster whose alert script was changed twice and is being tested.
fn with_scripts() -> Fixture {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    for (based_on, comment) in [(0, "mail to the operators"), (1, "page the second shift, too")] {
        let text = format!("#!/bin/sh\n# {comment}\nmail -s \"$VEDETTE_ALERT_MESSAGE\" ops\n");
        fixture.apply(Command::SaveAlertScript { text, comment: comment.into(), based_on });
    }
    fixture
}

/// A14: an alert for which the script failed was delivered to nobody, and is not counted as if it were.
#[test]
fn alerts_for_which_the_script_failed() {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    fixture.node_down(NodeNumber(3), "silent on neta and netb for 1.0 s");
    fixture.run_alerts(NodeNumber(1), 5);
    let view = fixture.view(NodeNumber(1));
    let screen = status_of(&view, Duration::ZERO);
    let fact = "alerts    0 waiting for the script, 1 delivered, 1 failed: vedette alert log\n";
    assert!(screen.contains(fact), "{screen}");
    let (script, alerts) = (ScriptDoc::new(&view), AlertsDoc::new(&view));
    assert_eq!((alerts.finished, alerts.failed), (2, 1));
    let screen = alert::show_screen(&script, &alerts, &now(), SCREEN);
    let told = "0 alerts are waiting for it, 1 was delivered, 1 failed (see vedette alert log).\n";
    assert!(screen.contains(told), "{screen}");
}

/// A14: the script in force, its versions, and what waits for it.
#[test]
fn the_alert_script() {
    let mut fixture = with_scripts();
    fixture.node_down(NodeNumber(3), "silent on neta and netb for 1.0 s");
    let view = fixture.view(NodeNumber(1));
    let (script, alerts) = (ScriptDoc::new(&view), AlertsDoc::new(&view));
    expect("alert_show.txt", &alert::show_screen(&script, &alerts, &now(), SCREEN));
    expect("alert_versions.txt", &alert::versions_screen(&script, &now(), SCREEN));
}

/// A15: exit status, output and duration of each member.
#[test]
fn a_test_of_the_alert_script() {
    let mut fixture = with_scripts();
    fixture.apply(Command::TestAlert {
        members: Vec::new(),
        severity: Severity::Error,
        message: "is the pager charged?".into(),
    });
    let id = *fixture.state.tests.keys().next().unwrap();
    for (node, exit, output) in [(1, 0, "sent\n"), (2, 1, "mail: not found\n\x1b[2Jsorry\n")] {
        let outcome = RunOutcome {
            exit: Some(exit),
            signal: None,
            timed_out: false,
            failure: None,
            output: output.into(),
            output_dropped: u64::from(node == 2) * 300,
            duration_ms: 42,
            version: 2,
            transcript: None,
        };
        fixture.apply(Command::FinishAlertTest { id, node: NodeNumber(node), outcome });
    }
    let alerts = AlertsDoc::new(&fixture.view(NodeNumber(1)));
    expect("alert_test.txt", &alert::test_screen(&alerts.tests[0], SCREEN));
}

#[test]
fn the_history() {
    let good = json!({ "ok": true, "rows": 42, "head": { "seq": 42, "hash": "5a5a" },
                       "first_bad": null, "unguarded": [] });
    let bad = json!({ "ok": false, "rows": 16, "head": { "seq": 16, "hash": "5a5a" },
                      "first_bad": { "seq": 17, "what": "its content was changed" } });
    let screens: String = [good, bad]
        .into_iter()
        .map(|document| {
            let verified = serde_json::from_value(document).unwrap();
            history::verify_screen(&verified, "the history of this node", SCREEN)
        })
        .collect();
    expect("history_verify.txt", &screens);
    let compared = json!({ "seq": 42, "hash": "5a".repeat(32), "nodes": [
        { "node": "n1", "seq": 42, "hash_at_common": "5a".repeat(32), "equal": true, "error": null },
        { "node": "n2", "seq": 43, "hash_at_common": "5b".repeat(32), "equal": false, "error": null },
        { "node": "n3", "seq": null, "hash_at_common": null, "equal": false,
          "error": "node 3 cannot be reached: no network to it works" } ] });
    let compared = serde_json::from_value(compared).unwrap();
    expect("history_compare.txt", &history::compare_screen(&compared, SCREEN));
}

#[test]
fn the_configuration() {
    let text = "[node]\nname = \"n1\"\n[[network]]\nname = \"neta\"\naddress = \"10.0.1.1\"\n\
                [[network]]\nname = \"netb\"\naddress = \"10.0.2.1\"\npriority = \"low\"\n";
    let checked = vedette_core::config::parse("vedette.toml", text, "n1").unwrap();
    let settings = &one_down().state.settings;
    expect("config_show.txt", &config::screen(&checked.config, Some(settings), SCREEN));
}
