//! Everything that the workers of a node know together: what is held, what of it the lease ends, what was let go of,
//! what does not go; and what guard and cluster said last.
//!
//! One [`LeaseState`] is here, and nobody asks anything else whether there is a lease.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::cover::Cover;
use super::values::{Done, GuardFacts, Mistake, Now, Op, Orders, Seen, Started};
use crate::group::{Group, GroupState, Instance, ResourceDef};
use crate::id::NodeNumber;
use crate::state::ClusterState;
use crate::takeover::Unreleased;
use crate::time::{Instant, WallTime};
use crate::work;

/// How long a stop at the end of a lease may take before the cluster is told that it goes on; most are over
/// by then.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// The lease, as its guard reports it and as the agent's own watch sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// It lasts. Asked before each step of an acquisition.
    pub valid: bool,
    /// The guard held it when it reported last.
    held: bool,
    /// The guard let go of everything, and took nothing since.
    released: bool,
    /// How many times it was lost: whoever is in the middle of something notices a loss even if the lease is back a
    /// moment later.
    pub losses: u64,
}

impl LeaseState {
    /// A report of the guard.
    pub(super) fn report(&mut self, held: bool, released: bool) {
        if (self.held && !held) || (released && !self.released) {
            self.losses += 1;
        }
        (self.held, self.released) = (held, released);
    }

    /// The guard let go, or can no longer be relied on.
    pub(super) fn lose(&mut self) {
        self.held = false;
        self.losses += 1;
    }
}

/// Requests that a worker has not begun.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) ops: BTreeMap<String, std::collections::VecDeque<(u64, Op)>>,
    /// Requests whose answers nobody waits for any more.
    pub(super) forgotten: BTreeSet<u64>,
}

/// Orders to the guard, one at a time.
#[derive(Debug, Default)]
pub(super) struct Telling {
    /// One waits for its answer.
    pub(super) busy: bool,
    pub(super) last: u64,
    /// The last that was answered, and why it was refused if it was.
    pub(super) answered: (u64, Option<String>),
    /// The last that was not answered in time.
    pub(super) unanswered: u64,
}

impl Telling {
    /// Whether the guard owes an answer for longer than it may take.
    pub(super) const fn is_silent(&self) -> bool {
        self.answered.0 < self.unanswered
    }
}

/// See the module.
#[derive(Debug)]
pub struct Desk {
    pub(super) me: NodeNumber,
    pub(super) now: Instant,
    /// When a question may have an answer without any input.
    pub(super) wake: Option<Instant>,
    pub(super) seen: Seen,
    pub(super) lease: LeaseState,
    pub(super) guard: Option<GuardFacts>,
    /// Voters and timers of the guard's latest report.
    pub(super) goes_by: (u64, Option<crate::model::Timing>),
    pub(super) held: BTreeMap<String, Started>,
    /// What of it is in the guard's orders.
    pub(super) cover: Cover,
    /// When the cluster lost sight of what was taken up as it is, so that it is done once each time.
    pub(super) taken_up: BTreeMap<String, (u64, WallTime)>,
    /// What was let go of without a lease, by token and epoch, until that is written down.
    pub(super) dropped: BTreeMap<String, (u64, u64)>,
    /// What cannot be let go of.
    pub(super) stuck: Unreleased,
    /// Groups of earlier epochs of which the guard sees something that does not go.
    pub(super) seen_stuck: BTreeMap<String, String>,
    /// When the guard's present epoch began, as far as this agent knows.
    pub(super) epoch_began: Option<Instant>,
    /// The newest token of each group that was let go of here.
    over: BTreeMap<String, u64>,
    /// Tokens that this node had when this agent first took part: an earlier one may have started what it did not stop.
    inherited: Option<BTreeMap<String, u64>>,
    /// Events in which a start of a group went on without it, because others would not let go of it.
    passed: BTreeMap<String, u64>,
    /// Groups that were asked to move addresses to a better adapter, and have not come to it.
    pub(super) settling: BTreeSet<String>,
    pub(super) asked: Asked,
    pub(super) telling: Telling,
    /// Reports of each group, and those of them that were decided.
    reported: BTreeMap<String, u64>,
    pub(super) decided: BTreeMap<String, u64>,
    operations: u64,
    /// Operations under way, with their outcomes.
    open: BTreeMap<u64, Option<Done>>,
    /// Answers about what lives outside of any control group, by the number of the question.
    pub(super) outside: BTreeMap<u64, BTreeSet<String>>,
    /// The process ends: whatever the lease covers goes.
    pub(super) ending: bool,
    #[cfg(feature = "mistakes")]
    mistake: Option<Mistake>,
    /// Counts changes of what cluster and guard say.
    pub(super) changes: u64,
    /// Counts whatever others may wait for: what is held, the guard's facts, the lease.
    pub(super) news: u64,
}

