//! Metrics: every family is one entry of [`FAMILIES`], read off one view at each scrape.
//!
//! Nothing is kept between scrapes but the counters of this process. A status is one series for
//! each value it may have, always present, 0 or 1 (a series that vanishes breaks alerts), with the
//! value's name in lower case as label `state`; `…_code` has the integer that the MIB has.
//!
//! Where the answering node does not know the present state, the state of what others would have to
//! confirm is `unknown`, and a count or a flag of it is NaN: neither a number nor a gap.

mod clocks;
mod cluster;
mod family;
mod groups;
mod heartbeats;
mod local;
mod manager;
mod monitors;
mod networks;
mod nodes;
mod process;

use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use prometheus::TextEncoder;
use vedette_collector::clinfo::{ProblemDoc, RedundancyDoc};
use vedette_core::view::View;

use crate::query::Asked;
use crate::wait::Wait;
use crate::{App, Problem, Surface, meta};

pub use family::{Family, Kind, Rows};

/// What a family is read off.
pub struct Scrape<'a> {
    /// The view.
    pub view: &'a View,
    /// The surface, for its counters and the age of the view.
    pub surface: &'a Surface,
    /// Votes and what can still fail.
    pub redundancy: RedundancyDoc,
}

/// Every metric family, in the order of the page.
pub const FAMILIES: &[Family] = &[
    process::BUILD_INFO,
    cluster::STATE,
    cluster::STATE_CODE,
    cluster::SUBSTATE,
    cluster::SUBSTATE_CODE,
    cluster::QUORATE,
    cluster::STALE,
    cluster::REVISION,
    cluster::SEEDED,
    cluster::NODES,
    cluster::NODES_UP,
    cluster::VOTES,
    cluster::REDUNDANCY,
    cluster::LOGGING_LEVEL,
    cluster::HISTORY_SEQUENCE,
    cluster::ALERTS_PENDING,
    cluster::ALERTS_FINISHED,
    cluster::ALERTS_FAILED,
    nodes::HOST,
    nodes::HOST_CODE,
    nodes::AGENT,
    nodes::AGENT_CODE,
    nodes::DIRECTOR,
    nodes::JEOPARDY,
    nodes::VOTER,
    nodes::REAPER,
    manager::STATE,
    manager::STATE_CODE,
    manager::JOINED,
    manager::NODE_MAINTENANCE,
    manager::CLUSTER_MAINTENANCE,
    manager::IN_PROGRESS,
    manager::STAGE,
    manager::AGE,
    manager::STEP,
    manager::STEPS,
    manager::TOO_LONG,
    manager::ASIDE,
    manager::OLDEST,
    manager::QUEUE,
    manager::ENDED,
    manager::FENCING,
    manager::RULES,
    manager::CONFIGURATION,
    manager::CONFIGURATION_PENDING,
    monitors::WORKS,
    monitors::VALUE,
    monitors::FIRED,
    monitors::BLIND,
    groups::STATE,
    groups::STATE_CODE,
    groups::OWNER,
    groups::STANDBYS,
    groups::MULTIPLE_ACTIVE,
    groups::BLOCKED,
    groups::WAITS_FOR_EVIDENCE,
    groups::MAINTENANCE,
    groups::WANTED_OFFLINE,
    groups::FAILOVERS,
    groups::CHANGES_OF_NODE,
    groups::RESOURCE,
    groups::RESOURCE_CODE,
    groups::FAILS,
    groups::RESTARTS_LEFT,
    groups::TOLERATED,
    groups::TOLERATED_TOTAL,
    groups::GOES_BACK,
    groups::FLAPPING,
    groups::CONFLICTS,
    networks::NETWORK,
    networks::NETWORK_CODE,
    networks::GROUP,
    networks::MEMBERS,
    networks::INTERFACE,
    networks::INTERFACE_CODE,
    networks::STANDBY,
    networks::LINK,
    networks::LINK_CODE,
    heartbeats::RECEIVED,
    heartbeats::LOST,
    heartbeats::RTT,
    heartbeats::INTERVAL,
    heartbeats::SUSPECT,
    clocks::OFFSET,
    clocks::POSITION,
    local::CONDITION,
    local::EVENTS,
    local::PENDING,
    local::DROPPED,
    local::UNKNOWN_SINCE,
    local::STALLED,
    process::HISTORY_DURABLE,
    process::HISTORY_STALLED,
    process::EVENTS,
    process::WATCHERS,
    process::RESYNCED,
    process::AGENTX,
    process::REQUESTS,
];

/// The metrics page, in Prometheus' text format 0.0.4.
pub fn page(surface: &Surface, view: &View) -> String {
    let scrape = Scrape { view, surface, redundancy: RedundancyDoc::new(view) };
    let families: Vec<_> = FAMILIES.iter().filter_map(|family| family.read(&scrape)).collect();
    // The encoder fails only on a family without metrics, and those are left out.
    TextEncoder::new().encode_to_string(&families).unwrap_or_default()
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "metrics",
    params(Wait),
    responses((status = 200, description = "The metrics, text format 0.0.4", body = String,
               content_type = "text/plain; version=0.0.4"),
              (status = 400, description = "A bad parameter", body = ProblemDoc)))]
pub(crate) async fn metrics(
    State(app): State<App>,
    Asked(wait): Asked<Wait>,
) -> Result<Response, Problem> {
    wait.pass(&app.surface).await;
    let view = app.surface.source.view();
    let mut response = page(&app.surface, &view).into_response();
    let headers = response.headers_mut();
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    headers.insert(header::CONTENT_TYPE, kind);
    meta::of_view(headers, &view);
    Ok(response)
}
