//! Made-up records of incident 7.

use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;

use super::IncidentDoc;

/// Noon, when the incidents begin.
pub(crate) const BEGAN: WallTime = WallTime(1_795_348_800_000_000);

/// A record of incident 7, `ms` after it began.
pub(crate) fn record(ms: u64, code: Code, subject: Subject, message: &str) -> Record {
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

/// A record that says what became what.
pub(crate) fn change(mut record: Record, from: &str, to: &str) -> Record {
    (record.previous, record.current) = (from.into(), to.into());
    record
}

/// A step of event 1.
pub(crate) fn of_event(mut record: Record, node: Option<u16>, duration_ms: Option<u64>) -> Record {
    (record.event, record.node, record.duration_ms) = (Some(1), node.map(NodeNumber), duration_ms);
    record
}

/// What is found of `n3`.
pub(crate) fn host(ms: u64, to: &str) -> Record {
    let node = Subject::Node(NodeNumber(3));
    change(record(ms, Code::NodeHost, node, &format!("node n3 is {to}")), "", to)
}

/// What becomes of group `web`.
pub(crate) fn group(ms: u64, node: u16, from: &str, to: &str) -> Record {
    let is = record(ms, Code::Group, Subject::Group(1), &format!("web is {to}"));
    of_event(change(is, from, to), Some(node), None)
}

/// What becomes of event 1.
pub(crate) fn event(ms: u64, code: Code, message: &str) -> Record {
    of_event(record(ms, code, Subject::Event, message), None, None)
}

/// A node dies and its group is taken over.
pub(crate) fn failover() -> Vec<Record> {
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

/// The incident that they tell of.
pub(crate) fn doc(records: &[Record]) -> IncidentDoc {
    IncidentDoc::build(records, |node| format!("n{node}")).expect("an incident")
}
