//! Joining over real TLS: what is taken in, what is refused, and what a lost answer leaves.

mod join_support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use join_support::*;
use vedette_core::command::{Command, NewNode, Proposal};
use vedette_core::id::{CommandId, Hash, NodeNumber, StorageId};
use vedette_core::refusal::Refusal;
use vedette_core::state::{ClusterState, Outcome};
use vedette_core::time::WallTime;
use vedette_node::identity::{Identity, StateDir, StateDirError, WELCOME};
use vedette_node::join::{
    Admitter, JoinDesk, JoinError, JoinRequest, Joined, PeerSet, Token, init, join,
};
use vedette_node::pki::Tls;

const HOUR: Duration = Duration::from_secs(3_600);

fn home() -> tempfile::TempDir {
    tempfile::tempdir().expect("a directory")
}

async fn joins(request: &JoinRequest) -> Identity {
    match join(request).await {
        Ok(Joined::Member(identity)) => identity,
        other => panic!("no member: {other:?}"),
    }
}

/// Joins in vain: the refusal. Neither side has changed.
async fn refused(first: &First, request: &JoinRequest, home: &Path) -> Refusal {
    let before = first.log.state().nodes.len();
    let result = join(request).await;
    let Err(JoinError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
    assert_eq!(first.log.state().nodes.len(), before, "the cluster has changed");
    assert_eq!(membership_files(home), Vec::<std::path::PathBuf>::new());
    assert!(!home.join("state/joining.json").exists());
    refusal
}

/// A5: the new member has everything: identity, keys that work, networks, members, settings.
#[tokio::test]
async fn a_node_joins() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR).to_string().parse().expect("the text of the token");
    let identity = joins(&first.joiner(home.path(), &token)).await;
    let dir = StateDir::new(home.path().join("state"));
    let member = dir.load().expect("a membership");
    assert_eq!(member.identity, identity);
    assert_eq!(member.cluster_key, first.member.cluster_key);
    assert_eq!(member.ca_key, first.member.ca_key);
    Tls::new(&member).expect("keys that belong together");
    let state = first.log.state();
    let node = &state.nodes[&NodeNumber(3)];
    assert_eq!((node.raft_id, node.storage), (identity.raft_id, identity.storage));
    let welcome: PeerSet = dir.document(WELCOME).expect("readable").expect("there");
    assert_eq!(welcome.members, vedette_node::peers::members(&state));
    assert_eq!((&welcome.networks, &welcome.settings), (&state.networks, &state.settings));
    assert!(!home.path().join("state/joining.json").exists());
}

/// A token is good for one node: with other storage it is refused, though name and number fit.
#[tokio::test]
async fn a_token_cannot_be_used_twice() {
    let (first, home, other) = (First::new(), home(), home());
    let token = first.token("n3", 3, HOUR);
    joins(&first.joiner(home.path(), &token)).await;
    let refusal = refused(&first, &first.joiner(other.path(), &token), other.path()).await;
    assert_eq!(refusal.code, "token_used");
    assert!(refusal.advice.contains("vedette node delete n3"), "{refusal}");
}

/// An expired token is refused with the time.
#[tokio::test]
async fn an_expired_token_is_refused() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, Duration::ZERO);
    let refusal = refused(&first, &first.joiner(home.path(), &token), home.path()).await;
    assert_eq!(refusal.code, "expired_token");
    assert!(refusal.what.contains(&token.expires_at.to_string()), "{refusal}");
}

/// V14: a token for another node is refused before anybody is asked; one whose name was changed by
/// hand is refused by the cluster.
#[tokio::test]
async fn a_token_for_another_node_is_refused() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let mut request = first.joiner(home.path(), &token);
    request.node_name = "n4".into();
    let text = join(&request).await.expect_err("another node").to_string();
    assert!(text.contains("for n3") && text.contains("says n4"), "{text}");
    request.token.name = "n4".into();
    let refusal = refused(&first, &request, home.path()).await;
    assert_eq!(refusal.code, "wrong_node");
}

