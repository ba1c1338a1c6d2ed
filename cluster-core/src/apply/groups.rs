//! Groups: where something of them may be active, how that begins and how it ends.
//!
//! There is one function that makes an instance ([`ClusterState::insert_instance`]) and one that
//! ends it (`end_instance`). Everything that must be true of owners is checked in the first: a group
//! that is not concurrent never has a second instance, and nothing begins by a new definition while
//! something is active by the old one.
//!
//! - `reports`: what nodes say about their instances;
//! - `evidence`: how it becomes certain that a node has let go;
//! - `flapping`: groups that fail over again and again;
//! - `left`: what maintenance and forced stops leave running;
//! - `sightings`: what runs where its group is not;
//! - `orders`: what operators want;
//! - `timely`: what ends by itself as time passes;
//! - `define`: a new definition.

mod conflicts;
mod define;
mod evidence;
mod flapping;
mod left;
mod orders;
mod reports;
mod sightings;
#[cfg(test)]
mod tests;
mod timely;
mod unreleased;

use std::collections::{BTreeMap, BTreeSet};

use crate::command::GroupCommand;
use crate::event::{Event, Running};
use crate::group::{Blocked, Group, GroupState, Instance, Policy, ResourceState, ResourceStatus};
use crate::id::NodeNumber;
use crate::model::{HostStatus, Node, Severity};
use crate::placement;
use crate::record::{Code, Record, Subject};
use crate::time::WallTime;
use crate::trigger::{Motive, Trigger};

use super::{ClusterState, Entry, RecordDraft, Refusal};

impl ClusterState {
    /// A command about groups.
    pub(super) fn change_group(
        &mut self,
        entry: &mut Entry<'_>,
        command: &GroupCommand,
    ) -> Result<bool, Refusal> {
        match command {
            GroupCommand::Outside { group, node, token, resources } => {
                Ok(self.lives_outside((group, *node, *token), resources))
            }
            GroupCommand::Progress { group, node, token, state, resources } => {
                Ok(self.progress(entry, (group, *node, *token), *state, resources))
            }
            GroupCommand::Released { group, node, token, why, avoid } => {
                Ok(self.released(entry, (group, *node, *token), why, *avoid))
            }
            GroupCommand::Failed { group, node, token, resource, why, restarted } => {
                Ok(self.failed(entry, (group, *node, *token), (resource, why), *restarted))
            }
            GroupCommand::Tolerated { group, node, token, resource, count, limit, why } => {
                let seen = (*count, *limit, why.as_str());
                Ok(self.tolerated(entry, (group, *node, *token), resource, seen))
            }
            GroupCommand::Conflict { group, node, token, resource, hardware, device } => {
                let heard = (resource.as_str(), *hardware, device.as_str());
                Ok(self.conflict(entry, (group, *node, *token), heard))
            }
            GroupCommand::Covered { group, node, token, since } => {
                Ok(self.covered((group, *node, *token), *since))
            }
            GroupCommand::Sighted { group, node, resources } => {
                Ok(self.sighted(entry, group, *node, resources))
            }
            GroupCommand::Evict { node, evidence } => Ok(self.evict(entry, *node, evidence)),
            GroupCommand::Fence { node, by } => self.fence(entry, *node, *by),
            GroupCommand::Fenced { node, by, attempt, outcome } => {
                Ok(self.fenced(entry, *node, (*by, *attempt), outcome))
            }
            GroupCommand::Waits { node, groups, why } => {
                Ok(self.takeover_waits(entry, *node, groups, why))
            }
            GroupCommand::ConfirmOff { node } => self.confirm_off(entry, *node),
            GroupCommand::Move { group, to, until } => self.order_move(entry, group, *to, *until),
            GroupCommand::Online { group } => self.order_online(entry, group),
            GroupCommand::Offline { group } => self.order_offline(entry, group),
            GroupCommand::Clear { group, node } => self.clear(entry, group, *node),
            // Every entry brings the time along, and this one nothing else.
            GroupCommand::Due => Ok(false),
        }
    }

