//! Events from the first join to the last barrier: each test is a small story.

use std::collections::BTreeMap;

use crate::command::{Change, Command, GroupCommand, ManagerCommand, Scope};
use crate::event::{ManagerState, RecoverAction, Running, Stage};
use crate::fixture::Fixture;
use crate::group::GroupState;
use crate::id::{NetworkNumber, NodeNumber};
use crate::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus, Severity, Substate};
use crate::record::Code;
use crate::takeover::Backing;
use crate::trigger::{StopMode, Trigger};
use crate::work::{Task, tasks};

use super::super::testing::refused;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

fn manager_steps(fixture: &Fixture, node: &str) -> Vec<String> {
    let concerns = |message: &str| {
        let names = message.split(" of ").nth(1).and_then(|rest| rest.split(':').next());
        names.is_some_and(|names| names.split(", ").any(|name| name == node))
    };
    let steps = fixture.records.iter().filter(|record| record.code == Code::Manager);
    steps.filter(|record| concerns(&record.message)).map(|record| record.current.clone()).collect()
}

fn ended(fixture: &Fixture) -> Vec<String> {
    let recent = fixture.state.manager.recent.iter();
    let label = |trigger: &Trigger| fixture.state.trigger_label(trigger);
    recent.map(|ended| format!("{}: {}", label(&ended.event.trigger), ended.how)).collect()
}

fn host(fixture: &mut Fixture, node: NodeNumber, to: HostStatus) {
    let cause = "heard by its peers".to_owned();
    fixture.apply(Command::Observe {
        changes: vec![Change::Host { node, to, planned: false, cause, silent_ms: None }],
    });
}

fn agent(fixture: &mut Fixture, node: NodeNumber, to: AgentStatus) {
    let cause = "its guard says so".to_owned();
    fixture.apply(Command::Observe { changes: vec![Change::Agent { node, to, cause }] });
}

fn returns(fixture: &mut Fixture, node: NodeNumber) {
    host(fixture, node, HostStatus::Up);
    agent(fixture, node, AgentStatus::Running);
}

fn owners(fixture: &Fixture) -> BTreeMap<&str, String> {
    let names = |nodes: Vec<NodeNumber>| fixture.state.names(&nodes);
    let groups = fixture.state.groups.iter();
    groups.map(|(n, g)| (n.as_str(), names(g.instances.keys().copied().collect()))).collect()
}

fn perform_all(fixture: &mut Fixture, node: NodeNumber) {
    for task in tasks(&fixture.state, node) {
        fixture.perform(node, task);
    }
}

/// H11, H12: the first node goes from joining to stable by way of the vote, two barriers and the
/// last one.
#[test]
fn the_first_node_joins_alone() {
    let mut fixture = Fixture::settled(1);
    fixture.present(N1);
    fixture.run_events();
    assert_eq!(
        manager_steps(&fixture, "n1"),
        [
            "init",
            "joining",
            "unstable",
            "voting",
            "rp_running",
            "barrier",
            "rp_running",
            "cbarrier",
            "stable"
        ]
    );
    assert_eq!(ended(&fixture), ["node_up n1: completed"]);
    assert!(fixture.state.manager.members[&N1].joined);
}

/// H12: when a further node joins, all run their parts, and wait for each other before the last one.
#[test]
fn a_further_node_and_the_others_wait_for_each_other() {
    let mut fixture = Fixture::settled(3);
    fixture.present(N1);
    fixture.run_events();
    fixture.present(N2);
    assert_eq!(fixture.state.manager.members[&N1].state, ManagerState::Unstable);
    let event = fixture.begin_event();
    let states = |fixture: &Fixture| {
        [N1, N2].map(|node| fixture.state.manager.members[&node].state.name()).join(" ")
    };
    assert_eq!(states(&fixture), "rp_running rp_running");
    perform_all(&mut fixture, N1);
    assert_eq!(states(&fixture), "barrier rp_running");
    let run = Task::Run { event, phase: 0, attempt: 0, commands: vec![(0, "node_up".into())] };
    assert_eq!(tasks(&fixture.state, N2), [run]);
    perform_all(&mut fixture, N2);
    assert_eq!(states(&fixture), "rp_running rp_running");
    perform_all(&mut fixture, N1);
    assert_eq!(states(&fixture), "cbarrier rp_running");
    perform_all(&mut fixture, N2);
    assert_eq!(states(&fixture), "stable stable");
}

