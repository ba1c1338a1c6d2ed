//! Clocks and logs of the nodes, as the answering node measures and hears them now; what it does not
//! know has no row.

use super::Family;
use super::cluster::cluster;

pub(super) const OFFSET: Family = Family::gauge(
    "vedette_clock_offset_seconds",
    "Clock of a peer minus that of the answering node.",
    |scrape, rows| {
        let Some(report) = scrape.view.local.report.as_ref() else { return };
        let node = scrape.view.state.node_name(scrape.view.local.node);
        for view in &report.peers {
            let Some(offset_us) = view.clock_offset_us else { continue };
            let peer = scrape.view.state.node_name(view.peer);
            let [cluster] = cluster(scrape);
            rows.add(&[cluster, ("node", &node), ("peer", &peer)], offset_us as f64 / 1e6);
        }
    },
);

pub(super) const POSITION: Family = Family::gauge(
    "vedette_log_position",
    "Index of the last log entry that a node has applied, as the answering node hears it.",
    |scrape, rows| {
        let Some(report) = scrape.view.local.report.as_ref() else { return };
        for (number, node) in &scrape.view.state.nodes {
            let Some(position) = report.position_of(*number) else { continue };
            let [cluster] = cluster(scrape);
            rows.add(&[cluster, ("node", &node.name)], position as f64);
        }
    },
);
