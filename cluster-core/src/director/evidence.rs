//! When is it certain that a node has let go of its groups, and what is done if it never is.
//!
//! A lease stands on what a majority of the voters has accepted of the node's beats ([`crate::lease`]). The voters'
//! guards report how long ago they accepted one last. Such an attestation is a *stretch* on the clock of this
//! node's guard: it begins at the arrival of the report less that time, at the earliest, and ends with the newest
//! beat of this node's guard that the other had accepted when it made the report (its own, when it was made). Where
//! stretches of a majority share a stretch as long as a lease, the lease was over at its end, the release is done
//! `release_max` later ([`let_go_after`]), and the release programs of what the node has when they have had their
//! time; with the clocks' drift in them. Silences that do not overlap prove nothing: the node may have lived on one
//! voter while the other heard nothing, and the other way round.
//!
//! A majority of which voters? Of every set that the node may have gone by in that stretch: from the one that it had
//! presented when the stretch began to the present one
//! ([`ClusterState::voter_sets_since`](crate::state::ClusterState::voter_sets_since)). What it presented later says
//! nothing of the time before: the voters of another set may have granted it a lease then, which lasts. So each agent
//! remembers since when it has known what was presented ([`Presented`]), whether it leads or not.
//!
//! Nothing of this needs a memory of what an earlier director knew, nor that a guard that was late says nothing: what waits in
//! its socket it has not accepted, and what it accepts later grants nothing earlier. A node that is heard later holds a
//! new lease, in a new epoch, in which it holds nothing of before.
//!
//! A node that is heard though it cannot be reached says itself that it has let go, and of which groups it has not
//! yet: by the epoch in its beats ([`crate::takeover`]), whoever heard them.
//!
//! From silence nothing is concluded
//! - that ended longer ago than detection takes: what the node has may be of after that;
//! - where neither the kernel nor a watchdog stands behind the release, unless the operator trusts
//!   guards; nor for groups of which they do not for data, or, if the configuration is strict, for everything. Then the
//!   node is fenced, or an operator has to say that it is off.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::command::{Command, GroupCommand};
use crate::event::Fencing;
use crate::group::{GroupState, Instance};
use crate::id::{NodeNumber, StorageId};
use crate::lease::VoterSet;
use crate::model::{AgentStatus, HostStatus, Timing};
use crate::state::ClusterState;
use crate::takeover::{LetGo, Remains, lease_lasts, let_go_after};
use crate::time::Instant;

use super::manager::{Due, Duty, Seen};
use super::{Director, Office};

/// The wait after the first failed call of a fence agent; doubled with each further one.
const FENCE_PAUSE: Duration = Duration::from_secs(5);

/// The longest such wait.
const FENCE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// How long a caller may take over the fence agent's time limit.
const FENCE_GRACE: Duration = Duration::from_secs(30);

/// For how long a change of timers is not trusted: a node that lags behind uses the old ones.
const OLD_TIMING: Duration = Duration::from_secs(60);

/// A time in which a voter accepted nothing of a node, on the clock of this node's guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stretch {
    from: Instant,
    to: Instant,
}

impl Stretch {
    /// Whether all of the time from `start` on for so long is in it.
    fn covers(self, start: Instant, length: Duration) -> bool {
        self.from <= start && start + length <= self.to
    }
}

/// Groups of a node that nobody may take over yet.
struct Kept {
    why: String,
    groups: BTreeSet<String>,
}

/// Groups by the nodes that have them.
type Holders = BTreeMap<NodeNumber, BTreeSet<String>>;

/// Which timers were in force lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct RecentTimers {
    /// The longest wait of timers that were replaced, and until when it counts.
    old: Option<(Timing, Instant)>,
}

impl RecentTimers {
    /// Takes note of new timers; the slower ones count for a while.
    pub(super) fn timing(&mut self, now: Instant, before: &Timing, after: &Timing) {
        let until = now + OLD_TIMING;
        if let_go_after(before) > let_go_after(after) {
            self.old = Some((*before, until));
        }
    }

    /// The timers that must be reckoned with, of those of now and those that a node presented last.
    fn slowest(&self, now: Instant, timing: &Timing, presented: Option<Timing>) -> Timing {
        let old = self.old.filter(|(_, until)| now < *until).map(|(old, _)| old);
        let all = [Some(*timing), presented, old].into_iter().flatten();
        all.max_by_key(let_go_after).unwrap_or(*timing)
    }
}

/// For how long it matters when something was presented: a stretch that ended earlier proves nothing.
const PRESENTED: Duration = Duration::from_secs(60);

