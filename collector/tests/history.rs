//! The event history as its users see it (architecture: one truth, nothing acknowledged is
//! lost; spec A14, A15: outcomes of the alert script are in the history).

mod common;

use common::{records, records_from, wait_for};
use proptest::prelude::*;
use vedette_collector::history::{
    Agreement, FaultKind, Filter, Format, Gap, Head, History, HistoryError, Page, verify_export,
    verify_offline,
};
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record};
use vedette_core::time::WallTime;

struct Place {
    _directory: tempfile::TempDir,
    path: std::path::PathBuf,
}

fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("history.db");
    Place { _directory: directory, path }
}

fn wait_durable(history: &History, seq: u64) {
    wait_for("records become durable", || (history.head().seq >= seq).then_some(()));
}

/// A history with these records, closed again.
fn written(records: &[Record]) -> Place {
    let place = place();
    let history = History::open(&place.path).unwrap();
    history.append(records.to_vec()).unwrap();
    drop(history);
    place
}

/// What somebody with a text editor for databases can do: guards off, one statement, guards on.
fn tamper(place: &Place, sql: &str) {
    let connection = rusqlite::Connection::open(&place.path).unwrap();
    connection
        .execute_batch(
            "DROP TRIGGER record_no_update; DROP TRIGGER record_no_delete;
             DROP TRIGGER record_no_replace;",
        )
        .unwrap();
    assert!(connection.execute(sql, []).unwrap() > 0, "nothing was changed by {sql}");
}

#[test]
fn what_is_appended_becomes_durable_and_comes_back_in_order() {
    let place = place();
    let all = records(2_500);
    let history = History::open(&place.path).unwrap();
    let appended = history.append(all.clone()).unwrap();
    assert_eq!((appended.accepted, appended.gap), (2_500, None));
    wait_durable(&history, 2_500);
    assert_eq!(history.after(0, 10_000).unwrap(), all);
    assert_eq!(history.after(2_498, 10).unwrap(), all[2_498..]);
    assert_eq!(history.head(), Head::of(&all[2_499]));
    drop(history);
    let history = History::open(&place.path).unwrap();
    assert_eq!(history.head(), Head::of(&all[2_499]));
    let newest_first: Vec<u64> =
        history.before(u64::MAX, 3).unwrap().iter().map(|record| record.seq).collect();
    assert_eq!(newest_first, [2_500, 2_499, 2_498]);
    let verdict = history.verify().unwrap();
    assert!(verdict.intact() && verdict.checked == 2_500 && verdict.unguarded.is_empty());
}

#[tokio::test]
async fn durable_announces_by_itself() {
    let place = place();
    let history = History::open(&place.path).unwrap();
    let mut durable = history.durable();
    history.append(records(10)).unwrap();
    let waited = durable.wait_for(|head| head.seq == 10);
    tokio::time::timeout(common::LONG, waited).await.unwrap().unwrap();
}

#[test]
fn a_repeat_is_harmless_and_another_record_with_the_same_number_is_loud() {
    let place = place();
    let all = records(20);
    let history = History::open(&place.path).unwrap();
    history.append(all.clone()).unwrap();
    wait_durable(&history, 20);
    let again = history.append(all[5..15].to_vec()).unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 10));
    let mut other = all[9].clone();
    other.message = "nothing happened".into();
    other.hash = other.chained(all[8].hash);
    let error = history.append([other]).unwrap_err();
    assert!(matches!(error, HistoryError::Diverged { seq: 10, .. }), "{error}");
    assert!(history.health().borrow().diverged.is_some());
    assert!(history.verify().unwrap().intact());
}

#[test]
fn a_record_that_was_altered_on_the_way_is_not_written() {
    let place = place();
    let mut all = records(10);
    all[7].cause = "lightning".into();
    let history = History::open(&place.path).unwrap();
    let error = history.append(all.clone()).unwrap_err();
    assert!(matches!(error, HistoryError::BrokenChain { seq: 8, .. }), "{error}");
    wait_durable(&history, 7);
    let good = records(10);
    history.import(good).unwrap();
    wait_durable(&history, 10);
    assert!(history.verify().unwrap().intact());
}

