//! What the answering node lives through by itself: its conditions, its journal, its log.
//!
//! These series are true without a quorum, too, and their set does not depend on what happened: an
//! alert can be built on the change from 0 to 1.

use vedette_core::record::Code;
use vedette_core::time::WallTime;

use super::cluster::cluster;
use super::{Family, Rows, Scrape};

pub(super) const CONDITION: Family = Family::gauge(
    "vedette_local_condition",
    "Whether a condition of the answering node holds, by code.",
    |scrape, rows| {
        for code in Code::CONDITIONS {
            let holds = scrape.view.local.conditions.iter().any(|raised| raised.code == *code);
            by_code(scrape, rows, *code, f64::from(u8::from(holds)));
        }
    },
);

pub(super) const EVENTS: Family = Family::counter(
    "vedette_local_events_total",
    "Records of the answering node's own journal since its agent started, by code.",
    |scrape, rows| {
        let counts = &scrape.view.local.journal_health.counts;
        for code in Code::ALL.iter().filter(|code| code.is_local()) {
            by_code(scrape, rows, *code, counts.get(code).copied().unwrap_or(0) as f64);
        }
    },
);

pub(super) const PENDING: Family = Family::gauge(
    "vedette_local_records_pending",
    "Records of the answering node's own journal that are not in everybody's history yet.",
    |scrape, rows| {
        let health = &scrape.view.local.journal_health;
        rows.add(&cluster(scrape), health.last.saturating_sub(health.accounted) as f64);
    },
);

pub(super) const DROPPED: Family = Family::counter(
    "vedette_local_records_dropped_total",
    "Records of the answering node's own journal that were given up because too many waited.",
    |scrape, rows| {
        rows.add(&cluster(scrape), scrape.view.local.journal_health.dropped as f64);
    },
);

pub(super) const UNKNOWN_SINCE: Family = Family::gauge(
    "vedette_without_quorum_since_timestamp_seconds",
    "Since when the answering node does not know the state of the cluster, for want of a quorum or \
     because its log is behind; 0 while it knows.",
    |scrape, rows| {
        let local = &scrape.view.local;
        let since = local.unknown_since.filter(|_| !local.knows());
        rows.add(&cluster(scrape), since.map_or(0.0, |at| at.0 as f64 / 1e6));
    },
);

pub(super) const STALLED: Family = Family::gauge(
    "vedette_log_stalled_seconds",
    "For how long nothing was committed although something waits, as the answering node sees it; 0 if \
     that is not so.",
    |scrape, rows| {
        let now = (scrape.surface.clock)();
        let stalled = scrape.view.local.log.stalled_since;
        rows.add(&cluster(scrape), stalled.map_or(0.0, |since| seconds_between(since, now)));
    },
);

fn by_code(scrape: &Scrape<'_>, rows: &mut Rows, code: Code, value: f64) {
    let code = code.name().to_lowercase();
    rows.add(&[("cluster", &scrape.view.state.name), ("code", &code)], value);
}

fn seconds_between(from: WallTime, to: WallTime) -> f64 {
    to.0.saturating_sub(from.0).max(0) as f64 / 1e6
}