/// The sets of voters and the timers that members presented, with the moments from which on this agent has known it.
#[derive(Clone, Debug, Default)]
pub(super) struct Presented(BTreeMap<NodeNumber, Vec<(Instant, u64, Option<Timing>)>>);

impl Presented {
    /// Takes note of a state that this agent has from `now` on.
    pub(super) fn take(&mut self, now: Instant, state: &ClusterState) {
        self.0.retain(|node, _| state.manager.members.contains_key(node));
        for (node, member) in &state.manager.members {
            let (said, known) = ((member.voters, member.timing), self.0.entry(*node).or_default());
            if known.last().is_none_or(|(_, voters, timing)| (*voters, *timing) != said) {
                known.push((now, said.0, said.1));
            }
            // The last one from before that time is still what was presented at its beginning.
            let old = known.iter().take_while(|(at, ..)| now - *at > PRESENTED).count();
            known.drain(..old.saturating_sub(1));
        }
    }

    /// The moments at which a member presented something, as far as this agent knows.
    fn moments(&self, node: NodeNumber) -> impl Iterator<Item = Instant> {
        self.0.get(&node).into_iter().flatten().map(|(at, ..)| *at)
    }

    /// What a member had presented at a moment; none if this agent did not know it then.
    fn at(&self, node: NodeNumber, moment: Instant) -> Option<(u64, Option<Timing>)> {
        let known = self.0.get(&node)?.iter().rev().find(|(at, ..)| *at <= moment)?;
        Some((known.1, known.2))
    }
}

fn before(at: Instant, by: Duration) -> Instant {
    let by = u64::try_from(by.as_micros()).unwrap_or(u64::MAX);
    Instant::from_micros(at.as_micros().saturating_sub(by))
}

impl Director {
    /// Nodes that are away while something of a group may be active there that ends with their lease.
    pub(super) fn holders_away(&self) -> Holders {
        self.away(self.holders(|group, node, _| self.ends_with_lease(group, node)))
    }

    fn ends_with_lease(&self, group: &str, node: NodeNumber) -> bool {
        self.state.groups.get(group).is_some_and(|group| group.ends_with_lease(node))
    }

    /// Nodes that are away and said before that they could not stop what they have.
    fn unreleased_away(&self) -> Holders {
        let unreleased = |name: &str, node| {
            self.state.groups.get(name).is_some_and(|group| group.unreleased.contains(&node))
        };
        self.away(self.holders(|group, node, _| unreleased(group, node)))
    }

    /// Nodes that are away while something is active there that maintenance left without a lease, and the
    /// maintenance is over. What a forced stop left running is the operator's.
    fn uncovered_away(&self) -> Holders {
        self.away(self.holders(|group, node, instance| {
            let left = instance.uncovered.is_some() && instance.state != GroupState::Unmanaged;
            left && !self.state.is_left_alone(group, node)
        }))
    }

    fn away(&self, mut holders: Holders) -> Holders {
        holders.retain(|node, _| {
            let host = self.state.nodes.get(node).map(|node| node.host);
            matches!(host, Some(HostStatus::Down | HostStatus::Disconnected))
        });
        holders
    }

    /// Nodes with instances that are `wanted`.
    fn holders(&self, wanted: impl Fn(&str, NodeNumber, &Instance) -> bool) -> Holders {
        let mut holders = Holders::new();
        for (name, group) in &self.state.groups {
            for (node, instance) in &group.instances {
                if wanted(name, *node, instance) {
                    holders.entry(*node).or_default().insert(name.clone());
                }
            }
        }
        holders
    }

    /// Leases that are over, or will be if nothing is heard.
    pub(super) fn evictions(&self, now: Instant, office: Office) -> Vec<Due> {
        let away = self.holders_away().into_keys();
        away.filter_map(|node| self.eviction(now, office, node)).collect()
    }

    fn eviction(&self, now: Instant, office: Office, node: NodeNumber) -> Option<Due> {
        match self.later_epoch(node) {
            Some((epoch, remains)) => {
                let proves = |name: &String| self.state.epoch_proves(name, node, remains);
                let proven = self.ending(node).any(proves);
                proven.then(|| evict(node, LetGo::Epoch { epoch, remains }, now))
            }
            None => self.lease_over(now, office, node),
        }
    }

    /// Groups of which a node has something that ends with its lease.
    fn ending(&self, node: NodeNumber) -> impl Iterator<Item = &String> {
        let all = self.state.groups.iter().filter(move |(_, it)| it.ends_with_lease(node));
        all.map(|(name, _)| name)
    }

