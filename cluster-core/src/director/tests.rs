//! The director alone: taking office, repeating what was lost, alerts, voters, damping.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::damper::Damper;
use super::voters::desired_voters;
use super::{Director, Input, Output, VOTER_PATIENCE};
use crate::command::{Change, Command};
use crate::fixture::Fixture;
use crate::id::{CommandId, NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus, NetworkStatus, Role, Timing};
use crate::observation::Report;
use crate::state::{ClusterState, Outcome};
use crate::time::Instant;

const ME: NodeNumber = NodeNumber(1);

fn at(millis: u64) -> Instant {
    Instant::from_millis(millis)
}

fn nodes(numbers: &[u16]) -> Vec<NodeNumber> {
    numbers.iter().copied().map(NodeNumber).collect()
}

fn away(numbers: &[u16]) -> BTreeSet<NodeNumber> {
    nodes(numbers).into_iter().collect()
}

fn settled(size: u16) -> ClusterState {
    let mut state = (*Fixture::settled(size).view(ME).state).clone();
    state.alerts.clear();
    for node in state.nodes.values_mut() {
        node.role = if node.number.0 <= 3 { Role::Voter } else { Role::Learner };
    }
    state
}

fn lose(state: &mut ClusterState, number: u16) {
    if let Some(node) = state.nodes.get_mut(&NodeNumber(number)) {
        node.host = HostStatus::Down;
        node.agent = AgentStatus::Unknown;
    }
}

fn report(observer: u16, sequence: u64, continuity: bool) -> Input {
    Input::Report(Arc::new(Report {
        observer: NodeNumber(observer),
        session: Session(u64::from(observer)),
        sequence,
        self_suspect: false,
        made_us: 0,
        lease: true,
        voters: 0,
        timing: None,
        directed: true,
        epoch: 1,
        released: false,
        continuity,
        agent: AgentStatus::Running,
        position: 0,
        peers: Vec::new(),
        links: Vec::new(),
        interfaces: Vec::new(),
    }))
}

fn elected(own_continuity: bool) -> Input {
    Input::Elected { term: 7, me: ME, session: Session(70), own_continuity }
}

fn step(director: &mut Director, now: Instant, input: Input) -> Vec<Output> {
    let mut out = Vec::new();
    director.handle(now, input, &mut out);
    out
}

fn wait(director: &mut Director, now: Instant) -> Vec<Output> {
    let mut out = Vec::new();
    director.on_timeout(now, &mut out);
    out
}

/// The only proposal among `out`.
fn proposal(out: &[Output]) -> (CommandId, Command) {
    match out {
        [Output::Propose { id, command }] => (*id, command.clone()),
        other => panic!("one proposal was expected: {other:?}"),
    }
}

fn continuity_of(out: &[Output]) -> bool {
    match proposal(out).1 {
        Command::Office { continuity, director: ME, term: 7 } => continuity,
        other => panic!("an office was expected: {other:?}"),
    }
}

fn in_office(state: ClusterState) -> Director {
    enter(state).0
}

/// A director whose office was just applied, and what it wants first.
fn enter(state: ClusterState) -> (Director, Vec<Output>) {
    let mut director = Director::new(Arc::new(state));
    let (id, _) = proposal(&step(&mut director, at(0), elected(true)));
    let outcome = Outcome::Applied { index: 0 };
    let out = step(&mut director, at(1), Input::Proposed { id, outcome });
    assert!(director.serving());
    (director, out)
}

#[test]
fn one_that_was_there_takes_office_at_once() {
    let mut director = Director::new(Arc::new(settled(3)));
    assert!(continuity_of(&step(&mut director, at(0), elected(true))));
}

#[test]
fn a_peer_that_was_there_suffices() {
    let mut director = Director::new(Arc::new(settled(3)));
    assert_eq!(step(&mut director, at(0), elected(false)), []);
    assert_eq!(step(&mut director, at(10), report(2, 1, false)), []);
    assert!(continuity_of(&step(&mut director, at(20), report(3, 1, true))));
}

/// V10: the cluster has just started if everybody says so, or nobody speaks in the detection time.
#[test]
fn without_anybody_who_was_there_the_cluster_has_just_started() {
    let mut director = Director::new(Arc::new(settled(3)));
    assert_eq!(step(&mut director, at(0), elected(false)), []);
    assert_eq!(step(&mut director, at(10), report(2, 1, false)), []);
    assert!(!continuity_of(&step(&mut director, at(20), report(3, 1, false))));

    let mut alone = Director::new(Arc::new(settled(3)));
    assert_eq!(step(&mut alone, at(0), elected(false)), []);
    assert_eq!(wait(&mut alone, at(900)), []);
    assert!(!continuity_of(&wait(&mut alone, at(1_000))));
}

