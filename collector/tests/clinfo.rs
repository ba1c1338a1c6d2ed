//! What the clinfo documents say of the example cluster (spec H5, H41, A8–A10, V7, V8, V10, V13).

use std::sync::Arc;
use std::time::Duration;

use vedette_collector::clinfo::{
    AvailabilityDoc, Balance, GroupDoc, IncidentDoc, Level, LinkDoc, LocalDoc, LocationDoc,
    NetworkDoc, NoRoute, NodeDoc, PortDoc, RedundancyDoc, RouteDoc, Seen, StatusDoc, Verdict,
};
use vedette_core::command::{Change, Command, GroupCommand, ManagerCommand, Scope};
use vedette_core::fixture::{DOWN_AT, Fixture, LOST_AT, alone, busy_fixture, one_down};
use vedette_core::group::{GroupState, MultipleActive, ResourceState};
use vedette_core::id::{NetworkNumber, NodeNumber};
use vedette_core::local_view::RaisedCondition;
use vedette_core::model::{AgentStatus, HostStatus, InterfaceStatus, NetworkStatus, Severity};
use vedette_core::observation::Report;
use vedette_core::record::{Code, Subject};
use vedette_core::state::ClusterState;
use vedette_core::trigger::StopMode;
use vedette_core::view::View;

fn verdict_after(view: &View, stale: Duration) -> (Level, String) {
    let verdict = Verdict::new(Seen { view, now: DOWN_AT, stale });
    (verdict.level, verdict.sentence)
}

fn verdict(view: &View) -> (Level, String) {
    verdict_after(view, Duration::ZERO)
}

#[test]
fn a_healthy_cluster_is_fine() {
    let (level, sentence) = verdict(&Fixture::settled(3).view(NodeNumber(1)));
    assert_eq!(sentence, "prod is up: 3 of 3 nodes, 2 of 2 networks.");
    assert_eq!(level, Level::Fine);
}

#[test]
fn two_nodes_and_one_are_up_but_fragile() {
    let (level, sentence) = verdict(&Fixture::settled(2).view(NodeNumber(1)));
    assert_eq!(level, Level::Fine);
    assert_eq!(
        sentence,
        "prod is up: 2 of 2 nodes, 2 of 2 networks; one more failure would lose quorum."
    );
    let (_, sentence) = verdict(&Fixture::settled(1).view(NodeNumber(1)));
    assert!(sentence.ends_with("with one node there is no redundancy."), "{sentence}");
}

/// The view of n1 of three healthy nodes, with the clock of n3 so far ahead.
fn clock_of_n3(offset_us: Option<i64>) -> View {
    let mut view = Fixture::settled(3).view(NodeNumber(1));
    let mut report = Report::clone(view.local.report.as_deref().expect("a report"));
    let n3 = report.peers.iter_mut().find(|peer| peer.peer == NodeNumber(3));
    n3.expect("n3 is seen").clock_offset_us = offset_us;
    view.local.report = Some(Arc::new(report));
    view
}

#[test]
fn a_clock_that_differs_is_told_with_what_to_do() {
    let (level, sentence) = verdict(&clock_of_n3(Some(3_600_000_000)));
    assert_eq!(level, Level::Degraded);
    assert_eq!(
        sentence,
        "prod is degraded: the clock of n3 is 3600.0 s ahead of that of n1 (warned about from \
         0.1 s): correct it, for example with chronyc makestep; 3 of 3 nodes are up and one more \
         failure would do no harm."
    );
    let (_, sentence) = verdict(&clock_of_n3(Some(-250_000)));
    assert!(sentence.contains("the clock of n3 is 0.2 s behind that of n1"), "{sentence}");
    for fine in [Some(99_999), Some(-99_999), None] {
        assert_eq!(verdict(&clock_of_n3(fine)).0, Level::Fine, "{fine:?}");
    }
}

/// Whatever is worse is told first.
#[test]
fn a_clock_is_the_least_of_the_problems() {
    let mut view = one_down();
    view.local.report = clock_of_n3(Some(-3_600_000_000)).local.report;
    let verdict = Verdict::new(Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO });
    assert!(verdict.sentence.contains("n3 is DOWN"), "{}", verdict.sentence);
    assert!(verdict.problems.last().expect("problems").starts_with("the clock of n3"));
}

#[test]
fn local_and_nodes_show_clocks_and_positions_that_are_known_now() {
    let view = one_down();
    let seen = Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO };
    let local = LocalDoc::new(seen);
    let [n2, n3] = &local.peers[..] else { panic!("two peers") };
    assert_eq!((n2.clock_offset_ms, n2.position), (Some(-0.8), Some(view.state.revision)));
    assert_eq!(n2.round_trip_ms, Some(0.201));
    assert_eq!((n3.clock_offset_ms, n3.position, n3.round_trip_ms), (None, None, None));
    assert_eq!(local.clock_offset_ms, Some(-0.8));
    let known: Vec<_> =
        NodeDoc::all(&view).iter().map(|n| (n.clock_offset_ms, n.log_position)).collect();
    let position = Some(view.state.revision);
    assert_eq!(known, [(None, position), (Some(-0.8), position), (None, None)]);
}