    /// The epoch of which a node that cannot be reached was heard, if it is a later one than that of
    /// what it holds, and which groups are not over by it. Within an epoch nothing is added to those, so what
    /// any of several says is gone is gone.
    fn later_epoch(&self, node: NodeNumber) -> Option<(u64, Remains)> {
        let known = self.state.manager.members.get(&node)?.epoch;
        let views = self.arrivals.values().flat_map(|arrival| &arrival.report.peers);
        let views = views.filter(|view| view.peer == node);
        let said = views.map(|view| (view.epoch, view.remains));
        let newest = said.reduce(|one, other| match one.0.cmp(&other.0) {
            Ordering::Less => other,
            Ordering::Equal => (one.0, one.1.and(other.1)),
            Ordering::Greater => one,
        });
        newest.filter(|(heard, _)| *heard > known)
    }

    fn lease_over(&self, now: Instant, office: Office, node: NodeNumber) -> Option<Due> {
        let programs = self.programs_of(node)?;
        let heard = self.silent_since(now, office, node)?;
        let timing = self.slowest(now, node);
        let at = heard + let_go_after(&timing) + programs;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (silent_ms, programs_ms) = (millis(now - heard), millis(programs));
        let backing = self.state.backing(node);
        let evidence = LetGo::LeaseOver { silent_ms, backing, programs_ms };
        Some(evict(node, evidence, at))
    }

    /// The slowest timers by which a node may let go.
    fn slowest(&self, now: Instant, node: NodeNumber) -> Timing {
        let presented = self.state.manager.members.get(&node).and_then(|member| member.timing);
        self.recent_timers.slowest(now, self.timing(), presented)
    }

    /// Time that a node's release may take beyond that of its guard, for what of it is over first; none if the end of
    /// its lease is evidence for nothing that it has.
    fn programs_of(&self, node: NodeNumber) -> Option<Duration> {
        let here = self.ending(node).filter(|name| self.state.lease_proves(name, node));
        here.map(|name| self.state.programs_of(name)).min()
    }

    /// Since when a majority of the voters has accepted nothing of a node, if together they attest that for as long
    /// as a lease lasts.
    fn silent_since(&self, now: Instant, office: Office, node: NodeNumber) -> Option<Instant> {
        let attested: Vec<(NodeNumber, Stretch)> = self
            .arrivals
            .keys()
            .filter_map(|voter| Some((*voter, self.attested(office, *voter, node)?)))
            .filter(|(_, stretch)| now - stretch.to < self.timing().detect())
            .collect();
        let attest = |(voter, storage): &&(NodeNumber, StorageId), start: Instant, lasts| {
            let same = self.state.nodes.get(voter).is_some_and(|node| node.storage == *storage);
            let covers = |it: &(NodeNumber, Stretch)| it.0 == *voter && it.1.covers(start, lasts);
            same && attested.iter().any(covers)
        };
        let proven = |start: &Instant| {
            let then = self.presented.at(node, *start);
            let timing = then.and_then(|(_, timing)| timing);
            let slowest = [Some(self.slowest(now, node)), timing].into_iter().flatten();
            let lasts = slowest.map(|it| lease_lasts(&it)).max().unwrap_or(Duration::MAX);
            let sets = self.state.voter_sets_since(then.map_or(0, |(voters, _)| voters));
            let by_majority = |set: &VoterSet| {
                set.is_majority(set.members.iter().filter(|it| attest(it, *start, lasts)).count())
            };
            sets.is_some_and(|sets| sets.iter().all(by_majority))
        };
        // A longer silence may prove something from the moment on at which something was presented.
        let begin = attested.iter().map(|(_, stretch)| stretch.from);
        begin.chain(self.presented.moments(node)).filter(proven).min()
    }

    /// What one voter attests of a node's silence.
    fn attested(&self, office: Office, voter: NodeNumber, node: NodeNumber) -> Option<Stretch> {
        let own = self.arrivals.get(&office.me)?;
        let arrival = self.arrivals.get(&voter)?;
        let silent = Duration::from_micros(arrival.report.peer(node)?.silent_us);
        if voter == office.me {
            let made = Instant::from_micros(own.report.made_us);
            return Some(Stretch { from: before(made, silent), to: made });
        }
        let me = arrival.report.peer(office.me)?;
        let answers = me.session == Some(own.report.session) && me.sent_us > 0;
        // Its clock may be fast.
        let from = before(arrival.at, silent - silent / 100);
        answers.then_some(Stretch { from, to: Instant::from_micros(me.sent_us) })
    }

