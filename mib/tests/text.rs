//! `VEDETTE-MIB.txt` and the code say the same: every object of the one is in the other, with the
//! same number and type; every enumeration is the core's.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;
use std::sync::Arc;

use common::fixture::{World, draft};
use common::programs::{folder, printed, program, run};
use vedette_core::command::ManagerCommand;
use vedette_core::event::ManagerState;
use vedette_core::fixture::{Fixture, watched_fixture};
use vedette_core::group::{GroupState, Policy, ResourceState};
use vedette_core::id::{Hash, NetworkNumber, NodeNumber};
use vedette_core::local::{LocalRecord, Phase};
use vedette_core::model::{
    AgentStatus, ClusterStatus, GroupStatus, HostStatus, InterfaceStatus, LinkStatus,
    NetworkStatus, Priority, Role, Severity, Substate,
};
use vedette_core::record::{Code, Record, Subject};
use vedette_core::takeover::Backing;
use vedette_core::time::{Instant, WallTime};
use vedette_core::trigger::StopMode;
use vedette_core::variable::{Instance, Reading};
use vedette_core::view::{Source, View};
use vedette_mib::answer::Answers;
use vedette_mib::notify::{local_notification, notification, notify_objects, subagent_up};
use vedette_mib::oid::{Oid, ROOT};
use vedette_mib::pdu::VarBind;
use vedette_mib::snapshot::Snapshot;
use vedette_mib::value::Value;
use vedette_mib::{MIB_TEXT, Object, TimeBase, objects};

/// An object as the MIB defines it.
#[derive(Debug)]
struct Defined {
    syntax: String,
    access: String,
    suffix: Vec<u32>,
}

/// The text without comments, in words; quoted texts are left out.
fn words() -> Vec<String> {
    let code = MIB_TEXT.lines().map(|line| line.split("--").next().unwrap_or(""));
    let code = code.collect::<Vec<_>>().join("\n");
    let outside = code.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let spaced = outside.replace('{', " { ").replace('}', " } ").replace(',', " , ");
    spaced.split_whitespace().map(str::to_owned).collect()
}

/// The words behind `name KEYWORD` up to `::= { parent number }`, with parent and number.
fn definitions(keyword: &str) -> BTreeMap<String, (Vec<String>, String, u32)> {
    let words = words();
    let mut found = BTreeMap::new();
    for (place, pair) in words.windows(2).enumerate().filter(|(_, pair)| pair[1] == keyword) {
        if !pair[0].starts_with("vedette") {
            continue;
        }
        let body = &words[place + 2..];
        let end = body.iter().position(|word| word == "::=").expect("a definition ends");
        let number = body[end + 3].parse().expect("a number");
        found.insert(pair[0].clone(), (body[..end].to_vec(), body[end + 2].clone(), number));
    }
    found
}

/// Where everything is, below the root.
fn suffixes() -> BTreeMap<String, Vec<u32>> {
    let words = words();
    let mut parents: BTreeMap<String, (String, u32)> = BTreeMap::new();
    for keyword in ["OBJECT-TYPE", "NOTIFICATION-TYPE"] {
        for (name, (_, parent, number)) in definitions(keyword) {
            parents.insert(name, (parent, number));
        }
    }
    for place in 0..words.len() - 7 {
        if words[place + 1] == "OBJECT" && words[place + 2] == "IDENTIFIER" {
            let number = words[place + 6].parse().expect("a number");
            parents.insert(words[place].clone(), (words[place + 5].clone(), number));
        }
    }
    let mut known = BTreeMap::from([("vedette".to_owned(), Vec::new())]);
    while known.len() <= parents.len() {
        let before = known.len();
        for (name, (parent, number)) in &parents {
            if let Some(above) = known.get(parent).cloned() {
                known.insert(name.clone(), [above.as_slice(), &[*number]].concat());
            }
        }
        assert!(known.len() > before, "something hangs in the air");
    }
    known
}

fn defined() -> BTreeMap<String, Defined> {
    let suffixes = suffixes();
    let after = |words: &[String], keyword: &str| {
        let place = words.iter().position(|word| word == keyword).expect("the keyword");
        words[place + 1].clone()
    };
    definitions("OBJECT-TYPE")
        .into_iter()
        .map(|(name, (words, ..))| {
            let (syntax, access) = (after(&words, "SYNTAX"), after(&words, "MAX-ACCESS"));
            let suffix = suffixes[&name].clone();
            (name, Defined { syntax, access, suffix })
        })
        .collect()
}

