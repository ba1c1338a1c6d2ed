//! Watching: what a stream brings, how it resumes, and that a slow client harms nobody.

mod common;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode};
use common::{DEADLINE, Stage, one_down};
use http_body_util::BodyExt;
use serde_json::Value;
use tokio::time::timeout;
use tower::ServiceExt;
use vedette_core::command::Command;
use vedette_core::fixture::alone;
use vedette_core::id::NodeNumber;
use vedette_core::model::Severity;
use vedette_exporter::MOST_WATCHERS;

/// A stream, read event by event.
struct Events {
    body: Body,
    text: String,
}

/// One server-sent event.
#[derive(Debug)]
struct Event {
    name: String,
    id: Option<u64>,
    data: Value,
}

async fn open(router: &Router, last: Option<&str>) -> (StatusCode, Events) {
    let mut request = Request::get("/api/v1/watch");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    let request = request.body(Body::empty()).expect("a request");
    let response = router.clone().oneshot(request).await.expect("an answer");
    (response.status(), Events { body: response.into_body(), text: String::new() })
}

impl Events {
    /// The next event that is none of the comments; `None` at the end of the stream.
    async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((head, rest)) = self.text.split_once("\n\n") {
                let (head, rest) = (head.to_owned(), rest.to_owned());
                self.text = rest;
                if !head.starts_with(':') {
                    return Some(parse(&head));
                }
            }
            let frame = timeout(DEADLINE, self.body.frame()).await.expect("an event in time")?;
            let data = frame.expect("a frame").into_data().expect("data");
            self.text.push_str(std::str::from_utf8(&data).expect("text"));
        }
    }

    async fn named(&mut self, name: &str) -> Event {
        let search = async {
            loop {
                let event = self.next().await.expect("the stream goes on");
                if event.name == name {
                    return event;
                }
            }
        };
        // Signs of life arrive for ever: the deadline is for the event that is waited for.
        timeout(DEADLINE, search).await.expect("the event in time")
    }
}

fn parse(text: &str) -> Event {
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    Event {
        name: field("event: ").expect("a name").into(),
        id: field("id: ").map(|id| id.parse().expect("a number")),
        data: serde_json::from_str(field("data: ").expect("data")).expect("JSON"),
    }
}

#[tokio::test]
async fn a_stream_begins_with_a_snapshot_and_brings_every_event() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let (status, mut events) = open(&stage.router(), None).await;
    assert_eq!(status, StatusCode::OK);
    let snapshot = events.next().await.expect("an event");
    assert_eq!((snapshot.name.as_str(), snapshot.id), ("snapshot", Some(fixture.state.seq)));
    assert_eq!(snapshot.data["level"], "degraded");

    for level in [Severity::Error, Severity::Notice, Severity::Warning] {
        fixture.apply(Command::SetLoggingLevel(level));
        stage.publish(&fixture);
        let record = events.named("record").await;
        assert_eq!(record.id, Some(fixture.state.seq));
        assert_eq!(record.data["current"], level.name());
    }
}

#[tokio::test]
async fn a_change_is_told_with_its_revision_and_verdict() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let (_, mut events) = open(&stage.router(), None).await;
    events.named("snapshot").await;
    fixture.apply(Command::SetLoggingLevel(Severity::Error));
    stage.publish(&fixture);
    let state = events.named("state").await;
    assert_eq!(state.data["revision"], fixture.state.revision);
    assert_eq!((state.id, &state.data["quorate"]), (None, &Value::Bool(true)));
}

/// What a node writes into its own journal is told at once, without a quorum; a client that resumes is
/// not confused by it.
#[tokio::test]
async fn what_a_node_lives_through_is_told_at_once() {
    let (stage, fixture) = (Stage::one_down(), one_down());
    let (_, mut events) = open(&stage.router(), None).await;
    let durable = events.named("snapshot").await.id;
    stage.publish_view(alone(&fixture, NodeNumber(1)), fixture.records.clone());
    let local = events.next().await.expect("an event");
    assert_eq!((local.name.as_str(), local.id), ("local", None), "it says so first");
    assert_eq!(
        (&local.data["code"], &local.data["phase"]),
        (&"QUORUM_LOST".into(), &"raised".into())
    );
    let state = events.named("state").await;
    assert_eq!((&state.data["known"], &state.data["quorate"]), (&false.into(), &false.into()));

    let resume = durable.expect("an id").to_string();
    let (_, mut again) = open(&stage.router(), Some(&resume)).await;
    let snapshot = again.next().await.expect("an event");
    assert_eq!(snapshot.name, "snapshot");
    assert_eq!(snapshot.data["local_records"][0]["number"], 1, "the snapshot has it");
}

