//! What the director does for the manager, in virtual time: when it votes, evicts, fences, gives up.
//!
//! A [`World`] is one director with its guard and another voter: the guards report every beat what they heard, every
//! proposal is answered at once, and nothing changes the state but the test.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::command::{Command, ConfigCommand, GroupCommand, ManagerCommand};
use crate::definition::{DocumentVersion, FenceDef, ManagerOptions, PendingDocument};
use crate::director::{Director, Input, Output};
use crate::event::{Event, Fencing, ManagerState, Member, Running, Stage};
use crate::fixture::Fixture;
use crate::group::{Group, GroupState, Instance};
use crate::id::{NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus, Timing};
use crate::observation::{LinkView, PeerView, Report};
use crate::plan::Plan;
use crate::rules::Program;
use crate::state::{ClusterState, Outcome};
use crate::takeover::{Backing, LetGo, Remains, let_go_after};
use crate::time::{Instant, WallTime};
use crate::trigger::Trigger;

mod faults;
mod silence;

const ME: NodeNumber = NodeNumber(1);
const OTHER: NodeNumber = NodeNumber(2);
const DEAD: NodeNumber = NodeNumber(3);

/// Silence that suffices with the usual timers.
const ENOUGH: u64 = 1_109;

/// A director, its guard and its clock in milliseconds.
struct World {
    director: Director,
    state: ClusterState,
    now: u64,
    term: u64,
    sequence: u64,
    /// When the guard heard each node last; nodes that it never heard are not in its report.
    heard: BTreeMap<NodeNumber, u64>,
    /// When the other voter heard DEAD last, where that was another time, and how late its reports arrive.
    other_heard: Option<u64>,
    other_late: u64,
    /// Whether the guard doubts itself, and whether its reports arrive.
    suspect: bool,
    /// The epoch in the beats of DEAD; what it holds is of the first.
    epoch: u64,
    /// Groups that are not over by that.
    remains: Remains,
    reports: bool,
    answers: bool,
    /// What was proposed on entering office.
    first: Vec<(u64, Command)>,
}

/// Three nodes; a group is on n3, whose kernel stands behind its release, and n3 is DOWN.
fn takeover() -> ClusterState {
    let mut state = Fixture::settled(3).state;
    state.manager = Default::default();
    state.alerts.clear();
    let voters = state.voter_set().since;
    for node in state.nodes.keys() {
        state.manager.members.insert(*node, Member { voters, ..member() });
    }
    hold(&mut state, DEAD, GroupState::Online);
    set_host(&mut state, DEAD, HostStatus::Down);
    state
}

fn member() -> Member {
    Member {
        state: ManagerState::Stable,
        since: WallTime::default(),
        joined: true,
        joined_at: Default::default(),
        joined_ms: 0,
        stopped: None,
        maintenance: false,
        absent: false,
        backing: Backing::Kernel,
        watchdog: None,
        reaper: None,
        unreleased: Default::default(),
        session: Session(1),
        epoch: 1,
        voters: 0,
        timing: None,
        log: Timing::DEFAULT.log(),
    }
}

fn hold(state: &mut ClusterState, node: NodeNumber, how: GroupState) {
    let (since, resources) = (WallTime::default(), BTreeMap::new());
    let mut group = Group::default();
    group
        .instances
        .insert(node, Instance { state: how, token: 1, since, resources, uncovered: None });
    state.groups.insert(format!("group{node}"), group);
}

fn set_host(state: &mut ClusterState, node: NodeNumber, host: HostStatus) {
    if let Some(node) = state.nodes.get_mut(&node) {
        node.host = host;
    }
}

fn fence_agent(state: &mut ClusterState, node: NodeNumber) {
    let def = FenceDef {
        agent: "fence_test".into(),
        options: BTreeMap::new(),
        action: "off".into(),
        timeout_ms: 20_000,
    };
    state.definition.fencing.insert(node, def);
}

fn backing(state: &mut ClusterState, node: NodeNumber, backing: Backing) {
    if let Some(member) = state.manager.members.get_mut(&node) {
        member.backing = backing;
    }
}

/// A report of a guard, in milliseconds of the director's clock.
fn guard_report(observer: NodeNumber, sequence: u64, now: u64) -> Report {
    Report {
        observer,
        session: Session(u64::from(observer.0)),
        sequence,
        self_suspect: false,
        made_us: now * 1_000,
        lease: true,
        voters: 0,
        timing: None,
        directed: true,
        epoch: 1,
        released: false,
        continuity: true,
        agent: AgentStatus::Running,
        position: 0,
        peers: Vec::new(),
        links: Vec::new(),
        interfaces: Vec::new(),
    }
}

