//! The virtual world: machines, wires, the log, one heap of events, and what can be done to them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use vedette_core::command::{Command, ManagerCommand, NewNetwork, NewNode, Proposal};
use vedette_core::holding::{Hold, executor};
use vedette_core::id::{ClusterId, CommandId, Hash, NetworkNumber, NodeNumber, RaftId, StorageId};
use vedette_core::model::{Priority, Settings};
use vedette_core::observation::Report;
use vedette_core::record::Record;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_core::wire::Beat;

use super::Bug;
use super::active_groups::{ActiveGroups, SITE};
use super::checks::Checks;
use super::conduct::Conduct;
use super::delay::Delays;
use super::journals::Journal;
use super::kernel::{Broken, Counts, Kernel, Mood, Place};
use super::log::Log;
use super::node::Machine;
use super::rng::Rng;
use super::wires::{Fault, Wires};

/// One millisecond in the world's unit.
pub(super) const MS: u64 = 1_000;
/// The rule of the site.
const SITE_RULE: &str = "UE_FULL";
/// So many events at one instant are a machine that wants to be woken for ever.
const BUSY: u64 = 20_000;
/// The wall clock at the beginning: 2026-01-01T00:00:00Z.
pub(super) const EPOCH: i64 = 1_767_225_600_000_000;

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct Setup {
    /// How many nodes, numbered from 1.
    pub nodes: usize,
    /// How many networks.
    pub networks: usize,
    /// Which of them is of low priority, if any.
    pub low: Option<usize>,
    /// Seed of all randomness.
    pub seed: u64,
    /// Delay of datagrams and up to so much more, in microseconds.
    pub delay: (u64, u64),
    /// Settings of the cluster.
    pub settings: Settings,
    /// Whether each network has a ping target.
    pub ping: bool,
    /// The configuration document; none for a cluster without groups.
    pub document: Option<String>,
    /// Where the processes of resources live, if not in control groups.
    pub places: BTreeMap<String, Place>,
    /// The mistake that is put in.
    pub bug: Option<Bug>,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When, in microseconds of virtual time.
    pub at: u64,
    /// What was seen.
    pub what: String,
}

/// What can happen next.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A datagram arrives.
    Beat {
        to: usize,
        network: NetworkNumber,
        beat: Box<Beat>,
    },
    /// A guard's timer.
    GuardTimer {
        node: usize,
    },
    /// A director's timer.
    DirectorTimer {
        node: usize,
    },
    /// A report arrives at the agent of a director.
    Report {
        to: usize,
        from: usize,
        report: Arc<Report>,
    },
    /// A new director asks an agent for a report.
    Asked {
        node: usize,
    },
    /// A guard starts its agent.
    AgentStart {
        node: usize,
    },
    /// An agent looks after itself: ten times a second.
    AgentRound {
        node: usize,
        session: u64,
    },
    /// Replicated entries arrive.
    Apply {
        node: usize,
        upto: usize,
    },
    /// A leader has written a proposal and asks for a majority.
    Commit {
        by: usize,
        term: u64,
        proposal: Box<Proposal>,
        tries: u32,
    },
    /// Its proposer learns that nothing is known of a proposal.
    Lost {
        node: usize,
        id: CommandId,
    },
    /// A leader learns that it is one no more.
    Deposed {
        node: usize,
        term: u64,
    },
    /// The voters are changed.
    SetVoters {
        by: usize,
        term: u64,
        voters: Vec<NodeNumber>,
    },
    /// A script ends: of an alert, or of a test.
    ScriptEnds {
        node: usize,
        session: u64,
        test: bool,
        id: u64,
    },
    /// A piece of the manager's work goes on.
    Work {
        node: usize,
        session: u64,
        job: u64,
    },
    /// The lease that the kernel was told of runs out, unless it was renewed.
    LeaseEnds {
        node: usize,
    },
    /// The agent's own eye on the lease looks.
    AgentWatches {
        node: usize,
    },
    /// The agent has let go of what its guard did not.
    AgentReleased {
        node: usize,
        session: u64,
    },
    /// The guard has let go of what it was about to let go of.
    Released {
        node: usize,
        session: u64,
    },
    /// Half of the time of a release has passed: the reaper looks.
    Reap {
        node: usize,
    },
    /// Release programs end.
    Programs {
        node: usize,
    },
    /// An order of its agent reaches a guard.
    Ordered {
        node: usize,
        session: u64,
        order: Box<Hold>,
    },
    /// An operation on a resource ends.
    Operated {
        node: usize,
        session: u64,
        id: u64,
    },
    /// The executor of an agent hears of something, or wanted to be called.
    Act {
        node: usize,
        session: u64,
        input: Box<executor::Input>,
    },
    ActInTime {
        node: usize,
        session: u64,
    },
    /// A report of its guard reaches an agent.
    Reported {
        node: usize,
        session: u64,
        report: Arc<Report>,
    },
    /// An operator puts in order what the storm left.
    TidyUp,
    /// Somebody looks at who leads: twenty times a second.
    Elections,
    /// An operator asks for something; asked again until it is known to have happened.
    Operator {
        number: u64,
        proposal: Box<Proposal>,
    },
    /// Something bad, or its end.
    Trouble(Trouble),
}

