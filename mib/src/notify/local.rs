//! Notifications of what a node lives through: its own local records, told at once where they happen,
//! and what is known of such times afterwards.
//!
//! Local records reach everybody's history later, as records with the same codes; those are not
//! notified again, because their node told them. Nothing here is a Counter64: an SNMPv1 receiver gets
//! these notifications as well.

use vedette_core::local::{LocalRecord, Phase};
use vedette_core::record::{Code, Record};
use vedette_core::time::WallTime;
use vedette_core::view::View;

use super::{
    CAUSE, CODE, DURATION, EVENT_INDEX, LOCAL_NUMBER, MESSAGE, NODE_NAME, PHASE, SEVERITY, SINCE,
    SUBJECT_KIND, SUBJECT_NAME, TIME, TIMES, bind, head, local_name, only_notified,
};
use crate::pdu::VarBind;
use crate::tables::local::{SUBJECT, limited, wrapped};
use crate::tables::{NAME, TEXT};
use crate::value::Value;

const QUORUM_LOST: u32 = 17;
const QUORUM_REGAINED: u32 = 18;
const LOCAL_RAISED: u32 = 19;
const LOCAL_CLEARED: u32 = 20;
const LOCAL_EVENT: u32 = 21;
const QUORUM_ABSENT: u32 = 22;
const ACCOUNT_INCOMPLETE: u32 = 23;

/// The notification of a record of this node's own journal.
pub fn local_notification(record: &LocalRecord, view: &View) -> Vec<VarBind> {
    let content = &record.content;
    let which = match (content.phase, content.code) {
        (Phase::Raised, Code::QuorumLost) => QUORUM_LOST,
        (Phase::Cleared, Code::QuorumLost | Code::QuorumRegained) => QUORUM_REGAINED,
        (Phase::Raised, _) => LOCAL_RAISED,
        (Phase::Cleared, _) => LOCAL_CLEARED,
        (Phase::Happened, _) => LOCAL_EVENT,
    };
    let mut varbinds = head(which, view);
    varbinds.extend(
        [
            (CODE, Value::code(content.code.number())),
            (PHASE, Value::code(content.phase.code())),
            (SEVERITY, Value::code(content.severity.code())),
            (SUBJECT_KIND, Value::code(content.subject.kind_code())),
            (SUBJECT_NAME, Value::text(&content.subject_name, SUBJECT)),
            (MESSAGE, Value::text(&content.message, TEXT)),
            (CAUSE, Value::text(&content.cause, TEXT)),
            (TIME, Value::date(record.stamp.at)),
            (SINCE, Value::date(began(record.stamp.at, content.duration_ms))),
            (DURATION, duration(content.duration_ms)),
            (TIMES, Value::Gauge32(limited(content.times))),
            (LOCAL_NUMBER, Value::Gauge32(wrapped(record.number))),
        ]
        .map(|(number, value)| bind(&only_notified(number), value)),
    );
    varbinds.push(local_name(view));
    varbinds
}

/// What nobody could tell when it happened, because it concerns everybody or was lost.
pub(super) fn afterwards(record: &Record, view: &View) -> Option<Vec<VarBind>> {
    let which = match record.code {
        Code::QuorumAbsent => QUORUM_ABSENT,
        Code::AccountIncomplete => ACCOUNT_INCOMPLETE,
        _ => return None,
    };
    let node = record.node.map(|node| view.last_known().node_name(node)).unwrap_or_default();
    let mut varbinds = head(which, view);
    varbinds.extend(
        [
            (CODE, Value::code(record.code.number())),
            (SEVERITY, Value::code(record.severity.code())),
            (NODE_NAME, Value::text(&node, NAME)),
            (MESSAGE, Value::text(&record.message, TEXT)),
            (CAUSE, Value::text(&record.cause, TEXT)),
            (TIME, Value::date(record.at)),
            (DURATION, duration(record.duration_ms)),
            (EVENT_INDEX, Value::Gauge32(wrapped(record.seq))),
        ]
        .map(|(number, value)| bind(&only_notified(number), value)),
    );
    varbinds.push(local_name(view));
    Some(varbinds)
}

fn began(at: WallTime, lasted_ms: Option<u64>) -> WallTime {
    let lasted = i64::try_from(lasted_ms.unwrap_or(0)).unwrap_or(i64::MAX);
    WallTime(at.0.saturating_sub(lasted.saturating_mul(1_000)))
}

fn duration(lasted_ms: Option<u64>) -> Value {
    Value::Gauge32(limited(lasted_ms.unwrap_or(0)))
}