/// H14: the example of section 4.6. Nodes 1 and 2 are up, 3, 4 and 5 start, and 3 fails meanwhile.
#[test]
fn joins_come_before_the_failure_of_one_that_joins() {
    let mut fixture = Fixture::settled(5);
    for node in [1, 2] {
        fixture.present(NodeNumber(node));
        fixture.run_events();
    }
    for node in [5, 3, 4] {
        fixture.present(NodeNumber(node));
    }
    fixture.node_down(N3, "silent");
    fixture.run_events();
    assert_eq!(
        ended(&fixture)[2..],
        [
            "node_up n3: completed",
            "node_up n4: completed",
            "node_up n5: completed",
            "node_down n3: completed"
        ]
    );
    assert!(!fixture.state.manager.members[&N3].joined);
    assert_eq!(fixture.state.manager.members[&N3].state, ManagerState::Unknown);
}

/// H14: the vote on a failure gives way to a join, and nothing gives way once a program runs.
#[test]
fn a_vote_gives_way_and_a_running_program_does_not() {
    let mut fixture = Fixture::settled(4);
    for node in [1, 2, 3] {
        fixture.present(NodeNumber(node));
        fixture.run_events();
    }
    fixture.node_down(N3, "silent");
    let event = fixture.state.manager.queue[0].id;
    fixture.manage(ManagerCommand::BeginVote { event });
    fixture.present(NodeNumber(4));
    let running = fixture.state.manager.current.clone().unwrap();
    assert_eq!(running.event.trigger, Trigger::NodeUp(NodeNumber(4)));
    assert_eq!(fixture.state.manager.queue[0].id, event);
    assert!(
        fixture.records.iter().any(|record| record.message
            == "vote on event 4 node_down n3 gives way to event 5 node_up n4")
    );
    fixture.run_events();
    fixture.node_down(NodeNumber(4), "silent");
    fixture.begin_event();
    returns(&mut fixture, N3);
    let running = fixture.state.manager.current.as_ref().unwrap();
    assert_eq!(running.event.trigger.name(), "node_down");
    assert_eq!(fixture.state.manager.queue[0].trigger, Trigger::NodeUp(N3));
}

/// H14: what a later event makes needless is taken out and said so.
#[test]
fn a_failure_that_is_over_is_superseded() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N3, "silent");
    assert_eq!(fixture.state.manager.queue[0].trigger.name(), "node_down");
    returns(&mut fixture, N3);
    let waiting: Vec<&str> =
        fixture.state.manager.queue.iter().map(|event| event.trigger.name()).collect();
    assert_eq!(waiting, ["node_up"]);
    assert!(ended(&fixture).contains(&"node_down n3: superseded".to_owned()));
    let network = |fixture: &mut Fixture, to| {
        let change = Change::Network { network: NetworkNumber(2), to, cause: "links".into() };
        fixture.apply(Command::Observe { changes: vec![change] });
    };
    network(&mut fixture, NetworkStatus::Down);
    network(&mut fixture, NetworkStatus::Up);
    let waiting: Vec<&str> =
        fixture.state.manager.queue.iter().map(|event| event.trigger.name()).collect();
    assert_eq!(waiting, ["node_up", "network_up"]);
}

/// H22: a node dies, another takes over when there is evidence and not before; when it is back, the
/// others release what is its own and it acquires.
#[test]
fn a_death_is_taken_over_and_a_return_reintegrated() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Unknown);
    fixture.begin_event();
    let running = fixture.state.manager.current.as_ref().unwrap();
    assert_eq!((running.phase, running.stage), (0, Stage::Running));
    assert_eq!(owners(&fixture)["web"], "n1");
    fixture.lease_over(N1);
    assert_eq!(owners(&fixture)["web"], "n2");
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Acquiring);
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n2");
    assert_eq!(fixture.state.groups["web"].failovers, 1);
    assert_eq!(owners(&fixture)["batch"], "n2, n3");
    returns(&mut fixture, N1);
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n1");
    assert_eq!(owners(&fixture)["db"], "n2");
    assert_eq!(owners(&fixture)["batch"], "n1, n2, n3");
    let alerts = fixture.records.iter().filter(|r| r.alert && r.code == Code::Group);
    assert_eq!(alerts.count(), 0);
}

