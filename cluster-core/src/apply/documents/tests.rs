//! H34, H35, H36: a document on its way into force, by commands alone.

use super::*;
use crate::command::{Change, Command, GroupCommand};
use crate::fixture::Fixture;
use crate::group::{GroupState, Instance};
use crate::id::CommandId;
use crate::model::Priority;
use crate::state::Outcome;

const WEB: &str = "[groups.web]\nnodes = [\"n1\", \"n2\"]\n[groups.web.resources.web-ip]\n\
    kind = \"address\"\naddress = \"10.91.0.200/16\"\n";

const DB: &str = "[groups.db]\nnodes = [\"n2\"]\n[groups.db.resources.db-vg]\n\
    kind = \"volume_group\"\nvolume_group = \"vg\"\n";

fn propose(fixture: &mut Fixture, text: &str) -> u64 {
    let based_on = fixture.state.documents.active;
    let command = ConfigCommand::Propose { text: text.into(), comment: "why".into(), based_on };
    fixture.apply(Command::Config(command));
    fixture.state.documents.pending.as_ref().expect("it is verified").id
}

fn answer(fixture: &mut Fixture, proposal: u64, node: u16, findings: &[&str]) {
    let findings = findings.iter().map(ToString::to_string).collect();
    let node = NodeNumber(node);
    fixture.apply(Command::Config(ConfigCommand::Verified {
        proposal,
        node,
        findings,
        warnings: Vec::new(),
    }));
}

fn in_force(fixture: &mut Fixture, text: &str) {
    let proposal = propose(fixture, text);
    for node in 1..=3 {
        answer(fixture, proposal, node, &[]);
    }
    assert_eq!(
        fixture.state.documents.last.as_ref().and_then(|last| last.version),
        Some(fixture.state.documents.active)
    );
}

/// What becomes of a command that may be refused.
fn try_it(fixture: &mut Fixture, command: ConfigCommand) -> Result<(), Refusal> {
    let mut proposal = crate::command::Proposal {
        id: CommandId([0xee; 16]),
        at: fixture.clock,
        origin: NodeNumber(1),
        actor: "root@n1".into(),
        command: Command::Config(command),
        tick: None,
    };
    proposal.id.0[0] = fixture.state.revision as u8;
    let before = fixture.state.clone();
    match fixture.state.apply(fixture.state.revision + 1, &proposal).outcome {
        Outcome::Refused(refusal) => {
            assert_eq!(fixture.state, before, "a refusal leaves no trace");
            Err(refusal)
        }
        _ => Ok(()),
    }
}

fn last_message(fixture: &Fixture, code: Code) -> String {
    let mut all = fixture.records.iter().rev();
    all.find(|record| record.code == code).map(|record| record.message.clone()).unwrap_or_default()
}

#[test]
fn h35_it_takes_effect_when_everybody_has_nothing_against_it() {
    let mut fixture = Fixture::settled(3);
    let proposal = propose(&mut fixture, WEB);
    assert_eq!(fixture.state.definition, Default::default(), "not before it is verified");
    answer(&mut fixture, proposal, 1, &[]);
    answer(&mut fixture, proposal, 1, &["a second answer is none"]);
    answer(&mut fixture, proposal + 1, 2, &["about another proposal"]);
    answer(&mut fixture, proposal, 2, &[]);
    assert_eq!(fixture.state.documents.active, 0);
    answer(&mut fixture, proposal, 3, &[]);
    assert_eq!(fixture.state.documents.active, 1);
    assert!(fixture.state.definition.group("web").is_some());
    assert!(fixture.state.groups.contains_key("web"));
    assert_eq!(last_message(&fixture, Code::ConfigApplied), "configuration version 1 is in force");
}

