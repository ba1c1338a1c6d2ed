//! The one program: daemon, command line and demo.

mod cli;
mod daemon;
mod demo;
mod logging;
mod reaper;

use std::process::ExitCode;

fn main() -> ExitCode {
    match reaper::is_asked_for() {
        Some(asked) => reaper::main(&asked),
        None => cli::main(),
    }
}