/// A8: who is down, since when, why, and what that costs.
#[test]
fn a8_a_node_that_is_down() {
    let (level, sentence) = verdict(&one_down());
    assert_eq!(
        sentence,
        "prod is degraded: n3 is DOWN since 12:04:01Z (silent on neta and netb for 1.0 s, as n1 \
         and n2 see it); 2 of 3 nodes are up and one more failure would lose quorum."
    );
    assert_eq!(level, Level::Degraded);
}

/// H4: a network that is down is one problem, not one for each interface.
#[test]
fn h4_a_network_that_is_down() {
    let mut fixture = Fixture::settled(3);
    let network = NetworkNumber(2);
    let cause = String::from("nobody hears anybody on it");
    let changes = vec![Change::Network { network, to: NetworkStatus::Down, cause }];
    fixture.apply(Command::Observe { changes });
    let view = fixture.view(NodeNumber(1));
    let (level, sentence) = verdict(&view);
    assert_eq!(
        sentence,
        "prod is degraded: network netb is DOWN since 12:00:00Z; 3 of 3 nodes are up, 1 of 2 \
         networks are up and one more network failure would cut a node off."
    );
    assert_eq!(level, Level::Degraded);
    assert_eq!(RedundancyDoc::new(&view).network_remaining, Some(0));
    for node in NodeDoc::all(&view) {
        assert!(node.jeopardy == Some(true), "{}: only neta carries anything", node.name);
        let statuses: Vec<_> = node.interfaces.iter().map(|own| own.status).collect();
        assert_eq!(statuses, [InterfaceStatus::Up, InterfaceStatus::Down]);
    }
}

/// H26, H27: redundancy that is configured and not there is told: a standby adapter without a link,
/// and a watchdog that ends nothing.
#[test]
fn redundancy_that_is_not_there_is_told() {
    let mut view = busy_fixture().view(NodeNumber(1));
    let problems = |view: &View| {
        let stale = Duration::ZERO;
        let problems = Verdict::new(Seen { view, stale, now: DOWN_AT }).problems;
        let about = |text: &String| text.contains("standby adapter") || text.contains("watchdog");
        problems.into_iter().filter(about).collect::<Vec<_>>()
    };
    assert_eq!(
        problems(&view),
        [
            "standby adapter 10.91.1.2 of n2 on neta failed since 12:04:01Z (eth3 has no link)",
            "the watchdog of n1 stands behind nothing: /dev/watchdog cannot be used: Device or \
             resource busy",
        ]
    );
    let standbys = NodeDoc::all(&view).into_iter().flat_map(|node| node.standbys);
    let statuses: Vec<_> = standbys.map(|standby| (standby.node, standby.status)).collect();
    let status = |node: &str, status| (node.to_owned(), status);
    assert_eq!(
        statuses,
        [
            status("n1", InterfaceStatus::Up),
            status("n2", InterfaceStatus::Down),
            status("n3", InterfaceStatus::Unknown),
        ]
    );
    assert_eq!(NetworkDoc::find(&view, "neta").map(|neta| neta.standbys.len()), Some(3));

    let state = Arc::make_mut(&mut view.state);
    state.manager.standbys_down.clear();
    state.manager.members.values_mut().for_each(|member| member.watchdog = None);
    assert_eq!(problems(&view), [""; 0]);
}

/// V13: one interface left is jeopardy, and the sentence says so.
#[test]
fn v13_jeopardy_is_shown() {
    let mut fixture = Fixture::settled(3);
    let (node, network) = (NodeNumber(2), NetworkNumber(1));
    let change = Change::Interface { node, network, to: InterfaceStatus::Down, cause: "x".into() };
    fixture.apply(Command::Observe { changes: vec![change] });
    let view = fixture.view(NodeNumber(1));
    let (_, sentence) = verdict(&view);
    assert!(sentence.contains("interface n2/neta is DOWN"), "{sentence}");
    assert!(sentence.contains("n2 has only one interface left"), "{sentence}");
    assert!(NodeDoc::find(&view, "n2").is_some_and(|node| node.jeopardy == Some(true)));
}