/// Invariant 5: what may be in the log already is proposed again with the same id.
#[test]
fn a_lost_office_is_proposed_again_with_the_same_id() {
    let mut director = Director::new(Arc::new(settled(3)));
    let first = step(&mut director, at(0), elected(true));
    let (id, _) = proposal(&first);
    assert_eq!(step(&mut director, at(500), Input::Lost { id }), first);
}

#[test]
fn a_deposed_director_is_silent() {
    let mut director = in_office(settled(3));
    assert!(director.deadline().is_some());
    assert_eq!(step(&mut director, at(50), Input::Deposed), []);
    assert_eq!(director.deadline(), None);
    assert_eq!(step(&mut director, at(60), report(2, 1, true)), []);
}

#[test]
fn a_deadline_is_never_in_the_past() {
    let mut director = in_office(settled(3));
    for ms in (100..5_000).step_by(7) {
        step(&mut director, at(ms), report(1, ms, true));
        wait(&mut director, at(ms));
        assert!(director.deadline().is_some_and(|deadline| deadline > at(ms)));
    }
}

fn with_alerts() -> ClusterState {
    let mut fixture = Fixture::settled(3);
    fixture.node_down(NodeNumber(3), "silent");
    (*fixture.view(ME).state).clone()
}

fn claims(out: &[Output]) -> Vec<(u64, Session)> {
    let claim = |output: &Output| match output {
        Output::Propose { command: Command::ClaimAlert { seq, runner: ME, session }, .. } => {
            Some((*seq, *session))
        }
        _ => None,
    };
    out.iter().filter_map(claim).collect()
}

/// A14: the oldest alert is claimed, and no other before it is finished.
#[test]
fn alerts_are_claimed_one_at_a_time_and_again_when_the_claim_is_over() {
    let mut state = with_alerts();
    let oldest = *state.alerts.keys().next().expect("an alert waits");
    let (mut director, first) = enter(state.clone());
    assert_eq!(claims(&first), [(oldest, Session(70))]);
    assert_eq!(claims(&wait(&mut director, at(400))), [], "one at a time");

    let mut claim = |runner: u16, session: u64| {
        let claim = Some((NodeNumber(runner), Session(session)));
        state.alerts.get_mut(&oldest).expect("it waits").claim = claim;
        let (mut director, mut out) = enter(state.clone());
        let node = NodeNumber(2);
        out.extend(step(&mut director, at(2), Input::AgentSession { node, session: Session(20) }));
        claims(&out)
    };
    assert_eq!(claim(2, 20), [], "n2 is there and works on it");
    assert_eq!(claim(2, 19), [(oldest, Session(70))], "that run of n2's agent is over");
    assert_eq!(claim(3, 30), [(oldest, Session(70))], "n3 is DOWN");
    assert_eq!(claim(1, 70), [], "this node works on it");
    assert_eq!(claim(1, 69), [(oldest, Session(70))], "an earlier run of this node's agent");
}

#[test]
fn voters_are_odd_in_number() {
    for (members, expected) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (7, 5)] {
        let voters = desired_voters(&settled(members), &nodes(&[1]), &away(&[]), ME);
        assert_eq!(voters.len(), expected, "{members} members");
        assert!(voters.contains(&ME));
    }
    let mut state = settled(6);
    state.settings.voters = 3;
    assert_eq!(desired_voters(&state, &nodes(&[1]), &away(&[]), ME).len(), 3);
}

#[test]
fn a_voter_that_stays_away_is_replaced_by_a_learner() {
    let mut state = settled(4);
    lose(&mut state, 3);
    let current = nodes(&[1, 2, 3]);
    assert_eq!(desired_voters(&state, &current, &away(&[]), ME), current, "it may come back");
    assert_eq!(desired_voters(&state, &current, &away(&[3]), ME), nodes(&[1, 2, 4]));
}

#[test]
fn without_a_learner_the_voters_stay() {
    let mut state = settled(3);
    lose(&mut state, 3);
    let current = nodes(&[1, 2, 3]);
    assert_eq!(desired_voters(&state, &current, &away(&[3]), ME), current);
}

