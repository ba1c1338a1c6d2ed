//! Watching: server-sent events.
//!
//! A stream begins with `snapshot` (the whole status), then brings `record` for every event, with
//! its sequence number as `id`, `state` whenever revision, verdict or quorum changed, and `local` for
//! every record of the answering node's own journal, at once and without a quorum, too. A `local` has
//! no `id`, because it is no event of the cluster that a client could resume after: the latest ones
//! are in the snapshot, and one that falls in between comes twice, with the same number. A client
//! that reconnects with `Last-Event-ID` is first given what it missed. A client that missed too
//! much, or does not keep up, is sent `resync` and, in the latter case, disconnected: it must read
//! the status anew.
//! A comment every 15 s shows that the stream is alive.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::Response;
use futures_util::stream;
use hyper::body::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::broadcast::{Receiver, error::RecvError};
use tokio::time::timeout;
use utoipa::ToSchema;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{ClusterDoc, Level, ProblemDoc, Seen, StatusDoc, Verdict};
use vedette_core::model::{ClusterStatus, Substate};

use crate::publisher::{Frame, Watching, frame, record_frame};
use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, EventQuery, Problem, Surface, events};

/// How many clients may watch one node.
pub const MOST_WATCHERS: usize = 2_048;

/// Time between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A client that missed more than this reads the status anew instead.
const LONGEST_REPLAY: u64 = 10_000;

/// How many missed events are read at once.
const PAGE: usize = 256;

/// What a `state` event says: enough to know whether to ask for more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StateDoc {
    /// The revision.
    pub revision: u64,
    /// `fine`, `degraded`, `failed` or `unknown`.
    pub level: Level,
    /// One sentence.
    pub verdict: String,
    /// Cluster state, as the answering node may claim it.
    #[schema(value_type = String, example = "up")]
    pub status: ClusterStatus,
    /// Cluster substate.
    #[schema(value_type = String, example = "stable")]
    pub substate: Substate,
    /// Whether the answering node is part of a quorum.
    pub quorate: bool,
    /// Whether it knows the present state.
    #[serde(default)]
    pub known: bool,
    /// When it knew that last; `null` while it does.
    #[serde(default)]
    pub as_of: Option<String>,
}

impl StateDoc {
    pub(crate) fn new(seen: Seen<'_>) -> Self {
        let (verdict, cluster) = (Verdict::new(seen), ClusterDoc::new(seen.view));
        Self {
            revision: cluster.revision,
            level: verdict.level,
            verdict: verdict.sentence,
            status: cluster.status,
            substate: cluster.substate,
            quorate: cluster.quorate,
            known: cluster.known,
            as_of: cluster.as_of,
        }
    }
}

/// Events as they happen: `snapshot`, then `record`, `state` and `local`; `resync` if some were missed.
#[utoipa::path(get, path = "/api/v1/watch", tag = "events",
    params(Wait,
           ("Last-Event-ID" = Option<u64>, Header, description = "Resume after this sequence number")),
    responses((status = 200, description = "The stream; `record` carries an EventDoc, `state` a StateDoc, `local` a LocalRecordDoc, `snapshot` a StatusDoc",
               body = StateDoc, content_type = "text/event-stream"),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 503, description = "Too many watch already", body = ProblemDoc)))]
pub(crate) async fn watch(
    State(app): State<App>,
    headers: HeaderMap,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    let resume = last_event_id(&headers)?;
    wait.pass(&app.surface).await;
    let Some(watching) = Watching::begin(&app.surface, MOST_WATCHERS as i64) else {
        return Err(Problem::new(
            Kind::TooManyWatchers,
            format!("{MOST_WATCHERS} clients watch this node already."),
            "Watch another node.",
        ));
    };
    // The ring first, then the rest: nothing falls between.
    let ring = app.publisher.subscribe();
    let watcher = Watcher::new(watching, ring, resume);
    let body = stream::unfold(watcher, |mut watcher| async move {
        let text = watcher.next().await?;
        Some((Ok::<Bytes, Infallible>(text), watcher))
    });
    let mut response = Response::new(Body::from_stream(body));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Problem> {
    let Some(value) = headers.get("last-event-id") else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes());
    text.trim().parse().map(Some).map_err(|_| {
        let advice = "Send the id of the last event you have seen, or leave the header out.";
        Problem::bad_value("Last-Event-ID", &text, "is not a whole number", advice)
    })
}

