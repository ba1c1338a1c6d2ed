//! Groups: one owner, evidence, failures, orders; and what holds whatever comes.

use std::collections::BTreeMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::command::{Change, Command, GroupCommand, ManagerCommand, Proposal, Scope};
use crate::definition::FenceDef;
use crate::event::{CommandOutcome, RecoverAction};
use crate::fixture::{Fixture, definition, exited};
use crate::group::{GroupState, Policy, ResourceState};
use crate::id::{CommandId, NetworkNumber, NodeNumber, Session};
use crate::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus, Timing};
use crate::record::Code;
use crate::state::ClusterState;
use crate::takeover::{Backing, LetGo, Remains};
use crate::trigger::{StopMode, Trigger};
use crate::work::{self, Admission, Task, tasks};

use super::super::testing::refused;

const N1: NodeNumber = NodeNumber(1);
const N2: NodeNumber = NodeNumber(2);
const N3: NodeNumber = NodeNumber(3);

fn owner(fixture: &Fixture, group: &str) -> Option<NodeNumber> {
    fixture.state.groups[group].owner()
}

fn released(fixture: &mut Fixture, group: &str, node: NodeNumber, avoid: bool) {
    let token = fixture.token(group, node).unwrap();
    let (group, why) = (group.to_owned(), "it did not start".to_owned());
    fixture.group(GroupCommand::Released { group, node, token, why, avoid });
}

fn progress(fixture: &mut Fixture, group: &str, node: NodeNumber, to: GroupState) {
    let token = fixture.token(group, node).unwrap();
    let (group, state, resources) = (group.to_owned(), Some(to), Vec::new());
    fixture.group(GroupCommand::Progress { group, node, token, state, resources });
}

fn begin(fixture: &mut Fixture) {
    fixture.work();
    fixture.work();
}

/// Invariant 8: there is one way to make an instance, and it makes no second one.
#[test]
fn an_exclusive_group_never_has_a_second_instance() {
    let mut fixture = Fixture::with_groups();
    let at = fixture.clock;
    assert!(!fixture.state.insert_instance("web", N2, 99, at));
    assert!(!fixture.state.insert_instance("batch", N2, 99, at));
    assert!(!fixture.state.insert_instance("nothing", N2, 99, at));
    fixture.state.end_instance("web", N1);
    assert!(fixture.state.insert_instance("web", N2, 99, at));
    assert!(!fixture.state.insert_instance("web", N1, 100, at));
}

/// A report with another token is about something that is over.
#[test]
fn reports_of_before_change_nothing() {
    let mut fixture = Fixture::with_groups();
    let (group, why) = ("web".to_owned(), String::new());
    let token = fixture.token("web", N1).unwrap() + 1;
    let before = fixture.state.groups.clone();
    fixture.group(GroupCommand::Released { group, node: N1, token, why, avoid: true });
    assert_eq!(fixture.state.groups, before);
}

/// A6: who holds groups is not deleted; A7: deleted, it may come again at once.
#[test]
fn a_node_that_holds_groups_is_not_deleted() {
    let mut fixture = Fixture::with_groups();
    let said = refused(&mut fixture, Command::RemoveNode { node: N1 });
    assert_eq!(said.what, "n1 cannot be deleted while it holds batch, web");
    fixture.manage(ManagerCommand::Stop { nodes: vec![N1], how: StopMode::Takeover });
    fixture.run_events();
    fixture.apply(Command::RemoveNode { node: N1 });
    assert_eq!(owner(&fixture, "web"), Some(N2));
    assert!(!fixture.state.manager.members.contains_key(&N1));
    let hash = crate::id::Hash([1; 32]);
    let expires_at = fixture.clock.plus(Duration::from_secs(60));
    let name = "n1".to_owned();
    fixture.apply(Command::IssueToken { hash, name, number: N1, expires_at });
}

