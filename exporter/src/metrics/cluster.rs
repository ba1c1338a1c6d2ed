//! The cluster as a whole.

use vedette_core::model::{ClusterStatus, Substate};

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
    "Whether enough nodes came together since the cluster started; NaN where that is not known.",
    |scrape, rows| {
        rows.flag_if_known(&cluster(scrape), known(scrape, scrape.view.state.seeded));
    },
);

pub(super) const NODES: Family =
    Family::gauge("vedette_nodes", "Members of the cluster.", |scrape, rows| {
        one(scrape, rows, scrape.view.state.nodes.len() as f64);
    });

pub(super) const NODES_UP: Family = Family::gauge(
    "vedette_nodes_up",
    "Members whose host is up; NaN where that is not known.",
    |scrape, rows| {
        rows.count(&cluster(scrape), known(scrape, scrape.view.state.nodes_up().count()));
    },
);

pub(super) const VOTES: Family = Family::gauge(
    "vedette_votes",
    "Votes: how many there are (total), are present (up; NaN where that is not known), and make a \
     quorum (quorum).",
    |scrape, rows| {
        let redundancy = &scrape.redundancy;
        by(scrape, rows, "type", "total", Some(redundancy.voters));
        by(scrape, rows, "type", "up", redundancy.voters_up);
        by(scrape, rows, "type", "quorum", Some(redundancy.quorum));
    },
);

pub(super) const REDUNDANCY: Family = Family::gauge(
    "vedette_redundancy_remaining",
    "How many more failures are survived: of voters (quorum), of networks (network); NaN where that \
     is not known.",
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
    "Alerts that the alert script was not run for yet; NaN where that is not known.",
    |scrape, rows| {
        rows.count(&cluster(scrape), known(scrape, scrape.view.state.alerts.len()));
    },
);

pub(super) const ALERTS_FINISHED: Family = Family::counter(
    "vedette_alerts_finished_total",
    "Alerts that the alert script was run for, since the cluster was formed.",
    |scrape, rows| one(scrape, rows, scrape.view.state.alerts_finished as f64),
);

pub(super) const ALERTS_FAILED: Family = Family::counter(
    "vedette_alerts_failed_total",
    "Alerts for which the alert script failed, among those that it was run for.",
    |scrape, rows| one(scrape, rows, scrape.view.state.alerts_failed as f64),
);

/// The label that every series about the cluster has.
pub(super) fn cluster<'a>(scrape: &'a Scrape<'_>) -> [(&'static str, &'a str); 1] {
    [("cluster", &scrape.view.state.name)]
}

fn one(scrape: &Scrape<'_>, rows: &mut Rows, value: f64) {
    rows.add(&cluster(scrape), value);
}

fn by(scrape: &Scrape<'_>, rows: &mut Rows, label: &str, value: &str, count: Option<usize>) {
    rows.count(&[("cluster", &scrape.view.state.name), (label, value)], count);
}

/// What was read off the state, if it is the present one.
pub(super) fn known<T>(scrape: &Scrape<'_>, value: T) -> Option<T> {
    scrape.view.local.knows().then_some(value)
}

fn substate(scrape: &Scrape<'_>) -> Substate {
    known(scrape, scrape.view.state.substate).unwrap_or(Substate::Unknown)
}
