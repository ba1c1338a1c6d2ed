//! Calling a fence agent: what stands in the definition of the node, by [`vedette_node::fence`].

use vedette_core::id::NodeNumber;
use vedette_core::model::RunOutcome;
use vedette_core::state::ClusterState;
use vedette_node::{fence, process};

/// Fences a node as it is configured now.
pub(super) async fn call(state: &ClusterState, node: NodeNumber) -> RunOutcome {
    let name = state.node_name(node);
    match state.definition.fencing.get(&node) {
        Some(definition) => fence::fence(definition, &name).await,
        None => process::not_started(format!("no fence agent is configured for {name}")),
    }
}
