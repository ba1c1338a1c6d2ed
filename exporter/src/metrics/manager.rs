//! The cluster manager: every node's manager, the event in progress, what waits, and maintenance.

use vedette_collector::clinfo::MemberDoc;
use vedette_core::event::{ManagerState, Running, Stage};

use super::cluster::{cluster, known};
use super::{Family, Rows, Scrape};

pub(super) const STATE: Family = Family::gauge(
    "vedette_manager_state",
    "State of a node's cluster manager: 1 for the state that holds.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, member| {
            let all = ManagerState::ALL.iter().map(|state| state.name());
            rows.states(labels, all, member.state.name());
        });
    },
);

pub(super) const STATE_CODE: Family = Family::gauge(
    "vedette_manager_state_code",
    "State of a node's cluster manager as the MIB's integer: 1 unknown, 2 init, 3 joining, \
     4 stable, 5 unstable, 6 voting, 7 rp_running, 8 barrier, 9 cbarrier, 10 done, 11 error.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, member| {
            rows.add(labels, f64::from(member.state.code()));
        });
    },
);

pub(super) const JOINED: Family = Family::gauge(
    "vedette_manager_joined",
    "Whether a node's cluster manager takes part in events; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, member| {
            rows.flag_if_known(labels, member.joined);
        });
    },
);

pub(super) const NODE_MAINTENANCE: Family = Family::gauge(
    "vedette_node_maintenance",
    "Whether a node is in maintenance: nothing is moved from or to it; NaN where that is not known.",
    |scrape, rows| {
        each(scrape, rows, |rows, labels, member| {
            rows.flag_if_known(labels, member.maintenance);
        });
    },
);

pub(super) const CLUSTER_MAINTENANCE: Family = Family::gauge(
    "vedette_cluster_maintenance",
    "Whether the whole cluster is in maintenance: nothing is moved and nothing restarted; NaN where \
     that is not known.",
    |scrape, rows| {
        let maintenance = known(scrape, scrape.view.state.manager.maintenance);
        rows.flag_if_known(&cluster(scrape), maintenance);
    },
);

pub(super) const IN_PROGRESS: Family = Family::gauge(
    "vedette_event_in_progress",
    "Whether an event of the cluster manager is in progress; NaN where that is not known.",
    |scrape, rows| {
        rows.flag_if_known(&cluster(scrape), known(scrape, running(scrape).is_some()));
    },
);

/// The stages an event may be in; `none` if there is no event, `unknown` where that is not known.
const STAGES: [&str; 5] = ["none", "voting", "running", "error", "unknown"];

pub(super) const STAGE: Family = Family::gauge(
    "vedette_event_stage",
    "Stage of the event in progress: 1 for the stage that holds; error waits for an operator.",
    |scrape, rows| {
        let stage = match running(scrape).map(|running| running.stage) {
            None if !scrape.view.local.knows() => "unknown",
            None => "none",
            Some(Stage::Voting) => "voting",
            Some(Stage::Running) => "running",
            Some(Stage::Error) => "error",
        };
        rows.states(&cluster(scrape), STAGES, stage);
    },
);

pub(super) const AGE: Family = Family::gauge(
    "vedette_event_age_seconds",
    "Time since the event in progress was taken from the queue; 0 if there is none, NaN where that is \
     not known.",
    |scrape, rows| {
        let now = (scrape.surface.clock)();
        let age = running(scrape).map_or(0, |running| now.0.saturating_sub(running.began.0));
        let age = known(scrape, age.max(0) as f64 / 1e6);
        rows.add(&cluster(scrape), age.unwrap_or(f64::NAN));
    },
);

pub(super) const STEP: Family = Family::gauge(
    "vedette_event_step",
    "Phase of the event in progress, counted from 1; 0 if none runs, NaN where that is not known.",
    |scrape, rows| {
        let runs = running(scrape).filter(|running| running.stage != Stage::Voting);
        let step = runs.map_or(0, |running| running.phase + 1);
        rows.count(&cluster(scrape), known(scrape, step));
    },
);

pub(super) const STEPS: Family = Family::gauge(
    "vedette_event_steps",
    "Phases that the event in progress has; 0 if there is none, NaN where that is not known.",
    |scrape, rows| {
        let steps = running(scrape).map_or(0, |running| running.program.phases.len());
        rows.count(&cluster(scrape), known(scrape, steps));
    },
);

