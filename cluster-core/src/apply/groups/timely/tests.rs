//! What ends by itself, by virtual time: failures, wishes, and the wait before a group goes home.

use std::time::Duration;

use crate::command::{Command, GroupCommand, Proposal, Tick};
use crate::fixture::Fixture;
use crate::group::{GoesBack, ResourceState, Until};
use crate::id::{CommandId, NodeNumber, Session};
use crate::record::{Code, Subject};
use crate::time::DayWindow;
use crate::trigger::Trigger;

use super::super::super::testing::refused;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

const MINUTE: Duration = Duration::from_secs(60);

fn owner(fixture: &Fixture, group: &str) -> Option<NodeNumber> {
    fixture.state.groups[group].owner()
}

fn fails(fixture: &mut Fixture, node: NodeNumber, restarted: bool) -> u32 {
    let token = fixture.token("web", node).unwrap();
    let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "it is gone".to_owned());
    fixture.group(GroupCommand::Failed { group, node, token, resource, why, restarted });
    let found = fixture.state.groups["web"].fails.iter().find(|fail| fail.node == node);
    found.unwrap().count
}

fn time_passes(fixture: &mut Fixture, time: Duration) {
    fixture.clock = fixture.clock.plus(time);
    fixture.group(GroupCommand::Due);
}

/// R6: failures in place are forgotten once none came for the window, in the first entry behind its end.
#[test]
fn failures_in_place_are_forgotten() {
    let mut fixture = Fixture::with_groups();
    assert_eq!(fixture.state.next_due(), None);
    fails(&mut fixture, N1, true);
    time_passes(&mut fixture, 59 * MINUTE);
    assert_eq!(fails(&mut fixture, N1, true), 2, "within the window they add up");
    let fail = fixture.state.groups["web"].fails[0].clone();
    assert_eq!(fixture.state.restarts_left("web", &fail), 0);
    assert_eq!(fixture.state.failures_end("web", &fail), Some(fail.last.plus(60 * MINUTE)));
    assert_eq!(fixture.state.next_due(), Some(60 * MINUTE));
    time_passes(&mut fixture, 59 * MINUTE);
    assert_eq!(fixture.state.groups["web"].fails.len(), 1);
    time_passes(&mut fixture, MINUTE);
    assert_eq!(fixture.state.groups["web"].fails, []);
    let said = fixture.records.last().unwrap();
    assert_eq!((said.code, said.alert), (Code::FailuresCleared, false));
    assert_eq!(said.message, "failures of httpd on n1 are forgotten");
    assert_eq!(said.cause, "none for 60m");
    assert_eq!(fixture.state.next_due(), None);
}

/// Nobody brought the time along, and the next thing is a failure: it is the first again.
#[test]
fn a_failure_long_after_the_last_is_the_first() {
    let mut fixture = Fixture::with_groups();
    fails(&mut fixture, N1, true);
    fixture.clock = fixture.clock.plus(61 * MINUTE);
    assert_eq!(fails(&mut fixture, N1, true), 1);
}

/// Failures are forgotten on a node that the group left, too, whoever moved it; that the node is avoided, and why,
/// is cleared by an operator.
#[test]
fn failures_are_forgotten_wherever_the_group_is() {
    let mut fixture = Fixture::with_groups();
    fails(&mut fixture, N1, false);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
    let fail = fixture.state.groups["web"].fails[0].clone();
    assert_eq!(fixture.state.failures_end("web", &fail), Some(fail.last.plus(60 * MINUTE)));
    fails(&mut fixture, N2, true);
    fixture.apply(order(N3, None));
    fixture.run_events();
    assert_eq!((owner(&fixture, "web"), fixture.state.groups["web"].fails.len()), (Some(N3), 2));
    time_passes(&mut fixture, 60 * MINUTE);
    let web = &fixture.state.groups["web"];
    assert_eq!((&web.fails[..], fixture.state.next_due()), (&[][..], None));
    assert!(web.avoid.contains(&N1));
    assert_eq!(web.avoid_why[&N1], "httpd failed: it is gone");
}

