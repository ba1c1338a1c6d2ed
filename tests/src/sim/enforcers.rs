//! The guard's own [`Enforcer`], the one that ships, over a simulated kernel, disk and reaper.
//!
//! A release takes its time, and is done by whoever is awake: the guard when its enforcer asks for it, the agent a
//! little after the end of the lease, the reaper at half of the time of a release. What they let go of is what they
//! were told: the enforcer's own order, the last answer that the agent got, the board that guard and reaper share.
//! All three may be stopped, and then only the kernel's gate acts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use vedette_core::group::ResourceDef;
use vedette_core::holding::{
    Announcement, Data, Enforcer, GateOrder, Held, HeldAddress, HeldData, HeldProgram, Inheritance,
    Input, LeaseNow, LeaseWatch, Look, Mistake, Of, Output, Progress, Released, ToLookAt,
    WatchOutput, executor,
};
use vedette_core::model::Timing;
use vedette_core::observation::Report;
use vedette_core::time::Instant;
use vedette_core::topology;

use super::Bug;
use super::kernel::Place;
use super::node::Guard;
use super::world::{Event, MS, World};

/// Name of the gate's tables.
const TABLE: &str = "vedette_07070707";

/// The kernel's gate: a known address passes while it is live.
#[derive(Debug, Default)]
pub(super) struct Gate {
    known: BTreeSet<IpAddr>,
    live: BTreeSet<IpAddr>,
    until: u64,
}

impl Gate {
    /// Whether traffic of an address passes.
    pub(super) fn passes(&self, address: IpAddr, now: u64) -> bool {
        !self.known.contains(&address) || (self.live.contains(&address) && now < self.until)
    }
}

/// Memory that guard and reaper share.
#[derive(Debug, Default)]
pub(super) struct Board {
    held: Held,
    lease: u64,
    begun: bool,
    reaped: Option<u64>,
}

/// The agent's own eye on the lease, and what its guard told it last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    watch: LeaseWatch,
    /// When its eye on the lease looks next.
    wake: Option<u64>,
    /// Something that the agent lets go of itself.
    releasing: Option<Held>,
    /// The latest report of its guard, and when it was read.
    pub(super) report: Option<(Instant, Arc<Report>)>,
}

impl Heard {
    /// Whether the lease lasts, as the agent's own eye sees it.
    pub(super) fn lasts(&self, at: Instant) -> bool {
        self.watch.lasts_until(at).is_some()
    }
}

impl World {
    /// The number and the service address of a group.
    pub(super) fn known_as(&self, group: &str) -> (u16, IpAddr) {
        let number = self.reference.groups.get(group).map_or(0, |it| it.number);
        (number, IpAddr::from([10, 99, 0, number as u8]))
    }

    /// Everything that a group has on a node, as an agent orders it to be held.
    pub(super) fn held_of(&self, group: &str, resources: &[ResourceDef]) -> Held {
        let (number, address) = self.known_as(group);
        let of = Of { number, group: group.to_owned() };
        let address = HeldAddress { address, prefix: 24, device: "eth0".into() };
        let mut held = Held {
            addresses: [address].into(),
            groups: [format!("/groups/{group}").into()].into(),
            ..Held::default()
        };
        held.belongs_to(&of);
        for ResourceDef { name, .. } in resources {
            match self.place_of(name) {
                Place::Program => drop(held.programs.insert(program(&of, name))),
                Place::Data => drop(held.data.insert(disk(&of, name))),
                Place::Inside | Place::Outside => {}
            }
        }
        held
    }