fn compare(access: &str, served: Vec<Object>) {
    let mut defined = defined();
    defined.retain(|_, object| object.access == access);
    for object in served {
        let Some(text) = defined.remove(object.name) else {
            panic!("{} is served and not in the MIB as {access}", object.name);
        };
        assert_eq!(text.suffix, object.suffix, "number of {}", object.name);
        assert_eq!(text.syntax, object.syntax.0, "syntax of {}", object.name);
    }
    assert!(defined.is_empty(), "in the MIB and not served: {:?}", defined.keys());
}

#[test]
fn every_object_of_the_mib_is_served_and_no_other() {
    compare("read-only", objects());
    compare("accessible-for-notify", notify_objects());
}

/// Every value of a full cluster has the type that the MIB gives its object, and every object that
/// the MIB defines has a value there, in the one that watches values, or on a node that is alone.
#[test]
fn every_value_has_the_type_of_its_object() {
    let objects = objects();
    let mut seen = BTreeSet::new();
    let mut stalled = (*World::alone().view()).clone();
    stalled.local.log.stalled_since = stalled.local.unknown_since;
    let home = Arc::new(Fixture::going_home().view(NodeNumber(1)));
    for view in [World::busy().view(), World::watched().view(), home, Arc::new(stalled)] {
        let snapshot = Snapshot::build(view, &TimeBase::default(), None);
        let mut name = Vec::new();
        while let Some((next, value)) = snapshot.next(&name, false) {
            let object = objects.iter().find(|object| next.starts_with(&object.suffix));
            let object = object.unwrap_or_else(|| panic!("{next:?} belongs to no object"));
            assert_eq!(Some(value.kind()), object.syntax.wire(), "type of {}", object.name);
            seen.insert(object.name);
            name = next.to_vec();
        }
    }
    let unseen: Vec<_> = objects.iter().filter(|object| !seen.contains(object.name)).collect();
    assert!(unseen.is_empty(), "without a value: {unseen:?}");
}

/// `ONE_WAY`, `notConfigured` and `Stable` as the MIB spells them: `oneWay`, and so on.
fn label(name: &str) -> String {
    if !name.contains('_') && name.chars().any(char::is_lowercase) {
        return name[..1].to_lowercase() + &name[1..];
    }
    let mut words = name.split('_').map(str::to_lowercase);
    let first = words.next().unwrap_or_default();
    words.fold(first, |label, word| label + &word[..1].to_uppercase() + &word[1..])
}

/// The enumerations of the MIB: name of the type, then label and number of each value.
fn enumerations() -> BTreeMap<String, Vec<(String, u32)>> {
    let words = words();
    let mut found = BTreeMap::new();
    for place in 0..words.len() - 2 {
        if words[place + 1] != "::=" || words[place + 2] != "TEXTUAL-CONVENTION" {
            continue;
        }
        let body = &words[place..];
        let syntax = body.iter().position(|word| word == "SYNTAX").expect("a syntax");
        if body[syntax + 1] != "INTEGER" {
            continue;
        }
        let values = body[syntax + 3..].iter().take_while(|word| *word != "}");
        let values = values.filter(|word| *word != ",").map(|word| {
            let (label, number) =
                word.trim_end_matches(')').split_once('(').expect("label(number)");
            (label.to_owned(), number.parse().expect("a number"))
        });
        found.insert(words[place].clone(), values.collect());
    }
    found
}