fn link(peer: NodeNumber, silent: u64) -> LinkView {
    let up = silent < 1_000;
    LinkView {
        peer,
        network: NetworkNumber(1),
        inbound: up,
        outbound: up,
        silent: Some(Duration::from_millis(silent)),
        rtt_us: None,
        lost: 0,
        received: 1,
        narrow: false,
    }
}

/// In office since 0 ms, n3 not heard since `heard` (which may lie before the election).
fn world(state: ClusterState) -> World {
    let mut world = World {
        director: Director::new(Arc::new(state.clone())),
        state,
        now: 10_000,
        term: 1,
        sequence: 0,
        heard: BTreeMap::from([(OTHER, 10_000), (DEAD, 10_000)]),
        other_heard: None,
        other_late: 0,
        suspect: false,
        epoch: 1,
        remains: Remains::default(),
        reports: true,
        answers: true,
        first: Vec::new(),
    };
    world.report();
    world.elect();
    world
}

impl World {
    fn elect(&mut self) {
        let (term, me, session) = (self.term, ME, Session(70));
        self.term += 1;
        let first = self.tell(Input::Elected { term, me, session, own_continuity: true });
        self.first.extend(first.into_iter().map(|command| (self.now, command)));
    }

    /// Both voters report.
    fn report(&mut self) -> Vec<Command> {
        self.sequence += 1;
        let (now, late) = (self.now, self.other_late);
        let mut own = guard_report(ME, self.sequence, now);
        own.self_suspect = self.suspect;
        own.links = self.heard.iter().map(|(peer, at)| link(*peer, now - at)).collect();
        own.peers = self.heard.get(&DEAD).map(|at| self.said(now - at)).into_iter().collect();
        let mut other = guard_report(OTHER, self.sequence, now - late);
        let heard = self.other_heard.or_else(|| self.heard.get(&DEAD).copied());
        let silent = heard.map(|at| (now - late).saturating_sub(at));
        other.peers = silent.map(|silent| self.said(silent)).into_iter().collect();
        let sent_us = (now - late) * 1_000;
        other.peers.push(PeerView { session: Some(own.session), sent_us, ..PeerView::unheard(ME) });
        let mut commands = self.tell(Input::Report(Arc::new(own)));
        commands.extend(self.tell(Input::Report(Arc::new(other))));
        commands
    }

    /// What a guard heard DEAD say of itself, so many milliseconds ago.
    fn said(&self, silent: u64) -> PeerView {
        let (session, silent_us) = (Some(Session(3)), silent * 1_000);
        let (epoch, remains) = (self.epoch, self.remains);
        PeerView { session, epoch, remains, silent_us, ..PeerView::unheard(DEAD) }
    }

    /// Tells the director something, and answers what it proposes about managers and groups.
    fn tell(&mut self, input: Input) -> Vec<Command> {
        let mut out = Vec::new();
        self.director.handle(Instant::from_millis(self.now), input, &mut out);
        self.answer(out)
    }

    fn answer(&mut self, out: Vec<Output>) -> Vec<Command> {
        let mut commands = Vec::new();
        for output in out {
            let Output::Propose { id, command } = output else { continue };
            let outcome = Outcome::Applied { index: 0 };
            let ours =
                matches!(command, Command::Manager(_) | Command::Group(_) | Command::Config(_));
            // What the director makes of the wiring is not the matter here: it gets no answer.
            if ours && self.answers || matches!(command, Command::Office { .. }) {
                let more = self.tell(Input::Proposed { id, outcome });
                commands.extend(more);
            }
            if ours {
                commands.push(command);
            }
        }
        commands
    }

    fn change(&mut self, with: impl FnOnce(&mut ClusterState)) -> Vec<Command> {
        with(&mut self.state);
        self.state.revision += 1;
        self.tell(Input::State(Arc::new(self.state.clone())))
    }

