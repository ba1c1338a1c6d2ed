//! What could fail alone, and what stands behind a node in name only.

use super::*;

/// H47: what could fail alone, with what removes it.
#[test]
fn h47_single_points_of_failure() {
    let state = state();
    let text = WEB.replace("[\"n1\", \"n2\"]", "[\"n1\"]");
    let (document, _) = read(&text, &state);
    let found: Vec<String> =
        single_points(&document, &state).iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|found| found.contains("web can run on n1 only")), "{found:?}");
    assert!(found.iter().any(|found| found.contains("one adapter on neta")), "{found:?}");
    assert!(found.iter().all(|found| found.starts_with("warning: ")), "{found:?}");
}

/// H47: a watchdog that ends nothing, and a node that nothing makes let go; of one that the kernel
/// stands behind nothing is said.
#[test]
fn h47_what_stands_behind_a_node_in_name_only() {
    let mut fixture = Fixture::with_groups();
    let told = |state: &ClusterState| -> Vec<String> {
        let found = single_points(&Document::of(state), state);
        let all = found.iter().filter(|found| ["fencing", "watchdog"].contains(&&*found.key));
        all.map(|found| found.what.clone()).collect()
    };
    assert_eq!(told(&fixture.state), [""; 0]);
    let member = fixture.state.manager.members.get_mut(&NodeNumber(2)).expect("a manager");
    member.backing = crate::takeover::Backing::None;
    member.watchdog = Some("/dev/watchdog cannot be set below 1 s".into());
    assert_eq!(
        told(&fixture.state),
        [
            "the watchdog of n2 stands behind nothing: /dev/watchdog cannot be set below 1 s",
            "nothing makes n2 let go when silent: no kernel filter, no watchdog, no fencing",
        ]
    );
}

/// F2: the kernel stands behind addresses and nothing else; a watchdog or fencing does behind all.
#[test]
fn f2_what_outlives_a_lease_if_nothing_runs() {
    let mut fixture = Fixture::with_groups();
    let told = |state: &ClusterState| -> Vec<String> {
        let found = single_points(&Document::of(state), state);
        let all = found.iter().filter(|found| found.what.starts_with("if "));
        all.map(|found| found.to_string()).collect()
    };
    let with_kernel = told(&fixture.state);
    assert!(
        with_kernel.iter().any(|it| {
            it.contains("groups.db: if the agent of n2 or n3 stands still when the lease ends")
                && it.contains("vg_db (volume_group)")
                && it.contains("a takeover waits for an operator")
        }),
        "{with_kernel:#?}"
    );
    assert!(!with_kernel.iter().any(|it| it.contains("(address)")), "{with_kernel:#?}");
    // Processes are ended by a reaper, where there is one.
    assert!(!with_kernel.iter().any(|it| it.contains("(application)")), "{with_kernel:#?}");
    let member = fixture.state.manager.members.get_mut(&NodeNumber(2)).expect("n2");
    member.reaper = Some("it cannot be started".into());
    let without = told(&fixture.state);
    let beside = |it: &String| it.contains("(application)") && it.contains("starts it beside");
    assert!(without.iter().any(beside), "{without:#?}");
    let all = single_points(&Document::of(&fixture.state), &fixture.state);
    assert!(all.iter().any(|it| it.what == "n2 has no reaper: it cannot be started"), "{all:#?}");
    fixture.state.definition.manager.strict = true;
    assert!(told(&fixture.state)[0].contains("a takeover waits for an operator"));
    for member in fixture.state.manager.members.values_mut() {
        member.backing = crate::takeover::Backing::Watchdog;
    }
    assert_eq!(told(&fixture.state), [""; 0]);
}

/// H47: a standby adapter that failed is no redundancy, and neither is one of a node that is gone.
#[test]
fn h47_a_standby_adapter_counts_while_it_is_up() {
    let mut fixture = Fixture::with_groups();
    let network = NetworkNumber(1);
    let standby = |node: u16| Standby {
        node: NodeNumber(node),
        network,
        address: [10, 91, 1, node as u8].into(),
    };
    fixture.state.definition.standbys = vec![standby(1), standby(2)];
    let told = |state: &ClusterState| -> Vec<String> {
        let found = single_points(&Document::of(state), state);
        let all = found.iter().filter(|found| found.key == "networks.neta");
        all.map(|found| found.what.clone()).collect()
    };
    let without = "one adapter on neta carries service addresses on n3";
    assert_eq!(told(&fixture.state), [without]);
    let trigger = Trigger::FailStandby { node: NodeNumber(1), network };
    fixture.manage(ManagerCommand::Queue { trigger, cause: "eth3 has no link".into() });
    fixture.node_down(NodeNumber(2), "silent");
    assert_eq!(
        told(&fixture.state),
        [
            "one adapter on neta carries service addresses on n1: its standby adapter 10.91.1.1 is \
             DOWN (eth3 has no link)",
            "one adapter on neta carries service addresses on n2: its standby adapter 10.91.1.2 is \
             UNKNOWN",
            without,
        ]
    );
}