impl Desk {
    pub(super) fn new(me: NodeNumber, seen: Seen) -> Self {
        Self {
            me,
            now: Instant::default(),
            wake: None,
            seen,
            lease: LeaseState::default(),
            guard: None,
            goes_by: (0, None),
            held: BTreeMap::new(),
            cover: Cover::default(),
            taken_up: BTreeMap::new(),
            dropped: BTreeMap::new(),
            stuck: Unreleased::default(),
            seen_stuck: BTreeMap::new(),
            epoch_began: None,
            over: BTreeMap::new(),
            inherited: None,
            passed: BTreeMap::new(),
            settling: BTreeSet::new(),
            asked: Asked::default(),
            telling: Telling::default(),
            reported: BTreeMap::new(),
            decided: BTreeMap::new(),
            operations: 0,
            open: BTreeMap::new(),
            outside: BTreeMap::new(),
            ending: false,
            #[cfg(feature = "mistakes")]
            mistake: None,
            changes: 0,
            news: 0,
        }
    }

    #[cfg(feature = "mistakes")]
    pub(super) fn make(&mut self, mistake: Option<Mistake>) {
        self.mistake = mistake;
    }

    #[cfg(feature = "mistakes")]
    pub(super) fn makes(&self, mistake: Mistake) -> bool {
        self.mistake == Some(mistake)
    }

    #[cfg(not(feature = "mistakes"))]
    #[expect(clippy::unused_self, reason = "no release makes mistakes")]
    pub(super) const fn makes(&self, _: Mistake) -> bool {
        false
    }

    pub(super) fn turn(&mut self, now: Now) {
        self.now = now.at;
        self.news += u64::from(self.lease.valid != now.lease);
        self.lease.valid = now.lease;
        self.wake = None;
    }

    /// Whether a moment has come; if not, somebody waits for it.
    pub(super) fn is_past(&mut self, at: Instant) -> bool {
        if self.now < at {
            self.wake = Some(self.wake.map_or(at, |known| known.min(at)));
        }
        self.now >= at
    }

    /// The next request to a worker.
    pub(super) fn next_op(&mut self, group: &str) -> Option<(u64, Op)> {
        self.asked.ops.get_mut(group)?.pop_front()
    }

    /// The next request to a worker that is no script's.
    pub(super) fn next_chore(&mut self, group: &str) -> Option<(u64, Op)> {
        let ops = self.asked.ops.get_mut(group)?;
        let place = ops.iter().position(|(_, op)| !matches!(op, Op::Perform(_)))?;
        ops.remove(place)
    }

    /// Number of the next report of a group.
    pub(super) fn next_report(&mut self, group: &str) -> u64 {
        let number = self.reported.entry(group.to_owned()).or_default();
        *number += 1;
        *number
    }

    /// Number of a group's latest report.
    pub(super) fn last_report(&self, group: &str) -> u64 {
        self.reported.get(group).copied().unwrap_or_default()
    }

    /// Whether reports of a group up to that one were decided.
    pub(super) fn is_decided(&self, group: &str, number: u64) -> bool {
        self.decided.get(group).copied().unwrap_or_default() >= number
    }

    /// Opens an operation.
    pub(super) fn open(&mut self) -> u64 {
        self.operations += 1;
        self.open.insert(self.operations, None);
        self.operations
    }

    /// Its outcome, once.
    pub(super) fn close(&mut self, id: u64) -> Option<Done> {
        self.open.get(&id)?.as_ref()?;
        self.open.remove(&id)?
    }

    pub(super) fn done(&mut self, id: u64, done: Done) {
        if let Some(open) = self.open.get_mut(&id) {
            *open = Some(done);
        }
    }

    pub(super) fn cancelled(&mut self, id: u64) {
        self.open.remove(&id);
    }

