//! Units of systemd (findings R1, R2): a service that lives outside every control group of the product's, on
//! nodes with a systemd of their own. Somebody looks on every node all the time whether it is alive.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use vedette_node::cgroup::ControlGroup;
use vedette_tests::lab::{Lab, Prober, Victim};

use crate::failover::{address, give, group, wait_answer, wait_online_on};
use crate::{PATIENCE, lab_with_systemd, look};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const UNIT: &str = "svc.service";

/// One that comes back at once, whatever ends it.
const STUBBORN: &str = "[Unit]\nDefaultDependencies=no\nStartLimitIntervalSec=0\n\
                        [Service]\nExecStart=/bin/sleep infinity\nRestart=always\nRestartSec=0\n";

/// Nodes where it was alive at one moment, each time that it changed.
pub(crate) type Seen = Vec<Vec<&'static str>>;

/// Looks all the time where it is alive.
pub(crate) struct Witness {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Witness {
    fn of_unit(lab: &Lab) -> Self {
        Self::start(NODES.map(|node| (node, lab.unit_group(node, UNIT))))
    }

    /// These are the control groups in which it lives.
    pub(crate) fn start(groups: [(&'static str, PathBuf); 3]) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let halt = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::new();
            while !halt.load(Ordering::Relaxed) {
                let alive = alive(&groups);
                if seen.last() != Some(&alive) {
                    seen.push(alive);
                }
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Self { stop, thread }
    }

    /// All that was seen, in its order.
    pub(crate) fn stop(self) -> Seen {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it looked to the end")
    }
}

fn alive(groups: &[(&'static str, PathBuf); 3]) -> Vec<&'static str> {
    let lives = |group: &PathBuf| ControlGroup::at(group).is_populated();
    groups.iter().filter(|(_, group)| lives(group)).map(|(node, _)| *node).collect()
}

/// It was alive on those two, in this order, and on two at no moment; on a busy machine it may have gone on
/// from there.
pub(crate) fn assert_one_at_a_time(seen: &Seen, [first, then]: [&str; 2]) {
    let twice: Vec<_> = seen.iter().filter(|alive| alive.len() > 1).collect();
    assert!(twice.is_empty(), "alive on two nodes: {twice:?} in {seen:?}");
    assert_eq!(seen.first(), Some(&vec![first]), "{seen:?}");
    assert!(seen.iter().any(|alive| alive == &[then]), "{seen:?}");
}

pub(crate) fn number(node: &str) -> u16 {
    node.trim_start_matches('n').parse().expect("n1, n2, …")
}

/// Puts the unit on every node, and a group with it and an address in force.
fn configure(lab: &Lab) {
    for node in NODES {
        lab.install_unit(node, UNIT, STUBBORN).expect("it has power");
    }
    give(
        lab,
        &format!(
            "[groups.svc]\npolicy = \"rotating\"\nnodes = [\"n1\", \"n2\", \"n3\"]\n\n\
             [[groups.svc.resources]]\nname = \"svc-ip\"\nkind = \"address\"\naddress = \"{}/24\"\n\n\
             [[groups.svc.resources]]\nname = \"svc-unit\"\nkind = \"systemd\"\nunit = \"{UNIT}\"\n\
             monitor_interval = \"200ms\"\n",
            address(lab, 0)
        ),
    );
}

/// R2: its owner is cut off while its agent is stopped and systemd would start it again: it ends with the lease,
/// is alive on two nodes at no moment, and stays down where it was.
#[test]
fn r2_a_unit_is_never_alive_on_two_nodes() {
    let lab = lab_with_systemd();
    configure(&lab);
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let prober = Prober::start(&lab, 0, address(&lab, 0)).expect("a prober");
    wait_answer(&prober, number(&owner));
    let witness = Witness::of_unit(&lab);

    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.pause(&owner, Victim::Agent).expect("it runs");
    lab.cut(&owner, None, None).expect("a cut");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
    });
    let new = moved.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    wait_answer(&prober, number(&new));
    lab.resume(&owner).expect("it goes on");
    lab.heal().expect("healed");
    crate::make_healthy(&lab);

    // By hand it does not start where the group is not.
    lab.exec(&owner, "systemctl", &["start".into(), UNIT.into()]).expect("run");
    let on = wait_online_on(&lab, asked, "svc", &NODES);
    wait_answer(&prober, number(&on));

    assert_one_at_a_time(&witness.stop(), [&owner, &new]);
    assert_eq!(prober.so_far().doubly_owned(), Vec::new(), "two nodes had the address");
    give(&lab, "");
}

/// It outlives its agent: a new one finds it running, and nobody starts it again.
#[test]
fn r2_a_unit_outlives_its_agent() {
    let lab = lab_with_systemd();
    configure(&lab);
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let unit = ControlGroup::at(lab.unit_group(&owner, UNIT));
    let before = unit.processes();
    assert_eq!(before.len(), 1, "one process of it runs on {owner}");
    let witness = Witness::of_unit(&lab);
    let first = lab.refresh().expect("written").node(&owner).and_then(|node| node.agent_pid);
    lab.kill(&owner, Victim::Agent).expect("it runs");
    lab.wait_for("another agent", PATIENCE, |lab| {
        let now = lab.refresh().ok()?.node(&owner)?.agent_pid;
        (now.is_some() && now != first).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    crate::make_healthy(&lab);
    wait_online_on(&lab, "n1", "svc", &[owner.as_str()]);
    assert_eq!(unit.processes(), before, "it is the same process");
    assert_eq!(witness.stop(), [vec![owner.as_str()]], "it ran all the time, and nowhere else");
    give(&lab, "");
}

/// With its guard it ends, before another node has it, though nothing else of the node's ends.
#[test]
fn r2_a_unit_ends_with_its_guard() {
    let lab = lab_with_systemd();
    configure(&lab);
    let owner = wait_online_on(&lab, "n1", "svc", &NODES);
    let witness = Witness::of_unit(&lab);
    lab.wait_for("the unit to be seen", PATIENCE, |lab| {
        ControlGroup::at(lab.unit_group(&owner, UNIT)).is_populated().then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
    let asked = NODES.into_iter().find(|node| *node != owner).expect("another node");
    lab.kill(&owner, Victim::Guard).expect("it runs");
    let moved = lab.wait_for("another owner", PATIENCE, |lab| {
        let (nodes, state) = group(lab, asked, "svc")?;
        (state == "ONLINE" && nodes[0] != owner).then(|| nodes[0].clone())
    });
    let new = moved.unwrap_or_else(|error| panic!("{error}:\n{}", look::status(&lab, asked)));
    crate::make_healthy(&lab);
    assert_one_at_a_time(&witness.stop(), [&owner, &new]);
    give(&lab, "");
}
