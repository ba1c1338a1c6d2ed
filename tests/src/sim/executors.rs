//! The agent's own [`Executor`], the one that ships, over a simulated kernel, guard, log and scripts.
//!
//! Operations take their time and are done by children of the agent: they go on while it is stopped, and what they
//! have done stays done when it dies. A start that its guard's release overtakes is killed with its control group; a
//! mount looks at the lease right before, as the product's does. Orders and answers of the guard take a moment; a guard
//! that is stopped reads them when it goes on, whatever they are worth by then.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;

use vedette_core::command::{Command, GroupCommand};
use vedette_core::group::ResourceDef;
use vedette_core::holding::executor::{
    Action, Done, Executor, GuardFacts, Input, Mistake, Now, Op, Orders, Output, Said, Seen, Stop,
    merge,
};
use vedette_core::holding::{Held, Hold, Holding};
use vedette_core::id::{CommandId, Session};
use vedette_core::model::AgentStatus;
use vedette_core::observation::Report;

use super::Bug;
use super::kernel::{self, Key, Monitor, Place};
use super::world::{Event, MS, World};

/// How long a line takes from guard to agent or back.
const SOCKET: u64 = 200;
/// How long a stop program may take.
const STOP_TIMEOUT: u64 = 1_000 * MS;
/// The same where an operator allowed much: longer than any bound on what others wait for.
pub(super) const LONG_TIMEOUT: u64 = 9_000 * MS;
/// How long a monitor may take.
const MONITOR_TIMEOUT: u64 = 500 * MS;

/// What an agent does with resources.
#[derive(Debug)]
pub(super) struct Hand {
    pub(super) executor: Executor,
    /// When its executor wants to be called.
    wake: u64,
    /// What came out of it and is not carried out yet; somebody is at it.
    out: VecDeque<Output>,
    carrying: bool,
    under_way: BTreeMap<u64, Operation>,
    /// Reports of each group, the first of which is being decided.
    reports: BTreeMap<String, VecDeque<(u64, GroupCommand)>>,
    said: BTreeMap<CommandId, String>,
    /// Requests so far, and answers that nobody took yet.
    asked: u64,
    answers: BTreeMap<u64, Result<Said, Stop>>,
}

/// An operation of a child of the agent.
#[derive(Debug)]
struct Operation {
    key: Key,
    token: u64,
    action: Action,
    /// How often the group's control group had been emptied when it began.
    emptied: u64,
    /// It has done what it is to do.
    done: bool,
    /// It does not end by itself before its time is over.
    hangs: bool,
}

impl Hand {
    pub(super) fn new(executor: Executor) -> Self {
        Self {
            executor,
            wake: u64::MAX,
            out: VecDeque::new(),
            carrying: false,
            under_way: BTreeMap::new(),
            reports: BTreeMap::new(),
            said: BTreeMap::new(),
            asked: 0,
            answers: BTreeMap::new(),
        }
    }

    /// How a request ended, once.
    pub(super) fn answer(&mut self, ask: u64) -> Option<Result<Said, Stop>> {
        self.answers.remove(&ask)
    }
}

impl World {
    /// The executor of an agent that starts.
    pub(super) fn new_hand(&mut self, node: usize) -> Hand {
        let state = self.machines[node].shown_state();
        let seen = Seen { state, quorate: false, running: false, lease: None };
        let executor = Executor::new(self.machines[node].number, seen);
        executor.make(match self.bug {
            Some(Bug::StopNotRun) => Some(Mistake::StopNotRun),
            Some(Bug::EpochIgnored) => Some(Mistake::EpochIgnored),
            _ => None,
        });
        Hand::new(executor)
    }

