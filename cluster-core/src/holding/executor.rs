//! The resource work of a node: acquires, releases and watches groups.
//!
//! One worker a group, and one operation of it at a time. A worker touches nothing without an
//! *instance* in the state (the cluster's leave, with a token) and a lease; the guard is told what is
//! held before anything of it is started, so that it can let go of it without asking anybody. What a
//! worker holds it also watches; what fails is restarted in place, and reported when that is no use.
//!
//! Workers and state are kept together: what the state says is online here and nobody
//! holds is adopted (the agent was restarted), what is held and the state no longer knows is let go of,
//! and so is everything that the lease covers ([`cover`]) when it is lost.
//!
//! A machine like the others: [`Executor::handle`] takes what happened, [`Executor::deadline`] is when it wants to be
//! called although nothing did, and what is to be done comes out as [`Output`]s. Its workers are written as
//! sequences ([`sequence`]).

mod cover;
mod desk;
mod reports;
mod sequence;
mod sightings;
mod values;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::MutexGuard;

use crate::group::{GroupState, Instance};
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{HostStatus, NetworkStatus};
use crate::time::Instant;

pub use desk::{Desk, LeaseState};
pub use reports::merge;
use sequence::{Port, Sequence};
pub use sightings::{Found, Sighted, Sightings, strange};
pub use values::{
    Action, Done, GuardFacts, Input, Mistake, Now, Op, Orders, Output, Said, Seen, Started, Stop,
    Verb,
};
use worker::Worker;

/// See the module.
#[derive(Debug)]
pub struct Executor {
    port: Port,
    workers: BTreeMap<String, Sequence>,
    /// Keeps the guard's orders in line.
    others: Vec<Sequence>,
    deadline: Option<Instant>,
    /// Counts of the desk at which state and desk were compared last.
    compared: (u64, u64),
    /// Leavings of an earlier agent that are stopped without a quorum: once each, a worker may be busy with it for long.
    left: BTreeSet<(String, u64)>,
    reach: Reach,
}

impl Executor {
    /// An executor for the node `me` that holds nothing.
    pub fn new(me: NodeNumber, seen: Seen) -> Self {
        let port = Port::new(Desk::new(me, seen));
        let others = vec![Sequence::new(cover::follow(port.clone()))];
        Self {
            port,
            workers: BTreeMap::new(),
            others,
            deadline: None,
            compared: (0, 0),
            left: BTreeSet::new(),
            reach: Reach::default(),
        }
    }

    /// Everything that is known here. Not to be kept over a call of [`Executor::handle`].
    pub fn desk(&self) -> MutexGuard<'_, Desk> {
        self.port.desk()
    }

    /// Makes a mistake from now on.
    #[cfg(feature = "mistakes")]
    pub fn make(&self, mistake: Option<Mistake>) {
        self.desk().make(mistake);
    }

    /// When to call [`Executor::on_timeout`], if nothing happens before.
    pub const fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Goes on with what waits for a moment.
    pub fn on_timeout(&mut self, now: Now, out: &mut Vec<Output>) {
        self.desk().turn(now);
        self.go_on(out);
    }

    /// Takes what happened.
    pub fn handle(&mut self, now: Now, input: Input, out: &mut Vec<Output>) {
        self.desk().turn(now);
        match input {
            Input::Ask { ask, group, op } => self.ask(ask, group, op),
            Input::Tell => {
                let port = self.port.clone();
                self.others.push(Sequence::new(async move { tell(&port).await }));
            }
            Input::End => self.end(),
            Input::SeenOff { group } => self.port.change_stuck(|stuck| drop(stuck.remove(&group))),
            Input::Holding { facts, sequence, refused } => {
                if self.desk().take_holding(*facts, (sequence, refused)) {
                    self.port.put(Output::Stuck);
                }
            }
            Input::ReleasedAll { epoch, left } => {
                if self.desk().released_all(epoch, left) {
                    self.port.put(Output::Stuck);
                }
            }
            other => self.desk().take(other),
        }
        self.go_on(out);
    }

    fn ask(&mut self, ask: u64, group: String, op: Op) {
        let port = self.port.clone();
        let worker = || Sequence::new(Worker::new(group.clone(), port).run());
        self.workers.entry(group.clone()).or_insert_with(worker);
        let mut desk = self.port.desk();
        let queue = desk.asked.ops.entry(group).or_default();
        // What is asked with each view is asked once.
        if ask > 0 || !queue.iter().any(|(_, known)| *known == op) {
            queue.push_back((ask, op));
        }
    }

    /// Begins to end. The guard ends too, and is told first what is left running since a moment ago.
    fn end(&mut self) {
        let port = self.port.clone();
        self.others.push(Sequence::new(async move {
            tell(&port).await;
            let mut desk = port.desk();
            desk.ending = true;
            desk.news += 1;
        }));
    }

    /// Resumes sequences until none gets any further.
    fn go_on(&mut self, out: &mut Vec<Output>) {
        loop {
            let steps = self.port.steps();
            self.desk().wake = None;
            self.others.retain_mut(|sequence| !sequence.resume());
            self.workers.retain(|_, worker| !worker.resume());
            self.compare();
            if self.port.steps() == steps {
                break;
            }
        }
        let wake = self.desk().wake;
        self.deadline = wake;
        let new = out.len();
        out.extend(self.port.take());
        for output in &out[new..] {
            if let Output::Cancel { id } = output {
                self.desk().cancelled(*id);
            }
        }
    }

    /// Sees to it that what is held is what the state says, when either has changed.
    fn compare(&mut self) {
        let now = {
            let desk = self.port.desk();
            (desk.changes, desk.news)
        };
        if std::mem::replace(&mut self.compared, now) == now {
            return;
        }
        self.port.step();
        let ops = self.differences();
        for (group, op) in ops {
            self.ask(0, group, op);
        }
        let grew = self.reach.grew(&self.port.desk().seen);
        if grew {
            let held: Vec<String> = self.desk().held.keys().cloned().collect();
            for group in held {
                self.ask(0, group, Op::Announce);
            }
        }
    }

    fn differences(&mut self) -> Vec<(String, Op)> {
        let mut desk = self.port.desk();
        let Some(epoch) = desk.guard.as_ref().map(|facts| facts.epoch) else { return Vec::new() };
        let mut missed = Vec::new();
        let ops = if desk.ending {
            let ends = desk.ends_with_the_lease().into_iter();
            let why = "its daemon ends".to_owned();
            ends.map(|(group, held)| (group, Op::Drop { token: held.token, why: why.clone() }))
                .collect()
        } else if desk.has_quorum() {
            desk.differences(epoch, &mut missed)
        } else if desk.seen.lease == Some(false) {
            let new = desk.left_behind().into_iter().filter(|it| self.left.insert(it.clone()));
            missed.extend(new);
            let why = "its lease was over".to_owned();
            let drop = |(group, token): &(String, u64)| {
                (group.clone(), Op::Drop { token: *token, why: why.clone() })
            };
            missed.iter().map(drop).collect()
        } else {
            Vec::new()
        };
        drop(desk);
        for (group, token) in missed {
            self.port.put(Output::Missed { epoch, group, token });
        }
        ops
    }
}

