//! User-defined events: the `rwhod` example of chapter 11, with a daemon of the lab's own.
//!
//! The rules file of appendix A.2.3 is loaded as a whole, with IBM's names; only the recovery program's
//! scripts are ours. They write down who ran what, and the one that restarts the daemon asks for the
//! test file that says that the application is on, as in the book.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;
use vedette_tests::lab::{Lab, Victim};

use crate::{PATIENCE, lab, look, mib};

/// The rules file of the appendix.
const RULES: &str = include_str!("../../../cluster-core/testdata/rules/rules.hacmprd");

/// The rule that it adds to the predefined ones.
const RULE: &str = "UE_PGMRWHO_DOWN";

/// A place with rules, recovery program, scripts and the daemon.
struct Site {
    folder: PathBuf,
}

impl Site {
    fn make(lab: &Lab) -> Self {
        let site = Self { folder: lab.dir().join("rwho") };
        std::fs::create_dir_all(site.folder.join("programs")).expect("made");
        std::fs::copy("/bin/sleep", site.daemon()).expect("sleep can be copied");
        let at = site.folder.display();
        site.script(
            "rwho_msg_local",
            &format!("echo \"$LOCALNODENAME local $EVLOCATION\" >> {at}/log"),
        );
        site.script(
            "rwho_msg_remote",
            &format!("echo \"$LOCALNODENAME remote $EVLOCATION\" >> {at}/log"),
        );
        site.script("rwho_msg_complete", &format!("echo \"$LOCALNODENAME complete\" >> {at}/log"));
        site.script(
            "rwho_restart",
            &format!(
                "[ -f {at}/rwhod.on ] || exit 0\necho \"$LOCALNODENAME restart\" >> {at}/log\n\
                 env -i setsid {at}/rwhod 100000 > /dev/null 2>&1 < /dev/null &"
            ),
        );
        let program = format!(
            "other \"{at}/rwho_msg_remote\" 0 NULL\nevent \"{at}/rwho_msg_local\" 0 NULL\nbarrier\n\
             event \"{at}/rwho_restart\" 0 NULL\nbarrier\nall \"{at}/rwho_msg_complete\" X NULL\n"
        );
        std::fs::write(site.folder.join("programs/rwho.rp"), program).expect("written");
        site
    }

    fn daemon(&self) -> PathBuf {
        self.folder.join("rwhod")
    }

    fn script(&self, name: &str, body: &str) {
        let file = self.folder.join(name);
        std::fs::write(&file, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&file, PermissionsExt::from_mode(0o755)).expect("made executable");
    }

    /// Starts the daemon on a node, apart from everybody.
    fn start(&self, lab: &Lab, node: &str) {
        let mut command = Command::new("setsid");
        command.arg("--fork").arg(self.daemon()).arg("100000").stdin(Stdio::null());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let started = lab.spawn(node, command).and_then(|mut child: Child| Ok(child.wait()?));
        assert!(started.expect("started").success());
    }

    /// Loads rules on a node.
    fn load(&self, lab: &Lab, node: &str, rules: &str) -> Output {
        let file = self.folder.join("rules");
        std::fs::write(&file, rules).expect("written");
        let (file, programs) = (file.display().to_string(), self.folder.join("programs"));
        let programs = programs.display().to_string();
        let arguments = ["rules", "load", &file, "--programs", &programs, "--yes"];
        lab.vedette(node, &arguments).expect("run")
    }

    /// What the scripts wrote down, sorted: within a phase nobody is first.
    fn log(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join("log")).unwrap_or_default();
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    }
}

fn monitors(lab: &Lab, asked: &str) -> Option<Value> {
    Some(look::get(lab, asked, "/api/v1/monitors")?.json())
}

