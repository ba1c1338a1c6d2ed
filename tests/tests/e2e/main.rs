//! Real daemons in network namespaces: what an operator sees on every surface when something breaks.
//!
//! One lab serves all tests, one after the other; each begins with a healthy cluster and may break
//! what it likes. The lab ends with this process, whatever happens.

mod failover;
mod look;
mod operations;
mod story;
mod user_events;

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use vedette_tests::lab::{Lab, UpOptions};

/// How long anything may take on a loaded machine before a test gives up on it.
const PATIENCE: Duration = Duration::from_secs(40);

/// The lab, made by the first test that asks.
fn lab() -> MutexGuard<'static, Lab> {
    static LAB: OnceLock<Mutex<Lab>> = OnceLock::new();
    let lab = LAB.get_or_init(|| Mutex::new(make_lab()));
    let lab = lab.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    make_healthy(&lab);
    lab
}

fn make_lab() -> Lab {
    let dir = std::env::temp_dir().join(format!("vedette-e2e-{}", std::process::id()));
    let options = UpOptions {
        dir,
        nodes: 3,
        networks: 2,
        profile: "default".into(),
        prometheus: true,
        owner: Some(std::process::id()),
        program: built("vedette"),
        lab_program: built("vedette-lab"),
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
    for name in lab.names() {
        lab.wait_for(&format!("a healthy cluster as {name} sees it"), PATIENCE, |lab| {
            look::is_healthy(lab, &name).then_some(())
        })
        .unwrap_or_else(|error| panic!("{error}:\n{}", look::status(lab, &name)));
    }
}