/// What is done to a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    PowerOff(usize),
    /// The disk of a machine that is off had promised so many entries of its journal more than it kept.
    Tear(usize, usize),
    Blackout(bool),
    PowerOn(usize),
    KillAgent(usize),
    PauseGuard(usize, bool),
    PauseAgent(usize, bool),
    /// Guard and agent alike.
    PauseAll(usize, bool),
    /// The guard dies; its agent too, at the same moment, if so said.
    KillGuard(usize, bool),
    /// Scripts of a node fail.
    Clumsy(usize, bool),
    /// A resource fails by itself.
    ResourceFails(usize),
    /// The programs of a node's resources behave badly, or well again.
    Mood(usize, Mood),
    /// What is around a node's guard refuses its work, or not any more.
    Broken(usize, Broken),
    /// The reaper is stopped, or goes on.
    PauseReaper(usize, bool),
    /// Guard, agent and reaper alike.
    PauseAllThree(usize, bool),
    /// A rule of the site fires on a node, which then behaves so.
    SiteEvent(usize, Mood),
    /// An operator at that node ends an event that goes on beside others.
    AbortSlow(usize),
    /// Somebody starts a group past the cluster.
    ByHand(usize, &'static str),
    Wipe(usize),
    Leave(usize),
    WallClock(usize, i64),
    /// Both directions of every path of a node on a network (or on all).
    Node {
        node: usize,
        network: Option<usize>,
        out: bool,
        into: bool,
        fault: Fault,
    },
    /// A whole network.
    Network {
        network: usize,
        fault: Fault,
    },
    /// Two halves, on every network: nodes with a bit in the mask, and the others.
    Partition {
        mask: u64,
        fault: Fault,
    },
    /// Recorded beats of a node are sent again.
    Replay(usize),
    /// Other nodes vote, an odd number of those with a bit in the mask; the director changes it back in time.
    Voters(u64),
}

#[derive(Debug)]
struct Due {
    at: u64,
    number: u64,
    event: Event,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.number) == (other.at, other.number)
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.number).cmp(&(other.at, other.number))
    }
}

/// A cluster in its world.
#[derive(Debug)]
pub struct World {
    pub(super) now: u64,
    heap: BinaryHeap<Reverse<Due>>,
    scheduled: u64,
    pub(super) rng: Rng,
    pub(super) machines: Vec<Machine>,
    pub(super) wires: Wires,
    pub(super) log: Log,
    /// What every node's state must be once it has applied everything.
    pub(super) reference: ClusterState,
    pub(super) checks: Checks,
    pub(super) bug: Option<Bug>,
    pub(super) drawn: u64,
    /// Lately sent beats by sender, for replay.
    pub(super) recorded: Vec<Vec<(usize, Beat)>>,
    /// Everything that happened, if a story wants it.
    pub(super) history: Option<Vec<Record>>,
    /// What is done and recorded, line by line, if somebody wants to read it.
    pub(super) trace: Option<Vec<String>>,
    /// What became of operators' commands, by their number.
    pub(super) answers: BTreeMap<u64, Outcome>,
    /// Orders of operators that were given once.
    pub(super) seen_to: BTreeSet<u64>,
    /// What a story says about scripts and resources.
    pub(super) conduct: Conduct,
    /// Where the processes of resources live, if not in control groups.
    pub(super) places: BTreeMap<String, Place>,
    /// The configuration asks for more than a lease.
    pub(super) strict: bool,
    /// How often what happened, for figures.
    pub(super) counts: Counts,
    /// What waits behind events that failed.
    pub(super) delays: Delays,
    /// Scripts that hang until their node is gone (stories), and how scripts end.
    pub(super) hanging_scripts: bool,
    pub(super) failing_scripts: BTreeSet<usize>,
    /// Script runs: alert, runner's index.
    pub(super) script_runs: Vec<(u64, usize)>,
    pub(super) events: u64,
    /// Events in a row without time passing.
    busy: u64,
}