    /// Number of a question about what lives outside of any control group.
    pub(super) fn ask_outside(&mut self) -> u64 {
        self.operations += 1;
        self.operations
    }

    /// The cluster as it was seen last.
    pub const fn seen(&self) -> &Seen {
        &self.seen
    }

    /// Whether that was seen already.
    pub fn has_seen(&self, seen: &Seen) -> bool {
        let flags = |it: &Seen| (it.quorate, it.running, it.lease);
        Arc::ptr_eq(&self.seen.state, &seen.state) && flags(&self.seen) == flags(seen)
    }

    /// The cluster's state as it is known here.
    pub fn state(&self) -> Arc<ClusterState> {
        self.seen.state.clone()
    }

    /// Counts whatever others may wait for.
    pub const fn news(&self) -> u64 {
        self.news
    }

    /// Whether this node has a say, and its state on hand is of now.
    pub fn has_quorum(&self) -> bool {
        self.seen.running && self.seen.quorate
    }

    /// Whether the lease lasts.
    pub const fn has_lease(&self) -> bool {
        self.lease.valid
    }

    /// The instance of a group on this node, as the state on hand has it.
    pub fn instance(&self, group: &str) -> Option<&Instance> {
        self.seen.state.groups.get(group)?.instances.get(&self.me)
    }

    /// What is held.
    pub const fn held(&self) -> &BTreeMap<String, Started> {
        &self.held
    }

    /// Whether the process ends, and the guard was told what is left running.
    pub const fn is_ending(&self) -> bool {
        self.ending
    }

    /// A resource as it was started, by the times that are in force now: they change nothing of what runs.
    pub(super) fn timed(&self, group: &str, started: &ResourceDef) -> ResourceDef {
        let defined = self.seen.state.definition.group(group);
        let now = defined.and_then(|it| it.resources.iter().find(|it| it.name == started.name));
        let Some(now) = now else { return started.clone() };
        ResourceDef {
            start_timeout_ms: now.start_timeout_ms,
            stop_timeout_ms: now.stop_timeout_ms,
            monitor_timeout_ms: now.monitor_timeout_ms,
            monitor_interval_ms: now.monitor_interval_ms,
            ..started.clone()
        }
    }

    /// The token under which a group is held.
    pub fn token_held(&self, group: &str) -> Option<u64> {
        self.held.get(group).map(|held| held.token)
    }

    /// What is held and may be gone with the lease.
    pub fn ends_with_the_lease(&self) -> BTreeMap<String, Started> {
        let mut held = self.held.clone();
        held.retain(|group, _| self.may_end(group));
        held
    }

    /// Epoch of the guard, as it last said; 0 before.
    pub fn guards_epoch(&self) -> u64 {
        self.guard.as_ref().map_or(0, |facts| facts.epoch)
    }

    /// The guard's present epoch, if the state on hand is one from which this node may act: it knows of that
    /// epoch.
    pub fn epoch(&self) -> Option<u64> {
        let epoch = self.guard.as_ref()?.epoch;
        let known = self.seen.state.manager.members.get(&self.me)?.epoch;
        (known == epoch || self.makes(Mistake::EpochIgnored)).then_some(epoch)
    }

    /// Whether a group may have ended with the lease.
    pub fn may_end(&self, group: &str) -> bool {
        self.cover.may_end(group)
    }

    /// Whether a group may have been let go of, though nobody has said so yet: this process may have stood still.
    pub(super) fn is_in_doubt(&self, group: &str) -> bool {
        self.may_end(group) && !self.has_lease()
    }

    /// A start of a group begins.
    pub(super) fn begins_to_acquire(&mut self, group: &str) {
        self.passed.remove(group);
    }

    /// A start of a group in the event in progress goes on without it.
    pub(super) fn pass(&mut self, group: &str) {
        if let Some(running) = work::plans(&self.seen.state, group, self.me) {
            self.passed.insert(group.to_owned(), running.event.id);
        }
    }

    /// Whether a start went on without the group, and it was given to this node in the same event since. Answers so
    /// once.
    pub(super) fn comes_late(&mut self, group: &str) -> bool {
        let event = work::plans(&self.seen.state, group, self.me).map(|running| running.event.id);
        let comes = event.is_some() && self.passed.get(group).copied() == event;
        if comes {
            self.passed.remove(group);
        }
        comes
    }

