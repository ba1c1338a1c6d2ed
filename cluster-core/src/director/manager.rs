//! What the director does for the cluster manager: whatever needs a clock.
//!
//! `apply` reads no clock, so everything in an event's life that waits for time is proposed from
//! here: the vote when the queue has settled, the end of patience with a node that gives no answer,
//! the alert about an event that runs too long, the end of a verification that nobody finishes.
//! Whether a node has let go of its groups is in [`super::evidence`].
//!
//! All times count from when *this* director saw a thing first ([`Seen`]); a new director therefore
//! waits anew, and never acts on what its predecessor may have measured.
//!
//! What always holds: at most one of these proposals is under way, evictions apart, which wait for
//! nothing; and what was proposed in vain is not repeated within a beat.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Command, ConfigCommand, GroupCommand, ManagerCommand};
use crate::event::{Manager, Member, Running, Stage};
use crate::id::NodeNumber;
use crate::model::{AgentStatus, HostStatus, Node};
use crate::state::{ClusterState, Timeline};
use crate::time::Instant;

use super::{Director, Office, Output};

/// How long a node may take over a command's time limit before its answer is given up.
const GRACE: Duration = Duration::from_secs(30);

/// Patience with a node in a vote, in detection times: nothing has to be done for it.
const VOTES: u32 = 3;

/// How long a node may take to verify a document.
const VERIFY_PATIENCE: Duration = Duration::from_secs(30);

/// An agent that was killed runs again before that, as a guard starts it at once: so many times the detection
/// time, and no less than a slow machine needs to start a program.
const RESTARTS: u32 = 3;
const RESTARTS_LEAST: Duration = Duration::from_secs(2);

/// How long an agent that was away has to run before it is counted on: one that dies at its first work has
/// done so by then.
const STEADY: Duration = Duration::from_secs(5);

/// An agent that ends so often within that time is not waited for until it is steady again.
const OFTEN: usize = 3;
const LATELY: Duration = Duration::from_secs(30);

/// Something whose age matters.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Seen {
    /// The newest event, by its id.
    Newest(u64),
    /// The event in progress.
    Event(u64),
    /// A moment of its life: event, whether it is voted on, phase, attempt.
    Moment(u64, bool, usize, u32),
    /// A document that is being verified.
    Document(u64),
    /// A node that is not there.
    Away(NodeNumber),
    /// The agent of a node that is there, and whether it runs.
    Agent(NodeNumber, bool),
    /// A call of a fence agent, and whether it failed.
    Fence(NodeNumber, u32, bool),
}

/// What a proposal is about, so that it is not repeated in vain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Duty {
    /// Begin the vote on an event.
    Vote(u64),
    /// Give up waiting for a node in a moment of an event.
    Expire(u64, bool, usize, u32, NodeNumber),
    /// Say that an event runs too long.
    TooLong(u64),
    /// Wait for a node no longer, or again.
    Attend(NodeNumber, bool),
    /// Withdraw a document.
    Withdraw(u64),
    /// Bring the time along, from the state of a revision.
    Due(u64),
    /// End the instances of a node.
    Evict(NodeNumber),
    /// Have a node fenced.
    Fence(NodeNumber, u32),
    /// Say that takeovers wait: node, incident and groups.
    Waits(NodeNumber, u64, Vec<String>),
}

/// A duty, what to propose for it, and when.
pub(super) struct Due {
    pub(super) duty: Duty,
    pub(super) command: Command,
    pub(super) at: Instant,
}

/// What the director remembers for the manager.
#[derive(Clone, Debug, Default)]
pub(super) struct DutyTimers {
    /// Since when each thing that matters now has been known.
    seen: BTreeMap<Seen, Instant>,
    /// Where the timeline was in the last entry that is known, and when that entry became known here: the same
    /// state may be told again and again.
    timeline: Timeline,
    came: Instant,
    /// When each duty was last proposed.
    tried: BTreeMap<Duty, Instant>,
    /// When agents of nodes that are there were seen to end, lately.
    ends: BTreeMap<NodeNumber, Vec<Instant>>,
}

impl DutyTimers {
    /// Everything counts anew: another office has begun.
    pub(super) fn restart(&mut self, now: Instant) {
        self.seen.values_mut().for_each(|at| *at = now);
        self.tried.clear();
    }

