//! Services that live outside every control group, as what systemd or a container engine runs: nothing but
//! their own stop program ends them. One is a file of its node: it runs while that is there.

use std::path::PathBuf;

use serde_json::Value;
use vedette_tests::lab::{Direction, Lab, Prober, Victim};

use super::{
    PATIENCE, address, give, group, look, retry, wait_answer, wait_online, wait_online_on,
};
use crate::lab;

mod besides;

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// The service of the group `svc`, wherever it runs.
struct Service<'a>(&'a Lab);

impl<'a> Service<'a> {
    /// Puts it in force with a stop program of its own; `ends` is what that does.
    fn configured(lab: &'a Lab, ends: &str) -> Self {
        Self::released(lab, ends, "")
    }

    /// The same with more lines, such as what its guard runs.
    fn released(lab: &'a Lab, ends: &str, more: &str) -> Self {
        Self::started(lab, ("true", ends), more)
    }

    /// The same with a start program that does that last.
    fn started(lab: &'a Lab, (begins, ends): (&str, &str), more: &str) -> Self {
        let service = Self(lab);
        let at = lab.dir().join("svc.").display().to_string();
        let program = |what: &str| format!("[\"/bin/sh\", \"-c\", \"{what}\"]");
        give(
            lab,
            &format!(
                "[manager]\nprobe_interval = \"1s\"\ntrust_guard = true\n\n\
                 [groups.svc]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
                 [[groups.svc.resources]]\nname = \"svc-app\"\nkind = \"application\"\n\
                 start = {}\nstop = {}\nmonitor = {}\nmonitor_interval = \"1s\"\nstop_timeout = \"2s\"\n{more}",
                program(&format!("touch {at}$VEDETTE_NODE; {begins}")),
                program(ends),
                program(&format!("test -e {at}$VEDETTE_NODE")),
            ),
        );
        service
    }

    fn file(&self, node: &str) -> PathBuf {
        self.0.dir().join(format!("svc.{node}"))
    }

    /// Where it is alive.
    fn alive(&self) -> Vec<&'static str> {
        NODES.into_iter().filter(|node| self.file(node).exists()).collect()
    }

    fn wait_alive_on(&self, nodes: &[&str]) {
        let what = format!("the service to be alive on {nodes:?} alone");
        let waited = self.0.wait_for(&what, PATIENCE, |_| (self.alive() == nodes).then_some(()));
        waited.unwrap_or_else(|error| panic!("{error}: it is on {:?}", self.alive()));
    }
}

/// Nothing of it is left for the tests that follow.
impl Drop for Service<'_> {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(unwilling(self.0));
        for node in NODES {
            let _ = std::fs::remove_file(self.file(node));
        }
        give(self.0, "");
    }
}

/// What a stop program does that stops it.
fn stops(lab: &Lab) -> String {
    format!("rm -f {}$VEDETTE_NODE", lab.dir().join("svc.").display())
}

/// While this file is there, what [`does_not_stop`] fails.
fn unwilling(lab: &Lab) -> PathBuf {
    lab.dir().join("svc-is-unwilling")
}

/// What a stop program does that fails for the length of a test, and stops nothing.
fn does_not_stop(lab: &Lab) -> String {
    std::fs::write(unwilling(lab), "").expect("written");
    format!("test -e {} && exit 1; {}", unwilling(lab).display(), stops(lab))
}

/// Messages of the history with that code, the last first.
fn told(lab: &Lab, asked: &str, code: &str) -> Vec<String> {
    let events = lab.json(asked, &["event", "list", "--code", code, "-o", "json"]);
    let events = events.unwrap_or_else(|error| panic!("{error}"));
    let message = |event: &Value| event["message"].as_str().map(str::to_owned);
    events.as_array().into_iter().flatten().filter_map(message).collect()
}