/// A failover is one incident: every step of it carries the incident of the host that went away.
#[test]
fn the_steps_of_a_failover_carry_its_incident() {
    let mut fixture = Fixture::with_groups();
    let start = fixture.records.len();
    fixture.node_down(N1, "silent");
    let incident = fixture.state.nodes[&N1].incident;
    fixture.begin_event();
    fixture.lease_over(N1);
    fixture.run_events();
    assert!(incident.is_some());
    for record in &fixture.records[start..] {
        let free = matches!(record.code, Code::ClusterSubstate | Code::Manager);
        assert!(free || record.incident == incident, "{record}: {:?}", record.incident);
    }
    let command = fixture.records.iter().rfind(|r| r.code == Code::EventCommand).unwrap();
    assert_eq!((command.node.is_some(), command.duration_ms), (true, Some(31)));
    let end = fixture.records.iter().rfind(|r| r.code == Code::EventEnded).unwrap();
    assert!(end.event.is_some() && end.duration_ms > Some(0));
}

/// H17: a command runs where its node set says; in a failure nobody is the node of the event.
#[test]
fn node_sets_are_those_of_the_participants() {
    let mut fixture = Fixture::with_groups();
    fixture.with_a_barrier();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N3], how: StopMode::Takeover });
    fixture.begin_event();
    let running = fixture.state.manager.current.clone().unwrap();
    let on = |phase| [N1, N2, N3].map(|node| running.commands(phase, node).len());
    assert_eq!([on(0), on(1), on(2)], [[0, 0, 1], [1, 1, 0], [1, 1, 1]]);
    fixture.run_events();
    fixture.node_down(N2, "silent");
    fixture.begin_event();
    let running = fixture.state.manager.current.clone().unwrap();
    let on = |phase| [N1, N2, N3].map(|node| running.commands(phase, node).len());
    assert_eq!([on(0), on(1), on(2)], [[0, 0, 0], [1, 0, 0], [1, 0, 0]]);
}

/// H18: an unexpected status stops the event with an alert that says which command on which node
/// printed what; a retry runs only what failed.
#[test]
fn a_failed_event_is_retried() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    let event = fixture.begin_event();
    perform_all(&mut fixture, N3);
    fixture.fail_on(N2, "no space left\non device\n");
    assert_eq!(fixture.state.substate, Substate::Error);
    assert_eq!(fixture.state.manager.members[&N2].state, ManagerState::Error);
    let alert = fixture.records.iter().rfind(|r| r.code == Code::EventFailed).unwrap();
    assert!(alert.alert && alert.severity == Severity::Error);
    assert!(alert.message.contains("failed on n2, node_down: exit status 1"), "{alert}");
    assert_eq!(alert.cause, "no space left / on device");
    assert_eq!(tasks(&fixture.state, N2), []);
    let action = RecoverAction::Retry;
    fixture.manage(ManagerCommand::Recover { event, action });
    assert_eq!(tasks(&fixture.state, N3), []);
    let commands = vec![(0, "node_down".to_owned())];
    assert_eq!(tasks(&fixture.state, N2), [Task::Run { event, phase: 0, attempt: 1, commands }]);
    fixture.lease_over(N1);
    fixture.run_events();
    assert_eq!(fixture.state.substate, Substate::Stable);
    assert_eq!(ended(&fixture).last().unwrap(), "node_down n1: completed");
    assert_eq!(owners(&fixture)["web"], "n2");
}

/// H18: who came away without a group because it was not released tries again as well, in the same event.
#[test]
fn who_waited_in_vain_is_run_again_too() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let event = stuck(&mut fixture, N1);
    fixture.manage(ManagerCommand::Recover { event, action: RecoverAction::Retry });
    let runs = |node| matches!(tasks(&fixture.state, node)[..], [Task::Run { attempt: 1, .. }]);
    assert_eq!([N1, N2, N3].map(runs), [true, true, false]);
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n2");
    let last = fixture.state.manager.recent.back().expect("it has ended");
    assert_eq!((last.event.id, last.how.as_str()), (event, "completed"));
}