#[test]
fn h35_one_finding_is_enough_and_all_are_told() {
    let mut fixture = Fixture::settled(3);
    let proposal = propose(&mut fixture, WEB);
    answer(&mut fixture, proposal, 2, &["there is no adapter in 10.91.0.0/16", "and one more"]);
    answer(&mut fixture, proposal, 1, &[]);
    assert!(fixture.state.documents.pending.is_some(), "everybody is heard first");
    answer(&mut fixture, proposal, 3, &["no"]);
    assert!(fixture.state.documents.pending.is_none());
    assert_eq!((fixture.state.documents.active, fixture.state.groups.len()), (0, 0));
    assert_eq!(
        last_message(&fixture, Code::ConfigProposed),
        "configuration version 1 was refused: 3 findings"
    );
    let record = fixture.records.last().expect("a record");
    assert_eq!(record.cause, "n2: there is no adapter in 10.91.0.0/16\nn2: and one more\nn3: no");
    let verdict = fixture.state.documents.last.as_ref().expect("a verdict");
    assert_eq!((verdict.id, verdict.version, verdict.findings.len()), (proposal, None, 3));
}

#[test]
fn h35_who_goes_away_is_not_waited_for_and_who_is_away_is_not_asked() {
    let mut fixture = Fixture::settled(3);
    fixture.node_down(NodeNumber(3), "test");
    let proposal = propose(&mut fixture, WEB);
    answer(&mut fixture, proposal, 3, &["nobody asked"]);
    answer(&mut fixture, proposal, 1, &[]);
    fixture.node_down(NodeNumber(2), "test");
    assert_eq!(fixture.state.documents.active, 1);
}

#[test]
fn h35_what_contradicts_itself_is_refused_with_every_error() {
    let mut fixture = Fixture::settled(3);
    let text = "[groups.web]\nnodes = [\"n9\"]\npolici = \"rotating\"\n";
    let command = ConfigCommand::Propose { text: text.into(), comment: String::new(), based_on: 0 };
    let refusal = try_it(&mut fixture, command).unwrap_err();
    assert_eq!(refusal.code, "bad_document");
    assert!(
        refusal.what.contains("3 errors")
            && refusal.what.contains("line 2: error: groups.web.nodes")
    );
    assert!(refusal.what.contains("Did you mean policy?"), "{refusal}");
}

#[test]
fn h36_one_at_a_time_made_from_what_is_in_force() {
    let mut fixture = Fixture::settled(3);
    let stale = ConfigCommand::Propose { text: WEB.into(), comment: String::new(), based_on: 4 };
    assert_eq!(try_it(&mut fixture, stale).unwrap_err().code, "stale_document");
    let proposal = propose(&mut fixture, WEB);
    let again =
        |based_on| ConfigCommand::Propose { text: DB.into(), comment: String::new(), based_on };
    assert_eq!(try_it(&mut fixture, again(0)).unwrap_err().code, "document_pending");
    let withdraw = |proposal| ConfigCommand::Withdraw { proposal, why: "a mistake".into() };
    assert_eq!(try_it(&mut fixture, withdraw(proposal + 1)).unwrap_err().code, "no_such_proposal");
    fixture.apply(Command::Config(withdraw(proposal)));
    assert_eq!(
        last_message(&fixture, Code::ConfigProposed),
        "configuration version 1 was withdrawn"
    );
    // One that was forgotten gives way after a minute, and not before its successor is checked.
    let forgotten = propose(&mut fixture, WEB);
    fixture.clock = fixture.clock.plus(std::time::Duration::from_secs(61));
    let bad = ConfigCommand::Propose { text: "x".into(), comment: String::new(), based_on: 0 };
    assert_eq!(try_it(&mut fixture, bad).unwrap_err().code, "bad_document");
    assert!(propose(&mut fixture, DB) > forgotten);
    in_force_after(&mut fixture);
    let unchanged = ConfigCommand::Propose { text: DB.into(), comment: String::new(), based_on: 1 };
    assert_eq!(try_it(&mut fixture, unchanged).unwrap_err().code, "no_change");
}

fn in_force_after(fixture: &mut Fixture) {
    let proposal = fixture.state.documents.pending.as_ref().expect("pending").id;
    for node in 1..=3 {
        answer(fixture, proposal, node, &[]);
    }
}

