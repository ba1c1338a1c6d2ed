//! Incidents: one failure and everything that was done about it, made of the history's records.
//!
//! A record says which incident it belongs to by the log index of the record that began it. So an
//! incident is nothing that anybody keeps: it is what the history holds under one number, put into
//! order here by a pure function. What is not over has no end; nothing is guessed.
//!
//! A step's length comes from its record, which is made when the step is over; a phase or a vote
//! lasts until the next one of its event. An *outage* of a group is the time from the record that
//! says it is not ONLINE to the one that says it is. What a client sees began earlier, when the failure
//! was not noticed yet: where the records know how long that was ([`IncidentDoc::detection_ms`]), the
//! outage of what failed with it has that time in it; it is the longest that the outage can have been.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use vedette_core::group::{GroupState, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::model::{HostStatus, Severity};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;

use super::SubjectDoc;

/// One failure (or order of an operator) and everything that followed from it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentDoc {
    /// Log index of the record that began it.
    pub id: u64,
    /// `open`, `recovered` or `closed`.
    pub state: IncidentState,
    /// What began it, in one sentence.
    #[schema(example = "node n3 is DOWN")]
    pub title: String,
    /// About what that was.
    pub subject: SubjectDoc,
    /// Why: who saw what, since when.
    pub cause: String,
    /// The worst severity of its events.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// When it began: when the failure was a fact of the cluster.
    pub began: String,
    /// How long the failure had lasted by then, where the records know it.
    pub detection_ms: Option<u64>,
    /// What was decided, and on what ground, in order.
    pub decisions: Vec<String>,
    /// When the last of its events was over and no group of it was in motion any more.
    pub recovered: Option<String>,
    /// From its beginning until then.
    pub recovery_ms: Option<u64>,
    /// When what had failed was back; the same as `recovered` where nothing was to come back.
    pub closed: Option<String>,
    /// The cluster manager's events in it.
    pub events: Vec<IncidentEventDoc>,
    /// Groups that were not in service for a time, or are not yet.
    pub outages: Vec<OutageDoc>,
    /// Everything that was done, in the order of the records.
    pub steps: Vec<IncidentStepDoc>,
}

/// An incident in a few lines, for a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentSummaryDoc {
    /// Its number.
    pub id: u64,
    /// `open`, `recovered` or `closed`.
    pub state: IncidentState,
    /// What began it, in one sentence.
    pub title: String,
    /// Why.
    pub cause: String,
    /// The worst severity of its events.
    #[schema(value_type = String, example = "error")]
    pub severity: Severity,
    /// When it began.
    pub began: String,
    /// When everything had been done.
    pub recovered: Option<String>,
    /// From its beginning until then.
    pub recovery_ms: Option<u64>,
    /// When what had failed was back.
    pub closed: Option<String>,
    /// Groups that were not in service for a time, or are not yet.
    pub outages: Vec<OutageDoc>,
    /// How many steps it has.
    pub steps: usize,
}

impl IncidentSummaryDoc {
    /// The summary of an incident.
    pub fn new(incident: &IncidentDoc) -> Self {
        Self {
            id: incident.id,
            state: incident.state,
            title: incident.title.clone(),
            cause: incident.cause.clone(),
            severity: incident.severity,
            began: incident.began.clone(),
            recovered: incident.recovered.clone(),
            recovery_ms: incident.recovery_ms,
            closed: incident.closed.clone(),
            outages: incident.outages.clone(),
            steps: incident.steps.len(),
        }
    }
}

/// How far an incident is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Something of it is still being done, or waits for somebody.
    Open,
    /// Everything was done; what had failed is not back.
    Recovered,
    /// Over.
    Closed,
}

impl IncidentState {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Recovered => "recovered",
            Self::Closed => "closed",
        }
    }
}

