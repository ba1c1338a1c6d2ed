//! H34 to H36, H47: what the commands about the document show, as golden files.

use std::collections::BTreeMap;

use vedette_core::command::Command;
use vedette_core::fixture::Fixture;
use vedette_core::id::NodeNumber;

use super::super::screens::{SCREEN, expect, now};
use super::super::snapshot::{self, Changes, Snapshot};
use super::super::verify::Verified;
use super::*;

const WEB: &str = "# The web servers.\n[groups.web]\nnodes = [\"n1\", \"n2\"]\n\n\
    [groups.web.resources.web-ip]\nkind = \"address\"\naddress = \"10.91.0.200/16\"\n";

/// A cluster in which two documents were applied, the second one by an operator with a reason.
fn applied() -> ClusterState {
    let mut fixture = Fixture::settled(3);
    let more = format!("{WEB}\n[groups.db]\npolicy = \"rotating\"\nnodes = [\"n3\"]\n");
    for (based_on, text, comment) in [(0, WEB, "the web servers"), (1, &more, "a data base, too")] {
        let (text, comment) = (text.to_owned(), comment.to_owned());
        fixture.apply(Command::Config(ConfigCommand::Propose { text, comment, based_on }));
        let proposal = fixture.state.documents.pending.as_ref().unwrap().id;
        for node in [1, 2, 3].map(NodeNumber) {
            let findings = Vec::new();
            fixture.apply(Command::Config(ConfigCommand::Verified {
                proposal,
                node,
                findings,
                warnings: Vec::new(),
            }));
        }
    }
    fixture.state
}

/// Documents are told from a node's own file: `config check` takes both kinds.
#[test]
fn documents_are_told_from_a_nodes_own_file() {
    assert!(is_document(include_str!("../../../../contrib/cluster.toml")));
    assert!(is_document("[[standby]]\nnode = \"n1\"\n"));
    assert!(is_document("[cluster.timing]\nprofile = \"fast\"\n"));
    assert!(!is_document("[node]\nname = \"n1\"\n[cluster]\nname = \"prod\"\n[[network]]\n"));
    assert!(!is_document("[cluster]\nname = \"prod\"\n"), "that may be either: as it was");
    assert!(!is_document("not TOML at all"));
}

/// The event that is named is that of the version, whatever older ones wait.
#[test]
fn what_follows_a_document_is_the_event_of_its_version() {
    let mut fixture = Fixture::settled(3);
    let event = |id: u64, version: u32| vedette_core::event::Event {
        id,
        trigger: Trigger::ReconfigResource { version },
        at: fixture.clock,
        cause: String::new(),
        incident: 1,
        motive: None,
    };
    fixture.state.manager.queue = vec![event(4, 1), event(5, 2)];
    let named = changes(&fixture.state, 2);
    assert_eq!(named.as_deref(), Some("event 5 reconfig_resource version 2"));
    assert_eq!(changes(&fixture.state, 3), None);
}

/// H35: every finding at once, each with line, key and advice.
#[test]
fn h35_what_is_wrong_with_a_document() {
    let text = "[groups.web]\npolicy = \"cascadin\"\nnodes = [\"n1\", \"n9\"]\n\n\
        [groups.web.resources.web]\nkind = \"application\"\nstart = [\"/opt/web\"]\n";
    let (_, findings) = document::read(text, &applied());
    expect("config_check_errors.txt", &check_screen("cluster.toml", &findings, SCREEN));
    let state = applied();
    let points = document::single_points(&Document::of(&state), &state);
    expect("config_check.txt", &check_screen("cluster.toml", &points, SCREEN));
}

/// H34: what a change does, and to whom.
#[test]
fn h34_what_would_change() {
    let mut state = applied();
    let instance = vedette_core::group::Instance {
        state: vedette_core::group::GroupState::Online,
        token: 9,
        since: state.changed_at,
        resources: BTreeMap::new(),
        uncovered: None,
    };
    state.groups.get_mut("web").unwrap().instances.insert(NodeNumber(1), instance);
    let text = WEB.replace("10.91.0.200", "10.91.0.222") + "[cluster]\nseed_count = 3\n";
    let new = document::read(&text, &state).0;
    let difference = document::diff(&Document::of(&state), &new, &state);
    expect("config_diff.txt", &difference_screen(&difference, SCREEN));
    let same = document::diff(&Document::of(&state), &Document::of(&state), &state);
    assert_eq!(difference_screen(&same, SCREEN), "Nothing changes.\n");
}

/// H36: versions, the one in force marked.
#[test]
fn h36_versions_of_the_document() {
    expect("config_history.txt", &history_screen(&applied().documents, &now(), SCREEN));
    let none = history_screen(&DocumentStore::default(), &now(), SCREEN);
    assert!(none.starts_with("No document was applied yet"), "{none}");
}

fn ending() -> Ending {
    Ending {
        id: 40,
        version: None,
        nodes: BTreeMap::from([
            ("n1".to_owned(), Vec::new()),
            ("n2".to_owned(), vec!["web-ip: no interface here is on 10.91.0.0/16".to_owned()]),
        ]),
        warnings: BTreeMap::from([("n1".to_owned(), vec!["web: it runs outside".to_owned()])]),
        gone: vec!["n3".into()],
        against: Vec::new(),
    }
}

/// H35: one finding of one node is enough, and it is told with the node's name.
#[test]
fn h35_findings_of_nodes_refuse_a_document() {
    let failure = ending().accepted().unwrap_err();
    assert_eq!(failure.exit, REFUSED);
    assert!(failure.what.contains("n2: web-ip: no interface here"), "{failure}");
    let fine = Ending { nodes: BTreeMap::new(), ..ending() };
    assert!(fine.accepted().is_ok(), "a warning stands in nobody's way");
    assert_eq!(fine.warned(), "n1: web: it runs outside\n");
}

/// H35, H47: each node, then what was found, then what could fail alone.
#[test]
fn h47_verify_lists_everything() {
    let state = applied();
    let verified = Verified {
        findings: document::examine(&state),
        single_points: document::single_points(&Document::of(&state), &state),
        ending: ending(),
        absent: vec!["n3".into()],
    };
    expect("verify.txt", &verified.screen(SCREEN));
}

/// H36: one readable text of everything; applying it where it came from changes nothing.
#[test]
fn h36_a_snapshot_of_everything() {
    let mut fixture = Fixture::settled(3);
    fixture.state = applied();
    let saved = snapshot::of(&fixture.state, "2026-11-22T12:10:00Z", "root@n1");
    expect("snapshot.txt", &saved.print());
    let read = Snapshot::read(&saved.print()).unwrap();
    let (document, findings) = document::read(&read.document, &fixture.state);
    assert!(findings.iter().all(|finding| !finding.error), "{findings:?}");
    let none = Changes::of(&read, &document, &fixture.state);
    assert!(none.document.is_empty() && none.rules.is_none() && none.script.is_none());
    let other = Snapshot {
        script: Some("#!/bin/sh\nexit 0\n".into()),
        rules: Some((fixture.state.rules.in_force().text + "\n# mine\n", BTreeMap::new())),
        ..read
    };
    let changes = Changes::of(&other, &document, &fixture.state);
    assert!(matches!(&changes.script, Some(Some(script)) if script.ends_with("exit 0\n")));
    assert!(matches!(&changes.rules, Some(Some(_))));
    let alone = Snapshot { whole: false, ..other };
    let changes = Changes::of(&alone, &document, &fixture.state);
    assert!(changes.rules.is_none() && changes.script.is_none(), "it says nothing of them");
}