/// The numbers are a contract (spec A8, A9): those of the MIB are those of the core.
#[test]
fn enumerations_are_those_of_the_core() {
    macro_rules! of {
        ($type:ty, $code:ident) => {
            <$type>::ALL.iter().map(|value| (label(value.name()), value.$code())).collect()
        };
    }
    let named = |labels: &[&str], from: u32| -> Vec<(String, u32)> {
        labels.iter().zip(from..).map(|(label, code)| ((*label).to_owned(), code)).collect()
    };
    let subjects = [
        Subject::Cluster,
        Subject::Node(NodeNumber(1)),
        Subject::Network(NetworkNumber(1)),
        Subject::Interface(NodeNumber(1), NetworkNumber(1)),
        Subject::Link(NodeNumber(1), NodeNumber(2), NetworkNumber(1)),
        Subject::AlertScript,
        Subject::Group(1),
        Subject::Resource(1, 2),
        Subject::Event,
        Subject::Rules,
        Subject::Document,
    ];
    let subjects = subjects.iter().map(|subject| (label(subject.kind()), subject.kind_code()));
    // The stop modes of the core, behind "nobody stopped it"; the policies, before "not configured".
    let stops: Vec<(String, u32)> = of!(StopMode, code);
    let stops = stops.into_iter().map(|(label, code)| (label, code + 1));
    let policies: Vec<(String, u32)> = of!(Policy, code);
    let core: BTreeMap<&str, Vec<(String, u32)>> = BTreeMap::from([
        ("VedetteHostStatusCode", of!(HostStatus, code)),
        ("VedetteAgentStatusCode", of!(AgentStatus, code)),
        ("VedetteNetworkStatusCode", of!(NetworkStatus, code)),
        ("VedetteInterfaceStatusCode", of!(InterfaceStatus, code)),
        ("VedetteLinkStatusCode", of!(LinkStatus, code)),
        ("VedetteGroupStatusCode", of!(GroupStatus, code)),
        ("VedetteClusterStatusCode", of!(ClusterStatus, code)),
        ("VedetteSubstateCode", of!(Substate, code)),
        ("VedetteSeverityCode", of!(Severity, code)),
        ("VedettePriorityCode", of!(Priority, code)),
        ("VedetteRoleCode", of!(Role, code)),
        ("VedetteRecordCode", of!(Code, number)),
        ("VedetteManagerStateCode", of!(ManagerState, code)),
        ("VedetteBackingCode", of!(Backing, code)),
        ("VedetteGroupStateCode", of!(GroupState, code)),
        ("VedetteResourceStateCode", of!(ResourceState, code)),
        ("VedettePhaseCode", named(&["raised", "cleared", "happened"], 1)),
        ("VedetteStageCode", named(&["none", "voting", "running", "error"], 1)),
        (
            "VedetteResourceKindCode",
            named(
                &[
                    "unknown",
                    "address",
                    "fileSystem",
                    "volumeGroup",
                    "application",
                    "ocf",
                    "systemd",
                ],
                1,
            ),
        ),
        ("VedetteStopCode", named(&["notStopped"], 1).into_iter().chain(stops).collect()),
        ("VedettePolicyCode", policies.into_iter().chain(named(&["leaving"], 4)).collect()),
        (
            "VedetteSubjectCode",
            std::iter::once(("unknown".to_owned(), 1)).chain(subjects).collect(),
        ),
    ]);
    let mib = enumerations();
    assert_eq!(
        mib.keys().map(String::as_str).collect::<Vec<_>>(),
        core.keys().copied().collect::<Vec<_>>()
    );
    for (name, values) in core {
        assert_eq!(mib[name], values, "values of {name}");
    }
}

/// One record of each kind that the cluster manager's notifications tell of.
fn steps() -> Vec<Arc<Record>> {
    let model = World::busy().records_after(0, 1);
    let step = |code, subject, name: &str, previous: &str, current: &str| {
        Arc::new(Record {
            code,
            subject,
            subject_name: name.into(),
            previous: previous.into(),
            current: current.into(),
            node: Some(NodeNumber(2)),
            event: Some(4),
            incident: Some(11),
            ..Record::clone(&model[0])
        })
    };
    let sighting = |severity| {
        let seen = step(Code::MultipleActive, Subject::Group(1), "web", "", "");
        Arc::new(Record { severity, ..Record::clone(&seen) })
    };
    let flapping = |severity, from: &str, to: &str| {
        let told = step(Code::GroupFlapping, Subject::Group(1), "web", from, to);
        Arc::new(Record { severity, node: None, ..Record::clone(&told) })
    };
    vec![
        step(Code::Group, Subject::Group(1), "web", "ACQUIRING", "ONLINE"),
        step(Code::ResourceFailed, Subject::Resource(1, 4), "web_app", "", ""),
        step(Code::EventFailed, Subject::Event, "event", "", ""),
        step(Code::EventEnded, Subject::Event, "event", "", "completed"),
        step(Code::TakeoverWaits, Subject::Node(NodeNumber(3)), "n3", "", ""),
        sighting(Severity::Error),
        sighting(Severity::Notice),
        flapping(Severity::Error, "steady", "flapping"),
        flapping(Severity::Notice, "flapping", "steady"),
        step(Code::AddressConflict, Subject::Resource(1, 2), "web_ip", "", ""),
    ]
}