/// A9: the host is there, its agent is not.
#[test]
fn a9_an_agent_that_is_down() {
    let mut fixture = Fixture::settled(4);
    let change =
        Change::Agent { node: NodeNumber(4), to: AgentStatus::Down, cause: "killed".into() };
    fixture.apply(Command::Observe { changes: vec![change] });
    let (_, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert_eq!(
        sentence,
        "prod is degraded: the agent of n4 is DOWN since 12:00:00Z; 4 of 4 nodes are up and one \
         more failure would do no harm."
    );
}

/// A node that may not speak for the cluster says what it is missing.
#[test]
fn a_node_without_a_quorum_claims_nothing() {
    let mut view = Fixture::settled(3).view(NodeNumber(3));
    (view.local.lease, view.local.quorate) = (false, false);
    view.local.unknown_since = Some(DOWN_AT);
    view.local.waiting_for = "a director".into();
    let (level, sentence) = verdict_after(&view, Duration::from_millis(4_200));
    assert_eq!(
        sentence,
        "prod is unknown to n3: it has been without a quorum since 12:04:01Z; it waits for a director."
    );
    view.local.lease = true;
    let (without, sentence) = verdict_after(&view, Duration::from_millis(4_200));
    assert_eq!(without, level);
    assert_eq!(
        sentence,
        "prod is unknown to n3: it has been without a director since 12:04:01Z; it waits for a \
         director; what runs goes on, nothing can be moved."
    );
    assert_eq!(level, Level::Unknown);
    // T6: time alone is no news.
    assert_eq!(verdict_after(&view, Duration::from_millis(4_700)), (level, sentence));

    view.local.host = HostStatus::Disconnected;
    let (level, sentence) = verdict_after(&view, Duration::from_secs(125));
    assert_eq!(
        sentence,
        "this node is cut off: n3 reaches no other node of prod on any network, and has known \
         nothing of them since 12:04:01Z."
    );
    assert_eq!(level, Level::Failed);

    (view.local.quorate, view.local.host) = (true, HostStatus::Up);
    view.local.log.behind = Some("166 entries are missing".into());
    let (level, sentence) = verdict(&view);
    assert_eq!(
        sentence,
        "prod is unknown to n3 since 12:04:01Z: its log is behind, 166 entries are missing."
    );
    assert_eq!(level, Level::Unknown);
}

/// T2: a node alone shows nothing of others as the present state, counts nothing that needs them, and
/// says beside it what it knew last.
#[test]
fn t2_a_node_alone_shows_what_it_knew_last_beside_unknown() {
    let view = alone(&Fixture::with_groups(), NodeNumber(1));
    assert!(view.local.director, "the node is director as far as its log goes");
    let status = StatusDoc::new(Seen { view: &view, now: LOST_AT, stale: Duration::ZERO });
    let lost = Some(LOST_AT.to_string());
    assert_eq!((status.known, &status.as_of, &status.local.unknown_since), (false, &lost, &lost));
    assert_eq!((status.cluster.known, &status.cluster.as_of), (false, &lost));
    assert_eq!((status.cluster.director, status.local.director), (None, false));
    assert_eq!((status.cluster.nodes, status.cluster.nodes_up), (3, None));
    assert_eq!((status.cluster.networks, status.cluster.networks_up), (2, None));
    let votes = status.cluster.redundancy;
    assert_eq!((votes.voters, votes.voters_up, votes.quorum), (3, None, 2));
    assert_eq!((votes.quorum_remaining, votes.network_remaining), (None, None));
    assert!(status.nodes.iter().all(|node| !node.director));
    for node in status.nodes.iter().filter(|node| !node.local) {
        let last = node.last_known.as_ref().expect("known last");
        assert_eq!((node.host_status, last.host_status), (HostStatus::Unknown, HostStatus::Up));
        assert_eq!(last.as_of, LOST_AT.to_string());
    }
    let own = status.nodes.iter().find(|node| node.local).expect("itself");
    assert_eq!((own.host_status, &own.last_known), (HostStatus::Disconnected, &None));
    let web = GroupDoc::find(&view, "web").expect("web");
    assert_eq!((web.state, &web.owner, &web.standbys), (GroupState::Unknown, &None, &None));
    let last = web.last_known.expect("known last");
    assert_eq!((last.state, last.owner.as_deref()), (GroupState::Online, Some("n1")));
    let location = LocationDoc::find(&view, "web").expect("web");
    assert_eq!((location.node, location.last_known), (None, Some(last)));
    for network in NetworkDoc::all(&view) {
        assert_eq!((network.status, network.nodes_in_group), (NetworkStatus::Unknown, None));
        assert_eq!(network.last_known.map(|last| last.status).as_deref(), Some("UP"));
    }
    let between_others = LinkDoc::all(&view).into_iter().filter(|link| link.low != "n1");
    assert!(between_others.clone().count() == 2);
    for link in between_others {
        assert_eq!(link.last_known.map(|last| last.status).as_deref(), Some("UP"));
    }
    assert_eq!(status.local.conditions.len(), 1);
    assert_eq!(status.local_records[0].code, "QUORUM_LOST");
}

/// Where everything is known there is no last known beside it.
#[test]
fn what_is_known_is_not_told_twice() {
    let view = Fixture::with_groups().view(NodeNumber(1));
    let status = StatusDoc::new(Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO });
    assert!(status.known && status.as_of.is_none() && status.local.director);
    assert!(!status.groups.is_empty() && status.groups.iter().all(|it| it.last_known.is_none()));
    assert!(status.nodes.iter().all(|it| it.last_known.is_none()));
    assert!(status.networks.iter().all(|it| it.last_known.is_none()));
}