impl World {
    /// A cluster that was formed, and whose machines are all switched off.
    pub fn new(setup: &Setup) -> Self {
        let mut world = Self {
            now: 0,
            heap: BinaryHeap::new(),
            scheduled: 0,
            rng: Rng::new(setup.seed),
            machines: Vec::new(),
            wires: Wires::new(setup.nodes, setup.networks, setup.delay),
            log: Log { stored: vec![0; setup.nodes], ..Log::default() },
            reference: ClusterState::default(),
            checks: Checks::new(setup.nodes),
            bug: setup.bug,
            drawn: 0,
            recorded: vec![Vec::new(); setup.nodes],
            history: None,
            trace: None,
            answers: BTreeMap::new(),
            seen_to: BTreeSet::new(),
            conduct: Conduct::default(),
            places: setup.places.clone(),
            strict: setup.document.iter().any(|text| text.contains("strict = true")),
            counts: Counts::default(),
            delays: Delays::default(),
            hanging_scripts: false,
            failing_scripts: BTreeSet::new(),
            script_runs: Vec::new(),
            events: 0,
            busy: 0,
        };
        world.form(setup);
        for index in 0..setup.nodes {
            let machine = world.new_machine(index);
            world.machines.push(machine);
        }
        world.schedule(0, Event::Elections);
        world
    }

    fn new_machine(&mut self, index: usize) -> Machine {
        let number = number_of(index);
        let mut machine = Machine {
            number,
            guard: None,
            agent: None,
            state: self.reference.clone(),
            applied: self.log.committed(),
            shown: None,
            offset: self.rng.range(0, 1 << 40),
            drift: self.rng.range(0, 10_001) as i64 - 5_000,
            works: ActiveGroups::default(),
            kernel: Kernel::default(),
            gate: Default::default(),
            board: Default::default(),
            kept: Default::default(),
            journal: Journal::default(),
            wall: 0,
            config: vedette_core::topology::Config {
                me: number,
                session: vedette_core::id::Session(0),
                timing: self.reference.settings.timing,
                networks: Vec::new(),
                peers: Vec::new(),
                voters: Vec::new(),
                voters_since: 0,
            },
            gone_since: 0,
            was_gone: 0,
            unusable: BTreeSet::new(),
            probes: BTreeMap::new(),
        };
        machine.config = machine.wanted_config(vedette_core::id::Session(0));
        machine
    }

    /// The beginning of the log: the cluster is formed and everybody was added.
    fn form(&mut self, setup: &Setup) {
        let networks = (0..setup.networks).map(|k| (network_of(k), new_network(setup, k)));
        let form = Command::Form {
            cluster: ClusterId([7; 16]),
            name: "demo".into(),
            settings: setup.settings.clone(),
            networks: networks.collect(),
            first: new_node(0, setup.networks),
            raft_id: RaftId(0),
        };
        self.enter(form);
        for index in 1..setup.nodes {
            let node = new_node(index, setup.networks);
            let (name, number) = (node.name.clone(), node.number);
            let token = Hash([index as u8; 32]);
            let expires_at = WallTime(i64::MAX);
            self.enter(Command::IssueToken { hash: token, name, number, expires_at });
            self.enter(Command::AddNode { node, token });
        }
        let voters = match setup.nodes {
            0..=2 => 1,
            3 | 4 => 3,
            more => usize::from(setup.settings.voters).min(more),
        };
        self.log.voters = (0..voters).collect();
        self.enter(Command::Voters { voters: (0..voters).map(number_of).collect() });
        if let Some(text) = &setup.document {
            let text = &match self.bug {
                Some(Bug::StrictIgnored) => text.replace("strict = true", "strict = false"),
                _ => text.clone(),
            };
            let propose = vedette_core::command::ConfigCommand::Propose {
                text: text.clone(),
                comment: "the first".into(),
                based_on: 0,
            };
            self.enter(Command::Config(propose));
            let (_, findings) = vedette_core::document::read(text, &self.reference);
            if let Some(error) = findings.iter().find(|finding| finding.error) {
                self.fail(format!("there are no groups, as the document is refused: {error}"));
            }
        }
        if setup.document.is_some() && !setup.places.is_empty() {
            self.enter(site_rules());
        }
        let committed = self.log.committed();
        self.log.stored.fill(committed);
    }

