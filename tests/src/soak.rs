//! Long campaigns on the lab. The first asks whether a service is ever alive on two nodes (findings R1, R2, R10, F2), the
//! second ([`director`]) whether anything stops because a director is lost.
//!
//! In the first, one group has a resource of each kind that can run beside its owner: an application in its control
//! group, a unit of systemd, a service that only its own programs and its release program end, what an engine runs in
//! a control group that it is told, an OCF agent's daemon, and an address. Faults of every kind hit its owner, one
//! after the other. A thread looks on every node each millisecond what is alive there, and
//! asks nobody; what it sees on two nodes at once is counted with its length.

mod director;
mod faults;
mod service;
mod witness;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::lab::{Lab, LabError, Result, UpOptions};

pub use self::faults::Fault;
use self::service::{GROUP, KINDS, install, install_unit};
use self::witness::{Overlap, Witness};

/// How long anything may take on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a campaign is to find out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Question {
    /// Is a service ever alive on two nodes?
    Alive,
    /// Does a group of a healthy node move or pause when the director is struck?
    Director {
        /// The machine is busy all the time, and not for a quarter of the tries.
        busy: bool,
    },
}

/// What one asks for.
#[derive(Clone, Debug)]
pub struct Campaign {
    /// What it is to find out.
    pub question: Question,
    /// How many faults there are to be.
    pub tries: usize,
    /// The lab's directory.
    pub dir: PathBuf,
    /// The product's program.
    pub program: PathBuf,
    /// The lab's program.
    pub lab_program: PathBuf,
}

/// What was seen of one kind of fault.
#[derive(Clone, Debug, Default)]
struct Tally {
    tries: usize,
    overlaps: Vec<Overlap>,
    /// How long nothing of the group was alive anywhere, for each try.
    gaps_ms: Vec<u64>,
}

impl Campaign {
    /// Runs it; `progress` is told a line for each try. Answers the table, and whether all is as it should be.
    ///
    /// # Errors
    /// What of the lab did not do what it should, with the try.
    pub fn run(&self, progress: &mut dyn FnMut(String)) -> Result<(String, bool)> {
        let options = UpOptions {
            dir: self.dir.clone(),
            nodes: 3,
            networks: 2,
            profile: "default".into(),
            prometheus: false,
            owner: Some(std::process::id()),
            program: self.program.clone(),
            lab_program: self.lab_program.clone(),
            systemd: self.question == Question::Alive,
        };
        let mut lab = Lab::up(&options, progress)?;
        let outcome = match self.question {
            Question::Alive => self.tries(&lab, progress),
            Question::Director { busy } => director::tries(&lab, (self.tries, busy), progress),
        };
        lab.take_down();
        outcome
    }

    fn tries(&self, lab: &Lab, progress: &mut dyn FnMut(String)) -> Result<(String, bool)> {
        install(lab)?;
        let mut seen: BTreeMap<Fault, Tally> = BTreeMap::new();
        for count in 0..self.tries {
            let fault = Fault::ALL[count % Fault::ALL.len()];
            let owner = settle(lab)?;
            let witness = Witness::start(lab, &owner)?;
            let begun = Instant::now();
            let done = fault.inflict(lab, &owner).and_then(|()| settle(lab));
            let seen_alive = witness.stop()?;
            let now = done.map_err(|error| {
                let status = lab.vedette("n1", &["status"]).map(|it| it.stdout).unwrap_or_default();
                let status = String::from_utf8_lossy(&status).into_owned();
                LabError(format!("try {}, {fault} on {owner}: {error}\n{status}", count + 1))
            })?;
            let tally = seen.entry(fault).or_default();
            tally.tries += 1;
            tally.gaps_ms.push(seen_alive.longest_gap().as_millis() as u64);
            let overlaps = seen_alive.overlaps();
            progress(format!(
                "try {}: {fault} on {owner}, now on {now}, {:.1} s, {}",
                count + 1,
                begun.elapsed().as_secs_f64(),
                if overlaps.is_empty() { "one at a time".into() } else { format!("{overlaps:?}") }
            ));
            tally.overlaps.extend(overlaps);
        }
        Ok((table(&seen), seen.values().all(|tally| tally.overlaps.is_empty())))
    }
}

/// Waits until every node is well and the group is online; answers where.
fn settle(lab: &Lab) -> Result<String> {
    lab.heal()?;
    let file = lab.refresh()?;
    for node in file.nodes.iter().filter(|it| it.guard_pid.is_none() || it.agent_pid.is_none()) {
        lab.restart(&node.name)?;
        // A machine that lost its power has forgotten it.
        install_unit(lab, &node.name)?;
    }
    // Whoever was asked in between could not start it.
    lab.vedette("n1", &["group", "clear", GROUP])?;
    lab.wait_for("the group to be online and all nodes well", PATIENCE, |lab| {
        let group = lab.json("n1", &["group", "show", GROUP, "-o", "json"]).ok()?;
        let nodes = lab.json("n1", &["node", "list", "-o", "json"]).ok()?;
        let manager = lab.json("n1", &["event", "show", "-o", "json"]).ok()?;
        let nodes = nodes.as_array().or_else(|| nodes["nodes"].as_array())?.clone();
        let well = nodes
            .iter()
            .all(|node| node["host_status"] == "UP" && node["agent_status"] == "RUNNING");
        let owners = group["owners"].as_array()?;
        let online = group["state"] == "ONLINE" && owners.len() == 1;
        let idle = manager["in_progress"].is_null();
        (well && nodes.len() == 3 && online && idle)
            .then(|| owners[0].as_str().map(str::to_owned))?
    })
}

fn table(seen: &BTreeMap<Fault, Tally>) -> String {
    let mut text = String::from(
        "fault                              tries  alive twice  longest  without it (median)\n",
    );
    for (fault, tally) in seen {
        let longest = tally.overlaps.iter().map(|it| it.length.as_millis()).max().unwrap_or(0);
        let mut gaps = tally.gaps_ms.clone();
        gaps.sort_unstable();
        let median = gaps.get(gaps.len() / 2).copied().unwrap_or(0);
        let count = tally.overlaps.len();
        let tries = tally.tries;
        // Writing to a string does not fail.
        let _ = writeln!(text, "{fault:<34} {tries:>5} {count:>12} {longest:>5} ms {median:>9} ms");
    }
    let _ = writeln!(text, "kinds: {}", KINDS.join(", "));
    text
}
