//! The subagent behind a real `snmpd`: what is read, what is notified, and what happens when the
//! master agent is restarted, hung or killed.

mod common;

use std::fs;
use std::sync::Arc;

use common::fixture::{World, draft};
use common::programs::{
    AUTH, PRIV, SNMPD_ENGINE, Snmpd, TRAPD_ENGINE, Trapd, USER, folder, printed,
};
use common::until;
use vedette_core::local::Phase;
use vedette_core::model::HostStatus;
use vedette_core::record::Code;
use vedette_core::time::Instant;
use vedette_mib::answer::Answers;
use vedette_mib::oid::Oid;
use vedette_mib::value::Value;
use vedette_mib::{FileCursor, Handle, Master, Subagent, SubagentConfig};

/// A subagent of `world` behind `snmpd`, registered.
fn subagent(snmpd: &Snmpd, world: &Arc<World>) -> Handle {
    let config = SubagentConfig::new(Master::Unix(snmpd.socket()));
    let cursor = Box::new(FileCursor::new(snmpd.dir.path().join("notified")));
    let source: Arc<World> = Arc::clone(world);
    let handle = Subagent::start(config, source, cursor).expect("start");
    until("the subagent is connected", || handle.connected().then_some(()));
    handle
}

const V3: [&str; 11] =
    ["-v3", "-u", USER, "-lauthPriv", "-aSHA-256", "-A", AUTH, "-xAES", "-X", PRIV, "-t5"];

/// A walk of the whole module is what `golden/walk.txt` says, in v2c, in bulk and with SNMPv3
/// (SHA-256, AES).
#[test]
fn a_walk_shows_the_cluster() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    let _subagent = subagent(&snmpd, &world);
    let walk = snmpd.ask("snmpwalk", &[], &["VEDETTE-MIB::vedette"]);
    assert_golden("walk.txt", &walk);
    for repetitions in ["-Cr1", "-Cr10", "-Cr50"] {
        assert_eq!(snmpd.ask("snmpbulkwalk", &[repetitions], &["VEDETTE-MIB::vedette"]), walk);
    }
    assert_eq!(printed(snmpd.client("snmpbulkwalk", &V3).arg("VEDETTE-MIB::vedette")), walk);
}

/// H11, H24: the manager, groups, resources and what waits, by the names of the MIB.
#[test]
fn a_walk_shows_groups_and_events() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::busy());
    let _subagent = subagent(&snmpd, &world);
    let walk: String = [
        "vedetteManager",
        "vedetteNodeManagerTable",
        "vedetteGroupTable",
        "vedetteGroupNodeTable",
        "vedetteResourceTable",
        "vedetteQueueTable",
        "vedetteBegunTable",
    ]
    .map(|part| snmpd.ask("snmpwalk", &[], &[&format!("VEDETTE-MIB::{part}")]))
    .concat();
    assert_golden("walk_groups.txt", &walk);
}

/// H29 to H33: monitors, values, rules that watch them, what has fired and what is blind, by the
/// names of the MIB.
#[test]
fn a_walk_shows_what_is_watched() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::watched());
    let _subagent = subagent(&snmpd, &world);
    let walk: String = [
        "vedetteMonitorTable",
        "vedetteMonitorValueTable",
        "vedetteWatchRuleTable",
        "vedetteFiredTable",
        "vedetteBlindTable",
    ]
    .map(|part| snmpd.ask("snmpwalk", &[], &[&format!("VEDETTE-MIB::{part}")]))
    .concat();
    assert_golden("walk_watched.txt", &walk);
}

/// T2: the same cluster, seen by a node that hears nobody any more.
#[test]
fn a_walk_of_a_node_alone_shows_what_it_does_not_know() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::alone());
    let _subagent = subagent(&snmpd, &world);
    let walk: String = [
        "vedetteCluster",
        "vedetteLocal",
        "vedetteHistory",
        "vedetteManager",
        "vedetteNodeTable",
        "vedetteNetworkTable",
        "vedetteInterfaceTable",
        "vedetteLinkTable",
        "vedettePortTable",
        "vedetteNodeManagerTable",
        "vedetteGroupTable",
        "vedetteGroupNodeTable",
        "vedetteResourceTable",
        "vedetteLocalRecordTable",
        "vedetteConditionTable",
    ]
    .map(|part| snmpd.ask("snmpwalk", &[], &[&format!("VEDETTE-MIB::{part}")]))
    .concat();
    assert_golden("walk_alone.txt", &walk);
    let missing = "No Such Instance currently exists at this OID\n";
    for object in ["vedetteClusterNodesUp.0", "vedetteLogStalledFor.0", "vedetteManagerEvent.0"] {
        let object = format!("VEDETTE-MIB::{object}");
        assert_eq!(snmpd.ask("snmpget", &["-Oqv"], &[&object]), missing, "{object}");
    }
}

