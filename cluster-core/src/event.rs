//! Events: what the cluster manager reacts to, one at a time as long as none is slow, and the life of one.
//!
//! ```text
//!   queued ─▶ voting ─▶ running phase 0 ─ barrier ─▶ … ─▶ running last phase ─ cbarrier ─▶ ended
//!                │                │ a command ended with an unexpected status
//!                │ a higher one   ▼
//!                ▼ was queued    error ─ retry / skip / abort ─▶ …
//!             queued
//! ```
//!
//! The whole life is replicated state: each step is a command in the log, so a new director (or a
//! restarted agent) goes on where the old one stopped. A node *arrives* at a barrier by reporting
//! the outcomes of its commands of that phase; nodes that die are no longer waited for.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::{LogTiming, RunOutcome, Timing, Transcript, status};
use crate::plan::Plan;
use crate::rules::{NodeSet, Program, ProgramLine};
use crate::takeover::{Backing, Unreleased};
use crate::time::WallTime;
use crate::trigger::{Motive, StopMode, Trigger};

/// How much of what a command printed stands in a record.
const SHOWN_LINES: usize = 4;
const SHOWN_CHARS: usize = 400;

status! {
    /// State of a node's cluster manager (spec H11).
    ManagerState {
        /// Nothing is known of it: its node or agent is not there.
        Unknown = 1 "unknown",
        /// Its agent has started.
        Init = 2 "init",
        /// It waits for its join to be processed.
        Joining = 3 "joining",
        /// The queue is empty.
        Stable = 4 "stable",
        /// The queue is not empty; it waits for it to settle.
        Unstable = 5 "unstable",
        /// The next event is voted on.
        Voting = 6 "voting",
        /// Commands of a recovery program run.
        RpRunning = 7 "rp_running",
        /// It waits for the others at a barrier.
        Barrier = 8 "barrier",
        /// It waits for the others at the end of the program.
        Cbarrier = 9 "cbarrier",
        /// It was stopped.
        Done = 10 "done",
        /// A command failed on it; an operator has to decide.
        Error = 11 "error",
    }
}

status! {
    /// What an operator does about a failed event (spec H18).
    RecoverAction {
        /// Run the failed commands again.
        Retry = 1 "retry",
        /// Go on as if they had succeeded.
        Skip = 2 "skip",
        /// End the event as failed.
        Abort = 3 "abort",
    }
}

/// An event that waits or runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counts from 1 over the life of the cluster.
    pub id: u64,
    /// What happened.
    pub trigger: Trigger,
    /// When it was queued.
    pub at: WallTime,
    /// Why, in words.
    pub cause: String,
    /// The incident it belongs to.
    pub incident: u64,
    /// On whose behalf; `None` in events that an earlier version queued.
    #[serde(default)]
    pub motive: Option<Motive>,
}

/// The event in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Which.
    pub event: Event,
    /// How far it is.
    pub stage: Stage,
    /// When that stage began.
    pub since: WallTime,
    /// When it was taken from the queue.
    pub began: WallTime,
    /// The nodes that take part; those that die are taken out.
    pub participants: BTreeSet<NodeNumber>,
    /// Who approved it in the vote.
    pub approvals: BTreeSet<NodeNumber>,
    /// Who gave no answer to the vote, and counts as having approved.
    #[serde(default)]
    pub silent: BTreeSet<NodeNumber>,
    /// The recovery program, as it was when the vote ended. Empty while voting.
    pub program: Program,
    /// What the groups shall do, decided when the vote ended. Empty while voting.
    pub plan: Plan,
    /// The phase that runs; counts from 0.
    pub phase: usize,
    /// Grows with each retry of a phase; outcomes of an older attempt are ignored.
    pub attempt: u32,
    /// Who of the participants has arrived at the end of the phase, and with which outcomes; a
    /// node that failed is in here, and not in `arrived`.
    pub outcomes: BTreeMap<NodeNumber, Vec<CommandOutcome>>,
    /// Who waits at the barrier.
    pub arrived: BTreeSet<NodeNumber>,
    /// Who failed in this attempt.
    pub failed: BTreeSet<NodeNumber>,
    /// Whether the alert about its length was raised (spec H19).
    pub too_long: bool,
    /// How long it may run altogether, if there is a limit; as it was when the vote ended.
    #[serde(default)]
    pub time_limit_ms: Option<u64>,
    /// When that time is over, on the cluster's timeline ([`crate::state::Timeline`]).
    #[serde(default)]
    pub ends_ms: Option<u64>,
    /// Whether it was over before the program was.
    #[serde(default)]
    pub overran: bool,
    /// Whether an operator skipped what failed.
    #[serde(default)]
    pub skipped: bool,
    /// Until when others wait for it, on the cluster's timeline.
    #[serde(default)]
    pub awaited_ms: Option<u64>,
    /// Whether that time is over, so that it goes on beside others ([`Running::may_run_aside`]).
    #[serde(default)]
    pub slow: bool,
    /// Whether what it means for the membership of its node was settled while it went on, so that nothing about that node
    /// waits for it any more.
    #[serde(default)]
    pub settled: bool,
    /// Steps done in earlier phases, oldest first, bounded.
    pub steps: Vec<Step>,
}

