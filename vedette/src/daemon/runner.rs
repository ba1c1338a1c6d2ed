//! Does what the state says is this node's work: approvals, phases of recovery programs,
//! verifications, fencing, clearing up.
//!
//! `vedette_core::work::tasks` says what there is to do; nothing is handed to anybody, so a restarted
//! agent finds the same tasks in the state and does them again. A task is begun once; one that the
//! state no longer knows is given up, with its processes. The answer of a task is a command that must
//! not be lost: it is proposed until somebody decides it.
//!
//! Work is taken from a state of now only: while the log is being replayed, or without a majority,
//! what the state asks for may be long over. Clearing up is the exception, as letting go is always
//! safe. What was begun goes on for a while (the detection time) without a majority: when a director is
//! lost in the middle of a program, nobody's script is killed for that and started again.

mod command;
mod enclosure;
mod environment;
mod fence;
mod leftover;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use vedette_core::command::{AGENT, Command, ConfigCommand, GroupCommand, ManagerCommand};
use vedette_core::event::CommandOutcome;
use vedette_core::id::{NodeNumber, Session};
use vedette_core::model::{AgentStatus, LogTiming};
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::trigger::Trigger;
use vedette_core::view::View;
use vedette_core::work::{self, Task};
use vedette_node::identity::StateDir;
use vedette_node::join::Surroundings;
use vedette_node::transcript::{Heading, Kind};

use super::executor::{Executor, GuardFacts, Hands};
use super::leave;
use super::office::fresh_id;
use super::proposer::Proposer;
use super::publisher::Publisher;
use super::{surroundings, verify};

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
    pub(crate) hands: Hands,
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

/// Tasks that were begun, and whether each still runs.
type Begun = BTreeMap<Task, AbortHandle>;

