//! An incident as a story: when it began, what was decided, what was lost, when it was over.
//!
//! Three moments count. It *began* when what failed, failed: the earliest beginning of its outages, or
//! the silence of a host before it was called DOWN. It was *noticed* when a record of the cluster says
//! so. It is *recovered* when the last of its events was over and no group of it is awaited any more.
//!
//! It is *named* after what failed, which is not always what was noticed first ([`headline`]).

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use vedette_core::group::GroupState;
use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Severity};
use vedette_core::record::{Code, Record, Subject};

use super::documents::{
    IncidentDoc, IncidentEventDoc, IncidentState, OutageDoc, OutageKind, StepKind,
};
use super::line::{Placed, millis, place, text};
use super::outages::{Outage, outages, went_away};
use super::steps::kind;
use crate::clinfo::SubjectDoc;

impl IncidentDoc {
    /// The incident that the first of `records` tells of which tells of any; see [`Self::of`].
    pub fn build<R: Borrow<Record>>(
        records: &[R],
        name: impl Fn(NodeNumber) -> String,
    ) -> Option<Self> {
        let id = records.iter().find_map(|record| record.borrow().incident)?;
        Self::of(id, records, name)
    }

    /// The incident with that number, from records in the order of their numbers: all that there are from
    /// a little before it until what it took out of service was ONLINE again, whatever incident they are
    /// of, because an outage belongs to one. `name` tells how a node is called. `None` if there are none.
    pub fn of<R: Borrow<Record>>(
        id: u64,
        records: &[R],
        name: impl Fn(NodeNumber) -> String,
    ) -> Option<Self> {
        let all: Vec<&Record> = records.iter().map(Borrow::borrow).collect();
        let own = |record: &&&Record| record.incident == Some(id);
        let first: &Record = all.iter().find(own)?;
        let placed = place(&all);
        let until = all.iter().filter(own).map(|record| record.seq).max()?;
        let records: Vec<Placed<'_>> =
            placed.iter().filter(|it| it.record.incident == Some(id)).copied().collect();
        let outages = of_incident(id, until, &placed);
        let (began, noticed) = moments(&records, &outages);
        let story = Story { began, noticed, records, outages, name: &name };
        Some(story.document(id, first))
    }
}