/// A condition of the answering node is a problem, however well the cluster does.
#[test]
fn a_condition_of_this_node_is_told() {
    let mut view = Fixture::settled(3).view(NodeNumber(2));
    let raised = RaisedCondition {
        code: Code::DiskFull,
        subject: Subject::Node(NodeNumber(2)),
        subject_name: "n2".into(),
        severity: Severity::Error,
        message: "n2 cannot write to its disk".into(),
        cause: "no space left".into(),
        since: DOWN_AT,
    };
    view.local.conditions = [raised].into();
    let (level, sentence) = verdict(&view);
    assert_eq!(level, Level::Degraded);
    let told = "prod is degraded: n2 cannot write to its disk since 12:04:01Z (no space left); ";
    assert!(sentence.starts_with(told), "{sentence}");
}

/// T8: what a forced stop left running on a node that went silent since is served by nobody, as far as anybody knows.
#[test]
fn t8_a_group_left_running_on_a_silent_node_is_not_known_to_be_served() {
    let mut fixture = Fixture::with_groups();
    let nodes = vec![NodeNumber(1)];
    fixture.manage(ManagerCommand::Stop { nodes, how: StopMode::Forced });
    fixture.run_events();
    let (level, sentence) = verdict(&fixture.view(NodeNumber(2)));
    assert_eq!(level, Level::Degraded, "{sentence}");
    let served = Balance::Online.holds(&fixture.view(NodeNumber(2)), "web");
    assert_eq!(served, Some(Ok(())), "left running is in service");

    fixture.node_down(NodeNumber(1), "silent");
    let view = fixture.view(NodeNumber(2));
    let (level, sentence) = verdict(&view);
    assert_eq!(level, Level::Failed, "{sentence}");
    let nobody = "nobody is known to serve web: it was left running unwatched on n1, which is DOWN";
    assert!(sentence.starts_with(&format!("prod has failed: {nobody}")), "{sentence}");
    assert!(Balance::Online.holds(&view, "web").is_some_and(|answer| answer.is_err()));
}

/// R8, R9: what was left running on a node whose daemon ended on purpose may well run; nobody here can tell.
#[test]
fn r8_a_group_left_running_by_a_daemon_that_left_is_not_known() {
    let mut fixture = Fixture::with_groups();
    let node = NodeNumber(1);
    fixture.manage(ManagerCommand::Maintenance { scope: Scope::Cluster, on: true });
    fixture.manage(ManagerCommand::Stop { nodes: vec![node], how: StopMode::Takeover });
    fixture.run_events();
    let cause = "it said that it leaves".to_owned();
    let (to, planned, silent_ms) = (HostStatus::Down, true, None);
    let left = Change::Host { node, to, planned, cause, silent_ms };
    fixture.apply(Command::Observe { changes: vec![left] });
    let view = fixture.view(NodeNumber(2));
    let verdict = Verdict::new(Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO });
    assert_eq!(verdict.level, Level::Degraded, "{}", verdict.sentence);
    let unknown = ["group web was left running on n1 when its daemon ended", "is not known"];
    let told = |problem: &String| unknown.iter().all(|words| problem.contains(words));
    assert!(verdict.problems.iter().any(told), "{:#?}", verdict.problems);
    assert_eq!(Balance::Online.holds(&view, "web"), Some(Ok(())));
}

/// R8: in maintenance nothing is done about what fails, and it is not hidden by a group that is ONLINE.
#[test]
fn r8_what_fails_in_maintenance_is_a_problem() {
    let mut fixture = Fixture::with_groups();
    let scope = Scope::Group("web".into());
    fixture.manage(ManagerCommand::Maintenance { scope, on: true });
    let (group, node) = ("web".to_owned(), NodeNumber(1));
    let token = fixture.token("web", node).expect("n1 has it");
    let name = fixture.state.groups["web"].instances[&node].resources.keys().next();
    let name = name.expect("a resource").clone();
    let resources = vec![(name.clone(), ResourceState::Failed, "no process is left".into())];
    fixture.group(GroupCommand::Progress { group, node, token, state: None, resources });
    assert_eq!(fixture.state.groups["web"].state(), GroupState::Online);
    let (level, sentence) = verdict(&fixture.view(NodeNumber(2)));
    assert_eq!(level, Level::Degraded, "{sentence}");
    let told = format!("prod is degraded: {name} of group web is FAILED on n1");
    assert!(sentence.starts_with(&told), "{sentence}");
    assert!(sentence.contains("(no process is left), and maintenance leaves it so"), "{sentence}");
}

