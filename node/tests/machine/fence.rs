//! Fence agents: one of the test's own, and `fence_dummy` as installed.

use std::collections::BTreeMap;
use std::path::Path;

use vedette_core::definition::FenceDef;
use vedette_core::model::Transcript;
use vedette_node::fence::{agents, ask, fence, verify};
use vedette_node::transcript::{Heading, Kind, Transcripts, file};

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
    let outcome = fence(&given, "n2", None).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(outcome.output, "action=off\nip=192.0.2.9\nnodename=n2\nplug=2\n");
    assert!(verify(&given, "n2").is_empty());
}

#[tokio::test]
async fn only_success_proves_anything() {
    let directory = tempfile::tempdir().unwrap();
    let failing = own_agent(directory.path(), "echo 'Unable to connect' >&2; exit 1");
    let failed = fence(&def(&failing, &[]), "n2", None).await;
    assert!(!failed.succeeded() && failed.output == "Unable to connect\n", "{failed:?}");
    let hanging = own_agent(directory.path(), "exec sleep 1000");
    let slow = FenceDef { timeout_ms: 200, ..def(&hanging, &[]) };
    let late = fence(&slow, "n2", None).await;
    assert!(late.timed_out && !late.succeeded(), "{late:?}");
    let missing = def("fence_no_such_agent", &[]);
    assert!(!fence(&missing, "n2", None).await.succeeded());
    let found = verify(&missing, "n2");
    assert!(found[0].advice.contains("apt-get install fence-agents"), "{found:?}");
    let smuggled = def(&failing, &[("plug", "2\naction=on")]);
    assert!(fence(&smuggled, "n2", None).await.failure.is_some());
}

/// J10: all that an agent printed is kept, be it that it succeeded or hung.
#[tokio::test]
async fn what_an_agent_prints_is_in_a_transcript() {
    let directory = tempfile::tempdir().unwrap();
    let transcripts = Transcripts::new(directory.path(), "n1");
    let script = "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done";
    for (number, end, how) in
        [(1, "exit 0", "exit status 0"), (2, "exec sleep 1000", "ended after it ran too long")]
    {
        let agent = own_agent(directory.path(), &format!("{script}; {end}"));
        let slow = FenceDef { timeout_ms: 5_000, ..def(&agent, &[]) };
        let tape = transcripts.tape(Heading::new(Kind::Fence, "fence_own off n2"));
        let outcome = fence(&slow, "n2", Some(tape)).await;
        assert_eq!(outcome.transcript, Some(Transcript::Kept(format!("n1/{number}"))));
        let (label, text) = file::read(transcripts.folder(), number).unwrap();
        assert_eq!((label.heading.kind, label.how.as_deref()), (Kind::Fence, Some(how)));
        assert!(text.ends_with(b"\nline 3000\n"));
    }
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
    let outcome = fence(&dummy, "n2", None).await;
    assert!(outcome.succeeded(), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(&state).unwrap().trim(), "off");
}