/// Findings R1: a stop that fails, of a service that still runs: the group stays where it is, and no other
/// node starts it.
#[test]
fn a_service_that_does_not_stop_is_not_started_elsewhere() {
    let lab = lab();
    let service = Service::configured(&lab, &does_not_stop(&lab));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let to = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.vedette("n1", &["group", "move", "svc", "--to", to, "--yes", "--no-wait"]).expect("run");
    let blocked = lab.wait_for("the group to need an operator", PATIENCE, |lab| {
        let (nodes, state) = group(lab, "n1", "svc")?;
        (state == "ERROR" && nodes == [owner.clone()]).then_some(())
    });
    blocked.unwrap_or_else(|error| panic!("{error}: {:?}", group(&lab, "n1", "svc")));
    assert_eq!(service.alive(), [owner.as_str()]);
    let shown = look::get(&lab, "n1", "/api/v1/groups/svc").expect("an answer").json();
    let why = shown["blocked"]["why"].as_str().unwrap_or_default().to_owned();
    assert!(why.contains("but the monitor says that it still runs"), "{shown:#}");

    // Somebody stops it by hand, and says so.
    std::fs::remove_file(service.file(&owner)).expect("it was there");
    retry(&lab, "n1");
    wait_online(&lab, "n1", "svc", to);
    service.wait_alive_on(&[to]);
}

/// Findings R2: a node that is cut off runs the stop program although its guard took the group's place away.
#[test]
fn a_service_is_stopped_where_its_lease_was_lost() {
    let lab = lab();
    let service = Service::configured(&lab, &stops(&lab));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    service.wait_alive_on(&[owner.as_str()]);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.cut(&owner, None, None).expect("a cut");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
    });
    let new = moved.unwrap_or_else(|error| panic!("{error}"));
    service.wait_alive_on(&[new.as_str()]);
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    assert_eq!(service.alive(), [new.as_str()], "and it stays so");
}

/// Findings R2: its agent cannot act, so its guard runs the release program; nobody starts the service elsewhere
/// before that had its time.
#[test]
fn a_service_is_released_by_its_guard_where_its_agent_cannot_act() {
    let lab = lab();
    let late = format!("sleep 1; {}", stops(&lab));
    let release = format!("release = [\"/bin/sh\", \"-c\", \"{late}\"]\nrelease_max = \"3s\"\n");
    let service = Service::released(&lab, &stops(&lab), &release);
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    service.wait_alive_on(&[owner.as_str()]);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.pause(&owner, Victim::Agent).expect("it runs");
    lab.cut(&owner, None, None).expect("a cut");
    let mut seen = vec![service.alive()];
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let alive = service.alive();
        if seen.last() != Some(&alive) {
            seen.push(alive);
        }
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
    });
    let new = moved.unwrap_or_else(|error| panic!("{error}: {seen:?}"));
    seen.push(service.alive());
    assert_eq!(seen[..2], [vec![owner.as_str()], vec![]], "it ended before it began: {seen:?}");
    assert!(seen.iter().all(|alive| alive.len() < 2), "alive on two nodes: {seen:?}");
    assert_eq!(seen.last(), Some(&vec![new.as_str()]), "{seen:?}");
    lab.resume(&owner).expect("it goes on");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    let on = wait_online_on(&lab, asked, "svc", &NODES);
    service.wait_alive_on(&[on.as_str()]);
}

/// Findings R3: what somebody starts by hand on another node is told by everybody, and stopped there.
#[test]
fn a_service_that_also_runs_elsewhere_is_told_and_stopped() {
    let lab = lab();
    let service = Service::configured(&lab, &stops(&lab));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let stray = NODES.into_iter().find(|node| *node != owner).expect("another node");
    std::fs::write(service.file(stray), "").expect("started by hand");
    service.wait_alive_on(&[owner.as_str()]);
    let began = format!("group svc also runs on {stray}, besides {owner}");
    let over = format!("group svc runs on {stray} no more");
    for node in NODES {
        let both = lab.wait_for("both ends of it", PATIENCE, |lab| {
            let told = told(lab, node, "MULTIPLE_ACTIVE");
            (told.contains(&began) && told.contains(&over)).then_some(())
        });
        both.unwrap_or_else(|error| panic!("{error}: {:?}", told(&lab, node, "MULTIPLE_ACTIVE")));
    }
    let (nodes, state) = group(&lab, "n1", "svc").expect("the group");
    assert_eq!((nodes, state.as_str()), (vec![owner], "ONLINE"), "its owner was left alone");
}

