//! The page in a real browser: what a person sees of the cluster at its busiest.

mod common;

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
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

/// A node that dies after its first word: whatever is asked later is not answered.
async fn dying(stage: &Stage) -> Router {
    let router = still(stage).await;
    let asked = Arc::new(AtomicUsize::new(0));
    let once = move |request: Request<Body>, next: Next| {
        let first = request.uri().path() == "/" || asked.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if first { next.run(request).await } else { StatusCode::BAD_GATEWAY.into_response() }
        }
    };
    router.layer(middleware::from_fn(once))
}

/// The page's content after its script ran.
async fn seen(stage: &Stage) -> String {
    seen_after(still(stage).await, 1_500).await
}

/// The page's content after its script ran for so many milliseconds.
async fn seen_after(router: Router, millis: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(serve_tcp(listener, router, Limits::default(), std::future::pending()));
    let profile = tempfile::tempdir().expect("a directory");
    let chromium = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
        .arg(format!("--virtual-time-budget={millis}"))
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

/// The event as steps, groups with owner and state, maintenance loudly.
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

/// T2: a node alone shows what it knew last beside UNKNOWN.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_shows_what_a_node_alone_does_not_know() {
    let page = seen(&Stage::alone()).await;
    for part in [
        "<title>failed · prod</title>",
        "this node is cut off: n1 reaches no other node",
        "director not known",
        "a majority: 1 of 3 voters is there and 2 are needed",
        "nothing known of others since 12:04:21",
        "○ UNKNOWN<small>was UP at 12:04:21</small>",
        "○ UNKNOWN<small>was ERROR on n2 at 12:04:21</small>",
        "n1 has no quorum since 12:04:21",
        "What this node lived through by itself",
    ] {
        assert!(page.contains(part), "{part:?} is not in {page}");
    }
    for part in ["● ONLINE", ">null<", "of 3 votes", "in jeopardy<", "In maintenance"] {
        assert!(!page.contains(part), "{part:?} is in {page}");
    }
    assert!(
        page.contains("<div class=\"loud\" id=\"maintenance\" role=\"alert\"></div>"),
        "{page}"
    );
}

/// W6: a page whose node does not answer any more says so first.
#[tokio::test(flavor = "multi_thread")]
async fn a_browser_says_that_the_node_does_not_answer() {
    let page = seen_after(dying(&Stage::busy()).await, 6_000).await;
    assert!(page.contains("<title>no answer from n1 · failed · prod</title>"), "{page}");
    assert!(page.contains("<body class=\"stale\">"), "{page}");
    assert!(!page.contains("current</span>"), "{page}");
    let says = page.find("No answer from n1 since").expect("it says so");
    assert!(says < page.find("prod does not serve db").expect("what it showed last"), "{page}");
}