/// `text` is what the golden file holds. `UPDATE_EXPECT=1` writes the file anew.
fn assert_golden(file: &str, text: &str) {
    let path = folder().join("tests/golden").join(file);
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, text).expect("write");
    }
    assert_eq!(text, fs::read_to_string(&path).expect("golden file"));
}

/// Objects are found by their names in the MIB; nothing can be written (spec A8, A9, H5, V7, V8).
#[test]
fn objects_are_read_by_name_and_never_written() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    let subagent = subagent(&snmpd, &world);
    let values = snmpd.ask(
        "snmpget",
        &["-Oqv"],
        &[
            "VEDETTE-MIB::vedetteNodeHostStatus.3",
            "VEDETTE-MIB::vedetteNodeAgentStatus.1",
            "VEDETTE-MIB::vedetteNetworkGroupStatus.2",
            "VEDETTE-MIB::vedettePortMembers.'h'",
            "VEDETTE-MIB::vedetteNodeName.9",
            "VEDETTE-MIB::vedetteNodeIndex.1",
        ],
    );
    let missing = "No Such Instance currently exists at this OID";
    let unknown = "No Such Object available on this agent at this OID";
    assert_eq!(values, format!("down\nrunning\nstable\n 12\n{missing}\n{unknown}\n"));

    let mut set = snmpd.client("snmpset", &["-v2c", "-cprivate", "-t5", "-r0"]);
    let refused = common::programs::run(set.args(["VEDETTE-MIB::vedetteNodeName.1", "s", "x"]));
    let complaint = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(complaint.contains("notWritable"), "{complaint}");

    world.host(3, HostStatus::Up);
    assert_eq!(snmpd.value("VEDETTE-MIB::vedetteNodeHostStatus.3").as_deref(), Some("up"));
    assert!(subagent.counters().requests > 0);
    subagent.stop();
    assert_eq!(snmpd.value("VEDETTE-MIB::vedetteMibVersion.0"), None, "the region is given back");
}

/// 100,000 variables are walked without one missing; what the walk and a Get take is printed.
#[test]
fn a_hundred_thousand_variables_are_walked() {
    const LINKS: usize = 12_500;
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    world.links(LINKS);
    let _subagent = subagent(&snmpd, &world);
    let start = std::time::Instant::now();
    let options = ["-Cr50", "-Onq"];
    let walk = snmpd.ask("snmpbulkwalk", &options, &["VEDETTE-MIB::vedetteLinkTable"]);
    eprintln!("walk of {} variables: {:?}", walk.lines().count(), start.elapsed());
    assert_eq!(walk.lines().count(), LINKS * 8);
    let names: Vec<Vec<u32>> = walk.lines().map(numbers).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "names increase");
    print_get_latency(&world, &names);
}

/// What a Get takes within the subagent; printed, because a busy machine proves nothing.
fn print_get_latency(world: &Arc<World>, names: &[Vec<u32>]) {
    let source: Arc<World> = Arc::clone(world);
    let mut answers = Answers::new(source);
    let snapshot = answers.latest(Instant::ZERO, || Instant::ZERO);
    let names: Vec<Oid> = names.iter().filter_map(|name| Oid::new(name.as_slice())).collect();
    let start = std::time::Instant::now();
    for name in &names {
        assert_ne!(answers.get(&snapshot, name), Value::NoSuchInstance);
    }
    eprintln!(
        "a Get among {} variables: {:?}",
        snapshot.len(),
        start.elapsed() / names.len() as u32
    );
}

fn numbers(line: &str) -> Vec<u32> {
    let name = line.split(' ').next().expect("a name");
    name[1..].split('.').map(|number| number.parse().expect("a number")).collect()
}

