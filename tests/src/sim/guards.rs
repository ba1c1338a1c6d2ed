//! Guards: they beat, listen, report to their agents and keep those alive.

use std::sync::Arc;

use vedette_core::id::{NetworkNumber, Session};
use vedette_core::lease::Confirmation;
use vedette_core::model::AgentStatus;
use vedette_core::observation::{OwnInterface, Report};
use vedette_core::takeover::Word;
use vedette_core::time::Instant;
use vedette_core::topology::{Input, Output, Topology};
use vedette_core::wire::Beat;

use super::Bug;
use super::node::Guard;
use super::world::{Event, MS, World, index_of, network_of};

/// How many datagrams a socket holds for a stopped process.
const SOCKET: usize = 64;
/// How many beats of each node are kept for replay.
const RECORDED: usize = 32;
/// When machines of the world start, in microseconds since 1970.
const WALL_US: u64 = 1_800_000_000_000_000;

impl World {
    pub(super) fn power_on(&mut self, node: usize) {
        if self.machines[node].guard.is_some() {
            return;
        }
        self.drawn += 1;
        let session = Session(self.drawn);
        let now = self.now;
        let machine = &mut self.machines[node];
        machine.was_gone = std::mem::replace(&mut machine.gone_since, u64::MAX);
        machine.config.session = session;
        machine.config = machine.wanted_config(session);
        if self.bug == Some(Bug::OwnVoteSuffices) {
            machine.config.voters = vec![machine.number];
        }
        let (enforcer, said) = self.new_enforcer(node);
        let machine = &mut self.machines[node];
        machine.guard = Some(Guard {
            topology: Topology::new(machine.config.clone(), machine.clock(now)),
            session,
            paused: false,
            inbox: Vec::new(),
            wake: u64::MAX,
            steady_since: now,
            started: now,
            word: Word::default(),
            enforcer,
            lease: Default::default(),
            lease_over: false,
            releasing: None,
            orders: Vec::new(),
            carrying: false,
            continuity: false,
        });
        // What an earlier guard left behind was released before anything is said.
        self.enforcer_starts(node, said);
        self.tell_interfaces(node);
        self.wake_guard(node);
        let start = self.rng.range(50, 400) * MS;
        self.schedule(start, Event::AgentStart { node });
    }

    pub(super) fn power_off(&mut self, node: usize) {
        self.drop_agent(node);
        let machine = &mut self.machines[node];
        machine.kernel.die();
        machine.works.clear();
        (machine.gate, machine.board) = Default::default();
        machine.guard = None;
        if machine.gone_since == u64::MAX {
            machine.gone_since = self.now;
        }
    }

    /// The guard dies alone: its agent sees it, releases and ends; the service manager starts it
    /// again. If the agent is stopped or dies at the same moment, the kernel and the reaper act.
    pub(super) fn kill_guard(&mut self, node: usize, both: bool) {
        if self.machines[node].guard.is_none() {
            return;
        }
        if self.machines[node].serves() && !both {
            self.agent_inherits(node);
        }
        self.drop_agent(node);
        if !self.machines[node].kernel.reaper_paused && self.bug != Some(Bug::ReaperAbsent) {
            self.reap_all(node);
        }
        let machine = &mut self.machines[node];
        machine.guard = None;
        if machine.gone_since == u64::MAX {
            machine.gone_since = self.now;
        }
    }

    /// The node says that it goes, and goes a moment later.
    pub(super) fn leave(&mut self, node: usize) {
        if let Some(guard) = self.machines[node].guard.as_mut() {
            // From here on nobody may rely on it.
            guard.steady_since = u64::MAX;
        }
        self.guard_step(node, |topology, now, out| topology.handle(now, Input::Leave, out));
        self.schedule(50 * MS, Event::Trouble(super::world::Trouble::PowerOff(node)));
    }

    pub(super) fn pause_guard(&mut self, node: usize, paused: bool) {
        let now = self.now;
        let first_time = self.rng.percent(50);
        let Some(guard) = self.machines[node].guard.as_mut() else { return };
        if guard.paused == paused {
            return;
        }
        guard.paused = paused;
        guard.steady_since = now;
        if paused {
            return;
        }
        // What waited in the socket may be read before or after the timer is looked at.
        let inbox = std::mem::take(&mut guard.inbox);
        if first_time {
            self.guard_step(node, |topology, now, out| topology.on_timeout(now, out));
        }
        for (network, beat) in inbox {
            self.beat_arrives(node, network, beat);
        }
        // So did what its agent said.
        self.tell_guard(node);
        self.reconfigure_guard(node);
        self.go_on_releasing(node);
        self.read_orders(node);
        self.wake_guard(node);
    }

