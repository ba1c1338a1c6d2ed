//! The OpenAPI document, generated from the handlers; `exporter/openapi.json` is its committed copy.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::RefOr;
use utoipa::{Modify, OpenApi};
use vedette_collector::clinfo::{EventDoc, LocalRecordDoc, ProblemDoc, StatusDoc};

use crate::problem::MEDIA_TYPE;
use crate::query::Asked;
use crate::wait::Wait;
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
    components(schemas(EventDoc, LocalRecordDoc, StatusDoc, StateDoc, ProblemDoc)),
    modifiers(&OfProblems)
)]
struct Document;

/// Gives answers that are no success the media type of problems.
struct OfProblems;

impl Modify for OfProblems {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let operations = document.paths.paths.values_mut().filter_map(|path| path.get.as_mut());
        let answers = operations.flat_map(|operation| &mut operation.responses.responses);
        for (_, answer) in answers.filter(|(status, _)| status.starts_with(['4', '5'])) {
            let RefOr::T(answer) = answer else { continue };
            let content = std::mem::take(&mut answer.content).into_values();
            answer.content = content.map(|content| (MEDIA_TYPE.to_owned(), content)).collect();
        }
    }
}

/// The document, as pretty JSON with a line break at its end.
pub fn json() -> String {
    let mut text = Document::openapi().to_pretty_json().unwrap_or_default();
    text.push('\n');
    text
}

/// This document.
#[utoipa::path(get, path = "/api/v1/openapi.json", tag = "page",
    params(Wait),
    responses((status = 200, description = "The OpenAPI document", body = Object),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn document(
    State(app): State<App>,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    wait.pass(&app.surface).await;
    Ok(Json(Document::openapi()).into_response())
}
