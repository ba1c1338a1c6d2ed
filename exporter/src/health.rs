//! For load balancers and supervisors: is this process alive, and may its node be relied upon?

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::Verdict;

use crate::query::Params;
use crate::{App, Problem};

/// Alive: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The process answers", body = String),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn healthz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri, &[])?.wait(&app.surface).await?;
    Ok("ok\n".into_response())
}

/// Ready: this node is part of a quorum of a cluster that is seeded.
#[utoipa::path(get, path = "/readyz", tag = "health",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The node serves", body = String),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 503, description = "The node does not serve, and why", body = Problem)))]
pub(crate) async fn readyz(State(app): State<App>, uri: Uri) -> Result<Response, Problem> {
    Params::of(&uri, &[])?.wait(&app.surface).await?;
    let (verdict, view) = app.surface.read(Verdict::new);
    if view.local.knows() && view.state.seeded {
        return Ok("ready\n".into_response());
    }
    Err(Problem::unavailable("not_ready", verdict.sentence, "Ask another node, or wait."))
}
