//! The subagent behind a real `snmpd`: what is read, what is notified, and what happens when the
//! master agent is restarted, hung or killed.

mod common;

use std::fs;
use std::sync::Arc;

use common::fixture::World;
use common::programs::{AUTH, PRIV, SNMPD_ENGINE, Snmpd, TRAPD_ENGINE, Trapd, USER, folder, printed};
use common::until;
use vedette_core::model::HostStatus;
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
/// (SHA-256, AES). `UPDATE_EXPECT=1` writes the file anew.
#[test]
fn a_walk_shows_the_cluster() {
    let snmpd = Snmpd::start("");
    let world = Arc::new(World::three_nodes());
    let _subagent = subagent(&snmpd, &world);
    let walk = snmpd.ask("snmpwalk", &[], &["VEDETTE-MIB::vedette"]);
    let path = folder().join("tests/golden/walk.txt");
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::write(&path, &walk).expect("write");
    }
    assert_eq!(walk, fs::read_to_string(&path).expect("golden file"));
    for repetitions in ["-Cr1", "-Cr10", "-Cr50"] {
        assert_eq!(snmpd.ask("snmpbulkwalk", &[repetitions], &["VEDETTE-MIB::vedette"]), walk);
    }
    assert_eq!(printed(snmpd.client("snmpbulkwalk", &V3).arg("VEDETTE-MIB::vedette")), walk);
}