    /// A rule of the site fires on a node.
    fn site_event(&mut self, node: usize, mood: Mood) {
        self.set_mood(node, mood);
        self.drawn += 1;
        let number = self.machines[node].number;
        let instance = format!("NodeNum={number};MountPoint=/{}", self.drawn);
        let trigger = vedette_core::trigger::Trigger::User {
            rule: SITE_RULE.into(),
            node: number,
            instance,
            value: "99".into(),
        };
        let queue = ManagerCommand::Queue { trigger, cause: "it is full".into() };
        let proposal = self.proposal(node, "agent", Command::Manager(queue));
        self.submit(node, proposal);
    }

    fn enter(&mut self, command: Command) {
        let proposal = self.proposal(0, "root@n1", command);
        self.append(proposal);
    }

    /// A proposal by a node, with its wall clock.
    pub(super) fn proposal(&mut self, node: usize, actor: &str, command: Command) -> Proposal {
        let wall = self.machines.get(node).map_or(0, |machine| machine.wall);
        let at = WallTime(EPOCH + self.now as i64 + wall);
        let origin = number_of(node);
        Proposal { id: self.draw(), at, origin, actor: actor.into(), command, tick: None }
    }

    pub(super) fn draw(&mut self) -> CommandId {
        self.drawn += 1;
        let mut id = [0xaa; 16];
        id[..8].copy_from_slice(&self.drawn.to_be_bytes());
        CommandId(id)
    }

    pub(super) fn schedule(&mut self, after: u64, event: Event) {
        self.scheduled += 1;
        let due = Due { at: self.now + after, number: self.scheduled, event };
        self.heap.push(Reverse(due));
    }