/// A8, A9: every change is notified with names, both statuses, cause, severity and sequence; as
/// SNMPv2c trap and, with SNMPv3 (SHA-256, AES), as trap and as inform.
#[test]
fn changes_are_notified_with_v2c_and_v3() {
    let (v2, v3, inform) = (Trapd::start(), Trapd::start(), Trapd::start());
    let v3_options = format!("-v3 -u {USER} -l authPriv -a SHA-256 -A {AUTH} -x AES -X {PRIV}");
    let snmpd = Snmpd::start(&format!(
        "trap2sink 127.0.0.1:{} public\n\
         trapsess {v3_options} -e {SNMPD_ENGINE} 127.0.0.1:{}\n\
         trapsess -Ci {v3_options} -e {TRAPD_ENGINE} 127.0.0.1:{}",
        v2.port, v3.port, inform.port
    ));
    let world = Arc::new(World::three_nodes());
    let subagent = subagent(&snmpd, &world);
    for receiver in [&v2, &v3, &inform] {
        receiver.wait_for(&["vedetteSubagentUp", "vedetteLocalNodeName.0 = STRING: n1"]);
        assert!(
            receiver.received().iter().all(|line| !line.contains("StatusChange")),
            "nothing of the past is told"
        );
    }
    world.host(3, HostStatus::Up);
    world.host(2, HostStatus::Down);
    subagent.poke();
    for receiver in [&v2, &v3, &inform] {
        let line = receiver.wait_for(&["vedetteNodeStatusChange", "STRING: n2"]);
        for part in [
            "vedetteClusterName.0 = STRING: sentry",
            "vedetteNodeName.2 = STRING: n2",
            "vedetteNodeHostStatus.2 = INTEGER: down(3)",
            "vedettePreviousHostStatus.0 = INTEGER: up(2)",
            "vedetteNotifyCause.0 = STRING: no beat on any network at n1 and n2 for 1000 ms",
            "vedetteNotifySeverity.0 = INTEGER: error(1)",
            "vedetteNotifySequence.0 = Counter64: ",
            "vedetteNotifyRevision.0 = Counter64: 12",
            "vedetteNotifyMessage.0 = STRING: node n2 is DOWN",
        ] {
            assert!(line.contains(part), "{part} in {line}");
        }
        receiver.wait_for(&["vedetteAgentStatusChange", "vedetteNodeAgentStatus.2"]);
        receiver.wait_for(&["vedetteClusterSubstateChange"]);
    }
    until("all are taken", || (subagent.counters().cursor == world.head()).then_some(()));
}

/// What happens while the master or we are away is told afterwards: nothing is lost.
#[test]
fn notifications_go_on_where_they_stopped() {
    let receiver = Trapd::start();
    let mut snmpd = Snmpd::start(&format!("informsink 127.0.0.1:{} public", receiver.port));
    let world = Arc::new(World::three_nodes());
    let first = subagent(&snmpd, &world);
    snmpd.kill();
    until("the loss is seen", || (!first.connected()).then_some(()));
    world.host(3, HostStatus::Up);
    first.poke();
    snmpd.restart();
    receiver.wait_for(&["vedetteNodeHostStatus.3 = INTEGER: up(2)"]);
    until("it is taken", || (first.counters().cursor == world.head()).then_some(()));
    assert_eq!(first.counters().connects, 2);
    first.stop();

    world.host(2, HostStatus::Down);
    let _second = subagent(&snmpd, &world);
    receiver.wait_for(&["vedetteNodeHostStatus.2 = INTEGER: down(3)"]);
    let repeated = receiver.received();
    let of_third = repeated.iter().filter(|line| line.contains("vedetteNodeHostStatus.3"));
    assert_eq!(of_third.count(), 1, "what was taken before is not told again");
}