    /// A guard that stood still reads what its agent ordered meanwhile.
    fn read_orders(&mut self, node: usize) {
        let Some(guard) = self.machines[node].guard.as_mut() else { return };
        let (session, orders) = (guard.session.0, std::mem::take(&mut guard.orders));
        for order in orders {
            self.ordered(node, session, order);
        }
    }

    pub(super) fn beat_arrives(&mut self, to: usize, network: NetworkNumber, beat: Beat) {
        let Some(guard) = self.machines[to].guard.as_mut() else { return };
        if guard.paused {
            if guard.inbox.len() < SOCKET {
                guard.inbox.push((network, beat));
            }
            return;
        }
        self.guard_step(to, |topology, now, out| {
            topology.handle(now, Input::Beat(network, beat), out);
        });
    }

    pub(super) fn guard_timer(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let clock = machine.clock(now);
        let Some(guard) = machine.guard.as_mut().filter(|guard| guard.wake == now) else { return };
        guard.wake = u64::MAX;
        if guard.paused {
            return;
        }
        if guard.topology.deadline().is_some_and(|at| at <= clock) {
            self.guard_step(node, |topology, now, out| topology.on_timeout(now, out));
        } else {
            self.enforce_lease(node);
            self.wake_guard(node);
        }
    }

    /// Lets a guard's machine do something, carries out what it wants, and sets its timer.
    pub(super) fn guard_step(
        &mut self,
        node: usize,
        act: impl FnOnce(&mut Topology, Instant, &mut Vec<Output>),
    ) {
        let clock = self.machines[node].clock(self.now);
        let Some(guard) = self.machines[node].guard.as_mut() else { return };
        let mut out = Vec::new();
        // Wall clocks are wrong by a minute a node, and run as the machine's own clock does.
        let wall_us = WALL_US + clock.as_micros() + node as u64 * 60_000_000;
        guard.topology.handle(clock, Input::Clock { wall_us }, &mut out);
        act(&mut guard.topology, clock, &mut out);
        let mut report = false;
        for output in out {
            match output {
                Output::Send(beat) => self.transmit(node, beat),
                // Nothing that is decided depends on it.
                Output::SendLong(_) => {}
                Output::ReportNow => report = true,
            }
        }
        if report {
            self.make_report(node);
        }
        self.wake_guard(node);
        self.enforce_lease(node);
    }

    pub(super) fn wake_guard(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let now = self.now;
        let awake = machine.guard.as_ref().filter(|guard| !guard.paused);
        let deadlines = awake.map(|guard| [guard.topology.deadline(), guard.enforcer.deadline()]);
        let deadline = deadlines.into_iter().flatten().flatten().min();
        let Some(at) = deadline.map(|deadline| machine.world_time(deadline)) else { return };
        let Some(guard) = machine.guard.as_mut() else { return };
        // Rounded up: a process that wakes too early finds nothing to do.
        let at = at.max(now);
        if at < guard.wake {
            guard.wake = at;
            self.schedule(at - now, Event::GuardTimer { node });
        }
    }

    fn transmit(&mut self, from: usize, mut beat: Beat) {
        if self.bug == Some(Bug::OneDirectionSuffices) {
            beat.flags.hears_you = true;
        }
        let to = index_of(beat.destination);
        let network = usize::from(beat.network.0) - 1;
        if to >= self.machines.len()
            || self.machines[from].unusable.contains(&beat.network)
            || self.machines[to].unusable.contains(&beat.network)
        {
            return;
        }
        if let Some(delay) = self.wires.send(&mut self.rng, from, to, network) {
            self.remember(from, to, beat);
            let network = beat.network;
            self.schedule(delay, Event::Beat { to, network, beat: Box::new(beat) });
        }
    }

    /// Keeps some of what was on the wire, for whoever sends it again.
    fn remember(&mut self, from: usize, to: usize, beat: Beat) {
        let recorded = &mut self.recorded[from];
        if recorded.len() < RECORDED {
            recorded.push((to, beat));
        } else {
            let place = beat.seq as usize % RECORDED;
            recorded[place] = (to, beat);
        }
    }

