//! One program that hangs is one program that hangs (R7): nobody waits for it for longer than the detection time.

use std::time::Duration;

use crate::command::{GroupCommand, ManagerCommand};
use crate::event::RecoverAction;
use crate::fixture::Fixture;
use crate::group::GroupState;
use crate::id::NodeNumber;
use crate::trigger::{StopMode, Trigger};
use crate::work::{Admission, Task, admission, tasks};

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

/// Db moves from n2 to n3, and its stop program hangs on n2.
fn hangs() -> (Fixture, u64) {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    let event = fixture.begin_event();
    releases(&mut fixture, "db", N2);
    perform_but(&mut fixture, (N2, event));
    (fixture, event)
}

fn releases(fixture: &mut Fixture, group: &str, node: NodeNumber) {
    let token = fixture.token(group, node).expect("it has it");
    let (state, resources) = (Some(GroupState::Releasing), Vec::new());
    let group = group.to_owned();
    fixture.group(GroupCommand::Progress { group, node, token, state, resources });
}

fn perform_but(fixture: &mut Fixture, hanging: (NodeNumber, u64)) {
    fixture.run_events_but(hanging);
}

fn pass(fixture: &mut Fixture) {
    fixture.pass_patience();
}

/// So long that an event gives up what it has not come to.
fn pass_long(fixture: &mut Fixture) {
    for _ in 0..10 {
        pass(fixture);
    }
}

fn owner(fixture: &Fixture, group: &str) -> (Option<NodeNumber>, GroupState) {
    let group = &fixture.state.groups[group];
    (group.owner(), group.state())
}

/// A node dies while the stop program of another group hangs. Its groups are taken over; what hangs is left alone, and
/// goes on where it is when it has ended.
#[test]
fn r7_a_death_waits_for_no_stop_that_hangs() {
    let (mut fixture, event) = hangs();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    assert_eq!(fixture.state.manager.next(), None, "it may be over in a moment");
    let due = fixture.state.next_due().expect("others wait no longer than that");
    assert!(due > Duration::ZERO && due <= fixture.state.settings.timing.detect(), "{due:?}");
    pass(&mut fixture);
    perform_but(&mut fixture, (N2, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online), "it is taken over");
    assert_eq!(owner(&fixture, "db"), (Some(N2), GroupState::Releasing));
    let run = |task: &Task| matches!(task, Task::Run { event: it, .. } if *it == event);
    assert!(tasks(&fixture.state, N2).iter().any(run), "its command is not killed");
    let aside = fixture.records.iter().find(|record| record.message.contains("steps aside for"));
    let why = "its commands run on: nothing else waits for them";
    assert_eq!(aside.map(|record| record.cause.as_str()), Some(why));
    fixture.run_events();
    assert_eq!(owner(&fixture, "db"), (Some(N3), GroupState::Online));
    let ended = fixture.state.manager.recent.iter().find(|ended| ended.event.id == event);
    assert_eq!(ended.map(|ended| ended.how.as_str()), Some("completed"));
}

/// The same while a start program hangs; and an order about another group does not wait either. One about the same
/// group does.
#[test]
fn r7_what_is_in_hand_is_left_alone() {
    let mut fixture = Fixture::failing_over();
    let event = fixture.state.manager.current.as_ref().expect("it").event.id;
    pass(&mut fixture);
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N3), until: None });
    assert_eq!(fixture.state.manager.next(), None, "it is being acquired");
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    let next = fixture.state.manager.next().map(|event| event.trigger.clone());
    assert_eq!(next, Some(Trigger::GroupMove { group: "db".into() }));
    perform_but(&mut fixture, (N2, event));
    assert_eq!(owner(&fixture, "db"), (Some(N3), GroupState::Online));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Acquiring));
    assert!(matches!(admission(&fixture.state, "web", N2), Admission::Open { .. }), "it still may");
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), (Some(N3), GroupState::Online), "as was ordered");
}