/// A group that one node cannot acquire goes to the next; when none is left, it waits for an
/// operator, with an alert.
#[test]
fn a_group_that_nobody_can_acquire_is_blocked() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(N1, "silent");
    begin(&mut fixture);
    fixture.lease_over(N1);
    released(&mut fixture, "web", N2, true);
    assert_eq!(owner(&fixture, "web"), None);
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N3));
    let moved = fixture.state.manager.recent.back().unwrap();
    assert_eq!(moved.event.trigger, Trigger::GroupMove { group: "web".into() });
    let token = fixture.token("web", N3).unwrap();
    let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "it is gone".to_owned());
    let restarted = false;
    fixture.group(GroupCommand::Failed { group, node: N3, token, resource, why, restarted });
    fixture.run_events();
    let web = &fixture.state.groups["web"];
    assert_eq!((web.state(), web.owner()), (GroupState::Error, None));
    let alert = fixture.records.iter().rfind(|r| r.code == Code::Group).unwrap();
    assert!(alert.alert && alert.cause.starts_with("none of n2, n3 could acquire it"), "{alert}");
    fixture.group(GroupCommand::Clear { group: "web".into(), node: None });
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
}

/// Nodes on which nothing failed, but which did not come to it when the group was moved last, are tried
/// again when nobody else is left; once, until the group was online again.
#[test]
fn who_was_passed_over_gets_a_second_chance() {
    for chance in [true, false] {
        let mut fixture = Fixture::with_groups();
        let web = fixture.state.groups.get_mut("web").unwrap();
        (web.avoid, web.passed_over) = ([N2, N3].into(), [N2, N3].into());
        web.second_chance = chance;
        fixture.node_down(N1, "silent");
        fixture.lease_over(N1);
        fixture.run_events();
        let web = &fixture.state.groups["web"];
        assert_eq!(web.owner(), chance.then_some(N2));
        assert_eq!(web.blocked.is_some(), !chance);
    }
}

/// A resource that was restarted in place is counted and does not move its group.
#[test]
fn a_restart_in_place_is_counted() {
    let mut fixture = Fixture::with_groups();
    for count in 1..=2 {
        let token = fixture.token("web", N1).unwrap();
        let (group, resource) = ("web".to_owned(), "httpd".to_owned());
        let why = "it is gone".to_owned();
        let restarted = true;
        fixture.group(GroupCommand::Failed { group, node: N1, token, resource, why, restarted });
        assert_eq!(fixture.state.groups["web"].fails[0].count, count);
    }
    assert_eq!(fixture.state.manager.queue, []);
    let group = "db".to_owned();
    let clear = Command::Group(GroupCommand::Clear { group, node: None });
    assert_eq!(refused(&mut fixture, clear).code, "nothing_to_do");
    fixture.group(GroupCommand::Clear { group: "web".into(), node: Some(N1) });
    assert_eq!(fixture.state.groups["web"].fails, []);
}

/// A resource fails, its group moves: one incident, and it begins with the failure.
#[test]
fn a_failure_that_moves_a_group_begins_its_incident() {
    let mut fixture = Fixture::with_groups();
    let told = fixture.records.len();
    let token = fixture.token("web", N1).unwrap();
    let (group, resource, why) = ("web".to_owned(), "httpd".to_owned(), "it is gone".to_owned());
    let restarted = false;
    fixture.group(GroupCommand::Failed { group, node: N1, token, resource, why, restarted });
    fixture.run_events();
    let story = &fixture.records[told..];
    let codes: Vec<Code> = story.iter().take(3).map(|record| record.code).collect();
    assert_eq!(codes, [Code::ResourceFailed, Code::Resource, Code::EventQueued]);
    let of_story = story.iter().filter(|record| record.incident == Some(story[0].index));
    assert!(of_story.count() > 10 && owner(&fixture, "web") == Some(N2));
}

/// A node lets go of a group by itself, and turns out to be DOWN before another has it: one incident,
/// from the loss to the takeover.
#[test]
fn a_loss_and_the_death_behind_it_are_one_incident() {
    let mut fixture = Fixture::with_groups();
    let told = fixture.records.len();
    let (token, group) = (fixture.token("web", N1).unwrap(), "web".to_owned());
    let why = "its guard is gone".to_owned();
    fixture.group(GroupCommand::Released { group, node: N1, token, why, avoid: false });
    let lost = fixture.state.groups["web"].lost;
    assert!(lost.is_some());
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    fixture.run_events();
    assert_eq!((owner(&fixture, "web"), fixture.state.groups["web"].lost), (Some(N2), None));
    let story = fixture.records[told..].iter();
    let of_it = story.filter(|it| it.subject_name == "web" || it.code == Code::NodeHost);
    let incidents: Vec<_> = of_it.map(|record| record.incident).collect();
    assert!(incidents.iter().all(|incident| *incident == lost), "{lost:?}: {incidents:?}");
}