async fn tell(port: &Port) {
    if let Err(why) = port.tell(None).await {
        let text = format!("the guard is not told what a lease covers: {why}");
        port.put(Output::Note { group: String::new(), text, error: false });
    }
}

impl Desk {
    fn take(&mut self, input: Input) {
        match input {
            Input::Seen(seen) => self.see(seen),
            Input::Report { voters, timing, lease, released } => {
                self.goes_by = (voters, timing);
                let before = self.lease;
                self.lease.report(lease, released);
                let facts =
                    self.guard.as_mut().filter(|it| (it.voters, it.timing) != (voters, timing));
                let news =
                    facts.map(|facts| (facts.voters, facts.timing) = (voters, timing)).is_some();
                self.news += u64::from(news || self.lease != before);
            }
            Input::LetGoWithoutGuard => {
                self.lease.lose();
                self.news += 1;
            }
            Input::Forgotten { ask } => drop(self.asked.forgotten.insert(ask)),
            Input::Done { id, done } => self.done(id, done),
            Input::Outside { id, resources } => drop(self.outside.insert(id, resources)),
            Input::NotOrdered { sequence, why } => {
                self.telling.answered = (sequence, Some(why));
            }
            Input::Decided { group, number } => drop(self.decided.insert(group, number)),
            Input::Holding { .. }
            | Input::ReleasedAll { .. }
            | Input::Ask { .. }
            | Input::SeenOff { .. }
            | Input::Tell
            | Input::End => {}
        }
    }

    fn see(&mut self, seen: Seen) {
        self.changes += u64::from(!self.has_seen(&seen));
        self.seen = seen;
        self.inherit();
    }

    /// Takes what the guard says of itself and what it holds; answers whether what does not go is other than before.
    fn take_holding(&mut self, facts: GuardFacts, answer: (u64, Option<String>)) -> bool {
        let (voters, timing) = self.goes_by;
        let facts = GuardFacts { voters, timing, ..facts };
        let seen = std::mem::replace(&mut self.seen_stuck, facts.unreleased.groups.clone());
        let before = std::mem::replace(&mut self.stuck.guard, facts.unreleased.guard.clone());
        let stuck = (&before, &seen) != (&self.stuck.guard, &self.seen_stuck);
        self.epoch_began.get_or_insert(self.now);
        let known = self.guard.replace(facts);
        if known != self.guard {
            self.changes += 1;
        }
        self.news += u64::from(known != self.guard || before != self.stuck.guard);
        if answer.0 > 0 {
            self.telling.answered = answer;
        }
        stuck
    }