/// An event of the cluster manager that belongs to an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentEventDoc {
    /// Its id.
    pub id: u64,
    /// What the record that queued it says.
    pub what: String,
    /// How it ended; `null` while it waits or runs.
    pub ended: Option<String>,
    /// From when it was queued until it ended.
    pub duration_ms: Option<u64>,
}

/// A group that was not in service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OutageDoc {
    /// The group.
    pub group: String,
    /// Where it had been, if that is in the records.
    pub from: Option<String>,
    /// Where it is in service again.
    pub to: Option<String>,
    /// When it began, as the cluster knows it.
    pub began: String,
    /// When it ended; `null` while it lasts.
    pub ended: Option<String>,
    /// How long it was; `null` while it lasts.
    pub outage_ms: Option<u64>,
    /// Nothing had failed and nobody was to take it: it was taken off on purpose, and when it is brought
    /// online again is another incident.
    pub on_purpose: bool,
}

/// What a step is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    /// Something was found to be so.
    Detection,
    /// It was decided what to do, or that it is safe.
    Decision,
    /// A phase of a recovery program.
    Phase,
    /// A command on a node.
    Command,
    /// A group or resource changed its state.
    Resource,
    /// An operator did something.
    Operator,
    /// What else is in the history about it.
    Note,
}

impl StepKind {
    /// Its spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Detection => "detection",
            Self::Decision => "decision",
            Self::Phase => "phase",
            Self::Command => "command",
            Self::Resource => "resource",
            Self::Operator => "operator",
            Self::Note => "note",
        }
    }
}

/// One thing that was done, for a waterfall: it begins `starts_ms` after the incident began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct IncidentStepDoc {
    /// Sequence number of its event in the history.
    pub seq: u64,
    /// What it is for.
    pub kind: StepKind,
    /// Its code, such as `EVENT_COMMAND`.
    pub code: String,
    /// The event of the cluster manager that it is a step of.
    pub event: Option<u64>,
    /// The node on which it was done; `null` if on the cluster as a whole.
    pub node: Option<String>,
    /// The number of that node.
    pub node_number: Option<u16>,
    /// In one sentence.
    pub what: String,
    /// Why, or how it ended.
    pub cause: String,
    /// Whether it is bad.
    pub failed: bool,
    /// When it began, counted from the beginning of the incident.
    pub starts_ms: u64,
    /// How long it took; 0 for what has no length, `null` while it lasts.
    pub duration_ms: Option<u64>,
}

impl IncidentDoc {
    /// The incident that `records` tell of: all of them belong to one, oldest first; what belongs
    /// to another one is passed over. `name` tells how a node is called. `None` if there are none.
    pub fn build<R: Borrow<Record>>(
        records: &[R],
        name: impl Fn(NodeNumber) -> String,
    ) -> Option<Self> {
        let first = records.iter().map(Borrow::borrow).find(|record| record.incident.is_some())?;
        let id = first.incident?;
        let records: Vec<&Record> =
            records.iter().map(Borrow::borrow).filter(|r| r.incident == Some(id)).collect();
        let unnoticed_ms = first.duration_ms.unwrap_or(0);
        let story = Story { began: first.at, unnoticed_ms, records: &records, name: &name };
        let (events, outages) = (story.events(), story.outages());
        let recovered = story.recovered(&events, &outages);
        let closed = story.closed(recovered);
        let text = |time: WallTime| time.to_string();
        Some(Self {
            id,
            state: match (recovered, closed) {
                (None, _) => IncidentState::Open,
                (Some(_), None) => IncidentState::Recovered,
                (Some(_), Some(_)) => IncidentState::Closed,
            },
            title: first.message.clone(),
            subject: SubjectDoc::new(first),
            cause: first.cause.clone(),
            severity: records.iter().map(|record| record.severity).min().unwrap_or(first.severity),
            began: text(first.at),
            detection_ms: first.duration_ms,
            decisions: story.decisions(),
            recovered: recovered.map(text),
            recovery_ms: recovered.map(|at| story.millis_since(first.at, at)),
            closed: recovered.and(closed).map(text),
            events,
            outages,
            steps: story.steps(),
        })
    }

