//! Runs the alert script on this node for its own local records (`VEDETTE_ALERT_SCOPE=node`).
//!
//! Nobody else knows of them yet, and nobody can be asked: whoever sees it tells it. The cursor is kept
//! in the history's database, so each record has the script run at least once, and once as long as
//! nobody dies in the middle.

use std::sync::Arc;

use vedette_collector::alerts::Scope;
use vedette_collector::history::History;
use vedette_core::local::LocalRecord;
use vedette_core::model::RunOutcome;
use vedette_core::record::{Code, Record};

use super::super::alerts::{Call, Script};
use super::LocalLog;

/// Runs the script.
pub(crate) struct Runner(pub(crate) Script);

impl Runner {
    /// Runs until the process ends.
    pub(crate) async fn run(self, log: LocalLog) {
        let history = log.history().clone();
        let mut told = history.told();
        loop {
            told.borrow_and_update();
            let cursor = cursor_of(history.journal_id());
            let done = done(&history);
            history.set_cursor(&cursor, done);
            let waiting: Vec<Arc<LocalRecord>> =
                history.local_recent().iter().filter(|it| it.number > done).cloned().collect();
            for record in waiting {
                if record.content.alert {
                    let outcome = self.call(&log, &record).await;
                    self.judge(&log, &outcome);
                }
                history.set_cursor(&cursor, record.number);
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    }

    async fn call(&self, log: &LocalLog, record: &LocalRecord) -> RunOutcome {
        let (state, member) = (log.state(), log.0.me);
        let (node, record) = (state.node_name(member), as_record(log, record));
        self.0.call(&state, Call { scope: Scope::Node, member, node, record, attempt: 1 }).await
    }

    /// A script that fails is a condition of this node.
    fn judge(&self, log: &LocalLog, outcome: &RunOutcome) {
        let failed = (!outcome.succeeded()).then(|| outcome.summary());
        log.condition(Code::AlertScriptFailing, failed);
    }
}

fn cursor_of(journal: u64) -> String {
    format!("journal.alerts.{journal:016x}")
}

/// The number up to which the script ran. A journal that became a branch goes on where the other one was;
/// of one without a cursor, what an earlier run left behind was told by that run: the cursor is written
/// with the first entries.
fn done(history: &History) -> u64 {
    let known = |journal: u64| history.known_cursor(&cursor_of(journal));
    let before = || history.journal_branch_of().and_then(known);
    let left_behind = || history.journal_health().opened;
    known(history.journal_id()).or_else(before).unwrap_or_else(left_behind)
}

/// A local record in the form that the script knows.
fn as_record(log: &LocalLog, record: &LocalRecord) -> Record {
    let content = &record.content;
    Record {
        seq: record.number,
        index: log.state().revision,
        at: record.stamp.at,
        code: content.code,
        severity: content.severity,
        subject: content.subject,
        subject_name: content.subject_name.clone(),
        previous: String::new(),
        current: content.phase.name().into(),
        cause: content.cause.clone(),
        message: content.message.clone(),
        incident: None,
        origin: log.0.me,
        actor: "agent".into(),
        alert: true,
        test: false,
        event: None,
        node: Some(log.0.me),
        duration_ms: content.duration_ms,
        elapsed_ms: 0,
        told: None,
        hash: record.hash,
    }
}
