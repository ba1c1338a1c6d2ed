//! The cluster manager: scalars about the event in progress, `vedetteNodeManagerTable` with the
//! manager of each node, `vedetteQueueTable` with what waits, and `vedetteBegunTable` with what began and is not
//! over (spec H11, H14).

use vedette_core::event::{Event, ManagerState, Member, Running, Stage};
use vedette_core::takeover::Backing;
use vedette_core::time::WallTime;

use super::{NAME, TEXT};
use crate::table::{Block, Column, Facts, Table, column};
use crate::value::Value;

pub(crate) const SCALARS_OF: &[u32] = &[1, 4];
pub(crate) const NODES: &[u32] = &[1, 16, 1];
pub(crate) const QUEUE: &[u32] = &[1, 21, 1];
pub(crate) const BEGUN: &[u32] = &[1, 30, 1];

pub(crate) struct Scalars;

/// The event in progress.
impl Table for Scalars {
    type Row<'a> = Option<&'a Running>;
}

pub(crate) const SCALARS: &[Column<Scalars>] = &[
    column(1, "vedetteManagerMaintenance", "TruthValue", |f, _| {
        f.known(|| Value::truth(f.view.state.manager.maintenance))
    }),
    column(2, "vedetteManagerQueueLength", "Gauge32", |f, _| {
        f.known(|| Value::gauge(f.view.state.manager.queue.len()))
    }),
    column(3, "vedetteManagerEventsEnded", "Counter64", |f, _| {
        f.known(|| Value::Counter64(f.view.state.manager.ended))
    }),
    column(4, "vedetteManagerEvent", "VedetteLogIndex", |f, r| {
        f.known(|| Value::Counter64(r.map_or(0, |running| running.event.id)))
    }),
    column(5, "vedetteManagerEventName", "SnmpAdminString", |f, r| {
        f.known(|| Value::text(r.map_or("", |running| running.event.trigger.name()), NAME))
    }),
    column(6, "vedetteManagerEventText", "VedetteText", |f, r| {
        let label = r.map(|running| f.view.state.trigger_label(&running.event.trigger));
        f.known(|| Value::text(&label.unwrap_or_default(), TEXT))
    }),
    column(7, "vedetteManagerEventStage", "VedetteStageCode", |f, r| {
        f.known(|| Value::code(stage(*r)))
    }),
    column(8, "vedetteManagerEventBegan", "DateAndTime", |f, r| {
        f.known(|| Value::date(r.map_or_else(WallTime::default, |running| running.began)))
    }),
    column(9, "vedetteManagerEventStep", "Gauge32", |f, r| {
        f.known(|| Value::gauge(r.map_or(0, step)))
    }),
    column(10, "vedetteManagerEventSteps", "Gauge32", |f, r| {
        f.known(|| Value::gauge(r.map_or(0, |running| running.program.phases.len())))
    }),
    column(11, "vedetteManagerEventTooLong", "TruthValue", |f, r| {
        f.known(|| Value::truth(r.is_some_and(|running| running.too_long)))
    }),
    column(12, "vedetteManagerEventIncident", "VedetteLogIndex", |f, r| {
        f.known(|| Value::Counter64(r.map_or(0, |running| running.event.incident)))
    }),
    column(13, "vedetteManagerGroups", "Gauge32", |f, _| Value::gauge(f.view.state.groups.len())),
    column(14, "vedetteManagerFencing", "Gauge32", |f, _| {
        f.known(|| Value::gauge(f.view.state.manager.fencing.len()))
    }),
    column(15, "vedetteManagerRulesVersion", "Unsigned32", |f, _| {
        Value::Gauge32(f.view.state.rules.active)
    }),
    column(16, "vedetteManagerConfigurationVersion", "Unsigned32", |f, _| {
        Value::Gauge32(f.view.state.documents.active)
    }),
    column(17, "vedetteManagerConfigurationPending", "TruthValue", |f, _| {
        f.known(|| Value::truth(f.view.state.documents.pending.is_some()))
    }),
    column(18, "vedetteManagerBegunLength", "Gauge32", |f, _| {
        f.known(|| Value::gauge(f.view.state.manager.begun().count()))
    }),
];

/// The phase that runs, counted from 1.
fn step(running: &Running) -> usize {
    if running.stage == Stage::Voting { 0 } else { running.phase + 1 }
}

fn stage(running: Option<&Running>) -> u32 {
    match running.map(|running| running.stage) {
        None => 1,
        Some(Stage::Voting) => 2,
        Some(Stage::Running) => 3,
        Some(Stage::Error) => 4,
    }
}

pub(crate) fn build_scalars(facts: &Facts<'_>) -> Block {
    // An event that failed is told although it may have stepped aside for the one in progress.
    let manager = &facts.view.state.manager;
    let running = manager.failed().next().or(manager.current.as_ref());
    Block::build(facts, SCALARS_OF, SCALARS, &[(vec![0], running)])
}

pub(crate) struct Managers;

/// A member's manager, if there ever was one.
impl Table for Managers {
    type Row<'a> = Option<&'a Member>;
}