    /// The time from its beginning to the end of its last step, for the scale of a waterfall.
    pub fn length_ms(&self) -> u64 {
        let ends = self.steps.iter().map(|step| step.starts_ms + step.duration_ms.unwrap_or(0));
        ends.max().unwrap_or(0)
    }
}

/// The records of one incident, while they are read.
struct Story<'a> {
    began: WallTime,
    /// How long the failure had lasted by then.
    unnoticed_ms: u64,
    records: &'a [&'a Record],
    name: &'a dyn Fn(NodeNumber) -> String,
}

impl Story<'_> {
    /// Clocks of two proposers may differ: what ends before it begins took no time.
    fn millis_since(&self, from: WallTime, to: WallTime) -> u64 {
        u64::try_from(to.0.saturating_sub(from.0) / 1_000).unwrap_or(0)
    }

    fn decisions(&self) -> Vec<String> {
        let decided = self.records.iter().filter(|r| kind(r, false) == StepKind::Decision);
        decided.map(|record| sentence(record)).collect()
    }

    /// The manager's events by id.
    fn events(&self) -> Vec<IncidentEventDoc> {
        let mut events: BTreeMap<u64, (WallTime, IncidentEventDoc)> = BTreeMap::new();
        for record in self.records {
            let Some(id) = record.event else { continue };
            let what = record.message.clone();
            let (queued, event) = events.entry(id).or_insert_with(|| {
                (record.at, IncidentEventDoc { id, what, ended: None, duration_ms: None })
            });
            if matches!(record.code, Code::EventEnded | Code::EventSuperseded) {
                event.ended = Some(sentence(record));
                event.duration_ms = Some(self.millis_since(*queued, record.at));
            }
        }
        events.into_values().map(|(_, event)| event).collect()
    }

    /// Groups that went out of service and came back, in the order in which they went.
    fn outages(&self) -> Vec<OutageDoc> {
        let mut outages: Vec<OutageDoc> = Vec::new();
        let mut open: BTreeMap<u16, (usize, WallTime)> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.code == Code::Group) {
            let Subject::Group(number) = record.subject else { continue };
            let node = record.node.map(|node| (self.name)(node));
            let online = record.current == GroupState::Online.name();
            match (online, open.get(&number).copied()) {
                (true, Some((place, began))) => {
                    outages[place].to = node;
                    outages[place].ended = Some(record.at.to_string());
                    outages[place].outage_ms = Some(self.millis_since(began, record.at));
                    open.remove(&number);
                }
                (false, None) if record.previous == GroupState::Online.name() => {
                    let began = self.left_clients(record);
                    open.insert(number, (outages.len(), began));
                    outages.push(OutageDoc {
                        group: record.subject_name.clone(),
                        from: node,
                        to: None,
                        began: began.to_string(),
                        ended: None,
                        outage_ms: None,
                        on_purpose: false,
                    });
                }
                _ => {}
            }
        }
        for outage in outages.iter_mut().filter(|outage| outage.ended.is_none()) {
            outage.on_purpose = !self.is_due(&outage.group) && self.all_as_ordered();
        }
        outages
    }

    /// Whether it tells of no failure.
    fn all_as_ordered(&self) -> bool {
        let failure = |record: &&Record| {
            matches!(record.code, Code::ResourceFailed | Code::EventFailed) || record.alert
        };
        self.lost().is_empty() && !self.records.iter().any(failure)
    }

    /// When clients lost a group that a record says is not ONLINE any more: what went with the failure
    /// itself was gone before that was noticed.
    fn left_clients(&self, record: &Record) -> WallTime {
        // A group whose resource failed is ONLINE until it is released, and serves nobody.
        let failed = |known: &&&Record| match (known.code, known.subject) {
            (Code::ResourceFailed, Subject::Resource(group, _)) => {
                record.subject == Subject::Group(group)
            }
            _ => false,
        };
        if let Some(failure) = self.records.iter().find(failed)
            && failure.at < record.at
        {
            return failure.at;
        }
        let with_it = record.at == self.began;
        let earlier = i64::try_from(self.unnoticed_ms * 1_000).unwrap_or(0);
        WallTime(record.at.0 - if with_it { earlier } else { 0 })
    }

    /// When everything was done, if it is.
    fn recovered(&self, events: &[IncidentEventDoc], outages: &[OutageDoc]) -> Option<WallTime> {
        let waits = events.iter().any(|event| event.ended.is_none())
            || outages.iter().any(|outage| outage.ended.is_none() && self.is_due(&outage.group));
        if waits {
            return None;
        }
        let done = |record: &&&Record| {
            matches!(record.code, Code::EventEnded | Code::EventSuperseded | Code::Group)
        };
        match self.records.iter().rfind(done) {
            Some(last) => Some(last.at),
            // No event, no group: it is over when what had failed is back.
            None => self.returned().or_else(|| self.nothing_failed()),
        }
    }

    /// Whether a group is still to come back: one that is OFFLINE when nothing is being done any
    /// more was taken off on purpose.
    fn is_due(&self, group: &str) -> bool {
        let about = |record: &&&Record| record.code == Code::Group && record.subject_name == group;
        let last = self.records.iter().rfind(about);
        last.is_some_and(|record| record.current != GroupState::Offline.name())
    }

    /// When what had failed was back.
    fn closed(&self, recovered: Option<WallTime>) -> Option<WallTime> {
        match self.nothing_failed() {
            Some(_) => recovered,
            None => self.returned().map(|at| recovered.map_or(at, |done| at.max(done))),
        }
    }

    /// The nodes that went away in it.
    fn lost(&self) -> BTreeSet<Subject> {
        let away = |record: &&&Record| {
            record.code == Code::NodeHost
                && [HostStatus::Down.name(), HostStatus::Disconnected.name()]
                    .contains(&record.current.as_str())
        };
        self.records.iter().filter(away).map(|record| record.subject).collect()
    }

    /// When it began, if no node went away in it.
    fn nothing_failed(&self) -> Option<WallTime> {
        self.lost().is_empty().then_some(self.began)
    }

    /// When the last of the nodes that went away was back.
    fn returned(&self) -> Option<WallTime> {
        let back = |subject: &Subject| {
            let last = self
                .records
                .iter()
                .rfind(|record| record.code == Code::NodeHost && record.subject == *subject)?;
            (last.current == HostStatus::Up.name()).then_some(last.at)
        };
        self.lost().iter().map(back).collect::<Option<Vec<_>>>()?.into_iter().max()
    }

    fn steps(&self) -> Vec<IncidentStepDoc> {
        self.records.iter().enumerate().map(|(place, _)| self.step(place)).collect()
    }

    fn step(&self, place: usize) -> IncidentStepDoc {
        let record = self.records[place];
        let (starts, duration) = match (length(record), lasting(record)) {
            (Some(length), _) => {
                let end = self.millis_since(self.began, record.at);
                let length = length.min(end);
                (end - length, Some(length))
            }
            (None, true) => (
                self.millis_since(self.began, record.at),
                self.next_of_event(place).map(|next| self.millis_since(record.at, next.at)),
            ),
            (None, false) => (self.millis_since(self.began, record.at), Some(0)),
        };
        IncidentStepDoc {
            seq: record.seq,
            kind: kind(record, place == 0),
            code: record.code.name().into(),
            event: record.event,
            node: record.node.map(|node| (self.name)(node)),
            node_number: record.node.map(|node| node.0),
            what: record.message.clone(),
            cause: record.cause.clone(),
            failed: place > 0 && is_failure(record),
            starts_ms: starts,
            duration_ms: duration,
        }
    }

    /// The record that ends what the one at `place` began.
    fn next_of_event(&self, place: usize) -> Option<&Record> {
        let event = self.records[place].event;
        let ends = |record: &&&Record| {
            record.event == event
                && (lasting(record)
                    || matches!(
                        record.code,
                        Code::EventVote
                            | Code::EventEnded
                            | Code::EventFailed
                            | Code::EventSuperseded
                    ))
        };
        self.records[place + 1..].iter().find(ends).copied()
    }
}

