//! The answering node's own journal: what it lived through, with or without a quorum.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::{LocalRecordDoc, LocalRecordsDoc};

use crate::events::{DEFAULT_LIMIT, limit_of};
use crate::query::Params;
use crate::{App, Problem, meta};

/// Records of the answering node's own journal, oldest first: those after a number, or the latest.
#[utoipa::path(get, path = "/api/v1/local/records", tag = "events",
    params(("after" = Option<u64>, Query, description = "Only those with a greater number; the latest ones if not given"),
           ("limit" = Option<u64>, Query, description = "At most so many: 1 to 1000, 100 if not given"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The records", body = LocalRecordsDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn records(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    let params = Params::of(&uri, &["after", "limit"])?;
    let limit = limit_of(&params, DEFAULT_LIMIT)?;
    let after = params.number("after")?;
    params.wait(&app.surface).await?;
    let source = &app.surface.source;
    let view = source.view();
    let last = view.local.journal_health.last;
    let after = after.unwrap_or_else(|| last.saturating_sub(limit as u64));
    let found = source.local_after(after, limit);
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
