//! A seed becomes a cluster, a storm of faults, and the calm after it.

use std::collections::BTreeMap;

use vedette_core::command::{Command, GroupCommand, ManagerCommand, Scope};
use vedette_core::model::{Settings, Severity, Timing};
use vedette_core::trigger::StopMode;

use super::Bug;
use super::executors::LONG_TIMEOUT;
use super::kernel::{Broken, Monitor, Mood, Place, Stop};
use super::rng::Rng;
use super::wires::Fault;
use super::world::{Event, MS, Setup, Trouble, Violation, World, number_of};

/// When the storm begins, and how long it lasts at most.
const BEGIN: u64 = 2_500 * MS;
/// Within what time everything must be well after all faults are gone.
const BOUND: u64 = 12_000 * MS;

/// Timers that an operator may change to: each shorter than that of the default.
const BRISK: Timing = Timing {
    interval_ms: 150,
    raft_heartbeat_ms: 40,
    election_min_ms: 120,
    election_max_ms: 250,
    lease_ms: 500,
    release_max_ms: 250,
    ..Timing::DEFAULT
};

/// Timers with a lease that outlasts detection: a node may be DOWN and hold its lease still.
const LASTING: Timing = Timing { lease_ms: LONGEST_LEASE_MS, ..Timing::DEFAULT };

/// The number of an operator's command that is part of a trial.
const TRIAL: u64 = 1_000;

/// Groups, their resources, and what those are beside what the seed says.
const RESOURCES: [(&str, &str, &str); 4] = [
    ("web", "web-app", "application"),
    ("db", "db-disk", "file_system"),
    ("db", "db-app", "application"),
    ("batch", "batch-app", "application"),
];

/// The longest lease of all timers here.
pub(super) const LONGEST_LEASE_MS: u64 = 1_400;

/// What some runs amounted to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Runs.
    pub runs: u64,
    /// Virtual time in microseconds.
    pub virtual_us: u64,
    /// Events.
    pub events: u64,
    /// Entries of all logs.
    pub entries: u64,
    /// Records.
    pub records: u64,
    /// Elections.
    pub elections: u64,
    /// Faults.
    pub faults: u64,
    /// Lives that were there by an exception when another one began (see `twice`).
    pub excused: u64,
    /// Times that a reaper ended what guard and agent had not.
    pub reaped: u64,
    /// Stops after which something was not seen to be off.
    pub stuck: u64,
    /// Sightings of what ran where it should not.
    pub sighted: u64,
    /// Longest healing, in microseconds.
    pub longest_healing_us: u64,
    /// Runs by number of nodes.
    pub by_nodes: BTreeMap<usize, u64>,
}

impl Figures {
    /// Adds those of other runs.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.virtual_us += other.virtual_us;
        self.events += other.events;
        self.entries += other.entries;
        self.records += other.records;
        self.elections += other.elections;
        self.faults += other.faults;
        self.excused += other.excused;
        self.reaped += other.reaped;
        self.stuck += other.stuck;
        self.sighted += other.sighted;
        self.longest_healing_us = self.longest_healing_us.max(other.longest_healing_us);
        for (nodes, runs) in &other.by_nodes {
            *self.by_nodes.entry(*nodes).or_default() += runs;
        }
    }
}

/// Runs one seed: start, storm, healing.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run(seed: u64, bug: Option<Bug>) -> Result<Figures, Violation> {
    run_traced(seed, bug, &mut None)
}

/// Runs one seed and keeps what happened, line by line, if `trace` is there.
///
/// # Errors
/// The first invariant that did not hold.
pub fn run_traced(
    seed: u64,
    bug: Option<Bug>,
    trace: &mut Option<Vec<String>>,
) -> Result<Figures, Violation> {
    let mut rng = Rng::new(seed.wrapping_mul(0x9e37_79b9) ^ 0x0bad_cafe);
    let setup = setup(&mut rng, seed, bug);
    let mut world = World::new(&setup);
    world.trace = trace.is_some().then(Vec::new);
    let figures = play(&mut rng, &setup, &mut world);
    *trace = world.trace;
    figures
}

