//! Accounts for local records in everybody's history, whenever this node is part of a quorum.
//!
//! The state says how far the account is; what lies behind that is proposed, some at a time, until the
//! state says that it is there. A repeat is harmless, so nothing is remembered but that.

use std::time::Duration;

use vedette_core::command::{Account, AccountEntry, Command};
use vedette_core::local::LocalRecord;
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;
use vedette_core::view::View;

use super::super::office::fresh_id;
use super::super::proposer::Proposer;
use super::LocalLog;
use super::clocks::boot_time_us;

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
        if let Some(account) = log.due(&view).filter(|_| compared) {
            let upto = account.entries.last().map_or(0, |entry| entry.record.number);
            let proposal = proposer.proposal(fresh_id(), "agent", Command::Account(account));
            if let Err(refusal) = proposer.propose(proposal).await {
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

    /// The next account, if one may be given.
    fn due(&self, view: &View) -> Option<Account> {
        if !view.local.quorate || view.local.agent != AgentStatus::Running {
            return None;
        }
        let state = &view.state;
        state.nodes.get(&self.0.me)?;
        let pending = self.history().local_pending(Account::MOST);
        if pending.is_empty() {
            return None;
        }
        let now_us = boot_time_us();
        let entry = |record: &LocalRecord| AccountEntry {
            age_ms: (record.stamp.boot == self.0.boot)
                .then(|| now_us.saturating_sub(record.stamp.uptime_us) / 1_000),
            record: record.clone(),
        };
        Some(Account {
            node: self.0.me,
            journal: self.history().journal_id(),
            begins_after: self.history().journal_begins_after(),
            entries: pending.iter().map(|record| entry(record)).collect(),
            clock_offset_ms: view.local.report.as_deref().and_then(|it| self.offset(it, view)),
        })
    }

    /// How far this node's clock is ahead of the director's.
    fn offset(&self, report: &Report, view: &View) -> Option<i64> {
        let director = view.state.director.filter(|director| *director != self.0.me)?;
        let peer = report.peers.iter().find(|peer| peer.peer == director)?;
        peer.clock_offset_us.map(|offset| -offset / 1_000)
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