/// While a resource of a group in service is started again in place, nobody reads that all is well.
#[test]
fn r6_what_is_started_again_in_place_is_a_problem() {
    for state in [ResourceState::Stopping, ResourceState::Offline, ResourceState::Starting] {
        let mut fixture = Fixture::with_groups();
        assert_eq!(verdict(&fixture.view(NodeNumber(2))).0, Level::Fine);
        let (group, node) = ("web".to_owned(), NodeNumber(1));
        let token = fixture.token("web", node).expect("n1 has it");
        let resources = vec![("httpd".to_owned(), state, String::new())];
        fixture.group(GroupCommand::Progress { group, node, token, state: None, resources });
        let (level, sentence) = verdict(&fixture.view(NodeNumber(2)));
        assert_eq!(level, Level::Degraded, "{sentence}");
        let told = format!("prod is degraded: httpd of group web is {state} on n1");
        assert!(sentence.starts_with(&told), "{sentence}");
        assert!(sentence.contains(": it is started again in place"), "{sentence}");
    }
}

/// F15: why no node has a group, for each node that tried.
#[test]
fn f15_a_group_says_why_its_nodes_are_avoided() {
    let mut fixture = Fixture::with_groups();
    let group = fixture.state.groups.get_mut("web").expect("web");
    (group.avoid, group.avoid_why) =
        ([NodeNumber(1)].into(), [1, 2].map(|n| (NodeNumber(n), format!("reason {n}"))).into());
    let web = GroupDoc::find(&fixture.view(NodeNumber(2)), "web").expect("web");
    let avoided: Vec<_> = web.avoided.iter().flatten().map(|it| (&*it.node, &*it.why)).collect();
    assert_eq!(avoided, [("n1", "reason 1")], "n2 is not avoided any more");
}

/// A7: a node that knows that it was deleted says so, and how it would be taken in again.
#[test]
fn a7_a_deleted_node_says_so() {
    let mut fixture = Fixture::settled(3);
    fixture.apply(Command::RemoveNode { node: NodeNumber(3) });
    let mut view = fixture.view(NodeNumber(3));
    (view.local.quorate, view.local.stage) = (false, "running");
    let (level, sentence) = verdict(&view);
    assert!(sentence.starts_with("this node was deleted from prod"), "{sentence}");
    assert!(
        sentence.contains("vedette node add NODE on a member, vedette join TOKEN here"),
        "{sentence}"
    );
    assert_eq!(level, Level::Failed);
}

/// H23: a node that is starting says which stage and what it waits for.
#[test]
fn h23_a_starting_node_says_its_stage() {
    let mut view = Fixture::settled(3).view(NodeNumber(3));
    view.local.quorate = false;
    view.local.stage = "log";
    view.local.waiting_for = "a director".into();
    let (_, sentence) = verdict(&view);
    assert_eq!(
        sentence,
        "n3 is starting (stage log) and knows nothing of prod yet; it waits for a director."
    );

    view.state = std::sync::Arc::new(ClusterState::default());
    let (level, sentence) = verdict(&view);
    assert!(sentence.contains("is not part of a cluster yet"), "{sentence}");
    assert_eq!(level, Level::Unknown);
}

/// V10: a starting cluster says for whom it waits.
#[test]
fn v10_a_starting_cluster_says_for_whom_it_waits() {
    let mut fixture = Fixture::settled(3);
    fixture.apply(Command::SetSeedCount(3));
    fixture.apply(Command::Office { director: NodeNumber(1), term: 2, continuity: false });
    let (level, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert_eq!(sentence, "prod is down: it waits for n1, n2, n3 (0 of 3 needed nodes are there).");
    assert_eq!(level, Level::Failed);
}

/// R7: a command of an event failed, and then the node of a group: the group is taken over all the same, and
/// what waits for an operator is told, first of all.
#[test]
fn a_failed_event_holds_up_nobody() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Move { group: "db".into(), to: Some(NodeNumber(3)), until: None });
    fixture.work();
    fixture.work();
    let event = fixture.state.manager.current.as_ref().expect("an event").event.id;
    let node = NodeNumber(2);
    fixture.manage(ManagerCommand::Expire { event, phase: 0, attempt: 0, node });
    let (level, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert_eq!(level, Level::Degraded);
    assert!(sentence.contains("event group_move db failed on n2"), "{sentence}");
    assert!(sentence.contains("waits for an operator: vedette recover show;"), "{sentence}");

    fixture.run_events();
    fixture.node_down(NodeNumber(1), "silent on neta and netb for 1.0 s");
    fixture.lease_over(NodeNumber(1));
    fixture.run_events();
    let view = fixture.view(NodeNumber(2));
    let (level, sentence) = verdict(&view);
    assert_eq!(level, Level::Degraded, "{sentence}");
    assert!(sentence.starts_with("prod is degraded: event group_move db failed"), "{sentence}");
    let web = GroupDoc::find(&view, "web").expect("web");
    assert_eq!((web.state.name(), web.waits_for.as_deref()), ("ONLINE", None));
}

