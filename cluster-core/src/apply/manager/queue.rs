//! The queue: what gets in, in which order, and what a later event makes needless (spec H14).
//!
//! Almost everything in it follows from statuses and is queued here, in the very entry that changed
//! them; what no other node can see (a user-defined event, a standby adapter) is proposed.

use crate::command::{Command, GroupCommand, ManagerCommand};
use crate::event::{Ended, Event, Manager, Running, Stage, StandbyFault};
use crate::group::{GroupState, ResourceKind};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus, Severity};
use crate::placement;
use crate::record::{Code, Subject};
use crate::trigger::{Motive, StopMode, Trigger};

use super::{ClusterState, Entry, Refusal, step_of};

/// How many events may wait before proposed ones are refused.
const MOST_WAITING: usize = 256;

impl ClusterState {
    /// An event that was seen by its proposer alone.
    pub(super) fn queue_seen(
        &mut self,
        entry: &mut Entry<'_>,
        trigger: &Trigger,
        cause: &str,
    ) -> Result<bool, Refusal> {
        let standby = match trigger {
            Trigger::User { .. } => None,
            Trigger::JoinStandby { node, network } | Trigger::FailStandby { node, network } => {
                Some((*node, *network))
            }
            // Beats may find a way round a dead adapter, so that nobody but its node sees it.
            Trigger::SwapAdapter { node, network }
                if self.can_swap(*node, *network) && self.serves(*node, *network) =>
            {
                None
            }
            _ => {
                return Err(Refusal::new(
                    "not_proposed",
                    format!("{} follows from what is observed", self.trigger_label(trigger)),
                    "Only user-defined events and those of standby adapters that work are proposed.",
                ));
            }
        };
        let has_failed = |running: &Running| running.event.trigger == *trigger;
        let swaps = matches!(trigger, Trigger::SwapAdapter { .. });
        if self.has_fired(trigger) || (swaps && self.manager.failed().any(has_failed)) {
            return Ok(false);
        }
        let joined = |node| self.manager.members.get(&node).is_some_and(|member| member.joined);
        if !trigger.node().is_some_and(joined) {
            return Err(Refusal::new(
                "not_joined",
                format!("{}: the node's manager takes no part", self.trigger_label(trigger)),
                "See which managers take part: vedette node list.",
            ));
        }
        if self.manager.queue.len() >= MOST_WAITING {
            return Err(Refusal::new(
                "queue_full",
                format!("{} events wait already", self.manager.queue.len()),
                "Wait until they were processed, or see why they are not: vedette event show.",
            ));
        }
        let user = matches!(trigger, Trigger::User { .. });
        let mut changed = user;
        if user {
            self.check_room_to_fire()?;
        }
        if let Some(standby) = standby {
            let down = matches!(trigger, Trigger::FailStandby { .. });
            let fault = StandbyFault { since: entry.proposal.at, cause: cause.into() };
            changed = self.manager.set_standby(standby, down.then_some(fault));
        }
        let queued = self.enqueue(entry, trigger.clone(), cause, None);
        if let Trigger::JoinStandby { node, network } = *trigger {
            let why = format!("the standby adapter of {} works again", self.node_name(node));
            self.end_needless_of((node, network), entry, &why);
            self.swap_if_needed(entry, node, network, cause);
        }
        if user {
            self.mark_fired(entry, trigger, queued);
        }
        Ok(queued || changed)
    }

    /// Queues an event, unless it waits already; what it makes needless leaves the queue.
    pub(in crate::apply) fn enqueue(
        &mut self,
        entry: &mut Entry<'_>,
        trigger: Trigger,
        cause: &str,
        incident: Option<u64>,
    ) -> bool {
        let voting = |running: &crate::event::Running| {
            running.stage == Stage::Voting && running.event.trigger == trigger
        };
        if self.waits(|waiting| *waiting == trigger)
            || self.manager.current.as_ref().is_some_and(voting)
        {
            return false;
        }
        self.manager.last_event += 1;
        let motive = self.motive(entry, &trigger);
        let event = Event {
            id: self.manager.last_event,
            trigger,
            at: entry.proposal.at,
            cause: cause.into(),
            incident: incident.unwrap_or(entry.index),
            motive: Some(motive),
        };
        let label = self.event_label(&event);
        self.record(
            entry,
            step_of(
                &event,
                Code::EventQueued,
                Severity::Informational,
                format!("{label} was queued"),
            )
            .change("", motive)
            .because(cause),
        );
        let why = format!("{label} makes it needless");
        let trigger = event.trigger.clone();
        self.insert_event(event);
        self.supersede(entry, &why, |waiting| makes_needless(&trigger, waiting));
        true
    }