/// Another director goes on where the last one was, and time in which the whole cluster was away counts.
#[test]
fn a_change_of_director_and_a_restart_forget_nothing_early_or_late() {
    let minute = 60_000_000;
    let mut fixture = Fixture::with_groups();
    let start = fixture.clock;
    let mut index = 1_000_u64;
    let mut apply = |fixture: &mut Fixture, at: i64, run: u64, us: i64, command| {
        index += 1;
        let mut id = [8; 16];
        id[8..].copy_from_slice(&index.to_be_bytes());
        let at = start.plus(Duration::from_micros(u64::try_from(at).unwrap()));
        let us = u64::try_from(us).unwrap();
        let tick = Some(Tick { run: Session(run), us, ahead_us: None });
        let (id, origin, actor) = (CommandId(id), N1, "director".to_owned());
        let proposal = Proposal { id, at, origin, actor, command: Command::Group(command), tick };
        let _applied = fixture.state.apply(index, &proposal);
        fixture.state.groups["web"].fails.len()
    };
    let token = fixture.token("web", N1).unwrap();
    let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "it is gone".to_owned());
    let failed = GroupCommand::Failed { group, node: N1, token, resource, why, restarted: true };
    let due = || GroupCommand::Due;
    apply(&mut fixture, 0, 1, 0, due());
    assert_eq!(apply(&mut fixture, 0, 1, 0, failed), 1);
    assert_eq!(apply(&mut fixture, 30 * minute, 1, 30 * minute, due()), 1);
    // Another director, whose clock began later.
    assert_eq!(apply(&mut fixture, 40 * minute, 2, 7 * minute, due()), 1);
    assert_eq!(fixture.state.next_due(), Some(20 * MINUTE), "what passed before it counts");
    // Nobody was there for an hour.
    assert_eq!(apply(&mut fixture, 100 * minute, 3, 0, due()), 0);
}

/// A clock that is set forgets nothing: the timeline counts.
#[test]
fn a_step_of_the_clock_forgets_nothing() {
    let mut fixture = Fixture::with_groups();
    let apply = |fixture: &mut Fixture, ms: u64, command| {
        let (mut id, run) = ([7; 16], Session(1));
        id[8..].copy_from_slice(&ms.to_be_bytes());
        let at = fixture.clock.plus(if ms > 2 { 600 * MINUTE } else { Duration::ZERO });
        let tick = Some(Tick { run, us: ms * 1_000, ahead_us: None });
        let (id, origin, actor) = (CommandId(id), N1, "director".to_owned());
        let proposal = Proposal { id, at, origin, actor, command: Command::Group(command), tick };
        let _applied = fixture.state.apply(1_000 + ms, &proposal);
    };
    apply(&mut fixture, 1, GroupCommand::Due);
    let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "it is gone".to_owned());
    let token = fixture.token("web", N1).unwrap();
    let restarted = true;
    let failed = GroupCommand::Failed { group, node: N1, token, resource, why, restarted };
    apply(&mut fixture, 2, failed);
    apply(&mut fixture, 3, GroupCommand::Due);
    assert_eq!(fixture.state.groups["web"].fails.len(), 1);
    apply(&mut fixture, 3_600_002, GroupCommand::Due);
    assert_eq!(fixture.state.groups["web"].fails, []);
}

/// A failure that is tolerated is seen at its resource, and is no event, no record and no alert.
#[test]
fn a_tolerated_failure_is_shown_and_changes_nothing() {
    let mut fixture = Fixture::with_groups();
    let told = fixture.records.len();
    let token = fixture.token("web", N1).unwrap();
    let tolerated = |fixture: &mut Fixture, token, count| {
        let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "slow".to_owned());
        let (node, limit) = (N1, 3);
        let seen = GroupCommand::Tolerated { group, node, token, resource, count, limit, why };
        fixture.group(seen);
        let status = &fixture.state.groups["web"].instances[&N1].resources["httpd"];
        (status.state, status.tolerated.as_ref().map(|it| (it.count, it.total)))
    };
    assert_eq!(tolerated(&mut fixture, token + 1, 1), (ResourceState::Online, None));
    assert_eq!(tolerated(&mut fixture, token, 0), (ResourceState::Online, None));
    assert_eq!(tolerated(&mut fixture, token, 1), (ResourceState::Online, Some((1, 1))));
    assert_eq!(tolerated(&mut fixture, token, 2), (ResourceState::Online, Some((2, 2))));
    assert_eq!(tolerated(&mut fixture, token, 0), (ResourceState::Online, Some((0, 2))));
    assert_eq!(tolerated(&mut fixture, token, 1), (ResourceState::Online, Some((1, 3))));
    assert_eq!(fixture.records.len(), told);
    assert_eq!(
        (fixture.state.manager.queue.len(), &fixture.state.groups["web"].fails[..]),
        (0, &[][..])
    );
    let (group, state) = ("web".to_owned(), None);
    let resources = vec![("httpd".to_owned(), ResourceState::Failed, "slow".to_owned())];
    fixture.group(GroupCommand::Progress { group, node: N1, token, state, resources });
    let status = &fixture.state.groups["web"].instances[&N1].resources["httpd"];
    assert_eq!(status.tolerates(), None, "what failed is not tolerated any more");
}