/// A node that takes a group over is lost too, while another node runs a command of the same event: the group is free at once.
#[test]
fn r7_what_a_node_had_in_hand_is_free_when_it_dies() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    let first = fixture.begin_event();
    pass(&mut fixture);
    assert!(fixture.state.manager.begun().any(|it| it.has_in_hand("web")), "n2 waits for it");
    fixture.node_down(N2, "silent");
    fixture.lease_over(N1);
    fixture.lease_over(N2);
    perform_but(&mut fixture, (N3, first));
    assert_eq!(owner(&fixture, "web"), (None, GroupState::Offline), "n3 waits for the disks of db");
    pass(&mut fixture);
    perform_but(&mut fixture, (N3, first));
    assert_eq!(owner(&fixture, "web"), (Some(N3), GroupState::Online));
    assert!(fixture.state.manager.begun().any(|it| it.event.id == first), "n3 has not answered");
}

/// A group that is where it was to go is nobody's any more: if it fails, it is moved by an event of its own at once.
#[test]
fn what_is_done_is_not_in_hand() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    let event = fixture.begin_event();
    fixture.acquire("web", N2);
    let in_hand = |fixture: &Fixture| {
        let mut begun = fixture.state.manager.begun();
        begun.any(|it| it.event.id == event && it.has_in_hand("web"))
    };
    assert!(in_hand(&fixture), "it may be over in a moment");
    pass(&mut fixture);
    assert!(!in_hand(&fixture));
    assert!(fixture.state.manager.begun().any(|it| it.event.id == event), "n2 has not answered");
}