    /// Lets time pass until `until`; answers what was proposed, and when.
    fn run(&mut self, until: u64) -> Vec<(u64, Command)> {
        let mut all = std::mem::take(&mut self.first);
        while self.now < until {
            self.now += 1;
            let mut commands = Vec::new();
            if self.reports && self.now.is_multiple_of(200) {
                commands.extend(self.report());
            }
            let now = Instant::from_millis(self.now);
            if self.director.deadline().is_some_and(|at| at <= now) {
                let mut out = Vec::new();
                self.director.on_timeout(now, &mut out);
                commands.extend(self.answer(out));
            }
            all.extend(commands.into_iter().map(|command| (self.now, command)));
        }
        all
    }

    /// When the first eviction was proposed until then.
    fn evicted(&mut self, until: u64) -> Option<u64> {
        let proposed = self.run(until);
        let evict = |(_, command): &&(u64, Command)| {
            matches!(command, Command::Group(GroupCommand::Evict { .. }))
        };
        proposed.iter().find(evict).map(|(at, _)| *at)
    }
}

fn fences(proposed: &[(u64, Command)]) -> Vec<(u64, u16, u16)> {
    let fence = |(at, command): &(u64, Command)| match command {
        Command::Group(GroupCommand::Fence { node, by }) => Some((*at, node.0, by.0)),
        _ => None,
    };
    proposed.iter().filter_map(fence).collect()
}

fn waits(proposed: &[(u64, Command)]) -> Vec<String> {
    let why = |(_, command): &(u64, Command)| match command {
        Command::Group(GroupCommand::Waits { node: DEAD, why, .. }) => Some(why.clone()),
        _ => None,
    };
    proposed.iter().filter_map(why).collect()
}

/// A guard that presented slower timers is waited for by those, and one with faster ones by those of now, whoever is
/// director and however short a time.
#[test]
fn a_silent_node_is_waited_for_by_the_timers_that_it_presented() {
    let evicted = |lease_ms: Option<u64>| {
        let mut state = takeover();
        set_host(&mut state, DEAD, HostStatus::Down);
        backing(&mut state, DEAD, Backing::Kernel);
        let member = state.manager.members.get_mut(&DEAD).expect("it has joined");
        member.timing = lease_ms.map(|lease_ms| Timing { lease_ms, ..Timing::DEFAULT });
        world(state).evicted(20_000).expect("in the end")
    };
    let lease_ms = Timing::DEFAULT.lease_ms;
    let now = evicted(None);
    assert_eq!(evicted(Some(lease_ms / 2)), now);
    assert!(evicted(Some(lease_ms + 2_000)) >= now + 1_800);
}

/// A node that hears nobody, though it is heard, has let go when its beats are of a later epoch; not
/// before, and whatever stands behind its release.
#[test]
fn a_later_epoch_in_a_beat_is_evidence() {
    for (backed, epoch) in [(Backing::Kernel, 2), (Backing::None, 9)] {
        let mut state = takeover();
        set_host(&mut state, DEAD, HostStatus::Disconnected);
        backing(&mut state, DEAD, backed);
        let mut world = world(state);
        while world.now < 20_000 {
            world.heard.insert(DEAD, world.now);
            assert_eq!(world.evicted(world.now + 1), None, "it is heard, and of the same epoch");
        }
        world.epoch = epoch;
        let proposed = world.report();
        let evidence = LetGo::Epoch { epoch, remains: Remains::default() };
        let evict = Command::Group(GroupCommand::Evict { node: DEAD, evidence });
        assert!(proposed.contains(&evict), "{proposed:?}");
    }
}

/// A node that is heard and cannot be reached, and has not let go of everything: what is left is waited for, then asked
/// about, and never taken over.
#[test]
fn r7_what_remains_of_an_epoch_holds_up_its_own_group() {
    let mut state = takeover();
    set_host(&mut state, DEAD, HostStatus::Disconnected);
    let mut other = state.groups[&format!("group{DEAD}")].clone();
    let remains = Remains::default().with(other.number);
    other.number += 1;
    state.groups.insert("other".into(), other);
    let mut world = world(state);
    (world.epoch, world.remains) = (2, remains);
    let mut proposed = Vec::new();
    while world.now < 40_000 {
        world.heard.insert(DEAD, world.now);
        proposed.extend(world.run(world.now + 100));
    }
    let evidence = LetGo::Epoch { epoch: 2, remains };
    let evict = Command::Group(GroupCommand::Evict { node: DEAD, evidence });
    assert!(proposed.iter().any(|(_, command)| *command == evict), "the other one is over");
    let why = waits(&proposed);
    let what = format!("it says that it has not let go of group{DEAD} yet");
    assert!(why.len() == 1 && why[0].starts_with(&what), "{why:?}");
}

