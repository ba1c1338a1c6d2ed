//! What the commands about rules show and refuse, with the files of the example of chapter 11.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use vedette_core::command::Command;
use vedette_core::fixture::Fixture;
use vedette_core::id::NodeNumber;
use vedette_core::rules::{RuleSet, file};

use super::super::screens::{SCREEN, compare, expect, now};
use super::difference::Line;
use super::*;

/// Where the core has the document's files.
fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../cluster-core/testdata/rules").join(name)
}

fn files() -> Files {
    let folder = example("");
    let mut files = Files::read(&example("rules.hacmprd"), Some(&folder)).unwrap();
    files.name = "rules.hacmprd".into();
    let name = |place: &mut String| *place = place.rsplit('/').next().unwrap_or_default().into();
    files.places.values_mut().for_each(name);
    files
}

/// A cluster whose rules were changed twice and then rolled back.
fn store() -> RuleStore {
    let mut fixture = Fixture::settled(3);
    fixture.deliver_alerts(NodeNumber(1));
    let RuleSet { text, programs, .. } = files().set;
    let full = Rule {
        name: "UE_TMP_FULL".into(),
        state: "0".into(),
        program: "/etc/vedette/rules/full.rp".into(),
        kind: "2".into(),
        level: "0".into(),
        variable: "fs.used_percent".into(),
        vector: "MountPoint=/tmp".into(),
        predicate: "X>90".into(),
        rearm: String::new(),
    };
    let full_program = "event \"/usr/local/sbin/clean_tmp\" 0 NULL\n".to_owned();
    for (based_on, comment, text, programs) in [
        (0, "restart rwhod", text.clone(), programs.clone()),
        (
            1,
            "keep room in /tmp",
            format!("{text}{}", file::print(std::slice::from_ref(&full))),
            programs.into_iter().chain([(full.program.clone(), full_program)]).collect(),
        ),
    ] {
        fixture.apply(Command::SaveRules { text, programs, comment: comment.into(), based_on });
    }
    fixture.state.rules.clone()
}

/// H15, H32: the rules in force, with what those of one's own wait for.
#[test]
fn the_rules_in_force() {
    expect("rules_show.txt", &show_screen(&store(), &now(), SCREEN));
    expect("rules_show_built_in.txt", &show_screen(&RuleStore::default(), &now(), SCREEN));
    let document = RulesDoc::new(&store(), &store().in_force());
    assert_eq!(document.active, 2);
    assert_eq!(document.rules[9].variable, "IBM.PSSP.Prog.xpcount");
    assert_eq!(document.rules[9].program_from, "loaded");
}

/// H16: versions, and which is in force.
#[test]
fn the_versions() {
    expect("rules_history.txt", &history_screen(&store(), &now(), SCREEN));
    assert!(RuleHistoryDoc::from(&store()).versions[1].active);
}

/// H16: what a new version changes, in rules and programs.
#[test]
fn what_differs() {
    let store = store();
    let changes = difference::between(&store.version(1).unwrap(), &store.in_force());
    expect("rules_diff.txt", &difference::screen(&changes, SCREEN));
    assert!(difference::between(&store.in_force(), &store.in_force()).is_empty());
    assert_eq!(difference::document(&changes).changes[0].name, "rule UE_TMP_FULL");
}

/// A file of one's own rule alone takes nothing away: the predefined events keep their rules.
#[test]
fn what_a_file_leaves_out_does_not_go() {
    let text = "UE_FULL\n0\n/full.rp\n2\n0\nfs.used_percent\nMountPoint=/\nX>90\n\n".to_owned();
    let own = RuleSet { text, ..RuleSet::default() };
    let changes = difference::between(&RuleSet::built_in(), &own);
    let names: Vec<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    assert_eq!(names, ["rule UE_FULL"]);
    assert!(changes[0].lines.iter().all(|line| matches!(line, Line::Added(_))));
    let back = difference::between(&own, &RuleSet::built_in());
    assert!(back[0].lines.iter().all(|line| matches!(line, Line::Removed(_))));
    // The same rules in other words are another text.
    let noted = RuleSet { text: format!("# of ours\n{}", own.text), ..own.clone() };
    assert_eq!(difference::between(&own, &noted)[0].name, "text");
}