/// Both ends of a group's flapping are told apart, and a conflict names the resource and the node that asked.
#[test]
fn flapping_and_conflicts_have_notifications_of_their_own() {
    let view = World::busy().view();
    let told = |code| -> Vec<Vec<VarBind>> {
        let records = steps().into_iter().filter(|record| record.code == code);
        records.map(|record| notification(&record, &view).expect("a notification")).collect()
    };
    let which = |varbinds: &[VarBind]| varbinds[0].value.clone();
    let value = |varbinds: &[VarBind], suffix: &[u32]| {
        let name = Oid::in_module(suffix);
        varbinds.iter().find(|varbind| varbind.name == name).map(|varbind| varbind.value.clone())
    };
    let is = |number| Value::ObjectId(Oid::in_module(&[0, number]));
    let flapping = told(Code::GroupFlapping);
    assert_eq!(flapping.iter().map(|it| which(it)).collect::<Vec<_>>(), [is(26), is(27)]);
    for varbinds in &flapping {
        assert_eq!(value(varbinds, &[1, 17, 1, 2, 1]), Some(Value::text("web", 64)));
        assert_eq!(value(varbinds, &[1, 20, 14, 0]), Some(Value::text("", 64)), "of no node");
    }
    let conflict = &told(Code::AddressConflict)[0];
    assert_eq!(which(conflict), is(28));
    assert_eq!(value(conflict, &[1, 19, 1, 2, 1, 2, 2]), Some(Value::text("web_ip", 64)));
    assert_eq!(value(conflict, &[1, 20, 14, 0]), Some(Value::text("n2", 64)));
}

/// A group that is taken over says which, where, in which event and of which incident.
#[test]
fn a_takeover_is_told_with_its_place_and_event() {
    let view = World::busy().view();
    let varbinds = notification(&steps()[0], &view).expect("a notification");
    let value = |suffix: &[u32]| {
        let name = Oid::in_module(suffix);
        varbinds.iter().find(|varbind| varbind.name == name).map(|varbind| varbind.value.clone())
    };
    assert_eq!(value(&[1, 17, 1, 2, 1]), Some(Value::text("web", 64)));
    assert_eq!(value(&[1, 17, 1, 3, 1]), Some(Value::Integer(2)), "online");
    assert_eq!(value(&[1, 20, 13, 0]), Some(Value::Integer(4)), "was acquiring");
    assert_eq!(value(&[1, 20, 14, 0]), Some(Value::text("n2", 64)));
    assert_eq!(value(&[1, 20, 15, 0]), Some(Value::Counter64(4)));
    assert_eq!(value(&[1, 20, 16, 0]), Some(Value::Counter64(11)));
}

/// What watchers told, and the cluster afterwards: a rule fires and is armed again, a monitor fails
/// and works again.
fn edges() -> (Vec<Arc<Record>>, View) {
    let mut fixture = watched_fixture();
    let (rule, instance) = ("UE_RWHOD".into(), RWHOD.into());
    fixture.manage(ManagerCommand::Rearm { rule, instance, value: "1,0,\"8311\"".into() });
    let (node, what) = (NodeNumber(3), "monitor site.queue".into());
    fixture.manage(ManagerCommand::Blind { node, what, why: None });
    let view = fixture.view(NodeNumber(1));
    (fixture.records, view)
}

const RWHOD: &str = "NodeNum=2;ProgName=rwhod;UserName=root";