/// H18: skipped, the event goes on; aborted, it ends; both are on record.
#[test]
fn a_failed_event_is_skipped_or_aborted() {
    for (action, how) in
        [(RecoverAction::Skip, "completed after skip"), (RecoverAction::Abort, "aborted")]
    {
        let mut fixture = Fixture::with_groups();
        fixture.node_down(N1, "silent");
        fixture.lease_over(N1);
        let event = fixture.begin_event();
        fixture.fail_on(N2, "");
        perform_all(&mut fixture, N3);
        fixture.manage(ManagerCommand::Recover { event, action });
        let recovered = fixture.records.iter().rfind(|r| r.code == Code::EventRecovered).unwrap();
        assert!(recovered.cause.contains("n2"));
        fixture.run_events();
        let first = fixture.state.manager.recent.iter().find(|ended| ended.event.id == event);
        assert_eq!(first.unwrap().how, how);
        // What n2 did not acquire in time is cleaned up, and n3 is the next to try.
        assert_eq!(owners(&fixture)["web"], "n3");
        assert!(fixture.state.groups["web"].avoid.contains(&N2));
    }
}

/// H18, bad input: an operator who continues what did not fail, or has ended, is told so.
#[test]
fn recovery_of_an_event_that_has_not_failed_is_refused() {
    let mut fixture = Fixture::with_groups();
    let recover =
        |event| Command::Manager(ManagerCommand::Recover { event, action: RecoverAction::Retry });
    assert_eq!(refused(&mut fixture, recover(99)).code, "unknown_event");
    let said = refused(&mut fixture, recover(1));
    assert!(said.what.starts_with("event 1 node_up n1 has ended (completed) at "), "{said}");
    fixture.node_down(N1, "silent");
    let waiting = fixture.state.manager.queue[0].id;
    assert!(refused(&mut fixture, recover(waiting)).what.contains("has not begun"));
    let event = fixture.begin_event();
    assert_eq!(refused(&mut fixture, recover(event)).code, "not_failed");
    fixture.fail_on(N2, "");
    let said = refused(&mut fixture, recover(event));
    assert_eq!(said.what, "commands of this phase still run on n3");
}

/// An event that failed, with everybody else at the barrier.
fn stuck(fixture: &mut Fixture, node: NodeNumber) -> u64 {
    let event = fixture.begin_event();
    let others: Vec<NodeNumber> = [N1, N2, N3].into_iter().filter(|other| *other != node).collect();
    fixture.fail_on(node, "");
    for other in others {
        perform_all(fixture, other);
    }
    assert!(fixture.state.manager.current.as_ref().is_some_and(Running::is_stuck));
    event
}

/// R7: a failed event holds up nobody: the death of another node is processed at once, and when nothing else
/// is to be done the failed event waits for its operator again, as it was.
#[test]
fn a_failed_event_steps_aside_for_a_death() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N3), until: None });
    let moved = stuck(&mut fixture, N1);
    let others: Vec<String> = owners(&fixture).into_keys().map(str::to_owned).collect();
    let lost = owners(&fixture)["db"].clone();
    let lost = if lost == "n2" { N2 } else { N3 };
    back(&mut fixture, Backing::Watchdog);
    fixture.node_down(lost, "silent");
    fixture.lease_over(lost);
    fixture.run_events();
    let down = format!("node_down n{lost}: completed");
    assert!(ended(&fixture).contains(&down), "{:?}", ended(&fixture));
    assert!(
        owners(&fixture).len() == others.len()
            && !owners(&fixture).values().any(|o| *o == format!("n{lost}"))
    );
    let manager = &fixture.state.manager;
    assert_eq!(
        manager.current.as_ref().map(|it| (it.event.id, it.stage)),
        Some((moved, Stage::Error))
    );
    assert!(manager.aside.is_empty() && manager.queue.is_empty());
    assert_eq!(fixture.state.substate, Substate::Error);
    let steps: Vec<&str> = fixture.records.iter().map(|it| it.message.as_str()).collect();
    assert!(steps.iter().any(|it| it.contains("group_move web steps aside for")), "{steps:#?}");
    fixture.manage(ManagerCommand::Recover { event: moved, action: RecoverAction::Skip });
    fixture.run_events();
    assert_eq!(fixture.state.substate, Substate::Stable);
}

/// Seed 8585 of the simulation: a node was to stop and could not, and a group that had lost its node elsewhere
/// meanwhile was placed nowhere until an operator had dealt with that.
#[test]
fn a_stop_that_failed_holds_up_no_other_group() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    let stop = stuck(&mut fixture, N1);
    let token = fixture.token("db", N2).expect("n2 has db");
    let (group, why) = ("db".to_owned(), "its lease was over".to_owned());
    fixture.group(GroupCommand::Released { group, node: N2, token, why, avoid: true });
    fixture.run_events();
    assert_eq!(owners(&fixture)["db"], "n3");
    let current = fixture.state.manager.current.as_ref().map(|it| (it.event.id, it.stage));
    assert_eq!(current, Some((stop, Stage::Error)), "it waits for its operator as before");
}