#[test]
fn who_demands_fencing_believes_no_epoch() {
    let mut state = takeover();
    state.definition.manager.fence_always = true;
    let mut world = world(state);
    world.epoch = 2;
    assert_eq!(world.evicted(20_000), None);
}

/// A report that is old proves nothing, however silent the node was in it.
#[test]
fn a_guard_that_does_not_report_is_no_evidence() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_600);
    assert_eq!(world.evicted(10_399), None);
    world.reports = false;
    assert_eq!(world.evicted(30_000), None);
}

/// After timers were made shorter, a node that lags behind still uses the longer ones.
#[test]
fn replaced_timers_count_for_a_while() {
    let mut world = world(takeover());
    world.change(|state| state.settings.timing = Timing::FAST);
    let mut at = None;
    while at.is_none() && world.now < 20_000 {
        at = world.evicted(world.now + 1);
        if world.now.is_multiple_of(20) {
            world.report();
        }
        world.heard.insert(DEAD, 10_000);
    }
    let at = at.expect("an eviction");
    assert!(at >= 10_000 + ENOUGH, "{at}");
}

/// UP and NETPAR nodes are alive; UNMANAGED knows no lease.
#[test]
fn only_what_has_a_lease_is_evicted_and_only_from_nodes_that_are_away() {
    for (host, how, expected) in [
        (HostStatus::Down, GroupState::Online, true),
        (HostStatus::Disconnected, GroupState::Online, true),
        (HostStatus::Down, GroupState::Error, true),
        (HostStatus::Down, GroupState::Unmanaged, false),
        (HostStatus::Netpar, GroupState::Online, false),
        (HostStatus::Unknown, GroupState::Online, false),
        (HostStatus::Up, GroupState::Online, false),
    ] {
        let mut state = takeover();
        set_host(&mut state, DEAD, host);
        hold(&mut state, DEAD, how);
        let mut world = world(state);
        world.heard.insert(DEAD, 9_000);
        assert_eq!(world.evicted(13_000).is_some(), expected, "{host} {how}");
    }
}

/// R8: what maintenance left running ends with no lease. While it lasts nobody asks; afterwards the node is
/// fenced, or an operator is told.
#[test]
fn what_no_lease_covers_needs_better_evidence() {
    let uncovered = |maintenance| {
        let mut state = takeover();
        for group in state.groups.values_mut() {
            group.instances.values_mut().for_each(|instance| instance.uncovered = Some(1));
        }
        state.manager.maintenance = maintenance;
        state
    };
    let run = |state: ClusterState, until| {
        let mut world = world(state);
        world.heard.insert(DEAD, 9_000);
        world.run(until)
    };
    assert_eq!(run(uncovered(true), 13_000), []);
    let said = run(uncovered(false), 13_000);
    assert!(waits(&said).len() == 1 && said.len() == 1, "no eviction: {said:?}");
    let mut with_agent = uncovered(false);
    fence_agent(&mut with_agent, DEAD);
    let said = run(with_agent, 10_100);
    assert!(matches!(fences(&said)[..], [(_, 3, 1)]), "{said:?}");
}

/// Nothing that is under way holds an eviction up.
#[test]
fn an_eviction_does_not_wait_for_other_proposals() {
    let mut state = takeover();
    queue(&mut state, 1, Trigger::NodeDown { node: DEAD, stop: None });
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    world.answers = false;
    let at = world.evicted(20_000).expect("an eviction");
    assert!(at < 10_000 + ENOUGH + 200, "{at}");
}

#[test]
fn an_eviction_that_changed_nothing_is_not_repeated_without_a_pause() {
    let mut world = world(takeover());
    world.heard.insert(DEAD, 9_000);
    let proposed = world.run(13_000);
    assert!((2..=16).contains(&proposed.len()), "{proposed:?}");
}

/// Without anything behind the guard's release the takeover waits, and that is said once.
#[test]
fn without_backing_and_fencing_the_takeover_waits() {
    let mut state = takeover();
    backing(&mut state, DEAD, Backing::None);
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    let proposed = world.run(20_000);
    let why = "nothing but its guard stands behind its release, and it cannot be fenced; once it is \
               certainly off: vedette node confirm-off n3";
    assert_eq!(waits(&proposed), [why]);
    assert_eq!(proposed.len(), 1, "{proposed:?}");
    let said = world.change(|state| {
        if let Some(node) = state.nodes.get_mut(&DEAD) {
            node.incident = Some(99);
        }
    });
    assert_eq!(said.len(), 1, "another incident: {said:?}");
}