/// An event brings a group to a node, and the configuration loses the group meanwhile: there is nothing
/// to acquire, and no reason to fail.
#[test]
fn what_is_configured_no_more_is_not_acquired() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N3), until: None });
    begin(&mut fixture);
    assert!(!matches!(work::admission(&fixture.state, "web", N3), Admission::Elsewhere(_)));
    fixture.state.definition.groups.retain(|group| group.name != "web");
    assert!(matches!(work::admission(&fixture.state, "web", N3), Admission::Elsewhere(_)));
}

/// While an event waits for an operator, what a node loses belongs to the incident of that node, and is
/// no step of the event: else the incident would last until an event ends that is not its own.
#[test]
fn what_a_lost_node_had_is_no_step_of_another_event() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    begin(&mut fixture);
    let event = fixture.state.manager.current.as_ref().unwrap().event.id;
    fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node: N2 });
    let told = fixture.records.len();
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    let incident = fixture.state.nodes[&N1].incident;
    assert!(incident.is_some() && fixture.state.manager.current.is_some());
    let lost = fixture.records[told..]
        .iter()
        .filter(|record| record.subject_name == "web" || record.code == Code::LetGo);
    let lost: Vec<_> = lost.map(|r| (r.current.as_str(), r.incident, r.event)).collect();
    assert_eq!(
        lost,
        [("UNKNOWN", incident, None), ("", incident, None), ("OFFLINE", incident, None)]
    );
}

/// A group that cannot be released is blocked; cleared, its release is tried again.
#[test]
fn a_failed_release_blocks_until_it_succeeds() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "web".into(), to: None, until: None });
    begin(&mut fixture);
    progress(&mut fixture, "web", N1, GroupState::Error);
    let blocked = fixture.state.groups["web"].blocked.clone().unwrap();
    assert_eq!(blocked.why, "it could not be released on n1");
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Error);
    // The node released it after all: nothing stands in its way any more.
    fixture.run_events();
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Online);
}

/// Seed 86 of the simulation: what a node said that it could not stop was given to another one as soon as the first
/// had lost its lease. It had lost it with that still running, so no lease says anything of it.
#[test]
fn r7_what_could_not_be_stopped_does_not_end_with_a_lease() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "web".into(), to: None, until: None });
    begin(&mut fixture);
    progress(&mut fixture, "web", N1, GroupState::Error);
    fixture.node_down(N1, "silent");
    fixture.lease_over(N1);
    let epoch = fixture.state.manager.members[&N1].epoch + 1;
    fixture.group(GroupCommand::Evict {
        node: N1,
        evidence: LetGo::Epoch { epoch, remains: Remains::default() },
    });
    fixture.run_events();
    let web = &fixture.state.groups["web"];
    assert_eq!((web.owner(), web.state()), (Some(N1), GroupState::Error));
    assert!(web.unreleased.contains(&N1));
    let mut confirmed = fixture.clone();
    confirmed.group(GroupCommand::ConfirmOff { node: N1 });
    // When its node is back, it tries again, and its word is enough; so is an operator's.
    assert_eq!(tasks(&fixture.state, N1), []);
    if let Some(node) = fixture.state.nodes.get_mut(&N1) {
        node.host = HostStatus::Up;
    }
    assert!(
        matches!(&tasks(&fixture.state, N1)[..], [Task::CleanUp { group, .. }] if group == "web")
    );
    released(&mut fixture, "web", N1, false);
    for mut fixture in [fixture, confirmed] {
        fixture.run_events();
        let web = &fixture.state.groups["web"];
        assert_eq!((web.state(), &web.blocked), (GroupState::Online, &None));
        assert!(web.owner() != Some(N1) && web.unreleased.is_empty());
    }
}