    pub(super) fn take_state(&mut self, now: Instant, state: &ClusterState) {
        let since = |seen: Seen| {
            let at = self.seen.get(&seen).copied().unwrap_or(now);
            (seen, at)
        };
        let seen: BTreeMap<Seen, Instant> = what_matters(state).into_iter().map(since).collect();
        for seen in seen.keys().filter(|it| !self.seen.contains_key(it)) {
            if let Seen::Agent(node, false) = seen {
                let ends = self.ends.entry(*node).or_default();
                ends.retain(|at| now - *at < LATELY);
                ends.push(now);
            }
        }
        self.seen = seen;
        if self.timeline != state.timeline {
            (self.timeline, self.came) = (state.timeline, now);
        }
    }

    /// Whether the agent of a node comes and goes.
    fn comes_and_goes(&self, now: Instant, node: NodeNumber) -> bool {
        let ends = self.ends.get(&node).into_iter().flatten();
        ends.filter(|at| now - **at < LATELY).count() >= OFTEN
    }

    pub(super) fn since(&self, seen: &Seen) -> Option<Instant> {
        self.seen.get(seen).copied()
    }

    /// Whether a duty may be proposed: not if that was done a moment ago, and what only says
    /// something is said once.
    pub(super) fn may_try(&self, now: Instant, duty: &Duty, pause: Duration) -> bool {
        let once = matches!(duty, Duty::Waits(..));
        self.tried.get(duty).is_none_or(|at| !once && now - *at >= pause)
    }

    pub(super) fn tries(&mut self, now: Instant, duty: Duty) {
        self.tried.retain(|duty, at| {
            matches!(duty, Duty::Waits(..)) || now - *at < Duration::from_secs(60)
        });
        self.tried.insert(duty, now);
    }
}

/// Everything in the state whose age matters.
fn what_matters(state: &ClusterState) -> BTreeSet<Seen> {
    let manager = &state.manager;
    let mut seen = BTreeSet::from([Seen::Newest(manager.last_event)]);
    for running in attended(state) {
        seen.insert(Seen::Event(running.event.id));
        seen.insert(moment(running));
    }
    seen.extend(state.documents.pending.iter().map(|pending| Seen::Document(pending.id)));
    let away = |host| matches!(host, HostStatus::Down | HostStatus::Disconnected);
    let gone = state.nodes.values().filter(|node| away(node.host));
    seen.extend(gone.map(|node| Seen::Away(node.number)));
    let there = state.nodes.values().filter(|node| node.host == HostStatus::Up);
    let runs = |node: &Node| node.agent == AgentStatus::Running;
    seen.extend(there.map(|node| Seen::Agent(node.number, runs(node))));
    let call = |(node, fencing): (&NodeNumber, &crate::event::Fencing)| {
        Seen::Fence(*node, fencing.attempt, fencing.failure.is_some())
    };
    seen.extend(manager.fencing.iter().map(call));
    seen
}

/// Events whose commands run: the one in progress, and those that go on aside.
fn attended(state: &ClusterState) -> impl Iterator<Item = &Running> {
    let Manager { current, aside, .. } = &state.manager;
    current.iter().chain(aside.iter().filter(|running| running.is_at_work()))
}

fn moment(running: &Running) -> Seen {
    let voting = running.stage == Stage::Voting;
    Seen::Moment(running.event.id, voting, running.phase, running.attempt)
}

impl Director {
    pub(super) fn manage(&mut self, now: Instant, office: Office, out: &mut Vec<Output>) {
        if self.evicting.is_none()
            && let Some(due) = self.ripe(now, self.evictions(now, office))
        {
            self.evicting = Some(self.propose(now, office, due.command, out));
            self.watch.tries(now, due.duty);
        }
        let mut dues = self.event_duties(now);
        dues.extend(self.fence_duties(now, office));
        if self.managing.is_none()
            && let Some(due) = self.ripe(now, dues)
        {
            self.managing = Some(self.propose(now, office, due.command, out));
            self.watch.tries(now, due.duty);
        }
    }

    /// The first duty whose time has come; of the others the next is remembered.
    fn ripe(&mut self, now: Instant, dues: Vec<Due>) -> Option<Due> {
        self.wake_at(dues.iter().map(|due| due.at).filter(|at| *at > now).min());
        let pause = self.timing().interval();
        dues.into_iter().find(|due| due.at <= now && self.watch.may_try(now, &due.duty, pause))
    }