    /// The agent sees the state as it is on its machine now.
    pub(super) fn show(&mut self, node: usize) {
        self.stand(node);
        let state = self.machines[node].shown_state();
        let Some(agent) = self.machines[node].agent.as_ref() else { return };
        let (quorate, running) = (agent.quorate, agent.status == AgentStatus::Running);
        let lease = agent.heard.report.as_ref().map(|(_, report)| report.lease);
        let seen = Seen { state, quorate, running, lease };
        let known = agent.hand.executor.desk().has_seen(&seen);
        if !known {
            self.turn(node, |executor, now, out| executor.handle(now, Input::Seen(seen), out));
        }
    }

    /// Something happens that the executor of an agent is to know.
    pub(super) fn act(&mut self, node: usize, input: Input) {
        self.show(node);
        self.turn(node, |executor, now, out| executor.handle(now, input, out));
    }

    /// The same, a moment later; if the agent is stopped, when it goes on. Nothing overtakes anything.
    fn act_soon(&mut self, node: usize, input: Input) {
        let Some(agent) = &self.machines[node].agent else { return };
        let session = agent.session.0;
        self.schedule(SOCKET, Event::Act { node, session, input: Box::new(input) });
    }

    pub(super) fn act_now(&mut self, node: usize, session: u64, input: Input) {
        let agent = self.machines[node].agent.as_ref();
        if agent.is_some_and(|agent| agent.session == Session(session)) {
            self.act(node, input);
        }
    }

    fn turn(&mut self, node: usize, turn: impl FnOnce(&mut Executor, Now, &mut Vec<Output>)) {
        let ignored = self.bug == Some(Bug::LeaseIgnored);
        let machine = &mut self.machines[node];
        let at = machine.clock(self.now);
        let Some(agent) = machine.agent.as_mut() else { return };
        let lease = ignored || agent.heard.lasts(at);
        let mut out = Vec::new();
        turn(&mut agent.hand.executor, Now { at, lease }, &mut out);
        agent.hand.out.extend(out);
        self.carry_on(node);
        self.wake_executor(node);
    }

    fn wake_executor(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let deadline = machine.agent.as_ref().and_then(|agent| agent.hand.executor.deadline());
        let Some(at) = deadline.map(|deadline| machine.world_time(deadline).max(now) + 1) else {
            return;
        };
        let Some(agent) = machine.agent.as_mut() else { return };
        if at < agent.hand.wake {
            agent.hand.wake = at;
            let session = agent.session.0;
            self.schedule(at - now, Event::ActInTime { node, session });
        }
    }

    /// Its executor wanted to be called.
    pub(super) fn act_in_time(&mut self, node: usize, session: u64) {
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.session == Session(session) {
            agent.hand.wake = u64::MAX;
            self.show(node);
            self.turn(node, Executor::on_timeout);
        }
    }

    /// Carries out what came out of an executor, in order.
    fn carry_on(&mut self, node: usize) {
        loop {
            let Some(agent) = self.machines[node].agent.as_mut() else { return };
            if agent.hand.carrying {
                return;
            }
            let Some(output) = agent.hand.out.pop_front() else { return };
            agent.hand.carrying = true;
            self.carry_out_one(node, output);
            if let Some(agent) = self.machines[node].agent.as_mut() {
                agent.hand.carrying = false;
            }
        }
    }

    fn carry_out_one(&mut self, node: usize, output: Output) {
        match output {
            Output::Order(orders) => self.give_order(node, *orders),
            Output::Do { id, group, token, action, resource } => {
                self.begin_operation(node, id, (group, token), action, &resource);
            }
            Output::Cancel { id } => self.cancel(node, id),
            Output::LookOutside { id, group, started } => {
                let outside = |it: &&ResourceDef| self.place_of(&it.name) == Place::Outside;
                let resources = started.resources.iter().filter(outside);
                let resources = resources.map(|it| it.name.clone()).collect();
                self.note(|| format!("n{}: {group} is looked at", node + 1));
                self.act_soon(node, Input::Outside { id, resources });
            }
            Output::RemovePlace(group) => self.turn_off(node, &group),
            Output::Report { group, number, command } => {
                self.report(node, group, number, *command);
            }
            Output::Covered(command) => drop(self.say(node, Command::Group(*command))),
            Output::Answer { ask, said } => {
                if let Some(agent) = self.machines[node].agent.as_mut() {
                    agent.hand.answers.insert(ask, said);
                }
            }
            Output::Line { text, .. } | Output::Note { text, .. } => {
                self.note(|| format!("n{}: {text}", node + 1));
            }
            Output::Announce(_) | Output::MakePlace(_) | Output::Missed { .. } | Output::Stuck => {}
        }
    }

