//! Plans: what would be done with the groups if something were so.
//!
//! Keys are in the order of the alphabet, as they have been from the beginning.

use serde::Serialize;
use vedette_core::id::NodeNumber;
use vedette_core::plan::Plan;
use vedette_core::state::ClusterState;

/// A plan that is shown and not carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlanDoc {
    /// Groups that would move.
    pub moves: Vec<MoveDoc>,
    /// Groups that would stay, although one might wonder.
    pub stays: Vec<StayDoc>,
    /// The supposition, as it was given.
    pub what_if: Vec<String>,
}

/// A group that is released, acquired, or both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MoveDoc {
    /// Nodes that acquire it.
    pub acquire: Vec<String>,
    /// Nodes that have it.
    pub from: Vec<String>,
    /// The group.
    pub group: String,
    /// The reason.
    pub reason: String,
    /// Nodes that release it.
    pub release: Vec<String>,
}

/// A group of which nothing is changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StayDoc {
    /// The group.
    pub group: String,
    /// The reason.
    pub reason: String,
}

impl PlanDoc {
    /// A plan for a state of which something is supposed.
    pub fn new(state: &ClusterState, plan: &Plan, what_if: &[String]) -> Self {
        let names =
            |nodes: &[NodeNumber]| nodes.iter().map(|node| state.node_name(*node)).collect();
        let moves = plan.moves.iter().map(|it| MoveDoc {
            acquire: names(&it.acquire),
            from: holders(state, &it.group),
            group: it.group.clone(),
            reason: it.reason.clone(),
            release: names(&it.release),
        });
        let stays = plan
            .stays
            .iter()
            .map(|it| StayDoc { group: it.group.clone(), reason: it.reason.clone() });
        Self { moves: moves.collect(), stays: stays.collect(), what_if: what_if.to_vec() }
    }
}

/// Names of the nodes that have something of a group now.
pub fn holders(state: &ClusterState, group: &str) -> Vec<String> {
    let group = state.groups.get(group).into_iter();
    group.flat_map(|group| group.instances.keys()).map(|node| state.node_name(*node)).collect()
}

#[cfg(test)]
mod tests {
    use vedette_core::fixture::busy_fixture;
    use vedette_core::plan::{Move, Stay};

    use super::*;

    /// The very text that scripts have been given.
    #[test]
    fn a_plan_is_told_as_ever() {
        let state = busy_fixture().state;
        let group = "logs".to_owned();
        let (acquire, release) = (vec![NodeNumber(2)], vec![NodeNumber(1)]);
        let moves = vec![Move { group: group.clone(), release, acquire, reason: "a".into() }];
        let stays = vec![Stay { group, reason: "b".into() }];
        let document = PlanDoc::new(&state, &Plan { moves, stays }, &["n1=down".to_owned()]);
        let from = serde_json::to_string(&holders(&state, "logs")).expect("JSON");
        assert_eq!(
            serde_json::to_string(&document).expect("JSON"),
            format!(
                r#"{{"moves":[{{"acquire":["n2"],"from":{from},"group":"logs","reason":"a","release":["n1"]}}],"stays":[{{"group":"logs","reason":"b"}}],"what_if":["n1=down"]}}"#
            )
        );
    }
}
