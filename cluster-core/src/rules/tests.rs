//! Rules files and recovery programs: what is read, what is refused, and where.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::id::{NetworkNumber, NodeNumber};
use crate::trigger::StopMode;

const APPENDIX: &str = include_str!("../../testdata/rules/rules.hacmprd");
const RWHO: &str = include_str!("../../testdata/rules/rwho.rp");
const RWHO_PATH: &str = "/usr/sbin/cluster/local/rwho.rp";

fn errors(findings: &Findings) -> Vec<String> {
    let wrong = findings.0.iter().filter(|finding| finding.level == Level::Error);
    wrong.map(ToString::to_string).collect()
}

fn appendix_set() -> RuleSet {
    let programs = BTreeMap::from([(RWHO_PATH.to_owned(), RWHO.to_owned())]);
    RuleSet { text: APPENDIX.into(), programs, ..RuleSet::default() }
}

/// The appendix's file with line `number` removed, or with a line put before it.
fn edited(number: usize, insert: Option<&str>) -> String {
    let mut lines: Vec<&str> = APPENDIX.lines().collect();
    match insert {
        Some(line) => lines.insert(number - 1, line),
        None => _ = lines.remove(number - 1),
    }
    lines.join("\n") + "\n"
}

fn line_of(text: &str, wanted: &str) -> usize {
    text.lines().position(|line| line == wanted).unwrap() + 1
}

/// H15: the complete file of appendix A.2.3 loads, with its one rule about a variable.
#[test]
fn the_file_of_the_appendix_loads() {
    let (rules, findings) = file::parse("rules.hacmprd", APPENDIX);
    assert_eq!(findings, Findings::default());
    assert_eq!(rules.len(), 10);
    let rwho = rules.last().unwrap();
    assert_eq!(rwho.name, "UE_PGMRWHO_DOWN");
    assert_eq!((rwho.state.as_str(), rwho.program.as_str()), ("0", RWHO_PATH));
    assert_eq!((rwho.kind.as_str(), rwho.level.as_str()), ("2", "0"));
    assert_eq!(rwho.variable, "IBM.PSSP.Prog.xpcount");
    assert_eq!(rwho.vector, "NodeNum=*;ProgName=rwhod;UserName=root");
    assert_eq!((rwho.predicate.as_str(), rwho.rearm.as_str()), ("X@0==0&&X@1!=0", "X@0>0"));
    assert_eq!(appendix_set().check("rules.hacmprd"), Findings::default());
}

/// H15: a carriage return at each line's end, and empty lines at the end, change nothing.
#[test]
fn line_ends_and_empty_lines_at_the_end_do_not_matter() {
    let plain = file::parse("rules", APPENDIX);
    for text in [APPENDIX.replace('\n', "\r\n"), format!("{APPENDIX}\n\n  \n")] {
        assert_eq!(file::parse("rules", &text), plain);
    }
}

/// H15: one line short, wherever it is: that rule is named, and only that one.
#[test]
fn a_file_one_line_short_is_refused_with_the_rule() {
    let node_down = line_of(APPENDIX, "TE_FAIL_NODE");
    for number in [node_down + 1, node_down + 3, node_down + 4, node_down + 6, node_down + 12] {
        let (rules, findings) = file::parse("rules", &edited(number, None));
        let errors = errors(&findings);
        assert_eq!(errors.len(), 1, "line {number}: {errors:#?}");
        assert!(errors[0].contains("TE_FAIL_NODE: this rule has 8 lines"), "{errors:#?}");
        assert!(errors[0].starts_with(&format!("rules:{node_down}: error")), "{errors:#?}");
        assert_eq!(rules.len(), 9, "the others are read all the same");
    }
    let last = line_of(APPENDIX, "X@0>0");
    let found = errors(&file::parse("rules", &edited(last, None)).1);
    assert!(found[0].contains("UE_PGMRWHO_DOWN: this rule has 8 lines"), "{found:#?}");
}

/// H15: one line too many. If what is left over is empty the lines are nine, but not the right ones.
#[test]
fn a_file_one_line_long_is_refused_with_the_rule() {
    for (name, surplus, line, what) in [
        ("UE_PGMRWHO_DOWN", "X@0>1", 0, "this rule has 10 lines, and a rule has exactly nine"),
        ("TE_FAIL_NODE", "2", 6, "a predefined event has no resource variable"),
    ] {
        let at = line_of(APPENDIX, name);
        let (_, findings) = file::parse("rules", &edited(at + 4, Some(surplus)));
        let errors = errors(&findings);
        assert_eq!(errors.len(), 1, "{errors:#?}");
        let place = format!("rules:{}: error: {name}", at + line.max(1) - 1);
        assert!(errors[0].starts_with(&place) && errors[0].contains(what), "{errors:#?}");
    }
}

