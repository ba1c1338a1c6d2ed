//! Runs the alert script for what this node has claimed, and for tests (spec A14, A15).
//!
//! What is to be run stands in the replicated state, so a restarted agent or a new director finds
//! it there. One alert at a time; a test does not wait for alerts.
//!
//! Whatever a run on this node was for, how it ended says whether the script works here
//! ([`LocalLog::script_ended`]): a script that fails pages nobody, so the node says that itself.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use vedette_collector::alerts::{AlertInput, Limits, Scope, run, test_record};
use vedette_core::command::{AGENT, Command};
use vedette_core::id::{NodeNumber, Session};
use vedette_core::model::RunOutcome;
use vedette_core::record::{Record, Subject};
use vedette_core::state::ClusterState;
use vedette_node::transcript::{Heading, Kind, Transcripts};

use super::director_task::fresh_id;
use super::local_log::LocalLog;
use super::proposer::Proposer;
use super::publisher::Publisher;

/// What the runner needs.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) me: NodeNumber,
    pub(crate) session: Session,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) script: Script,
}

/// How this node calls the alert script.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) user: Option<String>,
    pub(crate) mail_to: Option<String>,
    pub(crate) log: PathBuf,
    /// Where is kept what it prints.
    pub(crate) transcripts: Transcripts,
    /// Where it is said that the script fails on this node.
    pub(crate) local: LocalLog,
}

/// What the script is told of: a record of everybody's history, or one of this node's own.
pub(crate) struct Call {
    pub(crate) scope: Scope,
    /// The node that runs the script.
    pub(crate) member: NodeNumber,
    /// The node that the record is about; empty if it is about none.
    pub(crate) node: String,
    pub(crate) record: Record,
    pub(crate) attempt: u32,
}

impl Script {
    /// Runs the version in force, says so if that failed, and answers how it ended.
    pub(crate) async fn call(&self, state: &ClusterState, call: Call) -> RunOutcome {
        let version = state.script.active;
        let script = state.script.versions.get(&version).map(|version| version.text.clone());
        let what = format!("alert script, record {}", call.record.seq);
        let heading = Heading {
            event: call.record.event,
            incident: call.record.incident,
            ..Heading::new(Kind::Alert, what)
        };
        let input = AlertInput {
            scope: call.scope,
            node: call.node,
            record: call.record,
            member: state.node_name(call.member),
            cluster: state.name.clone(),
            attempt: call.attempt,
            version,
            mail_to: self.mail_to.clone(),
            log: Some(self.log.clone()),
            tape: Some(self.transcripts.tape(heading)),
        };
        let limits = Limits {
            timeout: Duration::from_millis(state.settings.alert_timeout_ms),
            user: self.user.clone(),
            ..Limits::default()
        };
        let outcome = run(script.as_deref(), &input, &limits).await;
        self.local.script_ended(&outcome);
        outcome
    }
}

/// A piece of work, named so that it is begun once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Work {
    /// An alert, by the sequence number of its record, and which attempt it is.
    Alert(u64, u32),
    /// A test, by its id.
    Test(u64),
}

impl Runner {
    /// Runs until the process ends.
    pub(crate) async fn run(self) {
        let mut views = self.publisher.views();
        let mut begun = BTreeSet::new();
        let (done, mut finished) = mpsc::channel::<Work>(64);
        loop {
            let state = views.borrow_and_update().state.clone();
            let work = self.work(&state);
            // What is no longer to be done need not be remembered.
            begun.retain(|item| work.contains(item));
            for item in work {
                if begun.insert(item) {
                    let (runner, state, done) = (self.clone(), state.clone(), done.clone());
                    tokio::spawn(async move {
                        runner.perform(&state, item).await;
                        let _ = done.send(item).await;
                    });
                }
            }
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                Some(_) = finished.recv() => {}
            }
        }
    }

    /// What in this state is this node's to run.
    fn work(&self, state: &ClusterState) -> BTreeSet<Work> {
        let mine = Some((self.me, self.session));
        let alerts = state.alerts.iter().filter(|(_, alert)| alert.claim == mine);
        let tests = state
            .tests
            .values()
            .filter(|test| test.members.get(&self.me).is_some_and(Option::is_none));
        alerts
            .map(|(seq, alert)| Work::Alert(*seq, alert.attempts))
            .chain(tests.map(|test| Work::Test(test.id)))
            .collect()
    }

    async fn perform(&self, state: &ClusterState, work: Work) {
        let command = match work {
            Work::Alert(seq, attempt) => {
                let Some(alert) = state.alerts.get(&seq) else { return };
                let outcome = self.call(state, alert.record.clone(), attempt).await;
                Command::FinishAlert { seq, runner: self.me, session: self.session, outcome }
            }
            Work::Test(id) => {
                let Some(test) = state.tests.get(&id) else { return };
                let outcome = self.call(state, test_record(test, self.me), 1).await;
                Command::FinishAlertTest { id, node: self.me, outcome }
            }
        };
        let proposal = self.proposer.proposal(fresh_id(), AGENT, command);
        // Without a majority the outcome cannot be recorded yet; it must not be lost.
        while let Err(refusal) = self.proposer.propose(proposal.clone()).await {
            tracing::debug!(%refusal, "the outcome of the alert script waits for a majority");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    async fn call(&self, state: &ClusterState, record: Record, attempt: u32) -> RunOutcome {
        let node = match record.subject {
            Subject::Node(node) | Subject::Interface(node, _) => state.node_name(node),
            _ => String::new(),
        };
        let call = Call { scope: Scope::Cluster, member: self.me, node, record, attempt };
        self.script.call(state, call).await
    }
}
