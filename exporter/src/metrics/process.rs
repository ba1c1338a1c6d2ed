//! The answering process itself. Its series name the cluster too, so that an alert about a node says
//! whose node it is.

use std::sync::atomic::Ordering;

use vedette_core::model::Severity;

use super::cluster::cluster;
use super::{Family, Rows, Scrape};

pub(super) const BUILD_INFO: Family = Family::gauge(
    "vedette_build_info",
    "Version of the answering process; always 1.",
    |scrape, rows| by(scrape, rows, [("version", env!("CARGO_PKG_VERSION"))], 1.0),
);

pub(super) const HISTORY_DURABLE: Family = Family::gauge(
    "vedette_history_durable_sequence",
    "Sequence number of the last event that is durable on the answering node.",
    |scrape, rows| rows.add(&cluster(scrape), scrape.view.local.history_seq as f64),
);

pub(super) const HISTORY_STALLED: Family = Family::gauge(
    "vedette_history_stalled",
    "Whether the history could not be written when it was last tried.",
    |scrape, rows| {
        let stalled = scrape.surface.counters.history_stalled.load(Ordering::Relaxed);
        rows.flag(&cluster(scrape), stalled);
    },
);

pub(super) const EVENTS: Family = Family::counter(
    "vedette_events_total",
    "Events announced by the answering process, by severity.",
    |scrape, rows| {
        for (severity, count) in Severity::ALL.iter().zip(&scrape.surface.counters.events) {
            let count = count.load(Ordering::Relaxed) as f64;
            by(scrape, rows, [("severity", severity.name())], count);
        }
    },
);

pub(super) const WATCHERS: Family =
    Family::gauge("vedette_watchers", "Clients of /api/v1/watch.", |scrape, rows| {
        let watchers = scrape.surface.counters.watchers.load(Ordering::Relaxed);
        rows.add(&cluster(scrape), watchers as f64);
    });

pub(super) const RESYNCED: Family = Family::counter(
    "vedette_watchers_resynced_total",
    "Watchers that were told to begin anew because they did not keep up.",
    |scrape, rows| {
        let resynced = &scrape.surface.counters.watchers_resynced;
        rows.add(&cluster(scrape), resynced.load(Ordering::Relaxed) as f64);
    },
);

pub(super) const AGENTX: Family = Family::gauge(
    "vedette_agentx_connected",
    "Whether the subagent is connected to an SNMP master; absent while SNMP is off.",
    |scrape, rows| {
        if let Some(connected) = scrape.view.local.agentx {
            rows.flag(&cluster(scrape), connected);
        }
    },
);

pub(super) const REQUESTS: Family = Family::counter(
    "vedette_http_requests_total",
    "HTTP requests that were answered, by route and status.",
    |scrape, rows| {
        for ((route, status), count) in scrape.surface.counters.requests() {
            let labels = [("route", route.as_str()), ("code", &status.to_string())];
            by(scrape, rows, labels, count as f64);
        }
    },
);

/// Adds a row with the cluster's label before its own.
fn by<const N: usize>(scrape: &Scrape<'_>, rows: &mut Rows, own: [(&str, &str); N], value: f64) {
    let labels: Vec<_> = cluster(scrape).into_iter().chain(own).collect();
    rows.add(&labels, value);
}
