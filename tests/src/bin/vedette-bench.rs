//! The benchmark's command line; `make bench` is `vedette-bench all`.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use vedette_tests::bench::{self, Measurement, Options, Stop};
use vedette_tests::lab::{LabError, Result};

#[derive(Parser)]
#[command(
    name = "vedette-bench",
    about = "Figures of ours beside the peers', from one run on this machine (root)",
    after_help = "Tables in Markdown go to standard output, progress to standard error.\n\nExamples:\n  vedette-bench all\n  vedette-bench all --trials 30 --json bench.json\n  vedette-bench detection --trials 10"
)]
struct Cli {
    #[command(subcommand)]
    command: Verb,
    #[command(flatten)]
    much: Much,
}

#[derive(Args)]
struct Much {
    /// Power-offs and kills of each kind; 5 for a quick look, 30 for figures to quote.
    #[arg(long, global = true, default_value_t = 5)]
    trials: usize,
    /// Changes for each surface.
    #[arg(long, global = true, default_value_t = 100)]
    changes: usize,
    /// How long clusters at rest are looked at.
    #[arg(long, global = true, default_value_t = 30)]
    seconds: u64,
    /// Begin nothing new after so many minutes.
    #[arg(long, global = true)]
    minutes: Option<u64>,
    /// Write every single value to this file.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Everything.
    All,
    /// Power-off of a node until all survivors agree, beside corosync.
    Detection,
    /// A service address moves, beside pacemaker and keepalived.
    Failover,
    /// An agent is killed until it is adopted again.
    Agent,
    /// A change until each surface of another node shows it.
    Surfaces,
    /// Processor time, memory and packets at rest, beside corosync.
    Idle,
    /// The crates' own benchmarks: SNMP, HTTP, history.
    Programs,
    /// The first process of a corosync node.
    #[command(hide = true)]
    CorosyncNode {
        /// Its directory.
        dir: PathBuf,
    },
    /// Cleans up after a benchmark that died.
    #[command(hide = true)]
    Janitor {
        /// Whose death is waited for.
        #[arg(long)]
        owner: u32,
        /// Where it works.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(&cli) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("vedette-bench: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(cli: &Cli) -> Result<bool> {
    let measurements = match &cli.command {
        Verb::CorosyncNode { dir } => return bench::run_node(dir).map(|()| true),
        Verb::Janitor { owner, dir } => {
            bench::keep(*owner, dir);
            return Ok(true);
        }
        Verb::All => Measurement::ALL.to_vec(),
        Verb::Detection => vec![Measurement::Detection],
        Verb::Failover => vec![Measurement::Failover],
        Verb::Agent => vec![Measurement::Agent],
        Verb::Surfaces => vec![Measurement::Surfaces],
        Verb::Idle => vec![Measurement::Idle],
        Verb::Programs => vec![Measurement::Programs],
    };
    measure(measurements, &cli.much)
}

/// Prints the report; whether everything was measured.
fn measure(measurements: Vec<Measurement>, much: &Much) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError(
            "The benchmark makes network namespaces, which takes root. Run it as root (sudo)."
                .into(),
        ));
    }
    let begun = Instant::now();
    let stop = Stop::at(much.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes)));
    let options =
        Options { measurements, trials: much.trials, changes: much.changes, seconds: much.seconds };
    let progress = |text: &str| eprintln!("{:6.0} s  {text}", begun.elapsed().as_secs_f64());
    let report = bench::run(&options, &stop, &progress)?;
    print!("{}", report.markdown());
    if let Some(file) = &much.json {
        write(file, &report.json())?;
    }
    Ok(report.failures.is_empty())
}

fn write(file: &Path, json: &serde_json::Value) -> Result<()> {
    let text = serde_json::to_string_pretty(json).map_err(std::io::Error::other)?;
    std::fs::write(file, text + "\n")
        .map_err(|error| LabError(format!("{} cannot be written: {error}", file.display())))
}
