//! What stands around the scripts of an event, and scripts that do not do what they should (spec H18 to
//! H20, H46): hooks in their order, the environment, time limits, and what an operator does then.
//!
//! Groups are moved here with a recovery program of the site's own, whose first phase runs a script on
//! every node. Each program writes down that it ran, into a file of its node.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Output;

use serde_json::Value;
use vedette_tests::lab::Lab;

use crate::failover::{address, give, group, wait_online_on};
use crate::{PATIENCE, lab, look};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// A place with the site's programs and what they wrote down; a group `web` that may be on n1 and n2.
struct Site<'l> {
    lab: &'l Lab,
    folder: PathBuf,
}

impl<'l> Site<'l> {
    /// Loads the recovery program, and a document with `settings`.
    fn make(lab: &'l Lab, name: &str, settings: &str) -> Self {
        let site = Self { lab, folder: lab.dir().join(name) };
        std::fs::create_dir_all(site.folder.join("programs")).expect("made");
        let at = site.folder.display();
        let program = format!(
            "all \"{at}/work one\" 0 NULL\nbarrier\nall \"group_release\" 0 NULL\nbarrier\n\
             all \"group_acquire\" 0 NULL\n"
        );
        std::fs::write(site.folder.join("programs/move.rp"), program).expect("written");
        let rules = site.folder.join("rules");
        std::fs::write(&rules, "TE_GROUP_MOVE\n0\n/site/move.rp\n2\n0\n\n\n\n\n").expect("written");
        site.script("work", "exit 0");
        site.script(
            "note",
            &format!(
                "echo \"$EVNAME $VEDETTE_EVENT_PHASE $1 $VEDETTE_EVENT_STATUS\" >> {at}/log.$LOCALNODENAME"
            ),
        );
        let (rules, programs) = (rules.display().to_string(), format!("{at}/programs"));
        site.run(&["rules", "load", &rules, "--programs", &programs, "--yes"]);
        give(
            lab,
            &format!(
                "{settings}\n[groups.web]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\"]\n\n\
                 [[groups.web.resources]]\nname = \"web-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
                address(lab, 0)
            ),
        );
        site
    }

    fn script(&self, name: &str, body: &str) {
        // A new file: the old one may be running.
        let (file, new) = (self.folder.join(name), self.folder.join("new"));
        std::fs::write(&new, format!("#!/bin/sh\n{body}\n")).expect("written");
        std::fs::set_permissions(&new, PermissionsExt::from_mode(0o755)).expect("made executable");
        std::fs::rename(new, file).expect("put in its place");
    }

    /// A command that must succeed.
    fn run(&self, arguments: &[&str]) -> Output {
        let output = self.lab.vedette("n1", arguments).expect("run");
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        output
    }

    /// What ran around the script on a node, in order.
    fn log(&self, node: &str) -> Vec<String> {
        let text = std::fs::read_to_string(self.folder.join(format!("log.{node}")));
        text.unwrap_or_default().lines().map(|line| line.trim_end().to_owned()).collect()
    }

    /// Moves the group; answers where the history ended, and where the group was.
    fn order_move(&self) -> (u64, String) {
        let owner = wait_online_on(self.lab, "n1", "web", &["n1", "n2"]);
        let before = look::seq(self.lab, "n1");
        self.run(&["group", "move", "web", "--yes", "--no-wait"]);
        (before, owner)
    }

