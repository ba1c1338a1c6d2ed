//! The page in a real browser: what a person sees of the cluster at its busiest.

mod common;

use std::process::Stdio;
use std::time::Duration;

use axum::{Router, routing};
use common::{DEADLINE, Stage, get};
use tokio::net::TcpListener;
use tokio::process::Command;
use vedette_exporter::{Limits, serve_tcp};

/// The node's surface, with a stream that ends after its first event: the browser's virtual time
/// does not go on while a request is open, and that of a real stream always is.
async fn still(stage: &Stage) -> Router {
    let router = stage.router();
    let status = get(&router, "/api/v1/status").await.json();
    let stream = format!("event: snapshot\ndata: {status}\n\n");
    let kind = [("content-type", "text/event-stream")];
    let watch = routing::get(move || async move { (kind, stream) });
    Router::new().route("/api/v1/watch", watch).fallback_service(router)
}

/// The page's content after its script ran.
async fn seen(stage: &Stage) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve_tcp(
        listener,
        still(stage).await,
        Limits::default(),
        std::future::pending(),
    ));
    let profile = tempfile::tempdir().expect("a directory");
    let chromium = Command::new("chromium")
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--virtual-time-budget=1500",
            "--dump-dom",
        ])
        .arg(format!("--user-data-dir={}", profile.path().display()))
        .arg(format!("http://{address}/"))
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DEADLINE + Duration::from_secs(60), chromium)
        .await
        .expect("the browser ends in time")
        .expect("chromium is needed: apt-get install chromium");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Issue 3, items 7 and 10: the event as steps, groups with owner and state, maintenance loudly.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_event_groups_and_maintenance() {
    let page = seen(&Stage::busy()).await;
    for part in [
        "class=\"loud on\"",
        "node n2 is in maintenance: nothing is moved or restarted there.",
        "prod does not serve db",
        "node_down n3: phase 2 of 2; waits for n1",
        "n2: arrived, exit status 0, 0.1 s",
        "web: acquired by n1. n3 is down",
        "web (cascading)",
        "▲ ACQUIRING",
        "■ ERROR",
        "blocked: db_main could not be stopped on n2: exit status 1",
        "group_move db",
        "▲ rp_running",
        "<li>",
        "href=\"/api/v1/incidents/",
        "(incident ",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
}
