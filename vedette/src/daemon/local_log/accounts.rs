//! Accounts for local records in everybody's history, whenever this node is part of a quorum.
//!
//! The state says how far the account is; what lies behind that is proposed, some at a time, until the
//! state says that it is there. A repeat is harmless, so nothing is remembered but that. Ages are those of
//! the attempt, not of when the account fell due: an attempt may wait for a leader.

use std::sync::Arc;
use std::time::Duration;

use vedette_core::command::{AGENT, Account, AccountEntry, Command};
use vedette_core::id::Hash;
use vedette_core::local::LocalRecord;
use vedette_core::model::AgentStatus;
use vedette_core::view::View;

use super::super::director_task::fresh_id;
use super::super::proposer::{Proposer, Reading, ahead_of_entries};
use super::LocalLog;

/// The pause before an account that got no answer is given again.
const AGAIN: Duration = Duration::from_millis(300);

/// Runs until the process ends.
pub(crate) async fn run(log: LocalLog, proposer: Proposer) {
    let mut views = log.0.publisher.views();
    let mut told = log.history().told();
    let mut compared = false;
    loop {
        let view = views.borrow_and_update().clone();
        told.borrow_and_update();
        compared = compared || log.compare(&view);
        if compared {
            log.settle(&view);
        }
        let due = if compared { log.due(&view) } else { Vec::new() };
        if let Some(upto) = due.last().map(|record| record.number) {
            let account = |reading| Command::Account(log.account(&view, &due, reading));
            if let Err(refusal) = proposer.propose_aged(fresh_id(), AGENT, account).await {
                tracing::debug!(%refusal, upto, "an account of local records waits");
                tokio::time::sleep(AGAIN).await;
            }
            let now = views.borrow().clone();
            log.settle(&now);
            if log.history().journal_health().accounted < upto {
                // Taken, perhaps, and not applied here yet: proposed again at once, it would fill the log.
                let _ = tokio::time::timeout(AGAIN, views.changed()).await;
            }
            continue;
        }
        tokio::select! {
            changed = views.changed() => if changed.is_err() { return },
            changed = told.changed() => if changed.is_err() { return },
        }
    }
}

impl LocalLog {
    /// Compares the journal with what the cluster has taken of it, before this run gives its first account:
    /// an older file that was put back looks whole. Answers whether the state is recent enough for that.
    fn compare(&self, view: &View) -> bool {
        // A log that is behind may say that less was taken than was.
        if !view.local.knows() || view.local.agent != AgentStatus::Running {
            return false;
        }
        let Some(own) = view.state.nodes.get(&self.0.me) else { return false };
        let known = own.accounted;
        let history = self.history();
        if known.journal == history.journal_id() && history.journal_branch(known.number) {
            let cause = format!(
                "the cluster has taken {} local records of it, and its file had {}: an older one was put \
                 back, or the disk lost what was written",
                known.number,
                history.journal_begins_after()
            );
            tracing::warn!(%cause, "the journal of this node had lost its end, and goes on as another one");
        }
        true
    }

    /// The records of the next account, if one may be given.
    fn due(&self, view: &View) -> Vec<Arc<LocalRecord>> {
        let member = view.state.nodes.contains_key(&self.0.me);
        if !view.local.quorate || view.local.agent != AgentStatus::Running || !member {
            return Vec::new();
        }
        self.history().local_pending(Account::MOST)
    }

    /// The account of these records, by clocks that were read just now.
    fn account(&self, view: &View, due: &[Arc<LocalRecord>], reading: Reading) -> Account {
        Account {
            node: self.0.me,
            journal: self.history().journal_id(),
            begins_after: self.history().journal_begins_after(),
            entries: entries(due, self.0.boot, reading.own_us),
            clock_offset_ms: ahead_of_entries(view).map(|ahead_us| ahead_us / 1_000),
            read: Some(reading.leader),
        }
    }

    /// Takes note of what the state says is accounted for.
    fn settle(&self, view: &View) {
        let Some(own) = view.state.nodes.get(&self.0.me) else { return };
        let known = self.history().journal_health().accounted;
        if own.accounted.journal == self.history().journal_id() && own.accounted.number > known {
            self.history().local_accounted(own.accounted.number);
            self.show();
        }
    }
}

/// The records with their ages at `now_us`, where the clock of this start of the machine tells them.
fn entries(records: &[Arc<LocalRecord>], boot: Hash, now_us: u64) -> Vec<AccountEntry> {
    let age_ms = |record: &LocalRecord| {
        let same = record.stamp.boot == boot;
        same.then(|| now_us.saturating_sub(record.stamp.uptime_us) / 1_000)
    };
    records
        .iter()
        .map(|record| AccountEntry { age_ms: age_ms(record), record: LocalRecord::clone(record) })
        .collect()
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::{Fixture, alone};
    use vedette_core::id::NodeNumber;

    use super::*;

    /// An attempt seconds after the account fell due says ages that are so much greater, and none of records
    /// from before the machine was started.
    #[test]
    fn ages_are_those_of_the_attempt() {
        let view = alone(&Fixture::settled(3), NodeNumber(1));
        let record = view.local.journal.first().expect("a node alone has a journal").clone();
        let (boot, since) = (record.stamp.boot, record.stamp.uptime_us);
        let age = |boot, now_us| entries(std::slice::from_ref(&record), boot, now_us)[0].age_ms;
        assert_eq!(age(boot, since + 40_000), Some(40));
        assert_eq!(age(boot, since + 3_040_000), Some(3_040));
        assert_eq!(age(Hash::of(b"another start"), since + 40_000), None);
    }
}