/// T1, S1: what a node lives through is told at once, without a poke, to receivers of SNMPv1 too;
/// after a restart the rest follows, and nothing twice.
#[test]
fn local_records_are_told_where_they_happen() {
    let (v1, v2) = (Trapd::start(), Trapd::start());
    let snmpd = Snmpd::start(&format!(
        "trapsink 127.0.0.1:{} public\ntrap2sink 127.0.0.1:{} public",
        v1.port, v2.port
    ));
    let world = Arc::new(World::three_nodes());
    let first = subagent(&snmpd, &world);
    let cause = "it waits for n2 or n3";
    world.write(draft(Code::QuorumLost, Phase::Raised, "n1 has no quorum", cause));
    let lost = v2.wait_for(&["vedetteQuorumLost", "vedetteLocalNodeName.0 = STRING: n1"]);
    for part in [
        "vedetteClusterName.0 = STRING: sentry",
        "vedetteNotifyCode.0 = INTEGER: quorumLost(80)",
        "vedetteNotifyPhase.0 = INTEGER: raised(1)",
        "vedetteNotifySeverity.0 = INTEGER: error(1)",
        "vedetteNotifySubjectName.0 = STRING: n1",
        "vedetteNotifyMessage.0 = STRING: n1 has no quorum",
        "vedetteNotifyCause.0 = STRING: it waits for n2 or n3",
        "vedetteNotifySince.0 = STRING: ",
        "vedetteNotifyDuration.0 = Gauge32: 0 milliseconds",
        "vedetteNotifyLocalNumber.0 = Gauge32: 1",
    ] {
        assert!(lost.contains(part), "{part} in {lost}");
    }
    v1.wait_for(&[
        "SNMP v1",
        "vedetteQuorumLost ",
        "vedetteNotifyCode.0 = INTEGER: quorumLost(80)",
    ]);
    world.write(draft(Code::QuorumRegained, Phase::Cleared, "n1 has a quorum", "after 15.0 s"));
    v1.wait_for(&[
        "SNMP v1",
        "vedetteQuorumRegained ",
        "vedetteNotifyDuration.0 = Gauge32: 15000 milliseconds",
    ]);
    until("it is taken", || (first.counters().local_cursor == 2).then_some(()));
    first.stop();

    world.write(draft(Code::DiskFull, Phase::Raised, "the disk of n1 is full", "/var/lib"));
    world.write(draft(Code::DiskFull, Phase::Cleared, "the disk of n1 has room", "after 15.0 s"));
    world.write(draft(Code::GroupReleased, Phase::Happened, "n1 let go of web", "lease"));
    let second = subagent(&snmpd, &world);
    v2.wait_for(&["vedetteLocalRaised", "diskFull(89)"]);
    v2.wait_for(&["vedetteLocalCleared", "diskFull(89)"]);
    v2.wait_for(&["vedetteLocalEvent", "groupReleased(82)"]);
    until("it is taken", || (second.counters().local_cursor == 5).then_some(()));
    let again = v2.received().iter().filter(|line| line.contains("vedetteQuorumLost")).count();
    assert_eq!(again, 1, "what was taken before is not told again");
}

/// A cursor of a version without a journal: what is there already is not told, what follows is. One of
/// another journal, whose numbers were higher: what this run of the agent wrote is told from its first on,
/// such as that its history was set aside.
#[test]
fn a_cursor_of_another_journal_begins_with_this_run() {
    for (kept, told) in [("3\n", false), ("3 900\n", true)] {
        let receiver = Trapd::start();
        let snmpd = Snmpd::start(&format!("trap2sink 127.0.0.1:{} public", receiver.port));
        fs::write(snmpd.dir.path().join("notified"), kept).expect("write");
        let world = Arc::new(World::three_nodes());
        world.write(draft(Code::DiskFull, Phase::Raised, "first", ""));
        let subagent = subagent(&snmpd, &world);
        world.write(draft(Code::DiskFull, Phase::Cleared, "new", ""));
        receiver.wait_for(&["vedetteLocalCleared", "STRING: new"]);
        let raised = receiver.received().iter().any(|line| line.contains("vedetteLocalRaised"));
        assert_eq!(raised, told, "{kept}");
        until("the rest of the history is told from 3 on", || {
            (subagent.counters().cursor == world.head()).then_some(())
        });
        receiver.wait_for(&["vedetteNodeStatusChange"]);
    }
}

/// S9: a second subagent with the same module is not connected and says why; it takes over when the
/// first one is gone.
#[test]
fn s9_a_second_subagent_says_what_is_wrong() {
    let snmpd = Snmpd::start("");
    let first = subagent(&snmpd, &Arc::new(World::three_nodes()));
    assert_eq!(first.trouble(), None);
    let config = SubagentConfig::new(Master::Unix(snmpd.socket()));
    let cursor = Box::new(FileCursor::new(snmpd.dir.path().join("second")));
    let second = Subagent::start(config, Arc::new(World::busy()), cursor).expect("start");
    let trouble = until("the second is refused", || second.trouble());
    assert!(trouble.starts_with("another subagent has registered this module"), "{trouble}");
    assert!(!second.connected() && first.connected());
    let name = || snmpd.value("VEDETTE-MIB::vedetteClusterName.0");
    assert_eq!(name().as_deref(), Some("sentry"));
    first.stop();
    until("the second takes over", || second.connected().then_some(()));
    assert_eq!((second.trouble(), name().as_deref()), (None, Some("prod")));
}

