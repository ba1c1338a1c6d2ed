//! The answering node's own journal: what it lived through, with or without a quorum.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::{LocalRecordDoc, LocalRecordsDoc, ProblemDoc};

use crate::events::{DEFAULT_LIMIT, MOST};
use crate::query::{Asked, Limit};
use crate::wait::Wait;
use crate::{App, Problem, meta};

crate::query! {
    /// Selection of records.
    pub(crate) struct RecordsQuery {
        /// Only those with a greater number; the latest ones if not given
        after: u64,
        /// At most so many: 1 to 1000, 100 if not given
        limit: Limit<MOST>,
    }
}

/// Records of the answering node's own journal, oldest first: those after a number, or the latest.
#[utoipa::path(get, path = "/api/v1/local/records", tag = "events",
    params(RecordsQuery, Wait),
    responses((status = 200, description = "The records", body = LocalRecordsDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn records(
    State(app): State<App>,
    Asked((query, wait)): Asked<(RecordsQuery, Wait)>,
) -> Result<Response, Problem> {
    let limit = query.limit.map_or(DEFAULT_LIMIT, |limit| limit.0);
    wait.pass(&app.surface).await;
    let source = &app.surface.source;
    let view = source.view();
    let last = view.local.journal_health.last;
    let after = query.after.unwrap_or_else(|| last.saturating_sub(limit));
    let found = source.local_after(after, limit as usize);
    let document = LocalRecordsDoc {
        node: view.state.node_name(view.local.node),
        next_after: found.last().map_or(after, |record| record.number),
        records: found.iter().map(|record| LocalRecordDoc::new(&view, record)).collect(),
        last: last.max(found.last().map_or(0, |record| record.number)),
    };
    let mut response = Json(document).into_response();
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}