/// A wish or a count that ends by itself does so where nothing else happens: the director brings the time along,
/// once it is due.
#[test]
fn an_entry_is_proposed_when_something_ends_by_itself() {
    let mut state = takeover();
    set_host(&mut state, DEAD, HostStatus::Up);
    let due = Command::Group(GroupCommand::Due);
    let mut world = world(state.clone());
    assert!(!world.run(20_000).iter().any(|(_, command)| *command == due));
    let group = state.groups.values_mut().next().unwrap();
    let end = crate::group::Until::At(state.timeline.wall().plus(Duration::from_secs(15)));
    (group.preferred, group.preferred_until) = (Some(DEAD), Some(end));
    // The state is known since the start of the process.
    let mut world = self::world(state);
    let mut proposed = Vec::new();
    for until in (10_500..=20_000).step_by(500) {
        proposed.extend(world.run(until));
        // The same state again, as when only what this node sees by itself has changed.
        world.tell(Input::State(Arc::new(world.state.clone())));
    }
    let first = proposed.iter().find(|(_, command)| *command == due).map(|(at, _)| *at);
    assert!(first.is_some_and(|at| (15_000..15_300).contains(&at)), "{proposed:?}");
}

#[test]
fn a_guard_may_be_trusted() {
    let mut state = takeover();
    backing(&mut state, DEAD, Backing::None);
    state.definition.manager = ManagerOptions { trust_guard: true, ..Default::default() };
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    assert!(world.evicted(13_000).is_some_and(|at| at >= 10_000));
}

/// Fencing is asked of the director; with a lease that suffices it is not asked for.
#[test]
fn a_node_is_fenced_where_its_lease_proves_nothing() {
    let mut state = takeover();
    fence_agent(&mut state, DEAD);
    let mut trusted = world(state.clone());
    trusted.heard.insert(DEAD, 9_000);
    assert_eq!(fences(&trusted.run(13_000)), []);

    backing(&mut state, DEAD, Backing::None);
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    let proposed = world.run(10_150);
    assert!(matches!(fences(&proposed)[..], [(_, 3, 1)]), "{proposed:?}");
    world.change(|state| asked(state, 1, ME, None));
    assert_eq!(world.run(10_150 + 49_000), [], "who was asked has time");
    let late = fences(&world.run(10_150 + 51_000));
    assert!(matches!(late[..], [(_, 3, 2), ..]), "then another is asked: {late:?}");
}

#[test]
fn fencing_may_be_demanded() {
    let mut state = takeover();
    state.definition.manager = ManagerOptions { fence_always: true, ..Default::default() };
    let mut without = world(state.clone());
    without.heard.insert(DEAD, 9_000);
    let said = without.run(14_000);
    assert_eq!((waits(&said).len(), said.len()), (1, 1), "{said:?}");

    fence_agent(&mut state, DEAD);
    let mut world = world(state);
    world.heard.insert(DEAD, 9_000);
    let proposed = world.run(10_100);
    assert!(matches!(fences(&proposed)[..], [(_, 3, 1)]), "{proposed:?}");
    assert_eq!(world.evicted(14_000), None, "the lease is not enough");
}

/// After a failure another node tries, later each time, and an operator is told.
#[test]
fn fencing_that_failed_is_tried_again_by_another() {
    let mut state = takeover();
    fence_agent(&mut state, DEAD);
    backing(&mut state, DEAD, Backing::None);
    asked(&mut state, 1, ME, Some("exit status 1"));
    let mut world = world(state);
    let proposed = world.run(16_000);
    let first = fences(&proposed);
    assert!(matches!(first[..], [(15_000..15_200, 3, 2), ..]), "{first:?}");
    assert_eq!(waits(&proposed).len(), 1);
    let now = world.now;
    world.change(|state| asked(state, 2, NodeNumber(2), Some("exit status 1")));
    let second = fences(&world.run(now + 11_000));
    assert!(matches!(second[..], [(at, 3, 1), ..] if at >= now + 10_000), "{second:?}");
}

fn asked(state: &mut ClusterState, attempt: u32, by: NodeNumber, failure: Option<&str>) {
    let (since, failure) = (WallTime::default(), failure.map(Into::into));
    state.manager.fencing.insert(DEAD, Fencing { by, attempt, since, failure });
}