    /// Waits until that many commands of the event failed, and answers what is on record of the last.
    fn wait_failed(&self, before: u64, count: usize) -> Value {
        let failures = |lab: &Lab| {
            let records = look::records_after(lab, "n1", before).into_iter();
            let failed: Vec<Value> =
                records.filter(|record| record["code"] == "EVENT_FAILED").collect();
            (failed.len() >= count).then(|| failed[count - 1].clone())
        };
        self.lab
            .wait_for(&format!("failure {count} of the event"), PATIENCE, failures)
            .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(self.lab, "n1")))
    }

    /// Waits until the group is on the other node than `owner` and the event has ended `how`.
    fn wait_moved(&self, before: u64, owner: &str, how: &str) {
        let other = if owner == "n1" { "n2" } else { "n1" };
        wait_online_on(self.lab, "n1", "web", &[other]);
        let records = look::records_after(self.lab, "n1", before);
        let ended = records.iter().find(|record| record["code"] == "EVENT_ENDED");
        assert_eq!(ended.expect("it has ended")["current"], how, "{ended:#?}");
    }

    /// Nothing of it is left in the cluster.
    fn leave(self) {
        give(self.lab, "");
        self.run(&["rules", "rollback", "0", "--yes"]);
    }
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What a process was given, from what `env` printed.
fn environment(site: &Site<'_>, node: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(site.folder.join(format!("env.{node}"))).expect("written");
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// H19, H20, H46: around each script notify, pre, the script, after a failure the recovery command and
/// another try, post, and notify with the outcome; each with the environment of the contract, and what
/// is printed is kept with the event.
#[test]
fn h19_h20_h46_programs_around_a_script_run_in_their_order() {
    let lab = lab();
    let at = lab.dir().join("around");
    let note = |part: &str| format!("[\"{}/note\", \"{part}\"]", at.display());
    let hooks = format!(
        "[events.group_move]\nnotify = {}\npre = {}\nrecovery = {}\nretries = 2\npost = {}\n",
        note("notify"),
        note("pre"),
        note("recovery"),
        note("post")
    );
    let site = Site::make(&lab, "around", &hooks);
    let at = at.display();
    // It fails on n2 until it was mended twice.
    site.script(
        "work",
        &format!(
            "env > {at}/env.$LOCALNODENAME\n{at}/note script\necho \"$1 done on $LOCALNODENAME\"\n\
             [ $LOCALNODENAME != n2 ] || [ $(grep -c recovery {at}/log.n2) -ge 2 ] || exit 5"
        ),
    );
    let (before, owner) = site.order_move();
    site.wait_moved(before, &owner, "completed");

    let first = |node: &str| -> Vec<String> {
        let log = site.log(node).into_iter();
        log.filter_map(|line| Some(line.strip_prefix("group_move 1 ")?.to_owned())).collect()
    };
    let plain = ["notify start", "pre start", "script", "post 0", "notify 0"];
    assert_eq!(
        (first("n1"), first("n3")),
        (plain.map(String::from).into(), plain.map(String::from).into())
    );
    assert_eq!(
        first("n2"),
        [
            "notify start",
            "pre start",
            "script",
            "recovery 5",
            "script",
            "recovery 5",
            "script",
            "post 0",
            "notify 0"
        ]
    );
    for phase in ["2", "3"] {
        let of_phase = format!("group_move {phase} ");
        let lines: Vec<String> =
            site.log("n3").into_iter().filter(|line| line.starts_with(&of_phase)).collect();
        let wanted = ["notify start", "pre start", "post 0", "notify 0"];
        assert_eq!(
            lines,
            wanted.map(|line| of_phase.clone() + line),
            "around our own scripts, too"
        );
    }

    let environments: BTreeMap<&str, _> =
        NODES.into_iter().map(|node| (node, environment(&site, node))).collect();
    for (node, variables) in &environments {
        let value = |name: &str| variables.get(name).map_or("(none)", String::as_str);
        for (name, wanted) in [
            ("EVNAME", "group_move"),
            ("EVLOCATION", "all"),
            ("LOCALNODENAME", node),
            ("VERBOSE_LOGGING", "low"),
            ("VEDETTE_CLUSTER", "lab"),
            ("VEDETTE_GROUP", "web"),
            ("VEDETTE_EVENT_PHASE", "1"),
            ("VEDETTE_PARTICIPANTS", "n1 n2 n3"),
            ("VEDETTE_RELEASE", if *node == owner { "web" } else { "" }),
            ("VEDETTE_ACQUIRE", if *node == owner || *node == "n3" { "" } else { "web" }),
        ] {
            assert_eq!(value(name), wanted, "{name} on {node}");
        }
        assert!(
            value("TIMESTAMP").ends_with('Z') && value("VEDETTE_EVENT_CAUSE").contains("operator")
        );
        assert_eq!(value("VEDETTE_EVENT_ID"), environments["n1"]["VEDETTE_EVENT_ID"]);
        assert_eq!(value("VEDETTE_INCIDENT"), environments["n1"]["VEDETTE_INCIDENT"]);
        let (trace, first) = (value("TRACEPARENT"), &environments["n1"]["TRACEPARENT"]);
        assert!(trace.len() == 55 && trace[..36] == first[..36], "one trace: {trace} and {first}");
        assert!(*node == "n1" || trace != first, "a span for each command: {trace}");
    }
    let records = look::records_after(&lab, "n1", before);
    let of_n2 = records.iter().find(|record| {
        record["code"] == "EVENT_COMMAND"
            && record["message"].as_str().is_some_and(|text| text.contains("/work one on n2"))
    });
    let of_n2 = of_n2.unwrap_or_else(|| panic!("{records:#?}"));
    assert!(
        of_n2["message"].as_str().expect("text").ends_with("exit status 0, run 3 times"),
        "{of_n2:#}"
    );
    assert!(of_n2["cause"].as_str().expect("text").contains("one done on n2"), "{of_n2:#}");
    site.leave();
}

/// How many processes sleep for `mark` seconds.
fn sleepers(mark: &str) -> usize {
    let wanted = format!("sleep\0{mark}\0");
    let processes = std::fs::read_dir("/proc").expect("/proc").flatten();
    let line = |path: PathBuf| std::fs::read(path.join("cmdline")).unwrap_or_default();
    processes.filter(|process| line(process.path()) == wanted.as_bytes()).count()
}

/// H18, H19: an event that runs too long raises an alert of its own; a command that exceeds its time is
/// ended with everything that it started, and the event waits in ERROR, with an alert, while groups go
/// on. `recover retry` runs it again, `recover skip` goes on without it.
#[test]
fn h18_h19_a_command_that_hangs_is_ended_and_an_operator_goes_on() {
    let lab = lab();
    let limits = "[manager]\ncommand_timeout = \"4s\"\ntoo_long = \"1s\"\n";
    let site = Site::make(&lab, "hangs", limits);
    let mark = format!("87{}", std::process::id());
    let hangs = format!("[ $LOCALNODENAME = n3 ] || exit 0\nsleep {mark} &\nsleep {mark}");
    site.script("work", &hangs);
    let (before, owner) = site.order_move();
    lab.wait_for("the script to hang", PATIENCE, |_| (sleepers(&mark) == 2).then_some(()))
        .unwrap_or_else(|error| panic!("{error}"));
    let failed = site.wait_failed(before, 1);
    let told = failed["message"].as_str().expect("a message");
    assert!(
        told.contains("failed on n3") && told.contains("ended after it ran too long"),
        "{told}"
    );
    assert!(told.contains("vedette recover retry, skip or abort"), "{told}");
    assert_eq!(sleepers(&mark), 0, "it was ended with all that it had started");
    let records = look::records_after(&lab, "n1", before);
    let long = records.iter().find(|record| record["code"] == "EVENT_TOO_LONG");
    let long = long.unwrap_or_else(|| panic!("{records:#?}"));
    assert!(long["seq"].as_u64() < failed["seq"].as_u64(), "first the warning: {long:#}");
    assert!(
        long["cause"]
            .as_str()
            .is_some_and(|text| text.starts_with("waiting for") && text.contains("n3"))
    );
    for alert in [long, &failed] {
        let mention = format!("record {}:", alert["seq"]);
        lab.wait_for("the alert script's outcome", PATIENCE, |lab| {
            let records = look::records_after(lab, "n1", before).into_iter();
            let mut delivered = records.filter(|record| record["code"] == "ALERT_DELIVERED");
            delivered
                .any(|it| it["message"].as_str().is_some_and(|text| text.contains(&mention)))
                .then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, "n1")));
    }
    let clusters = look::get(&lab, "n2", "/api/v1/clusters").expect("answered").json();
    assert!(clusters.to_string().contains("\"error\""), "{clusters:#}");
    assert_eq!(group(&lab, "n2", "web").expect("known"), (vec![owner.clone()], "ONLINE".into()));

    // The cause is not removed, then it is.
    site.run(&["recover", "retry"]);
    site.wait_failed(before, 2);
    site.script("work", "exit 0");
    site.run(&["recover", "retry"]);
    site.wait_moved(before, &owner, "completed");

    site.script("work", "[ $LOCALNODENAME != n3 ] || exit 7");
    let (before, owner) = site.order_move();
    site.wait_failed(before, 1);
    site.run(&["recover", "skip", "--yes"]);
    site.wait_moved(before, &owner, "completed after skip");
    site.leave();
}