fn order(to: NodeNumber, until: Option<Until>) -> Command {
    Command::Group(GroupCommand::Move { group: "web".into(), to: Some(to), until })
}

/// R6: a wish ends at its time, and the group goes home by its policy.
#[test]
fn a_wish_ends_at_its_time() {
    let mut fixture = Fixture::with_groups();
    let end = fixture.clock.plus(120 * MINUTE);
    fixture.apply(order(N3, Some(Until::At(end))));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N3));
    time_passes(&mut fixture, 119 * MINUTE);
    assert_eq!(fixture.state.groups["web"].preferred, Some(N3));
    let left = fixture.state.next_due().unwrap();
    assert!(left > Duration::ZERO && left <= MINUTE, "{left:?}");
    time_passes(&mut fixture, MINUTE);
    let web = &fixture.state.groups["web"];
    assert_eq!((web.preferred, web.preferred_until), (None, None));
    let said = fixture.records.iter().rfind(|r| r.code == Code::GroupOrdered).unwrap();
    assert_eq!(said.message, "preference of group web for n3 has ended");
    assert_eq!(said.cause, "the time that was set for it is over");
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1));
    assert_eq!(fixture.state.next_due(), None);
}

/// A wish that is fulfilled by the policy is none any more.
#[test]
fn a_wish_ends_when_the_group_is_home() {
    let mut fixture = Fixture::with_groups();
    fixture.apply(order(N3, None));
    fixture.run_events();
    assert_eq!(fixture.state.groups["web"].preferred, Some(N3), "nothing ends it");
    fixture.apply(order(N1, None));
    fixture.run_events();
    let web = &fixture.state.groups["web"];
    assert_eq!((web.owner(), web.preferred), (Some(N1), None));
}

/// Until home: the node that joins ends the wish and gets the group in the same event.
#[test]
fn a_wish_may_last_until_home_is_back() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
    fixture.apply(order(N3, Some(Until::Home)));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N3));
    fixture.returns(N1);
    fixture.run_events();
    let web = &fixture.state.groups["web"];
    assert_eq!((web.owner(), web.preferred), (Some(N1), None));
    let last = fixture.state.manager.recent.back().unwrap();
    assert_eq!(last.event.trigger, Trigger::NodeUp(N1), "there is no second event");
}

#[test]
fn an_end_that_cannot_be_one_is_refused() {
    let mut fixture = Fixture::with_groups();
    let now = fixture.clock;
    assert_eq!(refused(&mut fixture, order(N3, Some(Until::At(now)))).code, "until_is_over");
    let (group, to, until) = ("db".to_owned(), Some(N3), Some(Until::Home));
    let home = Command::Group(GroupCommand::Move { group, to, until });
    assert_eq!(refused(&mut fixture, home).code, "no_home");
}

/// `web` is on n2, and n1, its home, comes back; it goes there after a delay, in a part of the day.
fn comes_home(delay: Duration, window: Option<&str>) -> Fixture {
    let mut fixture = Fixture::with_groups();
    let web = &mut fixture.state.definition.groups[0];
    web.fallback_delay_ms = u64::try_from(delay.as_millis()).unwrap();
    web.fallback_window = window.map(|text| DayWindow::parse(text).unwrap());
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.run_events();
    fixture.returns(N1);
    fixture.run_events();
    fixture
}

#[test]
fn a_group_goes_home_after_its_delay() {
    let mut fixture = comes_home(10 * MINUTE, None);
    let joined = fixture.state.manager.members[&N1].joined_at;
    let at = joined.plus(10 * MINUTE);
    let web = &fixture.state.groups["web"];
    assert_eq!((web.owner(), web.goes_back), (Some(N2), Some(GoesBack { to: N1, at })));
    time_passes(&mut fixture, 9 * MINUTE);
    fixture.run_events();
    assert_eq!(fixture.state.groups["web"].goes_back, Some(GoesBack { to: N1, at }));
    let left = fixture.state.next_due().unwrap();
    assert!(left > Duration::ZERO && left <= MINUTE, "{left:?}");
    time_passes(&mut fixture, MINUTE);
    fixture.run_events();
    let web = &fixture.state.groups["web"];
    assert_eq!((web.owner(), web.goes_back), (Some(N1), None));
    assert_eq!((web.failbacks, fixture.state.next_due()), (1, None));
}

