//! Benchmarks that live with the crates they measure; each compares with its peer itself, and what
//! it prints goes into the report as it is.

use std::process::{Command, Stdio};

use super::figures::Section;
use super::machine::Noise;
use super::ours::beside;
use super::{Progress, Stop};
use crate::lab::{LabError, Result};

/// A benchmark of a crate.
struct Program {
    title: &'static str,
    package: &'static str,
    example: &'static str,
}

const PROGRAMS: [Program; 3] = [
    Program {
        title: "SNMP: the subagent beside one in C on net-snmp's library",
        package: "vedette-mib",
        example: "agentx_bench",
    },
    Program { title: "HTTP: API and metrics", package: "vedette-exporter", example: "http_bench" },
    Program {
        title: "History: hash-chained records beside plain SQLite",
        package: "vedette-collector",
        example: "history_bench",
    },
];

/// Runs each and takes what it prints.
///
/// # Errors
/// If one cannot be built or fails.
pub(super) fn measure(stop: &Stop, progress: Progress<'_>) -> Result<Vec<Section>> {
    let mut all = Vec::new();
    for program in &PROGRAMS {
        stop.check()?;
        progress(&format!("{}: {}", program.package, program.example));
        let noise = Noise::now();
        let printed = run(program)?;
        let mut section = Section { title: program.title.into(), ..Section::default() }
            .note(format!(
                "`cargo run --release -p {} --example {}`",
                program.package, program.example
            ))
            .note(noise.since());
        section.printed = Some(printed);
        all.push(section);
    }
    Ok(all)
}

fn run(program: &Program) -> Result<String> {
    let output = Command::new(beside(&format!("examples/{}", program.example))?)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    Err(LabError(format!("the benchmark {} failed ({})", program.example, output.status)))
}