/// R7: a command of an event takes long that is about no group, and what is to start behind a barrier waits for that and
/// says so.
#[test]
fn r7_what_waits_at_a_barrier_says_for_whom() {
    let mut fixture = Fixture::with_groups();
    let (n1, n2) = (NodeNumber(1), NodeNumber(2));
    fixture.with_a_barrier();
    fixture.manage(ManagerCommand::Stop { nodes: vec![n1], how: StopMode::Takeover });
    let event = fixture.begin_event();
    for group in ["web", "batch"] {
        fixture.release(group, n1);
    }
    fixture.run_events_but((n1, event));
    let waits = |fixture: &Fixture, name: &str| {
        GroupDoc::find(&fixture.view(n2), name).expect("a group").waits_for
    };
    assert_eq!(waits(&fixture, "web"), None, "it may be over in a moment");
    fixture.pass_patience();
    let whom = format!("event {event} node_down n1, of which a command still runs on n1");
    assert_eq!(waits(&fixture, "web"), Some(whom));
    fixture.run_events();
    assert_eq!(waits(&fixture, "web"), None);
}

/// R2: a group that is not started because another node runs it says for which.
#[test]
fn r2_a_group_that_runs_elsewhere_says_what_it_waits_for() {
    let mut fixture = Fixture::with_groups();
    fixture.group(GroupCommand::Offline { group: "db".into() });
    fixture.run_events();
    let (group, node, resources) = ("db".into(), NodeNumber(1), ["postgres".to_owned()].into());
    fixture.group(GroupCommand::Sighted { group, node, resources });
    fixture.group(GroupCommand::Online { group: "db".into() });
    fixture.run_events();
    let db = GroupDoc::find(&fixture.view(NodeNumber(2)), "db").expect("db");
    let whom = "n1 to stop what runs there of it";
    assert_eq!((db.state.name(), db.waits_for.as_deref()), ("OFFLINE", Some(whom)));
}

/// R7: a group that is configured no more and does not stop is shown with what it consists of, until it is gone.
#[test]
fn r7_what_is_on_its_way_out_is_shown_whole() {
    let mut fixture = Fixture::with_groups();
    let doc = |fixture: &Fixture| GroupDoc::find(&fixture.view(NodeNumber(2)), "web").expect("it");
    let before = doc(&fixture);
    let def = fixture.state.definition.groups.remove(0);
    fixture.state.groups.get_mut("web").expect("it").retired = Some(def);
    let after = doc(&fixture);
    assert_eq!((before.policy.is_some(), after.policy), (true, None));
    assert_eq!((before.instances, before.resources), (after.instances, after.resources));
}

