//! What the cluster refuses when nodes come and go: what could not be undone (spec A6, A7, V4).

use vedette_core::command::{Command, Proposal};
use vedette_core::fixture::Fixture;
use vedette_core::id::{CommandId, Hash, NodeNumber};
use vedette_core::refusal::Refusal;
use vedette_core::state::Outcome;

/// What the cluster says to a command that it must refuse; nothing has changed then.
fn refusal(fixture: &mut Fixture, id: u8, command: Command) -> Refusal {
    let before = fixture.state.clone();
    let proposal = Proposal {
        id: CommandId([id; 16]),
        at: fixture.clock,
        origin: NodeNumber(1),
        actor: "root@n1".into(),
        command,
        tick: None,
    };
    let applied = fixture.state.apply(1_000, &proposal);
    assert!(applied.records.is_empty());
    assert_eq!((fixture.state.seq, &fixture.state.nodes), (before.seq, &before.nodes));
    match applied.outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}

fn token(fixture: &Fixture, name: &str, number: u16) -> Command {
    Command::IssueToken {
        hash: Hash([number.to_be_bytes()[1]; 32]),
        name: name.into(),
        number: NodeNumber(number),
        expires_at: fixture.clock.plus(std::time::Duration::from_secs(60)),
    }
}

/// A6: with one voter left nobody could decide anything any more, so it stays.
#[test]
fn the_only_voter_is_not_deleted() {
    let mut fixture = Fixture::settled(2);
    fixture.apply(Command::Voters { voters: vec![NodeNumber(1)] });
    let said = refusal(&mut fixture, 1, Command::RemoveNode { node: NodeNumber(1) });
    assert_eq!(said.what, "n1 is the only voter and cannot be deleted");
    fixture.apply(Command::RemoveNode { node: NodeNumber(2) });
    let said = refusal(&mut fixture, 2, Command::RemoveNode { node: NodeNumber(1) });
    assert_eq!(said.code, "last_node");
}

/// A6: of three voters a dead one may be deleted, but then no other one.
#[test]
fn a_voter_is_not_deleted_where_no_majority_would_be_left() {
    let mut fixture = Fixture::settled(3);
    fixture.node_down(NodeNumber(3), "silent");
    let said = refusal(&mut fixture, 1, Command::RemoveNode { node: NodeNumber(2) });
    assert!(said.what.contains("1 of 3 voters would be left"), "{said}");
    fixture.apply(Command::RemoveNode { node: NodeNumber(3) });
    assert!(!fixture.state.nodes.contains_key(&NodeNumber(3)));
}

/// A2: a token for a name that no configuration accepts is not issued, and one that was lost is
/// replaced, as the refusal of another one says.
#[test]
fn tokens_are_for_possible_names_and_can_be_replaced() {
    let mut fixture = Fixture::settled(3);
    let bad = token(&fixture, "no name!", 4);
    assert_eq!(refusal(&mut fixture, 1, bad).code, "bad_name");
    fixture.apply(token(&fixture, "n4", 4));
    let other = token(&fixture, "n5", 5);
    let said = refusal(&mut fixture, 2, other);
    assert!(said.what.starts_with("n4 is being added"), "{said}");
    assert!(said.advice.contains("vedette node add NAME --number 4"), "{said}");
    fixture.apply(token(&fixture, "n5", 4));
    assert_eq!(fixture.state.tokens.len(), 1);
}
