//! Incidents: what the history holds under one number, as a story with its steps.

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_collector::clinfo::{IncidentDoc, IncidentSummaryDoc};
use vedette_core::view::View;

use crate::api::{Answer, Name, name};
use crate::events::{read_with, wait_durable};
use crate::query::Params;
use crate::{App, Problem, meta};

/// How many incidents an answer holds if the request does not say, and at most.
const DEFAULT_LIMIT: u64 = 20;
const MOST: u64 = 100;

/// How many records of one incident are read: a failover of a large cluster has some hundreds.
const MOST_RECORDS: usize = 10_000;

/// A page of incidents.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct IncidentsDoc {
    /// The incidents, the latest first.
    pub(crate) incidents: Vec<IncidentSummaryDoc>,
    /// Ask for earlier ones with `before` so; `null` if there are none.
    pub(crate) next_before: Option<u64>,
}

/// Incidents, the latest first.
#[utoipa::path(get, path = "/api/v1/incidents", tag = "events",
    params(("before" = Option<u64>, Query, description = "Only those with a smaller number"),
           ("limit" = Option<u64>, Query, description = "At most so many: 1 to 100, 20 if not given"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The incidents", body = IncidentsDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 503, description = "The history cannot be read now", body = Problem)))]
pub(crate) async fn incidents(State(app): State<App>, uri: Uri) -> Answer {
    let params = Params::of(&uri, &["before", "limit"])?;
    let limit = params.number("limit")?.unwrap_or(DEFAULT_LIMIT);
    if !(1..=MOST).contains(&limit) {
        return Err(Problem::bad_parameter(
            format!("limit={limit} is out of range."),
            format!("Give a number from 1 to {MOST}."),
        ));
    }
    let before = params.number("before")?.unwrap_or(u64::MAX);
    let view = wait_durable(&app.surface, &params).await?;
    let ids = read_with(&app.surface, move |history| history.incidents(before, limit as usize));
    let ids = ids.await?;
    let next_before = ids.last().copied().filter(|_| ids.len() as u64 == limit);
    let mut incidents = Vec::new();
    for id in ids {
        incidents.extend(story(&app, &view, id).await?.as_ref().map(IncidentSummaryDoc::new));
    }
    Ok(describe(Json(IncidentsDoc { incidents, next_before }).into_response(), &view))
}

/// One incident: cause, decisions, every step with its length, outages.
#[utoipa::path(get, path = "/api/v1/incidents/{incident}", tag = "events",
    params(("incident" = String, Path, description = "Its number, or `last`"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The incident", body = IncidentDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such incident", body = Problem),
              (status = 503, description = "The history cannot be read now", body = Problem)))]
pub(crate) async fn incident(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let wanted = name(path)?;
    let view = wait_durable(&app.surface, &Params::of(&uri, &[])?).await?;
    let unknown = || {
        Problem::not_found(
            "unknown_incident",
            format!("There is no incident {wanted:?}."),
            "GET /api/v1/incidents lists the incidents; give a number, or last.",
        )
    };
    let id = match wanted.as_str() {
        "last" => {
            let latest = read_with(&app.surface, |history| history.incidents(u64::MAX, 1)).await?;
            latest.first().copied()
        }
        number => number.parse().ok(),
    };
    let story = story(&app, &view, id.ok_or_else(unknown)?).await?.ok_or_else(unknown)?;
    Ok(describe(Json(story).into_response(), &view))
}

async fn story(app: &App, view: &View, id: u64) -> Result<Option<IncidentDoc>, Problem> {
    let records =
        read_with(&app.surface, move |history| history.incident(id, MOST_RECORDS)).await?;
    Ok(IncidentDoc::build(&records, |node| view.state.node_name(node)))
}

fn describe(mut response: Response, view: &View) -> Response {
    meta::of_view(response.headers_mut(), view);
    response
}
