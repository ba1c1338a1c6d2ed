//! What an agent does by itself about what runs on its machine: it stops what outlived a lease, looks for what
//! should not run, keeps its guard's orders in line with maintenance, and takes up what was left running.
//!
//! Simulated is what the product's executor does (`daemon/executor`: `worker/release`, `sightings`, `cover`,
//! `worker/left`); what is made of its words is the product's own ([`GroupCommand`]).

use std::collections::{BTreeMap, BTreeSet};

use vedette_core::command::{Command, GroupCommand};
use vedette_core::group::{GroupState, MultipleActive, ResourceState};
use vedette_core::id::NodeNumber;
use vedette_core::state::ClusterState;

use super::Bug;
use super::kernel::{Key, Monitor, Stop};
use super::world::{MS, World};

/// Between two attempts to stop what outlived a lease.
const STOP_AGAIN: u64 = 3_000 * MS;
/// How long the cluster waits to be told of a stop at the end of a lease.
pub(super) const PATIENCE: u64 = 1_000 * MS;
/// The next look after one that found something, or expected to.
const LOOK_AGAIN: u64 = 2_000 * MS;

/// Resources that run, by their groups.
type Found = BTreeMap<String, BTreeSet<String>>;

/// What an agent has on its mind of all this.
#[derive(Debug, Default)]
pub(super) struct Duties {
    /// Groups that its lease ended and that are not seen to be off yet, and when they are stopped next.
    owed: BTreeMap<String, u64>,
    /// Those of them that it had itself, since when: they are named where a new epoch is presented.
    held: BTreeMap<String, u64>,
    /// When it looked last, and what it saw.
    looked: Option<u64>,
    seen: Found,
    /// Of which uncovered time it was said that it is over, by group.
    covered: BTreeMap<String, u64>,
    /// Instances of which it was said that they could not be stopped.
    stuck: BTreeSet<(String, u64)>,
    /// Instances that were said to be taken up, or to be gone.
    taken_up: BTreeSet<(String, u64)>,
}

impl Duties {
    /// The lease ended, and something of these groups is left.
    pub(super) fn owe(&mut self, groups: BTreeSet<String>, now: u64) {
        for group in groups {
            self.held.entry(group.clone()).or_insert(now);
            self.owed.entry(group).or_insert(now);
        }
    }

    /// What is held of an earlier epoch, with what keeps it; none while that may be over in a moment.
    pub(super) fn unreleased(&self, now: u64) -> Option<BTreeMap<String, String>> {
        let stuck = |name: &str| self.stuck.iter().any(|(group, _)| group == name);
        let patient = |(name, since): (&String, &u64)| now - since < PATIENCE && !stuck(name);
        if self.held.iter().any(patient) {
            return None;
        }
        let why = |name: &String| (name.clone(), "it is still being stopped".to_owned());
        Some(self.held.keys().map(why).collect())
    }
}

impl World {
    /// In each round of an agent.
    pub(super) fn do_duties(&mut self, node: usize) {
        if self.conduct.in_detail {
            return;
        }
        self.keep_covered(node);
        self.drop_what_is_not_its(node);
        self.take_up(node);
        self.stop_owed(node);
        if self.bug != Some(Bug::NoSightings) {
            self.look_for_strays(node);
        }
    }

    fn duties(&mut self, node: usize) -> Option<&mut Duties> {
        self.machines[node].agent.as_mut().map(|agent| &mut agent.duties)
    }

    /// The stop program, again and again until it is seen to be off; with or without a quorum.
    fn stop_owed(&mut self, node: usize) {
        if self.bug == Some(Bug::StopNotRun) {
            if let Some(duties) = self.duties(node) {
                duties.owed.clear();
                duties.held.clear();
            }
            return;
        }
        self.owe_what_was_left(node);
        let now = self.now;
        let Some(duties) = self.duties(node) else { return };
        let due = |(group, at): (&String, &u64)| (*at <= now).then(|| group.clone());
        let due: Vec<String> = duties.owed.iter().filter_map(due).collect();
        for group in due {
            let stuck = self.stop_lives(node, &group);
            let Some(duties) = self.duties(node) else { return };
            match stuck {
                Some(resource) => {
                    duties.owed.insert(group.clone(), now + STOP_AGAIN);
                    self.say_stuck(node, &group, &resource);
                }
                None => {
                    duties.owed.remove(&group);
                    duties.held.remove(&group);
                }
            }
        }
    }

    /// What an earlier agent had, and the lease ended, is stopped by the next one: it finds the instance in the
    /// state on hand.
    fn owe_what_was_left(&mut self, node: usize) {
        let now = self.now;
        let machine = &self.machines[node];
        let mine = |(name, group): (&String, &vedette_core::group::Group)| {
            let instance = group.instances.get(&machine.number)?;
            let lost = instance.state != GroupState::Acquiring
                && instance.is_covered()
                && !machine.works.on.contains_key(name)
                && machine.kernel.runs(name);
            lost.then(|| name.clone())
        };
        let lost: Vec<String> = machine.state.groups.iter().filter_map(mine).collect();
        let Some(duties) = self.duties(node) else { return };
        for group in lost {
            duties.owed.entry(group).or_insert(now);
        }
    }

