//! The command line of long campaigns on the lab.
#![allow(clippy::print_stdout, reason = "a command line prints")]

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use vedette_tests::soak::{Campaign, Question};

#[derive(Parser)]
#[command(
    name = "vedette-soak",
    about = "Faults of every kind on a cluster in network namespaces: is a service ever alive on two nodes? (root)",
    after_help = "Ends with 1 if one was, or if a group of another node moved or paused.\n\nExamples:\n  \
                  vedette-soak\n  vedette-soak --tries 20\n  vedette-soak --director --tries 500"
)]
struct Cli {
    /// Strikes the director instead (killed, deleted, stepped down, restarted, all agents killed; a quarter of the
    /// tries beside eight busy loops): does a group of another node move or pause?
    #[arg(long)]
    director: bool,
    /// With --director: eight busy loops beside all tries.
    #[arg(long, requires = "director")]
    busy: bool,
    /// How many faults.
    #[arg(long, default_value_t = 200)]
    tries: usize,
    /// The lab's directory.
    #[arg(long, default_value = "/tmp/vedette-soak")]
    dir: PathBuf,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let me = std::env::current_exe().unwrap_or_default();
    let beside = |name: &str| me.with_file_name(name);
    let question =
        if cli.director { Question::Director { busy: cli.busy } } else { Question::Alive };
    let campaign = Campaign {
        question,
        tries: cli.tries,
        dir: cli.dir,
        program: beside("vedette"),
        lab_program: beside("vedette-lab"),
    };
    match campaign.run(&mut |line| eprintln!("{line}")) {
        Ok((table, one_at_a_time)) => {
            print!("{table}");
            ExitCode::from(u8::from(!one_at_a_time))
        }
        Err(error) => {
            eprintln!("vedette-soak: {error}");
            ExitCode::from(2)
        }
    }
}
