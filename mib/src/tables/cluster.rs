//! Scalars: the cluster, the answering node, the history.

use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Substate};
use vedette_core::state::ClusterState;

use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

/// Version of the MIB that is implemented here.
pub(crate) const MIB_VERSION: u32 = 4;

/// Length of a cluster id and of a hash, as text.
const DIGITS: usize = 64;

pub(crate) struct Scalars;

impl Table for Scalars {
    type Row<'a> = ();
}

pub(crate) const CLUSTER: &[u32] = &[1, 1];
pub(crate) const LOCAL: &[u32] = &[1, 2];
pub(crate) const HISTORY: &[u32] = &[1, 3];

/// Scalars that notifications carry.
pub(crate) const CLUSTER_NAME: &[u32] = &[1, 1, 3, 0];
pub(crate) const CLUSTER_STATE: &[u32] = &[1, 1, 4, 0];
pub(crate) const CLUSTER_SUBSTATE: &[u32] = &[1, 1, 6, 0];
pub(crate) const CLUSTER_REVISION: &[u32] = &[1, 1, 8, 0];
pub(crate) const LOCAL_NODE_NAME: &[u32] = &[1, 2, 2, 0];
pub(crate) const HISTORY_SEQUENCE: &[u32] = &[1, 3, 1, 0];

/// Scalars that change by themselves; they are made when they are asked for.
pub(crate) const DATA_AGE: &[u32] = &[1, 2, 4, 0];
pub(crate) const UNKNOWN_FOR: &[u32] = &[1, 2, 10, 0];
pub(crate) const LOG_STALLED_FOR: &[u32] = &[1, 2, 14, 0];

pub(crate) const CLUSTER_SCALARS: &[Column<Scalars>] = &[
    column(1, "vedetteMibVersion", "Unsigned32", |_, ()| Value::Gauge32(MIB_VERSION)),
    column(2, "vedetteClusterId", "SnmpAdminString", |f, ()| {
        Value::text(&state(f).cluster.map(|id| id.to_string()).unwrap_or_default(), DIGITS)
    }),
    column(3, "vedetteClusterName", "SnmpAdminString", |f, ()| Value::text(&state(f).name, NAME)),
    column(4, "vedetteClusterState", "VedetteClusterStatusCode", |f, ()| {
        Value::code(f.view.cluster_status().code())
    }),
    column(5, "vedetteClusterStateSince", "DateAndTime", |f, ()| {
        Value::date(state(f).status_since)
    }),
    column(6, "vedetteClusterSubstate", "VedetteSubstateCode", |f, ()| {
        Value::code(if f.knows() { state(f).substate } else { Substate::Unknown }.code())
    }),
    column(7, "vedetteClusterSubstateSince", "DateAndTime", |f, ()| {
        Value::date(state(f).substate_since)
    }),
    column(8, "vedetteClusterRevision", "VedetteLogIndex", |f, ()| {
        Value::Counter64(state(f).revision)
    }),
    column(9, "vedetteClusterLastChange", "TimeStamp", |f, ()| f.base.stamp(state(f).changed_at)),
    column(10, "vedetteClusterQuorate", "TruthValue", |f, ()| Value::truth(f.view.local.quorate)),
    column(11, "vedetteClusterDirectorName", "SnmpAdminString", |f, ()| {
        let name = director(f).map(|node| state(f).node_name(node)).unwrap_or_default();
        Value::text(&name, NAME)
    }),
    column(12, "vedetteClusterDirectorNumber", "VedetteNumberOrZero", |f, ()| {
        Value::Gauge32(director(f).map_or(0, |node| u32::from(node.0)))
    }),
    column(13, "vedetteClusterTerm", "VedetteLogIndex", |f, ()| {
        f.known(|| Value::Counter64(state(f).term))
    }),
    column(14, "vedetteClusterNodes", "Gauge32", |f, ()| Value::gauge(state(f).nodes.len())),
    column(15, "vedetteClusterNodesUp", "Gauge32", |f, ()| {
        let up = state(f).nodes.values().filter(|node| node.host == HostStatus::Up);
        f.known(|| Value::gauge(up.count()))
    }),
    column(16, "vedetteClusterNetworks", "Gauge32", |f, ()| Value::gauge(state(f).networks.len())),
    column(17, "vedetteClusterSeeded", "TruthValue", |f, ()| {
        f.known(|| Value::truth(state(f).seeded))
    }),
    column(18, "vedetteClusterSeedCount", "Unsigned32", |f, ()| {
        Value::Gauge32(u32::from(state(f).settings.seed_count))
    }),
    column(19, "vedetteClusterAlertsPending", "Gauge32", |f, ()| {
        f.known(|| Value::gauge(state(f).alerts.len()))
    }),
    column(20, "vedetteClusterAlertsFinished", "Counter64", |f, ()| {
        f.known(|| Value::Counter64(state(f).alerts_finished))
    }),
    column(21, "vedetteClusterLoggingLevel", "VedetteSeverityCode", |f, ()| {
        Value::code(state(f).settings.logging_level.code())
    }),
    column(22, "vedetteClusterHeartbeatInterval", "Unsigned32", |f, ()| {
        Value::gauge(state(f).settings.timing.interval_ms as usize)
    }),
    column(23, "vedetteClusterSensitivity", "Unsigned32", |f, ()| {
        Value::gauge(state(f).settings.timing.sensitivity as usize)
    }),
    column(24, "vedetteClusterFormedAt", "DateAndTime", |f, ()| Value::date(state(f).formed_at)),
];