    /// The guard let go of everything; answers whether that is news of something that did not go.
    fn released_all(&mut self, epoch: u64, left: bool) -> bool {
        self.cover.over();
        self.epoch_began = Some(self.now);
        if let Some(facts) = &mut self.guard {
            (facts.epoch, facts.unreleased.guard) = (epoch, None);
            // What does not go is named after that.
            facts.goes_on = left;
        }
        self.lease.lose();
        self.changes += 1;
        self.news += 1;
        self.stuck.guard.take().is_some()
    }

    /// Instances that an earlier agent of this node had and no lease ended, while there is none: they are stopped at once,
    /// and no quorum is waited for. The guard names what it still sees, and the state what lives where no guard looks.
    fn left_behind(&self) -> Vec<(String, u64)> {
        let mut all = Vec::new();
        for (name, group) in &self.seen.state.groups {
            let Some(instance) = group.instances.get(&self.me) else { continue };
            let facts = self.guard.as_ref();
            let named = facts.is_some_and(|facts| facts.unreleased.groups.contains_key(name));
            let left = named || group.outside.contains_key(&self.me);
            let token = instance.token;
            let gone = self.token_held(name).is_some() || !self.may_be_left(name, token);
            if left && !gone && instance.is_covered() && !instance.is_left() {
                all.push((name.clone(), token));
            }
        }
        all
    }

    /// Where what is held and what the state says differ; and what was let go of before this agent was there.
    fn differences(&mut self, epoch: u64, missed: &mut Vec<(String, u64)>) -> Vec<(String, Op)> {
        let mut ops = Vec::new();
        let current = self.epoch() == Some(epoch);
        let state = self.state();
        for (name, group) in &state.groups {
            let Some(instance) = group.instances.get(&self.me) else { continue };
            let token = instance.token;
            if instance.is_left() {
                ops.extend(self.left(name, instance, current).map(|op| (name.clone(), op)));
                continue;
            }
            if self.token_held(name).is_some() || self.is_over(name, token) {
                continue;
            }
            if !current && instance.is_covered() && self.may_be_left(name, token) {
                // The agent was away while its guard gave everything up; what a guard cannot let go of,
                // such as a mounted file system, may still be here.
                missed.push((name.clone(), token));
                let why = "its lease was over".to_owned();
                ops.push((name.clone(), Op::Drop { token, why }));
            } else if current && instance.state == GroupState::Online {
                ops.push((name.clone(), Op::Adopt { token }));
            } else if current && instance.state == GroupState::Acquiring && self.comes_late(name) {
                // Who would not let go of it did, and other groups keep the event going.
                ops.push((name.clone(), Op::Perform(Verb::Acquire)));
            }
        }
        for (name, held) in &self.held {
            let known = self.instance(name);
            let why = if held.epoch != epoch && self.may_end(name) {
                "its lease was over"
            } else if current && known.is_none_or(|instance| instance.token != held.token) {
                "the cluster has taken it off this node"
            } else {
                if current && held.epoch != epoch {
                    ops.push((name.clone(), Op::Adopt { token: held.token }));
                }
                continue;
            };
            ops.push((name.clone(), Op::Drop { token: held.token, why: why.to_owned() }));
        }
        ops
    }

    /// What was left running here: nobody looks after it, or it is taken up again as it is. A manager that was
    /// stopped takes it up in the event of its start.
    fn left(&mut self, name: &str, instance: &Instance, current: bool) -> Option<Op> {
        let token = instance.token;
        if instance.state == GroupState::Unmanaged {
            return (self.token_held(name) == Some(token)).then_some(Op::Leave { token });
        }
        let member = self.seen.state.manager.members.get(&self.me);
        if !current || !member.is_some_and(|member| member.joined) {
            return None;
        }
        let spell = (token, instance.since);
        let known = self.taken_up.insert(name.to_owned(), spell);
        (known != Some(spell)).then_some(Op::TakeUp { token })
    }
}

/// Who could be reached so far: when that grows, addresses are announced again, because whoever was
/// cut off may have learnt of another owner.
#[derive(Debug, Default)]
struct Reach {
    hosts: BTreeMap<NodeNumber, HostStatus>,
    networks: BTreeMap<NetworkNumber, NetworkStatus>,
    quorate: bool,
}

impl Reach {
    fn grew(&mut self, seen: &Seen) -> bool {
        let state = &seen.state;
        let now = Self {
            hosts: state.nodes.iter().map(|(number, node)| (*number, node.host)).collect(),
            networks: state.networks.iter().map(|(n, known)| (*n, known.status)).collect(),
            quorate: seen.quorate,
        };
        let back = |(node, host): (&NodeNumber, &HostStatus)| {
            *host == HostStatus::Up
                && self.hosts.get(node).is_some_and(|old| *old != HostStatus::Up)
        };
        let grew = now.hosts.iter().any(back)
            || now.networks.iter().any(|(network, status)| {
                let old = self.networks.get(network);
                *status == NetworkStatus::Up && old.is_some_and(|old| *old != NetworkStatus::Up)
            })
            || (now.quorate && !self.quorate);
        *self = now;
        grew
    }
}