/// H15: every finding at once, each with its line.
#[test]
fn all_findings_are_told_with_their_lines() {
    let text = "TE_JION_NODE\n0\n/a/node_up.rp\n2\n0\n\n\n\n\n\
                UE_A\n1\n/a/none.rp\n\n0\nprog.count\nNodeNum\nX@O==0\nX>\n\
                UE_A\n0\nnode_up.rp\n2\n0\nfs.used_percent\n\n\n\n";
    let found = check("rules", text, &BTreeMap::new()).to_string();
    for part in [
        "rules:6: error: TE_JION_NODE, resource variable: TE_JION_NODE is no predefined event",
        "Did you mean TE_JOIN_NODE?",
        "rules:11: warning: UE_A, state: no event has the state `1`",
        "rules:12: error: UE_A, recovery program: the recovery program /a/none.rp is neither",
        "rules:13: error: UE_A, recovery type: the recovery type is missing",
        "rules:15: warning",
        "rules:16: error: UE_A, instance vector: element 1 of the instance vector",
        "rules:17: error: UE_A, predicate: column 3: `O` is no field",
        "rules:18: error: UE_A, rearm predicate: column 3: something is missing at the end",
        "rules:19: error: UE_A: there is a rule of that name already, at line 10",
        "rules:21: error: UE_A, recovery program: `node_up.rp` is no absolute path",
        "rules:26: error: UE_A, predicate: there is a resource variable, but no predicate",
    ] {
        assert!(found.contains(part), "{part}\n----\n{found}");
    }
}

/// H15: a predefined event with something in a line that has to be empty.
#[test]
fn a_predefined_event_has_no_variable() {
    let text = "TE_FAIL_NODE\n0\n/a/node_down.rp\n2\n0\nfs.used_percent\n\nX>90\n\n";
    let found = errors(&check("rules", text, &BTreeMap::new()));
    assert_eq!(found.len(), 2, "{found:#?}");
    assert!(found[0].starts_with("rules:6: error: TE_FAIL_NODE, resource variable: "));
}

/// H31: a predicate that makes no sense of the values of a built-in monitor is refused before it is
/// tried; one that another value would make senseless is not.
#[test]
fn predicates_are_tried_on_the_values_of_known_variables() {
    let rule = |variable: &str, predicate: &str| {
        let text = format!("UE_A\n0\n/a.rp\n2\n0\n{variable}\n\n{predicate}\n\n");
        errors(&file::parse("rules", &text).1)
    };
    let number = rule("fs.used_percent", "X@1>90");
    assert!(
        number[0].contains(
            "rules:8: error: UE_A, predicate: column 1: the value is a whole number and has no fields"
        ),
        "{number:?}"
    );
    for predicate in ["X>90", "X@2>4", "X@0==\"a\""] {
        assert_eq!(rule("IBM.PSSP.Prog.xpcount", predicate).len(), 1, "{predicate}");
    }
    for predicate in ["X@0==0&&X@1!=0", "X@2!=\"\"", "X@0/(X@1-9)>2"] {
        assert_eq!(rule("program.count", predicate), Vec::<String>::new(), "{predicate}");
    }
    assert!(rule("site.anything", "X@3>1").is_empty(), "nothing is known of it");
}

/// What is wrong with a rule of one's own.
fn own(variable: &str, vector: &str, predicate: &str, rearm: &str) -> Vec<String> {
    let text = format!("UE_X\n0\n/x.rp\n2\n0\n{variable}\n{vector}\n{predicate}\n{rearm}\n");
    errors(&file::parse("rules", &text).1)
}