/// Something stands behind the release of all nodes, which counts for data as well.
fn back(fixture: &mut Fixture, backing: Backing) {
    let members = fixture.state.manager.members.values_mut();
    members.for_each(|member| member.backing = backing);
}

/// A node that dies is not waited for any more, and its failure is none that an operator must see.
#[test]
fn the_death_of_whoever_failed_lets_the_event_go_on() {
    let mut fixture = Fixture::with_groups();
    back(&mut fixture, Backing::Watchdog);
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.begin_event();
    fixture.fail_on(N2, "");
    perform_all(&mut fixture, N3);
    fixture.node_down(N2, "silent");
    assert_eq!(fixture.state.manager.current.as_ref().unwrap().phase, 1);
    fixture.lease_over(N2);
    fixture.run_events();
    assert_eq!(owners(&fixture).into_values().collect::<Vec<_>>(), ["n3", "n3", "n3"]);
}

/// A new director in the middle of a barrier changes nothing: the event is in the state.
#[test]
fn a_change_of_director_does_not_disturb_an_event() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.begin_event();
    perform_all(&mut fixture, N3);
    let before = fixture.state.manager.clone();
    fixture.apply(Command::Office { director: N2, term: 9, continuity: true });
    assert_eq!(fixture.state.manager, before);
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n2");
}

/// A participant that gives no answer has failed, with a word about it.
#[test]
fn silence_is_a_failure() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    let event = fixture.begin_event();
    fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node: N2 });
    let running = fixture.state.manager.current.as_ref().unwrap();
    assert!(running.stage == Stage::Error && running.failed.contains(&N2));
    fixture.manage(ManagerCommand::TooLong { event });
    fixture.manage(ManagerCommand::TooLong { event });
    let long = fixture.records.iter().filter(|r| r.code == Code::EventTooLong);
    assert_eq!(long.count(), 1);
}

/// F3: the agent of a standby is away for longer than a start takes, and a group is to move between others.
#[test]
fn a_node_without_an_agent_is_not_waited_for() {
    let mut fixture = Fixture::with_groups();
    let held = |fixture: &Fixture, node| {
        fixture.state.groups.values().filter(|it| it.instances.contains_key(&node)).count()
    };
    fixture.state.groups.remove("batch");
    fixture.state.definition.groups.retain(|def| def.name != "batch");
    assert_eq!(held(&fixture, N3), 0, "it has nothing");
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N2), until: None });
    let event = fixture.state.manager.queue.first().unwrap().id;
    fixture.manage(ManagerCommand::BeginVote { event });
    agent(&mut fixture, N3, AgentStatus::Initializing);
    for node in [N1, N2] {
        fixture.manage(ManagerCommand::Approve { event, node });
    }
    let stage = |fixture: &Fixture| fixture.state.manager.current.as_ref().unwrap().stage;
    assert_eq!(stage(&fixture), Stage::Voting, "it may be back in a moment");
    fixture.manage(ManagerCommand::Attend { node: N3, attends: false });
    assert_eq!(stage(&fixture), Stage::Running);
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n2");
    assert!(fixture.state.manager.members[&N3].joined, "it is a member still");

    // It starts and dies: nobody counts on it, or gives it anything.
    agent(&mut fixture, N3, AgentStatus::Running);
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N1), until: None });
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n1");
    fixture.manage(ManagerCommand::Attend { node: N3, attends: true });
    let told: Vec<&str> = fixture
        .records
        .iter()
        .filter(|it| it.code == Code::Manager && it.current.is_empty())
        .map(|it| it.message.as_str())
        .collect();
    let (out, back) =
        ("manager of n3 takes no part in events", "manager of n3 takes part in events again");
    assert_eq!(told, [out, back]);
}