/// H31, H39: who is told of a rule hears its name, the instance and both values, and which event; the
/// same row is named whether it is still there or not.
#[test]
fn h31_a_rule_that_fires_is_told_with_its_instance() {
    let (records, after) = edges();
    let told = |code, view: &View| {
        let record = records.iter().find(|record| record.code == code).expect("a record");
        notification(record, view).expect("a notification")
    };
    let value = |varbinds: &[VarBind], suffix: &[u32]| {
        let name = Oid::in_module(suffix);
        varbinds.iter().find(|varbind| varbind.name == name).map(|varbind| varbind.value.clone())
    };
    let rule = |column| {
        let number = |text: &str| {
            u32::from_be_bytes(Hash::of(text.as_bytes()).0[..4].try_into().expect("four"))
        };
        [1, 25, 1, column, number("UE_RWHOD"), number(RWHOD)]
    };
    let before = watched_fixture().view(NodeNumber(1));
    for view in [&before, &after] {
        let fired = told(Code::RuleFired, view);
        assert_eq!(value(&fired, &rule(2)), Some(Value::text("UE_RWHOD", 64)));
        assert_eq!(value(&fired, &rule(5)), Some(Value::text(RWHOD, 64)));
        assert_eq!(value(&fired, &[1, 20, 14, 0]), Some(Value::text("n2", 64)));
        assert_eq!(value(&fired, &[1, 20, 15, 0]), Some(Value::Counter64(4)));
        assert_eq!(value(&fired, &[1, 20, 17, 0]), Some(Value::text("0,1,\"\"", 64)));
    }
    let rearmed = told(Code::RuleRearmed, &after);
    assert_eq!(value(&rearmed, &rule(5)), Some(Value::text(RWHOD, 64)));
    assert_eq!(value(&rearmed, &[1, 20, 17, 0]), Some(Value::text("1,0,\"8311\"", 64)));
    assert_eq!(value(&rearmed, &[1, 20, 18, 0]), Some(Value::text("0,1,\"\"", 64)));
}

/// What nobody could tell when it happened.
fn afterwards() -> Vec<Arc<Record>> {
    let model = World::busy().records_after(0, 1);
    [(Code::QuorumAbsent, None), (Code::AccountIncomplete, Some(NodeNumber(2)))]
        .map(|(code, node)| Arc::new(Record { code, node, ..Record::clone(&model[0]) }))
        .to_vec()
}

/// Both ends of two conditions, and something that merely happened.
fn local_records() -> Vec<Arc<LocalRecord>> {
    let world = World::three_nodes();
    for (code, phase) in [
        (Code::QuorumLost, Phase::Raised),
        (Code::QuorumRegained, Phase::Cleared),
        (Code::DiskFull, Phase::Raised),
        (Code::DiskFull, Phase::Cleared),
        (Code::GroupReleased, Phase::Happened),
    ] {
        world.write(draft(code, phase, "it is so", "because"));
    }
    world.local_after(0, usize::MAX)
}

/// T1, S1: local records are told with code, phase, since and duration, and nothing of it is a
/// Counter64, which an SNMPv1 trap cannot carry.
#[test]
fn t1_local_records_are_told_in_types_of_snmpv1() {
    let view = World::three_nodes().view();
    let local = local_records();
    let told: Vec<_> = local.iter().map(|record| local_notification(record, &view)).collect();
    let after: Vec<_> =
        afterwards().iter().filter_map(|record| notification(record, &view)).collect();
    assert_eq!((told.len(), after.len()), (5, 2));
    for varbind in told.iter().chain(&after).flatten() {
        assert!(!matches!(varbind.value, Value::Counter64(_)), "{varbind:?}");
    }
    let value = |place: usize, number: u32| {
        let name = Oid::in_module(&[1, 20, number, 0]);
        let found = told[place].iter().find(|varbind| varbind.name == name);
        found.unwrap_or_else(|| panic!("no {number}")).value.clone()
    };
    assert_eq!((value(0, 19), value(0, 20)), (Value::Integer(80), Value::Integer(1)));
    assert_eq!((value(1, 19), value(1, 20)), (Value::Integer(81), Value::Integer(2)));
    assert_eq!(value(0, 24), Value::Gauge32(0), "it has just begun");
    assert_eq!(value(1, 24), Value::Gauge32(15_000));
    let lost = local[1].stamp.at.0 - 15_000_000;
    assert_eq!(value(1, 23), Value::date(WallTime(lost)), "since when it had none");
    assert_eq!(value(4, 26), Value::Gauge32(5), "the number in the journal");
}