pub(crate) const NODE_COLUMNS: &[Column<Managers>] = &[
    column(1, "vedetteNodeManagerState", "VedetteManagerStateCode", |_, m| {
        Value::code(m.map_or(ManagerState::Unknown, |member| member.state).code())
    }),
    column(2, "vedetteNodeManagerSince", "DateAndTime", |_, m| {
        Value::date(m.map_or_else(WallTime::default, |member| member.since))
    }),
    column(3, "vedetteNodeManagerLastChange", "TimeStamp", |f, m| {
        f.base.stamp(m.map_or_else(WallTime::default, |member| member.since))
    }),
    column(4, "vedetteNodeManagerJoined", "TruthValue", |f, m| {
        f.known(|| Value::truth(m.is_some_and(|member| member.joined)))
    }),
    column(5, "vedetteNodeManagerStopped", "VedetteStopCode", |f, m| {
        let how = m.and_then(|member| member.stopped);
        f.known(|| Value::code(how.map_or(1, |how| how.code() + 1)))
    }),
    column(6, "vedetteNodeManagerMaintenance", "TruthValue", |f, m| {
        f.known(|| Value::truth(m.is_some_and(|member| member.maintenance)))
    }),
    column(7, "vedetteNodeManagerBacking", "VedetteBackingCode", |f, m| {
        f.known(|| Value::code(m.map_or(Backing::None, |member| member.backing).code()))
    }),
];

pub(crate) fn build_nodes(facts: &Facts<'_>) -> Block {
    let state = &facts.view.state;
    let rows: Vec<(Vec<u32>, <Managers as Table>::Row<'_>)> = state
        .nodes
        .keys()
        .map(|node| (vec![u32::from(node.0)], state.manager.members.get(node)))
        .collect();
    Block::build(facts, NODES, NODE_COLUMNS, &rows)
}

pub(crate) struct Queue;

impl Table for Queue {
    type Row<'a> = &'a Event;
}

pub(crate) const QUEUE_COLUMNS: &[Column<Queue>] = &[
    column(2, "vedetteQueueEvent", "VedetteLogIndex", |_, e| Value::Counter64(e.id)),
    column(3, "vedetteQueueName", "SnmpAdminString", |_, e| Value::text(e.trigger.name(), NAME)),
    column(4, "vedetteQueueText", "VedetteText", |f, e| {
        Value::text(&f.view.state.trigger_label(&e.trigger), TEXT)
    }),
    column(5, "vedetteQueueCause", "VedetteText", |_, e| Value::text(&e.cause, TEXT)),
    column(6, "vedetteQueueTime", "DateAndTime", |_, e| Value::date(e.at)),
    column(7, "vedetteQueueIncident", "VedetteLogIndex", |_, e| Value::Counter64(e.incident)),
];

pub(crate) fn build_queue(facts: &Facts<'_>) -> Block {
    let queue = facts.view.state.manager.queue.iter();
    let rows: Vec<(Vec<u32>, <Queue as Table>::Row<'_>)> =
        (1..).zip(queue).map(|(place, event)| (vec![place], event)).collect();
    Block::build(facts, QUEUE, QUEUE_COLUMNS, &rows)
}

pub(crate) struct Begun;

/// An event that is not over.
impl Table for Begun {
    type Row<'a> = &'a Running;
}

pub(crate) const BEGUN_COLUMNS: &[Column<Begun>] = &[
    column(2, "vedetteBegunEvent", "VedetteLogIndex", |_, r| Value::Counter64(r.event.id)),
    column(3, "vedetteBegunName", "SnmpAdminString", |_, r| {
        Value::text(r.event.trigger.name(), NAME)
    }),
    column(4, "vedetteBegunText", "VedetteText", |f, r| {
        Value::text(&f.view.state.trigger_label(&r.event.trigger), TEXT)
    }),
    column(5, "vedetteBegunStage", "VedetteStageCode", |_, r| Value::code(stage(Some(r)))),
    column(6, "vedetteBegunAside", "TruthValue", |_, r| Value::truth(r.is_beside())),
    column(7, "vedetteBegunTime", "DateAndTime", |_, r| Value::date(r.began)),
    column(8, "vedetteBegunStep", "Gauge32", |_, r| Value::gauge(step(r))),
    column(9, "vedetteBegunSteps", "Gauge32", |_, r| Value::gauge(r.program.phases.len())),
    column(10, "vedetteBegunTooLong", "TruthValue", |_, r| Value::truth(r.too_long)),
    column(11, "vedetteBegunIncident", "VedetteLogIndex", |_, r| {
        Value::Counter64(r.event.incident)
    }),
];

pub(crate) fn build_begun(facts: &Facts<'_>) -> Block {
    let mut begun: Vec<&Running> = facts.view.state.manager.begun().collect();
    begun.sort_by_key(|running| running.event.id);
    let rows: Vec<(Vec<u32>, <Begun as Table>::Row<'_>)> =
        (1..).zip(begun).map(|(place, row)| (vec![place], row)).collect();
    Block::build(facts, BEGUN, BEGUN_COLUMNS, &rows)
}