#[test]
fn a_set_without_a_present_majority_is_never_chosen() {
    let mut state = settled(3);
    lose(&mut state, 2);
    lose(&mut state, 3);
    let current = nodes(&[1]);
    assert_eq!(desired_voters(&state, &current, &away(&[2, 3]), ME), current);
}

#[test]
fn a_deleted_voter_is_replaced_or_leaves_one() {
    let mut state = settled(3);
    state.nodes.remove(&NodeNumber(3));
    let current = nodes(&[1, 2, 3]);
    assert_eq!(desired_voters(&state, &current, &away(&[]), ME), nodes(&[1]));
    let mut state = settled(4);
    state.nodes.remove(&NodeNumber(2));
    assert_eq!(desired_voters(&state, &current, &away(&[]), ME), nodes(&[1, 3, 4]));
}

#[test]
fn the_chosen_voters_are_chosen_again() {
    for members in 1..=8 {
        for gone in 0..=members {
            let mut state = settled(members);
            let away = away(&[gone]);
            lose(&mut state, if gone == 1 { 0 } else { gone });
            let once = desired_voters(&state, &nodes(&[1, 2, 3]), &away, ME);
            assert_eq!(desired_voters(&state, &once, &away, ME), once);
        }
    }
}

fn set_voters(out: &[Output]) -> Option<&Vec<NodeNumber>> {
    out.iter().find_map(|output| match output {
        Output::SetVoters(voters) => Some(voters),
        Output::Propose { .. } => None,
    })
}

#[test]
fn voters_are_changed_after_a_while_and_once_at_a_time() {
    let mut state = settled(4);
    lose(&mut state, 3);
    let mut director = in_office(state);
    let out = step(&mut director, at(10), Input::Voters(nodes(&[1, 2, 3])));
    assert_eq!(set_voters(&out), None);
    let mut asked = Vec::new();
    for ms in (100..45_000).step_by(100) {
        let out = wait(&mut director, at(ms));
        if let Some(voters) = set_voters(&out) {
            asked.push((ms, voters.clone()));
        }
    }
    let patience = VOTER_PATIENCE.as_millis() as u64;
    let times: Vec<u64> = asked.iter().map(|(ms, _)| *ms).collect();
    assert!(asked.iter().all(|(_, voters)| *voters == nodes(&[1, 2, 4])));
    assert_eq!(times.len(), 2, "asked again only after the time-out: {times:?}");
    assert!(times[0] >= patience + 2_000 && times[0] < patience + 3_000, "{times:?}");
    let out = step(&mut director, at(45_000), Input::Voters(nodes(&[1, 2, 4])));
    let (_, command) = proposal(&out);
    assert_eq!(command, Command::Voters { voters: nodes(&[1, 2, 4]) });
}

fn network_down() -> Change {
    let (network, to) = (NetworkNumber(1), NetworkStatus::Down);
    Change::Network { network, to, cause: String::new() }
}

fn host(to: HostStatus) -> Change {
    Change::Host { node: NodeNumber(2), to, planned: false, cause: String::new(), silent_ms: None }
}

#[test]
fn what_is_over_in_a_moment_is_not_let_through() {
    let mut damper = Damper::default();
    let mut ask = |ms, wanted: Vec<Change>| damper.ripe(at(ms), &Timing::DEFAULT, wanted).len();
    assert_eq!(ask(0, vec![network_down()]), 0);
    assert_eq!(ask(300, vec![network_down()]), 0);
    assert_eq!(ask(350, Vec::new()), 0);
    assert_eq!(ask(400, vec![network_down()]), 0, "it begins anew");
    assert_eq!(ask(800, vec![network_down()]), 1);
}

#[test]
fn a_death_is_let_through_at_once_and_a_return_after_two_beats() {
    let mut damper = Damper::default();
    assert_eq!(damper.ripe(at(0), &Timing::DEFAULT, vec![host(HostStatus::Down)]).len(), 1);
    let agent =
        Change::Agent { node: NodeNumber(2), to: AgentStatus::Running, cause: String::new() };
    let back = vec![host(HostStatus::Up), agent];
    assert_eq!(damper.ripe(at(100), &Timing::DEFAULT, back.clone()), []);
    assert_eq!(damper.deadline(at(100)), Some(at(100) + Duration::from_millis(400)));
    assert_eq!(damper.ripe(at(500), &Timing::DEFAULT, back.clone()), back);
}
