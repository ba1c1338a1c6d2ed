//! The writer: one thread, one connection, one transaction for all that waits.
//!
//! Group commit is what makes durability cheap: while one transaction waits for the disk, more
//! records come, and the next transaction takes them all.

use std::time::Duration;

use rusqlite::{Connection, TransactionBehavior};

use super::inbox::{Shared, Work};
use super::tail::Tail;
use super::{journal, row};

/// How many records go into one transaction at most, so that the first need not wait long for
/// the last.
pub const MOST_IN_A_COMMIT: usize = 1_000;

/// How long to wait before a disk that refused is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Writes until the history is closed.
pub(super) fn run(mut connection: Connection, tail: &Tail, shared: &Shared) {
    while let Some(work) = shared.next(MOST_IN_A_COMMIT) {
        if let Some((journal, number)) = work.locals.last().map(journal::Linked::place) {
            tail.write(journal, number);
        }
        match write(&mut connection, &work) {
            Ok(()) => shared.written(&work),
            Err(error) => {
                if !shared.failed(work, &error.to_string(), RETRY) {
                    return;
                }
            }
        }
    }
}

/// Dropping the transaction on an error rolls it back: all of the work, or nothing.
fn write(connection: &mut Connection, work: &Work) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    {
        let mut insert = transaction.prepare_cached(row::INSERT)?;
        for linked in &work.records {
            row::insert(&mut insert, &linked.record, linked.link)?;
        }
        let mut cursor =
            transaction.prepare_cached("INSERT OR REPLACE INTO cursor VALUES (?1, ?2)")?;
        journal::insert(&mut journal::statement(&transaction)?, &work.locals)?;
        for (name, seq) in &work.cursors {
            cursor.execute((name, *seq as i64))?;
        }
    }
    transaction.commit()
}
