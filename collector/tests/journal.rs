//! The node's own journal: told at once, written with its chain, kept until it is accounted for.

use std::path::Path;

use rusqlite::Connection;
use vedette_collector::history::{History, MOST_PENDING};
use vedette_core::id::{Hash, NodeNumber, Session};
use vedette_core::local::{Draft, LocalRecord, Phase, Stamp};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::time::WallTime;

fn stamp(at: i64) -> Stamp {
    Stamp {
        at: WallTime(1_795_348_800_000_000 + at * 1_000_000),
        uptime_us: at as u64 * 1_000_000,
        boot: Hash::of(b"boot"),
        session: Session(u64::MAX),
    }
}

fn draft(text: &str) -> Draft {
    Draft {
        code: Code::QuorumLost,
        phase: Phase::Raised,
        severity: Severity::Error,
        subject: Subject::Node(NodeNumber(1)),
        subject_name: "n1".into(),
        message: text.into(),
        cause: "n2 and n3 are silent".into(),
        duration_ms: Some(u64::MAX >> 1),
        times: 1,
        alert: true,
    }
}

fn write(path: &Path, numbers: std::ops::RangeInclusive<i64>) -> u64 {
    let history = History::open(path).expect("a history");
    for number in numbers {
        history.note(stamp(number), draft(&format!("the {number}th")));
    }
    history.journal_id()
}

fn pending(history: &History) -> Vec<u64> {
    history.local_pending(usize::MAX).iter().map(|record| record.number).collect()
}

/// Everything of an entry comes back, its number goes on, and what was accounted for is not told again.
#[test]
fn a_journal_is_continued() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let id = write(&path, 1..=3);
    let history = History::open(&path).expect("a history");
    assert_eq!((history.journal_id(), pending(&history)), (id, vec![1, 2, 3]));
    let third = history.local_recent()[2].clone();
    assert_eq!((third.stamp, &third.content), (stamp(3), &draft("the 3th")));
    history.local_accounted(2);
    let fourth = history.note(stamp(4), draft("the 4th"));
    assert_eq!((fourth.number, fourth.hash), (4, fourth.chained(third.hash)));
    assert_eq!(*history.told().borrow(), 4);
    drop(history);
    let history = History::open(&path).expect("a history");
    assert_eq!((history.journal_id(), pending(&history)), (id, vec![3, 4]));
    let health = history.journal_health();
    assert_eq!((health.last, health.accounted, health.dropped), (4, 2, 0));
    let texts = |found: Vec<LocalRecord>| found.iter().map(|it| it.number).collect::<Vec<_>>();
    assert_eq!(texts(history.local_after(1, 2).expect("rows")), [2, 3]);
}

/// What was raised is known to the next run until it is cleared, by its code or that of the regained quorum.
#[test]
fn what_was_raised_and_not_cleared_is_known_to_the_next_run() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let told = |code, phase| Draft { code, phase, ..draft("") };
    let note = |drafts: &[(Code, Phase)]| {
        let history = History::open(&path).expect("a history");
        for (code, phase) in drafts {
            history.note(stamp(1), told(*code, *phase));
        }
    };
    let open = || {
        let history = History::open(&path).expect("a history");
        assert_eq!(history.journal_health().opened, history.journal_health().last);
        history.local_open().iter().map(|it| it.content.code).collect::<Vec<_>>()
    };
    assert_eq!(open(), []);
    note(&[
        (Code::DiskFull, Phase::Raised),
        (Code::QuorumLost, Phase::Raised),
        (Code::NodeStarted, Phase::Happened),
    ]);
    assert_eq!(open(), [Code::DiskFull, Code::QuorumLost]);
    note(&[(Code::QuorumRegained, Phase::Cleared)]);
    assert_eq!(open(), [Code::DiskFull]);
    note(&[(Code::DiskFull, Phase::Cleared), (Code::QuorumLost, Phase::Raised)]);
    assert_eq!(open(), [Code::QuorumLost]);
}

/// A journal that was changed or lost its end is not continued under the same numbers.
#[test]
fn a_journal_that_was_touched_is_not_continued() {
    for sql in [
        "UPDATE local SET message = 'nothing happened' WHERE number = 2",
        "DELETE FROM local WHERE number = 2",
        "UPDATE local SET hash = zeroblob(32) WHERE number = 3",
        "UPDATE local SET code = 'NONSENSE' WHERE number = 3",
    ] {
        let folder = tempfile::tempdir().expect("a directory");
        let path = folder.path().join("history.db");
        let id = write(&path, 1..=3);
        let connection = Connection::open(&path).expect("the file");
        assert_eq!(connection.execute(sql, []).expect(sql), 1);
        drop(connection);
        let history = History::open(&path).expect("a history");
        assert_ne!(history.journal_id(), id, "{sql}");
        assert_eq!(history.journal_broken(), Some(3), "nobody else has them: {sql}");
        assert_eq!(history.note(stamp(9), draft("the first of another")).number, 1);
        history.local_accounted(1);
        let second = history.journal_id();
        drop(history);
        let history = History::open(&path).expect("a history");
        assert_eq!((history.journal_id(), pending(&history)), (second, vec![]));
    }
}