#[test]
fn lines_that_both_have_are_found() {
    let same = |line: &str| Line::Same(line.into());
    let removed = |line: &str| Line::Removed(line.into());
    let added = |line: &str| Line::Added(line.into());
    assert_eq!(
        difference::lines("a\nb\nc\nd\ne", "a\nc\nx\nd\ny\ne"),
        [same("a"), removed("b"), same("c"), added("x"), same("d"), added("y"), same("e")]
    );
    assert_eq!(difference::lines("", "a"), [added("a")]);
    assert_eq!(difference::lines("a\na", "a"), [same("a"), removed("a")]);
    let (long, other) = ("x\n".repeat(3_000), "y\n".repeat(3_000));
    assert_eq!(difference::lines(&long, &other).len(), 6_000, "more than can be compared");
}

/// H15, H17, H31: every finding with the very line and a mark at the place.
#[test]
fn findings_show_their_lines() {
    let mut files = files();
    files.set.text = files.set.text.replace("X@0==0&&X@1!=0", "X@0==0&X@1!=0");
    files.set.text = files.set.text.replacen("/network_up.rp", "/netup.rp", 1);
    let path = "/usr/sbin/cluster/local/rwho.rp".to_owned();
    files.set.programs =
        BTreeMap::from([(path, "every \"x\" 0 NULL\nall \"/no/x 0 NULL\n".into())]);
    let findings = check::findings(&files, &Monitors::Unknown);
    let failure = check::verdict(&files, &findings).unwrap_err();
    compare("rules_check.txt", &format!("{failure}\n"));
    assert!(!check::document(&findings).ok);
}

/// H15: the document's files can be loaded; what this node lacks is a warning.
#[test]
fn what_this_node_lacks_is_a_warning() {
    let findings = check::findings(&files(), &Monitors::Unknown);
    let text = check::verdict(&files(), &findings).unwrap();
    assert!(text.starts_with("rules.hacmprd can be loaded, but:\n"), "{text}");
    assert!(text.contains("/usr/sbin/cluster/local/rwho_restart does not exist on this node"));
    assert!(check::document(&findings).ok);
}

/// A variable of the cluster's own monitors is known; where nobody can say which those are, that is said.
#[test]
fn variables_of_configured_monitors_are_known() {
    let mut files = files();
    files.set.text = files.set.text.replace("IBM.PSSP.Prog.xpcount", "site.queue");
    let about = |monitors: &Monitors| -> Vec<String> {
        let found = check::findings(&files, monitors).0;
        found.into_iter().map(|it| it.what).filter(|what| what.contains("yields")).collect()
    };
    let known = |names: &[&str]| Monitors::Known(names.iter().map(|it| (*it).into()).collect());
    assert_eq!(about(&known(&["site.queue"])), [""; 0]);
    let other = about(&known(&["site.other"]));
    assert_eq!(other, ["neither a built-in monitor nor [monitors] yields site.queue"]);
    let nobody = about(&Monitors::Unknown);
    assert!(nobody.len() == 1 && nobody[0].contains("cannot be known here"), "{nobody:?}");
}

/// H15: a program that no rule names is said, not loaded in silence.
#[test]
fn programs_that_no_rule_names_are_told() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("lost.rp"), "all \"a\" X NULL\n").unwrap();
    std::fs::write(dir.path().join("notes.txt"), "nothing").unwrap();
    let files = Files::read(&example("rules.hacmprd"), Some(dir.path())).unwrap();
    assert!(files.set.programs.is_empty());
    let found = check::findings(&files, &Monitors::Unknown).to_string();
    assert!(found.contains("lost.rp: warning: no rule names a recovery program of this file name"));
    assert!(found.contains("rwho.rp is neither loaded nor built in"), "{found}");
    let missing = Files::read(&dir.path().join("none"), None).err().unwrap();
    assert!(missing.what.contains("none cannot be read"), "{missing}");
    let nowhere = Files::read(&example("rules.hacmprd"), Some(&dir.path().join("none"))).err();
    assert!(nowhere.unwrap().what.contains("the folder"));
}