    /// Tells once of an instance that it cannot be released.
    pub(super) fn say_stuck(&mut self, node: usize, group: &str, resource: &str) {
        let machine = &self.machines[node];
        let instance =
            machine.state.groups.get(group).and_then(|it| it.instances.get(&machine.number));
        let Some(token) = instance.map(|instance| instance.token) else { return };
        let Some(duties) = self.duties(node) else { return };
        if duties.stuck.insert((group.to_owned(), token)) {
            let failed = (resource.to_owned(), ResourceState::Failed, "it still runs".to_owned());
            self.say_progress(node, group, token, Some(GroupState::Error), vec![failed]);
        }
    }

    /// A release is tried anew: if it fails again, that is told again.
    pub(super) fn stuck_no_more(&mut self, node: usize, group: &str) {
        if let Some(duties) = self.duties(node) {
            duties.stuck.retain(|(of, _)| of != group);
        }
    }

    /// Looks for what runs here of groups that this node does not have.
    fn look_for_strays(&mut self, node: usize) {
        let now = self.now;
        let takes_part = self.takes_part(node);
        let (me, found) = (self.machines[node].number, self.strays(node));
        let interval = self.machines[node].state.definition.manager.probe_interval_ms * MS;
        let Some(duties) = self.duties(node) else { return };
        if !takes_part {
            (duties.looked, duties.seen) = (None, Found::new());
            return;
        }
        let state = &self.machines[node].state;
        let known = state.groups.values().any(|group| group.also.contains_key(&me));
        let Some(duties) = self.duties(node) else { return };
        let pause = if known || !duties.seen.is_empty() { LOOK_AGAIN } else { interval };
        if duties.looked.is_some_and(|looked| now - looked < pause) {
            return;
        }
        let before = std::mem::replace(&mut duties.seen, found.clone());
        duties.looked = Some(now);
        for (group, resources) in news(&before, &found, (me, &self.machines[node].state)) {
            self.counts.sighted += u64::from(!resources.is_empty());
            let sighted = GroupCommand::Sighted { group, node: me, resources };
            self.say(node, Command::Group(sighted));
        }
        for (group, resources) in to_stop(&before, &found, (me, &self.machines[node].state)) {
            for resource in resources {
                self.stop_life(node, &(group.clone(), resource));
            }
        }
    }

    /// Whether a node is one that could own something, and knows what it owns.
    fn takes_part(&self, node: usize) -> bool {
        let machine = &self.machines[node];
        let joined = machine.state.manager.members.get(&machine.number).is_some_and(|it| it.joined);
        joined && self.holds_lease(node) && self.led_in(node).is_some()
    }

    /// What monitors say of groups that this node could own and does not have.
    fn strays(&self, node: usize) -> Found {
        let machine = &self.machines[node];
        let (me, state) = (machine.number, &machine.state);
        let mut found = Found::new();
        let monitor = machine.kernel.mood.monitor;
        if matches!(monitor, Monitor::Hangs | Monitor::SaysOff) {
            return found;
        }
        for def in state.definition.groups.iter().filter(|def| def.nodes.contains(&me)) {
            let strange =
                state.groups.get(&def.name).is_some_and(|it| !it.instances.contains_key(&me));
            // What is being started or let go of has a worker that knows of it.
            if !strange || machine.works.on.contains_key(&def.name) {
                continue;
            }
            for resource in &def.resources {
                let key: Key = (def.name.clone(), resource.name.clone());
                if monitor == Monitor::SaysOn || machine.kernel.lives.contains_key(&key) {
                    found.entry(key.0).or_default().insert(key.1);
                }
            }
        }
        found
    }

    /// The guard's orders name what is to end with the lease, and the cluster hears when they do again.
    fn keep_covered(&mut self, node: usize) {
        if !self.holds_lease(node) || self.machines[node].guard.as_ref().is_none_or(|it| it.paused)
        {
            return;
        }
        let epoch = self.epoch_heard(node);
        let groups: Vec<String> = self.machines[node].works.on.keys().cloned().collect();
        let mut said = Vec::new();
        for group in groups {
            let machine = &mut self.machines[node];
            let (me, state) = (machine.number, &machine.state);
            let instance = state.groups.get(&group).and_then(|it| it.instances.get(&me));
            let current = state.manager.members.get(&me).is_some_and(|it| it.epoch == epoch);
            let Some(instance) = instance.filter(|_| current) else { continue };
            let left = instance.is_left() || state.is_left_alone(&group, me);
            let (token, uncovered) = (instance.token, instance.uncovered);
            if left {
                machine.kernel.left.insert(group);
                continue;
            }
            machine.kernel.left.remove(&group);
            said.extend(uncovered.map(|since| (group, token, since)));
        }
        if !self.keep_ordered(node) {
            return;
        }
        let me = self.machines[node].number;
        for (group, token, since) in said {
            let Some(duties) = self.duties(node) else { return };
            if duties.covered.insert(group.clone(), since) != Some(since) {
                let covered = GroupCommand::Covered { group, node: me, token, since };
                self.say(node, Command::Group(covered));
            }
        }
    }