    /// On whose behalf an event takes groups out of service, which its record says as what it is now.
    fn motive(&self, entry: &Entry<'_>, trigger: &Trigger) -> Motive {
        match trigger {
            Trigger::NodeUp(_) | Trigger::JoinStandby { .. } | Trigger::NetworkUp(_) => {
                Motive::Return
            }
            Trigger::NodeDown { stop: Some(_), .. } => Motive::Operator,
            Trigger::NodeDown { stop: None, .. }
            | Trigger::SwapAdapter { .. }
            | Trigger::FailStandby { .. }
            | Trigger::NetworkDown(_) => Motive::Failure,
            Trigger::ReconfigTopology { .. } | Trigger::ReconfigResource { .. } => {
                Motive::Configuration
            }
            Trigger::User { .. } => Motive::Rule,
            Trigger::GroupMove { group } => self.motive_to_move(entry, group),
        }
    }

    fn motive_to_move(&self, entry: &Entry<'_>, name: &str) -> Motive {
        let ordered =
            matches!(
                &entry.proposal.command,
                Command::Group(
                    GroupCommand::Move { group, .. }
                    | GroupCommand::Online { group }
                    | GroupCommand::Offline { group }
                ) if group == name
            ) || matches!(entry.proposal.command, Command::Manager(ManagerCommand::Stop { .. }));
        if ordered || self.all_stop() {
            return Motive::Operator;
        }
        let (Some(group), Some(def)) = (self.groups.get(name), self.definition.group(name)) else {
            return Motive::Configuration;
        };
        match group.owner() {
            _ if group.stopped_for.is_some() => Motive::Failure,
            Some(owner) if group.state() == GroupState::Online => {
                if !def.nodes.contains(&owner) {
                    Motive::Configuration
                } else if group.avoid.contains(&owner) || placement::is_cut_off(self, name) {
                    Motive::Failure
                } else {
                    Motive::Return
                }
            }
            _ => Motive::Failure,
        }
    }

    /// Puts an event in its place: by rank, and by id among equals.
    pub(super) fn insert_event(&mut self, event: Event) {
        let key = (event.trigger.rank(), event.id);
        let place =
            self.manager.queue.partition_point(|other| (other.trigger.rank(), other.id) < key);
        self.manager.queue.insert(place, event);
    }

    /// Takes events out of the queue that `needless` knows.
    pub(super) fn supersede(
        &mut self,
        entry: &mut Entry<'_>,
        why: &str,
        needless: impl Fn(&Trigger) -> bool,
    ) -> bool {
        let (gone, kept): (Vec<Event>, Vec<Event>) = std::mem::take(&mut self.manager.queue)
            .into_iter()
            .partition(|event| needless(&event.trigger));
        self.manager.queue = kept;
        let any = !gone.is_empty();
        for event in gone {
            self.supersede_one(entry, event, why.into());
        }
        any
    }

    pub(super) fn supersede_one(&mut self, entry: &mut Entry<'_>, event: Event, why: String) {
        let message = format!("{} was superseded", self.event_label(&event));
        self.record(
            entry,
            step_of(&event, Code::EventSuperseded, Severity::Informational, message).because(why),
        );
        self.end_unbegun(entry, event, "superseded");
    }

    /// An event that never began is over.
    pub(super) fn end_unbegun(&mut self, entry: &Entry<'_>, event: Event, how: &str) {
        let at = entry.proposal.at;
        self.remember(Ended { event, how: how.into(), began: at, ended: at });
    }

    pub(super) fn remember(&mut self, ended: Ended) {
        self.manager.ended += 1;
        self.manager.recent.push_back(ended);
        while self.manager.recent.len() > Manager::REMEMBERED {
            self.manager.recent.pop_front();
        }
    }