fn play(rng: &mut Rng, setup: &Setup, world: &mut World) -> Result<Figures, Violation> {
    for node in 0..setup.nodes {
        let after = rng.range(0, 300) * MS;
        world.schedule(after, Event::Trouble(Trouble::PowerOn(node)));
    }
    let span = rng.range(4_000, 9_000) * MS;
    let faults = storm(rng, world, setup, span);
    let calm = BEGIN + span;
    world.run_until(calm)?;
    world.heal();
    let healing = until_well(world, calm)?;
    Ok(Figures {
        runs: 1,
        virtual_us: world.now,
        events: world.events,
        entries: world.log.committed() as u64,
        records: world.reference.seq,
        elections: world.log.term,
        faults,
        excused: world.counts.excused,
        reaped: world.counts.reaped,
        stuck: world.counts.stuck,
        sighted: world.counts.sighted,
        longest_healing_us: healing,
        by_nodes: BTreeMap::from([(setup.nodes, 1)]),
    })
}

/// How many seeds it takes to find a mistake that was put in.
pub fn search(bug: Bug, most: u64) -> Option<(u64, Violation)> {
    (1..=most).find_map(|seed| run(seed, Some(bug)).err().map(|violation| (seed, violation)))
}

fn until_well(world: &mut World, calm: u64) -> Result<u64, Violation> {
    loop {
        world.run_until(world.now + 250 * MS)?;
        let Some(ailment) = world.ailment() else { return Ok(world.now - calm) };
        if world.now - calm > BOUND {
            let what = format!("not well within the bound after all faults are gone: {ailment}");
            return Err(Violation { at: world.now, what });
        }
    }
}

fn setup(rng: &mut Rng, seed: u64, bug: Option<Bug>) -> Setup {
    let nodes = match rng.range(0, 100) {
        0..60 => 3,
        60..72 => 4,
        72..90 => 5,
        90..94 => 6,
        94..97 => 7,
        _ => 8,
    };
    let networks = if rng.percent(10) { 3 } else { 2 };
    let places = places(rng);
    let settings = Settings {
        seed_count: rng.range(1, nodes as u64 + 1) as u16,
        voters: if rng.percent(30) { 5 } else { 3 },
        timing: if rng.percent(25) { LASTING } else { Timing::DEFAULT },
        ..Settings::default()
    };
    Setup {
        nodes,
        networks,
        low: rng.percent(25).then_some(networks - 1),
        seed,
        delay: (rng.range(50, 500), rng.range(1, 6_000)),
        settings,
        ping: false,
        document: rng.percent(85).then(|| document(rng, nodes, &places)),
        places,
        bug,
    }
}

/// Where the processes of resources live: mostly where they can be ended with the lease.
fn places(rng: &mut Rng) -> BTreeMap<String, Place> {
    let odd = rng.percent(60);
    let each = RESOURCES.iter().map(|(_, resource, _)| {
        let place = match rng.range(0, 100) {
            // A mount ends with no process.
            _ if resource.ends_with("disk") => Place::Data,
            0..30 if odd => Place::Outside,
            30..70 if odd => Place::Program,
            _ => Place::Inside,
        };
        ((*resource).to_owned(), place)
    });
    each.collect()
}

/// Puts faults, their ends, and what operators do into the world's future.
fn storm(rng: &mut Rng, world: &mut World, setup: &Setup, span: u64) -> u64 {
    let faults = rng.range(2, 8);
    for _ in 0..faults {
        // Who leaves in the storm is gone before the calm.
        let at = BEGIN + rng.range(0, span - 100 * MS);
        let lasts = if rng.percent(40) { rng.range(30, 900) } else { rng.range(900, 7_000) } * MS;
        let (begins, ends) = trouble(rng, setup);
        world.schedule(at, Event::Trouble(begins));
        for end in ends {
            world.schedule(at + lasts, Event::Trouble(end));
        }
    }
    let trials = trials(rng, world, setup, span);
    let asked = rng.range(0, 4);
    for number in 0..asked {
        let at = BEGIN + rng.range(0, span);
        operator(rng, world, number, at);
    }
    faults + trials + asked
}