/// Waits until a node sees that many of the daemon, and says their process ids.
fn wait_count(lab: &Lab, node: &str, count: &str) {
    lab.wait_for(&format!("{node} to count {count} rwhod"), PATIENCE, |lab| {
        let seen = monitors(lab, node)?;
        let values = seen["monitors"].as_array()?.iter().find(|one| one["name"] == "programs")?;
        let value = values["values"].as_array()?.iter().find(|one| {
            one["instance"].as_str().is_some_and(|text| text.contains("ProgName=rwhod"))
        })?;
        value["value"].as_str()?.starts_with(&format!("{count},")).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", monitors(lab, node)));
}

/// Kills the daemon on a node, as `pkill` there would.
fn kill(lab: &Lab, node: &str, daemon: &Path) {
    let holder =
        std::fs::read_link(format!("/proc/{}/ns/pid", guard(lab, node))).expect("a namespace");
    let mut killed = 0;
    for entry in std::fs::read_dir("/proc").expect("/proc").flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<i32>() else { continue };
        let exe = std::fs::read_link(entry.path().join("exe")).ok();
        let space = std::fs::read_link(entry.path().join("ns/pid")).ok();
        if exe.as_deref() == Some(daemon) && space.as_ref() == Some(&holder) {
            let pid = nix::unistd::Pid::from_raw(pid);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).expect("killed");
            killed += 1;
        }
    }
    assert_eq!(killed, 1, "one rwhod on {node}");
}

fn guard(lab: &Lab, node: &str) -> u32 {
    let file = lab.refresh().expect("lab.json");
    let node = file.nodes.iter().find(|one| one.name == node).expect("a node");
    node.guard_pid.expect("its guard runs")
}

/// Records of that code about the rule after `seq`, once nothing is in progress.
fn told(lab: &Lab, seq: u64, code: &str) -> Vec<Value> {
    let records = look::records_after(lab, "n1", seq).into_iter();
    let ours = |record: &Value| {
        record["code"] == code && record["message"].as_str().is_some_and(|text| text.contains(RULE))
    };
    records.filter(ours).collect()
}

/// Waits until that many events of the rule ended, and answers how.
fn wait_ended(lab: &Lab, seq: u64, count: usize) -> Vec<Value> {
    lab.wait_for(&format!("{count} events of the rule to end"), PATIENCE, |lab| {
        let ended = told(lab, seq, "EVENT_ENDED");
        (ended.len() >= count).then_some(ended)
    })
    .unwrap_or_else(|error| {
        panic!("{error}: {:#?}\n{:#?}", look::records_after(lab, "n1", seq), monitors(lab, "n2"))
    })
}

/// Whether a list is one, and has nothing in it.
fn is_empty(list: &Value) -> bool {
    list.as_array().is_some_and(Vec::is_empty)
}

/// H29, H39: a rule whose variable nobody yields makes every node say so, on the API and by SNMP, and
/// is notified; it is over with the rule.
fn a_rule_that_nobody_can_watch_is_told(lab: &Lab, site: &Site) {
    let orphan =
        "UE_NOBODY\n0\n/usr/sbin/cluster/local/rwho.rp\n2\n0\nsite.nobody\nNodeNum=*\nX>1\n\n";
    let loaded = site.load(lab, "n3", &format!("{RULES}\n{orphan}"));
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    for node in ["n1", "n2", "n3"] {
        mib::tells_what_is_watched(lab, node, |told| {
            let blind = told["blind"].as_array().map_or(&[][..], Vec::as_slice);
            blind.len() == 3 && blind.iter().all(|one| one["what"] == "rule UE_NOBODY")
        });
    }
    notified(lab, "rule UE_NOBODY cannot be watched on n2");
    let loaded = site.load(lab, "n3", RULES);
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    notified(lab, "rule UE_NOBODY is watched on n2 again");
    mib::tells_what_is_watched(lab, "n1", |told| is_empty(&told["blind"]));
}

