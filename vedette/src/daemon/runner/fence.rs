//! Calling a fence agent: what stands in the definition of the node, by [`vedette_node::fence`].

use vedette_core::event::Running;
use vedette_core::id::NodeNumber;
use vedette_core::model::RunOutcome;
use vedette_core::state::ClusterState;
use vedette_node::transcript::{Heading, Kind, Transcripts};
use vedette_node::{fence, process};

/// Fences a node as it is configured now, and keeps what the agent prints.
pub(super) async fn call(
    state: &ClusterState,
    node: NodeNumber,
    transcripts: &Transcripts,
) -> RunOutcome {
    let name = state.node_name(node);
    match state.definition.fencing.get(&node) {
        Some(definition) => {
            let what = format!("{} {} {name}", definition.agent, definition.action);
            let tape = transcripts.tape(heading(state, node, what));
            fence::fence(definition, &name, Some(tape)).await
        }
        None => process::not_started(format!("no fence agent is configured for {name}")),
    }
}

/// A call belongs to the event that waits for it, and to the incident of that or of the node.
fn heading(state: &ClusterState, node: NodeNumber, what: String) -> Heading {
    let waits = |running: &&Running| {
        running.event.trigger.node() == Some(node)
            || running.plan.releases(node).next().is_some()
            || running.plan.moves.iter().any(|planned| has(state, &planned.group, node))
    };
    let event = state.manager.begun().find(waits).map(|running| &running.event);
    let known = state.nodes.get(&node).and_then(|node| node.incident);
    Heading {
        event: event.map(|event| event.id),
        incident: known.or(event.map(|event| event.incident)),
        ..Heading::new(Kind::Fence, what)
    }
}

fn has(state: &ClusterState, group: &str, node: NodeNumber) -> bool {
    state.groups.get(group).is_some_and(|group| group.instances.contains_key(&node))
}

#[cfg(test)]
mod tests {
    use vedette_core::definition::FenceDef;
    use vedette_core::fixture::Fixture;
    use vedette_node::transcript::file;

    use super::*;

    /// J10: who asks for the transcripts of an event or an incident finds the fence agent among them.
    #[tokio::test]
    async fn j10_a_call_is_found_by_its_event_and_its_incident() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let agent = folder.path().join("fence_own");
        std::fs::write(&agent, "#!/bin/sh\necho no such plug; exit 1\n").unwrap();
        std::fs::set_permissions(&agent, std::fs::Permissions::from_mode(0o755)).unwrap();
        let mut fixture = Fixture::failing_over();
        let node = NodeNumber(1);
        let agent = agent.display().to_string();
        let (options, action) = (Default::default(), "off".to_owned());
        let definition = FenceDef { agent, options, action, timeout_ms: 20_000 };
        fixture.state.definition.fencing.insert(node, definition);
        let transcripts = Transcripts::new(folder.path(), "n2");
        let outcome = call(&fixture.state, node, &transcripts).await;
        assert_eq!(outcome.transcript.as_ref().and_then(|it| it.name()), Some("n2/1"));
        let (label, text) = file::read(transcripts.folder(), 1).unwrap();
        let event = &fixture.state.manager.current.as_ref().unwrap().event;
        let heading = label.heading;
        assert_eq!((heading.event, heading.incident), (Some(event.id), Some(event.incident)));
        assert_eq!((heading.kind, &text[..]), (Kind::Fence, &b"no such plug\n"[..]));
    }
}