impl Running {
    /// Whether it failed and nobody is doing anything about it: only an operator goes on with it.
    pub fn is_stuck(&self) -> bool {
        let done = |node: &NodeNumber| self.arrived.contains(node) || self.failed.contains(node);
        self.stage == Stage::Error && self.participants.iter().all(done)
    }

    /// Whether its program runs on somebody, well or not: answers are still to come.
    pub fn is_at_work(&self) -> bool {
        self.stage != Stage::Voting && !self.is_stuck()
    }

    /// Whether it may go on aside while another event is in progress: its program runs, and it is a user-defined one,
    /// which moves no groups, or others have waited for it long enough. Those leave alone what it has in hand.
    pub fn may_run_aside(&self) -> bool {
        self.is_at_work() && (self.is_users() || self.slow)
    }

    /// Whether nothing else waits for it, in progress or not: it failed, or others go on beside its commands.
    pub fn is_beside(&self) -> bool {
        self.is_stuck() || self.may_run_aside()
    }

    /// Whether it is a user-defined one.
    pub fn is_users(&self) -> bool {
        matches!(self.event.trigger, Trigger::User { .. })
    }

    /// Whether commands of it on somebody who takes part are to do something with the group: nobody else touches that.
    pub fn has_in_hand(&self, group: &str) -> bool {
        let mut moves = self.plan.moves.iter().filter(|planned| planned.group == group);
        let takes_part = |node: &NodeNumber| self.participants.contains(node);
        self.is_at_work()
            && moves.any(|planned| planned.release.iter().chain(&planned.acquire).any(takes_part))
    }

    /// Whether an event of that trigger waits until this one is over. Behind commands that run waits also what moves a
    /// group that they have in hand, what stops a node that has one in hand, and what changes standby adapters.
    pub fn holds_up(&self, trigger: &Trigger) -> bool {
        let comes_before = !self.settled && self.event.trigger.comes_before(trigger);
        match trigger {
            Trigger::GroupMove { group } if self.is_at_work() => self.has_in_hand(group),
            Trigger::NodeDown { node, stop: Some(_) } if self.is_at_work() => {
                self.plan.moves.iter().any(|planned| planned.is_for(*node)) || comes_before
            }
            Trigger::ReconfigTopology { .. } if self.is_at_work() && !self.is_users() => true,
            _ => comes_before,
        }
    }

    /// Whether everybody who takes part waits at the barrier.
    pub fn is_complete(&self) -> bool {
        self.stage == Stage::Running && self.participants.is_subset(&self.arrived)
    }

    /// Gives it its time anew, as it begins or an operator has it tried again, and others wait for it so long.
    pub fn begin_anew(&mut self, elapsed_ms: u64, patience_ms: u64) {
        self.ends_ms = self.time_limit_ms.map(|limit| elapsed_ms.saturating_add(limit));
        self.awaited_ms = Some(elapsed_ms.saturating_add(patience_ms));
        (self.overran, self.slow) = (false, false);
    }

    /// Whether the group is to move in this event.
    pub fn concerns(&self, group: &str) -> bool {
        self.plan.moves.iter().any(|planned| planned.group == group)
    }