    /// Makes an instance: nothing of a group is started without one. Refuses a second one of a
    /// group that is not concurrent. The only place where one is made.
    fn insert_instance(&mut self, name: &str, node: NodeNumber, token: u64, at: WallTime) -> bool {
        let left_alone = self.is_left_alone(name, node);
        let Some(def) = self.definition.group(name) else { return false };
        let Some(group) = self.groups.get_mut(name) else { return false };
        let taken = match def.policy {
            Policy::Concurrent => group.instances.contains_key(&node),
            Policy::Cascading | Policy::Rotating => !group.instances.is_empty(),
        };
        if taken || group.retired.is_some() {
            return false;
        }
        let off = ResourceStatus::new(ResourceState::Offline, at, "");
        let resources: BTreeMap<String, ResourceStatus> =
            def.resources.iter().map(|resource| (resource.name.clone(), off.clone())).collect();
        let uncovered = left_alone.then_some(token);
        let state = GroupState::Acquiring;
        group.instances.insert(node, Instance { state, token, since: at, resources, uncovered });
        true
    }

    /// An instance is over; with the last one, the definition by which they were made.
    fn end_instance(&mut self, name: &str, node: NodeNumber) {
        let Some(group) = self.groups.get_mut(name) else { return };
        group.instances.remove(&node);
        group.unreleased.remove(&node);
        group.outside.remove(&node);
        if group.instances.is_empty() {
            group.retired = None;
        }
    }

    /// Lets nodes acquire what an event plans for them, as soon as nobody else has it. Whose commands of it are over
    /// would not come to it any more; another event brings it there.
    pub(super) fn grant(&mut self, entry: &mut Entry<'_>, event: u64) {
        let at_work = |it: &&Running| it.event.id == event && it.is_at_work();
        let Some(running) = self.manager.begun().find(at_work) else { return };
        let wanted: Vec<(String, NodeNumber)> = running
            .plan
            .moves
            .iter()
            .flat_map(|planned| planned.acquire.iter().map(|node| (planned.group.clone(), *node)))
            .filter(|(_, node)| running.participants.contains(node) && !running.is_done(*node))
            .collect();
        for (group, node) in wanted {
            if self.may_acquire(&group, node) {
                self.grant_one(entry, &group, node);
            }
        }
    }

    fn may_acquire(&self, name: &str, node: NodeNumber) -> bool {
        let up = self.nodes.get(&node).is_some_and(|known| known.host == HostStatus::Up);
        up && self.groups.get(name).is_some_and(|group| {
            // What was left running is managed again whatever is wanted of it: only then can it be
            // released.
            let left = group.instances.get(&node).is_some_and(Instance::is_left);
            let free = !group.wanted_offline
                && !group.avoid.contains(&node)
                && self.is_giving_up(node).is_none();
            left || (group.blocked.is_none() && free)
        })
    }

    /// A new instance, or the one that was left running, which is managed again. Nobody else had it
    /// meanwhile, so its token is the same.
    fn grant_one(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber) {
        let (at, token) = (entry.proposal.at, entry.index);
        let group = self.groups.get_mut(name);
        if let Some(left) = group.and_then(|group| group.instances.get_mut(&node)) {
            if left.is_left() {
                left.uncovered = left.uncovered.or(Some(token));
                (left.state, left.since) = (GroupState::Acquiring, at);
            }
            return;
        }
        if self.insert_instance(name, node, token, at) {
            self.sighting_ends(entry, name, node, "it has the group now");
        }
    }

    /// Instances on hosts that went away: nothing is known of them until there is evidence.
    pub(super) fn lose_sight(&mut self, entry: &mut Entry<'_>) {
        let at = entry.proposal.at;
        let away = |state: &Self, node| {
            let host = state.nodes.get(&node).map(|node| node.host);
            matches!(host, Some(HostStatus::Down | HostStatus::Disconnected))
        };
        let why = |state: &Self, node| format!("{} is not there", state.node_name(node));
        self.lose_sight_of(entry, why, away, at);
        self.miss_the_unmanaged(entry);
    }

