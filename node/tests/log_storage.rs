//! What the database of the log survives and what it refuses, with the sentence a person reads
//! (invariant 7: a node's storage is its own).

mod log_support;

use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use openraft::RaftLogReader;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use rusqlite::Connection;
use vedette_core::id::{ClusterId, StorageId};
use vedette_core::state::{ClusterState, Outcome};
use vedette_node::log::{
    Committed, Entry, FormError, Identity, LogError, LogId, Members, ProposeError, Snapshot,
    SnapshotMeta, Snapshots, Store, Vote,
};

use log_support::{Alone, Witness, chatter, form, identity, open, until};

fn position(term: u64, index: u64) -> LogId {
    LogId::new(Committed { term }, index)
}

fn entry(term: u64, index: u64) -> Entry {
    Entry::new(position(term, index), openraft::EntryPayload::Normal(chatter(index)))
}

fn refusal(path: &Path, identity: Identity) -> LogError {
    Store::open(path, identity, false).err().expect("it is refused")
}

/// Fills a new database and closes it.
async fn filled(path: &Path, entries: u64) {
    let mut store = Store::open(path, identity(1), true).expect("a new store");
    store.save_vote(&Vote::new(3, 1)).await.expect("the vote is written");
    store.blocking_append((0..entries).map(|at| entry(3, at))).await.expect("written");
    store.close().await.expect("closed");
}

/// A killed process leaves its files as they are at that moment: what was acknowledged by then is
/// in them, vote and entries alike.
#[tokio::test]
async fn acknowledged_means_in_the_files() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let mut store = Store::open(&path, identity(1), true).expect("a new store");
    store.save_vote(&Vote::new(5, 1)).await.expect("the vote is written");
    store.blocking_append((0..40).map(|at| entry(5, at))).await.expect("written");
    store.truncate_after(Some(position(5, 29))).await.expect("truncated");

    let killed = dir.path().join("killed.db");
    for suffix in ["", "-wal"] {
        let name = |stem: &str| dir.path().join(format!("{stem}.db{suffix}"));
        std::fs::copy(name("cluster"), name("killed")).expect("the file is copied");
    }
    let mut again = Store::open(&killed, identity(1), false).expect("it opens after the kill");
    assert_eq!(again.read_vote().await.expect("readable"), Some(Vote::new(5, 1)));
    let entries = again.try_get_log_entries(..).await.expect("readable");
    assert_eq!(entries.len(), 30);
    assert_eq!(entries.last(), Some(&entry(5, 29)));
}

/// Dropping everything without a word is what a crash of the agent's runtime looks like.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_reopens_after_being_dropped() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let path_there = path.clone();
    let before = std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let witness = Arc::new(Witness::default());
            let log = open(&path_there, 1, true, Arc::new(Alone), witness.clone()).await;
            let log = log.expect("it opens");
            log.form(form(1)).await.expect("formed");
            for n in 1..=20 {
                log.propose(chatter(n)).await.expect("applied");
            }
            witness.seen().state
        })
        // The runtime ends here with the member running: no shutdown.
    })
    .join()
    .expect("the first run ends");

    let witness = Arc::new(Witness::default());
    let log = open(&path, 1, false, Arc::new(Alone), witness.clone()).await.expect("it reopens");
    until(&log, |now| now.me && now.last_applied >= before.revision).await;
    assert_eq!(witness.seen().state, before);
    assert_eq!(witness.seen().records, (1..=before.seq).collect::<Vec<_>>());
    log.shutdown().await;
}

/// A restart from a snapshot gives the same state, and only the entries after it are applied again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_replaces_the_entries_before_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let log = open(&path, 1, true, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it opens");
    log.form(form(1)).await.expect("formed");
    log.propose(chatter(1)).await.expect("applied");
    log.snapshot_now().await.expect("a snapshot is taken");
    let Ok(Outcome::Applied { index }) = log.propose(chatter(2)).await else {
        panic!("the command after the snapshot is applied")
    };
    log.shutdown().await;

    let witness = Arc::new(Witness::default());
    let log = open(&path, 1, false, Arc::new(Alone), witness.clone()).await.expect("it reopens");
    until(&log, |now| now.last_applied >= index).await;
    let seen = witness.seen();
    assert_eq!(seen.installed.len(), 1, "the state of the snapshot is announced");
    assert_eq!(seen.records, [seen.state.seq], "only the record after the snapshot comes again");
    log.shutdown().await;
}

/// One storage, one member; somebody else's database is not used.
#[tokio::test]
async fn a_foreign_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    filled(&path, 3).await;
    let foreign = [
        Identity { cluster: ClusterId([9; 16]), ..identity(1) },
        identity(2),
        Identity { storage: StorageId([9; 16]), ..identity(1) },
    ];
    for other in foreign {
        let error = refusal(&path, other);
        assert!(matches!(error, LogError::Foreign { .. }), "{error}");
        assert!(error.to_string().contains("cluster.db belongs to member 1 of cluster 0707"));
        assert!(error.to_string().contains("vedette join"));
    }
    Store::open(&path, identity(1), false).expect("its own member may have it");
}

#[tokio::test]
async fn a_newer_version_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    filled(&path, 3).await;
    let connection = Connection::open(&path).expect("sqlite opens it");
    connection.pragma_update(None, "user_version", 2).expect("the version is set");
    drop(connection);
    let error = refusal(&path, identity(1));
    assert!(matches!(error, LogError::Newer { found: 2, known: 1, .. }), "{error}");
    assert!(error.to_string().contains("Install the newer Vedette"), "{error}");
}

