//! The clinfo API: each answer is one document, built from one view (spec H41).

use std::net::IpAddr;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::Uri;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use vedette_collector::clinfo::{
    AlertsDoc, AvailabilityDoc, ClusterDoc, InterfaceDoc, LinkDoc, LocalDoc, NetworkDoc, NoRoute,
    NodeDoc, PortDoc, RouteDoc, Seen, StatusDoc,
};

use crate::query::Params;
use crate::{App, Problem, meta};

pub(crate) type Answer = Result<Response, Problem>;

/// Waits as the query says, then answers with a document of the latest view.
pub(crate) async fn answer<T: Serialize>(
    app: &App,
    uri: &Uri,
    build: impl FnOnce(Seen<'_>) -> T,
) -> Answer {
    try_answer(app, uri, |seen| Ok(build(seen))).await
}

pub(crate) async fn try_answer<T: Serialize>(
    app: &App,
    uri: &Uri,
    build: impl FnOnce(Seen<'_>) -> Result<T, Problem>,
) -> Answer {
    Params::of(uri, &[])?.wait(&app.surface).await?;
    document(app, build)
}

fn document<T: Serialize>(app: &App, build: impl FnOnce(Seen<'_>) -> Result<T, Problem>) -> Answer {
    let (document, view) = app.surface.read(build);
    let mut response = Json(document?).into_response();
    meta::of_view(response.headers_mut(), &view);
    Ok(response)
}

fn unknown_node(name: &str) -> Problem {
    Problem::not_found(
        "unknown_node",
        format!("There is no node {name:?}."),
        "GET /api/v1/nodes lists the nodes; give a number or a name.",
    )
}

/// A path that cannot be decoded names nothing that exists.
pub(crate) type Name = Result<Path<String>, axum::extract::rejection::PathRejection>;

pub(crate) fn name(path: Name) -> Result<String, Problem> {
    path.map(|Path(name)| name).map_err(|error| {
        Problem::bad_parameter(
            format!("The path cannot be read: {}.", error.body_text()),
            "Write it in UTF-8, percent-encoded.",
        )
    })
}

/// Everything one screen shows: the verdict first.
#[utoipa::path(get, path = "/api/v1/status", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The status", body = StatusDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn status(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, StatusDoc::new).await
}

/// The clusters this node knows: its own.
#[utoipa::path(get, path = "/api/v1/clusters", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The clusters", body = Vec<ClusterDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn clusters(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| [ClusterDoc::new(seen.view)]).await
}

/// Every member.
#[utoipa::path(get, path = "/api/v1/nodes", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The nodes, by number", body = Vec<NodeDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn nodes(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| NodeDoc::all(seen.view)).await
}

/// One member, by number or name.
#[utoipa::path(get, path = "/api/v1/nodes/{node}", tag = "clinfo",
    params(("node" = String, Path, description = "Number or name"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The node", body = NodeDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such node", body = Problem)))]
pub(crate) async fn node(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let node = name(path)?;
    let build = |seen: Seen<'_>| NodeDoc::find(seen.view, &node).ok_or_else(|| unknown_node(&node));
    try_answer(&app, &uri, build).await
}

/// The best way to a member, as `cl_bestroute` finds it.
#[utoipa::path(get, path = "/api/v1/nodes/{node}/route", tag = "clinfo",
    params(("node" = String, Path, description = "Where to: number or name"),
           ("from" = Option<String>, Query, description = "Where from; the answering node if not given"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The route", body = RouteDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such node, or no route to it", body = Problem),
              (status = 503, description = "Whether there is a route is not known", body = Problem)))]
pub(crate) async fn route(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let to = name(path)?;
    let params = Params::of(&uri, &["from"])?;
    params.wait(&app.surface).await?;
    document(&app, |seen| {
        let own = seen.view.local.node.to_string();
        let from = params.get("from").unwrap_or(&own);
        RouteDoc::new(seen.view, from, &to).map_err(no_route)
    })
}

fn no_route(why: NoRoute) -> Problem {
    match why {
        NoRoute::UnknownNode(name) => unknown_node(&name),
        NoRoute::NoInterface(_) => Problem::not_found(
            "no_route",
            format!("There is no route: {why}."),
            "GET /api/v1/interfaces shows which interfaces work.",
        ),
        NoRoute::NotKnown(_) => Problem::unavailable(
            "route_not_known",
            format!("No route is known: {why}."),
            "Ask a node with a quorum; GET /api/v1/local shows what this one sees.",
        ),
    }
}

