//! Placement: where each group shall be, decided by a pure function that gives its reasons.
//!
//! Read it as a conversation. Something happened (the trigger of an event, an operator's wish, or
//! nothing at all: [`astray`]). For each group that this concerns, the question is the same: who has
//! it, who may have it ([`obstacle`] says why a node may not), and what does its policy make of that?
//!
//! - A *cascading* group is on the first node of its list that may have it. It goes back when its
//!   home returns, the first of its list, unless it is told not to; any other node that comes before
//!   the present one is no reason to move it (redbook, 8.2.1). A node to which an operator moved it
//!   counts as its home. It may have to wait before it goes back (`back`).
//! - A *rotating* group stays where it is. When its node goes, the next of its list takes it that has
//!   no other rotating group on the network of its service address, or the one with the least to
//!   do. A node that joins takes at most one such group for each network.
//! - A *concurrent* group is on every node of its list that may have it.
//!
//! Whatever the policy, a group whose service address cannot be reached on its node, because the
//! adapter there failed, goes to a node where it can (and back home afterwards, if that is its policy).
//!
//! What always holds:
//!
//! - A group that is not concurrent is planned on one node at most.
//! - Nothing is planned on a node that may not have it.
//! - What an event does not concern is not disturbed: only a group that must move moves.
//! - Once a plan is carried out, the same question has an empty answer.

mod back;
mod choice;
mod moves;
mod nodes;
mod whatif;

use crate::definition::Definition;
use crate::id::NodeNumber;
use crate::plan::{Move, Plan, Stay};
use crate::state::ClusterState;
use crate::trigger::{StopMode, Trigger};

use moves::{Decision, Planner};

pub use back::goes_back;
pub(crate) use back::home;
pub use nodes::{absence, exhausted, is_cut_off, obstacle};
pub use whatif::{WhatIf, carry_out, what_if};

/// Why placement is asked.
#[derive(Clone, Copy, Debug)]
enum Occasion<'a> {
    /// A node joins.
    Joins(NodeNumber),
    /// A node failed, or is stopped.
    Leaves(NodeNumber, Option<StopMode>),
    /// The configuration changed; what it was before, if that is known.
    Redefined(Option<&'a Definition>),
    /// One group is to move: an operator said so, or it failed too often.
    Ordered(&'a str),
    /// Nothing happened; is everything where it should be?
    Reconcile,
}

/// What the groups shall do because of an event, with the state as it is when its vote has ended
/// (`state.manager.current` is that event). Nodes whose joins still wait in the queue count as
/// about to be there: nothing is placed elsewhere only to be moved to them a moment later.
pub fn for_event(state: &ClusterState, trigger: &Trigger) -> Plan {
    match trigger {
        Trigger::NodeUp(node) => plan(state, Occasion::Joins(*node)),
        // Its resources are left running: there is nothing to plan.
        Trigger::NodeDown { stop: Some(StopMode::Forced), .. } => Plan::default(),
        Trigger::NodeDown { node, stop } => plan(state, Occasion::Leaves(*node, *stop)),
        Trigger::ReconfigResource { version } => {
            let before = definition_before(state, *version);
            plan(state, Occasion::Redefined(before.as_ref()))
        }
        Trigger::GroupMove { group } => plan(state, Occasion::Ordered(group)),
        _ => Plan::default(),
    }
}

/// What the groups shall do after the definition `before` was replaced by the one in the state.
pub fn for_definition(state: &ClusterState, before: &Definition) -> Plan {
    plan(state, Occasion::Redefined(Some(before)))
}

/// The groups that are not where they should be although nothing stands in their way, and why;
/// asked when no event waits or runs. A group that is in motion, or on a node that has not been
/// seen to let go, is left alone until that is over.
pub fn astray(state: &ClusterState) -> Vec<(String, String)> {
    let moves = plan(state, Occasion::Reconcile).moves.into_iter();
    moves.map(|planned| (planned.group, planned.reason)).collect()
}

/// Whether a group is not where it should be although nothing stands in its way.
pub fn is_astray(state: &ClusterState, group: &str) -> bool {
    plan(state, Occasion::Reconcile).moves.iter().any(|planned| planned.group == group)
}

fn plan(state: &ClusterState, occasion: Occasion<'_>) -> Plan {
    let mut planner = Planner::new(state, occasion);
    let mut plan = Plan::default();
    for name in planner.groups() {
        match planner.decide(&name) {
            Decision::Nothing => {}
            Decision::Stay(reason) => plan.stays.push(Stay { group: name, reason }),
            Decision::Move { release, acquire, reason } => {
                plan.moves.push(Move { group: name, release, acquire, reason });
            }
        }
    }
    // A stable sort: the order of the configuration is kept among equals.
    plan.moves.sort_by_key(|m| !m.acquire.is_empty());
    plan
}

/// What was in force before a version of the document, as far as it is kept.
fn definition_before(state: &ClusterState, version: u32) -> Option<Definition> {
    let (_, before) = state.documents.versions.range(..version).next_back()?;
    Some(crate::document::parse(&before.text, state).0)
}