/// A member whose log is gone must not begin again under its old name.
#[tokio::test]
async fn a_missing_database_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = refusal(&dir.path().join("cluster.db"), identity(1));
    assert!(matches!(error, LogError::Missing { .. }), "{error}");
    assert!(!dir.path().join("cluster.db").exists(), "the refusal makes no file");
}

#[tokio::test]
async fn a_database_in_use_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    filled(&path, 3).await;
    let holder = Connection::open(&path).expect("sqlite opens it");
    holder.execute_batch("PRAGMA locking_mode=EXCLUSIVE; BEGIN IMMEDIATE").expect("locked");
    let error = refusal(&path, identity(1));
    assert!(matches!(error, LogError::InUse { .. }), "{error}");
}

/// Every page of the file in turn is overwritten; none of it is ever taken for a log.
#[tokio::test]
async fn a_corrupt_page_is_refused() {
    const PAGE: u64 = 4_096;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    filled(&path, 400).await;
    let good = std::fs::read(&path).expect("the file is read");
    let pages = good.len() as u64 / PAGE;
    assert!(pages > 8, "{pages} pages are enough to be worth it");
    for page in 0..pages {
        std::fs::write(&path, &good).expect("the good file is put back");
        let mut file = std::fs::File::options().write(true).open(&path).expect("opened");
        file.seek(SeekFrom::Start(page * PAGE)).expect("found");
        file.write_all(&[0xA5; PAGE as usize]).expect("overwritten");
        drop(file);
        let error = refusal(&path, identity(1));
        assert!(matches!(error, LogError::Damaged { .. }), "page {page}: {error}");
        let text = error.to_string();
        assert!(text.contains("cluster.db is damaged") && text.contains("vedette join"), "{text}");
    }
}

/// Damage that SQLite cannot see: a row that is gone, a row that is another's, a row of nonsense.
#[tokio::test]
async fn a_log_with_a_hole_is_refused() {
    let damages = [
        ("DELETE FROM log WHERE at = 30", "entries are missing before entry 31"),
        ("UPDATE log SET at = 900 WHERE at = 59", "entry 900 says it is 59"),
        ("UPDATE log SET entry = '{' WHERE at = 7", "its entry 7 cannot be read"),
        ("UPDATE mark SET value = '[]' WHERE name = 'vote'", "its vote cannot be read"),
        ("DELETE FROM identity", "it does not say whose it is"),
    ];
    for (damage, expected) in damages {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("cluster.db");
        filled(&path, 60).await;
        let connection = Connection::open(&path).expect("sqlite opens it");
        connection.execute_batch(damage).expect("the damage is done");
        drop(connection);
        let error = refusal(&path, identity(1));
        assert!(matches!(error, LogError::Damaged { .. }), "{damage}: {error}");
        assert!(error.to_string().contains(expected), "{damage}: {error}");
    }
}

/// A repeated proposal is answered with its first application (invariant 5), also after a restart.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repeat_is_recognised() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let log = open(&path, 1, true, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it opens");
    log.form(form(1)).await.expect("formed");
    let Ok(Outcome::Applied { index }) = log.propose(chatter(1)).await else {
        panic!("the first time it is applied")
    };
    assert_eq!(log.propose(chatter(1)).await, Ok(Outcome::Repeated { index }));
    assert_eq!(log.form(form(1)).await, Err(FormError::AlreadyFormed));
    log.shutdown().await;
    assert!(matches!(log.propose(chatter(2)).await, Err(ProposeError::Stopped(_))));

    let log = open(&path, 1, false, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it reopens");
    until(&log, |now| now.me).await;
    assert_eq!(log.propose(chatter(1)).await, Ok(Outcome::Repeated { index }));
    log.shutdown().await;
}

/// A member forms a cluster with its own id or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_forming_command_forms() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let log = open(&path, 1, true, Arc::new(Alone), Arc::new(Witness::default())).await;
    let log = log.expect("it opens");
    for wrong in [chatter(1), form(2)] {
        assert!(matches!(log.form(wrong).await, Err(FormError::NotForming(_))));
    }
    assert_eq!(
        log.propose(chatter(1)).await,
        Err(ProposeError::NotLeader { leader: None }),
        "a member without a log leads nobody"
    );
    log.form(form(1)).await.expect("the right one forms");
    log.shutdown().await;
}

/// Marks and snapshots come back as they were.
#[tokio::test]
async fn marks_and_snapshots_are_kept() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("cluster.db");
    let mut store = Store::open(&path, identity(1), true).expect("a new store");
    store.blocking_append((0..50).map(|at| entry(2, at))).await.expect("written");
    store.save_committed(Some(position(2, 44))).await.expect("marked");
    store.purge(position(2, 9)).await.expect("purged");
    let mut state = ClusterState::default();
    state.apply(2, &form(1));
    let meta =
        SnapshotMeta { last_log_id: Some(position(2, 40)), last_membership: Members::default() };
    let snapshot = Snapshot { meta: meta.clone(), snapshot: Arc::new(state.clone()) };
    store.save(snapshot).await.expect("saved");
    store.close().await.expect("closed");

    let mut again = Store::open(&path, identity(1), false).expect("it reopens");
    assert_eq!(again.read_committed().await.expect("readable"), Some(position(2, 44)));
    let log = again.get_log_state().await.expect("readable");
    assert_eq!(log.last_purged_log_id, Some(position(2, 9)));
    assert_eq!(log.last_log_id, Some(position(2, 49)));
    let entries = again.try_get_log_entries(..).await.expect("readable");
    assert_eq!(entries.first().map(RaftEntry::log_id), Some(position(2, 10)));
    let snapshot = again.newest().expect("there is one");
    assert_eq!(snapshot.meta, meta);
    assert_eq!(*snapshot.snapshot, state);
}
