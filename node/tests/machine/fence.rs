//! Fence agents: one of the test's own, and `fence_dummy` as installed.

use std::collections::BTreeMap;
use std::path::Path;

use vedette_core::definition::FenceDef;
use vedette_node::fence::{agents, ask, fence, verify};

use crate::support::program;

fn def(agent: &str, options: &[(&str, &str)]) -> FenceDef {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    FenceDef {
        agent: agent.into(),
        options: options.iter().map(own).collect::<BTreeMap<_, _>>(),
        action: "off".into(),
        timeout_ms: 30_000,
    }
}

fn own_agent(directory: &Path, text: &str) -> String {
    program(&directory.join("fence_own"), &format!("#!/bin/sh\n{text}\n"))
}

#[tokio::test]
async fn an_agent_reads_its_options_and_the_action() {
    let directory = tempfile::tempdir().unwrap();
    let agent = own_agent(directory.path(), "sort");
    let given = def(&agent, &[("plug", "2"), ("ip", "192.0.2.9"), ("action", "on")]);
    let outcome = fence(&given, "n2").await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.output, "action=off\nip=192.0.2.9\nnodename=n2\nplug=2\n");
    assert!(verify(&given, "n2").is_empty());
}

#[tokio::test]
async fn only_success_proves_anything() {
    let directory = tempfile::tempdir().unwrap();
    let failing = own_agent(directory.path(), "echo 'Unable to connect' >&2; exit 1");
    let failed = fence(&def(&failing, &[]), "n2").await;
    assert!(!failed.succeeded() && failed.output == "Unable to connect\n", "{failed:?}");
    let hanging = own_agent(directory.path(), "exec sleep 1000");
    let slow = FenceDef { timeout_ms: 200, ..def(&hanging, &[]) };
    let late = fence(&slow, "n2").await;
    assert!(late.timed_out && !late.succeeded(), "{late:?}");
    let missing = def("fence_no_such_agent", &[]);
    assert!(!fence(&missing, "n2").await.succeeded());
    let found = verify(&missing, "n2");
    assert!(found[0].advice.contains("apt-get install fence-agents"), "{found:?}");
    let smuggled = def(&failing, &[("plug", "2\naction=on")]);
    assert!(fence(&smuggled, "n2").await.failure.is_some());
}

#[tokio::test]
async fn an_agent_of_the_package_is_called_as_it_expects() {
    assert!(
        agents().iter().any(|agent| agent == "fence_dummy"),
        "fence_dummy is missing: apt-get install fence-agents"
    );
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let dummy = def("fence_dummy", &[("type", "file"), ("status_file", state.to_str().unwrap())]);
    assert!(ask(&dummy, "n2", "on").await.succeeded());
    assert_eq!(std::fs::read_to_string(&state).unwrap().trim(), "on");
    let outcome = fence(&dummy, "n2").await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&state).unwrap().trim(), "off");
}
