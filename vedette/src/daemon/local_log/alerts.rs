//! Runs the alert script on this node for its own local records (`VEDETTE_ALERT_SCOPE=node`).
//!
//! Nobody else knows of them yet, and nobody can be asked: whoever sees it tells it. The cursor is kept
//! in the history's database, so each record has the script run at least once, and once as long as
//! nobody dies in the middle.

use std::sync::Arc;

use vedette_collector::alerts::Scope;
use vedette_collector::history::History;
use vedette_core::command::AGENT;
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
                    self.call(&log, &record).await;
                }
                history.set_cursor(&cursor, record.number);
            }
            if told.changed().await.is_err() {
                return;
            }
        }
    }

    async fn call(&self, log: &LocalLog, record: &LocalRecord) {
        let (state, member) = (log.state(), log.0.me);
        let (node, record) = (state.node_name(member), as_record(log, record));
        self.0.call(&state, Call { scope: Scope::Node, member, node, record, attempt: 1 }).await;
    }
}

impl LocalLog {
    /// A script that fails on this node is a condition of it, whatever it was run for: an alert of the
    /// cluster, a local record, or a test. The next run that succeeds ends the condition, and nothing else.
    pub(crate) fn script_ended(&self, outcome: &RunOutcome) {
        let failed = (!outcome.succeeded()).then(|| outcome.summary());
        self.condition(Code::AlertScriptFailing, failed);
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
        actor: AGENT.into(),
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

#[cfg(test)]
mod tests {
    use vedette_collector::alerts::test_record;
    use vedette_core::id::Hash;
    use vedette_core::local::Phase;
    use vedette_core::model::{AlertTest, ScriptVersion, Severity};
    use vedette_core::state::ClusterState;
    use vedette_core::time::WallTime;
    use vedette_node::transcript::Transcripts;

    use super::super::testing::{N1, Node};
    use super::*;

    /// Puts another version of the script in force, which does nothing but end with that status.
    fn put_in_force(state: &mut ClusterState, exit: i32) {
        let text = format!("#!/bin/sh\nexit {exit}\n");
        let version = ScriptVersion {
            sha256: Hash::of(text.as_bytes()),
            text,
            author: "root".into(),
            comment: String::new(),
            at: WallTime(0),
        };
        state.script.active += 1;
        state.script.versions.insert(state.script.active, version);
    }

    /// Runs the script in force as whoever has an alert of that scope does.
    async fn run(node: &Node, scope: Scope) {
        let log = std::env::temp_dir().join("vedette-no-log");
        let folder = tempfile::tempdir().unwrap();
        let transcripts = Transcripts::new(folder.path(), "n1");
        let local = node.log.clone();
        let script = Script { user: None, mail_to: None, log, transcripts, local };
        let test = AlertTest {
            id: 1,
            at: WallTime(0),
            actor: "root".into(),
            message: "somebody is DOWN".into(),
            severity: Severity::Error,
            members: [(N1, None)].into(),
        };
        let record = test_record(&test, N1);
        let call = Call { scope, member: N1, node: "n1".into(), record, attempt: 1 };
        script.call(&node.state, call).await;
    }

    /// A run that fails pages nobody, whatever it was for; it is said on the node that ran it. A script that
    /// was replaced is not believed before a run of the new one succeeded, whatever that one is for.
    #[tokio::test]
    async fn a_script_that_fails_is_told_until_a_run_of_any_scope_succeeds() {
        for (failing, succeeding) in [
            (Scope::Cluster, Scope::Cluster),
            (Scope::Cluster, Scope::Node),
            (Scope::Node, Scope::Cluster),
        ] {
            let mut node = Node::new();
            put_in_force(&mut node.state, 0);
            run(&node, failing).await;
            assert_eq!(node.conditions(), []);
            put_in_force(&mut node.state, 5);
            run(&node, failing).await;
            let fails = [(Code::AlertScriptFailing, "exit status 5".to_owned())];
            assert_eq!(node.conditions(), fails, "{failing:?}");
            put_in_force(&mut node.state, 0);
            node = node.restart();
            assert_eq!(node.conditions(), fails, "nothing ran since");
            run(&node, succeeding).await;
            assert_eq!(node.conditions(), [], "{succeeding:?}");
            let phases: Vec<Phase> = node.told().into_iter().map(|it| it.0).collect();
            assert_eq!(phases, [Phase::Raised, Phase::Cleared]);
        }
    }
}