/// A stop waits until commands have ended: it takes everything along that its node has.
#[test]
fn what_stops_a_node_waits_for_commands_that_run() {
    let (mut fixture, event) = hangs();
    pass(&mut fixture);
    fixture.manage(ManagerCommand::Stop { nodes: vec![N3], how: StopMode::Takeover });
    assert_eq!(fixture.state.manager.next(), None, "db is being brought there");
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let next = fixture.state.manager.next().map(|event| event.trigger.clone());
    let stop = Some(StopMode::Takeover);
    assert_eq!(next, Some(Trigger::NodeDown { node: N1, stop }), "it has nothing in hand");
    // What fails meanwhile goes elsewhere without waiting for that stop.
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    perform_but(&mut fixture, (N2, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
}

/// A node that is stopped has released one group and hangs in another: the first one does not wait for that.
#[test]
fn r7_what_was_released_comes_back_though_its_neighbour_hangs() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let event = fixture.begin_event();
    releases(&mut fixture, "batch", N1);
    fixture.release("web", N1);
    perform_but(&mut fixture, (N1, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
    assert!(fixture.state.manager.members[&N1].joined, "its event is not over");
}

/// A node that is to have a group does not wait for long until it is released: another event brings it there, at once
/// and with time of its own, whatever else the first one is about.
#[test]
fn r7_what_is_released_late_comes_by_another_event() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let event = fixture.begin_event();
    releases(&mut fixture, "batch", N1);
    releases(&mut fixture, "web", N1);
    perform_but(&mut fixture, (N1, event));
    let arrived = |fixture: &Fixture| {
        let mut begun = fixture.state.manager.begun();
        begun.any(|it| it.event.id == event && it.arrived.contains(&N2))
    };
    assert!(!arrived(&fixture), "n2 waits for web");
    pass(&mut fixture);
    perform_but(&mut fixture, (N1, event));
    assert!(arrived(&fixture));
    fixture.release("web", N1);
    perform_but(&mut fixture, (N1, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
    assert!(fixture.state.groups["batch"].instances.contains_key(&N1), "it hangs still");
    fixture.run_events();
    assert!(!fixture.state.manager.members[&N1].joined);
}

/// However late that is: who has done its part is given nothing that it would not begin with, and a group on its way
/// alerts nobody.
#[test]
fn r7_what_is_released_very_late_is_given_to_nobody_who_is_done() {
    for long in [false, true] {
        let mut fixture = Fixture::with_groups();
        fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
        let event = fixture.begin_event();
        fixture.release("batch", N1);
        releases(&mut fixture, "web", N1);
        perform_but(&mut fixture, (N1, event));
        pass(&mut fixture);
        perform_but(&mut fixture, (N1, event));
        if long {
            pass_long(&mut fixture);
            perform_but(&mut fixture, (N1, event));
        }
        let told = fixture.records.len();
        fixture.release("web", N1);
        fixture.run_events();
        assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
        for record in &fixture.records[told..] {
            assert!(
                !record.alert && !record.cause.contains("too late"),
                "{record}: {}",
                record.cause
            );
        }
    }
}

/// With a barrier between the two the first one is not kept waiting for long.
#[test]
fn r7_what_waits_at_a_barrier_comes_back_though_its_neighbour_hangs() {
    let mut fixture = Fixture::with_groups();
    fixture.with_a_barrier();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let event = fixture.begin_event();
    releases(&mut fixture, "batch", N1);
    fixture.release("web", N1);
    perform_but(&mut fixture, (N1, event));
    let waits = (Some(N2), GroupState::Acquiring);
    assert_eq!(owner(&fixture, "web"), waits, "n2 waits at the barrier");
    assert!(fixture.state.next_due().is_some(), "it may be over in a moment");
    pass(&mut fixture);
    perform_but(&mut fixture, (N1, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
    assert!(fixture.state.manager.members[&N1].joined, "its event is not over");
    fixture.run_events();
    assert!(!fixture.state.manager.members[&N1].joined);
    assert!(!fixture.state.groups["batch"].instances.contains_key(&N1));
}

/// N1, the home of web, is back, and its join begins.
fn comes_home() -> (Fixture, u64) {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.run_events();
    fixture.returns(N1);
    fixture.present(N1);
    let join = fixture.begin_event();
    (fixture, join)
}

/// A node joins, and another one does not let go of what is to come home: it is a member before that is over, and what
/// happens meanwhile is its business too.
#[test]
fn r7_who_joins_is_a_member_though_another_one_hangs() {
    let (mut fixture, join) = comes_home();
    releases(&mut fixture, "web", N2);
    perform_but(&mut fixture, (N2, join));
    assert!(!fixture.state.manager.members[&N1].joined, "it may be over in a moment");
    // What it has already it releases, before it has a vote.
    fixture.group(GroupCommand::Offline { group: "batch".into() });
    pass(&mut fixture);
    let event = fixture.state.manager.next().expect("batch is to be off").id;
    fixture.manage(ManagerCommand::BeginVote { event });
    perform_but(&mut fixture, (N2, join));
    assert!(!fixture.state.groups["batch"].instances.contains_key(&N1), "it released it");
    assert_eq!(fixture.state.groups["batch"].blocked, None);
    assert!(fixture.state.manager.members[&N1].joined);
    // What comes home later comes by an event of its own.
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), (Some(N1), GroupState::Online));
}

/// A node dies while its own join hangs on another one: its failure is processed once, and the join is over.
#[test]
fn r7_a_node_that_dies_while_its_join_hangs_is_lost_once() {
    let (mut fixture, join) = comes_home();
    assert_eq!(owner(&fixture, "web").0, Some(N2), "it is to go back");
    releases(&mut fixture, "web", N2);
    perform_but(&mut fixture, (N2, join));
    pass(&mut fixture);
    let before = fixture.state.manager.ended;
    fixture.node_down(N1, "silent");
    perform_but(&mut fixture, (N2, join));
    let ended: Vec<(String, &str)> = (fixture.state.manager.recent.iter())
        .skip_while(|ended| ended.event.id < join)
        .map(|ended| (ended.event.trigger.name().to_owned(), ended.how.as_str()))
        .collect();
    let joined = ("node_up".to_owned(), "aborted: n1 went away meanwhile");
    assert_eq!(ended[..2], [joined, ("node_down".to_owned(), "completed")]);
    assert!(fixture.state.manager.ended - before <= 3, "{ended:?}");
    assert_eq!(owner(&fixture, "web").1, GroupState::Online, "n2 has let go of it");
}

/// A node is back while its failure is still being processed: nothing is brought there before it has joined, as it would be
/// restarted then. When that takes long because a start program hangs elsewhere, it joins meanwhile.
#[test]
fn r7_who_is_back_joins_though_what_its_failure_moved_hangs() {
    let mut fixture = Fixture::failing_over();
    let failure = fixture.state.manager.current.as_ref().expect("it").event.id;
    fixture.returns(N1);
    fixture.present(N1);
    let obstacle = crate::placement::obstacle(&fixture.state, "batch", N1);
    assert_eq!(obstacle.as_deref(), Some("is leaving"));
    perform_but(&mut fixture, (N2, failure));
    assert_eq!(fixture.state.manager.queue, [], "it may be over in a moment");
    pass(&mut fixture);
    perform_but(&mut fixture, (N2, failure));
    assert!(fixture.state.manager.members[&N1].joined);
    let told = fixture.records.iter().find(|record| record.message == "n1 may join again");
    assert!(told.is_some_and(|record| record.cause.ends_with("goes on beside others")), "{told:?}");
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Acquiring), "that is left alone");
    // It dies once more, which is an event of its own, and what hung ends.
    fixture.node_down(N1, "silent");
    perform_but(&mut fixture, (N2, failure));
    assert!(!fixture.state.manager.members[&N1].joined);
    fixture.returns(N1);
    fixture.present(N1);
    fixture.run_events();
    assert!(fixture.state.manager.members[&N1].joined, "what ended late changes nothing");
    assert!(fixture.state.manager.begun().next().is_none());
}

/// A manager is started again while its stop hangs: the node stays a member, and its other groups come
/// home.
#[test]
fn r7_who_is_started_again_while_its_stop_hangs_stays() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let stop = fixture.begin_event();
    releases(&mut fixture, "batch", N1);
    fixture.release("web", N1);
    perform_but(&mut fixture, (N1, stop));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
    fixture.manage(ManagerCommand::Start { nodes: vec![N1] });
    pass(&mut fixture);
    perform_but(&mut fixture, (N1, stop));
    assert!(fixture.state.manager.members[&N1].joined);
    assert_eq!(owner(&fixture, "web"), (Some(N1), GroupState::Online), "it is home");
    // Stopped once more it leaves when what hangs is over, and not before.
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    perform_but(&mut fixture, (N1, stop));
    assert!(fixture.state.manager.members[&N1].joined);
    fixture.run_events();
    assert!(!fixture.state.manager.members[&N1].joined);
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
}

/// A node that was stopped and has let go of everything has left, whatever others still start.
#[test]
fn r7_who_has_stopped_is_gone_though_what_it_had_hangs_elsewhere() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let stop = fixture.begin_event();
    perform_but(&mut fixture, (N2, stop));
    assert!(fixture.state.manager.members[&N1].joined, "it may be over in a moment");
    pass(&mut fixture);
    assert!(!fixture.state.manager.members[&N1].joined);
    fixture.manage(ManagerCommand::Start { nodes: vec![N1] });
    perform_but(&mut fixture, (N2, stop));
    assert!(fixture.state.manager.members[&N1].joined);
    fixture.run_events();
    assert!(fixture.state.manager.members[&N1].joined, "what ended late changes nothing");
}