/// Findings R7 (case 12): a group that cannot be released is one group that waits. Another one, whose node loses power
/// meanwhile, is taken over.
#[test]
fn r7_one_stuck_group_is_one_stuck_group() {
    let lab = lab();
    let shop = format!(
        "\n[groups.shop]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.shop.resources]]\nname = \"shop-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n",
        address(&lab, 0)
    );
    let service = Service::released(&lab, &does_not_stop(&lab), &shop);
    let stuck = wait_online_on(&lab, "n1", "svc", &NODES);
    let others: Vec<&str> = NODES.into_iter().filter(|node| *node != stuck).collect();
    // A node whose agent was away a moment ago may be given nothing for a moment more.
    let order = ["group", "move", "shop", "--to", others[0], "--yes"];
    let moved = lab.wait_for("the shop to be moved", PATIENCE, |lab| {
        lab.vedette("n1", &order).ok()?.status.success().then_some(())
    });
    moved.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, "n1")));
    wait_online(&lab, "n1", "shop", others[0]);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(others[0]));

    lab.vedette("n1", &["group", "move", "svc", "--to", others[0], "--yes", "--no-wait"])
        .expect("run");
    let is_stuck = |lab: &Lab| {
        let (nodes, state) = group(lab, others[1], "svc")?;
        (state == "ERROR" && nodes == [stuck.clone()]).then_some(())
    };
    lab.wait_for("the service to be stuck", PATIENCE, is_stuck)
        .unwrap_or_else(|error| panic!("{error}: {:?}", group(&lab, "n1", "svc")));
    lab.kill(others[0], Victim::Power).expect("it has power");
    let there = lab.wait_for("another owner of the shop", PATIENCE, |lab| {
        let (nodes, state) = group(lab, others[1], "shop")?;
        (state == "ONLINE" && nodes[0] != others[0]).then(|| nodes[0].clone())
    });
    let there = there.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, others[1])));
    wait_answer(&prober, number(&there));
    assert!(is_stuck(&lab).is_some(), "it still waits for an operator");
    assert_eq!(service.alive(), [stuck.as_str()]);

    // Somebody stops it by hand, and says so.
    std::fs::remove_file(service.file(&stuck)).expect("it was there");
    crate::make_healthy(&lab);
    let freed = lab.wait_for("the service to go on", PATIENCE, |lab| {
        lab.vedette(others[1], &["recover", "retry"]).ok()?;
        let (_, state) = group(lab, others[1], "svc")?;
        (state == "ONLINE").then_some(())
    });
    freed.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, others[1])));
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
}

fn number(name: &str) -> u16 {
    name[1..].parse().expect("n and a number")
}

/// Another group, which can be anywhere.
fn other(lab: &Lab) -> String {
    let file = lab.dir().join("other.").display().to_string();
    let program = |what: &str| format!("[\"/bin/sh\", \"-c\", \"{what} {file}$VEDETTE_NODE\"]");
    format!(
        "\n[groups.other]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
         [[groups.other.resources]]\nname = \"other-app\"\nkind = \"application\"\n\
         start = {}\nstop = {}\nmonitor = {}\n",
        program("touch"),
        program("rm -f"),
        program("test -e")
    )
}

/// Moves a group; whether the command succeeded, and what it said.
fn move_group(lab: &Lab, asked: &str, group: &str, to: &str) -> (bool, String) {
    let args = ["group", "move", group, "--to", to, "--yes"];
    let done = lab.vedette(asked, &args).expect("run");
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&done.stdout),
        String::from_utf8_lossy(&done.stderr)
    );
    (done.status.success(), said)
}

/// Cuts the owner of the service off until another node has that, and heals the network.
fn lose_lease(lab: &Lab, owner: &str, asked: &str) {
    lab.cut(owner, None, None).expect("a cut");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then_some(())
    });
    moved.unwrap_or_else(|error| panic!("{error}: {}", look::status(lab, asked)));
    lab.heal().expect("healed");
}

fn wait_said(lab: &Lab, asked: &str, what: &str) {
    let said =
        lab.wait_for(what, PATIENCE, |lab| look::status(lab, asked).contains(what).then_some(()));
    said.unwrap_or_else(|error| panic!("{error}: {}", look::status(lab, asked)));
}

