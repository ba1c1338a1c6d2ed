//! A small network in virtual time: several machines, each with a clock of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::super::*;

const MILLI: Duration = Duration::from_millis(1);
/// When the world begins, in microseconds since 1970.
const WALL: u64 = 1_800_000_000_000_000;

/// Nodes are numbered from 1; so are networks.
pub(super) struct World {
    pub(super) nodes: BTreeMap<u16, Topology>,
    /// What each node reported, with the time on the world's clock.
    pub(super) reports: BTreeMap<u16, Vec<(Instant, Report)>>,
    /// Beats sent, by node.
    pub(super) sent: BTreeMap<u16, u64>,
    /// Cut paths: from, to, network.
    pub(super) cut: BTreeSet<(u16, u16, u8)>,
    /// Paths on which long beats are lost, likewise.
    pub(super) narrow: BTreeSet<(u16, u16, u8)>,
    /// Loss in percent, by network.
    pub(super) loss: BTreeMap<u8, u64>,
    /// How far the wall clock of a node is ahead of the world's, in microseconds; the others know none.
    pub(super) wall: BTreeMap<u16, i64>,
    /// How long packets take from one node to another: so many milliseconds, and up to so many more.
    pub(super) slow: BTreeMap<(u16, u16), (u32, u32)>,
    /// Nodes that do nothing until then; their packets wait.
    pub(super) paused: BTreeMap<u16, Instant>,
    /// A beat as it was on the wire, for whoever wants to repeat it.
    pub(super) captured: Vec<Beat>,
    now: Instant,
    flight: BTreeMap<(Instant, u64), Beat>,
    packets: u64,
    dice: u64,
    configs: BTreeMap<u16, Config>,
}

pub(super) fn config(me: u16, nodes: u16, priorities: &[Priority]) -> Config {
    let networks: Vec<_> = (1..).map(NetworkNumber).zip(priorities.iter().copied()).collect();
    let peer = |n| Peer {
        number: NodeNumber(n),
        storage: StorageId([n as u8; 16]),
        live: true,
        networks: networks.iter().map(|(number, _)| *number).collect(),
    };
    let peers = (1..=nodes).filter(|n| *n != me).map(peer).collect();
    let session = Session(1_000 + u64::from(me));
    // Voters are watched by everybody, which rings are not about.
    let voters = if nodes > 8 { 0 } else { nodes.min(3) };
    let voters = (1..=voters).map(NodeNumber).collect();
    let (voters_since, timing) = (1, Timing::DEFAULT);
    Config { me: NodeNumber(me), session, timing, networks, peers, voters, voters_since }
}

const fn agent(
    status: AgentStatus,
    director: Option<Confirmation>,
    position: u64,
    log_stalled: bool,
) -> Input {
    Input::Agent { status, director, continuity: true, position, log_stalled }
}

impl World {
    pub(super) fn new(nodes: u16, priorities: &[Priority]) -> Self {
        let mut world = Self {
            nodes: BTreeMap::new(),
            reports: BTreeMap::new(),
            sent: BTreeMap::new(),
            cut: BTreeSet::new(),
            narrow: BTreeSet::new(),
            loss: BTreeMap::new(),
            wall: BTreeMap::new(),
            slow: BTreeMap::new(),
            paused: BTreeMap::new(),
            captured: Vec::new(),
            now: Instant::from_millis(10),
            flight: BTreeMap::new(),
            packets: 0,
            dice: 0x9e37_79b9_7f4a_7c15,
            configs: BTreeMap::new(),
        };
        for me in 1..=nodes {
            world.start(config(me, nodes, priorities));
        }
        world
    }

    /// Starts, or starts again, a node.
    pub(super) fn start(&mut self, config: Config) {
        let me = config.me.0;
        self.configs.insert(me, config.clone());
        self.nodes.insert(me, Topology::new(config, self.clock(me)));
    }

    pub(super) fn stop(&mut self, node: u16) {
        self.nodes.remove(&node);
    }

    pub(super) fn config(&self, node: u16) -> Config {
        self.configs[&node].clone()
    }

    /// Node `n`'s clock is `n` hours ahead.
    pub(super) fn clock(&self, node: u16) -> Instant {
        self.now + Duration::from_secs(3600 * u64::from(node))
    }

    pub(super) fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn input(&mut self, node: u16, input: Input) {
        self.step(node, |topology, now, out| topology.handle(now, input, out));
    }

    pub(super) fn reconfigure(&mut self, node: u16, config: Config) {
        self.configs.insert(node, config.clone());
        self.step(node, |topology, now, out| topology.reconfigure(now, config, out));
    }

    pub(super) fn say(&mut self, node: u16, status: AgentStatus, director: Option<u64>) {
        let at = self.clock(node);
        let director = director.map(|term| Confirmation { term, at });
        self.input(node, agent(status, director, 0, false));
    }

    /// What a running agent says of its log.
    pub(super) fn say_log(&mut self, node: u16, position: u64, log_stalled: bool) {
        self.input(node, agent(AgentStatus::Running, None, position, log_stalled));
    }

