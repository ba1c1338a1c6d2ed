//! What hangs keeps no node from being a member, or from leaving (R7).

use std::path::PathBuf;

use vedette_tests::lab::{Lab, Victim};

use super::{app, end, running, sleepers, wait};
use crate::failover::{give, group, wait_online};
use crate::transcripts::{run, script};
use crate::{lab, look};

/// Groups slow, whose start or stop program hangs on a node of which there is a file, and web, which does what it shall.
struct Case {
    folder: PathBuf,
    hangs: PathBuf,
    text: String,
}

impl Case {
    /// Both are at home on n3, and then on n2; they go back home if `fallback`.
    fn given(lab: &Lab, name: &str, fallback: bool) -> Self {
        let folder = lab.dir().join(name);
        let [_, hangs] = sleepers(&folder, ["service", "hangs"]);
        let at = folder.display();
        let hang = |what: &str| format!("[ -e {at}/{what}.$VEDETTE_NODE ] && {at}/hangs 100000\n");
        let serve = format!("setsid {at}/service 100000 &");
        let start = script(&folder.join("start"), &(hang("start") + &serve));
        let stop = script(&folder.join("stop"), &(hang("stop") + "exit 0"));
        let well = script(&folder.join("well"), &serve);
        let off = script(&folder.join("off"), "exit 0");
        let home = "\"n3\", \"n2\"";
        let text = app("slow", home, &start, &stop) + &app("web", home, &well, &off);
        let text = text.replace("fallback = false", &format!("fallback = {fallback}"));
        give(lab, &text);
        wait_online(lab, "n1", "slow", "n3");
        wait_online(lab, "n1", "web", "n3");
        Self { folder, hangs, text }
    }

    fn hang(&self, what: &str, node: &str) {
        std::fs::write(self.folder.join(format!("{what}.{node}")), "").expect("written");
    }

    fn heal(&self, what: &str, node: &str) {
        std::fs::remove_file(self.folder.join(format!("{what}.{node}"))).expect("removed");
        end(&self.hangs);
    }

    /// Waits until web is in service there, whatever is in progress.
    fn wait_web(&self, lab: &Lab, node: &str) {
        let is_on = |lab: &Lab| {
            group(lab, "n1", "web").is_some_and(|(on, state)| on == [node] && state == "ONLINE")
        };
        wait(lab, "web to be in service", is_on);
        assert_eq!(running(&self.hangs), 1, "the other one hangs as before");
    }

    fn wait_hang(&self, lab: &Lab) {
        wait(lab, "the program to hang", |_| running(&self.hangs) == 1);
    }
}

/// A node dies, and what it had does not start on the other one for as long as it may. The node is back meanwhile, and
/// takes part: it can be given the groups that are free.
#[test]
fn r7_who_is_back_takes_part_though_what_it_had_hangs_elsewhere() {
    let lab = lab();
    let case = Case::given(&lab, "back", false);
    case.hang("start", "n2");
    lab.kill("n3", Victim::Power).expect("power off");
    case.wait_hang(&lab);
    case.wait_web(&lab, "n2");
    lab.restart("n3").expect("power on");
    wait(&lab, "n3 to be a member", |lab| {
        let moved = lab.vedette("n1", &["group", "move", "web", "--to", "n3", "--yes"]);
        moved.expect("run").status.success()
    });
    case.wait_web(&lab, "n3");
    case.heal("start", "n2");
    crate::wait_healthy(&lab);
    give(&lab, "");
}

/// A manager is stopped, and one of its groups does not stop; it is started again meanwhile, and takes part. Its groups
/// come home, and it can be stopped again when that is over.
#[test]
fn r7_who_is_started_again_while_its_stop_hangs_takes_part() {
    let lab = lab();
    let case = Case::given(&lab, "again", true);
    case.hang("stop", "n3");
    run(&lab, "n1", &["stop", "--node", "n3", "--yes", "--no-wait"]);
    case.wait_hang(&lab);
    case.wait_web(&lab, "n2");
    run(&lab, "n1", &["start", "--node", "n3"]);
    case.wait_web(&lab, "n3");
    case.heal("stop", "n3");
    run(&lab, "n1", &["stop", "--node", "n3", "--yes"]);
    wait_online(&lab, "n1", "web", "n2");
    wait_online(&lab, "n1", "slow", "n2");
    run(&lab, "n1", &["start", "--node", "n3"]);
    crate::wait_healthy(&lab);
    give(&lab, "");
}

/// A node is stopped while it joins, and a start program hangs there: that is given up at once, and all of its groups are
/// served elsewhere when the order is carried out.
#[test]
fn r7_a_stop_waits_for_no_start_that_hangs() {
    let lab = lab();
    let case = Case::given(&lab, "leaves", true);
    run(&lab, "n1", &["stop", "--node", "n3", "--yes"]);
    case.hang("start", "n3");
    run(&lab, "n1", &["start", "--node", "n3", "--no-wait"]);
    case.wait_hang(&lab);
    run(&lab, "n1", &["stop", "--node", "n3", "--yes", "--timeout", "30s"]);
    assert_eq!(running(&case.hangs), 0, "it was ended");
    wait_online(&lab, "n1", "web", "n2");
    wait_online(&lab, "n1", "slow", "n2");
    case.heal("start", "n3");
    run(&lab, "n1", &["start", "--node", "n3"]);
    crate::wait_healthy(&lab);
    give(&lab, "");
}

/// The token under which n3 has a group; another one after each acquisition.
fn token(lab: &Lab, name: &str) -> Option<String> {
    let group = look::get(lab, "n1", &format!("/api/v1/groups/{name}"))?.json();
    let on_n3 = |it: &&serde_json::Value| it["node"] == "n3" && it["state"] == "ONLINE";
    let instance = group["instances"].as_array()?.iter().find(on_n3)?;
    Some(instance["token"].to_string())
}

/// A configuration changes two groups, and one of them does not start: the other one is changed at once, and this one when
/// that is over.
#[test]
fn r7_a_change_waits_for_no_group_that_hangs() {
    let lab = lab();
    let case = Case::given(&lab, "changed", false);
    case.hang("start", "n2");
    run(&lab, "n1", &["group", "move", "slow", "--to", "n2", "--yes", "--no-wait"]);
    case.wait_hang(&lab);
    let before = token(&lab, "web").expect("n3 has it");
    give(
        &lab,
        &case
            .text
            .replace("/off\"]", "/off\", \"again\"]")
            .replace("/stop\"]", "/stop\", \"again\"]"),
    );
    wait(&lab, "web to be acquired anew", |lab| token(lab, "web").is_some_and(|it| it != before));
    assert_eq!(running(&case.hangs), 1, "the other one hangs as before");
    let waits = || {
        look::get(&lab, "n1", "/api/v1/groups/slow").expect("it").json()["waits_for"].to_string()
    };
    assert!(waits().contains("to be as it is configured now"), "{}", waits());
    case.heal("start", "n2");
    wait_online(&lab, "n1", "slow", "n2");
    wait(&lab, "slow to be changed, too", |_| waits() == "null");
    wait_online(&lab, "n1", "slow", "n2");
    give(&lab, "");
}