/// A cluster without a service address takes over as any other: nothing but a lease has to be over.
#[test]
fn a_group_without_an_address_is_taken_over() {
    let lab = lab();
    let one = "[groups.batch]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
               [[groups.batch.resources]]\nname = \"batch-app\"\nkind = \"application\"\n\
               start = [\"/bin/sh\", \"-c\", \"sleep 10000 &\"]\nstop = [\"/bin/true\"]\n";
    give(&lab, one);
    let owner = wait_online_on(&lab, "n1", "batch", &NODES);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(&owner, Victim::Power).expect("it has power");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "batch")?;
        (state == "ONLINE" && nodes[0] != owner).then_some(())
    });
    moved.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    crate::make_healthy(&lab);
    give(&lab, "");
}

/// A start that fails and cannot be undone waits for an operator, where the way out that all name is one: what is
/// left is stopped, and the group runs elsewhere.
#[test]
fn a_start_that_cannot_be_undone_has_a_way_out() {
    let lab = lab();
    let at = |what: &str| lab.dir().join(what).display().to_string();
    let stops = format!("test -e {}$VEDETTE_NODE && exit 1; {}", at("half."), stops(&lab));
    let fails = format!("test ! -e {}$VEDETTE_NODE", at("half."));
    let service = Service::started(&lab, (&fails, &stops), "");
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let to = NODES.into_iter().find(|node| *node != owner).expect("another node");
    let half = lab.dir().join(format!("half.{to}"));
    std::fs::write(&half, "").expect("written");
    lab.vedette("n1", &["group", "move", "svc", "--to", to, "--yes", "--no-wait"]).expect("run");
    let blocked = lab.wait_for("the group to need an operator", PATIENCE, |lab| {
        let (nodes, state) = group(lab, "n1", "svc")?;
        (state == "ERROR" && nodes == [to]).then_some(())
    });
    blocked.unwrap_or_else(|error| panic!("{error}: {:?}", group(&lab, "n1", "svc")));

    std::fs::remove_file(&half).expect("it was there");
    let shown = look::get(&lab, "n1", "/api/v1/groups/svc").expect("an answer").json();
    let then = shown["blocked"]["then"].as_str().expect("a way out").to_owned();
    let command: Vec<&str> = then.split(' ').skip(1).chain(["--yes"]).collect();
    let done = lab.vedette("n1", &command).expect("run");
    assert!(done.status.success(), "{then}: {}", String::from_utf8_lossy(&done.stderr));
    let on = wait_online_on(&lab, "n1", "svc", &NODES);
    service.wait_alive_on(&[on.as_str()]);
}

/// A release program that fails, for as long as [`unwilling`] is there.
fn fails(lab: &Lab) -> String {
    std::fs::write(unwilling(lab), "").expect("written");
    let fails = format!("test -e {} && exit 1; exit 0", unwilling(lab).display());
    format!("release = [\"/bin/sh\", \"-c\", \"{fails}\"]\nrelease_max = \"1s\"\n")
}

/// A node whose guard cannot finish a release is no place for that group, and for any other; it says so everywhere, and
/// is one again when it could.
#[test]
fn r7_a_release_program_that_fails_holds_up_its_own_group() {
    let lab = lab();
    let service = Service::released(&lab, &stops(&lab), &(fails(&lab) + &other(&lab)));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lose_lease(&lab, &owner, asked);
    let what = format!("{owner} has not let go of svc");
    for node in NODES {
        wait_said(&lab, node, &what);
    }
    let refused = lab.wait_for("the move to be refused", PATIENCE, |lab| {
        // Before that it takes no part yet.
        let (moved, said) = move_group(lab, asked, "svc", &owner);
        assert!(!moved, "{said}");
        said.contains("has not let go of it yet").then_some(())
    });
    refused.unwrap_or_else(|error| {
        panic!("{error}: {:?}", move_group(&lab, asked, "svc", &owner));
    });
    let (moved, said) = move_group(&lab, asked, "other", &owner);
    assert!(moved, "{said}");
    wait_online(&lab, asked, "other", &owner);

    std::fs::remove_file(unwilling(&lab)).expect("it was there");
    let free = lab.wait_for("a node that is free", PATIENCE, |lab| {
        (!look::status(lab, asked).contains(&what)).then_some(())
    });
    free.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    let (moved, said) = move_group(&lab, asked, "svc", &owner);
    assert!(moved, "{said}");
    wait_online(&lab, asked, "svc", &owner);
    drop(service);
}

