//! A surface over the example cluster, which a test can change while it is being watched.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tower::ServiceExt;
use vedette_core::fixture::{DOWN_AT, Fixture, alone, busy_fixture, watched_fixture};
use vedette_core::id::NodeNumber;
use vedette_core::record::Record;
use vedette_core::view::{Change, Source, View};
use vedette_exporter::{Counters, SourceHistory, Surface, router};

/// How long a test waits for something before it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What the daemon is to the exporter: a source that changes, and its two signals.
pub struct Stage {
    source: Arc<StageSource>,
    changed: watch::Sender<Change>,
    records: watch::Sender<u64>,
    pub counters: Arc<Counters>,
}

struct StageSource {
    now: Mutex<(Arc<View>, Vec<Arc<Record>>, Duration)>,
}

impl Source for StageSource {
    fn view(&self) -> Arc<View> {
        self.now.lock().expect("not poisoned").0.clone()
    }

    fn stale(&self) -> Duration {
        self.now.lock().expect("not poisoned").2
    }

    fn records_after(&self, seq: u64, most: usize) -> Vec<Arc<Record>> {
        let now = self.now.lock().expect("not poisoned");
        now.1.iter().skip(usize::try_from(seq).unwrap_or(usize::MAX)).take(most).cloned().collect()
    }
}

impl Stage {
    /// The example cluster as `n1` shows it.
    pub fn new(fixture: &Fixture) -> Self {
        Self::showing(fixture.view(NodeNumber(1)), fixture.records.clone(), Duration::ZERO)
    }

    /// Any view.
    pub fn showing(view: View, records: Vec<Arc<Record>>, stale: Duration) -> Self {
        let (change, seq) = (change_of(&view), view.local.history_seq);
        let now = Mutex::new((Arc::new(view.shown()), records, stale));
        Self {
            source: Arc::new(StageSource { now }),
            changed: watch::Sender::new(change),
            records: watch::Sender::new(seq),
            counters: Arc::default(),
        }
    }

    /// The cluster of the golden files: three nodes, `n3` is down.
    pub fn one_down() -> Self {
        Self::new(&one_down())
    }

    /// The cluster of the golden files in `busy`: groups, an event in progress, failures.
    pub fn busy() -> Self {
        Self::new(&busy_fixture())
    }

    /// The cluster of the golden files in `watched`: rules about values, and monitors.
    pub fn watched() -> Self {
        Self::new(&watched_fixture())
    }

    /// The cluster of the golden files in `alone`: the busy one, as `n1` shows it that lost all others.
    pub fn alone() -> Self {
        let fixture = busy_fixture();
        let view = alone(&fixture, NodeNumber(1));
        Self::showing(view, fixture.records, Duration::from_secs(10))
    }

    pub fn surface(&self) -> Surface {
        Surface {
            source: self.source.clone(),
            history: Arc::new(SourceHistory(self.source.clone())),
            clock: Arc::new(|| DOWN_AT.plus(Duration::from_secs(30))),
            counters: self.counters.clone(),
            changed: self.changed.subscribe(),
            records: self.records.subscribe(),
        }
    }

    pub fn router(&self) -> Router {
        router(self.surface())
    }

    /// What the agent does when the fixture has gone on: show it, then announce it.
    pub fn publish(&self, fixture: &Fixture) {
        self.publish_view(fixture.view(NodeNumber(1)), fixture.records.clone());
    }

    pub fn publish_view(&self, view: View, records: Vec<Arc<Record>>) {
        let (change, seq) = (change_of(&view), view.local.history_seq);
        let now = (Arc::new(view.shown()), records, Duration::ZERO);
        *self.source.now.lock().expect("not poisoned") = now;
        self.changed.send_replace(change);
        self.records.send_replace(seq);
    }
}

fn change_of(view: &View) -> Change {
    Change { revision: view.revision(), viewpoint: view.viewpoint }
}

/// The fixture behind [`Stage::one_down`], to go on from.
pub fn one_down() -> Fixture {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    fixture.clock = DOWN_AT;
    fixture.node_down(NodeNumber(3), "silent on neta and netb for 1.0 s, as n1 and n2 see it");
    fixture
}

/// An answer, read to its end.
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.body))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("")
    }
}

/// One request, without a socket.
pub async fn ask(router: &Router, request: Request<Body>) -> Answer {
    let response = router.clone().oneshot(request).await.expect("a router always answers");
    let (parts, body) = response.into_parts();
    let body = body.collect().await.expect("a body").to_bytes();
    Answer {
        status: parts.status,
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).expect("text"),
    }
}

pub async fn get(router: &Router, path: &str) -> Answer {
    ask(router, Request::get(path).body(Body::empty()).expect("a request")).await
}
