//! The cluster manager: what `apply` does about events and the managers of nodes.
//!
//! A command changes one thing (somebody approved, somebody arrived); `settle_manager` then does
//! everything that follows, in one order: who is lost, who joins, who is to stop, whether the event
//! in progress can go on, and whether a group is astray. Nothing here waits or remembers: what
//! follows is always worked out from the state, so it does not matter which command came first.
//!
//! - `queue`: what gets into the queue, and what a later event makes needless;
//! - `phases`: the vote, phases and barriers;
//! - `aside`: events that make room for others;
//! - `ending`: plans, and what an event leaves behind;
//! - `membership`: what an event means for its node, and from when on;
//! - `orders`: stop, start, maintenance, and what to do about a failed event;
//! - `states`: the state of each node's manager (spec H11);
//! - `watching`: which rules about values have fired, and what cannot be watched.

mod aside;
mod attendance;
mod ending;
mod membership;
pub(super) mod orders;
mod phases;
mod policy;
mod queue;
mod states;
#[cfg(test)]
mod tests;
mod watching;

use crate::command::ManagerCommand;
use crate::event::{Event, ManagerState, Member};
use crate::group::GroupState;
use crate::id::{NodeNumber, Session};
use crate::model::{LogTiming, Severity, Timing};
use crate::record::{Code, Subject};
use crate::takeover::{Backing, LetGo, Unreleased};
use crate::trigger::Trigger;

use super::{ClusterState, Entry, RecordDraft, Refusal};
use phases::AttemptKey;

impl ClusterState {
    /// A command about events or managers.
    pub(super) fn manage(
        &mut self,
        entry: &mut Entry<'_>,
        command: &ManagerCommand,
    ) -> Result<bool, Refusal> {
        match command {
            ManagerCommand::Present {
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
            } => {
                let now = (*session, *backing, *epoch, *voters, (*timing, *log));
                Ok(self.present(entry, *node, now, (watchdog, reaper, unreleased)))
            }
            ManagerCommand::Queue { trigger, cause } => self.queue_seen(entry, trigger, cause),
            ManagerCommand::Rearm { rule, instance, value } => {
                Ok(self.rearm(entry, (rule, instance), value))
            }
            ManagerCommand::Blind { .. } => Ok(self.watch_trouble(entry, command)),
            ManagerCommand::BeginVote { event } => Ok(self.begin_vote(entry, *event)),
            ManagerCommand::Approve { event, node } => Ok(self.approve(*event, *node)),
            ManagerCommand::Ran { event, phase, attempt, node, outcomes } => {
                let key = AttemptKey { event: *event, phase: *phase, attempt: *attempt };
                Ok(self.ran(entry, key, *node, outcomes))
            }
            ManagerCommand::Expire { event, phase, attempt, node } => {
                let key = AttemptKey { event: *event, phase: *phase, attempt: *attempt };
                Ok(self.expire(entry, key, *node))
            }
            ManagerCommand::Attend { node, attends } => Ok(self.attend(entry, *node, *attends)),
            ManagerCommand::TooLong { event } => Ok(self.too_long(entry, *event)),
            ManagerCommand::Recover { event, action } => self.recover(entry, *event, *action),
            ManagerCommand::Stop { nodes, how } => self.stop(entry, nodes, *how),
            ManagerCommand::Start { nodes } => self.start(entry, nodes),
            ManagerCommand::Maintenance { scope, on } => self.maintain(entry, scope, *on),
        }
    }

    /// What follows from statuses for events: joins and failures are queued, the event in progress
    /// goes on where nobody has to be waited for any more.
    pub(super) fn settle_manager(&mut self, entry: &mut Entry<'_>) {
        if self.manager.members.is_empty() && self.groups.is_empty() {
            return;
        }
        self.mark_states(entry);
        self.lose_sight(entry);
        self.drop_participants();
        self.welcome_back(entry);
        self.queue_what_follows(entry);
        self.mark_states(entry);
        self.give_way(entry);
        self.proceed(entry);
        self.settle_early(entry);
        self.queue_what_follows(entry);
        self.queue_postponed(entry);
        self.prune_groups(entry);
        self.record_groups(entry);
        self.unblock_hopeful(entry);
        self.block_hopeless(entry);
        self.queue_astray(entry);
        self.take_up_again(entry);
        self.record_groups(entry);
        self.mark_states(entry);
    }

