//! What a site's own event leaves behind when its script fails: an end that was ordered beforehand, and all that was
//! printed, on the node that ran it (findings T9, J10); and an address that is not on its machine (J2).

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;
use vedette_tests::lab::Lab;

use crate::{PATIENCE, lab, look};

const RULE: &str = "UE_SITE_ALARM";

pub(crate) fn script(path: &Path, text: &str) -> String {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).expect("made executable");
    path.display().to_string()
}

pub(crate) fn run(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = lab.vedette(node, arguments).expect("run");
    let (said, failed) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?} on {node}: {said}{failed}");
    said.into_owned()
}

fn refused(lab: &Lab, node: &str, arguments: &[&str]) -> String {
    let output = lab.vedette(node, arguments).expect("run");
    assert!(!output.status.success(), "{arguments:?} on {node} is refused");
    let said =
        [output.stdout, output.stderr].map(|it| String::from_utf8_lossy(&it).into_owned()).concat();
    // Lines are cut for a terminal.
    said.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The present document, with more.
fn document(lab: &Lab, folder: &Path, more: &str) -> String {
    let text = run(lab, "n1", &["config", "show", "--document"]);
    let file = folder.join("cluster.toml");
    std::fs::write(&file, format!("{text}\n{more}")).expect("written");
    file.display().to_string()
}

/// The last record of that code about the rule.
fn told(lab: &Lab, seq: u64, code: &str) -> Option<Value> {
    let ours = |record: &Value| {
        record["code"] == code && record["message"].as_str().is_some_and(|it| it.contains(RULE))
    };
    look::records_after(lab, "n1", seq).into_iter().rfind(ours)
}

/// T9, J10: a script of the site's own event prints much, complains and fails: the event ends as its configuration
/// says, nobody is needed, and the record names where all of it is: on the node that ran it, which others say.
#[test]
fn j10_t9_a_script_that_fails_leaves_its_transcript() {
    let lab = lab();
    let folder = lab.dir().join("transcripts");
    std::fs::create_dir_all(&folder).expect("made");
    let alarm = folder.join("alarm");
    let monitor = script(
        &folder.join("monitor"),
        &format!("test -f {}.$VEDETTE_NODE && echo 1 || echo 0", alarm.display()),
    );
    let act = script(
        &folder.join("act"),
        "echo begun on $VEDETTE_NODE, $VEDETTE_NODE_NUMBER\nseq 1 20000\necho 'no such disk' >&2\nexit 5",
    );
    let program = folder.join("alarm.rp");
    std::fs::write(&program, format!("event \"{act}\" 0 NULL\n")).expect("written");
    let rules = folder.join("rules");
    let rule = format!("{RULE}\n0\n/site/alarm.rp\n2\n0\nsite.alarm\nNodeNum=*\nX>0\nX==0\n");
    std::fs::write(&rules, &rule).expect("written");
    let file = document(
        &lab,
        &folder,
        &format!(
            "[monitors.\"site.alarm\"]\ncommand = [\"{monitor}\"]\ninterval = \"1s\"\n\n\
             [events.{RULE}]\non_failure = \"abort\"\ntime_limit = \"1m\"\n"
        ),
    );
    let before = look::seq(&lab, "n1");
    run(&lab, "n1", &["config", "apply", &file, "--yes"]);
    let (rules, folder_of) = (rules.display().to_string(), folder.display().to_string());

    // A node that nobody is, and a text that is none.
    std::fs::write(folder.join("nobody"), rule.replace("NodeNum=*", "NodeNum=77"))
        .expect("written");
    let nobody = folder.join("nobody").display().to_string();
    let said = refused(&lab, "n1", &["rules", "load", &nobody, "--programs", &folder_of, "--yes"]);
    assert!(said.contains("there is no node 77"), "{said}");
    std::fs::write(folder.join("binary"), b"UE_X\n0\n/x.rp\n\xff\xfe\n").expect("written");
    let binary = folder.join("binary").display().to_string();
    let said = refused(&lab, "n1", &["rules", "check", &binary]);
    assert!(said.contains("line 4, byte 13 of the file, is 0xff"), "{said}");

    run(&lab, "n1", &["rules", "load", &rules, "--programs", &folder_of, "--yes"]);
    std::fs::write(format!("{}.n2", alarm.display()), "").expect("written");
    let ended = lab
        .wait_for("the event to end", PATIENCE, |lab| told(lab, before, "EVENT_ENDED"))
        .unwrap_or_else(|error| panic!("{error}: {:#?}", look::records_after(&lab, "n1", before)));
    assert_eq!(ended["current"], "aborted: a command failed");
    let failed = told(&lab, before, "EVENT_FAILED").expect("it is told");
    let cause = failed["cause"].as_str().unwrap_or_default();
    let name = cause.split("vedette transcript show ").nth(1).expect("a transcript").to_owned();
    assert!(name.starts_with("n2/") && cause.starts_with("begun on n2, 2 / 1 / 2 / 3"), "{cause}");

    let shown = run(&lab, "n2", &["transcript", "show", &name]);
    for wanted in ["exit status 5", "\nbegun on n2, 2\n1\n", "\n20000\nno such disk\n"] {
        assert!(shown.contains(wanted), "{wanted} is missing in {} bytes", shown.len());
    }
    let event = ended["event"].to_string();
    let listed = run(&lab, "n2", &["transcript", "list", "--event", &event]);
    assert!(listed.contains(&name), "{listed}");
    let elsewhere = run(&lab, "n3", &["transcript", "list", "--event", &event]);
    assert!(elsewhere.contains(&format!("On n2: {name}.")), "{elsewhere}");
    let said = refused(&lab, "n3", &["transcript", "show", &name]);
    assert!(said.contains("Ask on n2"), "{said}");
    run(&lab, "n1", &["recover", "show"]);

    // J2: an address that n2 has not is refused by n2, and `verify` has nothing against what is in force.
    let present = run(&lab, "n1", &["config", "show", "--document"]);
    let own = look::get(&lab, "n1", "/api/v1/nodes/n2").expect("n2").json();
    let address = own["interfaces"][0]["address"].as_str().expect("an address").to_owned();
    let foreign = format!("{}.77", address.rsplit_once('.').expect("IPv4").0);
    let edited = present.replace(&format!("\"{address}\""), &format!("\"{foreign}\""));
    // A document that says nothing of addresses leaves them as they are.
    let network = own["interfaces"][0]["network"].as_str().expect("a network");
    let said_there = edited != present;
    let more = format!("\n[nodes.n2.addresses]\n{network} = \"{foreign}\"\n");
    let edited = if said_there { edited } else { edited + &more };
    std::fs::write(&file, edited).expect("written");
    let said = refused(&lab, "n1", &["config", "apply", &file, "--yes"]);
    assert!(said.contains(&format!("{foreign} is not on this machine")), "{said}");

    // As it was before.
    std::fs::remove_file(format!("{}.n2", alarm.display())).expect("removed");
    run(&lab, "n1", &["rules", "rollback", "0", "--yes"]);
    let text: String = present.split("[monitors").next().unwrap_or_default().into();
    let text: String = text.split(&format!("[events.{RULE}]")).next().unwrap_or_default().into();
    std::fs::write(&file, text).expect("written");
    run(&lab, "n1", &["config", "apply", &file, "--yes"]);
}