/// J6: rules that can never work are refused with their line and why.
#[test]
fn j6_what_can_never_work_is_refused() {
    let program = "NodeNum=*;ProgName=rwhod;UserName=root";
    for (variable, vector, predicate, rearm, words) in [
        // Behind a short circuit nobody gets to see the mistake.
        (
            "program.count",
            program,
            "X@0==0&&X@7>3",
            "",
            "rules:8: error: UE_X, predicate: column 9: the value has 3 fields, and no field 7",
        ),
        (
            "program.count",
            program,
            "X@0==0&&X@2>3",
            "",
            "column 12: a text is compared with a number",
        ),
        (
            "fs.used_percent",
            "MountPoint=/",
            "X>90&&X<10",
            "",
            "column 5: `X>90&&X<10` is true for no value",
        ),
        ("fs.used_percent", "MountPoint=/", "X>120", "", "column 2: `X>120` is true for no value"),
        ("fs.used_percent", "MountPoint=/", "X>90||X<=90", "", "is true for every value"),
        (
            "fs.used_percent",
            "MountPoint=/",
            "X>90||X>100",
            "",
            "column 8: `X>100` is true for no value",
        ),
        (
            "fs.used_percent",
            "MountPoint=/",
            "X>90",
            "X<0",
            "rules:9: error: UE_X, rearm predicate: column 2: `X<0` is true for no",
        ),
        ("site.state", "", "X==\"on\"&&X==\"off\"", "", "is true for no value"),
        (
            "program.count",
            "NodeNum=*;ProgNam=rwhod",
            "X@0==0",
            "",
            "rules:7: error: UE_X, instance vector: instances of program.count have no ProgNam, so none would match.\n    Did you mean ProgName?",
        ),
        ("fs.used_percent", "NodeNum=n1", "X>90", "", "NodeNum=n1 is no number of a node"),
    ] {
        let found = own(variable, vector, predicate, rearm);
        assert_eq!(found.len(), 1, "{predicate}: {found:#?}");
        assert!(found[0].contains(words), "{words}\nis not in\n{}", found[0]);
    }
}

/// J6: what can become true and false is taken, however strange.
#[test]
fn j6_what_can_work_is_taken() {
    for (variable, predicate, rearm) in [
        ("program.count", "X@0==0&&X@1!=0", "X@0>0"),
        ("program.count", "X@0<X@P@0", ""),
        ("program.count", "X@2!=\"\"", ""),
        ("fs.used_percent", "X>90||X-X@P>5", "X<80"),
        ("fs.used_percent", "X>=100", "X<100"),
        ("fs.used_percent", "!(X<90)", "X"),
        ("cpu.run_queue", "X>4&&X<5", ""),
        ("site.state", "X!=\"on\"", "X==\"on\""),
        ("site.number", "X< -5", "X>=0"),
        ("site.fields", "X@0==0&&X@7>3", ""),
    ] {
        assert_eq!(own(variable, "NodeNum=*", predicate, rearm), [""; 0], "{predicate}");
    }
}

/// J6: a rule about a node that nobody is.
#[test]
fn j6_a_node_that_does_not_exist() {
    let text = "# ours\nUE_X\n0\n/x.rp\n2\n0\nfs.used_percent\nNodeNum=77\nX>90\n\n";
    let nodes = BTreeMap::from([(NodeNumber(1), "n1".to_owned()), (NodeNumber(2), "n2".into())]);
    let found = errors(&missing_nodes("rules", text, &nodes));
    let said = "rules:8: error: UE_X, instance vector: there is no node 77, so this rule never fires.\n    There are: 1 (n1), 2 (n2).";
    assert_eq!(found, [said]);
    let fine = text.replace("77", "2");
    assert_eq!(missing_nodes("rules", &fine, &nodes), Findings::default());
}

/// H15: empty files, comments only, and files of any size end with a finding.
#[test]
fn a_file_without_rules_is_refused() {
    for text in ["", "\n\n", "# nothing\n", "\r\n"] {
        let (rules, findings) = file::parse("rules", text);
        assert!(rules.is_empty() && has_errors(&findings), "{text:?}");
    }
    let huge = "a\n".repeat(file::LONGEST);
    assert!(has_errors(&file::parse("rules", &huge).1));
    assert!(has_errors(&file::parse("rules", &huge[..file::LONGEST - 2]).1));
}

fn program(text: &str) -> Result<Vec<Vec<String>>, Vec<String>> {
    let (program, findings) = program::parse("/a/p.rp", text);
    if has_errors(&findings) {
        return Err(errors(&findings));
    }
    let phase = |phase: &Vec<ProgramLine>| phase.iter().map(ToString::to_string).collect();
    Ok(program.phases.iter().map(phase).collect())
}

