//! The clinfo API: each answer is one document, built from one view (spec H41).

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vedette_collector::clinfo::problem::Kind;
use vedette_collector::clinfo::{
    AlertsDoc, AvailabilityDoc, ClusterDoc, InterfaceDoc, LinkDoc, LocalDoc, NetworkDoc, NoRoute,
    NodeDoc, PortDoc, ProblemDoc, RouteDoc, Seen, StatusDoc,
};

use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, InPath, Problem, meta};

pub(crate) type Answer = Result<Response, Problem>;

/// Waits as the query says, then answers with a document of the latest view.
pub(crate) async fn answer<T: Serialize>(
    app: &App,
    wait: &Wait,
    build: impl FnOnce(Seen<'_>) -> T,
) -> Answer {
    try_answer(app, wait, |seen| Ok(build(seen))).await
}

pub(crate) async fn try_answer<T: Serialize>(
    app: &App,
    wait: &Wait,
    build: impl FnOnce(Seen<'_>) -> Result<T, Problem>,
) -> Answer {
    wait.pass(&app.surface).await;
    document(app, build)
}

fn document<T: Serialize>(app: &App, build: impl FnOnce(Seen<'_>) -> Result<T, Problem>) -> Answer {
    let (document, view) = app.surface.read(build);
    let mut response = Json(document?).into_response();
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}

fn unknown_node(name: &str) -> Problem {
    Problem::new(
        Kind::UnknownNode,
        format!("There is no node {name:?}."),
        "GET /api/v1/nodes lists the nodes; give a number or a name.",
    )
}

/// Everything one screen shows: the verdict first.
#[utoipa::path(get, path = "/api/v1/status", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The status", body = StatusDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn status(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, StatusDoc::new).await
}

/// The clusters this node knows: its own.
#[utoipa::path(get, path = "/api/v1/clusters", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The clusters", body = Vec<ClusterDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn clusters(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| [ClusterDoc::new(seen.view)]).await
}

/// Every member.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The nodes, by number", body = Vec<NodeDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn nodes(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| NodeDoc::all(seen.view)).await
}

/// One member, by number or name.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", tag = "clinfo",
    params(("node" = String, Path, description = "Number or name"),
           Wait),
    responses((status = 200, description = "The node", body = NodeDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such node", body = ProblemDoc)))]
pub(crate) async fn node(
    State(app): State<App>,
    InPath(node): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let build = |seen: Seen<'_>| NodeDoc::find(seen.view, &node).ok_or_else(|| unknown_node(&node));
    try_answer(&app, &wait, build).await
}

crate::query! {
    /// Beginning of a route.
    pub(crate) struct RouteQuery {
        /// Where from; the answering node if not given
        from: String,
    }
}

/// The best way to a member, as `cl_bestroute` finds it.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/route", tag = "clinfo",
    params(("node" = String, Path, description = "Where to: number or name"),
           RouteQuery, Wait),
    responses((status = 200, description = "The route", body = RouteDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such node, or no route to it", body = ProblemDoc),
              (status = 503, description = "Whether there is a route is not known", body = ProblemDoc)))]
pub(crate) async fn route(
    State(app): State<App>,
    InPath(to): InPath,
    Asked((query, wait)): Asked<(RouteQuery, Wait)>,
) -> Answer {
    wait.pass(&app.surface).await;
    document(&app, |seen| {
        let own = seen.view.local.node.to_string();
        let from = query.from.as_deref().unwrap_or(&own);
        RouteDoc::new(seen.view, from, &to).map_err(no_route)
    })
}

fn no_route(why: NoRoute) -> Problem {
    match why {
        NoRoute::UnknownNode(name) => unknown_node(&name),
        NoRoute::NoInterface(_) => Problem::new(
            Kind::NoRoute,
            format!("There is no route: {why}."),
            "GET /api/v1/interfaces shows which interfaces work.",
        ),
        NoRoute::NotKnown(_) => Problem::new(
            Kind::RouteNotKnown,
            format!("No route is known: {why}."),
            "Ask a node with a quorum; GET /api/v1/local shows what this one sees.",
        ),
    }
}

/// The answering node: what it is, and what it sees.
#[utoipa::path(get, path = "/api/v1/local", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The answering node", body = LocalDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn local(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, LocalDoc::new).await
}