#[test]
fn another_is_asked_at_once_if_the_caller_dies() {
    let mut state = takeover();
    fence_agent(&mut state, DEAD);
    backing(&mut state, DEAD, Backing::None);
    asked(&mut state, 1, NodeNumber(2), None);
    let mut world = world(state);
    assert_eq!(world.run(11_000), []);
    let proposed = world.change(|state| set_host(state, NodeNumber(2), HostStatus::Down));
    let by_me = Command::Group(GroupCommand::Fence { node: DEAD, by: ME });
    assert!(proposed.contains(&by_me), "{proposed:?}");
}

/// A node that is there and cannot release a group is fenced, if that is configured.
#[test]
fn a_node_that_cannot_release_is_fenced() {
    let mut state = takeover();
    set_host(&mut state, DEAD, HostStatus::Up);
    hold(&mut state, DEAD, GroupState::Error);
    let mut without = world(state.clone());
    assert_eq!(without.run(12_000), []);
    fence_agent(&mut state, DEAD);
    let mut world = world(state.clone());
    assert!(matches!(fences(&world.run(10_100))[..], [(_, 3, 1)]));
    state.manager.maintenance = true;
    let mut maintained = self::world(state);
    assert_eq!(maintained.run(12_000), [], "maintenance of the cluster");
}

/// DISCONNECTED: it is heard, so its lease may be held; after a while an operator is told.
#[test]
fn a_node_that_is_heard_though_not_reached_is_not_evicted() {
    let mut state = takeover();
    set_host(&mut state, DEAD, HostStatus::Disconnected);
    let mut world = world(state);
    let mut proposed = Vec::new();
    while world.now < 22_000 {
        world.heard.insert(DEAD, world.now);
        proposed.extend(world.run(world.now + 100));
    }
    assert_eq!((waits(&proposed).len(), proposed.len()), (1, 1), "{proposed:?}");
    assert!(proposed[0].0 >= 20_000, "{proposed:?}");
}

fn queue(state: &mut ClusterState, id: u64, trigger: Trigger) {
    let (at, cause) = (WallTime::default(), String::new());
    state.manager.last_event = id;
    state.manager.queue.push(Event { id, trigger, at, cause, incident: id, motive: None });
    state.manager.queue.sort_by_key(|event| event.trigger.rank());
}

fn votes(proposed: &[(u64, Command)]) -> Vec<(u64, u64)> {
    let vote = |(at, command): &(u64, Command)| match command {
        Command::Manager(ManagerCommand::BeginVote { event }) => Some((*at, *event)),
        _ => None,
    };
    proposed.iter().filter_map(vote).collect()
}

fn quiet() -> ClusterState {
    let mut state = takeover();
    state.groups.clear();
    state
}

/// H12: the vote begins when the queue has been quiet, with its first event.
#[test]
fn the_queue_settles_before_a_vote() {
    let mut world = world(quiet());
    assert_eq!(world.run(11_000), []);
    world.change(|state| queue(state, 1, Trigger::NetworkDown(NetworkNumber(1))));
    assert_eq!(votes(&world.run(11_030)), []);
    world.change(|state| queue(state, 2, Trigger::NodeUp(NodeNumber(2))));
    assert_eq!(votes(&world.run(11_079)), [], "the newest counts");
    assert_eq!(votes(&world.run(11_100)), [(11_080, 2)], "the first of the queue, on time");
}

#[test]
fn the_time_to_settle_can_be_configured() {
    let mut state = quiet();
    state.definition.manager.settle_ms = Some(2_000);
    let mut world = world(state);
    world.change(|state| queue(state, 1, Trigger::NodeUp(NodeNumber(2))));
    assert_eq!(votes(&world.run(11_999)), []);
    assert_eq!(votes(&world.run(12_100)), [(12_000, 1)]);
}

#[test]
fn there_is_no_vote_while_an_event_is_in_progress() {
    let mut state = quiet();
    state.manager.current = Some(running(Stage::Running));
    queue(&mut state, 8, Trigger::NodeUp(NodeNumber(2)));
    let mut world = world(state);
    assert_eq!(votes(&world.run(14_000)), []);
    world.change(|state| state.manager.current = None);
    assert_eq!(votes(&world.run(14_001)).len() + votes(&world.run(14_200)).len(), 1);
}

