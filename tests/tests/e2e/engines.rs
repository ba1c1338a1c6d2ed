//! What an engine runs outside of everything that is the product's, in a control group that it is told
//! (`control_group`): on each node a process of the machine's starts it when it is asked to, as a container engine
//! does. Somebody looks on every node all the time whether it is alive.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use vedette_node::cgroup::ControlGroup;
use vedette_tests::lab::{Lab, Prober, Victim};

use crate::failover::{address, give, group, wait_answer, wait_online_on};
use crate::units::{Witness, assert_one_at_a_time, number};
use crate::{PATIENCE, lab_with_systemd, look};

const NODES: [&str; 3] = ["n1", "n2", "n3"];

/// What engines are told.
const PATH: &str = "box.slice";

/// The engines of all nodes, which end with this. They listen to files, and never end what they started.
struct Engines<'a> {
    lab: &'a Lab,
    running: Vec<Child>,
}

impl<'a> Engines<'a> {
    fn start(lab: &'a Lab) -> Self {
        let mut engines = Self { lab, running: Vec::new() };
        for node in NODES {
            engines.start_on(node);
        }
        engines
    }

    fn start_on(&mut self, node: &str) {
        let text = format!(
            "while :; do if test -e {ask}; then rm {ask}; mkdir -p {place}/one; \
             (echo 0 > {place}/one/cgroup.procs; exec sleep 100000) & fi; sleep 0.02; done",
            ask = self.asked(node).display(),
            place = format_args!("/sys/fs/cgroup/{PATH}"),
        );
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &text]).current_dir("/").stdin(Stdio::null()).stdout(Stdio::null());
        self.running.push(self.lab.spawn(node, command).expect("it has power"));
    }

    fn asked(&self, node: &str) -> PathBuf {
        self.lab.dir().join(format!("engine.{node}"))
    }

    /// Puts a group with it and an address in force. Its stop program fails, as if the engine did not answer.
    fn configure(&self, more: &str) {
        let start = format!("touch {}$VEDETTE_NODE", self.lab.dir().join("engine.").display());
        give(
            self.lab,
            &format!(
                "[manager]\nprobe_interval = \"1s\"\n{more}\n[groups.box]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
                 [[groups.box.resources]]\nname = \"box-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
                 [[groups.box.resources]]\nname = \"box-app\"\nkind = \"application\"\n\
                 start = [\"/bin/sh\", \"-c\", \"{start}\"]\nstop = [\"/bin/false\"]\n\
                 control_group = \"{PATH}\"\nmonitor_interval = \"200ms\"\n",
                address(self.lab, 0)
            ),
        );
    }

    fn watched(&self) -> Witness {
        Witness::start(NODES.map(|node| (node, self.lab.control_group(node, PATH))))
    }

    fn is_alive(&self, node: &str) -> bool {
        ControlGroup::at(self.lab.control_group(node, PATH)).is_populated()
    }

    fn wait_alive(&self, node: &str, alive: bool) {
        let what = format!("what runs on {node} to be alive: {alive}");
        let waited =
            self.lab.wait_for(&what, PATIENCE, |_| (self.is_alive(node) == alive).then_some(()));
        waited.unwrap_or_else(|error| panic!("{error}"));
    }

    /// Waits until another node has it.
    fn wait_moved(&self, asked: &str, owner: &str) -> String {
        let moved = self.lab.wait_for("another owner", PATIENCE, |lab| {
            let (nodes, state) = group(lab, asked, "box")?;
            (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
        });
        moved.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(self.lab, asked)))
    }
}

impl Drop for Engines<'_> {
    fn drop(&mut self) {
        for engine in &mut self.running {
            let _ = engine.kill();
            let _ = engine.wait();
        }
        if !std::thread::panicking() {
            give(self.lab, "");
        }
        for node in NODES {
            let _ = ControlGroup::at(self.lab.control_group(node, PATH)).kill();
            let _ = std::fs::remove_file(self.asked(node));
        }
    }
}

/// R2: its owner is cut off while its agent is stopped: it ends with the lease, before another node starts it.
#[test]
fn r2_what_an_engine_runs_is_never_alive_on_two_nodes() {
    let lab = lab_with_systemd();
    let engines = Engines::start(&lab);
    engines.configure("");
    let owner = wait_online_on(&lab, "n1", "box", &NODES);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&owner));
    assert!(engines.is_alive(&owner), "it runs where the group is");
    let witness = engines.watched();
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.pause(&owner, Victim::Agent).expect("it runs");
    lab.cut(&owner, None, None).expect("a cut");
    let new = engines.wait_moved(asked, &owner);
    wait_answer(&prober, number(&new));
    lab.resume(&owner).expect("it goes on");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);
    let on = wait_online_on(&lab, asked, "box", &NODES);
    wait_answer(&prober, number(&on));
    assert_one_at_a_time(&witness.stop(), [&owner, &new]);
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
}

/// A group moves although the engine does not answer: what is empty is off.
#[test]
fn r2_what_an_engine_runs_moves_though_the_engine_does_not_answer() {
    let lab = lab_with_systemd();
    let engines = Engines::start(&lab);
    engines.configure("");
    let owner = wait_online_on(&lab, "n1", "box", &NODES);
    let witness = engines.watched();
    engines.wait_alive(&owner, true);
    let to = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.vedette("n1", &["group", "move", "box", "--to", to, "--yes", "--no-wait"]).expect("run");
    crate::failover::wait_online(&lab, "n1", "box", to);
    assert_one_at_a_time(&witness.stop(), [&owner, to]);

    // Somebody has another node's engine run it, too: that is seen without asking anybody, and ended.
    std::fs::write(engines.asked(&owner), "").expect("asked by hand");
    engines.wait_alive(&owner, true);
    engines.wait_alive(&owner, false);
    assert!(engines.is_alive(to), "it runs on where the group is");
}

/// Its guard is killed: the agent lets go of it.
#[test]
fn r2_what_an_engine_runs_ends_with_its_guard() {
    let lab = lab_with_systemd();
    let engines = Engines::start(&lab);
    engines.configure("");
    let owner = wait_online_on(&lab, "n1", "box", &NODES);
    let witness = engines.watched();
    engines.wait_alive(&owner, true);
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(&owner, Victim::Guard).expect("it runs");
    let new = engines.wait_moved(asked, &owner);
    crate::make_healthy(&lab);
    assert_one_at_a_time(&witness.stop(), [&owner, &new]);
}

/// Guard and agent are killed together, and nobody is left who could end it: nobody starts it elsewhere where the
/// end of a lease is no evidence, and the next daemon of that node ends it before it says a word.
#[test]
fn f2_what_an_engine_runs_outlives_guard_and_agent_alone() {
    let lab = lab_with_systemd();
    let engines = Engines::start(&lab);
    engines.configure("strict = true\n");
    let owner = wait_online_on(&lab, "n1", "box", &NODES);
    engines.wait_alive(&owner, true);
    let witness = engines.watched();
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(&owner, Victim::Both).expect("they run");
    let down = lab.wait_for("the node to be DOWN", PATIENCE, |lab| {
        let node = look::get(lab, asked, &format!("/api/v1/nodes/{owner}"))?.json();
        (node["host_status"] == "DOWN" || node["host"] == "DOWN").then_some(())
    });
    down.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    crate::make_healthy(&lab);
    wait_online_on(&lab, asked, "box", &NODES);
    let seen = witness.stop();
    assert!(seen.iter().all(|alive| alive.len() < 2), "alive on two nodes: {seen:?}");
    assert!(seen.iter().any(Vec::is_empty), "it ended before it began again: {seen:?}");
}