#[test]
fn records_after_a_gap_wait_until_a_peer_gives_the_missing_ones() {
    let place = place();
    let all = records(100);
    let history = History::open(&place.path).unwrap();
    history.append(all[..10].to_vec()).unwrap();
    let appended = history.append(all[60..].to_vec()).unwrap();
    assert_eq!(appended.gap, Some(Gap { have: 10, got: 61 }));
    assert_eq!(history.health().borrow().gap, Some(Gap { have: 10, got: 61 }));
    wait_durable(&history, 10);
    let refused = history.import(all[20..30].to_vec()).unwrap();
    assert_eq!((refused.accepted, refused.refused), (0, 10));
    let half = history.import(all[10..40].to_vec()).unwrap();
    assert_eq!(half.gap, Some(Gap { have: 40, got: 61 }));
    let rest = history.import(all[35..60].to_vec()).unwrap();
    assert_eq!((rest.accepted, rest.duplicates, rest.gap), (60, 5, None));
    wait_durable(&history, 100);
    assert!(history.health().borrow().good());
    assert_eq!(history.after(0, 1_000).unwrap(), all);
}

#[test]
fn filters_hold_together() {
    let all = records(300);
    let place = written(&all);
    let history = History::open(&place.path).unwrap();
    let filter = Filter {
        severity: Some(Severity::Warning),
        code: Some(Code::NodeHost),
        kind: Some("node".into()),
        since: Some(all[49].at),
        until: Some(all[249].at),
        incident: None,
    };
    let fits = |record: &&Record| {
        record.severity <= Severity::Warning
            && record.code == Code::NodeHost
            && (all[49].at..all[249].at).contains(&record.at)
    };
    let expected: Vec<Record> = all.iter().filter(fits).cloned().collect();
    assert!(!expected.is_empty());
    assert_eq!(history.query(Page::After(0), 1_000, &filter).unwrap(), expected);
    let last = history.query(Page::Before(u64::MAX), 1, &filter).unwrap();
    assert_eq!(last.first(), expected.last());
    let incident = Filter { incident: Some(50), ..Filter::default() };
    assert_eq!(history.query(Page::After(0), 9, &incident).unwrap(), all[49..50]);
    let numbers = all.iter().filter_map(|record| record.incident);
    let mut newest: Vec<u64> =
        numbers.collect::<std::collections::BTreeSet<_>>().into_iter().collect();
    newest.reverse();
    assert_eq!(history.incidents(u64::MAX, usize::MAX).unwrap(), newest);
    assert_eq!(history.incidents(newest[0], 1).unwrap(), newest[1..newest.len().min(2)]);
}

#[test]
fn rows_cannot_be_changed_deleted_or_replaced() {
    let place = written(&records(5));
    let connection = rusqlite::Connection::open(&place.path).unwrap();
    for sql in [
        "UPDATE record SET message = 'nothing' WHERE seq = 3",
        "DELETE FROM record WHERE seq = 3",
        "INSERT OR REPLACE INTO record SELECT * FROM record WHERE seq = 3",
    ] {
        let refusal = connection.execute(sql, []).unwrap_err().to_string();
        assert!(refusal.contains("append-only"), "{sql}: {refusal}");
    }
}

#[test]
fn tampering_is_found_and_the_row_is_named() {
    let all = records(30);
    let other = records_from(16, all[15].hash, 1).pop().map(|mut record| {
        record.message = "all is well".into();
        record.hash = record.chained(all[15].hash);
        record
    });
    let rehashed = format!(
        "UPDATE record SET message = 'all is well', hash = x'{}' WHERE seq = 17",
        other.unwrap().hash
    );
    let cases = [
        ("UPDATE record SET message = 'all is well' WHERE seq = 17", 17, FaultKind::ChangedContent),
        ("UPDATE record SET at = at - 1 WHERE seq = 17", 17, FaultKind::ChangedContent),
        ("DELETE FROM record WHERE seq BETWEEN 17 AND 19", 17, FaultKind::MissingRows),
        ("UPDATE record SET link = zeroblob(32) WHERE seq = 17", 17, FaultKind::ChangedContent),
        ("UPDATE record SET code = 'NOTHING' WHERE seq = 17", 17, FaultKind::Unreadable),
        // The row itself fits together again; the next one tells.
        (&rehashed, 18, FaultKind::WrongLink),
    ];
    for (sql, seq, kind) in cases {
        let place = written(&all);
        tamper(&place, sql);
        let verdict = verify_offline(&place.path).unwrap();
        let fault = verdict.fault.unwrap_or_else(|| panic!("not found: {sql}"));
        assert_eq!((fault.seq, fault.kind), (seq, kind), "{sql}: {}", fault.detail);
        assert_eq!(verdict.checked, seq - 1);
        assert_eq!(verdict.unguarded.len(), 3);
    }
}