/// What its node told at once is not told again when it is in everybody's history.
#[test]
fn t1_what_was_told_at_once_is_not_told_again() {
    let model = World::busy().records_after(0, 1);
    let view = World::three_nodes().view();
    let mut told = Vec::new();
    for code in Code::ALL.iter().copied().filter(|code| code.number() >= 80) {
        let record = Record { code, ..Record::clone(&model[0]) };
        told.extend(notification(&record, &view).map(|_| code));
    }
    assert_eq!(told, [Code::AccountIncomplete, Code::QuorumAbsent]);
}

/// T2: a node alone shows nothing of others as the present state, and what it knew last beside it.
#[test]
fn t2_a_node_alone_says_what_it_does_not_know() {
    let build = |view| Snapshot::build(view, &TimeBase::default(), None);
    let (before, alone) = (build(World::busy().view()), build(World::alone().view()));
    let both = |suffix: &[u32]| (before.get(suffix).cloned(), alone.get(suffix).cloned());
    let code = |number| Some(Value::Integer(number));
    let count = |number| Some(Value::Gauge32(number));
    assert_eq!(both(&[1, 1, 4, 0]), (code(2), code(1)), "cluster state");
    assert_eq!(both(&[1, 1, 12, 0]), (count(1), count(0)), "number of the director");
    assert_eq!(both(&[1, 2, 3, 0]), (code(1), code(2)), "it is no director without a quorum");
    assert_eq!(both(&[1, 1, 15, 0]), (count(2), None), "nodes up");
    assert_eq!(both(&[1, 10, 1, 3, 1]), (code(2), code(4)), "its own host is DISCONNECTED");
    for node in [2, 3] {
        let known = before.get(&[1, 10, 1, 3, node]).cloned();
        assert!(known.is_some_and(|known| known != Value::Integer(1)), "known before");
        assert_eq!(both(&[1, 10, 1, 3, node]).1, code(1), "host of {node}");
        assert_eq!(both(&[1, 10, 1, 12, node]).1, code(2), "{node} is not named director");
        assert_eq!(both(&[1, 10, 1, 20, node]), (None, before.get(&[1, 10, 1, 3, node]).cloned()));
    }
    let world = World::alone();
    let last = Arc::clone(world.view().last_known());
    assert!(!last.groups.is_empty());
    for (name, group) in &last.groups {
        let number = u32::from(group.number);
        let state = code(i32::try_from(group.state().code()).expect("small"));
        assert_eq!(both(&[1, 17, 1, 3, number]), (state.clone(), code(1)), "state of {name}");
        assert_eq!(both(&[1, 17, 1, 7, number]).1, None, "owner of {name}");
        assert_eq!(both(&[1, 17, 1, 19, number]), (None, state), "last known of {name}");
        let owner = count(group.owner().map_or(0, |node| u32::from(node.0)));
        assert_eq!(both(&[1, 17, 1, 20, number]), (None, owner));
    }
    // Nothing is ONLINE anywhere: neither groups and resources on nodes, nor links, nor the manager.
    for (entry, column) in [([1, 18, 1], 1), ([1, 19, 1], 4), ([1, 13, 1], 4), ([1, 16, 1], 1)] {
        let column = [entry.as_slice(), &[column]].concat();
        let (mut name, mut cells) = (column.clone(), 0);
        while let Some((next, value)) = alone.next(&name, false) {
            if !next.starts_with(&column) {
                break;
            }
            assert!(matches!(value, Value::Integer(1 | 3)), "{next:?} is {value:?}");
            (name, cells) = (next.to_vec(), cells + 1);
        }
        assert!(cells > 0, "{column:?}");
    }
}

/// S4: the proposer's clock is years behind; what was seen a moment ago is not told as before the
/// start of the agent. How long the log stands still is told by the monotonic clock as well.
#[test]
fn s4_stamps_are_of_what_was_seen() {
    let world = Arc::new(World::three_nodes());
    let mut answers = Answers::new(Arc::clone(&world) as Arc<dyn Source>);
    let at = |seconds: u64| Instant::from_millis(seconds * 1_000);
    let wall = |seconds: i64| WallTime(1_795_900_000_000_000 + seconds * 1_000_000);
    let get = |now: u64, suffix: &[u32], answers: &mut Answers| {
        answers.look(at(now), wall(now as i64));
        let latest = answers.latest(at(now), || at(now));
        answers.get(&latest, &Oid::in_module(suffix))
    };
    let (host, last) = ([1, 10, 1, 5, 3], [1, 1, 9, 0]);
    answers.learn_uptime(500, at(5));
    assert_eq!(get(6, &host, &mut answers), Value::TimeTicks(0), "long before");
    assert_eq!(get(99, &last, &mut answers), Value::TimeTicks(0));
    world.host(3, HostStatus::Up);
    let seen = get(100, &host, &mut answers);
    assert_eq!(seen, Value::TimeTicks(10_000), "when it was seen");
    assert_eq!(get(150, &host, &mut answers), seen);
    assert_eq!(get(150, &last, &mut answers), seen);
}