    /// Tells of groups that a forced stop left running on a node that has gone silent since: whether they run is not known,
    /// and nobody takes them over. A node that said that it leaves has told so itself.
    fn miss_the_unmanaged(&mut self, entry: &mut Entry<'_>) {
        let mut missed: BTreeMap<NodeNumber, BTreeSet<String>> = BTreeMap::new();
        for (name, group) in &self.groups {
            for (node, instance) in &group.instances {
                let silent = |it: &Node| it.host == HostStatus::Down && !it.left;
                let silent = self.nodes.get(node).is_some_and(silent);
                if instance.state == GroupState::Unmanaged && silent {
                    missed.entry(*node).or_default().insert(name.clone());
                }
            }
        }
        for (node, groups) in missed {
            let why = "it was left running there without its manager";
            let why = format!("{why}; {}", self.make_certain(node));
            self.takeover_waits(entry, node, &groups, &why);
        }
    }

    pub(super) fn lose_sight_of(
        &mut self,
        entry: &mut Entry<'_>,
        why: impl Fn(&Self, NodeNumber) -> String,
        lost: impl Fn(&Self, NodeNumber) -> bool,
        at: WallTime,
    ) {
        let mut groups = std::mem::take(&mut self.groups);
        for (name, group) in &mut groups {
            for (node, instance) in &mut group.instances {
                let known = !matches!(instance.state, GroupState::Unknown | GroupState::Unmanaged);
                if known && lost(self, *node) {
                    (instance.state, instance.since) = (GroupState::Unknown, at);
                    for resource in instance.resources.values_mut() {
                        (resource.state, resource.since) = (ResourceState::Unknown, at);
                    }
                    entry.causes.insert(name.clone(), why(self, *node));
                }
            }
        }
        self.groups = groups;
    }

    /// A node is not asked to acquire a group again until that is cleared.
    pub(super) fn avoid(&mut self, entry: &mut Entry<'_>, name: &str, node: NodeNumber, why: &str) {
        let alert = !self.is_flapping(name);
        let Some(group) = self.groups.get_mut(name) else { return };
        let subject = Subject::Group(group.number);
        if !group.avoid.insert(node) {
            return;
        }
        group.avoid_why.insert(node, why.into());
        let message = format!("group {name} could not be acquired by {}", self.node_name(node));
        let happening = RecordDraft::new(Code::ResourceFailed, Severity::Warning, subject, message);
        let happening =
            self.in_event(entry, happening.because(why).alerting(alert), Some(node), None);
        self.record(entry, happening);
    }

    /// Nothing is done with a group any more until an operator says so.
    pub(super) fn block(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        node: Option<NodeNumber>,
        why: &str,
    ) {
        let since = entry.proposal.at;
        let Some(group) = self.groups.get_mut(name) else { return };
        if group.blocked.is_none() {
            group.blocked = Some(Blocked { node, why: why.into(), since });
            entry.causes.insert(name.into(), why.into());
        }
    }

    /// A group that none of its nodes could acquire is blocked no more once another one of them takes
    /// part: that one may be able to.
    pub(super) fn unblock_hopeful(&mut self, entry: &mut Entry<'_>) {
        let joined = |node: &NodeNumber| self.manager.members.get(node).is_some_and(|m| m.joined);
        let hope = |(name, group): (&String, &Group)| {
            let hopeless = group.blocked.as_ref().is_some_and(|blocked| blocked.node.is_none());
            let def = self.definition.group(name).filter(|_| hopeless)?;
            let untried = |node: &&NodeNumber| joined(node) && !group.avoid.contains(node);
            Some((name.clone(), *def.nodes.iter().find(untried)?))
        };
        let found: Vec<(String, NodeNumber)> = self.groups.iter().filter_map(hope).collect();
        for (name, node) in found {
            let why = format!("{} is there and was not tried", self.node_name(node));
            entry.causes.insert(name.clone(), why);
            if let Some(group) = self.groups.get_mut(&name) {
                group.blocked = None;
            }
        }
    }