pub(super) const TOO_LONG: Family = Family::gauge(
    "vedette_event_too_long",
    "Whether an event that began runs longer than it should; NaN where that is not known.",
    |scrape, rows| {
        let too_long = scrape.view.state.manager.begun().any(|running| running.too_long);
        rows.flag_if_known(&cluster(scrape), known(scrape, too_long));
    },
);

pub(super) const ASIDE: Family = Family::gauge(
    "vedette_events_aside",
    "Events for which nothing else waits, by stage: running takes long, and others go on beside it; \
     error waits for an operator. NaN where that is not known.",
    |scrape, rows| {
        for (name, stage) in [("running", Stage::Running), ("error", Stage::Error)] {
            let begun = scrape.view.state.manager.begun();
            let count = begun.filter(|it| it.is_beside() && it.stage == stage).count();
            let labels = [cluster(scrape)[0], ("stage", name)];
            rows.count(&labels, known(scrape, count));
        }
    },
);

pub(super) const OLDEST: Family = Family::gauge(
    "vedette_event_oldest_age_seconds",
    "Time since the oldest event that is not over was taken from the queue, in progress or aside; 0 if there \
     is none, NaN where that is not known.",
    |scrape, rows| {
        let began = scrape.view.state.manager.begun().map(|running| running.began.0).min();
        let now = (scrape.surface.clock)();
        let age = began.map_or(0, |began| now.0.saturating_sub(began));
        let age = known(scrape, age.max(0) as f64 / 1e6);
        rows.add(&cluster(scrape), age.unwrap_or(f64::NAN));
    },
);

pub(super) const QUEUE: Family = Family::gauge(
    "vedette_event_queue_length",
    "Events of the cluster manager that wait; NaN where that is not known.",
    |scrape, rows| {
        rows.count(&cluster(scrape), known(scrape, scrape.view.state.manager.queue.len()));
    },
);

pub(super) const ENDED: Family = Family::counter(
    "vedette_events_ended_total",
    "Events of the cluster manager that ended, over the life of the cluster.",
    |scrape, rows| rows.add(&cluster(scrape), scrape.view.state.manager.ended as f64),
);

pub(super) const FENCING: Family = Family::gauge(
    "vedette_fencing_pending",
    "Nodes whose fencing is asked for or under way; NaN where that is not known.",
    |scrape, rows| {
        rows.count(&cluster(scrape), known(scrape, scrape.view.state.manager.fencing.len()));
    },
);

pub(super) const RULES: Family = Family::gauge(
    "vedette_rules_version",
    "Version of the rules in force; 0 are the built-in ones.",
    |scrape, rows| rows.add(&cluster(scrape), f64::from(scrape.view.state.rules.active)),
);

pub(super) const CONFIGURATION: Family = Family::gauge(
    "vedette_configuration_version",
    "Version of the configuration document in force; 0 if there never was one.",
    |scrape, rows| rows.add(&cluster(scrape), f64::from(scrape.view.state.documents.active)),
);

pub(super) const CONFIGURATION_PENDING: Family = Family::gauge(
    "vedette_configuration_pending",
    "Whether a configuration document is being verified; NaN where that is not known.",
    |scrape, rows| {
        let pending = scrape.view.state.documents.pending.is_some();
        rows.flag_if_known(&cluster(scrape), known(scrape, pending));
    },
);

/// The event that failed, though it may have stepped aside for the one in progress; else that one.
fn running<'a>(scrape: &Scrape<'a>) -> Option<&'a Running> {
    let manager = &scrape.view.state.manager;
    manager.failed().next().or(manager.current.as_ref())
}

/// The manager of every member with its labels; `unknown` where there never was one.
fn each(
    scrape: &Scrape<'_>,
    rows: &mut Rows,
    add: impl Fn(&mut Rows, &[(&str, &str)], &MemberDoc),
) {
    for member in MemberDoc::all(scrape.view) {
        let labels = [("cluster", scrape.view.state.name.as_str()), ("node", &member.node)];
        add(rows, &labels, &member);
    }
}