/// A node joins, and its own program hangs before it has come to anything: others give it nothing of that event any more,
/// and it takes part in everything else.
#[test]
fn r7_who_joins_is_a_member_though_its_own_program_hangs() {
    let (mut fixture, join) = comes_home();
    perform_but(&mut fixture, (N1, join));
    assert!(!fixture.state.manager.members[&N1].joined, "it may be over in a moment");
    pass(&mut fixture);
    assert!(fixture.state.manager.members[&N1].joined);
}

/// A node is stopped while its join hangs: what it starts it gives back, and what it was to have goes with it or to others,
/// as ordered.
#[test]
fn r7_who_is_stopped_while_it_joins_begins_with_nothing() {
    for how in [StopMode::Takeover, StopMode::Graceful] {
        let (mut fixture, join) = comes_home();
        fixture.release("web", N2);
        perform_but(&mut fixture, (N1, join));
        assert_eq!(owner(&fixture, "web"), (Some(N1), GroupState::Acquiring), "it hangs");
        fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how });
        fixture.release("web", N1);
        assert!(matches!(admission(&fixture.state, "web", N1), Admission::Elsewhere(_)));
        fixture.run_events();
        assert!(!fixture.state.manager.members[&N1].joined);
        let wanted = match how {
            StopMode::Takeover => (Some(N2), GroupState::Online),
            _ => (None, GroupState::Offline),
        };
        assert_eq!(owner(&fixture, "web"), wanted, "{how}");
    }
}

