//! The benchmark's command line; `make bench` is `vedette-bench all`.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Parser, Subcommand};
use vedette_tests::bench::{self, Blow, Choice, Measurement, Options, Rival, Stop};
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
    #[command(after_help = FAILOVER_HELP)]
    Failover {
        /// Only these clusters; may be given several times.
        #[arg(long, value_enum)]
        stack: Vec<Rival>,
        /// Only these blows; may be given several times.
        #[arg(long, value_enum)]
        blow: Vec<Blow>,
        /// Kill processes in every so manieth round only: that takes long.
        #[arg(long, default_value_t = 3)]
        kills_every: usize,
    },
    /// Prints the tables of trials that an earlier `failover --json FILE` wrote.
    #[command(
        after_help = "Examples:\n  vedette-bench failover-tables failover.trials.jsonl\n  vedette-bench failover-tables monday.trials.jsonl tuesday.trials.jsonl"
    )]
    FailoverTables {
        /// The files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// An agent is killed until it is adopted again.
    Agent,
    /// A change until each surface of another node shows it.
    Surfaces,
    /// A quorum is lost until each surface of the survivor shows it.
    QuorumLoss,
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

const FAILOVER_HELP: &str = "All clusters run at the same time and are struck in turn. With --json \
    FILE.json every trial is appended to FILE.trials.jsonl as soon as it is known, so that a run that \
    is stopped keeps what it has; `vedette-bench failover-tables` makes the tables of it.\n\n\
    Examples:\n  vedette-bench failover --trials 30 --json failover.json\n  \
    vedette-bench failover --stack ours-fast --stack keepalived-fast --blow power\n  \
    vedette-bench failover --trials 30 --minutes 45 --json failover.json";

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
        Verb::FailoverTables { files } => {
            for section in bench::tables(files)? {
                print!("{}", section.markdown());
            }
            return Ok(true);
        }
        Verb::Failover { .. } => vec![Measurement::Failover],
        Verb::Agent => vec![Measurement::Agent],
        Verb::Surfaces => vec![Measurement::Surfaces],
        Verb::QuorumLoss => vec![Measurement::QuorumLoss],
        Verb::Idle => vec![Measurement::Idle],
        Verb::Programs => vec![Measurement::Programs],
    };
    measure(measurements, &cli.much, choice(cli))
}

/// What of the failover is to be measured, and where its trials go.
fn choice(cli: &Cli) -> Choice {
    let mut choice = Choice {
        ledger: cli.much.json.as_ref().map(|file| file.with_extension("trials.jsonl")),
        ..Choice::default()
    };
    if let Verb::Failover { stack, blow, kills_every } = &cli.command {
        choice.kills_every = *kills_every;
        if !stack.is_empty() {
            choice.rivals.clone_from(stack);
        }
        if !blow.is_empty() {
            choice.blows.clone_from(blow);
        }
    }
    choice
}

/// Prints the report; whether everything was measured.
fn measure(measurements: Vec<Measurement>, much: &Much, failover: Choice) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Err(LabError(
            "The benchmark makes network namespaces, which takes root. Run it as root (sudo)."
                .into(),
        ));
    }
    let begun = Instant::now();
    let stop = Stop::at(much.minutes.map(|minutes| begun + Duration::from_secs(60 * minutes)));
    let options = Options {
        measurements,
        trials: much.trials,
        changes: much.changes,
        seconds: much.seconds,
        failover,
    };
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