    /// The failure of a node that is back is not processed any more; it joins again instead.
    pub(super) fn welcome_back(&mut self, entry: &mut Entry<'_>) {
        let back: Vec<NodeNumber> =
            self.manager.members.keys().copied().filter(|node| self.is_ready(*node)).collect();
        for node in back {
            let failure = Trigger::NodeDown { node, stop: None };
            let why = format!("{} is back", self.node_name(node));
            let mut gone = self.supersede(entry, &why, |waiting| *waiting == failure);
            gone |= self.give_up_vote(entry, &failure, &why);
            if gone && let Some(member) = self.manager.members.get_mut(&node) {
                member.joined = false;
            }
        }
    }

    fn give_up_vote(&mut self, entry: &mut Entry<'_>, trigger: &Trigger, why: &str) -> bool {
        let voting = |running: &mut crate::event::Running| {
            running.stage == Stage::Voting && running.event.trigger == *trigger
        };
        let Some(running) = self.manager.current.take_if(voting) else { return false };
        self.supersede_one(entry, running.event, why.into());
        true
    }

    /// A node that may take part: its host is up, its agent runs, and nobody stopped its manager.
    fn is_ready(&self, node: NodeNumber) -> bool {
        let stopped = |node| self.manager.members.get(&node).is_none_or(|m| m.stopped.is_some());
        self.nodes.get(&node).is_some_and(|known| {
            known.host == HostStatus::Up && known.agent == AgentStatus::Running
        }) && !stopped(node)
    }

    /// Queues what follows from statuses and orders: failures, joins, stops.
    pub(super) fn queue_what_follows(&mut self, entry: &mut Entry<'_>) {
        let nodes: Vec<NodeNumber> = self.manager.members.keys().copied().collect();
        for node in nodes {
            if self.is_lost(node) {
                let known = self.nodes.get(&node);
                let cause = known.map(|node| node.host_cause.clone()).unwrap_or_default();
                let incident = known.and_then(|node| node.incident);
                self.enqueue(entry, Trigger::NodeDown { node, stop: None }, &cause, incident);
            } else if self.may_join(node) {
                // Whoever comes back with the whole cluster does so in the incident that took it away.
                let incident = self.incident_of_restart();
                self.enqueue(entry, Trigger::NodeUp(node), "its manager is there", incident);
            }
        }
        self.queue_stops(entry);
    }

    /// Whether a node's failure is to be processed: it takes part, or is about to.
    fn is_lost(&self, node: NodeNumber) -> bool {
        let joining = |trigger: &Trigger| *trigger == Trigger::NodeUp(node);
        let leaving =
            |trigger: &Trigger| matches!(trigger, Trigger::NodeDown { node: n, .. } if *n == node);
        let dying = |trigger: &Trigger| *trigger == Trigger::NodeDown { node, stop: None };
        let joined = self.manager.members.get(&node).is_some_and(|member| member.joined);
        self.is_away(node)
            && (joined || self.waits(joining) || self.has_begun(joining))
            && !self.manager.begun().any(|it| {
                let trigger = &it.event.trigger;
                !it.settled && (dying(trigger) || (!it.is_stuck() && leaving(trigger)))
            })
    }

    fn may_join(&self, node: NodeNumber) -> bool {
        let joined = self.manager.members.get(&node).is_none_or(|member| member.joined);
        let about = |running: &Running| match &running.event.trigger {
            _ if running.settled => false,
            Trigger::NodeUp(n) => *n == node && running.participants.contains(&node),
            Trigger::NodeDown { node: n, .. } => *n == node,
            _ => false,
        };
        self.seeded && self.is_ready(node) && !joined && !self.manager.begun().any(about)
    }