impl Runner {
    /// Runs until the process ends.
    pub(crate) async fn run(self) {
        let control = self.place.control.clone();
        let ended = tokio::task::spawn_blocking(move || leftover::end(&control)).await;
        if let Ok(ended @ 1..) = ended {
            tracing::warn!(ended, "event scripts of an earlier agent still ran, and were ended");
        }
        enclosure::tidy(self.hands.cgroup.as_deref());
        let mut views = self.publisher.views();
        let mut begun = Begun::new();
        // Since when nothing is known of now.
        let mut blind: Option<Instant> = None;
        let (done, mut finished) = mpsc::channel(64);
        let runner = Arc::new(self);
        tokio::spawn(runner.clone().present());
        loop {
            let view = views.borrow_and_update().clone();
            let (tasks, now) = runner.tasks(&view);
            blind = if now { None } else { blind.or_else(|| Some(Instant::now())) };
            let until = blind.map(|since| since + view.state.settings.timing.detect());
            let patient = until.filter(|until| Instant::now() < *until);
            if patient.is_none() {
                give_up(&mut begun, &tasks);
            }
            for task in tasks {
                if let Entry::Vacant(place) = begun.entry(task) {
                    let work = runner.clone().perform(view.state.clone(), place.key().clone());
                    let done = done.clone();
                    let handle = tokio::spawn(async move {
                        work.await;
                        let _ = done.send(()).await;
                    });
                    place.insert(handle.abort_handle());
                }
            }
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                // The state may have come before the task was over.
                Some(_) = finished.recv() => {}
                () = wait_until(patient) => {}
            }
        }
    }

    /// What is to be done here, as far as this view can be trusted, and whether it is of now.
    fn tasks(&self, view: &View) -> (Vec<Task>, bool) {
        if view.local.agent != AgentStatus::Running {
            return (Vec::new(), false);
        }
        let mut tasks = work::tasks(&view.state, self.me);
        let now = view.local.quorate && self.is_of_now(&view.state);
        tasks.retain(|task| now || matches!(task, Task::CleanUp { .. }));
        (tasks, now)
    }

    /// Lets the agent end, to be started again with the timers in force. They are read from the disk
    /// then, so nothing is gained before they are there.
    async fn renew(&self) {
        let wanted = |known: Surroundings| known.settings.timing.log();
        let on_disk = || surroundings::last_known(&StateDir::new(&self.state_dir));
        loop {
            let log = self.publisher.state().settings.timing.log();
            if on_disk().ok().flatten().map(wanted) == Some(log) {
                let _ = self.renew.send(()).await;
                return;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// Whether a state is from after this agent's start. What an earlier one has done may be missing
    /// in an older state, and must not be done twice.
    fn is_of_now(&self, state: &ClusterState) -> bool {
        let member = state.manager.members.get(&self.me);
        member.is_some_and(|member| member.session == self.session)
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
                let verify::Found { findings, warnings } =
                    verify::pending(&self.hands, &state).await;
                Command::Config(ConfigCommand::Verified { proposal, node, findings, warnings })
            }
            Task::Fence { node: whom, attempt } => {
                let outcome = fence::call(&state, whom, &self.hands.transcripts).await;
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
        let root = self.hands.cgroup.as_deref().filter(|_| enclosed);
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
                tape: Some(self.hands.transcripts.tape(heading)),
                traces: state.definition.manager.verbose,
            }
            .run()
        });
        futures_util::future::join_all(runs).await
    }

    /// Tells the cluster that this node's manager is there, and how its guard is.
    async fn present(self: Arc<Self>) {
        let mut views = self.publisher.views();
        let (mut guards, mut let_go) = (self.executor.guards(), self.executor.let_go());
        loop {
            let view = views.borrow_and_update().clone();
            guards.borrow_and_update();
            let_go.borrow_and_update();
            if let Some(facts) = self.to_present(&view) {
                let GuardFacts {
                    backing, watchdog, reaper, unreleased, epoch, voters, timing, ..
                } = facts.clone();
                let (node, session) = (self.me, self.session);
                let log = self.log_timing;
                let present = ManagerCommand::Present {
                    node,
                    session,
                    backing,
                    watchdog,
                    reaper,
                    unreleased,
                    epoch,
                    voters,
                    timing,
                    log,
                };
                insist(&self.proposer, Command::Manager(present)).await;
                // What was accepted elsewhere arrives here a moment later.
                let seen = views.wait_for(|view| self.known(&view.state, &facts));
                let _ = tokio::time::timeout(Duration::from_secs(2), seen).await;
                leave::start_again(&self.state_dir, &self.proposer, self.me).await;
            }
            tokio::select! {
                changed = views.changed() => if changed.is_err() { return },
                changed = guards.changed() => if changed.is_err() { return },
                changed = let_go.changed() => if changed.is_err() { return },
                () = wait_until(self.executor.patience_ends()) => {}
            }
        }
    }

    /// What is to be said, if the state does not know it yet.
    fn to_present(&self, view: &View) -> Option<GuardFacts> {
        let there = view.local.agent == AgentStatus::Running && view.local.quorate;
        let facts = self.executor.guard()?;
        (there && !self.known(&view.state, &facts)).then_some(facts)
    }

    fn known(&self, state: &ClusterState, facts: &GuardFacts) -> bool {
        state.manager.members.get(&self.me).is_some_and(|known| {
            let said = (known.session, known.backing, known.epoch, known.voters, known.log);
            said == (self.session, facts.backing, facts.epoch, facts.voters, self.log_timing)
                && known.timing == facts.timing
                && (&known.watchdog, &known.reaper) == (&facts.watchdog, &facts.reaper)
                && known.unreleased == facts.unreleased
        })
    }
}

/// Waits for an instant; for ever if there is none.
async fn wait_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// What is no longer to be done is not waited for; its processes end with it.
fn give_up(begun: &mut Begun, tasks: &[Task]) {
    begun.retain(|task, handle| {
        let wanted = tasks.contains(task);
        // Clearing up goes on to its end: half of it is no use to anybody.
        if !wanted && !matches!(task, Task::CleanUp { .. }) {
            handle.abort();
        }
        wanted
    });
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