#[test]
fn h35_an_examination_changes_nothing() {
    let mut fixture = Fixture::settled(3);
    let records = fixture.records.len();
    fixture.apply(Command::Config(ConfigCommand::Examine { text: WEB.into() }));
    in_force_after(&mut fixture);
    assert_eq!((fixture.state.documents.active, fixture.records.len()), (0, records));
    let verdict = fixture.state.documents.last.as_ref().expect("a verdict");
    assert!(verdict.dry_run && verdict.findings.len() == 3 && verdict.version.is_none());
}

#[test]
fn h36_versions_are_kept_and_an_earlier_one_comes_back() {
    let mut fixture = Fixture::settled(3);
    in_force(&mut fixture, WEB);
    in_force(&mut fixture, DB);
    assert!(fixture.state.definition.group("web").is_none());
    assert_eq!(
        try_it(&mut fixture, ConfigCommand::RollBack { to: 9 }).unwrap_err().code,
        "unknown_version"
    );
    fixture.apply(Command::Config(ConfigCommand::RollBack { to: 1 }));
    in_force_after(&mut fixture);
    assert_eq!(fixture.state.documents.active, 3);
    assert_eq!(fixture.state.documents.versions[&3].text, WEB);
    assert!(fixture.state.definition.group("web").is_some());
    for round in 0..KEPT_VERSIONS {
        let text = if round % 2 == 0 { DB } else { WEB };
        in_force(&mut fixture, text);
    }
    assert_eq!(fixture.state.documents.versions.len(), KEPT_VERSIONS);
    assert!(fixture.state.documents.versions.contains_key(&fixture.state.documents.active));
    fixture.apply(Command::Config(ConfigCommand::RollBack { to: 0 }));
    in_force_after(&mut fixture);
    assert_eq!(fixture.state.definition, Default::default());
}

/// What is the same before and after is not touched: no record, no event, no status.
#[test]
fn h34_what_does_not_change_is_not_disturbed() {
    let mut fixture = Fixture::settled(3);
    in_force(&mut fixture, &format!("{WEB}{DB}"));
    let instance = Instance {
        state: GroupState::Online,
        token: 1,
        since: fixture.clock,
        resources: Default::default(),
        uncovered: None,
    };
    let web = fixture.state.groups.get_mut("web").expect("web");
    web.instances.insert(NodeNumber(1), instance);
    let before = fixture.state.groups["web"].clone();
    let (nodes, links) = (fixture.state.nodes.clone(), fixture.state.links.clone());
    in_force(&mut fixture, &format!("{WEB}monitor_interval = \"5s\"\n"));
    assert_eq!(fixture.state.groups["web"].instances, before.instances);
    assert_eq!(fixture.state.groups["web"].retired, None, "it runs on as it is");
    assert_eq!((fixture.state.nodes, fixture.state.links), (nodes, links));
    assert_eq!(last_message_of(&fixture.records, Code::SettingChanged), None);
}

/// Groups api and web on those nodes, with addresses that end so.
fn two_groups(nodes: [&str; 2], host: u8) -> String {
    let group = |name: &str, net: u8| {
        format!(
            "[groups.{name}]\nnodes = {nodes:?}\n[groups.{name}.resources.{name}-ip]\n\
             kind = \"address\"\naddress = \"10.91.{net}.{host}/16\"\n"
        )
    };
    group("api", 7) + &group("web", 8)
}

/// R7: a group that does not start holds up no change of others; it is changed when that is over.
#[test]
fn r7_a_change_waits_for_no_group_that_hangs() {
    let (n1, n2) = (NodeNumber(1), NodeNumber(2));
    let mut fixture = Fixture::settled(3);
    fixture.join_managers();
    in_force(&mut fixture, &two_groups(["n1", "n2"], 1));
    fixture.run_events();
    fixture.group(GroupCommand::Move { group: "web".into(), to: Some(n2), until: None });
    let event = fixture.begin_event();
    fixture.run_events_but((n2, event));
    fixture.pass_patience();
    in_force(&mut fixture, &two_groups(["n1", "n2"], 2));
    let tokens = |fixture: &Fixture| (fixture.token("api", n1), fixture.token("web", n2));
    let before = tokens(&fixture);
    fixture.run_events_but((n2, event));
    let after = tokens(&fixture);
    assert_ne!(after.0, before.0, "api was acquired anew");
    assert_eq!(after.1, before.1, "web is in hand");
    assert!(fixture.state.groups["web"].retired.is_some());
    fixture.run_events();
    assert_ne!(tokens(&fixture).1, before.1, "now it was changed, too");
    assert!(fixture.state.groups.values().all(|group| group.retired.is_none()));
    assert!(fixture.state.manager.begun().next().is_none());
}