    /// Whether a node runs no command of it any more on which anything depends: it waits at a barrier, and what
    /// it has to run behind that may end as it likes. It does not begin with what it would be given now.
    pub fn is_done(&self, node: NodeNumber) -> bool {
        let depends = |phase: usize| {
            self.commands(phase, node).iter().any(|(_, line)| line.expected.is_some())
        };
        self.arrived.contains(&node) && !(self.phase + 1..self.program.phases.len()).any(depends)
    }

    /// The commands of a phase that `node` runs, with their places in it (spec H17). None for a
    /// node that takes no part.
    pub fn commands(&self, phase: usize, node: NodeNumber) -> Vec<(usize, &ProgramLine)> {
        let here = self.event.trigger.node() == Some(node);
        let lines = self.program.phases.get(phase).filter(|_| self.participants.contains(&node));
        lines
            .into_iter()
            .flatten()
            .enumerate()
            .filter(|(_, line)| match line.nodes {
                NodeSet::All => true,
                NodeSet::Event => here,
                NodeSet::Other => !here,
            })
            .collect()
    }

    /// The commands of the present phase that `node` still has to run: those that did not yet end
    /// as they should.
    pub fn pending(&self, node: NodeNumber) -> Vec<(usize, &ProgramLine)> {
        let done = |place: usize| {
            let outcomes = self.outcomes.get(&node).map_or(&[][..], Vec::as_slice);
            outcomes.iter().any(|outcome| outcome.index == place && outcome.expected)
        };
        let mut commands = self.commands(self.phase, node);
        commands.retain(|(place, _)| !done(*place));
        commands
    }

    /// Whether `node` is to acquire or release the group in this event.
    pub fn plans(&self, group: &str, node: NodeNumber) -> bool {
        self.plan.moves.iter().any(|planned| {
            planned.group == group
                && (planned.acquire.contains(&node) || planned.release.contains(&node))
        })
    }
}

/// How far an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Its participants are asked to approve it.
    Voting,
    /// Commands of a phase run; some participants may wait at its barrier already.
    Running,
    /// A participant failed; an operator has to decide.
    Error,
}

/// A command of a recovery program that ran on a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandOutcome {
    /// Its place in the phase.
    pub index: usize,
    /// The command line.
    pub command: String,
    /// Whether its status was the expected one, or none was expected.
    pub expected: bool,
    /// How many times it was run.
    pub runs: u32,
    /// How the last run ended.
    pub outcome: RunOutcome,
}

impl CommandOutcome {
    /// How it ended, in a few words. What never ran was kept from it by the program before it.
    pub fn ended(&self) -> String {
        let started = self.outcome.failure.is_none();
        let how = if started { self.outcome.summary() } else { "could not be started".into() };
        if self.runs == 0 { format!("was not run; its pre program: {how}") } else { how }
    }

    /// The same, with the reason where it could not be started.
    pub fn result(&self) -> String {
        match &self.outcome.failure {
            Some(why) => format!("{}: {why}", self.ended()),
            None => self.ended(),
        }
    }

    /// What is to be known besides: why it could not be started, or the first lines that it printed,
    /// bounded.
    pub fn told(&self) -> String {
        let said = match &self.outcome.failure {
            Some(why) => why.trim_end_matches('.'),
            None => &self.outcome.output,
        };
        let lines = said.lines().map(str::trim_end).filter(|line| !line.is_empty());
        let lines: Vec<&str> = lines.take(SHOWN_LINES).collect();
        lines.join(" / ").chars().take(SHOWN_CHARS).collect()
    }

    /// The same, and where all of it is kept.
    pub fn told_with_transcript(&self) -> String {
        let told = self.told();
        match self.outcome.transcript.as_ref().map(Transcript::words) {
            Some(words) if told.is_empty() => words,
            Some(words) => format!("{told}; {words}"),
            None => told,
        }
    }
}

/// One command on one node, for those who look back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The phase.
    pub phase: usize,
    /// On which node.
    pub node: NodeNumber,
    /// The command line.
    pub command: String,
    /// How it ended, in words.
    pub result: String,
    /// How long it ran.
    pub duration_ms: u64,
}

/// An event that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ended {
    /// Which.
    pub event: Event,
    /// `completed`, `completed after skip`, `aborted`, `superseded`.
    pub how: String,
    /// When it was taken from the queue; when it ended if it never was.
    pub began: WallTime,
    /// When it ended.
    pub ended: WallTime,
}

