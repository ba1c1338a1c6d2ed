//! HTTP: what a node knows, for programs, Prometheus, load balancers and browsers.
//!
//! One [`Surface`] is what this crate is given: the source of views, the history, and two signals
//! (a view was published, a record became durable). [`router`] turns it into routes; [`serve_tcp`]
//! and [`serve_unix`] put them on a socket with the limits that keep a slow or hostile client from
//! harming anybody else. Nothing here computes cluster state: an answer is a document of
//! `vedette_collector::clinfo` or a metric read off the same view.
//!
//! Everything is read-only. What changes the cluster is added by the daemon, to the Unix socket
//! only.

mod api;
mod events;
mod groups;
mod health;
mod incidents;
mod journal;
mod meta;
pub mod metrics;
pub mod openapi;
mod page;
mod problem;
mod publisher;
pub mod query;
mod serve;
mod stall;
mod surface;
mod wait;
mod watch;

pub use problem::{InPath, Problem, Sent, wrong_method};
pub use serve::{Limits, serve_tcp, serve_unix};
pub use surface::{
    Counters, EventQuery, HistoryReader, HistoryUnavailable, SourceHistory, Surface,
};
pub use watch::{MOST_WATCHERS, StateDoc};

use std::sync::Arc;

use axum::Router;
use axum::middleware::from_fn_with_state;
use axum::routing::{MethodRouter, get};

use publisher::Publisher;

/// What every handler is given.
#[derive(Clone)]
struct App {
    surface: Arc<Surface>,
    publisher: Arc<Publisher>,
}

/// Every route, by the path as OpenAPI writes it. A test compares this list with the document.
fn routes() -> Vec<(&'static str, MethodRouter<App>)> {
    vec![
        ("/", get(page::page)),
        ("/metrics", get(metrics::metrics)),
        ("/healthz", get(health::healthz)),
        ("/readyz", get(health::readyz)),
        ("/api/v1/status", get(api::status)),
        ("/api/v1/clusters", get(api::clusters)),
        ("/api/v1/nodes", get(api::nodes)),
        ("/api/v1/nodes/{node}", get(api::node)),
        ("/api/v1/nodes/{node}/route", get(api::route)),
        ("/api/v1/local", get(api::local)),
        ("/api/v1/local/records", get(journal::records)),
        ("/api/v1/primary", get(api::primary)),
        ("/api/v1/networks", get(api::networks)),
        ("/api/v1/networks/{network}", get(api::network)),
        ("/api/v1/interfaces", get(api::interfaces)),
        ("/api/v1/links", get(api::links)),
        ("/api/v1/ports", get(api::ports)),
        ("/api/v1/addresses/{address}/available", get(api::available)),
        ("/api/v1/groups", get(groups::groups)),
        ("/api/v1/groups/{group}", get(groups::group)),
        ("/api/v1/groups/{group}/location", get(groups::location)),
        ("/api/v1/lb/{group}/active", get(groups::active)),
        ("/api/v1/lb/{group}/standby", get(groups::standby)),
        ("/api/v1/lb/{group}/online", get(groups::online)),
        ("/api/v1/manager", get(groups::manager)),
        ("/api/v1/monitors", get(groups::monitors)),
        ("/api/v1/incidents", get(incidents::incidents)),
        ("/api/v1/incidents/report", get(incidents::report)),
        ("/api/v1/incidents/{incident}", get(incidents::incident)),
        ("/api/v1/alerts", get(api::alerts)),
        ("/api/v1/events", get(events::events)),
        ("/api/v1/watch", get(watch::watch)),
        ("/api/v1/openapi.json", get(openapi::document)),
    ]
}

/// The paths of all routes.
pub fn paths() -> Vec<&'static str> {
    routes().into_iter().map(|(path, _)| path).collect()
}

/// The routes of a surface. Call it inside a Tokio runtime: it starts the one task that renders
/// events for all watchers.
pub fn router(surface: Surface) -> Router {
    let surface = Arc::new(surface);
    let app = App { publisher: Publisher::start(surface.clone()), surface };
    let mut router = Router::new();
    for (path, handler) in routes() {
        router = router.route(path, handler);
    }
    router
        .fallback(problem::unknown_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(from_fn_with_state(app.clone(), meta::describe))
        .with_state(app)
}