    /// A node's manager says that it is there. A new epoch says that it holds nothing it was given
    /// before, but for what it names.
    fn present(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        now: (Session, Backing, u64, u64, (Option<Timing>, LogTiming)),
        (watchdog, reaper, unreleased): (&Option<String>, &Option<String>, &Unreleased),
    ) -> bool {
        if !self.nodes.contains_key(&node) {
            return false;
        }
        let since = entry.proposal.at;
        let known = self.manager.members.get(&node);
        let (session, backing, epoch, voters, (timing, log)) = now;
        let said =
            |it: &Member| (it.session, it.backing, it.epoch, it.voters, (it.timing, it.log)) == now;
        let lacks = |it: &Member| {
            it.watchdog == *watchdog && it.reaper == *reaper && it.unreleased == *unreleased
        };
        if known.is_some_and(|it| said(it) && lacks(it)) {
            return false;
        }
        let freed = known.is_some_and(|it| !it.unreleased.is_empty() && unreleased.is_empty());
        let renewed = known.is_some_and(|known| known.log != log);
        let anew = known.is_none_or(|known| known.epoch != epoch);
        self.goes_on_releasing(entry, node, unreleased);
        if anew {
            entry.begins = self.incident_of_return(entry, node).or(entry.begins);
            self.evict(entry, node, &LetGo::Released);
        }
        if renewed {
            let message = format!("{} has opened its log with {log}", self.node_name(node));
            let (code, severity) = (Code::SettingChanged, Severity::Informational);
            self.record(entry, RecordDraft::new(code, severity, Subject::Node(node), message));
        }
        let member = self.manager.members.entry(node).or_insert(Member {
            state: ManagerState::Unknown,
            since,
            joined: false,
            joined_at: Default::default(),
            joined_ms: 0,
            stopped: None,
            maintenance: false,
            absent: false,
            backing,
            watchdog: None,
            reaper: None,
            unreleased: Unreleased::default(),
            session,
            epoch,
            voters,
            timing,
            log,
        });
        (
            member.session,
            member.backing,
            member.epoch,
            member.voters,
            (member.timing, member.log),
        ) = now;
        member.watchdog.clone_from(watchdog);
        member.reaper.clone_from(reaper);
        member.unreleased.clone_from(unreleased);
        let begins = member.state == ManagerState::Unknown && member.stopped.is_none();
        if begins && !member.joined && self.is_there(node) {
            self.set_states(entry, vec![(node, ManagerState::Init)]);
        }
        if freed {
            self.may_be_tried_again(node);
        }
        true
    }

    /// A node was deleted: nothing of it waits or is waited for.
    pub(super) fn forget_member(&mut self, entry: &mut Entry<'_>, node: NodeNumber, name: &str) {
        self.manager.members.remove(&node);
        self.manager.fencing.remove(&node);
        self.manager.fencing.retain(|_, fencing| fencing.by != node);
        self.manager.takeovers.remove(&node);
        self.forget_watching(node);
        self.manager.standbys_down.remove(&node);
        self.supersede(entry, &format!("{name} was deleted"), |t| t.node() == Some(node));
        self.hold_no_longer(node);
        for group in self.groups.values_mut() {
            group.preferred.take_if(|preferred| *preferred == node);
            group.last.take_if(|last| *last == node);
            group.fails.retain(|fail| fail.node != node);
            group.avoid.remove(&node);
            group.avoid_why.remove(&node);
            group.passed_over.remove(&node);
        }
    }

    /// The manager starts from nothing, because the cluster does: nobody has joined, and no event of
    /// before means anything. Instances stay until their nodes, or evidence, end them.
    pub(super) fn forget_manager(&mut self, entry: &mut Entry<'_>) {
        let at = entry.proposal.at;
        let waiting = self.manager.queue.iter().map(|event| &event.trigger);
        let given_up = waiting.chain(self.manager.begun().map(|running| &running.event.trigger));
        let given_up: Vec<Trigger> = given_up.cloned().collect();
        let begun: Vec<u64> = self.manager.begun().map(|running| running.event.id).collect();
        for event in begun {
            self.end_event(entry, event, "aborted: the cluster was started anew");
        }
        for event in std::mem::take(&mut self.manager.queue) {
            self.supersede_one(entry, event, "the cluster was started anew".into());
        }
        self.manager.fencing.clear();
        self.manager.takeovers.clear();
        // What had fired and was dealt with is no news; what nobody dealt with may fire again.
        for trigger in &given_up {
            self.rearm_given_up(entry, trigger);
        }
        for member in self.manager.members.values_mut() {
            member.joined = false;
        }
        // What was in service is not: that is an incident, though nobody was there to see it begin.
        if self.groups.values().any(|group| group.state() == GroupState::Online) {
            entry.begins = Some(entry.index);
            let from_ms = self.vacancies.back().map_or(0, |vacancy| vacancy.from_ms);
            self.begin_unseen_loss(entry.index, from_ms);
        }
        let why = |_: &Self, _| "the cluster has just started".to_owned();
        self.lose_sight_of(entry, why, |_, _| true, at);
    }
}

/// A record that is a step of an event.
fn step_of(event: &Event, code: Code, severity: Severity, message: String) -> RecordDraft {
    RecordDraft::new(code, severity, Subject::Event, message)
        .of_event(event.id, None, None)
        .of_incident(Some(event.incident))
}

/// Milliseconds from one moment to a later one.
fn ms_between(from: crate::time::WallTime, to: crate::time::WallTime) -> u64 {
    u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0) / 1_000
}