/// F3: a node that joins was given up by nobody, however long its agent took to start: its join is not held
/// back, nor done without it.
#[test]
fn a_node_that_has_not_joined_is_not_absent() {
    let mut fixture = Fixture::with_groups();
    agent(&mut fixture, N3, AgentStatus::Down);
    fixture.manage(ManagerCommand::Attend { node: N3, attends: false });
    assert!(fixture.state.manager.members[&N3].absent);
    fixture.node_down(N3, "silent");
    fixture.lease_over(N3);
    fixture.run_events();
    host(&mut fixture, N3, HostStatus::Up);
    agent(&mut fixture, N3, AgentStatus::Initializing);
    fixture.manage(ManagerCommand::Attend { node: N3, attends: false });
    assert!(!fixture.state.manager.members[&N3].absent);
    agent(&mut fixture, N3, AgentStatus::Running);
    fixture.run_events();
    assert!(fixture.state.manager.members[&N3].joined);
}

/// F3: a node that has something of a group is waited for, whatever became of its agent: nobody else can let
/// go of it.
#[test]
fn a_node_that_has_a_group_is_waited_for() {
    let mut fixture = Fixture::with_groups();
    agent(&mut fixture, N1, AgentStatus::Initializing);
    fixture.manage(ManagerCommand::Attend { node: N1, attends: false });
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N2), until: None });
    let event = fixture.state.manager.queue.first().unwrap().id;
    fixture.manage(ManagerCommand::BeginVote { event });
    let running = fixture.state.manager.current.as_ref().unwrap();
    assert!(running.participants.contains(&N1));
    fixture.node_down(N1, "silent");
    assert!(!fixture.state.manager.members[&N1].absent, "its host says what becomes of it");
}

/// T9: in an event that moves nothing of it, such a node is waited for neither in the vote nor in a phase.
#[test]
fn t9_an_absent_node_is_waited_for_where_it_has_to_release_something() {
    for (group, to, waits) in [("db", N3, false), ("web", N2, true)] {
        for voted in [false, true] {
            let mut fixture = Fixture::with_groups();
            agent(&mut fixture, N1, AgentStatus::Initializing);
            let absent = ManagerCommand::Attend { node: N1, attends: false };
            let voters = if voted { vec![N1, N2, N3] } else { vec![N2, N3] };
            if !voted {
                fixture.manage(absent.clone());
            }
            fixture.group(GroupCommand::Move { group: group.into(), to: Some(to), until: None });
            let event = fixture.state.manager.queue.first().unwrap().id;
            fixture.manage(ManagerCommand::BeginVote { event });
            for node in voters {
                fixture.manage(ManagerCommand::Approve { event, node });
            }
            if voted {
                fixture.manage(absent);
            }
            let running = fixture.state.manager.current.as_ref().unwrap();
            assert_eq!(running.stage, Stage::Running, "it has no vote");
            assert_eq!(running.participants.contains(&N1), waits, "{group}, voted: {voted}");
            fixture.run_events();
            assert_eq!(fixture.state.manager.current.is_none(), !waits);
        }
    }
}

/// H21: graceful, its groups go along and nobody takes them; started again, it has them again.
#[test]
fn a_graceful_stop_takes_the_groups_along() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Graceful });
    fixture.run_events();
    assert_eq!(fixture.state.manager.members[&N1].state, ManagerState::Done);
    assert_eq!(owners(&fixture)["web"], "nobody");
    assert_eq!(fixture.state.groups["web"].held_for, Some(N1));
    let mut all = Fixture::with_groups();
    all.manage(ManagerCommand::Stop { nodes: vec![], how: StopMode::Graceful });
    all.run_events();
    let batch = &all.state.groups["batch"];
    assert!(batch.instances.is_empty() && batch.held_for.is_none(), "each node has its own");
    let said = refused(
        &mut fixture,
        Command::Manager(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Graceful }),
    );
    assert_eq!(said.what, "the manager of n1 is stopped already (graceful)");
    assert!(said.met, "who repeats an order has nothing to mend");
    fixture.manage(ManagerCommand::Start { nodes: vec![N1] });
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n1");
    let said = refused(&mut fixture, Command::Manager(ManagerCommand::Start { nodes: vec![N1] }));
    assert_eq!(said.code, "not_stopped");
}

/// H21: graceful with takeover, others take them.
#[test]
fn a_stop_with_takeover_hands_the_groups_over() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    fixture.run_events();
    assert_eq!(fixture.state.manager.members[&N1].state, ManagerState::Done);
    assert_eq!(owners(&fixture)["web"], "n2");
    assert_eq!(ended(&fixture).last().unwrap(), "node_down n1: completed");
}

