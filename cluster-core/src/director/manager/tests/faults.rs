//! Agents that do not run, and resources that outlive a lease, as the director sees them: findings F2 and F3.

use super::*;
use crate::fixture::definition;
use crate::group::{AddressMode, GroupDef, OnConflict, ResourceDef, ResourceKind};

/// F2: if the configuration is strict, the end of a lease is evidence for what the kernel takes away; data, and what only
/// processes would is fenced, or an operator has to say that it is off.
#[test]
fn who_is_strict_waits_for_what_processes_would_have_to_take_away() {
    let network = NetworkNumber(1);
    let (address, mode) = ([10, 91, 1, 200].into(), AddressMode::Alias);
    let on_conflict = OnConflict::Fail;
    let address = ResourceKind::Address { address, prefix: 24, network, mode, on_conflict };
    let volume = ResourceKind::VolumeGroup { name: "vg".into() };
    let with = |kinds: &[&ResourceKind], strict| {
        let mut state = takeover();
        state.definition.manager.strict = strict;
        let named = |kind: &&ResourceKind| ResourceDef::new(kind.name(), (*kind).clone());
        let resources = kinds.iter().map(named).collect();
        let group =
            GroupDef { name: format!("group{DEAD}"), resources, ..definition().groups.remove(0) };
        state.definition.groups = vec![group];
        state
    };
    let told = |state: ClusterState| {
        let mut world = world(state);
        world.heard.insert(DEAD, 9_000);
        let proposed = world.run(14_000);
        let evicted = proposed.iter().any(|(_, command)| {
            matches!(command, Command::Group(GroupCommand::Evict { node: DEAD, .. }))
        });
        (evicted, waits(&proposed))
    };
    let (evicted, why) = told(with(&[&address, &volume], false));
    assert!(!evicted && why.len() == 1, "{why:?}");
    let what =
        "only the agent of that node takes volume_group away there, and two nodes that write";
    assert!(why[0].starts_with(what), "{why:?}");
    let mut trusted = with(&[&address, &volume], false);
    trusted.definition.manager.trust_guard = true;
    assert_eq!(told(trusted), (true, Vec::new()));
    assert_eq!(told(with(&[&address], true)), (true, Vec::new()));
    let (evicted, why) = told(with(&[&address, &volume], true));
    assert!(!evicted && why.len() == 1, "{why:?}");
    assert!(why[0].contains("only processes of that node take volume_group away"), "{why:?}");
    // Its guard says that it has let go, and of which groups it has not.
    let number = takeover().groups[&format!("group{DEAD}")].number;
    for (remains, believed) in
        [(Remains::default(), true), (Remains::default().with(number), false)]
    {
        let mut world = world(with(&[&volume], true));
        (world.epoch, world.remains) = (2, remains);
        let evidence = LetGo::Epoch { epoch: 2, remains };
        let evict = GroupCommand::Evict { node: DEAD, evidence };
        world.heard.insert(DEAD, 1_000);
        let said = world.report().contains(&Command::Group(evict));
        assert_eq!(said, believed, "{remains:?}");
    }
    // What lives where no guard looks is not meant.
    let mut outside = with(&[&address], true);
    let group = outside.groups.get_mut(&format!("group{DEAD}")).expect("it");
    group.outside.insert(DEAD, ["engine".to_owned()].into());
    let mut outside = world(outside);
    outside.epoch = 2;
    outside.heard.insert(DEAD, 1_000);
    let why = waits(&outside.run(14_000));
    assert!(why.len() == 1 && why[0].contains("does not see whether engine ended"), "{why:?}");
    // Another group of that node waits for nothing, though this one does.
    let mut two = with(&[&volume], true);
    let (mut def, group) =
        (two.definition.groups[0].clone(), two.groups[&format!("group{DEAD}")].clone());
    (def.name, def.resources) = ("other".into(), vec![ResourceDef::new("ip", address.clone())]);
    two.definition.groups.push(def);
    two.groups.insert("other".into(), group);
    let (evicted, why) = told(two);
    assert!(evicted && why.len() == 1, "{why:?}");
    let mut watched = with(&[&address, &volume], true);
    backing(&mut watched, DEAD, Backing::Watchdog);
    assert_eq!(told(watched), (true, Vec::new()));
    // A reaper ends processes; without one, guard and agent alone would.
    let unit = ResourceKind::Systemd { unit: "web.service".into() };
    assert_eq!(told(with(&[&unit], true)), (true, Vec::new()));
    let mut without = with(&[&unit], true);
    if let Some(member) = without.manager.members.get_mut(&DEAD) {
        member.reaper = Some("it is silent".into());
    }
    assert!(!told(without).0);
    let mut fenced = with(&[&volume], true);
    fence_agent(&mut fenced, DEAD);
    let mut world = world(fenced);
    world.heard.insert(DEAD, 9_000);
    assert!(matches!(fences(&world.run(10_100))[..], [(_, 3, 1)]));
}

