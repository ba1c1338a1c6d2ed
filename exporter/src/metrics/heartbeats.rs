//! Heartbeats, as the answering node hears them.

use vedette_core::observation::LinkView;

use super::cluster::cluster;
use super::networks::name_of;
use super::{Family, Rows, Scrape};

pub(super) const RECEIVED: Family = Family::counter(
    "vedette_heartbeats_received_total",
    "Heartbeats of a peer that arrived here, since the guard started.",
    |scrape, rows| each(scrape, rows, |link| Some(link.received as f64)),
);

pub(super) const LOST: Family = Family::counter(
    "vedette_heartbeats_lost_total",
    "Heartbeats of a peer that never arrived here, since the guard started.",
    |scrape, rows| each(scrape, rows, |link| Some(link.lost as f64)),
);

pub(super) const RTT: Family = Family::gauge(
    "vedette_heartbeat_rtt_seconds",
    "Smoothed round-trip time of heartbeats.",
    |scrape, rows| each(scrape, rows, |link| link.rtt_us.map(|us| f64::from(us) / 1e6)),
);

pub(super) const INTERVAL: Family = Family::gauge(
    "vedette_heartbeat_interval_seconds",
    "Time between two heartbeats on a network of high priority.",
    |scrape, rows| {
        let interval = scrape.view.state.settings.timing.interval_ms as f64 / 1e3;
        rows.add(&cluster(scrape), interval);
    },
);

pub(super) const SUSPECT: Family = Family::gauge(
    "vedette_guard_self_suspect",
    "Whether the answering node's guard was late and doubts its own view.",
    |scrape, rows| {
        let report = scrape.view.local.report.as_ref();
        rows.flag(&cluster(scrape), report.is_some_and(|report| report.self_suspect));
    },
);

fn each(scrape: &Scrape<'_>, rows: &mut Rows, value: impl Fn(&LinkView) -> Option<f64>) {
    let state = &scrape.view.state;
    let Some(report) = scrape.view.local.report.as_ref() else { return };
    let node = state.node_name(scrape.view.local.node);
    for link in &report.links {
        let Some(value) = value(link) else { continue };
        let peer = state.node_name(link.peer);
        let network = name_of(state, link.network);
        let labels = [
            ("cluster", state.name.as_str()),
            ("node", &node),
            ("peer", &peer),
            ("network", network),
        ];
        rows.add(&labels, value);
    }
}
