//! Reports of made-up histories.

use vedette_core::id::NodeNumber;
use vedette_core::record::{Code, Record, Subject, Told};
use vedette_core::time::WallTime;

use super::super::incident::testing::{change, event, group, record};
use super::*;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// Midnight of 30 October 2026: two days before a month ends.
const MIDNIGHT: i64 = 1_793_318_400_000_000;

/// A record `ms` after that midnight, on the timeline.
fn at(ms: i64, mut record: Record) -> Record {
    record.at = WallTime(MIDNIGHT + ms * 1_000);
    record.elapsed_ms = u64::try_from(ms).unwrap() + 7_000;
    record
}

fn web(ms: i64, node: u16, from: &str, to: &str) -> Record {
    at(ms, group(0, node, from, to))
}

fn queued(ms: i64, motive: &str) -> Record {
    at(ms, change(event(0, Code::EventQueued, "group_move web was queued"), "", motive))
}

/// The history that they make, numbered from 1.
fn ledger(records: Vec<Record>) -> Ledger {
    let mut ledger = Ledger::default();
    for (seq, record) in (1..).zip(records) {
        ledger.take(&Record { seq, ..record });
    }
    ledger
}

fn wanted(now: i64) -> Wanted {
    let now = WallTime(MIDNIGHT + now * 1_000);
    Wanted { since: None, until: None, group: None, now, known_until: now }
}

fn only(ledger: &Ledger, wanted: &Wanted) -> GroupAvailabilityDoc {
    let report = ledger.report(wanted).expect("a report");
    let [group] = &report.groups[..] else { panic!("one group: {report:#?}") };
    group.clone()
}

/// A failover over the end of a month counts where it began, and its time where it was.
#[test]
fn an_outage_over_the_end_of_a_month() {
    let ledger = ledger(vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        web(2 * DAY - 2_000, 1, "ONLINE", "OFFLINE"),
        web(2 * DAY + 6_000, 2, "ACQUIRING", "ONLINE"),
    ]);
    let group = only(&ledger, &wanted(3 * DAY));
    let [october, november] = &group.months[..] else { panic!("{group:#?}") };
    assert_eq!(
        (october.month.as_deref(), november.month.as_deref()),
        (Some("2026-10"), Some("2026-11"))
    );
    assert_eq!((october.window_ms, november.window_ms), (2 * DAY as u64, DAY as u64));
    assert_eq!((october.unplanned_ms, november.unplanned_ms), (2_000, 6_000));
    assert_eq!((october.outages.failovers, november.outages.failovers), (1, 0));
    assert_eq!((october.longest_unplanned_ms, november.longest_unplanned_ms), (Some(8_000), None));
    assert_eq!((october.at_least, november.at_least), (true, true));
    assert_eq!(november.availability_percent, Some(99.993_055));
    assert_eq!((group.total.unplanned_ms, group.total.unknown_ms), (8_000, 0));
}

/// What an operator wants is planned, and both are told apart.
#[test]
fn planned_and_unplanned() {
    let ledger = ledger(vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        queued(HOUR, "operator"),
        web(HOUR, 1, "ONLINE", "RELEASING"),
        web(HOUR + 300, 2, "ACQUIRING", "ONLINE"),
        web(2 * HOUR, 2, "ONLINE", "UNKNOWN"),
        web(2 * HOUR + 900, 1, "ACQUIRING", "ONLINE"),
    ]);
    let total = only(&ledger, &wanted(10 * HOUR)).total;
    assert_eq!((total.planned_ms, total.unplanned_ms), (300, 900));
    assert_eq!((total.outages.moves, total.outages.failovers), (1, 1));
    assert_eq!((total.longest_planned_ms, total.longest_unplanned_ms), (Some(300), Some(900)));
    assert_eq!(total.availability_percent, Some(99.996_666));
    assert_eq!(total.availability_but_for_planned_percent, Some(99.9975));
}

