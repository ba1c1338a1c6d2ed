//! Groups, where they are, what load balancers ask, the cluster manager, and what is watched.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{
    Balance, GroupDoc, LocationDoc, ManagerDoc, MonitorsDoc, ProblemDoc, Seen,
};

use crate::api::{Answer, answer, try_answer};
use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, InPath, Problem, meta};

fn unknown_group(name: &str) -> Problem {
    Problem::new(
        Kind::UnknownGroup,
        format!("There is no resource group {name:?}."),
        "GET /api/v1/groups lists the groups; give a name or a number.",
    )
}

/// Every resource group.
#[utoipa::path(get, path = "/api/v1/groups", tag = "groups",
    params(Wait),
    responses((status = 200, description = "The groups, in the order of the configuration", body = Vec<GroupDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn groups(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| GroupDoc::all(seen.view)).await
}

/// One resource group, by name or number.
#[utoipa::path(get, path = "/api/v1/groups/{group}", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           Wait),
    responses((status = 200, description = "The group", body = GroupDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such group", body = ProblemDoc)))]
pub(crate) async fn group(
    State(app): State<App>,
    InPath(group): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let build =
        |seen: Seen<'_>| GroupDoc::find(seen.view, &group).ok_or_else(|| unknown_group(&group));
    try_answer(&app, &wait, build).await
}

/// Where a resource group is in service, and at which addresses.
#[utoipa::path(get, path = "/api/v1/groups/{group}/location", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           Wait),
    responses((status = 200, description = "Its location", body = LocationDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such group", body = ProblemDoc)))]
pub(crate) async fn location(
    State(app): State<App>,
    InPath(group): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let build =
        |seen: Seen<'_>| LocationDoc::find(seen.view, &group).ok_or_else(|| unknown_group(&group));
    try_answer(&app, &wait, build).await
}

/// The cluster manager: the event in progress with its steps, and what waits.
#[utoipa::path(get, path = "/api/v1/manager", tag = "groups",
    params(Wait),
    responses((status = 200, description = "The manager", body = ManagerDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn manager(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, ManagerDoc::new).await
}

/// Resource monitors of the answering node, and rules that have fired anywhere.
#[utoipa::path(get, path = "/api/v1/monitors", tag = "groups",
    params(Wait),
    responses((status = 200, description = "What is watched", body = MonitorsDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn monitors(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, MonitorsDoc::new).await
}

/// For load balancers: whether the group is in service on the answering node.
#[utoipa::path(get, path = "/api/v1/lb/{group}/active", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           Wait),
    responses((status = 200, description = "It is", body = String),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such group", body = ProblemDoc),
              (status = 503, description = "It is not, and why", body = ProblemDoc)))]
pub(crate) async fn active(
    State(app): State<App>,
    InPath(group): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    balance(&app, &group, &wait, Balance::Active).await
}

/// For load balancers: whether the answering node would take the group and does not have it.
#[utoipa::path(get, path = "/api/v1/lb/{group}/standby", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           Wait),
    responses((status = 200, description = "It would", body = String),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such group", body = ProblemDoc),
              (status = 503, description = "It would not, and why", body = ProblemDoc)))]
pub(crate) async fn standby(
    State(app): State<App>,
    InPath(group): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    balance(&app, &group, &wait, Balance::Standby).await
}

/// For supervisors: whether the group is in service anywhere.
#[utoipa::path(get, path = "/api/v1/lb/{group}/online", tag = "groups",
    params(("group" = String, Path, description = "Name or number"),
           Wait),
    responses((status = 200, description = "It is", body = String),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such group", body = ProblemDoc),
              (status = 503, description = "It is not, and why", body = ProblemDoc)))]
pub(crate) async fn online(
    State(app): State<App>,
    InPath(group): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    balance(&app, &group, &wait, Balance::Online).await
}

/// One word, because some balancers compare the body; the reason of a refusal is a problem.
async fn balance(app: &App, group: &str, wait: &Wait, question: Balance) -> Answer {
    wait.pass(&app.surface).await;
    let (holds, view) = app.surface.read(|seen| question.holds(seen.view, group));
    let mut response: Response = match holds.ok_or_else(|| unknown_group(group))? {
        Ok(()) => format!("{}\n", question.name()).into_response(),
        Err(why) => {
            let kind = match question {
                Balance::Active => Kind::NotActive,
                Balance::Standby => Kind::NotStandby,
                Balance::Online => Kind::NotOnline,
            };
            Problem::new(kind, format!("{why}."), "Ask another node, or wait.").into_response()
        }
    };
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}