/// F3: an agent that was killed has time to start; one that does not come, or does not stay, is not counted on.
#[test]
fn a_node_without_an_agent_is_given_up_until_it_has_one_that_stays() {
    let mut world = world(quiet());
    let attend = |proposed: &[(u64, Command)]| -> Vec<(u64, bool)> {
        let said = |(at, command): &(u64, Command)| match command {
            Command::Manager(ManagerCommand::Attend { node: NodeNumber(2), attends }) => {
                Some((*at, *attends))
            }
            _ => None,
        };
        proposed.iter().filter_map(said).collect()
    };
    let agent = |world: &mut World, is| {
        world.change(|state| state.nodes.get_mut(&NodeNumber(2)).unwrap().agent = is);
    };
    let absent = |world: &mut World, is| {
        world.change(|state| state.manager.members.get_mut(&NodeNumber(2)).unwrap().absent = is);
    };
    assert_eq!(attend(&world.run(20_000)), []);
    agent(&mut world, AgentStatus::Down);
    assert_eq!(attend(&world.run(22_990)), []);
    agent(&mut world, AgentStatus::Running);
    assert_eq!(attend(&world.run(30_000)), [], "it is back in time");
    agent(&mut world, AgentStatus::Initializing);
    assert_eq!(attend(&world.run(33_010)), [(33_000, false)]);
    absent(&mut world, true);
    agent(&mut world, AgentStatus::Running);
    assert_eq!(attend(&world.run(37_000)), []);
    agent(&mut world, AgentStatus::Down);
    agent(&mut world, AgentStatus::Running);
    assert_eq!(attend(&world.run(41_990)), [], "it died meanwhile");
    assert_eq!(attend(&world.run(42_010)), [(42_000, true)]);
}

/// T9: one that comes and goes is not waited for when it goes for the third time.
#[test]
fn t9_an_agent_that_comes_and_goes_is_not_waited_for() {
    let mut world = world(quiet());
    let agent = |world: &mut World, is| {
        world.change(|state| state.nodes.get_mut(&NodeNumber(2)).unwrap().agent = is);
    };
    world.run(20_000);
    let mut attends = Vec::new();
    for round in 0..3 {
        for (is, until) in [(AgentStatus::Down, 400), (AgentStatus::Running, 1_000)] {
            agent(&mut world, is);
            let proposed = world.run(20_000 + round * 1_000 + until);
            attends.extend(proposed.iter().filter_map(|(_, command)| match command {
                Command::Manager(ManagerCommand::Attend { attends, .. }) => Some((round, *attends)),
                _ => None,
            }));
        }
    }
    assert_eq!(attends.first(), Some(&(2, false)), "{attends:?}");
}

/// A silent node's guard may run release programs until their time is over: R2, what no control group holds.
#[test]
fn a_release_program_is_waited_for() {
    use crate::group::{GroupDef, MultipleActive, Policy, Release, ResourceDef, ResourceKind};
    let with = |retired: bool| {
        let mut state = takeover();
        let name = state.groups.keys().next().expect("a group").clone();
        let release = Some(Release { program: vec!["/release".into()], within_ms: 5_000 });
        let program = || vec!["/app".to_owned()];
        let (start, stop, monitor) = (program(), program(), Vec::new());
        let (user, control_group) = (None, None);
        let kind = ResourceKind::Application { start, stop, monitor, user, control_group, release };
        let resources = vec![ResourceDef::new("app", kind)];
        let with = GroupDef {
            name: name.clone(),
            policy: Policy::Rotating,
            nodes: vec![DEAD, NodeNumber(2)],
            fallback: false,
            fallback_delay_ms: 0,
            fallback_window: None,
            multiple_active: MultipleActive::StopExtra,
            resources,
        };
        if retired {
            state.groups.get_mut(&name).expect("it is held").retired = Some(with);
        } else {
            state.definition.groups.push(with);
        }
        state
    };
    for state in [with(false), with(true)] {
        let mut world = world(state);
        world.heard.insert(DEAD, 10_000);
        let allowed = 10_000 + ENOUGH + 5_000;
        let at = world.evicted(20_000).expect("evicted in the end");
        assert!((allowed..=allowed + 200).contains(&at), "evicted at {at}, allowed at {allowed}");
    }
}

/// R7: what a node said that it could not stop is not taken over when its lease is over, but fenced, or an operator is
/// told that he is waited for.
#[test]
fn what_could_not_be_stopped_is_fenced_or_waited_for() {
    let stuck = || {
        let mut state = takeover();
        for group in state.groups.values_mut() {
            group.unreleased.insert(DEAD);
        }
        state
    };
    let mut waiting = world(stuck());
    waiting.heard.insert(DEAD, 9_000);
    let proposed = waiting.run(14_000);
    let why = waits(&proposed);
    assert!(why.len() == 1 && why[0].contains("it could not stop what it has"), "{why:?}");
    let evicts = |(_, command): &(u64, Command)| {
        matches!(command, Command::Group(GroupCommand::Evict { .. }))
    };
    assert!(!proposed.iter().any(evicts));
    let mut fenced = stuck();
    fence_agent(&mut fenced, DEAD);
    let mut fenced = world(fenced);
    fenced.heard.insert(DEAD, 9_000);
    assert!(matches!(fences(&fenced.run(10_100))[..], [(_, 3, 1)]));
}