/// Where fencing is configured, a node that cannot release is fenced, and that is evidence.
#[test]
fn a_failed_release_is_fenced() {
    let mut fixture = Fixture::with_groups();
    let agent = "fence_ipmilan".to_owned();
    let (options, action) = (BTreeMap::new(), "off".to_owned());
    let fence = FenceDef { agent, options, action, timeout_ms: 1_000 };
    fixture.state.definition.fencing.insert(N1, fence);
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(N3), until: None });
    begin(&mut fixture);
    progress(&mut fixture, "web", N1, GroupState::Error);
    assert_eq!(fixture.state.groups["web"].blocked, None);
    let fenced = |attempt, status| GroupCommand::Fenced {
        node: N1,
        by: N2,
        attempt,
        outcome: exited(status, "no route to host"),
    };
    assert!(tasks(&fixture.state, N2).contains(&Task::Fence { node: N1, attempt: 1 }));
    fixture.group(fenced(1, 1));
    assert!(fixture.state.manager.fencing[&N1].failure.is_some());
    fixture.group(GroupCommand::Fence { node: N1, by: N2 });
    fixture.group(fenced(2, 0));
    assert_eq!(owner(&fixture, "web"), Some(N3));
    assert!(fixture.state.manager.fencing.is_empty());
    let said = refused(&mut fixture, Command::Group(GroupCommand::Fence { node: N2, by: N2 }));
    assert_eq!(said.code, "cannot_fence");
}

/// An operator's word about a node that is there is not taken; a lease is not over there either.
#[test]
fn evidence_that_the_state_contradicts_is_refused() {
    let mut fixture = Fixture::with_groups();
    fixture.lease_over(N1);
    assert_eq!(owner(&fixture, "web"), Some(N1));
    let confirm = |node| Command::Group(GroupCommand::ConfirmOff { node });
    assert_eq!(refused(&mut fixture, confirm(N1)).code, "node_is_up");
    assert_eq!(refused(&mut fixture, confirm(NodeNumber(9))).code, "unknown_node");
    fixture.node_down(N1, "silent");
    for _ in 0..2 {
        let why = "nothing stands behind its release".to_owned();
        let groups = ["web".to_owned()].into();
        fixture.group(GroupCommand::Waits { node: N1, groups, why });
    }
    let waits = fixture.records.iter().filter(|r| r.code == Code::TakeoverWaits);
    assert_eq!(waits.count(), 1);
    fixture.apply(confirm(N1));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N2));
    assert_eq!(refused(&mut fixture, confirm(N1)).code, "nothing_to_do");
}

/// A new epoch of a guard: it let go of everything, whatever the state says.
/// What a beat said is compared with what the node presented since.
#[test]
fn only_a_later_epoch_is_evidence() {
    let mut fixture = Fixture::with_groups();
    let holder = fixture.state.groups["web"].owner().unwrap();
    let known = fixture.state.manager.members[&holder].epoch;
    for epoch in [known - 1, known] {
        fixture.group(GroupCommand::Evict {
            node: holder,
            evidence: LetGo::Epoch { epoch, remains: Remains::default() },
        });
        assert_eq!(fixture.state.groups["web"].owner(), Some(holder), "{epoch}");
    }
    let evidence = LetGo::Epoch { epoch: known + 1, remains: Remains::default() };
    fixture.group(GroupCommand::Evict { node: holder, evidence });
    assert_ne!(fixture.state.groups["web"].owner(), Some(holder));
}

#[test]
fn a_new_epoch_ends_what_was_held_in_the_old_one() {
    let mut fixture = Fixture::with_groups();
    let old = fixture.token("web", N1).unwrap();
    let (session, backing, epoch) = (Session(7), Backing::Kernel, 2);
    let log = Timing::DEFAULT.log();
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
    let off = fixture.records.iter().rfind(|r| r.code == Code::Group && r.current == "OFFLINE");
    assert!(off.is_some_and(|record| record.alert));
    fixture.run_events();
    assert_eq!(owner(&fixture, "web"), Some(N1));
    assert!(fixture.token("web", N1).unwrap() > old);
    assert_eq!(fixture.state.groups["batch"].instances.len(), 3);
}

