//! The benchmark: figures of ours beside the peers', from one run on one machine.
//!
//! Nothing here is a test and nothing fails for being slow. A machine is noisy, so what is compared
//! runs at the same time and takes turns, and every table says how busy the machine was. The report
//! is Markdown for people; the JSON file has every single value.

mod agent;
mod corosync;
mod detection;
mod failover;
mod figures;
mod idle;
mod janitor;
mod machine;
mod ours;
mod programs;
mod quorum;
mod quorum_loss;
mod rivals;
mod surfaces;
mod trials;
mod wire;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;

pub use failover::{Choice, tables};
pub use figures::{Section, Series};
pub use janitor::keep;
pub use quorum::run_node;
pub use trials::{Blow, Rival};

use crate::lab::{LabError, Result};

/// Told what is going on.
pub type Progress<'a> = &'a dyn Fn(&str);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measurement {
    /// Power-off of a node, beside corosync.
    Detection,
    /// A service address moves, beside pacemaker and keepalived.
    Failover,
    /// An agent is killed.
    Agent,
    /// A change and when the surfaces show it.
    Surfaces,
    /// A quorum is lost and when the surfaces of the survivor show it.
    QuorumLoss,
    /// Processor, memory and packets at rest, beside corosync.
    Idle,
    /// The crates' own benchmarks.
    Programs,
}

impl Measurement {
    /// All, in the order of the report.
    pub const ALL: [Self; 7] = [
        Self::Detection,
        Self::Failover,
        Self::Agent,
        Self::Surfaces,
        Self::QuorumLoss,
        Self::Idle,
        Self::Programs,
    ];
}

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Options {
    /// What.
    pub measurements: Vec<Measurement>,
    /// Blows of each kind.
    pub trials: usize,
    /// Changes for each surface.
    pub changes: usize,
    /// Seconds of looking at clusters at rest.
    pub seconds: u64,
    /// What of the failover is measured.
    pub failover: Choice,
}

/// The moment after which nothing new is begun.
#[derive(Clone, Copy, Debug)]
pub struct Stop(Option<Instant>);

impl Stop {
    /// At that moment, or never.
    pub const fn at(moment: Option<Instant>) -> Self {
        Self(moment)
    }

    fn check(&self) -> Result<()> {
        match self.0 {
            Some(moment) if Instant::now() >= moment => {
                Err(LabError("the time given with --minutes is over".into()))
            }
            _ => Ok(()),
        }
    }
}

/// What came of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// The sections.
    pub sections: Vec<Section>,
    /// Measurements that failed, and why.
    pub failures: Vec<String>,
    /// The machine.
    pub machine: String,
}

impl Report {
    /// The report in Markdown.
    pub fn markdown(&self) -> String {
        let mut text = format!("Measured on {}.\n\n", self.machine);
        for section in &self.sections {
            text += &section.markdown();
        }
        for failure in &self.failures {
            text += &format!("**Not measured**: {failure}\n\n");
        }
        text
    }

    /// Every value.
    pub fn json(&self) -> serde_json::Value {
        json!({ "machine": self.machine, "sections": self.sections, "failures": self.failures })
    }
}

/// Measures. One measurement that fails does not stop the others; its logs stay.
///
/// # Errors
/// If there is no place to work in.
pub fn run(options: &Options, stop: &Stop, progress: Progress<'_>) -> Result<Report> {
    corosync::sweep();
    let dir = std::env::temp_dir().join(format!("vedette-bench-{}", std::process::id()));
    std::fs::create_dir_all(&dir)?;
    let janitor = janitor::Janitor::start(&dir)?;
    let mut report =
        Report { sections: Vec::new(), failures: Vec::new(), machine: machine::describe() };
    for measurement in &options.measurements {
        let sections = &mut report.sections;
        if let Err(error) = measure(*measurement, options, &dir, stop, progress, sections) {
            progress(&format!("{measurement:?} failed: {error}"));
            report.failures.push(format!("{measurement:?}: {error}"));
        }
    }
    drop(janitor);
    if report.failures.is_empty() {
        std::fs::remove_dir_all(&dir)?;
    } else {
        progress(&format!("logs are in {}", dir.display()));
    }
    Ok(report)
}

fn measure(
    measurement: Measurement,
    options: &Options,
    dir: &Path,
    stop: &Stop,
    progress: Progress<'_>,
    sections: &mut Vec<Section>,
) -> Result<()> {
    let lab = |name: &str| -> Result<ours::Ours> {
        progress(&format!("{name}: forming a cluster"));
        let place: PathBuf = dir.join(name);
        ours::Ours::up(&place, "default")
    };
    let trials = options.trials;
    sections.extend(match measurement {
        Measurement::Detection => detection::measure(dir, trials, stop, progress)?,
        Measurement::Failover => failover::measure(dir, trials, &options.failover, stop, progress)?,
        Measurement::Agent => vec![agent::measure(&lab("agent")?, trials, stop, progress)?],
        Measurement::Surfaces => {
            vec![surfaces::measure(&lab("surfaces")?, options.changes, stop, progress)?]
        }
        Measurement::QuorumLoss => {
            return quorum_loss::measure(dir, trials, stop, progress, sections);
        }
        Measurement::Idle => idle::measure(dir, options.seconds, stop, progress)?,
        Measurement::Programs => programs::measure(stop, progress)?,
    });
    Ok(())
}