/// A burst is told completely, in order, a few at a time.
#[test]
fn a_burst_of_notifications_arrives_completely() {
    let receiver = Trapd::start();
    let snmpd = Snmpd::start(&format!("informsink 127.0.0.1:{} public", receiver.port));
    let world = Arc::new(World::three_nodes());
    let subagent = subagent(&snmpd, &world);
    for round in 0..100 {
        let to = if round % 2 == 0 { HostStatus::Netpar } else { HostStatus::Up };
        world.host(2, to);
        subagent.poke();
    }
    until("all hundred are received", || {
        let received = receiver.received();
        let ours = received.iter().filter(|line| line.contains("vedetteNodeStatusChange"));
        (ours.count() == 100).then_some(())
    });
    until("all are taken", || (subagent.counters().cursor == world.head()).then_some(()));
    assert_eq!(subagent.counters().refused, 0);
}

/// snmpd restarted: back in no time. snmpd hung: nobody but this thread notices. snmpd killed in
/// the midst of a walk: the next one is complete.
#[test]
fn a_master_that_is_restarted_hung_or_killed_does_no_harm() {
    let mut snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    let subagent = subagent(&snmpd, &world);
    for _ in 0..3 {
        snmpd.restart();
        let start = std::time::Instant::now();
        until("the subagent is back", || snmpd.value("VEDETTE-MIB::vedetteMibVersion.0"));
        eprintln!("back {:?} after snmpd answered again", start.elapsed());
    }
    snmpd.signal("-STOP");
    for round in 0..200 {
        world.host(2, if round % 2 == 0 { HostStatus::Down } else { HostStatus::Up });
        subagent.poke();
        let _ = subagent.counters();
    }
    snmpd.signal("-CONT");
    until("it answers again", || snmpd.value("VEDETTE-MIB::vedetteNodeHostStatus.2"));
    until("all is told", || (subagent.counters().cursor == world.head()).then_some(()));

    world.links(12_500);
    let options = ["-v2c", "-cpublic", "-t1", "-r0", "-Onq"];
    let mut walk = snmpd.client("snmpwalk", &options);
    let walk = walk.arg("VEDETTE-MIB::vedetteLinkTable").stdout(std::process::Stdio::piped());
    let mut walk = walk.stderr(std::process::Stdio::null()).spawn().expect("snmpwalk");
    let before = subagent.counters().requests;
    until("the walk is under way", || (subagent.counters().requests > before + 100).then_some(()));
    snmpd.kill();
    let _ = walk.kill();
    let _ = walk.wait();
    world.links(100);
    snmpd.restart();
    until("the subagent is back", || snmpd.value("VEDETTE-MIB::vedetteMibVersion.0"));
    // A large snapshot is not made anew at once: it rests first.
    until("the links that are gone are not shown", || {
        snmpd.value("VEDETTE-MIB::vedetteLinkStatus.1.100.1").is_none().then_some(())
    });
    let walk = snmpd.ask("snmpbulkwalk", &[], &["VEDETTE-MIB::vedetteLinkTable"]);
    assert_eq!(walk.lines().count(), 800);
}

/// The master may be reached over TCP too.
#[test]
fn a_master_is_reached_over_tcp() {
    let snmpd = Snmpd::start("");
    let master = format!("tcp:127.0.0.1:{}", snmpd.tcp_port).parse().expect("an address");
    let cursor = Box::new(FileCursor::new(snmpd.dir.path().join("notified")));
    let world = Arc::new(World::three_nodes());
    let handle = Subagent::start(SubagentConfig::new(master), world, cursor).expect("start");
    let value = until("it answers", || snmpd.value("VEDETTE-MIB::vedetteClusterName.0"));
    assert_eq!(value, "sentry");
    assert!(handle.connected());
}

/// Without a master at all, and stopped before there ever was one.
#[test]
fn it_starts_and_stops_without_a_master() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let config = SubagentConfig::new(Master::Unix(dir.path().join("nobody")));
    let cursor = Box::new(FileCursor::new(dir.path().join("notified")));
    let handle = Subagent::start(config, Arc::new(World::three_nodes()), cursor).expect("start");
    handle.poke();
    let trouble = until("it says why", || handle.trouble());
    assert!(trouble.starts_with("no connection to the SNMP master agent unix:"), "{trouble}");
    assert!(!handle.connected());
    handle.stop();
}