    pub(super) fn set_over(&mut self, group: &str, token: u64) {
        let newest = self.over.entry(group.to_owned()).or_default();
        *newest = token.max(*newest);
    }

    /// Whether something of an instance may be here that this agent did not start.
    pub(super) fn may_be_left(&self, group: &str, token: u64) -> bool {
        let inherited = self.inherited.as_ref();
        let known = inherited.is_none_or(|tokens| tokens.get(group) == Some(&token));
        known && !self.is_over(group, token)
    }

    /// The first state of now is known: what it gives this node was given to an earlier agent.
    pub(super) fn inherit(&mut self) {
        if self.inherited.is_none() && self.has_quorum() {
            let groups = self.seen.state.groups.iter();
            let own = |(name, group): (&String, &Group)| {
                Some((name.clone(), group.instances.get(&self.me)?.token))
            };
            self.inherited = Some(groups.filter_map(own).collect());
        }
    }

    pub(super) fn is_over(&self, group: &str, token: u64) -> bool {
        self.over.get(group).is_some_and(|over| token <= *over)
    }

    /// Remembers that a group is let go of because a lease ended, until that is written down: this may be
    /// done before the guard says that it has released everything, and after a lease was granted again.
    pub(super) fn set_dropped(&mut self, group: &str, held: &Started) {
        self.dropped.insert(group.to_owned(), (held.token, held.epoch));
    }

    /// What was let go of without a lease and is not written down: by group, token and epoch. Forgets it.
    pub fn take_dropped(&mut self) -> BTreeMap<String, (u64, u64)> {
        std::mem::take(&mut self.dropped)
    }

    /// A group of an earlier agent that its guard let go of is to be written down.
    pub fn remember_dropped(&mut self, group: &str, token: u64, epoch: u64) {
        self.dropped.insert(group.to_owned(), (token, epoch));
    }

    /// What cannot be let go of, as workers found it.
    pub const fn stuck(&self) -> &Unreleased {
        &self.stuck
    }

    /// That, and what the guard sees.
    pub fn all_stuck(&self) -> Unreleased {
        let mut stuck = self.stuck.clone();
        for (group, why) in &self.seen_stuck {
            stuck.groups.entry(group.clone()).or_insert_with(|| why.clone());
        }
        stuck
    }

    /// Takes over what an earlier agent of this node could not stop: it is over when it is seen to be off.
    pub fn remember_stuck(&mut self, groups: impl IntoIterator<Item = (String, String)>) {
        self.stuck.groups.extend(groups);
        self.news += 1;
    }

    /// Groups that could not be stopped and are nobody's work: to be looked at, whether they are off by now.
    pub fn stuck_and_left(&self) -> Vec<String> {
        let is_left =
            |name: &&String| self.token_held(name).is_none() && self.instance(name).is_none();
        self.stuck.groups.keys().filter(is_left).cloned().collect()
    }

    /// Whether a group is to be asked to settle its addresses; it is asked once.
    pub fn begins_to_settle(&mut self, group: &str) -> bool {
        self.settling.insert(group.to_owned())
    }

    /// What may be said of this node's guard: nothing before it was heard, and nothing for a moment while
    /// something is held that it gave up, because a new epoch says that nothing is. What takes longer to stop,
    /// or does not, is named, and holds up nothing else.
    pub fn presentable(&self, now: Instant) -> Option<GuardFacts> {
        let facts = self.guard.clone().filter(|facts| !facts.goes_on)?;
        let mut groups = self.unreleased(now, facts.epoch)?;
        for (group, why) in facts.unreleased.groups {
            groups.entry(group).or_insert(why);
        }
        let unreleased = Unreleased { groups, ..facts.unreleased };
        Some(GuardFacts { unreleased, ..facts })
    }

    /// When there is more to say of it at the latest, whatever happens.
    pub fn patience_ends(&self, now: Instant) -> Option<Instant> {
        let ends = self.epoch_began? + PATIENCE;
        (ends > now).then_some(ends)
    }

