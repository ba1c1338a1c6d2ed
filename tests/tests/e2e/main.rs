//! Real daemons in network namespaces: what an operator sees on every surface when something breaks.
//!
//! One lab of three nodes serves nearly all tests, one of five the others, one test after the other;
//! each begins with a healthy cluster and may break what it likes. The labs end with this process,
//! whatever happens; their logs stay if a test failed.

mod addresses;
mod administration;
mod alone;
mod around;
mod browser;
mod disks;
mod engines;
mod failover;
mod full_disk;
mod hanging;
mod left_running;
mod log_tail;
mod look;
mod mib;
mod operations;
mod operator;
mod situations;
mod story;
mod transcripts;
mod units;
mod user_events;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use vedette_tests::lab::{Lab, UpOptions};

/// How long anything may take on a loaded machine before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(40);

/// A lab, while one test has it: no other test breaks anything meanwhile, in any lab.
pub(crate) struct Turn {
    lab: &'static Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.lab.keep_traces();
        }
    }
}

impl std::ops::Deref for Turn {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        self.lab
    }
}

/// The lab of three nodes, made by the first test that asks.
fn lab() -> Turn {
    static LAB: OnceLock<Lab> = OnceLock::new();
    turn(&LAB, || make_lab(3, false))
}

/// The lab of five nodes.
pub(crate) fn lab_of_five() -> Turn {
    static LAB: OnceLock<Lab> = OnceLock::new();
    turn(&LAB, || make_lab(5, false))
}

/// Three nodes, each with a systemd of its own.
pub(crate) fn lab_with_systemd() -> Turn {
    static LAB: OnceLock<Lab> = OnceLock::new();
    turn(&LAB, || make_lab(3, true))
}

fn turn(place: &'static OnceLock<Lab>, make: impl FnOnce() -> Lab) -> Turn {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let turn = Turn { lab: place.get_or_init(make), _turn: turn };
    make_healthy(&turn);
    turn
}

fn make_lab(nodes: u16, systemd: bool) -> Lab {
    let kind = if systemd { "systemd-" } else { "" };
    let name = format!("vedette-e2e-{kind}{nodes}-{}", std::process::id());
    let dir = std::env::temp_dir().join(name);
    let options = UpOptions {
        dir,
        nodes,
        networks: 2,
        profile: "default".into(),
        prometheus: nodes == 3 && !systemd,
        owner: Some(std::process::id()),
        program: built("vedette"),
        lab_program: built("vedette-lab"),
        systemd,
    };
    Lab::up(&options, &mut |step| eprintln!("lab: {step}"))
        .unwrap_or_else(|error| panic!("{error}"))
}

/// A program of the workspace, built beside this test.
fn built(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("this test has a path");
    let target = test.parent().and_then(|deps| deps.parent()).expect("target/<profile>/deps");
    let program = target.join(name);
    assert!(program.is_file(), "{} is missing; run: cargo build --bins", program.display());
    program
}

/// Removes every fault and waits until all nodes are UP and RUNNING everywhere.
pub(crate) fn make_healthy(lab: &Lab) {
    lab.heal().expect("faults can be removed");
    let file = lab.refresh().expect("lab.json can be written");
    for node in &file.nodes {
        if node.guard_pid.is_none() || node.agent_pid.is_none() {
            lab.restart(&node.name).expect("a node can be restarted");
        }
    }
    wait_healthy(lab);
}

/// Waits until all nodes are UP and RUNNING everywhere, whatever is wrong beside.
pub(crate) fn wait_healthy(lab: &Lab) {
    for name in lab.names() {
        lab.wait_for(&format!("a healthy cluster as {name} sees it"), PATIENCE, |lab| {
            look::is_healthy(lab, &name).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &name)));
    }
    // Who was away may be told the end of the story a moment later than the others.
    lab.wait_for("equal histories on all nodes", PATIENCE, |lab| {
        let mut ends = lab.names().into_iter().map(|name| look::seq(lab, &name));
        let first = ends.next()?;
        ends.all(|end| end == first).then_some(())
    })
    .unwrap_or_else(|error| panic!("{error}"));
}
