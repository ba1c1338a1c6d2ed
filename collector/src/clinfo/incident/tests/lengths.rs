//! Outages against what a prober saw: the findings of 27 November 2026 (F5), with made-up records.
//! What was told then is in each test's sentence.

use vedette_core::id::NodeNumber;
use vedette_core::record::{Code, Record, Subject, Told};
use vedette_core::time::WallTime;

use super::super::testing::{BEGAN, change, doc, event, group, host, of_event, record};
use crate::clinfo::{IncidentDoc, OutageDoc, OutageKind};

/// Milliseconds on the timeline when the records of these tests begin.
const ELAPSED: u64 = 5_000_000;

/// Puts records on the timeline, each where its wall clock says; and numbers them in that order.
fn on_the_timeline(records: Vec<Record>) -> Vec<Record> {
    let number = |(place, mut record): (usize, Record)| {
        let ms = (record.at.0 - BEGAN.0) / 1_000;
        if record.told.is_none() {
            record.elapsed_ms = ELAPSED.saturating_add_signed(ms);
        }
        record.seq = 100 + place as u64;
        record
    };
    records.into_iter().enumerate().map(number).collect()
}

/// A record that node `node` told afterwards: it happened at `ms`, by a clock that is two hours ahead,
/// and was written down at `at`.
fn told(at: u64, ms: i64, code: Code, subject: Subject, node: u16) -> Record {
    let ahead_ms = 7_200_000;
    let mut it = record(at, code, subject, "told afterwards");
    it.node = Some(NodeNumber(node));
    it.elapsed_ms = ELAPSED.saturating_add_signed(ms);
    it.told = Some(Told {
        number: 1,
        happened_at: WallTime(BEGAN.0 + (ms + ahead_ms) * 1_000),
        clock_offset_ms: Some(ahead_ms),
    });
    it
}

fn lasted(record: Record, ms: u64) -> Record {
    Record { duration_ms: Some(ms), ..record }
}

fn queued(ms: u64, motive: &str) -> Record {
    change(event(ms, Code::EventQueued, "group_move web was queued"), "", motive)
}

/// `web` goes from n1 to n3 in an event, without a failure.
fn moved(motive: &str, took: u64) -> Vec<Record> {
    vec![
        queued(0, motive),
        lasted(group(90, 1, "ONLINE", "RELEASING"), 38_100),
        group(200, 3, "RELEASING", "ACQUIRING"),
        group(90 + took, 3, "ACQUIRING", "ONLINE"),
        event(100 + took, Code::EventEnded, "completed"),
    ]
}

fn only(document: &IncidentDoc) -> &OutageDoc {
    let [outage] = &document.outages[..] else { panic!("one outage: {:#?}", document.outages) };
    outage
}

#[track_caller]
fn assert_seen(outage: &OutageDoc, seen_ms: u64) {
    let told = outage.outage_ms.expect("it is over");
    assert!(told.abs_diff(seen_ms) <= 200, "a prober saw {seen_ms} ms, it is told as {told} ms");
}

/// 38.4 s for 0.285 s: the time ONLINE before was taken for time that nobody noticed.
#[test]
fn a_planned_move() {
    let document = doc(&on_the_timeline(moved("operator", 285)));
    let outage = only(&document);
    assert_seen(outage, 285);
    assert_eq!((outage.kind, outage.planned, outage.at_least), (OutageKind::Move, true, false));
    assert_eq!((document.detection_ms, document.decision_ms), (None, Some(200)));
    let home = doc(&on_the_timeline(moved("return", 285)));
    assert_eq!((only(&home).kind, only(&home).planned), (OutageKind::Failback, true));
    let failed = doc(&on_the_timeline(moved("failure", 285)));
    assert_eq!((only(&failed).kind, only(&failed).planned), (OutageKind::Failover, false));
}