/// What takes several things at once: a stop that does not work where a group is to leave, a death while a command of
/// the site does not end or a release is stuck, a node that is back while what it had does not start, a machine of which all three processes that let go are stopped.
fn trials(rng: &mut Rng, world: &mut World, setup: &Setup, span: u64) -> u64 {
    if setup.document.is_none() || !rng.percent(30) {
        return 0;
    }
    let at = BEGIN + rng.range(0, span / 2);
    let lasts = rng.range(2_000, 6_000) * MS;
    let node = rng.below(setup.nodes);
    let limit = LONG_TIMEOUT;
    let mut put = |after: u64, trouble| world.schedule(at + after, Event::Trouble(trouble));
    put(lasts, Trouble::Mood(node, Mood::default()));
    match rng.below(9) {
        0 => {
            let stop = if rng.percent(70) { Stop::Lies } else { Stop::Hangs };
            put(0, Trouble::Mood(node, Mood { stop, ..Mood::default() }));
            leaves(rng, world, node, at);
        }
        1 => {
            put(0, Trouble::Mood(node, Mood { stop: Stop::Lies, ..Mood::default() }));
            let other = (node + 1) % setup.nodes;
            put(1_500 * MS, Trouble::PowerOff(other));
            put(lasts.max(4_500 * MS), Trouble::PowerOn(other));
            leaves(rng, world, node, at);
        }
        2 | 3 => {
            let hangs = Mood { limit, spares: spared(rng), ..Mood::default() };
            let hangs = match rng.percent(50) {
                true => Mood { stop: Stop::Hangs, ..hangs },
                false => Mood { start_hangs: true, ..hangs },
            };
            // What leaves one node is started on another: programs hang on two of three.
            let next = (node + 2) % setup.nodes;
            for node in [node, next] {
                put(0, Trouble::Mood(node, hangs));
            }
            put(lasts + 1_000 * MS, Trouble::Mood(next, Mood::default()));
            let other = (node + 1) % setup.nodes;
            if rng.percent(40) {
                put(rng.range(1_500, 4_000) * MS, Trouble::AbortSlow(node));
            }
            let after = rng.range(200, 2_500) * MS;
            put(after, Trouble::PowerOff(other));
            put(lasts.max(4_500 * MS), Trouble::PowerOn(other));
            leaves(rng, world, node, at);
        }
        4 => {
            put(0, Trouble::SiteEvent(node, Mood { site_hangs: true, ..Mood::default() }));
            let other = (node + 1) % setup.nodes;
            put(300 * MS, Trouble::PowerOff(other));
            put(lasts.max(4_500 * MS), Trouble::PowerOn(other));
        }
        5 => {
            // Several groups leave at once, and one of them does not stop.
            let hangs = Mood { stop: Stop::Hangs, limit, spares: spared(rng), ..Mood::default() };
            put(0, Trouble::Mood(node, hangs));
            let nodes = vec![number_of(node)];
            let stop = ManagerCommand::Stop { nodes, how: StopMode::Takeover };
            orders(world, Command::Manager(stop), at);
        }
        6 => {
            // A node dies and is back soon, while others start what it had and that takes long.
            for other in (0..setup.nodes).filter(|other| *other != node) {
                let hangs = Mood { start_hangs: true, limit, ..Mood::default() };
                put(0, Trouble::Mood(other, hangs));
                put(lasts, Trouble::Mood(other, Mood::default()));
            }
            put(200 * MS, Trouble::PowerOff(node));
            put(rng.range(1_700, 3_000) * MS, Trouble::PowerOn(node));
        }
        _ if rng.percent(40) => {
            put(0, Trouble::PauseAllThree(node, true));
            put(lasts, Trouble::PauseAllThree(node, false));
        }
        _ => {
            put(0, Trouble::PauseAll(node, true));
            put(lasts, Trouble::PauseAll(node, false));
        }
    }
    1
}

/// An operator moves one of the groups that a node has then, or stops its manager.
fn leaves(rng: &mut Rng, world: &mut World, node: usize, at: u64) {
    let group = ["web", "db"][rng.below(2)].to_owned();
    let command = if rng.percent(60) {
        Command::Group(GroupCommand::Move { group, to: None, until: None })
    } else {
        let nodes = vec![number_of(node)];
        Command::Manager(ManagerCommand::Stop { nodes, how: StopMode::Takeover })
    };
    orders(world, command, at);
}

/// An operator's order in a trial.
fn orders(world: &mut World, command: Command, at: u64) {
    let number = TRIAL;
    let proposal = world.proposal(0, "root@n1", command);
    world.checks.expect_operator(proposal.id, number);
    world.schedule(at + 200 * MS, Event::Operator { number, proposal: Box::new(proposal) });
}

fn operator(rng: &mut Rng, world: &mut World, number: u64, at: u64) {
    let command = if rng.percent(50) {
        order(rng, world.machines.len())
    } else if rng.percent(70) {
        let message = format!("test {number}");
        Command::TestAlert { members: Vec::new(), severity: Severity::Error, message }
    } else {
        Command::SetLoggingLevel(Severity::ALL[rng.below(4)])
    };
    let proposal = world.proposal(0, "root@n1", command);
    world.checks.expect_operator(proposal.id, number);
    world.schedule(at, Event::Operator { number, proposal: Box::new(proposal) });
}