/// A token that nobody issued is refused.
#[tokio::test]
async fn a_forged_token_is_refused() {
    let (first, home) = (First::new(), home());
    let forged = Token { secret: [7; 32], ..first.token("n3", 3, HOUR) };
    let refusal = refused(&first, &first.joiner(home.path(), &forged), home.path()).await;
    assert_eq!(refusal.code, "unknown_token");
}

/// V4: a number or name that is taken is refused, with both owners.
#[tokio::test]
async fn duplicate_numbers_and_names_name_both_owners() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let duplicate = Token { number: NodeNumber(1), ..token.clone() };
    let refusal = refused(&first, &first.joiner(home.path(), &duplicate), home.path()).await;
    assert_eq!(refusal.code, "duplicate_number");
    assert!(refusal.what.contains("asked for n3") && refusal.what.contains("to n1"), "{refusal}");
    let duplicate = Token { name: "n1".into(), ..token };
    let refusal = refused(&first, &first.joiner(home.path(), &duplicate), home.path()).await;
    assert_eq!(refusal.code, "duplicate_name");
    assert!(refusal.what.contains("node 3") && refusal.what.contains("node 1"), "{refusal}");
}

/// The joiner talks only to a cluster whose authority the token names.
#[tokio::test]
async fn a_foreign_authority_is_not_trusted() {
    let (first, home) = (First::new(), home());
    let token = Token { fingerprint: Hash([7; 32]), ..first.token("n3", 3, HOUR) };
    let failed = join(&first.joiner(home.path(), &token)).await.expect_err("not trusted");
    let JoinError::Unreachable { tried } = &failed else { panic!("{failed}") };
    assert_eq!(tried.len(), 2, "{failed}");
    assert!(tried.iter().all(|why| why.contains("belongs to another cluster")), "{failed}");
    assert_eq!(membership_files(home.path()), Vec::<std::path::PathBuf>::new());
}

/// M11: a clock that is off by more than two seconds is refused with the offset.
#[tokio::test]
async fn a_wrong_clock_is_refused() {
    for (offset, words) in [(5_000_000, " s behind"), (-5_000_000, " s ahead of")] {
        let (first, home) = (First::with_clock(offset), home());
        let token = first.token("n3", 3, HOUR);
        let refusal = refused(&first, &first.joiner(home.path(), &token), home.path()).await;
        assert_eq!(refusal.code, "clock_offset");
        assert!(refusal.what.contains(words), "{refusal}");
    }
}

/// A4: another release is refused with both versions.
#[tokio::test]
async fn another_version_is_refused() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let request = JoinRequest { version: "99.0.0".into(), ..first.joiner(home.path(), &token) };
    let refusal = refused(&first, &request, home.path()).await;
    assert_eq!(refusal.code, "version_mismatch");
    assert!(refusal.what.contains("99.0.0"), "{refusal}");
}

/// A4: networks and ports must be the cluster's, addresses nobody else's.
#[tokio::test]
async fn other_networks_are_refused() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let good = first.joiner(home.path(), &token);
    let change = |change: &dyn Fn(&mut JoinRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let neta = "neta".to_owned();
    let renamed = change(&|r| {
        let network = r.networks.remove("netb").expect("there");
        r.networks.insert("netc".into(), network);
    });
    let missing = change(&|r| r.networks.retain(|name, _| *name == neta));
    let port = change(&|r| r.networks.get_mut(&neta).expect("there").beat_port = 1);
    let taken = change(&|r| r.networks.get_mut(&neta).expect("there").address = ip(1, 1));
    for (request, code, words) in [
        (renamed, "unknown_network", "n3 has network netc"),
        (missing, "missing_address", "n3 has no address on network netb"),
        (port, "port_mismatch", "beat_port of network neta is 7770 in this cluster, but 1 on n3"),
        (taken, "duplicate_address", "which belongs to n1"),
    ] {
        let refusal = refused(&first, &request, home.path()).await;
        assert_eq!(refusal.code, code);
        assert!(refusal.what.contains(words), "{refusal}");
    }
    joins(&good).await;
}

/// A dry run says what would happen and changes nothing, also when all is well.
#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let request = JoinRequest { dry_run: true, ..first.joiner(home.path(), &token) };
    assert_eq!(join(&request).await.expect("it would"), Joined::WouldJoin);
    assert_eq!(first.log.state().nodes.len(), 1);
    assert!(!home.path().join("state").exists());
    joins(&first.joiner(home.path(), &token)).await;
}