#[test]
fn an_outage_that_still_lasts() {
    let resource = |ms, code, state: &str| {
        let it = record(0, code, Subject::Resource(1, 2), "httpd");
        let it = Record { node: Some(NodeNumber(1)), ..change(it, "", state) };
        at(ms, it)
    };
    let ledger = ledger(vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        resource(HOUR, Code::Resource, "FAILED"),
        resource(HOUR + 2_000, Code::Resource, "ONLINE"),
        resource(2 * HOUR, Code::Resource, "FAILED"),
        resource(2 * HOUR + 60_000, Code::ResourceFailed, ""),
    ]);
    let total = only(&ledger, &wanted(3 * HOUR)).total;
    assert_eq!(total.unplanned_ms, 2_000 + HOUR as u64);
    assert_eq!((total.outages.restarts, total.outages.failovers), (1, 1));
    assert!(!total.at_least);
    assert_eq!(total.longest_unplanned_ms, Some(HOUR as u64));
}

/// A group counts from when it is there; until it was ONLINE, nobody knows what it was worth.
#[test]
fn a_group_that_was_added_in_the_middle_of_a_month() {
    let mut records = vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        web(DAY, 2, "OFFLINE", "ACQUIRING"),
        web(DAY + 5_000, 2, "ACQUIRING", "ONLINE"),
    ];
    for record in &mut records[1..] {
        (record.subject, record.subject_name) = (Subject::Group(9), "db".into());
    }
    let report = ledger(records).report(&wanted(2 * DAY)).expect("a report");
    let windows: Vec<_> = report
        .groups
        .iter()
        .map(|it| (it.group.as_str(), it.total.window_ms, it.total.unknown_ms))
        .collect();
    let day = DAY as u64;
    assert_eq!(windows, [("db", day, 5_000), ("web", 2 * day, 0)]);
    assert_eq!(report.groups[0].total.availability_percent, Some(100.0));
}

/// A group that is configured no more counts until then, and its outage is over with it.
#[test]
fn a_group_that_was_removed() {
    let mut gone = change(web(HOUR + 700, 1, "", ""), "RELEASING", "OFFLINE");
    gone.cause = "it is not configured any more".into();
    let ledger = ledger(vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        queued(HOUR, "configuration"),
        web(HOUR, 1, "ONLINE", "RELEASING"),
        gone,
    ]);
    let group = only(&ledger, &wanted(9 * HOUR));
    assert!(!group.configured);
    assert_eq!((group.total.window_ms, group.total.planned_ms), (HOUR as u64 + 700, 700));
    assert_eq!(group.total.outages, OutageCountsDoc { stops: 1, ..OutageCountsDoc::default() });
}

/// A clock that is set by an hour, and set right again, is no outage and moves none.
#[test]
fn steps_of_the_clock() {
    let mut records = vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        web(HOUR, 1, "ONLINE", "OFFLINE"),
        web(HOUR + 400, 2, "ACQUIRING", "ONLINE"),
        web(2 * HOUR, 2, "ONLINE", "OFFLINE"),
        web(2 * HOUR + 500, 1, "ACQUIRING", "ONLINE"),
    ];
    records[2].at = WallTime(records[2].at.0 + HOUR * 1_000);
    let group = only(&ledger(records), &wanted(3 * HOUR));
    assert_eq!((group.total.unplanned_ms, group.total.window_ms), (900, 3 * HOUR as u64));
}

/// Where records are missing, or none has come since, nobody knows: that is not available.
#[test]
fn unknown_is_unknown() {
    let mut ledger = Ledger::default();
    let take = |ledger: &mut Ledger, seq, record| ledger.take(&Record { seq, ..record });
    take(&mut ledger, 41, web(0, 1, "ACQUIRING", "ONLINE"));
    take(&mut ledger, 42, at(HOUR, event(0, Code::Manager, "n1 is stable")));
    take(&mut ledger, 50, at(3 * HOUR, event(0, Code::Manager, "n1 is stable")));
    take(&mut ledger, 51, at(4 * HOUR, event(0, Code::Manager, "n1 is stable")));
    let cut_off = Wanted { known_until: wanted(5 * HOUR).now, ..wanted(9 * HOUR) };
    let total = only(&ledger, &cut_off).total;
    assert_eq!((total.window_ms, total.unknown_ms), (9 * HOUR as u64, 6 * HOUR as u64));
    assert_eq!((total.unplanned_ms, total.availability_percent), (0, Some(100.0)));
    let group = Some("nothing".into());
    assert_eq!(ledger.report(&Wanted { group, ..cut_off }), None);
}