    /// Stops that were ordered. If nobody stays, groups go offline first, then members (spec A17).
    fn queue_stops(&mut self, entry: &mut Entry<'_>) {
        let stopping: Vec<(NodeNumber, StopMode)> = self
            .manager
            .members
            .iter()
            .filter(|(_, member)| member.joined)
            .filter_map(|(node, member)| Some((*node, member.stopped?)))
            .collect();
        if self.all_stop() {
            if !self.manager.is_open() {
                return;
            }
            let groups = self.groups_to_stop();
            for group in &groups {
                let trigger = Trigger::GroupMove { group: group.clone() };
                self.enqueue(entry, trigger, "every node is being stopped", None);
            }
            if !groups.is_empty() {
                return;
            }
        }
        for (node, mode) in stopping {
            let leaving =
                |t: &Trigger| matches!(t, Trigger::NodeDown { node: n, .. } if *n == node);
            let leaves = |it: &Running| !it.settled && leaving(&it.event.trigger);
            if !self.manager.begun().any(leaves) && !self.waits(leaving) {
                let trigger = Trigger::NodeDown { node, stop: Some(mode) };
                self.enqueue(entry, trigger, "an operator stops it", None);
            }
        }
    }

    /// Whether every node that takes part is being stopped.
    pub(super) fn all_stop(&self) -> bool {
        let mut joined = self.manager.members.values().filter(|member| member.joined).peekable();
        joined.peek().is_some() && joined.all(|member| member.stopped.is_some())
    }

    fn groups_to_stop(&self) -> Vec<String> {
        let active = |state| {
            matches!(state, GroupState::Online | GroupState::Acquiring | GroupState::Releasing)
        };
        // Who takes no part releases nothing.
        let joined = |node| self.manager.members.get(node).is_some_and(|member| member.joined);
        self.groups
            .iter()
            .filter(|(_, group)| group.blocked.is_none())
            .filter(|(_, group)| {
                group.instances.iter().any(|(node, it)| joined(node) && active(it.state))
            })
            .filter(|(name, _)| self.has_rule_to_move(name))
            .map(|(name, _)| name.clone())
            .collect()
    }

    fn has_rule_to_move(&self, group: &str) -> bool {
        self.rules.program(&Trigger::GroupMove { group: group.into() }).is_some()
    }

    /// A network whose status really changed, while somebody takes part in events.
    pub(in crate::apply) fn network_changed(
        &mut self,
        entry: &mut Entry<'_>,
        network: NetworkNumber,
        (from, to): (NetworkStatus, NetworkStatus),
        cause: &str,
    ) {
        if !self.seeded || self.manager.joined().next().is_none() {
            return;
        }
        let trigger = match (from, to) {
            (NetworkStatus::Up, NetworkStatus::Down) => Trigger::NetworkDown(network),
            (NetworkStatus::Down, NetworkStatus::Up) => Trigger::NetworkUp(network),
            _ => return,
        };
        self.enqueue(entry, trigger, cause, None);
    }

    /// What an interface that is DOWN serves goes to the standby adapter, if there is one that works: when the
    /// interface fails, when the standby works again, and when a group comes to be served there.
    pub(in crate::apply) fn swap_if_needed(
        &mut self,
        entry: &mut Entry<'_>,
        node: NodeNumber,
        network: NetworkNumber,
        cause: &str,
    ) {
        let joined = self.manager.members.get(&node).is_some_and(|member| member.joined);
        let usable = self.can_swap(node, network);
        let own = self.nodes.get(&node).and_then(|node| node.interfaces.get(&network));
        let failed = own.is_some_and(|it| it.status == InterfaceStatus::Down && !it.with_network);
        if joined && usable && failed && self.serves(node, network) {
            let incident = self.nodes.get(&node).and_then(|node| node.incident);
            self.enqueue(entry, Trigger::SwapAdapter { node, network }, cause, incident);
        }
    }

    /// Events about an adapter that failed and wait for an operator have no purpose any more once the adapter, or the
    /// one that stands by, works: what is left to do is an event of its own, which would have to wait for them.
    pub(in crate::apply) fn end_needless_of(
        &mut self,
        adapter: (NodeNumber, NetworkNumber),
        entry: &mut Entry<'_>,
        why: &str,
    ) {
        let about_it = |it: &&Running| it.event.trigger.adapter() == Some(adapter);
        let failed: Vec<u64> =
            self.manager.failed().filter(about_it).map(|it| it.event.id).collect();
        for id in failed {
            self.end_event(entry, id, &format!("aborted: {why}"));
        }
    }