/// What an operator may want of events and groups, sensible or not.
fn order(rng: &mut Rng, nodes: usize) -> Command {
    let node = number_of(rng.below(nodes));
    let group = || ["web", "db", "batch"][0..3].to_vec();
    let group = group()[rng.below(3)].to_owned();
    match rng.below(13) {
        0 | 1 => Command::Group(GroupCommand::Move {
            group,
            to: rng.percent(60).then_some(node),
            until: None,
        }),
        2 => Command::Group(GroupCommand::Offline { group }),
        3 => Command::Group(GroupCommand::Online { group }),
        4 | 5 => {
            let how = StopMode::ALL[rng.below(StopMode::ALL.len())];
            let nodes = if rng.percent(80) { vec![node] } else { Vec::new() };
            Command::Manager(ManagerCommand::Stop { nodes, how })
        }
        6 => Command::Manager(ManagerCommand::Start { nodes: vec![node] }),
        7 => Command::SetTiming([BRISK, BRISK, LASTING, Timing::DEFAULT][rng.below(4)]),
        8..11 => {
            let scope = match rng.below(4) {
                0 => Scope::Cluster,
                1 => Scope::Group(group),
                _ => Scope::Node(node),
            };
            Command::Manager(ManagerCommand::Maintenance { scope, on: rng.percent(75) })
        }
        11 => Command::Group(GroupCommand::ConfirmOff { node }),
        _ => Command::Group(GroupCommand::Clear { group, node: None }),
    }
}

fn trouble(rng: &mut Rng, setup: &Setup) -> (Trouble, Vec<Trouble>) {
    let node = rng.below(setup.nodes);
    let network = rng.below(setup.networks);
    let fine = Fault::default();
    match rng.range(0, 122) {
        0 => (Trouble::Blackout(true), vec![Trouble::Blackout(false)]),
        1..14 => {
            let torn = Trouble::Tear(node, rng.below(12).saturating_sub(8));
            (Trouble::PowerOff(node), vec![torn, Trouble::PowerOn(node)])
        }
        14..18 => (Trouble::Leave(node), vec![Trouble::PowerOn(node)]),
        18..24 => (Trouble::KillAgent(node), Vec::new()),
        24..27 => (Trouble::KillGuard(node, rng.percent(50)), vec![Trouble::PowerOn(node)]),
        27..30 => (Trouble::ResourceFails(node), Vec::new()),
        30..38 => (Trouble::PauseGuard(node, true), vec![Trouble::PauseGuard(node, false)]),
        38..42 => (Trouble::PauseAgent(node, true), vec![Trouble::PauseAgent(node, false)]),
        42..45 => (Trouble::PauseAll(node, true), vec![Trouble::PauseAll(node, false)]),
        100..102 => (Trouble::PauseReaper(node, true), vec![Trouble::PauseReaper(node, false)]),
        102 => (Trouble::PauseAllThree(node, true), vec![Trouble::PauseAllThree(node, false)]),
        103..109 => (Trouble::Mood(node, mood(rng)), vec![Trouble::Mood(node, Mood::default())]),
        109..113 => (Trouble::ByHand(node, ["web", "db"][rng.below(2)]), Vec::new()),
        113..116 => {
            let hangs = Mood { site_hangs: true, ..Mood::default() };
            let begins = Trouble::SiteEvent(node, hangs);
            (begins, vec![Trouble::Mood(node, Mood::default())])
        }
        116..122 => {
            let broken = [(true, false, false), (false, true, false), (false, false, true)];
            let (disk, gate, release) = broken[rng.below(3)];
            let begins = Trouble::Broken(node, Broken { disk, gate, release });
            (begins, vec![Trouble::Broken(node, Broken::default())])
        }
        45 => (Trouble::Clumsy(node, true), vec![Trouble::Clumsy(node, false)]),
        46..49 => (Trouble::Wipe(node), vec![Trouble::PowerOn(node)]),
        49..52 => {
            let by = rng.range(0, 7_200_000_000) as i64 - 3_600_000_000;
            (Trouble::WallClock(node, by), Vec::new())
        }
        // Heard by all, hearing nobody.
        52..55 => {
            let part = |cut| {
                let fault = Fault { cut, ..fine };
                Trouble::Node { node, network: None, out: false, into: true, fault }
            };
            (part(true), vec![part(false)])
        }
        55..64 => {
            let only = rng.percent(60).then_some(network);
            let (out, into) = [(true, true), (true, false), (false, true)][rng.below(3)];
            let part = |fault| Trouble::Node { node, network: only, out, into, fault };
            (part(wire_fault(rng)), vec![part(fine)])
        }
        64..74 => {
            let fault = wire_fault(rng);
            (Trouble::Network { network, fault }, vec![Trouble::Network { network, fault: fine }])
        }
        74..86 => {
            let mask = rng.next();
            let part = |fault| Trouble::Partition { mask, fault };
            (part(Fault { cut: true, ..fine }), vec![part(fine)])
        }
        86..93 => {
            // Dead, and somebody plays back what it once said.
            let back = vec![Trouble::PowerOn(node)];
            (Trouble::PowerOff(node), [vec![Trouble::Replay(node)], back].concat())
        }
        93..97 => (Trouble::Voters(rng.next()), Vec::new()),
        _ => (Trouble::Replay(node), Vec::new()),
    }
}

