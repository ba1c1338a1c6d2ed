//! The invariant "running on two nodes", and that what breaks it by right is told.
//!
//! **No resource of a group that is not concurrent is alive on two nodes**, whatever became of its addresses. The
//! product itself says where it cannot keep that. Each exception is a fact about one life, judged when the cluster
//! took its instance for over ([`Ended`]) or when the second one begins; nothing else is excused ([`excuse`]):
//! - *by hand*: it was started past the cluster. Nobody can prevent that; it is seen, told, and stopped by policy;
//! - *confirmed*: an operator said that the node is off, and it was not;
//! - *not covered*: nothing but a stop program takes it away (`config check` and `verify` say so), the lease ended, and
//!   the configuration does not ask for more. With `strict`, and for data, a lease is no evidence for what its backing
//!   does not cover, and there is no exception;
//! - *its release program failed*: a silent node's is trusted after its time (`takeover::programs_last`). A node that
//!   is heard names its group until it has succeeded, and there is no exception; the same goes for data;
//! - *all three stopped*: guard, agent and reaper, or unable to end it, and no `strict`. Whoever goes on first begins
//!   then, and has the time of a release, or its release program's, from then;
//!
//! None of them holds for what maintenance or a forced stop left running, nor for what the cluster was told it
//! could not be stopped: no lease ends that. And none for what its node called released.
//!
//! What runs where it should not is *told* (`Group::also`), or its instance is there for everybody to see: within
//! [`TOLD`] of the time from which its node can look, and tell. What outlived a lease is *stopped* within [`STOPPED`]
//! of the moment from which a stop program would do it, with and without a quorum.

use vedette_core::command::{Command, GroupCommand, ManagerCommand, Proposal};
use vedette_core::group::{GroupState, Instance, Policy, ResourceKind};
use vedette_core::model::AgentStatus;
use vedette_core::takeover::LetGo;

use super::kernel::{Key, Life, Monitor, PROGRAM_MS, Place, Stop};
use super::world::{MS, World, index_of};

/// Two looks, of which the first may come an interval late, and a word to the cluster.
pub(super) const TOLD: u64 = 6_000 * MS;
/// A stop that failed is tried again after three seconds.
pub(super) const STOPPED: u64 = 4_000 * MS;

/// By what the cluster took an instance for over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Its node said so.
    Word,
    /// The lease is over, by the silence that others attest.
    Silence,
    /// The lease is over, by an epoch that its guard began.
    Epoch,
    /// An operator is certain.
    Operator,
}

/// The end of a life's instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    how: How,
    /// No lease could end it: maintenance, a forced stop, or a release that failed.
    beyond: bool,
    /// The configuration is strict, and what stands behind the release does not cover it.
    strict: bool,
    /// Guard, agent and reaper stood still.
    unacted: bool,
}

/// Instances that an entry may end.
pub(super) type Before = Vec<(String, usize, Instance)>;

impl World {
    /// What an entry may end, as it is before.
    pub(super) fn before(&self, entry: &Proposal) -> Before {
        let node = match &entry.command {
            Command::Group(
                GroupCommand::Evict { node, .. }
                | GroupCommand::ConfirmOff { node }
                | GroupCommand::Fenced { node, .. }
                | GroupCommand::Released { node, .. },
            )
            | Command::Manager(ManagerCommand::Present { node, .. }) => *node,
            _ => return Vec::new(),
        };
        let groups = self.reference.groups.iter();
        groups
            .filter_map(|(name, it)| Some((name, it.instances.get(&node)?)))
            .map(|(name, instance)| (name.clone(), index_of(node), instance.clone()))
            .collect()
    }

    /// What an entry ended, and what it says of a release that failed.
    pub(super) fn note_ends(&mut self, entry: &Proposal, before: Before) {
        if let Command::Group(GroupCommand::Progress {
            group,
            node,
            token,
            state: Some(GroupState::Error),
            ..
        }) = &entry.command
        {
            let at = index_of(*node);
            let told = self.reference.groups.get(group).and_then(|it| it.instances.get(node));
            if told.is_some_and(|it| it.token == *token && it.state == GroupState::Error) {
                self.lives_of(at, group, *token).for_each(|life| life.stuck = true);
            }
        }
        let how = match &entry.command {
            Command::Group(GroupCommand::Released { .. }) => How::Word,
            Command::Group(GroupCommand::ConfirmOff { .. }) => How::Operator,
            Command::Group(GroupCommand::Evict { evidence: LetGo::Epoch { .. }, .. })
            | Command::Manager(_) => How::Epoch,
            _ => How::Silence,
        };
        for (group, node, was) in before {
            let number = self.machines[node].number;
            let now = self.reference.groups.get(&group).and_then(|it| it.instances.get(&number));
            if now.is_some_and(|now| now.token == was.token) {
                continue;
            }
            let strict = self.is_strict_about(node, &group);
            let (uncovered, unacted) = (!was.is_covered(), self.nobody_acts(node));
            for life in self.lives_of(node, &group, was.token) {
                let beyond = uncovered || life.stuck;
                life.ended = Some(Ended { how, beyond, strict, unacted });
            }
        }
    }