/// An event fails on one node and hangs on another: it holds up nobody, and an operator can skip what failed.
#[test]
fn r7_an_event_that_failed_on_one_node_and_hangs_on_another_holds_up_nobody() {
    let (mut fixture, event) = hangs();
    // In this phase n3 has done its part; its command fails instead.
    if let Some(running) = fixture.state.manager.begun_mut(event) {
        running.arrived.remove(&N3);
        running.outcomes.remove(&N3);
    }
    fixture.fail_on(N3, "no such file");
    assert!(!fixture.state.manager.is_open());
    pass(&mut fixture);
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    perform_but(&mut fixture, (N2, event));
    assert_eq!(owner(&fixture, "web"), (Some(N2), GroupState::Online));
    fixture.manage(ManagerCommand::Recover { event, action: RecoverAction::Skip });
    fixture.run_events();
    assert_eq!(owner(&fixture, "db"), (Some(N3), GroupState::Online));
}

/// An operator ends an event of which a start program hangs: what was begun is given back, and goes elsewhere. Before
/// others stop waiting for it that is refused.
#[test]
fn r7_an_operator_ends_what_hangs() {
    let mut fixture = Fixture::failing_over();
    let event = fixture.state.manager.current.as_ref().expect("it").event.id;
    let abort = |fixture: &Fixture| {
        fixture.state.check_recovery(event, RecoverAction::Abort).map_err(|refusal| refusal.code)
    };
    assert_eq!(abort(&fixture), Err("not_failed".to_owned()));
    assert!(!fixture.state.may_be_aborted(event));
    pass(&mut fixture);
    assert!(fixture.state.may_be_aborted(event));
    fixture.manage(ManagerCommand::Recover { event, action: RecoverAction::Abort });
    let cleans = |task: &Task| matches!(task, Task::CleanUp { group, .. } if group == "web");
    assert!(tasks(&fixture.state, N2).iter().any(cleans));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), (Some(N3), GroupState::Online));
    let ended = fixture.state.manager.recent.iter().find(|ended| ended.event.id == event);
    assert_eq!(ended.map(|ended| ended.how.as_str()), Some("aborted"));
}

/// Everything was released, and a command of the same phase that is about no group does not end: what stands before a
/// barrier is waited for, and no other event does the same again meanwhile.
#[test]
fn what_stands_before_a_barrier_is_waited_for() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    let event = fixture.begin_event();
    perform_but(&mut fixture, (N2, event));
    pass(&mut fixture);
    fixture.release("db", N2);
    pass(&mut fixture);
    perform_but(&mut fixture, (N2, event));
    assert_eq!(owner(&fixture, "db"), (Some(N3), GroupState::Acquiring));
    assert_eq!(fixture.state.manager.begun().count(), 1);
    fixture.run_events();
    assert_eq!(owner(&fixture, "db"), (Some(N3), GroupState::Online));
}

/// A node that gives no answer to a vote runs no commands either, and nobody waits for them unless it has something to
/// do with a group.
#[test]
fn r7_who_gives_no_answer_to_a_vote_is_waited_for_no_more() {
    for (to, waits) in [(N2, false), (N3, true)] {
        let mut fixture = Fixture::with_groups();
        fixture.group(GroupCommand::Move { group: "web".into(), to: Some(to), until: None });
        let event = fixture.state.manager.queue[0].id;
        fixture.manage(ManagerCommand::BeginVote { event });
        for node in [N1, N2] {
            fixture.manage(ManagerCommand::Approve { event, node });
        }
        let (phase, attempt, node) = (0, 0, N3);
        fixture.manage(ManagerCommand::Expire { event, phase, attempt, node });
        let running = fixture.state.manager.current.as_ref().expect("it goes on");
        assert_eq!(running.participants.contains(&N3), waits, "to {to}");
    }
}