/// The manager of one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its state.
    pub state: ManagerState,
    /// When its state last changed.
    pub since: WallTime,
    /// Its join was processed: it takes part in events.
    pub joined: bool,
    /// When that was; of some use only while it is joined.
    #[serde(default)]
    pub joined_at: WallTime,
    /// The same on the cluster's timeline ([`crate::state::Timeline`]).
    #[serde(default)]
    pub joined_ms: u64,
    /// An operator stopped it.
    pub stopped: Option<StopMode>,
    /// Nothing is moved from or to it, nothing restarted on it.
    pub maintenance: bool,
    /// Its agent has not run for a while, or does not stay: nobody waits for it unless it has something of a
    /// group.
    #[serde(default)]
    pub absent: bool,
    /// What stands behind its guard.
    pub backing: Backing,
    /// Why the watchdog that is configured for it stands behind nothing, if it does not.
    #[serde(default)]
    pub watchdog: Option<String>,
    /// Why nobody ends its processes if its guard and its agent are stopped, if nobody does.
    #[serde(default)]
    pub reaper: Option<String>,
    /// What it could not let go of when its lease ended.
    #[serde(default, skip_serializing_if = "Unreleased::is_empty")]
    pub unreleased: Unreleased,
    /// The run of its agent that reported last.
    pub session: Session,
    /// The epoch of its guard: what a node holds, it holds in one epoch. Another one means that
    /// everything was let go in between (see [`crate::command::ManagerCommand::Present`]).
    pub epoch: u64,
    /// The set of voters that its guard goes by, or an earlier one ([`crate::lease::VoterSet::since`]).
    #[serde(default)]
    pub voters: u64,
    /// The timers that its guard goes by, or slower ones; none if it has not said.
    #[serde(default)]
    pub timing: Option<Timing>,
    /// The timers that its log was opened with.
    #[serde(default)]
    pub log: LogTiming,
}

/// Why a standby adapter could not take over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StandbyFault {
    /// Since when that is known.
    pub since: WallTime,
    /// What its node saw, such as `eth3 has no link`.
    pub cause: String,
}

/// Groups of a node that nobody takes over yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The incident of the node.
    pub incident: u64,
    /// Reasons by group, each with what goes on with it.
    pub groups: BTreeMap<String, String>,
}

/// The cluster manager: everything about events that nodes agree on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manager {
    /// Managers, by node. A node that never had one is not in here.
    pub members: BTreeMap<NodeNumber, Member>,
    /// Events that wait, in the order of their ranks; equal ranks in order of their ids.
    pub queue: Vec<Event>,
    /// The event in progress.
    pub current: Option<Running>,
    /// Events that stepped aside for others, oldest first: they failed, or go on meanwhile
    /// ([`Running::may_run_aside`]). One of them is in progress again as soon as nothing else is to be done.
    #[serde(default)]
    pub aside: Vec<Running>,
    /// Events that are over, oldest first; at most [`Manager::REMEMBERED`].
    pub recent: VecDeque<Ended>,
    /// The id of the last event.
    pub last_event: u64,
    /// Events that ended, over the life of the cluster.
    pub ended: u64,
    /// Nothing is moved, nothing restarted, in the whole cluster.
    pub maintenance: bool,
    /// Fencing of nodes that is asked for or under way.
    pub fencing: BTreeMap<NodeNumber, Fencing>,
    /// Standby adapters that are known not to work, by node and network.
    #[serde(default)]
    pub standbys_down: BTreeMap<NodeNumber, BTreeMap<NetworkNumber, StandbyFault>>,
    /// Takeovers that wait for evidence, by the node that has the groups.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub takeovers: BTreeMap<NodeNumber, Waiting>,
    /// Rules that have fired and were not armed again since, by name and instance (spec H31).
    #[serde(default)]
    pub fired: BTreeMap<String, BTreeMap<String, Firing>>,
    /// What cannot be watched, and why: monitors that fail, rules that cannot be applied.
    #[serde(default)]
    pub blind: BTreeMap<NodeNumber, BTreeMap<String, String>>,
}

/// A rule that has fired for an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Firing {
    /// On which node.
    pub node: NodeNumber,
    /// The value that made its predicate true, in words.
    pub value: String,
    /// When.
    pub at: WallTime,
}

