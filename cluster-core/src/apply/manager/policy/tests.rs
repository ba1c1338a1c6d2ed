//! A site's own event that fails, hangs or is slow: what becomes of it, and that nobody else waits for it.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::{Command, GroupCommand, ManagerCommand};
use crate::definition::{Hooks, OnFailure};
use crate::event::{CommandOutcome, Stage};
use crate::fixture::{Fixture, exited, succeeded};
use crate::id::NodeNumber;
use crate::model::Severity;
use crate::record::Code;
use crate::trigger::Trigger;
use crate::work::{Task, tasks};

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

const RULE: &str = "UE_FULL\n0\n/site/full.rp\n2\n0\nfs.used_percent\nNodeNum=*\nX>90\nX<80\n";
const PROGRAM: &str = "event \"/site/clean\" 0 NULL\nbarrier\nall \"/site/tell\" 0 NULL\n";

/// A cluster with a rule of its own that has just fired on n2, whose program runs.
fn fired(on_failure: OnFailure, time_limit_ms: Option<u64>) -> Fixture {
    let mut fixture = Fixture::with_groups();
    let programs = BTreeMap::from([("/site/full.rp".to_owned(), PROGRAM.to_owned())]);
    let (text, comment) = (RULE.to_owned(), String::new());
    fixture.apply(Command::SaveRules { text, programs, comment, based_on: 0 });
    let hooks = Hooks { on_failure, time_limit_ms, ..Hooks::default() };
    fixture.state.definition.hooks.insert("UE_FULL".into(), hooks);
    let trigger = Trigger::User {
        rule: "UE_FULL".into(),
        node: N2,
        instance: "NodeNum=2;MountPoint=/".into(),
        value: "95".into(),
    };
    fixture.manage(ManagerCommand::Queue { trigger, cause: "it is full".into() });
    let event = fixture.state.manager.queue[0].id;
    fixture.manage(ManagerCommand::BeginVote { event });
    for node in [N1, N2, N3] {
        fixture.manage(ManagerCommand::Approve { event, node });
    }
    fixture
}

/// Its command on n2 ends.
fn ends(fixture: &mut Fixture, status: i32) {
    let running = fixture.state.manager.begun().find(|it| it.event.trigger.name() == "UE_FULL");
    let (event, phase, attempt) = running.map(|it| (it.event.id, it.phase, it.attempt)).unwrap();
    let outcome = match status {
        0 => succeeded(0, "/site/clean".into()),
        _ => CommandOutcome {
            index: 0,
            command: "/site/clean".into(),
            expected: false,
            runs: 1,
            outcome: exited(status, "no such file\n"),
        },
    };
    let outcomes = vec![outcome];
    fixture.manage(ManagerCommand::Ran { event, phase, attempt, node: N2, outcomes });
}

fn time_passes(fixture: &mut Fixture, time: Duration) {
    fixture.clock = fixture.clock.plus(time);
    fixture.group(GroupCommand::Due);
}

fn how(fixture: &Fixture) -> Vec<&str> {
    let recent = fixture.state.manager.recent.iter();
    let own = recent.filter(|ended| ended.event.trigger.name() == "UE_FULL");
    own.map(|ended| ended.how.as_str()).collect()
}

fn failure(fixture: &Fixture) -> (Severity, String) {
    let found = fixture.records.iter().rfind(|record| record.code == Code::EventFailed);
    let record = found.expect("it is told");
    assert!(record.alert, "somebody is told in any case");
    (record.severity, record.message.clone())
}

/// T9: without a word from the site it waits for an operator, as ever.
#[test]
fn t9_by_default_it_waits_for_an_operator() {
    let mut fixture = fired(OnFailure::Wait, None);
    ends(&mut fixture, 5);
    let running = fixture.state.manager.current.as_ref().expect("it waits");
    assert!(running.is_stuck());
    let (severity, message) = failure(&fixture);
    assert_eq!(severity, Severity::Error);
    assert!(message.contains("vedette recover retry, skip or abort --event "), "{message}");
}

