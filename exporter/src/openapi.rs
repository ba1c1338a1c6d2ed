//! The OpenAPI document, generated from the handlers; `exporter/openapi.json` is its committed copy.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use utoipa::OpenApi;
use vedette_collector::clinfo::{EventDoc, LocalRecordDoc, StatusDoc};

use crate::query::Params;
use crate::watch::StateDoc;
use crate::{App, Problem, api, events, groups, health, incidents, journal, metrics, page, watch};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Vedette",
        description = "What a node knows of its cluster. Read-only. Every GET \
        takes `index` and `wait`; every answer carries X-Vedette-Revision, X-Vedette-Stale-Ms, \
        X-Vedette-Time (by the clock that dates what it says) and \
        X-Vedette-Quorate."
    ),
    paths(
        page::page,
        metrics::metrics,
        health::healthz,
        health::readyz,
        api::status,
        api::clusters,
        api::nodes,
        api::node,
        api::route,
        api::local,
        journal::records,
        api::primary,
        api::networks,
        api::network,
        api::interfaces,
        api::links,
        api::ports,
        api::available,
        groups::groups,
        groups::group,
        groups::location,
        groups::active,
        groups::standby,
        groups::online,
        groups::manager,
        groups::monitors,
        incidents::incidents,
        incidents::incident,
        incidents::report,
        api::alerts,
        events::events,
        watch::watch,
        document
    ),
    components(schemas(EventDoc, LocalRecordDoc, StatusDoc, StateDoc, Problem))
)]
struct Document;

/// The document, as pretty JSON with a line break at its end.
pub fn json() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "page",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The OpenAPI document", body = Object),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn document(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri, &[])?.wait(&app.surface).await?;
    Ok(Json(Document::openapi()).into_response())
}