/// A forced stop leaves it running, watched by nobody.
#[test]
fn what_nobody_watches_is_unknown() {
    let ledger = ledger(vec![
        web(0, 1, "ACQUIRING", "ONLINE"),
        web(HOUR, 1, "ONLINE", "UNMANAGED"),
        web(3 * HOUR, 1, "UNMANAGED", "ACQUIRING"),
        web(3 * HOUR + 10, 1, "ACQUIRING", "ONLINE"),
    ]);
    let total = only(&ledger, &wanted(4 * HOUR)).total;
    assert_eq!((total.unknown_ms, total.unplanned_ms), (2 * HOUR as u64 + 10, 0));
    assert_eq!(total.outages, OutageCountsDoc::default());
}

#[test]
fn months_begin_where_the_calendar_says() {
    for (year, month) in [(1970, 1), (2024, 2), (2024, 3), (2026, 11), (2027, 1), (2100, 3)] {
        let (y, m, d, h, min, s) = WallTime(beginning(year, month)).utc();
        assert_eq!((y, m, d, h, min, s), (year, month, 1, 0, 0, 0));
    }
    let names: Vec<String> =
        months(beginning(2026, 11) + 5, beginning(2027, 2)).into_iter().map(|it| it.0).collect();
    assert_eq!(names, ["2026-11", "2026-12", "2027-01"]);
}

#[test]
fn moments_as_people_write_them() {
    let written = |text: &str| moment(text).map(|at| at.to_string());
    for (text, means) in [
        ("2026-11", "2026-11-01T00:00:00.000Z"),
        ("2024-02-29", "2024-02-29T00:00:00.000Z"),
        ("2026-11-27T12:34Z", "2026-11-27T12:34:00.000Z"),
        ("2026-11-27T12:34:56.789Z", "2026-11-27T12:34:56.789Z"),
    ] {
        assert_eq!(written(text).as_deref(), Some(means));
    }
    for bad in [
        "",
        "2026",
        "2026-13",
        "2026-02-30",
        "2026-1-1",
        "2026-11-27T12:34",
        "2026-11-01T24:00Z",
        "2026-11-27T12:34:56.1234567Z",
        "2026-11-01-02",
        "é-11",
    ] {
        assert_eq!(moment(bad), None, "{bad}");
    }
}

/// What a node lost of its account may be that its groups were out of service earlier: the report says so, as
/// the incident does.
#[test]
fn what_a_node_lost_of_its_account_makes_an_outage_at_least_so_long() {
    let told = |ms: i64, code, duration_ms| {
        let record = at(ms, record(0, code, Subject::Node(NodeNumber(1)), "n1 tells"));
        let (number, happened_at) = (ms as u64, record.at);
        let told = Some(Told { number, happened_at, clock_offset_ms: None });
        Record { told, duration_ms, node: Some(NodeNumber(1)), ..record }
    };
    let report = |lost: bool| {
        let mut records = vec![
            web(0, 1, "ACQUIRING", "ONLINE"),
            told(1_000, Code::ClockOff, None),
            web(60_000, 1, "ONLINE", "OFFLINE"),
            web(61_000, 1, "OFFLINE", "ONLINE"),
        ];
        if lost {
            let lacking = Subject::Node(NodeNumber(1));
            records.push(at(62_000, record(0, Code::AccountIncomplete, lacking, "2 are missing")));
        }
        records.push(told(59_000, Code::NodeStarted, Some(2_000)));
        let group = only(&ledger(records), &wanted(HOUR));
        (group.total.unplanned_ms, group.total.at_least)
    };
    assert_eq!(report(false), (4_000, false));
    assert_eq!(report(true), (4_000, true));
}