/// 5.9 s for 0.23 s: a lease was lost for a moment; the group's own record came first in the incident.
#[test]
fn a_lease_that_was_lost_for_a_moment() {
    let document = doc(&on_the_timeline(vec![
        lasted(group(60, 1, "ONLINE", "OFFLINE"), 5_670),
        queued(60, "failure"),
        group(90, 1, "OFFLINE", "ACQUIRING"),
        group(230, 1, "ACQUIRING", "ONLINE"),
        event(240, Code::EventEnded, "completed"),
        lasted(told(400, 20, Code::GroupReleased, Subject::Group(1), 1), 20),
    ]));
    let outage = only(&document);
    assert_seen(outage, 230);
    assert_eq!((outage.kind, outage.planned, outage.at_least), (OutageKind::Restart, false, false));
    assert_eq!(document.detection_ms, Some(60));
}

/// 360 s for 60.3 s: the whole cluster lost its power; the nodes say when they were last alive.
#[test]
fn a_cluster_without_power() {
    let node = Subject::Node(NodeNumber(1));
    let document = doc(&on_the_timeline(vec![
        lasted(group(58_000, 1, "ONLINE", "UNKNOWN"), 300_000),
        queued(58_400, "failure"),
        group(58_500, 1, "UNKNOWN", "OFFLINE"),
        group(59_000, 2, "OFFLINE", "ACQUIRING"),
        group(60_300, 2, "ACQUIRING", "ONLINE"),
        event(60_400, Code::EventEnded, "completed"),
        lasted(told(61_000, 57_000, Code::NodeStarted, node, 1), 57_000),
    ]));
    assert_seen(only(&document), 60_300);
    assert_eq!(document.began, "2026-11-22T12:00:00.000Z");
    assert_eq!(document.noticed, "2026-11-22T12:00:58.000Z");
    assert_eq!(document.recovery_ms, Some(60_400));
}

/// 62.6 s for 15.1 s: nobody had a quorum; each node let go of what it had at its lease's end.
#[test]
fn a_quorum_that_was_lost() {
    let node = Subject::Node(NodeNumber(1));
    let records = vec![
        lasted(group(14_100, 1, "ONLINE", "UNKNOWN"), 47_500),
        group(14_300, 1, "UNKNOWN", "OFFLINE"),
        queued(14_300, "failure"),
        group(14_500, 1, "OFFLINE", "ACQUIRING"),
        group(15_100, 1, "ACQUIRING", "ONLINE"),
        event(15_200, Code::EventEnded, "completed"),
        told(16_000, -50, Code::QuorumLost, node, 1),
        lasted(told(16_000, 30, Code::GroupReleased, Subject::Group(1), 1), 30),
    ];
    let document = doc(&on_the_timeline(records.clone()));
    assert_seen(only(&document), 15_100);
    assert_eq!((document.steps[0].code.as_str(), document.steps[0].starts_ms), ("QUORUM_LOST", 0));
    let early = doc(&on_the_timeline(records[..6].to_vec()));
    let outage = only(&early);
    assert_eq!((outage.outage_ms, outage.at_least), (Some(1_000), true), "nobody has told yet");
}

/// 0.078 and 0.196 s for 1.395 and 1.545 s: the group had been released long before the cluster knew.
#[test]
fn a_release_that_was_told_afterwards() {
    for (known, seen) in [(1_317, 1_395), (1_349, 1_545)] {
        let document = doc(&on_the_timeline(vec![
            lasted(group(known, 2, "ONLINE", "OFFLINE"), 4_000),
            queued(known, "failure"),
            group(known + 10, 2, "OFFLINE", "ACQUIRING"),
            group(seen, 2, "ACQUIRING", "ONLINE"),
            event(seen + 10, Code::EventEnded, "completed"),
            lasted(told(seen + 500, 12, Code::GroupReleased, Subject::Group(1), 2), 12),
        ]));
        assert_seen(only(&document), seen);
        assert_eq!(document.detection_ms, Some(known));
    }
}

/// 60 min for none, and the other way round: the director's clock is set by an hour in the middle.
#[test]
fn a_clock_that_is_set_by_an_hour() {
    for hour in [3_600_000_000, -3_600_000_000] {
        let mut records = on_the_timeline(moved("operator", 285));
        for record in &mut records[2..] {
            record.at = WallTime(record.at.0 + hour);
        }
        let document = doc(&records);
        assert_seen(only(&document), 285);
        assert_eq!(document.recovery_ms, Some(385));
        let last = document.steps.last().expect("steps");
        assert_eq!(last.starts_ms, 385);
    }
}