    /// Somebody on the wire sends again what a node once sent.
    pub(super) fn replay(&mut self, node: usize) {
        let recorded = self.recorded[node].clone();
        for (to, mut beat) in recorded {
            if self.bug == Some(Bug::ReplayAccepted) {
                self.make_acceptable(to, &mut beat);
            }
            let delay = self.rng.range(1, 50) * MS;
            let network = beat.network;
            self.schedule(delay, Event::Beat { to, network, beat: Box::new(beat) });
        }
    }

    /// What a receiver that did not check freshness would take the beat for.
    fn make_acceptable(&mut self, to: usize, beat: &mut Beat) {
        self.drawn += 1;
        let clock = self.machines[to].clock(self.now);
        if let Some(guard) = &self.machines[to].guard {
            beat.echo.session = guard.session;
            beat.echo.sent_us = clock.as_micros();
            beat.echo.held_us = 0;
            beat.echo.seq = u64::MAX / 2 + self.drawn;
            beat.seq = u64::MAX / 2 + self.drawn;
        }
    }

    /// What the agent tells its guard.
    pub(super) fn tell_guard(&mut self, node: usize) {
        let machine = &self.machines[node];
        let Some(guard) = machine.guard.as_ref().filter(|guard| !guard.paused) else { return };
        let continuity = guard.continuity;
        let agent = machine.agent.as_ref();
        let status = agent.map_or(AgentStatus::Down, |agent| agent.status);
        let confirmed = machine.clock(self.log.confirmed.min(self.now));
        let director = agent
            .and_then(|agent| agent.leads)
            .filter(|term| self.log.leader == Some((node, *term)))
            .map(|term| Confirmation { term, at: confirmed });
        let (position, log_stalled) = (agent.map_or(0, |_| machine.state.revision), false);
        let input = Input::Agent { status, director, continuity, position, log_stalled };
        self.guard_step(node, |topology, now, out| topology.handle(now, input, out));
    }

    pub(super) fn tell_interfaces(&mut self, node: usize) {
        for k in 0..self.wires.networks() {
            let network = network_of(k);
            let usable = !self.machines[node].unusable.contains(&network);
            let probe = self.machines[node].probes.get(&network).copied();
            let own = OwnInterface { network, usable, probe };
            self.guard_step(node, |topology, now, out| {
                topology.handle(now, Input::Interface(own), out);
            });
        }
    }

    /// The committed members or timers changed: the guard goes on with the new ones.
    pub(super) fn reconfigure_guard(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        let Some(session) =
            machine.guard.as_ref().filter(|guard| !guard.paused).map(|guard| guard.session)
        else {
            return;
        };
        let mut config = machine.wanted_config(session);
        if self.bug == Some(Bug::OwnVoteSuffices) {
            config.voters = vec![machine.number];
        }
        if config != machine.config {
            // Who has just been told who the others are was nobody's peer before.
            let first = machine.config.peers.is_empty();
            if let Some(guard) = machine.guard.as_mut().filter(|_| first) {
                guard.steady_since = now;
            }
            machine.config = config.clone();
            let timing = config.timing;
            self.guard_step(node, |topology, now, out| topology.reconfigure(now, config, out));
            self.enforce_timing(node, timing);
        }
    }

    /// A guard makes a report, and its agent sends it to the director.
    pub(super) fn make_report(&mut self, node: usize) {
        let clock = self.machines[node].clock(self.now);
        if !self.machines[node].serves() {
            return;
        }
        let Some(guard) = self.machines[node].guard.as_mut().filter(|guard| !guard.paused) else {
            return;
        };
        let report = guard.topology.report(clock);
        self.check_lease(node, &report);
        let report = Arc::new(report);
        self.hears_report(node, report.clone());
        self.send_report(node, report);
    }

    fn send_report(&mut self, from: usize, report: Arc<Report>) {
        let Some((to, _)) = self.log.leader else { return };
        if !self.wires.connected(from, to) {
            return;
        }
        let mut delay = if from == to { MS / 4 } else { MS / 2 + self.rng.range(0, 3 * MS) };
        if from != to && self.rng.percent(self.wires.least_loss(from, to)) {
            delay += 200 * MS;
        }
        self.schedule(delay, Event::Report { to, from, report });
    }
}