    /// Whether more than a lease is wanted for a group of that node: for data always, for the rest if that was configured.
    fn is_strict_about(&self, node: usize, group: &str) -> bool {
        let definition = &self.reference.definition;
        let backing = self.backing_of(node);
        let resources = definition.group(group).into_iter().flat_map(|def| &def.resources);
        let (strict, left) = (self.strict, |kind: &ResourceKind| !backing.covers(kind, true));
        resources.into_iter().any(|it| left(&it.kind) && (strict || it.kind.is_data()))
    }

    fn lives_of(
        &mut self,
        node: usize,
        group: &str,
        token: u64,
    ) -> impl Iterator<Item = &mut Life> {
        let lives = self.machines[node].kernel.lives.iter_mut();
        lives.filter(move |(key, life)| key.0 == group && life.token == token).map(|(_, life)| life)
    }

    /// Nothing is alive twice without an excuse: looked at whenever something begins to live.
    pub(super) fn check_twice(&mut self) {
        let exclusive = |key: &Key| {
            let def = self.reference.definition.group(&key.0);
            def.is_some_and(|def| def.policy != Policy::Concurrent)
        };
        let mut seen: Vec<(&Key, usize)> = Vec::new();
        let (mut twice, mut excused) = (None, 0);
        for (node, machine) in self.machines.iter().enumerate() {
            for (key, life) in &machine.kernel.lives {
                if !exclusive(key) {
                    continue;
                }
                if self.excuse(node, key, life) {
                    excused += 1;
                    continue;
                }
                if let Some((_, other)) = seen.iter().find(|(other, _)| *other == key) {
                    twice = Some((key.1.clone(), *other, node));
                }
                seen.push((key, node));
            }
        }
        self.counts.excused += excused;
        if let Some((resource, first, second)) = twice {
            let what = format!("{resource} runs on n{} and n{}", first + 1, second + 1);
            self.checks.fail(self.now, what);
        }
    }

    /// Whether the product says itself that it cannot prevent that this lives beside another one.
    fn excuse(&self, node: usize, key: &Key, life: &Life) -> bool {
        if life.token == 0 {
            return true;
        }
        let Some(Ended { how, beyond, strict, unacted }) = life.ended else { return false };
        match how {
            How::Operator => true,
            How::Word => false,
            How::Silence | How::Epoch if beyond => false,
            How::Silence if strict => false,
            How::Silence => match life.place {
                Place::Outside | Place::Data => true,
                Place::Program => {
                    let began = self.machines[node].kernel.releasing.get(key);
                    let goes_on = began.is_some_and(|began| self.now - began <= PROGRAM_MS * MS);
                    life.program_failed || self.nobody_acts(node) || (unacted && goes_on)
                }
                Place::Inside => {
                    let release = self.reference.settings.timing.release_max_ms * MS;
                    let begins = self.now - self.machines[node].kernel.went_on <= release;
                    self.nobody_acts(node) || (unacted && begins)
                }
            },
            How::Epoch => life.place == Place::Outside,
        }
    }

    /// What runs where it should not is told, and what outlived a lease is stopped.
    pub(super) fn check_strays(&mut self) {
        if self.conduct.in_detail {
            return;
        }
        for node in 0..self.machines.len() {
            if !self.machines[node].kernel.lives.is_empty() {
                self.check_strays_of(node);
            }
        }
    }

    fn check_strays_of(&mut self, node: usize) {
        let now = self.now;
        let can_tell = self.can_tell(node);
        let machine = &self.machines[node];
        let (number, mood) = (machine.number, machine.kernel.mood);
        let session = machine.agent.as_ref().filter(|agent| !agent.paused).map(|it| it.session);
        let stops = mood.stop == Stop::Works && mood.monitor == Monitor::Honest;
        let groups = &self.reference.groups;
        let mut wrong = None;
        for (key, life) in &mut self.machines[node].kernel.lives {
            let known = groups.get(&key.0).is_none_or(|group| {
                group.instances.contains_key(&number) || group.also.contains_key(&number)
            });
            let since = |holds: bool, since: Option<u64>| holds.then(|| since.unwrap_or(now));
            life.untold = since(can_tell && !known, life.untold);
            // What maintenance leaves alone is nobody else's, however its lease ended.
            let alone = groups.get(&key.0).and_then(|group| group.instances.get(&number));
            let alone = alone.is_some_and(|instance| !instance.is_covered());
            let owed = life.lapsed.is_some_and(|(_, by)| session.is_some() && by == session);
            let owed = owed && !alone;
            life.unstopped = since(owed && stops, life.unstopped);
            let name = &key.1;
            if life.untold.is_some_and(|since| now - since > TOLD) {
                wrong = Some(format!("{name} runs on n{number}, and nobody is told"));
            } else if life.unstopped.is_some_and(|since| now - since > STOPPED) {
                wrong = Some(format!(
                    "the lease of n{number} is over, and its agent does not stop {name}"
                ));
            }
        }
        if let Some(what) = wrong {
            self.checks.fail(now, what);
        }
    }

    /// Whether a node can look at what runs on it, and be heard by the cluster.
    pub(super) fn can_tell(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let number = machine.number;
        let awake = machine.guard.as_ref().is_some_and(|guard| !guard.paused) && machine.serves();
        let runs = machine.agent.as_ref().is_some_and(|it| it.status == AgentStatus::Running);
        let joined = self.reference.manager.members.get(&number).is_some_and(|it| it.joined);
        awake
            && runs
            && joined
            && machine.kernel.mood.monitor == Monitor::Honest
            && self.holds_lease(node)
            && self.led_in(node).is_some()
    }
}
