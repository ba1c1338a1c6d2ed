//! A damaged history is set aside, and what only this node knew is kept (F8).

mod common;

use std::path::{Path, PathBuf};

use common::{records, records_from, wait_for};
use vedette_collector::history::{Head, History, HistoryError};
use vedette_core::id::{Hash, NodeNumber, Session};
use vedette_core::local::{Draft, Phase, Stamp};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Subject};
use vedette_core::time::WallTime;

const PAGE: usize = 4_096;

/// 2024-02-29T12:34:56.789Z
const NOW: WallTime = WallTime(1_709_210_096_789_000);

const STAMP: Stamp = Stamp { at: NOW, uptime_us: 1, boot: Hash([0; 32]), session: Session(1) };

struct Place {
    _directory: tempfile::TempDir,
    path: PathBuf,
}

/// A history of 2,000 records, a cursor at 1,234, and three local records of which the cluster has taken
/// one; closed.
fn written() -> Place {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("history.db");
    let history = History::open(&path).expect("a new history");
    history.append(records(2_000)).expect("they fit");
    history.set_cursor("alerts", 1_234);
    (0..3).for_each(|_| drop(history.note(STAMP, local())));
    history.local_accounted(1);
    drop(history);
    Place { _directory: directory, path }
}

fn local() -> Draft {
    Draft {
        code: Code::NodeLate,
        phase: Phase::Happened,
        severity: Severity::Warning,
        subject: Subject::Node(NodeNumber(1)),
        subject_name: "n1".into(),
        message: "n1 was late".into(),
        cause: "it was not run in time".into(),
        duration_ms: None,
        times: 1,
        alert: false,
    }
}

/// Overwrites pages of the file.
fn damage(path: &Path, pages: std::ops::Range<usize>) {
    let mut bytes = std::fs::read(path).expect("the file");
    bytes[pages.start * PAGE..pages.end * PAGE].fill(0xa5);
    std::fs::write(path, bytes).expect("written");
}

fn pages(path: &Path) -> usize {
    std::fs::read(path).expect("the file").len() / PAGE
}

#[test]
fn a_broken_page_is_set_aside_and_the_records_are_fetched_again() {
    let place = written();
    let middle = pages(&place.path) / 2;
    damage(&place.path, middle..middle + 2);
    let refused = History::open(&place.path).err().expect("damaged");
    assert!(matches!(refused, HistoryError::Corrupt { .. }), "{refused}");

    let (history, set_aside) = History::open_or_set_aside(&place.path, NOW, 0).expect("it opens");
    let set_aside = set_aside.expect("it was damaged");
    assert_eq!(set_aside.path, place.path.with_file_name("history.db.damaged-20240229T123456Z"));
    assert!(set_aside.path.exists());
    assert!(set_aside.to_string().contains(&set_aside.why), "{set_aside}");
    assert!(
        set_aside.to_string().contains("2 local records are in that file alone"),
        "{set_aside}"
    );
    assert_eq!(history.head(), Head::default());
    // A reader goes on where it stood, one of whom nothing is known behind all that was there.
    assert_eq!((history.cursor("alerts"), history.cursor("another")), (1_234, 2_000));
    assert_eq!(history.floor(), 2_000);

    history.import(records(2_000)).expect("rows of another node fit");
    wait_for("the records are there", || (history.head().seq == 2_000).then_some(()));
    assert!(history.verify().expect("it can be read").intact());
    drop(history);
    let (history, again) = History::open_or_set_aside(&place.path, NOW, 0).expect("it opens");
    assert_eq!(again, None);
    assert_eq!((history.cursor("alerts"), history.floor()), (1_234, 2_000));
}

/// Nothing can be read of it: then what this node is known to have told is where readers go on.
#[test]
fn what_cannot_be_read_at_all_is_not_told_again() {
    let place = written();
    let all = pages(&place.path);
    damage(&place.path, 0..all);
    let (history, set_aside) =
        History::open_or_set_aside(&place.path, NOW, 1_999).expect("it opens");
    let set_aside = set_aside.expect("it was damaged");
    assert_eq!((set_aside.last, set_aside.cursors.len(), set_aside.untold), (1_999, 0, None));
    assert_eq!(history.cursor("alerts"), 1_999);
}

/// Two in one second do not overwrite each other.
#[test]
fn what_was_set_aside_stays() {
    let place = written();
    let mut asides = Vec::new();
    for _ in 0..2 {
        std::fs::write(&place.path, "not a database at all, but long enough to look at")
            .expect("written");
        let (history, set_aside) =
            History::open_or_set_aside(&place.path, NOW, 0).expect("it opens");
        drop(history);
        asides.push(set_aside.expect("it was damaged").path);
    }
    assert_ne!(asides[0], asides[1]);
    assert!(asides.iter().all(|aside| aside.exists()), "{asides:?}");
}

/// After a crash the newest records are in the companion, which goes with its database.
#[test]
fn the_write_ahead_log_goes_with_its_database() {
    let place = written();
    let history = History::open(&place.path).expect("a history");
    let end = history.head();
    history.append(records_from(end.seq, end.hash, 10)).expect("they fit");
    wait_for("the records are there", || (history.head().seq == 2_010).then_some(()));
    let crashed = place.path.with_file_name("crashed.db");
    for companion in ["", "-wal"] {
        let name = |path: &Path| format!("{}{companion}", path.display());
        std::fs::copy(name(&place.path), name(&crashed)).expect("copied");
    }
    drop(history);
    let middle = pages(&crashed) / 2;
    // More than the pages that are newer in the write-ahead log.
    damage(&crashed, middle - 8..middle + 8);
    let (history, set_aside) = History::open_or_set_aside(&crashed, NOW, 0).expect("it opens");
    let set_aside = set_aside.expect("it was damaged");
    assert!(Path::new(&format!("{}-wal", set_aside.path.display())).exists());
    assert_eq!((set_aside.last, history.cursor("another")), (2_010, 2_010));
}

/// A file of something else is a mistake, and no damage.
#[test]
fn a_foreign_file_is_refused() {
    let place = written();
    let other = place.path.with_file_name("other.db");
    let connection = rusqlite::Connection::open(&other).expect("a database");
    connection.execute_batch("CREATE TABLE customers (name TEXT)").expect("a table");
    drop(connection);
    let refused = History::open_or_set_aside(&other, NOW, 0).err().expect("refused");
    assert!(matches!(refused, HistoryError::NotHistory { .. }), "{refused}");
    assert!(other.exists());
    drop(place);
}
