//! The cluster as a whole.

use vedette_core::model::{ClusterStatus, HostStatus, Substate};

use super::{Family, Rows, Scrape};

pub(super) const STATE: Family = Family::gauge(
    "vedette_cluster_state",
    "State of the cluster as the answering node may claim it: 1 for the state that holds.",
    |scrape, rows| {
        let all = ClusterStatus::ALL.iter().map(|state| state.name());
        rows.states(&cluster(scrape), all, scrape.view.cluster_status().name());
    },
);

pub(super) const STATE_CODE: Family = Family::gauge(
    "vedette_cluster_state_code",
    "State of the cluster as the MIB's integer: 1 unknown, 2 up, 3 down, 4 notConfigured.",
    |scrape, rows| one(scrape, rows, f64::from(scrape.view.cluster_status().code())),
);

pub(super) const SUBSTATE: Family = Family::gauge(
    "vedette_cluster_substate",
    "Substate of the cluster: 1 for the one that holds.",
    |scrape, rows| {
        let all = Substate::ALL.iter().map(|state| state.name());
        rows.states(&cluster(scrape), all, substate(scrape).name());
    },
);

pub(super) const SUBSTATE_CODE: Family = Family::gauge(
    "vedette_cluster_substate_code",
    "Substate of the cluster as the MIB's integer: 1 unknown, 2 stable, 3 unstable, 4 error, \
     5 reconfig, 6 notSynced.",
    |scrape, rows| one(scrape, rows, f64::from(substate(scrape).code())),
);

pub(super) const QUORATE: Family = Family::gauge(
    "vedette_quorate",
    "Whether the answering node is part of a quorum.",
    |scrape, rows| rows.flag(&cluster(scrape), scrape.view.local.quorate),
);

pub(super) const STALE: Family = Family::gauge(
    "vedette_stale_seconds",
    "Time since the answering node last knew itself to be part of a quorum.",
    |scrape, rows| one(scrape, rows, scrape.surface.source.stale().as_secs_f64()),
);

pub(super) const REVISION: Family = Family::gauge(
    "vedette_revision",
    "Revision of the state; equal states have equal revisions on every node.",
    |scrape, rows| one(scrape, rows, scrape.view.revision() as f64),
);

pub(super) const SEEDED: Family = Family::gauge(
    "vedette_seeded",
    "Whether enough nodes came together since the cluster started.",
    |scrape, rows| rows.flag(&cluster(scrape), scrape.view.state.seeded),
);

pub(super) const NODES: Family =
    Family::gauge("vedette_nodes", "Members of the cluster.", |scrape, rows| {
        one(scrape, rows, scrape.view.state.nodes.len() as f64);
    });

pub(super) const NODES_UP: Family =
    Family::gauge("vedette_nodes_up", "Members whose host is up.", |scrape, rows| {
        let nodes = scrape.view.state.nodes.values();
        one(scrape, rows, nodes.filter(|node| node.host == HostStatus::Up).count() as f64);
    });

pub(super) const VOTES: Family = Family::gauge(
    "vedette_votes",
    "Votes: how many there are (total), are present (up), and make a quorum (quorum).",
    |scrape, rows| {
        let redundancy = &scrape.redundancy;
        by(scrape, rows, "type", "total", redundancy.voters);
        by(scrape, rows, "type", "up", redundancy.voters_up);
        by(scrape, rows, "type", "quorum", redundancy.quorum);
    },
);

pub(super) const REDUNDANCY: Family = Family::gauge(
    "vedette_redundancy_remaining",
    "How many more failures are survived: of voters (quorum), of networks (network).",
    |scrape, rows| {
        by(scrape, rows, "scope", "quorum", scrape.redundancy.quorum_remaining);
        by(scrape, rows, "scope", "network", scrape.redundancy.network_remaining);
    },
);

pub(super) const LOGGING_LEVEL: Family = Family::gauge(
    "vedette_logging_level",
    "Logging level of the cluster: 1 error, 2 warning, 3 notice, 4 informational.",
    |scrape, rows| one(scrape, rows, f64::from(scrape.view.state.settings.logging_level.code())),
);

pub(super) const HISTORY_SEQUENCE: Family = Family::gauge(
    "vedette_history_sequence",
    "Sequence number of the last event of the cluster.",
    |scrape, rows| one(scrape, rows, scrape.view.state.seq as f64),
);

pub(super) const ALERTS_PENDING: Family = Family::gauge(
    "vedette_alerts_pending",
    "Alerts that the alert script was not run for yet.",
    |scrape, rows| one(scrape, rows, scrape.view.state.alerts.len() as f64),
);

pub(super) const ALERTS_FINISHED: Family = Family::counter(
    "vedette_alerts_finished_total",
    "Alerts that the alert script was run for, since the cluster was formed.",
    |scrape, rows| one(scrape, rows, scrape.view.state.alerts_finished as f64),
);

/// The label that every series about the cluster has.
pub(super) fn cluster<'a>(scrape: &'a Scrape<'_>) -> [(&'static str, &'a str); 1] {
    [("cluster", &scrape.view.state.name)]
}

fn one(scrape: &Scrape<'_>, rows: &mut Rows, value: f64) {
    rows.add(&cluster(scrape), value);
}

fn by(scrape: &Scrape<'_>, rows: &mut Rows, label: &str, value: &str, count: usize) {
    rows.add(&[("cluster", &scrape.view.state.name), (label, value)], count as f64);
}

fn substate(scrape: &Scrape<'_>) -> Substate {
    let view = scrape.view;
    if view.local.quorate { view.state.substate } else { Substate::Unknown }
}