fn running(stage: Stage) -> Running {
    let mut state = ClusterState::default();
    queue(&mut state, 7, Trigger::NetworkDown(NetworkNumber(1)));
    let at = WallTime::default();
    Running {
        event: state.manager.queue.remove(0),
        stage,
        since: at,
        began: at,
        participants: BTreeSet::from([ME, NodeNumber(2)]),
        approvals: BTreeSet::from([ME]),
        silent: BTreeSet::new(),
        program: Program::default(),
        plan: Plan::default(),
        phase: 1,
        attempt: 0,
        outcomes: BTreeMap::new(),
        arrived: BTreeSet::from([ME]),
        failed: BTreeSet::new(),
        too_long: false,
        time_limit_ms: None,
        ends_ms: None,
        overran: false,
        skipped: false,
        awaited_ms: None,
        slow: false,
        settled: false,
        steps: Vec::new(),
    }
}

fn expired(proposed: &[(u64, Command)]) -> Vec<(u64, u16, usize)> {
    let expire = |(at, command): &(u64, Command)| match command {
        Command::Manager(ManagerCommand::Expire { event: 7, phase, node, .. }) => {
            Some((*at, node.0, *phase))
        }
        _ => None,
    };
    proposed.iter().filter_map(expire).collect()
}

#[test]
fn a_node_that_does_not_vote_is_given_up() {
    let mut state = quiet();
    state.manager.current = Some(running(Stage::Voting));
    let mut world = world(state);
    assert_eq!(expired(&world.run(12_999)), [], "three times the detection time");
    assert_eq!(expired(&world.run(13_010)), [(13_000, 2, 1)]);
}

/// H18: a command may take as long as it may, its node a little longer; a new phase or attempt, or
/// a new director, begins to wait anew.
#[test]
fn a_node_that_does_not_arrive_is_given_up() {
    let mut state = quiet();
    state.definition.manager.command_timeout_ms = 10_000;
    state.definition.manager.too_long_ms = 1_000_000;
    state.manager.current = Some(running(Stage::Running));
    let mut world = world(state);
    assert_eq!(expired(&world.run(30_000)), []);
    world.change(|state| {
        if let Some(running) = &mut state.manager.current {
            running.attempt = 1;
        }
    });
    assert_eq!(expired(&world.run(60_000)), []);
    world.elect();
    assert_eq!(expired(&world.run(99_999)), []);
    assert_eq!(expired(&world.run(100_010)), [(100_000, 2, 1)]);
    world.change(|state| state.manager.current = Some(running(Stage::Error)));
    assert_eq!(expired(&world.run(200_000)), [], "an operator is asked");
}

/// H19: config_too_long, once.
#[test]
fn an_event_that_runs_too_long_is_reported() {
    let mut state = quiet();
    state.manager.current = Some(running(Stage::Running));
    let mut world = world(state);
    let told = |proposed: &[(u64, Command)]| -> Vec<u64> {
        let too_long = Command::Manager(ManagerCommand::TooLong { event: 7 });
        proposed.iter().filter(|(_, command)| *command == too_long).map(|(at, _)| *at).collect()
    };
    assert_eq!(told(&world.run(189_999)), [0; 0]);
    assert_eq!(told(&world.run(190_010)), [190_000]);
    world.change(|state| {
        if let Some(running) = &mut state.manager.current {
            running.too_long = true;
        }
    });
    assert_eq!(told(&world.run(200_000)), [0; 0]);
}

/// H35: a node that does not verify a document does not hold it up for ever.
#[test]
fn a_document_that_is_not_verified_is_withdrawn() {
    let mut state = quiet();
    let at = WallTime::default();
    let version =
        DocumentVersion { text: String::new(), author: String::new(), comment: String::new(), at };
    let asked = BTreeSet::from([ME, NodeNumber(2)]);
    let findings = BTreeMap::from([(ME, Vec::new())]);
    let dry_run = false;
    let parts = Vec::new();
    state.documents.pending = Some(PendingDocument {
        id: 5,
        version,
        asked,
        findings,
        warnings: Default::default(),
        dry_run,
        parts,
    });
    let mut world = world(state);
    assert_eq!(world.run(39_999), []);
    let why = "no answer from n2 in 30 s".to_owned();
    let withdraw = Command::Config(ConfigCommand::Withdraw { proposal: 5, why });
    assert_eq!(world.run(40_010), [(40_000, withdraw)]);
}