/// A home that goes away again was not gone back to, and its delay begins anew.
#[test]
fn a_home_that_comes_and_goes_is_not_gone_back_to() {
    let mut fixture = comes_home(10 * MINUTE, None);
    time_passes(&mut fixture, 9 * MINUTE);
    fixture.node_down(N1, "silent");
    fixture.run_events();
    assert_eq!(fixture.state.groups["web"].goes_back, None);
    fixture.returns(N1);
    fixture.run_events();
    time_passes(&mut fixture, 9 * MINUTE);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
    time_passes(&mut fixture, MINUTE);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1));
}

/// The delay is about going back: a group whose node dies goes home at once.
#[test]
fn a_delay_never_keeps_a_group_off() {
    let mut fixture = comes_home(10 * MINUTE, Some("02:00-02:01"));
    fixture.node_down(N2, "silent");
    fixture.lease_over(N2);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1));
}

#[test]
fn a_group_goes_home_in_its_window() {
    // The clock shows noon.
    let mut fixture = comes_home(Duration::ZERO, Some("22:00-04:00"));
    let planned = fixture.state.groups["web"].goes_back.unwrap();
    assert!(planned.at.to_string().ends_with("T22:00:00.000Z"), "{}", planned.at);
    time_passes(&mut fixture, 9 * 60 * MINUTE);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
    time_passes(&mut fixture, 60 * MINUTE);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1));
    let mut fixture = comes_home(Duration::ZERO, Some("11:00-13:00"));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1), "it is open");
}

/// `web` fails over once more, and its home is back.
fn fails_over(fixture: &mut Fixture) -> Vec<String> {
    let told = fixture.records.len();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.run_events();
    fixture.returns(N1);
    fixture.run_events();
    assert_eq!(owner(fixture, "web"), Some(N1));
    let of_group = |record: &&std::sync::Arc<crate::record::Record>| {
        record.alert && matches!(record.subject, Subject::Group(_) | Subject::Resource(..))
    };
    fixture.records[told..].iter().filter(of_group).map(|record| record.message.clone()).collect()
}

/// A resource fails and is restarted in place; answers whether that alerts, which it does once.
fn failure_alerts(fixture: &mut Fixture) -> bool {
    let told = fixture.records.len();
    let token = fixture.token("web", N1).unwrap();
    let is = |fixture: &mut Fixture, state| {
        let (group, resources) = ("web".to_owned(), vec![("httpd".into(), state, String::new())]);
        fixture.group(GroupCommand::Progress { group, node: N1, token, state: None, resources });
    };
    is(fixture, ResourceState::Failed);
    let at_once = fixture.records[told..].iter().filter(|record| record.alert).count();
    is(fixture, ResourceState::Starting);
    is(fixture, ResourceState::Online);
    fails(fixture, N1, true);
    let alerts = fixture.records[told..].iter().filter(|record| record.alert).count();
    assert_eq!(alerts, at_once, "that it works again alerts nobody");
    alerts == 1
}

/// F10: again and again is one alert and its end, whatever happens to the group in between.
#[test]
fn a_group_that_flaps_is_one_alert() {
    let mut fixture = Fixture::with_groups();
    for _ in 0..2 {
        fails_over(&mut fixture);
        assert_eq!(fixture.state.groups["web"].flapping, None);
        time_passes(&mut fixture, 10 * MINUTE);
    }
    assert_eq!(fails_over(&mut fixture).last().unwrap(), "group web fails over again and again");
    assert!(fixture.state.groups["web"].flapping.is_some());
    time_passes(&mut fixture, 59 * MINUTE);
    assert_eq!(fails_over(&mut fixture), [""; 0], "it was told");
    assert!(!failure_alerts(&mut fixture), "nor is this told again");
    time_passes(&mut fixture, 59 * MINUTE);
    assert!(fixture.state.groups["web"].flapping.is_some(), "it counts from the last one");
    time_passes(&mut fixture, MINUTE);
    assert_eq!(fixture.state.groups["web"].flapping, None);
    let end = fixture.records.iter().rfind(|r| r.code == Code::GroupFlapping).unwrap();
    assert!(end.alert && end.message == "group web is steady again", "{end}");
    assert!(failure_alerts(&mut fixture), "a failure is news again");
}