/// The answering node: what it is, and what it sees.
#[utoipa::path(get, path = "/api/v1/local", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The answering node", body = LocalDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn local(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, LocalDoc::new).await
}

/// The director (clinfo's primary).
#[utoipa::path(get, path = "/api/v1/primary", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The director", body = NodeDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No director is known", body = Problem)))]
pub(crate) async fn primary(State(app): State<App>, uri: Uri) -> Answer {
    let build = |seen: Seen<'_>| {
        NodeDoc::all(seen.view).into_iter().find(|node| node.director).ok_or_else(|| {
            Problem::not_found(
                "no_primary",
                "No director is known to this node.",
                "Ask again in a second, or ask another node.",
            )
        })
    };
    try_answer(&app, &uri, build).await
}

/// Every network.
#[utoipa::path(get, path = "/api/v1/networks", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The networks", body = Vec<NetworkDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn networks(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| NetworkDoc::all(seen.view)).await
}

/// One network, by number or name.
#[utoipa::path(get, path = "/api/v1/networks/{network}", tag = "clinfo",
    params(("network" = String, Path, description = "Number or name"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The network", body = NetworkDoc),
              (status = 400, description = "A bad parameter", body = Problem),
              (status = 404, description = "No such network", body = Problem)))]
pub(crate) async fn network(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let network = name(path)?;
    let build = |seen: Seen<'_>| {
        NetworkDoc::find(seen.view, &network).ok_or_else(|| {
            Problem::not_found(
                "unknown_network",
                format!("There is no network {network:?}."),
                "GET /api/v1/networks lists the networks; give a number or a name.",
            )
        })
    };
    try_answer(&app, &uri, build).await
}

/// Every interface of every member.
#[utoipa::path(get, path = "/api/v1/interfaces", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The interfaces", body = Vec<InterfaceDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn interfaces(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| InterfaceDoc::all(seen.view)).await
}

/// Every link; those of the answering node with what it sees.
#[utoipa::path(get, path = "/api/v1/links", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The links", body = Vec<LinkDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn links(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| LinkDoc::all(seen.view)).await
}

/// Every port: named memberships with their generation.
#[utoipa::path(get, path = "/api/v1/ports", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The ports", body = Vec<PortDoc>),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn ports(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| PortDoc::all(seen.view)).await
}

/// Alerts that wait for the script, and tests of it.
#[utoipa::path(get, path = "/api/v1/alerts", tag = "clinfo",
    params(("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "The alerts", body = AlertsDoc),
              (status = 400, description = "A bad parameter", body = Problem)))]
pub(crate) async fn alerts(State(app): State<App>, uri: Uri) -> Answer {
    answer(&app, &uri, |seen| AlertsDoc::new(seen.view)).await
}

/// Whether an address of the cluster answers (`cl_isaddravail`): a node's own, or a service address.
#[utoipa::path(get, path = "/api/v1/addresses/{address}/available", tag = "clinfo",
    params(("address" = String, Path, description = "IPv4 or IPv6 address"),
           ("index" = Option<u64>, Query, description = "Answer when the revision is greater"),
           ("wait" = Option<String>, Query, description = "At most so long: 500ms, 30s, 5m")),
    responses((status = 200, description = "Whether it answers", body = AvailabilityDoc),
              (status = 400, description = "Not an address, or a bad parameter", body = Problem),
              (status = 404, description = "The cluster does not have it", body = Problem)))]
pub(crate) async fn available(State(app): State<App>, path: Name, uri: Uri) -> Answer {
    let text = name(path)?;
    let address: IpAddr = text.parse().map_err(|_| {
        Problem::bad_parameter(
            format!("{text:?} is not an IP address."),
            "Write it as 192.0.2.1 or 2001:db8::1.",
        )
    })?;
    let build = |seen: Seen<'_>| {
        AvailabilityDoc::new(seen.view, address).ok_or_else(|| {
            Problem::not_found(
                "unknown_address",
                format!("No node and no group of this cluster has the address {address}."),
                "GET /api/v1/interfaces and /api/v1/groups list the addresses.",
            )
        })
    };
    try_answer(&app, &uri, build).await
}
