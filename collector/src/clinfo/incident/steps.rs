//! What was done, step by step, with lengths: for a waterfall.
//!
//! A step's length is the time between the record that begins it and the one that ends it, where both
//! are there; a command's is what its node measured. A phase or a vote lasts until the next one of its
//! event. The record of a group or resource says how long the state before lasted: a step only if
//! something was being done in it.

use vedette_core::group::{GroupState, ResourceState};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};

use super::documents::{IncidentStepDoc, StepKind};
use super::line::{Placed, millis};
use super::outages::went_away;
use super::story::Story;

impl Story<'_> {
    pub(super) fn steps(&self) -> Vec<IncidentStepDoc> {
        (0..self.records.len()).map(|place| self.step(place)).collect()
    }

    fn step(&self, place: usize) -> IncidentStepDoc {
        let it = self.records[place];
        let record = it.record;
        let at = millis(self.began, it.at);
        let (starts, duration) = match (self.length(place), lasting(record)) {
            (Some(length), _) => {
                let length = length.min(at);
                (at - length, Some(length))
            }
            (None, true) => (at, self.next_of_event(place).map(|next| millis(it.at, next.at))),
            (None, false) => (at, Some(0)),
        };
        let first = self.first() == Some(place);
        IncidentStepDoc {
            seq: record.seq,
            kind: kind(record, first),
            code: record.code.name().into(),
            event: record.event,
            node: record.node.map(|node| (self.name)(node)),
            node_number: record.node.map(|node| node.0),
            what: record.message.clone(),
            cause: record.cause.clone(),
            failed: !first && is_failure(record),
            starts_ms: starts,
            duration_ms: duration,
        }
    }

    /// The place of the record that began it: the first in the history, which may be told later.
    fn first(&self) -> Option<usize> {
        let numbered = self.records.iter().enumerate();
        numbered.min_by_key(|(_, it)| it.record.seq).map(|(place, _)| place)
    }

    /// How long a step took that is over with its record, if that is known.
    fn length(&self, place: usize) -> Option<u64> {
        let it = self.records[place];
        let record = it.record;
        let since = |earlier: &dyn Fn(&Record) -> bool| {
            let begins = self.records[..place].iter().rfind(|known| earlier(known.record))?;
            Some(millis(begins.at, it.at))
        };
        match record.code {
            Code::Group | Code::Resource => {
                let before = |known: &Record| {
                    (known.code, known.subject) == (record.code, record.subject)
                        && known.current == record.previous
                };
                in_motion(record).then(|| since(&before).or(record.duration_ms)).flatten()
            }
            Code::EventVote | Code::EventEnded => {
                let begins = |known: &Record| {
                    (known.code, known.event) == (Code::EventVote, record.event)
                        && known.duration_ms.is_none()
                };
                record.duration_ms.map(|known| since(&begins).unwrap_or(known))
            }
            Code::NodeHost if !went_away(record) => None,
            _ => record.duration_ms,
        }
    }

    /// The record that ends what the one at `place` began.
    fn next_of_event(&self, place: usize) -> Option<&Placed<'_>> {
        let event = self.records[place].record.event;
        let ends = |it: &&Placed<'_>| {
            it.record.event == event
                && (lasting(it.record)
                    || matches!(
                        it.record.code,
                        Code::EventVote
                            | Code::EventEnded
                            | Code::EventFailed
                            | Code::EventSuperseded
                    ))
        };
        self.records[place + 1..].iter().find(ends)
    }
}

/// Whether a record begins something that lasts until the next such record of its event.
fn lasting(record: &Record) -> bool {
    matches!(record.code, Code::EventQueued | Code::EventPhase | Code::EventRecovered)
}

/// Whether something was being done in the state that a record of a group or resource ends.
fn in_motion(record: &Record) -> bool {
    [
        GroupState::Acquiring.name(),
        GroupState::Releasing.name(),
        GroupState::Unknown.name(),
        ResourceState::Starting.name(),
        ResourceState::Stopping.name(),
    ]
    .contains(&record.previous.as_str())
}

/// What a step is for; `first` is the one that began its incident.
pub(super) fn kind(record: &Record, first: bool) -> StepKind {
    match record.code {
        _ if first => StepKind::Detection,
        Code::NodeHost
        | Code::NodeAgent
        | Code::Network
        | Code::Interface
        | Code::Link
        | Code::RuleFired
        | Code::QuorumLost
        | Code::NodeStarted => StepKind::Detection,
        Code::EventVote if record.duration_ms.is_none() => StepKind::Note,
        Code::EventVote | Code::LetGo | Code::TakeoverWaits | Code::Fencing => StepKind::Decision,
        Code::EventPhase => StepKind::Phase,
        Code::EventCommand => StepKind::Command,
        Code::Group
        | Code::Resource
        | Code::ResourceFailed
        | Code::GroupReleased
        | Code::ReleaseFailed => StepKind::Resource,
        Code::EventRecovered
        | Code::GroupOrdered
        | Code::NodeOrdered
        | Code::Maintenance
        | Code::FailuresCleared => StepKind::Operator,
        _ => StepKind::Note,
    }
}

/// Whether a record tells of something that went wrong.
fn is_failure(record: &Record) -> bool {
    let at_a_command = matches!(record.code, Code::EventCommand | Code::ResourceFailed);
    record.severity == Severity::Error || (record.severity == Severity::Warning && at_a_command)
}