/// R7: one of two groups that a configuration changes does not stop. The other one, which has, does not wait for it at the
/// barrier for longer than others do.
#[test]
fn r7_what_has_stopped_waits_for_no_neighbour_that_has_not() {
    let n2 = NodeNumber(2);
    let mut fixture = Fixture::settled(3);
    fixture.join_managers();
    in_force(&mut fixture, &two_groups(["n2", "n1"], 1));
    fixture.run_events();
    in_force(&mut fixture, &two_groups(["n2", "n1"], 2));
    let event = fixture.begin_event();
    let before = fixture.token("api", n2);
    fixture.release("api", n2);
    fixture.run_events_but((n2, event));
    let online =
        |fixture: &Fixture, name: &str| fixture.state.groups[name].state() == GroupState::Online;
    assert!(!online(&fixture, "api"), "it may be over in a moment");
    fixture.pass_patience();
    fixture.run_events_but((n2, event));
    assert!(online(&fixture, "api") && fixture.token("api", n2) != before);
    assert!(fixture.state.groups["web"].retired.is_some(), "it hangs as before");
    fixture.run_events();
    assert!(fixture.state.groups.values().all(|group| group.retired.is_none()));
    assert!(online(&fixture, "web") && online(&fixture, "api"));
    assert!(fixture.state.manager.begun().next().is_none());
}

fn last_message_of(
    records: &[std::sync::Arc<crate::record::Record>],
    code: Code,
) -> Option<String> {
    records.iter().rev().find(|record| record.code == code).map(|record| record.message.clone())
}

/// H34: topology, too, changes while the cluster runs (the original could not).
#[test]
fn h34_networks_settings_and_addresses_change_while_the_cluster_runs() {
    let mut fixture = Fixture::settled(3);
    let (one, two, three) = (NetworkNumber(1), NetworkNumber(2), NetworkNumber(3));
    in_force(
        &mut fixture,
        "[cluster]\nseed_count = 3\nalert_timeout = \"10s\"\n[cluster.timing]\nprofile = \"fast\"\n\
         [networks.netb]\npriority = \"high\"\nping = \"10.92.0.254\"\n\
         [networks.netc]\npriority = \"low\"\n\
         [nodes.n1.addresses]\nnetc = \"10.93.0.1\"\n[nodes.n2.addresses]\nnetc = \"10.93.0.2\"\n\
         [nodes.n3.addresses]\nnetc = \"10.93.0.3\"\nnetb = \"10.92.0.33\"\n",
    );
    let state = &fixture.state;
    assert_eq!((state.settings.seed_count, state.settings.timing.interval_ms), (3, 25));
    assert_eq!(state.settings.alert_timeout_ms, 10_000);
    assert_eq!(state.networks[&two].priority, Priority::High);
    assert_eq!(state.networks[&two].ping.map(|ip| ip.to_string()).as_deref(), Some("10.92.0.254"));
    assert_eq!(state.networks[&three].status, NetworkStatus::Unknown, "nobody has seen it yet");
    assert_eq!(state.nodes[&NodeNumber(3)].interfaces[&two].address.to_string(), "10.92.0.33");
    assert_eq!(state.nodes[&NodeNumber(1)].interfaces.len(), 3);
    assert_eq!(state.networks[&one].status, NetworkStatus::Up, "what did not change is as it was");
    assert!(state.ports.contains_key("netc"));
    let to = InterfaceStatus::Up;
    let change = Change::Interface { node: NodeNumber(1), network: three, to, cause: "x".into() };
    fixture.apply(Command::Observe { changes: vec![change] });
    in_force(&mut fixture, "[networks.netb]\nremove = true\n");
    let state = &fixture.state;
    assert!(!state.networks.contains_key(&two) && !state.ports.contains_key("netb"));
    assert!(state.links.iter().all(|link| link.network != two));
    assert!(state.nodes.values().all(|node| !node.interfaces.contains_key(&two)));
}

