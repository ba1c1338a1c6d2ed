//! Events: the durable history, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use utoipa::ToSchema;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{EventDoc, ProblemDoc};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};
use vedette_core::view::View;

use crate::query::{Asked, Limit};
use crate::wait::Wait;
use crate::{App, EventQuery, HistoryReader, HistoryUnavailable, Problem, Surface, meta};

/// How many events an answer holds if the request does not say, and at most.
pub(crate) const DEFAULT_LIMIT: u64 = 100;
pub(crate) const MOST: u64 = 1_000;

/// A page of events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct EventsDoc {
    /// The events, oldest first.
    pub(crate) events: Vec<EventDoc>,
    /// Ask for the next page with `after` so.
    pub(crate) next_after: u64,
    /// Sequence number of the last durable event there is.
    pub(crate) last_seq: u64,
}

crate::query! {
    /// Selection of events.
    pub(crate) struct EventsQuery {
        /// Only those with a greater sequence number; 0 if not given
        after: u64,
        /// At most so many: 1 to 1000, 100 if not given
        limit: Limit<MOST>,
        /// Only those at least this bad: error, warning, notice, informational
        severity: Severity,
        /// Only those of this kind, such as NODE_HOST
        code: Code,
    }
}

/// Events after a sequence number, oldest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(EventsQuery, Wait),
    responses((status = 200, description = "The events", body = EventsDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 503, description = "The history cannot be read now", body = ProblemDoc)))]
pub(crate) async fn events(
    State(app): State<App>,
    Asked((query, wait)): Asked<(EventsQuery, Wait)>,
) -> Result<Response, Problem> {
    let query = EventQuery {
        // No history is longer than what a signed number can count.
        after: query.after.unwrap_or(0).min(i64::MAX as u64),
        limit: query.limit.map_or(DEFAULT_LIMIT, |limit| limit.0) as usize,
        severity: query.severity,
        code: query.code,
    };
    let view = wait_durable(&app.surface, &wait).await;
    let last_seq = *app.surface.records.borrow();
    let records = read(&app.surface, query.clone()).await?;
    // A page that is not full has seen everything up to the last event, also what it did not want.
    let full = records.len() >= query.limit;
    let last = records.last().map_or(query.after, |record| record.seq);
    let next_after = if full { last } else { last.max(last_seq) };
    let events = records.iter().map(|record| EventDoc::new(record)).collect();
    let mut response = Json(EventsDoc { events, next_after, last_seq }).into_response();
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}

/// Events of a query.
pub(crate) async fn read(
    surface: &Surface,
    query: EventQuery,
) -> Result<Vec<Arc<Record>>, Problem> {
    read_with(surface, move |history| history.events(&query)).await
}

/// Reads the history on a thread that may block.
pub(crate) async fn read_with<T: Send + 'static>(
    surface: &Surface,
    read: impl FnOnce(&dyn HistoryReader) -> Result<T, HistoryUnavailable> + Send + 'static,
) -> Result<T, Problem> {
    let history = surface.history.clone();
    let unavailable = |why: String| {
        Problem::new(Kind::HistoryUnavailable, why, "Ask again, or ask another node.")
    };
    tokio::task::spawn_blocking(move || read(&*history))
        .await
        .map_err(|_| unavailable("The history was not read: the process is ending.".into()))?
        .map_err(|error| unavailable(format!("{error}.")))
}

/// Waits until what the view tells is durable, where the request waits for something at all: what a
/// new revision recorded may not be in the history yet.
pub(crate) async fn wait_durable(surface: &Surface, wait: &Wait) -> Arc<View> {
    let deadline = wait.pass(surface).await;
    let view = surface.source.view();
    if wait.index.is_some() {
        let mut records = surface.records.clone();
        let durable = records.wait_for(|seq| *seq >= view.state.seq);
        let _ = timeout_at(deadline, durable).await;
    }
    view
}