    /// Groups that the lease does not cover any more and that are not seen to be off, with what keeps them;
    /// none while that may be over in a moment.
    fn unreleased(&self, now: Instant, epoch: u64) -> Option<BTreeMap<String, String>> {
        let mut groups = self.stuck.groups.clone();
        let earlier = self.held.iter().filter(|(name, it)| it.epoch != epoch && self.may_end(name));
        let current = self.epoch().is_some();
        // What an earlier agent of this node had when its guard gave it up.
        let left = self.seen.state.groups.iter().filter(|(name, group)| {
            let instance = group.instances.get(&self.me).filter(|_| !current);
            instance.is_some_and(|it| it.is_covered() && self.may_be_left(name, it.token))
                && !self.held.contains_key(*name)
        });
        let stopping: Vec<&String> =
            earlier.map(|(name, _)| name).chain(left.map(|(name, _)| name)).collect();
        let patient = self.epoch_began.is_none_or(|began| now.since(began) < PATIENCE);
        if patient && stopping.iter().any(|name| !groups.contains_key(*name)) {
            return None;
        }
        for name in stopping {
            groups.entry(name.clone()).or_insert_with(|| "it is still being stopped".into());
        }
        Some(groups)
    }

    /// State of each group that this node has, or that the state on hand gives it. What was held in an
    /// earlier epoch of the guard is gone, whatever the state says.
    pub fn own_groups(&self) -> BTreeMap<String, GroupState> {
        let epoch = self.guard.as_ref().map(|facts| facts.epoch);
        let mine = self.seen.state.groups.iter().filter_map(|(name, group)| {
            let instance = group.instances.get(&self.me)?;
            let here = self.held.get(name).map(|held| Some(held.epoch) == epoch);
            let now = match instance.state {
                GroupState::Unmanaged => GroupState::Unmanaged,
                GroupState::Unknown if self.is_left_running(name) => GroupState::Online,
                known if self.is_left_running(name) => known,
                known => match here {
                    Some(true) => known,
                    Some(false) if self.stuck.groups.contains_key(name) => GroupState::Error,
                    Some(false) => GroupState::Releasing,
                    None => GroupState::Offline,
                },
            };
            Some((name.clone(), now))
        });
        mine.collect()
    }

    fn is_left_running(&self, group: &str) -> bool {
        self.held.contains_key(group) && !self.may_end(group)
    }

    /// All that the lease is to cover, for the guard; also what stands in the state as this node's and was not adopted
    /// yet: the guard goes on watching over that.
    pub(super) fn orders(&self, sequence: u64) -> Orders {
        let state = &self.seen.state;
        let mut all = self.held.clone();
        let epoch = self.guards_epoch();
        for (name, group) in &state.groups {
            let Some(instance) = group.instances.get(&self.me) else { continue };
            let token = instance.token;
            let definition = group.retired.as_ref().or_else(|| state.definition.group(name));
            if !self.is_over(name, token)
                && let Some(definition) = definition
            {
                let resources = definition.resources.clone();
                all.entry(name.clone()).or_insert(Started { token, epoch, resources });
            }
        }
        let (covered, left): (BTreeMap<_, _>, BTreeMap<_, _>) =
            all.into_iter().partition(|(group, _)| self.covers(group));
        let current =
            |group: &&String| self.held.get(*group).is_some_and(|held| held.epoch == epoch);
        let anew =
            covered.keys().filter(current).filter_map(|it| Some(state.groups.get(it)?.number));
        let anew = anew.collect();
        Orders { sequence, epoch, covered, left, anew }
    }

    /// Whether a group of this node is to end with the lease.
    pub(super) fn covers(&self, group: &str) -> bool {
        match self.instance(group) {
            None => true,
            Some(it) => !it.is_left() && !self.seen.state.is_left_alone(group, self.me),
        }
    }

    /// Groups that this node has, by the state or by what is held, and that are to be in the guard's orders.
    pub(super) fn to_cover(&self) -> BTreeSet<String> {
        let groups = self.seen.state.groups.iter();
        let here = groups.filter(|(_, group)| group.instances.contains_key(&self.me));
        let mine = here.map(|(name, _)| name).chain(self.held.keys()).cloned();
        mine.filter(|group| !self.is_done(group) && self.covers(group)).collect()
    }

    /// Whether the state has something here that was let go of.
    fn is_done(&self, group: &str) -> bool {
        self.instance(group).is_some_and(|instance| self.is_over(group, instance.token))
    }
}