/// Orders that make no sense are refused with what stands in their way.
#[test]
fn orders_explain_their_refusal() {
    let mut fixture = Fixture::with_groups();
    let moved = |group: &str, to| {
        Command::Group(GroupCommand::Move { group: group.into(), to, until: None })
    };
    for (group, to, code) in [
        ("mail", None, "unknown_group"),
        ("batch", Some(N2), "concurrent_group"),
        ("db", Some(N1), "not_a_node_of_it"),
        ("db", Some(N2), "nothing_to_do"),
        ("db", Some(NodeNumber(9)), "unknown_node"),
    ] {
        assert_eq!(refused(&mut fixture, moved(group, to)).code, code);
    }
    let online = Command::Group(GroupCommand::Online { group: "web".into() });
    assert_eq!(refused(&mut fixture, online).code, "nothing_to_do");
    fixture.group(GroupCommand::Offline { group: "db".into() });
    fixture.run_events();
    assert_eq!(fixture.state.groups["db"].state(), GroupState::Offline);
    assert_eq!(refused(&mut fixture, moved("db", Some(N3))).code, "group_is_off");
    fixture.group(GroupCommand::Online { group: "db".into() });
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(N3), until: None });
    fixture.run_events();
    assert_eq!(owner(&fixture, "db"), Some(N3));
    fixture.node_down(N2, "silent");
    fixture.lease_over(N2);
    fixture.run_events();
    assert_eq!(refused(&mut fixture, moved("db", Some(N2))).code, "node_not_there");
    assert_eq!(refused(&mut fixture, moved("db", None)).code, "no_other_node");
}

/// H34: a new definition: what is gone is released as it was, what is new comes, the rest stays.
#[test]
fn a_new_definition_changes_what_it_changes_and_no_more() {
    let mut fixture = Fixture::with_groups();
    let db = fixture.token("db", N2);
    let mut new = definition();
    new.groups.retain(|group| group.name != "batch");
    let mut mail = new.groups[0].clone();
    mail.name = "mail".into();
    mail.resources.truncate(1);
    mail.resources[0].name = "mail_address".into();
    new.groups.push(mail);
    new.groups[0].resources.pop();
    let number = fixture.state.groups["web"].number;
    redefine(&mut fixture, new);
    let old = fixture.state.groups["web"].retired.clone().unwrap();
    assert_eq!(old.resources.len(), 2);
    assert!(fixture.state.groups["mail"].number > number);
    fixture.run_events();
    assert!(!fixture.state.groups.contains_key("batch"));
    assert_eq!((owner(&fixture, "web"), owner(&fixture, "mail")), (Some(N1), Some(N1)));
    let web = &fixture.state.groups["web"];
    assert_eq!((web.number, web.instances[&N1].resources.len()), (number, 1));
    assert!(web.retired.is_none());
    assert_eq!(fixture.token("db", N2), db);
}

/// Puts a definition in force.
pub(super) fn redefine(fixture: &mut Fixture, definition: crate::definition::Definition) {
    let state = &mut fixture.state;
    let command = Command::Manager(ManagerCommand::TooLong { event: 0 });
    let (id, actor) = (CommandId([0xdd; 16]), "root@n1".to_owned());
    let proposal = Proposal { id, at: fixture.clock, origin: N1, actor, command, tick: None };
    let groups = state.groups.iter().map(|(name, group)| (name.clone(), group.state())).collect();
    let mut entry = super::Entry { groups, ..super::Entry::new(500_000, &proposal) };
    state.define(&mut entry, definition);
    state.settle(&mut entry);
}

fn node() -> impl Strategy<Value = NodeNumber> {
    prop_oneof![9 => (1u16..=3).prop_map(NodeNumber), 1 => Just(NodeNumber(9))]
}

fn group() -> impl Strategy<Value = String> {
    prop_oneof![Just("web".to_owned()), Just("db".into()), Just("batch".into()), Just("x".into())]
}