#[test]
fn rows_that_vanish_at_the_end_while_it_runs_are_missed() {
    let place = place();
    let history = History::open(&place.path).unwrap();
    history.append(records(30)).unwrap();
    wait_durable(&history, 30);
    tamper(&place, "DELETE FROM record WHERE seq > 28");
    let fault = history.verify().unwrap().fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (29, FaultKind::MissingRows));
}

#[test]
fn guards_that_were_removed_are_put_back_at_the_next_start() {
    let place = written(&records(3));
    tamper(&place, "UPDATE record SET actor = 'nobody' WHERE seq = 2");
    drop(History::open(&place.path).unwrap());
    let verdict = verify_offline(&place.path).unwrap();
    assert!(verdict.unguarded.is_empty());
    assert_eq!(verdict.fault.map(|fault| fault.seq), Some(2));
}

#[test]
fn heads_of_two_nodes_compare_by_one_value() {
    let all = records(50);
    let (here, there) = (written(&all), written(&all[..40]));
    let here = History::open(&here.path).unwrap();
    let there = History::open(&there.path).unwrap();
    assert_eq!(here.agrees_with(there.head()).unwrap(), Agreement::Same);
    assert_eq!(there.agrees_with(here.head()).unwrap(), Agreement::PeerIsAhead);
    let rewritten = Head { seq: 40, hash: Hash::of(b"another history") };
    assert_eq!(here.agrees_with(rewritten).unwrap(), Agreement::Diverged { ours: all[39].hash });
    assert_eq!(here.agrees_with(Head::default()).unwrap(), Agreement::Same);
}

#[test]
fn exports_are_verified_without_the_database() {
    let all = records(1_200);
    let place = written(&all);
    let history = History::open(&place.path).unwrap();
    for format in [Format::Jsonl, Format::Csv] {
        for after in [0, 700] {
            let mut text = Vec::new();
            let head = history.export(after, &mut text, format).unwrap();
            assert_eq!(head, Head::of(&all[1_199]));
            let verdict = verify_export(text.as_slice()).unwrap();
            assert!(verdict.intact(), "{format:?}: {:?}", verdict.fault);
            assert_eq!((verdict.checked, verdict.head), (1_200 - after, head));
            let changed = String::from_utf8(text).unwrap().replace("(record 900)", "(record 009)");
            let fault = verify_export(changed.as_bytes()).unwrap().fault.unwrap();
            assert_eq!((fault.seq, fault.kind), (900, FaultKind::ChangedContent));
        }
    }
}

/// Exports that were made before steps of events, or the timeline, were recorded can still be verified.
#[test]
fn an_export_of_the_earlier_form_is_read() {
    let place = written(&records(5));
    let history = History::open(&place.path).unwrap();
    let mut text = Vec::new();
    history.export(0, &mut text, Format::Csv).unwrap();
    let text = String::from_utf8(text).unwrap();
    let timeline = ",elapsed_ms,local_number,happened_at_microseconds,clock_offset_ms";
    let steps = format!(",event,node,duration_ms{timeline}");
    for (heading, row) in [(timeline, ",0,,,"), (&*steps, ",,,,0,,,")] {
        let earlier = text.replacen(&format!("{heading}\n"), "\n", 1);
        let earlier = earlier.replace(&format!("{row}\n"), "\n");
        assert_eq!(earlier.len() + heading.len() + 5 * row.len(), text.len());
        let verdict = verify_export(earlier.as_bytes()).unwrap();
        assert!(verdict.intact() && verdict.checked == 5, "{:?}", verdict.fault);
    }
    let mut json = Vec::new();
    history.export(0, &mut json, Format::Jsonl).unwrap();
    assert!(!String::from_utf8(json).unwrap().contains("duration_ms"));
}

/// What an export says of a step is guarded by the hash like everything else.
#[test]
fn a_step_that_was_changed_in_an_export_is_found() {
    let place = written(&records(40));
    let history = History::open(&place.path).unwrap();
    for (format, was, is) in [
        (Format::Jsonl, "\"duration_ms\":108", "\"duration_ms\":8"),
        (Format::Csv, ",6,1,108,0,,,\n", ",6,1,8,0,,,\n"),
    ] {
        let mut text = Vec::new();
        history.export(0, &mut text, format).unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(was), "{text}");
        let fault = verify_export(text.replace(was, is).as_bytes()).unwrap().fault.unwrap();
        assert_eq!((fault.seq, fault.kind), (36, FaultKind::ChangedContent));
    }
}