/// R2, R3: what is done about a service that also runs elsewhere is told as what it is: a group that its policy
/// stopped is a problem until an operator says something, and one that is only blocked serves.
#[test]
fn what_a_policy_does_is_no_operators_wish() {
    let seen = |policy| {
        let mut fixture = Fixture::with_groups();
        fixture.state.definition.groups[1].multiple_active = policy;
        let (group, node) = ("db".to_owned(), NodeNumber(3));
        let resources = ["postgres".to_owned()].into();
        fixture.group(GroupCommand::Sighted { group, node, resources });
        fixture.run_events();
        fixture
    };
    let mut fixture = seen(MultipleActive::StopAll);
    let why = "it also ran on n3, and multiple_active is stop_all";
    let (level, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert_eq!(level, Level::Failed, "{sentence}");
    assert!(
        sentence.starts_with("prod does not serve db: group db is OFFLINE since "),
        "{sentence}"
    );
    assert!(sentence.contains(&format!("({why}); once that is mended: vedette group online db")));
    let db = GroupDoc::find(&fixture.view(NodeNumber(1)), "db").expect("db");
    assert_eq!((db.wanted_offline, db.stopped_for.as_deref()), (Some(false), Some(why)));
    let of = fixture.records.iter().find(|it| it.code == Code::MultipleActive).unwrap().incident;
    let mut records = fixture.records.iter().map(|it| (**it).clone()).collect::<Vec<_>>();
    records.retain(|record| record.incident == of);
    let incident = IncidentDoc::build(&records, |node| format!("n{node}")).expect("an incident");
    assert_eq!(incident.title, "group db also runs on n3, besides n2");
    assert_eq!((incident.outages.len(), incident.outages[0].planned), (1, false));
    let blamed = |text: &String| text.contains("operator");
    assert!(
        !incident.steps.iter().any(|it| blamed(&it.what) || blamed(&it.cause)),
        "{:#?}",
        incident.steps
    );
    fixture.group(GroupCommand::Offline { group: "db".into() });
    let (_, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert!(!sentence.contains("db is OFFLINE"), "an operator leaves it off: {sentence}");

    let view = seen(MultipleActive::Block).view(NodeNumber(1));
    let (level, sentence) = verdict(&view);
    assert_eq!(level, Level::Degraded, "{sentence}");
    assert!(sentence.contains("group db is ONLINE on n2 and blocked since "), "{sentence}");
    assert_eq!(Balance::Online.holds(&view, "db"), Some(Ok(())));
}

/// H21: its node looks healthy, and would take nothing over.
#[test]
fn a_stopped_manager_is_told() {
    let mut fixture = Fixture::with_groups();
    let nodes = vec![NodeNumber(3)];
    fixture.manage(ManagerCommand::Stop { nodes, how: StopMode::Takeover });
    fixture.run_events();
    let (level, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert_eq!(level, Level::Degraded);
    assert!(sentence.contains("the manager of n3 is stopped (takeover)"), "{sentence}");
    assert!(sentence.contains("vedette start --node n3"), "{sentence}");
    assert!(sentence.ends_with("nobody could take over group db."), "only n2 is left: {sentence}");
    fixture.manage(ManagerCommand::Stop { nodes: Vec::new(), how: StopMode::Takeover });
    fixture.run_events();
    let web = GroupDoc::find(&fixture.view(NodeNumber(1)), "web").expect("web");
    let whom = "one of n1, n2, n3, whose managers take no part";
    assert_eq!(web.waits_for.as_deref(), Some(whom));
}

/// In maintenance nothing is moved, so another failure would do harm.
#[test]
fn maintenance_promises_nothing() {
    let mut fixture = Fixture::with_groups();
    let scope = vedette_core::command::Scope::Cluster;
    fixture.manage(ManagerCommand::Maintenance { scope, on: true });
    let (_, sentence) = verdict(&fixture.view(NodeNumber(1)));
    assert!(sentence.ends_with("nothing fails over until the maintenance ends."), "{sentence}");
}

/// What the cluster is about stays on the screen, however many steps its events have.
#[test]
fn a_status_shows_what_matters_of_the_events() {
    let mut fixture = Fixture::with_groups();
    fixture.node_down(NodeNumber(1), "silent");
    fixture.lease_over(NodeNumber(1));
    fixture.run_events();
    let view = fixture.view(NodeNumber(2));
    let status = StatusDoc::new(Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO });
    let told: Vec<&str> = status.events.iter().map(|event| event.message.as_str()).collect();
    assert!(told.contains(&"node n1 is DOWN") && told.contains(&"group web is ONLINE on n2"));
    let least = status.events.iter().all(|event| event.severity <= Severity::Notice);
    assert!(least && told.len() <= vedette_collector::clinfo::STATUS_EVENTS, "{told:?}");
}

#[test]
fn h5_a_network_shows_its_group() {
    let view = one_down();
    let networks = NetworkDoc::all(&view);
    let [neta, netb] = &networks[..] else { panic!("two networks: {networks:?}") };
    assert_eq!((neta.nodes_defined, neta.nodes_in_group), (3, Some(2)));
    assert_eq!(neta.group_status.name(), "Stable");
    assert_eq!(neta.leader.as_deref(), Some("n2"));
    assert_eq!((neta.interval_ms, netb.interval_ms, neta.sensitivity), (200, 400, 5));
    assert_eq!(NetworkDoc::find(&view, "2").as_ref(), Some(netb));
}

/// V7, V8: every port with its generation and its line.
#[test]
fn v7_ports_have_members_and_text() {
    let ports = PortDoc::all(&one_down());
    let lines: Vec<String> =
        ports.iter().map(|port| format!("{} {}", port.name, port.membership)).collect();
    assert_eq!(lines, ["a  12", "h  12", "neta  12", "netb  12"]);
    assert!(ports.iter().all(|port| port.generation > 0));
}

/// H41, T2: without a quorum a node routes by what it sees, and says of the rest that it does not know.
#[test]
fn h41_a_route_without_a_quorum() {
    let mut view = alone(&Fixture::settled(3), NodeNumber(1));
    let route = RouteDoc::new(&view, "n1", "n1").expect("its own interfaces can be used");
    assert_eq!((&*route.local_network, &*route.remote_address), ("neta", "10.91.0.1"));
    let not_known = |name: &str| Err(NoRoute::NotKnown(name.into()));
    assert_eq!(RouteDoc::new(&view, "n1", "n2"), not_known("n2"));
    assert_eq!(RouteDoc::new(&view, "n3", "n2"), not_known("n3"));

    // A minority of two: only the network works over which the other is heard.
    let mut report = view.local.report.as_deref().expect("a report").clone();
    for link in &mut report.links {
        let heard = (link.peer, link.network) == (NodeNumber(2), NetworkNumber(2));
        (link.inbound, link.outbound) = (heard, heard);
    }
    view.local.report = Some(Arc::new(report.clone()));
    let route = RouteDoc::new(&view, "n1", "n2").expect("n2 is heard");
    assert_eq!((&*route.local_network, route.same_network), ("netb", true));

    report.interfaces.iter_mut().for_each(|own| own.usable = false);
    view.local.report = Some(Arc::new(report));
    assert_eq!(RouteDoc::new(&view, "n1", "n1"), Err(NoRoute::NoInterface("n1".into())));
    view.local.report = None;
    assert_eq!(RouteDoc::new(&view, "n1", "n1"), not_known("n1"));
}

/// H41: the best route prefers a common network of high priority.
#[test]
fn h41_best_route() {
    let mut fixture = Fixture::settled(3);
    let view = fixture.view(NodeNumber(1));
    let route = RouteDoc::new(&view, "1", "n2").expect("a route");
    assert_eq!((route.local_network.as_str(), route.same_network), ("neta", true));
    assert_eq!(
        (route.local_address.as_str(), route.remote_address.as_str()),
        ("10.91.0.1", "10.91.0.2")
    );

    let down = |node, network| Change::Interface {
        node: NodeNumber(node),
        network: NetworkNumber(network),
        to: InterfaceStatus::Down,
        cause: String::new(),
    };
    fixture.apply(Command::Observe { changes: vec![down(2, 1)] });
    let route = RouteDoc::new(&fixture.view(NodeNumber(1)), "n1", "n2").expect("a route");
    assert_eq!(route.local_network, "netb");

    fixture.apply(Command::Observe { changes: vec![down(1, 2)] });
    let route = RouteDoc::new(&fixture.view(NodeNumber(1)), "n1", "n2").expect("a route");
    assert!(!route.same_network, "first here, first there: {route:?}");

    fixture.apply(Command::Observe { changes: vec![down(2, 2)] });
    let view = fixture.view(NodeNumber(1));
    assert_eq!(RouteDoc::new(&view, "n1", "n2"), Err(NoRoute::NoInterface("n2".into())));
    assert_eq!(RouteDoc::new(&view, "n1", "n9"), Err(NoRoute::UnknownNode("n9".into())));
}

/// H41: is an address available?
#[test]
fn h41_address_availability() {
    let view = one_down();
    let available = |text: &str| {
        AvailabilityDoc::new(&view, text.parse().expect("an address")).and_then(|doc| doc.available)
    };
    assert_eq!(available("10.91.0.1"), Some(true));
    assert_eq!(available("10.91.0.3"), Some(false));
    assert!(AvailabilityDoc::new(&view, "192.0.2.1".parse().expect("an address")).is_none());
    let lost = alone(&Fixture::settled(3), NodeNumber(1));
    let own = AvailabilityDoc::new(&lost, "10.91.0.1".parse().expect("an address"));
    assert_eq!(own.map(|doc| doc.available), Some(None), "nobody is there who could say");
}

/// A link of the answering node shows what it sees; the others do not.
#[test]
fn links_show_what_is_seen() {
    let links = LinkDoc::all(&one_down());
    assert_eq!(links.len(), 6);
    for link in links {
        assert_eq!(link.seen.is_some(), link.low == "n1", "{link:?}");
        assert!(link.seen.is_none_or(|seen| seen.rtt_ms.is_some_and(|rtt| rtt < 1.0)));
    }
}

/// The CLI reads what the API writes.
#[test]
fn documents_survive_json() {
    let view = one_down();
    let status = StatusDoc::new(Seen { view: &view, now: DOWN_AT, stale: Duration::ZERO });
    let text = serde_json::to_string(&status).expect("json");
    assert!(text.contains(r#""host_status":"DOWN""#) && text.contains(r#""substate":"stable""#));
    assert_eq!(serde_json::from_str::<StatusDoc>(&text).expect("the same"), status);
    assert_eq!(status.cluster.redundancy.quorum_remaining, Some(0));
    assert_eq!(status.events.last().map(|event| event.subject.name.as_str()), Some("n3"));
}

/// R7: what a takeover waits for, and what goes on with it, is where people look.
#[test]
fn r7_a_takeover_that_waits_says_what_goes_on_with_it() {
    let mut fixture = Fixture::with_groups();
    let node = fixture.state.groups["web"].owner().expect("an owner");
    fixture.node_down(node, "silent");
    let why = "it cannot be fenced; once it is certainly off: vedette node confirm-off n1";
    fixture.group(GroupCommand::Waits {
        node,
        groups: fixture.state.groups.keys().cloned().collect(),
        why: why.into(),
    });
    let view = fixture.view(NodeNumber(2));
    let web = GroupDoc::find(&view, "web").expect("a group");
    let waits = web.waits_for.expect("it waits");
    assert_eq!(waits, format!("evidence that n1 has let go of it: {why}"));
    fixture.lease_over(node);
    let web = GroupDoc::find(&fixture.view(NodeNumber(2)), "web").expect("a group");
    assert_eq!(web.waits_for, None);
}