/// What a command of the sequence is made of; tokens and events are taken from the state, or not.
#[derive(Clone, Debug)]
enum Act {
    Any(Box<Command>),
    Task(NodeNumber, usize),
    Vote,
    Ran(NodeNumber, bool),
    Recover(RecoverAction),
    Report(String, NodeNumber, u8),
    Evidence(NodeNumber, u8),
}

fn change() -> impl Strategy<Value = Change> {
    let cause = String::new;
    let network = (1u8..=3).prop_map(NetworkNumber);
    let hosts = prop::sample::select(HostStatus::ALL);
    let agents = prop::sample::select(AgentStatus::ALL);
    let (nets, faces) =
        (prop::sample::select(NetworkStatus::ALL), prop::sample::select(InterfaceStatus::ALL));
    prop_oneof![
        4 => (node(), hosts, any::<bool>())
            .prop_map(move |(node, to, planned)| Change::Host { node, to, planned, cause: cause(), silent_ms: None }),
        4 => (node(), agents).prop_map(move |(node, to)| Change::Agent { node, to, cause: cause() }),
        3 => node().prop_map(move |node| Change::Host {
            node,
            to: HostStatus::Up,
            planned: false,
            cause: cause(),
            silent_ms: None
        }),
        3 => node().prop_map(move |node| Change::Agent {
            node,
            to: AgentStatus::Running,
            cause: cause()
        }),
        1 => (network.clone(), nets)
            .prop_map(move |(network, to)| Change::Network { network, to, cause: cause() }),
        1 => (node(), network, faces).prop_map(move |(node, network, to)| Change::Interface {
            node,
            network,
            to,
            cause: cause()
        }),
    ]
}

fn manager_command() -> impl Strategy<Value = ManagerCommand> {
    let modes = prop::sample::select(StopMode::ALL);
    let nodes = || prop::collection::vec(node(), 0..3);
    prop_oneof![
        (node(), 0u64..3, 0u64..3).prop_map(|(node, session, epoch)| ManagerCommand::Present {
            node,
            session: Session(session),
            backing: Backing::None,
            watchdog: None,
            reaper: None,
            unreleased: Default::default(),
            epoch,
            voters: 0,
            timing: None,
            log: Timing::DEFAULT.log(),
        }),
        (node(), 0u8..3).prop_map(|(node, kind)| {
            let network = NetworkNumber(1);
            let trigger = match kind {
                0 => Trigger::NodeUp(node),
                1 => Trigger::FailStandby { node, network },
                _ => Trigger::User {
                    rule: "r".into(),
                    node,
                    instance: String::new(),
                    value: String::new(),
                },
            };
            ManagerCommand::Queue { trigger, cause: "c".into() }
        }),
        (0u64..40).prop_map(|event| ManagerCommand::BeginVote { event }),
        (0u64..40, 0usize..4, 0u32..2, node()).prop_map(|(event, phase, attempt, node)| {
            ManagerCommand::Expire { event, phase, attempt, node }
        }),
        (0u64..40).prop_map(|event| ManagerCommand::TooLong { event }),
        (nodes(), modes).prop_map(|(nodes, how)| ManagerCommand::Stop { nodes, how }),
        nodes().prop_map(|nodes| ManagerCommand::Start { nodes }),
        (group(), any::<bool>())
            .prop_map(|(g, on)| ManagerCommand::Maintenance { scope: Scope::Group(g), on }),
        any::<bool>().prop_map(|on| ManagerCommand::Maintenance { scope: Scope::Cluster, on }),
    ]
}

fn group_command() -> impl Strategy<Value = GroupCommand> {
    prop_oneof![
        (node(), node()).prop_map(|(node, by)| GroupCommand::Fence { node, by }),
        node().prop_map(|node| GroupCommand::ConfirmOff { node }),
        (group(), prop::option::of(node())).prop_map(|(group, to)| GroupCommand::Move {
            group,
            to,
            until: None
        }),
        group().prop_map(|group| GroupCommand::Online { group }),
        group().prop_map(|group| GroupCommand::Offline { group }),
        (group(), prop::option::of(node()))
            .prop_map(|(group, node)| GroupCommand::Clear { group, node }),
        node().prop_map(|node| {
            let groups = ["web".to_owned()].into();
            GroupCommand::Waits { node, groups, why: "w".into() }
        }),
    ]
}