/// H21: forced, the resources go on, watched by nobody, and the death of the node is no event.
#[test]
fn a_forced_stop_leaves_the_groups_running() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Forced });
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Unmanaged);
    assert_eq!(fixture.state.manager.members[&N1].state, ManagerState::Done);
    host(&mut fixture, N1, HostStatus::Down);
    assert_eq!(fixture.state.manager.queue, []);
    fixture.lease_over(N1);
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Unmanaged);
    returns(&mut fixture, N1);
    assert_eq!(fixture.state.manager.queue, []);
    fixture.manage(ManagerCommand::Start { nodes: Vec::new() });
    fixture.run_events();
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Online);
    assert_eq!(owners(&fixture)["web"], "n1");
}

/// H21: what a forced stop left running is no business of leases: neither an epoch nor a lapse ends it,
/// and it can be taken off as soon as its manager is back.
#[test]
fn what_was_left_running_is_managed_again_before_it_is_released() {
    let mut fixture = Fixture::with_groups();
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Forced });
    let member = &fixture.state.manager.members[&N1];
    let (session, backing, epoch) = (member.session, member.backing, member.epoch + 1);
    let log = member.log;
    fixture.manage(ManagerCommand::Present {
        node: N1,
        session,
        backing,
        watchdog: None,
        reaper: None,
        unreleased: Default::default(),
        epoch,
        voters: 0,
        timing: None,
        log,
    });
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Unmanaged);
    fixture.group(GroupCommand::Offline { group: "web".into() });
    fixture.run_events();
    fixture.manage(ManagerCommand::Start { nodes: Vec::new() });
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "nobody");
}

/// A17: everything is stopped: groups first, then members; what was off before stays off after.
#[test]
fn all_groups_are_off_before_the_first_member_is_done() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Offline { group: "db".into() });
    fixture.run_events();
    fixture.manage(ManagerCommand::Stop { nodes: Vec::new(), how: StopMode::Graceful });
    fixture.run_events();
    let position = |code: Code, current: &str| {
        let known =
            |r: &std::sync::Arc<crate::record::Record>| r.code == code && r.current == current;
        fixture.records.iter().rposition(known).unwrap()
    };
    let done = fixture.records.iter().position(|r| r.current == "done").unwrap();
    assert!(position(Code::Group, "OFFLINE") < done);
    let states = fixture.state.manager.members.values().map(|member| member.state);
    assert!(states.into_iter().all(|state| state == ManagerState::Done));
    fixture.manage(ManagerCommand::Start { nodes: Vec::new() });
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n1");
    assert_eq!(owners(&fixture)["batch"], "n1, n2, n3");
    assert_eq!(owners(&fixture)["db"], "nobody");
}

/// A start from nothing: nobody has joined, and what was owned is cleaned up by its nodes.
#[test]
fn a_cold_start_forgets_managers_and_keeps_instances() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N3, "silent");
    fixture.begin_event();
    fixture.apply(Command::Office { director: N1, term: 5, continuity: false });
    assert!(fixture.state.manager.current.is_none());
    assert!(ended(&fixture).last().unwrap().starts_with("node_down n3: aborted"));
    assert_eq!(fixture.state.manager.joined().count(), 0);
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Unknown);
    let token = fixture.token("web", N1).unwrap();
    let group = "web".to_owned();
    assert!(tasks(&fixture.state, N1).contains(&Task::CleanUp { group, token }));
    for node in [N1, N2, N3] {
        returns(&mut fixture, node);
    }
    fixture.run_events();
    assert_eq!(owners(&fixture)["web"], "n1");
    assert_eq!(fixture.state.manager.joined().count(), 3);
}

