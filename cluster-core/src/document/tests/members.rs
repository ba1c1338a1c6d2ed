//! What a document may say of members and of events of a site's own, and what a deletion leaves of it.

use super::*;
use crate::command::Command;

/// J6: of two standby adapters for one node and network only one could ever take over.
#[test]
fn j6_a_second_standby_adapter_is_refused() {
    let standby = |node: &str, network: &str, address: &str| {
        format!(
            "[[standby]]\nnode = \"{node}\"\nnetwork = \"{network}\"\naddress = \"{address}\"\n"
        )
    };
    let first = standby("n3", "neta", "10.91.0.77");
    assert_eq!(errors(&format!("{first}{}", standby("n3", "netb", "10.92.0.77"))), [""; 0]);
    refused(
        &format!("{first}{}", standby("n3", "neta", "10.91.0.78")),
        &["line 5: ", "standby[2]", "n3 has a second standby adapter on neta, after standby[1]"],
    );
}

/// J11: a snapshot that is taken for a document is one error, not one for each of its lines.
#[test]
fn j11_a_snapshot_is_no_document() {
    let text =
        format!("# vedette snapshot, format 9\n\n=== configuration ===\n{WEB}\n=== rules ===\nX\n");
    refused(
        &text,
        &["this is a snapshot and not a configuration document", "vedette snapshot apply"],
    );
}

/// J3: a deletion leaves a document that is about members only: it checks, is printed and read back, and is applied.
#[test]
fn j3_a_deletion_leaves_a_document_that_verifies() {
    let mut fixture = Fixture::with_groups();
    let n3 = NodeNumber(3);
    let definition = &mut fixture.state.definition;
    let address = "10.91.0.77".parse().expect("an address");
    definition.standbys.push(Standby { node: n3, network: NetworkNumber(1), address });
    let agent = "fence_ipmilan".to_owned();
    let (options, action, timeout_ms) = (BTreeMap::new(), "off".to_owned(), 60_000);
    definition.fencing.insert(n3, FenceDef { agent, options, action, timeout_ms });
    for def in &mut definition.groups {
        def.nodes = vec![n3, NodeNumber(1), NodeNumber(2)];
    }
    fixture.state.settings.seed_count = 3;
    fixture.node_down(n3, "silent");
    fixture.lease_over(n3);
    fixture.run_events();
    fixture.apply(Command::RemoveNode { node: n3 });
    let state = &fixture.state;
    assert!(!state.nodes.contains_key(&n3), "{:?}", fixture.records.last());
    let wrong = |found: Vec<Finding>| found.into_iter().filter(|it| it.error).collect::<Vec<_>>();
    assert_eq!(wrong(examine(state)), []);
    let text = print(state);
    assert!(!text.contains("node 3") && !text.contains("n3"), "{text}");
    let (read_back, findings) = read(&text, state);
    assert_eq!((wrong(findings), read_back), (vec![], Document::of(state)));
    assert_eq!(state.settings.seed_count, 2);
    let told: Vec<&str> = fixture
        .records
        .iter()
        .filter(|record| record.cause == "a node was deleted")
        .map(|record| record.message.as_str())
        .collect();
    assert_eq!(told[1], "seed_count is 2, it was 3");
    assert!(told[0].ends_with("the standby adapters, fencing"), "{told:?}");
}

/// J3: a group is never left without any node.
#[test]
fn j3_the_only_node_of_a_group_stays() {
    let mut fixture = Fixture::settled(3);
    let (mut def, _) = parse(WEB, &fixture.state);
    def.groups[0].nodes = vec![NodeNumber(3)];
    fixture.state.definition = def;
    let proposal = crate::command::Proposal {
        id: crate::id::CommandId([0xee; 16]),
        at: fixture.clock,
        origin: NodeNumber(1),
        actor: "root@n1".into(),
        command: Command::RemoveNode { node: NodeNumber(3) },
        tick: None,
    };
    let outcome = fixture.state.clone().apply(1_000_000, &proposal).outcome;
    assert!(format!("{outcome:?}").contains("n3 is the only node of web"), "{outcome:?}");
    fixture.state.definition.groups[0].nodes.push(NodeNumber(1));
    fixture.apply(Command::RemoveNode { node: NodeNumber(3) });
    assert_eq!(fixture.state.definition.groups[0].nodes, [NodeNumber(1)]);
}

/// J6: rules about a node that was deleted are told by `verify`.
#[test]
fn j6_rules_about_nobody_are_told() {
    let mut fixture = Fixture::settled(3);
    let text = "UE_FULL\n0\n/site/full.rp\n2\n0\nfs.used_percent\nNodeNum=3\nX>90\n\n".to_owned();
    let programs = BTreeMap::from([("/site/full.rp".to_owned(), "all \"a\" X NULL\n".into())]);
    fixture.apply(Command::SaveRules { text, programs, comment: String::new(), based_on: 0 });
    assert_eq!(fixture.state.rules.active, 1);
    assert_eq!(examine(&fixture.state), []);
    fixture.apply(Command::RemoveNode { node: NodeNumber(3) });
    let found = examine(&fixture.state);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(!found[0].error && found[0].what == "there is no node 3, so this rule never fires");
}

/// T9: on_failure and time_limit of events of one's own; of built-in ones they are refused.
#[test]
fn t9_policies_are_for_events_of_ones_own() {
    let fine = "[events.UE_FULL]\non_failure = \"abort\"\ntime_limit = \"2m\"\n";
    let (document, findings) = read(fine, &state());
    assert!(findings.iter().all(|it| !it.error), "{findings:?}");
    let hooks = &document.definition.hooks["UE_FULL"];
    assert_eq!((hooks.on_failure, hooks.time_limit_ms), (OnFailure::Abort, Some(120_000)));
    refused(&fine.replace("UE_FULL", "node_down"), &["node_down is a built-in event"]);
    refused(&fine.replace("2m", "10ms"), &["events.UE_FULL.time_limit", "less than a second"]);
    refused(&fine.replace("abort", "ignore"), &["on_failure", "wait"]);
}
