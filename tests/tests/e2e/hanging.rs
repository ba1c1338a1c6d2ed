//! A site's own event whose script hangs: nobody waits for it, and an operator ends it with all that it started
//! (finding T9).

use std::path::Path;

use serde_json::Value;
use vedette_tests::lab::Lab;

use crate::failover::{address, give, wait_online_on};
use crate::transcripts::{run, script};
use crate::{PATIENCE, lab, look};

const RULE: &str = "UE_SITE_HANGS";

/// How many processes run that program, on any node.
fn running(program: &Path) -> usize {
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let runs = |entry: &std::fs::DirEntry| {
        std::fs::read_link(entry.path().join("exe")).is_ok_and(|exe| exe == program)
    };
    processes.filter(runs).count()
}

fn wait(lab: &Lab, what: &str, seen: impl Fn(&Lab) -> bool) {
    lab.wait_for(what, PATIENCE, |lab| seen(lab).then_some(()))
        .unwrap_or_else(|error| panic!("{error}:\n{}", run(lab, "n1", &["event", "show"])));
}

/// The records of that code about the rule.
fn told(lab: &Lab, seq: u64, code: &str) -> Vec<Value> {
    let ours = |record: &Value| {
        record["code"] == code && record["message"].as_str().is_some_and(|it| it.contains(RULE))
    };
    look::records_after(lab, "n1", seq).into_iter().filter(ours).collect()
}

/// T9: while the script of one event hangs, a group is moved, taken off and brought back, and another event of the
/// site comes to its end; the one that hangs is aborted at once, and nothing that it started is left.
#[test]
fn t9_a_script_that_hangs_holds_up_nobody() {
    let lab = lab();
    let folder = lab.dir().join("hanging");
    std::fs::create_dir_all(&folder).expect("made");
    let (hangs, apart) = (folder.join("hangs"), folder.join("apart"));
    for program in [&hangs, &apart] {
        std::fs::copy("/bin/sleep", program).expect("sleep can be copied");
    }
    let at = folder.display();
    let monitor = script(
        &folder.join("monitor"),
        &format!("cat {at}/values.$VEDETTE_NODE 2> /dev/null; exit 0"),
    );
    let act = script(
        &folder.join("act"),
        &format!(
            "echo \"$VEDETTE_EVENT_ID\" >> {at}/begun\n[ -e {at}/hung ] && exit 0\ntouch {at}/hung\n\
             env -i setsid {at}/apart 100000 > /dev/null 2>&1 < /dev/null &\nexec {at}/hangs 100000"
        ),
    );
    std::fs::write(folder.join("hangs.rp"), format!("event \"{act}\" 0 NULL\n")).expect("written");
    let rules = folder.join("rules");
    let rule = format!("{RULE}\n0\n/site/hangs.rp\n2\n0\nsite.hangs\nNodeNum=*\nX>0\nX==0\n");
    std::fs::write(&rules, rule).expect("written");
    give(
        &lab,
        &format!(
            "[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n3\"]\n\n\
             [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [monitors.\"site.hangs\"]\ncommand = [\"{monitor}\"]\ninterval = \"1s\"\n",
            address(&lab, 0)
        ),
    );
    let owner = wait_online_on(&lab, "n1", "web", &["n1", "n3"]);
    let other = if owner == "n1" { "n3" } else { "n1" };
    let before = look::seq(&lab, "n1");
    let (rules, folder_of) = (rules.display().to_string(), folder.display().to_string());
    run(&lab, "n1", &["rules", "load", &rules, "--programs", &folder_of, "--yes"]);
    std::fs::write(folder.join("values.n2"), "Disk=a 1\n").expect("written");
    wait(&lab, "the script to hang", |_| (running(&hangs), running(&apart)) == (1, 1));

    run(&lab, "n1", &["group", "move", "web", "--to", other, "--yes"]);
    run(&lab, "n1", &["group", "offline", "web", "--yes"]);
    run(&lab, "n1", &["group", "online", "web"]);
    std::fs::write(folder.join("values.n2"), "Disk=a 1\nDisk=b 1\n").expect("written");
    wait(&lab, "another event to end", |lab| !told(lab, before, "EVENT_ENDED").is_empty());
    assert_eq!(told(&lab, before, "EVENT_ENDED")[0]["current"], "completed");
    assert_eq!((running(&hangs), running(&apart)), (1, 1), "it hangs as before");

    let begun = std::fs::read_to_string(folder.join("begun")).expect("events began");
    let event = begun.lines().next().expect("the first").to_owned();
    run(&lab, "n1", &["event", "abort", &event, "--yes"]);
    wait(&lab, "all of it to be ended", |_| (running(&hangs), running(&apart)) == (0, 0));
    wait(&lab, "its end in the history", |lab| told(lab, before, "EVENT_ENDED").len() == 2);
    let ended = told(&lab, before, "EVENT_ENDED").pop().expect("a record");
    assert_eq!((ended["event"].to_string(), &ended["current"]), (event, &Value::from("aborted")));

    // As it was before.
    std::fs::remove_file(folder.join("values.n2")).expect("removed");
    run(&lab, "n1", &["rules", "rollback", "0", "--yes"]);
    give(&lab, "");
}