    /// Nodes that have to be fenced, and takeovers that have to wait.
    pub(super) fn fence_duties(&self, now: Instant, office: Office) -> Vec<Due> {
        let mut dues = Vec::new();
        if self.state.manager.maintenance {
            return dues;
        }
        for (node, _) in self.holders_away() {
            if let Some(kept) = self.lease_is_no_help(now, office, node) {
                dues.extend(self.fence_or_wait(now, office, node, &kept));
            }
        }
        for (node, groups) in self.uncovered_away() {
            let why = "maintenance left something running there, which no lease ends".into();
            dues.extend(self.fence_or_wait(now, office, node, &Kept { why, groups }));
        }
        for (node, groups) in self.unreleased_away() {
            let why = "it could not stop what it has, and no lease ends that".into();
            dues.extend(self.fence_or_wait(now, office, node, &Kept { why, groups }));
        }
        for (node, groups) in self.holders(|_, _, instance| instance.state == GroupState::Error) {
            let there = self.state.nodes.get(&node).is_some_and(|n| n.host == HostStatus::Up);
            if there && self.can_be_fenced(node) {
                let why = "it cannot release a group".into();
                dues.extend(self.fence_or_wait(now, office, node, &Kept { why, groups }));
            }
        }
        dues
    }

    /// Groups of a node for which the end of its lease will not do, and why, if there are any.
    fn lease_is_no_help(&self, now: Instant, office: Office, node: NodeNumber) -> Option<Kept> {
        let all = || self.ending(node).cloned().collect();
        if self.state.definition.manager.fence_always {
            let why = "the configuration demands that it is fenced".into();
            return Some(Kept { why, groups: all() });
        }
        let heard = self.later_epoch(node);
        let left = match heard {
            Some(_) => self.left_to_nobody(node),
            None => self.left_to_processes(node),
        };
        if left.is_some() {
            return left;
        }
        let away = self.watch.since(&Seen::Away(node)).map_or(Duration::ZERO, |at| now - at);
        let detect = self.timing().detect();
        if let Some((_, remains)) = heard {
            // Release programs may have their time; what is left then is not over in a moment.
            let stays = |name: &&String| {
                let late = away >= detect * 2 + self.state.programs_of(name);
                late && remains.has(self.state.groups[*name].number)
            };
            let groups: BTreeSet<String> = self.ending(node).filter(stays).cloned().collect();
            let names: Vec<&str> = groups.iter().map(String::as_str).collect();
            let why = format!("it says that it has not let go of {} yet", names.join(", "));
            return (!groups.is_empty()).then_some(Kept { why, groups });
        }
        if away < detect * 10 || self.silent_since(now, office, node).is_some() {
            return None;
        }
        let lasts = lease_lasts(self.timing());
        let hears = |voter: &&NodeNumber| {
            let view = self.arrivals[*voter].report.peer(node);
            view.is_some_and(|view| Duration::from_micros(view.silent_us) < lasts)
        };
        let why = match self.arrivals.keys().find(hears) {
            Some(voter) => format!(
                "it is still heard by {}, though it cannot be reached",
                self.state.node_name(*voter)
            ),
            None => "too few voters say that they do not hear it".into(),
        };
        Some(Kept { why, groups: all() })
    }

    /// Groups of a silent node for which the end of its lease is no evidence, if there are any.
    fn left_to_processes(&self, node: NodeNumber) -> Option<Kept> {
        let backing = self.state.backing(node);
        let unproven = self.ending(node).filter(|name| !self.state.lease_proves(name, node));
        let groups: BTreeSet<String> = unproven.cloned().collect();
        let left = |name| self.state.left_to_processes(name, node, backing);
        let left = groups.iter().flat_map(|name: &String| left(name));
        let names: Vec<&str> = left.map(|it| it.name.as_str()).collect();
        let left = names.join(", ");
        let why = match self.state.definition.manager.strict {
            _ if names.is_empty() => "nothing but its guard stands behind its release".into(),
            true => format!(
                "the configuration is strict, and only processes of that node take {left} away there"
            ),
            false => format!(
                "only the agent of that node takes {left} away there, and two nodes that write to it destroy it"
            ),
        };
        (!groups.is_empty()).then_some(Kept { why, groups })
    }

    /// Groups of a node that was heard for which no epoch is evidence, if there are any.
    fn left_to_nobody(&self, node: NodeNumber) -> Option<Kept> {
        let unseen = |name: &&String| self.state.unseen_by_guard(name, node).next().is_some();
        let groups: BTreeSet<String> = self.ending(node).filter(unseen).cloned().collect();
        let left = groups.iter().flat_map(|name| self.state.unseen_by_guard(name, node));
        let names: Vec<&str> = left.collect();
        let why = format!(
            "the configuration is strict, and its guard does not see whether {} ended there",
            names.join(", ")
        );
        (!groups.is_empty()).then_some(Kept { why, groups })
    }