    /// Lets time pass until `until`.
    ///
    /// # Errors
    /// The first invariant that did not hold.
    pub fn run_until(&mut self, until: u64) -> Result<(), Violation> {
        while let Some(Reverse(due)) = self.heap.peek() {
            if due.at > until {
                break;
            }
            let Some(Reverse(due)) = self.heap.pop() else { break };
            self.busy = if due.at == self.now { self.busy + 1 } else { 0 };
            self.now = due.at;
            self.events += 1;
            if self.busy > BUSY {
                let what = format!("time stands still: {:?}", due.event);
                return Err(Violation { at: self.now, what });
            }
            self.step(due.event);
            if let Some(violation) = self.checks.violation.take() {
                return Err(violation);
            }
        }
        self.now = self.now.max(until);
        Ok(())
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Beat { to, network, beat } => self.beat_arrives(to, network, *beat),
            Event::GuardTimer { node } => self.guard_timer(node),
            Event::AgentStart { node } => self.start_agent(node),
            Event::Elections => self.elections(),
            Event::Trouble(trouble) => self.trouble(&trouble),
            Event::Operator { number, proposal } => self.operator(number, *proposal),
            Event::LeaseEnds { node } => self.lease_ends(node),
            Event::AgentWatches { node } => self.agent_watches(node),
            Event::AgentReleased { node, session } => self.agent_released(node, session),
            Event::Released { node, session } => self.released(node, session),
            Event::Reap { node } => self.reap(node),
            Event::Programs { node } => self.programs_end(node),
            Event::Ordered { node, session, order } => self.ordered(node, session, *order),
            Event::Operated { node, session, id } => self.operated(node, session, id),
            Event::TidyUp => self.tidy(),
            Event::Commit { by, term, proposal, tries } => {
                self.commit(by, term, *proposal, tries);
            }
            other => self.agent_event(other),
        }
    }

    /// An event for an agent; one that is stopped gets it when it goes on.
    fn agent_event(&mut self, event: Event) {
        let node = match &event {
            Event::DirectorTimer { node }
            | Event::Asked { node }
            | Event::AgentRound { node, .. }
            | Event::Apply { node, .. }
            | Event::Lost { node, .. }
            | Event::Deposed { node, .. }
            | Event::Work { node, .. }
            | Event::Act { node, .. }
            | Event::ActInTime { node, .. }
            | Event::Reported { node, .. }
            | Event::ScriptEnds { node, .. } => *node,
            Event::Report { to, .. } => *to,
            Event::SetVoters { by, .. } => *by,
            _ => return,
        };
        let Some(agent) = self.machines[node].agent.as_mut() else { return };
        if agent.paused {
            // Nothing of what its guard and its children say is lost.
            let kept = matches!(
                event,
                Event::Act { .. } | Event::ActInTime { .. } | Event::Reported { .. }
            );
            if kept || agent.inbox.len() < 256 {
                agent.inbox.push_back(event);
            }
            return;
        }
        match event {
            Event::DirectorTimer { node } => self.director_timer(node),
            Event::Report { to, from, report } => self.report_arrives(to, from, report),
            Event::Asked { node } => self.make_report(node),
            Event::AgentRound { node, session } => self.agent_round(node, session),
            Event::Apply { node, upto } => self.replicate(node, upto),
            Event::Lost { node, id } => self.proposal_lost(node, id),
            Event::Deposed { node, term } => self.told_deposed(node, term),
            Event::Work { node, session, job } => self.work(node, session, job),
            Event::Act { node, session, input } => self.act_now(node, session, *input),
            Event::ActInTime { node, session } => self.act_in_time(node, session),
            Event::Reported { node, session, report } => self.reads_report(node, session, report),
            Event::SetVoters { by, term, voters } => self.change_voters(by, term, &voters),
            Event::ScriptEnds { node, session, test, id } => {
                self.script_ends(node, session, test, id);
            }
            _ => {}
        }
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let now = self.now;
        if let Some(trace) = &mut self.trace {
            trace.push(format!("{:9.3} s  {}", now as f64 / 1e6, line()));
        }
    }

    pub(super) fn trouble(&mut self, trouble: &Trouble) {
        self.note(|| format!("fault: {trouble:?}"));
        if let Trouble::PauseGuard(node, false)
        | Trouble::PauseAgent(node, false)
        | Trouble::PauseAll(node, false)
        | Trouble::PauseReaper(node, false)
        | Trouble::PauseAllThree(node, false) = trouble
        {
            self.machines[*node].kernel.went_on = self.now;
        }
        match trouble {
            Trouble::PowerOff(node) => self.power_off(*node),
            Trouble::Tear(node, entries) => self.machines[*node].journal.tear(*entries),
            Trouble::PowerOn(node) => self.power_on(*node),
            Trouble::Blackout(dark) => {
                for node in 0..self.machines.len() {
                    if *dark { self.power_off(node) } else { self.power_on(node) }
                }
            }
            Trouble::KillAgent(node) => self.kill_agent(*node),
            Trouble::PauseGuard(node, paused) => self.pause_guard(*node, *paused),
            Trouble::PauseAgent(node, paused) => self.pause_agent(*node, *paused),
            Trouble::PauseAll(node, paused) => {
                self.pause_agent(*node, *paused);
                self.pause_guard(*node, *paused);
            }
            Trouble::KillGuard(node, both) => self.kill_guard(*node, *both),
            Trouble::Clumsy(node, clumsy) => self.machines[*node].works.clumsy = *clumsy,
            Trouble::ResourceFails(node) => self.resource_fails(*node),
            Trouble::Mood(node, mood) => self.set_mood(*node, *mood),
            Trouble::Broken(node, broken) => self.machines[*node].kernel.broken = *broken,
            Trouble::PauseReaper(node, paused) => self.pause_reaper(*node, *paused),
            Trouble::PauseAllThree(node, paused) => {
                self.pause_reaper(*node, *paused);
                self.pause_agent(*node, *paused);
                self.pause_guard(*node, *paused);
            }
            Trouble::SiteEvent(node, mood) => self.site_event(*node, *mood),
            Trouble::AbortSlow(node) => {
                if let Some(abort) = self.abort_slow(100) {
                    let proposal = self.proposal(*node, "root@n1", abort);
                    self.submit(*node, proposal);
                }
            }
            Trouble::ByHand(node, group) => self.start_by_hand(*node, group),
            Trouble::Wipe(node) => self.wipe(*node),
            Trouble::Leave(node) => self.leave(*node),
            Trouble::WallClock(node, by) => self.machines[*node].wall += by,
            Trouble::Replay(node) => self.replay(*node),
            Trouble::Voters(mask) => self.other_voters(*mask),
            Trouble::Node { node, network, out, into, fault } => {
                self.fault_node(*node, *network, (*out, *into), *fault);
            }
            Trouble::Network { network, fault } => {
                for from in 0..self.machines.len() {
                    for to in 0..self.machines.len() {
                        self.wires.set(self.now, from, to, *network, *fault);
                    }
                }
            }
            Trouble::Partition { mask, fault } => self.partition(*mask, *fault),
        }
    }

    fn fault_node(
        &mut self,
        node: usize,
        network: Option<usize>,
        (out, into): (bool, bool),
        fault: Fault,
    ) {
        let networks = network.map_or(0..self.wires.networks(), |only| only..only + 1);
        for network in networks {
            for other in (0..self.machines.len()).filter(|other| *other != node) {
                if out {
                    self.wires.set(self.now, node, other, network, fault);
                }
                if into {
                    self.wires.set(self.now, other, node, network, fault);
                }
            }
        }
    }

    fn partition(&mut self, mask: u64, fault: Fault) {
        let side = |node: usize| mask >> node & 1;
        for from in 0..self.machines.len() {
            for to in (0..self.machines.len()).filter(|to| side(*to) != side(from)) {
                for network in 0..self.wires.networks() {
                    self.wires.set(self.now, from, to, network, fault);
                }
            }
        }
    }

    /// Removes every fault: wires, stopped processes, machines that are off.
    pub(super) fn heal(&mut self) {
        self.wires.heal(self.now);
        for node in 0..self.machines.len() {
            self.pause_guard(node, false);
            self.pause_agent(node, false);
            self.power_on(node);
            self.pause_reaper(node, false);
            self.set_mood(node, Mood::default());
            self.machines[node].works.clumsy = false;
            self.machines[node].kernel.broken = Broken::default();
        }
        self.schedule(500 * MS, Event::TidyUp);
    }
}