/// H17: node sets, commands, statuses and barriers; the example of appendix A.2.4.
#[test]
fn the_program_of_the_appendix_is_read() {
    let phases = program(RWHO).unwrap();
    let lengths: Vec<usize> = phases.iter().map(Vec::len).collect();
    assert_eq!(lengths, [2, 1, 1]);
    assert_eq!(phases[0][1], "event \"/usr/sbin/cluster/local/rwho_msg_local\" 0 NULL");
    assert_eq!(phases[2], ["all   \"/usr/sbin/cluster/local/rwho_msg_complete\" X NULL"]);
    // The words may be in capitals, as the book's prose has them.
    let capitals = "All \"a\" x null\r\nBARRIER\r\nOther \"b\" 255 Null\r\n";
    assert_eq!(program(capitals).unwrap(), [["all   \"a\" X NULL"], ["other \"b\" 255 NULL"]]);
}

/// H17: every way to write a wrong line, told with its line and what to do.
#[test]
fn wrong_programs_are_refused_with_line_and_advice() {
    for (text, line, what, advice) in [
        ("\"node_up\" 0 NULL", 1, "names no node set", "all|event|other"),
        ("\nothers \"a\" 0 NULL", 2, "`others` is no node set", "Did you mean other?"),
        ("nodes \"a\" 0 NULL", 1, "`nodes` is no node set", "Use all, event or other."),
        ("all \"a 0 NULL", 1, "quote before the command is not closed", "same line"),
        ("all node_up 0 NULL", 1, "does not stand in quotes", "all|event|other"),
        ("barier", 1, "`barier` is unknown", "Did you mean barrier?"),
        ("barrier now", 1, "after the word barrier", "alone"),
        ("all \"\" 0 NULL", 1, "the command is empty", "Name an event script"),
        ("all \"bin/x\" 0 NULL", 1, "neither the name of an event script nor", "Begin the path"),
        ("all \"a\"", 1, "status and the word NULL are missing", "all|event|other"),
        ("all \"a\" NULL", 1, "the expected status is missing", "0 to 255"),
        ("all \"a\" 0", 1, "the word NULL is missing", "Write NULL"),
        ("all \"a\" 0 NUL", 1, "`NUL` stands where NULL has to", "End the line"),
        ("all \"a\" 256 NULL", 1, "`256` is no exit status", "0 to 255, or X"),
        ("all \"a\" -1 NULL", 1, "`-1` is no exit status", "0 to 255, or X"),
        ("all \"a\" 0 NULL NULL", 1, "`NULL` is one word too many", "End the line"),
    ] {
        let found = program(text).unwrap_err();
        assert_eq!(found.len(), 1, "{text}: {found:#?}");
        assert!(found[0].starts_with(&format!("/a/p.rp:{line}: error: ")), "{found:#?}");
        assert!(found[0].contains(what) && found[0].contains(advice), "{text}: {}", found[0]);
    }
    for empty in ["", "# nothing\n", "barrier\n"] {
        assert!(program(empty).unwrap_err()[0].contains("the program has no command"));
    }
}

/// H17: what is built in is without findings, and serves each predefined event.
#[test]
fn what_is_built_in_is_whole() {
    assert_eq!(RuleSet::built_in().check("rules"), Findings::default());
    let names: BTreeSet<String> =
        RuleSet::built_in().rules().into_iter().map(|rule| rule.name).collect();
    assert_eq!(names, built_in::EVENTS.iter().map(|name| (*name).to_owned()).collect());
    for (name, text) in built_in::PROGRAMS {
        assert_eq!(program::parse(name, text).1, Findings::default(), "{name}");
    }
}

fn triggers() -> Vec<Trigger> {
    let (node, network) = (NodeNumber(1), NetworkNumber(1));
    vec![
        Trigger::NodeUp(node),
        Trigger::NodeDown { node, stop: None },
        Trigger::NodeDown { node, stop: Some(StopMode::Takeover) },
        Trigger::SwapAdapter { node, network },
        Trigger::JoinStandby { node, network },
        Trigger::FailStandby { node, network },
        Trigger::NetworkUp(network),
        Trigger::NetworkDown(network),
        Trigger::ReconfigTopology { version: 1 },
        Trigger::ReconfigResource { version: 1 },
        Trigger::GroupMove { group: "web".into() },
    ]
}

/// H15, H16: each predefined event has a program, also if the loaded file leaves it out.
#[test]
fn every_predefined_event_has_a_program() {
    let mut store = RuleStore::default();
    store.versions.insert(1, appendix_set());
    for active in [0, 1] {
        store.active = active;
        for trigger in triggers() {
            let program = store.program(&trigger).unwrap_or_default();
            assert!(!program.phases.is_empty(), "version {active}: {trigger:?}");
            let file = format!("/{}.rp", trigger.name());
            assert!(program.path.ends_with(&file), "{trigger:?}: {}", program.path);
        }
    }
}