/// H18: a script that is not executable, missing, killed, without an end to its output, or kept from
/// running by the program before it: each is said with what, why and what to do. One that was aborted
/// leaves the group where it is, and what has ended cannot be retried.
#[test]
fn h18_a_script_that_cannot_do_its_work_says_why() {
    let lab = lab();
    let site = Site::make(&lab, "bad", "");
    let work = site.folder.join("work");
    std::fs::set_permissions(&work, PermissionsExt::from_mode(0o644)).expect("set");
    let (before, owner) = site.order_move();
    // Each node fails, so a round has three failures.
    let mut round = 0;
    let mut expect = |words: [&str; 2]| {
        round += 1;
        site.wait_failed(before, 3 * round);
        let records = look::records_after(&lab, "n1", before).into_iter();
        let failures: Vec<Value> = records
            .filter(|record| record["code"] == "EVENT_FAILED")
            .skip(3 * (round - 1))
            .collect();
        for failed in &failures {
            for word in words {
                assert!(failed.to_string().contains(word), "{word:?} is not said: {failed:#}");
            }
        }
        let shown = lab.vedette("n1", &["recover", "show"]).expect("run");
        assert_eq!(shown.status.code(), Some(2), "{}", said(&shown));
        let screen = said(&shown);
        assert!(screen.contains("vedette recover retry --event"), "{screen}");
        screen
    };
    let screen = expect(["work is not executable", "chmod +x"]);
    assert!(screen.contains("work is not executable"), "{screen}");
    std::fs::remove_file(&work).expect("removed");
    site.run(&["recover", "retry"]);
    expect(["work does not exist on this node", "Put it there on every node"]);
    site.script("work", "echo about to die; kill -9 $$");
    site.run(&["recover", "retry"]);
    expect(["killed by signal 9", "about to die"]);
    site.script("work", "yes flood | head -c 20000000; exit 3");
    site.run(&["recover", "retry"]);
    let screen = expect(["exit status 3", "flood / flood"]);
    assert!(screen.contains("more bytes do not stand here") && screen.len() < 100_000, "{screen}");
    assert_eq!(group(&lab, "n2", "web").expect("known"), (vec![owner.clone()], "ONLINE".into()));

    let manager = look::get(&lab, "n1", "/api/v1/manager").expect("answered").json();
    let event = manager["in_progress"]["id"].to_string();
    site.run(&["recover", "abort", "--yes"]);
    assert_eq!(wait_online_on(&lab, "n1", "web", &["n1", "n2"]), owner, "it stays where it is");
    for arguments in [
        &["recover", "retry", "--event", &event][..],
        &["recover", "skip", "--event", &event, "--yes"],
    ] {
        let late = lab.vedette("n1", arguments).expect("run");
        assert_eq!(late.status.code(), Some(1), "{}", said(&late));
        let text = said(&late);
        assert!(
            text.contains("has ended (aborted) at") && text.contains("vedette event show"),
            "{text}"
        );
    }

    // A program before it keeps it from running.
    let pre = "[events.group_move]\npre = [\"/bin/false\"]\n";
    let site = Site::make(&lab, "bad", pre);
    let (before, owner) = site.order_move();
    let failed = site.wait_failed(before, 3);
    assert!(
        failed.to_string().contains("was not run; its pre program: exit status 1"),
        "{failed:#}"
    );
    site.run(&["recover", "abort", "--yes"]);
    assert_eq!(wait_online_on(&lab, "n1", "web", &["n1", "n2"]), owner);
    site.leave();
}