    /// What it has and the cluster says it has not is stopped.
    fn drop_what_is_not_its(&mut self, node: usize) {
        if !self.holds_lease(node) || self.led_in(node).is_none() {
            return;
        }
        let epoch = self.epoch_heard(node);
        let machine = &self.machines[node];
        let (me, state) = (machine.number, &machine.state);
        let current = state.manager.members.get(&me).is_some_and(|it| it.epoch == epoch);
        let its = |(group, token): &(&String, &u64)| {
            let instance = state.groups.get(*group).and_then(|it| it.instances.get(&me));
            instance.is_some_and(|it| it.token == **token)
        };
        let strange = machine.works.on.iter().filter(|it| current && !its(it));
        let strange: Vec<String> = strange.map(|(group, _)| group.clone()).collect();
        for group in strange {
            if self.stop_lives(node, &group).is_none() {
                self.turn_off(node, &group);
            }
        }
    }

    /// What was left running and nobody saw for a while is taken up as it is; or nothing of it runs any more.
    fn take_up(&mut self, node: usize) {
        if !self.holds_lease(node) || self.led_in(node).is_none() {
            return;
        }
        let epoch = self.epoch_heard(node);
        let machine = &self.machines[node];
        let (me, state) = (machine.number, &machine.state);
        let current = state.manager.members.get(&me).is_some_and(|it| it.epoch == epoch);
        let Some(agent) = machine.agent.as_ref().filter(|_| current) else { return };
        let unseen: Vec<(String, u64)> = state
            .groups
            .iter()
            .filter_map(|(name, group)| Some((name.clone(), group.instances.get(&me)?)))
            .filter(|(_, it)| it.is_left() && it.state != GroupState::Unmanaged)
            .map(|(name, it)| (name, it.token))
            .filter(|key| !agent.duties.taken_up.contains(key))
            .collect();
        for (group, token) in unseen {
            if let Some(duties) = self.duties(node) {
                duties.taken_up.insert((group.clone(), token));
            }
            self.look_over(node, &group, token);
        }
    }

    /// Takes a group up as it is, without starting anything; if nothing of it runs, it is gone.
    pub(super) fn look_over(&mut self, node: usize, group: &str, token: u64) {
        if self.machines[node].kernel.runs(group) {
            let machine = &mut self.machines[node];
            let left_alone = machine.state.is_left_alone(group, machine.number);
            machine.works.on.insert(group.to_owned(), token);
            machine.kernel.left.insert(group.to_owned());
            machine.kernel.held_anew(group);
            self.say_online(node, group, token);
            // Its monitors start again what does not run, unless maintenance leaves it alone.
            if !left_alone {
                self.begin_lives(node, group, token);
            }
        } else {
            self.machines[node].works.on.remove(group);
            self.say_over(node, group, token, "nothing of what was left running works", false);
        }
    }

    /// Whether a stop program of a group would hang.
    pub(super) fn stop_hangs(&self, node: usize, group: &str) -> bool {
        let kernel = &self.machines[node].kernel;
        kernel.mood.stop == Stop::Hangs && kernel.runs(group)
    }
}

/// What two looks showed alike.
fn confirmed<'a>(
    before: &'a Found,
    found: &'a Found,
) -> impl Iterator<Item = (&'a String, &'a BTreeSet<String>)> {
    found.iter().filter(|(group, resources)| before.get(*group) == Some(*resources))
}

/// What the cluster does not know yet, and what it knows that is over.
fn news(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let known = |group: &str| state.groups.get(group).and_then(|it| it.also.get(&me));
    let new = confirmed(before, found)
        .filter(|(group, now)| known(group).is_none_or(|it| it.resources != **now))
        .map(|(group, now)| (group.clone(), now.clone()));
    let over = state
        .groups
        .iter()
        .filter(|(name, group)| group.also.contains_key(&me) && !found.contains_key(*name));
    new.chain(over.map(|(name, _)| (name.clone(), BTreeSet::new()))).collect()
}

/// What is to be stopped here.
fn to_stop(before: &Found, found: &Found, (me, state): (NodeNumber, &ClusterState)) -> Found {
    let manager = &state.manager;
    let of_node = manager.members.get(&me).is_none_or(|member| member.maintenance);
    if manager.maintenance || of_node {
        return Found::new();
    }
    let free = |group: &str| {
        let known = state.groups.get(group);
        known.is_some_and(|it| !it.maintenance && !it.instances.contains_key(&me))
            && state.multiple_active(group) != MultipleActive::Block
    };
    let extra = confirmed(before, found).filter(|(group, _)| free(group));
    extra.map(|(group, resources)| (group.clone(), resources.clone())).collect()
}