/// A node that hears nobody, though all hear it, and whose release program fails: its other group is taken over at
/// once, by the epoch in its beats. What it names beside that is not, and everybody is told why and what to do.
#[test]
fn r7_what_a_deaf_node_has_not_let_go_of_is_not_taken_over() {
    let lab = lab();
    let service = Service::released(&lab, &stops(&lab), &(fails(&lab) + &other(&lab)));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    let (moved, said) = move_group(&lab, asked, "other", &owner);
    assert!(moved || said.contains("already"), "{said}");
    wait_online(&lab, asked, "other", &owner);
    lab.cut(&owner, None, Some(Direction::In)).expect("a cut");
    let taken = lab.wait_for("another owner of the other group", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "other")?;
        (state == "ONLINE" && nodes[0] != owner).then_some(())
    });
    taken.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    let why = "it says that it has not let go of svc yet";
    let waits = lab.wait_for("the reason", PATIENCE, |lab| {
        let shown = look::get(lab, asked, "/api/v1/groups/svc")?.json();
        // Without a director nothing is known for a moment.
        let on = shown["instances"][0]["node"].as_str()?;
        assert_eq!(on, owner, "{shown:#}");
        shown["waits_for"].as_str().is_some_and(|said| said.contains(why)).then_some(())
    });
    waits.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));

    std::fs::remove_file(unwilling(&lab)).expect("it was there");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
    });
    let new = moved.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    service.wait_alive_on(&[new.as_str()]);
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
}

/// What a node cannot stop after it lost its lease holds up nothing else there, and is told by every node.
#[test]
fn r7_what_outlives_a_lease_holds_up_no_other_group() {
    let lab = lab();
    let service = Service::released(&lab, &does_not_stop(&lab), &other(&lab));
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lose_lease(&lab, &owner, asked);
    for node in NODES {
        wait_said(&lab, node, &format!("{owner} has not let go of svc"));
        wait_said(&lab, node, &format!("also runs on {owner}"));
    }
    assert!(service.alive().contains(&owner.as_str()), "it could not be stopped");
    let there = lab.wait_for("the other group to come", PATIENCE, |lab| {
        move_group(lab, asked, "other", &owner).0.then_some(())
    });
    there.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    wait_online(&lab, asked, "other", &owner);

    // An agent that starts anew has stopped nothing by that.
    let before = agent(&lab, &owner);
    let releases = |lab: &Lab| {
        let told = told(lab, asked, "RELEASE_FAILED");
        told.iter().filter(|it| **it == format!("{owner} released svc")).count()
    };
    let released = releases(&lab);
    lab.kill(&owner, Victim::Agent).expect("it runs");
    let anew = lab.wait_for("another agent", PATIENCE, |lab| {
        let now = agent(lab, &owner);
        let runs = look::nodes(lab, &owner)
            .iter()
            .any(|it| it["name"] == owner.as_str() && it["agent_status"] == "RUNNING");
        (now.is_some() && now != before && runs).then_some(())
    });
    anew.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    for node in NODES {
        wait_said(&lab, node, &format!("{owner} has not let go of svc"));
    }
    assert_eq!(releases(&lab), released, "and it tells none");
    assert!(service.alive().contains(&owner.as_str()), "it could not be stopped");

    std::fs::remove_file(unwilling(&lab)).expect("it was there");
    let new = wait_online_on(&lab, asked, "svc", &NODES);
    service.wait_alive_on(&[new.as_str()]);
    let over = lab.wait_for("nothing left to tell", PATIENCE, |lab| {
        let said = look::status(lab, asked);
        (!said.contains("svc on") && !said.contains("let go of svc")).then_some(())
    });
    over.unwrap_or_else(|error| panic!("{error}: {}", look::status(&lab, asked)));
    assert!(releases(&lab) > released, "now it is");
}

fn agent(lab: &Lab, node: &str) -> Option<u32> {
    lab.refresh().ok()?.node(node)?.agent_pid
}
