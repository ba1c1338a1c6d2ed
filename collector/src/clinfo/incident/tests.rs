//! Stories of incidents, from made-up records.

use vedette_core::id::NodeNumber;
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject, Told};

mod lengths;

use super::testing::{doc, event, failover, group, host, of_event, record};
use super::{IncidentDoc, IncidentState, StepKind};

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

/// Cause, decision, steps with durations per node, end, outage.
#[test]
fn a_failover_is_one_incident() {
    let doc = doc(&failover());
    assert_eq!((doc.id, doc.title.as_str(), doc.cause.as_str()), (7, "node n3 is DOWN", "silent"));
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

/// Nodes that are back before anybody called them DOWN, and a node that was left alone, account for it
/// when a group has long been found gone: the incident is named after what happened to them.
#[test]
fn an_incident_is_named_after_what_failed() {
    let told = |ms, code, message: &str| {
        let record = record(ms, code, Subject::Node(NodeNumber(3)), message);
        let told = Told { number: ms, happened_at: record.at, clock_offset_ms: None };
        Record { told: Some(told), severity: Severity::Error, ..record }
    };
    let named = |records: &[Record]| doc(records).title;
    let mut records = vec![group(0, 3, "ONLINE", "OFFLINE")];
    assert_eq!(named(&records), "web is OFFLINE");
    // A group that others serve, too, is only acquired again.
    records
        .insert(0, Record { seq: 99, ..event(0, Code::EventQueued, "group_move batch is queued") });
    assert_eq!(named(&records), "group_move batch is queued");
    records.push(told(100, Code::NodeStarted, "n1 has started"));
    assert_eq!(named(&records), "n1 has started");
    records.push(told(200, Code::QuorumLost, "n3 has no quorum"));
    assert_eq!(named(&records), "n3 has no quorum");
    records.insert(0, Record { index: 3, seq: 90, ..host(0, "DOWN") });
    assert_eq!(named(&records), "node n3 is DOWN", "it was noticed first");
    let absent = told(300, Code::QuorumAbsent, "nobody had a quorum for 9.0 s");
    records.push(Record { told: None, ..absent });
    assert_eq!(named(&records), "nobody had a quorum for 9.0 s");
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

/// What nodes lost and have again took that long, whenever they could tell it.
#[test]
fn a_loss_of_quorum_is_over_when_it_is_regained() {
    let of = |node, ms, code| {
        let record = record(ms, code, Subject::Node(NodeNumber(node)), "n2 has no quorum");
        let told = Told { number: ms, happened_at: record.at, clock_offset_ms: None };
        Record { told: Some(told), ..record }
    };
    let (lost, back) = (Code::QuorumLost, Code::QuorumRegained);
    let mut records = vec![of(2, 0, lost), of(2, 13_100, back)];
    assert_eq!(doc(&records).recovery_ms, Some(13_100));
    records.extend([of(3, 400, lost), of(3, 13_300, back)]);
    assert_eq!(doc(&records).recovery_ms, Some(13_300), "the last of them counts");
    let anew = [of(2, 0, lost), of(2, 9_000, Code::NodeStarted), of(3, 20_000, Code::NodeStarted)];
    assert_eq!(doc(&anew).recovery_ms, Some(9_000), "it was started anew before it had one again");
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
    assert_eq!((doc.title.as_str(), doc.outages[0].outage_ms), ("httpd failed on n3", Some(300)));
    let failed: Vec<u64> = doc.steps.iter().filter(|it| it.failed).map(|it| it.starts_ms).collect();
    assert_eq!(failed, [85]);
}

/// The record of a group tells how long the state before lasted: a step only if it was one of
/// doing something. How long that was is told by the records, if both ends are there.
#[test]
fn days_of_service_are_no_step() {
    let took = |record: Record| Record { duration_ms: Some(700), ..record };
    let mut records = failover();
    records[1] = took(records[1].clone());
    records[8] = took(records[8].clone());
    let steps = doc(&records).steps;
    assert_eq!((steps[1].starts_ms, steps[1].duration_ms), (0, Some(0)));
    assert_eq!((steps[8].starts_ms, steps[8].duration_ms), (160, Some(690)));
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