fn any_of(command: Command) -> Act {
    Act::Any(Box::new(command))
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => change().prop_map(|change| any_of(Command::Observe { changes: vec![change] })),
        3 => manager_command().prop_map(|command| any_of(Command::Manager(command))),
        2 => group_command().prop_map(|command| any_of(Command::Group(command))),
        1 => node().prop_map(|node| any_of(Command::RemoveNode { node })),
        1 => (any::<bool>(), 0u64..9).prop_map(|(continuity, term)| {
            any_of(Command::Office { director: N1, term, continuity })
        }),
        12 => (node(), 0usize..3).prop_map(|(node, place)| Act::Task(node, place)),
        6 => Just(Act::Vote),
        3 => (node(), any::<bool>()).prop_map(|(node, expected)| Act::Ran(node, expected)),
        2 => prop::sample::select(RecoverAction::ALL).prop_map(Act::Recover),
        5 => (group(), node(), 0u8..8).prop_map(|(group, node, kind)| Act::Report(group, node, kind)),
        3 => (node(), 0u8..5).prop_map(|(node, kind)| Act::Evidence(node, kind)),
    ]
}

fn commands_of(act: Act, state: &ClusterState) -> Option<Command> {
    let current = state.manager.current.as_ref();
    Some(match act {
        Act::Any(command) => *command,
        Act::Vote => {
            let event = state.manager.queue.first()?.id;
            Command::Manager(ManagerCommand::BeginVote { event })
        }
        Act::Task(node, place) => match tasks(state, node).into_iter().nth(place)? {
            Task::Approve { event } => Command::Manager(ManagerCommand::Approve { event, node }),
            Task::Run { event, phase, attempt, commands } => {
                let ok = |(index, command)| crate::fixture::succeeded(index, command);
                let outcomes = commands.into_iter().map(ok).collect();
                Command::Manager(ManagerCommand::Ran { event, phase, attempt, node, outcomes })
            }
            Task::CleanUp { group, token } => {
                let why = String::new();
                Command::Group(GroupCommand::Released { group, node, token, why, avoid: false })
            }
            Task::Fence { node: victim, attempt } => Command::Group(GroupCommand::Fenced {
                node: victim,
                by: node,
                attempt,
                outcome: exited(0, ""),
            }),
            Task::Verify { .. } | Task::Renew => return None,
        },
        Act::Ran(node, expected) => {
            let running = current?;
            let outcomes = (0..3).map(|index| CommandOutcome {
                index,
                command: "c".into(),
                expected,
                runs: 1,
                outcome: exited(1, "x\ny"),
            });
            Command::Manager(ManagerCommand::Ran {
                event: running.event.id,
                phase: running.phase,
                attempt: running.attempt,
                node,
                outcomes: outcomes.collect(),
            })
        }
        Act::Recover(action) => {
            Command::Manager(ManagerCommand::Recover { event: current?.event.id, action })
        }
        Act::Report(group, node, kind) => {
            let token = state.groups.get(&group)?.instances.get(&node)?.token;
            Command::Group(report(group, node, token, kind))
        }
        Act::Evidence(node, kind) => {
            let evidence = match kind {
                0 => LetGo::Released,
                1 => LetGo::LeaseOver { silent_ms: 1, backing: Backing::None, programs_ms: 0 },
                2 => LetGo::Epoch { epoch: 2, remains: Remains::default() },
                3 => LetGo::Fenced { agent: "a".into(), by: N1 },
                _ => LetGo::Confirmed,
            };
            Command::Group(GroupCommand::Evict { node, evidence })
        }
    })
}