/// Names and texts of any length make neither a name that SNMP cannot carry nor rows in disorder; of
/// many values, the first hundred have rows.
#[test]
fn h29_long_names_fit() {
    let long = |letter: char| letter.to_string().repeat(3_000);
    let mut view = World::watched().view().as_ref().clone();
    let mut monitors = (*view.local.monitors).clone();
    let mut many = monitors["programs"].clone();
    many.readings = (0..250)
        .map(|number| {
            let program = format!("{number}{}", long('p'));
            let elements = [("ProgName", program.as_str())];
            let instance = Instance::on(NodeNumber(1), &elements);
            Reading { variable: long('v'), instance, ..many.readings[0].clone() }
        })
        .collect();
    monitors.insert(long('m'), many);
    view.local.monitors = Arc::new(monitors);
    let mut state = (*view.state).clone();
    let firing = state.manager.fired["UE_RWHOD"][RWHOD].clone();
    state.manager.fired.insert(long('r'), [(long('i'), firing)].into());
    state.manager.blind.insert(NodeNumber(1), [(long('w'), long('y'))].into());
    view.state = Arc::new(state);
    let snapshot = Snapshot::build(Arc::new(view), &TimeBase::default(), None);
    let (mut name, mut values) = (Vec::new(), 0);
    while let Some((next, value)) = snapshot.next(&name, false) {
        assert!(ROOT.len() + next.len() <= 128, "{next:?}");
        assert!(name.as_slice() < next, "{next:?} after {name:?}");
        assert!(!matches!(value, Value::Octets(text) if text.len() > 1_200), "{next:?}");
        values += usize::from(next.starts_with(&[1, 23, 1, 2]));
        name = next.to_vec();
    }
    assert_eq!(values, 3 + 100);
}

/// Every notification of the MIB is sent, with exactly the variables the MIB lists, in that order.
#[test]
fn notifications_carry_what_the_mib_says() {
    let world = World::three_nodes();
    let view = world.view();
    let suffixes = suffixes();
    let columns: BTreeMap<_, _> = suffixes.iter().map(|(name, suffix)| (suffix, name)).collect();
    let named = |oid: &Oid| {
        let suffix = oid.numbers().strip_prefix(ROOT).expect("an object of ours");
        let object = (0..=suffix.len()).rev().find_map(|end| columns.get(&suffix[..end].to_vec()));
        object.expect("an object of the MIB").to_string()
    };
    let mut missing = definitions("NOTIFICATION-TYPE");
    let records = [world.records_after(0, usize::MAX), steps(), edges().0, afterwards()].concat();
    let sent = records.iter().filter_map(|record| notification(record, &view));
    let local = local_records();
    let local = local.iter().map(|record| local_notification(record, &view));
    for varbinds in sent.chain(local).chain([subagent_up(&view)]) {
        let vedette_mib::value::Value::ObjectId(which) = &varbinds[0].value else {
            panic!("{:?} says which notification it is", varbinds[0]);
        };
        let which = named(which);
        let (words, ..) = &definitions("NOTIFICATION-TYPE")[&which];
        let listed: Vec<_> =
            words.iter().filter(|word| word.starts_with("vedette")).cloned().collect();
        let carried: Vec<_> = varbinds[1..].iter().map(|varbind| named(&varbind.name)).collect();
        assert_eq!(carried, listed, "variables of {which}");
        missing.remove(&which);
    }
    assert!(missing.is_empty(), "never sent: {:?}", missing.keys());
}