    /// Asks the worker of a group for something, for somebody who waits for an answer.
    pub(super) fn ask_for(&mut self, node: usize, group: &str, op: Op) -> u64 {
        let Some(agent) = self.machines[node].agent.as_mut() else { return 0 };
        agent.hand.asked += 1;
        let ask = agent.hand.asked;
        self.act(node, Input::Ask { ask, group: group.to_owned(), op });
        ask
    }

    /// An order of the agent is on its way to the guard.
    fn give_order(&mut self, node: usize, orders: Orders) {
        let Orders { sequence, epoch, covered, left, anew } = orders;
        let mut held = Held::default();
        for (group, started) in &covered {
            held.add(&self.held_of(group, &started.resources));
        }
        let all = self.reference.groups.keys();
        let known: BTreeSet<IpAddr> =
            all.filter(|group| !left.contains_key(*group)).map(|it| self.known_as(it).1).collect();
        let machine = &mut self.machines[node];
        machine.kernel.left = left.into_keys().collect();
        let Some(guard) = machine.guard.as_ref() else {
            return self.act_soon(node, Input::NotOrdered { sequence, why: "it is gone".into() });
        };
        let session = guard.session.0;
        let order = Hold { sequence, epoch, known, held, anew };
        self.schedule(SOCKET, Event::Ordered { node, session, order: Box::new(order) });
    }

    /// A guard gets an order; one that is stopped reads it later.
    pub(super) fn ordered(&mut self, node: usize, session: u64, order: Hold) {
        let guard = self.machines[node].guard.as_mut();
        let Some(guard) = guard.filter(|guard| guard.session == Session(session)) else { return };
        if guard.paused {
            guard.orders.push(order);
            return;
        }
        if self.machines[node].kernel.broken.disk {
            let (sequence, why) = (order.sequence, "it cannot be written".to_owned());
            let unwritten = vedette_core::holding::Input::Unwritten { sequence, why };
            return self.enforce(node, unwritten);
        }
        self.machines[node].kept.expect(&order.held);
        self.enforce(node, vedette_core::holding::Input::Hold(Box::new(order)));
    }

    /// What the guard says of what it holds is on its way to the agent.
    pub(super) fn hears_holding(&mut self, node: usize, holding: &Holding, taken: bool) {
        let over = (!taken).then(|| "the lease is over".to_owned());
        let backing = self.backing_of(node);
        let facts = Box::new(GuardFacts { backing, ..GuardFacts::from(holding) });
        let (sequence, refused) = (holding.sequence, holding.refused.clone().or(over));
        self.act_soon(node, Input::Holding { facts, sequence, refused });
    }

    /// The guard has released everything, and its agent hears of it.
    pub(super) fn hears_released(&mut self, node: usize, epoch: u64, left: bool) {
        self.act_soon(node, Input::ReleasedAll { epoch, left });
    }

    /// A report of the guard is on its way to the agent.
    pub(super) fn hears_report(&mut self, node: usize, report: Arc<Report>) {
        let Some(agent) = &self.machines[node].agent else { return };
        let session = agent.session.0;
        self.schedule(SOCKET, Event::Reported { node, session, report });
    }

