//! Events: the durable history, page by page.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::timeout_at;
use utoipa::ToSchema;
use vedette_collector::clinfo::EventDoc;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};
use vedette_core::view::View;

use crate::query::Params;
use crate::{App, EventQuery, HistoryReader, HistoryUnavailable, Problem, Surface, meta};

/// How many events an answer holds if the request does not say, and at most.
pub(crate) const DEFAULT_LIMIT: u64 = 100;
const MOST: u64 = 1_000;

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

/// Events after a sequence number, oldest first.
#[utoipa::path(get, path = "/api/v1/events", tag = "events",
    params(("after" = Option<u64>, Query, description = "Only those with a greater sequence number; 0 if not given"),
           ("limit" = Option<u64>, Query, description = "At most so many: 1 to 1000, 100 if not given"),
           ("severity" = Option<String>, Query, description = "Only those at least this bad: error, warning, notice, informational"),
           ("code" = Option<String>, Query, description = "Only those of this kind, such as NODE_HOST"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The events", body = EventsDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 503, description = "The history cannot be read now", body = Problem)))]
pub(crate) async fn events(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["after", "limit", "severity", "code"])?;
    let query = event_query(&params)?;
    let view = wait_durable(&app.surface, &params).await?;
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

fn event_query(params: &Params) -> Result<EventQuery, Problem> {
    let limit = limit_of(params, DEFAULT_LIMIT)?;
    Ok(EventQuery {
        // No history is longer than what a signed number can count.
        after: params.number("after")?.unwrap_or(0).min(i64::MAX as u64),
        limit,
        severity: one_of(params, "severity", Severity::from_name, || names(Severity::ALL))?,
        code: one_of(params, "code", Code::from_name, || {
            Code::ALL.iter().map(|code| code.name()).collect::<Vec<_>>().join(", ")
        })?,
    })
}

/// How many entries are wanted; `usual` if the request does not say.
pub(crate) fn limit_of(params: &Params, usual: u64) -> Result<usize, Problem> {
    let limit = params.number("limit")?.unwrap_or(usual);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_parameter(
            format!("limit={limit} is out of range."),
            format!("Give a number from 1 to {MOST}."),
        ));
    }
    Ok(limit as usize)
}

fn names(all: &[Severity]) -> String {
    all.iter().map(|each| each.name()).collect::<Vec<_>>().join(", ")
}

fn one_of<T>(
    params: &Params,
    name: &str,
    parse: impl Fn(&str) -> Option<T>,
    all: impl Fn() -> String,
) -> Result<Option<T>, Problem> {
    let Some(text) = params.get(name) else { return Ok(None) };
    let bad = || {
        Problem::bad_parameter(
            format!("{name}={text:?} is not known."),
            format!("Give one of {}.", all()),
        )
    };
    parse(text).map(Some).ok_or_else(bad)
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
        Problem::unavailable("history_unavailable", why, "Ask again, or ask another node.")
    };
    tokio::task::spawn_blocking(move || read(&*history))
        .await
        .map_err(|_| unavailable("The history was not read: the process is ending.".into()))?
        .map_err(|error| unavailable(format!("{error}.")))
}

/// Waits until what the view tells is durable, where the request waits for something at all: what a
/// new revision recorded may not be in the history yet.
pub(crate) async fn wait_durable(surface: &Surface, params: &Params) -> Result<Arc<View>, Problem> {
    let deadline = params.wait(surface).await?;
    let view = surface.source.view();
    if params.get("index").is_some() {
        let mut records = surface.records.clone();
        let durable = records.wait_for(|seq| *seq >= view.state.seq);
        let _ = timeout_at(deadline, durable).await;
    }
    Ok(view)
}