/// Where a watcher stands.
enum Stage {
    /// Nothing was sent yet.
    Beginning { resume: Option<u64> },
    /// It is given what it missed, up to and with `upto`.
    Replaying { upto: u64 },
    /// It follows the ring.
    Following,
    /// It was told to begin anew.
    Over,
}

/// One client.
struct Watcher {
    watching: Watching,
    ring: Receiver<Frame>,
    stage: Stage,
    /// Sequence number of the last record it was sent.
    cursor: u64,
}

impl Watcher {
    fn new(watching: Watching, ring: Receiver<Frame>, resume: Option<u64>) -> Self {
        Self { watching, ring, stage: Stage::Beginning { resume }, cursor: 0 }
    }

    fn surface(&self) -> &Arc<Surface> {
        &self.watching.0
    }

    /// The next thing to send; `None` ends the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            match self.stage {
                Stage::Beginning { resume } => return Some(self.begin(resume)),
                Stage::Replaying { upto } => {
                    if let Some(text) = self.replay(upto).await {
                        return Some(text);
                    }
                }
                Stage::Following => return self.follow().await,
                Stage::Over => return None,
            }
        }
    }

    /// The snapshot, and the decision what comes after it.
    fn begin(&mut self, resume: Option<u64>) -> Bytes {
        let durable = *self.surface().records.borrow();
        let (status, _) = self.surface().read(StatusDoc::new);
        let known = |seq: &u64| *seq <= durable && durable - *seq <= LONGEST_REPLAY;
        match resume {
            Some(seq) if known(&seq) => {
                self.cursor = seq;
                self.stage = Stage::Replaying { upto: durable };
                // Without an id: a client that loses the connection now has missed the replay.
                frame("snapshot", None, &status)
            }
            _ => {
                self.cursor = durable;
                self.stage = Stage::Following;
                let snapshot = frame("snapshot", Some(durable), &status);
                if resume.is_none() {
                    return snapshot;
                }
                self.count_resync();
                [resync("events were missed"), snapshot].concat().into()
            }
        }
    }

    /// The next page of what was missed; `None` when there is no more.
    async fn replay(&mut self, upto: u64) -> Option<Bytes> {
        if self.cursor >= upto {
            self.stage = Stage::Following;
            return None;
        }
        let query = EventQuery { after: self.cursor, limit: PAGE, severity: None, code: None };
        let page = events::read(self.surface(), query).await.unwrap_or_default();
        if page.first().is_none_or(|record| record.seq != self.cursor + 1) {
            return Some(self.give_up("the missed events cannot be read any more"));
        }
        self.cursor = page.last().map_or(self.cursor, |record| record.seq);
        let frames: Vec<Bytes> = page.iter().map(|record| record_frame(record).text).collect();
        Some(frames.concat().into())
    }

    /// The next frame of the ring that was not sent yet, or a sign of life.
    async fn follow(&mut self) -> Option<Bytes> {
        loop {
            let received = match timeout(KEEP_ALIVE, self.ring.recv()).await {
                Err(_) => return Some(Bytes::from_static(b": keep-alive\n\n")),
                Ok(received) => received,
            };
            match received {
                Ok(Frame { seq: Some(seq), .. }) if seq <= self.cursor => {}
                Ok(Frame { seq, text }) => {
                    self.cursor = seq.unwrap_or(self.cursor);
                    return Some(text);
                }
                Err(RecvError::Lagged(_)) => return Some(self.give_up("too slow")),
                Err(RecvError::Closed) => return None,
            }
        }
    }

    fn give_up(&mut self, why: &str) -> Bytes {
        self.stage = Stage::Over;
        self.count_resync();
        resync(why)
    }

    fn count_resync(&self) {
        self.surface().counters.watchers_resynced.fetch_add(1, Ordering::Relaxed);
    }
}

fn resync(reason: &str) -> Bytes {
    frame("resync", None, &serde_json::json!({ "reason": reason }))
}