    fn can_be_fenced(&self, node: NodeNumber) -> bool {
        let manager = &self.state.manager;
        let maintained = manager.members.get(&node).is_some_and(|member| member.maintenance);
        self.state.definition.fencing.contains_key(&node) && !maintained
    }

    fn fence_or_wait(
        &self,
        now: Instant,
        office: Office,
        node: NodeNumber,
        kept: &Kept,
    ) -> Vec<Due> {
        let waits = |besides: &str| self.waits(now, node, kept, besides);
        if !self.can_be_fenced(node) {
            return vec![waits(", and it cannot be fenced")];
        }
        let asked = self.state.manager.fencing.get(&node);
        let mut dues = Vec::new();
        if let Some(failure) = asked.and_then(|asked| asked.failure.as_ref()) {
            dues.push(waits(&format!("; fencing failed: {failure}")));
        }
        match self.caller(office, node, asked) {
            None => dues.push(waits("; nobody can fence it")),
            Some(by) => dues.extend(self.fence(now, node, by, asked)),
        }
        dues
    }

    /// Who calls the agent: this node, and in further attempts the others in turn.
    fn caller(
        &self,
        office: Office,
        node: NodeNumber,
        asked: Option<&Fencing>,
    ) -> Option<NodeNumber> {
        let mut able: Vec<NodeNumber> =
            self.state.manager.joined().filter(|by| *by != node && self.can_call(*by)).collect();
        able.sort_by_key(|by| (*by != office.me, *by));
        let attempt = asked.map_or(0, |asked| asked.attempt as usize);
        let turn = attempt.checked_rem(able.len())?;
        able.rotate_left(turn);
        let other = |by: &&NodeNumber| asked.is_none_or(|asked| asked.by != **by);
        able.iter().find(other).or(able.first()).copied()
    }

    fn can_call(&self, by: NodeNumber) -> bool {
        self.state
            .nodes
            .get(&by)
            .is_some_and(|node| node.host == HostStatus::Up && node.agent == AgentStatus::Running)
    }

    /// The next call of the agent: at once, when the last one failed and a while has passed, or
    /// when who was asked cannot do it.
    fn fence(
        &self,
        now: Instant,
        node: NodeNumber,
        by: NodeNumber,
        asked: Option<&Fencing>,
    ) -> Option<Due> {
        let attempt = asked.map_or(0, |asked| asked.attempt);
        let at = match asked {
            None => now,
            Some(asked) if asked.failure.is_none() && !self.can_call(asked.by) => now,
            Some(asked) => {
                let seen = Seen::Fence(node, attempt, asked.failure.is_some());
                let pause = match asked.failure {
                    Some(_) => fence_pause(attempt),
                    None => self.fence_timeout(node),
                };
                self.watch.since(&seen)? + pause
            }
        };
        let command = Command::Group(GroupCommand::Fence { node, by });
        Some(Due { duty: Duty::Fence(node, attempt), command, at })
    }

    fn fence_timeout(&self, node: NodeNumber) -> Duration {
        let limit = self.state.definition.fencing.get(&node).map_or(0, |def| def.timeout_ms);
        Duration::from_millis(limit) + FENCE_GRACE
    }

    /// That a takeover waits is said once for each incident.
    fn waits(&self, now: Instant, node: NodeNumber, kept: &Kept, besides: &str) -> Due {
        let known = self.state.nodes.get(&node);
        let incident = known.and_then(|node| node.incident).unwrap_or_default();
        let (name, groups) = (self.state.node_name(node), kept.groups.clone());
        let advice = format!("once it is certainly off: vedette node confirm-off {name}");
        let why = format!("{}{besides}; {advice}", kept.why);
        let duty = Duty::Waits(node, incident, groups.iter().cloned().collect());
        Due { duty, command: Command::Group(GroupCommand::Waits { node, groups, why }), at: now }
    }
}

fn evict(node: NodeNumber, evidence: LetGo, at: Instant) -> Due {
    let command = Command::Group(GroupCommand::Evict { node, evidence });
    Due { duty: Duty::Evict(node), command, at }
}

/// How long to wait after a failed attempt.
fn fence_pause(attempt: u32) -> Duration {
    let doubled = FENCE_PAUSE.saturating_mul(1 << attempt.saturating_sub(1).min(8));
    doubled.min(FENCE_PAUSE_MAX)
}