    fn event_duties(&self, now: Instant) -> Vec<Due> {
        let mut dues: Vec<Due> = self.vote().into_iter().collect();
        for running in attended(&self.state) {
            dues.extend(self.given_up(running));
            dues.extend(self.too_long(running));
        }
        dues.extend(self.withdrawal());
        dues.extend(self.attendance(now));
        dues.extend(self.passing());
        dues
    }

    /// Something ends by itself, and no other entry may bring the time along.
    fn passing(&self) -> Option<Due> {
        let at = self.watch.came + self.state.next_due()?;
        let duty = Duty::Due(self.state.revision);
        Some(Due { duty, command: Command::Group(GroupCommand::Due), at })
    }

    /// Nodes whose agents have been away for so long that nobody waits for them, and those that are back to
    /// stay.
    fn attendance(&self, now: Instant) -> Vec<Due> {
        let away_after = (self.timing().detect() * RESTARTS).max(RESTARTS_LEAST);
        let due = |(node, member): (&NodeNumber, &Member)| {
            let attends = member.absent;
            let often = self.watch.comes_and_goes(now, *node);
            let away_after = if often { Duration::ZERO } else { away_after };
            let since = self.watch.since(&Seen::Agent(*node, attends))?;
            let command = Command::Manager(ManagerCommand::Attend { node: *node, attends });
            let at = since + if attends { STEADY } else { away_after };
            Some(Due { duty: Duty::Attend(*node, attends), command, at })
        };
        // Who has not joined is waited for by nobody but its own join.
        let joined = self.state.manager.members.iter().filter(|(_, member)| member.joined);
        joined.filter_map(due).collect()
    }

    /// The queue has settled when its newest event has been known for a while: what belongs
    /// together mostly comes together, and the order of the queue is then the right one.
    fn vote(&self) -> Option<Due> {
        let manager = &self.state.manager;
        let event = manager.next()?.id;
        let settle = self.state.definition.manager.settle_ms;
        let settle = settle.map_or(self.timing().interval() / 4, Duration::from_millis);
        let at = self.watch.since(&Seen::Newest(manager.last_event))? + settle;
        let command = Command::Manager(ManagerCommand::BeginVote { event });
        Some(Due { duty: Duty::Vote(event), command, at })
    }

    /// Participants that give no answer. A vote takes no time, so silence is short there; commands
    /// may run as long as they are allowed to.
    fn given_up(&self, running: &Running) -> Vec<Due> {
        let (event, phase, attempt) = (running.event.id, running.phase, running.attempt);
        let limit = Duration::from_millis(self.state.definition.manager.command_timeout_ms);
        let (voting, patience, heard) = match running.stage {
            Stage::Voting => (true, self.timing().detect() * VOTES, &running.approvals),
            Stage::Running => (false, limit + GRACE, &running.arrived),
            Stage::Error => return Vec::new(),
        };
        let Some(since) = self.watch.since(&moment(running)) else { return Vec::new() };
        let silent = running.participants.iter().copied();
        silent
            .filter(|node| !heard.contains(node) && !running.failed.contains(node))
            .map(|node| Due {
                duty: Duty::Expire(event, voting, phase, attempt, node),
                command: Command::Manager(ManagerCommand::Expire { event, phase, attempt, node }),
                at: since + patience,
            })
            .collect()
    }

    fn too_long(&self, running: &Running) -> Option<Due> {
        let event = running.event.id;
        let limit = Duration::from_millis(self.state.definition.manager.too_long_ms);
        let at = self.watch.since(&Seen::Event(event)).filter(|_| !running.too_long)? + limit;
        let command = Command::Manager(ManagerCommand::TooLong { event });
        Some(Due { duty: Duty::TooLong(event), command, at })
    }

    /// A document that some node does not verify, although it is there.
    fn withdrawal(&self) -> Option<Due> {
        let pending = self.state.documents.pending.as_ref()?;
        let unanswered = |node: &&NodeNumber| !pending.findings.contains_key(node);
        let silent: Vec<String> = pending
            .asked
            .iter()
            .filter(unanswered)
            .map(|node| self.state.node_name(*node))
            .collect();
        if silent.is_empty() {
            return None;
        }
        let at = self.watch.since(&Seen::Document(pending.id))? + VERIFY_PATIENCE;
        let seconds = VERIFY_PATIENCE.as_secs();
        let why = format!("no answer from {} in {seconds} s", silent.join(", "));
        let command = Command::Config(ConfigCommand::Withdraw { proposal: pending.id, why });
        Some(Due { duty: Duty::Withdraw(pending.id), command, at })
    }
}

#[cfg(test)]
mod tests;
