//! For load balancers and supervisors: is this process alive, and may its node be relied upon?

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{ProblemDoc, Verdict};

use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, Problem};

/// Alive: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health",
    params(Wait),
    responses((status = 200, description = "The process answers", body = String),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn healthz(
    State(app): State<App>,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    wait.pass(&app.surface).await;
    Ok("ok\n".into_response())
}

/// Ready: this node is part of a quorum of a cluster that is seeded.
#[utoipa::path(get, path = "/readyz", tag = "health",
    params(Wait),
    responses((status = 200, description = "The node serves", body = String),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 503, description = "The node does not serve, and why", body = ProblemDoc)))]
pub(crate) async fn readyz(
    State(app): State<App>,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    wait.pass(&app.surface).await;
    let (verdict, view) = app.surface.read(Verdict::new);
    if view.local.knows() && view.state.seeded {
        return Ok("ready\n".into_response());
    }
    Err(Problem::new(Kind::NotReady, verdict.sentence, "Ask another node, or wait."))
}