/// A silent host: what was on it is lost with its last beat, what is elsewhere is not.
#[test]
fn only_what_was_on_the_silent_node_was_lost_with_it() {
    let elsewhere = |ms, from: &str, to: &str| {
        let mut it = group(ms, 1, from, to);
        (it.subject, it.subject_name) = (Subject::Group(2), "db".into());
        it
    };
    let document = doc(&on_the_timeline(vec![
        lasted(host(1_040, "DOWN"), 1_040),
        group(1_040, 3, "ONLINE", "UNKNOWN"),
        group(1_100, 1, "UNKNOWN", "ACQUIRING"),
        elsewhere(1_150, "ONLINE", "OFFLINE"),
        group(1_400, 1, "ACQUIRING", "ONLINE"),
        elsewhere(1_500, "OFFLINE", "ONLINE"),
    ]));
    let lengths: Vec<_> = document.outages.iter().map(|it| (it.outage_ms, it.at_least)).collect();
    assert_eq!(lengths, [(Some(1_400), false), (Some(350), true)]);
    assert_eq!((document.detection_ms, document.decision_ms), (Some(1_040), Some(60)));
}

/// The node lost the records of its journal in which it may have said that it let go earlier.
#[test]
fn an_outage_on_a_node_that_lost_its_records_is_at_least_so_long() {
    let killed = |lost: bool| {
        let mut records = vec![
            told(10, 0, Code::ClockOff, Subject::Node(NodeNumber(3)), 3),
            group(1_000, 3, "ACQUIRING", "ONLINE"),
            told(3_100, 3_000, Code::ClockOff, Subject::Node(NodeNumber(3)), 3),
            lasted(host(9_000, "DOWN"), 1_200),
            group(9_000, 3, "ONLINE", "UNKNOWN"),
            group(9_500, 1, "UNKNOWN", "ONLINE"),
        ];
        if lost {
            let lacking = Subject::Node(NodeNumber(3));
            records.push(record(20_000, Code::AccountIncomplete, lacking, "n3 lost 2 records"));
        }
        records.push(told(20_100, 20_000, Code::NodeStarted, Subject::Node(NodeNumber(3)), 3));
        let document = doc(&on_the_timeline(records));
        let outage = only(&document);
        assert_eq!(outage.outage_ms, Some(1_700));
        (outage.at_least, outage.between.is_some())
    };
    assert_eq!(killed(false), (false, false));
    assert_eq!(killed(true), (true, true));
}

/// A host that had failed before the group came to it again is no sign.
#[test]
fn signs_of_before_do_not_count() {
    let document = doc(&on_the_timeline(vec![
        lasted(host(0, "DOWN"), 1_000),
        group(10, 3, "ONLINE", "UNKNOWN"),
        group(20, 3, "UNKNOWN", "ACQUIRING"),
        group(500, 3, "ACQUIRING", "ONLINE"),
        group(60_000, 3, "ONLINE", "OFFLINE"),
        group(60_100, 3, "OFFLINE", "ONLINE"),
    ]));
    let last = document.outages.last().expect("two outages");
    assert_eq!((last.outage_ms, last.at_least), (Some(100), true));
    let between = last.between.clone().expect("known");
    assert_eq!(between, ["2026-11-22T12:00:00.500Z", "2026-11-22T12:01:00.000Z"]);
}

/// "Recovered after 145 ms" beside "outage lasts": a group in ERROR waits for an operator; and what
/// ends its outage may be of another incident.
#[test]
fn a_group_in_error_is_not_recovered() {
    let failed = record(0, Code::ResourceFailed, Subject::Resource(1, 2), "httpd failed on n3");
    let mut records = on_the_timeline(vec![
        failed,
        queued(0, "failure"),
        group(20, 3, "ONLINE", "RELEASING"),
        group(100, 3, "RELEASING", "OFFLINE"),
        event(145, Code::EventEnded, "completed"),
        group(145, 3, "OFFLINE", "ERROR"),
    ]);
    let document = doc(&records);
    assert_eq!((document.recovered.as_deref(), only(&document).outage_ms), (None, None));
    assert!(!only(&document).on_purpose);
    records.extend(on_the_timeline(vec![group(50_000, 1, "ACQUIRING", "ONLINE")]));
    let last = records.last_mut().expect("records");
    (last.seq, last.incident) = (200, Some(99));
    let document = doc(&records);
    assert_eq!(only(&document).outage_ms, Some(50_000));
    assert_eq!(document.recovery_ms, Some(50_000));
}