    /// A group that none of its nodes could acquire waits for an operator.
    pub(super) fn block_hopeless(&mut self, entry: &mut Entry<'_>) {
        if !self.is_idle() {
            return;
        }
        let hopeless = |name: &str| -> Option<Vec<NodeNumber>> {
            let (group, def) = (self.groups.get(name)?, self.definition.group(name)?);
            let wanted = group.instances.is_empty()
                && self.manager.begun().all(|running| !running.concerns(name))
                && group.blocked.is_none()
                && group.held_for.is_none()
                && !group.wanted_offline;
            let there: Vec<NodeNumber> = def
                .nodes
                .iter()
                .copied()
                .filter(|node| self.manager.members.get(node).is_some_and(|m| m.joined))
                .collect();
            let tried = !there.is_empty() && there.iter().all(|node| group.avoid.contains(node));
            (wanted && tried).then_some(there)
        };
        let found: Vec<(String, Vec<NodeNumber>)> =
            self.groups.keys().filter_map(|name| Some((name.clone(), hopeless(name)?))).collect();
        for (name, tried) in found {
            if self.try_again(entry, &name) {
                continue;
            }
            let who = match tried.as_slice() {
                [only] => format!("{} could not", self.node_name(*only)),
                several => format!("none of {} could", self.names(several)),
            };
            let why = format!("{who} acquire it");
            self.block(entry, &name, None, &why);
            let advice = self.advice(&name);
            entry.causes.insert(name, format!("{why}; {advice}"));
        }
    }

    /// Nodes where nothing failed are tried once more, before a group that was online since is blocked.
    fn try_again(&mut self, entry: &mut Entry<'_>, name: &str) -> bool {
        let Some(group) = self.groups.get_mut(name) else { return false };
        let passed_over = std::mem::take(&mut group.passed_over);
        let nodes: Vec<NodeNumber> = passed_over.intersection(&group.avoid).copied().collect();
        if !std::mem::take(&mut group.second_chance) || nodes.is_empty() {
            return false;
        }
        group.avoid.retain(|node| !nodes.contains(node));
        let cause = format!("nothing failed on {}, so it is tried again there", self.names(&nodes));
        self.enqueue(entry, Trigger::GroupMove { group: name.into() }, &cause, None);
        true
    }

    /// Records each group whose state is not the one that was recorded last.
    pub(super) fn record_groups(&mut self, entry: &mut Entry<'_>) {
        let changed: Vec<(String, GroupState, GroupState)> = self
            .groups
            .iter()
            .map(|(name, group)| {
                let before = entry.groups.get(name).copied().unwrap_or(GroupState::Offline);
                (name.clone(), before, group.state())
            })
            .filter(|(_, from, to)| from != to)
            .collect();
        for (name, from, to) in changed {
            self.record_group(entry, &name, from, to);
            entry.groups.insert(name, to);
        }
    }

