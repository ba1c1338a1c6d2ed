//! How many records a second the history takes, beside plain SQLite with the same rows.
//!
//! Both write the same records into a file in the directory given as the first argument (default:
//! the directory for temporary files), wait until each batch is durable (`synchronous=FULL`), and
//! take turns, so that a disk that gets slower slows both. The history also checks every record's
//! hash, checks and stores the link, has four indexes and three triggers, and hands records to
//! another thread; plain SQLite has three indexes and nothing else.
//!
//! `cargo run --release -p vedette-collector --example history_bench [DIRECTORY]`

#![allow(clippy::print_stdout, reason = "a program for a terminal")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rusqlite::{Connection, params};
use vedette_collector::history::History;
use vedette_core::id::{Hash, NodeNumber};
use vedette_core::model::Severity;
use vedette_core::record::{Code, Record, Subject};
use vedette_core::time::WallTime;

type Failure = Box<dyn std::error::Error>;

/// Turns of each side, for each size of batch.
const TURNS: usize = 7;

fn main() -> Result<(), Failure> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let directory = tempfile::tempdir_in(place)?;
    println!("batch  history/s  plain/s  ratio  (median of {TURNS} turns; least to most)");
    for (batch, total) in [(1, 1_000), (10, 5_000), (100, 30_000), (1_000, 60_000)] {
        compare(directory.path(), batch, total)?;
    }
    Ok(())
}

fn compare(directory: &Path, batch: usize, total: u64) -> Result<(), Failure> {
    let records = records(total);
    let (mut ours, mut plain) = (Vec::new(), Vec::new());
    for turn in 0..TURNS {
        let name = |side: &str| directory.join(format!("{side}-{batch}-{turn}.db"));
        ours.push(rate(total, time_history(&name("history"), &records, batch)?));
        plain.push(rate(total, time_plain(&name("plain"), &records, batch)?));
    }
    let (ours, plain) = (spread(ours), spread(plain));
    println!(
        "{batch:5}  {:9.0}  {:7.0}  {:5.2}  ({:.0} to {:.0}; {:.0} to {:.0})",
        ours[1],
        plain[1],
        ours[1] / plain[1],
        ours[0],
        ours[2],
        plain[0],
        plain[2]
    );
    Ok(())
}

fn rate(total: u64, took: Duration) -> f64 {
    total as f64 / took.as_secs_f64()
}

/// Least, median, most.
fn spread(mut rates: Vec<f64>) -> [f64; 3] {
    rates.sort_by(f64::total_cmp);
    [rates[0], rates[rates.len() / 2], rates[rates.len() - 1]]
}

fn time_history(path: &Path, records: &[Arc<Record>], batch: usize) -> Result<Duration, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let history = History::open(path)?;
    let mut durable = history.durable();
    let began = Instant::now();
    runtime.block_on(async {
        for batch in records.chunks(batch) {
            history.append(batch.iter().cloned())?;
            let last = batch.last().map_or(0, |record| record.seq);
            durable.wait_for(|head| head.seq >= last).await?;
        }
        Ok::<_, Failure>(())
    })?;
    Ok(began.elapsed())
}

fn time_plain(path: &Path, records: &[Arc<Record>], batch: usize) -> Result<Duration, Failure> {
    let mut connection = Connection::open(path)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.execute_batch(
        "CREATE TABLE record (seq INTEGER PRIMARY KEY, log_index INTEGER, at INTEGER, code TEXT,
            severity INTEGER, subject_kind TEXT, subject_node INTEGER, subject_peer INTEGER,
            subject_network INTEGER, subject_name TEXT, previous TEXT, current TEXT, cause TEXT,
            message TEXT, incident INTEGER, origin INTEGER, actor TEXT, alert INTEGER,
            test INTEGER, hash BLOB) STRICT;
         CREATE INDEX record_at ON record (at);
         CREATE INDEX record_code ON record (code);
         CREATE INDEX record_severity ON record (severity);",
    )?;
    let began = Instant::now();
    for batch in records.chunks(batch) {
        let transaction = connection.transaction()?;
        for record in batch {
            insert_plain(&transaction, record)?;
        }
        transaction.commit()?;
    }
    Ok(began.elapsed())
}

fn insert_plain(connection: &Connection, record: &Record) -> rusqlite::Result<()> {
    let (node, peer, network) = record.subject.numbers();
    connection
        .prepare_cached("INSERT INTO record VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?,?)")?
        .execute(params![
            record.seq as i64,
            record.index as i64,
            record.at.0,
            record.code.name(),
            record.severity.code(),
            record.subject.kind(),
            node,
            peer,
            network,
            record.subject_name,
            record.previous,
            record.current,
            record.cause,
            record.message,
            record.incident.map(|index| index as i64),
            record.origin.0,
            record.actor,
            record.alert,
            record.test,
            record.hash.0,
        ])?;
    Ok(())
}

/// Records such as a node that comes and goes makes.
fn records(total: u64) -> Vec<Arc<Record>> {
    let mut link = Hash::default();
    let next = |seq| {
        let mut record = record(seq);
        record.hash = record.chained(link);
        link = record.hash;
        Arc::new(record)
    };
    (1..=total).map(next).collect()
}

fn record(seq: u64) -> Record {
    Record {
        seq,
        index: seq,
        at: WallTime(1_767_225_600_000_000 + seq as i64 * 250),
        code: Code::ALL[(seq % Code::ALL.len() as u64) as usize],
        severity: Severity::ALL[(seq % 4) as usize],
        subject: Subject::Node(NodeNumber((seq % 32 + 1) as u16)),
        subject_name: format!("node{:02}", seq % 32 + 1),
        previous: "UP".into(),
        current: "DOWN".into(),
        cause: "no beat for 1,000 ms on neta and netb; seen by n1, n2 and n3".into(),
        message: format!("node node{:02} is DOWN", seq % 32 + 1),
        incident: seq.is_multiple_of(8).then_some(seq),
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
