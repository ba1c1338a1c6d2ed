//! One task renders every event once, for all watchers.
//!
//! Frames go into a ring (a broadcast channel). A watcher reads at its own pace; one that falls a
//! whole ring behind is told to begin anew. So a watcher costs a cursor, never a queue, and no
//! watcher can hold up another one or the daemon.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use hyper::body::Bytes;
use serde::Serialize;
use tokio::sync::{broadcast, watch};
use tracing::warn;
use vedette_collector::clinfo::{EventDoc, LocalRecordDoc};
use vedette_core::record::Record;
use vedette_core::view::Change;

use crate::watch::StateDoc;
use crate::{EventQuery, Surface, events};

/// Frames in the ring: a burst of a whole cluster failing is a few hundred.
const RING: usize = 1_024;

/// How many records are read at once.
const PAGE: usize = 256;

/// One server-sent event, ready to be written.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Sequence number of the record; `None` if the frame is about the state or the node itself.
    pub(crate) seq: Option<u64>,
    /// The text.
    pub(crate) text: Bytes,
}

/// The ring.
pub(crate) struct Publisher {
    frames: broadcast::Sender<Frame>,
}

impl Publisher {
    /// Starts the task; it ends with the daemon's signals.
    pub(crate) fn start(surface: Arc<Surface>) -> Arc<Self> {
        let publisher = Arc::new(Self { frames: broadcast::Sender::new(RING) });
        // Both marks are set now, not when the task first runs: what is published in between is new.
        let (mut changed, mut records) = (surface.changed.clone(), surface.records.clone());
        changed.mark_unchanged();
        let told = Told {
            state: None,
            local: surface.source.view().local.journal_health.last,
            record: *records.borrow_and_update(),
        };
        tokio::spawn(run(surface, publisher.clone(), changed, records, told));
        publisher
    }

    /// Frames from now on.
    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Frame> {
        self.frames.subscribe()
    }

    /// Nobody listening is no error.
    fn publish(&self, frame: Frame) {
        let _ = self.frames.send(frame);
    }
}

/// What was published last.
struct Told {
    state: Option<StateDoc>,
    /// Number of the entry of the node's own journal.
    local: u64,
    /// Sequence number of the record.
    record: u64,
}

async fn run(
    surface: Arc<Surface>,
    publisher: Arc<Publisher>,
    mut changed: watch::Receiver<Change>,
    mut records: watch::Receiver<u64>,
    mut told: Told,
) {
    loop {
        tokio::select! {
            biased;
            newer = changed.changed() => {
                if newer.is_err() { return }
                tell_local(&surface, &publisher, &mut told.local);
                let (state, _) = surface.read(StateDoc::new);
                // A view is also new when only round-trip times are; that is no news to anybody.
                if told.state.as_ref() == Some(&state) { continue }
                publisher.publish(Frame { seq: None, text: frame("state", None, &state) });
                told.state = Some(state);
            }
            more = records.changed() => {
                if more.is_err() { return }
                let durable = *records.borrow_and_update();
                announce(&surface, &publisher, &mut told.record, durable).await;
            }
        }
    }
}

/// Publishes what the node wrote into its own journal after the entry `told`. It may be all that
/// anybody hears of it, so it waits for nothing.
fn tell_local(surface: &Surface, publisher: &Publisher, told: &mut u64) {
    let news = surface.source.local_after(*told, PAGE);
    let Some(last) = news.last() else { return };
    *told = last.number;
    let view = surface.source.view();
    for record in &news {
        let text = frame("local", None, &LocalRecordDoc::new(&view, record));
        publisher.publish(Frame { seq: None, text });
    }
}

/// Publishes every record after `announced` up to `durable`.
async fn announce(surface: &Surface, publisher: &Publisher, announced: &mut u64, durable: u64) {
    while *announced < durable {
        let page = next_page(surface, *announced).await;
        if page.is_empty() {
            // The next durable record tries again.
            warn!(after = *announced, durable, "durable records cannot be read for the watchers");
            return;
        }
        for record in page {
            *announced = record.seq;
            surface.counters.announced(&record);
            publisher.publish(record_frame(&record));
        }
    }
}

/// The source has what is recent, in memory; the history has the rest.
async fn next_page(surface: &Surface, after: u64) -> Vec<Arc<Record>> {
    let recent = surface.source.records_after(after, PAGE);
    if recent.first().is_some_and(|record| record.seq == after + 1) {
        return recent;
    }
    let query = EventQuery { after, limit: PAGE, severity: None, code: None };
    events::read(surface, query).await.unwrap_or_default()
}

/// A record as a server-sent event; its `id` is where a client resumes.
pub(crate) fn record_frame(record: &Record) -> Frame {
    let text = frame("record", Some(record.seq), &EventDoc::new(record));
    Frame { seq: Some(record.seq), text }
}

/// The text of one server-sent event. JSON has no line breaks, so one `data` line is enough.
pub(crate) fn frame<T: Serialize>(event: &str, id: Option<u64>, data: &T) -> Bytes {
    let data = serde_json::to_string(data).unwrap_or_default();
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    Bytes::from(format!("event: {event}\n{id}data: {data}\n\n"))
}

/// A watcher is counted for as long as this lives.
pub(crate) struct Watching(pub(crate) Arc<Surface>);

impl Watching {
    /// Counts one more, unless there are `most` already.
    pub(crate) fn begin(surface: &Arc<Surface>, most: i64) -> Option<Self> {
        let watching = Self(surface.clone());
        let before = surface.counters.watchers.fetch_add(1, Ordering::Relaxed);
        (before < most).then_some(watching)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.counters.watchers.fetch_sub(1, Ordering::Relaxed);
    }
}