/// An older file was put back: the numbers that it does not have are used. What this run wrote, on disk
/// already or not, goes on under another id, and nothing of it is taken for what was told before.
#[test]
fn a_journal_that_lost_its_end_branches() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let id = write(&path, 1..=3);
    let history = History::open(&path).expect("a history");
    assert!(!history.journal_branch(3), "the file has all that was taken");
    history.note(stamp(4), draft("the 4th"));
    while history.local_after(3, 9).expect("rows").is_empty() {
        std::thread::yield_now();
    }
    let last = history.note(stamp(5), draft("the 5th"));
    assert!(history.journal_branch(4), "the file had no fourth when it was opened");
    let branch = history.journal_id();
    assert_ne!(branch, id);
    assert_eq!((history.journal_begins_after(), pending(&history)), (3, vec![4, 5]));
    let sixth = history.note(stamp(6), draft("the 6th"));
    assert_eq!((sixth.number, sixth.hash), (6, sixth.chained(last.hash)));
    assert!(!history.journal_branch(99), "only once");
    history.local_accounted(4);
    drop(history);
    let history = History::open(&path).expect("a history");
    assert_eq!((history.journal_id(), history.journal_begins_after()), (branch, 3));
    assert_eq!(pending(&history), [5, 6]);
}

/// Where the end of a transaction is torn, what was committed before it is there.
#[test]
fn a_torn_end_loses_only_what_was_not_committed() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let history = History::open(&path).expect("a history");
    history.note(stamp(1), draft("the first"));
    // Only the disk tells that an entry was written.
    while history.local_after(0, 9).expect("rows").is_empty() {
        std::thread::yield_now();
    }
    let wal = folder.path().join("history.db-wal");
    let copy = folder.path().join("copy.db");
    std::fs::copy(&path, &copy).expect("a copy");
    let mut log = std::fs::read(&wal).expect("the write-ahead log");
    log.extend_from_slice(&[0xa5; 700]);
    std::fs::write(folder.path().join("copy.db-wal"), log).expect("a torn copy");
    let torn = History::open(&copy).expect("a history");
    assert_eq!((torn.journal_id(), pending(&torn)), (history.journal_id(), vec![1]));
}

/// Whatever comes, no more than so much waits, and what is given up is counted.
#[test]
fn what_is_given_up_is_counted() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let history = History::open(&path).expect("a history");
    let more = 250;
    for number in 0..MOST_PENDING as i64 + more {
        history.note(stamp(number), draft("again"));
    }
    let waiting = pending(&history);
    assert_eq!(waiting.len(), MOST_PENDING);
    assert_eq!(waiting[0], more as u64 + 1, "the oldest are given up");
    assert_eq!(history.journal_health().dropped, more as u64);
}

/// A file of the format before has no journal; it gets one, and keeps its records.
#[test]
fn an_older_file_gets_a_journal() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    drop(History::open(&path).expect("a history"));
    let connection = Connection::open(&path).expect("the file");
    connection
        .execute_batch(
            "DROP TABLE local; PRAGMA user_version = 2;
             ALTER TABLE record DROP COLUMN elapsed_ms; ALTER TABLE record DROP COLUMN local_number;
             ALTER TABLE record DROP COLUMN happened_at;
             ALTER TABLE record DROP COLUMN clock_offset_ms;",
        )
        .expect("the format before");
    drop(connection);
    let history = History::open(&path).expect("a history");
    assert_eq!(history.note(stamp(1), draft("the first")).number, 1);
    assert!(history.verify().expect("a verdict").intact());
}

/// The disk lost the last entries although they had been told: that is counted, their numbers are not used
/// again, by no later run either, and what is there is told as it was.
#[test]
fn a_journal_that_was_cut_is_counted() {
    let folder = tempfile::tempdir().expect("a directory");
    let path = folder.path().join("history.db");
    let id = write(&path, 1..=6);
    let connection = Connection::open(&path).expect("the file");
    let cut = "DELETE FROM local WHERE number > 4";
    assert_eq!(connection.execute(cut, []).expect("cut"), 2);
    drop(connection);
    let history = History::open(&path).expect("a history");
    assert_eq!((history.journal_cut(), history.journal_broken()), (Some(2), None));
    assert_eq!(history.journal_health().dropped, 2);
    assert_eq!(history.note(stamp(7), draft("the 7th")).number, 7);
    assert_eq!((history.journal_id(), pending(&history)), (id, vec![1, 2, 3, 4, 7]));
    assert!(!history.journal_branch(6), "the cluster may have taken what is lost here");
    drop(history);
    let history = History::open(&path).expect("a history");
    assert_eq!((history.journal_id(), history.journal_cut()), (id, None), "it is told once");
    assert_eq!(history.journal_broken(), None);
    assert_eq!(pending(&history), [1, 2, 3, 4, 7]);
}