fn report(group: String, node: NodeNumber, token: u64, kind: u8) -> GroupCommand {
    let progress = |state, group| GroupCommand::Progress {
        group,
        node,
        token,
        state,
        resources: vec![("httpd".into(), ResourceState::Failed, "d".into())],
    };
    match kind {
        0 => progress(Some(GroupState::Error), group),
        1 => progress(Some(GroupState::Releasing), group),
        2 | 3 => progress(Some(GroupState::Online), group),
        4 => progress(None, group),
        5 | 6 => {
            let why = "w".to_owned();
            GroupCommand::Released { group, node, token, why, avoid: kind == 5 }
        }
        _ => {
            let (resource, why) = ("httpd".to_owned(), "gone".to_owned());
            GroupCommand::Failed { group, node, token, resource, why, restarted: false }
        }
    }
}

/// What must hold after every command.
fn check(state: &ClusterState) {
    for (name, group) in &state.groups {
        let exclusive =
            state.definition.group(name).is_none_or(|def| def.policy != Policy::Concurrent);
        assert!(!exclusive || group.instances.len() <= 1, "{name} has two owners");
        for node in group.instances.keys() {
            assert!(state.nodes.contains_key(node), "{name} is on a node that is no member");
        }
    }
    let order = |event: &crate::event::Event| (event.trigger.rank(), event.id);
    assert!(state.manager.queue.is_sorted_by_key(order), "the queue is in order");
    for running in state.manager.begun() {
        for node in &running.participants {
            assert!(state.manager.members.contains_key(node) && state.nodes.contains_key(node));
        }
        for nodes in [&running.approvals, &running.arrived, &running.failed] {
            assert!(nodes.is_subset(&running.participants));
        }
        let failed = running.stage == crate::event::Stage::Error;
        assert_eq!(failed, !running.failed.is_empty(), "an event has failed if a node has");
    }
    let running = state.manager.current.is_some() || state.manager.next().is_some();
    assert!(running || state.manager.aside.is_empty(), "an event stays aside for nobody");
}

/// After the faults are over, every event ends: hosts are up, agents run, evidence arrives.
fn heal(fixture: &mut Fixture) {
    let nodes: Vec<NodeNumber> = fixture.state.nodes.keys().copied().collect();
    let mut changes = Vec::new();
    for node in nodes {
        let cause = String::new;
        let (to, planned) = (HostStatus::Up, false);
        changes.push(Change::Host { node, to, planned, cause: cause(), silent_ms: None });
        changes.push(Change::Agent { node, to: AgentStatus::Running, cause: cause() });
    }
    fixture.apply(Command::Observe { changes });
    for _ in 0..50 {
        fixture.run_events();
        let Some(running) = &fixture.state.manager.current else { return };
        let (event, action) = (running.event.id, RecoverAction::Skip);
        fixture.manage(ManagerCommand::Recover { event, action });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Whatever is proposed, in whatever order: nothing panics, an exclusive group has one owner at
    /// most, the queue is in order, records chain; and when the faults are over, events end.
    #[test]
    fn invariants_hold_whatever_comes(acts in prop::collection::vec(act(), 1..120)) {
        let mut fixture = Fixture::with_groups();
        let mut index = 10_000u64;
        for act in acts {
            let Some(command) = commands_of(act, &fixture.state) else { continue };
            index += 1;
            fixture.clock = fixture.clock.plus(Duration::from_millis(7));
            let mut id = [0xab; 16];
            id[..8].copy_from_slice(&index.to_be_bytes());
            let (at, actor) = (fixture.clock, "anybody".to_owned());
            let proposal = Proposal { id: CommandId(id), at, origin: N1, actor, command, tick: None };
            let (seq, head) = (fixture.state.seq, fixture.state.head);
            let applied = fixture.state.apply(index, &proposal);
            let mut last = (seq, head);
            for record in &applied.records {
                prop_assert_eq!(record.seq, last.0 + 1);
                prop_assert_eq!(record.hash, record.chained(last.1));
                last = (record.seq, record.hash);
            }
            prop_assert_eq!(last, (fixture.state.seq, fixture.state.head));
            check(&fixture.state);
        }
        fixture.state.seeded = true;
        fixture.state.manager.maintenance = false;
        heal(&mut fixture);
        check(&fixture.state);
        prop_assert!(fixture.state.manager.begun().next().is_none(), "an event did not end");
        prop_assert!(fixture.state.manager.queue.is_empty(), "an event waits for ever");
    }
}
