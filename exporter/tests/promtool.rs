//! `promtool check metrics` finds nothing to say about the metrics page.

mod common;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{Stage, get};
use vedette_core::fixture::Fixture;
use vedette_core::state::ClusterState;
use vedette_core::view::View;

fn check(page: &str) -> (bool, String) {
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("promtool is needed: apt-get install prometheus");
    promtool.stdin.take().expect("piped").write_all(page.as_bytes()).expect("it reads");
    let output = promtool.wait_with_output().expect("it ends");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

#[tokio::test]
async fn promtool_has_nothing_to_say() {
    let router = Stage::one_down().router();
    get(&router, "/nowhere").await;
    let page = get(&router, "/metrics").await.body;
    assert_eq!(check(&page), (true, String::new()));
}

#[tokio::test]
async fn promtool_has_nothing_to_say_about_groups() {
    let page = get(&Stage::busy().router(), "/metrics").await.body;
    assert_eq!(check(&page), (true, String::new()));
}

/// Also when there is nothing to report yet: a scrape is never an error.
#[tokio::test]
async fn an_empty_cluster_has_a_page_too() {
    let mut view: View = Fixture::settled(1).view(vedette_core::id::NodeNumber(1));
    view.state = std::sync::Arc::new(ClusterState::default());
    view.local.report = None;
    view.local.agentx = None;
    view.local.quorate = false;
    let stage = Stage::showing(view, Vec::new(), std::time::Duration::from_secs(7));
    let page = get(&stage.router(), "/metrics").await.body;
    assert_eq!(check(&page), (true, String::new()));
    assert!(page.contains("vedette_cluster_state{cluster=\"\",state=\"unknown\"} 1"), "{page}");
    assert!(page.contains("vedette_stale_seconds{cluster=\"\"} 7"), "{page}");
}

/// Promtool's own check that the check can fail.
#[test]
fn promtool_would_complain() {
    assert!(!check("# TYPE x_count gauge\nx_count 1\n").1.is_empty());
}