/// The text that its author wrote is shown as long as it says what holds.
#[test]
fn h36_the_text_in_force_keeps_its_comments() {
    let mut fixture = Fixture::settled(3);
    let text = format!("# a comment\n{WEB}[cluster]\nseed_count = 3\n");
    in_force(&mut fixture, &text);
    assert_eq!(document::in_force(&fixture.state), text);
    fixture.apply(Command::SetSeedCount(1));
    let printed = document::in_force(&fixture.state);
    assert!(printed.contains("seed_count = 1") && !printed.contains("# a comment"));
}

const SCRIPT: &str = "#!/bin/sh\nexit 0\n";

fn save_script(based_on: u32) -> Command {
    Command::SaveAlertScript { text: SCRIPT.into(), comment: "of a snapshot".into(), based_on }
}

fn restore(fixture: &Fixture, text: &str, parts: Vec<Command>) -> ConfigCommand {
    let based_on = fixture.state.documents.active;
    ConfigCommand::Restore { text: text.into(), comment: "as it was".into(), based_on, parts }
}

/// Proposes a snapshot; answers its id.
fn propose_snapshot(fixture: &mut Fixture, text: &str, parts: Vec<Command>) -> u64 {
    let command = restore(fixture, text, parts);
    fixture.apply(Command::Config(command));
    fixture.state.documents.pending.as_ref().expect("it is verified").id
}

#[test]
fn h36_a_snapshot_takes_effect_as_a_whole() {
    let mut fixture = Fixture::settled(3);
    let proposal = propose_snapshot(&mut fixture, WEB, vec![save_script(0)]);
    answer(&mut fixture, proposal, 1, &[]);
    answer(&mut fixture, proposal, 2, &[]);
    assert_eq!((fixture.state.documents.active, fixture.state.script.active), (0, 0));
    answer(&mut fixture, proposal, 3, &[]);
    assert_eq!((fixture.state.documents.active, fixture.state.script.active), (1, 1));
    let proposed = fixture.state.documents.versions[&1].author.clone();
    assert_eq!(fixture.state.script.versions[&1].author, proposed, "not of the last that answered");

    // Only the script is another one: the document, which says the same, gets no new version.
    let text = crate::document::print(&fixture.state);
    let back = Command::RollBackAlertScript { to: 0 };
    let proposal = propose_snapshot(&mut fixture, &text, vec![back]);
    (1..=3).for_each(|node| answer(&mut fixture, proposal, node, &[]));
    assert_eq!((fixture.state.documents.active, fixture.state.script.active), (1, 0));
}

#[test]
fn h36_what_cannot_be_restored_as_a_whole_changes_nothing() {
    let mut fixture = Fixture::settled(3);
    let timing = Command::SetTiming(crate::model::Timing::FAST);
    let command = restore(&fixture, WEB, vec![timing]);
    assert_eq!(try_it(&mut fixture, command).unwrap_err().code, "bad_snapshot");
    let command = restore(&fixture, WEB, vec![save_script(7)]);
    assert_eq!(try_it(&mut fixture, command).unwrap_err().code, "stale_script");
    let text = crate::document::print(&fixture.state);
    let command = restore(&fixture, &text, Vec::new());
    assert_eq!(try_it(&mut fixture, command).unwrap_err().code, "no_change");

    // Somebody saves another script while nodes verify: neither part of the snapshot takes effect.
    let proposal = propose_snapshot(&mut fixture, WEB, vec![save_script(0)]);
    answer(&mut fixture, proposal, 1, &[]);
    fixture.apply(save_script(0));
    let (head, active) = (fixture.state.script.clone(), fixture.state.documents.active);
    answer(&mut fixture, proposal, 2, &[]);
    answer(&mut fixture, proposal, 3, &[]);
    assert_eq!((&fixture.state.script, fixture.state.documents.active), (&head, active));
    let against = &fixture.state.documents.last.as_ref().expect("it ended").against;
    assert!(against.iter().any(|why| why.contains("version 0")), "{against:?}");
}
