//! Groups, where they are, what load balancers ask, the cluster manager, and what is watched.

use axum::extract::State;
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::{Balance, GroupDoc, LocationDoc, ManagerDoc, MonitorsDoc, Seen};

use crate::api::{Answer, Name, answer, name, try_answer};
use crate::query::Params;
use crate::{App, Problem, meta};

fn unknown_group(name: &str) -> Problem {
    Problem::not_found(
        "unknown_group",
        format!("There is no resource group {name:?}."),
        "GET /api/v1/groups lists the groups; give a name or a number.",
    )
}

/// Every resource group.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The groups, in the order of the configuration", body = Vec<GroupDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn groups(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| GroupDoc::all(seen.view)).await
}

/// One resource group, by name or number.
#[utoipa::path(get, path = "/api/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The group", body = GroupDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such group", body = Problem)))]
pub(crate) async fn group(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let group = name(path)?;
    let build =
        |seen: Seen<'_>| GroupDoc::find(seen.view, &group).ok_or_else(|| unknown_group(&group));
    try_answer(&app, &uri, build).await
}

/// Where a resource group is in service, and at which addresses.
#[utoipa::path(get, path = "/api/v1/groups/{group}/location", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "Its location", body = LocationDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such group", body = Problem)))]
pub(crate) async fn location(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let group = name(path)?;
    let build =
        |seen: Seen<'_>| LocationDoc::find(seen.view, &group).ok_or_else(|| unknown_group(&group));
    try_answer(&app, &uri, build).await
}

/// The cluster manager: the event in progress with its steps, and what waits.
#[utoipa::path(get, path = "/api/v1/manager", tag = "groups",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The manager", body = ManagerDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn manager(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, ManagerDoc::new).await
}

/// Resource monitors of the answering node, and rules that have fired anywhere.
#[utoipa::path(get, path = "/api/v1/monitors", tag = "groups",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "What is watched", body = MonitorsDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn monitors(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, MonitorsDoc::new).await
}

/// For load balancers: whether the group is in service on the answering node.
#[utoipa::path(get, path = "/api/v1/lb/{group}/active", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "It is", body = String),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such group", body = Problem),
              (status = 503, description = "It is not, and why", body = Problem)))]
pub(crate) async fn active(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    balance(&app, path, &uri, Balance::Active).await
}

/// For load balancers: whether the answering node would take the group and does not have it.
#[utoipa::path(get, path = "/api/v1/lb/{group}/standby", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "It would", body = String),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such group", body = Problem),
              (status = 503, description = "It would not, and why", body = Problem)))]
pub(crate) async fn standby(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    balance(&app, path, &uri, Balance::Standby).await
}

/// For supervisors: whether the group is in service anywhere.
#[utoipa::path(get, path = "/api/v1/lb/{group}/online", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "It is", body = String),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such group", body = Problem),
              (status = 503, description = "It is not, and why", body = Problem)))]
pub(crate) async fn online(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    balance(&app, path, &uri, Balance::Online).await
}

/// One word, because some balancers compare the body; the reason of a refusal is a problem.
async fn balance(app: &App, path: Name, uri: &Uri, question: Balance) -> Answer {
    let group: String = name(path)?;
    Params::of(uri, &[])?.wait(&app.surface).await?;
    let (holds, view) = app.surface.read(|seen| question.holds(seen.view, &group));
    let mut response: Response = match holds.ok_or_else(|| unknown_group(&group))? {
        Ok(()) => format!("{}\n", question.name()).into_response(),
        Err(why) => {
            let code = format!("not_{}", question.name());
            Problem::unavailable(&code, format!("{why}."), "Ask another node, or wait.")
                .into_response()
        }
    };
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}