/// T9: what failed is skipped, and the rest of the program runs.
#[test]
fn t9_skip_goes_on() {
    let mut fixture = fired(OnFailure::Skip, None);
    ends(&mut fixture, 5);
    let running = fixture.state.manager.current.as_ref().expect("it goes on");
    assert_eq!((running.phase, running.stage), (1, Stage::Running));
    let (severity, message) = failure(&fixture);
    assert_eq!(severity, Severity::Warning);
    assert!(message.ends_with("the event goes on without it, as its on_failure says"), "{message}");
    fixture.run_events();
    assert_eq!(how(&fixture), ["completed after skip"]);
}

/// T9: the event ends, and nothing needs an operator.
#[test]
fn t9_abort_ends_it() {
    let mut fixture = fired(OnFailure::Abort, None);
    ends(&mut fixture, 5);
    assert_eq!(how(&fixture), ["aborted: a command failed"]);
    assert!(fixture.state.manager.failed().next().is_none());
}

/// T9: one that hangs is over when its time is; its commands are nobody's task any more.
#[test]
fn t9_a_time_limit_ends_it() {
    for (policy, wanted) in [
        (OnFailure::Abort, "aborted: its time limit is over"),
        (OnFailure::Skip, "aborted: its time limit is over"),
    ] {
        let mut fixture = fired(policy, Some(120_000));
        assert_eq!(fixture.state.next_due(), Some(Duration::from_secs(120)));
        time_passes(&mut fixture, Duration::from_secs(119));
        assert!(tasks(&fixture.state, N2).iter().any(|task| matches!(task, Task::Run { .. })));
        time_passes(&mut fixture, Duration::from_secs(1));
        assert_eq!(how(&fixture), [wanted]);
        assert_eq!((tasks(&fixture.state, N2), fixture.state.next_due()), (vec![], None));
        let (_, message) = failure(&fixture);
        assert!(message.contains("longer than its time limit of 2m; it ends"), "{message}");
    }
}

/// T9: with a limit and nothing else said it waits for an operator, whose retry has the whole time again.
#[test]
fn t9_a_time_limit_without_a_policy_waits() {
    let mut fixture = fired(OnFailure::Wait, Some(60_000));
    time_passes(&mut fixture, Duration::from_secs(61));
    let running = fixture.state.manager.current.clone().expect("it waits");
    assert!(running.is_stuck() && running.overran);
    assert_eq!(fixture.state.next_due(), None);
    let (event, action) = (running.event.id, crate::event::RecoverAction::Retry);
    fixture.manage(ManagerCommand::Recover { event, action });
    assert_eq!(fixture.state.next_due(), Some(Duration::from_secs(60)));
    ends(&mut fixture, 0);
    fixture.run_events();
    assert_eq!(how(&fixture), ["completed"]);
}

/// T9, R7: a node dies while a program of the site runs: its groups are taken over at once. The program runs on
/// meanwhile, and its event goes on beside.
#[test]
fn t9_a_death_waits_for_no_program_of_the_site() {
    let mut fixture = fired(OnFailure::Wait, None);
    fixture.node_down(N3, "silent");
    fixture.lease_over(N3);
    let next = fixture.state.manager.next().map(|event| event.trigger.clone());
    assert_eq!(next, Some(Trigger::NodeDown { node: N3, stop: None }));
    let event = fixture.state.manager.next().map(|event| event.id).unwrap();
    fixture.manage(ManagerCommand::BeginVote { event });
    assert_eq!(fixture.state.manager.aside.len(), 1);
    assert!(fixture.state.manager.failed().next().is_none(), "what runs on has not failed");
    let runs = |task: &Task| matches!(task, Task::Run { phase: 0, .. });
    assert!(tasks(&fixture.state, N2).iter().any(runs), "its command is not killed");
    for node in [N1, N2] {
        fixture.manage(ManagerCommand::Approve { event, node });
    }
    // The answer comes while the other event is in progress.
    ends(&mut fixture, 0);
    assert_eq!(fixture.state.manager.aside[0].phase, 1, "it goes on where it is");
    fixture.run_events();
    assert_eq!(how(&fixture), ["completed"]);
    let said = fixture.records.iter().find(|record| record.message.contains("steps aside for"));
    let why = "its commands run on: nothing else waits for them";
    assert_eq!(said.map(|record| record.cause.as_str()), Some(why));
}