    /// A guard starts: it lets go of what its disk says that an earlier one held.
    pub(super) fn new_enforcer(&mut self, node: usize) -> (Enforcer, Vec<Output>) {
        let before = self.machines[node].kept.clone();
        let found = before.held.groups.iter().any(|group| {
            let name = group.file_name().unwrap_or_default().to_string_lossy();
            self.machines[node].works.on.contains_key(name.as_ref())
        });
        let outcome = self.kernel_release(node, &before.pending());
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let wall_ms =
            (1_800_000_000_000 + (clock.as_micros() / 1_000) as i64 + machine.wall / 1_000) as u64;
        let inherited = Inheritance::new(&before, &outcome, found, (clock, wall_ms));
        machine.kept = inherited.journal(&before);
        (machine.gate, machine.board) = (Gate::default(), Board::default());
        let mut out = Vec::new();
        let mut enforcer = Enforcer::new(inherited, None, clock, &mut out);
        enforcer.make(match self.bug {
            Some(Bug::LeaseIgnored) => Some(Mistake::LeaseIgnored),
            Some(Bug::EpochIgnored) => Some(Mistake::EpochIgnored),
            Some(Bug::EpochTooEarly) => Some(Mistake::EpochTooEarly),
            Some(Bug::RemainsUnsaid) => Some(Mistake::RemainsUnsaid),
            _ => None,
        });
        (enforcer, out)
    }

    /// The enforcer of a new guard says what it starts with, and learns whom it serves.
    pub(super) fn enforcer_starts(&mut self, node: usize, out: Vec<Output>) {
        self.carry_out(node, out);
        self.enforce_timing(node, self.machines[node].config.timing);
    }

    /// Timers may have changed.
    pub(super) fn enforce_timing(&mut self, node: usize, timing: Timing) {
        self.enforce(node, Input::Configure { table: TABLE.into(), timing });
    }

