//! What tests of the state have in common.

use crate::command::{Command, Proposal};
use crate::fixture::Fixture;
use crate::id::{CommandId, NodeNumber};

use super::{ClusterState, Outcome, Refusal};

/// What is said to a command that must be refused; nothing has changed then.
pub(super) fn refused(fixture: &mut Fixture, command: Command) -> Refusal {
    let mut state: ClusterState = fixture.state.clone();
    let id = CommandId([0xee; 16]);
    let actor = "root@n1".to_owned();
    let proposal =
        Proposal { id, at: fixture.clock, origin: NodeNumber(1), actor, command, tick: None };
    let applied = state.apply(1_000_000, &proposal);
    assert!(applied.records.is_empty() && state == fixture.state, "{proposal} left a trace");
    match applied.outcome {
        Outcome::Refused(refusal) => refusal,
        other => panic!("{other:?}"),
    }
}