/// Groups that a configuration removed: their outage is over, and was wanted.
#[test]
fn a_group_that_is_configured_no_more() {
    let mut gone = change(group(300, 1, "", ""), "RELEASING", "OFFLINE");
    (gone.node, gone.cause) = (None, "it is not configured any more".into());
    let document = doc(&on_the_timeline(vec![
        queued(0, "configuration"),
        group(100, 1, "ONLINE", "RELEASING"),
        gone,
        event(310, Code::EventEnded, "completed"),
    ]));
    let outage = only(&document);
    assert_eq!((outage.outage_ms, outage.to.as_deref()), (Some(200), None));
    assert_eq!((outage.kind, outage.planned, outage.on_purpose), (OutageKind::Stop, true, true));
}

/// An order that a death interrupts is a failover.
#[test]
fn a_move_during_which_the_node_dies() {
    let mut records = moved("operator", 2_000);
    records.insert(2, lasted(host(150, "DOWN"), 40));
    records.insert(3, group(150, 1, "RELEASING", "UNKNOWN"));
    let document = doc(&on_the_timeline(records));
    assert_eq!((only(&document).kind, only(&document).planned), (OutageKind::Failover, false));
}

/// What is made of steps is of the timeline too: a phase, a vote, an acquisition.
#[test]
fn steps_have_no_hours_of_a_clock() {
    let mut records = on_the_timeline(vec![
        event(0, Code::EventVote, "is voted on"),
        of_event(record(10, Code::EventVote, Subject::Event, "approved"), None, Some(3_600_010)),
        group(20, 1, "RELEASING", "ACQUIRING"),
        lasted(group(90, 1, "ACQUIRING", "ONLINE"), 3_600_070),
    ]);
    records[3].at = WallTime(records[3].at.0 + 3_600_000_000);
    let steps = doc(&records).steps;
    let lengths: Vec<_> = steps.iter().map(|it| (it.starts_ms, it.duration_ms)).collect();
    assert_eq!(lengths, [(0, Some(0)), (0, Some(10)), (20, Some(0)), (20, Some(70))]);
}

/// A group of a lost quorum that leaves by a record without an incident, and comes back in another one (a
/// node's return): it is told once, in the incident of what explains it.
#[test]
fn an_outage_is_of_one_incident() {
    let node = Subject::Node(NodeNumber(1));
    let in_ = |incident, record: Record| Record { incident, ..record };
    let mut records = vec![
        in_(None, group(0, 1, "ACQUIRING", "ONLINE")),
        in_(None, lasted(group(14_100, 1, "ONLINE", "OFFLINE"), 9_000)),
        in_(Some(9), queued(14_300, "failure")),
        in_(Some(9), group(14_500, 2, "OFFLINE", "ACQUIRING")),
        in_(Some(9), group(15_100, 2, "ACQUIRING", "ONLINE")),
        in_(Some(9), event(15_200, Code::EventEnded, "completed")),
        in_(Some(7), told(16_000, 7_950, Code::QuorumLost, node, 1)),
        in_(Some(7), lasted(told(16_000, 8_000, Code::GroupReleased, Subject::Group(1), 1), 30)),
    ];
    for (place, record) in records.iter_mut().enumerate() {
        record.seq = 100 + place as u64;
    }
    let records = on_the_timeline(records);
    let of = |id| IncidentDoc::of(id, &records, |node| format!("n{node}")).expect("an incident");
    assert_eq!(of(9).outages, []);
    assert_seen(only(&of(7)), 15_100 - 7_970);
    let untold = &records[..6];
    let later = IncidentDoc::of(9, untold, |node| format!("n{node}")).expect("an incident");
    assert_eq!(later.outages.len(), 1, "nothing explains it yet, so it is of what ended it");
}
