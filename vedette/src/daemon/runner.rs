//! Does what the state says is this node's work: approvals, phases of recovery programs,
//! verifications, fencing, clearing up.
//!
//! What is to be begun and given up is said by the core's [`Machine`]; here is how each thing is done. Its answer is a
//! command that must not be lost: it is proposed until somebody decides it.

mod command;
mod enclosure;
mod environment;
mod fence;
mod leftover;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use vedette_core::command::{AGENT, Command, ConfigCommand, GroupCommand, ManagerCommand};
use vedette_core::event::CommandOutcome;
use vedette_core::id::{NodeNumber, Session};
use vedette_core::model::LogTiming;
use vedette_core::runner::{Output, Runner as Machine};
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::Instant;
use vedette_core::trigger::Trigger;
use vedette_core::work::Task;
use vedette_node::identity::StateDir;
use vedette_node::join::PeerSet;
use vedette_node::transcript::{Heading, Kind};

use super::director_task::fresh_id;
use super::executor::{self, Executor, ResourceOps};
use super::leave;
use super::proposer::Proposer;
use super::publisher::Publisher;
use super::{peer_set, verify};

use enclosure::Enclosure;
pub(crate) use environment::{Place, verbosity};

/// The pause before an answer that found no majority is proposed again.
const AGAIN: Duration = Duration::from_millis(100);

/// What the runner needs.
#[derive(Clone)]
pub(crate) struct Runner {
    pub(crate) me: NodeNumber,
    pub(crate) session: Session,
    pub(crate) proposer: Proposer,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) executor: Executor,
    pub(crate) ops: ResourceOps,
    /// Where the program and its socket are, for scripts.
    pub(crate) place: Place,
    /// The folder of the event scripts.
    pub(crate) events: PathBuf,
    /// This node's own.
    pub(crate) state_dir: PathBuf,
    /// The timers that its log was opened with.
    pub(crate) log_timing: LogTiming,
    /// Where the agent is told to begin anew.
    pub(crate) renew: mpsc::Sender<()>,
}

/// What a task of the process tells the one that began it.
enum Told {
    /// A task is over.
    Done,
    /// What this node says of its manager was decided.
    Presented,
}

