//! `vedette init` and the state directory it makes.

mod join_support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use join_support::*;
use vedette_core::command::{Command, Proposal};
use vedette_core::id::{NodeNumber, RaftId};
use vedette_core::model::ClusterStatus;
use vedette_core::state::ClusterState;
use vedette_node::identity::{FORM, StateDir, StateDirError};
use vedette_node::join::{JoinError, init};
use vedette_node::pki::{Authority, Tls};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("it is there").permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("our own file");
}

/// A2: the directory holds a whole membership, private to its owner, and the first command of the
/// log, which the state accepts.
#[test]
fn init_makes_a_cluster_of_one() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    let identity = init(&request).expect("a new cluster");
    let dir = StateDir::new(&request.state_dir);
    let member = dir.load().expect("a membership");
    assert_eq!(member.identity, identity);
    assert_eq!((identity.name.as_str(), identity.number), ("n1", NodeNumber(1)));
    assert_eq!(identity.raft_id, RaftId(1));
    Tls::new(&member).expect("keys that belong together");
    Authority::from_pem(&member.ca_cert, &member.ca_key).expect("an authority");
    assert_eq!(mode(dir.path()), 0o700);
    for file in ["identity.json", "cluster.key", "form.json", "tls/ca.key", "tls/node.key"] {
        assert_eq!(mode(&dir.path().join(file)), 0o600, "{file}");
    }
    let form: Proposal = dir.document(FORM).expect("readable").expect("there");
    let mut state = ClusterState::default();
    state.apply(2, &form);
    assert_eq!(state.cluster, Some(identity.cluster));
    assert_eq!(state.status, ClusterStatus::Down);
    dir.remove_document(FORM).expect("removed");
    assert_eq!(dir.document::<Proposal>(FORM).expect("readable"), None);
}

/// A directory that belongs to a cluster is refused with its owner, and stays as it was.
#[test]
fn init_refuses_a_directory_with_an_owner() {
    let home = tempfile::tempdir().expect("a directory");
    let first = init(&init_request(home.path(), "n1", 1)).expect("a new cluster");
    let refused = init(&init_request(home.path(), "n9", 9)).expect_err("it has an owner");
    let text = refused.to_string();
    assert!(text.contains("cluster demo, as its node 1 (n1)"), "{text}");
    let dir = StateDir::new(home.path().join("state"));
    assert_eq!(dir.identity().expect("still a member"), first);
}

/// What the log would refuse at the first start is refused before anything is written.
#[test]
fn init_refuses_what_makes_no_sense() {
    let home = tempfile::tempdir().expect("a directory");
    let good = init_request(home.path(), "n1", 1);
    let mut slow = good.clone();
    slow.settings.timing.lease_ms = 60_000;
    let mut lonely = good.clone();
    lonely.addresses.pop_last();
    let mut without = good.clone();
    without.networks.clear();
    for (request, words) in [
        (init_request(home.path(), "n1", 1000), "1000 is not a node number"),
        (init_request(home.path(), "", 1), "\"\" cannot be the name of a node"),
        (init_request(home.path(), "n 1", 1), "\"n 1\" cannot be the name of a node"),
        (slow, "a lease of 60000 ms"),
        (lonely, "n1 needs one address on each of neta, netb"),
        (without, "a cluster with 0 networks"),
    ] {
        let refused = init(&request).expect_err(words).to_string();
        assert!(refused.contains(words), "{refused}");
    }
    assert!(!good.state_dir.exists());
}

/// An interruption at any point before the end leaves a directory that belongs to nobody, and in
/// which `init` can be run again.
#[test]
fn an_interrupted_init_leaves_no_membership() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    let first = init(&request).expect("a new cluster");
    // As if the power had gone off just before the last rename.
    let identity = request.state_dir.join("identity.json");
    fs::rename(&identity, request.state_dir.join("identity.new")).expect("renamed");
    let dir = StateDir::new(&request.state_dir);
    assert!(matches!(dir.load(), Err(StateDirError::NotAMember { .. })));
    let second = init(&request).expect("it can be used again");
    assert_ne!(first.cluster, second.cluster);
    Tls::new(&dir.load().expect("a membership")).expect("keys that belong together");
}