impl Manager {
    /// How many ended events are remembered in the state; the history has all.
    pub const REMEMBERED: usize = 64;

    /// How many things that cannot be watched are known of one node; what is more is not told.
    pub const MOST_BLIND: usize = 64;

    /// Events that failed and wait for an operator: the one in progress first.
    pub fn failed(&self) -> impl Iterator<Item = &Running> {
        let current = self.current.iter().filter(|running| running.stage == Stage::Error);
        current.chain(self.aside.iter().filter(|running| running.stage == Stage::Error))
    }

    /// Events that began and are not over.
    pub fn begun(&self) -> impl Iterator<Item = &Running> {
        self.current.iter().chain(&self.aside)
    }

    /// The same, to be changed.
    pub(crate) fn all_begun_mut(&mut self) -> impl Iterator<Item = &mut Running> {
        let Self { current, aside, .. } = self;
        current.iter_mut().chain(aside)
    }

    /// An event that began, to be changed.
    pub(crate) fn begun_mut(&mut self, event: u64) -> Option<&mut Running> {
        self.all_begun_mut().find(|running| running.event.id == event)
    }

    /// Takes an event out that began.
    pub(crate) fn take_begun(&mut self, event: u64) -> Option<Running> {
        let is_it = |running: &Running| running.event.id == event;
        let aside = |manager: &mut Self| {
            let place = manager.aside.iter().position(is_it)?;
            Some(manager.aside.remove(place))
        };
        self.current.take_if(|running| is_it(running)).or_else(|| aside(self))
    }

    /// How many user-defined events may run side by side: a site's programs are not started without bound
    /// because one of them hangs.
    pub const SIDE_BY_SIDE: usize = 8;

    /// The first event that may begin now: none is in progress, or one for which nobody waits, and no event that
    /// began has to be over before it.
    pub fn next(&self) -> Option<&Event> {
        let full = self.begun().filter(|it| it.is_users() && it.is_at_work());
        let full = full.count() >= Self::SIDE_BY_SIDE;
        let waits = |event: &Event| full && matches!(event.trigger, Trigger::User { .. });
        let may = |event: &&Event| !waits(event) && self.is_free(&event.trigger);
        self.queue.iter().filter(|_| self.is_open()).find(may)
    }

    /// Whether nobody waits for the event in progress: it is stuck, or may go on aside.
    pub fn is_open(&self) -> bool {
        let open = |running: &Running| running.is_stuck() || running.may_run_aside();
        self.current.as_ref().is_none_or(open)
    }

    /// Whether no event that began has to be over before one with that trigger.
    pub fn is_free(&self, trigger: &Trigger) -> bool {
        self.begun().all(|begun| !begun.holds_up(trigger))
    }

    /// Nodes whose managers take part in events.
    pub fn joined(&self) -> impl Iterator<Item = NodeNumber> {
        self.members.iter().filter(|(_, member)| member.joined).map(|(node, _)| *node)
    }

    /// Why a standby adapter could not take over, if that is known.
    pub fn standby_fault(&self, node: NodeNumber, network: NetworkNumber) -> Option<&StandbyFault> {
        self.standbys_down.get(&node)?.get(&network)
    }

    /// Remembers that a standby adapter has failed, or works again. Answers whether that is news.
    pub(crate) fn set_standby(
        &mut self,
        (node, network): (NodeNumber, NetworkNumber),
        fault: Option<StandbyFault>,
    ) -> bool {
        let faults = self.standbys_down.entry(node).or_default();
        let changed = match fault {
            Some(_) if faults.contains_key(&network) => false,
            Some(fault) => faults.insert(network, fault).is_none(),
            None => faults.remove(&network).is_some(),
        };
        self.standbys_down.retain(|_, faults| !faults.is_empty());
        changed
    }

    /// Whether a rule has fired for an instance, and was not armed again since.
    pub fn has_fired(&self, rule: &str, instance: &str) -> bool {
        self.fired.get(rule).is_some_and(|instances| instances.contains_key(instance))
    }
}

/// A node that shall be fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fencing {
    /// Who calls the agent.
    pub by: NodeNumber,
    /// Counts the calls.
    pub attempt: u32,
    /// When it was asked for.
    pub since: WallTime,
    /// How the last call failed, if one did.
    pub failure: Option<String>,
}