#[test]
fn an_export_with_a_lost_line_or_a_broken_one_says_so() {
    let place = written(&records(20));
    let history = History::open(&place.path).unwrap();
    let mut text = Vec::new();
    history.export(0, &mut text, Format::Jsonl).unwrap();
    let text = String::from_utf8(text).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let lost = [&lines[..7], &lines[8..]].concat().join("\n");
    let fault = verify_export(lost.as_bytes()).unwrap().fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (8, FaultKind::MissingRows));
    let broken = text.replace("\"seq\":9,", "\"seq\":nine,");
    let fault = verify_export(broken.as_bytes()).unwrap().fault.unwrap();
    assert_eq!((fault.seq, fault.kind), (9, FaultKind::Unreadable));
    assert!(fault.detail.starts_with("line 9:"), "{}", fault.detail);
}

#[test]
fn cursors_survive() {
    let place = place();
    let history = History::open(&place.path).unwrap();
    assert_eq!(history.cursor("snmp"), 0);
    history.set_cursor("snmp", 17);
    history.set_cursor("other", 3);
    history.set_cursor("snmp", 18);
    drop(history);
    let history = History::open(&place.path).unwrap();
    assert_eq!((history.cursor("snmp"), history.cursor("other")), (18, 3));
}

#[test]
fn a_file_of_something_else_of_a_newer_version_or_damaged_is_refused_with_advice() {
    let foreign = place();
    let connection = rusqlite::Connection::open(&foreign.path).unwrap();
    connection.execute_batch("CREATE TABLE customers (name TEXT)").unwrap();
    let refusal = History::open(&foreign.path).err().unwrap();
    assert!(matches!(refusal, HistoryError::NotHistory { .. }), "{refusal}");

    let newer = written(&records(1));
    let connection = rusqlite::Connection::open(&newer.path).unwrap();
    connection.pragma_update(None, "user_version", 4).unwrap();
    let refusal = History::open(&newer.path).err().unwrap();
    assert!(matches!(refusal, HistoryError::Newer { found: 4, known: 3, .. }), "{refusal}");

    let garbage = place();
    std::fs::write(&garbage.path, "not a database at all, but long enough to look at").unwrap();
    let refusal = History::open(&garbage.path).err().unwrap();
    assert!(refusal.to_string().contains("fetched from the other nodes"), "{refusal}");

    let damaged = written(&records(2_000));
    let mut bytes = std::fs::read(&damaged.path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 8_192].fill(0xa5);
    std::fs::write(&damaged.path, bytes).unwrap();
    let refusal = History::open(&damaged.path).err().unwrap();
    assert!(matches!(refusal, HistoryError::Corrupt { .. }), "{refusal}");
}

fn any_record() -> impl Strategy<Value = Record> {
    let texts = prop::collection::vec(".{0,12}", 5);
    let numbers = (any::<u64>(), any::<i64>(), any::<Option<u64>>(), any::<u16>());
    let flags = (any::<bool>(), any::<bool>());
    (texts, numbers, flags).prop_map(|(texts, (index, at, incident, origin), (alert, test))| {
        let mut record = records(1).remove(0);
        record.index = index;
        record.at = WallTime(at);
        record.incident = incident;
        record.origin = NodeNumber(origin);
        (record.alert, record.test) = (alert, test);
        [record.subject_name, record.previous, record.cause, record.message, record.actor] =
            texts.try_into().unwrap();
        record.hash = record.chained(Hash::default());
        record
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_record_comes_back_as_it_was_from_file_and_exports(record in any_record()) {
        let place = written(std::slice::from_ref(&record));
        let history = History::open(&place.path).unwrap();
        prop_assert_eq!(history.after(0, 2).unwrap(), vec![record]);
        for format in [Format::Jsonl, Format::Csv] {
            let mut text = Vec::new();
            history.export(0, &mut text, format).unwrap();
            let verdict = verify_export(text.as_slice()).unwrap();
            prop_assert!(verdict.intact() && verdict.checked == 1, "{:?}", verdict.fault);
        }
    }
}