/// The director (clinfo's primary).
#[utoipa::path(get, path = "/api/v1/primary", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The director", body = NodeDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No director is known", body = ProblemDoc)))]
pub(crate) async fn primary(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    let build = |seen: Seen<'_>| {
        NodeDoc::all(seen.view).into_iter().find(|node| node.director).ok_or_else(|| {
            Problem::new(
                Kind::NoPrimary,
                "No director is known to this node.",
                "Ask again in a second, or ask another node.",
            )
        })
    };
    try_answer(&app, &wait, build).await
}

/// Every network.
#[utoipa::path(get, path = "/api/v1/networks", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The networks", body = Vec<NetworkDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn networks(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| NetworkDoc::all(seen.view)).await
}

/// One network, by number or name.
#[utoipa::path(get, path = "/api/v1/networks/{network}", tag = "clinfo",
    params(("network" = String, Path, description = "Number or name"),
           Wait),
    responses((status = 200, description = "The network", body = NetworkDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc),
              (status = 404, description = "No such network", body = ProblemDoc)))]
pub(crate) async fn network(
    State(app): State<App>,
    InPath(network): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let build = |seen: Seen<'_>| {
        NetworkDoc::find(seen.view, &network).ok_or_else(|| {
            Problem::new(
                Kind::UnknownNetwork,
                format!("There is no network {network:?}."),
                "GET /api/v1/networks lists the networks; give a number or a name.",
            )
        })
    };
    try_answer(&app, &wait, build).await
}

/// Every interface of every member.
#[utoipa::path(get, path = "/api/v1/interfaces", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The interfaces", body = Vec<InterfaceDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn interfaces(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| InterfaceDoc::all(seen.view)).await
}

/// Every link; those of the answering node with what it sees.
#[utoipa::path(get, path = "/api/v1/links", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The links", body = Vec<LinkDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn links(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| LinkDoc::all(seen.view)).await
}

/// Every port: named memberships with their generation.
#[utoipa::path(get, path = "/api/v1/ports", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The ports", body = Vec<PortDoc>),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn ports(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| PortDoc::all(seen.view)).await
}

/// Alerts that wait for the script, and tests of it.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "clinfo",
    params(Wait),
    responses((status = 200, description = "The alerts", body = AlertsDoc),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn alerts(State(app): State<App>, Asked(wait): Asked<Wait>) -> Answer {
    answer(&app, &wait, |seen| AlertsDoc::new(seen.view)).await
}

/// Whether an address of the cluster answers (`cl_isaddravail`): a node's own, or a service address.
#[utoipa::path(get, path = "/api/v1/addresses/{address}/available", tag = "clinfo",
    params(("address" = String, Path, description = "IPv4 or IPv6 address"),
           Wait),
    responses((status = 200, description = "Whether it answers", body = AvailabilityDoc),
              (status = 400, description = "Not an address, or a bad parameter", body = ProblemDoc),
              (status = 404, description = "The cluster does not have it", body = ProblemDoc)))]
pub(crate) async fn available(
    State(app): State<App>,
    InPath(text): InPath,
    Asked(wait): Asked<Wait>,
) -> Answer {
    let address: IpAddr = text.parse().map_err(|_| {
        let advice = "Write it as 192.0.2.1 or 2001:db8::1.";
        Problem::bad_value("address", &text, "is not an IP address", advice)
    })?;
    let build = |seen: Seen<'_>| {
        AvailabilityDoc::new(seen.view, address).ok_or_else(|| {
            Problem::new(
                Kind::UnknownAddress,
                format!("No node and no group of this cluster has the address {address}."),
                "GET /api/v1/interfaces and /api/v1/groups list the addresses.",
            )
        })
    };
    try_answer(&app, &wait, build).await
}