    /// Whether a node has a standby adapter on a network that is not known to fail.
    fn can_swap(&self, node: NodeNumber, network: NetworkNumber) -> bool {
        let standby = |standby: &crate::definition::Standby| {
            (standby.node, standby.network) == (node, network)
        };
        self.definition.standbys.iter().any(standby)
            && self.manager.standby_fault(node, network).is_none()
    }

    /// The same on every network of a node: its adapter may have failed before it served anything.
    pub(in crate::apply) fn swap_what_failed(&mut self, entry: &mut Entry<'_>, node: NodeNumber) {
        let Some(known) = self.nodes.get(&node) else { return };
        let networks: Vec<NetworkNumber> = known.interfaces.keys().copied().collect();
        for network in networks {
            let interface = self.subject_name(&Subject::Interface(node, network));
            let why =
                format!("interface {interface} was DOWN before a group came to be served there");
            self.swap_if_needed(entry, node, network, &why);
        }
    }

    /// Whether a node has a service address on a network.
    fn serves(&self, node: NodeNumber, network: NetworkNumber) -> bool {
        let here = |kind: &ResourceKind| matches!(kind, ResourceKind::Address { network: n, .. } if *n == network);
        self.definition.groups.iter().any(|def| {
            def.resources.iter().any(|resource| here(&resource.kind))
                && self.groups.get(&def.name).is_some_and(|g| g.instances.contains_key(&node))
        })
    }

    /// When nothing waits or runs: the first group that is not where it should be.
    pub(super) fn queue_astray(&mut self, entry: &mut Entry<'_>) {
        // Stops come first, but for those that wait themselves: for an operator, or until commands end.
        let waits = |node: &NodeNumber| {
            let stops = |trigger: &Trigger| matches!(trigger, Trigger::NodeDown { node: n, stop: Some(_) } if n == node);
            let held_up = |it: &Event| stops(&it.trigger) && !self.manager.is_free(&it.trigger);
            let open = |it: &Running| it.is_stuck() || it.may_run_aside();
            self.manager.begun().any(|it| open(it) && stops(&it.event.trigger))
                || self.manager.queue.iter().any(held_up)
        };
        let stopping = |(node, member): (&NodeNumber, &crate::event::Member)| {
            member.joined && member.stopped.is_some() && !waits(node)
        };
        if !self.is_idle()
            || self.manager.maintenance
            || self.all_stop()
            || self.manager.members.iter().any(stopping)
        {
            return;
        }
        let free = |(group, _): &(String, String)| {
            self.manager.is_free(&Trigger::GroupMove { group: group.clone() })
        };
        let Some((group, why)) = placement::astray(self).into_iter().find(free) else { return };
        if self.has_rule_to_move(&group) {
            let last = self.manager.recent.back().filter(|last| last.ended == entry.proposal.at);
            // A group that is out of service goes on with the incident in which it went.
            let out = self.groups.get(&group).filter(|it| it.state() != GroupState::Online);
            let incident = last.map(|last| last.event.incident).or(out.and_then(|it| it.outage));
            let incident = incident.or(entry.begins);
            self.enqueue(entry, Trigger::GroupMove { group }, &why, incident);
        }
    }
}

/// Whether an event that waits is needless because of a newer one.
fn makes_needless(newer: &Trigger, waiting: &Trigger) -> bool {
    match (newer, waiting) {
        (Trigger::NetworkUp(a), Trigger::NetworkDown(b))
        | (Trigger::NetworkDown(a), Trigger::NetworkUp(b)) => a == b,
        (
            Trigger::NodeDown { node: a, stop: None },
            Trigger::NodeDown { node: b, stop: Some(_) }
            | Trigger::SwapAdapter { node: b, .. }
            | Trigger::JoinStandby { node: b, .. }
            | Trigger::FailStandby { node: b, .. },
        ) => a == b,
        (
            Trigger::JoinStandby { node: a, network: m },
            Trigger::FailStandby { node: b, network: n },
        )
        | (
            Trigger::FailStandby { node: a, network: m },
            Trigger::JoinStandby { node: b, network: n },
        ) => (a, m) == (b, n),
        (Trigger::ReconfigResource { version: a }, Trigger::ReconfigResource { version: b })
        | (Trigger::ReconfigTopology { version: a }, Trigger::ReconfigTopology { version: b }) => {
            a > b
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