/// A join whose answer is lost leaves no membership; repeated, it is answered again and the node
/// is not added twice. Any member can answer, as each sees the command applied.
#[tokio::test]
async fn a_lost_answer_is_given_again() {
    let (mut first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    let request = first.joiner(home.path(), &token);
    first.log.lose_answer.store(true, Ordering::SeqCst);
    let attempt = tokio::spawn({
        let request = request.clone();
        async move { join(&request).await }
    });
    until_added(&first).await;
    first.close();
    let lost = attempt.await.expect("no panic").expect_err("lost");
    assert!(matches!(lost, JoinError::AnswerLost { .. }), "{lost}");
    assert_eq!(membership_files(home.path()), Vec::<std::path::PathBuf>::new());
    let dir = StateDir::new(home.path().join("state"));
    assert!(matches!(dir.load(), Err(StateDirError::NotAMember { .. })));

    // A member that knows nothing of the token explains; one that saw the command answers.
    first.desk = Arc::new(JoinDesk::new(first.member.clone(), first.log.clone()).expect("keys"));
    first.open();
    let state = first.log.state();
    let result = join(&request).await;
    let Err(JoinError::Refused(refusal)) = result else { panic!("not refused: {result:?}") };
    assert_eq!(refusal.code, "join_over");
    first.desk.applied(&added(&state, &token));
    let identity = joins(&request).await;
    assert_eq!(first.log.state().revision, state.revision, "it was added twice");
    let node = &state.nodes[&NodeNumber(3)];
    assert_eq!((node.raft_id, node.storage), (identity.raft_id, identity.storage));
}

/// The command that added node 3, as every member sees it applied.
fn added(state: &ClusterState, token: &Token) -> Proposal {
    let node = &state.nodes[&token.number];
    let node = NewNode {
        number: node.number,
        name: node.name.clone(),
        storage: node.storage,
        version: node.version.clone(),
        addresses: node.interfaces.iter().map(|(n, i)| (*n, i.address)).collect(),
    };
    Proposal {
        id: CommandId([1; 16]),
        at: now(),
        origin: NodeNumber(1),
        actor: "agent".into(),
        command: Command::AddNode { node, token: token.hash() },
        tick: None,
    }
}

async fn until_added(first: &First) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while first.log.lose_answer.load(Ordering::SeqCst) {
        assert!(tokio::time::Instant::now() < deadline, "the node was never added");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A directory that belongs to a cluster is refused before anybody is asked.
#[tokio::test]
async fn a_member_does_not_join_again() {
    let (first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    init(&init_request(home.path(), "n9", 9)).expect("a cluster of its own");
    let failed = join(&first.joiner(home.path(), &token)).await.expect_err("a member");
    assert!(failed.to_string().contains("as its node 9 (n9)"), "{failed}");
}

/// Nobody there: each address is named with its reason, and nothing is left.
#[tokio::test]
async fn nobody_there_is_explained() {
    let (mut first, home) = (First::new(), home());
    let token = first.token("n3", 3, HOUR);
    first.close();
    let failed = join(&first.joiner(home.path(), &token)).await.expect_err("nobody there");
    let JoinError::Unreachable { tried } = &failed else { panic!("{failed}") };
    assert_eq!(tried.len(), 2, "{failed}");
    assert!(!home.path().join("state/joining.json").exists());
}

/// A7: a deleted node can be added again at once, with a new token; its old storage is not it.
#[tokio::test]
async fn a_deleted_node_joins_again() {
    let (first, home, other) = (First::new(), home(), home());
    let old = joins(&first.joiner(home.path(), &first.token("n3", 3, HOUR))).await;
    let removed = first.log.propose(Command::RemoveNode { node: NodeNumber(3) });
    assert!(matches!(removed, Outcome::Applied { .. }));
    let new = joins(&first.joiner(other.path(), &first.token("n3", 3, HOUR))).await;
    assert_ne!((old.storage, old.raft_id), (new.storage, new.raft_id));
    assert_ne!(new.storage, StorageId([0; 16]));
    assert!(first.log.now() > WallTime(0));
}