/// Whether the command of the first phase is still to be run on n2.
fn runs(fixture: &Fixture, event: u64) -> bool {
    let its = |task: &Task| matches!(task, Task::Run { event: it, phase: 0, .. } if *it == event);
    tasks(&fixture.state, N2).iter().any(its)
}

/// The event that began last.
fn begun(fixture: &Fixture) -> u64 {
    let manager = &fixture.state.manager;
    manager.begun().map(|it| it.event.id).max().expect("an event that began")
}

/// Begins the next event and has everybody approve it.
fn begin_next(fixture: &mut Fixture) -> u64 {
    let event = fixture.state.manager.next().map(|event| event.id).expect("one may begin");
    fixture.manage(ManagerCommand::BeginVote { event });
    for node in [N1, N2, N3] {
        fixture.manage(ManagerCommand::Approve { event, node });
    }
    event
}

/// A node does all that is asked of it but its command of one event.
fn perform_but(fixture: &mut Fixture, node: NodeNumber, hangs: u64) {
    for task in tasks(&fixture.state, node) {
        if !matches!(task, Task::Run { event, .. } if event == hangs) {
            fixture.perform(node, task);
        }
    }
}

/// The command of an event on n2 ends well.
fn answers(fixture: &mut Fixture, event: u64) {
    let outcomes = vec![succeeded(0, "/site/clean".into())];
    let (phase, attempt, node) = (0, 0, N2);
    fixture.manage(ManagerCommand::Ran { event, phase, attempt, node, outcomes });
}

fn fires_at(fixture: &mut Fixture, mount: &str) {
    let trigger = Trigger::User {
        rule: "UE_FULL".into(),
        node: N2,
        instance: format!("NodeNum=2;MountPoint={mount}"),
        value: "95".into(),
    };
    fixture.manage(ManagerCommand::Queue { trigger, cause: "it is full".into() });
}

fn abort(fixture: &mut Fixture, event: u64) {
    let action = crate::event::RecoverAction::Abort;
    fixture.manage(ManagerCommand::Recover { event, action });
}

/// T9: an operator's orders wait for no program of the site, which runs on meanwhile.
#[test]
fn t9_what_is_ordered_goes_on_beside_it() {
    let mut fixture = fired(OnFailure::Wait, None);
    let hangs = begun(&fixture);
    let to = Some(N3);
    for (order, owner) in [
        (GroupCommand::Move { group: "db".into(), to, until: None }, to),
        (GroupCommand::Offline { group: "db".into() }, None),
        (GroupCommand::Online { group: "db".into() }, Some(N2)),
    ] {
        fixture.group(order);
        let event = begin_next(&mut fixture);
        assert!(runs(&fixture, hangs), "it is not killed");
        while fixture.state.manager.begun().any(|it| it.event.id == event) {
            for node in [N1, N2, N3] {
                perform_but(&mut fixture, node, hangs);
            }
        }
        assert!(runs(&fixture, hangs), "it is in progress again");
        assert_eq!(fixture.state.groups["db"].owner(), owner);
    }
    assert!(how(&fixture).is_empty());
    fixture
        .manage(ManagerCommand::Stop { nodes: vec![N3], how: crate::trigger::StopMode::Takeover });
    let next = fixture.state.manager.next().map(|event| event.trigger.name().to_owned());
    assert_eq!(next.as_deref(), Some("node_down"));
}