/// T6: a node that is cut off says so once; that time goes by is no news.
#[tokio::test]
async fn time_alone_is_no_news() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let (_, mut events) = open(&stage.router(), None).await;
    events.named("snapshot").await;
    let lost = alone(&fixture, NodeNumber(1));
    stage.publish_view(lost.clone(), fixture.records.clone());
    assert_eq!(events.named("state").await.data["known"], false);
    for _ in 0..5 {
        let mut later = lost.clone();
        let mut report = later.local.report.as_deref().expect("a report").clone();
        report.links.iter_mut().for_each(|link| link.silent = link.silent.map(|it| it * 2));
        later.local.report = Some(Arc::new(report));
        stage.publish_view(later, fixture.records.clone());
        tokio::task::yield_now().await;
    }
    fixture.apply(Command::SetLoggingLevel(Severity::Error));
    stage.publish(&fixture);
    let next = events.next().await.expect("an event");
    assert_eq!((next.name.as_str(), &next.data["known"]), ("state", &true.into()), "{next:?}");
}

/// `Last-Event-ID`: nothing twice, nothing missing, and then the live ones.
#[tokio::test]
async fn a_stream_resumes() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let (_, mut events) = open(&stage.router(), Some("3")).await;
    let snapshot = events.next().await.expect("an event");
    assert_eq!((snapshot.name.as_str(), snapshot.id), ("snapshot", None));
    for seq in 4..=fixture.state.seq {
        let record = events.next().await.expect("an event");
        assert_eq!((record.name.as_str(), record.id), ("record", Some(seq)));
    }
    fixture.apply(Command::SetLoggingLevel(Severity::Error));
    stage.publish(&fixture);
    assert_eq!(events.named("record").await.id, Some(fixture.state.seq));
}

/// An id from another history, or one that makes no sense.
#[tokio::test]
async fn a_stream_that_cannot_resume_says_so() {
    let stage = Stage::one_down();
    let router = stage.router();
    let (_, mut events) = open(&router, Some("999999")).await;
    assert_eq!(events.next().await.expect("an event").name, "resync");
    assert_eq!(events.next().await.expect("an event").name, "snapshot");
    assert_eq!(stage.counters.watchers_resynced.load(Ordering::Relaxed), 1);
    assert_eq!(open(&router, Some("x")).await.0, StatusCode::BAD_REQUEST);
}

/// Records of before are gone from the history: the stream says so and ends.
#[tokio::test]
async fn a_hole_in_the_history_is_not_papered_over() {
    let fixture = one_down();
    let view = fixture.view(vedette_core::id::NodeNumber(1));
    let stage = Stage::showing(view, Vec::new(), Duration::ZERO);
    let (_, mut events) = open(&stage.router(), Some("3")).await;
    events.named("snapshot").await;
    assert_eq!(events.next().await.expect("an event").name, "resync");
    assert!(events.next().await.is_none());
}

/// One client reads nothing while thousands of events go by: the other gets each of them at once,
/// and the slow one is told to begin anew.
#[tokio::test]
async fn a_slow_client_harms_nobody() {
    let (stage, mut fixture) = (Stage::one_down(), one_down());
    let router = stage.router();
    let (_, mut slow) = open(&router, None).await;
    let (_, mut quick) = open(&router, None).await;
    slow.named("snapshot").await;
    quick.named("snapshot").await;
    let first = fixture.state.seq + 1;
    for round in 0..1_500_u64 {
        let level = if round % 2 == 0 { Severity::Error } else { Severity::Notice };
        fixture.apply(Command::SetLoggingLevel(level));
        stage.publish(&fixture);
        assert_eq!(quick.named("record").await.id, Some(first + round));
    }
    assert_eq!(slow.next().await.expect("an event").name, "resync");
    assert!(slow.next().await.is_none(), "and its stream ends");
    assert_eq!(stage.counters.watchers_resynced.load(Ordering::Relaxed), 1);
}

/// Virtual time: a sign of life after 15 s of silence.
#[tokio::test(start_paused = true)]
async fn a_silent_stream_shows_that_it_is_alive() {
    let stage = Stage::one_down();
    let (_, mut events) = open(&stage.router(), None).await;
    events.named("snapshot").await;
    let begin = tokio::time::Instant::now();
    let frame = events.body.frame().await.expect("a frame").expect("a frame");
    assert_eq!(frame.into_data().expect("data"), ": keep-alive\n\n");
    assert_eq!(begin.elapsed().as_secs(), 15);
}

/// Places are limited, and given back.
#[tokio::test]
async fn there_are_only_so_many_watchers() {
    let stage = Arc::new(Stage::one_down());
    let router = stage.router();
    let mut watchers = Vec::new();
    for _ in 0..MOST_WATCHERS {
        let (status, events) = open(&router, None).await;
        assert_eq!(status, StatusCode::OK);
        watchers.push(events);
    }
    assert_eq!(open(&router, None).await.0, StatusCode::SERVICE_UNAVAILABLE);
    watchers.pop();
    assert_eq!(open(&router, None).await.0, StatusCode::OK);
    drop(watchers);
    assert_eq!(stage.counters.watchers.load(Ordering::Relaxed), 0);
}