/// An operator moves `web` to and fro, as he may in the middle of anything.
fn is_moved(fixture: &mut Fixture, to: NodeNumber) {
    fixture.apply(order(to, None));
    fixture.run_events();
    assert_eq!(owner(fixture, "web"), Some(to));
}

/// F10: what an operator orders, and what follows from it or from a return, is no failover, whatever else is the
/// matter meanwhile.
#[test]
fn what_is_planned_does_not_flap() {
    let mut fixture = Fixture::with_groups();
    for _ in 0..3 {
        is_moved(&mut fixture, N2);
        is_moved(&mut fixture, N1);
    }
    // A node dies while the order waits, so the group is released in an event that is about a failure.
    for (from, to) in [(N1, N2), (N2, N1), (N1, N2), (N2, N1)] {
        fixture.node_down(N3, "silent");
        fixture.apply(order(to, None));
        let token = fixture.token("web", from).unwrap();
        let event = fixture.state.manager.next().map(|event| event.id).unwrap();
        fixture.manage(crate::command::ManagerCommand::BeginVote { event });
        let state = Some(crate::group::GroupState::Releasing);
        let (group, resources) = ("web".to_owned(), Vec::new());
        fixture.group(GroupCommand::Progress { group, node: from, token, state, resources });
        fixture.lease_over(N3);
        fixture.run_events();
        assert_eq!(owner(&fixture, "web"), Some(to));
        fixture.returns(N3);
        fixture.run_events();
    }
    // Nobody runs any event that is about the group: it is released all the same.
    let (wish, token) = (fixture.state.groups["web"].preferred, fixture.token("web", N1));
    fixture.state.groups.get_mut("web").unwrap().preferred = Some(N3);
    let (group, resources) = ("web".to_owned(), Vec::new());
    let (node, token) = (N1, token.unwrap());
    let state = Some(crate::group::GroupState::Releasing);
    fixture.group(GroupCommand::Progress { group, node, token, state, resources });
    fixture.run_events();
    fixture.state.groups.get_mut("web").unwrap().preferred = wish;
    let how = crate::trigger::StopMode::Takeover;
    for node in [N1, N2, N3] {
        fixture.manage(crate::command::ManagerCommand::Stop { nodes: vec![node], how });
        fixture.run_events();
        fixture.manage(crate::command::ManagerCommand::Start { nodes: vec![node] });
        fixture.run_events();
    }
    let web = &fixture.state.groups["web"];
    assert_eq!((web.failovers, web.flapping), (0, None));
    assert!(web.moves >= 10, "{} moves", web.moves);
}

/// F10: an operator who has seen to it ends it, with the record that clears the alert.
#[test]
fn an_operator_ends_flapping() {
    let mut fixture = Fixture::with_groups();
    for _ in 0..3 {
        fails_over(&mut fixture);
    }
    assert!(fixture.state.groups["web"].flapping.is_some());
    let (group, node) = ("web".to_owned(), None);
    fixture.group(GroupCommand::Clear { group, node });
    let web = &fixture.state.groups["web"];
    assert_eq!((web.flapping, web.failed_over_ms.len()), (None, 0));
    let end = fixture.records.iter().rfind(|r| r.code == Code::GroupFlapping).unwrap();
    assert_eq!((end.alert, end.message.as_str()), (true, "group web is steady again"));
    assert_eq!(end.cause, "an operator cleared its failures");
    assert!(failure_alerts(&mut fixture), "a failure is news again");
    fails_over(&mut fixture);
    assert_eq!(fixture.state.groups["web"].flapping, None, "they count anew");
}

/// Failovers that are far apart, moves and returns are none of it; nor is any where it is switched off.
#[test]
fn what_is_far_apart_does_not_flap() {
    let mut fixture = Fixture::with_groups();
    for _ in 0..6 {
        fails_over(&mut fixture);
        time_passes(&mut fixture, 31 * MINUTE);
        assert_eq!(fixture.state.groups["web"].flapping, None);
    }
    fixture.state.definition.manager.flap_failovers = 0;
    for _ in 0..6 {
        fails_over(&mut fixture);
    }
    assert_eq!(fixture.state.groups["web"].flapping, None);
}