/// Waits until a notification with that sentence was received.
fn notified(lab: &Lab, message: &str) {
    lab.wait_for("a notification with the message", PATIENCE, |lab| {
        look::traps(lab).contains(message).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {message}\n{}", look::traps(lab)));
}

/// H29 to H33, H39, H16: rules are loaded into the running cluster; the daemon dies on a node, and the
/// recovery program runs on the right nodes, once; the daemon is back and the rule armed; so it is
/// for the next death, be the agent killed in between.
#[test]
fn h29_to_h33_a_daemon_that_dies_is_an_event() {
    let lab = lab();
    let site = Site::make(&lab);
    let before = look::seq(&lab, "n1");
    for node in ["n1", "n2", "n3"] {
        site.start(&lab, node);
    }
    let loaded = site.load(&lab, "n1", RULES);
    assert!(loaded.status.success(), "{}", String::from_utf8_lossy(&loaded.stderr));
    for node in ["n1", "n2", "n3"] {
        wait_count(&lab, node, "1");
    }

    // The application is on: it is restarted, which arms the rule.
    std::fs::write(site.folder.join("rwhod.on"), "").expect("written");
    kill(&lab, "n2", &site.daemon());
    let ended = wait_ended(&lab, before, 1);
    assert_eq!(ended[0]["current"], "completed", "{ended:#?}");
    let first = [
        "n1 complete",
        "n1 remote n2",
        "n2 complete",
        "n2 local n2",
        "n2 restart",
        "n3 complete",
        "n3 remote n2",
    ];
    assert_eq!(site.log(), first);
    lab.wait_for("the rule to be armed", PATIENCE, |lab| {
        (told(lab, before, "RULE_REARMED").len() == 1).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", monitors(&lab, "n2")));
    wait_count(&lab, "n2", "1");
    notified(&lab, &format!("{RULE} n2 has fired"));
    notified(&lab, &format!("{RULE} n2 is armed again"));
    for node in ["n1", "n2", "n3"] {
        mib::tells_what_is_watched(&lab, node, |told| is_empty(&told["fired"]));
    }
    refuse_a_type_error(&lab, &site);
    a_rule_that_nobody_can_watch_is_told(&lab, &site);

    // The application is off: nobody restarts it, and it is one event however long it is away.
    std::fs::remove_file(site.folder.join("rwhod.on")).expect("removed");
    lab.kill("n2", Victim::Agent).expect("killed");
    kill(&lab, "n2", &site.daemon());
    let ended = wait_ended(&lab, before, 2);
    assert_eq!(ended[1]["current"], "completed", "{ended:#?}");
    wait_count(&lab, "n2", "0");
    lab.kill("n2", Victim::Agent).expect("killed");
    lab.wait_for("n2 to watch again", PATIENCE, |lab| {
        let agent = look::node_field(lab, "n1", "n2", "agent_status");
        (agent == "RUNNING" && monitors(lab, "n2")?["fired"].as_array()?.len() == 1).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", monitors(&lab, "n2")));
    wait_count(&lab, "n2", "0");
    for node in ["n1", "n2", "n3"] {
        mib::tells_what_is_watched(&lab, node, |told| {
            let fired = told["fired"].as_array().map_or(&[][..], Vec::as_slice);
            fired.len() == 1 && fired[0]["rule"] == RULE && fired[0]["node"] == "n2"
        });
    }
    site.start(&lab, "n2");
    lab.wait_for("the rule to be armed again", PATIENCE, |lab| {
        (told(lab, before, "RULE_REARMED").len() == 2).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}: {:#?}", monitors(&lab, "n2")));
    assert_eq!(told(&lab, before, "EVENT_QUEUED").len(), 2, "one event for each death");
    assert_eq!(told(&lab, before, "RULE_FIRED").len(), 2, "and a record that the rule fired");
    let restarts = site.log().iter().filter(|line| line.ends_with("restart")).count();
    assert_eq!((site.log().len(), restarts), (2 * first.len() - 1, 1), "{:#?}", site.log());

    // Other rules: what is no longer asked for is no longer looked at.
    let back = lab.vedette("n3", &["rules", "rollback", "0", "--yes"]).expect("run");
    assert!(back.status.success(), "{}", String::from_utf8_lossy(&back.stderr));
    for node in ["n1", "n2", "n3"] {
        lab.wait_for("nothing to be watched", PATIENCE, |lab| {
            monitors(lab, node)?["monitors"].as_array()?.is_empty().then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}: {:#?}", monitors(&lab, node)));
        kill(&lab, node, &site.daemon());
    }
    for node in ["n1", "n2", "n3"] {
        mib::tells_what_is_watched(&lab, node, |told| {
            ["monitors", "rules", "fired", "blind"].iter().all(|part| is_empty(&told[*part]))
        });
    }
    assert_eq!(told(&lab, before, "EVENT_QUEUED").len(), 2, "without a rule there is no event");
}

/// H31: a predicate with a type error is refused with its place, and the rules in force stay.
fn refuse_a_type_error(lab: &Lab, site: &Site) {
    let rules = |lab: &Lab| lab.json("n2", &["rules", "history", "-o", "json"]).expect("history");
    let before = rules(lab);
    let wrong = RULES.replace("X@0==0&&X@1!=0", "X@0==\"none\"+1");
    let refused = site.load(lab, "n2", &wrong);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success(), "{said}");
    assert!(said.contains("column 6") && said.contains(RULE), "{said}");
    assert_eq!(rules(lab), before);
}