    fn record_group(
        &mut self,
        entry: &mut Entry<'_>,
        name: &str,
        from: GroupState,
        to: GroupState,
    ) {
        // What was in ERROR has had its alert.
        let unplanned =
            to == GroupState::Offline && from != GroupState::Error && self.off_by_itself(name);
        let at = entry.proposal.at;
        let Some(group) = self.groups.get_mut(name) else { return };
        let took = u64::try_from(at.0.saturating_sub(group.since.0)).unwrap_or(0) / 1_000;
        group.since = at;
        let (number, node, count) = (group.number, group.owner(), group.instances.len());
        let (last, stopped) = (group.last, group.stopped_for.is_some());
        let place = match node {
            Some(node) if count == 1 => format!(" on {}", self.node_name(node)),
            _ => String::new(),
        };
        let severity = match to {
            GroupState::Error => Severity::Error,
            GroupState::Offline if unplanned || stopped => Severity::Error,
            GroupState::Unknown | GroupState::Unmanaged => Severity::Warning,
            GroupState::Online | GroupState::Offline => Severity::Notice,
            GroupState::Acquiring | GroupState::Releasing => Severity::Informational,
        };
        let cause = entry.causes.get(name).cloned().unwrap_or_default();
        let message = format!("group {name} is {to}{place}");
        let happening = RecordDraft::new(Code::Group, severity, Subject::Group(number), message)
            .change(from, to)
            .because(cause)
            .alerting(to == GroupState::Error || unplanned && !self.is_flapping(name));
        // Clients lost it, though nobody knows of a failure yet: that is one, and what follows is of it.
        let lost = unplanned && from == GroupState::Online;
        let node = if lost { last } else { node.filter(|_| count == 1) };
        // What a node in trouble lost is of that trouble, whatever event is in progress.
        let taken = from == GroupState::Unknown && to == GroupState::Offline;
        let trouble = if taken { self.incident_of_group(name) } else { None };
        let mut happening = match trouble {
            Some(_) => self.in_event_or(trouble, happening, node, Some(took)),
            None => self.in_event(entry, happening, node, Some(took)),
        };
        let known = happening.incident.or_else(|| self.incident_of_group(name));
        let known = known.or_else(|| self.groups.get(name)?.lost);
        // What is said of a group that is out of service belongs to what took it out.
        let out = from != GroupState::Online;
        let known = known.or_else(|| self.groups.get(name)?.outage.filter(|_| out));
        let unseen = lost && known.is_none();
        let unseen = unseen.then(|| match last {
            Some(node) => self.incident_of_let_go(entry.index, node),
            None => entry.index,
        });
        happening.incident = known.or(unseen);
        let left = self.left_for(name, (from, to));
        if let Some(group) = self.groups.get_mut(name).filter(|_| left.is_some()) {
            group.left = left;
        }
        if let Some(group) = self.groups.get_mut(name).filter(|_| lost || to == GroupState::Online)
        {
            group.lost = happening.incident.filter(|_| lost);
        }
        if let Some(group) = self.groups.get_mut(name).filter(|_| from == GroupState::Online) {
            group.outage = happening.incident;
        }
        self.record(entry, happening);
    }

    /// On whose behalf a group goes out of service with this change of its state; `None` if it does not. What is
    /// released while its node could go on with it is planned, whatever else the event in progress is about.
    fn left_for(&self, name: &str, (from, to): (GroupState, GroupState)) -> Option<Motive> {
        use GroupState as S;
        match (from, to) {
            (_, S::Unknown | S::Error) => Some(Motive::Failure),
            (S::Online, S::Releasing) => Some(self.released_for(name)),
            (S::Online, _) => Some(Motive::Failure),
            // It was just being restarted in place, or taken to where an operator does not want it any more.
            (S::Acquiring, S::Releasing) => {
                Some(self.released_for(name)).filter(|motive| *motive == Motive::Operator)
            }
            _ => None,
        }
    }

    fn released_for(&self, name: &str) -> Motive {
        let Some(group) = self.groups.get(name) else { return Motive::Failure };
        let Some(owner) = group.owner() else { return Motive::Failure };
        let failed = group.avoid.contains(&owner) || placement::is_cut_off(self, name);
        if failed || group.stopped_for.is_some() {
            return Motive::Failure;
        }
        let stopped = |member: &crate::event::Member| member.stopped.is_some();
        let ordered = group.wanted_offline
            || group.preferred.is_some_and(|wish| wish != owner)
            || self.manager.members.get(&owner).is_some_and(stopped);
        if ordered {
            return Motive::Operator;
        }
        let plans = |running: &&Running| running.plans(name, owner);
        let event = self.manager.begun().find(plans).map(|running| &running.event);
        match event.and_then(|event| event.motive) {
            // Its node works, so what failed is something else.
            Some(Motive::Failure) if event.is_some_and(|it| is_about_another(it, owner)) => {
                Motive::Return
            }
            motive => motive.unwrap_or(Motive::Failure),
        }
    }