/// H17, H21: what a planned stop moves waits for itself alone: there is no barrier between the node that leaves and
/// those that acquire, whose acquisitions wait for their groups.
#[test]
fn no_group_of_a_node_down_waits_for_another() {
    let store = RuleStore::default();
    let trigger = Trigger::NodeDown { node: NodeNumber(2), stop: Some(StopMode::Takeover) };
    assert_eq!(
        store.program(&trigger).unwrap().to_string(),
        "all   \"node_down\" 0 NULL\nbarrier\nall   \"node_down_complete\" X NULL\n"
    );
}

/// H16, H33: a user-defined event has the program that was loaded, and none once its rule is gone.
#[test]
fn a_user_defined_event_has_its_own_program() {
    let trigger = Trigger::User {
        rule: "UE_PGMRWHO_DOWN".into(),
        node: NodeNumber(5),
        instance: "NodeNum=5;ProgName=rwhod;UserName=root".into(),
        value: "0,1,\"\"".into(),
    };
    let mut store = RuleStore::default();
    assert_eq!(store.program(&trigger), None);
    store.versions.insert(1, appendix_set());
    store.active = 1;
    let program = store.program(&trigger).unwrap();
    assert_eq!((program.path.as_str(), program.phases.len()), (RWHO_PATH, 3));
}

fn word() -> impl Strategy<Value = String> {
    "[A-Za-z_][A-Za-z0-9_]{0,12}"
}

fn rule() -> impl Strategy<Value = Rule> {
    (word(), "/[a-z/]{1,20}[.]rp", "[0-9]{1,2}", any::<bool>(), any::<bool>()).prop_map(
        |(name, program, kind, user, rearm)| {
            let given = |is: bool, text: &str| if is { text.to_owned() } else { String::new() };
            Rule {
                name: format!("{}_{name}", if user { "UE" } else { "XE" }),
                state: "0".into(),
                program,
                level: kind.clone(),
                kind,
                variable: given(user, "fs.used_percent"),
                vector: given(user, "NodeNum=*"),
                predicate: given(user, "X>90"),
                rearm: given(user && rearm, "X<80"),
            }
        },
    )
}

fn line() -> impl Strategy<Value = ProgramLine> {
    let sets = prop_oneof![Just(NodeSet::All), Just(NodeSet::Event), Just(NodeSet::Other)];
    (sets, "(/[a-z]{1,9}/)?[a-z_#]{1,9}( [a-z#*$']{1,9}){0,3}", proptest::option::of(0..256_i32))
        .prop_map(|(nodes, command, expected)| ProgramLine { nodes, command, expected })
}

proptest! {
    /// H15: random bytes and shuffled lines of a good file end with an answer, never with a panic.
    #[test]
    fn no_text_is_too_strange(text in ".{0,400}", seed in proptest::collection::vec(0..90_usize, 0..90)) {
        let lines: Vec<&str> = APPENDIX.lines().collect();
        let shuffled: String =
            seed.iter().filter_map(|at| lines.get(*at)).map(|line| format!("{line}\n")).collect();
        for text in [text, shuffled] {
            let (rules, findings) = file::parse("rules", &text);
            prop_assert!(!rules.is_empty() || has_errors(&findings));
            let (program, findings) = program::parse("/p.rp", &text);
            prop_assert!(!program.phases.is_empty() || has_errors(&findings));
            check("rules", &text, &BTreeMap::from([("/p.rp".to_owned(), text.clone())]));
        }
    }

    /// H15: what is printed is read back as the same.
    #[test]
    fn printed_rules_are_read_back(mut rules in proptest::collection::vec(rule(), 1..12)) {
        rules.sort_by(|one, other| one.name.cmp(&other.name));
        rules.dedup_by(|one, other| one.name == other.name);
        let (read, _) = file::parse("rules", &file::print(&rules));
        prop_assert_eq!(read, rules);
    }

    /// H17: the same for programs.
    #[test]
    fn printed_programs_are_read_back(
        phases in proptest::collection::vec(proptest::collection::vec(line(), 1..5), 1..5)
    ) {
        let program = Program { path: "/p.rp".into(), phases };
        let (read, findings) = program::parse("/p.rp", &program.to_string());
        prop_assert_eq!(errors(&findings), Vec::<String>::new());
        prop_assert_eq!(read, program);
    }
}