    /// Hands something to the enforcer of a guard that is awake.
    pub(super) fn enforce(&mut self, node: usize, input: Input) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let Some(guard) = machine.guard.as_mut().filter(|guard| !guard.paused) else { return };
        let mut out = Vec::new();
        guard.enforcer.handle(clock, input, &mut out);
        self.carry_out(node, out);
    }

    /// The lease as the heartbeat knows it, and what is due.
    pub(super) fn enforce_lease(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let idle = |guard: &&mut Guard| !guard.paused && !guard.carrying;
        let Some(guard) = machine.guard.as_mut().filter(idle) else { return };
        let (until, lapses) = (guard.topology.lease_until(), guard.topology.lease_lapses());
        let lease = LeaseNow { until, lapses };
        let due = guard.enforcer.deadline().is_some_and(|at| at <= clock);
        let over = until.is_some_and(|until| until <= clock) != guard.lease_over;
        if lease == guard.lease && !due && !over {
            return;
        }
        guard.lease = lease;
        guard.lease_over = until.is_some_and(|until| until <= clock);
        let lease_until = until.map_or(0, |until| machine.world_time(until));
        machine.board.lease = lease_until;
        self.watch_lease(node);
        self.enforce(node, Input::Lease { lease, turns: self.now });
    }

    fn carry_out(&mut self, node: usize, out: Vec<Output>) {
        self.carries(node, true);
        let mut outputs: VecDeque<Output> = out.into();
        while let Some(output) = outputs.pop_front() {
            let Some(answer) = self.execute(node, output) else { continue };
            let machine = &mut self.machines[node];
            let clock = machine.clock(self.now);
            let Some(guard) = machine.guard.as_mut() else { return };
            let mut more = Vec::new();
            guard.enforcer.handle(clock, answer, &mut more);
            outputs.extend(more);
        }
        self.carries(node, false);
        self.enforce_lease(node);
        self.wake_guard(node);
    }

    /// Nothing else is handed in while what came out is carried out.
    fn carries(&mut self, node: usize, carrying: bool) {
        if let Some(guard) = self.machines[node].guard.as_mut() {
            guard.carrying = carrying;
        }
    }

    fn execute(&mut self, node: usize, output: Output) -> Option<Input> {
        match output {
            Output::Journal(_) if self.machines[node].kernel.broken.disk => {}
            Output::Journal(entry) => self.machines[node].kept.write(entry),
            Output::Release { held, .. } => self.begin_release(node, held),
            Output::LookAt(what) => return Some(Input::Looked(self.look(node, &what))),
            Output::Gate(order) => return self.change_gate(node, order),
            Output::Post(held) => {
                let board = &mut self.machines[node].board;
                *board = Board { held, lease: board.lease, begun: false, reaped: None };
                self.watch_lease(node);
                return Some(Input::Posted(Ok(())));
            }
            Output::Begin => self.machines[node].board.begun = true,
            Output::Word(word) => self.say_word(node, word),
            Output::Tell(announcement) => self.announce(node, announcement),
            _ => {}
        }
        None
    }

    /// Letting go takes a while; who is stopped meanwhile goes on later.
    fn begin_release(&mut self, node: usize, held: Held) {
        let most = self.reference.settings.timing.release_max_ms * MS;
        let takes = if held.is_empty() { 0 } else { self.rng.range(1, most) };
        let Some(guard) = self.machines[node].guard.as_mut() else { return };
        guard.releasing = Some(held);
        let session = guard.session.0;
        self.schedule(takes, Event::Released { node, session });
    }

    /// The guard has let go, unless it stands still.
    pub(super) fn released(&mut self, node: usize, session: u64) {
        let machine = &mut self.machines[node];
        let guard = machine.guard.as_mut().filter(|it| it.session.0 == session && !it.paused);
        let Some(held) = guard.and_then(|guard| guard.releasing.take()) else { return };
        let reaped = machine.board.reaped.map(|at| machine.clock(at));
        let outcome = if self.machines[node].kernel.broken.release {
            Released { failed: vec!["it does not go".into()], ..Released::default() }
        } else {
            self.kernel_release(node, &held)
        };
        self.note(|| format!("n{} releases everything: {:?}", node + 1, outcome.failed));
        self.enforce(node, Input::Released(outcome, reaped));
        self.look_after_groups(node);
    }

    /// A guard that stood still goes on with what it was about.
    pub(super) fn go_on_releasing(&mut self, node: usize) {
        let Some(guard) = &self.machines[node].guard else { return };
        if guard.releasing.is_some() {
            let session = guard.session.0;
            self.released(node, session);
        }
    }

    /// Addresses go and control groups are emptied, at once. What no control group holds is left to others.
    pub(super) fn kernel_release(&mut self, node: usize, held: &Held) -> Released {
        let groups: BTreeSet<String> = held
            .groups
            .iter()
            .filter_map(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
            .collect();
        self.end_lives(node, &groups);
        self.machines[node].works.on.retain(|group, _| !groups.contains(group));
        Released::default()
    }

    fn look(&mut self, node: usize, what: &ToLookAt) -> Look {
        let now = self.now;
        let kernel = &mut self.machines[node].kernel;
        for program in &what.anew {
            kernel.releasing.entry(key_of(program)).or_insert(now);
        }
        self.run_programs(node);
        let kernel = &self.machines[node].kernel;
        let progress = |program: &HeldProgram| {
            let key = key_of(program);
            if !kernel.releasing.contains_key(&key) {
                return Progress::Done;
            }
            let failed = kernel.lives.get(&key).is_some_and(|life| life.program_failed);
            Progress::Runs(failed.then(|| "its release program failed".to_owned()))
        };
        let kept = |data: &HeldData| {
            let Data::FileSystem { device, .. } = &data.what else { return None };
            let key = (data.of.group.clone(), device.clone());
            let life = kernel.lives.get(&key)?;
            (life.place == Place::Data).then(|| "it is still mounted".to_owned())
        };
        Look {
            programs: what.programs.iter().map(|it| (it.clone(), progress(it))).collect(),
            data: what.data.iter().map(|it| (it.clone(), kept(it))).collect(),
        }
    }

    fn change_gate(&mut self, node: usize, order: GateOrder) -> Option<Input> {
        let now = self.now;
        let machine = &mut self.machines[node];
        let opens = matches!(order, GateOrder::Guard { .. } | GateOrder::Open { .. });
        if machine.kernel.broken.gate && opens {
            return Some(Input::Gate(Err("the kernel refuses".into())));
        }
        let world = |until: Option<_>| until.map_or(0, |until| machine.world_time(until));
        match order {
            GateOrder::Attempt(_) => {}
            GateOrder::Guard { known, live, until, .. } => {
                let (known, live) = (known.into_iter().collect(), live.into_iter().collect());
                machine.gate = Gate { known, live, until: world(until) };
            }
            GateOrder::Open { live, until } => {
                (machine.gate.until, machine.gate.live) =
                    (world(until), live.into_iter().collect());
            }
            GateOrder::Close => {
                machine.gate.until = now;
                return None;
            }
            GateOrder::Remove => {
                machine.gate = Gate::default();
                return None;
            }
        }
        self.check_owners();
        Some(Input::Gate(Ok(())))
    }

    fn say_word(&mut self, node: usize, word: vedette_core::takeover::Word) {
        if let Some(guard) = self.machines[node].guard.as_mut() {
            guard.word = word;
        }
        self.guard_step(node, |topology, now, out| {
            topology.handle(now, topology::Input::Holds(word), out);
        });
    }

    fn announce(&mut self, node: usize, announcement: Announcement) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let release_max = Duration::from_millis(machine.config.timing.release_max_ms);
        let Some(agent) = machine.agent.as_mut() else { return };
        let watch = &mut agent.heard.watch;
        watch.hear(clock, &announcement);
        match announcement {
            Announcement::Holding(holding) => {
                let taken = watch.hold(clock, &holding, release_max);
                self.hears_holding(node, &holding, taken);
            }
            Announcement::ReleasedAll { epoch, left, .. } => {
                self.hears_released(node, epoch, !left.is_empty());
            }
            Announcement::Lease { .. } | Announcement::Warning { .. } => {}
        }
        self.wake_watch(node);
    }

    /// The agent's eye on the lease looks when something is due.
    fn wake_watch(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let deadline = machine.agent.as_ref().and_then(|agent| agent.heard.watch.deadline());
        // The clock shows whole microseconds.
        let Some(at) = deadline.map(|at| machine.world_time(at).max(self.now) + 1) else { return };
        let Some(agent) = machine.agent.as_mut() else { return };
        if agent.heard.wake.is_none_or(|wake| at < wake) {
            agent.heard.wake = Some(at);
            self.schedule(at - self.now, Event::AgentWatches { node });
        }
    }

    /// The agent looks at the lease, and goes on with what it lets go of, unless it stands still.
    pub(super) fn agent_watches(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let Some(agent) = machine.agent.as_mut() else { return };
        agent.heard.wake = None;
        if agent.paused {
            return;
        }
        let mut out = Vec::new();
        agent.heard.watch.on_timeout(clock, &mut out);
        self.watch_wants(node, out);
    }

    fn watch_wants(&mut self, node: usize, out: Vec<WatchOutput>) {
        for output in out {
            if output == WatchOutput::Released {
                self.act(node, executor::Input::LetGoWithoutGuard);
            }
            let WatchOutput::LetGo { held, .. } = output else { continue };
            if self.lease_never_ends() {
                continue;
            }
            let most = self.reference.settings.timing.release_max_ms * MS;
            let takes = self.rng.range(1, most / 2);
            let Some(agent) = self.machines[node].agent.as_mut() else { return };
            agent.heard.releasing = Some(held);
            let session = agent.session.0;
            self.schedule(takes, Event::AgentReleased { node, session });
        }
        self.wake_watch(node);
    }

    /// The agent has let go, unless it stands still.
    pub(super) fn agent_released(&mut self, node: usize, session: u64) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let agent = machine.agent.as_mut().filter(|it| it.session.0 == session && !it.paused);
        let Some(held) = agent.and_then(|agent| agent.heard.releasing.take()) else { return };
        self.note(|| format!("the agent of n{} releases everything", node + 1));
        self.release_with_programs(node, &held);
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        let mut out = Vec::new();
        agent.heard.watch.released(clock, true, &mut out);
        self.watch_wants(node, out);
    }

    /// An agent that stood still goes on.
    pub(super) fn go_on_watching(&mut self, node: usize) {
        let Some(agent) = &self.machines[node].agent else { return };
        let session = agent.session.0;
        self.agent_released(node, session);
        self.agent_watches(node);
    }

    /// Somebody has to look when the lease ends.
    fn watch_lease(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        if machine.board.held.is_empty() || std::mem::replace(&mut machine.works.watched, true) {
            return;
        }
        let after = machine.board.lease.saturating_sub(now) + 1;
        self.schedule(after, Event::LeaseEnds { node });
    }

    /// The lease is over unless it was granted again: the reaper acts if nobody else does.
    pub(super) fn lease_ends(&mut self, node: usize) {
        let now = self.now;
        let machine = &mut self.machines[node];
        machine.works.watched = false;
        if machine.board.held.is_empty() || machine.board.lease > now {
            return self.watch_lease(node);
        }
        let most = self.reference.settings.timing.release_max_ms * MS;
        self.schedule(most / 2, Event::Reap { node });
    }

    /// Neither guard nor agent acted when the lease ended: the reaper does.
    pub(super) fn reap(&mut self, node: usize) {
        let now = self.now;
        let machine = &self.machines[node];
        let absent = machine.kernel.reaper_paused || self.bug == Some(Bug::ReaperAbsent);
        let board = &machine.board;
        let due = !board.held.is_empty() && board.lease <= now && board.reaped.is_none();
        if absent || !due || self.lease_never_ends() {
            return;
        }
        self.counts.reaped += 1;
        self.note(|| format!("the reaper of n{} ends what was held", node + 1));
        self.reap_all(node);
        self.machines[node].board.reaped = Some(now);
    }

    /// Mistakes about the lease are made by all three.
    fn lease_never_ends(&self) -> bool {
        matches!(self.bug, Some(Bug::LeaseIgnored | Bug::EpochIgnored))
    }

    /// Everything on the board ends, programs as well unless the guard has begun.
    pub(super) fn reap_all(&mut self, node: usize) {
        let board = &self.machines[node].board;
        let mut held = board.held.clone();
        if board.begun {
            held.programs.clear();
        }
        self.release_with_programs(node, &held);
    }

    /// The guard is gone, and its agent sees it: it lets go of everything, and ends.
    pub(super) fn agent_inherits(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let clock = machine.clock(self.now);
        let Some(agent) = machine.agent.as_mut() else { return };
        let mut out = Vec::new();
        agent.heard.watch.guard_gone(clock, &mut out);
        let under_way = agent.heard.releasing.take();
        if under_way.is_some() {
            agent.heard.watch.released(clock, true, &mut out);
        }
        let orders = out.into_iter().filter_map(|output| match output {
            WatchOutput::LetGo { held, .. } => Some(held),
            _ => None,
        });
        for held in under_way.into_iter().chain(orders) {
            self.release_with_programs(node, &held);
        }
    }

    fn release_with_programs(&mut self, node: usize, held: &Held) {
        let now = self.now;
        for program in &held.programs {
            self.machines[node].kernel.releasing.entry(key_of(program)).or_insert(now);
        }
        self.run_programs(node);
        self.kernel_release(node, held);
    }

    /// Whether the kernel lets traffic of a group's address pass on a node.
    pub(super) fn passes(&self, node: usize, group: &str) -> bool {
        self.machines[node].gate.passes(self.known_as(group).1, self.now)
    }
}

fn program(of: &Of, resource: &str) -> HeldProgram {
    HeldProgram {
        of: of.clone(),
        program: vec![resource.to_owned()],
        environment: BTreeMap::new(),
        user: None,
        place: None,
        within_ms: 1_000,
        transcripts: None,
    }
}

fn disk(of: &Of, resource: &str) -> HeldData {
    let (device, mount_point) = (resource.to_owned(), format!("/{resource}").into());
    HeldData { of: of.clone(), what: Data::FileSystem { device, mount_point } }
}

fn key_of(program: &HeldProgram) -> (String, String) {
    (program.of.group.clone(), program.name().to_owned())
}