impl Runner {
    /// Runs until the process ends.
    pub(crate) async fn run(self) {
        let control = self.place.control.clone();
        let ended = tokio::task::spawn_blocking(move || leftover::end(&control)).await;
        if let Ok(ended @ 1..) = ended {
            tracing::warn!(ended, "event scripts of an earlier agent still ran, and were ended");
        }
        enclosure::tidy(self.ops.cgroup.as_deref());
        let mut views = self.publisher.views();
        let mut news = self.executor.news();
        let mut machine = Machine::new(self.me, self.session, self.log_timing);
        let mut begun = BTreeMap::new();
        let (tell, mut told) = mpsc::channel(64);
        let runner = Arc::new(self);
        loop {
            let view = views.borrow_and_update().clone();
            news.borrow_and_update();
            let (guard, mut out) = (runner.executor.guard(), Vec::new());
            let now = runner.executor.moment();
            machine.look(now, &executor::seen(&view), guard.as_ref(), &mut out);
            for output in out {
                runner.clone().carry_out(output, &view.state, &mut begun, tell.clone());
            }
            let patience = [machine.deadline(), runner.executor.patience_ends()];
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                changed = news.changed() => if changed.is_err() { return },
                // The state may have come before the task was over.
                Some(told) = told.recv() => if let Told::Presented = told {
                    machine.presented(executor::now());
                },
                () = wait_until(patience.into_iter().flatten().min()) => {}
            }
        }
    }

    fn carry_out(
        self: Arc<Self>,
        output: Output,
        state: &Arc<ClusterState>,
        begun: &mut BTreeMap<u64, AbortHandle>,
        tell: mpsc::Sender<Told>,
    ) {
        match output {
            Output::Begin { id, task } => {
                let work = self.perform(state.clone(), task);
                let handle = tokio::spawn(async move {
                    work.await;
                    let _ = tell.send(Told::Done).await;
                });
                begun.retain(|_, handle| !handle.is_finished());
                begun.insert(id, handle.abort_handle());
            }
            // Its processes end with it.
            Output::GiveUp { id } => drop(begun.remove(&id).map(|handle| handle.abort())),
            Output::Present(present) => {
                tokio::spawn(async move {
                    insist(&self.proposer, Command::Manager(*present)).await;
                    let _ = tell.send(Told::Presented).await;
                    leave::start_again(&self.state_dir, &self.proposer, self.me).await;
                });
            }
        }
    }

    /// Lets the agent end, to be started again with the timers in force. They are read from the disk
    /// then, so nothing is gained before they are there.
    async fn renew(&self) {
        let wanted = |known: PeerSet| known.settings.timing.log();
        let on_disk = || peer_set::last_known(&StateDir::new(&self.state_dir));
        loop {
            let log = self.publisher.state().settings.timing.log();
            if on_disk().ok().flatten().map(wanted) == Some(log) {
                let _ = self.renew.send(()).await;
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    async fn perform(self: Arc<Self>, state: Arc<ClusterState>, task: Task) {
        let node = self.me;
        let command = match task {
            Task::Approve { event } => Command::Manager(ManagerCommand::Approve { event, node }),
            Task::Run { event, phase, attempt, commands } => {
                let outcomes = self.phase(&state, event, commands).await;
                let ran = ManagerCommand::Ran { event, phase, attempt, node, outcomes };
                Command::Manager(ran)
            }
            // The executor reports what became of it by itself.
            Task::CleanUp { group, token } => return self.executor.clean_up(group, token).await,
            Task::Renew => return self.renew().await,
            Task::Verify { proposal } => {
                let report = self.publisher.views().borrow().local.report.clone();
                let verify::Found { findings, warnings } =
                    verify::pending(&self.ops, &state, report.as_deref()).await;
                Command::Config(ConfigCommand::Verified { proposal, node, findings, warnings })
            }
            Task::Fence { node: whom, attempt } => {
                let outcome = fence::call(&state, whom, &self.ops.transcripts).await;
                Command::Group(GroupCommand::Fenced { node: whom, by: node, attempt, outcome })
            }
        };
        insist(&self.proposer, command).await;
    }

    /// Runs this node's commands of a phase, all at once.
    async fn phase(
        &self,
        state: &Arc<ClusterState>,
        event: u64,
        commands: Vec<(usize, String)>,
    ) -> Vec<CommandOutcome> {
        let running = state.manager.begun().find(|running| running.event.id == event);
        let Some(running) = running else { return Vec::new() };
        let limit = state.definition.manager.command_timeout_ms;
        let limit = running.time_limit_ms.map_or(limit, |own| own.min(limit));
        let enclosed = matches!(running.event.trigger, Trigger::User { .. });
        let root = self.ops.cgroup.as_deref().filter(|_| enclosed);
        let runs = commands.into_iter().map(|(index, line)| {
            let environment = environment::of(state, running, self.me, index, &self.place);
            let expected = running.program.phases.get(running.phase).and_then(|p| p.get(index));
            let heading = Heading {
                event: Some(event),
                incident: Some(running.event.incident),
                ..Heading::new(Kind::Event, line.clone())
            };
            command::Step {
                index,
                line,
                expected: expected.and_then(|line| line.expected),
                environment,
                hooks: state.definition.hooks.get(running.event.trigger.name()).cloned(),
                limit: Duration::from_millis(limit),
                scripts: self.events.clone(),
                enclosure: Enclosure::new(root, (event, running.phase, running.attempt, index)),
                tape: Some(self.ops.transcripts.tape(heading)),
                traces: state.definition.manager.verbose,
            }
            .run()
        });
        futures_util::future::join_all(runs).await
    }
}

/// Waits for a moment; for ever if there is none.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep(at.since(executor::now())).await,
        None => std::future::pending().await,
    }
}

/// Proposes until somebody decides. Without a majority the answer waits; it must not be lost.
pub(crate) async fn insist(proposer: &Proposer, command: Command) {
    let proposal = proposer.proposal(fresh_id(), AGENT, command);
    loop {
        match proposer.propose(proposal.clone()).await {
            Ok(Outcome::Refused(refusal)) => {
                tracing::warn!(%refusal, "an answer of this node was refused");
                return;
            }
            Ok(Outcome::Applied { .. } | Outcome::Repeated { .. }) => return,
            Err(refusal) => tracing::debug!(%refusal, "an answer waits for a majority"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