    fn step(&mut self, node: u16, act: impl FnOnce(&mut Topology, Instant, &mut Vec<Output>)) {
        let clock = self.clock(node);
        let Some(topology) = self.nodes.get_mut(&node) else { return };
        let mut out = Vec::new();
        if let Some(ahead) = self.wall.get(&node) {
            let wall_us = (WALL + self.now.as_micros()).saturating_add_signed(*ahead);
            topology.handle(clock, Input::Clock { wall_us }, &mut out);
        }
        act(topology, clock, &mut out);
        for output in out {
            match output {
                Output::Send(beat) => self.send(beat),
                Output::SendLong(beat) => {
                    let way = (beat.source.0, beat.destination.0, beat.network.0);
                    let awake = self.paused.get(&way.1).is_none_or(|until| *until <= self.now);
                    if awake && !self.narrow.contains(&way) && !self.cut.contains(&way) {
                        self.input(beat.destination.0, Input::Long(beat.network, beat));
                    }
                }
                Output::ReportNow => {
                    let report = self.nodes.get_mut(&node).map(|t| t.report(clock));
                    self.reports.entry(node).or_default().extend(report.map(|r| (self.now, r)));
                }
            }
        }
    }

    fn send(&mut self, beat: Beat) {
        *self.sent.entry(beat.source.0).or_default() += 1;
        self.captured.push(beat);
        // xorshift: the same dice for every run.
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        let lost = self.dice % 100 < self.loss.get(&beat.network.0).copied().unwrap_or(0);
        if !lost && !self.cut.contains(&(beat.source.0, beat.destination.0, beat.network.0)) {
            self.packets += 1;
            let (least, more) = self.slow_path(&beat);
            let takes = MILLI * (least + (self.dice >> 32) as u32 % (more + 1));
            self.flight.insert((self.now + takes, self.packets), beat);
        }
    }

    fn slow_path(&self, beat: &Beat) -> (u32, u32) {
        let path = (beat.source.0, beat.destination.0);
        self.slow.get(&path).copied().unwrap_or((1, 0))
    }

    /// Lets `time` pass, event by event.
    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let packet = self.flight.keys().next().copied();
            let awake = self.nodes.iter().filter_map(|(n, t)| Some((self.due(*n, t)?, *n))).min();
            let next = packet.map(|p| p.0).into_iter().chain(awake.map(|a| a.0)).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            match (packet, awake) {
                (Some(key), _) if key.0 == next => self.deliver(key),
                (_, Some((_, node))) => self.step(node, |t, now, out| t.on_timeout(now, out)),
                _ => break,
            }
        }
        self.now = end;
    }

    /// When a node wants to act, on the world's clock.
    fn due(&self, node: u16, topology: &Topology) -> Option<Instant> {
        let ahead = Duration::from_secs(3600 * u64::from(node));
        let due = Instant::from(topology.deadline()?.since(Instant::ZERO + ahead));
        Some(due.max(self.paused.get(&node).copied().unwrap_or_default()))
    }

    fn deliver(&mut self, key: (Instant, u64)) {
        let Some(beat) = self.flight.remove(&key) else { return };
        let to = beat.destination.0;
        match self.paused.get(&to) {
            Some(until) if *until > self.now => {
                self.flight.insert((*until, key.1), beat);
            }
            _ => self.input(to, Input::Beat(beat.network, beat)),
        }
    }

    pub(super) fn pause(&mut self, node: u16, time: Duration) {
        self.paused.insert(node, self.now + time);
    }

    /// Cuts both directions between two nodes on a network.
    pub(super) fn cut_both(&mut self, one: u16, other: u16, network: u8) {
        self.cut.extend([(one, other, network), (other, one, network)]);
    }

    pub(super) fn report(&mut self, node: u16) -> Report {
        let clock = self.clock(node);
        self.nodes.get_mut(&node).expect("a running node").report(clock)
    }

    /// `inbound`, `outbound` of a link; `None` if the report does not speak of it.
    pub(super) fn link(&mut self, me: u16, peer: u16, network: u8) -> Option<(bool, bool)> {
        let (peer, network) = (NodeNumber(peer), NetworkNumber(network));
        let links = self.report(me).links;
        links
            .iter()
            .find(|l| l.peer == peer && l.network == network)
            .map(|l| (l.inbound, l.outbound))
    }

    pub(super) fn peer(&mut self, me: u16, peer: u16) -> Option<PeerView> {
        self.report(me).peers.into_iter().find(|p| p.peer == NodeNumber(peer))
    }

    /// Every report a node made since, with its time.
    pub(super) fn reports_since(&self, node: u16, since: Instant) -> Vec<(Instant, Report)> {
        let all = self.reports.get(&node).cloned().unwrap_or_default();
        all.into_iter().filter(|(at, _)| *at >= since).collect()
    }

    pub(super) fn rejected(&self, node: u16, kind: Reject) -> u64 {
        self.nodes[&node].rejected().of(kind)
    }
}