    /// The agent reads a report of its guard.
    pub(super) fn reads_report(&mut self, node: usize, session: u64, report: Arc<Report>) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let agent = machine.agent.as_mut();
        let Some(agent) = agent.filter(|agent| agent.session.0 == session) else { return };
        let (voters, timing) = (report.voters, report.timing);
        let (lease, released) = (report.lease, report.released);
        agent.heard.report = Some((clock, report));
        let (detect, mut out) = (machine.state.settings.timing.detect(), Vec::new());
        agent.step_down.report(clock, lease, detect, &mut out);
        self.step_down(node, out);
        self.act(node, Input::Report { voters, timing, lease, released });
    }

    /// A report is decided when those before it are.
    fn report(&mut self, node: usize, group: String, number: u64, command: GroupCommand) {
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let waiting = agent.hand.reports.entry(group.clone()).or_default();
        if let Some((last, known)) = waiting.iter_mut().skip(1).last()
            && merge(known, &command)
        {
            *last = number;
            return;
        }
        waiting.push_back((number, command));
        if waiting.len() == 1 {
            self.report_first(node, &group);
        }
    }

    fn report_first(&mut self, node: usize, group: &str) {
        let Some(agent) = self.machines[node].agent.as_ref() else { return };
        let waiting = agent.hand.reports.get(group);
        let Some((_, command)) = waiting.and_then(VecDeque::front).cloned() else { return };
        let proposal = self.proposal(node, "agent", Command::Group(command));
        let now = self.now;
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        agent.hand.said.insert(proposal.id, group.to_owned());
        agent.unsaid.insert(proposal.id, (now, proposal));
        self.say_unsaid(node);
    }

    /// What an agent said was decided; if that was a report, the next one follows.
    pub(super) fn reported(&mut self, node: usize, id: CommandId) {
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let Some(group) = agent.hand.said.remove(&id) else { return };
        let waiting = agent.hand.reports.get_mut(&group).and_then(VecDeque::pop_front);
        if let Some((number, _)) = waiting {
            self.report_first(node, &group);
            self.act_soon(node, Input::Decided { group, number });
        }
    }

    fn begin_operation(
        &mut self,
        node: usize,
        id: u64,
        (group, token): (String, u64),
        action: Action,
        resource: &ResourceDef,
    ) {
        let key = (group, resource.name.clone());
        let kernel = &self.machines[node].kernel;
        let hangs = match action {
            Action::Stop if kernel.mood.stop_of(&key.0) == kernel::Stop::Hangs => {
                kernel.lives.contains_key(&key).then_some(kernel.mood.limit.max(STOP_TIMEOUT))
            }
            Action::Start if kernel.mood.start_hangs(&key.0) => {
                Some(kernel.mood.limit.max(STOP_TIMEOUT))
            }
            Action::Monitor if kernel.mood.monitor == Monitor::Hangs => Some(MONITOR_TIMEOUT),
            _ => None,
        };
        let takes = hangs.unwrap_or_else(|| self.rng.range(1, 40) * MS);
        let emptied = self.machines[node].kernel.emptied(&key.0);
        let at_once = action == Action::Start && self.rng.percent(50);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let hangs = hangs.is_some();
        let operation = Operation { key: key.clone(), token, action, emptied, done: false, hangs };
        agent.hand.under_way.insert(id, operation);
        let session = agent.session.0;
        if action == Action::Start {
            self.turn_on(node, &key.0, token);
        }
        if at_once {
            self.start_now(node, id);
        }
        self.schedule(takes, Event::Operated { node, session, id });
    }

    /// A start does what it is to do, unless it was killed on the way. Answers whether it runs.
    fn start_now(&mut self, node: usize, id: u64) -> bool {
        let machine = &self.machines[node];
        let clock = machine.clock(self.now);
        let Some(agent) = &machine.agent else { return false };
        let Some(operation) = agent.hand.under_way.get(&id) else { return false };
        let (key, token) = (operation.key.clone(), operation.token);
        let killed = operation.emptied != machine.kernel.emptied(&key.0);
        if operation.done {
            return !killed;
        }
        let too_late = self.place_of(&key.1) == Place::Data && !agent.heard.lasts(clock);
        let clumsy = machine.works.clumsy && self.rng.percent(50);
        if killed || too_late || clumsy || self.conduct.no_start.contains(&(node, key.1.clone())) {
            return false;
        }
        self.begin_life(node, key, token);
        let agent = self.machines[node].agent.as_mut();
        if let Some(operation) = agent.and_then(|agent| agent.hand.under_way.get_mut(&id)) {
            operation.done = true;
        }
        self.check_twice();
        true
    }

    /// An operation has come to its end, whether its agent looks or not.
    pub(super) fn operated(&mut self, node: usize, session: u64, id: u64) {
        let machine = &self.machines[node];
        let Some(agent) = machine.agent.as_ref().filter(|it| it.session.0 == session) else {
            return;
        };
        let Some(operation) = agent.hand.under_way.get(&id) else { return };
        let (key, action) = (operation.key.clone(), operation.action);
        let done = match action {
            Action::Start if self.machines[node].kernel.mood.start_hangs(&key.0) => {
                failed("it did not end in time")
            }
            Action::Start => match self.start_now(node, id) {
                true => Done::default(),
                false => failed("exit status 1"),
            },
            Action::Stop => self.operate_stop(node, &key),
            Action::Monitor => self.operate_monitor(node, &key),
            Action::Settle => Done::default(),
        };
        if let Some(agent) = self.machines[node].agent.as_mut() {
            agent.hand.under_way.remove(&id);
        }
        self.act_soon(node, Input::Done { id, done });
    }

    /// Programs behave otherwise from now on: what hung ends, in a moment.
    pub(super) fn end_what_hung(&mut self, node: usize) {
        let Some(agent) = &self.machines[node].agent else { return };
        let session = agent.session.0;
        let hung = |(_, operation): &(&u64, &Operation)| operation.hangs;
        let ids: Vec<u64> = agent.hand.under_way.iter().filter(hung).map(|(id, _)| *id).collect();
        for id in ids {
            self.schedule(10 * MS, Event::Operated { node, session, id });
        }
    }

    fn operate_stop(&mut self, node: usize, key: &Key) -> Done {
        if self.conduct.no_stop.contains(&(node, key.1.clone())) {
            return failed("exit status 1");
        }
        if self.stop_life(node, key) {
            return Done::default();
        }
        self.counts.stuck += 1;
        self.note(|| format!("n{}: {} was not seen to be off", node + 1, key.1));
        failed("it still runs")
    }

    fn operate_monitor(&self, node: usize, key: &Key) -> Done {
        let kernel = &self.machines[node].kernel;
        match kernel.mood.monitor {
            Monitor::Hangs => Done { late: true, ..failed("it did not answer in time") },
            _ if kernel.lives.contains_key(key) => Done::default(),
            _ => failed("no process is left"),
        }
    }

    /// Nobody waits for an operation any more: its child is killed, before it has done what it is to do or after.
    fn cancel(&mut self, node: usize, id: u64) {
        let agent = self.machines[node].agent.as_ref();
        let operation = agent.and_then(|agent| agent.hand.under_way.get(&id));
        let starts = operation.is_some_and(|it| it.action == Action::Start);
        if starts && self.rng.percent(50) {
            self.start_now(node, id);
        }
        if let Some(agent) = self.machines[node].agent.as_mut() {
            agent.hand.under_way.remove(&id);
        }
    }

    /// An agent dies: some of what it had begun is done all the same.
    pub(super) fn leave_under_way(&mut self, node: usize) {
        let Some(agent) = &self.machines[node].agent else { return };
        let begun: Vec<u64> = agent.hand.under_way.keys().copied().collect();
        for id in begun {
            self.cancel(node, id);
        }
    }
}

fn failed(why: &str) -> Done {
    Done { said: why.to_owned(), failed: true, ..Done::default() }
}