/// The outages of an incident. One that nobody wanted ends when the group is ONLINE, whatever incident
/// that record is of; what was taken off on purpose is over with this one.
fn of_incident(id: u64, until: u64, placed: &[Placed<'_>]) -> Vec<Outage> {
    // Accounts come when the node can give them.
    let known = |it: &&Placed<'_>| it.record.seq <= until || it.record.told.is_some();
    let then: Vec<Placed<'_>> = placed.iter().filter(known).copied().collect();
    let then = outages(&then);
    let all = outages(placed).into_iter().filter(|it| it.left && it.incident == Some(id));
    all.map(|outage| {
        let before = then.iter().find(|it| it.seq == outage.seq && it.left);
        before.filter(|it| it.ended.is_some() || it.planned()).cloned().unwrap_or(outage)
    })
    .collect()
}

/// The record that an incident is named after. A time in which nobody had a quorum is the greatest that can
/// happen to a cluster. Else it is the first, unless that says only what became of a group or what is to be done about
/// it: then it is what befell nodes, which they account for afterwards.
fn headline<'a>(first: &'a Record, records: &[Placed<'a>]) -> &'a Record {
    let absent = records.iter().find(|it| it.record.code == Code::QuorumAbsent);
    if let Some(absent) = absent {
        return absent.record;
    }
    if !matches!(first.code, Code::Group | Code::LetGo | Code::EventQueued) {
        return first;
    }
    let befell = |it: &&Placed<'_>| match it.record.code {
        Code::QuorumLost => true,
        Code::NodeStarted | Code::AgentRestarted => it.record.severity < Severity::Notice,
        _ => went_away(it.record),
    };
    let befallen = records.iter().filter(befell);
    befallen.min_by_key(|it| it.record.code != Code::QuorumLost).map_or(first, |it| it.record)
}

/// When an incident began, and when that was a fact.
fn moments(records: &[Placed<'_>], outages: &[Outage]) -> (i64, i64) {
    let facts = records.iter().filter(|it| it.record.told.is_none());
    let fact = facts.min_by_key(|it| it.record.seq).or(records.first()).map_or(0, |it| it.at);
    let noticed = outages.iter().map(|outage| outage.noticed).fold(fact, i64::min);
    let silences = records
        .iter()
        .filter(|it| went_away(it.record))
        .map(|it| it.before(it.record.duration_ms.unwrap_or(0)));
    let told = records
        .iter()
        .filter(|it| matches!(it.record.code, Code::QuorumLost | Code::GroupReleased))
        .map(|it| it.at);
    let lost = outages.iter().map(|outage| outage.began);
    (silences.chain(told).chain(lost).fold(noticed, i64::min), noticed)
}

/// An incident, while it is put together.
pub(super) struct Story<'a> {
    pub(super) began: i64,
    pub(super) noticed: i64,
    pub(super) records: Vec<Placed<'a>>,
    outages: Vec<Outage>,
    pub(super) name: &'a dyn Fn(NodeNumber) -> String,
}

impl Story<'_> {
    fn document(&self, id: u64, first: &Record) -> IncidentDoc {
        let (events, outages) = (self.events(), self.outage_docs());
        let recovered = self.recovered(&events);
        let closed = self.closed(recovered);
        let severity = self.records.iter().map(|it| it.record.severity).min();
        let named = headline(first, &self.records);
        IncidentDoc {
            id,
            state: match (recovered, closed) {
                (None, _) => IncidentState::Open,
                (Some(_), None) => IncidentState::Recovered,
                (Some(_), Some(_)) => IncidentState::Closed,
            },
            title: named.message.clone(),
            subject: SubjectDoc::new(named),
            cause: named.cause.clone(),
            severity: severity.unwrap_or(first.severity),
            began: text(self.began),
            noticed: text(self.noticed),
            detection_ms: (self.began < self.noticed).then(|| millis(self.began, self.noticed)),
            decision_ms: self.decided().map(|at| millis(self.noticed, at)),
            decisions: self.decisions(),
            recovered: recovered.map(text),
            recovery_ms: recovered.map(|at| millis(self.began, at)),
            closed: recovered.and(closed).map(text),
            events,
            outages,
            steps: self.steps(),
        }
    }

    fn decisions(&self) -> Vec<String> {
        let decided = self.records.iter().filter(|it| kind(it.record, false) == StepKind::Decision);
        decided.map(|it| sentence(it.record)).collect()
    }

    /// When the first group could be acquired.
    fn decided(&self) -> Option<i64> {
        let acquiring = |it: &&Placed<'_>| {
            it.record.code == Code::Group
                && it.record.current == GroupState::Acquiring.name()
                && it.at >= self.noticed
        };
        self.records.iter().find(acquiring).map(|it| it.at)
    }

    /// The manager's events by id.
    fn events(&self) -> Vec<IncidentEventDoc> {
        let mut events: BTreeMap<u64, (i64, IncidentEventDoc)> = BTreeMap::new();
        for it in &self.records {
            let record = it.record;
            let Some(id) = record.event else { continue };
            let what = record.message.clone();
            let (queued, event) = events.entry(id).or_insert_with(|| {
                (it.at, IncidentEventDoc { id, what, ended: None, duration_ms: None })
            });
            if matches!(record.code, Code::EventEnded | Code::EventSuperseded) {
                event.ended = Some(sentence(record));
                event.duration_ms = Some(millis(*queued, it.at));
            }
        }
        events.into_values().map(|(_, event)| event).collect()
    }

    /// Groups that went out of service and came back, in the order in which they went.
    fn outage_docs(&self) -> Vec<OutageDoc> {
        self.outages.iter().map(|outage| self.outage_doc(outage)).collect()
    }

    fn outage_doc(&self, outage: &Outage) -> OutageDoc {
        let node = |node: Option<NodeNumber>| node.map(|node| (self.name)(node));
        let stopped = outage.kind() == OutageKind::Stop && outage.planned();
        let resting = outage.ended.is_none() && !is_due(outage) && self.all_as_ordered();
        let between = outage.at_least.flatten();
        OutageDoc {
            group: outage.name.clone(),
            from: node(outage.from),
            to: node(outage.to),
            began: text(outage.began),
            ended: outage.ended.map(text),
            outage_ms: outage.ended.map(|ended| millis(outage.began, ended)),
            kind: outage.kind(),
            planned: outage.planned(),
            at_least: outage.at_least.is_some(),
            between: between.map(|from| [text(from), text(outage.began)]),
            on_purpose: stopped || resting,
        }
    }

    /// Whether it tells of no failure.
    fn all_as_ordered(&self) -> bool {
        let failure = |it: &Placed<'_>| {
            matches!(it.record.code, Code::ResourceFailed | Code::EventFailed) || it.record.alert
        };
        self.lost().is_empty() && !self.records.iter().any(failure)
    }

    /// When everything was done, if it is.
    fn recovered(&self, events: &[IncidentEventDoc]) -> Option<i64> {
        let awaited = |outage: &Outage| outage.ended.is_none() && is_due(outage);
        if events.iter().any(|event| event.ended.is_none())
            || self.outages.iter().any(awaited)
            || self.is_stuck()
        {
            return None;
        }
        let done = |it: &&Placed<'_>| {
            matches!(it.record.code, Code::EventEnded | Code::EventSuperseded | Code::Group)
        };
        let again = self.outages.iter().filter_map(|outage| outage.ended).max();
        match self.records.iter().rfind(done) {
            Some(last) => Some(again.map_or(last.at, |again| again.max(last.at))),
            // No event, no group: it is over when what had failed is back.
            None => self.returned().or_else(|| {
                self.nothing_failed().map(|noticed| self.regained().unwrap_or(noticed))
            }),
        }
    }

    /// Whether the last that it says of a group is ERROR: that waits for an operator.
    fn is_stuck(&self) -> bool {
        let mut last: BTreeMap<Subject, &str> = BTreeMap::new();
        for it in self.records.iter().filter(|it| it.record.code == Code::Group) {
            last.insert(it.record.subject, &it.record.current);
        }
        let over = |subject: &Subject| {
            let name = |it: &&Placed<'_>| it.record.subject == *subject;
            let called = self.records.iter().rfind(name).map(|it| &it.record.subject_name);
            let outage = self.outages.iter().rfind(|outage| Some(&outage.name) == called);
            outage.is_some_and(|outage| outage.ended.is_some())
        };
        last.iter().any(|(subject, state)| *state == GroupState::Error.name() && !over(subject))
    }

    /// When what had failed was back.
    fn closed(&self, recovered: Option<i64>) -> Option<i64> {
        match self.nothing_failed() {
            Some(_) => recovered,
            None => self.returned().map(|at| recovered.map_or(at, |done| at.max(done))),
        }
    }

    /// The nodes that went away in it.
    fn lost(&self) -> BTreeSet<Subject> {
        let away = self.records.iter().filter(|it| went_away(it.record));
        away.map(|it| it.record.subject).collect()
    }

    /// When it was noticed, if no node went away in it.
    fn nothing_failed(&self) -> Option<i64> {
        self.lost().is_empty().then_some(self.noticed)
    }

    /// When the last of the nodes that lost their quorum had one again, as far as it is told. One that was
    /// started anew meanwhile tells that instead.
    fn regained(&self) -> Option<i64> {
        let without = |code: Code| matches!(code, Code::QuorumLost | Code::QuorumAbsent);
        let lost: BTreeSet<Subject> = self
            .records
            .iter()
            .filter(|it| without(it.record.code))
            .map(|it| it.record.subject)
            .collect();
        let again = |it: &&Placed<'_>| match it.record.code {
            Code::QuorumAbsent => true,
            Code::QuorumRegained | Code::NodeStarted => lost.contains(&it.record.subject),
            _ => false,
        };
        self.records.iter().filter(again).map(|it| it.at).max()
    }

    /// When the last of the nodes that went away was back.
    fn returned(&self) -> Option<i64> {
        let back = |subject: &Subject| {
            let about = |it: &&Placed<'_>| {
                it.record.code == Code::NodeHost && it.record.subject == *subject
            };
            let last = self.records.iter().rfind(about)?;
            (last.record.current == HostStatus::Up.name()).then_some(last.at)
        };
        self.lost().iter().map(back).collect::<Option<Vec<_>>>()?.into_iter().max()
    }
}

/// Whether a group is still to come back: one that is OFFLINE when nothing is being done any more was
/// taken off on purpose.
fn is_due(outage: &Outage) -> bool {
    outage.state != GroupState::Offline.name()
}

/// What a record says, with its reason.
fn sentence(record: &Record) -> String {
    if record.cause.is_empty() {
        record.message.clone()
    } else {
        format!("{} ({})", record.message, record.cause)
    }
}