pub(super) fn number_of(index: usize) -> NodeNumber {
    NodeNumber(index as u16 + 1)
}

pub(super) fn index_of(number: NodeNumber) -> usize {
    usize::from(number.0).saturating_sub(1)
}

pub(super) fn network_of(index: usize) -> NetworkNumber {
    NetworkNumber(index as u8 + 1)
}

/// One rule of the site, with a program of one command on every node.
fn site_rules() -> Command {
    let path = "/site/full.rp";
    let text = format!(
        "{SITE_RULE}\n0\n{path}\n2\n0\nfs.used_percent\nNodeNum=*;MountPoint=*\nX>90\nX<80\n"
    );
    let programs = [(path.to_owned(), format!("all \"{SITE}\" X NULL\n"))].into();
    Command::SaveRules { text, programs, comment: String::new(), based_on: 0 }
}

fn new_network(setup: &Setup, index: usize) -> NewNetwork {
    let ping = IpAddr::V4(Ipv4Addr::new(10, 0, index as u8 + 1, 254));
    NewNetwork {
        name: format!("net{}", (b'a' + index as u8) as char),
        priority: if setup.low == Some(index) { Priority::Low } else { Priority::High },
        beat_port: 7770,
        peer_port: 7771,
        ping: setup.ping.then_some(ping),
    }
}

pub(super) fn new_node(index: usize, networks: usize) -> NewNode {
    let address = |k: usize| IpAddr::V4(Ipv4Addr::new(10, 0, k as u8 + 1, index as u8 + 1));
    NewNode {
        number: number_of(index),
        name: format!("n{}", index + 1),
        storage: StorageId([index as u8 + 1; 16]),
        version: "0.1.0".into(),
        addresses: (0..networks).map(|k| (network_of(k), address(k))).collect(),
    }
}