    /// The incident of a node that has a group or had it last.
    fn incident_of_group(&self, name: &str) -> Option<u64> {
        let group = self.groups.get(name)?;
        let mut nodes = group.instances.keys().copied().chain(group.last);
        nodes.find_map(|node| self.nodes.get(&node)?.incident)
    }

    /// The incident of a group that a node let go of by itself, if there is one that is not ONLINE yet
    /// and is still to be.
    pub(super) fn incident_of_loss(&self, node: NodeNumber) -> Option<u64> {
        let awaited = |group: &&Group| {
            group.last == Some(node) && !group.wanted_offline && group.blocked.is_none()
        };
        self.groups.values().filter(awaited).find_map(|group| group.lost)
    }

    /// Whether a group is off although nobody wants that and no event is about it.
    fn off_by_itself(&self, name: &str) -> bool {
        self.is_idle()
            && self.manager.begun().all(|running| !running.concerns(name))
            && self.definition.group(name).is_some()
            && self
                .groups
                .get(name)
                .is_some_and(|group| !group.wanted_offline && group.held_for.is_none())
    }

    /// Makes a happening a step of the event in progress, if there is one. What happens to a node in
    /// trouble, or begins an incident, belongs to that incident; the event in progress may be of another
    /// one, and is none of its steps then.
    fn in_event(
        &self,
        entry: &Entry<'_>,
        happening: RecordDraft,
        node: Option<NodeNumber>,
        took: Option<u64>,
    ) -> RecordDraft {
        let of_node = node.and_then(|node| self.nodes.get(&node)?.incident);
        self.in_event_or(of_node.or(entry.begins), happening, node, took)
    }

    fn in_event_or(
        &self,
        trouble: Option<u64>,
        happening: RecordDraft,
        node: Option<NodeNumber>,
        took: Option<u64>,
    ) -> RecordDraft {
        let event = self.event_about(happening.subject).map(|running| &running.event);
        match event.filter(|event| trouble.is_none_or(|incident| incident == event.incident)) {
            Some(event) => {
                happening.of_event(event.id, node, took).of_incident(Some(event.incident))
            }
            None => RecordDraft { node, duration_ms: took, ..happening }.of_incident(trouble),
        }
    }

    /// The event that has the group of a subject in hand, which may go on aside; else the one in progress.
    fn event_about(&self, subject: Subject) -> Option<&Running> {
        let name = match subject {
            Subject::Group(number) | Subject::Resource(number, _) => Some(self.group_name(number)),
            _ => None,
        };
        let its = |running: &&Running| name.as_ref().is_some_and(|name| running.has_in_hand(name));
        self.manager.begun().find(its).or(self.manager.current.as_ref())
    }

    /// Groups that are configured no more and of which nothing is left: that is the last record of each.
    pub(super) fn prune_groups(&mut self, entry: &mut Entry<'_>) {
        let definition = &self.definition;
        let gone = |(name, group): &(&String, &Group)| {
            definition.group(name).is_none() && group.instances.is_empty()
        };
        let gone: Vec<(String, u16, Option<u64>)> = self
            .groups
            .iter()
            .filter(gone)
            .map(|(name, group)| (name.clone(), group.number, group.outage))
            .collect();
        for (name, number, outage) in gone {
            let from = entry.groups.remove(&name).unwrap_or(GroupState::Offline);
            let outage = outage.filter(|_| from != GroupState::Online);
            let message = format!("group {name} is gone");
            let subject = Subject::Group(number);
            let happening = RecordDraft::new(Code::Group, Severity::Notice, subject, message)
                .change(from, GroupState::Offline)
                .because(Record::NOT_CONFIGURED);
            let happening = self.in_event_or(outage, happening, None, None);
            self.record(entry, happening);
            self.groups.remove(&name);
        }
    }
}

/// Whether an event is about the failure of another node.
fn is_about_another(event: &Event, owner: NodeNumber) -> bool {
    matches!(event.trigger, Trigger::NodeDown { node, stop: None } if node != owner)
}