/// T9: one that hangs holds up no other, which comes to its end; the same trouble waits for it, and so does what
/// would be too much at once.
#[test]
fn t9_user_events_go_on_beside_each_other() {
    let mut fixture = fired(OnFailure::Wait, None);
    let hangs = begun(&fixture);
    fires_at(&mut fixture, "/var");
    fires_at(&mut fixture, "/home");
    let other = begin_next(&mut fixture);
    begin_next(&mut fixture);
    assert!(runs(&fixture, hangs) && runs(&fixture, other));
    assert_eq!(fixture.state.manager.aside.len(), 2);
    answers(&mut fixture, other);
    let goes_on = fixture.state.manager.begun().find(|it| it.event.id == other);
    assert_eq!(goes_on.map(|it| it.phase), Some(1), "who can go on does, though others hang");
    let rule = "UE_FULL".into();
    fixture.manage(ManagerCommand::Rearm {
        rule,
        instance: "NodeNum=2;MountPoint=/".into(),
        value: "70".into(),
    });
    fires_at(&mut fixture, "/");
    assert_eq!(fixture.state.manager.next(), None, "the first one about / is not over");
    for mount in 0..20 {
        fires_at(&mut fixture, &format!("/{mount}"));
    }
    while fixture.state.manager.next().is_some() {
        begin_next(&mut fixture);
    }
    let manager = &fixture.state.manager;
    assert_eq!(manager.begun().count(), crate::event::Manager::SIDE_BY_SIDE);
    assert!(manager.queue.len() > 10);
}

/// T9: an operator ends one at once, wherever it is; its commands are nobody's task any more, and what else is in
/// progress goes on.
#[test]
fn t9_an_operator_ends_one_at_once() {
    let mut fixture = fired(OnFailure::Wait, None);
    let hangs = begun(&fixture);
    abort(&mut fixture, hangs);
    assert_eq!((how(&fixture), tasks(&fixture.state, N2)), (vec!["aborted"], vec![]));
    let said = fixture.records.iter().rfind(|it| it.code == Code::EventRecovered).unwrap();
    assert_eq!(said.cause, "its commands still ran on n2, and are ended");
    fires_at(&mut fixture, "/var");
    let aside = begin_next(&mut fixture);
    fires_at(&mut fixture, "/home");
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    let ordered = begin_next(&mut fixture);
    abort(&mut fixture, aside);
    assert!(!runs(&fixture, aside));
    assert_eq!(fixture.state.manager.current.as_ref().map(|it| it.event.id), Some(ordered));
    let waits = fixture.state.manager.queue[0].id;
    abort(&mut fixture, waits);
    assert_eq!(how(&fixture), ["aborted"; 3]);
    fixture.run_events();
    assert_eq!(fixture.state.groups["db"].owner(), Some(N3));
}

/// T9, H19: one that hangs aside is told of, too.
#[test]
fn t9_what_hangs_aside_is_told() {
    let mut fixture = fired(OnFailure::Wait, None);
    let hangs = begun(&fixture);
    fires_at(&mut fixture, "/var");
    begin_next(&mut fixture);
    fixture.manage(ManagerCommand::TooLong { event: hangs });
    assert!(fixture.records.iter().any(|it| it.code == Code::EventTooLong && it.alert));
    let (phase, attempt, node) = (0, 0, N2);
    fixture.manage(ManagerCommand::Expire { event: hangs, phase, attempt, node });
    let failed: Vec<u64> = fixture.state.manager.failed().map(|it| it.event.id).collect();
    assert_eq!(failed, [hangs]);
}

/// T9: it hangs aside while another event is in progress, and its time is over then.
#[test]
fn t9_a_time_limit_holds_aside_too() {
    let mut fixture = fired(OnFailure::Abort, Some(30_000));
    fixture.node_down(N3, "silent");
    fixture.lease_over(N3);
    let event = fixture.state.manager.next().map(|event| event.id).unwrap();
    fixture.manage(ManagerCommand::BeginVote { event });
    time_passes(&mut fixture, Duration::from_secs(31));
    assert!(tasks(&fixture.state, N2).iter().all(|task| matches!(task, Task::Approve { .. })));
    fixture.run_events();
    assert_eq!(how(&fixture), ["aborted: its time limit is over"]);
}