/// An empty or missing directory says what to do.
#[test]
fn no_membership_says_what_to_do() {
    let home = tempfile::tempdir().expect("a directory");
    for path in [home.path().to_owned(), home.path().join("nothing")] {
        let text = StateDir::new(path).load().expect_err("no member").to_string();
        assert!(text.contains("vedette init") && text.contains("vedette join TOKEN"), "{text}");
    }
}

/// Keys that others could read are refused, with the command that puts it right.
#[test]
fn loose_modes_are_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    init(&request).expect("a new cluster");
    let dir = StateDir::new(&request.state_dir);
    for (name, good, loose, command) in [
        ("", 0o700, 0o755, "chmod 700"),
        ("tls", 0o700, 0o750, "chmod 700"),
        ("tls/ca.key", 0o600, 0o640, "chmod 600"),
        ("cluster.key", 0o600, 0o604, "chmod 600"),
        ("identity.json", 0o600, 0o666, "chmod 600"),
    ] {
        let path = request.state_dir.join(name);
        set_mode(&path, loose);
        let text = dir.load().expect_err(name).to_string();
        assert!(text.contains(command) && text.contains("open to others"), "{text}");
        set_mode(&path, good);
    }
    dir.load().expect("all is well again");
}

/// Damaged and missing files are named.
#[test]
fn damage_is_named() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    init(&request).expect("a new cluster");
    let dir = StateDir::new(&request.state_dir);
    fs::write(request.state_dir.join("cluster.key"), "not hex").expect("written");
    let text = dir.load().expect_err("damaged").to_string();
    assert!(text.contains("cluster.key is damaged: it is not 64 hexadecimal"), "{text}");
    fs::remove_file(request.state_dir.join("cluster.key")).expect("removed");
    let text = dir.load().expect_err("missing").to_string();
    assert!(text.contains("cluster.key is damaged: it is missing"), "{text}");
    fs::write(request.state_dir.join("identity.json"), "{").expect("written");
    let text = dir.load().expect_err("damaged").to_string();
    assert!(text.contains("identity.json is damaged: EOF"), "{text}");
}

/// V14: a configuration that means another node or cluster is refused with both names.
#[test]
fn a_mismatch_among_the_files_is_reported() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    let identity = init(&request).expect("a new cluster");
    let check = |node, cluster| identity.check(&request.state_dir, node, cluster);
    check("n1", Some("demo")).expect("the same");
    check("n1", None).expect("the same");
    let text = check("n2", None).expect_err("another node").to_string();
    assert!(text.contains("the name of this node is n1, but the configuration says n2"), "{text}");
    let text = check("n1", Some("prod")).expect_err("another cluster").to_string();
    assert!(text.contains("the cluster is demo, but the configuration says prod"), "{text}");
}

/// Two processes do not use one state directory.
#[test]
fn a_directory_in_use_is_refused() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    let dir = StateDir::new(&request.state_dir);
    let held = dir.lock().expect("free");
    let refused = init(&request).expect_err("in use");
    assert!(matches!(refused, JoinError::StateDir(StateDirError::InUse { .. })), "{refused}");
    drop(held);
    init(&request).expect("free again");
}

/// An agent whose guard was killed may still let go of groups when the next one starts.
#[test]
fn a_directory_is_waited_for_until_its_process_has_ended() {
    let home = tempfile::tempdir().expect("a directory");
    let dir = StateDir::new(home.path().join("state"));
    let held = dir.lock().expect("free");
    let refused = dir.lock_within(Duration::from_millis(60)).expect_err("in use");
    assert!(matches!(refused, StateDirError::InUse { .. }), "{refused}");
    let waiting = {
        let dir = dir.clone();
        std::thread::spawn(move || dir.lock_within(Duration::from_secs(60)))
    };
    drop(held);
    waiting.join().expect("no panic").expect("free again");
}

/// The first command is a Form that names the first member, so that nothing else is needed.
#[test]
fn the_first_command_names_the_first_member() {
    let home = tempfile::tempdir().expect("a directory");
    let request = init_request(home.path(), "n1", 1);
    let identity = init(&request).expect("a new cluster");
    let form: Proposal =
        StateDir::new(&request.state_dir).document(FORM).expect("readable").expect("there");
    let Command::Form { first, raft_id, .. } = form.command else { panic!("no Form") };
    assert_eq!((first.storage, raft_id), (identity.storage, identity.raft_id));
}