/// H27: the adapter of a service address fails where there is a standby that works.
#[test]
fn a_failed_service_adapter_is_swapped_if_there_is_a_standby() {
    let mut fixture = Fixture::with_groups();
    let network = NetworkNumber(1);
    let interface = |fixture: &mut Fixture, to| {
        let change = Change::Interface { node: N1, network, to, cause: "no carrier".into() };
        fixture.apply(Command::Observe { changes: vec![change] });
    };
    interface(&mut fixture, InterfaceStatus::Down);
    let moves = Trigger::GroupMove { group: "web".into() };
    let waiting = |fixture: &Fixture| {
        fixture.state.manager.queue.iter().map(|event| event.trigger.clone()).collect::<Vec<_>>()
    };
    assert_eq!(waiting(&fixture), [moves], "without one, the group goes where it is reached");
    let mut fixture = Fixture::with_groups();
    let address = [10, 91, 1, 1].into();
    fixture.state.definition.standbys =
        vec![crate::definition::Standby { node: N1, network, address }];
    let standby = Trigger::FailStandby { node: N1, network };
    fixture.manage(ManagerCommand::Queue { trigger: standby, cause: "no carrier".into() });
    interface(&mut fixture, InterfaceStatus::Down);
    interface(&mut fixture, InterfaceStatus::Up);
    let standby = Trigger::JoinStandby { node: N1, network };
    fixture.manage(ManagerCommand::Queue { trigger: standby, cause: "carrier".into() });
    interface(&mut fixture, InterfaceStatus::Down);
    let waiting: Vec<&str> =
        fixture.state.manager.queue.iter().map(|event| event.trigger.name()).collect();
    assert_eq!(waiting, ["swap_adapter", "join_standby"]);
}

/// V13: a network that is DOWN takes its interfaces along: one fault, one alert, one event. What does
/// not return with it has failed by itself.
#[test]
fn a_dead_network_is_one_fault() {
    let mut fixture = Fixture::with_groups();
    let network = NetworkNumber(1);
    let address = [10, 91, 1, 1].into();
    fixture.state.definition.standbys =
        vec![crate::definition::Standby { node: N1, network, address }];
    let cause = || "silence".to_owned();
    let own = |fixture: &Fixture, node| fixture.state.nodes[&node].interfaces[&network].clone();
    let jeopardy = |fixture: &Fixture| {
        fixture.state.nodes.values().filter(|node| fixture.state.in_jeopardy(node)).count()
    };
    let seen = fixture.records.len();
    let down = Change::Network { network, to: NetworkStatus::Down, cause: cause() };
    fixture.apply(Command::Observe { changes: vec![down] });
    for node in [N1, N2, N3] {
        let own = own(&fixture, node);
        assert_eq!((own.status, own.with_network), (InterfaceStatus::Down, true), "{node}");
    }
    assert_eq!(jeopardy(&fixture), 3);
    let alerts = |fixture: &Fixture, from: usize| {
        let told = fixture.records[from..].iter().filter(|record| record.alert);
        told.map(|record| record.message.clone()).collect::<Vec<_>>()
    };
    assert_eq!(alerts(&fixture, seen), ["network neta is DOWN"]);
    let waiting = |fixture: &Fixture| {
        fixture.state.manager.queue.iter().map(|e| e.trigger.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(waiting(&fixture), ["network_down"], "no adapter is swapped");

    let seen = fixture.records.len();
    let up = Change::Network { network, to: NetworkStatus::Up, cause: cause() };
    fixture.apply(Command::Observe { changes: vec![up] });
    assert_eq!(own(&fixture, N1).status, InterfaceStatus::Unknown, "nothing is known of it yet");
    let interface = |node, to| Change::Interface { node, network, to, cause: cause() };
    let changes = vec![interface(N2, InterfaceStatus::Up), interface(N3, InterfaceStatus::Up)];
    fixture.apply(Command::Observe { changes });
    assert!(!waiting(&fixture).iter().any(|name| name == "group_move"), "{:?}", waiting(&fixture));
    fixture.apply(Command::Observe { changes: vec![interface(N1, InterfaceStatus::Down)] });
    assert_eq!(alerts(&fixture, seen), ["network neta is UP", "interface n1/neta is DOWN"]);
    assert!(waiting(&fixture).iter().any(|name| name == "swap_adapter"), "{:?}", waiting(&fixture));
    assert_eq!(jeopardy(&fixture), 1);
}

/// Maintenance is on record, and once is enough.
#[test]
fn maintenance_begins_and_ends_once() {
    let mut fixture = Fixture::with_groups();
    for scope in [Scope::Cluster, Scope::Node(N2), Scope::Group("web".into())] {
        let on = |on| ManagerCommand::Maintenance { scope: scope.clone(), on };
        fixture.manage(on(true));
        assert_eq!(refused(&mut fixture, Command::Manager(on(true))).code, "nothing_to_do");
        fixture.manage(on(false));
    }
    let seen = fixture.records.iter().filter(|record| record.code == Code::Maintenance);
    assert_eq!(seen.count(), 6);
}