pub(crate) const LOCAL_SCALARS: &[Column<Scalars>] = &[
    column(1, "vedetteLocalNodeNumber", "VedetteNumberOrZero", |f, ()| {
        Value::Gauge32(u32::from(f.view.local.node.0))
    }),
    column(2, "vedetteLocalNodeName", "SnmpAdminString", |f, ()| {
        Value::text(&state(f).node_name(f.view.local.node), NAME)
    }),
    column(3, "vedetteLocalDirector", "TruthValue", |f, ()| {
        Value::truth(f.knows() && f.view.local.director)
    }),
    column(4, "vedetteLocalDataAge", "TimeTicks", |_, ()| Value::TimeTicks(0)),
    column(5, "vedetteLocalStage", "SnmpAdminString", |f, ()| Value::text(f.view.local.stage, 32)),
    column(6, "vedetteLocalWaitingFor", "VedetteText", |f, ()| {
        Value::text(&f.view.local.waiting_for, TEXT)
    }),
    column(7, "vedetteLocalHostStatus", "VedetteHostStatusCode", |f, ()| {
        Value::code(f.view.local.host.code())
    }),
    column(8, "vedetteLocalAgentStatus", "VedetteAgentStatusCode", |f, ()| {
        Value::code(f.view.local.agent.code())
    }),
    column(9, "vedetteUnknownSince", "DateAndTime", |f, ()| {
        let since = f.view.local.unknown_since.filter(|_| !f.knows());
        since.map_or(Value::NoSuchInstance, Value::date)
    }),
    column(10, "vedetteUnknownFor", "TimeTicks", |f, ()| {
        if f.knows() { Value::NoSuchInstance } else { Value::TimeTicks(0) }
    }),
    column(11, "vedetteJournalPending", "Gauge32", |f, ()| {
        let health = &f.view.local.journal_health;
        let pending = health.last.saturating_sub(health.accounted);
        Value::gauge(usize::try_from(pending).unwrap_or(usize::MAX))
    }),
    column(12, "vedetteJournalDropped", "Counter64", |f, ()| {
        Value::Counter64(f.view.local.journal_health.dropped)
    }),
    column(13, "vedetteLogPosition", "VedetteLogIndex", |f, ()| {
        Value::Counter64(f.view.local.log.applied)
    }),
    column(14, "vedetteLogStalledFor", "TimeTicks", |f, ()| {
        let stalled = f.view.local.log.stalled_since;
        stalled.map_or(Value::NoSuchInstance, |_| Value::TimeTicks(0))
    }),
];

pub(crate) const HISTORY_SCALARS: &[Column<Scalars>] = &[
    column(1, "vedetteHistorySequence", "VedetteLogIndex", |f, ()| Value::Counter64(state(f).seq)),
    column(2, "vedetteHistoryDurable", "VedetteLogIndex", |f, ()| {
        Value::Counter64(f.view.local.history_seq)
    }),
    column(3, "vedetteHistoryHead", "SnmpAdminString", |f, ()| {
        Value::text(&state(f).head.to_string(), DIGITS)
    }),
    column(4, "vedetteHistoryEvents", "Gauge32", |f, ()| Value::gauge(f.view.recent.len())),
];

/// A node that does not know names no director, itself neither.
fn director(facts: &Facts<'_>) -> Option<NodeNumber> {
    state(facts).director.filter(|_| facts.knows())
}

fn state<'a>(facts: &Facts<'a>) -> &'a ClusterState {
    &facts.view.state
}

/// A group of scalars is a table whose only row is `.0`.
pub(crate) fn build(facts: &Facts<'_>, entry: &[u32], scalars: &[Column<Scalars>]) -> Block {
    Block::build(facts, entry, scalars, &[(vec![0], ())])
}