/// How programs of resources misbehave.
fn mood(rng: &mut Rng) -> Mood {
    let stop = [Stop::Lies, Stop::Lies, Stop::Hangs, Stop::Works][rng.below(4)];
    let monitor =
        [Monitor::Honest, Monitor::Honest, Monitor::SaysOn, Monitor::SaysOff, Monitor::Hangs];
    let monitor = monitor[rng.below(5)];
    let limit = if rng.percent(50) { LONG_TIMEOUT } else { 0 };
    let start_hangs = rng.percent(20);
    let program_fails = rng.percent(50);
    let spares = spared(rng);
    Mood { stop, monitor, program_fails, start_hangs, spares, limit, site_hangs: false }
}

/// The group whose programs end well where others hang, if there is one.
fn spared(rng: &mut Rng) -> Option<&'static str> {
    [Some("web"), Some("web"), Some("db"), None][rng.below(4)]
}

fn wire_fault(rng: &mut Rng) -> Fault {
    let fine = Fault::default();
    match rng.range(0, 10) {
        0..6 => Fault { cut: true, ..fine },
        6 | 7 => Fault { loss: rng.range(5, 60) as u8, ..fine },
        8 => Fault { loss: rng.range(2, 20) as u8, burst: rng.range(2, 12) as u8, ..fine },
        _ => Fault { slow: rng.range(1, 400) * MS, ..fine },
    }
}

/// Three groups, one of each policy, on nodes in some order.
fn document(rng: &mut Rng, nodes: usize, places: &BTreeMap<String, Place>) -> String {
    let strict = rng.percent(45);
    let mut text = format!("[manager]\nprobe_interval = \"1s\"\nstrict = {strict}\n");
    let disks = rng.percent(20);
    for (name, policy) in [("web", "cascading"), ("db", "rotating"), ("batch", "concurrent")] {
        let mut order: Vec<usize> = (1..=nodes).collect();
        for place in (1..nodes).rev() {
            order.swap(place, rng.below(place + 1));
        }
        let names: Vec<String> = order.iter().map(|node| format!("\"n{node}\"")).collect();
        let multiple = ["stop_extra", "stop_extra", "block", "stop_all"][rng.below(4)];
        text +=
            &format!("[groups.{name}]\npolicy = \"{policy}\"\nnodes = [{}]\n", names.join(", "));
        if policy != "concurrent" {
            text += &format!("multiple_active = \"{multiple}\"\n");
        }
        let own = RESOURCES
            .iter()
            .filter(|(group, _, kind)| *group == name && (disks || *kind == "application"));
        for (_, resource, kind) in own {
            text += &format!("[[groups.{name}.resources]]\nname = \"{resource}\"\n");
            text += &resource_text(kind, places.get(*resource).copied().unwrap_or_default());
        }
    }
    text
}

fn resource_text(kind: &str, place: Place) -> String {
    if kind == "file_system" {
        let mount = "device = \"/dev/sda1\"\nmount_point = \"/srv/db\"\nfs_type = \"ext4\"\n";
        return format!("kind = \"file_system\"\n{mount}");
    }
    let mut text = String::from("kind = \"application\"\nstart = [\"/bin/true\"]\n");
    text += "stop = [\"/bin/true\"]\nmonitor = [\"/bin/true\"]\n";
    if place == Place::Program {
        text += "release = [\"/bin/true\"]\nrelease_max = \"1s\"\n";
    }
    text
}
