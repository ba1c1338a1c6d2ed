//! A surface over the example cluster, which a test can change while it is being watched.

#![allow(dead_code, unreachable_pub, reason = "each test file uses what it needs")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::watch;
use tower::ServiceExt;
use vedette_core::command::{Command, ManagerCommand};
use vedette_core::event::Trigger;
use vedette_core::fixture::{DOWN_AT, Fixture, busy_fixture};
use vedette_core::id::NodeNumber;
use vedette_core::record::Record;
use vedette_core::variable::{Instance, Reading, Value};
use vedette_core::view::{MonitorView, Source, View};
use vedette_exporter::{Counters, SourceHistory, Surface, router};

/// How long a test waits for something before it fails.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// What the daemon is to the exporter: a source that changes, and its two signals.
pub struct Stage {
    source: Arc<StageSource>,
    changed: watch::Sender<u64>,
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
        let (revision, seq) = (view.revision(), view.local.history_seq);
        let now = Mutex::new((Arc::new(view), records, stale));
        Self {
            source: Arc::new(StageSource { now }),
            changed: watch::Sender::new(revision),
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

    /// A cluster with rules about values: one has fired on `n2`, a monitor fails on `n3`, and `n1`,
    /// which answers, sees a program and its memory.
    pub fn watched() -> Self {
        let mut fixture = Fixture::settled(3);
        fixture.join_managers();
        watch(&mut fixture);
        let mut view = fixture.view(NodeNumber(1));
        view.local.monitors = Arc::new(monitors());
        Self::showing(view, fixture.records.clone(), Duration::ZERO)
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
        let (revision, seq) = (view.revision(), view.local.history_seq);
        *self.source.now.lock().expect("not poisoned") = (Arc::new(view), records, Duration::ZERO);
        self.changed.send_replace(revision);
        self.records.send_replace(seq);
    }
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

/// The instance of the example that has fired.
const RWHOD: &str = "NodeNum=2;ProgName=rwhod;UserName=root";

fn watch(fixture: &mut Fixture) {
    let rule = "UE_RWHOD\n0\n/site/rwho.rp\n2\n0\nIBM.PSSP.Prog.xpcount\n\
                NodeNum=*;ProgName=rwhod;UserName=root\nX@0==0&&X@1!=0\nX@0>0\n\
                UE_QUEUE\n0\n/site/rwho.rp\n2\n0\nsite.queue\nNodeNum=3\nX>9\n\n";
    let programs = [("/site/rwho.rp".to_owned(), "all \"a\" X NULL\n".to_owned())];
    fixture.apply(Command::SaveRules {
        text: rule.into(),
        programs: programs.into(),
        comment: "an example".into(),
        based_on: 0,
    });
    fixture.manage(ManagerCommand::Queue {
        trigger: Trigger::User {
            rule: "UE_RWHOD".into(),
            node: NodeNumber(2),
            instance: RWHOD.into(),
            value: "0,1,\"\"".into(),
        },
        cause: "it died".into(),
    });
    fixture.manage(ManagerCommand::Blind {
        node: NodeNumber(3),
        what: "monitor site.queue".into(),
        why: Some("exit status 3".into()),
    });
}

fn monitors() -> BTreeMap<String, MonitorView> {
    let reading = |variable: &str, elements: &[(&str, &str)], value: &str| Reading {
        variable: variable.into(),
        instance: Instance::on(NodeNumber(1), elements),
        value: Value::parse(value),
        at: DOWN_AT,
    };
    let works = |interval: u64, reading: Reading| MonitorView {
        interval: Duration::from_secs(interval),
        at: Some(DOWN_AT),
        failure: None,
        readings: vec![reading],
    };
    let rwhod = [("ProgName", "rwhod"), ("UserName", "root")];
    let fails = MonitorView {
        failure: Some("some file systems cannot be looked at: /data is not mounted".into()),
        ..works(10, reading("fs.used_percent", &[("MountPoint", "/")], "41.5"))
    };
    BTreeMap::from([
        ("file systems".to_owned(), fails),
        ("programs".to_owned(), works(1, reading("program.count", &rwhod, "1,0,\"7218\""))),
    ])
}