/// Whether a record begins something that lasts until the next such record of its event.
fn lasting(record: &Record) -> bool {
    matches!(record.code, Code::EventQueued | Code::EventPhase | Code::EventRecovered)
}

/// How long a step took, if its record knows. That of a group or resource says how long the state
/// before lasted: a step only if something was being done in it.
fn length(record: &Record) -> Option<u64> {
    if !matches!(record.code, Code::Group | Code::Resource) {
        return record.duration_ms;
    }
    let in_motion = [
        GroupState::Acquiring.name(),
        GroupState::Releasing.name(),
        GroupState::Unknown.name(),
        ResourceState::Starting.name(),
        ResourceState::Stopping.name(),
    ];
    record.duration_ms.filter(|_| in_motion.contains(&record.previous.as_str()))
}

fn kind(record: &Record, first: bool) -> StepKind {
    match record.code {
        _ if first => StepKind::Detection,
        Code::NodeHost
        | Code::NodeAgent
        | Code::Network
        | Code::Interface
        | Code::Link
        | Code::RuleFired => StepKind::Detection,
        Code::EventVote if record.duration_ms.is_none() => StepKind::Note,
        Code::EventVote | Code::LetGo | Code::TakeoverWaits | Code::Fencing => StepKind::Decision,
        Code::EventPhase => StepKind::Phase,
        Code::EventCommand => StepKind::Command,
        Code::Group | Code::Resource | Code::ResourceFailed => StepKind::Resource,
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

/// What a record says, with its reason.
fn sentence(record: &Record) -> String {
    if record.cause.is_empty() {
        record.message.clone()
    } else {
        format!("{} ({})", record.message, record.cause)
    }
}

#[cfg(test)]
mod tests {
    use vedette_core::id::Hash;

    use super::*;

    const BEGAN: WallTime = WallTime(1_795_348_800_000_000);

    /// A record of incident 7, `ms` after it began.
    fn record(ms: u64, code: Code, subject: Subject, message: &str) -> Record {
        Record {
            seq: 100 + ms,
            index: 7 + ms,
            at: BEGAN.plus(std::time::Duration::from_millis(ms)),
            code,
            severity: Severity::Notice,
            subject,
            subject_name: "web".into(),
            previous: String::new(),
            current: String::new(),
            cause: String::new(),
            message: message.into(),
            incident: Some(7),
            origin: NodeNumber(1),
            actor: "director".into(),
            alert: false,
            test: false,
            event: None,
            node: None,
            duration_ms: None,
            elapsed_ms: 0,
            told: None,
            hash: Hash::default(),
        }
    }

    fn change(mut record: Record, from: &str, to: &str) -> Record {
        (record.previous, record.current) = (from.into(), to.into());
        record
    }

    fn of_event(mut record: Record, node: Option<u16>, duration_ms: Option<u64>) -> Record {
        (record.event, record.node, record.duration_ms) =
            (Some(1), node.map(NodeNumber), duration_ms);
        record
    }

    fn host(ms: u64, to: &str) -> Record {
        let node = Subject::Node(NodeNumber(3));
        change(record(ms, Code::NodeHost, node, &format!("node n3 is {to}")), "", to)
    }

    fn group(ms: u64, node: u16, from: &str, to: &str) -> Record {
        let is = record(ms, Code::Group, Subject::Group(1), &format!("web is {to}"));
        of_event(change(is, from, to), Some(node), None)
    }

    fn event(ms: u64, code: Code, message: &str) -> Record {
        of_event(record(ms, code, Subject::Event, message), None, None)
    }

    /// A node dies and its group is taken over.
    fn failover() -> Vec<Record> {
        let command = record(900, Code::EventCommand, Subject::Event, "n1 ran node_down");
        vec![
            Record { severity: Severity::Error, cause: "silent".into(), ..host(0, "DOWN") },
            group(0, 3, "ONLINE", "UNKNOWN"),
            event(0, Code::EventQueued, "node_down n3 is queued"),
            event(50, Code::EventVote, "node_down n3 is voted on"),
            of_event(
                record(60, Code::EventVote, Subject::Event, "node_down n3 is approved by all"),
                None,
                Some(10),
            ),
            event(60, Code::EventPhase, "phase 1 of 2 begins"),
            record(150, Code::LetGo, Subject::Node(NodeNumber(3)), "n3 has let go"),
            group(160, 1, "UNKNOWN", "ACQUIRING"),
            group(850, 1, "ACQUIRING", "ONLINE"),
            of_event(command, Some(1), Some(840)),
            event(900, Code::EventPhase, "phase 2 of 2 begins"),
            event(950, Code::EventEnded, "node_down n3 has ended"),
        ]
    }

    fn doc(records: &[Record]) -> IncidentDoc {
        IncidentDoc::build(records, |node| format!("n{node}")).expect("an incident")
    }

    /// Clients lost what went with the node when it fell silent, not when that was noticed.
    #[test]
    fn an_outage_has_the_time_in_it_that_nobody_noticed() {
        let mut records = failover();
        records[0].duration_ms = Some(1_040);
        records.push(group(1_000, 1, "ONLINE", "OFFLINE"));
        records.push(group(1_200, 1, "OFFLINE", "ONLINE"));
        let doc = doc(&records);
        assert_eq!(doc.detection_ms, Some(1_040));
        assert_eq!(doc.outages[0].outage_ms, Some(850 + 1_040));
        assert_eq!(doc.outages[1].outage_ms, Some(200), "what came later was seen at once");
    }

    /// Issue 3, item 10: cause, decision, steps with durations per node, end, outage.
    #[test]
    fn a_failover_is_one_incident() {
        let doc = doc(&failover());
        assert_eq!(
            (doc.id, doc.title.as_str(), doc.cause.as_str()),
            (7, "node n3 is DOWN", "silent")
        );
        assert_eq!((doc.state, doc.recovery_ms), (IncidentState::Recovered, Some(950)));
        assert_eq!(doc.severity, Severity::Error);
        assert_eq!(doc.decisions, ["node_down n3 is approved by all", "n3 has let go"]);
        let outage = &doc.outages[0];
        assert_eq!((outage.from.as_deref(), outage.to.as_deref()), (Some("n3"), Some("n1")));
        assert_eq!(outage.outage_ms, Some(850));
        let lengths: Vec<_> = doc
            .steps
            .iter()
            .filter(|step| matches!(step.kind, StepKind::Phase | StepKind::Command))
            .map(|step| (step.node.as_deref(), step.starts_ms, step.duration_ms))
            .collect();
        assert_eq!(
            lengths,
            [(None, 60, Some(840)), (Some("n1"), 60, Some(840)), (None, 900, Some(50))]
        );
        assert_eq!(doc.length_ms(), 950);
    }

    #[test]
    fn it_closes_when_the_node_is_back() {
        let mut records = failover();
        records.push(host(60_000, "UP"));
        let doc = doc(&records);
        assert_eq!((doc.state, doc.recovery_ms), (IncidentState::Closed, Some(950)));
        assert_eq!(doc.closed.as_deref(), Some("2026-11-22T12:01:00.000Z"));
    }

    /// What is not over has no end, at every point of the way.
    #[test]
    fn it_is_open_until_everything_was_done() {
        let records = failover();
        for end in 1..records.len() {
            let doc = doc(&records[..end]);
            assert_eq!((doc.state, doc.recovered), (IncidentState::Open, None), "{end}");
        }
        let running = doc(&records[..6]);
        assert_eq!(running.steps[5].duration_ms, None);
        assert_eq!(running.outages[0].outage_ms, None);
    }

    /// A group that was stopped on purpose is not waited for.
    #[test]
    fn a_group_that_stays_off_ends_it_too() {
        let mut records = failover();
        records.truncate(6);
        records.push(group(100, 3, "UNKNOWN", "OFFLINE"));
        records.push(event(200, Code::EventEnded, "ended"));
        assert_eq!(doc(&records).state, IncidentState::Recovered);
    }

    /// An operator takes a group off: that lasts, and is nothing to wait for.
    #[test]
    fn what_is_off_on_purpose_is_told_so() {
        let mut records = vec![
            event(0, Code::EventQueued, "group_move web is queued"),
            group(10, 3, "ONLINE", "RELEASING"),
            group(20, 3, "RELEASING", "OFFLINE"),
            event(30, Code::EventEnded, "ended"),
        ];
        let ordered = doc(&records);
        assert_eq!(ordered.state, IncidentState::Closed);
        assert_eq!((ordered.outages[0].outage_ms, ordered.outages[0].on_purpose), (None, true));
        records[0] = Record { alert: true, ..records[0].clone() };
        assert!(!doc(&records).outages[0].on_purpose, "what needs an alert is no order");
    }

    /// A group whose resource failed serves nobody from then on, though it is released later; and a
    /// command that failed is told as a failure.
    #[test]
    fn a_failed_resource_begins_the_outage() {
        let resource = Subject::Resource(1, 2);
        let failure = record(0, Code::ResourceFailed, resource, "httpd failed on n3");
        let command = record(90, Code::EventCommand, Subject::Event, "notify ran");
        let records = [
            failure,
            event(0, Code::EventQueued, "group_move web is queued"),
            group(80, 3, "ONLINE", "RELEASING"),
            Record { severity: Severity::Warning, ..of_event(command, Some(3), Some(5)) },
            group(100, 1, "RELEASING", "ACQUIRING"),
            group(300, 1, "ACQUIRING", "ONLINE"),
            event(310, Code::EventEnded, "ended"),
        ];
        let doc = doc(&records);
        assert_eq!(
            (doc.title.as_str(), doc.outages[0].outage_ms),
            ("httpd failed on n3", Some(300))
        );
        let failed: Vec<u64> =
            doc.steps.iter().filter(|it| it.failed).map(|it| it.starts_ms).collect();
        assert_eq!(failed, [85]);
    }

    /// The record of a group tells how long the state before lasted: a step only if it was one of
    /// doing something.
    #[test]
    fn days_of_service_are_no_step() {
        let took = |record: Record| Record { duration_ms: Some(700), ..record };
        let mut records = failover();
        records[1] = took(records[1].clone());
        records[8] = took(records[8].clone());
        let steps = doc(&records).steps;
        assert_eq!((steps[1].starts_ms, steps[1].duration_ms), (0, Some(0)));
        assert_eq!((steps[8].starts_ms, steps[8].duration_ms), (150, Some(700)));
    }

    #[test]
    fn records_of_other_incidents_are_passed_over() {
        let other = Record { incident: Some(9), ..host(5, "DOWN") };
        let none = Record { incident: None, ..host(1, "DOWN") };
        let mut records = failover();
        let alone = doc(&records);
        records.insert(0, none.clone());
        records.push(other);
        assert_eq!(doc(&records), alone);
        assert_eq!(IncidentDoc::build(&[none], |node| node.to_string()), None);
    }

    proptest::proptest! {
        /// Any records in any order: no panic, and every step is there.
        #[test]
        fn any_story_can_be_told(order in proptest::collection::vec(0_usize..12, 1..40)) {
            let all = failover();
            let records: Vec<Record> = order.iter().map(|place| all[*place].clone()).collect();
            proptest::prop_assert_eq!(doc(&records).steps.len(), records.len());
        }
    }
}