/// The strictest level of smilint finds nothing; net-snmp loads it. (smilint ends with 0 whatever
/// it finds, so what counts is that it prints nothing.)
#[test]
fn other_readers_of_mibs_have_nothing_to_say() {
    let dir = tempfile::tempdir().expect("temporary directory");
    let mut smilint = program("smilint", dir.path());
    smilint.env("SMIPATH", folder().join("base")).args(["-s", "-m", "-l", "6"]);
    let output = run(smilint.arg("./VEDETTE-MIB.txt").current_dir(folder()));
    let said = [output.stdout, output.stderr].concat();
    assert_eq!(String::from_utf8_lossy(&said), "");

    let mut translate: Command = program("snmptranslate", dir.path());
    let number = printed(translate.args(["-On", "VEDETTE-MIB::vedette"]));
    assert_eq!(number.trim(), Oid::new(ROOT).expect("short").to_string());
}

/// A table that did not change is not made anew, and shows the same.
#[test]
fn a_snapshot_is_made_from_the_one_before() {
    let world = World::three_nodes();
    let old = Snapshot::build(world.view(), &TimeBase::default(), None);
    let mut view = world.view().as_ref().clone();
    view.local.waiting_for = "n2".into();
    let new = Snapshot::build(Arc::new(view.clone()), &TimeBase::default(), Some(&old));
    assert_eq!(old.len(), new.len());
    assert_eq!(old.get(&[1, 10, 1, 3, 3]), new.get(&[1, 10, 1, 3, 3]));
    assert_ne!(old.get(&[1, 2, 6, 0]), new.get(&[1, 2, 6, 0]), "what it waits for");
    // The same state is shown otherwise as soon as it is not known to be the present one.
    view.local.quorate = false;
    let new = Snapshot::build(Arc::new(view), &TimeBase::default(), Some(&old));
    assert_ne!(old.get(&[1, 1, 10, 0]), new.get(&[1, 1, 10, 0]), "quorate");
    assert!(old.get(&[1, 10, 1, 15, 2]).is_some(), "interfaces up");
    assert_eq!(new.get(&[1, 10, 1, 15, 2]), None, "interfaces up without a quorum");
    assert_ne!(old.get(&[1, 1, 4, 0]), new.get(&[1, 1, 4, 0]), "cluster state without a quorum");
}

/// What the guard measures changes though no state does, and what it knows no more is not there.
#[test]
fn clocks_and_positions_follow_the_report() {
    let world = World::three_nodes();
    let old = Snapshot::build(world.view(), &TimeBase::default(), None);
    let (offset, position) = ([1, 10, 1, 18, 2], [1, 10, 1, 19, 2]);
    assert_eq!(old.get(&offset), Some(&Value::Integer(-1)));
    assert_eq!(old.get(&[1, 10, 1, 18, 1]), None, "a clock is not compared with itself");
    let mut view = world.view().as_ref().clone();
    let mut report = view.local.report.as_deref().expect("a report").clone();
    (report.peers[0].clock_offset_us, report.peers[0].position) = (None, 4_800);
    view.local.report = Some(Arc::new(report));
    let new = Snapshot::build(Arc::new(view), &TimeBase::default(), Some(&old));
    assert_eq!(new.get(&offset), None);
    assert_eq!(new.get(&position), Some(&Value::Counter64(4_800)));
}

/// The shipped configuration of snmp_exporter's generator names only what the MIB defines, and every
/// enumeration is either a set of states or a label.
#[test]
fn the_exporter_configuration_fits_the_mib() {
    let text = std::fs::read_to_string(folder().join("snmp_exporter/generator.yml")).expect("file");
    let known = suffixes();
    let code = text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<String>();
    let named: BTreeSet<&str> = code
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| word.starts_with("vedette") && *word != "vedette")
        .collect();
    for name in &named {
        assert!(known.contains_key(*name), "{name} is not in the MIB");
    }
    let outside = [
        "vedetteQueue",
        "vedetteBegun",
        "vedetteEvent",
        "vedettePrevious",
        "vedetteNotify",
        "vedetteLocalRecord",
    ];
    for (name, object) in defined() {
        let walked = !outside.iter().any(|prefix| name.starts_with(prefix));
        if walked && (object.syntax.ends_with("Code") || object.syntax == "TruthValue") {
            assert!(named.contains(name.as_str()), "{name} would be a bare number");
        }
    }
}
